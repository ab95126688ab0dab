//! Who finds which sessions, and what they tell.

use crate::support::*;
use sessiond::proto::{ListSessionsRequest, SessionOrder, SessionSettings};
use tonic::Code;

fn unlisted(name: &str) -> SessionSettings {
    SessionSettings { name: name.to_owned(), unlisted: Some(true), ..Default::default() }
}

/// All pages of a listing.
async fn ids(service: &Service, request: ListSessionsRequest) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page_token = request.page_token.clone();
    loop {
        let request = ListSessionsRequest { page_token, ..request.clone() };
        let page = service.try_list(request).await.expect("it is listed");
        pages.push(page.sessions.into_iter().map(|it| it.session_id).collect());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

async fn all(service: &Service, request: ListSessionsRequest) -> Vec<String> {
    ids(service, request).await.concat()
}

#[tokio::test]
async fn sessions_are_listed_by_id_in_pages() {
    let service = Service::start().await;
    let mut expected: Vec<_> = (0..25).map(|n| format!("session {n}")).collect();
    for id in &expected {
        service.open_room(id, "ada").await;
    }
    expected.sort();
    for page_size in [1, 7, 24, 25, 26, 0] {
        let pages = ids(&service, ListSessionsRequest { page_size, ..Default::default() }).await;
        assert_eq!(pages.concat(), expected);
        let most = if page_size == 0 { 100 } else { page_size as usize };
        assert_eq!(pages.len(), 25_usize.div_ceil(most), "no page is empty");
        assert!(pages.iter().all(|page| page.len() <= most));
    }
    let of_ada =
        ListSessionsRequest { member_id: "ada".to_owned(), page_size: 10, ..Default::default() };
    assert_eq!(ids(&service, of_ada).await.concat(), expected);
    // A page goes on behind its token even if that session is gone.
    let first = ListSessionsRequest { page_size: 10, ..Default::default() };
    let page_token = service.try_list(first).await.expect("it is listed").next_page_token;
    service.try_delete(&expected[9], "ada").await.expect("it is deleted");
    let rest = ListSessionsRequest { page_token, ..Default::default() };
    assert_eq!(all(&service, rest).await, expected[10..]);
}

#[tokio::test]
async fn the_filters_of_a_listing_are_combined() {
    let service = Service::start().await;
    for (session, user) in [("one", "ada"), ("two", "bob"), ("three", "ada")] {
        let settings = SessionSettings { name: format!("the {session}"), ..Default::default() };
        service.open_room_with(session, user, settings).await;
    }
    service.join("two", "ada").await;
    service.tick();
    let of = |member: &str, name: &str| ListSessionsRequest {
        member_id: member.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    };
    assert_eq!(all(&service, of("ada", "")).await, ["one", "three", "two"]);
    assert_eq!(all(&service, of("bob", "")).await, ["two"]);
    assert_eq!(all(&service, of("", "the one")).await, ["one"]);
    assert_eq!(all(&service, of("ada", "the two")).await, ["two"]);
    assert_eq!(all(&service, of("bob", "the one")).await, [""; 0]);
    assert_eq!(all(&service, of("nobody", "")).await, [""; 0]);
    assert_eq!(all(&service, of("", "no such name")).await, [""; 0]);
    let other = ListSessionsRequest { app: "other".to_owned(), ..Default::default() };
    assert_eq!(all(&service, other).await, [""; 0]);
}

#[tokio::test]
async fn an_unlisted_session_is_there_for_its_members_and_for_who_knows_it() {
    let service = Service::start().await;
    service.open_room_with("secret", "ada", unlisted("the secret")).await;
    service.join("secret", "bob").await;
    service.tick();
    let by = |user: &str| ListSessionsRequest { user_id: user.to_owned(), ..Default::default() };
    for insider in ["ada", "bob", ""] {
        assert_eq!(all(&service, by(insider)).await, ["secret"], "{insider}");
        service.info("secret", insider).await;
        service.try_info_by_name("the secret", insider).await.expect("it is there");
    }
    assert_eq!(all(&service, by("kim")).await, [""; 0]);
    let of_ada = ListSessionsRequest { member_id: "ada".to_owned(), ..by("kim") };
    assert_eq!(all(&service, of_ada).await, [""; 0]);
    // To people outside it answers as if it were not there.
    let hidden = [
        refused(service.try_info("secret", "kim").await),
        refused(service.try_info_by_name("the secret", "kim").await),
        refused(service.try_delete("secret", "kim").await),
        refused(service.try_leave("secret", "kim", false).await),
        refused(service.try_update("secret", "kim", &["locked"], unlisted("")).await),
        refused(service.try_write("kim", write([("x", int(1))]).in_session("secret")).await),
        service.refused_watch(subscription("secret", "kim")).await,
        service.open_stream(stream_open("secret", "kim")).await.refused().await,
    ];
    let unknown = refused(service.try_info("no such session", "kim").await);
    for told in hidden {
        let told = told.is(Code::NotFound, "SESSION_NOT_FOUND");
        assert_eq!(told.metadata.get("started_at"), unknown.metadata.get("started_at"));
    }
    service.join("secret", "kim").await;
    service.tick();
    assert_eq!(all(&service, by("kim")).await, ["secret"]);
}

#[tokio::test]
async fn members_are_hidden_from_people_outside() {
    let service = Service::with_room().await;
    service.spectate("finals", "spy").await;
    service.tick();
    service.advance(1_000);
    for (asker, members) in [("ada", 2), ("spy", 2), ("", 2), ("kim", 0)] {
        let reply = service.info("finals", asker).await;
        assert_eq!(reply.members.len(), members, "{asker}");
        let session = reply.session.expect("it is told");
        assert_eq!((session.member_count, session.spectator_count), (Some(1), Some(1)));
        let last = session.last_frame_at.expect("it is told");
        let created = session.created_at.expect("it is told");
        assert!((last.seconds, last.nanos) > (created.seconds, created.nanos));
        assert!(last.seconds - created.seconds < 1);
    }
}

#[tokio::test]
async fn a_session_is_found_by_id_or_by_name_and_not_by_both() {
    let service = Service::start().await;
    let settings = SessionSettings { name: "the finals".to_owned(), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    let by = |id: &str, name: &str| sessiond::proto::GetSessionInfoRequest {
        session_id: id.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    };
    let ask = async |request| {
        service
            .sessions()
            .get_session_info(sent(request))
            .await
            .map(|reply| reply.into_inner().session)
    };
    let by_id = ask(by("finals", "")).await.expect("it is found");
    assert_eq!(ask(by("", "the finals")).await.expect("it is found"), by_id);
    refused(ask(by("", "")).await).blames(&["session_id"]);
    refused(ask(by("finals", "the finals")).await).blames(&["name"]);
    refused(ask(by("", "finals")).await).is(Code::NotFound, "SESSION_NOT_FOUND");
    let request = sessiond::proto::JoinSessionRequest {
        name: "the finals".to_owned(),
        user_id: "bob".to_owned(),
        omit_snapshot: true,
        ..Default::default()
    };
    let reply = service.sessions().join_session(request).await.expect("it joins").into_inner();
    assert_eq!((&*reply.session_id, reply.snapshot), ("finals", None));
    assert!(!reply.snapshot_omitted, "it was not asked for");
}

#[tokio::test]
async fn a_bad_page_is_refused() {
    let service = Service::start().await;
    let request = ListSessionsRequest {
        app: "a\nb".to_owned(),
        user_id: "u".repeat(129),
        name: "n".repeat(129),
        member_id: "m\0".to_owned(),
        page_size: 1001,
        page_token: "t".repeat(129),
        filter: "colour == 'red'".to_owned(),
        order: 4,
    };
    let told = refused(service.try_list(request).await);
    let fields =
        ["app", "user_id", "name", "member_id", "page_size", "page_token", "filter", "order"];
    told.blames(&fields);
    let most = ListSessionsRequest { page_size: 1000, ..Default::default() };
    service.try_list(most).await.expect("a thousand is fine");
}

#[tokio::test]
async fn a_token_that_no_page_gave_is_refused() {
    let service = Service::start().await;
    service.open_room("one", "ada").await;
    service.open_room("two", "ada").await;
    let first = ListSessionsRequest { page_size: 1, ..Default::default() };
    let token = service.try_list(first).await.expect("it is listed").next_page_token;
    let (cut, longer) = (token[..token.len() - 1].to_owned(), token.clone() + "=");
    for page_token in ["garbage", "one", "1", " ", "\u{e9}", &cut, &longer, "AQ", "AQ=="] {
        let page_token = page_token.to_owned();
        let request = ListSessionsRequest { page_token, ..Default::default() };
        refused(service.try_list(request).await).blames(&["page_token"]);
    }
}

#[tokio::test]
async fn of_a_hidden_session_its_id_and_its_name_tell_that_they_are_taken_and_nothing_else() {
    let service = Service::start().await;
    service.open_room_with("secret", "ada", unlisted("the secret")).await;
    let public = SessionSettings { name: "the public".to_owned(), ..Default::default() };
    service.open_room_with("public", "ada", public).await;
    let private = sessiond::proto::OpenPrivateSessionRequest {
        session_id: "hidden".to_owned(),
        ..private("ada", "ada", "bob")
    };
    service.try_open_as(private).await.expect("the source opens it");
    service.tick();
    // All that is said, with what the caller itself has named taken out.
    let said = async |id: &str, name: &str, named: &str| {
        let settings = SessionSettings { name: name.to_owned(), ..Default::default() };
        let status = service.try_open(opening(id, "kim", settings)).await.expect_err("it is taken");
        format!("{status:?}").replace(named, "...")
    };
    let by_id = said("public", "", "public").await;
    assert!(by_id.contains("SESSION_EXISTS"), "{by_id}");
    assert_eq!(said("secret", "", "secret").await, by_id);
    assert_eq!(said("hidden", "", "hidden").await, by_id);
    let by_name = said("new", "the public", "the public").await;
    assert!(by_name.contains("NAME_TAKEN"), "{by_name}");
    assert_eq!(said("new", "the secret", "the secret").await, by_name);
    let rename = SessionSettings { name: "the secret".to_owned(), ..Default::default() };
    service.open_room("own", "kim").await;
    let told = refused(service.try_update("own", "kim", &["name"], rename).await);
    told.is(Code::AlreadyExists, "NAME_TAKEN");
    // Nothing of it got into what the caller may know of.
    let own = ListSessionsRequest { user_id: "kim".to_owned(), ..Default::default() };
    assert_eq!(all(&service, own).await, ["own", "public"]);
}

/// Rooms with a mode and a level each, opened at moments of their own.
async fn rooms(service: &Service) {
    for (id, mode, level) in [("z", "duel", 1), ("a", "race", 2), ("m", "duel", 3)] {
        let metadata = props([("mode", text(mode)), ("level", int(level))]);
        let settings =
            SessionSettings { metadata, capacity: Some(level as u32), ..Default::default() };
        service.open_room_with(id, "ada", settings).await;
        service.advance(1_000);
    }
}

fn filtered(filter: &str) -> ListSessionsRequest {
    ListSessionsRequest { filter: filter.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_filter_chooses_by_what_a_session_is() {
    let service = Service::start().await;
    rooms(&service).await;
    service.open_hosted("h", "kim", SessionSettings::default()).await;
    service.join("m", "bob").await;
    service.tick();
    for (filter, found) in [
        ("metadata.mode == 'duel'", &["m", "z"][..]),
        ("metadata.mode == 'duel' && metadata.level > 1.5", &["m"]),
        ("member_count < capacity && kind == 'ROOM'", &["a", "m"]),
        ("member_count == 2", &["m"]),
        ("kind == 'HOSTED' && host_id == 'kim' && owner_id == host_id", &["h"]),
        ("created_at < timestamp('2026-01-01T00:00:01Z')", &["z"]),
        ("!has(metadata.mode)", &["h"]),
        ("metadata.mode != 'duel'", &["a"]),
        ("session_id in ['a', 'h']", &["a", "h"]),
        ("false", &[]),
    ] {
        assert_eq!(all(&service, filtered(filter)).await, found, "{filter}");
    }
    let of_kim = ListSessionsRequest { member_id: "kim".to_owned(), ..filtered("true") };
    assert_eq!(all(&service, of_kim).await, ["h"]);
}

#[tokio::test]
async fn a_filter_applies_to_the_session_of_a_name_too() {
    let service = Service::start().await;
    let settings = SessionSettings { name: "the one".to_owned(), ..Default::default() };
    service.open_room_with("one", "ada", settings).await;
    let named = |filter| ListSessionsRequest { name: "the one".to_owned(), ..filtered(filter) };
    assert_eq!(all(&service, named("!locked")).await, ["one"]);
    assert_eq!(all(&service, named("locked")).await, [""; 0]);
}

#[tokio::test]
async fn a_filter_sees_the_last_frame_and_nothing_that_is_hidden() {
    let service = Service::start().await;
    rooms(&service).await;
    service.open_room_with("secret", "kim", unlisted("duel")).await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.update("z", "ada", &["locked"], locked).await;
    assert_eq!(all(&service, filtered("locked")).await, [""; 0], "no frame shows it yet");
    service.tick();
    assert_eq!(all(&service, filtered("locked")).await, ["z"]);
    let by_bob = ListSessionsRequest { user_id: "bob".to_owned(), ..filtered("owner_id == 'kim'") };
    assert_eq!(all(&service, by_bob).await, [""; 0]);
}

#[tokio::test]
async fn a_faulty_filter_is_refused_with_what_is_wrong_with_it() {
    let service = Service::start().await;
    for filter in ["(", "colour == 'red'", "name.matches('a')", "member_count", "1 + 1"] {
        let status = service.try_list(filtered(filter)).await.expect_err(filter);
        Refused::new(&status).blames(&["filter"]);
    }
}

#[tokio::test]
async fn sessions_are_listed_in_the_order_of_their_opening_in_pages() {
    let service = Service::start().await;
    rooms(&service).await;
    // At one moment, and not in the order of ids.
    for id in ["c", "b"] {
        service.open_room(id, "ada").await;
    }
    let ordered = |order: SessionOrder, page_size| ListSessionsRequest {
        order: order.into(),
        page_size,
        ..Default::default()
    };
    for page_size in [1, 2, 100] {
        let oldest = all(&service, ordered(SessionOrder::CreatedAt, page_size)).await;
        assert_eq!(oldest, ["z", "a", "m", "c", "b"]);
        let newest = all(&service, ordered(SessionOrder::CreatedAtDescending, page_size)).await;
        assert_eq!(newest, ["b", "c", "m", "a", "z"]);
        let by_id = all(&service, ordered(SessionOrder::Id, page_size)).await;
        assert_eq!(by_id, ["a", "b", "c", "m", "z"]);
    }
    // A token belongs to an order, and stays valid when its session is gone.
    let first = ordered(SessionOrder::CreatedAtDescending, 2);
    let page_token = service.try_list(first).await.expect("it is listed").next_page_token;
    service.try_delete("c", "ada").await.expect("it is deleted");
    service.open_room("new", "ada").await;
    let by_id = ListSessionsRequest { page_token: page_token.clone(), ..Default::default() };
    refused(service.try_list(by_id).await).blames(&["page_token"]);
    let rest = ordered(SessionOrder::CreatedAtDescending, 100);
    let rest = ListSessionsRequest { page_token, ..rest };
    assert_eq!(all(&service, rest).await, ["m", "a", "z"]);
}
