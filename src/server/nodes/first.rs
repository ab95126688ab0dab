//! The first message of a stream, read before anybody serves it: which app it names decides who does.

use crate::grpc::{
    self, Context, compression,
    delivery::{self, CallHead, ending::Why},
    encode::PREFIX,
};
use crate::{engine::End, session::limits::Micros};
use bytes::Bytes;
use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

/// What a client has sent until its first message is there.
pub struct First {
    path: String,
    is_gzip: bool,
    most: usize,
    sent: Vec<Bytes>,
    /// Says why nobody waits any longer.
    over: Pin<Box<dyn Future<Output = Why> + Send>>,
}

impl First {
    /// Nothing yet, of a call.
    pub fn new(server: &Arc<Context>, head: &CallHead) -> Self {
        let deadline = head.deadline.unwrap_or(Micros::MAX);
        let due_at = server.engine.clock().now() + server.streams.first_message;
        let (server, worker) = (server.clone(), head.seat.worker);
        Self {
            path: head.path.clone(),
            is_gzip: compression::is_gzip(&head.headers),
            most: delivery::most_bytes(&server, &head.path),
            sent: Vec::new(),
            over: Box::pin(async move {
                tokio::select! {
                    () = server.stopping.cancelled() => End::Draining.into(),
                    () = server.engine.sleep_until(worker, due_at.min(deadline)) => {
                        if due_at <= deadline { Why::NoMessage } else { Why::Deadline }
                    }
                }
            }),
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.sent.push(data);
        }
    }

    /// How many bytes are here.
    pub fn len(&self) -> usize {
        self.sent.iter().map(Bytes::len).sum()
    }

    /// Takes out all that is here.
    pub fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.sent)
    }

    /// Waits for the app that the first message names; it names none where it cannot be read, and where
    /// the client has closed its side before it was there.
    pub fn poll_app(
        &mut self,
        is_closed: bool,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<String, Why>> {
        if let Some(message) = self.message() {
            return Poll::Ready(Ok(grpc::app_of(&self.path, &message, self.is_gzip, self.most)));
        }
        if is_closed {
            return Poll::Ready(Ok(String::new()));
        }
        self.over.as_mut().poll(cx).map(Err)
    }

    /// The first message with its prefix, once it is there; empty if it is larger than it may be.
    fn message(&self) -> Option<Bytes> {
        let mut prefix = [0; PREFIX];
        let bytes = self.sent.iter().flat_map(|piece| piece.iter().take(PREFIX)).take(PREFIX);
        let count = bytes.zip(&mut prefix).map(|(byte, place)| *place = *byte).count();
        let [_, length @ ..] = prefix;
        let length = u32::from_be_bytes(length) as usize;
        match count {
            PREFIX if length > self.most => return Some(Bytes::new()),
            PREFIX if self.len() >= PREFIX + length => {}
            _ => return None,
        }
        let whole = match &self.sent[..] {
            [first, ..] if first.len() >= PREFIX + length => first.clone(),
            pieces => pieces.concat().into(),
        };
        Some(whole.slice(..PREFIX + length))
    }
}
