//! Makes a set of fixtures: what this version writes, for every later build to open.
//!
//! `cargo run -p quorate-server --example make_fixtures -- v3` runs a 2-of-3 cluster of real nodes on
//! loopback, uses it, and writes `tests/fixtures/v3`. `tests/fixtures.rs` opens it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a set is made whole or not at all"
)]

mod backups;
mod ceremonies;
mod cluster;
mod control;
mod files;
mod messages;
mod objects;
mod reshared;
mod stopped;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use quorate_documents::{
    Administrators, Body, Destruction, Draft, Key, Order, Principal, Roster, SignedDocument, Tenant,
};
use quorate_sdk::{
    AdminKey, Client, ClusterBundle, ClusterRequest, CreatedKey, KeySpecRequest, NodeCard,
    ParsedHeader, Permission, Profile, create_cluster,
};
use quorate_server::{JoinOptions, join};
use quorate_types::{Action, DocumentId, KeyId};
use quorate_wire::proto::v1;
use quorate_wire::{SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

use ceremonies::{Under, key_body};
use cluster::{Cluster, NODES, Node, PASSPHRASE, data, root_key};
use files::Output;
use objects::{Sealed, context, keep};
use reshared::{Anew, Made};
use support::now;

const DAY: u64 = 86_400;

/// The node that is copied with its shares, and the one that loses its disk.
const COPIED: usize = 3;
const LOST: usize = 2;

/// The cluster as it is founded.
struct Founded {
    cluster: Cluster,
    bundle: ClusterBundle,
    admin: AdminKey,
    client: Client,
}

async fn founded(output: Output) -> Founded {
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        nodes.push(Node::make(number).await);
    }
    let mut founder = Profile::create("profiles/founder").unwrap();
    let admin = AdminKey::generate();
    founder.store_admin_key(&admin).unwrap();
    let cards = nodes.iter().map(|n| NodeCard::from_envelope(n.new.card.clone()).unwrap());
    let bundle = create_cluster(ClusterRequest {
        name: "fixtures".into(),
        cards: cards.collect(),
        admin: &admin,
        recovery: None,
        principal_name: "founder".into(),
        principal_key: founder.public_key(),
    })
    .unwrap();
    for (node, number) in nodes.iter_mut().zip(1..) {
        join(JoinOptions {
            data_dir: data(number),
            root_key: root_key(number),
            roster: bundle.roster.clone(),
            pinned: bundle.digest,
        })
        .await
        .unwrap();
        node.start(number).await;
    }
    let invitation = bundle.invitation();
    founder.accept(&invitation, invitation.fingerprint()).unwrap();
    let client = Client::open(&founder).unwrap();
    assert_eq!(client.put_documents(&bundle.documents).await.confirmed(), NODES);
    let owner = SigningKey::from_seed(founder.principal_key().seed().duplicate());
    let cluster = Cluster { nodes, owner, output, methods: BTreeSet::new() };
    Founded { cluster, bundle, admin, client }
}

fn encrypt() -> Vec<Permission> {
    vec![Permission { action: Action::Encrypt, key: None }]
}

/// Principals: one that may only encrypt, one that is revoked.
async fn principals(founded: &Founded) {
    let output = &founded.cluster.output;
    let (app, gone) =
        (Profile::create("profiles/app").unwrap(), Profile::create("profiles/gone").unwrap());
    let administration = founded.client.admin(&founded.admin);
    for (profile, name) in [(app, "app"), (gone, "gone")] {
        let mut profile = profile;
        let added = administration
            .add_principal(name, profile.public_key(), encrypt(), None)
            .await
            .unwrap();
        profile.accept(&added.invitation, added.invitation.fingerprint()).unwrap();
        if name == "app" {
            output.write("invitation.txt", added.invitation.to_text());
            output.write("invitation.json", added.invitation.to_json());
            output.write("invitation.fingerprint", added.invitation.fingerprint().to_string());
        }
    }
    administration.revoke_principal("gone").await.unwrap();
}

/// A key and what was sealed under its two versions.
struct Files {
    made: [CreatedKey; 2],
    facts: Value,
    objects: Vec<Value>,
    data_keys: Vec<Value>,
    /// One object that was sealed under the first version, and the same rewrapped to the second.
    moved: [Vec<u8>; 2],
}

const MOVED: &[u8] = b"sealed before the rotation";

/// A key, objects under its first version, a second version, objects under that.
async fn files(client: &Client, output: &Output) -> Files {
    let request = KeySpecRequest {
        alias: "files".into(),
        threshold: 2,
        refresh_seconds: 1,
        ..Default::default()
    };
    let first = client.create_key(request, |_| {}).await.unwrap();
    let mut objects = objects::first_objects(client, &first.key, output).await;
    let customer = context(&[("customer", "4711")]);
    let old = client.encrypt(&first.key, MOVED, &customer).await.unwrap();
    let second = client.rotate_key(&first.key, |_| {}).await.unwrap();
    let header = client.rewrap(&[&old], core::slice::from_ref(&customer)).await.remove(0).unwrap();
    let payload = &old[ParsedHeader::parse(&old).unwrap().length()..];
    let after = client.encrypt(&second.key, b"sealed after it", &customer).await.unwrap();
    let rewrapped = [header.as_slice(), payload].concat();
    let cases: [(&str, &[u8], &[u8]); 2] =
        [("rewrapped", MOVED, &rewrapped), ("second-version", b"sealed after it", &after)];
    for (name, plaintext, sealed) in cases {
        let (folder, context, stored) = ("objects", &customer, false);
        let sealed = Sealed { folder, name, plaintext, sealed, version: 2, context, stored };
        keep(output, &mut objects, &sealed);
    }
    let data_keys = objects::data_keys(client, &second.key, output).await;
    for made in [&first, &second] {
        let name = format!("certificates/files-{}.bin", made.version.get());
        output.write(&name, strict::encode(&made.certificate));
    }
    let facts = key_facts(&[&first, &second]);
    Files { made: [first, second], facts, objects, data_keys, moved: [old, rewrapped] }
}

fn key_facts(made: &[&CreatedKey]) -> Value {
    let versions: Vec<Value> = made
        .iter()
        .map(|made| {
            let versions = made.key.versions();
            let version = versions.iter().find(|v| v.number == made.version).unwrap();
            json!({
                "number": made.version.get(),
                "generation": version.generation.unwrap().to_string(),
                "fingerprint": made.fingerprint.to_string(),
            })
        })
        .collect();
    json!({ "id": made[0].key.id().to_string(), "alias": made[0].key.alias(), "versions": versions })
}

/// A later roster, with what nodes say of themselves now, and a later tenant; both keep what there is but one order.
async fn later_authorities(
    founded: &mut Founded,
    unkept: DocumentId,
    rng: &mut ChaCha20Rng,
) -> (SignedDocument, SignedDocument) {
    let Founded { cluster, bundle, admin, .. } = founded;
    let administrator = admin.signing_key();
    let roster = SignedDocument::parse(bundle.roster.clone()).unwrap();
    let frontier = cluster.set(bundle.cluster).await.frontier(&roster.id());
    assert!(!frontier.is_empty());
    let Body::Roster(body) = roster.body().clone() else { panic!() };
    let nodes = cluster.nodes.iter().map(|node| node.new.entry.clone()).collect();
    let body = Roster { expires_at: now().plus(400 * DAY), nodes, ..body };
    let roster = Draft::succeed(&[&roster], Body::Roster(body), None, frontier, now())
        .unwrap()
        .sign(&[administrator])
        .unwrap();
    cluster.put(&roster).await;
    let tenant = SignedDocument::parse(bundle.documents[0].clone()).unwrap();
    let mut frontier = cluster.set(bundle.cluster).await.frontier(&tenant.id());
    assert!(frontier.len() >= 4);
    let before = frontier.len();
    frontier.retain(|entry| entry.id != unkept);
    assert_eq!(frontier.len(), before - 1);
    let Body::Tenant(body) = tenant.body().clone() else { panic!() };
    let recovery = SigningKey::generate(rng);
    let recovery = Some(Administrators::new(vec![recovery.public()], 1).unwrap());
    let body = Tenant { support_contact: "support@fixtures.example".into(), recovery, ..body };
    let authority = Some(tenant.digest());
    let tenant = Draft::succeed(&[&tenant], Body::Tenant(body), authority, frontier, now())
        .unwrap()
        .sign(&[administrator])
        .unwrap();
    cluster.put(&tenant).await;
    (roster, tenant)
}

/// A principal with two contending versions, under the later tenant.
async fn torn(
    founded: &mut Founded,
    client: &Client,
    tenant: &SignedDocument,
    rng: &mut ChaCha20Rng,
) -> DocumentId {
    let Founded { cluster, admin, .. } = founded;
    let public = SigningKey::generate(rng).public();
    let added = client.admin(admin).add_principal("torn", public, encrypt(), None).await.unwrap();
    let torn: DocumentId = added.id.into();
    let torn = cluster.documents(0).await.into_iter().find(|d| d.id() == torn).unwrap();
    let Body::Principal(body) = torn.body().clone() else { panic!() };
    for days in [10, 20] {
        let body = Principal { expires_at: now().plus(days * DAY), ..body.clone() };
        let authority = Some(tenant.digest());
        let version = Draft::succeed(&[&torn], Body::Principal(body), authority, Vec::new(), now())
            .unwrap()
            .sign(&[admin.signing_key()])
            .unwrap();
        cluster.put(&version).await;
    }
    torn.id()
}

/// A key that is to be destroyed.
async fn doomed(
    founded: &mut Founded,
    tenant: &SignedDocument,
    rng: &mut ChaCha20Rng,
) -> DocumentId {
    let Founded { cluster, admin, .. } = founded;
    let members = cluster.nodes.iter().map(|n| (n.new.entry.id, n.new.entry.identity_key));
    let body = key_body(tenant, "doomed", 3, Order::new(2, members).unwrap());
    let doomed = Draft::first(Body::Key(body.clone()), Some(tenant.digest()), now(), rng)
        .unwrap()
        .sign(&[&cluster.owner])
        .unwrap();
    cluster.put(&doomed).await;
    let destruction = Some(Destruction { requested_at: now(), wait_seconds: 7 * DAY });
    let body = Body::Key(Key { destruction, ..body });
    let doomed = Draft::succeed(&[&doomed], body, Some(tenant.digest()), Vec::new(), now())
        .unwrap()
        .sign(&[admin.signing_key()])
        .unwrap();
    cluster.put(&doomed).await;
    doomed.id()
}

fn id_of(session: &v1::Session) -> Value {
    KeyId::from_slice(&session.key).unwrap().to_string().into()
}

/// Ceremonies that are finished, and those that stand still after dealing and after signing. Says the keys of each.
async fn standing_still(
    founded: &mut Founded,
    under: &Under<'_>,
    rng: &mut ChaCha20Rng,
) -> (Value, Value) {
    let Founded { cluster, admin, .. } = founded;
    let made = cluster.deal(under, "made", 3, rng).await;
    let made_by = cluster.sign(&made).await;
    for (at, request) in made_by.iter().enumerate() {
        let _: v1::PutCertificateReply = cluster.call(at, "PutCertificate", request).await;
    }
    let signed = cluster.deal(under, "signed", 3, rng).await;
    for (at, request) in cluster.sign(&signed).await.into_iter().enumerate() {
        let name = format!("ceremonies/signed-{}.PutCertificate.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }
    let dealt = cluster.deal(under, "dealt", 3, rng).await;
    for (at, request) in cluster.signing(&dealt).into_iter().enumerate() {
        let name = format!("ceremonies/dealt-{}.DkgSign.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }

    // The same for reshares: to the same members, and to two of them, where the third deals and leaves.
    let administrator = admin.signing_key();
    let mut anew = Vec::new();
    for (alias, seats) in
        [("signed-anew", [&[0, 1, 2][..], &[0, 2]]), ("dealt-anew", [&[0, 1], &[0, 2]])]
    {
        let made = cluster.deal(under, alias, 2, rng).await;
        let requests = cluster.sign(&made).await;
        for (at, request) in requests.iter().enumerate() {
            let _: v1::PutCertificateReply = cluster.call(at, "PutCertificate", request).await;
        }
        let certificate = requests[0].certificate.clone().unwrap();
        let made = Made { session: made.session, certificate };
        anew.push(cluster.deal_anew(under, made, seats, administrator, rng).await);
    }
    for (at, request) in cluster.sign_anew(&anew[0]).await.into_iter().enumerate() {
        let name = format!("ceremonies/signed-anew-{}.PutCertificate.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }
    for (at, request) in cluster.signing_anew(&anew[1]) {
        let name = format!("ceremonies/dealt-anew-{}.ReshareSign.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }
    let told = |dealt: &reshared::DealtAnew| json!({ "key": id_of(&dealt.session), "members": dealt.members, "dealers": dealt.dealers });
    let reshares = json!({ "signed": told(&anew[0]), "dealt": told(&anew[1]) });
    let of_dkg = json!({
        "made": id_of(&made.session),
        "signed": id_of(&signed.session),
        "dealt": id_of(&dealt.session),
    });
    let put = made_by.into_iter().next().unwrap();
    messages::batch(cluster, [&dealt, &signed], [&anew[1], &anew[0]], put).await;
    (of_dkg, reshares)
}

async fn make(output: Output) {
    let rng = &mut ChaCha20Rng::from_seed(rand_seed());
    let mut founded = founded(output).await;
    principals(&founded).await;
    let Files { made, facts: files, mut objects, data_keys, moved } =
        files(&founded.client, &founded.cluster.output).await;
    let both = [&made[0], &made[1]];

    // Refreshed, while a share of one node is in a backup.
    backups::copied(&mut founded.cluster, COPIED).await;
    let (client, out) = (&founded.client, &founded.cluster.output);
    let mut anew = Anew { client, out, told: Vec::new() };
    anew.refreshed(&both).await;
    anew.seal(&made[1].key, "after-a-refresh", Vec::new(), &mut objects).await;
    let refreshed = anew.told;

    let (unkept_key, unkept) = founded.cluster.unkept(&founded.client, &founded.admin).await;

    // One node loses its disk, and is made of a backup; the next roster names it, and it gets shares again.
    backups::made_of_its_backup(&mut founded.cluster, LOST).await;
    let (roster, tenant) = later_authorities(&mut founded, unkept, rng).await;
    assert!(founded.client.refresh_roster().await.unwrap().is_some());
    let founder = Profile::open("profiles/founder").unwrap();
    let client = Client::open(&founder).unwrap();
    assert_eq!(client.roster_digest(), roster.digest());
    let ids: Vec<_> = founded.cluster.nodes.iter().map(|node| node.new.entry.id).collect();
    let out = &founded.cluster.output;
    let mut anew = Anew { client: &client, out, told: refreshed };
    anew.repaired(&both, ids[LOST - 1], &founded.admin).await;
    anew.seal(&made[1].key, "after-a-repair", Vec::new(), &mut objects).await;
    anew.moved([ids[0], ids[1]], &founded.admin, &mut objects).await;
    let reshared = anew.told;

    let under = Under { roster: &roster, tenant: &tenant };
    let (settled_key, settled) =
        founded.cluster.settled(&client, &under, &founded.admin, rng).await;
    stopped::audit_logs(&founded.cluster.output).await;

    // Pins the alias in the profile, and shows that everything still opens.
    let key = client.key("files").await.unwrap();
    assert_eq!(key.fingerprint(), Some(made[1].fingerprint));
    for sealed in &moved {
        let customer = context(&[("customer", "4711")]);
        assert_eq!(client.decrypt(sealed, &customer).await.unwrap(), MOVED);
    }

    let torn = torn(&mut founded, &client, &tenant, rng).await;
    let (control, of_branch) = control::control_plane(&client, &founded.admin).await;
    let key = client.key("files").await.unwrap();
    let fragment = objects::with_fragment(&client, &key, &founded.cluster.output, rng).await;
    drop(client);
    let app = Profile::open("profiles/app").unwrap();
    let doomed = doomed(&mut founded, &tenant, rng).await;

    messages::of_use(&mut founded.cluster, &key, &app).await;
    let (ceremonies, reshares) = standing_still(&mut founded, &under, rng).await;

    let documents = stopped::documents(&mut founded.cluster, of_branch).await;
    let made_at = now();
    let Founded { cluster, bundle, .. } = founded;
    let (described, backups, output) = stopped::nodes(cluster).await;
    for profile in ["profiles/founder", "profiles/app", "profiles/gone", "profiles/branch"] {
        output.copy_all(profile);
    }
    let facts = json!({
        "software": env!("CARGO_PKG_VERSION"),
        "made_at": made_at.0,
        "cluster": bundle.cluster.to_string(),
        "tenant": bundle.tenant.to_string(),
        "founder": bundle.principal.to_string(),
        "app": app.membership().unwrap().principal.to_string(),
        "torn": torn.to_string(),
        "passphrase_of_node_1": PASSPHRASE,
        "nodes": described,
        "roster": roster.digest().to_string(),
        "tenant_version": tenant.digest().to_string(),
        "documents": documents,
        "files": files,
        "ceremonies": ceremonies,
        "objects": objects,
        "data_keys": data_keys,
        "control": control,
        "doomed": doomed.to_string(),
        "fragment": fragment,
        "reshared": reshared,
        "reshares": reshares,
        "orders": {
            "unkept": { "key": unkept_key.to_string(), "documents": [unkept.to_string()] },
            "settled": {
                "key": settled_key.to_string(),
                "documents": settled.map(|id| id.to_string()),
            },
        },
        "backups": backups,
    });
    output.write("facts.json", serde_json::to_vec_pretty(&facts).unwrap());
}

fn rand_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}

#[tokio::main]
async fn main() {
    let name = std::env::args().nth(1).expect("name the set, for example v3");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(&name);
    assert!(!target.exists(), "{} is there already; sets are never changed", target.display());
    let work = tempfile::tempdir().unwrap();
    std::env::set_current_dir(work.path()).unwrap();
    std::fs::create_dir("set").unwrap();
    std::fs::create_dir("nodes").unwrap();
    make(Output(work.path().join("set"))).await;
    files::copy(&work.path().join("set"), &target);
    println!("{}", target.display());
}
