//! The keys of one session as small integers.

use super::{
    ids::Key,
    revision::Revision,
    seldom::{Seldom, empty},
    settings::Settings,
};
use rustc_hash::FxHashMap;

/// Stands for a key while at least one slot uses it; then it may come to stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIx(u32);

impl KeyIx {
    /// Where the key stands in the order of keys, for records.
    pub fn place(self) -> u32 {
        self.0
    }
}

/// More places than all keys of a session need.
const PLACES: u32 = 1 << 23;

/// What is known of a key.
#[derive(Debug)]
pub(super) struct Name {
    pub key: Key,
    /// No other key of the session ever has it, nor this one once nobody uses it any more.
    pub serial: u64,
    /// The last revision at which a member came to show the key that did not before.
    pub news: Revision,
    pub uses: u32,
    pub selected: bool,
    pub of_host: bool,
}

/// The keys of a session; many have none.
pub type Names = Seldom<NamesByKey>;

/// Keys by index and indices by key.
#[derive(Debug, Default)]
pub struct NamesByKey {
    /// By place.
    pub(super) names: Vec<Option<Name>>,
    /// The places that no key has, and that are taken from the end.
    pub(super) free: Vec<u32>,
    pub(super) index: FxHashMap<Key, KeyIx>,
    /// The last serial number that was given.
    pub(super) last: u64,
}

empty!(NamesByKey);

impl NamesByKey {
    /// The index of a key that some slot uses.
    pub fn find(&self, key: &str) -> Option<KeyIx> {
        self.index.get(key).copied()
    }

    /// The index of `key` for one more slot; `settings` are those of the last frame, as those that
    /// are accepted may be taken back before the next.
    pub fn claim(&mut self, key: &Key, settings: &Settings) -> KeyIx {
        if let Some(&ix) = self.index.get(key) {
            self.name_mut(ix).uses += 1;
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
        let place = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            u32::try_from(self.names.len() - 1).expect("fewer slots than 2^32")
        });
        let ix = KeyIx(place);
        self.names[place as usize] = Some(entry);
        self.index.insert(key.clone(), ix);
        ix
    }

    /// One slot less uses the key.
    pub fn give_back(&mut self, ix: KeyIx) {
        let name = self.name_mut(ix);
        name.uses -= 1;
        if name.uses == 0 {
            self.drop_unused(ix);
        }
    }

    /// Drops a key that no slot uses.
    pub(super) fn drop_unused(&mut self, ix: KeyIx) {
        if let Some(name) = self.names[ix.0 as usize].take_if(|name| name.uses == 0) {
            self.index.remove(&name.key);
            self.free.push(ix.0);
        }
    }

    fn name(&self, ix: KeyIx) -> &Name {
        self.names[ix.0 as usize].as_ref().expect("a key in use")
    }

    fn name_mut(&mut self, ix: KeyIx) -> &mut Name {
        self.names[ix.0 as usize].as_mut().expect("a key in use")
    }

    /// The key itself.
    pub fn key(&self, ix: KeyIx) -> &Key {
        &self.name(ix).key
    }

    /// Stands for the key in columns: it is never another key's.
    pub fn serial(&self, ix: KeyIx) -> u64 {
        self.name(ix).serial
    }

    /// The last revision at which a member came to show the key that did not before.
    pub fn news(&self, ix: KeyIx) -> Revision {
        self.name(ix).news
    }

    /// A member comes to show the key.
    pub fn is_news(&mut self, ix: KeyIx, revision: Revision) {
        self.name_mut(ix).news = revision;
    }

    /// Whether `propnames` select the key, as of the last frame.
    pub fn is_selected(&self, ix: KeyIx) -> bool {
        self.name(ix).selected
    }

    /// Whether members see the key of the host, as of the last frame.
    pub fn is_of_host(&self, ix: KeyIx) -> bool {
        self.name(ix).of_host
    }

    /// The selection changed.
    pub fn select(&mut self, settings: &Settings) {
        for name in self.names.iter_mut().flatten() {
            name.selected = settings.selects(&name.key);
            name.of_host = settings.shows_of_host(&name.key);
        }
    }

    /// The keys that somebody came to show after a revision, with their places.
    pub(super) fn told_after(&self, revision: Revision) -> impl Iterator<Item = (u32, &Name)> {
        (0..).zip(&self.names).filter_map(move |(place, name)| {
            Some((place, name.as_ref().filter(|name| name.news > revision)?))
        })
    }

    /// The key at a place, if there is one.
    pub(super) fn at(&self, place: u32) -> Option<KeyIx> {
        self.names.get(place as usize)?.as_ref().map(|_| KeyIx(place))
    }

    /// A key has a place, as its owner says: no slot uses it yet, or it has it already. False = another
    /// key has the place, or the key has another one.
    pub(super) fn put(&mut self, place: u32, name: Name) -> bool {
        if let Some(known) = self.at(place).map(|ix| self.name_mut(ix)) {
            known.news = known.news.max(name.news);
            return (&known.key, known.serial) == (&name.key, name.serial);
        }
        if place >= PLACES || self.index.contains_key(&name.key) {
            return false;
        }
        let end = self.names.len() as u32;
        if place < end {
            self.free.retain(|free| *free != place);
        } else {
            self.free.extend((end..place).rev());
            self.names.resize_with(place as usize + 1, || None);
        }
        self.index.insert(name.key.clone(), KeyIx(place));
        self.names[place as usize] = Some(name);
        true
    }

    /// One more slot uses the key.
    pub(super) fn one_more(&mut self, ix: KeyIx) {
        self.name_mut(ix).uses += 1;
    }
}
