//! Connections to nodes: one pooled HTTP/2 connection each, and the Connect protocol's unary form.

mod again;
mod connection;
mod fan_out;
mod reply;
mod tls;
mod version;

use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use quorate_audit::SignedCheckpoint;
use quorate_types::NodeId;
use quorate_types::limits::MAX_MARKS_PER_REQUEST;
use quorate_wire::proto::v1::{
    GetProofReply, GetProofRequest, Mark, PutMarksReply, PutMarksRequest, Refusal,
};
use quorate_wire::{RefusalCode, SigningKey, Versioned, WireVersion};

use crate::NodeEntry;
use crate::marks::{self, Judged, Marks};

use again::{Tries, Troubles};

pub(crate) use again::{may_pass, pause};
pub(crate) use fan_out::FanOut;
pub use tls::TlsSetupError;
#[cfg(test)]
pub(crate) use tls::provider;
pub(crate) use tls::{ClientIdentity, pkcs8, seed_of_pkcs8};

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For TCP and TLS, for each address.
    pub connect: Duration,
    /// For one answer to one request, connecting included.
    pub request: Duration,
    /// For one step of making a key: nodes verify what all others dealt, which for a hundred nodes on
    /// a slow machine takes a while.
    pub ceremony: Duration,
    /// For an answer to how a node is, which takes it no work: whoever looks wants to see that one hangs.
    pub status: Duration,
    /// After which one node more is asked where one that was asked has not answered.
    pub hedge: Duration,
}

/// What each KiB of an evaluation request adds to its time limit: about 25 labels, which one core
/// evaluates in a millisecond. 4096 labels get 50 s more.
const EXTRA_PER_KIB: Duration = Duration::from_millis(300);

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(20),
            ceremony: Duration::from_secs(180),
            status: Duration::from_secs(5),
            hedge: Duration::from_millis(250),
        }
    }
}

/// In how many versions one request is sent at most: its node may be put back to an older build and brought to a newer one
/// while it is asked.
const MAX_VERSIONS_TRIED: usize = 3;

/// Nodes that are shown marks at once.
const SHARED_AT_ONCE: usize = 3;

/// Whether a refusal says that the log is shorter than what was asked for, or not the one that it was.
fn lost(code: &str) -> bool {
    [RefusalCode::Malformed, RefusalCode::RolledBack].iter().any(|lost| lost.code() == code)
}

/// A node that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The node.
    pub node: NodeId,
    /// Its name in the roster.
    pub name: String,
    /// Why.
    pub reason: UnreachableReason,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// Why a node could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnreachableReason {
    /// The roster has no URL that this client understands.
    #[error("the roster gives no usable URL for it")]
    NoUrl,
    /// The name does not resolve.
    #[error("the name {0} is not known")]
    Name(String),
    /// Nothing listens there.
    #[error("connection refused")]
    ConnectionRefused,
    /// No answer while connecting.
    #[error("connecting timed out")]
    ConnectTimedOut,
    /// Connected, and then no answer in time.
    #[error("no answer in time")]
    RequestTimedOut,
    /// The server's key is not the one in the roster.
    #[error("its TLS key differs from the roster: someone else answers there")]
    KeyDiffers,
    /// The server's key is one that the node had once, and gave up.
    #[error(
        "ALARM: it answers with a TLS key that was retired: a copy of the node, or a thief of that key"
    )]
    KeyRetired,
    /// The TLS handshake failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It answered, and showed no record of that in its audit log.
    #[error("it answered and left no audit record, so its answer is not used")]
    NoReceipt,
    /// Not an answer of this protocol.
    #[error("it did not answer in the node protocol: {0}")]
    Protocol(String),
}

/// Why a call gave no reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CallError {
    Unreachable(Unreachable),
    Refused(Box<Refusal>),
}

/// The methods of the node protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Info,
    Status,
    PutDocuments,
    GetDocuments,
    GetKey,
    ListKeys,
    Evaluate,
    DkgOpen,
    DkgDeal,
    DkgSign,
    DkgSignature,
    PutCertificate,
    CeremonyBatch,
    ReshareState,
    ReshareOpen,
    ReshareDeal,
    ReshareSign,
    GetAudit,
    GetProof,
    PutMarks,
    GetUsage,
}

impl Method {
    /// Whether it is asked of a node that lost records too: so that the roster can come that names its new
    /// log.
    const fn of_any_log(self) -> bool {
        matches!(self, Self::Info | Self::PutDocuments | Self::GetProof | Self::PutMarks)
    }

    /// Whether an answer counts only with the receipt of an audit record. `Info` leaves none, nor do documents
    /// that nothing came of; what nodes show of documents and logs is verified by itself.
    const fn leaves_record(self) -> bool {
        !self.of_any_log() && !matches!(self, Self::GetDocuments)
    }

    /// Whether a node that cannot answer just now is asked again. Not for evaluations, which others are asked for
    /// meanwhile, nor for the rounds of ceremonies, whose machines count their tries; nor what a node says of how it is.
    const fn is_sent_again(self) -> bool {
        matches!(
            self,
            Self::PutDocuments
                | Self::GetDocuments
                | Self::GetKey
                | Self::ListKeys
                | Self::PutCertificate
                | Self::ReshareState
                | Self::GetAudit
                | Self::GetUsage
        )
    }

    /// How long one answer may take. A batch may take longer than one label: its node may share its
    /// cores with others.
    const fn limit(self, timeouts: &Timeouts, request_bytes: usize) -> Duration {
        match self {
            Self::Evaluate => timeouts
                .request
                .saturating_add(EXTRA_PER_KIB.saturating_mul((request_bytes / 1024) as u32)),
            Self::DkgOpen
            | Self::DkgDeal
            | Self::DkgSign
            | Self::PutCertificate
            | Self::CeremonyBatch
            | Self::ReshareOpen
            | Self::ReshareDeal
            | Self::ReshareSign => timeouts.ceremony,
            Self::Status => timeouts.status,
            _ => timeouts.request,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Info => "/quorate.v1.Node/Info",
            Self::Status => "/quorate.v1.Node/Status",
            Self::PutDocuments => "/quorate.v1.Node/PutDocuments",
            Self::GetDocuments => "/quorate.v1.Node/GetDocuments",
            Self::GetKey => "/quorate.v1.Node/GetKey",
            Self::ListKeys => "/quorate.v1.Node/ListKeys",
            Self::Evaluate => "/quorate.v1.Node/Evaluate",
            Self::DkgOpen => "/quorate.v1.Node/DkgOpen",
            Self::DkgDeal => "/quorate.v1.Node/DkgDeal",
            Self::DkgSign => "/quorate.v1.Node/DkgSign",
            Self::DkgSignature => "/quorate.v1.Node/DkgSignature",
            Self::PutCertificate => "/quorate.v1.Node/PutCertificate",
            Self::CeremonyBatch => "/quorate.v1.Node/CeremonyBatch",
            Self::ReshareState => "/quorate.v1.Node/ReshareState",
            Self::ReshareOpen => "/quorate.v1.Node/ReshareOpen",
            Self::ReshareDeal => "/quorate.v1.Node/ReshareDeal",
            Self::ReshareSign => "/quorate.v1.Node/ReshareSign",
            Self::GetAudit => "/quorate.v1.Node/GetAudit",
            Self::GetProof => "/quorate.v1.Node/GetProof",
            Self::PutMarks => "/quorate.v1.Node/PutMarks",
            Self::GetUsage => "/quorate.v1.Node/GetUsage",
        }
    }
}

/// The connections to all nodes of a roster. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub(crate) struct Transport {
    nodes: Arc<HashMap<NodeId, Arc<connection::NodeConnection>>>,
    timeouts: Timeouts,
    troubles: Arc<Troubles>,
    /// Whether nodes that cannot answer just now are asked again.
    patient: bool,
    pub(crate) marks: Arc<Marks>,
}

impl Transport {
    /// Connects to nobody yet.
    pub(crate) fn new<'a>(
        nodes: impl IntoIterator<Item = &'a NodeEntry>,
        key: &SigningKey,
        timeouts: Timeouts,
        marks: Marks,
    ) -> Result<Self, TlsSetupError> {
        let identity = ClientIdentity::new(key)?;
        let nodes = nodes
            .into_iter()
            .map(|node| {
                Ok((node.id, Arc::new(connection::NodeConnection::new(node, &identity, timeouts)?)))
            })
            .collect::<Result<_, TlsSetupError>>()?;
        let (nodes, marks) = (Arc::new(nodes), Arc::new(marks));
        Ok(Self { nodes, timeouts, troubles: Arc::default(), patient: true, marks })
    }

    /// The same by which no node is asked again: for what cannot wait, or is tried again by whoever asks.
    pub(crate) fn once(&self) -> Self {
        Self { patient: false, ..self.clone() }
    }

    pub(crate) const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Asks one node one thing.
    pub(crate) async fn call<Q: Versioned, R: Message + Default>(
        &self,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> Result<R, CallError> {
        self.call_of(None, node, method, request).await
    }

    /// The same, as one of the requests that are made of several nodes for one purpose. A node that cannot answer just now is
    /// asked again for a few seconds, where the method is [`Method::is_sent_again`].
    pub(crate) async fn call_of<Q: Versioned, R: Message + Default>(
        &self,
        fan_out: Option<FanOut>,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> Result<R, CallError> {
        let mut tries = Tries::of(method, self.timeouts.request);
        let bytes = loop {
            let answer = self.call_bytes(fan_out, node, method, request).await;
            match tries.after(&self.troubles, node, &answer, Instant::now()) {
                Some(pause) if self.patient => tokio::time::sleep(pause).await,
                _ => break answer?,
            }
        };
        R::decode(bytes).map_err(|_| {
            self.unreachable(node, UnreachableReason::Protocol("a malformed message".into()))
        })
    }

    /// Asks one node one thing; what it answers, in bytes.
    async fn call_bytes<Q: Versioned>(
        &self,
        fan_out: Option<FanOut>,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> Result<bytes::Bytes, CallError> {
        let fits = method.of_any_log();
        if !fits && self.marks.doubts(node) {
            self.prove(node).await?;
            if self.marks.doubts(node) {
                return Err(CallError::Refused(Box::new(marks::refusal())));
            }
        }
        let size = match self.marks.before(node) {
            Ok(size) => size,
            Err(_) if fits => 0,
            Err(refusal) => return Err(CallError::Refused(refusal)),
        };
        let (reply, receipt) = self.exchange(fan_out, node, method, request).await;
        // A log that its own node does not trust is no measure for the next one.
        let rolled_back = RefusalCode::RolledBack.code();
        if matches!(&reply, Err(CallError::Refused(refusal)) if refusal.code == rolled_back) {
            return reply;
        }
        let judged = match receipt.filter(|_| !fits) {
            Some(receipt) => self.marks.after(node, size, &receipt),
            None => Judged::NoReceipt,
        };
        match judged {
            // What is refused may have no record: a node whose disk is full cannot write one.
            Judged::NoReceipt if reply.is_ok() && method.leaves_record() => {
                Err(self.unreachable(node, UnreachableReason::NoReceipt))
            }
            Judged::NoReceipt => reply,
            Judged::Fine => reply,
            Judged::Prove => {
                let transport = self.clone();
                tokio::spawn(async move { transport.prove(node).await });
                reply
            }
            // The others decide.
            Judged::RolledBack => {
                let transport = self.clone();
                tokio::spawn(async move { transport.tell(node).await });
                self.marks.before(node).map_err(CallError::Refused)?;
                reply
            }
        }
    }

    /// Asks one node one thing, whatever its log is, and gives the reply's audit receipt too. Where the node does not speak
    /// the version that the request was written in, it is written again in one that it does.
    async fn exchange<Q: Versioned>(
        &self,
        fan_out: Option<FanOut>,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> (Result<bytes::Bytes, CallError>, Option<String>) {
        let Some(connection) = self.nodes.get(&node) else {
            return (Err(self.unreachable(node, UnreachableReason::NoUrl)), None);
        };
        let mut version = connection.negotiated.version();
        let mut tried = 1;
        loop {
            let body = bytes::Bytes::from(request.encode_in(version));
            let limit = method.limit(&self.timeouts, body.len());
            let sent = connection::Sent { path: method.path(), fan_out, version, body };
            let (reply, receipt) = connection.call(limit, sent).await;
            let again = match &reply {
                Err(CallError::Refused(refusal)) if tried < MAX_VERSIONS_TRIED => {
                    connection.negotiated.again(version, refusal)
                }
                _ => None,
            };
            match again {
                Some(next) => (version, tried) = (next, tried + 1),
                None => return (reply, receipt),
            }
        }
    }

    /// The version that requests to a node are written in at present.
    pub(crate) fn version(&self, node: NodeId) -> Option<WireVersion> {
        self.nodes.get(&node).map(|connection| connection.negotiated.version())
    }

    /// The same in messages, for what is about logs themselves.
    async fn plainly<Q: Versioned, R: Message + Default>(
        &self,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> Result<R, CallError> {
        let (reply, _) = self.exchange(None, node, method, request).await;
        R::decode(reply?).map_err(|_| {
            self.unreachable(node, UnreachableReason::Protocol("a malformed message".into()))
        })
    }

    /// Asks a node to prove that its log extends what was seen of it.
    async fn prove(&self, node: NodeId) -> Result<(), CallError> {
        let Some(asked) = self.marks.to_prove(node) else { return Ok(()) };
        let mut replies = Vec::new();
        for number in 0..asked.from.len().max(1) {
            let request = GetProofRequest {
                node: node.as_bytes().to_vec(),
                size: asked.size(),
                from: asked.from.get(number).map_or(0, |from| from.checkpoint().size),
                indices: if number == 0 { asked.indices() } else { Vec::new() },
            };
            match self.plainly(node, Method::GetProof, &request).await {
                Ok(reply) => replies.push(reply),
                Err(CallError::Refused(refusal)) if lost(&refusal.code) => {
                    self.marks.lost(node);
                    self.tell(node).await;
                    return Ok(());
                }
                Err(error) => {
                    self.marks.not_proved(node);
                    return Err(error);
                }
            }
        }
        if !self.marks.judge(node, &asked, &replies) {
            self.tell(node).await;
        }
        Ok(())
    }

    /// Shows a node the newest checkpoint of its own log. One that lost records then knows it, and serves
    /// nobody.
    async fn tell(&self, node: NodeId) {
        let held = self.marks.held(node).into_iter();
        let marks = held.map(|c| Mark { checkpoint: c.to_bytes(), consistency: Vec::new() });
        let request = PutMarksRequest { node: node.as_bytes().to_vec(), marks: marks.collect() };
        // It may know already, or not care; the client does not use its answers in any case.
        let _ = self.plainly::<_, PutMarksReply>(node, Method::PutMarks, &request).await;
        self.marks.told(node);
    }

    /// Asks all nodes whose logs have grown for proofs, and carries marks between nodes.
    pub(crate) async fn settle(&self) {
        let mut proving = tokio::task::JoinSet::new();
        for node in self.marks.due() {
            let transport = self.clone();
            proving.spawn(async move { transport.prove(node).await });
        }
        while proving.join_next().await.is_some() {}
        for node in self.marks.untold() {
            self.tell(node).await;
        }
        if let Some(nodes) = self.marks.to_share() {
            for node in nodes.iter().take(SHARED_AT_ONCE) {
                self.share(*node, &nodes).await;
            }
        }
    }

    /// Shows a node the marks of others' logs, and the others what it cosigned.
    async fn share(&self, node: NodeId, all: &[NodeId]) {
        let others = all.iter().filter(|other| **other != node).take(MAX_MARKS_PER_REQUEST);
        let shown: Vec<_> =
            others.filter_map(|other| Some((*other, self.marks.newest(*other)?))).collect();
        let mark = |(_, c): &(NodeId, SignedCheckpoint)| Mark {
            checkpoint: c.to_bytes(),
            consistency: Vec::new(),
        };
        let mut again = Vec::new();
        let first = shown.iter().map(mark).collect();
        let Some(reply) = self.put_marks(node, first).await else { return };
        let mut cosigned = Vec::new();
        for ((other, checkpoint), result) in shown.iter().zip(reply.results) {
            let size = checkpoint.checkpoint().size;
            if !result.checkpoint.is_empty() {
                cosigned.push((*other, result.checkpoint));
            } else if (1..size).contains(&result.size) {
                let request = GetProofRequest {
                    node: other.as_bytes().to_vec(),
                    size,
                    from: result.size,
                    indices: Vec::new(),
                };
                let proof =
                    self.plainly::<_, GetProofReply>(*other, Method::GetProof, &request).await;
                if let Ok(GetProofReply { consistency, .. }) = proof {
                    let checkpoint = checkpoint.to_bytes();
                    again.push((*other, Mark { checkpoint, consistency }));
                }
            }
        }
        for known in reply.known {
            self.marks.heard(&known);
        }
        let (owners, marks): (Vec<NodeId>, Vec<Mark>) = again.into_iter().unzip();
        if !marks.is_empty()
            && let Some(reply) = self.put_marks(node, marks).await
        {
            let results = owners.into_iter().zip(reply.results);
            let signed = results.filter(|(_, result)| !result.checkpoint.is_empty());
            cosigned.extend(signed.map(|(other, result)| (other, result.checkpoint)));
        }
        for (other, checkpoint) in cosigned {
            self.put_marks(other, vec![Mark { checkpoint, consistency: Vec::new() }]).await;
        }
    }

    async fn put_marks(&self, node: NodeId, marks: Vec<Mark>) -> Option<PutMarksReply> {
        let request = PutMarksRequest { node: node.as_bytes().to_vec(), marks };
        self.plainly(node, Method::PutMarks, &request).await.ok()
    }

    fn unreachable(&self, node: NodeId, reason: UnreachableReason) -> CallError {
        let name = self.nodes.get(&node).map_or_else(|| node.to_string(), |c| c.name().to_owned());
        CallError::Unreachable(Unreachable { node, name, reason })
    }
}
