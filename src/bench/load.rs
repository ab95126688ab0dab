//! The load: rooms of users who write at a steady rate and receive what the others write.
//!
//! Its threads belong to the generator alone and share nothing but their counts. The same load goes
//! to sessiond and to the floor.

use super::{
    PATIENCE, Result,
    socket::Drain,
    tally::{Counts, Tally, latency_histogram},
    user::{Room, Stage, User},
};
use hdrhistogram::Histogram;
use std::{future::Future, net::SocketAddr, rc::Rc, sync::Arc, thread, time::Duration};
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
    /// Rooms.
    pub rooms: usize,
    /// Users in each.
    pub users: usize,
    /// Time between two updates of a user; all users together send evenly spread over it.
    pub period: Duration,
    /// The tick of the rooms.
    pub tick: Duration,
    /// In each room, so many users are read at once and time what arrives.
    pub timed: usize,
    /// Threads of the generator; rooms are shared out among them.
    pub threads: usize,
}

/// Whom the load is sent to.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The service, where the rooms are open.
    Sessiond { address: SocketAddr },
    /// The floor, with the sizes that were measured at the service.
    Floor { address: SocketAddr, update_bytes: usize, message_bytes: usize },
}

impl Peer {
    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        match self {
            Peer::Sessiond { address } | Peer::Floor { address, .. } => *address,
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

/// What the threads are told.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Join,
    Send(Instant),
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
        let threads = plan.threads.min(plan.rooms);
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

    /// The longest that an update was sent late, by any thread.
    pub fn late(&self) -> Duration {
        self.tallies.iter().map(|tally| tally.late()).max().unwrap_or_default()
    }

    /// The latencies since the last call, of all threads.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut sum = latency_histogram();
        for tally in &self.tallies {
            sum += tally.take_latency();
        }
        sum
    }

    /// Stops sending, waits for what is still on the way and returns all counts.
    pub async fn stop(mut self) -> Result<Counts> {
        self.phase.send_replace(Phase::Stop);
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
        let mut users = self.join(Stage { peer, drain, tally, failures }).await?;
        tell.send(Event::Joined)?;
        let play = async {
            let Phase::Send(start) = phase(&mut told, |phase| !matches!(phase, Phase::Join)).await
            else {
                return Ok(());
            };
            select! {
                error = send_updates(&mut users, start, self.plan.period, &self.tally) => error,
                _ = phase(&mut told, |phase| matches!(phase, Phase::Stop)) => Ok(()),
            }?;
            // Until the load is dropped, what was sent may arrive.
            while told.changed().await.is_ok() {}
            Ok(())
        };
        select! {
            ended = play => ended,
            Some(error) = failed.recv() => Err(error),
        }
    }

    /// All users of this part, in the order in which they send: one of each room in turn.
    async fn join(&self, stage: Stage) -> Result<Vec<User>> {
        let numbers = (self.number..self.plan.rooms).step_by(self.threads);
        let rooms: Vec<_> = numbers.map(|number| Room::new(number, self.plan.users)).collect();
        let joining = (0..self.plan.users).flat_map(|user| {
            let timed = user < self.plan.timed;
            let stage = &stage;
            rooms.iter().map(move |room| User::join(stage.clone(), room.clone(), user, timed))
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

/// Waits for a phase; when the load was dropped, that is [`Phase::Stop`].
async fn phase(told: &mut watch::Receiver<Phase>, wanted: impl Fn(&Phase) -> bool) -> Phase {
    told.wait_for(wanted).await.map_or(Phase::Stop, |phase| *phase)
}

/// Lets each user send once a period, the users evenly spread over it. Whoever is late catches up.
async fn send_updates(
    users: &mut [User],
    start: Instant,
    period: Duration,
    tally: &Tally,
) -> Result<()> {
    let step = period.as_nanos() as u64 / users.len() as u64;
    for turn in 0_u64.. {
        let due = start + Duration::from_nanos(step * turn);
        if due > Instant::now() {
            sleep_until(due).await;
        } else if turn % SENDING_AT_ONCE == 0 {
            yield_now().await;
        }
        tally.sent_after(due.elapsed());
        users[turn as usize % users.len()].send_update().await?;
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
