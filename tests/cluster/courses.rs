//! The decisions: what is promised of single courses, and of thousands of random ones.

use crate::course::{Course, Event, STEP};
use sessiond::{
    cluster::{
        MoveRefused, Order, Owner, Standing,
        rules::{Candidate, MOST_NODES, RIPENING, SILENCE, most_per_node, targets},
    },
    log::{NodeId, Partition},
    session::limits::SECOND,
};

/// As many as a cluster has.
const PARTITIONS: usize = 16;

const NAMES: [&str; 5] = ["node-a", "node-b", "node-c", "node-d", "node-e"];

/// How long it takes until everything is where it belongs: each node moves one partition a time.
const SETTLES: u64 = 120 * SECOND;

fn of(names: &[&str]) -> Course {
    let mut course = Course::new(1, PARTITIONS);
    for name in names {
        course.start(name);
    }
    course.run(SETTLES);
    course.check_settled();
    course
}

fn counts(course: &Course) -> Vec<usize> {
    let running = course.nodes.iter().filter(|node| node.running);
    running.map(|node| node.held.len()).collect()
}

fn depositions(course: &Course) -> usize {
    course.events.iter().filter(|(_, event)| matches!(event, Event::Deposed { .. })).count()
}

/// Everything is where the rank says.
fn check_placed(course: &Course) {
    let running: Vec<_> = course.nodes.iter().filter(|node| node.running).collect();
    let candidates: Vec<_> =
        running.iter().map(|node| Candidate { id: node.id, name: &node.name }).collect();
    for (at, target) in targets(&candidates, |_| None, PARTITIONS).into_iter().enumerate() {
        let owner = course.owner(Partition(at as u8)).expect("an owner");
        assert_eq!(Some(course.nodes[owner].id), target, "partition {at}");
    }
    let most = most_per_node(PARTITIONS, running.len());
    assert!(counts(course).iter().all(|count| *count <= most), "{:?}", counts(course));
}

#[test]
fn a_node_alone_claims_everything_after_four_seconds() {
    let mut course = Course::new(1, PARTITIONS);
    course.start("node-a");
    course.run(SILENCE - STEP);
    assert_eq!(course.events, []);
    course.run(5 * SECOND);
    course.check_settled();
}

#[test]
fn nodes_that_start_together_share_without_a_quarrel() {
    let course = of(&NAMES[..3]);
    check_placed(&course);
    assert_eq!(depositions(&course), 0);
}

#[test]
fn what_a_dead_node_owned_is_claimed_after_four_seconds_and_not_before() {
    let mut course = of(&NAMES[..3]);
    let died_at = course.now;
    let owned = course.nodes[0].held.len();
    course.kill(0);
    let before = course.events.len();
    course.run(SETTLES);
    course.check_settled();
    let after = &course.events[before..];
    let claims =
        after.iter().filter(|it| matches!(it.1, Event::Ordered { order: Order::Claim(_), .. }));
    let claims: Vec<_> = claims.map(|(at, _)| at.since(died_at)).take(owned).collect();
    // Its last beat was up to half a second earlier.
    assert!(claims.iter().all(|at| (SILENCE - SECOND / 2..SILENCE + SECOND / 2).contains(at)));
}

#[test]
fn a_node_that_leaves_gives_everything_away_without_a_gap() {
    let mut course = of(&NAMES[..3]);
    let began = course.now;
    course.leave(0);
    course.run(20 * SECOND);
    assert!(!course.nodes[0].running, "it has stopped");
    course.run(SETTLES);
    course.check_settled();
    check_placed(&course);
    assert_eq!(depositions(&course), 0);
    let gives: Vec<_> = course
        .events
        .iter()
        .filter(|(at, event)| *at > began && matches!(event, Event::Ordered { node: 0, .. }))
        .collect();
    assert!(gives.iter().all(|(at, _)| at.since(began) < 10 * SECOND), "{gives:?}");
}

#[test]
fn a_newcomer_gets_its_share_one_at_a_time_and_then_nothing_moves() {
    let mut course = of(&NAMES[..2]);
    let joined_at = course.now;
    course.start(NAMES[2]);
    course.run(SETTLES);
    course.check_settled();
    check_placed(&course);
    assert_eq!(depositions(&course), 0);
    let is_give = |event: &Event| matches!(event, Event::Ordered { order: Order::Give(..), .. });
    let mut gives = course.events.iter().filter(|(at, event)| *at > joined_at && is_give(event));
    let (first, _) = gives.next().expect("it gets something");
    assert!(first.since(joined_at) >= RIPENING);
    let before = course.events.len();
    course.run(600 * SECOND);
    assert_eq!(course.events[before..], []);
}

#[test]
fn what_an_admin_moves_stays_there_until_that_node_goes() {
    let mut course = of(&NAMES[..3]);
    let partition = Partition(3);
    let owner = course.owner(partition).expect("an owner");
    let to = NAMES.iter().position(|name| *name != course.nodes[owner].name).expect("another");
    course.move_to(partition, NAMES[to]).expect("it may");
    course.run(3 * SECOND);
    assert_eq!(course.owner(partition), Some(to));
    course.run(2 * SETTLES);
    assert_eq!(course.owner(partition), Some(to), "it stays");
    assert_eq!(depositions(&course), 0);
    course.check_settled();
    course.kill(to);
    course.run(SETTLES);
    course.start(NAMES[to]);
    course.run(SETTLES);
    course.check_settled();
    check_placed(&course);
}

#[test]
fn a_move_to_where_nobody_is_changes_nothing() {
    let mut course = of(&NAMES[..2]);
    let [unknown, leaving] = ["node-x", NAMES[1]];
    assert_eq!(
        course.move_to(Partition(0), unknown),
        Err(MoveRefused::NoSuchNode(unknown.to_owned()))
    );
    course.leave(1);
    course.run(2 * SECOND);
    assert_eq!(
        course.move_to(Partition(0), leaving),
        Err(MoveRefused::NotAlive(leaving.to_owned()))
    );
}

#[test]
fn a_paused_node_claims_nothing_when_it_goes_on() {
    let mut course = of(&NAMES[..3]);
    // So long that the others have taken over what it had.
    course.nodes[0].paused_until = course.now.after(30 * SECOND);
    course.run(30 * SECOND);
    let (resumed_at, before) = (course.now, course.events.len());
    course.run(SILENCE - STEP);
    let early = course.events[before..]
        .iter()
        .find(|(_, event)| matches!(event, Event::Ordered { node: 0, order: Order::Claim(_) }));
    assert_eq!(early, None, "resumed at {resumed_at:?}");
    course.run(SETTLES);
    course.check_settled();
    check_placed(&course);
}

#[test]
fn what_waited_while_a_node_stood_still_is_old_news_when_it_goes_on() {
    let mut course = of(&NAMES[..3]);
    let (dead, lost) = (course.nodes[1].id, course.nodes[2].id);
    // It hears the two others until they die and stand still, but only when it goes on.
    course.nodes[0].paused_until = course.now.after(7 * SECOND);
    course.run(2 * SECOND);
    course.kill(1);
    course.nodes[2].paused_until = course.now.after(30 * SECOND);
    course.run(5 * SECOND - STEP);
    for _ in 0..30 {
        course.run(STEP);
        let own = &course.nodes[0].ownership;
        for id in [dead, lost] {
            let standing = own.member(id).map(|it| it.standing(course.now));
            assert_eq!(standing, Some(Standing::Silent));
            let is_there = |owner: &Owner| matches!(owner, Owner::There(info) if info.id == id);
            assert!(!own.owners(course.now).iter().any(is_there), "it owns nothing any more");
        }
    }
    course.run(SETTLES);
    course.check_settled();
}

#[test]
fn what_waited_on_its_way_to_a_node_is_old_news_when_it_comes() {
    let mut course = of(&NAMES[..3]);
    let dead = course.nodes[1].id;
    course.nodes[0].held_until = course.now.after(7 * SECOND);
    course.run(2 * SECOND);
    course.kill(1);
    course.run(6 * SECOND);
    let own = &course.nodes[0].ownership;
    assert_eq!(own.member(dead).map(|it| it.standing(course.now)), Some(Standing::Silent));
    course.run(SETTLES);
    course.check_settled();
}

#[test]
fn what_is_released_for_a_node_that_stood_still_meanwhile_is_not_claimed_by_it() {
    let mut course = of(&NAMES[..3]);
    let (partition, owner, to) = giving(&mut course);
    course.nodes[to].paused_until = course.now.after(6 * SECOND);
    course.run(20 * SECOND);
    assert_eq!(course.owner(partition), Some(owner));
    assert_eq!(
        course
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Deposed { by, .. } if *by == to))
            .count(),
        0
    );
}

#[test]
fn a_node_that_hears_nobody_but_itself_is_fenced_and_not_followed() {
    let mut course = of(&NAMES[..3]);
    course.nodes[0].cut_until = course.now.after(60 * SECOND);
    course.run(60 * SECOND);
    // Both sides took each other for dead; the log let one win each time.
    course.run(2 * SETTLES);
    course.check_settled();
    check_placed(&course);
}

/// An owner of a partition and another node to which it gives that now.
fn giving(course: &mut Course) -> (Partition, usize, usize) {
    let partition = Partition(3);
    let owner = course.owner(partition).expect("an owner");
    let to = NAMES.iter().position(|name| *name != course.nodes[owner].name).expect("another");
    course.move_to(partition, NAMES[to]).expect("it may");
    course.run(STEP);
    (partition, owner, to)
}

/// What is given, told of and claimed has an owner again after so long, where that fails once.
const TAKEN_BACK: u64 = SILENCE - SECOND / 2;

#[test]
fn what_is_released_for_a_node_that_has_died_is_taken_back_at_once() {
    let mut course = of(&NAMES[..3]);
    let (partition, owner, to) = giving(&mut course);
    course.kill(to);
    course.longest_gap(TAKEN_BACK);
    assert_eq!(course.owner(partition), Some(owner));
}

#[test]
fn what_is_released_for_a_node_that_cannot_claim_it_is_taken_back_at_once() {
    let mut course = of(&NAMES[..3]);
    let (partition, owner, to) = giving(&mut course);
    course.nodes[to].cannot_claim = true;
    let gap = course.longest_gap(10 * SECOND);
    assert!(gap <= TAKEN_BACK, "nobody had it for {gap}");
    assert_eq!(course.owner(partition), Some(owner));
}

#[test]
fn what_a_leaving_node_releases_for_one_that_cannot_claim_it_goes_to_the_next_at_once() {
    let mut course = of(&NAMES[..3]);
    course.nodes[1].cannot_claim = true;
    course.leave(0);
    let gap = course.longest_gap(20 * SECOND);
    assert!(!course.nodes[0].running, "it has stopped");
    assert!(gap <= TAKEN_BACK, "nobody had it for {gap}");
}

#[test]
fn what_a_node_can_claim_but_not_read_goes_to_another_one() {
    let mut course = of(&NAMES[..3]);
    course.nodes[1].cannot_read = true;
    course.kill(0);
    course.run(20 * SECOND);
    course.check_settled();
    assert!(course.events.iter().any(|(at, event)| {
        let is_of_then = course.now.since(*at) < 20 * SECOND;
        is_of_then && matches!(event, Event::Ordered { node: 1, order: Order::Claim(_) })
    }));
}

#[test]
fn processes_that_are_over_keep_no_new_one_out() {
    let mut course = of(&NAMES[..2]);
    for _ in 0..2 * MOST_NODES {
        course.kill(1);
        course.start(NAMES[1]);
        course.run(2 * SECOND);
    }
    course.run(SETTLES);
    course.check_settled();
    check_placed(&course);
}

#[test]
fn a_node_that_does_not_hear_itself_is_given_nothing() {
    let mut course = of(&NAMES[..3]);
    course.nodes[1].deaf_until = course.now.after(30 * SECOND);
    course.run(3 * SECOND);
    let (before, to) = (course.events.len(), course.nodes[1].id);
    let owner = course.owner(Partition(3)).expect("an owner");
    let name = NAMES[1].to_owned();
    if owner != 1 {
        assert_eq!(course.move_to(Partition(3), &name), Err(MoveRefused::NotReady(name)));
    }
    course.leave(0);
    course.run(10 * SECOND);
    assert!(!course.nodes[0].running, "it has stopped");
    let gave = |event: &Event| matches!(event, Event::Ordered { order: Order::Give(_, node), .. } if *node == to);
    assert!(!course.events[before..].iter().any(|(_, event)| gave(event)));
}

#[test]
fn what_is_written_is_of_the_version_of_the_oldest_node_alive_and_no_older_one_is_given_it() {
    let mut course = Course::new(1, PARTITIONS);
    for (name, format) in [("node-a", 2), ("node-b", 2), ("node-c", 1)] {
        course.start_with(name, format);
    }
    course.run(SETTLES);
    let now = course.now;
    assert_eq!(course.nodes[0].ownership.format_to_write(now), 1);
    // The oldest is renewed: from now on what is written is of the next version.
    course.kill(2);
    course.run(SETTLES);
    let now = course.now;
    assert_eq!(course.nodes[0].ownership.format_to_write(now), 2);
    // Somebody starts an old one all the same. It reads what is written now, but not what was before.
    let old = course.start_with("node-c", 1);
    let (before, id) = (course.events.len(), course.nodes[old].id);
    course.run(SETTLES);
    let now = course.now;
    assert_eq!(course.nodes[0].ownership.format_to_write(now), 1);
    let name = "node-c".to_owned();
    let owned = |course: &Course, node| {
        (0..PARTITIONS as u8).map(Partition).find(|it| course.owner(*it) == Some(node))
    };
    let partition = owned(&course, 0).expect("it has something");
    assert_eq!(course.move_to(partition, &name), Err(MoveRefused::NotReady(name)));
    course.leave(0);
    course.run(20 * SECOND);
    let given = |event: &Event| match event {
        Event::Ordered { node: 0, order: Order::Give(_, to) } => *to == id,
        _ => false,
    };
    assert!(!course.events[before..].iter().any(|(_, event)| given(event)));
}

/// A random course of faults, and then peace.
fn random_course(seed: u64) {
    let mut course = Course::new(seed, PARTITIONS);
    let count = course.random.usize(2..=NAMES.len());
    for name in &NAMES[..count] {
        course.start(name);
        let span = course.random.u64(..3 * SECOND);
        course.run(span);
    }
    for _ in 0..course.random.usize(1..12) {
        let at = course.random.usize(..count);
        let span = course.random.u64(..15 * SECOND);
        let until = course.now.after(span);
        let running = course.nodes.iter().filter(|it| it.running && !it.leaving).count();
        let node = &mut course.nodes[at];
        match course.random.u8(..10) {
            0 if running > 1 && node.running => course.kill(at),
            1 if running > 1 && node.running && !node.leaving => course.leave(at),
            2 => node.paused_until = until,
            3 => node.cut_until = until,
            4 => node.logless_until = until,
            7 => node.held_until = until,
            8 => node.deaf_until = until,
            5 | 6 if !node.running => drop(course.start(NAMES[at])),
            _ => {
                let partition = Partition(course.random.u8(..PARTITIONS as u8));
                let _ = course.move_to(partition, NAMES[at]);
            }
        }
        let span = course.random.u64(..12 * SECOND);
        course.run(span);
    }
    course.run(15 * SECOND);
    if course.nodes.iter().all(|node| !node.running) {
        course.start(NAMES[0]);
    }
    course.run(SETTLES);
    course.check_settled();
    let before = course.events.len();
    course.run(60 * SECOND);
    assert_eq!(course.events[before..], [], "it comes to rest");
}

/// How many random courses there are; more with SESSIOND_COURSES.
const COURSES: u64 = 200;

#[test]
fn every_random_course_comes_to_rest_with_one_owner_each() {
    let courses = std::env::var("SESSIOND_COURSES").ok().and_then(|text| text.parse().ok());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let courses: u64 = courses.unwrap_or(COURSES);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..courses).step_by(threads as usize) {
                    let course = std::panic::catch_unwind(|| random_course(seed));
                    assert!(course.is_ok(), "the course of seed {seed}");
                }
            });
        }
    });
}

#[test]
fn a_node_that_comes_moves_little_more_than_its_share() {
    for nodes in 1..NAMES.len() {
        let candidate =
            |(at, name): (usize, &&'static str)| Candidate { id: NodeId(at as u64), name };
        let all: Vec<_> = NAMES.iter().enumerate().map(candidate).collect();
        let before = targets(&all[..nodes], |_| None, PARTITIONS);
        let after = targets(&all[..=nodes], |_| None, PARTITIONS);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let share = PARTITIONS / (nodes + 1);
        assert!(moved <= share + 3, "{nodes} nodes and one: {moved} moved, its share is {share}");
        assert!(after.contains(&Some(NodeId(nodes as u64))), "it gets something");
    }
}

#[test]
fn a_cluster_that_stopped_as_a_whole_begins_again() {
    let mut course = of(&NAMES[..2]);
    // Both stop at once and begin again, as after a loss of power.
    course.kill(0);
    course.kill(1);
    course.run(3 * SECOND);
    course.start(NAMES[0]);
    course.start(NAMES[1]);
    course.run(SETTLES);
    course.check_settled();
}
