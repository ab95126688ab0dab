//! Values, the two layers, and the selection of keys.

use crate::session_model::stage::{
    Stage, host, keys, members, opening_by, remove, set, spectator, text, too_low, user,
};
use sessiond::session::{
    Opening,
    command::{Actor, Command, Join, Setting, Write},
    error::Refusal,
    limits::Limits,
    role::Role,
    settings::Kind,
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
    assert_eq!(stage.tick(), before + 1);
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
    assert_eq!(stage.tick(), before + 1);
    assert!(stage.news(&members()).is_silent());
}

#[test]
fn removing_what_is_not_there_is_fine_and_changes_nothing() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.remove("ada", "x").unwrap();
    stage.tick();
    assert!(stage.news(&members()).is_silent());
}

#[test]
fn removing_the_sessions_value_shows_the_users_again() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.write_on_user("ada", set("x", text("of the user")));
    stage.set("ada", "x", text("of the session")).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "x"), Some(text("of the session")));
    stage.write_on_user("ada", set("x", text("of the user, later")));
    stage.tick();
    assert!(stage.news(&members()).is_silent());
    stage.remove("ada", "x").unwrap();
    stage.tick();
    let news = stage.news(&members());
    assert_eq!(news.of("ada").unwrap().props.set["x"], text("of the user, later"));
    assert!(news.of("ada").unwrap().props.removed.is_empty());
}

#[test]
fn a_session_shows_what_was_set_on_the_user_before_it_joined() {
    let mut stage = Stage::room();
    let user_props = vec![("x".into(), text("earlier")), ("y".into(), text("earlier"))];
    let props = vec![("x".into(), text("here"))];
    stage.join_with("ada", Join { props, user_props, ..Join::default() }).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "x"), Some(text("here")));
    assert_eq!(stage.shows(&members(), "ada", "y"), Some(text("earlier")));
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
        assert_eq!(stage.tick(), before + 1);
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
    let refused = stage.join_with("spec", Join { props: props.clone(), ..spectator() });
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    let user_props = vec![("x".into(), text("of the user"))];
    stage.join_with("spec", Join { user_props, ..spectator() }).unwrap();
    assert_eq!(stage.set("spec", "x", text("a")), too_low(Role::Member));
    let again = Join { props, ..Join::default() };
    assert_eq!(stage.join_with("spec", again), too_low(Role::Member));
    let written = stage.write_on_user("spec", set("x", text("a")));
    assert!(!written.concerned);
    stage.tick();
    assert_eq!(stage.shows(&members(), "spec", "x"), None);
}

#[test]
fn a_user_has_a_bounded_number_of_keys_of_its_own() {
    let limits = Limits { props_per_user: 2, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.set("ada", "a", text("1")).unwrap();
    stage.write_on_user("ada", set("of the user", text("1")));
    stage.set("ada", "b", text("1")).unwrap();
    let full = Err(Refusal::LimitReached { limit: "max-props-per-user", most: 2 });
    assert_eq!(stage.set("ada", "c", text("1")), full);
    let swap =
        Write { set: vec![("c".into(), text("1"))], remove: vec!["a".into()], ..Write::default() };
    stage.write("ada", swap, 0).unwrap();
    stage.set("ada", "b", text("2")).unwrap();
    assert_eq!(stage.set("ada", "a", text("1")), full);
}

#[test]
fn shared_data_takes_the_role_that_the_settings_name_and_private_data_its_keeper() {
    for (kind, refusal) in [
        (Kind::Room, Refusal::RoleTooLow { needs: Role::Owner }),
        (Kind::Hosted, Refusal::NeedsHost),
    ] {
        let mut stage = Stage::open(opening_by("ada", kind)).with(&["ben"]);
        let write = |stage: &mut Stage, name, shared: Write, private: Write| {
            stage.try_to(Actor::User(user(name)), Command::SetData { shared, private, term: 0 })
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
    let ben = || Actor::User(user("ben"));
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
        (
            ben(),
            Command::Join {
                user: user("ben"),
                join: Join { props: too_many().set, ..Join::default() },
            },
        ),
        (ben(), Command::UserProps { user: user("eve"), write: set("x", text("b")) }),
        (ben(), Command::StreamOpened { user: user("eve") }),
    ];
    for (actor, command) in refused {
        let told = format!("{command:?}");
        assert!(stage.try_to(actor, command).is_err(), "{told}");
        assert_eq!(format!("{:?}", stage.session), before, "{told}");
    }
}
