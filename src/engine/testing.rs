//! What the tests of this room share.

use super::{Clock, Encoded, Engine, EngineSettings, Live, encoder::Encoder};
use crate::{
    engine::encoder::{Snapshot, Start},
    session::{
        Opening, Session,
        ban::Ban,
        command::{Actor, Command, Join},
        ids::{AppId, SessionId, UserId},
        limits::{Limits, SECOND},
        private::{Pair, Private},
        role::Role,
        settings::{Kind, Setting, Settings},
        view::View,
    },
};
use std::sync::Arc;

/// Says nothing of any view.
pub struct Mute;

impl Encoder for Mute {
    fn changes(&self, _: &Session, _: &View, _: Start, _: bool) -> Option<Encoded> {
        None
    }

    fn columns(&self, _: &Session, _: &View, _: Start) -> Option<Encoded> {
        None
    }

    fn log(&self, _: &Session, _: &View, _: Start, _: bool) -> Option<Encoded> {
        None
    }

    fn snapshot(&self, _: &Session, _: &View, _: Snapshot, _: Option<&UserId>) -> Encoded {
        Encoded::default()
    }
}

/// Bounds that no test meets by accident.
pub fn settings() -> EngineSettings {
    EngineSettings {
        shards: 2,
        tick: 10_000,
        user_ttl: 60 * SECOND,
        max_sessions: 10_000,
        max_users: 1_000_000,
        max_sessions_per_user: 10,
        max_listeners_per_user: 10,
        max_updates_per_second: 200,
        max_changes_per_second: 1_000_000,
        max_replay_bytes: 1 << 30,
        max_logs_bytes: 1 << 20,
        events: Default::default(),
        keeping: None,
        limits: Limits::default(),
        judged: Default::default(),
    }
}

/// An engine whose clock is stepped.
pub fn engine(settings: EngineSettings) -> Engine {
    Engine::new(settings, Clock::stepped(100 * SECOND), Arc::new(Mute))
}

pub fn app() -> AppId {
    AppId::new("app").expect("an id")
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).expect("an id")
}

/// How a session opens without anybody in it.
pub fn opening(engine: &Engine, id: &str, set: impl FnOnce(&mut Settings)) -> Opening {
    let mut settings = engine.default_session();
    set(&mut settings);
    Opening::new(app(), SessionId::new(id).expect("an id"), Kind::Room, settings)
}

/// Opens such a session.
pub fn room(engine: &Engine, id: &str, set: impl FnOnce(&mut Settings)) -> Arc<Live> {
    engine.open(opening(engine, id, set), false).expect("it opens").0.live
}

/// Who acts.
pub const USERS: [&str; 4] = ["ada", "ben", "cat", "dan"];
/// The sessions that they do it in.
pub const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn private(engine: &Engine, id: &str, source: &str, listener: &str) {
    let pair = Pair { source: user(source), listener: user(listener) };
    let opening = opening(engine, id, |settings| settings.empty_ttl = 60 * SECOND);
    let opening = Opening { kind: Kind::Private, ..opening };
    // There may be one of the pair, or something else under the id.
    let _ = engine.open_private(opening, Private::of(pair, None, Vec::new()), true);
}

/// Chooses; every run chooses the same.
pub struct Dice(pub u64);

impl Dice {
    /// One of so many, an xorshift.
    pub fn of(&mut self, many: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % many as u64) as usize
    }
}

/// One thing that somebody does about who may know of a session.
pub fn act(engine: &Engine, dice: &mut Dice) {
    let (what, id, who) = (dice.of(17), IDS[dice.of(IDS.len())], dice.of(USERS.len()));
    let (target, other) = (user(USERS[who]), USERS[(who + 1) % USERS.len()]);
    let Some(live) = engine.inner.registry.session(&app(), &SessionId::new(id).expect("an id"))
    else {
        return match what % 3 {
            0 => private(engine, id, USERS[who], other),
            1 => {
                let mut opening =
                    opening(engine, id, |settings| settings.unlisted = what.is_multiple_of(2));
                opening.opener = Some((target, Join::default()));
                opening.people.roles = vec![(user(other), Role::Moderator)];
                // The app may have as many as it may.
                let _ = engine.open(opening, false);
            }
            _ => {
                let opening = opening(engine, id, |settings| settings.unlisted = true);
                let _ = engine.open(opening, false);
            }
        };
    };
    let role = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
    let ban = Ban { reason: "".into(), until: None };
    let command = match what {
        0..3 => {
            let _ = engine.join(&live, &target, Join::default());
            return;
        }
        3..8 => {
            let _ = engine.set_role(&live, &Actor::App, &target, role[what - 3]);
            return;
        }
        8 => Command::Leave { user: target, keep_role: true },
        9 => Command::Leave { user: target, keep_role: false },
        10 => Command::Kick { target, reason: "".into() },
        11 => Command::Ban { target, ban },
        12 => Command::Unban { target },
        13 | 14 => Command::Update(vec![Setting::Unlisted(what == 13)]),
        15 => Command::Update(vec![Setting::Locked(who.is_multiple_of(2))]),
        _ => Command::Delete,
    };
    // What the rules refuse changes nothing.
    let _ = engine.command(&live, &Actor::App, command);
}
