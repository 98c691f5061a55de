//! Sealed objects beside plain AES-256-GCM of the same library.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quorate_object::cobblestone::{
    CHUNK_BYTES, Decryptor, Encryptor, InputKey, SEALED_CHUNK_BYTES, TAG_BYTES,
};
use quorate_secret::Secret;
use serde_json::{Value, json};

use crate::measure::{compute, in_turns, median, ratio, round};
use crate::report::table;
use crate::{Failure, Plan};

/// Bytes that one call works on: stays in a core's cache, as an application's buffer would.
const BUFFER: usize = 1 << 20;

/// A nonce of a measurement.
pub fn nonce(n: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Bytes a second that one core seals with plain AES-256-GCM, in place, 1 MiB at a time.
pub fn plain_speed() -> Result<f64, Failure> {
    let raw = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[6; 32])?);
    let mut buffer = vec![0; BUFFER];
    let mut seal = || {
        compute(|| {
            for n in 0..200 {
                let tag = raw.seal_in_place_separate_tag(nonce(n), Aad::empty(), &mut buffer);
                let _ = black_box(tag.unwrap());
            }
        })
    };
    let seconds = in_turns(5, &mut [&mut seal]);
    Ok(200.0 * BUFFER as f64 / median(&seconds[0]))
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let calls: u64 = if plan.quick { 100 } else { 1000 };
    let plain = vec![0x5a; BUFFER];
    let mut in_place = vec![0x5a; BUFFER];
    let chunks = BUFFER / CHUNK_BYTES;
    let mut sealed = vec![0; chunks * SEALED_CHUNK_BYTES];
    let mut chunked = vec![0; chunks * SEALED_CHUNK_BYTES];
    let mut opened = vec![0; BUFFER];
    let mut reopened = vec![0; BUFFER];
    let raw = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?);
    let key = InputKey::new(Secret::from_fn(|key| key.fill(9)));
    let (prefix, mut encryptor) = Encryptor::start(&key, b"", [1; 24]);
    let decryptor = Decryptor::start(&key, b"", &prefix)?;
    let mut to_open = vec![0; chunks * SEALED_CHUNK_BYTES];
    let first = encryptor.next_chunk();
    encryptor.seal_chunks(&plain, &mut to_open)?;
    let mut raw_to_open = vec![0; chunks * SEALED_CHUNK_BYTES];
    for (i, sealed) in raw_to_open.chunks_exact_mut(SEALED_CHUNK_BYTES).enumerate() {
        let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
        let plain = &plain[..CHUNK_BYTES];
        raw.seal_out_of_place_scatter(nonce(i as u64), Aad::empty(), plain, body, &[], tag)?;
    }

    let mut number = 1 << 40;
    let mut next = || {
        number += 1;
        nonce(number)
    };
    let next = std::cell::RefCell::new(&mut next);
    let mut whole = || {
        compute(|| {
            for _ in 0..calls {
                let nonce = (next.borrow_mut())();
                let tag = raw.seal_in_place_separate_tag(nonce, Aad::empty(), &mut in_place);
                let _ = black_box(tag.unwrap());
            }
        })
    };
    let mut pieces = || {
        compute(|| {
            for _ in 0..calls {
                for (plain, sealed) in plain
                    .chunks_exact(CHUNK_BYTES)
                    .zip(chunked.chunks_exact_mut(SEALED_CHUNK_BYTES))
                {
                    let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
                    let nonce = (next.borrow_mut())();
                    raw.seal_out_of_place_scatter(nonce, Aad::empty(), plain, body, &[], tag)
                        .unwrap();
                }
            }
        })
    };
    let mut seal = || {
        compute(|| {
            for _ in 0..calls {
                encryptor.seal_chunks(&plain, &mut sealed).unwrap();
            }
        })
    };
    let mut raw_open = || {
        compute(|| {
            for _ in 0..calls {
                let pairs = raw_to_open
                    .chunks_exact(SEALED_CHUNK_BYTES)
                    .zip(reopened.chunks_exact_mut(CHUNK_BYTES));
                for (i, (sealed, out)) in pairs.enumerate() {
                    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().unwrap();
                    raw.open_separate_gather(nonce(i as u64), Aad::empty(), body, tag, out)
                        .unwrap();
                }
            }
        })
    };
    let mut open = || {
        compute(|| {
            for _ in 0..calls {
                decryptor.open_chunks(first, &to_open, &mut opened).unwrap();
            }
        })
    };
    // Opening in place needs something sealed each time; that is not measured.
    let whole_key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[8; 32])?);
    let mut whole_buffer = vec![0x5a; BUFFER];
    let mut whole_open = || {
        (0..calls)
            .map(|n| {
                let tag = whole_key
                    .seal_in_place_separate_tag(nonce(n), Aad::empty(), &mut whole_buffer)
                    .unwrap();
                whole_buffer.extend_from_slice(tag.as_ref());
                let took = compute(|| {
                    whole_key.open_in_place(nonce(n), Aad::empty(), &mut whole_buffer).unwrap();
                });
                whole_buffer.truncate(BUFFER);
                took
            })
            .sum()
    };
    let seconds = in_turns(
        plan.rounds,
        &mut [&mut whole, &mut pieces, &mut seal, &mut raw_open, &mut open, &mut whole_open],
    );
    let names = [
        "plain AES-256-GCM, seal in place, 1 MiB messages",
        "plain AES-256-GCM, seal to another buffer, 16 KiB messages",
        "sealed object's payload, seal to another buffer",
        "plain AES-256-GCM, open to another buffer, 16 KiB messages",
        "sealed object's payload, open to another buffer",
        "plain AES-256-GCM, open in place, 1 MiB messages",
    ];
    let speed = |at: usize| calls as f64 * BUFFER as f64 / median(&seconds[at]) / 1e6;
    let rows: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| vec![(*name).to_owned(), format!("{:.0}", speed(at))])
        .collect();
    println!("  one core");
    table(&["", "MB/s"], &rows);
    // Speeds, so the other way round than times; the fastest plain form counts.
    let [seal_chunks, seal_whole] = [1, 0].map(|plain| ratio(&seconds[plain], &seconds[2]));
    let [open_chunks, open_whole] = [3, 5].map(|plain| ratio(&seconds[plain], &seconds[4]));
    let (seal_ratio, open_ratio) = (seal_chunks.min(seal_whole), open_chunks.min(open_whole));
    println!("  of the fastest plain form: seal {seal_ratio:.2}, open {open_ratio:.2}");
    println!("  aim: at least 0.8, never below 0.6");
    Ok(json!({
        "threads": 1,
        "plain_seal_1_mib_mb_per_second": round(speed(0), 0),
        "plain_seal_16_kib_mb_per_second": round(speed(1), 0),
        "object_seal_mb_per_second": round(speed(2), 0),
        "plain_open_16_kib_mb_per_second": round(speed(3), 0),
        "object_open_mb_per_second": round(speed(4), 0),
        "plain_open_1_mib_mb_per_second": round(speed(5), 0),
        "seal_ratio": round(seal_ratio, 3),
        "open_ratio": round(open_ratio, 3),
        "seal_ratio_to_plain_16_kib": round(seal_chunks, 3),
        "open_ratio_to_plain_16_kib": round(open_chunks, 3),
    }))
}
