//! Sharing and its edges. Where a comment says what makes a test fail, that was tried.

use proptest::prelude::*;
use quorate_types::limits::MAX_COMMITTEE;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

fn of(t: u16, n: u16) -> Threshold {
    Threshold::new(t, n).unwrap()
}

fn indices(numbers: &[u32]) -> Vec<ParticipantIndex> {
    numbers.iter().map(|i| ParticipantIndex::new(*i, of(1, MAX_COMMITTEE)).unwrap()).collect()
}

#[test]
fn lagrange_coefficients_of_two_and_three() {
    // f(0) = 2 f(1) - f(2); f(0) = (3/2) f(1) - (1/2) f(3).
    assert_eq!(lagrange_at_zero(&indices(&[1, 2])).unwrap(), [Scalar::from(2u8), -Scalar::ONE]);
    let half = Scalar::ONE.div_by_2();
    assert_eq!(lagrange_at_zero(&indices(&[3, 1])).unwrap(), [-half, half * Scalar::from(3u8)]);
    assert_eq!(lagrange_at_zero(&indices(&[77])).unwrap(), [Scalar::ONE]);
}

/// `attacks.md` line 3. Without the check for duplicates, which makes this fail, the batch inversion would
/// divide by zero.
#[test]
fn attack_03_no_indices_and_doubled_indices_are_refused() {
    assert_eq!(lagrange_at_zero(&[]), Err(LagrangeError::Empty));
    let twice = indices(&[5, 2, 5]);
    assert_eq!(lagrange_at_zero(&twice), Err(LagrangeError::Duplicate(twice[0])));
}

/// `attacks.md` line 2: removing the count check makes the first assertions fail.
#[test]
fn attack_02_commitments_of_another_threshold_are_refused() {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let secret = Scalar::random(&mut rng);
    for wrong in [0u16, 1, 3, 6] {
        let mut commitments = SecretPolynomial::random(&secret, wrong, &mut rng).commitments();
        commitments.truncate(usize::from(wrong));
        assert_eq!(
            PublicShares::from_commitments(of(2, 5), &commitments),
            Err(CommitmentError::Count { expected: 2, found: usize::from(wrong) })
        );
    }
}

/// `attacks.md` line 4: a key or a share that is the identity. Removing the check in `SigningShare::take`, or
/// `not_identity` from the decoder, makes this fail.
#[test]
fn attack_04_identity_keys_and_shares_are_refused() {
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let zero = dangerous_deal_known_secret(&Scalar::ZERO, of(2, 3), &mut rng);
    assert_eq!(zero.unwrap_err(), CommitmentError::IdentityKey);
    // f(x) = 2 - x is zero at participant 2.
    let commitments = [Scalar::from(2u8), -Scalar::ONE].map(|c| RistrettoPoint::mul_base(&c));
    assert_eq!(
        PublicShares::from_commitments(of(2, 3), &commitments),
        Err(CommitmentError::IdentityShare(indices(&[2])[0]))
    );
    assert!(matches!(SigningShare::take(&mut Scalar::ZERO.clone()), Err(ScalarError::Zero)));
    let above = Secret::from_fn(|bytes| bytes.fill(0xff));
    assert!(matches!(SigningShare::from_bytes(&above), Err(ScalarError::NonCanonical)));
    assert_eq!(VerifyingShare::from_bytes(&[0; 32]), Err(PointError::Identity));
    assert_eq!(VerifyingKey::from_bytes(&[0xff; 32]), Err(PointError::NonCanonical));
}

#[test]
fn shares_are_redacted_and_wipe_their_source() {
    let mut scalar = Scalar::from(0x4142_4344u32);
    let share = SigningShare::take(&mut scalar).unwrap();
    assert_eq!(scalar, Scalar::ZERO);
    assert_eq!(format!("{share:?}"), "SigningShare(redacted)");
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let polynomial = SecretPolynomial::random(share.reveal(), 3, &mut rng);
    assert_eq!(format!("{polynomial:?}"), "SecretPolynomial(redacted)");
    let again = SigningShare::from_bytes(&share.to_bytes()).unwrap();
    assert_eq!(again.verifying_share(), share.verifying_share());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_t_shares_are_the_key_and_match_the_commitments(
        seed: [u8; 32], n in 1..=20u16, t_of in any::<prop::sample::Index>(), order: [u8; 32],
    ) {
        let t = t_of.index(usize::from(n)) as u16 + 1;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let secret = Scalar::random(&mut rng);
        let Dealt { shares, public } =
            dangerous_deal_known_secret(&secret, of(t, n), &mut rng).unwrap();
        prop_assert_eq!(public.verifying_key().point(), &RistrettoPoint::mul_base(&secret));
        for (index, share) in &shares {
            prop_assert_eq!(public.share(*index), Some(share.verifying_share()));
        }
        let mut chosen: Vec<_> = shares.iter().collect();
        let mut key = |item: &&(ParticipantIndex, SigningShare)| {
            order[item.0.position()].wrapping_mul(31)
        };
        chosen.sort_by_key(&mut key);
        chosen.truncate(usize::from(t));
        let who: Vec<_> = chosen.iter().map(|(index, _)| *index).collect();
        let lambdas = lagrange_at_zero(&who).unwrap();
        let sum: Scalar =
            lambdas.iter().zip(&chosen).map(|(lambda, (_, share))| lambda * share.reveal()).sum();
        prop_assert_eq!(sum, secret);
        // One share fewer interpolates to something else.
        if t > 1 {
            let lambdas = lagrange_at_zero(&who[1..]).unwrap();
            let sum: Scalar = lambdas
                .iter()
                .zip(&chosen[1..])
                .map(|(lambda, (_, share))| lambda * share.reveal())
                .sum();
            prop_assert_ne!(sum, secret);
        }
    }
}

#[test]
fn coefficients_of_the_largest_committee_match_the_plain_formula() {
    let who: Vec<_> = of(1, MAX_COMMITTEE).indices().collect();
    let lambdas = lagrange_at_zero(&who).unwrap();
    for (i, lambda) in who.iter().zip(&lambdas) {
        let mut plain = Scalar::ONE;
        for j in who.iter().filter(|j| *j != i) {
            let (x_i, x_j) = (Scalar::from(i.get()), Scalar::from(j.get()));
            plain *= x_j * (x_j - x_i).invert();
        }
        assert_eq!(*lambda, plain);
    }
}
