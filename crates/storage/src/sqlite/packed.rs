//! Rows in fewer bytes: what a value repeats of others is said by where it stands there.
//!
//! Documents of thousands of tenants differ in keys, signatures and names, and name the same committee, the same
//! authorities and the same fields. So a value is written as literal bytes and as copies out of a *window*: a
//! dictionary, which is a sample of earlier values; the row that it leans on, if any; the row's own key; and what
//! came before in the value itself. Nothing secret is packed, and no dictionary is ever changed.

/// Bytes of a dictionary: with a row and its key, distances still fit two bytes.
pub(super) const DICTIONARY_BYTES: usize = 12 * 1024;

/// A copy of fewer bytes costs as much as the bytes.
const MIN_MATCH: usize = 5;

/// Places that are looked at for each copy.
const MAX_CHAIN: usize = 24;

const HASH_BITS: u32 = 13;
const NOWHERE: u32 = u32::MAX;

/// Why packed bytes mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed row does not decode")]
pub(super) struct Damaged;

/// Where bytes were seen before.
#[derive(Clone)]
struct Index {
    head: Vec<u32>,
    before: Vec<u32>,
}

impl Index {
    fn new() -> Self {
        Self { head: vec![NOWHERE; 1 << HASH_BITS], before: Vec::new() }
    }

    fn slot(bytes: &[u8], at: usize) -> Option<usize> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let hash = u32::from_le_bytes(four).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        usize::try_from(hash).ok()
    }

    /// Notes every place of `bytes` up to `end` that is not noted yet.
    fn note(&mut self, bytes: &[u8], end: usize) {
        while self.before.len() < end {
            let at = self.before.len();
            let mut before = NOWHERE;
            if let Some(head) = Self::slot(bytes, at).and_then(|slot| self.head.get_mut(slot)) {
                before = core::mem::replace(head, u32::try_from(at).unwrap_or(NOWHERE));
            }
            self.before.push(before);
        }
    }

    /// The longest copy for what stands at `at`: its place and length.
    fn longest(&self, bytes: &[u8], at: usize) -> Option<(usize, usize)> {
        let mut place = *self.head.get(Self::slot(bytes, at)?)?;
        let rest = bytes.get(at..)?;
        let mut best: Option<(usize, usize)> = None;
        for _ in 0..MAX_CHAIN {
            let from = usize::try_from(place).ok().filter(|_| place != NOWHERE)?;
            let same = bytes.get(from..)?.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if same >= MIN_MATCH && best.is_none_or(|(_, length)| same > length) {
                best = Some((from, same));
            }
            match self.before.get(from) {
                Some(before) if *before != NOWHERE => place = *before,
                _ => break,
            }
        }
        best
    }
}

/// A sample of values, and where what stands in it.
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    index: Index,
}

impl Dictionary {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut index = Index::new();
        index.note(&bytes, bytes.len());
        Self { bytes, index }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Result<usize, Damaged> {
    let (mut value, mut shift) = (0_usize, 0_u32);
    loop {
        let (first, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        // Five bytes say more than any row has.
        if shift > 28 {
            return Err(Damaged);
        }
        value |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
    }
}

/// Packs a value. `near` is what else the reader will have: the row leant on, and the row's key.
pub(super) fn pack(dictionary: Option<&Dictionary>, near: &[&[u8]], value: &[u8]) -> Vec<u8> {
    let (mut window, mut index) = match dictionary {
        Some(dictionary) => (dictionary.bytes.clone(), dictionary.index.clone()),
        None => (Vec::new(), Index::new()),
    };
    // The last places of the dictionary were noted without what follows.
    near.iter().for_each(|bytes| window.extend_from_slice(bytes));
    let start = window.len();
    window.extend_from_slice(value);
    let mut out = Vec::with_capacity(value.len() / 2 + 8);
    put_number(&mut out, value.len());
    let (mut at, mut literal) = (start, start);
    let flush = |out: &mut Vec<u8>, from: usize, to: usize| {
        if let Some(bytes) = window.get(from..to).filter(|bytes| !bytes.is_empty()) {
            put_number(out, bytes.len() << 1);
            out.extend_from_slice(bytes);
        }
    };
    while at < window.len() {
        index.note(&window, at);
        match index.longest(&window, at) {
            Some((from, length)) => {
                flush(&mut out, literal, at);
                put_number(&mut out, ((length - MIN_MATCH) << 1) | 1);
                put_number(&mut out, at - from);
                at += length;
                literal = at;
            }
            None => at += 1,
        }
    }
    flush(&mut out, literal, at);
    out
}

/// Unpacks what [`pack`] made with the same dictionary, of which only the bytes are needed, and the same rows near.
pub(super) fn unpack(
    dictionary: &[u8],
    near: &[&[u8]],
    mut packed: &[u8],
    most: usize,
) -> Result<Vec<u8>, Damaged> {
    let length = number(&mut packed)?;
    if length > most {
        return Err(Damaged);
    }
    let mut window = Vec::with_capacity(dictionary.len() + length + 256);
    window.extend_from_slice(dictionary);
    near.iter().for_each(|bytes| window.extend_from_slice(bytes));
    let start = window.len();
    let end = start.checked_add(length).ok_or(Damaged)?;
    while !packed.is_empty() {
        let said = number(&mut packed)?;
        if said & 1 == 0 {
            let (bytes, rest) = packed.split_at_checked(said >> 1).ok_or(Damaged)?;
            window.extend_from_slice(bytes);
            packed = rest;
        } else {
            let length = (said >> 1) + MIN_MATCH;
            let from = number(&mut packed)?;
            let from = window.len().checked_sub(from).filter(|_| from > 0).ok_or(Damaged)?;
            if window.len() + length > end {
                return Err(Damaged);
            }
            // A copy may run into what it writes.
            for at in from..from + length {
                let byte = *window.get(at).ok_or(Damaged)?;
                window.push(byte);
            }
        }
        if window.len() > end {
            return Err(Damaged);
        }
    }
    if window.len() != end {
        return Err(Damaged);
    }
    Ok(window.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_known_costs_a_few_bytes() {
        let committee: Vec<u8> = (0..222).map(|n: u32| (n * n % 251) as u8).collect();
        let dictionary = Dictionary::new([b"before".as_slice(), &committee, b"after"].concat());
        let value = [b"name".as_slice(), &committee, &[7; 40]].concat();
        let packed = pack(Some(&dictionary), &[], &value);
        assert!(packed.len() < 24, "{}", packed.len());
        assert_eq!(unpack(dictionary.bytes(), &[], &packed, 1000).unwrap(), value);
        let key = [9, 8, 7, 6, 5, 4, 3, 2, 1];
        let packed = pack(None, &[&key], &key);
        assert!(packed.len() <= 4, "{}", packed.len());
        assert_eq!(unpack(&[], &[&key], &packed, 9).unwrap(), key);
        assert_eq!(unpack(&[], &[&key], &packed, 8), Err(Damaged));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            dictionary in proptest::collection::vec(0_u8..4, 0..600),
            near in proptest::collection::vec(0_u8..4, 0..60),
            value in proptest::collection::vec(0_u8..4, 0..900),
            random in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let value = [value, random].concat();
            let dictionary = Dictionary::new(dictionary);
            let packed = pack(Some(&dictionary), &[&near], &value);
            prop_assert_eq!(unpack(dictionary.bytes(), &[&near], &packed, value.len()), Ok(value));
        }

        /// What is on a disk may be anything.
        #[test]
        fn any_bytes_unpack_or_are_damaged(packed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let dictionary = Dictionary::new(vec![1; 100]);
            if let Ok(value) = unpack(dictionary.bytes(), &[&[2; 40]], &packed, 10_000) {
                prop_assert!(value.len() <= 10_000);
            }
        }
    }
}
