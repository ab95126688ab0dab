//! What the tests of this room share.

use super::{Clock, Encoded, Engine, EngineSettings, Live, encoder::Encoder};
use crate::{
    engine::encoder::{Snapshot, Start},
    session::{
        Opening, Session,
        ids::{AppId, SessionId, UserId},
        limits::{Limits, SECOND},
        settings::{Kind, Settings},
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
        max_replay_bytes: 1 << 30,
        max_logs_bytes: 1 << 20,
        limits: Limits::default(),
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
