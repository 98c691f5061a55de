//! Evaluations: the coordinator's fan over real connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use quorate_coordinator::evaluation::{
    Cheater, Evaluated, Fan, FinishError, NotQuorate as FanNotQuorate, Proofs, Report,
};
use quorate_coordinator::{Failure, Unreachable as FanUnreachable, UnreachableKind};
use quorate_schemes::prf::Labels;
use quorate_types::limits::MAX_BATCH;
use quorate_types::{Action, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Warning};
use crate::error::{Error, NodeRefusal, NotQuorate, RequestError, WrongAnswer};
use crate::generations::rank;
use crate::keys::Key;
use crate::rng::now;
use crate::shares_lost::SharesLost;
use crate::transport::{
    CallError, FanOut, Method, Unreachable, UnreachableReason, may_pass, pause,
};

/// Bytes of encryption contexts in one request; with 4096 items it stays below the largest request.
const MAX_CONTEXTS_BYTES: usize = 1 << 20;
/// Labels up to which combining (about 40 us each) runs where the caller runs.
const INLINE_LABELS: usize = 8;

/// How often a request is sent again to nodes that cannot answer just now: no more than twice the load.
const MAX_RETRIES: u32 = 2;

/// How often one request follows a key from one generation to the next, or brings nodes along: more often than shares
/// are dealt anew while it is asked.
const MAX_SWITCHES: u32 = 8;

/// One thing to evaluate.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) label: Label,
    pub(crate) context: Arc<EncryptionContext>,
}

/// One request to one committee.
#[derive(Debug)]
pub(crate) struct Job {
    key: Key,
    version: KeyVersion,
    operation: &'static str,
    template: v1::EvaluateRequest,
    labels: Vec<Vec<u8>>,
}

impl Job {
    /// A request for at most [`MAX_BATCH`] items, all of one key. `from` is the version that
    /// rewrapped labels were made under.
    pub(crate) fn new(
        key: &Key,
        version: KeyVersion,
        action: Action,
        from: Option<KeyVersion>,
        items: &[Item],
    ) -> Self {
        let mut contexts = Contexts::default();
        let items_of = |item: &Item| v1::Item {
            nonce: item.label.nonce.to_vec(),
            created_at: item.label.created_at.0,
            // An encrypter is the creator; nodes fill that in.
            creator: match action {
                Action::Encrypt => Vec::new(),
                _ => item.label.creator.as_bytes().to_vec(),
            },
            context: contexts.position(&item.context),
        };
        let proto: Vec<v1::Item> = items.iter().map(items_of).collect();
        let template = v1::EvaluateRequest {
            node: Vec::new(),
            key: key.id().as_bytes().to_vec(),
            key_version: version.get(),
            generation: Vec::new(),
            action: action.number(),
            contexts: contexts.list,
            items: proto,
            with_proof: false,
            from_version: from.map_or(0, KeyVersion::get),
        };
        Self {
            key: key.clone(),
            version,
            operation: match action {
                Action::Encrypt => "encrypt",
                Action::Rewrap => "rewrap",
                _ => "decrypt",
            },
            template,
            labels: items.iter().map(|item| item.label.canonical_bytes()).collect(),
        }
    }

    /// The key that is asked.
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Its version.
    pub(crate) const fn version(&self) -> KeyVersion {
        self.version
    }

    /// The same by what is known of the key now.
    pub(crate) fn with_key(&self, key: Key) -> Self {
        Self { key, template: self.template.clone(), labels: self.labels.clone(), ..*self }
    }
}

/// The contexts of one request, each once.
#[derive(Default)]
struct Contexts {
    list: Vec<v1::Context>,
    known: HashMap<EncryptionContext, u32>,
}

impl Contexts {
    fn position(&mut self, context: &EncryptionContext) -> u32 {
        if context.is_empty() {
            return 0;
        }
        if let Some(position) = self.known.get(context) {
            return *position;
        }
        let pairs = context
            .pairs()
            .iter()
            .map(|(name, value)| v1::Attribute { name: name.clone(), value: value.clone() })
            .collect();
        self.list.push(v1::Context { pairs });
        // At most one for each of at most 4096 items.
        let position = self.list.len() as u32;
        self.known.insert(context.clone(), position);
        position
    }
}

/// Cuts a list into pieces that fit one request each: how many items are in each.
pub(crate) fn batch_lengths<'a>(
    contexts: impl Iterator<Item = &'a EncryptionContext>,
) -> Vec<usize> {
    let mut lengths = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    for context in contexts {
        let size = context.canonical_bytes().len();
        if items > 0 && (items == MAX_BATCH || bytes + size > MAX_CONTEXTS_BYTES) {
            lengths.push(items);
            (items, bytes) = (0, 0);
        }
        items += 1;
        bytes += size;
    }
    if items > 0 {
        lengths.push(items);
    }
    lengths
}

/// How an evaluation begins.
pub(crate) enum Start {
    Fresh(Proofs),
    /// Again, with proofs, because what came out was wrong.
    Again(Box<Evaluated>),
}

type Reasons = BTreeMap<NodeId, Unreachable>;

impl Client {
    /// Asks the committee until T good answers are there, all of one generation: where the shares are dealt anew
    /// meanwhile, `job` is the same request of the generation that answered.
    pub(crate) async fn evaluate(
        &self,
        job: &mut Arc<Job>,
        start: Start,
    ) -> Result<Evaluated, Error> {
        let (mut start, proofs) = match start {
            Start::Fresh(proofs) => {
                *job = Arc::clone(job).by_newest(self);
                (Start::Fresh(proofs), proofs)
            }
            again @ Start::Again(_) => (again, Proofs::Always),
        };
        let (mut retries, mut switches) = (0, 0);
        let mut asking = self.asking(job);
        loop {
            let outcome = if job.labels.len() <= INLINE_LABELS {
                asking.drive(job, start).await
            } else {
                // Combining thousands of answers takes a good part of a second of one core: not on
                // the threads that serve connections.
                let (client, job) = (asking.clone(), Arc::clone(job));
                let handle = tokio::runtime::Handle::current();
                tokio::task::spawn_blocking(move || handle.block_on(client.drive(&job, start)))
                    .await
                    .map_err(|e| RequestError::Invalid(e.to_string()))?
            };
            let (finished, reasons) = outcome?;
            match finished {
                Ok(evaluated) => {
                    self.inner.counting.evaluated(job.labels.len());
                    self.learn(&evaluated.report);
                    asking.follow_generations(job, &evaluated.report);
                    asking.look_behind(job);
                    self.follow_roster().await;
                    return Ok(evaluated);
                }
                // Only unproved answers can cancel, so this happens once.
                Err(FinishError::Cancelled { report, .. }) => {
                    self.learn(&report);
                    start = Start::Fresh(Proofs::Always);
                }
                Err(FinishError::NotQuorate(missing)) => {
                    self.learn(&missing.report);
                    if retries < MAX_RETRIES && passing(&missing.report) {
                        retries += 1;
                        tokio::time::sleep(pause(retries)).await;
                        start = Start::Fresh(proofs);
                        continue;
                    }
                    // Answers of two generations are never put together: all are asked for again.
                    if switches < MAX_SWITCHES
                        && let Some((by, next)) = asking.switched(job, &missing.report).await
                    {
                        switches += 1;
                        // Also what was learnt under a newer roster.
                        if rank(next.key(), job.version) > rank(job.key(), job.version) {
                            drop(self.cache_key(next.key()));
                        }
                        (asking, *job) = (by, next);
                        start = Start::Fresh(proofs);
                        continue;
                    }
                    return Err(asking.not_quorate(job, *missing, &reasons));
                }
            }
        }
    }

    async fn drive(
        &self,
        job: &Job,
        start: Start,
    ) -> Result<(Result<Evaluated, FinishError>, Reasons), Error> {
        let invalid = |e: &dyn std::error::Error| RequestError::Invalid(e.to_string());
        let committee = job.key.committee(job.version)?;
        let labels = Labels::new(&job.labels).map_err(|e| invalid(&e))?;
        let hedge = self.inner.transport.timeouts().hedge;
        let template = job.template.clone();
        let mut fan = match start {
            Start::Fresh(proofs) => {
                Fan::new(committee, template, &labels, &self.preferred(), hedge, proofs)
            }
            Start::Again(before) => {
                Fan::retry_with_proofs(committee, template, &labels, hedge, *before)
            }
        }
        .map_err(|e| invalid(&e))?;

        // What is sent again after all is another request, which may be answered by others.
        let fan_out = Some(FanOut::new());
        let began = Instant::now();
        let mut reasons = Reasons::new();
        let mut policies = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        let mut asking = JoinSet::new();
        while !fan.is_over() {
            let elapsed = began.elapsed();
            for send in fan.poll(elapsed) {
                let transport = self.inner.transport.clone();
                waiting.insert(send.node);
                asking.spawn(async move {
                    let asked = Instant::now();
                    let (node, request) = (send.node, &send.request);
                    let reply = transport
                        .call_of::<_, v1::EvaluateReply>(fan_out, node, Method::Evaluate, request)
                        .await;
                    (send.node, reply, asked.elapsed(), now())
                });
            }
            let hedge_at = fan.deadline(elapsed).map(|at| began + at);
            tokio::select! {
                joined = asking.join_next() => match joined {
                    Some(Ok((node, reply, took, own))) => {
                        waiting.remove(&node);
                        if let Ok(reply) = &reply {
                            policies.insert(node, reply.policies.clone());
                        }
                        self.heard(&mut fan, &mut reasons, node, reply, took, own);
                    }
                    // A task that died answers nothing; the others decide.
                    Some(Err(_)) => {}
                    None => break,
                },
                () = sleep_until(hedge_at.unwrap_or(began)), if hedge_at.is_some() => {}
            }
        }
        self.compare_policies(&policies);
        // Who was asked and did not answer by now is at least as slow as this.
        let elapsed = began.elapsed().as_secs_f64();
        for node in waiting {
            self.heard_latency(node, Some(elapsed));
        }
        Ok((fan.finish(), reasons))
    }

    fn heard(
        &self,
        fan: &mut Fan<'_>,
        reasons: &mut Reasons,
        node: NodeId,
        reply: Result<v1::EvaluateReply, CallError>,
        took: Duration,
        own: UnixSeconds,
    ) {
        match reply {
            Ok(reply) => {
                self.heard_latency(node, Some(took.as_secs_f64()));
                self.heard_clock(node, own, UnixSeconds(reply.time));
                fan.on_reply(node, reply);
            }
            Err(CallError::Refused(refusal)) => {
                self.heard_clock(node, own, UnixSeconds(refusal.time));
                fan.on_failure(node, Failure::Refused(refusal));
            }
            Err(CallError::Unreachable(unreachable)) => {
                self.heard_latency(node, None);
                self.heard_nobody(node, &unreachable);
                fan.on_failure(node, failure(&unreachable));
                reasons.insert(node, unreachable);
            }
        }
    }

    /// Warns where nodes that answered one request were asking different policies.
    fn compare_policies(&self, policies: &BTreeMap<NodeId, Vec<u8>>) {
        let first = policies.values().next();
        if policies.values().any(|digest| Some(digest) != first) {
            let names = policies.keys().map(|node| self.node_name(*node)).collect();
            self.warn(Warning::PoliciesDiffer { names });
        }
    }

    /// Warns of those who lied. They are asked last for a while, and so are those that said no; not those that showed
    /// another generation than they were asked for, as long as nobody has looked at it.
    fn learn(&self, report: &Report) {
        for cheater in &report.cheaters {
            self.doubt(cheater.node);
            self.warn(Warning::WrongAnswer(self.wrong(cheater)));
        }
        for (node, _) in &report.refused {
            if !report.newer.iter().any(|(shown_by, _)| shown_by == node) {
                self.doubt(*node);
            }
        }
    }

    fn wrong(&self, cheater: &Cheater) -> WrongAnswer {
        WrongAnswer { name: self.node_name(cheater.node), what: cheater.reason.to_string() }
    }

    fn not_quorate(&self, job: &Job, missing: FanNotQuorate, reasons: &Reasons) -> Error {
        let report = missing.report;
        let missing = NotQuorate {
            operation: job.operation,
            needed: usize::from(missing.needed),
            of: usize::from(missing.committee),
            answered: usize::from(missing.answered),
            unreachable: report
                .unreachable
                .iter()
                .map(|(node, why)| self.unreachable(*node, why, reasons))
                .collect(),
            refused: report
                .refused
                .into_iter()
                .map(|(node, refusal)| NodeRefusal { name: self.node_name(node), refusal })
                .collect(),
            wrong: report.cheaters.iter().map(|cheater| self.wrong(cheater)).collect(),
        };
        SharesLost::or(missing, &job.key, job.version)
    }

    /// The transport's own words for a silence, where it has any.
    pub(crate) fn unreachable(
        &self,
        node: NodeId,
        why: &FanUnreachable,
        reasons: &Reasons,
    ) -> Unreachable {
        reasons.get(&node).cloned().unwrap_or_else(|| Unreachable {
            node,
            name: self.node_name(node),
            reason: match why.kind {
                UnreachableKind::TimedOut => UnreachableReason::RequestTimedOut,
                UnreachableKind::WrongIdentity => UnreachableReason::KeyDiffers,
                UnreachableKind::NotConnected | UnreachableKind::Broken => {
                    UnreachableReason::Broken(why.detail.clone())
                }
            },
        })
    }
}

/// Whether a node said that it cannot answer at present.
fn passing(report: &Report) -> bool {
    report.refused.iter().any(|(_, refusal)| may_pass(refusal))
}

/// A silence in the coordinator's words.
pub(crate) fn failure(unreachable: &Unreachable) -> Failure {
    let kind = match &unreachable.reason {
        UnreachableReason::KeyDiffers | UnreachableReason::KeyRetired => {
            UnreachableKind::WrongIdentity
        }
        UnreachableReason::ConnectTimedOut | UnreachableReason::RequestTimedOut => {
            UnreachableKind::TimedOut
        }
        UnreachableReason::Broken(_)
        | UnreachableReason::Protocol(_)
        | UnreachableReason::NoReceipt => UnreachableKind::Broken,
        _ => UnreachableKind::NotConnected,
    };
    Failure::unreachable(kind, unreachable.reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_items_and_in_bytes() {
        let small = EncryptionContext::default();
        let many = vec![&small; 2 * MAX_BATCH + 1];
        assert_eq!(batch_lengths(many.into_iter()), [MAX_BATCH, MAX_BATCH, 1]);
        let large = EncryptionContext::new([("k", "v".repeat(4000))]).unwrap();
        let lengths = batch_lengths(vec![&large; 1000].into_iter());
        assert_eq!(lengths.iter().sum::<usize>(), 1000);
        assert!(lengths.iter().all(|l| l * 4000 <= MAX_CONTEXTS_BYTES));
        assert!(batch_lengths(core::iter::empty()).is_empty());
    }

    #[test]
    fn one_context_is_sent_once_and_the_empty_one_never() {
        let mut contexts = Contexts::default();
        let one = EncryptionContext::new([("a", "1")]).unwrap();
        let two = EncryptionContext::new([("a", "2")]).unwrap();
        let positions =
            [&one, &EncryptionContext::default(), &two, &one].map(|c| contexts.position(c));
        assert_eq!(positions, [1, 0, 2, 1]);
        assert_eq!(contexts.list.len(), 2);
    }
}
