//! Sockets to HTTP/2 connections to calls.

use super::descriptors::{Failures, is_of_one_connection};
use crate::{
    config::Config,
    engine::Peer,
    grpc::{
        Context, NODE_METADATA, ObjectStreams, Sessions, compression,
        delivery::{self, HotReply, Seat},
        error::Refusal,
    },
    proto::{
        self, object_stream_service_server::ObjectStreamServiceServer,
        session_service_server::SessionServiceServer,
    },
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{SockRef, TcpKeepalive};
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as Task, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body, codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;

/// What every HTTP/2 connection of a client begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What somebody gets who speaks something else.
const NOT_HTTP2: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis is sessiond: it speaks gRPC over HTTP/2 without TLS. \
    Try: grpcurl -plaintext <address> list\n";

/// How much a stream may send before the client grants more, and how much it may send to us: small
/// frames are charged 256 bytes each until they are read, so connections get far more than streams.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// The most that waits in a stream's send buffer: what is in there can no longer be conflated.
const SEND_BUFFER: usize = 64 * 1024;

/// How many probes in a row a silent peer may leave unanswered, and the least time between two: the
/// kernel counts in whole seconds and refuses 0.
const PROBES: u32 = 2;
const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How long nothing is accepted once there are no more file descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the headers of one call.
const HEADERS: u32 = 16 * 1024;

/// Everything that a connection needs.
pub struct Connections {
    pub router: Arc<Router>,
    pub config: Config,
    pub stopping: CancellationToken,
    pub cut: CancellationToken,
    pub tracker: TaskTracker,
}

impl Connections {
    /// Accepts sockets and hands them out to the workers in turn.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        workers: Vec<UnboundedSender<std::net::TcpStream>>,
    ) {
        let mut next = workers.iter().cycle();
        let mut failures = Failures::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.cancelled() => return,
            };
            match accepted.and_then(|(socket, _)| socket.into_std()) {
                Ok(_) if self.tracker.len() >= self.config.max_connections => {
                    tracing::debug!("a connection over max-connections was refused");
                }
                Ok(socket) => {
                    if let Some(worker) = next.next() {
                        let _ = worker.send(socket);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    if let Some(times) = failures.count(Instant::now()) {
                        tracing::warn!(%error, times, "cannot accept connections: newcomers wait");
                    }
                    // The end of a connection makes room for the next, but nothing tells of it here.
                    sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    /// Serves the sockets that are handed to one worker, until it is told to stop and they are done.
    pub async fn work(
        self: Arc<Self>,
        worker: usize,
        mut sockets: UnboundedReceiver<std::net::TcpStream>,
    ) {
        for connection in 0.. {
            let socket = tokio::select! {
                socket = sockets.recv() => socket,
                () = self.cut.cancelled() => return,
            };
            let Some(socket) = socket else { break };
            let server = self.clone();
            self.tracker.spawn(async move {
                if let Err(error) = server.serve(socket, Seat { worker, connection }).await {
                    tracing::debug!(error, "a connection failed");
                }
            });
        }
        self.cut.cancelled().await;
    }

    async fn serve(&self, socket: std::net::TcpStream, seat: Seat) -> Result<(), String> {
        let told = |error: io::Error| error.to_string();
        let mut socket = TcpStream::from_std(socket).map_err(told)?;
        socket.set_nodelay(true).map_err(told)?;
        self.watch_peer(&socket).map_err(told)?;
        let peer = Peer::from(socket.peer_addr().map_err(told)?.ip());
        let handshake = timeout(self.config.handshake_timeout, expect_http2(&mut socket));
        let preface = tokio::select! {
            preface = handshake => preface.map_err(|_| "no handshake in time")?.map_err(told)?,
            () = self.stopping.cancelled() => return Ok(()),
        };
        let (read, write) = socket.into_split();
        let io = TokioIo::new(tokio::io::join(io::Cursor::new(preface).chain(read), write));
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let router = router.clone();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(seat);
            async move { router.call(request).await }
        });
        let mut connection = pin!(self.http2().serve_connection(io, service));
        let mut stopping = pin!(self.stopping.cancelled());
        // This is polled for every frame: whether the server stops is looked at once, which has the
        // task woken when it does, and from then on only if it does.
        let mut looked = false;
        let mut told = false;
        poll_fn(|cx| {
            if !told && (!looked || self.router.is_draining()) {
                looked = true;
                if stopping.as_mut().poll(cx).is_ready() {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            connection.as_mut().poll(cx)
        })
        .await
        .map_err(|error| error.to_string())
    }

    /// Has the kernel find out that a peer is gone: by probes while the connection is idle, and by
    /// what is not acknowledged while it is not. It costs nothing on the path of a message.
    fn watch_peer(&self, socket: &TcpStream) -> io::Result<()> {
        let Config { keepalive_interval, keepalive_timeout, .. } = self.config;
        let socket = SockRef::from(socket);
        let interval = (keepalive_timeout / PROBES).max(PROBE_INTERVAL_MIN);
        let probes = TcpKeepalive::new().with_time(keepalive_interval);
        let probes = probes.with_interval(interval).with_retries(PROBES);
        socket.set_tcp_keepalive(&probes)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(keepalive_interval + keepalive_timeout))?;
        Ok(())
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let streams = u32::try_from(self.config.max_streams_per_connection).unwrap_or(u32::MAX);
        builder
            .max_concurrent_streams(streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADERS)
            .auto_date_header(false);
        builder
    }
}

/// Reads the preface of HTTP/2; who sends something else is told what this is.
async fn expect_http2(socket: &mut TcpStream) -> io::Result<[u8; 24]> {
    let mut preface = [0; 24];
    let mut read = 0;
    while read < preface.len() {
        let more = socket.read(&mut preface[read..]).await?;
        read += more;
        if more == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no HTTP/2 preface"));
        }
        if preface[..read] != PREFACE[..read] {
            socket.write_all(NOT_HTTP2).await?;
            socket.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
    }
    Ok(preface)
}

/// What is sent back: frames as they are, or what tonic makes.
enum Reply {
    Hot(HotReply),
    Cold(Body),
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Reply::Hot(body) => Pin::new(body).poll_frame(cx),
            Reply::Cold(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Hot(body) => body.is_end_stream(),
            Reply::Cold(body) => body.is_end_stream(),
        }
    }
}

/// Calls to services.
pub struct Router {
    context: Arc<Context>,
    node: HeaderValue,
    routes: Routes,
}

impl Router {
    /// All services; `health` is told from outside.
    pub fn new(context: Context, health: HealthServer<impl Health>) -> Self {
        let most = context.streams.max_request_bytes;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let sessions = SessionServiceServer::new(Sessions(context.clone()));
        let streams = ObjectStreamServiceServer::new(ObjectStreams::new(context.clone()));
        let v1 = reflection().build_v1().expect("the descriptors are compiled in");
        let v1alpha = reflection().build_v1alpha().expect("the descriptors are compiled in");
        // The limit holds before and after a message is inflated.
        macro_rules! bounded {
            ($service:expr) => {
                $service
                    .max_decoding_message_size(most)
                    .accept_compressed(CompressionEncoding::Gzip)
            };
        }
        let routes = Routes::new(bounded!(sessions))
            .add_service(bounded!(streams))
            .add_service(bounded!(health))
            .add_service(bounded!(v1))
            .add_service(bounded!(v1alpha))
            .prepare();
        let node = HeaderValue::from_str(&context.node.name);
        let node = node.unwrap_or(HeaderValue::from_static("sessiond"));
        Self { node, context: Arc::new(context), routes }
    }

    fn is_draining(&self) -> bool {
        self.context.engine.is_draining()
    }

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let is_stream = is_grpc && delivery::serves(request.uri().path());
        let unread = compression::check(request.headers(), &self.context.node).err();
        let mut response = if let Some(status) = unread.filter(|_| is_grpc) {
            status.into_http().map(Reply::Cold)
        } else if is_stream {
            let path = request.uri().path().to_owned();
            match delivery::serve(&self.context, request) {
                Some(response) => response.map(Reply::Hot),
                None => self.no_such_call(&path).map(Reply::Cold),
            }
        } else {
            let path = request.uri().path().to_owned();
            let response = self.routes.clone().oneshot(request.map(Body::new)).await;
            let response = response.unwrap_or_else(|never| match never {});
            self.in_our_words(&path, response).map(Reply::Cold)
        };
        response.headers_mut().insert(NODE_METADATA, self.node.clone());
        Ok(response)
    }

    fn no_such_call(&self, path: &str) -> Response<Body> {
        let refusal = Refusal::NotImplemented { field: path.to_owned() };
        self.context.node.status(&refusal).into_http()
    }

    /// What tonic refuses has no details: a message over the size limit, OUT_OF_RANGE, or
    /// RESOURCE_EXHAUSTED if it is so once inflated; an unknown path; a body that it cannot read.
    fn in_our_words(&self, path: &str, response: Response<Body>) -> Response<Body> {
        let code = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
        let has_details = response.headers().contains_key("grpc-status-details-bin");
        match code {
            Some(b"8" | b"11") if !has_details => {
                let most = self.context.streams.max_request_bytes;
                let refusal = Refusal::MessageTooLarge { most };
                self.context.node.status(&refusal).into_http()
            }
            Some(b"12") if !has_details => self.no_such_call(path),
            // What is not framed as gRPC says: no message, half a one, one that does not inflate.
            Some(b"13") if !has_details => {
                let status = Status::from_header_map(response.headers());
                let fault = status.map(|status| status.message().to_owned()).unwrap_or_default();
                self.context.node.status(&Refusal::Malformed(fault)).into_http()
            }
            _ => response,
        }
    }
}
