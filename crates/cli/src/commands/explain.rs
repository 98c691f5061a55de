//! `quorate policy explain`: why a request was allowed or refused, by what each node has recorded.

use std::collections::BTreeSet;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use quorate_authz::policy::{PolicySet, policy_text};
use quorate_sdk::{Client, PolicyInfo};
use serde::Serialize;

use crate::app::App;
use crate::commands::audit::{self, AtNode, Event};
use crate::commands::policy::source;
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Which request.
pub struct Asked {
    pub what: Option<String>,
    pub principal: Option<String>,
    pub key: Option<String>,
    pub at: Option<String>,
    pub refused: bool,
}

/// A policy that decided.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Deciding {
    /// As the record has it: document, number in it, and its own name.
    name: String,
    /// What it says; none where this profile cannot know.
    text: Option<String>,
}

/// What one node decided, and why.
#[derive(Debug, Serialize)]
struct Said {
    node: String,
    /// NODE/INDEX, absent where the node has no record of the request.
    record: Option<String>,
    decision: Option<String>,
    /// The refusal in the node's words.
    said: Option<String>,
    /// What allowed it: a permission, a grant; or the grant that did not suffice.
    because: Vec<String>,
    policies: Vec<Deciding>,
    /// The digest of all policies that it asked.
    policy_set: Option<String>,
    /// Whether those are the policies of now.
    current: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Explained {
    time: u64,
    principal: Option<String>,
    principal_name: Option<String>,
    method: String,
    action: Option<String>,
    key: Option<String>,
    key_alias: Option<String>,
    key_version: u32,
    labels: usize,
    /// At every node that has a record of it.
    allowed: bool,
    nodes: Vec<Said>,
    /// How the nodes differ.
    differences: Vec<String>,
}

/// Runs it.
pub async fn run(app: &App, asked: Asked) -> Outcome {
    let client = app.client()?;
    let record = asked.what.as_deref().and_then(|what| record(&client, what));
    let object = asked.what.as_ref().filter(|_| record.is_none()).map(PathBuf::from);
    let filter = audit::Asked {
        key: asked.key,
        principal: asked.principal,
        object,
        all: record.is_some(),
        ..audit::Asked::default()
    };
    let at = asked.at.as_deref().map(audit::since).transpose()?;
    let mut found: Option<Event> = None;
    let logs = audit::read(&client, &filter, |event| {
        let wanted = match &record {
            Some((node, index)) => {
                event.nodes.iter().any(|at| at.node == *node && at.index == *index)
            }
            None => !asked.refused || event.nodes.iter().any(|at| at.decision != "ok"),
        };
        // Of several, the nearest to that time, or the newest.
        let better = match (at, &found) {
            (Some(at), Some(found)) => event.time.abs_diff(at) < found.time.abs_diff(at),
            _ => true,
        };
        if wanted && better {
            found = Some(event);
        }
    })
    .await?;
    let nodes = &logs.nodes;
    audit::warn_unread(app, nodes);
    let mut event = found.ok_or_else(|| {
        Failure::new(Code::Usage, "the nodes have recorded no such request").next(
            "`quorate audit show` lists those that they have; nodes keep no record of strangers.",
        )
    })?;
    logs.reconsider(&mut event);
    let read: Vec<&str> = nodes.iter().filter(|n| n.read).map(|n| n.name.as_str()).collect();
    let explained = explain(&client, event, &read).await?;
    app.out.result(&explained, || text(&explained));
    app.warnings(&client);
    Ok(())
}

/// NODE/INDEX, where such a node is in the roster; a file of that name is a file.
fn record(client: &Client, what: &str) -> Option<(String, u64)> {
    let (node, index) = what.rsplit_once('/')?;
    let index = index.parse().ok()?;
    let known = client.roster().nodes.iter().any(|entry| entry.name == node);
    (known && !std::path::Path::new(what).exists()).then(|| (node.to_owned(), index))
}

async fn explain(client: &Client, event: Event, read: &[&str]) -> Outcome<Explained> {
    // Who may not read policies sees their names at least.
    let history = client.policy_history().await.unwrap_or_default();
    let digest = |policies: &[PolicyInfo]| {
        let sources: Vec<_> = policies.iter().map(source).collect();
        HEXLOWER.encode(PolicySet::closed(&sources).digest().as_bytes())
    };
    let history: Vec<(String, Vec<PolicyInfo>)> =
        history.into_iter().map(|policies| (digest(&policies), policies)).collect();
    let mut nodes: Vec<Said> = event.nodes.iter().map(|at| said(at, &history)).collect();
    let mut differences = differences(&event.nodes);
    let with: BTreeSet<&str> = event.nodes.iter().map(|at| at.node.as_str()).collect();
    for node in read.iter().filter(|node| !with.contains(*node)) {
        nodes.push(Said {
            node: (*node).to_owned(),
            record: None,
            decision: None,
            said: None,
            because: Vec::new(),
            policies: Vec::new(),
            policy_set: None,
            current: None,
        });
    }
    if event.too_few {
        differences.push(
            "fewer nodes have recorded an answer than a request takes: it failed, or a node left its record out"
                .to_owned(),
        );
    }
    Ok(Explained {
        time: event.time,
        principal: event.principal,
        principal_name: event.principal_name,
        method: event.method,
        action: event.action,
        key: event.key,
        key_alias: event.key_alias,
        key_version: event.key_version,
        labels: event.labels,
        allowed: event.nodes.iter().all(|at| at.decision == "ok"),
        nodes,
        differences,
    })
}

fn differences(nodes: &[AtNode]) -> Vec<String> {
    let distinct = |of: fn(&AtNode) -> Option<&str>| -> BTreeSet<Option<&str>> {
        nodes.iter().map(of).collect()
    };
    let mut found = Vec::new();
    let decisions = distinct(|at| Some(at.decision.as_str()));
    if decisions.len() > 1 {
        let all: Vec<&str> = decisions.into_iter().flatten().collect();
        found.push(format!("the nodes decided differently: {}", all.join(", ")));
    }
    if distinct(|at| at.policies.as_deref()).len() > 1 {
        found.push(
            "the nodes asked different policies; `quorate cluster sync` brings each what it lacks"
                .to_owned(),
        );
    }
    found
}

/// "permission, policy a/1 (x), grant doc-..." as a list; a policy's own name may have commas.
fn reasons(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(", ").filter(|part| !part.is_empty()) {
        let begins = ["permission", "coordinator", "member", "and more"].contains(&part)
            || part.starts_with("policy ")
            || part.starts_with("grant ");
        match all.last_mut() {
            Some(last) if !begins => {
                last.push_str(", ");
                last.push_str(part);
            }
            _ => all.push(part.to_owned()),
        }
    }
    all
}

fn said(at: &AtNode, history: &[(String, Vec<PolicyInfo>)]) -> Said {
    let known = history.iter().find(|(digest, _)| Some(digest) == at.policies.as_ref());
    let current = history.first().map(|(digest, _)| Some(digest) == at.policies.as_ref());
    let (policies, because): (Vec<String>, Vec<String>) =
        reasons(&at.reasons).into_iter().partition(|reason| reason.starts_with("policy "));
    let policies = policies.iter().filter_map(|reason| reason.strip_prefix("policy "));
    let deciding = |name: &str| Deciding {
        name: name.to_owned(),
        text: known.and_then(|(_, policies)| text_of(policies, name)),
    };
    Said {
        node: at.node.clone(),
        record: Some(format!("{}/{}", at.node, at.index)),
        decision: Some(at.decision.clone()),
        said: (!at.detail.is_empty()).then(|| at.detail.clone()),
        because,
        policies: policies.map(deciding).collect(),
        policy_set: at.policies.clone(),
        current: current.filter(|_| at.policies.is_some()),
    }
}

/// What "NAME/NUMBER" or "NAME/NUMBER (LABEL)" says.
fn text_of(policies: &[PolicyInfo], name: &str) -> Option<String> {
    policies.iter().find_map(|policy| {
        let place = name.strip_prefix(policy.name.as_str())?.strip_prefix('/')?;
        let digits: String = place.chars().take_while(char::is_ascii_digit).collect();
        let number = digits.parse().ok()?;
        let head = policy.heads.iter().find(|head| !head.disabled)?;
        Some(policy_text(&head.text, number).trim().to_owned())
    })
}

fn text(explained: &Explained) -> String {
    let or = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let who = or(explained.principal_name.as_ref().or(explained.principal.as_ref()));
    let what = explained.action.as_ref().unwrap_or(&explained.method);
    let mut lines = vec![format!(
        "{}: {who} asked to {what}{}{}: {}",
        output::time(explained.time),
        match (&explained.key_alias, &explained.key) {
            (Some(alias), _) => format!(" with {alias} v{}", explained.key_version),
            (None, Some(key)) => format!(" with {key}"),
            (None, None) => String::new(),
        },
        if explained.labels > 0 {
            format!(", {} objects", explained.labels)
        } else {
            String::new()
        },
        if explained.allowed { "allowed" } else { "refused" },
    )];
    for node in &explained.nodes {
        let (Some(record), Some(decision)) = (&node.record, &node.decision) else {
            lines.push(format!("{}: has no record of it", node.node));
            continue;
        };
        let because = match (decision.as_str(), node.because.join(", ")) {
            (_, because) if because.is_empty() => String::new(),
            ("ok", because) => format!(", by {because}"),
            (_, because) => format!(", for {because}"),
        };
        lines.push(format!("{record}: {decision}{because}"));
        if let Some(said) = &node.said {
            lines.push(format!("    {said}"));
        }
        for policy in &node.policies {
            lines.push(format!("    policy {}:", policy.name));
            match &policy.text {
                Some(text) => lines.extend(text.lines().map(|line| format!("        {line}"))),
                None => lines.push("        (a text that this profile is not shown)".to_owned()),
            }
        }
        if node.current == Some(false) {
            lines.push("    The policies have been changed since.".to_owned());
        }
    }
    lines.extend(explained.differences.iter().map(|how| format!("NOTE: {how}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart_also_with_commas_in_names() {
        assert_eq!(reasons(""), Vec::<String>::new());
        assert_eq!(
            reasons("permission, policy a/1 (nights, weekends), grant doc-1, and more"),
            ["permission", "policy a/1 (nights, weekends)", "grant doc-1", "and more"]
        );
    }

    #[test]
    fn the_text_of_a_policy_is_found_by_its_place() {
        let text = "permit (principal, action, resource);\n@id(\"no; way\")\nforbid (principal, action, resource);";
        let policy = PolicyInfo {
            id: quorate_sdk::DocumentId::from_bytes([1; 32]),
            name: "hours".to_owned(),
            heads: vec![quorate_sdk::PolicyText { disabled: false, text: text.to_owned() }],
            changed_at: quorate_sdk::UnixSeconds(1),
        };
        let found = text_of(std::slice::from_ref(&policy), "hours/2 (no; way)").unwrap();
        assert!(found.starts_with("@id") && found.ends_with("resource);"), "{found}");
        assert_eq!(text_of(&[policy], "hour/2"), None);
    }
}
