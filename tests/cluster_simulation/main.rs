//! A cluster of three nodes in simulated time: whatever happens, nobody sees two histories, nothing that was
//! answered as stored is ever gone, at any moment at most one node may answer for a partition, and soon after
//! the last fault every partition is served again.
//!
//! The rules, the right to answer, the engines, the keepers, the records and the fence of the log are those of
//! the server. Simulated are the machines with their clocks, the network, the clients, and what the server does
//! around a partition that it holds (`held.rs`, `node.rs`). Object streams, gateways and the wire are not in it.
//! Everything comes from one seed: there is one thread, and nothing waits for real time.
//!
//! Nodes crash, stand still, leave and are started again; links are cut in one direction or both; messages are
//! late, lost and repeated; the log answers nobody for a while; clocks run at different rates, and wall clocks
//! jump; an admin moves partitions. Clients take any node for each call and each stream, and send again what is
//! not answered. They open and delete sessions of all durabilities, write props, data, settings, roles and bans,
//! look what there is, and subscribe and resume.
//!
//! `cargo test --test cluster_simulation` takes up to 25 seconds. A hundred thousand seeds:
//!
//! ```sh
//! SESSIOND_SIMULATIONS=100000 cargo test --release --test cluster_simulation -- --nocapture
//! ```
//!
//! `SESSIOND_SIMULATION_SEED` names a seed to run alone. One that fails is told with its last events, of which
//! `SESSIOND_SIMULATION_TRACE` says how many.

mod call;
mod check;
mod client;
mod clock;
mod common;
mod faults;
mod held;
mod net;
mod node;
mod plant;
mod reader;
#[allow(dead_code)]
#[path = "../service/support/rebuilt.rs"]
mod rebuilt;
mod store;
mod streams;
#[allow(dead_code)]
#[path = "../service/support/values.rs"]
mod values;
mod way;
mod world;

use plant::Plant;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};
use world::{Figures, World};

/// The seeds of the slice begin here.
const BASE: u64 = 1_000_000;

/// So long seeds are tried each time.
const TIME: Duration = Duration::from_secs(8);

/// A plant is found in so many seeds at most.
const MOST: u64 = 2_000;

/// How many of the last events are told of a seed that fails.
const TOLD: usize = 120;

#[test]
fn nothing_that_was_promised_is_broken_whatever_happens() {
    if let Some(seed) = given("SESSIOND_SIMULATION_SEED") {
        println!("{:?}", holds(seed, Plant::Nothing));
        return;
    }
    let count = given("SESSIOND_SIMULATIONS");
    let random = fastrand::u64(BASE * 1_000..u64::MAX / 2);
    println!("seeds from {BASE} on, and from {random} on");
    let (begun, mut all) = (Instant::now(), Figures::default());
    let mut done = 0;
    for number in 0..count.unwrap_or(u64::MAX) {
        if count.is_none() && begun.elapsed() > TIME {
            break;
        }
        let first = if number % 2 == 0 { BASE } else { random };
        let figures = holds(first + number / 2, Plant::Nothing);
        all.faults += figures.faults;
        all.shown += figures.shown;
        all.claims += figures.claims;
        all.time += figures.time;
        done += 1;
        if done % 1_000 == 0 {
            println!("{done} seeds in {:.0?}: {all:?}", begun.elapsed());
        }
    }
    println!("{done} seeds in {:.0?}: {all:?}", begun.elapsed());
}

#[test]
fn the_same_seed_is_the_same_course() {
    let [first, again] = [0, 1].map(|_| holds(BASE, Plant::Nothing).print);
    assert_eq!(first, again);
}

fn simulate(seed: u64, plant: Plant, is_traced: bool) -> (Result<Figures, String>, Vec<String>) {
    let mut world = World::new(seed, plant, is_traced);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    });
    (outcome, world.take_trace())
}

/// Runs a seed in which nothing may go wrong.
fn holds(seed: u64, plant: Plant) -> Figures {
    match simulate(seed, plant, false).0 {
        Ok(figures) => figures,
        Err(fault) => {
            let (_, trace) = simulate(seed, plant, true);
            let told = given("SESSIOND_SIMULATION_TRACE").map_or(TOLD, |it| it as usize);
            let from = trace.len().saturating_sub(told);
            trace[from..].iter().for_each(|line| println!("{line}"));
            panic!("seed {seed}: {fault}");
        }
    }
}

/// Finds what is planted by one of its consequences.
fn find(plant: Plant, consequences: &[&str]) {
    let fault = |seed| {
        let fault = simulate(seed, plant, false).0.err()?;
        consequences.iter().any(|it| fault.contains(it)).then_some((seed, fault))
    };
    let found = (BASE..BASE + MOST).find_map(fault);
    let (seed, fault) = found.unwrap_or_else(|| panic!("{plant:?} is not found"));
    println!("{plant:?} is found by seed {seed}: {fault}");
}

const TWO_OWNERS: &str = "may answer for partition";
const TWO_HISTORIES: [&str; 3] = ["two states", "goes back", "Snapshot(Future)"];

#[test]
fn a_log_that_takes_whatever_comes_is_found() {
    find(Plant::NoExpectation, &[TWO_OWNERS]);
}

#[test]
fn an_old_term_that_is_accepted_is_found() {
    find(Plant::OldTermAccepted, &[TWO_OWNERS]);
}

#[test]
fn an_owner_that_answers_after_its_right_is_over_is_found() {
    find(Plant::AnswersForEver, &[TWO_OWNERS]);
}

#[test]
fn a_release_before_the_flush_is_found() {
    find(Plant::ReleasesBeforeTheFlush, &TWO_HISTORIES);
}

#[test]
fn beats_that_count_although_they_are_old_break_nothing() {
    let begun = Instant::now();
    for seed in BASE.. {
        if begun.elapsed() > TIME / 4 {
            break;
        }
        holds(seed, Plant::OldBeatsCount);
    }
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().expect("a number"))
}
