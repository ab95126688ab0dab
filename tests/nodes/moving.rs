//! Apps that move while calls are on their way.

use super::{
    peer::{Peer, framed, not_done, not_owner, strange_end, trailers},
    support::{Front, Raw, config, delay, in_time, owner_config, reason, start_by},
};
use sessiond::{
    proto::{GetSessionInfoRequest, session_service_client::SessionServiceClient},
    server::Owner,
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::{Code, Status};

const PROPS: &str = "/sessiond.v1.DeliveryService/StreamUserProps";

const PATIENCE: Duration = Duration::from_secs(8);

/// The window of a stream.
const WINDOW: u32 = 65_535;

#[tokio::test]
async fn calls_wait_for_a_node_that_takes_the_app() {
    let mut peer = Peer::start().await;
    let (front, tell) = Front::moving(config("the-front"), Owner::Nobody, PATIENCE).await;
    let raw = Raw::connect(front.server.address(), WINDOW).await;
    let (response, mut up) = raw.call(PROPS, &[]).await;
    up.send_data(framed(b"first"), false).expect("it is connected");
    let (status, ()) = tokio::join!(front.look("hall"), async {
        // The head of a stream comes at once.
        in_time(response).await.expect("it is open");
        tell.send_replace(Owner::There(peer.address));
        for _ in 0..2 {
            let call = peer.call().await;
            match call.head.uri.path() == PROPS {
                false => call.refuse(&strange_end()),
                true => {
                    let (_down, mut body) = call.begin();
                    let data = in_time(body.data()).await.expect("it comes").expect("it comes");
                    assert_eq!(data, framed(b"first"));
                }
            }
        }
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
}

#[tokio::test]
async fn what_comes_to_the_node_itself_is_answered_there() {
    let (front, tell) = Front::moving(config("the-front"), Owner::Nobody, PATIENCE).await;
    let (opened, ()) = tokio::join!(front.open("hall"), async {
        tokio::task::yield_now().await;
        tell.send_replace(Owner::Here);
    });
    opened.expect("it is opened");
    assert_eq!(front.server.engine().footprint().sessions, 1);
    tell.send_replace(Owner::Nobody);
    let mut stream = front.watch("hall").await;
    tell.send_replace(Owner::Here);
    in_time(stream.message()).await.expect("it is open").expect("a snapshot");
}

#[tokio::test]
async fn calls_follow_an_app_from_one_node_to_the_next() {
    let (mut one, mut two) = (Peer::start().await, Peer::start().await);
    let (front, tell) =
        Front::moving(config("the-front"), Owner::There(one.address), PATIENCE).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        let call = one.call().await;
        tell.send_replace(Owner::There(two.address));
        call.refuse(&not_owner());
        two.call().await.refuse(&strange_end());
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
    let raw = Raw::connect(front.server.address(), WINDOW).await;
    let (response, mut up) = raw.call(PROPS, &[]).await;
    // Its client closes its side, too.
    up.send_data(framed(b"all"), true).expect("it is connected");
    let (mut down, _body) = two.call().await.begin();
    tell.send_replace(Owner::There(one.address));
    down.send_trailers(trailers(&not_owner())).expect("it is connected");
    let (mut down, mut body) = one.call().await.begin();
    let mut came = Vec::new();
    while let Some(data) = in_time(body.data()).await {
        came.extend(data.expect("it is connected"));
    }
    assert_eq!(came, framed(b"all"));
    down.send_trailers(trailers(&strange_end())).expect("it is connected");
    let mut answer = in_time(response).await.expect("it is open").into_body();
    assert!(in_time(answer.data()).await.is_none());
    let trailers = in_time(answer.trailers()).await.expect("they come").expect("they come");
    let status = Status::from_header_map(&trailers).expect("a status");
    assert_eq!(status.code(), strange_end().code());
}

#[tokio::test]
async fn a_call_to_a_node_that_is_still_starting_goes_to_the_next_one() {
    let (mut one, mut two) = (Peer::start().await, Peer::start().await);
    let (front, tell) =
        Front::moving(config("the-front"), Owner::There(one.address), PATIENCE).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        let call = one.call().await;
        tell.send_replace(Owner::There(two.address));
        call.refuse(&not_done("STARTING"));
        two.call().await.refuse(&strange_end());
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
}

#[tokio::test]
async fn calls_that_wait_for_a_node_hear_at_once_that_theirs_stops() {
    let (front, _tell) = Front::moving(config("the-front"), Owner::Nobody, PATIENCE).await;
    let mut stream = front.watch("hall").await;
    let Front { server, channel } = front;
    let request = GetSessionInfoRequest {
        session_id: "hall".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    };
    let mut sessions = SessionServiceClient::new(channel);
    let begun = Instant::now();
    let (status, ()) = tokio::join!(sessions.get_session_info(request), async {
        let waits = timeout(Duration::from_millis(200), stream.message()).await;
        assert!(waits.is_err(), "nobody has it: {waits:?}");
        server.stop().await;
    });
    let status = status.expect_err("its node stops");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"));
    assert!(delay(&status).is_some(), "it may come again");
    let status = in_time(stream.message()).await.expect_err("its node stops");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_waits_for_longer_than_that_or_its_deadline() {
    let soon = Duration::from_millis(300);
    let (front, _tell) = Front::moving(config("the-front"), Owner::Nobody, soon).await;
    let status = front.look("hall").await.expect_err("nobody has it");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let mut stream = front.watch("hall").await;
    let status = in_time(stream.message()).await.expect_err("nobody has it");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let (front, _tell) = Front::moving(config("the-front"), Owner::Nobody, PATIENCE).await;
    let raw = Raw::connect(front.server.address(), WINDOW).await;
    let late = [("grpc-timeout", "200m")];
    for path in [PROPS, "/sessiond.v1.SessionService/GetSessionInfo"] {
        let status = raw.end_of(path, &late, framed(b"")).await.expect("it is told");
        assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE"));
    }
}

#[tokio::test]
async fn what_a_node_sends_on_is_answered_by_one_that_has_the_app_though_it_sends_on_itself() {
    let other = start_by(owner_config("the-other"), Some(Owner::Here), PATIENCE).await;
    let (other, _tell) = other.expect("it starts");
    let address = other.node_address().expect("a port of nodes");
    let front = Front::before(address).await;
    front.open("hall").await.expect("it is opened");
    assert_eq!(other.engine().footprint().sessions, 1);
}
