//! What decisions of policies cost on this machine:
//! `cargo run --release -p quorate-authz --example policy_cost`.
#![allow(clippy::unwrap_used, missing_docs, reason = "an example may panic")]

use quorate_authz::policy::*;
use quorate_types::{KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const ALICE: PrincipalId = PrincipalId::from_bytes([1; 32]);
const OURS: TenantId = TenantId::from_bytes([3; 32]);

fn set(text: &str) -> PolicySet {
    PolicySet::parse(&[PolicySource::draft("p0", text)]).unwrap()
}

fn main() {
    fn time<R>(what: &str, runs: u32, mut run: impl FnMut() -> R) {
        run();
        let began = std::time::Instant::now();
        (0..runs).for_each(|_| drop(run()));
        let each = began.elapsed() / runs;
        println!("{what}: {each:?}");
    }
    let attributes = [("role".to_owned(), "clerk".to_owned())];
    let request = PolicyRequest {
        principal: PolicyPrincipal {
            id: ALICE,
            tenant: OURS,
            name: "alice",
            attributes: &attributes,
        },
        action: PolicyAction::Decrypt,
        key: PolicyKey {
            id: KeyId::from_bytes([5; 32]),
            tenant: OURS,
            alias: "files",
            spec: "PRF_RISTRETTO255_SHA512",
            state: "active",
            jurisdictions: &[],
            tags: &[],
        },
        time: NOW,
        source: std::net::IpAddr::from([192, 0, 2, 7]),
    };
    let scope = |n: usize, of: &str| match of {
        "any" => "permit(principal, action, resource)".to_owned(),
        _ => format!("permit(principal == Quorate::Principal::\"p{n}\", action, resource)"),
    };
    let texts = |of: &str, when: &dyn Fn(usize) -> String| -> String {
        (0..200).map(|n| format!("{} when {{ {} }};\n", scope(n, of), when(n))).collect()
    };
    let plain = |n: usize| {
        format!(
            "principal.hasTag(\"role\") && principal.getTag(\"role\") == \"r{n}\" && context.time > {n}"
        )
    };
    let item = |n: usize| {
        format!(
            "context has encryption && context.encryption.hasTag(\"t\") && context.encryption.getTag(\"t\") == \"r{n}\""
        )
    };
    for (name, text) in [
        ("200 policies of the caller and the time", texts("any", &plain)),
        ("200 policies of one tag", texts("any", &item)),
        ("200 policies for other principals", texts("other", &plain)),
        ("1 policy of the caller", format!("{} when {{ {} }};", scope(0, "any"), plain(0))),
        ("1 policy of one tag", format!("{} when {{ {} }};", scope(0, "any"), item(0))),
    ] {
        println!("-- {name}: {} bytes, {} steps", text.len(), set(&text).cost());
        time("parse, validate, compile", 5, || set(&text));
        let set = set(&text);
        let one = [EncryptionContext::new([("t", "x")]).unwrap()];
        let ask = PolicyItem { context: 0, creator: ALICE, created_at: NOW };
        time("one decision", 200, || {
            Decider::new(&set, &request, &one).decide(Some(ask)).unwrap().effect
        });
        for (label, distinct) in [("alike", 1), ("of 16 kinds", 16), ("all different", 4096)] {
            let all: Vec<EncryptionContext> = (0..distinct)
                .map(|n| EncryptionContext::new([("t", n.to_string())]).unwrap())
                .collect();
            time(&format!("4096 items, {label}"), 3, || {
                let mut decider = Decider::new(&set, &request, &all);
                let refused = (0..4096usize).find(|n| {
                    decider.decide(Some(PolicyItem { context: n % distinct, ..ask })).is_err()
                });
                refused.map(|n| println!("   (refused at item {n})"))
            });
        }
    }
}
