//! `quorate coordinator run`: rounds of a coordinator, and what they find, until told to end.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_sdk::{Client, Coordinator, KeyId, NodeId, Round, RoundEvent, RoundTime, UnixSeconds};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::app::{App, finish};
use crate::args::{Coordinator as Command, CoordinatorArgs};
use crate::commands::doctor::facts::{self, ClusterFacts, Facts, KeyFacts};
use crate::commands::doctor::{self, Finding};
use crate::commands::monitored::{Counted, Monitored};
use crate::commands::node::told_to_end;
use crate::commands::refresh::{ShownReshare, ids, node_name, shown_reshare};
use crate::failure::{Code, Failure, Outcome};
use crate::output::counted;

/// Key versions of a round that are told one by one to people; of more, how many there were.
const TOLD: usize = 20;

/// How long the last marks of audit logs may take.
const SETTLE: Duration = Duration::from_secs(2);

/// A line of what it prints.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Refreshed(ShownReshare),
    Finished {
        key: String,
        alias: &'a str,
        version: u32,
    },
    Failed {
        key: String,
        alias: &'a str,
        version: u32,
        code: &'a str,
        message: String,
        next: String,
    },
    Problem {
        code: &'a str,
        message: String,
        next: String,
    },
    Finding(&'a Finding),
    Round(Rounded),
    Monitoring {
        address: String,
    },
    Ended {
        rounds: u64,
    },
}

/// A round, in numbers.
#[derive(Serialize)]
struct Rounded {
    round: u64,
    /// Seconds since 1970, at its beginning.
    at: u64,
    milliseconds: u64,
    nodes: usize,
    answering: usize,
    /// Document versions that nodes lacked and have taken.
    documents_carried: usize,
    certificates_carried: usize,
    key_versions: usize,
    /// Key versions whose nodes were asked what they have.
    looked_at: usize,
    finished: usize,
    refreshed: usize,
    /// Somebody else had refreshed them.
    not_due: usize,
    /// Due, and waiting for nodes to come back or to be repaired.
    waiting: usize,
    failed: usize,
    /// Seconds until the next refresh is due; none where no key has a standing order.
    next_due_in: Option<u64>,
    findings: usize,
}

impl Rounded {
    fn text(&self) -> String {
        let mut said = vec![format!("{} of {} nodes answer", self.answering, self.nodes)];
        for (number, what) in [
            (self.documents_carried, "documents carried"),
            (self.certificates_carried, "certificates carried"),
            (self.finished, "keys finished"),
            (self.refreshed, "refreshed"),
            (self.waiting, "waiting"),
            (self.failed, "FAILED"),
        ] {
            if number > 0 {
                said.push(format!("{number} {what}"));
            }
        }
        if let Some(seconds) = self.next_due_in {
            let due = humantime::format_duration(Duration::from_secs(seconds));
            said.push(format!("next refresh due in {due}"));
        }
        said.push(counted(self.findings, "finding"));
        format!("round {}: {}", self.round, said.join(", "))
    }
}

/// What is known of the cluster's health from one round to the next.
struct Watch {
    facts: Facts,
    /// Where each key's facts are.
    places: BTreeMap<KeyId, usize>,
    /// What was found in the last round.
    said: BTreeSet<(String, String)>,
}

impl Watch {
    fn new(app: &App) -> Self {
        let facts = Facts {
            profile: app.settings.profile.0.clone(),
            cluster: Some(ClusterFacts::default()),
            ..Facts::default()
        };
        Self { facts, places: BTreeMap::new(), said: BTreeSet::new() }
    }

    /// What the checks of `doctor` find by what a round has seen.
    async fn examine(
        &mut self,
        client: &Client,
        round: &Round,
        keys: Vec<(KeyId, KeyFacts)>,
    ) -> Vec<Finding> {
        let mut cluster = self.facts.cluster.take().unwrap_or_default();
        cluster.name = client.roster().name.clone();
        cluster.id = client.cluster().to_string();
        cluster.roster_expires_at = client.roster().expires_at.0;
        cluster.nodes = round.nodes.iter().map(facts::node).collect();
        for synced in round.synced.iter().flatten().flat_map(|synced| &synced.nodes) {
            if let Some(node) = cluster.nodes.iter_mut().find(|node| node.name == synced.name) {
                node.lacks = synced.lacked.map(|lacked| lacked.saturating_sub(synced.accepted));
            }
        }
        cluster.roster = round.roster.as_ref().ok().map(facts::roster);
        if round.listed {
            self.places = keys.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
            cluster.keys = keys.into_iter().map(|(_, facts)| facts).collect();
            self.facts.unchecked.clear();
            facts::principals(client, &mut self.facts, &mut cluster).await;
        }
        for key in &mut cluster.keys {
            key.without_share.clear();
        }
        let lost = round.lost.iter().map(|lost| (lost, "share_not_held"));
        let restored = round.restored.iter().map(|restored| (restored, "share_restored"));
        for ((id, node), code) in lost.chain(restored) {
            if let Some(key) = self.places.get(id).and_then(|at| cluster.keys.get_mut(*at)) {
                key.without_share.push((node_name(client, node), code.to_owned()));
            }
        }
        self.facts.now = facts::now();
        self.facts.cluster = Some(cluster);
        doctor::examine(&self.facts)
    }

    /// Says what was found: as JSON each time, to people what is new and what is over.
    fn say(&mut self, app: &App, findings: &[Finding]) {
        let mut found = BTreeSet::new();
        for finding in findings {
            let name = (finding.code.to_owned(), finding.found.about.clone());
            let known = self.said.contains(&name);
            app.out.line(&Line::Finding(finding), || (!known).then(|| finding.text()));
            found.insert(name);
        }
        for (code, about) in self.said.difference(&found) {
            app.out.note(&format!("over: {about} [{code}]"));
        }
        self.said = found;
    }
}

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    let Command::Run(args) = command;
    let done = rounds(app, &args).await;
    finish(app.out).await;
    done
}

async fn rounds(app: &App, args: &CoordinatorArgs) -> Outcome {
    let mut told = pin!(told_to_end(false));
    let named = args.file.as_deref().map(ids).transpose()?.unwrap_or_default();
    let mut coordinator = Coordinator::new(app.client()?, Some(args.rate)).with_keys(named);
    let monitored = Arc::new(Monitored::new(args.interval));
    let _listening = monitoring(app, args, &monitored).await?;
    let mut watch = Watch::new(app);
    let began = Instant::now();
    let mut number = 0;
    loop {
        number += 1;
        let round = one(app, &mut coordinator, &mut watch, &monitored, (began, number));
        let verdict = tokio::select! {
            biased;
            () = &mut told => break,
            verdict = round => verdict,
        };
        if args.once {
            return verdict;
        }
        tokio::select! {
            biased;
            () = &mut told => break,
            () = tokio::time::sleep(jittered(args.interval)) => {}
        }
    }
    // What is half done is finished by whoever comes next.
    let _ = coordinator.client().settle(SETTLE).await;
    if args.once {
        return Err(Failure::new(Code::Interrupted, "told to end by a signal"));
    }
    app.out.line(&Line::Ended { rounds: number }, || Some("told to end".to_owned()));
    Ok(())
}

/// Serves what is counted for as long as the result lives, where that was asked for.
async fn monitoring(
    app: &App,
    args: &CoordinatorArgs,
    monitored: &Arc<Monitored>,
) -> Outcome<Option<JoinSet<Infallible>>> {
    let Some(address) = args.health_address else { return Ok(None) };
    let failed = |error: std::io::Error| {
        Failure::new(Code::Usage, format!("cannot listen at {address}: {error}"))
            .next("Give another --health-address.")
    };
    let listener = quorate_server::monitoring::listen(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    if !bound.ip().is_loopback() {
        app.out.warn(
            "monitoring is plain HTTP and not on loopback: whoever reaches the address reads it",
        );
    }
    let line = Line::Monitoring { address: bound.to_string() };
    app.out.line(&line, || Some(format!("monitoring at http://{bound}/metrics")));
    let mut listening = JoinSet::new();
    listening.spawn(quorate_server::monitoring::serve(Arc::clone(monitored), listener));
    Ok(Some(listening))
}

/// One round, and what is said of it. The verdict is that of a round on its own.
async fn one(
    app: &App,
    coordinator: &mut Coordinator,
    watch: &mut Watch,
    monitored: &Monitored,
    (began, number): (Instant, u64),
) -> Outcome {
    let since = Instant::now();
    let at = RoundTime { elapsed: began.elapsed(), now: UnixSeconds(facts::now()) };
    let client = coordinator.client().clone();
    let (mut keys, mut events) = (Vec::new(), 0);
    let names = client.node_names().await;
    let round = coordinator.round(at, |event| {
        monitored.goes_on();
        let brief = match event {
            RoundEvent::Listing => return keys.clear(),
            RoundEvent::Key(key) => return keys.push((key.id(), facts::key(&client, key))),
            _ => {
                events += 1;
                events <= TOLD
            }
        };
        told_of(app, (&client, &names), &event, brief);
    });
    let round = round.await;
    if events > TOLD {
        app.out.note(&format!("and {} more", events - TOLD));
    }
    for error in problems(&round) {
        let line = Line::Problem {
            code: error.code(),
            message: error.to_string(),
            next: error.next().to_string(),
        };
        app.out.line(&line, || Some(format!("{error} [{}]", error.code())));
    }
    let client = coordinator.client();
    let findings = watch.examine(client, &round, keys).await;
    watch.say(app, &findings);
    let synced = round.synced.as_ref().and_then(|synced| synced.as_ref().ok());
    let rounded = Rounded {
        round: number,
        at: at.now.0,
        milliseconds: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        nodes: round.nodes.len(),
        answering: round.nodes.iter().filter(|node| node.status.is_ok()).count(),
        documents_carried: synced.map_or(0, quorate_sdk::Synced::carried),
        certificates_carried: round.certificates,
        key_versions: round.versions,
        looked_at: round.looked_at,
        finished: round.finished,
        refreshed: round.dealt,
        not_due: round.not_due,
        waiting: round.waiting,
        failed: round.failed,
        next_due_in: round.next_due.map(|due| due.as_secs()),
        findings: findings.len(),
    };
    let monitor = Counted {
        nodes: rounded.nodes,
        answering: rounded.answering,
        documents: rounded.documents_carried,
        certificates: rounded.certificates_carried,
        versions: rounded.key_versions,
        finished: rounded.finished,
        refreshed: rounded.refreshed,
        failed: rounded.failed,
        waiting: rounded.waiting,
        problems: problems(&round).count(),
        took: since.elapsed(),
        next_due: round.next_due,
        ..Counted::default()
    };
    monitored.round(monitor.with(&findings));
    let (failed, text) = (rounded.failed, rounded.text());
    app.out.line(&Line::Round(rounded), || Some(text));
    app.warnings(client);
    if let Some(error) = problems(&round).next() {
        return Err(Failure::from(error.clone()));
    }
    if failed > 0 {
        let why = format!("{} not done", counted(failed, "key version"));
        return Err(Failure::new(Code::KeysLeft, why));
    }
    doctor::verdict(&findings)
}

/// What could not be done at all.
fn problems(round: &Round) -> impl Iterator<Item = &quorate_sdk::Error> {
    let roster = round.roster.as_ref().err();
    let synced = round.synced.as_ref().and_then(|synced| synced.as_ref().err());
    roster.into_iter().chain(synced).chain(&round.problems)
}

fn told_of(
    app: &App,
    (client, names): (&Client, &BTreeMap<NodeId, String>),
    event: &RoundEvent<'_>,
    brief: bool,
) {
    match event {
        RoundEvent::Listing | RoundEvent::Key(_) => {}
        RoundEvent::Dealt { alias, reshared } => {
            let line = Line::Refreshed(shown_reshare(client, names, alias, reshared));
            app.out.line(&line, || {
                let (version, healing) = (reshared.version, &reshared.healing);
                brief.then(|| format!("{alias} version {} refreshed; {healing}", version.get()))
            });
        }
        RoundEvent::Finished { key, alias, version } => {
            let line = Line::Finished { key: key.to_string(), alias, version: version.get() };
            let text = || format!("{alias} version {} finished", version.get());
            app.out.line(&line, || brief.then(text));
        }
        RoundEvent::Failed { key, alias, version, error } => {
            let line = Line::Failed {
                key: key.to_string(),
                alias,
                version: version.get(),
                code: error.code(),
                message: error.to_string(),
                next: error.next().to_string(),
            };
            let text = || {
                format!("{alias} version {}: NOT DONE: {error} [{}]", version.get(), error.code())
            };
            app.out.line(&line, || brief.then(text));
        }
    }
}

/// So long, give or take a quarter: coordinators that were started together drift apart.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness they do not, which does no harm.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    interval.mul_f64(0.75 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_a_quarter_apart_at_most_from_what_was_asked() {
        let minute = Duration::from_secs(60);
        for _ in 0..100 {
            let wait = jittered(minute);
            assert!(wait >= minute * 3 / 4 && wait <= minute * 5 / 4, "{wait:?}");
        }
    }
}
