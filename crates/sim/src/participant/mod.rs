//! Lying participants.
//!
//! A [`Liar`] runs the protocol with secrets of its own making, so that it can do anything that a node
//! with a valid identity key can do, and is honest but for one thing: its [`Strategy`]. It also sees what
//! honest participants have dealt before it deals itself, as if every coordinator colluded with it.

use std::collections::BTreeMap;

use quorate_documents::{Member, Order, Statement};
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Member as Round0Member, ReceiveKey, Ristretto255, Session, SessionBinding, Suite, merkle,
    schnorr,
};
use quorate_types::{Digest, SessionId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

mod sign;

pub(crate) use sign::message as believed;

type S = Ristretto255;
type Scalar = <S as Suite>::Scalar;

macro_rules! strategies {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $named:ident;)*) => {
        /// One way for a participant to lie.
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

            /// How an honest coordinator, over a good network, must name a node that lies so.
            #[must_use]
            pub const fn expected(self) -> Named {
                match self { $(Self::$name => Named::$named,)* }
            }
        }
    };
}

/// How a liar is named by an honest coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// By evidence that convinces third parties.
    Provably,
    /// By what the coordinator itself saw.
    Seen,
    /// As one that refused or was silent.
    Missing,
    /// Not at all, since nobody can prove it: no key is made, and the coordinator knows why.
    Cancelled,
    /// Not at all: it does no harm, and the key is made.
    Harmless,
}

strategies! {
    /// Encrypts a share to one recipient that does not fit its commitments.
    BadShareToOne, "bad share to one", Provably;
    /// Sends one recipient bytes that do not decrypt.
    GarbageToOne, "garbage to one", Provably;
    /// Commits to a polynomial of lower degree.
    CommitmentsShort, "T-1 commitments", Provably;
    /// Commits to a polynomial of higher degree.
    CommitmentsLong, "T+1 commitments", Provably;
    /// A commitment that is the identity.
    CommitmentIdentity, "identity commitment", Provably;
    /// Copies an honest dealer's commitments, proof of possession, ephemeral key and its proof.
    CopiedDealing, "copied dealing", Provably;
    /// Copies an honest dealer's ephemeral key, with a proof of possession of its own constant.
    CopiedEphemeral, "copied ephemeral key", Provably;
    /// Copies only the proof of possession.
    CopiedPossession, "copied proof of possession", Provably;
    /// Cancels the honest dealers' constants.
    RogueKey, "rogue key", Provably;
    /// A proof of knowledge of its ephemeral key that does not hold.
    WrongEphemeralProof, "wrong ephemeral proof", Provably;
    /// A proof of knowledge of its receive key that does not hold.
    WrongReceiveProof, "wrong receive key proof", Provably;
    /// An honest participant's receive key and proof, under its own signature.
    CopiedReceiveKey, "copied receive key", Provably;
    /// A receive key of 31 bytes.
    ShortReceiveKey, "short receive key", Seen;
    /// Signs another round 0 each time it is asked.
    EquivocatingRound0, "equivocating round 0", Harmless;
    /// Signs another round 1 each time it is asked.
    EquivocatingRound1, "equivocating round 1", Harmless;
    /// Ciphertexts that are not under the root that it signed.
    WrongRoot, "wrong ciphertexts root", Seen;
    /// Leaves the last ciphertext out.
    TruncatedCiphertexts, "truncated ciphertexts", Seen;
    /// Round 0 under another participant's index.
    WrongIndex, "wrong index", Seen;
    /// Round 0 for another session.
    WrongSession, "wrong session", Seen;
    /// Bytes that are no envelope of the session at all.
    GarbageEnvelope, "garbage envelope", Seen;
    /// Envelopes signed by a key that is not its identity key.
    StrangeSigner, "strange signer", Seen;
    /// Round 0 of an earlier session, sent again.
    ReplayedRound0, "replayed round 0", Seen;
    /// Round 1 of an earlier session, sent again.
    ReplayedRound1, "replayed round 1", Seen;
    /// Deals and does not sign.
    RefusesToSign, "refuses to sign", Missing;
    /// A `CertEq` signature of something else.
    WrongTranscriptSignature, "wrong CertEq signature", Seen;
    /// A signature of the statement by another key.
    WrongStatementSignature, "wrong statement signature", Seen;
    /// Its own signature of another statement.
    WrongStatement, "wrong statement", Seen;
    /// Accuses an honest dealer with made-up values.
    FalseAccusation, "false accusation", Seen;
    /// Accuses an honest dealer with true values of a good share.
    AccusesGoodShare, "accuses a good share", Seen;
    /// Accuses an honest dealer with a ciphertext that the dealer never signed.
    AccusesWithOtherCiphertext, "accuses with another ciphertext", Seen;
    /// Answers nothing at all.
    Crashed, "crashed", Missing;
    /// Answers round 0 and then nothing.
    CrashedAfterOpen, "crashed after round 0", Missing;
    /// Answers round 1 and then nothing.
    CrashedAfterDeal, "crashed after round 1", Missing;
    /// Acknowledges another generation than the certificate's.
    WrongAcknowledgement, "wrong acknowledgement", Harmless;
    /// Round 0 for another order or suite.
    MisfitRound0, "misfit round 0", Seen;
    /// Round 1 for another session, order, index, suite or round 0.
    MisfitRound1, "misfit round 1", Seen;
    /// Envelopes that somebody else has signed besides.
    DoublySigned, "doubly signed", Seen;
    /// A round-1 message with a field that is too short.
    ShortRound1, "short round 1", Seen;
    /// One recipient's ciphertext has a byte more than a share.
    LongCiphertext, "long ciphertext to one", Provably;
    /// One recipient's share is encoded as a number beyond the group order.
    UnreducedShare, "unreduced share to one", Provably;
    /// Deals so that the sum of all dealings is zero at its own index, by the shares that it was dealt.
    CancelsOwnShare, "cancels its own verifying share", Cancelled;
}

/// What a liar has done in one session.
struct Secrets {
    receive: [u8; 32],
    ephemeral: [u8; 32],
    coefficients: Vec<Scalar>,
    session: v1::Session,
    /// What it has seen.
    round0: Vec<Envelope>,
    signed: Option<v1::DkgSignReply>,
}

/// What lying participants know of one another's and of honest participants' messages.
#[derive(Debug, Default)]
pub struct Gossip {
    round0: Vec<(SessionId, v1::Round0)>,
    round1: Vec<(SessionId, v1::Round1, Vec<Vec<u8>>)>,
}

impl Gossip {
    /// Takes note of what an honest node replied.
    pub fn hear(&mut self, reply: &Reply) {
        match reply {
            Reply::DkgOpen(v1::DkgOpenReply { round0: Some(envelope) }) => {
                if let Ok(message) = strict::decode::<v1::Round0>("Round0", &envelope.payload)
                    && let Ok(session) = SessionId::from_slice(&message.session)
                {
                    self.round0.push((session, message));
                }
            }
            Reply::DkgDeal(v1::DkgDealReply { round1: Some(envelope), ciphertexts }) => {
                if let Ok(message) = strict::decode::<v1::Round1>("Round1", &envelope.payload)
                    && let Ok(session) = SessionId::from_slice(&message.session)
                {
                    self.round1.push((session, message, ciphertexts.clone()));
                }
            }
            _ => {}
        }
    }

    fn round0(&self, session: SessionId) -> Option<&v1::Round0> {
        self.round0.iter().find(|(of, _)| *of == session).map(|(_, message)| message)
    }

    fn round1(&self, session: SessionId) -> impl Iterator<Item = &v1::Round1> {
        self.dealt(session).map(|(message, _)| message)
    }

    fn dealt(&self, session: SessionId) -> impl Iterator<Item = (&v1::Round1, &[Vec<u8>])> {
        let of_session = self.round1.iter().filter(move |(of, ..)| *of == session);
        of_session.map(|(_, message, ciphertexts)| (message, ciphertexts.as_slice()))
    }
}

/// A participant that lies in one way.
pub struct Liar {
    strategy: Strategy,
    identity: SigningKey,
    member: Member,
    order: Order,
    sessions: BTreeMap<SessionId, Secrets>,
    /// Its first envelopes of each round, for replays.
    first: [Option<Envelope>; 2],
    /// How often it has lied.
    fired: u64,
    asked: u64,
}

fn scalar(rng: &mut ChaCha20Rng) -> Scalar {
    let mut wide = [0; 64];
    rng.fill_bytes(&mut wide);
    S::scalar_from_wide(&wide)
}

/// Adds the order of the group to a little-endian number: another encoding of the same scalar.
fn add_order(bytes: &mut [u8]) {
    // The order is one more than the largest scalar.
    let largest = S::encode_scalar(&-Scalar::from(1u64));
    let mut carry = 1u16;
    for (byte, more) in bytes.iter_mut().zip(largest) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
}

fn refused(code: RefusalCode, now: UnixSeconds) -> Outcome {
    quorate_node::refuse(code, "no", now)
}

impl Liar {
    /// A liar in the place of one member of an order.
    #[must_use]
    pub fn new(strategy: Strategy, identity: SigningKey, member: Member, order: Order) -> Self {
        Self {
            strategy,
            identity,
            member,
            order,
            sessions: BTreeMap::new(),
            first: [None, None],
            fired: 0,
            asked: 0,
        }
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

    /// Takes part in the ceremonies of another order from now on.
    pub fn follow(&mut self, order: &Order) {
        if let Some(member) = order.member(&self.member.node) {
            self.member = *member;
        }
        self.order = order.clone();
    }

    fn lies(&mut self, strategy: Strategy) -> bool {
        let yes = self.strategy == strategy;
        // Not a sum of the comparison: some compilers lose it when it is branched upon too (rust-lang/rust#158206).
        if yes {
            self.fired += 1;
        }
        yes
    }

    /// Its answer; none where it is silent.
    pub fn answer(
        &mut self,
        request: &Request,
        gossip: &Gossip,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Option<Outcome> {
        self.asked += 1;
        if self.lies(Strategy::Crashed) {
            return None;
        }
        let malformed = || refused(RefusalCode::Malformed, now);
        Some(match request {
            Request::DkgOpen(request) => {
                self.open(request, gossip, rng).map_or_else(malformed, |r| Ok(Reply::DkgOpen(r)))
            }
            Request::DkgDeal(request) => {
                if self.lies(Strategy::CrashedAfterOpen) {
                    return None;
                }
                self.deal(request, gossip, rng).map_or_else(malformed, |r| Ok(Reply::DkgDeal(r)))
            }
            Request::DkgSign(request) => {
                if self.lies(Strategy::CrashedAfterDeal) {
                    return None;
                }
                self.sign(request, now, rng).unwrap_or_else(malformed)
            }
            Request::DkgSignature(_) => {
                let signed = self.sessions.values().find_map(|secrets| secrets.signed.clone());
                signed.map_or_else(
                    || refused(RefusalCode::SessionUnknown, now),
                    |reply| Ok(Reply::DkgSign(reply)),
                )
            }
            Request::PutCertificate(request) => {
                let statement = request
                    .certificate
                    .as_ref()
                    .and_then(|c| Statement::from_payload(&c.payload).ok());
                statement.map_or_else(malformed, |statement| {
                    let mut generation = statement.generation().as_bytes().to_vec();
                    if self.lies(Strategy::WrongAcknowledgement) {
                        generation.reverse();
                    }
                    Ok(Reply::PutCertificate(v1::PutCertificateReply {
                        generation,
                        ..Default::default()
                    }))
                })
            }
            _ => malformed(),
        })
    }

    fn binding(session: &v1::Session) -> Option<SessionBinding> {
        Some(SessionBinding {
            session: digests::session_id(session),
            order: Digest::from_slice(&session.order).ok()?,
            roster: Digest::from_slice(&session.roster).ok()?,
        })
    }

    fn possession(
        &self,
        binding: &SessionBinding,
        kind: PossessionKind,
        point: [u8; 32],
    ) -> PossessionStatement<S> {
        let Member { node, index, .. } = self.member;
        let SessionBinding { session, order, .. } = *binding;
        PossessionStatement { kind, session, order, node, index, point }
    }

    fn envelop(&mut self, kind: PayloadType, payload: Vec<u8>, rng: &mut ChaCha20Rng) -> Envelope {
        if self.lies(Strategy::GarbageEnvelope) {
            let mut bytes = vec![0; 40];
            rng.fill_bytes(&mut bytes);
            return self.identity.envelop(kind, bytes);
        }
        if self.lies(Strategy::StrangeSigner) {
            return SigningKey::generate(rng).envelop(kind, payload);
        }
        let mut envelope = self.identity.envelop(kind, payload);
        if self.lies(Strategy::DoublySigned) {
            let other = SigningKey::generate(rng).sign(kind, &envelope.payload);
            envelope.signatures.push(other);
        }
        envelope
    }

    fn open(
        &mut self,
        request: &v1::DkgOpenRequest,
        gossip: &Gossip,
        rng: &mut ChaCha20Rng,
    ) -> Option<v1::DkgOpenReply> {
        let session = request.session.clone()?;
        let binding = Self::binding(&session)?;
        let id = binding.session;
        if let Some(envelope) = self.first[0].clone()
            && self.sessions.keys().any(|known| *known != id)
            && self.lies(Strategy::ReplayedRound0)
        {
            return Some(v1::DkgOpenReply { round0: Some(envelope) });
        }
        let t = self.order.threshold().t();
        let anew = self.sessions.contains_key(&id) && self.lies(Strategy::EquivocatingRound0);
        if anew || !self.sessions.contains_key(&id) {
            let secrets = Secrets {
                receive: S::encode_scalar(&scalar(rng)),
                ephemeral: S::encode_scalar(&scalar(rng)),
                coefficients: (0..t).map(|_| scalar(rng)).collect(),
                session: session.clone(),
                round0: Vec::new(),
                signed: None,
            };
            self.sessions.insert(id, secrets);
        }
        let receive = ReceiveKey::<S>::from_scalar(&self.sessions.get(&id)?.receive)?;
        let mut point = *receive.public();
        let statement = self.possession(&binding, PossessionKind::ReceiveKey, point);
        let mut proof = receive.prove_possession(&statement, rng);
        let mut index = u32::from(self.member.index.get());
        let mut named = id.as_bytes().to_vec();
        if self.lies(Strategy::WrongReceiveProof) {
            proof[40] ^= 1;
        }
        if let Some(other) = gossip.round0(id)
            && self.lies(Strategy::CopiedReceiveKey)
        {
            point = other.receive_key.as_slice().try_into().ok()?;
            proof = other.proof.as_slice().try_into().ok()?;
        }
        if self.lies(Strategy::WrongIndex) {
            index = index % u32::from(self.order.threshold().n()) + 1;
        }
        if self.lies(Strategy::WrongSession) {
            named.reverse();
        }
        let mut receive_key = point.to_vec();
        if self.lies(Strategy::ShortReceiveKey) {
            receive_key.pop();
        }
        let (mut order, mut suite) = (binding.order.as_bytes().to_vec(), S::ID.to_owned());
        if self.lies(Strategy::MisfitRound0) {
            match rng.next_u32() % 2 {
                0 => order.reverse(),
                _ => suite.push('!'),
            }
        }
        let payload = strict::encode(&v1::Round0 {
            session: named,
            order,
            index,
            suite,
            receive_key,
            proof: proof.to_vec(),
        });
        let envelope = self.envelop(PayloadType::Round0, payload, rng);
        self.first[0].get_or_insert_with(|| envelope.clone());
        Some(v1::DkgOpenReply { round0: Some(envelope) })
    }

    /// Everybody's round 0, believed.
    fn session_of(&self, secrets: &Secrets) -> Option<Session<S>> {
        let members = self
            .order
            .members()
            .iter()
            .zip(&secrets.round0)
            .map(|(member, envelope)| {
                let said: v1::Round0 = strict::decode("Round0", &envelope.payload).ok()?;
                Some(Round0Member {
                    index: said.index,
                    node: member.node,
                    receive_key: said.receive_key.as_slice().try_into().ok()?,
                    proof: said.proof.as_slice().try_into().ok()?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Session::new(Self::binding(&secrets.session)?, self.order.threshold(), members).ok()
    }

    fn deal(
        &mut self,
        request: &v1::DkgDealRequest,
        gossip: &Gossip,
        rng: &mut ChaCha20Rng,
    ) -> Option<v1::DkgDealReply> {
        let id = SessionId::from_slice(&request.session).ok()?;
        self.sessions.get_mut(&id)?.round0.clone_from(&request.round0);
        if self.lies(Strategy::EquivocatingRound1) {
            let t = self.order.threshold().t();
            self.sessions.get_mut(&id)?.coefficients = (0..t).map(|_| scalar(rng)).collect();
        }
        let session = self.session_of(self.sessions.get(&id)?)?;
        let (mut coefficients, ephemeral, receive) = {
            let secrets = self.sessions.get(&id)?;
            (secrets.coefficients.clone(), secrets.ephemeral, secrets.receive)
        };
        if self.lies(Strategy::CommitmentsShort) {
            coefficients.pop();
        }
        if self.lies(Strategy::CommitmentsLong) {
            coefficients.push(scalar(rng));
        }
        if self.strategy == Strategy::CancelsOwnShare
            && let Some(theirs) = self.shares_dealt(&session, id, gossip, &receive)
            && self.lies(Strategy::CancelsOwnShare)
        {
            let at = Scalar::from(u64::from(self.member.index.get()));
            let own = coefficients.iter().rev().fold(Scalar::from(0u64), |sum, c| sum * at + c);
            *coefficients.first_mut()? -= own + theirs;
        }
        let mut commitments: Vec<[u8; 32]> =
            coefficients.iter().map(|c| S::encode_point(&S::mul_base(c))).collect();
        if self.lies(Strategy::CommitmentIdentity)
            && let Some(last) = commitments.last_mut()
        {
            *last = [0; 32];
        }
        let ephemeral_key = ReceiveKey::<S>::from_scalar(&ephemeral)?;
        let mut point = *ephemeral_key.public();
        let others: Vec<&v1::Round1> = gossip.round1(id).collect();
        if !others.is_empty() && self.lies(Strategy::RogueKey) {
            let mut constant = S::decode_point(commitments.first()?)?;
            for other in &others {
                let theirs = other.commitments.first()?.as_slice().try_into().ok()?;
                constant -= S::decode_point(&theirs)?;
            }
            *commitments.first_mut()? = S::encode_point(&constant);
        }
        let copied = others.first().copied();
        if let Some(other) = copied
            && self.lies(Strategy::CopiedEphemeral)
        {
            point = other.ephemeral_key.as_slice().try_into().ok()?;
        }
        let mut pop_parts: Vec<&[u8]> = vec![session.setup().context()];
        pop_parts.extend(commitments.iter().map(<[u8; 32]>::as_slice));
        pop_parts.push(&point);
        let constant =
            coefficients.first().copied().unwrap_or_else(|| S::scalar_from_wide(&[1; 64]));
        let mut pop = schnorr::sign::<S>(&constant, &pop_parts).ok()?;
        let binding = *session.binding();
        let statement = self.possession(&binding, PossessionKind::Ephemeral, point);
        let mut proof = ephemeral_key.prove_possession(&statement, rng);
        if self.lies(Strategy::WrongEphemeralProof) {
            proof[40] ^= 1;
        }
        if let Some(other) = copied {
            if self.lies(Strategy::CopiedPossession) {
                pop = other.proof_of_possession.as_slice().try_into().ok()?;
            }
            if self.lies(Strategy::CopiedDealing) {
                commitments = other
                    .commitments
                    .iter()
                    .map(|c| c.as_slice().try_into().ok())
                    .collect::<Option<_>>()?;
                pop = other.proof_of_possession.as_slice().try_into().ok()?;
                point = other.ephemeral_key.as_slice().try_into().ok()?;
                proof = other.ephemeral_proof.as_slice().try_into().ok()?;
            }
        }
        let mut ciphertexts = self.encrypt(&session, &coefficients, &ephemeral, &receive)?;
        let root = {
            let victim = self.victim();
            if self.lies(Strategy::GarbageToOne)
                && let Some(ciphertext) = ciphertexts.get_mut(victim)
            {
                rng.fill_bytes(ciphertext);
            }
            // Left out before it signs the root, or after.
            if self.strategy == Strategy::TruncatedCiphertexts && rng.next_u32().is_multiple_of(2) {
                self.fired += 1;
                ciphertexts.pop();
            }
            merkle::root(self.order.threshold().indices(), &ciphertexts)?
        };
        if self.lies(Strategy::WrongRoot)
            && let Some(byte) = ciphertexts.last_mut().and_then(|c| c.last_mut())
        {
            *byte ^= 1;
        }
        let n = usize::from(self.order.threshold().n());
        if ciphertexts.len() == n && self.lies(Strategy::TruncatedCiphertexts) {
            ciphertexts.pop();
        }
        let mut message = v1::Round1 {
            session: id.as_bytes().to_vec(),
            order: binding.order.as_bytes().to_vec(),
            index: self.member.index.get().into(),
            suite: S::ID.to_owned(),
            round0: digests::round0_digest(request.round0.iter().map(|e| e.payload.as_slice()))
                .as_bytes()
                .to_vec(),
            commitments: commitments.iter().map(|c| c.to_vec()).collect(),
            proof_of_possession: pop.to_vec(),
            ephemeral_key: point.to_vec(),
            ephemeral_proof: proof.to_vec(),
            ciphertexts_root: root.as_bytes().to_vec(),
        };
        if self.lies(Strategy::MisfitRound1) {
            match rng.next_u32() % 5 {
                0 => message.session.reverse(),
                1 => message.order.reverse(),
                2 => message.index = message.index % u32::from(self.order.threshold().n()) + 1,
                3 => message.suite.push('!'),
                _ => message.round0.reverse(),
            }
        }
        if self.lies(Strategy::ShortRound1) {
            let field = match rng.next_u32() % 4 {
                0 => message.commitments.first_mut()?,
                1 => &mut message.proof_of_possession,
                2 => &mut message.ephemeral_key,
                _ => &mut message.ciphertexts_root,
            };
            field.pop();
        }
        let payload = strict::encode(&message);
        let mut envelope = self.envelop(PayloadType::Round1, payload, rng);
        if let Some(first) = self.first[1].clone()
            && first != envelope
            && self.lies(Strategy::ReplayedRound1)
        {
            envelope = first;
        }
        self.first[1].get_or_insert_with(|| envelope.clone());
        Some(v1::DkgDealReply { round1: Some(envelope), ciphertexts })
    }

    /// The sum of what all others have dealt to it; none unless all have.
    fn shares_dealt(
        &self,
        session: &Session<S>,
        id: SessionId,
        gossip: &Gossip,
        receive: &[u8; 32],
    ) -> Option<Scalar> {
        let d = S::decode_scalar(receive)?;
        let (own, _) = session.setup().receive_key(self.member.index)?;
        let mut sum = Scalar::from(0u64);
        for from in self.order.threshold().indices().filter(|i| *i != self.member.index) {
            let (message, ciphertexts) =
                gossip.dealt(id).find(|(m, _)| m.index == u32::from(from.get()))?;
            let (sender, point) = session.setup().receive_key(from)?;
            let ephemeral = message.ephemeral_key.as_slice().try_into().ok()?;
            let mut shared = S::ecdh_encode(&(S::decode_point(&ephemeral)? * d)).to_vec();
            shared.extend_from_slice(&S::ecdh_encode(&(*point * d)));
            let key = S::key_and_nonce(&shared, &ephemeral, sender, own, session.setup().context());
            let share = S::open(&key, ciphertexts.get(self.member.index.position())?)?;
            sum += S::decode_scalar(share.as_slice().try_into().ok()?)?;
        }
        Some(sum)
    }

    /// The position of whoever gets a bad share: the next participant.
    fn victim(&self) -> usize {
        (self.member.index.position() + 1) % usize::from(self.order.threshold().n())
    }

    /// COCKTAIL's encryption of every share, by hand.
    fn encrypt(
        &mut self,
        session: &Session<S>,
        coefficients: &[Scalar],
        ephemeral: &[u8; 32],
        receive: &[u8; 32],
    ) -> Option<Vec<Vec<u8>>> {
        let (e, d) = (S::decode_scalar(ephemeral)?, S::decode_scalar(receive)?);
        let e_point = S::encode_point(&S::mul_base(&e));
        let d_point = S::encode_point(&S::mul_base(&d));
        let setup = session.setup();
        let victim = self.victim();
        let bad = self.lies(Strategy::BadShareToOne);
        let (long, unreduced) =
            (self.lies(Strategy::LongCiphertext), self.lies(Strategy::UnreducedShare));
        let mut ciphertexts = Vec::new();
        for (index, (bytes, point)) in
            self.order.threshold().indices().zip(setup.receive_keys().iter().zip(setup.points()))
        {
            let at = Scalar::from(u64::from(index.get()));
            let mut share =
                coefficients.iter().rev().fold(Scalar::from(0u64), |sum, c| sum * at + c);
            if bad && index.position() == victim {
                share += Scalar::from(1u64);
            }
            let mut shared = S::ecdh_encode(&(*point * e)).to_vec();
            shared.extend_from_slice(&S::ecdh_encode(&(*point * d)));
            let key = S::key_and_nonce(&shared, &e_point, &d_point, bytes, setup.context());
            let mut plaintext = S::encode_scalar(&share).to_vec();
            if index.position() == victim && unreduced {
                add_order(&mut plaintext);
            }
            if index.position() == victim && long {
                plaintext.push(0);
            }
            ciphertexts.push(S::seal(&key, &plaintext)?);
        }
        Some(ciphertexts)
    }
}
