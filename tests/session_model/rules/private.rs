//! One source, one listener.

use crate::session_model::stage::{
    Stage, host, members, opening_private, remove, set, spectator, text, tied, too_low, user,
};
use proptest::prelude::*;
use sessiond::session::{
    Opening, Session,
    access::Standing,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    error::Refusal,
    limits::{Limits, SECOND},
    role::Role,
    settings::{Presence, Setting},
    value::Value,
};
use std::{collections::BTreeMap, sync::Arc};

fn stage() -> Stage {
    Stage::open(opening_private())
}

fn seen(stage: &mut Stage, is_present: bool) {
    stage.try_to(Actor::App, Command::SourceSeen { is_present }).unwrap();
}

#[test]
fn the_source_is_shown_and_owns_it_from_the_opening_on() {
    let stage = stage();
    assert_eq!(stage.joined(), ["ada", "ben"]);
    assert_eq!(stage.owner(), Some("ada"));
    assert_eq!(stage.standing("ada"), Standing::Joined(Role::Owner));
    assert!(stage.is_disconnected("ada") && !stage.is_disconnected("ben"));
    assert!(!stage.session.has_joined("ada") && stage.session.has_joined("ben"));
}

#[test]
fn an_absent_source_is_connected_while_the_app_sees_it() {
    let mut stage = stage();
    for is_present in [true, false, true] {
        seen(&mut stage, is_present);
        stage.tick();
        let told = stage.news(&members()).of("ada").unwrap().disconnected;
        assert_eq!(told, Some(!is_present));
        seen(&mut stage, is_present);
        let before = stage.session.revision();
        assert_eq!(stage.tick(), before, "nothing changed");
    }
}

#[test]
fn a_source_that_has_joined_is_absent_again_when_it_is_lost() {
    let mut stage = stage();
    stage.update(Setting::RejoinGrace(5 * SECOND));
    stage.stream("ada");
    assert!(stage.session.has_joined("ada") && !stage.is_disconnected("ada"));
    let order = stage.session.members().membership("ada").unwrap().order;
    stage.lose_stream("ada");
    assert!(stage.session.has_joined("ada") && stage.is_disconnected("ada"));
    stage.pass(5 * SECOND);
    assert!(!stage.session.has_joined("ada") && stage.is_disconnected("ada"));
    assert_eq!(stage.session.take_left(), [user("ada")]);
    assert_eq!(stage.session.members().membership("ada").unwrap().order, order);
    assert!(!stage.session.has_ended());
    // A stream of the absent source is a membership tied to it.
    stage.open_stream("ada");
    assert!(stage.session.has_joined("ada"));
    assert_eq!(stage.session.members().membership("ada").unwrap().presence, Presence::Tied);
}

#[test]
fn only_source_and_listener_join() {
    let mut stage = stage();
    assert_eq!(stage.join("eve"), Err(Refusal::NotOfThePair));
    assert_eq!(stage.join_with("eve", spectator()), Err(Refusal::NotOfThePair));
    let role = |role| Command::SetRole { target: user("eve"), role, user_props: Vec::new() };
    stage.try_to(Actor::App, role(Role::Owner)).unwrap();
    assert_eq!(stage.join("eve"), Err(Refusal::NotOfThePair));
    assert!(stage.session.is_visible_to(&Actor::of(&user("eve"))));
    for user in ["ada", "ben"] {
        stage.join(user).unwrap();
    }
}

#[test]
fn nobody_but_the_source_has_props() {
    let mut stage = stage();
    assert_eq!(stage.set("ben", "x", text("b")), Err(Refusal::NeedsSource));
    let props = vec![("x".into(), text("b"))];
    let join = Join { props: props.clone(), ..Join::default() };
    let with_props = Opening { opener: Some((user("ben"), join)), ..opening_private() };
    let opened = Session::open(with_props, Arc::new(Limits::default()), 1, Epoch::default());
    assert_eq!(opened.err(), Some(Refusal::NeedsSource));
    let before = stage.session.revision();
    assert!(!stage.write_on_user("ben", Write::of(props)).concerned);
    assert_eq!(stage.tick(), before);
    assert_eq!(stage.shows(&host(), "ben", "x"), None);
}

#[test]
fn the_listener_never_comes_to_own_it() {
    for keep_role in [false, true] {
        let mut stage = stage();
        let leave = Command::Leave { user: user("ada"), keep_role };
        stage.try_to(Actor::of(&user("ada")), leave).unwrap();
        assert!(stage.session.has_ended());
        assert_ne!(stage.owner(), Some("ben"));
    }
}

#[test]
fn moderators_from_outside_do_not_act_upward() {
    let mut stage = stage();
    let role = Command::SetRole { target: user("max"), role: Role::Moderator, user_props: vec![] };
    stage.try_to(Actor::of(&user("ada")), role).unwrap();
    let kick = |target| Command::Kick { target: user(target), reason: "".into() };
    assert_eq!(stage.try_to(Actor::of(&user("max")), kick("ada")), Err(Refusal::TargetRank));
    assert_eq!(stage.try_to(Actor::of(&user("max")), Command::Delete), too_low(Role::Owner));
    stage.try_to(Actor::of(&user("max")), kick("ben")).unwrap();
    assert!(stage.session.has_ended(), "its listener is gone");
}

/// What may happen to the props of the source.
#[derive(Debug, Clone)]
enum Deed {
    Set(u8, u8),
    Remove(u8),
    SetOnUser(u8, u8),
    RemoveOnUser(u8),
    Select(Vec<u8>),
    Come,
    Go,
    See(bool),
    Tick,
}

fn deed() -> impl Strategy<Value = Deed> {
    let key = 0..3u8;
    prop_oneof![
        (key.clone(), 0..3u8).prop_map(|(key, value)| Deed::Set(key, value)),
        key.clone().prop_map(Deed::Remove),
        (key.clone(), 0..3u8).prop_map(|(key, value)| Deed::SetOnUser(key, value)),
        key.clone().prop_map(Deed::RemoveOnUser),
        prop::collection::vec(key, 0..3).prop_map(Deed::Select),
        Just(Deed::Come),
        Just(Deed::Go),
        any::<bool>().prop_map(Deed::See),
        Just(Deed::Tick),
    ]
}

fn name(key: u8) -> String {
    format!("k{key}")
}

fn value(value: u8) -> Value {
    Value::Integer(value.into())
}

proptest! {
    #[test]
    fn a_private_session_shows_what_came_last_of_each_key(
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        let mut stage = stage();
        stage.update(Setting::RejoinGrace(0));
        let mut held = BTreeMap::new();
        let mut selected = Vec::new();
        let (mut streams, mut is_seen) = (0, false);
        for deed in deeds {
            match deed {
                Deed::Set(key, new) => {
                    stage.set("ada", &name(key), value(new)).unwrap();
                    held.insert(key, new);
                }
                Deed::Remove(key) => {
                    stage.remove("ada", &name(key)).unwrap();
                    held.remove(&key);
                }
                Deed::SetOnUser(key, new) => {
                    stage.write_on_user("ada", set(&name(key), value(new)));
                    held.insert(key, new);
                }
                Deed::RemoveOnUser(key) => {
                    stage.write_on_user("ada", remove(&name(key)));
                    held.remove(&key);
                }
                Deed::Select(keys) => {
                    let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    let keys_of = crate::session_model::stage::keys(&names);
                    stage.update(Setting::Propnames(keys_of));
                    selected = keys;
                }
                Deed::Come => {
                    stage.join_with("ada", tied()).unwrap();
                    stage.open_stream("ada");
                    streams += 1;
                }
                Deed::Go if streams > 0 => {
                    stage.lose_stream("ada");
                    streams -= 1;
                }
                Deed::Go => {}
                Deed::See(is_present) => {
                    seen(&mut stage, is_present);
                    is_seen = is_present;
                }
                Deed::Tick => drop(stage.tick()),
            }
            let mut expected = held.clone();
            expected.retain(|key, _| selected.is_empty() || selected.contains(key));
            let before = stage.session.revision();
            let shown = if stage.session.is_open() { before.next() } else { before };
            prop_assert_eq!(stage.tick(), shown);
            for view in [members(), host()] {
                let picture = stage.picture(&view);
                let expected: BTreeMap<_, _> =
                    expected.iter().map(|(key, new)| (name(*key), value(*new))).collect();
                let props: BTreeMap<_, _> = picture.members["ada"]
                    .props
                    .iter()
                    .map(|(key, new)| (key.to_string(), new.clone()))
                    .collect();
                prop_assert_eq!(props, expected);
                prop_assert_eq!(picture.members["ada"].disconnected, streams == 0 && !is_seen);
            }
            prop_assert!(!stage.session.has_ended());
        }
    }
}
