//! COCKTAIL(Ristretto255, SHA-512).

use curve25519_dalek::Scalar;
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::traits::{Identity, IsIdentity};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::suite::{self, KEY_AND_NONCE_BYTES, SCALAR_BYTES, Suite};

/// The suite of the threshold PRF: ristretto255 (RFC 9496), SHA-512, XChaCha20-Poly1305.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ristretto255;

impl Suite for Ristretto255 {
    const ID: &'static str = "COCKTAIL(Ristretto255, SHA-512)";

    type Scalar = Scalar;
    type Point = RistrettoPoint;
    type PointBytes = [u8; 32];
    type SignatureBytes = [u8; 64];

    fn decode_point(bytes: &[u8; 32]) -> Option<RistrettoPoint> {
        // Decompression accepts canonical encodings only, and the group has prime order.
        CompressedRistretto(*bytes).decompress().filter(|point| !point.is_identity())
    }

    fn encode_point(point: &RistrettoPoint) -> [u8; 32] {
        point.compress().to_bytes()
    }

    fn generator() -> RistrettoPoint {
        RISTRETTO_BASEPOINT_POINT
    }

    fn ecdh_encode(point: &RistrettoPoint) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(point.compress().as_bytes().to_vec())
    }

    fn decode_scalar(bytes: &[u8; SCALAR_BYTES]) -> Option<Scalar> {
        Scalar::from_canonical_bytes(*bytes).into()
    }

    fn encode_scalar(scalar: &Scalar) -> [u8; SCALAR_BYTES] {
        scalar.to_bytes()
    }

    fn scalar_from_wide(bytes: &[u8; 64]) -> Scalar {
        Scalar::from_bytes_mod_order_wide(bytes)
    }

    fn invert_vartime(scalar: &Scalar) -> Scalar {
        scalar.invert()
    }

    fn identity() -> RistrettoPoint {
        RistrettoPoint::identity()
    }

    fn mul_base(scalar: &Scalar) -> RistrettoPoint {
        RistrettoPoint::mul_base(scalar)
    }

    fn double_mul_vartime(a: &Scalar, point: &RistrettoPoint, b: &Scalar) -> RistrettoPoint {
        RistrettoPoint::vartime_double_scalar_mul_basepoint(a, point, b)
    }

    fn hash(parts: &[&[u8]]) -> Vec<u8> {
        let mut hash = Sha512::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().to_vec()
    }

    fn h7(parts: &[&[u8]]) -> Scalar {
        suite::sha512_to_scalar("COCKTAIL-DKG-Ristretto255-SHA512-H7", parts)
    }

    fn nonce(parts: &[&[u8]]) -> Scalar {
        suite::sha512_to_scalar("COCKTAIL-DKG-Ristretto255-SHA512-NONCE", parts)
    }

    fn key_and_nonce(
        shared: &[u8],
        ephemeral: &[u8; 32],
        sender: &[u8; 32],
        recipient: &[u8; 32],
        context: &[u8],
    ) -> Zeroizing<[u8; KEY_AND_NONCE_BYTES]> {
        let points = [ephemeral, sender, recipient];
        suite::sha512_key_and_nonce("COCKTAIL-DKG-Ristretto255-SHA512-H6", shared, points, context)
    }

    fn seal(key_and_nonce: &[u8; KEY_AND_NONCE_BYTES], plaintext: &[u8]) -> Option<Vec<u8>> {
        suite::xchacha_seal(key_and_nonce, plaintext)
    }

    fn open(
        key_and_nonce: &[u8; KEY_AND_NONCE_BYTES],
        ciphertext: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        suite::xchacha_open(key_and_nonce, ciphertext)
    }

    fn join_signature(r: &[u8; 32], z: &[u8; SCALAR_BYTES]) -> [u8; 64] {
        suite::join_64(r, z)
    }

    fn split_signature(signature: &[u8; 64]) -> ([u8; 32], [u8; SCALAR_BYTES]) {
        suite::split_64(signature)
    }
}
