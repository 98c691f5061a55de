//! Who holds shares: `quorate cluster add-node`, `remove-node`, `replace-node`, `set-threshold`, and `quorate key
//! move`. Each says first what stands in the way, then signs, then deals, and goes on where it stopped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_sdk::{
    BulkOptions, Client, CommitteeChange, CommitteePlan, Jurisdiction, Key, KeyChange, NodeCard,
    NodeFailure, NodeId, NodeStatus, RefusalCode, Reshared, Roster,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{DealtArgs, Membership as Command, MoveArgs, WaitArgs};
use crate::commands::cluster::{read_cards, write_chain};
use crate::commands::principal::Confirmed;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// How long to wait before it is looked again whether a node is there.
const LOOK: Duration = Duration::from_secs(1);

/// One key version in what is printed.
#[derive(Debug, Serialize)]
struct ShownKey {
    key: String,
    alias: String,
    version: u32,
}

/// Shares that were dealt anew.
#[derive(Debug, Serialize)]
struct Dealt {
    #[serde(flatten)]
    key: ShownKey,
    /// T-of-N before and after.
    from: String,
    to: String,
    order: u32,
    holders: Vec<String>,
    /// Thefts of so many old shares are healed; negative: enough old shares may be left for the key.
    heals: i64,
    healing: String,
    /// Nodes that have not confirmed that their old shares are erased.
    unconfirmed: Vec<String>,
}

/// A key version that is as it was, and why.
#[derive(Debug, Serialize)]
struct Left {
    #[serde(flatten)]
    key: ShownKey,
    code: Option<String>,
    why: String,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Who has the new roster, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    roster: Option<Confirmed>,
    /// Nodes that are in the roster and did not run yet, or have not joined: nothing was dealt.
    waiting_for: Vec<String>,
    /// Where the rosters were written with which they join.
    #[serde(skip_serializing_if = "Option::is_none")]
    rosters: Option<String>,
    /// Orders that were signed.
    ordered: usize,
    /// Key versions that were as they were to be already.
    already: usize,
    dealt: Vec<Dealt>,
    left_out: Vec<Left>,
    failed: Vec<Left>,
    /// Nodes that the roster does not name any more.
    dropped: Vec<String>,
    /// Why nodes were not dropped that were to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

impl Done {
    fn text(&self) -> String {
        let mut said = Vec::new();
        if let Some(confirmed) = &self.roster {
            said.push(format!("the new roster is {}", confirmed.text()));
        }
        if !self.waiting_for.is_empty() {
            said.push(format!(
                "the roster names {}; nothing is dealt before they have joined and run",
                self.waiting_for.join(", ")
            ));
            return said.join("\n");
        }
        if self.dealt.is_empty() && self.failed.is_empty() && self.already > 0 {
            said.push(format!("{} key versions are as they are to be", self.already));
        }
        if !self.dealt.is_empty() {
            let mut rows =
                vec![["KEY", "VERSION", "SHARES", "HELD BY", ""].map(str::to_owned).to_vec()];
            rows.extend(self.dealt.iter().map(|dealt| {
                vec![
                    dealt.key.alias.clone(),
                    dealt.key.version.to_string(),
                    if dealt.from == dealt.to {
                        dealt.to.clone()
                    } else {
                        format!("{} -> {}", dealt.from, dealt.to)
                    },
                    dealt.holders.join(", "),
                    dealt.healing.clone(),
                ]
            }));
            said.push(output::table(&rows));
        }
        for (left, word) in self
            .left_out
            .iter()
            .map(|left| (left, "left as it is"))
            .chain(self.failed.iter().map(|left| (left, "NOT DEALT ANEW")))
        {
            let ShownKey { alias, version, .. } = &left.key;
            said.push(format!("{alias} version {version}: {word}: {}", left.why));
        }
        if !self.dropped.is_empty() {
            said.push(format!("the roster names {} no more", self.dropped.join(", ")));
        }
        if let Some(kept) = &self.kept {
            said.push(kept.clone());
        }
        if said.is_empty() {
            said.push("there is no key to deal".to_owned());
        }
        said.join("\n")
    }

    /// Prints it; fails where a key failed.
    fn print(self, app: &App) -> Outcome {
        app.out.result(&self, || self.text());
        if self.failed.is_empty() {
            return Ok(());
        }
        let names: BTreeSet<&str> =
            self.failed.iter().map(|left| left.key.alias.as_str()).collect();
        let why = format!(
            "{} of {} key versions were not dealt anew: {}",
            self.failed.len(),
            self.failed.len() + self.dealt.len(),
            names.into_iter().collect::<Vec<_>>().join(", ")
        );
        Err(Failure::new(Code::KeysLeft, why))
    }
}

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
            let change = CommitteeChange { replace, ..CommitteeChange::default() };
            let comes = Comes { cards, output, no_keys: false };
            Work { comes, goes, drop, change, dealt, wait }.run(app).await
        }
        Command::SetThreshold { threshold, dealt } => {
            let change =
                CommitteeChange { threshold: Some(threshold), ..CommitteeChange::default() };
            let (comes, goes) = (Comes::default(), Vec::new());
            let wait = WaitArgs::default();
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
        let there = client.roster().nodes.iter().filter(|n| laws.contains(&n.jurisdiction));
        change.exactly = Some(there.map(|node| node.id).collect());
    }
    if !laws.is_empty() {
        change.jurisdictions = Some(laws.clone());
    }
    if change == CommitteeChange::default() {
        let why = "nothing says where to: give --nodes, --add, --without, --replace, --threshold or --jurisdiction";
        return Err(Failure::new(Code::Usage, why));
    }
    let mut keys = selected(&client, &args.keys).await?;
    // What stands in the way is said before any document is signed.
    client.plan_committees(client.roster(), &keys, &change)?;
    if !laws.is_empty() {
        let admin = app.profile()?.admin_key().ok();
        let mut wanted = laws;
        wanted.sort_unstable();
        wanted.dedup();
        for key in keys.iter().filter(|key| key.jurisdictions() != wanted) {
            let to = KeyChange::Jurisdictions(wanted.clone());
            let delivered = client.change_key(key, &to, admin.as_ref()).await?;
            app.settle(&client, delivered, args.wait).await?;
        }
        keys = selected(&client, &args.keys).await?;
    }
    let plan = client.plan_committees(client.roster(), &keys, &change)?;
    let mut done = Done::default();
    deal(app, &client, &plan, &keys, args.rate, &mut done).await?;
    app.warnings(&client);
    done.print(app)
}

/// A client of the newest roster, which another administrator may have handed over.
async fn newest(app: &App) -> Outcome<Client> {
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

/// The keys that are named; all that the profile sees where none is.
async fn selected(client: &Client, keys: &[String]) -> Outcome<Vec<Key>> {
    if keys.is_empty() {
        return Ok(client.list_keys().await?);
    }
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(client.key(key).await?);
    }
    Ok(found)
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
        let named = |card: &NodeCard| client.roster().node(&card.entry().id).is_some();
        let client = if !self.comes.cards.is_empty() && self.comes.cards.iter().all(named) {
            // Said again: nobody can do anything before they are there.
            self.welcome(app, &client, &mut done).await?;
            client
        } else {
            app.carry(&client).await;
            // What stands in the way is said before anything is signed.
            let future = client.roster_with(&self.comes.cards)?;
            client.plan_committees(&future, &self.keys(&client).await?, &self.change)?;
            self.announce(app, client, &future, &mut done).await?
        };
        if done.waiting_for.is_empty() {
            app.carry(&client).await;
            let keys = self.keys(&client).await?;
            let plan = client.plan_committees(client.roster(), &keys, &self.change)?;
            deal(app, &client, &plan, &keys, self.dealt.rate, &mut done).await?;
            self.let_go(app, &client, &mut done).await?;
        }
        app.warnings(&client);
        done.print(app)
    }

    async fn keys(&self, client: &Client) -> Outcome<Vec<Key>> {
        if self.comes.no_keys { Ok(Vec::new()) } else { selected(client, &self.dealt.keys).await }
    }

    /// Puts those that come into the roster. Returns a client of that roster.
    async fn announce(
        &self,
        app: &App,
        client: Client,
        future: &Roster,
        done: &mut Done,
    ) -> Outcome<Client> {
        let Comes { cards, .. } = &self.comes;
        if cards.is_empty() {
            return Ok(client);
        }
        let status = client.cluster_status().await;
        // One that is gone already is replaced at once: asking for it would need more of the others.
        let gone = |status: &&NodeStatus| {
            self.goes.contains(&status.entry.id)
                && matches!(status.status, Err(NodeFailure::Unreachable(_)))
        };
        let drop: Vec<NodeId> = status.iter().filter(gone).map(|s| s.entry.id).collect();
        let answering = status.iter().filter(|status| status.status.is_ok()).count();
        let nodes = future.nodes.len() - drop.len();
        if answering < nodes / 2 + 1 {
            let why = format!(
                "the roster would name {nodes} nodes, of which most must answer for keys to be found, and only \
                 {answering} do now"
            );
            return Err(Failure::new(Code::TooFewAnswer, why));
        }
        let admin = app.profile()?.admin_key()?;
        if let Some(delivered) = client.admin(&admin).change_nodes(cards, &drop).await? {
            done.roster = Some(Confirmed::control(&client, &delivered));
            app.keep_undelivered(&delivered)?;
        }
        app.warnings(&client);
        let client = app.client()?;
        self.welcome(app, &client, done).await?;
        Ok(client)
    }

    /// Looks whether those that come are there, and brings them the cluster's documents.
    async fn welcome(&self, app: &App, client: &Client, done: &mut Done) -> Outcome {
        let Comes { cards, output, .. } = &self.comes;
        if let Some(path) = output {
            // Said again, it is there already.
            if !path.exists() {
                write_chain(path, &app.profile()?)?;
            }
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

    /// Drops those that go from the roster, where nobody has shares there any more.
    async fn let_go(&self, app: &App, client: &Client, done: &mut Done) -> Outcome {
        let goes: Vec<NodeId> =
            self.goes.iter().filter(|id| client.roster().node(id).is_some()).copied().collect();
        if goes.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = goes
            .iter()
            .filter_map(|id| client.roster().node(id))
            .map(|node| node.name.clone())
            .collect();
        let keep =
            |why: String| Some(format!("the roster names {} still: {why}", names.join(", ")));
        if !self.dealt.keys.is_empty() {
            done.kept = keep("only some keys were chosen".to_owned());
            return Ok(());
        }
        if !done.failed.is_empty() {
            done.kept = keep("keys have shares there".to_owned());
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

/// Signs the orders of a plan, and deals the shares of each key version anew. One that fails holds up no other.
async fn deal(
    app: &App,
    client: &Client,
    plan: &CommitteePlan,
    keys: &[Key],
    rate: Option<f64>,
    done: &mut Done,
) -> Outcome {
    let admin = app.profile()?.admin_key().ok();
    let reports = client.order_committees(plan, keys, admin.as_ref()).await?;
    for delivered in reports.iter().filter_map(|report| report.delivered.as_ref()) {
        app.keep_undelivered(delivered)?;
    }
    done.ordered = reports.iter().filter(|report| report.delivered.is_some()).count();
    done.already = plan.done;
    done.left_out = plan
        .left_out
        .iter()
        .map(|left| Left {
            key: ShownKey {
                key: left.key.to_string(),
                alias: left.alias.clone(),
                version: left.version.get(),
            },
            code: None,
            why: left.why.clone(),
        })
        .collect();
    let total = u64::try_from(plan.orders.len()).unwrap_or(u64::MAX);
    let bar = app.out.counter(total, "shares");
    let wanted = plan.orders.iter().map(|order| (order.key, order.version)).collect();
    let options = BulkOptions { rate, ..BulkOptions::default() };
    let mut results = Vec::with_capacity(plan.orders.len());
    let told = |at, result| {
        bar.inc(1);
        results.push((at, result));
    };
    client.reshare_keys(wanted, options, told).await;
    // As they were asked for, and not as they came.
    results.sort_by_key(|(at, _)| *at);
    for (at, result) in results {
        let Some(order) = plan.orders.get(at) else { continue };
        let key = ShownKey {
            key: order.key.to_string(),
            alias: order.alias.clone(),
            version: order.version.get(),
        };
        match result {
            Ok(reshared) => done.dealt.push(dealt(client, key, order.from, &reshared).await),
            Err(error) => {
                let code = Some(error.code().to_owned());
                done.failed.push(Left { key, code, why: error.to_string() });
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn dealt(
    client: &Client,
    key: ShownKey,
    from: quorate_sdk::Threshold,
    it: &Reshared,
) -> Dealt {
    Dealt {
        key,
        from: from.to_string(),
        to: it.threshold.to_string(),
        order: it.order,
        holders: called(client, &it.holders).await,
        heals: it.healing.heals,
        healing: it.healing.to_string(),
        unconfirmed: called(client, &it.healing.unconfirmed).await,
    }
}

/// Names of nodes, also of those that the roster names no more.
async fn called(client: &Client, nodes: &[NodeId]) -> Vec<String> {
    let mut names = Vec::with_capacity(nodes.len());
    for node in nodes {
        let id = node.to_string();
        names.push(client.node_ever(&id).await.map_or(id, |entry| entry.name));
    }
    names
}
