//! HKDF-Expand (RFC 5869 section 2.3) and HMAC (RFC 2104), without failing cases, and AES-256-GCM.
//!
//! The `hkdf` crate refuses pseudorandom keys shorter than the hash, and C2SP chunked encryption
//! expands 32-byte keys with SHA-512; so the three lines of Expand stand here.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

/// HMAC-SHA-512 under a key of at most one block, which RFC 2104 pads with zeros.
fn hmac_sha512<const N: usize>(key: &[u8; N]) -> Hmac<Sha512> {
    const { assert!(N <= 128) };
    let mut block = Zeroizing::new([0; 128]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

/// HMAC-SHA-256 under a key of at most one block, which RFC 2104 pads with zeros.
pub(crate) fn hmac_sha256<const N: usize>(key: &[u8; N]) -> Hmac<Sha256> {
    const { assert!(N <= 64) };
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::new((&*block).into())
}

/// HKDF-Expand with SHA-512: fills `out`, at most 255 blocks of 64 bytes, from `prk` and the
/// concatenation of `info`.
pub(crate) fn expand<const N: usize, const OUT: usize>(
    prk: &[u8; N],
    info: &[&[u8]],
    out: &mut [u8; OUT],
) {
    const { assert!(OUT <= 255 * 64) };
    let keyed = hmac_sha512(prk);
    let mut previous: Zeroizing<[u8; 64]> = Zeroizing::new([0; 64]);
    for (counter, block) in (1_u8..=255).zip(out.chunks_mut(64)) {
        let mut mac = keyed.clone();
        if counter > 1 {
            mac.update(&*previous);
        }
        for part in info {
            mac.update(part);
        }
        mac.update(&[counter]);
        previous.copy_from_slice(&mac.finalize().into_bytes());
        for (to, from) in block.iter_mut().zip(previous.iter()) {
            *to = *from;
        }
    }
}

/// An AES-256-GCM key.
pub(crate) fn aes_256_gcm(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM, key) {
        Ok(key) => LessSafeKey::new(key),
        // The only check is of the length, which the type fixes.
        Err(_) => unreachable!("AES-256-GCM takes every key of 32 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the `hkdf` crate, for the lengths that it accepts.
    #[test]
    fn expand_is_rfc_5869() {
        let prk: [u8; 64] = core::array::from_fn(|i| i as u8);
        let mut ours = [0; 200];
        expand(&prk, &[b"in", b"fo"], &mut ours);
        let mut theirs = [0; 200];
        hkdf::Hkdf::<Sha512>::from_prk(&prk).unwrap().expand(b"info", &mut theirs).unwrap();
        assert_eq!(ours, theirs);
    }
}
