//! What has to be judged is refused where it was not, whichever way it comes.

use crate::session_model::stage::*;
use sessiond::session::{
    command::{Actor, Command, Join, Write},
    error::Refusal,
    judging::{Operation, Operations, Rule},
    role::Role,
    settings::Kind,
    value::Value,
};

fn judging(on: &[Operation]) -> Stage {
    let mut opening = opening(Kind::Room);
    opening.opener = Some((user("ada"), Join::default()));
    opening.judges = on.iter().copied().collect();
    Stage::open(opening)
}

fn join(stage: &mut Stage, name: &str, join: Join) -> Outcome {
    let command = Command::Join { user: user(name), join };
    stage.session.apply(stage.now, &Actor::of(&user(name)), command)
}

fn write(stage: &mut Stage, actor: Actor, write: Write) -> Outcome {
    let command = Command::SetProps { user: user("ada"), write, term: 0 };
    stage.session.apply(stage.now, &actor, command)
}

fn one() -> Vec<(sessiond::session::ids::Key, Value)> {
    vec![("x".into(), Value::Integer(1))]
}

#[test]
fn a_join_that_was_not_judged_in_this_epoch_is_refused() {
    let mut stage = judging(&[Operation::Join]);
    assert_eq!(join(&mut stage, "ben", Join::default()), Err(Refusal::NotJudged));
    let epoch = stage.session.epoch();
    let other = Join { judged: Some(epoch.next(stage.now)), ..Join::default() };
    assert_eq!(join(&mut stage, "ben", other), Err(Refusal::NotJudged));
    let judged = Join { judged: Some(epoch), ..Join::default() };
    assert!(join(&mut stage, "ben", judged).is_ok());
    assert!(join(&mut stage, "ben", Join::default()).is_ok(), "joining again is not judged");
}

#[test]
fn a_write_that_was_not_judged_is_refused_unless_the_app_makes_it() {
    let mut stage = judging(&[Operation::Write]);
    let ada = || Actor::of(&user("ada"));
    assert_eq!(write(&mut stage, ada(), Write::of(one())), Err(Refusal::NotJudged));
    let epoch = Some(stage.session.epoch());
    assert!(write(&mut stage, ada(), Write { judged: epoch, ..Write::of(one()) }).is_ok());
    assert!(write(&mut stage, Actor::App, Write::of(one())).is_ok());
    let data = |judged| Command::SetData {
        shared: Write { judged, ..Write::of(one()) },
        private: Write::default(),
        term: 0,
    };
    let now = stage.now;
    assert_eq!(stage.session.apply(now, &ada(), data(None)), Err(Refusal::NotJudged));
    assert!(stage.session.apply(now, &ada(), data(epoch)).is_ok());
    assert!(stage.session.apply(now, &Actor::App, data(None)).is_ok());
    assert!(stage.session.columns(&["x".into()]).is_none(), "no row goes past those who judge");
}

#[test]
fn first_props_are_a_write() {
    let mut stage = judging(&[Operation::Write]);
    let first = |judged| Join { props: one(), judged, ..Join::default() };
    assert_eq!(join(&mut stage, "ben", first(None)), Err(Refusal::NotJudged));
    assert!(join(&mut stage, "eve", Join::default()).is_ok(), "without any there is none");
    let epoch = Some(stage.session.epoch());
    assert!(join(&mut stage, "ben", first(epoch)).is_ok());
}

#[test]
fn a_session_that_judges_writes_takes_only_writes_that_name_it() {
    let mut stage = judging(&[Operation::Write]);
    let on_user = Command::UserProps { user: user("ada"), write: Write::of(one()), hidden: true };
    let refused = stage.session.apply(stage.now, &Actor::App, on_user);
    assert_eq!(refused, Err(Refusal::SessionIdNeeded));
    let from_user = Join { user_props: one(), ..Join::default() };
    assert!(join(&mut stage, "ben", from_user).is_ok());
    let epoch = Some(stage.session.epoch());
    let compare = Write {
        judged: epoch,
        if_revision: vec![("x".into(), Default::default())],
        ..Write::of(vec![("y".into(), Value::Null)])
    };
    let command = Command::SetProps { user: user("ben"), write: compare, term: 0 };
    let outcome = stage.session.apply(stage.now, &Actor::of(&user("ben")), command);
    assert!(outcome.is_ok(), "he has no x: {outcome:?}");
}

#[test]
fn the_rules_of_the_settings_say_what_is_judged() {
    let mut opening = opening(Kind::Room);
    let on: Operations = [Operation::Join, Operation::Subscribe].into_iter().collect();
    let (name, expression, message) = ("r".into(), "true".into(), "no".into());
    opening.settings.rules = [Rule { name, on, expression, message }].into();
    let stage = Stage::open(opening);
    assert_eq!(stage.session.judges(), on);
}

#[test]
fn whoever_judges_gives_a_new_member_its_role_but_takes_none_from_the_owner() {
    let mut stage = judging(&[Operation::Join]);
    let epoch = Some(stage.session.epoch());
    let with = |role| Join { judged: epoch, role: Some(role), ..Join::default() };
    join(&mut stage, "ben", with(Role::Moderator)).expect("he joins");
    join(&mut stage, "eve", with(Role::Spectator)).expect("she joins");
    let role = |stage: &Stage, name: &str| {
        stage.session.members().membership(&user(name)).map(|member| member.role)
    };
    assert_eq!(role(&stage, "ben"), Some(Role::Moderator));
    assert_eq!(role(&stage, "eve"), Some(Role::Spectator));
    assert_eq!(stage.session.standing(&Actor::of(&user("ben"))), {
        sessiond::session::access::Standing::Joined(Role::Moderator)
    });
    let leave = Command::Leave { user: user("ada"), keep_role: true };
    stage.session.apply(stage.now, &Actor::of(&user("ada")), leave).expect("she leaves");
    join(&mut stage, "ada", with(Role::Member)).expect("she joins");
    assert_eq!(role(&stage, "ada"), Some(Role::Owner));
}
