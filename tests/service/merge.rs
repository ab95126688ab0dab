//! Maps that are merged into the maps that are there.

use crate::support::*;
use sessiond::proto::{PropsWrite, SetSessionDataRequest};
use tonic::Code;

fn merging(write: PropsWrite) -> PropsWrite {
    PropsWrite { merge_maps: true, ..write }
}

#[tokio::test]
async fn what_is_merged_on_the_user_shows_whole_in_all_its_sessions() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "ada").await;
    let at = |x, y| [("at", map([("x", int(x)), ("inner", map([("y", int(y))]))]))];
    service.set("ada", at(1, 1)).await;
    service.tick();
    let mut blue = service.watch("blue", "ada").await;
    let mut red = service.watch("red", "ada").await;
    let news = write([("at", map([("inner", map([("z", int(2))]))]))]);
    service.try_write("ada", merging(news)).await.expect("it is merged");
    service.tick();
    let whole = map([("x", int(1)), ("inner", map([("y", int(1)), ("z", int(2))]))]);
    for watcher in [&mut blue, &mut red] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("ada"), shown([("at", whole.clone())]));
    }
    // Without the word a map is replaced whole.
    service.set("ada", at(3, 3)).await;
    service.tick();
    blue.next_changes().await;
    assert_eq!(blue.rebuilt.props("ada"), shown(at(3, 3)));
}

#[tokio::test]
async fn what_is_merged_in_a_session_is_merged_into_what_it_shows() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "ada").await;
    service.set("ada", [("at", map([("of", text("user"))]))]).await;
    let mut stream = service.stream("blue", "ada").await;
    let news = write([("at", map([("also", text("session"))]))]).in_session("blue");
    let seq = stream.write(merging(news));
    stream.until_acked(&service, seq).await;
    assert_eq!(stream.refusals.len(), 0);
    let both = map([("of", text("user")), ("also", text("session"))]);
    assert_eq!(stream.rebuilt.props("ada"), shown([("at", both)]));
    let red = service.watch("red", "ada").await;
    assert_eq!(red.rebuilt.props("ada"), shown([("at", map([("of", text("user"))]))]));
}

#[tokio::test]
async fn a_plain_json_object_is_merged_too() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.set_in("finals", "ada", [("at", map([("x", num(1.0))]))]).await;
    let two = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(2.0)) };
    let at = prost_types::Struct { fields: [("y".to_owned(), two)].into() };
    let at = prost_types::Value { kind: Some(prost_types::value::Kind::StructValue(at)) };
    let json = Some(prost_types::Struct { fields: [("at".to_owned(), at)].into() });
    let write = PropsWrite { json, ..Default::default() }.in_session("finals");
    service.try_write("ada", merging(write)).await.expect("it is merged");
    service.tick();
    let watcher = service.watch("finals", "ada").await;
    let whole = map([("x", num(1.0)), ("y", num(2.0))]);
    assert_eq!(watcher.rebuilt.props("ada"), shown([("at", whole)]));
}

#[tokio::test]
async fn a_merged_value_has_the_bounds_of_every_value() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    for (key, session) in [("of the user", None), ("of the session", Some("finals"))] {
        let merge = |entry, bytes| {
            let write = merging(write([(key, map([(entry, data(bytes))]))]));
            service.try_write(
                "ada",
                match session {
                    Some(session) => write.in_session(session),
                    None => write,
                },
            )
        };
        merge("a", 8000).await.expect("it fits");
        // One byte less at a time, until it fits: so the bound is met exactly.
        let mut bytes = 8384;
        while let Err(status) = merge("b", bytes).await {
            refused(Err::<(), _>(status)).blames(&[&format!("write.set[{key:?}]")]);
            bytes -= 1;
        }
        let grown = merge("b", bytes + 1).await.expect_err("it is too large again");
        assert!(
            grown.message().contains("has 16385 bytes when merged, more than 16384"),
            "{grown}"
        );
    }
}

#[tokio::test]
async fn session_data_is_merged_in_both_parts() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.set_data("finals", "ada", [("rules", map([("laps", int(3))]))]).await;
    service.set_private_data("finals", "ada", [("notes", map([("a", int(1))]))]).await;
    let request = SetSessionDataRequest {
        set: props([("rules", map([("fuel", flag(true))]))]),
        private_set: props([("notes", map([("b", int(2))]))]),
        merge_maps: true,
        ..data_of("finals", "ada")
    };
    service.try_set_data(request).await.expect("it is merged");
    service.tick();
    let watcher = service.watch("finals", "ada").await;
    let rules = map([("laps", int(3)), ("fuel", flag(true))]);
    assert_eq!(watcher.rebuilt.state.data, shown([("rules", rules)]));
    let notes = map([("a", int(1)), ("b", int(2))]);
    assert_eq!(watcher.rebuilt.state.private_data, shown([("notes", notes)]));
    let large = SetSessionDataRequest {
        set: props([("rules", map([("x", data(16_300))])), ("new", int(1))]),
        private_set: props([("notes", map([("x", data(16_360))]))]),
        merge_maps: true,
        ..data_of("finals", "ada")
    };
    let one = refused(service.try_set_data(large.clone()).await);
    one.is(Code::InvalidArgument, "INVALID_FIELDS").names(&[r#"private_set["notes"]"#]);
    service.tick();
    assert_eq!(service.revision("finals").await, 2, "nothing changed");
}
