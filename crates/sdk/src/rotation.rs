//! A profile's own keys: another principal's key is offered, and takes the old one's place once nodes know of
//! it; another administrator's key takes the old one's place once enough administrators have signed that.

use quorate_documents::{Body, DocumentSet, Draft, Lookup, Principal, SignedDocument};
use quorate_types::DocumentId;
use quorate_wire::{PublicKey, SigningKey};

use crate::admin::deliver;
use crate::changes::Change;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, NotQuorate, RequestError};
use crate::profile::Profile;
use crate::tenants::Above;

/// What came of replacing a profile's administrator's key.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminRotated {
    /// The key that takes the place of the other.
    pub public_key: PublicKey,
    /// The key of before.
    pub retired: PublicKey,
    /// Which nodes know of it: of the cluster's document, of the tenant's, where it stood in them.
    pub delivered: Vec<Delivered>,
    /// What other administrators must sign first. The profile keeps both keys until they have, and this was
    /// said again.
    pub unfinished: Vec<Change>,
    /// Tenants below that this profile manages with the old key, which is kept for them.
    pub managed: Vec<String>,
}

/// A principal's key that was replaced just now.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotated {
    /// The key from now on.
    pub public_key: PublicKey,
    /// The key that nodes refuse from now on; none where it was replaced earlier and only the profile lagged.
    pub retired: Option<PublicKey>,
    /// Which nodes know that it took the old one's place.
    pub delivered: Delivered,
}

fn versions<'a>(set: &'a DocumentSet, own: &DocumentId) -> Vec<&'a SignedDocument> {
    let heads = set.heads::<Principal>(own);
    let digests = heads.map(|heads| heads.digests()).unwrap_or_default();
    digests.iter().filter_map(|digest| set.version(digest)).collect()
}

impl Client {
    /// The next version of this principal, signed by one of its own keys.
    async fn own_version(
        &self,
        set: &DocumentSet,
        key: &SigningKey,
        change: impl FnOnce(&Principal) -> Option<Principal>,
    ) -> Result<SignedDocument, Error> {
        let own = DocumentId::from(self.principal());
        let before = versions(set, &own);
        let contends = || {
            let why = "two versions of this principal contend; an administrator settles it with \
                       `quorate principal renew`";
            ClusterError::Document(why.to_owned())
        };
        let [head] = before.as_slice() else { return Err(contends().into()) };
        let Body::Principal(body) = head.body() else { return Err(contends().into()) };
        let after = change(body).ok_or_else(|| {
            RequestError::Invalid("the key is not offered to the nodes".to_owned())
        })?;
        let authority = crate::tenants::authority_in(set, crate::Above::Tenant, self.tenant())?;
        let at = self.document_time().await?;
        Draft::succeed(&before, Body::Principal(after), Some(authority), Vec::new(), at)
            .and_then(|draft| draft.sign(&[key]))
            .map_err(|e| RequestError::Invalid(e.to_string()).into())
    }
}

impl Profile {
    /// Replaces the principal's key: makes another one, offers it to the nodes, which take both from then on, and
    /// has it take the old one's place, which nodes refuse and report from then on. Where this was interrupted,
    /// it goes on.
    ///
    /// # Errors
    /// [`NotQuorate`] unless most nodes have taken the offer: the old key stays, and both are accepted where the
    /// offer arrived.
    pub async fn rotate_key(&mut self, client: &Client) -> Result<Rotated, Error> {
        let next = self.next_key()?;
        let own = DocumentId::from(client.principal());
        let set = match client.shown_control_set().await {
            Ok(set) => set,
            // Interrupted after the new key took the old one's place: the old one is refused.
            Err(error) => match self.as_next()?.build()?.shown_control_set().await {
                Ok(set) => set,
                Err(_) => return Err(error),
            },
        };
        let heads = set.heads::<Principal>(&own);
        let none = || ClusterError::PrincipalUnknown(client.principal().to_string());
        let head = heads.as_ref().and_then(|h| h.iter().next()).ok_or_else(none)?;
        if head.body().public_key == next.public() {
            let all: Vec<SignedDocument> = set.iter().filter(|d| d.id() == own).cloned().collect();
            let delivered = deliver(client, &set, &crate::documents::in_order(all)).await?;
            self.take_next_key()?;
            return Ok(Rotated { public_key: next.public(), retired: None, delivered });
        }
        let mut set = set;
        if head.body().next_public_key != Some(next.public()) {
            let offer = |p: &Principal| {
                Some(Principal { next_public_key: Some(next.public()), ..p.clone() })
            };
            let offered = client.own_version(&set, self.principal_key(), offer).await?;
            set.insert_all([offered.clone()]);
        }
        let versions: Vec<SignedDocument> = set.iter().filter(|d| d.id() == own).cloned().collect();
        let delivered = deliver(client, &set, &crate::documents::in_order(versions)).await?;
        let most = client.roster().nodes.len() / 2 + 1;
        if delivered.confirmed() < most {
            return Err(Error::NotQuorate(Box::new(NotQuorate {
                operation: "take the next key",
                needed: most,
                of: delivered.of(),
                answered: delivered.confirmed(),
                unreachable: Vec::new(),
                refused: Vec::new(),
                wrong: Vec::new(),
            })));
        }
        let taken = client.own_version(&set, &next, Principal::acknowledged).await?;
        let retired = self.public_key();
        let all = set.iter().filter(|d| d.id() == own).cloned().chain([taken.clone()]);
        let all = crate::documents::in_order(all);
        let delivered = deliver(client, &set, &all).await?;
        self.take_next_key()?;
        set.insert_all([taken]);
        client.keep(&set)?;
        Ok(Rotated { public_key: next.public(), retired: Some(retired), delivered })
    }
}

impl Profile {
    /// Replaces the profile's administrator's key, in the cluster's roster and in the tenant's document,
    /// wherever it stands. Where more administrators must sign, they do, and then the same is said again.
    ///
    /// # Errors
    /// As [`crate::Admin::change_administrators`].
    pub async fn rotate_admin_key(&mut self, client: &Client) -> Result<AdminRotated, Error> {
        let old = self.admin_key()?;
        let next = self.next_admin_key()?;
        let (retired, public_key) = (old.public(), next.public());
        let mut rotated = AdminRotated {
            public_key,
            retired,
            delivered: Vec::new(),
            unfinished: Vec::new(),
            managed: Vec::new(),
        };
        // The cluster first: whoever administers the cluster and not its root tenant is shown everything that the
        // tenant's next version keeps, and not the other way round.
        let mut named = false;
        for of in [Above::Cluster, Above::Tenant] {
            let found = client.administrators(of).await?;
            named |= found.keys.contains(&retired) || found.keys.contains(&public_key);
            if !found.keys.contains(&retired) {
                continue;
            }
            let change = |keys: &mut Vec<PublicKey>, _: &mut u32| {
                keys.retain(|key| *key != retired && *key != public_key);
                keys.push(public_key);
            };
            let what = "replace an administrator's key";
            match client.admin(&old).change_administrators(of, what, change).await {
                Ok(delivered) => rotated.delivered.push(delivered),
                Err(Error::Unfinished(change)) => rotated.unfinished.push(*change),
                Err(error) => return Err(error),
            }
        }
        if !named {
            let what = "this profile's tenant, and not of the cluster either".to_owned();
            return Err(ClusterError::NotAdministrator(what).into());
        }
        if rotated.unfinished.is_empty() {
            rotated.managed = client.managed_with(&retired).await?;
            self.take_next_admin_key(!rotated.managed.is_empty())?;
        }
        Ok(rotated)
    }
}
