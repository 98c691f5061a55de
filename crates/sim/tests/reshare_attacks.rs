//! Lines of `attacks.md` that a reshare makes interesting once more, at real cores after real reshares.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use core::time::Duration;
use std::collections::BTreeMap;

use quorate_coordinator::evaluation::{Committee, Fan, FinishError, Proofs, Report};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::Certificate;
use quorate_node::{Reply, Request};
use quorate_schemes::prf::Labels;
use quorate_sim::cluster::EPOCH;
use quorate_sim::node::SimNode;
use quorate_sim::reshare::liar::Lie;
use quorate_sim::reshare::{Ending, Operation, Recorded, Round, Scenario, check, recorded, run};
use quorate_types::{Action, KeySpec, NodeId, Purpose, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const HEDGE: Duration = Duration::from_millis(50);

/// Later than anything that a run signs.
fn now() -> UnixSeconds {
    EPOCH.plus(7200)
}

/// A refresh in which some lie.
fn refresh(t: u16, n: u16, liars: &[(usize, Lie)]) -> Scenario {
    let mut round = Round::of(Operation::Refresh);
    round.liars = liars.to_vec();
    Scenario::one(t, n, round)
}

fn newest(run: &Recorded) -> &Certificate {
    run.certificates.iter().max_by_key(|it| it.statement().rank()).unwrap()
}

/// `attacks.md` line 4: who sends the identity, an encoding that is not the one of its point, or a scalar beyond the
/// order, is named with evidence; where others can deal in its place they do, and no honest node has a share of what it
/// dealt. A node that deals rightly and takes part is not stopped by its being named.
#[test]
fn attack_04_no_identity_and_no_second_encoding_in_any_message_of_a_reshare() {
    let lies = [
        Lie::IdentityCommitment,
        Lie::NonCanonicalCommitment,
        Lie::IdentityEphemeral,
        Lie::PossessionBeyondOrder,
        Lie::IdentityReceiveKey,
        Lie::NonCanonicalReceiveKey,
        Lie::ShareProofBeyondOrder,
    ];
    for lie in &lies {
        for (t, n, at) in [(2, 3, 0), (2, 3, 1), (3, 5, 2)] {
            let report = run(9, &refresh(t, n, &[(at, *lie)])).unwrap();
            let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
            assert_eq!(found, [""; 0], "{}", lie.name());
            assert!(report.lies[0].1 > 0, "{} does not fire", lie.name());
            let deals = !matches!(
                lie,
                Lie::IdentityReceiveKey | Lie::NonCanonicalReceiveKey | Lie::ShareProofBeyondOrder
            );
            let expected = if deals { Ending::Done } else { Ending::Stopped };
            assert_eq!(report.endings, [expected], "{} at {t}/{n}", lie.name());
        }
    }
}

/// `attacks.md` line 7: what is wrong in itself with a round 0 or a dealing, the coordinator sees, names, and relays to
/// nobody. Nodes would refuse it too, and convict by what is signed; what is not, only whoever asked the node can lay to it.
#[test]
fn attack_07_what_is_wrong_in_itself_is_relayed_to_nobody() {
    let lies = [
        Lie::WrongConstant,
        Lie::FewerCommitments,
        Lie::BadPossession,
        Lie::BadEphemeral,
        Lie::UnsignedCiphertexts,
        Lie::BadReceiveKey,
        Lie::BadShareProof,
        Lie::NoShareProof,
    ];
    for lie in &lies {
        let (report, run) = recorded(3, &refresh(2, 3, &[(0, *lie)])).unwrap();
        assert!(report.lies[0].1 > 0, "{} does not fire", lie.name());
        let liar = run.nodes[0].0;
        let opens = matches!(lie, Lie::BadReceiveKey | Lie::BadShareProof | Lie::NoShareProof);
        let said = |reply: &Reply| match reply {
            Reply::ReshareOpen(reply) if opens => reply.round0.clone(),
            Reply::ReshareDeal(reply) if !opens => reply.round1.clone(),
            _ => None,
        };
        let said: Vec<v1::Envelope> = (run.traffic.iter())
            .filter(|it| it.node == liar)
            .filter_map(|it| it.reply.as_ref().and_then(said))
            .collect();
        assert!(!said.is_empty(), "{}", lie.name());
        let relayed = run.traffic.iter().flat_map(|it| match &it.request {
            Request::ReshareDeal(request) => request.round0.clone(),
            Request::ReshareSign(request) => [&request.round0[..], &request.round1].concat(),
            _ => Vec::new(),
        });
        assert_eq!(relayed.filter(|it| said.contains(it)).count(), 0, "{}", lie.name());
    }
}

/// A node that is being left out is asked for nothing of a session where those who stay are enough to deal; where they
/// are not, one that leaves deals.
#[test]
fn who_leaves_is_asked_to_deal_only_where_nobody_else_can() {
    for (members, deals) in [(vec![1, 2], 0), (vec![1, 2, 3], 0), (vec![2, 3, 4], 1)] {
        let leaving: Vec<usize> = (0..3).filter(|at| !members.contains(at)).collect();
        let round = Round::of(Operation::Move { t: 2, members });
        let (report, run) = recorded(3, &Scenario::one(2, 3, round)).unwrap();
        assert_eq!(report.endings, [Ending::Done]);
        let asked = |at: &usize| {
            let rounds = |request: &Request| {
                matches!(request, Request::ReshareOpen(_) | Request::ReshareDeal(_))
            };
            run.traffic.iter().any(|it| it.node == run.nodes[*at].0 && rounds(&it.request))
        };
        assert_eq!(leaving.into_iter().filter(asked).count(), deals);
    }
}

/// What a client asks for: one label that was made when the key was new.
struct Wanted {
    label: Vec<u8>,
    request: v1::EvaluateRequest,
}

impl Wanted {
    fn of(run: &Recorded) -> Self {
        let nonce = [7; 24];
        let label = Label {
            purpose: Purpose::ObjectKey,
            spec: KeySpec::PrfRistretto255Sha512,
            tenant: run.names.tenant,
            key: run.key.id,
            version: run.key.version,
            creator: run.names.owner,
            created_at: EPOCH,
            nonce,
            context_hash: EncryptionContext::default().hash(),
        };
        let request = v1::EvaluateRequest {
            key: run.key.id.as_bytes().to_vec(),
            key_version: run.key.version.get(),
            action: Action::Decrypt.number(),
            items: vec![v1::Item {
                nonce: nonce.to_vec(),
                created_at: EPOCH.0,
                creator: run.names.owner.as_bytes().to_vec(),
                context: 0,
            }],
            ..v1::EvaluateRequest::default()
        };
        Self { label: label.canonical_bytes(), request }
    }
}

/// What a node answers.
fn asked(
    run: &mut Recorded,
    node: NodeId,
    request: v1::EvaluateRequest,
    rng: &mut ChaCha20Rng,
) -> Result<v1::EvaluateReply, Failure> {
    let caller = run.names.caller;
    let core: &mut SimNode =
        run.nodes.iter_mut().find(|(id, _)| *id == node).map(|(_, it)| it).unwrap();
    match core.ask(caller, Request::Evaluate(request), now(), rng).unwrap() {
        Ok(Reply::Evaluate(reply)) => Ok(reply),
        Ok(_) => panic!("another reply"),
        Err(refusal) => Err(Failure::Refused(refusal)),
    }
}

/// One evaluation under a certificate, each request answered at once by `answer`.
fn evaluated(
    wanted: &Wanted,
    certificate: &Certificate,
    mut answer: impl FnMut(usize, NodeId, v1::EvaluateRequest) -> Result<v1::EvaluateReply, Failure>,
) -> Result<([u8; 64], Report), Box<Report>> {
    let committee = Committee::new(certificate).unwrap();
    let raw = [wanted.label.clone()];
    let labels = Labels::new(&raw).unwrap();
    let request = wanted.request.clone();
    let mut fan = Fan::new(&committee, request, &labels, &[], HEDGE, Proofs::Always).unwrap();
    while !fan.is_over() {
        for send in fan.poll(Duration::ZERO) {
            let at = committee.nodes().iter().position(|node| *node == send.node).unwrap();
            match answer(at, send.node, send.request) {
                Ok(reply) => drop(fan.on_reply(send.node, reply)),
                Err(failure) => fan.on_failure(send.node, failure),
            }
        }
    }
    match fan.finish() {
        Ok(done) => Ok((*done.outputs[0].reveal(), done.report)),
        Err(FinishError::NotQuorate(not)) => Err(Box::new(not.report)),
        Err(FinishError::Cancelled { report, .. }) => Err(report),
    }
}

/// `attacks.md` line 21, over a real refresh: T - 1 answers of the new generation and, from everybody else, one of the old
/// generation, called new or as it is, or a copy of another's answer, give no result; each is named or has refused. With
/// one more honest node the output is what it was when the key was new.
#[test]
fn attack_21_t_minus_one_new_answers_and_old_or_doubled_ones_give_nothing() {
    for (t, n) in [(2, 3), (3, 5)] {
        let rng = &mut ChaCha20Rng::seed_from_u64(21);
        // The same key: what is made before the rounds begin depends on nothing else.
        let (_, mut before) =
            recorded(7, &Scenario { rounds: Vec::new(), ..refresh(t, n, &[]) }).unwrap();
        let (_, mut after) = recorded(7, &refresh(t, n, &[])).unwrap();
        let (old, new) = (newest(&before).clone(), newest(&after).clone());
        assert_eq!(new.statement().parent(), Some(old.statement().generation()));
        let wanted = Wanted::of(&after);
        let first =
            evaluated(&wanted, &old, |_, node, request| asked(&mut before, node, request, rng));
        let first = first.unwrap().0;
        for trick in 0..3 {
            for spare in [0, 1] {
                let good = usize::from(t) - 1 + spare;
                let mut seen: Option<v1::EvaluateReply> = None;
                let result = evaluated(&wanted, &new, |at, node, request| {
                    if at < good {
                        let reply = asked(&mut after, node, request, rng)?;
                        seen = Some(reply.clone());
                        return Ok(reply);
                    }
                    let generation = request.generation.clone();
                    let mut reply = match trick {
                        0 | 1 => {
                            let generation = old.statement().generation().as_bytes().to_vec();
                            let request = v1::EvaluateRequest { generation, ..request };
                            asked(&mut before, node, request, rng)?
                        }
                        _ => seen.clone().unwrap(),
                    };
                    if trick == 0 {
                        reply.generation = generation;
                    }
                    if trick == 2 {
                        reply.index = u32::try_from(at).unwrap() + 1;
                    }
                    Ok(reply)
                });
                match result {
                    Ok((output, _)) => assert_eq!((spare, output), (1, first), "trick {trick}"),
                    Err(report) => {
                        assert_eq!(spare, 0, "trick {trick}");
                        let cheats = usize::from(n) - good;
                        assert_eq!(report.cheaters.len(), cheats, "trick {trick}");
                        assert_eq!(report.answered.len(), good, "trick {trick}");
                    }
                }
            }
        }
    }
}

/// `attacks.md` line 37, for erasure: what a refresh is said to heal holds with lying confirmers. Each of f < T liars says
/// that it has erased its old share and keeps it; all others have indeed. So whoever has the liars' shares, and has stolen
/// as many more as the refresh is said to heal against f liars, which is that number less f, has fewer than T.
#[test]
fn attack_37_what_a_refresh_is_said_to_heal_holds_with_lying_confirmers() {
    for (t, n) in [(2, 3), (3, 5), (4, 5)] {
        for f in 0..usize::from(t).min(usize::from(n - t) + 1) {
            let liars: Vec<(usize, Lie)> = (0..f).map(|at| (at, Lie::KeepsOldShare)).collect();
            let (report, run) = recorded(4, &refresh(t, n, &liars)).unwrap();
            assert_eq!(report.endings, [Ending::Done]);
            assert!(report.lies.iter().all(|(_, fired)| *fired > 0));
            let old = run.certificates[0].statement().generation();
            let kept = |(_, node): &&(NodeId, SimNode)| check::share(node, &run.key, old).is_some();
            let kept = run.nodes.iter().filter(kept).count();
            assert_eq!(kept, f, "honest nodes that confirmed have erased theirs");
            let said = usize::try_from(*report.heals.last().unwrap()).unwrap();
            assert_eq!(said, usize::from(t) - 1, "all have confirmed");
            assert!(kept + (said - f) < usize::from(t), "{t}/{n} with {f} liars");
        }
    }
}

/// Evaluations in virtual time, by a client that asks those first that were quick, as the client library does: how long
/// each took, in milliseconds, and how many requests there were in all.
fn timed(run: &mut Recorded, stalled: &[usize], count: usize) -> (Vec<u64>, usize) {
    let rng = &mut ChaCha20Rng::seed_from_u64(39);
    let certificate = newest(run).clone();
    let (wanted, committee) = (Wanted::of(run), Committee::new(&certificate).unwrap());
    let raw = [wanted.label.clone()];
    let labels = Labels::new(&raw).unwrap();
    let mut latency: BTreeMap<NodeId, f64> = BTreeMap::new();
    let (mut times, mut requests) = (Vec::new(), 0);
    for _ in 0..count {
        let mut preferred = committee.nodes().to_vec();
        preferred.sort_by(|a, b| {
            let of = |node| latency.get(node).copied().unwrap_or_default();
            of(a).total_cmp(&of(b))
        });
        let request = wanted.request.clone();
        let mut fan =
            Fan::new(&committee, request, &labels, &preferred, HEDGE, Proofs::OnDemand).unwrap();
        let mut coming: BTreeMap<(u64, usize), (NodeId, v1::EvaluateReply)> = BTreeMap::new();
        let mut waiting = Vec::new();
        let mut time = 0;
        while !fan.is_over() {
            for send in fan.poll(Duration::from_millis(time)) {
                requests += 1;
                let at = committee.nodes().iter().position(|node| *node == send.node).unwrap();
                if stalled.contains(&at) {
                    waiting.push(send.node);
                    continue;
                }
                let reply = asked(run, send.node, send.request, rng).unwrap();
                let trip = 5 + u64::from(rng.next_u32() % 15);
                coming.insert((time + trip, requests), (send.node, reply));
                latency.insert(send.node, trip as f64);
            }
            let deadline = fan.deadline(Duration::from_millis(time));
            let deadline = deadline.map(|at| u64::try_from(at.as_millis()).unwrap());
            let next = coming.first_key_value().map(|((at, _), _)| *at);
            match (next, deadline) {
                (Some(next), deadline) if deadline.is_none_or(|deadline| next <= deadline) => {
                    let (_, (node, reply)) = coming.pop_first().unwrap();
                    time = next;
                    let _ = fan.on_reply(node, reply);
                }
                (_, Some(deadline)) => time = deadline,
                (Some(_) | None, None) => {
                    for node in waiting.drain(..) {
                        let silent = Failure::unreachable(UnreachableKind::TimedOut, "simulated");
                        fan.on_failure(node, silent);
                    }
                }
            }
        }
        // Who has not answered by then goes to the end.
        for node in waiting {
            latency.insert(node, 10_000.0);
        }
        assert!(fan.finish().is_ok());
        times.push(time);
    }
    times.sort_unstable();
    (times, requests)
}

/// `attacks.md` line 39, in virtual time, after a refresh that those nodes took part in: N - T nodes stall, so that no other
/// refresh comes about either, and the 99th percentile of evaluations is no worse than the healthy one and a hedge delay and
/// a fifth, with at most a tenth more requests.
#[test]
fn attack_39_stalled_nodes_of_a_refreshed_key_cost_a_hedge_delay() {
    const COUNT: usize = 400;
    for (t, n) in [(2, 3), (3, 5)] {
        let (_, mut run) = recorded(3, &refresh(t, n, &[])).unwrap();
        let p99 = |times: &[u64]| times[times.len() * 99 / 100];
        let (healthy, base) = timed(&mut run, &[], COUNT);
        assert_eq!(base, COUNT * usize::from(t));
        for first in 0..usize::from(n) {
            let stalled: Vec<usize> =
                (0..usize::from(n - t)).map(|more| (first + more) % usize::from(n)).collect();
            let (times, requests) = timed(&mut run, &stalled, COUNT);
            let bound = (p99(&healthy) + 50) * 6 / 5;
            assert!(p99(&times) <= bound, "{} of {bound} ms with {stalled:?}", p99(&times));
            assert!(requests * 10 <= base * 11, "{requests} of {base} with {stalled:?}");
        }
    }
}
