//! What a node refuses at first sight of keys and orders, and takes all the same where administrators have followed it.
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

const AT: UnixSeconds = UnixSeconds(NOW);

fn entry(number: usize, order: Order) -> KeyVersionEntry {
    let number = KeyVersion::new(u32::try_from(number).unwrap()).unwrap();
    KeyVersionEntry { number, created_at: AT, order }
}

/// The key with more versions.
fn adding(c: &Cluster, orders: &[Order], keys: &[u8]) -> SignedDocument {
    let mut body = key_of(&c.key);
    for order in orders {
        body.versions.push(entry(body.versions.len() + 1, order.clone()));
    }
    next(&[&c.key], Body::Key(body), Some(&c.tenant), Vec::new(), keys)
}

fn ordered(c: &Cluster, order: Order, settles: &[&SignedDocument]) -> KeyOrder {
    let id = c.key.id().into();
    let mut settles: Vec<_> = settles.iter().map(|d| d.frontier_entry()).collect();
    settles.sort_unstable_by_key(|entry| (entry.id, entry.digest));
    KeyOrder {
        tenant: c.tenant_id(),
        key: id,
        version: KeyVersion::FIRST,
        first: key_of(&c.key).versions[0].order.digest(id, KeyVersion::FIRST),
        base: (order.number() == 2 || !settles.is_empty()).then(|| c.key.digest()),
        settles,
        order,
    }
}

fn numbered(number: u32, t: u16, nodes: &[u8]) -> Order {
    Order::numbered(number, t, nodes.iter().map(|n| (node(*n).id, node(*n).identity_key)), &[])
        .unwrap()
}

fn reordering(c: &Cluster, seed: u64, order: Order, keys: &[u8]) -> SignedDocument {
    first(Body::KeyOrder(ordered(c, order, &[])), Some(&c.tenant), seed, keys)
}

/// What a node says that has this set, and all of these at once.
fn seen(set: &DocumentSet, came: &[&SignedDocument]) -> Vec<Result<(), AdmitError>> {
    let mut together = set.clone();
    assert_eq!(together.insert_all(came.iter().map(|d| (*d).clone())), [], "the set takes them");
    came.iter().map(|document| first_sight(document, &together, AT)).collect()
}

/// A cluster whose nodes 1 to 6 are in the roster, or as many of them.
fn cluster(nodes: u8) -> Cluster {
    let mut roster = roster(&[1], 1);
    roster.nodes = (1..=nodes).map(node).collect();
    Cluster::with(roster, tenant(&[2], 1, None))
}

/// Whoever may `create` or `change`, and an administrator who errs, names no node that is none: nobody could carry that
/// out. A newer roster that is brought with it makes it one.
///
/// Fails where a node takes any member at its word.
#[test]
fn nodes_refuse_members_that_no_roster_names() {
    let c = cluster(3);
    let stranger = vec![Err(AdmitError::StrangeMember(node(4).id))];
    let code = AdmitError::StrangeMember(node(4).id).code();
    assert_eq!(code, quorate_wire::RefusalCode::DocumentMissing);
    let mut larger = roster_of(&c.roster);
    larger.nodes.push(node(4));
    let larger =
        next(&[&c.roster], Body::Roster(larger), None, c.set.frontier(&c.roster.id()), &[1]);
    for keys in [[10], [2]] {
        let version = adding(&c, &[order(2, &[1, 2, 3, 4])], &keys);
        let order = reordering(&c, 80, numbered(2, 2, &[1, 2, 4]), &keys);
        for document in [&version, &order] {
            assert_eq!(seen(&c.set, &[document]), stranger, "{keys:?}");
            assert_eq!(seen(&c.set, &[&larger, document]), [Ok(()), Ok(())], "{keys:?}");
        }
    }
    // With another key than the roster's.
    let imposter = Order::new(2, [1, 2, 3].map(|n| (node(n).id, node(n + 1).identity_key)));
    let imposter =
        first(Body::Key(key_body(c.tenant_id(), imposter.unwrap())), Some(&c.tenant), 81, &[10]);
    assert_eq!(seen(&c.set, &[&imposter]), [Err(AdmitError::StrangeMember(node(1).id))]);
    // Everything that was ordered before is left as it is.
    assert_eq!(seen(&c.set, &[&adding(&c, &[order(2, &[1, 2, 3])], &[10])]), [Ok(())]);
}

/// A node that lies, or is older, has taken such an order. The one by which administrators go past it finds its way to
/// all nodes with it, whether it follows or settles it; that of a principal does not.
///
/// Fails where nodes ask the same of what administrators have followed.
#[test]
fn what_administrators_have_followed_reaches_all_nodes() {
    let c = cluster(4);
    let strange = reordering(&c, 82, numbered(2, 2, &[1, 2, 5]), &[10]);
    let refused = Err(AdmitError::StrangeMember(node(5).id));
    let after = |keys: &[u8]| {
        let body = Body::KeyOrder(ordered(&c, numbered(3, 2, &[1, 2, 3]), &[]));
        next(&[&strange], body, Some(&c.tenant), Vec::new(), keys)
    };
    assert_eq!(seen(&c.set, &[&strange, &after(&[2])]), [Ok(()), Ok(())]);
    assert_eq!(seen(&c.set, &[&strange, &after(&[10])])[0], refused);
    let settling = Body::KeyOrder(ordered(&c, numbered(3, 2, &[1, 2, 3]), &[&strange]));
    let settling = first(settling, Some(&c.tenant), 83, &[2]);
    assert_eq!(seen(&c.set, &[&strange, &settling]), [Ok(()), Ok(())]);
    // The same of a key document.
    let version = adding(&c, &[order(2, &[1, 2, 3, 5])], &[10]);
    let mut body = key_of(&version);
    body.versions.push(entry(3, order(2, &[1, 2, 3, 4])));
    let next =
        |keys: &[u8]| next(&[&version], Body::Key(body.clone()), Some(&c.tenant), Vec::new(), keys);
    assert_eq!(seen(&c.set, &[&version, &next(&[2])]), [Ok(()), Ok(())]);
    assert_eq!(seen(&c.set, &[&version, &next(&[10])])[0], refused);
}

/// Who may `change` or `create` makes no key fragile, nor lets it do without fewer nodes, unless the key allows it.
///
/// Fails without the comparison of N - T, and without that of what is fragile.
#[test]
fn a_principal_makes_no_key_fragile() {
    let mut c = cluster(6);
    let weaker = [numbered(2, 3, &[1, 2, 3]), numbered(2, 4, &[1, 2, 3, 4])];
    let good = [numbered(2, 2, &[1, 2, 4]), numbered(2, 3, &[1, 2, 3, 4])];
    for (at, order) in weaker.iter().enumerate() {
        let by = |key| reordering(&c, 84 + at as u64, order.clone(), &[key]);
        assert_eq!(seen(&c.set, &[&by(10)]), [Err(AdmitError::Weakens)]);
        assert_eq!(seen(&c.set, &[&by(2)]), [Ok(())]);
    }
    for order in &good {
        assert_eq!(seen(&c.set, &[&reordering(&c, 86, order.clone(), &[10])]), [Ok(())]);
    }
    // What it follows, not order 1, says how many.
    let two = reordering(&c, 87, numbered(2, 2, &[1, 2, 3, 4, 5]), &[10]);
    c.add(&two);
    let three = Body::KeyOrder(ordered(&c, numbered(3, 3, &[1, 2, 3, 4, 5]), &[]));
    let three = next(&[&two], three, Some(&c.tenant), Vec::new(), &[10]);
    assert_eq!(seen(&c.set, &[&three]), [Err(AdmitError::Weakens)]);
    // A key version of its own.
    for (keys, expected) in [([10], Err(AdmitError::Weakens)), ([2], Ok(()))] {
        assert_eq!(seen(&c.set, &[&adding(&c, &[order(3, &[1, 2, 3])], &keys)]), [expected]);
    }
    // Administrators allow it.
    let mut allowing = key_of(&c.key);
    allowing.allow_fragile = true;
    let allowing = next(&[&c.key], Body::Key(allowing), Some(&c.tenant), Vec::new(), &[2]);
    c.add(&allowing);
    c.key = allowing;
    assert_eq!(seen(&c.set, &[&reordering(&c, 88, weaker[0].clone(), &[10])]), [Ok(())]);
    assert_eq!(seen(&c.set, &[&adding(&c, &[order(3, &[1, 2, 3])], &[10])]), [Ok(())]);
}

/// Who may `create` adds one version at a time, and leaves the last 64, and a quarter of the document, to administrators.
///
/// Fails without either bound.
#[test]
fn a_principal_does_not_use_up_the_versions_of_a_key() {
    let mut c = cluster(3);
    let three = order(2, &[1, 2, 3]);
    let few = KeyVersion::FIRST.get() as usize;
    for keys in [[10], [2]] {
        let refused = if keys == [10] { Err(AdmitError::KeyVersions) } else { Ok(()) };
        let two = adding(&c, &[three.clone(), three.clone()], &keys);
        assert_eq!(seen(&c.set, &[&two]), [refused]);
    }
    let filled = adding(&c, &vec![three.clone(); 959 - few], &[2]);
    c.add(&filled);
    c.key = filled;
    let last = adding(&c, std::slice::from_ref(&three), &[10]);
    assert_eq!(seen(&c.set, &[&last]), [Ok(())]);
    c.add(&last);
    c.key = last;
    let beyond =
        |c: &Cluster, key: u8| seen(&c.set, &[&adding(c, std::slice::from_ref(&three), &[key])]);
    assert_eq!(beyond(&c, 10), [Err(AdmitError::KeyVersions)]);
    assert_eq!(beyond(&c, 2), [Ok(())]);
    // Whoever may `change` goes on changing it.
    let mut other = key_of(&c.key);
    other.alias = "other".into();
    let other = next(&[&c.key], Body::Key(other), Some(&c.tenant), Vec::new(), &[10]);
    assert_eq!(seen(&c.set, &[&other]), [Ok(())]);
}

/// The same by bytes, where the committees are large.
#[test]
fn a_principal_leaves_room_in_the_document() {
    let mut c = cluster(6);
    let six = order(2, &[1, 2, 3, 4, 5, 6]);
    let most = limits::MAX_DOCUMENT_BYTES / 4 * 3;
    let size = |n: usize| adding(&c, &vec![six.clone(); n], &[2]).payload().len();
    // The number of a version takes two bytes from 128 on.
    let few = 400 + (most - size(400)) / (size(401) - size(400));
    assert!(few < 957, "the bytes come first");
    let filled = adding(&c, &vec![six.clone(); few + 1], &[2]);
    assert!(filled.payload().len() > most);
    c.add(&filled);
    c.key = filled;
    let one = |key: u8| seen(&c.set, &[&adding(&c, std::slice::from_ref(&six), &[key])]);
    assert_eq!(one(10), [Err(AdmitError::KeyVersions)]);
    assert_eq!(one(2), [Ok(())]);
}
