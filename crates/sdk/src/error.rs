//! Errors: one enum for each kind of operation, under one [`Error`], each with a stable code.

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_object::kek::FragmentId;
use quorate_types::{Digest, KeyId, KeyVersion};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::Refusal;

use crate::transport::Unreachable;

/// What went wrong. [`Self::code`] is stable; [`fmt::Display`] is for people.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The profile directory.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// An invitation or a node card.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// What the caller asked for cannot be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Too few nodes answered.
    #[error(transparent)]
    NotQuorate(Box<NotQuorate>),
    /// So many nodes said no that the others are too few; this is what the first of them said.
    #[error(transparent)]
    Refused(Box<NodeRefusal>),
    /// Too few nodes answered, and some have lost their shares.
    #[error(transparent)]
    SharesLost(Box<crate::shares_lost::SharesLost>),
    /// A key: finding it, verifying it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Making a key.
    #[error(transparent)]
    Ceremony(Box<CeremonyError>),
    /// Keys stand in the way of other committees.
    #[error(transparent)]
    Committee(#[from] crate::membership::CommitteeError),
    /// A sealed object or a wrapped data key.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A customer fragment.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// The cluster's documents.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// More administrators must sign before any node takes the change.
    #[error("more administrators must sign: {0}")]
    Unfinished(Box<crate::changes::Change>),
    /// Reading or writing the caller's own stream.
    #[error("the {stream} failed: {source}")]
    Stream {
        /// "input" or "output".
        stream: &'static str,
        /// What the operating system or the stream says.
        #[source]
        source: Arc<io::Error>,
    },
}

/// One stable code, for documentation and for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What stayed as it was.
    pub unchanged: &'static str,
    /// What to do next.
    pub next: &'static str,
}

/// The profile directory could not be made, read or written, or says something else than expected.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The operating system said no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// There is a profile already.
    #[error("there is a profile in {} already", .0.display())]
    Exists(PathBuf),
    /// There is no profile.
    #[error("there is no profile in {}", .0.display())]
    Missing(PathBuf),
    /// A file of the profile is not what this version writes.
    #[error("{path} is damaged, or was written by another version: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Others may read a secret file.
    #[error("{path} may be read by others (mode {mode:o})", path = path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The profile has joined no cluster.
    #[error("this profile has joined no cluster")]
    NotJoined,
    /// The profile belongs to another cluster.
    #[error("this profile belongs to another cluster")]
    OtherCluster,
    /// The profile has no administrator's key.
    #[error("this profile has no administrator's key")]
    NoAdminKey,
}

/// An invitation or node card was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Not an invitation: mistyped, cut short, or of another version.
    #[error("this is not an invitation: {0}")]
    Malformed(&'static str),
    /// The fingerprint is not the one that was told.
    #[error("the invitation's fingerprint is {found}, not {expected}")]
    Fingerprint {
        /// The fingerprint that the caller was told.
        expected: Digest,
        /// The fingerprint of what came.
        found: Digest,
    },
    /// The roster in it is none.
    #[error("the roster in the invitation is not valid: {0}")]
    Roster(String),
    /// It is for a principal whose document names another key than this profile's.
    #[error(
        "the invitation is for another principal: its document does not name this profile's key"
    )]
    OtherKey,
    /// A node card that the node did not sign.
    #[error("the node card is not valid: {0}")]
    NodeCard(String),
}

/// The request cannot be made as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not a threshold.
    #[error(transparent)]
    Threshold(#[from] quorate_types::ThresholdError),
    /// No node of this name or id.
    #[error("no node of the roster is called \"{0}\"")]
    NodeUnknown(String),
    /// One context for all or one for each.
    #[error("{contexts} encryption contexts for {items} items; give one for all, or one for each")]
    Contexts {
        /// How many contexts.
        contexts: usize,
        /// How many items.
        items: usize,
    },
    /// Not an encryption context.
    #[error(transparent)]
    Context(#[from] quorate_wire::ContextError),
    /// Something else about the request.
    #[error("{0}")]
    Invalid(String),
}

/// Fewer nodes answered than are needed. Nothing is lost: every share is where it was.
#[derive(Debug, Clone, PartialEq)]
pub struct NotQuorate {
    /// What was asked for, as a verb: "decrypt", "create the key".
    pub operation: &'static str,
    /// How many answers are needed.
    pub needed: usize,
    /// How many nodes could have answered.
    pub of: usize,
    /// How many answered well.
    pub answered: usize,
    /// The nodes that could not be reached, and why.
    pub unreachable: Vec<Unreachable>,
    /// The nodes that said no, and why.
    pub refused: Vec<NodeRefusal>,
    /// The nodes whose answers were wrong, and how.
    pub wrong: Vec<WrongAnswer>,
}

impl std::error::Error for NotQuorate {}

impl NotQuorate {
    /// One node's refusal where refusals alone leave too few others; otherwise who is missing.
    pub(crate) fn into_error(mut self) -> Error {
        if !self.refused.is_empty() && self.of - self.refused.len().min(self.of) < self.needed {
            // What most of them say: a single odd answer is not shown as everybody's.
            let count = |code: &str| self.refused.iter().filter(|r| r.refusal.code == code).count();
            let most = (0..self.refused.len())
                .max_by_key(|i| self.refused.get(*i).map_or(0, |r| count(&r.refusal.code)))
                .unwrap_or_default();
            return Error::Refused(Box::new(self.refused.swap_remove(most)));
        }
        Error::NotQuorate(Box::new(self))
    }
}

impl fmt::Display for NotQuorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nodes that were still thinking when the rest had failed may yet answer; they are too few.
        let failed = self.unreachable.len() + self.refused.len() + self.wrong.len();
        write!(
            f,
            "cannot {}: {} of {} nodes must answer, and {} can",
            self.operation,
            self.needed,
            self.of,
            self.of.saturating_sub(failed)
        )?;
        list(f, &self.unreachable, &self.refused, &self.wrong)?;
        f.write_str(". Nothing was lost")
    }
}

/// One node's no.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRefusal {
    /// The node's name in the roster.
    pub name: String,
    /// What it said.
    pub refusal: Refusal,
}

impl std::error::Error for NodeRefusal {}

impl fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused: {}", self.name, self.refusal.message)
    }
}

/// A node whose answer was wrong: it cheats, or it is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongAnswer {
    /// The node's name in the roster.
    pub name: String,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.what)
    }
}

/// A key cannot be used as it was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No node that answered knows it for this caller.
    #[error("no key \"{0}\" is known to you")]
    Unknown(String),
    /// Several keys have this alias.
    #[error("{}", several(alias, ids, unverified, *more))]
    Ambiguous {
        /// The alias.
        alias: String,
        /// The keys of that name that verify.
        ids: Vec<KeyId>,
        /// Those that do not, though somebody who may has signed that they are called so.
        unverified: Vec<KeyId>,
        /// There are more than nodes show at once.
        more: bool,
    },
    /// There is a key of this alias already.
    #[error("there is a key called \"{alias}\" already: {id}")]
    Exists {
        /// The alias.
        alias: String,
        /// The key.
        id: KeyId,
    },
    /// The alias meant another key before.
    #[error("\"{alias}\" now means {found}, but this profile knows it as {pinned}")]
    AliasMoved {
        /// The alias.
        alias: String,
        /// The key that this profile has pinned.
        pinned: KeyId,
        /// The key that the nodes name.
        found: KeyId,
    },
    /// Documents or certificates do not verify from the pinned roster on.
    #[error("key {id} does not verify: {why}")]
    Invalid {
        /// The key.
        id: KeyId,
        /// What does not fit.
        why: String,
    },
    /// The roster that this client trusts does not name one of its nodes.
    #[error("the roster that is trusted here does not name {node}, which holds shares of key {id}")]
    NodeUnknown {
        /// The key.
        id: KeyId,
        /// The node.
        node: quorate_types::NodeId,
    },
    /// There is no complete certificate yet.
    #[error("version {version} of key {id} is not finished")]
    NotReady {
        /// The key.
        id: KeyId,
        /// The version.
        version: KeyVersion,
    },
    /// The key has no such version.
    #[error("key {id} has no version {version}")]
    VersionUnknown {
        /// The key.
        id: KeyId,
        /// The version.
        version: KeyVersion,
    },
    /// A committee with N = T, not allowed explicitly.
    #[error(
        "key {id} needs all {n} nodes of its committee, and does not allow that for encrypting"
    )]
    Fragile {
        /// The key.
        id: KeyId,
        /// The size of its committee.
        n: u16,
    },
    /// The key requires a customer fragment, and this client has none.
    #[error("key {id} requires a customer fragment, and there is none here")]
    FragmentRequired {
        /// The key.
        id: KeyId,
    },
}

/// A customer fragment is not here, or not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// The object names a fragment that is not here.
    #[error("this needs the customer fragment {fragment}, which is not here")]
    Missing {
        /// Its check value.
        fragment: FragmentId,
    },
    /// It is here, and nothing was given that unlocks it.
    #[error("the customer fragment {fragment} is here, and nothing was given that unlocks it")]
    Locked {
        /// Its check value.
        fragment: FragmentId,
    },
    /// What was given does not unlock it.
    #[error("the {with} does not unlock the customer fragment {fragment}")]
    WrongLock {
        /// Its check value.
        fragment: FragmentId,
        /// "key file" or "passphrase".
        with: &'static str,
    },
    /// The key file is not one.
    #[error("{} has {found} bytes; a key file has exactly 32", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Its length, at most one more than it should be.
        found: usize,
    },
    /// It is kept already.
    #[error("the customer fragment {fragment} is here already")]
    Exists {
        /// Its check value.
        fragment: FragmentId,
    },
    /// There are several, and none was chosen.
    #[error("there are several customer fragments: {}", fragments.iter().map(FragmentId::to_string).collect::<Vec<_>>().join(", "))]
    Several {
        /// Their check values.
        fragments: Vec<FragmentId>,
    },
    /// A file is not what this version writes.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A slot could not be made or tried.
    #[error(transparent)]
    Slot(quorate_keyslots::SlotError),
}

/// Making a key stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct CeremonyError {
    /// What happened.
    pub what: String,
    /// The stable code.
    pub code: &'static str,
    /// The key whose version is unfinished, if its document was stored.
    pub key: Option<KeyId>,
    /// Nodes that could not be reached.
    pub unreachable: Vec<Unreachable>,
    /// Nodes that refused.
    pub refused: Vec<NodeRefusal>,
    /// Nodes that cheated.
    pub wrong: Vec<WrongAnswer>,
}

impl std::error::Error for CeremonyError {}

impl fmt::Display for CeremonyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        list(f, &self.unreachable, &self.refused, &self.wrong)
    }
}

impl CeremonyError {
    pub(crate) fn into_error(self) -> Error {
        Error::Ceremony(Box::new(self))
    }
}

fn several(alias: &str, ids: &[KeyId], unverified: &[KeyId], more: bool) -> String {
    let not = unverified.iter().map(|id| format!("{id}, which does not verify"));
    let all: Vec<String> = ids.iter().map(KeyId::to_string).chain(not).collect();
    if more {
        return format!("more keys are called \"{alias}\" than nodes show at once");
    }
    format!("{} keys are called \"{alias}\": {}", all.len(), all.join("; "))
}

/// Who did not do their part, and why.
fn list(
    f: &mut fmt::Formatter<'_>,
    unreachable: &[Unreachable],
    refused: &[NodeRefusal],
    wrong: &[WrongAnswer],
) -> fmt::Result {
    for (i, node) in unreachable.iter().enumerate() {
        f.write_str(if i == 0 { "; not reached: " } else { ", " })?;
        write!(f, "{} ({})", node.name, node.reason)?;
    }
    for (i, node) in refused.iter().enumerate() {
        f.write_str(if i == 0 { "; refused by " } else { ", " })?;
        write!(f, "{} ({})", node.name, node.refusal.message)?;
    }
    for (i, node) in wrong.iter().enumerate() {
        f.write_str(if i == 0 { "; wrong answers from " } else { ", " })?;
        write!(f, "{node}")?;
    }
    Ok(())
}

/// A sealed object or wrapped data key did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not one of ours, or of a newer version.
    #[error("this is not a sealed object: {0}")]
    Format(String),
    /// No reader of the object is a key that this caller can use.
    #[error("none of the object's {stanzas} readers is a key known to you")]
    NoReader {
        /// How many readers the header names.
        stanzas: usize,
    },
    /// The nodes answered right, and the result opens nothing: the context is another, or the
    /// header was changed.
    #[error(
        "the object does not open: the encryption context is another than the writer's, or the header was changed"
    )]
    WrongContext,
    /// The header's authentication fails.
    #[error("the object's header was changed")]
    Header(String),
    /// The payload's authentication fails.
    #[error("the object's payload was changed or cut short: {0}")]
    Payload(String),
    /// The payload ends too early.
    #[error("the object ends too early: it is truncated, or is still being written")]
    Truncated,
    /// A range outside the object.
    #[error("bytes {offset}+{length} are outside the object's {total} bytes")]
    Range {
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// How long the object is.
        total: u64,
    },
    /// Sealing failed.
    #[error("nothing was sealed: {0}")]
    Seal(String),
}

/// Documents of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A document breaks a rule.
    #[error("{0}")]
    Document(String),
    /// The roster's time is over.
    #[error("the roster has expired")]
    RosterExpired,
    /// What a node calls the newest roster does not follow from the pinned one.
    #[error("the roster does not follow from the one that this profile trusts: {0}")]
    RosterInvalid(String),
    /// No principal of this name or id.
    #[error("no principal \"{0}\" is known")]
    PrincipalUnknown(String),
    /// The principal is revoked, which is never taken back.
    #[error("the principal \"{0}\" is revoked")]
    PrincipalRevoked(String),
    /// No tenant of this name or id that this client is shown.
    #[error("no tenant \"{0}\" is known")]
    TenantUnknown(String),
    /// The tenant has no policy of this name or id.
    #[error("no policy \"{0}\" is known")]
    PolicyUnknown(String),
    /// The tenant has given no grant of this id.
    #[error("no grant \"{0}\" is known")]
    GrantUnknown(String),
    /// The administrator's key at hand is none of those that must sign.
    #[error("this profile's administrator's key is none of those of {0}")]
    NotAdministrator(String),
    /// What a change was made from has changed since.
    #[error("the change does not fit any more: {0}")]
    ChangeStale(String),
    /// Not a change file of this cluster.
    #[error("not a change: {0}")]
    ChangeInvalid(String),
    /// The clocks of the nodes are too far apart.
    #[error("no time is within {seconds} s of {needed} nodes' clocks: {clocks}")]
    Clocks {
        /// The tolerance.
        seconds: u64,
        /// How many clocks must agree.
        needed: usize,
        /// The nodes and how far each is from this machine's clock.
        clocks: String,
    },
}

macro_rules! codes {
    ($($constant:ident $code:literal, $meaning:literal, $unchanged:literal, $next:literal;)*) => {
        #[allow(dead_code, reason = "the table is the documentation of codes")]
        pub(crate) mod code { $(pub(crate) const $constant: &str = $code;)* }

        /// All codes of this library. What nodes refuse with is listed in [`RefusalCode::ALL`].
        pub const ERROR_CODES: &[ErrorCode] = &[$(ErrorCode {
            code: $code, meaning: $meaning, unchanged: $unchanged, next: $next,
        },)*];
    };
}

codes! {
    PROFILE_IO "profile_io", "A file of the profile could not be read or written.",
        "The profile is as it was; files are replaced whole or not at all.",
        "Look at the path and the operating system's message.";
    PROFILE_EXISTS "profile_exists", "There is a profile in this directory already.",
        "The profile is as it was.", "Use it, or choose another name.";
    PROFILE_MISSING "profile_missing", "There is no profile in this directory.",
        "Nothing was made.", "Make one with `quorate principal request` or `quorate cluster create`, or name another profile.";
    PROFILE_DAMAGED "profile_damaged", "A file of the profile is not what this version writes.",
        "The file is as it was.", "Restore it from a backup, or make a new profile.";
    PROFILE_PERMISSIONS "profile_permissions", "Others may read a secret file of the profile.",
        "The key was not used.", "Run `chmod 600` on the file; if others had access, revoke the principal.";
    PROFILE_NOT_JOINED "profile_not_joined", "The profile has joined no cluster.",
        "Nothing was sent.", "Accept an invitation, or make a cluster.";
    PROFILE_OTHER_CLUSTER "profile_other_cluster", "The profile belongs to another cluster.",
        "The profile is as it was.", "Use one profile for each cluster.";
    ADMIN_KEY_MISSING "admin_key_missing", "The profile has no administrator's key.",
        "Nothing was signed.", "Use the profile that made the cluster.";
    INVITATION_MALFORMED "invitation_malformed", "The text is not an invitation.",
        "The profile is as it was.", "Copy it again, whole.";
    INVITATION_FINGERPRINT "invitation_fingerprint", "The invitation is not the one whose fingerprint was told.",
        "The profile is as it was.", "Ask the administrator for both again, over another channel.";
    INVITATION_ROSTER "invitation_roster", "The roster in the invitation is not valid.",
        "The profile is as it was.", "Ask the administrator for a new invitation.";
    INVITATION_OTHER_KEY "invitation_other_key", "The invitation is for a principal with another key.",
        "The profile is as it was.",
        "Run `quorate principal request` with this profile, and have that public key added.";
    NODE_CARD_INVALID "node_card_invalid", "A node card is not signed by its node.",
        "No cluster was made.", "Ask the node's operator for the card again.";
    REQUEST_INVALID "request_invalid", "What was asked for cannot be asked.",
        "Nothing was sent.", "The message says what does not fit.";
    NOT_QUORATE "not_quorate", "Fewer nodes answered than are needed.",
        "Nothing was lost: every share and every object is as it was.",
        "Try again when more of the named nodes can be reached; `quorate cluster status` shows each.";
    SHARES_MISSING "shares_missing", "Nodes have lost their shares of a key version, and too few others could be reached.",
        "What the other nodes hold, and every object, is as it was.",
        "Start the nodes that were not reached, with the disks that they had; then deal shares to the others again with `quorate cluster repair NODE...`, which names all of them. See docs/backup.md.";
    SHARES_LOST "shares_lost", "So many nodes have lost their shares of a key version that too few are left.",
        "The objects, and what the other nodes hold, are as they were.",
        "Put back a disk of one of the named nodes, or a backup with shares that was made since they were last dealt. Without one, what is sealed under this version is lost, and `quorate key rotate KEY` makes a version for new objects. See docs/backup.md.";
    KEY_EXISTS "key_exists", "There is a key of this alias already.",
        "No key was made.",
        "Choose another name; add a version with `quorate key rotate NAME`; where it is unfinished, run `quorate key create NAME --resume`.";
    KEY_AMBIGUOUS "key_ambiguous", "Several keys have this alias.",
        "Nothing was encrypted or decrypted.", "Name the key by its id.";
    KEY_ALIAS_MOVED "key_alias_moved", "The alias means another key than before.",
        "Nothing was encrypted or decrypted.", "Find out why; then name the key by its id.";
    KEY_INVALID "key_invalid", "A key's documents or certificates do not verify.",
        "Nothing was encrypted or decrypted.", "Ask again; if it stays, tell the administrators what the message says.";
    KEY_FRAGILE "key_fragile", "The key needs every node of its committee.",
        "Nothing was encrypted.", "Use a key with N > T, or make one that allows this explicitly.";
    KEY_FRAGMENT_REQUIRED "key_fragment_required", "The key requires a customer fragment, and there is none here.",
        "Nothing was encrypted.", "Restore the fragment with `quorate fragment restore`, or make one with `quorate fragment create`.";
    FRAGMENT_MISSING "fragment_missing", "The object needs a customer fragment that is not here.",
        "Nothing was released; the object is as it was.", "Restore the fragment that the message names with `quorate fragment restore`.";
    FRAGMENT_LOCKED "fragment_locked", "A customer fragment is here and was not unlocked.",
        "The fragment and the objects are as they were.",
        "Give what unlocks it with --fragment-passphrase-file or --fragment-key-file.";
    FRAGMENT_EXISTS "fragment_exists", "The customer fragment is here already.",
        "It is kept as it was.", "Use it; `quorate fragment list` shows what unlocks it.";
    FRAGMENT_UNCLEAR "fragment_unclear", "There are several customer fragments, and none was chosen.",
        "Nothing was encrypted.", "Choose one with --fragment.";
    FRAGMENT_DAMAGED "fragment_damaged", "The file of a customer fragment is not what this version writes.",
        "The file is as it was.", "Move it away, and restore the fragment from its backup.";
    CEREMONY_FAILED "ceremony_failed", "Making the key stopped.",
        "No share of it can be used, and no other key was touched.",
        "Resolve what the message names, then resume with `quorate key create NAME --resume`.";
    RESHARE_FAILED "reshare_failed", "Dealing a key's shares anew stopped.",
        "The shares in use stay in use, and every object opens as before.",
        "Resolve what the message names, then say the same again.";
    DEALER_FAULT "dealer_fault", "A node cheated in a ceremony, and that can be proved.",
        "No share of that ceremony can be used, and no other key was touched.",
        "Show the evidence to the administrators; make the key, or deal its shares, without that node.";
    COMMITTEE_REFUSED "committee_refused", "Keys stand in the way of the committees that were asked for.",
        "Nothing was signed: the roster, all orders and all shares are as they were.",
        "Choose other nodes or another threshold, leave these keys out, or change what their documents say, such as with `quorate key minimum`.";
    OBJECT_FORMAT "object_format", "Not a sealed object or wrapped data key of a known version.",
        "Nothing was released.", "Check that this is the right file; a newer version of this program may read it.";
    OBJECT_NO_READER "object_no_reader", "None of the object's readers is a key known to the caller.",
        "Nothing was released; the object is as it was.", "Ask for permission on one of the object's keys.";
    OBJECT_WRONG_CONTEXT "object_wrong_context", "The object does not open with this encryption context.",
        "Nothing was released; the object is as it was.", "Give the encryption context that the writer gave.";
    OBJECT_TAMPERED "object_tampered", "The object was changed after it was sealed, or was cut short.",
        "Nothing of the changed part was released.", "Copy it again, whole, or restore it from a good copy.";
    OBJECT_TRUNCATED "object_truncated", "The object ends too early: it was cut short, or is still being written.",
        "The object is as it was.", "Copy it again, whole, or restore it from a good copy.";
    RANGE_INVALID "range_invalid", "The range is outside the object.",
        "Nothing was released.", "Ask for bytes inside the object's length.";
    SEAL_FAILED "seal_failed", "Nothing was sealed.",
        "The input is as it was.", "The message says why.";
    CLUSTER_DOCUMENT "cluster_document", "A document breaks a rule.",
        "No document was stored.", "The message names the rule; see spec/documents.md.";
    ROSTER_INVALID "roster_invalid", "A roster does not follow from the pinned one.",
        "The pinned roster is still used.", "Ask the administrators for a new invitation.";
    PRINCIPAL_NOT_FOUND "principal_not_found", "No principal of this name or id.",
        "Nothing was changed.", "List the principals.";
    TENANT_NOT_FOUND "tenant_not_found", "No tenant of this name or id that the caller is shown.",
        "Nothing was changed.", "List the tenants with `quorate tenant list`.";
    POLICY_NOT_FOUND "policy_not_found", "The tenant has no policy of this name or id.",
        "Nothing was changed.", "List the policies with `quorate policy list`.";
    GRANT_NOT_FOUND "grant_not_found", "The tenant has given no grant of this id.",
        "Nothing was changed.", "List the grants with `quorate grant list`.";
    NOT_ADMINISTRATOR "not_administrator", "The profile's administrator's key is none of those that must sign.",
        "Nothing was changed.", "Use an administrator's profile; `quorate admin list` shows whose keys may sign.";
    CHANGE_UNFINISHED "change_unfinished", "More administrators must sign the change.",
        "Nothing was changed yet.", "Let other administrators sign the change with `quorate change sign`, then submit it.";
    CHANGE_STALE "change_stale", "What the change was made from has changed since.",
        "Nothing was changed.", "Make the change again, and let it be signed again.";
    CHANGE_INVALID "change_invalid", "The file is not a change, or it is one of another cluster.",
        "Nothing was signed and nothing was changed.", "Ask for the file again.";
    CLOCKS_DISAGREE "clocks_disagree", "The nodes' clocks are too far apart to stamp an object.",
        "Nothing was encrypted.", "Ask the operators of the named nodes to set their clocks.";
    STREAM_IO "stream_io", "Reading the input or writing the output failed.",
        "What was written is incomplete and opens nowhere.", "Look at the message, and begin again.";
}

impl Error {
    /// The position of the item of a batch that the nodes refuse, where they name one.
    pub(crate) fn refused_item(&self) -> Option<usize> {
        let Self::Refused(refused) = self else { return None };
        usize::try_from(refused.refusal.item).ok()?.checked_sub(1)
    }

    /// The stable code: one of [`ERROR_CODES`], or of the nodes' [`RefusalCode`]s.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Profile(e) => match e {
                ProfileError::Io { .. } => code::PROFILE_IO,
                ProfileError::Exists(_) => code::PROFILE_EXISTS,
                ProfileError::Missing(_) => code::PROFILE_MISSING,
                ProfileError::Damaged { .. } => code::PROFILE_DAMAGED,
                ProfileError::Permissions { .. } => code::PROFILE_PERMISSIONS,
                ProfileError::NotJoined => code::PROFILE_NOT_JOINED,
                ProfileError::OtherCluster => code::PROFILE_OTHER_CLUSTER,
                ProfileError::NoAdminKey => code::ADMIN_KEY_MISSING,
            },
            Self::Invitation(e) => match e {
                InvitationError::Malformed(_) => code::INVITATION_MALFORMED,
                InvitationError::Fingerprint { .. } => code::INVITATION_FINGERPRINT,
                InvitationError::Roster(_) => code::INVITATION_ROSTER,
                InvitationError::OtherKey => code::INVITATION_OTHER_KEY,
                InvitationError::NodeCard(_) => code::NODE_CARD_INVALID,
            },
            Self::Request(_) => code::REQUEST_INVALID,
            Self::NotQuorate(_) => code::NOT_QUORATE,
            Self::Refused(e) => &e.refusal.code,
            Self::SharesLost(e) => e.code(),
            Self::Key(e) => match e {
                KeyError::Unknown(_) => RefusalCode::KeyUnknown.code(),
                KeyError::Ambiguous { .. } => code::KEY_AMBIGUOUS,
                KeyError::Exists { .. } => code::KEY_EXISTS,
                KeyError::AliasMoved { .. } => code::KEY_ALIAS_MOVED,
                KeyError::Invalid { .. } | KeyError::NodeUnknown { .. } => code::KEY_INVALID,
                KeyError::NotReady { .. } => RefusalCode::KeyNotReady.code(),
                KeyError::VersionUnknown { .. } => RefusalCode::KeyVersionUnknown.code(),
                KeyError::Fragile { .. } => code::KEY_FRAGILE,
                KeyError::FragmentRequired { .. } => code::KEY_FRAGMENT_REQUIRED,
            },
            Self::Ceremony(e) => e.code,
            Self::Committee(_) => code::COMMITTEE_REFUSED,
            Self::Object(e) => match e {
                ObjectError::Format(_) => code::OBJECT_FORMAT,
                ObjectError::NoReader { .. } => code::OBJECT_NO_READER,
                ObjectError::WrongContext => code::OBJECT_WRONG_CONTEXT,
                ObjectError::Header(_) | ObjectError::Payload(_) => code::OBJECT_TAMPERED,
                ObjectError::Truncated => code::OBJECT_TRUNCATED,
                ObjectError::Range { .. } => code::RANGE_INVALID,
                ObjectError::Seal(_) => code::SEAL_FAILED,
            },
            Self::Fragment(e) => match e {
                FragmentError::Missing { .. } => code::FRAGMENT_MISSING,
                FragmentError::Locked { .. }
                | FragmentError::WrongLock { .. }
                | FragmentError::KeyFile { .. } => code::FRAGMENT_LOCKED,
                FragmentError::Exists { .. } => code::FRAGMENT_EXISTS,
                FragmentError::Several { .. } => code::FRAGMENT_UNCLEAR,
                FragmentError::Damaged { .. } | FragmentError::Slot(_) => code::FRAGMENT_DAMAGED,
            },
            Self::Cluster(e) => match e {
                ClusterError::Document(_) => code::CLUSTER_DOCUMENT,
                ClusterError::RosterExpired => RefusalCode::RosterExpired.code(),
                ClusterError::RosterInvalid(_) => code::ROSTER_INVALID,
                ClusterError::PrincipalUnknown(_) => code::PRINCIPAL_NOT_FOUND,
                ClusterError::PrincipalRevoked(_) => RefusalCode::PrincipalRevoked.code(),
                ClusterError::TenantUnknown(_) => code::TENANT_NOT_FOUND,
                ClusterError::PolicyUnknown(_) => code::POLICY_NOT_FOUND,
                ClusterError::GrantUnknown(_) => code::GRANT_NOT_FOUND,
                ClusterError::NotAdministrator(_) => code::NOT_ADMINISTRATOR,
                ClusterError::ChangeStale(_) => code::CHANGE_STALE,
                ClusterError::ChangeInvalid(_) => code::CHANGE_INVALID,
                ClusterError::Clocks { .. } => code::CLOCKS_DISAGREE,
            },
            Self::Unfinished(_) => code::CHANGE_UNFINISHED,
            Self::Stream { .. } => code::STREAM_IO,
        }
    }

    /// What stayed as it was.
    #[must_use]
    pub fn unchanged(&self) -> &str {
        match self {
            Self::Refused(e) if !e.refusal.unchanged.is_empty() => &e.refusal.unchanged,
            _ => texts(self.code()).0,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> &str {
        match self {
            Self::Refused(e) if !e.refusal.next.is_empty() => &e.refusal.next,
            _ => texts(self.code()).1,
        }
    }
}

fn texts(code: &str) -> (&'static str, &'static str) {
    if let Some(entry) = ERROR_CODES.iter().find(|e| e.code == code) {
        return (entry.unchanged, entry.next);
    }
    RefusalCode::from_code(code).map_or(
        (
            "What earlier answers promised is kept.",
            "A newer version of this program may know this code.",
        ),
        |c| (c.unchanged(), c.next()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_every_text_is_a_sentence() {
        for (i, entry) in ERROR_CODES.iter().enumerate() {
            assert!(ERROR_CODES[..i].iter().all(|e| e.code != entry.code), "{}", entry.code);
            assert!(
                RefusalCode::from_code(entry.code).is_none_or(|_| entry.code == "dealer_fault")
            );
            for text in [entry.meaning, entry.unchanged, entry.next] {
                assert!(text.ends_with('.'), "{}: {text}", entry.code);
            }
        }
    }

    #[test]
    fn a_nodes_own_words_are_kept() {
        let refusal = RefusalCode::ClockSkew
            .message("your clock is 300 s ahead".into(), quorate_types::UnixSeconds(1));
        let error = Error::Refused(Box::new(NodeRefusal { name: "alpha".into(), refusal }));
        assert_eq!(error.code(), "clock_skew");
        assert_eq!(error.to_string(), "alpha refused: your clock is 300 s ahead");
        assert_eq!(error.unchanged(), "Nothing was encrypted.");
    }
}
