//! Listings beside sessions that they must not show.

use crate::{
    server::{Server, as_app},
    trial::{Trial, is_long},
    wire::Peer,
};
use sessiond::proto::{ListSessionsRequest, OpenSharedSessionRequest, SessionSettings};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Opens sessions that no outsider may see.
fn open_hidden(server: &Server, count: usize) {
    let stays = Some(Duration::from_secs(3600).try_into().expect("a short time"));
    let open = (0..count).map(|number| OpenSharedSessionRequest {
        session_id: format!("hidden-{number:06}"),
        settings: Some(SessionSettings {
            unlisted: Some(true),
            empty_ttl: stays,
            ..Default::default()
        }),
        ..Default::default()
    });
    let as_app = [("sessiond-as", "app")];
    Peer::connect(server).make_calls("SessionService/OpenSharedSession", &as_app, open);
}

fn list_as_outsider(server: &Server) -> Vec<String> {
    let request = ListSessionsRequest { user_id: "outsider".to_owned(), ..Default::default() };
    let listed = server.ask(async |mut client| client.list_sessions(request).await);
    let sessions = listed.expect("anybody may ask").sessions;
    sessions.into_iter().map(|session| session.session_id).collect()
}

#[test]
fn an_outsider_lists_beside_unlisted_sessions() {
    let trial = Trial::start(&[]);
    let count = if is_long() { 300_000 } else { 30_000 };
    open_hidden(&trial.server, count);
    trial.withstands("7 ListSessions a second beside unlisted sessions", |until| {
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            let begin = Instant::now();
            assert_eq!(list_as_outsider(&trial.server), [crate::honest::ROOM]);
            longest = longest.max(begin.elapsed());
            thread::sleep(Duration::from_millis(143).saturating_sub(begin.elapsed()));
        }
        println!("{count} unlisted sessions: a listing took {longest:?} at most");
    });
}

#[test]
fn a_listing_costs_what_it_shows() {
    let server = Server::start(&[]);
    server.open_room("shown", SessionSettings::default());
    let time_of_listings = || {
        let cpu = server.cpu();
        (0..50).for_each(|_| assert_eq!(list_as_outsider(&server), ["shown"]));
        server.cpu() - cpu
    };
    let alone = time_of_listings();
    open_hidden(&server, 30_000);
    let beside = time_of_listings();
    println!("50 listings take {alone:?} alone, {beside:?} beside 30,000 unlisted sessions");
    // Times are counted in hundredths of a second.
    assert!(beside <= 3 * alone + Duration::from_millis(150), "{alone:?}, then {beside:?}");
    let request = ListSessionsRequest { page_size: 10, ..Default::default() };
    let all = server.ask(async |mut client| client.list_sessions(as_app(request)).await);
    assert_eq!(all.expect("the app sees all").sessions.len(), 10);
}
