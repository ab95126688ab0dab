//! gRPC as the load generator speaks it: streams by hand over the h2 crate, because a generator that
//! shares the machine with the server has to be cheap.

use super::{Result, place::Place, socket::Socket};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use prost::Message;
use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::time::sleep;
use tonic::Code;

/// As large as the server's, so that a server never waits for the generator's permission to send.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Large enough that permission is given again only once in some hundreds of messages.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// A call that is refused because the server has too much to do is made again after this, so often.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
const AGAIN_AT_MOST: usize = 100;
/// What precedes each message: a flag and its length.
const PREFIX_BYTES: usize = 5;

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    as_app: bool,
    /// The header with the credential of every call, if one is needed.
    authorization: Option<HeaderValue>,
    /// How many calls on it were refused and made again.
    repeated: Rc<Cell<u64>>,
}

impl Connection {
    /// Shakes hands with the server at this place, for calls of a backend. To be called in a `LocalSet`,
    /// where a task keeps the connection going.
    pub async fn open(socket: Socket, place: &Place) -> Result<Self> {
        let authorization = place.credentials.as_ref().map(|it| it.token()).transpose()?;
        let (requests, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .handshake(socket)
            .await?;
        // What goes wrong here shows on the streams.
        tokio::task::spawn_local(connection);
        Ok(Connection {
            requests,
            address: place.address,
            as_app: false,
            authorization,
            repeated: Rc::default(),
        })
    }

    /// The same, for calls that act as the app.
    pub fn for_app(self) -> Self {
        Connection { as_app: true, ..self }
    }

    /// The same, for calls that show another credential.
    pub fn presenting(self, authorization: HeaderValue) -> Self {
        Connection { authorization: Some(authorization), ..self }
    }

    /// Makes a unary call that succeeds, and returns the reply.
    pub async fn unary(&self, method: &str, request: &impl Message) -> Result<Bytes> {
        let (_, mut responses) = self.call(method, request, true).await?;
        let reply = responses.message().await?;
        match responses.next().await? {
            Next::Message(_) => Err("more than one reply to a call".into()),
            Next::Ended(ended) if ended.code == Code::Ok as i32 => Ok(reply),
            Next::Ended(ended) => Err(ended.into()),
        }
    }

    /// The same, and while the server refuses the call because it has too much to do, makes it again. A
    /// busy machine holds a server up so long that it refuses calls which it could answer.
    pub async fn unary_repeated(&self, method: &str, request: &impl Message) -> Result<Bytes> {
        for _ in 0..AGAIN_AT_MOST {
            match self.unary(method, request).await {
                Err(error) if is_refused(&error) => {
                    self.repeated.set(self.repeated.get() + 1);
                    sleep(AGAIN_AFTER).await;
                }
                ended => return ended,
            }
        }
        self.unary(method, request).await
    }

    /// How many calls were made again.
    pub fn repeated(&self) -> u64 {
        self.repeated.get()
    }

    /// Calls a method of `sessiond.v1` and sends the first message, which may also be the last.
    pub async fn call(
        &self,
        method: &str,
        first: &impl Message,
        is_last: bool,
    ) -> Result<(SendStream<Bytes>, Responses)> {
        let mut request = Request::post(format!("http://{}/sessiond.v1.{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if self.as_app {
            request = request.header("sessiond-as", "app");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut up) = requests.send_request(request, false)?;
        let first = framed(first.encoded_len(), |buffer| Ok(first.encode(buffer)?))?;
        up.send_data(first, is_last)?;
        Ok((up, Responses { stream: Stream::Asked(response), buffer: BytesMut::new() }))
    }
}

/// A message of about so many bytes, with its prefix.
pub fn framed(bytes: usize, encode: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    buffer.put_bytes(0, PREFIX_BYTES);
    encode(&mut buffer)?;
    let length = u32::try_from(buffer.len() - PREFIX_BYTES)?;
    buffer[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(buffer.freeze())
}

/// The messages of one stream that come down.
pub struct Responses {
    stream: Stream,
    buffer: BytesMut,
}

enum Stream {
    Asked(ResponseFuture),
    Answered(RecvStream),
}

impl Responses {
    /// The next message. The end of the stream is an error that names the status.
    pub async fn message(&mut self) -> Result<Bytes> {
        match self.next().await? {
            Next::Message(message) => Ok(message),
            Next::Ended(ended) => Err(ended.into()),
        }
    }

    async fn next(&mut self) -> Result<Next> {
        loop {
            if let Some(message) = unframed(&mut self.buffer)? {
                return Ok(Next::Message(message));
            }
            match &mut self.stream {
                Stream::Asked(response) => {
                    let response = response.await?;
                    if response.headers().contains_key(STATUS) {
                        return Ok(Next::Ended(Ended::of(response.headers())));
                    }
                    self.stream = Stream::Answered(response.into_body());
                }
                Stream::Answered(stream) => match stream.data().await {
                    Some(data) => {
                        let data = data?;
                        stream.flow_control().release_capacity(data.len())?;
                        self.buffer.extend_from_slice(&data);
                    }
                    None => {
                        let trailers = stream.trailers().await?.unwrap_or_default();
                        return Ok(Next::Ended(Ended::of(&trailers)));
                    }
                },
            }
        }
    }
}

/// The header with which a call ends.
const STATUS: &str = "grpc-status";

enum Next {
    Message(Bytes),
    Ended(Ended),
}

/// How a call ended.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a call ended with status {code}, message {message}")]
pub struct Ended {
    /// A `google.rpc.Code`; -1 = there was none.
    pub code: i32,
    message: String,
}

impl Ended {
    fn of(trailers: &HeaderMap) -> Self {
        let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
        let code = text(STATUS).and_then(|code| code.parse().ok()).unwrap_or(-1);
        Ended { code, message: text("grpc-message").unwrap_or("none").to_owned() }
    }
}

fn is_refused(error: &super::Error) -> bool {
    let ended = error.downcast_ref::<Ended>();
    ended.is_some_and(|ended| ended.code == Code::ResourceExhausted as i32)
}

/// Takes a whole message out of the buffer, if there is one.
fn unframed(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some((prefix, _)) = buffer.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err("a compressed message, which was not asked for".into());
    }
    let length = u32::from_be_bytes(length) as usize;
    if buffer.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content: &'static [u8]) -> Bytes {
        framed(content.len(), |buffer| {
            buffer.put_slice(content);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut buffer = BytesMut::from(&[message(b"ab"), message(b"")].concat()[..]);
        assert_eq!(unframed(&mut buffer).unwrap().unwrap(), "ab");
        assert_eq!(unframed(&mut buffer).unwrap().unwrap(), "");
        assert_eq!(unframed(&mut buffer).unwrap(), None);
    }

    #[test]
    fn a_message_may_come_in_pieces() {
        let whole = message(b"abc");
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert_eq!(unframed(&mut buffer).unwrap(), None);
            buffer.extend_from_slice(&whole[cut..]);
            assert_eq!(unframed(&mut buffer).unwrap().unwrap(), "abc");
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        assert!(unframed(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err());
    }

    #[test]
    fn the_end_names_the_status() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "8".parse().unwrap());
        let ended = Ended::of(&trailers);
        assert_eq!(ended.to_string(), "a call ended with status 8, message none");
        assert_eq!(Ended::of(&HeaderMap::new()).code, -1);
    }
}
