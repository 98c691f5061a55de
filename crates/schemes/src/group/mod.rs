//! ristretto255 (RFC 9496): decoding what comes from outside, and hashing into the group.

mod hash;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;

pub use hash::{hash_to_group, hash_to_scalar};
#[cfg(test)]
pub(crate) use hash::{hash_to_group_under, hash_to_scalar_under};

/// The group ristretto255 of RFC 9496, of prime order 2^252 + 27742317777372353535851937790883648493.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ristretto {}

/// Why 32 bytes are not an element that anything here computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Not the canonical encoding of any element (RFC 9496 section 4.3.1).
    #[error("the bytes are not a canonical ristretto255 element")]
    NonCanonical,
    /// The identity, which would make a key, share or partial of no effect.
    #[error("the element is the identity")]
    Identity,
}

/// Why 32 bytes are not a scalar that anything here computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// Not below the order of the group (RFC 9496 section 4.4).
    #[error("the bytes are not a scalar below the order of the group")]
    NonCanonical,
    /// Zero, where a share or a key is expected.
    #[error("the scalar is zero")]
    Zero,
}

impl Ristretto {
    /// Length of an encoded element in bytes (RFC 9497 section 4.1, `Ne`).
    pub const ELEMENT_BYTES: usize = 32;
    /// Length of an encoded scalar in bytes (RFC 9497 section 4.1, `Ns`).
    pub const SCALAR_BYTES: usize = 32;

    /// `DeserializeElement` of RFC 9497 section 4.1: a canonical element other than the identity.
    ///
    /// # Errors
    /// [`PointError`], which tells a non-canonical encoding from the identity.
    pub fn decode_point(bytes: &[u8; 32]) -> Result<RistrettoPoint, PointError> {
        let point = CompressedRistretto(*bytes).decompress().ok_or(PointError::NonCanonical)?;
        Self::not_identity(&point)?;
        Ok(point)
    }

    /// `DeserializeScalar` of RFC 9497 section 4.1: little-endian, below the order; zero is allowed.
    ///
    /// # Errors
    /// [`ScalarError::NonCanonical`] when the number is the order or above it.
    pub fn decode_scalar(bytes: &[u8; 32]) -> Result<Scalar, ScalarError> {
        Option::from(Scalar::from_canonical_bytes(*bytes)).ok_or(ScalarError::NonCanonical)
    }

    /// Passes every element but the identity.
    ///
    /// # Errors
    /// [`PointError::Identity`].
    pub fn not_identity(point: &RistrettoPoint) -> Result<(), PointError> {
        if point.is_identity() { Err(PointError::Identity) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `attacks.md` line 4. Removing `not_identity` from `decode_point`, or reducing in
    /// `decode_scalar` (`from_bytes_mod_order`), makes this fail.
    #[test]
    fn attack_04_identity_and_non_canonical_encodings_are_refused() {
        assert_eq!(Ristretto::decode_point(&[0; 32]), Err(PointError::Identity));

        // 2^255 - 19 + k encodes k a second time; negative and non-square values encode nothing.
        let mut field_prime = [0xff; 32];
        field_prime[0] = 0xed;
        field_prime[31] = 0x7f;
        let mut high_bit = [0; 32];
        high_bit[31] = 0x80;
        let mut negative = [0; 32];
        negative[0] = 1;
        let mut not_a_square = [0; 32];
        not_a_square[0] = 0x1a;
        not_a_square[31] = 0x7f;
        for bad in [field_prime, high_bit, negative, [0xff; 32], not_a_square] {
            assert_eq!(Ristretto::decode_point(&bad), Err(PointError::NonCanonical), "{bad:?}");
        }

        // The order itself, one more, and everything.
        let mut order = [0u8; 32];
        order[..16].copy_from_slice(&[
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14,
        ]);
        order[31] = 0x10;
        let mut above = order;
        above[0] += 1;
        let mut below = order;
        below[0] -= 1;
        for bad in [order, above, [0xff; 32]] {
            assert_eq!(Ristretto::decode_scalar(&bad), Err(ScalarError::NonCanonical));
        }
        assert_eq!(Ristretto::decode_scalar(&below), Ok(-Scalar::ONE));
    }
}
