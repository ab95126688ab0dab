//! Whose props are shown where: those of the user in all its sessions, those of one session only
//! there.

use crate::support::*;
use sessiond::proto::{PropsWrite, SetUserPropsRequest};
use tonic::Code;

#[tokio::test]
async fn a_write_may_name_several_sessions_and_says_what_became_of_it_in_each() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "ada").await;
    service.open_room("closed", "bob").await;
    let everywhere = |set| {
        write(set).in_session("blue").in_session("closed").in_session("nowhere").in_session("red")
    };
    let results = service.try_write("ada", everywhere([("x", int(1))])).await.expect("one took it");
    let codes: Vec<_> = results
        .iter()
        .map(|it| (&*it.session_id, it.refusal.as_ref().map(|refusal| refusal.code)))
        .collect();
    let expected = [
        ("blue", None),
        ("closed", Some(Code::FailedPrecondition as i32)),
        ("nowhere", Some(Code::NotFound as i32)),
        ("red", None),
    ];
    assert_eq!(codes, expected);
    for result in &results {
        assert_eq!(result.position.is_some(), result.refusal.is_none());
    }
    let write = write([("x", int(1))]).in_session("closed").in_session("nowhere");
    let told = refused(service.try_write("ada", write).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
}

#[tokio::test]
async fn the_app_writes_for_any_user_and_nobody_else_does() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch("finals", "ada").await;
    let for_bob = |user: &str| SetUserPropsRequest {
        user_id: user.to_owned(),
        target_user_id: "bob".to_owned(),
        write: Some(write([("x", int(1))]).in_session("finals")),
        ..Default::default()
    };
    let told = refused(service.try_set_props(for_bob("ada")).await);
    told.is(Code::PermissionDenied, "NOT_ENTITLED");
    service.try_set_props(for_bob("bob")).await.expect("it is his own");
    service.try_set_props(for_bob("")).await.expect("the app may everything");
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn a_plain_json_object_is_a_write_too() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    use prost_types::value::Kind;
    let value = |kind| prost_types::Value { kind: Some(kind) };
    let inner =
        prost_types::Struct { fields: [("hp".to_owned(), value(Kind::NumberValue(7.0)))].into() };
    let list = vec![value(Kind::BoolValue(false)), value(Kind::NullValue(0))];
    let fields = [
        ("map".to_owned(), value(Kind::StructValue(inner))),
        ("list".to_owned(), value(Kind::ListValue(prost_types::ListValue { values: list }))),
        ("text".to_owned(), value(Kind::StringValue("red".to_owned()))),
    ];
    let json = Some(prost_types::Struct { fields: fields.into() });
    let write = PropsWrite { json, ..write([("set", int(1))]) };
    service.try_write("ada", write).await.expect("it is written");
    service.tick();
    ada.next_changes().await;
    let expected = shown([
        ("map", map([("hp", num(7.0))])),
        ("list", crate::support::list(vec![flag(false), null()])),
        ("text", text("red")),
        ("set", int(1)),
    ]);
    assert_eq!(ada.rebuilt.props("ada"), expected);
}
