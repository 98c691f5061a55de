//! Keys of other tenants than the client's own: those that a reseller manages, whose ceremonies its principal runs. Their
//! orders are signed under each key's own tenant, by whoever administers that.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{Authority, DocumentSet, Kind, SignedDocument, authority};
use quorate_types::{Digest, DocumentId, KeyId, KeyVersion, NodeId, TenantId};
use tokio::task::JoinSet;

use crate::admin::deliver;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error};
use crate::keys::Key;
use crate::orders::{Drafted, OrderChange, OrderReport, Signing};
use crate::profile::AdminKey;
use crate::provision::interrupted;

/// Keys that are looked up at once.
const LOOKUPS: usize = 8;

/// Key versions of which the tenants are asked for at once: a node shows as many documents that are named by their ids.
const TENANTS_AT_ONCE: usize = 256;

/// Orders that are handed over at once, each with what it stands on.
const ORDERS_AT_ONCE: usize = 64;

/// The orders of many key versions.
#[derive(Debug, Clone, Default)]
pub struct SignedOrders {
    /// Those that are in force, signed just now or before.
    pub in_force: Vec<OrderReport>,
    /// Those of other tenants' keys that were not signed, or that no node took: they hold up no others.
    pub refused: Vec<RefusedOrder>,
}

/// An order that is not in force, and why.
#[derive(Debug, Clone)]
pub struct RefusedOrder {
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// Why: [`ClusterError::NotAdministrator`] where others must sign.
    pub error: Error,
}

/// The version of a tenant's document that is in force, where this administrator alone signs what belongs to the tenant.
/// What it is called is for the error.
pub(crate) fn authority_of(
    set: &DocumentSet,
    tenant: &DocumentId,
    administrator: &AdminKey,
    called: &str,
) -> Result<Digest, ClusterError> {
    let not = || ClusterError::NotAdministrator(called.to_owned());
    let Authority::Settled(version) = authority(tenant, set) else { return Err(not()) };
    let own = [administrator.public()];
    let enough = version.body().administrators().is_some_and(|all| all.quorum_of(&own));
    if enough { Ok(version.digest()) } else { Err(not()) }
}

impl Client {
    /// The keys of these ids, a few at a time, each verified by what most nodes show of it; also those of other tenants
    /// whose ceremonies this client's principal runs. Nodes that are to get shares are brought what they lack of each. No
    /// key is kept in memory, so that a list of any length can be gone through in parts.
    pub async fn keys_of(&self, ids: &[KeyId], to: &[NodeId]) -> Vec<Result<Key, Error>> {
        let mut found: Vec<Option<Result<Key, Error>>> = ids.iter().map(|_| None).collect();
        let mut waiting = ids.iter().copied().enumerate();
        let mut looking = JoinSet::new();
        loop {
            while looking.len() < LOOKUPS
                && let Some((at, id)) = waiting.next()
            {
                let (client, to) = (self.clone(), to.to_vec());
                looking.spawn(async move { (at, client.key_for(id, &to).await) });
            }
            match looking.join_next().await {
                None => break,
                Some(Ok((at, key))) => {
                    if let Some(slot) = found.get_mut(at) {
                        *slot = Some(key);
                    }
                }
                Some(Err(_)) => {}
            }
        }
        let lost = |id: &KeyId| Err(interrupted(*id));
        ids.iter().zip(found).map(|(id, key)| key.unwrap_or_else(|| lost(id))).collect()
    }

    async fn key_for(&self, id: KeyId, to: &[NodeId]) -> Result<Key, Error> {
        let shown = self.views_of(id).await?;
        let key = self.verify_views(id, &shown).await?;
        self.bring_shown(id, &shown, to).await;
        Ok(match self.cached_key(id) {
            Some(_) => self.cache_key(&key),
            None => key,
        })
    }

    /// Signs the next orders of other tenants' keys, each under its own tenant, as far as this administrator alone may.
    /// The tenants of 256 are asked for at once, and 64 orders handed over.
    ///
    /// Whoever runs the ceremonies of another tenant's key may not change it, so administrators sign all of them. How many
    /// orders such a tenant has is shown to nobody else: a node that takes no more refuses that one.
    pub(crate) async fn orders_of_others(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
        administrator: Option<&AdminKey>,
    ) -> Result<SignedOrders, Error> {
        let mut signed = SignedOrders::default();
        if wanted.is_empty() {
            return Ok(signed);
        }
        let at = self.document_time().await?;
        for some in wanted.chunks(TENANTS_AT_ONCE) {
            let tenants: BTreeSet<DocumentId> =
                some.iter().map(|(key, ..)| key.tenant().into()).collect();
            let mut set = self.known_rosters().await?;
            let shown = self.documents(tenants.iter().copied().collect(), vec![Kind::Tenant]);
            set.insert_all(shown.await?);
            let not = |tenant: &DocumentId| {
                let tenant = TenantId::from(*tenant);
                format!("{tenant}, or not enough of them")
            };
            let authorities: BTreeMap<DocumentId, Result<Digest, ClusterError>> = tenants
                .into_iter()
                .map(|tenant| {
                    let by = administrator.map_or_else(
                        || Err(ClusterError::NotAdministrator(not(&tenant))),
                        |own| authority_of(&set, &tenant, own, &not(&tenant)),
                    );
                    (tenant, by)
                })
                .collect();
            let mut drafted = Vec::with_capacity(some.len());
            for (key, version, change) in some {
                let by = authorities.get(&key.tenant().into());
                let authority = by.and_then(|by| by.as_ref().ok()).copied();
                let signing = Signing {
                    at,
                    authority,
                    critical: true,
                    own: None,
                    administrator: administrator.filter(|_| authority.is_some()),
                    without: by.and_then(|by| by.as_ref().err()).cloned().map(Error::from),
                };
                match self.draft(key, *version, change, &signing) {
                    Ok(draft) if draft.documents.is_empty() => signed.in_force.push(draft.report),
                    Ok(draft) => {
                        // What the order follows is brought along.
                        set.insert_all(key.heads().iter().cloned());
                        set.insert_all(key.order_heads(*version).iter().cloned());
                        drafted.push(draft);
                    }
                    Err(error) => {
                        let (key, version) = (key.id(), *version);
                        signed.refused.push(RefusedOrder { key, version, error });
                    }
                }
            }
            for some in drafted.chunks(ORDERS_AT_ONCE) {
                self.hand_over_each(&set, some, &mut signed).await?;
            }
        }
        Ok(signed)
    }

    /// Hands these orders over together; where no node takes all of them, one by one.
    ///
    /// # Errors
    /// Where nobody answered: then nobody will take the next.
    async fn hand_over_each(
        &self,
        set: &DocumentSet,
        drafted: &[Drafted],
        signed: &mut SignedOrders,
    ) -> Result<(), Error> {
        let documents: Vec<SignedDocument> =
            drafted.iter().flat_map(|draft| draft.documents.clone()).collect();
        match (deliver(self, set, &documents).await, drafted) {
            (Ok(Delivered { nodes, .. }), all) => {
                for draft in all {
                    self.forget_key(draft.key);
                    // Whoever deals its shares brings nodes what they lack: nothing needs to be kept for them.
                    let delivered = Some(Delivered { documents: Vec::new(), nodes: nodes.clone() });
                    signed.in_force.push(OrderReport { delivered, ..draft.report.clone() });
                }
            }
            (Err(error), _) if !refused(&error) => return Err(error),
            (Err(error), [Drafted { key, version, .. }]) => {
                signed.refused.push(RefusedOrder { key: *key, version: *version, error });
            }
            (Err(_), several) => {
                for one in several {
                    Box::pin(self.hand_over_each(set, core::slice::from_ref(one), signed)).await?;
                }
            }
        }
        Ok(())
    }
}

/// Whether some node said no.
fn refused(error: &Error) -> bool {
    match error {
        Error::Refused(_) => true,
        Error::NotQuorate(missing) => !missing.refused.is_empty(),
        _ => false,
    }
}
