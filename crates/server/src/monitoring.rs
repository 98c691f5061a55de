//! A listener for those who watch: `/health`, `/ready` and `/metrics`, of a node and of a coordinator alike.
//!
//! A node's is apart from its port, because that one takes none but principals with certificates and is open to the world,
//! and monitoring has neither a certificate nor a reason to be let in there. It is plain HTTP, because it says nothing
//! secret, only reads, and belongs on loopback or a network of the operator's own; where it must cross another one, a
//! proxy in front adds TLS and whom to let in. Off unless asked for.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits::{HEALTH_HEADER_TIMEOUT, HEALTH_TIMEOUT, MAX_HEALTH_CONNECTIONS};

pub use crate::metrics::Text;

/// How long to wait before accepting again where the system refuses (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is watched.
pub trait Watched: Send + Sync + 'static {
    /// Why it does not do its work now: stable words, and what to do. Empty where it does.
    fn unready(&self) -> impl Future<Output = Vec<(&'static str, &'static str)>> + Send;

    /// Writes down what it counts.
    fn metrics(&self, text: &mut Text) -> impl Future<Output = ()> + Send;
}

/// Opens the listener. Where it is not on loopback a warning is logged.
///
/// # Errors
/// The system's.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    if bound.ip().is_loopback() {
        tracing::info!(address = %bound, "monitoring: /health, /ready and /metrics in plain HTTP");
    } else {
        tracing::warn!(
            address = %bound,
            "monitoring is plain HTTP and not on loopback: whoever reaches the address reads it"
        );
    }
    Ok(listener)
}

/// Serves until dropped.
pub async fn serve<W: Watched>(watched: Arc<W>, listener: TcpListener) -> Infallible {
    let places = Arc::new(Semaphore::new(MAX_HEALTH_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                // Closed at once where there are too many: whoever watches asks again.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let watched = Arc::clone(&watched);
                tokio::spawn(async move {
                    // Whole connections are timed: each has one request.
                    let _ = timeout(HEALTH_TIMEOUT, connection(watched, tcp)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept monitoring connections at present");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<W: Watched>(watched: Arc<W>, tcp: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let watched = Arc::clone(&watched);
        async move {
            let (head, _) = request.into_parts();
            Ok::<_, Infallible>(respond(watched.as_ref(), &head.method, head.uri.path()).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEALTH_HEADER_TIMEOUT)
        .keep_alive(false)
        .max_headers(32)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(tcp), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "monitoring connection ended");
    }
}

async fn respond<W: Watched>(watched: &W, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(path, "/health" | "/ready" | "/metrics") {
        return answer(StatusCode::NOT_FOUND, PLAIN, "/health, /ready and /metrics\n".into());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/ready" => {
            let reasons = watched.unready().await;
            let status =
                if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let why: Vec<_> = reasons
                .iter()
                .map(|(code, next)| serde_json::json!({"code": code, "next": next}))
                .collect();
            let body = serde_json::json!({"ready": reasons.is_empty(), "reasons": why});
            answer(status, JSON, format!("{body}\n"))
        }
        "/metrics" => {
            let mut text = Text::default();
            watched.metrics(&mut text).await;
            answer(StatusCode::OK, PLAIN, text.into_string())
        }
        // The process lives, its runtime turns: that is all this says.
        _ => answer(StatusCode::OK, JSON, "{\"alive\":true}\n".to_owned()),
    }
}

fn answer(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
