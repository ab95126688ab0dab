use super::*;
use crate::{
    engine::{
        EngineSettings, Live,
        testing::{Dice, IDS, USERS, act, app, engine, room, settings, user},
    },
    session::{
        command::{Command, Join},
        limits::SECOND,
        value::Value,
    },
};
use std::sync::Arc;

/// More sessions than one call looks at.
const MANY: usize = 2 * LOOKS + LOOKS / 2;

fn with_room_for_many() -> Engine {
    engine(EngineSettings { max_sessions_per_user: MANY, ..settings() })
}

fn by(id: &str) -> Actor {
    Actor::of(&user(id))
}

fn hidden(engine: &Engine, id: &str) -> Arc<Live> {
    room(engine, id, |settings| settings.unlisted = true)
}

/// What each call of a whole listing finds.
fn calls(engine: &Engine, actor: &Actor, member: Option<&str>) -> Vec<Vec<String>> {
    let member = member.map(user);
    calls_of(engine, actor, Query { member: member.as_ref(), ..Query::default() })
}

fn calls_of(engine: &Engine, actor: &Actor, query: Query<'_>) -> Vec<Vec<String>> {
    let (mut calls, mut after) = (Vec::new(), None);
    loop {
        let mut found = Vec::new();
        let take = |state: &State| {
            found.push(state.core.id().to_string());
            true
        };
        after = engine.list((&app(), actor), query, after, take);
        calls.push(found);
        if after.is_none() {
            return calls;
        }
    }
}

#[test]
fn an_outsider_pays_nothing_for_sessions_that_it_may_not_know_of() {
    let engine = with_room_for_many();
    for at in 0..MANY {
        hidden(&engine, &format!("a{at}"));
    }
    room(&engine, "listed", |_| ());
    assert_eq!(calls(&engine, &by("eve"), None), [["listed"]]);
    // What is its own is found beside it, however much else there is.
    let own = hidden(&engine, "own");
    engine.join(&own, &user("eve"), Join::default()).expect("it knows the id");
    assert_eq!(calls(&engine, &by("eve"), None), [["listed", "own"]]);
}

#[test]
fn a_listing_looks_at_a_bounded_number_of_sessions_and_says_where_to_go_on() {
    let engine = with_room_for_many();
    for at in 0..MANY {
        room(&engine, &format!("{at:06}"), |_| ());
    }
    for actor in [Actor::App, by("eve")] {
        let found = calls(&engine, &actor, None);
        let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes, [LOOKS, LOOKS, LOOKS / 2]);
        assert!(found.concat().is_sorted());
    }
    // A call that has looked at all there is says so.
    for at in LOOKS..MANY {
        let id = SessionId::new(&format!("{at:06}")).expect("an id");
        let live = engine.inner.registry.session(&app(), &id).expect("it is there");
        engine.command(&live, &Actor::App, Command::Delete).expect("the app may");
    }
    assert_eq!(calls(&engine, &Actor::App, None).len(), 1);
}

#[test]
fn the_sessions_of_a_member_are_found_whatever_lies_between_them() {
    let engine = with_room_for_many();
    for at in 0..MANY {
        room(&engine, &format!("{at:06}"), |_| ());
    }
    for id in ["a", "z"] {
        let live = room(&engine, id, |_| ());
        engine.join(&live, &user("ada"), Join::default()).expect("there is a place");
    }
    for actor in [Actor::App, by("ada"), by("eve")] {
        assert_eq!(calls(&engine, &actor, Some("ada")), [["a", "z"]]);
        assert_eq!(calls(&engine, &actor, Some("nobody")), [[""; 0]]);
    }
}

#[test]
fn where_the_listing_of_a_member_goes_on_tells_nothing_of_what_is_hidden() {
    let engine = with_room_for_many();
    for at in 0..MANY {
        room(&engine, &format!("{at:06}"), |_| ());
        let between = hidden(&engine, &format!("{at:06} hidden"));
        engine.join(&between, &user("ada"), Join::default()).expect("there is a place");
    }
    let (mut after, mut told) = (None, Vec::new());
    for _ in 0..3 {
        let take = |_: &State| panic!("nothing is to be shown");
        let (ada, eve) = (user("ada"), by("eve"));
        let query = Query { member: Some(&ada), ..Query::default() };
        after = engine.list((&app(), &eve), query, after, take);
        told.extend(after.clone());
    }
    assert_eq!((after, told.len()), (None, 2), "three calls have looked at everything");
    let is_hidden = |place: &Place| matches!(place, Place::Id(id) if id.ends_with("hidden"));
    assert!(!told.iter().any(is_hidden), "{told:?}");
    assert_eq!(calls(&engine, &by("ada"), Some("ada")).concat().len(), MANY);
}

#[test]
fn a_page_goes_on_with_what_it_had_no_place_for() {
    let engine = engine(settings());
    for id in ["a", "b", "c"] {
        room(&engine, id, |_| ());
    }
    let mut places = 2;
    let take = |_: &State| {
        places -= 1;
        places >= 0
    };
    let after = engine.list((&app(), &Actor::App), Query::default(), None, take);
    assert_eq!(after, Some(Place::Id(SessionId::new("b").expect("an id"))));
}

/// Sessions in the order of opening, which is not that of their ids.
fn opened_in_no_order_of_ids(engine: &Engine, many: usize) -> Vec<String> {
    let ids: Vec<_> = (0..many).map(|at| format!("{:06}", at * 7919 % many)).collect();
    for id in &ids {
        room(engine, id, |_| ());
    }
    ids
}

fn newest_first(mut ids: Vec<String>) -> Vec<String> {
    ids.reverse();
    ids
}

#[test]
fn sessions_are_listed_in_the_order_of_their_opening_too() {
    let engine = with_room_for_many();
    let ids = opened_in_no_order_of_ids(&engine, MANY);
    let own = hidden(&engine, "own");
    engine.join(&own, &user("eve"), Join::default()).expect("it knows the id");
    let ids = [ids, vec!["own".to_owned()]].concat();
    for actor in [Actor::App, by("eve")] {
        let listed = |order| calls_of(&engine, &actor, Query { order, ..Query::default() });
        assert_eq!(listed(Order::Oldest).concat(), ids);
        assert_eq!(listed(Order::Newest).concat(), newest_first(ids.clone()));
        assert!(listed(Order::Oldest).iter().all(|call| call.len() <= LOOKS));
    }
    let oldest = Query { order: Order::Oldest, ..Query::default() };
    assert_eq!(calls_of(&engine, &by("bob"), oldest).concat(), ids[..MANY]);
}

#[test]
fn a_page_goes_on_behind_its_place_while_sessions_come_and_go() {
    let engine = engine(settings());
    let ids = opened_in_no_order_of_ids(&engine, 10);
    for order in [Order::Oldest, Order::Newest] {
        let query = Query { order, ..Query::default() };
        let mut found: Vec<String> = Vec::new();
        let mut after = None;
        loop {
            let before = found.len();
            let take = |state: &State| {
                let has_room = found.len() < before + 3;
                found.extend(has_room.then(|| state.core.id().to_string()));
                has_room
            };
            after = engine.list((&app(), &Actor::App), query, after, take);
            if after.is_none() {
                break;
            }
            // The one that the page goes on behind goes, and comes back as a new one.
            let last = found.last().expect("a page has one");
            let id = SessionId::new(last).expect("an id");
            let live = engine.inner.registry.session(&app(), &id).expect("it is there");
            engine.command(&live, &Actor::App, Command::Delete).expect("the app may");
            room(&engine, last, |_| ());
            assert!(found.len() < 30, "it comes to an end");
        }
        found.dedup();
        for id in &ids {
            assert!(found.contains(id), "{id} was there all the time, or is");
        }
    }
}

#[test]
fn the_sessions_of_a_member_are_listed_in_the_order_of_opening_and_nothing_tells_of_hidden_ones() {
    let engine = with_room_for_many();
    let ids = opened_in_no_order_of_ids(&engine, 20);
    let ada = user("ada");
    for id in &ids {
        let listed = engine.inner.registry.session(&app(), &SessionId::new(id).expect("an id"));
        engine.join(&listed.expect("it is there"), &ada, Join::default()).expect("it is open");
        let between = hidden(&engine, &format!("{id} hidden"));
        engine.join(&between, &ada, Join::default()).expect("there is a place");
    }
    let of_ada = |order| Query { member: Some(&ada), order, ..Query::default() };
    assert_eq!(calls_of(&engine, &by("eve"), of_ada(Order::Oldest)).concat(), ids);
    let newest = newest_first(ids);
    assert_eq!(calls_of(&engine, &by("eve"), of_ada(Order::Newest)), [newest]);
    assert_eq!(calls_of(&engine, &by("ada"), of_ada(Order::Oldest)).concat().len(), 40);
}

#[test]
fn a_filter_chooses_among_what_is_listed_and_its_cost_ends_a_call() {
    let engine = with_room_for_many();
    for at in 0..1000 {
        room(&engine, &format!("{at:06}"), |settings| {
            let entries =
                (0..20).map(|key| (format!("k{key:02}").as_str().into(), Value::Integer(at)));
            settings.metadata = entries.collect();
        });
    }
    let listed = |source: &str| {
        let filter = Filter::new(source).expect(source);
        calls_of(&engine, &by("eve"), Query { filter: Some(&filter), ..Query::default() })
    };
    let cheap = listed("metadata.k19 == 7 || session_id == '000999'");
    assert_eq!(cheap, [["000007", "000999"]]);
    let dearer = listed("metadata['k19'] == 7 || session_id == '000999'");
    assert_eq!(dearer.concat(), ["000007", "000999"]);
    let costly = listed("metadata.all(key, metadata[key] == 7)");
    assert_eq!(costly.concat(), ["000007"]);
    assert!(costly.len() > 10 && costly.len() < 1000, "{}", costly.len());
}

#[test]
fn a_listing_finds_what_the_rules_let_somebody_know_of_and_nothing_else() {
    let mut shown = 0;
    for seed in 1..40_u64 {
        let engine = engine(settings());
        let mut dice = Dice(seed);
        for _ in 0..200 {
            act(&engine, &mut dice);
            engine.advance(dice.of(3) as u64 * SECOND);
            for actor in USERS.map(by).into_iter().chain([Actor::App, by("eve")]) {
                let knows = |id: &&str| {
                    let key = SessionId::new(id).expect("an id");
                    let live = engine.inner.registry.session(&app(), &key);
                    live.is_some_and(|live| live.lock().is_visible_to(&actor))
                };
                let expected: Vec<&str> = IDS.into_iter().filter(knows).collect();
                assert_eq!(calls(&engine, &actor, None).concat(), expected, "{actor:?}");
                let oldest = Query { order: Order::Oldest, ..Query::default() };
                let mut by_epoch = calls_of(&engine, &actor, oldest).concat();
                by_epoch.sort();
                assert_eq!(by_epoch, expected, "{actor:?}");
                shown += expected.len();
            }
        }
        for id in IDS {
            let key = SessionId::new(id).expect("an id");
            if let Some(live) = engine.inner.registry.session(&app(), &key) {
                engine.command(&live, &Actor::App, Command::Delete).expect("the app may");
            }
        }
        assert_eq!(engine.footprint().indexed, 0, "what ends is in no index any more");
    }
    assert!(shown > 10_000, "{shown}");
}
