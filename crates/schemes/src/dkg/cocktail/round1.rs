//! Round 1: commitments, proof of possession, encrypted shares (algorithms 1, 2 and 4).

use quorate_types::{ParticipantIndex, Threshold};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::setup::Setup;
use crate::dkg::ReceiveKey;
use crate::dkg::schnorr::{self, ZeroNonce};
use crate::dkg::suite::{SCALAR_BYTES, SecretScalar, Suite};

/// What a dealer tells everybody: the part of `msg1` that the transcript covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round1Broadcast<S: Suite> {
    /// `C_i`: exactly t points, the constant term's first.
    pub commitments: Vec<S::PointBytes>,
    /// `PoP_i`: signed with the constant term.
    pub pop: S::SignatureBytes,
    /// `E_i`.
    pub ephemeral: S::PointBytes,
}

/// All that a dealer sends in round 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealing<S: Suite> {
    /// For everybody.
    pub broadcast: Round1Broadcast<S>,
    /// `c_{i,j}` for j from 1 to n, unframed; the own one included.
    pub ciphertexts: Vec<Vec<u8>>,
}

/// Why a participant cannot deal. Its own fault, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealingError {
    /// The receive key is not the one that the setup lists at this index.
    #[error("participant {index}'s receive key is not the one in the setup")]
    ForeignKey {
        /// The index dealt for.
        index: ParticipantIndex,
    },
    /// There are not t coefficients.
    #[error("{found} coefficients for a threshold of {expected}")]
    Coefficients {
        /// `t`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// A payload that the AEAD cannot take.
    #[error("the payload for participant {recipient} is too long")]
    Payload {
        /// Whom it is for.
        recipient: ParticipantIndex,
    },
    /// The proof of possession could not be signed.
    #[error(transparent)]
    Nonce(#[from] ZeroNonce),
}

/// The polynomial and the ephemeral key: what a dealer must keep secret. Used for one dealing.
pub struct Round1Secrets<S: Suite> {
    pub(crate) coefficients: Vec<SecretScalar<S>>,
    ephemeral: SecretScalar<S>,
}

impl<S: Suite> Round1Secrets<S> {
    /// Takes scalars from a source of 64 uniform bytes each: t coefficients, the constant term's
    /// first, then the ephemeral key. Zeros are skipped, as the specification demands.
    pub(crate) fn from_source(threshold: Threshold, mut source: impl FnMut(&mut [u8; 64])) -> Self {
        let mut next = || loop {
            let mut wide = Zeroizing::new([0; 64]);
            source(&mut wide);
            let scalar = Zeroizing::new(S::scalar_from_wide(&wide));
            if *scalar != S::Scalar::from(0) {
                break scalar;
            }
        };
        let coefficients = (0..threshold.t()).map(|_| next()).collect();
        let ephemeral = next();
        Self { coefficients, ephemeral }
    }

    /// The same with a given constant term, from a source of the t - 1 other coefficients.
    pub(crate) fn sharing(
        constant: SecretScalar<S>,
        threshold: Threshold,
        source: impl FnMut(&mut [u8; 64]),
    ) -> Self {
        let mut secrets = Self::from_source(threshold, source);
        if let Some(first) = secrets.coefficients.first_mut() {
            *first = constant;
        }
        secrets
    }

    /// Uniform ones.
    pub fn random(threshold: Threshold, rng: &mut dyn CryptoRng) -> Self {
        Self::from_source(threshold, |wide| rng.fill_bytes(wide))
    }

    /// `e_i`.
    pub(crate) fn ephemeral(&self) -> &S::Scalar {
        &self.ephemeral
    }

    /// `f(index)`.
    fn share(&self, index: ParticipantIndex) -> SecretScalar<S> {
        let at = S::Scalar::from(u64::from(index.get()));
        let mut sum = Zeroizing::new(S::Scalar::from(0));
        for coefficient in self.coefficients.iter().rev() {
            *sum = *sum * at + **coefficient;
        }
        sum
    }
}

impl<S: Suite> core::fmt::Debug for Round1Secrets<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Round1Secrets(redacted)")
    }
}

/// The message that a proof of possession signs: `context || C || E`.
pub(crate) fn pop_message<'a, S: Suite>(
    setup: &'a Setup<S>,
    commitments: &'a [S::PointBytes],
    ephemeral: &'a S::PointBytes,
) -> Vec<&'a [u8]> {
    let mut parts = vec![setup.context()];
    parts.extend(commitments.iter().map(AsRef::as_ref));
    parts.push(ephemeral.as_ref());
    parts
}

/// `Round1`: deals to everybody.
///
/// `payloads` holds one payload for each participant, or is empty. The same arguments give the
/// same message.
///
/// # Errors
/// [`DealingError`].
pub fn deal<S: Suite>(
    setup: &Setup<S>,
    index: ParticipantIndex,
    key: &ReceiveKey<S>,
    secrets: &Round1Secrets<S>,
    payloads: &[Vec<u8>],
) -> Result<Dealing<S>, DealingError> {
    let t = setup.threshold().t();
    if secrets.coefficients.len() != usize::from(t) {
        let found = secrets.coefficients.len();
        return Err(DealingError::Coefficients { expected: t, found });
    }
    if setup.dealer_key(index).is_none_or(|(bytes, _)| bytes != key.public()) {
        return Err(DealingError::ForeignKey { index });
    }
    let commitments: Vec<_> =
        secrets.coefficients.iter().map(|a| S::encode_point(&S::mul_base(a))).collect();
    let ephemeral = S::encode_point(&S::mul_base(&secrets.ephemeral));
    let constant =
        secrets.coefficients.first().ok_or(DealingError::Coefficients { expected: t, found: 0 })?;
    let pop = schnorr::sign::<S>(constant, &pop_message(setup, &commitments, &ephemeral))?;

    let mut ciphertexts = Vec::with_capacity(setup.points().len());
    for ((recipient, bytes), point) in
        setup.threshold().indices().zip(setup.receive_keys()).zip(setup.points())
    {
        let shared = shared_bytes::<S>(
            &Zeroizing::new(*point * *secrets.ephemeral),
            &Zeroizing::new(*point * *key.secret()),
        );
        let key_and_nonce =
            S::key_and_nonce(&shared, &ephemeral, key.public(), bytes, setup.context());
        let payload = payloads.get(recipient.position()).map_or(&[][..], Vec::as_slice);
        let mut plaintext = Zeroizing::new(Vec::with_capacity(SCALAR_BYTES + payload.len()));
        let share = Zeroizing::new(S::encode_scalar(&secrets.share(recipient)));
        plaintext.extend_from_slice(share.as_slice());
        plaintext.extend_from_slice(payload);
        ciphertexts
            .push(S::seal(&key_and_nonce, &plaintext).ok_or(DealingError::Payload { recipient })?);
    }
    let broadcast = Round1Broadcast { commitments, pop, ephemeral };
    Ok(Dealing { broadcast, ciphertexts })
}

/// `ecdh_encode(S^e) || ecdh_encode(S^d)`.
pub(crate) fn shared_bytes<S: Suite>(ephemeral: &S::Point, fixed: &S::Point) -> Zeroizing<Vec<u8>> {
    let (one, two) = (S::ecdh_encode(ephemeral), S::ecdh_encode(fixed));
    // Exactly as long as needed: growing would leave a copy behind.
    let mut both = Zeroizing::new(Vec::with_capacity(one.len() + two.len()));
    both.extend_from_slice(&one);
    both.extend_from_slice(&two);
    both
}
