//! What one node says and nobody signed, or says first, stops nothing.

use std::time::Duration;

use quorate_types::UnixSeconds;
use quorate_wire::proto::v1;

use crate::coordinate::{Coordinator, Round, RoundTime};
use crate::leaving::NamedAs;
use crate::membership::CommitteeChange;
use crate::testing::{Behaviour, FakeCluster, Tls};
use crate::{Key, Warning};

async fn round(coordinator: &mut Coordinator, seconds: u64) -> Round {
    let now = UnixSeconds(2_000_000_000 + seconds);
    coordinator.round(RoundTime { elapsed: Duration::from_secs(seconds), now }, |_| ()).await
}

/// The key as it is after these nodes say something of its destruction.
async fn said(cluster: &FakeCluster, nodes: &[usize], view: impl Fn(&mut v1::KeyView)) -> Key {
    for node in nodes {
        let mut shown = cluster.nodes[*node].view();
        view(&mut shown);
        cluster.nodes[*node].show(shown);
    }
    let id = cluster.key;
    cluster.client.forget_key(id);
    cluster.client.fetch_key(id).await.unwrap()
}

/// A node says that it destroys its share, or that it has, and no document asks for that: the key is refreshed, moved off that
/// node, and keeps it in the roster for no longer than any other. Where so many say so that fewer than T are left, the key
/// is destroyed. Fails in each of its parts where one node's word is enough for that part.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_a_key_is_destroyed_stops_nothing() {
    let waits = |view: &mut v1::KeyView| view.destruction_in = 1;
    let destroyed = |view: &mut v1::KeyView| view.destroyed_at = 1;
    for claim in [waits as fn(&mut v1::KeyView), destroyed] {
        let cluster = FakeCluster::start_of(2, 3, 4, Tls::Hybrid).await;
        let key = said(&cluster, &[0], claim).await;
        let client = &cluster.client;
        let [one, .., four] = [0, 1, 2, 3].map(|at: usize| cluster.nodes[at].id);
        // It is shown, with the node that says it.
        let shown = key.destruction().unwrap();
        assert_eq!((shown.asked, shown.nodes.len(), shown.nodes[0].0), (None, 1, one));
        assert!(!key.is_to_be_destroyed());

        let change = CommitteeChange { replace: vec![(one, four)], ..Default::default() };
        let keys = core::slice::from_ref(&key);
        let plan = client.plan_committees(client.roster(), keys, &change).unwrap();
        assert_eq!((plan.orders.len(), plan.left_out.len()), (1, 0), "{plan:?}");
        let leaving = client.leaving_keys(&[one], keys).await;
        assert_eq!(leaving.named.len(), 1, "{leaving:?}");
        assert_eq!(leaving.named[0].how, NamedAs::Holder);

        let mut coordinator = Coordinator::new(client.clone(), None);
        let round = round(&mut coordinator, 0).await;
        assert_eq!((round.versions, round.looked_at), (1, 1), "{round:?}");
    }
    // Two of three have destroyed theirs: one is left, which alone deals nothing.
    let cluster = FakeCluster::start_of(2, 3, 4, Tls::Hybrid).await;
    let key = said(&cluster, &[0, 1], destroyed).await;
    let client = &cluster.client;
    assert!(key.is_destroyed(quorate_types::KeyVersion::FIRST) && !key.is_to_be_destroyed());
    let keys = core::slice::from_ref(&key);
    let change = CommitteeChange::default();
    let plan = client.plan_committees(client.roster(), keys, &change).unwrap();
    assert_eq!((plan.orders.len(), plan.left_out.len()), (0, 1), "{plan:?}");
    assert_eq!(client.leaving_keys(&[cluster.nodes[0].id], keys).await.named, []);
    let mut coordinator = Coordinator::new(client.clone(), None);
    assert_eq!(round(&mut coordinator, 0).await.versions, 0);
}

/// A holder keeps to an old certificate, and says so or not: what is due is dealt all the same, in the first round that sees
/// it, and who acknowledges a certificate and then shows the older one is named. Fails where whoever is behind puts off the
/// dealing, and where nobody is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stays_behind_keeps_the_coordinator_from_nothing() {
    for (behaviour, named) in [(Behaviour::StaysBehind, false), (Behaviour::GoesBack, true)] {
        let mut cluster = FakeCluster::start(2, 3).await;
        cluster.reshare();
        (0..2).for_each(|node| cluster.switch(node));
        cluster.behave(2, behaviour);
        let client = cluster.client.clone();
        let mut coordinator = Coordinator::new(client.clone(), None);
        let first = round(&mut coordinator, 0).await;
        // Fakes take part in no ceremony: what is asked of them fails.
        assert_eq!((first.waiting, first.failed), (0, 1), "{behaviour:?}: {first:?}");
        // Once it failed it is tried again later, and once more after that, however often the node is looked at meanwhile.
        let mut tried = 0;
        for minute in 1..30 {
            tried += round(&mut coordinator, 60 * minute).await.failed;
        }
        assert!((2..10).contains(&tried), "{behaviour:?}: {tried}");
        let goes_back = |warning: &Warning| {
            matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-3"
                && wrong.what.contains("showed the older one again"))
        };
        let warned = client.warnings();
        assert_eq!(warned.iter().any(goes_back), named, "{behaviour:?}: {warned:?}");
    }
}

/// The node that answers first knows no newer roster, or hides it, and the others are slower than a slow node: theirs is
/// found. Fails where the others get no more time than a slow node once one has answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_near_node_that_shows_no_newer_roster_cuts_nobody_off() {
    let cluster = FakeCluster::start(2, 3).await;
    let newer = cluster.without(2).roster_digest();
    cluster.hide_newer_rosters(0, 1);
    let late = 5 * crate::testing::FAST.hedge.as_millis() as u64;
    (1..3).for_each(|node| cluster.behave(node, Behaviour::Late(late)));
    let found = cluster.client.under_newer_roster(Duration::ZERO).await;
    assert_eq!(found.map(|client| client.roster_digest()), Some(newer));
}

/// Of a node that leaves, and from then on cannot be asked: it has confirmed that its old share is erased where nothing of it is
/// left. Fails where it is enough that it uses the newer certificate, and where one that is still erasing is asked
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_has_confirmed_only_what_is_gone() {
    use crate::leaving::Unconfirmed;

    for (behaviour, why) in [
        (Behaviour::Honest, None),
        (Behaviour::Erasing(2), None),
        (Behaviour::Erasing(u32::MAX), Some(Unconfirmed::Erasing)),
        (Behaviour::InBackup, Some(Unconfirmed::Copied)),
        (Behaviour::LostBefore, Some(Unconfirmed::Lost)),
    ] {
        let mut cluster = FakeCluster::start_of(2, 3, 6, Tls::Hybrid).await;
        cluster.move_to(&[3, 4, 5]);
        cluster.behave(0, behaviour);
        let key = cluster.key().await;
        let left = cluster.nodes[0].id;
        let leaving = cluster.client.leaving_keys(&[left], core::slice::from_ref(&key)).await;
        assert_eq!(leaving.named, [], "{behaviour:?}");
        let old = &leaving.old[0];
        assert_eq!(old.confirmed, usize::from(why.is_none()), "{behaviour:?}: {old:?}");
        let reasons: Vec<&Unconfirmed> = old.unconfirmed.iter().map(|(_, why)| why).collect();
        assert_eq!(reasons, why.iter().collect::<Vec<_>>(), "{behaviour:?}");
    }
}

/// The list of one node goes on for ever and leads to no key, or is in no order: all keys are listed, and that node is named.
/// Of two such of three no list is made, and a coordinator keeps what it knows. Fails where the smallest of what
/// nodes say is where everybody's next page begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_list_leads_nowhere_hides_no_key() {
    for lie in [Behaviour::HidesKeys, Behaviour::RepeatsKeys] {
        let cluster = FakeCluster::start(2, 3).await;
        let client = &cluster.client;
        let mut coordinator = Coordinator::new(client.clone(), None);
        cluster.behave(0, lie);
        let first = round(&mut coordinator, 0).await;
        assert!(first.listed && first.versions == 1, "{lie:?}: {first:?}");
        assert_eq!(client.list_keys().await.unwrap().len(), 1, "{lie:?}");
        assert_eq!(client.first_keys(1).await.unwrap().len(), 1, "{lie:?}");
        let (keys, unverified) = client.all_keys().await.unwrap();
        assert_eq!((keys.len(), unverified), (1, vec![]), "{lie:?}");
        let warned = client.warnings();
        let named = |warning: &Warning| matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-1");
        assert!(!warned.is_empty() && warned.iter().all(named), "{lie:?}: {warned:?}");

        cluster.behave(1, lie);
        let crate::Error::NotQuorate(missing) = client.list_keys().await.unwrap_err() else {
            panic!("another error");
        };
        assert_eq!((missing.needed, missing.wrong.len()), (2, 2), "{lie:?}: {missing:?}");
        let later = round(&mut coordinator, 2 * 86_400).await;
        assert!(!later.listed && later.versions == 1, "{lie:?}: {later:?}");
        assert!(later.problems.iter().any(|error| error.code() == "not_quorate"), "{later:?}");
    }
}

/// The documents of one node have no end: what most show is enough, whoever wants most or all to answer, and that node counts
/// as one that did not. Fails where a node is asked for as long as it says that there are more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_documents_have_no_end_holds_up_nobody() {
    for lie in [Behaviour::EndlessDocuments, Behaviour::CirclingDocuments] {
        let cluster = FakeCluster::start(2, 3).await;
        let client = &cluster.client;
        cluster.behave(0, lie);
        client.refresh_roster().await.unwrap();
        let lacking = client.missing_documents().await.unwrap();
        assert_eq!(lacking.documents, 1, "{lie:?}");
        let failed: Vec<bool> = lacking.nodes.iter().map(|node| node.result.is_err()).collect();
        assert_eq!(failed, [true, false, false], "{lie:?}: {lacking:?}");
        // Without an end it would be asked thousands of times, each of which takes a while.
        assert!(cluster.nodes[0].fetched() < 2000, "{lie:?}: {}", cluster.nodes[0].fetched());
        let warned = client.warnings();
        let named = |warning: &Warning| matches!(warning, Warning::WrongAnswer(wrong) if wrong.name == "node-1");
        assert!(warned.iter().all(named), "{lie:?}: {warned:?}");
        assert_eq!(warned.is_empty(), lie == Behaviour::EndlessDocuments, "{lie:?}: {warned:?}");

        // Of two such of three nothing is fetched.
        cluster.behave(1, Behaviour::CirclingDocuments);
        cluster.behave(0, Behaviour::CirclingDocuments);
        assert_eq!(client.refresh_roster().await.unwrap_err().code(), "not_quorate");
    }
}
