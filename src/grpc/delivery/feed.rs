//! One subscription as the messages of a stream: updates, heartbeats, and the end.

use super::Server;
use crate::{
    engine::{Alarm, Encoded, End, Live, Resume, Shard, Step, Subscription},
    grpc::{
        convert::to_proto,
        encode::{PREFIX, is_only_props_of, without_props_of},
    },
    proto,
    session::{ids::UserId, limits::Micros},
};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

/// A subscription with what is still to be sent of its last step.
#[derive(Debug)]
pub struct Feed {
    subscription: Subscription,
    server: Server,
    /// Whose own props are left out.
    without: Option<UserId>,
    /// The parts of a step that are not sent yet.
    outbox: VecDeque<Bytes>,
    /// The revision of the last step.
    reached: u64,
    /// The revision up to which all steps were said whole.
    revision: u64,
}

/// What a feed says next: the bytes of a `SubscribeToSessionResponse`.
#[derive(Debug)]
pub enum Said {
    /// An update.
    Update(Bytes),
    /// The tick that was waited for is over, and there is nothing to say.
    Quiet,
    /// The subscription is over.
    Ended(End),
}

impl Feed {
    /// A feed of a subscription.
    pub fn new(server: Server, subscription: Subscription, without: Option<UserId>) -> Self {
        Self { subscription, server, without, outbox: VecDeque::new(), reached: 0, revision: 0 }
    }

    /// The session.
    pub fn live(&self) -> &Arc<Live> {
        self.subscription.live()
    }

    /// The subscription.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// The server ends the stream, not the client.
    pub fn ended_by_server(&mut self) {
        self.subscription.ended_by_server();
    }

    /// The revision of the session at the last poll: every write of that frame or an earlier one is
    /// in what was said since, unless the subscriber bounds its rate: then it may still come.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What comes next.
    pub fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        self.poll(|subscription| subscription.poll_step(cx))
    }

    /// What cannot wait: see [`Subscription::poll_urgent`].
    pub fn poll_urgent(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        self.poll(|subscription| subscription.poll_urgent(cx))
    }

    fn poll(&mut self, poll: impl FnOnce(&mut Subscription) -> Poll<(Step, u64)>) -> Poll<Said> {
        let said = match self.outbox.pop_front() {
            Some(bytes) => Said::Update(bytes),
            None => {
                let (step, revision) = ready!(poll(&mut self.subscription));
                self.reached = revision;
                match step {
                    Step::Update(encoded) => Said::Update(self.unpack(&encoded)),
                    Step::Heartbeat => Said::Update(self.heartbeat()),
                    Step::Quiet => Said::Quiet,
                    Step::Ended(end) => Said::Ended(end),
                }
            }
        };
        if self.outbox.is_empty() {
            self.revision = self.reached;
        }
        Poll::Ready(said)
    }

    /// The first message of a step; the others wait in the outbox.
    fn unpack(&mut self, encoded: &Arc<Encoded>) -> Bytes {
        let messages = &encoded.messages;
        match &self.without {
            None => self.outbox.extend(messages.iter().map(|message| message.bytes.clone())),
            Some(user) => {
                // The last part completes the step, so it goes out even if nothing is left of it.
                let last = messages.len().saturating_sub(1);
                let skipped = |at: usize| is_only_props_of(&messages[at], user);
                if !(0..messages.len()).all(skipped) {
                    let kept = (0..messages.len()).filter(|&at| at == last || !skipped(at));
                    self.outbox.extend(kept.map(|at| without_props_of(&messages[at], user)));
                }
            }
        }
        self.outbox.pop_front().unwrap_or_else(|| self.heartbeat())
    }

    /// A heartbeat with the position up to which everything was sent.
    pub fn heartbeat(&self) -> Bytes {
        let (_, revision) = self.subscription.position();
        update(proto::SessionUpdate {
            to_revision: revision,
            body: Some(proto::session_update::Body::Heartbeat(proto::Heartbeat {})),
            ..Default::default()
        })
    }

    /// The last message.
    pub fn ended(&self, end: &Ending) -> Bytes {
        let (epoch, revision) = self.subscription.position();
        update(proto::SessionUpdate {
            epoch,
            to_revision: revision,
            body: Some(proto::session_update::Body::Ended(end.message())),
            ..Default::default()
        })
    }

    /// Tells how a session's end ends the stream.
    pub fn ending(&self, end: End) -> Ending {
        Ending::new(&self.server, end.into())
    }
}

/// The last message of a session that a client names a position of and cannot have any more.
pub fn farewell(server: &Server, at: Resume, end: End) -> Bytes {
    update(proto::SessionUpdate {
        epoch: at.epoch,
        to_revision: at.revision,
        body: Some(proto::session_update::Body::Ended(Ending::new(server, end.into()).message())),
        ..Default::default()
    })
}

/// A `SubscribeToSessionResponse` with its prefix.
fn update(update: proto::SessionUpdate) -> Bytes {
    let response =
        proto::SubscribeToSessionResponse { update: Some(update), user_id: String::new() };
    let mut bytes = Vec::with_capacity(PREFIX + response.encoded_len());
    crate::grpc::encode::put_prefix(&mut bytes, response.encoded_len());
    bytes.extend(response.encode_to_vec());
    bytes.into()
}

/// Why a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// What happened in the session.
    Session(End),
    /// The stream is old enough.
    Age,
    /// The client was silent for too long.
    Silent,
}

impl From<End> for Why {
    fn from(end: End) -> Self {
        Why::Session(end)
    }
}

/// The end of a stream as it is told: in the last message and in the status.
#[derive(Debug, Clone)]
pub struct Ending {
    reason: proto::EndReason,
    text: String,
    banned_until: Option<Micros>,
    delay: Option<Micros>,
    /// The status, which says the same.
    pub status: tonic::Status,
    /// Whether the client caused it, which is what counts as a lost stream.
    pub by_client: bool,
}

impl Ending {
    /// The one table of ends.
    pub fn new(server: &Server, why: Why) -> Self {
        use proto::{EndReason, ErrorReason};
        use tonic::Code;
        let spread = |most: Micros| Some(fastrand::u64(0..=most.max(1)));
        let (reason, code, error, text, delay, by_client) = match &why {
            Why::Session(End::Left) => {
                let none = ErrorReason::Unspecified;
                (EndReason::Left, Code::Ok, none, "the user left the session", None, true)
            }
            Why::Session(End::Kicked { .. }) => {
                let (code, error) = (Code::PermissionDenied, ErrorReason::Kicked);
                (EndReason::Kicked, code, error, "the user was kicked", None, true)
            }
            Why::Session(End::Banned { .. }) => {
                let (code, error) = (Code::PermissionDenied, ErrorReason::Banned);
                (EndReason::Banned, code, error, "the user was banned", None, true)
            }
            Why::Session(End::Deleted) => {
                let none = ErrorReason::Unspecified;
                (EndReason::Deleted, Code::Ok, none, "the session is gone", None, true)
            }
            Why::Session(End::Slow) => {
                let text = "the subscriber did not read for too long";
                let (code, error) = (Code::ResourceExhausted, ErrorReason::Slow);
                (EndReason::Slow, code, error, text, None, false)
            }
            Why::Session(End::Draining) => {
                let (code, error) = (Code::Unavailable, ErrorReason::Draining);
                let delay = spread(server.streams.drain_spread);
                (EndReason::Draining, code, error, "the server is stopping", delay, false)
            }
            Why::Age => {
                let text = "the stream reached its maximum age";
                let (code, error) = (Code::Unavailable, ErrorReason::Age);
                (EndReason::Age, code, error, text, spread(1_000_000), false)
            }
            Why::Silent => {
                let text = "no message came for longer than the silence_timeout";
                let (code, error) = (Code::DeadlineExceeded, ErrorReason::Silent);
                (EndReason::Silent, code, error, text, None, true)
            }
        };
        let (said, banned_until) = match why {
            Why::Session(End::Kicked { reason }) if !reason.is_empty() => (Some(reason), None),
            Why::Session(End::Banned { until }) => (None, until),
            _ => (None, None),
        };
        let text = said.map_or_else(|| text.to_owned(), |said| format!("{text}: {said}"));
        let status = server.node.end(code, error, &text, delay);
        Self { reason, text, banned_until, delay, status, by_client }
    }

    /// The message that goes before the status.
    pub fn message(&self) -> proto::Ended {
        proto::Ended {
            reason: self.reason.into(),
            message: self.text.clone(),
            banned_until: self.banned_until.map(to_proto::moment),
            reconnect_delay: self.delay.map(to_proto::span),
        }
    }

    /// The same for a stream that carries no session.
    pub fn go_away(&self) -> proto::GoAway {
        proto::GoAway {
            reason: self.reason.into(),
            deadline: None,
            reconnect_delay: self.delay.map(to_proto::span),
            message: self.text.clone(),
        }
    }
}

/// When a stream has to do something by itself.
#[derive(Debug)]
pub struct Timer {
    server: Server,
    shard: usize,
    ends_at: Micros,
    heartbeat_at: Micros,
    alarm: Arc<Alarm>,
    /// What the alarm is set to, and for which task; it may ring too early.
    set: Option<(Micros, Waker)>,
}

impl Timer {
    /// A timer that begins now.
    pub fn new(server: &Server) -> Self {
        let now = server.engine.clock().now();
        let jitter = |age: Micros| age - fastrand::u64(0..=age / 10);
        Self {
            shard: fastrand::usize(..),
            ends_at: server.streams.max_age.map_or(Micros::MAX, |age| now + jitter(age)),
            heartbeat_at: now + server.streams.heartbeat,
            alarm: Alarm::new(),
            set: None,
            server: server.clone(),
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

    /// What is due; else the task is woken when the first of it, or of `silent_at`, falls due.
    pub fn poll(&mut self, silent_at: Micros, cx: &mut Context<'_>) -> Poll<Due> {
        let at = self.heartbeat_at.min(self.ends_at).min(silent_at);
        if let Some((set, waker)) = &self.set
            && *set <= at
            && waker.will_wake(cx.waker())
            && !self.alarm.has_rung()
        {
            return Poll::Pending;
        }
        let now = self.server.engine.clock().now();
        if silent_at <= now {
            Poll::Ready(Due::End(Why::Silent))
        } else if self.ends_at <= now {
            Poll::Ready(Due::End(Why::Age))
        } else if self.heartbeat_at <= now {
            Poll::Ready(Due::Heartbeat)
        } else {
            let shard: &Shard = self.server.engine.shard(self.shard);
            self.alarm.set(shard, at, cx.waker());
            self.set = Some((at, cx.waker().clone()));
            Poll::Pending
        }
    }
}

/// What a [`Timer`] has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Say that the stream is alive.
    Heartbeat,
    /// End the stream.
    End(Why),
}
