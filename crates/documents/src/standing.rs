//! How a tenant stands: by its own document, by terms from above, and by all tenants above it.

use quorate_types::TenantId;

use crate::heads::Heads;
use crate::tenant::{Quota, Tenant, Terms};

/// One tenant on the way up from a tenant to its root, with the terms that count for it.
#[derive(Debug, Clone)]
pub struct Rung<'a> {
    /// The tenant.
    pub tenant: &'a Heads<Tenant>,
    /// What the authority above says of it, in any order.
    pub terms: Vec<&'a Heads<Terms>>,
}

/// How a tenant stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStanding {
    /// The tenant nearest to it that is suspended: itself, or one above.
    pub suspended: Option<TenantId>,
    /// Whether it is contested, or one above it.
    pub contested: bool,
    /// What it may have and use by its terms, the strictest of all.
    pub quota: Quota,
    /// Whom its users ask for help: by its terms, by itself, or by the nearest above; may be empty.
    pub support_contact: String,
}

/// Why a way up is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StandingError {
    /// No tenant at all.
    #[error("no tenant counts")]
    Empty,
    /// The next rung is not the tenant above, or the last has a tenant above it.
    #[error("a tenant above does not count")]
    Broken,
}

/// How a tenant stands, by the way from it up to its root tenant.
///
/// # Errors
/// [`StandingError`] where a tenant is missing on the way: such a tenant may do nothing.
pub fn standing(way_up: &[Rung<'_>]) -> Result<TenantStanding, StandingError> {
    let first = way_up.first().ok_or(StandingError::Empty)?;
    let above = way_up.iter().skip(1).map(|rung| Some(rung.tenant.id().into())).chain([None]);
    let whole = way_up.iter().zip(above).all(|(rung, above)| rung.tenant.parent() == above);
    let about = |rung: &Rung<'_>| {
        rung.terms.iter().all(|terms| terms.tenant() == TenantId::from(rung.tenant.id()))
    };
    if !whole || !way_up.iter().all(about) {
        return Err(StandingError::Broken);
    }
    let is_suspended =
        |rung: &&Rung<'_>| rung.tenant.suspended() || rung.terms.iter().any(|t| t.suspended());
    let said = way_up.iter().flat_map(|rung| {
        let own = core::iter::once(rung.tenant.support_contact());
        rung.terms.iter().map(|terms| terms.support_contact()).chain(own)
    });
    Ok(TenantStanding {
        suspended: way_up.iter().find(is_suspended).map(|rung| rung.tenant.id().into()),
        contested: way_up.iter().any(|rung| rung.tenant.contested()),
        quota: first.terms.iter().fold(Quota::default(), |q, terms| q.strictest(terms.quota())),
        support_contact: said.into_iter().find(|s| !s.is_empty()).unwrap_or_default().to_owned(),
    })
}
