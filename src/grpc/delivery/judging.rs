//! A message of a stream whose writes are being judged. The stream takes in nothing more until they
//! are, so that its messages keep their order.

use super::Server;
use crate::{
    engine::asked::Bearer,
    grpc::convert::door::PropsWrite,
    session::{command::Actor, ids::AppId},
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
