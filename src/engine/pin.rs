//! What is done and the memory of it, which are stored together. While a caller holds a pin, no cut comes
//! between the two, and no record is made of the sessions that it has changed: what others change meanwhile
//! would part the request from what it did.

use super::{Engine, gate::Gate, live::Live};
use parking_lot::RwLockReadGuard;
use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering},
};

thread_local! {
    /// The sessions that this thread has changed under the pin that it holds; none = it holds none.
    static CHANGED: RefCell<Option<Vec<Arc<Live>>>> = const { RefCell::new(None) };
}

/// Keeps a cut from coming between what is done and the memory of it.
pub(super) struct Pin<'a> {
    engine: &'a Engine,
    _guard: RwLockReadGuard<'a, ()>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let changed = CHANGED.take().unwrap_or_default();
        changed.iter().for_each(|live| self.engine.let_go(live));
    }
}

impl Engine {
    /// No cut is taken while this is held, and no record of what its thread changes. Nobody who holds one
    /// takes another, or waits.
    pub(super) fn pin(&self) -> Option<Pin<'_>> {
        let keeping = self.inner.keeping.as_ref()?;
        let guard = keeping.pin.read();
        let outer = CHANGED.replace(Some(Vec::new()));
        debug_assert!(
            outer.is_none(),
            "what was changed under the outer pin would never be let go"
        );
        Some(Pin { engine: self, _guard: guard })
    }

    /// What was done under a pin is remembered: a record of the session may be made again.
    fn let_go(&self, live: &Arc<Live>) {
        let Some(keeping) = &self.inner.keeping else { return };
        let mut state = live.lock();
        let Some(gate) = &mut state.gate else { return };
        gate.holders -= 1;
        if gate.holders > 0 {
            drop(state);
            keeping.is_crowded.store(true, Ordering::Release);
            keeping.news.notify_one();
            return;
        }
        if state.core.is_open() {
            // The tick may have passed it by.
            self.schedule_tick(live, &mut state);
        }
        self.keep(live, &mut state);
    }

    /// Waits until whatever has a pin has dropped it: what was done by then is remembered, too.
    pub(super) fn wait_for_pins(&self) {
        if let Some(keeping) = &self.inner.keeping {
            drop(keeping.pin.write());
        }
    }

    /// Polls what may be done and remembered in one go.
    pub fn pinned<T>(&self, poll: impl FnOnce() -> T) -> T {
        let _pin = self.pin();
        poll()
    }
}

/// Notes that this thread has changed a session, if it holds a pin.
pub(super) fn hold(live: &Arc<Live>, gate: &mut Gate) {
    CHANGED.with_borrow_mut(|changed| {
        if let Some(changed) = changed
            && !changed.iter().any(|it| Arc::ptr_eq(it, live))
        {
            changed.push(live.clone());
            gate.holders += 1;
        }
    });
}
