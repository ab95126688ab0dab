//! SubscribeToStreams: what is new in object streams, once per interval.
//!
//! A subscriber is a cursor and a wake-up. It reads when its interval has passed, a write has woken
//! it, and its client has room; then it gets all that is new since its last read.

use super::{
    Server,
    compose::framed,
    feeds::Feeds,
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
};
use crate::grpc::{
    error::Refusal,
    status::about::{About, Asks},
};
use crate::{
    engine::App,
    grpc::{
        convert::door::path,
        objects::{ROOM, Watch},
        weight::decode,
    },
    object_stream::{Cursor, Lasts, NAMES, Reading, Room},
    proto,
    session::{
        command::Actor,
        ids::Key,
        limits::{Micros, SECOND},
    },
};
use bytes::Bytes;
use std::{collections::BTreeSet, fmt, pin::Pin, sync::Arc, task::Poll};

/// How often a subscriber may hear: the least, the most, and by default.
const INTERVAL: (Micros, Micros, Micros) = (1000, 60 * SECOND, 10_000);

/// The stream of one call.
pub struct SubscribeToStreams {
    app: Arc<App>,
    /// Whose news.
    watch: Watch,
    actor: Actor,
    /// Which streams; none = all.
    names: Option<BTreeSet<Key>>,
    interval: Micros,
    cursor: Cursor,
    lasts: Lasts,
    /// The interval is over then.
    read_at: Micros,
    /// What was read, while functions look at it.
    telling: Option<Pin<Box<Telling>>>,
}

type Telling = dyn Future<Output = proto::SubscribeToStreamsResponse> + Send;

impl fmt::Debug for SubscribeToStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeToStreams").finish_non_exhaustive()
    }
}

impl Call for SubscribeToStreams {
    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, seat, .. } = opening;
        let bytes = message.len();
        let request: proto::SubscribeToStreamsRequest = decode(message)?;
        let (mut door, app, actor) = server.enter(&caller, &request.app, &request.user_id);
        if request.names.len() > NAMES {
            door.fault("names", format!("has more than {NAMES} names"));
        }
        let names = request.names.iter().enumerate();
        let names = names.filter_map(|(at, name)| door.named(&format!("names[{at}]"), name));
        let names: BTreeSet<Key> = names.collect();
        let (least, most, default) = INTERVAL;
        let interval = door.span("interval", request.interval, least..=most, default);
        let actor = door.close_with(|| actor)?;
        if server.engine.is_draining() {
            return Err(Refusal::DRAINING);
        }
        {
            let state = server.objects.lock();
            for name in &names {
                let checked = state.streams.check_reads(&app, &actor, name);
                checked.map_err(|refusal| Refusal::from(refusal).of(path("names", name)))?;
            }
        }
        let in_app = server.begin_stream(&app, bytes)?;
        let call = Self {
            app: server.engine.app(&app),
            watch: server.objects.watch(&app),
            actor,
            names: (!names.is_empty()).then_some(names),
            interval,
            cursor: Cursor::default(),
            lasts: Lasts::new(),
            read_at: 0,
            telling: None,
        };
        Ok((call, Feeds::silent(&server, seat), in_app))
    }

    fn tend(&mut self, server: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        loop {
            if let Some(telling) = &mut self.telling {
                let Poll::Ready(news) = telling.as_mut().poll(moment.cx) else { return None };
                self.telling = None;
                if news != proto::SubscribeToStreamsResponse::default() {
                    moment.timer.said();
                    return Some(Next::Message(framed(&news)));
                }
            }
            let now = server.engine.clock().now();
            if now < self.read_at {
                moment.timer.wake_at(self.read_at);
                return None;
            }
            let mut state = server.objects.lock();
            let Ok(place) = server.objects.reserve(&state, &self.app) else {
                // Too many wait, or the app has had its time: what is new stays where it is until the next interval.
                self.read_at = now + self.interval;
                continue;
            };
            let reading = state.streams.read(
                self.watch.app(),
                &self.actor,
                self.names.as_ref(),
                &self.cursor,
                &mut Room::new(ROOM),
                Some(&mut self.lasts),
            );
            let Reading { updates, reset, more, cursor, .. } = reading;
            if let Some(cursor) = cursor {
                self.cursor = cursor;
            }
            if updates.is_empty() && !reset && !more {
                self.watch.wake(&mut state, moment.cx.waker());
                return None;
            }
            drop(state);
            self.read_at = if more { now } else { now + self.interval };
            let objects = server.objects.clone();
            self.telling = Some(Box::pin(async move {
                let updates = objects.tell(updates, place).await;
                proto::SubscribeToStreamsResponse { updates, reset, more }
            }));
        }
    }

    fn about(message: Bytes) -> About {
        decode(message)
            .map_or_else(|_| About::default(), |it: proto::SubscribeToStreamsRequest| it.about())
    }

    fn compose(&mut self, _: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        let is_alive = matches!(occasion, Occasion::Alive);
        is_alive.then(|| framed(&proto::SubscribeToStreamsResponse::default()))
    }
}
