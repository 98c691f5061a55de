//! `spec/vectors/sealed-object.json`: what the code makes, and what the code does with what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests share fails loudly")]

mod vectors;

use std::path::Path;

use data_encoding::HEXLOWER;
use quorate_object::cobblestone::{OpenError, PREFIX_BYTES, StreamDecryptor};
use quorate_object::datakey::WrappedFormatError;
use quorate_object::header::HeaderError;
use quorate_object::{OpenStanzaError, ParsedHeader, Stanza, StanzaFormatError, WrappedDataKey};
use quorate_secret::{Fragment, Kek, PrfOutput, Secret, SecretVec};
use quorate_wire::{EncryptionContext, Label};
use serde_json::Value;
use sha2::{Digest, Sha512};

fn file() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/sealed-object.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn context(file: &Value) -> EncryptionContext {
    let pairs = file["encryption_context"]["pairs"].as_array().unwrap();
    let pairs = pairs.iter().map(|p| (p[0].as_str().unwrap(), p[1].as_str().unwrap()));
    let context = EncryptionContext::new(pairs).unwrap();
    assert_eq!(context.canonical_bytes(), hex(&file["encryption_context"]["canonical"]));
    context
}

fn prf(label: &Label) -> PrfOutput {
    let mut hash = Sha512::new();
    hash.update(b"vector PRF");
    hash.update(label.canonical_bytes());
    PrfOutput::new(Secret::take(&mut hash.finalize().into()))
}

fn kek(stanza: &Stanza, values: Option<&Value>, context: &EncryptionContext) -> Kek {
    let label = stanza.label(Some(context)).unwrap();
    let term = stanza.fragment().map(|_| {
        let fragment = Fragment::new(Secret::from_fn(|f| f.fill(0xf0)));
        stanza.customer_term(&fragment, &label).unwrap()
    });
    let kek = stanza.kek(&label, &prf(&label), term.as_ref()).unwrap();
    if let Some(values) = values {
        assert_eq!(label.canonical_bytes(), hex(&values["label"]));
        assert_eq!(kek.reveal()[..], hex(&values["kek"]));
        assert_eq!(stanza.commitment()[..], hex(&values["commitment"]));
    }
    kek
}

/// A changed line is a change of format, which a release never makes. When vectors are added, run
/// the example again.
#[test]
fn the_file_is_what_the_code_makes() {
    assert!(file() == vectors::build(), "run `cargo run -p quorate-object --example make_vectors`");
}

#[test]
fn every_object_opens_through_every_stanza() {
    let file = file();
    let context = context(&file);
    for object in file["objects"].as_array().unwrap() {
        let bytes = hex(&object["header"]);
        let length = object["plaintext_length"].as_u64().unwrap() as usize;
        for (index, values) in object["stanzas"].as_array().unwrap().iter().enumerate() {
            let header = ParsedHeader::parse(&bytes).unwrap();
            let kek = kek(&header.stanzas()[index], Some(values), &context);
            let key = header.open_stanza(index, &kek).unwrap();
            assert_eq!(key.reveal()[..], hex(&object["data_key"]));
            let header = header.authenticate(key).unwrap();
            if object["payload"].is_null() {
                continue;
            }
            let payload = hex(&object["payload"]);
            let (prefix, chunks) = payload.split_first_chunk::<PREFIX_BYTES>().unwrap();
            let mut out = vec![0; length];
            header.decryptor(prefix).unwrap().stream().finish(chunks, &mut out).unwrap();
            assert!(out.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251));
        }
    }
    for wrapped in file["wrapped_data_keys"].as_array().unwrap() {
        let parsed = WrappedDataKey::parse(&hex(&wrapped["wrapped"])).unwrap();
        let kek = kek(parsed.stanza(), Some(&wrapped["stanza"]), &context);
        assert_eq!(parsed.unwrap(&kek).unwrap().reveal(), hex(&wrapped["data_key"]));
    }
}

#[test]
fn every_rejection_fails_at_its_step() {
    let file = file();
    let context = context(&file);
    let rejections = file["rejections"].as_array().unwrap();
    assert!(rejections.len() >= 46);
    for case in rejections {
        let found = read(&hex(&case["file"]), &context).unwrap_err();
        let expected = (case["step"].as_str().unwrap(), case["error"].as_str().unwrap());
        assert_eq!(found, expected, "{}", case["name"]);
    }
    let rejections = file["wrapped_data_key_rejections"].as_array().unwrap();
    assert!(rejections.len() >= 11);
    for case in rejections {
        let found = unwrap(&hex(&case["wrapped"]), &context).unwrap_err();
        let expected = (case["step"].as_str().unwrap(), case["error"].as_str().unwrap());
        assert_eq!(found, expected, "{}", case["name"]);
    }
}

fn unwrap(
    bytes: &[u8],
    context: &EncryptionContext,
) -> Result<SecretVec, (&'static str, &'static str)> {
    let wrapped = WrappedDataKey::parse(bytes).map_err(|error| {
        let name = match error {
            WrappedFormatError::NotQuorate => "NotQuorate",
            WrappedFormatError::Truncated => "Truncated",
            WrappedFormatError::TrailingBytes => "TrailingBytes",
            WrappedFormatError::UnknownVersion(_) => "UnknownVersion",
            WrappedFormatError::Stanza(source) => stanza_format_error(&source),
        };
        ("parse", name)
    })?;
    let kek = kek(wrapped.stanza(), None, context);
    wrapped.unwrap(&kek).map_err(|error| ("stanza", stanza_error(error)))
}

fn stanza_error(error: OpenStanzaError) -> &'static str {
    match error {
        OpenStanzaError::WrongKey => "WrongKey",
        OpenStanzaError::StanzaTampered => "StanzaTampered",
        OpenStanzaError::NoSuchStanza(_) => "NoSuchStanza",
    }
}

fn stanza_format_error(error: &StanzaFormatError) -> &'static str {
    match error {
        StanzaFormatError::Truncated => "Truncated",
        StanzaFormatError::TrailingBytes => "TrailingBytes",
        StanzaFormatError::UnknownFlags(_) => "UnknownFlags",
        StanzaFormatError::UnknownKeySpec(_) => "UnknownKeySpec",
        StanzaFormatError::KeyVersionZero => "KeyVersionZero",
        StanzaFormatError::ContextNotText => "ContextNotText",
        StanzaFormatError::Context(_) => "Context",
        StanzaFormatError::WrappedKeyLength(_) => "WrappedKeyLength",
    }
}

fn read(file: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, (&'static str, &'static str)> {
    let header = ParsedHeader::parse(file).map_err(|error| ("parse", parse_error(&error)))?;
    let payload = &file[header.length()..];
    let kek = kek(&header.stanzas()[0], None, context);
    let key = header.open_stanza(0, &kek).map_err(|error| ("stanza", stanza_error(error)))?;
    let header = header.authenticate(key).map_err(|_| ("header", "HeaderTampered"))?;
    let (prefix, chunks) = payload.split_first_chunk().ok_or(("payload", "Truncated"))?;
    let stream = header.decryptor(prefix).map_err(|_| ("payload", "OtherPayload"))?.stream();
    let mut out = vec![0; StreamDecryptor::finish_len(chunks.len()).unwrap_or(0)];
    stream.finish(chunks, &mut out).map_err(|error| {
        let name = match error {
            OpenError::PayloadTampered { .. } => "PayloadTampered",
            OpenError::Truncated { .. } => "Truncated",
            _ => "another",
        };
        ("payload", name)
    })?;
    Ok(out)
}

fn parse_error(error: &HeaderError) -> &'static str {
    match error {
        HeaderError::NotQuorate => "NotQuorate",
        HeaderError::Truncated { .. } => "Truncated",
        HeaderError::UnknownVersion(_) => "UnknownVersion",
        HeaderError::UnknownSuite(_) => "UnknownSuite",
        HeaderError::HeaderLength(_) => "HeaderLength",
        HeaderError::NoStanzas => "NoStanzas",
        HeaderError::TooManyStanzas(_) => "TooManyStanzas",
        HeaderError::LengthMismatch => "LengthMismatch",
        HeaderError::Stanza { source, .. } => stanza_format_error(source),
    }
}
