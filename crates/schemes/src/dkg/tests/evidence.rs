//! Line 7 of the list of attacks: cheats are named with proof, honest dealers never.

use super::*;
use crate::dkg::cocktail::{self, DealerFault};
use crate::dkg::evidence::{Evidence, NoEvidence, Unfounded, Verdict, accuse, judge};

for_each_suite! {
    attack_07_bad_share_to_one_participant
    attack_07_bad_messages_are_evidence_that_opens_nothing
    attack_07_dealer_who_copies_points_gets_no_ecdh_value
    attack_07_revealed_values_open_one_ciphertext_only
    attack_07_coordinator_cannot_frame_a_dealer
    attack_07_accuser_cannot_frame_a_dealer
    attack_07_every_field_of_evidence_counts
}

/// Cheats at `dealt[1]` against participant 1.
fn cheated<S: Suite>(
    world: &World<S>,
    change: impl FnOnce(&mut Vec<u8>),
) -> (Vec<Round1<S>>, ParticipantIndex) {
    let mut dealt = world.deal_all();
    let victim = world.index(1);
    world.cheat(&mut dealt[1], victim, change);
    (dealt, victim)
}

fn accusation<S: Suite>(
    world: &World<S>,
    round1: &Round1<S>,
    by: ParticipantIndex,
) -> Result<Evidence<S>, NoEvidence> {
    let delivery = world.delivery(round1, by);
    accuse(&world.session, by, world.key(by), &round1.message, &delivery, &mut rng())
}

/// Fails if the share is not checked against the commitments, if the AEAD is not checked, or if
/// payloads are let through.
fn attack_07_bad_share_to_one_participant<S: Suite>() {
    let world = World::<S>::new(2, 3);
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, DealerFault); 4] = [
        (|p| p[0] ^= 1, DealerFault::Share),
        (|p| p.fill(0), DealerFault::Share),
        (|p| p.fill(0xff), DealerFault::ShareEncoding),
        (|p| p.push(0), DealerFault::CiphertextLength { found: 49 }),
    ];
    let mut cases: Vec<_> =
        changes.into_iter().map(|(change, fault)| (cheated(&world, change).0, fault)).collect();
    for (length, fault) in [
        (0, DealerFault::CiphertextLength { found: 0 }),
        (47, DealerFault::CiphertextLength { found: 47 }),
        (48, DealerFault::Decryption),
    ] {
        let mut dealt = world.deal_all();
        dealt[1].ciphertexts[0] = vec![7; length];
        world.commit(&mut dealt[1]);
        cases.push((dealt, fault));
    }
    for (dealt, fault) in cases {
        let victim = world.index(1);
        let index = world.index(2);
        let error = world.receive(&dealt, victim).unwrap_err();
        assert_eq!(error, Round2Error::Dealer { index, fault });
        // The others are content, but without the victim's signature nothing is certified.
        let other = world.receive(&dealt, world.index(3)).unwrap();
        let signatures: Vec<_> = [2, 3, 3]
            .map(|i| certify::sign(world.key(world.index(i)), &other.transcript).unwrap())
            .into();
        let setup = world.session.setup();
        assert!(certify::verify_all(setup, &other.transcript, &signatures).is_err());
        assert!(certify::verify_all(setup, &other.transcript, &signatures[..2]).is_err());
        // Anybody sees who it was.
        let evidence = accusation(&world, &dealt[1], victim).unwrap();
        assert_eq!(judge(&evidence), Verdict::DealerCheated(fault));
        // Nobody is convicted of what was good.
        assert_eq!(accusation(&world, &dealt[2], victim), Err(NoEvidence::NothingWrong));
        assert_eq!(accusation(&world, &dealt[1], world.index(3)), Err(NoEvidence::NothingWrong));
    }
}

fn attack_07_bad_messages_are_evidence_that_opens_nothing<S: Suite>() {
    let world = World::<S>::new(2, 3);
    type Change<S> = fn(&mut Round1Message<S>);
    let bad: [(Change<S>, DealerFault); 4] = [
        (
            |m| m.broadcast.commitments.truncate(1),
            DealerFault::CommitmentCount { expected: 2, found: 1 },
        ),
        (
            |m| m.broadcast.commitments[1].as_mut().fill(0xff),
            DealerFault::Commitment { position: 1 },
        ),
        (|m| m.broadcast.pop.as_mut()[40] ^= 1, DealerFault::ProofOfPossession),
        (|m| m.ephemeral_proof.as_mut()[40] ^= 1, DealerFault::EphemeralPossession),
    ];
    for (change, fault) in bad {
        let mut dealt = world.deal_all();
        change(&mut dealt[1].message);
        let evidence = accusation(&world, &dealt[1], world.index(1)).unwrap();
        assert!(evidence.opening.is_none());
        assert_eq!(judge(&evidence), Verdict::DealerCheated(fault));
    }
}

/// A dealer that sends an honest node's keys as its own wants the victim to publish the ECDH values
/// that protect the honest node's share. Fails if `accuse` makes an opening before all proofs hold.
fn attack_07_dealer_who_copies_points_gets_no_ecdh_value<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let victim = world.index(1);
    // E copied, with and without the rest; then a bad ciphertext under a good root.
    for whole in [false, true] {
        let mut dealt = honest.clone();
        let liar = &mut dealt[1];
        if whole {
            liar.message.broadcast = honest[2].message.broadcast.clone();
        } else {
            liar.message.broadcast.ephemeral = honest[2].message.broadcast.ephemeral;
            world.sign_pop(&mut liar.message);
        }
        liar.ciphertexts[0] = vec![7; 48];
        world.commit(liar);
        for proof in [honest[2].message.ephemeral_proof, liar.message.ephemeral_proof] {
            dealt[1].message.ephemeral_proof = proof;
            let fault = DealerFault::EphemeralPossession;
            let error = world.receive(&dealt, victim).unwrap_err();
            assert_eq!(error, Round2Error::Dealer { index: world.index(2), fault });
            let evidence = accusation(&world, &dealt[1], victim).unwrap();
            assert!(evidence.opening.is_none());
            assert_eq!(judge(&evidence), Verdict::DealerCheated(fault));
        }
    }
    // P copied: there is no session in which to accuse. (A related key, such as P + B, would need
    // a proof of knowledge, too.)
    let mut members = world.session.members().to_vec();
    for copied in [
        members[2].receive_key,
        S::encode_point(&(S::decode_point(&members[2].receive_key).unwrap() + S::generator())),
        honest[2].message.broadcast.ephemeral,
    ] {
        members[1].receive_key = copied;
        for proof in [members[2].proof, honest[2].message.ephemeral_proof] {
            members[1].proof = proof;
            assert!(
                Session::new(*world.session.binding(), world.threshold(), members.clone()).is_err()
            );
        }
    }
}

fn attack_07_revealed_values_open_one_ciphertext_only<S: Suite>() {
    let world = World::<S>::new(2, 4);
    let (dealt, victim) = cheated(&world, |p| p[0] ^= 1);
    let evidence = accusation(&world, &dealt[1], victim).unwrap();
    let opening = evidence.opening.unwrap();
    let one = S::decode_point(&opening.ephemeral_secret).unwrap();
    let two = S::decode_point(&opening.static_secret).unwrap();
    let mut opened = Vec::new();
    for (from, round1) in world.indices().into_iter().zip(&dealt) {
        let dealer = world.session.check_message(from, &round1.message).unwrap();
        for to in world.indices() {
            let ciphertext = &round1.ciphertexts[to.position()];
            for shared in [(&one, &two), (&two, &one), (&one, &one), (&two, &two)] {
                let result = cocktail::open_share(
                    world.session.setup(),
                    &dealer,
                    from,
                    to,
                    shared,
                    ciphertext,
                );
                if !matches!(result, Err(DealerFault::Decryption)) {
                    opened.push((from.get(), to.get()));
                }
            }
        }
    }
    assert_eq!(opened, [(2, 1)]);
}

/// Fails if the path is not checked before somebody is accused, or not when judging.
fn attack_07_coordinator_cannot_frame_a_dealer<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let (me, dealer) = (world.index(1), world.index(2));
    let key = world.key(me);
    let round1 = &honest[1];
    let good = world.delivery(round1, me);
    let mut tampered = Vec::new();
    let mut delivery = good.clone();
    delivery.ciphertext[3] ^= 1;
    tampered.push(delivery);
    let mut delivery = good.clone();
    delivery.ciphertext.clear();
    tampered.push(delivery);
    let mut delivery = good.clone();
    delivery.path[0] = Digest::from_bytes([1; 32]);
    tampered.push(delivery);
    let mut delivery = good.clone();
    delivery.path.pop();
    tampered.push(delivery);
    tampered.push(world.delivery(round1, world.index(3))); // a delivery for somebody else
    tampered.push(world.delivery(&honest[2], me)); // of somebody else
    for delivery in tampered {
        let (messages, mut deliveries) = world.relay(&honest, me);
        deliveries[1] = delivery.clone();
        let error = world.session.round2(me, key, &messages, &deliveries).unwrap_err();
        assert_eq!(error, Round2Error::RelayCiphertext { index: dealer });
        let none = accuse(&world.session, me, key, &round1.message, &delivery, &mut rng());
        assert_eq!(none, Err(NoEvidence::Relay));
        // And if somebody accuses all the same, with true ECDH values:
        let mut forged = true_opening(&world, round1, me);
        forged.opening.as_mut().unwrap().delivery = delivery;
        assert_eq!(judge(&forged), Verdict::Unfounded(Unfounded::Path));
    }
    // One's own message is nobody else's fault.
    let mut dealt = honest.clone();
    dealt[0].message.broadcast.pop.as_mut()[40] ^= 1;
    let error = world.receive(&dealt, me).unwrap_err();
    assert_eq!(error, Round2Error::OwnMessage(DealerFault::ProofOfPossession));
    assert_eq!(accusation(&world, &dealt[0], me), Err(NoEvidence::Own));
}

/// Evidence with true ECDH values and proofs against a dealer that did nothing wrong.
fn true_opening<S: Suite>(
    world: &World<S>,
    honest: &Round1<S>,
    by: ParticipantIndex,
) -> Evidence<S> {
    // Accusing needs a fault: the dealer cheats, then its honest message is put back. ECDH values
    // and their proofs do not depend on the ciphertext.
    let mut bad = honest.clone();
    world.cheat(&mut bad, by, |p| p[0] ^= 1);
    let mut evidence = accusation(world, &bad, by).unwrap();
    evidence.message = honest.message.clone();
    evidence.opening.as_mut().unwrap().delivery = world.delivery(honest, by);
    evidence
}

/// Fails if an ECDH value is believed without its proof, or proven against another key.
fn attack_07_accuser_cannot_frame_a_dealer<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    let good = true_opening(&world, &honest[1], me);
    assert_eq!(judge(&good), Verdict::Unfounded(Unfounded::ShareIsGood));

    let mut nothing = good.clone();
    nothing.opening = None;
    assert_eq!(judge(&nothing), Verdict::Unfounded(Unfounded::MessageIsGood));

    // Wrong values: somebody else's, swapped, made up.
    let other = true_opening(&world, &honest[1], world.index(3)).opening.unwrap();
    let third = true_opening(&world, &honest[2], me).opening.unwrap();
    let wrong = Verdict::Unfounded(Unfounded::EqualityProof);
    for foreign in [&other, &third] {
        let mut forged = good.clone();
        let opening = forged.opening.as_mut().unwrap();
        opening.ephemeral_secret = foreign.ephemeral_secret;
        assert_eq!(judge(&forged), wrong);
        let opening = forged.opening.as_mut().unwrap();
        opening.ephemeral_secret_proof = foreign.ephemeral_secret_proof;
        assert_eq!(judge(&forged), wrong);
        let mut forged = good.clone();
        let opening = forged.opening.as_mut().unwrap();
        opening.static_secret = foreign.static_secret;
        opening.static_secret_proof = foreign.static_secret_proof;
        assert_eq!(judge(&forged), wrong);
    }
    let mut forged = good.clone();
    let opening = forged.opening.as_mut().unwrap();
    core::mem::swap(&mut opening.ephemeral_secret, &mut opening.static_secret);
    core::mem::swap(&mut opening.ephemeral_secret_proof, &mut opening.static_secret_proof);
    assert_eq!(judge(&forged), wrong);

    // The recipient is another than it says.
    for recipient in [0, 2, 3, 4, u32::MAX] {
        let mut forged = good.clone();
        forged.opening.as_mut().unwrap().recipient = recipient;
        assert!(matches!(judge(&forged), Verdict::Unfounded(_)), "{recipient}");
    }
    for dealer in [0, 1, 4, u32::MAX] {
        let mut forged = good.clone();
        forged.message.dealer = dealer;
        // Index 1 fails the proofs of that message: its identity signature says whose it is.
        if dealer == 1 {
            assert!(matches!(judge(&forged), Verdict::DealerCheated(_)));
        } else {
            let stranger = Unfounded::Stranger(dealer);
            assert_eq!(judge(&forged), Verdict::Unfounded(stranger));
        }
    }
    // An accuser with a receive key of its own choosing is in no such session.
    let mut forged = good.clone();
    forged.members[0].receive_key = S::encode_point(&S::generator());
    assert!(matches!(judge(&forged), Verdict::Unfounded(Unfounded::Session(_))));
    // The key of somebody else does not accuse.
    let stranger = ReceiveKey::<S>::random(&mut rng());
    let delivery = world.delivery(&honest[1], me);
    let none = accuse(&world.session, me, &stranger, &honest[1].message, &delivery, &mut rng());
    assert_eq!(none, Err(NoEvidence::OwnKey));
}

/// No change to what the accuser may make up turns good evidence into other good evidence.
fn attack_07_every_field_of_evidence_counts<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let (dealt, victim) = cheated(&world, |p| p[0] ^= 1);
    let good = accusation(&world, &dealt[1], victim).unwrap();
    assert_eq!(judge(&good), Verdict::DealerCheated(DealerFault::Share));
    let refused = |change: &dyn Fn(&mut Evidence<S>)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        assert!(matches!(judge(&evidence), Verdict::Unfounded(_)), "{evidence:?}");
    };
    refused(&|e| e.binding.session = SessionId::from_bytes([9; 32]));
    refused(&|e| e.binding.order = Digest::from_bytes([9; 32]));
    refused(&|e| e.threshold = of(2, 2));
    refused(&|e| e.members.truncate(2));
    refused(&|e| e.members.swap(0, 2));
    refused(&|e| e.members[2].node = node(9));
    refused(&|e| e.message.root = Digest::from_bytes([9; 32]));
    for at in 0..48 {
        refused(&|e| e.opening.as_mut().unwrap().delivery.ciphertext[at] ^= 1);
    }
    for at in 0..2 {
        refused(&|e| {
            e.opening.as_mut().unwrap().delivery.path[at] = Digest::from_bytes([9; 32]);
        });
    }
    for at in 0..32 {
        refused(&|e| e.opening.as_mut().unwrap().ephemeral_secret.as_mut()[at] ^= 1);
        refused(&|e| e.opening.as_mut().unwrap().static_secret.as_mut()[at] ^= 1);
    }
    for at in 0..64 {
        refused(&|e| e.opening.as_mut().unwrap().ephemeral_secret_proof[at] ^= 1);
        refused(&|e| e.opening.as_mut().unwrap().static_secret_proof[at] ^= 1);
    }
    // The order added to challenge or response.
    for at in [0, 32] {
        refused(&|e| {
            let proof = &mut e.opening.as_mut().unwrap().static_secret_proof;
            let beyond = plus_order::<S>(&proof[at..at + 32]);
            proof[at..at + 32].copy_from_slice(&beyond);
        });
    }
}
