//! What can come back from a node in place of a reply.

use core::fmt;

use quorate_types::UnixSeconds;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;

/// How a request failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The node gave no answer that the transport could take for one.
    Unreachable(Unreachable),
    /// The node said no.
    Refused(Box<v1::Refusal>),
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Unreachable {
    /// What kind of silence it was.
    pub kind: UnreachableKind,
    /// What the transport says of it, for people.
    pub detail: String,
}

/// What kind of silence it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnreachableKind {
    /// No connection came about.
    NotConnected,
    /// Somebody answered who could not show the key that the roster names.
    WrongIdentity,
    /// No answer within the time that the caller gave.
    TimedOut,
    /// The connection broke, or the answer was not one of the protocol's.
    Broken,
}

impl fmt::Display for UnreachableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "not connected",
            Self::WrongIdentity => "another key than the roster's",
            Self::TimedOut => "no answer in time",
            Self::Broken => "no answer of this protocol",
        })
    }
}

impl Failure {
    /// A failure of the transport.
    #[must_use]
    pub fn unreachable(kind: UnreachableKind, detail: impl Into<String>) -> Self {
        Self::Unreachable(Unreachable { kind, detail: detail.into() })
    }

    /// The code of the refusal, where it is one of this version's.
    #[must_use]
    pub fn code(&self) -> Option<RefusalCode> {
        match self {
            Self::Unreachable(_) => None,
            Self::Refused(refusal) => RefusalCode::from_code(&refusal.code),
        }
    }

    /// Whether asking the same node for the same thing a little later may help: it was not reached, or is
    /// overloaded, or its store hangs.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(u) => u.kind != UnreachableKind::WrongIdentity,
            Self::Refused(_) => {
                matches!(self.code(), Some(RefusalCode::Overloaded | RefusalCode::StorageFailed))
            }
        }
    }

    /// The node's clock, where it said so.
    #[must_use]
    pub fn time(&self) -> Option<UnixSeconds> {
        match self {
            Self::Refused(refusal) if refusal.time != 0 => Some(UnixSeconds(refusal.time)),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(unreachable) => fmt::Display::fmt(unreachable, f),
            Self::Refused(refusal) => write!(f, "refused ({}): {}", refusal.code, refusal.message),
        }
    }
}
