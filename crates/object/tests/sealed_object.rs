//! Sealed objects: what opens, what is refused, and why.

mod common;

use common::*;

#[test]
fn every_reader_opens() {
    let plain = plaintext(40_000);
    let file = seal(3, &plain, 1);
    for reader in 0..3 {
        assert_eq!(open(&file, reader), Ok(plain.clone()));
    }
}
