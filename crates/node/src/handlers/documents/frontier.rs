//! Whether all that an authority version keeps is here. One entry that is not says that it waits, and no other is read.
//!
//! Which one that was is remembered: all before it in the frontier were here then, and nothing is ever removed. So a
//! version that waits costs two rows each time, whatever it names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use quorate_documents::{Document, FrontierEntry, Kind, Lookup, SignedDocument, frontier_present};
use quorate_types::Digest;

use super::loaded::{Loaded, Loader};
use crate::refused::Stop;
use crate::row::RowKey;
use crate::rows;
use crate::step::Write;
use crate::view::Entry;

/// Entries that are looked up in the first round of reads. One that is not here is mostly found among them.
const FIRST_ENTRIES: usize = 16;

/// How many times as many are looked up in each round after it: all of the longest frontier in four.
const MORE_ENTRIES: usize = 16;

/// What a version still waits for.
#[derive(Clone, Default)]
struct Waits {
    /// Entries that were not stored, by their places in the frontier: those that came with this request, up to the first
    /// that did not.
    lacks: Vec<(u32, FrontierEntry)>,
    /// The place that was remembered.
    remembered: Option<u32>,
}

impl Waits {
    /// The place of the first entry that is not among what is here now either.
    fn first<'a>(&self, here: impl Fn(&Digest) -> Option<&'a SignedDocument>) -> Option<u32> {
        let lacks = |(_, entry): &&(u32, FrontierEntry)| {
            here(&entry.digest).is_none_or(|v| v.id() != entry.id || v.version() != entry.version)
        };
        self.lacks.iter().find(lacks).map(|(place, _)| *place)
    }
}

/// What is known of the frontiers of authority versions.
#[derive(Clone, Default)]
pub(super) struct Frontiers {
    /// Those whose frontier was here before.
    complete: BTreeSet<Digest>,
    waits: HashMap<Digest, Waits>,
}

impl Frontiers {
    /// Takes over what another knows more.
    pub(super) fn extend(&mut self, more: &Self) {
        self.complete.extend(&more.complete);
        self.waits.extend(more.waits.iter().map(|(digest, waits)| (*digest, waits.clone())));
    }

    /// Whether a version's frontier was here before, or is now with what came.
    pub(super) fn are_here<'a>(
        &self,
        version: &Digest,
        came: impl Fn(&Digest) -> Option<&'a SignedDocument>,
    ) -> bool {
        let first = |waits: &Waits| waits.first(&came);
        self.complete.contains(version)
            || self.waits.get(version).is_some_and(|waits| first(waits).is_none())
    }
}

impl<'v> Loader<'_, 'v> {
    fn row(&mut self, key: &RowKey) -> Option<&'v Arc<Entry>> {
        self.attempt(self.reads.row(key))
    }

    /// Looks whether what a version keeps is here, as far as that takes.
    ///
    /// # Security
    /// A tenant's administrators sign versions of thousands of entries that nothing stands for. Whoever stands above them
    /// must still be able to say something of that tenant.
    pub(super) fn frontier(&mut self, document: &Document) -> Result<(), Stop> {
        let (digest, frontier) = (document.digest(), document.frontier());
        if frontier.is_empty() || self.loaded.frontiers.complete.contains(&digest) {
            return Ok(());
        }
        let complete = self.row(&RowKey::complete(digest));
        let remembered = self.row(&RowKey::waits(digest));
        let (Some(complete), Some(remembered)) = (complete, remembered) else { return Ok(()) };
        if complete.bytes().is_some() {
            self.loaded.know(|frontiers| _ = frontiers.complete.insert(digest));
            return Ok(());
        }
        let remembered = match remembered.bytes() {
            None => None,
            Some(bytes) => {
                let bytes = bytes.try_into().map_err(|_| rows::damaged(remembered))?;
                Some(u32::from_be_bytes(bytes))
            }
        };
        let mut waits = Waits { remembered, ..Waits::default() };
        let mut at = remembered.map_or(0, |at| usize::try_from(at).unwrap_or(usize::MAX));
        // The one that was missing first, by itself: mostly it still is.
        let mut many = if remembered.is_some() { 1 } else { FIRST_ENTRIES };
        while let Some(rest) = frontier.get(at..).filter(|rest| !rest.is_empty()) {
            let (mut unread, mut nobodys) = (false, false);
            for (place, entry) in (at..).zip(rest.iter().take(many)) {
                match self.row(&RowKey::document(entry.id, entry.version, entry.digest)) {
                    None => unread = true,
                    Some(row) if row.bytes().is_some() => {}
                    Some(_) if nobodys => {}
                    Some(_) => {
                        waits.lacks.push((u32::try_from(place).unwrap_or(u32::MAX), *entry));
                        nobodys = !self.came.contains(&entry.digest);
                    }
                }
            }
            if unread {
                return Ok(());
            }
            if nobodys {
                break;
            }
            at = at.saturating_add(many);
            many = many.saturating_mul(MORE_ENTRIES);
        }
        self.loaded.know(|frontiers| _ = frontiers.waits.insert(digest, waits));
        Ok(())
    }
}

/// Authority versions that may take effect from now on, whatever their frontiers hold; and what others wait for.
pub(super) fn completed(loaded: &Loaded) -> Vec<Write> {
    let authorities = loaded.documents_of(&[Kind::Roster, Kind::Tenant]);
    let versions = authorities.iter().flat_map(|id| loaded.versions(id));
    let mut writes = Vec::new();
    for version in versions.filter(|version| !version.frontier().is_empty()) {
        let digest = version.digest();
        if loaded.frontiers.complete.contains(&digest) {
            continue;
        }
        let waits = loaded.frontiers.waits.get(&digest);
        let remembered = waits.and_then(|waits| waits.remembered);
        if loaded.complete_before(&digest) || frontier_present(version, loaded) {
            writes.push(Write::Put(RowKey::complete(digest), Vec::new()));
            if remembered.is_some() {
                writes.push(Write::Delete(RowKey::waits(digest)));
            }
        } else if let Some(first) = waits.and_then(|waits| waits.first(|it| loaded.version(it)))
            && remembered != Some(first)
        {
            writes.push(Write::Put(RowKey::waits(digest), first.to_be_bytes().to_vec()));
        }
    }
    writes
}
