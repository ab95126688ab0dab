//! The load: rooms of users who write at a steady rate and receive what the others write.
//!
//! Its threads belong to the generator alone and share nothing but their counts. The same load goes
//! to sessiond and to the floor.

use super::{
    PATIENCE, Result,
    args::{Encoding, Shape},
    backend::Backend,
    payload::Payload,
    peer::Peer,
    relay::Relayed,
    service::{SESSION_ID, app},
    socket::Drain,
    tally::{Counts, Tally, latency_histogram},
    user::{Room, SharedConnection, Stage, User},
};
use crate::proto::Pacing;
use hdrhistogram::Histogram;
use std::{
    future::{Future, pending},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    select,
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    task::{JoinSet, LocalSet, yield_now},
    time::{Instant, sleep, sleep_until, timeout},
};

/// How many users of a thread join at a time.
const JOINING_AT_ONCE: usize = 64;
/// After so many updates in a row the connections get a turn.
const SENDING_AT_ONCE: u64 = 32;
/// What was sent has arrived when nothing has come for so long, beside a tick.
const QUIET: Duration = Duration::from_millis(300);
/// So often nothing need have come by then.
const ARRIVAL_ROUNDS: usize = 60;

/// How large the load is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who connects how.
    pub shape: Shape,
    /// Rooms.
    pub rooms: usize,
    /// Users in each.
    pub users: usize,
    /// So many of them write, the first ones.
    pub writers: usize,
    /// So many of them receive, the last ones.
    pub listeners: usize,
    /// In each room, so many of those who receive are read at once and time what arrives.
    pub timed: usize,
    /// Streams of users that share a connection.
    pub streams: usize,
    /// Shape `gateway`: rooms of each backend.
    pub rooms_per_backend: usize,
    /// Time between two updates of a user. All users together send evenly spread over it; those of a
    /// backend in as many turns as there are ticks in it.
    pub period: Duration,
    /// The tick of the rooms.
    pub tick: Duration,
    /// When the rooms are framed.
    pub pacing: Pacing,
    /// Props in each update.
    pub props: usize,
    /// What they are.
    pub payload: Payload,
    /// How updates come down and, with the shape `gateway`, go up.
    pub encoding: Encoding,
    /// Threads of the generator; rooms are shared out among them.
    pub threads: usize,
}

impl Plan {
    /// Whether the user writes.
    pub fn writes(&self, user: usize) -> bool {
        user < self.writers
    }

    /// Whether the user receives.
    pub fn listens(&self, user: usize) -> bool {
        user >= self.users - self.listeners
    }

    /// Whether the user is read at once. Those who are come evenly among those who receive, the last
    /// one among them.
    fn is_timed(&self, user: usize) -> bool {
        let Some(among) = self.listeners.checked_div(self.timed) else { return false };
        self.listens(user) && (self.users - 1 - user).is_multiple_of(among.max(1))
    }

    /// To how many others an update of this user goes.
    pub fn others(&self, user: usize) -> u64 {
        self.listeners as u64 - u64::from(self.listens(user))
    }

    /// What sends: users who write, or backends.
    pub fn senders(&self) -> usize {
        match self.shape {
            Shape::Gateway => self.rooms / self.rooms_per_backend,
            _ => self.rooms * self.writers,
        }
    }

    /// What receives: users, or backends.
    pub fn receivers(&self) -> usize {
        match self.shape {
            Shape::Gateway => self.senders(),
            _ => self.rooms * self.listeners,
        }
    }

    /// How many messages there are in so long, with one to each receiver a tick.
    pub fn messages_in(&self, elapsed: Duration) -> f64 {
        self.receivers() as f64 * elapsed.as_secs_f64() / self.tick.as_secs_f64()
    }

    /// In so many turns the users of a backend write, each of them once a period.
    pub fn turns(&self) -> usize {
        match self.shape {
            Shape::Gateway => (self.period.as_millis() / self.tick.as_millis()).max(1) as usize,
            _ => 1,
        }
    }

    /// Where a room is: its app and its id.
    pub fn place(&self, room: usize) -> (String, String) {
        let (app_number, among) = (room / self.rooms_per_backend, room % self.rooms_per_backend);
        (app(app_number), self.session_id(among))
    }

    /// The id of a room among those of its backend.
    pub fn session_id(&self, among: usize) -> String {
        match self.rooms_per_backend {
            1 => SESSION_ID.to_owned(),
            _ => format!("{SESSION_ID}{among}"),
        }
    }

    /// The same reads and writes for a floor: what sends and receives is a plain connection.
    pub fn plain(&self) -> Self {
        match self.shape {
            Shape::Gateway => Plan {
                shape: Shape::Own,
                rooms: self.senders(),
                rooms_per_backend: 1,
                period: self.period / self.turns() as u32,
                users: 1,
                writers: 1,
                listeners: 1,
                timed: 0,
                ..self.clone()
            },
            _ => self.clone(),
        }
    }
}

/// What sends updates: a user, or a backend for all of its users.
enum Sender {
    User(User),
    Backend(Backend),
    Relayed(Relayed),
}

impl Sender {
    fn writes(&self, plan: &Plan) -> bool {
        match self {
            Sender::User(user) => user.writes(),
            Sender::Backend(_) | Sender::Relayed(_) => plan.writers > 0,
        }
    }

    async fn send(&mut self) -> Result<()> {
        match self {
            Sender::User(user) => user.send_update().await,
            Sender::Backend(backend) => backend.send_updates(),
            Sender::Relayed(backend) => backend.send_updates().await,
        }
    }
}

/// A load that is being sent. Ends when it is dropped.
#[derive(Debug)]
pub struct Load {
    tallies: Vec<Arc<Tally>>,
    phase: watch::Sender<Phase>,
    events: UnboundedReceiver<Event>,
    quiet: Duration,
}

/// What the threads are to do.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Join,
    Send(Instant),
    Rest,
    Stop,
}

/// What the threads tell.
#[derive(Debug)]
enum Event {
    Joined,
    Ended(Result<()>),
}

impl Load {
    /// Lets all users join and begin to send.
    pub async fn start(plan: &Plan, peer: &Peer) -> Result<Self> {
        let threads = plan.threads.min(plan.rooms / plan.rooms_per_backend);
        let (phase, told) = watch::channel(Phase::Join);
        let (tell, events) = mpsc::unbounded_channel();
        let mut tallies = Vec::new();
        for number in 0..threads {
            let tally = Arc::new(Tally::default());
            tallies.push(tally.clone());
            let (plan, peer) = (plan.clone(), peer.clone());
            let part = Part { plan, peer, number, threads, tally };
            let (told, tell) = (told.clone(), tell.clone());
            thread::spawn(move || {
                let ended = part.run(told, &tell);
                let _ = tell.send(Event::Ended(ended));
            });
        }
        let quiet = plan.tick + QUIET;
        let mut load = Load { tallies, phase, events, quiet };
        timeout(PATIENCE, load.joined())
            .await
            .map_err(|_| format!("not all users joined within {PATIENCE:?}"))??;
        load.phase.send_replace(Phase::Send(Instant::now()));
        Ok(load)
    }

    async fn joined(&mut self) -> Result<()> {
        for _ in &self.tallies {
            match self.events.recv().await {
                Some(Event::Joined) => {}
                Some(Event::Ended(Err(error))) => return Err(error),
                _ => return Err("a thread of the load generator ended".into()),
            }
        }
        Ok(())
    }

    /// Lets the load go on for so long. Fails when it fails.
    pub async fn go_on(&mut self, duration: Duration) -> Result<()> {
        select! {
            () = sleep(duration) => Ok(()),
            event = self.events.recv() => match event {
                Some(Event::Ended(Err(error))) => Err(error),
                _ => Err("a thread of the load generator ended".into()),
            },
        }
    }

    /// The counts so far, of all threads.
    pub fn counts(&self) -> Counts {
        self.tallies.iter().fold(Counts::default(), |sum, tally| sum + *tally.counts.lock())
    }

    /// The longest that an update was sent late since the last call, by any thread.
    pub fn take_late(&self) -> Duration {
        self.tallies.iter().map(|tally| tally.take_late()).max().unwrap_or_default()
    }

    /// The latencies since the last call, of all threads.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut sum = latency_histogram();
        for tally in &self.tallies {
            sum += tally.take_latency();
        }
        sum
    }

    /// Begins to send again.
    pub fn resume(&self) {
        self.phase.send_replace(Phase::Send(Instant::now()));
    }

    /// Sends nothing for a while, and waits for what is still on the way.
    pub async fn rest(&mut self) -> Result<()> {
        self.phase.send_replace(Phase::Rest);
        self.arrive().await.map(drop)
    }

    /// Stops sending, waits for what is still on the way and returns all counts.
    pub async fn stop(mut self) -> Result<Counts> {
        self.phase.send_replace(Phase::Stop);
        self.arrive().await
    }

    async fn arrive(&mut self) -> Result<Counts> {
        let mut counts = self.counts();
        for _ in 0..ARRIVAL_ROUNDS {
            self.go_on(self.quiet).await?;
            let before = std::mem::replace(&mut counts, self.counts());
            if counts == before {
                break;
            }
        }
        Ok(counts)
    }
}

/// The part of the load that one thread sends.
struct Part {
    plan: Plan,
    peer: Peer,
    number: usize,
    threads: usize,
    tally: Arc<Tally>,
}

impl Part {
    fn run(self, told: watch::Receiver<Phase>, tell: &UnboundedSender<Event>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.play(told, tell))
    }

    async fn play(
        self,
        mut told: watch::Receiver<Phase>,
        tell: &UnboundedSender<Event>,
    ) -> Result<()> {
        let drain = Rc::new(Drain::default());
        tokio::task::spawn_local(drain.clone().run());
        let (failures, mut failed) = mpsc::unbounded_channel();
        let (peer, tally) = (self.peer.clone(), self.tally.clone());
        let plan = Rc::new(self.plan.clone());
        let stage = Stage { plan, peer, drain, tally, failures };
        let (users, backends) = match self.plan.shape {
            Shape::Gateway => (Vec::new(), self.join_backends(stage).await?),
            _ => (self.join(stage).await?, Vec::new()),
        };
        let users = users.into_iter().map(Sender::User);
        // Those who only receive stay connected.
        let (mut senders, _listeners): (Vec<_>, Vec<_>) =
            users.chain(backends).partition(|sender| sender.writes(&self.plan));
        tell.send(Event::Joined)?;
        let play = async {
            let interval = self.plan.period / self.plan.turns() as u32;
            let sends = |phase: &Phase| matches!(phase, Phase::Send(_));
            let is_next = |it: &Phase| sends(it) || matches!(it, Phase::Stop);
            while let Phase::Send(start) = phase(&mut told, is_next).await {
                select! {
                    error = send_updates(&mut senders, start, interval, &self.tally) => error,
                    _ = phase(&mut told, |phase| !sends(phase)) => Ok(()),
                }?;
            }
            // Until the load is dropped, what was sent may arrive.
            while told.changed().await.is_ok() {}
            Ok(())
        };
        select! {
            ended = play => ended,
            Some(error) = failed.recv() => Err(error),
        }
    }

    /// All backends of this part.
    async fn join_backends(&self, stage: Stage) -> Result<Vec<Sender>> {
        let numbers = (self.number..self.plan.senders()).step_by(self.threads);
        let joining = numbers.map(|number| {
            let stage = stage.clone();
            async move {
                Ok(match stage.peer {
                    Peer::Relay { relay, .. } => {
                        Sender::Relayed(Relayed::join(stage, relay, number).await?)
                    }
                    _ => Sender::Backend(Backend::join(stage, number).await?),
                })
            }
        });
        in_order(joining, JOINING_AT_ONCE).await
    }

    /// All users of this part, in the order in which they send: one of each room in turn.
    async fn join(&self, stage: Stage) -> Result<Vec<User>> {
        let numbers = (self.number..self.plan.rooms).step_by(self.threads);
        let rooms: Vec<_> = numbers.map(|number| Room::new(number, &self.plan)).collect();
        let users =
            (0..self.plan.users).flat_map(|user| rooms.iter().map(move |room| (room, user)));
        let mut link = SharedConnection::default();
        let joining = users.enumerate().map(|(number, (room, user))| {
            let timed = self.plan.is_timed(user);
            // A timed user is read at once, and so has a connection of its own.
            let own = timed || self.plan.streams == 1;
            let link = match own {
                true => SharedConnection::default(),
                false => {
                    if number.is_multiple_of(self.plan.streams) {
                        link = SharedConnection::default();
                    }
                    link.clone()
                }
            };
            User::join(stage.clone(), link, room.clone(), user, timed)
        });
        in_order(joining, JOINING_AT_ONCE).await
    }
}

/// Runs the tasks, so many at once, and returns their results in the order of the tasks.
pub async fn in_order<T: 'static>(
    mut tasks: impl Iterator<Item = impl Future<Output = Result<T>> + 'static>,
    at_once: usize,
) -> Result<Vec<T>> {
    let mut results = Vec::new();
    loop {
        let mut batch = JoinSet::new();
        for (number, task) in tasks.by_ref().take(at_once).enumerate() {
            batch.spawn_local(async move { (number, task.await) });
        }
        if batch.is_empty() {
            return Ok(results);
        }
        let mut done = batch.join_all().await;
        done.sort_by_key(|(number, _)| *number);
        for (_, result) in done {
            results.push(result?);
        }
    }
}

/// Calls for the numbers 0 to `count`, so many at once. The first failure ends the others.
pub async fn each<C: Clone + 'static>(
    with: &C,
    count: usize,
    at_once: usize,
    call: impl AsyncFn(&C, usize) -> Result<()> + Clone + 'static,
) -> Result<()> {
    let mut callers = JoinSet::new();
    for first in 0..at_once.min(count) {
        let (with, call) = (with.clone(), call.clone());
        callers.spawn_local(async move {
            for number in (first..count).step_by(at_once) {
                call(&with, number).await?;
            }
            Ok(())
        });
    }
    while let Some(result) = callers.join_next().await {
        let result: Result<()> = result?;
        result?;
    }
    Ok(())
}

/// Waits for a phase; when the load was dropped, that is [`Phase::Stop`].
async fn phase(told: &mut watch::Receiver<Phase>, wanted: impl Fn(&Phase) -> bool) -> Phase {
    told.wait_for(wanted).await.map_or(Phase::Stop, |phase| *phase)
}

/// Lets each sender send once in this time, the senders evenly spread over it. A sender that is late
/// catches up.
async fn send_updates(
    senders: &mut [Sender],
    start: Instant,
    period: Duration,
    tally: &Tally,
) -> Result<()> {
    if senders.is_empty() {
        return pending().await;
    }
    let step = period.as_nanos() as u64 / senders.len() as u64;
    for turn in 0_u64.. {
        let due = start + Duration::from_nanos(step * turn);
        if due > Instant::now() {
            sleep_until(due).await;
        } else if turn % SENDING_AT_ONCE == 0 {
            yield_now().await;
        }
        tally.sent_after(due.elapsed());
        let sender = turn as usize % senders.len();
        senders[sender].send().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_tasks() {
        let tasks = (0..10_u64).map(|number| async move {
            sleep(Duration::from_millis(10 - number)).await;
            Ok(number)
        });
        let results = LocalSet::new().run_until(in_order(tasks, 4)).await.unwrap();
        assert_eq!(results, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_first_failure_is_the_result() {
        let tasks = (0..3)
            .map(|number| async move { if number == 1 { Err("one".into()) } else { Ok(number) } });
        let result = LocalSet::new().run_until(in_order(tasks, 2)).await;
        assert_eq!(result.unwrap_err().to_string(), "one");
    }
}
