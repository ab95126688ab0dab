//! Places that are held for users who are about to join.

use crate::support::*;
use sessiond::proto::{
    JoinOptions, JoinSessionRequest, ListSessionsRequest, ReleaseSeatsRequest, ReserveSeatsRequest,
    SessionSettings,
};
use tonic::Code;

/// The room `party` of ada with three places.
async fn with_party() -> Service {
    let service = Service::start().await;
    let settings = SessionSettings { capacity: Some(3), ..Default::default() };
    service.open_room_with("party", "ada", settings).await;
    service
}

async fn is_full(service: &Service, user: &str) {
    let told = refused(service.try_join("party", user, JoinOptions::default()).await);
    told.is(Code::ResourceExhausted, "SESSION_FULL").says("most", "3");
}

async fn reserved(service: &Service) -> Option<u32> {
    service.info("party", "").await.session.expect("it is there").reserved_count
}

#[tokio::test]
async fn a_party_gets_its_places_and_joins_while_others_find_the_session_full() {
    let service = with_party().await;
    let held = service.try_reserve("party", "ada", &["bob", "cid"], 10_000).await;
    let until = held.expect("there are two places").held_until.expect("it says until when");
    assert_eq!(until.seconds as u64 * 1_000_000, BEGIN + 10_000_000);
    assert_eq!(reserved(&service).await, Some(2));
    is_full(&service, "eve").await;
    service.join("party", "bob").await;
    is_full(&service, "eve").await;
    service.join("party", "cid").await;
    service.tick();
    assert_eq!(reserved(&service).await, Some(0));
    assert_eq!(service.names("party").await, ["ada", "bob", "cid"]);
}

#[tokio::test]
async fn a_place_is_free_again_after_its_time_or_when_it_is_given_back() {
    let service = with_party().await;
    service.try_reserve("party", "ada", &["bob", "cid"], 10_000).await.expect("there are two");
    service.advance(9_999);
    is_full(&service, "eve").await;
    service.advance(1);
    service.join("party", "eve").await;
    service.try_reserve("party", "", &["bob"], 1_000).await.expect("there is one");
    service.try_release("party", "ada", &["bob", "nobody"]).await.expect("it may");
    service.join("party", "dan").await;
}

#[tokio::test]
async fn a_party_that_does_not_fit_gets_no_place_at_all() {
    let service = with_party().await;
    let told = refused(service.try_reserve("party", "ada", &["bob", "cid", "dan"], 1_000).await);
    told.is(Code::ResourceExhausted, "SESSION_FULL").says("limit", "capacity");
    service.try_ban("party", "ada", "bad").await.expect("he is banned");
    let told = refused(service.try_reserve("party", "ada", &["bob", "bad"], 1_000).await);
    told.is(Code::PermissionDenied, "BANNED").says("field", "target_user_ids[1]");
    assert_eq!(reserved(&service).await, Some(0));
    // Who is in needs none.
    service.tick();
    service.try_reserve("party", "ada", &["ada", "bob", "cid"], 1_000).await.expect("they fit");
    assert_eq!(reserved(&service).await, Some(2));
}

#[tokio::test]
async fn a_user_holds_a_place_for_itself_where_it_could_join() {
    let service = with_party().await;
    service.try_reserve("party", "bob", &[], 5_000).await.expect("he could join");
    service.try_reserve("party", "cid", &["cid"], 5_000).await.expect("he could join");
    is_full(&service, "eve").await;
    let told = refused(service.try_reserve("party", "eve", &[], 5_000).await);
    told.is(Code::ResourceExhausted, "SESSION_FULL");
    service.try_release("party", "bob", &[]).await.expect("it is his");
    service.try_reserve("party", "eve", &[], 5_000).await.expect("there is one again");
    let told = refused(service.try_release("party", "bob", &["cid"]).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    // Of a session with a password nobody holds a place who would have to give it.
    let settings = SessionSettings { password: Some("open".to_owned()), ..Default::default() };
    service.open_room_with("locked", "ada", settings.clone()).await;
    let told = refused(service.try_reserve("locked", "bob", &[], 5_000).await);
    told.is(Code::PermissionDenied, "WRONG_PASSWORD");
    let hidden = SessionSettings { unlisted: Some(true), ..settings };
    service.open_room_with("hidden", "ada", hidden).await;
    for session in ["hidden", "no such session"] {
        let told = refused(service.try_reserve(session, "bob", &[], 5_000).await);
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
    }
}

#[tokio::test]
async fn newest_passes_over_a_session_whose_last_places_are_held() {
    let service = with_party().await;
    service.try_reserve("party", "ada", &["bob", "cid"], 10_000).await.expect("there are two");
    let newest =
        || JoinSessionRequest { newest: true, user_id: "eve".to_owned(), ..Default::default() };
    let told = refused(service.try_join_as(newest()).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    service.advance(10_000);
    assert_eq!(service.try_join_as(newest()).await.expect("there is one").session_id, "party");
}

#[tokio::test]
async fn listings_and_watchers_see_how_many_places_are_held() {
    let service = with_party().await;
    let filter = "member_count + reserved_count < capacity";
    let mut eve = service.watch_sessions("eve", "").await;
    let mut free = service.watch_sessions("eve", filter).await;
    service.tick();
    service.try_reserve("party", "ada", &["bob", "cid"], 10_000).await.expect("there are two");
    service.tick();
    eve.next().await;
    assert_eq!(eve.sessions["party"].reserved_count, Some(2));
    free.next().await;
    assert_eq!(free.ids(), [""; 0]);
    let listed = ListSessionsRequest { filter: filter.to_owned(), ..Default::default() };
    assert_eq!(service.try_list(listed).await.expect("it lists").sessions, []);
    service.join("party", "bob").await;
    service.tick();
    eve.next().await;
    let party = &eve.sessions["party"];
    assert_eq!((party.member_count, party.reserved_count), (Some(2), Some(1)));
    service.advance(10_000);
    free.next().await;
    assert_eq!(free.ids(), ["party"]);
}

#[tokio::test]
async fn a_reservation_is_safe_to_send_again() {
    let service = with_party().await;
    let request = || ReserveSeatsRequest {
        session_id: "party".to_owned(),
        user_id: "ada".to_owned(),
        target_user_ids: vec!["bob".to_owned()],
        request_id: "once".to_owned(),
        ..Default::default()
    };
    let reserve = async |request| service.sessions().reserve_seats(request).await;
    let first = reserve(request()).await.expect("there is one").into_inner();
    service.advance(1_000);
    assert_eq!(reserve(request()).await.expect("it is replayed").into_inner(), first);
    let other = ReserveSeatsRequest { duration: Some(ms(2_000)), ..request() };
    refused(reserve(other).await).is(Code::InvalidArgument, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn a_faulty_reservation_is_refused_with_its_faults() {
    let service = with_party().await;
    let request = ReserveSeatsRequest {
        session_id: "p\0".to_owned(),
        user_id: "ada".to_owned(),
        target_user_ids: ["bob", "", "bob"].map(str::to_owned).to_vec(),
        duration: Some(ms(60_001)),
        ..Default::default()
    };
    let told = refused(service.sessions().reserve_seats(request).await);
    told.blames(&["session_id", "target_user_ids[1]", "target_user_ids[2]", "duration"]);
    let told = refused(service.try_reserve("party", "ada", &["bob"], 999).await);
    told.blames(&["duration"]);
    let many: Vec<_> = (0..1001).map(|at| format!("user {at}")).collect();
    let request = ReleaseSeatsRequest {
        session_id: "party".to_owned(),
        user_id: "ada".to_owned(),
        target_user_ids: many,
        ..Default::default()
    };
    refused(service.sessions().release_seats(request).await).blames(&["target_user_ids"]);
    refused(service.try_reserve("party", "", &[], 1_000).await).blames(&["target_user_ids"]);
    assert_eq!(reserved(&service).await, Some(0));
}
