//! The source of SessionServer tells six failures apart by number.

use super::*;

#[tokio::test]
async fn each_of_the_six_failures_has_a_reason_of_its_own() {
    let service = Service::start().await;
    let none = refused(join_newest(&service, "").await);
    let (cloud, now) = a_match_of_two(&service).await;
    let other = Player::creates(&service, match_format()).await;
    let again = proto::OpenSharedSessionRequest {
        user_id: now.player_id.clone(),
        session_id: "second".to_owned(),
        ..create_session(match_format())
    };
    let create_while_in_one = refused(service.try_open(again).await);
    let no_kind = format_of([("endTimeInMS", no_kind())], [("", text("no key"))]);
    let wrong_fields = refused(service.try_open(create_session(no_kind)).await);
    let join = service.try_join(&other.session_id, &now.player_id, tied_join());
    let join_while_in_one = refused(join.await);
    now.leaves(&service).await;
    let not_in_one = refused(now.update_player(&service, name("late")).await);
    service.try_delete(&cloud.session_id, &cloud.player_id).await.expect("it is deleted");
    let gone = refused(cloud.update_player(&service, name("late")).await);
    let unknown = refused(service.try_join("4711", "", tied_join()).await);
    for (told, code, reason) in [
        (not_in_one, Code::FailedPrecondition, "NOT_A_MEMBER"),
        (gone, Code::NotFound, "SESSION_NOT_FOUND"),
        (create_while_in_one, Code::FailedPrecondition, "ALREADY_IN_SESSION"),
        (wrong_fields, Code::InvalidArgument, "INVALID_FIELDS"),
        (join_while_in_one, Code::FailedPrecondition, "ALREADY_IN_SESSION"),
        (none, Code::NotFound, "SESSION_NOT_FOUND"),
        (unknown, Code::NotFound, "SESSION_NOT_FOUND"),
    ] {
        told.is(code, reason);
    }
}
