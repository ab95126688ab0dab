//! What outlives the owner of a session, and how the next owner goes on.

use crate::session_model::{
    picture::Changes,
    shadow,
    stage::{
        Stage, host, keys, members, opening_by, opening_private, set, spectator, text, tied, user,
    },
};
use sessiond::session::{
    Session,
    ban::Ban,
    command::{Actor, Command, Join},
    error::Refusal,
    limits::{Limits, Micros, SECOND, SERVER_END_GRACE},
    record::{Begin, Record},
    replica::{Replica, Unfit},
    settings::{Kind, Setting},
};
use std::sync::Arc;

const JOIN_TIMEOUT: Micros = 15 * SECOND;

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

fn snapshot(session: &Session) -> Record {
    session.snapshot().expect("nothing is open")
}

/// The owner is gone, and for so long there is none.
fn restart(stage: &mut Stage, away: Micros) {
    stage.tick();
    let snapshot = snapshot(&stage.session);
    stage.now += away;
    stage.session = shadow::begin(snapshot, &limits()).promote(stage.now);
    stage.pass(0);
    stage.tick();
}

fn shown_as_disconnected(stage: &Stage, name: &str) -> bool {
    stage.picture(&members()).members[name].disconnected
}

#[test]
fn the_next_owner_goes_on_at_the_same_position() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("1")).unwrap();
    stage.tick();
    let at = stage.position(&members());
    restart(&mut stage, SECOND);
    assert_eq!(stage.resume(at, &members()), Ok(()));
    assert!(stage.since(&members(), at.revision).is_silent());
    stage.set("ada", "x", text("2")).unwrap();
    assert_eq!(stage.tick(), at.revision.next());
    assert_eq!(stage.shows(&members(), "ada", "x"), Some(text("2")));
}

#[test]
fn a_tied_member_that_does_not_come_back_is_shown_as_disconnected_and_then_leaves() {
    let mut stage = Stage::room();
    stage.stream("ada");
    stage.stream("ben");
    restart(&mut stage, 3600 * SECOND);
    assert!(!shown_as_disconnected(&stage, "ada"));
    stage.open_stream("ben");
    stage.pass(JOIN_TIMEOUT);
    stage.tick();
    assert!(shown_as_disconnected(&stage, "ada"));
    assert!(!shown_as_disconnected(&stage, "ben"));
    stage.pass(SERVER_END_GRACE - 1);
    assert!(stage.is_in("ada"));
    stage.pass(1);
    assert!(!stage.is_in("ada"));
    assert!(stage.is_in("ben"));
}

#[test]
fn an_explicit_member_is_expected_back_only_if_it_had_a_stream_and_stays_anyway() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.open_stream("ada");
    restart(&mut stage, SECOND);
    stage.pass(JOIN_TIMEOUT);
    assert!(stage.is_disconnected("ada"));
    assert!(!stage.is_disconnected("ben"));
    stage.pass(3600 * SECOND);
    assert_eq!(stage.joined(), ["ada", "ben"]);
}

#[test]
fn a_grace_that_ran_out_meanwhile_runs_from_its_start() {
    let mut stage = Stage::room().with(&["owner"]);
    stage.stream("ada");
    stage.lose_stream("ada");
    restart(&mut stage, 3600 * SECOND);
    assert!(stage.is_disconnected("ada"));
    stage.pass(SERVER_END_GRACE - 1);
    assert!(stage.is_in("ada"));
    stage.pass(1);
    assert!(!stage.is_in("ada"));
}

#[test]
fn a_grace_that_goes_on_ends_at_its_moment() {
    let mut stage = Stage::room().with(&["owner"]);
    stage.stream("ada");
    stage.lose_stream("ada");
    restart(&mut stage, 4 * SECOND);
    stage.pass(6 * SECOND - 1);
    assert!(stage.is_in("ada"));
    stage.pass(1);
    assert!(!stage.is_in("ada"));
}

#[test]
fn a_lost_host_has_its_grace_again() {
    let mut stage = Stage::hosted();
    stage.update(Setting::HostGrace(20 * SECOND));
    stage.stream("ada");
    stage.stream("ben");
    stage.lose_stream("ada");
    restart(&mut stage, 3600 * SECOND);
    stage.open_stream("ben");
    stage.pass(20 * SECOND - 1);
    assert_eq!(stage.host(), Some("ada"));
    stage.pass(1);
    assert_eq!(stage.host(), Some("ben"));
}

#[test]
fn what_a_host_left_is_there_for_the_first_host_under_the_next_owner() {
    let mut stage = Stage::hosted().with(&["ada"]);
    stage.join_with("dan", spectator()).unwrap();
    stage.set("ada", "x", text("1")).unwrap();
    stage.leave("ada");
    restart(&mut stage, SECOND);
    stage.join("ben").unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "x"), Some(text("1")));
}

#[test]
fn the_next_owner_gives_no_membership_the_place_of_an_earlier_one() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.leave("ben");
    restart(&mut stage, SECOND);
    stage.join("cleo").unwrap();
    assert_eq!(stage.session.members().membership("cleo").unwrap().order, 3);
}

#[test]
fn bans_and_seats_end_at_their_moments() {
    let mut stage = Stage::room().with(&["ada"]);
    for (target, span) in [("ben", Some(10 * SECOND)), ("cleo", Some(30 * SECOND)), ("dan", None)] {
        let ban = Ban { reason: "spam".into(), until: span.map(|span| stage.now + span) };
        stage.try_to(Actor::App, Command::Ban { target: user(target), ban }).unwrap();
    }
    for (name, span) in [("eve", 10 * SECOND), ("fay", 30 * SECOND)] {
        let until = stage.now + span;
        let users = vec![user(name)];
        stage.try_to(Actor::App, Command::ReserveSeats { users, until }).unwrap();
    }
    restart(&mut stage, 20 * SECOND);
    let banned = |stage: &Stage| stage.session.bans(stage.now, &Actor::App).len();
    assert_eq!((banned(&stage), stage.session.seats()), (2, 1));
    stage.join("ben").unwrap();
    assert!(matches!(stage.join("dan"), Err(Refusal::Banned { until: None })));
    stage.pass(10 * SECOND);
    assert_eq!((banned(&stage), stage.session.seats()), (1, 0));
}

#[test]
fn a_ban_is_lifted_without_a_frame_and_in_the_next_record() {
    let mut stage = Stage::room().with(&["ada"]);
    let ban = Ban { reason: "spam".into(), until: None };
    stage.try_to(Actor::App, Command::Ban { target: user("ben"), ban }).unwrap();
    stage.tick();
    let (replica, mark) =
        (shadow::begin(snapshot(&stage.session), &limits()), stage.session.mark());
    stage.try_to(Actor::App, Command::Unban { target: user("ben") }).unwrap();
    let record = stage.session.record_since(&mark).expect("nothing is open");
    assert_eq!((record.until.revision, record.people.list.len()), (mark.revision, 1));
    let replica = replica.apply(record).unwrap();
    assert!(replica.bans(stage.now, &Actor::App).is_empty());
}

#[test]
fn a_session_is_not_kept_longer_for_having_had_no_owner() {
    let mut empty = Stage::room().with(&["ada"]);
    empty.update(Setting::EmptyTtl(60 * SECOND));
    empty.leave("ada");
    restart(&mut empty, 59 * SECOND);
    assert!(!empty.session.has_ended());
    restart(&mut empty, SECOND);
    assert!(empty.session.has_ended());

    let mut old = Stage::room().with(&["ada"]);
    old.update(Setting::MaxAge(60 * SECOND));
    restart(&mut old, 60 * SECOND);
    assert!(old.session.has_ended());
}

#[test]
fn what_no_view_shows_yet_is_not_lost() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Propnames(keys(&["shown"])));
    stage.tick();
    stage.write_on_user("ada", set("hidden", text("1")));
    restart(&mut stage, SECOND);
    stage.update(Setting::Propnames(keys(&[])));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "hidden"), Some(text("1")));
}

#[test]
fn a_password_is_asked_for_by_the_next_owner_and_shown_by_no_one() {
    let hash = crate::session_model::steps::password(1);
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Password(Some(hash.clone())));
    restart(&mut stage, SECOND);
    assert_eq!(stage.join("ben"), Err(Refusal::WrongPassword));
    let join = Join { proven: Some(hash), ..Join::default() };
    assert!(stage.join_with("ben", join).is_ok());
}

#[test]
fn a_private_session_is_the_same_from_its_records() {
    let mut stage = Stage::open(opening_private());
    let mut replica = shadow::begin(snapshot(&stage.session), &limits());
    let mut follow = |stage: &Stage| {
        let record = stage.session.record_since(&replica.mark()).expect("nothing is open");
        let known =
            std::mem::replace(&mut replica, shadow::begin(snapshot(&stage.session), &limits()));
        let known = known.apply(record).unwrap();
        for view in [members(), host()] {
            assert_eq!(Changes::all(&known, &view), Changes::all(&stage.session, &view));
            assert_eq!(known.fingerprint(&view, None), stage.session.fingerprint(&view, None));
        }
        assert_eq!(known.snapshot(), stage.session.snapshot());
        assert_eq!(known.pair(), stage.session.pair());
    };
    follow(&stage);
    stage.try_to(Actor::App, Command::SourceSeen { is_present: true }).unwrap();
    stage.tick();
    follow(&stage);
    stage.join_with("ada", tied()).unwrap();
    stage.set("ada", "x", text("1")).unwrap();
    stage.tick();
    follow(&stage);
    stage.pass(JOIN_TIMEOUT);
    stage.tick();
    follow(&stage);
}

#[test]
fn an_absent_source_is_shown_as_disconnected_if_the_app_does_not_see_it_again() {
    let seen = |is_present, stage: &mut Stage| {
        stage.try_to(Actor::App, Command::SourceSeen { is_present }).unwrap();
        stage.tick();
    };
    for is_back in [false, true] {
        let mut stage = Stage::open(opening_private());
        seen(true, &mut stage);
        restart(&mut stage, SECOND);
        if is_back {
            seen(true, &mut stage);
        }
        assert!(!shown_as_disconnected(&stage, "ada"));
        stage.pass(JOIN_TIMEOUT);
        stage.tick();
        assert_eq!(shown_as_disconnected(&stage, "ada"), !is_back);
    }
}

#[test]
fn a_record_is_of_whole_frames() {
    let mut stage = Stage::room().with(&["ada"]);
    let mark = stage.session.mark();
    stage.set("ada", "x", text("1")).unwrap();
    assert!(stage.session.record_since(&mark).is_none());
    assert!(stage.session.snapshot().is_none());
    stage.tick();
    assert!(stage.session.record_since(&mark).is_some());
}

#[test]
fn from_where_removals_are_forgotten_a_record_is_a_snapshot() {
    let mut stage = Stage::room().with(&["ada"]);
    let mark = stage.session.mark();
    stage.session.reset(stage.now, &Actor::App, None).unwrap();
    let record = stage.session.record_since(&mark).unwrap();
    assert!(matches!(record.begin, Begin::Nothing(_)));
}

#[test]
fn a_record_that_does_not_follow_is_refused_and_an_old_one_changes_nothing() {
    let mut stage = Stage::room().with(&["ada"]);
    let first = stage.session.mark();
    let replica = |stage: &Stage| Replica::begin(snapshot(&stage.session), limits()).unwrap();
    let (early, other) = (replica(&stage), Stage::open(opening_by("ada", Kind::Room)));
    let step = |stage: &mut Stage, value| {
        stage.set("ada", "x", text(value)).unwrap();
        stage.tick();
        stage.session.mark()
    };
    let second = step(&mut stage, "1");
    let old = stage.session.record_since(&first).unwrap();
    step(&mut stage, "2");
    let late = stage.session.record_since(&second).unwrap();
    assert_eq!(early.apply(late).map(|_| ()), Err(Unfit::Gap));
    let before = format!("{:?}", replica(&stage));
    assert_eq!(format!("{:?}", replica(&stage).apply(old).unwrap()), before);
    let mut foreign = snapshot(&other.session);
    foreign.id = sessiond::session::ids::SessionId::new("other").unwrap();
    assert_eq!(replica(&stage).apply(foreign).map(|_| ()), Err(Unfit::OtherSession));
}
