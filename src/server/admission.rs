//! Which calls with one reply a thread takes up when it has more to do than it can.
//!
//! What a call will wait is how many wait before it, times how long it lately took from the start of
//! one to that of the next. Once that was over [`STANDING`] for [`PATIENCE`], each call that would wait
//! for longer is refused as it comes in, which costs little, until there is less to do than can be
//! done. So those that are taken up are done soon, and the thread does as much as it can. A burst that
//! is worked off in time is not refused, unless it is more than [`MOST`].
//!
//! Of the calls that wait only a few stand in the queue of the runtime: frames, streams and answers to
//! health checks come between them.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// What calls may wait for all the time.
const STANDING: Duration = Duration::from_millis(25);

/// How long they may wait for longer than that: a burst is over by then, or whatever else kept the
/// thread from its work. So long there must be less to do until that is so again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a call may wait at all.
const MOST: Duration = Duration::from_secs(1);

/// What the calls in the queue of the runtime may take together, and how many they are at most: so long
/// others wait for them.
const AHEAD: (Duration, usize) = (Duration::from_millis(1), 32);

/// How long a call takes until more is known, and at least.
const FIRST: Duration = Duration::from_micros(100);
const LEAST: Duration = Duration::from_micros(1);

/// The share of the last start in what starts take: one in so many.
const WEIGHT: u32 = 16;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets calls in on one thread.
pub struct Gate {
    /// None = everything is let in: there is no time in which to be late.
    state: Option<Mutex<State<Call>>>,
}

/// What is known of the calls of a thread.
#[derive(Debug)]
struct State<C> {
    /// In the queue of the runtime, and not begun.
    ahead: usize,
    /// Behind them.
    waiting: VecDeque<C>,
    /// From one start to the next, while there is always one more.
    each: Duration,
    /// The last start, if another call was waiting then.
    started_at: Option<Instant>,
    mood: Mood,
}

/// Whether a call is refused that would wait for longer than calls may wait all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// It is not. Since when calls would.
    Patient(Option<Instant>),
    /// It is. Since when calls would wait for half as long at most.
    Strict(Option<Instant>),
}

impl<C> State<C> {
    fn new() -> Self {
        Self {
            ahead: 0,
            waiting: VecDeque::new(),
            each: FIRST,
            started_at: None,
            mood: Mood::Patient(None),
        }
    }

    /// What a call would wait that comes in now.
    fn wait(&self) -> Duration {
        let calls = u32::try_from(self.ahead + self.waiting.len()).unwrap_or(u32::MAX);
        self.each.saturating_mul(calls)
    }

    /// Whether a call that comes in now is taken up.
    fn admits(&mut self, now: Instant) -> bool {
        self.look(now);
        let most = if matches!(self.mood, Mood::Strict(_)) { STANDING } else { MOST };
        self.wait() <= most
    }

    /// Takes note of how long calls would wait.
    fn look(&mut self, now: Instant) {
        let wait = self.wait();
        let lasts = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        self.mood = match self.mood {
            Mood::Patient(_) if wait <= STANDING => Mood::Patient(None),
            Mood::Patient(Some(since)) if lasts(since) => Mood::Strict(None),
            Mood::Patient(since) => Mood::Patient(since.or(Some(now))),
            Mood::Strict(_) if wait > STANDING / 2 => Mood::Strict(None),
            Mood::Strict(Some(since)) if lasts(since) => Mood::Patient(None),
            Mood::Strict(since) => Mood::Strict(since.or(Some(now))),
        };
    }

    /// Takes a call up; returns it if it goes into the queue of the runtime now.
    fn add(&mut self, call: C) -> Option<C> {
        let (time, most) = AHEAD;
        let fit = time.as_nanos() / self.each.as_nanos().max(1);
        if self.waiting.is_empty() && self.ahead < most.min(fit as usize).max(1) {
            self.ahead += 1;
            return Some(call);
        }
        self.waiting.push_back(call);
        None
    }

    /// A call begins; returns the one that goes into the queue of the runtime for it.
    fn starts(&mut self, now: Instant) -> Option<C> {
        if let Some(before) = self.started_at {
            // The thread may have been without a core: that says nothing of the next call.
            let took = now.saturating_duration_since(before).min(STANDING);
            self.each = (self.each * (WEIGHT - 1) + took) / WEIGHT;
            self.each = self.each.max(LEAST);
        }
        self.ahead -= 1;
        let next = self.waiting.pop_front();
        self.ahead += usize::from(next.is_some());
        self.started_at = (self.ahead > 0).then_some(now);
        self.look(now);
        next
    }
}

impl Gate {
    /// One that measures, or lets everything in.
    pub fn new(measures: bool) -> Arc<Self> {
        Arc::new(Self { state: measures.then(|| Mutex::new(State::new())) })
    }

    /// Whether a call that comes in now is taken up.
    pub fn admits(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state.lock().admits(Instant::now()))
    }

    /// Takes a call up. On the thread of the gate.
    pub fn spawn(self: &Arc<Self>, call: impl Future<Output = ()> + Send + 'static) {
        let Some(state) = &self.state else {
            drop(tokio::spawn(call));
            return;
        };
        let call: Call = Box::pin(call);
        let call = state.lock().add(call);
        if let Some(call) = call {
            self.begin(call);
        }
    }

    fn begin(self: &Arc<Self>, call: Call) {
        tokio::spawn(Begun { gate: Some(self.clone()), call });
    }

    fn starts(self: &Arc<Self>) {
        let next = self.state.as_ref().and_then(|state| state.lock().starts(Instant::now()));
        if let Some(next) = next {
            self.begin(next);
        }
    }
}

/// A call in the queue of the runtime, or one that has begun.
struct Begun {
    /// None = it has begun.
    gate: Option<Arc<Gate>>,
    call: Call,
}

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = self.gate.take() {
            gate.starts();
        }
        self.call.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_micros(100);

    /// A thread that does one call after the other, and calls that come in at even distances; returns
    /// how many were done and refused, and how long the last ones waited.
    fn run(time: Duration, distance: Duration) -> (u32, u32, Duration) {
        let mut state = State::<Instant>::new();
        let begin = Instant::now();
        let (mut now, mut next_in, mut ahead) = (begin, begin, VecDeque::new());
        let (mut done, mut refused, mut waited) = (0, 0, Duration::ZERO);
        while now < begin + time {
            while next_in <= now {
                if state.admits(next_in) {
                    ahead.extend(state.add(next_in));
                } else {
                    refused += 1;
                }
                next_in += distance;
            }
            let Some(came_at) = ahead.pop_front() else {
                now = next_in;
                continue;
            };
            ahead.extend(state.starts(now));
            waited = now - came_at;
            now += CALL;
            done += 1;
        }
        (done, refused, waited)
    }

    #[test]
    fn a_thread_that_keeps_up_refuses_nothing() {
        let (done, refused, waited) = run(Duration::from_secs(2), CALL * 11 / 10);
        assert!(done > 18_000, "{done}");
        assert_eq!((refused, waited), (0, Duration::ZERO));
    }

    #[test]
    fn at_three_times_what_it_can_do_a_thread_does_all_that_it_can_and_soon() {
        let (done, refused, waited) = run(Duration::from_secs(2), CALL / 3);
        assert!(done >= 19_999, "it has no pause: {done}");
        assert!((38_000..=41_000).contains(&refused), "{refused}");
        assert!(waited <= STANDING + Duration::from_millis(1), "{waited:?}");
    }

    #[test]
    fn a_burst_that_is_worked_off_in_time_is_taken_up_whole() {
        let mut state = State::<()>::new();
        let begin = Instant::now();
        let burst = 900;
        let mut begun = 0;
        for _ in 0..burst {
            assert!(state.admits(begin));
            begun += usize::from(state.add(()).is_some());
        }
        assert_eq!(begun, 10, "a millisecond of them, and the others wait");
        for call in 0..burst {
            let _ = state.starts(begin + CALL * call);
        }
        assert_eq!((state.ahead, state.waiting.len()), (0, 0));
        assert_eq!(state.mood, Mood::Patient(None));
        assert!(state.admits(begin + Duration::from_secs(1)));
    }

    #[test]
    fn what_would_wait_for_too_long_is_refused_at_once() {
        let mut state = State::<()>::new();
        let now = Instant::now();
        let admitted =
            (0..100_000).take_while(|_| state.admits(now) && state.add(()).is_none_or(|()| true));
        assert_eq!(admitted.count(), 10_001, "a second of them");
    }

    #[test]
    fn a_pause_without_calls_is_not_what_a_call_takes() {
        let mut state = State::<()>::new();
        let begin = Instant::now();
        for second in 0..100 {
            state.add(());
            let _ = state.starts(begin + Duration::from_secs(second));
        }
        assert_eq!(state.each, FIRST);
    }
}
