//! WatchSessions: which sessions there are, and what becomes of them.
//!
//! A watcher is a position. It reads when a tick is over, something has happened, and its client has
//! room; then it gets what is new, of each session what it is then.

use super::{
    Server,
    compose::{MOST, framed},
    feeds::Feeds,
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
};
use crate::{
    engine::{Cursor, Reset, SessionEvent, SessionWatch, State, Told},
    grpc::{
        convert::to_proto,
        error::Refusal,
        status::about::{About, Asks},
        weight::decode,
    },
    proto::{self, SessionEventKind as Kind},
    session::{
        command::Actor,
        ids::{AppId, SessionId},
        limits::Micros,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use prost::Message;
use std::task::Poll;

/// The stream of one call.
#[derive(Debug)]
pub struct WatchSessions {
    app: AppId,
    actor: Actor,
    watch: SessionWatch,
    /// The tick of the last message is over then.
    read_at: Micros,
}

impl Call for WatchSessions {
    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, seat, .. } = opening;
        let bytes = message.len();
        let request: proto::WatchSessionsRequest = decode(message)?;
        let (mut door, app, actor) = server.enter(&caller, &request.app, &request.user_id);
        let filter = door.filter("filter", &request.filter);
        let cursor = read_cursor(&request.cursor);
        if cursor.is_none() && !request.cursor.is_empty() {
            door.fault("cursor", "is no cursor of WatchSessions");
        }
        let actor = door.close_with(|| actor)?;
        let in_app = server.begin_stream(&app, bytes)?;
        let watch = server.engine.watch_sessions(&app, actor.clone(), filter, cursor)?;
        Ok((Self { app, actor, watch, read_at: 0 }, Feeds::silent(&server, seat), in_app))
    }

    fn about(message: Bytes) -> About {
        decode(message)
            .map_or_else(|_| About::default(), |it: proto::WatchSessionsRequest| it.about())
    }

    fn tend(&mut self, server: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        let now = server.engine.clock().now();
        if now < self.read_at {
            moment.timer.wake_at(self.read_at);
            return None;
        }
        let mut page = Page::new(&self.app, &self.actor);
        let Poll::Ready(told) = self.watch.poll(moment.cx, |event| page.add(event)) else {
            return None;
        };
        let Told { reset, more, completes, goes_on } = told;
        self.read_at = if goes_on { now } else { now + server.engine.settings().tick };
        if page.events.is_empty() && reset.is_none() && !completes {
            moment.cx.waker().wake_by_ref();
            return None;
        }
        moment.timer.said();
        Some(Next::Message(framed(&proto::WatchSessionsResponse {
            events: page.events,
            cursor: self.cursor(),
            reset: reset.map_or(0, |why| reason(why).into()),
            more,
            go_away: None,
        })))
    }

    fn compose(&mut self, _: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        match occasion {
            Occasion::News => None,
            Occasion::Alive => {
                let more = self.watch.cursor().is_none();
                let cursor = self.cursor();
                Some(framed(&proto::WatchSessionsResponse { cursor, more, ..Default::default() }))
            }
            Occasion::End(ending) => {
                let go_away = Some(ending.go_away());
                Some(framed(&proto::WatchSessionsResponse { go_away, ..Default::default() }))
            }
        }
    }
}

impl WatchSessions {
    fn cursor(&self) -> String {
        self.watch.cursor().map(|cursor| write_cursor(&cursor)).unwrap_or_default()
    }
}

/// A message that grows until it is full.
struct Page<'a> {
    app: &'a AppId,
    actor: &'a Actor,
    events: Vec<proto::SessionEvent>,
    bytes: usize,
}

impl<'a> Page<'a> {
    fn new(app: &'a AppId, actor: &'a Actor) -> Self {
        Self { app, actor, events: Vec::new(), bytes: 0 }
    }

    /// Adds an event; false = there is no room for it.
    fn add(&mut self, event: SessionEvent<'_>) -> bool {
        let (of, session) = match event {
            SessionEvent::Opened(state) => (Kind::Opened, self.told(state)),
            SessionEvent::Changed(state) => (Kind::Changed, self.told(state)),
            SessionEvent::Ended(id) => (Kind::Ended, self.ended(id)),
        };
        let event = proto::SessionEvent { kind: of.into(), session: Some(session) };
        let bytes = event.encoded_len() + 8;
        if self.bytes + bytes > MOST && !self.events.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.events.push(event);
        true
    }

    fn told(&self, state: &State) -> proto::SessionInfo {
        to_proto::session_summary(state, self.actor)
    }

    fn ended(&self, id: &SessionId) -> proto::SessionInfo {
        let (app, session_id) = (self.app.to_string(), id.to_string());
        proto::SessionInfo { app, session_id, ..Default::default() }
    }
}

/// Why a first picture begins.
fn reason(reset: Reset) -> proto::WatchResetReason {
    match reset {
        Reset::First => proto::WatchResetReason::First,
        Reset::Restarted => proto::WatchResetReason::Restarted,
        Reset::TooOld => proto::WatchResetReason::TooOld,
        Reset::OtherRequest => proto::WatchResetReason::OtherRequest,
        Reset::UnknownCursor => proto::WatchResetReason::UnknownCursor,
    }
}

/// What the bytes of a cursor begin with: the version of its form.
const CURSOR: u8 = 1;

/// A cursor as text: not for clients to read or make.
fn write_cursor(Cursor { process, request, at }: &Cursor) -> String {
    let numbers = [process, request].into_iter();
    let numbers = numbers.chain(at.iter().flat_map(|(all, entries)| [all, entries]));
    let numbers = numbers.flat_map(|number| number.to_be_bytes());
    BASE64.encode(std::iter::once(CURSOR).chain(numbers).collect::<Vec<u8>>())
}

/// The cursor of a text; none for what is none.
fn read_cursor(text: &str) -> Option<Cursor> {
    let bytes = BASE64.decode(text).ok()?;
    let (numbers, rest) = bytes.strip_prefix(&[CURSOR])?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_be_bytes(*number)).collect();
    match &*numbers {
        &[process, request, ref at @ ..] if rest.is_empty() && [2, 4].contains(&at.len()) => {
            let at = at.chunks_exact(2).map(|at| (at[0], at[1])).collect();
            Some(Cursor { process, request, at })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        for at in [vec![(7, 8)], vec![(7, 8), (0, u64::MAX)]] {
            let cursor = Cursor { process: 1, request: 2, at };
            let text = write_cursor(&cursor);
            assert_eq!(read_cursor(&text), Some(cursor));
            assert_eq!(read_cursor(&text[1..]), None);
            assert_eq!(read_cursor(&format!("{text}A")), None);
        }
        for logs in [0, 3] {
            let text = write_cursor(&Cursor { process: 1, request: 2, at: vec![(1, 2); logs] });
            assert_eq!(read_cursor(&text), None);
        }
        assert_eq!(read_cursor("garbage"), None);
    }
}
