//! When a backend that fails is not asked for a while.

use crate::session::limits::Micros;

/// Of how many calls the failures are counted.
const RECENT: u32 = 32;

/// Opens after failures, and is closed by a call that succeeds.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// So many failures one after the other open it.
    most: u32,
    /// For so long nobody is asked then.
    open_for: Micros,
    in_a_row: u32,
    /// The last calls, the newest first; a bit that is set failed.
    recent: u32,
    calls: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Nobody is asked until then.
    Open(Micros),
    /// One call is on its way that says how it goes on.
    Probing,
}

/// What becomes of the breaker by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// It has opened.
    Opened,
    /// It has closed.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub fn new(most: u32, open_for: Micros) -> Self {
        Self { most, open_for, in_a_row: 0, recent: 0, calls: 0, state: State::Closed }
    }

    /// Whether a call may begin; else after how long it is worth trying again.
    pub fn begin(&mut self, now: Micros) -> Result<(), Micros> {
        match self.state {
            State::Closed => Ok(()),
            State::Open(until) if now >= until => {
                self.state = State::Probing;
                Ok(())
            }
            State::Open(until) => Err(until - now),
            State::Probing => Err(self.open_for),
        }
    }

    /// A call that began has succeeded.
    pub fn succeeded(&mut self) -> News {
        self.count(false);
        self.in_a_row = 0;
        // What began before it opened says nothing of how it goes on.
        match self.state {
            State::Probing => {
                (self.state, self.recent, self.calls) = (State::Closed, 0, 0);
                News::Closed
            }
            State::Closed | State::Open(_) => News::None,
        }
    }

    /// A call that began has failed.
    pub fn failed(&mut self, now: Micros) -> News {
        self.count(true);
        self.in_a_row += 1;
        let is_rate = self.calls == RECENT && self.recent.count_ones() >= RECENT / 2;
        match self.state {
            State::Closed if self.in_a_row >= self.most || is_rate => {
                self.state = State::Open(now + self.open_for);
                News::Opened
            }
            State::Probing => {
                self.state = State::Open(now + self.open_for);
                News::None
            }
            State::Closed | State::Open(_) => News::None,
        }
    }

    /// A call that began has been given up: nothing is known of it.
    pub fn given_up(&mut self, now: Micros) {
        if self.state == State::Probing {
            self.state = State::Open(now);
        }
    }

    fn count(&mut self, has_failed: bool) {
        self.recent = self.recent << 1 | u32::from(has_failed);
        self.calls = (self.calls + 1).min(RECENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_probe_closes_it() {
        let mut breaker = Breaker::new(3, 100);
        for now in [0, 1] {
            assert_eq!(breaker.begin(now), Ok(()));
            assert_eq!(breaker.failed(now), News::None);
        }
        breaker.succeeded();
        for now in [2, 3] {
            assert_eq!((breaker.begin(now), breaker.failed(now)), (Ok(()), News::None));
        }
        assert_eq!(breaker.failed(4), News::Opened);
        assert_eq!(breaker.begin(5), Err(99));
        assert_eq!(breaker.begin(104), Ok(()), "one is asked");
        assert_eq!(breaker.begin(104), Err(100), "and only one");
        assert_eq!(breaker.failed(105), News::None);
        assert_eq!(breaker.begin(204), Err(1), "it is open again");
        assert_eq!(breaker.begin(205), Ok(()));
        breaker.given_up(206);
        assert_eq!(breaker.begin(206), Ok(()), "the next one is asked instead");
        assert_eq!(breaker.succeeded(), News::Closed);
        assert_eq!((breaker.begin(207), breaker.begin(207)), (Ok(()), Ok(())));
    }

    #[test]
    fn it_opens_when_every_other_call_fails() {
        let mut breaker = Breaker::new(3, 100);
        let mut opened = None;
        for at in 0..64 {
            assert_eq!(breaker.begin(at), Ok(()));
            if at % 2 == 0 {
                breaker.succeeded();
            } else if breaker.failed(at) == News::Opened {
                opened = Some(at);
                break;
            }
        }
        assert_eq!(opened, Some(31));
    }

    #[test]
    fn what_began_before_it_opened_does_not_close_it() {
        let mut breaker = Breaker::new(1, 100);
        assert_eq!((breaker.begin(0), breaker.begin(0)), (Ok(()), Ok(())));
        assert_eq!(breaker.failed(1), News::Opened);
        assert_eq!(breaker.succeeded(), News::None);
        assert_eq!(breaker.begin(2), Err(99));
    }
}
