//! Messages that are relayed as liars sign them, of other sessions, at other places.

use quorate_schemes::dkg::possession::PossessionKind;
use quorate_schemes::dkg::{ReceiveKey, Ristretto255, SessionBinding, Suite};
use quorate_schemes::reshare::{self, Parent, Participant};
use quorate_secret::Secret;
use quorate_types::{Digest, NodeId, ParticipantIndex};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, SigningKey, strict};
use rand_core::Rng;

use super::{Run, Side};
use crate::reshare::check;
use crate::reshare::reference::Place;

impl Run {
    /// What everybody said in round 0, with whoever deals by this account.
    pub(super) fn said(
        &self,
        deals: impl Fn(&Place) -> bool,
    ) -> Option<Vec<Participant<Ristretto255>>> {
        let (of, parent) = (self.terms.order.threshold(), self.terms.parent.threshold());
        let mut said = Vec::new();
        for (place, envelope) in self.terms.places.iter().zip(&self.round0) {
            let message: v1::ReshareRound0 =
                strict::decode("ReshareRound0", &envelope.payload).ok()?;
            said.push(Participant::<Ristretto255> {
                node: place.node,
                index: ParticipantIndex::new(place.index, of).ok(),
                parent_index: ParticipantIndex::new(place.parent_index, parent).ok(),
                deals: deals(place),
                enters: place.enters,
                receive_key: message.receive_key.as_slice().try_into().ok()?,
                proof: message.proof.as_slice().try_into().ok()?,
                share_proof: message.share_proof.as_slice().try_into().ok(),
            });
        }
        Some(said)
    }

    pub(super) fn binding(&self) -> Option<SessionBinding> {
        Some(SessionBinding {
            session: self.terms.id,
            order: Digest::from_slice(&self.session.order).ok()?,
            roster: Digest::from_slice(&self.session.roster).ok()?,
        })
    }
}

type Change0 = fn(&mut v1::ReshareRound0);
type Change1 = fn(&mut v1::Round1);

fn flip(bytes: &mut [u8]) {
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
}

const WRONG0: [Change0; 12] = [
    |it| flip(&mut it.session),
    |it| flip(&mut it.order),
    |it| it.index += 1,
    |it| it.parent_index += 1,
    |it| it.suite.push('2'),
    |it| it.receive_key = vec![0; 32],
    |it| flip(it.proof.get_mut(..40).unwrap_or_default()),
    |it| it.proof.truncate(63),
    |it| flip(it.share_proof.get_mut(..40).unwrap_or_default()),
    |it| it.share_proof.truncate(63),
    |it| it.share_proof.clear(),
    |it| it.receive_key.push(0),
];

const WRONG1: [Change1; 13] = [
    |it| flip(&mut it.session),
    |it| flip(&mut it.order),
    |it| it.index += 1,
    |it| it.suite.push('2'),
    |it| flip(&mut it.round0),
    |it| flip(it.proof_of_possession.get_mut(..40).unwrap_or_default()),
    |it| flip(it.ephemeral_proof.get_mut(..40).unwrap_or_default()),
    |it| it.ephemeral_key = vec![0; 32],
    |it| drop(it.commitments.pop()),
    |it| it.commitments.extend(it.commitments.last().cloned()),
    |it| it.commitments.reverse(),
    |it| flip(&mut it.ciphertexts_root),
    |it| it.ciphertexts_root.truncate(31),
];

impl Side<'_> {
    fn somebody(&mut self, places: &[Place]) -> Option<(usize, Place)> {
        let at = self.below(places.len());
        Some((at, places.get(at)?.clone()))
    }

    fn forged_by_stranger(&mut self, kind: PayloadType, envelope: &Envelope) -> Envelope {
        SigningKey::generate(&mut self.rng).envelop(kind, envelope.payload.clone())
    }

    /// A colluding participant's round 0, wrong in each way.
    pub(super) fn liars_round0(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let (at, place) = self.somebody(&run.terms.places.clone())?;
        let genuine = run.round0.get(at)?.clone();
        let mut forged: Vec<Envelope> =
            WRONG0.iter().filter_map(|change| self.changed0(&place, &genuine, change)).collect();
        forged.push(self.forged_by_stranger(PayloadType::ReshareRound0, &genuine));
        for envelope in forged {
            if self.rng.next_u32().is_multiple_of(2) && envelope.payload != genuine.payload {
                continue;
            }
            let mut round0 = run.round0.clone();
            *round0.get_mut(at)? = envelope;
            if round0 != run.round0 {
                self.show0(&run, &round0);
            }
        }
        Some(())
    }

    /// Round 0 with a message more or less, at another place, of another session, or none.
    pub(super) fn mixed_round0(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let mut other = Run {
            session: v1::Session { nonce: self.bytes(), ..run.session.clone() },
            ..run.clone()
        };
        self.open(&mut other)?;
        let some = self.below(run.round0.len());
        let next = (some + 1) % run.round0.len();
        let first = run.round0.first()?.clone();
        for way in 0..6 {
            let mut round0 = run.round0.clone();
            match way {
                0 => round0.push(first.clone()),
                1 => drop(round0.pop()),
                2 => round0.reverse(),
                3 => *round0.get_mut(some)? = other.round0.get(some)?.clone(),
                4 => *round0.get_mut(next)? = run.round0.get(some)?.clone(),
                _ => round0.clear(),
            }
            if round0 != run.round0 {
                self.show0(&run, &round0);
            }
        }
        Some(())
    }

    /// What was ever said in other sessions, each at the place of whose it is, and certificates that were followed by others.
    pub(super) fn replays(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let overheard = self.overheard.clone();
        let of = |kind: PayloadType| {
            let is = move |it: &&(NodeId, Envelope)| it.1.payload_type == kind.name();
            overheard.iter().rev().filter(is)
        };
        for (node, envelope) in of(PayloadType::ReshareRound0).take(6) {
            let mut round0 = run.round0.clone();
            let at = run.terms.places.iter().position(|place| place.node == *node);
            if let Some(place) = at.and_then(|at| round0.get_mut(at)) {
                *place = envelope.clone();
                self.show0(&run, &round0);
            }
        }
        self.deal(&mut run)?;
        let dealers: Vec<NodeId> = run.terms.dealers().iter().map(|place| place.node).collect();
        for (node, envelope) in of(PayloadType::ReshareRound1).take(6) {
            let Some(at) = dealers.iter().position(|dealer| dealer == node) else { continue };
            self.show1(&run, |it| {
                if let Some(place) = it.round1.get_mut(at) {
                    *place = envelope.clone();
                }
            });
        }
        for certificate in self.certificates.clone() {
            let at = self.below(self.nodes.len());
            let request = self.put(at, certificate.envelope());
            let _ = self.lie(at, request);
        }
        Some(())
    }

    /// A colluding dealer's round 1, wrong in each way, also shown to itself.
    pub(super) fn liars_round1(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        self.deal(&mut run)?;
        let dealers: Vec<Place> = run.terms.dealers().into_iter().cloned().collect();
        let (at, place) = self.somebody(&dealers)?;
        let genuine = run.round1.get(at)?.clone();
        let mut forged: Vec<Envelope> = WRONG1
            .iter()
            .filter_map(|change| self.changed1(place.node, &genuine, change))
            .collect();
        forged.push(self.forged_by_stranger(PayloadType::ReshareRound1, &genuine));
        let own = self.position(place.node)?;
        for envelope in forged {
            if self.rng.next_u32().is_multiple_of(2) {
                continue;
            }
            let change = |request: &mut v1::ReshareSignRequest| {
                if let Some(place) = request.round1.get_mut(at) {
                    *place = envelope;
                }
            };
            if place.index > 0 && self.rng.next_u32().is_multiple_of(4) {
                self.show1_to(own, &run, change);
            } else {
                self.show1(&run, change);
            }
        }
        Some(())
    }

    /// Round 1 with a message more or less, at another place, of another session; ciphertexts likewise.
    pub(super) fn mixed_round1(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        let mut other = Run {
            session: v1::Session { nonce: self.bytes(), ..run.session.clone() },
            ..run.clone()
        };
        other.terms = crate::reshare::reference::Terms::new(
            &other.session,
            &run.terms.order,
            &run.terms.parent,
        )
        .ok()?;
        self.open(&mut run)?;
        // Whoever has not dealt signs nothing.
        let early = Run { round1: run.round0.clone(), ..run.clone() };
        self.show1(&early, |it| it.round1.truncate(1));
        self.open(&mut other)?;
        self.deal(&mut run)?;
        self.deal(&mut other)?;
        let some = self.below(run.round1.len());
        let theirs = other.round1.get(some)?.clone();
        self.show1(&run, |it| it.round1.extend(it.round1.first().cloned()));
        self.show1(&run, |it| drop(it.round1.pop()));
        self.show1(&run, |it| it.round1.reverse());
        self.show1(&run, |it| {
            if let Some(place) = it.round1.get_mut(some) {
                *place = theirs;
            }
        });
        self.show1(&run, |it| it.deliveries.extend(it.deliveries.first().cloned()));
        self.show1(&run, |it| drop(it.deliveries.pop()));
        self.show1(&run, |it| it.deliveries.reverse());
        self.show1(&run, |it| {
            let ciphertext = it.deliveries.get_mut(some).map(|delivery| &mut delivery.ciphertext);
            flip(ciphertext.map(Vec::as_mut_slice).unwrap_or_default());
        });
        self.show1(&run, |it| {
            let path = it.deliveries.get_mut(some).map(|delivery| &mut delivery.path);
            if let Some(path) = path {
                path.push(vec![0; 32]);
            }
        });
        // It is good all the same.
        let _ = self.sign(&run);
        Some(())
    }

    /// Two sets of round 0 in one session: whoever was put back meanwhile, and opened once more, gives another receive key.
    pub(super) fn two_sets(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        let before: Vec<_> = self.nodes.iter().map(crate::node::SimNode::image).collect();
        self.open(&mut run)?;
        let places = run.terms.places.clone();
        let dealers: Vec<Place> = run.terms.dealers().into_iter().cloned().collect();
        let (_, dealer) = self.somebody(&dealers)?;
        let own = self.position(dealer.node)?;
        let (at, other) = self.somebody(&places)?;
        let back = self.position(other.node)?;
        self.nodes.get_mut(back)?.roll_back(before.get(back)?.clone());
        let once_more = self.opened(back, &run.session)?;
        let mut second = run.clone();
        *second.round0.get_mut(at)? = once_more;
        if back == own {
            // The old one is not its own any more.
            let request = self.deal_request(own, &run, &run.round0);
            let _ = self.lie(own, request);
            return Some(());
        }
        let request = self.deal_request(own, &run, &run.round0);
        let Ok(quorate_node::Reply::ReshareDeal(dealt)) = self.ask(own, request)? else {
            return None;
        };
        let request = self.deal_request(own, &second, &second.round0);
        let _ = self.lie(own, request);
        if dealer.index > 0 {
            second.round1 = vec![dealt.round1?; dealers.len()];
            second.ciphertexts = vec![dealt.ciphertexts; dealers.len()];
            let request = self.sign_request(own, &second);
            let _ = self.lie(own, quorate_node::Request::ReshareSign(request));
        }
        Some(())
    }

    /// A round 0 with a key of the forger's.
    fn with_key(
        &mut self,
        run: &Run,
        place: &Place,
        envelope: &Envelope,
        key: &ReceiveKey<Ristretto255>,
    ) -> Option<Envelope> {
        let kind = match place.index {
            0 => PossessionKind::ReshareDealerKey,
            _ => PossessionKind::ReshareReceiveKey,
        };
        let claim = run.terms.claim(kind, place, key.public())?;
        let proof = key.prove_possession(&claim, &mut self.rng);
        self.changed0(place, envelope, |message| {
            message.receive_key = key.public().to_vec();
            message.proof = proof.to_vec();
        })
    }

    /// Two colluding participants with one key, which both know.
    pub(super) fn one_key(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let key = ReceiveKey::<Ristretto255>::from_seed(&Secret::random(&mut self.rng));
        let places = run.terms.places.clone();
        let second = places.len().checked_sub(1).filter(|at| *at > 0)?;
        let first = self.below(second);
        for at in [first, second] {
            let (place, envelope) = (places.get(at)?, run.round0.get(at)?.clone());
            *run.round0.get_mut(at)? = self.with_key(&run, place, &envelope, &key)?;
        }
        let round0 = run.round0.clone();
        self.show0(&run, &round0);
        Some(())
    }

    /// A colluding dealer deals what would be its part if more dealt, with good proofs of everything.
    pub(super) fn other_secret(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let dealers: Vec<Place> = run.terms.dealers().into_iter().cloned().collect();
        let (dealt_at, dealer) = self.somebody(&dealers)?;
        let place_at = run.terms.places.iter().position(|it| it.node == dealer.node)?;
        let more = run.terms.places.iter().find(|it| !it.deals && it.parent_index > 0)?.node;
        let key = ReceiveKey::<Ristretto255>::from_seed(&Secret::random(&mut self.rng));
        let envelope = run.round0.get(place_at)?.clone();
        *run.round0.get_mut(place_at)? = self.with_key(&run, &dealer, &envelope, &key)?;
        // Everybody else deals over what the liar shows.
        for (at, place) in dealers.iter().enumerate() {
            if at == dealt_at {
                run.round1.push(Envelope::default());
                run.ciphertexts.push(Vec::new());
                continue;
            }
            let node = self.position(place.node)?;
            let request = self.deal_request(node, &run, &run.round0);
            let Ok(quorate_node::Reply::ReshareDeal(reply)) = self.ask(node, request)? else {
                return None;
            };
            run.round1.push(reply.round1?);
            run.ciphertexts.push(reply.ciphertexts);
        }
        let parent = &run.terms.parent;
        let (of, generation) = (parent.threshold(), parent.generation());
        let public = Parent::new(generation, of, parent.commitments())?;
        let said = run.said(|place| place.deals || place.node == more)?;
        let binding = run.binding()?;
        let wider = reshare::session(binding, run.terms.order.threshold(), &public, &said).ok()?;
        let core = self.nodes.get(self.position(dealer.node)?)?;
        let (_, share) = check::share(core, self.key, generation)?;
        let index = ParticipantIndex::new(dealer.parent_index, of).ok()?;
        let seed = Secret::random(&mut self.rng);
        let dealing = wider.redeal(index, &key, &seed, &share.to_bytes()).ok()?;
        let envelope = self.dealing(&run, &dealer, &dealing.message)?;
        *run.round1.get_mut(dealt_at)? = envelope;
        *run.ciphertexts.get_mut(dealt_at)? = dealing.ciphertexts;
        let members = run.terms.places.iter();
        let members: Vec<NodeId> =
            members.filter(|it| it.index > 0 && it.node != dealer.node).map(|it| it.node).collect();
        let member = self.below(members.len());
        let at = self.position(*members.get(member)?)?;
        let request = self.sign_request(at, &run);
        let _ = self.lie(at, quorate_node::Request::ReshareSign(request));
        Some(())
    }

    /// A dealing as a message of its dealer.
    fn dealing(
        &self,
        run: &Run,
        dealer: &Place,
        message: &quorate_schemes::dkg::Round1Message<Ristretto255>,
    ) -> Option<Envelope> {
        let payloads = run.round0.iter().map(|envelope| envelope.payload.as_slice());
        let round0 = quorate_wire::digests::reshare_round0_digest(payloads);
        let payload = v1::Round1 {
            session: run.terms.id.as_bytes().to_vec(),
            order: run.session.order.clone(),
            index: dealer.parent_index,
            suite: Ristretto255::ID.to_owned(),
            round0: round0.as_bytes().to_vec(),
            commitments: message.broadcast.commitments.iter().map(|it| it.to_vec()).collect(),
            proof_of_possession: message.broadcast.pop.to_vec(),
            ephemeral_key: message.broadcast.ephemeral.to_vec(),
            ephemeral_proof: message.ephemeral_proof.to_vec(),
            ciphertexts_root: message.root.as_bytes().to_vec(),
        };
        let keys = self.cluster.nodes.get(self.position(dealer.node)?)?;
        Some(keys.identity.envelop(PayloadType::ReshareRound1, strict::encode(&payload)))
    }
}
