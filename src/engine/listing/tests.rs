use super::*;
use crate::{
    engine::{
        EngineSettings, Live,
        testing::{app, engine, opening, room, settings, user},
    },
    session::{
        Opening,
        ban::Ban,
        command::{Command, Join},
        limits::SECOND,
        private::{Pair, Private},
        role::Role,
        settings::{Kind, Setting},
    },
};
use std::sync::Arc;

/// More sessions than one call looks at.
const MANY: usize = 2 * LOOKS + LOOKS / 2;

fn with_room_for_many() -> Engine {
    engine(EngineSettings { max_sessions_per_user: MANY, ..settings() })
}

fn by(id: &str) -> Actor {
    Actor::User(user(id))
}

fn hidden(engine: &Engine, id: &str) -> Arc<Live> {
    room(engine, id, |settings| settings.unlisted = true)
}

/// What each call of a whole listing finds.
fn calls(engine: &Engine, actor: &Actor, member: Option<&str>) -> Vec<Vec<String>> {
    let (mut calls, mut after) = (Vec::new(), None);
    loop {
        let mut found = Vec::new();
        let take = |state: &State| {
            found.push(state.core.id().to_string());
            true
        };
        after = engine.list((&app(), actor), member.map(user).as_ref(), after, take);
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
        after = engine.list((&app(), &by("eve")), Some(&user("ada")), after, take);
        told.extend(after.clone());
    }
    assert_eq!((after, told.len()), (None, 2), "three calls have looked at everything");
    assert!(told.iter().all(|id| !id.ends_with("hidden")), "{told:?}");
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
    let after = engine.list((&app(), &Actor::App), None, None, take);
    assert_eq!(after.as_deref(), Some("b"));
}

const USERS: [&str; 4] = ["ada", "ben", "cat", "dan"];
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn private(engine: &Engine, id: &str, source: &str, listener: &str) {
    let pair = Pair { source: user(source), listener: user(listener) };
    let opening = opening(engine, id, |settings| settings.empty_ttl = 60 * SECOND);
    let opening = Opening { kind: Kind::Private, ..opening };
    // There may be one of the pair, or something else under the id.
    let _ = engine.open_private(opening, Private::of(pair, None, Vec::new()), true);
}

/// One thing that somebody does, chosen by three numbers.
fn act(engine: &Engine, what: usize, id: &str, who: usize) {
    let (target, other) = (user(USERS[who]), USERS[(who + 1) % USERS.len()]);
    let Some(live) = engine.inner.registry.session(&app(), &SessionId::new(id).expect("an id"))
    else {
        return match what % 3 {
            0 => private(engine, id, USERS[who], other),
            1 => {
                let mut opening =
                    opening(engine, id, |settings| settings.unlisted = what.is_multiple_of(2));
                opening.opener = Some((target, Join::default()));
                opening.people.roles = vec![(user(other), Role::Moderator)];
                drop(engine.open(opening, false).expect("it is free"));
            }
            _ => drop(hidden(engine, id)),
        };
    };
    let role = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
    let ban = Ban { reason: "".into(), until: None };
    let command = match what {
        0..3 => {
            let _ = engine.join(&live, &target, Join::default());
            return;
        }
        3..8 => {
            let _ = engine.set_role(&live, &Actor::App, &target, role[what - 3]);
            return;
        }
        8 => Command::Leave { user: target, keep_role: true },
        9 => Command::Leave { user: target, keep_role: false },
        10 => Command::Kick { target, reason: "".into() },
        11 => Command::Ban { target, ban },
        12 => Command::Unban { target },
        13 | 14 => Command::Update(vec![Setting::Unlisted(what == 13)]),
        15 => Command::Update(vec![Setting::Locked(who.is_multiple_of(2))]),
        _ => Command::Delete,
    };
    // What the rules refuse changes nothing.
    let _ = engine.command(&live, &Actor::App, command);
}

#[test]
fn a_listing_finds_what_the_rules_let_somebody_know_of_and_nothing_else() {
    let mut shown = 0;
    for seed in 1..40_u64 {
        let engine = engine(settings());
        let mut state = seed;
        let mut choose = |of: usize| {
            // An xorshift: every run does the same.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % of as u64) as usize
        };
        for _ in 0..200 {
            act(&engine, choose(17), IDS[choose(IDS.len())], choose(USERS.len()));
            engine.advance(choose(3) as u64 * SECOND);
            for actor in USERS.map(by).into_iter().chain([Actor::App, by("eve")]) {
                let knows = |id: &&str| {
                    let key = SessionId::new(id).expect("an id");
                    let live = engine.inner.registry.session(&app(), &key);
                    live.is_some_and(|live| live.lock().core.is_visible_to(&actor))
                };
                let expected: Vec<&str> = IDS.into_iter().filter(knows).collect();
                assert_eq!(calls(&engine, &actor, None).concat(), expected, "{actor:?}");
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
