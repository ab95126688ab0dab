//! Tries every course of a model within its bounds, the short ones first.

use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::hash_map::Entry,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What can happen.
pub trait Model: Sync {
    type State: Clone + Hash + Send + Sync;
    type Action: Copy + Debug + Send + Sync;

    fn begin(&self) -> Self::State;

    /// What can happen next, and what comes of it.
    fn next(&self, state: &Self::State, take: &mut dyn FnMut(Self::Action, Self::State));

    /// What is wrong with a state; none = nothing.
    fn fault(&self, state: &Self::State) -> Option<&'static str>;
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome<A> {
    /// No state has a fault: how many there are, and the length of the longest shortest course.
    Holds { states: usize, depth: usize },
    /// The shortest course to a state that has one.
    Fails { fault: &'static str, course: Vec<A> },
}

/// The states are told apart by a hash of 64 bits: of ten million, two are taken for one with a chance
/// of one in a hundred thousand.
fn print_of<S: Hash>(state: &S) -> u64 {
    let mut bytes = Bytes(Vec::with_capacity(512));
    state.hash(&mut bytes);
    bytes.finish()
}

/// All that is to be hashed, at once: without optimisation that is much faster than one by one.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn finish(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.finish()
    }
}

/// Tries all courses.
pub fn check<M: Model>(model: &M) -> Outcome<M::Action> {
    let begin = model.begin();
    let first = print_of(&begin);
    let mut seen: Seen<M::Action> = Seen::from_iter([(first, None)]);
    let mut level = vec![begin];
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for Step { from, action, to, state } in expand(model, &level, &seen) {
            let Entry::Vacant(entry) = seen.entry(to) else { continue };
            entry.insert(Some((from, action)));
            if let Some(fault) = model.fault(&state) {
                return Outcome::Fails { fault, course: course(&seen, to) };
            }
            next.push(state);
        }
        level = next;
        depth += 1;
    }
    Outcome::Holds { states: seen.len(), depth }
}

/// From where a state was come to first, and by what.
type Seen<A> = FxHashMap<u64, Option<(u64, A)>>;

struct Step<M: Model> {
    from: u64,
    action: M::Action,
    to: u64,
    state: M::State,
}

/// Each new state that follows from a level; one may be there several times.
fn expand<M: Model>(model: &M, level: &[M::State], seen: &Seen<M::Action>) -> Vec<Step<M>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = level.len().div_ceil(threads).max(1);
    let of_part = |states: &[M::State]| {
        let (mut steps, mut own) = (Vec::new(), FxHashSet::default());
        for state in states {
            let from = print_of(state);
            model.next(state, &mut |action, state| {
                let to = print_of(&state);
                if !seen.contains_key(&to) && own.insert(to) {
                    steps.push(Step { from, action, to, state });
                }
            });
        }
        steps
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            level.chunks(part).map(|states| scope.spawn(move || of_part(states))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
    })
}

fn course<A: Copy>(seen: &Seen<A>, mut at: u64) -> Vec<A> {
    let mut course = Vec::new();
    while let Some(Some((from, action))) = seen.get(&at) {
        course.push(*action);
        at = *from;
    }
    course.reverse();
    course
}
