//! The three loops: userUpdateLoop, sessionLoop and streamLoop, each every 10 ms unless it is told
//! otherwise.

use crate::{clients::*, sessions_service::object_streams::*, support::*};
use sessiond::{
    config::Config,
    proto::{self, SessionSettings},
};
use std::time::Duration;

/// Milliseconds until the next write in a session is framed.
async fn until_framed(service: &Service, session: &str, value: i64) -> u64 {
    let revision = service.set_in(session, "ada", [("x", int(value))]).await;
    let mut waited = 0;
    while service.revision(session).await < revision {
        service.advance(1);
        waited += 1;
    }
    waited
}

#[tokio::test]
async fn session_loop_10() {
    assert_eq!(Config::default().tick_interval, Duration::from_millis(10));
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    let told = service.info("shared", "ada").await.session.and_then(|it| it.settings);
    assert_eq!(told.and_then(|it| it.tick_interval), Some(ms(10)));
    assert!(until_framed(&service, "shared", 0).await <= 10);
    for value in 1..4 {
        assert_eq!(until_framed(&service, "shared", value).await, 10);
    }
}

#[tokio::test]
async fn session_loop_with_an_interval_of_its_own() {
    let service = Service::start().await;
    for interval in [1, 7, 100] {
        let settings = SessionSettings { tick_interval: Some(ms(interval)), ..Default::default() };
        let session = format!("every {interval} ms");
        service.open_room_with(&session, "ada", settings).await;
        assert!(until_framed(&service, &session, 0).await <= interval);
        for value in 1..4 {
            assert_eq!(until_framed(&service, &session, value).await, interval);
        }
    }
}

#[tokio::test]
async fn session_loop_triggers_subscriptions_on_session_updates() {
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    let mut ada = service.watch("shared", "ada").await;
    for value in 0..3 {
        service.set_in("shared", "ada", [("x", int(value))]).await;
        assert_eq!(ada.glance().await, None, "not before the loop comes round");
        service.advance(10);
        assert_eq!(writes_in(&ada.next_changes().await), [format!("ada.x={value}i")]);
    }
}

#[tokio::test]
async fn session_loop_as_server_or_as_user() {
    let service = Service::start().await;
    service.open_hosted("hosted", "host", SessionSettings::default()).await;
    service.join("hosted", "ada").await;
    service.tick();
    // The app itself, which is no user, sees what the host sees.
    let mut server = service.watch("hosted", "").await;
    let mut host = service.watch("hosted", "host").await;
    service.set_in("hosted", "ada", [("x", int(1))]).await;
    service.tick();
    for watcher in [&mut server, &mut host] {
        assert_eq!(writes_in(&watcher.next_changes().await), ["ada.x=1i"]);
    }
}

#[tokio::test]
async fn user_update_loop_10_runs_separately_from_the_one_below_it() {
    let service = Service::start().await;
    service.open_room("fast", "ada").await;
    let slow = SessionSettings { tick_interval: Some(ms(1_000)), ..Default::default() };
    service.open_room_with("slow", "ada", slow).await;
    service.advance(1_000);
    let mut ada = service.several("ada", &["fast", "slow"]).await;
    let mut watcher = service.watch("fast", "ada").await;
    // The fast session goes round while the write waits for the slow one, which alone acks it.
    let seq = ada.write(write([("x", int(1))]));
    service.tick_until(&mut watcher, |it| it.props("ada") == shown([("x", int(1))])).await;
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.copy("fast").props("ada"), shown([("x", int(1))]));
    assert_eq!(ada.copy("slow").props("ada"), shown([("x", int(1))]));
}

#[tokio::test]
async fn stream_loop_10_and_with_an_interval_of_its_own() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("x", int(0))]).await;
    let mut value = 0;
    for interval in [None, Some(10), Some(25)] {
        let request = proto::SubscribeToStreamsRequest {
            user_id: "bob".to_owned(),
            interval: interval.map(ms),
            ..Default::default()
        };
        let mut down = subscribe_to_streams(&service, request).await;
        next(&mut down).await;
        // Something changes every millisecond: a message comes in each interval, and no second one.
        let mut heard = 0;
        for _ in 0..4 {
            for _ in 0..interval.unwrap_or(10) {
                value += 1;
                update_stream_data(&service, "pad", [("x", int(value))]).await;
                service.advance(1);
            }
            next(&mut down).await;
            heard += 1;
        }
        while glance(&mut down).await.is_some() {
            heard += 1;
        }
        assert!(heard <= 5, "{heard} messages in 4 intervals of {interval:?}");
    }
}

#[tokio::test]
async fn stream_loop_gets_all_stream_updates() {
    let service = Service::start().await;
    for name in ["pad", "wheel"] {
        set_stream(&service, name, [("x", int(0))]).await;
    }
    let request =
        proto::SubscribeToStreamsRequest { user_id: "bob".to_owned(), ..Default::default() };
    let mut down = subscribe_to_streams(&service, request).await;
    let first = next(&mut down).await;
    assert!(first.reset && first.updates.len() == 2);
    for name in ["pad", "wheel"] {
        update_stream_data(&service, name, [("x", int(1))]).await;
    }
    service.advance(10);
    let told = next(&mut down).await;
    assert_eq!(values_of(&told.updates["pad"]), ["x=1i"]);
    assert_eq!(values_of(&told.updates["wheel"]), ["x=1i"]);
}
