//! A queue in which apps take turns: an app with much to do does not hold back the first thing that
//! another one wants.

use super::App;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// What waits, by app.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: HashMap<usize, VecDeque<T>>,
    /// The apps with something waiting, in the order of their turns.
    turns: VecDeque<usize>,
    len: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }
}

/// What tells apps apart. What waits holds its app, so no other one has the same address.
fn key(app: &Arc<App>) -> usize {
    Arc::as_ptr(app) as usize
}

impl<T> Lanes<T> {
    /// How much waits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much of an app waits.
    pub fn len_of(&self, app: &Arc<App>) -> usize {
        self.lanes.get(&key(app)).map_or(0, VecDeque::len)
    }

    /// All that waits.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flatten()
    }

    /// Adds something of an app, which it must hold.
    pub fn push(&mut self, app: &Arc<App>, what: T) {
        let key = key(app);
        let lane = self.lanes.entry(key).or_default();
        if lane.is_empty() {
            self.turns.push_back(key);
        }
        lane.push_back(what);
        self.len += 1;
    }

    /// The first thing of the app whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let key = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let what = lane.pop_front()?;
        self.len -= 1;
        if lane.is_empty() {
            self.lanes.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        Some(what)
    }

    /// Keeps what is still wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.lanes.retain(|_, lane| {
            lane.retain(&mut wanted);
            !lane.is_empty()
        });
        self.turns.retain(|key| self.lanes.contains_key(key));
        self.len = self.lanes.values().map(VecDeque::len).sum();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::ids::AppId;

    fn app(id: &str) -> Arc<App> {
        Arc::new(App::new(AppId::new(id).expect("an id"), &Default::default()))
    }

    #[test]
    fn an_app_with_a_thousand_waiting_does_not_hold_back_the_first_of_another() {
        let (many, few) = (app("many"), app("few"));
        let mut lanes = Lanes::default();
        for number in 0..1000 {
            lanes.push(&many, ("many", number));
        }
        assert_eq!(lanes.pop(), Some(("many", 0)));
        lanes.push(&few, ("few", 0));
        lanes.push(&few, ("few", 1));
        let order: Vec<_> = (0..5).filter_map(|_| lanes.pop()).collect();
        assert_eq!(order, [("many", 1), ("few", 0), ("many", 2), ("few", 1), ("many", 3)]);
        assert_eq!((lanes.len(), lanes.len_of(&many), lanes.len_of(&few)), (996, 996, 0));
    }

    #[test]
    fn what_is_not_wanted_any_more_leaves_no_turn_behind() {
        let (a, b) = (app("a"), app("b"));
        let mut lanes = Lanes::default();
        for number in 0..4 {
            lanes.push(&a, number);
            lanes.push(&b, 10 + number);
        }
        lanes.retain(|number| *number >= 12);
        assert_eq!(lanes.len(), 2);
        lanes.push(&a, 5);
        let mut order: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        order.sort_unstable();
        assert_eq!(order, [5, 12, 13]);
        assert!(lanes.is_empty() && lanes.turns.is_empty() && lanes.lanes.is_empty());
    }
}
