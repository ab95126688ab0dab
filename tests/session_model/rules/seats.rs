//! Places that are held for users who have not joined.

use crate::session_model::stage::{Outcome, Stage, opening_by, spectator, too_low, user};
use sessiond::session::{
    ban::Ban,
    command::{Actor, Command},
    error::Refusal,
    limits::{Micros, SECOND},
    role::Role,
    settings::{Kind, Setting},
};

const SPAN: Micros = 10 * SECOND;

/// A room of ada with so many places.
fn room_for(capacity: usize) -> Stage {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.update(Setting::Capacity(capacity));
    stage
}

fn by(name: &str) -> Actor {
    Actor::of(&user(name))
}

impl Stage {
    fn reserve(&mut self, actor: Actor, names: &[&str]) -> Outcome {
        let users = names.iter().map(|name| user(name)).collect();
        let until = self.now + SPAN;
        self.try_to(actor, Command::ReserveSeats { users, until })
    }

    fn forbid(&mut self, name: &str) {
        let ban = Ban { reason: "".into(), until: None };
        self.try_to(Actor::App, Command::Ban { target: user(name), ban }).unwrap();
    }

    fn make(&mut self, name: &str, role: Role) {
        let set = Command::SetRole { target: user(name), role, user_props: Vec::new() };
        self.try_to(Actor::App, set).unwrap();
    }

    fn release(&mut self, actor: Actor, names: &[&str]) -> Outcome {
        let users = names.iter().map(|name| user(name)).collect();
        self.try_to(actor, Command::ReleaseSeats { users })
    }
}

fn full<T>(capacity: usize) -> Result<T, Refusal> {
    Err(Refusal::Full { capacity })
}

#[test]
fn a_place_that_is_held_is_taken_for_all_but_its_user() {
    let mut stage = room_for(2);
    stage.reserve(Actor::App, &["ben"]).unwrap();
    assert_eq!(stage.join("cleo"), full(2));
    assert!(!stage.session.is_open_to_all());
    stage.join_with("cleo", spectator()).unwrap();
    stage.join("ben").unwrap();
    assert_eq!(stage.session.seats(), 0, "it is used up");
    stage.leave("ben");
    stage.join("dan").unwrap();
}

#[test]
fn a_place_is_free_again_when_its_time_is_over_or_it_is_given_back() {
    let mut stage = room_for(2);
    stage.reserve(Actor::App, &["ben"]).unwrap();
    stage.pass(SPAN - 1);
    assert_eq!(stage.join("cleo"), full(2));
    stage.pass(1);
    assert!(stage.session.is_open_to_all());
    stage.reserve(Actor::App, &["ben"]).unwrap();
    stage.release(Actor::App, &["ben", "nobody"]).unwrap();
    stage.join("cleo").unwrap();
}

#[test]
fn the_new_time_of_a_place_replaces_the_old_one() {
    let mut stage = room_for(2);
    stage.reserve(Actor::App, &["ben"]).unwrap();
    stage.pass(SPAN - 1);
    stage.reserve(Actor::App, &["ben"]).unwrap();
    stage.pass(SPAN - 1);
    assert_eq!(stage.session.seats(), 1);
    stage.pass(1);
    assert_eq!(stage.session.seats(), 0);
}

#[test]
fn all_of_a_party_get_a_place_or_none() {
    let mut stage = room_for(3);
    assert_eq!(stage.reserve(Actor::App, &["ben", "cleo", "dan"]), full(3));
    assert_eq!(stage.session.seats(), 0);
    stage.reserve(Actor::App, &["ben", "cleo"]).unwrap();
    // Those who have one, or are in, need none.
    stage.reserve(Actor::App, &["ada", "ben", "cleo"]).unwrap();
    assert_eq!(stage.session.seats(), 2);
    let banned = Refusal::Banned { until: None };
    stage.forbid("dan");
    let refused = Refusal::OfUser { at: 1, why: Box::new(banned) };
    assert_eq!(stage.reserve(Actor::App, &["ben", "dan"]), Err(refused));
}

#[test]
fn admins_reserve_for_anybody_and_users_for_themselves_where_they_could_join() {
    let mut stage = room_for(5);
    stage.join("ben").unwrap();
    assert_eq!(stage.reserve(by("ben"), &["cleo"]), too_low(Role::Admin));
    assert_eq!(stage.release(by("ben"), &["cleo"]), too_low(Role::Admin));
    assert_eq!(stage.reserve(by("eve"), &["eve", "dan"]), too_low(Role::Admin));
    stage.reserve(by("ada"), &["cleo", "dan"]).unwrap();
    stage.reserve(by("eve"), &["eve"]).unwrap();
    assert_eq!(stage.session.seats(), 3);
    stage.release(by("eve"), &["eve"]).unwrap();
    stage.update(Setting::Locked(true));
    assert_eq!(stage.reserve(by("eve"), &["eve"]), Err(Refusal::Locked));
    stage.reserve(by("ada"), &["eve"]).unwrap();
    assert_eq!(stage.join("eve"), Err(Refusal::Locked), "a place is no way in");
}

#[test]
fn who_is_banned_or_becomes_a_spectator_has_no_place_any_more() {
    let mut stage = room_for(5);
    stage.reserve(Actor::App, &["ben", "cleo", "dan"]).unwrap();
    stage.forbid("ben");
    stage.make("cleo", Role::Spectator);
    assert_eq!(stage.session.seats(), 1);
    stage.reserve(Actor::App, &["cleo"]).unwrap();
    assert_eq!(stage.session.seats(), 1, "a spectator needs none");
}

#[test]
fn a_place_makes_no_frame_and_what_comes_with_one_is_told_with_it() {
    let mut stage = room_for(5);
    stage.tick();
    stage.reserve(Actor::App, &["ben"]).unwrap();
    assert!(!stage.session.is_open());
    assert_eq!(stage.session.shown_seats(), 1);
    stage.join("ben").unwrap();
    assert_eq!((stage.session.seats(), stage.session.shown_seats()), (0, 1));
    stage.tick();
    assert_eq!(stage.session.shown_seats(), 0);
    assert_eq!(stage.session.members().shown_counts().members, 2);
}
