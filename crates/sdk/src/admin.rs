//! Documents: handing them to nodes, and what administrators sign.

use quorate_documents::{Body, DocumentSet, Draft, Kind, Permission, Principal, SignedDocument};
use quorate_types::limits::PRINCIPAL_DAYS;
use quorate_types::{DocumentId, NodeId, PrincipalId, TenantId, Threshold, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::{self, Envelope};

use crate::client::{Answered, Client, NodeFailure};
use crate::cluster::{SECONDS_PER_DAY, principal_body};
use crate::error::{ClusterError, Error, NodeRefusal, NotQuorate, RequestError};
use crate::invitation::Invitation;
use crate::profile::AdminKey;
use crate::rng::os_rng;
use crate::transport::Method;

/// Who has confirmed to have stored documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// Each node of the roster.
    pub nodes: Vec<NodeConfirmation>,
}

/// Whether one node has stored documents.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfirmation {
    /// The node.
    pub node: NodeId,
    /// Its name in the roster.
    pub name: String,
    /// Nothing where all were accepted or known; otherwise why not: the first refusal.
    pub result: Result<(), NodeFailure>,
}

impl Delivered {
    /// How many nodes have confirmed.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        self.nodes.iter().filter(|n| n.result.is_ok()).count()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn of(&self) -> usize {
        self.nodes.len()
    }

    /// Against how many lying nodes the change holds for a key of this threshold, if the committee is
    /// the whole roster: c - (N - T + 1). Below zero, it is not yet effective.
    #[must_use]
    pub fn holds_against(&self, threshold: Threshold) -> i64 {
        holds_against(self.confirmed(), threshold)
    }

    /// The same among the members of one committee.
    #[must_use]
    pub fn holds_against_in(&self, threshold: Threshold, members: &[NodeId]) -> i64 {
        let confirmed =
            self.nodes.iter().filter(|n| members.contains(&n.node) && n.result.is_ok()).count();
        holds_against(confirmed, threshold)
    }
}

fn holds_against(confirmed: usize, threshold: Threshold) -> i64 {
    i64::try_from(confirmed).unwrap_or(i64::MAX) - i64::from(threshold.spare()) - 1
}

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

    /// Hands documents to all nodes. Anybody may: signatures count, not carriers.
    pub async fn put_documents(&self, documents: &[Envelope]) -> Delivered {
        let answers = self
            .ask_all(Method::PutDocuments, |node| v1::PutDocumentsRequest {
                node: node.as_bytes().to_vec(),
                documents: documents.to_vec(),
            })
            .await;
        let nodes = answers
            .into_iter()
            .map(|(entry, answer)| {
                let result = answer.and_then(|Answered { reply, .. }| {
                    let reply: v1::PutDocumentsReply = reply;
                    match reply.results.into_iter().find_map(|result| result.refusal) {
                        None => Ok(()),
                        Some(refusal) => {
                            let name = entry.name.clone();
                            Err(NodeFailure::Refused(Box::new(NodeRefusal { name, refusal })))
                        }
                    }
                });
                NodeConfirmation { node: entry.id, name: entry.name, result }
            })
            .collect();
        Delivered { nodes }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NodeRefusal;

    fn delivered(confirmed: u8, of: u8) -> Delivered {
        let refusal = quorate_wire::RefusalCode::StorageFailed.message("no".into(), UnixSeconds(1));
        let nodes = (0..of)
            .map(|n| NodeConfirmation {
                node: NodeId::from_bytes([n; 16]),
                name: format!("node-{n}"),
                result: if n < confirmed {
                    Ok(())
                } else {
                    let refusal = refusal.clone();
                    Err(NodeFailure::Refused(Box::new(NodeRefusal {
                        name: String::new(),
                        refusal,
                    })))
                },
            })
            .collect();
        Delivered { nodes }
    }

    /// Section 2: c confirmations of N hold against c-(N-T+1) lying nodes.
    #[test]
    fn attack_37_confirmations_are_counted_against_liars() {
        let of = Threshold::new(3, 5).unwrap();
        assert_eq!(delivered(5, 5).holds_against(of), 2);
        assert_eq!(delivered(3, 5).holds_against(of), 0);
        assert_eq!(delivered(2, 5).holds_against(of), -1);
        let pair: Vec<NodeId> = [0, 4].map(|n| NodeId::from_bytes([n; 16])).to_vec();
        let two = Threshold::new(2, 2).unwrap();
        assert_eq!(delivered(4, 5).holds_against_in(two, &pair), 0);
    }
}
