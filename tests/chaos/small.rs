//! Very many very small messages on many streams of one connection, whose client keeps ceasing to read. HTTP/2 has
//! limits against those who do this to do harm; a client that is only busy must never meet them.

use crate::{alone, figure, in_time, server::Server, tell, values::int};
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use prost::Message;
use sessiond::proto::{
    self, JoinOptions, PropsWrite, StreamUserPropsRequest, StreamUserPropsResponse,
    stream_user_props_request::Message as Up,
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::{Sleep, sleep_until},
};

/// How many streams the connection has.
const STREAMS: u64 = 100;

/// The client reads for a while, and then it does not.
const READS: Duration = Duration::from_secs(1);
const PAUSES: Duration = Duration::from_secs(1);

/// The window of the connection, as hyper has it. The client's own limit of small frames that it has not read yet
/// follows from it.
const WINDOW: u32 = 5 * 1024 * 1024;

/// How long it may take in all.
const PATIENCE: Duration = Duration::from_secs(7200);

#[test]
fn small_messages_never_meet_the_limits_of_http2() {
    alone(async {
        let messages: u64 = figure(1_000_000, 4_000);
        let server = Server::start(&["--max-updates-per-second", "1000000"]);
        let socket = TcpStream::connect(server.address).await.expect("it accepts connections");
        socket.set_nodelay(true).expect("it can be set");
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(WINDOW);
        let connecting = builder.handshake(Pausing::new(socket));
        let (client, connection) = connecting.await.expect("it speaks HTTP/2");
        let mut running = JoinSet::new();
        running.spawn(async move { connection.await.map(|()| 0).map_err(|it| it.to_string()) });
        let start = Instant::now();
        let mut client = client.ready().await.expect("it is ready");
        for stream in 0..STREAMS {
            let request = http::Request::post(format!(
                "http://{}/sessiond.v1.DeliveryService/StreamUserProps",
                server.address
            ))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
            let request = request.body(()).expect("a request");
            poll_fn(|cx| client.poll_ready(cx)).await.expect("there is room for a stream");
            let (answer, up) = client.send_request(request, false).expect("it is sent");
            running.spawn(async move {
                // Both ways at once, as a client that writes does.
                let (sent, read) = tokio::join!(send(up, stream, messages), read(answer));
                // How the stream ended says more than that it did.
                read.and_then(|acked| sent.map(|()| acked))
            });
        }
        drop(client);
        let mut acked = 0;
        let all = async {
            while let Some(ended) = running.join_next().await {
                match ended.expect("no stream has panicked") {
                    Ok(count) => acked += count,
                    Err(fault) => panic!("after {:?}: {fault}", start.elapsed()),
                }
            }
        };
        in_time(PATIENCE, all).await.expect("it ends");
        let took = start.elapsed();
        tell(format_args!("{messages} messages on each of {STREAMS} streams in {took:?}"));
        assert_eq!(acked, STREAMS * (messages + 1), "all that was sent is done");
    });
}

/// Opens a session of its own and writes to it, each message in a frame of its own.
async fn send(mut up: SendStream<Bytes>, stream: u64, messages: u64) -> Result<(), String> {
    let session_id = format!("session-{stream}");
    let subscription = proto::SessionSubscription {
        session_id,
        join: Some(JoinOptions::default()),
        open_if_missing: Some(Default::default()),
        ..Default::default()
    };
    let open = proto::StreamOpen {
        user_id: format!("user-{stream}"),
        subscriptions: vec![subscription],
        ..Default::default()
    };
    give(&mut up, StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) }, false).await?;
    for seq in 2..messages + 2 {
        let set = [("x".to_owned(), int(seq as i64))].into();
        let write = PropsWrite { set, ..Default::default() };
        let message = StreamUserPropsRequest { seq, message: Some(Up::Write(write)) };
        give(&mut up, message, seq == messages + 1).await?;
    }
    Ok(())
}

async fn give(
    up: &mut SendStream<Bytes>,
    message: StreamUserPropsRequest,
    is_last: bool,
) -> Result<(), String> {
    let mut bytes = vec![0; 5];
    message.encode(&mut bytes).expect("there is room");
    let length = bytes.len() - 5;
    bytes[1..5].copy_from_slice(&(length as u32).to_be_bytes());
    up.reserve_capacity(bytes.len());
    while up.capacity() < bytes.len() {
        let room = poll_fn(|cx| up.poll_capacity(cx)).await;
        room.ok_or("the stream is over")?.map_err(|error| error.to_string())?;
    }
    up.send_data(bytes.into(), is_last).map_err(|error| error.to_string())
}

/// Reads all that comes; the number up to which all is done.
async fn read(answer: ResponseFuture) -> Result<u64, String> {
    let answer = answer.await.map_err(|error| error.to_string())?;
    let mut down = answer.into_body();
    let (mut bytes, mut acked) = (BytesMut::new(), 0);
    while let Some(data) = down.data().await {
        let data = data.map_err(|error| format!("{error} after {acked} messages"))?;
        let _ = down.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
        while let Some(message) = take(&mut bytes) {
            assert!(message.refusals.is_empty(), "{:?}", message.refusals);
            acked = acked.max(message.acked_seq);
        }
    }
    ended(&mut down).await?;
    Ok(acked)
}

async fn ended(down: &mut RecvStream) -> Result<(), String> {
    let trailers = down.trailers().await.map_err(|error| error.to_string())?;
    let trailers = trailers.ok_or("a stream ends with a status")?;
    let status = trailers.get("grpc-status").ok_or("a stream ends with a status")?;
    if status == "0" { Ok(()) } else { Err(format!("{trailers:?}")) }
}

fn take(bytes: &mut BytesMut) -> Option<StreamUserPropsResponse> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().expect("four bytes")) as usize;
    if bytes.len() < 5 + length {
        return None;
    }
    let message = bytes.split_to(5 + length);
    Some(StreamUserPropsResponse::decode(&message[5..]).expect("a message"))
}

/// A socket that is written to all the time and read from every other second.
struct Pausing {
    socket: TcpStream,
    start: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pausing {
    fn new(socket: TcpStream) -> Self {
        Self { socket, start: Instant::now(), pause: None }
    }

    /// When the pause is over, if there is one now.
    fn pauses_until(&self) -> Option<Instant> {
        let period = READS + PAUSES;
        let into = self.start.elapsed().as_micros() % period.as_micros();
        let into = Duration::from_micros(into as u64);
        (into >= READS).then(|| Instant::now() + (period - into))
    }
}

impl AsyncRead for Pausing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(until) = self.pauses_until() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            std::task::ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pausing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
