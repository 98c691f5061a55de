//! Whether this profile is let in: its files, its principal, its tenant.

use super::checks::{DAY, administer, days, found, refusing};
use super::facts::{Answer, Facts, PrincipalFacts};
use super::finding::{At, Found, Remedy, quoted};
use crate::output;

/// Days before its end from which a principal is named.
const PRINCIPAL_DAYS: u64 = 14;

pub(super) fn profile_unusable(facts: &Facts) -> Vec<Found> {
    let Some((what, command)) = &facts.profile_problem else { return Vec::new() };
    let remedy = Remedy { at: At::Here, commands: command.iter().cloned().collect(), note: None };
    vec![found(&facts.profile, what.clone(), remedy)]
}

fn own(facts: &Facts) -> Option<&PrincipalFacts> {
    facts.cluster.as_ref()?.principals.iter().find(|principal| principal.own)
}

/// How a principal is renewed: the first one is made for longer than others.
fn renew(facts: &Facts, name: &str) -> Remedy {
    administer(facts, &format!("principal renew {} --days 90", quoted(name)))
}

pub(super) fn principal_expired(facts: &Facts) -> Vec<Found> {
    let refused = refusing(facts, |code| code == "principal_expired").next().is_some();
    let over = own(facts).filter(|own| own.expires_at <= facts.now);
    if !refused && over.is_none() {
        return Vec::new();
    }
    let name = own(facts).map_or("NAME", |own| own.name.as_str());
    let what = match own(facts) {
        Some(own) => format!("\"{}\" expired at {}", own.name, output::time(own.expires_at)),
        None => "this profile's principal has expired".to_owned(),
    };
    vec![found(name, what, renew(facts, name))]
}

pub(super) fn principal_expiring(facts: &Facts) -> Vec<Found> {
    let Some(own) = own(facts) else { return Vec::new() };
    if !soon(facts, own.expires_at) || own.expires_at <= facts.now {
        return Vec::new();
    }
    let left = days(own.expires_at - facts.now);
    let what = format!("\"{}\" expires in {left}, at {}", own.name, output::time(own.expires_at));
    vec![found(&own.name, what, renew(facts, &own.name))]
}

fn soon(facts: &Facts, at: u64) -> bool {
    at < facts.now.saturating_add(PRINCIPAL_DAYS * DAY)
}

pub(super) fn principals_expiring(facts: &Facts) -> Vec<Found> {
    let all = facts.cluster.iter().flat_map(|cluster| &cluster.principals);
    all.filter(|principal| !principal.own && soon(facts, principal.expires_at))
        .map(|principal| {
            let at = output::time(principal.expires_at);
            let what = match principal.expires_at.checked_sub(facts.now) {
                Some(left) if left > 0 => {
                    format!("\"{}\" expires in {}, at {at}", principal.name, days(left))
                }
                _ => format!("\"{}\" expired at {at}", principal.name),
            };
            found(&principal.name, what, renew(facts, &principal.name))
        })
        .collect()
}

/// What most nodes that refuse with one of these codes say.
fn said<'a>(facts: &'a Facts, codes: &'a [&'a str]) -> Option<(&'a str, &'a str)> {
    let answers = facts.nodes().iter().filter_map(|node| match &node.answer {
        Answer::Refusal { code, message } if codes.contains(&code.as_str()) => {
            Some((code.as_str(), message.as_str()))
        }
        _ => None,
    });
    answers.max_by_key(|(code, _)| refusing(facts, |other| other == *code).count())
}

pub(super) fn principal_refused(facts: &Facts) -> Vec<Found> {
    let served = facts.reports().next().is_some();
    // A node alone that does not know it lacks documents.
    let codes: &[&str] = match served {
        true => &["principal_revoked", "credential_retired"],
        false => &["principal_revoked", "credential_retired", "principal_unknown"],
    };
    let Some((code, message)) = said(facts, codes) else { return Vec::new() };
    let (what, note) = match code {
        "principal_revoked" => (
            "this profile's principal is revoked",
            "Ask an administrator why. A new profile gets a new principal: `quorate --profile new principal request` here, \
             and what it prints to an administrator.",
        ),
        "credential_retired" => (
            "this profile has a key that its principal gave up",
            "Another machine rotated the key and has the present one; or somebody stole it and did. Ask an administrator, \
             who can revoke the principal and add another.",
        ),
        _ => (
            "no node knows this profile's principal",
            "Give the administrator what the command prints: `quorate principal add NAME --public-key KEY`. If it was added a \
             moment ago, `quorate cluster sync` by the administrator brings it to all nodes.",
        ),
    };
    let commands = match code {
        "principal_unknown" => vec![format!("{} principal request", facts.quorate())],
        _ => Vec::new(),
    };
    let remedy = Remedy { at: At::Here, commands, note: Some(note.to_owned()) };
    vec![found(&facts.profile, format!("{what}: {message}"), remedy)]
}

pub(super) fn tenant_suspended(facts: &Facts) -> Vec<Found> {
    let Some((_, message)) = said(facts, &["tenant_suspended"]) else { return Vec::new() };
    let remedy = Remedy {
        at: At::Administrator,
        commands: Vec::new(),
        note: Some(format!(
            "Whoever administers the tenant above resumes it: `quorate tenant resume {}`. Nothing is lost meanwhile.",
            facts.tenant.as_ref().map_or("TENANT", |tenant| tenant.id.as_str())
        )),
    };
    vec![found("tenant", format!("nodes refuse this profile: {message}"), remedy)]
}

pub(super) fn tenant_contested(facts: &Facts) -> Vec<Found> {
    let Some(tenant) = facts.tenant.as_ref().filter(|tenant| tenant.contested) else {
        return Vec::new();
    };
    let what = format!(
        "two versions of the tenant \"{}\" contend: only what both allow counts, and nothing new is signed",
        tenant.name
    );
    let note =
        "The recovery key that the tenant names settles it, from the file that was kept apart.";
    let command =
        "admin recover --recovery-key-file \"${RECOVERY_KEY_FILE:?the recovery key's file}\"";
    vec![found(&tenant.name, what, administer(facts, command).note(note))]
}
