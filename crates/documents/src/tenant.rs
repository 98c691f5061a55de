//! Tenants, and what the authority above says of them.

use quorate_types::{Action, TenantId};
use quorate_wire::proto::v1;

use crate::body::{Administrators, administrators, recovery};
use crate::fields::{BodyError, actions, actions_to_proto, fixed, name, optional, text_or_empty};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// The tenant that made it; none for a root tenant, which the cluster's administrators made.
    pub parent: Option<TenantId>,
    /// Who signs its principals and its next version.
    pub administrators: Administrators,
    /// Who settles it when it is contested.
    pub recovery: Option<Administrators>,
    /// Whom its users ask for help; may be empty.
    pub support_contact: String,
    /// Nothing is allowed to its principals while this is set.
    pub suspended: bool,
    /// What principals may sign elsewhere and only a quorum of administrators may sign here: any of
    /// `create`, `grant` and `change`.
    pub critical: Vec<Action>,
}

impl Tenant {
    /// A checked tenant.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Tenant) -> Result<Self, BodyError> {
        let parent = optional(&proto.parent, "parent")?.map(TenantId::from_bytes);
        let critical =
            actions("critical", &proto.critical, &[Action::Create, Action::Grant, Action::Change])?;
        Ok(Self {
            name: name("name", &proto.name)?,
            parent,
            administrators: administrators(proto.administrators.as_ref())?,
            recovery: recovery(proto.recovery.as_ref())?,
            support_contact: text_or_empty("support_contact", &proto.support_contact)?,
            suspended: proto.suspended,
            critical,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Tenant {
        v1::Tenant {
            name: self.name.clone(),
            parent: self.parent.map(|p| p.as_bytes().to_vec()).unwrap_or_default(),
            administrators: Some(self.administrators.to_proto()),
            recovery: self.recovery.as_ref().map(Administrators::to_proto),
            support_contact: self.support_contact.clone(),
            suspended: self.suspended,
            critical: actions_to_proto(&self.critical),
        }
    }
}

/// How much a tenant may have and use. 0 where nothing is said; nodes have bounds of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Direct children.
    pub tenants: u32,
    /// Principals.
    pub principals: u32,
    /// Keys.
    pub keys: u32,
    /// Bytes of its documents.
    pub document_bytes: u64,
    /// Requests of its principals to one node in a day.
    pub requests_per_day: u64,
    /// Labels evaluated for its principals by one node in a day.
    pub labels_per_day: u64,
}

impl Quota {
    /// The smaller of both in everything, where 0 is no bound.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        fn least<N: Ord + Default>(a: N, b: N) -> N {
            let none = N::default();
            if a == none {
                b
            } else if b == none {
                a
            } else {
                a.min(b)
            }
        }
        Self {
            tenants: least(self.tenants, other.tenants),
            principals: least(self.principals, other.principals),
            keys: least(self.keys, other.keys),
            document_bytes: least(self.document_bytes, other.document_bytes),
            requests_per_day: least(self.requests_per_day, other.requests_per_day),
            labels_per_day: least(self.labels_per_day, other.labels_per_day),
        }
    }

    const fn from_proto(proto: &v1::Quota) -> Self {
        Self {
            tenants: proto.tenants,
            principals: proto.principals,
            keys: proto.keys,
            document_bytes: proto.document_bytes,
            requests_per_day: proto.requests_per_day,
            labels_per_day: proto.labels_per_day,
        }
    }

    const fn to_proto(self) -> v1::Quota {
        v1::Quota {
            tenants: self.tenants,
            principals: self.principals,
            keys: self.keys,
            document_bytes: self.document_bytes,
            requests_per_day: self.requests_per_day,
            labels_per_day: self.labels_per_day,
        }
    }
}

/// What the authority above says of a tenant: the parent's administrators, or the cluster's of a
/// root tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The tenant that they are about; no version changes it.
    pub tenant: TenantId,
    /// Nothing is allowed to its principals, nor to those of tenants below it.
    pub suspended: bool,
    /// What it may have and use.
    pub quota: Quota,
    /// Whom its users ask for help; may be empty.
    pub support_contact: String,
    /// Why; may be empty.
    pub reason: String,
}

impl Terms {
    /// Checked terms.
    ///
    /// # Errors
    /// [`BodyError`]; also for a quota that says nothing, of which there must be none.
    pub fn from_proto(proto: &v1::Terms) -> Result<Self, BodyError> {
        let quota = proto.quota.as_ref().map(Quota::from_proto);
        if quota == Some(Quota::default()) {
            return Err(BodyError::Missing("quota"));
        }
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            suspended: proto.suspended,
            quota: quota.unwrap_or_default(),
            support_contact: text_or_empty("support_contact", &proto.support_contact)?,
            reason: text_or_empty("reason", &proto.reason)?,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Terms {
        v1::Terms {
            tenant: self.tenant.as_bytes().to_vec(),
            suspended: self.suspended,
            quota: (self.quota != Quota::default()).then(|| self.quota.to_proto()),
            support_contact: self.support_contact.clone(),
            reason: self.reason.clone(),
        }
    }
}

impl Tenant {
    /// Whether only a quorum of administrators may sign this here.
    #[must_use]
    pub fn is_critical(&self, action: Action) -> bool {
        self.critical.contains(&action)
    }

    /// A tenant under these administrators, with nothing else said.
    #[must_use]
    pub fn named(
        tenant: impl Into<String>,
        parent: Option<TenantId>,
        administrators: Administrators,
    ) -> Self {
        Self {
            name: tenant.into(),
            parent,
            administrators,
            recovery: None,
            support_contact: String::new(),
            suspended: false,
            critical: Vec::new(),
        }
    }
}
