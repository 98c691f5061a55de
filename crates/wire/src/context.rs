//! The encryption context: what the writer says about an object and the reader must say again.

use quorate_types::Digest;
use quorate_types::limits::{MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS};
use sha2::{Digest as _, Sha256};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Pairs of text, sorted by key, each key once, all in Unicode normalization form C (UAX #15).
///
/// Case matters: `Tenant` and `tenant` are two keys. Two contexts are the same exactly when their
/// canonical bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EncryptionContext(Vec<(String, String)>);

/// Why pairs are not an encryption context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// One key stands twice.
    #[error("the encryption context names \"{0}\" twice")]
    Duplicate(String),
    /// A key is empty.
    #[error("the encryption context has an empty key")]
    EmptyKey,
    /// A control character, which people cannot see.
    #[error("the encryption context has a control character in \"{0}\"")]
    Control(String),
    /// Not in normalization form C, or not sorted: two spellings of one context could exist.
    #[error("the encryption context is not in canonical form at \"{0}\"")]
    NotCanonical(String),
    /// Too many pairs.
    #[error("the encryption context has {0} pairs; at most {MAX_CONTEXT_PAIRS} are allowed")]
    TooMany(usize),
    /// Too many bytes.
    #[error("the encryption context has {0} bytes; at most {MAX_CONTEXT_BYTES} are allowed")]
    TooLong(usize),
}

impl EncryptionContext {
    /// A context from what a person wrote: brought to form C and sorted, then checked.
    ///
    /// # Errors
    /// [`ContextError`], also when two keys are the same once normalized.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ContextError> {
        let mut pairs: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(k, v)| (k.as_ref().nfc().collect(), v.as_ref().nfc().collect()))
            .collect();
        pairs.sort();
        Self::from_canonical(pairs)
    }

    /// A context as it came over the wire: refused unless it is canonical already.
    ///
    /// # Errors
    /// [`ContextError`] for the first pair that is out of order, doubled or not in form C.
    pub fn from_canonical(pairs: Vec<(String, String)>) -> Result<Self, ContextError> {
        if pairs.len() > MAX_CONTEXT_PAIRS {
            return Err(ContextError::TooMany(pairs.len()));
        }
        let mut last: Option<&str> = None;
        for (key, value) in &pairs {
            if key.is_empty() {
                return Err(ContextError::EmptyKey);
            }
            if key.chars().chain(value.chars()).any(char::is_control) {
                return Err(ContextError::Control(key.escape_debug().to_string()));
            }
            if !is_nfc(key) || !is_nfc(value) {
                return Err(ContextError::NotCanonical(key.clone()));
            }
            match last {
                Some(before) if before == key => return Err(ContextError::Duplicate(key.clone())),
                Some(before) if before > key.as_str() => {
                    return Err(ContextError::NotCanonical(key.clone()));
                }
                _ => {}
            }
            last = Some(key);
        }
        let context = Self(pairs);
        let length = context.canonical_bytes().len();
        if length > MAX_CONTEXT_BYTES {
            return Err(ContextError::TooLong(length));
        }
        Ok(context)
    }

    /// The pairs, sorted by key.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical bytes: the count as 4 bytes, then each key and each value preceded by its
    /// length as 4 bytes, all big-endian.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = (self.0.len() as u32).to_be_bytes().to_vec();
        for text in self.0.iter().flat_map(|(k, v)| [k, v]) {
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// SHA-256 of the canonical bytes, as it stands in labels.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::from_bytes(Sha256::digest(self.canonical_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `attacks.md` line 22, at the level of the value: a reordered, doubled or differently
    /// composed context is brought to one form by the client, and refused by the node.
    #[test]
    fn attack_22_context_reordered_duplicated_or_differently_composed() {
        let sorted = EncryptionContext::new([("b", "2"), ("a", "1")]).unwrap();
        assert_eq!(sorted, EncryptionContext::new([("a", "1"), ("b", "2")]).unwrap());
        let composed = EncryptionContext::new([("caf\u{e9}", "x")]).unwrap();
        assert_eq!(composed, EncryptionContext::new([("cafe\u{301}", "x")]).unwrap());

        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let raw = EncryptionContext::from_canonical;
        assert_eq!(
            raw(vec![pair("b", "2"), pair("a", "1")]),
            Err(ContextError::NotCanonical("a".into()))
        );
        assert_eq!(
            raw(vec![pair("a", "1"), pair("a", "2")]),
            Err(ContextError::Duplicate("a".into()))
        );
        assert_eq!(
            raw(vec![pair("cafe\u{301}", "x")]),
            Err(ContextError::NotCanonical("cafe\u{301}".into()))
        );
        assert_ne!(
            EncryptionContext::new([("Tenant", "1")]).unwrap().hash(),
            EncryptionContext::new([("tenant", "1")]).unwrap().hash()
        );
    }

    #[test]
    fn moving_a_byte_between_key_and_value_changes_the_hash() {
        let one = EncryptionContext::new([("ab", "c")]).unwrap();
        let two = EncryptionContext::new([("a", "bc")]).unwrap();
        assert_ne!(one.hash(), two.hash());
    }

    #[test]
    fn bounds_hold() {
        let many = (0..=MAX_CONTEXT_PAIRS).map(|i| (format!("k{i}"), "v"));
        assert!(matches!(EncryptionContext::new(many), Err(ContextError::TooMany(_))));
        let long = "x".repeat(MAX_CONTEXT_BYTES);
        assert!(matches!(EncryptionContext::new([("k", long)]), Err(ContextError::TooLong(_))));
        assert_eq!(EncryptionContext::new([("", "v")]), Err(ContextError::EmptyKey));
        assert!(matches!(EncryptionContext::new([("a\0", "v")]), Err(ContextError::Control(_))));
    }
}
