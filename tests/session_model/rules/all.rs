//! The log of every accepted write and event.

use crate::session_model::{
    picture::{Changes, Picture},
    stage::{Stage, host, keys, members, opening_by, remove, set, text, user},
};
use sessiond::session::{
    ban::Ban,
    command::{Actor, Command, Join, Write},
    ids::Key,
    limits::{Limits, SECOND},
    member::Departure,
    revision::Revision,
    role::Role,
    settings::{Kind, Setting},
    value::Value,
    view::View,
};

/// Somebody listens from now on; the frame that is known then.
fn listen(stage: &mut Stage) -> Revision {
    stage.session.keep_log();
    stage.session.revision()
}

/// What a view is told update by update, with the revisions.
fn told(stage: &Stage, view: &View, after: Revision) -> Vec<(Revision, Changes)> {
    assert!(stage.session.log_start() <= after, "the log reaches back");
    let updates = stage.session.logged_after(after);
    let seen = updates.map(|(of, event)| (of, Changes::logged(&stage.session, view, event)));
    seen.filter(|(_, changes)| !changes.is_silent()).collect()
}

/// The values of a prop in the order in which they are told; none = removed.
fn values(
    stage: &Stage,
    view: &View,
    after: Revision,
    name: &str,
    key: &str,
) -> Vec<Option<Value>> {
    let of = |changes: &Changes| {
        let props = &changes.of(name)?.props;
        let removed = props.removed.contains(key).then_some(None);
        props.set.get(key).cloned().map(Some).or(removed)
    };
    told(stage, view, after).iter().filter_map(|(_, changes)| of(changes)).collect()
}

fn some(texts: &[&str]) -> Vec<Option<Value>> {
    texts.iter().map(|it| Some(text(it))).collect()
}

fn set_data(stage: &mut Stage, actor: Actor, shared: Write) {
    stage.try_to(actor, Command::SetData { shared, private: Write::default(), term: 0 }).unwrap();
}

fn kick(stage: &mut Stage, name: &str) {
    stage.try_to(Actor::App, Command::Kick { target: user(name), reason: "".into() }).unwrap();
}

#[test]
fn every_write_is_told_in_the_accepted_order_equal_values_included() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    let from = listen(&mut stage);
    for (name, value) in [("ada", "1"), ("ben", "1"), ("ada", "1"), ("ada", "2"), ("ben", "2")] {
        stage.set(name, "x", text(value)).unwrap();
    }
    let first = stage.tick();
    stage.set("ada", "x", text("2")).unwrap();
    let second = stage.tick();
    let told = told(&stage, &members(), from);
    let who: Vec<_> = told.iter().map(|(of, it)| (*of, it.members[0].0.as_str())).collect();
    let in_first = ["ada", "ben", "ada", "ada", "ben"].map(|name| (first, name));
    assert_eq!(who[..5], in_first);
    assert_eq!(who[5..], [(second, "ada")]);
    assert_eq!(values(&stage, &members(), from, "ada", "x"), some(&["1", "1", "2", "2"]));
}

#[test]
fn a_value_that_returns_within_a_frame_is_told() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("a")).unwrap();
    stage.tick();
    let from = listen(&mut stage);
    stage.set("ada", "x", text("b")).unwrap();
    stage.set("ada", "x", text("a")).unwrap();
    stage.set("ada", "y", text("new")).unwrap();
    stage.remove("ada", "y").unwrap();
    stage.tick();
    assert!(stage.news(&members()).is_silent(), "the latest state is what it was");
    assert_eq!(values(&stage, &members(), from, "ada", "x"), some(&["b", "a"]));
    assert_eq!(values(&stage, &members(), from, "ada", "y"), [Some(text("new")), None]);
}

#[test]
fn a_write_of_several_keys_is_one_update() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "gone", text("1")).unwrap();
    stage.tick();
    let from = listen(&mut stage);
    let write = Write {
        set: vec![("x".into(), text("1")), ("y".into(), text("2"))],
        remove: vec!["gone".into()],
        ..Write::default()
    };
    stage.write("ada", write, 0).unwrap();
    stage.tick();
    let told = told(&stage, &members(), from);
    assert_eq!(told.len(), 1);
    let props = &told[0].1.of("ada").unwrap().props;
    assert_eq!((props.set.len(), props.removed.len()), (2, 1));
}

#[test]
fn what_is_set_on_the_user_is_told_among_the_writes() {
    let mut stage = Stage::room().with(&["ada"]);
    let from = listen(&mut stage);
    stage.write_on_user("ada", set("x", text("of the user")));
    stage.set("ada", "x", text("of the session")).unwrap();
    stage.write_on_user("ada", set("x", text("of the user, later")));
    stage.write_on_user("ada", remove("x"));
    stage.tick();
    let told = values(&stage, &members(), from, "ada", "x");
    let set = some(&["of the user", "of the session", "of the user, later"]);
    assert_eq!((&told[..3], &told[3..]), (&set[..], &[None][..]));
}

#[test]
fn events_are_told_among_the_writes_in_the_frame_in_which_they_happened() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.update(Setting::RejoinGrace(60 * SECOND));
    stage.tick();
    let from = listen(&mut stage);
    stage.set("ada", "x", text("1")).unwrap();
    stage.stream("ben");
    stage.set("ben", "x", text("1")).unwrap();
    stage.lose_stream("ben");
    set_data(&mut stage, Actor::App, set("round", text("1")));
    let role = Role::Moderator;
    let given = Command::SetRole { target: user("ben"), role, user_props: vec![] };
    stage.try_to(Actor::App, given).unwrap();
    stage.update(Setting::Locked(true));
    stage.leave("ben");
    stage.set("ada", "x", text("2")).unwrap();
    let revision = stage.tick();
    let told = told(&stage, &members(), from);
    assert!(told.iter().all(|(of, _)| *of == revision));
    let word = |changes: &Changes| {
        let member = changes.members.first().map(|(name, change)| (name.as_str(), change));
        match member {
            Some((name, it)) if it.disconnected == Some(true) && it.role == Some(Role::Member) => {
                format!("{name} is disconnected")
            }
            Some((name, it)) if !it.props.set.is_empty() => format!("{name} writes"),
            Some((name, it)) => format!("{name} is {:?}", it.role.unwrap()),
            None if changes.session.is_some() => "settings".to_owned(),
            None if !changes.data.set.is_empty() => "data".to_owned(),
            None => format!("{:?}", changes.left),
        }
    };
    let words: Vec<_> = told.iter().map(|(_, changes)| word(changes)).collect();
    let expected = [
        "ada writes",
        "ben is Member",
        "ben writes",
        "ben is disconnected",
        "data",
        "ben is Moderator",
        "settings",
        "{\"ben\": Left}",
        "ada writes",
    ];
    assert_eq!(words, expected);
}

#[test]
fn who_came_and_went_within_a_frame_is_told() {
    let mut stage = Stage::room().with(&["ada"]);
    let from = listen(&mut stage);
    let props = vec![("x".into(), text("1"))];
    stage.join_with("ben", Join { props, ..Join::default() }).unwrap();
    stage.leave("ben");
    stage.tick();
    assert!(stage.news(&members()).is_silent());
    let told = told(&stage, &members(), from);
    assert_eq!(told[0].1.of("ben").unwrap().props.set["x"], text("1"));
    assert_eq!(told[1].1.left["ben"], Departure::Left);
}

#[test]
fn a_kick_or_ban_that_takes_writes_back_cuts_the_log_there() {
    let throw_out = |stage: &mut Stage, bans: bool| match bans {
        false => kick(stage, "ben"),
        true => {
            let ban = Ban { reason: "".into(), until: None };
            stage.try_to(Actor::App, Command::Ban { target: user("ben"), ban }).unwrap();
        }
    };
    type Deed = fn(&mut Stage);
    let taken_back: [Deed; 6] = [
        |stage| {
            stage.set("ben", "x", text("dropped")).unwrap();
        },
        |stage| {
            stage.set("ben", "x", text("dropped")).unwrap();
            stage.set("ben", "x", text("framed")).unwrap();
        },
        |stage| {
            stage.write_on_user("ben", set("x", text("dropped")));
        },
        |stage| {
            stage.leave("ben");
            let props = vec![("x".into(), text("dropped"))];
            stage.join_with("ben", Join { props, ..Join::default() }).unwrap();
        },
        |stage| set_data(stage, Actor::of(&user("ben")), set("k", text("dropped"))),
        |stage| {
            let swap = Command::SwapHost { target: Some(user("ben")), term: 0 };
            stage.try_to(Actor::App, swap).unwrap();
            stage.set("ben", "x", text("dropped")).unwrap();
        },
    ];
    for (bans, deed) in [false, true].into_iter().flat_map(|bans| taken_back.map(|it| (bans, it))) {
        let mut stage = Stage::hosted().with(&["ada", "ben"]);
        stage.set("ben", "x", text("framed")).unwrap();
        stage.tick();
        let from = listen(&mut stage);
        stage.set("ada", "x", text("told")).unwrap();
        let before = stage.tick();
        deed(&mut stage);
        throw_out(&mut stage, bans);
        assert_eq!(told(&stage, &host(), from).len(), 1, "until the frame is made");
        let cut = stage.tick();
        assert_eq!((cut, stage.session.log_start()), (before.next(), cut));
        stage.set("ada", "x", text("told again")).unwrap();
        stage.tick();
        assert_eq!(told(&stage, &host(), cut).len(), 1);
    }
    for bans in [false, true] {
        let mut stage = Stage::room().with(&["ada", "ben"]);
        stage.set("ben", "x", text("framed")).unwrap();
        set_data(&mut stage, Actor::of(&user("ben")), set("k", text("framed")));
        let from = stage.tick();
        assert_eq!(listen(&mut stage), from);
        let before = stage.picture(&members());
        stage.set("ada", "x", text("kept")).unwrap();
        throw_out(&mut stage, bans);
        stage.tick();
        let told = told(&stage, &members(), from);
        assert!(told[0].1.of("ada").is_some() && told[1].1.left.contains_key("ben"));
        assert_eq!(rebuilt(before, &told), stage.picture(&members()));
    }
}

/// What somebody knows who applies all that was told.
fn rebuilt(mut picture: Picture, told: &[(Revision, Changes)]) -> Picture {
    told.iter().for_each(|(_, changes)| picture.apply(changes));
    picture
}

#[test]
fn a_merged_map_is_told_whole() {
    let map = |keys: &[&str]| {
        Value::Map(keys.iter().map(|key| (Key::from(*key), Value::Integer(1))).collect())
    };
    let merge = |key| Write { merge_maps: true, ..set("k", map(&[key])) };
    let mut stage = Stage::room().with(&["ada", "ben"]);
    set_data(&mut stage, Actor::App, set("k", map(&["framed"])));
    stage.tick();
    let from = listen(&mut stage);
    set_data(&mut stage, Actor::of(&user("ada")), merge("a"));
    set_data(&mut stage, Actor::of(&user("ben")), merge("b"));
    stage.tick();
    let told = told(&stage, &members(), from);
    let maps: Vec<_> = told.iter().filter_map(|(_, it)| it.data.set.get("k")).collect();
    assert_eq!(maps, [&map(&["a", "framed"]), &map(&["a", "b", "framed"])]);
}

#[test]
fn a_log_that_begins_while_a_frame_is_open_begins_after_it() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("before")).unwrap();
    listen(&mut stage);
    stage.set("ada", "x", text("in the open frame")).unwrap();
    let first = stage.tick();
    assert_eq!(stage.session.log_start(), first);
    stage.set("ada", "x", text("told")).unwrap();
    stage.tick();
    assert_eq!(values(&stage, &members(), first, "ada", "x"), some(&["told"]));
}

#[test]
fn members_are_told_what_the_host_writes_and_nothing_of_others_across_a_swap() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted)).with(&["ben", "cleo"]);
    stage.set("ada", "score", text("of ada")).unwrap();
    stage.set("ben", "x", text("framed")).unwrap();
    stage.tick();
    let from = listen(&mut stage);
    let before = stage.picture(&members());
    stage.set("ada", "x", text("1")).unwrap();
    stage.set("ben", "x", text("hidden")).unwrap();
    stage.set("ben", "x", text("2")).unwrap();
    let swap = Command::SwapHost { target: Some(user("ben")), term: 0 };
    stage.try_to(Actor::App, swap).unwrap();
    stage.set("ada", "x", text("hidden")).unwrap();
    stage.set("ben", "x", text("3")).unwrap();
    stage.set("cleo", "x", text("hidden")).unwrap();
    stage.tick();
    let told = told(&stage, &members(), from);
    let all: Vec<_> = told.iter().flat_map(|(_, it)| &it.members).collect();
    let hidden = |value: &Value| *value == text("hidden");
    assert!(!all.iter().any(|(_, it)| it.props.set.values().any(hidden)), "{all:?}");
    assert_eq!(values(&stage, &members(), from, "ada", "x"), some(&["1"]));
    assert_eq!(values(&stage, &members(), from, "ben", "x"), some(&["2", "3"]));
    assert_eq!(values(&stage, &members(), from, "ben", "score"), some(&["of ada"]), "inherited");
    let (at, swap) = told.iter().enumerate().find(|(_, it)| it.1.session.is_some()).unwrap();
    assert_eq!((at, swap.1.members.len()), (1, 2), "both hosts are told anew");
    assert!(swap.1.members.iter().all(|(_, change)| change.replaces));
    assert_eq!(rebuilt(before, &told), stage.picture(&members()));
    // Who sees everybody is told all of it.
    assert_eq!(values(&stage, &host(), from, "cleo", "x"), some(&["hidden"]));
}

#[test]
fn a_key_that_no_view_shows_takes_no_room() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Propnames(keys(&["shown"])));
    stage.tick();
    listen(&mut stage);
    let before = stage.session.log_bytes();
    stage.write_on_user("ada", set("hidden", text("1")));
    stage.set("ada", "hidden", text("2")).unwrap();
    assert_eq!(stage.session.log_bytes(), before);
    stage.set("ada", "shown", text("2")).unwrap();
    assert!(stage.session.log_bytes() > before);
}

/// A room whose log is bounded, with a listener who has everything so far.
fn bounded(log_updates: usize, log_bytes: usize) -> (Stage, Revision) {
    let limits = Limits { log_updates, log_bytes, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    let from = listen(&mut stage);
    (stage, from)
}

#[test]
fn the_log_holds_4096_updates_by_default_and_then_forgets_the_oldest_frame() {
    let limits = Limits::default();
    let (mut stage, from) = bounded(limits.log_updates, usize::MAX);
    for n in 0..4096 {
        stage.set("ada", "x", Value::Integer(n)).unwrap();
        if n % 2 == 1 {
            stage.tick();
        }
    }
    assert_eq!(stage.session.log_start(), from);
    assert_eq!(told(&stage, &members(), from).len(), 4096);
    stage.set("ada", "x", Value::Integer(0)).unwrap();
    assert_eq!(stage.session.log_start(), from.next(), "a frame is forgotten whole");
    stage.tick();
    assert_eq!(told(&stage, &members(), from.next()).len(), 4095);
}

#[test]
fn the_log_is_bounded_in_bytes() {
    let write = |stage: &mut Stage, n: i64| {
        stage.set("ada", "x", Value::Integer(n)).unwrap();
        stage.tick();
    };
    let (mut stage, from) = bounded(usize::MAX, usize::MAX);
    (0..10).for_each(|n| write(&mut stage, n));
    let bytes = stage.session.log_bytes();
    for (bound, start) in [(bytes, from), (bytes - 1, from.next())] {
        let (mut stage, from) = bounded(usize::MAX, bound);
        (0..10).for_each(|n| write(&mut stage, n));
        assert_eq!(stage.session.log_start(), start, "{bound} bytes from {from} on");
        assert!(stage.session.log_bytes() <= bound);
    }
    assert_eq!(Limits::default().log_bytes, 1024 * 1024);
    stage.session.shorten_log(bytes - 1);
    assert_eq!(stage.session.log_start(), from.next(), "whoever keeps all logs may say less");
}

#[test]
fn a_frame_that_the_log_cannot_hold_is_forgotten_and_the_next_one_is_told() {
    let (mut stage, from) = bounded(3, usize::MAX);
    stage.set("ada", "x", text("0")).unwrap();
    stage.tick();
    for n in 1..=4 {
        stage.set("ada", "x", Value::Integer(n)).unwrap();
    }
    assert_eq!(stage.session.log_bytes(), 0);
    let lost = stage.tick();
    assert_eq!(stage.session.log_start(), lost);
    stage.set("ada", "x", text("told")).unwrap();
    stage.tick();
    assert_eq!(values(&stage, &members(), lost, "ada", "x"), some(&["told"]));
    assert!(from < lost);
}

#[test]
fn the_log_stays_for_a_minute_after_the_last_listener() {
    let mut stage = Stage::room().with(&["ada"]);
    let logs = |stage: &mut Stage| {
        stage.set("ada", "x", text("1")).unwrap();
        stage.tick();
        stage.session.log_bytes() > 0
    };
    assert!(!logs(&mut stage), "nobody listens");
    let from = listen(&mut stage);
    assert!(logs(&mut stage));
    stage.session.release_log(stage.now);
    stage.pass(60 * SECOND - 1);
    assert!(logs(&mut stage));
    // Somebody comes back in time, and the minute begins anew.
    assert_eq!(listen(&mut stage), from.next().next());
    stage.pass(60 * SECOND);
    assert!(logs(&mut stage) && stage.session.log_start() == from);
    stage.session.release_log(stage.now);
    stage.pass(60 * SECOND);
    assert!(!logs(&mut stage));
    assert_eq!(stage.session.log_start(), stage.session.revision());
}

#[test]
fn nobody_is_told_what_it_could_not_see_when_it_was_written() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted)).with(&["ben"]);
    let from = listen(&mut stage);
    stage.set("ben", "x", text("hidden")).unwrap();
    let before = stage.tick();
    let ben = Actor::of(&user("ben"));
    assert!(stage.session.log_fits(&ben, &members(), from));
    // Once ben hosts, what he may be told begins there.
    let swap = Command::SwapHost { target: Some(user("ben")), term: 0 };
    stage.try_to(Actor::App, swap).unwrap();
    let swapped = stage.tick();
    assert!(!stage.session.log_fits(&ben, &host(), before));
    assert!(stage.session.log_fits(&ben, &host(), swapped));
    assert!(stage.session.log_fits(&Actor::App, &host(), from));
    // The same for a class that comes to see other keys.
    stage.update(Setting::Hostprops(keys(&["x"])));
    let selected = stage.tick();
    for view in [members(), host()] {
        assert!(!stage.session.log_fits(&Actor::App, &view, swapped));
        assert!(stage.session.log_fits(&Actor::App, &view, selected));
    }
}
