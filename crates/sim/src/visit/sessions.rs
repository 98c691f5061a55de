//! Sessions that may not be, or not any more.

use quorate_documents::Order;
use quorate_node::Reply;
use quorate_types::limits::SESSION_SECONDS;
use quorate_wire::RefusalCode;

use super::{By, Right, Stop, Visited, Visitor};
use crate::invariants::Invariant;

pub(super) fn once_signed(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let before = visitor.begin(&key, Vec::new())?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    visitor.deal_all(&mut ceremony)?;
    visitor.sign(&ceremony)?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    visitor.refused(By::Courier, &open, RefusalCode::AlreadySigned, "has signed")?;
    let deal = visitor.deal(before.id, &before.round0);
    visitor.refused(By::Courier, &deal, RefusalCode::AlreadySigned, "has signed")
}

pub(super) fn reopened(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    visitor.deal_all(&mut ceremony)?;
    visitor.now += (SESSION_SECONDS + 60) * 1000;
    // What has expired goes when the next one is opened.
    visitor.begin(&key, Vec::new())?;
    let open = visitor.open(&ceremony.session);
    visitor.refused(By::Courier, &open, RefusalCode::SessionUnknown, "has expired")
}

pub(super) fn used_up(visitor: &mut Visitor<'_>) -> Visited {
    let own = (visitor.id(), visitor.node()?.identity().public());
    let order = Order::new(1, [own]).and_then(|order| order.with_max_attempts(2));
    let order = order.map_err(|error| Stop::Defect(error.to_string()))?;
    let (_, key) = visitor.key(order, |_| {})?;
    // One that is open already does not help either.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(visitor.begin(&key, Vec::new())?);
    }
    for ceremony in open.iter_mut().take(2) {
        visitor.deal_all(ceremony)?;
    }
    let session = visitor.session(&key);
    let one_more = visitor.open(&session);
    let code = RefusalCode::AttemptsExhausted;
    visitor.refused(By::Courier, &one_more, code, "used up")?;
    match open.last() {
        Some(last) => {
            let deal = visitor.deal(last.id, &last.round0);
            visitor.refused(By::Courier, &deal, code, "used up")
        }
        None => Ok(()),
    }
}

/// Answers are lost, and another coordinator may come: what was said once is said again.
pub(super) fn again(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let mut ceremony = visitor.begin(&key, Vec::new())?;
    visitor.deal_all(&mut ceremony)?;
    let first = visitor.sign(&ceremony)?;
    visitor.fired += 1;
    let again = visitor.sign(&ceremony)?;
    let certificate = visitor.certificate(&ceremony, &first)?;
    let mut generations = Vec::new();
    for _ in 0..2 {
        visitor.fired += 1;
        match visitor.demand(By::Courier, &certificate, Right::Yes)? {
            Some(Reply::PutCertificate(reply)) => generations.push(reply.generation),
            _ => return Err(Stop::Shown),
        }
    }
    let same = generations.first() == generations.last() && first == again;
    if !same {
        visitor.judge.report(Invariant::PromiseIsKept, "another answer to the same question");
    }
    Ok(())
}
