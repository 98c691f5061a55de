//! Honest runs.

use super::*;
use crate::dkg::cocktail::verifying_share;

for_each_suite! {
    every_subset_of_t_has_the_key
    the_same_seed_sends_the_same_bytes
    another_session_deals_another_polynomial
    receive_keys_come_from_seeds
    debug_shows_no_secret
}

fn subsets(n: u16, t: u16) -> Vec<Vec<u16>> {
    (0u32..1 << n)
        .filter(|mask| mask.count_ones() == u32::from(t))
        .map(|mask| (1..=n).filter(|i| mask >> (i - 1) & 1 == 1).collect())
        .collect()
}

fn every_subset_of_t_has_the_key<S: Suite>() {
    for (t, n) in [(1, 1), (1, 3), (3, 3), (2, 3), (5, 7)] {
        let world = World::<S>::new(t, n);
        let dealt = world.deal_all();
        let outputs: Vec<_> =
            world.indices().into_iter().map(|i| world.receive(&dealt, i).unwrap()).collect();
        for (index, output) in world.indices().into_iter().zip(&outputs) {
            assert_eq!(output.transcript, outputs[0].transcript);
            assert_eq!(output.transcript_digest, outputs[0].transcript_digest);
            assert_eq!(output.commitments, outputs[0].commitments);
            assert_eq!(output.commitments.len(), usize::from(t));
            let expected = verifying_share::<S>(&output.commitments, index).unwrap();
            assert_eq!(output.verifying_share, expected);
            let share = S::decode_scalar(output.share.reveal()).unwrap();
            assert_eq!(S::encode_point(&S::mul_base(&share)), expected);
        }
        let shares: Vec<_> = outputs.iter().map(|o| *o.share.reveal()).collect();
        for subset in subsets(n, t) {
            let picked: Vec<_> = subset.iter().map(|i| (*i, shares[usize::from(*i) - 1])).collect();
            assert_eq!(interpolate::<S>(&picked), outputs[0].commitments[0], "{subset:?}");
        }
        if t > 1 {
            let few: Vec<_> = (1..t).map(|i| (i, shares[usize::from(i) - 1])).collect();
            assert_ne!(interpolate::<S>(&few), outputs[0].commitments[0]);
        }
        let signatures = world.sign_all(&outputs);
        certify::verify_all(world.session.setup(), &outputs[0].transcript, &signatures).unwrap();
    }
}

fn the_same_seed_sends_the_same_bytes<S: Suite>() {
    let world = World::<S>::new(2, 3);
    assert_eq!(world.deal_all(), World::<S>::new(2, 3).deal_all());
}

/// Fails if any of these is left out of the expansion: a coordinator could then collect shares of one
/// polynomial in two sessions.
fn another_session_deals_another_polynomial<S: Suite>() {
    let one = World::<S>::new(2, 3);
    let index = one.index(1);
    let commitments = one.deal(index).message.broadcast.commitments;
    let mut other = binding(1);
    other.order = Digest::from_bytes([9; 32]);
    let mut roster = binding(1);
    roster.roster = Digest::from_bytes([9; 32]);
    for (binding, t, n) in
        [(binding(2), 2, 3), (other, 2, 3), (roster, 2, 3), (binding(1), 3, 3), (binding(1), 2, 4)]
    {
        let other = World::<S>::with(binding, t, n);
        let broadcast = other.deal(other.index(1)).message.broadcast;
        assert!(broadcast.commitments.iter().all(|c| !commitments.contains(c)));
    }
    // The same seed at another index.
    let second = one.index(2);
    let dealt = one.session.round1(second, one.key(second), &one.seeds[0]).unwrap();
    assert!(dealt.message.broadcast.commitments.iter().all(|c| !commitments.contains(c)));
}

fn receive_keys_come_from_seeds<S: Suite>() {
    let seed = Secret::<32>::from_fn(|b| b.fill(3));
    let one = ReceiveKey::<S>::from_seed(&seed);
    assert_eq!(one.public(), ReceiveKey::<S>::from_seed(&seed).public());
    assert_ne!(one.public(), ReceiveKey::<S>::random(&mut rng()).public());
    assert!(ReceiveKey::<S>::from_scalar(&[0; 32]).is_none());
    assert!(ReceiveKey::<S>::from_scalar(&[0xff; 32]).is_none());
}

fn debug_shows_no_secret<S: Suite>() {
    let world = World::<S>::new(1, 1);
    let key = world.key(world.index(1));
    let secret = S::encode_scalar(key.secret());
    assert!(!format!("{key:?}").contains(&format!("{secret:?}")[1..40]));
    let secrets = world.session.secrets(world.index(1), &world.seeds[0]);
    assert_eq!(format!("{secrets:?}"), "Round1Secrets(redacted)");
    let output = world.receive(&world.deal_all(), world.index(1)).unwrap();
    assert!(format!("{output:?}").contains("redacted"));
}
