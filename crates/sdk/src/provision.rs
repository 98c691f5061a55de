//! Making keys by the thousand: their documents are signed beforehand, by whoever administers each tenant, and
//! one principal that the documents name as coordinator runs all ceremonies, many rounds in one request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use prost::Message;
use quorate_coordinator::ceremony::{Certified, Dkg, Finish, FinishOutcome, Outcome, new_session};
use quorate_documents::{Body, DocumentSet, Draft, Kind, Lookup, Order, SignedDocument, Tenant};
use quorate_types::limits::{
    MAX_CEREMONIES_PER_REQUEST, MAX_DOCUMENTS_PER_REQUEST, PRINCIPAL_DAYS,
};
use quorate_types::{
    Action, Digest, DocumentId, KeyId, KeyVersion, NodeId, PrincipalId, TenantId, Threshold,
    UnixSeconds,
};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PublicKey, RefusalCode, Transcript};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::ceremony::key_body;
use crate::client::Client;
use crate::cluster::{SECONDS_PER_DAY, principal_body};
use crate::error::{CeremonyError, ClusterError, Error, InvitationError, RequestError};
use crate::invitation::Invitation;
use crate::kept::{self, KeepDealings, KeptDkg};
use crate::keys::{KeySpecRequest, fingerprint};
use crate::managed::authority_of;
use crate::profile::AdminKey;
use crate::rng::os_rng;
use crate::transport::{CallError, FanOut, Method, Unreachable};
use crate::{NodeRefusal, Permission};

/// Ceremonies of one principal under way at once: as many sessions as a node lets it have, in two halves, so
/// that nodes compute while this client does.
pub(crate) const LANES: usize = 2;
const KEYS_OF_A_LANE: usize = MAX_CEREMONIES_PER_REQUEST / LANES;

const ORDER: &str = "quorate-key-order-1:";
const CHECKSUM_BYTES: usize = 4;

/// A principal that is to be made with a key.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPrincipal {
    /// What it is called.
    pub name: String,
    /// Its public key.
    pub public_key: PublicKey,
    /// What it may do with all keys of its tenant.
    pub actions: Vec<Action>,
    /// For how many days; none for 90.
    pub days: Option<u64>,
}

/// A key that a tenant's administrator orders for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKeyOrder {
    /// The tenant.
    pub tenant: TenantId,
    /// The version of the tenant's document that is in force.
    pub authority: Digest,
    /// What the key is to be.
    pub key: KeySpecRequest,
    /// The principal, of any tenant, that runs the key's ceremonies and may do nothing else with it.
    pub coordinator: PrincipalId,
    /// Principals of the tenant that are made with it.
    pub principals: Vec<NewPrincipal>,
}

/// A key that an administrator orders for a tenant directly below this client's own, of which it is an administrator
/// too, as of those that a reseller makes and manages.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedKey {
    /// The tenant, by name or id.
    pub tenant: String,
    /// What the key is to be.
    pub key: KeySpecRequest,
    /// Principals of the tenant that are made with it.
    pub principals: Vec<NewPrincipal>,
}

/// A key of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchedKey {
    /// What it is to be.
    pub new: ManagedKey,
    /// What an earlier run signed for it, and nodes may not take any more.
    pub before: Option<KeyOrder>,
}

/// The signed documents of a key that is to be made, and of principals of its tenant. Whoever holds it can hand it
/// to nodes; only the coordinator that it names, and the tenant's own principals, can have the key made.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyOrder {
    principals: Vec<SignedDocument>,
    key: SignedDocument,
}

impl KeyOrder {
    /// Signs one as an administrator of its tenant, of whom one is enough.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn sign(
        client: &Client,
        administrator: &AdminKey,
        new: NewKeyOrder,
        at: UnixSeconds,
    ) -> Result<Self, Error> {
        let invalid = |e: quorate_documents::DocumentError| RequestError::Invalid(e.to_string());
        let rng = &mut os_rng();
        let NewKeyOrder { tenant, authority, key, coordinator, principals } = new;
        let mut signed = Vec::with_capacity(principals.len());
        for new in principals {
            let expires_at = at.plus(new.days.unwrap_or(PRINCIPAL_DAYS) * SECONDS_PER_DAY);
            let mut actions = new.actions;
            actions.sort_unstable();
            actions.dedup();
            let permissions =
                actions.into_iter().map(|action| Permission { action, key: None }).collect();
            let body = principal_body(tenant, new.name, new.public_key, expires_at, permissions);
            let draft = Draft::first(body, Some(authority), at, rng);
            signed
                .push(draft.and_then(|d| d.sign(&[administrator.signing_key()])).map_err(invalid)?);
        }
        let (mut body, _) = key_body(client.roster(), tenant, key, at)?;
        body.coordinator = Some(coordinator);
        let key = Draft::first(Body::Key(body), Some(authority), at, rng)
            .and_then(|draft| draft.sign(&[administrator.signing_key()]))
            .map_err(invalid)?;
        Ok(Self { principals: signed, key })
    }

    /// The key's id.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key.id().into()
    }

    /// Whose key it is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.key.body().tenant().unwrap_or(TenantId::from_bytes([0; 32]))
    }

    /// What the key is called.
    #[must_use]
    pub fn alias(&self) -> &str {
        match self.key.body() {
            Body::Key(key) => &key.alias,
            _ => "",
        }
    }

    /// Who runs its ceremonies.
    #[must_use]
    pub fn coordinator(&self) -> Option<PrincipalId> {
        match self.key.body() {
            Body::Key(key) => key.coordinator,
            _ => None,
        }
    }

    /// The ids of the principals that are made with it.
    pub fn principals(&self) -> impl Iterator<Item = PrincipalId> {
        self.principals.iter().map(|principal| principal.id().into())
    }

    /// T-of-N of the key.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        self.order().map(Order::threshold)
    }

    /// What of it nodes do not take any more: a document that was signed under an older version of the tenant, which
    /// the one in force does not keep.
    fn falls(&self, set: &DocumentSet) -> Falls {
        let in_force = set.in_force(&self.tenant().into());
        let stands = |document: &SignedDocument| {
            !in_force.is_empty()
                && in_force.iter().all(|tenant| {
                    document.authority() == Some(tenant.digest())
                        || tenant.frontier().binary_search_by_key(&document.id(), |e| e.id).is_ok()
                })
        };
        match (stands(&self.key), self.principals.iter().all(stands)) {
            (true, true) => Falls::Nothing,
            (true, false) => Falls::Principals,
            (false, _) => Falls::Key,
        }
    }

    fn order(&self) -> Option<&Order> {
        match self.key.body() {
            Body::Key(key) => key.versions.first().map(|version| &version.order),
            _ => None,
        }
    }

    fn documents(&self) -> impl Iterator<Item = &SignedDocument> {
        self.principals.iter().chain([&self.key])
    }

    /// One line of lower-case base32 with a checksum against slips of copying.
    #[must_use]
    pub fn to_text(&self) -> String {
        let documents = self.documents().map(|d| d.envelope().clone()).collect();
        let bytes = v1::PutDocumentsRequest { node: Vec::new(), documents }.encode_to_vec();
        let check = Transcript::new("key-order").field(&bytes).digest();
        let bytes: Vec<u8> =
            bytes.iter().chain(check.as_bytes().iter().take(CHECKSUM_BYTES)).copied().collect();
        format!("{ORDER}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }

    /// Reads its text. Its signatures are verified.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let bad = InvitationError::Malformed;
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let body = text.strip_prefix(ORDER).ok_or(bad("it begins with another word"))?;
        let bytes = BASE32_NOPAD
            .decode(body.to_uppercase().as_bytes())
            .map_err(|_| bad("mistyped or cut short"))?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(bad("cut short"))?;
        let (bytes, check) = bytes.split_at(at);
        if !Transcript::new("key-order").field(bytes).digest().as_bytes().starts_with(check) {
            return Err(bad("mistyped or cut short"));
        }
        let holds = bad("it holds no key's documents");
        let read = v1::PutDocumentsRequest::decode(bytes).map_err(|_| holds.clone())?;
        let documents: Result<Vec<_>, _> =
            read.documents.into_iter().map(SignedDocument::parse).collect();
        let mut documents = documents.map_err(|_| holds.clone())?;
        let key = documents.pop().ok_or(holds.clone())?;
        let first = |d: &SignedDocument| d.version() == 1;
        let order = Self { principals: documents, key };
        let principals = order.principals.iter();
        let fits = first(&order.key)
            && order.order().is_some()
            && principals.clone().all(|d| matches!(d.body(), Body::Principal(_)) && first(d))
            && principals.clone().all(|d| d.body().tenant() == Some(order.tenant()));
        if fits { Ok(order) } else { Err(holds) }
    }
}

/// What of an order must be signed anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Falls {
    Nothing,
    /// The key's document stands: it must stay the same key.
    Principals,
    Key,
}

/// A key that was made just now, or was found made.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionedKey {
    /// Its id.
    pub key: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is called.
    pub alias: String,
    /// Its compact certificate.
    pub certificate: Envelope,
    /// What people compare.
    pub fingerprint: Digest,
    /// Nodes that have their share and have not acknowledged the certificate yet.
    pub lacking: Vec<String>,
}

impl Admin<'_> {
    /// Signs the order of a key of this client's own tenant, whose ceremonies a principal of any tenant is to run.
    ///
    /// # Errors
    /// [`ClusterError::NotAdministrator`] where another key, or more than one, must sign; and as
    /// [`Client::create_key`].
    pub async fn order_key(
        &self,
        key: KeySpecRequest,
        coordinator: PrincipalId,
    ) -> Result<KeyOrder, Error> {
        let client = self.client();
        let heads = client.tenant_heads().await?;
        let own = [self.key().public()];
        let enough = heads.iter().all(|head| head.body().administrators.quorum_of(&own));
        let authority = heads.digests().first().copied().filter(|_| enough);
        let not = || ClusterError::NotAdministrator(format!("the tenant {}", heads.name()));
        let authority = authority.ok_or_else(not)?;
        let (tenant, principals) = (client.tenant(), Vec::new());
        let new = NewKeyOrder { tenant, authority, key, coordinator, principals };
        KeyOrder::sign(client, self.key(), new, client.document_time().await?)
    }

    /// Signs orders for tenants below this client's, as their administrator; its own principal is to run the
    /// ceremonies. Nothing is sent to any node. One result for each, in order. What was signed before is the result as far
    /// as nodes take it, so that no key is made twice.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show the tenants; for one of them [`ClusterError::TenantUnknown`], and
    /// [`ClusterError::NotAdministrator`] where another key, or more than one, must sign.
    pub async fn order_keys(
        &self,
        wanted: Vec<BatchedKey>,
    ) -> Result<Vec<Result<KeyOrder, Error>>, Error> {
        let client = self.client();
        let set = client.set_with_below(Vec::new()).await?;
        let at = client.document_time().await?;
        let mut named: HashMap<String, Vec<DocumentId>> = HashMap::new();
        for id in set.ids(Kind::Tenant) {
            let Some(heads) = set.heads::<Tenant>(&id) else { continue };
            if heads.parent() == Some(client.tenant()) {
                named.entry(heads.name().to_owned()).or_default().push(id);
                named.entry(TenantId::from(id).to_string()).or_default().push(id);
            }
        }
        let coordinator = client.principal();
        let order = |wanted: BatchedKey| -> Result<KeyOrder, Error> {
            let BatchedKey { new: ManagedKey { tenant, key, principals }, before } = wanted;
            let falls = before.as_ref().map_or(Falls::Key, |before| before.falls(&set));
            let before = match (before, falls) {
                (Some(before), Falls::Nothing) => return Ok(before),
                (before, Falls::Principals) => before,
                _ => None,
            };
            let id = match named.get(&tenant).map(Vec::as_slice) {
                Some([one]) => *one,
                Some(_) => {
                    let why =
                        format!("several tenants are called \"{tenant}\"; name one by its id");
                    return Err(RequestError::Invalid(why).into());
                }
                None => return Err(ClusterError::TenantUnknown(tenant).into()),
            };
            let authority = authority_of(&set, &id, self.key(), &tenant)?;
            let new = NewKeyOrder { tenant: id.into(), authority, key, coordinator, principals };
            let signed = KeyOrder::sign(client, self.key(), new, at)?;
            Ok(match before {
                Some(before) => KeyOrder { key: before.key, ..signed },
                None => signed,
            })
        };
        Ok(wanted.into_iter().map(order).collect())
    }
}

/// What came of one order.
pub type Provisioned = (KeyOrder, Result<ProvisionedKey, Error>);

/// One order on its way.
struct Job {
    at: usize,
    order: KeyOrder,
}

impl Client {
    /// Of orders for tenants below this client's, whether nodes take each still, by the versions of the tenants that
    /// are in force.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show the tenants.
    pub async fn orders_that_stand<'a>(
        &self,
        orders: impl IntoIterator<Item = &'a KeyOrder>,
    ) -> Result<Vec<bool>, Error> {
        let set = self.set_with_below(Vec::new()).await?;
        Ok(orders.into_iter().map(|order| order.falls(&set) == Falls::Nothing).collect())
    }

    /// What to hand to a principal that was made with a key's order.
    #[must_use]
    pub fn invitation_of_principal(&self, tenant: TenantId, principal: PrincipalId) -> Invitation {
        let roster = self.inner.membership.roster.envelope().clone();
        Invitation { cluster: self.cluster(), tenant, principal, roster }
    }

    /// Makes keys whose documents name this client's principal as coordinator. Each that is made, or cannot be, is
    /// told as soon as that is known, in any order, with its place in `orders`. Keys that were made before, or half
    /// made, by whomever, are finished: so the same orders can be given again after an interruption. What nodes dealt
    /// is kept by `keeping` before they are asked to sign; a run that is given it within the ten minutes for which
    /// nodes keep a session also finishes keys that some nodes have signed and others not.
    pub async fn provision_keys(
        &self,
        orders: Vec<KeyOrder>,
        keeping: Arc<dyn KeepDealings>,
        mut told: impl FnMut(usize, Provisioned),
    ) {
        let orders = orders.into_iter().enumerate().map(|(at, order)| Job { at, order });
        let waiting = Arc::new(Mutex::new(orders.collect::<Vec<_>>().into_iter()));
        let (sender, mut done) = mpsc::channel(4 * KEYS_OF_A_LANE);
        let mut lanes = JoinSet::new();
        for _ in 0..LANES {
            let (client, waiting, sender) = (self.clone(), Arc::clone(&waiting), sender.clone());
            let keeping = Arc::clone(&keeping);
            lanes.spawn(async move {
                loop {
                    let jobs: Vec<Job> =
                        waiting.lock().await.by_ref().take(KEYS_OF_A_LANE).collect();
                    if jobs.is_empty() {
                        return;
                    }
                    for (at, provisioned) in client.provision_some(jobs, &keeping).await {
                        // Nobody listens any more: then nothing is begun either.
                        if sender.send((at, provisioned)).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        while let Some((at, provisioned)) = done.recv().await {
            told(at, provisioned);
        }
    }

    /// Makes as many keys as one request carries.
    async fn provision_some(
        &self,
        jobs: Vec<Job>,
        keeping: &Arc<dyn KeepDealings>,
    ) -> Vec<(usize, Provisioned)> {
        let mut done: Vec<(usize, Provisioned)> = Vec::with_capacity(jobs.len());
        let refused = self.store_documents(&jobs).await;
        let (mut running, mut machines) = (Vec::new(), Vec::new());
        for Job { at, order } in jobs {
            let begun = match refused.get(&order.key()) {
                Some(error) => Err(error.clone()),
                None => self.begin(&order, true, keeping),
            };
            match begun {
                Ok(machine) => {
                    running.push(Job { at, order });
                    machines.push(machine);
                }
                Err(error) => done.push((at, (order, Err(error)))),
            }
        }
        let (mut outcomes, mut reasons) = self.relay(machines).await;
        // A session in which a node dealt, and whose time is over, is never opened again: then another one.
        let over = RefusalCode::SessionUnknown.code();
        let is_over = |outcome: &Option<Outcome>| match outcome {
            Some(Outcome::Failed(failed)) => {
                failed.signed.is_empty() && failed.refusals.iter().any(|(_, r)| r.code == over)
            }
            _ => false,
        };
        let again: Vec<usize> =
            (0..running.len()).filter(|at| outcomes.get(*at).is_some_and(is_over)).collect();
        let machines =
            again.iter().filter_map(|at| self.begin(&running.get(*at)?.order, false, keeping).ok());
        let (others, more) = self.relay(machines.collect()).await;
        reasons.extend(more);
        for (at, other) in again.into_iter().zip(others) {
            if let Some(outcome) = outcomes.get_mut(at) {
                *outcome = other;
            }
        }
        let (mut unfinished, mut finishing) = (Vec::new(), Vec::new());
        for (job, outcome) in running.into_iter().zip(outcomes) {
            let id = job.order.key();
            match outcome {
                Some(Outcome::Certified(certified)) => {
                    let made = self.provisioned(&job.order, *certified);
                    done.push((job.at, (job.order, Ok(made))));
                }
                Some(Outcome::Failed(failed)) => {
                    let signed = RefusalCode::AlreadySigned.code();
                    let before = failed.refusals.iter().any(|(_, refusal)| refusal.code == signed);
                    if let Some(order) =
                        job.order.order().filter(|_| before || !failed.signed.is_empty())
                    {
                        finishing.push(Finish::new(id, KeyVersion::FIRST, order));
                        unfinished.push(job);
                    } else {
                        let error = self.failed(id, *failed, &reasons);
                        done.push((job.at, (job.order, Err(error))));
                    }
                }
                None => done.push((job.at, (job.order, Err(interrupted(id))))),
            }
        }
        let (outcomes, reasons) = self.relay(finishing).await;
        for (job, outcome) in unfinished.into_iter().zip(outcomes) {
            let id = job.order.key();
            let result = match outcome {
                Some(FinishOutcome::Certified(certified)) => {
                    Ok(self.provisioned(&job.order, *certified))
                }
                Some(FinishOutcome::Incomplete(incomplete)) => {
                    Err(self.incomplete(id, *incomplete, &reasons))
                }
                None => Err(interrupted(id)),
            };
            done.push((job.at, (job.order, result)));
        }
        done
    }

    /// A ceremony for an order. Its first session is what was kept of it, or the same whenever it is begun: so one that
    /// was interrupted goes on with the sessions that nodes still have open, and is not held up by them.
    fn begin(
        &self,
        order: &KeyOrder,
        first: bool,
        keeping: &Arc<dyn KeepDealings>,
    ) -> Result<KeptDkg, Error> {
        let invalid = |why: String| Error::from(RequestError::Invalid(why));
        let (id, version) = (order.key(), KeyVersion::FIRST);
        let members = order.order().ok_or_else(|| invalid("it orders no key".into()))?;
        let keep = |dkg| KeptDkg::new(id, dkg, Arc::clone(keeping));
        let kept = kept::read(keeping.as_ref(), id).filter(|_| first);
        if let Some(dkg) = kept.and_then(|dealing| Dkg::again(dealing, members).ok()) {
            return Ok(keep(dkg));
        }
        let roster = self.roster_digest();
        let mut session = new_session(id, version, members, roster, 1, &mut os_rng());
        if first {
            let nonce = Transcript::new("key-order-session")
                .field(id.as_bytes())
                .field(roster.as_bytes())
                .digest();
            session.nonce = nonce.as_bytes().to_vec();
        }
        Dkg::new(&session, members).map(keep).map_err(|e| invalid(e.to_string()))
    }

    fn provisioned(&self, order: &KeyOrder, certified: Certified) -> ProvisionedKey {
        ProvisionedKey {
            key: order.key(),
            tenant: order.tenant(),
            alias: order.alias().to_owned(),
            fingerprint: fingerprint(&certified.certificate),
            certificate: certified.certificate.envelope().clone(),
            lacking: certified.lacking.iter().map(|(node, _)| self.node_name(*node)).collect(),
        }
    }

    /// Hands the documents of these orders to all nodes. Returns the keys of which some member did not take all,
    /// and why.
    async fn store_documents(&self, jobs: &[Job]) -> BTreeMap<KeyId, Error> {
        let mut refused: BTreeMap<KeyId, Error> = BTreeMap::new();
        let all: Vec<(&KeyOrder, &SignedDocument)> =
            jobs.iter().flat_map(|job| job.order.documents().map(|d| (&job.order, d))).collect();
        for some in all.chunks(MAX_DOCUMENTS_PER_REQUEST) {
            let mut asking = JoinSet::new();
            let fan_out = Some(FanOut::new());
            for entry in &self.roster().nodes {
                let request = v1::PutDocumentsRequest {
                    node: entry.id.as_bytes().to_vec(),
                    documents: some.iter().map(|(_, d)| d.envelope().clone()).collect(),
                };
                let (transport, node) = (self.inner.transport.clone(), entry.id);
                asking.spawn(async move {
                    let answer: Result<v1::PutDocumentsReply, CallError> =
                        transport.call_of(fan_out, node, Method::PutDocuments, &request).await;
                    (node, answer)
                });
            }
            while let Some(joined) = asking.join_next().await {
                let Ok((node, answer)) = joined else { continue };
                for (at, (order, _)) in some.iter().enumerate() {
                    if order.order().is_none_or(|members| members.member(&node).is_none()) {
                        continue;
                    }
                    let why = match &answer {
                        Ok(reply) => match reply.results.get(at) {
                            Some(v1::DocumentResult { refusal: None, .. }) => continue,
                            Some(v1::DocumentResult { refusal: Some(refusal), .. }) => {
                                Why::Refused(Box::new(refusal.clone()))
                            }
                            None => Why::Short,
                        },
                        Err(CallError::Refused(refusal)) => Why::Refused(refusal.clone()),
                        Err(CallError::Unreachable(unreachable)) => {
                            Why::Unreachable(unreachable.clone())
                        }
                    };
                    refused
                        .entry(order.key())
                        .or_insert_with(|| self.not_stored(order.key(), node, why));
                }
            }
        }
        refused
    }

    fn not_stored(&self, key: KeyId, node: NodeId, why: Why) -> Error {
        let name = self.node_name(node);
        let mut error = CeremonyError {
            what: "not every node of the key has stored its documents".into(),
            code: crate::error::code::CEREMONY_FAILED,
            key: Some(key),
            unreachable: Vec::new(),
            refused: Vec::new(),
            wrong: Vec::new(),
        };
        match why {
            Why::Refused(refusal) => {
                error.refused.push(NodeRefusal { name, refusal: *refusal });
            }
            Why::Unreachable(unreachable) => error.unreachable.push(unreachable),
            Why::Short => error.wrong.push(crate::WrongAnswer {
                name,
                what: "it answered fewer documents than it was given".into(),
            }),
        }
        error.into_error()
    }
}

/// Why a node has not stored an order's documents.
enum Why {
    Refused(Box<v1::Refusal>),
    Unreachable(Unreachable),
    Short,
}

pub(crate) fn interrupted(key: KeyId) -> Error {
    CeremonyError {
        what: "the ceremony was interrupted".into(),
        code: crate::error::code::CEREMONY_FAILED,
        key: Some(key),
        unreachable: Vec::new(),
        refused: Vec::new(),
        wrong: Vec::new(),
    }
    .into_error()
}

#[cfg(test)]
mod tests {
    use quorate_documents::BodyOf as _;

    use super::*;
    use crate::cluster::{ClusterRequest, all_permissions, create_cluster, tests::card};
    use crate::rng::now;

    /// An order that was signed under a version of its tenant that is not in force any more is signed anew, unless the
    /// version in force keeps it. Fails where it is handed over as it is: no node takes it, in whichever run.
    #[test]
    fn an_order_stands_as_long_as_nodes_take_it() {
        let admin = AdminKey::generate();
        let bundle = create_cluster(ClusterRequest {
            name: "test".into(),
            cards: vec![card(1), card(2), card(3)],
            admin: &admin,
            recovery: None,
            principal_name: "founder".into(),
            principal_key: AdminKey::generate().public(),
        })
        .unwrap();
        let parse = |e: &Envelope| SignedDocument::parse(e.clone()).unwrap();
        let all: Vec<_> =
            core::iter::once(&bundle.roster).chain(&bundle.documents).map(parse).collect();
        let roster = quorate_documents::Roster::of(all[0].body()).unwrap().clone();
        let tenant = all[1].clone();
        let mut set = DocumentSet::partial(bundle.cluster);
        assert!(set.insert_all(all).is_empty());

        let spec = KeySpecRequest { alias: "files".into(), threshold: 2, ..Default::default() };
        let (body, _) = key_body(&roster, tenant.id().into(), spec, now()).unwrap();
        let sign = |body: Body| {
            let draft = Draft::first(body, Some(tenant.digest()), now(), &mut os_rng()).unwrap();
            draft.sign(&[admin.signing_key()]).unwrap()
        };
        let order = KeyOrder {
            key: sign(Body::Key(body)),
            principals: vec![sign(principal_body(
                tenant.id().into(),
                "till".into(),
                AdminKey::generate().public(),
                now().plus(86_400),
                all_permissions(),
            ))],
        };
        assert!(order.falls(&set) == Falls::Nothing, "its tenant's version is in force");

        let next = |kept: &[&SignedDocument]| {
            let mut body = Tenant::of(tenant.body()).unwrap().clone();
            body.support_contact.push('x');
            let mut frontier: Vec<_> = kept.iter().map(|d| d.frontier_entry()).collect();
            frontier.sort_unstable();
            let authority = Some(tenant.digest());
            let draft =
                Draft::succeed(&[&tenant], Body::Tenant(body), authority, frontier, now()).unwrap();
            let mut set = set.clone();
            set.insert(draft.sign(&[admin.signing_key()]).unwrap()).unwrap();
            set
        };
        let (key, principal) = (&order.key, &order.principals[0]);
        assert!(order.falls(&next(&[])) == Falls::Key, "nobody has seen it");
        assert!(order.falls(&next(&[key])) == Falls::Principals, "the key must stay the same");
        assert!(order.falls(&next(&[key, principal])) == Falls::Nothing);
    }
}
