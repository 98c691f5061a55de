//! Checkpoints (<https://c2sp.org/tlog-checkpoint>): what a node says, signed, of its log at one size;
//! and cosignatures (<https://c2sp.org/tlog-cosignature>): that another node has seen that it extends
//! what was said before.

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU64, Ordering};

use data_encoding::{BASE64, HEXLOWER};
use quorate_types::{ClusterId, NodeId, UnixSeconds};
use quorate_wire::{PublicKey, SigningKey};

use crate::Hash;
use crate::note::{Note, NoteError, NoteSignature, SignatureType, key_id};

/// Which log it is: a node's, in one cluster, in one incarnation. Its text form is the origin line of
/// checkpoints and the name of the log's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The cluster that the node serves.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Which of the node's logs: a node whose log lost records begins another one.
    pub incarnation: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, node) = (self.cluster.as_bytes(), self.node.as_bytes());
        write!(
            f,
            "quorate/{}/{}/{}",
            HEXLOWER.encode(cluster),
            HEXLOWER.encode(node),
            self.incarnation
        )
    }
}

/// The text is no origin of a node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin is not that of a node's log")]
pub struct OriginError;

impl FromStr for LogId {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let mut parts = text.split('/');
        if parts.next() != Some("quorate") {
            return Err(OriginError);
        }
        let mut hex = || HEXLOWER.decode(parts.next()?.as_bytes()).ok();
        let cluster = hex().and_then(|bytes| ClusterId::from_slice(&bytes).ok());
        let node = hex().and_then(|bytes| NodeId::from_slice(&bytes).ok());
        let incarnation = parts.next().and_then(number);
        match (cluster, node, incarnation, parts.next()) {
            (Some(cluster), Some(node), Some(incarnation), None) => {
                Ok(Self { cluster, node, incarnation })
            }
            _ => Err(OriginError),
        }
    }
}

/// A decimal number without leading zeros or signs.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// A log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log. Those of nodes are the text of a [`LogId`].
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note, but none of a log.
    #[error("the note is not a checkpoint")]
    Form,
    /// Of another log than the one expected.
    #[error("the checkpoint is of another log")]
    Origin,
    /// Not signed with the log's key.
    #[error("the checkpoint is not signed with the log's key")]
    Signature,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// Reads the text of a note. Lines after the third are none of ours and are passed over, as the
    /// standard says.
    ///
    /// # Errors
    /// [`CheckpointError::Form`].
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Form)?;
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let origin = origin.filter(|line| !line.is_empty());
        let root = root.and_then(|line| BASE64.decode(line.as_bytes()).ok());
        let root = root.and_then(|bytes| Hash::from_slice(&bytes));
        match (origin, size.and_then(number), root, lines.any(str::is_empty)) {
            (Some(origin), Some(size), Some(root), false) => {
                Ok(Self { origin: origin.to_owned(), size, root })
            }
            _ => Err(CheckpointError::Form),
        }
    }
}

/// A checkpoint whose log has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a checkpoint and verifies the log's own signature.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(bytes: &[u8], log: &LogId, key: &PublicKey) -> Result<Self, CheckpointError> {
        Self::verify_origin(bytes, &log.to_string(), key)
    }

    /// The same with any of several keys: a log's key is replaced from time to time, and what was signed
    /// with the one before stays true.
    ///
    /// # Errors
    /// [`CheckpointError`], of the last key.
    pub fn verify_any(
        bytes: &[u8],
        log: &LogId,
        keys: &[PublicKey],
    ) -> Result<Self, CheckpointError> {
        let mut refused = CheckpointError::Signature;
        for key in keys {
            match Self::verify(bytes, log, key) {
                Ok(verified) => return Ok(verified),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The same for any log: the key's name is the origin.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify_origin(
        bytes: &[u8],
        origin: &str,
        key: &PublicKey,
    ) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::from_text(note.text())?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin);
        }
        if !note.is_signed_by(origin, key) {
            return Err(CheckpointError::Signature);
        }
        Ok(Self { checkpoint, note })
    }

    /// What the log says.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The whole note.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_string().into_bytes()
    }

    /// Adds a signature line, of which nothing is known.
    pub fn add(&mut self, signature: NoteSignature) {
        self.note.add(signature);
    }

    /// When the log of this name and key cosigned the checkpoint, if it did.
    #[must_use]
    pub fn cosigned_by(&self, name: &str, key: &PublicKey) -> Option<UnixSeconds> {
        let signature = self.note.signature_of(name, SignatureType::Cosignature, key)?;
        let (time, signature) = signature.bytes.split_at_checked(8)?;
        let time = u64::from_be_bytes(time.try_into().ok()?);
        let message = cosigned(time, self.note.text());
        key.verifies(message.as_bytes(), signature).then_some(UnixSeconds(time))
    }

    /// The same checkpoint with the log's own signatures alone, and those cosignatures that verify
    /// with one of these names and keys.
    #[must_use]
    pub fn with_cosignatures_of(
        &self,
        own: &[PublicKey],
        cosigners: &[(String, PublicKey)],
    ) -> (Self, Vec<usize>) {
        let mut note = Note::new(self.note.text().to_owned());
        let origin = &self.checkpoint.origin;
        for own in own {
            if let Some(signature) = self.note.signature_of(origin, SignatureType::Ed25519, own) {
                note.add(signature.clone());
            }
        }
        let mut counted = Vec::new();
        for (at, (name, key)) in cosigners.iter().enumerate() {
            if self.cosigned_by(name, key).is_none() {
                continue;
            }
            if let Some(line) = self.note.signature_of(name, SignatureType::Cosignature, key) {
                note.add(line.clone());
                counted.push(at);
            }
        }
        (Self { checkpoint: self.checkpoint.clone(), note }, counted)
    }
}

fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// A node's log keys, under the name of its log: sign the log's checkpoints, and cosign those of
/// others. While one key takes another's place both sign, so that whoever knows only one of them can
/// verify.
///
/// # Security
/// What they sign begins with "quorate/" or with "cosignature/v1" and never with what another key of a
/// node signs, so no signature passes for another kind.
pub struct LogSigner {
    log: LogId,
    name: String,
    key: SigningKey,
    others: Vec<SigningKey>,
    /// A bit for each of the keys that sign, the first one's the lowest.
    active: AtomicU64,
}

impl LogSigner {
    /// The signer of a log.
    #[must_use]
    pub fn new(log: LogId, key: SigningKey) -> Self {
        let (name, others) = (log.to_string(), Vec::new());
        Self { log, name, key, others, active: AtomicU64::new(1) }
    }

    /// With further keys, which do not sign before [`Self::sign_with`] says so. Keys past the 64th are
    /// left out.
    #[must_use]
    pub fn with_keys(mut self, others: impl IntoIterator<Item = SigningKey>) -> Self {
        self.others.extend(others);
        self.others.truncate(63);
        self
    }

    /// Lets those of its keys sign from now on that are among these, and no others. Changes nothing where
    /// it has none of them: a log always signs.
    pub fn sign_with(&self, keys: &[PublicKey]) {
        let bits = self.all().enumerate().filter(|(_, key)| keys.contains(&key.public()));
        let active = bits.fold(0, |all, (at, _)| all | 1 << at);
        if active != 0 {
            self.active.store(active, Ordering::Relaxed);
        }
    }

    /// Which log.
    #[must_use]
    pub const fn log(&self) -> &LogId {
        &self.log
    }

    fn all(&self) -> impl Iterator<Item = &SigningKey> {
        core::iter::once(&self.key).chain(&self.others)
    }

    fn signing(&self) -> impl Iterator<Item = &SigningKey> {
        let active = self.active.load(Ordering::Relaxed);
        self.all().enumerate().filter(move |(at, _)| active >> at & 1 == 1).map(|(_, key)| key)
    }

    /// The first of the keys that verify what it signs now.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.signing().next().unwrap_or(&self.key).public()
    }

    /// The keys that verify what it signs now.
    #[must_use]
    pub fn publics(&self) -> Vec<PublicKey> {
        self.signing().map(SigningKey::public).collect()
    }

    /// Signs what the log is at one size. The same bytes each time, while the same keys sign.
    ///
    /// # Security
    /// Only for a size and root that are durable: a log never says two things of one size.
    #[must_use]
    pub fn sign(&self, size: u64, root: Hash) -> SignedCheckpoint {
        let checkpoint = Checkpoint { origin: self.name.clone(), size, root };
        let text = checkpoint.text();
        let mut note = Note::new(text.clone());
        for key in self.signing() {
            note.add(NoteSignature {
                name: self.name.clone(),
                key_id: key_id(&self.name, SignatureType::Ed25519, &key.public()),
                bytes: key.sign_text(&text).to_vec(),
            });
        }
        SignedCheckpoint { checkpoint, note }
    }

    /// Cosigns another log's checkpoint: a statement that, as of `now`, it is the largest one seen and
    /// extends all that were seen before.
    ///
    /// # Security
    /// Only after the consistency proof from the last one that was cosigned, and once that is durable.
    pub fn cosign(&self, checkpoint: &mut SignedCheckpoint, now: UnixSeconds) {
        let message = cosigned(now.0, checkpoint.note.text());
        for key in self.signing() {
            let signature = key.sign_text(&message);
            checkpoint.note.add(NoteSignature {
                name: self.name.clone(),
                key_id: key_id(&self.name, SignatureType::Cosignature, &key.public()),
                bytes: [now.0.to_be_bytes().as_slice(), &signature].concat(),
            });
        }
    }
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSigner({}, redacted)", self.name)
    }
}
