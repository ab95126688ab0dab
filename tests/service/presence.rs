//! Presence: what becomes of a member that has lost its streams.

use crate::support::*;
use sessiond::proto::{
    DepartureReason, EndReason, JoinOptions, Presence, SessionSettings, SubscribeToSessionRequest,
};
use tonic::Code;

fn with_grace(milliseconds: u64) -> SessionSettings {
    SessionSettings { rejoin_grace: Some(ms(milliseconds)), ..Default::default() }
}

async fn has(service: &Service, user: &str) -> bool {
    let members = service.info("finals", "").await.members;
    members.iter().any(|member| member.user_id == user)
}

#[tokio::test]
async fn without_rejoin_grace_a_tied_member_leaves_when_its_stream_is_cancelled() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_grace(0)).await;
    let mut ada = service.watch("finals", "ada").await;
    let bob = service.watch_joining("finals", "bob").await;
    service.tick();
    ada.next_changes().await;
    drop(bob);
    service.tick_until(&mut ada, |it| !it.knows("bob")).await;
    let kim = service.watch_joining("finals", "kim").await;
    service.tick();
    ada.next_changes().await;
    drop(kim);
    let reason = in_time(async {
        loop {
            service.tick();
            match ada.glance().await {
                Some(Step::Changes { changes, .. }) => return changes.left[0].reason(),
                other => assert_eq!(other, None),
            }
        }
    });
    assert_eq!(reason.await, DepartureReason::Lost);
}

#[tokio::test]
async fn a_stream_of_props_ties_its_member_as_well() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_grace(0)).await;
    let mut ada = service.watch("finals", "ada").await;
    for is_closed in [false, true] {
        let open = stream_joining("finals", "bob");
        let mut bob = service.open_stream(open).await;
        bob.next_snapshot().await;
        service.tick();
        ada.next_changes().await;
        if is_closed {
            bob.close();
            bob.end().await;
        }
        drop(bob);
        service.tick_until(&mut ada, |it| !it.knows("bob")).await;
    }
}

#[tokio::test]
async fn with_rejoin_grace_a_lost_member_is_shown_disconnected_and_comes_back() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_grace(5_000)).await;
    let mut ada = service.watch("finals", "ada").await;
    let bob = service.watch_joining("finals", "bob").await;
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.tick();
    ada.next_changes().await;
    let before = bob.rebuilt.again();
    drop(bob);
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
    service.advance(4_980);
    // It resumes with what it had, the place and the props are kept.
    let mut bob = service.resume(subscription("finals", "bob"), &before).await;
    bob.next_changes().await;
    service.tick();
    let changes = ada.next_changes().await;
    assert_eq!(changes.members[0].disconnected, Some(false));
    assert!(!ada.rebuilt.member("bob").disconnected);
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
    service.advance(10_000);
    assert!(has(&service, "bob").await, "the deadline is gone");
}

#[tokio::test]
async fn a_member_that_is_silent_for_too_long_counts_as_lost() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_grace(0)).await;
    let mut ada = service.watch("finals", "ada").await;
    let mut open = stream_joining("finals", "bob");
    open.silence_timeout = Some(ms(2_000));
    let mut bob = service.open_stream(open).await;
    bob.next_snapshot().await;
    service.tick();
    ada.next_changes().await;
    service.advance(2_000);
    bob.end().await.is(EndReason::Silent, Code::DeadlineExceeded);
    service.tick_until(&mut ada, |it| !it.knows("bob")).await;
}

#[tokio::test]
async fn a_member_whose_stream_the_server_ended_has_30_s_to_come_back() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(std::time::Duration::from_secs(60));
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut bob = service.watch_joining("finals", "bob").await;
    // The age is less up to a tenth; the end comes within a tick of what shows it.
    service.advance(53_990);
    let is_disconnected = async || {
        let members = service.info("finals", "").await.members;
        members.iter().any(|it| it.user_id == "bob" && it.disconnected)
    };
    in_time(async {
        while !is_disconnected().await {
            service.tick();
        }
    })
    .await;
    bob.end().await.is(EndReason::Age, Code::Unavailable);
    service.advance(29_980);
    assert!(has(&service, "bob").await);
    service.advance(40);
    assert!(!has(&service, "bob").await);
}

#[tokio::test]
async fn an_explicit_member_without_its_stream_is_disconnected_and_stays_until_it_leaves() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_grace(0)).await;
    service.join("finals", "bob").await;
    let mut ada = service.watch("finals", "ada").await;
    service.tick();
    ada.next_changes().await;
    drop(service.watch("finals", "bob").await);
    let request = SubscribeToSessionRequest {
        join: Some(JoinOptions { presence: Presence::Explicit.into(), ..Default::default() }),
        ..subscription("finals", "kim")
    };
    drop(service.watch_with(request).await);
    let mut tied = service.watch_joining("finals", "tied").await;
    service.tick();
    ada.next_changes().await;
    tied.next_changes().await;
    drop(tied);
    // By the time that the loss of the last of the three has come through, the others' has too.
    service.tick_until(&mut ada, |it| !it.knows("tied")).await;
    service.advance(60_000);
    for user in ["ada", "bob", "kim"] {
        assert!(has(&service, user).await, "{user}");
        assert_eq!(ada.rebuilt.member(user).disconnected, user != "ada", "{user}");
    }
    service.leave("finals", "bob").await;
    service.tick();
    assert!(!has(&service, "bob").await);
}

#[tokio::test]
async fn a_session_may_tie_members_that_join_by_a_call() {
    let service = Service::start().await;
    let tied = SessionSettings { presence: Presence::Tied.into(), ..Default::default() };
    service.open_room_with("finals", "ada", tied).await;
    let _ada = service.watch("finals", "ada").await;
    service.join("finals", "bob").await;
    let explicit = JoinOptions { presence: Presence::Explicit.into(), ..Default::default() };
    service.try_join("finals", "kim", explicit).await.expect("it says so itself");
    service.advance(14_900);
    assert!(has(&service, "bob").await);
    service.advance(200);
    assert!(!has(&service, "bob").await, "no stream came within 15 s");
    assert!(has(&service, "ada").await && has(&service, "kim").await);
}
