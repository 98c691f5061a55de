//! Who holds shares: `quorate cluster add-node`, `remove-node`, `replace-node`, `set-threshold`, and `quorate key
//! move`. Each says first what stands in the way, then signs, then deals, and goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_sdk::{
    BulkOptions, Client, CommitteeChange, CommitteePlan, Delivered, Error, Jurisdiction, Key,
    KeyChange, KeyId, KeyVersion, Leaving, NodeCard, NodeFailure, NodeId, NodeStatus, RefusalCode,
    Reshared, Roster,
};

use crate::app::App;
use crate::args::{DealtArgs, Membership as Command, MoveArgs, WaitArgs};
use crate::commands::cluster::{check_newest_chain, read_cards, write_newest_chain};
use crate::commands::confirmed::Confirmed;
use crate::commands::dealt::{Dealt, Done, Left, ShownKey};
use crate::commands::healed::ShownHealing;
use crate::commands::leaving::{self, agree};
use crate::commands::listed::{self, Part, parts};
use crate::failure::{Code, Failure, Outcome};

/// How long to wait before it is looked again whether a node is there.
const LOOK: Duration = Duration::from_secs(1);

/// How often nodes are asked before those that gave no answer count as away.
const ASKED: usize = 3;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::AddNode { cards, fingerprint, threshold, output, no_keys, dealt, wait } => {
            let cards = read_cards(&cards, &fingerprint)?;
            let change = CommitteeChange {
                add: cards.iter().map(|card| card.entry().id).collect(),
                threshold,
                ..CommitteeChange::default()
            };
            let comes = Comes { cards, output, no_keys };
            Work { comes, goes: Vec::new(), drop: false, change, dealt, wait }.run(app).await
        }
        Command::RemoveNode { nodes, threshold, drop, dealt, wait } => {
            let goes = named(&app.client()?, &nodes).await?;
            let change =
                CommitteeChange { remove: goes.clone(), threshold, ..CommitteeChange::default() };
            Work { comes: Comes::default(), goes, drop, change, dealt, wait }.run(app).await
        }
        Command::ReplaceNode { node, card, fingerprint, output, drop, dealt, wait } => {
            let cards = read_cards(&[card], &[fingerprint])?;
            let client = app.client()?;
            let old = client.node_ever(&node).await?.id;
            let Some(new) = cards.iter().map(|card| card.entry().id).find(|new| *new != old) else {
                let why = "the card is that of the node that is to go";
                return Err(Failure::new(Code::Usage, why));
            };
            let (goes, replace) = (vec![old], vec![(old, new)]);
            // A key that may not have shares where the new one is stands in the way of the drop, and of no other key.
            let where_allowed = dealt.keys.is_empty();
            let change = CommitteeChange { replace, where_allowed, ..CommitteeChange::default() };
            let comes = Comes { cards, output, no_keys: false };
            Work { comes, goes, drop, change, dealt, wait }.run(app).await
        }
        Command::SetThreshold { threshold, dealt, wait } => {
            let change =
                CommitteeChange { threshold: Some(threshold), ..CommitteeChange::default() };
            let (comes, goes) = (Comes::default(), Vec::new());
            Work { comes, goes, drop: false, change, dealt, wait }.run(app).await
        }
    }
}

/// `quorate key move`.
pub async fn move_keys(app: &App, args: MoveArgs) -> Outcome {
    let laws = args.jurisdiction.iter().map(|law| law.parse::<Jurisdiction>());
    let laws: Vec<Jurisdiction> = laws
        .collect::<Result<_, _>>()
        .map_err(|e| Failure::new(Code::Usage, format!("--jurisdiction: {e}")))?;
    let client = newest(app).await?;
    app.carry(&client).await;
    let mut change = CommitteeChange {
        add: named(&client, &args.add).await?,
        remove: named(&client, &args.without).await?,
        threshold: args.threshold,
        where_allowed: args.all || args.file.is_some(),
        ..CommitteeChange::default()
    };
    for pair in &args.replace {
        let (old, new) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(Code::Usage, format!("\"{pair}\" is not OLD=NEW")))?;
        change.replace.push((client.node_ever(old).await?.id, client.node(new)?.id));
    }
    if !args.nodes.is_empty() {
        change.exactly = Some(named(&client, &args.nodes).await?);
    } else if !laws.is_empty() && change.replace.is_empty() {
        change.fill = true;
    }
    if !laws.is_empty() {
        change.jurisdictions = Some(laws.clone());
    }
    let where_allowed = change.where_allowed;
    let nothing = CommitteeChange { where_allowed, ..CommitteeChange::default() };
    if change == nothing {
        let why = "nothing says where to: give --nodes, --add, --without, --replace, --threshold or --jurisdiction";
        return Err(Failure::new(Code::Usage, why));
    }
    let mut done = Done::default();
    let chosen = Selection { names: &args.keys, parts: parts(args.file.as_deref())? };
    // What stands in the way is said before any document is signed.
    let lowered = chosen.look(&client, client.roster(), &change).await?;
    agree(app, &lowered, args.lower)?;
    if !laws.is_empty() {
        let admin = app.profile()?.admin_key().ok();
        let mut wanted = laws;
        wanted.sort_unstable();
        wanted.dedup();
        let keys = chosen.keys(&client, &Part::Chosen, &[], &mut Done::default()).await?;
        for key in keys.iter().filter(|key| key.jurisdictions() != wanted) {
            let to = KeyChange::Jurisdictions(wanted.clone());
            let delivered = client.change_key(key, &to, admin.as_ref()).await?;
            app.settle(&client, delivered, args.wait).await?;
        }
    }
    let went = change.remove.iter().chain(change.replace.iter().map(|(old, _)| old));
    let went: Vec<NodeId> = went.filter(|id| client.roster().node(id).is_some()).copied().collect();
    let (come, mut found) = (come(&client, &change), Leaving::default());
    for part in &chosen.parts {
        let keys = chosen.keys(&client, part, &come, &mut done).await?;
        let plan = client.plan_committees(client.roster(), &keys, &change)?;
        deal(app, &client, &plan, &keys, (args.rate, args.wait), &mut done).await?;
        // Of those that were moved before nobody may have told the nodes that they left.
        if !went.is_empty() {
            let dealt: BTreeSet<KeyId> = plan.orders.iter().map(|order| order.key).collect();
            let before = keys.into_iter().filter(|key| !dealt.contains(&key.id()));
            let before: Vec<Key> = before.collect();
            leaving::add(&mut found, client.leaving_keys(&went, &before).await);
        }
    }
    done.old_shares = leaving::old_shares(&client, &found).await;
    app.warnings(&client);
    done.print(app)
}

/// A client of the newest roster, which another administrator may have handed over.
pub async fn newest(app: &App) -> Outcome<Client> {
    let client = app.administrator().await?;
    match client.refresh_roster().await {
        Ok(Some(_)) => app.client(),
        // Whatever stands in the way of that is said where it matters.
        _ => Ok(client),
    }
}

/// Nodes by names or ids, of this roster or one before it.
async fn named(client: &Client, nodes: &[String]) -> Outcome<Vec<NodeId>> {
    let mut found = Vec::with_capacity(nodes.len());
    for name in nodes {
        found.push(client.node_ever(name).await?.id);
    }
    Ok(found)
}

/// Nodes that may get shares by a change. Those that have just come know nothing of other tenants' keys.
fn come(client: &Client, change: &CommitteeChange) -> Vec<NodeId> {
    let replace = change.replace.iter().map(|(_, new)| new);
    let nodes = change.add.iter().chain(replace).chain(change.exactly.iter().flatten());
    nodes.filter(|id| client.roster().node(id).is_some()).copied().collect()
}

/// The keys that a command is about: those that are named, those of a file, or all that the profile sees.
struct Selection<'a> {
    names: &'a [String],
    parts: Vec<Part>,
}

impl Selection<'_> {
    /// Those of one part. Of those that the profile sees or a file names, what does not verify or is not there has failed.
    async fn keys(
        &self,
        client: &Client,
        part: &Part,
        to: &[NodeId],
        done: &mut Done,
    ) -> Outcome<Vec<Key>> {
        if let Part::Listed(ids) = part {
            let (keys, failed) = listed::found(client, ids, to).await;
            done.failed.extend(failed.into_iter().map(|(key, error)| {
                let (alias, version) = (key.to_string(), KeyVersion::FIRST.get());
                let key = ShownKey { key: key.to_string(), alias, version };
                Left { key, code: Some(error.code().to_owned()), why: error.to_string() }
            }));
            return Ok(keys);
        }
        if self.names.is_empty() {
            let (keys, unverified) = client.all_keys().await?;
            done.failed = leaving::unverified(&unverified).collect();
            return Ok(keys);
        }
        let mut found = Vec::with_capacity(self.names.len());
        for key in self.names {
            found.push(client.key(key).await?);
        }
        Ok(found)
    }

    /// Which orders would let fewer nodes be enough. Fails where a key stands in the way of the change; nothing is signed.
    async fn look(
        &self,
        client: &Client,
        roster: &Roster,
        change: &CommitteeChange,
    ) -> Outcome<CommitteePlan> {
        let mut lowered = CommitteePlan::default();
        for part in &self.parts {
            let keys = self.keys(client, part, &[], &mut Done::default()).await?;
            let plan = client.plan_committees(roster, &keys, change)?;
            lowered.orders.extend(plan.orders.into_iter().filter(|order| order.lowers.is_some()));
        }
        Ok(lowered)
    }
}

/// Nodes that come.
#[derive(Default)]
struct Comes {
    cards: Vec<NodeCard>,
    output: Option<PathBuf>,
    no_keys: bool,
}

/// What is to be done to the cluster and to its keys.
struct Work {
    comes: Comes,
    goes: Vec<NodeId>,
    drop: bool,
    change: CommitteeChange,
    dealt: DealtArgs,
    wait: WaitArgs,
}

impl Work {
    async fn run(self, app: &App) -> Outcome {
        let client = newest(app).await?;
        let mut done = Done::default();
        let mut agreed = self.dealt.lower;
        let parts =
            if self.comes.no_keys { Vec::new() } else { parts(self.dealt.file.as_deref())? };
        let chosen = Selection { names: &self.dealt.keys, parts };
        let named = |card: &NodeCard| client.roster().node(&card.entry().id).is_some();
        let client = if !self.comes.cards.is_empty() && self.comes.cards.iter().all(named) {
            // Said again: nobody can do anything before they are there.
            self.welcome(app, &client, &mut done).await?;
            client
        } else {
            app.carry(&client).await;
            // What stands in the way is said before anything is signed.
            let future = client.roster_with(&self.comes.cards)?;
            let lowered = chosen.look(&client, &future, &self.change).await?;
            agree(app, &lowered, self.dealt.lower)?;
            agreed = true;
            self.announce(app, client, &future, &mut done).await?
        };
        if done.waiting_for.is_empty() {
            app.carry(&client).await;
            if !agreed {
                let lowered = chosen.look(&client, client.roster(), &self.change).await?;
                agree(app, &lowered, false)?;
            }
            let (how, come) = ((self.dealt.rate, self.wait), come(&client, &self.change));
            for part in &chosen.parts {
                let keys = chosen.keys(&client, part, &come, &mut done).await?;
                let plan = client.plan_committees(client.roster(), &keys, &self.change)?;
                deal(app, &client, &plan, &keys, how, &mut done).await?;
            }
            self.let_go(app, &client, &chosen, &mut done).await?;
        }
        app.warnings(&client);
        done.print(app)
    }

    /// Puts those that come into the roster. Returns a client of that roster.
    async fn announce(
        &self,
        app: &App,
        client: Client,
        future: &Roster,
        done: &mut Done,
    ) -> Outcome<Client> {
        let Comes { cards, output, .. } = &self.comes;
        if cards.is_empty() {
            return Ok(client);
        }
        // Before a roster is signed with which nobody could join.
        if let Some(path) = output {
            check_newest_chain(path, &app.profile()?)?;
        }
        let most = |nodes: usize| nodes / 2 + 1;
        let nodes = future.nodes.len();
        let status = asked(&client, most(nodes)).await;
        let answering = status.iter().filter(|status| status.status.is_ok()).count();
        let mut drop = Vec::new();
        if answering < most(nodes) {
            // Only whoever says so has keys lose a node before they were moved.
            let gone = self.gone(&status);
            let without = nodes.saturating_sub(gone.len());
            if !self.drop || gone.is_empty() || answering < most(without) {
                let why = format!(
                    "the roster would name {nodes} nodes, of which most must answer for keys to be found, and only \
                     {answering} do now"
                );
                let failure = Failure::new(Code::TooFewAnswer, why);
                return Err(match gone.as_slice() {
                    [] => failure,
                    gone => failure.next(leaving::at_once(&client, gone, self.drop)),
                });
            }
            let others = client.other_tenants().await.unwrap_or_default();
            app.out.warn(&leaving::before_moved(&client, &gone, others));
            drop = gone;
        }
        let admin = app.profile()?.admin_key()?;
        if let Some(delivered) = client.admin(&admin).change_nodes(cards, &drop).await? {
            done.dropped = leaving::names(&client, &drop);
            done.roster = Some(Confirmed::control(&client, &delivered));
            app.keep_undelivered(&delivered)?;
        }
        app.warnings(&client);
        let client = app.client()?;
        self.welcome(app, &client, done).await?;
        Ok(client)
    }

    /// Those of the nodes that go which gave no answer.
    fn gone(&self, status: &[NodeStatus]) -> Vec<NodeId> {
        let gone = |status: &&NodeStatus| {
            self.goes.contains(&status.entry.id)
                && matches!(status.status, Err(NodeFailure::Unreachable(_)))
        };
        status.iter().filter(gone).map(|status| status.entry.id).collect()
    }

    /// Looks whether those that come are there, and brings them the cluster's documents.
    async fn welcome(&self, app: &App, client: &Client, done: &mut Done) -> Outcome {
        let Comes { cards, output, .. } = &self.comes;
        if let Some(path) = output {
            // Said again, it is there already, or holds the rosters of an earlier addition.
            write_newest_chain(path, &app.profile()?)?;
            done.rosters = Some(crate::app::shown(path));
        }
        let ids: Vec<NodeId> = cards.iter().map(|card| card.entry().id).collect();
        done.waiting_for = self.absent(client, &ids).await;
        if !done.waiting_for.is_empty() {
            self.tell(app, client, output.as_deref(), &done.waiting_for);
            return Ok(());
        }
        // They have nothing but the cluster's first roster yet.
        for node in client.bring_documents(&ids).await {
            if let Err(why) = &node.result {
                let why = format!("{} does not take the cluster's documents: {why}", node.name);
                return Err(Failure::new(Code::NotConfirmed, why));
            }
        }
        Ok(())
    }

    /// Names of those of these nodes that do not run or have not joined; waits for them where that was asked for.
    async fn absent(&self, client: &Client, ids: &[NodeId]) -> Vec<String> {
        let since = Instant::now();
        let limit = Duration::from_secs(self.wait.wait_seconds);
        loop {
            let status = client.cluster_status().await;
            let absent = |status: &&NodeStatus| match &status.status {
                Ok(_) => false,
                Err(NodeFailure::Unreachable(_)) => true,
                Err(NodeFailure::Refused(refused)) => {
                    refused.refusal.code == RefusalCode::NoRoster.code()
                }
            };
            let new = status.iter().filter(|status| ids.contains(&status.entry.id));
            let names: Vec<String> =
                new.filter(absent).map(|status| status.entry.name.clone()).collect();
            if names.is_empty() || self.wait.wait.is_none() || since.elapsed() >= limit {
                return names;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn tell(&self, app: &App, client: &Client, output: Option<&Path>, names: &[String]) {
        let file = output.map_or_else(
            || "ROSTERS, which `quorate cluster export ROSTERS` writes,".to_owned(),
            |path| path.display().to_string(),
        );
        app.out.note(&format!(
            "Give {file} to the operators of {} and tell them the cluster's fingerprint by another \
             channel. Each joins, and runs the node:\n  quorate cluster join ROSTERS --fingerprint {} \
             --data-dir DIR\nThen say this again.",
            names.join(", "),
            client.cluster()
        ));
    }

    /// Drops those that go from the roster, where no key names them any more. What they had before they are told to
    /// erase: nobody can ask them afterwards.
    async fn let_go(
        &self,
        app: &App,
        client: &Client,
        chosen: &Selection<'_>,
        done: &mut Done,
    ) -> Outcome {
        let goes: Vec<NodeId> =
            self.goes.iter().filter(|id| client.roster().node(id).is_some()).copied().collect();
        if goes.is_empty() {
            return Ok(());
        }
        let names = leaving::names(client, &goes);
        let keep =
            |why: String| Some(format!("the roster names {} still: {why}", names.join(", ")));
        // All of them anew: what was made, ordered or taken back since the command began counts too.
        let all = self.dealt.keys.is_empty() && self.dealt.file.is_none();
        let mut found = Leaving::default();
        if all {
            found = client.leaving(&goes).await?;
        } else {
            for part in &chosen.parts {
                let keys = chosen.keys(client, part, &[], &mut Done::default()).await?;
                leaving::add(&mut found, client.leaving_keys(&goes, &keys).await);
            }
        }
        done.old_shares = leaving::old_shares(client, &found).await;
        if !all {
            done.kept = keep("only some keys were chosen".to_owned());
            return Ok(());
        }
        done.named = leaving::named(client, &found);
        if !done.named.is_empty() {
            done.kept = keep("keys name it".to_owned());
            return Ok(());
        }
        let others = client.other_tenants().await?;
        if others > 0 && !self.drop {
            done.kept = keep(format!(
                "{others} other tenants may have shares there. Have their administrators run `quorate key move \
                 --all --without {}` (or --replace), then say this again with --drop",
                names.join(",")
            ));
            return Ok(());
        }
        let admin = app.profile()?.admin_key()?;
        if let Some(delivered) = client.admin(&admin).change_nodes(&[], &goes).await? {
            let delivered = app.settle(client, delivered, self.wait).await?;
            done.roster = Some(Confirmed::control(client, &delivered));
            done.dropped = names;
        }
        Ok(())
    }
}

/// How the nodes are. Where fewer answer than are needed, those that gave no answer are asked again: one that restarts, or
/// to which the way is interrupted for a moment, is not gone.
async fn asked(client: &Client, needed: usize) -> Vec<NodeStatus> {
    let mut status = client.cluster_status().await;
    for _ in 1..ASKED {
        if status.iter().filter(|status| status.status.is_ok()).count() >= needed {
            break;
        }
        tokio::time::sleep(LOOK).await;
        let again = client.cluster_status().await;
        for (known, now) in status.iter_mut().zip(again) {
            if known.status.is_err() {
                *known = now;
            }
        }
    }
    status
}

/// Signs the orders of a plan, and deals the shares of each key version anew. One that fails holds up no other.
async fn deal(
    app: &App,
    client: &Client,
    plan: &CommitteePlan,
    keys: &[Key],
    (rate, wait): (Option<f64>, WaitArgs),
    done: &mut Done,
) -> Outcome {
    let admin = app.profile()?.admin_key().ok();
    let signed = client.order_committees(plan, keys, admin.as_ref()).await?;
    let mut last: Option<&Delivered> = None;
    for delivered in signed.in_force.iter().filter_map(|report| report.delivered.as_ref()) {
        // Many were handed over together.
        if last.is_none_or(|last| last.documents != delivered.documents) {
            app.settle(client, delivered.clone(), wait).await?;
        }
        last = Some(delivered);
    }
    done.ordered += signed.in_force.iter().filter(|report| report.delivered.is_some()).count();
    done.already += plan.done;
    done.left_out.extend(plan.left_out.iter().map(|left| Left {
        key: ShownKey {
            key: left.key.to_string(),
            alias: left.alias.clone(),
            version: left.version.get(),
        },
        code: None,
        why: left.why.clone(),
    }));
    // Of those of which no order was signed nothing is dealt.
    let mut orders = Vec::with_capacity(plan.orders.len());
    let refused = signed.refused.into_iter().map(|it| ((it.key, it.version), it.error));
    let refused: BTreeMap<(KeyId, KeyVersion), Error> = refused.collect();
    for order in &plan.orders {
        let Some(error) = refused.get(&(order.key, order.version)) else {
            orders.push(order);
            continue;
        };
        let (key, alias, version) = (order.key, order.alias.clone(), order.version.get());
        let key = ShownKey { key: key.to_string(), alias, version };
        let code = Some(error.code().to_owned());
        done.failed.push(Left { key, code, why: error.to_string() });
    }
    let total = u64::try_from(orders.len()).unwrap_or(u64::MAX);
    let bar = app.out.counter(total, "shares");
    let wanted = orders.iter().map(|order| (order.key, order.version)).collect();
    let options = BulkOptions { rate, ..BulkOptions::default() };
    let names = client.node_names().await;
    let mut results = Vec::with_capacity(orders.len());
    let told = |at, result| {
        bar.inc(1);
        results.push((at, result));
    };
    client.reshare_keys(wanted, options, told).await;
    // As they were asked for, and not as they came.
    results.sort_by_key(|(at, _)| *at);
    for (at, result) in results {
        let Some(order) = orders.get(at) else { continue };
        let key = ShownKey {
            key: order.key.to_string(),
            alias: order.alias.clone(),
            version: order.version.get(),
        };
        match result {
            Ok(reshared) => done.dealt.push(dealt(client, &names, key, order.from, &reshared)),
            Err(error) => {
                let code = Some(error.code().to_owned());
                done.failed.push(Left { key, code, why: error.to_string() });
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn dealt(
    client: &Client,
    names: &BTreeMap<NodeId, String>,
    key: ShownKey,
    from: quorate_sdk::Threshold,
    it: &Reshared,
) -> Dealt {
    // Also of those that the roster names no more.
    let called = |nodes: &[NodeId]| {
        let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| node.to_string());
        nodes.iter().map(name).collect()
    };
    Dealt {
        key,
        from: from.to_string(),
        to: it.threshold.to_string(),
        order: it.order,
        holders: called(&it.holders),
        healed: ShownHealing::new(client, names, &it.healing),
    }
}
