//! A load at the server, and the same at the floor.

use super::{Bench, add_strain, load_figures, micros_per};
use crate::bench::{
    Result,
    args::{BenchArgs, Shape},
    figures::Figures,
    floor::FloorArgs,
    load::{Load, Plan},
    measure::{Window, watch},
    peer::{COLYSEUS, Peer, Relay},
    process::Process,
    report::{LATE_MS, LOST_PERCENT, MERGED_PERCENT, MERGED_PERCENT_MAX, Measured},
    server::Server,
    service::Service,
    tally::Counts,
};
use std::{net::SocketAddr, time::Duration};

/// So much a ramp raises the number of rooms at a time.
const RAMP: f64 = 1.25;
/// If it begins with too much, so many times fewer are tried.
const RAMP_BACK: usize = 4;
/// A ramp ends where the p99 is over the tick by more than this.
const RAMP_MARGIN: Duration = Duration::from_millis(5);
/// A step of a ramp is lost by the machine, not the server, if so much of its time was lost.
const RAMP_LOST_PERCENT: f64 = 10.0;

/// Opens the rooms of the plan, sends its load and watches it.
pub async fn at_server(
    server: &Server,
    plan: &Plan,
    args: &BenchArgs,
) -> Result<(Window, Figures)> {
    let service = Service::connect(server.place.clone()).await?;
    service.open_rooms(plan).await?;
    let mut load = Load::start(plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    load.go_on(args.warm_up()).await?;
    let window = watch(&mut load, &server.processes, args.duration()).await?;
    let total = load.stop().await?;
    service.delete_rooms(plan).await?;
    let mut figures = load_figures(&window, plan);
    figures.set("arrived", total.arrived());
    add_strain(&mut figures, &window);
    Ok((window, figures))
}

/// The load at a new server and then, where its CPU is seen, the same reads and writes at the floor, and
/// the same load at the peers, if there are any.
pub async fn beside_others(bench: &Bench, plan: &Plan) -> Result<Figures> {
    at_and_beside(bench, plan, Server::start(&bench.args).await?).await
}

/// The same at this server, which ends with it.
pub async fn at_and_beside(bench: &Bench, plan: &Plan, server: Server) -> Result<Figures> {
    bench.progress.step(format!("{} rooms of {} users at the server", plan.rooms, plan.users));
    let (window, mut figures) = at_server(&server, plan, &bench.args).await?;
    server.stop().await?;
    if let Some(server_cpu) = window.usage.server_cpu {
        at_floor(bench, plan, window.counts, server_cpu, &mut figures).await?;
        at_peers(bench, plan, &mut figures).await?;
    }
    Ok(figures)
}

/// The reads and writes of the plan at the floor, in the sizes that the server was seen to have.
async fn at_floor(
    bench: &Bench,
    plan: &Plan,
    counts: Counts,
    server_cpu: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let args = &bench.args;
    let plan = plan.plain();
    let update_bytes = counts.bytes_up.div_ceil(counts.sends.max(1)) as usize;
    let message_bytes = counts.bytes_down.div_ceil(counts.messages.max(1)) as usize;
    bench.progress.step(format!("the same at the floor: {message_bytes} bytes a message"));
    let command_line = FloorArgs::command_line(args.threads, plan.tick, message_bytes);
    let floor = Process::start(&command_line).await?;
    let peer = Peer::Floor { address: floor.address, update_bytes, message_bytes };
    let mut load = Load::start(&plan, &peer).await?;
    load.go_on(args.warm_up()).await?;
    let window = watch(&mut load, std::slice::from_ref(&floor), args.duration()).await?;
    add_strain(figures, &window);
    drop(load);
    floor.stop().await?;

    let floor_cpu = window.usage.server_cpu.unwrap_or_default();
    // The window may begin and end within a tick.
    let full_ticks = window.usage.elapsed.saturating_sub(plan.tick);
    let deliveries_per_send = counts.deliveries as f64 / counts.sends as f64;
    let floor_us = micros_per(floor_cpu, window.counts.sends as f64 * deliveries_per_send);
    figures.extend([
        ("floor_us_per_delivery", floor_us),
        ("floor_ratio", micros_per(server_cpu, counts.deliveries as f64) / floor_us),
        ("floor_arrived", window.counts.messages as f64 / plan.messages_in(full_ticks)),
        ("update_bytes_on_the_wire", update_bytes as f64),
        ("message_bytes_on_the_wire", message_bytes as f64),
    ]);
    Ok(())
}

/// The load at each peer that takes loads of this shape.
async fn at_peers(bench: &Bench, plan: &Plan, figures: &mut Figures) -> Result<()> {
    match plan.shape {
        Shape::Own => {
            at_peer(bench, plan, COLYSEUS, |address| Peer::Colyseus { address }, figures).await
        }
        Shape::Gateway => {
            for relay in Relay::ALL {
                let peer = |address| Peer::Relay { relay, address };
                at_peer(bench, plan, relay.name(), peer, figures).await?;
            }
            Ok(())
        }
        Shape::Hosted => Ok(()),
    }
}

async fn at_peer(
    bench: &Bench,
    plan: &Plan,
    name: &str,
    peer: impl FnOnce(SocketAddr) -> Peer,
    figures: &mut Figures,
) -> Result<()> {
    let args = &bench.args;
    let Some(folder) = &args.peers else { return Ok(()) };
    let Some(process) = Process::start_peer(folder, name).await? else {
        bench.progress.step(format!("{name} is not installed"));
        return Ok(());
    };
    bench.progress.step(format!("the same at {name}"));
    let mut load = Load::start(plan, &peer(process.address)).await?;
    load.go_on(args.warm_up()).await?;
    let window = watch(&mut load, std::slice::from_ref(&process), args.duration()).await?;
    let total = load.stop().await?;
    add_strain(figures, &window);
    process.stop().await?;

    let theirs = load_figures(&window, plan);
    let cost = "server_cpu_us_per_delivery";
    for figure in [cost, "server_cpu_percent", "bytes_per_delivery", "p50_ms", "p99_ms"] {
        figures.set_some(format!("{name}_{figure}"), theirs.get(figure));
    }
    figures.set(format!("{name}_arrived"), total.arrived());
    let ratio = figures.get(cost).zip(theirs.get(cost)).map(|(ours, theirs)| ours / theirs);
    figures.set_some(format!("{name}_ratio"), ratio);
    Ok(())
}

/// Raises the number of rooms until the p99 is over the tick and a margin, or much is merged. The
/// figures are those of the last step before, and each step's. If the first step is too much already,
/// smaller ones are tried before.
pub async fn ramp(bench: &Bench, plan: &Plan) -> Result<Measured> {
    let server = Server::start(&bench.args).await?;
    let most_ms = (plan.tick + RAMP_MARGIN).as_secs_f64() * 1e3;
    let mut plan = plan.clone();
    let mut measured = Measured::default();
    let mut has_good = false;
    loop {
        bench.progress.step(format!("{} rooms of {} users", plan.rooms, plan.users));
        let (window, mut step) = at_server(&server, &plan, &bench.args).await?;
        let writes = window.counts.updates as f64 * plan.props as f64;
        step.set("prop_writes_per_second", writes / window.usage.elapsed.as_secs_f64());
        let is_good = step.get("p99_ms").is_some_and(|p99| p99 <= most_ms)
            && step.get(MERGED_PERCENT).is_some_and(|merged| merged <= MERGED_PERCENT_MAX);
        measured.steps.push((plan.rooms as f64, step.clone()));
        // To be held up once in a long ramp spoils nothing: what counts is the p99.
        let strain = [LATE_MS, LOST_PERCENT].map(|name| (name, step.remove(name)));
        if is_good {
            has_good = true;
            measured.figures = step;
            measured.figures.set("limit_rooms", plan.rooms as f64);
            plan.set_size(|size| ((size as f64 * RAMP).round() as usize).max(size + 1));
            continue;
        }
        measured.figures.set("too_many_rooms", plan.rooms as f64);
        if !has_good && plan.set_size(|size| size / RAMP_BACK) {
            continue;
        }
        // Where generator or machine were too slow, the limit of the server is not found.
        if strain[1].1.is_some_and(|lost| lost > RAMP_LOST_PERCENT) {
            for (name, value) in strain {
                measured.figures.set_some(name, value);
            }
        }
        break;
    }
    server.stop().await?;
    Ok(measured)
}

impl Plan {
    /// Changes the number of rooms; of several rooms to a backend, it is their number that changes.
    /// Nothing changes if none would be left.
    fn set_size(&mut self, change: impl Fn(usize) -> usize) -> bool {
        let backends = self.rooms / self.rooms_per_backend;
        let (rooms, rooms_per_backend) = match self.rooms_per_backend {
            1 => (change(self.rooms), 1),
            several => (backends * change(several), change(several)),
        };
        if rooms == 0 {
            return false;
        }
        (self.rooms, self.rooms_per_backend) = (rooms, rooms_per_backend);
        true
    }
}
