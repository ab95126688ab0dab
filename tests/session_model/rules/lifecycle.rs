//! How long a session lives, and whom it takes.

use crate::session_model::stage::{Stage, opening, opening_by, spectator, text, too_low, user};
use sessiond::session::{
    Opening, Session,
    access::Standing,
    command::{Actor, Command, Join},
    epoch::Epoch,
    error::{Limit, Refusal},
    limits::{Limits, SECOND},
    role::Role,
    settings::{Kind, Setting},
};
use std::sync::Arc;

#[test]
fn an_empty_session_lives_for_its_empty_ttl_from_the_last_leave() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.update(Setting::EmptyTtl(10 * SECOND));
    stage.leave("ada");
    stage.pass(9 * SECOND);
    stage.join("ben").unwrap();
    stage.pass(100 * SECOND);
    assert!(!stage.session.has_ended());
    stage.leave("ben");
    stage.pass(10 * SECOND - 1);
    assert!(!stage.session.has_ended());
    stage.pass(1);
    assert!(stage.session.has_ended());
}

#[test]
fn without_an_empty_ttl_a_session_is_gone_with_its_last_member() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.leave("ada");
    assert!(stage.session.has_ended());
    assert_eq!(stage.join("ada"), Err(Refusal::SessionNotFound));
}

#[test]
fn a_session_that_nobody_has_joined_lives_for_a_minute_at_least() {
    for (ttl, expected) in [(0, 60), (10, 60), (100, 100)] {
        let mut stage = Stage::room();
        stage.update(Setting::EmptyTtl(ttl * SECOND));
        stage.pass(expected * SECOND - 1);
        assert!(!stage.session.has_ended());
        stage.pass(1);
        assert!(stage.session.has_ended());
    }
}

#[test]
fn a_session_ends_at_its_max_age_whoever_is_there() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.pass(5 * SECOND);
    stage.update(Setting::MaxAge(10 * SECOND));
    stage.pass(5 * SECOND - 1);
    assert!(!stage.session.has_ended());
    stage.pass(1);
    assert!(stage.session.has_ended() && stage.is_in("ada"));
}

#[test]
fn a_locked_session_takes_its_opener_and_members_that_join_again_and_nobody_new() {
    let mut opening = opening_by("ada", Kind::Room);
    opening.settings.locked = true;
    let mut stage = Stage::open(opening);
    assert_eq!(stage.standing("ada"), Standing::Joined(Role::Owner));
    stage.join("ada").unwrap();
    assert_eq!(stage.join("ben"), Err(Refusal::Locked));
    assert_eq!(stage.join_with("ben", spectator()), Err(Refusal::Locked));
    stage.update(Setting::Locked(false));
    stage.join("ben").unwrap();
}

#[test]
fn a_session_that_the_app_opens_has_no_owner() {
    let mut stage = Stage::room().with(&["ada"]);
    assert_eq!((stage.owner(), stage.standing("ada")), (None, Standing::Joined(Role::Member)));
    let ada = || Actor::of(&user("ada"));
    assert_eq!(stage.try_to(ada(), Command::Delete), too_low(Role::Owner));
    assert_eq!(stage.try_to(ada(), Command::Update(Vec::new())), too_low(Role::Admin));
    stage.try_to(Actor::App, Command::Delete).unwrap();
    assert!(stage.session.has_ended());
}

#[test]
fn an_owner_who_is_away_still_administers() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    let ada = user("ada");
    let keeping = Command::Leave { user: ada.clone(), keep_role: true };
    stage.try_to(Actor::of(&ada), keeping).unwrap();
    stage.try_to(Actor::of(&ada), Command::Update(Vec::new())).unwrap();
    stage.try_to(Actor::of(&ada), Command::Delete).unwrap();
}

#[test]
fn an_unlisted_session_is_there_for_people_with_a_role() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    stage.update(Setting::Unlisted(true));
    let sees = |stage: &Stage, name| stage.session.is_visible_to(&Actor::of(&user(name)));
    assert!(sees(&stage, "ada") && sees(&stage, "ben") && !sees(&stage, "eve"));
    assert!(stage.session.is_visible_to(&Actor::App));
    let ada = user("ada");
    let keeping = Command::Leave { user: ada.clone(), keep_role: true };
    stage.try_to(Actor::of(&ada), keeping).unwrap();
    stage.leave("ben");
    assert!(sees(&stage, "ada") && !sees(&stage, "ben"));
}

#[test]
fn a_session_is_hidden_at_once_and_listed_by_the_frame_that_shows_it_so() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    let sees = |stage: &Stage| stage.session.is_visible_to(&Actor::of(&user("eve")));
    stage.tick();
    assert!(sees(&stage));
    stage.update(Setting::Unlisted(true));
    assert!(!sees(&stage));
    stage.tick();
    stage.update(Setting::Unlisted(false));
    assert!(!sees(&stage), "it is shown as it was while it was hidden");
    stage.tick();
    assert!(sees(&stage));
}

#[test]
fn an_opening_over_a_limit_is_refused() {
    let limits = Arc::new(Limits { props_per_user: 1, ..Limits::default() });
    let two = vec![("a".into(), text("1")), ("b".into(), text("1"))];
    let too_many = |opening| {
        let refused = Session::open(opening, limits.clone(), 1000, Epoch::default()).map(|_| ());
        assert_eq!(refused, Err(Refusal::LimitReached { limit: Limit::PropsPerUser, most: 1 }));
    };
    too_many(Opening { data: two.clone(), ..opening(Kind::Room) });
    too_many(Opening { private_data: two.clone(), ..opening(Kind::Room) });
    let join = Join { props: two, ..Join::default() };
    too_many(Opening { opener: Some((user("ada"), join)), ..opening(Kind::Room) });
}

#[test]
fn whoever_opens_owns_even_as_a_spectator() {
    let mut opening = opening(Kind::Room);
    opening.opener = Some((user("ada"), Join { spectator: true, ..Join::default() }));
    let stage = Stage::open(opening);
    assert_eq!(stage.standing("ada"), Standing::Joined(Role::Owner));
}
