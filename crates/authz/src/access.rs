//! Who may use one key: permissions, grants and policies together.

use std::collections::{BTreeSet, HashMap};

use quorate_documents::{Grant, Heads, Jurisdiction, Key, Rung};
use quorate_types::{Action, Digest, DocumentId, PrincipalId, UnixSeconds};
use quorate_wire::EncryptionContext;

use crate::policy::{
    Decider, Effect, PolicyAction, PolicyDecision, PolicyItem, PolicyKey, PolicyPrincipal,
    PolicyRequest, PolicySet, allows,
};
use crate::standing::way;
use crate::{Denied, GrantFault, Reason, Standing};

/// Reasons that one record lists.
const MAX_REASONS: usize = 16;

/// What a node knows that decides who may use one key.
#[derive(Debug, Clone, Copy)]
pub struct KeyAccess<'a> {
    /// The heads of the key document that the request names, if it counts.
    pub key: Option<&'a Heads<Key>>,
    /// The key's tenant and all above it with their terms, where that is not the caller's tenant.
    pub owner: &'a [Rung<'a>],
    /// The grants to the caller that count, of any key and tenant.
    pub grants: &'a [&'a Heads<Grant>],
    /// All policies of the key's tenant that count.
    pub policies: &'a PolicySet,
}

/// A key that the caller may know of.
pub(crate) struct Found<'a> {
    access: KeyAccess<'a>,
    pub(crate) key: &'a Heads<Key>,
    /// Whether it is of the caller's tenant.
    pub(crate) own: bool,
    /// Whether its tenant or the roster is contested: no grants then, no ceremonies, and no permits.
    pub(crate) contested: bool,
    /// Grants to the caller on this key by its tenant, whatever they allow.
    grants: Vec<&'a Heads<Grant>>,
}

impl<'a> KeyAccess<'a> {
    /// The key, if this caller may know that it exists: one of its tenant, one that it has or had a grant
    /// on, or one whose ceremonies it runs.
    ///
    /// # Errors
    /// [`Denied::KeyUnknown`] for any other, as for one that does not exist.
    pub(crate) fn find(&self, standing: &Standing<'_>) -> Result<Found<'a>, Denied> {
        let key = self.key.ok_or(Denied::KeyUnknown)?;
        let own = key.tenant() == standing.tenant();
        let to_caller = |grant: &&&Heads<Grant>| {
            grant.grantee() == standing.principal()
                && grant.grantee_tenant() == standing.tenant()
                && grant.key() == key.key_id()
                && grant.tenant() == key.tenant()
        };
        let grants: Vec<&Heads<Grant>> = self.grants.iter().filter(to_caller).copied().collect();
        let mut contested = standing.contested();
        if !own {
            if grants.is_empty() && key.coordinator() != Some(standing.principal()) {
                return Err(Denied::KeyUnknown);
            }
            let stands = way(self.owner, key.tenant())?.ok_or(Denied::KeyUnknown)?;
            if let Some(tenant) = stands.suspended {
                let support_contact = stands.support_contact;
                return Err(Denied::TenantSuspended { tenant, support_contact });
            }
            contested |= stands.contested;
        }
        Ok(Found { access: *self, key, own, contested, grants })
    }
}

impl<'a> Found<'a> {
    /// Whether the caller runs the ceremonies of this key by the key's own word.
    pub(crate) fn is_coordinator(&self, principal: PrincipalId) -> bool {
        self.key.coordinator() == Some(principal)
    }

    /// A grant that allows the caller anything now.
    pub(crate) fn any_grant(&self, now: UnixSeconds) -> Option<DocumentId> {
        let uses = [Action::Encrypt, Action::Decrypt, Action::Rewrap];
        let live = |grant: &&&Heads<Grant>| uses.iter().any(|action| grant.allows(*action, now));
        self.grants.iter().find(live).filter(|_| !self.contested).map(|grant| grant.id())
    }

    /// The digest for the audit record, where the tenant has policies.
    pub(crate) fn policies(&self) -> Option<Digest> {
        let set = self.access.policies;
        (!set.is_empty()).then(|| set.digest())
    }

    /// Makes ready to ask for one action.
    ///
    /// # Errors
    /// [`Denied`] where nothing could allow it, whatever the items are.
    pub(crate) fn ask(
        &self,
        standing: &Standing<'_>,
        action: Action,
        now: UnixSeconds,
    ) -> Result<Ask<'a>, Denied> {
        let set = self.access.policies;
        // A set of another tenant would silence this one's forbids.
        if set.tenant() != Some(self.key.tenant()) {
            let errors = vec!["the policies of the key's tenant were not read".to_owned()];
            return Err(Denied::PolicyFailed { errors });
        }
        let (principal, key) = (standing.principal(), self.key.key_id());
        let coordinates = action == Action::Coordinate
            && (self.is_coordinator(principal)
                || self.own && standing.permits(Action::Create, Some(&key)));
        let permission = coordinates || self.own && standing.permits(action, Some(&key));
        let grants: Vec<&Heads<Grant>> = if self.contested {
            Vec::new()
        } else {
            self.grants.iter().filter(|g| g.allows(action, now)).copied().collect()
        };
        let by_policy = self.own && !self.contested && !set.is_empty();
        if !permission && grants.is_empty() && !by_policy {
            return Err(match self.fault(action, now) {
                Some((grant, fault)) => Denied::Grant { grant, fault },
                None => Denied::NotPermitted { principal, action, key },
            });
        }
        Ok(Ask {
            found: self.clone(),
            principal,
            action,
            permission,
            grants,
            deciders: Vec::new(),
            covering: HashMap::new(),
            reasons: BTreeSet::new(),
        })
    }

    /// What keeps the newest of the grants from allowing the action, for people.
    fn fault(&self, action: Action, now: UnixSeconds) -> Option<(DocumentId, GrantFault)> {
        if self.contested {
            return None;
        }
        let grant = self.grants.iter().max_by_key(|grant| grant.expires_at())?;
        let fault = if grant.revoked() {
            GrantFault::Revoked
        } else if now < grant.not_before() {
            GrantFault::NotYet(grant.not_before())
        } else if now >= grant.expires_at() {
            GrantFault::Expired(grant.expires_at())
        } else {
            GrantFault::Action(action)
        };
        Some((grant.id(), fault))
    }
}

impl Clone for Found<'_> {
    fn clone(&self) -> Self {
        let Self { access, key, own, contested, grants } = self;
        Self { access: *access, key, own: *own, contested: *contested, grants: grants.clone() }
    }
}

/// One action on one key, to be asked for each item.
pub(crate) struct Ask<'a> {
    found: Found<'a>,
    principal: PrincipalId,
    action: Action,
    permission: bool,
    /// Grants that allow the action now; what they ask of the encryption context is still to be seen.
    grants: Vec<&'a Heads<Grant>>,
    /// One for every pair of a head of the principal and a head of the key.
    deciders: Vec<Decider<'a>>,
    /// Which grant covers a context, by its number.
    covering: HashMap<usize, Option<DocumentId>>,
    reasons: BTreeSet<Reason>,
}

/// One item, as it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Its number in the batch.
    pub(crate) position: usize,
    pub(crate) policy: PolicyItem,
}

impl<'a> Ask<'a> {
    /// Makes ready to decide items whose encryption contexts are these.
    pub(crate) fn prepare(
        &mut self,
        standing: &Standing<'_>,
        contexts: &[EncryptionContext],
        now: UnixSeconds,
    ) {
        let set = self.found.access.policies;
        let Some(action) = policy_action(self.action).filter(|_| !set.is_empty()) else { return };
        for principal in standing.heads().iter().map(|head| head.body()) {
            for key in self.found.key.iter().map(|head| head.body()) {
                let jurisdictions: Vec<String> =
                    key.jurisdictions.iter().map(Jurisdiction::to_string).collect();
                let request = PolicyRequest {
                    principal: PolicyPrincipal {
                        id: self.principal,
                        tenant: standing.tenant(),
                        name: &principal.name,
                        attributes: &principal.attributes,
                    },
                    action,
                    key: PolicyKey {
                        id: self.found.key.key_id(),
                        tenant: self.found.key.tenant(),
                        alias: &key.alias,
                        spec: key.spec.name(),
                        state: key.state.name(),
                        jurisdictions: &jurisdictions,
                        tags: &key.tags,
                    },
                    time: now,
                    source: standing.source(),
                };
                self.deciders.push(Decider::new(set, &request, contexts));
            }
        }
    }

    /// Whether one item is allowed, or the whole request where it has none.
    pub(crate) fn item(
        &mut self,
        item: Option<Item>,
        contexts: &[EncryptionContext],
    ) -> Result<(), Denied> {
        let covering = if self.permission { None } else { self.covering(item, contexts) };
        let permitted = self.permission || covering.is_some();
        let mut effect = Effect::Silent;
        let mut permits: Vec<String> = Vec::new();
        for (number, decider) in self.deciders.iter_mut().enumerate() {
            let decision = decider
                .decide(item.map(|item| item.policy))
                .map_err(|_| Denied::PolicyTooCostly)?;
            match decision.effect {
                Effect::Error | Effect::Forbid => {
                    return Err(refused(self.action, &self.found, item, decision));
                }
                // Under several heads, only what all of them permit is permitted.
                found if number == 0 => effect = found,
                Effect::Silent => effect = Effect::Silent,
                Effect::Permit => {}
            }
            if !permitted && effect == Effect::Permit {
                permits.clone_from(&decision.determining);
            }
        }
        if self.found.contested {
            effect = Effect::Silent;
        }
        if !allows(effect, permitted, self.found.own) {
            return Err(self.not_permitted(item));
        }
        match (self.permission, covering) {
            (true, _) => {
                let coordinates =
                    self.action == Action::Coordinate && self.found.is_coordinator(self.principal);
                let reason = if coordinates { Reason::Coordinator } else { Reason::Permission };
                self.because(reason);
            }
            (false, Some(grant)) => self.because(Reason::Grant(grant)),
            (false, None) => {
                permits.into_iter().for_each(|name| self.because(Reason::Policy(name)))
            }
        }
        Ok(())
    }

    fn because(&mut self, reason: Reason) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.insert(reason);
        } else if !self.reasons.contains(&reason) {
            self.reasons.insert(Reason::More);
        }
    }

    /// The first grant that covers the item's encryption context.
    fn covering(
        &mut self,
        item: Option<Item>,
        contexts: &[EncryptionContext],
    ) -> Option<DocumentId> {
        let Some(item) = item else {
            let grant = self.grants.iter().find(|grant| grant.covers_any());
            return grant.map(|grant| grant.id());
        };
        let number = item.policy.context;
        let grants = &self.grants;
        *self.covering.entry(number).or_insert_with(|| {
            let context = contexts.get(number)?;
            grants.iter().find(|grant| grant.covers(context)).map(|grant| grant.id())
        })
    }

    fn not_permitted(&self, item: Option<Item>) -> Denied {
        let (principal, action, key) = (self.principal, self.action, self.found.key.key_id());
        match (item, self.grants.first()) {
            (Some(item), Some(grant)) => {
                let fault = GrantFault::Context(item.position);
                Denied::Grant { grant: grant.id(), fault }
            }
            (Some(Item { position: item, .. }), None) => {
                Denied::ItemNotPermitted { principal, action, key, item }
            }
            (None, _) => Denied::NotPermitted { principal, action, key },
        }
    }

    pub(crate) fn into_reasons(self) -> BTreeSet<Reason> {
        self.reasons
    }
}

fn refused(
    action: Action,
    found: &Found<'_>,
    item: Option<Item>,
    decision: &PolicyDecision,
) -> Denied {
    if decision.effect == Effect::Forbid {
        return Denied::PolicyForbids {
            action,
            key: found.key.key_id(),
            item: item.map(|item| item.position),
            policies: decision.determining.iter().take(MAX_REASONS).cloned().collect(),
        };
    }
    Denied::PolicyFailed { errors: decision.errors.iter().take(MAX_REASONS).cloned().collect() }
}

/// The action's name in policies, for those that nodes ask policies about.
pub(crate) const fn policy_action(action: Action) -> Option<PolicyAction> {
    match action {
        Action::Encrypt => Some(PolicyAction::Encrypt),
        Action::Decrypt => Some(PolicyAction::Decrypt),
        Action::Rewrap => Some(PolicyAction::Rewrap),
        Action::Coordinate => Some(PolicyAction::Coordinate),
        Action::Create | Action::Grant | Action::Change | Action::Audit => None,
    }
}
