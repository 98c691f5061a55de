//! Asking `T` nodes, hedging slow ones, going on to the next where one fails.

use core::time::Duration;

use quorate_schemes::prf::{self, Combiner, Labels, Proof};
use quorate_types::limits::MAX_BATCH;
use quorate_types::{Digest, Generation, NodeId, UnixSeconds};
use quorate_wire::digests::request_digest;
use quorate_wire::proto::v1::{EvaluateReply, EvaluateRequest};
use zeroize::Zeroizing;

use super::committee::Committee;
use super::outcome::{Answer, Cheater, CheaterReason, Evaluated, FinishError, NotQuorate, Report};
use crate::failure::Failure;

/// Bytes of one partial evaluation.
const PARTIAL_BYTES: usize = 32;

/// When nodes must prove their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proofs {
    /// Always: for encrypting, where a wrong key would lose data.
    Always,
    /// Only if the object's commitment fails: for decrypting, where a wrong key is noticed.
    OnDemand,
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// To whom.
    pub node: NodeId,
    /// What.
    pub request: EvaluateRequest,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It counts.
    Taken,
    /// It does not, and shows that the node lies.
    Cheated(CheaterReason),
    /// It came late, twice, or from a node that was not asked.
    Ignored,
}

/// Why a request cannot be sent to a committee at all: the caller's own mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FanError {
    /// Not one label for each item.
    #[error("{labels} labels for {items} items; there must be one for each, 1 to {MAX_BATCH}")]
    Labels {
        /// How many labels there are.
        labels: usize,
        /// How many items the request has.
        items: usize,
    },
    /// The request is for another key or version than the committee's.
    #[error("the request is for another key or key version than the committee's")]
    Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unasked,
    Asked {
        at: Duration,
    },
    /// Answered, refused, unreachable or caught: not to be asked or heard again.
    Done,
}

struct Peer {
    node: NodeId,
    standing: Standing,
    /// The digest of the request that it was sent, which its proof is bound to.
    digest: Option<Digest>,
}

/// One request to a committee.
///
/// In this order:
///
/// 1. [`Fan::new`];
/// 2. send what [`Fan::poll`] returns, each to its node over a connection that shows the node's TLS key;
/// 3. tell [`Fan::on_reply`] and [`Fan::on_failure`] what came of each, and poll again after each, and
///    whenever [`Fan::deadline`] passes;
/// 4. until [`Fan::is_over`]; then [`Fan::finish`].
///
/// Times are distances from any moment that the caller chooses and keeps, and do not go backwards. A
/// request that is never answered is the caller's to give up, by [`Fan::on_failure`] with a time-out;
/// slow nodes are hedged before that. Each node is asked once.
pub struct Fan<'a> {
    committee: &'a Committee,
    template: EvaluateRequest,
    combiner: Combiner<'a>,
    peers: Vec<Peer>,
    hedge: Duration,
    proofs: Proofs,
    report: Report,
    answers: Vec<Answer>,
    /// Unproved answers of an earlier attempt.
    earlier: Vec<Answer>,
}

impl<'a> Fan<'a> {
    /// A request to the nodes of `committee`.
    ///
    /// `template` is the request without node, generation and `with_proof`, which are filled in.
    /// `labels` are what each of its items evaluates, as the nodes will make them. Nodes in `preferred`
    /// are asked first, in that order; the rest follow in the order of their indices. A node that has
    /// not answered `hedge` after it was asked no longer counts as on its way, and another is asked.
    ///
    /// # Errors
    /// [`FanError`].
    pub fn new(
        committee: &'a Committee,
        mut template: EvaluateRequest,
        labels: &'a Labels<'a>,
        preferred: &[NodeId],
        hedge: Duration,
        proofs: Proofs,
    ) -> Result<Self, FanError> {
        if template.items.len() != labels.len() {
            return Err(FanError::Labels { labels: labels.len(), items: template.items.len() });
        }
        if template.key != committee.key().as_bytes()
            || template.key_version != committee.version().get()
        {
            return Err(FanError::Key);
        }
        let generation = committee.generation();
        template.generation = generation.as_bytes().to_vec();
        template.with_proof = proofs == Proofs::Always;
        let mut peers: Vec<Peer> = Vec::with_capacity(committee.nodes().len());
        for node in preferred.iter().chain(committee.nodes()) {
            let known = peers.iter().any(|peer| peer.node == *node);
            if !known && committee.nodes().contains(node) {
                peers.push(Peer { node: *node, standing: Standing::Unasked, digest: None });
            }
        }
        Ok(Self {
            committee,
            template,
            combiner: Combiner::new(generation, committee.public(), labels),
            peers,
            hedge,
            proofs,
            report: Report::default(),
            answers: Vec::new(),
            earlier: Vec::new(),
        })
    }

    /// The same request once more, with proofs, after outputs of unproved answers turned out wrong. The
    /// nodes that answered are asked first; a node that now proves another answer than it gave before is
    /// named as well as one that proves nothing.
    ///
    /// # Errors
    /// [`FanError`].
    pub fn retry_with_proofs(
        committee: &'a Committee,
        template: EvaluateRequest,
        labels: &'a Labels<'a>,
        hedge: Duration,
        before: Evaluated,
    ) -> Result<Self, FanError> {
        let preferred = before.report.answered;
        let mut fan = Self::new(committee, template, labels, &preferred, hedge, Proofs::Always)?;
        // Those already caught are not asked again, but still named.
        for cheater in &before.report.cheaters {
            if let Some(peer) = fan.peers.iter_mut().find(|peer| peer.node == cheater.node) {
                peer.standing = Standing::Done;
            }
        }
        fan.report.cheaters = before.report.cheaters;
        fan.earlier = before.answers;
        Ok(fan)
    }

    /// What to send now. Empty when enough nodes are on their way, or nobody is left.
    pub fn poll(&mut self, now: Duration) -> Vec<Send> {
        let mut sends = Vec::new();
        if self.combiner.is_quorate() {
            return sends;
        }
        let needed = usize::from(self.committee.threshold().t() - self.combiner.have());
        let mut coming = self.peers.iter().filter(|p| self.is_fresh(p.standing, now)).count();
        for peer in &mut self.peers {
            if coming >= needed {
                break;
            }
            if peer.standing != Standing::Unasked {
                continue;
            }
            let request =
                EvaluateRequest { node: peer.node.as_bytes().to_vec(), ..self.template.clone() };
            if request.with_proof {
                peer.digest = Some(request_digest(&request));
            }
            peer.standing = Standing::Asked { at: now };
            self.report.asked.push(peer.node);
            sends.push(Send { node: peer.node, request });
            coming += 1;
        }
        sends
    }

    fn is_fresh(&self, standing: Standing, now: Duration) -> bool {
        matches!(standing, Standing::Asked { at } if now < at.saturating_add(self.hedge))
    }

    /// When to poll again if nothing comes before; none where waiting would not change what is asked.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let unasked = self.peers.iter().any(|p| p.standing == Standing::Unasked);
        if self.combiner.is_quorate() || !unasked {
            return None;
        }
        self.peers
            .iter()
            .filter(|p| self.is_fresh(p.standing, now))
            .filter_map(|p| match p.standing {
                Standing::Asked { at } => Some(at.saturating_add(self.hedge)),
                Standing::Unasked | Standing::Done => None,
            })
            .min()
    }

    /// Whether [`Fan::finish`] has anything to wait for: no, once `T` good answers are there or can no
    /// longer come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let pending = self.peers.iter().filter(|p| p.standing != Standing::Done).count();
        self.combiner.is_quorate()
            || pending + usize::from(self.combiner.have())
                < usize::from(self.committee.threshold().t())
    }

    /// Whether `T` good answers are there.
    #[must_use]
    pub fn is_quorate(&self) -> bool {
        self.combiner.is_quorate()
    }

    /// Whom is asked.
    #[must_use]
    pub const fn committee(&self) -> &'a Committee {
        self.committee
    }

    /// What has been learnt so far.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// A node's answer.
    pub fn on_reply(&mut self, node: NodeId, reply: EvaluateReply) -> Received {
        // An answer is part of a secret, also one that is not used.
        let EvaluateReply { generation, index, partials, proof, time, policies: _ } = reply;
        let partials = Zeroizing::new(partials);
        let Some((position, digest)) = self.expect(node) else {
            self.report.ignored = self.report.ignored.saturating_add(1);
            return Received::Ignored;
        };
        self.report.clocks.push((node, UnixSeconds(time)));
        if self.combiner.is_quorate() {
            self.settle(position);
            self.report.ignored = self.report.ignored.saturating_add(1);
            return Received::Ignored;
        }
        let verdict = self.admit(node, digest, &generation, index, &partials, &proof);
        self.settle(position);
        match verdict {
            Ok(()) => {
                self.report.answered.push(node);
                if self.proofs == Proofs::OnDemand {
                    self.answers.push(Answer { node, partials });
                } else if let Some(before) = self.earlier.iter().find(|a| a.node == node)
                    && *before.partials != *partials
                {
                    let reason = CheaterReason::Changed;
                    self.report.cheaters.push(Cheater { node, reason });
                }
                Received::Taken
            }
            Err(reason) => {
                self.report.cheaters.push(Cheater { node, reason: reason.clone() });
                Received::Cheated(reason)
            }
        }
    }

    /// A node that gave no answer, or said no.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) {
        let Some((position, _)) = self.expect(node) else {
            self.report.ignored = self.report.ignored.saturating_add(1);
            return;
        };
        if let Some(time) = failure.time() {
            self.report.clocks.push((node, time));
        }
        match failure {
            Failure::Unreachable(why) => self.report.unreachable.push((node, why)),
            Failure::Refused(mut refusal) => {
                if let Some(certificate) = refusal.certificate.take() {
                    self.report.newer.push((node, certificate));
                }
                self.report.refused.push((node, *refusal));
            }
        }
        self.settle(position);
    }

    /// The outputs, or why there are none.
    ///
    /// # Errors
    /// [`FinishError`], naming everybody who did not do their part.
    pub fn finish(self) -> Result<Evaluated, FinishError> {
        let threshold = self.committee.threshold();
        let have = self.combiner.have();
        let proved = self.proofs == Proofs::Always;
        match self.combiner.finish() {
            Ok(outputs) => {
                Ok(Evaluated { outputs, proved, report: self.report, answers: self.answers })
            }
            Err(prf::FinishError::Identity { position }) => {
                Err(FinishError::Cancelled { position, report: Box::new(self.report) })
            }
            Err(prf::FinishError::NotQuorate { .. }) => {
                Err(FinishError::NotQuorate(Box::new(NotQuorate {
                    needed: threshold.t(),
                    answered: have,
                    committee: threshold.n(),
                    report: self.report,
                })))
            }
        }
    }

    /// Where in the list a node stands whose answer is awaited, and what its proof is bound to.
    fn expect(&self, node: NodeId) -> Option<(usize, Option<Digest>)> {
        let (position, peer) = self.peers.iter().enumerate().find(|(_, p)| p.node == node)?;
        matches!(peer.standing, Standing::Asked { .. }).then_some((position, peer.digest))
    }

    fn settle(&mut self, position: usize) {
        if let Some(peer) = self.peers.get_mut(position) {
            peer.standing = Standing::Done;
        }
    }

    /// Every check of an answer. The combiner is as it was unless all hold.
    fn admit(
        &mut self,
        node: NodeId,
        digest: Option<Digest>,
        generation: &[u8],
        index: u32,
        partials: &[u8],
        proof: &[u8],
    ) -> Result<(), CheaterReason> {
        let expected = self.committee.generation();
        let found = Generation::from_slice(generation).ok();
        if found != Some(expected) {
            return Err(CheaterReason::Generation { found });
        }
        // `peers` holds members of the committee only.
        let own = self.committee.index_of(node).ok_or(CheaterReason::Proof)?;
        if u32::from(own.get()) != index {
            return Err(CheaterReason::Index { expected: own.get(), found: index });
        }
        let length = self.template.items.len() * PARTIAL_BYTES;
        let (partials, rest) = partials.as_chunks::<PARTIAL_BYTES>();
        if !rest.is_empty() || partials.len() * PARTIAL_BYTES != length {
            let found = partials.len() * PARTIAL_BYTES + rest.len();
            return Err(CheaterReason::Length { expected: length, found });
        }
        let combined = match digest {
            Some(request) => {
                let proof = Proof::from_bytes(proof).map_err(|_| CheaterReason::NoProof)?;
                self.combiner.add_proved(own, expected, request, partials, &proof)
            }
            None => self.combiner.add_unproved(own, expected, partials),
        };
        combined.map_err(|error| CheaterReason::from_combine(&error))
    }
}
