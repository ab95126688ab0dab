//! One subscription as the messages of a stream: updates, heartbeats, and the end.

use super::{compose::framed, ending::Ending};
use crate::{
    engine::{Encoded, End, Live, Position, Resume, Step, Subscription},
    grpc::encode::{is_only_props_of, without_props_of},
    proto,
    session::{ids::UserId, revision::Revision},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// A subscription with what is still to be sent of its last step.
#[derive(Debug)]
pub struct Feed {
    subscription: Subscription,
    /// Whose own props are left out.
    without: Option<UserId>,
    /// The parts of a step that are not sent yet.
    outbox: VecDeque<Bytes>,
    /// The revision of the last step.
    reached: Revision,
    /// The revision up to which all steps were said whole.
    revision: Revision,
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
    pub fn new(subscription: Subscription, without: Option<UserId>) -> Self {
        Self {
            subscription,
            without,
            outbox: VecDeque::new(),
            reached: Revision::NONE,
            revision: Revision::NONE,
        }
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
    pub fn revision(&self) -> Revision {
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

    /// The end alone, while nothing can be said: see [`Subscription::poll_end`].
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.subscription.poll_end(cx)
    }

    fn poll(
        &mut self,
        poll: impl FnOnce(&mut Subscription) -> Poll<(Step, Revision)>,
    ) -> Poll<Said> {
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

    /// Whether there is a position up to which everything was sent.
    pub fn has_begun(&self) -> bool {
        self.subscription.position().revision.is_some()
    }

    /// A heartbeat with the position up to which everything was sent; 0 = nothing was yet.
    pub fn heartbeat(&self) -> Bytes {
        let revision = self.subscription.position().revision;
        update(proto::SessionUpdate {
            to_revision: revision.0,
            body: Some(proto::session_update::Body::Heartbeat(proto::Heartbeat {})),
            ..Default::default()
        })
    }

    /// The last message.
    pub fn ended(&self, end: &Ending) -> Bytes {
        let Position { epoch, revision } = self.subscription.position();
        update(proto::SessionUpdate {
            epoch: epoch.0,
            to_revision: revision.0,
            body: Some(proto::session_update::Body::Ended(end.message())),
            ..Default::default()
        })
    }
}

/// The last message of a session that a client names a position of and cannot have any more.
pub fn farewell(at: Resume, ending: &Ending) -> Bytes {
    update(proto::SessionUpdate {
        epoch: at.epoch.0,
        to_revision: at.revision.0,
        body: Some(proto::session_update::Body::Ended(ending.message())),
        ..Default::default()
    })
}

/// The message of one update.
fn update(update: proto::SessionUpdate) -> Bytes {
    framed(&proto::SubscribeToSessionResponse { update: Some(update), user_id: String::new() })
}
