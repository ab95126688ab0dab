//! A server with a store is killed under load, again and again, and started on the same store: nothing that was
//! answered as stored, and nothing of a SYNC session that anybody was shown, is ever gone, and nothing is done twice.
//!
//! 200 sessions of all durabilities and kinds, each with users who write by calls and up a stream, readers who note
//! what each position shows, bans, roles, settings, guests who are kicked, sessions that are opened and deleted.
//! After each start everything is held against that, and requests that got no answer are sent again.
//!
//! `cargo test --test kills` takes up to a minute. A thousand rounds:
//!
//! ```sh
//! SESSIOND_KILLS=1000 cargo test --release --test kills -- --nocapture
//! ```
//!
//! `SESSIOND_KILLS_SEED` names the seed, which a violation prints; moments are those of the machine all the same.
//! Every tenth round, or every one of `SESSIOND_KILLS_STOPS`, ends with SIGTERM: then nothing at all may be lost.
//! `SESSIOND_BIN` names another program than the one of this build.
#![cfg(target_os = "linux")]

mod calls;
mod check;
mod churn;
mod churning;
mod facts;
mod load;
mod readers;
#[allow(dead_code)]
#[path = "../service/support/rebuilt.rs"]
mod rebuilt;
#[allow(dead_code)]
#[path = "../chaos/server.rs"]
mod server;
mod slot;
#[allow(dead_code)]
#[path = "../service/support/values.rs"]
mod values;
mod world;

use calls::Calls;
use check::Checked;
use server::Server;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use world::World;

const SLOTS: usize = 160;
const CHURNS: usize = 40;

/// How many rounds there are, if there is the time.
const ROUNDS: u64 = 20;

/// After so long no other round is begun, unless the number of rounds is given.
const TIME: Duration = Duration::from_secs(45);

const CONNECTIONS: usize = 10;

/// Of so many rounds one ends with SIGTERM.
const STOPS: u64 = 10;

/// How long a stop may take, on a machine that may be busy.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// A small store, so that the log is trimmed all the time, and a stop without a notice.
const FLAGS: [&str; 6] =
    ["--max-store-bytes", "128MiB", "--tick-interval", "20ms", "--drain-notice", "0s"];

/// After so long a stop gives up to store everything: the default of `drain-timeout`.
const STORES_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn nothing_that_was_promised_is_gone_after_a_kill() {
    let rounds = given("SESSIOND_KILLS");
    let stops = given("SESSIOND_KILLS_STOPS").unwrap_or(STOPS);
    let seed = given("SESSIOND_KILLS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    fastrand::seed(seed);
    let folder = Folder::new(seed);
    let world = World::new(seed, SLOTS, CHURNS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let begin = Instant::now();
        let mut last = Instant::now();
        let mut done = 0;
        for round in 1..=rounds.unwrap_or(ROUNDS) {
            if rounds.is_none() && begin.elapsed() > TIME {
                break;
            }
            run(&world, &folder.0, round, round.is_multiple_of(stops)).await;
            done = round;
            if world.violations() > 0 {
                break;
            }
            if last.elapsed() > Duration::from_secs(30) {
                last = Instant::now();
                tell(format_args!("round {round}: {:?}", world.figures()));
            }
        }
        let time = begin.elapsed();
        tell(format_args!("seed {seed}, {done} rounds in {time:.0?}: {:?}", world.figures()));
        assert_eq!(world.violations(), 0, "seed {seed}: see above");
    });
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().expect("a number"))
}

/// Starts the server, holds what there is against what was promised, puts the load on it, and ends it.
async fn run(world: &Arc<World>, folder: &Path, round: u64, is_clean: bool) {
    world.begin(round);
    if round % 7 == 3 {
        // Killed while it starts, at any moment.
        for _ in 0..fastrand::usize(1..4) {
            start_and_kill(folder).await;
            world.end_again();
        }
    }
    let folder = folder.to_str().expect("UTF-8");
    let mut server = Server::start_by(command(), &[&["--store", folder], &FLAGS[..]].concat());
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Calls::connect(server.address).await.expect("it listens"));
    }
    let client = |number: usize| clients[number % CONNECTIONS].clone();
    let mut checks = JoinSet::new();
    for (number, churn) in world.churns.iter().enumerate() {
        checks.spawn(churning::check(world.clone(), churn.clone(), client(number)));
    }
    join(world, checks).await;
    if let Err(fault) = check::check_users(world, &mut client(0), round).await {
        world.violation("users", fault);
    }
    let mut checks = JoinSet::new();
    for (number, slot) in world.slots.iter().enumerate() {
        checks.spawn(check::check(world.clone(), slot.clone(), client(number)));
    }
    let checked = join(world, checks).await;
    if world.violations() > 0 {
        return;
    }
    world.serve();
    let mut load = JoinSet::new();
    for Checked { slot, reader, begins } in checked {
        let number = slot.lock().number;
        let Some(reader) = reader else { continue };
        load.spawn(reader.follow(world.clone(), slot.clone()));
        load.spawn(load::stream(world.clone(), slot.clone(), client(number), begins));
        load.spawn(load::control(world.clone(), slot.clone(), client(number)));
        load.spawn(load::calls(world.clone(), slot.clone(), client(number)));
    }
    for (number, churn) in world.churns.iter().enumerate() {
        load.spawn(churning::load(world.clone(), churn.clone(), client(number)));
    }
    sleep(Duration::from_millis(fastrand::u64(0..1_500))).await;
    world.end(is_clean);
    if is_clean {
        server.terminate();
        match server.exit(STOPS_WITHIN).await {
            None => world.violation("server", "it does not stop"),
            Some(time) => {
                world.count(|figures| figures.longest_stop = figures.longest_stop.max(time));
                if time > STORES_WITHIN {
                    world.end_was_cut();
                }
            }
        }
    }
    // It is killed if it still runs.
    drop(server);
    join(world, load).await;
}

/// Waits for tasks. One that panics has found something.
async fn join<T: 'static>(world: &World, mut tasks: JoinSet<T>) -> Vec<T> {
    let mut outcomes = Vec::new();
    loop {
        match timeout(Duration::from_secs(60), tasks.join_next()).await {
            Ok(None) => return outcomes,
            Ok(Some(Ok(outcome))) => outcomes.push(outcome),
            Ok(Some(Err(panic))) => world.violation("a client", panic),
            Err(_) => {
                world.violation("a client", "it waits for ever");
                return outcomes;
            }
        }
    }
}

/// The program, which knows no setting of these names.
fn command() -> Command {
    let mut command = Command::new(server::program());
    server::without_settings(&mut command);
    command
}

async fn start_and_kill(folder: &Path) {
    let child = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--store"])
        .arg(folder)
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("the program runs");
    sleep(Duration::from_millis(fastrand::u64(0..120))).await;
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}

/// Says a figure even where the output of tests that pass is not shown.
fn tell(figure: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "kills: {figure}");
}

/// A folder for the store, which goes with the test unless that fails.
struct Folder(PathBuf);

impl Folder {
    fn new(seed: u64) -> Self {
        let name = format!("kills-{}-{seed}", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kills: the store is in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
