//! What the policies of a tenant come to, all of them: bounded before one more is taken.
//!
//! A set past its bounds denies every request of the tenant's keys, and no single text shows that. As with counts,
//! this is asked when a document comes, and is never part of what the set means: two that come to two nodes in
//! different order may make it so all the same, and then a version that makes the set no larger is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_authz::policy::{PolicySize, PolicySource};
use quorate_documents::{self as rules, BodyOf, Document, Heads, Policy, SignedDocument};
use quorate_types::{DocumentId, TenantId};
use quorate_wire::RefusalCode;

use super::loaded::Loaded;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::rules::policies_of;

/// The policies of each tenant of which one comes.
pub(super) struct Together {
    stored: BTreeMap<TenantId, Vec<Arc<Heads<Policy>>>>,
    /// What each document comes to, once somebody asks.
    sizes: BTreeMap<TenantId, BTreeMap<DocumentId, PolicySize>>,
}

impl Together {
    /// Reads what is needed to judge these documents.
    pub(super) fn gather<'d>(
        reads: &Reads<'_>,
        documents: impl Iterator<Item = &'d Document>,
    ) -> Result<Self, Stop> {
        let policies = documents.filter_map(|document| Policy::of(document.body()));
        let tenants: BTreeSet<TenantId> = policies.map(|policy| policy.tenant).collect();
        // All asked for before any is missed.
        let read: Vec<_> =
            tenants.into_iter().map(|tenant| (tenant, policies_of(reads, tenant))).collect();
        let stored = read.into_iter().map(|(tenant, policies)| Ok((tenant, policies?)));
        Ok(Self { stored: stored.collect::<Result<_, Stop>>()?, sizes: BTreeMap::new() })
    }

    /// Refuses a policy that takes its tenant's set past a bound, or further past it.
    pub(super) fn check(
        &mut self,
        document: &Arc<SignedDocument>,
        loaded: &Loaded,
    ) -> Result<(), Refused> {
        let Some(policy) = Policy::of(document.body()) else { return Ok(()) };
        let stored = self.stored.get(&policy.tenant).map(Vec::as_slice).unwrap_or_default();
        let sizes = self.sizes.entry(policy.tenant).or_insert_with(|| {
            let size = |heads: &Arc<Heads<Policy>>| PolicySize::of(&PolicySource::of(heads));
            stored.iter().map(|heads| (heads.id(), size(heads))).collect()
        });
        let total = |sizes: &BTreeMap<DocumentId, PolicySize>| {
            sizes.values().fold(PolicySize::default(), |all, size| all.plus(*size))
        };
        let before = total(sizes);
        let mut with = loaded.clone();
        with.insert(Arc::clone(document));
        let heads = rules::heads::<Policy, _>(&document.id(), &with);
        let size = heads.map(|heads| PolicySize::of(&PolicySource::of(&heads)));
        let replaced = sizes.insert(document.id(), size.unwrap_or_default());
        let after = total(sizes);
        let larger = after.policies > before.policies || after.cost > before.cost;
        after.bounded().or_else(|error| {
            if !larger {
                return Ok(());
            }
            match replaced {
                Some(size) => sizes.insert(document.id(), size),
                None => sizes.remove(&document.id()),
            };
            let message = format!("with the tenant's other policies: {error}");
            Err(Refused::new(RefusalCode::TooLarge, message))
        })
    }
}
