//! A cluster of three nodes in simulated time: nothing that was promised is broken, whatever happens.

mod call;
mod check;
mod client;
mod clock;
mod core;
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
        println!("{:?}", holds(seed));
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
        let figures = holds(first + number / 2);
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
    let [first, again] = [0, 1].map(|_| holds(BASE).print);
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

/// Runs a seed in which nothing may be wrong.
fn holds(seed: u64) -> Figures {
    match simulate(seed, Plant::Nothing, false).0 {
        Ok(figures) => figures,
        Err(fault) => {
            let (_, trace) = simulate(seed, Plant::Nothing, true);
            let told = given("SESSIOND_SIMULATION_TRACE").map_or(TOLD, |it| it as usize);
            let from = trace.len().saturating_sub(told);
            trace[from..].iter().for_each(|line| println!("{line}"));
            panic!("seed {seed}: {fault}");
        }
    }
}

/// Finds what is planted.
fn find(plant: Plant) {
    let found =
        (BASE..BASE + MOST).find_map(|seed| Some((seed, simulate(seed, plant, false).0.err()?)));
    let (seed, fault) = found.unwrap_or_else(|| panic!("{plant:?} is not found"));
    println!("{plant:?} is found by seed {seed}: {fault}");
}

#[test]
fn a_log_that_takes_whatever_comes_is_found() {
    find(Plant::NoExpectation);
}

#[test]
fn an_old_term_that_is_accepted_is_found() {
    find(Plant::OldTermAccepted);
}

#[test]
fn an_owner_that_answers_after_its_right_is_over_is_found() {
    find(Plant::AnswersForEver);
}

#[test]
fn a_release_before_the_flush_is_found() {
    find(Plant::ReleasesBeforeTheFlush);
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().expect("a number"))
}
