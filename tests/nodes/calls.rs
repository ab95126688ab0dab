//! Calls with one reply: what their clients are told if the other node does not answer, and that none is
//! done twice.

use super::{
    peer::{Peer, framed, not_owner, strange_end, trailers},
    support::{Front, LOOPBACK, config, delay, in_time, owner_config, reason, start},
};
use sessiond::proto::GetSessionInfoRequest;
use std::time::{Duration, Instant};
use tokio::{net::TcpListener, task::yield_now, time::timeout};
use tonic::Code;

fn asked() -> GetSessionInfoRequest {
    GetSessionInfoRequest {
        session_id: "hall".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_call_is_answered_by_the_node_that_has_the_app_and_says_so() {
    let owner = start(owner_config("the-owner"), None).await.expect("it starts");
    let front = Front::before(owner.node_address().expect("a port of nodes")).await;
    front.open("hall").await.expect("it is opened");
    assert_eq!(owner.engine().footprint().sessions, 1);
    assert_eq!(front.server.engine().footprint().sessions, 0);
    let reply = in_time(front.sessions().get_session_info(asked())).await.expect("it is there");
    assert_eq!(reply.metadata().get("sessiond-node").expect("it names one"), "the-owner");
    let status = front.look("nothing").await.expect_err("it is not there");
    assert_eq!((status.code(), &*reason(&status)), (Code::NotFound, "SESSION_NOT_FOUND"));
    assert_eq!(status.metadata().get("sessiond-node").expect("it names one"), "the-owner");
}

#[tokio::test]
async fn a_status_comes_as_it_was_sent_with_its_details_and_metadata() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        let (mut send, _body) = peer.call().await.begin();
        send.send_trailers(trailers(&strange_end())).expect("it is connected");
    });
    let (status, sent) = (status.expect_err("it is no reply"), strange_end());
    assert_eq!((status.code(), status.message()), (sent.code(), sent.message()));
    assert_eq!(status.details(), sent.details());
    assert_eq!(status.metadata().get("x-more"), sent.metadata().get("x-more"));
    assert_eq!(status.metadata().get("sessiond-node").expect("it names one"), "the-peer");
}

#[tokio::test]
async fn what_is_left_of_the_deadline_goes_with_the_call() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let mut request = tonic::Request::new(asked());
    request.set_timeout(Duration::from_secs(7));
    let mut sessions = front.sessions();
    tokio::select! {
        answer = sessions.get_session_info(request) => panic!("nobody answers: {answer:?}"),
        call = peer.call() => {
            let left = call.head.headers["grpc-timeout"].to_str().expect("ASCII").to_owned();
            let micros: u64 = left.strip_suffix('u').and_then(|it| it.parse().ok()).expect("micros");
            assert!((6_000_000..=7_000_000).contains(&micros), "{left}");
        }
    }
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_given_up_at_the_other_node() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let mut sessions = front.sessions();
    let mut call = tokio::select! {
        answer = sessions.get_session_info(asked()) => {
            panic!("nobody answers: {answer:?}")
        }
        call = peer.call() => call,
    };
    // Its client has dropped it.
    let reset = in_time(std::future::poll_fn(|cx| call.respond.poll_reset(cx))).await;
    assert_eq!(reset.expect("it is reset"), h2::Reason::CANCEL);
}

#[tokio::test]
async fn a_call_that_was_sent_and_not_answered_is_not_sent_again() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, ()) = tokio::join!(front.open("hall"), async {
        let mut call = peer.call().await;
        while let Some(Ok(_)) = in_time(call.body.data()).await {}
        peer.die();
    });
    let status = status.expect_err("nobody answered");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NODE_LOST"));
    assert!(status.message().contains("it is not known whether"), "{}", status.message());
    assert!(delay(&status).is_some());
    assert!(peer.is_idle(), "it was sent once");
    // The next call goes over another connection.
    let (status, ()) = tokio::join!(front.look("hall"), async {
        peer.call().await.refuse(&strange_end());
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
}

#[tokio::test]
async fn a_reply_that_is_cut_in_half_is_no_reply() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        let (mut send, _body) = peer.call().await.begin();
        send.send_data(framed(&[0; 100]).slice(..50), false).expect("it is connected");
        // A reset takes back what is not out yet, the head with it.
        for _ in 0..100 {
            yield_now().await;
        }
        send.send_reset(h2::Reason::REFUSED_STREAM);
    });
    let status = status.expect_err("it is half a reply");
    assert_eq!(&*reason(&status), "NODE_LOST", "it was taken up, whatever the reset says");
}

#[tokio::test]
async fn a_call_that_the_other_node_has_not_taken_up_was_not_done() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        peer.call().await.refuse_stream();
    });
    let status = status.expect_err("it is refused");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    assert!(delay(&status).is_some());
}

#[tokio::test]
async fn what_has_begun_when_the_other_node_leaves_is_answered_and_new_calls_go_elsewhere() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, ()) = tokio::join!(front.look("first"), async {
        let call = peer.call().await;
        peer.leave();
        // It comes over a new connection, however soon it was sent.
        let (second, ()) = tokio::join!(front.look("second"), async {
            peer.call().await.refuse(&strange_end());
        });
        let second = second.expect_err("it is refused");
        assert!(second.code() == strange_end().code() || reason(&second) == "NOT_OWNER");
        call.refuse(&strange_end());
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
}

#[tokio::test]
async fn a_call_is_sent_on_only_once() {
    let owner = start(owner_config("the-owner"), None).await.expect("it starts");
    let last = owner.node_address().expect("a port of nodes");
    let middle = start(owner_config("the-middle"), Some(last)).await.expect("it starts");
    let front = Front::before(middle.node_address().expect("a port of nodes")).await;
    let status = front.open("hall").await.expect_err("it would be the second time");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let mut stream = front.watch("hall").await;
    let status = in_time(stream.message()).await.expect_err("it would be the second time");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    assert_eq!(owner.engine().footprint().sessions, 0);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_has_done_nothing() {
    let nobody = TcpListener::bind(LOOPBACK).await.expect("a port");
    let address = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let front = Front::before(address).await;
    let status = front.open("hall").await.expect_err("nobody is there");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
}

#[tokio::test]
async fn a_node_that_takes_connections_and_says_nothing_is_given_up_soon() {
    // The kernel takes connections for whoever stands still.
    let silent = TcpListener::bind(LOOPBACK).await.expect("a port");
    let front = Front::before(silent.local_addr().expect("it is bound")).await;
    let began = Instant::now();
    let status = front.open("hall").await.expect_err("nobody answers");
    assert_eq!(&*reason(&status), "NOT_OWNER");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_node_that_stands_still_is_lost_with_its_calls() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let began = Instant::now();
    let (status, _call) = tokio::join!(front.open("hall"), async {
        let call = peer.call().await;
        peer.freeze();
        call
    });
    let status = status.expect_err("it is lost");
    assert_eq!(&*reason(&status), "NODE_LOST");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn all_calls_of_a_thread_go_over_one_connection() {
    let owner = start(owner_config("the-owner"), None).await.expect("it starts");
    let front = Front::before(owner.node_address().expect("a port of nodes")).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut sessions = front.sessions();
        calls.spawn(async move { sessions.get_session_info(asked()).await });
    }
    while let Some(answer) = in_time(calls.join_next()).await {
        let status = answer.expect("it is no panic").expect_err("it is not there");
        assert_eq!(status.code(), Code::NotFound);
    }
    assert_eq!(owner.node_connections(), 1);
}

#[tokio::test]
async fn a_call_that_was_not_done_is_sent_again_until_it_is_and_no_longer() {
    let mut peer = Peer::start().await;
    let front = Front::patient(config("the-front"), peer.address, Duration::from_secs(8)).await;
    let (status, ()) = tokio::join!(front.look("hall"), async {
        peer.call().await.refuse_stream();
        peer.call().await.refuse(&not_owner());
        peer.call().await.refuse(&strange_end());
    });
    assert_eq!(status.expect_err("it is refused").code(), strange_end().code());
    assert!(peer.is_idle());
    let front = Front::patient(config("the-front"), peer.address, Duration::from_millis(250)).await;
    let began = Instant::now();
    let (status, calls) = tokio::join!(front.look("hall"), async {
        let mut calls = 0;
        while began.elapsed() < Duration::from_millis(250) {
            match timeout(Duration::from_millis(300), peer.next()).await {
                Ok(call) => call.refuse(&not_owner()),
                Err(_) => break,
            }
            calls += 1;
        }
        calls
    });
    assert_eq!(reason(&status.expect_err("nobody has it")), "NOT_OWNER");
    assert!((2..=4).contains(&calls), "{calls}");
}
