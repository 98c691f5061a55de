//! Bytes that are not documents.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use common::*;
use quorate_documents::*;
use quorate_types::*;
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, strict};

fn parse(proto: &v1::Document) -> Result<SignedDocument, DocumentError> {
    SignedDocument::parse(key(1).envelop(PayloadType::Document, strict::encode(proto)))
}

fn proto(document: &SignedDocument) -> v1::Document {
    strict::decode("Document", document.payload()).unwrap()
}

#[test]
fn every_kind_survives_the_way_there_and_back() {
    let c = Cluster::new();
    for document in [&c.roster, &c.tenant, &c.principal, &c.key] {
        let parsed = SignedDocument::parse(document.envelope().clone()).unwrap();
        assert_eq!(&parsed, document);
        let row = SignedDocument::verified_before(document.envelope().clone()).unwrap();
        assert_eq!(&row, document);
        assert_eq!(Document::from_payload(document.payload()).unwrap(), *document.document());
    }
}

#[test]
fn salt_id_version_and_predecessors_fit_together() {
    let c = Cluster::new();
    let body = Body::Principal(principal_of(&c.principal));
    let second = next(&[&c.principal], body, Some(&c.tenant), vec![], &[2]);
    let bad = |document: &SignedDocument, change: &dyn Fn(&mut v1::Document)| {
        let mut p = proto(document);
        change(&mut p);
        parse(&p).unwrap_err()
    };
    use DocumentError::{Authority, Frontier, Lineage, NoBody, Predecessors, RosterExpiry};
    let one = &c.principal;
    assert_eq!(bad(one, &|p| p.salt.truncate(15)), Lineage);
    assert_eq!(bad(one, &|p| p.salt.clear()), Lineage);
    assert_eq!(bad(one, &|p| p.id = vec![1; 32]), Lineage);
    assert_eq!(bad(one, &|p| p.version = 0), Lineage);
    assert_eq!(bad(one, &|p| p.version = 2), Lineage);
    assert_eq!(bad(one, &|p| p.predecessors = vec![vec![1; 32]]), Lineage);
    assert_eq!(bad(&second, &|p| p.salt = vec![1; 16]), Lineage);
    assert_eq!(bad(&second, &|p| p.id.clear()), Lineage);
    assert_eq!(bad(&second, &|p| p.version = 1), Lineage);
    assert_eq!(bad(&second, &|p| p.predecessors.clear()), Lineage);
    assert_eq!(bad(&second, &|p| p.predecessors.push(p.predecessors[0].clone())), Predecessors);
    assert_eq!(bad(&second, &|p| p.predecessors[0].truncate(31)), Predecessors);
    assert_eq!(bad(one, &|p| p.authority.clear()), Authority);
    assert_eq!(bad(one, &|p| p.authority.truncate(31)), Authority);
    assert_eq!(bad(&c.roster, &|p| p.authority = vec![1; 32]), Authority);
    let entry = v1::FrontierEntry { id: vec![1; 32], version: 1, digest: vec![2; 32] };
    assert_eq!(bad(&second, &|p| p.frontier.push(entry.clone())), Frontier);
    assert_eq!(bad(&c.tenant, &|p| p.frontier.push(entry.clone())), Frontier);
    assert_eq!(bad(one, &|p| p.body = None), NoBody);
    let expiry = |expires_at| {
        bad(&c.roster, &|p| {
            if let Some(v1::document::Body::Roster(r)) = &mut p.body {
                r.expires_at = expires_at;
            }
        })
    };
    assert_eq!(expiry(NOW), RosterExpiry);
    assert_eq!(expiry(NOW + 400 * 86_400 + 1), RosterExpiry);
}

#[test]
fn frontiers_are_sorted() {
    let c = Cluster::new();
    let frontier = c.set.frontier(&c.tenant.id());
    let body = Body::Tenant(tenant_of(&c.tenant));
    let second = next(&[&c.tenant], body, Some(&c.tenant), frontier, &[2]);
    let mut p = proto(&second);
    p.frontier.reverse();
    assert_eq!(parse(&p), Err(DocumentError::Frontier));
    p.frontier.reverse();
    p.frontier[0].version = 0;
    assert_eq!(parse(&p), Err(DocumentError::Frontier));
}

#[test]
fn bodies_are_checked() {
    let mut body = roster(&[1], 1).to_proto();
    assert!(Roster::from_proto(&body).is_ok());
    let check = |change: &dyn Fn(&mut v1::Roster)| {
        let mut changed = body.clone();
        change(&mut changed);
        Roster::from_proto(&changed).unwrap_err()
    };
    use BodyError::*;
    assert_eq!(check(&|r| r.nodes[1].id = r.nodes[0].id.clone()), Duplicate("nodes.id"));
    assert_eq!(check(&|r| r.nodes[1].name = r.nodes[0].name.clone()), Duplicate("nodes.name"));
    assert_eq!(
        check(&|r| r.nodes[1].tls_key = r.nodes[0].identity_key.clone()),
        Duplicate("a node's key")
    );
    assert_eq!(
        check(&|r| r.nodes[1].log_key = r.nodes[1].identity_key.clone()),
        Duplicate("a node's key")
    );
    assert!(matches!(check(&|r| r.nodes[0].urls[0] = "http://x".into()), Url(_)));
    assert!(matches!(check(&|r| r.nodes[0].urls[0] = "https://".into()), Url(_)));
    assert!(matches!(check(&|r| r.nodes[0].urls.clear()), Count { field: "urls", .. }));
    assert!(matches!(check(&|r| r.nodes[0].jurisdiction = "ch".into()), Jurisdiction(_)));
    assert_eq!(check(&|r| r.nodes[0].name = "a\nb".into()), Name("nodes.name"));
    assert_eq!(check(&|r| r.name = "x".repeat(129)), Name("name"));
    assert_eq!(check(&|r| r.name.clear()), Name("name"));
    assert_eq!(check(&|r| r.administrators = None), Missing("administrators"));
    // The identity point is on the curve and of low order.
    let mut identity = vec![0; 32];
    identity[0] = 1;
    assert_eq!(
        check(&|r| r.nodes[0].identity_key = identity.clone()),
        PublicKey("nodes.identity_key")
    );
    assert!(matches!(check(&|r| r.nodes.clear()), Count { field: "nodes", .. }));

    let three = vec![public(1), public(2), public(3)];
    assert_eq!(Administrators::new(three.clone(), 1), Err(Quorum { quorum: 1, keys: 3 }));
    assert_eq!(Administrators::new(three.clone(), 4), Err(Quorum { quorum: 4, keys: 3 }));
    let two = vec![public(1), public(2)];
    assert_eq!(Administrators::new(two, 1), Err(Quorum { quorum: 1, keys: 2 }));
    assert!(Administrators::new(vec![public(1), public(1)], 2).is_err());
    assert!(Administrators::new(vec![], 0).is_err());
    body.administrators.as_mut().unwrap().keys =
        administrators(&[1, 2, 3], 2).keys().iter().rev().map(|k| k.as_bytes().to_vec()).collect();
    assert_eq!(Roster::from_proto(&body), Err(Order("administrators.keys")));
}

#[test]
fn orders_and_keys_are_checked() {
    let good = order(2, &[1, 2, 3]).to_proto();
    let check = |change: &dyn Fn(&mut v1::Order)| {
        let mut changed = good.clone();
        change(&mut changed);
        Order::from_proto(&changed).is_ok()
    };
    assert!(check(&|_| {}));
    assert!(!check(&|o| o.number = 0));
    assert!(!check(&|o| o.threshold = 0));
    assert!(!check(&|o| o.threshold = 4));
    assert!(!check(&|o| o.threshold = 65_538), "not 2 when cut to 16 bits");
    assert!(!check(&|o| o.members[0].index = 0));
    assert!(!check(&|o| o.members[2].index = 4));
    assert!(!check(&|o| o.members[1].index = 1));
    assert!(!check(&|o| o.members.swap(0, 1)));
    assert!(!check(&|o| o.members[1].node = o.members[0].node.clone()));
    assert!(!check(&|o| o.members[1].identity_key = o.members[0].identity_key.clone()));
    assert!(!check(&|o| o.max_attempts = 0));
    assert!(!check(&|o| o.max_attempts = 17));
    assert!(!check(&|o| o.members.clear()));
    assert!(order(2, &[1, 2]).fragile() && !order(1, &[1]).fragile());

    let good = key_body(TenantId::from_bytes([1; 32]), order(2, &[1, 2, 3])).to_proto();
    let check = |change: &dyn Fn(&mut v1::Key)| {
        let mut changed = good.clone();
        change(&mut changed);
        Key::from_proto(&changed).is_ok()
    };
    assert!(check(&|_| {}));
    assert!(!check(&|k| k.origin = 2));
    assert!(!check(&|k| k.spec = 0));
    assert!(!check(&|k| k.spec = 257), "not 1 when cut to 8 bits");
    assert!(!check(&|k| k.usage = 2));
    assert!(!check(&|k| k.state = 0));
    assert!(!check(&|k| k.minimum_committee = 0));
    assert!(!check(&|k| k.versions[0].number = 2));
    assert!(!check(&|k| k.versions.clear()));
    assert!(!check(&|k| k.versions[0].order = None));
    assert!(!check(&|k| k.jurisdictions = vec!["DE".into(), "CH".into()]));
}

#[test]
fn a_row_of_heads_is_read_strictly() {
    let c = Cluster::new();
    assert_eq!(Heads::<Key>::from_row(&[] as &[Vec<u8>]), Err(HeadsError::Empty));
    let other = [c.principal.payload()];
    assert!(matches!(Heads::<Key>::from_row(&other), Err(HeadsError::Kind { .. })));
    let key = key_body(c.tenant_id(), order(2, &[1, 2, 3]));
    let second = first(Body::Key(key), Some(&c.tenant), 9, &[10]);
    let mixed = [c.key.payload(), second.payload()];
    assert_eq!(Heads::<Key>::from_row(&mixed), Err(HeadsError::Mixed));
}

/// Former keys are read strictly, and no key of a roster is two nodes' or two purposes', former ones included.
#[test]
fn former_keys_are_sorted_bounded_and_nobodys_again() {
    let former = |purpose, n: u8, until| FormerKey { purpose, key: public(n), until };
    let entry = |keys: Vec<FormerKey>| NodeEntry { former_keys: keys, ..node(1) };
    let read = |entry: &NodeEntry| NodeEntry::from_proto(&entry.to_proto());
    let until = UnixSeconds(NOW + 10);
    let good = entry(vec![
        former(KeyPurpose::Identity, 1, until),
        former(KeyPurpose::Tls, 2, until),
        former(KeyPurpose::Tls, 3, UnixSeconds(NOW)),
    ]);
    let good = NodeEntry {
        former_keys: {
            let mut keys = good.former_keys.clone();
            keys.sort_unstable();
            keys
        },
        ..good
    };
    assert_eq!(read(&good).as_ref(), Ok(&good));
    assert!(good.accepts(KeyPurpose::Tls, &public(2), UnixSeconds(NOW)));
    assert!(!good.accepts(KeyPurpose::Tls, &public(2), until));
    assert!(!good.accepts(KeyPurpose::Tls, &public(3), UnixSeconds(NOW)));
    assert!(!good.accepts(KeyPurpose::Log, &public(2), UnixSeconds(NOW)), "for another purpose");
    assert!(good.has_had(KeyPurpose::Tls, &public(3)));
    assert!(good.accepts(KeyPurpose::Tls, &good.tls_key, UnixSeconds(u64::MAX)));

    let mut unsorted = good.clone();
    unsorted.former_keys.reverse();
    assert!(read(&unsorted).is_err());
    let own = entry(vec![former(KeyPurpose::Log, 101 + 3, until)]);
    assert_eq!(own.former_keys[0].key, own.tls_key);
    assert!(read(&own).is_err(), "its own present key");
    let mut many: Vec<_> = (1..=13).map(|n| former(KeyPurpose::Tls, n, until)).collect();
    many.sort_unstable();
    assert!(read(&entry(many)).is_err());
    let mut odd = good.to_proto();
    odd.former_keys[0].purpose = 4;
    assert!(NodeEntry::from_proto(&odd).is_err());

    let mut both = roster(&[90], 1);
    both.nodes[0].former_keys = vec![former(KeyPurpose::Tls, 101 + 6, until)];
    assert_eq!(both.nodes[0].former_keys[0].key, both.nodes[1].tls_key);
    assert!(Roster::from_proto(&both.to_proto()).is_err(), "another node's present key");

    // A card brings keys, and never its own history. The oldest are forgotten where there are too many.
    let mut next = node(1);
    for n in 0..15_u8 {
        let card = NodeEntry { tls_key: public(200 + n), ..next.clone() };
        next = next.succeeded_by(&card, UnixSeconds(NOW + u64::from(n)));
        assert!(next.former_keys.is_sorted());
    }
    assert_eq!((next.tls_key, next.former_keys.len()), (public(214), 12));
    assert!(!next.has_had(KeyPurpose::Tls, &node(1).tls_key));
    assert!(next.has_had(KeyPurpose::Tls, &public(213)));
    assert_eq!(read(&next), Ok(next));
}
