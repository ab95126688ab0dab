//! An engine whose clock stands, with a session that is open, and a stream to it as a connection has
//! one.

use super::copy::Copy;
use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use sessiond::{
    engine::{
        Clock, Engine, EngineSettings, HashCost, Live, Passwords,
        encoder::{Encoder, Snapshot, SnapshotReason},
    },
    grpc::{
        Context as Server, Entrance, Leaving, Objects, Runs, Shared, StreamSettings,
        delivery::{
            CallHead, Seat, Via,
            hot::{HotStream, Next},
            stream,
        },
        encode::Wire,
        status::Node,
    },
    identity::Grant,
    object_stream::{self, ObjectStreams},
    session::{
        Opening,
        command::Join,
        ids::{AppId, SessionId, UserId},
        limits::{Limits, SECOND},
        settings::{Keys, Kind, Presence, Settings},
        view::{Class, View},
    },
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};
use tokio_util::sync::CancellationToken;

const BEGIN: u64 = 1_767_225_600_000_000;

/// The length of a tick.
pub const TICK: u64 = 10_000;

/// How long a gateway that does not say is waited for, and a tick more.
const GRACE: u64 = 30 * SECOND + TICK;

/// The most bytes of a message up.
const MOST: usize = 1 << 20;

/// What has threads, and is of no account here.
static SHARED: LazyLock<(Arc<Objects>, Arc<Passwords>)> = LazyLock::new(|| {
    let bounds = object_stream::Bounds { streams: 10, value_bytes: 1024 };
    let runs = Arc::new(Runs::start(Clock::machine()).expect("threads"));
    let objects = Objects::new(ObjectStreams::new(bounds, BEGIN), runs);
    // Nobody hashes: a message with a password waits for ever.
    let passwords = Passwords::start(0, HashCost::LEAST, Clock::machine()).expect("no threads");
    (Arc::new(objects), Arc::new(passwords))
});

/// The statuses UNKNOWN, INTERNAL and DATA_LOSS, which no message may lead to.
pub const FAULTS_OF_SERVER: [i32; 3] = [2, 13, 15];

/// What a stream was told.
#[derive(Debug)]
pub enum Told<R> {
    Message(R),
    /// It is over, with the code of a status.
    End(i32),
}

/// The engine, its one session, and a stream.
pub struct Stage {
    pub engine: Engine,
    pub live: Arc<Live>,
    /// There until the stage goes.
    stream: Option<Box<dyn HotStream>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A gateway that is waited for and its session hold one another, and with them the engine.
        self.stream = None;
        self.engine.advance(GRACE);
    }
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).expect("an id")
}

impl Stage {
    /// With a session `room` of the users `ada`, `bob` and `cid`, and a call of a method.
    pub fn new(method: &str, headers: HeaderMap, updates_per_second: u64) -> Self {
        let limits = Limits { value_bytes: 1024, props_per_user: 32, ..Limits::default() };
        let settings = EngineSettings {
            shards: 1,
            tick: TICK,
            user_ttl: 60 * SECOND,
            max_sessions: 10,
            max_users: 50,
            max_sessions_per_user: 10,
            max_listeners_per_user: 10,
            max_updates_per_second: updates_per_second,
            max_changes_per_second: 1_000_000,
            max_logs_bytes: 1 << 20,
            events: Default::default(),
            max_replay_bytes: 1 << 20,
            keeping: None,
            limits,
            judged: Default::default(),
        };
        let engine = Engine::new(settings, Clock::stepped(BEGIN), Arc::new(Wire::default()));
        let join = || Join { presence: Some(Presence::Explicit), ..Join::default() };
        let app = AppId::new("default").expect("an id");
        let id = SessionId::new("room").expect("an id");
        let opening = Opening {
            opener: Some((user("ada"), join())),
            ..Opening::new(app, id, Kind::Room, Settings::new(TICK, 20))
        };
        let live = engine.open(opening, false).expect("it opens").0.live;
        for name in ["bob", "cid"] {
            engine.join(&live, &user(name), join()).expect("it joins");
        }
        engine.advance(TICK);
        let (objects, passwords) = SHARED.clone();
        let shared = Shared {
            nodes: None,
            objects,
            entrance: Entrance::new(None, 0),
            reflection: false,
            passwords,
            policy: Default::default(),
            limits: Arc::new(engine.settings().limits.clone()),
            node: Arc::new(Node { name: "node".into(), started_at: String::new() }),
            streams: StreamSettings {
                max_request_bytes: MOST,
                max_gateway_bytes: MOST,
                max_gateway_users: 20,
                drain_notice: SECOND,
                heartbeat: 20 * SECOND,
                slow_limit: 30 * SECOND,
                first_message: 10 * SECOND,
                max_age: None,
                drain_spread: SECOND,
            },
            open_subscriptions: false,
            leaving: Leaving::default(),
            stopping: CancellationToken::new(),
        };
        let server = Arc::new(Server { engine: engine.clone(), shared: Arc::new(shared) });
        let call = CallHead {
            path: format!("/sessiond.v1.DeliveryService/{method}"),
            headers,
            grant: Arc::new(Grant::of_anybody()),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
            seat: Seat::default(),
            deadline: None,
            via: Via::Client,
        };
        let stream = Some(stream(&server, call).expect("there is such a call"));
        Self { engine, live, stream }
    }

    /// Sends a message, as whole as it is.
    pub fn send(&mut self, message: &[u8]) {
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
        framed.extend(message);
        self.stream.as_mut().expect("it is there").take_in(Bytes::from(framed));
    }

    /// Lets a tick pass; returns what the stream is told.
    pub fn tick<R: Message + Default>(&mut self) -> Vec<Told<R>> {
        self.engine.advance(TICK);
        let mut cx = Context::from_waker(Waker::noop());
        let mut told = Vec::new();
        let stream = self.stream.as_mut().expect("it is there");
        while let Poll::Ready(next) = stream.poll_next(&mut cx) {
            match next {
                Next::Message(bytes) => {
                    let message = R::decode(&bytes[5..]).expect("what is sent decodes");
                    told.push(Told::Message(message));
                }
                Next::End(status) => {
                    told.push(Told::End(status.code() as i32));
                    break;
                }
            }
        }
        told
    }

    /// What the session shows to the app, by name and in columns alike.
    pub fn shown(&self) -> Copy {
        let state = self.live.lock();
        let view = View { class: Class::Host, props: Keys::default() };
        let wire = Wire::default();
        let named = Snapshot::new(SnapshotReason::First);
        let packed = Snapshot { delivery: sessiond::engine::Delivery::Columns, ..named };
        let mut copies = [named, packed].map(|snapshot| {
            let mut copy = Copy::default();
            copy.apply(&wire.snapshot(&state.core, &view, snapshot, None), MOST);
            copy
        });
        assert_eq!(copies[0].members(), copies[1].members());
        std::mem::take(&mut copies[0])
    }
}

/// A message under a number: a field that comes twice holds what came last.
pub fn numbered(message: &[u8], seq: u64) -> Vec<u8> {
    let mut numbered = message.to_vec();
    prost::encoding::uint64::encode(1, &seq, &mut numbered);
    numbered
}
