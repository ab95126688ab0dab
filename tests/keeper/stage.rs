//! An engine with a store in memory, whose clock and whose commits the test makes go on.

use sessiond::{
    engine::{
        Clock, Engine, EngineSettings, KeepingSettings, Live, Options, Position, Refusal, Step,
        Subscription,
    },
    grpc::encode::Wire,
    keeper::{self, Finish, Keeper, KeeperOptions},
    log::{Log, NodeId, memory::MemoryLog},
    session::{
        Info, Opening, Session,
        command::{Actor, Command, Join, Write},
        ids::{AppId, Key, SessionId, UserId},
        limits::{Limits, SECOND},
        member::Departure,
        revision::Revision,
        settings::{Durability, Kind, Presence, Settings},
        value::Value,
        view::{ChangeSink, Class, MemberChange, View},
    },
};
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

pub const TICK: u64 = 10_000;
pub const INTERVAL: u64 = 200_000;
const BEGIN: u64 = 1_767_225_600_000_000;

pub struct Stage {
    pub engine: Engine,
    pub log: MemoryLog,
    keeper: Keeper<<MemoryLog as Log>::Writer>,
    /// Bytes of batches above which subjects are stored as a whole.
    batch_bytes: usize,
}

pub fn app() -> AppId {
    AppId::new("default").expect("an id")
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).expect("an id")
}

pub fn id(id: &str) -> SessionId {
    SessionId::new(id).expect("an id")
}

pub fn join() -> Join {
    Join { presence: Some(Presence::Explicit), ..Join::default() }
}

/// Polls once.
pub fn at_once<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    match what.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

impl Stage {
    pub async fn new() -> Self {
        Self::on(MemoryLog::default(), BEGIN, usize::MAX).await
    }

    /// One that trims soon.
    pub async fn trimming(batch_bytes: usize) -> Self {
        Self::on(MemoryLog::default(), BEGIN, batch_bytes).await
    }

    async fn on(log: MemoryLog, now: u64, batch_bytes: usize) -> Self {
        let settings = EngineSettings {
            shards: 2,
            tick: TICK,
            user_ttl: 60 * SECOND,
            max_sessions: 1000,
            max_users: 20_000,
            max_sessions_per_user: 100,
            max_listeners_per_user: 10,
            max_updates_per_second: 1_000_000,
            max_changes_per_second: 1_000_000,
            max_logs_bytes: 1 << 20,
            events: Default::default(),
            max_replay_bytes: 1 << 20,
            keeping: Some(KeepingSettings { interval: INTERVAL, durability: Durability::Async }),
            limits: Limits::default(),
            judged: Default::default(),
        };
        let limits = Arc::new(settings.limits.clone());
        let engine = Engine::new(settings, Clock::stepped(now), Arc::new(Wire::default()));
        let opened = keeper::open(&log, NodeId(now), &limits).await;
        let (writer, loaded) = opened.expect("it is read");
        assert!(loaded.lost.is_empty() && loaded.unreadable == 0, "{loaded:?}");
        let options = KeeperOptions {
            interval: Duration::from_micros(INTERVAL),
            batch_bytes,
            sign_of_life: None,
        };
        let mut keeper = Keeper::new(engine.clone(), None, writer, loaded, options);
        keeper.begin().await.expect("it is stored");
        Self { engine, log, keeper, batch_bytes }
    }

    /// Stores what was handed out by now.
    pub async fn store(&mut self) {
        while self.keeper.step().await.expect("it is stored") {}
    }

    /// Looks how much space there is, and makes some where there is too little.
    pub async fn mind_space(&mut self) {
        self.keeper.mind_space().await.expect("it goes on");
    }

    /// Bytes of the batches that are in the log.
    pub fn batch_bytes_left(&self) -> usize {
        self.keeper.batch_bytes()
    }

    /// The process is killed, and another one begins a moment later.
    pub async fn crash(self) -> Self {
        let now = self.engine.clock().now() + SECOND;
        Self::on(self.log.clone(), now, self.batch_bytes).await
    }

    /// The server stops as it should, and another one begins a moment later.
    pub async fn stop(self) -> Self {
        let (log, batch_bytes, engine) = (self.log.clone(), self.batch_bytes, self.engine.clone());
        self.end().await;
        Self::on(log, engine.clock().now() + SECOND, batch_bytes).await
    }

    /// The server stops as it should.
    pub async fn end(self) {
        let Self { engine, keeper, .. } = self;
        engine.drain();
        let stop = CancellationToken::new();
        let running = tokio::spawn(keeper.run(stop.clone()));
        engine.store_everything().await;
        stop.cancel();
        let finish = running.await.expect("no panic").expect("the log does not fail");
        assert_eq!(finish, Finish::Stored);
    }

    /// The server is told to stop, and waits for space no longer.
    pub async fn stop_without_space(self) -> (Engine, Finish) {
        let stop = CancellationToken::new();
        stop.cancel();
        let finish = self.keeper.run(stop).await.expect("the log does not fail");
        (self.engine, finish)
    }

    /// Opens a room of a user's.
    pub fn open(&self, name: &str, durability: Durability) -> Arc<Live> {
        self.open_with(name, |settings| settings.durability = durability)
    }

    pub fn open_with(&self, name: &str, set: impl FnOnce(&mut Settings)) -> Arc<Live> {
        self.open_kind(Kind::Room, name, set)
    }

    pub fn open_kind(&self, kind: Kind, name: &str, set: impl FnOnce(&mut Settings)) -> Arc<Live> {
        let mut settings = self.engine.default_session();
        settings.empty_ttl = 3600 * SECOND;
        set(&mut settings);
        let opening = Opening::new(app(), id(name), kind, settings);
        let opening = Opening { opener: Some((user("ada"), join())), ..opening };
        self.engine.open(opening, false).expect("it opens").0.live
    }

    pub fn find(&self, name: &str) -> Option<Arc<Live>> {
        let key = sessiond::engine::SessionKey::Id(id(name));
        self.engine.find(&app(), Some(&key), &Actor::App).ok()
    }

    pub fn write(&self, live: &Arc<Live>, who: &str, x: f64) -> Result<Position, Refusal> {
        self.write_value(live, who, "x", Value::Number(x))
    }

    pub fn write_value(
        &self,
        live: &Arc<Live>,
        who: &str,
        key: &str,
        value: Value,
    ) -> Result<Position, Refusal> {
        let write = Write::of(vec![(Key::from(key), value)]);
        let command = Command::SetProps { user: user(who), write, term: 0 };
        self.engine.command(live, &Actor::of(&user(who)), command)
    }

    /// Writes on condition that ada's `x` has not changed since a revision.
    pub fn compare(&self, live: &Arc<Live>, revision: Revision) -> Result<Position, Refusal> {
        let set = vec![(Key::from("x"), Value::Number(9.0))];
        let if_revision = vec![(Key::from("x"), revision)];
        let write = Write { if_revision, ..Write::of(set) };
        let command = Command::SetProps { user: user("ada"), write, term: 0 };
        self.engine.command(live, &Actor::of(&user("ada")), command)
    }

    pub fn command(&self, live: &Arc<Live>, command: Command) -> Position {
        self.engine.command(live, &Actor::App, command).expect("it is accepted")
    }

    pub fn tick(&self) {
        self.engine.advance(TICK);
    }

    pub fn watch(&self, live: &Arc<Live>, options: Options) -> Subscription {
        self.engine.subscribe(live, &Actor::App, None, options).expect("it may")
    }
}

/// What a subscriber gets by now.
pub fn steps(subscription: &mut Subscription) -> Vec<Step> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut steps = Vec::new();
    while let Poll::Ready((step, _)) = subscription.poll_step(&mut cx) {
        let is_end = matches!(step, Step::Ended(_));
        steps.push(step);
        if is_end {
            break;
        }
    }
    steps
}

/// The value of a member's `x` in the last frame, whether anybody is shown that yet or not.
pub fn x_of(live: &Live, who: &str) -> Option<f64> {
    let state = live.lock();
    let view = View { class: Class::Members, props: Default::default() };
    let mut sink = Sink { who, is_it: false, x: None };
    state.core.show_all(&view, &mut sink);
    sink.x
}

struct Sink<'w> {
    who: &'w str,
    is_it: bool,
    x: Option<f64>,
}

impl<'a> ChangeSink<'a> for Sink<'_> {
    fn session(&mut self, _: &Session, _: &Info, _: Class) {}

    fn data(&mut self, _: &str, _: Option<&Value>) {}

    fn private_data(&mut self, _: &str, _: Option<&Value>) {}

    fn member(&mut self, change: MemberChange<'a>) {
        self.is_it = **change.user == *self.who;
    }

    fn prop(&mut self, key: &'a str, value: Option<&'a Value>) {
        if let (true, "x", Some(Value::Number(x))) = (self.is_it, key, value) {
            self.x = Some(*x);
        }
    }

    fn left(&mut self, _: &str, _: Departure) {}
}
