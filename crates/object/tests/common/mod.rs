//! What the tests of this crate share: seeded randomness, nodes played by a hash, and a reader that
//! does all steps in order.
#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "only tests use this")]

use quorate_object::cobblestone::{OpenError, PREFIX_BYTES, StreamDecryptor};
use quorate_object::header::{HeaderError, HeaderTampered, OtherPayload};
use quorate_object::kek::KekError;
use quorate_object::{
    ContextStorage, Draft, Encryptor, LabelError, OpenStanzaError, ParsedHeader, PayloadSuite,
    StanzaFacts, StanzaPlan,
};
use quorate_secret::{Fragment, PrfOutput, Secret};
use quorate_types::{KeyId, KeySpec, KeyVersion, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::{EncryptionContext, Label};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha512};

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Stands in for the committee's PRF: some fixed function of the label.
pub fn prf(label: &Label) -> PrfOutput {
    let mut hash = Sha512::new();
    hash.update(b"the nodes of this test");
    hash.update(label.canonical_bytes());
    PrfOutput::new(Secret::take(&mut hash.finalize().into()))
}

pub fn facts(reader: u8) -> StanzaFacts {
    StanzaFacts {
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: TenantId::from_bytes([0x11; 32]),
        key: KeyId::from_bytes([0x20 + reader; 32]),
        version: KeyVersion::FIRST,
        creator: PrincipalId::from_bytes([0x33; 32]),
        created_at: UnixSeconds(1_800_000_000),
    }
}

pub fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711"), ("path", "/invoices/2027.pdf")]).unwrap()
}

pub fn plan(reader: u8, rng: &mut ChaCha20Rng) -> StanzaPlan {
    StanzaPlan::new(facts(reader), &context(), ContextStorage::NotStored, None, rng)
}

pub fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

pub fn seal_with(plans: Vec<StanzaPlan>, plain: &[u8], rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, rng);
    for plan in plans {
        let answer = prf(plan.label());
        draft.add_reader(plan, &answer, None).unwrap();
    }
    let new = draft.finish(rng).unwrap();
    let mut file = new.header.bytes().to_vec();
    file.extend_from_slice(&new.prefix);
    let start = file.len();
    file.resize(start + Encryptor::finish_len(plain.len()), 0);
    new.encryptor.finish(plain, &mut file[start..]).unwrap();
    file
}

/// An object with `readers` stanzas.
pub fn seal(readers: u8, plain: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = rng(seed);
    let plans = (0..readers).map(|reader| plan(reader, &mut rng)).collect();
    seal_with(plans, plain, &mut rng)
}

#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Header(HeaderError),
    Label(LabelError),
    Kek(KekError),
    Stanza(OpenStanzaError),
    Tampered(HeaderTampered),
    Payload(OtherPayload),
    Chunk(OpenError),
    NoPrefix,
}

/// Reads a whole file through stanza `index`, all or nothing.
pub fn open_with(
    file: &[u8],
    index: usize,
    context: &EncryptionContext,
    fragment: Option<&Fragment>,
) -> Result<Vec<u8>, Failure> {
    let header = ParsedHeader::parse(file).map_err(Failure::Header)?;
    let payload = &file[header.length()..];
    let Some(stanza) = header.stanzas().get(index) else {
        return Err(Failure::Stanza(OpenStanzaError::NoSuchStanza(index)));
    };
    let label = stanza.label(Some(context)).map_err(Failure::Label)?;
    let term = match fragment {
        Some(fragment) => Some(stanza.customer_term(fragment, &label).map_err(Failure::Kek)?),
        None => None,
    };
    let kek = stanza.kek(&label, &prf(&label), term.as_ref()).map_err(Failure::Kek)?;
    let data_key = header.open_stanza(index, &kek).map_err(Failure::Stanza)?;
    let header = header.authenticate(data_key).map_err(Failure::Tampered)?;
    let (prefix, chunks) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or(Failure::NoPrefix)?;
    let stream = header.decryptor(prefix).map_err(Failure::Payload)?.stream();
    let mut out = vec![0xee; StreamDecryptor::finish_len(chunks.len()).unwrap_or(0)];
    stream.finish(chunks, &mut out).map_err(Failure::Chunk)?;
    Ok(out)
}

pub fn open(file: &[u8], index: usize) -> Result<Vec<u8>, Failure> {
    open_with(file, index, &context(), None)
}

pub fn header_length(file: &[u8]) -> usize {
    ParsedHeader::parse(file).unwrap().length()
}
