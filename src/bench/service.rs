//! The calls that set a row up: sessions are opened and ended.

use super::{
    Result,
    grpc::{Connection, Ended},
    load::{Plan, each},
    place::Place,
    socket::Socket,
    tally::Tally,
};
use crate::proto::{
    DeleteSessionRequest, JoinOptions, JoinSessionRequest, OpenSharedSessionRequest, SessionKind,
    SessionSettings,
};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tonic::Code;

/// The id of the session of every room that has an app of its own.
pub const SESSION_ID: &str = "room";

/// The app of room `number`, or of a backend. Users belong to an app, and so to one room. No other run
/// uses these names, and no deployment has such an app of its own.
pub fn app(number: usize) -> String {
    format!("bench-{}-r{number}", std::process::id())
}

/// The app of the idle sessions.
fn idle_app() -> String {
    format!("bench-{}-idle", std::process::id())
}

fn idle_id(session: usize) -> String {
    format!("s{session:06}")
}

/// Calls that are on their way at a time: fewer than the passwords of one address that may wait.
const CALLS_AT_ONCE: usize = 24;

/// Guesses that are on their way at a time.
const GUESSES_AT_ONCE: usize = 16;

/// What became of guesses.
#[derive(Debug, Default)]
pub struct Guesses(Cell<(u64, u64)>);

impl Guesses {
    /// How many were found wrong, and how many came too fast to be looked at.
    pub fn so_far(&self) -> (u64, u64) {
        self.0.get()
    }

    fn add(&self, wrong: u64, too_many: u64) {
        let (known_wrong, known_too_many) = self.0.get();
        self.0.set((known_wrong + wrong, known_too_many + too_many));
    }
}

/// A connection for unary calls that act as the app.
#[derive(Clone)]
pub struct Service {
    app: Connection,
    user: Connection,
}

impl Service {
    /// Connects.
    pub async fn connect(place: impl Into<Place>) -> Result<Self> {
        let place = place.into();
        let socket = Socket::connect(place.clone(), None, Arc::new(Tally::default())).await?;
        let user = Connection::open(socket, &place).await?;
        Ok(Service { app: user.clone().for_app(), user })
    }

    /// Opens the rooms of the plan.
    pub async fn open_rooms(&self, plan: &Plan) -> Result<()> {
        let settings = SessionSettings {
            tick_interval: Some(plan.tick.try_into()?),
            pacing: plan.pacing.into(),
            // Not all of them have members.
            empty_ttl: Some(Duration::from_secs(3600).try_into()?),
            ..SessionSettings::default()
        };
        let plan = plan.clone();
        each(self, plan.rooms, CALLS_AT_ONCE, async move |service, room| {
            let (app, session_id) = plan.place(room);
            let kind = plan.kind();
            service.open(app, session_id, kind, settings.clone()).await
        })
        .await
    }

    /// Ends the rooms of the plan.
    pub async fn delete_rooms(&self, plan: &Plan) -> Result<()> {
        let plan = plan.clone();
        each(self, plan.rooms, CALLS_AT_ONCE, async move |service, room| {
            let (app, session_id) = plan.place(room);
            service.delete(app, session_id).await
        })
        .await
    }

    /// Opens sessions that nobody joins, all in one app, with a password or without.
    pub async fn open_idle(&self, sessions: usize, password: Option<&str>) -> Result<()> {
        let settings = SessionSettings {
            empty_ttl: Some(Duration::from_secs(3600).try_into()?),
            password: password.map(str::to_owned),
            ..SessionSettings::default()
        };
        each(self, sessions, CALLS_AT_ONCE, async move |service, session| {
            let (id, settings) = (idle_id(session), settings.clone());
            service.open(idle_app(), id, SessionKind::Room, settings).await
        })
        .await
    }

    /// Ends the sessions that [`Service::open_idle`] opened.
    pub async fn delete_idle(&self, sessions: usize) -> Result<()> {
        each(self, sessions, CALLS_AT_ONCE, async |service, session| {
            service.delete(idle_app(), idle_id(session)).await
        })
        .await
    }

    /// Tries to join the sessions that [`Service::open_idle`] opened with a wrong password, many at
    /// once, for ever. Half of the callers go from session to session, so that there is always a
    /// password to compare; each of the others stays at one, where it soon is refused without that.
    /// Ends when one lets somebody in or fails otherwise.
    pub async fn guess(self, sessions: usize, password: &'static str, guesses: Rc<Guesses>) {
        let mut callers = JoinSet::new();
        for first in 0..GUESSES_AT_ONCE {
            let (service, guesses) = (self.clone(), guesses.clone());
            callers.spawn_local(async move {
                let step = if first % 2 == 0 { GUESSES_AT_ONCE / 2 + 1 } else { 0 };
                let mut next = first % sessions;
                loop {
                    let session = next;
                    next = (next + step) % sessions;
                    let join = JoinOptions { password: password.into(), ..Default::default() };
                    let request = JoinSessionRequest {
                        app: idle_app(),
                        session_id: idle_id(session),
                        user_id: "guesser".to_owned(),
                        join: Some(join),
                        ..Default::default()
                    };
                    let answer = service.user.unary("SessionService/JoinSession", &request).await;
                    match answer.as_ref().map_err(code) {
                        Err(Some(Code::PermissionDenied)) => guesses.add(1, 0),
                        Err(Some(Code::ResourceExhausted)) => guesses.add(0, 1),
                        _ => return,
                    }
                }
            });
        }
        callers.join_next().await;
    }

    async fn open(
        &self,
        app: String,
        session_id: String,
        kind: SessionKind,
        settings: SessionSettings,
    ) -> Result<()> {
        let (settings, kind) = (Some(settings), kind.into());
        let request =
            OpenSharedSessionRequest { app, session_id, kind, settings, ..Default::default() };
        self.app.unary_repeated("SessionService/OpenSharedSession", &request).await?;
        Ok(())
    }

    async fn delete(&self, app: String, session_id: String) -> Result<()> {
        let request = DeleteSessionRequest { app, session_id, ..Default::default() };
        match self.app.unary_repeated("SessionService/DeleteSession", &request).await {
            // It went with its last member.
            Err(error) if code(&error) == Some(Code::NotFound) => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }
}

/// The status with which a call was refused.
fn code(error: &super::Error) -> Option<Code> {
    error.downcast_ref::<Ended>().map(|ended| Code::from_i32(ended.code))
}
