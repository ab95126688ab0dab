//! How a server stops.

use crate::support::*;
use sessiond::proto::{EndReason, JoinOptions, SessionSettings, StreamOpen};
use std::net::TcpListener;
use tonic::Code;

#[tokio::test]
async fn a_stop_sends_what_was_accepted_and_ends_every_stream_with_its_position() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.stream("finals", "bob").await;
    let open = StreamOpen { user_id: "kim".to_owned(), ..Default::default() };
    let mut kim = service.open_stream(open).await;
    kim.next_message().await.expect("the first message");
    service.set_in("finals", "ada", [("x", int(1))]).await;
    let endings = async { (ada.end().await, bob.end().await, kim.end().await) };
    let (channel, (of_ada, of_bob, of_kim)) = tokio::join!(service.stop_under(), endings);
    for rebuilt in [&ada.rebuilt, &bob.rebuilt] {
        assert_eq!(rebuilt.props("ada"), shown([("x", int(1))]));
        assert_eq!(rebuilt.revision, 3);
    }
    for ending in [&of_ada, &of_bob, &of_kim] {
        let told = ending.is(EndReason::Draining, Code::Unavailable);
        assert!(told.retry_after.is_some(), "it says when to come back");
    }
    assert!(of_ada.ended.is_some_and(|it| it.reconnect_delay.is_some()));
    assert!(of_bob.ended.is_some() && of_bob.go_away.is_none());
    assert!(of_kim.go_away.is_some_and(|it| it.reconnect_delay.is_some()));
    let mut late = sessiond::proto::session_service_client::SessionServiceClient::new(channel);
    let answer = in_time(late.list_sessions(sessiond::proto::ListSessionsRequest::default())).await;
    assert_eq!(answer.expect_err("nobody is there").code(), Code::Unavailable);
}

#[tokio::test]
async fn what_comes_during_the_drain_is_unavailable_and_not_applied() {
    let service = Service::with_room_of_two().await;
    service.drain();
    let mut with_data = data_of("finals", "ada");
    with_data.set = props([("x", int(1))]);
    let joining = sessiond::proto::SubscribeToSessionRequest {
        join: Some(JoinOptions::default()),
        ..subscription("finals", "kim")
    };
    let by_name = SessionSettings { name: "new".to_owned(), ..Default::default() };
    let only_sends = StreamOpen { user_id: "ada".to_owned(), ..Default::default() };
    let existing = sessiond::proto::OpenSharedSessionRequest {
        get_if_exists: true,
        ..opening("finals", "kim", SessionSettings::default())
    };
    for told in [
        refused(service.try_open(opening("other", "ada", SessionSettings::default())).await),
        refused(service.try_open(existing).await),
        refused(service.try_join("finals", "kim", JoinOptions::default()).await),
        refused(service.try_leave("finals", "bob", false).await),
        refused(service.try_delete("finals", "ada").await),
        refused(service.try_update("finals", "ada", &["name"], by_name).await),
        refused(service.try_write("ada", write([("x", int(1))])).await),
        refused(service.try_write("ada", write([("x", int(1))]).in_session("finals")).await),
        refused(service.try_set_data(with_data).await),
        service.refused_watch(subscription("finals", "ada")).await,
        service.refused_watch(subscription("finals", "")).await,
        service.refused_watch(joining).await,
        service.open_stream(stream_open("finals", "ada")).await.refused().await,
        service.open_stream(only_sends).await.refused().await,
    ] {
        let told = told.is(Code::Unavailable, "DRAINING");
        assert!(told.retry_after.is_some());
    }
    service.tick();
    let info = service.info("finals", "ada").await;
    assert_eq!((info.members.len(), info.position.map(|it| it.revision)), (2, Some(2)));
}

#[tokio::test]
async fn a_write_up_a_stream_during_the_drain_is_refused() {
    let service = Service::with_room().await;
    let mut app = service.watch("finals", "").await;
    let mut ada = service.stream("finals", "ada").await;
    service.drain();
    ada.write(write([("x", int(1))]));
    ada.end().await.is(EndReason::Draining, Code::Unavailable);
    app.end().await.is(EndReason::Draining, Code::Unavailable);
    service.tick();
    assert_eq!(service.revision("finals").await, 1);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("any port");
    let address = taken.local_addr().expect("it has an address");
    let config = sessiond::config::Config { listen: address.into(), ..Default::default() };
    let clock = sessiond::engine::Clock::stepped(BEGIN);
    let error = sessiond::server::Server::start(config, clock).await.expect_err("it is taken");
    let told = error.to_string();
    assert!(told.contains(&address.to_string()), "{told}");
    assert!(matches!(error, sessiond::server::StartError::Listen { .. }), "{error:?}");
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let service = Service::start().await;
    let idle = service.connect().await;
    service.stop().await;
    drop(idle);
}
