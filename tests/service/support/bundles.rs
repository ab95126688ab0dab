//! Streams that carry several sessions, as tests read and write them. Every update is applied to the
//! [`Rebuilt`] of its session.

use super::{GLANCE, Rebuilt, Refused, Service, Step, in_time, node_of, sent, streams::Ending};
use prost::Message;
use sessiond::proto::{self, SnapshotReason, stream_user_props_request::Message as Up};
use std::collections::{BTreeMap, HashMap};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// What came in one message.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The steps that it completed, with their sessions.
    pub steps: Vec<(String, Step)>,
    /// What it acknowledged.
    pub acked_seq: u64,
    /// What it refused.
    pub refusals: Vec<proto::Refusal>,
    /// How many updates it had.
    pub updates: usize,
    go_away: Option<proto::GoAway>,
    user_id: String,
}

impl Parcel {
    /// The sessions that it completed a step of.
    pub fn sessions(&self) -> Vec<&str> {
        self.steps.iter().map(|(session, _)| &**session).collect()
    }

    /// The step of a session, which it completed.
    #[track_caller]
    pub fn step(&self, session: &str) -> &Step {
        let of_session = self.steps.iter().find(|(of, _)| of == session);
        &of_session.unwrap_or_else(|| panic!("{session} says something: {self:?}")).1
    }

    /// How a session ended in it.
    #[track_caller]
    pub fn end_of(&self, session: &str) -> proto::EndReason {
        match self.steps.iter().rfind(|(of, _)| of == session) {
            Some((_, Step::Ended(ended))) => ended.reason(),
            other => panic!("{session} ends, not {other:?}"),
        }
    }
}

/// The response of a stream that carries several sessions.
pub trait Response: Message + Default {
    /// The updates, and a parcel of what there is beside them.
    fn parts(self) -> (Vec<proto::SessionDelivery>, Parcel);
}

impl Response for proto::StreamUserPropsResponse {
    fn parts(self) -> (Vec<proto::SessionDelivery>, Parcel) {
        let Self { updates, acked_seq, refusals, go_away, user_id } = self;
        (updates, Parcel { acked_seq, refusals, go_away, user_id, ..Parcel::default() })
    }
}

impl Response for proto::ReceiveSessionUpdatesResponse {
    fn parts(self) -> (Vec<proto::SessionDelivery>, Parcel) {
        let Self { updates, go_away } = self;
        (updates, Parcel { go_away, ..Parcel::default() })
    }
}

/// A stream that carries several sessions.
#[derive(Debug)]
pub struct Bundle<T> {
    up: Option<mpsc::UnboundedSender<proto::StreamUserPropsRequest>>,
    down: Streaming<T>,
    /// The sessions' names, by the client's numbers.
    names: HashMap<u32, String>,
    copies: BTreeMap<String, Rebuilt>,
    /// How many messages came.
    pub messages: usize,
    /// What was acknowledged.
    pub acked_seq: u64,
    /// What was refused.
    pub refusals: Vec<proto::Refusal>,
    /// Whose stream it is, as the first message said.
    pub user_id: String,
    seq: u64,
    go_away: Option<proto::GoAway>,
}

/// A stream of props with several subscriptions.
pub type Several = Bundle<proto::StreamUserPropsResponse>;

/// All sessions of a user.
pub type Receiver = Bundle<proto::ReceiveSessionUpdatesResponse>;

impl<T: Response> Bundle<T> {
    fn new(down: Streaming<T>) -> Self {
        Self {
            up: None,
            down,
            names: HashMap::new(),
            copies: BTreeMap::new(),
            messages: 0,
            acked_seq: 0,
            refusals: Vec::new(),
            user_id: String::new(),
            seq: 0,
            go_away: None,
        }
    }

    /// What the client knew of a session before.
    pub fn remember(&mut self, session: &str, before: &Rebuilt) {
        self.copies.insert(session.to_owned(), before.again());
    }

    /// A session as the client knows it.
    #[track_caller]
    pub fn copy(&self, session: &str) -> &Rebuilt {
        self.copies.get(session).unwrap_or_else(|| panic!("{session} is carried"))
    }

    /// Whether the client has a copy of a session.
    pub fn carries(&self, session: &str) -> bool {
        self.copies.contains_key(session)
    }

    fn apply(&mut self, message: T) -> Parcel {
        assert!(message.encoded_len() <= 1024 * 1024, "no message is larger than 1 MiB");
        let (updates, mut parcel) = message.parts();
        self.messages += 1;
        match self.messages {
            1 => self.user_id.clone_from(&parcel.user_id),
            _ => assert_eq!(parcel.user_id, "", "only the first message says it"),
        }
        parcel.updates = updates.len();
        for delivery in updates {
            let session = match delivery.handle {
                0 => delivery.session_id.clone(),
                handle => self.names[&handle].clone(),
            };
            let only_one = delivery.handle == 0 || delivery.session_id.is_empty();
            assert!(only_one && !session.is_empty(), "{delivery:?}");
            let copy = self.copies.entry(session.clone()).or_default();
            let step = copy.apply(delivery.update.expect("a delivery has an update"));
            if matches!(step, Some(Step::Ended(_))) {
                self.copies.remove(&session);
            }
            parcel.steps.extend(step.map(|step| (session, step)));
        }
        if parcel.acked_seq > 0 {
            assert!(self.acked_seq < parcel.acked_seq && parcel.acked_seq <= self.seq, "acks rise");
            self.acked_seq = parcel.acked_seq;
        }
        self.refusals.extend(parcel.refusals.iter().cloned());
        self.go_away = parcel.go_away.clone().or(self.go_away.take());
        parcel
    }

    /// The next message, or how the stream ended.
    pub async fn next_message(&mut self) -> Result<Parcel, Status> {
        let message = in_time(self.down.message()).await?;
        Ok(self.apply(message.ok_or_else(|| Status::ok("the stream is over"))?))
    }

    /// The next message.
    pub async fn next(&mut self) -> Parcel {
        self.next_message().await.expect("the stream goes on")
    }

    /// A message that is there or about to come; none = nothing came for a short while.
    pub async fn glance(&mut self) -> Option<Parcel> {
        let message = timeout(GLANCE, self.down.message()).await.ok()?;
        Some(self.apply(message.expect("the stream goes on").expect("the stream goes on")))
    }

    /// Ticks, and reads what comes, until the client has seen something.
    pub async fn tick_until(&mut self, service: &Service, seen: impl Fn(&Self) -> bool) {
        in_time(async {
            while !seen(self) {
                service.tick();
                while !seen(self) && self.glance().await.is_some() {}
            }
        })
        .await;
    }

    /// Reads on to the end; returns the last message with updates too.
    pub async fn end(&mut self) -> (Parcel, Ending) {
        let (mut last, mut ended) = (Parcel::default(), None);
        let status = loop {
            match self.next_message().await {
                Ok(parcel) => {
                    ended = parcel.steps.iter().rev().find_map(|(_, step)| match step {
                        Step::Ended(ended) => Some(ended.clone()),
                        _ => None,
                    });
                    if parcel.updates > 0 {
                        last = parcel;
                    }
                }
                Err(status) => break status,
            }
        };
        let go_away = self.go_away.take();
        (last, Ending { ended: ended.filter(|_| go_away.is_none()), go_away, status })
    }

    /// How the stream is refused.
    pub async fn refused(&mut self) -> Refused {
        loop {
            if let Err(status) = self.next_message().await {
                return Refused::new(&status);
            }
        }
    }
}

impl Several {
    /// Sends a message under the next number, which it returns.
    pub fn send(&mut self, message: Up) -> u64 {
        self.seq += 1;
        let up = self.up.as_ref().expect("the sending side is open");
        let message = Some(message);
        let _ = up.send(proto::StreamUserPropsRequest { seq: self.seq, message });
        self.seq
    }

    /// Sends a write; returns its number.
    pub fn write(&mut self, write: proto::PropsWrite) -> u64 {
        self.send(Up::Write(write))
    }

    /// Closes the sending side.
    pub fn close(&mut self) {
        self.up = None;
    }

    /// Ticks until a message that was sent has been dealt with.
    pub async fn until_acked(&mut self, service: &Service, seq: u64) {
        self.tick_until(service, |it| it.acked_seq >= seq).await;
    }
}

/// A member's stream of props with several subscriptions, numbered from 1.
pub fn several_open(user: &str, sessions: &[&str]) -> proto::StreamOpen {
    let subscription = |(at, session): (usize, &&str)| proto::SessionSubscription {
        handle: at as u32 + 1,
        session_id: session.to_string(),
        ..Default::default()
    };
    proto::StreamOpen {
        user_id: user.to_owned(),
        subscriptions: sessions.iter().enumerate().map(subscription).collect(),
        ..Default::default()
    }
}

/// The same, which joins all of them.
pub fn several_joining(user: &str, sessions: &[&str]) -> proto::StreamOpen {
    let mut open = several_open(user, sessions);
    for subscription in &mut open.subscriptions {
        subscription.join = Some(proto::JoinOptions::default());
    }
    open
}

/// What asks for all sessions of a user.
pub fn receiving(user: &str) -> proto::ReceiveSessionUpdatesRequest {
    proto::ReceiveSessionUpdatesRequest { user_id: user.to_owned(), ..Default::default() }
}

impl Service {
    /// Opens a stream of a member's props and of sessions' updates, with their snapshots applied.
    pub async fn several(&self, user: &str, sessions: &[&str]) -> Several {
        let mut stream = self.open_several(several_open(user, sessions)).await;
        let first = stream.next().await;
        assert_eq!(first.sessions(), sessions, "all come in the first message");
        for (_, step) in first.steps {
            assert_eq!(step, Step::Snapshot(SnapshotReason::First));
        }
        stream
    }

    /// Opens a stream with any first message; nothing is read yet.
    pub async fn open_several(&self, open: proto::StreamOpen) -> Several {
        let (up, outbox) = mpsc::unbounded_channel();
        let outbox = UnboundedReceiverStream::new(outbox);
        let answer = in_time(self.delivery().stream_user_props(outbox)).await;
        let mut stream = Several::new(node_of(answer.expect("refused in its trailers")));
        let named = open.subscriptions.iter().map(|it| (it.handle, it.session_id.clone()));
        stream.names = named.collect();
        stream.up = Some(up);
        stream.send(Up::Open(open));
        stream
    }

    /// Receives all sessions of a user; the first message is read.
    pub async fn receive(&self, user: &str) -> Receiver {
        let mut stream = self.receive_with(receiving(user)).await;
        for (_, step) in stream.next().await.steps {
            assert_eq!(step, Step::Snapshot(SnapshotReason::First));
        }
        stream
    }

    /// Receives all sessions of a user; nothing is read yet.
    pub async fn receive_with(&self, request: proto::ReceiveSessionUpdatesRequest) -> Receiver {
        let answer = in_time(self.delivery().receive_session_updates(sent(request))).await;
        Receiver::new(node_of(answer.expect("refused in its trailers")))
    }
}
