//! createSession: its options and its callbacks.

use super::*;

#[tokio::test]
async fn type_room_sends_all_user_data_to_all_other_users_based_on_propnames() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    service.set("bob", [("key1", int(1)), ("secret", int(2))]).await;
    service.set_in("session", "ada", [("key1", int(3)), ("secret", int(4))]).await;
    service.tick();
    for watcher in [&mut ada, &mut bob] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("bob"), shown([("key1", int(1))]));
        assert_eq!(watcher.rebuilt.props("ada"), shown([("key1", int(3))]));
    }
}

#[tokio::test]
async fn onupdate_gets_per_update_responses_for_sequential_data_operations() {
    let service = Service::start().await;
    let (_other, mut latest) = room_of_two(&service).await;
    let mut onupdate = onupdate(&service, "session", "bob").await;
    for value in [1, 2, 2, 1] {
        service.set_in("session", "ada", [("key1", int(value))]).await;
    }
    service.set_in("session", "bob", [("key1", int(7))]).await;
    service.tick();
    let expected = ["ada.key1=1i", "ada.key1=2i", "ada.key1=2i", "ada.key1=1i", "bob.key1=7i"];
    assert_eq!(next_writes(&mut onupdate).await, expected);
    // What did not change anything in the end is there as well.
    for value in [5, 1] {
        service.set_in("session", "ada", [("key1", int(value))]).await;
    }
    service.tick();
    assert_eq!(next_writes(&mut onupdate).await, ["ada.key1=5i", "ada.key1=1i"]);
    latest.next_changes().await;
    assert_eq!(latest.glance().await, None, "a frame without net effect is silent");
}
