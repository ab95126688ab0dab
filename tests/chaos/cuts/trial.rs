//! One connection that something happens to, in a session of its own.

use super::{Kind, client::Client};
use crate::{
    in_time,
    proxy::{Fault, Proxy, Way},
    rebuilt::{Rebuilt, State, Step},
    values::{int, list, write},
};
use sessiond::proto::{
    self, DeliveryOptions, OpenSharedSessionRequest, PropsWrite, SetUserPropsRequest,
    delivery_service_client::DeliveryServiceClient,
    object_stream_service_client::ObjectStreamServiceClient,
    session_service_client::SessionServiceClient,
};
use std::{net::SocketAddr, time::Duration};
use tonic::{Streaming, transport::Channel};

/// How many writes there are at least: more where the client is cut off meanwhile.
const WRITES: i64 = 12;

/// How long anything may take, however often the client has to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key that counts the writes.
pub const COUNT: &str = "count";

/// What to try.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub number: u64,
    pub kind: Kind,
    pub fault: Fault,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    trials: u64,
    /// How many connections were cut as planned.
    pub cuts: u64,
    /// How often a client came back with a position, and was told only what is new.
    pub resumed: u64,
    /// How many writes were checked.
    writes: i64,
    /// What passed, up and down.
    pub bytes: [u64; 2],
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.cuts += other.cuts;
        self.resumed += other.resumed;
        self.writes += other.writes;
        self.bytes[0] += other.bytes[0];
        self.bytes[1] += other.bytes[1];
    }
}

impl Trial {
    pub async fn run(self, server: SocketAddr, direct: Channel) -> Outcome {
        let _named = Named(self);
        in_time(PATIENCE, self.try_it(server, direct)).await.expect("the client gets there")
    }

    async fn try_it(self, server: SocketAddr, direct: Channel) -> Outcome {
        let mut stage = Stage::open(self.kind, self.number, direct).await;
        let proxy = Proxy::start(server, self.fault).await;
        let mut client = Client::new(self.kind, &stage, proxy.address);
        match self.kind {
            Kind::Props | Kind::Unary => {
                for _ in 0..WRITES / 2 {
                    client.write(2).await;
                    stage.count += 2;
                }
                stage.check_log().await;
            }
            _ => {
                for _ in 0..WRITES {
                    stage.write().await;
                    while !client.has(stage.count) {
                        if !client.step().await {
                            // Something happens while it is away.
                            stage.write().await;
                        }
                    }
                }
            }
        }
        client.check_count(stage.count);
        if !matches!(self.kind, Kind::Objects | Kind::Unary) {
            for session in &stage.sessions {
                // Who is connected may be about to be shown.
                while stage.truth(client.delivery(), session).await != *client.state(session) {
                    client.step().await;
                }
            }
        }
        let (is_cut, resumed) = (proxy.passed.is_cut(), client.resumed);
        let bytes = [Way::Up, Way::Down].map(|way| proxy.passed.bytes(way));
        drop((client, proxy));
        stage.close().await;
        Outcome { trials: 1, cuts: is_cut.into(), resumed, writes: stage.count, bytes }
    }
}

/// Says which trial failed.
struct Named(Trial);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {:?}", self.0);
        }
    }
}

/// The sessions of a trial, and what is done to them over a connection that nothing happens to.
pub struct Stage {
    kind: Kind,
    direct: Channel,
    pub sessions: Vec<String>,
    pub writer: String,
    pub reader: String,
    /// How many writes were made.
    pub count: i64,
    /// Every write in the first session, where the client writes.
    log: Option<Log>,
}

/// Every update of a session, to somebody whom nothing happens to.
struct Log {
    down: Streaming<proto::SubscribeToSessionResponse>,
    copy: Rebuilt,
}

impl Log {
    async fn step(&mut self) -> Step {
        loop {
            let message = self.down.message().await.expect("it goes on").expect("it goes on");
            let step = self.copy.apply(message.update.expect("every message has an update"));
            if let Some(step) = step {
                return step;
            }
        }
    }
}

impl Stage {
    async fn open(kind: Kind, number: u64, direct: Channel) -> Self {
        let name = format!("{kind:?}-{number}");
        let (writer, reader) = (format!("writer-{name}"), format!("reader-{name}"));
        let mut sessions = match kind {
            Kind::Receive => vec![format!("{name}-a"), format!("{name}-b")],
            Kind::User | Kind::Objects => vec![],
            _ => vec![name.clone()],
        };
        let mut calls = SessionServiceClient::new(direct.clone());
        for session in &sessions {
            let users = if kind == Kind::Receive { vec![reader.clone()] } else { vec![] };
            let open = OpenSharedSessionRequest {
                user_id: writer.clone(),
                session_id: session.clone(),
                users,
                ..Default::default()
            };
            calls.open_shared_session(open).await.expect("it opens");
        }
        if kind == Kind::User {
            let open = proto::OpenPrivateSessionRequest {
                user_id: writer.clone(),
                session_id: name.clone(),
                source_id: writer.clone(),
                listener_id: reader.clone(),
                ..Default::default()
            };
            calls.open_private_session(open).await.expect("it opens");
            sessions.push(name.clone());
        }
        if kind == Kind::Objects {
            let set = proto::SetStreamRequest {
                user_id: writer.clone(),
                name: name.clone(),
                object: [(COUNT.to_owned(), int(0)), ("list".to_owned(), list(vec![]))].into(),
                ..Default::default()
            };
            let mut objects = ObjectStreamServiceClient::new(direct.clone());
            objects.set_stream(set).await.expect("it is set");
            sessions.push(name.clone());
        }
        let log = if matches!(kind, Kind::Props | Kind::Unary) {
            let all = subscription(&sessions[0], &writer, proto::Delivery::All);
            let mut delivery = DeliveryServiceClient::new(direct.clone());
            let down = delivery.subscribe_to_session(all).await.expect("it opens").into_inner();
            let mut log = Log { down, copy: Rebuilt::default() };
            assert_eq!(log.step().await, Step::Snapshot(proto::SnapshotReason::First));
            Some(log)
        } else {
            None
        };
        if kind == Kind::Unary {
            let join = proto::JoinSessionRequest {
                user_id: reader.clone(),
                session_id: sessions[0].clone(),
                ..Default::default()
            };
            calls.join_session(join).await.expect("it joins");
        }
        Self { kind, direct, sessions, writer, reader, count: 0, log }
    }

    /// Counts on, where the client reads.
    async fn write(&mut self) {
        self.count += 1;
        let count = int(self.count);
        if self.kind == Kind::Objects {
            let update = proto::UpdateStreamDataRequest {
                user_id: self.writer.clone(),
                name: self.sessions[0].clone(),
                set: [(COUNT.to_owned(), count.clone())].into(),
                append: [("list".to_owned(), list(vec![count]))].into(),
                ..Default::default()
            };
            let mut objects = ObjectStreamServiceClient::new(self.direct.clone());
            objects.update_stream_data(update).await.expect("it is written");
            return;
        }
        // A key that comes and goes too, so that removals have to be told.
        let other = format!("other-{}", self.count % 3);
        let gone = format!("other-{}", (self.count + 1) % 3);
        let write = PropsWrite {
            remove: vec![gone],
            session_ids: self.sessions.clone(),
            ..write([(COUNT, count.clone()), (&other, count)])
        };
        let request = SetUserPropsRequest {
            user_id: self.writer.clone(),
            write: Some(write),
            ..Default::default()
        };
        let mut calls = SessionServiceClient::new(self.direct.clone());
        let results = calls.set_user_props(request).await.expect("it is written").into_inner();
        assert!(results.results.iter().all(|it| it.position.is_some()), "{results:?}");
    }

    /// Every write of the client was made once, in order.
    async fn check_log(&mut self) {
        let expected: Vec<i64> = (1..=self.count).collect();
        let log = self.log.as_mut().expect("where the client writes, all is watched");
        let mut seen = Vec::new();
        while seen.last() != expected.last() {
            let step = log.step().await;
            assert!(!matches!(step, Step::Snapshot(_)), "the log has all: {step:?}");
            seen.extend(counts(&step, &self.reader));
        }
        assert_eq!(seen, expected, "every write is made once, in order");
    }

    /// What somebody sees who comes to read just now, as the client reads.
    async fn truth(&self, delivery: proto::Delivery, session: &str) -> State {
        let mut calls = DeliveryServiceClient::new(self.direct.clone());
        let request = subscription(session, &self.reader, delivery);
        let down = calls.subscribe_to_session(request).await.expect("it opens").into_inner();
        let mut fresh = Log { down, copy: Rebuilt::default() };
        fresh.step().await;
        fresh.copy.state
    }

    async fn close(&mut self) {
        self.log = None;
        let mut calls = SessionServiceClient::new(self.direct.clone());
        for session_id in &self.sessions {
            if self.kind == Kind::Objects {
                let remove = proto::RemoveStreamRequest {
                    user_id: self.writer.clone(),
                    name: session_id.clone(),
                    ..Default::default()
                };
                let mut objects = ObjectStreamServiceClient::new(self.direct.clone());
                objects.remove_stream(remove).await.expect("it is removed");
                continue;
            }
            let delete = proto::DeleteSessionRequest {
                user_id: self.writer.clone(),
                session_id: session_id.clone(),
                ..Default::default()
            };
            calls.delete_session(delete).await.expect("it ends");
        }
    }
}

pub fn subscription(
    session: &str,
    user: &str,
    delivery: proto::Delivery,
) -> proto::SubscribeToSessionRequest {
    let options = DeliveryOptions { delivery: delivery.into(), ..Default::default() };
    proto::SubscribeToSessionRequest {
        user_id: user.to_owned(),
        session_id: session.to_owned(),
        options: Some(options),
        ..Default::default()
    }
}

/// The counts that a user wrote in a step of a log.
pub fn counts(step: &Step, user: &str) -> Vec<i64> {
    let Step::Log { updates, .. } = step else { return Vec::new() };
    let changes = updates.iter().filter_map(|update| update.change.as_ref());
    let members = changes.flat_map(|change| &change.members).filter(|it| it.user_id == user);
    let props = members.flat_map(|member| &member.props).filter(|prop| prop.name == COUNT);
    props.filter_map(count).collect()
}

/// A count, as a value.
pub fn count(value: &proto::NamedValue) -> Option<i64> {
    match value.kind {
        Some(proto::named_value::Kind::Integer(count)) => Some(count),
        _ => None,
    }
}
