//! WatchEvents: what happens in an app.
//!
//! A watcher is a place in the journal of the app. It reads when a tick is over, something has
//! happened, and its client has room; so one that is slow is behind and costs nothing.

use super::{
    Server,
    compose::{MOST, framed},
    feeds::Feeds,
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
};
use crate::{
    engine::{AppEvent, EventCursor, EventTold, EventWatch, EventsFrom},
    grpc::{
        convert::{door::Door, event},
        error::Refusal,
        weight::decode,
    },
    proto::{self, EventKind},
    session::{ids::SessionId, limits::Micros},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeSet, task::Poll};

/// How many kinds and how many sessions a request may name.
const KINDS: usize = 64;
const SESSIONS: usize = 1000;

/// The stream of one call.
#[derive(Debug)]
pub struct WatchEvents {
    watch: EventWatch,
    selection: Selection,
    /// The tick of the last message is over then.
    read_at: Micros,
}

/// Which events a call is about.
#[derive(Debug)]
struct Selection {
    /// Empty = all.
    kinds: BTreeSet<i32>,
    /// Empty = all, and those of no session.
    sessions: BTreeSet<SessionId>,
}

impl Selection {
    fn has(&self, event: &AppEvent) -> bool {
        let is_of_session = || event.session.as_ref().is_some_and(|it| self.sessions.contains(it));
        (self.kinds.is_empty() || self.kinds.contains(&event::kind(&event.what).into()))
            && (self.sessions.is_empty() || is_of_session())
    }
}

impl Call for WatchEvents {
    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, seat, .. } = opening;
        let bytes = message.len();
        let request: proto::WatchEventsRequest = decode(message)?;
        let (mut door, app) = server.door(&caller, &request.app);
        door.check_metadata(&caller);
        let from = door.events_from(&request);
        let selection = door.selection(&request);
        let from = door.close_with(|| from)?;
        let in_app = server.begin_stream(&app, bytes)?;
        let watch = server.engine.watch_events(&app, from)?;
        Ok((Self { watch, selection, read_at: 0 }, Feeds::silent(&server, seat), in_app))
    }

    fn tend(&mut self, server: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        let now = server.engine.clock().now();
        if now < self.read_at {
            moment.timer.wake_at(self.read_at);
            return None;
        }
        let (process, selection) = (server.engine.process(), &self.selection);
        let mut events = Vec::new();
        let mut bytes = 0;
        let polled = self.watch.poll(moment.cx, |it| {
            if !selection.has(it) {
                return true;
            }
            let told = event::event(process, it);
            bytes += told.encoded_len() + 8;
            let has_room = bytes <= MOST || events.is_empty();
            if has_room {
                events.push(told);
            }
            has_room
        });
        let Poll::Ready(EventTold { gap, is_first, goes_on }) = polled else { return None };
        if events.is_empty() && gap.is_none() && !is_first {
            moment.cx.waker().wake_by_ref();
            return None;
        }
        self.read_at = if goes_on { now } else { now + server.engine.settings().tick };
        moment.timer.said();
        let journal = is_first.then(|| {
            let (first_sequence, next_sequence) = self.watch.kept();
            proto::EventJournal { first_sequence, next_sequence }
        });
        Some(Next::Message(framed(&proto::WatchEventsResponse {
            events,
            cursor: self.cursor(),
            gap: gap.map(event::gap),
            more: goes_on,
            journal,
            go_away: None,
        })))
    }

    fn compose(&mut self, _: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        match occasion {
            Occasion::News => None,
            Occasion::Alive => {
                let cursor = self.cursor();
                Some(framed(&proto::WatchEventsResponse { cursor, ..Default::default() }))
            }
            Occasion::End(ending) => {
                let go_away = Some(ending.go_away());
                Some(framed(&proto::WatchEventsResponse { go_away, ..Default::default() }))
            }
        }
    }
}

impl WatchEvents {
    fn cursor(&self) -> String {
        write_cursor(self.watch.cursor())
    }
}

impl Door<'_> {
    fn events_from(&mut self, request: &proto::WatchEventsRequest) -> Option<EventsFrom> {
        use proto::EventStart as Start;
        let Ok(start) = Start::try_from(request.start) else {
            self.fault("start", "is no place to start from");
            return None;
        };
        match (&*request.cursor, start) {
            ("", Start::Unspecified | Start::Latest) => Some(EventsFrom::Now),
            ("", Start::Earliest) => Some(EventsFrom::Earliest),
            (cursor, Start::Unspecified) => {
                let cursor = read_cursor(cursor);
                if cursor.is_none() {
                    self.fault("cursor", "is no cursor of WatchEvents");
                }
                cursor.map(EventsFrom::Cursor)
            }
            _ => {
                self.fault("start", "must not be set with a cursor");
                None
            }
        }
    }

    fn selection(&mut self, request: &proto::WatchEventsRequest) -> Selection {
        if request.kinds.len() > KINDS {
            self.fault("kinds", format!("has more than {KINDS} kinds"));
        }
        for (at, kind) in request.kinds.iter().take(KINDS).enumerate() {
            if EventKind::try_from(*kind).is_err() || *kind == 0 {
                self.fault(format!("kinds[{at}]"), "is no kind of event");
            }
        }
        if request.session_ids.len() > SESSIONS {
            self.fault("session_ids", format!("has more than {SESSIONS} ids"));
        }
        let ids = request.session_ids.iter().take(SESSIONS).enumerate();
        let sessions = ids.filter_map(|(at, id)| self.session(&format!("session_ids[{at}]"), id));
        let sessions = sessions.collect();
        Selection { kinds: request.kinds.iter().copied().collect(), sessions }
    }
}

/// What the bytes of a cursor begin with: the version of its form.
const CURSOR: u8 = 1;

/// A cursor as text: not for clients to read or make.
fn write_cursor(EventCursor { process, app, next }: EventCursor) -> String {
    let numbers = [process, app, next].into_iter().flat_map(u64::to_be_bytes);
    BASE64.encode(std::iter::once(CURSOR).chain(numbers).collect::<Vec<u8>>())
}

/// The cursor of a text; none for what is none.
fn read_cursor(text: &str) -> Option<EventCursor> {
    let bytes = BASE64.decode(text).ok()?;
    let (numbers, rest) = bytes.strip_prefix(&[CURSOR])?.as_chunks::<8>();
    let [process, app, next] = *numbers else { return None };
    let [process, app, next] = [process, app, next].map(u64::from_be_bytes);
    rest.is_empty().then_some(EventCursor { process, app, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor = EventCursor { process: 1, app: 2, next: u64::MAX };
        let text = write_cursor(cursor);
        assert_eq!(read_cursor(&text), Some(cursor));
        assert_eq!(read_cursor(&text[1..]), None);
        assert_eq!(read_cursor(&format!("{text}AAAA")), None);
        assert_eq!(read_cursor("garbage"), None);
        assert_eq!(read_cursor(""), None);
    }
}
