//! Of which version of records what is stored is.

use crate::record::{self, Entry};
use bytes::Bytes;
use std::{fmt, sync::Arc};

/// Says it each time that something is stored: in a cluster it changes while programs are renewed.
#[derive(Clone)]
pub struct Versions(Arc<dyn Fn() -> u8 + Send + Sync>);

impl Versions {
    /// As `says` does, which knows the readers.
    pub fn said_by(says: impl Fn() -> u8 + Send + Sync + 'static) -> Self {
        Self(Arc::new(says))
    }

    /// Adds an entry to others.
    pub(super) fn put(&self, bytes: &mut Vec<u8>, entry: &Entry) {
        record::put_as((self.0)(), bytes, entry);
    }

    /// Entries as the state of a subject; none = there is nothing to know.
    pub(super) fn state(&self, entries: &[Entry]) -> Option<Bytes> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| self.put(&mut bytes, entry));
        (!bytes.is_empty()).then(|| bytes.into())
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self::said_by(|| record::VERSION)
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").finish_non_exhaustive()
    }
}

#[test]
fn each_time_it_is_asked_for_the_version_and_whatever_is_said_can_be_read() {
    use crate::session::epoch::Epoch;
    use std::sync::atomic::{AtomicU8, Ordering};
    let asked = Arc::new(AtomicU8::new(0));
    let says = asked.clone();
    let versions = Versions::said_by(move || says.fetch_add(1, Ordering::Relaxed));
    let entry = Entry::GreatestEpoch(Epoch(7));
    let state = versions.state(&[entry.clone(), entry.clone(), entry.clone()]);
    let read: Result<Vec<_>, _> = record::Entries::of(&state.expect("a state")).collect();
    assert_eq!(read, Ok(vec![entry.clone(), entry.clone(), entry]));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
