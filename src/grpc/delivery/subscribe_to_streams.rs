//! SubscribeToStreams: what is new in object streams, once per interval.
//!
//! A subscriber is a cursor and a wake-up. It reads when its interval has passed, a write has woken
//! it, and its client has room; then it gets all that is new since its last read.

use super::ending::{Ending, Why};
use crate::{
    engine::{Alarm, End},
    grpc::{
        Context,
        objects::{ROOM, Watch},
        runs::Place,
    },
    object_stream::{Cursor, Lasts, Reading, Room},
    proto,
    session::{command::Actor, ids::Key, limits::Micros},
};
use std::{
    collections::BTreeSet,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

type Message = Result<proto::SubscribeToStreamsResponse, Status>;

/// A message, and the subscription unless it is over.
type Next = dyn Future<Output = (Message, Option<Subscription>)> + Send;

/// What to subscribe to.
#[derive(Debug)]
pub struct Wanted {
    /// Whose news.
    pub watch: Watch,
    /// Who reads.
    pub actor: Actor,
    /// Which streams; none = all.
    pub names: Option<BTreeSet<Key>>,
    /// How often at most.
    pub interval: Micros,
}

/// The messages of one call.
pub struct Messages {
    /// None = it is over.
    next: Option<Pin<Box<Next>>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    /// The messages of a new subscription.
    pub fn new(server: Arc<Context>, wanted: Wanted) -> Self {
        let subscription = Subscription::new(server, wanted);
        Self { next: Some(Box::pin(subscription.next())) }
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Message>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let (message, subscription) = ready!(next.as_mut().poll(cx));
        self.next = subscription.map(|subscription| Box::pin(subscription.next()) as _);
        Poll::Ready(Some(message))
    }
}

struct Subscription {
    server: Arc<Context>,
    wanted: Wanted,
    cursor: Cursor,
    lasts: Lasts,
    alarm: Arc<Alarm>,
    shard: usize,
    /// The interval is over then.
    read_at: Micros,
    heartbeat_at: Micros,
    ends_at: Micros,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a subscription has come to.
enum Due {
    News(Reading, Option<Place>),
    Heartbeat,
    End(Why),
}

impl Subscription {
    fn new(server: Arc<Context>, wanted: Wanted) -> Self {
        let now = server.engine.clock().now();
        let jitter = |age: Micros| age - fastrand::u64(0..=age / 10);
        Self {
            cursor: Cursor::default(),
            lasts: Lasts::new(),
            alarm: Alarm::new(),
            shard: fastrand::usize(..),
            read_at: now,
            heartbeat_at: now + server.streams.heartbeat,
            ends_at: server.streams.max_age.map_or(Micros::MAX, |age| now + jitter(age)),
            stopping: Box::pin(server.stopping.clone().cancelled_owned()),
            wanted,
            server,
        }
    }

    async fn next(mut self) -> (Message, Option<Self>) {
        loop {
            let message = match poll_fn(|cx| self.poll_due(cx)).await {
                Due::End(why) => return (Err(Ending::new(&self.server, why).status), None),
                Due::Heartbeat => Default::default(),
                Due::News(Reading { updates, reset, more, .. }, place) => {
                    let updates = self.server.objects.tell(updates, place).await;
                    if updates.is_empty() && !reset && !more {
                        continue;
                    }
                    proto::SubscribeToStreamsResponse { updates, reset, more }
                }
            };
            self.heartbeat_at = self.server.engine.clock().now() + self.server.streams.heartbeat;
            return (Ok(message), Some(self));
        }
    }

    fn poll_due(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Due> {
        if self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Due::End(Why::Session(End::Draining)));
        }
        let clock = self.server.engine.clock();
        loop {
            let now = clock.now();
            if self.ends_at <= now {
                return Poll::Ready(Due::End(Why::Age));
            }
            let mut wake_at = self.ends_at.min(self.heartbeat_at);
            if self.read_at <= now {
                let mut state = self.server.objects.lock();
                let Ok(place) = self.server.objects.reserve(&state, self.wanted.watch.app()) else {
                    // Too many wait: what is new stays where it is until the next interval.
                    drop(state);
                    self.read_at = now + self.wanted.interval;
                    continue;
                };
                let reading = state.streams.read(
                    self.wanted.watch.app(),
                    &self.wanted.actor,
                    self.wanted.names.as_ref(),
                    &self.cursor,
                    &mut Room::new(ROOM),
                    Some(&mut self.lasts),
                );
                if let Some(cursor) = &reading.cursor {
                    self.cursor.clone_from(cursor);
                }
                if !reading.updates.is_empty() || reading.reset || reading.more {
                    self.read_at = if reading.more { now } else { now + self.wanted.interval };
                    return Poll::Ready(Due::News(reading, place));
                }
                self.wanted.watch.wake(&mut state, cx.waker());
            } else {
                wake_at = wake_at.min(self.read_at);
            }
            if self.heartbeat_at <= now {
                return Poll::Ready(Due::Heartbeat);
            }
            self.alarm.set(self.server.engine.shard(self.shard), wake_at, cx.waker());
            // A clock that was stepped meanwhile would not ring any more.
            if clock.now() < wake_at {
                return Poll::Pending;
            }
        }
    }
}
