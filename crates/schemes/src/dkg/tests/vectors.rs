//! The published vectors of COCKTAIL-DKG v0.2.1, byte for byte, intermediates included.

use std::path::Path;

use data_encoding::HEXLOWER;
use rand_chacha::rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::*;
use crate::dkg::cocktail::{
    self, Received, Round1Secrets, Setup, certify, deal, encode_transcript, receive, recovery,
    verifying_share,
};
use crate::dkg::schnorr;

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn point<S: Suite>(value: &Value) -> S::PointBytes {
    S::PointBytes::try_from(&bytes(value)).ok().unwrap()
}

fn signature<S: Suite>(value: &Value) -> S::SignatureBytes {
    S::SignatureBytes::try_from(&bytes(value)).ok().unwrap()
}

fn u16_of(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

/// Appendix B's labelled hash. As a stream, a counter of 8 bytes, little-endian, follows the label.
struct Stream {
    prefix: Vec<u8>,
    counter: u64,
    buffer: Vec<u8>,
}

impl Stream {
    fn new<S: Suite>(seed: &[u8], of: Threshold, label: &str) -> Self {
        let mut prefix = [seed, S::ID.as_bytes()].concat();
        prefix.extend(u32::from(of.t()).to_le_bytes());
        prefix.extend(u32::from(of.n()).to_le_bytes());
        prefix.extend(label.as_bytes());
        Self { prefix, counter: 0, buffer: Vec::new() }
    }

    fn hash(&self) -> [u8; 64] {
        Sha512::digest(&self.prefix).into()
    }
}

impl TryRng for Stream {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        while self.buffer.len() < out.len() {
            let input = [self.prefix.as_slice(), &self.counter.to_le_bytes()].concat();
            self.buffer.extend(Sha512::digest(input));
            self.counter += 1;
        }
        out.copy_from_slice(&self.buffer[..out.len()]);
        self.buffer.drain(..out.len());
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

fn check<S: Suite>(seed: &[u8], vector: &Value) {
    let of = of(u16_of(&vector["t"]), u16_of(&vector["n"]));

    // Setup.
    let keys: Vec<_> = of
        .indices()
        .zip(list(&vector["config"]["static_secret_keys"]))
        .map(|(i, expected)| {
            let wide = Stream::new::<S>(seed, of, &format!("static_secret_key_{i}")).hash();
            let secret = S::encode_scalar(&S::scalar_from_wide(&wide));
            assert_eq!(secret.to_vec(), bytes(expected));
            ReceiveKey::<S>::from_scalar(&secret).unwrap()
        })
        .collect();
    let public: Vec<_> = keys.iter().map(|key| *key.public()).collect();
    let expected: Vec<_> =
        list(&vector["config"]["static_public_keys"]).iter().map(point::<S>).collect();
    assert_eq!(public, expected);
    let tag = bytes(&vector["session_tag"]);
    assert_eq!(tag, format!("COCKTAIL-DKG-TEST-VECTOR-{}-OF-{}", of.t(), of.n()).into_bytes());
    let setup = Setup::<S>::new(&tag, of, &public).unwrap();
    assert_eq!(setup.context(), bytes(&vector["context"]));

    // Payloads and the extension over them.
    let payloads: Option<Vec<_>> =
        vector.get("payloads").map(|p| list(p).iter().map(bytes).collect());
    let mut extension = Vec::new();
    if let Some(payloads) = &payloads {
        extension.extend(u64::from(of.n()).to_le_bytes());
        for (i, payload) in of.indices().zip(payloads) {
            let wide = Stream::new::<S>(seed, of, &format!("payload_{i}")).hash();
            assert!(wide.starts_with(payload) && !payload.is_empty());
            extension.extend((payload.len() as u64).to_le_bytes());
            extension.extend(payload);
        }
        extension = S::hash(&[&extension]);
    }
    assert_eq!(extension, bytes(&vector["extension"]));

    // Round 1.
    let mut dealt = Vec::new();
    for ((i, key), expected) in of.indices().zip(&keys).zip(list(&vector["round1"])) {
        assert_eq!(u16_of(&expected["participant_id"]), i.get());
        let mut stream = Stream::new::<S>(seed, of, &format!("round1_participant_{i}"));
        let secrets = Round1Secrets::<S>::random(of, &mut stream);
        let mine = match &payloads {
            Some(payloads) => vec![payloads[i.position()].clone(); usize::from(of.n())],
            None => Vec::new(),
        };
        let dealing = deal(&setup, i, key, &secrets, &mine).unwrap();
        let commitments: Vec<_> =
            list(&expected["vss_commitment"]).iter().map(point::<S>).collect();
        assert_eq!(dealing.broadcast.commitments, commitments);
        assert_eq!(dealing.broadcast.ephemeral, point::<S>(&expected["ephemeral_public_key"]));
        assert_eq!(dealing.broadcast.pop, signature::<S>(&expected["pop"]));
        let ciphertexts: Vec<_> = list(&expected["encrypted_shares"]).iter().map(bytes).collect();
        assert_eq!(dealing.ciphertexts, ciphertexts);
        if let Some(inside) = expected.get("pop_intermediate") {
            check_signature::<S>(inside, &expected["pop"], "pop");
        }
        dealt.push(dealing);
    }

    // Round 2.
    let mut outcomes = Vec::new();
    for ((i, key), expected) in of.indices().zip(&keys).zip(list(&vector["round2"])) {
        let messages: Vec<_> = dealt
            .iter()
            .map(|dealing| Received {
                broadcast: dealing.broadcast.clone(),
                ciphertext: dealing.ciphertexts[i.position()].clone(),
            })
            .collect();
        let outcome = receive(&setup, i, key, &messages).unwrap();
        assert_eq!(outcome.share.reveal().to_vec(), bytes(&expected["secret_share"]));
        assert_eq!(outcome.verifying_share, point::<S>(&expected["verification_share"]));
        assert_eq!(outcome.commitments[0], point::<S>(&vector["group_public_key"]));
        assert_eq!(verifying_share::<S>(&outcome.commitments, i), Some(outcome.verifying_share));
        if let Some(payloads) = &payloads {
            let found: Vec<_> = outcome.payloads.iter().map(|p| p.to_vec()).collect();
            assert_eq!(&found, payloads);
        }
        outcomes.push(outcome);
    }

    // Round 3.
    let transcript =
        encode_transcript(&setup, dealt.iter().map(|dealing| &dealing.broadcast), &extension);
    assert_eq!(S::hash(&[&transcript]), bytes(&vector["round3"]["transcript_hash"]));
    let mut signatures = Vec::new();
    for (key, expected) in keys.iter().zip(list(&vector["round3"]["signatures"])) {
        let signed = certify::sign(key, &transcript).unwrap();
        assert_eq!(signed, signature::<S>(&expected["signature"]));
        if let Some(inside) = expected.get("signature_intermediate") {
            check_signature::<S>(inside, &expected["signature"], "transcript");
        }
        signatures.push(signed);
    }
    assert_eq!(signatures.len(), keys.len());
    certify::verify_all(&setup, &transcript, &signatures).unwrap();
    let parsed = cocktail::parse_transcript::<S>(&transcript).unwrap();
    assert_eq!(parsed.extension, extension);

    // Recovery.
    if let Some(expected) = vector.get("recovery") {
        let at = usize::from(u16_of(&expected["participant_id"])) - 1;
        let ciphertexts: Vec<_> = list(&expected["ciphertexts"]).iter().map(bytes).collect();
        let bundle = recovery::frame(&ciphertexts);
        let recovered = recovery::recover(&keys[at], &transcript, &signatures, &bundle).unwrap();
        assert_eq!(recovered.index.position(), at);
        let share = recovered.outcome.share.reveal().to_vec();
        assert_eq!(share, bytes(&vector["round2"][at]["secret_share"]));
        for name in ["expected_secret_share", "secret_share", "recovered_secret_share"] {
            if let Some(value) = expected.get(name) {
                assert_eq!(share, bytes(value));
            }
        }
        let all: Vec<_> = outcomes.iter().map(|outcome| outcome.verifying_share).collect();
        assert_eq!(recovered.verifying_shares, all);
    }
}

/// The message, nonce, commitment and challenge on the way to a signature.
fn check_signature<S: Suite>(inside: &Value, whole: &Value, what: &str) {
    let (message, nonce_input) = (bytes(&inside["message"]), bytes(&inside["nonce_input"]));
    let challenge_input = bytes(&inside["challenge_input"]);
    let (nonce, challenge) = (bytes(&inside["nonce"]), bytes(&inside["challenge"]));
    let (r, z) = S::split_signature(&signature::<S>(whole));
    assert_eq!(r, point::<S>(&inside["nonce_commitment"]), "{what}");
    // The nonce's input is prefix, secret, message.
    let secret = &nonce_input[nonce_input.len() - message.len() - 32..][..32];
    assert!(nonce_input.ends_with(&message));
    let k = S::nonce(&[secret, &message]);
    assert_eq!(S::encode_scalar(&k).to_vec(), nonce);
    assert_eq!(
        S::encode_scalar(&S::scalar_from_wide(&Sha512::digest(&nonce_input).into())).to_vec(),
        nonce
    );
    let secret = S::decode_scalar(secret.try_into().unwrap()).unwrap();
    let public = S::encode_point(&S::mul_base(&secret));
    let c = S::h7(&[r.as_ref(), public.as_ref(), &message]);
    assert_eq!(S::encode_scalar(&c).to_vec(), challenge);
    assert_eq!(
        S::encode_scalar(&S::scalar_from_wide(&Sha512::digest(&challenge_input).into())).to_vec(),
        challenge
    );
    assert_eq!(S::encode_scalar(&(k + c * secret)), z);
    assert!(schnorr::verify::<S>(&S::mul_base(&secret), &S::join_signature(&r, &z), &[&message]));
}

fn check_file<S: Suite>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("{name} is absent here: only the embedded vector was checked");
        return;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["ciphersuite"], S::ID);
    let seed = bytes(&file["seed"]);
    let vectors = list(&file["vectors"]);
    assert_eq!(vectors.len(), 4);
    vectors.iter().for_each(|vector| check::<S>(&seed, vector));
}

#[test]
fn published_ristretto255_vectors() {
    check_file::<Ristretto255>("cocktail-dkg-ristretto255-sha512.json");
}

#[test]
fn published_ed25519_vectors() {
    check_file::<Ed25519>("cocktail-dkg-ed25519-sha512.json");
}

#[test]
fn embedded_ristretto255_vector() {
    let file: Value = serde_json::from_str(include_str!("ristretto255-2-of-3.json")).unwrap();
    check::<Ristretto255>(&bytes(&file["seed"]), &file["vector"]);
}
