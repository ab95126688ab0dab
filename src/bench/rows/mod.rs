//! How each row is measured once. What it is stands in `catalogue`: to add a row, describe it there
//! and name here the function that measures it.

mod apps;
mod busy;
mod calls;
mod cluster;
mod durable;
mod gateway;
mod identity;
mod idle;
mod own;
mod passwords;
mod scale;
mod turns;

use super::{
    Result,
    accounting::percent,
    args::{BenchArgs, Encoding, LoadArgs, Shape},
    catalogue::Row,
    figures::Figures,
    load::Plan,
    measure::{Usage, Window},
    progress::Progress,
    report::{LATE_MS, LOST_PERCENT, MERGED_PERCENT, Measured},
};
use crate::proto::{Pacing, SessionKind};
use std::time::Duration;

/// What the rows have in common.
#[derive(Debug)]
pub struct Bench {
    pub args: BenchArgs,
    pub progress: Progress,
}

/// A row cannot be measured here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skipped(pub &'static str);

/// Measures a row once.
pub async fn measure(row: Row, bench: &Bench) -> Result<Measured> {
    match row {
        Row::Own10 => own::rooms(bench, 10).await.map(Measured::from),
        Row::Own10Tls => own::rooms_with_tls(bench, 10).await.map(Measured::from),
        Row::Own40 => own::rooms(bench, 40).await.map(Measured::from),
        Row::Hosted1000 => own::hosted(bench, 1_000).await.map(Measured::from),
        Row::Hosted5000 => own::hosted(bench, 5_000).await.map(Measured::from),
        Row::BigRoom => own::big_room(bench).await.map(Measured::from),
        Row::EagerSparse => own::eager_sparse(bench).await.map(Measured::from),
        Row::Gateway10 => gateway::backends(bench, 10, true).await.map(Measured::from),
        Row::Gateway40 => gateway::backends(bench, 40, false).await.map(Measured::from),
        Row::GatewayMaxColumns50 => gateway::most(bench, 50, Encoding::Columns, 20e6).await,
        Row::GatewayMaxColumns2 => gateway::most(bench, 2, Encoding::Columns, 8e6).await,
        Row::GatewayMaxNamed50 => gateway::most(bench, 50, Encoding::Named, 1.5e6).await,
        Row::GatewayMaxNamed2 => gateway::most(bench, 2, Encoding::Named, 0.5e6).await,
        Row::TwoCores => gateway::two_cores(bench).await.map(Measured::from),
        Row::ScaleUsers => scale::users(bench).await,
        Row::ScaleSessions => gateway::scale(bench).await,
        Row::IdleConnections => idle::connections(bench).await.map(Measured::from),
        Row::IdleSessions => idle::sessions(bench).await.map(Measured::from),
        Row::IdleGatewayUsers => gateway::idle_users(bench).await.map(Measured::from),
        Row::Unary => calls::unary(bench).await.map(Measured::from),
        Row::OpenClose => calls::open_close(bench).await.map(Measured::from),
        Row::DurableNone => durable::beside_none(bench, "none").await.map(Measured::from),
        Row::DurableAsync => durable::beside_none(bench, "async").await.map(Measured::from),
        Row::DurableSync => durable::beside_none(bench, "sync").await.map(Measured::from),
        Row::Restart => durable::restart(bench).await.map(Measured::from),
        Row::WrongPasswords => passwords::guessed(bench).await.map(Measured::from),
        Row::Overload => apps::overload(bench).await.map(Measured::from),
        Row::TwoApps => apps::two(bench).await.map(Measured::from),
        Row::Own10Identity => identity::rooms(bench, 10).await.map(Measured::from),
        Row::UnaryIdentity => identity::unary(bench).await.map(Measured::from),
        Row::ClusterForwarded => cluster::forwarded(bench).await.map(Measured::from),
        Row::ClusterAsync => cluster::stored(bench, "async").await.map(Measured::from),
        Row::ClusterSync => cluster::stored(bench, "sync").await.map(Measured::from),
        Row::ClusterThree => cluster::three(bench).await.map(Measured::from),
        Row::ClusterHandOver => {
            cluster::stopped(bench, cluster::Stop::HandOver).await.map(Measured::from)
        }
        Row::ClusterTakeOver => {
            cluster::stopped(bench, cluster::Stop::Kill).await.map(Measured::from)
        }
    }
}

/// Measures a load of somebody's own, in place of a row.
pub async fn measure_own(shape: Shape, bench: &Bench) -> Result<Measured> {
    let plan = Plan::of(&bench.args.load, shape, bench.args.load_threads);
    match bench.args.ramp {
        true => busy::ramp(bench, &plan).await,
        false => busy::beside_others(bench, &plan).await.map(Measured::from),
    }
}

/// The name of such a load.
pub fn own_name(shape: Shape, args: &BenchArgs) -> String {
    let LoadArgs { rooms, users, .. } = args.load;
    let shape = match shape {
        Shape::Own => "own",
        Shape::Hosted => "hosted",
        Shape::Gateway => "gateway",
    };
    let ramp = if args.ramp { "-ramp" } else { "" };
    format!("{shape}-{rooms}x{users}{ramp}")
}

impl Bench {
    /// The load that rows have where they do not say otherwise.
    fn plan(&self, rooms: usize, users: usize) -> Plan {
        let load = LoadArgs { rooms, users, ..self.args.load.clone() };
        Plan::of(&load, Shape::Own, self.args.load_threads)
    }
}

impl Plan {
    /// The load of this shape that the arguments describe.
    fn of(load: &LoadArgs, shape: Shape, threads: usize) -> Self {
        let LoadArgs { rooms, users, rate, tick, props, payload, encoding } = *load;
        Plan {
            shape,
            rooms,
            users,
            writers: if shape == Shape::Hosted { 1 } else { users },
            listeners: users,
            timed: if shape == Shape::Hosted { 20.min(users - 1) } else { 1 },
            streams: 1,
            rooms_per_backend: 1,
            period: Duration::from_secs_f64(1.0 / rate),
            tick: Duration::from_millis(tick),
            pacing: Pacing::Tick,
            props,
            payload,
            encoding,
            threads,
        }
    }

    /// What its sessions are.
    pub fn kind(&self) -> SessionKind {
        match self.shape {
            Shape::Hosted => SessionKind::Hosted,
            Shape::Own | Shape::Gateway => SessionKind::Room,
        }
    }
}

fn load_figures(window: &Window, plan: &Plan) -> Figures {
    let Window { usage, counts, latency, .. } = window;
    let mut figures = usage_figures(usage);
    let quantiles = [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p99_9_ms", 0.999)];
    if !latency.is_empty() {
        figures.extend(
            quantiles.map(|(name, quantile)| {
                (name, latency.value_at_quantile(quantile) as f64 / 1_000.0)
            }),
        );
    }
    figures.extend([
        ("bytes_per_delivery", counts.message_bytes as f64 / counts.deliveries as f64),
        ("latency_samples", latency.len() as f64),
        ("deliveries_per_second", counts.deliveries as f64 / usage.elapsed.as_secs_f64()),
        ("messages_per_tick", counts.messages as f64 / plan.messages_in(usage.elapsed)),
        (MERGED_PERCENT, 100.0 * counts.merged_share()),
    ]);
    let per_delivery = usage.server_cpu.map(|cpu| micros_per(cpu, counts.deliveries as f64));
    figures.set_some("server_cpu_us_per_delivery", per_delivery);
    figures
}

fn usage_figures(usage: &Usage) -> Figures {
    let mut figures = Figures::from_iter([
        ("generator_cpu_percent", usage.own_percent()),
        ("machine_cpu_percent", usage.machine_percent),
    ]);
    figures.set_some("server_cpu_percent", usage.server_percent());
    figures
}

/// Adds how late the generator was at most, and how much of the time nothing could be sent or served
/// because others had the machine; of several loads, what the worst one had.
fn add_strain(figures: &mut Figures, Window { usage, late, .. }: &Window) {
    figures.raise(LATE_MS, late.as_secs_f64() * 1e3);
    figures.raise(LOST_PERCENT, usage.percent(usage.waited.max(*late)));
}

/// Of a busy room alone, and beside something that is done elsewhere: what the server used for that,
/// too, is no cost of a delivery.
fn figures_beside(plan: &Plan, alone: &Window, beside: &Window, arrived: f64) -> Figures {
    let mut figures = load_figures(beside, plan);
    figures.remove("server_cpu_us_per_delivery");
    figures.set("arrived", arrived);
    add_strain(&mut figures, alone);
    add_strain(&mut figures, beside);
    let quantiles = load_figures(alone, plan);
    for (name, alone) in [("p50_ms", "p50_ms_alone"), ("p99_ms", "p99_ms_alone")] {
        figures.set_some(alone, quantiles.get(name));
    }
    let p99 = figures.get("p99_ms").zip(quantiles.get("p99_ms"));
    figures.set_some("p99_change_percent", p99.map(|(now, alone)| percent(now - alone, alone)));
    figures
}

/// Adds how much more the load of these figures took than the same load before.
fn add_changes(figures: &mut Figures, before: &Figures) {
    for (name, more) in [("p50_ms", "p50_more_ms"), ("p99_ms", "p99_more_ms")] {
        let both = figures.get(name).zip(before.get(name));
        figures.set_some(more, both.map(|(after, before)| after - before));
    }
    let cost = "server_cpu_us_per_delivery";
    let change = figures.get(cost).zip(before.get(cost)).map(|(after, before)| after / before);
    figures.set_some("cpu_change_percent", change.map(|change| (change - 1.0) * 100.0));
    figures.set_some("server_cpu_us_per_delivery_before", before.get(cost));
    for strain in [LATE_MS, LOST_PERCENT] {
        if let Some(strained) = before.get(strain) {
            figures.raise(strain, strained);
        }
    }
}

fn micros_per(cpu: Duration, count: f64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
