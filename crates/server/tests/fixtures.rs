//! What earlier versions wrote is opened by this one: `tests/fixtures/README.md`.
//!
//! Without network and without a clock: time is an argument, and it is when the set was made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod opened;

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use quorate_authz::policy::{PolicySet, PolicySource};
use quorate_documents::{Authority, Certificate, Head, Kind, Principal, SignedDocument, Statement};
use quorate_node::{METHODS, RESTORED, Read, Reply, Request, RowKey, Table, sealing};
use quorate_object::cobblestone::StreamDecryptor;
use quorate_object::fragment::Share;
use quorate_object::{ParsedHeader, WrappedDataKey};
use quorate_sdk::{AuditArchive, Client, FragmentId, FragmentLock, Invitation};
use quorate_server::{KeySlots, RootKeySource};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_types::limits::SESSION_SECONDS;
use quorate_types::{Action, ClusterId, Digest, DocumentId, KeyVersion, NodeId};
use quorate_wire::proto::store::v1::{
    AttemptsRow, AuditRow, DestructionRow, DocumentRow, HeadsRow, LineageRow, MarkRow,
    OpenSessionsRow, PromiseRow, RestoredRow, Sealed, SessionRow, ShareRow, SignedRow,
    SignedSessionRow, TenantCountsRow,
};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{EncryptionContext, Label, PublicKey, strict};
use serde::de::DeserializeOwned;

use opened::node::{Node, evaluate, label_of, refused, request, statement, sweep};
use opened::set::{KnownControl, SETS, Set};

/// Tables that came after the set v1 was made: its nodes have no policies, terms or grants, and what later
/// versions count beside documents begins with the first document that they take. Of every table that is
/// not here, v1 has rows, so that a new table is either in a new set or a known exception.
const AFTER_V1: [Table; 7] = [
    Table::Counting,
    Table::Granted,
    Table::TenantCounts,
    Table::Complete,
    Table::Destructions,
    Table::Promises,
    Table::Lineages,
];

/// Tables of which v2 has no rows: it was made before anything was dealt anew.
const AFTER_V2: [Table; 2] = [Table::Promises, Table::Lineages];

#[test]
fn every_set_is_opened() {
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let sets: BTreeSet<String> = std::fs::read_dir(sets)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(sets, SETS.map(str::to_owned).into());
}

#[tokio::test]
async fn stored_nodes_evaluate_and_stored_objects_and_data_keys_open() {
    for name in SETS {
        let set = Set::open(name);
        let mut nodes = Node::all(&set);
        let pairs = [[0, 1], [1, 2], [2, 0]];
        // A file that nothing here opened would be one that no build has to open.
        assert_eq!(set.files("objects").len(), 2 * set.known.objects.len());
        assert_eq!(set.files("data-keys").len(), 2 * set.known.data_keys.len());
        for (known, pair) in set.known.objects.iter().zip(pairs.into_iter().cycle()) {
            let pair = <[usize; 2]>::try_from(known.holders.as_slice()).unwrap_or(pair);
            let file = set.bytes(&format!("objects/{}.quorate", known.name));
            let header = ParsedHeader::parse(&file).unwrap();
            let payload = &file[header.length()..];
            let stanza = &header.stanzas()[0];
            let (label, context) = label_of(stanza, known);
            let prf = evaluate(&mut nodes, pair, &set, &label, &context).await;
            let kek = stanza.kek(&label, &prf, None).unwrap();
            let data_key = header.open_stanza(0, &kek).unwrap();
            let header = header.authenticate(data_key).unwrap();
            let (prefix, chunks) = payload.split_first_chunk().unwrap();
            let stream = header.decryptor(prefix).unwrap().stream();
            let mut opened = vec![0; StreamDecryptor::finish_len(chunks.len()).unwrap()];
            stream.finish(chunks, &mut opened).unwrap();
            let plain = set.bytes(&format!("objects/{}.plain", known.name));
            assert!(opened == plain, "{}", known.name);
        }
        for (known, pair) in set.known.data_keys.iter().zip(pairs.into_iter().cycle()) {
            let file = set.bytes(&format!("data-keys/{}.quorate", known.name));
            let wrapped = WrappedDataKey::parse(&file).unwrap();
            assert_eq!(wrapped.to_bytes(), file);
            let (label, context) = label_of(wrapped.stanza(), known);
            let prf = evaluate(&mut nodes, pair, &set, &label, &context).await;
            let kek = wrapped.stanza().kek(&label, &prf, None).unwrap();
            let plain = set.bytes(&format!("data-keys/{}.plain", known.name));
            assert_eq!(wrapped.unwrap(&kek).unwrap().reveal(), plain, "{}", known.name);
        }
    }
}

/// Who may do what is decided from the stored rows and the time that is given.
#[tokio::test]
async fn stored_nodes_refuse_whom_they_refused() {
    for name in SETS {
        let set = Set::open(name);
        let mut nodes = Node::all(&set);
        let known = set.known.objects.iter().find(|o| o.name == "second-version").unwrap();
        let file = set.bytes("objects/second-version.quorate");
        let header = ParsedHeader::parse(&file).unwrap();
        let (label, context) = label_of(&header.stanzas()[0], known);
        let node = &mut nodes[0];
        let statement = statement(node, &set, label.key, label.version).await;
        let ask = request(node, &statement, &label, &context, Action::Decrypt);
        let ask = || Request::Evaluate(ask.clone());
        let [founder, app, gone] =
            ["founder", "app", "gone"].map(|name| set.profile(name).public_key());
        let now = set.now();
        assert!(node.ask(now, founder, ask()).await.is_ok());
        assert_eq!(refused(node.ask(now, app, ask()).await), "not_permitted");
        assert_eq!(refused(node.ask(now, gone, ask()).await), "principal_revoked");
        // The first administrator is good for a year.
        let later = now.plus(366 * 86_400);
        assert_eq!(refused(node.ask(later, founder, ask()).await), "principal_expired");

        let status = Request::Status(v1::StatusRequest { node: node.id() });
        let Ok(Reply::Status(status)) = node.ask(now, founder, status).await else { panic!() };
        assert_eq!(Digest::from_slice(&status.roster).unwrap(), set.known.roster);
        // Two versions of one key, one version each of those that were made and signed; since v3 also of one that was
        // moved, two of which orders are peculiar, two that a reshare stands still for, and what is promised in one.
        let anew = set.known.reshares.len();
        let shares = [4, 10][usize::from(anew > 0)];
        let certificates = [3, 8][usize::from(anew > 0)];
        let sessions = [1, 2][usize::from(anew > 0)];
        assert_eq!(node.count(Table::Shares), shares);
        assert_eq!(node.count(Table::Certificates), certificates);
        assert_eq!(node.count(Table::Sessions), sessions as u64);
        assert_eq!(node.count(Table::Documents), set.known.documents as u64);
        assert_eq!(sweep(node, now).await, 0);
        assert_eq!(sweep(node, now.plus(SESSION_SECONDS)).await, sessions);
        assert_eq!(node.count(Table::Sessions), 0);
        for node in &nodes {
            let audit = node.store.audit(0, 10_000).unwrap();
            assert!(audit.len() > 10);
            for (record, number) in audit.iter().zip(1..) {
                assert_eq!(record.number, number);
                let row: AuditRow = strict::decode("AuditRow", &record.record).unwrap();
                let method = row.method.as_str();
                let known = OF_THE_SHELL.contains(&method) || METHODS.contains(&method);
                assert!(known && !row.decision.is_empty(), "{row:?}");
            }
        }
    }
}

/// What audit records are of besides requests.
const OF_THE_SHELL: [&str; 3] = ["Join", "Restore", "BackupWithShares"];

/// Decodes a row by its table, and gives the secret that is sealed in it.
fn decoded(key: &RowKey, bytes: &[u8]) -> Option<Sealed> {
    fn row<M: Message + Default>(bytes: &[u8]) -> M {
        strict::decode("row", bytes).unwrap()
    }
    match key.table {
        Table::Documents => {
            SignedDocument::parse(row::<DocumentRow>(bytes).envelope.unwrap()).unwrap();
        }
        Table::Heads => assert!(!row::<HeadsRow>(bytes).payloads.is_empty()),
        // Which entry of its frontier a version waits for.
        Table::Complete if key.key.len() > 32 => assert_eq!(bytes.len(), 4),
        Table::Kinds | Table::Aliases | Table::Counting | Table::Granted | Table::Complete => {
            assert!(bytes.is_empty());
        }
        Table::TenantCounts => assert!(row::<TenantCountsRow>(bytes).bytes > 0),
        // By key, or by when it is due.
        Table::Destructions if key.key.first() == Some(&0) => {
            assert_eq!(row::<DestructionRow>(bytes).head.len(), 32);
        }
        Table::Destructions => assert!(bytes.is_empty()),
        Table::PrincipalKeys => assert_eq!(bytes.len(), 32),
        Table::Cluster if key.key.starts_with(b"mark/") => {
            assert!(!row::<MarkRow>(bytes).checkpoint.is_empty());
        }
        Table::Cluster if key.key == RESTORED.as_bytes() => {
            assert!(row::<RestoredRow>(bytes).named);
        }
        Table::Cluster => assert!([8, 32].contains(&bytes.len())),
        Table::Certificates => {
            let envelope: Envelope = row(bytes);
            let key = Statement::from_payload(&envelope.payload).unwrap();
            assert_eq!(key.participants().len(), envelope.signatures.len());
        }
        Table::Shares => return row::<ShareRow>(bytes).share,
        // By key and version, or by session.
        Table::Signed if key.key.len() == 36 => {
            assert!(row::<SignedRow>(bytes).statement.is_some());
        }
        Table::Signed => assert!([1, 2].contains(&row::<SignedSessionRow>(bytes).key_version)),
        Table::Promises => assert!(row::<PromiseRow>(bytes).statement.is_some()),
        Table::Lineages => assert!(row::<LineageRow>(bytes).taken_at > 0),
        Table::Sessions => return row::<SessionRow>(bytes).seeds,
        Table::OpenSessions => assert!(!row::<OpenSessionsRow>(bytes).sessions.is_empty()),
        Table::Attempts => assert_eq!(row::<AttemptsRow>(bytes).opened, 1),
        Table::Local if key.key == b"node-card" => {
            row::<Envelope>(bytes);
        }
        Table::Local => return Some(row(bytes)),
    }
    None
}

#[test]
fn every_stored_row_decodes_and_every_sealed_one_opens() {
    for name in SETS {
        let set = Set::open(name);
        for number in 1..=set.known.nodes.len() {
            let directory = set.path(&format!("nodes/{number}"));
            let key_file = RootKeySource::KeyFile(set.path(&format!("nodes/{number}.key")));
            let root = KeySlots::load(&directory).unwrap().unlock(&key_file).unwrap();
            let store = SqliteStore::open(&directory, &SqliteOptions::default()).unwrap();
            for table in Table::ALL {
                let read = Read::Range { table, prefix: Vec::new(), after: None, limit: 10_000 };
                let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
                let exceptions: &[Table] = match name {
                    "v1" => &AFTER_V1,
                    "v2" => &AFTER_V2,
                    _ => &[],
                };
                assert!(!entries.is_empty() || exceptions.contains(&table), "{table:?}");
                if let Some(rows) = &set.known.nodes[number - 1].rows {
                    assert_eq!(rows[table.name()], entries.len() as u64, "{table:?}");
                }
                for entry in entries {
                    if let Some(sealed) = decoded(entry.key(), entry.bytes().unwrap()) {
                        let secret = sealing::open(&root, entry.key(), &sealed).unwrap();
                        assert!([32, 64].contains(&secret.reveal().len()));
                    }
                }
            }
        }
    }
}

/// A ceremony that an earlier version began is finished: its sealed seeds, its promises and its
/// messages are read.
#[tokio::test]
async fn stored_ceremonies_go_on() {
    for name in SETS {
        let set = Set::open(name);
        let mut nodes = Node::all(&set);
        let (now, founder) = (set.now(), set.profile("founder").public_key());

        let counts = |node: &Node| [Table::Sessions, Table::Certificates].map(|t| node.count(t));
        let before: Vec<[u64; 2]> = nodes.iter().map(counts).collect();
        let mut signed: Vec<v1::DkgSignReply> = Vec::new();
        for (at, node) in nodes.iter_mut().enumerate() {
            let request = set.message(&format!("ceremonies/dealt-{}.DkgSign.bin", at + 1));
            match node.ask(now, founder, Request::DkgSign(request)).await {
                Ok(Reply::DkgSign(reply)) => signed.push(reply),
                other => panic!("{other:?}"),
            }
        }
        let mut certificate = signed[0].statement.clone().unwrap();
        for other in &signed[1..] {
            certificate.signatures.extend(other.statement.clone().unwrap().signatures);
        }
        for (at, node) in nodes.iter_mut().enumerate() {
            let dealt = v1::PutCertificateRequest {
                node: node.id(),
                certificate: Some(certificate.clone()),
                transcript_signatures: signed
                    .iter()
                    .map(|s| s.transcript_signature.clone())
                    .collect(),
                ..v1::PutCertificateRequest::default()
            };
            let stored = set.message(&format!("ceremonies/signed-{}.PutCertificate.bin", at + 1));
            for request in [dealt, stored] {
                let answer = node.ask(now, founder, Request::PutCertificate(request)).await;
                assert!(answer.is_ok(), "{answer:?}");
            }
            let [sessions, certificates] = before[at];
            assert_eq!(counts(node), [sessions - 1, certificates + 2]);
        }

        // Any two nodes agree on what each of the keys gives.
        let known = &set.known.objects[0];
        let file = set.bytes(&format!("objects/{}.quorate", known.name));
        let header = ParsedHeader::parse(&file).unwrap();
        let (label, context) = label_of(&header.stanzas()[0], known);
        let mut outputs = BTreeSet::new();
        for key in ["made", "signed", "dealt"] {
            let key = set.known.ceremonies[key];
            let label = Label { key, version: KeyVersion::FIRST, ..label.clone() };
            for pair in [[0, 1], [1, 2], [2, 0]] {
                let prf = evaluate(&mut nodes, pair, &set, &label, &context).await;
                outputs.insert(prf.reveal().to_vec());
            }
        }
        assert_eq!(outputs.len(), 3);
    }
}

#[test]
fn stored_documents_are_admitted_and_have_the_same_heads() {
    for name in SETS {
        let set = Set::open(name);
        let documents = set.documents();
        let Authority::Settled(roster) = documents.roster() else { panic!() };
        assert_eq!(roster.digest(), set.known.roster);
        assert_eq!((roster.version(), roster.frontier().is_empty()), (2, false));
        let tenant: DocumentId = set.known.tenant.into();
        let Authority::Settled(tenant) = quorate_documents::authority(&tenant, &documents) else {
            panic!()
        };
        assert_eq!(tenant.digest(), set.known.tenant_version);
        assert_eq!((tenant.version(), tenant.frontier().is_empty()), (2, false));
        // What is kept is what was kept, as far as the frontier was made from.
        let again = documents.frontier(&roster.id());
        assert_eq!(again.len(), roster.frontier().len());

        let heads = |id: DocumentId| documents.heads::<Principal>(&id);
        let founder = heads(set.known.founder.into()).unwrap();
        let (at_the_time, _) = Action::ALL.split_at(5);
        assert!(at_the_time.iter().all(|action| founder.permits(*action, None)));
        let app = heads(set.known.app.into()).unwrap();
        assert!(app.permits(Action::Encrypt, None) && !app.permits(Action::Decrypt, None));
        let torn = heads(set.known.torn).unwrap();
        assert_eq!(torn.digests().len(), 2);
        // Of contending versions the stricter counts.
        let earliest = torn.iter().map(Head::body).map(|p| p.expires_at).min().unwrap();
        assert_eq!(torn.expires_at(), earliest);
        let revoked: Vec<String> = documents
            .ids(Kind::Principal)
            .filter_map(|id| documents.heads::<Principal>(&id))
            .filter(|heads| heads.revoked())
            .map(|heads| heads.name().to_owned())
            .collect();
        assert_eq!(revoked, ["gone"]);

        let files: DocumentId = set.known.files.id.into();
        let files = documents.heads::<quorate_documents::Key>(&files).unwrap();
        assert!(files.has_alias(&set.known.files.alias));
        for known in &set.known.files.versions {
            let version = KeyVersion::new(known.number).unwrap();
            let envelope = set.message(&format!("certificates/files-{}.bin", known.number));
            let order = &files.version(version).unwrap().order;
            let certificate =
                Certificate::verify(envelope, files.key_id(), version, order).unwrap();
            assert_eq!(certificate.statement().generation(), known.generation);
        }
        assert_eq!(set.known.ceremonies.len(), 3);
    }
}

/// What the control plane wrote counts as it did: a policy, a grant, terms, a key's tags and period, a key that is to
/// be destroyed, a principal with another key than it had.
#[test]
fn stored_control_documents_count() {
    for (set, control) in with_control() {
        let documents = set.documents();
        let only = |kind: Kind| -> DocumentId {
            let ids: Vec<DocumentId> = documents.ids(kind).collect();
            let [id] = ids.as_slice() else { panic!("{ids:?}") };
            *id
        };
        let policy = documents.heads::<quorate_documents::Policy>(&only(Kind::Policy)).unwrap();
        let source = PolicySource::of(&policy);
        assert_eq!((source.name.as_str(), &source.heads[0].text), ("house", &control.policy));
        let parsed = PolicySet::of_tenant(set.known.tenant, &[&policy]);
        assert_eq!((parsed.len(), parsed.unusable()), (2, None));
        let grant = documents.heads::<quorate_documents::Grant>(&control.grant).unwrap();
        assert_eq!((grant.grantee(), grant.grantee_tenant()), (control.grantee, control.tenant));
        assert!(grant.allows(Action::Decrypt, set.now()));
        assert!(!grant.allows(Action::Decrypt, set.now().plus(8 * 86_400)));
        let terms = documents.heads::<quorate_documents::Terms>(&only(Kind::Terms)).unwrap();
        assert_eq!((terms.tenant(), terms.quota().keys), (control.tenant, 10));
        let key = |id: DocumentId| documents.heads::<quorate_documents::Key>(&id).unwrap();
        let files = key(set.known.files.id.into());
        assert_eq!(files.tags(), [("class", "secret")]);
        assert!(files.rotation_due().is_some());
        let doomed = key(set.known.doomed.unwrap());
        assert_eq!(doomed.iter().next().unwrap().body().destruction.unwrap().wait_seconds, 604_800);
        assert_eq!(doomed.state(), quorate_types::KeyState::Suspended);
        let app = documents.heads::<Principal>(&set.known.app.into()).unwrap();
        let app = app.iter().next().unwrap().body();
        assert_eq!(app.retired_keys, [control.retired.parse::<PublicKey>().unwrap()]);
        assert_eq!(app.public_key, set.profile("app").public_key());
    }
}

/// The sets that have what the control plane writes.
fn with_control() -> Vec<(Set, KnownControl)> {
    let sets = SETS.iter().map(|name| Set::open(name));
    let sets: Vec<_> =
        sets.filter_map(|set| set.known.control.clone().map(|control| (set, control))).collect();
    assert_eq!(sets.len(), SETS.len() - 1, "every set since v2 has it");
    sets
}

/// An object that is bound to a fragment opens with the fragment of the profile, and with the one that two of its three
/// shares give.
#[tokio::test]
async fn stored_fragments_open_what_is_bound_to_them() {
    for (set, _) in with_control() {
        let known = set.known.fragment.clone().unwrap();
        let lock = FragmentLock::KeyFile(set.path("fragment/fragment.key"));
        let id: FragmentId = known.id.parse().unwrap();
        let kept = set.profile("founder").fragments().unlock(id, &lock).unwrap();
        let shares: Vec<_> = [1, 3]
            .iter()
            .flat_map(|n| Share::read_all(&set.text(&format!("fragment/share-{n}.txt"))))
            .map(Result::unwrap)
            .collect();
        let restored = quorate_object::fragment::restore(&shares).unwrap().fragment;
        let file = set.bytes("fragment/object.quorate");
        let header = ParsedHeader::parse(&file).unwrap();
        let stanza = &header.stanzas()[0];
        assert_eq!(stanza.facts().version.get(), known.key_version);
        let context = EncryptionContext::new(&known.context).unwrap();
        let label = stanza.label(Some(&context)).unwrap();
        let mut nodes = Node::all(&set);
        let prf = evaluate(&mut nodes, [0, 2], &set, &label, &context).await;
        assert!(stanza.kek(&label, &prf, None).is_err(), "the nodes alone open it");
        for fragment in [kept, restored] {
            let header = ParsedHeader::parse(&file).unwrap();
            let stanza = &header.stanzas()[0];
            let term = stanza.customer_term(&fragment, &label).unwrap();
            let kek = stanza.kek(&label, &prf, Some(&term)).unwrap();
            let length = header.length();
            let data_key = header.open_stanza(0, &kek).unwrap();
            let header = header.authenticate(data_key).unwrap();
            let (prefix, chunks) = file[length..].split_first_chunk().unwrap();
            let stream = header.decryptor(prefix).unwrap().stream();
            let mut opened = vec![0; StreamDecryptor::finish_len(chunks.len()).unwrap()];
            stream.finish(chunks, &mut opened).unwrap();
            assert_eq!(opened, set.bytes("fragment/object.plain"));
        }
    }
}

/// Exported audit logs verify without asking anybody, and no other node's log verifies in their place.
#[tokio::test]
async fn stored_audit_logs_verify() {
    for (set, _) in with_control() {
        let client = Client::open(&set.profile("founder")).unwrap();
        assert_eq!(set.files("audit").len(), 2 * set.known.nodes.len());
        for (node, other) in set.known.nodes.iter().zip(set.known.nodes.iter().cycle().skip(1)) {
            let lines = set.text(&format!("audit/{}.jsonl", node.id));
            let checkpoint = set.bytes(&format!("audit/{}.checkpoint", node.id));
            let read = |id: NodeId| {
                let none = AuditArchive::default();
                client.verify_export(id, lines.as_bytes(), &checkpoint, &none)
            };
            assert!(read(node.id).unwrap().records > 10);
            assert!(read(other.id).is_err());
        }
    }
}

/// Canonical protobuf and JSON say the same, and encode to the same bytes again.
fn both_ways<M: Message + Default + DeserializeOwned + PartialEq>(set: &Set, name: &str) {
    let bytes = set.bytes(&format!("messages/{name}.bin"));
    let message: M = strict::decode("message", &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(strict::encode(&message), bytes, "{name}");
    let json = set.bytes(&format!("messages/{name}.json"));
    let read: M = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(read == message, "{name}");
}

#[test]
fn stored_messages_decode_and_encode_to_the_same_bytes() {
    for name in SETS {
        let set = Set::open(name);
        let mut seen = BTreeSet::new();
        macro_rules! methods {
            ($($method:ident, $request:ident, $reply:ident;)*) => {$({
                let name = stringify!($method);
                both_ways::<v1::$request>(&set, &format!("{name}.request"));
                both_ways::<v1::$reply>(&set, &format!("{name}.reply"));
                let bytes = set.bytes(&format!("messages/{name}.request.bin"));
                let json = set.bytes(&format!("messages/{name}.request.json"));
                let read = Request::decode(name, &bytes).unwrap();
                assert_eq!(read.method(), name);
                assert_eq!(read, Request::decode_json(name, &json).unwrap());
                seen.insert(name);
            })*};
        }
        methods! {
            Info, InfoRequest, InfoReply;
            Status, StatusRequest, StatusReply;
            PutDocuments, PutDocumentsRequest, PutDocumentsReply;
            GetDocuments, GetDocumentsRequest, GetDocumentsReply;
            GetKey, GetKeyRequest, GetKeyReply;
            ListKeys, ListKeysRequest, ListKeysReply;
            Evaluate, EvaluateRequest, EvaluateReply;
            DkgOpen, DkgOpenRequest, DkgOpenReply;
            DkgDeal, DkgDealRequest, DkgDealReply;
            DkgSign, DkgSignRequest, DkgSignReply;
            DkgSignature, DkgSignatureRequest, DkgSignReply;
            PutCertificate, PutCertificateRequest, PutCertificateReply;
        }
        if name != "v1" {
            methods! {
                CeremonyBatch, CeremonyBatchRequest, CeremonyBatchReply;
                GetAudit, GetAuditRequest, GetAuditReply;
                GetProof, GetProofRequest, GetProofReply;
                PutMarks, PutMarksRequest, PutMarksReply;
                GetUsage, GetUsageRequest, GetUsageReply;
            }
        }
        let mut refusals = 3;
        if !["v1", "v2"].contains(&name) {
            methods! {
                ReshareState, ReshareStateRequest, ReshareStateReply;
                ReshareOpen, ReshareOpenRequest, ReshareOpenReply;
                ReshareDeal, ReshareDealRequest, ReshareDealReply;
                ReshareSign, ReshareSignRequest, ReshareSignReply;
            }
            // A set knows every method of its time, and this is the newest.
            assert_eq!(seen, METHODS.into());
            both_ways::<v1::Refusal>(&set, "Refusal.generation");
            refusals += 2;
        }
        both_ways::<v1::Refusal>(&set, "Refusal");
        assert_eq!(set.files("messages").len(), seen.len() * 4 + refusals);
        let refusal: v1::Refusal = set.message("messages/Refusal.bin");
        assert_eq!(refusal.code, "not_permitted");
        let connect: serde_json::Value =
            serde_json::from_slice(&set.bytes("messages/Refusal.connect.json")).unwrap();
        assert_eq!(connect["code"], "permission_denied");
        assert_eq!(connect["message"], refusal.message);
        let detail = connect["details"][0]["value"].as_str().unwrap();
        let detail = data_encoding::BASE64_NOPAD.decode(detail.as_bytes()).unwrap();
        assert_eq!(detail, strict::encode(&refusal));
    }
}

#[test]
fn stored_invitations_and_profiles_are_read() {
    for name in SETS {
        let set = Set::open(name);
        let invitation = Invitation::parse(&set.text("invitation.txt")).unwrap();
        assert_eq!(Invitation::parse(&set.text("invitation.json")).unwrap(), invitation);
        assert_eq!(invitation.to_text(), set.text("invitation.txt"));
        assert_eq!(invitation.fingerprint().to_string(), set.text("invitation.fingerprint"));
        assert_eq!(invitation.cluster, set.known.cluster);
        assert_eq!(invitation.principal, set.known.app);

        let founder = set.profile("founder");
        let membership = founder.membership().unwrap();
        assert_eq!(membership.cluster, set.known.cluster);
        assert_eq!(membership.principal, set.known.founder);
        // It followed the roster's second version.
        assert_eq!(membership.roster.digest(), set.known.roster);
        let pinned = founder.alias_pins().unwrap();
        assert_eq!(pinned[&set.known.files.alias], set.known.files.id);
        let moved = set.known.reshared.iter().find(|made| made.key != set.known.files.id);
        assert_eq!(pinned.get("moved"), moved.map(|made| &made.key));
        if moved.is_some() {
            // The first roster, which the cluster's name is of, and the one that followed.
            let chain = founder.roster_chain().unwrap();
            let chain: Vec<_> =
                chain.into_iter().map(|roster| SignedDocument::parse(roster).unwrap()).collect();
            assert_eq!(chain.len(), 2);
            assert_eq!(ClusterId::from(chain[0].id()), set.known.cluster);
        }
        let administrators = &membership.roster_body().unwrap().administrators;
        assert!(administrators.quorum_of(&[founder.admin_key().unwrap().public()]));
        assert_eq!(set.profile("app").membership().unwrap().principal, invitation.principal);

        // The certificates that clients keep beside their keys still say who they are.
        for name in ["founder", "app", "gone"] {
            let pem = set.text(&format!("profiles/{name}/principal.crt"));
            let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            let der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
            let evidence = quorate_authn::Evidence::certificate(Some(&der));
            let caller = quorate_authn::authenticate(&evidence).unwrap().unwrap();
            assert_eq!(caller.public_key(), set.profile(name).public_key());
        }
    }
}
