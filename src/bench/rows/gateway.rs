//! Backends with many users on one stream.

use super::{Bench, busy, usage_figures};
use crate::bench::{
    Result,
    args::{Encoding, LoadArgs, Shape},
    figures::Figures,
    load::{Load, Plan},
    measure::Meter,
    payload::Payload,
    peer::Peer,
    report::Measured,
    server::Server,
    service::Service,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Backends of the rows that do not vary them.
const BACKENDS: usize = 10;
/// Props in an update where the most is looked for.
const MAX_PROPS: usize = 10;
/// A ramp begins at this share of its goal.
const MAX_BEGIN: f64 = 0.25;
/// Users of the row that is about them.
const IDLE_USERS: usize = 10_000;

/// So many backends with a room of 50 each, beside the floor and other relays.
pub async fn backends(bench: &Bench, backends: usize, with_floats: bool) -> Result<Figures> {
    let plan = plan(bench, bench.args.scaled(backends, 1), bench.args.scaled(50, 2));
    let mut figures = busy::beside_others(bench, &plan).await?;
    if with_floats {
        let server = Server::start(&bench.args).await?;
        bench.progress.step("the same with floats".to_owned());
        let floats = Plan { payload: Payload::Floats, ..plan };
        let (_, of_floats) = busy::at_server(&server, &floats, &bench.args).await?;
        server.stop().await?;
        let bytes = of_floats.get("bytes_per_delivery");
        figures.set_some("bytes_per_delivery_of_floats", bytes);
    }
    Ok(figures)
}

/// The most props that are written per second, in rooms of so many users; begins below `goal`.
pub async fn most(bench: &Bench, users: usize, encoding: Encoding, goal: f64) -> Result<Measured> {
    let rate = bench.args.load.rate;
    let rooms = goal * MAX_BEGIN * bench.args.scale / (users as f64 * rate * MAX_PROPS as f64);
    let rooms_per_backend = (rooms / BACKENDS as f64).round().max(1.0) as usize;
    let rooms = BACKENDS * rooms_per_backend;
    let plan = plan(bench, rooms, users);
    let plan = Plan { props: MAX_PROPS, encoding, rooms_per_backend, ..plan };
    busy::ramp(bench, &plan).await
}

/// The same load at one thread and at two.
pub async fn two_cores(bench: &Bench) -> Result<Figures> {
    let rooms_per_backend = bench.args.scaled(10, 1);
    let plan = plan(bench, BACKENDS * rooms_per_backend, bench.args.scaled(50, 2));
    let plan = Plan { rooms_per_backend, ..plan };
    let mut busiest = Vec::new();
    let mut figures = Figures::default();
    for threads in [1, 2] {
        let server = Server::start_with(&bench.args, threads).await?;
        bench.progress.step(format!("{} rooms at {threads} threads", plan.rooms));
        let (window, measured) = busy::at_server(&server, &plan, &bench.args).await?;
        server.stop().await?;
        busiest.push(window.usage.percent(window.usage.busiest_thread));
        figures = measured;
    }
    figures.set("busiest_of_one_percent", busiest[0]);
    figures.set("busiest_of_two_percent", busiest[1]);
    figures.set("speedup", busiest[0] / busiest[1]);
    Ok(figures)
}

/// More and more rooms of two.
pub async fn scale(bench: &Bench) -> Result<Measured> {
    let mut measured = Measured::default();
    for (rooms, period) in [(1, 50), (100, 50), (10_000, 500), (100_000, 5_000)] {
        let rooms = bench.args.scaled(rooms, 1);
        let period = Duration::from_millis(period);
        let plan = Plan { rooms_per_backend: rooms, period, ..plan(bench, rooms, 2) };
        let server = Server::start(&bench.args).await?;
        bench.progress.step(format!("{rooms} rooms of 2 users"));
        let (_, figures) = busy::at_server(&server, &plan, &bench.args).await?;
        server.stop().await?;
        measured.steps.push((rooms as f64, figures));
    }
    Ok(super::scale::with_growth(measured, "server_cpu_us_per_delivery", 1.0))
}

/// Users of one backend who do nothing.
pub async fn idle_users(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let users = args.scaled(50, 2);
    let rooms = args.scaled(IDLE_USERS / 50, 1);
    let plan = Plan { rooms_per_backend: rooms, writers: 0, ..plan(bench, rooms, users) };
    let server = Server::start(args).await?;
    let service = Service::connect(server.place.clone()).await?;
    service.open_rooms(&plan).await?;
    bench.progress.step(format!("{} users of one backend", rooms * users));
    sleep(args.settle()).await;
    let before = server.resident_bytes()?;
    let start = Instant::now();
    let mut load = Load::start(&plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    let attached_after = start.elapsed();
    load.go_on(args.settle()).await?;
    let after = server.resident_bytes()?;
    let meter = Meter::start(&server.processes)?;
    load.go_on(args.duration()).await?;
    let usage = meter.stop()?;
    drop(load);
    service.delete_rooms(&plan).await?;
    server.stop().await?;
    let mut figures = usage_figures(&usage);
    figures.set("attached_after_ms", attached_after.as_secs_f64() * 1e3);
    let taken = before.zip(after).map(|(before, after)| after as f64 - before as f64);
    figures.set_some("bytes_per_user", taken.map(|taken| taken / (rooms * users) as f64));
    Ok(figures)
}

/// Rooms with a backend each, in columns.
fn plan(bench: &Bench, rooms: usize, users: usize) -> Plan {
    let encoding = Encoding::Columns;
    let load = LoadArgs { rooms, users, encoding, ..bench.args.load.clone() };
    Plan::of(&load, Shape::Gateway, bench.args.load_threads)
}
