//! Following a key version from one generation to the next while it is used. Whoever asks nodes for another generation
//! than they hold is shown their certificates: a higher one is verified and taken over, a lower one is replaced by the
//! one that is known here. So a switch costs some requests another round, and no request fails of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_coordinator::evaluation::Report;
use quorate_documents::{Body, KeyViewError, Rank, SignedDocument, Statement};
use quorate_types::{Digest, KeyId, KeyVersion, NodeId};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;
use tokio::time::Instant;

use crate::client::{Client, Warning};
use crate::error::{Error, KeyError, WrongAnswer};
use crate::evaluate::Job;
use crate::keys::Key;
use crate::transport::{CallError, FanOut, Method};

/// How long a node that was brought a certificate, and shows a lower one again, is left alone by requests that do not
/// need it: its store may hang, or it lies.
const BROUGHT_AGAIN: Duration = Duration::from_secs(5);

/// What was brought to whom, at most; beyond, everything may be brought again.
const MAX_BROUGHT: usize = 4096;

/// What a client remembers of carrying certificates.
#[derive(Default)]
pub(crate) struct Brought(BTreeMap<(KeyId, KeyVersion, NodeId), Instant>);

impl Brought {
    /// Whether a node is to be brought a certificate now, by a request that does not need it.
    fn due(&mut self, place: (KeyId, KeyVersion, NodeId)) -> bool {
        if self.0.len() >= MAX_BROUGHT {
            self.0.clear();
        }
        let now = Instant::now();
        let due = self.0.get(&place).is_none_or(|at| now.duration_since(*at) >= BROUGHT_AGAIN);
        if due {
            self.0.insert(place, now);
        }
        due
    }
}

/// How long a key is not asked for again because of an order that a node named, where that order did not come of it.
const IN_VAIN: Duration = Duration::from_secs(60);

/// For so many orders of one key that a node names a key is asked for in vain within that time.
const ORDERS_IN_VAIN: usize = 3;

/// And for so many keys of one node.
const KEYS_IN_VAIN: usize = 16;

/// Which orders were asked for in vain, by the key and the node that showed a certificate under them.
#[derive(Default)]
pub(crate) struct InVain(BTreeMap<(KeyId, NodeId), Vec<(Digest, Instant)>>);

impl InVain {
    /// Whether a key is to be asked for, because a node names this order.
    fn is_due(&mut self, key: KeyId, node: NodeId, order: Digest) -> bool {
        let now = Instant::now();
        self.0.retain(|_, orders| {
            orders.retain(|(_, at)| now.duration_since(*at) < IN_VAIN);
            !orders.is_empty()
        });
        match self.0.get(&(key, node)) {
            Some(orders) => {
                orders.len() < ORDERS_IN_VAIN && orders.iter().all(|(known, _)| *known != order)
            }
            None => self.0.keys().filter(|(_, of)| *of == node).count() < KEYS_IN_VAIN,
        }
    }

    /// It was asked for in vain. Says whether that is new.
    fn note(&mut self, key: KeyId, node: NodeId, order: Digest) -> bool {
        let new = self.is_due(key, node, order);
        if new {
            self.0.entry((key, node)).or_default().push((order, Instant::now()));
        }
        new
    }
}

/// The rank of what is known of a key version.
pub(crate) fn rank(key: &Key, version: KeyVersion) -> Option<Rank> {
    let known = key.verified_version(version).ok()?;
    known.certificate.as_ref().map(|certificate| certificate.statement().rank())
}

impl Job {
    /// The same request by what this client has learnt of the key since the key was looked up.
    pub(crate) fn by_newest(self: Arc<Self>, client: &Client) -> Arc<Self> {
        match client.cached_key(self.key().id()) {
            Some(known) if rank(&known, self.version()) > rank(self.key(), self.version()) => {
                Arc::new(self.with_key(known))
            }
            _ => self,
        }
    }
}

/// Whether a document has this order of a key.
fn names(body: &Body, key: KeyId, order: &Digest) -> bool {
    match body {
        Body::Key(body) => {
            body.versions.iter().any(|version| version.order.digest(key, version.number) == *order)
        }
        Body::KeyOrder(body) => body.key == key && body.order.digest(key, body.version) == *order,
        _ => false,
    }
}

impl Client {
    /// What to ask for after these refusals, and who asks: another generation, or the same of nodes that were behind; or
    /// what somebody shows who was not asked, where none of those answers that had the shares. Nothing where it would be
    /// the same request of the same nodes.
    pub(crate) async fn switched(&self, job: &Job, report: &Report) -> Option<(Self, Arc<Job>)> {
        let key = self.newest_of(job, report, true).await;
        let higher = rank(&key, job.version()) > rank(job.key(), job.version());
        let brought = self.bring_to_all(&key, job, report, true).await;
        if higher || brought {
            let next = Arc::new(job.with_key(key));
            return Some((self.asking(&next), next));
        }
        self.by_something_newer(job, report).await
    }

    /// Learns of a request that succeeded what its refusals show, in the background.
    pub(crate) fn follow_generations(&self, job: &Arc<Job>, report: &Report) {
        if report.newer.is_empty() {
            return;
        }
        let (client, job, report) = (self.clone(), Arc::clone(job), report.clone());
        tokio::spawn(async move {
            let key = client.newest_of(&job, &report, false).await;
            client.bring_to_all(&key, &job, &report, false).await;
        });
    }

    /// The key with the highest certificate that is known or shown. Where a certificate stands under an order of which this
    /// client has not heard, the key is asked for: whenever a request fails without it, and else not again and again
    /// because of a node that names orders which nobody has.
    pub(crate) async fn newest_of(&self, job: &Job, report: &Report, needed: bool) -> Key {
        let known = self.cached_key(job.key().id());
        let mut key =
            known.map_or_else(|| job.key().clone(), |known| job.key().with_higher_of(&known));
        let id = key.id();
        let asked_for = rank(job.key(), job.version());
        for again in [true, false] {
            let mut unknown = Vec::new();
            for (node, shown) in &report.newer {
                let statement = Statement::from_payload(&shown.payload).ok();
                match key.adopting([shown]) {
                    Ok(Some(higher)) => key = self.cache_key(&higher),
                    // It said no, and has nothing newer.
                    Ok(None) => {
                        if statement.is_none_or(|shown| Some(shown.rank()) <= asked_for) {
                            self.doubt(*node);
                        }
                    }
                    // An order of which this client has not heard, or a version that was made since.
                    Err(
                        KeyViewError::OrderUnknown { .. }
                        | KeyViewError::VersionUnknown { .. }
                        | KeyViewError::NoRoot { .. },
                    ) => unknown.extend(statement.map(|shown| (*node, shown.order()))),
                    Err(error) => {
                        self.doubt(*node);
                        self.warn(Warning::WrongAnswer(WrongAnswer {
                            name: self.node_name(*node),
                            what: error.to_string(),
                        }));
                    }
                }
            }
            if !again {
                self.came_of_nothing(id, &unknown).await;
                break;
            }
            let due = |(node, order): &(NodeId, Digest)| {
                self.in_vain(|in_vain| in_vain.is_due(id, *node, *order))
            };
            if unknown.is_empty() || !(needed || unknown.iter().any(due)) {
                break;
            }
            match self.fetch_key(id).await {
                Ok(fetched) => key = fetched,
                Err(_) => {
                    self.in_vain(|in_vain| {
                        for (node, order) in &unknown {
                            in_vain.note(id, *node, *order);
                        }
                    });
                    break;
                }
            }
        }
        key
    }

    /// Remembers orders that did not come although the key was asked for, and names nodes that do not show the
    /// order either under which they showed a certificate.
    async fn came_of_nothing(&self, id: KeyId, unknown: &[(NodeId, Digest)]) {
        for (node, order) in unknown {
            self.doubt(*node);
            if !self.in_vain(|in_vain| in_vain.note(id, *node, *order)) {
                continue;
            }
            let request = v1::GetKeyRequest {
                node: node.as_bytes().to_vec(),
                which: Some(v1::get_key_request::Which::Id(id.as_bytes().to_vec())),
            };
            let answer = self.inner.transport.once().call(*node, Method::GetKey, &request).await;
            let shows = |reply: v1::GetKeyReply| {
                let documents = reply.keys.into_iter().flat_map(|view| view.documents);
                let mut documents = documents.filter_map(|e| SignedDocument::parse(e).ok());
                documents.any(|document| names(document.body(), id, order))
            };
            let lies = match answer {
                Ok(reply) => !shows(reply),
                Err(CallError::Refused(refusal)) => refusal.code == RefusalCode::KeyUnknown.code(),
                // Silence is no lie.
                Err(CallError::Unreachable(_)) => false,
            };
            if lies {
                self.warn(Warning::WrongAnswer(WrongAnswer {
                    name: self.node_name(*node),
                    what: "it showed a certificate under an order that it does not show".to_owned(),
                }));
            }
        }
    }

    /// Brings the certificate of a reshare to those that showed that they lack it, and to those that answered for a
    /// lower generation. Says whether anybody took it.
    async fn bring_to_all(&self, key: &Key, job: &Job, report: &Report, needed: bool) -> bool {
        let (id, version) = (key.id(), job.version());
        let Ok(known) = key.verified_version(version) else { return false };
        let (Some(root), Some(highest)) = (&known.root, &known.certificate) else { return false };
        let statement = highest.statement();
        if statement.height() < 2 {
            // A DKG's certificate takes the signatures over its transcript; whoever made the key delivers it.
            return false;
        }
        // What each has now; nothing where it has no certificate.
        let mut behind: BTreeMap<NodeId, Vec<u8>> = BTreeMap::new();
        for (node, shown) in &report.newer {
            if let Ok(shown) = Statement::from_payload(&shown.payload)
                && shown.rank() < statement.rank()
            {
                behind.insert(*node, shown.generation().as_bytes().to_vec());
            }
        }
        let none = RefusalCode::KeyNotReady.code();
        let none = report.refused.iter().filter(|(_, refusal)| refusal.code == none);
        behind.extend(none.map(|(node, _)| (*node, Vec::new())));
        if rank(job.key(), version) < Some(statement.rank())
            && let Ok(asked) = job.key().committee(version)
        {
            let generation = asked.generation().as_bytes().to_vec();
            behind.extend(report.answered.iter().map(|node| (*node, generation.clone())));
        }
        behind.retain(|node, _| {
            let due = || self.brought(|brought| brought.due((id, version, *node)));
            statement.participant(node).is_some() && (needed || due())
        });
        if behind.is_empty() {
            return false;
        }
        let request = v1::PutCertificateRequest {
            node: Vec::new(),
            certificate: Some(highest.envelope().clone()),
            transcript_signatures: Vec::new(),
            root: Some(root.envelope().clone()),
        };
        if self.bring(&behind, &request).await {
            return true;
        }
        // They may lack the order under which it stands.
        if !needed || statement.order_number() == 1 || self.gather_key(id).await.is_err() {
            return false;
        }
        self.bring(&behind, &request).await
    }

    /// Brings the highest certificate that is known of a key version to all its members, and to those that had shares
    /// before, who erase them by it; says which of the members have another generation than it afterwards, or gave no
    /// answer.
    ///
    /// # Errors
    /// [`crate::KeyError`]: the version is not made.
    pub async fn bring_certificate(
        &self,
        key: &Key,
        version: KeyVersion,
    ) -> Result<Vec<NodeId>, Error> {
        let not_ready = || KeyError::NotReady { id: key.id(), version };
        let known = key.verified_version(version)?;
        let root = known.root.as_ref().ok_or_else(not_ready)?;
        let highest = known.certificate.as_ref().ok_or_else(not_ready)?;
        let members: Vec<NodeId> =
            highest.statement().participants().iter().map(|member| member.node).collect();
        let request = |node: NodeId| v1::PutCertificateRequest {
            node: node.as_bytes().to_vec(),
            certificate: Some(highest.envelope().clone()),
            transcript_signatures: Vec::new(),
            root: (highest.statement().height() > 1).then(|| root.envelope().clone()),
        };
        let mut all = members.clone();
        for member in known.orders.all().flat_map(|order| order.members()) {
            if !all.contains(&member.node) && self.roster().node(&member.node).is_some() {
                all.push(member.node);
            }
        }
        let mut answers = self.ask(&all, Method::PutCertificate, request, all.len()).await;
        let generation = highest.statement().generation();
        let mut lacking = members;
        lacking.retain(|node| {
            let answer = answers.remove(node).and_then(Result::ok);
            answer.is_none_or(|answer: crate::client::Answered<v1::PutCertificateReply>| {
                answer.reply.generation != generation.as_bytes()
            })
        });
        Ok(lacking)
    }

    /// Says whether anybody has another generation than before.
    async fn bring(
        &self,
        nodes: &BTreeMap<NodeId, Vec<u8>>,
        request: &v1::PutCertificateRequest,
    ) -> bool {
        let fan_out = Some(FanOut::new());
        let mut bringing = tokio::task::JoinSet::new();
        for (node, had) in nodes {
            let (node, had, transport) = (*node, had.clone(), self.inner.transport.once());
            let bytes = node.as_bytes().to_vec();
            let request = v1::PutCertificateRequest { node: bytes, ..request.clone() };
            bringing.spawn(async move {
                let reply: Result<v1::PutCertificateReply, CallError> =
                    transport.call_of(fan_out, node, Method::PutCertificate, &request).await;
                reply.is_ok_and(|reply| reply.generation != had)
            });
        }
        let mut taken = false;
        while let Some(joined) = bringing.join_next().await {
            taken |= joined.unwrap_or(false);
        }
        taken
    }
}
