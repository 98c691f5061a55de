//! Round 2: checking everybody's message, opening and adding up shares (algorithms 3 and 5).

use quorate_secret::Secret;
use quorate_types::{ParticipantIndex, Threshold};
use zeroize::Zeroizing;

use super::round1::{Round1Broadcast, pop_message, shared_bytes};
use super::setup::{MAX_CIPHERTEXT_BYTES, MIN_CIPHERTEXT_BYTES, Setup};
use crate::dkg::suite::{SCALAR_BYTES, SecretScalar, Suite, is_identity, mul_small_vartime};
use crate::dkg::{ReceiveKey, schnorr};

/// What is wrong with a dealer's message.
///
/// A fault of the dealer only if the message is authentic: COCKTAIL alone cannot tell a dealer from
/// a coordinator that changed its bytes. [`Session`](crate::dkg::Session) can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DealerFault {
    /// Another number of commitments than t: raises or lowers the threshold.
    #[error("{found} commitments instead of {expected}")]
    CommitmentCount {
        /// `t`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// A commitment that is no valid point, or the identity.
    #[error("commitment {position} is not a valid point")]
    Commitment {
        /// Which one, from 0.
        position: usize,
    },
    /// An ephemeral key that is no valid point, or the identity.
    #[error("the ephemeral key is not a valid point")]
    Ephemeral,
    /// The proof of possession of the constant term does not verify.
    #[error("the proof of possession does not verify")]
    ProofOfPossession,
    /// The proof of knowledge of the ephemeral key does not verify (Quorate's addition).
    #[error("the proof of knowledge of the ephemeral key does not verify")]
    EphemeralPossession,
    /// The constant term is not the dealer's part of the key that is reshared.
    #[error("what it deals is not its part of the key")]
    Constant,
    /// A ciphertext shorter than a share or longer than the bound.
    #[error("the ciphertext has {found} bytes")]
    CiphertextLength {
        /// Its length.
        found: usize,
    },
    /// The ciphertext does not authenticate.
    #[error("the ciphertext does not decrypt")]
    Decryption,
    /// The share is not a scalar below the group order.
    #[error("the share is not a canonical scalar")]
    ShareEncoding,
    /// The share does not lie on the committed polynomial.
    #[error("the share does not fit the commitments")]
    Share,
}

/// A dealer whose public message was checked, with its points decoded once.
#[derive(Debug, Clone)]
pub(crate) struct Dealer<S: Suite> {
    commitments: Vec<S::Point>,
    ephemeral_point: S::Point,
    ephemeral: S::PointBytes,
}

impl<S: Suite> Dealer<S> {
    /// `C_{j,0}`.
    pub(crate) fn constant(&self) -> Option<&S::Point> {
        self.commitments.first()
    }

    /// `E_j`.
    pub(crate) fn ephemeral(&self) -> (&S::PointBytes, &S::Point) {
        (&self.ephemeral, &self.ephemeral_point)
    }

    /// `sum(index^k * C_{j,k})`: what the share of that index must be the logarithm of.
    fn at(&self, index: ParticipantIndex) -> S::Point {
        evaluate::<S>(&self.commitments, index)
    }
}

/// One dealer's message as it reaches one recipient.
#[derive(Debug, Clone)]
pub struct Received<S: Suite> {
    /// What the dealer told everybody.
    pub broadcast: Round1Broadcast<S>,
    /// `c_{j,i}`, unframed.
    pub ciphertext: Vec<u8>,
}

/// What a participant has after round 2.
pub struct Outcome<S: Suite> {
    /// `x_i`, little-endian or big-endian as the suite encodes scalars.
    pub share: Secret<SCALAR_BYTES>,
    /// The sums of all dealers' commitments: t points. The first is the verifying key Y.
    pub commitments: Vec<S::PointBytes>,
    /// `Y_i`.
    pub verifying_share: S::PointBytes,
    /// What each dealer put behind its share, in the order of indices.
    pub payloads: Vec<Zeroizing<Vec<u8>>>,
}

impl<S: Suite> core::fmt::Debug for Outcome<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Outcome").field("commitments", &self.commitments).finish_non_exhaustive()
    }
}

/// Why round 2 failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// Not one message from each dealer.
    #[error("{found} messages from {expected} dealers")]
    Count {
        /// `n`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// A message is wrong.
    #[error("dealer {index}: {fault}")]
    Dealer {
        /// Whose message.
        index: ParticipantIndex,
        /// What is wrong with it.
        fault: DealerFault,
    },
    /// The receive key is not the one that the setup lists at this index: our own fault.
    #[error("participant {index}'s receive key is not the one in the setup")]
    ForeignKey {
        /// The index received for.
        index: ParticipantIndex,
    },
    /// A sum of commitments is the identity. Takes all dealers together, or a chance of 2^-252.
    #[error("the dealers' commitments cancel out")]
    Cancelled,
    /// One participant's verifying share is the identity: its signing share would be zero, and nobody
    /// takes its answers. Whoever deals last and has seen the others' shares for itself can bring this
    /// about with its own, every proof valid. Nobody can prove that it was on purpose.
    #[error("the dealers' commitments cancel out at participant {index}")]
    CancelledShare {
        /// Whose share would be zero.
        index: ParticipantIndex,
    },
    /// Shares fit their commitments and their sum does not: a defect of this program.
    #[error("the final check failed: defect in this program")]
    FinalCheck,
}

/// Checks all of a dealer's message that everybody can check: count, points, proof of possession.
///
/// # Errors
/// [`DealerFault`].
pub(crate) fn check_broadcast<S: Suite>(
    setup: &Setup<S>,
    broadcast: &Round1Broadcast<S>,
) -> Result<Dealer<S>, DealerFault> {
    let expected = setup.threshold().t();
    let found = broadcast.commitments.len();
    if found != usize::from(expected) {
        return Err(DealerFault::CommitmentCount { expected, found });
    }
    let mut commitments = Vec::with_capacity(found);
    for (position, bytes) in broadcast.commitments.iter().enumerate() {
        commitments.push(S::decode_point(bytes).ok_or(DealerFault::Commitment { position })?);
    }
    let ephemeral_point = S::decode_point(&broadcast.ephemeral).ok_or(DealerFault::Ephemeral)?;
    let message = pop_message(setup, &broadcast.commitments, &broadcast.ephemeral);
    let signed = commitments
        .first()
        .is_some_and(|constant| schnorr::verify::<S>(constant, &broadcast.pop, &message));
    if !signed {
        return Err(DealerFault::ProofOfPossession);
    }
    Ok(Dealer { commitments, ephemeral_point, ephemeral: broadcast.ephemeral })
}

/// `(d_i * E_j, d_i * P_j)`: what a recipient shares with a dealer.
pub(crate) fn shared_points<S: Suite>(
    key: &ReceiveKey<S>,
    dealer: &Dealer<S>,
    receive_key: &S::Point,
) -> (Zeroizing<S::Point>, Zeroizing<S::Point>) {
    let secret = key.secret();
    (Zeroizing::new(dealer.ephemeral_point * *secret), Zeroizing::new(*receive_key * *secret))
}

/// A share that fits its dealer's commitments, and the payload behind it.
pub(crate) struct Share<S: Suite> {
    pub(crate) value: SecretScalar<S>,
    pub(crate) payload: Zeroizing<Vec<u8>>,
}

impl<S: Suite> core::fmt::Debug for Share<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Share(redacted)")
    }
}

/// Decrypts what `from` sent to `to` and checks the share against the commitments.
///
/// `shared` is as [`shared_points`] gives it. Whoever has the two points can do this: the recipient,
/// and a third party to whom evidence showed them.
///
/// # Errors
/// [`DealerFault`].
pub(crate) fn open_share<S: Suite>(
    setup: &Setup<S>,
    dealer: &Dealer<S>,
    from: ParticipantIndex,
    to: ParticipantIndex,
    shared: (&S::Point, &S::Point),
    ciphertext: &[u8],
) -> Result<Share<S>, DealerFault> {
    if !(MIN_CIPHERTEXT_BYTES..=MAX_CIPHERTEXT_BYTES).contains(&ciphertext.len()) {
        return Err(DealerFault::CiphertextLength { found: ciphertext.len() });
    }
    // Indices outside the setup open nothing; callers took them from it.
    let ((sender, _), (recipient, _)) =
        setup.dealer_key(from).zip(setup.receive_key(to)).ok_or(DealerFault::Decryption)?;
    let key_and_nonce = S::key_and_nonce(
        &shared_bytes::<S>(shared.0, shared.1),
        &dealer.ephemeral,
        sender,
        recipient,
        setup.context(),
    );
    let plaintext = S::open(&key_and_nonce, ciphertext).ok_or(DealerFault::Decryption)?;
    let (encoded, payload) =
        plaintext.split_at_checked(SCALAR_BYTES).ok_or(DealerFault::ShareEncoding)?;
    let mut bytes = Zeroizing::new([0; SCALAR_BYTES]);
    bytes.copy_from_slice(encoded);
    let value = Zeroizing::new(S::decode_scalar(&bytes).ok_or(DealerFault::ShareEncoding)?);
    if S::mul_base(&value) != dealer.at(to) {
        return Err(DealerFault::Share);
    }
    Ok(Share { value, payload: Zeroizing::new(payload.to_vec()) })
}

/// Adds up: the share, the aggregate commitments, the final check.
pub(crate) fn combine<S: Suite>(
    threshold: Threshold,
    index: ParticipantIndex,
    dealers: &[Dealer<S>],
    shares: Vec<Share<S>>,
) -> Result<Outcome<S>, OutcomeError> {
    let t = dealers.first().map_or(0, |dealer| dealer.commitments.len());
    let mut sums = vec![S::identity(); t];
    for dealer in dealers {
        for (sum, commitment) in sums.iter_mut().zip(&dealer.commitments) {
            *sum = *sum + *commitment;
        }
    }
    if sums.iter().any(is_identity::<S>) {
        return Err(OutcomeError::Cancelled);
    }
    // All of them, not only the own one: everybody must come to the same answer.
    let cancelled = |at: &ParticipantIndex| is_identity::<S>(&evaluate::<S>(&sums, *at));
    if let Some(index) = threshold.indices().find(cancelled) {
        return Err(OutcomeError::CancelledShare { index });
    }
    let mut total = Zeroizing::new(S::Scalar::from(0));
    for share in &shares {
        *total = *total + *share.value;
    }
    let verifying_share = evaluate::<S>(&sums, index);
    if S::mul_base(&total) != verifying_share {
        return Err(OutcomeError::FinalCheck);
    }
    let mut bytes = S::encode_scalar(&total);
    let share = Secret::take(&mut bytes);
    Ok(Outcome {
        share,
        commitments: sums.iter().map(S::encode_point).collect(),
        verifying_share: S::encode_point(&verifying_share),
        payloads: shares.into_iter().map(|share| share.payload).collect(),
    })
}

/// `Round2` of the specification: every message checked, every share opened, all added up.
///
/// `messages` is in the order of indices, the own one included.
///
/// # Errors
/// [`OutcomeError`].
pub fn receive<S: Suite>(
    setup: &Setup<S>,
    index: ParticipantIndex,
    key: &ReceiveKey<S>,
    messages: &[Received<S>],
) -> Result<Outcome<S>, OutcomeError> {
    let n = setup.threshold().n();
    if messages.len() != usize::from(n) {
        return Err(OutcomeError::Count { expected: n, found: messages.len() });
    }
    if setup.receive_key(index).is_none_or(|(bytes, _)| bytes != key.public()) {
        return Err(OutcomeError::ForeignKey { index });
    }
    let mut dealers = Vec::with_capacity(messages.len());
    for (from, message) in setup.threshold().indices().zip(messages) {
        let dealer = check_broadcast(setup, &message.broadcast)
            .map_err(|fault| OutcomeError::Dealer { index: from, fault })?;
        dealers.push(dealer);
    }
    let mut shares = Vec::with_capacity(messages.len());
    for (((from, message), dealer), receive_key) in
        setup.threshold().indices().zip(messages).zip(&dealers).zip(setup.points())
    {
        let (one, two) = shared_points(key, dealer, receive_key);
        let share = open_share(setup, dealer, from, index, (&one, &two), &message.ciphertext)
            .map_err(|fault| OutcomeError::Dealer { index: from, fault })?;
        shares.push(share);
    }
    combine(setup.threshold(), index, &dealers, shares)
}

/// A verifying share from aggregate commitments: `sum(index^k * C_k)`.
///
/// Returns `None` if a commitment is not a valid point.
#[must_use]
pub fn verifying_share<S: Suite>(
    commitments: &[S::PointBytes],
    index: ParticipantIndex,
) -> Option<S::PointBytes> {
    let points = commitments.iter().map(S::decode_point).collect::<Option<Vec<_>>>()?;
    Some(S::encode_point(&evaluate::<S>(&points, index)))
}

/// A polynomial in the exponent at a small public index, by Horner's rule: t multiplications by the
/// index, which has 7 bits, instead of t by its powers, which have 252.
pub(crate) fn evaluate<S: Suite>(commitments: &[S::Point], index: ParticipantIndex) -> S::Point {
    commitments.iter().rev().fold(S::identity(), |sum, commitment| {
        mul_small_vartime::<S>(&sum, index.get()) + *commitment
    })
}
