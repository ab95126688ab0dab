//! Calls to services.

use super::{
    admission::Gate,
    nodes::{Before, Introduced, Peers, Place, Places, Sought, Together, Trust, Whole},
    part::{self, Part, bounded},
};
use crate::{
    engine::{self, Engine, EngineSettings, Peer},
    grpc::{
        self, Admin, Context, NODE_METADATA, compression,
        delivery::{
            self, CallHead, Via,
            ending::{Ending, Why},
            hot::HotStream,
        },
        error::Refusal,
    },
    identity::{Certificate, Grant, Shown},
    proto::{self, admin_service_server::AdminServiceServer},
    session::limits::{Micros, SECOND},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, codec::CompressionEncoding};
use tonic_health::pb::health_server::{Health, HealthServer};

/// Calls to services.
pub struct Router {
    context: Arc<Context>,
    node: HeaderValue,
    /// What answers here, unless it is another node's.
    here: Arc<Part>,
    /// The paths of all calls with one message up.
    one_up: HashSet<String>,
    /// The places of streams of reflection, of which there are few.
    reflections: Arc<Semaphore>,
    /// Which calls each thread takes up.
    gates: Vec<Arc<Gate>>,
    /// The node that answers what is sessiond's own; none = this one.
    elsewhere: Option<Elsewhere>,
    /// What a call gets that no thread takes up: made before, as there are many of them then.
    overloaded: Vec<HeaderMap>,
}

/// The path that all calls to sessions and streams begin with.
const OWN: &str = "/sessiond.v1.";

/// The path with which the calls of those who watch over the server begin.
const ADMIN: &str = "/sessiond.v1.AdminService/";

/// When clients that were refused because there is too much to do come again: the first, and the last.
const RETRY_OVERLOADED: (Micros, Micros) = (SECOND / 5, 2 * SECOND);

/// How many moments there are at which they do.
const OVERLOADED_WORDS: u64 = 64;

/// The path that all calls of reflection begin with.
const REFLECTION: &str = "/grpc.reflection.";

/// The services that reflection tells of; hooks are served by backends.
const SERVED: [&str; 6] = [
    "sessiond.v1.AdminService",
    "sessiond.v1.SessionService",
    "sessiond.v1.DeliveryService",
    "sessiond.v1.EventService",
    "sessiond.v1.ObjectStreamService",
    "grpc.health.v1.Health",
];

/// How many streams of reflection there may be, and bytes of a message of theirs up.
const MOST_REFLECTIONS: usize = 32;
const REFLECTION_BYTES: usize = 4096;

/// How a call is answered.
pub enum Way {
    /// By a hot stream.
    Hot(Arc<Grant>),
    /// By tonic.
    Cold(Arc<Grant>),
    /// By tonic, as a stream of reflection.
    Reflection,
    /// Not at all, for this reason.
    Refused(Response<Body>),
}

impl Router {
    /// All services; `health` comes from outside.
    pub fn new(context: Context, health: HealthServer<impl Health>) -> Self {
        let most = context.streams.max_request_bytes;
        let reflection = |own: &'static str| {
            let builder = tonic_reflection::server::Builder::configure();
            let builder = SERVED
                .into_iter()
                .chain([own])
                .fold(builder, |it, name| it.with_service_name(name));
            builder
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let admin = AdminServiceServer::new(Admin(Arc::new(context.clone())));
        let v1 = reflection("grpc.reflection.v1.ServerReflection")
            .build_v1()
            .expect("the descriptors are compiled in");
        let v1alpha = reflection("grpc.reflection.v1alpha.ServerReflection")
            .build_v1alpha()
            .expect("the descriptors are compiled in");
        let routes = part::services(&context)
            .add_service(bounded!(admin, most))
            .add_service(bounded!(health, most));
        let routes = match context.reflection {
            true => routes
                .add_service(bounded!(v1, most.min(REFLECTION_BYTES)))
                .add_service(bounded!(v1alpha, most.min(REFLECTION_BYTES))),
            false => routes,
        };
        let node = HeaderValue::from_str(&context.node.name);
        let node = node.unwrap_or(HeaderValue::from_static("sessiond"));
        let one_up = [proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let one_up = one_up.into_iter().flat_map(calls_with_one_message).collect();
        let reflections = Arc::new(Semaphore::new(MOST_REFLECTIONS));
        let EngineSettings { shards, .. } = *context.engine.settings();
        let is_timed = context.engine.clock().is_machine();
        let gates = (0..shards.max(1)).map(|_| Gate::new(is_timed)).collect();
        let (least, most) = RETRY_OVERLOADED;
        let overloaded = (0..OVERLOADED_WORDS).map(|at| {
            let retry_after = least + (most - least) * at / (OVERLOADED_WORDS - 1);
            let status = context.node.status(&Refusal::Overloaded { retry_after });
            status.into_http::<Body>().into_parts().0.headers
        });
        let overloaded = overloaded.collect();
        let context = Arc::new(context);
        let here = Arc::new(Part::new(context.clone(), routes, None));
        let elsewhere = None;
        Self { node, context, here, one_up, reflections, gates, elsewhere, overloaded }
    }

    /// The same where another node may answer what is sessiond's own, all of it.
    pub fn before(self, trust: &Trust, Before { owner, patience }: Before) -> Self {
        let places = Together::new(owner, self.here.clone());
        self.among(trust, Arc::new(places), patience)
    }

    /// The same where several nodes may answer what is sessiond's own, each what it has.
    pub fn among(self, trust: &Trust, places: Arc<dyn Places>, patience: Duration) -> Self {
        let peers = Peers::new(self.context.clone(), trust.clone());
        Self { elsewhere: Some(Elsewhere { peers, places, patience }), ..self }
    }

    /// What answers here what is no partition's.
    pub fn here(&self) -> &Arc<Part> {
        &self.here
    }

    /// The nodes that may answer a call; none = this one alone.
    fn elsewhere(&self, path: &str) -> Option<&Elsewhere> {
        self.elsewhere.as_ref().filter(|_| path.starts_with(OWN))
    }

    /// The clockwork.
    pub fn engine(&self) -> &Engine {
        &self.context.engine
    }

    /// Whether a call has one message up.
    pub fn takes_one_message(&self, path: &str) -> bool {
        self.one_up.contains(path)
    }

    /// Which calls with one reply a thread takes up; none = this call is always taken up. Those who
    /// watch over the server learn how it is, whatever it has to do.
    pub fn gate(&self, worker: usize, path: &str) -> Option<&Arc<Gate>> {
        let is_gated = path.starts_with(OWN) && !path.starts_with(ADMIN);
        self.gates.get(worker).filter(|_| is_gated)
    }

    /// The refusal of a call that a thread does not take up. Those that are refused together come
    /// again at different moments.
    pub fn overloaded(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = self.overloaded[fastrand::usize(..self.overloaded.len())].clone();
        response
    }

    /// The places of streams of reflection.
    pub fn reflections(&self) -> Arc<Semaphore> {
        self.reflections.clone()
    }

    /// The refusal of a stream of reflection where there are as many as there may be.
    pub fn too_many_reflections(&self) -> Response<Body> {
        let (limit, most) = ("streams of reflection", MOST_REFLECTIONS);
        self.refuse(&engine::Refusal::LimitReached { limit, most }.into()).into_http()
    }

    /// The server is stopping.
    pub fn stopping(&self) -> &CancellationToken {
        &self.context.stopping
    }

    /// The largest message up, in bytes.
    pub fn max_request_bytes(&self) -> usize {
        self.context.streams.max_request_bytes
    }

    /// A client that can be sent nothing for so long is given up.
    pub fn slow_limit(&self) -> Micros {
        self.context.streams.slow_limit
    }

    /// The first message has to be there after so long.
    pub fn first_message(&self) -> Micros {
        self.context.streams.first_message
    }

    /// The status of an end.
    pub fn end(&self, why: Why) -> Status {
        Ending::new(&self.context, why).status
    }

    /// The status of a refusal of a call that could not be read.
    pub fn refuse(&self, refusal: &Refusal) -> Status {
        self.context.node.status(refusal)
    }

    /// How a call is answered.
    pub fn way(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        shown: (Option<&Certificate>, &mut Shown),
        peer: Peer,
    ) -> Way {
        let admit = |now| self.context.entrance.admit(path, headers, shown, peer, now);
        self.way_of(method, path, headers, admit)
    }

    /// The same of a call that another node sends on, which says what its caller may do.
    pub fn way_introduced(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        grant: Grant,
    ) -> Way {
        let admit = |now| self.context.entrance.admit_introduced(path, grant, now);
        self.way_of(method, path, headers, admit)
    }

    fn way_of(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        admit: impl FnOnce(Micros) -> Result<Arc<Grant>, Refusal>,
    ) -> Way {
        let now = self.engine().clock().now();
        if method != Method::POST {
            Way::Refused(not_grpc(StatusCode::METHOD_NOT_ALLOWED))
        } else if !is_grpc(headers) {
            Way::Refused(not_grpc(StatusCode::UNSUPPORTED_MEDIA_TYPE))
        } else if let Err(status) = compression::check(headers, &self.context.node) {
            Way::Refused(status.into_http())
        } else if self.engine().is_starting() && path.starts_with(OWN) {
            Way::Refused(self.refuse(&engine::Refusal::Starting.into()).into_http())
        } else {
            match admit(now) {
                Err(refusal) => Way::Refused(self.refuse(&refusal).into_http()),
                Ok(grant) if delivery::serves(path) => Way::Hot(grant),
                Ok(_) if path.starts_with(REFLECTION) => Way::Reflection,
                Ok(grant) => Way::Cold(grant),
            }
        }
    }

    /// The stream of a call.
    pub fn stream(&self, head: CallHead) -> Box<dyn HotStream> {
        match self.elsewhere(&head.path) {
            None => self.here.stream(head),
            Some(Elsewhere { peers, places, patience }) => {
                Box::new(Sought::new(peers.clone(), (places.clone(), *patience), head))
            }
        }
    }

    /// The refusal of a call of an address that has as many as it may.
    pub fn too_many(&self, most: usize) -> Response<Body> {
        let limit = "max-streams-per-address";
        self.refuse(&engine::Refusal::LimitReached { limit, most }.into()).into_http()
    }

    /// What comes of a call with one message up, and with one down or some. It is over at its
    /// deadline, and the caller waits no longer.
    pub async fn call(
        &self,
        path: &str,
        deadline: Micros,
        request: Request<Body>,
    ) -> Response<Body> {
        let Some(Elsewhere { peers, places, patience }) = self.elsewhere(path) else {
            return self
                .reply_here(&self.here, path, request)
                .await
                .unwrap_or_else(|| self.not_owner());
        };
        let via = request.extensions().get().copied().unwrap_or(Via::Client);
        let (head, message) = request.into_parts();
        // It was read before, as a whole.
        let message = message.collect().await.map(|message| message.to_bytes());
        let message = message.unwrap_or_default();
        let is_gzip = compression::is_gzip(&head.headers);
        let app = grpc::app_of(path, &message, is_gzip, self.max_request_bytes());
        let app = (!path.starts_with(ADMIN)).then_some(&*app);
        let here = |part: Arc<Part>| {
            let request = Request::from_parts(head.clone(), Body::new(Full::new(message.clone())));
            async move { self.reply_here(&part, path, request).await }
        };
        match via {
            // A call that was sent on goes no further.
            Via::Node => match places.place(app) {
                Place::Here(part) => here(part).await.unwrap_or_else(|| self.not_owner()),
                Place::There(_) | Place::Nowhere => self.not_owner(),
            },
            Via::Client => {
                let caller = &Introduced::of_request(&head);
                let message = &message;
                let call = Whole { path, app, caller, message, deadline: Some(deadline) };
                peers.call_at((&**places, *patience), call, here).await
            }
        }
    }

    /// The reply of a part that is here; none = it is being handed over.
    async fn reply_here(
        &self,
        part: &Part,
        path: &str,
        request: Request<Body>,
    ) -> Option<Response<Body>> {
        part.call(request).await.map(|response| self.in_our_words(path, response))
    }

    fn not_owner(&self) -> Response<Body> {
        self.refuse(&Refusal::NotOwner).into_http()
    }

    /// Every response says who answers.
    pub fn finish<B>(&self, mut response: Response<B>) -> Response<B> {
        // Where another node has answered, it has said so itself.
        response.headers_mut().entry(NODE_METADATA).or_insert_with(|| self.node.clone());
        response
    }

    fn no_such_call(&self, path: &str) -> Response<Body> {
        self.refuse(&Refusal::NotImplemented { field: path.to_owned() }).into_http()
    }

    /// What tonic refuses has no details: a message over the size limit, OUT_OF_RANGE, or
    /// RESOURCE_EXHAUSTED if it is so once inflated; an unknown path; a body that it cannot read.
    fn in_our_words(&self, path: &str, response: Response<Body>) -> Response<Body> {
        let code = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
        let has_details = response.headers().contains_key("grpc-status-details-bin");
        match code {
            Some(b"8" | b"11") if !has_details => {
                let most = self.max_request_bytes();
                self.refuse(&Refusal::MessageTooLarge { most }).into_http()
            }
            Some(b"12") if !has_details => self.no_such_call(path),
            // What is not framed as gRPC says: no message, half a one, one that does not inflate.
            Some(b"13") if !has_details => {
                let status = Status::from_header_map(response.headers());
                let fault = status.map(|status| status.message().to_owned()).unwrap_or_default();
                self.refuse(&Refusal::Malformed(fault)).into_http()
            }
            _ => response,
        }
    }
}

/// Other nodes that answer calls.
struct Elsewhere {
    peers: Peers,
    places: Arc<dyn Places>,
    patience: Duration,
}

/// What a call gets that is none of gRPC.
fn not_grpc(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Whether a call is gRPC: `application/grpc`, alone or with what its messages are.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
}

/// The paths of the calls with one message up.
fn calls_with_one_message(descriptors: &[u8]) -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let mut paths = Vec::new();
    for file in files.file {
        for service in &file.service {
            let one_up = service.method.iter().filter(|it| !it.client_streaming());
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            paths.extend(one_up.map(|method| path(method.name())));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_with_one_message_up_are_told_from_the_others() {
        let paths = calls_with_one_message(proto::DESCRIPTORS);
        assert!(paths.iter().any(|path| path == "/sessiond.v1.SessionService/JoinSession"));
        assert!(paths.iter().all(|path| !path.ends_with("/StreamUserProps")));
        let health = calls_with_one_message(tonic_health::pb::FILE_DESCRIPTOR_SET);
        assert!(health.contains(&"/grpc.health.v1.Health/Check".to_owned()));
        assert!(health.contains(&"/grpc.health.v1.Health/Watch".to_owned()));
    }

    #[test]
    fn only_grpc_is_grpc() {
        let is = |kind: &'static str| {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
            is_grpc(&headers.into_iter().collect())
        };
        let grpc = ["application/grpc", "application/grpc+proto", "application/grpc; x=y"];
        assert!(grpc.into_iter().all(is));
        let others = ["application/json", "application/grpc-web", "text/plain", ""];
        assert!(!others.into_iter().any(is));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
