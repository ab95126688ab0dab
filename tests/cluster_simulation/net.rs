//! What is on its way between whom, and what becomes of it.

use sessiond::session::limits::{Micros, SECOND};

/// Where the nodes are, by number, and who else there is.
pub const NODES: usize = 3;
pub const LOG: usize = NODES;
pub const CLIENTS: usize = NODES + 1;
const ENDS: usize = NODES + 2;

/// How long a message is on its way at least and at most, usually.
const DELAY: std::ops::Range<Micros> = 200..8_000;

#[derive(Debug, Default)]
pub struct Net {
    /// Until when nothing gets from one end to another.
    cut: [[Micros; ENDS]; ENDS],
    /// Until when messages of an end are late, lost and repeated.
    bad: [Micros; ENDS],
    /// Until when the log stands still: it is choosing a leader.
    pub stalled: Micros,
}

impl Net {
    /// Nothing gets from one end to another for a while.
    pub fn cut(&mut self, from: usize, to: usize, until: Micros) {
        let cut = &mut self.cut[from][to];
        *cut = (*cut).max(until);
    }

    pub fn worsen(&mut self, end: usize, until: Micros) {
        self.bad[end] = self.bad[end].max(until);
    }

    /// All faults are over.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    pub fn is_cut(&self, from: usize, to: usize, now: Micros) -> bool {
        self.cut[from][to] > now
    }

    /// When a message arrives: never, once or several times. A stream of bytes may be late, and arrives
    /// once.
    pub fn arrivals(
        &self,
        (from, to): (usize, usize),
        is_stream: bool,
        now: Micros,
        draw: &mut fastrand::Rng,
    ) -> Vec<Micros> {
        if self.is_cut(from, to, now) {
            return Vec::new();
        }
        let mut arrivals = vec![now + draw.u64(DELAY)];
        if self.bad[from] > now || self.bad[to] > now {
            let late = |draw: &mut fastrand::Rng| match draw.u8(..4) {
                0 => draw.u64(..6 * SECOND),
                _ => draw.u64(..SECOND / 2),
            };
            arrivals[0] += late(draw);
            if !is_stream {
                match draw.u8(..8) {
                    0 | 1 => drop(arrivals.pop()),
                    2 | 3 => arrivals.push(now + late(draw)),
                    _ => {}
                }
            }
        }
        if to == LOG {
            arrivals.iter_mut().for_each(|at| *at = (*at).max(self.stalled));
        }
        arrivals
    }
}
