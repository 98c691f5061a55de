//! A session: COCKTAIL-DKG with Quorate's additions around it. A reshare is one too, with other dealers
//! than recipients and constant terms that are given: [`crate::reshare`].

use quorate_secret::Secret;
use quorate_types::{Digest, Generation, NodeId, ParticipantIndex, SessionId, Threshold};
use quorate_wire::Transcript;
use zeroize::Zeroizing;

use super::cocktail::{
    self, Dealer, DealerFault, DealingError, MIN_CIPHERTEXT_BYTES, OutcomeError, Round1Broadcast,
    Round1Secrets, Setup, SetupError, Share,
};
use super::possession::{self, PossessionKind, PossessionStatement};
use super::receive_key::{ReceiveKey, expand};
use super::suite::SecretScalar;
use super::suite::{SCALAR_BYTES, Suite};
use super::{merkle, tags};

/// What a session is bound to besides its participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionBinding {
    /// The session's id, which is unique. It is COCKTAIL's session tag.
    pub session: SessionId,
    /// The digest of the order that it carries out.
    pub order: Digest,
    /// The digest of the roster version in force.
    pub roster: Digest,
}

/// What one participant said in round 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<S: Suite> {
    /// Its index, as the order assigns it.
    pub index: u32,
    /// Who it is.
    pub node: NodeId,
    /// `P_i`.
    pub receive_key: S::PointBytes,
    /// The proof of knowledge of `d_i`.
    pub proof: S::SignatureBytes,
}

/// Why round 0 makes no session. Suspects are named by index: provably so, if the identity
/// signatures over round 0 were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A message at a position that is not its index: the coordinator's doing.
    #[error("round 0 has index {found} at the place of {expected}")]
    Index {
        /// Whose place it is.
        expected: ParticipantIndex,
        /// What the message says.
        found: u32,
    },
    /// One node at two indices: the order's fault, or the coordinator's.
    #[error("participants {first} and {second} are the same node")]
    DuplicateNode {
        /// The lower index.
        first: ParticipantIndex,
        /// The higher index.
        second: ParticipantIndex,
    },
    /// The receive keys are no setup.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A participant did not prove that it knows its receive key.
    #[error("participant {index} does not prove that it knows its receive key")]
    Possession {
        /// Who.
        index: ParticipantIndex,
    },
}

/// What a dealer says to everybody in round 1, and signs with its identity key.
///
/// # Security
/// The signature must cover the digest of all round 0 besides: so a dealer whose proof of
/// possession fails was not merely shown other receive keys than we were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round1Message<S: Suite> {
    /// The dealer's index.
    pub dealer: u32,
    /// COCKTAIL's part.
    pub broadcast: Round1Broadcast<S>,
    /// The proof of knowledge of `e_i`.
    pub ephemeral_proof: S::SignatureBytes,
    /// The Merkle root of the dealer's ciphertexts.
    pub root: Digest,
}

/// A dealer's whole round 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round1<S: Suite> {
    /// To everybody.
    pub message: Round1Message<S>,
    /// One for each participant, in the order of indices, the dealer itself included.
    pub ciphertexts: Vec<Vec<u8>>,
}

/// Why a participant cannot deal. Its own fault.
pub type Round1Error = DealingError;

/// What one dealer sent to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The encrypted share.
    pub ciphertext: Vec<u8>,
    /// The path to the dealer's root.
    pub path: Vec<Digest>,
}

/// What a participant has after round 2.
#[derive(Debug)]
pub struct Round2Output<S: Suite> {
    /// The signing share, encoded as the suite encodes scalars.
    pub share: Secret<SCALAR_BYTES>,
    /// t points, from which the verifying key (the first) and all verifying shares follow.
    pub commitments: Vec<S::PointBytes>,
    /// This participant's verifying share.
    pub verifying_share: S::PointBytes,
    /// COCKTAIL's transcript, to be signed by [`cocktail::certify::sign`].
    pub transcript: Vec<u8>,
    /// Its digest: the generation's name.
    pub transcript_digest: Digest,
}

/// Why round 2 failed, by whose fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Round2Error {
    /// The dealer cheated. Provable by [`accuse`](super::evidence::accuse), if the identity
    /// signature over its round-1 message was checked.
    #[error("dealer {index} cheated: {fault}")]
    Dealer {
        /// The dealer.
        index: ParticipantIndex,
        /// What it did.
        fault: DealerFault,
    },
    /// The coordinator did not relay one message and one delivery of each dealer.
    #[error("the coordinator relayed {found} of {expected} dealers")]
    RelayCount {
        /// `n`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// The coordinator relayed a message at another dealer's place.
    #[error("the coordinator put dealer {found} at the place of {expected}")]
    RelayIndex {
        /// Whose place it is.
        expected: ParticipantIndex,
        /// What the message says.
        found: u32,
    },
    /// A ciphertext is not the one that its dealer signed: the coordinator changed it.
    #[error("the coordinator changed the ciphertext of dealer {index}")]
    RelayCiphertext {
        /// The dealer, who is not to blame.
        index: ParticipantIndex,
    },
    /// Our own round-1 message does not come back as we would have sent it.
    #[error("our own round-1 message is wrong: {0}")]
    OwnMessage(DealerFault),
    /// We received with a receive key that is not ours in this session.
    #[error("our receive key is not the one in the session")]
    OwnKey,
    /// Commitments cancel out, or the final check failed. Nobody's provable fault.
    #[error(transparent)]
    Sum(OutcomeError),
}

/// The verified outcome of round 0: who takes part, and with which receive keys.
#[derive(Debug, Clone)]
pub struct Session<S: Suite> {
    binding: SessionBinding,
    setup: Setup<S>,
    members: Vec<Member<S>>,
    resharing: Option<Resharing<S>>,
}

/// What makes a session a reshare.
#[derive(Debug, Clone)]
pub(crate) struct Resharing<S: Suite> {
    /// The generation that is reshared.
    pub(crate) parent: Generation,
    /// Who deals, in the order of their indices in the parent's committee.
    pub(crate) dealers: Vec<Redealer<S>>,
}

/// An old participant that deals.
#[derive(Clone)]
pub(crate) struct Redealer<S: Suite> {
    /// Its index in the parent's committee.
    pub(crate) index: ParticipantIndex,
    pub(crate) node: NodeId,
    /// What its share is multiplied by.
    pub(crate) lambda: S::Scalar,
    /// Its verifying share times that: what its constant term commits to.
    pub(crate) constant: S::Point,
}

impl<S: Suite> core::fmt::Debug for Redealer<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Redealer").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<S: Suite> Session<S> {
    /// Checks everybody's round 0, in the order of indices: one message of each, nodes and receive
    /// keys all different, every proof of possession.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn new(
        binding: SessionBinding,
        threshold: Threshold,
        members: Vec<Member<S>>,
    ) -> Result<Self, SessionError> {
        let keys: Vec<_> = members.iter().map(|member| member.receive_key).collect();
        let setup = Setup::new(binding.session.as_bytes(), threshold, &keys)?;
        let mut nodes = std::collections::BTreeMap::new();
        for ((index, member), point) in threshold.indices().zip(&members).zip(setup.points()) {
            if member.index != u32::from(index.get()) {
                return Err(SessionError::Index { expected: index, found: member.index });
            }
            if let Some(first) = nodes.insert(*member.node.as_bytes(), index) {
                return Err(SessionError::DuplicateNode { first, second: index });
            }
            let kind = PossessionKind::ReceiveKey;
            let statement = statement::<S>(&binding, kind, member.node, index, member.receive_key);
            if !possession::verify_decoded(&statement, point, &member.proof) {
                return Err(SessionError::Possession { index });
            }
        }
        Ok(Self { binding, setup, members, resharing: None })
    }

    /// A reshare: [`crate::reshare`] has checked everything.
    pub(crate) const fn reshare(
        binding: SessionBinding,
        setup: Setup<S>,
        members: Vec<Member<S>>,
        resharing: Resharing<S>,
    ) -> Self {
        Self { binding, setup, members, resharing: Some(resharing) }
    }

    /// Who deals at an index: in a DKG the member, in a reshare a participant of the parent.
    fn dealer_node(&self, index: ParticipantIndex) -> Option<NodeId> {
        match &self.resharing {
            None => self.members.get(index.position()).map(|member| member.node),
            Some(_) => self.redealer(index).map(|dealer| dealer.node),
        }
    }

    fn redealer(&self, index: ParticipantIndex) -> Option<&Redealer<S>> {
        let resharing = self.resharing.as_ref()?;
        resharing.dealers.iter().find(|dealer| dealer.index == index)
    }

    /// The dealer with this index, if there is one.
    #[must_use]
    pub fn dealer(&self, index: u32) -> Option<ParticipantIndex> {
        self.dealers().find(|dealer| u32::from(dealer.get()) == index)
    }

    /// Everybody who deals, in the order in which messages and deliveries are.
    pub fn dealers(&self) -> impl Iterator<Item = ParticipantIndex> {
        self.setup.dealers().into_iter().map(|dealer| dealer.index)
    }

    /// Whether a recipient and a dealer are one node.
    pub(crate) fn same_node(&self, recipient: ParticipantIndex, dealer: ParticipantIndex) -> bool {
        let member = self.members.get(recipient.position()).map(|member| member.node);
        member.is_some() && member == self.dealer_node(dealer)
    }

    fn ephemeral_kind(&self) -> PossessionKind {
        match self.resharing {
            None => PossessionKind::Ephemeral,
            Some(_) => PossessionKind::ReshareEphemeral,
        }
    }

    /// What the session is bound to.
    #[must_use]
    pub fn binding(&self) -> &SessionBinding {
        &self.binding
    }

    /// COCKTAIL's setup: T-of-N, context and receive keys.
    #[must_use]
    pub fn setup(&self) -> &Setup<S> {
        &self.setup
    }

    /// Everybody's round 0, in the order of indices.
    #[must_use]
    pub fn members(&self) -> &[Member<S>] {
        &self.members
    }

    /// Deals. The same seed in the same session gives the same message, so that a node that crashed
    /// after sending it sends it again, and no other.
    ///
    /// Polynomial and ephemeral key are expanded from the seed and from all that the session is:
    /// with another set of receive keys they are others, so nobody collects shares of one
    /// polynomial under two sets.
    ///
    /// # Errors
    /// [`Round1Error`].
    ///
    /// # Security
    /// The seed is 32 uniform bytes, of this session only, sealed on disk and erased with it.
    pub fn round1(
        &self,
        index: ParticipantIndex,
        key: &ReceiveKey<S>,
        seed: &Secret<32>,
    ) -> Result<Round1<S>, Round1Error> {
        // A reshare deals its part of a key that exists: see `redeal`.
        if self.resharing.is_some() {
            return Err(Round1Error::ForeignKey { index });
        }
        self.deal(index, key, seed, &self.secrets(index, seed))
    }

    /// Deals in a reshare: a fresh polynomial whose value at 0 is this dealer's part of the key. As in
    /// [`Session::round1`], the same seed gives the same message.
    ///
    /// # Errors
    /// [`Round1Error`]; with [`DealingError::Coefficients`] where the share is no scalar, and with
    /// [`DealingError::ForeignKey`] where this node does not deal or the share is not the parent's.
    ///
    /// # Security
    /// As [`Session::round1`].
    pub fn redeal(
        &self,
        index: ParticipantIndex,
        key: &ReceiveKey<S>,
        seed: &Secret<32>,
        share: &Secret<SCALAR_BYTES>,
    ) -> Result<Round1<S>, Round1Error> {
        let foreign = Round1Error::ForeignKey { index };
        let dealer = self.redealer(index).ok_or(foreign)?;
        let share = S::decode_scalar(share.reveal())
            .map(Zeroizing::new)
            .ok_or(Round1Error::Coefficients { expected: self.setup.threshold().t(), found: 0 })?;
        let constant: SecretScalar<S> = Zeroizing::new(*share * dealer.lambda);
        if S::mul_base(&constant) != dealer.constant {
            return Err(foreign);
        }
        let mut count = 0;
        let secrets = Round1Secrets::sharing(constant, self.setup.threshold(), |wide| {
            wide.copy_from_slice(self.expansion(index, seed, "scalar", count).as_slice());
            count += 1;
        });
        self.deal(index, key, seed, &secrets)
    }

    fn deal(
        &self,
        index: ParticipantIndex,
        key: &ReceiveKey<S>,
        seed: &Secret<32>,
        secrets: &Round1Secrets<S>,
    ) -> Result<Round1<S>, Round1Error> {
        let threshold = self.setup.threshold();
        let node = self.dealer_node(index).ok_or(Round1Error::ForeignKey { index })?;
        let dealing = cocktail::deal(&self.setup, index, key, secrets, &[])?;
        let broadcast = dealing.broadcast;
        let kind = self.ephemeral_kind();
        let statement = statement::<S>(&self.binding, kind, node, index, broadcast.ephemeral);
        let wide = self.expansion(index, seed, "proof", 0);
        let (extra, _) = wide.split_first_chunk::<32>().ok_or(Round1Error::ForeignKey { index })?;
        let ephemeral_proof = possession::prove(secrets.ephemeral(), &statement, extra);
        let root = merkle::root(threshold.indices(), &dealing.ciphertexts)
            .ok_or(Round1Error::ForeignKey { index })?;
        let dealer = u32::from(index.get());
        let message = Round1Message { dealer, broadcast, ephemeral_proof, root };
        Ok(Round1 { message, ciphertexts: dealing.ciphertexts })
    }

    /// Secret bytes of a dealer, from its seed and all that the session is.
    fn expansion(
        &self,
        index: ParticipantIndex,
        seed: &Secret<32>,
        what: &str,
        number: u64,
    ) -> Zeroizing<[u8; 64]> {
        let tag = if self.resharing.is_some() { tags::RESHARE_ROUND1 } else { tags::ROUND1 };
        let info = Transcript::new(tag)
            .field(S::ID.as_bytes())
            .field(self.binding.order.as_bytes())
            .field(self.binding.roster.as_bytes())
            .field(self.setup.context())
            .number(u64::from(self.setup.threshold().t()))
            .number(u64::from(index.get()))
            .field(what.as_bytes())
            .number(number);
        expand(seed, info)
    }

    /// The dealer's polynomial and ephemeral key.
    pub(crate) fn secrets(&self, index: ParticipantIndex, seed: &Secret<32>) -> Round1Secrets<S> {
        let mut count = 0;
        Round1Secrets::from_source(self.setup.threshold(), |wide| {
            wide.copy_from_slice(self.expansion(index, seed, "scalar", count).as_slice());
            count += 1;
        })
    }

    /// Checks all of a dealer's message that everybody can check, so that a coordinator can name the
    /// dealer before it relays anything.
    ///
    /// # Errors
    /// [`DealerFault`].
    pub fn check_round1(
        &self,
        index: ParticipantIndex,
        message: &Round1Message<S>,
    ) -> Result<(), DealerFault> {
        self.check_message(index, message).map(drop)
    }

    /// Checks all of a dealer's message that everybody can check, the proof of knowledge of its
    /// ephemeral key included.
    pub(crate) fn check_message(
        &self,
        index: ParticipantIndex,
        message: &Round1Message<S>,
    ) -> Result<Dealer<S>, DealerFault> {
        let dealer = cocktail::check_broadcast(&self.setup, &message.broadcast)?;
        // That it deals its part of the key, and no other secret.
        let part = self.redealer(index).map(|redealer| &redealer.constant);
        if part.is_some_and(|part| dealer.constant() != Some(part)) {
            return Err(DealerFault::Constant);
        }
        let node = self.dealer_node(index);
        let (bytes, point) = dealer.ephemeral();
        let proven = node.is_some_and(|node| {
            let kind = self.ephemeral_kind();
            let statement = statement::<S>(&self.binding, kind, node, index, *bytes);
            possession::verify_decoded(&statement, point, &message.ephemeral_proof)
        });
        if proven { Ok(dealer) } else { Err(DealerFault::EphemeralPossession) }
    }

    /// Opens a ciphertext whose place under the dealer's root was verified. Takes no payloads, so
    /// there is one length.
    pub(crate) fn open(
        &self,
        dealer: &Dealer<S>,
        from: ParticipantIndex,
        to: ParticipantIndex,
        shared: (&S::Point, &S::Point),
        ciphertext: &[u8],
    ) -> Result<Share<S>, DealerFault> {
        if ciphertext.len() != MIN_CIPHERTEXT_BYTES {
            return Err(DealerFault::CiphertextLength { found: ciphertext.len() });
        }
        cocktail::open_share(&self.setup, dealer, from, to, shared, ciphertext)
    }

    /// Receives: checks everybody's message and every delivery, and only then decrypts, checks the
    /// shares and adds them up.
    ///
    /// Both lists are in the order of indices, the own entry included.
    ///
    /// # Errors
    /// [`Round2Error`], which names the suspect.
    ///
    /// # Security
    /// The caller has checked the identity signature over every message and that it covers the
    /// round 0 of this session. The share is not to be used before everybody signed the transcript.
    pub fn round2(
        &self,
        index: ParticipantIndex,
        key: &ReceiveKey<S>,
        messages: &[Round1Message<S>],
        deliveries: &[Delivery],
    ) -> Result<Round2Output<S>, Round2Error> {
        let threshold = self.setup.threshold();
        let senders = self.setup.dealers();
        for found in [messages.len(), deliveries.len()] {
            if found != senders.len() {
                let expected = u16::try_from(senders.len()).unwrap_or(u16::MAX);
                return Err(Round2Error::RelayCount { expected, found });
            }
        }
        if self.setup.receive_key(index).is_none_or(|(bytes, _)| bytes != key.public()) {
            return Err(Round2Error::OwnKey);
        }
        let blame = |from, fault| {
            if self.same_node(index, from) {
                Round2Error::OwnMessage(fault)
            } else {
                Round2Error::Dealer { index: from, fault }
            }
        };
        let mut dealers = Vec::with_capacity(messages.len());
        for ((sender, message), delivery) in senders.iter().zip(messages).zip(deliveries) {
            let from = sender.index;
            if message.dealer != u32::from(from.get()) {
                return Err(Round2Error::RelayIndex { expected: from, found: message.dealer });
            }
            let Delivery { ciphertext, path } = delivery;
            if !merkle::verify(&message.root, threshold.n(), index, ciphertext, path) {
                return Err(Round2Error::RelayCiphertext { index: from });
            }
            dealers.push(self.check_message(from, message).map_err(|fault| blame(from, fault))?);
        }
        // Everything that is public was good: only now the receive key touches anybody's points.
        let mut shares = Vec::with_capacity(messages.len());
        for ((sender, dealer), delivery) in senders.iter().zip(&dealers).zip(deliveries) {
            let from = sender.index;
            let (one, two) = cocktail::shared_points(key, dealer, &sender.point);
            let share = self
                .open(dealer, from, index, (&one, &two), &delivery.ciphertext)
                .map_err(|fault| blame(from, fault))?;
            shares.push(share);
        }
        let outcome =
            cocktail::combine(threshold, index, &dealers, shares).map_err(Round2Error::Sum)?;
        let transcript = self.transcript(messages);
        Ok(Round2Output {
            share: outcome.share,
            commitments: outcome.commitments,
            verifying_share: outcome.verifying_share,
            transcript_digest: self.transcript_digest(&transcript),
            transcript,
        })
    }

    /// COCKTAIL's transcript over everybody's messages, with our extension.
    #[must_use]
    pub fn transcript(&self, messages: &[Round1Message<S>]) -> Vec<u8> {
        let roots = messages.iter().map(|message| &message.root);
        let extension = match &self.resharing {
            None => extension(&self.binding, roots),
            Some(resharing) => self.reshare_extension(resharing, roots),
        };
        let broadcasts = messages.iter().map(|message| &message.broadcast);
        cocktail::encode_transcript(&self.setup, broadcasts, extension.as_bytes())
    }

    /// The digest of this session's transcript, which names the generation.
    #[must_use]
    pub fn transcript_digest(&self, transcript: &[u8]) -> Digest {
        match self.resharing {
            None => transcript_digest(transcript),
            Some(_) => Transcript::new(tags::RESHARE_TRANSCRIPT).field(transcript).digest(),
        }
    }

    /// What else a reshare is: parent, dealers and their keys. With the number of dealers it also says
    /// how the transcript before it is to be read.
    fn reshare_extension<'a>(
        &self,
        resharing: &Resharing<S>,
        roots: impl ExactSizeIterator<Item = &'a Digest>,
    ) -> Digest {
        let senders = self.setup.dealers();
        Transcript::new(tags::RESHARE_EXTENSION)
            .field(self.binding.order.as_bytes())
            .field(self.binding.roster.as_bytes())
            .field(resharing.parent.as_bytes())
            .list(senders.iter().map(|sender| u64::from(sender.index.get()).to_be_bytes()))
            .list(senders.iter().map(|sender| sender.key))
            .list(roots.map(|root| *root.as_bytes()))
            .digest()
    }
}

/// `ext`: order, roster and the Merkle root of each dealer's ciphertexts, in the order of indices.
#[must_use]
pub fn extension<'a>(
    binding: &SessionBinding,
    roots: impl ExactSizeIterator<Item = &'a Digest>,
) -> Digest {
    Transcript::new(tags::EXTENSION)
        .field(binding.order.as_bytes())
        .field(binding.roster.as_bytes())
        .list(roots.map(|root| *root.as_bytes()))
        .digest()
}

/// The digest of COCKTAIL's transcript, which names the generation.
#[must_use]
pub fn transcript_digest(transcript: &[u8]) -> Digest {
    Transcript::new(tags::TRANSCRIPT).field(transcript).digest()
}

pub(crate) fn statement<S: Suite>(
    binding: &SessionBinding,
    kind: PossessionKind,
    node: NodeId,
    index: ParticipantIndex,
    point: S::PointBytes,
) -> PossessionStatement<S> {
    let SessionBinding { session, order, .. } = *binding;
    PossessionStatement { kind, session, order, node, index, point }
}
