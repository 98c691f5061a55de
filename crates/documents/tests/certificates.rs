//! Certificates and what clients make of the views of a key.
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

fn statement(key: KeyId, order: &Order) -> Statement {
    let commitments = vec![[7; 32]; usize::from(order.threshold().t())];
    let generation = Generation::from_bytes([8; 32]);
    Statement::of_dkg(
        key,
        KeyVersion::FIRST,
        order,
        SUITE_RISTRETTO255_SHA512,
        commitments,
        generation,
    )
    .unwrap()
}

/// Identity keys of nodes 1 to 9, as in `common::node`.
fn signatures(statement: &Statement, nodes: &[u8]) -> Vec<v1::Signature> {
    nodes.iter().map(|n| statement.sign(key(100 + 3 * n))).collect()
}

fn envelope(statement: &Statement, nodes: &[u8]) -> v1::Envelope {
    v1::Envelope {
        payload_type: PayloadType::Certificate.name().into(),
        payload: statement.payload(),
        signatures: signatures(statement, nodes),
    }
}

#[test]
fn exactly_all_participants_sign() {
    let id = KeyId::from_bytes([1; 32]);
    let order = order(2, &[3, 1, 2]);
    let statement = statement(id, &order);
    let verify = |nodes: &[u8]| {
        Certificate::verify(envelope(&statement, nodes), id, KeyVersion::FIRST, &order)
    };
    let good = verify(&[2, 1, 3]).unwrap();
    assert_eq!(good.statement(), &statement);
    assert_eq!(Certificate::verified_before(good.envelope().clone()), Ok(good));
    // Index 1 is node 3: indices come from the statement, not from node numbers.
    assert_eq!(
        verify(&[1, 2]).unwrap_err().to_string(),
        format!("the certificate lacks the signature of participant 1 ({})", node(3).id)
    );
    assert_eq!(verify(&[1, 2, 3, 4]), Err(CertificateError::Stranger(node(4).identity_key)));
    assert!(matches!(verify(&[1, 2, 3, 3]), Err(CertificateError::Envelope(_))));
    assert!(matches!(verify(&[]), Err(CertificateError::Envelope(_))));
    assert!(Certificate::assemble(statement.clone(), signatures(&statement, &[1, 2, 3])).is_ok());
    assert!(Certificate::assemble(statement.clone(), signatures(&statement, &[1, 2])).is_err());
}

/// `attacks.md` lines 2, 3 and 6, at the level of the statement: each test fails when its check in
/// `Statement::fits` is removed, even though every participant has signed.
#[test]
fn attack_06_certificate_of_another_key_version_or_order() {
    let id = KeyId::from_bytes([1; 32]);
    let order = order(2, &[1, 2, 3]);
    let good = statement(id, &order);
    let all = envelope(&good, &[1, 2, 3]);
    let mismatch = |result: Result<Certificate, CertificateError>| match result.unwrap_err() {
        CertificateError::Mismatch { field } => field,
        other => panic!("{other}"),
    };
    let other = KeyId::from_bytes([2; 32]);
    assert_eq!(mismatch(Certificate::verify(all.clone(), other, KeyVersion::FIRST, &order)), "key");
    let second = KeyVersion::new(2).unwrap();
    assert_eq!(mismatch(Certificate::verify(all.clone(), id, second, &order)), "key_version");
    let attempts = order.clone().with_max_attempts(3).unwrap();
    assert_eq!(mismatch(Certificate::verify(all, id, KeyVersion::FIRST, &attempts)), "order");

    let changed = |change: &dyn Fn(&mut v1::CertificateStatement)| {
        let mut proto: v1::CertificateStatement =
            quorate_wire::strict::decode("CertificateStatement", &good.payload()).unwrap();
        change(&mut proto);
        let payload = quorate_wire::strict::encode(&proto);
        let signatures = [1u8, 2, 3, 4]
            .iter()
            .take(proto.participants.len())
            .map(|n| key(100 + 3 * n).sign(PayloadType::Certificate, &payload))
            .collect();
        let payload_type = PayloadType::Certificate.name().into();
        let envelope = v1::Envelope { payload_type, payload, signatures };
        Certificate::verify(envelope, id, KeyVersion::FIRST, &order)
    };
    assert!(changed(&|_| {}).is_ok());
    assert_eq!(mismatch(changed(&|s| s.order_number = 2)), "order_number");
    assert_eq!(mismatch(changed(&|s| s.suite = "COCKTAIL(Ed25519, SHA-512)".into())), "suite");
    let reshare = changed(&|s| {
        s.parent = vec![1; 32];
        s.height = 2;
    });
    assert_eq!(mismatch(reshare), "parent");
    assert_eq!(
        mismatch(changed(&|s| {
            s.threshold = 3;
            s.commitments.push(vec![7; 32]);
        })),
        "threshold"
    );
    assert_eq!(mismatch(changed(&|s| s.participants[2].node = vec![9; 16])), "participants");
    let statement_error = |result: Result<Certificate, CertificateError>| {
        assert!(matches!(result, Err(CertificateError::Statement(_))), "{result:?}");
    };
    for count in [0, 1, 3, 4] {
        statement_error(changed(&|s| s.commitments = vec![vec![7; 32]; count]));
    }
    statement_error(changed(&|s| s.commitments[0].truncate(31)));
    statement_error(changed(&|s| s.participants[0].index = 2));
    statement_error(changed(&|s| s.participants[2].index = 4));
    statement_error(changed(&|s| s.participants[0].index = 0));
    statement_error(changed(&|s| s.participants.swap(0, 1)));
    statement_error(changed(&|s| s.threshold = 0));
    statement_error(changed(&|s| s.threshold = 65_538));
    statement_error(changed(&|s| s.height = 0));
    statement_error(changed(&|s| s.height = 2));
    statement_error(changed(&|s| s.parent = vec![1; 32]));
    statement_error(changed(&|s| s.generation.clear()));
    statement_error(changed(&|s| s.key_version = 0));
}

/// What a client holds: the roster chain of its pinned cluster.
fn known(c: &Cluster) -> DocumentSet {
    let mut set = DocumentSet::partial(c.roster.id().into());
    set.insert(c.roster.clone()).unwrap();
    set
}

fn view(c: &Cluster) -> v1::KeyView {
    let id = KeyId::from(c.key.id());
    let order = &key_of(&c.key).versions[0].order;
    v1::KeyView {
        id: id.as_bytes().to_vec(),
        documents: vec![c.key.envelope().clone()],
        authority: vec![c.principal.envelope().clone(), c.tenant.envelope().clone()],
        certificates: vec![envelope(&statement(id, order), &[1, 2, 3])],
        ..v1::KeyView::default()
    }
}

const AT: UnixSeconds = UnixSeconds(NOW + 1);

#[test]
fn a_client_verifies_a_key_from_its_pinned_roster() {
    let c = Cluster::new();
    let key = key_view::verify(&known(&c), &[view(&c)], AT).unwrap();
    assert_eq!(
        (key.alias(), key.tenant(), key.state()),
        ("files", c.tenant_id(), KeyState::Active)
    );
    assert_eq!(key.head_digests(), [c.key.digest()]);
    assert!(key.newest_certified().is_some() && !key.fragile());
    // Without a certificate the key is shown, and is not usable.
    let mut bare = view(&c);
    bare.certificates.clear();
    let key = key_view::verify(&known(&c), &[bare], AT).unwrap();
    assert!(key.newest_certified().is_none());
    // The principal that signed it has expired meanwhile; the roster has not.
    let mut set = known(&c);
    let mut body = roster_of(&c.roster);
    body.expires_at = UnixSeconds(NOW + YEAR + 500_000);
    let frontier = vec![c.tenant.frontier_entry()];
    let renewed = next(&[&c.roster], Body::Roster(body), None, frontier, &[1]);
    set.insert(renewed).unwrap();
    let later = UnixSeconds(NOW + YEAR + 100_000);
    assert!(key_view::verify(&set, &[view(&c)], later).is_ok());
    assert_eq!(
        key_view::verify(&known(&c), &[view(&c)], UnixSeconds(NOW + YEAR)),
        Err(KeyViewError::RosterExpired)
    );
}

#[test]
fn a_client_takes_no_node_at_its_word() {
    let c = Cluster::new();
    let verify = |views: &[v1::KeyView]| key_view::verify(&known(&c), views, AT).unwrap_err();
    let with = |change: &dyn Fn(&mut v1::KeyView)| {
        let mut changed = view(&c);
        change(&mut changed);
        changed
    };
    assert_eq!(verify(&[]), KeyViewError::Empty);
    assert_eq!(
        key_view::verify(&DocumentSet::partial(c.roster.id().into()), &[view(&c)], AT),
        Err(KeyViewError::NotAdmitted { view: 0, source: AdmitError::Missing(c.roster.digest()) })
    );
    // Another cluster's documents.
    let other = first(Body::Roster(roster(&[1], 1)), None, 77, &[1]);
    let mut foreign = DocumentSet::partial(other.id().into());
    foreign.insert(other).unwrap();
    assert!(matches!(
        key_view::verify(&foreign, &[view(&c)], AT),
        Err(KeyViewError::NotAdmitted { .. })
    ));
    let lying = with(&|v| v.id = vec![9; 32]);
    assert_eq!(verify(&[view(&c), lying]), KeyViewError::OtherKey { view: 1 });
    let flipped = with(&|v| v.documents[0].payload[20] ^= 1);
    assert!(matches!(verify(&[view(&c), flipped]), KeyViewError::Document { view: 1, .. }));
    let orphan = with(&|v| v.authority.clear());
    assert!(matches!(verify(&[orphan]), KeyViewError::NotAdmitted { view: 0, .. }));
    let unsigned = with(&|v| {
        v.certificates[0].signatures.pop();
    });
    assert!(matches!(verify(&[view(&c), unsigned]), KeyViewError::Certificate { view: 1, .. }));
    let empty = with(&|v| v.documents.clear());
    assert_eq!(verify(&[empty]), KeyViewError::NotCounted);

    // Two complete certificates, which takes every participant to lie.
    let id = KeyId::from(c.key.id());
    let order = key_of(&c.key).versions[0].order.clone();
    let second = Statement::of_dkg(
        id,
        KeyVersion::FIRST,
        &order,
        SUITE_RISTRETTO255_SHA512,
        vec![[9; 32]; 2],
        Generation::from_bytes([9; 32]),
    )
    .unwrap();
    let twice = with(&|v| v.certificates = vec![envelope(&second, &[1, 2, 3])]);
    assert_eq!(verify(&[view(&c), twice]), KeyViewError::TwoCertificates(KeyVersion::FIRST));
}

/// Fails when members need not stand in a roster: a principal could make a committee of its own.
#[test]
fn a_committee_of_invented_nodes_makes_no_version() {
    let c = Cluster::new();
    let with = order(2, &[1, 2, 4]);
    let invented = key_body(c.tenant_id(), with.clone());
    let invented = first(Body::Key(invented), Some(&c.tenant), 60, &[10]);
    let statement = Statement::of_dkg(
        invented.id().into(),
        KeyVersion::FIRST,
        &with,
        SUITE_RISTRETTO255_SHA512,
        vec![[9; 32]; 2],
        Generation::from_bytes([9; 32]),
    );
    let shown = v1::KeyView {
        id: invented.id().as_bytes().to_vec(),
        documents: vec![invented.envelope().clone()],
        certificates: vec![envelope(&statement.unwrap(), &[1, 2, 4])],
        ..view(&c)
    };
    let key = key_view::verify(&known(&c), &[shown], AT).unwrap();
    assert!(key.newest_certified().is_none());
    let version = key.version(KeyVersion::FIRST).unwrap();
    assert_eq!(version.never_made(), Some(node(4).id));
    assert_eq!((version.stranger(), key.stranger()), (Some(node(4).id), Some(node(4).id)));
}

/// A principal with `create` alone adds a version of a node that there is not. The others are what they were, and show
/// the one that it follows.
///
/// Fails where a version that nobody can make keeps the key from everybody.
#[test]
fn a_version_of_invented_nodes_hides_no_other() {
    let c = Cluster::new();
    let mut body = key_of(&c.key);
    body.versions.push(KeyVersionEntry {
        number: KeyVersion::new(2).unwrap(),
        created_at: UnixSeconds(NOW),
        order: order(2, &[1, 2, 3, 4]),
    });
    let poisoned = next(&[&c.key], Body::Key(body.clone()), Some(&c.tenant), vec![], &[10]);
    let mut shown = view(&c);
    shown.documents.push(poisoned.envelope().clone());
    let key = key_view::verify(&known(&c), &[shown.clone(), view(&c)], AT).unwrap();
    let (newest, _) = key.newest_certified().unwrap();
    assert_eq!((newest.number, newest.stranger()), (KeyVersion::FIRST, None));
    assert_eq!(key.versions()[1].never_made(), Some(node(4).id));
    assert!(key.versions()[1].certificate.is_none());
    // Another follows it, and is as good as if it were not there.
    body.versions.push(KeyVersionEntry {
        number: KeyVersion::new(3).unwrap(),
        created_at: UnixSeconds(NOW),
        order: order(2, &[1, 2, 3]),
    });
    let third = next(&[&poisoned], Body::Key(body), Some(&c.tenant), vec![], &[2]);
    shown.documents.push(third.envelope().clone());
    let key = key_view::verify(&known(&c), &[shown], AT).unwrap();
    let strangers: Vec<_> = key.versions().iter().map(|v| v.stranger().is_some()).collect();
    assert_eq!(strangers, [false, true, false]);
}

/// Whoever may change a key stands on an old version of its document, and leaves out a version, or puts another in its place.
/// What was made stays in use: by the heads that have it, and of several by the certificate.
///
/// Fails where every head must have a version alike, and where a certificate does not say which was made (tried, both).
#[test]
fn a_version_that_was_made_is_not_taken_by_a_fork() {
    let c = Cluster::new();
    let second = KeyVersion::new(2).unwrap();
    let with = |order: Order| {
        let mut body = key_of(&c.key);
        body.versions.push(KeyVersionEntry { number: second, created_at: UnixSeconds(NOW), order });
        next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10])
    };
    let (made, other) = (order(2, &[1, 2, 3]), order(3, &[1, 2, 3]));
    let certificate = |order: &Order| {
        let threshold = usize::from(order.threshold().t());
        let statement = Statement::of_dkg(
            c.key.id().into(),
            second,
            order,
            SUITE_RISTRETTO255_SHA512,
            vec![[9; 32]; threshold],
            Generation::from_bytes([9; 32]),
        );
        envelope(&statement.unwrap(), &[1, 2, 3])
    };
    let mut named = key_of(&c.key);
    named.alias = "another".to_owned();
    let without = next(&[&c.key], Body::Key(named), Some(&c.tenant), vec![], &[10]);
    let show = |documents: &[&SignedDocument], certificates: &[v1::Envelope]| {
        let mut shown = view(&c);
        shown.documents.extend(documents.iter().map(|it| it.envelope().clone()));
        shown.certificates.extend(certificates.iter().cloned());
        key_view::verify(&known(&c), &[shown], AT).unwrap()
    };
    let newest = |key: &key_view::VerifiedKey| key.newest_certified().map(|(v, _)| v.number);
    let (a, b) = (with(made.clone()), with(other.clone()));

    let key = show(&[&a, &without], &[certificate(&made)]);
    assert_eq!(newest(&key), Some(second));
    assert_eq!(key.heads().contended_versions(), []);

    let key = show(&[&a, &b], &[certificate(&made)]);
    assert_eq!(newest(&key), Some(second));
    assert_eq!(key.version(second).unwrap().order, made);
    assert_eq!(key.heads().contended_versions(), [second]);

    // Neither is made: neither counts. Both are: nobody can say which.
    for certificates in [vec![], vec![certificate(&made), certificate(&other)]] {
        let key = show(&[&a, &b], &certificates);
        assert_eq!(newest(&key), Some(KeyVersion::FIRST));
        assert!(key.version(second).is_none());
    }
}

/// One honest view among several is enough to learn of a new version.
#[test]
fn views_are_taken_together() {
    let c = Cluster::new();
    let mut body = key_of(&c.key);
    body.enter_state(KeyState::Suspended, UnixSeconds(NOW));
    let suspended = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    let mut honest = view(&c);
    honest.documents.push(suspended.envelope().clone());
    let key = key_view::verify(&known(&c), &[view(&c), honest], AT).unwrap();
    assert_eq!(key.state(), KeyState::Suspended);
}
