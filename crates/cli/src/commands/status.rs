//! `quorate cluster status`: how every node is, how much may still fail, what ends when.

use quorate_sdk::{NodeFailure, NotQuorate};
use serde::Serialize;

use crate::app::App;
use crate::commands::doctor::{self, Finding, Severity, facts};
use crate::commands::shares::{LOOKED_AT, ShownShares};
use crate::failure::Outcome;
use crate::output;

#[derive(Serialize)]
struct NodeLine {
    name: String,
    id: String,
    provider: String,
    jurisdiction: String,
    reached: bool,
    problem: Option<String>,
    round_trip_ms: Option<u64>,
    software: Option<String>,
    /// The versions of requests that it speaks: "1", or "1-2".
    versions: Option<String>,
    /// Which of them is spoken with this program.
    version: Option<u32>,
    /// The format of its store, and the newest that its software knows.
    store_format: Option<u32>,
    newest_store_format: Option<u32>,
    clock_offset_seconds: Option<i64>,
    same_roster: Option<bool>,
    roster_version: Option<u64>,
    documents: Option<u64>,
    lacks_documents: Option<usize>,
    keys: Option<u64>,
    shares: Option<u64>,
    open_sessions: Option<u64>,
    audit_records: Option<u64>,
    database_bytes: Option<u64>,
    database_limit_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    alarms: Vec<String>,
}

#[derive(Serialize)]
struct Status {
    cluster: String,
    name: String,
    roster_version: Option<u64>,
    roster_expires_at: u64,
    principal: Option<String>,
    principal_expires_at: Option<u64>,
    /// How many keys there are; none where they could not be looked at.
    keys: Option<usize>,
    /// How many more nodes may fail before some key cannot be used; below zero where one cannot already.
    spare: Option<i64>,
    /// The keys of which no more may fail.
    spare_of: Vec<String>,
    nodes: Vec<NodeLine>,
    /// Who holds the shares of the newest versions of the first keys, and what their last refreshes healed.
    shares: Vec<ShownShares>,
    /// The least of that: thefts of so many old shares; none where no shares of these were ever dealt anew.
    heals: Option<u16>,
    findings: Vec<Finding>,
    unchecked: Vec<String>,
}

/// What keeps nodes from showing a profile its keys.
const CLOSED: [&str; 3] = ["principal_refused", "principal_expired", "tenant_suspended"];

/// The shares of the newest versions of the first keys, as the nodes say.
async fn shares(client: &quorate_sdk::Client) -> Vec<ShownShares> {
    let mut shown = Vec::new();
    for key in client.first_keys(LOOKED_AT).await.unwrap_or_default() {
        let versions = key.versions();
        if let Some(newest) = versions.iter().rev().find(|version| version.generation.is_some()) {
            shown.extend(ShownShares::of(client, &key, newest).await);
        }
    }
    shown
}

/// Runs it.
pub async fn run(app: &App) -> Outcome {
    let client = app.administrator().await?;
    // A node that was away gets what it missed, and is asked how it is after that.
    app.carry(&client).await;
    let statuses = client.cluster_status().await;
    let facts = facts::of_cluster(app, &client, false).await;
    let findings = doctor::examine(&facts);
    let nodes = statuses
        .iter()
        .zip(facts.nodes())
        .map(|(s, facts)| {
            let report = s.status.as_ref().ok();
            let says = report.map(|r| &r.status);
            NodeLine {
                name: s.entry.name.clone(),
                id: s.entry.id.to_string(),
                provider: s.entry.provider.clone(),
                jurisdiction: s.entry.jurisdiction.to_string(),
                reached: report.is_some(),
                problem: s.status.as_ref().err().map(ToString::to_string),
                round_trip_ms: report
                    .map(|r| u64::try_from(r.round_trip.as_millis()).unwrap_or(u64::MAX)),
                software: says.map(|r| r.software.clone()),
                versions: says.and_then(facts::versions).map(|versions| versions.to_string()),
                version: report.map(|r| r.version),
                store_format: says.map(|r| r.store_format).filter(|format| *format > 0),
                newest_store_format: says
                    .map(|r| r.newest_store_format)
                    .filter(|format| *format > 0),
                clock_offset_seconds: report.map(|r| r.clock_offset),
                same_roster: report.map(|r| r.roster == Some(client.roster_digest())),
                roster_version: says.map(|r| r.roster_version),
                documents: says.map(|r| r.documents),
                lacks_documents: facts.lacks,
                keys: says.map(|r| r.keys),
                shares: says.map(|r| r.shares),
                open_sessions: says.map(|r| r.open_sessions),
                audit_records: says.map(|r| r.audit_records),
                database_bytes: says.map(|r| r.database_bytes),
                database_limit_bytes: says.map(|r| r.database_limit_bytes).filter(|b| *b > 0),
                disk_free_bytes: says.map(|r| r.disk_free_bytes),
                disk_total_bytes: says.map(|r| r.disk_total_bytes),
                resident_bytes: says.map(|r| r.resident_bytes),
                alarms: says.map(|r| r.alarms.clone()).unwrap_or_default(),
            }
        })
        .collect();
    let mut value = summary(&client, &facts, nodes, findings);
    value.shares = shares(&client).await;
    value.heals = value.shares.iter().filter_map(|shares| shares.healed.heals).min();
    app.out.result(&value, || value.text());
    app.warnings(&client);
    quorate(&statuses)?;
    doctor::verdict(&value.findings)
}

fn summary(
    client: &quorate_sdk::Client,
    facts: &facts::Facts,
    nodes: Vec<NodeLine>,
    findings: Vec<Finding>,
) -> Status {
    let cluster = facts.cluster.as_ref();
    let keys = cluster.map_or(&[] as &[facts::KeyFacts], |cluster| cluster.keys.as_slice());
    let spares: Vec<(i64, &str)> = keys
        .iter()
        .filter_map(|key| Some((doctor::keys::spare(facts, key)?, key.alias.as_str())))
        .collect();
    // What could not be had is among what was not looked at, by its name.
    let looked_at = cluster.is_some() && !facts.unchecked.iter().any(|w| w.starts_with("keys: "));
    let least = spares.iter().map(|(spare, _)| *spare).min();
    let own = cluster.and_then(|cluster| cluster.principals.iter().find(|p| p.own));
    let settled = match cluster.and_then(|cluster| cluster.roster.as_ref()) {
        Some(facts::RosterFacts::Settled { version, expires_at, .. }) => {
            Some((*version, *expires_at))
        }
        _ => None,
    };
    Status {
        cluster: client.cluster().to_string(),
        name: client.roster().name.clone(),
        roster_version: settled.map(|(version, _)| version),
        roster_expires_at: settled.map_or(client.roster().expires_at.0, |(_, at)| at),
        principal: own.map(|own| own.name.clone()),
        principal_expires_at: own.map(|own| own.expires_at),
        keys: looked_at.then_some(keys.len()),
        spare: least,
        spare_of: spares
            .iter()
            .filter(|(spare, _)| Some(*spare) == least)
            .map(|(_, alias)| (*alias).to_owned())
            .take(8)
            .collect(),
        nodes,
        shares: Vec::new(),
        heals: None,
        findings,
        unchecked: facts.unchecked.clone(),
    }
}

impl Status {
    /// What the last refreshes healed, and which keys wait for what; a few of them by name.
    fn healing(&self) -> Vec<String> {
        const NAMED: usize = 8;
        let notable: Vec<&ShownShares> =
            self.shares.iter().filter(|shares| shares.notable()).collect();
        let mut lines: Vec<String> = notable
            .iter()
            .take(NAMED)
            .map(|shares| format!("shares of {}: {}", shares.name(), shares.lines().join("; ")))
            .collect();
        if notable.len() > NAMED {
            let more = notable.len() - NAMED;
            lines.push(format!("and of {more} more keys; `quorate key show KEY` says each"));
        }
        if notable.is_empty() && !self.shares.is_empty() {
            lines.push("shares: as they were dealt when the keys were made".to_owned());
        }
        lines
    }

    fn text(&self) -> String {
        let mut rows = vec![
            [
                "NODE", "PROVIDER", "LAW", "STATE", "TRIP", "CLOCK", "ROSTER", "DOCS", "KEYS",
                "SHARES", "DATA", "FREE", "SOFTWARE", "SPEAKS", "STORE",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.extend(self.nodes.iter().map(|n| {
            let free = n.disk_free_bytes.zip(n.disk_total_bytes).filter(|(_, all)| *all > 0);
            vec![
                n.name.clone(),
                n.provider.clone(),
                n.jurisdiction.clone(),
                n.problem.clone().unwrap_or_else(|| "answers".to_owned()),
                or_dash(n.round_trip_ms.map(|ms| format!("{ms} ms"))),
                or_dash(n.clock_offset_seconds.map(|s| format!("{s:+} s"))),
                or_dash(n.roster_version.map(|v| v.to_string())),
                or_dash(n.documents.map(|d| match n.lacks_documents {
                    Some(lacks @ 1..) => format!("{d} (-{lacks})"),
                    _ => d.to_string(),
                })),
                or_dash(n.keys.map(|k| k.to_string())),
                or_dash(n.shares.map(|s| s.to_string())),
                or_dash(n.database_bytes.map(output::bytes)),
                or_dash(free.map(|(free, all)| format!("{} %", free.saturating_mul(100) / all))),
                or_dash(n.software.clone()),
                or_dash(n.versions.clone()),
                or_dash(n.store_format.map(|format| match n.newest_store_format {
                    Some(newest) if newest > format => format!("{format} of {newest}"),
                    _ => format.to_string(),
                })),
            ]
        }));
        let up = self.nodes.iter().filter(|n| n.reached).count();
        let mut lines = vec![
            format!("{} {}: {up} of {} nodes answer", self.name, self.cluster, self.nodes.len()),
            output::table(&rows),
        ];
        let of = self.spare_of.join(", ");
        lines.push(match self.spare {
            None if self.keys.is_none() => {
                "the keys could not be looked at: how many more nodes may fail is not known"
                    .to_owned()
            }
            None if self.findings.iter().any(|f| CLOSED.contains(&f.code)) => {
                "nodes show this profile no keys: see what is found below".to_owned()
            }
            None => "no key is made yet".to_owned(),
            Some(spare @ 0..) => {
                let nodes = if spare == 1 { "node" } else { "nodes" };
                format!("{spare} more {nodes} may fail for every key (least: {of})")
            }
            Some(short) => format!("{} more nodes must answer for {of}", short.unsigned_abs()),
        });
        lines.extend(self.healing());
        let version = self.roster_version.map_or("?".to_owned(), |version| version.to_string());
        let mut ends =
            format!("roster version {version} until {}", output::time(self.roster_expires_at));
        if let Some((name, at)) = self.principal.as_ref().zip(self.principal_expires_at) {
            ends.push_str(&format!("; principal \"{name}\" until {}", output::time(at)));
        }
        lines.push(ends);
        lines.extend(self.findings.iter().map(Finding::line));
        lines.extend(self.unchecked.iter().map(|what| format!("not looked at: {what}")));
        if self.findings.iter().any(|finding| finding.severity > Severity::Notice) {
            lines.push("`quorate doctor` says what to do about each.".to_owned());
        }
        lines.join("\n")
    }
}

/// Fails where fewer than most nodes have answered, so that a script notices.
fn quorate(statuses: &[quorate_sdk::NodeStatus]) -> Outcome {
    let answered = statuses.iter().filter(|s| s.status.is_ok()).count();
    let most = statuses.len() / 2 + 1;
    if answered >= most {
        return Ok(());
    }
    let (mut unreachable, mut refused) = (Vec::new(), Vec::new());
    for status in statuses {
        match &status.status {
            Ok(_) => {}
            Err(NodeFailure::Unreachable(node)) => unreachable.push(node.clone()),
            Err(NodeFailure::Refused(node)) => refused.push((**node).clone()),
        }
    }
    if unreachable.len() <= statuses.len() - most
        && let Some(refusal) = refused.first()
    {
        return Err(quorate_sdk::Error::Refused(Box::new(refusal.clone())).into());
    }
    let missing = NotQuorate {
        operation: "serve every request",
        needed: most,
        of: statuses.len(),
        answered,
        unreachable,
        refused,
        wrong: Vec::new(),
    };
    Err(quorate_sdk::Error::NotQuorate(Box::new(missing)).into())
}
