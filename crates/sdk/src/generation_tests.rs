//! A key is used while its shares are dealt anew: whoever knows what, no request fails, and nothing is mixed.

use quorate_types::KeyVersion;
use quorate_wire::EncryptionContext;

use crate::testing::{Behaviour, FakeCluster, Tls};
use crate::{Client, Profile, Warning};

fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711")]).unwrap()
}

/// A client that has learnt nothing.
fn fresh(cluster: &FakeCluster) -> Client {
    let profile = Profile::open(cluster.profile_dir.path()).unwrap();
    Client::builder(&profile).unwrap().timeouts(crate::testing::FAST).build().unwrap()
}

/// Every request of a client: one object, many keys, a stream, a data key, each sealed and opened.
async fn use_all(client: &Client, old: &[u8]) {
    let context = context();
    assert_eq!(client.decrypt(old, &context).await.unwrap(), b"old");
    let key = client.key("test").await.unwrap();
    let sealed = client.encrypt(&key, b"new", &context).await.unwrap();
    assert_eq!(client.decrypt(&sealed, &context).await.unwrap(), b"new");
    let many = client.derive_sealing_keys(&key, 20, core::slice::from_ref(&context)).await.unwrap();
    assert_eq!(many.len(), 20);
    let (mut streamed, mut opened) = (Vec::new(), Vec::new());
    client.encrypt_stream(&key, &mut &b"stream"[..], &mut streamed, &context).await.unwrap();
    client.decrypt_stream(&mut streamed.as_slice(), &mut opened, &context).await.unwrap();
    assert_eq!(opened, b"stream");
    let contexts = core::slice::from_ref(&context);
    let generated = client.generate_data_keys(&key, 3, contexts).await.unwrap();
    let wrapped: Vec<&[u8]> = generated.iter().map(|key| key.wrapped.as_slice()).collect();
    assert!(client.unwrap_data_keys(&wrapped, contexts).await.iter().all(Result::is_ok));
    assert!(client.rewrap(&[old], contexts).await.iter().all(Result::is_ok));
}

/// Whichever nodes have the new certificate, and whether the client has it: nothing fails, and nobody is blamed. Fails
/// where a client does not take over what it is shown, where it brings nothing to nodes that are behind, and where
/// answers of two generations are compared with one another.
#[tokio::test(flavor = "multi_thread")]
async fn generations_no_request_fails_whoever_has_which_certificate() {
    for switched in 0..8_u8 {
        for client_has_new in [false, true] {
            let mut cluster = FakeCluster::start(2, 3).await;
            let client = fresh(&cluster);
            let key = client.key("test").await.unwrap();
            let old = client.encrypt(&key, b"old", &context()).await.unwrap();
            let certificate = cluster.reshare();
            for node in (0..3).filter(|node| switched & (1 << node) != 0) {
                cluster.switch(node);
            }
            if client_has_new {
                let newer = client.cached_key(key.id()).unwrap().adopting([&certificate]);
                client.cache_key(&newer.unwrap().unwrap());
            }
            use_all(&client, &old).await;
            let what = format!("switched {switched:03b}, the client knows: {client_has_new}");
            assert_eq!(client.warnings(), [], "{what}");
            let version = client.key("test").await.unwrap().versions().remove(0);
            let known = version.height;
            let some = (0..3).filter(|node| cluster.height(*node) == 2).count();
            assert!(known == 2 || some <= 1, "{what}: height {known}, {some} nodes");
            assert!(some >= switched.count_ones() as usize && (some >= 2 || known == 1), "{what}");
        }
    }
}

/// A handle on a key that was looked up long ago is not asked for again and again.
#[tokio::test(flavor = "multi_thread")]
async fn generations_an_old_handle_costs_one_round_more_and_no_more() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    cluster.reshare();
    (0..3).for_each(|node| cluster.switch(node));
    let client = &cluster.client;
    client.encrypt(&key, b"x", &context()).await.unwrap();
    let asked = || cluster.nodes.iter().map(|node| node.evaluated()).sum::<usize>();
    let before = asked();
    for _ in 0..5 {
        client.encrypt(&key, b"x", &context()).await.unwrap();
    }
    assert_eq!(asked() - before, 10);
}

/// A node that keeps to an old generation, and one that shows a certificate of its own making, stop nobody.
#[tokio::test(flavor = "multi_thread")]
async fn generations_a_node_that_stays_behind_or_shows_a_forgery_is_left_out() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let old = client.encrypt(&key, b"old", &context()).await.unwrap();
    cluster.reshare();
    (0..2).for_each(|node| cluster.switch(node));
    cluster.behave(2, Behaviour::StaysBehind);
    use_all(&client, &old).await;
    assert_eq!((cluster.height(2), client.warnings().len()), (1, 0));

    // A higher certificate that lacks a signature.
    let mut cluster = FakeCluster::start(2, 3).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let old = client.encrypt(&key, b"old", &context()).await.unwrap();
    let mut forged = cluster.reshare();
    cluster.switch(0);
    forged.signatures.pop();
    let mut view = cluster.nodes[0].view();
    view.certificates[0] = forged;
    cluster.nodes[0].show(view);
    assert_eq!(client.decrypt(&old, &context()).await.unwrap(), b"old");
    // Where all must be asked, the forger is named and its certificate is not used.
    cluster.behave(1, Behaviour::Refuses);
    assert!(client.decrypt(&old, &context()).await.is_err());
    let warned = client.warnings();
    let forger = |warning: &Warning| {
        matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-1"
            && wrong.what.contains("signature"))
    };
    assert!(warned.iter().any(forger), "{warned:?}");
    assert_eq!(client.cached_key(key.id()).unwrap().versions()[0].height, 1);
}

/// `attacks.md` lines 20 and 21: a node that answers with its share of another generation than was asked for. The key
/// that comes of it is never used: encrypting notices by the proof, decrypting by the object's commitment, and both
/// name the node. Fails where proofs are not verified.
#[tokio::test(flavor = "multi_thread")]
async fn attack_20_a_share_of_another_generation_is_noticed_and_named() {
    for answers in [true, false] {
        let mut cluster = FakeCluster::start(2, 3).await;
        let client = fresh(&cluster);
        let key = client.key("test").await.unwrap();
        let old = client.encrypt(&key, b"old", &context()).await.unwrap();
        cluster.reshare();
        cluster.switch(0);
        cluster.behave(0, Behaviour::AnyGeneration);
        let mut warnings = Vec::new();
        if answers {
            // The third node's answer comes after the other two have answered, whoever was asked first. A client
            // that knows nothing yet would bring the newer certificate to all of them: only this one is used.
            cluster.behave(2, Behaviour::Late(300));
            for _ in 0..20 {
                assert_eq!(client.decrypt(&old, &context()).await.unwrap(), b"old");
                let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
                assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
                warnings = client.warnings();
                if !warnings.is_empty() {
                    break;
                }
            }
        } else {
            // T - 1 good answers and one of another generation: no result.
            cluster.behave(1, Behaviour::Refuses);
            assert!(client.decrypt(&old, &context()).await.is_err());
            assert!(client.encrypt(&key, b"x", &context()).await.is_err());
        }
        let named = |warning: &Warning| matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-1");
        warnings.extend(client.warnings());
        assert!(warnings.iter().any(named), "{warnings:?}");
        assert!(warnings.iter().all(named), "{warnings:?}");
    }
}

/// A node lies without proofs, and the shares are dealt anew before it is asked for proofs: no honest node is named.
/// Fails where the second answers are compared with first ones of another generation.
#[tokio::test(flavor = "multi_thread")]
async fn generations_nobody_honest_is_blamed_for_a_switch_between_two_questions() {
    use std::sync::Arc;

    use quorate_coordinator::evaluation::Proofs;
    use quorate_types::Action;

    use crate::evaluate::{Item, Job, Start};

    let mut cluster = FakeCluster::start(2, 3).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let sealed = client.encrypt(&key, b"old", &context()).await.unwrap();
    let header = crate::ParsedHeader::parse(&sealed).unwrap();
    let stanza = &header.stanzas()[0];
    let item =
        Item { label: stanza.label(Some(&context())).unwrap(), context: Arc::new(context()) };
    cluster.behave(0, Behaviour::LiesUnproved);
    let job = Job::new(&key, KeyVersion::FIRST, Action::Decrypt, None, &[item]);
    let mut job = Arc::new(job);
    let first = client.evaluate(&mut job, Start::Fresh(Proofs::OnDemand)).await.unwrap();
    cluster.reshare();
    (0..3).for_each(|node| cluster.switch(node));
    let again = client.evaluate(&mut job, Start::Again(Box::new(first))).await.unwrap();
    assert!(again.proved);
    assert_eq!(again.report.cheaters, []);
    assert_eq!(job.key().versions()[0].height, 2);
    let honest = |warning: &Warning| matches!(warning, Warning::WrongAnswer(wrong) if wrong.name != "node-1");
    assert!(!client.warnings().iter().any(honest));
}

/// A roster without a node that holds a share still: the others answer, and nobody is asked for documents each time.
/// Fails where every evaluation looks for a newer roster (tried).
#[tokio::test(flavor = "multi_thread")]
async fn newer_rosters_are_not_looked_for_by_each_request() {
    let cluster = FakeCluster::start(2, 3).await;
    let sealed = cluster.client.encrypt(&cluster.key().await, b"x", &context()).await.unwrap();
    let client = cluster.without(2);
    let fetched = || cluster.nodes.iter().map(|node| node.fetched()).sum::<usize>();
    let (before, asked) = (fetched(), cluster.nodes[2].evaluated());
    for _ in 0..100 {
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    }
    // Once for the rosters before the one that is trusted, and once, behind, for one after it: of two nodes each.
    assert!(fetched() - before <= 4, "{}", fetched() - before);
    assert_eq!(cluster.nodes[2].evaluated(), asked);
}

/// All who held the key when a client learnt of it are gone. Fails where a request that nobody answers is given up (tried).
#[tokio::test(flavor = "multi_thread")]
async fn generations_a_committee_of_which_nobody_is_left_is_followed_to_the_next() {
    let mut cluster = FakeCluster::start_of(2, 3, 7, Tls::Hybrid).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let old = client.encrypt(&key, b"old", &context()).await.unwrap();
    cluster.move_to(&[3, 4, 5]);
    for node in 0..3 {
        cluster.stop(node).await;
    }
    // All that come at once wait for the one that looks.
    let context = context();
    let (one, two) = tokio::join!(client.decrypt(&old, &context), client.decrypt(&old, &context));
    assert_eq!((one.unwrap(), two.unwrap()), (b"old".to_vec(), b"old".to_vec()));
    use_all(&client, &old).await;
    assert_eq!(client.cached_key(key.id()).unwrap().versions()[0].height, 2);
}

/// Where nothing is newer, a request that fails is not the dearer for it: it is looked for once.
#[tokio::test(flavor = "multi_thread")]
async fn newer_rosters_are_looked_for_once_where_nobody_answers() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    for node in 0..2 {
        cluster.stop(node).await;
    }
    let before = cluster.nodes[2].fetched();
    for _ in 0..10 {
        assert!(client.decrypt(&sealed, &context()).await.is_err());
    }
    assert_eq!(cluster.nodes[2].fetched() - before, 1);
}

/// One node names orders that nobody has, another one each time: the key is asked for a few times and then not because of
/// that node, which is named and asked last. Fails where the key is asked for whenever an order is not known.
#[tokio::test(flavor = "multi_thread")]
async fn attack_39_a_node_that_makes_up_orders_costs_a_few_requests() {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use quorate_coordinator::evaluation::Report;
    use quorate_types::Action;

    use crate::evaluate::Job;

    let cluster = FakeCluster::start(2, 3).await;
    let client = fresh(&cluster);
    let key = client.key("test").await.unwrap();
    let others = &cluster.nodes[1..];
    let fetched = || others.iter().map(|n| n.key_fetches.load(Ordering::Relaxed)).sum::<usize>();
    let job = Arc::new(Job::new(&key, KeyVersion::FIRST, Action::Decrypt, None, &[]));
    let before = fetched();
    for number in 2..30 {
        let shown = crate::testing::FakeNode::made_up(&cluster.nodes[0].view(), number);
        let report = Report { newer: vec![(cluster.nodes[0].id, shown)], ..Report::default() };
        let newest = client.newest_of(&job, &report, false).await;
        assert_eq!(newest.versions()[0].height, 1);
    }
    assert!((1..=6).contains(&(fetched() - before)), "{}", fetched() - before);
    let named = |warning: &Warning| {
        matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-1"
            && wrong.what.contains("under an order that it does not show"))
    };
    let warned = client.warnings();
    assert!(!warned.is_empty() && warned.iter().all(named), "{warned:?}");
    assert_eq!(client.preferred().last(), Some(&cluster.nodes[0].id));
    // Where a request fails without it, it is asked for all the same.
    let before = fetched();
    let shown = crate::testing::FakeNode::made_up(&cluster.nodes[0].view(), 2);
    let report = Report { newer: vec![(cluster.nodes[0].id, shown)], ..Report::default() };
    client.newest_of(&job, &report, true).await;
    assert!((1..=2).contains(&(fetched() - before)), "{}", fetched() - before);
}

/// A node that is nearer than all others and says no each time is asked once, and then last for a while. Fails where the
/// quickest is asked first whatever it answers.
#[tokio::test(flavor = "multi_thread")]
async fn attack_39_a_quick_node_that_says_no_is_not_asked_first_again() {
    for behaviour in [Behaviour::Refuses, Behaviour::MadeUpOrders] {
        let cluster = FakeCluster::start(2, 3).await;
        let profile = Profile::open(cluster.profile_dir.path()).unwrap();
        // Nobody is asked because another one is slow.
        let hedge = std::time::Duration::from_secs(3);
        let timeouts = crate::Timeouts { hedge, ..crate::testing::FAST };
        let client = Client::builder(&profile).unwrap().timeouts(timeouts).build().unwrap();
        cluster.behave(0, behaviour);
        (1..3).for_each(|node| cluster.behave(node, Behaviour::Late(50)));
        let key = client.key("test").await.unwrap();
        let asked = || cluster.nodes[0].evaluated();
        client.encrypt(&key, b"x", &context()).await.unwrap();
        // What it showed is looked at behind the request.
        let last = Some(cluster.nodes[0].id);
        for _ in 0..500 {
            if asked() == 0 || client.preferred().last().copied() == last {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let before = asked();
        for _ in 0..10 {
            client.encrypt(&key, b"x", &context()).await.unwrap();
        }
        assert_eq!(asked(), before, "{behaviour:?}");
    }
}
