//! When a stream has to do something by itself.

use super::{Seat, Server, ending::Why};
use crate::{
    engine::{Alarm, Shard},
    session::limits::Micros,
};
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The moments of one stream.
#[derive(Debug)]
pub struct Timer {
    server: Server,
    seat: Seat,
    /// The stream is too old then, or its client's deadline has passed.
    ends_at: Micros,
    deadline: Micros,
    /// The credential of the caller ends then.
    expires_at: Micros,
    heartbeat_at: Micros,
    silence: Option<Micros>,
    silent_at: Micros,
    /// The first of what else is due, asked for again at each poll.
    soon_at: Micros,
    /// For what is put off again and again, and for what comes soon. Each is set apart, so that the
    /// list of the shard is touched only where a moment comes nearer.
    far: Bell,
    near: Bell,
    /// Why the stream, which can say nothing, ends, and when if nothing can be said until then.
    over: Option<(Why, Micros)>,
}

/// What a [`Timer`] has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Say that the stream is alive.
    Heartbeat,
    /// End the stream.
    End(Why),
}

impl Timer {
    /// A timer that begins now, of a stream that ends by a deadline, with its credential, and after
    /// so long without a message.
    pub fn new(
        server: &Server,
        seat: Seat,
        (deadline, expires_at): (Micros, Micros),
        silence: Option<Micros>,
    ) -> Self {
        let now = server.engine.clock().now();
        let jitter = |age: Micros| age - fastrand::u64(0..=age / 10);
        let mut timer = Self {
            seat,
            ends_at: server.streams.max_age.map_or(deadline, |age| deadline.min(now + jitter(age))),
            deadline,
            expires_at,
            heartbeat_at: now + server.streams.heartbeat,
            silence,
            silent_at: Micros::MAX,
            soon_at: Micros::MAX,
            far: Bell::default(),
            near: Bell::default(),
            over: None,
            server: server.clone(),
        };
        timer.heard();
        timer
    }

    /// A message came up.
    pub fn heard(&mut self) {
        if let Some(silence) = self.silence {
            self.silent_at = self.server.engine.clock().now() + silence;
        }
    }

    /// The credential ends at another moment.
    pub fn expires(&mut self, at: Micros) {
        self.expires_at = at;
    }

    /// Something was said: the heartbeat can wait.
    pub fn said(&mut self) {
        let now = self.server.engine.clock().now();
        self.heartbeat_at = now + self.server.streams.heartbeat;
    }

    /// The session that is silent for longest said something then. Whether the heartbeat can wait.
    pub fn goes_on_from(&mut self, at: Micros) -> bool {
        let heartbeat_at = at + self.server.streams.heartbeat;
        let waits = heartbeat_at > self.server.engine.clock().now();
        // Once: the next one is due so long after what is said now.
        self.heartbeat_at = if waits { heartbeat_at } else { Micros::MAX };
        waits
    }

    /// Whatever was to be looked at soon is asked for again.
    pub fn begin_poll(&mut self) {
        self.soon_at = Micros::MAX;
    }

    /// When the stream is too old, or its client's deadline passes.
    pub fn ends_at(&self) -> Micros {
        self.ends_at
    }

    /// When the stream ends by itself, as things stand.
    fn own_end(&self) -> Micros {
        self.ends_at.min(self.silent_at).min(self.expires_at)
    }

    /// Why the stream ends by itself now.
    fn end_due(&self, now: Micros) -> Option<Why> {
        if self.silent_at <= now {
            Some(Why::Silent)
        } else if self.deadline <= now {
            Some(Why::Deadline)
        } else if self.expires_at <= now {
            Some(Why::Expired)
        } else if self.ends_at <= now {
            Some(Why::Age)
        } else {
            None
        }
    }

    /// Why a stream ends that can say nothing since a moment: because that lasts too long; or for
    /// another reason, once its client has had some time to read that.
    pub fn poll_over(
        &mut self,
        ended: Option<Why>,
        blocked_since: Micros,
        cx: &mut Context<'_>,
    ) -> Poll<Why> {
        let now = self.server.engine.clock().now();
        let slow_at = blocked_since + self.server.streams.slow_limit;
        if self.over.is_none()
            && let Some(why) = ended.or_else(|| self.end_due(now))
        {
            self.over = Some((why.clone(), now + why.patience()));
        }
        let over_at = self.over.as_ref().map_or(Micros::MAX, |(_, at)| *at);
        if over_at.min(slow_at) <= now {
            return Poll::Ready(self.over.take().map_or(Why::Slow, |(why, _)| why));
        }
        let at = over_at.min(slow_at).min(self.soon_at);
        let at = if self.over.is_some() { at } else { at.min(self.own_end()) };
        wait(&self.server, self.seat, &mut self.near, at, cx).map(|()| Why::Slow)
    }

    /// Has the stream polled again at a moment.
    pub fn wake_at(&mut self, at: Micros) {
        self.soon_at = self.soon_at.min(at);
    }

    /// What is due; else the task is woken when the first of all falls due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        self.over = None;
        let at = self.heartbeat_at.min(self.own_end());
        let is_soon = self.soon_at != Micros::MAX;
        if self.far.rings_by(at, cx) && (!is_soon || self.near.rings_by(self.soon_at, cx)) {
            return Poll::Pending;
        }
        let clock = self.server.engine.clock();
        let now = clock.now();
        if let Some(why) = self.end_due(now) {
            return Poll::Ready(Due::End(why));
        } else if self.heartbeat_at <= now {
            // Once: the next one is due so long after what is said now.
            self.heartbeat_at = Micros::MAX;
            return Poll::Ready(Due::Heartbeat);
        }
        let shard = self.server.engine.shard(self.seat.worker);
        self.far.set(shard, at, cx);
        if is_soon {
            self.near.set(shard, self.soon_at, cx);
        }
        // A clock that was stepped meanwhile would not ring any more.
        if at.min(self.soon_at) <= clock.now() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Waits until a moment, on the thread that serves the stream.
pub fn wait(
    server: &Server,
    seat: Seat,
    bell: &mut Bell,
    at: Micros,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let clock = server.engine.clock();
    if at <= clock.now() {
        return Poll::Ready(());
    }
    if at < Micros::MAX {
        bell.set(server.engine.shard(seat.worker), at, cx);
    }
    // A clock that was stepped meanwhile would not ring any more.
    if at <= clock.now() { Poll::Ready(()) } else { Poll::Pending }
}

/// An alarm with what it is set to, and for which task; it may ring too early.
#[derive(Debug, Default)]
pub struct Bell(Option<(Arc<Alarm>, Micros, Waker)>);

impl Bell {
    fn rings_by(&self, at: Micros, cx: &Context<'_>) -> bool {
        self.0.as_ref().is_some_and(|(alarm, set, waker)| {
            *set <= at && waker.will_wake(cx.waker()) && !alarm.has_rung()
        })
    }

    fn set(&mut self, shard: &Shard, at: Micros, cx: &Context<'_>) {
        if self.rings_by(at, cx) {
            return;
        }
        let alarm = self.0.take().map_or_else(Alarm::new, |(alarm, ..)| alarm);
        alarm.set(shard, at, cx.waker());
        self.0 = Some((alarm, at, cx.waker().clone()));
    }
}
