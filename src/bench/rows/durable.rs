//! Sessions that are stored.

use super::{Bench, add_changes, busy};
use crate::bench::{
    Result, figures::Figures, folder::Folder, process::Process, server::Server, service::Service,
};
use std::time::Instant;

/// How many sessions a killed server finds again.
const SESSIONS: usize = 100_000;

/// Rooms of 50 at a server without a store, and then the same at one with it.
pub async fn beside_none(bench: &Bench, durability: &str) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(10, 1), bench.args.scaled(50, 2));
    let server = Server::start(&bench.args).await?;
    if server.process.is_none() {
        return Err(super::Skipped("needs servers of its own, not the one at --address").into());
    }
    bench.progress.step("nothing is stored".to_owned());
    let (_, before) = busy::at_server(&server, &plan, &bench.args).await?;
    server.stop().await?;

    let folder = Folder::new()?;
    let server = Server::start_with_store(&bench.args, folder.path(), durability).await?;
    bench.progress.step(format!("the same with durability {durability}"));
    let written = server.process.as_ref().map(Process::written_bytes).transpose()?;
    let (_, mut figures) = busy::at_server(&server, &plan, &bench.args).await?;
    let after = server.process.as_ref().map(Process::written_bytes).transpose()?;
    server.stop().await?;

    add_changes(&mut figures, &before);
    // The warm-up is not in the window, and is written too.
    let seconds = (bench.args.warm_up() + bench.args.duration()).as_secs_f64();
    let updates = (plan.rooms * plan.users) as f64 * seconds / plan.period.as_secs_f64();
    let written = after.zip(written).map(|(after, before)| (after - before) as f64 / updates);
    figures.set_some("bytes_written_per_update", written);
    Ok(figures)
}

/// How long a server that was killed takes until it serves all its sessions again.
pub async fn restart(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let sessions = args.scaled(SESSIONS, 10);
    let folder = Folder::new()?;
    let server = Server::start_with_store(args, folder.path(), "async").await?;
    let service = Service::connect(server.place.clone()).await?;
    bench.progress.step(format!("{sessions} sessions are opened and stored"));
    let begin = Instant::now();
    service.open_idle(sessions, None).await?;
    let opened = begin.elapsed();
    server.stop().await?;
    bench.progress.step(format!("{sessions} sessions are read after a kill"));
    let begin = Instant::now();
    let server = Server::start_with_store(args, folder.path(), "async").await?;
    let ready = begin.elapsed();
    let resident = server.resident_bytes()?;
    let service = Service::connect(server.place.clone()).await?;
    // Each of them is there.
    service.delete_idle(sessions).await?;
    server.stop().await?;
    let mut figures = Figures::default();
    figures.set("sessions", sessions as f64);
    figures.set("opened_per_second", sessions as f64 / opened.as_secs_f64());
    figures.set("ready_after_ms", ready.as_secs_f64() * 1e3);
    figures.set_some("resident_mib", resident.map(|bytes| bytes as f64 / (1 << 20) as f64));
    Ok(figures)
}
