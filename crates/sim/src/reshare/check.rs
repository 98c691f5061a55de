//! What must hold of all honest nodes' rows, whatever happened.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use quorate_documents::{Certificate, Orders, SignedDocument, Statement};
use quorate_node::{RowKey, Table, sealing, version_prefix};
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_schemes::sharing::{PublicShares, SigningShare, lagrange_at_zero};
use quorate_secret::Secret;
use quorate_types::limits::MAX_PROMISES_PER_PARENT;
use quorate_types::{Generation, NodeId, ParticipantIndex, SessionId};
use quorate_wire::proto::store::v1::{OpenSessionsRow, PromiseRow, ShareRow};
use quorate_wire::proto::v1::Envelope;

use crate::cluster::OrderedKey;
use crate::node::SimNode;

type Scalar = <Ristretto255 as Suite>::Scalar;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// What must always be true of reshares.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[$doc])* $name,)* }

        impl fmt::Display for Invariant {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

invariants! {
    /// One key.
    OneKey, "every certificate that an honest node holds is of the key that was made";
    /// Complete.
    CertificateIsComplete, "every certificate that an honest node holds verifies below that of the DKG";
    /// Kept.
    HighestIsHeld, "every honest participant of the highest certificate that any honest node knows holds its share";
    /// Right shares.
    ShareIsRight, "every share that an honest node holds of a certified generation is the certificate's";
    /// The same secret.
    SecretIsUnchanged, "T shares of a certified generation are the key";
    /// Mixtures.
    NoMixtureOpens, "T - 1 shares of one generation and T' - 1 of another are not the key";
    /// Promises.
    PromiseIsKept, "what an honest node has signed it keeps, until it holds a certificate of a higher rank";
    /// Erasure.
    LowerIsErased, "a node that holds a certificate holds no share and no session of a lower rank";
    /// Places.
    PlacesAreSessions, "a session of a reshare has a place as long as it is open, and no longer";
    /// Bounds.
    BoundsHold, "promises of one parent under one order stay within their bound";
    /// Never down.
    RankNeverFalls, "the rank of a node's certificate never falls";
    /// Honest nodes are not blamed.
    HonestIsNotBlamed, "no honest coordinator names an honest node";
    /// Nor convicted.
    HonestIsNotConvicted, "no evidence convicts an honest node";
    /// Liars are named.
    LiarIsNamed, "a single liar over a good network is named as its lie deserves";
    /// Acknowledged is held.
    DeliveredIsHeld, "an honest node that has acknowledged a certificate holds it, or a higher one";
    /// Recovery.
    RecoverySucceeds, "with honest nodes, an honest coordinator carries out every order";
    /// Usability.
    EvaluationIsRight, "T honest participants evaluate under the highest certificate, and cheaters are named";
    /// Nothing hangs.
    EvaluationReturns, "an evaluation comes back within 60 seconds once faults stop, whoever is dead or lies";
    /// The same key for ever.
    WrittenIsReadable, "what was evaluated when the key was new is evaluated alike for ever";
    /// Never without shares.
    AlwaysUsable, "T honest participants of the highest certificate that an honest node knows hold its shares, always";
    /// Documents stay.
    AcknowledgedIsKept, "a document that an honest node has acknowledged is there";
    /// Nothing wrong is taken.
    AcceptsWhatFits, "an honest node answers in a reshare only where all that it is shown fits";
    /// What is refused is refused for what was wrong.
    RefusesWithReason, "an honest node refuses in a reshare for what is wrong with what it was shown, and nothing else";
    /// Permission.
    OnlyTheEntitled, "an honest node answers only those who may coordinate, and another tenant as if there was nothing";
    /// Accusations.
    AccusesJustly, "an honest node accuses with evidence that convicts whom it is to convict";
    /// Nothing wrong is relayed.
    RelaysWhatFits, "an honest coordinator relays only what its nodes signed for the session and what is good in itself";
    /// Who leaves cannot stop it.
    DealersAreMembers, "who leaves is asked to deal only where too few others hold their shares";
    /// What is called a certificate is one.
    ReshareIsCertified, "what an honest coordinator calls carried out has a complete certificate of the key";
    /// The node itself.
    NodeWorks, "a node decides every request";
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NOT TRUE: {}: {}", self.invariant, self.detail)
    }
}

/// Collects what does not hold.
#[derive(Default, Clone)]
pub struct Judge {
    violations: Vec<Violation>,
    /// Shares of certified generations, ever held by an honest node: by generation and index.
    shares: BTreeMap<Generation, (u16, BTreeMap<u32, Scalar>)>,
    /// What each honest node was seen to sign and must keep.
    promised: BTreeMap<NodeId, BTreeMap<Generation, Statement>>,
    ranks: BTreeMap<NodeId, quorate_documents::Rank>,
    /// The documents that each honest node has acknowledged, as they were signed.
    documents: BTreeMap<NodeId, BTreeSet<RowKey>>,
    secret: Option<Scalar>,
    /// Certificates that were verified, by their rows.
    verified: BTreeMap<Vec<u8>, Certificate>,
    /// Rows of shares that were found to be right.
    right: BTreeSet<(NodeId, Vec<u8>)>,
}

/// The highest certificate of a node.
#[must_use]
pub fn highest(node: &SimNode, key: &OrderedKey) -> Option<Certificate> {
    let row = node.store().row(&RowKey::certificate(key.id, key.version))?;
    Certificate::verified_before(Envelope::decode(row).ok()?).ok()
}

/// A node's share of a generation, unsealed.
#[must_use]
pub fn share(
    node: &SimNode,
    key: &OrderedKey,
    generation: Generation,
) -> Option<(u32, SigningShare)> {
    let place = RowKey::share(key.id, key.version, generation);
    let row = ShareRow::decode(node.store().row(&place)?).ok()?;
    let opened = sealing::open(node.root(), &place, &row.share?).ok()?;
    let share = SigningShare::from_bytes(&Secret::from_slice(opened.reveal())?).ok()?;
    Some((row.index, share))
}

fn public(statement: &Statement) -> Option<PublicShares> {
    let points: Option<Vec<_>> =
        statement.commitments().iter().map(Ristretto255::decode_point).collect();
    PublicShares::from_commitments(statement.threshold(), &points?).ok()
}

fn interpolate(shares: &[(u32, Scalar)]) -> Option<Scalar> {
    let of = quorate_types::Threshold::new(1, 128).ok()?;
    let indices: Vec<ParticipantIndex> = shares
        .iter()
        .map(|(index, _)| ParticipantIndex::new(*index, of).ok())
        .collect::<Option<_>>()?;
    let lambdas = lagrange_at_zero(&indices).ok()?;
    Some(lambdas.iter().zip(shares).map(|(lambda, (_, share))| lambda * share).sum())
}

impl Judge {
    /// Says that an invariant does not hold. Each is reported once a run.
    pub fn report(&mut self, invariant: Invariant, detail: impl Into<String>) {
        if self.violations.iter().all(|v| v.invariant != invariant) {
            self.violations.push(Violation { invariant, detail: detail.into() });
        }
    }

    /// What did not hold.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// An honest node gave out its signature of a generation.
    pub fn saw_signature(&mut self, node: NodeId, statement: &Envelope) {
        if let Ok(statement) = Statement::from_payload(&statement.payload) {
            let all = self.promised.entry(node).or_default();
            all.insert(statement.generation(), statement);
        }
    }

    /// A node has lost its disk: nothing is kept by it any more.
    pub fn forget(&mut self, node: NodeId) {
        self.promised.remove(&node);
        self.ranks.remove(&node);
        self.documents.remove(&node);
    }

    /// A node has acknowledged documents.
    pub fn acknowledged(&mut self, node: NodeId, documents: &[SignedDocument]) {
        let places =
            documents.iter().map(|it| RowKey::document(it.id(), it.version(), it.digest()));
        self.documents.entry(node).or_default().extend(places);
    }

    /// Looks into the rows of all honest nodes, and returns certificates that were not seen before.
    pub fn inspect(
        &mut self,
        key: &OrderedKey,
        orders: &Orders,
        root: &Statement,
        nodes: &[(NodeId, &SimNode)],
    ) -> Vec<Certificate> {
        let mut top: Option<Statement> = None;
        let mut found = Vec::new();
        for (id, node) in nodes {
            for place in self.documents.get(id).into_iter().flatten() {
                if node.store().row(place).is_none() {
                    let detail = format!("{id} has lost a document");
                    self.violations
                        .push(Violation { invariant: Invariant::AcknowledgedIsKept, detail });
                    break;
                }
            }
            let row = node.store().row(&RowKey::certificate(key.id, key.version));
            let known = row.and_then(|row| self.verified.get(row)).cloned();
            let certificate = match known {
                Some(known) => known,
                None => {
                    let Some(certificate) = highest(node, key) else { continue };
                    self.certificate(*id, &certificate, key, orders, root);
                    self.verified.extend(row.map(|row| (row.to_vec(), certificate.clone())));
                    found.push(certificate.clone());
                    certificate
                }
            };
            let statement = certificate.statement();
            if self.ranks.insert(*id, statement.rank()).is_some_and(|rank| rank > statement.rank())
            {
                self.report(Invariant::RankNeverFalls, id.to_string());
            }
            if top.as_ref().is_none_or(|top| top.rank() < statement.rank()) {
                top = Some(statement.clone());
            }
            self.erased(*id, node, key, statement);
            self.places(*id, node);
        }
        for (id, node) in nodes {
            self.promises(*id, node, key);
        }
        let Some(top) = top else { return found };
        let (mut holders, mut news) = (0, false);
        for member in top.participants() {
            let Some((id, node)) = nodes.iter().find(|(id, _)| *id == member.node) else {
                continue;
            };
            let place = RowKey::share(key.id, key.version, top.generation());
            let row = node.store().row(&place);
            let seen = row.map(|row| (*id, row.to_vec()));
            if seen.as_ref().is_some_and(|seen| self.right.contains(seen)) {
                holders += 1;
                continue;
            }
            let Some((index, held)) = share(node, key, top.generation()) else {
                // A member that lost its disk since: it has no promise any more.
                if self.promised.get(id).is_some_and(|all| all.contains_key(&top.generation())) {
                    let detail = format!("{id} holds no share of {}", top.generation());
                    self.report(Invariant::HighestIsHeld, detail);
                }
                continue;
            };
            let right = public(&top).and_then(|public| {
                let index = ParticipantIndex::new(index, top.threshold()).ok()?;
                public.share(index).copied()
            });
            if right != Some(*held.verifying_share()) || index != u32::from(member.index.get()) {
                self.report(Invariant::ShareIsRight, format!("{id}: {}", top.generation()));
            }
            let entry = self.shares.entry(top.generation());
            let (_, all) = entry.or_insert_with(|| (top.threshold().t(), BTreeMap::new()));
            all.insert(index, *held.reveal());
            self.right.extend(seen);
            holders += 1;
            news = true;
        }
        if holders < top.threshold().t() {
            let detail = format!("{holders} hold {}", top.generation());
            self.report(Invariant::AlwaysUsable, detail);
        }
        if news {
            self.mixtures();
        }
        found
    }

    fn certificate(
        &mut self,
        id: NodeId,
        certificate: &Certificate,
        key: &OrderedKey,
        orders: &Orders,
        root: &Statement,
    ) {
        let statement = certificate.statement();
        if statement.verifying_key() != root.verifying_key() {
            self.report(Invariant::OneKey, id.to_string());
        }
        let verified = match orders.find(&statement.order()) {
            None => false,
            Some(order) if statement.parent().is_some() => {
                let envelope = certificate.envelope().clone();
                Certificate::verify_reshare(envelope, order, root).is_ok()
            }
            Some(order) => {
                let envelope = certificate.envelope().clone();
                Certificate::verify(envelope, key.id, key.version, order).is_ok()
            }
        };
        if !verified {
            let detail = format!("{id}: {}", statement.generation());
            self.report(Invariant::CertificateIsComplete, detail);
        }
    }

    /// Nothing is left below what a node holds a certificate of.
    fn erased(&mut self, id: NodeId, node: &SimNode, key: &OrderedKey, top: &Statement) {
        let store = node.store();
        let prefix = version_prefix(key.id, key.version);
        let mut allowed = BTreeSet::from([top.generation()]);
        let mut parents: BTreeMap<(Option<Generation>, Vec<u8>), usize> = BTreeMap::new();
        for (place, row) in store.rows(Table::Promises) {
            if !place.key.starts_with(&prefix) {
                continue;
            }
            let statement = PromiseRow::decode(row)
                .ok()
                .and_then(|row| row.statement)
                .and_then(|envelope| Statement::from_payload(&envelope.payload).ok());
            let Some(statement) = statement else { continue };
            if statement.rank() > top.rank() {
                allowed.insert(statement.generation());
            } else {
                self.report(Invariant::LowerIsErased, format!("{id} keeps a lower promise"));
            }
            let of = (statement.parent(), statement.order().as_bytes().to_vec());
            *parents.entry(of).or_default() += 1;
        }
        if parents.values().any(|count| *count > MAX_PROMISES_PER_PARENT) {
            self.report(Invariant::BoundsHold, id.to_string());
        }
        for (place, _) in store.rows(Table::Shares) {
            let kept = allowed
                .iter()
                .any(|generation| *place == RowKey::share(key.id, key.version, *generation));
            if place.key.starts_with(&prefix) && !kept {
                self.report(Invariant::LowerIsErased, format!("{id} keeps a lower share"));
            }
        }
    }

    /// The lists of open sessions name those that are open.
    fn places(&mut self, id: NodeId, node: &SimNode) {
        let lists = node.store().rows(Table::OpenSessions);
        let listed: BTreeSet<Vec<u8>> = lists
            .filter_map(|(_, row)| OpenSessionsRow::decode(row).ok())
            .flat_map(|row| row.sessions)
            .map(|session| session.place)
            .filter(|place| !place.is_empty())
            .collect();
        // A DKG's stand under their ids.
        let open = node.store().rows(Table::Sessions).map(|(place, _)| place.key.clone());
        let open: BTreeSet<Vec<u8>> = open.filter(|place| place.len() > SessionId::LEN).collect();
        if listed != open {
            let detail = format!("{id}: {} places, {} sessions", listed.len(), open.len());
            self.report(Invariant::PlacesAreSessions, detail);
        }
    }

    fn promises(&mut self, id: NodeId, node: &SimNode, key: &OrderedKey) {
        let rank = highest(node, key).map(|certificate| certificate.statement().rank());
        let mut broken = Vec::new();
        for (generation, statement) in self.promised.get(&id).into_iter().flatten() {
            let above = rank.is_some_and(|rank| rank > statement.rank());
            let place = RowKey::share(key.id, key.version, *generation);
            if !above && node.store().row(&place).is_none() {
                broken.push(format!("{id} has lost its share of {generation}"));
            }
        }
        for detail in broken {
            self.report(Invariant::PromiseIsKept, detail);
        }
    }

    /// What T shares of each generation are, and what shares of two are not.
    fn mixtures(&mut self) {
        let mut broken = Vec::new();
        let mut secret = self.secret;
        for (generation, (t, shares)) in &self.shares {
            let some: Vec<(u32, Scalar)> =
                shares.iter().take(usize::from(*t)).map(|(i, s)| (*i, *s)).collect();
            if some.len() < usize::from(*t) {
                continue;
            }
            let found = interpolate(&some);
            if *secret.get_or_insert(found.unwrap_or_default()) != found.unwrap_or_default() {
                let detail = generation.to_string();
                broken.push((Invariant::SecretIsUnchanged, detail));
            }
        }
        let Some(known) = secret else { return };
        for (one, (t1, first)) in &self.shares {
            for (two, (t2, second)) in self.shares.iter().filter(|(two, _)| *two != one) {
                let mut mixed: BTreeMap<u32, Scalar> =
                    first.iter().take(usize::from(*t1) - 1).map(|(i, s)| (*i, *s)).collect();
                let others = second.iter().rev().filter(|(i, _)| !mixed.contains_key(i));
                let others: Vec<_> = others.take(usize::from(*t2) - 1).collect();
                mixed.extend(others.into_iter().map(|(i, s)| (*i, *s)));
                let mixed: Vec<(u32, Scalar)> = mixed.into_iter().collect();
                if !mixed.is_empty() && interpolate(&mixed) == Some(known) {
                    broken.push((Invariant::NoMixtureOpens, format!("{one} and {two}")));
                }
            }
        }
        self.secret = secret;
        for (invariant, detail) in broken {
            self.report(invariant, detail);
        }
    }
}
