//! Evaluating under a key that was made, with cheating and silent nodes among those asked.

use core::time::Duration;

use quorate_coordinator::evaluation::{Committee, Fan, FinishError, Proofs};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::Certificate;
use quorate_node::{Reply, Request};
use quorate_schemes::prf::Labels;
use quorate_types::{Action, KeySpec, NodeId, PrincipalId, Purpose, TenantId, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label, PublicKey};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::cluster::OrderedKey;
use crate::node::{NodeDefect, SimNode};

/// How long to wait for a slow node; nodes here answer at once or never.
const HEDGE: Duration = Duration::from_millis(50);

/// Whose objects are evaluated.
pub struct Names {
    /// The key's tenant.
    pub tenant: TenantId,
    /// The creator.
    pub owner: PrincipalId,
    /// The owner's public key.
    pub caller: PublicKey,
}

/// What a node does with an evaluation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    Silent,
    Lies(u32),
}

/// A request about a few labels, and the labels.
pub(crate) fn items(
    names: &Names,
    key: &OrderedKey,
    now: UnixSeconds,
    rng: &mut ChaCha20Rng,
) -> (v1::EvaluateRequest, Vec<Vec<u8>>) {
    let count = 1 + rng.next_u32() as usize % 3;
    let mut template = v1::EvaluateRequest {
        key: key.id.as_bytes().to_vec(),
        key_version: key.version.get(),
        // Nodes' clocks may be wrong by more than who encrypts may be off.
        action: Action::Decrypt.number(),
        ..v1::EvaluateRequest::default()
    };
    let mut raw = Vec::new();
    for _ in 0..count {
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        template.items.push(v1::Item {
            nonce: nonce.to_vec(),
            created_at: now.0,
            creator: names.owner.as_bytes().to_vec(),
            context: 0,
        });
        let label = Label {
            purpose: Purpose::ObjectKey,
            spec: KeySpec::PrfRistretto255Sha512,
            tenant: names.tenant,
            key: key.id,
            version: key.version,
            creator: names.owner,
            created_at: now,
            nonce,
            context_hash: EncryptionContext::default().hash(),
        };
        raw.push(label.canonical_bytes());
    }
    (template, raw)
}

/// Evaluates labels with different nodes cheating and silent: as long as `T` honest ones are left, every
/// time to the same outputs, and every cheater that was asked is named; with fewer, to none.
///
/// # Errors
/// [`NodeDefect`]. The inner result says what was wrong.
pub fn check(
    names: &Names,
    key: &OrderedKey,
    certificate: &Certificate,
    nodes: &mut [(NodeId, &mut SimNode)],
    now: UnixSeconds,
    rng: &mut ChaCha20Rng,
) -> Result<Result<(), String>, NodeDefect> {
    let committee = match Committee::new(certificate) {
        Ok(committee) => committee,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (template, raw) = items(names, key, now, rng);
    let labels = match Labels::new(&raw) {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let t = usize::from(committee.threshold().t());
    let mut truth: Option<Vec<[u8; 64]>> = None;
    for round in 0..3u32 {
        // Whoever is not in the world as an honest node is silent.
        let spare = nodes.len() - t;
        let bad = if round == 2 { spare + 1 } else { spare };
        let mut manners = vec![Manner::Honest; nodes.len()];
        let offset = rng.next_u32() as usize;
        for at in 0..bad.min(nodes.len()) {
            let lies = round != 0 || rng.next_u32().is_multiple_of(2);
            let manner = if lies { Manner::Lies(rng.next_u32()) } else { Manner::Silent };
            if let Some(place) = manners.get_mut((offset + at) % nodes.len()) {
                *place = manner;
            }
        }
        // The bad ones are asked first.
        let mut preferred: Vec<NodeId> = Vec::new();
        for ((node, _), manner) in nodes.iter().zip(&manners) {
            if *manner != Manner::Honest {
                preferred.push(*node);
            }
        }
        let fan =
            Fan::new(&committee, template.clone(), &labels, &preferred, HEDGE, Proofs::Always);
        let mut fan = match fan {
            Ok(fan) => fan,
            Err(error) => return Ok(Err(error.to_string())),
        };
        while !fan.is_over() {
            for send in fan.poll(Duration::ZERO) {
                let silent = Failure::unreachable(UnreachableKind::TimedOut, "simulated");
                let place = nodes.iter().position(|(node, _)| *node == send.node);
                let found = place.and_then(|p| Some((nodes.get_mut(p)?, *manners.get(p)?)));
                let Some(((_, node), manner)) = found.filter(|(_, m)| *m != Manner::Silent) else {
                    fan.on_failure(send.node, silent);
                    continue;
                };
                let request = Request::Evaluate(send.request);
                match node.ask(names.caller, request, now, rng)? {
                    Ok(Reply::Evaluate(mut reply)) => {
                        if let Manner::Lies(how) = manner {
                            lie(how, &mut reply);
                        }
                        fan.on_reply(send.node, reply);
                    }
                    Ok(_) => return Ok(Err("another reply".to_owned())),
                    Err(refusal) => {
                        return Ok(Err(format!("{}: {}", refusal.code, refusal.message)));
                    }
                }
            }
        }
        let liars = |report: &quorate_coordinator::evaluation::Report| {
            nodes.iter().zip(&manners).all(|((node, _), manner)| {
                let asked = report.asked.contains(node);
                let named = report.cheaters.iter().any(|cheater| cheater.node == *node);
                named == (asked && matches!(manner, Manner::Lies(_)))
            })
        };
        let enough = bad <= spare;
        match fan.finish() {
            Ok(done) => {
                let outputs: Vec<[u8; 64]> = done.outputs.iter().map(|o| *o.reveal()).collect();
                if !enough {
                    return Ok(Err("fewer than T honest nodes gave an output".to_owned()));
                }
                if !liars(&done.report) {
                    return Ok(Err("not exactly the cheaters are named".to_owned()));
                }
                if truth.get_or_insert_with(|| outputs.clone()) != &outputs {
                    return Ok(Err("two quorums give two outputs".to_owned()));
                }
            }
            Err(FinishError::NotQuorate(not)) => {
                if enough {
                    return Ok(Err(not.to_string()));
                }
                if !liars(&not.report) {
                    return Ok(Err("not exactly the cheaters are named".to_owned()));
                }
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(()))
}

/// An answer with something in it changed.
pub(crate) fn lie(how: u32, reply: &mut v1::EvaluateReply) {
    let flip = |bytes: &mut Vec<u8>| {
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 1;
        }
    };
    match how % 6 {
        0 => flip(&mut reply.partials),
        1 => flip(&mut reply.generation),
        2 => reply.index += 1,
        3 => flip(&mut reply.proof),
        4 => reply.partials.truncate(31),
        _ => reply.proof.clear(),
    }
}
