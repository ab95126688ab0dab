//! Random users do random things, and lose their connections meanwhile. Every step that a client is
//! sent leaves it with what the rules say of that frame (see [`model`]), in join order, and names
//! the users who left.
//!
//! A run is told by its seed, which a failure prints. `RANDOM_SEED=7` runs that one, and
//! `RANDOM_SEEDS=200` the first 200, in some minutes:
//! `RANDOM_SEEDS=200 cargo test --test service random -- --nocapture`

mod acts;
mod model;

use crate::support::*;
use fastrand::Rng;
use model::{Model, User};
use sessiond::{
    engine::SessionKey,
    proto::{
        Delivery, DeliveryOptions, Encoding, EndReason, OpenSharedSessionRequest, Pacing,
        SessionKind, SessionSettings, SnapshotReason,
    },
    session::{
        command::Actor,
        ids::{AppId, SessionId},
    },
};
use std::{collections::BTreeMap, time::Duration};
use tonic::Code;

/// What decides which keys a reader is shown.
type Sight = (bool, Vec<String>, Vec<String>);

const USERS: [User; 5] = ["ada", "bob", "eve", "kim", "zoe"];
const SESSIONS: [&str; 3] = ["room", "hosted", "eager"];
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A key that every write up a stream sets to another value.
const COUNT: &str = "count";

const ROUNDS: usize = 100;

/// How long a tied member without a stream stays, in milliseconds. In `eager` it leaves at once.
const GRACE: u64 = 3_500;

/// How many steps per second some readers get.
const RATE_HZ: u32 = 10;

/// A reader, and how it differs from others in its view.
struct Reader {
    session: &'static str,
    user: User,
    options: DeliveryOptions,
    /// What decided which keys it is shown when it got its last snapshot.
    sight: Sight,
    watcher: Watcher,
}

struct Writer {
    session: &'static str,
    user: User,
    stream: PropsStream,
}

/// A stream whose end is due.
enum Ends {
    Reader(Box<Watcher>),
    Writer(Box<PropsStream>),
}

/// What a run did.
#[derive(Debug, Default)]
struct Tally {
    operations: usize,
    cuts: usize,
    /// Resumes that continued with what changed, and with the log.
    continued: usize,
    logged: usize,
    /// Steps that were compared; those of them that were snapshots and named users who left.
    steps: usize,
    naming: usize,
}

struct World {
    service: Service,
    seed: u64,
    round: usize,
    random: Rng,
    /// Milliseconds since the start.
    time: u64,
    models: BTreeMap<&'static str, Model>,
    /// What is set on the users.
    records: BTreeMap<User, Shown>,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    ending: Vec<(u64, EndReason, Ends)>,
    /// Few removals are remembered, so that resumes may come too late.
    forgets: bool,
    count: i64,
    tally: Tally,
}

#[tokio::test]
async fn every_step_of_every_reader_leads_to_what_the_rules_say() {
    let number = |name| std::env::var(name).ok().map(|it| it.parse().expect("a number"));
    let seeds: Vec<u64> = match (number("RANDOM_SEED"), number("RANDOM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, seeds) => (1..=seeds.unwrap_or(6)).collect(),
    };
    let mut all = Tally::default();
    for seed in seeds {
        let Tally { operations, cuts, continued, logged, steps, naming } = run(seed).await;
        all.operations += operations;
        all.cuts += cuts;
        all.continued += continued;
        all.logged += logged;
        all.steps += steps;
        all.naming += naming;
    }
    println!("{all:?}");
    assert!(all.continued > 0 && all.logged > 0 && all.naming > 0, "it tries all: {all:?}");
}

async fn run(seed: u64) -> Tally {
    let forgets = seed.is_multiple_of(2);
    let service = Service::start_with(|config| {
        config.max_updates_per_second = 1_000_000;
        config.max_removals = if forgets { 20 } else { 1_000_000 };
        config.tick_interval = Duration::from_millis(TICK);
        config.join_timeout = Duration::from_millis(model::JOIN_TIMEOUT);
        config.slow_limit = Duration::from_secs(3_600);
        config.user_ttl = Duration::from_secs(24 * 3_600);
    })
    .await;
    let mut world = World {
        service,
        seed,
        round: 0,
        random: Rng::with_seed(seed),
        time: 0,
        models: BTreeMap::new(),
        records: USERS.iter().map(|user| (*user, Shown::new())).collect(),
        readers: Vec::new(),
        writers: Vec::new(),
        ending: Vec::new(),
        forgets,
        count: 0,
        tally: Tally::default(),
    };
    for session in SESSIONS {
        let open = OpenSharedSessionRequest { session_id: session.to_owned(), ..template(session) };
        world.service.try_open(open).await.expect("it opens");
        world.begin(session, "");
        world.observe(session).await;
    }
    for round in 0..ROUNDS {
        world.round = round;
        for _ in 0..world.random.usize(1..8) {
            world.act().await;
        }
        let is_long = round % 8 == 7 || round + 1 == ROUNDS;
        for _ in 0..if is_long { 15 } else { 1 } {
            world.tick().await;
        }
        world.agree(is_long).await;
    }
    // What was sent up a stream is acknowledged.
    for Writer { mut stream, .. } in std::mem::take(&mut world.writers) {
        let last = stream.write(write([("last", int(1))]));
        stream.until_acked(&world.service, last).await;
    }
    std::mem::take(&mut world.tally)
}

/// How a session opens.
fn template(session: &str) -> OpenSharedSessionRequest {
    let is_eager = session == "eager";
    let pacing = if is_eager { Pacing::Eager } else { Pacing::Tick };
    let settings = SessionSettings {
        empty_ttl: Some(ms(3_600_000)),
        rejoin_grace: Some(ms(if is_eager { 0 } else { GRACE })),
        pacing: pacing.into(),
        tick_interval: is_eager.then(|| ms(3 * TICK)),
        ..Default::default()
    };
    let kind = if session == "hosted" { SessionKind::Hosted } else { SessionKind::Room };
    OpenSharedSessionRequest { kind: kind.into(), settings: Some(settings), ..Default::default() }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in round {} of RANDOM_SEED={}", self.round, self.seed);
        }
    }
}

/// Connections that are lost.
impl World {
    /// The client is gone without a word.
    async fn cut(&mut self, at: usize) -> (DeliveryOptions, Rebuilt, Sight) {
        self.space_deadlines().await;
        let Reader { session, user, options, sight, watcher } = self.readers.swap_remove(at);
        let known = watcher.rebuilt.again();
        drop(watcher);
        self.was_cut(session, user).await;
        (options, known, sight)
    }

    /// Waits until the server has noticed.
    async fn was_cut(&mut self, session: &'static str, user: User) {
        self.tally.cuts += 1;
        if user.is_empty() {
            return;
        }
        let time = self.time;
        self.model(session).stream_cut(time, user);
        self.left(session, user);
        let streams = self.models[session].now.seats.get(user).map(|seat| seat.streams);
        let app = AppId::new("default").expect("an id");
        let id = SessionKey::Id(SessionId::new(session).expect("an id"));
        let live = self.service.engine().find(&app, Some(&id), &Actor::App).expect("it is open");
        let known = || live.lock().core.members().membership(user).map(|it| it.streams);
        in_time(async {
            while known() != streams {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The client comes back, at once or some ticks later, often with other options.
    async fn cut_and_resume(&mut self, at: usize) {
        let Reader { session, user, .. } = self.readers[at];
        let (before, known, sight) = self.cut(at).await;
        for _ in 0..self.random.usize(..4) {
            self.tick().await;
        }
        let mut options = before.clone();
        match self.random.u8(0..8) {
            0 if !user.is_empty() => options.exclude_self = !options.exclude_self,
            1 => options.props = self.keys(),
            2 => options.delivery = self.pick(&[Delivery::Latest, Delivery::All]).into(),
            3 => options = self.options(user),
            _ => {}
        }
        if options.exclude_self || options.delivery() == Delivery::All {
            // There it changes nothing, or is refused.
            options.encoding = Encoding::Named.into();
        }
        let is_same =
            DeliveryOptions { max_rate_hz: before.max_rate_hz, ..options.clone() } == before;
        let is_all = options.delivery() == Delivery::All;
        let watcher = self.subscribe(session, user, &options, Some(&known)).await;
        let Some(watcher) = watcher else { return };
        let resumed = Reader { session, user, options, sight: sight.clone(), watcher };
        let step = self.enlist(resumed).await;
        let forgets = self.forgets;
        let model = self.model(session);
        let is_reset = known.revision < model.reset_at;
        let sees_the_same = sight == model.sight(&model.shown().room, user);
        let told = format!("{step:?} from {} with {before:?} before", known.revision);
        let Step::Snapshot(reason) = step else {
            assert!(is_same && sees_the_same && !is_reset, "a snapshot comes, not {told}");
            let count = if is_all { &mut self.tally.logged } else { &mut self.tally.continued };
            *count += 1;
            return;
        };
        match reason {
            SnapshotReason::ResetSchema => assert!(is_reset, "{told}"),
            SnapshotReason::ViewChanged => assert!(!is_same || !sees_the_same || is_all, "{told}"),
            SnapshotReason::TooOld => assert!(forgets && !is_all, "{told}"),
            SnapshotReason::LogOverflow => assert!(is_all, "{told}"),
            _ => panic!("no reason to come to a snapshot: {told}"),
        }
    }

    fn has_deadline(&self, from: u64, to: u64) -> bool {
        let mut deadlines = self.models.values().flat_map(Model::deadlines);
        deadlines.any(|at| (from..=to).contains(&at))
    }

    /// Lets time pass so that a member that may be about to be lost or to join leaves in a frame of
    /// its own, if it does not come back: so it is known which frame shows it.
    async fn space_deadlines(&mut self) {
        let near = |after| self.has_deadline(self.time + after - 50, self.time + after + 50);
        let mut is_near = near(GRACE) || near(model::JOIN_TIMEOUT);
        while is_near {
            self.tick().await;
            let near = |after| self.has_deadline(self.time + after - 50, self.time + after + 50);
            is_near = near(GRACE) || near(model::JOIN_TIMEOUT);
        }
    }

    /// Goes on shortly before the next member leaves that does not come back.
    async fn pass_time(&mut self) {
        self.ticks(4).await;
        let next = self.models.values().flat_map(Model::deadlines).min();
        let span = next.unwrap_or(0).saturating_sub(self.time + 600) / TICK * TICK;
        self.service.advance(span);
        self.time += span;
    }

    /// Lets members leave whose time is about to be over, while nothing else happens.
    async fn let_leave(&mut self) {
        if !self.has_deadline(0, self.time + 500) {
            return;
        }
        self.ticks(4).await;
        while self.has_deadline(0, self.time + 500) {
            self.tick().await;
        }
        self.ticks(4).await;
    }
}

/// What comes of it.
impl World {
    async fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick().await;
        }
    }

    /// Each session makes at most one frame.
    async fn tick(&mut self) {
        self.service.tick();
        self.time += TICK;
        for session in SESSIONS {
            let time = self.time;
            let model = self.model(session);
            model.pass_time(time);
            model.gone.clear();
            self.observe(session).await;
        }
    }

    /// Looks at the last frame, which has all members in join order.
    async fn observe(&mut self, session: &'static str) {
        let reply = self.service.info(session, "").await;
        let position = reply.position.expect("it has a position");
        let mut info = reply.session.expect("it is there");
        (info.last_frame_at, info.reserved_count) = (None, None);
        (info.member_count, info.spectator_count) = (None, None);
        let model = self.model(session);
        model.observe(position.epoch, position.revision, info);
        let roll = reply.members.iter();
        let roll: Vec<_> =
            roll.map(|it| (it.user_id.clone(), it.role(), it.disconnected)).collect();
        assert_eq!(roll, model.shown().room.roll(), "{session}, frame {}", position.revision);
    }

    /// Every reader comes to know the last frame. Those with a rate of their own are given the time
    /// for it only in a `long` round.
    async fn agree(&mut self, is_long: bool) {
        let mut readers = std::mem::take(&mut self.readers);
        for reader in &mut readers {
            while (is_long || reader.options.max_rate_hz == 0)
                && self.expected(reader.session, reader.user, &reader.options)
                    != without_numbers(&reader.watcher.rebuilt)
            {
                let before = reader.watcher.rebuilt.again();
                let next = tokio::time::timeout(Duration::from_secs(5), reader.watcher.next());
                let Ok(step) = next.await else {
                    let expected = self.expected(reader.session, reader.user, &reader.options);
                    panic!(
                        "{} of {} with {:?}\nknows {:#?}\nnot {expected:#?}",
                        reader.user, reader.session, reader.options, reader.watcher.rebuilt
                    );
                };
                self.check(reader, &before, &step);
            }
        }
        self.readers = readers;
        let mut writers = std::mem::take(&mut self.writers);
        for Writer { session, user, stream } in &mut writers {
            let options = DeliveryOptions::default();
            while self.expected(session, user, &options) != without_numbers(&stream.rebuilt) {
                let before = stream.rebuilt.again();
                let step = stream.next().await;
                self.check_step((session, user, &options), &before, &stream.rebuilt, &step);
            }
        }
        self.writers = writers;
        let time = self.time;
        let due = self.ending.extract_if(.., |(at, ..)| *at <= time).collect::<Vec<_>>();
        for (_, reason, ends) in due {
            let ending = match ends {
                Ends::Reader(mut watcher) => watcher.end().await,
                Ends::Writer(mut stream) => stream.end().await,
            };
            match reason {
                EndReason::Kicked | EndReason::Banned => {
                    ending.is(reason, Code::PermissionDenied);
                }
                _ => ending.is_ok(reason),
            }
        }
    }

    fn expected(&self, session: &str, user: User, options: &DeliveryOptions) -> State {
        let model = &self.models[session];
        model.view(model.shown(), user, options)
    }

    fn check(&mut self, reader: &mut Reader, before: &Rebuilt, step: &Step) {
        let Reader { session, user, options, sight, watcher } = reader;
        self.check_step((session, user, options), before, &watcher.rebuilt, step);
        if let Step::Snapshot(_) = step {
            let model = &self.models[session];
            let frame = &model.frames[&watcher.rebuilt.revision];
            *sight = model.sight(&frame.room, user);
        }
    }

    /// A step led a client from what it knew before to what it knows now.
    fn check_step(
        &mut self,
        (session, user, options): (&str, User, &DeliveryOptions),
        before: &Rebuilt,
        now: &Rebuilt,
        step: &Step,
    ) {
        let model = &self.models[session];
        let told = || format!("{user:?} in {session} with {options:?}, {step:?}\nfrom {before:#?}");
        assert_eq!(now.epoch, model.epoch, "{}", told());
        let Some(frame) = model.frames.get(&now.revision) else {
            panic!("no frame {}: {}", now.revision, told())
        };
        let (expected, known) = (model.view(frame, user, options), without_numbers(now));
        assert_eq!(known, expected, "{}", told());
        let order: Vec<_> = frame.room.roll().into_iter().map(|(user, ..)| user).collect();
        assert_eq!(now.order, order, "{}", told());
        let mut left = BTreeMap::new();
        if before.epoch == now.epoch {
            left = model.left(before.revision, now.revision);
        }
        let is_true = |(user, reason)| left.get(user) == Some(reason);
        let is_named = |(user, reason)| now.left.get(user) == Some(reason);
        match step {
            Step::Snapshot(_) if self.forgets => {
                assert!(now.left.iter().all(is_true), "{left:?} left: {}", told());
            }
            // It also tells of those who came and went within a frame.
            Step::Log { updates, .. } => {
                for update in updates {
                    let of = update.change.iter().flat_map(|change| &change.members);
                    let mut of = of.filter(|of| !of.props.is_empty() || !of.removed.is_empty());
                    let is_dropped = |user: &str| model.drops_writes_of(user, update.revision);
                    assert!(!of.any(|of| is_dropped(&of.user_id)), "dropped: {}", told());
                }
                assert!(left.iter().all(is_named), "{left:?} left, not {:?}: {}", now.left, told());
            }
            _ => assert_eq!(now.left, left, "{}", told()),
        }
        self.tally.steps += 1;
        self.tally.naming += usize::from(matches!(step, Step::Snapshot(_)) && !now.left.is_empty());
    }
}

/// What a client knows. Of the numbers of join order only the order has a meaning.
fn without_numbers(known: &Rebuilt) -> State {
    let mut state = known.state.clone();
    state.members.values_mut().for_each(|member| member.join_order = 0);
    state
}
