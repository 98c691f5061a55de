//! Bytes as lines of text that a person can type: Crockford's base32, with a check in every line.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The digits: no I, L, O or U, which are taken for others.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Lines of one share.
pub const LINES: usize = 4;
/// Bytes of the share in one line: 24 digits.
const LINE_BYTES: usize = 15;
/// Digits of a line's check.
const CHECK_DIGITS: usize = 4;
/// Digits of a line.
const LINE_DIGITS: usize = LINE_BYTES * 8 / 5 + CHECK_DIGITS;
/// Bytes of a share.
pub(super) const SHARE_BYTES: usize = LINES * LINE_BYTES;
/// Begins what is hashed for a line's check.
const LINE_TAG: &[u8] = b"Quorate-v1 fragment share line\0";

/// What is wrong with one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamagedLine {
    /// The line is not there.
    #[error("line {0} is missing")]
    Missing(usize),
    /// Too few or too many digits, or something that is no digit.
    #[error("line {line} has {found} letters and digits that can be read, not 28")]
    Length {
        /// The line, from 1.
        line: usize,
        /// How many.
        found: usize,
    },
    /// The check is not that of the line's digits.
    #[error("line {0} has a mistake in it")]
    Check(usize),
}

impl DamagedLine {
    /// The line, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        match self {
            Self::Missing(line) | Self::Check(line) => *line,
            Self::Length { line, .. } => *line,
        }
    }
}

/// The 20 bits that a line is checked by.
fn check(number: usize, bytes: &[u8]) -> u32 {
    let mut hash = Sha256::new();
    hash.update(LINE_TAG);
    // Lines are numbered from 1 to 4.
    hash.update([number as u8]);
    hash.update(bytes);
    let hash = hash.finalize();
    hash.iter().take(3).fold(0u32, |all, byte| (all << 8) | u32::from(*byte)) >> 4
}

fn digit(value: u32) -> char {
    char::from(DIGITS.get(value as usize & 31).copied().unwrap_or(b'?'))
}

/// What a letter or digit stands for, as it is read by people: either case, O for 0, I and L for 1.
fn value(letter: char) -> Option<u32> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    DIGITS.iter().position(|d| char::from(*d) == letter).map(|at| at as u32)
}

/// `1: 04G2-…`, four lines.
pub(super) fn encode(bytes: &[u8; SHARE_BYTES]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(LINES * 48));
    for (number, line) in (1..).zip(bytes.chunks(LINE_BYTES)) {
        let mut digits = Zeroizing::new(String::with_capacity(LINE_DIGITS));
        for five in line.chunks(5) {
            let all = five.iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
            digits.extend((0..8).rev().map(|at| digit((all >> (5 * at)) as u32)));
        }
        let check = check(number, line);
        digits.extend((0..CHECK_DIGITS).rev().map(|at| digit(check >> (5 * at))));
        out.push_str(&format!("{number}: "));
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                out.push('-');
            }
            out.push(digit);
        }
        out.push('\n');
    }
    out
}

/// A line of a share: its number and what follows the colon. Other lines of the text are for people.
pub(super) fn numbered(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.trim().split_once([':', '.'])?;
    let number = number.trim().parse().ok()?;
    (1..=LINES).contains(&number).then_some((number, rest))
}

/// The bytes of one line.
pub(super) fn decode(
    number: usize,
    text: &str,
) -> Result<Zeroizing<[u8; LINE_BYTES]>, DamagedLine> {
    let mut values = Zeroizing::new([0u32; LINE_DIGITS]);
    let mut found = 0;
    let mut unknown = false;
    for letter in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        match value(letter) {
            Some(value) => {
                if let Some(slot) = values.get_mut(found) {
                    *slot = value;
                }
                found += 1;
            }
            None => unknown = true,
        }
    }
    if found != LINE_DIGITS || unknown {
        return Err(DamagedLine::Length { line: number, found });
    }
    let mut bytes = Zeroizing::new([0u8; LINE_BYTES]);
    let (data, given) = values.split_at(LINE_DIGITS - CHECK_DIGITS);
    for (five, digits) in bytes.chunks_mut(5).zip(data.chunks(8)) {
        let all = digits.iter().fold(0u64, |all, value| (all << 5) | u64::from(*value));
        for (byte, from) in five.iter_mut().zip(all.to_be_bytes().iter().skip(3)) {
            *byte = *from;
        }
    }
    let given = given.iter().fold(0u32, |all, value| (all << 5) | value);
    if given == check(number, &*bytes) { Ok(bytes) } else { Err(DamagedLine::Check(number)) }
}
