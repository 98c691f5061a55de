//! Signed notes (<https://c2sp.org/signed-note>) with Ed25519 signatures.

use data_encoding::BASE64;
use quorate_wire::PublicKey;
use sha2::{Digest as _, Sha256};

/// What every signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Signatures of one note at most. The standard asks for at least 16.
pub const MAX_NOTE_SIGNATURES: usize = 256;

/// Bytes of one note at most: a checkpoint with all its signatures is far below.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;

/// What a signature of a key is: the standard's signature type identifiers that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureType {
    /// Ed25519 over the note's text.
    Ed25519,
    /// A timestamped Ed25519 cosignature (<https://c2sp.org/tlog-cosignature>).
    Cosignature,
}

impl SignatureType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// The number that, with its name, says which key made a signature:
/// `SHA-256(name || 0x0A || type || key)[:4]`.
#[must_use]
pub fn key_id(name: &str, kind: SignatureType, key: &PublicKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', kind.byte()]);
    hash.update(key.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

/// One signature line, decoded. Whose it is, is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// See [`key_id`].
    pub key_id: [u8; 4],
    /// What follows the key id.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// The signature as a line, with its newline.
    #[must_use]
    pub fn line(&self) -> String {
        let bytes = [self.key_id.as_slice(), &self.bytes].concat();
        format!("{DASH}{} {}\n", self.name, BASE64.encode(&bytes))
    }

    /// Reads one line, without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        if !is_key_name(name) {
            return None;
        }
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (key_id, bytes) = bytes.split_at_checked(4)?;
        if bytes.is_empty() {
            return None;
        }
        let key_id = key_id.try_into().ok()?;
        Some(Self { name: name.to_owned(), key_id, bytes: bytes.to_vec() })
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

/// A note: its text, and signatures that nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// Why bytes are not a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Larger than any note is.
    #[error("a note has at most {MAX_NOTE_BYTES} bytes")]
    Size,
    /// Not UTF-8, or with control characters.
    #[error("a note is text")]
    Text,
    /// No empty line between text and signatures, or no signature.
    #[error("a note is text, an empty line, and signature lines")]
    Form,
    /// A line below the text that is no signature.
    #[error("a line of the note is no signature")]
    Signature,
    /// More signatures than any note has.
    #[error("a note has at most {MAX_NOTE_SIGNATURES} signatures")]
    Count,
}

impl Note {
    /// A note without signatures yet. `text` ends in a newline.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Size);
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Text);
        }
        // The last empty line: signature lines are never empty.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        if lines.split('\n').count() > MAX_NOTE_SIGNATURES {
            return Err(NoteError::Count);
        }
        let signature = |line| NoteSignature::parse(line).ok_or(NoteError::Signature);
        let signatures = lines.split('\n').map(signature).collect::<Result<_, _>>()?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, of which nothing is known.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature. One of the same key that is there already is replaced.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures
            .retain(|known| known.name != signature.name || known.key_id != signature.key_id);
        self.signatures.push(signature);
    }

    /// The signature of a key of this name, if there is one. It is not verified.
    #[must_use]
    pub fn signature_of(
        &self,
        name: &str,
        kind: SignatureType,
        key: &PublicKey,
    ) -> Option<&NoteSignature> {
        let id = key_id(name, kind, key);
        self.signatures.iter().find(|signature| signature.name == name && signature.key_id == id)
    }

    /// Whether the key signed the text under this name.
    #[must_use]
    pub fn is_signed_by(&self, name: &str, key: &PublicKey) -> bool {
        self.signature_of(name, SignatureType::Ed25519, key)
            .is_some_and(|signature| key.verifies(self.text.as_bytes(), &signature.bytes))
    }
}

impl core::fmt::Display for Note {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| f.write_str(&signature.line()))
    }
}
