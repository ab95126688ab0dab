//! Who needs the session's password.

use crate::session_model::{
    stage::{Outcome, Stage, members, opening, opening_by, spectator, text, tied, user},
    steps::password,
};
use sessiond::session::{
    Opening,
    access::Standing,
    ban::Ban,
    command::{Actor, Command, Join},
    error::Refusal,
    revision::Revision,
    role::Role,
    settings::{Kind, Setting},
};

const WRONG: Outcome = Err(Refusal::WrongPassword);

fn knowing(number: u8) -> Join {
    Join { proven: Some(password(number)), ..Join::default() }
}

/// A room with the password 1, which ada has opened and owns.
fn room() -> Stage {
    Stage::open(Opening { password: Some(password(1)), ..opening_by("ada", Kind::Room) })
}

fn needs(stage: &Stage, name: &str, join: Join) -> Result<bool, Refusal> {
    let needed = stage.session.password_for(stage.now, &user(name), &join);
    needed.map(|hash| {
        assert!(hash.is_none_or(|hash| *hash == password(1)));
        hash.is_some()
    })
}

#[test]
fn who_joins_needs_the_password_in_force() {
    let mut stage = room();
    assert_eq!(stage.join("ben"), WRONG);
    assert_eq!(stage.join_with("ben", knowing(2)), WRONG);
    assert_eq!(stage.join_with("ben", Join { proven: None, ..spectator() }), WRONG);
    assert_eq!(stage.standing("ben"), Standing::Outsider);
    assert_eq!(stage.session.pending_revision(), Revision::FIRST, "nothing has changed");
    stage.join_with("ben", knowing(1)).unwrap();
    stage.join_with("spec", Join { spectator: true, ..knowing(1) }).unwrap();
}

#[test]
fn a_password_that_was_changed_after_it_was_proven_is_refused() {
    let mut stage = room();
    assert_eq!(needs(&stage, "ben", Join::default()), Ok(true));
    stage.update(Setting::Password(Some(password(2))));
    assert_eq!(stage.join_with("ben", knowing(1)), WRONG);
    stage.join_with("ben", knowing(2)).unwrap();
}

#[test]
fn a_password_that_was_set_after_it_was_not_needed_is_refused() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    assert_eq!(needs(&stage, "ben", Join::default()), Ok(false));
    stage.update(Setting::Password(Some(password(1))));
    assert_eq!(stage.join("ben"), WRONG);
}

#[test]
fn without_the_password_anybody_may_join_whatever_was_proven() {
    let mut stage = room();
    stage.update(Setting::Password(None));
    assert_eq!(needs(&stage, "ben", Join::default()), Ok(false));
    stage.join("ben").unwrap();
    stage.join_with("cleo", knowing(2)).unwrap();
}

#[test]
fn who_has_joined_and_who_moderates_need_none() {
    let mut stage = room();
    stage.update(Setting::EmptyTtl(1_000_000));
    stage.join_with("ben", knowing(1)).unwrap();
    stage.join_with("cleo", knowing(1)).unwrap();
    stage.join("ben").unwrap();
    stage.join("ada").unwrap();
    for role in [Role::Admin, Role::Moderator] {
        let target = user("ben");
        let user_props = Vec::new();
        stage.try_to(Actor::App, Command::SetRole { target, role, user_props }).unwrap();
        for name in ["ada", "ben", "cleo"] {
            let user = user(name);
            let leave = Command::Leave { user: user.clone(), keep_role: true };
            stage.try_to(Actor::of(&user), leave).unwrap();
        }
        assert_eq!(needs(&stage, "ben", Join::default()), Ok(false));
        stage.join("ben").unwrap();
        stage.join("ada").unwrap();
        assert_eq!(needs(&stage, "cleo", Join::default()), Ok(true));
        assert_eq!(stage.join("cleo"), WRONG, "a member that has left is like anybody else");
        stage.join_with("cleo", knowing(1)).unwrap();
    }
}

#[test]
fn a_member_that_is_lost_and_back_in_time_needs_none() {
    let mut stage = room();
    stage.update(Setting::RejoinGrace(1_000_000));
    stage.join_with("ben", Join { proven: Some(password(1)), ..tied() }).unwrap();
    stage.open_stream("ben");
    stage.lose_stream("ben");
    stage.join("ben").unwrap();
    stage.open_stream("ben");
    stage.lose_stream("ben");
    stage.pass(1_000_000);
    assert_eq!(stage.join("ben"), WRONG);
}

#[test]
fn a_password_that_would_not_help_is_not_asked_for() {
    let mut stage = room();
    let app = |stage: &mut Stage, command| stage.try_to(Actor::App, command).unwrap();
    let ban = Ban { reason: "".into(), until: None };
    app(&mut stage, Command::Ban { target: user("eve"), ban });
    let banned = Err(Refusal::Banned { until: None });
    assert_eq!(needs(&stage, "eve", Join::default()), banned);
    assert_eq!(stage.join("eve").map(|_| false), banned);
    let sending = Join { props: vec![("x".into(), text("1"))], ..spectator() };
    assert!(matches!(needs(&stage, "ben", sending), Err(Refusal::Invalid(_))));
    stage.update(Setting::Capacity(1));
    assert_eq!(needs(&stage, "ben", Join::default()), Err(Refusal::Full { capacity: 1 }));
    stage.update(Setting::Locked(true));
    assert_eq!(needs(&stage, "ben", Join::default()), Err(Refusal::Locked));
    assert_eq!(stage.join_with("ben", knowing(1)), Err(Refusal::Locked));
}

#[test]
fn an_unlisted_session_is_not_there_with_a_wrong_password_whatever_else_would_refuse() {
    let mut stage = room();
    stage.update(Setting::Unlisted(true));
    stage.update(Setting::Locked(true));
    let ban = Ban { reason: "".into(), until: None };
    stage.try_to(Actor::App, Command::Ban { target: user("eve"), ban }).unwrap();
    let sending = Join { props: vec![("x".into(), text("1"))], ..spectator() };
    for (name, join) in [("ben", Join::default()), ("ben", knowing(2)), ("ben", sending)] {
        assert_eq!(needs(&stage, name, join.clone()), Ok(true));
        assert_eq!(stage.join_with(name, join), Err(Refusal::SessionNotFound));
    }
    assert_eq!(needs(&stage, "eve", Join::default()), Ok(true));
    assert_eq!(stage.join("eve"), Err(Refusal::SessionNotFound));
    assert_eq!(stage.join_with("eve", knowing(1)), Err(Refusal::Banned { until: None }));
    assert_eq!(stage.join_with("ben", knowing(1)), Err(Refusal::Locked));
    stage.update(Setting::Locked(false));
    stage.join_with("ben", knowing(1)).unwrap();
}

#[test]
fn who_may_know_of_an_unlisted_session_is_told_that_the_password_is_wrong() {
    let mut stage = room();
    stage.update(Setting::Unlisted(true));
    let (target, user_props) = (user("spec"), Vec::new());
    let role = Role::Spectator;
    stage.join_with("spec", knowing(1)).unwrap();
    stage.try_to(Actor::App, Command::SetRole { target, role, user_props }).unwrap();
    let leave = Command::Leave { user: user("spec"), keep_role: true };
    stage.try_to(Actor::App, leave).unwrap();
    assert_eq!(stage.standing("spec"), Standing::Away(Role::Spectator));
    assert_eq!(stage.join("spec"), WRONG);
}

#[test]
fn the_opener_needs_none_and_the_app_opens_for_people_who_do() {
    assert_eq!(room().standing("ada"), Standing::Joined(Role::Owner));
    let mut stage = Stage::open(Opening { password: Some(password(1)), ..opening(Kind::Room) });
    assert_eq!(stage.join("ada"), WRONG);
    stage.join_with("ada", knowing(1)).unwrap();
}

#[test]
fn people_are_told_whether_there_is_a_password_and_nothing_else_of_it() {
    let mut stage = room();
    assert!(stage.session.info().has_password);
    assert_eq!(stage.tick(), Revision::FIRST);
    stage.update(Setting::Password(Some(password(2))));
    assert_eq!(stage.tick(), Revision(2), "it is a change like any other");
    assert_eq!(stage.news(&members()), Default::default(), "and nobody is told");
    stage.update(Setting::Password(None));
    stage.tick();
    assert!(!stage.session.info().has_password);
    assert_ne!(stage.news(&members()), Default::default());
}
