//! Keys: finding and verifying them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_coordinator::evaluation::Committee;
use quorate_documents::{
    Certificate, Jurisdiction, KeyOrder, KeyViewError, Order, SignedDocument, Statement,
    VerifiedKey, VerifiedVersion, key_view,
};
use quorate_types::{
    Digest, Generation, KeyId, KeySpec, KeyState, KeyVersion, NodeId, TenantId, Threshold,
    UnixSeconds,
};
use quorate_wire::Transcript;
use quorate_wire::proto::v1::{self, Envelope, KeyView};

use crate::client::{Answered, Client, NodeFailure, Warning};
use crate::error::{ClusterError, Error, KeyError, NotQuorate, WrongAnswer};
use crate::lifecycle::KeyFate;
use crate::newer::LOOK_AGAIN_FOR_A_NODE;
use crate::rng::now;
use crate::transport::Method;

/// What a new key is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySpecRequest {
    /// What people will call it.
    pub alias: String,
    /// T: how many nodes serve a request.
    pub threshold: u16,
    /// Names or ids of the nodes that hold its shares; none for all nodes of the roster that the
    /// jurisdictions allow.
    pub members: Option<Vec<String>>,
    /// No order may name fewer members, nor fewer make the key; none for the number of members, or for T where
    /// nodes may be away.
    pub minimum_committee: Option<u16>,
    /// Whether it is made also where nodes give no answer, as long as T and the minimum are left. They come in by
    /// the first reshare.
    pub allow_absent: bool,
    /// Whether one may encrypt where all N nodes are needed.
    pub allow_fragile: bool,
    /// Where shares may be; empty for anywhere.
    pub jurisdictions: Vec<Jurisdiction>,
    /// Whether every object must be bound to a customer fragment. No node can see whether one is: clients
    /// enforce it.
    pub fragment_required: bool,
    /// A plain refresh may be run once in so many seconds; 0 for never.
    pub refresh_seconds: u64,
}

/// How far making a key has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The step, from 1.
    pub step: u8,
    /// How many steps there are.
    pub of: u8,
    /// What is being waited for.
    pub what: String,
}

/// A key that was made just now.
#[derive(Debug, Clone)]
pub struct CreatedKey {
    /// The key, verified.
    pub key: Key,
    /// The version that was made.
    pub version: KeyVersion,
    /// Its compact certificate: the statement with every participant's signature.
    pub certificate: Envelope,
    /// What people compare: a tagged hash of key, version and verifying key.
    pub fingerprint: Digest,
    /// The nodes that hold its shares.
    pub holders: Vec<String>,
    /// Nodes that were away, and have none yet.
    pub absent: Vec<String>,
    /// Nodes that have not acknowledged the certificate yet, and why. They keep their shares;
    /// [`Client::resume_key`] delivers it later.
    pub lacking: Vec<(String, String)>,
}

/// A key of which every document, signature and certificate was verified from the trusted roster on.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Key(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    verified: VerifiedKey,
    committees: BTreeMap<KeyVersion, Committee>,
    /// The versions of the key document that are its heads.
    heads: Vec<SignedDocument>,
    /// Of each version the versions of order documents that the next order follows.
    orders: BTreeMap<KeyVersion, Vec<SignedDocument>>,
    /// What nodes say of its destruction.
    fates: Vec<(NodeId, KeyFate)>,
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersionInfo {
    /// Its number.
    pub number: KeyVersion,
    /// T-of-N, as its shares are dealt; of one that is not made, as they are to be.
    pub threshold: Threshold,
    /// The nodes that hold its shares, or are to.
    pub members: Vec<NodeId>,
    /// The order in force, which the next reshare fulfils; none where several contend, or none counts of those by which
    /// the shares were dealt.
    pub order: Option<OrderInfo>,
    /// The order by which the shares in use were dealt does not count any more: the tenant's documents do not keep it.
    /// The next order adopts it; nothing is dealt anew before.
    pub unadopted: bool,
    /// The sharing, where it is made.
    pub generation: Option<Generation>,
    /// The number of the order by which its shares were dealt; 0 where it is not made.
    pub dealt_by: u32,
    /// How many times its shares were dealt: once when it was made; 0 where it is not.
    pub height: u64,
    /// What people compare, where it is made.
    pub fingerprint: Option<Digest>,
    /// Whether all N nodes are needed.
    pub fragile: bool,
    /// Somebody whom an order names and no roster that is known here: order 1, so that the version is never made; or the
    /// newest, so that none is in force. What is in use is so all the same.
    pub stranger: Option<NodeId>,
}

/// An order: who is to hold the shares of a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderInfo {
    /// Its number: 1 for the one by which the key version is made.
    pub number: u32,
    /// T-of-N.
    pub threshold: Threshold,
    /// The members.
    pub members: Vec<NodeId>,
    /// Members that come in without having had a share of the generation before.
    pub entering: Vec<NodeId>,
    /// A plain refresh may be run once in so many seconds; 0 for never.
    pub refresh_seconds: u64,
    /// Whether the shares in use are dealt as it says, to all its members.
    pub fulfilled: bool,
}

impl Key {
    fn new(
        verified: VerifiedKey,
        shown: &[KeyView],
        fates: Vec<(NodeId, KeyFate)>,
    ) -> Result<Self, Error> {
        let id = verified.id();
        let invalid = |why: String| KeyError::Invalid { id, why };
        let committees = committees(&verified);
        let mut heads: Vec<SignedDocument> = Vec::new();
        for envelope in shown.iter().flat_map(|view| &view.documents) {
            let digest = quorate_wire::digests::document_digest(&envelope.payload);
            if verified.head_digests().contains(&digest)
                && !heads.iter().any(|head| head.digest() == digest)
            {
                heads.push(
                    SignedDocument::parse(envelope.clone()).map_err(|e| invalid(e.to_string()))?,
                );
            }
        }
        let mut orders = BTreeMap::new();
        for version in verified.versions() {
            let wanted: BTreeSet<Digest> = version.followed_by_next().into_iter().collect();
            if wanted.is_empty() {
                continue;
            }
            let found =
                crate::orders::shown(shown.iter().flat_map(|view| &view.documents), &wanted);
            orders.insert(version.number, found.map_err(|e| invalid(e.to_string()))?);
        }
        Ok(Self(Arc::new(Inner { verified, committees, heads, orders, fates })))
    }

    /// The same key with the certificates of reshares that somebody shows, as far as they are of higher ranks;
    /// none where no one is.
    ///
    /// # Errors
    /// [`KeyViewError`], of the first that does not verify by what is known of the key.
    pub(crate) fn adopting<'a>(
        &self,
        shown: impl IntoIterator<Item = &'a Envelope>,
    ) -> Result<Option<Self>, KeyViewError> {
        let mut verified = self.0.verified.clone();
        let mut higher = false;
        for envelope in shown {
            higher |= verified.adopt(envelope)?;
        }
        if !higher {
            return Ok(None);
        }
        let Inner { heads, orders, fates, .. } = &*self.0;
        Ok(Some(Self(Arc::new(Inner {
            committees: committees(&verified),
            verified,
            heads: heads.clone(),
            orders: orders.clone(),
            fates: fates.clone(),
        }))))
    }

    /// The same key with the certificates that are known of it besides: nodes that are behind show lower ones.
    pub(crate) fn with_higher_of(&self, known: &Self) -> Self {
        let versions = known.0.verified.versions().iter();
        let certificates = versions.filter_map(|v| Some(v.certificate.as_ref()?.envelope()));
        let mut all = self.clone();
        for certificate in certificates {
            // What does not stand by what the key is now does not count.
            if let Ok(Some(higher)) = all.adopting([certificate]) {
                all = higher;
            }
        }
        all
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.verified.id()
    }

    /// What people call it.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.0.verified.alias()
    }

    /// Who owns it.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.0.verified.tenant()
    }

    /// What kind of key it is.
    #[must_use]
    pub fn spec(&self) -> KeySpec {
        self.0.verified.spec()
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.0.verified.state()
    }

    /// Whether one may encrypt where all N nodes are needed.
    #[must_use]
    pub fn allows_fragile(&self) -> bool {
        self.0.verified.heads().allow_fragile()
    }

    /// Whether every object must be bound to a customer fragment.
    #[must_use]
    pub fn fragment_required(&self) -> bool {
        self.0.verified.fragment_required()
    }

    /// Where its shares may be; empty for anywhere.
    #[must_use]
    pub fn jurisdictions(&self) -> Vec<Jurisdiction> {
        self.body().map(|body| body.jurisdictions.clone()).unwrap_or_default()
    }

    /// No order may name fewer members.
    #[must_use]
    pub fn minimum_committee(&self) -> u32 {
        self.0.verified.heads().minimum_committee()
    }

    /// Its versions, in order, made or not.
    #[must_use]
    pub fn versions(&self) -> Vec<KeyVersionInfo> {
        self.0
            .verified
            .versions()
            .iter()
            .map(|version| {
                let order = version.orders.newest().unwrap_or(&version.order);
                let made = self.made(version).map(Certificate::statement);
                let held = made.map_or(order.members(), Statement::participants);
                KeyVersionInfo {
                    number: version.number,
                    threshold: made.map_or(order.threshold(), Statement::threshold),
                    members: held.iter().map(|m| m.node).collect(),
                    order: self.order_info(version),
                    unadopted: version.unadopted().is_some(),
                    generation: made.map(Statement::generation),
                    dealt_by: made.map_or(0, Statement::order_number),
                    height: made.map_or(0, Statement::height),
                    fingerprint: self.made(version).map(fingerprint),
                    fragile: self.fragile(version),
                    stranger: version.stranger(),
                }
            })
            .collect()
    }

    fn order_info(&self, version: &VerifiedVersion) -> Option<OrderInfo> {
        let order = version.orders.newest().ok().filter(|_| version.unadopted().is_none())?;
        let fulfilled = self.made(version).is_some_and(|certificate| {
            let statement = certificate.statement();
            let members = order.members();
            statement.order() == order.digest(self.id(), version.number)
                && members.len() == statement.participants().len()
                && members.iter().all(|m| statement.participant(&m.node).is_some())
        });
        let entering = order.members().iter().map(|m| m.node).filter(|node| order.enters(node));
        Some(OrderInfo {
            number: order.number(),
            threshold: order.threshold(),
            members: order.members().iter().map(|m| m.node).collect(),
            entering: entering.collect(),
            refresh_seconds: order.refresh_seconds(),
            fulfilled,
        })
    }

    /// Whether all nodes must answer of the order by which the shares in use were dealt, as nodes see it.
    fn fragile(&self, version: &VerifiedVersion) -> bool {
        let order = self.made(version).and_then(|_| version.in_use());
        order.unwrap_or(&version.order).fragile()
    }

    /// The nodes that have shares of a version that is made.
    pub(crate) fn committee_of(&self, version: KeyVersion) -> Option<Vec<NodeId>> {
        let certificate = self.made(self.0.verified.version(version)?)?;
        Some(certificate.statement().participants().iter().map(|m| m.node).collect())
    }

    /// The versions of order documents that the next order of this version follows: what counts, and by what its shares
    /// were dealt; none while order 1 is in force.
    pub(crate) fn order_heads(&self, version: KeyVersion) -> &[SignedDocument] {
        self.0.orders.get(&version).map(Vec::as_slice).unwrap_or_default()
    }

    /// The newest version that is made: the one that new objects are sealed under.
    #[must_use]
    pub fn newest_version(&self) -> Option<KeyVersion> {
        self.newest_made().map(|(version, _)| version)
    }

    /// The compact certificate of a version.
    #[must_use]
    pub fn certificate(&self, version: KeyVersion) -> Option<&Envelope> {
        Some(self.made(self.0.verified.version(version)?)?.envelope())
    }

    /// What people compare for the newest version that is made.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Digest> {
        self.newest_made().map(|(_, certificate)| fingerprint(certificate))
    }

    /// The certificate of a version that is made: one that names a committee.
    fn made<'a>(&self, version: &'a VerifiedVersion) -> Option<&'a Certificate> {
        version.certificate.as_ref().filter(|_| self.0.committees.contains_key(&version.number))
    }

    fn newest_made(&self) -> Option<(KeyVersion, &Certificate)> {
        let versions = self.0.verified.versions().iter().rev();
        versions.into_iter().find_map(|v| self.made(v).map(|c| (v.number, c)))
    }

    pub(crate) fn committee(&self, version: KeyVersion) -> Result<&Committee, KeyError> {
        let id = self.id();
        if self.0.verified.version(version).is_none() {
            return Err(KeyError::VersionUnknown { id, version });
        }
        let never = self.0.verified.version(version).and_then(VerifiedVersion::never_made);
        let missing = match never {
            Some(node) => KeyError::NodeUnknown { id, node },
            None => KeyError::NotReady { id, version },
        };
        self.0.committees.get(&version).ok_or(missing)
    }

    /// Order 1 of a version, by which it is made.
    pub(crate) fn order(&self, version: KeyVersion) -> Result<&Order, KeyError> {
        self.verified_version(version).map(|v| &v.order)
    }

    /// All that was verified of a version.
    pub(crate) fn verified_version(
        &self,
        version: KeyVersion,
    ) -> Result<&VerifiedVersion, KeyError> {
        let unknown = KeyError::VersionUnknown { id: self.id(), version };
        self.0.verified.version(version).ok_or(unknown)
    }

    /// The order that the next version repeats: the one in force, which no other follows; or the one in use, where what
    /// follows it names a node that no roster names.
    pub(crate) fn repeated_order(&self, version: KeyVersion) -> Result<&Order, KeyError> {
        let id = self.id();
        let found = self.verified_version(version)?;
        found.orders.newest().or_else(|none| {
            let in_use = found.in_use().filter(|_| none.stranger.is_some());
            in_use.ok_or_else(|| KeyError::Invalid { id, why: none.to_string() })
        })
    }

    /// Whether an order of a version names a node that no roster names: it asks for nothing.
    pub(crate) fn names_stranger(&self, version: KeyVersion, order: &KeyOrder) -> bool {
        let known = self.0.verified.version(version);
        known.is_some_and(|known| known.orders.stranger(&order.order_digest()).is_some())
    }

    /// The newest version in the documents that is made, or may be.
    pub(crate) fn last_version(&self) -> Option<KeyVersion> {
        let mut versions = self.0.verified.versions().iter().rev();
        versions.find(|version| version.never_made().is_none()).map(|v| v.number)
    }

    pub(crate) fn heads(&self) -> &[SignedDocument] {
        &self.0.heads
    }

    pub(crate) fn verified(&self) -> &VerifiedKey {
        &self.0.verified
    }

    pub(crate) fn fates(&self) -> &[(NodeId, KeyFate)] {
        &self.0.fates
    }

    pub(crate) fn body(&self) -> Option<&quorate_documents::Key> {
        self.0.verified.heads().single().map(|head| head.body())
    }

    /// The version to seal under, if this client may do so by what the documents say.
    pub(crate) fn sealing_version(&self) -> Result<KeyVersion, KeyError> {
        let id = self.id();
        let not_ready = KeyError::NotReady { id, version: KeyVersion::FIRST };
        let version = self.newest_version().ok_or(not_ready)?;
        let found = self.0.verified.version(version);
        if let Some(found) = found.filter(|found| self.fragile(found) && !self.allows_fragile()) {
            return Err(KeyError::Fragile { id, n: found.order.threshold().n() });
        }
        Ok(version)
    }
}

/// Who holds the shares of each version that is made.
fn committees(verified: &VerifiedKey) -> BTreeMap<KeyVersion, Committee> {
    let versions = verified.versions().iter();
    // One whose commitments are no sharing makes no version; the others are as good.
    let committee = |version: &VerifiedVersion| {
        Some((version.number, Committee::new(version.certificate.as_ref()?).ok()?))
    };
    versions.filter_map(committee).collect()
}

/// What nodes say of the destruction of the key that they show.
fn fates(views: &[(NodeId, KeyView)]) -> Vec<(NodeId, KeyFate)> {
    let fate = |view: &KeyView| match (view.destroyed_at, view.destruction_in) {
        (0, 0) => None,
        (0, seconds) => Some(KeyFate::Waits(seconds)),
        (at, _) => Some(KeyFate::Destroyed(UnixSeconds(at))),
    };
    let mut fates: Vec<(NodeId, KeyFate)> =
        views.iter().filter_map(|(node, view)| Some((*node, fate(view)?))).collect();
    fates.sort_by_key(|(node, _)| *node);
    fates
}

/// A tagged hash of key, version and verifying key. The sharing is not in it: a refresh keeps it.
pub(crate) fn fingerprint(certificate: &Certificate) -> Digest {
    let statement = certificate.statement();
    let verifying_key: &[u8] = statement.commitments().first().map_or(&[], |c| c.as_slice());
    Transcript::new("key-fingerprint")
        .field(statement.key().as_bytes())
        .number(u64::from(statement.version().get()))
        .field(verifying_key)
        .digest()
}

impl Client {
    /// The key of this id or alias, verified from the trusted roster on by what most nodes show of it.
    ///
    /// An alias means what it meant when this profile first used it.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], [`KeyError::Ambiguous`], [`KeyError::AliasMoved`], [`KeyError::Invalid`],
    /// and [`NotQuorate`].
    pub async fn key(&self, selector: impl AsRef<str>) -> Result<Key, Error> {
        let selector = selector.as_ref();
        if let Ok(id) = selector.parse::<KeyId>() {
            return self.key_by_id(id).await;
        }
        let key = self.key_called(selector).await?;
        Ok(self.cache_key(&key))
    }

    /// The key of this id. Kept in memory once it was verified.
    pub(crate) async fn key_by_id(&self, id: KeyId) -> Result<Key, Error> {
        match self.cached_key(id) {
            Some(key) => Ok(key),
            None => self.fetch_key(id).await,
        }
    }

    /// The key of this id, asked for anew.
    pub(crate) async fn fetch_key(&self, id: KeyId) -> Result<Key, Error> {
        let views = self.views_of(id).await?;
        let key = self.verify_views(id, &views).await?;
        Ok(self.cache_key(&key))
    }

    /// What most nodes show of the key of this id.
    pub(crate) async fn views_of(&self, id: KeyId) -> Result<Vec<(NodeId, Vec<KeyView>)>, Error> {
        let which = v1::get_key_request::Which::Id(id.as_bytes().to_vec());
        self.get_key(which, &id.to_string()).await
    }

    /// What these nodes show of the key of this id; those that show nothing are left out.
    pub(crate) async fn views_at(
        &self,
        id: KeyId,
        nodes: &[NodeId],
    ) -> Vec<(NodeId, Vec<KeyView>)> {
        let request = |node: NodeId| v1::GetKeyRequest {
            node: node.as_bytes().to_vec(),
            which: Some(v1::get_key_request::Which::Id(id.as_bytes().to_vec())),
        };
        let answers = self.ask(nodes, Method::GetKey, request, nodes.len()).await;
        let shown = |(node, answer): (NodeId, Result<Answered<v1::GetKeyReply>, NodeFailure>)| {
            Some((node, answer.ok()?.reply.keys))
        };
        answers.into_iter().filter_map(shown).filter(|(_, views)| !views.is_empty()).collect()
    }

    /// More than half of the roster's nodes.
    pub(crate) fn most(&self) -> usize {
        self.roster().nodes.len() / 2 + 1
    }

    pub(crate) fn most_error(
        &self,
        operation: &'static str,
        answered: usize,
        failed: BTreeMap<NodeId, NodeFailure>,
    ) -> Error {
        let mut error = NotQuorate {
            operation,
            needed: self.most(),
            of: self.roster().nodes.len(),
            answered,
            unreachable: Vec::new(),
            refused: Vec::new(),
            wrong: Vec::new(),
        };
        for failure in failed.into_values() {
            match failure {
                NodeFailure::Unreachable(unreachable) => error.unreachable.push(unreachable),
                NodeFailure::Refused(refusal) => error.refused.push(*refusal),
            }
        }
        error.into_error()
    }

    /// What most nodes show of a key, or of all keys of an alias.
    ///
    /// # Errors
    /// [`KeyError::Ambiguous`] where it takes nodes that have more keys of the alias than they show to make most of them.
    pub(crate) async fn get_key(
        &self,
        which: v1::get_key_request::Which,
        selector: &str,
    ) -> Result<Vec<(NodeId, Vec<KeyView>)>, Error> {
        self.look_again().await;
        let nodes: Vec<NodeId> = self.roster().nodes.iter().map(|n| n.id).collect();
        let answers = self
            .ask(
                &nodes,
                Method::GetKey,
                |node| v1::GetKeyRequest {
                    node: node.as_bytes().to_vec(),
                    which: Some(which.clone()),
                },
                self.most(),
            )
            .await;
        let mut views = Vec::new();
        let mut failed = BTreeMap::new();
        let (mut unknown, mut shared) = (0, 0);
        for (node, answer) in answers {
            match answer {
                Ok(Answered { reply, .. }) => {
                    let reply: v1::GetKeyReply = reply;
                    views.push((node, reply.keys));
                }
                Err(NodeFailure::Refused(refusal))
                    if refusal.refusal.code == quorate_wire::RefusalCode::KeyUnknown.code() =>
                {
                    unknown += 1;
                }
                Err(failure) => {
                    let code = quorate_wire::RefusalCode::AliasShared.code();
                    if matches!(&failure, NodeFailure::Refused(it) if it.refusal.code == code) {
                        shared += 1;
                    }
                    failed.insert(node, failure);
                }
            }
        }
        let answered = views.len() + unknown;
        if answered < self.most() && shared > 0 && answered + shared >= self.most() {
            let (alias, ids, unverified) = (selector.to_owned(), Vec::new(), Vec::new());
            return Err(KeyError::Ambiguous { alias, ids, unverified, more: true }.into());
        }
        if answered < self.most() {
            return Err(self.most_error("find the key", answered, failed));
        }
        if views.iter().all(|(_, keys)| keys.is_empty()) {
            return Err(KeyError::Unknown(selector.to_owned()).into());
        }
        Ok(views)
    }

    /// Verifies what nodes show of one key. A node whose view does not verify is left out, and named.
    pub(crate) async fn verify_views(
        &self,
        id: KeyId,
        shown: &[(NodeId, Vec<KeyView>)],
    ) -> Result<Key, Error> {
        let mut views: Vec<(NodeId, KeyView)> = shown
            .iter()
            .flat_map(|(node, views)| views.iter().map(|view| (*node, view.clone())))
            .filter(|(_, view)| view.id == id.as_bytes())
            .collect();
        let known = self.known_rosters().await?;
        let client = self.clone();
        // Whose fault it is, is known once the others' views verify.
        let mut wrong = Vec::new();
        let verify = move || loop {
            let only: Vec<KeyView> = views.iter().map(|(_, view)| view.clone()).collect();
            let error = match key_view::verify(&known, &only, now()) {
                Ok(mut verified) => {
                    let shown_by: Vec<NodeId> = views.iter().map(|(node, _)| *node).collect();
                    verified.adopt_doubted(&shown_by);
                    wrong.into_iter().for_each(|wrong| client.warn(Warning::WrongAnswer(wrong)));
                    return Key::new(verified, &only, fates(&views));
                }
                Err(error) => error,
            };
            match &error {
                KeyViewError::OtherKey { view }
                | KeyViewError::Document { view, .. }
                | KeyViewError::NotAdmitted { view, .. }
                | KeyViewError::VersionUnknown { view, .. }
                | KeyViewError::Certificate { view, .. }
                | KeyViewError::OrderUnknown { view, .. }
                | KeyViewError::NoRoot { view, .. }
                    if views.len() > 1 && *view < views.len() =>
                {
                    let (node, _) = views.remove(*view);
                    let name = client.node_name(node);
                    wrong.push(WrongAnswer { name, what: error.to_string() });
                }
                KeyViewError::RosterExpired => return Err(ClusterError::RosterExpired.into()),
                _ => return Err(KeyError::Invalid { id, why: error.to_string() }.into()),
            }
        };
        // Signatures of a committee of 128 take tens of milliseconds.
        let verified = tokio::task::spawn_blocking(verify)
            .await
            .unwrap_or_else(|e| Err(KeyError::Invalid { id, why: e.to_string() }.into()));
        // An order names a node that is not known here: in a newer roster, or nowhere.
        if verified.as_ref().is_ok_and(|key| key.verified().stranger().is_some())
            && let Some(newer) = self.under_newer_roster(LOOK_AGAIN_FOR_A_NODE).await
        {
            return Box::pin(newer.verify_views(id, shown)).await;
        }
        verified
    }
}
