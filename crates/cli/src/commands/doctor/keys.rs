//! Keys: versions, shares, and how many nodes may fail.

use super::checks::{administer, all_keys, found, start};
use super::facts::{Answer, Facts, KeyFacts, Stopped, VersionFacts};
use super::finding::{At, Found, Remedy, quoted};

fn newest_made(key: &KeyFacts) -> Option<&VersionFacts> {
    key.versions.iter().rev().find(|version| version.made)
}

pub(super) fn key_unverified(facts: &Facts) -> Vec<Found> {
    let unverified = facts.cluster.iter().flat_map(|cluster| &cluster.unverified);
    unverified
        .map(|(key, why)| {
            let what = format!("what the nodes show of {key} does not verify: {why}");
            let command = format!("{} cluster sync", facts.quorate());
            let note = "It brings the nodes the documents that they lack. Where the key does not verify after that, somebody \
                        who was permitted to signed what does not fit: `quorate audit show` says who and when. Until then no \
                        command refreshes, repairs or moves this key's shares.";
            found(key, what, Remedy::here(command).note(note))
        })
        .collect()
}

pub(super) fn key_unfinished(facts: &Facts) -> Vec<Found> {
    all_keys(facts)
        .filter_map(|key| Some((key, key.versions.last().filter(|version| !version.made)?)))
        .map(|(key, version)| {
            let what =
                format!("version {} of \"{}\" was never finished", version.number, key.alias);
            let command = format!("{} key create {} --resume", facts.quorate(), quoted(&key.alias));
            found(&key.alias, what, Remedy::here(command))
        })
        .collect()
}

fn without<'a>(
    facts: &'a Facts,
    codes: &'a [&'a str],
) -> impl Iterator<Item = (&'a KeyFacts, &'a str)> + 'a {
    all_keys(facts).flat_map(move |key| {
        let nodes = key.without_share.iter().filter(|(_, code)| codes.contains(&code.as_str()));
        nodes.map(move |(node, _)| (key, node.as_str()))
    })
}

pub(super) fn certificate_missing(facts: &Facts) -> Vec<Found> {
    without(facts, &["key_not_ready"])
        // While the newest version is unfinished, that is what is to be mended.
        .filter(|(key, _)| key.versions.last().is_some_and(|version| version.made))
        .map(|(key, node)| {
            let what = format!("{node} does not serve \"{}\": it lacks the certificate", key.alias);
            let command = format!("{} key create {} --resume", facts.quorate(), quoted(&key.alias));
            found(node, what, Remedy::here(command))
        })
        .collect()
}

/// The members of a key's newest version that lost their shares, where so many did that others cannot be dealt: it
/// takes T nodes that hold one.
fn lost_for_good(key: &KeyFacts) -> Option<(&VersionFacts, Vec<&str>)> {
    let version = newest_made(key)?;
    let lost = |name: &&str| {
        key.without_share.iter().any(|(node, code)| node == name && code == "share_not_held")
    };
    let lost: Vec<&str> = version.members.iter().map(String::as_str).filter(lost).collect();
    let left = version.members.len() - lost.len();
    (!lost.is_empty() && left < version.threshold).then_some((version, lost))
}

pub(super) fn shares_lost(facts: &Facts) -> Vec<Found> {
    all_keys(facts)
        .filter_map(|key| Some((key, lost_for_good(key)?)))
        .map(|(key, (version, lost))| {
            let (nodes, number, t) = (lost.join(" and "), version.number, version.threshold);
            let n = version.members.len();
            let share = if lost.len() == 1 { "its share" } else { "their shares" };
            let what = format!(
                "{nodes} lost {share} of version {number} of \"{}\": {t} of {n} nodes must hold one, and at most {} can",
                key.alias,
                n - lost.len()
            );
            let note = format!(
                "The nodes alone cannot recover it: `cluster repair` takes {t} nodes that hold shares. Put back a disk \
                 of {nodes}, or a backup with shares that was made since they were last dealt. Without one, what is \
                 sealed under version {number} is lost, and `{} key rotate {}` makes a version for new objects.",
                facts.quorate(),
                quoted(&key.alias)
            );
            let remedy = Remedy { at: At::Here, commands: Vec::new(), note: Some(note) };
            found(&key.alias, what, remedy)
        })
        .collect()
}

pub(super) fn share_missing(facts: &Facts) -> Vec<Found> {
    without(facts, &["generation_not_held", "share_not_held"])
        .filter(|(key, _)| lost_for_good(key).is_none())
        .map(|(key, node)| {
            let what = format!("{node} has lost its share of \"{}\"", key.alias);
            // All of one key at once: every member takes part, and who lost its share only where it is let in.
            let lacking = |code: &str| ["generation_not_held", "share_not_held"].contains(&code);
            let nodes = key.without_share.iter().filter(|(_, code)| lacking(code));
            let nodes: Vec<String> = nodes.map(|(node, _)| quoted(node)).collect();
            let command = format!("{} cluster repair {}", facts.quorate(), nodes.join(" "));
            let note = "It gets another share of each key that it lost one of; nothing that is sealed changes. \
                        Meanwhile T other nodes serve. Name no node of which you do not know that it lost its share: \
                        whoever has its keys and not its share would say so too.";
            found(node, what, Remedy::here(command).note(note))
        })
        .collect()
}

pub(super) fn share_restored(facts: &Facts) -> Vec<Found> {
    without(facts, &["share_restored"])
        .map(|(key, node)| {
            let what = format!(
                "{node} has its share of \"{}\" from a backup, and evaluates nothing with it",
                key.alias
            );
            let command = format!("{} cluster repair {}", facts.quorate(), quoted(node));
            let note = "It brings the node the documents that it missed, and has the shares of each such key dealt anew, \
                        to all its nodes at once. Meanwhile T other nodes serve. Whoever administers another tenant does \
                        the same for that tenant's keys.";
            found(node, what, Remedy::here(command).note(note))
        })
        .collect()
}

/// The members of a version that do not serve it now.
fn down<'a>(facts: &Facts, key: &'a KeyFacts, version: &'a VersionFacts) -> Vec<&'a str> {
    let serves = |name: &str| {
        let answers = facts.node(name).is_some_and(|n| matches!(n.answer, Answer::Report(_)));
        // What refuses a key for its state, or to seal under a fragile one, serves it; but for a node that has destroyed its
        // share.
        let destroyed = key.destroyed_by.iter().any(|(node, done)| node == name && *done);
        let serves_still = ["key_state", "key_fragile"];
        let refuses = |(node, code): &(String, String)| {
            node == name && (destroyed || !serves_still.contains(&code.as_str()))
        };
        answers && !key.without_share.iter().any(refuses)
    };
    version.members.iter().map(String::as_str).filter(|name| !serves(name)).collect()
}

/// How many more nodes of a key's committee may fail: below zero, the key cannot be used.
pub fn spare(facts: &Facts, key: &KeyFacts) -> Option<i64> {
    let version = newest_made(key)?;
    let up = version.members.len() - down(facts, key, version).len();
    Some(i64::try_from(up).ok()? - i64::try_from(version.threshold).ok()?)
}

/// Keys with so many to spare, where some of their nodes are down, by the nodes that are.
fn spared(facts: &Facts, is: impl Fn(i64) -> bool) -> Vec<(Vec<&str>, Vec<&KeyFacts>)> {
    let mut groups: Vec<(Vec<&str>, Vec<&KeyFacts>)> = Vec::new();
    for key in all_keys(facts) {
        let Some(version) = newest_made(key) else { continue };
        let down = down(facts, key, version);
        if down.is_empty() || !spare(facts, key).is_some_and(&is) {
            continue;
        }
        match groups.iter_mut().find(|(nodes, _)| *nodes == down) {
            Some((_, keys)) => keys.push(key),
            None => groups.push((down, vec![key])),
        }
    }
    groups
}

fn named(keys: &[&KeyFacts]) -> String {
    let first: Vec<String> = keys.iter().take(3).map(|k| format!("\"{}\"", k.alias)).collect();
    match keys.len().checked_sub(3) {
        Some(more) if more > 0 => format!("{} and {more} more keys", first.join(", ")),
        _ => first.join(", "),
    }
}

pub(super) fn committee_short(facts: &Facts) -> Vec<Found> {
    spared(facts, |spare| spare < 0)
        .into_iter()
        .map(|(nodes, keys)| {
            let what = format!("{} cannot be used: {} not serve it", named(&keys), are(&nodes));
            found(&nodes.join(", "), what, bring_back(facts, &nodes))
        })
        .collect()
}

fn are(nodes: &[&str]) -> String {
    let verb = if nodes.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", nodes.join(" and "))
}

/// Starts the first node that does not answer. One that answers and does not serve has a finding of its own.
fn bring_back(facts: &Facts, nodes: &[&str]) -> Remedy {
    let silent = |name: &&str| {
        !facts.node(name).is_some_and(|node| matches!(node.answer, Answer::Report(_)))
    };
    match nodes.iter().copied().find(silent) {
        Some(name) => start(name),
        None => Remedy {
            at: At::Here,
            commands: Vec::new(),
            note: Some("Its own finding says what to do.".to_owned()),
        },
    }
}

pub(super) fn committee_no_spare(facts: &Facts) -> Vec<Found> {
    spared(facts, |spare| spare == 0)
        .into_iter()
        .map(|(nodes, keys)| {
            let what = format!(
                "no further node may fail for {}: {} not serve it",
                named(&keys),
                are(&nodes)
            );
            found(&nodes.join(", "), what, bring_back(facts, &nodes))
        })
        .collect()
}

pub(super) fn committee_fragile(facts: &Facts) -> Vec<Found> {
    all_keys(facts)
        .filter_map(|key| Some((key, newest_made(key)?)))
        .filter(|(_, version)| version.members.len() > 1)
        .filter(|(_, version)| version.members.len() == version.threshold)
        // What is lost already takes another remedy.
        .filter(|(key, _)| lost_for_good(key).is_none())
        .map(|(key, version)| {
            let n = version.members.len();
            let what = format!(
                "\"{}\" takes all {n} nodes of its committee: losing one node loses the key",
                key.alias
            );
            let lower = n / 2 + usize::from(n > 2);
            let command = format!(
                "{} key rotate {} --threshold {lower}",
                facts.quorate(),
                quoted(&key.alias)
            );
            let note = "Then `quorate rewrap` moves what was sealed before.";
            found(&key.alias, what, Remedy::here(command).note(note))
        })
        .collect()
}

pub(super) fn key_suspended(facts: &Facts) -> Vec<Found> {
    let stopped = all_keys(facts).filter_map(|key| Some((key, key.stopped?)));
    stopped
        .map(|(key, stopped)| {
            let (what, command) = match stopped {
                Stopped::Suspended => ("is suspended", "key resume"),
                Stopped::ToBeDestroyed => ("waits for its destruction", "key keep"),
            };
            let what = format!("\"{}\" {what}: nodes do nothing with it", key.alias);
            let note = "If that is meant, nothing is to be done. Administrators sign it.";
            let command = format!("{command} {}", quoted(&key.alias));
            found(&key.alias, what, administer(facts, &command).note(note))
        })
        .collect()
}

pub(super) fn destruction_unasked(facts: &Facts) -> Vec<Found> {
    let said = all_keys(facts).flat_map(|key| key.destroyed_by.iter().map(move |it| (key, it)));
    said.map(|(key, (node, done))| {
        let alias = &key.alias;
        if !done {
            let what = format!(
                "{node} says that it will destroy its shares of \"{alias}\", and no document asks for that"
            );
            let note = "It may lack the newest version of the key's document, which this brings it. If it says so still, it \
                        lies. The key is used and dealt anew all the same.";
            let command = format!("{} cluster sync", facts.quorate());
            return found(node, what, Remedy::here(command).note(note));
        }
        let what = format!(
            "{node} says that it has destroyed its shares of \"{alias}\", and no document asks for that"
        );
        let has = |name: &&String| key.destroyed_by.iter().any(|(node, done)| node == *name && *done);
        let too_few = newest_made(key).is_some_and(|version| {
            version.members.len() - version.members.iter().filter(has).count() < version.threshold
        });
        if too_few {
            let note = "So many nodes say so that no others can be dealt. If they say the truth, what is sealed under the \
                        key is lost; this makes a version for new objects.";
            let command = format!("{} key rotate {}", facts.quorate(), quoted(alias));
            return found(node, what, Remedy::here(command).note(note));
        }
        let note = "Either the key was kept too late for this node, which then serves it never again; or the node lies. This \
                    deals the key to the others alone; --replace has another node take its place.";
        let command =
            format!("{} key move {} --without {}", facts.quorate(), quoted(alias), quoted(node));
        found(node, what, Remedy::here(command).note(note))
    })
    .collect()
}
