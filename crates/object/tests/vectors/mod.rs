//! Makes `spec/vectors/sealed-object.json` from fixed randomness. What the header derives is computed
//! here a second time, with HMAC alone, so that the file does not only repeat what the crate does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "vectors come out whole or not")]

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use quorate_object::header::LEAD_IN_BYTES;
use quorate_object::kek::FragmentId;
use quorate_object::{
    AuthenticatedHeader, ContextStorage, Draft, Encryptor, ParsedHeader, PayloadSuite, Stanza,
    StanzaFacts, StanzaPlan, WrappedDataKey,
};
use quorate_secret::{CustomerTerm, Fragment, PrfOutput, Secret};
use quorate_types::{KeyId, KeySpec, KeyVersion, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::{EncryptionContext, Label};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn fragment() -> Fragment {
    Fragment::new(Secret::from_fn(|f| f.fill(0xf0)))
}

/// The PRF output of these vectors: SHA-512("vector PRF" ‖ label).
fn prf_bytes(label: &Label) -> [u8; 64] {
    let mut hash = Sha512::new();
    hash.update(b"vector PRF");
    hash.update(label.canonical_bytes());
    hash.finalize().into()
}

fn prf(label: &Label) -> PrfOutput {
    PrfOutput::new(Secret::take(&mut prf_bytes(label)))
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711"), ("straße", "Zürich")]).unwrap()
}

fn plan(
    rng: &mut ChaCha20Rng,
    key: u8,
    storage: ContextStorage,
    with_fragment: bool,
) -> StanzaPlan {
    let facts = StanzaFacts {
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: TenantId::from_bytes([0x11; 32]),
        key: KeyId::from_bytes([key; 32]),
        version: KeyVersion::new(3).unwrap(),
        creator: PrincipalId::from_bytes([0x33; 32]),
        created_at: UnixSeconds(1_800_000_000),
    };
    let fragment = with_fragment.then(|| FragmentId::of(&fragment()));
    StanzaPlan::new(facts, &context(), storage, fragment, rng)
}

fn term(plan: &StanzaPlan) -> Option<CustomerTerm> {
    plan.fragment().map(|_| plan.customer_term(&fragment()).unwrap())
}

fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// The first `N` bytes, at most 64, of HKDF-Expand with SHA-512: one HMAC.
fn expand<const N: usize>(prk: &[u8], info: &[&[u8]]) -> [u8; N] {
    let mut mac = Hmac::<Sha512>::new_from_slice(prk).unwrap();
    for part in info {
        mac.update(part);
    }
    mac.update(&[1]);
    *mac.finalize().into_bytes().first_chunk().unwrap()
}

fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// All that a reader of one stanza computes, down to the data key.
fn stanza_values(stanza: &Stanza) -> (Value, [u8; 64]) {
    let label = stanza.label(Some(&context())).unwrap();
    let bytes = label.canonical_bytes();
    let prf = prf_bytes(&label);
    let mut ikm = prf.to_vec();
    let mut info = stanza.flags().bits().to_be_bytes().to_vec();
    info.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    info.extend_from_slice(&bytes);
    let mut customer = Value::Null;
    if let Some(id) = stanza.fragment() {
        let key = fragment();
        let term = hmac_sha256(key.reveal(), &[b"Quorate-v1 customer term\0", &bytes]);
        ikm.extend_from_slice(&term);
        info.extend_from_slice(id.as_bytes());
        customer = json!({
            "fragment": hex(key.reveal()),
            "check_value": hex(id.as_bytes()),
            "term": hex(term),
        });
    }
    info.extend_from_slice(stanza.salt());
    let mut kek = [0; 64];
    Hkdf::<Sha512>::new(Some(b"Quorate-v1 KEK\0"), &ikm).expand(&info, &mut kek).unwrap();
    let pairs: Vec<[&str; 2]> = stanza
        .stored_context()
        .map_or(Vec::new(), |c| c.pairs().iter().map(|(k, v)| [k.as_str(), v.as_str()]).collect());
    let facts = stanza.facts();
    let values = json!({
        "flags": stanza.flags().bits(),
        "key_spec": facts.spec.number(),
        "tenant": hex(facts.tenant.as_bytes()),
        "key": hex(facts.key.as_bytes()),
        "key_version": facts.version.get(),
        "creator": hex(facts.creator.as_bytes()),
        "created_at": facts.created_at.0,
        "nonce": hex(stanza.nonce()),
        "salt": hex(stanza.salt()),
        "stored_context": stanza.stored_context().map(|_| pairs),
        "customer": customer,
        "label": hex(&bytes),
        "prf_output": hex(prf),
        "kek_info": hex(&info),
        "kek": hex(kek),
        "wrap_key": hex(expand::<32>(&kek, &[b"Quorate-v1 stanza wrap key\0"])),
        "wrap_nonce": hex(expand::<12>(&kek, &[b"Quorate-v1 stanza wrap nonce\0"])),
        "commitment": hex(expand::<32>(&kek, &[b"Quorate-v1 stanza commitment\0"])),
    });
    (values, kek)
}

struct Object {
    value: Value,
    header: AuthenticatedHeader,
    file: Vec<u8>,
}

fn values(name: &str, header: &AuthenticatedHeader, payload: &[u8], length: usize) -> Value {
    let parsed = ParsedHeader::parse(header.bytes()).unwrap();
    let stanzas: Vec<_> = header.stanzas().iter().map(stanza_values).collect();
    let key = quorate_secret::Kek::new(Secret::take(&mut stanzas[0].1.clone()));
    let data_key = parsed.open_stanza(0, &key).unwrap();
    let digest = header.prologue().digest();
    let mac_key = expand::<32>(data_key.reveal(), &[b"Quorate-v1 header MAC key\0", &digest]);
    let input_key = expand::<32>(data_key.reveal(), &[b"Quorate-v1 payload input key\0"]);
    let covered = &header.bytes()[..parsed.length() - 32];
    let mut value = json!({
        "name": name,
        "object_id": hex(header.prologue().object().as_bytes()),
        "prologue_digest": hex(digest),
        "data_key": hex(data_key.reveal()),
        "stanzas": stanzas.into_iter().map(|(value, _)| value).collect::<Vec<_>>(),
        "mac_key": hex(mac_key),
        "mac": hex(hmac_sha256(&mac_key, &[covered])),
        "header": hex(header.bytes()),
        "payload_input_key": hex(input_key),
        "payload_salt": hex(&payload[..24]),
        "plaintext_length": length,
        "payload_length": payload.len(),
        "payload_sha512": hex(Sha512::digest(payload)),
    });
    if payload.len() <= 256 {
        value["payload"] = json!(hex(payload));
    }
    value
}

fn object(name: &str, plans: Vec<StanzaPlan>, length: usize, rng: &mut ChaCha20Rng) -> Object {
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, rng);
    for plan in plans {
        let (answer, term) = (prf(plan.label()), term(&plan));
        draft.add_reader(plan, &answer, term.as_ref()).unwrap();
    }
    let new = draft.finish(rng).unwrap();
    let mut payload = new.prefix.to_vec();
    payload.resize(new.prefix.len() + Encryptor::finish_len(length), 0);
    new.encryptor.finish(&plaintext(length), &mut payload[new.prefix.len()..]).unwrap();
    let value = values(name, &new.header, &payload, length);
    let file = [new.header.bytes(), &payload].concat();
    Object { value, header: new.header, file }
}

fn rejection(name: &str, step: &str, error: &str, file: &[u8]) -> Value {
    json!({ "name": name, "step": step, "error": error, "file": hex(file) })
}

/// Files that must not open through stanza 0, at which step they fail, and this crate's error.
fn rejections(one: &Object, two: &Object) -> Vec<Value> {
    let file = &one.file;
    let header = one.header.bytes().len();
    let stanza = LEAD_IN_BYTES + 2;
    let put = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let flip = |at: usize| put(at, &[file[at] ^ 1]);
    let case = |name, step, error, file: Vec<u8>| rejection(name, step, error, &file);
    let crossed = [one.header.bytes(), &two.file[two.header.bytes().len()..]].concat();
    vec![
        case("empty file", "parse", "Truncated", Vec::new()),
        case("another magic", "parse", "NotQuorate", put(0, b"q")),
        case("version 2", "parse", "UnknownVersion", put(8, &[0, 2])),
        case("version 0", "parse", "UnknownVersion", put(8, &[0, 0])),
        case("suite 2", "parse", "UnknownSuite", put(10, &[0, 2])),
        case("header length 0", "parse", "HeaderLength", put(44, &[0; 4])),
        case("header length too large", "parse", "HeaderLength", put(44, &[0xff; 4])),
        case(
            "header length one short",
            "parse",
            "LengthMismatch",
            put(44, &(header as u32 - 1).to_be_bytes()),
        ),
        case("no stanza", "parse", "NoStanzas", put(48, &[0, 0])),
        case("65 stanzas", "parse", "TooManyStanzas", put(48, &[0, 65])),
        case("count above the stanzas", "parse", "LengthMismatch", put(48, &[0, 2])),
        case("reserved post-quantum flag", "parse", "UnknownFlags", put(stanza, &[1, 0])),
        case("unknown flag", "parse", "UnknownFlags", put(stanza, &[0, 4])),
        case("unknown key spec", "parse", "UnknownKeySpec", put(stanza + 2, &[2])),
        case("key version 0", "parse", "KeyVersionZero", put(stanza + 67, &[0; 4])),
        case("wrapped key of 31 bytes", "parse", "WrappedKeyLength", put(stanza + 199, &[0, 31])),
        case("stanza ends early", "parse", "Truncated", put(stanza + 199, &[0, 49])),
        case("header cut", "parse", "Truncated", file[..header - 1].to_vec()),
        case("other tenant", "stanza", "WrongKey", flip(stanza + 3)),
        case("other key", "stanza", "WrongKey", flip(stanza + 35)),
        case("other key version", "stanza", "WrongKey", flip(stanza + 70)),
        case("other creator", "stanza", "WrongKey", flip(stanza + 71)),
        case("other creation time", "stanza", "WrongKey", flip(stanza + 110)),
        case("other nonce", "stanza", "WrongKey", flip(stanza + 111)),
        case("other salt", "stanza", "WrongKey", flip(stanza + 135)),
        case("other commitment", "stanza", "WrongKey", flip(stanza + 167)),
        case("changed wrapped key", "stanza", "StanzaTampered", flip(stanza + 201)),
        case("changed tag of the wrapped key", "stanza", "StanzaTampered", flip(stanza + 248)),
        case("other object id", "stanza", "StanzaTampered", flip(12)),
        case("changed header MAC", "header", "HeaderTampered", flip(header - 1)),
        case("no payload prefix", "payload", "Truncated", file[..header + 55].to_vec()),
        case("changed payload salt", "payload", "OtherPayload", flip(header)),
        case("changed payload commitment", "payload", "OtherPayload", flip(header + 24)),
        case("payload of another object", "payload", "OtherPayload", crossed),
        case("changed chunk", "payload", "PayloadTampered", flip(header + 56)),
        case("cut inside the tag", "payload", "Truncated", file[..header + 56 + 15].to_vec()),
        case("no last chunk", "payload", "Truncated", file[..header + 56].to_vec()),
        case("cut chunk", "payload", "PayloadTampered", file[..file.len() - 1].to_vec()),
        case("byte appended", "payload", "PayloadTampered", [&file[..], &[0]].concat()),
    ]
}

/// Headers whose stored context is not canonical: it has the pairs customer/4711 and straße/Zürich.
fn context_rejections(stored: &Object) -> Vec<Value> {
    let file = &stored.file;
    let context = LEAD_IN_BYTES + 2 + 167 + 2;
    let put = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[context + at..context + at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let case = |name, error, file: Vec<u8>| rejection(name, "parse", error, &file);
    vec![
        case("context with 33 pairs", "Context", put(0, &[0, 0, 0, 33])),
        case("context with fewer pairs than bytes", "TrailingBytes", put(0, &[0, 0, 0, 1])),
        case("context with more pairs than bytes", "Truncated", put(0, &[0, 0, 0, 3])),
        case("context not sorted", "Context", put(8, b"z")),
        case("context with a control character", "Context", put(8, b"\n")),
        case("context not UTF-8", "ContextNotText", put(8, &[0xff])),
        // c followed by a combining cedilla: not in normalization form C.
        case("context not in form C", "Context", put(9, "\u{327}".as_bytes())),
    ]
}

/// Bytes that are no wrapped data key, or do not unwrap.
fn wrapped_rejections(wrapped: &Value, object: &Object) -> Vec<Value> {
    let bytes = HEXLOWER.decode(wrapped["wrapped"].as_str().unwrap().as_bytes()).unwrap();
    let put = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let header = object.header.bytes();
    let moved = [&bytes[..10], &header[LEAD_IN_BYTES..header.len() - 32]].concat();
    let case = |name: &str, step: &str, error: &str, bytes: Vec<u8>| json!({ "name": name, "step": step, "error": error, "wrapped": hex(bytes) });
    vec![
        case("empty", "parse", "Truncated", Vec::new()),
        case("one byte short", "parse", "Truncated", bytes[..bytes.len() - 1].to_vec()),
        case("one byte more", "parse", "TrailingBytes", [&bytes[..], &[0]].concat()),
        case("magic of an object", "parse", "NotQuorate", put(0, b"QUORATE\0")),
        case("version 2", "parse", "UnknownVersion", put(8, &[0, 2])),
        case("unknown flag", "parse", "UnknownFlags", put(12, &[0x80, 0])),
        case("key of 15 bytes", "parse", "WrappedKeyLength", put(12 + 199, &[0, 31])),
        case("key of 65 bytes", "parse", "WrappedKeyLength", put(12 + 199, &[0, 81])),
        case("other salt", "stanza", "WrongKey", put(12 + 135, &[bytes[12 + 135] ^ 1])),
        case("changed key", "stanza", "StanzaTampered", put(12 + 201, &[bytes[12 + 201] ^ 1])),
        case("stanza of an object", "stanza", "StanzaTampered", moved),
    ]
}

fn wrapped_key(rng: &mut ChaCha20Rng, name: &str, length: usize, with_fragment: bool) -> Value {
    let plan = plan(rng, 0x22, ContextStorage::NotStored, with_fragment);
    let (answer, term) = (prf(plan.label()), term(&plan));
    let key = plaintext(length);
    let wrapped = WrappedDataKey::wrap(plan, &answer, term.as_ref(), &key).unwrap();
    json!({
        "name": name,
        "data_key": hex(key),
        "stanza": stanza_values(wrapped.stanza()).0,
        "wrapped": hex(wrapped.to_bytes()),
    })
}

/// The whole file.
pub fn build() -> Value {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (clear, hidden) = (ContextStorage::Stored, ContextStorage::NotStored);
    let short = vec![plan(&mut rng, 0x22, hidden, false)];
    let mut short = object("one stanza, short message", short, 11, &mut rng);
    let empty = vec![plan(&mut rng, 0x22, hidden, false)];
    let empty = object("empty message", empty, 0, &mut rng);
    let stored = vec![plan(&mut rng, 0x22, clear, false)];
    let stored = object("stored encryption context", stored, 5, &mut rng);
    let fragment = vec![plan(&mut rng, 0x22, hidden, true)];
    let fragment = object("customer fragment", fragment, 5, &mut rng);
    let many = vec![
        plan(&mut rng, 0x22, clear, true),
        plan(&mut rng, 0x23, hidden, false),
        plan(&mut rng, 0x24, hidden, true),
    ];
    let many = object("three stanzas, three chunks", many, 2 * 16_384 + 1, &mut rng);
    let exact = vec![plan(&mut rng, 0x22, hidden, false)];
    let exact = object("one whole chunk and an empty one", exact, 16_384, &mut rng);

    let mut rejections = rejections(&short, &empty);
    rejections.extend(context_rejections(&stored));
    let payload = short.file[short.header.bytes().len()..].to_vec();
    let next = KeyVersion::new(4).unwrap();
    let plan = short.header.stanzas()[0].plan_rewrap(Some(&context()), next, None, &mut rng);
    let plan = plan.unwrap();
    let answer = prf(plan.label());
    short.header.rewrap(0, plan, &answer, None).unwrap();
    let rewrapped = values("the first object, rewrapped", &short.header, &payload, 11);

    let wrapped = [
        wrapped_key(&mut rng, "32 bytes", 32, false),
        wrapped_key(&mut rng, "16 bytes, customer fragment", 16, true),
        wrapped_key(&mut rng, "64 bytes", 64, false),
    ];
    let wrapped_rejections = wrapped_rejections(&wrapped[0], &short);

    let context_pairs: Vec<[String; 2]> =
        context().pairs().iter().map(|(k, v)| [k.clone(), v.clone()]).collect();
    json!({
        "format": "Quorate sealed object, version 1: spec/sealed-object.md",
        "notes": [
            "All byte strings are in hexadecimal.",
            "The PRF output of these vectors is SHA-512(\"vector PRF\" || label).",
            "Byte i of every plaintext, and of every wrapped data key, is i mod 251.",
            "Payloads above 256 bytes are given by their SHA-512; they follow from salt and input key.",
            "A rejected file is read through its first stanza, with the encryption context given.",
        ],
        "encryption_context": {
            "pairs": context_pairs,
            "canonical": hex(context().canonical_bytes()),
            "sha256": hex(context().hash().as_bytes()),
        },
        "objects": [
            short.value, empty.value, stored.value, fragment.value, many.value, exact.value,
            rewrapped,
        ],
        "wrapped_data_keys": wrapped,
        "rejections": rejections,
        "wrapped_data_key_rejections": wrapped_rejections,
    })
}
