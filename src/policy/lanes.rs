//! Who is asked about next: each app has a lane of its own at a hook, with a breaker, with places for
//! calls that are on their way, and with a queue for those. So an app whose questions fail or hang
//! closes the hook for no other.

use super::breaker::{Breaker, News};
use crate::session::limits::{Micros, SECOND};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

/// How many questions about the same user there are at a time: more fail.
const QUESTIONS_PER_USER: usize = 16;

/// How many apps are remembered. Of those that ask nothing the one goes that asked longest ago.
const APPS: usize = 1024;

/// For how many apps there is room, where all of them ask as much as one may.
const FULL_APPS: usize = 4;

/// Calls of a hook that are on their way, of all apps.
const MOST_PLACES: usize = 1000;

/// How much is asked at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls of an app that are on their way.
    pub places: usize,
    /// Questions of an app that wait for that.
    pub waiting: usize,
}

impl Bounds {
    /// Calls of all apps.
    pub fn all_places(&self) -> usize {
        self.places.saturating_mul(FULL_APPS).min(MOST_PLACES)
    }

    /// So that one user does not take the places of all others of its app.
    fn places_of_user(&self) -> usize {
        self.places.div_ceil(2)
    }

    fn all_waiting(&self) -> usize {
        self.waiting.saturating_mul(FULL_APPS)
    }
}

/// The lanes of a hook.
#[derive(Debug)]
pub struct Lanes {
    bounds: Bounds,
    /// As it is for an app that has asked nothing.
    breaker: Breaker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lanes: FxHashMap<Arc<str>, Lane>,
    places: usize,
    waiting: usize,
    /// Of the next one that waits.
    number: u64,
}

/// What an app has at a hook.
#[derive(Debug)]
struct Lane {
    breaker: Breaker,
    /// Of whom something is asked.
    users: FxHashMap<Arc<str>, OfUser>,
    places: usize,
    waiting: VecDeque<Waiting>,
    asked_at: Micros,
}

#[derive(Debug, Default)]
struct OfUser {
    questions: usize,
    places: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    user: Arc<str>,
    /// Says that it has a place; dropped, that it gets none.
    tell: oneshot::Sender<()>,
}

/// Whose question it is.
#[derive(Debug, Clone)]
struct Who {
    app: Arc<str>,
    user: Arc<str>,
}

/// A question that has begun. Where it is given up, nothing is known of how it would have ended.
#[derive(Debug)]
pub struct Question {
    lanes: Arc<Lanes>,
    who: Who,
    begun_at: Micros,
    is_over: bool,
}

/// A place for a call, until it is dropped.
#[derive(Debug)]
pub struct Place {
    lanes: Arc<Lanes>,
    who: Who,
}

/// One that waits for a place.
struct Waits<'a> {
    question: &'a Question,
    number: u64,
    told: oneshot::Receiver<()>,
}

/// Too much waits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Lanes {
    /// Without anybody.
    pub fn new(bounds: Bounds, breaker: Breaker) -> Arc<Self> {
        Arc::new(Self { bounds, breaker, state: Mutex::default() })
    }

    /// Begins a question about a user of an app; fails with the time after which it is worth trying
    /// again.
    pub fn begin(self: &Arc<Self>, app: &str, user: &str, now: Micros) -> Result<Question, Micros> {
        let mut state = self.state.lock();
        let (app, lane) = state.lane(app, &self.breaker, now).ok_or(SECOND)?;
        let asked = lane.users.get(user).map_or(0, |of| of.questions);
        if asked >= QUESTIONS_PER_USER {
            return Err(SECOND);
        }
        lane.breaker.begin(now)?;
        lane.asked_at = now;
        let user: Arc<str> = user.into();
        lane.users.entry(user.clone()).or_default().questions += 1;
        let who = Who { app, user };
        Ok(Question { lanes: self.clone(), who, begun_at: now, is_over: false })
    }

    /// A place is free. Whose app has the fewest gets it.
    fn hand_on(&self, state: &mut State) {
        while state.waiting > 0 && state.places < self.bounds.all_places() {
            let next = state.lanes.iter().filter_map(|(app, lane)| {
                let at = self.next_of(lane)?;
                Some((lane.places, lane.waiting[at].number, app, at))
            });
            let Some((_, _, app, at)) = next.min() else { return };
            let app = app.clone();
            let lane = state.lanes.get_mut(&app).expect("it was found");
            let Some(Waiting { user, tell, .. }) = lane.waiting.remove(at) else { return };
            state.waiting -= 1;
            state.take(&Who { app, user });
            // One that is given up before it hears of that gives the place back.
            let _ = tell.send(());
        }
    }

    /// Who of those who wait in a lane may have a place.
    fn next_of(&self, lane: &Lane) -> Option<usize> {
        let has_room = lane.places < self.bounds.places;
        let may = |it: &Waiting| self.has_room_for(lane, &it.user);
        has_room.then(|| lane.waiting.iter().position(may)).flatten()
    }

    fn has_room_for(&self, lane: &Lane, user: &str) -> bool {
        let taken = lane.users.get(user).map_or(0, |of| of.places);
        lane.places < self.bounds.places && taken < self.bounds.places_of_user()
    }

    /// Makes room for one more who waits in an app, who pushes out the last one of the app of which
    /// most wait.
    fn make_room(&self, state: &mut State, app: &str) -> Result<(), Busy> {
        let own = state.lanes.get(app).map_or(0, |lane| lane.waiting.len());
        if own >= self.bounds.waiting {
            return Err(Busy);
        }
        if state.waiting < self.bounds.all_waiting() {
            return Ok(());
        }
        let most = state.lanes.values_mut().max_by_key(|lane| lane.waiting.len());
        let most = most.filter(|lane| lane.waiting.len() > own + 1).ok_or(Busy)?;
        most.waiting.pop_back();
        state.waiting -= 1;
        Ok(())
    }
}

impl State {
    /// The lane of an app; none where so many apps ask that there is no room for another.
    fn lane(&mut self, app: &str, breaker: &Breaker, now: Micros) -> Option<(Arc<str>, &mut Lane)> {
        if !self.lanes.contains_key(app) {
            if self.lanes.len() >= APPS {
                let idle = self.lanes.iter().filter(|(_, lane)| lane.users.is_empty());
                let oldest = idle.min_by_key(|(_, lane)| lane.asked_at)?.0.clone();
                self.lanes.remove(&oldest);
            }
            let lane = Lane {
                breaker: breaker.clone(),
                users: FxHashMap::default(),
                places: 0,
                waiting: VecDeque::new(),
                asked_at: now,
            };
            self.lanes.insert(app.into(), lane);
        }
        let app = self.lanes.get_key_value(app)?.0.clone();
        let lane = self.lanes.get_mut(&app)?;
        Some((app, lane))
    }

    fn take(&mut self, Who { app, user }: &Who) {
        let Some(lane) = self.lanes.get_mut(app) else { return };
        self.places += 1;
        lane.places += 1;
        lane.users.entry(user.clone()).or_default().places += 1;
    }

    fn give_back(&mut self, who: &Who) {
        let Some(lane) = self.lanes.get_mut(&who.app) else { return };
        self.places -= 1;
        lane.places -= 1;
        lane.change(&who.user, |of| of.places -= 1);
    }
}

impl Lane {
    /// Changes what there is of a user, who is forgotten when that is nothing. So a lane without users
    /// has nothing on its way.
    fn change(&mut self, user: &str, change: impl FnOnce(&mut OfUser)) {
        let Some(of) = self.users.get_mut(user) else { return };
        change(of);
        if of.questions == 0 && of.places == 0 {
            self.users.remove(user);
        }
    }
}

impl Question {
    /// The app that it is asked in.
    pub fn app(&self) -> &str {
        &self.who.app
    }

    /// Waits for a place.
    pub async fn place(&self) -> Result<Place, Busy> {
        let lanes = &self.lanes;
        let (tell, told) = oneshot::channel();
        let mut waits = {
            let mut state = lanes.state.lock();
            let state = &mut *state;
            let Who { app, user } = &self.who;
            let lane = state.lanes.get(app).ok_or(Busy)?;
            if state.places < lanes.bounds.all_places() && lanes.has_room_for(lane, user) {
                state.take(&self.who);
                return Ok(Place { lanes: lanes.clone(), who: self.who.clone() });
            }
            lanes.make_room(state, app)?;
            let number = state.number;
            let lane = state.lanes.get_mut(app).ok_or(Busy)?;
            lane.waiting.push_back(Waiting { number, user: user.clone(), tell });
            (state.number, state.waiting) = (number + 1, state.waiting + 1);
            Waits { question: self, number, told }
        };
        (&mut waits.told).await.map_err(|_| Busy)?;
        Ok(Place { lanes: lanes.clone(), who: self.who.clone() })
    }

    /// It was answered. `tell` gets what becomes of its app's breaker.
    pub fn succeeded(mut self, tell: impl FnOnce(&str, News)) {
        let news = self.end(Breaker::succeeded);
        tell(self.app(), news);
    }

    /// It was not.
    pub fn failed(mut self, now: Micros, tell: impl FnOnce(&str, News)) {
        let news = self.end(|breaker| breaker.failed(now));
        tell(self.app(), news);
    }

    fn end(&mut self, say: impl FnOnce(&mut Breaker) -> News) -> News {
        self.is_over = true;
        let mut state = self.lanes.state.lock();
        state.lanes.get_mut(&self.who.app).map_or(News::None, |lane| say(&mut lane.breaker))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut state = self.lanes.state.lock();
        let Some(lane) = state.lanes.get_mut(&self.who.app) else { return };
        if !self.is_over {
            lane.breaker.given_up(self.begun_at);
        }
        lane.change(&self.who.user, |of| of.questions -= 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.lanes.state.lock();
        state.give_back(&self.who);
        self.lanes.hand_on(&mut state);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Question { lanes, who, .. } = self.question;
        let mut state = lanes.state.lock();
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(&who.app) else { return };
        if let Some(at) = lane.waiting.iter().position(|it| it.number == self.number) {
            lane.waiting.remove(at);
            state.waiting -= 1;
        } else if self.told.try_recv().is_ok() {
            // It was given up between getting a place and hearing of it.
            state.give_back(who);
            lanes.hand_on(state);
        }
    }
}

#[cfg(test)]
mod tests;
