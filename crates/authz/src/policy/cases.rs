//! Test cases for policies, and explanations: the same decisions as at a node, without one.

use core::net::IpAddr;
use std::collections::BTreeMap;

use quorate_types::{KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::{ContextError, EncryptionContext};
use serde::{Deserialize, Serialize};

use super::decide::{
    Decider, Effect, PolicyAction, PolicyDecision, PolicyItem, PolicyKey, PolicyOutcome,
    PolicyPrincipal, PolicyRequest, TooCostly,
};
use super::set::PolicySet;

/// Cases that one file may hold.
pub const MAX_CASES: usize = 10_000;

/// A file of cases, in TOML (`[[case]]`) or JSON (`{"case": [...]}`); see `spec/policy.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyCases {
    /// The cases, in order.
    #[serde(rename = "case")]
    pub cases: Vec<PolicyCase>,
}

/// One request, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyCase {
    /// What the case shows.
    pub name: String,
    /// Who asks.
    #[serde(default)]
    pub principal: CasePrincipal,
    /// For what: `encrypt`, `decrypt`, `rewrap` or `coordinate`.
    pub action: String,
    /// With which key.
    #[serde(default)]
    pub key: CaseKey,
    /// The encryption context.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
    /// Who made the object; the principal itself unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<PrincipalId>,
    /// When the object was made; now unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<u64>,
    /// The node's time; 2027-01-15 08:00 UTC unless it is said.
    #[serde(default = "case_time")]
    pub time: u64,
    /// From where; 192.0.2.1 unless it is said.
    #[serde(default = "case_source")]
    pub source: IpAddr,
    /// Whether the principal has the permission in its own document, or a grant.
    #[serde(default)]
    pub permitted: bool,
    /// What must come of it.
    pub expect: Expect,
    /// Which policies must have decided it, in any order; not looked at unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Vec<String>>,
}

const fn case_time() -> u64 {
    1_800_000_000
}

const fn case_source() -> IpAddr {
    IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1))
}

/// What a case expects: whether the request is allowed, or what the policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Allowed, with `permitted` taken into account.
    Allow,
    /// Not allowed, with `permitted` taken into account.
    Deny,
    /// The policies permit.
    Permit,
    /// The policies forbid.
    Forbid,
    /// No policy applies.
    Silent,
}

/// The principal of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CasePrincipal {
    /// Its id; any unless it is said.
    pub id: PrincipalId,
    /// Its tenant; the key's unless both are said.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Default for CasePrincipal {
    fn default() -> Self {
        Self {
            id: PrincipalId::from_bytes([1; 32]),
            tenant: TenantId::from_bytes([0; 32]),
            name: "somebody".into(),
            attributes: BTreeMap::new(),
        }
    }
}

/// The key of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseKey {
    /// Its id; any unless it is said.
    pub id: KeyId,
    /// Its tenant; the principal's unless both are said.
    pub tenant: TenantId,
    /// Its alias.
    pub alias: String,
    /// Its spec.
    pub spec: String,
    /// Its state.
    pub state: String,
    /// Its jurisdictions.
    pub jurisdictions: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Default for CaseKey {
    fn default() -> Self {
        Self {
            id: KeyId::from_bytes([2; 32]),
            tenant: TenantId::from_bytes([0; 32]),
            alias: "key".into(),
            spec: "PRF_RISTRETTO255_SHA512".into(),
            state: "active".into(),
            jurisdictions: Vec::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// Why a case cannot be asked at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// No such action.
    #[error("there is no action \"{0}\"; there are encrypt, decrypt, rewrap and coordinate")]
    Action(String),
    /// Not an encryption context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The policies ask too much.
    #[error(transparent)]
    TooCostly(#[from] TooCostly),
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Whether it is what the case expects.
    pub passed: bool,
    /// Whether a node would allow the request, as far as policies and permissions go.
    pub allowed: bool,
    /// What the policies say, and what each came to.
    pub explanation: Explanation,
}

/// What the policies say of one request, and what each came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What they say together.
    pub decision: PolicyDecision,
    /// Each policy by name, in the order of the documents.
    pub policies: Vec<(String, PolicyOutcome)>,
}

/// Whether a request is allowed: by a permission or a grant, or by a policy, and forbidden by none. A
/// principal of another tenant needs a grant; no policy takes its place.
#[must_use]
pub const fn allows(effect: Effect, permitted: bool, own_tenant: bool) -> bool {
    match effect {
        Effect::Permit => permitted || own_tenant,
        Effect::Silent => permitted,
        Effect::Forbid | Effect::Error => false,
    }
}

/// What the policies say of one item, or of a request without items, and why.
///
/// # Errors
/// [`TooCostly`].
pub fn explain(
    set: &PolicySet,
    request: &PolicyRequest<'_>,
    item: Option<(&EncryptionContext, PrincipalId, UnixSeconds)>,
) -> Result<Explanation, TooCostly> {
    let contexts: Vec<EncryptionContext> =
        item.iter().map(|(context, ..)| (*context).clone()).collect();
    let mut decider = Decider::new(set, request, &contexts);
    let item = item.map(|(_, creator, created_at)| PolicyItem { context: 0, creator, created_at });
    let decision = decider.decide(item)?.clone();
    Ok(Explanation { decision, policies: decider.outcomes(item)? })
}

impl PolicyCase {
    /// Asks the policies.
    ///
    /// # Errors
    /// [`CaseError`] where the case is no request.
    pub fn run(&self, set: &PolicySet) -> Result<CaseResult, CaseError> {
        let action = PolicyAction::from_name(&self.action)
            .ok_or_else(|| CaseError::Action(self.action.clone()))?;
        let pairs = |map: &BTreeMap<String, String>| -> Vec<(String, String)> {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let (attributes, tags) = (pairs(&self.principal.attributes), pairs(&self.key.tags));
        let unsaid = TenantId::from_bytes([0; 32]);
        let or = |said: TenantId, other: TenantId| if said == unsaid { other } else { said };
        let request = PolicyRequest {
            principal: PolicyPrincipal {
                id: self.principal.id,
                tenant: or(self.principal.tenant, self.key.tenant),
                name: &self.principal.name,
                attributes: &attributes,
            },
            action,
            key: PolicyKey {
                id: self.key.id,
                tenant: or(self.key.tenant, self.principal.tenant),
                alias: &self.key.alias,
                spec: &self.key.spec,
                state: &self.key.state,
                jurisdictions: &self.key.jurisdictions,
                tags: &tags,
            },
            time: UnixSeconds(self.time),
            source: self.source,
        };
        let context = EncryptionContext::new(&self.context)?;
        let creator = self.creator.unwrap_or(self.principal.id);
        let created_at = UnixSeconds(self.created_at.unwrap_or(self.time));
        let item = action.has_items().then_some((&context, creator, created_at));
        let explanation = explain(set, &request, item)?;
        let effect = explanation.decision.effect;
        let own_tenant = request.principal.tenant == request.key.tenant;
        let allowed = allows(effect, self.permitted, own_tenant);
        let expected = match self.expect {
            Expect::Allow => allowed,
            Expect::Deny => !allowed,
            Expect::Permit => effect == Effect::Permit,
            Expect::Forbid => effect == Effect::Forbid,
            Expect::Silent => effect == Effect::Silent,
        };
        let because = self.because.as_ref().is_none_or(|names| {
            let mut names = names.clone();
            names.sort();
            let mut found = explanation.decision.determining.clone();
            found.sort();
            names == found
        });
        Ok(CaseResult { passed: expected && because, allowed, explanation })
    }
}
