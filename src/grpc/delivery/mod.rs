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
use crate::session::error::Refusal;
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
    let framing = framing(&server, &parts.headers);
    let opening = Opening { server, headers: parts.headers, peer };
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
