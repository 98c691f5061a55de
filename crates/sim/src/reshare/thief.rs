//! A thief with copies of all disks, everything that unlocks them, and everything that was ever relayed.
//!
//! It looks for signing shares of one generation: in every sealed row, and in every recorded ciphertext, with
//! every key that it can find or make from what it has. Blueprint section 8: of a generation that was refreshed
//! there is none.

use std::collections::BTreeSet;

use prost::Message;
use quorate_documents::{Certificate, Seats, Statement};
use quorate_node::{Request, Table, sealing};
use quorate_schemes::dkg::cocktail::Round1Broadcast;
use quorate_schemes::dkg::{
    self, Delivery, ReceiveKey, Ristretto255, Round1Message, SessionBinding,
};
use quorate_schemes::reshare::{self, Parent, Participant};
use quorate_schemes::sharing::{PublicShares, SigningShare};
use quorate_secret::Secret;
use quorate_types::{Digest, Generation, SessionId};
use quorate_wire::digests;
use quorate_wire::proto::store::v1::{SessionRow, ShareRow};
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::world::Recorded;

type Group = Ristretto255;

/// Where a share was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a row of a disk.
    Row,
    /// In recorded ciphertexts, with a receive key that was on a disk or follows from a key of the node.
    Traffic,
}

/// Which shares of a generation it finds, by their indices.
#[must_use]
pub fn shares(recorded: &Recorded, generation: Generation) -> BTreeSet<(u32, Place)> {
    let wanted = recorded.certificates.iter().map(Certificate::statement);
    let Some(wanted) = wanted.into_iter().find(|it| it.generation() == generation) else {
        return BTreeSet::new();
    };
    let mut found: BTreeSet<(u32, Place)> =
        rows(recorded, wanted).map(|index| (index, Place::Row)).collect();
    found.extend(traffic(recorded, wanted).into_iter().map(|index| (index, Place::Traffic)));
    found
}

/// The index of a secret that is one of the wanted shares.
fn index_of(secret: &[u8], wanted: &Statement) -> Option<u32> {
    let share = SigningShare::from_bytes(&Secret::from_slice(secret)?).ok()?;
    let points: Option<Vec<_>> = wanted.commitments().iter().map(decode).collect();
    let public = PublicShares::from_commitments(wanted.threshold(), &points?).ok()?;
    let indices = wanted.threshold().indices();
    let mut is = indices.filter(|index| public.share(*index) == Some(share.verifying_share()));
    is.next().map(|index| index.get().into())
}

fn decode(bytes: &[u8; 32]) -> Option<<Group as dkg::Suite>::Point> {
    <Group as dkg::Suite>::decode_point(bytes)
}

/// What unseals, of every disk with every root key, whatever generation the row says.
fn rows<'a>(recorded: &'a Recorded, wanted: &'a Statement) -> impl Iterator<Item = u32> + 'a {
    recorded.nodes.iter().flat_map(move |(_, node)| {
        node.store().rows(Table::Shares).filter_map(move |(place, row)| {
            let row = ShareRow::decode(row).ok()?;
            let opened = sealing::open(node.root(), place, &row.share?).ok()?;
            index_of(opened.reveal(), wanted)
        })
    })
}

/// Every key that a session's ciphertexts may be for: what sealed sessions hold, and what follows from the keys
/// that a node has for long.
fn keys(recorded: &Recorded) -> Vec<ReceiveKey<Group>> {
    let mut seeds: Vec<Secret<32>> = Vec::new();
    let mut keys = Vec::new();
    for (_, node) in &recorded.nodes {
        for (place, row) in node.store().rows(Table::Sessions) {
            let sealed = SessionRow::decode(row).ok().and_then(|row| row.seeds);
            let opened = sealed.and_then(|it| sealing::open(node.root(), place, &it).ok());
            if let Some(opened) = opened {
                seeds.extend(opened.reveal().chunks(32).filter_map(Secret::from_slice));
            }
        }
        let (root, identity) = (node.root().reveal(), node.identity().seed());
        for long_lived in [root, identity.reveal()] {
            seeds.extend(Secret::from_slice(long_lived));
            // Whatever a node may have drawn from it, after whatever else it drew.
            let mut stream = [0; 128];
            ChaCha20Rng::from_seed(*long_lived).fill_bytes(&mut stream);
            seeds.extend(stream.windows(32).step_by(8).filter_map(Secret::from_slice));
            keys.extend(ReceiveKey::from_scalar(long_lived));
        }
    }
    keys.extend(seeds.iter().map(ReceiveKey::from_seed));
    keys
}

/// Opens every recorded delivery with every key.
fn traffic(recorded: &Recorded, wanted: &Statement) -> Vec<u32> {
    let keys = keys(recorded);
    let mut found = Vec::new();
    for relayed in &recorded.traffic {
        let opened = match &relayed.request {
            Request::ReshareSign(request) => resharing(recorded, request).map(|session| {
                let (round1, deliveries) = (&request.round1, &request.deliveries);
                receive(&session, &keys, round1, deliveries)
            }),
            Request::DkgSign(request) => making(recorded, &request.session).map(|session| {
                let (round1, deliveries) = (&request.round1, &request.deliveries);
                receive(&session, &keys, round1, deliveries)
            }),
            _ => None,
        };
        let secrets = opened.unwrap_or_default();
        found.extend(secrets.iter().filter_map(|secret| index_of(secret.reveal(), wanted)));
    }
    found
}

/// What a delivery comes to with those of the keys that are a recipient's.
fn receive(
    session: &dkg::Session<Group>,
    keys: &[ReceiveKey<Group>],
    round1: &[v1::Envelope],
    deliveries: &[v1::Delivery],
) -> Vec<Secret<32>> {
    let messages: Option<Vec<Round1Message<Group>>> = round1.iter().map(message).collect();
    let deliveries: Option<Vec<Delivery>> = deliveries.iter().map(delivery).collect();
    let (Some(messages), Some(deliveries)) = (messages, deliveries) else { return Vec::new() };
    let mut found = Vec::new();
    for index in session.setup().threshold().indices() {
        for key in keys {
            let output = session.round2(index, key, &messages, &deliveries);
            found.extend(output.ok().map(|output| output.share));
        }
    }
    found
}

fn message(envelope: &v1::Envelope) -> Option<Round1Message<Group>> {
    let said = v1::Round1::decode(envelope.payload.as_slice()).ok()?;
    let commitments: Option<Vec<[u8; 32]>> =
        said.commitments.iter().map(|bytes| bytes.as_slice().try_into().ok()).collect();
    Some(Round1Message {
        dealer: said.index,
        broadcast: Round1Broadcast {
            commitments: commitments?,
            pop: said.proof_of_possession.as_slice().try_into().ok()?,
            ephemeral: said.ephemeral_key.as_slice().try_into().ok()?,
        },
        ephemeral_proof: said.ephemeral_proof.as_slice().try_into().ok()?,
        root: Digest::from_slice(&said.ciphertexts_root).ok()?,
    })
}

fn delivery(relayed: &v1::Delivery) -> Option<Delivery> {
    let path: Option<Vec<Digest>> =
        relayed.path.iter().map(|digest| Digest::from_slice(digest).ok()).collect();
    Some(Delivery { ciphertext: relayed.ciphertext.clone(), path: path? })
}

/// A recorded reshare's session, from what everybody said in round 0.
fn resharing(recorded: &Recorded, request: &v1::ReshareSignRequest) -> Option<dkg::Session<Group>> {
    let session = request.session.as_ref()?;
    let order = recorded.orders.find(&Digest::from_slice(&session.order).ok()?)?;
    let parent = Generation::from_slice(&session.parent).ok()?;
    let mut parents = recorded.certificates.iter().map(Certificate::statement);
    let parent = parents.find(|statement| statement.generation() == parent)?;
    let seats = Seats::new(order, parent, &session.dealers).ok()?;
    let mut said = Vec::new();
    for (seat, envelope) in seats.all().iter().zip(&request.round0) {
        let message = v1::ReshareRound0::decode(envelope.payload.as_slice()).ok()?;
        said.push(Participant::<Group> {
            node: seat.node,
            index: seat.index,
            parent_index: seat.parent_index,
            deals: seat.deals,
            enters: seat.enters,
            receive_key: message.receive_key.as_slice().try_into().ok()?,
            proof: message.proof.as_slice().try_into().ok()?,
            share_proof: message.share_proof.as_slice().try_into().ok(),
        });
    }
    let public = Parent::new(parent.generation(), parent.threshold(), parent.commitments())?;
    let binding = SessionBinding {
        session: digests::session_id(session),
        order: Digest::from_slice(&session.order).ok()?,
        roster: Digest::from_slice(&session.roster).ok()?,
    };
    reshare::session(binding, order.threshold(), &public, &said).ok()
}

/// The DKG's session.
fn making(recorded: &Recorded, id: &[u8]) -> Option<dkg::Session<Group>> {
    let order = recorded.orders.first();
    let session = recorded.traffic.iter().find_map(|relayed| match &relayed.request {
        Request::DkgOpen(request) => request.session.as_ref(),
        _ => None,
    })?;
    let round0 = recorded.traffic.iter().find_map(|relayed| match &relayed.request {
        Request::DkgDeal(request) => Some(&request.round0),
        _ => None,
    })?;
    let mut members = Vec::new();
    for (member, envelope) in order.founders().iter().zip(round0) {
        let message = v1::Round0::decode(envelope.payload.as_slice()).ok()?;
        members.push(dkg::Member::<Group> {
            index: message.index,
            node: member.node,
            receive_key: message.receive_key.as_slice().try_into().ok()?,
            proof: message.proof.as_slice().try_into().ok()?,
        });
    }
    let binding = SessionBinding {
        session: SessionId::from_slice(id).ok()?,
        order: order.digest(recorded.key.id, recorded.key.version),
        roster: Digest::from_slice(&session.roster).ok()?,
    };
    dkg::Session::new(binding, order.founding(), members).ok()
}
