//! Driving the coordinator's machines: one by itself, or many with their rounds together in one request.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use prost::Message;
use quorate_coordinator::ceremony::{self as dkg, Dkg, Finish, FinishOutcome, reshare};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_types::NodeId;
use quorate_types::limits::{MAX_CEREMONIES_PER_REQUEST, MAX_PARTICIPANTS_PER_REQUEST};
use quorate_wire::proto::v1;
use tokio::task::JoinSet;
use v1::ceremony_call::Call;
use v1::ceremony_result::Result as Answer;

use crate::client::Client;
use crate::evaluate::failure;
use crate::keys::Progress;
use crate::transport::{CallError, Method, Transport, Unreachable, may_pass};

/// How much longer than one request a round may take, for repetitions.
const ROUND_GRACE: Duration = Duration::from_secs(60);

/// Bytes of rounds in one request; the largest request is twice as long.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// How long to wait before rounds are sent again that a node could not take just now.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + core::marker::Send);

/// What a machine asks one node, by itself or among the rounds of others.
pub(crate) trait Round: core::marker::Send + 'static {
    /// What the node answers.
    type Reply: core::marker::Send + 'static;
    /// Asks one node for this alone.
    fn ask(
        self,
        transport: &Transport,
        node: NodeId,
    ) -> impl Future<Output = Result<Self::Reply, CallError>> + core::marker::Send;
    /// The same as one of many.
    fn into_call(self) -> Call;
    /// What a node answered to one of many; none where it is no answer to any such round.
    fn reply(answer: Answer) -> Option<Self::Reply>;
}

/// What the coordinator's machines have in common.
pub(crate) trait Ceremony {
    type Outcome;
    type Request: Round;
    /// Steps that a person sees.
    const STEPS: u8;
    /// Before the machines that run together are asked what to send.
    fn ready(_all: &mut [Self])
    where
        Self: Sized,
    {
    }
    fn poll(&mut self) -> Vec<(NodeId, Self::Request)>;
    fn on_reply(&mut self, node: NodeId, reply: <Self::Request as Round>::Reply);
    fn on_failure(&mut self, node: NodeId, failure: Failure);
    fn on_timeout(&mut self);
    fn outcome(&self) -> Option<Self::Outcome>;
    /// The step and what it is.
    fn step(&self) -> (u8, String);
}

impl Round for dkg::Request {
    type Reply = dkg::Reply;

    async fn ask(self, transport: &Transport, node: NodeId) -> Result<dkg::Reply, CallError> {
        use dkg::Reply;
        Ok(match &self {
            Self::DkgOpen(q) => Reply::DkgOpen(transport.call(node, Method::DkgOpen, q).await?),
            Self::DkgDeal(q) => Reply::DkgDeal(transport.call(node, Method::DkgDeal, q).await?),
            Self::DkgSign(q) => Reply::DkgSign(transport.call(node, Method::DkgSign, q).await?),
            Self::DkgSignature(q) => {
                Reply::DkgSign(transport.call(node, Method::DkgSignature, q).await?)
            }
            Self::PutCertificate(q) => {
                Reply::PutCertificate(transport.call(node, Method::PutCertificate, q).await?)
            }
        })
    }

    fn into_call(self) -> Call {
        match self {
            Self::DkgOpen(request) => Call::Open(request),
            Self::DkgDeal(request) => Call::Deal(request),
            Self::DkgSign(request) => Call::Sign(request),
            Self::DkgSignature(request) => Call::Signature(request),
            Self::PutCertificate(request) => Call::Certificate(request),
        }
    }

    fn reply(answer: Answer) -> Option<dkg::Reply> {
        Some(match answer {
            Answer::Open(reply) => dkg::Reply::DkgOpen(reply),
            Answer::Deal(reply) => dkg::Reply::DkgDeal(reply),
            Answer::Sign(reply) => dkg::Reply::DkgSign(reply),
            Answer::Certificate(reply) => dkg::Reply::PutCertificate(reply),
            _ => return None,
        })
    }
}

impl Round for reshare::Request {
    type Reply = reshare::Reply;

    async fn ask(self, transport: &Transport, node: NodeId) -> Result<reshare::Reply, CallError> {
        use reshare::Reply;
        Ok(match &self {
            Self::State(q) => Reply::State(transport.call(node, Method::ReshareState, q).await?),
            Self::Open(q) => Reply::Open(transport.call(node, Method::ReshareOpen, q).await?),
            Self::Deal(q) => Reply::Deal(transport.call(node, Method::ReshareDeal, q).await?),
            Self::Sign(q) => Reply::Sign(transport.call(node, Method::ReshareSign, q).await?),
            Self::PutCertificate(q) => {
                Reply::PutCertificate(transport.call(node, Method::PutCertificate, q).await?)
            }
        })
    }

    fn into_call(self) -> Call {
        match self {
            Self::State(request) => Call::ReshareState(request),
            Self::Open(request) => Call::ReshareOpen(request),
            Self::Deal(request) => Call::ReshareDeal(request),
            Self::Sign(request) => Call::ReshareSign(request),
            Self::PutCertificate(request) => Call::Certificate(request),
        }
    }

    fn reply(answer: Answer) -> Option<reshare::Reply> {
        Some(match answer {
            Answer::ReshareState(reply) => reshare::Reply::State(reply),
            Answer::ReshareOpen(reply) => reshare::Reply::Open(reply),
            Answer::ReshareDeal(reply) => reshare::Reply::Deal(reply),
            Answer::ReshareSign(reply) => reshare::Reply::Sign(reply),
            Answer::Certificate(reply) => reshare::Reply::PutCertificate(reply),
            _ => return None,
        })
    }
}

/// Steps of making a key: its document, rounds 0 to 2, the certificate.
pub(crate) const DKG_STEPS: u8 = 5;

impl Ceremony for Dkg {
    type Outcome = dkg::Outcome;
    type Request = dkg::Request;
    const STEPS: u8 = DKG_STEPS;
    fn poll(&mut self) -> Vec<(NodeId, dkg::Request)> {
        self.poll().into_iter().map(|send| (send.node, send.request)).collect()
    }
    fn on_reply(&mut self, node: NodeId, reply: dkg::Reply) {
        self.on_reply(node, reply);
    }
    fn on_failure(&mut self, node: NodeId, failure: Failure) {
        self.on_failure(node, failure);
    }
    fn on_timeout(&mut self) {
        self.on_timeout();
    }
    fn outcome(&self) -> Option<dkg::Outcome> {
        self.outcome()
    }
    fn step(&self) -> (u8, String) {
        use dkg::Step;
        let step = self.step();
        let number = match step {
            Step::Open => 2,
            Step::Deal => 3,
            Step::Sign => 4,
            Step::Deliver | Step::Over => 5,
        };
        (number, step.to_string())
    }
}

impl Ceremony for Finish {
    type Outcome = FinishOutcome;
    type Request = dkg::Request;
    const STEPS: u8 = DKG_STEPS;
    fn poll(&mut self) -> Vec<(NodeId, dkg::Request)> {
        self.poll().into_iter().map(|send| (send.node, send.request)).collect()
    }
    fn on_reply(&mut self, node: NodeId, reply: dkg::Reply) {
        self.on_reply(node, reply);
    }
    fn on_failure(&mut self, node: NodeId, failure: Failure) {
        self.on_failure(node, failure);
    }
    fn on_timeout(&mut self) {
        self.on_timeout();
    }
    fn outcome(&self) -> Option<FinishOutcome> {
        self.outcome()
    }
    fn step(&self) -> (u8, String) {
        match self.certificate() {
            None => (4, "signatures (round 2)".into()),
            Some(_) => (5, "the certificate to arrive".into()),
        }
    }
}

impl Ceremony for reshare::Reshare {
    type Outcome = reshare::Outcome;
    type Request = reshare::Request;
    const STEPS: u8 = 6;
    fn poll(&mut self) -> Vec<(NodeId, reshare::Request)> {
        self.poll().into_iter().map(|send| (send.node, send.request)).collect()
    }
    fn on_reply(&mut self, node: NodeId, reply: reshare::Reply) {
        self.on_reply(node, reply);
    }
    fn on_failure(&mut self, node: NodeId, failure: Failure) {
        self.on_failure(node, failure);
    }
    fn on_timeout(&mut self) {
        self.on_timeout();
    }
    fn outcome(&self) -> Option<reshare::Outcome> {
        self.outcome()
    }
    fn step(&self) -> (u8, String) {
        use reshare::Step;
        let step = self.step();
        let number = match step {
            Step::Survey => 1,
            Step::Carry => 2,
            Step::Open => 3,
            Step::Deal => 4,
            Step::Sign => 5,
            Step::Deliver | Step::Over => 6,
        };
        (number, step.to_string())
    }
}

impl Client {
    /// Relays between the nodes until the outcome is there.
    pub(crate) async fn drive_ceremony<C: Ceremony>(
        &self,
        mut ceremony: C,
        progress: OnProgress<'_>,
    ) -> (C::Outcome, BTreeMap<NodeId, Unreachable>) {
        let mut asking = JoinSet::new();
        let mut reasons = BTreeMap::new();
        let mut shown = 0;
        let patience = self.inner.transport.timeouts().ceremony + ROUND_GRACE;
        let mut round_ends = tokio::time::Instant::now() + patience;
        loop {
            if let Some(outcome) = ceremony.outcome() {
                return (outcome, reasons);
            }
            let (step, what) = ceremony.step();
            if step != shown {
                shown = step;
                round_ends = tokio::time::Instant::now() + patience;
                progress(Progress { step, of: C::STEPS, what });
            }
            for (node, request) in ceremony.poll() {
                let transport = self.inner.transport.once();
                asking.spawn(async move {
                    let answer = request.ask(&transport, node).await;
                    if matches!(&answer, Err(CallError::Refused(it)) if may_pass(it)) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    (node, answer)
                });
            }
            let joined = tokio::time::timeout_at(round_ends, asking.join_next()).await;
            match joined {
                Ok(Some(Ok((node, Ok(reply))))) => ceremony.on_reply(node, reply),
                Ok(Some(Ok((node, Err(CallError::Refused(refusal)))))) => {
                    ceremony.on_failure(node, Failure::Refused(refusal));
                }
                Ok(Some(Ok((node, Err(CallError::Unreachable(unreachable)))))) => {
                    ceremony.on_failure(node, failure(&unreachable));
                    reasons.insert(node, unreachable);
                }
                Ok(Some(Err(_))) => {}
                // Nothing is under way, or not in time.
                Ok(None) | Err(_) => {
                    ceremony.on_timeout();
                    round_ends = tokio::time::Instant::now() + patience;
                }
            }
        }
    }

    /// Relays between the nodes, all ceremonies' rounds together, until each has come to an end.
    pub(crate) async fn relay<C: Ceremony + core::marker::Send + 'static>(
        &self,
        mut ceremonies: Vec<C>,
    ) -> (Vec<Option<C::Outcome>>, BTreeMap<NodeId, Unreachable>) {
        let mut reasons = BTreeMap::new();
        loop {
            C::ready(&mut ceremonies);
            let mut due: BTreeMap<NodeId, Vec<(usize, Call)>> = BTreeMap::new();
            for (at, ceremony) in ceremonies.iter_mut().enumerate() {
                for (node, request) in ceremony.poll() {
                    due.entry(node).or_default().push((at, request.into_call()));
                }
            }
            if due.is_empty() {
                return (ceremonies.iter().map(Ceremony::outcome).collect(), reasons);
            }
            let mut asking = JoinSet::new();
            for (node, rounds) in due {
                for (places, calls) in batches(rounds) {
                    let client = self.clone();
                    asking
                        .spawn(async move { (node, client.ask_rounds(node, places, calls).await) });
                }
            }
            let mut answers = Vec::new();
            let mut pause = false;
            while let Some(joined) = asking.join_next().await {
                let Ok((node, (places, result))) = joined else { continue };
                match result {
                    Ok(replies) => answers.extend(
                        places.into_iter().zip(replies).map(|(at, reply)| (at, node, reply)),
                    ),
                    Err(error) => {
                        let failed = match error {
                            CallError::Refused(refusal) => {
                                pause |= may_pass(&refusal);
                                Failure::Refused(refusal)
                            }
                            CallError::Unreachable(unreachable) => {
                                let failed = failure(&unreachable);
                                reasons.insert(node, unreachable);
                                failed
                            }
                        };
                        answers
                            .extend(places.into_iter().map(|at| (at, node, Err(failed.clone()))));
                    }
                }
            }
            if pause {
                tokio::time::sleep(PAUSE).await;
            }
            // Checking what nodes dealt takes a millisecond each.
            let checked = tokio::task::spawn_blocking(move || {
                for (at, node, answer) in answers {
                    let Some(ceremony) = ceremonies.get_mut(at) else { continue };
                    match answer.and_then(answer_of::<C>) {
                        Ok(reply) => ceremony.on_reply(node, reply),
                        Err(failed) => ceremony.on_failure(node, failed),
                    }
                }
                ceremonies
            });
            match checked.await {
                Ok(back) => ceremonies = back,
                // Nothing in it panics; without the machines there is nothing to go on with.
                Err(_) => return (Vec::new(), reasons),
            }
        }
    }

    /// Sends a node some rounds in one request.
    async fn ask_rounds(
        &self,
        node: NodeId,
        places: Vec<usize>,
        calls: Vec<v1::CeremonyCall>,
    ) -> (Vec<usize>, Result<Vec<Result<Answer, Failure>>, CallError>) {
        let request = v1::CeremonyBatchRequest { node: node.as_bytes().to_vec(), calls };
        let answer: Result<v1::CeremonyBatchReply, CallError> =
            self.inner.transport.call(node, Method::CeremonyBatch, &request).await;
        let replies = answer.map(|reply| {
            let mut results = reply.results.into_iter();
            let replies = places.iter().map(|_| match results.next().and_then(|r| r.result) {
                Some(Answer::Refusal(refusal)) => Err(Failure::Refused(Box::new(refusal))),
                Some(answer) => Ok(answer),
                None => Err(broken("it answered fewer rounds than it was asked")),
            });
            replies.collect()
        });
        (places, replies)
    }
}

fn broken(what: &str) -> Failure {
    Failure::unreachable(UnreachableKind::Broken, what)
}

fn answer_of<C: Ceremony>(answer: Answer) -> Result<<C::Request as Round>::Reply, Failure> {
    let strange = || broken("it answered a round with the answer to another");
    <C::Request as Round>::reply(answer).ok_or_else(strange)
}

/// How many messages of participants a node must check for a round.
fn weight(round: &Call) -> usize {
    match round {
        Call::Deal(request) => request.round0.len(),
        Call::Sign(request) => request.round1.len(),
        Call::Certificate(request) => {
            let signatures = request.certificate.as_ref().map_or(0, |c| c.signatures.len());
            signatures.max(request.transcript_signatures.len())
        }
        Call::ReshareDeal(request) => request.round0.len(),
        Call::ReshareSign(request) => request.round0.len() + request.round1.len(),
        Call::Open(_) | Call::Signature(_) | Call::ReshareState(_) | Call::ReshareOpen(_) => 1,
    }
}

/// Rounds for one node, in as many requests as its bounds need.
fn batches(rounds: Vec<(usize, Call)>) -> Vec<(Vec<usize>, Vec<v1::CeremonyCall>)> {
    let mut all: Vec<(Vec<usize>, Vec<v1::CeremonyCall>)> = Vec::new();
    let (mut bytes, mut participants) = (0, 0);
    for (at, round) in rounds {
        let more = weight(&round);
        let call = v1::CeremonyCall { call: Some(round) };
        let size = call.encoded_len();
        let full = all.last().is_none_or(|(places, _)| {
            places.len() >= MAX_CEREMONIES_PER_REQUEST
                || bytes + size > MAX_BATCH_BYTES
                || participants + more > MAX_PARTICIPANTS_PER_REQUEST
        });
        if full {
            (bytes, participants) = (0, 0);
            all.push((Vec::new(), Vec::new()));
        }
        bytes += size;
        participants += more;
        if let Some((places, calls)) = all.last_mut() {
            places.push(at);
            calls.push(call);
        }
    }
    all
}
