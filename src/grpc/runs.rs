//! Functions of object streams run on few threads of the lowest priority: they are bounded in what
//! they may do, but not quick, and nobody else is to be held up.
//!
//! Who waits takes a place before anything is read, so that a refused read has changed nothing. The
//! functions of one reply run one after the other, in turn with those of others.

use crate::{
    engine::priority,
    object_stream::{Call, Refusal},
    session::value::Value,
};
use parking_lot::Mutex;
use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many threads run functions.
const THREADS: usize = 2;

/// How many replies may wait for their functions.
const WAITING: usize = 64;

/// The threads, and who waits for them.
#[derive(Debug)]
pub struct Runs {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
}

/// A place among those that wait, given up when nothing of the reply waits any more.
pub type Place = Arc<OwnedSemaphorePermit>;

#[derive(Debug)]
struct Job {
    call: Call,
    done: oneshot::Sender<Result<Value, String>>,
    /// Also of a reply that nobody waits for any more: until its turn it takes room.
    place: Place,
}

impl Runs {
    /// Starts the threads. They end when this is gone.
    pub fn start() -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..THREADS {
            let inbox = inbox.clone();
            let name = format!("functions-{number}");
            thread::Builder::new().name(name).spawn(move || work(&inbox))?;
        }
        Ok(Self { jobs, places: Arc::new(Semaphore::new(WAITING)) })
    }

    /// A place for one reply.
    pub fn reserve(&self) -> Result<Place, Refusal> {
        let full = Refusal::LimitReached { limit: "function-queue", most: WAITING };
        let place = self.places.clone().try_acquire_owned().map_err(|_| full)?;
        Ok(Arc::new(place))
    }

    /// What a function yields; none if there is nobody left to run it.
    pub async fn run(&self, call: Call, place: &Place) -> Option<Result<Value, String>> {
        let (done, outcome) = oneshot::channel();
        self.jobs.send(Job { call, done, place: place.clone() }).ok()?;
        outcome.await.ok()
    }
}

/// One thread's life.
fn work(inbox: &Mutex<mpsc::Receiver<Job>>) {
    priority::lower();
    loop {
        // One thread waits for the next job, the others for the lock.
        let job = inbox.lock().recv();
        let Ok(Job { call, done, place }) = job else { return };
        if !done.is_closed() {
            let outcome = call.function.call(&call.value, &call.last);
            // Whoever waited may be gone: then nobody hears of it.
            let _ = done.send(outcome);
        }
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_stream::Function;

    fn call(value: Value) -> Call {
        let function = Function::new("value + 1").expect("it is fine");
        Call { key: "n".into(), function: Arc::new(function), value, last: Value::Null }
    }

    #[tokio::test]
    async fn so_many_replies_wait_and_who_is_done_makes_room() {
        let runs = Runs::start().expect("it starts");
        let mut places: Vec<_> = (0..WAITING).map(|_| runs.reserve().expect("room")).collect();
        let full = Refusal::LimitReached { limit: "function-queue", most: 64 };
        assert_eq!(runs.reserve().err(), Some(full.clone()));
        let place = places.pop().expect("a place");
        let job = Job { call: call(Value::Null), done: oneshot::channel().0, place: place.clone() };
        drop(place);
        assert_eq!(runs.reserve().err(), Some(full), "given up, but its turn has not come");
        drop(job);
        let place = runs.reserve().expect("there is room again");
        let outcome = runs.run(call(Value::Integer(1)), &place).await;
        assert_eq!(outcome, Some(Ok(Value::Integer(2))));
    }
}
