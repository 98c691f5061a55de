//! Messages that are not what they should be, brought by whoever has the keys to sign them.

use quorate_node::Request;
use quorate_schemes::dkg::possession::PossessionKind;
use quorate_schemes::dkg::{ReceiveKey, Ristretto255, Suite, merkle, schnorr};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode, digests, strict};
use rand_core::SeedableRng;

use super::puppet::{Ceremony, Puppet, ROUND0, ROUND1, S, Scalar, rewritten, scalar};
use super::{By, Stop, Visited, Visitor, defect};

const RELAY: RefusalCode = RefusalCode::RelayFault;

pub(super) fn own(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    // Another receive key, which whoever stole the identity key knows.
    let receive = ReceiveKey::<S>::random(visitor.rng);
    let member = *key.order.members().first().ok_or_else(|| defect("no member"))?;
    let identity = visitor.node()?.identity_again();
    let thief = crate::cluster::NodeKeys { identity, ..visitor.cluster_keys()? };
    let thief = Puppet::new(thief, member, visitor.rng);
    let kind = PossessionKind::ReceiveKey;
    let statement = thief.statement(&ceremony.binding, kind, *receive.public());
    let proof = receive.prove_possession(&statement, visitor.rng);
    let own = ceremony.round0.first().ok_or_else(|| defect("no round 0"))?.clone();
    let other = rewritten(ROUND0, &own, &thief.keys.identity, |message: &mut v1::Round0| {
        message.receive_key = receive.public().to_vec();
        message.proof = proof.to_vec();
    })?;
    let deal = visitor.deal(ceremony.id, &[other]);
    visitor.refused(By::Courier, &deal, RELAY, "this node's own round 0")?;
    visitor.deal_all(&mut ceremony)?;
    let own = ceremony.round1.first().ok_or_else(|| defect("no round 1"))?.clone();
    let other = rewritten(ROUND1, &own, &thief.keys.identity, |message: &mut v1::Round1| {
        message.proof_of_possession.reverse();
    })?;
    ceremony.round1 = vec![other];
    let sign = Request::DkgSign(visitor.sign_request(&ceremony));
    visitor.refused(By::Courier, &sign, RELAY, "this node's own round 1")
}

pub(super) fn misfit(visitor: &mut Visitor<'_>) -> Visited {
    let puppets = visitor.puppets(1)?;
    let (_, key) = visitor.committee(2, &puppets, |_| {})?;
    let mut ceremony = visitor.begin(&key, puppets)?;
    visitor.deal_all(&mut ceremony)?;
    let dealt = ceremony.round1.last().ok_or_else(|| defect("no round 1"))?.clone();
    let about = "belongs to another session, order";
    type Change = (fn(&mut v1::Round1), &'static str);
    let changes: [Change; 5] = [
        (|message| message.session.reverse(), about),
        (|message| message.order.reverse(), about),
        (|message| message.index = 1, about),
        (|message| message.suite.push('!'), about),
        (|message| message.round0.reverse(), "was shown another round 0"),
    ];
    for (change, words) in changes {
        let puppet = ceremony.puppets.first().ok_or_else(|| defect("no puppet"))?;
        let other = rewritten(ROUND1, &dealt, &puppet.keys.identity, change)?;
        ceremony.round1.truncate(1);
        ceremony.round1.push(other);
        let sign = Request::DkgSign(visitor.sign_request(&ceremony));
        visitor.refused(By::Courier, &sign, RELAY, words)?;
    }
    Ok(())
}

pub(super) fn identity(visitor: &mut Visitor<'_>) -> Visited {
    let puppets = visitor.puppets(1)?;
    let (_, key) = visitor.committee(2, &puppets, |_| {})?;
    let mut ceremony = visitor.begin(&key, puppets)?;
    let said = ceremony.round0.last().ok_or_else(|| defect("no round 0"))?.clone();
    let puppet = ceremony.puppets.first().ok_or_else(|| defect("no puppet"))?;
    // Of the identity everybody proves everything: the response is the nonce.
    let nonce = scalar(visitor.rng);
    let response = S::encode_scalar(&nonce);
    let proof = S::join_signature(&S::encode_point(&S::mul_base(&nonce)), &response);
    let other = rewritten(ROUND0, &said, &puppet.keys.identity, |message: &mut v1::Round0| {
        message.receive_key = S::encode_point(&S::identity()).to_vec();
        message.proof = proof.to_vec();
    })?;
    ceremony.round0.truncate(1);
    ceremony.round0.push(other);
    let deal = visitor.deal(ceremony.id, &ceremony.round0);
    visitor.refused(By::Courier, &deal, RefusalCode::DealerFault, "it knows its receive key")
}

pub(super) fn shared(visitor: &mut Visitor<'_>) -> Visited {
    let puppets = visitor.puppets(2)?;
    let (_, key) = visitor.committee(2, &puppets, |_| {})?;
    let mut ceremony = visitor.begin(&key, puppets)?;
    let [one, other] = ceremony.puppets.as_mut_slice() else { return Err(defect("no puppets")) };
    other.receive = one.receive;
    let said = other.round0(&ceremony.binding, visitor.rng)?;
    ceremony.round0.truncate(2);
    ceremony.round0.push(said);
    let deal = visitor.deal(ceremony.id, &ceremony.round0);
    visitor.refused(By::Courier, &deal, RELAY, "have the same receive key")
}

pub(super) fn long_path(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    visitor.deal_all(&mut ceremony)?;
    let mut request = visitor.sign_request(&ceremony);
    for delivery in &mut request.deliveries {
        delivery.path.push(vec![7; 32]);
    }
    let sign = Request::DkgSign(request);
    visitor.refused(By::Courier, &sign, RELAY, "changed the ciphertext")
}

/// What a dealer encrypted to a puppet.
fn share_of(
    session: &quorate_schemes::dkg::Session<S>,
    puppet: &Puppet,
    message: &v1::Round1,
    ciphertexts: &[Vec<u8>],
) -> Option<Scalar> {
    let d = S::decode_scalar(&puppet.receive)?;
    let (own, _) = session.setup().receive_key(puppet.member.index)?;
    let from = session.dealer(message.index)?;
    let (sender, point) = session.setup().receive_key(from)?;
    let ephemeral = message.ephemeral_key.as_slice().try_into().ok()?;
    let mut shared = S::ecdh_encode(&(S::decode_point(&ephemeral)? * d)).to_vec();
    shared.extend_from_slice(&S::ecdh_encode(&(*point * d)));
    let key = S::key_and_nonce(&shared, &ephemeral, sender, own, session.setup().context());
    let share = S::open(&key, ciphertexts.get(puppet.member.index.position())?)?;
    S::decode_scalar(share.as_slice().try_into().ok()?)
}

/// A dealing of a line through this constant, by hand.
fn deal_by_hand(
    ceremony: &Ceremony,
    session: &quorate_schemes::dkg::Session<S>,
    puppet: &Puppet,
    [constant, slope, ephemeral]: [Scalar; 3],
) -> Option<(v1::Round1, Vec<Vec<u8>>)> {
    let d = S::decode_scalar(&puppet.receive)?;
    let [first, second, e_point, d_point] =
        [constant, slope, ephemeral, d].map(|secret| S::encode_point(&S::mul_base(&secret)));
    let setup = session.setup();
    let parts: [&[u8]; 4] = [setup.context(), &first, &second, &e_point];
    let pop = schnorr::sign::<S>(&constant, &parts).ok()?;
    let key = ReceiveKey::<S>::from_scalar(&S::encode_scalar(&ephemeral))?;
    let kind = PossessionKind::Ephemeral;
    let statement = puppet.statement(&ceremony.binding, kind, e_point);
    let mut fixed = rand_chacha::ChaCha20Rng::from_seed(e_point);
    let proof = key.prove_possession(&statement, &mut fixed);
    let mut ciphertexts = Vec::new();
    let keys = setup.receive_keys().iter().zip(setup.points());
    for (index, (bytes, point)) in setup.threshold().indices().zip(keys) {
        let share = constant + slope * Scalar::from(u64::from(index.get()));
        let mut shared = S::ecdh_encode(&(*point * ephemeral)).to_vec();
        shared.extend_from_slice(&S::ecdh_encode(&(*point * d)));
        let key = S::key_and_nonce(&shared, &e_point, &d_point, bytes, setup.context());
        ciphertexts.push(S::seal(&key, &S::encode_scalar(&share))?);
    }
    let root = merkle::root(setup.threshold().indices(), &ciphertexts)?;
    let round0 = digests::round0_digest(ceremony.round0.iter().map(|e| e.payload.as_slice()));
    let message = v1::Round1 {
        session: ceremony.id.as_bytes().to_vec(),
        order: ceremony.binding.order.as_bytes().to_vec(),
        index: puppet.member.index.get().into(),
        suite: Ristretto255::ID.to_owned(),
        round0: round0.as_bytes().to_vec(),
        commitments: vec![first.to_vec(), second.to_vec()],
        proof_of_possession: pop.to_vec(),
        ephemeral_key: e_point.to_vec(),
        ephemeral_proof: proof.to_vec(),
        ciphertexts_root: root.as_bytes().to_vec(),
    };
    Some((message, ciphertexts))
}

/// T of the participants know what every honest one deals before they deal.
pub(super) fn cancelled(visitor: &mut Visitor<'_>) -> Visited {
    let puppets = visitor.puppets(2)?;
    let (_, key) = visitor.committee(2, &puppets, |_| {})?;
    let mut ceremony = visitor.begin(&key, puppets)?;
    let session = visitor.deal_all(&mut ceremony)?;
    let own = ceremony.round1.first().ok_or_else(|| defect("no round 1"))?;
    let own: v1::Round1 = strict::decode("Round1", &own.payload).map_err(|_| defect("Round1"))?;
    let [one, other] = ceremony.puppets.as_slice() else { return Err(defect("no puppets")) };
    let to_them = ceremony.ciphertexts.first().ok_or_else(|| defect("no ciphertexts"))?;
    let opened = |puppet| share_of(&session, puppet, &own, to_them);
    let (second, third) =
        opened(one).zip(opened(other)).ok_or_else(|| defect("a share does not open"))?;
    // A line's value at 0, from those at 2 and at 3.
    let constant = second * Scalar::from(3u64) - third * Scalar::from(2u64);
    let mine = scalar(visitor.rng);
    let mut dealt = Vec::new();
    for (puppet, constant) in [(one, mine), (other, -(constant + mine))] {
        let secrets = [constant, scalar(visitor.rng), scalar(visitor.rng)];
        let by_hand = deal_by_hand(&ceremony, &session, puppet, secrets);
        let (message, ciphertexts) = by_hand.ok_or_else(|| defect("no dealing"))?;
        let payload = strict::encode(&message);
        dealt.push((puppet.keys.identity.envelop(PayloadType::Round1, payload), ciphertexts));
    }
    ceremony.round1.truncate(1);
    ceremony.ciphertexts.truncate(1);
    for (envelope, ciphertexts) in dealt {
        ceremony.round1.push(envelope);
        ceremony.ciphertexts.push(ciphertexts);
    }
    let sign = Request::DkgSign(visitor.sign_request(&ceremony));
    visitor.refused(By::Courier, &sign, RefusalCode::SessionConflict, "")
}

impl Visitor<'_> {
    /// The keys of the node that is visited, as far as the cluster knows them: all.
    fn cluster_keys(&self) -> Result<crate::cluster::NodeKeys, Stop> {
        let id = self.id();
        let keys = self.cluster.nodes.iter().find(|node| node.entry.id == id);
        Ok(keys.ok_or_else(|| defect("no such node"))?.again())
    }
}
