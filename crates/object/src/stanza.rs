//! Stanzas: one reader's or one key version's wrapping of the data key.

use aws_lc_rs::aead::{Aad, Nonce};
use quorate_secret::{CustomerTerm, Fragment, Kek, PrfOutput};
use quorate_types::limits::{MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS};
use quorate_types::{KeyId, KeySpec, KeyVersion, PrincipalId, Purpose, TenantId, UnixSeconds};
use quorate_wire::{ContextError, EncryptionContext, LABEL_NONCE_BYTES, Label};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::bytes::{Reader, Short};
use crate::expand::{aes_256_gcm, expand};
use crate::kek::{self, FRAGMENT_ID_BYTES, Flags, FragmentId, KekError, STANZA_SALT_BYTES};

const WRAP_KEY_TAG: &[u8] = b"Quorate-v1 stanza wrap key\0";
const WRAP_NONCE_TAG: &[u8] = b"Quorate-v1 stanza wrap nonce\0";
const COMMITMENT_TAG: &[u8] = b"Quorate-v1 stanza commitment\0";

const TAG_BYTES: usize = 16;
/// Bytes of the keys that can be wrapped.
pub(crate) const WRAPPABLE: core::ops::RangeInclusive<usize> = 16..=64;
/// Bytes of every stanza's first fields.
const FIXED_BYTES: usize = 2 + 1 + 32 + 32 + 4 + 32 + 8 + LABEL_NONCE_BYTES + STANZA_SALT_BYTES;
/// Bytes of the longest stanza: with a fragment's check value, a full context and a 64-byte key.
pub(crate) const MAX_STANZA_BYTES: usize =
    FIXED_BYTES + FRAGMENT_ID_BYTES + 2 + MAX_CONTEXT_BYTES + 32 + 2 + 64 + TAG_BYTES;

/// Who may ask for a stanza's key, and for which: what the label says, except what is drawn at
/// random and what the application says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StanzaFacts {
    /// The key spec of the key.
    pub spec: KeySpec,
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// Who makes the object.
    pub creator: PrincipalId,
    /// When, in seconds, within the nodes' tolerance of their clocks.
    pub created_at: UnixSeconds,
}

/// Whether the stanza carries the encryption context in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextStorage {
    /// The reader must say it again, and who sees the object cannot guess or link it.
    NotStored,
    /// It stands in the header for everyone to read, and is authenticated.
    Stored,
}

/// All fields of a stanza that are chosen before its KEK is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    facts: StanzaFacts,
    nonce: [u8; LABEL_NONCE_BYTES],
    salt: [u8; STANZA_SALT_BYTES],
    fragment: Option<FragmentId>,
    context: Option<EncryptionContext>,
}

impl Fields {
    fn flags(&self) -> Flags {
        Flags::new(self.fragment.is_some(), self.context.is_some())
    }

    fn label(&self, context_hash: quorate_types::Digest) -> Label {
        Label {
            purpose: Purpose::ObjectKey,
            spec: self.facts.spec,
            tenant: self.facts.tenant,
            key: self.facts.key,
            version: self.facts.version,
            creator: self.facts.creator,
            created_at: self.facts.created_at,
            nonce: self.nonce,
            context_hash,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flags().bits().to_be_bytes());
        out.push(self.facts.spec.number());
        out.extend_from_slice(self.facts.tenant.as_bytes());
        out.extend_from_slice(self.facts.key.as_bytes());
        out.extend_from_slice(&self.facts.version.get().to_be_bytes());
        out.extend_from_slice(self.facts.creator.as_bytes());
        out.extend_from_slice(&self.facts.created_at.0.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.salt);
        if let Some(fragment) = &self.fragment {
            out.extend_from_slice(fragment.as_bytes());
        }
        if let Some(context) = &self.context {
            let bytes = context.canonical_bytes();
            // At most MAX_CONTEXT_BYTES, by the type.
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, StanzaFormatError> {
        let flags = Flags::from_bits(reader.u16()?)?;
        let spec = reader.u8()?;
        let spec =
            KeySpec::from_number(u32::from(spec)).ok_or(StanzaFormatError::UnknownKeySpec(spec))?;
        let tenant = TenantId::from_bytes(reader.array()?);
        let key = KeyId::from_bytes(reader.array()?);
        let version = KeyVersion::new(reader.u32()?).ok_or(StanzaFormatError::KeyVersionZero)?;
        let creator = PrincipalId::from_bytes(reader.array()?);
        let created_at = UnixSeconds(reader.u64()?);
        let nonce = reader.array()?;
        let salt = reader.array()?;
        let fragment = if flags.customer_term() {
            Some(FragmentId::from_bytes(reader.array()?))
        } else {
            None
        };
        let context = if flags.stored_context() {
            let length = reader.u16()?;
            Some(decode_context(reader.take(usize::from(length))?)?)
        } else {
            None
        };
        let facts = StanzaFacts { spec, tenant, key, version, creator, created_at };
        Ok(Self { facts, nonce, salt, fragment, context })
    }
}

/// The inverse of [`EncryptionContext::canonical_bytes`]; accepts nothing else.
fn decode_context(bytes: &[u8]) -> Result<EncryptionContext, StanzaFormatError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32()? as usize;
    if count > MAX_CONTEXT_PAIRS {
        return Err(StanzaFormatError::Context(ContextError::TooMany(count)));
    }
    let mut text = || {
        let length = reader.u32()? as usize;
        let bytes = reader.take(length)?;
        let text = core::str::from_utf8(bytes).map_err(|_| StanzaFormatError::ContextNotText)?;
        Ok::<_, StanzaFormatError>(text.to_owned())
    };
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((text()?, text()?));
    }
    if !reader.is_empty() {
        return Err(StanzaFormatError::TrailingBytes);
    }
    Ok(EncryptionContext::from_canonical(pairs)?)
}

/// Why bytes are not a stanza.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StanzaFormatError {
    /// The stanza ends inside a field.
    #[error("the stanza ends inside a field")]
    Truncated,
    /// Bytes follow the last field of the stanza or of its context.
    #[error("bytes follow the stanza's last field")]
    TrailingBytes,
    /// Flags of a newer version.
    #[error(transparent)]
    UnknownFlags(#[from] kek::UnknownFlags),
    /// A key spec of a newer version.
    #[error("the stanza has the unknown key spec {0}; a newer version of Quorate may know it")]
    UnknownKeySpec(u8),
    /// Key versions begin at 1.
    #[error("the stanza names key version 0")]
    KeyVersionZero,
    /// The stored context is not UTF-8.
    #[error("the stored encryption context is not UTF-8")]
    ContextNotText,
    /// The stored context is not canonical.
    #[error("the stored encryption context is refused")]
    Context(#[from] ContextError),
    /// Not the length of a wrapped key.
    #[error("a wrapped key of {0} bytes is not allowed here")]
    WrappedKeyLength(usize),
}

impl From<Short> for StanzaFormatError {
    fn from(_: Short) -> Self {
        Self::Truncated
    }
}

/// Why the label of a stanza cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The writer did not store the encryption context, and none was given.
    #[error("the encryption context is not stored in this object and must be given")]
    ContextNeeded,
    /// Another context than the stored one.
    #[error("the given encryption context differs from the one stored in this object")]
    ContextDiffers,
}

/// Why a stanza gave no data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenStanzaError {
    /// The object has no such stanza.
    #[error("the object has no stanza {0}")]
    NoSuchStanza(usize),
    /// The commitment is not of this KEK.
    #[error("wrong key or wrong encryption context")]
    WrongKey,
    /// The KEK is right, but the stanza or the prologue was changed.
    #[error("the stanza was changed, or taken from another object")]
    StanzaTampered,
}

/// Why a stanza was not planned as, or replaced by, a rewrapped one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewrapError {
    /// No such stanza.
    #[error("the object has no stanza {0}")]
    NoSuchStanza(usize),
    /// The new version is below the old one.
    #[error("rewrapping goes to the same or a newer key version, not from {from} to {to}")]
    OlderVersion {
        /// The stanza's version.
        from: KeyVersion,
        /// The version asked for.
        to: KeyVersion,
    },
    /// The plan differs in more than key version, fragment and salt.
    #[error("the plan is not a rewrapping of this stanza")]
    NotThisStanza,
    /// The label cannot be made.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The KEK cannot be made.
    #[error(transparent)]
    Kek(#[from] KekError),
}

/// A stanza before its KEK is known. Single use: sealing consumes it, so that its salt, and with
/// it every wrap key and nonce, serves once.
#[derive(Debug)]
pub struct StanzaPlan {
    fields: Fields,
    label: Label,
}

impl StanzaPlan {
    /// Plans a stanza; draws the label's nonce and the stanza's salt.
    pub fn new(
        facts: StanzaFacts,
        context: &EncryptionContext,
        storage: ContextStorage,
        fragment: Option<FragmentId>,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let mut fields = Fields {
            facts,
            nonce: [0; LABEL_NONCE_BYTES],
            salt: [0; STANZA_SALT_BYTES],
            fragment,
            context: match storage {
                ContextStorage::Stored => Some(context.clone()),
                ContextStorage::NotStored => None,
            },
        };
        rng.fill_bytes(&mut fields.nonce);
        rng.fill_bytes(&mut fields.salt);
        let label = fields.label(context.hash());
        Self { fields, label }
    }

    /// What to ask the nodes about.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The fragment whose term [`Self::customer_term`] gives, or none.
    #[must_use]
    pub fn fragment(&self) -> Option<FragmentId> {
        self.fields.fragment
    }

    /// The customer term for this plan.
    ///
    /// # Errors
    /// [`KekError`] when the plan names another fragment or none.
    pub fn customer_term(&self, fragment: &Fragment) -> Result<CustomerTerm, KekError> {
        customer_term(self.fields.fragment, fragment, &self.label)
    }

    /// Wraps `secret` for the object whose prologue has this digest.
    pub(crate) fn seal(
        self,
        prologue_digest: &[u8; 64],
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
        secret: &[u8],
    ) -> Result<Stanza, KekError> {
        let Fields { fragment, salt, .. } = &self.fields;
        let kek = kek::derive(prf, term, self.fields.flags(), &self.label, *fragment, salt)?;
        let keys = StanzaKeys::expand(&kek);
        let mut stanza =
            Stanza { fields: self.fields, commitment: keys.commitment, wrapped: secret.to_vec() };
        let aad = stanza.associated_data(prologue_digest);
        let nonce = Nonce::assume_unique_for_key(keys.nonce);
        let sealed = aes_256_gcm(&keys.wrap_key).seal_in_place_separate_tag(
            nonce,
            Aad::from(aad),
            &mut stanza.wrapped,
        );
        match sealed {
            Ok(tag) => stanza.wrapped.extend_from_slice(tag.as_ref()),
            // At most 64 bytes and a few kilobytes of associated data: AES-GCM has no failing case.
            Err(_) => unreachable!("AES-256-GCM seals every key of at most 64 bytes"),
        }
        Ok(stanza)
    }

    /// Whether this plan is `old` under another version, fragment or salt.
    pub(crate) fn rewraps(&self, old: &Stanza) -> Result<(), RewrapError> {
        let (from, to) = (old.fields.facts.version, self.fields.facts.version);
        if to < from {
            return Err(RewrapError::OlderVersion { from, to });
        }
        let same = StanzaFacts { version: from, ..self.fields.facts } == old.fields.facts
            && self.fields.nonce == old.fields.nonce
            && self.fields.context == old.fields.context;
        if same { Ok(()) } else { Err(RewrapError::NotThisStanza) }
    }
}

fn customer_term(
    needed: Option<FragmentId>,
    fragment: &Fragment,
    label: &Label,
) -> Result<CustomerTerm, KekError> {
    let needed = needed.ok_or(KekError::FragmentNotExpected)?;
    let found = FragmentId::of(fragment);
    if needed != found {
        return Err(KekError::WrongFragment { needed, found });
    }
    Ok(kek::customer_term(fragment, label))
}

/// What one KEK expands to.
struct StanzaKeys {
    wrap_key: Zeroizing<[u8; 32]>,
    nonce: [u8; 12],
    commitment: [u8; 32],
}

impl StanzaKeys {
    fn expand(kek: &Kek) -> Self {
        let mut keys =
            Self { wrap_key: Zeroizing::new([0; 32]), nonce: [0; 12], commitment: [0; 32] };
        expand(kek.reveal(), &[WRAP_KEY_TAG], &mut keys.wrap_key);
        expand(kek.reveal(), &[WRAP_NONCE_TAG], &mut keys.nonce);
        expand(kek.reveal(), &[COMMITMENT_TAG], &mut keys.commitment);
        keys
    }
}

/// A wrapped data key and everything a reader needs to ask for its KEK, except an encryption
/// context that was not stored.
///
/// Nobody vouches for what a parsed stanza says until it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    fields: Fields,
    commitment: [u8; 32],
    wrapped: Vec<u8>,
}

impl Stanza {
    /// Tenant, key, version, creator and time.
    #[must_use]
    pub fn facts(&self) -> &StanzaFacts {
        &self.fields.facts
    }

    /// The label's nonce.
    #[must_use]
    pub fn nonce(&self) -> &[u8; LABEL_NONCE_BYTES] {
        &self.fields.nonce
    }

    /// The salt of this stanza's KEK.
    #[must_use]
    pub fn salt(&self) -> &[u8; STANZA_SALT_BYTES] {
        &self.fields.salt
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.fields.flags()
    }

    /// The customer fragment that is needed, or none.
    #[must_use]
    pub fn fragment(&self) -> Option<FragmentId> {
        self.fields.fragment
    }

    /// The encryption context, where the writer stored it.
    #[must_use]
    pub fn stored_context(&self) -> Option<&EncryptionContext> {
        self.fields.context.as_ref()
    }

    /// The commitment to the KEK.
    #[must_use]
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Bytes of the key that is wrapped.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.wrapped.len().saturating_sub(TAG_BYTES)
    }

    /// What to ask the nodes about. A context that is not stored must be given, one that is stored
    /// may be.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn label(&self, context: Option<&EncryptionContext>) -> Result<Label, LabelError> {
        let context = match (&self.fields.context, context) {
            (None, None) => return Err(LabelError::ContextNeeded),
            (Some(stored), Some(given)) if stored != given => {
                return Err(LabelError::ContextDiffers);
            }
            (Some(context), _) | (None, Some(context)) => context,
        };
        Ok(self.fields.label(context.hash()))
    }

    /// The customer term for this stanza and its `label`.
    ///
    /// # Errors
    /// [`KekError`] when the stanza names another fragment or none.
    pub fn customer_term(
        &self,
        fragment: &Fragment,
        label: &Label,
    ) -> Result<CustomerTerm, KekError> {
        customer_term(self.fields.fragment, fragment, label)
    }

    /// The KEK, from what the nodes answered for `label`, and the customer's term where it is needed.
    ///
    /// # Errors
    /// [`KekError`] when the term is missing or not expected.
    pub fn kek(
        &self,
        label: &Label,
        prf: &PrfOutput,
        term: Option<&CustomerTerm>,
    ) -> Result<Kek, KekError> {
        let Fields { fragment, salt, .. } = &self.fields;
        kek::derive(prf, term, self.fields.flags(), label, *fragment, salt)
    }

    /// Plans the same stanza under `version`, with a fresh salt and all else that the label says
    /// unchanged, so that creator and time survive rotation. `fragment` may be another one.
    ///
    /// # Errors
    /// [`RewrapError`] when the version is below the stanza's, or the context is missing.
    pub fn plan_rewrap(
        &self,
        context: Option<&EncryptionContext>,
        version: KeyVersion,
        fragment: Option<FragmentId>,
        rng: &mut dyn CryptoRng,
    ) -> Result<StanzaPlan, RewrapError> {
        let from = self.fields.facts.version;
        if version < from {
            return Err(RewrapError::OlderVersion { from, to: version });
        }
        let old = self.label(context)?;
        let mut fields = Fields {
            facts: StanzaFacts { version, ..self.fields.facts },
            fragment,
            ..self.fields.clone()
        };
        rng.fill_bytes(&mut fields.salt);
        let label = fields.label(old.context_hash);
        Ok(StanzaPlan { fields, label })
    }

    /// Prologue digest, and every field but the wrapped key.
    fn associated_data(&self, prologue_digest: &[u8; 64]) -> Vec<u8> {
        let mut out = prologue_digest.to_vec();
        self.fields.encode(&mut out);
        out.extend_from_slice(&self.commitment);
        out
    }

    /// Checks the commitment in constant time, then unwraps the key into `out`.
    pub(crate) fn open_into(
        &self,
        prologue_digest: &[u8; 64],
        kek: &Kek,
        out: &mut [u8],
    ) -> Result<(), OpenStanzaError> {
        let keys = StanzaKeys::expand(kek);
        if !bool::from(keys.commitment.as_slice().ct_eq(&self.commitment)) {
            return Err(OpenStanzaError::WrongKey);
        }
        let (wrapped, tag) =
            self.wrapped.split_last_chunk::<TAG_BYTES>().ok_or(OpenStanzaError::StanzaTampered)?;
        let aad = Aad::from(self.associated_data(prologue_digest));
        let nonce = Nonce::assume_unique_for_key(keys.nonce);
        aes_256_gcm(&keys.wrap_key).open_separate_gather(nonce, aad, wrapped, tag, out).map_err(
            |_| {
                out.zeroize();
                OpenStanzaError::StanzaTampered
            },
        )
    }

    /// The stanza, preceded by its length as two bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(256);
        self.fields.encode(&mut body);
        body.extend_from_slice(&self.commitment);
        body.extend_from_slice(&(self.wrapped.len() as u16).to_be_bytes());
        body.extend_from_slice(&self.wrapped);
        // At most MAX_STANZA_BYTES, which is below 2^16.
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(&body);
    }

    /// One stanza's bytes, without the length before them.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, StanzaFormatError> {
        let mut reader = Reader::new(body);
        let fields = Fields::decode(&mut reader)?;
        let commitment = reader.array()?;
        let length = usize::from(reader.u16()?);
        if !length.checked_sub(TAG_BYTES).is_some_and(|key| WRAPPABLE.contains(&key)) {
            return Err(StanzaFormatError::WrappedKeyLength(length));
        }
        let wrapped = reader.take(length)?.to_vec();
        if !reader.is_empty() {
            return Err(StanzaFormatError::TrailingBytes);
        }
        Ok(Self { fields, commitment, wrapped })
    }
}
