//! What is being done at the moment and how long the rest takes, on stderr: a bar for people, a line
//! per step for logs.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::RefCell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

/// How far the run is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    plan: RefCell<Estimate>,
}

/// How long things take: guessed at first, known once a repetition of the row is done.
#[derive(Debug, Default)]
struct Estimate {
    /// What is to come after this row.
    later: Vec<Duration>,
    /// A repetition of this row, and how many are to come after this one.
    repetition: Duration,
    left: usize,
    /// When this repetition began.
    began: Option<Instant>,
    /// The guesses of the rows, last one first.
    guesses: Vec<(Duration, usize)>,
}

impl Progress {
    /// At the start: how long a repetition of each row takes, and how many there are.
    pub fn new(rows: impl Iterator<Item = (Duration, usize)>) -> Self {
        let mut plan = Estimate { guesses: rows.collect(), ..Estimate::default() };
        let parts: usize = plan.guesses.iter().map(|(_, repeat)| repeat).sum();
        plan.guesses.reverse();
        plan.next_row();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(parts as u64);
            let style = "{spinner} {pos}/{len} {elapsed}, {prefix} {wide_msg}";
            let style = ProgressStyle::with_template(style);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { bar, plan: RefCell::new(plan) }
    }

    /// A repetition begins.
    pub fn part(&self, text: String) {
        self.plan.borrow_mut().next_repetition(Instant::now());
        let left = told(self.plan.borrow().left());
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => eprintln!("{text}, {left}"),
        }
        self.step(text);
    }

    /// This is being done now.
    pub fn step(&self, text: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(told(self.plan.borrow().left()));
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }

    /// A row is done, also if it ended early.
    pub fn row_done(&self) {
        self.plan.borrow_mut().next_row();
    }
}

impl Estimate {
    fn next_row(&mut self) {
        let (repetition, left) = self.guesses.pop().unwrap_or_default();
        let later = self.guesses.iter().map(|(each, repeat)| *each * *repeat as u32).collect();
        *self = Estimate { later, repetition, left, began: None, guesses: self.guesses.clone() };
    }

    fn next_repetition(&mut self, now: Instant) {
        if let Some(began) = self.began.replace(now) {
            self.repetition = now - began;
        }
        self.left = self.left.saturating_sub(1);
    }

    /// From the beginning of this repetition on.
    fn left(&self) -> Duration {
        let later: Duration = self.later.iter().sum();
        later + self.repetition * (self.left + 1) as u32
    }
}

fn told(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..90 => format!("about {seconds} s left"),
        seconds => format!("about {} min left", (seconds + 30) / 60),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_rest_is_guessed_and_then_known() {
        let mut plan =
            Estimate { guesses: vec![(seconds(20), 1), (seconds(10), 3)], ..Default::default() };
        plan.next_row();
        let start = Instant::now();
        plan.next_repetition(start);
        assert_eq!(plan.left(), seconds(3 * 10 + 20));
        // It took longer.
        plan.next_repetition(start + seconds(15));
        assert_eq!(plan.left(), seconds(2 * 15 + 20));
        // A row that ends early takes no more time.
        plan.next_row();
        plan.next_repetition(start + seconds(16));
        assert_eq!(plan.left(), seconds(20));
    }

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(told(seconds(89)), "about 89 s left");
        assert_eq!(told(seconds(95)), "about 2 min left");
    }
}
