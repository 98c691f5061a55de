//! RFC 9497 appendix A.1: `ristretto255-SHA512` in OPRF (0x00) and VOPRF (0x01) mode.

use std::path::Path;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use data_encoding::HEXLOWER;
use quorate_types::Generation;

use super::*;
use crate::dleq::tests::rfc9497_batch_weights;
use crate::dleq::{self, Form, Proof};
use crate::group::{Ristretto, hash_to_group_under, hash_to_scalar_under};
use crate::sharing::VerifyingShare;

/// One vector: a batch of inputs.
struct Vector {
    inputs: Vec<Vec<u8>>,
    blinds: Vec<Scalar>,
    blinded: Vec<[u8; 32]>,
    evaluated: Vec<[u8; 32]>,
    outputs: Vec<Vec<u8>>,
    /// The proof and its nonce, in VOPRF mode.
    proof: Option<(Vec<u8>, Scalar)>,
}

struct Suite {
    mode: u8,
    seed: Vec<u8>,
    info: Vec<u8>,
    secret: Scalar,
    public: Option<[u8; 32]>,
    vectors: Vec<Vector>,
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn fixed(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn scalar(text: &str) -> Scalar {
    Ristretto::decode_scalar(&fixed(text)).unwrap()
}

const ONE: &str = "00";
const TWO: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
const BLIND: &str = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706";
const SECOND_BLIND: &str = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e";
const VOPRF_SECRET: &str = "e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909";
const VOPRF_OUTPUTS: [&str; 2] = [
    "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43\
     a491351d23b430948dd50cde10d32b3c",
    "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60356f4610bf816f27afdd84f47719e480\
     906d27ecd994985890e5f539e7ea74b6",
];

/// Mode, key, and per vector: blinded, evaluated, output, and in VOPRF mode the proof and its nonce.
fn embedded() -> Vec<Suite> {
    let vector = |input: &[&str],
                  blinds: &[&str],
                  blinded: &[&str],
                  evaluated: &[&str],
                  outputs: &[&str],
                  proof: Option<(&str, &str)>| Vector {
        inputs: input.iter().map(|t| hex(t)).collect(),
        blinds: blinds.iter().map(|t| scalar(t)).collect(),
        blinded: blinded.iter().map(|t| fixed(t)).collect(),
        evaluated: evaluated.iter().map(|t| fixed(t)).collect(),
        outputs: outputs.iter().map(|t| hex(t)).collect(),
        proof: proof.map(|(proof, r)| (hex(proof), scalar(r))),
    };
    let oprf = Suite {
        mode: 0,
        seed: vec![0xa3; 32],
        info: b"test key".to_vec(),
        secret: scalar("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e"),
        public: None,
        vectors: vec![
            vector(
                &[ONE],
                &[BLIND],
                &["609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c"],
                &["7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e"],
                &[
                    "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3ab9135e3bd6995585\
                   1de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
                ],
                None,
            ),
            vector(
                &[TWO],
                &[BLIND],
                &["da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418"],
                &["b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25"],
                &[
                    "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4f2a6413a6bf6fa5e1\
                   9ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
                ],
                None,
            ),
        ],
    };
    let first = "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945";
    let first_evaluated = "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e";
    let voprf = Suite {
        mode: 1,
        seed: vec![0xa3; 32],
        info: b"test key".to_vec(),
        secret: scalar(VOPRF_SECRET),
        public: Some(fixed("c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e")),
        vectors: vec![
            vector(
                &[ONE],
                &[BLIND],
                &[first],
                &[first_evaluated],
                &VOPRF_OUTPUTS[..1],
                Some((
                    "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd066d4346421d17bf51\
                     17a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
                    SECOND_BLIND,
                )),
            ),
            vector(
                &[TWO],
                &[BLIND],
                &["cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c"],
                &["60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468"],
                &VOPRF_OUTPUTS[1..],
                Some((
                    "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a67154fabf031fd93\
                     6051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
                    SECOND_BLIND,
                )),
            ),
            vector(
                &[ONE, TWO],
                &[BLIND, SECOND_BLIND],
                &[first, "90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654"],
                &[
                    first_evaluated,
                    "cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
                ],
                &VOPRF_OUTPUTS,
                Some((
                    "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a5ab5337c8eb4ceae\
                     0494c2cf89529dcf94572ed267473d567aeed6ab873dee08",
                    "419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c",
                )),
            ),
        ],
    };
    vec![oprf, voprf]
}

/// The same suites as the RFC's authors publish them, when the file is there.
fn published() -> Vec<Suite> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/rfc9497-all.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("rfc9497-all.json is absent: checking the embedded vectors alone");
        return Vec::new();
    };
    let suites: serde_json::Value = serde_json::from_str(&text).unwrap();
    let all = |value: &serde_json::Value| -> Vec<String> {
        value.as_str().unwrap().split(',').map(str::to_owned).collect()
    };
    suites
        .as_array()
        .unwrap()
        .iter()
        .filter(|suite| suite["identifier"] == "ristretto255-SHA512")
        .filter(|suite| suite["mode"].as_u64().unwrap() < 2)
        .map(|suite| Suite {
            mode: suite["mode"].as_u64().unwrap() as u8,
            seed: hex(suite["seed"].as_str().unwrap()),
            info: hex(suite["keyInfo"].as_str().unwrap()),
            secret: scalar(suite["skSm"].as_str().unwrap()),
            public: suite["pkSm"].as_str().map(fixed),
            vectors: suite["vectors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|vector| Vector {
                    inputs: all(&vector["Input"]).iter().map(|t| hex(t)).collect(),
                    blinds: all(&vector["Blind"]).iter().map(|t| scalar(t)).collect(),
                    blinded: all(&vector["BlindedElement"]).iter().map(|t| fixed(t)).collect(),
                    evaluated: all(&vector["EvaluationElement"]).iter().map(|t| fixed(t)).collect(),
                    outputs: all(&vector["Output"]).iter().map(|t| hex(t)).collect(),
                    proof: vector["Proof"].as_object().map(|proof| {
                        (
                            hex(proof["proof"].as_str().unwrap()),
                            scalar(proof["r"].as_str().unwrap()),
                        )
                    }),
                })
                .collect(),
        })
        .collect()
}

fn dst(name: &str, mode: u8) -> Vec<u8> {
    [name.as_bytes(), b"OPRFV1-", &[mode], b"-ristretto255-SHA512"].concat()
}

#[test]
fn rfc9497_vectors() {
    let published = published();
    assert!(published.is_empty() || published.len() == 2);
    for suite in embedded().into_iter().chain(published) {
        // DeriveKeyPair, whose counter stays at 0 unless the scalar is zero.
        let info_length = (suite.info.len() as u16).to_be_bytes();
        let derived = hash_to_scalar_under(
            &[&suite.seed, &info_length, &suite.info, &[0]],
            &dst("DeriveKeyPair", suite.mode),
        );
        assert_eq!(derived, suite.secret);
        let share = SigningShare::take(&mut suite.secret.clone()).unwrap();
        if let Some(public) = suite.public {
            assert_eq!(share.verifying_share().as_bytes(), &public);
        }
        for vector in &suite.vectors {
            vector.check(suite.mode, &share);
        }
    }
}

impl Vector {
    fn check(&self, mode: u8, share: &SigningShare) {
        let decode = |bytes: &[u8; 32]| Ristretto::decode_point(bytes).unwrap();
        for (at, input) in self.inputs.iter().enumerate() {
            let point = hash_to_group_under(&[input], &dst("HashToGroup-", mode));
            if mode == 1 {
                assert_eq!(point, hash_to_group(input));
            }
            assert_eq!((self.blinds[at] * point).compress().to_bytes(), self.blinded[at]);
            let evaluated = partial(share, &decode(&self.blinded[at]));
            assert_eq!(evaluated.compress().to_bytes(), self.evaluated[at]);
            let unblinded = (self.blinds[at].invert() * evaluated).compress().to_bytes();
            assert_eq!(unblinded, partial(share, &point).compress().to_bytes());
            assert_eq!(labels::finalize(input, &unblinded).reveal()[..], self.outputs[at]);
        }
        let Some((proof, nonce)) = &self.proof else { return };
        // GenerateProof and VerifyProof over the blinded and evaluated elements.
        let key: &VerifyingShare = share.verifying_share();
        let weights: Vec<Scalar> =
            rfc9497_batch_weights(key.as_bytes(), &self.blinded, &self.evaluated)
                .iter()
                .map(Scalar::div_by_2)
                .collect();
        let fold = |elements: &[[u8; 32]]| {
            RistrettoPoint::vartime_multiscalar_mul(&weights, elements.iter().map(decode))
        };
        let (m, z) = (fold(&self.blinded), fold(&self.evaluated));
        let made = dleq::respond(share, key, &Form::Rfc9497, &m, nonce);
        assert_eq!(made.to_bytes()[..], proof[..]);
        let read = Proof::from_bytes(proof).unwrap();
        assert_eq!(dleq::check(key, &Form::Rfc9497, &m, &z, &read), Ok(()));

        // What nodes and clients run for one label is the same proof; for two it is another.
        let statement = Statement {
            request: quorate_types::Digest::from_bytes([0; 32]),
            generation: Generation::from_bytes([0; 32]),
        };
        let blinded: Vec<_> = self.blinded.iter().map(decode).collect();
        let evaluated: Vec<_> = self.evaluated.iter().map(decode).collect();
        let inputs = dleq::Encoded { points: &blinded, bytes: &self.blinded };
        let answers = dleq::Encoded { points: &evaluated, bytes: &self.evaluated };
        let verdict = dleq::verify(key, &statement, inputs, answers, &read);
        assert_eq!(verdict.is_ok(), self.inputs.len() == 1);
    }
}

/// Every way to choose `t` of `0..n`.
fn subsets(n: usize, t: usize) -> Vec<Vec<usize>> {
    (0u32..1 << n)
        .filter(|bits| bits.count_ones() as usize == t)
        .map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect())
        .collect()
}

/// `count` random ordered choices of `t` of `0..n`, and the first and last `t`.
fn samples(n: usize, t: usize, count: usize) -> Vec<Vec<usize>> {
    use rand_chacha::rand_core::Rng;
    let mut rng = rng(42);
    let mut chosen = vec![(0..t).collect::<Vec<_>>(), (n - t..n).rev().collect()];
    for _ in 0..count {
        let mut all: Vec<usize> = (0..n).collect();
        for at in 0..t {
            all.swap(at, at + rng.next_u32() as usize % (n - at));
        }
        all.truncate(t);
        chosen.push(all);
    }
    chosen
}

/// The strongest test of the scheme: the RFC's key, split in every T-of-N up to 5 and in samples of 8/10
/// and 97/100, gives the RFC's output byte for byte from every T-subset. Any wrong coefficient, index,
/// hash or encoding makes it fail.
#[test]
fn rfc9497_output_from_every_t_subset() {
    let secret = scalar(VOPRF_SECRET);
    let inputs = [hex(ONE), hex(TWO)];
    let labels = Labels::new(&inputs).unwrap();
    let generation = Generation::from_bytes([3; 32]);
    let small = (1..=5u16).flat_map(|n| (1..=n).map(move |t| (t, n)));
    let shapes = small
        .map(|(t, n)| (t, n, subsets(n.into(), t.into())))
        .chain([(8, 10, samples(10, 8, 20)), (97, 100, samples(100, 97, 3))]);
    for (t, n, subsets) in shapes {
        assert!(!subsets.is_empty());
        let Dealt { shares, public } = deal(&secret, t, n, t as u8);
        let answers: Vec<_> =
            shares.iter().map(|(_, share)| evaluate(share, &labels).unwrap()).collect();
        for subset in subsets {
            let mut combiner = Combiner::new(generation, &public, &labels);
            for at in &subset {
                assert!(!combiner.is_quorate());
                combiner.add_unproved(shares[*at].0, generation, &answers[*at].partials).unwrap();
            }
            let outputs = combiner.finish().unwrap();
            assert_eq!(outputs.len(), 2);
            for (output, expected) in outputs.iter().zip(VOPRF_OUTPUTS) {
                assert_eq!(output.reveal()[..], hex(expected), "{t}/{n} {subset:?}");
            }
        }
    }
}
