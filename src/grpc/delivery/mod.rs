//! The streams. Those that carry frames are served past tonic: see [`hot`]. Those of objects are
//! served by tonic.

mod bundle;
mod compose;
mod feed;
pub mod hot;
mod opening;
mod receive;
mod stream_user_props;
mod subscribe;
pub mod subscribe_to_streams;
mod usual;

use super::{Context, compression, passwords};
use crate::session::error::Refusal;
use bytes::Bytes;
use hot::{Framing, HotBody, Refused};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use opening::Opening;
use receive::ReceiveSessionUpdates;
use std::sync::Arc;
use stream_user_props::StreamUserProps;
use subscribe::Subscribe;
use tonic::Status;

/// What every stream needs, shared by all.
type Server = Arc<Context>;

/// The body of a stream's response.
pub type HotReply = UnsyncBoxBody<Bytes, Status>;

/// The path that all calls of `DeliveryService` begin with.
pub const PATH: &str = "/sessiond.v1.DeliveryService/";

/// The streams of `DeliveryService` that the server does not have yet.
const NOT_YET: [&str; 2] = ["Gateway", "WatchSessions"];

/// Answers a call of `DeliveryService`; none if there is no such call.
pub fn serve<B>(server: &Arc<Context>, request: Request<B>) -> Option<Response<HotReply>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let method = request.uri().path().strip_prefix(PATH)?.to_owned();
    let (parts, body) = request.into_parts();
    let server = server.clone();
    let most = server.streams.max_request_bytes;
    let framing = Framing { most, gzip: compression::is_gzip(&parts.headers) };
    let peer = passwords::peer(&parts.extensions);
    Some(match method.as_str() {
        "SubscribeToSession" => {
            let stream = Subscribe::to_session(server.clone(), parts.headers);
            respond(HotBody::new(body, Opening::new(stream, server, peer), framing))
        }
        "SubscribeToUser" => {
            respond(HotBody::new(body, Subscribe::to_user(server, parts.headers), framing))
        }
        "ReceiveSessionUpdates" => {
            respond(HotBody::new(body, ReceiveSessionUpdates::new(server, parts.headers), framing))
        }
        "StreamUserProps" => {
            let stream = StreamUserProps::new(server.clone(), parts.headers);
            respond(HotBody::new(body, Opening::new(stream, server, peer), framing))
        }
        method if NOT_YET.contains(&method) => {
            let refusal = Refusal::NotImplemented { field: method.to_owned() };
            respond(HotBody::new(body, Refused(server.node.status(&refusal)), framing))
        }
        _ => return None,
    })
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
