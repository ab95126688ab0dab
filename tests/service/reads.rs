//! Questions about single members.

use crate::support::*;
use prost::Message;
use sessiond::proto::{self, Position, Role, SessionSettings};
use tonic::Code;

#[tokio::test]
async fn the_first_match_is_found_by_users_and_roles_in_join_order() {
    let service = Service::with_room().await;
    for user in ["bob", "kim"] {
        service.join("finals", user).await;
    }
    service.set_role("finals", "ada", "kim", Role::Moderator).await;
    service.spectate("finals", "spy").await;
    service.tick();
    let cases: [(&[&str], &[Role], &str); 4] = [
        (&[], &[], "ada"),
        (&["spy", "nobody", "bob"], &[], "bob"),
        (&[], &[Role::Moderator, Role::Spectator], "kim"),
        (&["spy"], &[Role::Moderator], "kim"),
    ];
    for (users, roles, expected) in cases {
        for who in ["bob", "spy", ""] {
            let found = service.try_first_match("finals", who, users, roles).await;
            let found = found.expect("somebody matches");
            assert_eq!(found.member.expect("it is told").user_id, expected);
            let revision = service.revision("finals").await;
            assert_eq!(found.position.expect("it has a position").revision, revision);
        }
    }
    let told = refused(service.try_first_match("finals", "bob", &["eve"], &[Role::Admin]).await);
    told.is(Code::NotFound, "MEMBER_NOT_FOUND");
    let told = refused(service.try_first_match("finals", "eve", &[], &[]).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let request = proto::GetFirstMatchRequest {
        candidate_ids: vec!["ok".to_owned(), "a\nb".to_owned(), String::new()],
        roles: vec![1, 0, 99],
        ..Default::default()
    };
    let told = refused(service.sessions().get_first_match(sent(request)).await);
    told.blames(&["session_id", "candidate_ids[1]", "candidate_ids[2]", "roles[1]", "roles[2]"]);
    let many = vec!["bob"; 1001];
    let told = refused(service.try_first_match("finals", "bob", &many, &[]).await);
    told.blames(&["candidate_ids"]);
    service.try_first_match("finals", "bob", &many[..1000], &[]).await.expect("that many fit");
}

#[tokio::test]
async fn what_is_pending_is_read_with_the_frame_that_will_carry_it() {
    let service = Service::with_room().await;
    service.join("finals", "bob").await;
    service.set_in("finals", "bob", [("x", int(1)), ("gone", int(1))]).await;
    service.tick();
    let nothing = service.try_updated("finals", "ada", "bob", None).await.expect("she may ask");
    assert_eq!(nothing.change, None);
    let revision = service.revision("finals").await;
    assert_eq!(nothing.position.expect("it has one").revision, revision);
    let next = service.set_in("finals", "bob", [("x", int(2))]).await;
    service.remove_in("finals", "bob", &["gone"]).await;
    for who in ["ada", "bob", ""] {
        let read = service.try_updated("finals", who, "bob", None).await.expect("who may ask");
        let change = read.change.expect("something is pending");
        assert_eq!((&*change.user_id, change.removed), ("bob", vec!["gone".to_owned()]));
        assert_eq!(change.props.iter().map(show_named).collect::<Shown>(), shown([("x", int(2))]));
        assert_eq!(read.position.expect("it has one").revision, next);
    }
    let own = service.try_updated("finals", "bob", "", None).await.expect("it is one's own");
    assert_eq!(own.change.expect("something is pending").user_id, "bob");
}

#[tokio::test]
async fn what_changed_since_a_position_is_read_as_of_the_last_frame() {
    let service = Service::with_room().await;
    service.join("finals", "bob").await;
    service.set_in("finals", "bob", [("x", int(1)), ("y", int(1))]).await;
    service.tick();
    let since = service.info("finals", "ada").await.position.expect("it has one");
    service.set_in("finals", "bob", [("x", int(2))]).await;
    service.tick();
    service.set_in("finals", "bob", [("y", int(2))]).await;
    let read = service.try_updated("finals", "ada", "bob", Some(since)).await.expect("she may ask");
    let change = read.change.expect("something changed");
    assert_eq!(change.props.iter().map(show_named).collect::<Shown>(), shown([("x", int(2))]));
    assert!(!change.replaces);
    let last = read.position.expect("it has one");
    assert_eq!(last.revision, since.revision + 1);
    let nothing = service.try_updated("finals", "ada", "bob", Some(last)).await.expect("it is one");
    assert_eq!(nothing.change, None);
    let open = Position { revision: last.revision + 1, ..last };
    service.try_updated("finals", "ada", "bob", Some(open)).await.expect("the open frame is one");
    let beyond = Position { revision: last.revision + 2, ..last };
    let other = Position { epoch: last.epoch + 1, ..last };
    for since in [beyond, other] {
        let told = refused(service.try_updated("finals", "ada", "bob", Some(since)).await);
        told.is(Code::FailedPrecondition, "UNKNOWN_POSITION");
    }
}

#[tokio::test]
async fn reads_of_single_members_are_refused_with_their_reasons() {
    let service = Service::with_room().await;
    let told = refused(service.try_updated("finals", "eve", "ada", None).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let told = refused(service.try_updated("finals", "ada", "eve", None).await);
    told.is(Code::NotFound, "MEMBER_NOT_FOUND");
    let told = refused(service.try_updated("nothing", "ada", "ada", None).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    let told = refused(service.try_updated("finals", "", "", None).await);
    told.blames(&["target_user_id"]);
    let told = refused(service.try_updated("", "a\n", "b\n", Some(Position::default())).await);
    told.blames(&["session_id", "user_id", "target_user_id", "since"]);
}

#[tokio::test]
async fn a_reply_over_1_mib_is_refused_with_the_limit() {
    let service = Service::with_room().await;
    let most = 1024 * 1024;
    // What is accepted and not framed yet is told in one reply.
    for key in 0..64 {
        service.set_in("finals", "ada", [(&*format!("key {key:0>2}"), data(16_340))]).await;
    }
    let told = service.try_updated("finals", "ada", "ada", None).await.expect("it just fits");
    assert!(told.encoded_len() <= most && told.encoded_len() > most - 4096);
    service.set_in("finals", "ada", [("key 64", data(4096))]).await;
    let told = refused(service.try_updated("finals", "ada", "ada", None).await);
    told.is(Code::ResourceExhausted, "REPLY_TOO_LARGE").says("most", &most.to_string());
    service.tick();
    assert!(
        service
            .try_updated("finals", "ada", "ada", None)
            .await
            .expect("it is framed")
            .change
            .is_none()
    );
}

#[tokio::test]
async fn who_sees_less_from_the_next_frame_on_reads_nothing_pending_of_the_rest() {
    let service = Service::start().await;
    let settings = SessionSettings {
        propnames: vec!["slide".to_owned(), "mood".to_owned()],
        hostprops: vec!["slide".to_owned()],
        ..Default::default()
    };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.join("lecture", "bob").await;
    service.tick();
    let pending = async |who: &str, target: &str| {
        let read = service.try_updated("lecture", who, target, None).await.expect("who may ask");
        let props = read.change.unwrap_or_default().props;
        props.into_iter().map(|named| named.name).collect::<Vec<_>>()
    };
    service.set_in("lecture", "bob", [("mood", int(1))]).await;
    assert_eq!(pending("host", "bob").await, ["mood"]);
    service.try_swap_host("lecture", "host", "ada", 0).await.expect("it hands over");
    service.set_in("lecture", "bob", [("mood", int(2))]).await;
    assert_eq!(pending("host", "bob").await, [""; 0], "it is for the next host");
    assert_eq!(pending("ada", "bob").await, [""; 0], "who does not host yet");
    service.set_in("lecture", "host", [("slide", int(1))]).await;
    assert_eq!(pending("bob", "host").await, [""; 0], "it is a member like others");
    service.tick();

    service.set_in("lecture", "ada", [("slide", int(2))]).await;
    assert_eq!(pending("bob", "ada").await, ["slide"]);
    let hidden = SessionSettings { hostprops: vec!["mood".to_owned()], ..Default::default() };
    service.update("lecture", "", &["hostprops"], hidden).await;
    assert_eq!(pending("bob", "ada").await, [""; 0], "no frame will show it to him");
}
