//! The key pair under which one participant receives shares in one session.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use quorate_secret::Secret;
use quorate_wire::Transcript;
use rand_core::CryptoRng;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::possession::{self, PossessionStatement};
use super::suite::{SCALAR_BYTES, SecretScalar, Suite};
use super::tags;

/// `(d_i, P_i)`: made for one session and suite, destroyed once the share is stored.
///
/// # Security
/// Whoever has it and the recorded ciphertexts has the share. A long-lived one would undo refresh.
pub struct ReceiveKey<S: Suite> {
    secret: Box<SecretScalar<S>>,
    public: S::PointBytes,
}

impl<S: Suite> ReceiveKey<S> {
    fn new(secret: SecretScalar<S>) -> Self {
        let public = S::encode_point(&S::mul_base(&secret));
        Self { secret: Box::new(secret), public }
    }

    /// A fresh one.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        Self::from_seed(&Secret::random(rng))
    }

    /// The one that a seed determines: a node stores the seed, sealed, and finds the key again.
    #[must_use]
    pub fn from_seed(seed: &Secret<32>) -> Self {
        let mut attempt = 0;
        loop {
            let info = Transcript::new(tags::RECEIVE_KEY).field(S::ID.as_bytes()).number(attempt);
            let secret = Zeroizing::new(S::scalar_from_wide(&expand(seed, info)));
            if *secret != S::Scalar::from(0) {
                return Self::new(secret);
            }
            attempt += 1;
        }
    }

    /// The one with this scalar: for test vectors, and for recovery of other implementations' keys.
    ///
    /// Returns `None` unless the bytes are a scalar from 1 to the group order - 1.
    #[must_use]
    pub fn from_scalar(bytes: &[u8; SCALAR_BYTES]) -> Option<Self> {
        let secret = Zeroizing::new(S::decode_scalar(bytes)?);
        (*secret != S::Scalar::from(0)).then(|| Self::new(secret))
    }

    /// `P_i`.
    #[must_use]
    pub fn public(&self) -> &S::PointBytes {
        &self.public
    }

    pub(crate) fn secret(&self) -> &S::Scalar {
        &self.secret
    }

    /// Proves that this node knows the key; the statement's point must be [`ReceiveKey::public`].
    #[must_use]
    pub fn prove_possession(
        &self,
        statement: &PossessionStatement<S>,
        rng: &mut dyn CryptoRng,
    ) -> S::SignatureBytes {
        let mut extra = [0; 32];
        rng.fill_bytes(&mut extra);
        possession::prove(self.secret(), statement, &extra)
    }
}

impl<S: Suite> fmt::Debug for ReceiveKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// HMAC-SHA-512 (RFC 2104) of a public transcript under a secret seed: as many independent secrets as
/// there are transcripts.
pub(crate) fn expand(seed: &Secret<32>, info: Transcript) -> Zeroizing<[u8; 64]> {
    // RFC 2104 pads a short key with zeros to the hash's block.
    let mut block = Zeroizing::new([0; 128]);
    block.iter_mut().zip(seed.reveal()).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha512>::new((&*block).into());
    mac.update(&info.wide());
    let mut wide = Zeroizing::new([0; 64]);
    wide.copy_from_slice(&mac.finalize().into_bytes());
    wide
}
