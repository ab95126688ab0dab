//! What answers calls about some apps: an engine with their sessions and streams, and the services
//! before it. A server that is alone has one, a node of a cluster one for each partition that it owns.

use super::{cluster::Tenure, nodes};
use crate::{
    grpc::{
        Context, ObjectStreams, Sessions, delivery, delivery::CallHead, delivery::hot,
        error::Refusal,
    },
    proto::{
        object_stream_service_server::ObjectStreamServiceServer,
        session_service_server::SessionServiceServer,
    },
};
use hot::{HotStream, Refused};
use http::{Request, Response};
use std::{fmt, sync::Arc};
use tonic::{Code, Status, body::Body, codec::CompressionEncoding, service::Routes};
use tonic_types::StatusExt;
use tower::ServiceExt;

/// The reason of a refusal by an engine that is about to stop.
const DRAINING: &str = "DRAINING";

/// What answers calls about some apps.
pub struct Part {
    context: Arc<Context>,
    routes: Routes,
    /// In a cluster: as long as the partition is this node's.
    tenure: Option<Arc<Tenure>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("tenure", &self.tenure).finish_non_exhaustive()
    }
}

/// A service with the bounds of all: they hold before and after a message is inflated.
macro_rules! bounded {
    ($service:expr, $most:expr) => {
        $service.max_decoding_message_size($most).accept_compressed(CompressionEncoding::Gzip)
    };
}
pub(super) use bounded;

/// The services about sessions and object streams.
pub fn services(context: &Context) -> Routes {
    let most = context.streams.max_request_bytes;
    let sessions = SessionServiceServer::new(Sessions(context.clone()));
    let streams = ObjectStreamServiceServer::new(ObjectStreams::new(context.clone()));
    Routes::new(bounded!(sessions, most)).add_service(bounded!(streams, most))
}

impl Part {
    /// What these services answer.
    pub fn new(context: Arc<Context>, routes: Routes, tenure: Option<Arc<Tenure>>) -> Self {
        Self { context, routes: routes.prepare(), tenure }
    }

    /// Whether calls may come.
    pub fn is_open(&self) -> bool {
        self.tenure.as_ref().is_none_or(|tenure| tenure.is_open())
    }

    /// The reply to a call with one message up. None = the partition is being handed over and nothing of
    /// the call was done: another node will do it.
    pub async fn call(&self, request: Request<Body>) -> Option<Response<Body>> {
        let reply = self.routes.clone().oneshot(request);
        let Some(tenure) = &self.tenure else {
            return Some(reply.await.unwrap_or_else(|never| match never {}));
        };
        let response = tokio::select! {
            biased;
            response = reply => response.unwrap_or_else(|never| match never {}),
            // What it waits for may never be stored here.
            () = tenure.lapsed_for(nodes::PATIENCE) => {
                return Some(nodes::lost(&self.context, false).into_http());
            }
        };
        if tenure.is_given() && is_draining(&response) {
            return None;
        }
        if !tenure.holds() {
            // What was done may be undone: another node may own the partition, and know nothing of it.
            return Some(nodes::lost(&self.context, false).into_http());
        }
        Some(response)
    }

    /// The stream of a call.
    pub fn stream(&self, head: CallHead) -> Box<dyn HotStream> {
        let refusal = Refusal::NotImplemented { field: head.path.clone() };
        let stream = delivery::stream(&self.context, head);
        let Some(stream) = stream else {
            return Box::new(Refused(self.context.node.status(&refusal)));
        };
        match &self.tenure {
            None => stream,
            Some(tenure) => Box::new(tenure.guard(stream, nodes::lost(&self.context, true))),
        }
    }
}

fn is_draining(response: &Response<Body>) -> bool {
    let status = Status::from_header_map(response.headers());
    status.is_some_and(|status| {
        let reason = || status.get_details_error_info().is_some_and(|info| info.reason == DRAINING);
        status.code() == Code::Unavailable && reason()
    })
}
