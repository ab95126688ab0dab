//! Compressed requests: gzip is read everywhere, within the limit that holds for every message.

use crate::{connections::call_encoded, support::*};
use bytes::BufMut;
use flate2::{Compression, write::GzEncoder};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sessiond::{
    config::Config,
    proto::{
        self, ListSessionsRequest, StreamUserPropsRequest, SubscribeToSessionRequest,
        object_stream_service_client::ObjectStreamServiceClient,
        stream_user_props_request::Message as Up,
    },
};
use std::io::Write;
use tonic::{Code, Request, Status, codec::CompressionEncoding::Gzip};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

/// A unary call that tonic serves, and streams that it does not.
const CALLS: [&str; 3] = [
    "/sessiond.v1.SessionService/ListSessions",
    "/sessiond.v1.DeliveryService/SubscribeToSession",
    "/sessiond.v1.DeliveryService/StreamUserProps",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

/// Bytes as a message whose flag says that it is compressed.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![1];
    framed.put_u32(bytes.len() as u32);
    framed.put_slice(bytes);
    framed
}

/// A message of so many bytes, in a field that no message has.
fn padding(bytes: usize) -> Vec<u8> {
    let mut message = Vec::new();
    encode_key(15_000, WireType::LengthDelimited, &mut message);
    let length = (1..=4).map(|it| bytes - message.len() - it);
    let length = length.zip(1..).find(|(length, size)| encoded_len_varint(*length as u64) == *size);
    encode_varint(length.expect("a length that fits").0 as u64, &mut message);
    message.resize(bytes, 0);
    message
}

/// The refusal of a compressed body; none = the call succeeds.
async fn outcome(
    service: &Service,
    call: &str,
    encoding: Option<&str>,
    body: &[u8],
) -> Option<Refused> {
    let trailers = call_encoded(service, call, encoding, body).await;
    let status = Status::from_header_map(&trailers).expect("it has a status");
    (status.code() != Code::Ok).then(|| Refused::new(&status))
}

#[tokio::test]
async fn every_unary_call_reads_gzip_and_answers_without() {
    let service = Service::with_room().await;
    macro_rules! answers {
        ($client:ty, $call:ident($request:expr)) => {
            let client = <$client>::new(service.channel());
            let mut client = client.send_compressed(Gzip).accept_compressed(Gzip);
            let answer = in_time(client.$call($request)).await.expect("it is read");
            assert_eq!(answer.metadata().get("grpc-encoding"), None, stringify!($call));
        };
    }
    type Sessions<T> = proto::session_service_client::SessionServiceClient<T>;
    type Reflection<T> = v1::server_reflection_client::ServerReflectionClient<T>;
    type OldReflection<T> = v1alpha::server_reflection_client::ServerReflectionClient<T>;
    let list = ListSessionsRequest { user_id: "ada".to_owned(), ..Default::default() };
    answers!(Sessions<_>, list_sessions(list));
    let stream = proto::SetStreamRequest { user_id: "ada".to_owned(), ..Default::default() };
    answers!(ObjectStreamServiceClient<_>, set_stream(stream));
    answers!(HealthClient<_>, check(HealthCheckRequest::default()));
    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    answers!(Reflection<_>, server_reflection_info(tokio_stream::once(ask)));
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    answers!(OldReflection<_>, server_reflection_info(tokio_stream::once(ask)));
}

#[tokio::test]
async fn every_stream_reads_gzip() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = stream_open("finals", "bob");
    bob.subscriptions[0].join = Some(Default::default());
    let write = write([("text", text("x".repeat(10_000)))]).in_session("finals");
    let messages = [Up::Open(bob), Up::Write(write)];
    let messages = messages.into_iter().zip(1..);
    let messages: Vec<_> = messages
        .map(|(message, seq)| StreamUserPropsRequest { seq, message: Some(message) })
        .collect();
    let up = tokio_stream::StreamExt::chain(
        tokio_stream::iter(messages),
        tokio_stream::pending::<StreamUserPropsRequest>(),
    );
    let mut delivery = service.delivery().send_compressed(Gzip).accept_compressed(Gzip);
    let down = in_time(delivery.stream_user_props(Request::new(up))).await.expect("it opens");
    assert_eq!(down.metadata().get("grpc-encoding"), None);
    service.tick_until(&mut ada, |it| it.knows("bob") && !it.props("bob").is_empty()).await;

    let subscription = SubscribeToSessionRequest { ..subscription("finals", "bob") };
    let down = in_time(delivery.subscribe_to_session(subscription)).await.expect("it opens");
    let first = in_time(down.into_inner().message()).await.expect("it goes on");
    assert!(first.is_some());
}

#[tokio::test]
async fn a_message_is_measured_once_it_is_inflated() {
    let service = Service::start().await;
    let most = Config::default().max_request_bytes;
    for call in CALLS {
        let body = |bytes: usize| framed(&gzip(&padding(bytes)));
        let within = outcome(&service, call, Some("gzip"), &body(most)).await;
        let reason = within.map(|refused| refused.reason);
        // It is read, and says nothing: a stream wants to be told more.
        let unread = ["MESSAGE_TOO_LARGE", "MALFORMED_MESSAGE"];
        assert!(reason.as_ref().is_none_or(|it| !unread.contains(&&**it)), "{call}: {reason:?}");
        for bytes in [most + 1, 60 << 20] {
            let over =
                outcome(&service, call, Some("gzip"), &body(bytes)).await.expect("too large");
            let told = (over.code, &*over.reason);
            assert_eq!(told, (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{call}: {bytes}");
        }
    }
    service.is_fine().await;
}

#[tokio::test]
async fn what_does_not_inflate_is_malformed() {
    let service = Service::start().await;
    let whole = gzip(&padding(1000));
    let cut = &whole[..whole.len() - 9];
    let bodies = [framed(b"this is no gzip"), framed(b""), framed(cut)];
    for call in CALLS {
        let without = [(None, framed(&whole)), (Some("identity"), framed(&whole))];
        let with = bodies.iter().map(|body| (Some("gzip"), body.clone()));
        for (encoding, body) in without.into_iter().chain(with) {
            let refused = outcome(&service, call, encoding, &body).await.expect("malformed");
            let told = (refused.code, &*refused.reason);
            let case = format!("{call} in {encoding:?}: {body:?}");
            assert_eq!(told, (Code::InvalidArgument, "MALFORMED_MESSAGE"), "{case}");
        }
    }
    service.is_fine().await;
}

#[tokio::test]
async fn an_unknown_encoding_is_unimplemented_and_told_the_known_ones() {
    let service = Service::start().await;
    for call in CALLS.into_iter().chain(["/grpc.health.v1.Health/Check"]) {
        for encoding in ["zstd", "deflate", "GZIP", "gzip, gzip"] {
            let trailers = call_encoded(&service, call, Some(encoding), &[0; 5]).await;
            assert_eq!(trailers["grpc-accept-encoding"], "identity,gzip", "{call} {encoding}");
            let status = Status::from_header_map(&trailers).expect("it has a status");
            let told = Refused::new(&status);
            assert_eq!((told.code, &*told.reason), (Code::Unimplemented, "NOT_IMPLEMENTED"));
            assert!(status.message().contains(encoding), "{status:?}");
        }
    }
}
