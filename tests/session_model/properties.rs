//! Thousands of random stories. `PROPTEST_CASES` asks for more of them.

use super::{
    lockstep::Lockstep,
    steps::{Start, Step, hosting_step, join, start, step},
};
use proptest::{collection, prelude::*, test_runner::Config};
use sessiond::session::settings::Kind;

fn cases(by_default: u32) -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases: by_default, ..config },
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    begin_with_some(collection::vec(step(), 1..60))
}

fn hosting_steps() -> impl Strategy<Value = Vec<Step>> {
    begin_with_some(collection::vec(hosting_step(), 1..40))
}

/// Mostly there is somebody before anything else happens.
fn begin_with_some(steps: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = Vec<Step>> {
    (collection::vec(join(), 0..4), steps).prop_map(|(mut story, mut steps)| {
        story.append(&mut steps);
        story
    })
}

fn tell(start: Start, steps: Vec<Step>) {
    let mut both = Lockstep::begin(start);
    for step in steps {
        both.tell(step);
    }
    both.end();
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn a_room_is_what_its_model_says(start in start(Kind::Room), steps in steps()) {
        tell(start, steps);
    }

    #[test]
    fn a_hosted_session_is_what_its_model_says(start in start(Kind::Hosted), steps in steps()) {
        tell(start, steps);
    }

    #[test]
    fn hosts_come_and_go_as_the_model_says(start in start(Kind::Hosted), steps in hosting_steps()) {
        tell(start, steps);
    }
}
