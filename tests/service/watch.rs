//! Which sessions there are, and what becomes of them.

use crate::support::*;
use What::{Changed, Ended, Opened};
use sessiond::{
    proto::{
        EndReason, Role, SessionEventKind as What, SessionSettings, WatchResetReason,
        WatchSessionsRequest,
    },
    session::{
        Opening,
        ids::{AppId, SessionId},
        settings::Kind,
        value::Value,
    },
};
use std::time::Duration;
use tonic::Code;

fn by(user: &str) -> WatchSessionsRequest {
    WatchSessionsRequest { user_id: user.to_owned(), ..Default::default() }
}

fn one(of: What, id: &str) -> Vec<(What, String)> {
    vec![(of, id.to_owned())]
}

/// What a message tells after a tick.
async fn after_a_tick(service: &Service, watcher: &mut SessionsWatcher) -> Vec<(What, String)> {
    service.tick();
    watcher.next().await
}

#[tokio::test]
async fn a_watcher_gets_all_sessions_and_then_what_happens_to_them() {
    let service = Service::with_room().await;
    let mut eve = service.watch_sessions("eve", "").await;
    assert_eq!(
        (eve.ids(), &*eve.resets, eve.messages),
        (vec!["finals"], &[WatchResetReason::First][..], 1)
    );
    assert_eq!(eve.sessions["finals"].member_count, Some(1));
    service.open_room("semis", "ada").await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Opened, "semis"));
    service.join("finals", "bob").await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Changed, "finals"));
    assert_eq!(eve.sessions["finals"].member_count, Some(2));
    service.try_delete("semis", "ada").await.expect("she owns it");
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "semis"));
    // Props, data and presence are no news of the session.
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(eve.glance().await, None);
    let listed = service.try_list(Default::default()).await.expect("it lists").sessions;
    let known = eve
        .sessions
        .into_values()
        .map(|it| sessiond::proto::SessionInfo { last_frame_at: listed[0].last_frame_at, ..it });
    assert_eq!(known.collect::<Vec<_>>(), listed);
}

#[tokio::test]
async fn without_sessions_the_picture_is_complete_at_once() {
    let service = Service::start().await;
    let eve = service.watch_sessions("eve", "").await;
    assert_eq!((eve.ids().len(), eve.messages), (0, 1));
}

#[tokio::test]
async fn there_is_at_most_one_message_per_tick_and_of_each_session_what_it_is_then() {
    let service = Service::start().await;
    let mut eve = service.watch_sessions("eve", "").await;
    service.tick();
    service.open_room("first", "ada").await;
    service.advance(0);
    assert_eq!(eve.next().await, one(Opened, "first"), "after a quiet tick it comes at once");
    for id in ["a", "b", "c"] {
        service.open_room(id, "ada").await;
    }
    service.try_delete("b", "ada").await.expect("she owns it");
    assert_eq!(eve.glance().await, None, "the tick is not over");
    service.join("a", "bob").await;
    service.tick();
    let told = eve.next().await;
    assert_eq!(told, [one(Opened, "c"), one(Opened, "a")].concat());
    assert_eq!(eve.sessions["a"].member_count, Some(2));
}

#[tokio::test]
async fn a_session_ends_for_those_from_whom_it_is_hidden_and_opens_again() {
    let service = Service::with_room_of_two().await;
    let mut eve = service.watch_sessions("eve", "").await;
    let mut bob = service.watch_sessions("bob", "").await;
    let unlisted = |is| SessionSettings { unlisted: Some(is), ..Default::default() };
    service.update("finals", "ada", &["unlisted"], unlisted(true)).await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "finals"));
    assert_eq!(bob.next().await, one(Changed, "finals"));
    service.set_role("finals", "ada", "eve", Role::Moderator).await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Opened, "finals"));
    service.set_role("finals", "ada", "eve", Role::Member).await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "finals"));
    service.leave("finals", "bob").await;
    assert_eq!(after_a_tick(&service, &mut bob).await, one(Ended, "finals"));
    service.join("finals", "eve").await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Opened, "finals"));
    // That she may know of it, and that it has a member more, may come one after the other.
    service.tick();
    eve.glance().await;
    service.update("finals", "ada", &["unlisted"], unlisted(false)).await;
    assert_eq!(after_a_tick(&service, &mut bob).await, one(Opened, "finals"));
    assert_eq!(eve.next().await, one(Changed, "finals"));
}

#[tokio::test]
async fn a_session_that_comes_to_be_listed_is_told_as_the_frame_shows_it_that_lists_it() {
    let service = Service::start().await;
    let with = |unlisted, plan: &str| SessionSettings {
        unlisted: Some(unlisted),
        metadata: props([("plan", text(plan))]),
        ..Default::default()
    };
    service.open_room_with("finals", "ada", with(true, "secret")).await;
    service.tick();
    let mut eve = service.watch_sessions("eve", "").await;
    let mut chooser = service.watch_sessions("eve", "metadata.plan == 'secret'").await;
    let listed = async || {
        let by_eve =
            sessiond::proto::ListSessionsRequest { user_id: "eve".into(), ..Default::default() };
        service.try_list(by_eve).await.expect("it lists").sessions
    };
    service.update("finals", "ada", &["unlisted", "metadata"], with(false, "open")).await;
    assert!(listed().await.is_empty(), "no frame shows it so");
    let told = refused(service.try_info("finals", "eve").await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    assert_eq!((eve.glance().await, eve.sessions.len()), (None, 0));
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Opened, "finals"));
    let is_open = |info: &sessiond::proto::SessionInfo| {
        let settings = info.settings.as_ref().expect("it has settings");
        settings.unlisted == Some(false) && settings.metadata == props([("plan", text("open"))])
    };
    assert!(is_open(&eve.sessions["finals"]));
    assert!(is_open(&listed().await[0]));
    assert_eq!(chooser.glance().await, None, "it was never told of the plan");
    // It is hidden at once.
    service.update("finals", "ada", &["unlisted"], with(true, "")).await;
    assert!(listed().await.is_empty());
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "finals"));
}

#[tokio::test]
async fn who_is_not_told_of_a_hidden_session_is_not_told_of_what_happens_to_it() {
    let service = Service::start().await;
    let hidden = SessionSettings { unlisted: Some(true), ..Default::default() };
    service.open_room_with("secret", "ada", hidden).await;
    service.try_open_private("src", "src", "lis").await.expect("it opens");
    let mut eve = service.watch_sessions("eve", "").await;
    let mut lis = service.watch_sessions("lis", "").await;
    let mut app = service.watch_sessions("", "").await;
    assert_eq!((eve.ids(), lis.ids()), (vec![], vec!["src-lis"]));
    assert_eq!(app.ids(), ["secret", "src-lis"]);
    let cursor = eve.cursor.clone();
    service.join("secret", "bob").await;
    service.tick();
    assert_eq!(app.next().await, one(Changed, "secret"));
    service.try_delete("secret", "ada").await.expect("she owns it");
    assert_eq!(after_a_tick(&service, &mut app).await, one(Ended, "secret"));
    service.try_delete("src-lis", "src").await.expect("it is the source's");
    assert_eq!(after_a_tick(&service, &mut lis).await, one(Ended, "src-lis"));
    // Not even by the cursor of a heartbeat.
    service.advance(15_000);
    assert_eq!(eve.next().await, []);
    assert_eq!((eve.cursor, eve.messages), (cursor, 2));
}

#[tokio::test]
async fn a_filter_opens_what_begins_to_fit_and_ends_what_ceases_to() {
    let service = Service::start().await;
    let mode = |mode: &str| SessionSettings {
        metadata: props([("mode", text(mode))]),
        ..Default::default()
    };
    service.open_room_with("a", "ada", mode("duel")).await;
    service.open_room_with("b", "ada", mode("race")).await;
    let filter = "metadata.mode == 'duel' && member_count < 2 && kind == 'ROOM'";
    let mut eve = service.watch_sessions("eve", filter).await;
    assert_eq!(eve.ids(), ["a"]);
    service.update("b", "ada", &["metadata"], mode("duel")).await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Opened, "b"));
    service.join("a", "bob").await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "a"));
    service.update("a", "ada", &["metadata"], mode("race")).await;
    service.tick();
    assert_eq!(eve.glance().await, None, "it did not fit before");
    service.try_delete("a", "ada").await.expect("she owns it");
    service.leave("b", "ada").await;
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "b"));
    assert_eq!(eve.glance().await, None);
}

#[tokio::test]
async fn who_comes_back_with_its_cursor_gets_what_happened_meanwhile() {
    let service = Service::with_room().await;
    service.open_room("semis", "ada").await;
    let eve = service.watch_sessions("eve", "").await;
    let (known, cursor) = (eve.sessions.clone(), eve.cursor.clone());
    service.open_room("new", "ada").await;
    service.try_delete("semis", "ada").await.expect("she owns it");
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.update("finals", "ada", &["locked"], locked).await;
    service.tick();
    let mut again = service.resume_sessions(by("eve"), eve).await;
    assert_eq!((&again.sessions, &again.cursor), (&known, &cursor));
    let mut told = again.next().await;
    told.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = [one(Changed, "finals"), one(Opened, "new"), one(Ended, "semis")].concat();
    assert_eq!((told, again.resets.len()), (expected, 1));
    // Nothing happened: that is told at once, too.
    let mut again = service.resume_sessions(by("eve"), again).await;
    assert_eq!(again.next().await, []);
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_begins_again_with_the_reason() {
    let service = Service::with_room().await;
    let resets = async |service: &Service, request, from| {
        let mut watcher = service.resume_sessions(request, from).await;
        watcher.is_whole = false;
        watcher.next().await;
        assert_eq!(watcher.ids(), ["finals"]);
        watcher.resets[1..].to_vec()
    };
    let other = by("bob");
    let eve = service.watch_sessions("eve", "").await;
    assert_eq!(resets(&service, other, eve).await, [WatchResetReason::OtherRequest]);
    let filtered = WatchSessionsRequest { filter: "!locked".to_owned(), ..by("eve") };
    let eve = service.watch_sessions("eve", "").await;
    assert_eq!(resets(&service, filtered, eve).await, [WatchResetReason::OtherRequest]);
    let restarted = Service::with_room().await;
    let eve = service.watch_sessions("eve", "").await;
    assert_eq!(resets(&restarted, by("eve"), eve).await, [WatchResetReason::Restarted]);
    let eve = service.watch_sessions("eve", "").await;
    let cursor = eve.cursor.clone();
    drop(eve);
    // The loss reaches the server in its own time.
    in_time(async {
        while service.engine().footprint().watched > 0 {
            service.advance(10_000);
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut late = service.watch_sessions("eve", "").await;
    late.cursor = cursor;
    assert_eq!(resets(&service, by("eve"), late).await, [WatchResetReason::TooOld]);
}

#[tokio::test]
async fn a_faulty_watch_is_refused_with_its_faults() {
    let service = Service::start().await;
    let request = WatchSessionsRequest {
        app: "a\nb".to_owned(),
        user_id: "u".repeat(129),
        cursor: "garbage".to_owned(),
        filter: "colour == 'red'".to_owned(),
    };
    let told = service.refused_sessions_watcher(request).await;
    told.blames(&["app", "user_id", "cursor", "filter"]);
    service.drain();
    let told = service.refused_sessions_watcher(by("eve")).await;
    told.is(Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn a_watch_says_that_it_is_alive_and_where_to_continue() {
    let service = Service::with_room().await;
    let mut eve = service.watch_sessions("eve", "").await;
    service.advance(15_000);
    let heartbeat = eve.next_message().await.expect("it goes on");
    assert!(heartbeat.events.is_empty() && heartbeat.reset == 0 && !heartbeat.cursor.is_empty());
}

#[tokio::test]
async fn a_watch_ends_with_its_age_its_deadline_and_its_server() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(Duration::from_secs(60));
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut old = service.watch_sessions("eve", "").await;
    service.advance(60_000);
    old.end().await.is(EndReason::Age, Code::Unavailable);
    let mut request = tonic::Request::new(by("eve"));
    request.metadata_mut().insert("grpc-timeout", "3S".parse().expect("ASCII"));
    let mut brief = service.open_sessions_watcher_by(request).await;
    brief.picture().await;
    service.advance(3_000);
    brief.end().await.is(EndReason::Deadline, Code::DeadlineExceeded);
    let mut last = service.watch_sessions("eve", "").await;
    let stopped = tokio::spawn(service.stop());
    last.end().await.is(EndReason::Draining, Code::Unavailable);
    in_time(stopped).await.expect("it stops");
}

#[tokio::test]
async fn a_hundred_thousand_sessions_come_in_pages_and_then_cost_by_what_changes() {
    const MANY: usize = 100_000;
    let service = Service::start().await;
    let engine = service.engine();
    let app = AppId::new("default").expect("an id");
    let id = |at: usize| SessionId::new(&format!("session {at:06}")).expect("an id");
    for at in 0..MANY {
        let mut settings = engine.default_session();
        settings.metadata = [("n".into(), Value::Integer(at as i64))].into();
        let opening = Opening::new(app.clone(), id(at), Kind::Room, settings);
        engine.open(opening, false).expect("it opens");
    }
    let mut eve = service.watch_sessions("eve", "").await;
    assert_eq!(eve.sessions.len(), MANY);
    assert!(eve.largest <= 1024 * 1024, "{}", eve.largest);
    assert!(eve.messages >= MANY / 1000, "{}", eve.messages);
    let some = service.watch_sessions("eve", "metadata.n % 10000 == 7").await;
    assert_eq!(some.sessions.len(), 10);
    assert_eq!(engine.footprint().watched, 2, "two logs and nothing in them");
    service.try_delete("session 000500", "").await.expect("it is there");
    assert_eq!(after_a_tick(&service, &mut eve).await, one(Ended, "session 000500"));
    assert_eq!(engine.footprint().watched, 3);
}
