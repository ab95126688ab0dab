//! The streams, which are served past tonic: see [`hot`] and [`stream`].

mod acks;
mod backlog;
mod bundle;
mod compose;
mod ending;
mod feed;
mod feeds;
pub mod hot;
mod receive;
mod stream;
mod stream_user_props;
mod subscribe;
mod subscribe_to_streams;
mod timer;
mod usual;
mod wanted;

use super::{Context, compression, passwords};
use crate::grpc::error::Refusal;
use crate::session::limits::Micros;
use bytes::Bytes;
use hot::{Framing, HotBody, Refused};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use receive::ReceiveSessionUpdates;
use std::sync::Arc;
use stream::{Call, Opening, Stream};
use stream_user_props::StreamUserProps;
use subscribe::{SubscribeToSession, SubscribeToUser};
use subscribe_to_streams::SubscribeToStreams;
use tonic::Status;

/// What every stream needs, shared by all.
type Server = Arc<Context>;

/// Which connection a stream came over. All that its streams do at moments of their own is rung for
/// on the thread that serves it, and their acks at the same moments: so they are woken by nobody
/// else, and send together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seat {
    /// The thread, which ticks the shard of the same number.
    pub worker: usize,
    /// How many connections the thread had before.
    pub connection: u64,
}

/// Over how many parts of a tick the connections of a thread spread.
const PHASES: u64 = 64;

impl Seat {
    /// When the next tick ends, by a clock that is as late as the connection's part of a tick.
    fn tick_end(self, now: Micros, tick: Micros) -> Micros {
        let phase = self.connection % PHASES * tick / PHASES;
        (now - phase) / tick * tick + tick + phase
    }
}

/// The body of a stream's response.
pub type HotReply = UnsyncBoxBody<Bytes, Status>;

/// The path that all calls of `DeliveryService` begin with.
const PATH: &str = "/sessiond.v1.DeliveryService/";

/// The path of the stream of `ObjectStreamService`.
const SUBSCRIBE_TO_STREAMS: &str = "/sessiond.v1.ObjectStreamService/SubscribeToStreams";

/// The streams of `DeliveryService` that the server does not have yet.
const NOT_YET: [&str; 2] = ["Gateway", "WatchSessions"];

/// Whether a call is a stream.
pub fn serves(path: &str) -> bool {
    path.starts_with(PATH) || path == SUBSCRIBE_TO_STREAMS
}

/// Answers a call that is a stream; none if there is no such call.
pub fn serve<B>(server: &Arc<Context>, request: Request<B>) -> Option<Response<HotReply>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let path = request.uri().path();
    if path == SUBSCRIBE_TO_STREAMS {
        return Some(open::<SubscribeToStreams, _>(server, request));
    }
    let method = path.strip_prefix(PATH)?.to_owned();
    Some(match method.as_str() {
        "SubscribeToSession" => open::<SubscribeToSession, _>(server, request),
        "SubscribeToUser" => open::<SubscribeToUser, _>(server, request),
        "ReceiveSessionUpdates" => open::<ReceiveSessionUpdates, _>(server, request),
        "StreamUserProps" => open::<StreamUserProps, _>(server, request),
        method if NOT_YET.contains(&method) => {
            let refusal = Refusal::NotImplemented { field: method.to_owned() };
            let refused = Refused(server.node.status(&refusal));
            let framing = framing(server, request.headers());
            respond(HotBody::new(request.into_body(), refused, framing))
        }
        _ => return None,
    })
}

fn open<C: Call, B>(server: &Server, request: Request<B>) -> Response<HotReply>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    let (server, peer) = (server.clone(), passwords::peer(&parts.extensions));
    let seat = parts.extensions.get().copied().unwrap_or_default();
    let framing = framing(&server, &parts.headers);
    let opening = Opening { server, headers: parts.headers, peer, seat };
    respond(HotBody::new(body, Stream::<C>::new(opening), framing))
}

/// How the messages of a request are read.
fn framing(server: &Server, headers: &HeaderMap) -> Framing {
    Framing { most: server.streams.max_request_bytes, gzip: compression::is_gzip(headers) }
}

fn respond<B>(body: B) -> Response<HotReply>
where
    B: Body<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut response = Response::new(HotReply::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_a_tick_and_each_has_its_own_end_of_it() {
        const TICK: Micros = 10_000;
        let begin = 1_767_225_600_000_000;
        let ends = |connection| {
            let seat = Seat { worker: 0, connection };
            (begin..begin + 3 * TICK).map(move |now| (now, seat.tick_end(now, TICK)))
        };
        for connection in [0, 1, 63, 64, 1_000_001] {
            assert!(ends(connection).all(|(now, end)| (now + 1..=now + TICK).contains(&end)));
            let mut moments: Vec<_> = ends(connection).map(|(_, end)| end).collect();
            moments.dedup();
            assert!(moments.len() <= 4 && moments.windows(2).all(|it| it[1] - it[0] == TICK));
        }
        let first = |connection| ends(connection).next().map(|(_, end)| end);
        assert!((0..PHASES).all(|other| other == 5 || first(other) != first(5)));
    }
}
