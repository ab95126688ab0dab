//! The front of the hot streams: bytes of a message in, the next frame out, or wake me.
//!
//! A response body that reads the request itself and yields the shared bytes of frames: no channel
//! and no reader task per stream.

use crate::grpc::{compression, error::Refusal};
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::Status;

use super::super::encode::PREFIX;

/// One stream that receives messages and sends frames.
pub trait HotStream: Send + Unpin + 'static {
    /// Takes a message in. A status ends the stream.
    fn receive(&mut self, message: Bytes) -> Result<(), Status>;

    /// Whether so much is still to be said that nothing more should be taken in before it is.
    fn is_full(&self) -> bool {
        false
    }

    /// The client has closed its sending side. A status ends the stream.
    fn closed(&mut self) -> Result<(), Status>;

    /// A message came in that cannot be read; the status that says so.
    fn unreadable(&mut self, refusal: &Refusal) -> Status;

    /// The next message to send, with its gRPC prefix, or the status that ends the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next>;
}

/// What a stream says next.
#[derive(Debug)]
pub enum Next {
    /// A message, with its gRPC prefix.
    Message(Bytes),
    /// The end.
    End(Status),
}

/// How many frames of the request are read before others get their turn.
const READS: usize = 64;

/// The response body of a hot stream.
#[derive(Debug)]
pub struct HotBody<B, S> {
    request: B,
    reading: bool,
    inbox: Inbox,
    stream: Option<S>,
    end: Option<Status>,
}

impl<B, S> HotBody<B, S>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    S: HotStream,
{
    /// A body that reads `request`, whose messages come in this `framing`.
    pub fn new(request: B, stream: S, framing: Framing) -> Self {
        let inbox = Inbox { buffer: BytesMut::new(), framing };
        Self { request, reading: true, inbox, stream: Some(stream), end: None }
    }

    /// Reads what has come in.
    fn read(&mut self, cx: &mut Context<'_>) {
        for _ in 0..READS {
            if !self.reading || self.end.is_some() {
                return;
            }
            let Some(stream) = self.stream.as_mut().filter(|stream| !stream.is_full()) else {
                return;
            };
            match Pin::new(&mut self.request).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let outcome = self.inbox.take_in(data, |message| match message {
                        Ok(message) => stream.receive(message),
                        Err(refusal) => Err(stream.unreadable(&refusal)),
                    });
                    self.end = outcome.err();
                }
                Poll::Ready(Some(Err(_))) => {
                    // The client reset the stream or is gone: nobody reads an answer.
                    self.reading = false;
                    self.end = Some(Status::cancelled("the client cancelled the stream"));
                }
                Poll::Ready(None) => {
                    self.reading = false;
                    let rest = !self.inbox.buffer.is_empty();
                    let cut = || Refusal::Malformed("it ends in the middle".to_owned());
                    self.end = match rest {
                        true => Some(stream.unreadable(&cut())),
                        false => stream.closed().err(),
                    };
                }
            }
        }
        // More may be waiting: come back after what others have to do.
        cx.waker().wake_by_ref();
    }
}

impl<B, S> Body for HotBody<B, S>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    S: HotStream,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.stream.is_none() {
            return Poll::Ready(None);
        }
        this.read(cx);
        let end = match (&mut this.stream, this.end.take()) {
            (_, Some(end)) => end,
            (Some(stream), None) => match ready!(stream.poll_next(cx)) {
                Next::Message(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Next::End(end) => end,
            },
            (None, None) => return Poll::Ready(None),
        };
        this.stream = None;
        let mut trailers = http::HeaderMap::new();
        if end.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }
}

/// How the messages of a request come in.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// The most bytes of a message, before and after it is inflated.
    pub most: usize,
    /// Messages may be compressed, with gzip.
    pub gzip: bool,
}

/// What precedes a message.
struct Prefix {
    compressed: bool,
    length: usize,
}

/// Cuts the bytes that come in into messages.
#[derive(Debug)]
struct Inbox {
    buffer: BytesMut,
    framing: Framing,
}

impl Inbox {
    /// Hands every whole message on; the first fault is the last thing handed on.
    fn take_in(
        &mut self,
        mut data: Bytes,
        mut hand_on: impl FnMut(Result<Bytes, Refusal>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        while self.buffer.is_empty() && data.has_remaining() {
            match self.prefix(&data) {
                Err(refusal) => return hand_on(Err(refusal)),
                Ok(Some(prefix)) if data.len() >= PREFIX + prefix.length => {
                    data.advance(PREFIX);
                    hand_on(self.message(&prefix, data.split_to(prefix.length)))?;
                }
                Ok(_) => break,
            }
        }
        self.buffer.extend_from_slice(&data);
        while !self.buffer.is_empty() {
            match self.prefix(&self.buffer) {
                Err(refusal) => return hand_on(Err(refusal)),
                Ok(Some(prefix)) if self.buffer.len() >= PREFIX + prefix.length => {
                    self.buffer.advance(PREFIX);
                    let message = self.buffer.split_to(prefix.length).freeze();
                    hand_on(self.message(&prefix, message))?;
                }
                Ok(_) => break,
            }
        }
        Ok(())
    }

    /// The prefix of the next message, once it is there.
    fn prefix(&self, data: &[u8]) -> Result<Option<Prefix>, Refusal> {
        let Framing { most, gzip } = self.framing;
        let Some((prefix, _)) = data.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        let compressed = match flag {
            0 => false,
            1 if gzip => true,
            1 => return Err(Refusal::Malformed("it is compressed, without an encoding".into())),
            flag => return Err(Refusal::Malformed(format!("its compressed flag is {flag}"))),
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > most {
            return Err(Refusal::MessageTooLarge { most });
        }
        Ok(Some(Prefix { compressed, length }))
    }

    fn message(&self, prefix: &Prefix, bytes: Bytes) -> Result<Bytes, Refusal> {
        if prefix.compressed {
            return compression::inflate(&bytes, self.framing.most);
        }
        Ok(bytes)
    }
}

/// A stream that is refused before it begins.
#[derive(Debug)]
pub struct Refused(pub Status);

impl HotStream for Refused {
    fn receive(&mut self, _: Bytes) -> Result<(), Status> {
        Ok(())
    }

    fn closed(&mut self) -> Result<(), Status> {
        Ok(())
    }

    fn unreadable(&mut self, _: &Refusal) -> Status {
        self.0.clone()
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(Next::End(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.put_u8(0);
            bytes.put_u32(message.len() as u32);
            bytes.put_slice(message);
        }
        bytes
    }

    fn inbox() -> Inbox {
        Inbox { buffer: BytesMut::new(), framing: Framing { most: 64, gzip: false } }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let mut inbox = inbox();
            let mut out = Vec::new();
            let mut rest = Bytes::from(framed(&messages));
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let data = rest.split_to(rest.len().min(*cut));
                let taken = inbox.take_in(data, |message| {
                    out.push(message.expect("all are fine").to_vec());
                    Ok(())
                });
                prop_assert!(taken.is_ok());
            }
            prop_assert_eq!(out, messages);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut inbox = inbox();
        let mut refused = Vec::new();
        for length in [64u32, 65] {
            let mut prefix = vec![0];
            prefix.put_u32(length);
            let _ = inbox.take_in(prefix.into(), |message| {
                refused.push((length, message.expect_err("it is not whole")));
                Err(Status::resource_exhausted(""))
            });
            inbox.buffer.clear();
        }
        assert_eq!(refused, [(65, Refusal::MessageTooLarge { most: 64 })]);
    }
}
