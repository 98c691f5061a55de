//! The header of a sealed object, and the states it goes through.
//!
//! [`ParsedHeader`] is what somebody stored; [`AuthenticatedHeader`] is what the holder of the data
//! key wrote. Only the second one gives a [`Decryptor`].

use hmac::Mac;
use quorate_secret::{CustomerTerm, DataKey, Kek, PrfOutput, Secret};
use quorate_types::ObjectId;
use quorate_types::limits::MAX_STANZAS;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::bytes::{Reader, Short};
use crate::cobblestone::{Decryptor, Encryptor, InputKey, PREFIX_BYTES, SALT_BYTES};
use crate::expand::{expand, hmac_sha256};
use crate::kek::KekError;
use crate::stanza::{
    MAX_STANZA_BYTES, OpenStanzaError, RewrapError, Stanza, StanzaFormatError, StanzaPlan,
};

/// What every sealed object begins with.
pub const MAGIC: &[u8; 8] = b"QUORATE\0";
/// The version of the format.
pub const VERSION: u16 = 1;
/// Bytes of the prologue: magic, version, payload suite, object id.
pub const PROLOGUE_BYTES: usize = 8 + 2 + 2 + 32;
/// Bytes after which a reader knows how long the header is: prologue, header length, count.
pub const LEAD_IN_BYTES: usize = PROLOGUE_BYTES + 4 + 2;
/// Bytes of the header MAC.
pub const MAC_BYTES: usize = 32;
/// Bytes of the longest header: 64 stanzas, each with the longest context stored.
pub const MAX_HEADER_BYTES: usize =
    LEAD_IN_BYTES + MAX_STANZAS * (2 + MAX_STANZA_BYTES) + MAC_BYTES;

const MAC_KEY_TAG: &[u8] = b"Quorate-v1 header MAC key\0";
const INPUT_KEY_TAG: &[u8] = b"Quorate-v1 payload input key\0";

const DATA_KEY_BYTES: usize = 32;

/// How the payload is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadSuite {
    /// C2SP chunked encryption with SHA-512 and AES-256-GCM.
    Cobblestone256,
}

impl PayloadSuite {
    /// The number in prologues, from 1.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Cobblestone256 => 1,
        }
    }

    /// The name in documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cobblestone256 => "Cobblestone-256",
        }
    }

    /// The suite with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Cobblestone256),
            _ => None,
        }
    }
}

/// What never changes in the life of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prologue {
    suite: PayloadSuite,
    object: ObjectId,
}

impl Prologue {
    /// How the payload is encrypted.
    #[must_use]
    pub const fn suite(&self) -> PayloadSuite {
        self.suite
    }

    /// The object's random name.
    #[must_use]
    pub const fn object(&self) -> &ObjectId {
        &self.object
    }

    /// Magic, version, suite, object id.
    #[must_use]
    pub fn bytes(&self) -> [u8; PROLOGUE_BYTES] {
        let mut out = [0; PROLOGUE_BYTES];
        let version = VERSION.to_be_bytes();
        let suite = self.suite.number().to_be_bytes();
        let fields = MAGIC.iter().chain(&version).chain(&suite).chain(self.object.as_bytes());
        for (to, from) in out.iter_mut().zip(fields) {
            *to = *from;
        }
        out
    }

    /// SHA-512 of the prologue: the payload's context, and part of all that the header derives.
    #[must_use]
    pub fn digest(&self) -> [u8; 64] {
        Sha512::digest(self.bytes()).into()
    }
}

/// Why bytes are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a sealed object at all.
    #[error("this is not an object sealed by Quorate")]
    NotQuorate,
    /// More bytes are needed. For a whole file, this means that it is truncated.
    #[error("the header is truncated: {found} bytes where at least {needed} are needed")]
    Truncated {
        /// The length found.
        found: usize,
        /// How many bytes to bring next time, from the start.
        needed: usize,
    },
    /// A format version of another release.
    #[error("format version {0} is unknown; a newer version of Quorate may know it")]
    UnknownVersion(u16),
    /// A payload suite of another release.
    #[error("payload suite {0} is unknown; a newer version of Quorate may know it")]
    UnknownSuite(u16),
    /// The stated header length is impossible.
    #[error("a header of {0} bytes is not possible")]
    HeaderLength(u32),
    /// No stanza: nobody could open it.
    #[error("the header has no stanza")]
    NoStanzas,
    /// Too many stanzas.
    #[error("the header has {0} stanzas; at most {MAX_STANZAS} are allowed")]
    TooManyStanzas(usize),
    /// The stanzas do not fill the header.
    #[error("the header's length does not agree with its stanzas")]
    LengthMismatch,
    /// A stanza is malformed.
    #[error("stanza {index} is refused")]
    Stanza {
        /// Which stanza, from 0.
        index: usize,
        /// Why.
        #[source]
        source: StanzaFormatError,
    },
}

/// The header is not the one that the holder of the data key wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header was changed after it was written")]
pub struct HeaderTampered;

/// The payload does not belong to this header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload does not belong to this header, or its first bytes were changed")]
pub struct OtherPayload;

/// Why readers were not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// The header is full.
    #[error("an object has at most {MAX_STANZAS} stanzas")]
    TooManyStanzas,
    /// No such stanza.
    #[error("the object has no stanza {0}")]
    NoSuchStanza(usize),
    /// Nobody could open the object afterwards.
    #[error("the last stanza cannot be removed: nobody could open the object")]
    LastStanza,
    /// The KEK cannot be made.
    #[error(transparent)]
    Kek(#[from] KekError),
}

/// The object has no reader, so it was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an object needs at least one stanza")]
pub struct NoReader;

/// A new object before its first byte: its prologue, its data key, and the readers so far.
#[derive(Debug)]
pub struct Draft {
    prologue: Prologue,
    data_key: DataKey,
    stanzas: Vec<Stanza>,
}

/// A new object's header, and the one encryptor of its payload.
#[derive(Debug)]
pub struct NewObject {
    /// The header, whose [`AuthenticatedHeader::bytes`] begin the file.
    pub header: AuthenticatedHeader,
    /// The payload's first 56 bytes, which follow the header.
    pub prefix: [u8; PREFIX_BYTES],
    /// Seals the chunks, which follow the prefix.
    pub encryptor: Encryptor,
}

impl Draft {
    /// Begins an object: draws its id and its data key.
    pub fn new(suite: PayloadSuite, rng: &mut dyn CryptoRng) -> Self {
        let mut object = [0; ObjectId::LEN];
        rng.fill_bytes(&mut object);
        let prologue = Prologue { suite, object: ObjectId::from_bytes(object) };
        Self { prologue, data_key: DataKey::random(rng), stanzas: Vec::new() }
    }

    /// The prologue.
    #[must_use]
    pub fn prologue(&self) -> &Prologue {
        &self.prologue
    }

    /// Wraps the data key for one reader. `prf` is the PRF output for the plan's label.
    ///
    /// # Errors
    /// [`ReaderError`]; the draft is then as it was.
    pub fn add_reader(
        &mut self,
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
    ) -> Result<(), ReaderError> {
        push(&mut self.stanzas, &self.prologue, plan, prf, term, &self.data_key)
    }

    /// Finishes the header and starts the payload; draws its salt.
    ///
    /// # Errors
    /// [`NoReader`] when no stanza was added.
    pub fn finish(self, rng: &mut dyn CryptoRng) -> Result<NewObject, NoReader> {
        if self.stanzas.is_empty() {
            return Err(NoReader);
        }
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let input_key = payload_input_key(&self.data_key);
        let (prefix, encryptor) = Encryptor::start(&input_key, &self.prologue.digest(), salt);
        let header = AuthenticatedHeader::build(self.prologue, self.stanzas, self.data_key);
        Ok(NewObject { header, prefix, encryptor })
    }
}

fn push(
    stanzas: &mut Vec<Stanza>,
    prologue: &Prologue,
    plan: StanzaPlan,
    prf: &PrfOutput,
    term: Option<&CustomerTerm>,
    data_key: &DataKey,
) -> Result<(), ReaderError> {
    if stanzas.len() >= MAX_STANZAS {
        return Err(ReaderError::TooManyStanzas);
    }
    stanzas.push(plan.seal(&prologue.digest(), prf, term, data_key.reveal())?);
    Ok(())
}

/// A header that is well-formed, and no more: nobody vouches for it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedHeader {
    prologue: Prologue,
    stanzas: Vec<Stanza>,
    /// Everything before the MAC, as it was read.
    covered: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

impl ParsedHeader {
    /// Reads the header at the start of `bytes`; the payload may follow it.
    ///
    /// With a stream, call it again with more bytes whenever it answers
    /// [`HeaderError::Truncated`], which says how many are needed: first [`LEAD_IN_BYTES`], then the
    /// whole header, at most [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let truncated = |needed| move |Short| HeaderError::Truncated { found: bytes.len(), needed };
        if bytes.iter().zip(MAGIC).any(|(found, expected)| found != expected) {
            return Err(HeaderError::NotQuorate);
        }
        let lead_in = truncated(LEAD_IN_BYTES);
        let mut reader = Reader::new(bytes);
        reader.take(MAGIC.len()).map_err(lead_in)?;
        // Other versions may be laid out otherwise, so theirs is the last field that can be trusted.
        let version = reader.u16().map_err(lead_in)?;
        if version != VERSION {
            return Err(HeaderError::UnknownVersion(version));
        }
        let suite = reader.u16().map_err(lead_in)?;
        let suite = PayloadSuite::from_number(suite).ok_or(HeaderError::UnknownSuite(suite))?;
        let object = ObjectId::from_bytes(reader.array().map_err(lead_in)?);
        let stated = reader.u32().map_err(lead_in)?;
        let count = usize::from(reader.u16().map_err(lead_in)?);

        let length = stated as usize;
        if !(LEAD_IN_BYTES + MAC_BYTES..=MAX_HEADER_BYTES).contains(&length) {
            return Err(HeaderError::HeaderLength(stated));
        }
        if count == 0 {
            return Err(HeaderError::NoStanzas);
        }
        if count > MAX_STANZAS {
            return Err(HeaderError::TooManyStanzas(count));
        }
        let whole = Reader::new(bytes).take(length).map_err(truncated(length))?;
        let (covered, mac) =
            whole.split_last_chunk::<MAC_BYTES>().ok_or(HeaderError::LengthMismatch)?;

        let mut reader = Reader::new(covered);
        reader.take(LEAD_IN_BYTES).map_err(|_| HeaderError::LengthMismatch)?;
        let mut stanzas = Vec::with_capacity(count);
        for index in 0..count {
            let length = reader.u16().map_err(|_| HeaderError::LengthMismatch)?;
            let body = reader.take(usize::from(length)).map_err(|_| HeaderError::LengthMismatch)?;
            let stanza = Stanza::decode(body)
                .and_then(|stanza| match stanza.key_bytes() {
                    DATA_KEY_BYTES => Ok(stanza),
                    _ => Err(StanzaFormatError::WrappedKeyLength(stanza.key_bytes() + 16)),
                })
                .map_err(|source| HeaderError::Stanza { index, source })?;
            stanzas.push(stanza);
        }
        if !reader.is_empty() {
            return Err(HeaderError::LengthMismatch);
        }
        let prologue = Prologue { suite, object };
        Ok(Self { prologue, stanzas, covered: covered.to_vec(), mac: *mac })
    }

    /// The prologue.
    #[must_use]
    pub fn prologue(&self) -> &Prologue {
        &self.prologue
    }

    /// The stanzas in order; any one of them gives the data key.
    #[must_use]
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Bytes of the header: where the payload begins in the file.
    #[must_use]
    pub fn length(&self) -> usize {
        self.covered.len() + MAC_BYTES
    }

    /// Unwraps the data key with the KEK of stanza `index`.
    ///
    /// # Errors
    /// [`OpenStanzaError`].
    pub fn open_stanza(&self, index: usize, kek: &Kek) -> Result<DataKey, OpenStanzaError> {
        let stanza = self.stanzas.get(index).ok_or(OpenStanzaError::NoSuchStanza(index))?;
        let mut opened = Ok(());
        let secret =
            Secret::from_fn(|out| opened = stanza.open_into(&self.prologue.digest(), kek, out));
        opened.map(|()| DataKey::new(secret))
    }

    /// Checks the header MAC, in constant time, with the data key that a stanza gave.
    ///
    /// # Errors
    /// [`HeaderTampered`] when any byte of the header is not as the last writer left it.
    pub fn authenticate(self, data_key: DataKey) -> Result<AuthenticatedHeader, HeaderTampered> {
        let expected = header_mac(&data_key, &self.prologue, &self.covered);
        if !bool::from(expected.as_slice().ct_eq(&self.mac)) {
            return Err(HeaderTampered);
        }
        let Self { prologue, stanzas, covered, mac } = self;
        let mut bytes = covered;
        bytes.extend_from_slice(&mac);
        Ok(AuthenticatedHeader { prologue, stanzas, data_key, bytes })
    }
}

/// A header that a holder of the data key wrote, with that data key.
///
/// # Security
/// Anybody who ever held the data key can write such a header: readers trust one another not to
/// change the list of readers. And an older header of the same object authenticates as well.
#[derive(Debug)]
pub struct AuthenticatedHeader {
    prologue: Prologue,
    stanzas: Vec<Stanza>,
    data_key: DataKey,
    bytes: Vec<u8>,
}

impl AuthenticatedHeader {
    fn build(prologue: Prologue, stanzas: Vec<Stanza>, data_key: DataKey) -> Self {
        let mut header = Self { prologue, stanzas, data_key, bytes: Vec::new() };
        header.write();
        header
    }

    /// Encodes the stanzas as they are now, under a new MAC.
    fn write(&mut self) {
        let mut body = Vec::new();
        for stanza in &self.stanzas {
            stanza.encode(&mut body);
        }
        let length = LEAD_IN_BYTES + body.len() + MAC_BYTES;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&self.prologue.bytes());
        // At most MAX_STANZAS stanzas of MAX_STANZA_BYTES: both numbers fit.
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&(self.stanzas.len() as u16).to_be_bytes());
        out.extend_from_slice(&body);
        let mac = header_mac(&self.data_key, &self.prologue, &out);
        out.extend_from_slice(&mac);
        self.bytes = out;
    }

    /// The header as it stands at the start of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The prologue.
    #[must_use]
    pub fn prologue(&self) -> &Prologue {
        &self.prologue
    }

    /// The stanzas in order.
    #[must_use]
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Opens the payload that begins with these 56 bytes.
    ///
    /// # Errors
    /// [`OtherPayload`] when its commitment is not of this object's data key and prologue.
    pub fn decryptor(&self, prefix: &[u8; PREFIX_BYTES]) -> Result<Decryptor, OtherPayload> {
        Decryptor::start(&payload_input_key(&self.data_key), &self.prologue.digest(), prefix)
            .map_err(|_| OtherPayload)
    }

    /// Replaces stanza `index` by a plan that [`Stanza::plan_rewrap`] made of it. The payload stays
    /// as it is; the header may change its length, so the file is written anew.
    ///
    /// # Errors
    /// [`RewrapError`]; the header is then as it was.
    ///
    /// # Security
    /// This takes nothing from somebody who saw the data key, and an older header can be put back
    /// while its key version lives.
    pub fn rewrap(
        &mut self,
        index: usize,
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
    ) -> Result<(), RewrapError> {
        let old = self.stanzas.get_mut(index).ok_or(RewrapError::NoSuchStanza(index))?;
        plan.rewraps(old)?;
        *old = plan.seal(&self.prologue.digest(), prf, term, self.data_key.reveal())?;
        self.write();
        Ok(())
    }

    /// Adds a stanza for another reader, behind the others.
    ///
    /// # Errors
    /// [`ReaderError`]; the header is then as it was.
    pub fn add_reader(
        &mut self,
        plan: StanzaPlan,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
    ) -> Result<(), ReaderError> {
        push(&mut self.stanzas, &self.prologue, plan, prf, term, &self.data_key)?;
        self.write();
        Ok(())
    }

    /// Removes stanza `index`.
    ///
    /// # Errors
    /// [`ReaderError`]; the header is then as it was.
    ///
    /// # Security
    /// Who opened the object before, or kept the old header, can still open it.
    pub fn remove_reader(&mut self, index: usize) -> Result<(), ReaderError> {
        if index >= self.stanzas.len() {
            return Err(ReaderError::NoSuchStanza(index));
        }
        if self.stanzas.len() == 1 {
            return Err(ReaderError::LastStanza);
        }
        self.stanzas.remove(index);
        self.write();
        Ok(())
    }
}

/// HMAC-SHA-256 under a key expanded from data key and prologue digest.
pub(crate) fn header_mac(
    data_key: &DataKey,
    prologue: &Prologue,
    covered: &[u8],
) -> [u8; MAC_BYTES] {
    let mut key = Zeroizing::new([0; 32]);
    expand(data_key.reveal(), &[MAC_KEY_TAG, &prologue.digest()], &mut key);
    let mut mac = hmac_sha256(&key);
    mac.update(covered);
    mac.finalize().into_bytes().into()
}

/// What the payload's keys are expanded from.
pub(crate) fn payload_input_key(data_key: &DataKey) -> InputKey {
    InputKey::new(Secret::from_fn(|out| expand(data_key.reveal(), &[INPUT_KEY_TAG], out)))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
