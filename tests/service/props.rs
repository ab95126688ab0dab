//! Whose props are shown where: those of the user in all its sessions, those of one session only
//! there.

use crate::support::*;
use sessiond::proto::{PropsWrite, SetUserPropsRequest};
use tonic::Code;

#[tokio::test]
async fn a_write_on_the_user_shows_in_all_its_sessions_and_in_those_joined_later() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "ada").await;
    let mut blue = service.watch("blue", "ada").await;
    let mut red = service.watch("red", "ada").await;
    let results = service.set("ada", [("name", text("Ada"))]).await;
    let mut concerned: Vec<_> = results.iter().map(|it| &*it.session_id).collect();
    concerned.sort();
    assert_eq!(concerned, ["blue", "red"]);
    assert!(results.iter().all(|it| it.position.as_ref().is_some_and(|at| at.revision == 2)));
    service.tick();
    for watcher in [&mut blue, &mut red] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("ada"), shown([("name", text("Ada"))]));
    }
    service.open_room("green", "bob").await;
    service.join("green", "ada").await;
    service.tick();
    let green = service.watch("green", "bob").await;
    assert_eq!(green.rebuilt.props("ada"), shown([("name", text("Ada"))]));
}

#[tokio::test]
async fn a_write_that_names_a_session_shows_only_there_until_the_next_write() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "ada").await;
    service.set("ada", [("name", text("Ada"))]).await;
    service.tick();
    let mut blue = service.watch("blue", "ada").await;
    let mut red = service.watch("red", "ada").await;
    service.set_in("blue", "ada", [("name", text("Blue")), ("only", int(1))]).await;
    service.tick();
    blue.next_changes().await;
    assert_eq!(blue.rebuilt.props("ada"), shown([("name", text("Blue")), ("only", int(1))]));
    assert_eq!(service.revision("red").await, 2, "the other session is not concerned");

    service.set("ada", [("name", text("Countess"))]).await;
    service.tick();
    red.next_changes().await;
    assert_eq!(red.rebuilt.props("ada"), shown([("name", text("Countess"))]));
    assert_eq!(blue.next_span().await, (3, 4));
    assert_eq!(blue.rebuilt.props("ada"), shown([("name", text("Countess")), ("only", int(1))]));
    service.remove_in("blue", "ada", &["name", "only"]).await;
    service.tick();
    blue.next_changes().await;
    assert_eq!(blue.rebuilt.props("ada"), shown([]));
}

#[tokio::test]
async fn a_write_takes_a_revision_only_where_a_written_key_is_selected() {
    let service = Service::start().await;
    service.open_room_with("names", "ada", propnames(&["name"])).await;
    service.open_room_with("scores", "ada", propnames(&["score", "name"])).await;
    let results = service.set("ada", [("score", int(1))]).await;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].session_id, "scores");
    assert_eq!(service.set("ada", [("other", int(1))]).await, []);
    service.tick();
    assert_eq!(service.revision("names").await, 1);
    assert_eq!(service.revision("scores").await, 2);
    // It is kept all the same: a selection that comes to name the key shows it.
    service.update("names", "ada", &["propnames"], propnames(&["other"])).await;
    service.tick();
    let names = service.watch("names", "ada").await;
    assert_eq!(names.rebuilt.props("ada"), shown([("other", int(1))]));
}

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
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
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
async fn a_spectator_never_sends() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.spectate("finals", "spy").await;
    let results = service.set("spy", [("x", int(1))]).await;
    assert_eq!(results, [], "a write on the user does not concern the session");
    let answer = service.try_write("spy", write([("x", int(1))]).in_session("finals")).await;
    refused(answer).is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "member");
    let request = SetUserPropsRequest {
        target_user_id: "spy".to_owned(),
        write: Some(write([("x", int(1))]).in_session("finals")),
        ..Default::default()
    };
    refused(service.try_set_props(request).await).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    let mut of_data = data_of("finals", "spy");
    of_data.set = props([("x", int(1))]);
    refused(service.try_set_data(of_data).await).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.tick();
    let spy = service.watch("finals", "spy").await;
    assert_eq!(spy.rebuilt.props("spy"), shown([]));
    assert_eq!(spy.rebuilt.state.data, shown([]));
}

#[tokio::test]
async fn a_plain_json_object_is_a_write_too() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
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

#[tokio::test]
async fn a_map_is_replaced_whole() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.set_in("finals", "ada", [("map", map([("a", int(1)), ("b", int(2))]))]).await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    service.set_in("finals", "ada", [("map", map([("b", int(3))]))]).await;
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("map", map([("b", int(3))]))]));
}

#[tokio::test]
async fn props_that_come_with_the_join_are_in_the_frame_of_the_join() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.set("bob", [("name", text("Bob")), ("x", int(0))]).await;
    let mut ada = service.watch("finals", "ada").await;
    service.join_with("finals", "bob", [("x", int(1))]).await;
    service.tick();
    let changes = ada.next_changes().await;
    assert_eq!(changes.members.len(), 1);
    assert_eq!(ada.rebuilt.props("bob"), shown([("name", text("Bob")), ("x", int(1))]));
    service.open_room("other", "bob").await;
    service.tick();
    let other = service.watch("other", "bob").await;
    assert_eq!(other.rebuilt.props("bob"), shown([("name", text("Bob")), ("x", int(0))]));
}
