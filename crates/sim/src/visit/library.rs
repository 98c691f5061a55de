//! What the library of schemes says to whoever asks it past a node and a coordinator, which compare first: the same
//! checks once more, behind theirs.

use quorate_schemes::dkg::cocktail::{DealingError, SetupError};
use quorate_schemes::dkg::evidence::{NoEvidence, accuse};
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Delivery, Member, ReceiveKey, Ristretto255, Round1, Round2Error, Session, SessionBinding,
    SessionError, merkle,
};
use quorate_secret::Secret;
use quorate_types::{Digest, NodeId, ParticipantIndex, SessionId, Threshold};
use rand_core::Rng;

use super::{Stop, Visited, Visitor, defect};

type S = Ristretto255;

/// Three participants that are made up, and what they know.
struct Three {
    binding: SessionBinding,
    threshold: Threshold,
    members: Vec<Member<S>>,
    keys: Vec<ReceiveKey<S>>,
    indices: Vec<ParticipantIndex>,
}

impl Three {
    fn new(visitor: &mut Visitor<'_>) -> Result<Self, Stop> {
        let mut bytes = || {
            let mut bytes = [0; 32];
            visitor.rng.fill_bytes(&mut bytes);
            bytes
        };
        let binding = SessionBinding {
            session: SessionId::from_bytes(bytes()),
            order: Digest::from_bytes(bytes()),
            roster: Digest::from_bytes(bytes()),
        };
        let threshold = Threshold::new(2, 3).map_err(|_| defect("no threshold"))?;
        let indices: Vec<ParticipantIndex> = threshold.indices().collect();
        let (mut members, mut keys) = (Vec::new(), Vec::new());
        for index in &indices {
            let key = ReceiveKey::<S>::random(visitor.rng);
            let mut node = [0; 16];
            visitor.rng.fill_bytes(&mut node);
            let statement = PossessionStatement {
                kind: PossessionKind::ReceiveKey,
                session: binding.session,
                order: binding.order,
                node: NodeId::from_bytes(node),
                index: *index,
                point: *key.public(),
            };
            members.push(Member {
                index: index.get().into(),
                node: statement.node,
                receive_key: statement.point,
                proof: key.prove_possession(&statement, visitor.rng),
            });
            keys.push(key);
        }
        Ok(Self { binding, threshold, members, keys, indices })
    }

    fn session(
        &self,
        change: impl FnOnce(&mut Vec<Member<S>>),
    ) -> Result<Session<S>, SessionError> {
        let mut members = self.members.clone();
        change(&mut members);
        Session::new(self.binding, self.threshold, members)
    }

    fn index(&self, position: usize) -> Result<ParticipantIndex, Stop> {
        self.indices.get(position).copied().ok_or_else(|| defect("no index"))
    }

    fn key(&self, position: usize) -> Result<&ReceiveKey<S>, Stop> {
        self.keys.get(position).ok_or_else(|| defect("no key"))
    }

    fn dealt(
        &self,
        session: &Session<S>,
        visitor: &mut Visitor<'_>,
    ) -> Result<Vec<Round1<S>>, Stop> {
        let mut dealt = Vec::new();
        for (index, key) in self.indices.iter().zip(&self.keys) {
            let seed = Secret::random(visitor.rng);
            dealt.push(session.round1(*index, key, &seed).map_err(|_| defect("no dealing"))?);
        }
        Ok(dealt)
    }

    /// What one participant is sent.
    fn deliveries(&self, dealt: &[Round1<S>], to: usize) -> Result<Vec<Delivery>, Stop> {
        let mut deliveries = Vec::new();
        for round1 in dealt {
            let paths = merkle::paths(self.threshold.indices(), &round1.ciphertexts);
            let both = round1.ciphertexts.get(to).zip(paths.get(to));
            let (ciphertext, path) = both.ok_or_else(|| defect("no delivery"))?;
            deliveries.push(Delivery { ciphertext: ciphertext.clone(), path: path.clone() });
        }
        Ok(deliveries)
    }
}

pub(super) fn sessions(visitor: &mut Visitor<'_>) -> Visited {
    let three = Three::new(visitor)?;
    visitor.stands_alone(three.session(|_| {}).is_ok(), "a session is none");
    type Change = (fn(&mut Vec<Member<S>>), fn(&SessionError) -> bool, &'static str);
    let changes: [Change; 8] = [
        (
            |members| members.truncate(2),
            |error| matches!(error, SessionError::Setup(SetupError::Count { .. })),
            "a participant too few",
        ),
        (
            |members| members.extend(members.first().cloned()),
            |error| matches!(error, SessionError::Setup(SetupError::Count { .. })),
            "a participant too many",
        ),
        (
            |members| {
                if let [one, other, ..] = members.as_mut_slice() {
                    other.receive_key = one.receive_key;
                }
            },
            |error| matches!(error, SessionError::Setup(SetupError::Duplicate { .. })),
            "one receive key of two",
        ),
        (
            |members| members.iter_mut().take(1).for_each(|member| member.receive_key = [0; 32]),
            |error| matches!(error, SessionError::Setup(SetupError::Point { .. })),
            "a receive key that everybody knows",
        ),
        (
            |members| members.iter_mut().take(1).for_each(|member| member.index = 2),
            |error| matches!(error, SessionError::Index { found: 2, .. }),
            "another index",
        ),
        (
            |members| members.rotate_left(1),
            |error| matches!(error, SessionError::Index { .. }),
            "another order",
        ),
        (
            |members| {
                if let [one, other, ..] = members.as_mut_slice() {
                    other.node = one.node;
                }
            },
            |error| matches!(error, SessionError::DuplicateNode { .. }),
            "one node of two",
        ),
        (
            |members| members.iter_mut().take(1).for_each(|member| member.proof.reverse()),
            |error| matches!(error, SessionError::Possession { .. }),
            "a receive key that its owner does not know",
        ),
    ];
    for (change, expected, what) in changes {
        let right = three.session(change).is_err_and(|error| expected(&error));
        visitor.stands_alone(right, &format!("the library makes a session of {what}"));
    }
    Ok(())
}

pub(super) fn keys(visitor: &mut Visitor<'_>) -> Visited {
    let three = Three::new(visitor)?;
    let session = three.session(|_| {}).map_err(|_| defect("no session"))?;
    let dealt = three.dealt(&session, visitor)?;
    let (first, other) = (three.index(0)?, three.key(1)?);
    let seed = Secret::random(visitor.rng);
    let deals = session.round1(first, other, &seed);
    let right = matches!(deals, Err(DealingError::ForeignKey { index }) if index == first);
    visitor.stands_alone(right, "the library deals with another's receive key");
    let mut messages: Vec<_> = dealt.iter().map(|round1| round1.message.clone()).collect();
    let deliveries = three.deliveries(&dealt, 0)?;
    let received = session.round2(first, other, &messages, &deliveries);
    let right = matches!(received, Err(Round2Error::OwnKey));
    visitor.stands_alone(right, "the library receives with another's receive key");
    for message in messages.iter_mut().skip(1).take(1) {
        message.dealer = 3;
    }
    let received = session.round2(first, three.key(0)?, &messages, &deliveries);
    let right = matches!(received, Err(Round2Error::RelayIndex { found: 3, .. }));
    visitor.stands_alone(right, "the library takes a dealing at another's place");
    Ok(())
}

pub(super) fn accusations(visitor: &mut Visitor<'_>) -> Visited {
    let three = Three::new(visitor)?;
    let session = three.session(|_| {}).map_err(|_| defect("no session"))?;
    let dealt = three.dealt(&session, visitor)?;
    let deliveries = three.deliveries(&dealt, 0)?;
    let shown = |at: usize| {
        let both = dealt.get(at).zip(deliveries.get(at));
        both.map(|(round1, delivery)| (&round1.message, delivery.clone()))
    };
    let (own, good) = shown(0).zip(shown(1)).ok_or_else(|| defect("nothing was dealt"))?;
    let mut changed = good.clone();
    if let Some(byte) = changed.1.ciphertext.first_mut() {
        *byte ^= 1;
    }
    for (key, (message, delivery), expected, what) in [
        (0, own, NoEvidence::Own, "against itself"),
        (1, good.clone(), NoEvidence::OwnKey, "with another's receive key"),
        (0, changed, NoEvidence::Relay, "about a ciphertext that was changed on the way"),
        (0, good, NoEvidence::NothingWrong, "about a good share"),
    ] {
        let key = three.key(key)?;
        let made = accuse(&session, three.index(0)?, key, message, &delivery, visitor.rng);
        let right = made.err() == Some(expected);
        visitor.stands_alone(right, &format!("the library makes evidence {what}"));
    }
    Ok(())
}
