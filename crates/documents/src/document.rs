//! Document versions: reading them strictly, writing and signing them.

use quorate_types::limits::{
    GRANT_DAYS, MAX_AUTHORITY_BYTES, MAX_DOCUMENT_BYTES, MAX_FRONTIER, ROSTER_DAYS,
};
use quorate_types::{Digest, DocumentId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{EnvelopeError, PayloadType, PublicKey, SigningKey, Verified, digests, strict};
use rand_core::CryptoRng;

use crate::body::{Body, Kind};
use crate::fields::{BodyError, sorted};

/// Length of the random salt of a first version, which makes its id unique.
const SALT_BYTES: usize = 16;
/// Heads that one version may merge.
const MAX_PREDECESSORS: usize = 64;
const SECONDS_PER_DAY: u64 = 86_400;

/// Why bytes are not a document version. Who may sign it is another question: [`crate::admit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The envelope or a signature is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not the canonical encoding of a document.
    #[error(transparent)]
    Decode(#[from] strict::DecodeError),
    /// Larger than any document may be.
    #[error(
        "the document has {0} bytes; at most {MAX_DOCUMENT_BYTES} are allowed, or {MAX_AUTHORITY_BYTES} in a roster or tenant"
    )]
    TooLong(usize),
    /// The body breaks a rule of its kind.
    #[error("the {kind} document is not valid: {source}")]
    Body {
        /// The kind of document.
        kind: Kind,
        /// What is wrong.
        source: BodyError,
    },
    /// No body, or one of a kind that this version does not know.
    #[error("the document has no body that this version knows")]
    NoBody,
    /// Salt, id, version and predecessors do not fit together: a first version has a salt of 16
    /// bytes and neither id nor predecessors; a later one has an id, predecessors and no salt.
    #[error("salt, id, version and predecessors of the document do not fit together")]
    Lineage,
    /// Predecessors not sorted, doubled, or too many.
    #[error("the document's predecessors are not sorted, each once, at most {MAX_PREDECESSORS}")]
    Predecessors,
    /// A roster names an authority, or another document names none.
    #[error("a roster names no authority, and every other document names one")]
    Authority,
    /// A frontier where none may be (in anything but a later version of a roster or tenant), or
    /// one that is not sorted by id and digest, or too long.
    #[error(
        "the frontier is not sorted by id, has more than {MAX_FRONTIER} entries, or the document may have none"
    )]
    Frontier,
    /// A roster that is believed for longer than 400 days, or never.
    #[error("a roster expires after its creation and within {ROSTER_DAYS} days of it")]
    RosterExpiry,
    /// A grant that lasts longer than 400 days.
    #[error("a grant expires within {GRANT_DAYS} days of its creation")]
    GrantExpiry,
    /// A key that came into a state after its document was signed.
    #[error("a key cannot have come into a state after its document was signed")]
    StateTime,
    /// The draft was signed by nobody.
    #[error("a document needs at least one signature")]
    Unsigned,
    /// A successor of other documents than one, or of none.
    #[error("a successor names versions of one document")]
    Succession,
    /// Signatures of another document version.
    #[error("the signatures belong to another document version")]
    OtherDocument,
}

/// One document that an authority version keeps, with everything behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontierEntry {
    /// The document.
    pub id: DocumentId,
    /// The digest of the version kept.
    pub digest: Digest,
    /// The version's number.
    pub version: u64,
}

/// One version of a document, checked by itself. Who signed it is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    id: DocumentId,
    digest: Digest,
    version: u64,
    predecessors: Vec<Digest>,
    authority: Option<Digest>,
    created_at: UnixSeconds,
    frontier: Vec<FrontierEntry>,
    body: Body,
    payload: Vec<u8>,
}

impl Document {
    /// A document version from payload bytes whose signatures were verified before, such as a row
    /// of the node's own database.
    ///
    /// # Errors
    /// [`DocumentError`]: decoding is as strict as for bytes from the network.
    pub fn from_payload(payload: &[u8]) -> Result<Self, DocumentError> {
        if payload.len() > MAX_AUTHORITY_BYTES {
            return Err(DocumentError::TooLong(payload.len()));
        }
        let proto: v1::Document = strict::decode("Document", payload)?;
        let digest = digests::document_digest(payload);
        let id = lineage(&proto, digest)?;
        let predecessors = digests_of(&proto.predecessors)?;
        if predecessors.len() > MAX_PREDECESSORS
            || sorted("predecessors", &predecessors).is_err()
            || predecessors.contains(&digest)
        {
            return Err(DocumentError::Predecessors);
        }
        let encoded = proto.body.as_ref().ok_or(DocumentError::NoBody)?;
        let body = Body::from_proto(encoded)
            .map_err(|source| DocumentError::Body { kind: kind_of(encoded), source })?;
        let authority = match (proto.authority.as_slice(), body.kind()) {
            ([], Kind::Roster) => None,
            (bytes, kind) if kind != Kind::Roster => {
                Some(Digest::from_slice(bytes).map_err(|_| DocumentError::Authority)?)
            }
            _ => return Err(DocumentError::Authority),
        };
        if !body.kind().is_authority() && payload.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLong(payload.len()));
        }
        let frontier = frontier_of(&proto, &body)?;
        let created_at = UnixSeconds(proto.created_at);
        times(&body, created_at)?;
        Ok(Self {
            id,
            digest,
            version: proto.version,
            predecessors,
            authority,
            created_at,
            frontier,
            body,
            payload: payload.to_vec(),
        })
    }

    /// The document's id: the digest of its first version.
    #[must_use]
    pub const fn id(&self) -> DocumentId {
        self.id
    }

    /// The digest of this version.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The version's number, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Digests of the versions that this one succeeds, sorted; none for the first.
    #[must_use]
    pub fn predecessors(&self) -> &[Digest] {
        &self.predecessors
    }

    /// The authority version that it is signed under; none for a roster.
    #[must_use]
    pub const fn authority(&self) -> Option<Digest> {
        self.authority
    }

    /// When it was signed, by the signer's clock.
    #[must_use]
    pub const fn created_at(&self) -> UnixSeconds {
        self.created_at
    }

    /// What a later version of an authority document keeps, sorted by id and digest.
    #[must_use]
    pub fn frontier(&self) -> &[FrontierEntry] {
        &self.frontier
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What a frontier says to keep this version.
    #[must_use]
    pub const fn frontier_entry(&self) -> FrontierEntry {
        FrontierEntry { id: self.id, digest: self.digest, version: self.version }
    }
}

/// What the body says of times, against the time of the document.
fn times(body: &Body, created_at: UnixSeconds) -> Result<(), DocumentError> {
    match body {
        Body::Roster(roster)
            if roster.expires_at <= created_at
                || roster.expires_at > created_at.plus(ROSTER_DAYS * SECONDS_PER_DAY) =>
        {
            Err(DocumentError::RosterExpiry)
        }
        Body::Grant(grant) if grant.expires_at > created_at.plus(GRANT_DAYS * SECONDS_PER_DAY) => {
            Err(DocumentError::GrantExpiry)
        }
        Body::Key(key) if key.state_history.iter().any(|change| change.at > created_at) => {
            Err(DocumentError::StateTime)
        }
        _ => Ok(()),
    }
}

const fn kind_of(body: &v1::document::Body) -> Kind {
    match body {
        v1::document::Body::Roster(_) => Kind::Roster,
        v1::document::Body::Tenant(_) => Kind::Tenant,
        v1::document::Body::Principal(_) => Kind::Principal,
        v1::document::Body::Key(_) => Kind::Key,
        v1::document::Body::KeyOrder(_) => Kind::KeyOrder,
        v1::document::Body::Policy(_) => Kind::Policy,
        v1::document::Body::Grant(_) => Kind::Grant,
        v1::document::Body::Terms(_) => Kind::Terms,
    }
}

fn digests_of(list: &[Vec<u8>]) -> Result<Vec<Digest>, DocumentError> {
    list.iter()
        .map(|bytes| Digest::from_slice(bytes).map_err(|_| DocumentError::Predecessors))
        .collect()
}

fn lineage(proto: &v1::Document, digest: Digest) -> Result<DocumentId, DocumentError> {
    match proto.version {
        0 => Err(DocumentError::Lineage),
        1 if proto.salt.len() == SALT_BYTES
            && proto.id.is_empty()
            && proto.predecessors.is_empty() =>
        {
            Ok(digest.into())
        }
        1 => Err(DocumentError::Lineage),
        _ if proto.salt.is_empty() && !proto.predecessors.is_empty() => {
            DocumentId::from_slice(&proto.id).map_err(|_| DocumentError::Lineage)
        }
        _ => Err(DocumentError::Lineage),
    }
}

fn frontier_of(proto: &v1::Document, body: &Body) -> Result<Vec<FrontierEntry>, DocumentError> {
    let allowed = proto.version > 1 && body.kind().is_authority();
    if !proto.frontier.is_empty() && !allowed || proto.frontier.len() > MAX_FRONTIER {
        return Err(DocumentError::Frontier);
    }
    let mut frontier = Vec::with_capacity(proto.frontier.len());
    for entry in &proto.frontier {
        frontier.push(FrontierEntry {
            id: DocumentId::from_slice(&entry.id).map_err(|_| DocumentError::Frontier)?,
            digest: Digest::from_slice(&entry.digest).map_err(|_| DocumentError::Frontier)?,
            version: entry.version,
        });
    }
    let keys: Vec<(DocumentId, Digest)> = frontier.iter().map(|e| (e.id, e.digest)).collect();
    if sorted("frontier", &keys).is_err() || frontier.iter().any(|e| e.version == 0) {
        return Err(DocumentError::Frontier);
    }
    Ok(frontier)
}

/// A document version with its signatures, all of them verified.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedDocument {
    document: Document,
    envelope: Envelope,
    signers: Vec<PublicKey>,
}

impl SignedDocument {
    /// Verifies every signature, decodes strictly and checks the version by itself.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(envelope: Envelope) -> Result<Self, DocumentError> {
        // Decoding is bounded by the length; every signature costs more than most documents.
        let document = Document::from_payload(&envelope.payload)?;
        Self::verify(document, envelope, None)
    }

    /// The same for an envelope whose payload is decoded already. Signatures that stand, in the same bytes, on
    /// `known` are not verified again where it is the same version.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn verify(
        document: Document,
        envelope: Envelope,
        known: Option<&Self>,
    ) -> Result<Self, DocumentError> {
        if document.payload != envelope.payload {
            return Err(DocumentError::OtherDocument);
        }
        let same = |known: &&Self| {
            known.digest() == document.digest()
                && known.envelope.payload_type == envelope.payload_type
        };
        let known = known.filter(same).map_or(&[][..], |known| &known.envelope.signatures);
        let new: Vec<_> =
            envelope.signatures.iter().filter(|s| !known.contains(s)).cloned().collect();
        let count = envelope.signatures.len();
        if count > quorate_types::limits::MAX_SIGNATURES {
            return Err(EnvelopeError::Count(count).into());
        }
        if !new.is_empty() || known.is_empty() {
            Verified::new(PayloadType::Document, Envelope { signatures: new, ..envelope.clone() })?;
        }
        let mut signers = Vec::with_capacity(count);
        for signature in &envelope.signatures {
            let signer =
                PublicKey::from_slice(&signature.key).map_err(|_| EnvelopeError::Signature)?;
            if signers.contains(&signer) {
                return Err(EnvelopeError::Twice.into());
            }
            signers.push(signer);
        }
        if signers.is_empty() {
            return Err(EnvelopeError::Count(0).into());
        }
        Ok(Self { document, envelope, signers })
    }

    /// A document from an envelope that [`SignedDocument::parse`] accepted before.
    ///
    /// # Errors
    /// [`DocumentError`] when the row does not decode.
    ///
    /// # Security
    /// Signatures are not verified again. Only for rows that this process's own node wrote.
    pub fn verified_before(envelope: Envelope) -> Result<Self, DocumentError> {
        let document = Document::from_payload(&envelope.payload)?;
        let signers = envelope
            .signatures
            .iter()
            .map(|s| PublicKey::from_slice(&s.key).map_err(|_| EnvelopeError::Signature))
            .collect::<Result<_, _>>()?;
        Ok(Self { document, envelope, signers })
    }

    /// The document version.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// Who signed, each once.
    #[must_use]
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }

    /// The envelope, to be stored and sent on.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// One more signature, unless the key has signed already.
    ///
    /// # Errors
    /// [`DocumentError::Envelope`] when the envelope is full.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), DocumentError> {
        if self.signers.contains(&key.public()) {
            return Ok(());
        }
        let count = self.signers.len() + 1;
        if count > quorate_types::limits::MAX_SIGNATURES {
            return Err(EnvelopeError::Count(count).into());
        }
        let signature = key.sign(PayloadType::Document, &self.envelope.payload);
        self.envelope.signatures.push(signature);
        self.signers.push(key.public());
        Ok(())
    }

    /// Takes over the signatures that another copy of the same version carries. Says whether
    /// there were new ones: a version that was known under fewer signatures may count for more.
    ///
    /// # Errors
    /// [`DocumentError::OtherDocument`], or [`DocumentError::Envelope`] when the envelope is full.
    pub fn absorb(&mut self, other: &Self) -> Result<bool, DocumentError> {
        if self.digest() != other.digest() {
            return Err(DocumentError::OtherDocument);
        }
        let new: Vec<_> = other
            .signers
            .iter()
            .zip(&other.envelope.signatures)
            .filter(|(signer, _)| !self.signers.contains(signer))
            .collect();
        let count = self.signers.len() + new.len();
        if count > quorate_types::limits::MAX_SIGNATURES {
            return Err(EnvelopeError::Count(count).into());
        }
        let any = !new.is_empty();
        for (signer, signature) in new {
            self.signers.push(*signer);
            self.envelope.signatures.push(signature.clone());
        }
        Ok(any)
    }
}

impl core::ops::Deref for SignedDocument {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

/// A document version that nobody has signed yet.
#[derive(Debug, Clone)]
pub struct Draft {
    document: Document,
}

impl Draft {
    /// The first version of a document. Rosters have no authority; a root tenant and its principals
    /// name a roster version; a child tenant names a version of its parent, principals and keys a
    /// version of their tenant.
    ///
    /// # Errors
    /// [`DocumentError`] when the body or the combination is not valid.
    pub fn first(
        body: Body,
        authority: Option<Digest>,
        created_at: UnixSeconds,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, DocumentError> {
        let mut salt = vec![0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        Self::encode(&v1::Document {
            salt,
            id: Vec::new(),
            version: 1,
            predecessors: Vec::new(),
            authority: bytes(authority),
            created_at: created_at.0,
            frontier: Vec::new(),
            body: Some(body.to_proto()),
        })
    }

    /// A successor of one version, or of several heads, which it merges.
    ///
    /// A tenant's successor names the tenant's own predecessor as its authority. `frontier` is for
    /// rosters and tenants; [`crate::DocumentSet::frontier`] makes one. Here it is sorted.
    ///
    /// # Errors
    /// [`DocumentError`] when there is no predecessor, they belong to several documents, or the
    /// result is not valid.
    pub fn succeed(
        predecessors: &[&SignedDocument],
        body: Body,
        authority: Option<Digest>,
        frontier: Vec<FrontierEntry>,
        created_at: UnixSeconds,
    ) -> Result<Self, DocumentError> {
        let first = predecessors.first().ok_or(DocumentError::Succession)?;
        if predecessors.iter().any(|p| p.id() != first.id()) {
            return Err(DocumentError::Succession);
        }
        let newest = predecessors.iter().map(|p| p.version()).max().unwrap_or_default();
        let mut digests: Vec<Digest> = predecessors.iter().map(|p| p.digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut frontier = frontier;
        frontier.sort_unstable();
        frontier.dedup();
        Self::encode(&v1::Document {
            salt: Vec::new(),
            id: first.id().as_bytes().to_vec(),
            version: newest.checked_add(1).ok_or(DocumentError::Lineage)?,
            predecessors: digests.iter().map(|d| d.as_bytes().to_vec()).collect(),
            authority: bytes(authority),
            created_at: created_at.0,
            frontier: frontier
                .iter()
                .map(|e| v1::FrontierEntry {
                    id: e.id.as_bytes().to_vec(),
                    version: e.version,
                    digest: e.digest.as_bytes().to_vec(),
                })
                .collect(),
            body: Some(body.to_proto()),
        })
    }

    fn encode(proto: &v1::Document) -> Result<Self, DocumentError> {
        Ok(Self { document: Document::from_payload(&strict::encode(proto))? })
    }

    /// What will be signed.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// Signs by one key or several; more can be added later.
    ///
    /// # Errors
    /// [`DocumentError::Unsigned`] without keys.
    pub fn sign(self, keys: &[&SigningKey]) -> Result<SignedDocument, DocumentError> {
        let (first, rest) = keys.split_first().ok_or(DocumentError::Unsigned)?;
        let envelope = first.envelop(PayloadType::Document, self.document.payload.clone());
        let signers = vec![first.public()];
        let mut signed = SignedDocument { document: self.document, envelope, signers };
        for key in rest {
            signed.add_signature(key)?;
        }
        Ok(signed)
    }
}

fn bytes(digest: Option<Digest>) -> Vec<u8> {
    digest.map(|d| d.as_bytes().to_vec()).unwrap_or_default()
}
