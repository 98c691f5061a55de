//! What an honest client makes of answers to evaluations.

use core::time::Duration;

use quorate_coordinator::evaluation::{CheaterReason, Committee, Fan, Proofs};
use quorate_node::{Reply, Request};
use quorate_schemes::prf::{CombineError, Combiner, Labels};
use quorate_types::NodeId;
use quorate_wire::proto::v1;

use super::{By, Visited, Visitor, defect};
use crate::cluster::OrderedKey;
use crate::{evaluation, invariants};

const HEDGE: Duration = Duration::from_millis(50);

/// How the first node that is asked answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As everybody: twice.
    Twice,
    /// With a byte more than there is to say.
    Longer,
    /// With the identity, where no proof is asked for.
    Identity,
    /// A node that was not asked answers before it.
    Unasked,
}

/// The key of the run that the most nodes can evaluate under.
fn certified(visitor: &Visitor<'_>) -> Option<(OrderedKey, Vec<usize>)> {
    visitor.keys.iter().rev().find_map(|key| {
        let holds = |at: &usize| {
            let node = visitor.nodes.get(*at);
            node.is_some_and(|(_, node)| invariants::certificate(node, key).is_some())
        };
        let at: Vec<usize> = (0..visitor.nodes.len()).filter(holds).collect();
        let t = key.order.threshold().t();
        (t > 1 && at.len() >= usize::from(t)).then(|| (key.clone(), at))
    })
}

impl Visitor<'_> {
    fn evaluate(&mut self, at: usize, request: v1::EvaluateRequest) -> Option<v1::EvaluateReply> {
        let visited = core::mem::replace(&mut self.at, at);
        let outcome = self.ask(By::Owner, &Request::Evaluate(request));
        self.at = visited;
        match outcome {
            Ok(Ok(Reply::Evaluate(reply))) => Some(reply),
            _ => None,
        }
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|(id, _)| *id == node)
    }
}

pub(super) fn answers(visitor: &mut Visitor<'_>) -> Visited {
    // Where no key of several shares came about, there is nobody to ask.
    let Some((key, holders)) = certified(visitor) else { return Ok(()) };
    let first = holders.first().and_then(|at| visitor.nodes.get(*at));
    let certificate = first.and_then(|(_, node)| invariants::certificate(node, &key));
    let certificate = certificate.ok_or_else(|| defect("no certificate"))?;
    let committee = Committee::new(&certificate).map_err(|_| defect("no committee"))?;
    let names = evaluation::Names {
        tenant: visitor.cluster.tenant(),
        owner: visitor.cluster.owner_id(),
        caller: visitor.cluster.owner.public(),
    };
    let now = visitor.time();
    let (template, raw) = evaluation::items(&names, &key, now, visitor.rng);
    let labels = Labels::new(&raw).map_err(|_| defect("labels"))?;
    let preferred: Vec<NodeId> =
        holders.iter().filter_map(|at| visitor.nodes.get(*at)).map(|(id, _)| *id).collect();
    for manner in [Manner::Twice, Manner::Longer, Manner::Identity, Manner::Unasked] {
        let proofs = if manner == Manner::Identity { Proofs::OnDemand } else { Proofs::Always };
        let fan = Fan::new(&committee, template.clone(), &labels, &preferred, HEDGE, proofs);
        let mut fan = fan.map_err(|_| defect("no request"))?;
        let sends = fan.poll(Duration::ZERO);
        let mut liar = None;
        for (number, send) in sends.into_iter().enumerate() {
            let Some(at) = visitor.position(send.node) else { continue };
            let Some(mut reply) = visitor.evaluate(at, send.request.clone()) else { continue };
            match manner {
                Manner::Longer if number == 0 => reply.partials.push(0),
                Manner::Identity if number == 0 => {
                    reply.partials.iter_mut().take(32).for_each(|byte| *byte = 0);
                }
                // Whoever is asked last says what the first one says.
                Manner::Unasked if number == 0 => {
                    let asked = fan.report().asked.clone();
                    let other = committee.nodes().iter().find(|node| !asked.contains(node));
                    if let Some(other) = other {
                        fan.on_reply(*other, reply.clone());
                    }
                }
                _ => {}
            }
            if number == 0 && matches!(manner, Manner::Longer | Manner::Identity) {
                liar = Some(send.node);
            }
            fan.on_reply(send.node, reply.clone());
            fan.on_reply(send.node, reply);
            if liar.is_some() {
                break;
            }
        }
        let cheaters = &fan.report().cheaters;
        let right = match (liar, cheaters.as_slice()) {
            (None, []) => fan.is_quorate(),
            (Some(liar), [one]) => {
                one.node == liar
                    && match &one.reason {
                        CheaterReason::Length { .. } => manner == Manner::Longer,
                        CheaterReason::Point { .. } => manner == Manner::Identity,
                        _ => false,
                    }
            }
            _ => false,
        };
        let said: Vec<String> = cheaters.iter().map(ToString::to_string).collect();
        visitor.concludes(right, &format!("{manner:?}: {said:?}"));
    }
    counts_once(visitor, &committee, &labels, (&key, &holders), &template)
}

/// One answer counts once, also where nobody minds who has answered.
fn counts_once(
    visitor: &mut Visitor<'_>,
    committee: &Committee,
    labels: &Labels<'_>,
    (key, holders): (&OrderedKey, &[usize]),
    template: &v1::EvaluateRequest,
) -> Visited {
    let at = *holders.first().ok_or_else(|| defect("nobody has a share"))?;
    let (node, _) = visitor.nodes.get(at).ok_or_else(|| defect("no node"))?;
    let member = key.order.member(node).ok_or_else(|| defect("no member"))?.index;
    let generation = committee.generation();
    let request = v1::EvaluateRequest {
        node: node.as_bytes().to_vec(),
        generation: generation.as_bytes().to_vec(),
        ..template.clone()
    };
    let Some(reply) = visitor.evaluate(at, request) else { return Err(defect("no answer")) };
    let (partials, _) = reply.partials.as_chunks::<32>();
    let mut combiner = Combiner::new(generation, committee.public(), labels);
    let taken = combiner.add_unproved(member, generation, partials);
    let again = combiner.add_unproved(member, generation, partials);
    let right = taken.is_ok()
        && matches!(again, Err(CombineError::Duplicate { .. }))
        && combiner.have() == 1;
    visitor.stands_alone(right, "one participant counts twice");
    Ok(())
}
