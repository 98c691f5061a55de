//! Driving one DKG session from its opening to the delivered certificate.

use core::{fmt, mem};

use prost::Message;
use quorate_documents::{Certificate, Member, Order, Statement};
use quorate_schemes::dkg::{
    Member as Round0Member, Ristretto255, Round1Message, Session, SessionError, cocktail, merkle,
};
use quorate_types::limits::MAX_COMMITTEE;
use quorate_types::{Digest, KeyId, KeyVersion, NodeId, ParticipantIndex, SessionId};
use quorate_wire::digests;
use quorate_wire::proto::v1;
use rand_core::CryptoRng;

use super::blame::{Blame, Fault, Finding, public_evidence, weigh};
use super::check::{self, EnvelopeFault, ReplyFault, Signed, Terms};
use super::deliver::{Certified, Deliver};
use super::message::{Received, Reply, Request, Send};
use super::roll::Roll;
use crate::evaluation::{Committee, CommitteeError};
use crate::failure::{Failure, Unreachable, UnreachableKind};

/// A fresh session for an order. `attempt` is from 1 to the order's `max_attempts`.
#[must_use]
pub fn new_session(
    key: KeyId,
    version: KeyVersion,
    order: &Order,
    roster: Digest,
    attempt: u32,
    rng: &mut dyn CryptoRng,
) -> v1::Session {
    let mut nonce = vec![0; 32];
    rng.fill_bytes(&mut nonce);
    v1::Session {
        key: key.as_bytes().to_vec(),
        key_version: version.get(),
        order: order.digest(key, version).as_bytes().to_vec(),
        roster: roster.as_bytes().to_vec(),
        parent: Vec::new(),
        attempt,
        nonce,
        ..v1::Session::default()
    }
}

/// What all participants of a session have dealt. Nothing in it is secret: shares are encrypted to their recipients.
#[derive(Debug, Clone, PartialEq)]
pub struct Dealing {
    session: v1::Session,
    round0: Vec<v1::Envelope>,
    round1: Vec<v1::DkgDealReply>,
}

impl Dealing {
    /// Bytes to keep: the session, and each participant's two messages, each preceded by its length.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.session.encode_length_delimited_to_vec();
        for (round0, round1) in self.round0.iter().zip(&self.round1) {
            bytes.extend(round0.encode_length_delimited_to_vec());
            bytes.extend(round1.encode_length_delimited_to_vec());
        }
        bytes
    }

    /// Whether it is of the version of the key. The orders of many keys say the same, so [`Dkg::again`] cannot tell.
    #[must_use]
    pub fn is_of(&self, key: KeyId, version: KeyVersion) -> bool {
        self.session.key == key.as_bytes() && self.session.key_version == version.get()
    }

    #[cfg(test)]
    pub(super) fn exchange_round1(&mut self, one: usize, other: usize) {
        self.round1.swap(one, other);
    }

    /// Reads what was kept; none where it is something else.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let session = v1::Session::decode_length_delimited(&mut bytes).ok()?;
        let (mut round0, mut round1) = (Vec::new(), Vec::new());
        while !bytes.is_empty() && round0.len() < usize::from(MAX_COMMITTEE) {
            round0.push(v1::Envelope::decode_length_delimited(&mut bytes).ok()?);
            round1.push(v1::DkgDealReply::decode_length_delimited(&mut bytes).ok()?);
        }
        bytes.is_empty().then_some(Self { session, round0, round1 })
    }
}

/// Why no ceremony begins: the caller's own mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session does not name this order, or an attempt that it does not allow")]
pub struct StartError;

/// What a ceremony came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// There is a complete certificate.
    Certified(Box<Certified>),
    /// There is none.
    Failed(Box<Failed>),
}

/// A ceremony without a certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failed {
    /// Nodes that lied.
    pub blamed: Vec<Blame>,
    /// Nodes that gave no answer.
    pub unreachable: Vec<(NodeId, Unreachable)>,
    /// Nodes that said no.
    pub refusals: Vec<(NodeId, v1::Refusal)>,
    /// Nodes that have signed. If there are any, [`super::Finish`] may complete the certificate later, and
    /// no other session of this key version will.
    pub signed: Vec<NodeId>,
    /// Everybody has dealt validly, and what they dealt adds up to no sharing: a share or the key would
    /// be zero. Some participant chose its dealing so; nobody can prove which. Another session may do.
    pub cancelled: Option<CommitteeError>,
}

/// What a ceremony is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Round 0: receive keys.
    Open,
    /// Round 1: commitments and encrypted shares.
    Deal,
    /// Round 2: shares received, transcript signed.
    Sign,
    /// The certificate to arrive at every node.
    Deliver,
    /// Nothing.
    Over,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "receive keys (round 0)",
            Self::Deal => "dealings (round 1)",
            Self::Sign => "signatures (round 2)",
            Self::Deliver => "the certificate to arrive",
            Self::Over => "nothing",
        })
    }
}

/// One DKG session.
///
/// In this order:
///
/// 1. [`Dkg::new`];
/// 2. send what [`Dkg::poll`] returns, each to its node over a connection that shows the node's TLS key;
/// 3. tell [`Dkg::on_reply`] and [`Dkg::on_failure`] what came of each, and poll again after each; when the
///    caller's patience for a step ends, [`Dkg::on_timeout`];
/// 4. until [`Dkg::outcome`] is there.
///
/// Nothing is relayed that was not verified, so whoever sent garbage is named. A request whose answer was
/// lost is sent again a few times, which all methods allow. Once every participant has signed, the
/// certificate exists; it is then delivered to all, and the outcome says who still lacks it.
pub struct Dkg {
    terms: Terms,
    stage: Stage,
    failed: Failed,
}

enum Stage {
    Open(Roll<Opened>),
    Deal(Box<Deal>),
    Sign(Box<Sign>),
    Deliver(Box<Deliver>),
    Over,
}

struct Opened {
    envelope: v1::Envelope,
    said: Round0Member<Ristretto255>,
}

struct Deal {
    round0: Vec<v1::Envelope>,
    digest: Digest,
    session: Session<Ristretto255>,
    roll: Roll<Dealt>,
}

struct Dealt {
    envelope: v1::Envelope,
    message: Round1Message<Ristretto255>,
    ciphertexts: Vec<Vec<u8>>,
    /// The path of each ciphertext.
    paths: Vec<Vec<Digest>>,
}

struct Sign {
    round0: Vec<v1::Envelope>,
    session: Session<Ristretto255>,
    dealt: Vec<Dealt>,
    statement: Statement,
    transcript: Vec<u8>,
    roll: Roll<Signed>,
}

impl Dkg {
    /// A ceremony for a session of an order.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(session: &v1::Session, order: &Order) -> Result<Self, StartError> {
        let terms = Terms::new(session, order).ok_or(StartError)?;
        let stage = Stage::Open(Roll::new(order.founders()));
        Ok(Self { terms, stage, failed: Failed::default() })
    }

    /// What all have dealt, once they have, and until they have signed. Whoever has it can go on from there with
    /// [`Self::again`]: so a coordinator that keeps it before it asks for the first signature may end at any time.
    #[must_use]
    pub fn dealing(&self) -> Option<Dealing> {
        let Stage::Sign(sign) = &self.stage else { return None };
        let round1 = |dealt: &Dealt| v1::DkgDealReply {
            round1: Some(dealt.envelope.clone()),
            ciphertexts: dealt.ciphertexts.clone(),
        };
        Some(Dealing {
            session: self.terms.session.clone(),
            round0: sign.round0.clone(),
            round1: sign.dealt.iter().map(round1).collect(),
        })
    }

    /// Goes on where all have dealt and some may have signed. Everything is verified as when it first came.
    ///
    /// # Errors
    /// [`StartError`] where it is no dealing of this order.
    pub fn again(dealing: Dealing, order: &Order) -> Result<Self, StartError> {
        let Dealing { session, round0, round1 } = dealing;
        let mut dkg = Self::new(&session, order)?;
        let nodes: Vec<NodeId> = order.founders().iter().map(|member| member.node).collect();
        let round0 =
            round0.into_iter().map(|e| Reply::DkgOpen(v1::DkgOpenReply { round0: Some(e) }));
        let round1 = round1.into_iter().map(Reply::DkgDeal);
        for replies in [round0.collect::<Vec<_>>(), round1.collect()] {
            // They count as asked.
            let _ = dkg.poll();
            for (node, reply) in nodes.iter().zip(replies) {
                if dkg.on_reply(*node, reply) != Received::Taken {
                    return Err(StartError);
                }
            }
        }
        if dkg.step() == Step::Sign { Ok(dkg) } else { Err(StartError) }
    }

    /// The session's id.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.terms.id()
    }

    /// The step that is being waited for, for people.
    #[must_use]
    pub const fn step(&self) -> Step {
        match &self.stage {
            Stage::Open(_) => Step::Open,
            Stage::Deal(_) => Step::Deal,
            Stage::Sign(_) => Step::Sign,
            Stage::Deliver(_) => Step::Deliver,
            Stage::Over => Step::Over,
        }
    }

    /// What to send now.
    pub fn poll(&mut self) -> Vec<Send> {
        let session = self.terms.id().as_bytes().to_vec();
        let terms = &self.terms;
        match &mut self.stage {
            Stage::Open(roll) => roll.send(|_, node| {
                let session = Some(terms.session.clone());
                Request::DkgOpen(v1::DkgOpenRequest { node, session })
            }),
            Stage::Deal(deal) => deal.roll.send(|_, node| {
                let round0 = deal.round0.clone();
                Request::DkgDeal(v1::DkgDealRequest { node, session: session.clone(), round0 })
            }),
            Stage::Sign(sign) => {
                let Sign { dealt, roll, .. } = sign.as_mut();
                roll.send(|position, node| {
                    Request::DkgSign(v1::DkgSignRequest {
                        node,
                        session: session.clone(),
                        round1: dealt.iter().map(|d| d.envelope.clone()).collect(),
                        deliveries: deliveries(dealt, position),
                    })
                })
            }
            Stage::Deliver(deliver) => deliver.poll(),
            Stage::Over => Vec::new(),
        }
    }

    /// A node's reply.
    pub fn on_reply(&mut self, node: NodeId, reply: Reply) -> Received {
        let position = match &self.stage {
            Stage::Open(roll) => roll.awaited(node),
            Stage::Deal(deal) => deal.roll.awaited(node),
            Stage::Sign(sign) => sign.roll.awaited(node),
            Stage::Deliver(deliver) => deliver.awaited(node),
            Stage::Over => None,
        };
        let Some((position, member)) =
            position.and_then(|p| Some((p, *self.terms.order.founders().get(p)?)))
        else {
            return Received::Ignored;
        };
        let terms = &self.terms;
        let checked = match (&mut self.stage, reply) {
            (Stage::Open(roll), Reply::DkgOpen(reply)) => {
                opened(terms, &member, reply).map(|opened| roll.answer(position, opened))
            }
            (Stage::Deal(deal), Reply::DkgDeal(reply)) => {
                dealt(terms, &member, deal, reply).map(|dealt| deal.roll.answer(position, dealt))
            }
            (Stage::Sign(sign), Reply::DkgSign(reply)) => {
                let Sign { session, statement, transcript, roll, .. } = sign.as_mut();
                check::signatures(session, &member, statement, transcript, &reply)
                    .map(|signed| roll.answer(position, signed))
                    .map_err(|fault| (fault, None))
            }
            (Stage::Deliver(deliver), Reply::PutCertificate(reply)) => {
                deliver.on_reply(position, node, &reply);
                Ok(())
            }
            // The answer to an earlier step's request, late or doubled on the way.
            _ => return Received::Ignored,
        };
        let received = match checked {
            Ok(()) => Received::Taken,
            Err((fault, evidence)) => {
                let finding = match (&fault, &evidence) {
                    (ReplyFault::Dealing(fault), Some(_)) => Finding::Dealer((*fault).into()),
                    (ReplyFault::ReceiveKey, Some(_)) => Finding::Dealer(Fault::ReceiveKey),
                    _ => Finding::Reply(fault),
                };
                self.failed.blamed.push(Blame { node, finding, evidence });
                self.lose(position);
                Received::Blamed
            }
        };
        self.advance();
        received
    }

    /// A node that gave no answer, or said no. A request that may succeed a little later is sent again.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) {
        if let Stage::Deliver(deliver) = &mut self.stage {
            deliver.on_failure(node, failure);
            self.advance();
            return;
        }
        let lost = match &mut self.stage {
            Stage::Open(roll) => roll.on_failure(node, &failure),
            Stage::Deal(deal) => deal.roll.on_failure(node, &failure),
            Stage::Sign(sign) => sign.roll.on_failure(node, &failure),
            Stage::Deliver(_) | Stage::Over => false,
        };
        if !lost {
            return;
        }
        match failure {
            Failure::Unreachable(why) => self.failed.unreachable.push((node, why)),
            Failure::Refused(mut refusal) => {
                if let Some(evidence) = refusal.evidence.take() {
                    let blame = weigh(&self.terms, node, evidence);
                    // Several recipients may convict the same dealer of the same thing.
                    if !self.failed.blamed.iter().any(|known| known.node == blame.node) {
                        self.failed.blamed.push(blame);
                    }
                }
                self.failed.refusals.push((node, *refusal));
            }
        }
        self.advance();
    }

    /// Nobody is waited for any longer in this step.
    pub fn on_timeout(&mut self) {
        let silent = match &mut self.stage {
            Stage::Open(roll) => roll.give_up(),
            Stage::Deal(deal) => deal.roll.give_up(),
            Stage::Sign(sign) => sign.roll.give_up(),
            Stage::Deliver(deliver) => {
                deliver.on_timeout();
                Vec::new()
            }
            Stage::Over => Vec::new(),
        };
        let detail = format!("no answer while waiting for {}", self.step());
        self.failed.unreachable.extend(silent.into_iter().map(|node| {
            (node, Unreachable { kind: UnreachableKind::TimedOut, detail: detail.clone() })
        }));
        self.advance();
    }

    /// What it came to, once nothing more can come.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.stage {
            Stage::Deliver(deliver) if deliver.is_settled() => {
                let certified = deliver.certified(self.failed.blamed.clone());
                Some(Outcome::Certified(Box::new(certified)))
            }
            Stage::Over => Some(Outcome::Failed(Box::new(self.failed.clone()))),
            Stage::Open(_) | Stage::Deal(_) | Stage::Sign(_) | Stage::Deliver(_) => None,
        }
    }

    /// The certificate, as soon as there is one: also before everybody has it.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.stage {
            Stage::Deliver(deliver) => Some(deliver.certificate()),
            Stage::Open(_) | Stage::Deal(_) | Stage::Sign(_) | Stage::Over => None,
        }
    }

    fn lose(&mut self, position: usize) {
        match &mut self.stage {
            Stage::Open(roll) => roll.lose(position),
            Stage::Deal(deal) => deal.roll.lose(position),
            Stage::Sign(sign) => sign.roll.lose(position),
            Stage::Deliver(deliver) => deliver.lose(position),
            Stage::Over => {}
        }
    }

    /// Goes on to the next stage once everybody has answered, and ends where somebody will not.
    fn advance(&mut self) {
        let settled = match &self.stage {
            Stage::Open(roll) => roll.is_settled(),
            Stage::Deal(deal) => deal.roll.is_settled(),
            Stage::Sign(sign) => sign.roll.is_settled(),
            Stage::Deliver(_) | Stage::Over => false,
        };
        if !settled {
            return;
        }
        self.stage = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(roll) => self.begin_deal(roll),
            Stage::Deal(deal) => self.begin_sign(*deal),
            Stage::Sign(sign) => self.begin_deliver(*sign),
            same @ (Stage::Deliver(_) | Stage::Over) => same,
        };
    }

    fn begin_deal(&mut self, roll: Roll<Opened>) -> Stage {
        let Some(opened) = roll.complete() else { return Stage::Over };
        let round0: Vec<_> = opened.iter().map(|o| o.envelope.clone()).collect();
        let members: Vec<_> = opened.into_iter().map(|o| o.said).collect();
        let digest = digests::round0_digest(round0.iter().map(|e| e.payload.as_slice()));
        let order = &self.terms.order;
        match Session::new(self.terms.binding, order.founding(), members) {
            Ok(session) => Stage::Deal(Box::new(Deal {
                round0,
                digest,
                session,
                roll: Roll::new(order.founders()),
            })),
            Err(error) => {
                self.blame_session(error);
                Stage::Over
            }
        }
    }

    /// Each message was checked by itself before, so only what two of them make together is left: a
    /// receive key twice. Both proved that they know it, so both have it; neither is honest.
    fn blame_session(&mut self, error: SessionError) {
        let indices: Vec<ParticipantIndex> = match error {
            SessionError::Setup(cocktail::SetupError::Duplicate { first, second })
            | SessionError::DuplicateNode { first, second } => vec![first, second],
            SessionError::Setup(cocktail::SetupError::Point { index })
            | SessionError::Possession { index } => vec![index],
            SessionError::Setup(cocktail::SetupError::Count { .. })
            | SessionError::Index { .. } => Vec::new(),
        };
        for member in self.terms.order.founders().iter().filter(|m| indices.contains(&m.index)) {
            let finding = ReplyFault::ReceiveKeyCopied.into();
            self.failed.blamed.push(Blame { node: member.node, finding, evidence: None });
        }
    }

    fn begin_sign(&mut self, deal: Deal) -> Stage {
        let Deal { round0, session, roll, .. } = deal;
        let Some(dealt) = roll.complete() else { return Stage::Over };
        let messages: Vec<_> = dealt.iter().map(|d| d.message.clone()).collect();
        // Only for messages without `t` commitments each, and those were refused on arrival.
        let Ok((statement, transcript)) = check::statement(&session, &self.terms, &messages) else {
            return Stage::Over;
        };
        // Every client will ask this of the certificate, and one that fails makes no key.
        if let Err(error) = Committee::from_statement(&statement) {
            self.failed.cancelled = Some(error);
            return Stage::Over;
        }
        let roll = Roll::new(self.terms.order.founders());
        Stage::Sign(Box::new(Sign { round0, session, dealt, statement, transcript, roll }))
    }

    fn begin_deliver(&mut self, sign: Sign) -> Stage {
        let Sign { statement, roll, .. } = sign;
        self.failed.signed = roll.answered().map(|(node, _)| node).collect();
        let Some(signed) = roll.complete() else { return Stage::Over };
        // Every signature was verified on arrival, so that the certificate is complete now.
        match Deliver::new(&self.terms.order, statement, signed) {
            Ok(deliver) => Stage::Deliver(Box::new(deliver)),
            Err(_) => Stage::Over,
        }
    }
}

/// What is wrong with a reply, and evidence where what is wrong was signed.
type Accusation = (ReplyFault, Option<Box<v1::Evidence>>);

fn unproven(fault: impl Into<ReplyFault>) -> Accusation {
    (fault.into(), None)
}

/// Checks a participant's round 0.
fn opened(terms: &Terms, member: &Member, reply: v1::DkgOpenReply) -> Result<Opened, Accusation> {
    let envelope = reply.round0.ok_or(EnvelopeFault::Missing).map_err(unproven)?;
    let said = check::round0(terms, member, &envelope).map_err(unproven)?;
    if check::knows_receive_key(terms, member, &said) {
        return Ok(Opened { envelope, said });
    }
    let evidence = public_evidence(terms, member.index, &[envelope], None);
    Err((ReplyFault::ReceiveKey, Some(Box::new(evidence))))
}

/// Checks a dealer's reply. What is wrong with the signed message itself comes with evidence.
fn dealt(
    terms: &Terms,
    member: &Member,
    deal: &Deal,
    reply: v1::DkgDealReply,
) -> Result<Dealt, Accusation> {
    let envelope = reply.round1.ok_or(EnvelopeFault::Missing).map_err(unproven)?;
    let message = check::round1(terms, member, deal.digest, &envelope).map_err(unproven)?;
    if let Err(fault) = deal.session.check_round1(member.index, &message) {
        let evidence = public_evidence(terms, member.index, &deal.round0, Some(envelope));
        return Err((ReplyFault::Dealing(fault), Some(Box::new(evidence))));
    }
    if !check::ciphertexts(terms.order.founding(), &message, &reply.ciphertexts) {
        return Err(unproven(ReplyFault::Ciphertexts));
    }
    let paths = merkle::paths(terms.order.founding().indices(), &reply.ciphertexts);
    Ok(Dealt { envelope, message, ciphertexts: reply.ciphertexts, paths })
}

/// What each dealer encrypted to one recipient, with its path to the root that the dealer signed.
fn deliveries(dealt: &[Dealt], to: usize) -> Vec<v1::Delivery> {
    dealt
        .iter()
        .map(|dealt| {
            // There is one of each for each participant: checked on arrival.
            let path = dealt.paths.get(to).map_or(&[][..], Vec::as_slice);
            v1::Delivery {
                ciphertext: dealt.ciphertexts.get(to).cloned().unwrap_or_default(),
                path: path.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
            }
        })
        .collect()
}
