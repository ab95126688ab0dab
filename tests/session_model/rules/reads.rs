//! Questions about single members, and who may have things sent.

use crate::session_model::{
    picture::Changes,
    stage::{Stage, host, keys, members, opening_by, remove, set, spectator, text, too_low, user},
};
use sessiond::session::{
    command::{Actor, Command},
    error::Refusal,
    limits::Limits,
    revision::Revision,
    role::Role,
    settings::{Kind, Setting},
    view::View,
};

fn give(stage: &mut Stage, target: &str, role: Role) {
    let give = Command::SetRole { target: user(target), role, user_props: Vec::new() };
    stage.try_to(Actor::App, give).unwrap();
}

fn first(stage: &Stage, users: &[&str], roles: &[Role]) -> Option<String> {
    let users: Vec<_> = users.iter().map(|name| user(name)).collect();
    stage.session.first_match(&users, roles).map(|(member, _)| member.user.to_string())
}

fn pending(stage: &Stage, view: &View, name: &str) -> Changes {
    Changes::pending(&stage.session, view, name)
}

fn after(stage: &Stage, view: &View, name: &str, revision: Revision) -> Changes {
    Changes::of_member_after(&stage.session, view, name, revision)
}

#[test]
fn the_first_match_is_the_earliest_member_among_the_users_and_roles() {
    let mut stage = Stage::room().with(&["ada", "ben", "cleo", "dan"]);
    stage.join_with("spec", spectator()).unwrap();
    give(&mut stage, "dan", Role::Moderator);
    stage.tick();
    let cases: [(&[&str], &[Role], Option<&str>); 8] = [
        (&[], &[], Some("ada")),
        (&["dan", "cleo"], &[], Some("cleo")),
        (&["nobody"], &[], None),
        (&["nobody", "spec"], &[], Some("spec")),
        (&[], &[Role::Moderator, Role::Owner], Some("dan")),
        (&[], &[Role::Admin], None),
        (&["spec"], &[Role::Moderator], Some("dan")),
        (&["ben"], &[Role::Moderator, Role::Spectator], Some("ben")),
    ];
    for (users, roles, expected) in cases {
        assert_eq!(first(&stage, users, roles).as_deref(), expected, "{users:?} {roles:?}");
    }
}

#[test]
fn the_first_match_is_that_of_the_last_frame() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.leave("ada");
    stage.join("cleo").unwrap();
    give(&mut stage, "ben", Role::Admin);
    assert_eq!(first(&stage, &["cleo"], &[]), None);
    assert_eq!(first(&stage, &[], &[Role::Admin]), None);
    assert_eq!(first(&stage, &[], &[]).as_deref(), Some("ada"));
    stage.join("ada").unwrap();
    stage.tick();
    assert_eq!(first(&stage, &[], &[]).as_deref(), Some("ben"), "who left is last now");
}

#[test]
fn pending_is_what_is_accepted_and_not_framed() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "same", text("1")).unwrap();
    stage.set("ada", "gone", text("1")).unwrap();
    stage.tick();
    assert!(pending(&stage, &members(), "ada").is_silent());
    stage.set("ada", "same", text("2")).unwrap();
    stage.set("ada", "same", text("1")).unwrap();
    stage.set("ada", "new", text("1")).unwrap();
    stage.remove("ada", "gone").unwrap();
    give(&mut stage, "ada", Role::Admin);
    let changes = pending(&stage, &members(), "ada");
    let ada = changes.of("ada").unwrap();
    assert_eq!(ada.props.set.keys().map(|key| &**key).collect::<Vec<_>>(), ["new"]);
    assert_eq!(ada.props.removed, *keys(&["gone"]));
    assert_eq!((ada.role, ada.disconnected, ada.replaces), (Some(Role::Admin), None, false));
    stage.tick();
    assert_eq!(stage.news(&members()).of("ada").unwrap().props, ada.props);
    assert!(pending(&stage, &members(), "ada").is_silent());
    assert!(pending(&stage, &members(), "nobody").is_silent());
}

#[test]
fn of_who_left_and_came_back_all_is_pending() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.set("ada", "x", text("same")).unwrap();
    stage.set("ada", "y", text("of before")).unwrap();
    stage.tick();
    stage.leave("ada");
    assert!(pending(&stage, &members(), "ada").is_silent());
    stage.join("ada").unwrap();
    stage.set("ada", "x", text("same")).unwrap();
    let changes = pending(&stage, &members(), "ada");
    let ada = changes.of("ada").unwrap();
    assert!(ada.replaces);
    assert_eq!(ada.props.set.clone().into_iter().collect::<Vec<_>>(), [("x".into(), text("same"))]);
    assert!(ada.props.removed.is_empty());
    stage.tick();
    let mut picture = stage.picture(&members());
    picture.members.get_mut("ada").unwrap().props.insert("y".into(), text("of before"));
    picture.apply(&changes);
    assert_eq!(picture, stage.picture(&members()));
}

#[test]
fn neither_read_shows_what_the_view_hides() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.update(Setting::Propnames(keys(&["shown", "hidden"])));
    stage.update(Setting::Hostprops(keys(&["shown"])));
    let from = stage.tick();
    for round in 0..2 {
        for name in ["ada", "ben"] {
            for key in ["shown", "hidden", "never"] {
                stage.set(name, key, text(&format!("canary {round}"))).unwrap();
            }
        }
        stage.write_on_user("ben", set("other", text("canary")));
        let seen = |stage: &Stage, view: &View, name: &str| {
            let changes = match round {
                0 => pending(stage, view, name),
                _ => after(stage, view, name, from),
            };
            let change = changes.of(name).cloned().unwrap_or_default();
            change.props.set.into_keys().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        if round == 1 {
            stage.tick();
        }
        assert_eq!(seen(&stage, &members(), "ada"), ["shown"], "round {round}");
        assert_eq!(seen(&stage, &members(), "ben"), [""; 0], "round {round}");
        assert_eq!(seen(&stage, &host(), "ben"), ["hidden", "shown"], "round {round}");
    }
    stage.write("ben", remove("hidden"), 0).unwrap();
    assert!(pending(&stage, &members(), "ben").is_silent(), "not even that something went");
}

#[test]
fn since_is_what_changed_of_one_member_and_nothing_of_others() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.set("ada", "x", text("1")).unwrap();
    let from = stage.tick();
    stage.set("ada", "y", text("1")).unwrap();
    stage.set("ben", "y", text("1")).unwrap();
    stage.tick();
    stage.remove("ada", "x").unwrap();
    let last = stage.tick();
    stage.set("ada", "z", text("pending")).unwrap();
    let changes = after(&stage, &members(), "ada", from);
    assert_eq!(changes.members.len(), 1);
    let ada = changes.of("ada").unwrap();
    assert_eq!(ada.props.set.keys().map(|key| &**key).collect::<Vec<_>>(), ["y"]);
    assert_eq!(ada.props.removed, *keys(&["x"]));
    assert!(after(&stage, &members(), "ada", last).is_silent());
}

#[test]
fn since_before_what_is_remembered_is_all_of_the_member() {
    let limits = Limits { removals: 0, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.set("ada", "x", text("1")).unwrap();
    let from = stage.tick();
    stage.set("ada", "gone", text("1")).unwrap();
    stage.tick();
    stage.remove("ada", "gone").unwrap();
    stage.tick();
    stage.set("ada", "y", text("1")).unwrap();
    stage.tick();
    let changes = after(&stage, &members(), "ada", from);
    let ada = changes.of("ada").unwrap();
    assert!(ada.replaces && ada.role.is_some());
    assert_eq!(ada.props.set.keys().map(|key| &**key).collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn to_all_moderators_and_the_host_have_things_sent_and_to_itself_everybody() {
    let mut stage = Stage::open(opening_by("owner", Kind::Hosted));
    for name in ["host", "moderator", "member"] {
        stage.join(name).unwrap();
    }
    stage.join_with("spectator", spectator()).unwrap();
    give(&mut stage, "moderator", Role::Moderator);
    let swap = Command::SwapHost { target: Some(user("host")), term: 0 };
    stage.try_to(Actor::App, swap).unwrap();
    let may = |name: &str, target: Option<&str>| {
        let target = target.map(user);
        stage.session.check_transmit(&Actor::of(&user(name)), target.as_ref())
    };
    for name in ["owner", "moderator", "host"] {
        may(name, None).unwrap();
        may(name, Some("member")).unwrap();
        assert_eq!(may(name, Some("nobody")), Err(Refusal::MemberNotFound));
    }
    for name in ["member", "spectator"] {
        may(name, Some(name)).unwrap();
        assert_eq!(may(name, None), too_low(Role::Moderator));
        assert_eq!(may(name, Some("owner")), too_low(Role::Moderator));
    }
    for target in [None, Some("owner"), Some("nobody")] {
        assert_eq!(may("outsider", target), too_low(Role::Moderator), "nothing is learned");
    }
    assert_eq!(may("outsider", Some("outsider")), Err(Refusal::NotAMember));
    stage.session.check_transmit(&Actor::App, None).unwrap();
    let nobody = user("nobody");
    let of_app = stage.session.check_transmit(&Actor::App, Some(&nobody));
    assert_eq!(of_app, Err(Refusal::MemberNotFound));
}
