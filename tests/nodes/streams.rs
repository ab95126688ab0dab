//! Streams that are sent on: both ends hear of each other, and what waits in between is bounded.

use super::{
    peer::{Peer, framed, not_owner, strange_end, trailers},
    support::{Front, Raw, config, delay, in_time, reason},
};
use bytes::Bytes;
use sessiond::config::Config;
use std::{
    future::poll_fn,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tonic::{Code, Status};

const SUBSCRIBE: &str = "/sessiond.v1.DeliveryService/SubscribeToSession";
const PROPS: &str = "/sessiond.v1.DeliveryService/StreamUserProps";
const GATEWAY: &str = "/sessiond.v1.DeliveryService/Gateway";

/// The window of a stream.
const WINDOW: usize = 64 * 1024;

/// How long it is looked whether more goes on.
const GLANCE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn bytes_go_both_ways_as_they_are_and_the_end_comes_as_it_was_sent() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(PROPS, &[("grpc-encoding", "gzip")]).await;
    // Compressed, if one believes its prefix.
    let sent = [framed(b"one"), Bytes::from_static(b"\x01\0\0\0\x03abc"), framed(b"")].concat();
    for piece in sent.chunks(3) {
        up.send_data(Bytes::copy_from_slice(piece), false).expect("it is connected");
    }
    let call = peer.call().await;
    assert_eq!(call.head.headers["grpc-encoding"], "gzip");
    let (mut down, mut body) = call.begin();
    let mut came = Vec::new();
    while came.len() < sent.len() {
        came.extend(in_time(body.data()).await.expect("more comes").expect("it is connected"));
    }
    assert_eq!(came, sent);
    let mut answer = in_time(response).await.expect("it is open").into_body();
    for piece in sent.chunks(4) {
        down.send_data(Bytes::copy_from_slice(piece), false).expect("it is connected");
    }
    let mut came = Vec::new();
    while came.len() < sent.len() {
        came.extend(in_time(answer.data()).await.expect("more comes").expect("it is connected"));
    }
    assert_eq!(came, sent);
    up.send_data(Bytes::new(), true).expect("it is connected");
    while let Some(data) = in_time(body.data()).await {
        assert!(data.expect("it is connected").is_empty(), "the client has closed its side");
    }
    down.send_trailers(trailers(&strange_end())).expect("it is connected");
    assert!(in_time(answer.data()).await.is_none());
    let trailers = in_time(answer.trailers()).await.expect("they come").expect("they come");
    assert_eq!(trailers["sessiond-node"], "the-peer");
    let end = Status::from_header_map(&trailers).expect("a status");
    assert_eq!((end.code(), end.message()), (strange_end().code(), strange_end().message()));
    assert_eq!(end.details(), strange_end().details());
    assert_eq!(trailers["x-more"], "of it");
}

#[tokio::test]
async fn a_client_that_goes_is_gone_at_the_other_node() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    for is_closed in [false, true] {
        let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
        let (response, mut up) = raw.call(SUBSCRIBE, &[]).await;
        up.send_data(framed(b"it"), is_closed).expect("it is connected");
        let (mut down, mut body) = peer.call().await.begin();
        in_time(body.data()).await.expect("it comes").expect("it is connected");
        drop((response, up, raw));
        let reset = in_time(poll_fn(|cx| down.poll_reset(cx))).await;
        assert_eq!(reset.expect("it is reset"), h2::Reason::CANCEL);
    }
}

#[tokio::test]
async fn a_stream_that_is_lost_ends_with_a_delay_and_one_that_was_not_taken_up_says_so() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let mut stream = front.watch("hall").await;
    let (_down, _body) = peer.call().await.begin();
    peer.die();
    let status = in_time(stream.message()).await.expect_err("it is lost");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NODE_LOST"));
    assert!(status.message().contains("connect again") && delay(&status).is_some());
    let mut stream = front.watch("hall").await;
    peer.call().await.refuse_stream();
    let status = in_time(stream.message()).await.expect_err("it was not taken up");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
}

#[tokio::test]
async fn what_was_said_before_the_node_was_lost_still_arrives() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(SUBSCRIBE, &[]).await;
    up.send_data(framed(b"it"), true).expect("it is connected");
    let (mut down, _body) = peer.call().await.begin();
    let mut answer = in_time(response).await.expect("it is open").into_body();
    down.send_data([framed(b"whole"), framed(b"half").slice(..6)].concat().into(), false)
        .expect("it is connected");
    let data = in_time(answer.data()).await.expect("it comes").expect("it is connected");
    assert_eq!(data, framed(b"whole"));
    peer.die();
    assert!(in_time(answer.data()).await.is_none(), "half a message is none");
    let trailers = in_time(answer.trailers()).await.expect("they come").expect("they come");
    let status = Status::from_header_map(&trailers).expect("a status");
    assert_eq!(&*reason(&status), "NODE_LOST");
}

/// Sends one message again and again, from where it was, until nothing more is taken; how much that
/// was.
async fn fill(
    send: &mut h2::SendStream<Bytes>,
    message: &Bytes,
    rest: &mut Bytes,
    most: usize,
) -> usize {
    let mut sent = 0;
    while sent < most {
        if rest.is_empty() {
            *rest = message.clone();
        }
        send.reserve_capacity(rest.len());
        let capacity = match send.capacity() {
            0 => match timeout(GLANCE, poll_fn(|cx| send.poll_capacity(cx))).await {
                Err(_) => return sent,
                Ok(capacity) => capacity.expect("it is open").expect("it is connected"),
            },
            capacity => capacity,
        };
        let piece = rest.split_to(capacity.min(rest.len()));
        sent += piece.len();
        send.send_data(piece, false).expect("it is connected");
    }
    sent
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_other_node_back() {
    const MOST: usize = 64 << 20;
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(SUBSCRIBE, &[]).await;
    up.send_data(framed(b"it"), true).expect("it is connected");
    let (mut down, _body) = peer.call().await.begin();
    let mut answer = in_time(response).await.expect("it is open").into_body();
    let message = framed(&[7; 10_000]);
    let mut rest = Bytes::new();
    let sent = fill(&mut down, &message, &mut rest, MOST).await;
    // Its own window, that between the nodes, and the message between them.
    assert!(sent <= 2 * WINDOW + 2 * message.len(), "{sent} bytes");
    assert!(sent >= WINDOW, "{sent} bytes");
    // Others are not held up.
    let (other, mut other_up) = raw.call(SUBSCRIBE, &[]).await;
    other_up.send_data(framed(b"it"), true).expect("it is connected");
    let (mut other_down, _other_body) = peer.call().await.begin();
    other_down.send_data(framed(b"news"), false).expect("it is connected");
    let mut other = in_time(other).await.expect("it is open").into_body();
    assert_eq!(in_time(other.data()).await.expect("it comes").expect("it is"), framed(b"news"));
    // It reads again, and everything goes on.
    let read = async {
        let mut read = 0;
        while read < 4 * sent {
            let data = answer.data().await.expect("more comes").expect("it is connected");
            read += data.len();
            answer.flow_control().release_capacity(data.len()).expect("it was taken");
        }
    };
    in_time(async { tokio::join!(read, fill(&mut down, &message, &mut rest, 5 * sent)) }).await;
}

#[tokio::test]
async fn a_stream_that_was_not_taken_up_goes_to_the_next_node_with_all_that_was_sent() {
    let mut peer = Peer::start().await;
    let front = Front::patient(config("the-front"), peer.address, Duration::from_secs(8)).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(PROPS, &[]).await;
    up.send_data([framed(b"first"), framed(b"second")].concat().into(), false).expect("it is");
    let (mut down, mut body) = peer.call().await.begin();
    assert_eq!(read(&mut body, 21).await, [framed(b"first"), framed(b"second")].concat());
    down.send_trailers(trailers(&not_owner())).expect("it is connected");
    peer.call().await.refuse_stream();
    up.send_data(framed(b"third"), false).expect("it is connected");
    let (mut down, mut body) = peer.call().await.begin();
    let all = [framed(b"first"), framed(b"second"), framed(b"third")].concat();
    assert_eq!(read(&mut body, all.len()).await, all);
    // Once something has come down it was taken up.
    down.send_data(framed(b"news"), false).expect("it is connected");
    let mut answer = in_time(response).await.expect("it is open").into_body();
    assert_eq!(in_time(answer.data()).await.expect("it comes").expect("it is"), framed(b"news"));
    down.send_trailers(trailers(&not_owner())).expect("it is connected");
    assert!(in_time(answer.data()).await.is_none());
    let trailers = in_time(answer.trailers()).await.expect("they come").expect("they come");
    assert_eq!(reason(&Status::from_header_map(&trailers).expect("a status")), "NOT_OWNER");
    assert!(peer.is_idle());
}

/// Reads so many bytes.
async fn read(body: &mut h2::RecvStream, bytes: usize) -> Vec<u8> {
    let mut came = Vec::new();
    while came.len() < bytes {
        came.extend(in_time(body.data()).await.expect("more comes").expect("it is connected"));
    }
    came
}

#[tokio::test]
async fn a_client_that_never_reads_is_ended_at_the_slow_limit() {
    let mut peer = Peer::start().await;
    let config = Config { slow_limit: Duration::from_secs(1), ..config("the-front") };
    let front = Front::with(config, peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(SUBSCRIBE, &[]).await;
    up.send_data(framed(b"it"), true).expect("it is connected");
    let (mut down, _body) = peer.call().await.begin();
    let mut answer = in_time(response).await.expect("it is open").into_body();
    let message = framed(&[7; 10_000]);
    let began = Instant::now();
    fill(&mut down, &message, &mut Bytes::new(), 64 << 20).await;
    let reset = in_time(poll_fn(|cx| down.poll_reset(cx))).await;
    assert_eq!(reset.expect("the other node hears of it"), h2::Reason::CANCEL);
    assert!(began.elapsed() < Duration::from_secs(5));
    // Its window ends in the middle of a message.
    let error = loop {
        match in_time(answer.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a message was cut in half"),
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_node_that_does_not_read_holds_the_client_back() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    for (path, window, bytes) in [(PROPS, WINDOW, 10_000), (GATEWAY, 1_049_600, 1 << 20)] {
        let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
        let (_response, mut up) = raw.call(path, &[]).await;
        let message = framed(&vec![7; bytes]);
        let mut rest = Bytes::new();
        let fill = fill(&mut up, &message, &mut rest, 64 << 20);
        let (sent, (_down, _body)) = tokio::join!(fill, async { peer.call().await.begin() });
        // The window here and that of the other node, which h2 has at 65,535 bytes.
        assert!(sent <= 2 * window + message.len() + WINDOW, "{path}: {sent} bytes");
        assert!(sent >= window, "{path}: {sent} bytes");
    }
}

#[tokio::test]
async fn messages_of_a_mebibyte_go_through_in_both_directions() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (response, mut up) = raw.call(GATEWAY, &[]).await;
    let message = framed(&vec![7; 1 << 20]);
    up.send_data(message.clone(), false).expect("it is connected");
    let (mut down, mut body) = peer.call().await.begin();
    let mut came = 0;
    while came < message.len() {
        let data = in_time(body.data()).await.expect("more comes").expect("it is connected");
        came += data.len();
        body.flow_control().release_capacity(data.len()).expect("it was taken");
    }
    down.send_data(message.clone(), false).expect("it is connected");
    let mut answer = in_time(response).await.expect("it is open").into_body();
    let mut came = 0;
    while came < message.len() {
        let data = in_time(answer.data()).await.expect("more comes").expect("it is connected");
        came += data.len();
        answer.flow_control().release_capacity(data.len()).expect("it was taken");
    }
}

#[tokio::test]
async fn a_message_that_is_half_sent_stays_with_the_node_of_its_client() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let (_response, mut up) = raw.call(PROPS, &[]).await;
    let whole = [framed(b"whole"), framed(&[7; 1000]).slice(..500)].concat();
    up.send_data(whole.into(), false).expect("it is connected");
    let (_down, mut body) = peer.call().await.begin();
    let data = in_time(body.data()).await.expect("it comes").expect("it is connected");
    assert_eq!(data, framed(b"whole"));
    assert!(timeout(GLANCE, body.data()).await.is_err(), "the rest waits");
    up.send_data(framed(&[7; 1000]).slice(500..), false).expect("it is connected");
    let mut came = 0;
    while came < 1005 {
        came += in_time(body.data()).await.expect("it comes").expect("it is connected").len();
    }
}

#[tokio::test]
async fn a_node_that_stops_ends_what_it_sends_on() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let mut stream = front.watch("hall").await;
    let (mut down, _body) = peer.call().await.begin();
    let Front { server, channel } = front;
    let (_, status) = tokio::join!(in_time(server.stop()), in_time(stream.message()));
    let status = status.expect_err("the node stops");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"));
    let reset = in_time(poll_fn(|cx| down.poll_reset(cx))).await;
    assert!(reset.is_ok() || reset.is_err_and(|error| error.is_io()), "the other node hears of it");
    drop(channel);
}

#[tokio::test]
async fn a_deadline_that_the_other_node_lets_pass_is_kept_here() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let raw = Raw::connect(front.server.address(), WINDOW as u32).await;
    let call = [("grpc-timeout", "300m")];
    let (end, _call) = tokio::join!(raw.end_of(SUBSCRIBE, &call, framed(b"it")), async {
        peer.call().await.begin()
    });
    let status = end.expect("it ends");
    assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE"));
}
