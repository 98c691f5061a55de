//! Forgeries and how they fail. Where a comment says what makes a test fail, that was tried.

use std::collections::HashMap;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::group::hash_to_group;

/// RFC 9497's `ComputeComposites` for any number of pairs: for its vectors, and to show what it lets through.
pub(crate) fn rfc9497_batch_weights(
    key: &[u8; 32],
    inputs: &[[u8; 32]],
    answers: &[[u8; 32]],
) -> Vec<Scalar> {
    let seed = rfc9497_seed(key);
    (0u16..)
        .zip(inputs.iter().zip(answers))
        .map(|(i, (input, answer))| rfc9497_weight(&seed, i, input, answer))
        .collect()
}

fn statement() -> Statement {
    Statement {
        request: Digest::from_bytes([0x11; 32]),
        generation: Generation::from_bytes([0x22; 32]),
    }
}

/// A share, `count` inputs and the right answers, with their encodings.
struct Case {
    share: SigningShare,
    inputs: Vec<RistrettoPoint>,
    input_bytes: Vec<[u8; 32]>,
    answers: Vec<[u8; 32]>,
}

fn encode(points: &[RistrettoPoint]) -> Vec<[u8; 32]> {
    points.iter().map(|point| point.compress().to_bytes()).collect()
}

impl Case {
    fn new(count: u32) -> Self {
        let share = SigningShare::take(&mut Scalar::from(0x1234_5678_9abc_u64)).unwrap();
        let inputs: Vec<_> = (0..count).map(|i| hash_to_group(&i.to_be_bytes())).collect();
        let answers: Vec<_> = inputs.iter().map(|point| share.reveal() * point).collect();
        Self { input_bytes: encode(&inputs), answers: encode(&answers), inputs, share }
    }

    fn prove(&self, statement: &Statement, seed: u8) -> Proof {
        let inputs = Encoded { points: &self.inputs, bytes: &self.input_bytes };
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        prove(&self.share, statement, inputs, &self.answers, &mut rng)
    }

    /// As a client does: decodes everything that came, then verifies.
    fn accepts(
        &self,
        key: &[u8; 32],
        statement: &Statement,
        answers: &[[u8; 32]],
        proof: &[u8],
    ) -> bool {
        let Ok(key) = VerifyingShare::from_bytes(key) else { return false };
        let Ok(proof) = Proof::from_bytes(proof) else { return false };
        let points: Result<Vec<_>, _> = answers.iter().map(Ristretto::decode_point).collect();
        let Ok(points) = points else { return false };
        let inputs = Encoded { points: &self.inputs, bytes: &self.input_bytes };
        verify(&key, statement, inputs, Encoded { points: &points, bytes: answers }, &proof).is_ok()
    }

    fn key(&self) -> [u8; 32] {
        *self.share.verifying_share().as_bytes()
    }
}

#[test]
fn honest_proofs_of_any_length_hold() {
    for count in [1, 2, 3, 16, 200] {
        let case = Case::new(count);
        let proof = case.prove(&statement(), 1).to_bytes();
        assert!(case.accepts(&case.key(), &statement(), &case.answers, &proof), "{count}");
    }
}

/// Flips one bit in every byte of everything a proof is about. Leaving the request or the generation
/// out of `batch_seed` makes this fail.
#[test]
fn a_flipped_bit_anywhere_is_refused() {
    for count in [1u32, 2, 3] {
        let case = Case::new(count);
        let (key, statement) = (case.key(), statement());
        let proof = case.prove(&statement, 1).to_bytes();
        for at in 0..Proof::LEN {
            let mut bad = proof;
            bad[at] ^= 1 << (at % 8);
            assert!(!case.accepts(&key, &statement, &case.answers, &bad), "proof byte {at}");
        }
        for at in 0..32 {
            let flip = |bytes: &[u8; 32]| {
                let mut bad = *bytes;
                bad[at] ^= 1 << (at % 8);
                bad
            };
            assert!(!case.accepts(&flip(&key), &statement, &case.answers, &proof), "key {at}");
            for position in 0..case.answers.len() {
                let mut answers = case.answers.clone();
                answers[position] = flip(&answers[position]);
                assert!(!case.accepts(&key, &statement, &answers, &proof), "answer {at}");
            }
            if count > 1 {
                let request = Digest::from_bytes(flip(statement.request.as_bytes()));
                let other = Statement { request, ..statement };
                assert!(!case.accepts(&key, &other, &case.answers, &proof), "request {at}");
                let generation = Generation::from_bytes(flip(statement.generation.as_bytes()));
                let other = Statement { generation, ..statement };
                assert!(!case.accepts(&key, &other, &case.answers, &proof), "generation {at}");
            }
        }
    }
}

#[test]
fn swapped_dropped_and_foreign_answers_are_refused() {
    let case = Case::new(3);
    let proof = case.prove(&statement(), 1).to_bytes();
    let mut swapped = case.answers.clone();
    swapped.swap(0, 2);
    assert!(!case.accepts(&case.key(), &statement(), &swapped, &proof));
    assert!(!case.accepts(&case.key(), &statement(), &case.answers[..2], &proof));
    assert!(!case.accepts(&case.key(), &statement(), &[], &proof));
    // A proof for one is none for a batch, and the other way round.
    let one = Case::new(1);
    assert!(!one.accepts(&one.key(), &statement(), &one.answers, &proof));
}

/// A node that answers wrongly and then proves as well as it can. Equal weights, or a challenge that
/// leaves out either commitment, make this fail.
#[test]
fn proofs_of_wrong_answers_by_the_holder_of_the_share_are_refused() {
    for count in [1u32, 2, 3] {
        let mut case = Case::new(count);
        let right = case.prove(&statement(), 1).to_bytes();
        let error = hash_to_group(b"error");
        let mut points: Vec<_> =
            case.answers.iter().map(|bytes| Ristretto::decode_point(bytes).unwrap()).collect();
        // Errors that cancel if all weights are equal.
        points[0] += error;
        if let Some(second) = points.get_mut(1) {
            *second -= error;
        }
        case.answers = encode(&points);
        let (key, wrong) = (case.key(), case.answers.clone());
        assert!(!case.accepts(&key, &statement(), &wrong, &right));
        assert!(!case.accepts(&key, &statement(), &wrong, &case.prove(&statement(), 1).to_bytes()));

        let (form, weights) = fold(&statement(), &key, &case.input_bytes, &wrong);
        let m = RistrettoPoint::vartime_multiscalar_mul(&weights, &case.inputs);
        let z = RistrettoPoint::vartime_multiscalar_mul(&weights, &points);
        let nonce = hash_to_scalar(&[b"nonce"]);
        let half_t2 = RistrettoPoint::mul_base(&nonce.div_by_2());
        let challenge = form.challenge(&key, &[m, z, half_t2, nonce * m]);
        let response = nonce - challenge * case.share.reveal();
        let forged = Proof { challenge, response }.to_bytes();
        assert!(
            !case.accepts(&key, &statement(), &wrong, &forged),
            "the right share, wrong answers"
        );

        // Every answer made with one other share: right for M and Z, wrong for G and K.
        let other = SigningShare::take(&mut Scalar::from(77u8)).unwrap();
        let points: Vec<_> = case.inputs.iter().map(|point| other.reveal() * point).collect();
        case.answers = encode(&points);
        let (form, weights) = fold(&statement(), &key, &case.input_bytes, &case.answers);
        let m = RistrettoPoint::vartime_multiscalar_mul(&weights, &case.inputs);
        let forged = respond(&other, case.share.verifying_share(), &form, &m, &nonce).to_bytes();
        assert!(!case.accepts(&key, &statement(), &case.answers, &forged), "another share");
    }
}

/// The batch proof's bytes, computed again from SHA-512 and the group alone. Pins every field, tag and
/// order of the four transcripts: any change to one is a change of the protocol.
#[test]
fn batch_transcripts_are_these_bytes() {
    fn hash(tag: &str, fields: &[&[u8]]) -> [u8; 64] {
        let mut bytes = Vec::new();
        for field in [b"Quorate-v1", tag.as_bytes()].iter().chain(fields) {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        Sha512::digest(bytes).into()
    }
    let reduce = |wide: [u8; 64]| Scalar::from_bytes_mod_order_wide(&wide);
    let case = Case::new(3);
    let (key, k) = (case.key(), case.share.reveal());
    let (c, d) = (&case.input_bytes, &case.answers);
    let three = 3u64.to_be_bytes();
    let seed = hash(
        "prf-batch-seed",
        &[&[0x11; 32], &[0x22; 32], &key, &three, &c[0], &c[1], &c[2], &three, &d[0], &d[1], &d[2]],
    );
    let m: RistrettoPoint = (0..3u64)
        .map(|i| reduce(hash("prf-batch-weight", &[&seed, &i.to_be_bytes()])))
        .zip(&case.inputs)
        .map(|(weight, input)| weight * input)
        .sum();
    let mut fresh = [0; 32];
    ChaCha20Rng::from_seed([1; 32]).fill_bytes(&mut fresh);
    let nonce = reduce(hash("prf-proof-nonce", &[k.as_bytes(), &fresh, &seed]));
    let four = [m, k * m, RistrettoPoint::mul_base(&nonce), nonce * m];
    let [m, z, t2, t3] = four.map(|point| point.compress().to_bytes());
    let challenge = reduce(hash("prf-batch-challenge", &[&seed, &key, &m, &z, &t2, &t3]));
    let expected = Proof { challenge, response: nonce - challenge * k };
    assert_eq!(case.prove(&statement(), 1), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_prove_nothing(count in 1..4u32, bytes in prop::collection::vec(any::<u8>(), 0..130)) {
        let case = Case::new(count);
        prop_assert!(!case.accepts(&case.key(), &statement(), &case.answers, &bytes));
    }

    #[test]
    fn random_scalars_prove_nothing(count in 1..4u32, c: [u8; 32], s: [u8; 32]) {
        let case = Case::new(count);
        let proof = Proof {
            challenge: Scalar::from_bytes_mod_order(c),
            response: Scalar::from_bytes_mod_order(s),
        };
        prop_assert!(!case.accepts(&case.key(), &statement(), &case.answers, &proof.to_bytes()));
    }
}

/// `attacks.md` line 4, in proofs: a scalar at or above the order, which some decoders reduce, would
/// give every proof a second encoding.
#[test]
fn attack_04_non_canonical_scalars_in_proofs_are_refused() {
    let proof = Case::new(2).prove(&statement(), 1).to_bytes();
    let mut too_big = proof;
    too_big[63] |= 0x80;
    let refused = Err(ProofError::Encoding(ScalarError::NonCanonical));
    assert_eq!(Proof::from_bytes(&too_big), refused);
    assert_eq!(Proof::from_bytes(&[0xff; 64]), refused);
    assert_eq!(Proof::from_bytes(&proof[..63]), Err(ProofError::Length { found: 63 }));
    assert_eq!(Proof::from_bytes(&[0; 65]), Err(ProofError::Length { found: 65 }));
    assert_eq!(Proof::from_bytes(&[]), Err(ProofError::Length { found: 0 }));
}

/// Two responses under one nonce are the share. With a generator that gives the same bytes each time
/// (a cloned machine), nonces must still differ as soon as anything else does. Taking the statement out of
/// the nonce's transcript makes this fail.
#[test]
fn a_repeated_random_stream_never_repeats_a_nonce() {
    let nonce = |case: &Case, proof: Proof| proof.response + proof.challenge * case.share.reveal();
    let mut nonces = Vec::new();
    for count in 1..=4 {
        let case = Case::new(count);
        let other_request = Statement { request: Digest::from_bytes([0; 32]), ..statement() };
        let other_sharing =
            Statement { generation: Generation::from_bytes([0; 32]), ..statement() };
        for statement in [statement(), other_request, other_sharing] {
            nonces.push(nonce(&case, case.prove(&statement, 7)));
        }
        let same = nonce(&case, case.prove(&statement(), 7));
        assert!(nonces.contains(&same), "same bytes and statement, same nonce: deterministic");
        nonces.push(nonce(&case, case.prove(&statement(), 8)));
    }
    for (at, one) in nonces.iter().enumerate() {
        assert!(!nonces[at + 1..].contains(one));
    }
}

/// `attacks.md` line 23, first half. A verifier whose challenge hashes only the input, not what the
/// prover committed to, can be satisfied by choosing the response first. Here the challenge hashes
/// everything; checking `challenge == hash(input)` instead in `check` makes this fail.
#[test]
fn attack_23_a_proof_whose_challenge_hashes_only_the_input_is_refused() {
    let only_input = |m: &RistrettoPoint| hash_to_scalar(&[m.compress().as_bytes(), b"Challenge"]);
    for count in [1u32, 2] {
        let case = Case::new(count);
        let key = case.share.verifying_share();
        let mut wrong = case.answers.clone();
        wrong[0] = hash_to_group(b"not the right answer").compress().to_bytes();
        let points: Vec<_> = wrong.iter().map(|b| Ristretto::decode_point(b).unwrap()).collect();
        let (form, weights) = fold(&statement(), key.as_bytes(), &case.input_bytes, &wrong);
        let m = RistrettoPoint::vartime_multiscalar_mul(&weights, &case.inputs);
        let z = RistrettoPoint::vartime_multiscalar_mul(&weights, &points);

        // The forger knows no share: any response will do.
        let challenge = only_input(&m);
        let response = hash_to_scalar(&[b"anything"]);
        let t2 = RistrettoPoint::mul_base(&response) + challenge * key.point();
        let half_t2 = Scalar::ONE.div_by_2() * t2;
        let t3 = response * m + challenge * z;
        // The broken verifier, given (t2, t3, response), is content.
        assert_eq!(t2 - only_input(&m) * key.point(), RistrettoPoint::mul_base(&response));
        assert_eq!(t3 - only_input(&m) * z, response * m);
        // Ours is not, with that challenge or with the right hash of these commitments.
        let forged = Proof { challenge, response };
        assert_eq!(check(key, &form, &m, &z, &forged), Err(ProofError::Invalid));
        let challenge = form.challenge(key.as_bytes(), &[m, z, half_t2, t3]);
        let forged = Proof { challenge, response };
        assert_eq!(check(key, &form, &m, &z, &forged), Err(ProofError::Invalid));
        assert!(!case.accepts(&case.key(), &statement(), &wrong, &forged.to_bytes()));
    }
}

/// The squares modulo the safe prime `P = 2 Q + 1`: small enough that Wagner's algorithm ends at once.
mod toy {
    /// The modulus.
    pub const P: u64 = 2 * Q + 1;
    /// The order of the group, a prime just below 2^30.
    pub const Q: u64 = 1_073_741_789;
    pub const LABELS: usize = 4;
    pub const GENERATOR: u64 = 4;

    pub fn power(base: u64, mut exponent: u64) -> u64 {
        let (mut base, mut product) = (base % P, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                product = product * base % P;
            }
            base = base * base % P;
            exponent >>= 1;
        }
        product
    }

    pub fn encode(element: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&element.to_le_bytes());
        bytes
    }

    pub fn reduce(wide: &[u8]) -> u64 {
        wide.iter().rev().fold(0, |sum, byte| (sum * 256 + u64::from(*byte)) % Q)
    }

    /// The folded pair.
    pub fn fold(weights: &[u64], elements: &[u64]) -> u64 {
        weights.iter().zip(elements).fold(1, |sum, (w, e)| sum * power(*e, *w) % P)
    }

    pub fn is_prime(n: u64) -> bool {
        n > 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
    }
}

/// One pair of positions, folded: sums of one value from each list that lie within `window` of 0,
/// with where they came from.
fn near_zero(one: &[u64], two: &[u64], window: u64) -> Vec<(u64, [usize; 2])> {
    let mut sorted: Vec<(u64, usize)> = two.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let mut found = Vec::new();
    for (i, a) in one.iter().enumerate() {
        // b in [-a, -a + window) modulo Q.
        let low = (toy::Q - a) % toy::Q;
        let from = sorted.partition_point(|(b, _)| *b < low);
        for (b, j) in sorted[from..].iter().take_while(|(b, _)| *b < low + window) {
            found.push(((a + b) % toy::Q, [i, *j]));
        }
    }
    found
}

/// Wagner's algorithm for four lists: all it finds of one index into each such that the values sum to 0.
fn k_list(lists: &[Vec<u64>; toy::LABELS]) -> Vec<[usize; toy::LABELS]> {
    let window = toy::Q >> 11;
    // The second half is negated, so that equal sums cancel.
    let negated = |list: &[u64]| list.iter().map(|v| (toy::Q - v) % toy::Q).collect::<Vec<_>>();
    let mut left: HashMap<u64, [usize; 2]> = HashMap::new();
    for (sum, at) in near_zero(&lists[0], &lists[1], window) {
        left.insert(sum, at);
    }
    near_zero(&negated(&lists[2]), &negated(&lists[3]), window)
        .into_iter()
        .filter_map(|(sum, [c, d])| left.get(&sum).map(|[a, b]| [*a, *b, c, d]))
        .collect()
}

/// `attacks.md` line 23, second half: over a toy group, a node answers four labels, all of them wrongly,
/// and still proves them under RFC 9497's batch weights; under ours it cannot.
///
/// The same attacker runs against both. It lists, for each position, the weight that each of many wrong
/// answers would get if only that answer were changed; RFC 9497's weights stay so when the others are
/// changed too. Leaving the answers out of `batch_seed` makes this fail;
/// `batch_transcripts_are_these_bytes` holds `prove` and `verify` to these weights.
#[test]
fn attack_23_k_list_forgery() {
    use toy::{GENERATOR, LABELS, Q, power};
    assert!(toy::is_prime(Q) && toy::is_prime(toy::P));
    let k = 123_456_789;
    let key = toy::encode(power(GENERATOR, k));
    let inputs: [u64; LABELS] =
        core::array::from_fn(|i| power(toy::reduce(&batch_weight(&[9; 64], i)) + 2, 2));
    let right = inputs.map(|c| power(c, k));
    let encoded = |elements: &[u64]| elements.iter().map(|e| toy::encode(*e)).collect::<Vec<_>>();

    let rfc = |answers: &[u64; LABELS]| -> Vec<u64> {
        rfc9497_batch_weights(&key, &encoded(&inputs), &encoded(answers))
            .iter()
            .map(|weight| toy::reduce(weight.as_bytes()))
            .collect()
    };
    let ours = |answers: &[u64; LABELS]| -> Vec<u64> {
        let seed = batch_seed(&statement(), &key, &encoded(&inputs), &encoded(answers));
        (0..LABELS).map(|i| toy::reduce(&batch_weight(&seed, i))).collect()
    };
    let accepted = |weights: &dyn Fn(&[u64; LABELS]) -> Vec<u64>, answers: &[u64; LABELS]| {
        // Chaum and Pedersen's proof, made by the node with its own share and checked by a client.
        let weights = weights(answers);
        let (m, z) = (toy::fold(&weights, &inputs), toy::fold(&weights, answers));
        let challenge = |t2: u64, t3: u64| {
            let [m, z, t2, t3] = [m, z, t2, t3].map(toy::encode);
            let transcript = Transcript::new("toy").field(&key).field(&m).field(&z);
            toy::reduce(&transcript.field(&t2).field(&t3).wide())
        };
        let nonce = 987_654;
        let c = challenge(power(GENERATOR, nonce), power(m, nonce));
        let s = (nonce + Q - c * k % Q) % Q;
        let t2 = power(GENERATOR, s) * power(power(GENERATOR, k), c) % toy::P;
        let t3 = power(m, s) * power(z, c) % toy::P;
        challenge(t2, t3) == c
    };
    assert!(accepted(&rfc, &right) && accepted(&ours, &right));

    let attack = |weights: &dyn Fn(&[u64; LABELS]) -> Vec<u64>| {
        let wrong = |position: usize, error: usize| {
            right[position] * power(GENERATOR, error as u64 + 1) % toy::P
        };
        let lists: [Vec<u64>; LABELS] = core::array::from_fn(|position| {
            (0..1 << 12)
                .map(|error| {
                    let mut answers = right;
                    answers[position] = wrong(position, error);
                    weights(&answers)[position] * (error as u64 + 1) % Q
                })
                .collect()
        });
        let found = k_list(&lists);
        let forged = |errors: &[usize; LABELS]| -> [u64; LABELS] {
            core::array::from_fn(|position| wrong(position, errors[position]))
        };
        let good = found.iter().filter(|errors| accepted(weights, &forged(errors))).count();
        (found.len(), good)
    };
    let (found, good) = attack(&rfc);
    assert!(found > 0, "Wagner's algorithm found nothing: the toy is too large for its lists");
    assert_eq!(good, found, "RFC 9497's weights accept every combination that cancels");
    let (found, good) = attack(&ours);
    assert!(found > 0);
    assert_eq!(good, 0, "ours accept none");
}
