//! Calls whose app may move while they are on their way: a node that does not have it says so, and they
//! go to the next one, as long as nothing of them was done.

use super::{
    failure::NotDone,
    first::First,
    peers::{NodeAddress, Peers},
    request::Introduced,
    stream::Forwarded,
};
use crate::{
    engine::End,
    grpc::{
        self,
        delivery::{
            CallHead, Via,
            ending::{Ending, Why},
            hot::{HotStream, Next},
        },
        error::Refusal,
    },
    server::part::Part,
    session::limits::Micros,
};
use bytes::Bytes;
use http::Response;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Status, body::Body};

/// How long a call looks for the node that has its app.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// After how long it looks again, at the latest.
const PAUSE: Duration = Duration::from_millis(100);

/// Which node has an app.
#[derive(Debug, Clone)]
pub enum Place {
    /// This one, and this is what answers.
    Here(Arc<Part>),
    /// Another one, whose port of nodes is there.
    There(NodeAddress),
    /// None, at the moment.
    Nowhere,
}

/// Knows which node has an app, now and later.
pub trait Places: Send + Sync + 'static {
    /// Which one has it now. Without an app: which one does what the people who run the server ask.
    fn place(&self, app: Option<&str>) -> Place;

    /// Waits until it may be another one.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Waits until it is worth looking again.
async fn pause(places: &dyn Places) {
    tokio::select! {
        () = sleep(PAUSE) => {}
        () = places.changed() => {}
    }
}

/// A call with one message up, as it is sent on.
pub struct Whole<'a> {
    /// The path.
    pub path: &'a str,
    /// The app that it names.
    pub app: Option<&'a str>,
    /// Who makes it.
    pub caller: &'a Introduced,
    /// The message, with its prefix.
    pub message: &'a Bytes,
    /// It is over then.
    pub deadline: Option<Micros>,
}

impl Peers {
    /// The reply to a call by the node that has its app; if that is this one, `here` makes it, or nothing
    /// if the app is being handed over. Without a node for so long the call is refused.
    pub async fn call_at<F: Future<Output = Option<Response<Body>>>>(
        &self,
        (places, patience): (&dyn Places, Duration),
        call: Whole<'_>,
        here: impl Fn(Arc<Part>) -> F,
    ) -> Response<Body> {
        let Whole { path, app, caller, message, deadline } = call;
        let until = Instant::now() + patience;
        loop {
            let not_done = match places.place(app) {
                Place::Here(part) => match here(part).await {
                    Some(reply) => return reply,
                    None => NotDone("the app is being handed over".to_owned()),
                },
                Place::Nowhere => NotDone("no node has the app".to_owned()),
                Place::There(to) => {
                    match self.call(&to, path, caller, message.clone(), deadline).await {
                        Ok(reply) => return reply,
                        Err(not_done) => not_done,
                    }
                }
            };
            tracing::debug!(%not_done, path, "a call was not sent on");
            tokio::select! {
                found = timeout_at(until, pause(places)) => if found.is_err() {
                    return not_done.status(self.server()).into_http();
                },
                () = self.server().stopping.cancelled() => {
                    return Ending::new(self.server(), End::Draining.into()).status.into_http();
                }
            }
        }
    }
}

/// A stream that goes to the node that has its app.
pub struct Sought {
    peers: Peers,
    places: Arc<dyn Places>,
    /// None = it is here.
    head: Option<CallHead>,
    /// The app that its first message names, once that is there.
    app: String,
    until: Instant,
    is_closed: bool,
    state: State,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State {
    /// The first message is not there yet.
    Reading(First),
    /// What its client has sent until then.
    Seeking(Wait, Vec<Bytes>),
    There(Box<Forwarded>),
    Here(Box<dyn HotStream>),
}

impl fmt::Debug for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sought").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Sought {
    /// A stream that begins.
    pub fn new(
        peers: Peers,
        (places, patience): (Arc<dyn Places>, Duration),
        head: CallHead,
    ) -> Self {
        let first = First::new(peers.server(), &head);
        Self {
            peers,
            places,
            head: Some(head),
            app: String::new(),
            until: Instant::now() + patience,
            is_closed: false,
            state: State::Reading(first),
        }
    }

    fn server(&self) -> &Arc<grpc::Context> {
        self.peers.server()
    }

    /// Looks for the node until it is found; returns the status if it is not.
    fn seek(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        loop {
            let sent = match &mut self.state {
                State::Reading(first) => {
                    match ready!(first.poll_app(self.is_closed, cx)) {
                        Ok(app) => self.app = app,
                        Err(why) => {
                            return Poll::Ready(Err(Ending::new(self.server(), why).status));
                        }
                    }
                    first.take()
                }
                State::Seeking(wait, sent) => {
                    ready!(wait.as_mut().poll(cx));
                    std::mem::take(sent)
                }
                State::There(_) | State::Here(_) => return Poll::Ready(Ok(())),
            };
            let Some(head) = &self.head else { return Poll::Ready(Ok(())) };
            if let Some(end) = self.end(head.deadline) {
                return Poll::Ready(Err(end));
            }
            let place = self.places.place(Some(&self.app));
            match place {
                Place::Here(part) => {
                    let Some(head) = self.head.take() else { return Poll::Ready(Ok(())) };
                    self.state = State::Here(part.stream(head));
                }
                // A call that was sent on goes no further.
                _ if head.via == Via::Node => {
                    return Poll::Ready(Err(self.server().node.status(&Refusal::NotOwner)));
                }
                Place::There(to) => {
                    let stream = Box::new(self.peers.stream(&to, head));
                    self.state = State::There(stream);
                }
                Place::Nowhere if Instant::now() >= self.until => {
                    let not_done = NotDone("no node has the app".to_owned());
                    return Poll::Ready(Err(not_done.status(self.server())));
                }
                Place::Nowhere => {
                    self.wait(sent);
                    continue;
                }
            }
            let is_closed = self.is_closed;
            if let Some(stream) = self.stream() {
                sent.into_iter().for_each(|data| stream.take_in(data));
                if is_closed {
                    stream.closed();
                }
            }
        }
    }

    /// Looks again soon.
    fn wait(&mut self, sent: Vec<Bytes>) {
        let places = self.places.clone();
        self.state = State::Seeking(Box::pin(async move { pause(&*places).await }), sent);
    }

    /// How it ends although it is still looked for.
    fn end(&self, deadline: Option<Micros>) -> Option<Status> {
        let server = self.server();
        if server.stopping.is_cancelled() {
            return Some(Ending::new(server, End::Draining.into()).status);
        }
        let is_late = deadline.is_some_and(|at| at <= server.engine.clock().now());
        is_late.then(|| Ending::new(server, Why::Deadline).status)
    }

    fn stream(&mut self) -> Option<&mut dyn HotStream> {
        match &mut self.state {
            State::Reading(_) | State::Seeking(..) => None,
            State::There(stream) => Some(&mut **stream),
            State::Here(stream) => Some(&mut **stream),
        }
    }

    /// Goes to another node if nothing was done at the one where it has ended.
    fn goes_on(&mut self) -> bool {
        let State::There(stream) = &mut self.state else { return false };
        if Instant::now() >= self.until {
            return false;
        }
        let Some(sent) = stream.take_back() else { return false };
        self.wait(sent);
        true
    }
}

impl HotStream for Sought {
    fn take_in(&mut self, data: Bytes) {
        match &mut self.state {
            State::Reading(first) => first.push(data),
            State::Seeking(_, sent) => sent.push(data),
            State::There(stream) => stream.take_in(data),
            State::Here(stream) => stream.take_in(data),
        }
    }

    fn closed(&mut self) {
        self.is_closed = true;
        if let Some(stream) = self.stream() {
            stream.closed();
        }
    }

    fn waiting(&self) -> usize {
        match &self.state {
            State::Reading(first) => first.len(),
            State::Seeking(_, sent) => sent.iter().map(Bytes::len).sum(),
            State::There(stream) => stream.waiting(),
            State::Here(stream) => stream.waiting(),
        }
    }

    fn is_full(&self) -> bool {
        match &self.state {
            State::Reading(_) => false,
            State::Seeking(_, sent) => !sent.is_empty(),
            State::There(stream) => stream.is_full(),
            State::Here(stream) => stream.is_full(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Err(status) = ready!(self.seek(cx)) {
                return Poll::Ready(Next::End(status));
            }
            let Some(stream) = self.stream() else { return Poll::Pending };
            let next = ready!(stream.poll_next(cx));
            if !matches!(next, Next::End(_)) || !self.goes_on() {
                return Poll::Ready(next);
            }
        }
    }

    fn poll_over(&mut self, blocked_since: Micros, cx: &mut Context<'_>) -> Poll<Status> {
        if let Err(status) = ready!(self.seek(cx)) {
            return Poll::Ready(status);
        }
        match self.stream() {
            Some(stream) => stream.poll_over(blocked_since, cx),
            None => Poll::Pending,
        }
    }
}
