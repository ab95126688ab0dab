//! The sessionLoop, which goes round every 10 ms unless it is told otherwise.

use crate::{clients::*, support::*};
use sessiond::{config::Config, proto::SessionSettings};
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
