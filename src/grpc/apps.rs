//! What calls and streams take of their apps.

use super::{Context, caller::Caller, error::Refusal};
use crate::{
    engine::{App, AppLimit, Clock, MOST_OWED, Share, Turn},
    identity::Kind,
    session::{
        ids::AppId,
        limits::{Micros, SECOND},
    },
};
use std::sync::Arc;

/// How long a stream rests at a time before it looks again whether its app is still limited.
const LOOK: Micros = SECOND / 2;

/// Those who rest until nothing is owed do not all come back at the same moment.
const SPREAD: Micros = SECOND / 10;

/// Bytes of the request of a call, which the connection has noted.
#[derive(Debug, Clone, Copy)]
pub struct RequestBytes(pub usize);

impl Context {
    /// Takes a call with one reply out of what its app may make, with what was read of it. What names
    /// an app that it may not act in is refused later, and takes nothing of that app.
    pub fn begin_call(
        &self,
        caller: &Caller,
        extensions: &http::Extensions,
        app: &str,
    ) -> Result<Option<Arc<App>>, Refusal> {
        let (_, app) = self.door(caller, app);
        if !caller.grant.allows_app(&app) {
            return Ok(None);
        }
        let app = self.engine.app(&app);
        let now = self.engine.clock().now();
        app.check_owed(AppLimit::BytesIn, now, 0)?;
        app.check_owed(AppLimit::BytesOut, now, MOST_OWED)?;
        match caller.grant.kind {
            Kind::User(_) => app.take_for_user(AppLimit::Calls, now, 1)?,
            Kind::Backend { .. } | Kind::Reader => app.take(AppLimit::Calls, now, 1)?,
        }
        let RequestBytes(bytes) = extensions.get().copied().unwrap_or(RequestBytes(0));
        app.spend(AppLimit::BytesIn, now, bytes as u64);
        Ok(Some(app))
    }

    /// Takes the reply of a call out of what its app may be sent.
    pub fn end_call(&self, app: &App, bytes: usize) {
        app.spend(AppLimit::BytesOut, self.engine.clock().now(), bytes as u64);
    }

    /// A stream of an app begins, with a first message of so many bytes.
    pub fn begin_stream(&self, app: &AppId, bytes: usize) -> Result<AppStream, Refusal> {
        let app = self.engine.app(app);
        let now = self.engine.clock().now();
        app.check_owed(AppLimit::BytesIn, now, MOST_OWED)?;
        app.check_owed(AppLimit::BytesOut, now, MOST_OWED)?;
        let place = app.enter(AppLimit::Streams, 1)?;
        let mut stream = AppStream { place, reads: None, speaks: None };
        stream.took_in(self.engine.clock(), bytes);
        Ok(stream)
    }
}

/// A stream as one of its app.
///
/// A stream that has sent something pays for it before it sends the next thing. So what the streams
/// of an app owe together stays in proportion to their number, and each has its turn.
#[derive(Debug)]
pub struct AppStream {
    place: Share,
    /// When what came in is paid: until then nothing more is read than the client's window.
    reads: Option<Turn>,
    /// When what went out is paid: until then news wait in the sessions, and merge there.
    speaks: Option<Turn>,
}

impl AppStream {
    /// So much came in.
    pub fn took_in(&mut self, clock: &Clock, bytes: usize) {
        let app = self.place.app();
        if app.is_limited(AppLimit::BytesIn) {
            self.reads = Some(app.turn(AppLimit::BytesIn, clock.now(), bytes as u64));
        }
    }

    /// So much went out.
    pub fn sent(&mut self, clock: &Clock, bytes: usize) {
        let app = self.place.app();
        if app.is_limited(AppLimit::BytesOut) {
            self.speaks = Some(app.turn(AppLimit::BytesOut, clock.now(), bytes as u64));
        }
    }

    /// When it may deal with more of what came in, or is to look again; none = now.
    pub fn reads_at(&self, clock: &Clock) -> Option<Micros> {
        let turn = self.reads?;
        let now = clock.now();
        let wait = self.place.app().wait(AppLimit::BytesIn, turn, now)?;
        Some(now + wait.min(LOOK))
    }

    /// When it may say more, or is to look again; none = now.
    pub fn speaks_at(&mut self, clock: &Clock) -> Option<Micros> {
        let app = self.place.app();
        if !app.is_limited(AppLimit::BytesOut) {
            return None;
        }
        let now = clock.now();
        let own = self.speaks.and_then(|turn| app.wait(AppLimit::BytesOut, turn, now));
        if let Some(wait) = own {
            return Some(now + wait.min(LOOK));
        }
        self.speaks = None;
        // Others may have sent so much that nobody sends anything for a while.
        let owed = app.owed(AppLimit::BytesOut, now);
        (owed > MOST_OWED).then(|| now + owed.min(LOOK) + fastrand::u64(0..SPREAD))
    }
}
