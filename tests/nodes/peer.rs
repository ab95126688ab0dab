//! A node that does what a test tells it, at the level of HTTP/2.

use super::support::in_time;
use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, Response, request::Parts};
use std::{collections::HashMap, net::SocketAddr};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How the connections of the node behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// They do nothing, and answer no ping.
    Frozen,
    /// They are cut.
    Dead,
    /// They end once what has begun is over.
    Leaving,
}

/// The node.
pub struct Peer {
    pub address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    mood: watch::Sender<Mood>,
}

/// A call that was sent on to it.
pub struct Call {
    pub head: Parts,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
}

impl Peer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, calls) = mpsc::unbounded_channel();
        let (mood, moods) = watch::channel(Mood::Well);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, tell.clone(), moods.clone()));
            }
        });
        Self { address, calls, mood }
    }

    /// The next call that comes.
    pub async fn call(&mut self) -> Call {
        in_time(self.next()).await
    }

    /// The same, without an end to the patience.
    pub async fn next(&mut self) -> Call {
        self.calls.recv().await.expect("the node serves")
    }

    /// Whether no call has come that was not taken.
    pub fn is_idle(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// Stands still, as one that is stopped by a signal.
    pub fn freeze(&self) {
        self.mood.send_replace(Mood::Frozen);
    }

    /// Cuts all connections; it takes new ones.
    pub fn die(&self) {
        self.mood.send_replace(Mood::Dead);
        self.mood.send_replace(Mood::Well);
    }

    /// Takes no more calls over the connections that there are.
    pub fn leave(&self) {
        self.mood.send_replace(Mood::Leaving);
    }
}

async fn serve(
    socket: tokio::net::TcpStream,
    tell: mpsc::UnboundedSender<Call>,
    mut moods: watch::Receiver<Mood>,
) {
    let Ok(mut connection) = Builder::new().handshake::<_, Bytes>(socket).await else { return };
    moods.mark_unchanged();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (head, body) = request.into_parts();
                    let _ = tell.send(Call { head, body, respond });
                }
                _ => return,
            },
            changed = moods.changed() => {
                let mood = *moods.borrow_and_update();
                match (changed, mood) {
                    (Err(_), _) | (_, Mood::Dead) => return,
                    // Whoever has died and is well again has cut what there was.
                    (_, Mood::Well) => return,
                    (_, Mood::Frozen) => std::future::pending().await,
                    (_, Mood::Leaving) => connection.graceful_shutdown(),
                }
            }
        }
    }
}

impl Call {
    /// Answers with a status alone.
    pub fn refuse(mut self, status: &Status) {
        let mut response = Response::new(());
        status.add_header(response.headers_mut()).expect("it is encoded");
        self.respond.send_response(response, true).expect("it is connected");
    }

    /// Refuses it before anything of it is done.
    pub fn refuse_stream(mut self) {
        self.respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Sends the head of an answer.
    pub fn begin(self) -> (h2::SendStream<Bytes>, RecvStream) {
        let Self { mut respond, body, .. } = self;
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().expect("ASCII"));
        headers.insert("sessiond-node", "the-peer".parse().expect("ASCII"));
        (respond.send_response(response, false).expect("it is connected"), body)
    }
}

/// The trailers of an end.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).expect("it is encoded");
    trailers
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

/// An end that nobody but this node would think of.
pub fn strange_end() -> Status {
    let details = Bytes::from_static(b"\x08\x0d\x12\x05hello");
    let mut status = Status::with_details(Code::DataLoss, "so it is: 100 % \u{e9}", details);
    status.metadata_mut().insert("x-more", "of it".parse().expect("ASCII"));
    status
}

/// What a node says that does not have the app.
pub fn not_owner() -> Status {
    not_done("NOT_OWNER")
}

/// What a node says that has done nothing, for this reason.
pub fn not_done(reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "sessiond", HashMap::<String, String>::new());
    Status::with_error_details(Code::Unavailable, "it is not done here", details)
}

/// What a node says that does not take the one that calls for a node.
pub fn stranger() -> Status {
    let mut status = Status::unauthenticated("another secret");
    status.metadata_mut().insert("sessiond-node-unknown", "1".parse().expect("ASCII"));
    status
}
