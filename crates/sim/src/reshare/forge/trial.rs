//! An honest coordinator over a good network, with one lying participant: who is named, for what, and whether it gets there
//! without the liar where it can.

use std::collections::BTreeSet;

use quorate_coordinator::ceremony::reshare::{Outcome as Came, Remembered, Reshare, judge_reshare};
use quorate_coordinator::ceremony::{Blame, Finding, ReplyFault};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::Orders;
use quorate_node::Outcome;
use quorate_types::NodeId;
use rand_core::Rng;

use super::Side;
use crate::participant::Named;
use crate::reshare::check::Invariant;
use crate::reshare::liar::{Liar, Lie};
use crate::reshare::reference::session_of;
use crate::reshare::world::play::{describe, reply_of, request};

/// A trial that runs.
struct Trial<'a> {
    orders: &'a Orders,
    lie: Lie,
    liar: usize,
    /// Which dealers the first session names, by the parent's indices.
    dealers: Option<Vec<u32>>,
}

impl Side<'_> {
    /// One lie, told by somebody who would deal.
    pub(in crate::reshare) fn trial(&mut self, orders: &Orders, lie: Lie) -> Option<()> {
        let order = self.order();
        let highest = self.highest();
        let parent = highest.statement().clone();
        let holders = self.holders(&parent);
        let stays = |index: &u32| {
            let old = parent.participants().iter().find(|it| u32::from(it.index.get()) == *index);
            old.filter(|old| order.member(&old.node).is_some()).map(|old| old.node)
        };
        let t = usize::from(parent.threshold().t());
        let inside: Vec<NodeId> = holders.iter().filter_map(stays).collect();
        // Of those who will be asked to deal, if any of them is a member.
        let first = self.below(inside.len().min(t));
        let liar = inside.get(first).and_then(|node| self.position(*node))?;
        let mut trial = Trial { orders, lie, liar, dealers: None };
        let keys = self.cluster.nodes.get(liar)?;
        let mut lying = Liar::new(lie, keys.identity_again());
        let mut remembered = Remembered::default();
        let mut outcomes = Vec::new();
        // Only who shows an order that nobody has is named by what it does once more.
        let goes = if lie == Lie::UnknownOrder { 2 } else { 1 };
        for _ in 0..goes {
            let attempt = 1 + self.rng.next_u32() % order.max_attempts();
            let roster = self.cluster.roster_digest();
            let rng = &mut self.rng;
            let reshare = Reshare::new(orders, &self.root, &highest, roster, attempt, rng).ok()?;
            let mut reshare = reshare.remembering(&remembered);
            self.drive(&mut trial, &mut lying, &mut reshare);
            let Some(outcome) = reshare.outcome() else {
                let what = format!("it comes to nothing with {}", reshare.step());
                self.report(Invariant::RecoverySucceeds, what);
                return None;
            };
            remembered.note(&outcome);
            remembered.have_shown(remembered.to_ask());
            let done = matches!(outcome, Came::Reshared(_));
            outcomes.push(outcome);
            if done {
                break;
            }
        }
        self.fired += lying.fired;
        let spare = inside.len() > t;
        self.judge_trial(&trial, lying.fired > 0, spare, &outcomes);
        if !lie.in_state()
            && let Some(dealers) = &trial.dealers
        {
            let leaves = dealers.iter().any(|index| stays(index).is_none());
            if leaves && inside.len() >= t {
                let what = format!("{} of {} stay", inside.len(), holders.len());
                self.report(Invariant::DealersAreMembers, what);
            }
        }
        Some(())
    }

    /// Lets the coordinator do what it does, every request answered at once.
    fn drive(&mut self, trial: &mut Trial<'_>, lying: &mut Liar, reshare: &mut Reshare) {
        for _ in 0..64 {
            if reshare.outcome().is_some() {
                return;
            }
            let sends = reshare.poll();
            if sends.is_empty() {
                reshare.on_timeout();
                continue;
            }
            for send in sends {
                let node = send.node;
                let asked = request(send.request);
                self.relayed(trial, &asked);
                let Some(at) = self.position(node) else { continue };
                let outcome = if at == trial.liar {
                    self.lied(lying, at, &asked)
                } else {
                    self.ask(at, asked)
                };
                let Some(outcome) = outcome else {
                    let silent = UnreachableKind::TimedOut;
                    reshare.on_failure(node, Failure::unreachable(silent, "simulated"));
                    continue;
                };
                match reply_of(&outcome) {
                    Ok(reply) => drop(reshare.on_reply(node, reply)),
                    Err(failure) => reshare.on_failure(node, failure),
                }
            }
        }
    }

    fn lied(
        &mut self,
        lying: &mut Liar,
        at: usize,
        asked: &quorate_node::Request,
    ) -> Option<Outcome> {
        if let Some(outcome) = lying.instead(asked) {
            return Some(outcome);
        }
        let (owner, now) = (self.cluster.owner.public(), self.now);
        let outcome = self.nodes.get_mut(at)?.ask(owner, asked.clone(), now, &mut self.rng);
        lying.change(asked, outcome.ok()?, now, &mut self.rng)
    }

    /// What the coordinator sends, looked at.
    fn relayed(&mut self, trial: &mut Trial<'_>, asked: &quorate_node::Request) {
        let Some(session) = session_of(asked) else { return };
        trial.dealers.get_or_insert_with(|| session.dealers.clone());
        let order = quorate_types::Digest::from_slice(&session.order).ok();
        let order = order.and_then(|digest| trial.orders.find(&digest));
        let highest = self.highest();
        let mut parents = self.certificates.iter().chain([&highest]).map(|it| it.statement());
        let parent = parents.find(|it| it.generation().as_bytes() == session.parent.as_slice());
        let (Some(order), Some(parent)) = (order, parent.cloned()) else { return };
        let wrong = self.reference.relays(asked, (order, &parent));
        self.found.extend(wrong.map(|what| (Invariant::RelaysWhatFits, what)));
    }

    fn judge_trial(&mut self, trial: &Trial<'_>, fired: bool, spare: bool, outcomes: &[Came]) {
        let (node, lie) = (self.id(trial.liar), trial.lie);
        let mut blamed: Vec<Blame> = Vec::new();
        let (mut told, mut missing) = (String::new(), BTreeSet::new());
        for outcome in outcomes {
            match outcome {
                Came::Reshared(reshared) => {
                    blamed.extend(reshared.blamed.clone());
                    let certificate = &reshared.certificate;
                    let order = trial.orders.find(&certificate.statement().order());
                    let whole = order.is_some_and(|order| {
                        let root = self.root.statement();
                        self.reference.certifies(certificate.envelope(), order, root)
                    });
                    if !whole {
                        let what = certificate.statement().generation().to_string();
                        self.report(Invariant::ReshareIsCertified, what);
                    }
                }
                Came::Failed(failed) => {
                    blamed.extend(failed.blamed.clone());
                    told.push_str(&describe(failed));
                    missing.extend(failed.failing());
                }
            }
        }
        for blame in &blamed {
            if blame.node != node {
                self.report(Invariant::HonestIsNotBlamed, blame.to_string());
            }
            if let Some(evidence) = &blame.evidence {
                let convicts = evidence.session.as_ref().is_some_and(|session| {
                    let order = quorate_types::Digest::from_slice(&session.order).ok();
                    let order = order.and_then(|digest| trial.orders.find(&digest));
                    let highest = self.highest();
                    let parents = self.certificates.iter().chain([&highest]);
                    order.is_some_and(|order| {
                        parents.map(|it| it.statement()).any(|parent| {
                            judge_reshare(order, parent, evidence)
                                .is_ok_and(|(convicted, _)| convicted == blame.node)
                        })
                    })
                });
                if !convicts {
                    let what = format!("evidence does not convict: {blame}");
                    self.report(Invariant::LiarIsNamed, what);
                }
            }
        }
        if !fired {
            return;
        }
        let mut own = blamed.iter().filter(|blame| blame.node == node);
        let garbled = lie == Lie::BadShare && missing.contains(&node);
        let named = match lie {
            Lie::UnknownOrder => {
                own.any(|it| it.finding == Finding::Reply(ReplyFault::Order)) || !spare
            }
            Lie::OtherAcknowledgement => {
                own.any(|it| it.finding == Finding::Reply(ReplyFault::Generation)) || !spare
            }
            _ => match lie.expected() {
                Named::Provably => own.any(|it| it.evidence.is_some()) || garbled,
                Named::Seen => own.next().is_some(),
                Named::Harmless => own.next().is_none(),
                _ => missing.contains(&node) || own.next().is_some() || told.is_empty(),
            },
        };
        if !named {
            self.report(Invariant::LiarIsNamed, format!("{}: {told}", lie.name()));
        }
        // Another deals in its place, and it takes its share.
        let at_once = matches!(outcomes, [Came::Reshared(_)]);
        if lie.in_dealing() && spare && !at_once {
            let what = format!("nobody deals in the place of {node}: {told}");
            self.report(Invariant::RecoverySucceeds, what);
        }
    }
}
