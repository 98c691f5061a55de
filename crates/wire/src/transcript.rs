//! Tagged transcripts: every byte string that Quorate hashes or signs begins with what it is for.

use quorate_types::Digest;
use sha2::{Digest as _, Sha512};

/// A domain-separated SHA-512 input: a tag, then length-prefixed fields.
///
/// The encoding is injective: the tag and every field are preceded by their length as 8 bytes,
/// big-endian, so no two different sequences of fields hash the same bytes.
#[derive(Clone)]
pub struct Transcript(Sha512);

impl Transcript {
    /// Begins a transcript. A tag names one use; tags are listed in `spec/transcripts.md`.
    #[must_use]
    pub fn new(tag: &'static str) -> Self {
        Self(Sha512::new()).field(b"Quorate-v1").field(tag.as_bytes())
    }

    /// Appends one field, preceded by its length.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.append(bytes);
        self
    }

    /// Appends one field, preceded by its length; for loops.
    pub fn append(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// Appends a number as a field of 8 bytes, big-endian.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.field(&number.to_be_bytes())
    }

    /// Appends how many fields follow, then the fields: a list inside a transcript.
    #[must_use]
    pub fn list<T: AsRef<[u8]>>(mut self, items: impl ExactSizeIterator<Item = T>) -> Self {
        self = self.number(items.len() as u64);
        for item in items {
            self.append(item.as_ref());
        }
        self
    }

    /// All 64 bytes of the hash.
    #[must_use]
    pub fn wide(self) -> [u8; 64] {
        self.0.finalize().into()
    }

    /// The first 32 bytes of the hash: collision resistance of 128 bits.
    #[must_use]
    pub fn digest(self) -> Digest {
        let wide = self.wide();
        let mut half = [0; 32];
        half.copy_from_slice(&wide[..32]);
        Digest::from_bytes(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_slide_into_one_another() {
        let one = Transcript::new("t").field(b"ab").field(b"c").digest();
        let two = Transcript::new("t").field(b"a").field(b"bc").digest();
        let three = Transcript::new("ta").field(b"b").field(b"c").digest();
        assert_ne!(one, two);
        assert_ne!(one, three);
    }

    #[test]
    fn a_list_is_not_its_items() {
        let list = Transcript::new("t").list([b"a", b"b"].iter()).digest();
        let flat = Transcript::new("t").field(b"a").field(b"b").digest();
        assert_ne!(list, flat);
    }
}
