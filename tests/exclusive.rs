//! A user is in one of the app's exclusive sessions at a time: tried on the engine, against a plain
//! model step by step, and by threads that race each other for the same users.

use proptest::{collection, prelude::*, sample, test_runner::Config};
use sessiond::{
    engine::{Clock, Engine, EngineSettings, Refusal, SessionKey, Target},
    grpc::encode::Wire,
    session::{
        Opening,
        ban::Ban,
        command::{Actor, Command, Join},
        error::Refusal as Rule,
        ids::{AppId, SessionId, UserId},
        limits::{Limits, SECOND},
        opening::People,
        settings::{Kind, Settings},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Barrier},
    thread,
};

const USERS: [&str; 3] = ["ada", "ben", "cleo"];

/// The last one is not exclusive.
const SESSIONS: [&str; 4] = ["red", "blue", "green", "free"];

/// Something that happens to users and sessions, by their numbers.
#[derive(Debug, Clone)]
enum Step {
    /// By a user or by the app; others join at once.
    Open {
        session: usize,
        opener: Option<usize>,
        moves: bool,
        users: BTreeSet<usize>,
    },
    Join {
        session: usize,
        user: usize,
        moves: bool,
    },
    Newest {
        user: usize,
        moves: bool,
    },
    Leave {
        session: usize,
        user: usize,
    },
    Kick {
        session: usize,
        user: usize,
    },
    Ban {
        session: usize,
        user: usize,
    },
    Unban {
        session: usize,
        user: usize,
    },
    Delete {
        session: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let session = || 0..SESSIONS.len();
    let user = || 0..USERS.len();
    let open = (session(), sample::select(vec![None, Some(0), Some(1), Some(2)]), any::<bool>());
    let users = collection::btree_set(user(), 0..3);
    prop_oneof![
        4 => (open, users).prop_map(|((session, opener, moves), mut users)| {
            users.retain(|user| Some(*user) != opener);
            Step::Open { session, opener, moves, users }
        }),
        8 => (session(), user(), any::<bool>())
            .prop_map(|(session, user, moves)| Step::Join { session, user, moves }),
        2 => (user(), any::<bool>()).prop_map(|(user, moves)| Step::Newest { user, moves }),
        4 => (session(), user()).prop_map(|(session, user)| Step::Leave { session, user }),
        1 => (session(), user()).prop_map(|(session, user)| Step::Kick { session, user }),
        1 => (session(), user()).prop_map(|(session, user)| Step::Ban { session, user }),
        1 => (session(), user()).prop_map(|(session, user)| Step::Unban { session, user }),
        1 => session().prop_map(|session| Step::Delete { session }),
    ]
}

fn app() -> AppId {
    AppId::new("app").unwrap()
}

fn session_id(at: usize) -> SessionId {
    SessionId::new(SESSIONS[at]).unwrap()
}

fn user_id(at: usize) -> UserId {
    UserId::new(USERS[at]).unwrap()
}

fn is_exclusive(session: &str) -> bool {
    session != "free"
}

fn engine() -> Engine {
    let settings = EngineSettings {
        max_replay_bytes: 1024 * 1024,
        keeping: None,
        shards: 1,
        tick: 10_000,
        user_ttl: SECOND,
        max_sessions: 100,
        max_users: 100,
        max_sessions_per_user: 100,
        max_listeners_per_user: 100,
        max_logs_bytes: 1 << 20,
        events: Default::default(),
        max_updates_per_second: 100,
        max_changes_per_second: 1_000_000,
        limits: Limits::default(),
        judged: Default::default(),
    };
    Engine::new(settings, Clock::stepped(1_000_000 * SECOND), Arc::new(Wire::default()))
}

/// How a step ends, with the session that somebody joined or opened.
type Outcome = Result<Option<String>, Refusal>;

/// Does a step for real.
fn run(engine: &Engine, step: &Step) -> Outcome {
    let find = |session: usize| {
        engine.find(&app(), Some(&SessionKey::Id(session_id(session))), &Actor::App)
    };
    let command = |session: usize, actor: Actor, command: Command| {
        engine.command(&find(session)?, &actor, command).map(|_| None)
    };
    let join = |moves: bool| Join { moves, ..Join::default() };
    match step {
        Step::Open { session, opener, moves, users } => {
            let mut settings = Settings::new(10_000, 10);
            settings.exclusive = is_exclusive(SESSIONS[*session]);
            let users = users.iter().map(|user| (user_id(*user), Join::default())).collect();
            let opening = Opening {
                opener: opener.map(|user| (user_id(user), join(*moves))),
                people: People { users, ..People::default() },
                ..Opening::new(app(), session_id(*session), Kind::Room, settings)
            };
            engine.open(opening, false).map(|(joined, _)| Some(joined.live.id.to_string()))
        }
        Step::Join { session, user, moves } => {
            let live = find(*session)?;
            engine.join(&live, &user_id(*user), join(*moves)).map(|_| Some(live.id.to_string()))
        }
        Step::Newest { user, moves } => {
            let user = user_id(*user);
            engine
                .join_or_open(&app(), &Target::Newest(None), &user, &join(*moves), None)
                .map(|(joined, _)| Some(joined.live.id.to_string()))
        }
        Step::Leave { session, user } => {
            let user = user_id(*user);
            let leave = Command::Leave { user: user.clone(), keep_role: false };
            command(*session, Actor::of(&user), leave)
        }
        Step::Kick { session, user } => {
            let kick = Command::Kick { target: user_id(*user), reason: "".into() };
            command(*session, Actor::App, kick)
        }
        Step::Ban { session, user } => {
            let ban = Ban { reason: "".into(), until: None };
            command(*session, Actor::App, Command::Ban { target: user_id(*user), ban })
        }
        Step::Unban { session, user } => {
            command(*session, Actor::App, Command::Unban { target: user_id(*user) })
        }
        Step::Delete { session } => command(*session, Actor::App, Command::Delete),
    }
}

/// Who is where, as the rules say.
#[derive(Debug, Default)]
struct Model {
    sessions: BTreeMap<&'static str, Room>,
    opened: u64,
}

#[derive(Debug, Default)]
struct Room {
    members: BTreeSet<usize>,
    bans: BTreeSet<usize>,
    opened: u64,
}

impl Model {
    fn other(&self, user: usize, session: &str) -> Option<&'static str> {
        let rooms = self.sessions.iter().filter(|(id, _)| is_exclusive(id) && **id != session);
        let mut taken = rooms.filter(|(_, room)| room.members.contains(&user)).map(|(id, _)| *id);
        let other = taken.next().filter(|_| is_exclusive(session));
        assert_eq!(taken.next(), None, "one at most");
        other
    }

    fn check(&self, user: usize, session: &str, moves: bool) -> Result<(), Refusal> {
        match self.other(user, session).filter(|_| !moves) {
            Some(other) => Err(in_another(Some(other))),
            None => Ok(()),
        }
    }

    fn room(&mut self, session: usize) -> Result<&mut Room, Refusal> {
        self.sessions.get_mut(SESSIONS[session]).ok_or(Refusal::NOT_FOUND)
    }

    fn leave(&mut self, session: &'static str, user: usize) -> Result<(), Refusal> {
        let room = self.sessions.get_mut(session).ok_or(Refusal::NOT_FOUND)?;
        if !room.members.remove(&user) {
            return Err(Rule::NotAMember.into());
        }
        if room.members.is_empty() {
            self.sessions.remove(session);
        }
        Ok(())
    }

    fn join(&mut self, session: &'static str, user: usize, moves: bool) -> Outcome {
        let room = self.sessions.get(session).ok_or(Refusal::NOT_FOUND)?;
        self.check(user, session, moves)?;
        if room.bans.contains(&user) {
            return Err(Rule::Banned { until: None }.into());
        }
        if let Some(other) = self.other(user, session) {
            self.leave(other, user)?;
        }
        self.sessions.entry(session).or_default().members.insert(user);
        Ok(Some(session.to_owned()))
    }

    fn run(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Open { session, opener, moves, users } => {
                let id = SESSIONS[*session];
                if self.sessions.contains_key(id) {
                    return Err(Refusal::SessionExists);
                }
                if let Some(opener) = opener {
                    self.check(*opener, id, *moves)?;
                }
                for (at, user) in users.iter().enumerate() {
                    self.check(*user, id, false).map_err(|refusal| {
                        let told = if opener.is_some() { in_another(None) } else { refusal };
                        Refusal::OfUser { at, why: Box::new(told) }
                    })?;
                }
                if let Some((other, opener)) =
                    opener.and_then(|opener| Some((self.other(opener, id)?, opener)))
                {
                    self.leave(other, opener)?;
                }
                self.opened += 1;
                let members = users.iter().chain(opener).copied().collect();
                let room = Room { members, bans: BTreeSet::new(), opened: self.opened };
                self.sessions.insert(id, room);
                Ok(Some(id.to_owned()))
            }
            Step::Join { session, user, moves } => self.join(SESSIONS[*session], *user, *moves),
            Step::Newest { user, moves } => {
                let rooms = self.sessions.iter().filter(|(_, room)| !room.bans.contains(user));
                let newest = rooms.max_by_key(|(_, room)| room.opened).map(|(id, _)| *id);
                self.join(newest.ok_or(Refusal::NOT_FOUND)?, *user, *moves)
            }
            Step::Leave { session, user } => self.leave(SESSIONS[*session], *user).map(|()| None),
            Step::Kick { session, user } => match self.leave(SESSIONS[*session], *user) {
                Err(Refusal::Rules(Rule::NotAMember)) => Err(Rule::MemberNotFound.into()),
                outcome => outcome.map(|()| None),
            },
            Step::Ban { session, user } => {
                self.room(*session)?.bans.insert(*user);
                let _ = self.leave(SESSIONS[*session], *user);
                Ok(None)
            }
            Step::Unban { session, user } => match self.room(*session)?.bans.remove(user) {
                true => Ok(None),
                false => Err(Rule::BanNotFound.into()),
            },
            Step::Delete { session } => {
                self.room(*session)?;
                self.sessions.remove(SESSIONS[*session]);
                Ok(None)
            }
        }
    }
}

fn in_another(session: Option<&str>) -> Refusal {
    let session = session.map(|session| SessionId::new(session).unwrap());
    Refusal::AlreadyInSession { session }
}

/// Which sessions a user is in, asked of the sessions.
fn where_is(engine: &Engine, user: &UserId) -> BTreeSet<SessionId> {
    let sessions = (0..SESSIONS.len()).map(session_id);
    sessions
        .filter(|id| {
            let key = SessionKey::Id(id.clone());
            let live = engine.find(&app(), Some(&key), &Actor::App);
            live.is_ok_and(|live| live.lock().core.counts(user))
        })
        .collect()
}

/// What must hold whenever nobody is on the way.
fn holds(engine: &Engine) {
    for user in (0..USERS.len()).map(user_id) {
        let sessions = where_is(engine, &user);
        let known: BTreeSet<_> = engine.sessions_of(&app(), &user).into_iter().collect();
        assert_eq!(known, sessions, "{user}'s record names the sessions that it is in");
        let exclusive = sessions.iter().filter(|id| is_exclusive(id)).count();
        assert!(exclusive <= 1, "{user} is in {sessions:?}");
    }
}

/// Whoever is in none of them joins one, and whoever is in one is refused by the others.
fn slots_are_exact(engine: &Engine) {
    let opened =
        run(engine, &Step::Open { session: 2, opener: None, moves: false, users: BTreeSet::new() });
    assert!(matches!(opened, Ok(_) | Err(Refusal::SessionExists)));
    for user in 0..USERS.len() {
        for session in 0..SESSIONS.len() - 1 {
            let _ = run(engine, &Step::Unban { session, user });
        }
        let inside = where_is(engine, &user_id(user));
        let inside = inside.iter().find(|id| is_exclusive(id));
        let joined = run(engine, &Step::Join { session: 2, user, moves: false });
        match inside {
            Some(id) if &**id != SESSIONS[2] => assert_eq!(joined, Err(in_another(Some(id)))),
            _ => assert_eq!(joined, Ok(Some(SESSIONS[2].to_owned()))),
        }
    }
    holds(engine);
}

fn cases(by_default: u32) -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases: by_default, ..config },
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn a_user_is_in_one_exclusive_session_at_a_time(steps in collection::vec(step(), 1..40)) {
        let (engine, mut model) = (engine(), Model::default());
        for step in &steps {
            assert_eq!(run(&engine, step), model.run(step), "{step:?}");
            for (at, user) in USERS.iter().enumerate() {
                let inside = model.sessions.iter().filter(|(_, room)| room.members.contains(&at));
                let expected: BTreeSet<_> = inside.map(|(id, _)| (*id).to_owned()).collect();
                let found = where_is(&engine, &user_id(at));
                let found: BTreeSet<_> = found.iter().map(ToString::to_string).collect();
                assert_eq!(found, expected, "{user} after {step:?}");
            }
            holds(&engine);
        }
        slots_are_exact(&engine);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Each thread takes the steps of its own story; they begin every step together.
    #[test]
    fn whoever_races_whom_a_user_is_in_one_exclusive_session(
        stories in collection::vec(collection::vec(step(), 6), 3)
    ) {
        let engine = engine();
        for session in 0..SESSIONS.len() {
            let users = BTreeSet::new();
            run(&engine, &Step::Open { session, opener: None, moves: false, users }).unwrap();
        }
        for at in 0..6 {
            let begin = Barrier::new(stories.len());
            thread::scope(|scope| {
                for story in &stories {
                    let (engine, begin) = (&engine, &begin);
                    scope.spawn(move || {
                        begin.wait();
                        let _ = run(engine, &story[at]);
                    });
                }
            });
            holds(&engine);
        }
        slots_are_exact(&engine);
    }
}
