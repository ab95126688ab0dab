//! The calls that set a row up: sessions are opened and ended.

use super::{PATIENCE, Result};
use crate::proto::{
    DeleteSessionRequest, JoinOptions, JoinSessionRequest, OpenSharedSessionRequest, Pacing,
    SessionSettings, session_service_client::SessionServiceClient,
};
use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::task::JoinSet;
use tonic::{
    Code, Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

/// The id of the session of every room; each is in an app of its own.
pub const SESSION_ID: &str = "room";

/// The app of room `number`. Users belong to an app, and so to one room.
pub fn app(number: usize) -> String {
    format!("r{number}")
}

/// The app of the idle sessions.
const IDLE: &str = "idle";
/// Calls that are on their way at a time: fewer than the passwords of one address that may wait.
const CALLS_AT_ONCE: usize = 24;

/// Guesses that are on their way at a time.
const GUESSES_AT_ONCE: usize = 16;

fn idle_id(session: usize) -> String {
    format!("s{session:06}")
}

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

/// A connection for unary calls. All calls act as the app.
#[derive(Debug, Clone)]
pub struct Service(SessionServiceClient<Channel>);

impl Service {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(PATIENCE);
        Ok(Service(SessionServiceClient::new(endpoint.connect().await?)))
    }

    /// Opens the rooms 0 to `rooms`.
    pub async fn open_rooms(&self, rooms: usize, tick: Duration, pacing: Pacing) -> Result<()> {
        let settings = SessionSettings {
            tick_interval: Some(tick.try_into()?),
            pacing: pacing.into(),
            ..SessionSettings::default()
        };
        for room in 0..rooms {
            self.open(app(room), SESSION_ID.to_owned(), settings.clone()).await?;
        }
        Ok(())
    }

    /// Ends the rooms 0 to `rooms`.
    pub async fn delete_rooms(&self, rooms: usize) -> Result<()> {
        for room in 0..rooms {
            self.delete(app(room), SESSION_ID.to_owned()).await?;
        }
        Ok(())
    }

    /// Opens sessions that nobody joins, all in one app, with a password or without.
    pub async fn open_idle(&self, sessions: usize, password: Option<&str>) -> Result<()> {
        let settings = SessionSettings {
            empty_ttl: Some(Duration::from_secs(3600).try_into()?),
            password: password.map(str::to_owned),
            ..SessionSettings::default()
        };
        self.for_each_idle(sessions, async move |service, id| {
            service.open(IDLE.to_owned(), id, settings.clone()).await
        })
        .await
    }

    /// Ends the sessions that [`Service::open_idle`] opened.
    pub async fn delete_idle(&self, sessions: usize) -> Result<()> {
        self.for_each_idle(sessions, async |service, id| service.delete(IDLE.to_owned(), id).await)
            .await
    }

    /// Tries to join the sessions that [`Service::open_idle`] opened with a wrong password, many at
    /// once, for ever. Half of the callers go from session to session, so that there is always a
    /// password to compare; each of the others stays at one, where it soon is refused without that.
    /// Ends when one lets somebody in or fails otherwise.
    pub async fn guess(self, sessions: usize, password: &'static str, guesses: Rc<Guesses>) {
        let mut callers = JoinSet::new();
        for first in 0..GUESSES_AT_ONCE {
            let (mut service, guesses) = (self.0.clone(), guesses.clone());
            callers.spawn_local(async move {
                let step = if first % 2 == 0 { GUESSES_AT_ONCE / 2 + 1 } else { 0 };
                let mut next = first % sessions;
                loop {
                    let session = next;
                    next = (next + step) % sessions;
                    let join = JoinOptions { password: password.into(), ..Default::default() };
                    let request = JoinSessionRequest {
                        app: IDLE.to_owned(),
                        session_id: idle_id(session),
                        user_id: "guesser".to_owned(),
                        join: Some(join),
                        ..Default::default()
                    };
                    let answer = service.join_session(request).await;
                    match answer.map_err(|status| status.code()) {
                        Err(Code::PermissionDenied) => guesses.add(1, 0),
                        Err(Code::ResourceExhausted) => guesses.add(0, 1),
                        _ => return,
                    }
                }
            });
        }
        callers.join_next().await;
    }

    async fn for_each_idle(
        &self,
        sessions: usize,
        call: impl AsyncFn(&Service, String) -> Result<()> + Clone + 'static,
    ) -> Result<()> {
        let mut callers = JoinSet::new();
        for first in 0..CALLS_AT_ONCE {
            let (service, call) = (self.clone(), call.clone());
            callers.spawn_local(async move {
                for session in (first..sessions).step_by(CALLS_AT_ONCE) {
                    call(&service, idle_id(session)).await?;
                }
                Ok(())
            });
        }
        // The first failure ends the others.
        while let Some(result) = callers.join_next().await {
            let result: Result<()> = result?;
            result?;
        }
        Ok(())
    }

    async fn open(&self, app: String, session_id: String, settings: SessionSettings) -> Result<()> {
        let settings = Some(settings);
        let request = OpenSharedSessionRequest { app, session_id, settings, ..Default::default() };
        self.0.clone().open_shared_session(as_app(request)).await?;
        Ok(())
    }

    async fn delete(&self, app: String, session_id: String) -> Result<()> {
        let request = DeleteSessionRequest { app, session_id, ..Default::default() };
        match self.0.clone().delete_session(as_app(request)).await {
            // It went with its last member.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }
}

/// A request of the app itself, which its metadata says.
fn as_app<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("sessiond-as", MetadataValue::from_static("app"));
    request
}
