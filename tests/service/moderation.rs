//! Giving roles, kicking, banning and handing the hosting on.

use crate::support::*;
use sessiond::proto::{
    self, DepartureReason, EndReason, ErrorReason, Role, SessionSettings, SnapshotReason,
};
use tonic::Code;

/// A room of ada's with a moderator called mod and a member called bob.
async fn room(service: &Service) {
    service.open_room("finals", "ada").await;
    service.join("finals", "mod").await;
    service.join("finals", "bob").await;
    service.set_role("finals", "ada", "mod", Role::Moderator).await;
    service.tick();
}

fn moment(milliseconds: u64) -> prost_types::Timestamp {
    let micros = BEGIN + milliseconds * 1000;
    prost_types::Timestamp {
        seconds: (micros / 1_000_000) as i64,
        nanos: (micros % 1_000_000) as i32 * 1000,
    }
}

#[tokio::test]
async fn a_role_is_shown_in_the_frame_that_the_reply_names() {
    let service = Service::start().await;
    room(&service).await;
    let mut watcher = service.watch("finals", "bob").await;
    let given = service.try_set_role("finals", "ada", "bob", Role::Admin).await;
    let position = given.expect("it is given").position.expect("it has a position");
    service.tick();
    assert_eq!(watcher.next_span().await.1, position.revision);
    assert_eq!(watcher.rebuilt.member("bob").role, Role::Admin);
    let told = refused(service.try_set_role("finals", "bob", "mod", Role::Admin).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "owner");
    let told = refused(service.try_set_role("finals", "bob", "ada", Role::Member).await);
    told.is(Code::PermissionDenied, "TARGET_RANK");
    service.set_role("finals", "ada", "bob", Role::Owner).await;
    service.tick();
    assert_eq!(watcher.next_snapshot().await, SnapshotReason::ViewChanged, "an owner sees more");
    assert_eq!(watcher.rebuilt.session().owner_id, "bob");
    assert_eq!(watcher.rebuilt.member("ada").role, Role::Admin);
}

#[tokio::test]
async fn the_streams_of_who_is_kicked_end_within_a_tick_and_say_why() {
    let service = Service::start().await;
    room(&service).await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch("finals", "bob").await;
    let mut stream = service.stream("finals", "bob").await;
    let kicked = service.try_kick("finals", "mod", "bob", "too löud").await;
    let position = kicked.expect("it is kicked").position.expect("it has a position");
    let late = service.try_write("bob", write([("x", int(1))]).in_session("finals")).await;
    refused(late).is(Code::FailedPrecondition, "NOT_A_MEMBER");
    service.tick();
    for end in [bob.end().await, stream.end().await] {
        end.is(EndReason::Kicked, Code::PermissionDenied);
        let ended = end.ended.expect("the last message says it");
        assert_eq!(ended.message, "the user was kicked: too löud");
        assert_eq!(end.status.message(), ended.message);
        assert_eq!(ended.banned_until, None);
    }
    let changes = ada.next_changes().await;
    assert_eq!(ada.rebuilt.revision, position.revision);
    assert_eq!(changes.left[0].reason(), DepartureReason::Kicked);
    assert!(!format!("{changes:?}").contains("löud"), "why is for the one who goes");
    assert_eq!(service.join("finals", "bob").await.role(), Role::Member);
    service.try_kick("finals", "mod", "bob", "").await.expect("it is kicked");
    service.tick();
    service.is_fine().await;
}

#[tokio::test]
async fn the_streams_of_who_is_banned_end_within_a_tick_and_say_until_when() {
    let service = Service::start().await;
    room(&service).await;
    service.join("finals", "eve").await;
    service.tick();
    let mut bob = service.watch("finals", "bob").await;
    let mut eve = service.stream("finals", "eve").await;
    let duration = Some(ms(5_000));
    let request = proto::BanUserRequest { duration, ..ban_of("finals", "mod", "bob") };
    service.try_ban_with(request).await.expect("it is banned");
    service.try_ban("finals", "mod", "eve").await.expect("it is banned");
    let until = moment(5_000 + 2 * TICK);
    service.tick();
    let end = bob.end().await;
    end.is(EndReason::Banned, Code::PermissionDenied);
    let ended = end.ended.expect("the last message says it");
    assert_eq!(
        (ended.message, ended.banned_until),
        ("the user was banned".to_owned(), Some(until))
    );
    let end = eve.end().await;
    end.is(EndReason::Banned, Code::PermissionDenied);
    assert_eq!(end.ended.expect("the last message says it").banned_until, None);

    let told = refused(service.try_join("finals", "bob", Default::default()).await);
    let told = told.is(Code::PermissionDenied, "BANNED");
    told.says("until", "2026-01-01T00:00:05.020Z");
    let told = service.refused_watch(tied("finals", "eve")).await;
    assert_eq!(told.is(Code::PermissionDenied, "BANNED").metadata.get("until"), None);
    service.advance(5_000);
    service.join("finals", "bob").await;
    service.try_unban("finals", "mod", "eve").await.expect("she was banned");
    service.join("finals", "eve").await;
    let told = refused(service.try_unban("finals", "mod", "eve").await);
    told.is(Code::NotFound, "BAN_NOT_FOUND");
}

#[tokio::test]
async fn the_hosting_is_handed_on_and_both_get_the_views_that_are_theirs() {
    let service = Service::start().await;
    let settings = SessionSettings {
        propnames: vec!["slide".to_owned(), "mood".to_owned()],
        hostprops: vec!["slide".to_owned()],
        ..Default::default()
    };
    service.open_hosted("lecture", "ada", settings).await;
    for user in ["bob", "kim"] {
        service.join("lecture", user).await;
    }
    service.set_in("lecture", "ada", [("slide", int(1)), ("mood", int(1))]).await;
    service.set_in("lecture", "kim", [("mood", int(3))]).await;
    service.tick();
    let mut ada = service.watch("lecture", "ada").await;
    let mut bob = service.watch("lecture", "bob").await;
    let mut kim = service.watch("lecture", "kim").await;
    let swapped = service.try_swap_host("lecture", "ada", "bob", 1).await.expect("it is handed on");
    assert_eq!((&*swapped.host_id, swapped.term), ("bob", 2));
    service.tick();
    for watcher in [&mut ada, &mut bob] {
        assert_eq!(watcher.next_snapshot().await, SnapshotReason::ViewChanged);
        assert_eq!(watcher.rebuilt.revision, swapped.position.expect("it has one").revision);
    }
    assert_eq!(ada.rebuilt.props("kim"), shown([]));
    assert_eq!(bob.rebuilt.props("kim"), shown([("mood", int(3))]));
    kim.next_changes().await;
    assert_eq!(kim.rebuilt.session().host_id, "bob");
    assert_eq!(kim.rebuilt.props("bob"), shown([("slide", int(1))]), "he inherits");
    assert_eq!(kim.rebuilt.props("ada"), shown([]));
    let by_order = service.try_swap_host("lecture", "", "", 0).await.expect("it is handed on");
    assert_eq!((&*by_order.host_id, by_order.term), ("ada", 3), "the owner comes first");
}

#[tokio::test]
async fn each_act_on_others_is_refused_with_its_code_and_reason() {
    let service = Service::start().await;
    room(&service).await;
    service.spectate("finals", "spy").await;
    service.open_hosted("lecture", "ada", SessionSettings::default()).await;
    service.spectate("lecture", "spy").await;
    let capacity = SessionSettings { capacity: Some(3), ..Default::default() };
    service.update("finals", "ada", &["capacity"], capacity).await;
    let kick =
        async |session, user, target| refused(service.try_kick(session, user, target, "").await);
    let swap = async |session, target, term| {
        refused(service.try_swap_host(session, "ada", target, term).await)
    };
    for (told, code, reason) in [
        (kick("finals", "bob", "spy").await, Code::PermissionDenied, "ROLE_TOO_LOW"),
        (kick("finals", "mod", "mod").await, Code::PermissionDenied, "TARGET_RANK"),
        (kick("finals", "mod", "ada").await, Code::PermissionDenied, "TARGET_RANK"),
        (kick("finals", "mod", "nobody").await, Code::NotFound, "MEMBER_NOT_FOUND"),
        (kick("no session", "mod", "bob").await, Code::NotFound, "SESSION_NOT_FOUND"),
        (swap("lecture", "spy", 0).await, Code::FailedPrecondition, "NO_CANDIDATE"),
        (swap("lecture", "", 0).await, Code::FailedPrecondition, "NO_CANDIDATE"),
        (swap("lecture", "nobody", 0).await, Code::NotFound, "MEMBER_NOT_FOUND"),
        (swap("finals", "", 0).await, Code::FailedPrecondition, "WRONG_KIND"),
    ] {
        told.is(code, reason);
    }
    let told = refused(service.try_ban("finals", "mod", "ada").await);
    told.is(Code::PermissionDenied, "TARGET_RANK");
    let told = swap("lecture", "spy", 7).await;
    told.is(Code::FailedPrecondition, "STALE_TERM").says("term", "1");
    let told = refused(service.try_set_role("finals", "ada", "spy", Role::Member).await);
    told.is(Code::ResourceExhausted, "SESSION_FULL").says("limit", "capacity").says("most", "3");
}

#[tokio::test]
async fn bad_input_is_refused_with_every_fault_named() {
    let service = Service::start().await;
    room(&service).await;
    let long = "x".repeat(1025);
    let told = refused(service.try_kick("a\nb", "c\nd", "", &long).await);
    told.blames(&["session_id", "user_id", "target_user_id", "reason"]);
    let request = proto::SetRoleRequest { app: "a\nb".to_owned(), role: 77, ..Default::default() };
    let answer = service.sessions().set_role(sent(request)).await;
    refused(answer).blames(&["app", "session_id", "target_user_id", "role"]);
    let told = refused(service.try_set_role("finals", "ada", "bob", Role::Unspecified).await);
    told.blames(&["role"]);
    let request = proto::BanUserRequest {
        target_user_id: String::new(),
        reason: long,
        until: Some(moment(60_000)),
        duration: Some(ms(1)),
        ..ban_of("finals", "mod", "")
    };
    refused(service.try_ban_with(request).await).blames(&["target_user_id", "reason", "duration"]);
    let year_10000 = prost_types::Timestamp { seconds: 253_402_300_800, nanos: 0 };
    let crooked = prost_types::Timestamp { nanos: -1, ..moment(60_000) };
    for until in [moment(0), year_10000, crooked, prost_types::Timestamp { seconds: -1, nanos: 0 }]
    {
        let request =
            proto::BanUserRequest { until: Some(until), ..ban_of("finals", "mod", "bob") };
        refused(service.try_ban_with(request).await).blames(&["until"]);
    }
    let request = proto::BanUserRequest { duration: Some(ms(0)), ..ban_of("finals", "mod", "bob") };
    refused(service.try_ban_with(request).await).blames(&["duration"]);
    let duration = Some(prost_types::Duration { seconds: -5, nanos: 0 });
    let request = proto::BanUserRequest { duration, ..ban_of("finals", "mod", "bob") };
    let status = service.try_ban_with(request).await.expect_err("it is refused");
    assert!(status.message().contains("must be between 1ms and 36500 days"), "{status}");
    refused(service.try_unban("", "mod", "").await).blames(&["session_id", "target_user_id"]);
    refused(service.try_swap_host("", "a\n", "b\n", 0).await).blames(&[
        "session_id",
        "user_id",
        "target_user_id",
    ]);
    service.try_kick("finals", "mod", "bob", &"x".repeat(1024)).await.expect("that fits");
    let last = prost_types::Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 };
    let request = proto::BanUserRequest { until: Some(last), ..ban_of("finals", "mod", "bob") };
    service.try_ban_with(request).await.expect("that is a moment");
    let told = refused(service.try_join("finals", "bob", Default::default()).await);
    told.is(Code::PermissionDenied, "BANNED").says("until", "9999-12-31T23:59:59.999Z");
    service.is_fine().await;
}

#[tokio::test]
async fn a_lost_comparison_is_aborted_with_every_key_named() {
    let service = Service::start().await;
    room(&service).await;
    let first = service.set_in("finals", "bob", [("x", int(1)), ("y", int(1))]).await;
    service.tick();
    let compared = |x: u64, y: u64| {
        let mut write = write([("x", int(2))]).in_session("finals");
        write.if_revision.extend([("x".to_owned(), x), ("y".to_owned(), y)]);
        write
    };
    let told = refused(service.try_write("bob", compared(1, 1)).await);
    let fields = [r#"write.if_revision["x"]"#, r#"write.if_revision["y"]"#];
    told.is(Code::Aborted, "REVISION_CHANGED").names(&fields);
    let mut stream = service.stream("finals", "bob").await;
    let seq = stream.write(compared(first, 1));
    stream.until_acked(&service, seq).await;
    let refusal = &stream.refusals[0];
    assert_eq!(
        (refusal.code, refusal.reason()),
        (Code::Aborted as i32, ErrorReason::RevisionChanged)
    );
    assert_eq!(refusal.fields[0].field, r#"write.if_revision["y"]"#);
    service.try_write("bob", compared(first, first)).await.expect("nothing has changed");
    let told = refused(service.try_write("bob", compared(first, first)).await);
    told.is(Code::Aborted, "REVISION_CHANGED").names(&fields[..1]);

    let mut nowhere = compared(1, 1);
    nowhere.session_ids.clear();
    refused(service.try_write("bob", nowhere).await).blames(&["write.if_revision"]);
    let mut request = data_of("finals", "ada");
    request.set = props([("round", int(1))]);
    request.private_if_revision.insert("seed".to_owned(), 1);
    service.set_private_data("finals", "ada", [("seed", int(1))]).await;
    let told = refused(service.try_set_data(request.clone()).await);
    told.is(Code::Aborted, "REVISION_CHANGED").names(&[r#"private_if_revision["seed"]"#]);
    request.user_id = "bob".to_owned();
    let told = refused(service.try_set_data(request).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "owner");
}

#[tokio::test]
async fn who_is_out_and_reads_late_sees_nothing_of_what_came_after() {
    for act in ["kick", "ban", "leave"] {
        let service = Service::start().await;
        room(&service).await;
        let mut bob = service.watch("finals", "bob").await;
        let mut stream = service.stream("finals", "bob").await;
        // More than fits on the way, also over two nodes, so that the rest waits in the server until
        // they read.
        for n in 0..24 {
            service.set_in("finals", "ada", [(&*format!("k{n}"), data(15_000))]).await;
            service.tick();
        }
        match act {
            "kick" => drop(service.try_kick("finals", "mod", "bob", "").await.expect("it is")),
            "ban" => drop(service.try_ban("finals", "mod", "bob").await.expect("it is banned")),
            _ => service.leave("finals", "bob").await,
        }
        service.tick();
        service.set_in("finals", "ada", [("secret", int(1))]).await;
        service.tick();
        bob.end().await.ended.expect("the last message says it");
        stream.end().await.ended.expect("the last message says it");
        for known in [&bob.rebuilt, &stream.rebuilt] {
            assert!(!known.props("ada").contains_key("secret"), "after a {act}");
            assert!(!known.props("ada").contains_key("k23"), "they were behind");
        }
    }
}
