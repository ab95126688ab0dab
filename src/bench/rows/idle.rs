//! What costs although nothing happens.

use super::{Bench, add_strain, load_figures, mib, usage_figures};
use crate::bench::{
    PATIENCE, Result,
    accounting::{open_files_limit, percent},
    figures::Figures,
    grpc::Connection,
    load::{Load, Plan, in_order},
    measure::{Meter, Usage, watch},
    peer::Peer,
    place::Place,
    server::Server,
    service::{SESSION_ID, Service, app},
    socket::Socket,
    tally::Tally,
    update::user_id,
};
use crate::proto::{JoinOptions, SubscribeToSessionRequest};
use std::{rc::Rc, sync::Arc};
use tokio::{
    sync::OnceCell,
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};

/// Files that a process needs beside its connections.
const OTHER_FILES: usize = 100;
/// Idle streams are watched for so many measured times: with the usual ones, that contains heartbeats.
const LONG: u32 = 3;
/// Subscriptions.
const STREAMS: usize = 10_000;
/// Of these, on each connection.
const SHARED: usize = 100;
/// Users in each room.
const USERS: usize = 50;
/// Idle sessions.
const SESSIONS: usize = 100_000;

/// Subscriptions with a connection each, and then on shared ones.
pub async fn connections(bench: &Bench) -> Result<Figures> {
    let own = subscriptions(bench, 1).await?;
    let shared = subscriptions(bench, SHARED).await?;
    let mut figures = usage_figures(&own.usage);
    figures.set("connections", own.count as f64);
    figures.set_some("kib_per_connection", own.kib_each);
    figures.set_some("kib_per_stream", shared.kib_each);
    figures.set_some("streams_cpu_percent", shared.usage.server_percent());
    Ok(figures)
}

struct Idle {
    usage: Usage,
    count: usize,
    kib_each: Option<f64>,
}

async fn subscriptions(bench: &Bench, shared: usize) -> Result<Idle> {
    let args = &bench.args;
    let most = open_files_limit()?.saturating_sub(OTHER_FILES).saturating_mul(shared);
    let users = USERS.min(args.scaled(USERS, 2));
    let rooms = args.scaled(STREAMS, 2 * users).min(most) / users;
    if rooms < 2 {
        return Err("there must be open files for two rooms".into());
    }
    let server = Server::start(args).await?;
    let service = Service::connect(server.place.clone()).await?;
    let plan = bench.plan(rooms, users);
    service.open_rooms(&plan).await?;
    bench.progress.step(format!("{rooms} rooms of {users} idle streams, {shared} a connection"));

    // The first room warms the server: what it takes once for all is not a connection's.
    let tally = Arc::new(Tally::default());
    let mut links =
        Links { place: server.place.clone(), shared, tally, next: 0, last: Rc::default() };
    let mut streams = links.subscribe_room(0, users).await?;
    sleep(args.settle()).await;
    let before = server.resident_bytes()?;
    for room in 1..rooms {
        streams.extend(links.subscribe_room(room, users).await?);
    }
    sleep(args.settle()).await;
    let after = server.resident_bytes()?;
    bench.progress.step(format!("{} idle streams, watched", streams.len()));
    let meter = Meter::start(&server.processes)?;
    sleep(args.duration() * LONG).await;
    let usage = meter.stop()?;
    if streams.iter().any(|stream| stream.is_finished()) {
        return Err("a stream ended while nothing happened on it".into());
    }
    let count = streams.len();
    let kib_each = before
        .zip(after)
        .map(|(before, after)| (after as f64 - before as f64) / 1024.0 / (count - users) as f64);
    drop(streams);
    service.delete_rooms(&plan).await?;
    server.stop().await?;
    Ok(Idle { usage, count, kib_each })
}

/// Gives each stream its connection.
struct Links {
    place: Place,
    /// So many streams have the same one.
    shared: usize,
    tally: Arc<Tally>,
    next: usize,
    last: Rc<OnceCell<Connection>>,
}

impl Links {
    /// Subscribes all users of a room, and keeps reading.
    async fn subscribe_room(&mut self, room: usize, users: usize) -> Result<Vec<JoinHandle<()>>> {
        let links: Vec<_> = (0..users)
            .map(|user| {
                if self.next.is_multiple_of(self.shared) {
                    self.last = Rc::default();
                }
                self.next += 1;
                (user, self.last.clone())
            })
            .collect();
        let subscribing = links.into_iter().map(|(user, link)| {
            subscribe(self.place.clone(), link, room, user, self.tally.clone())
        });
        timeout(PATIENCE, in_order(subscribing, users))
            .await
            .map_err(|_| format!("not all of a room subscribed within {PATIENCE:?}"))?
    }
}

async fn subscribe(
    place: Place,
    link: Rc<OnceCell<Connection>>,
    room: usize,
    user: usize,
    tally: Arc<Tally>,
) -> Result<JoinHandle<()>> {
    let opened = link.get_or_try_init(async || {
        let socket = Socket::connect(place.clone(), None, tally).await?;
        Connection::open(socket, &place).await
    });
    let request = SubscribeToSessionRequest {
        app: app(room),
        session_id: SESSION_ID.to_owned(),
        user_id: user_id(user),
        join: Some(JoinOptions::default()),
        ..SubscribeToSessionRequest::default()
    };
    let method = "DeliveryService/SubscribeToSession";
    let (_, mut down) = opened.await?.call(method, &request, true).await?;
    down.message().await?;
    Ok(spawn_local(async move {
        let _link = link;
        while down.message().await.is_ok() {}
    }))
}

/// A busy room, alone and beside sessions in which nothing happens.
pub async fn sessions(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = Plan { timed: 1, ..bench.plan(1, args.scaled(50, 2).min(50)) };
    let idle = args.scaled(SESSIONS, 1);
    let server = Server::start(args).await?;
    let service = Service::connect(server.place.clone()).await?;
    service.open_rooms(&plan).await?;
    let mut load = Load::start(&plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step("a busy room alone".to_owned());
    let alone = watch(&mut load, &server.processes, args.duration()).await?;
    let before = server.resident_bytes()?;
    bench.progress.step(format!("opening {idle} idle sessions"));
    service.open_idle(idle, None).await?;
    load.go_on(args.settle()).await?;
    let after = server.resident_bytes()?;
    bench.progress.step("the busy room beside them".to_owned());
    let beside = watch(&mut load, &server.processes, args.duration()).await?;
    let total = load.stop().await?;

    let mut figures = load_figures(&beside, &plan);
    figures.set("arrived", total.arrived());
    add_strain(&mut figures, &alone);
    add_strain(&mut figures, &beside);
    if let (Some(alone), Some(beside)) =
        (alone.usage.server_percent(), beside.usage.server_percent())
    {
        figures.set("server_cpu_percent_alone", alone);
        figures.set("cpu_change_percent", percent(beside - alone, alone));
    }
    if let (Some(before), Some(after)) = (before, after) {
        let bytes = (after as f64 - before as f64) / idle as f64;
        figures.extend([("bytes_per_idle_session", bytes), ("server_mib", mib(after))]);
    }
    if server.processes.is_empty() {
        service.delete_idle(idle).await?;
        service.delete_rooms(&plan).await?;
    }
    server.stop().await?;
    Ok(figures)
}
