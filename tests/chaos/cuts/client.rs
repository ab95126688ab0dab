//! A client that comes back, wherever it is cut off, and continues where it was.

use super::{
    Kind,
    trial::{COUNT, Stage, count, counts, subscription},
};
use crate::{
    in_time,
    rebuilt::{Rebuilt, State, Step},
    server::endpoint,
    values::{int, write},
};
use sessiond::proto::{
    self, Delivery, DeliveryOptions, JoinOptions, PropsWrite, SnapshotReason,
    StreamUserPropsRequest, delivery_service_client::DeliveryServiceClient, named_value,
    object_stream_service_client::ObjectStreamServiceClient,
    session_service_client::SessionServiceClient, stream_user_props_request::Message as Up, value,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Response, Status, Streaming, transport::Channel};

/// After so long without a message, heartbeats included, a client takes its connection for dead.
const SILENCE: Duration = Duration::from_millis(2_500);

/// What a message brings.
enum News {
    /// Updates of sessions; which one is said unless there is only one.
    Updates(Vec<(String, proto::SessionUpdate)>),
    /// The same, and what is done of what was sent.
    Props(proto::StreamUserPropsResponse),
    Objects(proto::SubscribeToStreamsResponse),
}

type Messages = Pin<Box<dyn Stream<Item = Result<News, Status>> + Send>>;

/// What a client knows of one session.
#[derive(Default)]
struct Known {
    copy: Rebuilt,
    /// With ALL: the counts that came, from the first snapshot on.
    log: Vec<i64>,
    /// Whether the next step is the first of a stream that resumes.
    resumes: bool,
}

pub struct Client {
    kind: Kind,
    address: SocketAddr,
    user: String,
    /// Whose count it reads.
    writer: String,
    known: BTreeMap<String, Known>,
    /// What is known of an object: its count and its list.
    object: (i64, Vec<i64>),
    down: Option<Messages>,
    up: Option<mpsc::UnboundedSender<StreamUserPropsRequest>>,
    seq: u64,
    written: i64,
    /// What was sent and is not acked, by count, with its number on the present stream.
    unacked: VecDeque<(i64, u64)>,
    /// How often it came back and was told only what is new.
    pub resumed: u64,
}

impl Client {
    pub fn new(kind: Kind, stage: &Stage, address: SocketAddr) -> Self {
        let known = stage.sessions.iter().map(|it| (it.clone(), Known::default())).collect();
        Self {
            kind,
            address,
            user: stage.reader.clone(),
            writer: stage.writer.clone(),
            known,
            object: (0, Vec::new()),
            down: None,
            up: None,
            seq: 0,
            written: 0,
            unacked: VecDeque::new(),
            resumed: 0,
        }
    }

    pub fn delivery(&self) -> Delivery {
        match self.kind {
            Kind::All | Kind::Receive => Delivery::All,
            _ => Delivery::Latest,
        }
    }

    /// What it knows of a session.
    pub fn state(&self, session: &str) -> &State {
        &self.known[session].copy.state
    }

    /// Whether it has read so far, everywhere.
    pub fn has(&self, count: i64) -> bool {
        if self.kind == Kind::Objects {
            return self.object.0 == count;
        }
        self.known.values().all(|known| self.shown(known) == Some(count))
    }

    fn shown(&self, known: &Known) -> Option<i64> {
        let shown = known.copy.state.members.get(&self.writer)?.props.get(COUNT)?;
        shown.strip_suffix('i').and_then(|count| count.parse().ok())
    }

    /// It got every count once, in order, as far as they come one by one.
    pub fn check_count(&self, last: i64) {
        if self.kind == Kind::Objects {
            assert_eq!(self.object.1, (1..=last).collect::<Vec<_>>());
        }
        if self.delivery() == Delivery::All {
            for known in self.known.values() {
                let first = known.log.first().copied().unwrap_or(last + 1);
                assert_eq!(known.log, (first..=last).collect::<Vec<_>>(), "once each, in order");
            }
        }
    }

    /// Reads one message; comes back if it cannot. False = it was cut off.
    pub async fn step(&mut self) -> bool {
        match in_time(SILENCE, self.read()).await {
            Some(Ok(())) => true,
            Some(Err(status)) => {
                // What the server refuses has details; what the network does has none.
                assert!(status.details().is_empty(), "{status:?}");
                self.lose();
                false
            }
            None => {
                self.lose();
                false
            }
        }
    }

    fn lose(&mut self) {
        self.down = None;
        self.up = None;
    }

    async fn read(&mut self) -> Result<(), Status> {
        if self.down.is_none() {
            let channel = connect(self.address).await?;
            self.open(channel).await?;
        }
        let down = self.down.as_mut().expect("it is open");
        let news = down.next().await.unwrap_or_else(|| Err(Status::ok("it is over")))?;
        match news {
            News::Updates(updates) => {
                for (session, update) in updates {
                    self.take(&session, update);
                }
            }
            News::Props(message) => self.take_props(message),
            News::Objects(message) => self.take_objects(message),
        }
        Ok(())
    }

    /// Writes so many counts at once, and comes back with them until all are acked.
    pub async fn write(&mut self, counts: i64) {
        let new = self.written + 1..=self.written + counts;
        self.written += counts;
        if self.kind == Kind::Unary {
            for count in new {
                while !self.call(count).await {}
            }
            return;
        }
        for count in new {
            self.send(count);
        }
        while !self.unacked.is_empty() {
            self.step().await;
        }
    }

    /// Sends a write up the stream; without one it waits for the next.
    fn send(&mut self, count: i64) {
        self.seq += 1;
        self.unacked.push_back((count, self.seq));
        if let Some(up) = &self.up {
            let message = Some(Up::Write(self.counted(count)));
            let _ = up.send(StreamUserPropsRequest { seq: self.seq, message });
        }
    }

    fn counted(&self, count: i64) -> PropsWrite {
        PropsWrite {
            session_ids: self.known.keys().cloned().collect(),
            request_id: format!("write-{count}"),
            ..write([(COUNT, int(count))])
        }
    }

    /// Writes by a call; false = no answer came, so that nobody knows.
    async fn call(&mut self, count: i64) -> bool {
        let request = proto::SetUserPropsRequest {
            user_id: self.user.clone(),
            write: Some(self.counted(count)),
            ..Default::default()
        };
        let address = self.address;
        let answer = in_time(SILENCE, async {
            let mut calls = SessionServiceClient::new(connect(address).await?);
            calls.set_user_props(request).await
        });
        match answer.await {
            Some(Ok(answer)) => {
                let results = answer.into_inner().results;
                assert!(results.iter().all(|it| it.position.is_some()), "{results:?}");
                true
            }
            Some(Err(status)) => {
                assert!(status.details().is_empty(), "{status:?}");
                false
            }
            None => false,
        }
    }
}

/// Opening, with the place where it was.
impl Client {
    async fn open(&mut self, channel: Channel) -> Result<(), Status> {
        let known = self.known.iter_mut();
        let resume: BTreeMap<String, proto::Resume> = known
            .filter(|(_, known)| known.copy.epoch != 0)
            .map(|(session, known)| {
                known.copy = known.copy.again();
                known.resumes = true;
                (session.clone(), known.copy.resume())
            })
            .collect();
        let session = self.known.keys().next().expect("there is one").clone();
        let mut delivery = DeliveryServiceClient::new(channel.clone());
        let options = DeliveryOptions { delivery: self.delivery().into(), ..Default::default() };
        let join = Some(JoinOptions::default());
        let of_first = resume.get(&session).copied();
        let down: Messages = match self.kind {
            Kind::Latest | Kind::All => {
                let request = proto::SubscribeToSessionRequest {
                    join,
                    resume: of_first,
                    ..subscription(&session, &self.user, self.delivery())
                };
                let answer = delivery.subscribe_to_session(request).await?;
                news(answer, move |message| {
                    let update = message.update.expect("every message has an update");
                    News::Updates(vec![(session.clone(), update)])
                })
            }
            Kind::User => {
                let request = proto::SubscribeToUserRequest {
                    user_id: self.user.clone(),
                    source_id: self.writer.clone(),
                    options: Some(options),
                    resume: of_first,
                    ..Default::default()
                };
                let answer = delivery.subscribe_to_user(request).await?;
                news(answer, move |message| {
                    let update = message.update.expect("every message has an update");
                    News::Updates(vec![(session.clone(), update)])
                })
            }
            Kind::Receive => {
                let request = proto::ReceiveSessionUpdatesRequest {
                    user_id: self.user.clone(),
                    options: Some(options),
                    resume,
                    ..Default::default()
                };
                news(delivery.receive_session_updates(request).await?, |message| {
                    let updates = message.updates.into_iter();
                    let update = |it: proto::SessionDelivery| {
                        (it.session_id, it.update.expect("a delivery has an update"))
                    };
                    News::Updates(updates.map(update).collect())
                })
            }
            Kind::Props => {
                let (up, outbox) = mpsc::unbounded_channel();
                let open = proto::StreamOpen {
                    user_id: self.user.clone(),
                    subscriptions: vec![proto::SessionSubscription {
                        session_id: session,
                        join,
                        options: Some(options),
                        resume: of_first,
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                self.seq = 1;
                let _ = up.send(StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) });
                self.up = Some(up);
                for (count, _) in std::mem::take(&mut self.unacked) {
                    self.send(count);
                }
                let outbox = UnboundedReceiverStream::new(outbox);
                news(delivery.stream_user_props(outbox).await?, News::Props)
            }
            Kind::Objects => {
                let request = proto::SubscribeToStreamsRequest {
                    user_id: self.user.clone(),
                    names: vec![session],
                    interval: Some(prost_types::Duration { seconds: 0, nanos: 2_000_000 }),
                    ..Default::default()
                };
                let mut objects = ObjectStreamServiceClient::new(channel);
                self.object = (0, Vec::new());
                news(objects.subscribe_to_streams(request).await?, News::Objects)
            }
            Kind::Unary => unreachable!("it reads nothing"),
        };
        self.down = Some(down);
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> Result<Channel, Status> {
    let channel = endpoint(address).connect().await;
    channel.map_err(|error| Status::unavailable(error.to_string()))
}

fn news<T: Send + 'static>(
    answer: Response<Streaming<T>>,
    news: impl Fn(T) -> News + Send + 'static,
) -> Messages {
    Box::pin(answer.into_inner().map(move |message| message.map(&news)))
}

/// What comes.
impl Client {
    fn take(&mut self, session: &str, update: proto::SessionUpdate) {
        let known = self.known.get_mut(session).expect("a session of the trial");
        let Some(step) = known.copy.apply(update) else { return };
        match &step {
            Step::Snapshot(reason) => {
                assert_eq!(*reason, SnapshotReason::First, "it has what it needs to go on");
                assert!(!known.resumes, "it goes on where it was");
            }
            Step::Ended(ended) => panic!("nobody ends it: {ended:?}"),
            _ => {}
        }
        if std::mem::take(&mut known.resumes) {
            self.resumed += 1;
        }
        known.log.extend(counts(&step, &self.writer));
    }

    fn take_props(&mut self, message: proto::StreamUserPropsResponse) {
        assert!(message.refusals.is_empty(), "{:?}", message.refusals);
        let session = self.known.keys().next().expect("there is one").clone();
        for delivery in message.updates {
            self.take(&session, delivery.update.expect("a delivery has an update"));
        }
        while self.unacked.front().is_some_and(|(_, seq)| *seq <= message.acked_seq) {
            self.unacked.pop_front();
        }
    }

    fn take_objects(&mut self, message: proto::SubscribeToStreamsResponse) {
        if message.reset {
            self.object = (0, Vec::new());
        }
        for (_, update) in message.updates {
            if update.reset {
                self.object = (0, Vec::new());
            }
            for value in &update.values {
                if let Some(count) = count(value) {
                    self.object.0 = count;
                } else if let Some(named_value::Kind::List(list)) = &value.kind {
                    if update.restarted.contains(&value.name) {
                        self.object.1.clear();
                    }
                    self.object.1.extend(list.items.iter().filter_map(|it| match it.kind {
                        Some(value::Kind::Integer(count)) => Some(count),
                        _ => None,
                    }));
                }
            }
        }
        let (count, list) = &self.object;
        assert_eq!(*list, (1..=*count).collect::<Vec<_>>(), "a message has all of an interval");
    }
}
