//! What is said of nodes that go, and of keys of which fewer nodes are to be enough.

use std::collections::BTreeMap;
use std::io::BufRead;

use quorate_sdk::{
    Client, CommitteePlan, KeyId, KeyVersion, Leaving, NamedAs, NamedBy, NodeId, UnverifiedKey,
};

use crate::app::App;
use crate::commands::dealt::{LISTED, Left, ShownKey, ShownOldShares};
use crate::failure::{Code, Failure, Outcome};

/// Key versions that are named of those whose erasure is not confirmed.
const FIRST: usize = 8;

/// The code of what is wrong with a key that does not verify.
pub const KEY_INVALID: &str = "key_invalid";

/// The names of nodes in the roster.
pub fn names(client: &Client, nodes: &[NodeId]) -> Vec<String> {
    let name = |node: &NodeId| {
        client.roster().node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    };
    nodes.iter().map(name).collect()
}

/// What may be done where the nodes that go give no answer, and the others are too few for the new ones to come.
pub fn at_once(client: &Client, gone: &[NodeId], said: bool) -> String {
    if said {
        return "Also without the nodes that go they are too few: start the others first."
            .to_owned();
    }
    format!(
        "Start the nodes that do not answer. If {} is gone for good, say it again with --drop: it leaves the roster at once, \
         before its keys were moved, and until they are each of them has one node less. Keys of other tenants have until \
         those move them.",
        names(client, gone).join(", ")
    )
}

/// What it means that nodes leave the roster before keys were moved.
pub fn before_moved(client: &Client, gone: &[NodeId], others: usize) -> String {
    let names = names(client, gone).join(", ");
    let theirs = match others {
        0 => String::new(),
        others => format!(
            ", and the keys of {others} other tenants until these run `quorate key move --all --replace {names}=NEW`"
        ),
    };
    format!(
        "{names} gave no answer and is dropped from the roster at once: until its keys are moved each of them has one node \
         less{theirs}"
    )
}

/// What names nodes that are to go, and what to do about each.
pub fn named(client: &Client, leaving: &Leaving) -> Vec<Left> {
    let version = |it: &NamedBy| {
        let NamedBy { alias, nodes, .. } = it;
        let names = names(client, nodes).join(",");
        let have = if nodes.len() == 1 { "has a share" } else { "have shares" };
        let take = if nodes.len() == 1 { "takes" } else { "take" };
        let why = match it.how {
            NamedAs::Holder => format!(
                "{names} {have} of it: deal them to others with `quorate key move {alias} --without {names}`, or --replace"
            ),
            NamedAs::Member => format!(
                "an order gives {names} a share of it: take that back with `quorate key move {alias} --without {names}`"
            ),
            NamedAs::Maker => format!(
                "it is not made yet, and {names} {take} part in its making: finish it with `quorate key create {alias} \
                 --resume`, and say this again; or have the key destroyed"
            ),
            NamedAs::HolderOfDoomed => format!(
                "{names} {have} of it, and its destruction can still be taken back: wait until it is over; or `quorate key \
                 keep {alias}`, move it, and have it destroyed anew"
            ),
            _ => format!("it names {names}"),
        };
        Left { key: shown(it.key, alias, it.version), code: None, why }
    };
    leaving.named.iter().map(version).chain(unverified(&leaving.unverified)).collect()
}

/// Keys that do not verify, of which nothing can be done.
pub fn unverified(keys: &[UnverifiedKey]) -> impl Iterator<Item = Left> + '_ {
    keys.iter().map(|key| Left {
        key: shown(key.id, &key.id.to_string(), KeyVersion::FIRST),
        code: Some(KEY_INVALID.to_owned()),
        why: format!("nobody can say who has its shares, since it does not verify: {}", key.why),
    })
}

/// Adds what there is to know of nodes by other keys.
pub fn add(all: &mut Leaving, more: Leaving) {
    all.named.extend(more.named);
    all.unverified.extend(more.unverified);
    for old in more.old {
        match all.old.iter_mut().find(|known| known.node == old.node) {
            Some(known) => {
                known.confirmed += old.confirmed;
                known.unconfirmed.extend(old.unconfirmed);
            }
            None => all.old.push(old),
        }
    }
}

/// What became of the shares that nodes had which go.
pub async fn old_shares(client: &Client, leaving: &Leaving) -> Vec<ShownOldShares> {
    let mut all = Vec::with_capacity(leaving.old.len());
    for old in &leaving.old {
        let mut keys = Vec::new();
        for ((key, version), _) in old.unconfirmed.iter().take(FIRST) {
            let found = client.key(key.to_string()).await;
            let alias = found.map_or_else(|_| key.to_string(), |key| key.alias().to_owned());
            keys.push(shown(*key, &alias, *version));
        }
        // Each reason once, with how many it is about.
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for (_, why) in &old.unconfirmed {
            *reasons.entry(why.to_string()).or_default() += 1;
        }
        all.push(ShownOldShares {
            node: names(client, &[old.node]).join(", "),
            confirmed: old.confirmed,
            unconfirmed: old.unconfirmed.len(),
            keys,
            why: reasons,
        });
    }
    all
}

fn shown(key: KeyId, alias: &str, version: KeyVersion) -> ShownKey {
    ShownKey { key: key.to_string(), alias: alias.to_owned(), version: version.get() }
}

/// Goes on where no key gets a smaller T, or where that was said to be meant: by the flag, or at the terminal.
pub fn agree(app: &App, plan: &CommitteePlan, lower: bool) -> Outcome {
    let mut lowered = Vec::new();
    for order in &plan.orders {
        if let Some(before) = order.lowers {
            let (alias, version) = (&order.alias, order.version);
            lowered.push(format!(
                "{alias} version {version}: {} in place of {before} nodes are enough, of {}",
                order.to.t(),
                order.to.n()
            ));
        }
    }
    if lowered.is_empty() {
        return Ok(());
    }
    let mut list: Vec<String> = lowered.iter().take(LISTED).cloned().collect();
    if lowered.len() > LISTED {
        list.push(format!("and {} more", lowered.len() - LISTED));
    }
    let list = list.join("\n");
    if lower {
        app.out.note(&list);
        return Ok(());
    }
    if app.out.asks() {
        app.out.note(&format!(
            "{list}\nWhoever steals so many shares later has the key, also after T is raised again. Type yes to go on:"
        ));
        if is_yes(&mut std::io::stdin().lock()) {
            return Ok(());
        }
    }
    Err(Failure::new(Code::LowersThreshold, list.replace('\n', "; ")))
}

/// Whether the next line says yes.
fn is_yes(input: &mut impl BufRead) -> bool {
    let mut line = String::new();
    input.read_line(&mut line).is_ok() && line.trim() == "yes"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        let says = |text: &str| is_yes(&mut text.as_bytes());
        assert!(says("yes\n") && says(" yes \nno\n"));
        assert!(!says("y\n") && !says("\nyes\n") && !says("") && !says("no\n") && !says("YES\n"));
    }
}
