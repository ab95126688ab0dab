//! What backends have answered, for a while.

use crate::{proto::AuthorizeResponse, session::limits::Micros};
use prost::Message;
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, sync::Arc};

/// Bytes of all answers of a hook that are remembered, with what an entry takes itself.
const MOST: usize = 16 << 20;

/// Bytes of an entry without its answer.
const ENTRY: usize = 256;

/// The hash of a question.
pub type Key = [u8; 32];

/// Answers by what was asked. All stay for the same time, so the oldest goes first.
#[derive(Debug)]
pub struct Cache {
    stay: Micros,
    answers: FxHashMap<Key, (Micros, Arc<AuthorizeResponse>)>,
    order: VecDeque<(Micros, Key, usize)>,
    bytes: usize,
}

impl Cache {
    /// An empty one, whose answers stay for so long; 0 = not at all.
    pub fn new(stay: Micros) -> Self {
        Self { stay, answers: FxHashMap::default(), order: VecDeque::new(), bytes: 0 }
    }

    /// Whether anything is ever remembered.
    pub fn is_used(&self) -> bool {
        self.stay > 0
    }

    /// What was answered, if that is still so.
    pub fn find(&mut self, key: &Key, now: Micros) -> Option<Arc<AuthorizeResponse>> {
        self.forget(now, 0);
        self.answers.get(key).map(|(_, answer)| answer.clone())
    }

    /// Remembers an answer.
    pub fn put(&mut self, key: Key, answer: AuthorizeResponse, now: Micros) {
        let bytes = answer.encoded_len() + ENTRY;
        if !self.is_used() || bytes > MOST {
            return;
        }
        self.forget(now, bytes);
        let until = now + self.stay;
        self.answers.insert(key, (until, Arc::new(answer)));
        self.order.push_back((until, key, bytes));
        self.bytes += bytes;
    }

    /// Forgets what is over, and the oldest until there is room.
    fn forget(&mut self, now: Micros, room: usize) {
        while let Some(&(until, key, bytes)) = self.order.front()
            && (until <= now || self.bytes + room > MOST)
        {
            self.order.pop_front();
            self.bytes -= bytes;
            // It may have been answered again since.
            if self.answers.get(&key).is_some_and(|(of, _)| *of == until) {
                self.answers.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &str) -> AuthorizeResponse {
        AuthorizeResponse { message: message.to_owned(), ..Default::default() }
    }

    fn find(cache: &mut Cache, key: u8, now: Micros) -> Option<String> {
        cache.find(&[key; 32], now).map(|answer| answer.message.clone())
    }

    #[test]
    fn an_answer_is_remembered_for_so_long_and_a_later_one_takes_its_place() {
        let mut cache = Cache::new(10);
        cache.put([1; 32], answer("a"), 0);
        assert_eq!(find(&mut cache, 1, 9).as_deref(), Some("a"));
        assert_eq!(find(&mut cache, 2, 9), None);
        cache.put([1; 32], answer("b"), 5);
        assert_eq!(find(&mut cache, 1, 10).as_deref(), Some("b"));
        assert_eq!(find(&mut cache, 1, 15), None);
        assert_eq!((cache.bytes, cache.answers.len()), (0, 0));
        let mut never = Cache::new(0);
        never.put([1; 32], answer("a"), 0);
        assert_eq!(find(&mut never, 1, 0), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut cache = Cache::new(10);
        let large = "x".repeat(MOST / 4);
        for key in 0..8 {
            cache.put([key; 32], answer(&large), 0);
            assert!(cache.bytes <= MOST);
        }
        assert_eq!(find(&mut cache, 0, 1), None);
        assert!(find(&mut cache, 7, 1).is_some());
        cache.put([9; 32], answer(&"x".repeat(MOST)), 0);
        assert_eq!(find(&mut cache, 9, 1), None);
    }
}
