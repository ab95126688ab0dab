//! The fields of SessionUser, each by its name.

use crate::{clients::*, support::*};
use sessiond::proto;

#[tokio::test]
async fn sessions_are_those_that_the_user_has_joined() {
    let service = Service::start().await;
    for session in ["one", "two", "three"] {
        service.open_room(session, "ada").await;
    }
    service.join("two", "bob").await;
    let private = open_private(&service, private_opening("bob", "bob", "ada")).await.session_id;
    service.tick();
    let sessions_of_bob = async |asked_by: &str| {
        let request = proto::ListSessionsRequest {
            user_id: asked_by.to_owned(),
            member_id: "bob".to_owned(),
            ..Default::default()
        };
        let listed = service.try_list(request).await.expect("it lists").sessions;
        let mut ids: Vec<_> = listed.into_iter().map(|it| it.session_id).collect();
        ids.sort();
        ids
    };
    let mut both = vec![private, "two".to_owned()];
    both.sort();
    for insider in ["bob", "ada", ""] {
        assert_eq!(sessions_of_bob(insider).await, both, "{insider}");
    }
    assert_eq!(sessions_of_bob("eve").await, ["two"]);
}
