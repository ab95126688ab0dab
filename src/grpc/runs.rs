//! Functions of object streams run on few threads of the lowest priority: they are bounded in what
//! they may do, but not quick, and nobody else is to be held up.
//!
//! A caller that waits takes a place before anything is read, so that a refused read has changed
//! nothing. The functions of one reply run one after the other, in turn with those of others.

use super::error::Refusal;
use crate::{
    engine::{App, AppLimit, Clock, Lanes, priority},
    object_stream::{self, Call},
    session::value::Value,
};
use parking_lot::{Condvar, Mutex};
use std::{collections::HashMap, io, sync::Arc, thread, time::Instant};
use tokio::sync::oneshot;

/// How many threads run functions.
const THREADS: usize = 2;

/// How many replies may wait for their functions, and how many of one app. Apps take turns, so that
/// one holds back no other.
const WAITING: usize = 256;
const WAITING_PER_APP: usize = 64;

/// The threads, and who waits for them.
#[derive(Debug)]
pub struct Runs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Lanes<Job>,
    /// How many replies of each app have a place, by the address of the app, which the places hold.
    places: HashMap<usize, usize>,
    taken: usize,
    closed: bool,
}

/// A place among those that wait, given up when nothing of the reply waits any more.
pub type Place = Arc<Waiting>;

/// See [`Place`].
#[derive(Debug)]
pub struct Waiting {
    app: Arc<App>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Job {
    call: Call,
    done: oneshot::Sender<Result<Value, String>>,
    /// Also of a reply that nobody waits for any more: until its turn it takes room.
    place: Place,
}

impl Runs {
    /// Starts the threads. They end when this is gone.
    pub fn start(clock: Clock) -> io::Result<Self> {
        let (queue, ready) = (Mutex::default(), Condvar::new());
        let inner = Arc::new(Inner { clock, queue, ready });
        for number in 0..THREADS {
            let inner = inner.clone();
            let name = format!("functions-{number}");
            thread::Builder::new().name(name).spawn(move || inner.work())?;
        }
        Ok(Self { inner })
    }

    /// A place for one reply of an app.
    pub fn reserve(&self, app: &Arc<App>) -> Result<Place, Refusal> {
        app.check_owed(AppLimit::FunctionTime, self.inner.clock.now(), 0)?;
        let full = |limit, most| Err(object_stream::Refusal::LimitReached { limit, most }.into());
        let mut queue = self.inner.queue.lock();
        if queue.taken >= WAITING {
            return full("function-queue", WAITING);
        }
        let places = queue.places.entry(key(app)).or_default();
        if *places >= WAITING_PER_APP {
            return full("function-queue-per-app", WAITING_PER_APP);
        }
        *places += 1;
        queue.taken += 1;
        Ok(Arc::new(Waiting { app: app.clone(), inner: self.inner.clone() }))
    }

    /// What a function yields; none if there is nobody left to run it.
    pub async fn run(&self, call: Call, place: &Place) -> Option<Result<Value, String>> {
        let (done, outcome) = oneshot::channel();
        let job = Job { call, done, place: place.clone() };
        self.inner.queue.lock().jobs.push(&place.app, job);
        self.inner.ready.notify_one();
        outcome.await.ok()
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let jobs = {
            let mut queue = self.inner.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        // Their places go with them, which the queue is locked for.
        drop(jobs);
        self.inner.ready.notify_all();
    }
}

fn key(app: &Arc<App>) -> usize {
    Arc::as_ptr(app) as usize
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.taken -= 1;
        let key = key(&self.app);
        let places = queue.places.get_mut(&key).map(|places| {
            *places -= 1;
            *places
        });
        if places == Some(0) {
            queue.places.remove(&key);
        }
    }
}

impl Inner {
    /// One thread's life.
    fn work(&self) {
        priority::lower();
        while let Some(Job { call, done, place }) = self.next() {
            if !done.is_closed() {
                let began = Instant::now();
                let outcome = call.function.call(&call.value, &call.last);
                let took = began.elapsed().as_micros() as u64;
                place.app.spend(AppLimit::FunctionTime, self.clock.now(), took);
                drop(place);
                // The caller that waited may be gone: then nobody hears of it.
                let _ = done.send(outcome);
            }
        }
    }

    /// The next job, if there will be one.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                return Some(job);
            }
            self.ready.wait(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{AppLimits, AppsSettings, Engine, testing},
        object_stream::Function,
        session::ids::AppId,
    };

    fn app(engine: &Engine, id: &str) -> Arc<App> {
        engine.app(&AppId::new(id).expect("an id"))
    }

    fn call(value: Value) -> Call {
        let function = Function::new("value + 1").expect("it is fine");
        Call { key: "n".into(), function: Arc::new(function), value, last: Value::Null }
    }

    fn full(limit: &'static str, most: usize) -> Option<Refusal> {
        Some(object_stream::Refusal::LimitReached { limit, most }.into())
    }

    #[tokio::test]
    async fn so_many_replies_wait_and_who_is_done_makes_room() {
        let engine = testing::engine(testing::settings());
        let runs = Runs::start(engine.clock().clone()).expect("it starts");
        let one = app(&engine, "one");
        let reserve = || runs.reserve(&one).expect("room");
        let mut places: Vec<_> = (0..WAITING_PER_APP).map(|_| reserve()).collect();
        let is_full = full("function-queue-per-app", 64);
        assert_eq!(runs.reserve(&one).err(), is_full);
        let place = places.pop().expect("a place");
        let job = Job { call: call(Value::Null), done: oneshot::channel().0, place: place.clone() };
        drop(place);
        assert_eq!(runs.reserve(&one).err(), is_full, "given up, but its turn has not come");
        drop(job);
        let place = reserve();
        let outcome = runs.run(call(Value::Integer(1)), &place).await;
        assert_eq!(outcome, Some(Ok(Value::Integer(2))));
        places.push(place);
        for other in ["two", "three", "four"] {
            let other = app(&engine, other);
            places.extend((0..WAITING_PER_APP).map(|_| runs.reserve(&other).expect("room")));
        }
        assert_eq!(runs.reserve(&app(&engine, "five")).err(), full("function-queue", 256));
        places.clear();
        let queue = runs.inner.queue.lock();
        assert_eq!((queue.taken, queue.places.len()), (0, 0), "nothing is left");
    }

    #[tokio::test]
    async fn an_app_that_has_had_its_time_waits_until_it_is_paid() {
        let engine = testing::engine(testing::settings());
        let others = AppLimits::default().with(AppLimit::FunctionTime, 1);
        engine.limit_apps(AppsSettings { others, ..AppsSettings::default() });
        let runs = Runs::start(engine.clock().clone()).expect("it starts");
        let (one, other) = (app(&engine, "one"), app(&engine, "other"));
        let place = runs.reserve(&one).expect("it owes nothing yet");
        one.spend(AppLimit::FunctionTime, engine.clock().now(), 3);
        drop(place);
        let Some(Refusal::Engine(refused)) = runs.reserve(&one).err() else { panic!("it owes") };
        assert_eq!(refused.retry_after(), Some(2_000_000));
        runs.reserve(&other).expect("the other one owes nothing");
        engine.advance(2_000_000);
        runs.reserve(&one).expect("it is paid");
    }
}
