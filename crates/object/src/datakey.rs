//! Wrapped data keys: keys that an application has already, or wants for itself, each wrapped as one
//! stanza without a payload. An operator with petabytes re-wraps its per-file keys and does not
//! encrypt anything again.
//!
//! One value is one call's work: batches are the caller's loop, over labels that it asked for
//! together.

use quorate_secret::{CustomerTerm, DataKey, Kek, PrfOutput, SecretVec};
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};

use crate::bytes::Reader;
use crate::kek::KekError;
use crate::stanza::{
    MAX_STANZA_BYTES, OpenStanzaError, RewrapError, Stanza, StanzaFormatError, StanzaPlan,
    WRAPPABLE,
};

/// What every wrapped data key begins with.
pub const MAGIC: &[u8; 8] = b"QUORKEY\0";
/// The version of the format.
pub const VERSION: u16 = 1;
/// Bytes of the longest wrapped data key.
pub const MAX_WRAPPED_BYTES: usize = 8 + 2 + 2 + MAX_STANZA_BYTES;

/// A data key of 16 to 64 bytes, wrapped for one key of the cluster.
///
/// Its own bytes are all covered by the wrapping's authentication, so it has no other MAC; one under
/// the data key would let anybody test guesses of a data key that is not random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey(Stanza);

/// Why bytes are not a wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrappedFormatError {
    /// Not a wrapped data key at all.
    #[error("this is not a data key wrapped by Quorate")]
    NotQuorate,
    /// The bytes end too early.
    #[error("the wrapped data key is truncated")]
    Truncated,
    /// Bytes follow.
    #[error("bytes follow the wrapped data key")]
    TrailingBytes,
    /// A format version of another release.
    #[error("format version {0} is unknown; a newer version of Quorate may know it")]
    UnknownVersion(u16),
    /// The stanza is malformed.
    #[error("the stanza is refused")]
    Stanza(#[from] StanzaFormatError),
}

/// Why a data key was not wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Not a length of keys.
    #[error("data keys have 16 to 64 bytes, not {0}")]
    Length(usize),
    /// The KEK cannot be made.
    #[error(transparent)]
    Kek(#[from] KekError),
}

/// Why a wrapped data key was not rewrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewrapDataKeyError {
    /// The old wrapping does not open.
    #[error(transparent)]
    Open(#[from] OpenStanzaError),
    /// The plan is refused.
    #[error(transparent)]
    Plan(#[from] RewrapError),
}

impl WrappedDataKey {
    /// Wraps a data key that exists already. `prf` is the PRF output for the plan's label.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn wrap(
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
        key: &[u8],
    ) -> Result<Self, WrapError> {
        if !WRAPPABLE.contains(&key.len()) {
            return Err(WrapError::Length(key.len()));
        }
        Ok(Self(plan.seal(&prologue_digest(), prf, term, key)?))
    }

    /// Draws a fresh 32-byte data key and wraps it.
    ///
    /// # Errors
    /// [`KekError`].
    pub fn generate(
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(DataKey, Self), KekError> {
        let key = DataKey::random(rng);
        let wrapped = Self(plan.seal(&prologue_digest(), prf, term, key.reveal())?);
        Ok((key, wrapped))
    }

    /// The data key, with the KEK of [`Self::stanza`].
    ///
    /// # Errors
    /// [`OpenStanzaError`].
    pub fn unwrap(&self, kek: &Kek) -> Result<SecretVec, OpenStanzaError> {
        let mut key = vec![0; self.0.key_bytes()];
        self.0.open_into(&prologue_digest(), kek, &mut key)?;
        Ok(SecretVec::new(key))
    }

    /// Wraps the same data key anew, by a plan that [`Stanza::plan_rewrap`] made of
    /// [`Self::stanza`]; `kek` is of the old wrapping, `prf` of the plan's label.
    ///
    /// # Errors
    /// [`RewrapDataKeyError`].
    pub fn rewrap(
        &self,
        kek: &Kek,
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
    ) -> Result<Self, RewrapDataKeyError> {
        plan.rewraps(&self.0)?;
        let key = self.unwrap(kek)?;
        let stanza =
            plan.seal(&prologue_digest(), prf, term, key.reveal()).map_err(RewrapError::from)?;
        Ok(Self(stanza))
    }

    /// The stanza: says what to ask the nodes about, and makes the KEK of their answer.
    #[must_use]
    pub fn stanza(&self) -> &Stanza {
        &self.0
    }

    /// Its bytes: magic, version, stanza.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = prologue().to_vec();
        self.0.encode(&mut out);
        out
    }

    /// Reads exactly one wrapped data key.
    ///
    /// # Errors
    /// [`WrappedFormatError`], also when anything follows it.
    pub fn parse(bytes: &[u8]) -> Result<Self, WrappedFormatError> {
        if bytes.iter().zip(MAGIC).any(|(found, expected)| found != expected) {
            return Err(WrappedFormatError::NotQuorate);
        }
        let short = |_| WrappedFormatError::Truncated;
        let mut reader = Reader::new(bytes);
        reader.take(MAGIC.len()).map_err(short)?;
        let version = reader.u16().map_err(short)?;
        if version != VERSION {
            return Err(WrappedFormatError::UnknownVersion(version));
        }
        let length = reader.u16().map_err(short)?;
        let stanza = reader.take(usize::from(length)).map_err(short)?;
        if !reader.is_empty() {
            return Err(WrappedFormatError::TrailingBytes);
        }
        Ok(Self(Stanza::decode(stanza)?))
    }
}

fn prologue() -> [u8; 10] {
    let mut out = [0; 10];
    let fields = MAGIC.iter().copied().chain(VERSION.to_be_bytes());
    for (to, from) in out.iter_mut().zip(fields) {
        *to = from;
    }
    out
}

fn prologue_digest() -> [u8; 64] {
    Sha512::digest(prologue()).into()
}
