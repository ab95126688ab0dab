//! How long partitions are not served.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Of each kind of fault, each partition that it meets.
#[derive(Debug, Default)]
pub struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    pub fn note(&mut self, kind: &'static str, time: Duration) {
        self.0.entry(kind).or_default().push(time);
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, times) in &self.0 {
            let mut sorted = times.clone();
            sorted.sort();
            let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
            let (p50, p99, most) = (at(50), at(99), at(100));
            let count = sorted.len();
            writeln!(f, "  {kind}: {count} times, p50 {p50:.2?}, p99 {p99:.2?}, most {most:.2?}")?;
        }
        Ok(())
    }
}
