//! What happens to machines and networks.

use crate::{
    common::Core,
    net::{LOG, NODES},
    plant::Plant,
};
use sessiond::{
    log::Partition,
    session::limits::{Micros, SECOND},
};

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A process is killed, and another one starts later.
    Crash(usize, Micros),
    /// A process stands still.
    Pause(usize, Micros),
    /// Nothing gets from one end to another, and perhaps nothing back.
    Cut { from: usize, to: usize, both: bool, until: Micros },
    /// A node hears nobody and nobody hears it, but for the log.
    Alone(usize, Micros),
    /// What comes from and to one end is late, lost and repeated.
    Worsen(usize, Micros),
    /// The log answers nobody.
    Stall(Micros),
    /// A process is told to stop, and another one starts later.
    Leave(usize, Micros),
    /// An admin moves a partition.
    Move(Partition, usize),
    /// Somebody sets a wall clock.
    SetWall(usize),
}

impl Fault {
    pub fn draw(core: &mut Core, partitions: usize) -> Self {
        let now = core.now;
        let draw = &mut core.draw;
        let node = draw.usize(..NODES);
        let end = draw.usize(..=LOG);
        let mut for_up_to = |most: Micros| now + draw.u64(SECOND / 4..most);
        let kind = for_up_to(100 * SECOND) % 100;
        // What is planted in hand-overs is found where there are many.
        let kind = if core.plant == Plant::ReleasesBeforeTheFlush { 77 + kind % 19 } else { kind };
        match kind {
            0..15 => Self::Crash(node, for_up_to(5 * SECOND)),
            15..35 => Self::Pause(node, for_up_to(10 * SECOND)),
            35..55 => {
                let until = for_up_to(12 * SECOND);
                let to = (end + draw.usize(1..=LOG)) % (LOG + 1);
                Self::Cut { from: end, to, both: draw.bool(), until }
            }
            55..63 => Self::Alone(node, for_up_to(10 * SECOND)),
            63..72 => Self::Worsen(end, for_up_to(8 * SECOND)),
            72..77 => Self::Stall(for_up_to(7 * SECOND)),
            77..85 => Self::Leave(node, for_up_to(4 * SECOND)),
            85..96 => Self::Move(Partition(draw.usize(..partitions) as u8), draw.usize(..NODES)),
            _ => Self::SetWall(node),
        }
    }
}
