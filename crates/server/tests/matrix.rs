//! Every operation with every identifier of one's own, parent's, child's, sibling's and a stranger's, over
//! real sockets: `matrix.txt` says what is answered, one row each.
//!
//! The list of operations is the code's own (`METHODS`), and what each can name is an exhaustive match over
//! `Request` (`tree.rs`): an operation that is added does not compile there before somebody has said it.
//! What may succeed is a rule of `tree.rs` and not of the file, so a row that is reviewed badly still fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;
#[path = "../../node/tests/support/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use http::StatusCode;
use quorate_node::{METHODS, Outcome, Reply, Request};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, SigningKey};
use support::{Client, Cluster, Identity, client_config, now};
use tree::{Answers, Relation, Tree, decoded, encoded, identifiers};

/// A node behind its sockets, with a connection for each key.
struct Behind {
    server: PublicKey,
    address: std::net::SocketAddr,
    clients: BTreeMap<Vec<u8>, Client>,
    /// The names of the headers of the last answer.
    headers: BTreeSet<String>,
}

impl Behind {
    async fn post(&mut self, caller: Option<&SigningKey>, request: &Request) -> support::Answer {
        let name = caller.map(|key| key.public().as_bytes().to_vec()).unwrap_or_default();
        if !self.clients.contains_key(&name) {
            let identity = caller.map_or(Identity::Nobody, |key| {
                Identity::Key(Box::new(SigningKey::from_seed(key.seed().duplicate())))
            });
            let config = client_config(self.server, &identity, "h2");
            let client = Client::connect(self.address, config).await.unwrap();
            self.clients.insert(name.clone(), client);
        }
        let client = self.clients.get_mut(&name).unwrap();
        client.post(request.method(), "application/proto", encoded(request)).await
    }
}

impl Answers for Behind {
    fn answer(&mut self, caller: Option<&SigningKey>, request: Request) -> Outcome {
        let answer = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.post(caller, &request))
        });
        self.headers = answer.headers.keys().map(ToString::to_string).collect();
        if answer.status == StatusCode::OK {
            return Ok(decoded(&request, &answer.body));
        }
        Err(Box::new(answer.refusal()))
    }
}

/// The code of an answer; of documents, that of the one that was sent.
fn code(outcome: &Outcome) -> String {
    match outcome {
        Err(refusal) => refusal.code.clone(),
        Ok(Reply::PutDocuments(reply)) => match &reply.results[0].refusal {
            Some(refusal) => refusal.code.clone(),
            None => "ok".to_owned(),
        },
        Ok(Reply::CeremonyBatch(reply)) => match &reply.results[0].result {
            Some(v1::ceremony_result::Result::Refusal(refusal)) => refusal.code.clone(),
            _ => "ok".to_owned(),
        },
        Ok(Reply::GetDocuments(reply)) if reply.documents.is_empty() => "ok, nothing".to_owned(),
        Ok(_) => "ok".to_owned(),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

/// Regenerates the matrix and compares it with the file. Of another's identifier nothing succeeds but what a
/// rule names, nothing that succeeds shows anything of the other's, and the answer is that of an identifier
/// of nothing at all, in its bytes but for the time and in its headers.
///
/// `QUORATE_WRITE_MATRIX=1` writes the file, for review.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_17_the_matrix_of_operations_and_identifiers_is_as_reviewed() {
    let cluster = Cluster::new(1).await;
    let entry = &cluster.places[0].new.entry;
    let (server, address) = (entry.tls_key, cluster.running[0].address);
    let mut node = Behind { server, address, clients: BTreeMap::new(), headers: BTreeSet::new() };
    let place = (entry.id, entry.identity_key);
    let tree = Tree::new(&mut node, place, &cluster.roster, &cluster.administrator, now());
    let (mut matrix, mut wrong, mut rows) = (String::new(), Vec::new(), 0);
    let mut asked = BTreeSet::new();
    for operation in Tree::operations() {
        for identifier in identifiers() {
            let mut takes = false;
            for relation in Relation::ALL {
                let (caller, own, target) = tree.parties(relation);
                let requests = tree.requests(&operation, identifier, own, target);
                let nothing = tree.requests(&operation, identifier, own, &tree.nowhere);
                for ((what, request), (_, nothing)) in requests.into_iter().zip(nothing) {
                    takes = true;
                    let may = Tree::may_succeed(&operation, identifier, what, relation);
                    asked.insert(operation.method());
                    let outcome = node.answer(caller, request.clone());
                    let headers = node.headers.clone();
                    let code = match code(&outcome) {
                        // What comes after an id in the caller's own list is as ids fall.
                        code if what == "after" => code.replace("ok, nothing", "ok"),
                        code => code,
                    };
                    let name = identifier.name();
                    let name = if what.is_empty() { name } else { format!("{name}, {what}") };
                    let whose = format!("{relation:?}");
                    let row = format!("{:<15}{name:<34}{whose:<16}{code}", operation.method());
                    writeln!(matrix, "{row}").unwrap();
                    rows += 1;
                    if outcome.is_ok() && code.starts_with("ok") && may.is_none() {
                        wrong.push(format!("{row}: nothing allows this"));
                    }
                    let differs = Tree::may_differ(&operation, identifier, what, relation);
                    let parents = differs.is_some_and(|why| why.starts_with("a parent"));
                    if let (Ok(reply), false) = (&outcome, relation == Relation::Own || parents) {
                        // What the request itself brought comes back; of a document, its digest.
                        let (mut bytes, brought) = (reply.encode(), encoded(&request));
                        if let Reply::PutDocuments(reply) = reply {
                            let mut reply = reply.clone();
                            reply.results.iter_mut().for_each(|result| result.digest.clear());
                            bytes = Reply::PutDocuments(reply).encode();
                        }
                        // Whoever lists the usage of its children is told which they are: the first of a tenant's
                        // documents has its id.
                        let lists =
                            matches!(request, Request::GetUsage(_)) && relation == Relation::Child;
                        let shown =
                            target.secrets(relation).into_iter().skip(usize::from(lists)).find(
                                |secret| contains(&bytes, secret) && !contains(&brought, secret),
                            );
                        // Of records, what the caller named itself in requests before: `audit.rs` is for those.
                        if shown.is_some() && !matches!(request, Request::GetAudit(_)) {
                            wrong.push(format!("{row}: shows what is another's"));
                        }
                    }
                    if differs.is_none() {
                        let seen = tree.seen(outcome, target, own);
                        let other = node.answer(caller, nothing);
                        let other = tree.seen(other, &tree.nowhere, own);
                        if seen != other {
                            wrong.push(format!("{row}: not as nothing\n  {seen}\n  {other}"));
                        }
                        if headers != node.headers {
                            wrong.push(format!("{row}: other headers than for nothing"));
                        }
                    }
                }
            }
            if !takes {
                let row = format!("{:<15}{:<34}-", operation.method(), identifier.name());
                writeln!(matrix, "{row}").unwrap();
            }
        }
    }
    cluster.stop().await;
    println!("{rows} rows of requests");
    // `METHODS` is made of the same list as the decoders, so what is not here cannot be asked at all.
    assert_eq!(asked, BTreeSet::from(METHODS), "an operation is not asked");
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix.txt");
    if std::env::var_os("QUORATE_WRITE_MATRIX").is_some() {
        std::fs::write(&path, &matrix).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<&str> = reviewed.lines().collect();
    let found: BTreeSet<&str> = matrix.lines().collect();
    let (new, gone): (Vec<_>, Vec<_>) =
        (found.difference(&known).collect(), known.difference(&found).collect());
    assert!(
        reviewed == matrix,
        "the matrix is not the one that was reviewed; new: {new:#?} gone: {gone:#?}"
    );
}
