//! Against nodes of our own, over real TLS and HTTP.

use std::io::Cursor;
use std::time::{Duration, Instant};

use crate::testing::{Behaviour, FAST, FakeCluster, Tls};
use crate::{
    Client, EncryptionContext, Error, ObjectError, ParsedHeader, Profile, RefusalCode,
    UnreachableReason, Warning,
};

fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711")]).unwrap()
}

#[tokio::test]
async fn bytes_streams_and_ranges_open_again() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let mebi = 1 << 20;
    for length in [0, 1, 16_383, 16_384, 16_385, mebi - 1, mebi, mebi + 1, 3 * mebi + 5] {
        let plaintext: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let sealed = client.encrypt(&key, &plaintext, &context()).await.unwrap();
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), plaintext, "{length}");

        let mut streamed = Vec::new();
        let summary = client
            .encrypt_stream(&key, &mut plaintext.as_slice(), &mut streamed, &context())
            .await
            .unwrap();
        assert_eq!(summary.plaintext_bytes, length as u64);
        assert_eq!(summary.sealed_bytes, streamed.len() as u64);
        for object in [&sealed, &streamed] {
            let mut opened = Vec::new();
            let summary = client
                .decrypt_stream(&mut object.as_slice(), &mut opened, &context())
                .await
                .unwrap();
            assert_eq!(opened, plaintext, "{length}");
            assert_eq!(summary.sealed_bytes, object.len() as u64);
        }
        let mut reader = client.open_reader(Cursor::new(&streamed), &context()).await.unwrap();
        assert_eq!(reader.len(), length as u64);
        for (from, to) in [(0, length), (length / 3, length / 2), (length, length)] {
            let part = reader.read_range(from as u64, (to - from) as u64).await.unwrap();
            assert_eq!(part, plaintext[from..to], "{from}..{to} of {length}");
        }
        let outside = reader.read_range(length as u64, 1).await.unwrap_err();
        assert_eq!(outside.code(), "range_invalid");
    }
    // One connection a node, whatever was asked.
    assert!(cluster.nodes.iter().all(|n| n.connected() <= 1));
    assert_eq!(client.warnings(), []);
}

/// Attack 24, at this level: nothing is released and an error says why.
#[tokio::test]
async fn attack_24_changed_and_truncated_streams_are_refused() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let plaintext = vec![7; (2 << 20) + 100];
    let sealed = client.encrypt(&key, &plaintext, &context()).await.unwrap();
    let payload = ParsedHeader::parse(&sealed).unwrap().length();
    let block = 64 * 16_400;
    let ends = [
        0,
        20,
        payload - 1,
        payload,
        payload + 55,
        payload + 56,
        payload + 56 + 16_400,
        payload + 56 + block,
        payload + 56 + 2 * block,
        sealed.len() - 1,
    ];
    for end in ends {
        let cut = &sealed[..end];
        assert!(client.decrypt(cut, &context()).await.is_err(), "{end}");
        let mut out = Vec::new();
        let error = client.decrypt_stream(&mut &*cut, &mut out, &context()).await.unwrap_err();
        assert!(["object_truncated", "object_tampered"].contains(&error.code()), "{end}: {error}");
        assert!(plaintext.starts_with(&out) && out.len() < plaintext.len());
        assert!(client.open_reader(Cursor::new(cut), &context()).await.is_err(), "{end}");
    }
    for at in [60, payload - 1, payload + 3, payload + 56 + block + 9, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(client.decrypt(&changed, &context()).await.is_err(), "{at}");
        let mut out = Vec::new();
        assert!(
            client.decrypt_stream(&mut changed.as_slice(), &mut out, &context()).await.is_err()
        );
        assert!(plaintext.starts_with(&out));
    }
}

/// Attack 22: another context never opens, and the answer is not "cheater".
#[tokio::test]
async fn attack_22_another_context_does_not_open() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    for other in
        [EncryptionContext::default(), EncryptionContext::new([("customer", "1")]).unwrap()]
    {
        let error = client.decrypt(&sealed, &other).await.unwrap_err();
        assert_eq!(error.code(), "object_wrong_context");
    }
    assert_eq!(client.warnings(), []);
    let storing = client.storing_contexts();
    let sealed = storing.encrypt(&key, b"x", &context()).await.unwrap();
    assert_eq!(client.decrypt(&sealed, &EncryptionContext::default()).await.unwrap(), b"x");
}

/// Whoever keeps objects can change their headers, and no more: no node is blamed for it, and the other objects
/// of the batch open. Fails when a header's tenant is not compared with the key's, as nodes make their labels with
/// the key's.
#[tokio::test]
async fn attack_22_a_changed_header_blames_no_node_and_stops_no_other_object() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let good = client.encrypt(&key, b"good", &context()).await.unwrap();
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    let length = ParsedHeader::parse(&sealed).unwrap().length();
    let mut asked = 0;
    for at in 0..length {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let Ok(header) = ParsedHeader::parse(&changed) else { continue };
        asked += 1;
        let headers = [header, ParsedHeader::parse(&good).unwrap()];
        let opened = client.open_headers(&headers, &[context()]).await;
        assert!(opened[0].is_err(), "{at}");
        assert!(opened[1].is_ok(), "{at}: {:?}", opened[1].as_ref().err());
        assert_eq!(client.warnings(), [], "{at}");
        let code = opened[0].as_ref().unwrap_err().code();
        assert_ne!(code, "not_quorate", "{at}");
    }
    assert!(asked > 100, "{asked}");
}

/// Fails when a refusal of one item is given to all of its batch.
#[tokio::test]
async fn a_refused_item_stops_no_other_of_its_batch() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let keys = client.derive_sealing_keys(&key, 100, &[context()]).await.unwrap();
    let headers: Vec<ParsedHeader> =
        keys.into_iter().map(|key| ParsedHeader::parse(&key.start().0).unwrap()).collect();
    let even = |header: &ParsedHeader| header.stanzas()[0].nonce()[0].is_multiple_of(2);
    for node in 0..3 {
        cluster.behave(node, Behaviour::RefusesEven);
    }
    let opened = client.open_headers(&headers, &[context()]).await;
    for (header, opened) in headers.iter().zip(&opened) {
        assert_eq!(opened.is_err(), even(header), "{:?}", opened.as_ref().err());
        if let Err(error) = opened {
            assert_eq!(error.code(), "policy_forbids");
        }
    }
    assert!(opened.iter().any(Result::is_ok) && opened.iter().any(Result::is_err));
}

#[tokio::test]
async fn one_node_down_serves_and_two_are_named() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    let sealed = cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    cluster.stop(0).await;
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    cluster.client.encrypt(&key, b"y", &context()).await.unwrap();
    cluster.stop(2).await;
    let error = cluster.client.decrypt(&sealed, &context()).await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    // The third may not have answered yet when two have failed.
    assert_eq!((missing.needed, missing.of), (2, 3));
    assert!(missing.answered <= 1);
    let names: Vec<&str> = missing.unreachable.iter().map(|u| u.name.as_str()).collect();
    assert!(names.contains(&"node-1") && names.contains(&"node-3"), "{error}");
    assert!(missing.unreachable.iter().all(|u| u.reason == UnreachableReason::ConnectionRefused));
    assert!(error.to_string().ends_with("Nothing was lost"));
    assert_eq!(error.code(), "not_quorate");
    let status = cluster.client.cluster_status().await;
    assert_eq!(status.iter().filter(|s| s.status.is_ok()).count(), 1);
}

/// Attack 19: a wrong answer is left out, and its giver named. Fails when decrypting
/// does not ask again with proofs.
#[tokio::test]
async fn attack_19_wrong_answers_are_left_out_and_named() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    for behaviour in [Behaviour::WrongShare, Behaviour::LiesUnproved] {
        for liar in 0..3 {
            cluster.behave(liar, behaviour);
            for _ in 0..3 {
                assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
                let again = client.encrypt(&key, b"z", &context()).await.unwrap();
                assert_eq!(client.decrypt(&again, &context()).await.unwrap(), b"z");
            }
            let warnings = client.warnings();
            let name = format!("node-{}", liar + 1);
            for warning in &warnings {
                let Warning::WrongAnswer(wrong) = warning else { panic!("{warning}") };
                assert_eq!(wrong.name, name);
            }
            cluster.behave(liar, Behaviour::Honest);
        }
    }
    // With two liars of three nothing opens, and nothing wrong comes out.
    cluster.behave(0, Behaviour::WrongShare);
    cluster.behave(1, Behaviour::WrongShare);
    let error = client.decrypt(&sealed, &context()).await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.wrong.len(), 2, "{error}");
}

/// A node that always uses another share gives a key that only it can give again: so nothing is sealed
/// unless every answer is proved. Fails when encrypting skips proofs.
#[tokio::test]
async fn attack_19_nothing_is_sealed_with_a_wrong_answer() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    cluster.behave(0, Behaviour::WrongShare);
    cluster.stop(1).await;
    let error = cluster.client.encrypt(&key, b"x", &context()).await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.wrong.len(), 1, "{error}");
    assert_eq!(missing.wrong[0].name, "node-1");
}

/// The roster's key is the only one that is talked to. Fails when the verifier accepts any key.
#[tokio::test]
async fn somebody_else_at_a_nodes_address_is_not_talked_to() {
    let mut cluster = FakeCluster::start(2, 3).await;
    cluster.impersonate(0).await;
    cluster.impersonate(1).await;
    let error = cluster.client.key("test").await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.unreachable.len(), 2);
    assert!(
        missing.unreachable.iter().all(|u| u.reason == UnreachableReason::KeyDiffers),
        "{error}"
    );
    assert_eq!(cluster.nodes[0].connected(), 0);
}

/// One node's address in somebody else's hands stops nothing; it is not passed over in silence either.
#[tokio::test]
async fn somebody_else_at_one_nodes_address_is_warned_of() {
    let mut cluster = FakeCluster::start(2, 3).await;
    cluster.impersonate(0).await;
    let key = cluster.key().await;
    cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    let name = "node-1".to_owned();
    assert!(cluster.client.warnings().contains(&Warning::OtherKey { name }));
}

/// What is recorded today must not open once X25519 falls. Fails when the client offers more than
/// X25519MLKEM768.
#[tokio::test]
async fn a_node_without_the_hybrid_key_exchange_is_not_talked_to() {
    let cluster = FakeCluster::start_with(2, 3, Tls::Classical).await;
    let error = cluster.client.key("test").await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.unreachable.len(), 3);
    assert!(
        missing.unreachable.iter().all(|u| matches!(u.reason, UnreachableReason::Tls(_))),
        "{error}"
    );
    assert!(cluster.nodes.iter().all(|n| n.connected() == 0));
}

/// Attack 39, by hand: a node that takes requests and never answers costs one hedge delay, not a
/// time-out.
#[tokio::test]
async fn attack_39_a_stalled_node_costs_one_hedge_delay() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    for stalled in 0..3 {
        cluster.behave(stalled, Behaviour::Stalls);
        let began = Instant::now();
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        cluster.behave(stalled, Behaviour::Honest);
    }
}

/// Nor does one that accepts connections and nothing more, to a client that has just begun: neither reading
/// the clocks nor finding the key waits for it. Fails when clocks are read of all nodes.
#[tokio::test]
async fn a_node_that_hangs_does_not_hold_up_encrypting() {
    for hanging in 0..3 {
        let mut cluster = FakeCluster::start(2, 3).await;
        cluster.hang(hanging).await;
        let profile = Profile::open(cluster.profile_dir.path()).unwrap();
        let client = Client::builder(&profile).unwrap().timeouts(FAST).build().unwrap();
        let began = Instant::now();
        let key = client.key("test").await.unwrap();
        let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }
}

/// A node that stalls is asked last from then on, so that it costs the hedge delay once.
#[tokio::test]
async fn a_stalled_node_is_asked_last() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    // Each in turn, because one of them may be the slowest anyway.
    for stalled in 0..3 {
        cluster.behave(stalled, Behaviour::Stalls);
        client.decrypt(&sealed, &context()).await.unwrap();
        let began = Instant::now();
        for _ in 0..10 {
            client.decrypt(&sealed, &context()).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
        cluster.behave(stalled, Behaviour::Honest);
    }
}

/// Nodes that have too much to do are asked again, at most twice, after a pause.
#[tokio::test]
async fn overloaded_nodes_are_asked_again() {
    let cluster = FakeCluster::start(1, 1).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    cluster.behave(0, Behaviour::Overloaded(2));
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    cluster.behave(0, Behaviour::Overloaded(3));
    let error = client.decrypt(&sealed, &context()).await.unwrap_err();
    assert_eq!(error.code(), RefusalCode::Overloaded.code());
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    cluster.behave(0, Behaviour::Floods);
    cluster.behave(1, Behaviour::Floods);
    let error = client.decrypt(&sealed, &context()).await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.unreachable.len(), 2, "{error}");
    assert!(missing.unreachable.iter().all(|u| matches!(u.reason, UnreachableReason::Protocol(_))));
}

/// An answer without a record in the node's log is not used, and the node is named; nor is one with a record in
/// a log that is not the node's. Fails where `leaves_record` says no, and where `Marks::after` takes any log.
#[tokio::test]
async fn answers_without_an_audit_record_are_not_used() {
    for behaviour in [Behaviour::NoReceipt, Behaviour::StrangeReceipt] {
        let cluster = FakeCluster::start(2, 3).await;
        let (client, key) = (&cluster.client, cluster.key().await);
        let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
        cluster.behave(0, behaviour);
        // The others have records.
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
        cluster.behave(1, behaviour);
        let error = client.decrypt(&sealed, &context()).await.unwrap_err();
        let Error::NotQuorate(missing) = &error else { panic!("{error}") };
        // In the order in which they answer.
        let mut names: Vec<_> = missing.unreachable.iter().map(|u| u.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["node-1", "node-2"], "{error}");
        assert!(missing.unreachable.iter().all(|u| u.reason == UnreachableReason::NoReceipt));
        assert!(error.to_string().contains("left no audit record"), "{error}");
    }
}

#[tokio::test]
async fn what_most_nodes_refuse_is_said_in_their_words() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    cluster.behave(0, Behaviour::Refuses);
    client.encrypt(&key, b"x", &context()).await.unwrap();
    cluster.behave(1, Behaviour::Refuses);
    let error = client.encrypt(&key, b"x", &context()).await.unwrap_err();
    assert_eq!(error.code(), RefusalCode::NotPermitted.code());
    assert!(error.to_string().ends_with("refused: you may not"), "{error}");
}

/// A wrong clock of this machine does no harm and is said: here all nodes are ten minutes ahead of it.
#[tokio::test]
async fn objects_are_stamped_by_the_nodes_clocks() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    (0..3).for_each(|node| cluster.move_clock(node, 600));
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    let header = ParsedHeader::parse(&sealed).unwrap();
    let stamped = header.stanzas()[0].facts().created_at.0;
    assert!(stamped >= crate::rng::now().0 + 570);
    assert!(
        matches!(client.warnings().as_slice(), [Warning::OwnClock { seconds }] if *seconds < -500)
    );

    // One node alone is off: it refuses, and the others serve.
    (0..3).for_each(|node| cluster.move_clock(node, 0));
    client.check_clocks().await.unwrap();
    cluster.move_clock(1, 7200);
    for _ in 0..4 {
        client.encrypt(&key, b"x", &context()).await.unwrap();
    }
    let report = client.check_clocks().await.unwrap();
    assert_eq!((report.offset, report.agreeing), (0, 2));
    let warned = client.warnings();
    assert!(
        warned.iter().any(|w| matches!(w, Warning::NodeClock { name, .. } if name == "node-2"))
    );
}

/// The nodes' clocks jump after they were read: the refusal says so, and the client stamps again.
#[tokio::test]
async fn a_clock_that_jumps_is_read_again() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    client.encrypt(&key, b"x", &context()).await.unwrap();
    (0..3).for_each(|node| cluster.move_clock(node, -900));
    client.encrypt(&key, b"x", &context()).await.unwrap();
}

#[tokio::test]
async fn thousands_of_keys_take_one_request_a_node() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let n = 500;
    let contexts: Vec<EncryptionContext> =
        (0..n).map(|i| EncryptionContext::new([("file", i.to_string())]).unwrap()).collect();
    let before: usize = cluster.nodes.iter().map(|n| n.evaluated()).sum();
    let keys = client.derive_sealing_keys(&key, n, &contexts).await.unwrap();
    let asked: usize = cluster.nodes.iter().map(|n| n.evaluated()).sum::<usize>() - before;
    assert!((2..=3).contains(&asked), "{asked}");
    let sealed: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = keys
            .into_iter()
            .enumerate()
            .map(|(i, key)| scope.spawn(move || key.seal(format!("file {i}").as_bytes()).unwrap()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let headers: Vec<ParsedHeader> =
        sealed.iter().map(|s| ParsedHeader::parse(s).unwrap()).collect();
    let mut swapped = contexts.clone();
    swapped.swap(3, 4);
    let opened = client.open_headers(&headers, &swapped).await;
    for (i, opened) in opened.into_iter().enumerate() {
        if i == 3 || i == 4 {
            assert_eq!(opened.unwrap_err().code(), "object_wrong_context");
            continue;
        }
        let opened = opened.unwrap();
        let payload = &sealed[i][opened.header_len()..];
        assert_eq!(opened.open(payload).unwrap(), format!("file {i}").into_bytes());
    }
    let few = client.derive_sealing_keys(&key, 3, &contexts[..2]).await.unwrap_err();
    assert_eq!(few.code(), "request_invalid");
}

#[tokio::test]
async fn data_keys_are_made_wrapped_and_unwrapped() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let made = client.generate_data_keys(&key, 3, &[context()]).await.unwrap();
    let existing: Vec<&[u8]> = vec![&[1; 16], &[2; 32], &[3; 64]];
    let wrapped = client.wrap_data_keys(&key, &existing, &[context()]).await.unwrap();
    let mut all: Vec<&[u8]> = made.iter().map(|m| m.wrapped.as_slice()).collect();
    all.extend(wrapped.iter().map(Vec::as_slice));
    all.push(b"not a key");
    let keys = client.unwrap_data_keys(&all, &[context()]).await;
    for (made, key) in made.iter().zip(&keys) {
        assert_eq!(made.key.reveal(), key.as_ref().unwrap().reveal());
    }
    for (existing, key) in existing.iter().zip(&keys[3..]) {
        assert_eq!(*existing, key.as_ref().unwrap().reveal());
    }
    assert_eq!(keys[6].as_ref().unwrap_err().code(), "object_format");
    assert!(client.wrap_data_keys(&key, &[&[0; 8]], &[context()]).await.is_err());
}

#[tokio::test]
async fn aliases_keep_their_meaning() {
    let cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    assert_eq!(key.id(), cluster.key);
    let profile = Profile::open(cluster.profile_dir.path()).unwrap();
    assert_eq!(profile.alias_pins().unwrap().get("test"), Some(&cluster.key));
    assert_eq!(cluster.client.key("other").await.unwrap_err().code(), "key_unknown");
    assert_eq!(cluster.client.key(cluster.key.to_string()).await.unwrap().id(), cluster.key);
    let listed = cluster.client.list_keys().await.unwrap();
    assert_eq!(listed.iter().map(|k| k.id()).collect::<Vec<_>>(), [cluster.key]);

    let other = crate::KeyId::from_bytes([9; 32]);
    let pins = crate::profile::AliasPins::new(cluster.profile_dir.path());
    pins.write(&[("test".to_owned(), other)].into()).unwrap();
    assert_eq!(cluster.client.key("test").await.unwrap_err().code(), "key_alias_moved");
    profile.forget_alias("test").unwrap();
    cluster.client.key("test").await.unwrap();
}

#[tokio::test]
async fn http_1_works_too() {
    let cluster = FakeCluster::start_with(2, 3, Tls::Http1).await;
    let key = cluster.key().await;
    let sealed = cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    }
}

#[tokio::test]
async fn an_object_of_a_strange_key_says_so() {
    let (one, two) = (FakeCluster::start(2, 3).await, FakeCluster::start(2, 3).await);
    let sealed = one.client.encrypt(&one.key().await, b"x", &context()).await.unwrap();
    let error = two.client.decrypt(&sealed, &context()).await.unwrap_err();
    assert!(matches!(error, Error::Object(ObjectError::NoReader { stanzas: 1 })));
    assert!(matches!(
        two.client.decrypt(b"hello", &context()).await.unwrap_err().code(),
        "object_format"
    ));
}

/// Futures of this library can be spawned.
#[test]
fn futures_can_be_sent() {
    fn send<T: Send>(_: impl Fn(&'static Client) -> T) {}
    static EMPTY: &[u8] = &[];
    send(|c| c.decrypt(EMPTY, Box::leak(Box::new(EncryptionContext::default()))));
    send(|c| c.cluster_status());
    send(|c| c.key("x"));
    send(|c| c.list_keys());
    send(|c| c.resume_key("x", |_| {}));
    send(|c| c.rewrap(&[], &[]));
    send(|c| c.unwrap_data_keys(&[], &[]));
    send(|c| c.list_principals());
}

/// A source without end that counts what was read of it.
struct Endless(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl tokio::io::AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let length = buffer.remaining();
        buffer.initialize_unfilled();
        buffer.advance(length);
        self.0.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        std::task::Poll::Ready(Ok(()))
    }
}

/// Memory is bounded because a writer that does not keep up stops the reader: of an endless input at
/// most two blocks are read before the first byte of output is taken. Fails when a task of its own reads.
#[tokio::test]
async fn a_slow_output_stops_the_input() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let read = std::sync::Arc::default();
    let mut input = Endless(std::sync::Arc::clone(&read));
    // Nobody reads at the other end; the header fits, the payload does not.
    let (mut output, _other_end) = tokio::io::duplex(1 << 16);
    let none = EncryptionContext::default();
    let sealing = client.encrypt_stream(&key, &mut input, &mut output, &none);
    let stopped = tokio::time::timeout(Duration::from_millis(500), sealing).await;
    assert!(stopped.is_err());
    let read = read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(read <= 256 << 10, "{read}");
}

#[tokio::test]
async fn a_broken_output_ends_the_stream() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let mut input = Endless(std::sync::Arc::default());
    let (mut output, other_end) = tokio::io::duplex(1 << 16);
    drop(other_end);
    let error = client
        .encrypt_stream(&key, &mut input, &mut output, &EncryptionContext::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "stream_io");
}

/// Gives a few bytes at a time, and lets wait before each.
struct Dripping<'a>(&'a [u8], bool);

impl tokio::io::AsyncRead for Dripping<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()).min(60_007));
        buffer.put_slice(now);
        self.0 = later;
        std::task::Poll::Ready(Ok(()))
    }
}

/// Blocks grow once an input is waited for; what comes out is the same.
#[tokio::test]
async fn streams_that_are_waited_for_open_again() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let (first, block) = (128 << 10, 1 << 20);
    for length in
        [0, 9, first - 1, first, first + 1, first + block - 1, first + block, 3 * block + 7]
    {
        let plaintext: Vec<u8> = (0..length).map(|i| (i % 249) as u8).collect();
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        let mut input = Dripping(&plaintext, false);
        client.encrypt_stream(&key, &mut input, &mut sealed, &context()).await.unwrap();
        let mut input = Dripping(&sealed, false);
        let summary = client.decrypt_stream(&mut input, &mut opened, &context()).await.unwrap();
        assert_eq!(opened, plaintext, "{length}");
        assert_eq!(summary.plaintext_bytes, length as u64);
        assert_eq!(summary.sealed_bytes, sealed.len() as u64);
        // Cut where whole chunks end, at the end of a block and elsewhere.
        let payload = ParsedHeader::parse(&sealed).unwrap().length() + 56;
        for chunks in [0, 7, 8, 9, 71, 72, 73] {
            let Some(cut) = sealed.get(..payload + chunks * 16_400) else { continue };
            let (mut input, mut out) = (Dripping(cut, false), Vec::new());
            let error = client.decrypt_stream(&mut input, &mut out, &context()).await.unwrap_err();
            assert_eq!(error.code(), "object_truncated", "{length}, {chunks}");
            assert!(plaintext.starts_with(&out));
        }
    }
}

/// Takes nothing of the payload until so many bytes of the input were read.
struct Later {
    read: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    until: usize,
    taken: usize,
}

impl tokio::io::AsyncWrite for Later {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let read = self.read.load(std::sync::atomic::Ordering::Relaxed);
        if read > 0 && read < self.until {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        self.taken += bytes.len();
        if self.taken > 4 << 20 {
            return std::task::Poll::Ready(Err(std::io::ErrorKind::StorageFull.into()));
        }
        std::task::Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// The second block is read while the first is written. Waits for ever when one follows the other.
#[tokio::test]
async fn reading_goes_on_while_a_block_is_written() {
    let cluster = FakeCluster::start(2, 3).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let read = std::sync::Arc::default();
    let mut input = Endless(std::sync::Arc::clone(&read));
    let mut output = Later { read, until: 256 << 10, taken: 0 };
    let none = EncryptionContext::default();
    let sealing = client.encrypt_stream(&key, &mut input, &mut output, &none);
    let ended = tokio::time::timeout(Duration::from_secs(20), sealing).await;
    assert_eq!(ended.expect("reading and writing take turns").unwrap_err().code(), "stream_io");
}
