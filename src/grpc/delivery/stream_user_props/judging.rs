//! A message of a stream whose writes are being judged. The stream takes in nothing more until they
//! are, so that its messages keep their order.

use super::{Feeds, Server, StreamUserProps};
use crate::{
    engine::asked::Bearer,
    grpc::{convert::door::PropsWrite, error::Refusal},
    session::{
        command::Actor,
        ids::{AppId, SessionId},
        judging::Operation,
    },
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// A write that is being judged, and its number.
pub struct Judging {
    seq: u64,
    write: Pin<Box<dyn Future<Output = PropsWrite> + Send>>,
}

impl fmt::Debug for Judging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judging").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Judging {
    /// Begins to judge a write.
    pub fn begin(
        server: &Server,
        (app, actor, bearer): (&AppId, &Actor, Bearer),
        seq: u64,
        mut write: PropsWrite,
    ) -> Self {
        let (server, app, actor) = (server.clone(), app.clone(), actor.clone());
        let write = Box::pin(async move {
            server.judge_write(&app, &actor, &mut write, &bearer).await;
            write
        });
        Self { seq, write }
    }

    /// The write with what became of it, if that is known at once. What is not is polled again.
    pub fn try_now(&mut self) -> Option<(u64, PropsWrite)> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(judged) => Some(judged),
            Poll::Pending => None,
        }
    }

    /// Waits until the write is judged.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(u64, PropsWrite)> {
        self.write.as_mut().poll(cx).map(|write| (self.seq, write))
    }
}

impl StreamUserProps {
    /// Whether a write has to be judged before it is made.
    pub(super) fn is_judged(&self, server: &Server, feeds: &Feeds, write: &PropsWrite) -> bool {
        let judges = |id: &SessionId| match feeds.find(id) {
            Some(it) => it.feed.live().judges(Operation::Write),
            None => server.engine.judges(&self.user.app, id, Operation::Write),
        };
        write.sessions.iter().any(judges)
    }

    /// Has a write judged before it is made. Over the rate it does not wait, as it is to be made on what
    /// it is judged by.
    pub(super) fn begin_judging(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        seq: u64,
        write: PropsWrite,
    ) {
        let is_let = self.catch_up(server, feeds);
        let is_let: Result<(), Refusal> = is_let.and_then(|()| Ok(self.user.take_update()?));
        if let Err(limited) = is_let {
            self.settle(feeds, self.messages_to(seq), Err(limited));
            self.acks.dealt_with(seq);
            return;
        }
        let who = (&self.user.app, &self.actor, self.credential.grant().bearer());
        let mut judging = Judging::begin(server, who, seq, write);
        match judging.try_now() {
            Some((seq, write)) => self.write_judged(server, feeds, seq, write),
            None => self.busy = Some(judging),
        }
    }

    /// Makes a write that was judged, where it was found good.
    pub(super) fn write_judged(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        seq: u64,
        write: PropsWrite,
    ) {
        let messages = self.messages_to(seq);
        let durable = write.durable.then(|| write.sessions.clone());
        let outcome = self.apply(server, feeds, write);
        if let (Some(sessions), Ok(_)) = (durable, &outcome) {
            self.wait_for_store(server, messages, sessions);
        }
        self.settle(feeds, messages, outcome);
        self.acks.dealt_with(seq);
    }
}
