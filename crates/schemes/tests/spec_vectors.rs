//! `spec/vectors/prf.json`: what the code makes, and what the code does with what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests share fails loudly")]

mod vectors;

use std::path::Path;

use data_encoding::HEXLOWER;
use quorate_schemes::group::Ristretto;
use quorate_schemes::prf::{
    CombineError, Combiner, FinishError, Labels, Proof, ProofError, Statement, evaluate,
    evaluate_with_proof, hash_to_group,
};
use quorate_schemes::sharing::{PublicShares, SigningShare};
use quorate_secret::Secret;
use quorate_types::{Generation, ParticipantIndex, Threshold};
use quorate_wire::EncryptionContext;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

fn file() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/prf.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u16 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn partials(value: &Value) -> Vec<[u8; 32]> {
    list(value).iter().map(array).collect()
}

/// One sharing of the file.
struct Sharing<'a> {
    value: &'a Value,
    of: Threshold,
    generation: Generation,
    public: PublicShares,
    shares: Vec<SigningShare>,
}

impl<'a> Sharing<'a> {
    fn read(value: &'a Value) -> Self {
        let of = Threshold::new(number(&value["threshold"]), number(&value["nodes"])).unwrap();
        let participants = list(&value["participants"]);
        let shares: Vec<SigningShare> = participants
            .iter()
            .map(|p| SigningShare::from_bytes(&Secret::take(&mut array(&p["share"]))).unwrap())
            .collect();
        for (share, participant) in shares.iter().zip(participants) {
            assert_eq!(share.verifying_share().as_bytes(), &array(&participant["verifying_share"]));
        }
        // The certificate's commitments, interpolated from the verifying shares of the file.
        let points: Vec<_> = shares.iter().map(|s| *s.verifying_share().point()).collect();
        let public = PublicShares::from_commitments(of, &commitments(of, &points)).unwrap();
        assert_eq!(public.verifying_key().as_bytes(), &array(&value["verifying_key"]));
        for (share, public) in shares.iter().zip(public.shares()) {
            assert_eq!(share.verifying_share().as_bytes(), public.as_bytes());
        }
        let generation = Generation::from_bytes(array(&value["generation"]));
        Self { value, of, generation, public, shares }
    }

    fn participants(&self) -> impl Iterator<Item = (ParticipantIndex, &'a Value, &SigningShare)> {
        let participants = list(&self.value["participants"]);
        participants.iter().zip(&self.shares).map(|(participant, share)| {
            let index = ParticipantIndex::new(number(&participant["index"]).into(), self.of);
            (index.unwrap(), participant, share)
        })
    }
}

/// The polynomial in the exponent through the first `t` verifying shares (Newton's form, expanded).
fn commitments(
    of: Threshold,
    points: &[curve25519_dalek::RistrettoPoint],
) -> Vec<curve25519_dalek::RistrettoPoint> {
    use curve25519_dalek::Scalar;
    let t = usize::from(of.t());
    let xs: Vec<Scalar> = (1..=t as u64).map(Scalar::from).collect();
    let mut commitments = vec![curve25519_dalek::RistrettoPoint::default(); t];
    for i in 0..t {
        // The coefficients of the basis polynomial that is 1 at xs[i] and 0 at the others.
        let mut basis = vec![Scalar::ONE];
        for j in (0..t).filter(|j| *j != i) {
            let scale = (xs[i] - xs[j]).invert();
            let mut next = vec![Scalar::ZERO; basis.len() + 1];
            for (power, coefficient) in basis.iter().enumerate() {
                next[power] -= coefficient * xs[j] * scale;
                next[power + 1] += coefficient * scale;
            }
            basis = next;
        }
        for (commitment, coefficient) in commitments.iter_mut().zip(basis) {
            *commitment += coefficient * points[i];
        }
    }
    commitments
}

fn texts(file: &Value) -> Vec<Vec<u8>> {
    list(&file["labels"]).iter().map(|label| bytes(&label["label"])).collect()
}

/// A changed line is a change of format, which a release never makes. When vectors are added, run
/// the example again.
#[test]
fn the_file_is_what_the_code_makes() {
    assert_eq!(file(), vectors::build());
}

#[test]
fn labels_and_contexts_are_encoded_as_written_down() {
    let file = file();
    for label in list(&file["labels"]) {
        let pairs = list(&label["context"]).iter();
        let pairs = pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
        let context = EncryptionContext::new(pairs).unwrap();
        assert_eq!(context.canonical_bytes(), bytes(&label["context_canonical"]));
        assert_eq!(context.hash().as_bytes(), &array(&label["context_hash"]));
        let text = bytes(&label["label"]);
        assert_eq!(hash_to_group(&text).compress().as_bytes(), &array(&label["point"]));
        // The fields in order, each preceded by its length as two bytes.
        let mut rest = text.as_slice();
        let mut next = || {
            let (length, tail) = rest.split_first_chunk().unwrap();
            let (field, tail) = tail.split_at(u16::from_be_bytes(*length).into());
            rest = tail;
            field.to_vec()
        };
        assert_eq!(next(), b"Quorate-Label-v1");
        assert_eq!(u64::from(next()[0]), label["purpose"].as_u64().unwrap());
        assert_eq!(u64::from(next()[0]), label["key_spec"].as_u64().unwrap());
        assert_eq!(next(), bytes(&label["tenant"]));
        assert_eq!(next(), bytes(&label["key"]));
        let version = label["key_version"].as_u64().unwrap() as u32;
        assert_eq!(next(), version.to_be_bytes());
        assert_eq!(next(), bytes(&label["creator"]));
        assert_eq!(next(), label["created_at"].as_u64().unwrap().to_be_bytes());
        assert_eq!(next(), bytes(&label["nonce"]));
        assert_eq!(next(), bytes(&label["context_hash"]));
        assert!(rest.is_empty());
    }
}

#[test]
fn every_share_answers_as_written_and_every_quorum_combines() {
    let file = file();
    let texts = texts(&file);
    for value in list(&file["sharings"]) {
        let sharing = Sharing::read(value);
        for (form, count) in [("one_label", 1), ("batch", texts.len())] {
            let labels = Labels::new(&texts[..count]).unwrap();
            for (index, participant, share) in sharing.participants() {
                let answer = &participant[form];
                let evaluation = evaluate(share, &labels).unwrap();
                assert_eq!(evaluation.partials, partials(&answer["partials"]));
                let proof = Proof::from_bytes(&bytes(&answer["proof"])).unwrap();
                let request = vectors::digest(&answer["request_digest"]);
                let mut combiner = Combiner::new(sharing.generation, &sharing.public, &labels);
                combiner
                    .add_proved(index, sharing.generation, request, &evaluation.partials, &proof)
                    .unwrap();
                // Another nonce gives another proof, which holds as well.
                let statement = Statement { request, generation: sharing.generation };
                let mut rng = ChaCha20Rng::from_seed([1; 32]);
                let again = evaluate_with_proof(share, &labels, &statement, &mut rng).unwrap();
                assert_ne!(again.proof, Some(proof));
            }
        }
        let labels = Labels::new(&texts).unwrap();
        let subsets = list(&value["subsets"]);
        assert_eq!(subsets.len(), vectors::subsets(sharing.of).len());
        for subset in subsets {
            let mut combiner = Combiner::new(sharing.generation, &sharing.public, &labels);
            let chosen: Vec<u16> = list(&subset["indices"]).iter().map(number).collect();
            for (index, participant, _) in sharing.participants() {
                if chosen.contains(&index.get()) {
                    let partials = partials(&participant["batch"]["partials"]);
                    combiner.add_unproved(index, sharing.generation, &partials).unwrap();
                }
            }
            let outputs = combiner.finish().unwrap();
            for (output, expected) in outputs.iter().zip(list(&value["outputs"])) {
                assert_eq!(output.reveal()[..], bytes(expected));
            }
        }
    }
}

#[test]
fn what_must_be_refused_is_refused_for_the_reason_given() {
    let file = file();
    let texts = texts(&file);
    let labels = Labels::new(&texts).unwrap();
    let sharing = Sharing::read(&file["sharings"][0]);
    let cases = list(&file["refused"]);
    assert!(cases.len() >= 16);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let found = refused(&sharing, &labels, &case["answer"]);
        assert_eq!(found, case["reason"].as_str().unwrap(), "{name}");
    }
}

fn refused(sharing: &Sharing<'_>, labels: &Labels<'_>, answer: &Value) -> &'static str {
    let index = number(&answer["participant"]);
    let Ok(index) = ParticipantIndex::new(index.into(), sharing.of) else { return "participant" };
    let proof = match Proof::from_bytes(&bytes(&answer["proof"])) {
        Ok(proof) => proof,
        Err(ProofError::Length { .. } | ProofError::Encoding(_)) => return "proof encoding",
        Err(ProofError::Invalid) => unreachable!("decoding verifies nothing"),
    };
    let mut combiner = Combiner::new(sharing.generation, &sharing.public, labels);
    let added = combiner.add_proved(
        index,
        Generation::from_bytes(array(&answer["generation"])),
        vectors::digest(&answer["request_digest"]),
        &partials(&answer["partials"]),
        &proof,
    );
    assert_eq!(combiner.have(), 0, "a refused answer is not kept");
    assert_eq!(combiner.finish().unwrap_err(), FinishError::NotQuorate { have: 0, need: 2 });
    match added.unwrap_err() {
        CombineError::UnknownParticipant { .. } => "participant",
        CombineError::Generation { .. } => "generation",
        CombineError::Count { .. } => "count",
        CombineError::Point { .. } => "point",
        CombineError::Proof { .. } => "proof",
        CombineError::Duplicate { .. } => "duplicate",
    }
}

/// The file's points are what the group's decoder takes.
#[test]
fn points_of_the_file_decode() {
    for value in list(&file()["sharings"]) {
        for element in list(&value["elements"]) {
            Ristretto::decode_point(&array(element)).unwrap();
        }
    }
}
