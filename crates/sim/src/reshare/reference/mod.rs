//! What an honest node may answer in a reshare, written once more from `spec/reshare.md` and not from the node's code.
//!
//! For each request it says by which checks, 1 to 23, it must be refused, in the order in which the text asks them; or that none
//! does. A check whose removal does no visible harm yet, since another stands behind it, is missed all the same: the node then
//! answers what it should have refused, or refuses it for another reason, or blames another node.

mod certificates;
mod known;
mod looks;

pub use known::{Known, Law};
pub use looks::{Look, Looks, Place, Terms};

use std::collections::BTreeSet;

use quorate_coordinator::ceremony::reshare::judge_reshare;
use quorate_documents::Order;
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::dkg::merkle;
use quorate_types::limits::{
    MAX_PROMISES_PER_PARENT, MAX_SESSIONS_PER_PRINCIPAL, SESSION_PLACE_SECONDS, SESSION_SECONDS,
};
use quorate_types::{Digest, NodeId, SessionId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{RefusalCode, digests, strict};

use super::check::Invariant;
use crate::network::Guise;

/// What one honest node answered to one request, and what it had when it did.
pub struct Said<'a> {
    /// The node.
    pub node: NodeId,
    /// Under whose name it was asked.
    pub guise: Guise,
    /// The principal of that name.
    pub opener: &'a [u8],
    /// The node's own clock.
    pub now: UnixSeconds,
    /// What it was asked.
    pub request: &'a Request,
    /// What it answered.
    pub outcome: &'a Outcome,
    /// What it had.
    pub known: &'a Known,
}

/// By which check a request must be refused.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    code: RefusalCode,
    why: String,
    /// Who is to be blamed, where somebody is.
    blamed: Option<NodeId>,
}

/// Checks that may be asked in any order: one of them refuses.
type Group = Vec<Ground>;

fn ground(code: RefusalCode, why: impl Into<String>) -> Ground {
    Ground { code, why: why.into(), blamed: None }
}

/// Collects what refuses a request: the first group in which something does.
#[derive(Default)]
struct Refusing(Group);

impl Refusing {
    /// One check, after all before it.
    fn by(&mut self, refuses: bool, code: RefusalCode, why: &str) {
        if self.0.is_empty() && refuses {
            self.0.push(ground(code, why));
        }
    }

    fn group(&mut self, group: Group) {
        if self.0.is_empty() {
            self.0 = group;
        }
    }

    const fn is_refused(&self) -> bool {
        !self.0.is_empty()
    }
}

/// What an answer should have been.
struct Expected {
    refusing: Group,
    terms: Option<Terms>,
    /// Whether what is decrypted may be wrong, which only the node can see.
    may_accuse: bool,
}

/// The session that a request is about.
#[must_use]
pub fn session_of(request: &Request) -> Option<&v1::Session> {
    match request {
        Request::ReshareOpen(asked) => asked.session.as_ref(),
        Request::ReshareDeal(asked) => asked.session.as_ref(),
        Request::ReshareSign(asked) => asked.session.as_ref(),
        _ => None,
    }
}

/// Whether answers to a request are looked at.
#[must_use]
pub const fn is_looked_at(request: &Request) -> bool {
    matches!(
        request,
        Request::ReshareState(_)
            | Request::ReshareOpen(_)
            | Request::ReshareDeal(_)
            | Request::ReshareSign(_)
            | Request::PutCertificate(_)
    )
}

/// The second account.
#[derive(Debug, Clone)]
pub struct Reference {
    /// All documents.
    pub law: Law,
    looks: Looks,
    verified: certificates::Verified,
}

impl Reference {
    /// With all documents that there are.
    #[must_use]
    pub fn new(law: Law) -> Self {
        Self { law, looks: Looks::default(), verified: certificates::Verified::default() }
    }

    /// What a node has that is asked this.
    #[must_use]
    pub fn known(&self, node: &crate::node::SimNode, request: &Request) -> Known {
        Known::of(node, &self.law, session_of(request).map(digests::session_id))
    }

    /// What of an answer should not have been said.
    pub fn saw(&mut self, said: &Said<'_>) -> Vec<(Invariant, String)> {
        let Some(expected) = self.expected(said) else { return Vec::new() };
        let mut wrong = Vec::new();
        let method = said.request.method();
        let mut add = |invariant, what: String| {
            wrong.push((invariant, format!("{}: {method}: {what}", said.node)));
        };
        let entitled = matches!(said.guise, Guise::Own);
        match (said.outcome, expected.refusing.as_slice()) {
            (Ok(reply), []) => {
                if let Err(what) = self.content(said, reply, expected.terms.as_ref()) {
                    add(Invariant::AcceptsWhatFits, what);
                }
            }
            (Ok(_), [first, ..]) => {
                let invariant =
                    if entitled { Invariant::AcceptsWhatFits } else { Invariant::OnlyTheEntitled };
                add(invariant, format!("answered although {}", first.why));
            }
            (Err(refusal), grounds) => {
                let code = refusal.code.as_str();
                // A disk that is full, or one that breaks.
                if code == RefusalCode::StorageFailed.code() {
                    return wrong;
                }
                let named: Vec<&Ground> =
                    grounds.iter().filter(|it| it.code.code() == code).collect();
                let accuses = code == RefusalCode::DealerFault.code();
                if named.is_empty() && !(grounds.is_empty() && accuses && expected.may_accuse) {
                    let why = grounds.first().map_or("nothing is wrong", |it| it.why.as_str());
                    let text = format!("says {code} ({}) where {why}", refusal.message);
                    add(Invariant::RefusesWithReason, text);
                } else if accuses && let Some(terms) = &expected.terms {
                    let blamed: Vec<NodeId> = named.iter().filter_map(|it| it.blamed).collect();
                    if let Err(what) = accusation(terms, refusal, &blamed) {
                        add(Invariant::AccusesJustly, what);
                    }
                }
            }
        }
        wrong
    }

    fn expected(&mut self, said: &Said<'_>) -> Option<Expected> {
        let mut refusing = Refusing::default();
        let named = match said.request {
            Request::ReshareState(asked) => &asked.node,
            Request::ReshareOpen(asked) => &asked.node,
            Request::ReshareDeal(asked) => &asked.node,
            Request::ReshareSign(asked) => &asked.node,
            Request::PutCertificate(asked) => &asked.node,
            _ => return None,
        };
        let (mut terms, mut may_accuse) = (None, false);
        if let Request::PutCertificate(asked) = said.request {
            self.put(said, asked, &mut refusing)?;
        } else {
            refusing.by(named != said.node.as_bytes(), RefusalCode::WrongNode, "it is another");
            let foreign = said.guise == Guise::Foreigner;
            refusing.by(foreign, RefusalCode::KeyUnknown, "the caller is of another tenant");
            if let Some(session) = session_of(said.request) {
                self.of_our_key(session, &mut refusing);
            }
            let bystander = said.guise == Guise::Bystander;
            refusing.by(bystander, RefusalCode::NotPermitted, "the caller may not coordinate");
            if let Some(session) = session_of(said.request) {
                terms = self.session(said, session, &mut refusing);
            }
        }
        if let Some(terms) = &terms {
            match said.request {
                Request::ReshareOpen(_) => self.open(said, terms, &mut refusing),
                Request::ReshareDeal(asked) => self.deal(said, terms, asked, &mut refusing),
                Request::ReshareSign(asked) => {
                    self.sign(said, terms, asked, &mut refusing);
                    may_accuse = true;
                }
                _ => {}
            }
        }
        Some(Expected { refusing: refusing.0, terms, may_accuse })
    }

    fn of_our_key(&self, session: &v1::Session, refusing: &mut Refusing) {
        let key = &self.law.key;
        let other = session.key != key.id.as_bytes();
        refusing.by(other, RefusalCode::KeyUnknown, "there is no such key");
    }

    /// Checks 1 to 7.
    fn session(
        &self,
        said: &Said<'_>,
        session: &v1::Session,
        refusing: &mut Refusing,
    ) -> Option<Terms> {
        let (law, known) = (&self.law, said.known);
        let other = session.key_version != law.key.version.get();
        refusing.by(other, RefusalCode::KeyVersionUnknown, "the key has no such version");
        let mismatch = RefusalCode::OrderMismatch;
        let order = known.in_force();
        refusing.by(order.is_none(), mismatch, "orders contend");
        let order = order?;
        let members = u32::try_from(order.members().len()).unwrap_or(u32::MAX);
        refusing.by(members < known.minimum, mismatch, "the committee is below the key's minimum");
        let other = session.order != law.digest(order).as_bytes();
        refusing.by(other, mismatch, "its order is not the one in force");
        let named = |place: &NodeId, key| known.named.contains(&(*place, key));
        let stranger = order.members().iter().any(|it| !named(&it.node, it.identity_key));
        refusing.by(stranger, mismatch, "the roster does not name a member so");
        let not_ready = known.highest.is_none();
        refusing.by(not_ready, RefusalCode::KeyNotReady, "the node has no certificate");
        let (_, highest) = known.highest.as_ref()?;
        let other = session.parent != highest.generation().as_bytes();
        refusing.by(other, RefusalCode::GenerationNotHeld, "its parent is another generation");
        if refusing.is_refused() {
            return None;
        }
        let terms = match Terms::new(session, order, highest) {
            Ok(terms) => terms,
            Err(why) => {
                refusing.by(true, mismatch, why);
                return None;
            }
        };
        let attempts = 1..=order.max_attempts();
        refusing.by(!attempts.contains(&session.attempt), mismatch, "its attempt is none");
        refusing.by(session.nonce.len() != 32, mismatch, "its nonce is not 32 bytes");
        let mut outside = terms.places.iter().filter(|place| place.index == 0);
        let stranger = outside.any(|place| !named(&place.node, place.key));
        refusing.by(stranger, mismatch, "the roster does not name a dealer so");
        let own = terms.places.iter().any(|place| place.node == said.node);
        refusing.by(!own, mismatch, "the node has no place in it");
        (!refusing.is_refused()).then_some(terms)
    }

    fn own<'a>(said: &Said<'_>, terms: &'a Terms) -> Option<&'a Place> {
        terms.places.iter().find(|place| place.node == said.node)
    }

    /// Check 10.
    fn promised_out(said: &Said<'_>, terms: &Terms) -> bool {
        let same = |order: Digest| order.as_bytes() == terms.session.order.as_slice();
        let parent = Some(terms.parent.generation());
        let promises = said.known.promises.iter();
        let count = promises
            .filter(|it| it.statement.parent() == parent && same(it.statement.order()))
            .count();
        count >= MAX_PROMISES_PER_PARENT
    }

    /// Checks 8 to 12.
    fn open(&self, said: &Said<'_>, terms: &Terms, refusing: &mut Refusing) {
        let known = said.known;
        if let Some(row) = &known.session {
            let over = said.now.0 >= row.expires_at;
            refusing.by(over, RefusalCode::SessionUnknown, "the session's time is over");
            return;
        }
        let signed = known.promises.iter().any(|it| it.session == terms.id.as_bytes());
        refusing.by(signed, RefusalCode::AlreadySigned, "the session was signed");
        let other = terms.session.roster != known.roster.as_bytes();
        refusing.by(other, RefusalCode::OrderMismatch, "its roster is not the one in force");
        let every = terms.order.refresh_seconds();
        let due = every > 0 && said.now.0 >= known.taken_at.saturating_add(every);
        let early = terms.refresh && !due;
        refusing.by(early, RefusalCode::RefreshNotDue, "a refresh is not due");
        let out = Self::promised_out(said, terms);
        refusing.by(out, RefusalCode::AttemptsExhausted, "the promises of the parent are used up");
        let mut group = Group::new();
        let holds = known.holds(&self.law, terms.parent.generation());
        let let_in = Self::own(said, terms).is_some_and(|own| own.enters && !own.deals);
        let shows = Self::own(said, terms).is_some_and(|own| own.parent_index != 0) && holds;
        if !shows && !let_in {
            group.push(ground(RefusalCode::ShareNotHeld, "the node has no share of the parent"));
        }
        let open = || known.open.iter().filter(|it| said.now.0 < it.expires_at);
        let ours = || open().filter(|it| it.opener == said.opener);
        let old = |expires_at: u64| {
            said.now.0 >= expires_at.saturating_sub(SESSION_SECONDS) + SESSION_PLACE_SECONDS
        };
        let makes_room = ours().any(|it| !it.place.is_empty() && old(it.expires_at));
        if ours().count() >= MAX_SESSIONS_PER_PRINCIPAL && !makes_room {
            group.push(ground(RefusalCode::SessionLimit, "the caller has all its places"));
        }
        refusing.group(group);
    }

    fn opened(said: &Said<'_>, refusing: &mut Refusing) {
        let row = said.known.session.as_ref();
        let open = row.is_some_and(|row| said.now.0 < row.expires_at);
        refusing.by(!open, RefusalCode::SessionUnknown, "the session is not open");
    }

    fn deal(
        &mut self,
        said: &Said<'_>,
        terms: &Terms,
        asked: &v1::ReshareDealRequest,
        refusing: &mut Refusing,
    ) {
        Self::opened(said, refusing);
        let deals = Self::own(said, terms).is_some_and(|own| own.deals);
        refusing.by(!deals, RefusalCode::SessionConflict, "the node does not deal");
        Self::same_set(said, &asked.round0, refusing);
        self.round0(said, terms, &asked.round0, refusing);
        let holds = said.known.holds(&self.law, terms.parent.generation());
        refusing.by(!holds, RefusalCode::ShareNotHeld, "the node has no share of the parent");
    }

    /// The last of check 13.
    fn same_set(said: &Said<'_>, round0: &[Envelope], refusing: &mut Refusing) {
        let dealt = said.known.session.as_ref().map(|row| row.round0_digest.as_slice());
        let dealt = dealt.filter(|dealt| !dealt.is_empty());
        let payloads = round0.iter().map(|envelope| envelope.payload.as_slice());
        let digest = digests::reshare_round0_digest(payloads);
        let other = dealt.is_some_and(|dealt| dealt != digest.as_bytes());
        refusing.by(other, RefusalCode::SessionConflict, "the node has dealt to another round 0");
    }

    /// Checks 13 to 17.
    fn round0(
        &mut self,
        said: &Said<'_>,
        terms: &Terms,
        round0: &[Envelope],
        refusing: &mut Refusing,
    ) {
        if refusing.is_refused() {
            return;
        }
        let relay = RefusalCode::RelayFault;
        refusing.by(round0.len() != terms.places.len(), relay, "there is not one round 0 of each");
        if refusing.is_refused() {
            return;
        }
        let own = said.known.session.as_ref().and_then(|row| row.round0.as_ref());
        let mut faults = Group::new();
        for (place, envelope) in terms.places.iter().zip(round0) {
            match self.looks.round0(terms, place, envelope) {
                Look::Good => {}
                Look::Transplanted(why) => refusing.by(true, relay, why),
                Look::Wrong(why) => faults.push(Ground {
                    blamed: Some(place.node),
                    ..ground(RefusalCode::DealerFault, why)
                }),
            }
            let changed =
                place.node == said.node && own.is_none_or(|own| own.payload != envelope.payload);
            refusing.by(changed, relay, "the node's own round 0 is another");
        }
        // The first is found first.
        faults.truncate(1);
        refusing.group(faults);
        let keys = round0.iter().filter_map(|envelope| {
            let said: v1::ReshareRound0 =
                strict::decode("ReshareRound0", &envelope.payload).ok()?;
            Some(said.receive_key)
        });
        let keys: BTreeSet<Vec<u8>> = keys.collect();
        refusing.by(keys.len() < round0.len(), relay, "two have one key");
    }

    /// Checks 10, 13 to 17 once more, and 18 to 21.
    fn sign(
        &mut self,
        said: &Said<'_>,
        terms: &Terms,
        asked: &v1::ReshareSignRequest,
        refusing: &mut Refusing,
    ) {
        let promises = &said.known.promises;
        if promises.iter().any(|it| it.session == terms.id.as_bytes()) {
            return;
        }
        Self::opened(said, refusing);
        let Some(own) = Self::own(said, terms) else { return };
        let conflict = RefusalCode::SessionConflict;
        refusing.by(own.index == 0, conflict, "the node is no member");
        let out = Self::promised_out(said, terms);
        refusing.by(out, RefusalCode::AttemptsExhausted, "the promises of the parent are used up");
        Self::same_set(said, &asked.round0, refusing);
        let row = said.known.session.as_ref();
        let dealt = row.map(|row| row.round1_digest.clone()).unwrap_or_default();
        refusing.by(own.deals && dealt.is_empty(), conflict, "the node has not dealt");
        self.round0(said, terms, &asked.round0, refusing);
        if refusing.is_refused() {
            return;
        }
        let relay = RefusalCode::RelayFault;
        let dealers = terms.dealers();
        let short = asked.round1.len() != dealers.len();
        refusing.by(short, relay, "there is not one round 1 of each dealer");
        if refusing.is_refused() {
            return;
        }
        let mut group = Group::new();
        for (place, envelope) in dealers.iter().zip(&asked.round1) {
            let look = self.looks.round1(terms, place, &asked.round0, envelope);
            match look {
                Look::Good => {}
                Look::Transplanted(why) => refusing.by(true, relay, why),
                Look::Wrong(why) => group.push(Ground {
                    blamed: Some(place.node),
                    ..ground(RefusalCode::DealerFault, why)
                }),
            }
            let changed = place.node == said.node
                && dealing_digest(&envelope.payload).as_bytes() != dealt.as_slice();
            refusing.by(changed, relay, "the node's own round 1 is another");
        }
        if asked.deliveries.len() != dealers.len() {
            group.push(ground(relay, "there is not one delivery of each dealer"));
        }
        let to = u16::try_from(own.index).ok();
        for (envelope, delivery) in asked.round1.iter().zip(&asked.deliveries) {
            if !under_root(&terms.order, to, envelope, delivery) {
                group.push(ground(relay, "a ciphertext is not under its dealer's root"));
            }
        }
        refusing.group(group);
    }

    /// What stands in an answer that was rightly given.
    fn content(&self, said: &Said<'_>, reply: &Reply, terms: Option<&Terms>) -> Result<(), String> {
        let known = said.known;
        match reply {
            Reply::ReshareState(reply) => {
                let highest = known.highest.as_ref();
                let shown = reply.certificate.as_ref() == highest.map(|(envelope, _)| envelope);
                let generation = highest.map(|(_, statement)| statement.generation());
                let holds = generation.is_some_and(|it| known.holds(&self.law, it));
                let shown_promises: BTreeSet<&[u8]> =
                    reply.promised.iter().map(|it| it.payload.as_slice()).collect();
                let promises = known.promises.iter().map(|it| it.payload.as_slice());
                let promised = shown_promises == promises.collect();
                (shown && holds == reply.holds && promised)
                    .then_some(())
                    .ok_or_else(|| "it shows what it does not have".to_owned())
            }
            Reply::ReshareOpen(reply) => {
                let again = known.session.as_ref().and_then(|row| row.round0.as_ref());
                let same = again.is_none_or(|first| reply.round0.as_ref() == Some(first));
                same.then_some(()).ok_or_else(|| "another receive key".to_owned())
            }
            Reply::ReshareSign(reply) => {
                let id = terms.map(|terms| terms.id.as_bytes().to_vec());
                let first = known.promises.iter().find(|it| Some(&it.session) == id.as_ref());
                let payload = reply.statement.as_ref().map(|it| &it.payload);
                let same = first.is_none_or(|first| payload == Some(&first.payload));
                same.then_some(()).ok_or_else(|| "another statement than before".to_owned())
            }
            Reply::PutCertificate(reply) => self.acknowledged(said, reply),
            _ => Ok(()),
        }
    }
}

/// The digest of a dealing, as a node keeps it of its own.
fn dealing_digest(payload: &[u8]) -> Digest {
    quorate_wire::Transcript::new("dkg-round1-payload").field(payload).digest()
}

/// Check 19, and how many bytes a ciphertext has.
fn under_root(order: &Order, to: Option<u16>, round1: &Envelope, delivery: &v1::Delivery) -> bool {
    let said: Result<v1::Round1, _> = strict::decode("Round1", &round1.payload);
    let root = said.ok().and_then(|said| Digest::from_slice(&said.ciphertexts_root).ok());
    let path: Option<Vec<Digest>> =
        delivery.path.iter().map(|digest| Digest::from_slice(digest).ok()).collect();
    let to = to
        .and_then(|to| quorate_types::ParticipantIndex::new(u32::from(to), order.threshold()).ok());
    match (root, path, to) {
        (Some(root), Some(path), Some(to)) => {
            merkle::verify(&root, order.threshold().n(), to, &delivery.ciphertext, &path)
        }
        // A root that is none is its dealer's.
        (None, _, _) => true,
        _ => false,
    }
}

/// An accusation convicts somebody, and one of those who are to be blamed where that is known.
fn accusation(terms: &Terms, refusal: &v1::Refusal, blamed: &[NodeId]) -> Result<(), String> {
    let evidence = refusal.evidence.as_ref().ok_or("it accuses without evidence")?;
    let (convicted, _) = judge_reshare(&terms.order, &terms.parent, evidence)
        .map_err(|reason| format!("its evidence shows nothing: {reason}"))?;
    let right = blamed.is_empty() || blamed.contains(&convicted);
    right.then_some(()).ok_or_else(|| format!("it convicts {convicted}"))
}

/// What an honest coordinator relays: round 0 and round 1 of those who take part, as they were signed and good in themselves.
impl Reference {
    /// What of a request should not have been sent.
    #[must_use]
    pub fn relays(
        &mut self,
        request: &Request,
        (order, parent): (&Order, &quorate_documents::Statement),
    ) -> Option<String> {
        let session = session_of(request)?;
        let terms = Terms::new(session, order, parent).ok()?;
        let (round0, round1, deliveries): (&[Envelope], &[Envelope], &[v1::Delivery]) =
            match request {
                Request::ReshareDeal(asked) => (&asked.round0, &[], &[]),
                Request::ReshareSign(asked) => (&asked.round0, &asked.round1, &asked.deliveries),
                _ => return None,
            };
        let signs = matches!(request, Request::ReshareSign(_));
        if round0.len() != terms.places.len() {
            return Some("a count of round 0".to_owned());
        }
        for (place, envelope) in terms.places.iter().zip(round0) {
            match self.looks.round0(&terms, place, envelope) {
                Look::Good => {}
                Look::Transplanted(why) | Look::Wrong(why) => {
                    return Some(format!("round 0 of {}: {why}", place.node));
                }
            }
        }
        let named = match request {
            Request::ReshareSign(asked) => NodeId::from_slice(&asked.node).ok(),
            _ => None,
        };
        let to = terms.places.iter().find(|place| Some(place.node) == named);
        let to = to.and_then(|place| u16::try_from(place.index).ok());
        let dealers = terms.dealers();
        if signs && (round1.len() != dealers.len() || deliveries.len() != dealers.len()) {
            return Some("a count of round 1".to_owned());
        }
        for ((place, envelope), delivery) in dealers.iter().zip(round1).zip(deliveries) {
            match self.looks.round1(&terms, place, round0, envelope) {
                Look::Good => {}
                Look::Transplanted(why) | Look::Wrong(why) => {
                    return Some(format!("round 1 of {}: {why}", place.node));
                }
            }
            if !under_root(&terms.order, to, envelope, delivery) {
                return Some(format!("a ciphertext that {} did not sign", place.node));
            }
        }
        None
    }

    /// The id of a session.
    #[must_use]
    pub fn id(session: &v1::Session) -> SessionId {
        digests::session_id(session)
    }
}
