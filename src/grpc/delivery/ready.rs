//! Which of many subscriptions of a stream have something to say: each has a waker of its own, which
//! notes that and wakes the stream once. So a stream looks only where something happened.

use parking_lot::Mutex;
use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// The places of a stream that were woken.
#[derive(Default)]
pub struct Ready {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    places: Vec<usize>,
    /// The task of the stream, unless it was woken since it looked.
    waker: Option<Waker>,
}

/// Wakes one place.
struct Ring {
    place: usize,
    state: Arc<Mutex<State>>,
    /// The place is among those that were woken.
    is_noted: AtomicBool,
}

/// The waker of a place.
#[derive(Debug, Clone)]
pub struct PlaceWaker {
    waker: Waker,
    ring: Arc<Ring>,
}

impl Ready {
    /// A waker for a place.
    pub fn waker(&self, place: usize) -> PlaceWaker {
        let (state, is_noted) = (self.state.clone(), AtomicBool::new(false));
        let ring = Arc::new(Ring { place, state, is_noted });
        PlaceWaker { waker: ring.clone().into(), ring }
    }

    /// Takes out the places that were woken, behind those in `places`; the task is woken with the
    /// next one.
    pub fn take(&self, cx: &Context<'_>, places: &mut Vec<usize>) {
        let mut state = self.state.lock();
        places.append(&mut state.places);
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("place", &self.place).finish_non_exhaustive()
    }
}

impl PlaceWaker {
    /// The place is looked at now: it is noted again if it is woken after this.
    pub fn context(&self) -> Context<'_> {
        self.ring.is_noted.store(false, Ordering::SeqCst);
        Context::from_waker(&self.waker)
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_noted.swap(true, Ordering::SeqCst) {
            return;
        }
        let waker = {
            let mut state = self.state.lock();
            state.places.push(self.place);
            mem::take(&mut state.waker)
        };
        waker.into_iter().for_each(Waker::wake);
    }
}
