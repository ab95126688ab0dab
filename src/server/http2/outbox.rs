//! The sending side of one call.

use super::account::{Account, Piece, Room};
use crate::session::limits::Micros;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::{Code, Status};

/// Messages on their way out. A message is handed to HTTP/2 only as far as the client's window
/// reaches, so that nothing stands before the end of the call once that is due.
#[derive(Debug)]
pub struct Outbox {
    send: SendStream<Piece>,
    account: Arc<Account>,
    room: Room,
    /// What is not handed over yet of the message that is going out.
    rest: Option<Piece>,
    /// A part of that message was handed over.
    is_begun: bool,
    blocked_since: Option<Micros>,
}

/// The client ended the call, or its connection is gone.
#[derive(Debug)]
pub struct Gone;

impl Outbox {
    /// With nothing in it.
    pub fn new(send: SendStream<Piece>, account: &Arc<Account>) -> Self {
        Self {
            send,
            room: Room::new(account),
            account: account.clone(),
            rest: None,
            is_begun: false,
            blocked_since: None,
        }
    }

    /// Sends a message that nobody else holds, once the one before is on its way.
    pub fn push(&mut self, message: Bytes) {
        self.rest = Some(Piece::new(message, &self.account));
    }

    /// Sends a message that others may hold too.
    pub fn push_shared(&mut self, message: Bytes) {
        self.rest = Some(Piece::of_message(message, &self.account));
    }

    /// Waits until all that was pushed is handed over.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while let Some(rest) = self.rest.as_ref().filter(|rest| rest.bytes() > 0) {
            let left = rest.bytes();
            self.send.reserve_capacity(left);
            let count = match self.send.capacity() {
                0 => match self.poll_window(cx)? {
                    Poll::Ready(window) => window,
                    Poll::Pending => {
                        self.rest.iter_mut().for_each(Piece::hold);
                        return Poll::Pending;
                    }
                },
                window => window,
            };
            let Some(rest) = &mut self.rest else { break };
            let piece = rest.split_to(count.min(left));
            self.send.send_data(piece, false).map_err(|_| Gone)?;
            self.is_begun = count < left;
            if !self.is_begun {
                self.rest = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until all that was pushed is handed over, the client takes more, and more may be made.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        ready!(self.poll_sent(cx))?;
        self.send.reserve_capacity(1);
        if self.send.capacity() == 0 {
            ready!(self.poll_window(cx))?;
        }
        ready!(self.room.poll(cx));
        self.blocked_since = None;
        Poll::Ready(Ok(()))
    }

    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        match ready!(self.send.poll_capacity(cx)) {
            Some(Ok(window)) => Poll::Ready(Ok(window)),
            Some(Err(_)) | None => Poll::Ready(Err(Gone)),
        }
    }

    /// Since when nothing can be sent; called at a moment at which nothing can.
    pub fn blocked_since(&mut self, now: impl FnOnce() -> Micros) -> Micros {
        *self.blocked_since.get_or_insert_with(now)
    }

    /// Whether the client has given the call up.
    pub fn is_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.send.poll_reset(cx).is_ready()
    }

    /// Ends the call. What is not handed over yet is not sent: without a message that was cut in half
    /// the client gets the status, else it is left with a reset.
    pub fn end(mut self, status: &Status) {
        if self.is_begun {
            let reason = match reset_of(status.code()) {
                // The head may not be out yet, and then it would say that nothing was done.
                Reason::REFUSED_STREAM if self.account.is_of_node() => Reason::CANCEL,
                reason => reason,
            };
            return self.send.send_reset(reason);
        }
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
        }
        self.end_with(Some(trailers));
    }

    /// Ends the call with these trailers, or without any.
    pub fn end_with(mut self, trailers: Option<HeaderMap>) {
        // It fails only where nobody reads it any more.
        let _ = match trailers {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Piece::new(Bytes::new(), &self.account), true),
        };
    }
}

/// The reset that clients read as a status, where there is one.
fn reset_of(code: Code) -> Reason {
    match code {
        Code::ResourceExhausted => Reason::ENHANCE_YOUR_CALM,
        Code::PermissionDenied => Reason::INADEQUATE_SECURITY,
        Code::Unavailable => Reason::REFUSED_STREAM,
        _ => Reason::CANCEL,
    }
}
