//! Lying participants of reshares: real nodes of which some answers are changed on the way out, and signed
//! again with their own identity keys.

use quorate_node::{Outcome, Reply};
use quorate_schemes::dkg::merkle;
use quorate_types::{Threshold, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode, SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::participant::Named;

macro_rules! lies {
    (
        $($(#[$doc:meta])* $name:ident, $text:literal, $named:ident;)*
        @besides
        $($(#[$more_doc:meta])* $more:ident, $more_text:literal, $more_named:ident;)*
    ) => {
        /// One way for a participant of a reshare to lie.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Lie { $($(#[$doc])* $name,)* $($(#[$more_doc])* $more,)* }

        impl Lie {
            /// Lies that scenarios are drawn from. What is added goes to [`Self::MORE`], so that a seed draws what it drew.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The others.
            pub const MORE: &'static [Self] = &[$(Self::$more,)*];

            /// What people call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* $(Self::$more => $more_text,)* }
            }

            /// How an honest coordinator, over a good network, must name a node that lies so.
            #[must_use]
            pub const fn expected(self) -> Named {
                match self { $(Self::$name => Named::$named,)* $(Self::$more => Named::$more_named,)* }
            }
        }
    };
}

lies! {
    /// A commitment that is another point.
    WrongCommitment, "wrong commitment", Provably;
    /// Another constant term.
    WrongConstant, "wrong constant term", Provably;
    /// One commitment less.
    FewerCommitments, "fewer commitments", Provably;
    /// A proof of possession of the constant term that fails.
    BadPossession, "bad proof of possession", Provably;
    /// A proof of the ephemeral key that fails.
    BadEphemeral, "bad proof of the ephemeral key", Provably;
    /// One recipient's ciphertext is garbage, under the root that was signed.
    BadShare, "bad share to one", Provably;
    /// Ciphertexts that are not those under the root.
    UnsignedCiphertexts, "unsigned ciphertexts", Seen;
    /// A proof of the receive key that fails.
    BadReceiveKey, "bad proof of the receive key", Provably;
    /// A proof of its share that fails.
    BadShareProof, "bad proof of its share", Provably;
    /// No proof of its share.
    NoShareProof, "no proof of its share", Provably;
    /// A round 0 of another index.
    WrongIndex, "wrong index", Seen;
    /// A signature of another statement.
    WrongStatement, "wrong statement", Seen;
    /// No signature that verifies.
    BadSignature, "bad signature", Seen;
    /// No answer to anything of a session.
    Silent, "silent", Missing;
    /// It opens, and deals no more.
    SilentAfterOpen, "silent after round 0", Missing;
    /// It deals, and signs no more.
    SilentAfterDeal, "silent after round 1", Missing;
    /// It refuses.
    Refuses, "refuses", Missing;
    /// It accuses with evidence that shows nothing.
    FalseAccusation, "false accusation", Seen;
    /// It shows a certificate that does not verify.
    ForgedState, "forged certificate shown", Seen;
    /// It shows a promise that it signed for something that never was.
    InventedPromise, "invented promise", Harmless;
    /// It says to have taken a certificate, and has not.
    FalseAcknowledgement, "false acknowledgement", Harmless;

    @besides
    /// A commitment that is no point but nothing.
    IdentityCommitment, "identity as a commitment", Provably;
    /// A commitment whose encoding is not the one of its point.
    NonCanonicalCommitment, "non-canonical commitment", Provably;
    /// The identity as its ephemeral key.
    IdentityEphemeral, "identity as the ephemeral key", Provably;
    /// A proof of possession of the constant term, with the order added to a scalar.
    PossessionBeyondOrder, "scalar of its proof of possession beyond the order", Provably;
    /// The identity as its receive key.
    IdentityReceiveKey, "identity as the receive key", Provably;
    /// A receive key whose encoding is not the one of its point.
    NonCanonicalReceiveKey, "non-canonical receive key", Provably;
    /// The proof of its share, with the order added to a scalar.
    ShareProofBeyondOrder, "scalar of the proof of its share beyond the order", Provably;
    /// It says to have taken a certificate, and keeps everything as it was.
    KeepsOldShare, "old share kept", Harmless;
    /// It shows its certificate as one under an order that nobody has.
    UnknownOrder, "certificate under an unknown order shown", Missing;
    /// It shows nothing, and acknowledges another certificate than it is brought.
    OtherAcknowledgement, "acknowledgement of another certificate", Missing;
    /// A round 0 of another session.
    OtherSession, "round 0 of another session", Seen;
    /// A round 0 of another order.
    OtherOrder, "round 0 of another order", Seen;
    /// A round 0 of another suite.
    OtherSuite, "round 0 of another suite", Seen;
    /// A round 0 of another index among the parent's participants.
    WrongParentIndex, "wrong index in the parent", Seen;
    /// A dealing of another index.
    WrongDealerIndex, "wrong index of a dealing", Seen;
    /// A dealing of another session.
    DealingOfOther, "dealing of another session", Seen;
    /// A dealing over another round 0 than was relayed to it.
    OtherRound0, "dealing over another round 0", Seen;
    /// It shows a promise whose signature does not verify.
    UnsignedPromise, "promise with a bad signature", Seen;
    /// It shows a promise that needs nobody else.
    LonePromise, "promise that it makes alone", Harmless;
}

/// The identity's encoding.
const IDENTITY: [u8; 32] = [0; 32];

/// The identity's field element once more, as the modulus.
const NON_CANONICAL: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed;
    bytes[31] = 0x7f;
    bytes
};

/// The group's order, little-endian (RFC 9496, section 4).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same scalar, for whoever reduces it.
fn beyond_order(scalar: &mut [u8]) {
    let mut carry = 0;
    for (byte, add) in scalar.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

impl Lie {
    /// All lies.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.iter().chain(Self::MORE).copied()
    }

    /// Whether it is about a dealing alone: who lies so has opened as it should, and signs as it should.
    #[must_use]
    pub const fn in_dealing(self) -> bool {
        matches!(
            self,
            Self::WrongCommitment
                | Self::WrongConstant
                | Self::FewerCommitments
                | Self::BadPossession
                | Self::BadEphemeral
                | Self::UnsignedCiphertexts
                | Self::IdentityCommitment
                | Self::NonCanonicalCommitment
                | Self::IdentityEphemeral
                | Self::PossessionBeyondOrder
                | Self::WrongDealerIndex
                | Self::DealingOfOther
                | Self::OtherRound0
        )
    }

    /// Whether it is about what a node shows of its generations.
    #[must_use]
    pub const fn in_state(self) -> bool {
        matches!(
            self,
            Self::ForgedState
                | Self::InventedPromise
                | Self::UnknownOrder
                | Self::OtherAcknowledgement
                | Self::UnsignedPromise
                | Self::LonePromise
        )
    }

    /// Whether it comes about only where a ceremony comes to its end.
    #[must_use]
    pub const fn late(self) -> bool {
        matches!(
            self,
            Self::WrongStatement
                | Self::BadSignature
                | Self::FalseAccusation
                | Self::SilentAfterDeal
                | Self::FalseAcknowledgement
        )
    }
}

/// One lying node.
#[derive(Debug)]
pub struct Liar {
    /// How it lies.
    pub lie: Lie,
    /// How often it has lied.
    pub fired: u64,
    identity: SigningKey,
}

fn flip(bytes: &mut [u8], rng: &mut ChaCha20Rng) {
    let at = rng.next_u32() as usize % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (rng.next_u32() % 8);
    }
}

fn some_point(rng: &mut ChaCha20Rng) -> Vec<u8> {
    use quorate_schemes::dkg::{Ristretto255, Suite};
    let mut wide = [0; 64];
    rng.fill_bytes(&mut wide);
    let scalar = Ristretto255::scalar_from_wide(&wide);
    Ristretto255::encode_point(&Ristretto255::mul_base(&scalar)).to_vec()
}

/// A statement of a committee of one, with a key of its own making.
fn alone(message: &mut v1::CertificateStatement, own: &[u8], rng: &mut ChaCha20Rng) {
    message.threshold = 1;
    message.commitments = vec![some_point(rng)];
    message.participants.retain(|member| member.identity_key == own);
    for (member, index) in message.participants.iter_mut().zip(1..) {
        member.index = index;
    }
}

fn refusal(code: RefusalCode, evidence: Option<v1::Evidence>, now: UnixSeconds) -> Outcome {
    let refusal = code.message("simulated".to_owned(), now);
    Err(Box::new(v1::Refusal { evidence, ..refusal }))
}

impl Liar {
    /// A node that lies so, with its identity key.
    #[must_use]
    pub const fn new(lie: Lie, identity: SigningKey) -> Self {
        Self { lie, fired: 0, identity }
    }

    fn signed<M: prost::Message + Default>(
        &self,
        kind: PayloadType,
        name: &'static str,
        envelope: &Envelope,
        change: impl FnOnce(&mut M),
    ) -> Option<Envelope> {
        let mut message: M = strict::decode(name, &envelope.payload).ok()?;
        change(&mut message);
        Some(self.identity.envelop(kind, strict::encode(&message)))
    }

    /// What it answers without asking its node: that it has taken a certificate.
    pub fn instead(&mut self, request: &quorate_node::Request) -> Option<Outcome> {
        let (Lie::KeepsOldShare, quorate_node::Request::PutCertificate(request)) =
            (self.lie, request)
        else {
            return None;
        };
        let envelope = request.certificate.as_ref()?;
        let statement = quorate_documents::Statement::from_payload(&envelope.payload).ok()?;
        self.fired += 1;
        let generation = statement.generation().as_bytes().to_vec();
        let reply = v1::PutCertificateReply { generation, ..Default::default() };
        Some(Ok(Reply::PutCertificate(reply)))
    }

    /// What it says instead of what its node would say. Nothing for silence.
    pub fn change(
        &mut self,
        request: &quorate_node::Request,
        outcome: Outcome,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Option<Outcome> {
        use quorate_node::Request;
        let session = matches!(
            request,
            Request::ReshareOpen(_) | Request::ReshareDeal(_) | Request::ReshareSign(_)
        );
        let silent = match self.lie {
            Lie::Silent => session,
            Lie::SilentAfterOpen => {
                matches!(request, Request::ReshareDeal(_) | Request::ReshareSign(_))
            }
            Lie::SilentAfterDeal => matches!(request, Request::ReshareSign(_)),
            _ => false,
        };
        if silent {
            self.fired += 1;
            return None;
        }
        match (self.lie, request) {
            (Lie::Refuses, _) if session => {
                self.fired += 1;
                return Some(refusal(RefusalCode::SessionConflict, None, now));
            }
            (Lie::FalseAccusation, Request::ReshareSign(request)) => {
                self.fired += 1;
                let dealers = request.session.as_ref().map(|s| s.dealers.clone());
                let dealer = dealers.and_then(|d| d.first().copied()).unwrap_or(1);
                let evidence = v1::Evidence {
                    session: request.session.clone(),
                    recipient: 1,
                    dealer,
                    round0: request.round0.clone(),
                    round1: request.round1.first().cloned(),
                    ..v1::Evidence::default()
                };
                return Some(refusal(RefusalCode::DealerFault, Some(evidence), now));
            }
            (Lie::FalseAcknowledgement, Request::PutCertificate(request)) => {
                let envelope = request.certificate.as_ref()?;
                let statement =
                    quorate_documents::Statement::from_payload(&envelope.payload).ok()?;
                self.fired += 1;
                let generation = statement.generation().as_bytes().to_vec();
                return Some(Ok(Reply::PutCertificate(v1::PutCertificateReply {
                    generation,
                    ..Default::default()
                })));
            }
            _ => {}
        }
        let Ok(reply) = outcome else { return Some(outcome) };
        let before = reply.clone();
        let reply = self.lied(reply, rng);
        self.fired += u64::from(reply != before);
        Some(Ok(reply))
    }

    fn lied(&self, reply: Reply, rng: &mut ChaCha20Rng) -> Reply {
        match reply {
            Reply::ReshareOpen(mut reply) => {
                let kind = PayloadType::ReshareRound0;
                let change = |message: &mut v1::ReshareRound0| match self.lie {
                    Lie::BadReceiveKey => flip(&mut message.proof, rng),
                    Lie::BadShareProof if !message.share_proof.is_empty() => {
                        flip(&mut message.share_proof, rng);
                    }
                    Lie::NoShareProof => message.share_proof.clear(),
                    Lie::WrongIndex => message.index += 1,
                    Lie::WrongParentIndex => message.parent_index += 1,
                    Lie::OtherSession => flip(&mut message.session, rng),
                    Lie::OtherOrder => flip(&mut message.order, rng),
                    Lie::OtherSuite => message.suite.push('2'),
                    Lie::IdentityReceiveKey => message.receive_key = IDENTITY.to_vec(),
                    Lie::NonCanonicalReceiveKey => message.receive_key = NON_CANONICAL.to_vec(),
                    Lie::ShareProofBeyondOrder => {
                        beyond_order(message.share_proof.get_mut(32..).unwrap_or_default());
                    }
                    _ => {}
                };
                if let Some(envelope) = &reply.round0 {
                    let changed = self.signed(kind, "ReshareRound0", envelope, change);
                    reply.round0 = changed;
                }
                Reply::ReshareOpen(reply)
            }
            Reply::ReshareDeal(reply) => Reply::ReshareDeal(self.dealt(reply, rng)),
            Reply::ReshareSign(mut reply) => {
                if let Some(envelope) = &mut reply.statement {
                    match self.lie {
                        Lie::WrongStatement => {
                            let change = |message: &mut v1::CertificateStatement| {
                                flip(&mut message.generation, rng);
                            };
                            let kind = PayloadType::Certificate;
                            let name = "CertificateStatement";
                            if let Some(changed) = self.signed(kind, name, envelope, change) {
                                *envelope = changed;
                            }
                        }
                        Lie::BadSignature => {
                            if let Some(signature) = envelope.signatures.first_mut() {
                                flip(&mut signature.signature, rng);
                            }
                        }
                        _ => {}
                    }
                }
                Reply::ReshareSign(reply)
            }
            Reply::PutCertificate(mut reply) if self.lie == Lie::OtherAcknowledgement => {
                flip(&mut reply.generation, rng);
                Reply::PutCertificate(reply)
            }
            Reply::ReshareState(reply) if self.lie == Lie::OtherAcknowledgement => {
                let promised = Vec::new();
                Reply::ReshareState(v1::ReshareStateReply {
                    certificate: None,
                    root: None,
                    holds: false,
                    promised,
                    ..reply
                })
            }
            Reply::ReshareState(mut reply) => {
                match (self.lie, &mut reply.certificate) {
                    (Lie::UnknownOrder, Some(envelope)) => {
                        let change =
                            |message: &mut v1::CertificateStatement| flip(&mut message.order, rng);
                        let (kind, name) = (PayloadType::Certificate, "CertificateStatement");
                        if let Some(changed) = self.signed(kind, name, envelope, change) {
                            *envelope = changed;
                        }
                    }
                    (Lie::ForgedState, Some(envelope)) => {
                        if let Some(signature) = envelope.signatures.last_mut() {
                            flip(&mut signature.signature, rng);
                        }
                    }
                    (
                        Lie::InventedPromise | Lie::UnsignedPromise | Lie::LonePromise,
                        Some(envelope),
                    ) => {
                        let own = self.identity.public();
                        let change = |message: &mut v1::CertificateStatement| {
                            message.parent.clone_from(&message.generation);
                            message.height += 1;
                            flip(&mut message.generation, rng);
                            if self.lie == Lie::LonePromise {
                                alone(message, own.as_bytes(), rng);
                            }
                        };
                        let kind = PayloadType::Certificate;
                        let made = self.signed(kind, "CertificateStatement", envelope, change);
                        let made = made.map(|mut made| {
                            let signature = made.signatures.first_mut();
                            if let (Lie::UnsignedPromise, Some(it)) = (self.lie, signature) {
                                flip(&mut it.signature, rng);
                            }
                            made
                        });
                        reply.promised.extend(made);
                    }
                    _ => {}
                }
                Reply::ReshareState(reply)
            }
            other => other,
        }
    }

    fn dealt(
        &self,
        mut reply: v1::ReshareDealReply,
        rng: &mut ChaCha20Rng,
    ) -> v1::ReshareDealReply {
        match self.lie {
            Lie::UnsignedCiphertexts => {
                if let Some(ciphertext) = reply.ciphertexts.first_mut() {
                    flip(ciphertext, rng);
                }
                return reply;
            }
            Lie::BadShare => {
                // Not to itself, where it is a member too: it would have to notice.
                let last = reply.ciphertexts.len().saturating_sub(1);
                let at = rng.next_u32() as usize % (last + 1);
                if let Some(ciphertext) = reply.ciphertexts.get_mut(at) {
                    flip(ciphertext, rng);
                }
            }
            _ => {}
        }
        let n = u16::try_from(reply.ciphertexts.len()).unwrap_or(u16::MAX);
        let root =
            Threshold::new(1, n).ok().and_then(|of| merkle::root(of.indices(), &reply.ciphertexts));
        let change = |message: &mut v1::Round1| match self.lie {
            Lie::WrongCommitment => {
                if let Some(commitment) = message.commitments.last_mut() {
                    *commitment = some_point(rng);
                }
            }
            Lie::WrongConstant => {
                if let Some(commitment) = message.commitments.first_mut() {
                    *commitment = some_point(rng);
                }
            }
            Lie::FewerCommitments => drop(message.commitments.pop()),
            Lie::WrongDealerIndex => message.index += 1,
            Lie::DealingOfOther => flip(&mut message.session, rng),
            Lie::OtherRound0 => flip(&mut message.round0, rng),
            Lie::BadPossession => flip(&mut message.proof_of_possession, rng),
            Lie::BadEphemeral => flip(&mut message.ephemeral_proof, rng),
            Lie::IdentityCommitment | Lie::NonCanonicalCommitment => {
                let other =
                    if self.lie == Lie::IdentityCommitment { IDENTITY } else { NON_CANONICAL };
                if let Some(commitment) = message.commitments.last_mut() {
                    *commitment = other.to_vec();
                }
            }
            Lie::IdentityEphemeral => message.ephemeral_key = IDENTITY.to_vec(),
            Lie::PossessionBeyondOrder => {
                beyond_order(message.proof_of_possession.get_mut(32..).unwrap_or_default());
            }
            Lie::BadShare => {
                if let Some(root) = root {
                    message.ciphertexts_root = root.as_bytes().to_vec();
                }
            }
            _ => {}
        };
        if let Some(envelope) = &reply.round1 {
            let kind = PayloadType::ReshareRound1;
            reply.round1 = self.signed(kind, "Round1", envelope, change);
        }
        reply
    }
}
