//! What an attack may cost.

use crate::{
    honest::{Figures, Honest},
    server::{PATIENCE, Server, eventually},
};
use std::{
    env, thread,
    time::{Duration, Instant},
};

/// The most memory that an attack may take.
const MEMORY: u64 = 64 << 20;
/// The least share of the honest updates that must arrive.
const ARRIVED: f64 = 0.98;
/// At most so many times as long the slowest of 100 honest updates may take.
const SLOWED: f64 = 2.0;
/// A time below which nobody calls it slow.
const FAST_MS: f64 = 25.0;
/// The same for short attacks, by a machine that has other work, on a program that is not optimized.
const FAST_ROUGHLY_MS: f64 = 250.0;
/// The most log that an attack may cause.
const LOG: u64 = 64 << 10;
/// An attack of so long is measured strictly.
const LONG: Duration = Duration::from_secs(10);

/// How long an attack goes on.
pub fn attack_time() -> Duration {
    let seconds = env::var("SESSIOND_ATTACK_SECONDS").map_or(2.0, |seconds| {
        seconds.parse().expect("SESSIOND_ATTACK_SECONDS is a number of seconds")
    });
    Duration::from_secs_f64(seconds)
}

/// Whether there is time for large numbers.
pub fn is_long() -> bool {
    attack_time() >= LONG
}

/// A server with honest users, to be attacked.
pub struct Trial {
    pub server: Server,
    honest: Honest,
}

impl Trial {
    /// Starts both.
    pub fn start(settings: &[&str]) -> Self {
        let server = Server::start(settings);
        let honest = Honest::start(&server);
        Self { server, honest }
    }

    /// Attacks, until the moment that the attack is given, and looks what that costs. What the
    /// attack returns, its connections, is held until then.
    pub fn withstands<T>(&self, name: &str, attack: impl FnOnce(Instant) -> T) {
        let faults = self.faults(name, attack);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// What does not hold under an attack.
    pub fn faults<T>(&self, name: &str, attack: impl FnOnce(Instant) -> T) -> Vec<String> {
        let Self { server, honest } = self;
        let time = attack_time();
        let rest = (time / 2).min(LONG);
        let (before, ()) = honest.watch(|| thread::sleep(rest));
        let (memory, files, threads) = (server.memory(), server.open_files(), server.threads());
        let ((logged, ..), cpu) = (server.logged(), server.cpu());
        server.forget_peak();
        let begin = Instant::now();
        let (during, attackers) = honest.watch(|| {
            let until = begin + time;
            let attackers = attack(until);
            thread::sleep(until.saturating_duration_since(Instant::now()));
            attackers
        });
        let grown = server.peak().saturating_sub(memory);
        let used = (server.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        drop(attackers);
        let files_closed = eventually(PATIENCE, || server.open_files() <= files);
        let (after, ()) = honest.watch(|| thread::sleep(rest));
        let left = server.memory().saturating_sub(memory);
        let (log, _, last) = server.logged();
        let log = log - logged;
        println!(
            "{name}: memory +{:.1} MB, then +{:.1} MB; server {:.0} % of a core; log {log} bytes\n  \
             before {before}\n  during {during}\n  after  {after}",
            grown as f64 / 1e6,
            left as f64 / 1e6,
            100.0 * used,
        );
        let mut faults = Vec::new();
        let mut must = |holds: bool, fault: String| {
            if !holds {
                faults.push(format!("{name}: {fault}"));
            }
        };
        must(grown <= MEMORY, format!("the server grew by {} MB", grown / 1_000_000));
        must(left <= MEMORY, format!("{} MB stay", left / 1_000_000));
        must(files_closed, format!("{} files stay open, not {files}", server.open_files()));
        must(server.threads() <= threads, format!("{} threads, not {threads}", server.threads()));
        must(log <= LOG, format!("{log} bytes of log, such as {last}"));
        for (when, figures) in [("during", during), ("after", after)] {
            let Figures { arrived, p99_ms, .. } = figures;
            must(arrived >= ARRIVED, format!("{when} it, {:.1} % arrived", 100.0 * arrived));
            let fast = if is_long() { FAST_MS } else { FAST_ROUGHLY_MS };
            let most = fast.max(SLOWED * before.p99_ms);
            must(p99_ms <= most, format!("{when} it, p99 {p99_ms:.1} ms, more than {most:.1} ms"));
        }
        let failure = honest.failure();
        must(failure.is_none(), failure.unwrap_or_default());
        faults
    }
}
