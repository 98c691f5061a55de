//! The sealed part of a backup: chunks under AES-256-GCM (SP 800-38D), each at its place, the last one marked, as in the
//! STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015). A chunk that was changed, moved, left out or
//! repeated does not open, and a file that was cut has no end.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use quorate_secret::Secret;
use zeroize::Zeroize;

/// Bytes of plaintext in each chunk but the last.
pub(super) const CHUNK: usize = 64 * 1024;

/// Bytes that sealing adds.
const TAG: usize = 16;

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the backup was changed or cut, or is not the one that its head says",
    )
}

fn key_of(key: &Secret<32>) -> io::Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.reveal()).map(LessSafeKey::new).map_err(|_| refused())
}

/// The place of a chunk, and whether it is the last.
fn nonce(counter: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    for (to, byte) in
        nonce.iter_mut().skip(3).zip([u8::from(last)].into_iter().chain(counter.to_be_bytes()))
    {
        *to = byte;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Seals what is written. The key must be used for nothing else.
pub(super) struct Sealing<W> {
    to: W,
    key: LessSafeKey,
    head: [u8; 64],
    chunk: Vec<u8>,
    counter: u64,
}

impl<W: Write> Sealing<W> {
    pub(super) fn new(to: W, key: &Secret<32>, head: [u8; 64]) -> io::Result<Self> {
        let chunk = Vec::with_capacity(CHUNK + TAG);
        Ok(Self { to, key: key_of(key)?, head, chunk, counter: 0 })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let (nonce, head) = (nonce(self.counter, last), Aad::from(self.head));
        self.key
            .seal_in_place_append_tag(nonce, head, &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk could not be sealed"))?;
        self.counter += 1;
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Ends it. Without this, what was written does not open.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.seal(true)?;
        self.to.flush()
    }
}

impl<W> Drop for Sealing<W> {
    fn drop(&mut self) {
        self.chunk.zeroize();
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what was sealed. Gives nothing that was not authenticated; the end is read only where it is the end.
pub(super) struct Opening<R> {
    from: R,
    key: LessSafeKey,
    head: [u8; 64],
    /// What was read and not opened: one byte more than a chunk, unless the file ends.
    sealed: Vec<u8>,
    open: Vec<u8>,
    given: usize,
    counter: u64,
    ended: bool,
}

impl<R: Read> Opening<R> {
    pub(super) fn new(from: R, key: &Secret<32>, head: [u8; 64]) -> io::Result<Self> {
        let (sealed, open) = (Vec::new(), Vec::new());
        Ok(Self { from, key: key_of(key)?, head, sealed, open, given: 0, counter: 0, ended: false })
    }

    fn next(&mut self) -> io::Result<()> {
        let wanted = CHUNK + TAG + 1;
        let more = (wanted - self.sealed.len()) as u64;
        (&mut self.from).take(more).read_to_end(&mut self.sealed)?;
        let last = self.sealed.len() < wanted;
        let rest = if last { Vec::new() } else { self.sealed.split_off(CHUNK + TAG) };
        let mut chunk = core::mem::replace(&mut self.sealed, rest);
        let opened = self
            .key
            .open_in_place(nonce(self.counter, last), Aad::from(self.head), &mut chunk)
            .map_err(|_| refused())?
            .len();
        chunk.truncate(opened);
        self.open.zeroize();
        self.open = chunk;
        self.given = 0;
        self.counter += 1;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.given == self.open.len() {
            if self.ended {
                return Ok(0);
            }
            self.next()?;
        }
        let rest = self.open.get(self.given..).unwrap_or_default();
        let length = rest.len().min(to.len());
        for (to, byte) in to.iter_mut().zip(rest) {
            *to = *byte;
        }
        self.given += length;
        Ok(length)
    }
}

impl<R> Drop for Opening<R> {
    fn drop(&mut self) {
        self.open.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 64] = [5; 64];

    fn key() -> Secret<32> {
        Secret::from_fn(|bytes| bytes.fill(7))
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut to = Vec::new();
        let mut sealing = Sealing::new(&mut to, &key(), HEAD).unwrap();
        sealing.write_all(plain).unwrap();
        sealing.finish().unwrap();
        to
    }

    fn opened(sealed: &[u8], head: [u8; 64]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opening::new(sealed, &key(), head)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_opens_whole_or_not_at_all() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
            let sealed = sealed(&plain);
            assert_eq!(opened(&sealed, HEAD).unwrap(), plain);
            assert!(opened(&sealed, [6; 64]).is_err());
            for cut in [sealed.len() - 1, sealed.len().saturating_sub(CHUNK + TAG), TAG - 1] {
                assert!(
                    opened(&sealed[..cut.min(sealed.len() - 1)], HEAD).is_err(),
                    "{length} {cut}"
                );
            }
            let mut flipped = sealed.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert!(opened(&flipped, HEAD).is_err());
            let longer = [sealed.as_slice(), &[0]].concat();
            assert!(opened(&longer, HEAD).is_err());
        }
        let mut swapped = sealed(&vec![1; 3 * CHUNK]);
        let (one, two) = swapped.split_at_mut(CHUNK + TAG);
        one.swap_with_slice(&mut two[..CHUNK + TAG]);
        assert!(opened(&swapped, HEAD).is_err());
    }
}
