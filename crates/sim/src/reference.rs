//! What an honest node may answer, written once more from the protocol's text and not from the node's
//! code: each reply is compared with what was asked, by whom, and with what the node said before.
//!
//! A check of the node whose removal does no visible harm yet, since another one stands behind it, is
//! missed here all the same: the node then answers what it should have refused.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{Order, Statement};
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::dkg::cocktail::{MIN_CIPHERTEXT_BYTES, context};
use quorate_schemes::dkg::possession::{self, PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{Ristretto255, Suite, merkle, schnorr};
use quorate_types::limits::SESSION_SECONDS;
use quorate_types::{Digest, NodeId, ParticipantIndex, SessionId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope, Evidence};
use quorate_wire::{PayloadType, RefusalCode, Verified, digests, strict};

use crate::cluster::OrderedKey;
use crate::invariants::Invariant;
use crate::network::Guise;

/// Seconds between a decision and the moment that it is durable, at most.
const GRACE: u64 = 2;

/// What one honest node answered to one request.
pub struct Said<'a> {
    /// The node.
    pub node: NodeId,
    /// Under whose name it was asked.
    pub guise: Guise,
    /// True time.
    pub now: UnixSeconds,
    /// When it began to read what it decided on, and when its answer was durable, in a count of events: a refusal may
    /// rest on what was there in between.
    pub began: u64,
    /// See [`Said::began`].
    pub ended: u64,
    /// What it was asked.
    pub request: &'a Request,
    /// What it answered.
    pub outcome: &'a Outcome,
}

struct Opened {
    session: v1::Session,
    at: UnixSeconds,
    round0: Envelope,
}

struct Dealt {
    round0: Vec<Envelope>,
    round1: Envelope,
    at: u64,
}

/// What a node has signed for a key version, and when.
struct Signed {
    session: SessionId,
    at: u64,
}

/// What honest nodes have said, and what may follow from it.
pub struct Reference {
    roster: Digest,
    opened: BTreeMap<(NodeId, SessionId), Opened>,
    dealt: BTreeMap<(NodeId, SessionId), Dealt>,
    /// How often each node has dealt under an order.
    attempts: BTreeMap<(NodeId, Digest), u32>,
    /// What each node has signed for a key version.
    signed: BTreeMap<(NodeId, Vec<u8>, u32), Signed>,
    /// Of which key versions a node has a certificate.
    certified: BTreeSet<(NodeId, Vec<u8>, u32)>,
}

type Found = Result<(), String>;

fn holds(condition: bool, what: &str) -> Found {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}

impl Reference {
    /// Before anybody has said anything, under this roster.
    #[must_use]
    pub fn new(roster: Digest) -> Self {
        Self {
            roster,
            opened: BTreeMap::new(),
            dealt: BTreeMap::new(),
            attempts: BTreeMap::new(),
            signed: BTreeMap::new(),
            certified: BTreeSet::new(),
        }
    }

    /// Another roster is in force from now on.
    pub const fn believe(&mut self, roster: Digest) {
        self.roster = roster;
    }

    /// Takes note of an answer; what of it should not have been said.
    pub fn saw(&mut self, keys: &[OrderedKey], said: &Said<'_>) -> Vec<(Invariant, String)> {
        let mut wrong = Vec::new();
        let mut add = |invariant, found: Found| {
            if let Err(what) = found {
                let detail = format!("{}: {}: {what}", said.node, said.request.method());
                wrong.push((invariant, detail));
            }
        };
        add(Invariant::OnlyTheEntitled, entitled(said));
        match (said.request, said.outcome) {
            (Request::DkgOpen(asked), Ok(Reply::DkgOpen(reply))) => {
                let known = asked.session.as_ref().map(digests::session_id);
                let again = known.and_then(|id| self.opened.get(&(said.node, id)));
                match again {
                    Some(first) => {
                        let same = reply.round0.as_ref() == Some(&first.round0);
                        add(Invariant::OneReceiveKey, holds(same, "another one"));
                    }
                    None => add(Invariant::AcceptsWhatFits, self.open(keys, said, asked, reply)),
                }
            }
            (Request::DkgDeal(asked), Ok(Reply::DkgDeal(reply))) => {
                add(Invariant::AcceptsWhatFits, self.deal(keys, said, asked, reply));
            }
            (Request::DkgSign(asked), Ok(Reply::DkgSign(_))) => {
                add(Invariant::AcceptsWhatFits, self.sign(keys, said, asked));
            }
            (Request::PutCertificate(asked), Ok(_)) => {
                let envelope = asked.certificate.as_ref().map(|envelope| &envelope.payload);
                let statement = envelope.and_then(|p| Statement::from_payload(p).ok());
                if let Some(statement) = statement {
                    let key = statement.key().as_bytes().to_vec();
                    self.certified.insert((said.node, key, statement.version().get()));
                }
            }
            (request, Err(refusal)) if refusal.code == RefusalCode::RelayFault.code() => {
                let changed = match request {
                    Request::DkgDeal(asked) => self.round0(keys, said.node, asked).is_err(),
                    Request::DkgSign(asked) => self.round1(keys, said.node, asked).is_err(),
                    _ => true,
                };
                let found = holds(changed, "it was relayed what was sent");
                add(Invariant::BlamesRelayJustly, found);
            }
            (Request::DkgDeal(_) | Request::DkgSign(_), Err(refusal))
                if said.guise == Guise::Own =>
            {
                add(Invariant::RefusesWithReason, self.reason(keys, said, &refusal.code));
            }
            _ => {}
        }
        if let Err(refusal) = said.outcome
            && let Some(evidence) = &refusal.evidence
        {
            add(Invariant::EvidenceRevealsNothing, self.reveals_nothing(evidence));
        }
        wrong
    }

    fn open(
        &mut self,
        keys: &[OrderedKey],
        said: &Said<'_>,
        asked: &v1::DkgOpenRequest,
        reply: &v1::DkgOpenReply,
    ) -> Found {
        addressed(said.node, &asked.node)?;
        let session = asked.session.as_ref().ok_or("no session")?;
        let key = key_of(keys, session)?;
        holds(session.roster == self.roster.as_bytes(), "another roster")?;
        holds(session.parent.is_empty(), "a parent")?;
        let attempts = 1..=key.order.max_attempts();
        holds(attempts.contains(&session.attempt), "the attempt's number")?;
        holds(session.nonce.len() == 32, "the nonce")?;
        let place = (said.node, session.key.clone(), session.key_version);
        holds(!self.signed.contains_key(&place), "the node has signed already")?;
        let used = self.attempts.get(&(said.node, key.order.digest(key.id, key.version)));
        let used = used.copied().unwrap_or_default();
        holds(used < key.order.max_attempts(), "attempts are used up")?;
        let round0 = reply.round0.clone().ok_or("no round 0")?;
        let own = key.order.member(&said.node).ok_or("no member")?;
        signed_by(PayloadType::Round0, own, &round0)?;
        let opened = Opened { session: session.clone(), at: said.now, round0 };
        self.opened.insert((said.node, digests::session_id(session)), opened);
        Ok(())
    }

    fn deal(
        &mut self,
        keys: &[OrderedKey],
        said: &Said<'_>,
        asked: &v1::DkgDealRequest,
        reply: &v1::DkgDealReply,
    ) -> Found {
        addressed(said.node, &asked.node)?;
        let id = SessionId::from_slice(&asked.session).map_err(|_| "no session id")?;
        let opened = self.opened.get(&(said.node, id)).ok_or("it was never opened")?;
        in_time(opened, said.now)?;
        let session = opened.session.clone();
        let key = key_of(keys, &session)?;
        let messages = self.round0(keys, said.node, asked)?;
        possessed(id, &key.order, &session, &messages)?;
        let round1 = reply.round1.clone().ok_or("no round 1")?;
        let own = key.order.member(&said.node).ok_or("no member")?;
        signed_by(PayloadType::Round1, own, &round1)?;
        let dealt = Dealt { round0: asked.round0.clone(), round1, at: said.ended };
        if let Some(first) = self.dealt.get(&(said.node, id)) {
            return holds(first.round0 == dealt.round0, "another set of round 0");
        }
        self.dealt.insert((said.node, id), dealt);
        let order = key.order.digest(key.id, key.version);
        let attempts = self.attempts.entry((said.node, order)).or_default();
        *attempts += 1;
        holds(*attempts <= key.order.max_attempts(), "attempts are used up")
    }

    fn sign(&mut self, keys: &[OrderedKey], said: &Said<'_>, asked: &v1::DkgSignRequest) -> Found {
        addressed(said.node, &asked.node)?;
        let id = SessionId::from_slice(&asked.session).map_err(|_| "no session id")?;
        let opened = self.opened.get(&(said.node, id)).ok_or("it was never opened")?;
        let session = opened.session.clone();
        let place = (said.node, session.key.clone(), session.key_version);
        if let Some(signed) = self.signed.get(&place) {
            // The same answer once more, whatever came with the request.
            return holds(signed.session == id, "another session is signed");
        }
        in_time(opened, said.now)?;
        let key = key_of(keys, &session)?;
        let messages = self.round1(keys, said.node, asked)?;
        let dealt = self.dealt.get(&(said.node, id)).ok_or("it has not dealt")?;
        let round0 = decoded0(&dealt.round0)?;
        let receive_keys: Vec<[u8; 32]> = round0
            .iter()
            .map(|m| m.receive_key.as_slice().try_into().map_err(|_| "a receive key"))
            .collect::<Result<_, _>>()?;
        let context = context::<Ristretto255>(id.as_bytes(), &receive_keys);
        let mut sums = vec![Ristretto255::identity(); usize::from(key.order.threshold().t())];
        for ((member, message), delivery) in
            key.order.members().iter().zip(&messages).zip(&asked.deliveries)
        {
            let points = good_dealing(id, &key.order, &session, member, message, &context)?;
            sums.iter_mut().zip(points).for_each(|(sum, point)| *sum += point);
            let length = delivery.ciphertext.len();
            holds(length == MIN_CIPHERTEXT_BYTES, "a ciphertext's length")?;
        }
        let cancelled = sums.contains(&Ristretto255::identity());
        holds(!cancelled, "what is dealt adds up to nothing")?;
        self.signed.insert(place, Signed { session: id, at: said.ended });
        Ok(())
    }

    /// A refusal to deal or to sign, to somebody who may ask: whether there is the reason that it gives.
    fn reason(&self, keys: &[OrderedKey], said: &Said<'_>, code: &str) -> Found {
        let (session, fits) = match said.request {
            Request::DkgDeal(asked) => (&asked.session, self.round0(keys, said.node, asked).err()),
            Request::DkgSign(asked) => (&asked.session, self.round1(keys, said.node, asked).err()),
            _ => return Ok(()),
        };
        let Ok(id) = SessionId::from_slice(session) else { return Ok(()) };
        let Some(opened) = self.opened.get(&(said.node, id)) else { return Ok(()) };
        let dealt = self.dealt.get(&(said.node, id)).is_some_and(|dealt| dealt.at < said.began);
        let signs = matches!(said.request, Request::DkgSign(_));
        if code == RefusalCode::SessionConflict.code() && (dealt || !signs) {
            // Its own trouble, or what another participant did; but the coordinator changed something.
            let what = fits.as_ref().map_or("", String::as_str);
            holds(fits.is_none(), &format!("says that the session is in conflict: {what}"))?;
        }
        let place = (said.node, opened.session.key.clone(), opened.session.key_version);
        let signed = self.signed.get(&place);
        let signed = signed.is_some_and(|signed| signed.session == id && signed.at < said.began);
        let waits = signs && signed && !self.certified.contains(&place);
        let unknown = code == RefusalCode::SessionUnknown.code();
        holds(!(waits && unknown), "does not know a session that it has signed")
    }

    /// Round 0 as a node was shown it: signed by everybody for this session, its own unchanged.
    fn round0(
        &self,
        keys: &[OrderedKey],
        node: NodeId,
        asked: &v1::DkgDealRequest,
    ) -> Result<Vec<v1::Round0>, String> {
        let id = SessionId::from_slice(&asked.session).map_err(|_| "no session id")?;
        let opened = self.opened.get(&(node, id)).ok_or("it was never opened")?;
        let key = key_of(keys, &opened.session)?;
        let members = key.order.members();
        holds(asked.round0.len() == members.len(), "the count of round 0")?;
        for (member, envelope) in members.iter().zip(&asked.round0) {
            let payload = signed_by(PayloadType::Round0, member, envelope)?;
            let said: v1::Round0 =
                strict::decode("Round0", &payload).map_err(|_| "a round 0 is malformed")?;
            let (index, suite) = (said.index, said.suite.as_str());
            about(id, &opened.session, member.index, (&said.session, &said.order, index, suite))?;
            let own = member.node == node;
            holds(!own || envelope.payload == opened.round0.payload, "its own round 0")?;
        }
        let messages = decoded0(&asked.round0)?;
        let mut receive_keys: Vec<&[u8]> =
            messages.iter().map(|m| m.receive_key.as_slice()).collect();
        receive_keys.sort_unstable();
        // Twice the same key: one of the two is not known to its owner, unless both are one liar's.
        let proved = possessed(id, &key.order, &opened.session, &messages).is_ok();
        let twice = receive_keys.windows(2).any(|pair| pair.first() == pair.last());
        holds(!(proved && twice), "a receive key twice")?;
        Ok(messages)
    }

    /// Round 1 as a node was shown it: signed by everybody for this session and over the round 0 that the
    /// node dealt to, its own unchanged, and one ciphertext under each root.
    fn round1(
        &self,
        keys: &[OrderedKey],
        node: NodeId,
        asked: &v1::DkgSignRequest,
    ) -> Result<Vec<v1::Round1>, String> {
        let id = SessionId::from_slice(&asked.session).map_err(|_| "no session id")?;
        let opened = self.opened.get(&(node, id)).ok_or("it was never opened")?;
        let key = key_of(keys, &opened.session)?;
        let members = key.order.members();
        let own = key.order.member(&node).ok_or("no member")?.index;
        // A node that has not dealt cannot know what was changed.
        let Some(dealt) = self.dealt.get(&(node, id)) else { return Ok(Vec::new()) };
        let digest = digests::round0_digest(dealt.round0.iter().map(|e| e.payload.as_slice()));
        holds(asked.round1.len() == members.len(), "the count of round 1")?;
        holds(asked.deliveries.len() == members.len(), "the count of deliveries")?;
        let mut messages = Vec::with_capacity(members.len());
        for ((member, envelope), delivery) in
            members.iter().zip(&asked.round1).zip(&asked.deliveries)
        {
            let payload = signed_by(PayloadType::Round1, member, envelope)?;
            let said: v1::Round1 =
                strict::decode("Round1", &payload).map_err(|_| "a round 1 is malformed")?;
            let (index, suite) = (said.index, said.suite.as_str());
            about(id, &opened.session, member.index, (&said.session, &said.order, index, suite))?;
            holds(said.round0 == digest.as_bytes(), "a round 1 over another round 0")?;
            let is_own = member.node == node;
            holds(!is_own || envelope.payload == dealt.round1.payload, "its own round 1")?;
            let path: Vec<Digest> = delivery
                .path
                .iter()
                .map(|digest| Digest::from_slice(digest).map_err(|_| "a path's digest"))
                .collect::<Result<_, _>>()?;
            if let Ok(root) = Digest::from_slice(&said.ciphertexts_root) {
                let n = key.order.threshold().n();
                let under = merkle::verify(&root, n, own, &delivery.ciphertext, &path);
                let long = path.len() == depth(own.position(), usize::from(n));
                holds(under && long, "a ciphertext that its dealer did not sign")?;
            }
            messages.push(said);
        }
        Ok(messages)
    }

    /// What evidence shows opens nothing that an honest dealer encrypted, unless that dealer is accused.
    fn reveals_nothing(&self, evidence: &Evidence) -> Found {
        if evidence.ephemeral_secret.is_empty() && evidence.static_secret.is_empty() {
            return Ok(());
        }
        let round1 = evidence.round1.as_ref().ok_or("an opening without a message")?;
        let said: v1::Round1 =
            strict::decode("Round1", &round1.payload).map_err(|_| "a malformed message")?;
        for dealt in self.dealt.values().filter(|dealt| dealt.round1.payload != round1.payload) {
            let Ok(other) = strict::decode::<v1::Round1>("Round1", &dealt.round1.payload) else {
                continue;
            };
            let copied = other.ephemeral_key == said.ephemeral_key && other.index != said.index;
            holds(!copied, "it opens what another dealer encrypted")?;
        }
        Ok(())
    }
}

/// Nobody without permission is answered, and nobody of another tenant learns what there is.
fn entitled(said: &Said<'_>) -> Found {
    let deliver = matches!(said.request, Request::PutCertificate(_));
    match (said.guise, said.outcome) {
        (Guise::Own, _) | (_, Err(_)) if said.guise != Guise::Foreigner => Ok(()),
        (Guise::Bystander, Ok(_)) => holds(deliver, "answered without permission"),
        (_, Ok(_)) => Err("answered to another tenant".to_owned()),
        (_, Err(refusal)) => {
            let none = match said.request {
                Request::DkgDeal(_) | Request::DkgSign(_) => RefusalCode::SessionUnknown,
                _ => RefusalCode::KeyUnknown,
            };
            holds(refusal.code == none.code(), &format!("says {} to another tenant", refusal.code))
        }
    }
}

fn addressed(node: NodeId, named: &[u8]) -> Found {
    holds(named == node.as_bytes(), "the request is for another node")
}

/// How many siblings a leaf has on its way to the root: the left half of a tree is the larger one, and whole.
fn depth(position: usize, leaves: usize) -> usize {
    if leaves < 2 {
        return 0;
    }
    let left = leaves.next_power_of_two() / 2;
    let (position, leaves) =
        if position < left { (position, left) } else { (position - left, leaves - left) };
    1 + depth(position, leaves)
}

fn in_time(opened: &Opened, now: UnixSeconds) -> Found {
    holds(now.0 <= opened.at.0 + SESSION_SECONDS + GRACE, "the session's time is over")
}

fn key_of<'a>(keys: &'a [OrderedKey], session: &v1::Session) -> Result<&'a OrderedKey, String> {
    let named = |key: &&OrderedKey| {
        key.id.as_bytes() == session.key.as_slice() && key.version.get() == session.key_version
    };
    let key = keys.iter().find(named).ok_or("no such key")?;
    let order = key.order.digest(key.id, key.version);
    holds(session.order == order.as_bytes(), "another order")?;
    Ok(key)
}

/// The payload of an envelope that this member signed, and nobody else.
fn signed_by(
    kind: PayloadType,
    member: &quorate_documents::Member,
    envelope: &Envelope,
) -> Result<Vec<u8>, String> {
    let alone = envelope.signatures.len() == 1;
    let by = envelope.signatures.iter().all(|s| s.key == member.identity_key.as_bytes());
    holds(alone && by, "a message is signed by somebody else")?;
    let verified =
        Verified::new(kind, envelope.clone()).map_err(|_| "a signature does not verify")?;
    Ok(verified.payload().to_vec())
}

fn about(
    id: SessionId,
    session: &v1::Session,
    at: ParticipantIndex,
    (of, order, index, suite): (&[u8], &[u8], u32, &str),
) -> Found {
    holds(of == id.as_bytes(), "a message of another session")?;
    holds(order == session.order, "a message of another order")?;
    holds(index == u32::from(at.get()), "a message of another index")?;
    holds(suite == Ristretto255::ID, "a message of another suite")
}

fn decoded0(envelopes: &[Envelope]) -> Result<Vec<v1::Round0>, String> {
    let decode = |envelope: &Envelope| strict::decode("Round0", &envelope.payload).ok();
    envelopes.iter().map(decode).collect::<Option<_>>().ok_or_else(|| "a round 0".to_owned())
}

fn statement(
    id: SessionId,
    session: &v1::Session,
    member: &quorate_documents::Member,
    kind: PossessionKind,
    point: &[u8],
) -> Result<PossessionStatement<Ristretto255>, String> {
    Ok(PossessionStatement {
        kind,
        session: id,
        order: Digest::from_slice(&session.order).map_err(|_| "no order")?,
        node: member.node,
        index: member.index,
        point: point.try_into().map_err(|_| "a point's length")?,
    })
}

fn possessed(
    id: SessionId,
    order: &Order,
    session: &v1::Session,
    messages: &[v1::Round0],
) -> Found {
    for (member, message) in order.members().iter().zip(messages) {
        let claim =
            statement(id, session, member, PossessionKind::ReceiveKey, &message.receive_key)?;
        let proof = message.proof.as_slice().try_into().map_err(|_| "a proof's length")?;
        let nothing = Ristretto255::encode_point(&Ristretto255::identity());
        holds(message.receive_key != nothing, "a receive key that everybody knows")?;
        holds(possession::verify(&claim, &proof), "a receive key that its owner does not know")?;
    }
    Ok(())
}

/// Everything about a dealer's message that everybody can check.
fn good_dealing(
    id: SessionId,
    order: &Order,
    session: &v1::Session,
    member: &quorate_documents::Member,
    message: &v1::Round1,
    context: &[u8],
) -> Result<Vec<<Ristretto255 as Suite>::Point>, String> {
    let t = usize::from(order.threshold().t());
    holds(message.commitments.len() == t, "the count of commitments")?;
    let point = |bytes: &[u8]| {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        Ristretto255::decode_point(&bytes).filter(|point| *point != Ristretto255::identity())
    };
    let points = message.commitments.iter().map(|c| point(c)).collect::<Option<Vec<_>>>();
    let points = points.ok_or("a commitment is no point")?;
    let constant = *points.first().ok_or("no constant")?;
    let mut parts: Vec<&[u8]> = vec![context];
    parts.extend(message.commitments.iter().map(Vec::as_slice));
    parts.push(&message.ephemeral_key);
    let pop = message.proof_of_possession.as_slice().try_into().map_err(|_| "a proof's length")?;
    let known = schnorr::verify::<Ristretto255>(&constant, &pop, &parts);
    holds(known, "a constant that its dealer does not know")?;
    let kind = PossessionKind::Ephemeral;
    let claim = statement(id, session, member, kind, &message.ephemeral_key)?;
    let proof = message.ephemeral_proof.as_slice().try_into().map_err(|_| "a proof's length")?;
    holds(possession::verify(&claim, &proof), "an ephemeral key that its dealer does not know")?;
    Ok(points)
}
