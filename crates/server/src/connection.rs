//! One TCP connection: the handshake, its requests, its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use quorate_authn::{AuthenticationError, Evidence};
use quorate_authz::Caller;
use quorate_node::{Call, DecodeFailure, Outcome};
use quorate_storage::Store;
use quorate_types::limits::MAX_REQUEST_BYTES;
use quorate_wire::{RefusalCode, Versions};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::connect::{self, Codec, Head};
use crate::doors::{Doors, InFlight, Lacking, Uses};
use crate::lanes::Place;
use crate::limits::{
    ADMISSION_TIMEOUT, BODY_TIMEOUT, BODY_UNIT, CLOSE_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT,
    HTTP2_STREAMS_OF_STRANGERS, IDLE_TIMEOUT, IDLE_TIMEOUT_OF_STRANGERS, MAX_BODY_MEMORY,
    MAX_HEADER_BYTES, MAX_REPLY_MEMORY, MAX_REQUESTS, MAX_REQUESTS_PER_CALLER, MAX_STREAMS,
    MAX_STREAMS_OF_STRANGERS, REPLY_TIMEOUT, SEND_TIMEOUT,
};
use crate::metrics::Open;
use crate::outgoing::{self, Memory, Outgoing};
use crate::request::{Answered, Node, Patience};

/// How often a connection is looked at: whether it is idle, and whether its client reads.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What connections share.
pub(crate) struct Shared<S> {
    pub(crate) node: Arc<Node<S>>,
    pub(crate) tls: TlsAcceptor,
    doors: Arc<Doors>,
    requests: Arc<Semaphore>,
    body_memory: Arc<Semaphore>,
    reply_memory: Arc<Semaphore>,
}

/// What one connection knows of its client, and whether it is in use.
struct Client {
    caller: Result<Option<Caller>, AuthenticationError>,
    uses: Arc<Uses>,
}

/// Why a body was not read.
enum BadBody {
    TooLarge,
    TooSlow,
    Broken,
    NoMemory,
}

impl<S: Store> Shared<S> {
    pub(crate) fn new(node: Arc<Node<S>>, tls: TlsAcceptor) -> Self {
        Self {
            node,
            tls,
            doors: Doors::new(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            body_memory: Arc::new(Semaphore::new(MAX_BODY_MEMORY / BODY_UNIT)),
            reply_memory: Arc::new(Semaphore::new(MAX_REPLY_MEMORY / BODY_UNIT)),
        }
    }

    /// Counts a connection that was turned away, and tells the operator.
    fn turned_away(&self) {
        self.node.metrics().connections_turned_away.fetch_add(1, Ordering::Relaxed);
        self.doors.lacking(Lacking::TurnedAway);
    }

    /// Serves a connection until it ends, is idle for long, is not read from, must make room, or the node stops.
    /// `leave` tells it to make room before its handshake is over.
    pub(crate) async fn serve(
        self: Arc<Self>,
        tcp: TcpStream,
        mut leave: oneshot::Receiver<()>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.node.metrics().connections.fetch_add(1, Ordering::Relaxed);
        let node = Arc::clone(&self.node);
        let _open = Open::new(&node.metrics().connections_open);
        // Replies are small and whole: waiting to fill packets only delays them.
        let _ = tcp.set_nodelay(true);
        let Ok(peer) = tcp.peer_addr() else { return };
        let accepted = tokio::select! {
            accepted = timeout(HANDSHAKE_TIMEOUT, self.tls.accept(tcp)) => accepted,
            _ = &mut leave => {
                self.turned_away();
                return;
            }
        };
        let tls = match accepted {
            Ok(Ok(tls)) => tls,
            failed => {
                self.node.metrics().handshakes_failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(Err(error)) = failed {
                    tracing::debug!(%error, "handshake failed");
                }
                return;
            }
        };
        let caller = {
            let certificates = tls.get_ref().1.peer_certificates();
            let leaf = certificates.and_then(|chain| chain.first());
            quorate_authn::authenticate(&Evidence::certificate(leaf.map(AsRef::as_ref)))
                .map(|caller| caller.map(|caller| caller.at(peer.ip())))
        };
        // A key that proves nothing is nobody's; it is told so with its first request.
        let known = caller.as_ref().ok().copied().flatten();
        let whose = node.whose(known, &mut Patience::new()).await;
        // Closed at once: a client that is told nothing tries another node.
        let Some(mut door) = self.doors.enter(whose, peer.ip()) else {
            tracing::debug!(?whose, "too many connections; one was turned away");
            self.turned_away();
            return;
        };
        // In the porch until there is a place for it: finding out whose it is may wait for the disk.
        drop(leave);
        if door.made_room {
            node.metrics().connections_made_room.fetch_add(1, Ordering::Relaxed);
            self.doors.lacking(Lacking::MadeRoom);
        }
        let uses = Arc::clone(&door.uses);
        let client = Arc::new(Client { caller, uses: Arc::clone(&uses) });
        let service = service_fn(move |request| {
            let (shared, client) = (Arc::clone(&self), Arc::clone(&client));
            async move {
                let in_flight = client.uses.begin();
                Ok::<_, Infallible>(shared.respond(request, &client, in_flight).await)
            }
        });
        let builder = builder(uses.strange());
        let connection = builder.serve_connection(TokioIo::new(tls), service);
        let mut connection = core::pin::pin!(connection);
        let mut stopping = false;
        let mut closing = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "connection ended");
                    }
                    return;
                }
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                // Whoever hoards connections has no claim on a goodbye.
                _ = &mut door.leave => return,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    // Asking it to close would wait for what it does not read.
                    if uses.stalled_for(SEND_TIMEOUT) {
                        node.metrics().connections_stalled.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(?whose, "a client does not read its replies");
                        return;
                    }
                    match closing {
                        Some(end) if Instant::now() >= end => return,
                        Some(_) => {}
                        None if uses.strange() && uses.idle_for(IDLE_TIMEOUT_OF_STRANGERS) => return,
                        None if !stopping && uses.idle_for(IDLE_TIMEOUT) => {
                            stopping = true;
                            closing = Some(Instant::now() + CLOSE_TIMEOUT);
                            connection.as_mut().graceful_shutdown();
                        }
                        None => {}
                    }
                }
            }
        }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        client: &Client,
        in_flight: InFlight,
    ) -> Response<Outgoing> {
        let (response, memory) = self.reply(request, client).await;
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await;
        Response::from_parts(head, Outgoing::new(body.to_bytes(), memory, in_flight))
    }

    /// The reply, and the memory that is set aside for it.
    async fn reply(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> (Response<Full<Bytes>>, Option<Memory>) {
        let began = Instant::now();
        let metrics = self.node.metrics();
        let _open = Open::new(&metrics.requests_open);
        let head = match connect::head(request.method(), request.uri().path(), request.headers()) {
            Ok(head) => head,
            Err(bad) => {
                metrics.bad_heads.fetch_add(1, Ordering::Relaxed);
                let mut response = bad.response();
                connect::add_versions(&mut response);
                return (response, None);
            }
        };
        let mut memory = None;
        let answered = self.answered(head, request.into_body(), client, &mut memory).await;
        let decision = match &answered.outcome {
            Ok(_) => "ok",
            Err(refusal) => refusal.code.as_str(),
        };
        metrics.answered(head.method, &answered.outcome, began.elapsed());
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(method = head.method, decision, micros, "request");
        let mut response = connect::response(&answered.outcome, head.codec);
        connect::add_versions(&mut response);
        if let Some(place) = &answered.place {
            connect::add_receipt(&mut response, place);
        }
        (response, memory)
    }

    async fn answered(
        &self,
        head: Head,
        body: Incoming,
        client: &Client,
        memory: &mut Option<Memory>,
    ) -> Answered {
        let node = &self.node;
        // Before anything is read that another version may mean otherwise. `Info` is the same in all of them.
        if !Versions::SPOKEN.contain(head.version) && head.method != "Info" {
            return node.refuse_version(head.version).into();
        }
        let caller = match &client.caller {
            Ok(caller) => *caller,
            Err(error) => {
                return node.refuse(RefusalCode::CertificateMissing, &error.to_string()).into();
            }
        };
        // Before any of the bounds that everybody shares.
        // Waiting for the disk has one end, however often it is asked.
        let mut patience = Patience::new();
        let Some(place) = node.enter(caller, &mut patience).await else {
            let message = format!(
                "{MAX_REQUESTS_PER_CALLER} requests of this client are being answered, the most that one may make at once"
            );
            return node.refuse(RefusalCode::Overloaded, &message).into();
        };
        if client.uses.strange() != place.of_strangers() {
            self.doors.recognise(&client.uses, place.whose());
        }
        if place.of_strangers() && client.uses.in_flight() > MAX_STREAMS_OF_STRANGERS {
            let message = format!(
                "a client that is no principal makes at most {MAX_STREAMS_OF_STRANGERS} requests at once"
            );
            return node.refuse(RefusalCode::Overloaded, &message).into();
        }
        let Ok(Ok(_admitted)) = timeout(ADMISSION_TIMEOUT, self.requests.acquire()).await else {
            return node.refuse(RefusalCode::Overloaded, "too many requests at once").into();
        };
        // The permits live as long as the bytes do.
        let (body, _memory) = match self.body(body, &place).await {
            Ok(read) => read,
            Err(bad) => return self.bad_body(&bad).into(),
        };
        let decoded = match head.codec {
            Codec::Proto => {
                // A version of `Info` that is not known yet is what it always was.
                let version = head.version.min(Versions::SPOKEN.highest());
                quorate_node::Request::decode_in(version, head.method, &body)
            }
            Codec::Json => quorate_node::Request::decode_json(head.method, &body),
        };
        drop(body);
        let request = match decoded {
            Ok(request) => request,
            Err(failure) => return self.undecodable(&failure).into(),
        };
        *memory = self.set_aside(outgoing::units(&request, head.codec), &place).await;
        if memory.is_none() {
            let message = "too many replies wait for this client to read them, or for others";
            return node.refuse(RefusalCode::Overloaded, message).into();
        }
        let request_id = head.request_id;
        node.answer(Call { caller, request, request_id }, &place, &mut patience).await
    }

    /// Waits for memory for a reply, of the client's first.
    async fn set_aside(&self, units: u32, place: &Place) -> Option<Memory> {
        let waiting = async {
            let own = place.reply(units).await?;
            let all = Arc::clone(&self.reply_memory).acquire_many_owned(units).await.ok()?;
            Some(Memory { own, all })
        };
        timeout(REPLY_TIMEOUT, waiting).await.ok().flatten()
    }

    fn undecodable(&self, failure: &DecodeFailure) -> Outcome {
        self.node.refuse(failure.code(), &failure.to_string())
    }

    fn bad_body(&self, bad: &BadBody) -> Outcome {
        let node = &self.node;
        match bad {
            BadBody::TooLarge => node.refuse(
                RefusalCode::TooLarge,
                &format!("a request has at most {MAX_REQUEST_BYTES} bytes"),
            ),
            BadBody::TooSlow => node.refuse(
                RefusalCode::Malformed,
                &format!("the request did not arrive within {} s", BODY_TIMEOUT.as_secs()),
            ),
            BadBody::Broken => node.refuse(RefusalCode::Malformed, "the request broke off"),
            BadBody::NoMemory => {
                node.refuse(RefusalCode::Overloaded, "too many large requests are being received")
            }
        }
    }

    /// Reads a body, never more than its bound, and never more bodies than memory is set aside for.
    async fn body(&self, body: Incoming, place: &Place) -> Result<(Bytes, Memory), BadBody> {
        if body.size_hint().lower() > MAX_REQUEST_BYTES as u64 {
            return Err(BadBody::TooLarge);
        }
        timeout(BODY_TIMEOUT, self.read(body, place)).await.unwrap_or(Err(BadBody::TooSlow))
    }

    async fn read(&self, mut body: Incoming, place: &Place) -> Result<(Bytes, Memory), BadBody> {
        let take = |units: u32| {
            let own = place.memory(units).ok_or(BadBody::NoMemory)?;
            let memory = Arc::clone(&self.body_memory);
            let all = memory.try_acquire_many_owned(units).map_err(|_| BadBody::NoMemory)?;
            Ok(Memory { own, all })
        };
        let mut permit = take(1)?;
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BadBody::Broken)?.into_data() else { continue };
            if bytes.len().saturating_add(data.len()) > MAX_REQUEST_BYTES {
                return Err(BadBody::TooLarge);
            }
            let units = (bytes.len() + data.len()).div_ceil(BODY_UNIT);
            let more = units.saturating_sub(permit.all.num_permits());
            if more > 0 {
                let more = take(u32::try_from(more).unwrap_or(u32::MAX))?;
                permit.own.merge(more.own);
                permit.all.merge(more.all);
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), permit))
    }
}

fn builder(strange: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(if strange { HTTP2_STREAMS_OF_STRANGERS } else { MAX_STREAMS })
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_send_buf_size(512 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
