//! Which streams of an app have changed for whom, so that a read looks at none that its reader may not
//! read.

use super::stream::Stream;
use crate::session::{
    command::Actor,
    ids::{Key, UserId},
};
use std::collections::{BTreeMap, BTreeSet};

/// The streams of an app by the revision of their last change.
#[derive(Debug, Default)]
pub struct Changes {
    /// Those that everybody may read.
    of_all: BTreeSet<(u64, Key)>,
    /// The others.
    of_some: BTreeSet<(u64, Key)>,
    /// Who may read which of the others.
    readable: BTreeMap<UserId, BTreeSet<Key>>,
}

impl Changes {
    /// A stream is there.
    pub fn add(&mut self, name: &Key, stream: &Stream) {
        self.of(stream).insert((stream.changed, name.clone()));
        for user in stream.access.only() {
            self.readable.entry(user.clone()).or_default().insert(name.clone());
        }
    }

    /// A stream, as it was, is gone.
    pub fn remove(&mut self, name: &Key, stream: &Stream) {
        self.of(stream).remove(&(stream.changed, name.clone()));
        for user in stream.access.only() {
            if let Some(names) = self.readable.get_mut(user) {
                names.remove(name);
                if names.is_empty() {
                    self.readable.remove(user);
                }
            }
        }
    }

    /// A stream has changed, before at another revision.
    pub fn moved(&mut self, name: &Key, stream: &Stream, before: u64) {
        let of = self.of(stream);
        of.remove(&(before, name.clone()));
        of.insert((stream.changed, name.clone()));
    }

    fn of(&mut self, stream: &Stream) -> &mut BTreeSet<(u64, Key)> {
        if stream.access.is_of_all() { &mut self.of_all } else { &mut self.of_some }
    }

    /// The streams that have changed after a revision and that somebody may read; maybe others that
    /// it may read, and no more others that it may not than it may.
    pub fn after(&self, after: u64, actor: &Actor) -> impl Iterator<Item = &Key> {
        let later = (after + 1, Key::default())..;
        let of_some = self.of_some.range(later.clone()).map(|(_, name)| name);
        let own = match actor {
            Actor::App => of_some.collect(),
            Actor::User(user) => {
                let readable = self.readable.get(user.id());
                let most = readable.map_or(0, BTreeSet::len);
                let changed: Vec<&Key> = of_some.take(most + 1).collect();
                match readable {
                    Some(readable) if changed.len() > most => readable.iter().collect(),
                    Some(_) => changed,
                    None => Vec::new(),
                }
            }
        };
        self.of_all.range(later).map(|(_, name)| name).chain(own)
    }
}
