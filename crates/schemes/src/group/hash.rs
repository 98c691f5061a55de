//! Hashing into the group and into its scalars (RFC 9497 section 4.1, RFC 9380 section 5.3.1).

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest as _, Sha512};

/// SHA-512's block, `s_in_bytes` of RFC 9380: the zeros that a message is preceded by.
const BLOCK: [u8; 128] = [0; 128];

/// `"HashToGroup-" || contextString`, `contextString = "OPRFV1-" || 0x01 || "-ristretto255-SHA512"`.
const HASH_TO_GROUP: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512";
/// `"HashToScalar-" || contextString`.
const HASH_TO_SCALAR: &[u8] = b"HashToScalar-OPRFV1-\x01-ristretto255-SHA512";

/// `HashToGroup` of RFC 9497 for ristretto255 and SHA-512 in VOPRF mode (0x01).
///
/// In time that depends on the label's length alone. The result is the identity for no label that
/// anybody will ever find; [`crate::prf::evaluate`] refuses that one.
#[must_use]
pub fn hash_to_group(label: &[u8]) -> RistrettoPoint {
    hash_to_group_under(&[label], HASH_TO_GROUP)
}

/// `HashToScalar` of RFC 9497 for ristretto255 and SHA-512 in VOPRF mode (0x01), of the
/// concatenation of `parts`.
#[must_use]
pub fn hash_to_scalar(parts: &[&[u8]]) -> Scalar {
    hash_to_scalar_under(parts, HASH_TO_SCALAR)
}

/// [`hash_to_group`] under another domain separation tag.
pub(crate) fn hash_to_group_under(parts: &[&[u8]], dst: &[u8]) -> RistrettoPoint {
    RistrettoPoint::from_uniform_bytes(&expand_message_xmd(parts, dst))
}

/// [`hash_to_scalar`] under another domain separation tag.
pub(crate) fn hash_to_scalar_under(parts: &[&[u8]], dst: &[u8]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&expand_message_xmd(parts, dst))
}

/// `expand_message_xmd` of RFC 9380 section 5.3.1 with SHA-512, for 64 bytes: one block of output.
fn expand_message_xmd(parts: &[&[u8]], dst: &[u8]) -> [u8; 64] {
    // Every tag here is a constant of under 256 bytes.
    let dst_length = [dst.len() as u8];
    let mut first = Sha512::new_with_prefix(BLOCK);
    for part in parts {
        first.update(part);
    }
    first.update([0, 64, 0]);
    first.update(dst);
    first.update(dst_length);
    let mut second = Sha512::new_with_prefix(first.finalize());
    second.update([1]);
    second.update(dst);
    second.update(dst_length);
    second.finalize().into()
}
