//! Streams of the client library beside plain AES-256-GCM over the same memory.
//!
//! What seals 20 GB/s reads 20 GB/s, which no memory here gives one core while it computes. So plain
//! AES-256-GCM, in messages of 16 KiB, is measured over the very bytes that the stream reads, once with
//! all of them in the caches and once with none.

use std::cell::RefCell;
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use quorate_object::cobblestone::{CHUNK_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES};
use quorate_sdk::{EncryptionContext, Key, ParsedHeader, SealingKey};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{compute, in_turns, median, own_cpu_seconds, ratio, round};
use crate::object::{nonce, plain_speed};
use crate::report::table;
use crate::{Failure, Plan};

/// Bytes that stay in the second and third caches.
const CACHED: usize = 4 << 20;
/// Bytes that one buffer of plain AES-256-GCM has.
const BUFFER: usize = 1 << 20;

pub fn run(plan: &Plan, local: &Local, key: &Key) -> Result<Value, Failure> {
    let large = if plan.quick { 64 << 20 } else { 512 << 20 };
    let fastest = plain_speed()?;
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    for (name, size) in [("caches", CACHED), ("memory", large)] {
        let repeat = large / size;
        let measured = one_size(plan, local, key, size, repeat)?;
        let total = (size * repeat) as f64;
        let mut parts = serde_json::Map::new();
        for (at, what) in ["seal", "open"].into_iter().enumerate() {
            let [plain, stream, wall] = &measured[at];
            let speed = |seconds: &[f64]| total / median(seconds) / 1e6;
            // Speeds, so the other way round than times.
            let of_plain = ratio(plain, stream);
            let of_fastest = speed(stream) * 1e6 / fastest;
            rows.push(vec![
                format!("{what} a stream of {} MiB from the {name}", size >> 20),
                format!("{:.0}", speed(wall)),
                format!("{:.0}", speed(stream)),
                format!("{:.0}", speed(plain)),
                format!("{of_plain:.2}"),
                format!("{of_fastest:.2}"),
            ]);
            parts.insert(
                what.to_owned(),
                json!({
                    "bytes": size,
                    "mb_per_second": round(speed(wall), 0),
                    "mb_per_core_second": round(speed(stream), 0),
                    "plain_mb_per_core_second": round(speed(plain), 0),
                    "ratio_to_plain_aes_256_gcm": round(of_plain, 3),
                    "ratio_to_1_mib_messages_in_place": round(of_fastest, 3),
                }),
            );
        }
        figures.insert(name.to_owned(), parts.into());
    }
    let head = ["client library", "MB/s", "a core", "plain", "of plain", "of fastest"];
    table(&head, &rows);
    println!(
        "  a core: of all processor time, user and system. Plain: AES-256-GCM of the same library over \
         the same\n  bytes, 16 KiB messages. Fastest: messages of 1 MiB in place in a cache, {:.0} MB/s",
        fastest / 1e6
    );
    Ok(figures.into())
}

/// Seconds of plain AES-256-GCM, of the stream, and of the stream by the clock; sealing and opening.
fn one_size(
    plan: &Plan,
    local: &Local,
    key: &Key,
    size: usize,
    repeat: usize,
) -> Result<[[Vec<f64>; 3]; 2], Failure> {
    let Local { runtime, client, .. } = local;
    let contexts = [EncryptionContext::default()];
    let rounds = if plan.quick { 2 } else { 5 };
    // A round more than is counted, and the object to open.
    let count = (rounds + 1) * repeat + 1;
    let keys = runtime.block_on(client.derive_sealing_keys(key, count, &contexts))?;
    let keys: RefCell<Vec<SealingKey>> = RefCell::new(keys);
    let plain = vec![0x5a; size];
    let mut sealed = Vec::new();
    let first = keys.borrow_mut().pop().ok_or("no keys")?;
    runtime.block_on(first.seal_stream(&mut plain.as_slice(), &mut sealed))?;
    let header = ParsedHeader::parse(&sealed)?;
    let payload = &sealed[header.length()..];
    let opening = runtime.block_on(client.open_header(header.clone(), &contexts[0]))?;

    // The same chunks under a key of our own, for plain AES-256-GCM to open.
    let raw = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[6; 32])?);
    let seal = |from: &[u8], into: &mut [u8]| {
        let chunks = from.chunks_exact(CHUNK_BYTES).zip(into.chunks_exact_mut(SEALED_CHUNK_BYTES));
        for (number, (plain, sealed)) in (0..).zip(chunks) {
            let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
            let nonce = nonce(number);
            raw.seal_out_of_place_scatter(nonce, Aad::empty(), plain, body, &[], tag).unwrap();
        }
    };
    let mut buffer = vec![0; BUFFER / CHUNK_BYTES * SEALED_CHUNK_BYTES];
    let sealed_buffer = buffer.len();
    let mut raw_sealed = vec![0; size / CHUNK_BYTES * SEALED_CHUNK_BYTES];
    for (from, into) in plain.chunks(BUFFER).zip(raw_sealed.chunks_mut(sealed_buffer)) {
        seal(from, into);
    }
    let mut plain_seal = || {
        compute(|| {
            for from in (0..repeat).flat_map(|_| plain.chunks(BUFFER)) {
                seal(from, &mut buffer);
            }
        })
    };
    let mut opened = vec![0; BUFFER];
    let mut plain_open = || {
        compute(|| {
            for from in (0..repeat).flat_map(|_| raw_sealed.chunks(sealed_buffer)) {
                let chunks =
                    from.chunks_exact(SEALED_CHUNK_BYTES).zip(opened.chunks_exact_mut(CHUNK_BYTES));
                for (number, (sealed, out)) in (0..).zip(chunks) {
                    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().unwrap();
                    raw.open_separate_gather(nonce(number), Aad::empty(), body, tag, out).unwrap();
                }
            }
        })
    };
    // What comes out is dropped: new memory for it would cost more than sealing does.
    let walls: [RefCell<Vec<f64>>; 2] = Default::default();
    let timed = |at: usize, work: &mut dyn FnMut()| {
        let before = (Instant::now(), own_cpu_seconds());
        work();
        walls[at].borrow_mut().push(before.0.elapsed().as_secs_f64());
        own_cpu_seconds() - before.1
    };
    let mut stream_seal = || {
        timed(0, &mut || {
            let mut left = keys.borrow_mut();
            let from = left.len() - repeat;
            let keys = left.split_off(from);
            runtime.block_on(async {
                for key in keys {
                    key.seal_stream(&mut plain.as_slice(), &mut tokio::io::sink()).await.unwrap();
                }
            });
        })
    };
    let mut stream_open = || {
        timed(1, &mut || {
            runtime.block_on(async {
                for _ in 0..repeat {
                    let input = &mut &*payload;
                    opening.open_stream(input, &mut tokio::io::sink()).await.unwrap();
                }
            });
        })
    };
    let mut works: [&mut dyn FnMut() -> f64; 4] =
        [&mut plain_seal, &mut stream_seal, &mut plain_open, &mut stream_open];
    let mut seconds = in_turns(rounds, &mut works);
    let mut next = || seconds.remove(0);
    // The first round does not count.
    let [seal_wall, open_wall] = walls.map(|walls| walls.into_inner().split_off(1));
    Ok([[next(), next(), seal_wall], [next(), next(), open_wall]])
}
