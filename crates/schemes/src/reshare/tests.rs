//! Every check of a reshare, and what it must come to.

use curve25519_dalek::scalar::Scalar;
use quorate_types::{Digest, SessionId};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::dkg::cocktail::DealerFault;
use crate::dkg::evidence::{NoEvidence, Unfounded, Verdict, judge_in, open_dispute};
use crate::dkg::{
    Delivery, ReceiveKey, Ristretto255, Round1, Round1Error, Round1Message, Round2Error,
    Round2Output, merkle,
};
use crate::prf::{Combiner, Labels, evaluate};
use crate::sharing::{PublicShares, SigningShare, dangerous_deal_known_secret, lagrange_at_zero};
use quorate_secret::PrfOutput;

type Group = Ristretto255;

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn of(t: u16, n: u16) -> Threshold {
    Threshold::new(t, n).unwrap()
}

fn node(number: u16) -> NodeId {
    let mut bytes = [0x22; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn binding(session: u8) -> SessionBinding {
    SessionBinding {
        session: SessionId::from_bytes([session; 32]),
        order: Digest::from_bytes([0xb1; 32]),
        roster: Digest::from_bytes([0xb2; 32]),
    }
}

/// A sharing of a known secret, and who holds it.
struct Old {
    secret: Scalar,
    parent: Parent<Group>,
    public: PublicShares,
    shares: Vec<SigningShare>,
}

impl Old {
    fn new(t: u16, n: u16) -> Self {
        let secret = Scalar::from(4711u64 + u64::from(t) * 100 + u64::from(n));
        let dealt = dangerous_deal_known_secret(&secret, of(t, n), &mut rng(9)).unwrap();
        // Commitments from the verifying shares at 0 to t - 1, by differences: simpler to interpolate
        // the polynomial itself, whose values are known here.
        let shares: Vec<SigningShare> = dealt.shares.into_iter().map(|(_, share)| share).collect();
        let commitments = commitments(&secret, &shares, t);
        let generation = Generation::from_bytes([t as u8 * 16 + n as u8; 32]);
        let parent = Parent::new(generation, of(t, n), &commitments).unwrap();
        Self { secret, parent, public: dealt.public, shares }
    }

    fn share(&self, index: ParticipantIndex) -> Secret<32> {
        self.shares[index.position()].to_bytes()
    }
}

/// The commitments to the polynomial of degree t - 1 through these points.
fn commitments(secret: &Scalar, shares: &[SigningShare], t: u16) -> Vec<[u8; 32]> {
    let mut points = vec![(Scalar::ZERO, *secret)];
    for (x, share) in (1u64..).zip(shares).take(usize::from(t) - 1) {
        points.push((Scalar::from(x), *share.reveal()));
    }
    let mut coefficients = vec![Scalar::ZERO; usize::from(t)];
    for (i, (xi, yi)) in points.iter().enumerate() {
        let mut basis = vec![Scalar::ONE];
        let mut under = Scalar::ONE;
        for (j, (xj, _)) in points.iter().enumerate().filter(|(j, _)| *j != i) {
            let _ = j;
            under *= xi - xj;
            let mut next = vec![Scalar::ZERO; basis.len() + 1];
            for (power, coefficient) in basis.iter().enumerate() {
                next[power + 1] += coefficient;
                next[power] -= coefficient * xj;
            }
            basis = next;
        }
        for (sum, coefficient) in coefficients.iter_mut().zip(&basis) {
            *sum += yi * under.invert() * coefficient;
        }
    }
    coefficients.iter().map(|c| Group::encode_point(&Group::mul_base(c))).collect()
}

/// All participants of one reshare, honest, in one place.
struct World {
    old: Old,
    binding: SessionBinding,
    threshold: Threshold,
    said: Vec<Participant<Group>>,
    keys: Vec<ReceiveKey<Group>>,
    session: Session<Group>,
}

fn seed(kind: u8, node: u16) -> Secret<32> {
    Secret::from_fn(|bytes| {
        bytes[0] = kind;
        bytes[1..3].copy_from_slice(&node.to_be_bytes());
    })
}

/// Old participant i is node i, new member j is node j + shift.
fn participants(
    binding: &SessionBinding,
    old: &Old,
    threshold: Threshold,
    dealers: &[u16],
    shift: u16,
) -> (Vec<Participant<Group>>, Vec<ReceiveKey<Group>>) {
    let old_index = |number: u16| ParticipantIndex::new(number.into(), old.parent.threshold()).ok();
    let mut seats: Vec<(u16, Option<ParticipantIndex>)> =
        threshold.indices().map(|index| (index.get() + shift, Some(index))).collect();
    for dealer in dealers {
        if seats.iter().all(|(number, _)| number != dealer) {
            seats.push((*dealer, None));
        }
    }
    let mut said = Vec::new();
    let mut keys = Vec::new();
    for (number, index) in seats {
        let key = ReceiveKey::<Group>::from_seed(&seed(1, number));
        let parent_index = old_index(number);
        let mut participant = Participant {
            node: node(number),
            index,
            parent_index,
            deals: dealers.contains(&number),
            enters: parent_index.is_none(),
            receive_key: *key.public(),
            proof: [0; 64],
            share_proof: None,
        };
        prove(binding, old, &mut participant, &key);
        said.push(participant);
        keys.push(key);
    }
    (said, keys)
}

fn prove(
    binding: &SessionBinding,
    old: &Old,
    participant: &mut Participant<Group>,
    key: &ReceiveKey<Group>,
) {
    let statement = participant.key_statement(binding).unwrap();
    participant.proof = key.prove_possession(&statement, &mut rng(3));
    participant.share_proof = participant.parent_index.map(|index| {
        let statement = participant.share_statement(binding, &old.parent).unwrap();
        prove_share(&old.share(index), &statement, &mut rng(4)).unwrap()
    });
}

impl World {
    fn new(old: (u16, u16), new: (u16, u16), dealers: &[u16], shift: u16) -> Self {
        let old = Old::new(old.0, old.1);
        let (binding, threshold) = (binding(1), of(new.0, new.1));
        let (said, keys) = participants(&binding, &old, threshold, dealers, shift);
        let session = session(binding, threshold, &old.parent, &said).unwrap();
        Self { old, binding, threshold, said, keys, session }
    }

    fn again(&self, said: &[Participant<Group>]) -> Result<Session<Group>, ReshareError> {
        session(self.binding, self.threshold, &self.old.parent, said)
    }

    /// The refusal after something was changed in what one participant said.
    fn refused(&self, at: usize, change: impl FnOnce(&mut Participant<Group>)) -> ReshareError {
        let mut said = self.said.clone();
        change(&mut said[at]);
        self.again(&said).unwrap_err()
    }

    fn index(&self, index: u32) -> ParticipantIndex {
        ParticipantIndex::new(index, self.threshold).unwrap()
    }

    fn old_index(&self, index: u32) -> ParticipantIndex {
        ParticipantIndex::new(index, self.old.parent.threshold()).unwrap()
    }

    fn key_of(&self, dealer: ParticipantIndex) -> &ReceiveKey<Group> {
        let at = self.said.iter().position(|said| said.parent_index == Some(dealer)).unwrap();
        &self.keys[at]
    }

    fn deal(&self, dealer: ParticipantIndex) -> Round1<Group> {
        let share = self.old.share(dealer);
        let seed = seed(2, dealer.get());
        self.session.redeal(dealer, self.key_of(dealer), &seed, &share).unwrap()
    }

    fn deal_all(&self) -> Vec<Round1<Group>> {
        self.session.dealers().map(|dealer| self.deal(dealer)).collect()
    }

    fn delivery(&self, round1: &Round1<Group>, to: ParticipantIndex) -> Delivery {
        let paths = merkle::paths(self.threshold.indices(), &round1.ciphertexts);
        Delivery {
            ciphertext: round1.ciphertexts[to.position()].clone(),
            path: paths[to.position()].clone(),
        }
    }

    fn receive(
        &self,
        dealt: &[Round1<Group>],
        to: ParticipantIndex,
    ) -> Result<Round2Output<Group>, Round2Error> {
        let messages: Vec<_> = dealt.iter().map(|round1| round1.message.clone()).collect();
        let deliveries: Vec<_> = dealt.iter().map(|round1| self.delivery(round1, to)).collect();
        self.session.round2(to, &self.keys[to.position()], &messages, &deliveries)
    }

    fn all(&self) -> Vec<Round2Output<Group>> {
        let dealt = self.deal_all();
        self.threshold.indices().map(|to| self.receive(&dealt, to).unwrap()).collect()
    }
}

/// The new shares, and the public face that the certificate would carry.
fn new_shares(world: &World) -> (Vec<SigningShare>, PublicShares) {
    let outputs = world.all();
    for output in &outputs {
        assert_eq!(output.commitments, outputs[0].commitments);
        assert_eq!(output.transcript_digest, outputs[0].transcript_digest);
    }
    let points: Vec<_> =
        outputs[0].commitments.iter().map(|c| Group::decode_point(c).unwrap()).collect();
    let public = PublicShares::from_commitments(world.threshold, &points).unwrap();
    let shares: Vec<_> =
        outputs.iter().map(|output| SigningShare::from_bytes(&output.share).unwrap()).collect();
    for (share, public) in shares.iter().zip(public.shares()) {
        assert_eq!(share.verifying_share().as_bytes(), public.as_bytes());
    }
    (shares, public)
}

fn interpolate(shares: &[(ParticipantIndex, &SigningShare)]) -> Scalar {
    let indices: Vec<_> = shares.iter().map(|(index, _)| *index).collect();
    let lambdas = lagrange_at_zero(&indices).unwrap();
    lambdas.iter().zip(shares).map(|(lambda, (_, share))| lambda * share.reveal()).sum()
}

fn subsets(n: u16, size: u16) -> Vec<Vec<u16>> {
    (0u32..1 << n)
        .filter(|bits| bits.count_ones() == u32::from(size))
        .map(|bits| (1..=n).filter(|i| bits >> (i - 1) & 1 == 1).collect())
        .collect()
}

fn sizes() -> impl Iterator<Item = (u16, u16)> {
    (1..=5).flat_map(|n| (1..=n).map(move |t| (t, n)))
}

/// The key is unchanged for all T of N and T' of N' up to 5, by T dealers and by all of them, with the
/// same committee, an overlapping and another one; and every T' new shares give it.
#[test]
fn every_committee_reshares_to_every_other() {
    for old in sizes() {
        for new in sizes() {
            let few: Vec<u16> = (old.1 - old.0 + 1..=old.1).collect();
            let all: Vec<u16> = (1..=old.1).collect();
            let shift = (old.0 + new.1) % 6;
            let dealers = if (old.1 + new.0) % 2 == 0 { &few } else { &all };
            let world = World::new(old, new, dealers, shift);
            let (shares, public) = new_shares(&world);
            assert_eq!(public.verifying_key(), world.old.public.verifying_key());
            for subset in subsets(new.1, new.0) {
                let chosen: Vec<_> = subset
                    .iter()
                    .map(|i| (world.index((*i).into()), &shares[usize::from(*i) - 1]))
                    .collect();
                assert_eq!(interpolate(&chosen), world.old.secret, "{old:?} -> {new:?}");
            }
        }
    }
}

/// `attacks.md` lines 21 and 27: T - 1 shares of one generation and T - 1 of another open nothing, however
/// many of them are put together.
#[test]
fn attack_27_shares_of_two_generations_do_not_add_up() {
    for (t, n) in sizes().filter(|(t, _)| *t > 1) {
        let dealers: Vec<u16> = (1..=t).collect();
        let world = World::new((t, n), (t, n), &dealers, 0);
        let (shares, _) = new_shares(&world);
        for size in t..=n {
            for subset in subsets(n, size) {
                for mixture in 0u32..1 << size {
                    let mixed: Vec<_> = subset
                        .iter()
                        .enumerate()
                        .map(|(at, i)| {
                            let from =
                                if mixture >> at & 1 == 0 { &world.old.shares } else { &shares };
                            (world.index((*i).into()), &from[usize::from(*i) - 1])
                        })
                        .collect();
                    let new = mixture.count_ones();
                    if new < u32::from(t) && u32::from(size) - new < u32::from(t) {
                        assert_ne!(interpolate(&mixed), world.old.secret);
                    }
                }
            }
        }
    }
}

fn output(
    generation: Generation,
    public: &PublicShares,
    shares: &[SigningShare],
    indices: &[u32],
    labels: &Labels<'_>,
) -> Vec<PrfOutput> {
    let mut combiner = Combiner::new(generation, public, labels);
    for index in indices {
        let index = ParticipantIndex::new(*index, public.threshold()).unwrap();
        let evaluation = evaluate(&shares[index.position()], labels).unwrap();
        combiner.add_unproved(index, generation, &evaluation.partials).unwrap();
    }
    combiner.finish().unwrap()
}

/// What was encrypted before opens after: 2 of 3, then 3 of 5 with two nodes more, then 2 of 3 again, of
/// which none was there in the beginning.
#[test]
fn outputs_of_the_prf_stay_what_they_are() {
    let labels = [b"one".as_slice(), b"two"];
    let labels = Labels::new(&labels).unwrap();
    let world = World::new((2, 3), (3, 5), &[1, 3], 0);
    let generation = world.old.parent.generation();
    let reveal = |outputs: Vec<PrfOutput>| -> Vec<[u8; 64]> {
        outputs.iter().map(|output| *output.reveal()).collect()
    };
    let (old, public) = (&world.old.shares, &world.old.public);
    let truth = reveal(output(generation, public, old, &[2, 3], &labels));
    let (shares, public) = new_shares(&world);
    let generation = Generation::from_bytes(*world.all()[0].transcript_digest.as_bytes());
    for indices in subsets(5, 3) {
        let indices: Vec<u32> = indices.into_iter().map(u32::from).collect();
        assert_eq!(reveal(output(generation, &public, &shares, &indices, &labels)), truth);
    }
    // And on from there.
    let outputs = world.all();
    let second = Old {
        secret: world.old.secret,
        parent: Parent::new(generation, of(3, 5), &outputs[0].commitments).unwrap(),
        public,
        shares,
    };
    let (binding, threshold) = (binding(2), of(2, 3));
    let (said, keys) = participants(&binding, &second, threshold, &[2, 4, 5], 5);
    let session = session(binding, threshold, &second.parent, &said).unwrap();
    let world = World { old: second, binding, threshold, said, keys, session };
    let (shares, public) = new_shares(&world);
    let generation = Generation::from_bytes(*world.all()[0].transcript_digest.as_bytes());
    assert_eq!(reveal(output(generation, &public, &shares, &[1, 3], &labels)), truth);
}

/// Fails without the comparison of the constant term: the others would get shares of another key.
#[test]
fn attack_07_dealer_that_deals_another_secret_is_named() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 0);
    let mut dealt = world.deal_all();
    // Participant 2 deals as if it held participant 3's share; it can, where both collude.
    let mut lying = world.session.clone();
    let other = World::new((2, 3), (2, 3), &[1, 3], 0);
    let dealers: Vec<Redealer<Group>> = {
        let (mut mine, _) = dealers(&world.old.parent, &world.said).unwrap();
        let (theirs, _) = dealers(&other.old.parent, &other.said).unwrap();
        mine[1].lambda = theirs[1].lambda;
        mine[1].constant = theirs[1].constant;
        mine
    };
    let parent = world.old.parent.generation();
    lying = Session::reshare(
        world.binding,
        lying.setup().clone(),
        lying.members().to_vec(),
        Resharing { parent, dealers },
    );
    let dealer = world.old_index(2);
    let share = world.old.share(world.old_index(3));
    dealt[1] = lying.redeal(dealer, world.key_of(dealer), &seed(2, 2), &share).unwrap();
    for to in [1, 3] {
        let error = world.receive(&dealt, world.index(to)).unwrap_err();
        let fault = DealerFault::Constant;
        assert_eq!(error, Round2Error::Dealer { index: dealer, fault });
        let message = &dealt[1].message;
        let delivery = world.delivery(&dealt[1], world.index(to));
        let key = &world.keys[world.index(to).position()];
        let opening =
            open_dispute(&world.session, world.index(to), key, message, &delivery, &mut rng(5));
        assert_eq!(opening, Ok(None), "nothing has to be opened");
    }
    let verdict = judge_in(&world.session, &dealt[1].message, None);
    assert_eq!(verdict, Verdict::DealerCheated(DealerFault::Constant));
}

/// Fails if what the dealers' parts add up to is not compared with the key.
#[test]
fn attack_02_fewer_dealers_than_the_threshold_are_refused() {
    let old = Old::new(3, 5);
    let (binding, threshold) = (binding(1), of(3, 5));
    for dealers in [vec![], vec![4], vec![1, 5]] {
        let (said, _) = participants(&binding, &old, threshold, &dealers, 0);
        let error = session(binding, threshold, &old.parent, &said).unwrap_err();
        assert_eq!(error, ReshareError::Dealers, "{dealers:?}");
    }
    for dealers in [vec![1, 3, 5], vec![1, 2, 3, 4], vec![1, 2, 3, 4, 5]] {
        let (said, _) = participants(&binding, &old, threshold, &dealers, 0);
        assert!(session(binding, threshold, &old.parent, &said).is_ok());
    }
}

/// Fails if the proof of the share is not asked for, or not bound to what it is about.
#[test]
fn attack_11_nobody_is_dealt_to_without_the_share_that_it_must_hold() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 0);
    let share = |at: usize| ReshareError::Share { node: world.said[at].node };
    assert_eq!(world.refused(2, |said| said.share_proof = None), share(2));
    // An order may let it in, but not let it deal.
    let mut said = world.said.clone();
    (said[2].share_proof, said[2].enters) = (None, true);
    assert!(world.again(&said).is_ok());
    (said[1].share_proof, said[1].enters) = (None, true);
    assert_eq!(world.again(&said).unwrap_err(), share(1));
    // Another's, another session's, another order's, another parent's.
    let other = world.said[0].share_proof;
    assert_eq!(world.refused(2, |said| said.share_proof = other), share(2));
    let changed = |change: &dyn Fn(&mut SessionBinding)| {
        let mut elsewhere = world.binding;
        change(&mut elsewhere);
        let mut said = world.said[2].clone();
        prove(&elsewhere, &world.old, &mut said, &world.keys[2]);
        said.share_proof
    };
    for proof in [
        changed(&|b| b.session = SessionId::from_bytes([7; 32])),
        changed(&|b| b.order = Digest::from_bytes([7; 32])),
    ] {
        assert_eq!(world.refused(2, |said| said.share_proof = proof), share(2));
    }
    let elsewhere = Old::new(2, 4);
    let mut said = world.said[2].clone();
    prove(&world.binding, &elsewhere, &mut said, &world.keys[2]);
    assert_eq!(world.refused(2, |to| to.share_proof = said.share_proof), share(2));
    // A share that is not the parent's makes no proof at all.
    let statement = world.said[2].share_statement(&world.binding, &world.old.parent).unwrap();
    assert!(prove_share(&elsewhere.share(world.old_index(3)), &statement, &mut rng(1)).is_none());
    // Who was never in the parent has nothing to show.
    let world = World::new((2, 3), (2, 3), &[2, 3], 1);
    let error = world.refused(2, |said| said.enters = false);
    assert_eq!(error, ReshareError::Share { node: world.said[2].node });
}

/// Fails if receive keys need no proof, if a key may stand twice, or if places are not checked.
#[test]
fn attack_03_attack_05_round_0_is_whole_and_in_place() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 1);
    assert_eq!(world.said.len(), 4);
    let possession = |at: usize| ReshareError::Possession { node: world.said[at].node };
    for at in 0..4 {
        let other = world.said[(at + 1) % 4].clone();
        assert_eq!(world.refused(at, |said| said.proof = other.proof), possession(at));
        assert_eq!(world.refused(at, |said| said.receive_key = other.receive_key), possession(at));
        let (node, other) = (node(77), world.refused(at, |said| said.node = node(77)));
        assert_eq!(other, ReshareError::Possession { node });
    }
    // A proof from a DKG is none here, nor the other way round.
    let mut dkg = world.said[0].key_statement(&world.binding).unwrap();
    dkg.kind = PossessionKind::ReceiveKey;
    let proof = world.keys[0].prove_possession(&dkg, &mut rng(1));
    assert_eq!(world.refused(0, |said| said.proof = proof), possession(0));
    // One key at two nodes, both of which know it.
    let mut said = world.said.clone();
    said[1].receive_key = said[0].receive_key;
    prove(&world.binding, &world.old, &mut said[1], &world.keys[0]);
    let (first, second) = (said[0].node, said[1].node);
    assert_eq!(world.again(&said).unwrap_err(), ReshareError::Duplicate { first, second });
    // Missing, doubled, out of order, a stranger behind the members.
    let places = |said: Vec<Participant<Group>>| {
        assert_eq!(world.again(&said).unwrap_err(), ReshareError::Places);
    };
    places(world.said[..2].to_vec());
    places(Vec::new());
    let mut said = world.said.clone();
    said.swap(0, 1);
    places(said);
    let mut said = world.said.clone();
    said.push(said[3].clone());
    places(said);
    let mut said = world.said.clone();
    said[3].deals = false;
    places(said);
    let old = Old::new(2, 5);
    let (mut said, _) = participants(&world.binding, &old, of(1, 1), &[2, 3, 4], 0);
    assert!(session(world.binding, of(1, 1), &old.parent, &said).is_ok());
    said.swap(1, 2);
    let error = session(world.binding, of(1, 1), &old.parent, &said).unwrap_err();
    assert_eq!(error, ReshareError::Places);
    let (_, keys) = participants(&world.binding, &old, of(1, 1), &[2, 3, 4], 0);
    said.swap(1, 2);
    // Two nodes say that they are the same participant of the parent.
    said[2].parent_index = said[1].parent_index;
    prove(&world.binding, &old, &mut said[2], &keys[2]);
    let error = session(world.binding, of(1, 1), &old.parent, &said).unwrap_err();
    assert_eq!(error, ReshareError::Places);
}

/// A dealer that deals badly to one recipient is convicted by what that recipient shows, which opens this
/// one ciphertext; nobody is convicted of what a relay did, and nobody honest by anybody.
#[test]
fn attack_07_bad_share_to_one_recipient() {
    // New indices differ from old ones: node 2 is participant 2 of the parent and member 1.
    let world = World::new((2, 3), (2, 3), &[1, 3], 1);
    let mut dealt = world.deal_all();
    let honest = dealt.clone();
    let (victim, other) = (world.index(3), world.index(1));
    // Participant 3 deals along another polynomial, and encrypts one share of it to member 3.
    let dealer = world.old_index(3);
    let share = world.old.share(dealer);
    let elsewhere =
        world.session.redeal(dealer, world.key_of(dealer), &seed(9, 3), &share).unwrap();
    dealt[1].ciphertexts[victim.position()] = elsewhere.ciphertexts[victim.position()].clone();
    dealt[1].message.root = merkle::root(world.threshold.indices(), &dealt[1].ciphertexts).unwrap();
    let error = world.receive(&dealt, victim).unwrap_err();
    let Round2Error::Dealer { index, fault } = error else { panic!("{error}") };
    assert_eq!(index, dealer);
    assert!(world.receive(&dealt, other).is_ok());
    let dispute = |to: ParticipantIndex, round1: &Round1<Group>| {
        let delivery = world.delivery(round1, to);
        let key = &world.keys[to.position()];
        open_dispute(&world.session, to, key, &round1.message, &delivery, &mut rng(5))
    };
    let opening = dispute(victim, &dealt[1]).unwrap();
    assert!(opening.is_some());
    let verdict = judge_in(&world.session, &dealt[1].message, opening.as_ref());
    assert_eq!(verdict, Verdict::DealerCheated(fault));
    // The honest dealer, and the honest message, are convicted by nothing.
    assert_eq!(dispute(victim, &dealt[0]), Err(NoEvidence::NothingWrong));
    let verdict = judge_in(&world.session, &honest[0].message, opening.as_ref());
    assert_eq!(verdict, Verdict::Unfounded(Unfounded::Path));
    let verdict = judge_in(&world.session, &honest[0].message, None);
    assert_eq!(verdict, Verdict::Unfounded(Unfounded::MessageIsGood));
    // Node 3 is member 2 and participant 3 of the parent, and does not accuse itself; node 4, member 3, is
    // nobody's participant 3.
    assert_eq!(dispute(world.index(2), &dealt[1]), Err(NoEvidence::Own));
    // A relay that changes a ciphertext is not taken for the dealer.
    let mut relayed = honest.clone();
    relayed[0].ciphertexts[victim.position()][0] ^= 1;
    let messages: Vec<_> = relayed.iter().map(|round1| round1.message.clone()).collect();
    let mut deliveries: Vec<_> = honest.iter().map(|r| world.delivery(r, victim)).collect();
    deliveries[0].ciphertext[0] ^= 1;
    let key = &world.keys[victim.position()];
    let error = world.session.round2(victim, key, &messages, &deliveries).unwrap_err();
    assert_eq!(error, Round2Error::RelayCiphertext { index: world.old_index(1) });
    // What comes back wrong as one's own is not somebody else's fault.
    let me = world.index(2);
    let mut messages: Vec<_> = honest.iter().map(|round1| round1.message.clone()).collect();
    messages[1].broadcast.pop[40] ^= 1;
    let deliveries: Vec<_> = honest.iter().map(|r| world.delivery(r, me)).collect();
    let error = world.session.round2(me, &world.keys[me.position()], &messages, &deliveries);
    assert_eq!(
        error.unwrap_err(),
        Round2Error::OwnMessage(DealerFault::ProofOfPossession),
        "member 2 is participant 3"
    );
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1 << (at % 8);
}

#[test]
fn attack_06_every_byte_of_every_message_counts() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 1);
    for at in 0..world.said.len() {
        for byte in 0..64 {
            world.refused(at, |said| flip(&mut said.proof, byte));
            if world.said[at].share_proof.is_some() {
                world.refused(at, |said| flip(said.share_proof.as_mut().unwrap(), byte));
            }
            if byte < 32 {
                world.refused(at, |said| flip(&mut said.receive_key, byte));
            }
        }
    }
    let honest = world.deal_all();
    let me = world.index(2);
    let messages: Vec<_> = honest.iter().map(|round1| round1.message.clone()).collect();
    let deliveries: Vec<_> = honest.iter().map(|r| world.delivery(r, me)).collect();
    let key = &world.keys[me.position()];
    let receive = |messages: &[Round1Message<Group>], deliveries: &[Delivery]| {
        world.session.round2(me, key, messages, deliveries)
    };
    assert!(receive(&messages, &deliveries).is_ok());
    let refused = |change: &dyn Fn(&mut Round1Message<Group>)| {
        for at in 0..messages.len() {
            let mut messages = messages.clone();
            change(&mut messages[at]);
            assert!(receive(&messages, &deliveries).is_err());
        }
    };
    for byte in 0..32 {
        refused(&|m| flip(&mut m.broadcast.commitments[0], byte));
        refused(&|m| flip(&mut m.broadcast.commitments[1], byte));
        refused(&|m| flip(&mut m.broadcast.ephemeral, byte));
        refused(&|m| {
            let mut root = *m.root.as_bytes();
            flip(&mut root, byte);
            m.root = Digest::from_bytes(root);
        });
    }
    for byte in 0..64 {
        refused(&|m| flip(&mut m.broadcast.pop, byte));
        refused(&|m| flip(&mut m.ephemeral_proof, byte));
    }
    refused(&|m| m.dealer = 3);
    refused(&|m| m.dealer = 0);
    // Line 2: another number of commitments.
    refused(&|m| m.broadcast.commitments.truncate(1));
    refused(&|m| m.broadcast.commitments.clear());
    refused(&|m| m.broadcast.commitments.push(m.broadcast.commitments[0]));
    for at in 0..deliveries.len() {
        for byte in 0..48 {
            let mut deliveries = deliveries.clone();
            flip(&mut deliveries[at].ciphertext, byte);
            assert!(receive(&messages, &deliveries).is_err());
        }
    }
    // Line 1 and 3: a dealer less, one twice, the two in another order.
    assert!(receive(&messages[..1], &deliveries[..1]).is_err());
    assert!(receive(&[], &[]).is_err());
    let swapped: Vec<_> = messages.iter().rev().cloned().collect();
    assert!(receive(&swapped, &deliveries).is_err());
    let doubled = vec![messages[0].clone(), messages[0].clone()];
    assert!(receive(&doubled, &deliveries).is_err());
    // Another's delivery.
    let theirs: Vec<_> = honest.iter().map(|r| world.delivery(r, world.index(1))).collect();
    assert!(receive(&messages, &theirs).is_err());
}

#[test]
fn a_generation_is_named_by_all_that_it_is() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 0);
    let messages: Vec<_> = world.deal_all().into_iter().map(|round1| round1.message).collect();
    let name = |session: &Session<Group>, messages: &[Round1Message<Group>]| {
        session.transcript_digest(&session.transcript(messages))
    };
    let good = name(&world.session, &messages);
    let rebound = |binding: SessionBinding, parent: Generation, dealers: &[Redealer<Group>]| {
        let (setup, members) = (world.session.setup().clone(), world.session.members().to_vec());
        let resharing = Resharing { parent, dealers: dealers.to_vec() };
        name(&Session::reshare(binding, setup, members, resharing), &messages)
    };
    let parent = world.old.parent.generation();
    let (dealing, _) = dealers(&world.old.parent, &world.said).unwrap();
    assert_eq!(rebound(world.binding, parent, &dealing), good);
    let other = Digest::from_bytes([9; 32]);
    assert_ne!(rebound(SessionBinding { order: other, ..world.binding }, parent, &dealing), good);
    assert_ne!(rebound(SessionBinding { roster: other, ..world.binding }, parent, &dealing), good);
    assert_ne!(rebound(world.binding, Generation::from_bytes([9; 32]), &dealing), good);
    for at in 0..2 {
        let mut changed = messages.clone();
        changed[at].root = other;
        assert_ne!(name(&world.session, &changed), good);
        let mut changed = messages.clone();
        changed[at].broadcast.pop[0] ^= 1;
        assert_ne!(name(&world.session, &changed), good);
    }
    // A DKG's digest of the same bytes is another.
    let transcript = world.session.transcript(&messages);
    assert_ne!(crate::dkg::transcript_digest(&transcript), good);
    // Another session has other receive keys' context, another set of dealers another extension.
    let more = World::new((2, 3), (2, 3), &[1, 2, 3], 0);
    assert_ne!(more.session.setup().dealer_count(), world.session.setup().dealer_count());
    let two: Vec<_> = messages.clone();
    assert_ne!(name(&more.session, &two), good);
}

#[test]
fn a_dealer_deals_its_own_share_and_the_same_bytes_again() {
    let world = World::new((2, 3), (2, 3), &[1, 2], 0);
    let (one, two) = (world.old_index(1), world.old_index(2));
    assert_eq!(world.deal(one), world.deal(one));
    let key = world.key_of(one);
    let redeal = |index, share: &Secret<32>| {
        world.session.redeal(index, key, &seed(2, 1), share).unwrap_err()
    };
    let foreign = Round1Error::ForeignKey { index: one };
    assert_eq!(redeal(one, &world.old.share(two)), foreign);
    // Somebody that does not deal, another's key, no scalar, a DKG's round 1.
    let three = world.old_index(3);
    let error = redeal(three, &world.old.share(three));
    assert_eq!(error, Round1Error::ForeignKey { index: three });
    let error = redeal(two, &world.old.share(two));
    assert_eq!(error, Round1Error::ForeignKey { index: two });
    let wrong = redeal(one, &Secret::from_fn(|bytes| bytes.fill(0xff)));
    assert_eq!(wrong, Round1Error::Coefficients { expected: 2, found: 0 });
    assert_eq!(world.session.round1(one, key, &seed(2, 1)).unwrap_err(), foreign);
    // Another session: another polynomial, so nobody collects shares of one under two sets of keys.
    let mut elsewhere = world.binding;
    elsewhere.session = SessionId::from_bytes([8; 32]);
    let (said, _) = participants(&elsewhere, &world.old, world.threshold, &[1, 2], 0);
    let other = session(elsewhere, world.threshold, &world.old.parent, &said).unwrap();
    let dealt = other.redeal(one, key, &seed(2, 1), &world.old.share(one)).unwrap();
    let first = world.deal(one).message.broadcast;
    assert_eq!(dealt.message.broadcast.commitments[0], first.commitments[0]);
    assert_ne!(dealt.message.broadcast.commitments[1], first.commitments[1]);
    assert_ne!(dealt.message.broadcast.ephemeral, first.ephemeral);
}

#[test]
fn a_parent_has_as_many_valid_commitments_as_its_threshold() {
    let old = Old::new(2, 3);
    let good: Vec<[u8; 32]> = old.parent.commitments.iter().map(Group::encode_point).collect();
    let generation = old.parent.generation();
    assert!(Parent::<Group>::new(generation, of(2, 3), &good).is_some());
    assert!(Parent::<Group>::new(generation, of(2, 3), &good[..1]).is_none());
    assert!(Parent::<Group>::new(generation, of(3, 3), &good).is_none());
    assert!(Parent::<Group>::new(generation, of(2, 3), &[good[0], [0; 32]]).is_none());
}
