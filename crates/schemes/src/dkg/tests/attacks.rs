//! Lines 1 to 6 of the list of attacks, as far as the scheme answers for them.

use super::*;
use crate::dkg::cocktail::{
    self, DealerFault, DealingError, OutcomeError, SetupError, certify::CertifyError,
};

for_each_suite! {
    attack_01_split_view
    attack_01_split_view_of_ciphertexts_only
    attack_02_threshold_raise_or_lower
    attack_03_bad_index
    attack_03_foreign_participant
    attack_04_identity_noncanonical_low_order_points
    attack_04_scalars_beyond_the_order
    attack_05_rogue_key
    attack_05_cancelled_verifying_share
    attack_05_copied_broadcast
    attack_05_copied_or_replayed_receive_key
    attack_05_proof_with_a_commitment_made_afterwards
    attack_06_replay_and_transplant_of_messages
    attack_06_transplant_of_ciphertexts
    attack_06_transplant_of_signatures
}

fn dealer<S: Suite>(error: Result<Round2Output<S>, Round2Error>) -> (u16, DealerFault) {
    match error.unwrap_err() {
        Round2Error::Dealer { index, fault } => (index.get(), fault),
        other => panic!("{other:?}"),
    }
}

/// Shares of two views of one ceremony are never certified together.
///
/// Fails if `certify::verify_all` skips a signature or does not cover the participant's own view.
fn refuse_split<S: Suite>(world: &World<S>, one: &[Round1<S>], two: &[Round1<S>]) {
    // Participants 1 and 2 are shown one view, participant 3 the other. Each is good in itself.
    let outputs: Vec<_> = world
        .indices()
        .into_iter()
        .map(|i| world.receive(if i.get() < 3 { one } else { two }, i).unwrap())
        .collect();
    assert_ne!(outputs[0].transcript_digest, outputs[2].transcript_digest);
    let signatures = world.sign_all(&outputs);
    let setup = world.session.setup();
    let suspect = |index| CertifyError::Signature { index };
    for (view, named) in [(0, 3), (1, 3), (2, 1)] {
        assert_eq!(
            certify::verify_all(setup, &outputs[view].transcript, &signatures),
            Err(suspect(world.index(named))),
        );
    }
    // Leaving the others' signatures out, or giving one's own twice, does not help.
    let short = &signatures[..2];
    assert_eq!(
        certify::verify_all(setup, &outputs[0].transcript, short),
        Err(CertifyError::Count { expected: 3, found: 2 })
    );
    let doubled = [signatures[0], signatures[1], signatures[1]];
    assert!(certify::verify_all(setup, &outputs[0].transcript, &doubled).is_err());
}

fn attack_01_split_view<S: Suite>() {
    let mut world = World::<S>::new(2, 3);
    let one = world.deal_all();
    // The coordinator has an accomplice: dealer 1 deals twice.
    world.seeds[0] = Secret::from_fn(|b| b.fill(0x77));
    let two = world.deal_all();
    assert_ne!(one[0], two[0]);
    assert_eq!(one[1..], two[1..]);
    refuse_split(&world, &one, &two);
}

/// Fails if the extension is left empty.
fn attack_01_split_view_of_ciphertexts_only<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let one = world.deal_all();
    // Nobody opens the ciphertext that dealer 1 sends to itself, but what it committed to differs.
    let mut two = one.clone();
    two[0].ciphertexts[0] = vec![0; 48];
    world.commit(&mut two[0]);
    assert_eq!(one[0].message.broadcast, two[0].message.broadcast);
    let mut outputs = Vec::new();
    for (view, to) in [(&one, 1), (&one, 2), (&two, 3)] {
        outputs.push(world.receive(view, world.index(to)).unwrap());
    }
    let signatures = world.sign_all(&outputs);
    let setup = world.session.setup();
    for output in &outputs {
        assert!(certify::verify_all(setup, &output.transcript, &signatures).is_err());
    }
}

/// Every proof of the message is valid, and every share lies on the committed polynomial. Fails if
/// the count of commitments is not checked: then T+1 raises the threshold for everybody.
fn attack_02_threshold_raise_or_lower<S: Suite>() {
    let (t, n) = (3, 4);
    let world = World::<S>::new(t, n);
    for lie in [t - 1, t + 1] {
        let mut dealt = world.deal_all();
        dealt[1] = World::<S>::new(lie, n).deal(world.index(2));
        let found = usize::from(lie);
        let fault = DealerFault::CommitmentCount { expected: t, found };
        assert_eq!(dealer(world.receive(&dealt, world.index(1))), (2, fault));
    }
    for found in [0, usize::from(n) + 1, 200] {
        let mut dealt = world.deal_all();
        let message = &mut dealt[1].message;
        message.broadcast.commitments.resize(found, S::encode_point(&S::generator()));
        world.sign_pop(message);
        let fault = DealerFault::CommitmentCount { expected: t, found };
        assert_eq!(dealer(world.receive(&dealt, world.index(1))), (2, fault));
    }
    // A vanishing top coefficient lowers the degree: the identity is no commitment.
    let mut dealt = world.deal_all();
    let message = &mut dealt[1].message;
    message.broadcast.commitments[2] = S::encode_point(&S::identity());
    world.sign_pop(message);
    let fault = DealerFault::Commitment { position: 2 };
    assert_eq!(dealer(world.receive(&dealt, world.index(1))), (2, fault));
}

fn attack_03_bad_index<S: Suite>() {
    let world = World::<S>::new(2, 3);
    assert!(ParticipantIndex::new(0, world.threshold()).is_err());
    let (binding, threshold) = (*world.session.binding(), world.threshold());
    let good = world.session.members().to_vec();
    for index in [0, 1, 3, 4, u32::MAX] {
        let mut members = good.clone();
        members[1].index = index;
        let error = Session::new(binding, threshold, members).unwrap_err();
        assert_eq!(error, SessionError::Index { expected: world.index(2), found: index });
    }
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    assert!(matches!(
        Session::new(binding, threshold, swapped.clone()),
        Err(SessionError::Index { .. })
    ));
    // Also when the index is rewritten to the place: the proof says which index it is for.
    swapped[0].index = 1;
    swapped[1].index = 2;
    let error = Session::new(binding, threshold, swapped).unwrap_err();
    assert_eq!(error, SessionError::Possession { index: world.index(1) });
    for found in [0, 2, 4] {
        let mut members = good.clone();
        members.resize(found, good[0].clone());
        let error = Session::new(binding, threshold, members).unwrap_err();
        assert_eq!(error, SessionError::Setup(SetupError::Count { expected: 3, found }));
    }

    let dealt = world.deal_all();
    let (me, key) = (world.index(1), world.key(world.index(1)));
    let (messages, deliveries) = world.relay(&dealt, me);
    for found in [0, 1, 3, 4, u32::MAX] {
        let mut messages = messages.clone();
        messages[1].dealer = found;
        let error = world.session.round2(me, key, &messages, &deliveries).unwrap_err();
        assert_eq!(error, Round2Error::RelayIndex { expected: world.index(2), found });
    }
    let short = world.session.round2(me, key, &messages[..2], &deliveries);
    assert_eq!(short.unwrap_err(), Round2Error::RelayCount { expected: 3, found: 2 });
    let short = world.session.round2(me, key, &messages, &deliveries[..2]);
    assert_eq!(short.unwrap_err(), Round2Error::RelayCount { expected: 3, found: 2 });
}

fn attack_03_foreign_participant<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let dealt = world.deal_all();
    let stranger = ReceiveKey::<S>::random(&mut rng());
    let me = world.index(1);
    let seed = &world.seeds[0];
    assert_eq!(
        world.session.round1(me, &stranger, seed).unwrap_err(),
        DealingError::ForeignKey { index: me }
    );
    // A participant under another's index, and an index of a larger committee.
    assert!(world.session.round1(me, world.key(world.index(2)), seed).is_err());
    let (messages, deliveries) = world.relay(&dealt, me);
    for key in [&stranger, world.key(world.index(2))] {
        let error = world.session.round2(me, key, &messages, &deliveries).unwrap_err();
        assert_eq!(error, Round2Error::OwnKey);
    }
    let outside = ParticipantIndex::new(7, of(2, 9)).unwrap();
    assert!(world.session.round1(outside, &stranger, seed).is_err());
    assert!(world.session.round2(outside, &stranger, &messages, &deliveries).is_err());
    let signature = certify::sign(&stranger, b"T").unwrap();
    assert!(!certify::verify_one(world.session.setup(), outside, b"T", &signature));
    // One node at two places.
    let mut members = world.session.members().to_vec();
    members[2].node = members[0].node;
    let error = Session::new(*world.session.binding(), world.threshold(), members).unwrap_err();
    let (first, second) = (world.index(1), world.index(3));
    assert_eq!(error, SessionError::DuplicateNode { first, second });
}

/// Fails if decoding lets the identity, second encodings or points outside the subgroup through:
/// proofs of possession are signed over the bad point, so only decoding stands in its way.
fn attack_04_identity_noncanonical_low_order_points<S: TestSuite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    for (what, bad) in S::bad_points() {
        assert!(S::decode_point(&bad).is_none(), "{what}");
        for position in [0, 1] {
            let mut dealt = honest.clone();
            let message = &mut dealt[1].message;
            message.broadcast.commitments[position] = bad;
            world.sign_pop(message);
            let fault = DealerFault::Commitment { position };
            assert_eq!(dealer(world.receive(&dealt, me)), (2, fault), "{what}");
        }
        let mut dealt = honest.clone();
        let message = &mut dealt[1].message;
        message.broadcast.ephemeral = bad;
        world.sign_pop(message);
        world.prove_ephemeral(message);
        assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::Ephemeral), "{what}");

        let mut members = world.session.members().to_vec();
        members[1].receive_key = bad;
        let error = Session::new(*world.session.binding(), world.threshold(), members).unwrap_err();
        let expected = SetupError::Point { index: world.index(2) };
        assert_eq!(error, SessionError::Setup(expected), "{what}");

        // As R of each kind of signature.
        let with_r = |signature: &S::SignatureBytes| {
            S::join_signature(&bad, &S::split_signature(signature).1)
        };
        let mut dealt = honest.clone();
        dealt[1].message.broadcast.pop = with_r(&dealt[1].message.broadcast.pop);
        let fault = DealerFault::ProofOfPossession;
        assert_eq!(dealer(world.receive(&dealt, me)), (2, fault), "{what}");
        let mut dealt = honest.clone();
        dealt[1].message.ephemeral_proof = with_r(&dealt[1].message.ephemeral_proof);
        let fault = DealerFault::EphemeralPossession;
        assert_eq!(dealer(world.receive(&dealt, me)), (2, fault), "{what}");
        let signature = with_r(&certify::sign(world.key(me), b"T").unwrap());
        assert!(!certify::verify_one(world.session.setup(), me, b"T", &signature), "{what}");
    }
    // R = identity is the one bad R that could satisfy the equation: z = c * secret.
    let key = world.key(me);
    let r = S::encode_point(&S::identity());
    let z = S::h7(&[r.as_ref(), key.public().as_ref(), b"T"]) * *key.secret();
    let signature = S::join_signature(&r, &S::encode_scalar(&z));
    assert!(!certify::verify_one(world.session.setup(), me, b"T", &signature));
}

/// Fails if scalars are reduced instead of refused.
fn attack_04_scalars_beyond_the_order<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);

    let mut dealt = honest.clone();
    dealt[1].message.broadcast.pop = plus_order_in_z::<S>(&dealt[1].message.broadcast.pop);
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::ProofOfPossession));
    let mut dealt = honest.clone();
    dealt[1].message.ephemeral_proof = plus_order_in_z::<S>(&dealt[1].message.ephemeral_proof);
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::EphemeralPossession));
    let mut members = world.session.members().to_vec();
    members[1].proof = plus_order_in_z::<S>(&members[1].proof);
    let error = Session::new(*world.session.binding(), world.threshold(), members).unwrap_err();
    assert_eq!(error, SessionError::Possession { index: world.index(2) });
    let signature = certify::sign(world.key(me), b"T").unwrap();
    assert!(certify::verify_one(world.session.setup(), me, b"T", &signature));
    let signature = plus_order_in_z::<S>(&signature);
    assert!(!certify::verify_one(world.session.setup(), me, b"T", &signature));

    let mut dealt = honest.clone();
    world.cheat(&mut dealt[1], me, |plaintext| {
        let beyond = plus_order::<S>(plaintext);
        plaintext.copy_from_slice(&beyond);
    });
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::ShareEncoding));
}

/// A last mover who sets its constant term to whatever makes the sum its own key.
fn attack_05_rogue_key<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let mut dealt = honest.clone();
    let constant = |i: usize| S::decode_point(&honest[i].message.broadcast.commitments[0]).unwrap();
    let rogue = constant(2) - constant(0) - constant(1);
    let message = &mut dealt[2].message;
    message.broadcast.commitments[0] = S::encode_point(&rogue);
    // It knows no logarithm of that: its own signature, a copied one, an old one do not fit.
    let mut pops = vec![honest[2].message.broadcast.pop, honest[0].message.broadcast.pop];
    world.sign_pop(message);
    pops.push(message.broadcast.pop);
    for pop in pops {
        dealt[2].message.broadcast.pop = pop;
        let found = dealer(world.receive(&dealt, world.index(1)));
        assert_eq!(found, (3, DealerFault::ProofOfPossession));
    }
    // Replayed from another session: same node, same index, same suite.
    let mut dealt = honest.clone();
    dealt[2] = World::<S>::with(binding(2), 2, 3).deal(world.index(3));
    let found = dealer(world.receive(&dealt, world.index(1)));
    assert_eq!(found, (3, DealerFault::ProofOfPossession));
}

/// COCKTAIL's proof of possession does not name the dealer: a copy of another dealer's commitments,
/// proof and ephemeral key verifies. Fails without the proof of knowledge of the ephemeral key, or
/// if that does not name node and index.
/// Whoever deals last and has seen the others' shares for itself makes its own share of the sum zero, and
/// one that knows everybody's constants the key itself: every proof is valid, and the key would be one that
/// no client can use. Everybody refuses, so that nothing is signed. Fails if `combine` does not look at the
/// sums of coefficients, or at nothing else (tried).
fn attack_05_cancelled_verifying_share<S: Suite>() {
    for (t, n) in [(2, 2), (2, 3), (3, 5)] {
        let world = World::<S>::new(t, n);
        let last = world.index(n.into());
        let share = OutcomeError::CancelledShare { index: last };
        for (place, refused) in [(u64::from(n), share), (0, OutcomeError::Cancelled)] {
            let at = S::Scalar::from(place);
            let secrets = |index: ParticipantIndex| {
                world.session.secrets(index, &world.seeds[index.position()])
            };
            let zero = || S::Scalar::from(0);
            let mut sum = zero();
            for index in world.indices() {
                let polynomial = secrets(index).coefficients;
                sum = sum + polynomial.iter().rev().fold(zero(), |sum, c| sum * at + **c);
            }
            let mut own = secrets(last);
            *own.coefficients[0] = *own.coefficients[0] - sum;
            let dealing =
                cocktail::deal(world.session.setup(), last, world.key(last), &own, &[]).unwrap();
            let mut dealt = world.deal_all();
            let cheat = &mut dealt[last.position()];
            cheat.message.broadcast = dealing.broadcast;
            cheat.ciphertexts = dealing.ciphertexts;
            world.commit(cheat);
            assert_eq!(world.session.check_round1(last, &dealt[last.position()].message), Ok(()));
            for index in world.indices() {
                let found = world.receive(&dealt, index).unwrap_err();
                assert_eq!(found, Round2Error::Sum(refused));
            }
        }
    }
}

fn attack_05_copied_broadcast<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let mut dealt = honest.clone();
    dealt[2].message.broadcast = honest[0].message.broadcast.clone();
    assert!(cocktail::check_broadcast(world.session.setup(), &dealt[2].message.broadcast).is_ok());
    let copied = honest[0].message.ephemeral_proof;
    let own = honest[2].message.ephemeral_proof;
    world.prove_ephemeral(&mut dealt[2].message);
    let made_up = dealt[2].message.ephemeral_proof;
    for proof in [copied, own, made_up] {
        dealt[2].message.ephemeral_proof = proof;
        let found = dealer(world.receive(&dealt, world.index(2)));
        assert_eq!(found, (3, DealerFault::EphemeralPossession));
    }
}

fn attack_05_copied_or_replayed_receive_key<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let (session, threshold) = (*world.session.binding(), world.threshold());
    let good = world.session.members().to_vec();
    // A copy beside its original.
    let mut members = good.clone();
    members[2].receive_key = good[0].receive_key;
    members[2].proof = good[0].proof;
    let error = Session::new(session, threshold, members).unwrap_err();
    let (first, second) = (world.index(1), world.index(3));
    assert_eq!(error, SessionError::Setup(SetupError::Duplicate { first, second }));
    // Another's key with its proof from another session, order, index, node or kind of key.
    let index = world.index(3);
    let key = ReceiveKey::<S>::from_seed(&Secret::from_fn(|b| b.fill(8)));
    let good_statement = PossessionStatement::<S> {
        kind: PossessionKind::ReceiveKey,
        session: session.session,
        order: session.order,
        node: node(3),
        index,
        point: *key.public(),
    };
    let enter = |statement: &PossessionStatement<S>| {
        let mut members = good.clone();
        members[2].receive_key = *key.public();
        members[2].proof = key.prove_possession(statement, &mut rng());
        Session::new(session, threshold, members)
    };
    assert!(enter(&good_statement).is_ok());
    let change = |f: fn(&mut PossessionStatement<S>)| {
        let mut statement = good_statement.clone();
        f(&mut statement);
        assert_eq!(enter(&statement).unwrap_err(), SessionError::Possession { index });
    };
    change(|s| s.kind = PossessionKind::Ephemeral);
    change(|s| s.session = SessionId::from_bytes([9; 32]));
    change(|s| s.order = Digest::from_bytes([9; 32]));
    change(|s| s.node = node(1));
    change(|s| s.index = ParticipantIndex::new(1, of(1, 1)).unwrap());
    change(|s| s.point = S::encode_point(&S::generator()));
}

/// `R = z * B - c * P` for a challenge of some other R: a proof without the secret, if the challenge
/// did not hash R.
fn attack_05_proof_with_a_commitment_made_afterwards<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let copied = S::encode_point(&(S::generator() + S::generator()));
    let index = world.index(3);
    let SessionBinding { session, order, .. } = *world.session.binding();
    let kind = PossessionKind::ReceiveKey;
    let statement =
        PossessionStatement::<S> { kind, session, order, node: node(3), index, point: copied };
    let z = S::Scalar::from(1234);
    let challenge = statement.challenge(&copied);
    let r = S::mul_base(&z) - S::decode_point(&copied).unwrap() * challenge;
    let proof = S::join_signature(&S::encode_point(&r), &S::encode_scalar(&z));
    assert!(!possession::verify(&statement, &proof));
}

/// Two suites over one curve: nothing signed in one is good in the other.
#[test]
fn attack_05_proofs_of_another_suite() {
    use curve25519_dalek::{EdwardsPoint, RistrettoPoint, Scalar};

    let (secret, nonce) = (Scalar::from(77u64), Scalar::from(78u64));
    // One key in both groups; a signature's z is moved, its R is encoded anew.
    let signature = schnorr::sign::<Ed25519>(&secret, &[b"m"]).unwrap();
    assert!(schnorr::verify::<Ed25519>(&EdwardsPoint::mul_base(&secret), &signature, &[b"m"]));
    assert!(!schnorr::verify::<Ristretto255>(
        &RistrettoPoint::mul_base(&secret),
        &signature,
        &[b"m"]
    ));
    // And the challenges differ even over the same bytes.
    let r = Ristretto255::encode_point(&RistrettoPoint::mul_base(&nonce));
    assert_ne!(Ristretto255::h7(&[&r]), Ed25519::h7(&[&r]));
    // The proof of possession says which suite it is for: same statement, same secret and extra bytes.
    let statement = |point| PossessionStatement::<Ristretto255> {
        kind: PossessionKind::ReceiveKey,
        session: SessionId::from_bytes([1; 32]),
        order: Digest::from_bytes([2; 32]),
        node: node(1),
        index: ParticipantIndex::new(1, of(1, 1)).unwrap(),
        point,
    };
    let here = statement(Ristretto255::encode_point(&RistrettoPoint::mul_base(&secret)));
    let there = PossessionStatement::<Ed25519> {
        kind: here.kind,
        session: here.session,
        order: here.order,
        node: here.node,
        index: here.index,
        point: Ed25519::encode_point(&EdwardsPoint::mul_base(&secret)),
    };
    let mut same_bytes = there.clone();
    same_bytes.point = here.point;
    assert_ne!(here.hash(), same_bytes.hash());
    let proof = possession::prove(&secret, &there, &[0; 32]);
    assert!(possession::verify(&there, &proof));
    assert!(!possession::verify(&here, &proof));
    let z = Ed25519::split_signature(&proof).1;
    for point in [here.point, there.point] {
        let mixed = Ristretto255::join_signature(&r, &z);
        assert!(!possession::verify(&statement(point), &mixed));
    }
}

fn attack_06_replay_and_transplant_of_messages<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    // Another session: the context differs.
    let mut dealt = honest.clone();
    dealt[1] = World::<S>::with(binding(2), 2, 3).deal(world.index(2));
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::ProofOfPossession));
    // Another order under the same session id, which a digest excludes: the proof says the order.
    let mut other = binding(1);
    other.order = Digest::from_bytes([9; 32]);
    let mut dealt = honest.clone();
    dealt[1] = World::<S>::with(other, 2, 3).deal(world.index(2));
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::EphemeralPossession));
    // Another roster: transcripts differ, so nobody's signature fits.
    let mut other = binding(1);
    other.roster = Digest::from_bytes([9; 32]);
    let elsewhere = World::<S>::with(other, 2, 3);
    let messages: Vec<_> = honest.iter().map(|round1| round1.message.clone()).collect();
    assert_ne!(world.session.transcript(&messages), elsewhere.session.transcript(&messages));
    // Another sender's message.
    let mut dealt = honest.clone();
    dealt[1] = honest[2].clone();
    dealt[1].message.dealer = 2;
    assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::EphemeralPossession));
}

/// The dealer signs whatever root fits: the AEAD's key binds both dealer and recipient.
fn attack_06_transplant_of_ciphertexts<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    let other_session = World::<S>::with(binding(2), 2, 3).deal(world.index(2));
    let transplants = [
        honest[2].ciphertexts[0].clone(),     // another sender's to us
        honest[1].ciphertexts[2].clone(),     // the same sender's to another
        honest[0].ciphertexts[1].clone(),     // our own to it, back
        other_session.ciphertexts[0].clone(), // the same, of another session
    ];
    for transplant in transplants {
        let mut dealt = honest.clone();
        dealt[1].ciphertexts[0] = transplant.clone();
        // By the coordinator: it is not under the dealer's root.
        let (messages, mut deliveries) = world.relay(&honest, me);
        deliveries[1].ciphertext = transplant;
        let error = world.session.round2(me, world.key(me), &messages, &deliveries).unwrap_err();
        assert_eq!(error, Round2Error::RelayCiphertext { index: world.index(2) });
        // By the dealer.
        world.commit(&mut dealt[1]);
        assert_eq!(dealer(world.receive(&dealt, me)), (2, DealerFault::Decryption));
    }
    // A delivery that another recipient was shown.
    let (messages, _) = world.relay(&honest, me);
    let (_, deliveries) = world.relay(&honest, world.index(2));
    let error = world.session.round2(me, world.key(me), &messages, &deliveries).unwrap_err();
    assert_eq!(error, Round2Error::RelayCiphertext { index: world.index(1) });
}

fn attack_06_transplant_of_signatures<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let run = |world: &World<S>| {
        let dealt = world.deal_all();
        let outputs: Vec<_> =
            world.indices().into_iter().map(|i| world.receive(&dealt, i).unwrap()).collect();
        let signatures = world.sign_all(&outputs);
        (outputs[0].transcript.clone(), signatures)
    };
    let (transcript, good) = run(&world);
    let (_, elsewhere) = run(&World::with(binding(2), 2, 3));
    let setup = world.session.setup();
    assert_eq!(certify::verify_all(setup, &transcript, &good), Ok(()));
    // The receive keys are the same in both of these test sessions; the transcripts are not.
    let mut signatures = good.clone();
    signatures[1] = elsewhere[1];
    let refused = Err(CertifyError::Signature { index: world.index(2) });
    assert_eq!(certify::verify_all(setup, &transcript, &signatures), refused);
    let mut signatures = good.clone();
    signatures[1] = good[0];
    assert_eq!(certify::verify_all(setup, &transcript, &signatures), refused);
    // A proof of possession of the receive key is no signature of a transcript.
    signatures[1] = world.session.members()[1].proof;
    assert_eq!(certify::verify_all(setup, &transcript, &signatures), refused);
}
