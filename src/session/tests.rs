//! Rules about ranks that no command gives yet. Everything else is tried from outside, in
//! `tests/session_model`.

use super::*;

/// Opened by the app; these users have joined, in this order, with these roles.
fn session(kind: Kind, users: &[(&str, Role)]) -> Session {
    let (app, id) = (AppId::new("app").unwrap(), SessionId::new("session").unwrap());
    let opening = Opening::new(app, id, kind, Settings::new(10_000, 10));
    let mut session =
        Session::open(opening, Arc::new(Limits::default()), 1000, Epoch::default()).unwrap();
    for &(name, role) in users {
        let user = UserId::new(name).unwrap();
        if role > Role::Member {
            session.roles.give(user.clone(), role);
        }
        if role == Role::Owner {
            Arc::make_mut(&mut session.accepted).owner = Some(user.clone());
        }
        let join = Join { spectator: role == Role::Spectator, ..Join::default() };
        let command = Command::Join { user: user.clone(), join };
        session.apply(1000, &Actor::of(&user), command).unwrap();
    }
    session
}

fn leave(session: &mut Session, name: &str) {
    let user = UserId::new(name).unwrap();
    let leave = Command::Leave { user: user.clone(), keep_role: false };
    session.apply(1000, &Actor::of(&user), leave).unwrap();
}

const USERS: [(&str, Role); 7] = [
    ("first host", Role::Member),
    ("spectator", Role::Spectator),
    ("member", Role::Member),
    ("moderator", Role::Moderator),
    ("admin", Role::Admin),
    ("second admin", Role::Admin),
    ("owner", Role::Owner),
];

#[test]
fn host_order_is_successors_owner_admin_moderator_member() {
    let mut session = session(Kind::Hosted, &USERS);
    let successor = UserId::new("member").unwrap();
    session.update(1000, vec![Setting::Successors([successor].into())]);
    let mut hosts = Vec::new();
    while let Some(host) = session.accepted.host.clone() {
        leave(&mut session, &host);
        hosts.push(host.to_string());
    }
    let order = ["first host", "member", "owner", "admin", "second admin", "moderator"];
    assert_eq!(hosts, order);
    assert_eq!(session.accepted.term, order.len() as u64);
}

#[test]
fn ownership_passes_to_the_first_admin_else_moderator_else_member() {
    let mut session = session(Kind::Room, &USERS);
    let mut owners = Vec::new();
    while let Some(owner) = session.accepted.owner.clone() {
        assert_eq!(session.standing(&Actor::of(&owner)), Standing::Joined(Role::Owner));
        leave(&mut session, &owner);
        owners.push(owner.to_string());
    }
    let order = ["owner", "admin", "second admin", "moderator", "first host", "member"];
    assert_eq!(owners, order);
}

#[test]
fn a_revision_that_was_promised_and_lost_is_skipped_and_the_next_one_shows_what_is_there() {
    let mut session = session(Kind::Room, &[("member", Role::Member)]);
    session.flush(1000);
    let last = session.revision();
    session.skip_promised();
    let now = session.revision();
    assert!(now > last && !session.is_unknown(last) && !session.is_unknown(now));
    let promised = last.0 + 1..now.0;
    assert!(promised.count() >= 3, "two of a reset and one that was promised");
    assert!((last.0 + 1..now.0).all(|lost| session.is_unknown(Revision(lost))));
    assert!(session.is_unknown(now.next()), "nothing is open");
}

#[test]
fn whoever_listens_to_all_goes_on_where_revisions_were_skipped() {
    let mut session = session(Kind::Room, &[("member", Role::Member)]);
    session.flush(1000);
    let last = session.revision();
    (0..20).for_each(|_| session.skip_promised());
    let first = session.log_start();
    assert!(first < session.revision(), "no frame was made after it");
    session.keep_log();
    assert_eq!(session.log_start(), first);
    leave(&mut session, "member");
    session.flush(1000);
    assert_eq!(session.logged_after(first).count(), 1);

    // Without a log it is not known what the frame was.
    session.log = None;
    assert_eq!(session.log_start(), session.revision());
    assert!(first > last, "so many ends are not remembered");
}

#[test]
fn a_history_that_begins_again_has_no_revision_of_another_epoch() {
    let mut session = session(Kind::Room, &[("member", Role::Member)]);
    session.flush(1000);
    let (known, born) = (session.revision(), session.epoch());
    // This owner begins again, and so does the next one, as nothing was stored meanwhile.
    for passed in [5_000, 7_000] {
        let snapshot = session.snapshot().unwrap();
        let replica = replica::Replica::begin(snapshot, Arc::new(Limits::default())).unwrap();
        let mut heir = replica.promote(1000);
        // However the clock is set.
        heir.begin_again(0, Epoch(1000 + passed - 1));
        assert!(heir.epoch() > born);
        assert_eq!(heir.revision(), Revision(known.0 + passed));
        assert!(heir.is_unknown(known) && heir.is_unknown(heir.revision().previous()));
        assert!(!heir.is_unknown(heir.revision()) && !heir.is_unknown(Revision::NONE));
        assert_eq!(heir.log_start(), heir.revision());
    }
}

#[test]
fn a_host_whose_history_is_lost_keeps_its_term_to_itself() {
    let mut session = session(Kind::Hosted, &[("host", Role::Member), ("other", Role::Member)]);
    session.flush(1000);
    let snapshot = session.snapshot().unwrap();
    let swap = |session: &mut Session, to: &str| {
        let target = Some(UserId::new(to).unwrap());
        session.apply(1000, &Actor::App, Command::SwapHost { target, term: 0 }).unwrap();
    };
    let mut lost = Vec::new();
    for to in ["other", "host", "other"] {
        swap(&mut session, to);
        lost.push(session.accepted_info().term);
    }
    let replica = replica::Replica::begin(snapshot, Arc::new(Limits::default())).unwrap();
    let mut heir = replica.promote(1000);
    heir.begin_again(500_000, Epoch(1000));
    let (host, term) = (heir.accepted_info().host.clone(), heir.info().term);
    assert!(lost.iter().all(|it| *it < term), "{term} after {lost:?}");
    // What a reader is shown is what a write must name.
    assert_eq!(heir.accepted_info().term, term);
    assert_eq!(heir.info().host, host);
    swap(&mut heir, "other");
    assert_eq!(heir.accepted_info().term, term + 1);
}

#[test]
fn a_session_in_which_nothing_happened_has_no_room_for_what_may_happen() {
    let mut it = session(Kind::Room, &[]);
    it.apply(1000, &Actor::App, Command::Update(vec![Setting::Locked(true)])).unwrap();
    it.flush(2000);
    assert!(!it.take_events().is_empty() && it.take_left().is_empty());
    assert!(it.take_sight_changes().is_empty());
    assert!(it.untold.some_mut().is_none() && it.skipped.some_mut().is_none());
    assert!(it.members.some_mut().is_none() && it.names.some_mut().is_none());
    assert!(it.roles.some_mut().is_none() && it.bans.some_mut().is_none());
    assert!(it.seats.some_mut().is_none() && it.data.some_mut().is_none());
    assert!(it.removals.some_mut().is_none());
    assert!(size_of::<Session>() <= 384, "{} bytes", size_of::<Session>());
}
