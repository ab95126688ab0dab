//! Maps that are merged into the maps that are there.

use crate::support::*;
use sessiond::proto::{PropsWrite, SetSessionDataRequest};
use tonic::Code;

fn merging(write: PropsWrite) -> PropsWrite {
    PropsWrite { merge_maps: true, ..write }
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
async fn what_is_merged_on_the_user_is_merged_into_what_each_session_shows() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.set("ada", [("at", map([("a", int(1))]))]).await;
    let news = write([("at", map([("b", int(2))]))]).in_session("blue");
    service.try_write("ada", merging(news)).await.expect("it is merged");
    let everywhere = write([("at", map([("c", int(3))]))]);
    service.try_write("ada", merging(everywhere)).await.expect("it is merged");
    service.tick();
    let blue = service.watch("blue", "ada").await;
    let all = map([("a", int(1)), ("b", int(2)), ("c", int(3))]);
    assert_eq!(blue.rebuilt.props("ada"), shown([("at", all)]));
    service.open_room("red", "ada").await;
    let red = service.watch("red", "ada").await;
    let own = map([("a", int(1)), ("c", int(3))]);
    assert_eq!(red.rebuilt.props("ada"), shown([("at", own)]));
}

#[tokio::test]
async fn session_data_is_merged_in_both_parts() {
    let service = Service::with_room().await;
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
