//! What a principal may be allowed to do.

use core::fmt;
use core::str::FromStr;

/// An action on a key, each a permission of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Make keys and new versions of keys, which orders their ceremonies.
    Create,
    /// Derive keys for the caller's own new objects, and no others.
    Encrypt,
    /// Derive the key of any object of the key.
    Decrypt,
    /// Evaluate an old label under a newer version of the same key. Needs [`Action::Decrypt`] too.
    Rewrap,
    /// Drive ceremonies that are already ordered. Gives nothing else.
    Coordinate,
    /// Sign grants of what the principal may do itself.
    Grant,
    /// Change the state, tags, alias and rotation period of existing keys.
    Change,
    /// Read the tenant's audit records and usage.
    Audit,
}

impl Action {
    /// All actions, in the order of their wire numbers.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Encrypt,
        Self::Decrypt,
        Self::Rewrap,
        Self::Coordinate,
        Self::Grant,
        Self::Change,
        Self::Audit,
    ];

    /// The word used on the command line, in documents and in audit records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Rewrap => "rewrap",
            Self::Coordinate => "coordinate",
            Self::Grant => "grant",
            Self::Change => "change",
            Self::Audit => "audit",
        }
    }

    /// The number used on the wire, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Create => 1,
            Self::Encrypt => 2,
            Self::Decrypt => 3,
            Self::Rewrap => 4,
            Self::Coordinate => 5,
            Self::Grant => 6,
            Self::Change => 7,
            Self::Audit => 8,
        }
    }

    /// The action with this wire number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.number() == number)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.into_iter().find(|a| a.name() == text).ok_or(UnknownAction)
    }
}

/// The text names no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("actions are create, encrypt, decrypt, rewrap, coordinate, grant, change and audit")]
pub struct UnknownAction;

/// What a label's PRF output is for; the first field of every label, so that purposes never share outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The key-encryption key of one sealed object or wrapped data key.
    ObjectKey,
}

impl Purpose {
    /// The number used in labels, from 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::ObjectKey => 1,
        }
    }
}
