//! How fast one core seals and opens, beside plain AES-256-GCM of the same library.
//!
//! `cargo run --release -p quorate-object --example seal_speed`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement stops at the first surprise"
)]

use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quorate_object::cobblestone::{
    CHUNK_BYTES, Decryptor, Encryptor, InputKey, SEALED_CHUNK_BYTES, TAG_BYTES,
};
use quorate_secret::Secret;

/// Bytes that one call works on: stays in a core's cache, as an application's buffer would.
const BUFFER_BYTES: usize = 1 << 20;
/// Calls of one measurement.
const CALLS: u64 = 2_000;
/// Measurements, interleaved; the best of each counts, as others use the machine too.
const ROUNDS: usize = 7;

fn main() {
    let plain = vec![0x5a; BUFFER_BYTES];
    let chunks = BUFFER_BYTES / CHUNK_BYTES;
    let mut sealed = vec![0; chunks * SEALED_CHUNK_BYTES];
    let mut opened = vec![0; BUFFER_BYTES];
    let raw = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let nonce = |n: u64| {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&n.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let key = InputKey::new(Secret::from_fn(|key| key.fill(9)));
    let (prefix, mut encryptor) = Encryptor::start(&key, b"", [1; 24]);
    let decryptor = Decryptor::start(&key, b"", &prefix).unwrap();

    let names = [
        "plain AES-256-GCM, seal, 16 KiB messages, in place",
        "plain AES-256-GCM, seal, 1 MiB messages, in place",
        "plain AES-256-GCM, seal, 16 KiB messages, to another buffer",
        "Cobblestone-256, seal, to another buffer",
        "Cobblestone-256, seal, in place",
        "plain AES-256-GCM, open, 16 KiB messages, to another buffer",
        "Cobblestone-256, open, to another buffer",
    ];
    let mut best = [0.0_f64; 7];
    let mut number = 0;
    for _ in 0..ROUNDS {
        let mut measure = |place: usize, call: &mut dyn FnMut(u64)| {
            let start = Instant::now();
            for _ in 0..CALLS {
                number += 1;
                call(number);
            }
            let bytes = CALLS as f64 * BUFFER_BYTES as f64;
            best[place] = best[place].max(bytes / start.elapsed().as_secs_f64() / 1e6);
        };
        measure(0, &mut |n| {
            for (i, chunk) in opened.chunks_exact_mut(CHUNK_BYTES).enumerate() {
                let nonce = nonce(n << 8 | i as u64);
                let _ = raw.seal_in_place_separate_tag(nonce, Aad::empty(), chunk).unwrap();
            }
        });
        measure(1, &mut |n| {
            let _ = raw.seal_in_place_separate_tag(nonce(n), Aad::empty(), &mut opened).unwrap();
        });
        measure(2, &mut |n| {
            let pairs =
                plain.chunks_exact(CHUNK_BYTES).zip(sealed.chunks_exact_mut(SEALED_CHUNK_BYTES));
            for (i, (plain, sealed)) in pairs.enumerate() {
                let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
                let nonce = nonce(n << 8 | i as u64);
                raw.seal_out_of_place_scatter(nonce, Aad::empty(), plain, body, &[], tag).unwrap();
            }
        });
        measure(4, &mut |_| encryptor.seal_chunks_in_place(&mut sealed).unwrap());
        measure(3, &mut |_| encryptor.seal_chunks(&plain, &mut sealed).unwrap());
        // Opening repeats the run that was sealed last.
        let first = encryptor.next_chunk() - chunks as u64;
        measure(6, &mut |_| decryptor.open_chunks(first, &sealed, &mut opened).unwrap());
        for (i, sealed) in sealed.chunks_exact_mut(SEALED_CHUNK_BYTES).enumerate() {
            let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
            let plain = &plain[..CHUNK_BYTES];
            raw.seal_out_of_place_scatter(nonce(i as u64), Aad::empty(), plain, body, &[], tag)
                .unwrap();
        }
        measure(5, &mut |_| {
            let pairs =
                sealed.chunks_exact(SEALED_CHUNK_BYTES).zip(opened.chunks_exact_mut(CHUNK_BYTES));
            for (i, (sealed, out)) in pairs.enumerate() {
                let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().unwrap();
                let nonce = nonce(i as u64);
                raw.open_separate_gather(nonce, Aad::empty(), body, tag, out).unwrap();
            }
        });
    }
    for (name, speed) in names.iter().zip(best) {
        println!("{speed:>8.0} MB/s  {name}");
    }
    let ratio = |ours: usize, theirs: usize| best[ours] / best[theirs];
    println!("seal in place / plain 16 KiB: {:.2}, / plain 1 MiB: {:.2}", ratio(4, 0), ratio(4, 1));
    println!("seal to another buffer / plain 16 KiB: {:.2}", ratio(3, 2));
    println!("seal to another buffer / plain 1 MiB in place: {:.2}", ratio(3, 1));
    println!("open / plain 16 KiB: {:.2}, / plain 1 MiB sealing: {:.2}", ratio(6, 5), ratio(6, 1));
}
