//! Shamir's secret sharing over ristretto255, and the public face of a sharing.
//!
//! A key `k` is the value at 0 of a polynomial `f` of degree `t - 1`; participant `i` holds
//! `k_i = f(i)`. Indices are stated by the certificate and are never positions in a list.

use core::fmt;
use std::sync::OnceLock;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use quorate_secret::Secret;
use quorate_types::{ParticipantIndex, Threshold};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::group::{PointError, Ristretto, ScalarError};

/// One participant's share `k_i` of a key: on the heap, zeroized when dropped, never zero.
///
/// # Security
/// Neither `Clone` nor `Copy`. `T` shares of one generation are the key.
pub struct SigningShare {
    scalar: Box<Scalar>,
    /// Public, and computed when first asked for: proving needs it each time.
    verifying: OnceLock<VerifyingShare>,
}

impl SigningShare {
    /// Takes a scalar over and zeroizes where it came from.
    ///
    /// # Errors
    /// [`ScalarError::Zero`]: a zero share has the identity as its verifying share, which nobody accepts.
    pub fn take(from: &mut Scalar) -> Result<Self, ScalarError> {
        let mut share = Self { scalar: Box::new(Scalar::ZERO), verifying: OnceLock::new() };
        core::mem::swap(&mut *share.scalar, from);
        from.zeroize();
        if bool::from(share.scalar.ct_eq(&Scalar::ZERO)) {
            return Err(ScalarError::Zero);
        }
        Ok(share)
    }

    /// A share from its 32 bytes, as they were unsealed.
    ///
    /// # Errors
    /// [`ScalarError`] when the bytes are not a scalar below the order, or zero.
    pub fn from_bytes(bytes: &Secret<32>) -> Result<Self, ScalarError> {
        let mut scalar = Ristretto::decode_scalar(bytes.reveal())?;
        Self::take(&mut scalar)
    }

    /// The 32 bytes, little-endian, for sealing and nothing else.
    #[must_use]
    pub fn to_bytes(&self) -> Secret<32> {
        Secret::from_fn(|bytes| bytes.copy_from_slice(self.scalar.as_bytes()))
    }

    /// The scalar, for computing with. Never log, format, store or send what this returns.
    #[must_use]
    pub fn reveal(&self) -> &Scalar {
        &self.scalar
    }

    /// `K_i = k_i * G`, in constant time.
    #[must_use]
    pub fn verifying_share(&self) -> &VerifyingShare {
        self.verifying.get_or_init(|| {
            let point = RistrettoPoint::mul_base(&self.scalar);
            // `take` refused zero and the group has prime order: this is never the identity.
            VerifyingShare { point, bytes: point.compress().to_bytes() }
        })
    }
}

impl Drop for SigningShare {
    fn drop(&mut self) {
        self.scalar.zeroize();
    }
}

impl fmt::Debug for SigningShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningShare(redacted)")
    }
}

macro_rules! public_element {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            point: RistrettoPoint,
            bytes: [u8; 32],
        }

        impl $name {
            /// From an element that was computed here.
            ///
            /// # Errors
            /// [`PointError::Identity`].
            pub fn from_point(point: RistrettoPoint) -> Result<Self, PointError> {
                Ristretto::not_identity(&point)?;
                Ok(Self { point, bytes: point.compress().to_bytes() })
            }

            /// From its 32 bytes.
            ///
            /// # Errors
            /// [`PointError`] when the bytes are no canonical element, or the identity.
            pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PointError> {
                Ok(Self { point: Ristretto::decode_point(bytes)?, bytes: *bytes })
            }

            /// The element.
            #[must_use]
            pub fn point(&self) -> &RistrettoPoint {
                &self.point
            }

            /// Its canonical 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.bytes
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                for byte in self.bytes {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(")")
            }
        }
    )*};
}

public_element! {
    /// `K_i = k_i * G`: what one participant's answers are checked against. Never the identity.
    VerifyingShare;
    /// `K = k * G`: the public face of the whole key. Never the identity.
    VerifyingKey;
}

/// Why indices have no Lagrange coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LagrangeError {
    /// No index at all.
    #[error("there are no participants to interpolate from")]
    Empty,
    /// One index stands twice: the interpolation would divide by zero.
    #[error("participant {0} stands twice")]
    Duplicate(ParticipantIndex),
}

/// The Lagrange coefficients at 0, one per index in the order given: `f(0) = sum(lambda_i * f(i))`
/// for every polynomial of degree below the number of indices.
///
/// # Errors
/// [`LagrangeError`] for no indices, or one that stands twice.
pub fn lagrange_at_zero(indices: &[ParticipantIndex]) -> Result<Vec<Scalar>, LagrangeError> {
    if indices.is_empty() {
        return Err(LagrangeError::Empty);
    }
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    if let Some(&[twice, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        return Err(LagrangeError::Duplicate(twice));
    }
    // lambda_i = product of all x_j / (x_i * product of (x_j - x_i) over the others).
    let all = product(indices.iter().map(|j| u64::from(j.get())));
    let mut below: Vec<Scalar> = indices
        .iter()
        .map(|i| {
            let others = || indices.iter().filter(move |j| *j != i);
            let differences = others().map(|j| u64::from(j.get().abs_diff(i.get())));
            let magnitude = product(differences.chain([u64::from(i.get())]));
            let negative = others().filter(|j| *j < i).count() % 2 == 1;
            if negative { -magnitude } else { magnitude }
        })
        .collect();
    // One inversion for all; no denominator is zero, since the indices are distinct and below the order.
    Scalar::invert_batch_alloc(&mut below);
    Ok(below.iter().map(|inverse| all * inverse).collect())
}

/// A product of small factors: as many as fit are multiplied as integers, since a multiplication modulo
/// the order costs far more.
fn product(factors: impl Iterator<Item = u64>) -> Scalar {
    let mut done = Scalar::ONE;
    let mut running: u128 = 1;
    for factor in factors {
        running = running.checked_mul(u128::from(factor)).unwrap_or_else(|| {
            done *= Scalar::from(running);
            u128::from(factor)
        });
    }
    done * Scalar::from(running)
}

/// A secret polynomial, lowest coefficient first; zeroized when dropped.
///
/// # Security
/// Whoever holds it knows the whole key that it shares.
pub struct SecretPolynomial(Vec<Scalar>);

impl SecretPolynomial {
    /// A polynomial of degree `t - 1` with the given value at 0 and the rest uniform.
    pub fn random(at_zero: &Scalar, t: u16, rng: &mut dyn CryptoRng) -> Self {
        // Reserved at once: growing would leave copies behind.
        let mut coefficients = Vec::with_capacity(usize::from(t).max(1));
        coefficients.push(*at_zero);
        coefficients.extend((1..t).map(|_| Scalar::random(rng)));
        Self(coefficients)
    }

    /// `f(index)`, in time that depends on the degree alone.
    #[must_use]
    pub fn evaluate(&self, index: ParticipantIndex) -> Scalar {
        let x = Scalar::from(index.get());
        self.0.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c)
    }

    /// Feldman's commitments `C_k = c_k * G`, lowest first.
    #[must_use]
    pub fn commitments(&self) -> Vec<RistrettoPoint> {
        self.0.iter().map(RistrettoPoint::mul_base).collect()
    }
}

impl Drop for SecretPolynomial {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretPolynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPolynomial(redacted)")
    }
}

/// Why aggregate commitments are not a sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// Not one commitment for each coefficient.
    #[error("{found} commitments where the threshold asks for {expected}")]
    Count {
        /// The threshold `t`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// The key would be the identity.
    #[error("the verifying key is the identity")]
    IdentityKey,
    /// One participant's verifying share would be the identity.
    #[error("the verifying share of participant {0} is the identity")]
    IdentityShare(ParticipantIndex),
}

/// The public face of one sharing: what every answer is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicShares {
    threshold: Threshold,
    verifying_key: VerifyingKey,
    shares: Vec<VerifyingShare>,
}

impl PublicShares {
    /// Computes the verifying key and every verifying share from the aggregate commitments of a
    /// certificate: `K = C_0`, `K_i = sum(i^k * C_k)`. In variable time; all of it is public.
    ///
    /// # Errors
    /// [`CommitmentError`] unless there are exactly `t` commitments and no result is the identity.
    pub fn from_commitments(
        threshold: Threshold,
        commitments: &[RistrettoPoint],
    ) -> Result<Self, CommitmentError> {
        let count = CommitmentError::Count { expected: threshold.t(), found: commitments.len() };
        if commitments.len() != usize::from(threshold.t()) {
            return Err(count);
        }
        let verifying_key = VerifyingKey::from_point(*commitments.first().ok_or(count)?)
            .map_err(|_| CommitmentError::IdentityKey)?;
        let shares = threshold
            .indices()
            .map(|index| {
                VerifyingShare::from_point(commitment_at(commitments, index))
                    .map_err(|_| CommitmentError::IdentityShare(index))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { threshold, verifying_key, shares })
    }

    /// T-of-N.
    #[must_use]
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// `K`.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// `K_i` of one participant; none when the index belongs to a larger committee.
    #[must_use]
    pub fn share(&self, index: ParticipantIndex) -> Option<&VerifyingShare> {
        self.shares.get(index.position())
    }

    /// Every verifying share, from index 1.
    #[must_use]
    pub fn shares(&self) -> &[VerifyingShare] {
        &self.shares
    }
}

/// `sum(i^k * C_k)`: the commitment to a polynomial's value at `i`, by Horner's rule with a small
/// public index, in variable time.
#[must_use]
pub fn commitment_at(commitments: &[RistrettoPoint], index: ParticipantIndex) -> RistrettoPoint {
    commitments
        .iter()
        .rev()
        .fold(RistrettoPoint::identity(), |sum, c| times_small(&sum, index.get()) + c)
}

/// Double-and-add from the highest set bit: an index has few bits, a scalar multiplication 253.
fn times_small(point: &RistrettoPoint, factor: u16) -> RistrettoPoint {
    let mut product = RistrettoPoint::identity();
    for bit in (0..u16::BITS - factor.leading_zeros()).rev() {
        product = product + product;
        if factor >> bit & 1 == 1 {
            product += point;
        }
    }
    product
}

/// What a dealer who knew the whole key hands out.
#[derive(Debug)]
pub struct Dealt {
    /// One share for each participant, in the order of the indices.
    pub shares: Vec<(ParticipantIndex, SigningShare)>,
    /// The public face of the sharing.
    pub public: PublicShares,
}

/// Splits a key that exists whole, for imports and tests.
///
/// # Security
/// The dealer knows the key: its origin must say so wherever it is shown. Keys are otherwise made by
/// [`crate::dkg`]. The caller zeroizes `secret`.
///
/// # Errors
/// [`CommitmentError`] when the secret is zero, or (never in practice) a share is.
pub fn dangerous_deal_known_secret(
    secret: &Scalar,
    of: Threshold,
    rng: &mut dyn CryptoRng,
) -> Result<Dealt, CommitmentError> {
    let polynomial = SecretPolynomial::random(secret, of.t(), rng);
    let public = PublicShares::from_commitments(of, &polynomial.commitments())?;
    let shares = of
        .indices()
        .map(|index| {
            SigningShare::take(&mut polynomial.evaluate(index))
                .map(|share| (index, share))
                .map_err(|_| CommitmentError::IdentityShare(index))
        })
        .collect::<Result<_, _>>()?;
    Ok(Dealt { shares, public })
}

#[cfg(test)]
mod tests;
