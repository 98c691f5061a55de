//! What a COCKTAIL-DKG ciphersuite is: a group, its encodings, its hashes and its AEAD.

use core::fmt;
use core::hash::Hash;
use core::ops::{Add, Mul, Neg, Sub};

use chacha20poly1305::aead::Aead;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use curve25519_dalek::Scalar;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an encoded scalar, in every suite that COCKTAIL-DKG defines but Ed448.
pub const SCALAR_BYTES: usize = 32;
/// Bytes of the AEAD tag.
pub const AEAD_TAG_BYTES: usize = 16;
/// Bytes of the AEAD key and nonce together.
pub const KEY_AND_NONCE_BYTES: usize = 56;

/// A ciphersuite of COCKTAIL-DKG v0.2.1 (section "Ciphersuites").
///
/// A suite is a type without values. Everything here is public mathematics: when to call what
/// is the protocol's business.
///
/// # Security
/// `Scalar` and `Point` are `Copy` because arithmetic needs it; whoever holds a secret one wraps
/// it in [`Zeroizing`]. The operators and [`Suite::mul_base`] run in constant time; functions with
/// `vartime` in their name are for public values only.
pub trait Suite: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// The canonical `ciphersuite_id`, byte for byte.
    const ID: &'static str;

    /// An integer modulo the group order.
    type Scalar: Copy
        + PartialEq
        + ConstantTimeEq
        + Zeroize
        + From<u64>
        + Add<Output = Self::Scalar>
        + Sub<Output = Self::Scalar>
        + Mul<Output = Self::Scalar>
        + Neg<Output = Self::Scalar>
        + Send
        + Sync;
    /// An element of the prime-order group.
    type Point: Copy
        + PartialEq
        + Zeroize
        + fmt::Debug
        + Add<Output = Self::Point>
        + Sub<Output = Self::Point>
        + Mul<Self::Scalar, Output = Self::Point>
        + Send
        + Sync;
    /// The encoding of a point: an array of the suite's length.
    type PointBytes: AsRef<[u8]>
        + AsMut<[u8]>
        + for<'a> TryFrom<&'a [u8]>
        + Copy
        + Ord
        + Hash
        + fmt::Debug
        + Send
        + Sync;
    /// The encoding of a Schnorr signature: R, then z.
    type SignatureBytes: AsRef<[u8]>
        + AsMut<[u8]>
        + for<'a> TryFrom<&'a [u8]>
        + Copy
        + Eq
        + fmt::Debug
        + Send
        + Sync;

    /// Decodes a protocol point: a commitment, an ephemeral or receive key, an `R`.
    ///
    /// Returns `None` for what is not the canonical encoding of an element of the prime-order
    /// group, and for the identity.
    fn decode_point(bytes: &Self::PointBytes) -> Option<Self::Point>;
    /// The canonical encoding.
    fn encode_point(point: &Self::Point) -> Self::PointBytes;
    /// Decodes a scalar; `None` unless it is below the group order.
    fn decode_scalar(bytes: &[u8; SCALAR_BYTES]) -> Option<Self::Scalar>;
    /// The canonical encoding.
    fn encode_scalar(scalar: &Self::Scalar) -> [u8; SCALAR_BYTES];
    /// Reduces 64 uniform bytes.
    fn scalar_from_wide(bytes: &[u8; 64]) -> Self::Scalar;
    /// The inverse of a public scalar that is not zero, in any time.
    fn invert_vartime(scalar: &Self::Scalar) -> Self::Scalar;
    /// The neutral element.
    fn identity() -> Self::Point;
    /// The generator B.
    fn generator() -> Self::Point;
    /// `scalar * B`, in constant time.
    fn mul_base(scalar: &Self::Scalar) -> Self::Point;
    /// `a * A + b * B` with the generator B, for public values.
    fn double_mul_vartime(a: &Self::Scalar, point: &Self::Point, b: &Self::Scalar) -> Self::Point;

    /// `ecdh_encode`: the bytes of a shared point that go into `H6`.
    fn ecdh_encode(point: &Self::Point) -> Zeroizing<Vec<u8>>;
    /// The suite's hash H over the concatenation of the parts.
    fn hash(parts: &[&[u8]]) -> Vec<u8>;
    /// The Schnorr challenge: `HashToScalar(prefix_H7 || parts)`.
    fn h7(parts: &[&[u8]]) -> Self::Scalar;
    /// The Schnorr nonce: `HashToScalar(prefix_nonce || parts)`.
    fn nonce(parts: &[&[u8]]) -> Self::Scalar;
    /// `DeriveKeyAndNonce`: 32 bytes of key and 24 of nonce from `H6`.
    ///
    /// `shared` is `ecdh_encode(S^e) || ecdh_encode(S^d)`.
    fn key_and_nonce(
        shared: &[u8],
        ephemeral: &Self::PointBytes,
        sender: &Self::PointBytes,
        recipient: &Self::PointBytes,
        context: &[u8],
    ) -> Zeroizing<[u8; KEY_AND_NONCE_BYTES]>;
    /// The AEAD. `None` only if the plaintext is beyond what the AEAD can take.
    fn seal(key_and_nonce: &[u8; KEY_AND_NONCE_BYTES], plaintext: &[u8]) -> Option<Vec<u8>>;
    /// The AEAD's inverse. `None` if it does not authenticate.
    fn open(
        key_and_nonce: &[u8; KEY_AND_NONCE_BYTES],
        ciphertext: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>>;

    /// R and z as one signature.
    fn join_signature(r: &Self::PointBytes, z: &[u8; SCALAR_BYTES]) -> Self::SignatureBytes;
    /// A signature's R and z.
    fn split_signature(signature: &Self::SignatureBytes) -> (Self::PointBytes, [u8; SCALAR_BYTES]);
}

/// A secret scalar, wiped when dropped.
pub(crate) type SecretScalar<S> = Zeroizing<<S as Suite>::Scalar>;

/// Whether a point is the neutral element.
pub(crate) fn is_identity<S: Suite>(point: &S::Point) -> bool {
    *point == S::identity()
}

/// `point * factor` by double-and-add: for public values and small factors, such as indices,
/// where a multiplication by a full scalar would cost 30 times as much.
pub(crate) fn mul_small_vartime<S: Suite>(point: &S::Point, factor: u16) -> S::Point {
    let mut sum = S::identity();
    for bit in (0..u16::BITS - factor.leading_zeros()).rev() {
        sum = sum + sum;
        if factor >> bit & 1 == 1 {
            sum = sum + *point;
        }
    }
    sum
}

// What the suites over SHA-512 and Curve25519 share.

/// SHA-512 over a prefix and parts.
pub(crate) fn sha512(prefix: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut hash = Sha512::new();
    hash.update(prefix.as_bytes());
    for part in parts {
        hash.update(part);
    }
    let mut wide = Zeroizing::new([0; 64]);
    wide.copy_from_slice(&hash.finalize());
    wide
}

/// `HashToScalar` over SHA-512: little-endian, reduced from 64 bytes.
pub(crate) fn sha512_to_scalar(prefix: &str, parts: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&sha512(prefix, parts))
}

/// `H6` over SHA-512, cut to key and nonce.
pub(crate) fn sha512_key_and_nonce(
    prefix: &str,
    shared: &[u8],
    points: [&[u8; 32]; 3],
    context: &[u8],
) -> Zeroizing<[u8; KEY_AND_NONCE_BYTES]> {
    let [ephemeral, sender, recipient] = points;
    let length = (context.len() as u64).to_le_bytes();
    let wide = sha512(prefix, &[shared, ephemeral, sender, recipient, &length, context]);
    let wide: &[u8; 64] = &wide;
    let mut cut = Zeroizing::new([0; KEY_AND_NONCE_BYTES]);
    cut.copy_from_slice(&wide[..KEY_AND_NONCE_BYTES]);
    cut
}

fn xchacha(key_and_nonce: &[u8; KEY_AND_NONCE_BYTES]) -> Option<(XChaCha20Poly1305, [u8; 24])> {
    let (key, nonce) = key_and_nonce.split_at(32);
    let cipher = XChaCha20Poly1305::new_from_slice(key).ok()?;
    Some((cipher, nonce.try_into().ok()?))
}

/// XChaCha20-Poly1305 without associated data.
pub(crate) fn xchacha_seal(
    key_and_nonce: &[u8; KEY_AND_NONCE_BYTES],
    plaintext: &[u8],
) -> Option<Vec<u8>> {
    let (cipher, nonce) = xchacha(key_and_nonce)?;
    cipher.encrypt(&nonce.into(), plaintext).ok()
}

/// XChaCha20-Poly1305 without associated data.
pub(crate) fn xchacha_open(
    key_and_nonce: &[u8; KEY_AND_NONCE_BYTES],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (cipher, nonce) = xchacha(key_and_nonce)?;
    cipher.decrypt(&nonce.into(), ciphertext).ok().map(Zeroizing::new)
}

/// R and z as 64 bytes.
pub(crate) fn join_64(r: &[u8; 32], z: &[u8; 32]) -> [u8; 64] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(r);
    both[32..].copy_from_slice(z);
    both
}

/// 64 bytes as R and z.
pub(crate) fn split_64(both: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut r, mut z) = ([0; 32], [0; 32]);
    r.copy_from_slice(&both[..32]);
    z.copy_from_slice(&both[32..]);
    (r, z)
}
