//! The source of SessionServer tells six failures apart by number.

use super::*;

#[tokio::test]
async fn code_2_not_in_a_session() {
    let service = Service::start().await;
    let (cloud, now) = a_match_of_two(&service).await;
    now.leaves(&service).await;
    let told = refused(now.update_player(&service, name("late")).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let told = refused(now.update_session_data(&service, [("endTimeInMS", int(1))]).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let told = refused(service.try_leave(&cloud.session_id, &now.player_id, false).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
}

#[tokio::test]
async fn code_3_the_session_is_gone() {
    let service = Service::start().await;
    let (cloud, mut now) = a_match_of_two(&service).await;
    service.try_delete(&cloud.session_id, &cloud.player_id).await.expect("it is deleted");
    service.tick();
    now.heard.end().await.is_ok(EndReason::Deleted);
    let told = refused(now.update_player(&service, name("late")).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    let told = refused(now.update_session(&service, match_format()).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn code_4_create_while_in_one_or_with_wrong_fields() {
    let service = Service::start().await;
    let player = Player::creates(&service, match_format()).await;
    let again = proto::OpenSharedSessionRequest {
        user_id: player.player_id.clone(),
        session_id: "second".to_owned(),
        ..create_session(match_format())
    };
    let told = refused(service.try_open(again).await);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION");
    refused(service.try_info("second", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");

    let no_kind = format_of([("endTimeInMS", no_kind())], [("", text("no key"))]);
    let told = refused(service.try_open(create_session(no_kind)).await);
    told.blames(&[r#"schema.data_example["endTimeInMS"]"#, r#"schema.props_example[""]"#]);
    let does_not_fit = proto::OpenSharedSessionRequest {
        data: props([("endTimeInMS", text("soon"))]),
        ..create_session(match_format())
    };
    let told = refused(service.try_open(does_not_fit).await);
    told.blames(&[r#"data["endTimeInMS"]"#]);
}

#[tokio::test]
async fn code_5_join_while_in_one() {
    let service = Service::start().await;
    let (_, now) = a_match_of_two(&service).await;
    let other = Player::creates(&service, match_format()).await;
    let told = refused(service.try_join(&other.session_id, &now.player_id, tied_join()).await);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION");
    let told = refused(join_newest(&service, &now.player_id).await);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION");
}

#[tokio::test]
async fn code_6_nothing_to_join() {
    let service = Service::start().await;
    let told = refused(join_newest(&service, "").await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    let locked = proto::SessionSettings { locked: Some(true), ..Default::default() };
    service.open_room_with("closed", "ada", locked).await;
    service.tick();
    let told = refused(join_newest(&service, "").await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn code_7_no_such_session() {
    let service = Service::start().await;
    let told = refused(service.try_join("4711", "", tied_join()).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    service.is_fine().await;
}
