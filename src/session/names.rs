//! The keys of one session as small integers.

use super::{ids::Key, revision::Revision, settings::Settings};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Stands for a key while at least one slot uses it; then it may come to stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIx(u32);

/// What is known of a key.
#[derive(Debug)]
struct Name {
    key: Key,
    /// No other key of the session ever has it, nor this one once nobody uses it any more.
    serial: u64,
    /// The last revision at which a member came to show the key that did not before.
    news: Revision,
    uses: u32,
    selected: bool,
    of_host: bool,
}

/// Keys by index and indices by key.
#[derive(Debug, Default)]
pub struct Names {
    names: Slab<Name>,
    index: FxHashMap<Key, KeyIx>,
    /// The last serial number that was given.
    last: u64,
}

impl Names {
    /// The index of a key that some slot uses.
    pub fn find(&self, key: &str) -> Option<KeyIx> {
        self.index.get(key).copied()
    }

    /// The index of `key` for one more slot; `settings` are those of the last frame, as those that
    /// are accepted may be taken back before the next.
    pub fn take(&mut self, key: &Key, settings: &Settings) -> KeyIx {
        if let Some(&ix) = self.index.get(key) {
            self.names[ix.0 as usize].uses += 1;
            return ix;
        }
        self.last += 1;
        let entry = Name {
            key: key.clone(),
            serial: self.last,
            news: Revision::NONE,
            uses: 1,
            selected: settings.selects(key),
            of_host: settings.shows_of_host(key),
        };
        let ix = KeyIx(u32::try_from(self.names.insert(entry)).expect("fewer slots than 2^32"));
        self.index.insert(key.clone(), ix);
        ix
    }

    /// One slot less uses the key.
    pub fn give_back(&mut self, ix: KeyIx) {
        let name = &mut self.names[ix.0 as usize];
        name.uses -= 1;
        if name.uses == 0 {
            let name = self.names.remove(ix.0 as usize);
            self.index.remove(&name.key);
        }
    }

    /// The key itself.
    pub fn key(&self, ix: KeyIx) -> &Key {
        &self.names[ix.0 as usize].key
    }

    /// Stands for the key in columns: it is never another key's.
    pub fn serial(&self, ix: KeyIx) -> u64 {
        self.names[ix.0 as usize].serial
    }

    /// The last revision at which a member came to show the key that did not before.
    pub fn news(&self, ix: KeyIx) -> Revision {
        self.names[ix.0 as usize].news
    }

    /// A member comes to show the key.
    pub fn is_news(&mut self, ix: KeyIx, revision: Revision) {
        self.names[ix.0 as usize].news = revision;
    }

    /// Whether `propnames` select the key, as of the last frame.
    pub fn is_selected(&self, ix: KeyIx) -> bool {
        self.names[ix.0 as usize].selected
    }

    /// Whether members see the key of the host, as of the last frame.
    pub fn is_of_host(&self, ix: KeyIx) -> bool {
        self.names[ix.0 as usize].of_host
    }

    /// The selection changed.
    pub fn select(&mut self, settings: &Settings) {
        for (_, name) in &mut self.names {
            name.selected = settings.selects(&name.key);
            name.of_host = settings.shows_of_host(&name.key);
        }
    }
}
