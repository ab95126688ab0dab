//! Revisions, deltas and what is remembered of what is gone.

use crate::session_model::{
    picture::Changes,
    position::{NoDelta, Position},
    stage::{Stage, keys, members, opening, opening_by, remove, set, text, user},
};
use sessiond::session::{
    Session,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    limits::{Limits, SECOND},
    member::Departure,
    revision::Revision,
    settings::{Kind, Setting},
};
use std::{collections::BTreeMap, sync::Arc};

fn remembering(removals: usize) -> Stage {
    let limits = Limits { removals, ..Limits::default() };
    Stage::open_with(opening_by("ada", Kind::Room), limits)
}

#[test]
fn opening_makes_revision_one_with_everything_in_it() {
    let mut opening = opening_by("ada", Kind::Room);
    opening.data = vec![("x".into(), text("shared"))];
    opening.opener.as_mut().unwrap().1.props = vec![("y".into(), text("first"))];
    let stage = Stage::open(opening);
    let (revision, pending) = (stage.session.revision(), stage.session.pending_revision());
    assert_eq!((revision, pending), (Revision::FIRST, Revision::FIRST));
    let picture = stage.picture(&members());
    assert_eq!(picture.data["x"], text("shared"));
    assert_eq!(picture.members["ada"].props["y"], text("first"));
}

#[test]
fn a_tick_takes_a_revision_only_if_something_was_accepted() {
    let mut stage = Stage::room().with(&["ada"]);
    let before = stage.tick();
    assert_eq!(stage.tick(), before);
    let accepted = stage.set("ada", "x", text("a")).unwrap();
    assert_eq!(accepted.revision, before.next());
    assert_eq!(stage.set("ada", "x", text("b")).unwrap().revision, before.next());
    assert_eq!(stage.tick(), before.next());
    assert_eq!(stage.set("ada", "x", text("b")).unwrap().revision, before.next().next());
    assert_eq!(stage.tick(), before.next().next(), "an equal value is accepted too");
}

#[test]
fn a_delta_from_further_back_names_each_thing_once_at_its_last_value() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    let from = stage.tick();
    for n in 0..5 {
        stage.set("ada", "x", text(&n.to_string())).unwrap();
        stage.set("ada", "gone", text(&n.to_string())).unwrap();
        stage.tick();
    }
    stage.remove("ada", "gone").unwrap();
    stage.tick();
    let changes = stage.since(&members(), from);
    let ada = &changes.of("ada").unwrap().props;
    assert_eq!(ada.set.clone().into_iter().collect::<Vec<_>>(), [("x".into(), text("4"))]);
    assert!(ada.removed.contains("gone"));
    assert!(changes.of("ben").is_none() && changes.session.is_none());
}

#[test]
fn a_member_that_left_and_came_back_is_marked_replaces() {
    for ticks_between in [false, true] {
        let mut stage = Stage::room().with(&["ada", "ben"]);
        stage.set("ben", "x", text("of before")).unwrap();
        let from = stage.tick();
        stage.leave("ben");
        if ticks_between {
            stage.tick();
            assert_eq!(stage.news(&members()).left["ben"], Departure::Left);
        }
        stage.join("ben").unwrap();
        stage.tick();
        let changes = stage.since(&members(), from);
        assert!(changes.of("ben").unwrap().replaces);
        assert!(changes.left.is_empty(), "nobody is in members and in left");
        let mut picture = stage.picture(&members());
        picture.members.get_mut("ben").unwrap().props.insert("x".into(), text("of before"));
        picture.apply(&changes);
        assert_eq!(picture, stage.picture(&members()));
        let knows_it_left = ticks_between.then(|| stage.news(&members()));
        assert!(knows_it_left.is_none_or(|changes| !changes.of("ben").unwrap().replaces));
    }
}

#[test]
fn who_joined_and_left_between_two_frames_was_never_there() {
    let mut stage = Stage::room().with(&["ada"]);
    let before = stage.tick();
    stage.join("ben").unwrap();
    stage.leave("ben");
    assert_eq!(stage.tick(), before.next());
    assert!(stage.news(&members()).is_silent());
    assert_eq!(stage.session.take_left(), [user("ben")]);
}

#[test]
fn removals_are_remembered_up_to_their_number_and_then_the_horizon_rises() {
    let mut stage = remembering(2);
    for key in ["a", "b", "c"] {
        stage.set("ada", key, text("1")).unwrap();
    }
    stage.tick();
    let mut removed_at = Vec::new();
    for key in ["a", "b", "c"] {
        stage.remove("ada", key).unwrap();
        removed_at.push(stage.tick());
    }
    assert_eq!(stage.session.horizon(), Revision::NONE, "forgetting waits for the next frame");
    let old = Position { revision: Revision(2), ..stage.position(&members()) };
    assert_eq!(stage.resume(old, &members()), Ok(()));
    stage.set("ada", "z", text("1")).unwrap();
    stage.tick();
    assert_eq!(stage.session.horizon(), removed_at[0]);
    assert_eq!(stage.resume(old, &members()), Err(NoDelta::TooOld));
    let removed = stage.since(&members(), removed_at[0]).of("ada").unwrap().props.removed.clone();
    assert_eq!(removed.iter().map(|key| &**key).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn departures_are_remembered_like_removals() {
    let mut stage = remembering(1).with(&["ben", "cleo"]);
    stage.leave("ben");
    let ben_left = stage.tick();
    stage.leave("cleo");
    stage.tick();
    assert_eq!(stage.since(&members(), ben_left.previous()).left.len(), 2);
    stage.join("dan").unwrap();
    stage.tick();
    assert_eq!(stage.session.horizon(), ben_left);
    let left: Vec<_> = stage.since(&members(), ben_left).left.into_keys().collect();
    assert_eq!(left, ["cleo"]);
}

#[test]
fn removals_are_remembered_for_five_minutes() {
    let mut stage = remembering(1000);
    stage.set("ada", "x", text("1")).unwrap();
    stage.tick();
    stage.remove("ada", "x").unwrap();
    let removed_at = stage.tick();
    for (span, horizon) in [(300 * SECOND - 1, Revision::NONE), (1, removed_at)] {
        stage.pass(span);
        stage.set("ada", "y", text("1")).unwrap();
        stage.tick();
        assert_eq!(stage.session.horizon(), horizon);
    }
}

#[test]
fn a_removal_that_was_taken_back_moves_no_horizon() {
    let mut stage = remembering(1000);
    stage.set("ada", "x", text("1")).unwrap();
    let from = stage.tick();
    stage.remove("ada", "x").unwrap();
    stage.tick();
    stage.set("ada", "x", text("2")).unwrap();
    stage.tick();
    stage.pass(300 * SECOND);
    stage.set("ada", "y", text("1")).unwrap();
    stage.tick();
    assert_eq!(stage.session.horizon(), Revision::NONE);
    let changes = stage.since(&members(), from);
    assert_eq!(changes.of("ada").unwrap().props.set["x"], text("2"));
}

#[test]
fn a_key_that_is_removed_again_is_remembered_from_then_on() {
    let mut stage = remembering(1000);
    stage.set("ada", "x", text("1")).unwrap();
    let from = stage.tick();
    stage.remove("ada", "x").unwrap();
    stage.tick();
    stage.pass(200 * SECOND);
    stage.set("ada", "x", text("2")).unwrap();
    stage.tick();
    stage.remove("ada", "x").unwrap();
    stage.tick();
    stage.pass(100 * SECOND);
    stage.set("ada", "y", text("1")).unwrap();
    stage.tick();
    assert_eq!(stage.session.horizon(), Revision::NONE);
    assert!(stage.since(&members(), from).of("ada").unwrap().props.removed.contains("x"));
}

#[test]
fn who_takes_every_frame_is_never_too_old() {
    let mut stage = remembering(0);
    let mut known = stage.picture(&members());
    for n in 0..20 {
        let at = stage.position(&members());
        match n % 2 {
            0 => stage.set("ada", "x", text("1")).unwrap(),
            _ => stage.remove("ada", "x").unwrap(),
        };
        stage.tick();
        assert_eq!(stage.resume(at, &members()), Ok(()));
        known.apply(&stage.news(&members()));
        assert_eq!(known, stage.picture(&members()));
    }
}

#[test]
fn a_position_of_another_epoch_or_of_the_future_is_worthless() {
    let stage = Stage::room().with(&["ada"]);
    let at = stage.position(&members());
    let later = Position { revision: at.revision.next(), ..at };
    assert_eq!(stage.resume(later, &members()), Err(NoDelta::Future));
    let other = Position { epoch: Epoch(at.epoch.0 + 1), ..at };
    assert_eq!(stage.resume(other, &members()), Err(NoDelta::EpochChanged));
}

#[test]
fn the_epoch_of_a_session_made_anew_is_greater_whatever_the_clock_says() {
    let limits = Arc::new(Limits::default());
    let open =
        |now, last| Session::open(opening(Kind::Room), limits.clone(), now, Epoch(last)).unwrap();
    assert_eq!(open(1000, 0).epoch(), Epoch(1000));
    assert_eq!(open(1000, 1000).epoch(), Epoch(1001));
    assert_eq!(open(900, 1000).epoch(), Epoch(1001));
}

#[test]
fn what_a_session_holds_is_bounded_whatever_is_written_and_removed() {
    let limits = Limits { removals: 4, props_per_user: 2, notes: 4, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.update(Setting::EmptyTtl(SECOND));
    let size_after = |rounds: std::ops::Range<u32>, stage: &mut Stage| {
        for round in rounds {
            let key = format!("k{round:04}");
            stage.set("ada", &key, text("1")).unwrap();
            let guest = format!("guest {round:04}");
            let props = vec![(guest.as_str().into(), text("1"))];
            stage.join_with(&guest, Join { props, ..Join::default() }).unwrap();
            let shared = set(&key, text("1"));
            let data =
                |shared: Write| Command::SetData { private: shared.clone(), shared, term: 0 };
            stage.try_to(Actor::App, data(shared)).unwrap();
            stage.tick();
            stage.try_to(Actor::App, data(remove(&key))).unwrap();
            stage.remove("ada", &key).unwrap();
            stage.leave(&guest);
            stage.tick();
            stage.session.take_left();
            stage.session.take_events();
        }
        format!("{:?}", stage.session).len()
    };
    let early = size_after(1000..1010, &mut stage);
    let late = size_after(1010..1500, &mut stage);
    assert!(late < early + 200, "{early} -> {late}");
    assert!(stage.session.horizon().0 > stage.session.revision().0 - 10);
}

#[test]
fn a_session_without_frames_holds_no_more_than_what_is_set() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.update(Setting::Propnames(keys(&["shown"])));
    let revision = stage.tick();
    let size_after = |rounds: std::ops::Range<u32>, stage: &mut Stage| {
        for round in rounds {
            let key = format!("k{round:04}");
            stage.write_on_user("ada", set(&key, text("1")));
            stage.write_on_user("ada", remove(&key));
        }
        assert_eq!(stage.tick(), revision);
        format!("{:?}", stage.session).len()
    };
    let early = size_after(1000..1010, &mut stage);
    let late = size_after(1010..1500, &mut stage);
    assert!(late < early + 200, "{early} -> {late}");
}

#[test]
fn who_orders_members_as_they_are_told_shows_the_join_order_whatever_came_in_between() {
    let mut stage = Stage::room().with(&["zed", "bob", "amy", "kim"]);
    let mut picture = stage.picture(&members());
    assert_eq!(picture.in_join_order(), ["zed", "bob", "amy", "kim"]);
    let known = stage.session.revision();
    for name in ["kim", "amy"] {
        stage.set(name, "x", text("first")).unwrap();
        stage.tick();
    }
    // Of these two one is gone for a moment, and one within a frame.
    stage.leave("bob");
    stage.tick();
    stage.join("bob").unwrap();
    stage.tick();
    stage.leave("zed");
    stage.join("zed").unwrap();
    stage.join("lee").unwrap();
    stage.tick();
    picture.apply(&stage.since(&members(), known));
    assert_eq!(picture.in_join_order(), ["amy", "kim", "bob", "zed", "lee"]);
    assert_eq!(picture.in_join_order(), stage.joined());
    assert_eq!(stage.picture(&members()).in_join_order(), stage.joined());
}

#[test]
fn a_snapshot_names_who_left_since_as_far_as_it_is_remembered_and_across_a_reset() {
    let mut stage = remembering(2).with(&["ben", "cleo", "dan", "eve"]);
    let known = stage.session.revision();
    let kick = Command::Kick { target: user("ben"), reason: "".into() };
    stage.try_to(Actor::App, kick).unwrap();
    stage.tick();
    stage.leave("cleo");
    stage.session.reset(stage.now, &Actor::App, None).unwrap();
    let left = |stage: &Stage, from| Changes::departures_after(&stage.session, from);
    let both = [("ben", Departure::Kicked), ("cleo", Departure::Left)];
    let named = |list: &[(&str, Departure)]| -> BTreeMap<_, _> {
        list.iter().map(|(name, departure)| (name.to_string(), *departure)).collect()
    };
    assert_eq!(left(&stage, known), named(&both));
    assert_eq!(left(&stage, known.next()), named(&both[1..]));
    assert!(!stage.session.has_departures(stage.session.revision()));
    stage.join("cleo").unwrap();
    stage.tick();
    assert_eq!(left(&stage, known), named(&both[..1]), "who is back has not left");
    for name in ["dan", "eve"] {
        stage.leave(name);
        stage.tick();
    }
    stage.tick();
    stage.set("ada", "x", text("1")).unwrap();
    stage.tick();
    assert!(!left(&stage, known).contains_key("ben"), "it is forgotten");
}
