//! The calls of object streams, which the server does not have yet.

use super::Context;
use crate::{
    proto::{self, object_stream_service_server::ObjectStreamService},
    session::error::Refusal,
};
use tokio_stream::Empty;
use tonic::{Request, Response, Status, async_trait};

/// Answers UNIMPLEMENTED.
#[derive(Debug)]
pub struct ObjectStreams(pub Context);

impl ObjectStreams {
    fn not_yet<T>(&self, call: &str) -> Result<Response<T>, Status> {
        Err(self.0.node.status(&Refusal::NotImplemented { field: call.to_owned() }))
    }
}

macro_rules! not_yet {
    ($($method:ident($request:ident) -> $response:ident: $call:literal;)*) => {
        #[async_trait]
        impl ObjectStreamService for ObjectStreams {
            type SubscribeToStreamsStream =
                Empty<Result<proto::SubscribeToStreamsResponse, Status>>;

            async fn subscribe_to_streams(
                &self,
                _: Request<proto::SubscribeToStreamsRequest>,
            ) -> Result<Response<Self::SubscribeToStreamsStream>, Status> {
                self.not_yet("SubscribeToStreams")
            }

            $(async fn $method(
                &self,
                _: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                self.not_yet($call)
            })*
        }
    };
}

not_yet! {
    set_stream(SetStreamRequest) -> SetStreamResponse: "SetStream";
    remove_stream(RemoveStreamRequest) -> RemoveStreamResponse: "RemoveStream";
    update_stream_data(UpdateStreamDataRequest) -> UpdateStreamDataResponse: "UpdateStreamData";
    set_stream_func(SetStreamFuncRequest) -> SetStreamFuncResponse: "SetStreamFunc";
    add_stream_func(AddStreamFuncRequest) -> AddStreamFuncResponse: "AddStreamFunc";
    get_stream_update(GetStreamUpdateRequest) -> GetStreamUpdateResponse: "GetStreamUpdate";
    get_all_stream_updates(GetAllStreamUpdatesRequest) -> GetAllStreamUpdatesResponse:
        "GetAllStreamUpdates";
}
