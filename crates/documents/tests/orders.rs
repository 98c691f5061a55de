//! Orders beyond the first, the chain that they make, and the certificates below a DKG's.
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
use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_documents::*;
use quorate_types::*;
use quorate_wire::PayloadType;
use quorate_wire::proto::v1;

fn cluster() -> Cluster {
    let mut roster = roster(&[1], 1);
    roster.nodes = (1..=6).map(node).collect();
    Cluster::with(roster, tenant(&[2], 1, None))
}

fn numbered(number: u32, t: u16, nodes: &[u8], entering: &[u8]) -> Order {
    let entering: Vec<NodeId> = entering.iter().map(|n| node(*n).id).collect();
    let nodes = nodes.iter().map(|n| (node(*n).id, node(*n).identity_key));
    Order::numbered(number, t, nodes, &entering).unwrap()
}

fn body(c: &Cluster, order: Order, base: bool) -> KeyOrder {
    let id = c.key.id().into();
    KeyOrder {
        tenant: c.tenant_id(),
        key: id,
        version: KeyVersion::FIRST,
        first: key_of(&c.key).versions[0].order.digest(id, KeyVersion::FIRST),
        base: base.then(|| c.key.digest()),
        settles: Vec::new(),
        order,
    }
}

fn second(c: &Cluster, seed: u64, order: Order, keys: &[u8]) -> SignedDocument {
    first(Body::KeyOrder(body(c, order, true)), Some(&c.tenant), seed, keys)
}

fn later(c: &Cluster, before: &[&SignedDocument], body: KeyOrder, keys: &[u8]) -> SignedDocument {
    next(before, Body::KeyOrder(body), Some(&c.tenant), Vec::new(), keys)
}

fn orders(c: &Cluster) -> Orders {
    c.set.orders(&c.key_heads().unwrap(), KeyVersion::FIRST).unwrap()
}

#[test]
fn orders_follow_one_another_by_one() {
    let mut c = cluster();
    assert_eq!(orders(&c).newest().unwrap().number(), 1);
    let two = second(&c, 10, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    c.add(&two);
    let three =
        later(&c, &[&two], body(&c, numbered(3, 3, &[1, 2, 4, 5, 6], &[5, 6]), false), &[2]);
    c.add(&three);
    let found = orders(&c);
    assert_eq!(found.newest().unwrap().number(), 3);
    assert_eq!(found.heads(), [three.digest()]);
    assert_eq!(found.next_number(), 4);
    for document in [&two, &three] {
        let it = KeyOrder::of(document.body()).unwrap();
        assert_eq!(found.find(&it.order_digest()), Some(&it.order));
    }
    assert_eq!(found.find(&found.first_digest()), Some(found.first()));
    assert_eq!(found.find(&Digest::from_bytes([9; 32])), None);
    // Whatever the order in which they come.
    let mut set = DocumentSet::whole(c.roster.id().into());
    let all = [&three, &two, &c.key, &c.principal, &c.tenant, &c.roster].map(Clone::clone);
    assert_eq!(set.insert_all(all), []);
    assert_eq!(set.orders(&c.key_heads().unwrap(), KeyVersion::FIRST).unwrap(), found);
}

#[test]
fn an_order_fits_what_it_follows() {
    let mut c = cluster();
    let chain = |document: &SignedDocument, c: &Cluster| {
        assert_eq!(c.refused(document), AdmitError::OrderChain);
    };
    let order = |number| numbered(number, 2, &[1, 2, 3], &[]);
    chain(&second(&c, 11, order(3), &[2]), &c);
    let with = |c: &Cluster, change: &dyn Fn(&mut KeyOrder)| {
        let mut it = body(c, order(2), true);
        change(&mut it);
        first(Body::KeyOrder(it), Some(&c.tenant), 12, &[2])
    };
    chain(&with(&c, &|it| it.first = Digest::from_bytes([1; 32])), &c);
    chain(&with(&c, &|it| it.version = KeyVersion::new(2).unwrap()), &c);
    chain(&with(&c, &|it| it.base = None), &c);
    chain(&with(&c, &|it| it.base = Some(c.principal.digest())), &c);
    let missing = Digest::from_bytes([5; 32]);
    assert_eq!(c.refused(&with(&c, &|it| it.base = Some(missing))), AdmitError::Missing(missing));
    // Another key of the same tenant.
    let other = first(
        Body::Key(key_body(c.tenant_id(), common::order(2, &[1, 2, 3]))),
        Some(&c.tenant),
        13,
        &[10],
    );
    c.add(&other);
    chain(&with(&c, &|it| it.key = other.id().into()), &c);
    let two = second(&c, 14, order(2), &[2]);
    c.add(&two);
    for number in [2, 4] {
        chain(&later(&c, &[&two], body(&c, order(number), false), &[2]), &c);
    }
    chain(&later(&c, &[&two], body(&c, order(3), true), &[2]), &c);
    // What no version changes.
    let mut strange = body(&c, order(3), false);
    strange.key = other.id().into();
    assert!(matches!(
        c.refused(&later(&c, &[&two], strange, &[2])),
        AdmitError::Immutable { field: "key", .. }
    ));
    // An order of number 1 belongs into a key document, and a later one does not.
    assert!(Order::from_proto(&order(2).to_proto()).is_ok());
    let proto = v1::KeyOrder {
        order: Some(common::order(2, &[1, 2, 3]).to_proto()),
        ..body(&c, order(2), true).to_proto()
    };
    assert!(KeyOrder::from_proto(&proto).is_err());
    let mut key = key_of(&c.key).to_proto();
    key.versions[0].order = Some(order(2).to_proto());
    assert!(Key::from_proto(&key).is_err());
}

/// Fails where a principal may lower T or N below what the order follows.
#[test]
fn a_principal_with_change_orders_and_weakens_nothing() {
    let mut c = cluster();
    let by = |c: &Cluster, order: Order, keys: &[u8]| {
        let document = second(c, 20, order, keys);
        admit(&document, &c.set)
    };
    let good = numbered(2, 2, &[1, 2, 4], &[4]);
    assert!(matches!(by(&c, good.clone(), &[10]), Ok(Admitted::ByPrincipal(_))));
    assert!(matches!(by(&c, good.clone(), &[2]), Ok(Admitted::ByAdministrators)));
    assert!(by(&c, numbered(2, 3, &[1, 2, 3, 4], &[4]), &[10]).is_ok());
    for smaller in [numbered(2, 1, &[1, 2, 3], &[]), numbered(2, 2, &[1, 2], &[])] {
        assert_eq!(by(&c, smaller.clone(), &[10]), Err(AdmitError::Weakens));
        assert!(by(&c, smaller, &[2]).is_ok());
    }
    // Of the tenant, and with `change` on this key.
    let actions = [Action::Create, Action::Coordinate, Action::Decrypt];
    let other =
        first(Body::Principal(principal(c.tenant_id(), 11, &actions)), Some(&c.tenant), 21, &[2]);
    c.add(&other);
    assert_eq!(by(&c, good.clone(), &[11]), Err(AdmitError::NotPermitted(public(11))));
    assert!(by(&c, good.clone(), &[33]).is_err());
    // Where `change` is critical, only administrators.
    let mut strict = tenant_of(&c.tenant);
    strict.critical = vec![Action::Change];
    let strict = next(
        &[&c.tenant],
        Body::Tenant(strict),
        Some(&c.tenant),
        c.set.frontier(&c.tenant.id()),
        &[2],
    );
    c.add(&strict);
    c.tenant = strict;
    assert_eq!(by(&c, good.clone(), &[10]), Err(AdmitError::Critical(Action::Change)));
    assert!(by(&c, good, &[2]).is_ok());
}

/// Two orders that know nothing of one another stop ceremonies, until one follows both; one that was signed
/// twice is one.
#[test]
fn orders_that_contend_are_settled_by_one_that_follows_all() {
    let mut c = cluster();
    let one = second(&c, 30, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    c.add(&one);
    let again = second(&c, 31, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    c.add(&again);
    assert_eq!(orders(&c).newest().unwrap().number(), 2);
    let other = second(&c, 32, numbered(2, 2, &[1, 2, 5], &[5]), &[2]);
    c.add(&other);
    assert_eq!(orders(&c).newest().unwrap_err().documents.len(), 3);
    // A higher number alone settles nothing.
    let alone = later(&c, &[&one], body(&c, numbered(3, 2, &[1, 2, 4], &[]), false), &[2]);
    c.add(&alone);
    assert!(orders(&c).newest().is_err());
    let mut settling = body(&c, numbered(4, 2, &[1, 2, 6], &[6]), false);
    settling.settles = [&again, &other].map(|d| d.frontier_entry()).to_vec();
    settling.settles.sort_by_key(|entry| (entry.id, entry.digest));
    let settled = later(&c, &[&alone], settling, &[2]);
    c.add(&settled);
    let found = orders(&c);
    assert_eq!(found.newest().unwrap().number(), 4);
    assert_eq!(found.heads(), [settled.digest()]);
    // What it settled is known still, so that certificates of it can be judged.
    let it = KeyOrder::of(other.body()).unwrap();
    assert!(found.find(&it.order_digest()).is_some());
    // Two successors of one version contend as well, and a merge settles them.
    let left = later(&c, &[&settled], body(&c, numbered(5, 2, &[1, 2, 3], &[3]), false), &[2]);
    let right = later(&c, &[&settled], body(&c, numbered(5, 2, &[1, 2, 4], &[4]), false), &[2]);
    c.add(&left);
    c.add(&right);
    assert!(orders(&c).newest().is_err());
    let merged =
        later(&c, &[&left, &right], body(&c, numbered(6, 2, &[1, 2, 3], &[3]), false), &[2]);
    c.add(&merged);
    assert_eq!(orders(&c).newest().unwrap().number(), 6);
}

/// `attacks.md` line 32: an order by an administrator who was removed does not count, and one that the next
/// tenant version keeps does, with what stands behind it.
#[test]
fn attack_32_orders_count_as_other_documents_do() {
    let mut c = cluster();
    let two = second(&c, 40, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    c.add(&two);
    let three = later(&c, &[&two], body(&c, numbered(3, 2, &[1, 2, 5], &[5]), false), &[2]);
    c.add(&three);
    let mut changed = tenant_of(&c.tenant);
    changed.administrators = administrators(&[3], 1);
    let frontier = c.set.frontier(&c.tenant.id());
    assert!(frontier.iter().any(|entry| entry.digest == three.digest()));
    assert!(frontier.iter().all(|entry| entry.digest != two.digest()), "one entry for the chain");
    let next_tenant = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&next_tenant);
    assert_eq!(orders(&c).newest().unwrap().number(), 3);
    let back_dated = later(&c, &[&three], body(&c, numbered(4, 2, &[1, 2, 6], &[6]), false), &[2]);
    c.add(&back_dated);
    assert_eq!(orders(&c).newest().unwrap().number(), 3);
    let right = next(
        &[&three],
        Body::KeyOrder(body(&c, numbered(4, 2, &[1, 2, 3], &[3]), false)),
        Some(&next_tenant),
        Vec::new(),
        &[3],
    );
    c.add(&right);
    assert_eq!(orders(&c).newest().unwrap().number(), 4);
}

fn root(c: &Cluster) -> Statement {
    let order = key_of(&c.key).versions[0].order.clone();
    let commitments = vec![[7; 32]; usize::from(order.founding().t())];
    Statement::of_dkg(
        c.key.id().into(),
        KeyVersion::FIRST,
        &order,
        SUITE_RISTRETTO255_SHA512,
        commitments,
        Generation::from_bytes([8; 32]),
    )
    .unwrap()
}

fn envelope(statement: &Statement, nodes: &[u8]) -> v1::Envelope {
    let sign = |n: &u8| statement.sign(key(100 + 3 * n));
    v1::Envelope {
        payload_type: PayloadType::Certificate.name().into(),
        payload: statement.payload(),
        signatures: nodes.iter().map(sign).collect(),
    }
}

fn reshared(parent: &Statement, order: &Order, name: u8) -> Statement {
    let mut commitments = vec![[9; 32]; usize::from(order.threshold().t())];
    commitments[0] = [7; 32];
    Statement::of_reshare(parent, order, commitments, Generation::from_bytes([name; 32])).unwrap()
}

/// `attacks.md` lines 2, 3, 6 and 20 for reshares: each field is compared, and K is the DKG's.
#[test]
fn attack_06_certificate_of_a_reshare_of_something_else() {
    let c = cluster();
    let root = root(&c);
    let order = numbered(2, 2, &[1, 2, 4], &[4]);
    let good = reshared(&root, &order, 1);
    assert_eq!((good.height(), good.parent()), (2, Some(root.generation())));
    let verify = |envelope| Certificate::verify_reshare(envelope, &order, &root);
    assert_eq!(verify(envelope(&good, &[1, 2, 4])).unwrap().statement(), &good);
    assert!(matches!(
        verify(envelope(&good, &[1, 2])),
        Err(CertificateError::SignatureMissing { .. })
    ));
    assert!(matches!(verify(envelope(&good, &[1, 2, 3, 4])), Err(CertificateError::Stranger(_))));
    let changed = |change: &dyn Fn(&mut v1::CertificateStatement)| {
        let mut proto: v1::CertificateStatement =
            quorate_wire::strict::decode("CertificateStatement", &good.payload()).unwrap();
        change(&mut proto);
        let payload = quorate_wire::strict::encode(&proto);
        let sign = |n: &u8| key(100 + 3 * n).sign(PayloadType::Certificate, &payload);
        let envelope = v1::Envelope {
            payload_type: PayloadType::Certificate.name().into(),
            signatures: [1u8, 2, 4].iter().map(sign).collect(),
            payload,
        };
        match verify(envelope) {
            Err(CertificateError::Mismatch { field }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(changed(&|s| s.key = vec![1; 32]), "key");
    assert_eq!(changed(&|s| s.key_version = 2), "key_version");
    assert_eq!(changed(&|s| s.order = vec![1; 32]), "order");
    assert_eq!(changed(&|s| s.order_number = 3), "order_number");
    assert_eq!(changed(&|s| s.suite = "COCKTAIL(Ed25519, SHA-512)".into()), "suite");
    assert_eq!(changed(&|s| s.participants[2].node = vec![9; 16]), "participants");
    assert_eq!(changed(&|s| s.commitments[0] = vec![9; 32]), "commitments");
    assert_eq!(
        changed(&|s| {
            s.parent = Vec::new();
            s.height = 1;
        }),
        "parent"
    );
    assert_eq!(
        changed(&|s| {
            s.threshold = 3;
            s.commitments.push(vec![7; 32]);
        }),
        "threshold"
    );
    // A reshare's certificate is no DKG's.
    let (id, version) = (c.key.id().into(), KeyVersion::FIRST);
    assert!(Certificate::verify(envelope(&good, &[1, 2, 4]), id, version, &order).is_err());
    // Nobody goes back to a lower order.
    let lower = Statement::of_reshare(
        &good,
        &key_of(&c.key).versions[0].order,
        good.commitments().to_vec(),
        Generation::from_bytes([2; 32]),
    );
    assert_eq!(lower, Err(CertificateError::Mismatch { field: "order_number" }));
    // Nor to another key.
    let strange = vec![[3; 32]; 2];
    let other = Statement::of_reshare(&root, &order, strange, Generation::from_bytes([2; 32]));
    assert_eq!(other, Err(CertificateError::Mismatch { field: "commitments" }));
}

#[test]
fn ranks_go_by_order_then_height_then_the_smaller_name() {
    let c = cluster();
    let root = root(&c);
    let first = key_of(&c.key).versions[0].order.clone();
    let second = numbered(2, 2, &[1, 2, 4], &[4]);
    let a = reshared(&root, &first, 1);
    let b = reshared(&root, &first, 2);
    let above = reshared(&b, &first, 3);
    let moved = reshared(&root, &second, 4);
    assert!(root.rank() < b.rank() && b.rank() < a.rank());
    assert!(a.rank() < above.rank() && above.rank() < moved.rank());
    assert_eq!(a.rank(), a.clone().rank());
}

fn view(
    c: &Cluster,
    documents: &[&SignedDocument],
    certificates: Vec<v1::Envelope>,
) -> v1::KeyView {
    v1::KeyView {
        id: c.key.id().as_bytes().to_vec(),
        documents: documents.iter().map(|d| d.envelope().clone()).collect(),
        authority: [&c.tenant, &c.principal].map(|d| d.envelope().clone()).to_vec(),
        certificates,
        ..v1::KeyView::default()
    }
}

/// What a client makes of what nodes show it: the highest certificate below the DKG's that it can verify.
#[test]
fn a_client_takes_the_highest_certificate_of_the_chain() {
    let c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let root = root(&c);
    let first_order = key_of(&c.key).versions[0].order.clone();
    let two = second(&c, 50, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    let refreshed = reshared(&root, &first_order, 1);
    let moved = reshared(&refreshed, &KeyOrder::of(two.body()).unwrap().order, 2);
    let made = envelope(&root, &[1, 2, 3]);
    let now = UnixSeconds(NOW);
    let verify = |views: &[v1::KeyView]| key_view::verify(&known, views, now);
    let highest = |views: &[v1::KeyView]| {
        let key = verify(views).unwrap();
        let version = key.version(KeyVersion::FIRST).unwrap();
        assert_eq!(version.root.as_ref().unwrap().statement(), &root);
        version.certificate.as_ref().unwrap().statement().clone()
    };
    let old = view(&c, &[&c.key], vec![made.clone()]);
    let behind = view(&c, &[&c.key], vec![envelope(&refreshed, &[1, 2, 3]), made.clone()]);
    let newest = view(&c, &[&c.key, &two], vec![envelope(&moved, &[1, 2, 4]), made.clone()]);
    assert_eq!(highest(core::slice::from_ref(&old)), root);
    assert_eq!(highest(&[old.clone(), behind.clone()]), refreshed);
    assert_eq!(highest(&[newest.clone(), behind, old.clone()]), moved);
    let key = verify(core::slice::from_ref(&newest)).unwrap();
    assert_eq!(key.versions()[0].orders.newest().unwrap().number(), 2);
    // The order must have been shown, and the DKG's certificate.
    let orderless = view(&c, &[&c.key], vec![envelope(&moved, &[1, 2, 4]), made]);
    let unknown = KeyViewError::OrderUnknown { view: 0, version: KeyVersion::FIRST };
    assert_eq!(verify(&[orderless]).unwrap_err(), unknown);
    // Whoever shows a reshare of what nobody shows made is named, and so can be left out: while a version is being made
    // one node could else keep the whole key from everybody.
    let rootless = view(&c, &[&c.key, &two], vec![envelope(&moved, &[1, 2, 4])]);
    let bare = view(&c, &[&c.key], Vec::new());
    let no_root = KeyViewError::NoRoot { view: 1, version: KeyVersion::FIRST };
    assert_eq!(verify(&[bare, rootless]).unwrap_err(), no_root);
    let forged =
        view(&c, &[&c.key, &two], vec![envelope(&moved, &[1, 2]), envelope(&root, &[1, 2, 3])]);
    assert!(matches!(verify(&[forged]), Err(KeyViewError::Certificate { view: 0, .. })));
}

/// A tenant's next version that does not keep an order which was carried out takes the key from nobody: its generation
/// is still believed, as long as one of its participants is honest. The next order adopts it.
///
/// Fails where certificates are judged only by the orders that count.
#[test]
fn an_order_that_was_carried_out_and_not_kept_is_adopted() {
    let mut c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let root = root(&c);
    let frontier = c.set.frontier(&c.tenant.id());
    let two = second(&c, 60, numbered(2, 2, &[1, 2, 4], &[4]), &[2]);
    c.add(&two);
    let carried_out = KeyOrder::of(two.body()).unwrap().clone();
    let moved = reshared(&root, &carried_out.order, 2);
    // Signed before the order was, by whomever.
    let mut changed = tenant_of(&c.tenant);
    changed.support_contact.push('x');
    let unaware = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&unaware);
    let lost = orders(&c);
    assert_eq!(lost.newest().unwrap().number(), 1);
    assert_eq!(lost.find(&carried_out.order_digest()), None);
    assert_eq!(lost.lost(&carried_out.order_digest()), Some(&carried_out.order));

    let now = UnixSeconds(NOW);
    let made = envelope(&root, &[1, 2, 3]);
    let shown = |documents: &[&SignedDocument], certificate: v1::Envelope| {
        let mut shown = view(&c, documents, vec![certificate, made.clone()]);
        shown.authority.push(unaware.envelope().clone());
        key_view::verify(&known, &[shown], now).unwrap()
    };
    let key = shown(&[&c.key, &two], envelope(&moved, &[1, 2, 4]));
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!(version.certificate.as_ref().unwrap().statement(), &moved);
    assert_eq!(version.unadopted(), Some(&carried_out.order));
    assert_eq!(version.followed_by_next(), [two.digest()]);

    // The next order follows it under the newer version, and both count.
    let adopts = body(&c, numbered(3, 2, &[1, 2, 4], &[]), false);
    let adopts = next(&[&two], Body::KeyOrder(adopts), Some(&unaware), Vec::new(), &[2]);
    c.add(&adopts);
    let adopted = orders(&c);
    assert_eq!(adopted.newest().unwrap().number(), 3);
    assert_eq!(adopted.find(&carried_out.order_digest()), Some(&carried_out.order));
    let documents = [&c.key, &two, &adopts];
    let mut shown = view(&c, &documents, vec![envelope(&moved, &[1, 2, 4]), made.clone()]);
    shown.authority.push(unaware.envelope().clone());
    let key = key_view::verify(&known, &[shown], now).unwrap();
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!((version.unadopted(), version.followed_by_next()), (None, vec![adopts.digest()]));
}

/// `attacks.md` line 32: who administered a tenant once, with one node that lies, makes no certificate that clients
/// believe, whatever order he dates back; nor with keys that no roster names.
///
/// Fails without each of the two conditions on orders that do not count (each was tried).
#[test]
fn attack_32_an_order_dated_back_makes_no_certificate() {
    let mut c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let root = root(&c);
    let mut changed = tenant_of(&c.tenant);
    changed.administrators = administrators(&[3], 1);
    let frontier = c.set.frontier(&c.tenant.id());
    let removed = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&removed);
    let now = UnixSeconds(NOW);
    let made = envelope(&root, &[1, 2, 3]);
    let highest = |two: &SignedDocument, by: &[u8]| {
        let moved = reshared(&root, &KeyOrder::of(two.body()).unwrap().order, 2);
        let mut shown = view(&c, &[&c.key, two], vec![envelope(&moved, by), made.clone()]);
        shown.authority.push(removed.envelope().clone());
        let key = key_view::verify(&known, &[shown], now).unwrap();
        key.versions()[0].certificate.as_ref().unwrap().statement().clone()
    };
    let alone = second(&c, 70, numbered(2, 1, &[1], &[]), &[2]);
    assert_eq!(highest(&alone, &[1]), root, "one node of a key with T = 2");
    let strangers = second(&c, 71, numbered(2, 2, &[1, 20, 21], &[]), &[2]);
    assert_eq!(highest(&strangers, &[1, 20, 21]), root, "keys that no roster names");
    // With T nodes that lie he has the key anyway.
    let two = second(&c, 72, numbered(2, 2, &[1, 2], &[]), &[2]);
    assert_ne!(highest(&two, &[1, 2]), root);
}

/// The same with keys that were in a roster once and were replaced since: over the years T of them may have been stolen,
/// one after another, and each of these nodes healed.
///
/// Fails where any roster of the chain is enough.
#[test]
fn attack_32_replaced_keys_make_no_certificate_by_an_order_dated_back() {
    let mut c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let mut roster = roster_of(&c.roster);
    for replaced in &mut roster.nodes[..2] {
        let mut card = replaced.clone();
        card.identity_key = public(100 + replaced.id.as_bytes()[0]);
        // Node 1's is accepted for a while.
        let until = if replaced.id == node(1).id { NOW + 100 } else { NOW - 100 };
        *replaced = replaced.succeeded_by(&card, UnixSeconds(until));
    }
    let rotated =
        next(&[&c.roster], Body::Roster(roster), None, c.set.frontier(&c.roster.id()), &[1]);
    known.insert(rotated.clone()).unwrap();
    let root = root(&c);
    let mut changed = tenant_of(&c.tenant);
    changed.administrators = administrators(&[3], 1);
    let frontier = c.set.frontier(&c.tenant.id());
    let removed = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&removed);
    let made = envelope(&root, &[1, 2, 3]);
    let highest = |seed: u64, by: &[u8], at: u64| {
        let two = second(&c, seed, numbered(2, 2, by, &[]), &[2]);
        let moved = reshared(&root, &KeyOrder::of(two.body()).unwrap().order, 2);
        let mut shown = view(&c, &[&c.key, &two], vec![envelope(&moved, by), made.clone()]);
        shown.authority.push(removed.envelope().clone());
        let key = key_view::verify(&known, &[shown], UnixSeconds(at)).unwrap();
        key.versions()[0].certificate.as_ref().unwrap().statement().clone()
    };
    // One key that was replaced is as good as none; with two that are in use one of them is an honest node's.
    assert_eq!(highest(73, &[2, 3], NOW), root, "one key that is accepted, of T = 2");
    assert_ne!(highest(74, &[2, 3, 4], NOW), root, "two, and a former one");
    assert_ne!(highest(75, &[1, 3], NOW), root, "accepted still");
    assert_eq!(highest(75, &[1, 3], NOW + 100), root, "and no more");
}

/// `attacks.md` line 32: what who administered a tenant once dates back, no principal lets count by an order that weakens
/// nothing of it; administrators do. Fails where an order by a principal counts whatever it stands on.
#[test]
fn attack_32_a_principal_adopts_no_order() {
    let mut c = cluster();
    let mut changed = tenant_of(&c.tenant);
    changed.administrators = administrators(&[3], 1);
    let frontier = c.set.frontier(&c.tenant.id());
    let removed = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&removed);
    let weak = second(&c, 80, numbered(2, 1, &[1], &[]), &[2]);
    c.add(&weak);
    let follows = |by: u8| {
        let order = Body::KeyOrder(body(&c, numbered(3, 1, &[1], &[]), false));
        next(&[&weak], order, Some(&removed), Vec::new(), &[by])
    };
    let (by_principal, by_administrator) = (follows(10), follows(3));
    c.add(&by_principal);
    assert_eq!(orders(&c).newest().unwrap().number(), 1);
    // What stands on an order that counts does.
    let good = Body::KeyOrder(body(&c, numbered(2, 2, &[1, 2, 4], &[4]), true));
    let good = first(good, Some(&removed), 81, &[10]);
    c.add(&good);
    let order = Body::KeyOrder(body(&c, numbered(3, 2, &[1, 2, 4], &[]), false));
    c.add(&next(&[&good], order, Some(&removed), Vec::new(), &[10]));
    assert_eq!(orders(&c).newest().unwrap().number(), 3);
    // Nor by settling it, though what is ordered is as strong as can be.
    let settling = |by: u8| {
        let mut order = body(&c, numbered(3, 2, &[1, 2, 4], &[4]), true);
        order.settles = vec![weak.frontier_entry()];
        first(Body::KeyOrder(order), Some(&removed), 82, &[by])
    };
    let refused = admit(&settling(10), &c.set);
    assert_eq!(refused.unwrap_err(), AdmitError::Weakens);
    assert!(admit(&settling(3), &c.set).is_ok());
    c.add(&by_administrator);
    assert!(orders(&c).newest().is_err(), "now both count");
}

/// An order with fewer members than an earlier T that was carried out and not kept is believed by nobody: all its members
/// may lie. So that its key is not lost, the next order may follow it, where so many holders show that they went
/// over that what is believed is of no use any more.
///
/// Fails where fewer are enough, where a node counts twice, or whoever holds nothing of it.
#[test]
fn an_order_that_nobody_believes_is_adopted_where_its_holders_have_gone_over() {
    let mut c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let root = root(&c);
    let frontier = c.set.frontier(&c.tenant.id());
    let two = second(&c, 76, numbered(2, 1, &[1], &[]), &[2]);
    c.add(&two);
    let carried_out = KeyOrder::of(two.body()).unwrap().clone();
    let moved = reshared(&root, &carried_out.order, 2);
    let mut changed = tenant_of(&c.tenant);
    changed.support_contact.push('x');
    let unaware = next(&[&c.tenant], Body::Tenant(changed), Some(&c.tenant), frontier, &[2]);
    c.add(&unaware);
    let made = envelope(&root, &[1, 2, 3]);
    let view_of = |certificates: Vec<v1::Envelope>| {
        let mut shown = view(&c, &[&c.key, &two], certificates);
        shown.authority.push(unaware.envelope().clone());
        shown
    };
    let gone = view_of(vec![envelope(&moved, &[1]), made.clone()]);
    let stays = view_of(vec![made.clone()]);
    let adopts = |views: &[&v1::KeyView], nodes: &[u8]| {
        let views: Vec<v1::KeyView> = views.iter().map(|view| (*view).clone()).collect();
        let mut key = key_view::verify(&known, &views, UnixSeconds(NOW)).unwrap();
        let shown_by: Vec<NodeId> = nodes.iter().map(|n| node(*n).id).collect();
        key.adopt_doubted(&shown_by);
        let version = key.version(KeyVersion::FIRST).unwrap().clone();
        assert_eq!(version.certificate.as_ref().unwrap().statement(), &root);
        assert_eq!(version.in_use(), Some(version.orders.first()));
        let follows = version.adopted_next().map(|order| order.threshold().n());
        assert_eq!(version.unadopted(), version.adopted_next());
        let next = if follows.is_some() { vec![two.digest()] } else { Vec::new() };
        assert_eq!(version.followed_by_next(), next);
        follows
    };
    // Of three holders with T = 2.
    assert_eq!(adopts(&[&gone, &stays, &stays], &[1, 2, 3]), None);
    assert_eq!(adopts(&[&gone, &gone, &stays], &[1, 1, 3]), None, "one node twice");
    assert_eq!(adopts(&[&gone, &gone, &gone], &[1, 4, 5]), None, "others than holders");
    assert_eq!(adopts(&[&gone, &gone, &stays], &[1, 2, 3]), Some(1));

    // Adopted, it counts, and is believed.
    let next_order = body(&c, numbered(3, 2, &[1, 2, 3], &[2, 3]), false);
    let three = next(&[&two], Body::KeyOrder(next_order), Some(&unaware), Vec::new(), &[2]);
    let mut shown = view(&c, &[&c.key, &two, &three], vec![envelope(&moved, &[1]), made.clone()]);
    shown.authority.push(unaware.envelope().clone());
    let key = key_view::verify(&known, &[shown], UnixSeconds(NOW)).unwrap();
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!(version.certificate.as_ref().unwrap().statement(), &moved);
    assert_eq!((version.unadopted(), version.followed_by_next()), (None, vec![three.digest()]));
}

/// Seats: who takes part by order, parent and dealers, and who may come in without a share.
#[test]
fn attack_11_seats_follow_order_and_parent() {
    let c = cluster();
    let root = root(&c);
    let order = numbered(2, 2, &[4, 2, 1], &[4]);
    let seats = Seats::new(&order, &root, &[1, 3]).unwrap();
    let nodes: Vec<u8> = seats.all().iter().map(|seat| seat.node.as_bytes()[0]).collect();
    assert_eq!(nodes, [4, 2, 1, 3], "members in the order's places, then the dealer that is none");
    let flags: Vec<(bool, bool)> = seats.all().iter().map(|s| (s.deals, s.enters)).collect();
    assert_eq!(flags, [(false, true), (false, false), (true, false), (true, false)]);
    assert_eq!(seats.members().len(), 3);
    let dealers: Vec<u8> = seats.dealers().iter().map(|seat| seat.node.as_bytes()[0]).collect();
    assert_eq!(dealers, [1, 3], "by their indices in the parent");
    assert!(!seats.refresh());
    let error = SeatsError::Dealers { t: 2 };
    for dealers in [&[][..], &[1], &[3, 1], &[1, 1], &[1, 4], &[0, 1]] {
        assert_eq!(Seats::new(&order, &root, dealers), Err(error), "{dealers:?}");
    }
    // Under the parent's own order it is a refresh, and nobody comes in again.
    let moved = reshared(&root, &order, 1);
    let again = Seats::new(&order, &moved, &[1, 2]).unwrap();
    assert!(again.refresh() && again.all().iter().all(|seat| !seat.enters));
    let first_order = key_of(&c.key).versions[0].order.clone();
    assert!(Seats::new(&first_order, &root, &[1, 2]).unwrap().refresh());
    // A lower order, and another one of the same number.
    assert_eq!(Seats::new(&first_order, &moved, &[1, 2]), Err(SeatsError::Order));
    let fork = numbered(2, 2, &[1, 2, 5], &[5]);
    assert_eq!(Seats::new(&fork, &moved, &[1, 2]), Err(SeatsError::Order));
}

/// Members that are away when the key is made come in by the first reshare, once, under order 1.
#[test]
fn members_that_were_away_come_in_once() {
    let c = cluster();
    let order = order(2, &[1, 2, 3]).with_entering(&[node(2).id]).unwrap();
    assert_eq!(order.founding(), Threshold::new(2, 2).unwrap());
    let founders: Vec<(u16, u8)> =
        order.founders().iter().map(|m| (m.index.get(), m.node.as_bytes()[0])).collect();
    assert_eq!(founders, [(1, 1), (2, 3)]);
    assert_eq!(Order::from_proto(&order.to_proto()).unwrap(), order);
    // Never fewer than T.
    let all = common::order(2, &[1, 2, 3]);
    assert!(all.clone().with_entering(&[node(2).id, node(3).id]).is_err());
    assert!(all.with_entering(&[node(9).id]).is_err());
    let (id, version) = (c.key.id().into(), KeyVersion::FIRST);
    let made = Statement::of_dkg(
        id,
        version,
        &order,
        SUITE_RISTRETTO255_SHA512,
        vec![[7; 32]; 2],
        Generation::from_bytes([8; 32]),
    )
    .unwrap();
    let certificate = Certificate::verify(envelope(&made, &[1, 3]), id, version, &order).unwrap();
    assert_eq!(certificate.statement().participants().len(), 2);
    assert!(Certificate::verify(envelope(&made, &[1, 2, 3]), id, version, &order).is_err());
    let seats = Seats::new(&order, &made, &[1, 2]).unwrap();
    assert!(!seats.refresh(), "it needs no standing order");
    assert!(seats.of(&node(2).id).unwrap().enters);
    let whole = reshared(&made, &order, 1);
    assert_eq!(whole.participants().len(), 3);
    let again = Seats::new(&order, &whole, &[1, 2]).unwrap();
    assert!(again.refresh() && again.all().iter().all(|seat| !seat.enters));
}

/// A principal with `change` alone orders a node that there is not. The shares in use stay in use, no certificate by that
/// order is believed, and the next order takes its place.
///
/// Fails where an order that nobody can carry out keeps the key from everybody.
#[test]
fn an_order_of_invented_nodes_is_not_followed() {
    let c = cluster();
    let mut known = DocumentSet::partial(c.roster.id().into());
    known.insert(c.roster.clone()).unwrap();
    let root = root(&c);
    let made = envelope(&root, &[1, 2, 3]);
    let now = UnixSeconds(NOW);
    let invented = second(&c, 70, numbered(2, 2, &[1, 2, 9], &[9]), &[10]);
    let order = KeyOrder::of(invented.body()).unwrap().order.clone();
    let dealt = reshared(&root, &order, 3);
    // Its certificate, too: whoever invents a node has its keys.
    let certificates = vec![envelope(&dealt, &[1, 2, 9]), made.clone()];
    let key = key_view::verify(&known, &[view(&c, &[&c.key, &invented], certificates)], now);
    let mut key = key.unwrap();
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!(version.certificate.as_ref().unwrap().statement(), &root);
    assert_eq!(version.in_use(), Some(version.orders.first()));
    assert_eq!((version.stranger(), version.never_made()), (Some(node(9).id), None));
    assert_eq!(version.orders.newest().unwrap_err().stranger, Some(node(9).id));
    assert_eq!(version.followed_by_next(), [invented.digest()]);
    let strange = KeyViewError::StrangeNode { version: KeyVersion::FIRST, node: node(9).id };
    assert_eq!(key.adopt(&envelope(&dealt, &[1, 2, 9])), Err(strange));
    // The administrators go past it.
    let next = later(&c, &[&invented], body(&c, numbered(3, 2, &[1, 2, 3], &[]), false), &[2]);
    let shown = view(&c, &[&c.key, &invented, &next], vec![made]);
    let key = key_view::verify(&known, &[shown], now).unwrap();
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!(version.orders.newest().unwrap().number(), 3);
    assert_eq!(version.stranger(), None);
}
