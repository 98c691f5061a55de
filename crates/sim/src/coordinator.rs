//! Lying coordinators.
//!
//! A [`Raw`] coordinator drives one or two sessions without verifying anything, in lockstep, and lies in
//! one way: its [`Strategy`].

use quorate_documents::Order;
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::dkg::merkle;
use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, SESSION_SECONDS};
use quorate_types::{Digest, NodeId, SessionId};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::cluster::OrderedKey;
use crate::network::Guise;

macro_rules! strategies {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $sessions:literal;)*) => {
        /// One way for a coordinator to lie.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Strategy { $($(#[$doc])* $name,)* }

        impl Strategy {
            /// All strategies.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn sessions(self) -> u32 {
                match self { $(Self::$name => $sessions,)* }
            }
        }
    };
}

strategies! {
    /// Different round-0 sets to different participants: another version where a participant signed two,
    /// one of another session otherwise.
    SplitRound0, "split view of round 0", 2;
    /// Different round-1 sets to different participants.
    SplitRound1, "split view of round 1", 2;
    /// Two recipients get each other's ciphertexts.
    SwappedCiphertexts, "swapped ciphertexts", 1;
    /// One recipient gets a dealer's ciphertext at another dealer's place.
    TransplantedCiphertext, "transplanted ciphertext", 1;
    /// A flipped byte in a ciphertext.
    TamperedCiphertext, "tampered ciphertext", 1;
    /// A flipped byte in a Merkle path, or a path where there is none.
    TamperedPath, "tampered path", 1;
    /// A flipped byte in a round-0 payload.
    TamperedRound0, "tampered round 0", 1;
    /// A flipped byte in a round-1 payload.
    TamperedRound1, "tampered round 1", 1;
    /// A participant's round 1 with its proof of possession replaced, signed by the coordinator itself.
    ResignedRound1, "re-signed round 1", 1;
    /// One message less in round 0.
    TruncatedRound0, "truncated round 0", 1;
    /// One message less in round 1, or one more.
    TruncatedRound1, "truncated round 1", 1;
    /// One delivery less.
    TruncatedDeliveries, "truncated deliveries", 1;
    /// One message more in both rounds.
    PaddedVectors, "padded vectors", 1;
    /// Nothing where everything should be.
    EmptyVectors, "empty vectors", 1;
    /// Round 0 of another session of the same key version.
    ReplayedRound0, "replayed round 0", 2;
    /// Round 1 of another session of the same key version, with its ciphertexts.
    ReplayedRound1, "replayed round 1", 2;
    /// Only the ciphertexts of another session.
    ReplayedCiphertexts, "replayed ciphertexts", 2;
    /// One participant's message at another's place as well.
    WrongIndex, "wrong index", 1;
    /// Participants in another order, everywhere.
    Reordered, "reordered participants", 1;
    /// Requests of one session under another session's id.
    WrongSession, "wrong session", 2;
    /// A session for another order, another roster, a parent, or an attempt out of range.
    WrongTerms, "wrong terms of session", 1;
    /// Everything twice.
    Duplicates, "duplicate delivery", 1;
    /// Every participant deals twice, over two round-0 sets.
    DealsTwice, "deals twice", 2;
    /// Dies when all have opened.
    DiesAfterOpen, "dies after round 0", 1;
    /// Dies when all have dealt.
    DiesAfterDeal, "dies after round 1", 1;
    /// Dies when some have signed.
    DiesAmidSign, "dies amid round 2", 1;
    /// Dies when all have signed.
    DiesAfterSign, "dies after round 2", 1;
    /// Dies when some have the certificate.
    DiesAmidDelivery, "dies amid delivery", 1;
    /// Two sessions of one key version at once, both driven as far as they go.
    TwoSessions, "two sessions at once", 2;
    /// Half of the participants asked to sign one session, the others another.
    SplitSigning, "split signing", 2;
    /// A certificate with a commitment changed.
    ForgedStatement, "forged statement", 1;
    /// A certificate of its own making, signed by keys of its own.
    ForgedSignatures, "forged signatures", 1;
    /// A certificate with signatures of two sessions.
    MixedSignatures, "mixed signatures", 2;
    /// A certificate whose `CertEq` signatures are in another order.
    MixedTranscriptSignatures, "mixed CertEq signatures", 1;
    /// A certificate that one participant has not signed.
    MissingSignature, "missing signature", 1;
    /// A certificate with one signature twice in place of a missing one.
    DoubledSignature, "doubled signature", 1;
    /// Opens as many sessions as it can.
    OpensMany, "opens many sessions", 24;
    /// Opens many sessions and lets everybody deal in all of them.
    DealsMany, "deals in many sessions", 24;
    /// Lets the time of its session pass before it goes on.
    Late, "late", 1;
    /// Asks for signatures in a session in which nobody has dealt, with the dealings of another.
    SkipsDealing, "skips dealing", 2;
    /// Sends each request in the name of somebody who may not coordinate as well.
    WithoutPermission, "without permission", 1;
    /// Sends each request in the name of another tenant's principal as well.
    ForeignTenant, "foreign tenant", 1;
    /// Sends each request to another node as well, as it is.
    WrongNode, "wrong node", 1;
    /// A certificate with a `CertEq` signature too few or too many.
    MiscountedTranscriptSignatures, "miscounted CertEq signatures", 1;
    /// A certificate that somebody else has signed besides.
    StrangersSignature, "a stranger's signature", 1;
}

impl Strategy {
    /// Whether it lies about a certificate, for which everybody must have signed first.
    #[must_use]
    pub const fn needs_signatures(self) -> bool {
        matches!(
            self,
            Self::ForgedStatement
                | Self::ForgedSignatures
                | Self::MixedTranscriptSignatures
                | Self::MixedSignatures
                | Self::MissingSignature
                | Self::DoubledSignature
                | Self::MiscountedTranscriptSignatures
                | Self::StrangersSignature
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Open,
    Deal,
    Sign,
    Certify,
    Done,
}

/// A dealer's round 1 as it came.
#[derive(Debug, Clone)]
struct Dealt {
    envelope: Envelope,
    ciphertexts: Vec<Vec<u8>>,
}

struct Run {
    session: v1::Session,
    id: SessionId,
    /// Each participant's round 0: all versions of it that it gave.
    round0: Vec<Vec<Envelope>>,
    round1: Vec<Vec<Dealt>>,
    signed: Vec<Option<v1::DkgSignReply>>,
}

/// A request, to whom, and in whose name.
#[derive(Debug, Clone)]
pub struct Ask {
    /// To whom.
    pub node: NodeId,
    /// What.
    pub request: Request,
    /// In whose name.
    pub guise: Guise,
}

/// A coordinator that verifies nothing and lies in one way.
pub struct Raw {
    strategy: Strategy,
    order: Order,
    runs: Vec<Run>,
    step: Step,
    outstanding: usize,
    sent: bool,
    fired: u64,
    /// After which step a late one waits.
    rests: Step,
}

fn last<T: Clone>(versions: &[Vec<T>], at: usize) -> Option<T> {
    versions.get(at)?.last().cloned()
}

/// A request with another node's name on it, or with none.
fn renamed(mut request: Request, other: Option<NodeId>) -> Request {
    let other = other.map(|node| node.as_bytes().to_vec()).unwrap_or_default();
    match &mut request {
        Request::DkgOpen(request) => request.node = other,
        Request::DkgDeal(request) => request.node = other,
        Request::DkgSign(request) => request.node = other,
        Request::DkgSignature(request) => request.node = other,
        Request::PutCertificate(request) => request.node = other,
        _ => {}
    }
    request
}

fn flip(bytes: &mut [u8], rng: &mut ChaCha20Rng) {
    let at = rng.next_u32() as usize % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (rng.next_u32() % 8);
    }
}

impl Raw {
    /// A lying coordinator for a key version. `attempt` is the first that it uses.
    #[must_use]
    pub fn new(
        strategy: Strategy,
        key: &OrderedKey,
        roster: Digest,
        attempt: u32,
        rng: &mut ChaCha20Rng,
    ) -> Self {
        let n = key.order.members().len();
        let runs = (0..strategy.sessions())
            .map(|more| {
                let mut session = quorate_coordinator::ceremony::new_session(
                    key.id,
                    key.version,
                    &key.order,
                    roster,
                    // Attempts of the same number differ by their nonces.
                    match strategy {
                        Strategy::DealsMany => 1 + more % MAX_ATTEMPTS_PER_ORDER,
                        _ => attempt + more % MAX_ATTEMPTS_PER_ORDER,
                    },
                    rng,
                );
                if strategy == Strategy::WrongTerms {
                    match rng.next_u32() % 6 {
                        0 => session.order.reverse(),
                        1 => session.roster.reverse(),
                        2 => session.parent = vec![7; 32],
                        3 => session.attempt = 0,
                        4 => session.attempt = 17,
                        _ => session.nonce.truncate(31),
                    }
                }
                let id = digests::session_id(&session);
                Run {
                    session,
                    id,
                    round0: vec![Vec::new(); n],
                    round1: vec![Vec::new(); n],
                    signed: vec![None; n],
                }
            })
            .collect();
        let order = key.order.clone();
        let rests = if rng.next_u32().is_multiple_of(2) { Step::Deal } else { Step::Sign };
        let (step, outstanding, sent, fired) = (Step::Open, 0, false, 0);
        Self { strategy, order, runs, step, outstanding, sent, fired, rests }
    }

    /// How it lies.
    #[must_use]
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// How often it has lied.
    #[must_use]
    pub const fn fired(&self) -> u64 {
        self.fired
    }

    /// How many sessions it has tried to open.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.strategy.sessions()
    }

    /// Whether it will do nothing more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.step == Step::Done && self.outstanding == 0
    }

    fn lies(&mut self, strategy: Strategy) -> bool {
        let yes = self.strategy == strategy;
        // Not a sum of the comparison: some compilers lose it when it is branched upon too (rust-lang/rust#158206).
        if yes {
            self.fired += 1;
        }
        yes
    }

    /// What to send now.
    pub fn poll(&mut self, rng: &mut ChaCha20Rng) -> Vec<Ask> {
        if self.outstanding > 0 || self.step == Step::Done {
            return Vec::new();
        }
        loop {
            if self.sent {
                self.advance();
                self.sent = false;
            }
            let asks = match self.step {
                Step::Open => self.opens(),
                Step::Deal => self.deals(rng),
                Step::Sign => self.signs(rng),
                Step::Certify => self.certificates(rng),
                Step::Done => return Vec::new(),
            };
            self.sent = true;
            if self.strategy == Strategy::Late && self.step == self.rests {
                self.fired += asks.len() as u64;
            }
            let asks: Vec<Ask> = asks.into_iter().flat_map(|ask| self.disguised(ask)).collect();
            if !asks.is_empty() {
                self.outstanding = asks.len();
                return asks;
            }
        }
    }

    /// Milliseconds to wait before what was just polled is sent.
    #[must_use]
    pub fn wait(&self) -> u64 {
        let rests = self.strategy == Strategy::Late && self.step == self.rests;
        if rests { (SESSION_SECONDS + 60) * 1000 } else { 0 }
    }

    /// A request as often, and in as many names, as the strategy sends it.
    fn disguised(&mut self, (node, request): (NodeId, Request)) -> Vec<Ask> {
        let ask = |guise| Ask { node, request: request.clone(), guise };
        let own = Guise::Own;
        let asks = match self.strategy {
            Strategy::Duplicates => vec![ask(own), ask(own)],
            // Before and after: what is answered once may be answered again without a look.
            Strategy::WithoutPermission => {
                vec![ask(Guise::Bystander), ask(own), ask(Guise::Bystander)]
            }
            Strategy::ForeignTenant => {
                vec![ask(Guise::Foreigner), ask(own), ask(Guise::Foreigner)]
            }
            Strategy::WrongNode => {
                let members = self.order.members();
                let at = members.iter().position(|m| m.node == node).unwrap_or_default();
                let other = members.get((at + 1) % members.len()).map(|m| m.node);
                let other = other.filter(|other| *other != node);
                let strange = Ask { request: renamed(request.clone(), other), ..ask(own) };
                vec![strange, ask(own)]
            }
            _ => return vec![ask(own)],
        };
        self.fired += 1;
        asks
    }

    fn advance(&mut self) {
        let dies = match self.step {
            Step::Open => {
                self.lies(Strategy::DiesAfterOpen) || self.strategy == Strategy::OpensMany
            }
            Step::Deal => {
                self.lies(Strategy::DiesAfterDeal) || self.strategy == Strategy::DealsMany
            }
            Step::Sign => self.lies(Strategy::DiesAmidSign) || self.lies(Strategy::DiesAfterSign),
            Step::Certify | Step::Done => false,
        };
        let next = match self.step {
            _ if dies => Step::Done,
            Step::Open => Step::Deal,
            Step::Deal => Step::Sign,
            Step::Sign => Step::Certify,
            Step::Certify | Step::Done => Step::Done,
        };
        self.step = next;
    }

    /// What came of a request; nothing for silence.
    pub fn on_outcome(&mut self, node: NodeId, request: &Request, outcome: Option<&Outcome>) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let Some(at) = self.order.members().iter().position(|m| m.node == node) else { return };
        let session = match request {
            Request::DkgOpen(r) => r.session.as_ref().map(|s| *digests::session_id(s).as_bytes()),
            Request::DkgDeal(r) => r.session.as_slice().try_into().ok(),
            Request::DkgSign(r) => r.session.as_slice().try_into().ok(),
            _ => None,
        };
        let run = self.runs.iter_mut().find(|run| Some(*run.id.as_bytes()) == session);
        let (Some(run), Some(Ok(reply))) = (run, outcome) else { return };
        match reply {
            Reply::DkgOpen(v1::DkgOpenReply { round0: Some(envelope) }) => {
                if let Some(versions) = run.round0.get_mut(at) {
                    versions.push(envelope.clone());
                }
            }
            Reply::DkgDeal(v1::DkgDealReply { round1: Some(envelope), ciphertexts }) => {
                if let Some(versions) = run.round1.get_mut(at) {
                    let (envelope, ciphertexts) = (envelope.clone(), ciphertexts.clone());
                    versions.push(Dealt { envelope, ciphertexts });
                }
            }
            Reply::DkgSign(reply) => {
                if let Some(signed) = run.signed.get_mut(at) {
                    *signed = Some(reply.clone());
                }
            }
            _ => {}
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.order.members().iter().map(|m| m.node).collect()
    }

    fn opens(&mut self) -> Vec<(NodeId, Request)> {
        let mut asks = Vec::new();
        self.fired +=
            u64::from(matches!(self.strategy, Strategy::WrongTerms | Strategy::OpensMany));
        for node in self.nodes() {
            // A participant that signs two versions is caught only by asking twice.
            let twice = matches!(self.strategy, Strategy::SplitRound0 | Strategy::DealsTwice);
            let times = if twice { 2 } else { 1 };
            for run in &self.runs {
                for _ in 0..times {
                    let session = Some(run.session.clone());
                    let node_bytes = node.as_bytes().to_vec();
                    let request = v1::DkgOpenRequest { node: node_bytes, session };
                    asks.push((node, Request::DkgOpen(request)));
                }
            }
        }
        asks
    }

    /// The other run, where there are two.
    fn other(&self, run: usize) -> Option<&Run> {
        self.runs.get(run ^ 1)
    }

    /// Everybody's round 0 as this node is to see it.
    fn round0_for(
        &mut self,
        run: usize,
        at: usize,
        rng: &mut ChaCha20Rng,
    ) -> Option<Vec<Envelope>> {
        let n = self.order.members().len();
        let versions = &self.runs.get(run)?.round0;
        let mut all: Vec<Envelope> = (0..n).map(|i| last(versions, i)).collect::<Option<_>>()?;
        let some = rng.next_u32() as usize % n;
        let second_half = at >= n.div_ceil(2);
        match self.strategy {
            Strategy::SplitRound0 if second_half => {
                let twice = versions.iter().position(|v| v.first() != v.last());
                let other = match twice {
                    Some(twice) => (twice, versions.get(twice)?.first()?.clone()),
                    None => (some, last(&self.other(run)?.round0, some)?),
                };
                *all.get_mut(other.0)? = other.1;
            }
            Strategy::ReplayedRound0 => {
                *all.get_mut(some)? = last(&self.other(run)?.round0, some)?;
            }
            // The same session again: with the other version of a message, where there is one, and with
            // a message of the other session otherwise.
            Strategy::DealsTwice if rng.next_u32().is_multiple_of(2) => {
                let twice = versions.iter().position(|v| v.first() != v.last());
                let other = match twice {
                    Some(twice) => (twice, versions.get(twice)?.first()?.clone()),
                    None => (some, last(&self.other(run)?.round0, some)?),
                };
                *all.get_mut(other.0)? = other.1;
            }
            Strategy::TamperedRound0 => flip(&mut all.get_mut(some)?.payload, rng),
            Strategy::TruncatedRound0 => drop(all.pop()),
            Strategy::PaddedVectors => all.push(all.first()?.clone()),
            Strategy::EmptyVectors => all.clear(),
            Strategy::WrongIndex => *all.get_mut((some + 1) % n)? = all.get(some)?.clone(),
            Strategy::Reordered => all.rotate_left(1),
            _ => return Some(all),
        }
        self.fired += 1;
        Some(all)
    }

    fn deals(&mut self, rng: &mut ChaCha20Rng) -> Vec<(NodeId, Request)> {
        let mut asks = Vec::new();
        // Some lies are for a later step.
        for run in 0..self.runs.len() {
            if self.strategy == Strategy::SkipsDealing && run > 0 {
                continue;
            }
            for (at, node) in self.nodes().into_iter().enumerate() {
                let times = match self.strategy {
                    Strategy::SplitRound1 | Strategy::DealsTwice => 2,
                    _ => 1,
                };
                for _ in 0..times {
                    let Some(round0) = self.round0_for(run, at, rng) else { continue };
                    let crossed = self.lies(Strategy::WrongSession);
                    let named = if crossed { self.other(run) } else { self.runs.get(run) };
                    let Some(id) = named.map(|run| run.id) else { continue };
                    self.fired += u64::from(self.strategy == Strategy::DealsMany);
                    asks.push((
                        node,
                        Request::DkgDeal(v1::DkgDealRequest {
                            node: node.as_bytes().to_vec(),
                            session: id.as_bytes().to_vec(),
                            round0,
                        }),
                    ));
                }
            }
        }
        asks
    }

    /// Everybody's round 1 as this node is to see it.
    fn round1_for(&mut self, run: usize, at: usize, rng: &mut ChaCha20Rng) -> Option<Vec<Dealt>> {
        let n = self.order.members().len();
        let skips = self.strategy == Strategy::SkipsDealing;
        let versions = &self.runs.get(if skips { 0 } else { run })?.round1;
        let mut all: Vec<Dealt> = (0..n).map(|i| last(versions, i)).collect::<Option<_>>()?;
        let some = rng.next_u32() as usize % n;
        let second_half = at >= n.div_ceil(2);
        match self.strategy {
            Strategy::SplitRound1 if second_half => {
                let differ = |v: &Vec<Dealt>| {
                    v.first().map(|d| &d.envelope) != v.last().map(|d| &d.envelope)
                };
                let (at, other) = match versions.iter().position(differ) {
                    Some(twice) => (twice, versions.get(twice)?.first()?.clone()),
                    None => (some, last(&self.other(run)?.round1, some)?),
                };
                *all.get_mut(at)? = other;
            }
            Strategy::ReplayedRound1 => {
                *all.get_mut(some)? = last(&self.other(run)?.round1, some)?;
            }
            Strategy::ReplayedCiphertexts => {
                all.get_mut(some)?.ciphertexts = last(&self.other(run)?.round1, some)?.ciphertexts;
            }
            Strategy::TamperedRound1 => flip(&mut all.get_mut(some)?.envelope.payload, rng),
            Strategy::ResignedRound1 => {
                let dealt = all.get_mut(some)?;
                let mut message: v1::Round1 =
                    strict::decode("Round1", &dealt.envelope.payload).ok()?;
                flip(&mut message.proof_of_possession, rng);
                dealt.envelope = SigningKey::generate(rng)
                    .envelop(PayloadType::Round1, strict::encode(&message));
            }
            Strategy::TruncatedRound1 => match rng.next_u32() % 2 {
                0 => drop(all.pop()),
                _ => all.push(all.first()?.clone()),
            },
            Strategy::SkipsDealing if run > 0 => {}
            _ => return Some(all),
        }
        self.fired += 1;
        Some(all)
    }

    fn deliveries_for(
        &mut self,
        all: &[Dealt],
        at: usize,
        rng: &mut ChaCha20Rng,
    ) -> Option<Vec<v1::Delivery>> {
        let n = self.order.members().len();
        let indices = || self.order.threshold().indices();
        let to = if self.strategy == Strategy::SwappedCiphertexts { (at + 1) % n } else { at };
        let mut deliveries = Vec::with_capacity(all.len());
        for dealt in all {
            let paths = merkle::paths(indices(), &dealt.ciphertexts);
            deliveries.push(v1::Delivery {
                ciphertext: dealt.ciphertexts.get(to)?.clone(),
                path: paths.get(to)?.iter().map(|d| d.as_bytes().to_vec()).collect(),
            });
        }
        let some = rng.next_u32() as usize % n;
        match self.strategy {
            Strategy::SwappedCiphertexts => {}
            Strategy::TransplantedCiphertext => {
                *deliveries.get_mut((some + 1) % n)? = deliveries.get(some)?.clone();
            }
            Strategy::TamperedCiphertext => flip(&mut deliveries.get_mut(some)?.ciphertext, rng),
            Strategy::TamperedPath => match deliveries.get_mut(some)?.path.first_mut() {
                Some(digest) => flip(digest, rng),
                None => deliveries.get_mut(some)?.path.push(vec![0; 32]),
            },
            Strategy::TruncatedDeliveries => drop(deliveries.pop()),
            _ => return Some(deliveries),
        }
        self.fired += 1;
        Some(deliveries)
    }

    fn signs(&mut self, rng: &mut ChaCha20Rng) -> Vec<(NodeId, Request)> {
        let mut asks = Vec::new();
        let n = self.order.members().len();
        let alive = match self.strategy {
            Strategy::DiesAmidSign => 1 + rng.next_u32() as usize % n.saturating_sub(1).max(1),
            _ => n,
        };
        for run in 0..self.runs.len() {
            for (at, node) in self.nodes().into_iter().enumerate().take(alive) {
                if self.strategy == Strategy::SplitSigning {
                    self.fired += 1;
                    if at % 2 != run {
                        continue;
                    }
                }
                let Some(all) = self.round1_for(run, at, rng) else { continue };
                let dealers = all.get(..n).unwrap_or(&all).to_vec();
                let Some(deliveries) = self.deliveries_for(&dealers, at, rng) else { continue };
                let Some(id) = self.runs.get(run).map(|run| run.id) else { continue };
                self.fired += u64::from(self.strategy == Strategy::TwoSessions);
                asks.push((
                    node,
                    Request::DkgSign(v1::DkgSignRequest {
                        node: node.as_bytes().to_vec(),
                        session: id.as_bytes().to_vec(),
                        round1: all.into_iter().map(|dealt| dealt.envelope).collect(),
                        deliveries,
                    }),
                ));
            }
        }
        asks
    }

    fn certificates(&mut self, rng: &mut ChaCha20Rng) -> Vec<(NodeId, Request)> {
        let mut asks = Vec::new();
        let amid = self.lies(Strategy::DiesAmidDelivery);
        let session = self.runs.first().map(|run| run.session.clone()).unwrap_or_default();
        for node in self.nodes() {
            let (node_bytes, key) = (node.as_bytes().to_vec(), session.key.clone());
            let key_version = session.key_version;
            let request = v1::DkgSignatureRequest { node: node_bytes, key, key_version };
            if self.collects() {
                asks.push((node, Request::DkgSignature(request)));
            }
        }
        for run in 0..self.runs.len() {
            let Some(request) = self.certificate(run, rng) else { continue };
            for node in self.nodes() {
                let request =
                    v1::PutCertificateRequest { node: node.as_bytes().to_vec(), ..request.clone() };
                asks.push((node, Request::PutCertificate(request)));
                if amid {
                    break;
                }
            }
        }
        asks
    }

    /// Whether it also asks for what was signed, which others do who finish a ceremony.
    const fn collects(&self) -> bool {
        matches!(
            self.strategy,
            Strategy::WithoutPermission | Strategy::ForeignTenant | Strategy::WrongNode
        )
    }

    fn certificate(
        &mut self,
        run: usize,
        rng: &mut ChaCha20Rng,
    ) -> Option<v1::PutCertificateRequest> {
        let n = self.order.members().len();
        let mixes = self.strategy == Strategy::MixedSignatures;
        let other = self.other(run);
        let mut signed: Vec<v1::DkgSignReply> = Vec::with_capacity(n);
        for at in 0..n {
            let own = self.runs.get(run)?.signed.get(at)?.clone();
            let theirs = other.and_then(|o| o.signed.get(at).cloned().flatten());
            signed.push(if mixes { own.or(theirs)? } else { own? });
        }
        let first = signed.first()?.statement.clone()?;
        let mut payload = first.payload;
        let mut signatures: Vec<v1::Signature> = signed
            .iter()
            .map(|s| s.statement.as_ref()?.signatures.first().cloned())
            .collect::<Option<_>>()?;
        let mut transcript: Vec<Vec<u8>> =
            signed.iter().map(|s| s.transcript_signature.clone()).collect();
        match self.strategy {
            Strategy::ForgedStatement => {
                let mut statement: v1::CertificateStatement =
                    strict::decode("CertificateStatement", &payload).ok()?;
                statement.commitments.reverse();
                flip(&mut statement.generation, rng);
                payload = strict::encode(&statement);
            }
            Strategy::ForgedSignatures => {
                for signature in &mut signatures {
                    *signature = SigningKey::generate(rng).sign(PayloadType::Certificate, &payload);
                }
            }
            Strategy::MixedTranscriptSignatures => transcript.rotate_left(1),
            Strategy::MiscountedTranscriptSignatures => match rng.next_u32() % 2 {
                0 => drop(transcript.pop()),
                _ => transcript.push(transcript.first()?.clone()),
            },
            Strategy::StrangersSignature => {
                signatures.push(SigningKey::generate(rng).sign(PayloadType::Certificate, &payload));
            }
            Strategy::MissingSignature => drop(signatures.pop()),
            Strategy::DoubledSignature => {
                let one = signatures.first()?.clone();
                *signatures.last_mut()? = one;
            }
            _ => {}
        }
        self.fired += u64::from(matches!(
            self.strategy,
            Strategy::ForgedStatement
                | Strategy::ForgedSignatures
                | Strategy::MixedTranscriptSignatures
                | Strategy::MissingSignature
                | Strategy::DoubledSignature
                | Strategy::MixedSignatures
                | Strategy::MiscountedTranscriptSignatures
                | Strategy::StrangersSignature
        ));
        Some(v1::PutCertificateRequest {
            node: Vec::new(),
            certificate: Some(Envelope {
                payload_type: PayloadType::Certificate.name().to_owned(),
                payload,
                signatures,
            }),
            transcript_signatures: transcript,
            ..v1::PutCertificateRequest::default()
        })
    }
}
