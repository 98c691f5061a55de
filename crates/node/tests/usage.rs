//! What tenants use of a node: counted, shown to those above them, and bounded by the day.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use quorate_documents::{Body, Draft, Quota, SignedDocument, Terms};
use quorate_node::{Outcome, Reply, Request};
use quorate_types::{Action, Generation, KeyId, KeyVersion, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, SigningKey};
use support::{NOW, World, code, principal_document, seed_key, tenant_document};

const DAY: u64 = 86_400;

struct Made {
    world: World,
    key: KeyId,
    generation: Generation,
}

impl Made {
    fn new() -> Self {
        let mut world = World::new(3);
        let document = world.order_key(2, "files");
        let generation = world.make(&document, KeyVersion::FIRST);
        Self { world, key: document.id().into(), generation }
    }

    /// Asks node 0 for so many labels.
    fn evaluate(&mut self, now: UnixSeconds, labels: u8) -> Outcome {
        let items = (0..labels).map(|n| v1::Item {
            nonce: vec![n; 24],
            created_at: now.0,
            ..v1::Item::default()
        });
        let (key, generation) = (self.key, self.generation);
        let action = Action::Encrypt;
        let request = self.world.evaluate_request(0, key, generation, action, items.collect());
        let owner = copy(&self.world.owner);
        self.world.nodes[0].ask_at(now, &owner, Request::Evaluate(request))
    }

    fn usage(&mut self, caller: &SigningKey, tenant: Option<&SignedDocument>) -> Outcome {
        self.ask(caller, tenant, false)
    }

    fn ask(
        &mut self,
        caller: &SigningKey,
        tenant: Option<&SignedDocument>,
        below: bool,
    ) -> Outcome {
        let request = v1::GetUsageRequest {
            node: self.world.nodes[0].id(),
            tenant: tenant.map(|t| t.id().as_bytes().to_vec()).unwrap_or_default(),
            below,
            after: Vec::new(),
        };
        self.world.nodes[0].ask(caller, Request::GetUsage(request))
    }

    fn terms(&mut self, quota: Quota) {
        let terms = Terms {
            tenant: self.world.acme.id().into(),
            suspended: false,
            quota,
            support_contact: "help@platform.example".into(),
            reason: String::new(),
        };
        let roster = self.world.roster.digest();
        let terms = Draft::first(Body::Terms(terms), Some(roster), NOW, &mut self.world.rng)
            .unwrap()
            .sign(&[&self.world.administrator])
            .unwrap();
        self.world.put_all(&[terms]);
    }
}

fn copy(key: &SigningKey) -> SigningKey {
    SigningKey::from_seed(key.seed().duplicate())
}

fn usages(outcome: Outcome) -> Vec<v1::TenantUsage> {
    match outcome {
        Ok(Reply::GetUsage(reply)) => reply.usages,
        other => panic!("{other:?}"),
    }
}

/// Requests and labels are those of answered evaluations, keys are those that count. Fails when refused requests
/// count, or when another tenant's do.
#[test]
fn usage_is_what_was_answered() {
    let mut made = Made::new();
    let owner = copy(&made.world.owner);
    let before = usages(made.usage(&owner, None)).remove(0);
    assert_eq!((before.requests, before.labels, before.keys), (0, 0, 1));
    made.evaluate(NOW, 3).unwrap();
    made.evaluate(NOW, 4).unwrap();
    assert!(made.evaluate(NOW, 0).is_err());
    let stranger = copy(&made.world.stranger);
    let items = vec![support::item(1)];
    let foreign = made.world.evaluate_request(0, made.key, made.generation, Action::Decrypt, items);
    assert_eq!(code(made.world.nodes[0].ask(&stranger, Request::Evaluate(foreign))), "key_unknown");
    let after = usages(made.usage(&owner, None)).remove(0);
    let acme = made.world.acme.clone();
    assert_eq!(after.tenant, acme.id().as_bytes());
    assert_eq!((after.requests, after.labels), (2, 7));
    let today = v1::UsageDay { day: NOW.0 / DAY, requests: 2, labels: 7 };
    assert_eq!(after.days, [today]);
    let other = usages(made.usage(&stranger, None)).remove(0);
    assert_eq!((other.requests, other.keys), (0, 0));
}

/// A parent sees what its children use, by id and as a list, and as a list what theirs use; nobody else does, and
/// none sees its parent's. It takes the permission `audit`. Fails when `read_usage` is not asked.
#[test]
fn a_parent_sees_the_usage_of_tenants_below_it_and_of_no_other() {
    let mut made = Made::new();
    let (owner, stranger) = (copy(&made.world.owner), copy(&made.world.stranger));
    let administrator = copy(&made.world.administrator);
    let acme = made.world.acme.clone();
    let mut below = |parent: &SignedDocument, name: &str| {
        let id = Some(parent.id().into());
        tenant_document(&mut made.world.rng, &administrator, parent, id, name)
    };
    let (child, sibling) = (below(&acme, "child"), below(&acme, "sibling"));
    let grandchild = below(&child, "grandchild");
    let key = seed_key("child", 0);
    let principal =
        principal_document(&mut made.world.rng, &administrator, &child, &key, &[Action::Audit]);
    let all = [child.clone(), sibling.clone(), grandchild.clone(), principal];
    made.world.put_all(&all);

    for tenant in [&child, &sibling] {
        let found = usages(made.usage(&owner, Some(tenant)));
        assert_eq!(found[0].tenant, tenant.id().as_bytes());
    }
    assert_eq!(usages(made.usage(&owner, Some(&child)))[0].principals, 1);
    let mut ids = [child.id(), sibling.id()].map(|id| id.as_bytes().to_vec());
    ids.sort();
    let listed: Vec<_> =
        usages(made.ask(&owner, None, true)).into_iter().map(|u| u.tenant).collect();
    assert_eq!(listed, ids);
    assert_eq!(usages(made.ask(&owner, Some(&child), true))[0].tenant, grandchild.id().as_bytes());

    assert_eq!(code(made.usage(&owner, Some(&grandchild))), "not_permitted");
    for tenant in [&acme, &sibling] {
        assert_eq!(code(made.usage(&key, Some(tenant))), "not_permitted");
        assert_eq!(code(made.ask(&key, Some(tenant), true)), "not_permitted");
    }
    for tenant in [&acme, &child, &grandchild] {
        assert_eq!(code(made.usage(&stranger, Some(tenant))), "not_permitted");
    }
    let encrypter = copy(&made.world.encrypter);
    assert_eq!(code(made.usage(&encrypter, None)), "not_permitted");
}

/// What a tenant may use in a day is refused past it, with whom to ask, and allowed again the next day. Nothing
/// else is refused. Fails when `within_quota` is not asked, and when the node forgets what it counted.
#[test]
fn quotas_of_a_day_refuse_with_the_support_contact_until_the_day_is_over() {
    let mut made = Made::new();
    made.terms(Quota { labels_per_day: 10, ..Quota::default() });
    made.evaluate(NOW, 4).unwrap();
    made.evaluate(NOW, 4).unwrap();
    let refused = made.evaluate(NOW, 3).unwrap_err();
    assert_eq!(refused.code, RefusalCode::QuotaExhausted.code());
    assert!(refused.message.contains("10 labels"), "{}", refused.message);
    assert!(refused.message.ends_with("; ask help@platform.example"), "{}", refused.message);
    made.evaluate(NOW, 2).unwrap();
    // It is the store that remembers.
    let at = made.world.nodes[0].core.entry().id;
    let core = support::core(made.world.nodes_at(at));
    made.world.nodes[0].core = core;
    assert_eq!(code(made.evaluate(NOW, 1)), "quota_exhausted");
    let owner = copy(&made.world.owner);
    assert_eq!(usages(made.usage(&owner, None))[0].labels, 10);
    let record = made.world.nodes[0].store.audit.iter().rev();
    let record = record.clone().find(|row| row.decision == "quota_exhausted").unwrap();
    assert!(record.detail.contains("10 labels"), "{record:?}");
    made.evaluate(UnixSeconds(NOW.0 + DAY), 10).unwrap();

    made.terms(Quota { requests_per_day: 2, ..Quota::default() });
    let tomorrow = UnixSeconds(NOW.0 + 2 * DAY);
    made.evaluate(tomorrow, 1).unwrap();
    made.evaluate(tomorrow, 1).unwrap();
    let refused = made.evaluate(tomorrow, 1).unwrap_err();
    assert!(refused.message.contains("2 requests"), "{}", refused.message);
}
