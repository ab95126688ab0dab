//! What happens in an app, as backends are told: everything, in order, who did it, and where something
//! is missing.

use super::identity::{self, bearing, claims, sessions, sessions_as_app, token, with};
use crate::support::*;
use sessiond::proto::{
    self, Event, EventCredentialKind as Credential, EventGapReason as Gap, EventKind as Kind,
    EventStart, JoinOptions, Role, SessionSettings, WatchEventsRequest,
    admin_service_client::AdminServiceClient, event_service_client::EventServiceClient,
    revocation::What as Revoked,
};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;

fn from_cursor(cursor: &str) -> WatchEventsRequest {
    WatchEventsRequest { cursor: cursor.to_owned(), ..Default::default() }
}

/// What a watcher is told of what has just been done.
async fn after(service: &Service, watcher: &mut EventsWatcher) -> Vec<String> {
    service.tick();
    lines(&watcher.next().await)
}

#[tokio::test]
async fn everything_that_happens_in_a_session_is_told_with_who_did_it() {
    let service = Service::start().await;
    let mut watcher = service.watch_events().await;
    let mut ban = proto::Ban { user_id: "eve".to_owned(), ..Default::default() };
    ban.reason = "cheating".to_owned();
    let opening = proto::OpenSharedSessionRequest {
        kind: proto::SessionKind::Hosted.into(),
        users: vec!["bob".to_owned()],
        roles: [("cid".to_owned(), Role::Moderator.into())].into(),
        bans: vec![ban],
        ..opening("lecture", "ada", SessionSettings::default())
    };
    service.try_open(opening).await.expect("it opens");
    let expected = [
        "opened Hosted by ada",
        "role cid Member to Moderator by ada",
        "banned eve cheating by ada",
        "joined ada Owner by ada",
        "joined bob Member by ada",
        "host ada after \"\" term 1 by ada",
    ];
    assert_eq!(after(&service, &mut watcher).await, expected);
    service.join("lecture", "kim").await;
    assert_eq!(after(&service, &mut watcher).await, ["joined kim Member by kim"]);
    service.join("lecture", "kim").await;
    service.set_role("lecture", "ada", "kim", Role::Admin).await;
    let expected = ["role kim Member to Admin by ada"];
    assert_eq!(after(&service, &mut watcher).await, expected, "joining again is no event");
    service.set_role("lecture", "ada", "kim", Role::Admin).await;
    service.try_swap_host("lecture", "ada", "bob", 0).await.expect("she hands over");
    let expected = ["host bob after \"ada\" term 2 by ada"];
    assert_eq!(after(&service, &mut watcher).await, expected, "the same role is no event");
    service.try_kick("lecture", "ada", "kim", "spam").await.expect("she may");
    let expected = ["kicked kim spam by ada", "left kim Kicked by ada"];
    assert_eq!(after(&service, &mut watcher).await, expected);
    service.try_ban("lecture", "", "bob").await.expect("the app may");
    let expected = [
        "banned bob cheating by the app",
        "left bob Banned by the app",
        "host ada after \"bob\" term 3 by the app",
    ];
    assert_eq!(after(&service, &mut watcher).await, expected);
    service.try_unban("lecture", "ada", "bob").await.expect("she may");
    assert_eq!(after(&service, &mut watcher).await, ["unbanned bob by ada"]);
    let settings = SessionSettings {
        locked: Some(false),
        password: Some("open sesame".to_owned()),
        ..Default::default()
    };
    service.update("lecture", "ada", &["locked", "password"], settings).await;
    assert_eq!(after(&service, &mut watcher).await, ["settings locked+password by ada"]);
    service.try_reset("lecture", "ada", None).await.expect("she may");
    assert_eq!(after(&service, &mut watcher).await, ["reset new schema false by ada"]);
    service.try_reserve("lecture", "ada", &["dan", "ada"], 1_000).await.expect("she may");
    service.try_release("lecture", "ada", &["dan", "nobody"]).await.expect("she may");
    let expected = ["reserved dan dan by ada", "released dan dan by ada"];
    assert_eq!(after(&service, &mut watcher).await, expected);
    let join = JoinOptions { password: "open sesame".to_owned(), ..Default::default() };
    service.try_join("lecture", "bob", join).await.expect("he knows it");
    service.set_role("lecture", "ada", "bob", Role::Owner).await;
    let expected = [
        "joined bob Member by bob",
        "role ada Owner to Admin by ada",
        "owner bob after \"ada\" by ada",
        "role bob Member to Owner by ada",
    ];
    assert_eq!(after(&service, &mut watcher).await, expected);
    service.leave("lecture", "bob").await;
    let expected = [
        "left bob Left by bob",
        "owner ada after \"bob\" by bob",
        "role ada Admin to Owner by bob",
    ];
    assert_eq!(after(&service, &mut watcher).await, expected);
    service.try_delete("lecture", "ada").await.expect("she owns it");
    assert_eq!(after(&service, &mut watcher).await, ["ended Deleted by ada"]);
    assert_eq!(service.event_kinds("default").await.len(), 14, "every kind of a session was told");
}

#[tokio::test]
async fn what_time_does_is_done_by_nobody() {
    let service = Service::start().await;
    let mut watcher = service.watch_events().await;
    service.open_room("short", "ada").await;
    service.leave("short", "ada").await;
    let told = after(&service, &mut watcher).await;
    assert_eq!(told[2..], ["left ada Left by ada", "ended Empty by nobody"]);
    let settings = SessionSettings { max_age: Some(ms(60_000)), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    service.tick();
    watcher.next().await;
    let bob = service.watch_joining("finals", "bob").await;
    assert_eq!(after(&service, &mut watcher).await, ["joined bob Member by bob"]);
    drop(bob);
    let mut told = Vec::new();
    in_time(async {
        while told.is_empty() {
            service.advance(1_000);
            told = watcher.glance().await.unwrap_or_default();
        }
    })
    .await;
    assert_eq!(lines(&told), ["left bob Lost by nobody"], "being disconnected is no event");
    service.advance(60_000);
    assert_eq!(lines(&watcher.next().await), ["ended Age by nobody"]);
    // The source of a private session has not joined before it joins.
    service.try_open_private("", "ada", "bob").await.expect("the app may");
    let told = after(&service, &mut watcher).await;
    assert_eq!(told, ["opened Private by bob", "joined bob Member by bob"]);
    service.join("ada-bob", "ada").await;
    assert_eq!(after(&service, &mut watcher).await, ["joined ada Owner by ada"]);
    service.leave("ada-bob", "ada").await;
    let expected = ["left ada Left by ada", "ended SourceLeft by ada"];
    assert_eq!(after(&service, &mut watcher).await, expected);
}

#[tokio::test]
async fn what_is_refused_is_no_event() {
    let service = Service::with_room_of_two().await;
    let mut watcher = service.watch_events().await;
    refused(service.try_kick("finals", "bob", "ada", "no").await);
    refused(service.try_kick("finals", "ada", "nobody", "no").await);
    refused(service.try_ban("finals", "bob", "ada").await);
    refused(service.try_unban("finals", "ada", "bob").await);
    refused(service.try_delete("finals", "bob").await);
    refused(service.try_set_role("finals", "bob", "ada", Role::Member).await);
    refused(service.try_reset("finals", "bob", None).await);
    refused(service.try_reserve("finals", "bob", &["cid"], 1_000).await);
    refused(service.try_open(opening("finals", "eve", Default::default())).await);
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.set_data("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(watcher.glance().await.map(|it| lines(&it)), None);
}

#[tokio::test]
async fn each_event_says_where_and_when_it_was_and_has_a_name_of_its_own() {
    let service = Service::with_room().await;
    service.advance(1_500);
    service.join("finals", "bob").await;
    let events = service.all_events("").await;
    let [_, _, joined] = &*events else { panic!("{events:?}") };
    assert_eq!((&*joined.app, &*joined.session_id, &*joined.user_id), ("default", "finals", "bob"));
    assert_eq!(joined.kind(), Kind::UserJoined);
    let time = joined.time.expect("it says when");
    let micros = time.seconds as u64 * 1_000_000 + time.nanos as u64 / 1000;
    assert_eq!(micros, BEGIN + 1_500_000);
    assert_eq!(joined.actor.as_ref().expect("it says who").credential, None, "nobody was asked");
    // Of another app, and of the same after a restart.
    let mut ids: BTreeSet<String> = events.iter().map(|it| it.id.clone()).collect();
    assert_eq!(ids.len(), 3);
    let mut opening = opening("finals", "ada", SessionSettings::default());
    opening.app = "chat".to_owned();
    service.try_open(opening).await.expect("it opens");
    ids.extend(service.all_events("chat").await.into_iter().map(|it| it.id));
    let again = Service::with_room().await;
    ids.extend(again.all_events("").await.into_iter().map(|it| it.id));
    assert_eq!(ids.len(), 3 + 2 + 2);
    for pair in events.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
    }
}

#[tokio::test]
async fn each_event_says_with_which_credential_it_was_done_and_none_tells_it() {
    let service = identity::service().await;
    let backend = token(&with(with(claims("backend"), "sub", "the lobby"), "jti", "lobby-7"));
    let mut events = EventServiceClient::new(bearing(&service, &backend, false));
    let request = WatchEventsRequest { app: "games".to_owned(), ..Default::default() };
    let answer = in_time(events.watch_events(request)).await.expect("it may");
    let (mut watcher, _) = EventsWatcher::begin(answer.into_inner()).await.expect("it opens");
    let user = token(&with(claims("user"), "jti", "ada-1"));
    let opening = identity::open("games", "a", "");
    in_time(sessions(&service, &user).open_shared_session(opening)).await.expect("it opens");
    let join = proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "a".to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    in_time(sessions(&service, &backend).join_session(join)).await.expect("in his name");
    let kick = proto::KickUserRequest {
        app: "games".to_owned(),
        session_id: "a".to_owned(),
        target_user_id: "bob".to_owned(),
        ..Default::default()
    };
    let operator = identity::operator();
    in_time(sessions_as_app(&service, &operator).kick_user(kick)).await.expect("the app may");
    let mut admin = AdminServiceClient::new(bearing(&service, &operator, true));
    let revoked = proto::RevokedUser { user_id: "eve".to_owned(), app: "games".to_owned() };
    let revocation = Some(proto::Revocation { what: Some(Revoked::User(revoked)) });
    let elsewhere = proto::RevokedUser { user_id: "eve".to_owned(), app: "chat".to_owned() };
    let elsewhere = Some(proto::Revocation { what: Some(Revoked::User(elsewhere)) });
    let unknown = Some(proto::Revocation { what: Some(Revoked::KeyId("unknown".to_owned())) });
    let token_id = Some(proto::Revocation { what: Some(Revoked::TokenId("old".to_owned())) });
    for revocation in [elsewhere, unknown, token_id, revocation.clone()] {
        let request = proto::RevokeCredentialsRequest { revocation };
        in_time(admin.revoke_credentials(request)).await.expect("it may");
    }
    for _ in 0..2 {
        let request = proto::RestoreCredentialsRequest { revocation: revocation.clone() };
        in_time(admin.restore_credentials(request)).await.expect("it may");
    }
    service.tick();
    let told = watcher.next().await;
    let credential = |event: &Event| {
        let actor = event.actor.clone().expect("it says who");
        let it = actor.credential.expect("it was asked for one");
        (it.kind(), it.name, it.issuer, it.subject)
    };
    let of = |kind, name: &str, issuer: &str, subject: &str| {
        (kind, name.to_owned(), issuer.to_owned(), subject.to_owned())
    };
    let ada = of(Credential::Token, "ada-1", "tests", "ada");
    let lobby = of(Credential::Token, "lobby-7", "tests", "the lobby");
    let key = operator.split('_').nth(1).expect("a key has an id");
    let operator_key = of(Credential::Key, key, "", "");
    let expected = [
        ("opened Room by ada", &ada),
        ("joined ada Owner by ada", &ada),
        ("joined bob Member by bob", &lobby),
        ("kicked bob by the app", &operator_key),
        ("left bob Kicked by the app", &operator_key),
    ];
    for (event, (expected, by)) in told.iter().zip(expected) {
        assert_eq!((line(event), &credential(event)), (expected.to_owned(), by));
    }
    let kinds: Vec<Kind> = told[5..].iter().map(Event::kind).collect();
    use Kind::{CredentialsRestored, CredentialsRevoked};
    assert_eq!(kinds, [CredentialsRevoked, CredentialsRevoked, CredentialsRestored]);
    assert!(line(&told[5]).contains("TokenId(\"old\")"), "{}", line(&told[5]));
    assert_eq!(told[6].user_id, "eve");
    assert!(told[5..].iter().all(|event| credential(event) == operator_key));
    // The service does things with no credential.
    let leave = proto::LeaveSessionRequest {
        app: "games".to_owned(),
        session_id: "a".to_owned(),
        ..Default::default()
    };
    in_time(sessions(&service, &user).leave_session(leave)).await.expect("she leaves");
    service.tick();
    let told = watcher.next().await;
    assert_eq!(lines(&told), ["left ada Left by ada", "ended Empty by nobody"]);
    assert_eq!(credential(&told[0]), ada);
    assert_eq!(told[1].actor.as_ref().expect("it says who").credential, None);
    let everything = format!("{told:?}");
    for secret in [&user, &backend, &operator] {
        let end = &secret[secret.len() - 12..];
        assert!(!everything.contains(end), "a credential is told");
    }
}

#[tokio::test]
async fn only_a_backend_of_the_app_watches() {
    let service = identity::service().await;
    let watch = async |token: &str, as_app, app: &str| {
        let mut client = EventServiceClient::new(bearing(&service, token, as_app));
        let request = WatchEventsRequest { app: app.to_owned(), ..Default::default() };
        match in_time(client.watch_events(request)).await {
            Ok(answer) => EventsWatcher::begin(answer.into_inner()).await.map(drop),
            Err(status) => Err(status),
        }
    };
    watch(&token(&claims("backend")), false, "games").await.expect("it may");
    watch(&token(&claims("app")), false, "games").await.expect("it may");
    watch(&token(&claims("app")), true, "games").await.expect("it may");
    let few = with(claims("backend"), "sessions", serde_json::json!(["a"]));
    for (claims, as_app, app) in [
        (claims("user"), false, "games"),
        (claims("read"), true, "games"),
        (claims("backend"), true, "games"),
        (claims("backend"), false, "chat"),
        (few, false, "games"),
    ] {
        let told = refused(watch(&token(&claims), as_app, app).await);
        told.is(Code::PermissionDenied, "NOT_ENTITLED");
    }
}

#[tokio::test]
async fn a_watcher_goes_on_from_every_point_without_loss_and_without_repetition() {
    let service = Service::start().await;
    let mut watcher = service.watch_events().await;
    let mut points = vec![(watcher.cursor.clone(), 0)];
    let mut events = Vec::new();
    service.open_room("finals", "ada").await;
    for user in ["bob", "cid", "dan", "eve"] {
        service.join("finals", user).await;
        service.tick();
        events.extend(watcher.next().await);
        points.push((watcher.cursor.clone(), events.len()));
        service.try_kick("finals", "ada", user, "").await.expect("she may");
        service.tick();
        events.extend(watcher.next().await);
        points.push((watcher.cursor.clone(), events.len()));
    }
    for (cursor, at) in &points {
        let (mut again, mut told) =
            service.open_events(from_cursor(cursor)).await.expect("it opens");
        while told.len() < events.len() - at {
            told.extend(again.next().await);
        }
        assert_eq!(told, events[*at..]);
        assert!(again.gaps.is_empty(), "nothing is missing");
        assert_eq!(again.journal.next_sequence - again.journal.first_sequence, 14);
    }
    assert_eq!(service.all_events("").await, events);
    // A cursor fits every choice.
    let request =
        WatchEventsRequest { kinds: vec![Kind::UserKicked.into()], ..from_cursor(&points[3].0) };
    let (_, told) = service.open_events(request).await.expect("it opens");
    let users: Vec<&str> = told.iter().map(|it| &*it.user_id).collect();
    assert_eq!(users, ["cid", "dan", "eve"]);
}

#[tokio::test]
async fn a_watcher_chooses_kinds_and_sessions() {
    let service = Service::start().await;
    let open = |kinds: &[Kind], sessions: &[&str]| WatchEventsRequest {
        kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
        session_ids: sessions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let request = open(&[Kind::UserJoined, Kind::SessionEnded], &["a", "b"]);
    let (mut watcher, _) = service.open_events(request).await.expect("it opens");
    for session in ["a", "b", "c"] {
        service.open_room(session, "ada").await;
        service.leave(session, "ada").await;
    }
    service.tick();
    let told = watcher.next().await;
    let told: Vec<_> = told.iter().map(|it| (&*it.session_id, it.kind())).collect();
    let both = |it| [(it, Kind::UserJoined), (it, Kind::SessionEnded)];
    assert_eq!(told, [both("a"), both("b")].concat());
    // What is passed over is behind it all the same.
    let mut other = service.watch_events().await;
    service.open_room("d", "ada").await;
    service.tick();
    other.next().await;
    assert_eq!(watcher.glance().await.map(|it| lines(&it)), None);
}

#[tokio::test]
async fn a_request_that_is_wrong_is_told_all_that_is_wrong() {
    let service = Service::start().await;
    let request = WatchEventsRequest {
        cursor: "garbage".to_owned(),
        kinds: vec![1, 0, 99],
        session_ids: vec![String::new()],
        ..Default::default()
    };
    let told = service.refused_events(request).await;
    told.is(Code::InvalidArgument, "INVALID_FIELDS").blames(&[
        "cursor",
        "kinds[1]",
        "kinds[2]",
        "session_ids[0]",
    ]);
    let cursor = service.watch_events().await.cursor;
    let start = EventStart::Latest.into();
    let told = service.refused_events(WatchEventsRequest { start, ..from_cursor(&cursor) }).await;
    told.blames(&["start"]);
    let told = service.refused_events(WatchEventsRequest { start: 9, ..Default::default() }).await;
    told.blames(&["start"]);
    let many = WatchEventsRequest {
        kinds: vec![1; 65],
        session_ids: vec!["a".to_owned(); 1001],
        ..Default::default()
    };
    service.refused_events(many).await.blames(&["kinds", "session_ids"]);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_told_to_be_missing() {
    let service = Service::start_with(|config| config.max_journal_events = 5).await;
    let watcher = service.watch_events().await;
    service.open_room("finals", "ada").await;
    for user in ["bob", "cid", "dan", "eve", "fay", "guy"] {
        service.join("finals", user).await;
    }
    let (mut again, told) =
        service.open_events(from_cursor(&watcher.cursor)).await.expect("it opens");
    let users: Vec<&str> = told.iter().map(|it| &*it.user_id).collect();
    assert_eq!(users, ["cid", "dan", "eve", "fay", "guy"]);
    let [gap] = &*again.gaps else { panic!("it is told once: {:?}", again.gaps) };
    assert_eq!((gap.reason(), gap.missing), (Gap::TooOld, 3));
    // A stream that is behind is told the same.
    for user in ["hal", "ian", "jim", "kim", "lea", "mia", "nan"] {
        service.join("finals", user).await;
    }
    service.tick();
    let told = again.next().await;
    let missing: u64 = again.gaps[1..].iter().map(|gap| gap.missing).sum();
    let users: Vec<&str> = told.iter().map(|it| &*it.user_id).collect();
    let of_seven = ["hal", "ian", "jim", "kim", "lea", "mia", "nan"];
    assert_eq!(users, of_seven[missing as usize..]);
    // Nothing is missing for whoever begins with what there is.
    assert_eq!(service.all_events("").await.len(), 5);
}

#[tokio::test]
async fn a_cursor_from_before_a_restart_is_told_so_and_one_of_another_app_too() {
    let before = Service::with_room().await;
    let cursor = before.watch_events().await.cursor;
    let service = Service::with_room().await;
    let (watcher, told) = service.open_events(from_cursor(&cursor)).await.expect("it opens");
    assert_eq!(lines(&told), ["opened Room by ada", "joined ada Owner by ada"]);
    let reasons = |watcher: &EventsWatcher| -> Vec<Gap> {
        watcher.gaps.iter().map(|gap| gap.reason()).collect()
    };
    assert_eq!(reasons(&watcher), [Gap::Restarted]);
    let request = WatchEventsRequest { app: "chat".to_owned(), ..from_cursor(&watcher.cursor) };
    let (other, told) = service.open_events(request).await.expect("it opens");
    assert_eq!((reasons(&other), told.len()), (vec![Gap::UnknownCursor], 0));
}

#[tokio::test]
async fn nobody_is_told_of_another_app() {
    let service = Service::start().await;
    let request = WatchEventsRequest { app: "chat".to_owned(), ..Default::default() };
    let (mut chat, _) = service.open_events(request).await.expect("it opens");
    let mut default = service.watch_events().await;
    service.open_room("finals", "ada").await;
    service.tick();
    assert_eq!(default.next().await.len(), 2);
    assert_eq!(chat.glance().await.map(|it| lines(&it)), None);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_costs_nothing_and_misses_what_there_is_no_room_for() {
    let service = Service::start_with(|config| {
        config.max_journal_bytes = 64 * 1024;
        config.max_updates_per_second = 1_000_000;
    })
    .await;
    let mut watcher = service.watch_events().await;
    service.open_room("finals", "ada").await;
    let mut most = 0;
    for _ in 0..400 {
        service.join("finals", "bob").await;
        service.leave("finals", "bob").await;
        service.tick();
        most = most.max(service.engine().event_bytes());
    }
    assert!(most <= 64 * 1024 && most > 60 * 1024, "{most} bytes");
    let mut told = 0;
    let mut last = 0;
    while told + watcher.gaps.iter().map(|it| it.missing).sum::<u64>() < 802 {
        service.tick();
        for event in watcher.next().await {
            assert!(event.sequence > last, "in order");
            (told, last) = (told + 1, event.sequence);
        }
    }
}

#[tokio::test]
async fn all_journals_together_are_bounded_and_a_loud_app_silences_no_other() {
    const MOST: usize = 256 * 1024;
    let service = Service::start_with(|config| {
        config.max_journal_bytes = 1024 * 1024;
        config.max_journals_bytes = MOST;
    })
    .await;
    let open = async |app: &str, session: &str| {
        let mut opening = opening(session, "ada", SessionSettings::default());
        opening.app = app.to_owned();
        service.try_open(opening).await.expect("it opens");
    };
    open("quiet", "finals").await;
    for number in 0..1_000 {
        open("loud", &number.to_string()).await;
        service.tick();
        assert!(service.engine().event_bytes() <= MOST / 8 * 9);
    }
    assert_eq!(service.all_events("quiet").await.len(), 2);
    assert!(service.all_events("loud").await.len() > 200);
    // Apps that are many are no way around it.
    for number in 0..1_000 {
        open(&format!("app {number}"), "finals").await;
        service.advance(1);
        assert!(service.engine().event_bytes() <= MOST / 8 * 9);
    }
    assert_eq!(service.all_events("app 999").await.len(), 2, "the last one is kept");
}

#[tokio::test]
async fn the_order_is_that_of_the_session_however_many_do_things_at_once() {
    let service = Service::with_room().await;
    let sessions = service.sessions();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let mut sessions = sessions.clone();
            let user = format!("user {number}");
            tokio::spawn(async move {
                for _ in 0..25 {
                    let join = proto::JoinSessionRequest {
                        session_id: "finals".to_owned(),
                        user_id: user.clone(),
                        ..Default::default()
                    };
                    sessions.join_session(join).await.expect("it joins");
                    let leave = proto::LeaveSessionRequest {
                        session_id: "finals".to_owned(),
                        user_id: user.clone(),
                        ..Default::default()
                    };
                    sessions.leave_session(leave).await.expect("it leaves");
                }
            })
        })
        .collect();
    for task in tasks {
        in_time(task).await.expect("it does not panic");
    }
    let events = service.all_events("").await;
    let mut inside: BTreeMap<&str, bool> = BTreeMap::new();
    for (event, next) in events.iter().zip(&events[1..]) {
        assert_eq!(next.sequence, event.sequence + 1);
    }
    for event in &events[2..] {
        let is_in = event.kind() == Kind::UserJoined;
        assert!(is_in || event.kind() == Kind::UserLeft, "{}", line(event));
        let was = inside.insert(&event.user_id, is_in).unwrap_or(false);
        assert_ne!(was, is_in, "who joins was out, and who leaves was in");
    }
    assert_eq!((events.len(), inside.len()), (2 + 8 * 25 * 2, 8));
}

#[tokio::test]
async fn an_app_has_at_most_so_many_watchers() {
    let service = Service::start_with(|config| config.max_event_watchers = 2).await;
    let one = service.watch_events().await;
    let _two = service.watch_events().await;
    let told = service.refused_events(Default::default()).await;
    let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
    told.says("limit", "max-event-watchers").says("most", "2");
    let other = WatchEventsRequest { app: "chat".to_owned(), ..Default::default() };
    service.open_events(other).await.expect("each app has its own");
    drop(one);
    in_time(async { while service.open_events(Default::default()).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_quiet_stream_is_alive_and_a_server_that_stops_ends_it() {
    let service = Service::start().await;
    let mut watcher = service.watch_events().await;
    let before = watcher.cursor.clone();
    service.advance(15_000);
    let heartbeat = watcher.next_message().await.expect("it goes on");
    assert!(heartbeat.events.is_empty() && heartbeat.journal.is_none());
    assert_eq!(watcher.cursor, before);
    service.drain();
    let (_, ending) = tokio::join!(service.stop(), watcher.end());
    assert_eq!(ending.go_away.expect("it says so").reason(), proto::EndReason::Draining);
    assert_eq!(ending.status.code(), Code::Unavailable);
}

impl Service {
    /// The kinds of all events of an app.
    async fn event_kinds(&self, app: &str) -> BTreeSet<i32> {
        self.all_events(app).await.into_iter().map(|event| event.kind).collect()
    }
}

#[tokio::test]
async fn the_refusal_of_a_rule_or_a_hook_is_told_with_who_made_the_call() {
    use sessiond::{
        engine::{JudgedRefusal, RefusedBy},
        session::{ids, judging::Operation},
    };
    let service = Service::start().await;
    let mut watcher = service.watch_events().await;
    let app = ids::AppId::new("default").expect("an id");
    let (session, ada) =
        (ids::SessionId::new("finals").ok(), ids::UserId::new("ada").expect("an id"));
    let refuse = |by| {
        let [name, message] = ["gate", "not today"].map(Into::into);
        let refusal = JudgedRefusal { by, name, operation: Operation::Join, message };
        service.engine().note_refusal(&app, session.clone(), &ada, refusal);
    };
    refuse(RefusedBy::Hook { reason: None });
    refuse(RefusedBy::Hook { reason: Some("TOO_YOUNG".into()) });
    refuse(RefusedBy::Rule { is_faulty: false });
    refuse(RefusedBy::Rule { is_faulty: true });
    let told = after(&service, &mut watcher).await;
    let expected = [
        "hook gate Join: not today by ada",
        "hook gate Join: not today (TOO_YOUNG) by ada",
        "rule gate Join: not today by ada",
        "rule gate Join: not today (not evaluated) by ada",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn refusals_over_the_rate_of_changes_are_not_told() {
    let policy = "[[rules]]\nname = \"no\"\non = [\"subscribe\"]\napps = \"*\"\n\
                  expression = \"false\"\nmessage = \"no\"\n";
    let path = crate::rules::policy_file(policy);
    let service = Service::start_with(|config| {
        config.policy = Some(path);
        (config.max_changes_per_second, config.max_sessions_per_user) = (3, 3);
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut watcher = service.watch_events().await;
    for _ in 0..5 {
        let told = service.refused_watch(subscription("finals", "ada")).await;
        told.is(tonic::Code::PermissionDenied, "RULE_REFUSED");
    }
    let told = after(&service, &mut watcher).await;
    assert_eq!(told, ["rule no Subscribe: no by ada"; 2], "opening was a change as well");
}
