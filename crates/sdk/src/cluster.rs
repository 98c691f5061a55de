//! Making a cluster: node cards in, signed documents out. Nothing is sent here.

use core::str::FromStr;

use data_encoding::BASE64;
use prost::Message;
use quorate_documents::{
    Administrators, Body, Draft, NodeEntry, Permission, Principal, Roster, SignedDocument, Tenant,
};
use quorate_types::limits::ROSTER_DAYS;
use quorate_types::{Action, ClusterId, Digest, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, PublicKey, Transcript, Verified, strict};

use crate::error::{ClusterError, Error, InvitationError};
use crate::invitation::Invitation;
use crate::profile::AdminKey;
use crate::rng::{now, os_rng};

pub(crate) const SECONDS_PER_DAY: u64 = 86_400;
/// Days for which the first principal, the administrator's own, is made. Longer than for others: it is the one
/// that renews them.
const FOUNDER_DAYS: u64 = 365;

/// What a node says of itself, signed by its identity key. Its operator hands it to whoever makes the
/// cluster, and tells the fingerprint over another channel.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCard {
    entry: NodeEntry,
    envelope: Envelope,
    signers: Vec<PublicKey>,
}

impl NodeCard {
    /// A card from its envelope.
    ///
    /// # Errors
    /// [`InvitationError::NodeCard`] unless the identity key that it names signed it, and at most one other: the
    /// one that the node had before.
    pub fn from_envelope(envelope: Envelope) -> Result<Self, InvitationError> {
        let bad = |why: String| InvitationError::NodeCard(why);
        let verified = Verified::new(PayloadType::NodeCard, envelope.clone())
            .map_err(|e| bad(e.to_string()))?;
        let card: v1::NodeCard =
            strict::decode("NodeCard", verified.payload()).map_err(|e| bad(e.to_string()))?;
        let entry = card.node.as_ref().ok_or_else(|| bad("it names no node".into()))?;
        let entry = NodeEntry::from_proto(entry).map_err(|e| bad(e.to_string()))?;
        let signers = verified.signers().to_vec();
        if !signers.contains(&entry.identity_key) || signers.len() > 2 {
            return Err(bad("the node's identity key did not sign it".into()));
        }
        if !entry.former_keys.is_empty() {
            return Err(bad("it names former keys, which only rosters do".into()));
        }
        Ok(Self { entry, envelope, signers })
    }

    /// Whether this key signed it: the identity key that it names, or the one before that.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signers.contains(key)
    }

    /// Reads a card's file: the envelope as JSON, or its protobuf bytes in base64.
    ///
    /// # Errors
    /// [`InvitationError::NodeCard`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let bad = || InvitationError::NodeCard("it is no node card".into());
        let text = text.trim();
        let envelope = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|_| bad())?
        } else {
            let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            let bytes = BASE64.decode(text.as_bytes()).map_err(|_| bad())?;
            Envelope::decode(bytes.as_slice()).map_err(|_| bad())?
        };
        Self::from_envelope(envelope)
    }

    /// What the node says of itself.
    #[must_use]
    pub const fn entry(&self) -> &NodeEntry {
        &self.entry
    }

    /// The signed envelope.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What people compare: a tagged hash of the signed bytes.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Transcript::new("node-card-fingerprint").field(&self.envelope.payload).digest()
    }
}

impl FromStr for NodeCard {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        Self::parse(text)
    }
}

/// What a new cluster is to be.
#[derive(Debug)]
pub struct ClusterRequest<'a> {
    /// The cluster's name, also of its root tenant.
    pub name: String,
    /// Its nodes. The caller has compared the fingerprints of their cards.
    pub cards: Vec<NodeCard>,
    /// Its one administrator. More are added by a later roster.
    pub admin: &'a AdminKey,
    /// A key, kept apart, that settles what the administrators cannot.
    pub recovery: Option<PublicKey>,
    /// The name of the first principal.
    pub principal_name: String,
    /// The public key of the first principal, which may do everything.
    pub principal_key: PublicKey,
}

/// A new cluster's documents.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterBundle {
    /// The first roster. Each node's operator joins with it and its digest.
    pub roster: Envelope,
    /// The roster's digest, to be compared by each node's operator.
    pub digest: Digest,
    /// The cluster's id, which is the same 32 bytes.
    pub cluster: ClusterId,
    /// The root tenant.
    pub tenant: TenantId,
    /// The first principal.
    pub principal: PrincipalId,
    /// What to put at every node once it has joined: tenant and principal, in this order.
    pub documents: Vec<Envelope>,
}

impl ClusterBundle {
    /// The first principal's invitation.
    #[must_use]
    pub fn invitation(&self) -> Invitation {
        Invitation {
            cluster: self.cluster,
            tenant: self.tenant,
            principal: self.principal,
            roster: self.roster.clone(),
        }
    }
}

/// Builds and signs the first roster, the root tenant and the first principal.
///
/// # Errors
/// [`ClusterError::Document`] when the cards do not make a roster: one twice, no card, a bad name.
pub fn create_cluster(request: ClusterRequest<'_>) -> Result<ClusterBundle, Error> {
    let ClusterRequest { name, cards, admin, recovery, principal_name, principal_key } = request;
    let at = now();
    let rng = &mut os_rng();
    let bad = |e: &dyn std::error::Error| ClusterError::Document(e.to_string());
    let administrators = Administrators::new(vec![admin.public()], 1).map_err(|e| bad(&e))?;
    let recovery =
        recovery.map(|key| Administrators::new(vec![key], 1)).transpose().map_err(|e| bad(&e))?;
    let roster = Body::Roster(Roster {
        name: name.clone(),
        nodes: cards.into_iter().map(|card| card.entry).collect(),
        administrators: administrators.clone(),
        recovery: recovery.clone(),
        expires_at: at.plus(ROSTER_DAYS * SECONDS_PER_DAY),
    });
    let key = admin.signing_key();
    let sign = |draft: Draft| draft.sign(&[key]).map_err(|e| bad(&e));
    let roster = sign(Draft::first(roster, None, at, rng).map_err(|e| bad(&e))?)?;
    let authority = Some(roster.digest());
    let tenant = Body::Tenant(Tenant {
        name,
        parent: None,
        administrators,
        recovery,
        support_contact: String::new(),
        suspended: false,
        critical: Vec::new(),
    });
    let tenant = sign(Draft::first(tenant, authority, at, rng).map_err(|e| bad(&e))?)?;
    let principal = principal_body(
        tenant.id().into(),
        principal_name,
        principal_key,
        at.plus(FOUNDER_DAYS * SECONDS_PER_DAY),
        all_permissions(),
    );
    let authority = Some(tenant.digest());
    let principal = sign(Draft::first(principal, authority, at, rng).map_err(|e| bad(&e))?)?;
    Ok(ClusterBundle {
        digest: roster.digest(),
        cluster: roster.id().into(),
        tenant: tenant.id().into(),
        principal: principal.id().into(),
        documents: [&tenant, &principal].map(|d: &SignedDocument| d.envelope().clone()).to_vec(),
        roster: roster.envelope().clone(),
    })
}

/// Every action on every key of the tenant.
#[must_use]
pub fn all_permissions() -> Vec<Permission> {
    Action::ALL.into_iter().map(|action| Permission { action, key: None }).collect()
}

pub(crate) fn principal_body(
    tenant: TenantId,
    name: String,
    public_key: PublicKey,
    expires_at: UnixSeconds,
    permissions: Vec<Permission>,
) -> Body {
    Body::Principal(Principal {
        tenant,
        name,
        public_key,
        expires_at,
        permissions,
        attributes: Vec::new(),
        revoked: false,
        next_public_key: None,
        retired_keys: Vec::new(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use quorate_types::NodeId;
    use quorate_wire::SigningKey;

    pub(crate) fn card(number: u8) -> NodeCard {
        let rng = &mut os_rng();
        let [identity, tls, log] = [(); 3].map(|()| SigningKey::generate(rng));
        let entry = NodeEntry {
            id: NodeId::from_bytes([number; 16]),
            name: format!("node-{number}"),
            provider: format!("provider {number}"),
            jurisdiction: "DE".parse().unwrap(),
            urls: vec![format!("https://127.0.0.1:{}", 4000 + u16::from(number))],
            identity_key: identity.public(),
            tls_key: tls.public(),
            log_key: log.public(),
            log_incarnation: 0,
            former_keys: Vec::new(),
        };
        let payload = v1::NodeCard { node: Some(entry.to_proto()) }.encode_to_vec();
        NodeCard::from_envelope(identity.envelop(PayloadType::NodeCard, payload)).unwrap()
    }

    pub(crate) fn bundle(nodes: u8) -> ClusterBundle {
        let admin = AdminKey::generate();
        create_cluster(ClusterRequest {
            name: "test".into(),
            cards: (1..=nodes).map(card).collect(),
            admin: &admin,
            recovery: None,
            principal_name: "founder".into(),
            principal_key: SigningKey::generate(&mut os_rng()).public(),
        })
        .unwrap()
    }

    #[test]
    fn a_card_signed_by_another_key_is_refused() {
        let good = card(1);
        let payload = good.envelope().payload.clone();
        let forged = SigningKey::generate(&mut os_rng()).envelop(PayloadType::NodeCard, payload);
        assert!(NodeCard::from_envelope(forged).is_err());
        let json = serde_json::to_string(good.envelope()).unwrap();
        assert_eq!(NodeCard::parse(&json), Ok(good.clone()));
        let base64 = BASE64.encode(&good.envelope().encode_to_vec());
        assert_eq!(NodeCard::parse(&base64), Ok(good));
    }

    #[test]
    fn one_node_twice_makes_no_cluster() {
        let admin = AdminKey::generate();
        let made = create_cluster(ClusterRequest {
            name: "test".into(),
            cards: vec![card(1), card(1)],
            admin: &admin,
            recovery: None,
            principal_name: "founder".into(),
            principal_key: admin.public(),
        });
        assert_eq!(made.unwrap_err().code(), "cluster_document");
    }
}
