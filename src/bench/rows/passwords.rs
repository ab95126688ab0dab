//! What guessing passwords does to others.

use super::{Bench, figures_beside};
use crate::bench::{
    Result,
    figures::Figures,
    load::Load,
    measure::watch,
    peer::Peer,
    server::Server,
    service::{Guesses, Service},
};
use std::rc::Rc;
use tokio::task::{JoinHandle, spawn_local};

/// Over how many sessions wrong passwords are spread, for each second. A session lets ten be
/// compared at once, see TOO_MANY_GUESSES: with so many sessions there is always one to compare.
const GUESSED_PER_SECOND: f64 = 16.0;
/// Their password, and what is taken for it.
const RIGHT: &str = "open sesame";
const WRONG: &str = "open barley";

/// A busy room, alone and beside a client that guesses.
pub async fn guessed(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = bench.plan(1, args.scaled(50, 2).min(50));
    let server = Server::start(args).await?;
    let service = Service::connect(server.place.clone()).await?;
    let guessing = args.warm_up() + args.duration();
    let sessions = (GUESSED_PER_SECOND * guessing.as_secs_f64()).ceil() as usize;
    bench.progress.step(format!("opening {sessions} sessions with a password"));
    service.open_idle(sessions, Some(RIGHT)).await?;
    service.open_rooms(&plan).await?;
    let mut load = Load::start(&plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step("a busy room alone".to_owned());
    let alone = watch(&mut load, &server.processes, args.duration()).await?;
    bench.progress.step("the busy room beside wrong passwords".to_owned());
    let guesses = Rc::new(Guesses::default());
    let guesser = AbortOnDrop(spawn_local(service.clone().guess(sessions, WRONG, guesses.clone())));
    load.go_on(args.warm_up()).await?;
    let before = guesses.so_far();
    let beside = watch(&mut load, &server.processes, args.duration()).await?;
    let after = guesses.so_far();
    if guesser.0.is_finished() {
        return Err("a guess was answered otherwise than by a refusal".into());
    }
    drop(guesser);
    let total = load.stop().await?;

    let mut figures = figures_beside(&plan, &alone, &beside, total.arrived());
    let seconds = beside.usage.elapsed.as_secs_f64();
    let per_second = |before: u64, after: u64| (after - before) as f64 / seconds;
    figures.extend([
        ("guesses_per_second", per_second(before.0 + before.1, after.0 + after.1)),
        ("compared_per_second", per_second(before.0, after.0)),
    ]);
    figures.set_some("server_cpu_percent_alone", alone.usage.server_percent());
    if server.processes.is_empty() {
        service.delete_idle(sessions).await?;
        service.delete_rooms(&plan).await?;
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
