//! Values, whichever way they come, and the selection of keys.

use crate::session_model::{
    picture::Changes,
    stage::{Stage, host, keys, members, opening_by, remove, set, spectator, text, too_low, user},
};
use sessiond::session::{
    Opening,
    command::{Actor, Command, Join, Write},
    error::{Limit, Refusal},
    limits::Limits,
    role::Role,
    settings::{Kind, Setting},
    value::Value,
};

#[test]
fn zero_false_and_empty_text_are_values_and_are_sent() {
    let mut stage = Stage::room().with(&["ada"]);
    for value in [Value::Integer(0), Value::Number(0.0), Value::Flag(false), text("")] {
        stage.set("ada", "x", value.clone()).unwrap();
        stage.tick();
        assert_eq!(stage.news(&members()).of("ada").unwrap().props.set["x"], value);
    }
}

#[test]
fn null_is_a_value_and_removing_is_its_own_list() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", Value::Null).unwrap();
    stage.tick();
    assert_eq!(stage.news(&members()).of("ada").unwrap().props.set["x"], Value::Null);
    stage.remove("ada", "x").unwrap();
    stage.tick();
    let news = stage.news(&members());
    assert!(news.of("ada").unwrap().props.removed.contains("x"));
    assert_eq!(stage.shows(&members(), "ada", "x"), None);
}

#[test]
fn a_value_that_returns_within_a_frame_takes_a_revision_and_shows_nothing() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", text("a")).unwrap();
    let before = stage.tick();
    stage.set("ada", "x", text("b")).unwrap();
    stage.set("ada", "x", text("a")).unwrap();
    stage.set("ada", "y", text("new")).unwrap();
    stage.remove("ada", "y").unwrap();
    assert_eq!(stage.tick(), before.next());
    for view in [members(), host()] {
        assert!(stage.news(&view).is_silent());
    }
}

#[test]
fn nan_over_nan_is_no_change() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", Value::Number(f64::NAN)).unwrap();
    let before = stage.tick();
    stage.set("ada", "x", Value::Number(-f64::NAN)).unwrap();
    assert_eq!(stage.tick(), before.next());
    assert!(stage.news(&members()).is_silent());
}

#[test]
fn minus_zero_over_zero_is_a_change_for_who_is_told_the_latest_and_for_who_is_told_all() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", Value::Number(0.0)).unwrap();
    let from = stage.tick();
    stage.session.keep_log();
    stage.set("ada", "x", Value::Number(-0.0)).unwrap();
    stage.tick();
    let (_, event) = stage.session.logged_after(from).next().unwrap();
    let all = Changes::logged(&stage.session, &members(), event);
    for changes in [stage.news(&members()), all] {
        let Value::Number(number) = changes.of("ada").unwrap().props.set["x"] else { panic!() };
        assert!(number.is_sign_negative());
    }
}

#[test]
fn removing_what_is_not_there_is_fine_and_changes_nothing() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.remove("ada", "x").unwrap();
    stage.tick();
    assert!(stage.news(&members()).is_silent());
}

#[test]
fn the_last_write_wins_whichever_way_it_came() {
    let mut stage = Stage::room();
    let user_props = vec![("x".into(), text("before")), ("y".into(), text("before"))];
    let props = vec![("x".into(), text("joining"))];
    stage.join_with("ada", Join { props, user_props, ..Join::default() }).unwrap();
    stage.tick();
    let shows = |stage: &mut Stage, key| {
        stage.tick();
        stage.shows(&members(), "ada", key)
    };
    assert_eq!(shows(&mut stage, "x"), Some(text("joining")));
    assert_eq!(shows(&mut stage, "y"), Some(text("before")));
    stage.write_on_user("ada", set("x", text("on the user")));
    assert_eq!(shows(&mut stage, "x"), Some(text("on the user")));
    stage.set("ada", "x", text("here")).unwrap();
    assert_eq!(shows(&mut stage, "x"), Some(text("here")));
    stage.write_on_user("ada", set("x", text("on the user, later")));
    assert_eq!(shows(&mut stage, "x"), Some(text("on the user, later")));
    stage.remove("ada", "x").unwrap();
    assert_eq!(shows(&mut stage, "x"), None);
    stage.set("ada", "x", text("here again")).unwrap();
    stage.write_on_user("ada", remove("x"));
    assert_eq!(shows(&mut stage, "x"), None);
}

#[test]
fn first_props_are_those_of_a_new_membership_only() {
    let limits = Limits { props_per_user: 1, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    let join = |key: &str| Join { props: vec![(key.into(), text("0"))], ..Join::default() };
    stage.join_with("ben", join("x")).unwrap();
    stage.set("ben", "x", text("5")).unwrap();
    let before = stage.tick();
    for key in ["x", "one too many"] {
        stage.join_with("ben", join(key)).unwrap();
        assert_eq!(stage.tick(), before, "nothing was accepted that changes anything");
        assert_eq!(stage.shows(&members(), "ben", "x"), Some(text("5")));
    }
    stage.join_with("spec", spectator()).unwrap();
    stage.join_with("spec", join("x")).unwrap();
    stage.leave("ben");
    stage.join_with("ben", join("x")).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "x"), Some(text("0")));
}

#[test]
fn a_write_on_the_user_takes_a_revision_only_where_the_selection_shows_a_written_key() {
    for (kind, of_host_concerns) in [(Kind::Room, false), (Kind::Hosted, true)] {
        let mut stage = Stage::open(opening_by("ada", kind));
        stage.update(Setting::Propnames(keys(&["shown"])));
        stage.update(Setting::Hostprops(keys(&["of the host"])));
        let before = stage.tick();
        let hidden = stage.write_on_user("ada", set("hidden", text("a")));
        assert_eq!((hidden.concerned, hidden.revision), (false, before));
        assert_eq!(stage.tick(), before);
        assert!(stage.write_on_user("ada", set("shown", text("a"))).concerned);
        assert_eq!(stage.tick(), before.next());
        let of_host = stage.write_on_user("ada", set("of the host", text("a")));
        assert_eq!(of_host.concerned, of_host_concerns);
    }
}

#[test]
fn a_change_of_the_selection_shows_what_was_hidden() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Propnames(keys(&["a"])));
    stage.tick();
    stage.set("ada", "b", text("own")).unwrap();
    stage.write_on_user("ada", set("c", text("of the user")));
    stage.tick();
    let before = stage.position(&members());
    assert_eq!(stage.shows(&members(), "ada", "b"), None);
    stage.update(Setting::Propnames(keys(&["b", "c"])));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "b"), Some(text("own")));
    assert_eq!(stage.shows(&members(), "ada", "c"), Some(text("of the user")));
    assert!(stage.resume(before, &members()).is_err(), "the view shows something else");
}

#[test]
fn a_selection_that_is_taken_back_before_the_frame_never_held() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Propnames(keys(&["shown"])));
    stage.tick();
    stage.update(Setting::Propnames(keys(&["hidden"])));
    stage.set("ada", "hidden", text("a")).unwrap();
    stage.set("ada", "shown", text("a")).unwrap();
    stage.update(Setting::Propnames(keys(&["shown"])));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "hidden"), None);
    assert_eq!(stage.shows(&members(), "ada", "shown"), Some(text("a")));
}

#[test]
fn a_spectator_never_sends() {
    let mut stage = Stage::room().with(&["ada"]);
    let props = vec![("x".into(), text("a"))];
    let refused = stage.join_with("spec", Join { props, ..spectator() });
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    let user_props = vec![("x".into(), text("of the user"))];
    stage.join_with("spec", Join { user_props, ..spectator() }).unwrap();
    assert_eq!(stage.set("spec", "x", text("a")), too_low(Role::Member));
    let written = stage.write_on_user("spec", set("x", text("a")));
    assert!(!written.concerned);
    stage.tick();
    assert_eq!(stage.shows(&members(), "spec", "x"), None);
}

#[test]
fn a_user_has_a_bounded_number_of_keys_in_a_session_whichever_way_they_came() {
    let limits = Limits { props_per_user: 2, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    let full = Refusal::LimitReached { limit: Limit::PropsPerUser, most: 2 };
    let value = |key: &str| (key.into(), text("1"));
    let join = |of_user: &[&str], first: &[&str]| Join {
        user_props: of_user.iter().copied().map(value).collect(),
        props: first.iter().copied().map(value).collect(),
        ..Join::default()
    };
    assert_eq!(stage.join_with("ben", join(&["a", "b"], &["c"])), Err(full.clone()));
    stage.join_with("ben", join(&["a", "b"], &["b"])).unwrap();
    assert_eq!(stage.set("ben", "c", text("1")), Err(full.clone()));

    stage.set("ada", "a", text("1")).unwrap();
    stage.write_on_user("ada", set("b", text("1")));
    let before = stage.tick();
    assert_eq!(stage.set("ada", "c", text("1")), Err(full.clone()));
    for hidden in [false, true] {
        assert_eq!(stage.try_on_user("ada", set("c", text("1")), hidden), Err(full.clone()));
    }
    assert_eq!(stage.tick(), before);
    let swap =
        Write { set: vec![("c".into(), text("1"))], remove: vec!["a".into()], ..Write::default() };
    stage.write_on_user("ada", swap);
    stage.set("ada", "b", text("2")).unwrap();
    assert_eq!(stage.set("ada", "a", text("1")), Err(full));
}

#[test]
fn a_session_that_shows_no_written_key_takes_them_only_when_it_is_to() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::Propnames(keys(&["shown"])));
    let before = stage.tick();
    stage.try_on_user("ada", set("a", text("asked")), false).unwrap();
    stage.try_on_user("ada", set("b", text("written")), true).unwrap();
    assert_eq!(stage.tick(), before);
    stage.update(Setting::Propnames(keys(&[])));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "a"), None);
    assert_eq!(stage.shows(&members(), "ada", "b"), Some(text("written")));
}

#[test]
fn shared_data_takes_the_role_that_the_settings_name_and_private_data_its_keeper() {
    for (kind, refusal) in [
        (Kind::Room, Refusal::RoleTooLow { needs: Role::Owner }),
        (Kind::Hosted, Refusal::NeedsHost),
    ] {
        let mut stage = Stage::open(opening_by("ada", kind)).with(&["ben"]);
        let write = |stage: &mut Stage, name, shared: Write, private: Write| {
            stage.try_to(Actor::of(&user(name)), Command::SetData { shared, private, term: 0 })
        };
        let none = Write::default;
        write(&mut stage, "ben", set("x", text("by ben")), none()).unwrap();
        assert_eq!(
            write(&mut stage, "ben", none(), set("x", text("by ben"))),
            Err(refusal.clone())
        );
        let both = write(&mut stage, "ben", set("x", text("half")), set("x", text("half")));
        assert_eq!(both, Err(refusal));
        write(&mut stage, "ada", none(), set("x", text("private"))).unwrap();
        stage.tick();
        assert_eq!(stage.picture(&members()).data["x"], text("by ben"));
        assert!(stage.picture(&members()).private_data.is_empty());
        assert_eq!(stage.picture(&host()).private_data["x"], text("private"));
        stage.update(Setting::DataRole(Role::Owner));
        assert_eq!(write(&mut stage, "ben", remove("x"), none()), too_low(Role::Owner));
        write(&mut stage, "ada", remove("x"), none()).unwrap();
        assert_eq!(write(&mut stage, "eve", remove("x"), none()), Err(Refusal::NotAMember));
    }
}

#[test]
fn a_refused_command_changes_nothing() {
    let limits = Limits { props_per_user: 1, ..Limits::default() };
    let opening =
        Opening { data: vec![("x".into(), text("a"))], ..opening_by("ada", Kind::Hosted) };
    let mut stage = Stage::open_with(opening, limits).with(&["ben"]);
    stage.update(Setting::Locked(true));
    stage.tick();
    let before = format!("{:?}", stage.session);
    let ben = || Actor::of(&user("ben"));
    let too_many = || Write {
        set: vec![("y".into(), text("b")), ("z".into(), text("b"))],
        remove: vec!["x".into()],
        ..Write::default()
    };
    let shared = |shared| Command::SetData { shared, private: Write::default(), term: 0 };
    let refused = [
        (ben(), Command::Delete),
        (ben(), Command::Update(vec![Setting::Locked(false)])),
        (ben(), Command::SetProps { user: user("ben"), write: too_many(), term: 0 }),
        (ben(), Command::SetProps { user: user("ben"), write: remove("x"), term: 7 }),
        (ben(), shared(too_many())),
        (
            Actor::App,
            Command::SetData { shared: set("x", text("b")), private: too_many(), term: 0 },
        ),
        (ben(), Command::Leave { user: user("eve"), keep_role: false }),
        (ben(), Command::Join { user: user("eve"), join: Join::default() }),
        (ben(), Command::UserProps { user: user("eve"), write: set("x", text("b")), hidden: true }),
        (ben(), Command::StreamOpened { user: user("eve") }),
    ];
    for (actor, command) in refused {
        let told = format!("{command:?}");
        assert!(stage.try_to(actor, command).is_err(), "{told}");
        assert_eq!(format!("{:?}", stage.session), before, "{told}");
    }
}
