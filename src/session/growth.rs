//! How lists grow that there are many of, most of them short: by a quarter, where a list that doubles
//! begins with room for four.

use slab::Slab;
use std::collections::VecDeque;

/// Makes room for one more at the end of a list.
pub trait Growth {
    /// Does so, if there is none.
    fn grow(&mut self);
}

/// By how much a full list of this length grows.
fn more(len: usize) -> usize {
    (len / 4).max(1)
}

impl<T> Growth for Vec<T> {
    fn grow(&mut self) {
        if self.len() == self.capacity() {
            self.reserve_exact(more(self.len()));
        }
    }
}

impl<T> Growth for VecDeque<T> {
    fn grow(&mut self) {
        if self.len() == self.capacity() {
            self.reserve_exact(more(self.len()));
        }
    }
}

impl<T> Growth for Slab<T> {
    fn grow(&mut self) {
        if self.len() == self.capacity() {
            self.reserve_exact(more(self.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_little_more_room_than_it_needs_and_seldom_grows() {
        let (mut list, mut slab, mut grown) = (Vec::new(), Slab::new(), 0);
        for n in 0..10_000_usize {
            let before = list.capacity();
            list.grow();
            slab.grow();
            list.push(n);
            slab.insert(n);
            grown += usize::from(list.capacity() != before);
            assert!(list.capacity() <= list.len().max(4) * 5 / 4 && list.capacity() > n);
            assert_eq!(slab.capacity(), list.capacity());
        }
        assert!(grown < 50, "{grown}");
    }
}
