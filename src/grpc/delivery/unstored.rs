//! Messages whose writes count as done when they are stored.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// How many of them wait before nothing more is read.
const MOST: usize = 1024;

/// What is waited for, in the order of the messages.
#[derive(Default)]
pub struct Unstored {
    /// Each with the last message before it.
    waiting: VecDeque<(u64, Storing)>,
    /// Something was stored that the client has not learnt of.
    has_news: bool,
}

type Storing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting: Vec<u64> = self.waiting.iter().map(|(after, _)| *after).collect();
        f.debug_struct("Unstored").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Unstored {
    /// What comes after a message waits until something is stored.
    pub fn add(&mut self, after: u64, storing: impl Future<Output = ()> + Send + 'static) {
        self.waiting.push_back((after, Box::pin(storing)));
        // The task is polled again right after this.
        self.has_news = true;
    }

    /// Looks what is stored.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some((_, storing)) = self.waiting.front_mut() {
            let Poll::Ready(()) = storing.as_mut().poll(cx) else { return };
            self.waiting.pop_front();
            self.has_news = true;
        }
    }

    /// The last message before all that waits; none = nothing does.
    pub fn after(&self) -> Option<u64> {
        self.waiting.front().map(|(after, _)| *after)
    }

    /// Whether there may be something to tell since this was asked last.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether so much waits that nothing more should be read.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MOST
    }
}
