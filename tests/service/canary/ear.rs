//! Hears every byte that a client is sent: headers, messages and trailers, whatever the client makes
//! of them.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tonic::{
    Status,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::Channel,
};

/// A connection, and all that came over it.
#[derive(Clone)]
pub struct Ear {
    channel: Channel,
    replies: Arc<Mutex<Vec<Reply>>>,
}

/// What answered one call.
#[derive(Clone)]
struct Reply {
    path: Arc<str>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Ear {
    /// Listens on a connection.
    pub fn new(channel: Channel) -> Self {
        Self { channel, replies: Arc::default() }
    }

    /// All that was heard until now, by the path of the call that it answered.
    pub fn heard(&self) -> Vec<(String, Vec<u8>)> {
        let replies = self.replies.lock().expect("nothing panics under it");
        let copied = |reply: &Reply| {
            (reply.path.to_string(), reply.bytes.lock().expect("nothing panics under it").clone())
        };
        replies.iter().map(copied).collect()
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl Reply {
    fn hear(&self, bytes: &[u8]) {
        self.bytes.lock().expect("nothing panics under it").extend_from_slice(bytes);
    }

    /// Header values as they came, and those in base64 as what they stand for.
    fn hear_headers(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.hear(name.as_str().as_bytes());
            self.hear(value.as_bytes());
        }
        for entry in MetadataMap::from_headers(headers.clone()).iter() {
            if let KeyAndValueRef::Binary(_, value) = entry {
                self.hear(&value.to_bytes().expect("it is base64"));
            }
        }
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Ear {
    type Response = http::Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let reply = Reply { path: request.uri().path().into(), bytes: Arc::default() };
        self.replies.lock().expect("nothing panics under it").push(reply.clone());
        let answer = self.channel.call(request);
        Box::pin(async move {
            let response = answer.await?;
            reply.hear_headers(response.headers());
            Ok(response.map(|body| tonic::body::Body::new(HeardBody { body, reply })))
        })
    }
}

struct HeardBody {
    body: tonic::body::Body,
    reply: Reply,
}

impl Body for HeardBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            if let Some(data) = frame.data_ref() {
                self.reply.hear(data);
            }
            if let Some(trailers) = frame.trailers_ref() {
                self.reply.hear_headers(trailers);
            }
        }
        frame
    }
}
