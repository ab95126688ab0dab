//! The rows. To add one, name it in [`Row`] and write the function that measures it once.

use super::{
    BenchArgs, PATIENCE, Result,
    accounting::{open_files_limit, percent},
    floor::FloorArgs,
    grpc::Connection,
    load::{Load, Peer, Plan, in_order},
    measure::{Meter, Usage, Window, watch},
    process::Process,
    progress::Progress,
    report::{Figures, LATE_MS, LOST_PERCENT},
    service::{Guesses, SESSION_ID, Service, app},
    socket::Socket,
    tally::{Counts, Tally},
    update::user_id,
};
use crate::proto::{JoinOptions, Pacing, SubscribeToSessionRequest};
use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    net::lookup_host,
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};

/// The begin of a load is not measured: so long, or as long as what is measured if that is less.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// Memory and CPU settle so long after many connections or sessions were opened.
const SETTLE: Duration = Duration::from_secs(3);
/// Idle streams are watched for at least so long: it contains heartbeats.
const IDLE_MIN: Duration = Duration::from_secs(30);
/// Files that a process needs beside its connections.
const OTHER_FILES: usize = 100;

/// Over how many sessions wrong passwords are spread, for each second. A session lets ten be
/// compared at once, see TOO_MANY_GUESSES: with so many sessions there is always one to compare.
const GUESSED_PER_SECOND: usize = 16;
/// Their password, and what is taken for it.
const RIGHT: &str = "open sesame";
const WRONG: &str = "open barley";

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// Rooms of users with a connection each, all of whom write on every tick
    #[value(name = "own-10x50")]
    Own,
    /// Two users who seldom write, in a room with eager pacing
    #[value(name = "eager-sparse")]
    EagerSparse,
    /// Connections with a stream each, on which nothing happens
    #[value(name = "idle-connections")]
    IdleConnections,
    /// A busy room, alone and beside many sessions in which nothing happens
    #[value(name = "idle-sessions")]
    IdleSessions,
    /// A busy room, alone and beside a client that guesses passwords as fast as it is answered
    #[value(name = "wrong-passwords")]
    WrongPasswords,
}

impl Row {
    /// Its name in the report.
    pub fn name(self, args: &BenchArgs) -> String {
        match self {
            Row::Own => format!("own-{}x{}", args.rooms, args.users),
            Row::EagerSparse => "eager-sparse".to_owned(),
            Row::IdleConnections => "idle-connections".to_owned(),
            Row::IdleSessions => "idle-sessions".to_owned(),
            Row::WrongPasswords => "wrong-passwords".to_owned(),
        }
    }

    /// Measures it once.
    pub async fn measure(self, bench: &Bench) -> Result<Figures> {
        match self {
            Row::Own => own(bench).await,
            Row::EagerSparse => eager_sparse(bench).await,
            Row::IdleConnections => idle_connections(bench).await,
            Row::IdleSessions => idle_sessions(bench).await,
            Row::WrongPasswords => wrong_passwords(bench).await,
        }
    }
}

/// What the rows have in common.
#[derive(Debug)]
pub struct Bench {
    pub args: BenchArgs,
    pub progress: Progress,
}

async fn own(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = bench.plan();
    let server = Server::start(args).await?;
    bench.progress.step(format!("{} rooms of {} users at the server", plan.rooms, plan.users));
    let (window, mut figures) = busy(&server, &plan, args, Pacing::Tick).await?;
    let Some(server_cpu) = window.usage.server_cpu else { return Ok(figures) };
    server.stop().await?;

    let counts = window.counts;
    let update_bytes = counts.bytes_up.div_ceil(counts.updates.max(1)) as usize;
    let message_bytes = counts.bytes_down.div_ceil(counts.messages.max(1)) as usize;
    bench.progress.step(format!("the same at the floor: {message_bytes} bytes to each user"));
    let command_line = FloorArgs::command_line(args.threads, plan.tick, message_bytes);
    let floor = Process::start(&command_line).await?;
    let peer = Peer::Floor { address: floor.address, update_bytes, message_bytes };
    let meter = Meter::start(Some(&floor))?;
    let mut load = Load::start(&plan, &peer).await?;
    load.go_on(args.warm_up()).await?;
    let window = watch(&mut load, Some(&floor), args.duration()).await?;
    add_strain(&mut figures, load.late(), &meter.stop()?);
    drop(load);
    floor.stop().await?;

    let floor_cpu = window.usage.server_cpu.unwrap_or_default();
    // The window may begin and end within a tick.
    let full_ticks = window.usage.elapsed.saturating_sub(plan.tick);
    let floor_us = micros_per(floor_cpu, window.counts.updates * plan.others());
    figures.extend([
        ("floor_us_per_delivery", floor_us),
        ("floor_ratio", micros_per(server_cpu, counts.deliveries) / floor_us),
        ("floor_arrived", window.counts.messages as f64 / plan.messages_in(full_ticks)),
        ("update_bytes_on_the_wire", update_bytes as f64),
        ("message_bytes_on_the_wire", message_bytes as f64),
    ]);
    Ok(figures)
}

async fn eager_sparse(bench: &Bench) -> Result<Figures> {
    let server = Server::start(&bench.args).await?;
    let plan = Plan {
        rooms: 1,
        users: 2,
        period: Duration::from_millis(500),
        tick: bench.args.tick(),
        timed: 2,
        threads: 1,
    };
    bench.progress.step("two users who seldom write".to_owned());
    let (_, figures) = busy(&server, &plan, &bench.args, Pacing::Eager).await?;
    server.stop().await?;
    Ok(figures)
}

async fn idle_connections(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let rooms = args.connections.min(open_files_limit()?.saturating_sub(OTHER_FILES)) / args.users;
    if rooms < 2 {
        return Err("there must be connections, and open files, for two rooms".into());
    }
    let server = Server::start(args).await?;
    let service = Service::connect(server.address).await?;
    service.open_rooms(rooms, args.tick(), Pacing::Tick).await?;
    bench.progress.step(format!("{rooms} rooms of {} idle connections", args.users));

    // The first room warms the server: what it takes once for all is not a connection's.
    let tally = Arc::new(Tally::default());
    let mut streams = subscribe_room(server.address, 0, args.users, &tally).await?;
    sleep(SETTLE).await;
    let before = server.resident_bytes()?;
    for room in 1..rooms {
        streams.extend(subscribe_room(server.address, room, args.users, &tally).await?);
    }
    sleep(SETTLE).await;
    let after = server.resident_bytes()?;
    bench.progress.step(format!("{} idle connections, watched", streams.len()));
    let meter = Meter::start(server.process.as_ref())?;
    sleep(args.duration().max(IDLE_MIN)).await;
    let usage = meter.stop()?;
    if streams.iter().any(|stream| stream.is_finished()) {
        return Err("a stream ended while nothing happened on it".into());
    }

    let mut figures = usage_figures(&usage);
    figures.insert("connections", streams.len() as f64);
    if let (Some(before), Some(after)) = (before, after) {
        let measured = streams.len() - args.users;
        let kib = (after as f64 - before as f64) / 1024.0 / measured as f64;
        figures.extend([("kib_per_connection", kib), ("server_mib", mib(after))]);
    }
    drop(streams);
    service.delete_rooms(rooms).await?;
    server.stop().await?;
    Ok(figures)
}

async fn idle_sessions(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = Plan { rooms: 1, ..bench.plan() };
    let server = Server::start(args).await?;
    let service = Service::connect(server.address).await?;
    service.open_rooms(plan.rooms, plan.tick, Pacing::Tick).await?;
    let meter = Meter::start(server.process.as_ref())?;
    let mut load = Load::start(&plan, &Peer::Sessiond { address: server.address }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step("a busy room alone".to_owned());
    let alone = watch(&mut load, server.process.as_ref(), args.duration()).await?;
    let before = server.resident_bytes()?;
    bench.progress.step(format!("opening {} idle sessions", args.sessions));
    service.open_idle(args.sessions, None).await?;
    load.go_on(SETTLE).await?;
    let after = server.resident_bytes()?;
    bench.progress.step("the busy room beside them".to_owned());
    let beside = watch(&mut load, server.process.as_ref(), args.duration()).await?;
    let late = load.late();
    let total = load.stop().await?;
    let strain = meter.stop()?;

    let mut figures = load_figures(&beside, &plan);
    figures.insert("arrived", plan.arrived(total));
    add_strain(&mut figures, late, &strain);
    if let (Some(alone), Some(beside)) =
        (alone.usage.server_percent(), beside.usage.server_percent())
    {
        figures.insert("server_cpu_percent_alone", alone);
        figures.insert("cpu_change_percent", percent(beside - alone, alone));
    }
    if let (Some(before), Some(after)) = (before, after) {
        let bytes = (after as f64 - before as f64) / args.sessions as f64;
        figures.extend([("bytes_per_idle_session", bytes), ("server_mib", mib(after))]);
    }
    if server.process.is_none() {
        service.delete_idle(args.sessions).await?;
        service.delete_rooms(plan.rooms).await?;
    }
    server.stop().await?;
    Ok(figures)
}

async fn wrong_passwords(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = Plan { rooms: 1, ..bench.plan() };
    let server = Server::start(args).await?;
    let service = Service::connect(server.address).await?;
    let guessing = args.warm_up() + args.duration();
    let sessions = GUESSED_PER_SECOND * guessing.as_secs() as usize;
    bench.progress.step(format!("opening {sessions} sessions with a password"));
    service.open_idle(sessions, Some(RIGHT)).await?;
    service.open_rooms(plan.rooms, plan.tick, Pacing::Tick).await?;
    let meter = Meter::start(server.process.as_ref())?;
    let mut load = Load::start(&plan, &Peer::Sessiond { address: server.address }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step("a busy room alone".to_owned());
    let alone = watch(&mut load, server.process.as_ref(), args.duration()).await?;
    bench.progress.step("the busy room beside wrong passwords".to_owned());
    let guesses = Rc::new(Guesses::default());
    let guesser = AbortOnDrop(spawn_local(service.clone().guess(sessions, WRONG, guesses.clone())));
    load.go_on(args.warm_up()).await?;
    let before = guesses.so_far();
    let beside = watch(&mut load, server.process.as_ref(), args.duration()).await?;
    let after = guesses.so_far();
    if guesser.0.is_finished() {
        return Err("a guess was answered otherwise than by a refusal".into());
    }
    drop(guesser);
    let late = load.late();
    let total = load.stop().await?;
    let strain = meter.stop()?;

    let mut figures = load_figures(&beside, &plan);
    // Most of it is for comparing passwords.
    figures.remove("server_cpu_us_per_delivery");
    figures.insert("arrived", plan.arrived(total));
    add_strain(&mut figures, late, &strain);
    let quantiles = load_figures(&alone, &plan);
    let seconds = beside.usage.elapsed.as_secs_f64();
    let per_second = |before: u64, after: u64| (after - before) as f64 / seconds;
    figures.extend([
        ("p50_ms_alone", quantiles["p50_ms"]),
        ("p99_ms_alone", quantiles["p99_ms"]),
        (
            "p99_change_percent",
            percent(figures["p99_ms"] - quantiles["p99_ms"], quantiles["p99_ms"]),
        ),
        ("guesses_per_second", per_second(before.0 + before.1, after.0 + after.1)),
        ("compared_per_second", per_second(before.0, after.0)),
    ]);
    let alone = alone.usage.server_percent();
    figures.extend(alone.map(|alone| ("server_cpu_percent_alone", alone)));
    if server.process.is_none() {
        service.delete_idle(sessions).await?;
        service.delete_rooms(plan.rooms).await?;
    }
    server.stop().await?;
    Ok(figures)
}

/// A task that ends with the row.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens the rooms of the plan, sends its load and watches it.
async fn busy(
    server: &Server,
    plan: &Plan,
    args: &BenchArgs,
    pacing: Pacing,
) -> Result<(Window, Figures)> {
    let service = Service::connect(server.address).await?;
    service.open_rooms(plan.rooms, plan.tick, pacing).await?;
    let meter = Meter::start(server.process.as_ref())?;
    let mut load = Load::start(plan, &Peer::Sessiond { address: server.address }).await?;
    load.go_on(args.warm_up()).await?;
    let window = watch(&mut load, server.process.as_ref(), args.duration()).await?;
    let late = load.late();
    let total = load.stop().await?;
    let strain = meter.stop()?;
    service.delete_rooms(plan.rooms).await?;
    let mut figures = load_figures(&window, plan);
    figures.insert("arrived", plan.arrived(total));
    add_strain(&mut figures, late, &strain);
    Ok((window, figures))
}

/// Subscribes all users of a room, each over a connection of its own, and keeps reading.
async fn subscribe_room(
    address: SocketAddr,
    room: usize,
    users: usize,
    tally: &Arc<Tally>,
) -> Result<Vec<JoinHandle<()>>> {
    let subscribing = (0..users).map(|user| subscribe(address, room, user, tally.clone()));
    timeout(PATIENCE, in_order(subscribing, users))
        .await
        .map_err(|_| format!("not all of a room subscribed within {PATIENCE:?}"))?
}

async fn subscribe(
    address: SocketAddr,
    room: usize,
    user: usize,
    tally: Arc<Tally>,
) -> Result<JoinHandle<()>> {
    let connection =
        Connection::open(Socket::connect(address, None, tally).await?, address).await?;
    let request = SubscribeToSessionRequest {
        app: app(room),
        session_id: SESSION_ID.to_owned(),
        user_id: user_id(user),
        join: Some(JoinOptions::default()),
        ..SubscribeToSessionRequest::default()
    };
    let (_, mut down) =
        connection.call("DeliveryService/SubscribeToSession", &request, true).await?;
    down.message().await?;
    Ok(spawn_local(async move {
        let _connection = connection;
        while down.message().await.is_ok() {}
    }))
}

/// The measured server: a child of this process, or somebody else's.
struct Server {
    address: SocketAddr,
    process: Option<Process>,
}

impl Server {
    async fn start(args: &BenchArgs) -> Result<Self> {
        if let Some(address) = &args.address {
            let address = lookup_host(address).await?.next().ok_or("the address is of no host")?;
            return Ok(Server { address, process: None });
        }
        let threads = args.threads.to_string();
        let command_line =
            ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--threads", &threads];
        let process = Process::start(&command_line.map(str::to_owned)).await?;
        Ok(Server { address: process.address, process: Some(process) })
    }

    fn resident_bytes(&self) -> Result<Option<u64>> {
        self.process.as_ref().map(Process::resident_bytes).transpose()
    }

    async fn stop(self) -> Result<()> {
        match self.process {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }
}

impl Bench {
    /// The load that the arguments describe.
    fn plan(&self) -> Plan {
        let args = &self.args;
        Plan {
            rooms: args.rooms,
            users: args.users,
            period: Duration::from_secs_f64(1.0 / args.rate),
            tick: args.tick(),
            timed: 1,
            threads: args.load_threads,
        }
    }
}

impl BenchArgs {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn warm_up(&self) -> Duration {
        self.duration().min(WARM_UP_MAX)
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(self.tick)
    }
}

impl Plan {
    /// To how many others an update goes.
    fn others(&self) -> u64 {
        self.users as u64 - 1
    }

    /// The share of the updates that came to all others, of those that no later one replaced.
    fn arrived(&self, total: Counts) -> f64 {
        let latest = total.updates as f64 * (1.0 - total.merged_share());
        total.deliveries as f64 / (latest * self.others() as f64)
    }

    /// How many messages there are in so long, with one to each user a tick.
    fn messages_in(&self, elapsed: Duration) -> f64 {
        (self.rooms * self.users) as f64 * elapsed.as_secs_f64() / self.tick.as_secs_f64()
    }
}

fn load_figures(window: &Window, plan: &Plan) -> Figures {
    let Window { usage, counts, latency } = window;
    let mut figures = usage_figures(usage);
    let quantile_ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    figures.extend([
        ("bytes_per_delivery", counts.message_bytes as f64 / counts.deliveries as f64),
        ("p50_ms", quantile_ms(0.5)),
        ("p99_ms", quantile_ms(0.99)),
        ("latency_samples", latency.len() as f64),
        ("deliveries_per_second", counts.deliveries as f64 / usage.elapsed.as_secs_f64()),
        ("messages_per_tick", counts.messages as f64 / plan.messages_in(usage.elapsed)),
        ("merged_percent", 100.0 * counts.merged_share()),
    ]);
    let per_delivery = usage.server_cpu.map(|cpu| micros_per(cpu, counts.deliveries));
    figures.extend(per_delivery.map(|micros| ("server_cpu_us_per_delivery", micros)));
    figures
}

fn usage_figures(usage: &Usage) -> Figures {
    let mut figures = Figures::from([
        ("generator_cpu_percent", usage.own_percent()),
        ("machine_cpu_percent", usage.machine_percent),
    ]);
    figures.extend(usage.server_percent().map(|percent| ("server_cpu_percent", percent)));
    figures
}

/// Adds how late the generator was at most, and how much of the time nothing could be sent or served
/// because others had the machine; of two loads, what the worse one had.
fn add_strain(figures: &mut Figures, late: Duration, usage: &Usage) {
    let lost = usage.percent(usage.waited.max(late));
    for (name, value) in [(LATE_MS, late.as_secs_f64() * 1e3), (LOST_PERCENT, lost)] {
        let worst = figures.entry(name).or_default();
        *worst = worst.max(value);
    }
}

fn micros_per(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count as f64
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
