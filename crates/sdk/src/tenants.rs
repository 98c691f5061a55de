//! Tenants: making them, joining as one's administrator, and what a parent says of its children.

use core::fmt;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;
use prost::Message;
use quorate_documents::{
    Authority, Body, DocumentSet, Draft, Heads, Kind, Lookup, Quota, Roster, SignedDocument,
    Tenant, Terms,
};
use quorate_types::{ClusterId, Digest, DocumentId, PrincipalId, TenantId};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, SigningKey, Transcript};

use crate::admin::Admin;
use crate::changes::Change;
use crate::client::{Client, ClientBuilder};
use crate::cluster::{SECONDS_PER_DAY, all_permissions, principal_body};
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, InvitationError, RequestError};
use crate::invitation::Invitation;
use crate::profile::{AdminKey, Membership, Profile};
use crate::rng::os_rng;

const REQUEST: &str = "quorate-tenant-request-1:";
const INVITATION: &str = "quorate-tenant-invitation-1:";
const CHECKSUM_BYTES: usize = 4;
/// Days for which a tenant's first principal, its administrator's own, is made.
const FOUNDER_DAYS: u64 = 365;

fn encode(prefix: &str, bytes: &[u8], check: Digest) -> String {
    let mut bytes = bytes.to_vec();
    bytes.extend(check.as_bytes().iter().take(CHECKSUM_BYTES));
    format!("{prefix}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
}

fn decode(prefix: &'static str, text: &str) -> Result<(Vec<u8>, Vec<u8>), InvitationError> {
    let bad = InvitationError::Malformed;
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let body = text.strip_prefix(prefix).ok_or(bad("it begins with another word"))?;
    let bytes = BASE32_NOPAD
        .decode(body.to_uppercase().as_bytes())
        .map_err(|_| bad("mistyped or cut short"))?;
    let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(bad("cut short"))?;
    let (bytes, check) = bytes.split_at(at);
    Ok((bytes.to_vec(), check.to_vec()))
}

fn checked(digest: Digest, check: &[u8]) -> Result<(), InvitationError> {
    if digest.as_bytes().starts_with(check) {
        Ok(())
    } else {
        Err(InvitationError::Malformed("mistyped or cut short"))
    }
}

/// What whoever is to administer a tenant hands to whoever makes it, or adds it: public keys only. The private keys were
/// made on that machine and stay there; a signature shows that there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantRequest {
    /// The administrator's key, which the tenant's document will name.
    pub administrator: PublicKey,
    /// Its signature, verified; none where it is a public key that somebody wrote down.
    proof: Option<[u8; 64]>,
}

/// What the private key of a request signs, as it stands.
fn possession(administrator: &PublicKey) -> String {
    format!("quorate-tenant-request-1 {administrator}\n")
}

impl TenantRequest {
    /// The request of a profile: makes its administrator's key where it has none.
    ///
    /// # Errors
    /// [`crate::ProfileError`].
    pub fn of(profile: &Profile) -> Result<Self, Error> {
        let key = match profile.admin_key() {
            Ok(key) => key,
            Err(Error::Profile(crate::ProfileError::NoAdminKey)) => {
                let key = AdminKey::generate();
                profile.store_admin_key(&key)?;
                key
            }
            Err(error) => return Err(error),
        };
        Ok(Self::by(&key))
    }

    /// The request of whoever has this key.
    #[must_use]
    pub fn by(key: &AdminKey) -> Self {
        let administrator = key.public();
        let proof = key.signing_key().sign_text(&possession(&administrator));
        Self { administrator, proof: Some(proof) }
    }

    /// Whether the private key signed it: so that nobody makes an administrator of a key that is mistyped, which
    /// nobody has.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.proof.is_some()
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Transcript::new("tenant-request").field(self.administrator.as_bytes()).digest()
    }

    /// Reads its text, or the administrator's public key alone.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let bad = |_| InvitationError::Malformed("it holds no public key");
        if let Ok(administrator) = text.trim().parse() {
            return Ok(Self { administrator, proof: None });
        }
        let (bytes, check) = decode(REQUEST, text)?;
        let (key, proof) = bytes
            .split_at_checked(32)
            .and_then(|(key, proof)| Some((key, <[u8; 64]>::try_from(proof).ok()?)))
            .ok_or(InvitationError::Malformed("cut short"))?;
        let administrator = PublicKey::from_slice(key).map_err(bad)?;
        let request = Self { administrator, proof: Some(proof) };
        checked(request.fingerprint(), &check)?;
        if !administrator.verifies(possession(&administrator).as_bytes(), &proof) {
            return Err(InvitationError::Malformed("the key in it did not sign it"));
        }
        Ok(request)
    }
}

impl fmt::Display for TenantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(proof) = &self.proof else { return self.administrator.fmt(f) };
        let bytes = [self.administrator.as_bytes().as_slice(), proof].concat();
        f.write_str(&encode(REQUEST, &bytes, self.fingerprint()))
    }
}

impl FromStr for TenantRequest {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        Self::parse(text)
    }
}

/// What the administrators of a new tenant get: which cluster, and the first version of their tenant's document.
/// Nothing in it is secret, and nothing in it is believed before its fingerprint was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantInvitation {
    /// The cluster: the digest of its first roster.
    pub cluster: ClusterId,
    /// The newest roster.
    pub roster: Envelope,
    /// The first version of the tenant's document.
    pub tenant: Envelope,
}

impl TenantInvitation {
    /// What people compare over another channel: covers the cluster, the roster and the tenant.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Transcript::new("tenant-invitation").field(&self.bytes()).digest()
    }

    /// One line of lower-case base32 with a checksum against slips of copying.
    #[must_use]
    pub fn to_text(&self) -> String {
        encode(INVITATION, &self.bytes(), self.fingerprint())
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let bad = InvitationError::Malformed;
        let (bytes, check) = decode(INVITATION, text)?;
        let (cluster, rest) = bytes.split_first_chunk::<32>().ok_or(bad("cut short"))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(bad("cut short"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (roster, tenant) = rest.split_at_checked(length).ok_or(bad("cut short"))?;
        let envelope = |bytes| Envelope::decode(bytes).map_err(|_| bad("it holds no documents"));
        let invitation = Self {
            cluster: ClusterId::from_bytes(*cluster),
            roster: envelope(roster)?,
            tenant: envelope(tenant)?,
        };
        checked(invitation.fingerprint(), &check)?;
        Ok(invitation)
    }

    fn bytes(&self) -> Vec<u8> {
        let roster = self.roster.encode_to_vec();
        let length = u32::try_from(roster.len()).unwrap_or(u32::MAX);
        let parts = [
            self.cluster.as_bytes().as_slice(),
            &length.to_be_bytes(),
            &roster,
            &self.tenant.encode_to_vec(),
        ];
        parts.concat()
    }

    /// The tenant's id and its first version.
    fn tenant(&self) -> Result<(TenantId, Digest, Tenant), InvitationError> {
        let document = SignedDocument::parse(self.tenant.clone())
            .map_err(|e| InvitationError::Roster(e.to_string()))?;
        match document.body() {
            Body::Tenant(tenant) if document.version() == 1 => {
                Ok((document.id().into(), document.digest(), tenant.clone()))
            }
            _ => Err(InvitationError::Malformed("it holds no tenant")),
        }
    }
}

impl FromStr for TenantInvitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        Self::parse(text)
    }
}

/// What a profile that joins as a tenant's administrator has to hand to the nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantJoined {
    /// The tenant.
    pub tenant: TenantId,
    /// What it is called.
    pub name: String,
    /// The new principal of this profile.
    pub principal: PrincipalId,
    /// The principal's document. Nodes take it once enough administrators have signed it.
    pub change: Change,
    /// Whether enough have.
    pub complete: bool,
    membership: Membership,
}

impl TenantJoined {
    /// The principal's document, to be put at every node.
    #[must_use]
    pub fn documents(&self) -> Vec<Envelope> {
        self.change.documents().iter().map(|d| d.envelope().clone()).collect()
    }
}

impl Profile {
    /// Prepares joining a cluster as an administrator of a tenant: makes the document of this profile's own
    /// principal and signs it with the profile's administrator's key. Keeps nothing yet:
    /// [`Self::join_tenant`] does.
    ///
    /// # Errors
    /// [`InvitationError`], [`ClusterError::NotAdministrator`] where the tenant names another administrator's
    /// key, and [`crate::ProfileError::OtherCluster`].
    ///
    /// # Security
    /// `fingerprint` must not come with the invitation: whoever could change one could change both.
    pub async fn prepare_tenant(
        &self,
        invitation: &TenantInvitation,
        fingerprint: Digest,
        principal_name: &str,
    ) -> Result<TenantJoined, Error> {
        let found = invitation.fingerprint();
        if found != fingerprint {
            return Err(InvitationError::Fingerprint { expected: fingerprint, found }.into());
        }
        if self.membership().is_some() {
            return Err(crate::ProfileError::OtherCluster.into());
        }
        let (tenant, authority, body) = invitation.tenant()?;
        let admin = self.admin_key()?;
        if !body.administrators.has(&admin.public()) {
            return Err(ClusterError::NotAdministrator(format!("the tenant {}", body.name)).into());
        }
        let mut invited = Invitation {
            cluster: invitation.cluster,
            tenant,
            principal: PrincipalId::from_bytes([0; 32]),
            roster: invitation.roster.clone(),
        };
        let key = SigningKey::from_seed(self.principal_key().seed().duplicate());
        let client = ClientBuilder::new(invited.verify()?, key).build()?;
        let at = client.document_time().await?;
        let principal = principal_body(
            tenant,
            principal_name.to_owned(),
            self.public_key(),
            at.plus(FOUNDER_DAYS * SECONDS_PER_DAY),
            all_permissions(),
        );
        let document = Draft::first(principal, Some(authority), at, &mut os_rng())
            .and_then(|draft| draft.sign(&[admin.signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()))?;
        invited.principal = document.id().into();
        let complete = body.administrators.quorum_of(document.signers());
        let what = format!("add the principal {principal_name} of the tenant {}", body.name);
        Ok(TenantJoined {
            tenant,
            name: body.name,
            principal: invited.principal,
            change: Change::new(invited.cluster, &what, vec![document]),
            complete,
            membership: invited.verify()?,
        })
    }

    /// Joins as prepared.
    ///
    /// # Errors
    /// [`crate::ProfileError`].
    pub fn join_tenant(
        &mut self,
        joined: &TenantJoined,
        invitation: &TenantInvitation,
    ) -> Result<(), Error> {
        let mut documents = vec![invitation.tenant.clone()];
        documents.extend(joined.documents());
        self.keep_documents(&documents)?;
        self.join(joined.membership.clone())
    }
}

/// Who makes tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Above {
    /// The administrators of this client's tenant: children of it.
    Tenant,
    /// The cluster's administrators: root tenants.
    Cluster,
}

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its id.
    pub id: TenantId,
    /// What people call it, by itself.
    pub name: String,
    /// The tenant that made it; none for a root tenant.
    pub parent: Option<TenantId>,
    /// Its administrators' keys.
    pub administrators: Vec<PublicKey>,
    /// How many of them must sign.
    pub quorum: u32,
    /// Whether recovery keys are named.
    pub recoverable: bool,
    /// Whom its users ask for help, by what it and its parent say; may be empty.
    pub support_contact: String,
    /// Whether its own document suspends it.
    pub suspends_itself: bool,
    /// Whether its parent suspends it, or the cluster a root tenant.
    pub suspended_from_above: bool,
    /// Why, by its parent; may be empty.
    pub reason: String,
    /// What it may have and use by its parent; 0 where nothing is said.
    pub quota: Quota,
    /// Whether several versions contend.
    pub contested: bool,
}

impl TenantInfo {
    /// Whether it may do nothing now, by itself or by its parent; those above may suspend it too.
    #[must_use]
    pub const fn suspended(&self) -> bool {
        self.suspends_itself || self.suspended_from_above
    }
}

/// What a quota says, in words.
pub(crate) fn bounds(quota: &Quota) -> Vec<(&'static str, u64)> {
    let all = [
        ("tenants below it", u64::from(quota.tenants)),
        ("principals", u64::from(quota.principals)),
        ("keys", u64::from(quota.keys)),
        ("bytes of documents", quota.document_bytes),
        ("requests a day", quota.requests_per_day),
        ("labels a day", quota.labels_per_day),
    ];
    all.into_iter().filter(|(_, bound)| *bound != 0).collect()
}

fn terms_of(set: &DocumentSet, tenant: TenantId) -> Vec<Heads<Terms>> {
    set.ids(Kind::Terms)
        .filter_map(|id| set.heads::<Terms>(&id))
        .filter(|heads| heads.tenant() == tenant)
        .collect()
}

fn info(set: &DocumentSet, id: DocumentId) -> Option<TenantInfo> {
    let heads = set.heads::<Tenant>(&id)?;
    let first = heads.iter().next()?.body();
    let terms = terms_of(set, id.into());
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let contact = terms.iter().find_map(|t| said(t.support_contact()));
    Some(TenantInfo {
        id: id.into(),
        name: heads.name().to_owned(),
        parent: heads.parent(),
        administrators: first.administrators.keys().to_vec(),
        quorum: first.administrators.quorum(),
        recoverable: first.recovery.is_some(),
        support_contact: contact.unwrap_or_else(|| heads.support_contact().to_owned()),
        suspends_itself: heads.suspended(),
        suspended_from_above: terms.iter().any(Heads::<Terms>::suspended),
        reason: terms.iter().find_map(|t| said(t.reason())).unwrap_or_default(),
        quota: terms.iter().fold(Quota::default(), |q, t| q.strictest(t.quota())),
        contested: heads.contested(),
    })
}

fn find(set: &DocumentSet, selector: &str) -> Result<TenantInfo, Error> {
    let all: Vec<TenantInfo> = set.ids(Kind::Tenant).filter_map(|id| info(set, id)).collect();
    if let Some(found) = all.iter().find(|t| t.id.to_string() == selector) {
        return Ok(found.clone());
    }
    let named: Vec<&TenantInfo> = all.iter().filter(|t| t.name == selector).collect();
    match named.as_slice() {
        [] => Err(ClusterError::TenantUnknown(selector.to_owned()).into()),
        [one] => Ok((*one).clone()),
        several => {
            let ids: Vec<String> = several.iter().map(|t| t.id.to_string()).collect();
            let why =
                format!("{} tenants are called \"{selector}\": {}", several.len(), ids.join(", "));
            Err(RequestError::Invalid(why).into())
        }
    }
}

impl Client {
    /// This client's tenant, those above it, and those directly below it, by name. A principal of a root tenant
    /// that an administrator of the cluster administers sees all root tenants.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn list_tenants(&self) -> Result<Vec<TenantInfo>, Error> {
        let set = self.set_with_below(vec![Kind::Terms]).await?;
        let mut all: Vec<TenantInfo> =
            set.ids(Kind::Tenant).filter_map(|id| info(&set, id)).collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(all)
    }

    /// The names of the tenants below this client's own that name a key among their administrators.
    pub(crate) async fn managed_with(&self, key: &PublicKey) -> Result<Vec<String>, Error> {
        let set = self.set_with_below(Vec::new()).await?;
        let all = set.ids(Kind::Tenant).filter_map(|id| info(&set, id));
        let below =
            all.filter(|t| t.parent == Some(self.tenant()) && t.administrators.contains(key));
        Ok(below.map(|tenant| tenant.name).collect())
    }

    /// One of them, by name or id.
    ///
    /// # Errors
    /// [`ClusterError::TenantUnknown`], and as [`Self::list_tenants`].
    pub async fn tenant_info(&self, selector: &str) -> Result<TenantInfo, Error> {
        find(&self.set_with_below(vec![Kind::Terms]).await?, selector)
    }

    /// The invitation of a tenant that exists, under the newest roster that this client trusts.
    ///
    /// # Errors
    /// As [`Self::tenant_info`].
    pub async fn tenant_invitation(&self, selector: &str) -> Result<TenantInvitation, Error> {
        let set = self.set_with_below(Vec::new()).await?;
        let found = find(&set, selector)?;
        let first = set
            .version(&Digest::from_bytes(*found.id.as_bytes()))
            .ok_or_else(|| ClusterError::TenantUnknown(selector.to_owned()))?;
        Ok(self.invitation_of(first))
    }

    pub(crate) fn invitation_of(&self, tenant: &SignedDocument) -> TenantInvitation {
        TenantInvitation {
            cluster: self.cluster(),
            roster: self.inner.membership.roster.envelope().clone(),
            tenant: tenant.envelope().clone(),
        }
    }
}

impl Admin<'_> {
    /// The version in force that this administrator signs under, and the set that it stands in.
    pub(crate) async fn authority(
        &self,
        above: Above,
        kinds: Vec<Kind>,
    ) -> Result<(DocumentSet, Digest), Error> {
        let set = self.client().set_with_below(kinds).await?;
        let digest = authority_in(&set, above, self.client().tenant())?;
        self.may_sign(&set, digest, above)?;
        Ok((set, digest))
    }

    fn may_sign(&self, set: &DocumentSet, authority: Digest, above: Above) -> Result<(), Error> {
        let administrators = set.version(&authority).and_then(|v| v.body().administrators());
        if administrators.is_some_and(|a| a.has(&self.key().public())) {
            return Ok(());
        }
        let whose = match above {
            Above::Tenant => "this profile's tenant",
            Above::Cluster => "the cluster",
        };
        Err(ClusterError::NotAdministrator(whose.to_owned()).into())
    }

    /// Says something of a tenant as the authority above it. Several such documents of one tenant all count, the
    /// strictest of them; `change` is applied to each. Where there is none, one is made.
    async fn say_of_tenant(
        &self,
        verb: &str,
        selector: &str,
        change: impl Fn(&mut Terms),
    ) -> Result<Delivered, Error> {
        let client = self.client();
        let set = client.set_with_below(vec![Kind::Terms]).await?;
        let tenant = find(&set, selector)?;
        let above = match tenant.parent {
            None => Above::Cluster,
            Some(parent) if parent == client.tenant() => Above::Tenant,
            Some(_) => {
                let whose = format!("the tenant above {}", tenant.name);
                return Err(ClusterError::NotAdministrator(whose).into());
            }
        };
        let authority = authority_in(&set, above, client.tenant())?;
        self.may_sign(&set, authority, above)?;
        let at = client.document_time().await?;
        let mut documents = Vec::new();
        for heads in terms_of(&set, tenant.id) {
            let before: Vec<&SignedDocument> =
                heads.digests().iter().filter_map(|digest| set.version(digest)).collect();
            let mut body = Terms {
                tenant: tenant.id,
                suspended: heads.suspended(),
                quota: heads.quota(),
                support_contact: heads.support_contact().to_owned(),
                reason: heads.reason().to_owned(),
            };
            let unchanged = body.clone();
            change(&mut body);
            if body == unchanged && heads.single().is_some() {
                continue;
            }
            let draft = Draft::succeed(&before, Body::Terms(body), Some(authority), Vec::new(), at);
            documents.push(self.signed(draft)?);
        }
        if terms_of(&set, tenant.id).is_empty() {
            let mut body = Terms {
                tenant: tenant.id,
                suspended: false,
                quota: Quota::default(),
                support_contact: String::new(),
                reason: String::new(),
            };
            change(&mut body);
            let draft = Draft::first(Body::Terms(body), Some(authority), at, &mut os_rng());
            documents.push(self.signed(draft)?);
        }
        if documents.is_empty() {
            // Nodes that were away may lack what is said already.
            let again = set
                .iter()
                .filter(|d| matches!(d.body(), Body::Terms(terms) if terms.tenant == tenant.id));
            let again = crate::documents::in_order(again.cloned());
            return crate::admin::deliver(client, &set, &again).await;
        }
        self.publish(&format!("{verb} the tenant {}", tenant.name), &set, documents).await
    }

    /// Signs a draft with this administrator's key.
    pub(crate) fn signed(
        &self,
        draft: Result<Draft, quorate_documents::DocumentError>,
    ) -> Result<SignedDocument, Error> {
        draft
            .and_then(|draft| draft.sign(&[self.key().signing_key()]))
            .map_err(|e| RequestError::Invalid(e.to_string()).into())
    }

    /// Lets nobody of a tenant, or of those below it, do anything until it is resumed.
    ///
    /// # Errors
    /// [`ClusterError::TenantUnknown`], [`ClusterError::NotAdministrator`] unless this is an administrator of the
    /// tenant above it, and as [`Self::create_tenants`].
    pub async fn suspend_tenant(
        &self,
        selector: &str,
        reason: &str,
        support_contact: Option<&str>,
    ) -> Result<Delivered, Error> {
        self.say_of_tenant("suspend", selector, |terms| {
            terms.suspended = true;
            reason.clone_into(&mut terms.reason);
            if let Some(contact) = support_contact {
                contact.clone_into(&mut terms.support_contact);
            }
        })
        .await
    }

    /// Takes a suspension back. What the tenant's own administrators or those further above have suspended stays so.
    ///
    /// # Errors
    /// As [`Self::suspend_tenant`].
    pub async fn resume_tenant(&self, selector: &str) -> Result<Delivered, Error> {
        self.say_of_tenant("resume", selector, |terms| {
            terms.suspended = false;
            terms.reason.clear();
        })
        .await
    }

    /// Bounds what a tenant may have and use.
    ///
    /// # Errors
    /// As [`Self::suspend_tenant`].
    pub async fn set_quota(
        &self,
        selector: &str,
        support_contact: Option<&str>,
        change: impl Fn(&mut Quota),
    ) -> Result<Delivered, Error> {
        self.say_of_tenant("bound", selector, |terms| {
            change(&mut terms.quota);
            if let Some(contact) = support_contact {
                contact.clone_into(&mut terms.support_contact);
            }
        })
        .await
    }
}

/// The one version in force of the tenant, or of the roster.
pub(crate) fn authority_in(
    set: &DocumentSet,
    above: Above,
    tenant: TenantId,
) -> Result<Digest, Error> {
    let (id, what) = match above {
        Above::Tenant => (DocumentId::from(tenant), "this profile's tenant"),
        Above::Cluster => (DocumentId::from(set.cluster()), "the roster"),
    };
    match quorate_documents::authority(&id, set) {
        Authority::Settled(version) => Ok(version.digest()),
        Authority::Contested(_) => {
            let why = format!(
                "two successors of {what} contend; recovery keys settle it with `quorate admin recover`"
            );
            Err(ClusterError::Document(why).into())
        }
        Authority::Unknown => Err(ClusterError::Document(format!("no node shows {what}")).into()),
    }
}

/// Whether a client of this tenant is shown all root tenants: one of its administrators is the cluster's.
pub(crate) fn sees_roots(set: &DocumentSet, tenant: TenantId) -> bool {
    let cluster = DocumentId::from(set.cluster());
    let (Some(tenant), Some(roster)) =
        (set.heads::<Tenant>(&tenant.into()), set.heads::<Roster>(&cluster))
    else {
        return false;
    };
    let shared = |tenant: &Tenant| {
        let cluster = |key: &PublicKey| roster.iter().all(|r| r.body().administrators.has(key));
        tenant.administrators.keys().iter().any(cluster)
    };
    tenant.parent().is_none() && tenant.iter().all(|head| shared(head.body()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::bundle;

    #[test]
    fn requests_and_invitations_read_back_and_slips_are_noticed() {
        let request = TenantRequest::by(&AdminKey::generate());
        let text = request.to_string();
        assert_eq!(text.parse(), Ok(request));
        // A key alone shows nothing, and another's signature is none.
        let bare: TenantRequest = request.administrator.to_string().parse().unwrap();
        assert_eq!((bare.administrator, bare.is_proven()), (request.administrator, false));
        assert_eq!(bare.to_string(), request.administrator.to_string());
        let proof = TenantRequest::by(&AdminKey::generate()).proof;
        let forged = TenantRequest { proof, ..request };
        assert!(TenantRequest::parse(&forged.to_string()).is_err());
        let mut slip = text.clone().into_bytes();
        slip[40] = if slip[40] == b'a' { b'b' } else { b'a' };
        assert!(TenantRequest::parse(&String::from_utf8(slip).unwrap()).is_err());

        let bundle = bundle(3);
        let invitation = TenantInvitation {
            cluster: bundle.cluster,
            roster: bundle.roster.clone(),
            tenant: bundle.documents[0].clone(),
        };
        let text = invitation.to_text();
        assert_eq!(text.parse(), Ok(invitation));
        assert!(TenantInvitation::parse(&text[..text.len() - 9]).is_err());
        let mut slip = text.into_bytes();
        slip[300] = if slip[300] == b'a' { b'b' } else { b'a' };
        assert!(TenantInvitation::parse(&String::from_utf8(slip).unwrap()).is_err());
    }
}
