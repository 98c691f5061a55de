//! Documents: handing them to nodes, and what administrators sign.

use std::collections::BTreeSet;

use quorate_documents::{
    Body, BodyOf, DocumentSet, Draft, KeyOrder, Kind, Lookup, Permission, Principal,
    SignedDocument, Tenant,
};
use quorate_types::limits::PRINCIPAL_DAYS;
use quorate_types::{Digest, DocumentId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::Envelope;

use crate::changes::Change;
use crate::client::{Client, NodeFailure};
use crate::cluster::{SECONDS_PER_DAY, principal_body};
use crate::documents::{Delivered, in_order};
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

    /// The invitation of a principal that exists, under the newest roster that this client trusts.
    ///
    /// # Errors
    /// [`ClusterError::PrincipalUnknown`], [`ClusterError::PrincipalRevoked`], and as
    /// [`Self::list_principals`].
    pub async fn invitation(&self, selector: &str) -> Result<Invitation, Error> {
        let set = self.control_set().await?;
        let id = *find(&set, selector)?
            .first()
            .ok_or_else(|| ClusterError::PrincipalUnknown(selector.to_owned()))?;
        if info(&set, id).is_some_and(|p| p.revoked) {
            return Err(ClusterError::PrincipalRevoked(selector.to_owned()).into());
        }
        Ok(Invitation {
            cluster: self.cluster(),
            tenant: self.tenant(),
            principal: id.into(),
            roster: self.inner.membership.roster.envelope().clone(),
        })
    }
}

/// The principals of this name or id: one that is not revoked, or else all that are.
fn find(set: &DocumentSet, selector: &str) -> Result<Vec<DocumentId>, Error> {
    let (mut live, mut revoked) = (Vec::new(), Vec::new());
    for id in set.ids(Kind::Principal) {
        let Some(found) = info(set, id) else { continue };
        if found.id.to_string() == selector {
            return Ok(vec![id]);
        }
        if found.name == selector {
            if found.revoked { revoked.push(id) } else { live.push(id) }
        }
    }
    match live.len() {
        0 if revoked.is_empty() => Err(ClusterError::PrincipalUnknown(selector.to_owned()).into()),
        0 => Ok(revoked),
        1 => Ok(live),
        several => {
            let ids: Vec<String> =
                live.iter().map(|id| PrincipalId::from(*id).to_string()).collect();
            let ids = ids.join(", ");
            let why = format!("{several} principals are called \"{selector}\": {ids}");
            Err(RequestError::Invalid(why).into())
        }
    }
}

/// What a node needs before it can take in a version of these documents, and all their versions: rosters,
/// and each tenant that they belong to with those above it.
pub(crate) fn standing_on(set: &DocumentSet, new: &[SignedDocument]) -> Vec<SignedDocument> {
    let mut ids: BTreeSet<DocumentId> = new.iter().map(|d| d.id()).collect();
    let mut above: Vec<TenantId> = new.iter().filter_map(|d| d.body().tenant()).collect();
    above.extend(new.iter().filter(|d| d.kind() == Kind::Tenant).map(|d| TenantId::from(d.id())));
    while let Some(tenant) = above.pop() {
        ids.insert(tenant.into());
        let first = set.version(&Digest::from_bytes(*tenant.as_bytes()));
        if let Some(parent) = first.and_then(|f| Tenant::of(f.body())).and_then(|t| t.parent)
            && !ids.contains(&parent.into())
        {
            above.push(parent);
        }
    }
    // So does an order for what it settles.
    let orders = new.iter().filter_map(|d| KeyOrder::of(d.body()));
    ids.extend(orders.flat_map(|order| &order.settles).map(|entry| entry.id));
    // An authority version waits for all that it keeps.
    let kept = new.iter().flat_map(|d| d.frontier());
    ids.extend(kept.map(|entry| entry.id));
    let known: BTreeSet<Digest> = new.iter().map(|d| d.digest()).collect();
    let needed = |d: &&SignedDocument| {
        (d.kind() == Kind::Roster || ids.contains(&d.id())) && !known.contains(&d.digest())
    };
    in_order(set.iter().filter(needed).cloned())
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
        let what = format!("add the principal {name}");
        let delivered = self.publish(&what, &client.control_set().await?, vec![document]).await?;
        let invitation = Invitation {
            cluster: client.cluster(),
            tenant: client.tenant(),
            principal: id,
            roster: client.inner.membership.roster.envelope().clone(),
        };
        Ok(AddedPrincipal { id, invitation, delivered })
    }

    /// Lets a principal act until another time, by default for 90 days from now. Works also where the client's
    /// own principal has expired, for this one principal, by the documents that the profile has kept.
    ///
    /// # Errors
    /// [`ClusterError::PrincipalUnknown`], [`ClusterError::PrincipalRevoked`], and as
    /// [`Self::add_principal`].
    pub async fn renew_principal(
        &self,
        selector: &str,
        expires_at: Option<UnixSeconds>,
    ) -> Result<Delivered, Error> {
        let at = self.client.document_time().await?;
        let expires_at = expires_at.unwrap_or(at.plus(PRINCIPAL_DAYS * SECONDS_PER_DAY));
        self.change("renew the principal", selector, at, |p| p.expires_at = expires_at).await
    }

    /// Lets a principal do nothing from now on. One that is revoked already is handed to all nodes again, with
    /// what it stands on, so that nodes that were away get it.
    ///
    /// # Errors
    /// [`ClusterError::PrincipalUnknown`], and as [`Self::add_principal`].
    pub async fn revoke_principal(&self, selector: &str) -> Result<Delivered, Error> {
        let set = self.client.control_set().await?;
        let ids = find(&set, selector)?;
        if ids.iter().all(|id| info(&set, *id).is_some_and(|p| p.revoked)) {
            let versions = set.iter().filter(|d| ids.contains(&d.id())).cloned();
            let versions = in_order(versions);
            return deliver(self.client, &set, &versions).await;
        }
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
        let client = self.client;
        let set = client.control_set().await?;
        let unknown = || ClusterError::PrincipalUnknown(selector.to_owned());
        let id = *find(&set, selector)?.first().ok_or_else(unknown)?;
        let heads = set.heads::<Principal>(&id).ok_or_else(unknown)?;
        if heads.revoked() {
            return Err(ClusterError::PrincipalRevoked(selector.to_owned()).into());
        }
        let documents: Vec<&SignedDocument> =
            heads.digests().iter().filter_map(|digest| set.version(digest)).collect();
        let mut body = heads.iter().next().ok_or_else(unknown)?.body().clone();
        // Where heads contend, the merge keeps what all of them allow.
        body.revoked = heads.revoked();
        body.permissions.retain(|p| heads.permits(p.action, p.key.as_ref()));
        change(&mut body);
        // A revocation is on its way to every node, whatever the principal has added to its document.
        let documents = if body.revoked {
            quorate_documents::restrictable(&id, &heads.digests(), &set)
        } else {
            documents
        };
        let authority = client.tenant_heads().await?.digests().first().copied();
        let document = Draft::succeed(&documents, Body::Principal(body), authority, Vec::new(), at)
            .and_then(|draft| draft.sign(&[self.key.signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        let what = format!("{operation} {selector}");
        let delivered = self.publish(&what, &set, vec![document.clone()]).await?;
        let mut set = set;
        set.insert_all([document]);
        client.keep(&set)?;
        Ok(delivered)
    }

    /// Hands over documents that this administrator has signed, each after what it stands on.
    ///
    /// # Errors
    /// [`Error::Unfinished`] with the change where more administrators must sign; otherwise as
    /// [`Self::add_principal`].
    pub(crate) async fn publish(
        &self,
        operation: &str,
        set: &DocumentSet,
        new: Vec<SignedDocument>,
    ) -> Result<Delivered, Error> {
        let change = Change::new(self.client.cluster(), operation, new);
        if !change.complete(set)? {
            return Err(Error::Unfinished(Box::new(change.on(set))));
        }
        deliver(self.client, set, change.documents()).await
    }

    /// The client that this administrator works through.
    pub(crate) const fn client(&self) -> &Client {
        self.client
    }

    /// The administrator's key.
    pub(crate) const fn key(&self) -> &AdminKey {
        self.key
    }
}

/// Hands over documents after what they stand on; at least one node must take all.
pub(crate) async fn deliver(
    client: &Client,
    set: &DocumentSet,
    new: &[SignedDocument],
) -> Result<Delivered, Error> {
    let standing = standing_on(set, new);
    let documents: Vec<Envelope> =
        standing.iter().chain(new).map(|d| d.envelope().clone()).collect();
    let delivered = client.put_documents(&documents).await;
    if delivered.confirmed() > 0 {
        return Ok(delivered);
    }
    let mut missing = NotQuorate {
        operation: "store the change",
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
