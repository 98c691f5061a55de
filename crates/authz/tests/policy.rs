//! Policies: what is refused before it is signed, and what is decided.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

use std::fmt::Write as _;
use std::net::IpAddr;

use quorate_authz::policy::*;
use quorate_types::{DocumentId, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const ALICE: PrincipalId = PrincipalId::from_bytes([1; 32]);
const BOB: PrincipalId = PrincipalId::from_bytes([2; 32]);
const OURS: TenantId = TenantId::from_bytes([3; 32]);
const THEIRS: TenantId = TenantId::from_bytes([4; 32]);
const FILES: KeyId = KeyId::from_bytes([5; 32]);

fn set(texts: &[&str]) -> PolicySet {
    let sources: Vec<PolicySource> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| PolicySource::draft(&format!("p{n}"), text))
        .collect();
    PolicySet::parse(&sources).unwrap()
}

fn wrong(text: &str) -> String {
    check("draft", text).unwrap_err().to_string()
}

struct Facts {
    attributes: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    jurisdictions: Vec<String>,
    tenant: TenantId,
    source: IpAddr,
    time: UnixSeconds,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            attributes: vec![("role".into(), "clerk".into())],
            tags: vec![("class".into(), "secret".into())],
            jurisdictions: vec!["CH".into(), "DE".into()],
            tenant: OURS,
            source: "192.0.2.7".parse().unwrap(),
            time: NOW,
        }
    }
}

impl Facts {
    fn request(&self, action: PolicyAction) -> PolicyRequest<'_> {
        PolicyRequest {
            principal: PolicyPrincipal {
                id: ALICE,
                tenant: self.tenant,
                name: "alice",
                attributes: &self.attributes,
            },
            action,
            key: PolicyKey {
                id: FILES,
                tenant: OURS,
                alias: "files",
                spec: "PRF_RISTRETTO255_SHA512",
                state: "active",
                jurisdictions: &self.jurisdictions,
                tags: &self.tags,
            },
            time: self.time,
            source: self.source,
        }
    }

    /// Asks to decrypt an object of Alice's under this context.
    fn ask(&self, set: &PolicySet, pairs: &[(&str, &str)]) -> PolicyDecision {
        let context = EncryptionContext::new(pairs.iter().copied()).unwrap();
        decide(set, &self.request(PolicyAction::Decrypt), Some((&context, ALICE, NOW)))
    }

    fn effect(&self, text: &str) -> Effect {
        self.ask(&set(&[text]), &[("department", "law")]).effect
    }
}

fn effect(text: &str) -> Effect {
    Facts::default().effect(text)
}

#[test]
fn forbid_overrides_permit_and_silence_is_neither() {
    let permit = "permit(principal, action, resource);";
    let forbid =
        "@id(\"never\") forbid(principal, action == Quorate::Action::\"decrypt\", resource);";
    let facts = Facts::default();
    let none = PolicySet::empty();
    assert_eq!(facts.ask(&none, &[]).effect, Effect::Silent);
    assert_eq!(facts.ask(&set(&[permit]), &[]).determining, ["p0/1"]);
    let both = set(&[permit, forbid]);
    let decision = facts.ask(&both, &[]);
    assert_eq!(decision.effect, Effect::Forbid);
    assert_eq!(decision.determining, ["p1/1 (never)"]);
    let coordinate = facts.request(PolicyAction::Coordinate);
    assert_eq!(decide(&both, &coordinate, None).effect, Effect::Permit);
    for (effect, permitted, own, allowed) in [
        (Effect::Permit, false, true, true),
        // A policy never takes the place of a grant.
        (Effect::Permit, false, false, false),
        (Effect::Silent, true, true, true),
        (Effect::Silent, false, true, false),
        (Effect::Silent, true, false, true),
        (Effect::Forbid, true, true, false),
        (Effect::Error, true, true, false),
    ] {
        assert_eq!(allows(effect, permitted, own), allowed, "{effect:?}");
    }
}

#[test]
fn policies_see_the_caller_the_key_the_item_and_the_time() {
    let permit = |when: &str| {
        effect(&format!(
            "permit(principal, action == Quorate::Action::\"decrypt\", resource) when {{ {when} }};"
        ))
    };
    let true_ones = [
        format!("principal == Quorate::Principal::\"{ALICE}\""),
        format!("principal in Quorate::Tenant::\"{OURS}\" && resource in principal.tenant"),
        "principal.name == \"alice\" && resource.alias like \"fi*\"".into(),
        "principal.hasTag(\"role\") && principal.getTag(\"role\") == \"clerk\"".into(),
        "resource.hasTag(\"class\") && resource.getTag(\"class\") == \"secret\"".into(),
        "resource.jurisdictions.contains(\"CH\") && resource.state == \"active\"".into(),
        "context.encryption.hasTag(\"department\") && context.encryption.getTag(\"department\") == \"law\""
            .into(),
        "context.creator == principal && context.created_at <= context.time".into(),
        "context.time >= 1800000000 && context.own_tenant".into(),
        "context.source.isInRange(ip(\"192.0.2.0/24\"))".into(),
        format!("[principal, Quorate::Principal::\"{BOB}\"].contains(context.creator)"),
    ];
    for text in &true_ones {
        assert_eq!(permit(text), Effect::Permit, "{text}");
        assert_eq!(permit(&format!("!({text})")), Effect::Silent, "{text}");
    }
    let foreign = Facts { tenant: THEIRS, ..Facts::default() };
    let own = "forbid(principal, action, resource) unless { context.own_tenant };";
    assert_eq!(foreign.effect(own), Effect::Forbid);
    assert_eq!(
        foreign.effect(&format!(
            "permit(principal in Quorate::Tenant::\"{OURS}\", action, resource);"
        )),
        Effect::Silent
    );
    // The IPv4 address behind an IPv6 socket is the IPv4 address.
    let mapped = Facts { source: "::ffff:192.0.2.7".parse().unwrap(), ..Facts::default() };
    let inside = "forbid(principal, action, resource) when { context.source.isInRange(ip(\"192.0.2.0/24\")) };";
    assert_eq!(mapped.effect(inside), Effect::Forbid);
}

/// Cedar skips policies that fail; a forbid that fails must not open. Fails when the errors of a
/// response are not looked at (tried).
#[test]
fn an_evaluation_error_denies() {
    let permit = "permit(principal, action, resource);";
    let overflow = "context.time + 9223372036854775807 > 0";
    for failing in [
        format!("forbid(principal, action, resource) when {{ {overflow} }};"),
        format!("permit(principal, action, resource) when {{ {overflow} }};"),
        format!("forbid(principal, action, resource) unless {{ {overflow} }};"),
    ] {
        let decision = Facts::default().ask(&set(&[permit, &failing]), &[]);
        assert_eq!(decision.effect, Effect::Error);
        assert_eq!(decision.determining, ["p1/1"]);
        assert!(decision.errors[0].contains("overflow"), "{decision:?}");
    }
}

#[test]
fn a_set_that_cannot_be_used_denies_everything() {
    let broken = PolicySet::closed(&[PolicySource::draft("x", "permit(")]);
    assert!(broken.unusable().is_some() && !broken.is_empty());
    assert_eq!(Facts::default().ask(&broken, &[]).effect, Effect::Error);
}

#[test]
fn errors_say_where() {
    let text = "permit(principal, action, resource)\nwhen { principal.nmae == \"x\" };";
    let error = wrong(text);
    assert!(error.starts_with("the policy \"draft\": line 2, column 8: "), "{error}");
    assert!(error.contains("nmae"), "{error}");
    let error = wrong("permit(principal, action, resource)\n  whn { true };");
    assert!(error.contains("line 2, column 3"), "{error}");
    let error = wrong("permit(principal, action == Quorate::Action::\"create\", resource);");
    assert!(error.contains("create"), "{error}");
    let error = wrong(
        "permit(principal, action, resource);\npermit(principal, action, resource) when { context.encryption.hasTag(\"a\") };",
    );
    assert!(error.contains("line 2"), "context of all actions has no encryption: {error}");
    assert!(wrong("permit(principal == ?principal, action, resource);").contains("slot"));
}

/// What the node does not know must not be asked: Cedar would answer "no" to `in`, `has` and `hasTag` of
/// an entity that is not there, and a forbid would stay silent. Fails when
/// `inputs::walk` lets anything be asked what it is in, lets attributes and tags of any expression pass, or the whole
/// context, or the whole encryption context (tried). What two more arms of `base` refuse, Cedar's validator refuses as
/// well (tried: without either the test passes).
#[test]
fn what_the_node_does_not_know_cannot_be_asked() {
    for condition in [
        "context.creator in Quorate::Tenant::\"t\"".to_owned(),
        "context.creator.hasTag(\"frozen\")".to_owned(),
        "context.creator.name == \"bob\"".to_owned(),
        format!("Quorate::Principal::\"{BOB}\".hasTag(\"frozen\")"),
        "Quorate::Tenant::\"a\" in Quorate::Tenant::\"b\"".to_owned(),
        "(if context.own_tenant then context.creator else principal) in Quorate::Tenant::\"t\""
            .to_owned(),
        "(if context.own_tenant then context.creator else principal).hasTag(\"a\")".to_owned(),
        "context.encryption == Quorate::Context::\"0\"".to_owned(),
        "context.creator is Quorate::Principal in Quorate::Tenant::\"t\"".to_owned(),
        "{ a: context.creator }.a.hasTag(\"x\")".to_owned(),
        "context == context".to_owned(),
    ] {
        let text = format!(
            "forbid(principal, action == Quorate::Action::\"decrypt\", resource) when {{ {condition} }};"
        );
        assert!(check("draft", &text).is_err(), "{condition}");
    }
}

#[test]
fn bounds_hold_and_nothing_exhausts_the_stack() {
    let with = |condition: &str| {
        format!(
            "permit(principal, action == Quorate::Action::\"decrypt\", resource) when {{ {condition} }};"
        )
    };
    // As deep and as long as the bounds allow: parsed, validated, evaluated and freed, on three quarters
    // of the stack that a node's threads have.
    let chains = [
        format!("context.time{} > 0", " + 1".repeat(240)),
        format!("context.time{} > 0", " * 1".repeat(240)),
        format!("true{}", " && true".repeat(115)),
        format!("true{}", " || false".repeat(115)),
        format!("{}true", "!!!!true || ".repeat(38)),
        format!("{}true{}", "(".repeat(12), ")".repeat(12)),
        format!("{}true", "if context.own_tenant then true else ".repeat(56)),
        format!("context.time{} > 0", " - -1".repeat(110)),
    ];
    let clauses = format!("permit(principal, action, resource){};", " when { true }".repeat(120));
    let mut texts: Vec<String> = chains.iter().map(|chain| with(chain)).collect();
    texts.push(clauses);
    let stack = 3 << 19;
    let deep = std::thread::Builder::new().stack_size(stack).spawn(move || {
        for text in &texts {
            assert_eq!(effect(text), Effect::Permit, "{text}");
        }
    });
    deep.unwrap().join().unwrap();
    for deep in [
        format!("context.time{} > 0", " + 1".repeat(20_000)),
        format!("{}true{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("{}1{} == [1]", "[".repeat(30_000), "]".repeat(30_000)),
        format!("principal{}", ".a".repeat(30_000)),
        "!".repeat(60_000),
        "-".repeat(60_000),
    ] {
        assert!(check("draft", &with(&deep)).is_err());
    }
    // Matching takes pattern times text.
    let pattern = |n: usize| {
        let tag = "context.encryption.hasTag(\"a\") && context.encryption.getTag(\"a\")";
        with(&format!("{tag} like \"{}\"", "*a".repeat(n)))
    };
    assert!(check("draft", &pattern(50)).is_ok());
    assert!(wrong(&pattern(100)).contains("pattern"));
    assert!(check("draft", &" ".repeat(MAX_POLICY_TEXT_BYTES + 1)).is_err());
    let many = "permit(principal, action, resource);".repeat(MAX_POLICIES + 1);
    assert_eq!(check("draft", &many), Err(PolicySetError::TooMany(MAX_POLICIES + 1)));
    let costly = pattern(40).repeat(8);
    assert!(matches!(check("draft", &costly), Err(PolicySetError::TooCostly(_))));
    // A character that changes how the text is shown.
    assert!(wrong("permit(principal, action, resource); // \u{202e} }").contains("U+202E"));
    let warnings = check("draft", "permit(principal, action, resource) when { false };").unwrap();
    assert!(warnings[0].contains("impossible"), "{warnings:?}");
}

#[test]
fn of_several_heads_all_must_permit_and_any_forbids() {
    let head = |disabled, text: &str| PolicyHead { disabled, text: text.into() };
    let permit = "permit(principal, action, resource);";
    let forbid = "forbid(principal, action, resource);";
    let silent = "permit(principal, action == Quorate::Action::\"coordinate\", resource);";
    let document = |n: u8, heads: Vec<PolicyHead>| PolicySource {
        document: DocumentId::from_bytes([n; 32]),
        name: "same".into(),
        heads,
    };
    let of = |heads: Vec<PolicyHead>| {
        let set = PolicySet::parse(&[document(1, heads)]).unwrap();
        Facts::default().ask(&set, &[]).effect
    };
    assert_eq!(of(vec![head(false, permit)]), Effect::Permit);
    assert_eq!(of(vec![head(false, permit), head(false, permit)]), Effect::Permit);
    assert_eq!(of(vec![head(false, permit), head(false, silent)]), Effect::Silent);
    assert_eq!(of(vec![head(false, permit), head(true, permit)]), Effect::Silent);
    assert_eq!(of(vec![head(false, permit), head(false, forbid)]), Effect::Forbid);
    assert_eq!(of(vec![head(true, permit), head(false, forbid)]), Effect::Forbid);
    assert_eq!(of(vec![head(true, forbid)]), Effect::Silent);

    // The digest is of what is said, in whatever order it came.
    let (one, two) =
        (document(1, vec![head(false, permit)]), document(2, vec![head(true, forbid)]));
    let digest = |sources: &[PolicySource]| PolicySet::parse(sources).unwrap().digest();
    assert_eq!(digest(&[one.clone(), two.clone()]), digest(&[two.clone(), one.clone()]));
    assert_ne!(digest(std::slice::from_ref(&one)), digest(&[one.clone(), two.clone()]));
    let enabled = document(2, vec![head(false, forbid)]);
    assert_ne!(digest(&[one.clone(), two]), digest(&[one.clone(), enabled.clone()]));
    // Two documents of one name are told apart.
    let set = PolicySet::parse(&[one, enabled]).unwrap();
    let name = &Facts::default().ask(&set, &[]).determining[0];
    assert!(name.contains(&DocumentId::from_bytes([2; 32]).to_string()), "{name}");
}

fn contexts(pairs: &[&[(&str, &str)]]) -> Vec<EncryptionContext> {
    pairs.iter().map(|p| EncryptionContext::new(p.iter().copied()).unwrap()).collect()
}

#[test]
fn items_that_policies_cannot_tell_apart_cost_one_decision() {
    let facts = Facts::default();
    let request = facts.request(PolicyAction::Decrypt);
    let all: Vec<EncryptionContext> = (0..4096)
        .map(|n| {
            let (a, b) = (n.to_string(), (n % 3).to_string());
            EncryptionContext::new([("file", a.as_str()), ("department", b.as_str())]).unwrap()
        })
        .collect();
    let items = |decider: &mut Decider<'_>| {
        for n in 0..4096u64 {
            let creator = if n % 2 == 0 { ALICE } else { BOB };
            let item = PolicyItem { context: n as usize, creator, created_at: UnixSeconds(n) };
            decider.decide(Some(item)).unwrap();
        }
        (decider.decisions(), decider.evaluations())
    };
    let decrypt = |when: &str| {
        format!(
            "permit(principal, action == Quorate::Action::\"decrypt\", resource) when {{ {when} }};"
        )
    };
    let count = |texts: &[&str]| {
        let set = set(texts);
        let mut decider = Decider::new(&set, &request, &all);
        items(&mut decider)
    };
    let (time, creator, department, file, made) = (
        decrypt("context.time > 5"),
        decrypt("context.creator == principal"),
        decrypt("context.encryption.hasTag(\"department\")"),
        decrypt("context.encryption.hasTag(\"file\")"),
        decrypt("context.created_at > 7"),
    );
    assert_eq!(count(&[&time]), (1, 1));
    assert_eq!(count(&[&time, &time]), (1, 2));
    assert_eq!(count(&[&creator, &time]), (2, 3));
    assert_eq!(count(&[&department]), (3, 3));
    // Together they tell six kinds apart, and each is asked only as often as it sees a difference.
    assert_eq!(count(&[&department, &creator, &time]), (6, 6));
    assert_eq!(count(&[&file]).0, 4096);
    assert_eq!(count(&[&made]).0, 4096);
    assert_eq!(
        count(&["permit(principal, action == Quorate::Action::\"coordinate\", resource);"]),
        (0, 0)
    );
    // A name that the policy works out itself makes it look at everything.
    let computed = decrypt(
        "principal.hasTag(\"role\") && context.encryption.hasTag(principal.getTag(\"role\"))",
    );
    assert_eq!(count(&[&computed]).0, 4096);
}

#[test]
fn a_request_that_asks_too_much_of_the_policies_is_refused() {
    let text = (0..200).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "permit(principal, action == Quorate::Action::\"decrypt\", resource) when {{ context.encryption.hasTag(\"t{n}\") && context.encryption.getTag(\"t{n}\") == \"a\" && context.created_at > {n} }};");
        text
    });
    let set = set(&[&text]);
    let facts = Facts::default();
    let request = facts.request(PolicyAction::Decrypt);
    let none = contexts(&[&[]]);
    let mut decider = Decider::new(&set, &request, &none);
    let mut ask = |n: u64| {
        let item = PolicyItem { context: 0, creator: ALICE, created_at: UnixSeconds(n) };
        decider.decide(Some(item)).cloned()
    };
    let refused = (0..4096).find(|n| ask(*n).is_err()).expect("4096 times 200 is too much");
    assert!(refused > 20, "{refused}");
    assert_eq!(ask(0).unwrap().effect, Effect::Silent, "what is known stays known");
}

/// Random policies over random batches: what the decider groups is what each item alone comes to.
/// Fails when the creator or the creation time is left out of a projection (tried); a tag that is left out is missed
/// in both, and found by three other tests of this file (tried).
#[test]
fn grouped_decisions_are_those_of_each_item_alone() {
    let rounds = if cfg!(debug_assertions) { 120 } else { 2000 };
    let mut differing = 0;
    for seed in 0..rounds {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut pick = |n: u32| rng.next_u32() % n;
        let mut texts = Vec::new();
        for _ in 0..=pick(3) {
            let mut text = String::new();
            for _ in 0..=pick(4) {
                let effect = ["permit", "permit", "forbid"][pick(3) as usize];
                let clause = ["when", "unless"][pick(2) as usize];
                let condition = random_condition(&mut pick, 3);
                let _ = writeln!(
                    text,
                    "{effect}(principal, action == Quorate::Action::\"decrypt\", resource) {clause} {{ {condition} }};"
                );
            }
            texts.push(text);
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let set = set(&texts);
        let facts = Facts::default();
        let request = facts.request(PolicyAction::Decrypt);
        let all: Vec<EncryptionContext> = (0..12)
            .map(|_| {
                let mut pairs = Vec::new();
                for name in ["a", "b", "c"] {
                    match pick(3) {
                        0 => {}
                        n => pairs.push((name, ["x", "y"][n as usize - 1])),
                    }
                }
                EncryptionContext::new(pairs).unwrap()
            })
            .collect();
        let mut decider = Decider::new(&set, &request, &all);
        let mut effects = Vec::new();
        for _ in 0..40 {
            let item = PolicyItem {
                context: pick(12) as usize,
                creator: [ALICE, BOB][pick(2) as usize],
                created_at: UnixSeconds(u64::from(pick(4))),
            };
            let alone =
                decide(&set, &request, Some((&all[item.context], item.creator, item.created_at)));
            assert_eq!(decider.decide(Some(item)).unwrap(), &alone, "seed {seed}: {texts:?}");
            effects.push(alone.effect);
        }
        differing += usize::from(effects.iter().any(|e| *e != effects[0]));
    }
    assert!(differing as u64 > rounds / 3, "most sets tell some items apart: {differing}");
}

fn random_condition(pick: &mut impl FnMut(u32) -> u32, depth: u32) -> String {
    let name = ["a", "b", "c"][pick(3) as usize];
    let value = ["x", "y"][pick(2) as usize];
    if depth > 0 && pick(2) == 0 {
        let left = random_condition(pick, depth - 1);
        let right = random_condition(pick, depth - 1);
        return match pick(4) {
            0 => format!("({left} && {right})"),
            1 => format!("({left} || {right})"),
            2 => format!("!({left})"),
            _ => format!("(if {left} then {right} else {})", random_condition(pick, depth - 1)),
        };
    }
    match pick(8) {
        0 | 1 => format!(
            "(context.encryption.hasTag(\"{name}\") && context.encryption.getTag(\"{name}\") == \"{value}\")"
        ),
        2 => format!("context.encryption.hasTag(\"{name}\")"),
        3 => "context.creator == principal".into(),
        4 => format!("context.created_at > {}", pick(4)),
        5 => format!("context.created_at + {} == context.time", NOW.0 - 2),
        6 => format!("[context.creator].contains(Quorate::Principal::\"{BOB}\")"),
        // Fails for some items only, once in a while.
        _ => format!("context.created_at * {} > 0", i64::MAX / 2),
    }
}

#[test]
fn cases_are_read_from_toml_and_json_and_decided_as_at_a_node() {
    let toml = r#"
        [[case]]
        name = "clerks open what their department wrote"
        principal = { name = "ann", attributes = { department = "law" } }
        action = "decrypt"
        context = { department = "law" }
        expect = "allow"
        because = ["p0/1 (departments)"]

        [[case]]
        name = "and nothing else"
        principal = { attributes = { department = "law" } }
        action = "decrypt"
        context = { department = "tax" }
        expect = "deny"

        [[case]]
        name = "a permission of its own is enough"
        action = "decrypt"
        permitted = true
        expect = "allow"

        [[case]]
        name = "secrets stay inside"
        action = "encrypt"
        key = { tags = { class = "secret" } }
        source = "203.0.113.9"
        permitted = true
        expect = "forbid"
    "#;
    let text = r#"
        @id("departments")
        permit(principal, action == Quorate::Action::"decrypt", resource)
        when {
            principal.hasTag("department") && context.encryption.hasTag("department")
            && principal.getTag("department") == context.encryption.getTag("department")
        };
        forbid(principal, action, resource)
        when { resource.hasTag("class") && resource.getTag("class") == "secret" }
        unless { context.source.isInRange(ip("192.0.2.0/24")) };
    "#;
    let set = set(&[text]);
    let cases: PolicyCases = toml::from_str(toml).unwrap();
    let json = serde_json::to_string(&cases).unwrap();
    assert_eq!(serde_json::from_str::<PolicyCases>(&json).unwrap(), cases);
    for case in &cases.cases {
        let result = case.run(&set).unwrap();
        assert!(result.passed, "{}: {result:?}", case.name);
    }
    let mut wrong = cases.cases[0].clone();
    wrong.because = Some(vec!["p0/2".into()]);
    assert!(!wrong.run(&set).unwrap().passed);
    wrong.action = "destroy".into();
    assert_eq!(wrong.run(&set), Err(CaseError::Action("destroy".into())));
    let explained = cases.cases[3].run(&set).unwrap().explanation;
    assert_eq!(
        explained.policies,
        [
            ("p0/1 (departments)".to_owned(), PolicyOutcome::NotConcerned),
            ("p0/2".to_owned(), PolicyOutcome::Satisfied),
        ]
    );
    assert!(toml::from_str::<PolicyCases>("[[case]]\nname = \"x\"\nactoin = \"y\"").is_err());
}
