//! Strict reading of single fields, shared by all bodies.

use core::fmt;
use core::str::FromStr;

use quorate_types::Action;
use quorate_types::limits::MAX_NAME_BYTES;
use quorate_wire::proto::v1;
use quorate_wire::{ContextError, PublicKey};

/// Why a document's body is not valid. Fields are named as in `documents.proto`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A field that must be there is not.
    #[error("\"{0}\" is missing")]
    Missing(&'static str),
    /// A field of fixed length has another one.
    #[error("\"{field}\" has {found} bytes where {expected} are expected")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A text that people choose is empty, too long, or has control characters.
    #[error(
        "\"{0}\" must have 1 to {MAX_NAME_BYTES} bytes, and no control characters nor such as turn text around or are not seen"
    )]
    Name(&'static str),
    /// 32 bytes that are no Ed25519 public key.
    #[error("\"{0}\" is not an Ed25519 public key")]
    PublicKey(&'static str),
    /// Entries out of order or twice.
    #[error("\"{0}\" must be sorted, each entry once")]
    Order(&'static str),
    /// Two entries that must differ do not.
    #[error("\"{0}\" stands twice")]
    Duplicate(&'static str),
    /// More entries than allowed, or none where one is needed.
    #[error("\"{field}\" has {found} entries; 1 to {most} are allowed")]
    Count {
        /// The field.
        field: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A number outside its range, or one that this version does not know.
    #[error("\"{field}\" is {value}, which is not allowed")]
    Number {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A quorum that is not a majority of its keys.
    #[error("a quorum of {quorum} is not a majority of {keys} keys")]
    Quorum {
        /// The quorum.
        quorum: u32,
        /// How many keys there are.
        keys: usize,
    },
    /// More bytes than allowed.
    #[error("\"{field}\" has {found} bytes; at most {most} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// What an encryption context must contain is no encryption context.
    #[error(transparent)]
    Context(ContextError),
    /// Not an address of a node.
    #[error("a node's address must begin with https:// and have no spaces: \"{0}\"")]
    Url(String),
    /// Not two capital letters.
    #[error("a jurisdiction is two capital letters, not \"{0}\"")]
    Jurisdiction(String),
    /// Fewer members than the key's minimum committee.
    #[error("an order names {members} members where the key asks for at least {minimum}")]
    Committee {
        /// Members named.
        members: usize,
        /// The key's minimum.
        minimum: u32,
    },
}

/// The law that a provider answers to: ISO 3166-1 alpha-2, or `EU`. Compared exactly: `EU` is not
/// any member state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jurisdiction([u8; 2]);

impl Jurisdiction {
    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Two ASCII letters by construction.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Jurisdiction {
    type Err = BodyError;

    fn from_str(text: &str) -> Result<Self, BodyError> {
        match <[u8; 2]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(BodyError::Jurisdiction(text.chars().take(20).collect())),
        }
    }
}

pub(crate) fn fixed<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], BodyError> {
    bytes.try_into().map_err(|_| BodyError::Length { field, expected: N, found: bytes.len() })
}

pub(crate) fn public_key(field: &'static str, bytes: &[u8]) -> Result<PublicKey, BodyError> {
    fixed::<32>(field, bytes)?;
    PublicKey::from_slice(bytes).map_err(|_| BodyError::PublicKey(field))
}

pub(crate) fn name(field: &'static str, text: &str) -> Result<String, BodyError> {
    if text.is_empty() {
        return Err(BodyError::Name(field));
    }
    text_or_empty(field, text)
}

pub(crate) fn text_or_empty(field: &'static str, text: &str) -> Result<String, BodyError> {
    if text.len() > MAX_NAME_BYTES || text.chars().any(|c| c.is_control() || is_unseen(c)) {
        return Err(BodyError::Name(field));
    }
    Ok(text.to_owned())
}

/// Characters that turn text around, or that take no room: two names with them look alike and are not. Of Unicode's
/// Bidi_Control and Default_Ignorable_Code_Point, those that stand by themselves, and the line separators.
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}')
}

pub(crate) fn count(field: &'static str, found: usize, most: usize) -> Result<(), BodyError> {
    if found == 0 || found > most {
        return Err(BodyError::Count { field, found, most });
    }
    Ok(())
}

pub(crate) fn sorted<T: Ord>(field: &'static str, items: &[T]) -> Result<(), BodyError> {
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(BodyError::Order(field)) }
}

pub(crate) fn distinct<T: Ord>(
    field: &'static str,
    items: impl Iterator<Item = T>,
) -> Result<(), BodyError> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(BodyError::Duplicate(field)) }
}

pub(crate) fn optional(bytes: &[u8], field: &'static str) -> Result<Option<[u8; 32]>, BodyError> {
    if bytes.is_empty() { Ok(None) } else { fixed(field, bytes).map(Some) }
}

/// Names and values, sorted by name.
pub(crate) fn attributes(
    field: &'static str,
    list: &[v1::Attribute],
    most: usize,
) -> Result<Vec<(String, String)>, BodyError> {
    if list.len() > most {
        count(field, list.len(), most)?;
    }
    let attributes: Vec<(String, String)> = list
        .iter()
        .map(|a| Ok((name(field, &a.name)?, text_or_empty(field, &a.value)?)))
        .collect::<Result<_, BodyError>>()?;
    let names: Vec<&str> = attributes.iter().map(|(name, _)| name.as_str()).collect();
    sorted(field, &names)?;
    Ok(attributes)
}

/// The messages, sorted.
pub(crate) fn attributes_to_proto(list: &[(String, String)]) -> Vec<v1::Attribute> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.into_iter().map(|(name, value)| v1::Attribute { name, value }).collect()
}

/// Actions by their numbers, sorted, each once, of those allowed here.
pub(crate) fn actions(
    field: &'static str,
    numbers: &[u32],
    allowed: &[Action],
) -> Result<Vec<Action>, BodyError> {
    sorted(field, numbers)?;
    numbers
        .iter()
        .map(|number| {
            let action = Action::from_number(*number).filter(|action| allowed.contains(action));
            action.ok_or(BodyError::Number { field, value: (*number).into() })
        })
        .collect()
}

/// The numbers, sorted, each once.
pub(crate) fn actions_to_proto(actions: &[Action]) -> Vec<u32> {
    let mut numbers: Vec<u32> = actions.iter().map(|action| action.number()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails where two names that look alike are both taken.
    #[test]
    fn names_hold_nothing_that_is_not_seen() {
        for good in
            ["till", "caf\u{e9} \u{1f511}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}", "\u{65e5}\u{672c}"]
        {
            assert_eq!(name("name", good).as_deref(), Ok(good));
        }
        for bad in [
            "till\u{200b}",
            "\u{202e}llit",
            "ti\u{2066}ll\u{2069}",
            "\u{feff}till",
            "ti\u{ad}ll",
            "ti\u{200d}ll",
            "ti\u{2028}ll",
            "till\u{e0041}",
            "till\u{7}",
            "",
        ] {
            assert_eq!(name("name", bad), Err(BodyError::Name("name")), "{bad:?}");
        }
    }
}
