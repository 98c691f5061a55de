//! Documents: handing them to nodes, and what administrators sign.

use quorate_documents::{Body, DocumentSet, Draft, Kind, Permission, Principal, SignedDocument};
use quorate_types::limits::PRINCIPAL_DAYS;
use quorate_types::{DocumentId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::client::{Client, NodeFailure};
use crate::cluster::{SECONDS_PER_DAY, principal_body};
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, NotQuorate, RequestError};
use crate::invitation::Invitation;
use crate::profile::AdminKey;
use crate::rng::os_rng;

/// What is known of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalInfo {
    /// Its id.
    pub id: PrincipalId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// The key of its certificate.
    pub public_key: PublicKey,
    /// From when it may do nothing.
    pub expires_at: UnixSeconds,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Whether it may do nothing any more.
    pub revoked: bool,
    /// Whether several versions contend; then it may only do what all of them allow.
    pub contested: bool,
}

/// A principal that was added just now.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedPrincipal {
    /// Its id.
    pub id: PrincipalId,
    /// What to hand to its machine; tell the fingerprint over another channel.
    pub invitation: Invitation,
    /// Which nodes know of it.
    pub delivered: Delivered,
}

/// An administrator at work: the client, and the administrator's key.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a> {
    client: &'a Client,
    key: &'a AdminKey,
}

impl Client {
    /// What takes an administrator's key.
    #[must_use]
    pub const fn admin<'a>(&'a self, key: &'a AdminKey) -> Admin<'a> {
        Admin { client: self, key }
    }

    /// Against how many lying nodes a change of this tenant's control state holds: the smallest number
    /// over all keys that this client can see, each counted in its own committee. None without keys.
    ///
    /// # Errors
    /// As [`Self::list_keys`].
    pub async fn holds_against(&self, delivered: &Delivered) -> Result<Option<i64>, Error> {
        let keys = self.list_keys().await?;
        let versions = keys.iter().flat_map(crate::Key::versions);
        Ok(versions.map(|v| delivered.holds_against_in(v.threshold, &v.members)).min())
    }

    /// The principals that this client may see, by name.
    ///
    /// # Errors
    /// [`NotQuorate`] unless most nodes answer.
    pub async fn list_principals(&self) -> Result<Vec<PrincipalInfo>, Error> {
        let set = self.control_set().await?;
        let mut principals: Vec<PrincipalInfo> =
            set.ids(Kind::Principal).filter_map(|id| info(&set, id)).collect();
        principals.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(principals)
    }

    /// Rosters, tenants and principals that most nodes show, admitted from the trusted roster on.
    async fn control_set(&self) -> Result<DocumentSet, Error> {
        let mut set = self.known_rosters().await?;
        let documents = self.documents(Vec::new(), vec![Kind::Tenant, Kind::Principal]).await?;
        set.insert_all(documents);
        Ok(set)
    }
}

fn info(set: &DocumentSet, id: DocumentId) -> Option<PrincipalInfo> {
    let heads = set.heads::<Principal>(&id)?;
    let first = heads.iter().next()?.body();
    Some(PrincipalInfo {
        id: heads.principal_id(),
        tenant: heads.tenant(),
        name: first.name.clone(),
        public_key: first.public_key,
        expires_at: heads.expires_at(),
        permissions: first
            .permissions
            .iter()
            .copied()
            .filter(|p| heads.permits(p.action, p.key.as_ref()))
            .collect(),
        revoked: heads.revoked(),
        contested: heads.single().is_none(),
    })
}

impl Admin<'_> {
    /// Adds a principal of this client's tenant. It may do what `permissions` say until `expires_at`, by
    /// default for 90 days.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`NotQuorate`] when no node stored it; which of several did is in
    /// [`AddedPrincipal::delivered`].
    pub async fn add_principal(
        &self,
        name: &str,
        public_key: PublicKey,
        permissions: Vec<Permission>,
        expires_at: Option<UnixSeconds>,
    ) -> Result<AddedPrincipal, Error> {
        let client = self.client;
        let at = client.document_time().await?;
        let expires_at = expires_at.unwrap_or(at.plus(PRINCIPAL_DAYS * SECONDS_PER_DAY));
        let body =
            principal_body(client.tenant(), name.to_owned(), public_key, expires_at, permissions);
        let authority = client.tenant_heads().await?.digests().first().copied();
        let document = Draft::first(body, authority, at, &mut os_rng())
            .and_then(|draft| draft.sign(&[self.key.signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        let id = PrincipalId::from(document.id());
        let delivered = self.deliver("add the principal", &document).await?;
        let invitation = Invitation {
            cluster: client.cluster(),
            tenant: client.tenant(),
            principal: id,
            roster: client.inner.membership.roster.envelope().clone(),
        };
        Ok(AddedPrincipal { id, invitation, delivered })
    }

    /// Lets a principal act until another time, by default for 90 days from now.
    ///
    /// # Errors
    /// [`ClusterError::PrincipalUnknown`], and as [`Self::add_principal`].
    pub async fn renew_principal(
        &self,
        selector: &str,
        expires_at: Option<UnixSeconds>,
    ) -> Result<Delivered, Error> {
        let at = self.client.document_time().await?;
        let expires_at = expires_at.unwrap_or(at.plus(PRINCIPAL_DAYS * SECONDS_PER_DAY));
        self.change("renew the principal", selector, at, |p| p.expires_at = expires_at).await
    }

    /// Lets a principal do nothing from now on.
    ///
    /// # Errors
    /// As [`Self::renew_principal`].
    pub async fn revoke_principal(&self, selector: &str) -> Result<Delivered, Error> {
        let at = self.client.document_time().await?;
        self.change("revoke the principal", selector, at, |p| p.revoked = true).await
    }

    /// Gives a principal other permissions than before.
    ///
    /// # Errors
    /// As [`Self::renew_principal`].
    pub async fn set_permissions(
        &self,
        selector: &str,
        permissions: Vec<Permission>,
    ) -> Result<Delivered, Error> {
        let at = self.client.document_time().await?;
        self.change("change the principal", selector, at, |p| p.permissions = permissions).await
    }

    /// Succeeds all heads of a principal's document, which merges them where they contend.
    async fn change(
        &self,
        operation: &'static str,
        selector: &str,
        at: UnixSeconds,
        change: impl FnOnce(&mut Principal),
    ) -> Result<Delivered, Error> {
        use quorate_documents::Lookup;
        let client = self.client;
        let set = client.control_set().await?;
        let unknown = || ClusterError::PrincipalUnknown(selector.to_owned());
        let matching: Vec<DocumentId> = set
            .ids(Kind::Principal)
            .filter(|id| {
                PrincipalId::from(*id).to_string() == selector
                    || info(&set, *id).is_some_and(|p| p.name == selector && !p.revoked)
            })
            .collect();
        let id = match matching.as_slice() {
            [one] => *one,
            [] => return Err(unknown().into()),
            several => {
                let why = format!("{} principals are called \"{selector}\"", several.len());
                return Err(RequestError::Invalid(why).into());
            }
        };
        let heads = set.heads::<Principal>(&id).ok_or_else(unknown)?;
        let documents: Vec<&SignedDocument> =
            heads.digests().iter().filter_map(|digest| set.version(digest)).collect();
        let mut body = heads.iter().next().ok_or_else(unknown)?.body().clone();
        // Where heads contend, the merge keeps what all of them allow.
        body.revoked = heads.revoked();
        body.permissions.retain(|p| heads.permits(p.action, p.key.as_ref()));
        change(&mut body);
        let authority = client.tenant_heads().await?.digests().first().copied();
        let document = Draft::succeed(&documents, Body::Principal(body), authority, Vec::new(), at)
            .and_then(|draft| draft.sign(&[self.key.signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        self.deliver(operation, &document).await
    }

    async fn deliver(
        &self,
        operation: &'static str,
        document: &SignedDocument,
    ) -> Result<Delivered, Error> {
        let delivered = self.client.put_documents(core::slice::from_ref(document.envelope())).await;
        if delivered.confirmed() > 0 {
            return Ok(delivered);
        }
        let mut missing = NotQuorate {
            operation,
            needed: 1,
            of: delivered.of(),
            answered: 0,
            unreachable: Vec::new(),
            refused: Vec::new(),
            wrong: Vec::new(),
        };
        for node in delivered.nodes {
            match node.result {
                Err(NodeFailure::Unreachable(unreachable)) => missing.unreachable.push(unreachable),
                Err(NodeFailure::Refused(refusal)) => missing.refused.push(*refusal),
                Ok(()) => {}
            }
        }
        Err(missing.into_error())
    }
}
