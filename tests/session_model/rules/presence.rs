//! Streams, graces, and what of a membership outlives it.

use crate::session_model::stage::{Stage, members, opening_by, spectator, tied, user};
use sessiond::session::{
    access::Standing,
    command::{Actor, Command, Join},
    error::Refusal,
    limits::{Limits, SECOND},
    member::Departure,
    role::Role,
    settings::{Kind, Presence, Setting},
};

#[test]
fn joining_again_changes_no_role() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.join_with("spec", spectator()).unwrap();
    stage.tick();
    stage.join_with("ada", spectator()).unwrap();
    stage.join("spec").unwrap();
    assert_eq!(stage.standing("ada"), Standing::Joined(Role::Owner));
    assert_eq!(stage.standing("spec"), Standing::Joined(Role::Spectator));
    let before = stage.session.revision();
    assert_eq!(stage.tick(), before, "nothing was accepted that changes anything");
}

#[test]
fn joining_again_takes_the_presence_where_it_names_one() {
    let mut stage = Stage::room().with(&["ada"]);
    let presence = |stage: &Stage| stage.session.members().membership("ada").unwrap().presence;
    stage.join_with("ada", Join { is_stream: true, ..Join::default() }).unwrap();
    assert_eq!(presence(&stage), Presence::Explicit);
    stage.join_with("ada", tied()).unwrap();
    assert_eq!(presence(&stage), Presence::Tied);
}

#[test]
fn a_lost_member_is_disconnected_for_the_rejoin_grace_and_then_leaves() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::RejoinGrace(5 * SECOND));
    stage.stream("ben");
    stage.tick();
    stage.lose_stream("ben");
    stage.tick();
    assert_eq!(stage.news(&members()).of("ben").unwrap().disconnected, Some(true));
    stage.pass(4 * SECOND);
    stage.open_stream("ben");
    stage.tick();
    assert_eq!(stage.news(&members()).of("ben").unwrap().disconnected, Some(false));
    stage.lose_stream("ben");
    stage.pass(5 * SECOND - 1);
    assert!(stage.is_in("ben"));
    stage.pass(1);
    stage.tick();
    assert_eq!(stage.news(&members()).left["ben"], Departure::Lost);
}

#[test]
fn the_rejoin_grace_is_ten_seconds_by_default_and_without_one_a_lost_member_leaves_at_once() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.stream("ben");
    stage.lose_stream("ben");
    stage.pass(10 * SECOND - 1);
    assert!(stage.is_in("ben") && stage.is_disconnected("ben"));
    stage.pass(1);
    assert!(!stage.is_in("ben"));
    stage.update(Setting::RejoinGrace(0));
    stage.stream("ben");
    stage.lose_stream("ben");
    assert!(!stage.is_in("ben"));
}

#[test]
fn an_end_that_the_server_caused_leaves_thirty_seconds_at_least() {
    for (rejoin_grace, expected) in [(0, 30), (5, 30), (50, 50)] {
        let mut stage = Stage::room().with(&["ada"]);
        stage.update(Setting::RejoinGrace(rejoin_grace * SECOND));
        stage.stream("ben");
        stage.close_stream("ben", false);
        assert!(stage.is_disconnected("ben"));
        stage.pass(expected * SECOND - 1);
        assert!(stage.is_in("ben"));
        stage.pass(1);
        assert!(!stage.is_in("ben"));
    }
}

#[test]
fn several_streams_of_a_user_count_together() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.update(Setting::RejoinGrace(0));
    stage.stream("ben");
    stage.open_stream("ben");
    stage.lose_stream("ben");
    assert!(!stage.is_disconnected("ben"));
    stage.lose_stream("ben");
    assert!(!stage.is_in("ben"));
}

#[test]
fn an_old_stream_is_nothing_to_a_new_membership() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.stream("ben");
    let membership = stage.session.members().membership("ben").unwrap().order;
    stage.leave("ben");
    stage.stream("ben");
    let ben = user("ben");
    let closed = Command::StreamClosed { user: ben.clone(), membership, lost: true };
    stage.try_to(Actor::of(&ben), closed).unwrap();
    assert!(stage.is_in("ben"));
}

#[test]
fn an_explicit_member_that_has_had_a_stream_is_disconnected_while_it_has_none_and_stays() {
    let mut stage = Stage::room().with(&["ada", "ben"]);
    stage.pass(1000 * SECOND);
    assert!(!stage.is_disconnected("ben"), "it never had a stream");
    for lost in [true, false] {
        stage.open_stream("ada");
        stage.open_stream("ada");
        stage.close_stream("ada", lost);
        assert!(!stage.is_disconnected("ada"));
        stage.tick();
        stage.close_stream("ada", lost);
        stage.tick();
        assert_eq!(stage.news(&members()).of("ada").unwrap().disconnected, Some(true));
        stage.pass(1000 * SECOND);
        assert!(stage.is_in("ada") && stage.is_disconnected("ada"));
        stage.join("ada").unwrap();
        assert!(stage.is_disconnected("ada"), "it has no stream yet");
        stage.open_stream("ada");
        assert!(!stage.is_disconnected("ada"));
        stage.close_stream("ada", lost);
    }
}

#[test]
fn an_explicit_host_that_is_disconnected_is_a_lost_host() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.open_stream("ada");
    assert_eq!(stage.host(), Some("ada"));
    stage.lose_stream("ada");
    assert_eq!(stage.host(), Some("ben"));
}

#[test]
fn joining_again_connects_a_tied_member_and_shortens_no_grace() {
    let limits = Limits { join_timeout: SECOND, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.update(Setting::RejoinGrace(8 * SECOND));
    stage.stream("ben");
    stage.lose_stream("ben");
    stage.pass(SECOND / 3);
    stage.join("ben").unwrap();
    assert!(!stage.is_disconnected("ben"));
    stage.pass(8 * SECOND - SECOND / 3 - 1);
    assert!(stage.is_in("ben"));
    stage.join("ben").unwrap();
    stage.pass(SECOND - 1);
    assert!(stage.is_in("ben"), "the join timeout is longer by now");
    stage.pass(1);
    assert!(!stage.is_in("ben"));
}

#[test]
fn leaving_gives_up_only_what_raises() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["spec", "mod"]);
    for (name, role) in [("spec", Role::Spectator), ("mod", Role::Moderator)] {
        let give = Command::SetRole { target: user(name), role, user_props: Vec::new() };
        stage.try_to(Actor::App, give).unwrap();
        stage.leave(name);
        stage.join(name).unwrap();
    }
    assert_eq!(stage.standing("spec"), Standing::Joined(Role::Spectator));
    assert_eq!(stage.standing("mod"), Standing::Joined(Role::Member));
    // One that joined as a spectator by its own wish may join as it likes.
    stage.join_with("own", spectator()).unwrap();
    stage.leave("own");
    stage.join("own").unwrap();
    assert_eq!(stage.standing("own"), Standing::Joined(Role::Member));
}

#[test]
fn a_tied_member_without_a_stream_leaves_after_the_join_timeout() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.join_with("ben", tied()).unwrap();
    stage.join_with("cleo", tied()).unwrap();
    stage.join_with("dan", tied()).unwrap();
    stage.open_stream("cleo");
    stage.join_with("dan", Join { presence: Some(Presence::Explicit), ..Join::default() }).unwrap();
    stage.pass(15 * SECOND - 1);
    assert_eq!(stage.joined(), ["ada", "ben", "cleo", "dan"]);
    stage.pass(1);
    assert_eq!(stage.joined(), ["ada", "cleo", "dan"]);
}

#[test]
fn a_leave_by_lost_presence_keeps_role_and_ownership() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    stage.join_with("ada", tied()).unwrap();
    stage.pass(15 * SECOND);
    assert!(!stage.is_in("ada"));
    assert_eq!(stage.owner(), Some("ada"));
    assert_eq!(stage.standing("ada"), Standing::Away(Role::Owner));
    stage.join_with("ada", spectator()).unwrap();
    assert_eq!(stage.standing("ada"), Standing::Joined(Role::Owner));
}

#[test]
fn only_a_leave_without_keep_role_gives_the_ownership_up() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    stage.join_with("spec", spectator()).unwrap();
    stage.join("ben").unwrap();
    stage.join("cleo").unwrap();
    let ada = user("ada");
    let keeping = Command::Leave { user: ada.clone(), keep_role: true };
    stage.try_to(Actor::of(&ada), keeping).unwrap();
    assert_eq!(stage.owner(), Some("ada"));
    stage.join("ada").unwrap();
    stage.leave("ada");
    assert_eq!(stage.owner(), Some("ben"), "the first member, as there is nobody higher");
    assert_eq!(stage.standing("ben"), Standing::Joined(Role::Owner));
    assert_eq!(stage.standing("ada"), Standing::Outsider);
    stage.tick();
    assert_eq!(stage.picture(&members()).members["ben"].role, Role::Owner);
}

#[test]
fn leaving_loses_the_place_in_join_order_and_being_disconnected_keeps_it() {
    let mut stage = Stage::room();
    stage.update(Setting::RejoinGrace(5 * SECOND));
    for name in ["ada", "ben", "cleo"] {
        stage.stream(name);
    }
    stage.lose_stream("ada");
    stage.open_stream("ada");
    assert_eq!(stage.joined(), ["ada", "ben", "cleo"]);
    stage.leave("ada");
    stage.stream("ada");
    assert_eq!(stage.joined(), ["ben", "cleo", "ada"]);
}

#[test]
fn the_capacity_counts_disconnected_members_and_no_spectators() {
    let limits = Limits { members: 1, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.update(Setting::Capacity(2));
    stage.join_with("spec", spectator()).unwrap();
    stage.stream("ben");
    stage.close_stream("ben", false);
    assert!(stage.is_disconnected("ben"));
    assert_eq!(stage.join("cleo"), Err(Refusal::Full { capacity: 2 }));
    assert_eq!(stage.join_with("crowd", spectator()), Err(Refusal::Full { capacity: 1 }));
    stage.join("ben").unwrap();
    stage.leave("ben");
    stage.join("cleo").unwrap();
}
