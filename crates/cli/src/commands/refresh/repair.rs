//! `quorate cluster repair`: shares for nodes that lost theirs. Only nodes that are named are let in without a share: that a
//! node says that it lost its share is its word alone, and whoever has its keys and not its share would say so too.

use std::collections::BTreeMap;

use quorate_sdk::{
    Client, CommitteeChange, Generation, Key, KeyVersion, NodeId, OrderChange, RefusalCode,
    ShareAccount, ShareState,
};

use super::{Chosen, Done, Left, NOT_DUE, Refused, choose, deal, order, ordered, versions};
use crate::app::App;
use crate::args::RepairArgs;
use crate::commands::leaving;
use crate::commands::listed::parts;
use crate::commands::membership::newest;
use crate::failure::{Code, Failure, Outcome};

/// What a node has of a key version.
enum Has {
    Share,
    Promise,
    Nothing,
}

fn has(state: &ShareState, generation: Option<Generation>) -> Has {
    match generation {
        Some(generation) if state.generation == Some(generation) && state.holds => Has::Share,
        Some(generation) if state.promised.contains(&generation) => Has::Promise,
        _ => Has::Nothing,
    }
}

/// What the named nodes need of a key version.
enum Needs {
    /// All of them have their shares.
    Nothing,
    /// One of them has a share out of a backup: it deals, and is dealt another like everybody else.
    Other,
    /// These come in without a share.
    Entering(Vec<NodeId>),
    /// Others say that they lost theirs too, and nobody has let them in.
    Others(Vec<NodeId>),
    /// It cannot be, with the code and the reason.
    Cannot(Option<&'static str>, String),
}

fn needs(
    client: &Client,
    account: &ShareAccount,
    named: &[NodeId],
    let_in: impl Fn(&NodeId) -> bool,
) -> Needs {
    let mut without = Vec::new();
    let mut other = false;
    for node in named {
        let it = account.nodes.iter().find(|it| it.node == *node);
        match it.and_then(|it| it.state.as_ref()) {
            Some(Ok(state)) => match has(state, account.generation) {
                Has::Share => other |= state.restored,
                Has::Promise => {}
                Has::Nothing => without.push(*node),
            },
            Some(Err(why)) => return Needs::Cannot(None, why.to_string()),
            None => {
                let names = leaving::names(client, &[*node]).join(", ");
                return Needs::Cannot(None, format!("nobody can ask {names}"));
            }
        }
    }
    if without.is_empty() {
        return if other { Needs::Other } else { Needs::Nothing };
    }
    if account.lost_for_good() {
        let lost = account.lost().map(|node| node.name.as_str()).collect::<Vec<_>>();
        let share = if lost.len() == 1 { "its share" } else { "their shares" };
        let why = format!(
            "{} lost {share}: {} nodes must hold one to deal others, and fewer can. The nodes alone cannot recover it; see \
             docs/backup.md",
            lost.join(", "),
            account.threshold.t()
        );
        return Needs::Cannot(Some("shares_lost"), why);
    }
    // Every member takes part, and none of these could but as one that comes in.
    let nothing = |state: &ShareState| matches!(has(state, account.generation), Has::Nothing);
    let others = account.nodes.iter().filter(|it| {
        it.member
            && !without.contains(&it.node)
            && matches!(&it.state, Some(Ok(state)) if nothing(state))
    });
    let (known, unknown): (Vec<NodeId>, Vec<NodeId>) =
        others.map(|it| it.node).partition(|node| let_in(node));
    if !unknown.is_empty() {
        return Needs::Others(unknown);
    }
    without.extend(known);
    without.sort_unstable();
    Needs::Entering(without)
}

/// Signs what lets these in, by who they are.
async fn let_in(
    app: &App,
    client: &Client,
    wanted: BTreeMap<Vec<NodeId>, Vec<(Chosen, Key)>>,
    done: &mut Done,
) -> Outcome<Refused> {
    let mut refused = Refused::new();
    for (entering, wanted) in wanted {
        app.out.note(&format!(
            "let in without a share, each where it is in the key's committee: {}",
            leaving::names(client, &entering).join(", ")
        ));
        let change = CommitteeChange { entering, ..CommitteeChange::default() };
        let keys: Vec<Key> = wanted.iter().map(|(_, key)| key.clone()).collect();
        let mut plan = client.plan_committees(client.roster(), &keys, &change)?;
        plan.orders.retain(|order| {
            wanted.iter().any(|(it, _)| (it.key, it.version) == (order.key, order.version))
        });
        let admin = app.profile()?.admin_key().ok();
        let signed = client.order_committees(&plan, &keys, admin.as_ref()).await?;
        refused.extend(ordered(app, signed, &keys, done)?);
    }
    Ok(refused)
}

/// `quorate cluster repair`.
pub async fn repair(app: &App, args: RepairArgs) -> Outcome {
    // A session is for the roster in force, which administrators of another tenant may have handed over.
    let client = newest(app).await?;
    app.carry(&client).await;
    let mut nodes: Vec<NodeId> = Vec::new();
    for node in &args.nodes {
        let node = client.node(node)?.id;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    // They may have nothing but the cluster's first roster.
    let synced = client.sync_documents().await?;
    for synced in synced.nodes.iter().filter(|synced| nodes.contains(&synced.node)) {
        if let Err(why) = &synced.result {
            let name = leaving::names(&client, &[synced.node]).join(", ");
            let why = format!("{name} does not take the cluster's documents: {why}");
            return Err(Failure::new(Code::NotConfirmed, why).next(format!(
                "Start {name}, joined to the cluster with every roster; then say this again."
            )));
        }
    }
    let mut done = Done { held: Some(0), ..Done::default() };
    let mut others: Vec<NodeId> = Vec::new();
    for part in parts(args.chosen.file.as_deref())? {
        let of = (&args.chosen, &part);
        let keys = choose(&client, &args.keys, of, &nodes, &mut done).await?;
        let rate = args.chosen.rate;
        others.extend(repair_some(app, &client, &nodes, &keys, rate, &mut done).await?);
    }
    app.warnings(&client);
    let ended =
        done.print(app, &format!("repaired at {}", leaving::names(&client, &nodes).join(", ")));
    if others.is_empty() {
        return ended;
    }
    let next = format!(
        "Look at what happened to {}. Who has a node's keys and not its share says that it lost it, so let in only nodes that \
         you know have: then say `{}`.",
        leaving::names(&client, &in_order(others.clone())).join(", "),
        with(&client, &nodes, &others)
    );
    ended.map_err(|failure| failure.next(next))
}

/// Deals the shares of these keys anew that the nodes lost. Returns other nodes that say that they lost theirs.
async fn repair_some(
    app: &App,
    client: &Client,
    nodes: &[NodeId],
    keys: &[Key],
    rate: Option<f64>,
    done: &mut Done,
) -> Outcome<Vec<NodeId>> {
    let all = versions(client, keys, false, done);
    let bar = app.out.counter(u64::try_from(all.len()).unwrap_or(u64::MAX), "looked at");
    let (mut lost, mut restored) = (Vec::new(), Vec::new());
    let mut others: Vec<NodeId> = Vec::new();
    // By the nodes that come in.
    let mut signed: BTreeMap<Vec<NodeId>, Vec<(Chosen, Key)>> = BTreeMap::new();
    for (chosen, key) in all {
        bar.inc(1);
        let versions = key.versions();
        let Some(version) = versions.iter().find(|v| v.number == chosen.version) else { continue };
        // One that counts no more is adopted by the next.
        let Some(order) = &version.order else {
            let why =
                format!("`quorate key refresh {}` signs the order that it lacks", key.alias());
            done.failed.push(Left::new(&chosen, None, why));
            continue;
        };
        let members = nodes.iter().filter(|node| order.members.contains(node));
        let named: Vec<NodeId> = members.copied().collect();
        if named.is_empty() {
            continue;
        }
        let account = client.share_states(key, chosen.version).await?;
        let promised = account.nodes.iter().any(|it| {
            named.contains(&it.node)
                && matches!(&it.state, Some(Ok(state))
                    if matches!(has(state, account.generation), Has::Promise))
        });
        if promised {
            // What it lacks is the certificate.
            client.bring_certificate(key, chosen.version).await?;
        }
        let enters = |node: &NodeId| order.entering.contains(node) && !order.fulfilled;
        match needs(client, &account, &named, enters) {
            Needs::Nothing => done.held = done.held.map(|n| n + 1),
            Needs::Other => {
                let members = order.members.clone();
                let change = OrderChange { members, anew: true, ..OrderChange::default() };
                restored.push((chosen, (key.clone(), version.number, change)));
            }
            Needs::Cannot(code, why) => done.failed.push(Left::new(&chosen, code, why)),
            Needs::Others(unknown) => {
                let why = format!(
                    "{} says that it lost its share too, and was not named: it takes `{}`",
                    leaving::names(client, &unknown).join(", "),
                    with(client, nodes, &unknown)
                );
                let code = RefusalCode::ShareNotHeld.code();
                done.failed.push(Left::new(&chosen, Some(code), why));
                others.extend(unknown);
            }
            Needs::Entering(entering) => {
                if !entering.iter().all(enters) {
                    signed.entry(entering).or_default().push((chosen.clone(), key.clone()));
                }
                lost.push(chosen);
            }
        }
    }
    bar.finish_and_clear();
    let refused = let_in(app, client, signed, done).await?;
    lost.retain(|it| !refused.contains(&(it.key, it.version)));
    // The standing order may allow it now; where it does not, one is signed.
    let all: Vec<Chosen> = restored.iter().map(|(chosen, _)| chosen.clone()).collect();
    let not_due = deal(app, client, &all, rate, &NOT_DUE, done).await;
    if !not_due.is_empty() {
        let is =
            |one: &Chosen, other: &Chosen| (one.key, one.version) == (other.key, other.version);
        restored.retain(|(chosen, _)| not_due.iter().any(|(other, _)| is(chosen, other)));
        let wanted: Vec<(Key, KeyVersion, OrderChange)> =
            restored.into_iter().map(|(_, order)| order).collect();
        let refused = order(app, client, &wanted, done).await?;
        let again = not_due.into_iter().map(|(chosen, _)| chosen);
        lost.extend(again.filter(|it| !refused.contains(&(it.key, it.version))));
    }
    for (chosen, error) in deal(app, client, &lost, rate, &NOT_DUE, done).await {
        done.failed.push(Left::new(&chosen, Some(error.code()), error.to_string()));
    }
    Ok(others)
}

fn in_order(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The command that lets these in as well.
fn with(client: &Client, nodes: &[NodeId], others: &[NodeId]) -> String {
    let all = in_order(nodes.iter().chain(others).copied().collect());
    let mut names = leaving::names(client, &all);
    names.sort_unstable();
    format!("quorate cluster repair {}", names.join(" "))
}
