//! Calls that are no calls, and calls that set themselves a time.

use crate::{
    honest::ROOM,
    server::{PATIENCE, Server},
    windows::subscription,
    wire::{INITIAL_WINDOW_SIZE, Peer, framed},
};
use bytes::Bytes;
use http::HeaderMap;
use sessiond::proto::{
    GetSessionInfoRequest, ListSessionsRequest, PropsWrite, SessionSettings, SetUserPropsRequest,
    Value, value::Kind,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const LIST: &str = "SessionService/ListSessions";
const INFO: &str = "SessionService/GetSessionInfo";
const SUBSCRIBE: &str = "DeliveryService/SubscribeToSession";
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";

/// What came back of a call.
#[derive(Debug)]
struct Answer {
    http: u16,
    /// The status of gRPC, if there is one.
    status: String,
    message: String,
    /// Whether a message came before it.
    has_body: bool,
    took: Duration,
}

/// Makes a call with these headers and this body.
fn call(server: &Server, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let begin = Instant::now();
    let answer = runtime.expect("a runtime").block_on(async {
        let exchange = exchange(server, path, headers, body);
        tokio::time::timeout(PATIENCE, exchange).await.expect("it answers")
    });
    let (http, trailers, has_body) = answer.expect("it speaks HTTP/2");
    let text = |name: &str| {
        let value = trailers.get(name).map(|value| value.to_str().expect("text").to_owned());
        value.unwrap_or_default()
    };
    let (status, message) = (text("grpc-status"), text("grpc-message"));
    Answer { http, status, message, has_body, took: begin.elapsed() }
}

async fn exchange(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(u16, HeaderMap, bool), h2::Error> {
    let socket = crate::line::connect(server.address).await.expect("it accepts");
    let (client, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    let mut request = http::Request::post(format!("http://attacked/sessiond.v1.{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut up) = client.send_request(request.body(()).expect("a request"), false)?;
    up.send_data(Bytes::from(body), true)?;
    let answer = answer.await?;
    let http = answer.status().as_u16();
    if answer.headers().contains_key("grpc-status") {
        return Ok((http, answer.headers().clone(), false));
    }
    let mut down = answer.into_body();
    let mut has_body = false;
    while let Some(data) = down.data().await {
        let data = data?;
        has_body |= !data.is_empty();
        let _ = down.flow_control().release_capacity(data.len());
    }
    Ok((http, down.trailers().await?.unwrap_or_default(), has_body))
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn a_listing() -> Vec<u8> {
    framed(&ListSessionsRequest { user_id: "ada".to_owned(), ..Default::default() })
}

#[test]
fn what_is_no_grpc_is_told_so_over_http() {
    let server = Server::start(&[]);
    let subscribing = framed(&subscription(ROOM));
    for (path, body) in [(LIST, a_listing()), (SUBSCRIBE, subscribing)] {
        for kind in [Some("application/json"), Some("application/grpcx"), Some("text/html"), None] {
            let header: Vec<_> = kind.iter().map(|kind| ("content-type", *kind)).collect();
            let answer = call(&server, path, &header, body.clone());
            assert_eq!((answer.http, &*answer.status), (415, ""), "{path} {kind:?}: {answer:?}");
        }
    }
    for kind in ["application/grpc", "application/grpc+proto"] {
        let answer = call(&server, LIST, &[("content-type", kind)], a_listing());
        assert_eq!((answer.http, &*answer.status), (200, "0"), "{kind}: {answer:?}");
    }
}

#[test]
fn a_unary_call_has_one_message() {
    let server = Server::start(&[]);
    let two = [a_listing(), a_listing()].concat();
    let one_and_a_half = [a_listing(), vec![0, 0, 0]].concat();
    for (name, body) in [("none", Vec::new()), ("two", two), ("one and a half", one_and_a_half)] {
        let answer = call(&server, LIST, &[GRPC], body);
        assert_eq!(answer.status, INVALID_ARGUMENT, "{name}: {answer:?}");
        assert!(!answer.has_body && !answer.message.is_empty(), "{name}: {answer:?}");
    }
}

#[test]
fn a_call_ends_when_its_time_is_over() {
    let server = Server::start(&[]);
    let tick_interval = Some(Duration::from_secs(60).try_into().expect("a minute"));
    server.open_room(ROOM, SessionSettings { tick_interval, ..Default::default() });
    let join = crate::server::joining(ROOM, "ada");
    server.ask(async |mut client| client.join_session(join).await).expect("a member");
    let mut subscribing = subscription(ROOM);
    subscribing.user_id = "ada".to_owned();
    for (limit, takes) in [("50m", 50), ("400000u", 400)] {
        let takes = Duration::from_millis(takes);
        let timed = [GRPC, ("grpc-timeout", limit)];
        let subscribed = call(&server, SUBSCRIBE, &timed, framed(&subscribing));
        let read_late = || call(&server, INFO, &timed, framed(&reading_of_a_write(&server)));
        // The minute may just be over. Then the next has begun.
        let read = Some(read_late()).filter(|read| read.status != "0").unwrap_or_else(read_late);
        for (path, answer) in [(SUBSCRIBE, subscribed), (INFO, read)] {
            assert_eq!(answer.status, DEADLINE_EXCEEDED, "{path} {limit}: {answer:?}");
            let span = takes..takes + Duration::from_secs(1);
            assert!(span.contains(&answer.took), "{path} {limit}: {answer:?}");
        }
    }
}

/// Writes, and returns the request that waits until that is shown.
fn reading_of_a_write(server: &Server) -> GetSessionInfoRequest {
    let write = PropsWrite {
        set: BTreeMap::from([("x".to_owned(), Value { kind: Some(Kind::Flag(true)) })]),
        session_ids: vec![ROOM.to_owned()],
        ..Default::default()
    };
    let user_id = "ada".to_owned();
    let write = SetUserPropsRequest { user_id, write: Some(write), ..Default::default() };
    let written = server.ask(async |mut client| client.set_user_props(write).await);
    GetSessionInfoRequest {
        session_id: ROOM.to_owned(),
        user_id: "ada".to_owned(),
        min_position: written.expect("it is written").results.remove(0).position,
        ..Default::default()
    }
}

#[test]
fn a_stream_whose_time_is_over_ends_without_a_window() {
    let server = Server::start(&[]);
    server.open_room(ROOM, SessionSettings::default());
    let mut peer = Peer::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
    let more = [("sessiond-as", "app"), ("grpc-timeout", "50m")];
    let stream = peer.call(SUBSCRIBE, &more, &subscription(ROOM));
    let ended = peer.read_until(Duration::from_secs(2), |peer| peer.has_ended(stream));
    assert!(ended && !peer.is_closed, "the stream ends, not the connection");
}
