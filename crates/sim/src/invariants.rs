//! What must hold, whatever happens.

use core::fmt;
use std::collections::BTreeMap;

use prost::Message;
use quorate_coordinator::ceremony;
use quorate_coordinator::evaluation::Committee;
use quorate_documents::{Certificate, Order};
use quorate_node::{RowKey, Table, sealing};
use quorate_schemes::dkg::cocktail::{certify, parse_transcript};
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_schemes::sharing::{SigningShare, lagrange_at_zero};
use quorate_secret::Secret;
use quorate_types::limits::{
    MAX_ATTEMPTS_PER_ORDER, MAX_SESSIONS, MAX_SESSIONS_PER_PRINCIPAL, MAX_SESSIONS_PER_TENANT,
};
use quorate_types::{Generation, KeyId, KeyVersion, NodeId, ParticipantIndex};
use quorate_wire::proto::store::v1::{
    AttemptsRow, OpenSessionsRow, SessionRow, ShareRow, SignedRow,
};
use quorate_wire::proto::v1::{Envelope, Evidence, PutCertificateRequest, Round1};
use quorate_wire::{PayloadType, Verified, strict};

use crate::cluster::OrderedKey;
use crate::node::SimNode;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident, $sentence:literal;)*) => {
        /// A sentence that must be true at every moment that is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[$doc])* $name,)* }

        impl Invariant {
            /// All invariants.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

invariants! {
    /// No split keys.
    OneVerifyingKey, "no two honest nodes hold usable shares of different verifying keys for one key version";
    /// Everybody has agreed.
    CertificateIsComplete, "a certificate that an honest node holds is signed by every participant and nobody else";
    /// What is certified is a key.
    CertificateIsUsable, "a certificate that an honest node holds names a committee";
    /// A certificate promises a share.
    CertifiedShareIsHeld, "an honest node that has a certificate holds the share that it names";
    /// Shares are shares of the key.
    SharesInterpolate, "every T honest certified shares interpolate to the verifying key";
    /// Blame is just.
    HonestIsNotConvicted, "no evidence convicts an honest node";
    /// Nodes accuse with reason.
    HonestAccusesJustly, "an honest node accuses only with evidence that convicts";
    /// Not even without proof.
    HonestIsNotBlamed, "no honest coordinator blames an honest node";
    /// Blame is complete.
    LiarIsNamed, "an honest coordinator names the participant that lied";
    /// At most one dealing.
    OneDealing, "an honest node deals at most once in a session";
    /// All have agreed on the transcript.
    TranscriptIsAgreed, "an honest node takes a certificate only with all participants' CertEq signatures of its transcript";
    /// At most one signature.
    OneSignature, "an honest node signs at most one DKG transcript for a key version";
    /// What was promised stays.
    PromiseIsKept, "what an honest node has signed it keeps, across every loss of power";
    /// Secrets of a session end with it.
    SessionIsErased, "the secrets of a session are gone once its share is stored";
    /// Nothing grows without bound.
    BoundsHold, "sessions and attempts stay within their bounds";
    /// Nothing wrong is taken.
    AcceptsWhatFits, "an honest node opens, deals and signs only where all that it is shown fits";
    /// Fresh keys for one session.
    OneReceiveKey, "an honest node gives one receive key in a session";
    /// Permission.
    OnlyTheEntitled, "an honest node answers only those who may coordinate, and another tenant as if there was nothing";
    /// The coordinator, too, is blamed with reason.
    BlamesRelayJustly, "an honest node blames the coordinator only for what the coordinator changed";
    /// Whoever is refused learns why.
    RefusesWithReason, "an honest node refuses with the reason that there is";
    /// What a coordinator can see, no node has to.
    RelaysWhatFits, "an honest coordinator relays nothing that it could see is wrong";
    /// A second line of defence is one also where nothing gets past the first.
    LibrariesStandAlone, "the libraries refuse by themselves what a node or a client compares before";
    /// Whoever asks is careful too.
    ClientsTakeWhatFits, "an honest client or coordinator takes only what it asked for, and says what was wrong";
    /// Evidence is harmless.
    EvidenceRevealsNothing, "no evidence of an honest node opens what another dealer encrypted";
    /// Acknowledgements are true.
    DeliveredIsHeld, "whom an honest coordinator says to have the certificate has acknowledged it";
    /// The happy path.
    FaultFreeSucceeds, "without faults the ceremony ends in a usable key";
    /// Recovery.
    HonestRetrySucceeds, "with honest nodes, an honest coordinator gets to a usable key after any hostile phase";
    /// Usability.
    EvaluationIsRight, "T honest nodes evaluate to the output of the whole key, and cheaters are named";
    /// The simulated node itself.
    NodeWorks, "a node decides every request";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
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
#[derive(Debug, Default)]
pub struct Judge {
    violations: Vec<Violation>,
    /// What each honest node was seen to sign.
    signed: BTreeMap<(NodeId, KeyId, u32), Vec<u8>>,
    /// What each honest node was seen to deal.
    dealt: BTreeMap<(NodeId, Vec<u8>), Vec<u8>>,
    /// The transcripts that honest nodes have signed.
    transcripts: BTreeMap<(NodeId, KeyId), Vec<u8>>,
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

    /// An honest node gave out a dealing.
    pub fn saw_dealing(&mut self, node: NodeId, round1: &Envelope) {
        let Ok(said) = strict::decode::<Round1>("Round1", &round1.payload) else { return };
        let known =
            self.dealt.entry((node, said.session)).or_insert_with(|| round1.payload.clone());
        if *known != round1.payload {
            self.report(Invariant::OneDealing, format!("{node} dealt twice"));
        }
    }

    /// An honest node has signed: its transcript is noted, before the node forgets it.
    pub fn note_transcripts(&mut self, id: NodeId, node: &SimNode, keys: &[OrderedKey]) {
        for key in keys {
            let row = node.store().row(&RowKey::signed(key.id, key.version));
            let row = row.and_then(|row| SignedRow::decode(row).ok());
            if let Some(row) = row.filter(|row| !row.transcript.is_empty()) {
                self.transcripts.insert((id, key.id), row.transcript);
            }
        }
    }

    /// An honest node took a certificate that it did not have before.
    pub fn took_certificate(&mut self, id: NodeId, request: &PutCertificateRequest) {
        let statement = request
            .certificate
            .as_ref()
            .and_then(|c| quorate_documents::Statement::from_payload(&c.payload).ok());
        let transcript = statement.and_then(|s| self.transcripts.get(&(id, s.key())));
        let agreed = transcript.is_some_and(|transcript| {
            let Ok(parsed) = parse_transcript::<Ristretto255>(transcript) else { return false };
            let signatures: Vec<[u8; 64]> = request
                .transcript_signatures
                .iter()
                .filter_map(|signature| signature.as_slice().try_into().ok())
                .collect();
            let members = parsed.setup.threshold().indices();
            signatures.len() == usize::from(parsed.setup.threshold().n())
                && members.zip(&signatures).all(|(index, signature)| {
                    certify::verify_one(&parsed.setup, index, transcript, signature)
                })
        });
        if !agreed {
            self.report(Invariant::TranscriptIsAgreed, format!("{id}"));
        }
    }

    /// An honest node gave out a signature of a statement.
    pub fn saw_signature(&mut self, node: NodeId, statement: &Envelope) {
        let Ok(said) = quorate_documents::Statement::from_payload(&statement.payload) else {
            self.report(Invariant::OneSignature, format!("{node} signed what is no statement"));
            return;
        };
        let place = (node, said.key(), said.version().get());
        let known = self.signed.entry(place).or_insert_with(|| statement.payload.clone());
        if *known != statement.payload {
            self.report(Invariant::OneSignature, format!("{node} signed two statements"));
        }
    }

    /// Evidence was shown by a node: it must not convict an honest one, and must convict somebody where the
    /// node that shows it is honest.
    pub fn saw_evidence(
        &mut self,
        keys: &[OrderedKey],
        evidence: &Evidence,
        shown_by: NodeId,
        honest: &[NodeId],
    ) {
        let mut convicts = false;
        for key in keys {
            let Ok((node, fault)) = ceremony::judge(&key.order, evidence) else { continue };
            convicts = true;
            if honest.contains(&node) {
                self.report(Invariant::HonestIsNotConvicted, format!("{node}: {fault}"));
            }
        }
        if !convicts && honest.contains(&shown_by) {
            let detail = format!("{shown_by} accuses participant {}", evidence.dealer);
            self.report(Invariant::HonestAccusesJustly, detail);
        }
    }

    /// Looks into the stores of all honest nodes.
    pub fn inspect(&mut self, keys: &[OrderedKey], nodes: &[(NodeId, &SimNode)]) {
        for key in keys {
            self.inspect_key(key, nodes);
        }
        for (id, node) in nodes {
            self.inspect_bounds(*id, node);
            self.inspect_promises(*id, node);
        }
    }

    fn inspect_key(&mut self, key: &OrderedKey, nodes: &[(NodeId, &SimNode)]) {
        let mut first: Option<Certificate> = None;
        let mut shares: Vec<(ParticipantIndex, SigningShare)> = Vec::new();
        for (id, node) in nodes {
            if let Some(envelope) = stored(node, key)
                && !signed_by_all(&envelope, &key.order)
            {
                let detail = format!("{id} holds a certificate without all signatures");
                self.report(Invariant::CertificateIsComplete, detail);
            }
            let Some(certificate) = certificate(node, key) else { continue };
            let statement = certificate.statement();
            if let Err(error) = Committee::new(&certificate) {
                self.report(Invariant::CertificateIsUsable, format!("{id}: {error}"));
            }
            match &first {
                Some(other) if other.statement().commitments() != statement.commitments() => {
                    self.report(Invariant::OneVerifyingKey, format!("{id} holds another key"));
                }
                Some(_) => {}
                None => first = Some(certificate.clone()),
            }
            match share(node, key, statement.generation()) {
                Some((index, share)) => {
                    let committee = Committee::new(&certificate).ok();
                    let verifying = committee.and_then(|c| c.public().share(index).copied());
                    if verifying != Some(*share.verifying_share()) {
                        let detail = format!("{id} holds a share that is not the certificate's");
                        self.report(Invariant::CertifiedShareIsHeld, detail);
                    }
                    shares.push((index, share));
                }
                None => {
                    let detail = format!("{id} holds no share of {}", statement.generation());
                    self.report(Invariant::CertifiedShareIsHeld, detail);
                }
            }
        }
        let t = usize::from(key.order.threshold().t());
        if let Some(certificate) = first {
            for subset in shares.windows(t) {
                if !interpolates(subset, &certificate) {
                    self.report(Invariant::SharesInterpolate, format!("{}", key.id));
                }
            }
        }
    }

    fn inspect_bounds(&mut self, id: NodeId, node: &SimNode) {
        let store = node.store();
        let mut report = |detail: String| self.report(Invariant::BoundsHold, detail);
        let sessions = store.rows(Table::Sessions).count();
        if sessions > MAX_SESSIONS {
            report(format!("{id} has {sessions} sessions"));
        }
        for (_, row) in store.rows(Table::OpenSessions) {
            let open = OpenSessionsRow::decode(row).map(|row| row.sessions).unwrap_or_default();
            if open.is_empty() || open.len() > MAX_SESSIONS_PER_TENANT {
                report(format!("{id} has {} sessions of one tenant", open.len()));
            }
            for session in &open {
                let of_one = open.iter().filter(|other| other.opener == session.opener).count();
                if of_one > MAX_SESSIONS_PER_PRINCIPAL {
                    report(format!("{id} has {of_one} sessions of one principal"));
                }
            }
        }
        for (_, row) in store.rows(Table::Attempts) {
            let opened = AttemptsRow::decode(row).map(|row| row.opened).unwrap_or(u32::MAX);
            if opened > MAX_ATTEMPTS_PER_ORDER {
                report(format!("{id} opened {opened} sessions under one order"));
            }
        }
    }

    fn inspect_promises(&mut self, id: NodeId, node: &SimNode) {
        let store = node.store();
        let promised: Vec<_> = self.signed.iter().filter(|((node, ..), _)| *node == id).collect();
        let mut broken = Vec::new();
        for ((_, key, version), payload) in promised {
            let Some(version) = KeyVersion::new(*version) else { continue };
            let row = store.row(&RowKey::signed(*key, version));
            let row = row.and_then(|row| SignedRow::decode(row).ok());
            let kept = row.and_then(|row| row.statement).map(|statement| statement.payload);
            if kept.as_ref() != Some(payload) {
                broken.push(format!("{id} has lost what it signed"));
            }
        }
        for detail in broken {
            self.report(Invariant::PromiseIsKept, detail);
        }
        for (key, row) in store.rows(Table::Signed) {
            let Ok(row) = SignedRow::decode(row) else { continue };
            // What others could have erased for: each keeps its share from the promise on.
            let mut share = key.key.clone();
            share.extend_from_slice(&row.generation);
            if store.row(&RowKey { table: Table::Shares, key: share }).is_none() {
                let detail = format!("{id} has signed and has no share");
                self.report(Invariant::PromiseIsKept, detail);
            }
            let kept = store.rows(Table::Sessions).filter_map(|(_, session)| {
                Some(quorate_wire::digests::session_id(
                    &quorate_wire::strict::decode(
                        "Session",
                        &SessionRow::decode(session).ok()?.session,
                    )
                    .ok()?,
                ))
            });
            if kept.into_iter().any(|session| session.as_bytes() == row.session.as_slice()) {
                self.report(Invariant::SessionIsErased, format!("{id} keeps a signed session"));
            }
        }
    }
}

fn stored(node: &SimNode, key: &OrderedKey) -> Option<Envelope> {
    Envelope::decode(node.store().row(&RowKey::certificate(key.id, key.version))?).ok()
}

/// The certificate of a key version at a node.
#[must_use]
pub fn certificate(node: &SimNode, key: &OrderedKey) -> Option<Certificate> {
    Certificate::verify(stored(node, key)?, key.id, key.version, &key.order).ok()
}

/// Whether exactly the members have signed, counted here once more and not as nodes do.
fn signed_by_all(envelope: &Envelope, order: &Order) -> bool {
    let mut signers = Vec::new();
    for signature in &envelope.signatures {
        let alone = Envelope { signatures: vec![signature.clone()], ..envelope.clone() };
        match Verified::new(PayloadType::Certificate, alone) {
            Ok(verified) => signers.extend_from_slice(verified.signers()),
            Err(_) => return false,
        }
    }
    let mut members: Vec<_> = order.members().iter().map(|member| member.identity_key).collect();
    signers.sort_unstable();
    members.sort_unstable();
    signers == members
}

/// A node's share of a generation, unsealed.
fn share(
    node: &SimNode,
    key: &OrderedKey,
    generation: Generation,
) -> Option<(ParticipantIndex, SigningShare)> {
    let place = RowKey::share(key.id, key.version, generation);
    let row = ShareRow::decode(node.store().row(&place)?).ok()?;
    let index = ParticipantIndex::new(row.index, key.order.threshold()).ok()?;
    let opened = sealing::open(node.root(), &place, &row.share?).ok()?;
    let share = SigningShare::from_bytes(&Secret::from_slice(opened.reveal())?).ok()?;
    Some((index, share))
}

fn interpolates(shares: &[(ParticipantIndex, SigningShare)], certificate: &Certificate) -> bool {
    let indices: Vec<ParticipantIndex> = shares.iter().map(|(index, _)| *index).collect();
    let Ok(lambdas) = lagrange_at_zero(&indices) else { return false };
    let mut sum = <Ristretto255 as Suite>::Scalar::from(0u64);
    for (lambda, (_, share)) in lambdas.iter().zip(shares) {
        sum += lambda * share.reveal();
    }
    let key = Ristretto255::encode_point(&Ristretto255::mul_base(&sum));
    certificate.statement().commitments().first() == Some(&key)
}
