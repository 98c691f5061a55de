//! Ed25519 keys (RFC 8032) and signed envelopes (DSSE protocol version 1).

use core::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, VerifyingKey};
use quorate_secret::SigningSeed;
use quorate_types::Digest;
use quorate_types::limits::MAX_SIGNATURES;
use rand_core::CryptoRng;

use crate::Transcript;
use crate::proto::v1::{Envelope, Signature};

/// An Ed25519 public key that decodes to a point that is not of low order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Why bytes are not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key")]
pub struct PublicKeyError;

impl PublicKey {
    /// A checked key.
    ///
    /// # Errors
    /// [`PublicKeyError`] for a wrong length, a point off the curve or one of low order.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| PublicKeyError)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| PublicKeyError)?;
        if key.is_weak() {
            return Err(PublicKeyError);
        }
        Ok(Self(bytes))
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What people compare: 32 bytes of a tagged hash.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Transcript::new("public-key-fingerprint").field(&self.0).digest()
    }

    /// The relative distinguished name (X.501, in DER) of certificates that this key signs for itself: one
    /// common name, the key's text. In a sequence of its own it is the name of such a certificate, by which
    /// a TLS client says which keys it would accept (RFC 8446 section 4.2.4).
    #[must_use]
    pub fn relative_distinguished_name(&self) -> Vec<u8> {
        // id-at-commonName, 2.5.4.3.
        const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
        // 60 characters: every length here is below 128 and so one byte.
        let text = self.to_string();
        let length = |more: usize| u8::try_from(text.len() + more).unwrap_or(u8::MAX);
        let mut der = vec![0x31, length(9), 0x30, length(7)];
        der.extend_from_slice(&COMMON_NAME);
        der.extend_from_slice(&[0x0c, length(0)]);
        der.extend_from_slice(text.as_bytes());
        der
    }

    /// Whether this is a signature of `message`, by the strict rules (no malleable or mixed-order form).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let Ok(bytes) = <[u8; 64]>::try_from(signature) else { return false };
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519-{}", BASE32_NOPAD.encode(&self.0).to_lowercase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let rest = text.strip_prefix("ed25519-").ok_or(PublicKeyError)?;
        if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(PublicKeyError);
        }
        let bytes =
            BASE32_NOPAD.decode(rest.to_uppercase().as_bytes()).map_err(|_| PublicKeyError)?;
        Self::from_slice(&bytes)
    }
}

/// An Ed25519 key pair. The seed is zeroized when it is dropped.
pub struct SigningKey {
    seed: SigningSeed,
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// The key pair of a seed.
    #[must_use]
    pub fn from_seed(seed: SigningSeed) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed.reveal());
        let public = PublicKey(key.verifying_key().to_bytes());
        Self { seed, key, public }
    }

    /// A fresh key pair.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::from_seed(SigningSeed::random(rng))
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The seed, to be sealed or written to the owner's key file.
    #[must_use]
    pub const fn seed(&self) -> &SigningSeed {
        &self.seed
    }

    /// Signs a payload of a type into an envelope.
    #[must_use]
    pub fn envelop(&self, kind: PayloadType, payload: Vec<u8>) -> Envelope {
        let signature = self.sign(kind, &payload);
        Envelope { payload_type: kind.name().to_owned(), payload, signatures: vec![signature] }
    }

    /// One more signature for an envelope.
    #[must_use]
    pub fn sign(&self, kind: PayloadType, payload: &[u8]) -> Signature {
        let message = pre_authentication_encoding(kind, payload);
        Signature {
            key: self.public.0.to_vec(),
            signature: self.key.sign(&message).to_bytes().to_vec(),
        }
    }

    /// Signs a text as it stands: for formats of others that say themselves what they are, such as
    /// signed notes.
    ///
    /// # Security
    /// The text must begin with what it is, and never with `DSSEv1`, which every envelope begins with.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> [u8; 64] {
        debug_assert!(!text.starts_with("DSSEv1 "), "an envelope's bytes are no text");
        self.key.sign(text.as_bytes()).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, redacted)", self.public)
    }
}

/// What an envelope carries. A signature for one type is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// [`crate::proto::v1::Document`].
    Document,
    /// [`crate::proto::v1::NodeCard`].
    NodeCard,
    /// [`crate::proto::v1::Round0`].
    Round0,
    /// [`crate::proto::v1::Round1`].
    Round1,
    /// [`crate::proto::v1::ReshareRound0`].
    ReshareRound0,
    /// [`crate::proto::v1::Round1`] of a reshare.
    ReshareRound1,
    /// [`crate::proto::v1::CertificateStatement`].
    Certificate,
}

impl PayloadType {
    /// The media type in the envelope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Document => "application/vnd.quorate.document.v1",
            Self::NodeCard => "application/vnd.quorate.node-card.v1",
            Self::Round0 => "application/vnd.quorate.dkg-round0.v1",
            Self::Round1 => "application/vnd.quorate.dkg-round1.v1",
            Self::ReshareRound0 => "application/vnd.quorate.reshare-round0.v1",
            Self::ReshareRound1 => "application/vnd.quorate.reshare-round1.v1",
            Self::Certificate => "application/vnd.quorate.certificate.v1",
        }
    }
}

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another payload type than the one expected.
    #[error("the envelope carries \"{found}\" where \"{expected}\" is expected")]
    Type {
        /// The type expected.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// No signature at all, or more than any envelope needs.
    #[error("the envelope carries {0} signatures")]
    Count(usize),
    /// A signature that is not one of its key over this payload.
    #[error("a signature of the envelope does not verify")]
    Signature,
    /// One key signed twice; it must not count twice.
    #[error("one key signed the envelope twice")]
    Twice,
}

/// An envelope whose every signature has been verified. What the signers may say is another question.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    envelope: Envelope,
    signers: Vec<PublicKey>,
}

impl Verified {
    /// Verifies the type and every signature of an envelope.
    ///
    /// # Errors
    /// [`EnvelopeError`]; one bad signature refuses the whole.
    pub fn new(kind: PayloadType, envelope: Envelope) -> Result<Self, EnvelopeError> {
        if envelope.payload_type != kind.name() {
            return Err(EnvelopeError::Type {
                expected: kind.name(),
                found: envelope.payload_type.chars().take(80).collect(),
            });
        }
        let count = envelope.signatures.len();
        if count == 0 || count > MAX_SIGNATURES {
            return Err(EnvelopeError::Count(count));
        }
        let message = pre_authentication_encoding(kind, &envelope.payload);
        let mut signers = Vec::with_capacity(count);
        for signature in &envelope.signatures {
            let key =
                PublicKey::from_slice(&signature.key).map_err(|_| EnvelopeError::Signature)?;
            if signers.contains(&key) {
                return Err(EnvelopeError::Twice);
            }
            if !key.verifies(&message, &signature.signature) {
                return Err(EnvelopeError::Signature);
            }
            signers.push(key);
        }
        Ok(Self { envelope, signers })
    }

    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.envelope.payload
    }

    /// Who signed, each once.
    #[must_use]
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }

    /// The envelope as it came.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// DSSE's PAE: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.
fn pre_authentication_encoding(kind: PayloadType, payload: &[u8]) -> Vec<u8> {
    let name = kind.name();
    let mut out = format!("DSSEv1 {} {name} {} ", name.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_secret::Secret;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.fill(byte))))
    }

    #[test]
    fn rfc_8032_section_7_1_test_1() {
        let mut seed = [0u8; 32];
        data_encoding::HEXLOWER
            .decode_mut(
                b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                &mut seed,
            )
            .unwrap();
        let key = SigningKey::from_seed(SigningSeed::new(Secret::take(&mut seed)));
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn pae_is_the_published_one() {
        // The example of the DSSE specification, with our own type in its place.
        assert!(
            pre_authentication_encoding(PayloadType::NodeCard, b"hello world")
                .starts_with(b"DSSEv1 36 application/vnd.quorate.node-card.v1 11 hello world")
        );
    }

    #[test]
    fn a_signature_counts_for_its_type_and_payload_only_and_once() {
        let good = key(1).envelop(PayloadType::Round0, b"payload".to_vec());
        assert!(Verified::new(PayloadType::Round0, good.clone()).is_ok());

        let mut other = good.clone();
        other.payload_type = PayloadType::Round1.name().to_owned();
        assert_eq!(Verified::new(PayloadType::Round1, other), Err(EnvelopeError::Signature));
        assert!(matches!(
            Verified::new(PayloadType::Round1, good.clone()),
            Err(EnvelopeError::Type { .. })
        ));

        let mut changed = good.clone();
        changed.payload[0] ^= 1;
        assert_eq!(Verified::new(PayloadType::Round0, changed), Err(EnvelopeError::Signature));

        let mut twice = good.clone();
        twice.signatures.push(twice.signatures[0].clone());
        assert_eq!(Verified::new(PayloadType::Round0, twice), Err(EnvelopeError::Twice));

        let mut none = good;
        none.signatures.clear();
        assert_eq!(Verified::new(PayloadType::Round0, none), Err(EnvelopeError::Count(0)));
    }

    #[test]
    fn text_form_of_a_public_key_round_trips() {
        let public = key(2).public();
        assert_eq!(public.to_string().parse(), Ok(public));
        assert!(public.to_string().to_uppercase().parse::<PublicKey>().is_err());
    }
}
