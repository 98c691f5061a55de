//! One node's connection: made when first needed, kept, and made again when it breaks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_documents::KeyPurpose;
use quorate_types::NodeId;
use quorate_wire::{Versions, WireVersion};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fan_out::{FanOut, REQUEST};
use super::reply::{Reply, interpret, read_body};
use super::tls::ClientIdentity;
use super::version::Negotiated;
use super::{CallError, Timeouts, TlsSetupError, Unreachable, UnreachableReason};
use crate::NodeEntry;

type Body = Full<Bytes>;

/// A reply, and where its audit record is.
type Receipted = (Reply, Option<String>);

/// The header in which a reply says where its audit record is.
const RECEIPT: header::HeaderName = header::HeaderName::from_static("quorate-audit");

/// The header in which a request says the version that it is written in.
const VERSION: header::HeaderName = header::HeaderName::from_static("quorate-version");
/// The header in which a reply says which versions its node speaks.
const VERSIONS: header::HeaderName = header::HeaderName::from_static("quorate-versions");

/// HTTP/2 flow control: two evaluations of 4096 labels in flight without waiting for the reader.
const STREAM_WINDOW: u32 = 1 << 20;
/// For all streams of one connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// HTTP/1.1 connections that are kept for later.
const IDLE_HTTP1: usize = 4;

struct Endpoint {
    host: String,
    port: u16,
    authority: String,
}

pub(crate) struct NodeConnection {
    id: NodeId,
    name: String,
    endpoints: Vec<Endpoint>,
    tls: Arc<ClientConfig>,
    timeouts: Timeouts,
    open: Mutex<Open>,
    /// What is spoken with the node.
    pub(super) negotiated: Negotiated,
}

/// One request as it is sent.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) path: &'static str,
    pub(super) fan_out: Option<FanOut>,
    pub(super) version: WireVersion,
    pub(super) body: Bytes,
}

/// What is open now.
#[derive(Default)]
struct Open {
    http2: Option<(http2::SendRequest<Body>, usize)>,
    http1: Vec<(http1::SendRequest<Body>, usize)>,
}

/// A connection that one request may use.
enum Sender {
    Http2(http2::SendRequest<Body>, usize),
    Http1(http1::SendRequest<Body>, usize),
}

enum Failure {
    /// The request did not reach the node, or nobody knows; the connection is of no use any more.
    Broken(UnreachableReason),
    Other(UnreachableReason),
}

impl NodeConnection {
    pub(crate) fn new(
        node: &NodeEntry,
        identity: &ClientIdentity,
        timeouts: Timeouts,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self {
            id: node.id,
            name: node.name.clone(),
            endpoints: node.urls.iter().filter_map(|url| endpoint(url)).collect(),
            tls: identity.config_for(
                node.tls_key,
                node.former(KeyPurpose::Tls).map(|former| former.key).collect(),
            )?,
            timeouts,
            open: Mutex::default(),
            negotiated: Negotiated::new(Versions::SPOKEN),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One request and its reply, with its audit receipt. A request on a kept connection that broke is sent once more on a
    /// new one: every method of the node protocol may be repeated.
    pub(super) async fn call(
        &self,
        limit: Duration,
        request: Sent,
    ) -> (Result<Bytes, CallError>, Option<String>) {
        let reply = timeout(limit, self.call_or_reconnect(request))
            .await
            .unwrap_or(Err(UnreachableReason::RequestTimedOut));
        match reply {
            Ok((Reply::Message(bytes), receipt)) => (Ok(bytes), receipt),
            Ok((Reply::Refused(refusal), receipt)) => (Err(CallError::Refused(refusal)), receipt),
            Err(reason) => {
                if reason == UnreachableReason::RequestTimedOut {
                    // A black hole: the next request tries a new connection.
                    *self.open.lock().await = Open::default();
                }
                let (node, name) = (self.id, self.name.clone());
                (Err(CallError::Unreachable(Unreachable { node, name, reason })), None)
            }
        }
    }

    async fn call_or_reconnect(&self, request: Sent) -> Result<Receipted, UnreachableReason> {
        let kept = self.kept().await;
        if let Some(sender) = kept {
            match self.send(sender, request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Other(reason)) => return Err(reason),
                Err(Failure::Broken(_)) => self.open.lock().await.http2 = None,
            }
        }
        let sender = self.fresh().await?;
        self.send(sender, request).await.map_err(|failure| match failure {
            Failure::Broken(reason) | Failure::Other(reason) => reason,
        })
    }

    /// A connection that is open already.
    async fn kept(&self) -> Option<Sender> {
        let mut open = self.open.lock().await;
        if let Some((sender, endpoint)) = &open.http2 {
            if !sender.is_closed() {
                return Some(Sender::Http2(sender.clone(), *endpoint));
            }
            open.http2 = None;
        }
        while let Some((sender, endpoint)) = open.http1.pop() {
            if !sender.is_closed() {
                return Some(Sender::Http1(sender, endpoint));
            }
        }
        None
    }

    /// A new connection. Held under the lock, so that many requests at once open one HTTP/2
    /// connection and not many.
    async fn fresh(&self) -> Result<Sender, UnreachableReason> {
        let mut open = self.open.lock().await;
        if let Some((sender, endpoint)) = &open.http2
            && !sender.is_closed()
        {
            return Ok(Sender::Http2(sender.clone(), *endpoint));
        }
        let mut last = UnreachableReason::NoUrl;
        for (position, endpoint) in self.endpoints.iter().enumerate() {
            let connecting = timeout(self.timeouts.connect, self.connect(endpoint)).await;
            match connecting.unwrap_or(Err(UnreachableReason::ConnectTimedOut)) {
                Ok(Sender::Http2(sender, _)) => {
                    open.http2 = Some((sender.clone(), position));
                    return Ok(Sender::Http2(sender, position));
                }
                Ok(Sender::Http1(sender, _)) => return Ok(Sender::Http1(sender, position)),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Sender, UnreachableReason> {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|e| connect_reason(&e, &endpoint.host))?;
        tcp.set_nodelay(true).map_err(|e| UnreachableReason::Broken(e.to_string()))?;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| UnreachableReason::Name(endpoint.host.clone()))?;
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
            .map_err(|e| tls_reason(&e))?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        let broken = |e: hyper::Error| UnreachableReason::Broken(describe(&e));
        if is_http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
                .handshake(io)
                .await
                .map_err(broken)?;
            // Ends by itself when the connection does, or when all senders are gone.
            tokio::spawn(connection);
            Ok(Sender::Http2(sender, 0))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender, 0))
        }
    }

    async fn send(&self, sender: Sender, sent: Sent) -> Result<Receipted, Failure> {
        let Sent { path, fan_out, version, body } = sent;
        let (Sender::Http2(_, position) | Sender::Http1(_, position)) = &sender;
        let authority = self.endpoints.get(*position).map_or("", |e| e.authority.as_str());
        let uri = Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|_| Failure::Other(UnreachableReason::NoUrl))?;
        let request = |uri: Uri| {
            let mut request = Request::post(uri)
                .header(header::CONTENT_TYPE, "application/proto")
                .header(header::HOST, authority)
                .header("connect-protocol-version", "1")
                .header(VERSION, version.get());
            if let Some(name) = fan_out.and_then(FanOut::header) {
                request = request.header(REQUEST, name);
            }
            request.body(Full::new(body)).map_err(|_| Failure::Other(UnreachableReason::NoUrl))
        };
        let broken = |e: hyper::Error| Failure::Broken(UnreachableReason::Broken(describe(&e)));
        let (response, http1) = match sender {
            Sender::Http2(mut sender, _) => {
                let mut request = request(uri)?;
                // HTTP/2 has `:authority` for this.
                request.headers_mut().remove(header::HOST);
                (sender.send_request(request).await.map_err(broken)?, None)
            }
            Sender::Http1(mut sender, position) => {
                let request = request(Uri::from_static(path))?;
                let response = sender.send_request(request).await.map_err(broken)?;
                (response, Some((sender, position)))
            }
        };
        let status = response.status();
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
        };
        let content_type = text(header::CONTENT_TYPE);
        let receipt = text(RECEIPT);
        let spoken = text(VERSIONS).and_then(|versions| versions.parse().ok());
        let body = read_body(response.into_body()).await.map_err(|reason| match reason {
            broken @ UnreachableReason::Broken(_) => Failure::Broken(broken),
            other => Failure::Other(other),
        })?;
        if let Some(sender) = http1 {
            let mut open = self.open.lock().await;
            if open.http1.len() < IDLE_HTTP1 {
                open.http1.push(sender);
            }
        }
        if let Some(spoken) = spoken {
            self.negotiated.heard(spoken);
        }
        let reply = interpret(status, content_type.as_deref(), body).map_err(Failure::Other)?;
        Ok((reply, receipt))
    }
}

/// Host and port of "https://host:port".
fn endpoint(url: &str) -> Option<Endpoint> {
    let uri: Uri = url.parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    let authority = uri.authority()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Endpoint {
        host,
        port: authority.port_u16().unwrap_or(443),
        authority: authority.as_str().to_owned(),
    })
}

fn connect_reason(error: &io::Error, host: &str) -> UnreachableReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => UnreachableReason::ConnectionRefused,
        io::ErrorKind::TimedOut => UnreachableReason::ConnectTimedOut,
        // What the resolver says has no kind of its own.
        _ if error.raw_os_error().is_none() => UnreachableReason::Name(host.to_owned()),
        _ => UnreachableReason::Broken(error.to_string()),
    }
}

fn tls_reason(error: &io::Error) -> UnreachableReason {
    use rustls::{CertificateError, Error};
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            UnreachableReason::KeyDiffers
        }
        Some(Error::InvalidCertificate(CertificateError::Revoked)) => UnreachableReason::KeyRetired,
        Some(other) => UnreachableReason::Tls(other.to_string()),
        None => UnreachableReason::Tls(error.to_string()),
    }
}

/// An error of hyper with its causes, which its own text leaves out.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
