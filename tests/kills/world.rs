//! Everything that is known, and what was found to be wrong.

use crate::{churn::Churn, slot::Slot};
use parking_lot::Mutex;
use sessiond::proto::Position;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a record of an ASYNC session may be behind beside the interval and two commits: a tick, and what
/// an answer takes on a busy machine.
const MARGIN: Duration = Duration::from_millis(300);

/// How far an ASYNC session may be behind: the server's default.
const INTERVAL: Duration = Duration::from_millis(200);

/// How far an epoch may be ahead of the clock.
const EPOCHS_AHEAD: Duration = Duration::from_secs(30);

/// What all tasks share.
#[derive(Debug)]
pub struct World {
    pub seed: u64,
    pub slots: Vec<Arc<Mutex<Slot>>>,
    pub churns: Vec<Arc<Mutex<Churn>>>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    round: u64,
    end: Option<End>,
    epochs: BTreeMap<u64, String>,
    /// The greatest epoch that was seen before the server was started.
    greatest: u64,
    violations: Vec<String>,
    /// The longest time that a call took since the server was started which waits for a commit.
    longest: Duration,
    figures: Figures,
}

/// How the last server ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub at: Instant,
    /// It was told to stop and has stored everything.
    pub is_clean: bool,
    /// Since then it was killed while it started. Before it had the store, that was no end at all.
    pub is_again: bool,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub kills: u64,
    pub stops: u64,
    pub answers: u64,
    pub shown: u64,
    pub resumed: u64,
    pub judged: u64,
    pub retried: u64,
    pub in_doubt: u64,
    pub promised_lost: u64,
    pub async_lost: u64,
    /// How often a revision was named that is that of no frame any more.
    pub compared: u64,
    pub oldest: Duration,
    /// The longest time that a call took which waits for a commit.
    pub longest: Duration,
    pub longest_stop: Duration,
    pub statuses: BTreeSet<String>,
}

impl World {
    pub fn new(seed: u64, slots: usize, churns: usize) -> Arc<Self> {
        Arc::new(Self {
            seed,
            slots: (0..slots).map(|number| Arc::new(Mutex::new(Slot::new(number)))).collect(),
            churns: (0..churns).map(|number| Arc::new(Mutex::new(Churn::new(number)))).collect(),
            now: Mutex::default(),
        })
    }

    /// A server is started.
    pub fn begin(&self, round: u64) {
        let mut now = self.now.lock();
        now.round = round;
        now.figures.longest = now.figures.longest.max(now.longest);
        now.greatest = now.epochs.last_key_value().map_or(0, |(epoch, _)| *epoch);
    }

    /// It is served again, and the last end is done with.
    pub fn serve(&self) {
        let mut now = self.now.lock();
        (now.end, now.longest) = (None, Duration::ZERO);
    }

    /// So long took a call that waits for a commit, or was waited for until the kill.
    pub fn storing_took(&self, time: Duration) {
        let mut now = self.now.lock();
        now.longest = now.longest.max(time);
    }

    /// How old may be what is there of an ASYNC session.
    pub fn oldest(&self) -> Duration {
        INTERVAL + MARGIN + 2 * self.now.lock().longest
    }

    /// The server is about to end.
    pub fn end(&self, is_clean: bool) {
        let mut now = self.now.lock();
        now.end = Some(End { at: Instant::now(), is_clean, is_again: false });
        if is_clean {
            now.figures.stops += 1;
        } else {
            now.figures.kills += 1;
        }
    }

    /// How the last server ended; none while one is served.
    pub fn ended(&self) -> Option<End> {
        self.now.lock().end
    }

    /// The stop took so long that it may not have stored everything, which the log says.
    pub fn end_was_cut(&self) {
        if let Some(end) = &mut self.now.lock().end {
            end.is_clean = false;
        }
    }

    /// The server ended once more, before anybody was served.
    pub fn end_again(&self) {
        let mut now = self.now.lock();
        now.figures.kills += 1;
        if let Some(end) = &mut now.end {
            end.is_again = true;
        }
    }

    pub fn violation(&self, whose: &str, what: impl Display) {
        let mut now = self.now.lock();
        let text = format!("seed {} round {} {whose}: {what}", self.seed, now.round);
        eprintln!("kills: VIOLATION: {text}");
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

    /// A history that begins has an epoch that none had before, and a greater one than all before the
    /// server was started. It is near the clock.
    pub fn new_epoch(&self, whose: &str, position: Position) {
        let mut now = self.now.lock();
        let greatest = now.greatest;
        let before = now.epochs.insert(position.epoch, whose.to_owned());
        drop(now);
        if let Some(before) = before {
            self.violation(whose, format_args!("epoch {} was that of {before}", position.epoch));
        }
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if u128::from(position.epoch) > (clock + EPOCHS_AHEAD).as_micros() {
            let epoch = position.epoch;
            self.violation(whose, format_args!("epoch {epoch} is far ahead of the clock"));
        }
        if position.epoch <= greatest {
            let epoch = position.epoch;
            self.violation(whose, format_args!("epoch {epoch} is not above {greatest}"));
        }
    }

    /// A call was not answered as it should be: that is right only when the server ends.
    pub fn refused(&self, whose: &str, what: impl Display, status: &Status) {
        let is_end = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        );
        let (code, message) = (status.code(), status.message());
        self.count(|figures| {
            figures.statuses.insert(format!("{code:?}"));
        });
        // A machine that is busy with other things: nothing was done.
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        let is_busy = reason.as_deref() == Some("OVERLOADED");
        if !is_busy && (self.ended().is_none() || !is_end) {
            self.violation(whose, format_args!("{what}: {code:?}: {message}"));
        }
    }
}
