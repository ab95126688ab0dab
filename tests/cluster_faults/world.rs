//! Everything that is known, and what was found to be wrong.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};
use tokio::{sync::RwLock, time::sleep};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// After so long a request that nobody answers is a fault, although it is sent again all the time.
pub const STALL: Duration = Duration::from_secs(60);

/// What all tasks share.
#[derive(Debug)]
pub struct World {
    pub seed: u64,
    begun: Instant,
    /// Whoever writes has it for reading; whoever checks has it for writing: then nothing is on its way.
    pub gate: RwLock<()>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    round: u64,
    fault: String,
    violations: Vec<String>,
    figures: Figures,
    gaps: Vec<Duration>,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub answers: u64,
    pub retries: u64,
    pub shown: u64,
    pub deltas: u64,
    pub epochs: u64,
    pub judged: u64,
    pub probes: u64,
    /// Writes up streams that were acked.
    pub moves: u64,
    /// Sessions that are not stored and were opened, again and again.
    pub passed: u64,
    /// Nodes that ended by themselves and were started again.
    pub exits: u64,
    /// The longest time that a request took with all its retries.
    pub longest: Duration,
    pub statuses: BTreeMap<String, u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { seed, begun: Instant::now(), gate: RwLock::default(), now: Mutex::default() }
    }

    /// The next fault is about to be.
    pub fn begin(&self, round: u64, fault: &str) {
        let mut now = self.now.lock();
        (now.round, now.fault) = (round, fault.to_owned());
    }

    pub fn violation(&self, whose: &str, what: impl Display) {
        let mut now = self.now.lock();
        let (seed, round, fault, at) = (self.seed, now.round, &now.fault, self.begun.elapsed());
        let text = format!("seed {seed} round {round} ({fault}) at {at:.1?}: {whose}: {what}");
        eprintln!("cluster_faults: {} VIOLATION: {text}", wall());
        now.violations.push(text);
    }

    pub fn violations(&self) -> usize {
        self.now.lock().violations.len()
    }

    pub fn figures(&self) -> Figures {
        self.now.lock().figures.clone()
    }

    pub fn count(&self, count: impl FnOnce(&mut Figures)) {
        count(&mut self.now.lock().figures);
    }

    /// A subscriber that came back was told nothing for so long.
    pub fn gap(&self, gap: Duration) {
        self.now.lock().gaps.push(gap);
    }

    /// How long subscribers that came back were told nothing, since this was asked the last time.
    pub fn gaps(&self) -> Vec<Duration> {
        std::mem::take(&mut self.now.lock().gaps)
    }

    /// A call was not answered: whether that is one of the ways in which faults show.
    pub fn is_fault(&self, whose: &str, what: &impl Display, status: &Status) -> bool {
        let code = status.code();
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        let name = reason.unwrap_or_else(|| "transport".to_owned());
        self.count(|figures| *figures.statuses.entry(format!("{code:?} {name}")).or_default() += 1);
        let is_fault = matches!(code, Code::Unavailable | Code::DeadlineExceeded)
            // A machine that is busy with three nodes and three servers.
            || name == "OVERLOADED"
            // The client's own words for a connection that is lost, and for its own deadline.
            || (matches!(code, Code::Unknown | Code::Cancelled | Code::Internal)
                && name == "transport");
        if !is_fault {
            self.violation(whose, format_args!("{what}: {code:?}: {}", status.message()));
        }
        is_fault
    }

    /// How long a client waits before it tries again: as long as it is told.
    pub fn pause(status: &Status) -> Duration {
        let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
        told.unwrap_or_else(|| Duration::from_millis(fastrand::u64(20..150)))
    }

    /// Makes a call again and again until it is answered. None = it is refused, or never answered.
    pub async fn until_answered<T, F: Future<Output = Result<T, Status>>>(
        &self,
        whose: &str,
        what: impl Display,
        mut call: impl FnMut() -> F,
    ) -> Option<T> {
        let begun = Instant::now();
        loop {
            match call().await {
                Ok(answer) => {
                    self.count(|figures| {
                        figures.answers += 1;
                        figures.longest = figures.longest.max(begun.elapsed());
                    });
                    return Some(answer);
                }
                Err(status) => {
                    if !self.is_fault(whose, &what, &status) {
                        return None;
                    }
                    self.count(|figures| figures.retries += 1);
                    if begun.elapsed() > STALL {
                        let time = begun.elapsed();
                        self.violation(whose, format_args!("{what}: {time:?}: {status:?}"));
                        return None;
                    }
                    sleep(Self::pause(&status)).await;
                }
            }
        }
    }
}

/// The time of the day, as logs have it.
pub fn wall() -> String {
    humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string()
}
