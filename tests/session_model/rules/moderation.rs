//! Who stands above whom: giving roles, kicking, banning.

use crate::session_model::stage::{
    Outcome, Stage, keys, members, opening_by, remove, set, spectator, text, too_low, user,
};
use sessiond::session::{
    access::Standing,
    ban::Ban,
    command::{Acting, Actor, Command, Write},
    error::{Limit, Refusal},
    limits::{Limits, SECOND},
    member::Departure,
    revision::Revision,
    role::Role,
    settings::{Kind, Setting},
    view::Class,
};

const ROLES: [(&str, Role); 5] = [
    ("owner", Role::Owner),
    ("admin", Role::Admin),
    ("moderator", Role::Moderator),
    ("member", Role::Member),
    ("spectator", Role::Spectator),
];

/// Somebody of each role, who is called like it, and a second one of those below the owner.
fn court(kind: Kind) -> Stage {
    let mut stage = Stage::open(opening_by("owner", kind));
    for (name, role) in &ROLES[1..] {
        for name in [(*name).to_owned(), format!("other {name}")] {
            stage.join(&name).unwrap();
            give(&mut stage, Actor::App, &name, *role).unwrap();
        }
    }
    stage.tick();
    stage
}

fn give(stage: &mut Stage, actor: Actor, target: &str, role: Role) -> Outcome {
    stage.try_to(actor, Command::SetRole { target: user(target), role, user_props: Vec::new() })
}

fn kick(stage: &mut Stage, actor: Actor, target: &str) -> Outcome {
    stage.try_to(actor, Command::Kick { target: user(target), reason: "enough".into() })
}

fn ban_until(stage: &mut Stage, actor: Actor, target: &str, until: Option<u64>) -> Outcome {
    let ban = Ban { reason: "enough".into(), until };
    stage.try_to(actor, Command::Ban { target: user(target), ban })
}

fn ban(stage: &mut Stage, actor: Actor, target: &str) -> Outcome {
    ban_until(stage, actor, target, None)
}

fn unban(stage: &mut Stage, actor: Actor, target: &str) -> Outcome {
    stage.try_to(actor, Command::Unban { target: user(target) })
}

fn by(name: &str) -> Actor {
    Actor::of(&user(name))
}

fn set_data(stage: &mut Stage, name: &str, shared: Write, private: Write) -> Outcome {
    stage.try_to(by(name), Command::SetData { shared, private, term: 0 })
}

#[test]
fn the_owner_gives_all_roles_and_admins_those_from_moderator_down() {
    for (actor, rank) in ROLES {
        for (name, role) in ROLES {
            let mut stage = court(Kind::Room);
            let needs = if role >= Role::Admin { Role::Owner } else { Role::Admin };
            let outcome = give(&mut stage, by(actor), "other member", role);
            if rank < needs {
                assert_eq!(outcome, too_low(needs), "{actor} makes somebody {name}");
                continue;
            }
            outcome.unwrap();
            stage.tick();
            assert_eq!(stage.picture(&members()).members["other member"].role, role);
        }
    }
    let mut stage = court(Kind::Room);
    assert_eq!(give(&mut stage, by("outsider"), "member", Role::Spectator), too_low(Role::Admin));
    give(&mut stage, Actor::App, "member", Role::Owner).unwrap();
}

#[test]
fn nobody_acts_on_somebody_of_the_same_or_a_higher_rank() {
    let acts: [fn(&mut Stage, Actor, &str) -> Outcome; 3] =
        [kick, ban, |stage, actor, target| give(stage, actor, target, Role::Spectator)];
    for (actor, rank) in &ROLES[..3] {
        for (target, of_target) in ROLES {
            let other = format!("other {target}");
            let names = [target, &other];
            for target in if of_target == Role::Owner { &names[..1] } else { &names } {
                for (at, act) in acts.iter().enumerate() {
                    let mut stage = court(Kind::Room);
                    let outcome = act(&mut stage, by(actor), target);
                    let told = format!("{actor} on {target}, act {at}");
                    if at == 2 && *rank < Role::Admin {
                        assert_eq!(outcome, too_low(Role::Admin), "{told}");
                    } else if *rank > of_target {
                        outcome.expect(&told);
                    } else {
                        assert_eq!(outcome, Err(Refusal::TargetRank), "{told}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_rank_counts_whether_its_bearer_has_joined_or_not() {
    let mut stage = court(Kind::Room);
    give(&mut stage, by("owner"), "guest", Role::Admin).unwrap();
    assert_eq!(stage.standing("guest"), Standing::Away(Role::Admin));
    assert_eq!(ban(&mut stage, by("admin"), "guest"), Err(Refusal::TargetRank));
    assert_eq!(give(&mut stage, by("admin"), "guest", Role::Member), Err(Refusal::TargetRank));
    kick(&mut stage, by("guest"), "moderator").unwrap();
    give(&mut stage, by("owner"), "guest", Role::Spectator).unwrap();
    stage.join("guest").unwrap();
    assert_eq!(stage.standing("guest"), Standing::Joined(Role::Spectator));
}

#[test]
fn a_role_waits_for_who_has_not_joined_and_member_is_none() {
    let mut stage = court(Kind::Room);
    give(&mut stage, by("owner"), "guest", Role::Moderator).unwrap();
    stage.join_with("guest", spectator()).unwrap();
    assert_eq!(stage.standing("guest"), Standing::Joined(Role::Moderator));
    give(&mut stage, by("owner"), "nobody", Role::Moderator).unwrap();
    give(&mut stage, by("owner"), "nobody", Role::Member).unwrap();
    assert_eq!(stage.standing("nobody"), Standing::Outsider);
}

#[test]
fn a_former_owner_becomes_admin() {
    let mut stage = court(Kind::Room);
    give(&mut stage, by("owner"), "member", Role::Owner).unwrap();
    assert_eq!(stage.owner(), Some("member"));
    assert_eq!(stage.standing("owner"), Standing::Joined(Role::Admin));
    assert_eq!(give(&mut stage, by("owner"), "admin", Role::Owner), too_low(Role::Owner));
    stage.tick();
    let picture = stage.picture(&members());
    assert_eq!(picture.members["owner"].role, Role::Admin);
    assert_eq!(picture.session.unwrap().owner.as_deref(), Some("member"));
    give(&mut stage, by("member"), "guest", Role::Owner).unwrap();
    assert_eq!(
        (stage.owner(), stage.standing("guest")),
        (Some("guest"), Standing::Away(Role::Owner))
    );
}

#[test]
fn an_owner_that_the_app_gives_another_role_does_not_inherit_from_itself() {
    for role in [Role::Admin, Role::Member, Role::Spectator] {
        let mut stage = court(Kind::Room);
        give(&mut stage, Actor::App, "owner", role).unwrap();
        assert_eq!(stage.owner(), Some("admin"));
        assert_eq!(stage.standing("owner"), Standing::Joined(role));
    }
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    give(&mut stage, Actor::App, "ada", Role::Member).unwrap();
    assert_eq!((stage.owner(), stage.standing("ada")), (None, Standing::Joined(Role::Member)));
}

#[test]
fn who_becomes_a_spectator_has_no_props_and_gets_those_of_the_user_back() {
    let mut stage = court(Kind::Room);
    stage.write_on_user("member", set("x", text("of the user")));
    stage.set("member", "y", text("of the session")).unwrap();
    stage.tick();
    give(&mut stage, by("owner"), "member", Role::Spectator).unwrap();
    assert_eq!(stage.set("member", "y", text("late")), too_low(Role::Member));
    stage.tick();
    let news = stage.news(&members()).of("member").unwrap().clone();
    assert_eq!(news.role, Some(Role::Spectator));
    assert_eq!(news.props.removed, *keys(&["x", "y"]));
    let user_props = vec![("x".into(), text("of the user, later"))];
    let promote = Command::SetRole { target: user("member"), role: Role::Member, user_props };
    stage.try_to(by("owner"), promote).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "member", "x"), Some(text("of the user, later")));
    assert_eq!(stage.shows(&members(), "member", "y"), None);
    stage.set("member", "y", text("again")).unwrap();
}

#[test]
fn spectators_and_members_have_places_of_their_own() {
    let limits = Limits { members: 1, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    stage.update(Setting::Capacity(2));
    stage.join_with("spec", spectator()).unwrap();
    stage.join("ben").unwrap();
    assert_eq!(
        give(&mut stage, by("ada"), "spec", Role::Member),
        Err(Refusal::Full { capacity: 2 })
    );
    assert_eq!(
        give(&mut stage, by("ada"), "ben", Role::Spectator),
        Err(Refusal::Full { capacity: 1 })
    );
    stage.leave("ben");
    give(&mut stage, by("ada"), "spec", Role::Moderator).unwrap();
    assert_eq!(stage.join("ben"), Err(Refusal::Full { capacity: 2 }));
    stage.join_with("ben", spectator()).unwrap();
}

#[test]
fn a_host_that_becomes_a_spectator_is_replaced_at_once() {
    let mut stage = Stage::hosted().with(&["ada", "ben"]);
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.set("ada", "x", text("by ada")).unwrap();
    give(&mut stage, Actor::App, "ada", Role::Spectator).unwrap();
    assert_eq!(stage.host(), Some("ben"));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "x"), Some(text("by ada")));
    give(&mut stage, Actor::App, "ben", Role::Spectator).unwrap();
    assert_eq!(stage.host(), None);
    give(&mut stage, Actor::App, "ada", Role::Member).unwrap();
    assert_eq!(stage.host(), Some("ada"));
}

#[test]
fn roles_and_bans_are_bounded() {
    let mut stage = Stage::room();
    for n in 0..20_000 {
        give(&mut stage, Actor::App, &format!("u{n}"), Role::Moderator).unwrap();
    }
    let full = Err(Refusal::LimitReached { limit: Limit::Roles, most: 20_000 });
    assert_eq!(give(&mut stage, Actor::App, "one more", Role::Moderator), full);
    give(&mut stage, Actor::App, "u7", Role::Admin).unwrap();
    give(&mut stage, Actor::App, "one more", Role::Member).unwrap();
    give(&mut stage, Actor::App, "u7", Role::Member).unwrap();
    give(&mut stage, Actor::App, "one more", Role::Moderator).unwrap();

    let end = stage.now + SECOND;
    for n in 0..10_000 {
        ban_until(&mut stage, Actor::App, &format!("b{n}"), Some(end)).unwrap();
    }
    let full = Err(Refusal::LimitReached { limit: Limit::Bans, most: 10_000 });
    assert_eq!(ban(&mut stage, Actor::App, "one more"), full);
    ban_until(&mut stage, Actor::App, "b7", Some(end)).unwrap();
    stage.pass(SECOND);
    ban(&mut stage, Actor::App, "one more").unwrap();
    assert_eq!(stage.session.bans(stage.now, &Actor::App).len(), 1, "the others are over");
}

#[test]
fn who_is_kicked_may_join_again_and_keeps_its_role() {
    let mut stage = court(Kind::Room);
    kick(&mut stage, by("admin"), "moderator").unwrap();
    assert!(!stage.is_in("moderator"));
    assert_eq!(stage.standing("moderator"), Standing::Away(Role::Moderator));
    stage.tick();
    assert_eq!(stage.news(&members()).left["moderator"], Departure::Kicked);
    assert_eq!(stage.set("moderator", "x", text("late")), Err(Refusal::NotAMember));
    stage.join("moderator").unwrap();
    assert_eq!(stage.standing("moderator"), Standing::Joined(Role::Moderator));
    assert_eq!(kick(&mut stage, by("admin"), "nobody"), Err(Refusal::MemberNotFound));
    kick(&mut stage, Actor::App, "owner").unwrap();
    assert_eq!(stage.owner(), Some("owner"), "a kick passes no ownership");
}

#[test]
fn the_frame_of_a_kick_tells_the_stream_why() {
    let mut stage = court(Kind::Room);
    let order = stage.session.members().membership("member").unwrap().order;
    kick(&mut stage, by("moderator"), "member").unwrap();
    ban_until(&mut stage, by("moderator"), "other member", Some(u64::MAX)).unwrap();
    let departed = stage.session.flush(stage.now).unwrap().departed;
    assert_eq!((departed[0].order, departed[0].departure), (order, Departure::Kicked));
    assert_eq!((&*departed[0].reason, departed[0].until), ("enough", None));
    assert_eq!((departed[1].departure, departed[1].until), (Departure::Banned, Some(u64::MAX)));
    assert_eq!(&*departed[1].reason, "", "why is for moderators to know");
}

#[test]
fn who_is_banned_is_refused_until_the_ban_ends() {
    let mut stage = court(Kind::Room);
    let end = stage.now + 10 * SECOND;
    ban_until(&mut stage, by("moderator"), "member", Some(end)).unwrap();
    assert!(!stage.is_in("member"));
    stage.tick();
    assert_eq!(stage.news(&members()).left["member"], Departure::Banned);
    let refused = Err(Refusal::Banned { until: Some(end) });
    assert_eq!(stage.join("member"), refused);
    stage.pass(10 * SECOND - 1);
    assert_eq!(stage.join_with("member", spectator()), refused);
    stage.pass(1);
    assert_eq!(unban(&mut stage, by("moderator"), "member"), Err(Refusal::BanNotFound));
    stage.join("member").unwrap();
}

#[test]
fn an_unban_ends_a_ban_and_a_role_is_gone_with_the_ban() {
    let mut stage = court(Kind::Room);
    ban(&mut stage, by("admin"), "moderator").unwrap();
    assert_eq!(stage.join("moderator"), Err(Refusal::Banned { until: None }));
    assert_eq!(unban(&mut stage, by("member"), "moderator"), too_low(Role::Moderator));
    stage.tick();
    let before = stage.session.revision();
    assert_eq!(unban(&mut stage, by("other moderator"), "moderator").unwrap().revision, before);
    stage.join("moderator").unwrap();
    assert_eq!(stage.standing("moderator"), Standing::Joined(Role::Member));
    assert_eq!(unban(&mut stage, by("owner"), "moderator"), Err(Refusal::BanNotFound));
}

#[test]
fn people_who_have_not_joined_are_banned_like_others() {
    let mut stage = court(Kind::Room);
    ban(&mut stage, by("moderator"), "guest").unwrap();
    assert_eq!(stage.join("guest"), Err(Refusal::Banned { until: None }));
    let soon = stage.now + 1;
    ban_until(&mut stage, by("admin"), "guest", Some(soon)).unwrap();
    stage.pass(1);
    stage.join("guest").unwrap();
}

#[test]
fn bans_are_known_to_moderators_only() {
    let mut stage = court(Kind::Room);
    ban(&mut stage, by("moderator"), "guest").unwrap();
    for (name, role) in ROLES {
        let known = stage.session.bans(stage.now, &by(name));
        let expected = usize::from(role >= Role::Moderator);
        assert_eq!(known.len(), expected, "{name}");
        assert!(known.iter().all(|(user, ban)| &**user == "guest" && &*ban.reason == "enough"));
    }
    assert!(stage.session.bans(stage.now, &by("outsider")).is_empty());
}

#[test]
fn a_banned_owner_passes_the_session_on_whether_it_has_joined_or_not() {
    for is_away in [false, true] {
        let mut stage = court(Kind::Room);
        if is_away {
            let keeping = Command::Leave { user: user("owner"), keep_role: true };
            stage.try_to(by("owner"), keeping).unwrap();
        }
        assert_eq!(ban(&mut stage, by("admin"), "owner"), Err(Refusal::TargetRank));
        ban(&mut stage, Actor::App, "owner").unwrap();
        assert_eq!(stage.owner(), Some("admin"));
        assert_eq!(stage.standing("admin"), Standing::Joined(Role::Owner));
        assert_eq!(stage.standing("owner"), Standing::Outsider);
    }
}

#[test]
fn a_kick_or_ban_drops_what_no_frame_has_shown_yet() {
    let acts: [fn(&mut Stage, Actor, &str) -> Outcome; 2] = [kick, ban];
    for act in acts {
        let mut stage = court(Kind::Room);
        set_data(&mut stage, "member", set("framed", text("by member")), Write::default()).unwrap();
        stage.tick();
        stage.set("member", "x", text("dropped")).unwrap();
        for key in ["framed", "new"] {
            set_data(&mut stage, "member", set(key, text("dropped")), Write::default()).unwrap();
        }
        set_data(&mut stage, "admin", set("of another", text("kept")), Write::default()).unwrap();
        act(&mut stage, by("owner"), "member").unwrap();
        stage.tick();
        let picture = stage.picture(&members());
        assert_eq!(picture.data["framed"], text("by member"));
        assert_eq!(picture.data["of another"], text("kept"));
        assert_eq!(picture.data.len(), 2);
        stage.join("outsider").unwrap();
        stage.tick();
        assert!(!format!("{:?}", stage.since(&members(), Revision::FIRST)).contains("dropped"));
    }
}

#[test]
fn what_others_wrote_before_stays_whoever_wrote_in_which_order() {
    let names = ["member", "other member", "member", "admin"];
    // Who is thrown out, in this order, and whose value is left at last.
    let stories: [(&[&str], Option<&str>); 5] = [
        (&[], Some("admin 3")),
        (&["admin"], Some("member 2")),
        (&["admin", "member"], Some("other member 1")),
        (&["member", "admin"], Some("other member 1")),
        (&["admin", "other member", "member"], None),
    ];
    for (thrown_out, left) in stories {
        let mut stage = court(Kind::Room);
        for (at, name) in names.iter().enumerate() {
            let value = text(&format!("{name} {at}"));
            set_data(&mut stage, name, set("x", value), Write::default()).unwrap();
        }
        for name in thrown_out {
            kick(&mut stage, by("owner"), name).unwrap();
        }
        stage.tick();
        let shown = stage.picture(&members()).data.get("x").cloned();
        assert_eq!(shown, left.map(text), "{thrown_out:?} are thrown out");
    }
}

#[test]
fn a_removal_is_taken_back_like_a_write() {
    let mut stage = court(Kind::Hosted);
    set_data(&mut stage, "owner", set("x", text("kept")), set("x", text("kept"))).unwrap();
    stage.tick();
    set_data(&mut stage, "member", remove("x"), Write::default()).unwrap();
    set_data(&mut stage, "owner", Write::default(), remove("x")).unwrap();
    kick(&mut stage, by("moderator"), "member").unwrap();
    kick(&mut stage, Actor::App, "owner").unwrap();
    stage.tick();
    let picture = stage.picture(&crate::session_model::stage::host());
    assert_eq!((&picture.data["x"], &picture.private_data["x"]), (&text("kept"), &text("kept")));
}

#[test]
fn of_a_host_that_is_thrown_out_the_next_one_inherits_what_was_shown() {
    let acts: [fn(&mut Stage, Actor, &str) -> Outcome; 2] = [kick, ban];
    for act in acts {
        let mut stage = Stage::hosted().with(&["ada", "ben"]);
        stage.set("ada", "x", text("shown")).unwrap();
        stage.write_on_user("ada", set("y", text("shown on the user")));
        stage.tick();
        stage.set("ada", "x", text("dropped")).unwrap();
        stage.set("ada", "z", text("dropped")).unwrap();
        act(&mut stage, Actor::App, "ada").unwrap();
        assert_eq!(stage.host(), Some("ben"));
        stage.tick();
        assert_eq!(stage.shows(&members(), "ben", "x"), Some(text("shown")));
        assert_eq!(stage.shows(&members(), "ben", "y"), Some(text("shown on the user")));
        assert_eq!(stage.shows(&members(), "ben", "z"), None);
    }
}

#[test]
fn a_host_that_is_thrown_out_is_not_waited_for() {
    let mut stage = Stage::hosted();
    stage.update(Setting::HostGrace(10 * SECOND));
    stage.update(Setting::RejoinGrace(0));
    for name in ["ada", "ben", "cleo"] {
        stage.stream(name);
    }
    kick(&mut stage, Actor::App, "ada").unwrap();
    assert_eq!(stage.host(), Some("ben"));
    stage.lose_stream("ben");
    assert_eq!((stage.host(), stage.is_in("ben")), (Some("ben"), false), "it may come back");
    ban(&mut stage, Actor::App, "ben").unwrap();
    assert_eq!(stage.host(), Some("cleo"));
}

#[test]
fn a_refused_act_on_others_changes_nothing() {
    let mut stage = court(Kind::Hosted);
    let soon = stage.now + 1;
    ban_until(&mut stage, Actor::App, "guest", Some(soon)).unwrap();
    stage.pass(1);
    let before = format!("{:?}", stage.session);
    let acts: [(&str, Command); 8] = [
        (
            "admin",
            Command::SetRole { target: user("owner"), role: Role::Member, user_props: vec![] },
        ),
        (
            "admin",
            Command::SetRole { target: user("guest"), role: Role::Admin, user_props: vec![] },
        ),
        ("moderator", Command::Kick { target: user("other moderator"), reason: "".into() }),
        ("member", Command::Kick { target: user("spectator"), reason: "".into() }),
        (
            "moderator",
            Command::Ban { target: user("admin"), ban: Ban { reason: "".into(), until: None } },
        ),
        ("owner", Command::Unban { target: user("guest") }),
        ("owner", Command::SwapHost { target: Some(user("spectator")), term: 0 }),
        ("member", Command::SwapHost { target: None, term: 0 }),
    ];
    for (name, command) in acts {
        let told = format!("{name} {command:?}");
        assert!(stage.try_to(by(name), command).is_err(), "{told}");
        assert_eq!(format!("{:?}", stage.session), before, "{told}");
    }
}

#[test]
fn nobody_gives_a_role_to_who_is_banned() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    let ban = Ban { reason: "".into(), until: None };
    let target = user("ben");
    stage.try_to(Actor::App, Command::Ban { target: target.clone(), ban }).unwrap();
    for role in [Role::Spectator, Role::Moderator, Role::Owner] {
        let give = Command::SetRole { target: target.clone(), role, user_props: Vec::new() };
        assert_eq!(stage.try_to(Actor::App, give), Err(Refusal::Banned { until: None }));
    }
    assert_eq!(stage.owner(), Some("ada"));
}

#[test]
fn a_credential_that_limits_the_role_of_its_user_leaves_it_that_much() {
    let mut stage = court(Kind::Room);
    let as_a = |most| Actor::User(Acting::at_most(user("owner"), most));
    let moderator = || as_a(Role::Moderator);
    assert_eq!(stage.try_to(moderator(), Command::Delete), too_low(Role::Owner));
    let rename = || Command::Update(vec![Setting::Name(Some("other".into()))]);
    assert_eq!(stage.try_to(moderator(), rename()), too_low(Role::Admin));
    assert_eq!(kick(&mut stage, moderator(), "other moderator"), Err(Refusal::TargetRank));
    kick(&mut stage, moderator(), "other member").unwrap();
    assert_eq!(kick(&mut stage, as_a(Role::Member), "other spectator"), too_low(Role::Moderator));
    let write = |user: &str| Command::SetProps {
        user: self::user(user),
        write: set("x", text("1")),
        term: 0,
    };
    assert_eq!(stage.try_to(as_a(Role::Spectator), write("owner")), too_low(Role::Member));
    stage.try_to(as_a(Role::Member), write("owner")).unwrap();
    // It raises nobody.
    let member = Actor::User(Acting::at_most(user("member"), Role::Owner));
    assert_eq!(stage.try_to(member, Command::Delete), too_low(Role::Owner));
    // What only the owner sees.
    let private = |most| {
        let Stage { session, .. } = &stage;
        session.class_of(&Actor::User(Acting::at_most(user("owner"), most)))
    };
    assert_eq!((private(Role::Admin), private(Role::Owner)), (Class::Members, Class::Host));
    stage.try_to(as_a(Role::Owner), Command::Delete).unwrap();
}
