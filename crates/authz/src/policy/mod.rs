//! Policies: Cedar over what this node knows of a request. What they mean is in `spec/policy.md`.
//!
//! A [`PolicySet`] is all policies of a tenant, parsed and validated. A [`Decider`] asks it for the
//! items of one request, and asks once for all that it cannot tell apart. Policies see the caller, the
//! key, one item and the node's time, and no other entity.

mod cases;
mod decide;
mod inputs;
mod set;
mod text;

pub use cases::{
    CaseError, CaseKey, CasePrincipal, CaseResult, Expect, Explanation, MAX_CASES, PolicyCase,
    PolicyCases, allows, explain,
};
pub use decide::{
    Decider, Effect, MAX_REQUEST_COST, PolicyAction, PolicyDecision, PolicyItem, PolicyKey,
    PolicyOutcome, PolicyPrincipal, PolicyRequest, TooCostly, decide,
};
pub use inputs::Inputs;
pub use set::{
    MAX_DECISION_COST, PolicyHead, PolicySet, PolicySetError, PolicySize, PolicySource, SCHEMA,
    check, policy_text,
};
pub use text::{MAX_POLICIES, MAX_POLICY_TEXT_BYTES, PolicyError};
