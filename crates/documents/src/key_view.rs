//! What a client does with a key that nodes show it: verify everything from the pinned roster on.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{Digest, KeyId, KeySpec, KeyState, KeyVersion, NodeId, TenantId, UnixSeconds};
use quorate_wire::proto::v1;

use crate::admit_error::AdmitError;
use crate::body::{KeyPurpose, Roster};
use crate::certificate::{Certificate, CertificateError, Rank};
use crate::document::{DocumentError, SignedDocument};
use crate::heads::{BodyOf, Heads};
use crate::key::{Key, KeyVersionEntry};
use crate::key_order::Orders;
use crate::order::{Member, Order};
use crate::set::DocumentSet;
use crate::state;

/// Why the views of a key do not add up. `view` is the position of the view at fault, from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KeyViewError {
    /// No view was given.
    #[error("no node has shown the key")]
    Empty,
    /// The client knows no roster in force.
    #[error("no roster of the pinned cluster is known")]
    NoRoster,
    /// The newest roster is too old to be believed.
    #[error("the newest roster known has expired")]
    RosterExpired,
    /// A view of another key.
    #[error("a node has shown another key than the one asked for")]
    OtherKey {
        /// The view.
        view: usize,
    },
    /// A document does not verify.
    #[error("a node has shown a document that does not verify: {source}")]
    Document {
        /// The view.
        view: usize,
        /// What is wrong.
        source: DocumentError,
    },
    /// A document's signers may not sign it, or something that it stands on was not shown.
    #[error("a node has shown a document that is not admitted: {source}")]
    NotAdmitted {
        /// The view.
        view: usize,
        /// What is wrong.
        source: AdmitError,
    },
    /// The documents shown do not make the key count.
    #[error("nothing shown makes the key count under the newest roster and tenant documents")]
    NotCounted,
    /// A certificate names a key version that the key documents do not have.
    #[error("a node has shown a certificate of key version {version}, which the key has not")]
    VersionUnknown {
        /// The view.
        view: usize,
        /// The version.
        version: KeyVersion,
    },
    /// A certificate does not verify.
    #[error("a node has shown a certificate that does not verify: {source}")]
    Certificate {
        /// The view.
        view: usize,
        /// What is wrong.
        source: CertificateError,
    },
    /// Two complete certificates of one key version under one order: every participant has signed
    /// twice, which none may.
    #[error("there are two certificates of key version {0}; every participant has signed both")]
    TwoCertificates(KeyVersion),
    /// A certificate of a reshare, and no node has shown that of the DKG below which it stands.
    #[error(
        "a node has shown a certificate of a reshare of key version {version}, and none by which the version was made"
    )]
    NoRoot {
        /// The view.
        view: usize,
        /// The version.
        version: KeyVersion,
    },
    /// A certificate of a reshare under an order that no node has shown.
    #[error(
        "a node has shown a certificate of key version {version} for an order that nobody shows"
    )]
    OrderUnknown {
        /// The view.
        view: usize,
        /// The version.
        version: KeyVersion,
    },
    /// Of a certificate that is to be adopted: a member that no roster names with this identity key.
    #[error("no roster names {node} with the identity key that key version {version} gives it")]
    StrangeNode {
        /// The version of the key.
        version: KeyVersion,
        /// The node.
        node: NodeId,
    },
}

/// One version of a verified key.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedVersion {
    /// Its number.
    pub number: KeyVersion,
    /// Order 1, by which it is made.
    pub order: Order,
    /// All its orders: who holds, or is to hold, its shares.
    pub orders: Orders,
    /// The DKG's certificate; none while it is not made, or where no node has shown it.
    pub root: Option<Certificate>,
    /// The highest certificate that a node has shown: the DKG's, or that of a reshare below it.
    pub certificate: Option<Certificate>,
    /// Certificates of higher ranks that are complete, and not believed: by orders that do not count, of which nothing
    /// shows that they ever did.
    pub doubted: Vec<Doubted>,
    /// The digest of the order of some of these, which the next order adopts ([`VerifiedKey::adopt_doubted`]).
    adopted_next: Option<Digest>,
    /// Somebody whom an order names and no roster that is known: order 1, so that the version is none; the one that no
    /// other follows, so that none is in force; or one by which a certificate is shown, which is not believed.
    stranger: Option<NodeId>,
}

/// A certificate that is complete, and not believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Doubted {
    /// The digest of its order.
    pub order: Digest,
    /// Its rank.
    pub rank: Rank,
    /// The position of the view that shows it.
    pub view: usize,
}

/// A key of which every document, signature and certificate has been verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedKey {
    id: KeyId,
    heads: Heads<Key>,
    versions: Vec<VerifiedVersion>,
}

impl VerifiedVersion {
    /// The order by which the shares in use were dealt.
    #[must_use]
    pub fn in_use(&self) -> Option<&Order> {
        let dealt_by = self.certificate.as_ref()?.statement().order();
        self.orders.find(&dealt_by).or_else(|| self.orders.lost(&dealt_by))
    }

    /// The order by which the shares in use were dealt, where it does not count: the tenant's documents do not keep it.
    /// Nothing is dealt anew before an order follows it.
    #[must_use]
    pub fn unadopted(&self) -> Option<&Order> {
        let lost = self.orders.lost(&self.certificate.as_ref()?.statement().order());
        lost.or_else(|| self.adopted_next())
    }

    /// The order, believed by nobody, by which so many nodes say that they hold shares that what is believed is of no use
    /// any more. Administrators adopt it.
    #[must_use]
    pub fn adopted_next(&self) -> Option<&Order> {
        self.orders.doubted(self.adopted_next.as_ref()?)
    }

    /// Somebody whom an order that matters names, and no roster that is known with that identity key. Either there is a
    /// newer roster, or whoever signed that invented it: what is in use is so all the same.
    #[must_use]
    pub const fn stranger(&self) -> Option<NodeId> {
        self.stranger
    }

    /// Somebody whom order 1 names, and no roster that is known: nobody makes this version.
    #[must_use]
    pub fn never_made(&self) -> Option<NodeId> {
        self.orders.stranger(&self.orders.first_digest())
    }

    /// The versions of order documents that the next order must follow, sorted: none while order 1 is in force.
    #[must_use]
    pub fn followed_by_next(&self) -> Vec<Digest> {
        let dealt_by = self.certificate.as_ref().map(|certificate| certificate.statement().order());
        self.orders.followed_by_next(self.adopted_next.as_ref().or(dealt_by.as_ref()))
    }

    /// See [`VerifiedKey::adopt_doubted`].
    fn adopt_doubted(&mut self, shown_by: &[NodeId]) {
        let Some(believed) = self.certificate.as_ref().map(Certificate::statement) else { return };
        let held = believed.threshold();
        let left = usize::from(held.n()).saturating_sub(usize::from(held.t()));
        let mut by_order: BTreeMap<Digest, (Rank, BTreeSet<NodeId>)> = BTreeMap::new();
        for Doubted { order, rank, view } in &self.doubted {
            let (highest, nodes) =
                by_order.entry(*order).or_insert_with(|| (*rank, BTreeSet::new()));
            *highest = (*highest).max(*rank);
            let node = shown_by.get(*view).filter(|node| believed.participant(node).is_some());
            nodes.extend(node);
        }
        let shown = by_order.into_iter().filter(|(_, (_, nodes))| nodes.len() > left);
        self.adopted_next = shown.max_by_key(|(_, (rank, _))| *rank).map(|(order, _)| order);
    }
}

impl VerifiedKey {
    /// The key's id.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Its tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.heads.tenant()
    }

    /// Its alias.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.heads.alias()
    }

    /// Its spec.
    #[must_use]
    pub const fn spec(&self) -> KeySpec {
        self.heads.spec()
    }

    /// Its state, the most restrictive of its heads.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.heads.state()
    }

    /// Whether objects must be bound to a customer fragment.
    #[must_use]
    pub fn fragment_required(&self) -> bool {
        self.heads.fragment_required()
    }

    /// Its versions that every head has alike, in order.
    #[must_use]
    pub fn versions(&self) -> &[VerifiedVersion] {
        &self.versions
    }

    /// The newest version that has a certificate: the one to encrypt under.
    #[must_use]
    pub fn newest_certified(&self) -> Option<(&VerifiedVersion, &Certificate)> {
        self.versions.iter().rev().find_map(|v| v.certificate.as_ref().map(|c| (v, c)))
    }

    /// Takes over the certificate of a reshare that somebody shows, if it is of a higher rank than the one that
    /// is known of its key version. Says whether it is.
    ///
    /// # Errors
    /// [`KeyViewError`]: it does not verify, stands under an order that is not known here, or below a DKG's
    /// certificate that is not, or names a node that no roster names; then what nodes show of the key must be asked for
    /// anew.
    ///
    /// # Security
    /// It is judged as in [`verify`]: by the orders that count, or need not, and by the DKG's certificate.
    pub fn adopt(&mut self, shown: &v1::Envelope) -> Result<bool, KeyViewError> {
        let rank = |key: &Self, number| {
            key.version(number).and_then(|v| Some(v.certificate.as_ref()?.statement().rank()))
        };
        let fault = |source| KeyViewError::Certificate { view: 0, source };
        let statement = crate::Statement::from_payload(&shown.payload).map_err(fault)?;
        if statement.key() != self.id {
            return Err(KeyViewError::OtherKey { view: 0 });
        }
        let before = rank(self, statement.version());
        if before.is_some_and(|before| statement.rank() <= before) {
            return Ok(false);
        }
        add_certificate(&self.heads, &mut self.versions, None, shown, false)?;
        let number = statement.version();
        let strange = self.version(number).and_then(|v| v.orders.stranger(&statement.order()));
        if let Some(node) = strange {
            return Err(KeyViewError::StrangeNode { version: number, node });
        }
        Ok(rank(self, number) > before)
    }

    /// Lets the next order of each version adopt one that does not count and that nobody believes, where so many holders
    /// of the shares that are believed show a certificate by it, each in a view of its own, that fewer than T are left.
    /// `shown_by` says whose each view is.
    ///
    /// # Security
    /// What is adopted counts, so that holders take its certificate and erase what they have. That gives nobody a power
    /// which those who show it would not have: they could erase their own shares, and fewer than T are left without them.
    /// The shares are dealt anew by the next order, which says of itself who gets them.
    pub fn adopt_doubted(&mut self, shown_by: &[NodeId]) {
        for version in &mut self.versions {
            version.adopt_doubted(shown_by);
        }
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: KeyVersion) -> Option<&VerifiedVersion> {
        self.versions.iter().find(|v| v.number == number)
    }

    /// Whether the newest version's committee is N = T > 1, so that one lost node stops it.
    #[must_use]
    pub fn fragile(&self) -> bool {
        self.versions.last().is_some_and(|v| v.orders.newest().unwrap_or(&v.order).fragile())
    }

    /// Digests of the heads of its document, sorted.
    #[must_use]
    pub fn head_digests(&self) -> Vec<Digest> {
        self.heads.digests()
    }

    /// The heads of its document.
    #[must_use]
    pub const fn heads(&self) -> &Heads<Key> {
        &self.heads
    }

    /// Somebody whom an order of some version names, and no roster that is known ([`VerifiedVersion::stranger`]).
    #[must_use]
    pub fn stranger(&self) -> Option<NodeId> {
        self.versions.iter().find_map(VerifiedVersion::stranger)
    }
}

/// Verifies a key from the roster chain that the client holds, by what one node or several have
/// shown of it. Views of several nodes are taken together, so that one honest node among them is
/// enough to learn of a revocation or a new version.
///
/// `known` is the client's set, [`DocumentSet::partial`] of the pinned cluster, with all rosters
/// inserted. A view must carry the tenant documents up to a root tenant and every principal document
/// that signed a version of the key document.
///
/// # Errors
/// [`KeyViewError`], which says whose view is at fault where one is.
///
/// # Security
/// A key document counts for a client also when the principal that signed it has expired since: it
/// was signed before (`created_at` is before the principal's expiry), and honest nodes refuse at
/// first sight what an expired or revoked principal hands in with an earlier date
/// ([`crate::first_sight`]). A client cannot tell when a node first saw a document, so a principal
/// whose time is over can still show a client, and only with nodes that lie, a back-dated version.
/// That gains little: a key version is usable only with the certificate of *every* member of its
/// order, and these must stand in a roster; a principal cannot lower the key's minimum committee or
/// widen its jurisdictions, and existing key versions never change. What remains is a new key
/// version whose whole committee, of at least the key's minimum, lies: set the minimum to match.
///
/// Only what is in use must stand. What else names a node that no roster does, a version that is never made or an order
/// that is never carried out, hides nothing: whoever may sign one could take the key from everybody, for good.
pub fn verify(
    known: &DocumentSet,
    views: &[v1::KeyView],
    now: UnixSeconds,
) -> Result<VerifiedKey, KeyViewError> {
    let first = views.first().ok_or(KeyViewError::Empty)?;
    let id = KeyId::from_slice(&first.id).map_err(|_| KeyViewError::OtherKey { view: 0 })?;
    let mut set = known.clone();
    let mut waiting = Vec::new();
    for (view, shown) in views.iter().enumerate() {
        if shown.id != first.id {
            return Err(KeyViewError::OtherKey { view });
        }
        for envelope in shown.authority.iter().chain(&shown.documents) {
            let document = SignedDocument::parse(envelope.clone())
                .map_err(|source| KeyViewError::Document { view, source })?;
            waiting.push((view, document));
        }
    }
    insert_all(&mut set, waiting)?;
    roster_believed(&set, now)?;
    let heads: Heads<Key> = set.heads(&id.into()).ok_or(KeyViewError::NotCounted)?;
    let mut versions = agreed_versions(&heads, &set, views, now);
    // Those of the DKGs first: the others are judged by them.
    for made in [true, false] {
        for (view, shown) in views.iter().enumerate() {
            for envelope in &shown.certificates {
                add_certificate(&heads, &mut versions, Some(view), envelope, made)?;
            }
        }
    }
    for version in &mut versions {
        let believed =
            version.certificate.as_ref().map(|certificate| certificate.statement().rank());
        version.doubted.retain(|doubted| Some(doubted.rank) > believed);
    }
    Ok(VerifiedKey { id, heads, versions })
}

fn insert_all(
    set: &mut DocumentSet,
    mut waiting: Vec<(usize, SignedDocument)>,
) -> Result<(), KeyViewError> {
    // By version, so that predecessors come first; authorities may still come after.
    waiting.sort_by_key(|(_, document)| (document.kind(), document.version()));
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut refused = Vec::new();
        let mut fault = None;
        for (view, document) in waiting {
            if let Err(source) = set.insert(document.clone()) {
                fault.get_or_insert(KeyViewError::NotAdmitted { view, source });
                refused.push((view, document));
            }
        }
        match fault {
            Some(fault) if refused.len() == before => return Err(fault),
            _ => waiting = refused,
        }
    }
    Ok(())
}

fn roster_believed(set: &DocumentSet, now: UnixSeconds) -> Result<(), KeyViewError> {
    let roster = set.roster();
    if roster.versions().is_empty() {
        return Err(KeyViewError::NoRoster);
    }
    let mut rosters = roster.versions().iter().filter_map(|v| Roster::of(v.body()));
    if rosters.any(|r| r.expires_at <= now) {
        return Err(KeyViewError::RosterExpired);
    }
    Ok(())
}

fn agreed_versions(
    heads: &Heads<Key>,
    set: &DocumentSet,
    views: &[v1::KeyView],
    now: UnixSeconds,
) -> Vec<VerifiedVersion> {
    let named = state::named(set);
    let in_some_roster = |member: &Member| named.contains(&(member.node, member.identity_key));
    heads
        .version_numbers()
        .filter_map(|number| {
            heads.version(number).or_else(|| made_version(heads, number, views, in_some_roster))
        })
        .map(|entry: &KeyVersionEntry| {
            let orders = set.orders_below(heads.key_id(), entry);
            let orders = orders.naming(in_some_roster);
            let orders =
                orders.doubting(|orders, lost| believed(set, in_some_roster, orders, lost, now));
            let in_force = orders.newest().err().and_then(|none| none.stranger);
            VerifiedVersion {
                number: entry.number,
                order: entry.order.clone(),
                root: None,
                certificate: None,
                doubted: Vec::new(),
                adopted_next: None,
                stranger: in_force.or_else(|| orders.stranger(&orders.first_digest())),
                orders,
            }
        })
        .collect()
}

/// Of versions that heads have differently, the one that was made, where its certificate is shown and that of no other: whoever
/// adds another in the same place takes nothing that was sealed under it from anybody.
fn made_version<'a>(
    heads: &'a Heads<Key>,
    number: KeyVersion,
    views: &[v1::KeyView],
    in_some_roster: impl Fn(&Member) -> bool,
) -> Option<&'a KeyVersionEntry> {
    let shown: Vec<&v1::Envelope> = views.iter().flat_map(|view| &view.certificates).collect();
    let made = |entry: &&KeyVersionEntry| {
        shown.iter().any(|envelope| {
            Certificate::verify((*envelope).clone(), heads.key_id(), number, &entry.order).is_ok()
        })
    };
    // Whoever invents a node has its keys, and could complete the other.
    let all = heads.iter().filter_map(|head| head.body().version(number));
    let mut all = all.filter(|it| it.order.members().iter().all(&in_some_roster)).filter(made);
    let version = all.next()?;
    all.all(|other| other == version).then_some(version)
}

/// Whether every roster in force accepts the identity key that an order gives a member.
fn accepted(set: &DocumentSet, member: &Member, now: UnixSeconds) -> bool {
    let roster = set.roster();
    let mut rosters = roster.versions().iter().filter_map(|v| Roster::of(v.body()));
    rosters.all(|roster| {
        roster
            .node(&member.node)
            .is_some_and(|node| node.accepts(KeyPurpose::Identity, &member.identity_key, now))
    })
}

/// Whether a complete certificate under an order that does not count is one all the same: all its participants are nodes
/// of the cluster, and at least T of them have keys that the roster accepts now, so one of these is honest; and that one
/// signed only because the order counted at it when it did. Otherwise a tenant version that does not keep an order which
/// was carried out, whoever's doing that is, would take the key from everybody.
///
/// # Security
/// Of orders that administrators who were removed date back as they like, anybody could else complete the
/// certificate with nodes that lie, with keys of his own, or with keys that were replaced because they had been stolen: of
/// those there may be more over the years than T, of nodes that lie at one time there are not.
fn believed(
    set: &DocumentSet,
    in_some_roster: impl Fn(&Member) -> bool,
    orders: &Orders,
    lost: &Order,
    now: UnixSeconds,
) -> bool {
    let now_accepted = lost.members().iter().filter(|member| accepted(set, member, now)).count();
    now_accepted >= usize::from(orders.largest_t()) && lost.members().iter().all(in_some_roster)
}

fn add_certificate(
    heads: &Heads<Key>,
    versions: &mut [VerifiedVersion],
    shown_in: Option<usize>,
    envelope: &v1::Envelope,
    made: bool,
) -> Result<(), KeyViewError> {
    let view = shown_in.unwrap_or(0);
    let fault = |source| KeyViewError::Certificate { view, source };
    let statement = crate::Statement::from_payload(&envelope.payload).map_err(fault)?;
    if statement.parent().is_none() != made {
        return Ok(());
    }
    let number = statement.version();
    let Some(version) = versions.iter_mut().find(|v| v.number == number) else {
        // A version that some heads have and others have not is not usable, and no lie either.
        let disputed = heads.iter().any(|head| head.body().version(number).is_some());
        let unknown = Err(KeyViewError::VersionUnknown { view, version: number });
        return if disputed { Ok(()) } else { unknown };
    };
    let strange = version.orders.stranger(&statement.order()).or(version.never_made());
    if strange.is_some() {
        // Whoever shows it may know a newer roster, so that it is no lie; and it is not believed before that is known here.
        version.stranger = strange;
        return Ok(());
    }
    if !made {
        // One K for a key version, for ever: that of the DKG.
        let root = version.root.as_ref().ok_or(KeyViewError::NoRoot { view, version: number })?;
        let dealt_by = statement.order();
        let order = version.orders.find(&dealt_by).or_else(|| version.orders.lost(&dealt_by));
        let Some(order) = order else {
            let unknown = KeyViewError::OrderUnknown { view, version: number };
            let order = version.orders.doubted(&dealt_by).ok_or(unknown)?;
            // What an honest node may show, and what nobody need believe.
            Certificate::verify_reshare(envelope.clone(), order, root.statement())
                .map_err(fault)?;
            let rank = statement.rank();
            let doubted = shown_in.map(|view| Doubted { order: dealt_by, rank, view });
            version.doubted.extend(doubted);
            return Ok(());
        };
        let certificate = Certificate::verify_reshare(envelope.clone(), order, root.statement())
            .map_err(fault)?;
        let rank = certificate.statement().rank();
        if version.certificate.as_ref().is_none_or(|known| known.statement().rank() < rank) {
            version.certificate = Some(certificate);
        }
        return Ok(());
    }
    let certificate = Certificate::verify(envelope.clone(), heads.key_id(), number, &version.order)
        .map_err(fault)?;
    match &version.root {
        Some(known) if known.statement() != certificate.statement() => {
            Err(KeyViewError::TwoCertificates(number))
        }
        _ => {
            version.root = Some(certificate.clone());
            version.certificate = Some(certificate);
            Ok(())
        }
    }
}
