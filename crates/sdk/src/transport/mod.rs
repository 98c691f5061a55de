//! Connections to nodes: one pooled HTTP/2 connection each, and the Connect protocol's unary form.

mod connection;
mod reply;
mod tls;

use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use quorate_types::NodeId;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1::Refusal;

use crate::NodeEntry;

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
            hedge: Duration::from_millis(250),
        }
    }
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
    /// The TLS handshake failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
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
}

impl Method {
    /// How long one answer may take. A batch may take longer than one label: its node may share its
    /// cores with others.
    const fn limit(self, timeouts: &Timeouts, request_bytes: usize) -> Duration {
        match self {
            Self::Evaluate => timeouts
                .request
                .saturating_add(EXTRA_PER_KIB.saturating_mul((request_bytes / 1024) as u32)),
            Self::DkgOpen | Self::DkgDeal | Self::DkgSign | Self::PutCertificate => {
                timeouts.ceremony
            }
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
        }
    }
}

/// The connections to all nodes of a roster. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub(crate) struct Transport {
    nodes: Arc<HashMap<NodeId, Arc<connection::NodeConnection>>>,
    timeouts: Timeouts,
}

impl Transport {
    /// Connects to nobody yet.
    pub(crate) fn new<'a>(
        nodes: impl IntoIterator<Item = &'a NodeEntry>,
        key: &SigningKey,
        timeouts: Timeouts,
    ) -> Result<Self, TlsSetupError> {
        let identity = ClientIdentity::new(key)?;
        let nodes = nodes
            .into_iter()
            .map(|node| {
                Ok((node.id, Arc::new(connection::NodeConnection::new(node, &identity, timeouts)?)))
            })
            .collect::<Result<_, TlsSetupError>>()?;
        Ok(Self { nodes: Arc::new(nodes), timeouts })
    }

    pub(crate) const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Asks one node one thing.
    pub(crate) async fn call<Q: Message, R: Message + Default>(
        &self,
        node: NodeId,
        method: Method,
        request: &Q,
    ) -> Result<R, CallError> {
        let bytes = self.call_bytes(node, method, request.encode_to_vec().into()).await?;
        R::decode(bytes).map_err(|_| {
            self.unreachable(node, UnreachableReason::Protocol("a malformed message".into()))
        })
    }

    /// Asks one node one thing, in bytes.
    pub(crate) async fn call_bytes(
        &self,
        node: NodeId,
        method: Method,
        request: bytes::Bytes,
    ) -> Result<bytes::Bytes, CallError> {
        let Some(connection) = self.nodes.get(&node) else {
            return Err(self.unreachable(node, UnreachableReason::NoUrl));
        };
        let limit = method.limit(&self.timeouts, request.len());
        connection.call(method.path(), limit, request).await
    }

    fn unreachable(&self, node: NodeId, reason: UnreachableReason) -> CallError {
        let name = self.nodes.get(&node).map_or_else(|| node.to_string(), |c| c.name().to_owned());
        CallError::Unreachable(Unreachable { node, name, reason })
    }
}
