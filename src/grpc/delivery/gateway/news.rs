//! What a gateway learns of its users, in the order in which it happened.

use super::fitting;
use crate::proto;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;

/// What was not sent yet. In a message, handles end before others are in use, so a message ends where
/// a handle ends that it says to be in use.
#[derive(Debug, Default)]
pub struct News(VecDeque<Step>);

/// Users that ended, and those that were attached after that.
#[derive(Debug, Default)]
struct Step {
    ended: Vec<proto::HandleEnded>,
    attached: Vec<proto::Attached>,
    /// The handles of those that were attached.
    handles: FxHashSet<u32>,
}

impl News {
    /// Users were attached.
    pub fn attach(&mut self, attached: impl IntoIterator<Item = proto::Attached>) {
        for user in attached {
            let step = self.last();
            step.handles.insert(user.handle);
            step.attached.push(user);
        }
    }

    /// The handle of a user ended.
    pub fn end(&mut self, ended: proto::HandleEnded) {
        if self.last().handles.contains(&ended.handle) {
            self.0.push_back(Step::default());
        }
        self.last().ended.push(ended);
    }

    fn last(&mut self) -> &mut Step {
        if self.0.is_empty() {
            self.0.push_back(Step::default());
        }
        self.0.back_mut().expect("there is one")
    }

    /// Takes out what fits into a message.
    pub fn take(&mut self, room: &mut usize) -> (Vec<proto::HandleEnded>, Vec<proto::Attached>) {
        let Some(mut step) = self.0.pop_front() else { return Default::default() };
        let (ended, later) = fitting(step.ended, room);
        step.ended = later;
        let mut attached = Vec::new();
        // Nobody is in use under a handle before it has ended.
        if step.ended.is_empty() {
            (attached, step.attached) = fitting(step.attached, room);
        }
        if !(step.ended.is_empty() && step.attached.is_empty()) {
            self.0.push_front(step);
        }
        (ended, attached)
    }

    /// Whether all of it was sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 10_000;

    fn attached(handle: u32) -> [proto::Attached; 1] {
        [proto::Attached { handle, ..Default::default() }]
    }

    fn ended(handle: u32) -> proto::HandleEnded {
        proto::HandleEnded { handle, ..Default::default() }
    }

    fn take(news: &mut News, mut room: usize) -> (Vec<u32>, Vec<u32>) {
        let (ended, attached) = news.take(&mut room);
        let ended = ended.iter().map(|it| it.handle).collect();
        (ended, attached.iter().map(|it| it.handle).collect())
    }

    #[test]
    fn a_handle_that_ended_before_it_is_in_use_again_is_told_so() {
        let mut news = News::default();
        news.end(ended(1));
        news.attach(attached(1));
        news.end(ended(2));
        assert_eq!(take(&mut news, ROOM), (vec![1, 2], vec![1]));
        assert!(news.is_empty());
    }

    #[test]
    fn a_handle_that_ended_after_it_was_in_use_is_told_so_in_a_later_message() {
        let mut news = News::default();
        news.attach(attached(1));
        news.end(ended(1));
        news.attach(attached(1));
        news.end(ended(1));
        assert_eq!(take(&mut news, ROOM), (vec![], vec![1]));
        assert_eq!(take(&mut news, ROOM), (vec![1], vec![1]));
        assert_eq!(take(&mut news, ROOM), (vec![1], vec![]));
        assert!(news.is_empty());
    }

    #[test]
    fn nobody_is_in_use_before_an_end_that_there_was_no_room_for() {
        let mut news = News::default();
        (1..=3).for_each(|handle| news.end(ended(handle)));
        news.attach(attached(3));
        let one = 12;
        assert_eq!(take(&mut news, one), (vec![1], vec![]));
        assert_eq!(take(&mut news, 2 * one), (vec![2, 3], vec![]));
        assert_eq!(take(&mut news, ROOM), (vec![], vec![3]));
        assert!(news.is_empty());
    }
}
