//! The policies of tenants, parsed once for as long as they stay the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_authz::policy::PolicySet;
use quorate_documents::{Heads, Policy};
use quorate_types::{Digest, TenantId};

/// Work that all kept sets may be together, in the steps of a policy's cost: 32 of the largest sets, or
/// thousands of ordinary ones. A step is a node of a parsed policy, a few hundred bytes.
const MAX_KEPT_COST: u64 = 32 * quorate_authz::policy::MAX_DECISION_COST;

/// What a kept set counts for beside its policies.
const SET_COST: u64 = 64;

/// Parsed sets of tenants, the one that was not asked for longest dropped first.
#[derive(Debug, Default)]
pub(crate) struct Policies(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    sets: BTreeMap<TenantId, Set>,
    cost: u64,
    asked: u64,
}

#[derive(Debug)]
struct Set {
    /// The heads that it was parsed from.
    heads: Vec<Digest>,
    asked: u64,
    set: Arc<PolicySet>,
}

fn cost(set: &PolicySet) -> u64 {
    SET_COST + set.cost()
}

impl Kept {
    const fn new() -> Self {
        Self { sets: BTreeMap::new(), cost: 0, asked: 0 }
    }

    fn remove(&mut self, tenant: TenantId) {
        if let Some(gone) = self.sets.remove(&tenant) {
            self.cost = self.cost.saturating_sub(cost(&gone.set));
        }
    }
}

impl Policies {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Kept::new()))
    }

    /// The set of a tenant's policies, parsed unless the same heads were parsed before.
    pub(crate) fn of(&self, tenant: TenantId, policies: &[Arc<Heads<Policy>>]) -> Arc<PolicySet> {
        if policies.is_empty() {
            return Arc::new(PolicySet::of_tenant(tenant, &[]));
        }
        let mut heads: Vec<Digest> = policies.iter().flat_map(|p| p.digests()).collect();
        heads.sort_unstable();
        if let Some(known) = self.known(tenant, &heads) {
            return known;
        }
        // Not under the lock: this takes milliseconds, and others need not wait for it.
        let policies: Vec<&Heads<Policy>> = policies.iter().map(Arc::as_ref).collect();
        let set = Arc::new(PolicySet::of_tenant(tenant, &policies));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(tenant);
        while kept.cost + cost(&set) > MAX_KEPT_COST {
            let oldest = kept.sets.iter().min_by_key(|(_, set)| set.asked).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            kept.remove(oldest);
        }
        kept.cost += cost(&set);
        kept.asked += 1;
        let asked = kept.asked;
        kept.sets.insert(tenant, Set { heads, asked, set: Arc::clone(&set) });
        set
    }

    fn known(&self, tenant: TenantId, heads: &[Digest]) -> Option<Arc<PolicySet>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.asked += 1;
        let asked = kept.asked;
        let known = kept.sets.get_mut(&tenant).filter(|known| known.heads == heads)?;
        known.asked = asked;
        Some(Arc::clone(&known.set))
    }
}
