//! What messages of a reshare look like to whoever checks them, from the text of `spec/reshare.md`.

use std::collections::BTreeMap;

use prost::Message;
use quorate_documents::{Order, Statement};
use quorate_schemes::dkg::cocktail::context;
use quorate_schemes::dkg::possession::{self, PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{Ristretto255, Suite, schnorr};
use quorate_schemes::sharing::lagrange_at_zero;
use quorate_types::{Digest, NodeId, ParticipantIndex, SessionId};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, PublicKey, Verified, digests, strict};

type Point = <Ristretto255 as Suite>::Point;
type Scalar = <Ristretto255 as Suite>::Scalar;

/// Who takes part, and as what.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// With which key it signs.
    pub key: PublicKey,
    /// Its index in the new committee; 0 for none.
    pub index: u32,
    /// Its index in the parent; 0 for none.
    pub parent_index: u32,
    /// Whether it deals.
    pub deals: bool,
    /// Whether it comes in without a share.
    pub enters: bool,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As it should be.
    Good,
    /// Not what its node signed for this place: changed or put there by whoever relayed it.
    Transplanted(&'static str),
    /// Signed for this place, and wrong.
    Wrong(&'static str),
}

/// A session, its order and its parent, with everybody's place.
#[derive(Debug, Clone)]
pub struct Terms {
    pub(in crate::reshare) id: SessionId,
    pub(in crate::reshare) session: v1::Session,
    pub(in crate::reshare) order: Order,
    pub(in crate::reshare) parent: Statement,
    pub(in crate::reshare) places: Vec<Place>,
    pub(in crate::reshare) refresh: bool,
}

fn number(index: ParticipantIndex) -> u32 {
    u32::from(index.get())
}

impl Terms {
    /// A session under an order, of a parent; what is wrong with it where there is none (checks 4 and 5).
    pub(in crate::reshare) fn new(
        session: &v1::Session,
        order: &Order,
        parent: &Statement,
    ) -> Result<Self, &'static str> {
        let same = parent.order() == order.digest(parent.key(), parent.version());
        let lower = parent.order_number() < order.number();
        if !lower && !same {
            return Err("the parent was made under a higher order, or another");
        }
        let dealers = &session.dealers;
        let participants = u32::from(parent.threshold().n());
        if dealers.len() < usize::from(parent.threshold().t()) {
            return Err("fewer than T deal");
        }
        if dealers.iter().zip(dealers.iter().skip(1)).any(|(one, two)| one >= two) {
            return Err("dealers are not sorted, or one is there twice");
        }
        if dealers.iter().any(|dealer| *dealer == 0 || *dealer > participants) {
            return Err("a dealer is no participant");
        }
        // Members come in without a share once: under a new order, or after the key was made.
        let once = lower || parent.height() == 1;
        let mut places: Vec<Place> = Vec::new();
        for member in order.members() {
            let old = parent.participants().iter().find(|old| old.node == member.node);
            let parent_index = old.map_or(0, |old| number(old.index));
            places.push(Place {
                node: member.node,
                key: member.identity_key,
                index: number(member.index),
                parent_index,
                deals: dealers.contains(&parent_index),
                enters: once && order.entering().contains(&member.index),
            });
        }
        for old in parent.participants() {
            let member = order.members().iter().any(|member| member.node == old.node);
            if !member && dealers.contains(&number(old.index)) {
                places.push(Place {
                    node: old.node,
                    key: old.identity_key,
                    index: 0,
                    parent_index: number(old.index),
                    deals: true,
                    enters: false,
                });
            }
        }
        let id = digests::session_id(session);
        let refresh = same && (!once || order.entering().is_empty());
        let (session, order, parent) = (session.clone(), order.clone(), parent.clone());
        Ok(Self { id, session, order, parent, places, refresh })
    }

    /// Who deals, in the order of the parent's indices.
    pub(in crate::reshare) fn dealers(&self) -> Vec<&Place> {
        let mut dealers: Vec<&Place> = self.places.iter().filter(|place| place.deals).collect();
        dealers.sort_by_key(|place| place.parent_index);
        dealers
    }

    /// `K_i` of the parent.
    fn share_of(&self, index: u32) -> Option<Point> {
        let at = Scalar::from(u64::from(index));
        let mut sum = Ristretto255::identity();
        for commitment in self.parent.commitments().iter().rev() {
            sum = sum * at + Ristretto255::decode_point(commitment)?;
        }
        (index > 0).then_some(sum)
    }

    /// `lambda_i K_i`: what a dealer must deal.
    fn part_of(&self, index: u32) -> Option<Point> {
        let of = self.parent.threshold();
        let indices: Vec<ParticipantIndex> = self
            .dealers()
            .iter()
            .map(|place| ParticipantIndex::new(place.parent_index, of).ok())
            .collect::<Option<_>>()?;
        let lambdas = lagrange_at_zero(&indices).ok()?;
        let at = indices.iter().position(|it| number(*it) == index)?;
        Some(self.share_of(index)? * lambdas.get(at)?)
    }

    /// What a proof of round 0 or 1 says; none for a place that has no such proof.
    pub(in crate::reshare) fn claim(
        &self,
        kind: PossessionKind,
        place: &Place,
        point: &[u8],
    ) -> Option<PossessionStatement<Ristretto255>> {
        let index = match kind {
            PossessionKind::ReshareReceiveKey => place.index,
            _ => place.parent_index,
        };
        Some(PossessionStatement {
            kind,
            session: self.id,
            order: Digest::from_slice(&self.session.order).ok()?,
            node: place.node,
            // Whichever committee it is of, an index is a number.
            index: ParticipantIndex::new(index, quorate_types::Threshold::new(1, 128).ok()?)
                .ok()?,
            point: point.try_into().ok()?,
        })
    }

    fn proven(&self, kind: PossessionKind, place: &Place, point: &[u8], proof: &[u8]) -> bool {
        let Ok(proof) = proof.try_into() else { return false };
        self.claim(kind, place, point).is_some_and(|claim| possession::verify(&claim, &proof))
    }
}

/// Whether one key, and no other, has signed an envelope; its payload.
pub(super) fn signed_by(kind: PayloadType, key: PublicKey, envelope: &Envelope) -> bool {
    let alone = matches!(envelope.signatures.as_slice(), [one] if one.key == key.as_bytes());
    alone && Verified::new(kind, envelope.clone()).is_ok()
}

/// What was looked at already: messages are shown to many.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    seen: BTreeMap<(SessionId, u32, Vec<u8>), Look>,
}

impl Looks {
    /// A message of round 0 at a place (checks 13, 14 and 15).
    pub(super) fn round0(&mut self, terms: &Terms, place: &Place, envelope: &Envelope) -> Look {
        let seat = place.index * 256 + place.parent_index;
        let key = (terms.id, seat, envelope.encode_to_vec());
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let look = round0(terms, place, envelope);
        self.seen.insert(key, look);
        look
    }

    /// A dealing at a dealer's place, over this round 0 (checks 18, 20 and 21).
    pub(super) fn round1(
        &mut self,
        terms: &Terms,
        place: &Place,
        round0: &[Envelope],
        envelope: &Envelope,
    ) -> Look {
        let digest = digests::reshare_round0_digest(round0.iter().map(|e| e.payload.as_slice()));
        let mut bytes = digest.as_bytes().to_vec();
        bytes.extend(envelope.encode_to_vec());
        let key = (terms.id, 0x0001_0000 + place.parent_index, bytes);
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let look = round1(terms, place, (round0, digest), envelope);
        self.seen.insert(key, look);
        look
    }
}

fn round0(terms: &Terms, place: &Place, envelope: &Envelope) -> Look {
    if !signed_by(PayloadType::ReshareRound0, place.key, envelope) {
        return Look::Transplanted("it is signed by somebody else");
    }
    let Ok(said) = strict::decode::<v1::ReshareRound0>("ReshareRound0", &envelope.payload) else {
        return Look::Transplanted("it is malformed");
    };
    if said.session != terms.id.as_bytes() {
        return Look::Transplanted("it is of another session");
    }
    if said.order != terms.session.order {
        return Look::Transplanted("it is of another order");
    }
    if said.index != place.index || said.parent_index != place.parent_index {
        return Look::Transplanted("it is of another index");
    }
    if said.suite != Ristretto255::ID {
        return Look::Transplanted("it is of another suite");
    }
    let kind = match place.index {
        0 => PossessionKind::ReshareDealerKey,
        _ => PossessionKind::ReshareReceiveKey,
    };
    if said.receive_key.len() != 32 || !terms.proven(kind, place, &said.receive_key, &said.proof) {
        return Look::Wrong("its key is not proven");
    }
    if said.share_proof.is_empty() {
        let let_in = place.enters && !place.deals;
        return if let_in { Look::Good } else { Look::Wrong("it shows no share") };
    }
    let shown = terms.share_of(place.parent_index).is_some_and(|point| {
        let point = Ristretto255::encode_point(&point);
        terms.proven(PossessionKind::ReshareShare, place, &point, &said.share_proof)
    });
    if shown { Look::Good } else { Look::Wrong("its share is not proven") }
}

fn round1(
    terms: &Terms,
    place: &Place,
    (round0, digest): (&[Envelope], Digest),
    envelope: &Envelope,
) -> Look {
    if !signed_by(PayloadType::ReshareRound1, place.key, envelope) {
        return Look::Transplanted("it is signed by somebody else");
    }
    let Ok(said) = strict::decode::<v1::Round1>("Round1", &envelope.payload) else {
        return Look::Transplanted("it is malformed");
    };
    if said.session != terms.id.as_bytes() {
        return Look::Transplanted("it is of another session");
    }
    if said.order != terms.session.order {
        return Look::Transplanted("it is of another order");
    }
    if said.index != place.parent_index {
        return Look::Transplanted("it is of another index");
    }
    if said.suite != Ristretto255::ID {
        return Look::Transplanted("it is of another suite");
    }
    if said.round0 != digest.as_bytes() {
        return Look::Transplanted("it is over another round 0");
    }
    match dealing(terms, place, round0, &said) {
        Some(()) => Look::Good,
        None => Look::Wrong("it deals something else"),
    }
}

/// Everything about a dealing that everybody can check.
fn dealing(terms: &Terms, place: &Place, round0: &[Envelope], said: &v1::Round1) -> Option<()> {
    let decode = |bytes: &[u8]| {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        Ristretto255::decode_point(&bytes).filter(|point| *point != Ristretto255::identity())
    };
    let keys = round0.iter().map(|envelope| {
        let said = strict::decode::<v1::ReshareRound0>("ReshareRound0", &envelope.payload).ok()?;
        said.receive_key.as_slice().try_into().ok()
    });
    let keys: Vec<[u8; 32]> = keys.collect::<Option<_>>()?;
    if said.commitments.len() != usize::from(terms.order.threshold().t())
        || said.ciphertexts_root.len() != 32
    {
        return None;
    }
    let points: Vec<Point> = said.commitments.iter().map(|it| decode(it)).collect::<Option<_>>()?;
    decode(&said.ephemeral_key)?;
    let constant = points.first()?;
    let context = context::<Ristretto255>(terms.id.as_bytes(), &keys);
    let mut parts: Vec<&[u8]> = vec![&context];
    parts.extend(said.commitments.iter().map(Vec::as_slice));
    parts.push(&said.ephemeral_key);
    let proof = said.proof_of_possession.as_slice().try_into().ok()?;
    let known = schnorr::verify::<Ristretto255>(constant, &proof, &parts);
    let part = terms.part_of(place.parent_index)? == *constant;
    let kind = PossessionKind::ReshareEphemeral;
    let ephemeral = terms.proven(kind, place, &said.ephemeral_key, &said.ephemeral_proof);
    (known && part && ephemeral).then_some(())
}
