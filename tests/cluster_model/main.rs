//! That no two nodes answer for a partition and that nothing that was acked is lost, whatever happens:
//! every course of a small model is tried. The same with faults that are planted, each of which must
//! be found.

mod checker;
mod world;

use checker::{Outcome, check};
use world::{Bounds, Fault, World};

/// What is tried each time.
const SLICE: Bounds = Bounds { entries: 5, claims: 3, crashes: 1 };

fn find(fault: Fault) -> (&'static str, usize) {
    match check(&World { fault, bounds: SLICE }) {
        Outcome::Fails { fault, course } => {
            println!("{fault}:");
            for action in &course {
                println!("  {action:?}");
            }
            (fault, course.len())
        }
        Outcome::Holds { states, .. } => panic!("{fault:?} is in none of {states} states"),
    }
}

#[test]
fn at_most_one_node_answers_and_nothing_acked_is_lost() {
    match check(&World { fault: Fault::None, bounds: SLICE }) {
        Outcome::Holds { states, depth } => {
            println!("{states} states, up to {depth} steps away");
            assert!(states > 100_000, "only {states} states: something cannot happen any more");
        }
        Outcome::Fails { fault, course } => panic!("{fault}: {course:#?}"),
    }
}

#[test]
fn without_an_expectation_what_was_acked_is_lost() {
    find(Fault::NoExpectation);
}

#[test]
fn an_owner_that_answers_after_its_right_is_over_is_found() {
    assert_eq!(find(Fault::AnswersForEver).0, "two nodes may answer");
}

#[test]
fn an_old_term_that_is_accepted_is_found() {
    find(Fault::OldTermAccepted);
}

#[test]
fn a_release_before_the_flush_is_found() {
    assert_eq!(find(Fault::ReleasesBeforeTheFlush).0, "a clean end has lost what was taken");
}

#[test]
fn an_owner_that_does_not_wait_for_the_one_before_is_found() {
    assert_eq!(find(Fault::AnswersAtOnce).0, "two nodes may answer");
}

#[test]
fn a_right_that_counts_from_the_reply_is_found() {
    assert_eq!(find(Fault::RightFromTheReply).0, "two nodes may answer");
}

#[test]
fn an_owner_that_answers_while_it_releases_is_found() {
    assert_eq!(find(Fault::AnswersWhileItReleases).0, "two nodes may answer");
}

#[test]
fn an_owner_that_releases_before_the_one_before_is_over_is_found() {
    assert_eq!(find(Fault::ReleasesTooEarly).0, "two nodes may answer");
}
