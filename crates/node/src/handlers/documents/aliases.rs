//! Whose an alias is at this node, when a principal gives it to a key.
//!
//! An alias is no part of what makes a key count: two keys may have one, as after a race. But whoever took a principal's
//! credential could have clients that know the alias alone stop, or take its key for the tenant's. So what a principal
//! signs gives no key an alias that another one has. As with counts, this is asked when a document comes, and is never part
//! of what the set means.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{self as rules, Body, BodyOf, Document, Key, Kind, Lookup, SignedDocument};
use quorate_types::{DocumentId, KeyId, KeyVersion, NodeId, TenantId};
use quorate_wire::RefusalCode;

use super::loaded::Loaded;
use crate::core::NodeCore;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, alias_prefix};
use crate::rows;
use crate::view::Read;

/// Keys of one alias that are looked at. Where there are as many, nobody races any more.
const LOOKED_AT: usize = 8;

/// Who has the aliases that keys are given by what comes.
pub(super) struct Aliases {
    node: NodeId,
    held: BTreeMap<(TenantId, String), Held>,
}

/// The keys that have one alias.
#[derive(Default)]
struct Held {
    /// Each, and whether it may yet give way.
    by: BTreeMap<DocumentId, bool>,
    /// There are more.
    many: bool,
}

impl Aliases {
    /// Reads what is needed to judge these documents.
    pub(super) fn gather<'d>(
        core: &NodeCore,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<Self, Stop> {
        let keys = came.filter_map(|document| Key::of(document.body()));
        let named: BTreeSet<_> = keys.map(|key| (key.tenant, key.alias.clone())).collect();
        let (node, mut held, mut unread) = (core.id(), BTreeMap::new(), false);
        for (tenant, alias) in named {
            let prefix = alias_prefix(tenant, &alias);
            let length = prefix.len();
            let range =
                Read::Range { table: Table::Aliases, prefix, after: None, limit: LOOKED_AT };
            let Ok(entries) = reads.range(range) else {
                unread = true;
                continue;
            };
            let mut found = Held { many: entries.len() == LOOKED_AT, ..Held::default() };
            for entry in entries {
                let id = entry.key().key.get(length..).map(KeyId::from_slice);
                let id = id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))?;
                // All asked for before any is missed.
                let heads = reads.row(&RowKey::heads(id.into()));
                let signed = reads.row(&RowKey::signed(id, KeyVersion::FIRST));
                let made = reads.row(&RowKey::certificate(id, KeyVersion::FIRST));
                let (Ok(heads), Ok(signed), Ok(made)) = (heads, signed, made) else {
                    unread = true;
                    continue;
                };
                let first = rows::heads::<Key>(heads)?;
                let first = first.as_ref().and_then(|heads| heads.version(KeyVersion::FIRST));
                let unmade = signed.bytes().is_none() && made.bytes().is_none();
                let founder = first.is_some_and(|first| first.order.founder(&node).is_some());
                found.by.insert(id.into(), unmade && founder);
            }
            held.insert((tenant, alias), found);
        }
        if unread { Err(Stop::Unread) } else { Ok(Self { node, held }) }
    }

    /// Refuses what a principal signs and would give a key an alias that another key of its tenant has. Where this node is
    /// to make that other key with others, and has signed nothing for it yet, the two race: then the one with the smaller id
    /// is taken at every node that has the other one, so that one of them is made.
    pub(super) fn check(
        &self,
        document: &SignedDocument,
        loaded: &Loaded,
        together: &Loaded,
    ) -> Result<(), Refused> {
        let (id, digest) = (document.id(), document.digest());
        let Some(key) = Key::of(document.body()) else { return Ok(()) };
        let alias = &key.alias;
        if called(&id, alias, loaded) {
            return Ok(());
        }
        // What administrators have signed a version upon that counts finds its way to all nodes.
        let own = rules::by_principals(&id, together);
        if together.get(&digest).is_some() && !own.iter().any(|version| version.digest() == digest)
        {
            return Ok(());
        }
        let none = Held::default();
        let held = self.held.get(&(key.tenant, alias.clone())).unwrap_or(&none);
        let here: BTreeSet<DocumentId> = loaded.documents_of(&[Kind::Key]).into_iter().collect();
        // Of those that came too, what has been stored of them counts.
        let before = held.by.iter().filter(|(other, _)| {
            **other != id && (!here.contains(other) || called(other, alias, loaded))
        });
        let came = here.iter().filter(|other| **other != id && !held.by.contains_key(other));
        let came = came.filter(|other| called(other, alias, loaded));
        let came = came.map(|other| (other, self.makes(other, loaded)));
        let all = before.map(|(other, open)| (other, *open)).chain(came);
        let mut firm = all.filter(|(other, open)| !open || **other < id).map(|(other, _)| *other);
        let taken = firm.next();
        if taken.is_none() && !held.many {
            return Ok(());
        }
        let whose = taken.map_or_else(String::new, |other| format!(", {}", KeyId::from(other)));
        let message = format!(
            "another key of the tenant is called \"{alias}\" already{whose}: administrators may give it to a second one, principals may not"
        );
        Err(Refused::new(RefusalCode::AliasTaken, message))
    }

    /// Whether a key of which the first version alone is here, since just now, is one that this node makes with others.
    fn makes(&self, key: &DocumentId, loaded: &Loaded) -> bool {
        let versions = loaded.versions(key);
        let [Body::Key(key)] = versions.iter().map(|v| v.body()).collect::<Vec<_>>()[..] else {
            return false;
        };
        let first = key.version(KeyVersion::FIRST);
        first.is_some_and(|first| first.order.founder(&self.node).is_some())
    }
}

/// Whether a head of a key has this alias.
fn called(key: &DocumentId, alias: &str, loaded: &Loaded) -> bool {
    let of =
        |version: &&SignedDocument| Key::of(version.body()).is_some_and(|it| it.alias == alias);
    loaded.versions(key).iter().any(of)
        && rules::heads::<Key, _>(key, loaded)
            .is_some_and(|heads| heads.iter().any(|head| head.body().alias == alias))
}
