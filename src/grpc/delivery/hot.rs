//! The front of a hot stream: bytes of the request in, the next message out, or wake me. It is served
//! past tonic: no channel and no task between the connection and the stream.

use bytes::Bytes;
use http::HeaderMap;
use std::task::{Context, Poll};
use tonic::Status;

use crate::session::limits::Micros;

/// One stream that receives messages and sends messages.
pub trait HotStream: Send + 'static {
    /// Bytes of the request came in. They are taken whether or not anything can be sent.
    fn take_in(&mut self, data: Bytes);

    /// The client has closed its sending side.
    fn closed(&mut self);

    /// How many of the bytes that came in wait in here: headers until the first message is there, of a
    /// message that is not whole yet, or because the stream is full.
    fn waiting(&self) -> usize;

    /// Whether so much is still to be said that the client should hold back more than it has sent.
    fn is_full(&self) -> bool;

    /// The next message to send, with its gRPC prefix, or the status that ends the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next>;

    /// The status that ends a stream that can send nothing, since then: its client does not read.
    /// It comes once that has lasted too long, or what ended the stream meanwhile has waited in vain.
    fn poll_over(&mut self, blocked_since: Micros, cx: &mut Context<'_>) -> Poll<Status>;
}

/// About how many bytes the headers of a call take.
pub fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// What a stream says next.
#[derive(Debug)]
pub enum Next {
    /// A message, with its gRPC prefix.
    Message(Bytes),
    /// The end.
    End(Status),
}

/// A stream that is refused before it begins.
#[derive(Debug)]
pub struct Refused(pub Status);

impl HotStream for Refused {
    fn take_in(&mut self, _: Bytes) {}

    fn closed(&mut self) {}

    fn waiting(&self) -> usize {
        0
    }

    fn is_full(&self) -> bool {
        false
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(Next::End(self.0.clone()))
    }

    fn poll_over(&mut self, _: Micros, _: &mut Context<'_>) -> Poll<Status> {
        Poll::Ready(self.0.clone())
    }
}
