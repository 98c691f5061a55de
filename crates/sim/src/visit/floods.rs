//! More sessions than there may be.

use quorate_documents::Order;
use quorate_node::Request;
use quorate_types::limits::{
    MAX_COMMITTEE, MAX_SESSION_BYTES, MAX_SESSION_BYTES_PER_TENANT, MAX_SESSIONS_PER_PRINCIPAL,
    SESSION_SECONDS, SESSIONS_OF_EVERY_TENANT, session_bytes,
};
use quorate_wire::RefusalCode;

use super::{By, Right, Stop, Visited, Visitor, draw};
use crate::cluster::OrderedKey;

/// Opens so many sessions, which it may, and one that it may not.
fn flood(visitor: &mut Visitor<'_>, by: By, key: &OrderedKey, may: usize) -> Visited {
    for _ in 0..may {
        let session = visitor.session(key);
        let open = visitor.open(&session);
        visitor.demand(by, &open, Right::Yes)?;
        visitor.fired += 1;
    }
    Ok(())
}

fn one_more(visitor: &mut Visitor<'_>, by: By, key: &OrderedKey, words: &'static str) -> Visited {
    let session = visitor.session(key);
    let open: Request = visitor.open(&session);
    visitor.refused(by, &open, RefusalCode::SessionLimit, words)
}

/// What was open at the node is over.
fn later(visitor: &mut Visitor<'_>) {
    visitor.now += (SESSION_SECONDS + 60) * 1000;
}

pub(super) fn by_number(visitor: &mut Visitor<'_>) -> Visited {
    later(visitor);
    let (_, key) = visitor.lone(|_| {})?;
    flood(visitor, By::Courier, &key, MAX_SESSIONS_PER_PRINCIPAL)?;
    one_more(visitor, By::Courier, &key, "has 64 open sessions")?;
    flood(visitor, By::Owner, &key, MAX_SESSIONS_PER_PRINCIPAL)?;
    let now = visitor.time();
    let (document, third) = draw::courier(visitor.cluster, "third", now, visitor.rng)?;
    visitor.give(&[&document])?;
    one_more(visitor, By::Other(third.public()), &key, "the tenant has 128 open sessions")
}

pub(super) fn by_bytes(visitor: &mut Visitor<'_>) -> Visited {
    later(visitor);
    // A session of the largest committee takes the most room; the others of it need not exist.
    let known = visitor.cluster.nodes.len();
    let puppets = visitor.puppets(usize::from(MAX_COMMITTEE) - known)?;
    let own = (visitor.id(), visitor.node()?.identity().public());
    let nodes = visitor.cluster.nodes.iter().chain(&puppets);
    let others = nodes.map(|node| (node.entry.id, node.entry.identity_key));
    let members: Vec<_> = [own].into_iter().chain(others.filter(|(id, _)| *id != own.0)).collect();
    let order = || Order::new(1, members.clone()).map_err(|error| Stop::Defect(error.to_string()));
    let each = session_bytes(members.len());
    let of_tenant = MAX_SESSION_BYTES_PER_TENANT / each;
    let (_, key) = visitor.key(order()?, |_| {})?;
    flood(visitor, By::Courier, &key, of_tenant)?;
    one_more(visitor, By::Courier, &key, "the tenant's open sessions hold")?;
    // Others, until three quarters of all room is taken; from there only who has few opens another.
    let mut left = MAX_SESSION_BYTES / 4 * 3 / each - of_tenant;
    for name in ["second", "third", "fourth"] {
        let now = visitor.time();
        let under = (visitor.cluster, visitor.roster());
        let stranger = draw::Stranger::new(under, name, now, visitor.rng)?;
        let of = Some(&stranger);
        let drawn = draw::key(visitor.cluster, of, order()?, now, visitor.rng, |_| {})?;
        let (document, key) = drawn;
        visitor.give(&[&stranger.tenant, &stranger.principal, &document])?;
        visitor.keys.push(key.clone());
        let by = By::Other(stranger.key.public());
        let may = left.min(of_tenant);
        left -= may;
        flood(visitor, by, &key, may)?;
        if left == 0 && may < of_tenant {
            let few = SESSIONS_OF_EVERY_TENANT.saturating_sub(may);
            flood(visitor, by, &key, few)?;
            return one_more(visitor, by, &key, "sessions are open at this node");
        }
    }
    Err(Stop::Defect("the table is larger than the flood".to_owned()))
}
