//! Every byte of every message of a run, changed: nothing that was changed is certified.

use super::*;

for_each_suite! {
    every_byte_of_round_0
    every_byte_of_round_1
    every_byte_of_a_delivery
    every_byte_of_certification
    context_and_extension_bind_what_they_should
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1 << (at % 8);
}

fn every_byte_of_round_0<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let refused = |change: &dyn Fn(&mut Member<S>)| {
        let mut members = world.session.members().to_vec();
        change(&mut members[1]);
        assert!(Session::new(*world.session.binding(), world.threshold(), members).is_err());
    };
    for at in 0..32 {
        refused(&|m| flip(m.receive_key.as_mut(), at));
    }
    for at in 0..64 {
        refused(&|m| flip(m.proof.as_mut(), at));
    }
    for at in 0..16 {
        refused(&|m| {
            let mut id = *m.node.as_bytes();
            flip(&mut id, at);
            m.node = NodeId::from_bytes(id);
        });
    }
}

fn every_byte_of_round_1<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    let (messages, deliveries) = world.relay(&honest, me);
    let round2 = |messages: &[Round1Message<S>]| {
        world.session.round2(me, world.key(me), messages, &deliveries)
    };
    assert!(round2(&messages).is_ok());
    let refused = |change: &dyn Fn(&mut Round1Message<S>)| {
        for from in 0..3 {
            let mut messages = messages.clone();
            change(&mut messages[from]);
            round2(&messages).unwrap_err();
        }
    };
    for at in 0..32 {
        refused(&|m| flip(m.broadcast.commitments[0].as_mut(), at));
        refused(&|m| flip(m.broadcast.commitments[1].as_mut(), at));
        refused(&|m| flip(m.broadcast.ephemeral.as_mut(), at));
        refused(&|m| {
            let mut root = *m.root.as_bytes();
            flip(&mut root, at);
            m.root = Digest::from_bytes(root);
        });
    }
    for at in 0..64 {
        refused(&|m| flip(m.broadcast.pop.as_mut(), at));
        refused(&|m| flip(m.ephemeral_proof.as_mut(), at));
    }
    refused(&|m| m.broadcast.commitments.swap(0, 1));
    refused(&|m| m.dealer += 1);
}

fn every_byte_of_a_delivery<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let honest = world.deal_all();
    let me = world.index(1);
    let (messages, deliveries) = world.relay(&honest, me);
    let refused = |change: &dyn Fn(&mut Delivery)| {
        let mut deliveries = deliveries.clone();
        change(&mut deliveries[1]);
        let error = world.session.round2(me, world.key(me), &messages, &deliveries).unwrap_err();
        assert_eq!(error, Round2Error::RelayCiphertext { index: world.index(2) });
    };
    for at in 0..48 {
        refused(&|d| flip(&mut d.ciphertext, at));
        refused(&|d| d.ciphertext.truncate(at));
    }
    refused(&|d| d.ciphertext.push(0));
    for at in 0..64 {
        refused(&|d| {
            let step = &mut d.path[at / 32];
            let mut bytes = *step.as_bytes();
            flip(&mut bytes, at % 32);
            *step = Digest::from_bytes(bytes);
        });
    }
    refused(&|d| d.path.swap(0, 1));
    refused(&|d| d.path.clear());
    refused(&|d| d.path.push(Digest::from_bytes([0; 32])));
}

fn every_byte_of_certification<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let dealt = world.deal_all();
    let outputs: Vec<_> =
        world.indices().into_iter().map(|i| world.receive(&dealt, i).unwrap()).collect();
    let signatures = world.sign_all(&outputs);
    let setup = world.session.setup();
    let transcript = &outputs[0].transcript;
    certify::verify_all(setup, transcript, &signatures).unwrap();
    for which in 0..3 {
        for at in 0..64 {
            let mut signatures = signatures.clone();
            flip(signatures[which].as_mut(), at);
            let index = world.indices()[which];
            let refused = Err(certify::CertifyError::Signature { index });
            assert_eq!(certify::verify_all(setup, transcript, &signatures), refused);
        }
    }
    for at in 0..transcript.len() {
        let mut transcript = transcript.clone();
        flip(&mut transcript, at);
        assert!(certify::verify_all(setup, &transcript, &signatures).is_err());
    }
}

/// Fails if any of these is left out of context or extension.
fn context_and_extension_bind_what_they_should<S: Suite>() {
    let world = World::<S>::new(2, 3);
    let keys = world.session.setup().receive_keys();
    let good = cocktail::context::<S>(b"session", keys);
    let mut swapped = keys.to_vec();
    swapped.swap(0, 1);
    assert_ne!(good, cocktail::context::<S>(b"sessio", keys));
    assert_ne!(good, cocktail::context::<S>(b"session", &swapped));
    assert_ne!(good, cocktail::context::<S>(b"session", &keys[..2]));
    assert_ne!(
        cocktail::context::<Ristretto255>(b"session", &[[1; 32]]),
        cocktail::context::<Ed25519>(b"session", &[[1; 32]])
    );
    assert_eq!(
        world.session.setup().context(),
        cocktail::context::<S>(world.session.binding().session.as_bytes(), keys)
    );

    let roots = [1, 2, 3].map(|b| Digest::from_bytes([b; 32]));
    let good = extension(&binding(1), roots.iter());
    let mut order = binding(1);
    order.order = Digest::from_bytes([9; 32]);
    let mut roster = binding(1);
    roster.roster = Digest::from_bytes([9; 32]);
    let swapped = [roots[1], roots[0], roots[2]];
    for other in [
        extension(&order, roots.iter()),
        extension(&roster, roots.iter()),
        extension(&binding(1), swapped.iter()),
        extension(&binding(1), roots[..2].iter()),
    ] {
        assert_ne!(good, other);
    }
    // And the transcript carries it.
    let dealt = world.deal_all();
    let output = world.receive(&dealt, world.index(1)).unwrap();
    let messages: Vec<_> = dealt.iter().map(|round1| &round1.message.root).collect();
    let expected = extension(world.session.binding(), messages.into_iter());
    assert!(output.transcript.ends_with(expected.as_bytes()));
}
