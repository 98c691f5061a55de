//! Making tenants, one or many: their documents are signed first, so that a batch that broke off goes on with the
//! same documents and makes nothing twice.

use std::collections::HashMap;

use data_encoding::BASE64;
use prost::Message;
use quorate_documents::{
    Administrators, Body, DocumentSet, Draft, Kind, Lookup, SignedDocument, Tenant,
};
use quorate_types::{Digest, TenantId};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::Envelope;

use crate::admin::Admin;
use crate::documents::Delivered;
use crate::error::{Error, InvitationError, RequestError};
use crate::rng::os_rng;
use crate::tenants::{Above, TenantInvitation, TenantRequest};

/// A tenant that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTenant {
    /// What it is called.
    pub name: String,
    /// Its administrators.
    pub requests: Vec<TenantRequest>,
    /// How many of them must sign; none for a majority.
    pub quorum: Option<u32>,
    /// A key, kept apart, that settles what the administrators cannot.
    pub recovery: Option<PublicKey>,
    /// Whom its users ask for help; may be empty.
    pub support_contact: String,
}

impl NewTenant {
    fn administrators(&self) -> Result<Administrators, Error> {
        let keys: Vec<PublicKey> = self.requests.iter().map(|r| r.administrator).collect();
        let most = u32::try_from(keys.len() / 2 + 1).unwrap_or(u32::MAX);
        Administrators::new(keys, self.quorum.unwrap_or(most))
            .map_err(|e| RequestError::Invalid(e.to_string()).into())
    }
}

/// A tenant that was made just now.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedTenant {
    /// Its id.
    pub id: TenantId,
    /// What it is called.
    pub name: String,
    /// What to hand to its administrators; tell the fingerprint over another channel.
    pub invitation: TenantInvitation,
}

/// The signed document of a tenant that is to be made. Handed to nodes again it is the same tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedTenant(SignedDocument);

impl SignedTenant {
    fn new(document: SignedDocument) -> Option<Self> {
        let first = document.version() == 1 && matches!(document.body(), Body::Tenant(_));
        first.then_some(Self(document))
    }

    /// The tenant's id.
    #[must_use]
    pub fn id(&self) -> TenantId {
        self.0.id().into()
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.body() {
            Body::Tenant(tenant) => &tenant.name,
            _ => "",
        }
    }

    /// A line of text to keep.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64.encode(&self.0.envelope().encode_to_vec())
    }

    /// Reads it. Its signatures are verified.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let bad = || InvitationError::Malformed("it holds no tenant");
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| bad())?;
        let envelope = Envelope::decode(bytes.as_slice()).map_err(|_| bad())?;
        SignedDocument::parse(envelope).ok().and_then(Self::new).ok_or_else(bad)
    }
}

/// The document of a tenant of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundTenant {
    /// The document.
    pub tenant: SignedTenant,
    /// Whether nodes show it already.
    pub shown: bool,
}

/// A tenant of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchedTenant {
    /// What it is to be.
    pub new: NewTenant,
    /// What an earlier run signed for it.
    pub before: Option<SignedTenant>,
}

impl Admin<'_> {
    /// Makes tenants: children of this client's tenant, or root tenants.
    ///
    /// # Errors
    /// [`crate::ClusterError::NotAdministrator`], [`Error::Unfinished`] where more administrators must sign (then
    /// [`crate::Client::tenant_invitation`] makes the invitations later), and as [`Self::add_principal`].
    pub async fn create_tenants(
        &self,
        above: Above,
        new: Vec<NewTenant>,
    ) -> Result<(Vec<CreatedTenant>, Delivered), Error> {
        let (set, authority) = self.authority(above, Vec::new()).await?;
        let signed = self.sign_each(above, authority, new).await?;
        self.make(above, set, &signed).await
    }

    /// Signs the documents of tenants that are to be made, which [`Self::make_tenants`] hands to the nodes. What an
    /// earlier run signed is taken again as long as nodes take it; and what nodes show under the name, with the same
    /// administrators, is that tenant.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where a name is another tenant's already, and as [`Self::create_tenants`].
    pub async fn sign_tenants(
        &self,
        above: Above,
        wanted: Vec<BatchedTenant>,
    ) -> Result<Vec<FoundTenant>, Error> {
        let (set, authority) = self.authority(above, Vec::new()).await?;
        let parent = (above == Above::Tenant).then(|| self.client().tenant());
        let named = named(&set, parent);
        let mut signed: Vec<Option<SignedTenant>> = Vec::with_capacity(wanted.len());
        let mut new = Vec::new();
        for BatchedTenant { new: tenant, before } in wanted {
            let fits = |before: &SignedTenant| {
                let shown = set.version(&before.0.digest()).is_some();
                shown || before.0.authority() == Some(authority)
            };
            if let Some(before) = before.filter(fits) {
                signed.push(Some(before));
            } else if let Some(first) = named.get(tenant.name.as_str()) {
                let administrators = tenant.administrators()?;
                let theirs = first.0.body().administrators();
                if theirs != Some(&administrators) {
                    let why = format!(
                        "{} is called \"{}\" already and has other administrators",
                        first.id(),
                        tenant.name
                    );
                    return Err(RequestError::Invalid(why).into());
                }
                signed.push(Some(first.clone()));
            } else {
                signed.push(None);
                new.push(tenant);
            }
        }
        let mut fresh = self.sign_each(above, authority, new).await?.into_iter();
        let all = signed.into_iter().filter_map(|before| before.or_else(|| fresh.next()));
        let shown = |tenant: &SignedTenant| set.version(&tenant.0.digest()).is_some();
        Ok(all.map(|tenant| FoundTenant { shown: shown(&tenant), tenant }).collect())
    }

    /// Hands the documents of tenants to the nodes. Those that nodes have already stay as they are.
    ///
    /// # Errors
    /// As [`Self::create_tenants`].
    pub async fn make_tenants(
        &self,
        above: Above,
        signed: &[SignedTenant],
    ) -> Result<(Vec<CreatedTenant>, Delivered), Error> {
        let (set, _) = self.authority(above, Vec::new()).await?;
        self.make(above, set, signed).await
    }

    async fn sign_each(
        &self,
        above: Above,
        authority: Digest,
        new: Vec<NewTenant>,
    ) -> Result<Vec<SignedTenant>, Error> {
        let client = self.client();
        let at = client.document_time().await?;
        let mut signed = Vec::with_capacity(new.len());
        for tenant in new {
            let administrators = tenant.administrators()?;
            let recovery = tenant.recovery.map(|key| Administrators::new(vec![key], 1));
            let body = Tenant {
                support_contact: tenant.support_contact,
                recovery: recovery.transpose().map_err(|e| RequestError::Invalid(e.to_string()))?,
                ..Tenant::named(
                    tenant.name,
                    (above == Above::Tenant).then(|| client.tenant()),
                    administrators,
                )
            };
            let draft = Draft::first(Body::Tenant(body), Some(authority), at, &mut os_rng());
            signed.extend(SignedTenant::new(self.signed(draft)?));
        }
        Ok(signed)
    }

    async fn make(
        &self,
        above: Above,
        mut set: DocumentSet,
        signed: &[SignedTenant],
    ) -> Result<(Vec<CreatedTenant>, Delivered), Error> {
        let client = self.client();
        let what = match signed {
            [one] => format!("make the tenant {}", one.name()),
            all => format!("make {} tenants", all.len()),
        };
        let documents: Vec<SignedDocument> = signed.iter().map(|one| one.0.clone()).collect();
        let delivered = self.publish(&what, &set, documents.clone()).await?;
        if above == Above::Cluster {
            // The next roster must keep them, also when nodes show nothing any more.
            set.insert_all(documents);
            client.keep(&set)?;
        }
        let made = signed.iter().map(|one| CreatedTenant {
            id: one.id(),
            name: one.name().to_owned(),
            invitation: client.invitation_of(&one.0),
        });
        Ok((made.collect(), delivered))
    }
}

/// The first versions of the tenants that count directly below one, or of root tenants, by what they are called now.
fn named(set: &DocumentSet, parent: Option<TenantId>) -> HashMap<String, SignedTenant> {
    let mut named = HashMap::new();
    for id in set.ids(Kind::Tenant) {
        let Some(heads) = set.heads::<Tenant>(&id) else { continue };
        let first = set.version(&Digest::from_bytes(*id.as_bytes()));
        if heads.parent() == parent
            && let Some(first) = first.cloned().and_then(SignedTenant::new)
        {
            named.insert(heads.name().to_owned(), first);
        }
    }
    named
}
