//! Sessions that are stored.

use super::{Bench, turns};
use crate::bench::{Result, figures::Figures, folder::Folder, server::Server, service::Service};
use std::time::Instant;

/// How many sessions a killed server finds again.
const SESSIONS: usize = 100_000;

/// Rooms of 50 at a server without a store, in turns with the same at one that has it.
pub async fn beside_none(bench: &Bench, durability: &str) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(10, 1), bench.args.scaled(50, 2));
    let without = Server::start_with(&bench.args, bench.args.threads).await?;
    let folder = Folder::new()?;
    let with = Server::start_with_store(&bench.args, folder.path(), durability).await?;
    let written = with.written_bytes()?;
    bench.progress.step(format!("nothing is stored, and in turns durability {durability}"));
    let mut pair = turns::Pair::start(&plan, without, with).await?;
    let (mut figures, updates) = pair.measure(&bench.args).await?;
    let after = pair.server(1).written_bytes()?;
    pair.stop(&mut figures).await?;
    let written = after.zip(written).map(|(after, before)| (after - before) as f64);
    figures.set_some("bytes_written_per_update", written.map(|bytes| bytes / updates as f64));
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
