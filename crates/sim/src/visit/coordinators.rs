//! What honest coordinators make of what is not about their order.

use quorate_coordinator::Failure;
use quorate_coordinator::ceremony::{
    Blame, Dkg, Finding, Finish, FinishOutcome, Outcome as DkgOutcome, Reply, ReplyFault,
    Unfounded, judge,
};
use quorate_documents::{Member, Order, Statement};
use quorate_schemes::dkg::{ReceiveKey, Ristretto255, Suite};
use quorate_types::{Generation, KeyId, KeyVersion};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode};
use rand_core::Rng;

use super::puppet::{Puppet, ROUND0, binding, rewritten};
use super::{Stop, Visited, Visitor, defect};
use crate::cluster::{NodeKeys, OrderedKey};

/// A key of two participants that are made up, which no node knows.
fn invented(visitor: &mut Visitor<'_>) -> Result<(OrderedKey, Vec<Puppet>), Stop> {
    let nodes = vec![NodeKeys::new(1, visitor.rng)?, NodeKeys::new(2, visitor.rng)?];
    let order = Order::new(1, nodes.iter().map(|n| (n.entry.id, n.entry.identity_key)))
        .map_err(|error| Stop::Defect(error.to_string()))?;
    let mut id = [0; 32];
    visitor.rng.fill_bytes(&mut id);
    let members: Vec<Member> = order.members().to_vec();
    let puppets =
        nodes.into_iter().zip(members).map(|(keys, member)| Puppet::new(keys, member, visitor.rng));
    let puppets = puppets.collect();
    Ok((OrderedKey { id: KeyId::from_bytes(id), version: KeyVersion::FIRST, order }, puppets))
}

pub(super) fn other_terms(visitor: &mut Visitor<'_>) -> Visited {
    let (key, _) = invented(visitor)?;
    let good = visitor.session(&key);
    visitor.concludes(Dkg::new(&good, &key.order).is_ok(), "a coordinator refuses its own session");
    type Change = (fn(&mut v1::Session), &'static str);
    let changes: [Change; 7] = [
        (|session| session.order.reverse(), "order"),
        (|session| session.key.reverse(), "key"),
        (|session| session.key_version += 1, "key version"),
        (|session| session.parent = vec![7; 32], "parent"),
        (|session| session.attempt = 0, "attempt"),
        (|session| session.attempt = 17, "attempt"),
        (|session| session.nonce.truncate(31), "nonce"),
    ];
    for (change, what) in changes {
        let mut other = good.clone();
        change(&mut other);
        let right = Dkg::new(&other, &key.order).is_err();
        visitor.concludes(right, &format!("a coordinator begins a session with another {what}"));
    }
    Ok(())
}

pub(super) fn other_statement(visitor: &mut Visitor<'_>) -> Visited {
    let (key, puppets) = invented(visitor)?;
    let point = *ReceiveKey::<Ristretto255>::random(visitor.rng).public();
    let said = |id: KeyId, commitment: [u8; 32]| {
        let (version, suite) = (key.version, Ristretto255::ID);
        let generation = Generation::from_bytes([7; 32]);
        Statement::of_dkg(id, version, &key.order, suite, vec![commitment], generation)
            .map_err(|error| Stop::Defect(error.to_string()))
    };
    let mut other = *key.id.as_bytes();
    other.reverse();
    // Of another key; of a key that is zero; of bytes that are no point.
    for wrong in
        [said(KeyId::from_bytes(other), point)?, said(key.id, [0; 32])?, said(key.id, [0xff; 32])?]
    {
        let statements = [said(key.id, point)?, wrong];
        let mut finish = Finish::new(key.id, key.version, &key.order);
        drop(finish.poll());
        for (puppet, statement) in puppets.iter().zip(statements) {
            let identity = &puppet.keys.identity;
            let statement = identity.envelop(PayloadType::Certificate, statement.payload());
            let transcript_signature = vec![7; 64];
            let reply = v1::DkgSignReply { statement: Some(statement), transcript_signature };
            finish.on_reply(puppet.member.node, Reply::DkgSign(reply));
        }
        let liar = puppets.last().ok_or_else(|| defect("no puppet"))?.member.node;
        let named = |blame: &Blame| {
            blame.node == liar && blame.finding == Finding::Reply(ReplyFault::Statement)
        };
        let right = match finish.outcome() {
            Some(FinishOutcome::Incomplete(incomplete)) => {
                incomplete.blamed.len() == 1 && incomplete.blamed.iter().all(named)
            }
            Some(FinishOutcome::Certified(_)) | None => false,
        };
        visitor.concludes(right, "a coordinator takes a statement that is not of its order");
    }
    Ok(())
}

pub(super) fn other_evidence(visitor: &mut Visitor<'_>) -> Visited {
    let (key, puppets) = invented(visitor)?;
    let [dealer, accuser] = puppets.as_slice() else { return Err(defect("no puppets")) };
    let session = visitor.session(&key);
    let binding = binding(&session)?;
    let good = dealer.round0(&binding, visitor.rng)?;
    let bad = rewritten(ROUND0, &good, &dealer.keys.identity, |message: &mut v1::Round0| {
        message.proof.reverse();
    })?;
    let mut other = session.clone();
    other.nonce.reverse();
    let guilty = Unfounded::Round0IsGood;
    let cases: [(&v1::Session, &Envelope, Option<Unfounded>); 3] = [
        (&session, &bad, None),
        (&other, &bad, Some(Unfounded::Session)),
        (&session, &good, Some(guilty)),
    ];
    for (named, shown, unfounded) in cases {
        let mut dkg = Dkg::new(&session, &key.order).map_err(|_| defect("no session"))?;
        drop(dkg.poll());
        let reply = v1::DkgOpenReply { round0: Some(good.clone()) };
        dkg.on_reply(dealer.member.node, Reply::DkgOpen(reply));
        let mut refusal = RefusalCode::DealerFault.message("cheated".to_owned(), visitor.time());
        let evidence = v1::Evidence {
            session: Some(named.clone()),
            recipient: accuser.member.index.get().into(),
            dealer: dealer.member.index.get().into(),
            round0: vec![shown.clone()],
            ..v1::Evidence::default()
        };
        refusal.evidence = Some(evidence);
        dkg.on_failure(accuser.member.node, Failure::Refused(Box::new(refusal)));
        let Some(DkgOutcome::Failed(failed)) = dkg.outcome() else {
            visitor.concludes(false, "a coordinator goes on without a participant");
            continue;
        };
        let [blame] = failed.blamed.as_slice() else {
            visitor.concludes(false, "a coordinator blames nobody, or everybody");
            continue;
        };
        let right = match &unfounded {
            None => {
                let evidence = blame.evidence.as_ref();
                let convicted = evidence.and_then(|e| judge(&key.order, e).ok()).map(|(n, _)| n);
                blame.node == dealer.member.node && convicted == Some(blame.node)
            }
            Some(reason) => {
                blame.node == accuser.member.node
                    && matches!(&blame.finding,
                        Finding::FalseAccusation { reason: said, .. } if said == reason)
            }
        };
        let what = format!("{unfounded:?}: {blame}");
        visitor.concludes(right, &what);
    }
    Ok(())
}
