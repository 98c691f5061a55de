//! What a report of a revocation promises, against real cores of nodes: `attacks.md` line 37.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../node/tests/support/mod.rs"]
mod support;

use quorate_documents::{Body, Draft, Order, SignedDocument};
use quorate_node::{Outcome, Reply, Request};
use quorate_sdk::{Delivered, NodeConfirmation, NodeFailure, NodeRefusal};
use quorate_types::{Action, Generation, KeyVersion, NodeId, Threshold};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;
use support::{NOW, World, item, seed_key};

const FIRST: KeyVersion = KeyVersion::FIRST;

/// Which nodes a revocation has not reached, though the first `liars` of them say that it has.
#[derive(Debug, Clone, Copy)]
struct Gap {
    liars: usize,
    unreached: usize,
}

impl Gap {
    const fn stale(self) -> usize {
        self.liars + self.unreached
    }
}

struct Revoked {
    world: World,
    t: u16,
    key: SignedDocument,
    generation: Generation,
    /// Ordered and not made when the revocation was signed.
    unmade: SignedDocument,
    /// Of the second version of `key`, that rewrapping goes to.
    second: Generation,
    document: SignedDocument,
}

impl Revoked {
    /// A key of two versions, and one that is not made; then its owner's revocation is signed.
    fn new(t: u16, n: usize) -> Self {
        let mut world = World::new(n);
        let key = world.order_key(t, "files");
        let generation = world.make(&key, FIRST);
        let Body::Key(mut body) = key.body().clone() else { panic!() };
        let number = FIRST.next().unwrap();
        let order = body.versions[0].order.clone();
        body.versions.push(quorate_documents::KeyVersionEntry { number, created_at: NOW, order });
        let authority = Some(world.acme.digest());
        let newer = Draft::succeed(&[&key], Body::Key(body), authority, Vec::new(), NOW)
            .unwrap()
            .sign(&[&world.owner])
            .unwrap();
        world.put_all(std::slice::from_ref(&newer));
        let second = world.make(&newer, number);
        let unmade = world.order_key(t, "unmade");
        let Body::Principal(mut body) = world.owner_document.body().clone() else { panic!() };
        body.revoked = true;
        let body = Body::Principal(body);
        let draft = Draft::succeed(&[&world.owner_document], body, authority, Vec::new(), NOW);
        let document = draft.unwrap().sign(&[&world.administrator]).unwrap();
        Self { world, t, key, generation, unmade, second, document }
    }

    fn id(&self, at: usize) -> NodeId {
        self.world.nodes[at].core.entry().id
    }

    /// Hands the revocation over. Liars and nodes that are not reached store nothing; the report is what an
    /// administrator sees.
    fn deliver(&mut self, gap: Gap) -> Delivered {
        let n = self.world.nodes.len();
        let mut nodes = Vec::new();
        for at in 0..n {
            let reached = at < gap.liars || at >= gap.stale();
            if at >= gap.stale() {
                let reply = self.world.put(at, std::slice::from_ref(&self.document));
                assert_eq!(reply.results[0].refusal, None);
            }
            let name = format!("node-{at}");
            let refusal = RefusalCode::Overloaded.message("not reached".to_owned(), NOW);
            let failure = NodeRefusal { name: name.clone(), refusal };
            let result =
                if reached { Ok(()) } else { Err(NodeFailure::Refused(Box::new(failure))) };
            nodes.push(NodeConfirmation { node: self.id(at), name, result });
        }
        Delivered { documents: vec![self.document.envelope().clone()], nodes }
    }

    /// What the report says of this key, counted in its own committee.
    fn holds_against(&self, delivered: &Delivered) -> i64 {
        let n = self.world.nodes.len();
        let committee: Vec<NodeId> = (0..n).map(|at| self.id(at)).collect();
        let threshold = Threshold::new(self.t, u16::try_from(n).unwrap()).unwrap();
        assert_eq!(
            delivered.holds_against(threshold),
            delivered.holds_against_in(threshold, &committee)
        );
        delivered.holds_against_in(threshold, &committee)
    }

    /// How many nodes give the revoked principal a partial evaluation.
    fn partials(&mut self, action: Action, byte: u8) -> usize {
        let (key, n) = (self.key.id().into(), self.world.nodes.len());
        let mut found = 0;
        for at in 0..n {
            let generation = if action == Action::Decrypt { self.generation } else { self.second };
            let items = vec![item(byte)];
            let mut request = self.world.evaluate_request(at, key, generation, action, items);
            match action {
                Action::Decrypt => {}
                Action::Rewrap => (request.key_version, request.from_version) = (2, 1),
                _ => request.key_version = 2,
            }
            let owner = seed_key("owner", 0);
            match self.world.nodes[at].ask(&owner, Request::Evaluate(request)) {
                Ok(Reply::Evaluate(reply)) => {
                    assert_eq!(reply.partials.len(), 32);
                    found += 1;
                }
                Err(refusal) => assert_eq!(refusal.code, "principal_revoked"),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    /// How many of the committee sign a ceremony that the revoked principal runs. The nodes that know
    /// nothing of the revocation go as far as they can; nobody else's messages can be made up.
    fn signed(&mut self) -> usize {
        let n = self.world.nodes.len();
        let unmade = self.unmade.clone();
        let session = self.world.session(&unmade, FIRST);
        let mut round0 = Vec::new();
        let mut opened = Vec::new();
        for at in 0..n {
            match self.world.open(at, &session) {
                Ok(Reply::DkgOpen(reply)) => {
                    opened.push(at);
                    round0.push(reply.round0.unwrap());
                }
                Err(refusal) => {
                    assert_eq!(refusal.code, "principal_revoked");
                    // The best that is left: another's in its place.
                    round0.push(v1::Envelope::default());
                }
                other => panic!("{other:?}"),
            }
        }
        if let Some(own) = round0.iter().find(|envelope| !envelope.payload.is_empty()).cloned() {
            for envelope in round0.iter_mut().filter(|envelope| envelope.payload.is_empty()) {
                *envelope = own.clone();
            }
        }
        let mut deals = Vec::new();
        for at in opened {
            match self.world.deal(at, &session, &round0) {
                Ok(Reply::DkgDeal(reply)) => deals.push(reply),
                Err(refusal) => assert_eq!(refusal.code, "relay_fault"),
                other => panic!("{other:?}"),
            }
        }
        if deals.len() < n {
            return 0;
        }
        self.world.sign_all(&session, &deals).len()
    }

    /// Nodes that take a key document which the revoked principal signs now, with a committee of all.
    fn take_new_key(&mut self) -> usize {
        let n = self.world.nodes.len();
        let mut body = self.world.key_body(self.t, "another");
        let members = (0..n).map(|at| {
            let entry = self.world.nodes[at].core.entry();
            (entry.id, entry.identity_key)
        });
        body.versions[0].order = Order::new(self.t, members).unwrap();
        let document = self.world.sign_key(body);
        (0..n)
            .filter(|at| {
                let reply = self.world.put(*at, std::slice::from_ref(&document));
                reply.results[0].refusal.is_none()
            })
            .count()
    }
}

fn outcome_is_refused(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|refusal| refusal.code == "principal_revoked")
}

/// Every number of lying confirmers and unreached nodes for committees of 2/3, 3/5 and 4/7. What the report
/// says is T - 1 - u; wherever that is at least the number of liars, the revoked principal gets fewer than T
/// partials of anything, no ceremony of its goes past its first round, and no new key of its is at every node
/// of a committee. One more, and it can decrypt: so the report promises as much as it may.
///
/// What is said is compared with what the principal gets on both sides of the bound, so this fails when
/// `holds_against` counts one more or one less, and when a node evaluates for who is revoked.
#[test]
fn attack_37_what_a_report_says_to_hold_against_liars_holds() {
    let mut held = 0;
    for (t, n) in [(2_u16, 3_usize), (3, 5), (4, 7)] {
        let most = usize::from(t);
        for liars in 0..=most {
            for unreached in 0..=most - liars {
                let gap = Gap { liars, unreached };
                let mut revoked = Revoked::new(t, n);
                for action in [Action::Encrypt, Action::Decrypt, Action::Rewrap] {
                    assert_eq!(revoked.partials(action, 1), n, "all is well before");
                }
                let delivered = revoked.deliver(gap);
                let says = revoked.holds_against(&delivered);
                assert_eq!(says, i64::from(t) - 1 - i64::try_from(unreached).unwrap());
                let promised = says >= i64::try_from(liars).unwrap();
                assert_eq!(promised, gap.stale() < most, "{t}/{n} {gap:?}");
                for action in [Action::Encrypt, Action::Decrypt, Action::Rewrap] {
                    let got = revoked.partials(action, 2);
                    assert_eq!(got, gap.stale(), "{t}/{n} {gap:?}");
                    assert_eq!(got < most, promised, "{t}/{n} {gap:?} {action}");
                }
                if promised {
                    assert_eq!(revoked.signed(), 0, "{t}/{n} {gap:?}");
                    assert_eq!(revoked.take_new_key(), gap.stale(), "{t}/{n} {gap:?}");
                    held += 1;
                }
            }
        }
    }
    // T (T + 1) / 2 pairs with f + u < T for each.
    assert_eq!(held, 3 + 6 + 10);
}

/// After every node has confirmed: a thousand attempts of every kind at every node, and no partial.
#[test]
fn attack_37_after_all_nodes_confirmed_a_thousand_attempts_get_nothing() {
    let mut revoked = Revoked::new(2, 3);
    let delivered = revoked.deliver(Gap { liars: 0, unreached: 0 });
    assert_eq!((delivered.confirmed(), delivered.of()), (3, 3));
    assert_eq!(revoked.holds_against(&delivered), 1);
    let mut attempts = 0;
    for round in 0..112_u8 {
        for action in [Action::Encrypt, Action::Decrypt, Action::Rewrap] {
            assert_eq!(revoked.partials(action, round), 0);
            attempts += 3;
        }
    }
    assert!(attempts >= 1000, "{attempts}");
    let unmade = revoked.unmade.clone();
    let session = revoked.world.session(&unmade, FIRST);
    assert!((0..3).all(|at| outcome_is_refused(&revoked.world.open(at, &session))));
    assert_eq!(revoked.take_new_key(), 0);
}
