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
    ends_at: Micros,
    heartbeat_at: Micros,
    silence: Option<Micros>,
    silent_at: Micros,
    /// The first of what else is due, asked for anew at each poll.
    soon_at: Micros,
    /// For what is put off again and again, and for what comes soon. Each is set apart, so that the
    /// list of the shard is touched only where a moment comes nearer.
    far: Bell,
    near: Bell,
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
    /// A timer that begins now, of a stream that ends after so long without a message.
    pub fn new(server: &Server, seat: Seat, silence: Option<Micros>) -> Self {
        let now = server.engine.clock().now();
        let jitter = |age: Micros| age - fastrand::u64(0..=age / 10);
        let mut timer = Self {
            seat,
            ends_at: server.streams.max_age.map_or(Micros::MAX, |age| now + jitter(age)),
            heartbeat_at: now + server.streams.heartbeat,
            silence,
            silent_at: Micros::MAX,
            soon_at: Micros::MAX,
            far: Bell::default(),
            near: Bell::default(),
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

    /// Something was said: the heartbeat can wait.
    pub fn said(&mut self) {
        self.said_at(self.server.engine.clock().now());
    }

    /// The session that was silent for longest said something then.
    pub fn said_at(&mut self, at: Micros) {
        self.heartbeat_at = at + self.server.streams.heartbeat;
    }

    /// Whatever was to be looked at soon is asked for again.
    pub fn begin_poll(&mut self) {
        self.soon_at = Micros::MAX;
    }

    /// Has the stream polled again at a moment.
    pub fn wake_at(&mut self, at: Micros) {
        self.soon_at = self.soon_at.min(at);
    }

    /// What is due; else the task is woken when the first of all falls due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let at = self.heartbeat_at.min(self.ends_at).min(self.silent_at);
        let is_soon = self.soon_at != Micros::MAX;
        if self.far.rings_by(at, cx) && (!is_soon || self.near.rings_by(self.soon_at, cx)) {
            return Poll::Pending;
        }
        let clock = self.server.engine.clock();
        let now = clock.now();
        if self.silent_at <= now {
            return Poll::Ready(Due::End(Why::Silent));
        } else if self.ends_at <= now {
            return Poll::Ready(Due::End(Why::Age));
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

/// An alarm with what it is set to, and for which task; it may ring too early.
#[derive(Debug, Default)]
struct Bell(Option<(Arc<Alarm>, Micros, Waker)>);

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
