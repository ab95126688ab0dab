//! Connections: who speaks HTTP/2 and who does not, and what settings do to them.

use crate::support::*;
use bytes::Bytes;
use clap::Parser;
use sessiond::{
    config::{Config, Given, settings},
    proto::ListSessionsRequest,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};

async fn knock(service: &Service, greeting: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(service.address()).await.expect("it accepts");
    socket.write_all(greeting).await.expect("it takes it");
    let mut answer = Vec::new();
    let _ = in_time(socket.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn a_silent_peer_is_closed_after_the_handshake_timeout() {
    let service =
        Service::start_with(|config| config.handshake_timeout = Duration::from_secs(1)).await;
    let (silent, halting) = tokio::join!(knock(&service, b""), knock(&service, b"PRI * HTTP/2"));
    assert_eq!((silent.len(), halting.len()), (0, 0));
    service.is_fine().await;
}

/// The settings that this flag gives.
fn config_with(flag: String) -> Config {
    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        given: Given,
    }
    let line = CommandLine::try_parse_from(["serve".to_owned(), flag]).expect("flags");
    line.given.resolve().expect("they are in range").config
}

#[tokio::test]
async fn every_duration_serves_at_its_least_and_at_its_greatest() {
    for setting in settings().iter().filter(|setting| setting.value_name == "DURATION") {
        let (least, most) = setting.range.and_then(|range| range.split_once("..")).expect("ends");
        for end in [least, most] {
            let flag = format!("--{}={end}", setting.name);
            println!("{flag}");
            let config = config_with(flag);
            let tick = config.tick_interval.as_millis() as u64;
            let service = Service::start_with(|defaults| {
                *defaults =
                    Config { listen: defaults.listen.clone(), node: NODE.to_owned(), ..config };
            })
            .await;
            service.open_room("finals", "ada").await;
            let mut bob = service.watch_joining("finals", "bob").await;
            service.set("ada", [("x", int(1))]).await;
            service.advance(tick);
            while !matches!(bob.next().await, Step::Changes { .. }) {}
            assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(1))]));
        }
    }
}

#[tokio::test]
async fn a_client_of_http_1_is_told_what_this_is() {
    let service = Service::start().await;
    let answer = knock(&service, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await;
    let answer = String::from_utf8(answer).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("gRPC"), "{answer}");
    service.is_fine().await;
}

async fn call_with_body(service: &Service, path: &str, body: &[u8]) -> http::HeaderMap {
    call_encoded(service, path, None, body).await
}

/// Sends bytes as the body of a call, with a `grpc-encoding`, and returns the headers of the answer,
/// or its trailers.
pub async fn call_encoded(
    service: &Service,
    path: &str,
    encoding: Option<&str>,
    body: &[u8],
) -> http::HeaderMap {
    let socket = TcpStream::connect(service.address()).await.expect("it accepts");
    let (client, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut client = client.ready().await.expect("it is ready");
    let mut request = http::Request::post(format!("http://{}{path}", service.address()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    if let Some(encoding) = encoding {
        let encoding = encoding.parse().expect("a header");
        request.headers_mut().insert("grpc-encoding", encoding);
    }
    let (answer, mut up) = client.send_request(request, false).expect("it is sent");
    up.send_data(Bytes::copy_from_slice(body), true).expect("it is sent");
    let answer = in_time(answer).await.expect("it answers");
    assert_eq!(answer.headers()["sessiond-node"], NODE);
    if answer.headers().contains_key("grpc-status") {
        return answer.headers().clone();
    }
    let mut down = answer.into_body();
    while let Some(data) = in_time(down.data()).await {
        let data = data.expect("it goes on");
        let _ = down.flow_control().release_capacity(data.len());
    }
    in_time(down.trailers()).await.expect("it ends well").expect("it has trailers")
}

#[tokio::test]
async fn a_broken_body_is_a_malformed_message() {
    let service = Service::start().await;
    let bodies: [&[u8]; 5] =
        [&[], &[0, 0, 0], &[0, 0, 0, 0, 9, 0x0a], &[1, 0, 0, 0, 0], &[7, 0, 0, 0, 0]];
    let calls = [
        "SessionService/ListSessions",
        "DeliveryService/SubscribeToSession",
        "DeliveryService/StreamUserProps",
    ];
    for call in calls {
        for body in bodies {
            let trailers = call_with_body(&service, &format!("/sessiond.v1.{call}"), body).await;
            let status = Status::from_header_map(&trailers).expect("it has a status");
            let told = Refused::new(&status);
            assert_eq!(told.code, Code::InvalidArgument, "{call} {body:?} {told:?}");
            let reasons = ["MALFORMED_MESSAGE", "WRONG_FIRST_MESSAGE"];
            assert!(reasons.contains(&&*told.reason), "{call} {body:?} {told:?}");
        }
    }
    service.is_fine().await;
}

#[tokio::test]
async fn a_body_that_is_no_grpc_is_refused_over_http() {
    let service = Service::start().await;
    let socket = TcpStream::connect(service.address()).await.expect("it accepts");
    let (client, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut client = client.ready().await.expect("it is ready");
    let path = "/sessiond.v1.DeliveryService/SubscribeToSession";
    let request = http::Request::post(format!("http://{}{path}", service.address()))
        .header("content-type", "text/html")
        .body(())
        .expect("a request");
    let (answer, _) = client.send_request(request, true).expect("it is sent");
    let answer = in_time(answer).await.expect("it answers");
    assert_ne!(
        answer.headers().get("grpc-status").map(http::HeaderValue::as_bytes),
        Some(&b"0"[..])
    );
    assert_eq!(answer.headers()["sessiond-node"], NODE);
    service.is_fine().await;
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_streams_along() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let other = service.connect().await;
    let mut delivery = sessiond::proto::delivery_service_client::DeliveryServiceClient::new(other);
    let request = sessiond::proto::SubscribeToSessionRequest {
        join: Some(Default::default()),
        ..subscription("finals", "bob")
    };
    let mut bob =
        delivery.subscribe_to_session(sent(request)).await.expect("it begins").into_inner();
    in_time(bob.message()).await.expect("the snapshot");
    service.tick();
    ada.next_changes().await;
    drop(bob);
    drop(delivery);
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
    let _ = service.try_list(ListSessionsRequest::default()).await.expect("it is fine");
}

#[tokio::test]
async fn a_stream_that_is_cancelled_leaves_nothing_on_the_lists_of_the_shards() {
    let service = Service::with_room().await;
    service.tick();
    let jobs = || service.engine().footprint().jobs;
    let before = jobs();
    let streams: Vec<_> = {
        let mut streams = Vec::new();
        for _ in 0..200 {
            streams.push(service.watch("finals", "").await);
        }
        streams
    };
    assert!(jobs() >= before + 200, "each has a heartbeat before it");
    drop(streams);
    in_time(async {
        while jobs() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
