//! The clocks of the machines: each begins somewhere else, and none is exact.

use sessiond::{
    cluster::BootMicros,
    session::limits::{Micros, SECOND},
};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

/// The wall clock of a simulation that begins.
const BEGIN: Micros = 1_767_225_600 * SECOND;

/// By how many millionths a clock may go too fast or too slow.
const MOST_DRIFT: i64 = 1_000;

/// By how much a wall clock may be off.
const MOST_OFF: Micros = 20 * SECOND;

/// The clocks of a machine. What is true is told in microseconds since the begin of the simulation.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    zero: Micros,
    /// In millionths.
    drift: i64,
    off: i64,
}

impl Machine {
    pub fn draw(draw: &mut fastrand::Rng) -> Self {
        let mut machine = Self {
            zero: draw.u64(1_000 * SECOND..1_000_000 * SECOND),
            drift: draw.i64(-MOST_DRIFT..=MOST_DRIFT),
            off: 0,
        };
        machine.set_wall(draw);
        machine
    }

    /// Somebody sets the wall clock, and it jumps.
    pub fn set_wall(&mut self, draw: &mut fastrand::Rng) {
        let most = MOST_OFF as i64;
        self.off = draw.i64(-most..=most);
    }

    /// The clock that goes on while the machine sleeps.
    pub fn boot(&self, now: Micros) -> BootMicros {
        let drift = now as i64 * self.drift / 1_000_000;
        BootMicros(self.zero + now.saturating_add_signed(drift))
    }

    pub fn wall(&self, now: Micros) -> Micros {
        (BEGIN + now).saturating_add_signed(self.off)
    }
}

/// The boot clock as a process reads it: it stands still while the process does.
#[derive(Debug, Clone)]
pub struct Watch(Arc<AtomicU64>);

impl Watch {
    pub fn new(now: BootMicros) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    pub fn set(&self, now: BootMicros) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    pub fn now(&self) -> BootMicros {
        BootMicros(self.0.load(Ordering::Relaxed))
    }

    /// Nobody is woken: whoever runs the process polls everything in it again and again.
    pub async fn sleep(&self, span: Micros) {
        let until = self.now().after(span);
        self.until(|now| (now >= until).then_some(())).await;
    }

    /// Waits until there is something.
    pub async fn until<T>(&self, mut look: impl FnMut(BootMicros) -> Option<T> + Unpin) -> T {
        poll_fn(|_| look(self.now()).map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// Polls once.
pub fn at_once<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    match poll(what.as_mut()) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

pub fn poll<T>(what: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    what.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
