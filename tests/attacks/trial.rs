//! What an attack may cost.

use crate::{
    honest::{Figures, Honest},
    server::{PATIENCE, Server, eventually},
};
use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// The most memory that an attack may take.
const MEMORY: u64 = 64 << 20;
/// The least share of the honest updates that must arrive. A program that is not optimized takes ten
/// times as long for what it does under attack, and need only stay alive.
const ARRIVED: f64 = if cfg!(debug_assertions) { 0.5 } else { 0.98 };
/// At most so many times as long the slowest of 100 honest updates may take.
const SLOWED: f64 = 2.0;
/// A time below which nobody calls it slow.
const FAST_MS: f64 = 25.0;
/// The same for short attacks, by a machine that has other work.
const FAST_ROUGHLY_MS: f64 = if cfg!(debug_assertions) { 1_000.0 } else { 250.0 };
/// The most log that an attack may cause.
const LOG: u64 = 64 << 10;
/// So often a short attack is tried.
const TRIES: usize = 3;
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
    /// What the honest users saw before the first attack.
    before: OnceLock<Figures>,
}

impl Trial {
    /// Starts both.
    pub fn start(settings: &[&str]) -> Self {
        let server = Server::start(settings);
        let honest = Honest::start(&server);
        Self { server, honest, before: OnceLock::new() }
    }

    /// Attacks, until the moment that the attack is given, and looks what that costs. What the
    /// attack returns, its connections, is held until then.
    pub fn withstands<T>(&self, name: &str, attack: impl FnMut(Instant) -> T) {
        let faults = self.faults(name, attack);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// What does not hold under an attack. A short one is tried again where only the time is at
    /// fault: in a second or two other work of the machine counts as much as the attack.
    pub fn faults<T>(&self, name: &str, mut attack: impl FnMut(Instant) -> T) -> Vec<String> {
        let tries = if is_long() { 1 } else { TRIES };
        let mut faults = Vec::new();
        for _ in 0..tries {
            let found = self.attack(name, &mut attack);
            faults = found.iter().map(|fault| format!("{name}: {}", fault.text)).collect();
            if found.iter().any(|fault| !fault.is_of_time) || faults.is_empty() {
                break;
            }
        }
        faults
    }

    fn attack<T>(&self, name: &str, attack: impl FnOnce(Instant) -> T) -> Vec<Fault> {
        let Self { server, honest, before } = self;
        let time = attack_time();
        let rest = (time / 2).min(LONG);
        let before = before.get_or_init(|| honest.watch(|| thread::sleep(rest)).0);
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
        let mut must = |holds: bool, is_of_time: bool, text: String| {
            if !holds {
                faults.push(Fault { is_of_time, text });
            }
        };
        must(grown <= MEMORY, false, format!("the server grew by {} MB", grown / 1_000_000));
        must(left <= MEMORY, false, format!("{} MB stay", left / 1_000_000));
        must(files_closed, false, format!("{} files stay, not {files}", server.open_files()));
        let threads_now = server.threads();
        must(threads_now <= threads, false, format!("{threads_now} threads, not {threads}"));
        must(log <= LOG, false, format!("{log} bytes of log, such as {last}"));
        let failure = honest.failure();
        must(failure.is_none(), false, failure.unwrap_or_default());
        for (when, figures) in [("during", during), ("after", after)] {
            let Figures { arrived, p99_ms, .. } = figures;
            must(arrived >= ARRIVED, true, format!("{when} it, {:.1} % arrived", 100.0 * arrived));
            let fast = if is_long() { FAST_MS } else { FAST_ROUGHLY_MS };
            let most = fast.max(SLOWED * before.p99_ms);
            let slow = format!("{when} it, p99 {p99_ms:.1} ms, more than {most:.1} ms");
            must(p99_ms <= most, true, slow);
        }
        faults
    }
}

/// What does not hold.
struct Fault {
    /// Whether a machine with other work might be to blame.
    is_of_time: bool,
    text: String,
}
