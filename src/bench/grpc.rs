//! gRPC as the load generator speaks it: streams by hand over the h2 crate, because a generator that
//! shares the machine with the server has to be cheap.

use super::{Result, socket::Socket};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use prost::Message;
use std::net::SocketAddr;

/// As large as the server's, so that a server never waits for the generator's permission to send.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Large enough that permission is given anew only once in some hundreds of messages.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What precedes each message: a flag and its length.
const PREFIX_BYTES: usize = 5;

/// One HTTP/2 connection.
pub struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

impl Connection {
    /// Shakes hands. To be called in a `LocalSet`, where a task keeps the connection going.
    pub async fn open(socket: Socket, address: SocketAddr) -> Result<Self> {
        let (requests, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .handshake(socket)
            .await?;
        // What goes wrong here shows on the streams.
        tokio::task::spawn_local(connection);
        Ok(Connection { requests, address })
    }

    /// Calls a method of `sessiond.v1` and sends the first message, which may also be the last.
    pub async fn call(
        &self,
        method: &str,
        first: &impl Message,
        is_last: bool,
    ) -> Result<(SendStream<Bytes>, Responses)> {
        let request = Request::post(format!("http://{}/sessiond.v1.{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut up) = requests.send_request(request, false)?;
        up.send_data(framed(|buffer| Ok(first.encode(buffer)?))?, is_last)?;
        Ok((up, Responses { stream: Stream::Asked(response), buffer: BytesMut::new() }))
    }
}

/// A message with its prefix.
pub fn framed(encode: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(128);
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
        loop {
            if let Some(message) = unframed(&mut self.buffer)? {
                return Ok(message);
            }
            match &mut self.stream {
                Stream::Asked(response) => {
                    let response = response.await?;
                    if response.headers().contains_key("grpc-status") {
                        return Err(status(response.headers()).into());
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
                        return Err(status(&trailers).into());
                    }
                },
            }
        }
    }
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

fn status(trailers: &HeaderMap) -> String {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    format!("a stream ended with status {}, message {}", text("grpc-status"), text("grpc-message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content: &'static [u8]) -> Bytes {
        framed(|buffer| {
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
        assert_eq!(status(&trailers), "a stream ended with status 8, message none");
    }
}
