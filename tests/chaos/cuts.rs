//! Connections are cut at every byte, and worse; the clients come back and continue where they were. None of them
//! misses anything or gets anything twice, and no write of theirs is lost or made twice.

mod client;
mod trial;

use crate::{
    alone, figure,
    proxy::{Fault, Way},
    server::Server,
    tell,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::task::JoinSet;
use trial::{Outcome, Trial};

/// What goes through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SubscribeToSession with LATEST.
    Latest,
    /// SubscribeToSession with ALL.
    All,
    /// SubscribeToUser.
    User,
    /// ReceiveSessionUpdates with ALL, over two sessions.
    Receive,
    /// StreamUserProps, with writes that have request ids.
    Props,
    /// SubscribeToStreams.
    Objects,
    /// Unary writes with request ids.
    Unary,
}

const KINDS: [Kind; 7] =
    [Kind::Latest, Kind::All, Kind::User, Kind::Receive, Kind::Props, Kind::Objects, Kind::Unary];

/// How many trials run at a time.
const ABREAST: usize = 12;

/// The server's settings: fast ticks, and heartbeats by which a client notices that it is cut off.
const FLAGS: [&str; 4] = ["--tick-interval", "2ms", "--heartbeat-interval", "1s"];

#[test]
fn every_cut_loses_nothing_and_doubles_nothing() {
    alone(async {
        let server = Server::start(&FLAGS);
        let mut faults = Vec::new();
        let lengths = lengths(&server).await;
        let cuts = figure(10_500, 420);
        let bytes: u64 = lengths.values().flatten().sum();
        // Every byte in turn; more rounds than one where there are fewer bytes than cuts.
        for nth in 0..cuts {
            let at = if cuts >= bytes { nth % bytes } else { nth * bytes / cuts };
            let (kind, way, at) = place(&lengths, at);
            let is_reset = (nth / bytes + nth).is_multiple_of(2);
            let fault = if is_reset { Fault::Reset(way, at) } else { Fault::Close(way, at) };
            faults.push((kind, fault));
        }
        let outcome = run(&server, faults).await;
        tell(format_args!("cuts at {bytes} places: {outcome:?}"));
        assert!(outcome.cuts >= cuts * 9 / 10, "most places are reached: {outcome:?}");
        assert!(outcome.resumed > cuts / 4, "clients had a place to resume at: {outcome:?}");
    });
}

#[test]
fn ends_that_are_half_open_or_slow_lose_nothing_and_double_nothing() {
    alone(async {
        let server = Server::start(&FLAGS);
        let lengths = lengths(&server).await;
        let ms = Duration::from_millis;
        let mut faults = Vec::new();
        let places = figure(40, 3);
        for kind in KINDS {
            for way in [Way::Up, Way::Down] {
                let length = lengths[&kind][way as usize];
                let at = |nth: u64| (2 * nth + 1) * length / (2 * places);
                for nth in 0..places {
                    faults.push((kind, Fault::Ghost(way, at(nth))));
                    faults.push((kind, Fault::Deaf(way, at(nth))));
                    faults.push((kind, Fault::Pause(way, at(nth), ms(100))));
                }
                for bytes in [1, 9, 60] {
                    faults.push((kind, Fault::Trickle(way, bytes, ms(1))));
                }
            }
            faults.push((kind, Fault::Delay(ms(20))));
        }
        let outcome = run(&server, faults).await;
        tell(format_args!("half-open, paused, trickling and delayed: {outcome:?}"));
    });
}

/// How many bytes pass up and down when nothing happens.
async fn lengths(server: &Server) -> BTreeMap<Kind, [u64; 2]> {
    let direct = server.connect().await;
    let mut lengths = BTreeMap::new();
    for kind in KINDS {
        let trial = Trial { number: 0, kind, fault: Fault::None };
        lengths.insert(kind, trial.run(server.address, direct.clone()).await.bytes);
    }
    lengths
}

/// The byte of all bytes, as a place.
fn place(lengths: &BTreeMap<Kind, [u64; 2]>, mut at: u64) -> (Kind, Way, u64) {
    for (kind, both) in lengths {
        for (way, length) in [Way::Up, Way::Down].into_iter().zip(both) {
            if at < *length {
                return (*kind, way, at);
            }
            at -= length;
        }
    }
    unreachable!("there are not so many bytes")
}

async fn run(server: &Server, faults: Vec<(Kind, Fault)>) -> Outcome {
    let direct = server.connect().await;
    let mut all = Outcome::default();
    let mut running = JoinSet::new();
    let mut trials = faults.into_iter().zip(1..);
    loop {
        while running.len() < ABREAST
            && let Some(((kind, fault), number)) = trials.next()
        {
            let trial = Trial { number, kind, fault };
            running.spawn(trial.run(server.address, direct.clone()));
        }
        match running.join_next().await {
            Some(Ok(outcome)) => all.add(&outcome),
            Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            None => return all,
        }
    }
}
