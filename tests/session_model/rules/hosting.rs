//! Who hosts, what a host takes over, and who sees it.

use crate::session_model::{
    picture::Changes,
    stage::{
        Outcome, Stage, host, keys, members, opening_by, remove, set, spectator, text, too_low,
        user,
    },
};
use sessiond::session::{
    command::{Actor, Command, Join, Write},
    error::Refusal,
    limits::{Limits, SECOND},
    revision::Revision,
    role::Role,
    settings::{Kind, Setting},
    value::Value,
    view::{Class, View},
};

/// Hosted; everyone streams and is kept for a minute when its stream is lost; the first one hosts.
fn streaming(users: &[&str]) -> Stage {
    let mut stage = Stage::hosted();
    stage.update(Setting::RejoinGrace(60 * SECOND));
    for user in users {
        stage.stream(user);
    }
    stage.tick();
    stage
}

#[test]
fn the_host_is_the_first_successor_then_the_owner_then_the_first_member() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted));
    stage.join_with("spec", spectator()).unwrap();
    for name in ["ben", "cleo", "dan"] {
        stage.join(name).unwrap();
    }
    let order = ["spec", "nobody", "dan", "cleo"];
    stage.update(Setting::Successors(order.map(user).into()));
    assert_eq!(stage.host(), Some("ada"), "successors displace nobody");
    stage.join("eve").unwrap();
    for (next, leaver) in [("dan", "ada"), ("cleo", "dan"), ("ben", "cleo"), ("eve", "ben")] {
        stage.leave(leaver);
        assert_eq!(stage.host(), Some(next), "after {leaver} left");
    }
    stage.leave("eve");
    assert_eq!(stage.host(), None, "a spectator hosts nothing");
}

#[test]
fn the_owner_hosts_before_members_who_joined_earlier() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted)).with(&["ben", "cleo"]);
    let ada = user("ada");
    let keeping = Command::Leave { user: ada.clone(), keep_role: true };
    stage.try_to(Actor::of(&ada), keeping).unwrap();
    assert_eq!(stage.host(), Some("ben"));
    stage.join("ada").unwrap();
    stage.leave("ben");
    assert_eq!(stage.host(), Some("ada"));
}

#[test]
fn disconnected_members_are_skipped_and_with_none_connected_there_is_no_host() {
    let mut stage = streaming(&["ada", "ben", "cleo"]);
    stage.lose_stream("ben");
    stage.lose_stream("ada");
    assert_eq!(stage.host(), Some("cleo"));
    stage.lose_stream("cleo");
    assert_eq!(stage.host(), None);
    stage.open_stream("ben");
    assert_eq!(stage.host(), Some("ben"));
}

#[test]
fn a_returning_host_does_not_get_its_place_back() {
    let mut stage = streaming(&["ada", "ben"]);
    stage.lose_stream("ada");
    stage.open_stream("ada");
    assert_eq!(stage.host(), Some("ben"));
}

#[test]
fn a_lost_host_keeps_its_place_for_the_host_grace() {
    let mut stage = streaming(&["ada", "ben"]);
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.lose_stream("ada");
    stage.pass(9 * SECOND);
    stage.open_stream("ada");
    stage.pass(2 * SECOND);
    assert_eq!(stage.host(), Some("ada"));
    stage.lose_stream("ada");
    stage.pass(10 * SECOND - 1);
    assert_eq!(stage.host(), Some("ada"));
    stage.pass(1);
    assert_eq!(stage.host(), Some("ben"));
}

#[test]
fn a_host_that_leaves_is_not_waited_for() {
    let mut stage = streaming(&["ada", "ben"]);
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.leave("ada");
    assert_eq!(stage.host(), Some("ben"));
    stage.pass(10 * SECOND);
    assert_eq!(stage.session.accepted_info().term, 2);
}

#[test]
fn a_grace_that_began_ends_as_it_began() {
    let mut stage = streaming(&["ada", "ben"]);
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.lose_stream("ada");
    stage.update(Setting::HostGrace(0));
    stage.stream("cleo");
    assert_eq!(stage.host(), Some("ada"), "still waited for");
    stage.update(Setting::Successors([user("cleo")].into()));
    stage.pass(10 * SECOND);
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("cleo"), 2));
    stage.open_stream("ada");
    stage.pass(10 * SECOND);
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("cleo"), 2));
}

#[test]
fn each_swap_raises_the_term_and_another_term_is_refused() {
    let mut stage = streaming(&["ada", "ben"]);
    assert_eq!(stage.session.accepted_info().term, 1);
    stage.write("ada", set("x", text("a")), 1).unwrap();
    stage.lose_stream("ada");
    assert_eq!(stage.session.accepted_info().term, 2);
    let stale = Err(Refusal::StaleTerm { current: 2 });
    assert_eq!(stage.write("ada", set("x", text("b")), 1), stale);
    let shared = set("x", text("b"));
    let data = Command::SetData { shared, private: Write::default(), term: 1 };
    assert_eq!(stage.try_to(Actor::of(&user("ada")), data), stale);
    stage.write("ada", set("x", text("b")), 0).unwrap();
}

#[test]
fn who_names_the_term_of_a_host_has_to_be_it() {
    let mut stage = streaming(&["ada", "ben"]);
    assert_eq!(stage.write("ben", set("x", text("b")), 1), Err(Refusal::NotTheHost));
    let shared = set("x", text("b"));
    let data = Command::SetData { shared, private: Write::default(), term: 1 };
    let by_ben = stage.try_to(Actor::of(&user("ben")), data.clone());
    assert_eq!(by_ben, Err(Refusal::NotTheHost));
    stage.try_to(Actor::App, data).unwrap();
    stage.write("ada", set("x", text("a")), 1).unwrap();
    let mut room = Stage::room().with(&["ada"]);
    assert_eq!(room.write("ada", set("x", text("a")), 1), Err(Refusal::WrongKind));
}

#[test]
fn a_new_host_takes_over_the_props_that_it_has_not_set_itself() {
    let mut stage = Stage::hosted();
    let user_props = vec![("c".into(), text("on ada"))];
    stage.join_with("ada", Join { user_props, ..Join::default() }).unwrap();
    stage.join("ben").unwrap();
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.set("ada", "b", text("by ada")).unwrap();
    stage.set("ben", "b", text("by ben")).unwrap();
    stage.leave("ada");
    stage.tick();
    let shown = |key| stage.shows(&members(), "ben", key);
    assert_eq!(shown("a"), Some(text("by ada")));
    assert_eq!(shown("b"), Some(text("by ben")));
    assert_eq!(shown("c"), Some(text("on ada")));
}

#[test]
fn a_new_host_takes_over_only_what_members_are_shown_of_a_host() {
    for (propnames, hostprops) in [(&["a"][..], &[][..]), (&["a", "secret"], &["a"])] {
        let mut stage = Stage::hosted().with(&["ada", "ben"]);
        stage.update(Setting::Propnames(keys(propnames)));
        stage.update(Setting::Hostprops(keys(hostprops)));
        stage.set("ada", "a", text("by ada")).unwrap();
        stage.set("ada", "secret", text("by ada")).unwrap();
        stage.leave("ada");
        stage.update(Setting::Propnames(keys(&[])));
        stage.update(Setting::Hostprops(keys(&[])));
        stage.tick();
        assert_eq!(stage.host(), Some("ben"));
        assert_eq!(stage.shows(&members(), "ben", "a"), Some(text("by ada")));
        assert_eq!(stage.shows(&members(), "ben", "secret"), None);
    }
}

#[test]
fn what_a_host_writes_on_itself_is_shown_over_what_it_took_over() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.set("ada", "hp", text("1")).unwrap();
    stage.leave("ada");
    stage.write_on_user("ben", set("hp", text("5")));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "hp"), Some(text("5")));
}

#[test]
fn a_new_host_takes_over_nothing_where_the_settings_say_so() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.update(Setting::InheritHostData(false));
    stage.leave("ada");
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "a"), None);
}

#[test]
fn the_props_of_the_last_host_wait_until_there_is_another() {
    let mut stage = Stage::hosted();
    stage.update(Setting::EmptyTtl(60 * SECOND));
    stage.join("ada").unwrap();
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.leave("ada");
    stage.pass(SECOND);
    stage.join_with("spec", spectator()).unwrap();
    stage.join("ben").unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "a"), Some(text("by ada")));
}

#[test]
fn a_host_that_comes_back_as_a_spectator_still_leaves_its_props_to_the_next() {
    let mut stage = Stage::hosted();
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.update(Setting::RejoinGrace(0));
    stage.stream("ada");
    stage.join("ben").unwrap();
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.lose_stream("ada");
    stage.join_with("ada", spectator()).unwrap();
    stage.pass(10 * SECOND);
    assert_eq!(stage.host(), Some("ben"));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "a"), Some(text("by ada")));
}

#[test]
fn a_host_that_hosts_again_takes_nothing_over_from_itself() {
    let mut stage = streaming(&["ada"]);
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.lose_stream("ada");
    assert_eq!(stage.host(), None);
    let (user, write) = (user("ada"), remove("a"));
    stage.try_to(Actor::App, Command::SetProps { user, write, term: 0 }).unwrap();
    stage.open_stream("ada");
    assert_eq!(stage.host(), Some("ada"));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "a"), None);
}

#[test]
fn a_host_takes_over_in_the_order_of_keys_as_far_as_there_is_room() {
    let limits = Limits { props_per_user: 2, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Hosted), limits).with(&["ben"]);
    stage.set("ada", "z", text("by ada")).unwrap();
    stage.set("ada", "a", text("by ada")).unwrap();
    stage.set("ben", "own", text("by ben")).unwrap();
    stage.leave("ada");
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "a"), Some(text("by ada")));
    assert_eq!(stage.shows(&members(), "ben", "z"), None);
}

#[test]
fn members_see_the_hosts_hostprops_and_the_host_sees_all_propnames() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.update(Setting::Propnames(keys(&["a", "hidden"])));
    stage.update(Setting::Hostprops(keys(&["a", "of the host"])));
    for name in ["ada", "ben"] {
        for key in ["a", "hidden", "of the host", "other"] {
            stage.set(name, key, text(key)).unwrap();
        }
    }
    stage.tick();
    let shown = |view: View| {
        let picture = stage.picture(&view);
        ["ada", "ben"].map(|name| {
            picture.members[name].props.keys().map(|key| key.to_string()).collect::<Vec<_>>()
        })
    };
    assert_eq!(shown(members()), [vec!["a", "of the host"], vec![]]);
    assert_eq!(shown(host()), [vec!["a", "hidden", "of the host"], vec!["a", "hidden"]]);
}

#[test]
fn a_members_props_never_reach_another_member() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    let mut sent = Vec::new();
    let canaries = [text("canary"), text("another canary"), Value::Null, text("a third canary")];
    for canary in canaries {
        stage.set("ben", "secret", canary).unwrap();
        stage.write_on_user("ben", set("y", text("canary on the user")));
        stage.tick();
        stage.remove("ben", "secret").unwrap();
        stage.tick();
        let revisions = (0..stage.session.revision().0).map(Revision);
        sent.extend(revisions.map(|from| stage.since(&members(), from)));
        sent.push(Changes::all(&stage.session, &members()));
    }
    assert!(!format!("{sent:?}").contains("canary"));
    assert!(!format!("{sent:?}").contains("secret"), "not even the names of its keys");
    let to_host = Changes::all(&stage.session, &host());
    assert!(format!("{to_host:?}").contains("canary on the user"));
}

#[test]
fn a_swap_replaces_the_old_and_the_new_host_in_both_views() {
    let mut stage = streaming(&["ada", "ben", "cleo"]);
    stage.set("ada", "x", text("by ada")).unwrap();
    stage.set("ben", "x", text("by ben")).unwrap();
    stage.tick();
    let was_host = stage.position(&host());
    stage.lose_stream("ada");
    stage.tick();
    let news = stage.news(&members());
    assert_eq!(news.session.as_ref().unwrap().host.as_deref(), Some("ben"));
    let [ada, ben] = ["ada", "ben"].map(|name| news.of(name).unwrap());
    assert!(ada.replaces && ada.props.set.is_empty());
    assert!(ben.replaces && ben.props.set["x"] == text("by ben"));
    assert!(news.of("cleo").is_none());
    let class = |name| stage.session.class_of(&Actor::of(&user(name)));
    assert_eq!([class("ada"), class("ben")], [Class::Members, Class::Host]);
    assert!(stage.resume(was_host, &members()).is_err(), "the old host sees another view");
}

fn swap(stage: &mut Stage, actor: Actor, target: Option<&str>, term: u64) -> Outcome {
    stage.try_to(actor, Command::SwapHost { target: target.map(user), term })
}

fn give(stage: &mut Stage, target: &str, role: Role) {
    let give = Command::SetRole { target: user(target), role, user_props: Vec::new() };
    stage.try_to(Actor::App, give).unwrap();
}

#[test]
fn moderators_and_the_host_itself_hand_the_hosting_on() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted)).with(&["ben", "mod", "cleo"]);
    stage.join_with("spec", spectator()).unwrap();
    give(&mut stage, "mod", Role::Moderator);
    let by = |name| Actor::of(&user(name));
    for name in ["ben", "spec", "outsider"] {
        assert_eq!(swap(&mut stage, by(name), Some(name), 0), too_low(Role::Moderator));
    }
    swap(&mut stage, by("mod"), Some("ben"), 0).unwrap();
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("ben"), 2));
    swap(&mut stage, by("ben"), Some("cleo"), 2).unwrap();
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("cleo"), 3));
    assert_eq!(swap(&mut stage, by("ben"), Some("ben"), 0), too_low(Role::Moderator));
    swap(&mut stage, Actor::App, Some("ada"), 0).unwrap();
    assert_eq!(stage.host(), Some("ada"));
}

#[test]
fn a_swap_that_names_nobody_goes_by_the_order_and_not_to_the_host_again() {
    let mut stage = Stage::open(opening_by("ada", Kind::Hosted)).with(&["ben", "mod", "adm"]);
    give(&mut stage, "mod", Role::Moderator);
    give(&mut stage, "adm", Role::Admin);
    let mut hosts = Vec::new();
    for successors in [vec!["nobody", "ben"], vec![], vec![], vec!["adm", "mod"], vec!["mod"]] {
        let successors: Vec<_> = successors.into_iter().map(user).collect();
        stage.update(Setting::Successors(successors.into()));
        swap(&mut stage, Actor::App, None, 0).unwrap();
        hosts.push(stage.host().unwrap().to_owned());
    }
    assert_eq!(hosts, ["ben", "ada", "adm", "mod", "ada"]);
}

#[test]
fn only_a_connected_member_who_is_no_spectator_becomes_host() {
    let mut stage = streaming(&["ada", "ben"]);
    stage.join_with("spec", spectator()).unwrap();
    stage.lose_stream("ben");
    for name in ["ben", "spec"] {
        let outcome = swap(&mut stage, Actor::App, Some(name), 0);
        assert_eq!(outcome, Err(Refusal::NoCandidate), "{name}");
    }
    let nobody = swap(&mut stage, Actor::App, Some("nobody"), 0);
    assert_eq!(nobody, Err(Refusal::MemberNotFound));
    assert_eq!(swap(&mut stage, Actor::App, None, 0), Err(Refusal::NoCandidate));
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("ada"), 1));
    let mut room = Stage::room().with(&["ada"]);
    assert_eq!(swap(&mut room, Actor::App, Some("ada"), 0), Err(Refusal::WrongKind));
}

#[test]
fn a_swap_of_another_term_is_refused_and_one_to_the_host_raises_none() {
    let mut stage = streaming(&["ada", "ben"]);
    for term in [2, 7] {
        let stale = Err(Refusal::StaleTerm { current: 1 });
        assert_eq!(swap(&mut stage, Actor::App, Some("ben"), term), stale);
    }
    swap(&mut stage, Actor::App, Some("ada"), 1).unwrap();
    assert_eq!(stage.session.accepted_info().term, 1);
    swap(&mut stage, Actor::App, Some("ben"), 1).unwrap();
    assert_eq!(stage.session.accepted_info().term, 2);
}

#[test]
fn a_swap_shows_the_new_host_with_what_it_inherits() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.set("ada", "x", text("by ada")).unwrap();
    stage.set("ben", "y", text("by ben")).unwrap();
    stage.tick();
    swap(&mut stage, Actor::App, None, 0).unwrap();
    stage.tick();
    let news = stage.news(&members());
    assert_eq!(news.session.as_ref().unwrap().host.as_deref(), Some("ben"));
    assert!(news.of("ada").unwrap().props.set.is_empty());
    assert_eq!(news.of("ben").unwrap().props.set.len(), 2);
    assert_eq!(stage.shows(&host(), "ada", "x"), Some(text("by ada")), "she keeps her own");
}

#[test]
fn a_swap_ends_the_wait_for_a_lost_host_which_hands_nothing_on_from_outside() {
    let mut stage = Stage::hosted();
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.update(Setting::RejoinGrace(0));
    for name in ["ada", "ben", "cleo"] {
        stage.stream(name);
    }
    stage.lose_stream("ada");
    assert_eq!((stage.host(), stage.is_in("ada")), (Some("ada"), false));
    let from_outside = swap(&mut stage, Actor::of(&user("ada")), Some("cleo"), 0);
    assert_eq!(from_outside, Err(Refusal::NotAMember));
    swap(&mut stage, Actor::App, Some("cleo"), 0).unwrap();
    stage.pass(20 * SECOND);
    assert_eq!((stage.host(), stage.session.accepted_info().term), (Some("cleo"), 2));
}
