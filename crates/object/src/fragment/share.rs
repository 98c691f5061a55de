//! Shares of a fragment: splitting, reading, and putting together again.

use core::fmt;

use quorate_secret::{Fragment, Secret};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use vsss_rs::Gf256;
use zeroize::{Zeroize, Zeroizing};

use super::lines::{self, DamagedLine, LINES, SHARE_BYTES};
use crate::kek::{FRAGMENT_ID_BYTES, FragmentId};

/// Shares of one backup at most: how many pieces of paper people keep apart. It also bounds how many
/// subsets are tried to name a share that is not of the backup.
pub const MAX_SHARES: u8 = 16;
/// With one share alone enough there would be nothing to share: that is a copy of the sealed file.
pub const MIN_THRESHOLD: u8 = 2;
/// The version of the format.
const VERSION: u8 = 1;
/// Bytes of a share's value.
const VALUE_BYTES: usize = 32;
/// Begins what is hashed for a share's checksum.
const SHARE_TAG: &[u8] = b"Quorate-v1 fragment share\0";
/// Bytes before the checksum.
const BODY_BYTES: usize = SHARE_BYTES - 4;

/// Why a fragment was not split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Not a threshold and a number of shares.
    #[error(
        "a backup has 2 to {MAX_SHARES} shares, of which at least {MIN_THRESHOLD} restore it, not {threshold} of {count}"
    )]
    Numbers {
        /// How many were to restore it.
        threshold: u8,
        /// How many there were to be.
        count: u8,
    },
    /// The library refused, which no input here makes happen.
    #[error("the fragment could not be split")]
    Scheme,
}

/// Why a text holds no share, or not a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A line is damaged. `index` is the share's, where the first line can be read.
    #[error("{}{source}", named(*index))]
    Line {
        /// The share's index.
        index: Option<u8>,
        /// What is wrong with the line.
        #[source]
        source: DamagedLine,
    },
    /// Each line is well, and they are not of one share.
    #[error("{}its lines are not of one share", named(Some(*index)))]
    Mixed {
        /// The index that the first line names.
        index: u8,
    },
    /// Written by a later version.
    #[error("the share has format version {0}; a newer version of Quorate may know it")]
    UnknownVersion(u8),
    /// The checks are right and the numbers cannot be: nothing that is written by this format.
    #[error("the share names index {index} of {count} with threshold {threshold}")]
    Numbers {
        /// Its index.
        index: u8,
        /// Its threshold.
        threshold: u8,
        /// How many shares there are.
        count: u8,
    },
}

fn named(index: Option<u8>) -> String {
    index.map(|index| format!("share {index}: ")).unwrap_or_default()
}

/// One share. Zeroized when dropped.
///
/// # Security
/// `threshold` shares of one backup are the fragment.
pub struct Share {
    set: [u8; 4],
    threshold: u8,
    count: u8,
    index: u8,
    fragment: FragmentId,
    value: Secret<VALUE_BYTES>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {} of {}, redacted)", self.index, self.count, self.fragment)
    }
}

/// Names one backup: shares of two backups of one fragment do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backup([u8; 4]);

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Share {
    /// Its index, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// How many shares restore the fragment.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many shares the backup has.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// The fragment's check value.
    #[must_use]
    pub const fn fragment(&self) -> FragmentId {
        self.fragment
    }

    /// The backup that it is a share of.
    #[must_use]
    pub const fn backup(&self) -> Backup {
        Backup(self.set)
    }

    fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut out = Zeroizing::new([0; SHARE_BYTES]);
        let numbers = [self.threshold, self.count, self.index];
        let parts: [&[u8]; 5] =
            [&[VERSION], &self.set, &numbers, self.fragment.as_bytes(), self.value.reveal()];
        for (to, from) in out.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
        }
        let checksum = checksum(out.first_chunk::<BODY_BYTES>());
        for (to, from) in out.iter_mut().skip(BODY_BYTES).zip(checksum) {
            *to = from;
        }
        out
    }

    /// The four lines to be printed or kept.
    #[must_use]
    pub fn lines(&self) -> Zeroizing<String> {
        lines::encode(&self.to_bytes())
    }

    /// All shares in a text. Only lines that begin with `1:` to `4:` count; a share ends where the numbers
    /// do not rise.
    ///
    /// Damaged ones are named, and the others read: whoever has enough of them needs no more.
    #[must_use]
    pub fn read_all(text: &str) -> Vec<Result<Self, ShareError>> {
        let mut shares: Vec<[Option<&str>; LINES]> = Vec::new();
        let mut last = LINES;
        for (number, rest) in text.lines().filter_map(lines::numbered) {
            if number <= last {
                shares.push([None; LINES]);
            }
            last = number;
            if let Some(slot) = shares.last_mut().and_then(|lines| lines.get_mut(number - 1)) {
                *slot = Some(rest);
            }
        }
        shares.iter().map(Self::read).collect()
    }

    fn read(text: &[Option<&str>; LINES]) -> Result<Self, ShareError> {
        let mut bytes = Zeroizing::new([0u8; SHARE_BYTES]);
        let mut damaged = None;
        let mut first = false;
        let places = bytes.chunks_mut(SHARE_BYTES / LINES);
        for ((at, place), line) in places.enumerate().zip(text) {
            let decoded = match line {
                None => Err(DamagedLine::Missing(at + 1)),
                Some(line) => lines::decode(at + 1, line),
            };
            match decoded {
                Ok(decoded) => {
                    place.copy_from_slice(&*decoded);
                    first |= at == 0;
                }
                Err(error) => {
                    damaged.get_or_insert(error);
                }
            }
        }
        let [version, s0, s1, s2, s3, threshold, count, index, ..] = *bytes;
        if let Some(source) = damaged {
            return Err(ShareError::Line { index: first.then_some(index), source });
        }
        // The first line says so on its own, whatever a later version puts behind it.
        if version != VERSION {
            return Err(ShareError::UnknownVersion(version));
        }
        let found = bytes.get(BODY_BYTES..).unwrap_or_default();
        if found != checksum(bytes.first_chunk::<BODY_BYTES>()) {
            return Err(ShareError::Mixed { index });
        }
        let possible = (MIN_THRESHOLD..=count).contains(&threshold)
            && count <= MAX_SHARES
            && (1..=count).contains(&index);
        if !possible {
            return Err(ShareError::Numbers { index, threshold, count });
        }
        let fields = bytes.get(8..BODY_BYTES).unwrap_or_default();
        let (check, value) = fields.split_at(FRAGMENT_ID_BYTES.min(fields.len()));
        let mut fragment = [0; FRAGMENT_ID_BYTES];
        for (to, from) in fragment.iter_mut().zip(check) {
            *to = *from;
        }
        let value = Secret::from_slice(value).ok_or(ShareError::Mixed { index })?;
        let fragment = FragmentId::from_bytes(fragment);
        Ok(Self { set: [s0, s1, s2, s3], threshold, count, index, fragment, value })
    }
}

/// Against slips of copying: it binds the lines to one another.
fn checksum(body: Option<&[u8; BODY_BYTES]>) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(SHARE_TAG);
    hash.update(body.map_or(&[][..], |body| body));
    let hash = hash.finalize();
    let mut out = [0; 4];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = from;
    }
    out
}

/// Splits a fragment into `count` shares, of which any `threshold` restore it.
///
/// # Errors
/// [`SplitError`].
///
/// # Security
/// The polynomials' coefficients are wiped by nobody: the library keeps them in memory that it frees
/// as it is. A backup is made by a process that ends soon after.
pub fn split(
    fragment: &Fragment,
    threshold: u8,
    count: u8,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<Share>, SplitError> {
    if !(MIN_THRESHOLD..=count).contains(&threshold) || count > MAX_SHARES {
        return Err(SplitError::Numbers { threshold, count });
    }
    let mut set = [0; 4];
    rng.fill_bytes(&mut set);
    let id = FragmentId::of(fragment);
    let split = Gf256::split_bytes(
        usize::from(threshold),
        usize::from(count),
        fragment.reveal(),
        &mut *rng,
    );
    let mut values = split.map_err(|_| SplitError::Scheme)?;
    let shares = values.iter().map(|value| {
        let (index, value) = value.split_first().ok_or(SplitError::Scheme)?;
        let value = Secret::from_slice(value).ok_or(SplitError::Scheme)?;
        Ok(Share { set, threshold, count, index: *index, fragment: id, value })
    });
    let shares: Result<Vec<Share>, SplitError> = shares.collect();
    values.zeroize();
    let shares = shares?;
    // What is on paper is needed when nothing else is left: see that it restores before it is printed.
    let enough: Vec<&Share> = shares.iter().rev().take(usize::from(threshold)).collect();
    let numbered = shares.iter().zip(1u8..).all(|(share, index)| share.index == index);
    if !numbered || combine(&enough).is_none_or(|back| FragmentId::of(&back) != id) {
        return Err(SplitError::Scheme);
    }
    Ok(shares)
}

/// Why shares restore nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// No share at all.
    #[error("there is no share")]
    None,
    /// Too few different ones.
    #[error("{needed} shares of {fragment} are needed, and these are {} (index {})", .have.len(), list(.have))]
    TooFew {
        /// The fragment.
        fragment: FragmentId,
        /// How many are needed.
        needed: u8,
        /// The indices that are there.
        have: Vec<u8>,
    },
    /// Shares of different fragments.
    #[error("these are shares of different fragments: {}", .0.iter().map(FragmentId::to_string).collect::<Vec<_>>().join(", "))]
    Fragments(Vec<FragmentId>),
    /// Shares of several backups of one fragment, none of which has enough.
    #[error("these are shares of different backups of {fragment}, and none has the {needed} that are needed: {}", .backups.iter().map(Backup::to_string).collect::<Vec<_>>().join(", "))]
    Backups {
        /// The fragment.
        fragment: FragmentId,
        /// How many of one backup are needed.
        needed: u8,
        /// The backups.
        backups: Vec<Backup>,
    },
    /// Two shares of one index that differ.
    #[error("two different shares have index {0}; one of them is forged")]
    Contradiction(u8),
    /// Together they are another fragment than the one that they name: at least one is forged.
    #[error("the shares {} do not make {fragment}: at least one of them is forged", list(.shares))]
    Forged {
        /// The fragment.
        fragment: FragmentId,
        /// The indices that were tried.
        shares: Vec<u8>,
    },
}

fn list(indices: &[u8]) -> String {
    indices.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// A fragment put together again.
#[derive(Debug)]
pub struct Restored {
    /// The fragment; it has the check value that the shares name.
    pub fragment: Fragment,
    /// Indices of shares that were given and are not of this fragment: somebody wrote them so.
    pub forged: Vec<u8>,
}

/// Puts a fragment together. With more shares than are needed, ones that do not fit are named.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(shares: &[Share]) -> Result<Restored, RestoreError> {
    let first = shares.first().ok_or(RestoreError::None)?;
    let mut fragments: Vec<FragmentId> = shares.iter().map(Share::fragment).collect();
    fragments.dedup();
    if fragments.iter().any(|id| *id != first.fragment) {
        fragments.sort_unstable();
        fragments.dedup();
        return Err(RestoreError::Fragments(fragments));
    }
    let mut backups: Vec<Backup> = shares.iter().map(Share::backup).collect();
    backups.sort_unstable();
    backups.dedup();
    let mut failure = None;
    for backup in &backups {
        match restore_backup(shares.iter().filter(|s| s.backup() == *backup)) {
            Ok(restored) => return Ok(restored),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(match failure {
        Some(RestoreError::TooFew { fragment, needed, .. }) if backups.len() > 1 => {
            RestoreError::Backups { fragment, needed, backups }
        }
        Some(error) => error,
        None => RestoreError::None,
    })
}

/// The same for the shares of one backup.
fn restore_backup<'a>(shares: impl Iterator<Item = &'a Share>) -> Result<Restored, RestoreError> {
    let mut different: Vec<&Share> = Vec::new();
    for share in shares {
        match different.iter().find(|other| other.index == share.index) {
            None => different.push(share),
            Some(same) if same.to_bytes() == share.to_bytes() => {}
            Some(_) => return Err(RestoreError::Contradiction(share.index)),
        }
    }
    different.sort_by_key(|share| share.index);
    let first = different.first().ok_or(RestoreError::None)?;
    let (id, needed) = (first.fragment, usize::from(first.threshold));
    let have: Vec<u8> = different.iter().map(|share| share.index).collect();
    if different.iter().any(|share| share.threshold != first.threshold) {
        return Err(RestoreError::Forged { fragment: id, shares: have });
    }
    if different.len() < needed {
        return Err(RestoreError::TooFew { fragment: id, needed: first.threshold, have });
    }
    // At most 12870 subsets of 16 shares, and nearly always the first one.
    for chosen in subsets(different.len(), needed) {
        let some: Vec<&Share> = pick(&different, &chosen);
        let Some(fragment) = combine(&some).filter(|back| FragmentId::of(back) == id) else {
            continue;
        };
        let fits = |share: &&&Share| {
            let mut others: Vec<&Share> = some.iter().copied().skip(1).collect();
            if others.iter().any(|other| other.index == share.index)
                || some.first().is_some_and(|other| other.index == share.index)
            {
                return true;
            }
            others.push(share);
            combine(&others).is_some_and(|back| FragmentId::of(&back) == id)
        };
        let forged = different.iter().filter(|s| !fits(s)).map(|s| s.index).collect();
        return Ok(Restored { fragment, forged });
    }
    Err(RestoreError::Forged { fragment: id, shares: have })
}

fn pick<'a>(shares: &[&'a Share], chosen: &[usize]) -> Vec<&'a Share> {
    chosen.iter().filter_map(|at| shares.get(*at).copied()).collect()
}

/// All subsets of `size` of `0..of`, in order.
fn subsets(of: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    // `of` is at most MAX_SHARES.
    (0u32..1 << of)
        .filter(move |bits| bits.count_ones() as usize == size)
        .map(move |bits| (0..of).filter(|at| bits & (1 << at) != 0).collect())
}

/// What these shares make: exactly as many as are needed, of different indices.
fn combine(shares: &[&Share]) -> Option<Fragment> {
    let mut values: Vec<Vec<u8>> = shares
        .iter()
        .map(|share| {
            let mut value = Vec::with_capacity(1 + VALUE_BYTES);
            value.push(share.index);
            value.extend_from_slice(share.value.reveal());
            value
        })
        .collect();
    let combined = Gf256::combine_bytes(&values);
    values.zeroize();
    let secret = Zeroizing::new(combined.ok()?);
    Secret::from_slice(&secret).map(Fragment::new)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn fragment(seed: u8) -> Fragment {
        Fragment::random(&mut rng(seed))
    }

    fn text(shares: &[Share], which: &[usize]) -> String {
        which.iter().map(|at| shares[*at].lines().to_string()).collect()
    }

    fn read(text: &str) -> Vec<Share> {
        Share::read_all(text).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn every_subset_of_enough_shares_restores_and_none_of_fewer_does() {
        for (threshold, count) in [(2, 2), (2, 3), (3, 5), (5, 5)] {
            let fragment = fragment(threshold);
            let shares = split(&fragment, threshold, count, &mut rng(9)).unwrap();
            for size in 1..=usize::from(count) {
                for chosen in subsets(usize::from(count), size) {
                    let read = read(&text(&shares, &chosen));
                    match restore(&read) {
                        Ok(back) => {
                            assert!(size >= usize::from(threshold));
                            assert_eq!(back.fragment.reveal(), fragment.reveal());
                            assert!(back.forged.is_empty());
                        }
                        Err(RestoreError::TooFew { needed, have, .. }) => {
                            assert!(size < usize::from(threshold));
                            assert_eq!((needed, have.len()), (threshold, size));
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
    }

    /// GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, Horner and Lagrange written out: what `spec/` says, apart
    /// from the library.
    fn multiply(a: u8, b: u8) -> u8 {
        (0..8).rev().fold(0u8, |all, bit| {
            let doubled = (all << 1) ^ if all & 0x80 != 0 { 0x1b } else { 0 };
            doubled ^ if b & (1 << bit) != 0 { a } else { 0 }
        })
    }

    #[test]
    fn shares_are_those_of_the_spec() {
        let fragment = fragment(1);
        let shares = split(&fragment, 3, 4, &mut rng(2)).unwrap();
        let invert = |a: u8| (1..=255).find(|b| multiply(a, *b) == 1).unwrap();
        let chosen = [&shares[0], &shares[2], &shares[3]];
        for at in 0..32 {
            let byte = chosen.iter().fold(0, |all, share| {
                let others = chosen.iter().filter(|o| o.index != share.index);
                let weight = others
                    .fold(1, |w, o| multiply(w, multiply(o.index, invert(o.index ^ share.index))));
                all ^ multiply(weight, share.value.reveal()[at])
            });
            assert_eq!(byte, fragment.reveal()[at]);
        }
    }

    /// Two advisories (RUSTSEC-2024-0398, and an audit of this library's earlier versions) were of
    /// coefficients that were never zero, or never even. With a threshold of 2 and the secret byte 0, a
    /// share of index 1 is the coefficient itself.
    #[test]
    fn coefficients_take_every_value_of_the_field_equally() {
        let zero = Fragment::new(Secret::from_fn(|_| ()));
        let mut seen = [0u32; 256];
        let mut rng = rng(3);
        for _ in 0..2048 {
            let shares = split(&zero, 2, 2, &mut rng).unwrap();
            shares[0].value.reveal().iter().for_each(|byte| seen[usize::from(*byte)] += 1);
        }
        // 256 expected of each; 6 standard deviations are 96.
        assert!(seen.iter().all(|n| (160..=352).contains(n)), "{seen:?}");
    }

    #[test]
    fn one_share_fewer_says_nothing() {
        // Any other fragment is as likely as the right one: with 2 of 3 and one share known, each value
        // of the missing share gives another fragment, and no two the same.
        let fragment = fragment(4);
        let shares = split(&fragment, 2, 3, &mut rng(5)).unwrap();
        let mut results = std::collections::BTreeSet::new();
        for byte in 0..=255u8 {
            let mut value = *shares[1].value.reveal();
            value[0] = byte;
            let guess = Share { value: Secret::from_fn(|v| *v = value), ..duplicate(&shares[1]) };
            results.insert(combine(&[&shares[0], &guess]).unwrap().reveal()[0]);
        }
        assert_eq!(results.len(), 256);
    }

    fn duplicate(share: &Share) -> Share {
        let Share { set, threshold, count, index, fragment, value } = share;
        Share {
            set: *set,
            threshold: *threshold,
            count: *count,
            index: *index,
            fragment: *fragment,
            value: value.duplicate(),
        }
    }

    #[test]
    fn every_slip_of_the_pen_is_named_by_share_and_line() {
        let shares = split(&fragment(6), 2, 3, &mut rng(7)).unwrap();
        let good = shares[1].lines().to_string();
        let lines: Vec<&str> = good.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            for place in 3..line.len() {
                if line.as_bytes()[place] == b'-' {
                    continue;
                }
                // Another digit in its place, and the same digit left out.
                let other = if line.as_bytes()[place] == b'7' { "8" } else { "7" };
                let changed = format!("{}{other}{}", &line[..place], &line[place + 1..]);
                let shorter = format!("{}{}", &line[..place], &line[place + 1..]);
                for (bad, length) in [(changed, false), (shorter, true)] {
                    let mut all: Vec<&str> = lines.clone();
                    all[at] = &bad;
                    let found = Share::read_all(&all.join("\n"));
                    let Err(ShareError::Line { index, source }) = &found[0] else {
                        panic!("{bad}: {found:?}")
                    };
                    assert_eq!(source.line(), at + 1, "{bad}");
                    assert_eq!(matches!(source, DamagedLine::Length { .. }), length);
                    // A damaged first line leaves the index unknown; never a wrong one.
                    assert_eq!(*index, (at > 0).then_some(2));
                }
            }
            let mut all = lines.clone();
            all.remove(at);
            let found = Share::read_all(&all.join("\n"));
            assert!(matches!(
                &found[0],
                Err(ShareError::Line { source: DamagedLine::Missing(line), .. }) if *line == at + 1
            ));
        }
        // Two neighbours swapped.
        let swapped =
            good.replacen(&lines[2][4..6], &lines[2][4..6].chars().rev().collect::<String>(), 1);
        assert!(swapped == good || Share::read_all(&swapped)[0].is_err());
    }

    /// Leaving the checksum out joins lines of two shares (tried).
    #[test]
    fn lines_of_two_shares_do_not_make_one() {
        let shares = split(&fragment(8), 2, 3, &mut rng(9)).unwrap();
        let (one, two) = (shares[0].lines(), shares[1].lines());
        let mixed: Vec<&str> = one.lines().take(2).chain(two.lines().skip(2)).collect();
        let found = Share::read_all(&mixed.join("\n"));
        assert_eq!(found[0].as_ref().unwrap_err(), &ShareError::Mixed { index: 1 });
        // A line that stands there again begins another share, of which the rest is missing.
        let again = format!("{}{}", &*one, one.lines().nth(2).unwrap());
        let found = Share::read_all(&again);
        assert!(found[0].is_ok() && found.len() == 2);
        assert!(matches!(
            found[1],
            Err(ShareError::Line { index: None, source: DamagedLine::Missing(1) })
        ));
    }

    #[test]
    fn it_reads_what_people_type() {
        let shares = split(&fragment(10), 2, 2, &mut rng(11)).unwrap();
        let typed: String = shares
            .iter()
            .map(|s| s.lines().to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l"))
            .map(|s| s.replace("l:", "1:").replace(':', " : "))
            .collect();
        let back = restore(&read(&format!("Quorate\nfragment\n{typed}\nend"))).unwrap();
        assert_eq!(back.fragment.reveal(), fragment(10).reveal());
        assert!(Share::read_all("no share: at all\n5: x\n0: y").is_empty());
    }

    #[test]
    fn shares_of_other_fragments_and_backups_are_told_apart() {
        let one = split(&fragment(12), 2, 3, &mut rng(13)).unwrap();
        let again = split(&fragment(12), 2, 3, &mut rng(14)).unwrap();
        let other = split(&fragment(15), 2, 3, &mut rng(16)).unwrap();
        let restore_of =
            |shares: &[&Share]| restore(&shares.iter().map(|s| duplicate(s)).collect::<Vec<_>>());
        assert_eq!(restore(&[]).unwrap_err(), RestoreError::None);
        assert!(matches!(
            restore_of(&[&one[0], &other[1]]),
            Err(RestoreError::Fragments(ids)) if ids.len() == 2
        ));
        assert!(matches!(
            restore_of(&[&one[0], &again[1]]),
            Err(RestoreError::Backups { needed: 2, backups, .. }) if backups.len() == 2
        ));
        // The same share twice is one share; enough of either backup will do.
        assert!(matches!(
            restore_of(&[&one[0], &one[0]]),
            Err(RestoreError::TooFew { have, .. }) if have == [1]
        ));
        assert!(restore_of(&[&one[0], &again[1], &again[2]]).is_ok());
    }

    /// Without the check value a forged share makes another fragment, and nobody sees it (tried).
    #[test]
    fn a_forged_share_is_found_and_named_where_others_are_enough() {
        let shares = split(&fragment(17), 3, 5, &mut rng(18)).unwrap();
        let mut value = *shares[1].value.reveal();
        value[7] ^= 1;
        let forged = Share { value: Secret::from_fn(|v| *v = value), ..duplicate(&shares[1]) };
        let of = |which: &[usize]| -> Vec<Share> {
            which
                .iter()
                .map(|at| duplicate(if *at == 1 { &forged } else { &shares[*at] }))
                .collect()
        };
        let error = restore(&of(&[0, 1, 2])).unwrap_err();
        assert!(matches!(&error, RestoreError::Forged { shares, .. } if *shares == [1, 2, 3]));
        let back = restore(&of(&[0, 1, 2, 4])).unwrap();
        assert_eq!(back.fragment.reveal(), fragment(17).reveal());
        assert_eq!(back.forged, [2]);
        let both = vec![duplicate(&shares[1]), duplicate(&forged)];
        assert_eq!(restore(&both).unwrap_err(), RestoreError::Contradiction(2));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        for (threshold, count) in [(1, 3), (0, 0), (4, 3), (2, 17), (1, 1)] {
            let refused = split(&fragment(1), threshold, count, &mut rng(1)).unwrap_err();
            assert_eq!(refused, SplitError::Numbers { threshold, count });
        }
        assert_eq!(split(&fragment(1), 16, 16, &mut rng(1)).unwrap().len(), 16);
    }

    #[test]
    fn a_share_is_not_shown() {
        let shares = split(&fragment(19), 2, 2, &mut rng(20)).unwrap();
        let shown = format!("{:?}", shares[0]);
        assert!(shown.contains("redacted") && !shown.contains(&shares[0].lines()[4..12]));
    }
}
