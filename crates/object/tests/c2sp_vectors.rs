//! Cobblestone-256 against the vectors of the C2SP Wycheproof suite.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what these tests share fails loudly too"
)]

use std::path::Path;

use data_encoding::HEXLOWER;
use quorate_object::cobblestone::{
    CHUNK_BYTES, ChunkPlace, Decryptor, Encryptor, Geometry, InputKey, OpenError, PREFIX_BYTES,
    SEALED_CHUNK_BYTES, StreamDecryptor,
};
use serde_json::Value;
use sha2::{Digest, Sha512};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// What came out before the end or the first failure, and whether it was the whole message.
struct Outcome {
    released: Vec<u8>,
    header_failed: bool,
    result: Result<(), ()>,
}

fn start(key: &[u8], context: &[u8], sealed: &[u8]) -> Result<Decryptor, ()> {
    let key = InputKey::from_slice(key).map_err(|_| ())?;
    let prefix = sealed.first_chunk::<PREFIX_BYTES>().ok_or(())?;
    Decryptor::start(&key, context, prefix).map_err(|_| ())
}

/// Chunk by chunk, so that the longest valid prefix is seen.
fn stream(key: &[u8], context: &[u8], sealed: &[u8]) -> Outcome {
    let Ok(decryptor) = start(key, context, sealed) else {
        return Outcome { released: Vec::new(), header_failed: true, result: Err(()) };
    };
    let mut stream = decryptor.stream();
    let mut released = Vec::new();
    let mut rest = &sealed[PREFIX_BYTES..];
    while rest.len() >= SEALED_CHUNK_BYTES {
        let (chunk, after) = rest.split_at(SEALED_CHUNK_BYTES);
        let mut out = [0xee; CHUNK_BYTES];
        if stream.open_chunks(chunk, &mut out).is_err() {
            assert_eq!(out, [0; CHUNK_BYTES], "a failing chunk releases nothing");
            // It keeps failing, also for what was valid at another place.
            assert_eq!(stream.open_chunks(chunk, &mut out), Err(OpenError::Failed));
            let mut last = vec![0; StreamDecryptor::finish_len(after.len()).unwrap_or(0)];
            assert_eq!(stream.finish(after, &mut last), Err(OpenError::Failed));
            return Outcome { released, header_failed: false, result: Err(()) };
        }
        released.extend_from_slice(&out);
        rest = after;
    }
    let mut out = vec![0xee; StreamDecryptor::finish_len(rest.len()).unwrap_or(0)];
    let result = stream.finish(rest, &mut out).map_err(|_| ());
    if result.is_ok() {
        released.extend_from_slice(&out);
    } else {
        assert!(out.iter().all(|b| *b == 0), "a failing chunk releases nothing");
    }
    Outcome { released, header_failed: false, result }
}

/// All at once.
fn whole(key: &[u8], context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, ()> {
    let stream = start(key, context, sealed)?.stream();
    let chunks = &sealed[PREFIX_BYTES..];
    let mut out = vec![0; StreamDecryptor::finish_len(chunks.len()).ok_or(())?];
    stream.finish(chunks, &mut out).map_err(|_| ())?;
    Ok(out)
}

/// Seals the opened message again with the vector's own salt: the same bytes must come out.
fn seal_again(key: &[u8], context: &[u8], salt: [u8; 24], message: &[u8]) -> Vec<u8> {
    let key = InputKey::from_slice(key).unwrap();
    let (prefix, encryptor) = Encryptor::start(&key, context, salt);
    let mut out = prefix.to_vec();
    out.resize(PREFIX_BYTES + Encryptor::finish_len(message.len()), 0);
    encryptor.finish(message, &mut out[PREFIX_BYTES..]).unwrap();
    out
}

fn check_valid(key: &[u8], context: &[u8], sealed: &[u8], sha512: &[u8], length: usize) {
    let outcome = stream(key, context, sealed);
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.released.len(), length);
    assert_eq!(Sha512::digest(&outcome.released)[..], *sha512);
    assert_eq!(whole(key, context, sealed).as_deref(), Ok(outcome.released.as_slice()));
    let salt = *sealed.first_chunk().unwrap();
    assert_eq!(seal_again(key, context, salt, &outcome.released), sealed);
    let geometry = Geometry::of_sealed(sealed.len() as u64).unwrap();
    assert_eq!(geometry.plain_len(), length as u64);
    assert_eq!(geometry, Geometry::of_plaintext(length as u64).unwrap());
}

const YELLOW: &str = "59454c4c4f57205355424d4152494e452059454c4c4f57205355424d4152494e";
const ORANGE: &str = "4f52414e4745205355424d4152494e45204f52414e4745205355424d4152494e";
const SHORT_SHA512: &str = "e85f32a85f1d4f7c9b2d36d20eca8435d81253e7075e9dea069eb1b6da48daf92ef1797367b520d8a46c4f72cecb85b1daff8887fcb41721d39943d1952fc180";

/// Vectors 1, 2 and 9 as values, for checkouts without the file.
#[test]
fn c2sp_valid_vectors_as_values() {
    let cases = [
        (
            "",
            "43a2e39431cbae0389d3fc86adf46f7c3a24de88d9311617e53f3164cc1d5dc738a66b97f0bf786565c31799c2f463d50a7e10046011dc6fc3c939e3a5db7affb6191551669554fb",
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            0,
        ),
        (
            "",
            "a1a1b56f6db58cd1ede0c5c9db62aef20d3f96a6c594bb9252bb38122de91236502b42a1d7fcab820ffa292940d2f86add212cfa42c38df19d3cc9139ee61a5990d3db57433514229beea49a8a72bd",
            SHORT_SHA512,
            7,
        ),
        (
            "7465737420636f6e74657874",
            "dbedaefc1c35dc6c0f22b743b03e488747166a51f33479e7ceb8b7e11cc0d2710f624a127501bc4aea7d0af6f83cfe359b9e69415aa537f36adf86eb35b070475baa039bb7791432adbca49578bbd3",
            SHORT_SHA512,
            7,
        ),
    ];
    for (context, sealed, sha512, length) in cases {
        check_valid(&hex(YELLOW), &hex(context), &hex(sealed), &hex(sha512), length);
    }
}

/// Vectors 11, 17, 21, 22, 25 and 26 as values: flipped bit, short tag, wrong commitment, wrong key,
/// wrong context, corrupted salt.
#[test]
fn c2sp_invalid_vectors_as_values() {
    let cases = [
        (
            YELLOW,
            "",
            false,
            "0093274a932cb4340ca678d500719d80ccc21f69c49586a8cae519f1ae94a13a97038610177fe840ac755f6604849272444b0de559508a2a00538b8dd8cc3a83e14df1343fa14630a2",
        ),
        (
            YELLOW,
            "",
            false,
            "679551dfcc4221c2c5f3dfcff2f94fcd7df0dc5d0dac8ceb294cda58ffffbe199532a141b16102b69550faa5e1315a3c823e58b9e3141839e1fd278b80a7dabc12eaa4ed",
        ),
        (
            YELLOW,
            "",
            true,
            "a7bf214ab87afe86ae30940aba6d25aa92d1c26a7c4de03ece1f5f63bd31ca5d9517ce97effb9ce62c4f01433335d070ca3de6243f4cb67a00a4deb622c6b80140d1c88f54ade32fdc",
        ),
        (
            ORANGE,
            "",
            true,
            "abeb3f4f4a3ea1f1f76bc25808b37063d4cb21425ca6a8b16271ed22f6a3f51ec7e7fa4dcef196179d3c77b5b42103766ae1975bae6ae0690079aa245e53811c13d45a553b0365b499",
        ),
        (
            YELLOW,
            "77726f6e6720636f6e74657874",
            true,
            "36201844cafc0e596bec8782c560b7b1d065b90a94d227007f07a7185f0c1f449310232a0ff1d5667ece42aff4e7c0359df78ece43b312d50034c80236b5c7900f7eebe540d242b8eb",
        ),
        (
            YELLOW,
            "",
            true,
            "7c510aa191fdb799b3715106fb9da30a3e314a08a12bf1eed6084369ad9560c21c856d0087e1206c5c1e9a994b3ca98542e0fe1ffef9e23c0091398606b7077f679901eea490bb8f6b",
        ),
    ];
    for (key, context, header_failed, sealed) in cases {
        let outcome = stream(&hex(key), &hex(context), &hex(sealed));
        assert!(outcome.result.is_err());
        assert_eq!(outcome.header_failed, header_failed);
        assert!(outcome.released.is_empty());
    }
}

/// Every vector of the file: valid ones open and seal to the same bytes, invalid ones are refused at
/// the step that their flags name, and release exactly the prefix that the vector states.
#[test]
fn c2sp_vectors_in_full() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/c2sp-chunked-encryption-aes-256-gcm.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("{} is absent: only the vectors in this file were checked", path.display());
        return;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut checked = 0;
    for test in file["testGroups"].as_array().unwrap().iter().flat_map(|g| {
        assert_eq!(g["aead"], "AEAD_AES_256_GCM");
        g["tests"].as_array().unwrap()
    }) {
        let field = |name: &str| hex(test[name].as_str().unwrap_or_default());
        let flag = |name: &str| test["flags"].as_array().unwrap().iter().any(|f| f == name);
        let (key, context) = (field("key"), field("ctx"));
        let sealed = inflate(&field("ct"));
        let comment = &test["comment"];
        let length = test["msgLength"].as_u64().map(|n| n as usize);
        checked += 1;
        if test["result"] == "valid" {
            check_valid(&key, &context, &sealed, &field("msgSha512"), length.unwrap());
            continue;
        }
        let outcome = stream(&key, &context, &sealed);
        assert!(outcome.result.is_err(), "{comment}");
        assert!(whole(&key, &context, &sealed).is_err(), "{comment}");
        assert_eq!(outcome.header_failed, flag("HeaderFailure"), "{comment}");
        if flag("PartialPlaintext") {
            assert_eq!(Some(outcome.released.len()), length, "{comment}");
            assert_eq!(Sha512::digest(&outcome.released)[..], field("msgSha512"), "{comment}");
        } else {
            assert!(outcome.released.is_empty(), "{comment}");
        }
        if !flag("HeaderFailure") {
            assert_eq!(
                last_chunk_opens(&key, &context, &sealed),
                flag("ValidFinalChunk"),
                "{comment}"
            );
        }
    }
    assert_eq!(checked as u64, file["numberOfTests"].as_u64().unwrap());
}

/// Random access from the end, as a reader does who relies on the length.
fn last_chunk_opens(key: &[u8], context: &[u8], sealed: &[u8]) -> bool {
    let decryptor = start(key, context, sealed).unwrap();
    let Ok(geometry) = Geometry::of_sealed(sealed.len() as u64) else {
        return false;
    };
    let last = geometry.last_chunk();
    let chunk = &sealed[geometry.chunk_offset(last).unwrap() as usize..];
    let mut out = vec![0; geometry.last_plain_len() as usize];
    decryptor.open_chunk(last, ChunkPlace::Last, chunk, &mut out).is_ok()
}

/// RFC 1950 and 1951, as far as the vectors' compressed ciphertexts need: checksums are not looked
/// at, since what comes out is itself authenticated or must fail.
fn inflate(zlib: &[u8]) -> Vec<u8> {
    let mut bits = Bits { data: &zlib[2..], at: 0 };
    let mut out = Vec::new();
    loop {
        let last = bits.take(1) == 1;
        match bits.take(2) {
            0 => {
                bits.at = bits.at.next_multiple_of(8);
                let length = bits.take(16);
                bits.take(16);
                for _ in 0..length {
                    out.push(bits.take(8) as u8);
                }
            }
            1 => {
                let mut lengths = [8_u8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                block(&mut bits, &Huffman::new(&lengths), &Huffman::new(&[5; 30]), &mut out);
            }
            2 => {
                let literals = bits.take(5) + 257;
                let distances = bits.take(5) + 1;
                let codes = bits.take(4) + 4;
                let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
                let mut lengths = [0_u8; 19];
                for place in &order[..codes] {
                    lengths[*place] = bits.take(3) as u8;
                }
                let codes = Huffman::new(&lengths);
                let mut lengths: Vec<u8> = Vec::new();
                while lengths.len() < literals + distances {
                    let (value, times) = match codes.symbol(&mut bits) {
                        16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
                        17 => (0, 3 + bits.take(3)),
                        18 => (0, 11 + bits.take(7)),
                        symbol => (symbol as u8, 1),
                    };
                    lengths.extend(std::iter::repeat_n(value, times));
                }
                let (literals, distances) = lengths.split_at(literals);
                block(&mut bits, &Huffman::new(literals), &Huffman::new(distances), &mut out);
            }
            _ => panic!("block type 3"),
        }
        if last {
            return out;
        }
    }
}

fn block(bits: &mut Bits<'_>, literals: &Huffman, distances: &Huffman, out: &mut Vec<u8>) {
    loop {
        match literals.symbol(bits) {
            256 => return,
            literal @ 0..256 => out.push(literal as u8),
            symbol => {
                let step = symbol - 257;
                let length = match step {
                    0..8 => 3 + step,
                    28 => 258,
                    _ => {
                        let extra = step / 4 - 1;
                        3 + ((4 + step % 4) << extra) + bits.take(extra)
                    }
                };
                let symbol = distances.symbol(bits);
                let distance = match symbol {
                    0..4 => 1 + symbol,
                    _ => {
                        let extra = symbol / 2 - 1;
                        1 + ((2 + symbol % 2) << extra) + bits.take(extra)
                    }
                };
                for _ in 0..length {
                    out.push(out[out.len() - distance]);
                }
            }
        }
    }
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, bit| {
            let one = usize::from(self.data[self.at / 8] >> (self.at % 8)) & 1;
            self.at += 1;
            value | one << bit
        })
    }
}

/// Canonical codes: how many there are of each length, and their symbols in order.
struct Huffman {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Huffman {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for length in 1..16 {
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| **l == length) {
                counts[usize::from(length)] += 1;
                symbols.push(symbol);
            }
        }
        Self { counts, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code - first < *count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}
