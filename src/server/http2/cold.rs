//! Calls that tonic answers: one message up, read whole before anything is done, and one down, or some
//! to a client that watches the health; and the streams of reflection, which are few and short.

use super::{
    account::{Account, Piece, Room, Unread},
    outbox::{Gone, Outbox},
};
use crate::{
    engine::End,
    grpc::{
        RequestBytes,
        delivery::{Seat, ending::Why, hot::header_bytes},
        encode::PREFIX,
        error::Refusal,
        room,
    },
    server::router::Router,
    session::limits::Micros,
};
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

/// One call.
pub struct ColdCall {
    pub router: Arc<Router>,
    pub account: Arc<Account>,
    pub seat: Seat,
    /// The call is over then.
    pub deadline: Micros,
    pub is_reflection: bool,
    pub respond: SendResponse<Piece>,
}

impl ColdCall {
    /// Answers it, unless the client goes.
    pub async fn serve(mut self, request: Request<RecvStream>) {
        let router = self.router.clone();
        // The request is read no longer than until here.
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let answer = tokio::select! {
            biased;
            answer = answer(&router, &self.account, self.deadline, self.seat, (request, over)) => answer,
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => return,
            () = router.engine().sleep_until(self.seat.worker, self.deadline) => {
                router.end(self.late()).into_http()
            }
        };
        self.reply(answer).await;
    }

    /// Why it is over at its deadline.
    fn late(&self) -> Why {
        if self.is_reflection { Why::Age } else { Why::Deadline }
    }

    /// Sends a reply, unless the client goes.
    pub async fn reply(self, answer: Response<Body>) {
        let answer = self.router.finish(answer);
        let _gone = self.send(answer).await;
    }

    /// Refuses the call, once its message has come in: what comes for a call that was answered before is
    /// a fault to h2, which ends a connection with many of them, and with it the calls that go on.
    pub async fn refuse(self, answer: Response<Body>, mut request: RecvStream, is_unary: bool) {
        let message = async {
            let mut read = 0;
            while let Some(Ok(piece)) = request.data().await {
                let _ = request.flow_control().release_capacity(piece.len());
                read += piece.len();
                if !is_unary || read > UNWANTED_BYTES {
                    return;
                }
            }
        };
        // A client that takes longer hears of it before.
        let _ = timeout(UNWANTED, message).await;
        self.reply(answer).await;
    }

    async fn send(mut self, answer: Response<Body>) -> Result<(), Gone> {
        let (parts, mut body) = answer.into_parts();
        let head = Response::from_parts(parts, ());
        let is_over = body.is_end_stream();
        let send = self.respond.send_response(head, is_over).map_err(|_| Gone)?;
        if is_over {
            return Ok(());
        }
        let mut outbox = Outbox::new(send, &self.account);
        let mut is_full = false;
        loop {
            if is_full {
                let ready = self.sendable(&mut outbox).await?;
                if let Err(why) = ready {
                    outbox.end(&self.router.end(why));
                    return Ok(());
                }
            }
            let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending if outbox.is_given_up(cx) => Poll::Ready(Err(Gone)),
                Poll::Pending => Poll::Pending,
            });
            let is_reflection = self.is_reflection;
            let frame = tokio::select! {
                biased;
                frame = frame => frame?,
                () = self.router.stopping().cancelled(), if is_reflection => {
                    outbox.end(&self.router.end(End::Draining.into()));
                    return Ok(());
                }
                () = self.router.engine().sleep_until(self.seat.worker, self.deadline) => {
                    outbox.end(&self.router.end(self.late()));
                    return Ok(());
                }
            };
            match frame.transpose().map_err(|_| Gone)?.map(http_body::Frame::into_data) {
                Some(Ok(data)) => {
                    outbox.push(data);
                    is_full = true;
                }
                Some(Err(frame)) => {
                    outbox.end_with(frame.into_trailers().ok());
                    return Ok(());
                }
                None => {
                    outbox.end_with(None);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until the last message is on its way; a client that takes none for too long is given up.
    async fn sendable(&self, outbox: &mut Outbox) -> Result<Result<(), Why>, Gone> {
        let engine = self.router.engine();
        let slow_at = engine.clock().now() + self.router.slow_limit();
        let until = slow_at.min(self.deadline);
        let stops = async {
            self.router.stopping().cancelled().await;
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            biased;
            ready = poll_fn(|cx| outbox.poll_sent(cx)) => Ok(Ok(ready?)),
            () = stops => Ok(Err(End::Draining.into())),
            () = engine.sleep_until(self.seat.worker, until) => Ok(Err(match until == slow_at {
                true => Why::Slow,
                false => self.late(),
            })),
        }
    }
}

/// What comes of a request.
async fn answer(
    router: &Router,
    account: &Arc<Account>,
    deadline: Micros,
    seat: Seat,
    (request, over): (Request<RecvStream>, CancellationToken),
) -> Response<Body> {
    let engine = router.engine();
    let path = request.uri().path().to_owned();
    let (mut parts, body) = request.into_parts();
    let headers = header_bytes(&parts.headers);
    let body = if router.takes_one_message(&path) {
        let due_at = engine.clock().now() + router.first_message();
        let mut unread = Unread::new(account);
        unread.set(headers);
        let message = tokio::select! {
            biased;
            message = whole(body, router.max_request_bytes(), (&mut unread, headers)) => message,
            () = router.stopping().cancelled() => {
                return router.end(End::Draining.into()).into_http();
            }
            () = engine.sleep_until(seat.worker, due_at.min(deadline)) => {
                let why = if due_at <= deadline { Why::NoMessage } else { Why::Deadline };
                return router.end(why).into_http();
            }
        };
        match message {
            Ok(Some(message)) => {
                parts.extensions.insert(RequestBytes(message.len()));
                Body::new(Full::new(message))
            }
            Ok(None) => return Status::cancelled("the client has gone").into_http(),
            Err(refusal) => return router.refuse(&refusal).into_http(),
        }
    } else {
        Body::new(Reading { body, over: Box::pin(over.cancelled_owned()) })
    };
    // What is answered waits as a request, not as bytes.
    room::with(Arc::new(RoomOf(account.clone())), async {
        room::wait().await;
        router.call(&path, deadline, Request::from_parts(parts, body)).await
    })
    .await
}

#[derive(Debug)]
struct RoomOf(Arc<Account>);

impl room::MakesRoom for RoomOf {
    fn wait(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut room = Room::new(&self.0);
        Box::pin(poll_fn(move |cx| room.poll(cx)))
    }

    fn has_room(&self) -> bool {
        self.0.has_room()
    }
}

/// The only message of a request with its prefix; none = the client has gone.
async fn whole(
    mut body: RecvStream,
    most: usize,
    (unread, headers): (&mut Unread, usize),
) -> Result<Option<Bytes>, Refusal> {
    let mut message = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return Ok(None) };
        let _ = body.flow_control().release_capacity(piece.len());
        if message.is_empty() && pieces.is_empty() {
            message = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut message));
            pieces.extend_from_slice(&piece);
        }
        let read: &[u8] = if pieces.is_empty() { &message } else { &pieces };
        if let Some(&[_, ref length @ ..]) = read.first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > most {
                return Err(Refusal::MessageTooLarge { most });
            }
            if read.len() > PREFIX + length {
                let fault = "the call takes one message, and another one came";
                return Err(Refusal::Malformed(fault.to_owned()));
            }
        }
        unread.set(headers + read.len());
    }
    if message.is_empty() {
        message = pieces.freeze();
    }
    let is_whole = message.first_chunk::<PREFIX>().is_some_and(|[_, length @ ..]| {
        message.len() == PREFIX + u32::from_be_bytes(*length) as usize
    });
    match is_whole {
        true => Ok(Some(message)),
        false if message.is_empty() => {
            Err(Refusal::Malformed("the call takes one message, and none came".to_owned()))
        }
        false => Err(Refusal::Malformed("it ends in the middle".to_owned())),
    }
}

/// A request that is read as it comes, until the call is over.
struct Reading {
    body: RecvStream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// How long, and how much of it, the message of a call is waited for that is refused.
const UNWANTED: Duration = Duration::from_millis(100);
const UNWANTED_BYTES: usize = 64 * 1024;

/// How long a client has to take a reply once the server stops.
const LAST_WORD: Duration = Duration::from_secs(5);

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, h2::Error>>> {
        let Self { body: request, over } = self.get_mut();
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        request.poll_data(cx).map(|data| {
            Some(data?.and_then(|data| {
                request.flow_control().release_capacity(data.len())?;
                Ok(http_body::Frame::data(data))
            }))
        })
    }
}
