//! A call with one message and one reply that is sent on.

use super::{
    failure::{self, Failure},
    link::Sent,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::body::Body;

/// Largest reply, in bytes: more than any has.
const MOST_REPLY: usize = 4 * 1024 * 1024;

/// Sends the message of a call and returns the whole reply as it came. A caller that drops this has
/// the other node give the call up.
pub async fn reply((response, mut send): Sent, message: Bytes) -> Result<Response<Body>, Failure> {
    // What the windows do not take yet waits in h2, as it would wait here.
    send.send_data(message, true).map_err(|error| Failure::of(&error, false))?;
    let response = response.await.map_err(|error| Failure::of(&error, false))?;
    let lost = |error: h2::Error| Failure::of(&error, true);
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Failure::Lost(format!("the node answered with {}", head.status)));
    }
    let mut data = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(lost)?;
        let _ = body.flow_control().release_capacity(piece.len());
        if data.is_empty() && pieces.is_empty() {
            data = piece;
            continue;
        }
        pieces.extend_from_slice(&std::mem::take(&mut data));
        pieces.extend_from_slice(&piece);
        if pieces.len() > MOST_REPLY {
            return Err(Failure::Lost("its reply is too large".to_owned()));
        }
    }
    let trailers = body.trailers().await.map_err(lost)?;
    failure::ended(trailers.as_ref().unwrap_or(&head.headers))?;
    let data = if data.is_empty() { pieces.freeze() } else { data };
    let reply = Reply { data: Some(data).filter(|data| !data.is_empty()), trailers };
    Ok(Response::from_parts(head, Body::new(reply)))
}

/// A whole reply.
struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let data = this.data.take().map(Frame::data);
        let frame = data.or_else(|| this.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}
