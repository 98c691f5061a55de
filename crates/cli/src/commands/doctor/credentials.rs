//! Checks about credentials that take others' places.

use super::checks::{DATA, found};
use super::facts::{Answer, Facts, Report};
use super::finding::{At, Found, Remedy, quoted};
use crate::output;

/// Nodes that say an alarm, by name.
fn alarmed<'a>(facts: &'a Facts, word: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    let says = move |report: &Report| report.alarms.iter().any(|alarm| alarm == word);
    facts.reports().filter(move |(_, report)| says(report)).map(|(node, _)| node.name.as_str())
}

pub fn credential_old_in_use(facts: &Facts) -> Vec<Found> {
    let retired = facts.nodes().iter().filter(|node| matches!(node.answer, Answer::RetiredKey));
    let retired = retired.map(|node| {
        let what = format!(
            "at {} somebody answers with a TLS key that {} gave up: an old copy of the node, or a thief",
            node.urls.join(", "),
            node.name
        );
        let remedy = Remedy::node(&node.name, format!("quorate node status --data-dir {DATA}"))
            .note(
                "Stop what listens there and find out whose it is. The node itself starts with its newest data.",
            );
        found(&node.name, what, remedy)
    });
    retired.collect()
}

pub fn credential_old_refused(facts: &Facts) -> Vec<Found> {
    alarmed(facts, "credential_old_in_use")
        .map(|name| {
            let what = format!(
                "within a day somebody came to {name} with a key that its owner gave up; it was refused"
            );
            let remedy = Remedy::here(format!("{} audit show --since 24h --all", facts.quorate()));
            let note = "A record with credential_retired is of this tenant: it says whose key that was. If its \
                        owner did not use it, it is stolen. Without one it was another tenant's.";
            found(name, what, remedy.note(note))
        })
        .collect()
}

pub fn keys_offered(facts: &Facts) -> Vec<Found> {
    alarmed(facts, "keys_offered")
        .map(|name| {
            let what = format!("{name} offers keys that no roster names yet");
            let remedy = Remedy {
                at: At::Administrator,
                commands: vec![
                    "quorate cluster update node-card.json --fingerprint digest-...".to_owned(),
                ],
                note: Some(format!(
                    "The card and its fingerprint come from the node's operator: quorate node status \
                     --data-dir {DATA}"
                )),
            };
            found(name, what, remedy)
        })
        .collect()
}

pub fn root_key_unfinished(facts: &Facts) -> Vec<Found> {
    alarmed(facts, "root_key_unfinished")
        .map(|name| {
            let what = format!("{name}'s root key was being replaced when that was interrupted");
            let remedy = Remedy {
                at: At::Node(name.to_owned()),
                commands: vec![
                    "systemctl stop quorate-node".to_owned(),
                    format!(
                        "quorate node rotate --root-key --new-root-key-file FILE --data-dir {DATA}"
                    ),
                    "systemctl start quorate-node".to_owned(),
                ],
                note: Some("FILE is the new key file, as it was named before.".to_owned()),
            };
            found(name, what, remedy)
        })
        .collect()
}

pub fn rotation_due(facts: &Facts) -> Vec<Found> {
    let keys = facts.cluster.iter().flat_map(|cluster| &cluster.keys);
    keys.filter_map(|key| Some((key, key.rotation_due.filter(|due| *due <= facts.now)?)))
        .map(|(key, due)| {
            let what =
                format!("a new version of \"{}\" is due since {}", key.alias, output::time(due));
            let command = format!("{} key rotate {}", facts.quorate(), quoted(&key.alias));
            found(&key.alias, what, Remedy::here(command))
        })
        .collect()
}
