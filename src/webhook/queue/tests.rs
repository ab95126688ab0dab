use super::*;
use crate::{
    engine::AppWhat,
    session::{event::What, ids::UserId, settings::Kind},
};

const RETRY: Retry = Retry { delay: Duration::from_secs(1), within: Duration::from_secs(60) };

fn event_of(session: &str, number: u64, reason: &str) -> Arc<AppEvent> {
    let what = match reason {
        "" => What::Opened(Kind::Room),
        reason => What::Kicked { user: UserId::new("ada").expect("an id"), reason: reason.into() },
    };
    Arc::new(AppEvent {
        app: AppId::new("games").expect("an id"),
        journal: 0,
        number,
        at: 0,
        session: SessionId::new(session).ok(),
        by: None,
        credential: None,
        what: AppWhat::InSession(what),
    })
}

fn push(queue: &mut Queue, session: &str, number: u64, now: Instant) -> Option<Kept> {
    queue.push(&event_of(session, number, ""), now)
}

fn session_of(batch: &Batch) -> String {
    let (_, session) = batch.lane.clone().expect("it is of an app");
    session.map(|it| it.to_string()).unwrap_or_default()
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.events.iter().map(|it| it.number).collect()
}

#[test]
fn a_session_is_delivered_in_order_and_only_once_at_a_time() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    for (session, number) in [("a", 1), ("b", 2), ("a", 3)] {
        assert_eq!(push(&mut queue, session, number, now), Some(Kept::Whole));
    }
    let a = queue.take(now).expect("it waits");
    let b = queue.take(now).expect("it waits");
    assert_eq!((session_of(&a), numbers(&a)), ("a".to_owned(), vec![1, 3]));
    assert_eq!((session_of(&b), numbers(&b)), ("b".to_owned(), vec![2]));
    push(&mut queue, "a", 4, now);
    assert!(queue.take(now).is_none(), "a is being delivered");
    queue.done(&b, true, now);
    assert!(queue.take(now).is_none());
    queue.done(&a, true, now);
    let again = queue.take(now).expect("it waits");
    assert_eq!(numbers(&again), [4]);
    assert!(!queue.is_idle());
    queue.done(&again, true, now);
    assert!(queue.is_idle() && queue.lanes.is_empty() && queue.due.is_empty());
    assert_eq!((queue.events, queue.bytes), (0, 0));
}

#[test]
fn a_delivery_that_failed_is_the_same_when_it_is_tried_again() {
    let mut now = Instant::now();
    let mut queue = Queue::new(RETRY);
    for number in 1..=2 {
        push(&mut queue, "a", number, now);
    }
    let first = queue.take(now).expect("it waits");
    for number in 3..6 {
        push(&mut queue, "a", number, now);
        queue.done(&first, false, now);
        now = queue.next_due().expect("it is tried again");
        let again = queue.take(now).expect("it is due");
        assert_eq!((numbers(&again), again.name(7)), (vec![1, 2], first.name(7)));
    }
    queue.done(&first, true, now);
    assert_eq!(numbers(&queue.take(now).expect("they waited")), [3, 4, 5]);
}

#[test]
fn a_session_that_fails_holds_up_no_other_and_waits_longer_each_time() {
    let mut now = Instant::now();
    let mut queue = Queue::new(RETRY);
    push(&mut queue, "a", 1, now);
    let mut waited = Vec::new();
    for _ in 0..8 {
        let batch = queue.take(now).expect("it is due");
        assert_eq!(numbers(&batch), [1]);
        assert_eq!(queue.done(&batch, false, now), Kept::Whole);
        push(&mut queue, "b", 2, now);
        let other = queue.take(now).expect("it does not wait for a");
        assert_eq!(session_of(&other), "b");
        queue.done(&other, true, now);
        let due = queue.next_due().expect("it is tried again");
        waited.push(due - now);
        assert!(queue.take(due - Duration::from_nanos(1)).is_none());
        now = due;
        if waited.iter().sum::<Duration>() > RETRY.within {
            break;
        }
    }
    for (nth, waited) in waited.iter().enumerate() {
        let longest = Duration::from_secs(1 << nth).min(LONGEST_DELAY);
        assert!(*waited <= longest && *waited >= longest / 2, "{nth}: {waited:?}");
    }
}

#[test]
fn what_cannot_be_delivered_in_time_is_told_with_the_next_delivery() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    push(&mut queue, "a", 1, now);
    push(&mut queue, "a", 2, now);
    let batch = queue.take(now).expect("it waits");
    queue.done(&batch, false, now);
    let later = now + RETRY.within;
    let batch = queue.take(later).expect("it is due");
    push(&mut queue, "a", 3, later);
    assert_eq!(queue.done(&batch, false, later), Kept::Lost);
    let due = queue.next_due().expect("what is missing is to be told");
    push(&mut queue, "a", 4, due);
    let batch = queue.take(due).expect("it is due");
    let gap = batch.gap.clone().expect("it says what is missing");
    assert_eq!((gap.reason, gap.missing), (EventGapReason::Undelivered, 3));
    assert_eq!((&*gap.app, &*gap.session, numbers(&batch)), ("games", "a", vec![4]));
    assert_eq!(queue.done(&batch, true, due), Kept::Whole);
    assert!(queue.lanes.is_empty());
    assert_eq!((queue.events, queue.bytes), (0, 0));
}

#[test]
fn a_session_that_is_never_heard_of_again_is_told_as_missing_of_any() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    push(&mut queue, "a", 1, now);
    let mut at = now;
    for _ in 0..3 {
        let batch = queue.take(at).expect("it is due");
        queue.done(&batch, false, at);
        at += RETRY.within.max(LONGEST_DELAY);
    }
    let batch = queue.take(at).expect("it is due");
    let gap = batch.gap.as_ref().expect("it is missing");
    assert_eq!((batch.lane.is_none(), gap.missing, &*gap.session), (true, 1, ""));
    queue.done(&batch, false, at);
    assert_eq!(queue.lanes.len(), 1, "it is told, however long that takes");
}

#[test]
fn a_session_has_room_for_so_many_and_what_comes_then_is_told_as_missing_if_it_fails() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    for number in 0..EVENTS_OF_LANE as u64 {
        assert_eq!(push(&mut queue, "a", number, now), Some(Kept::Whole));
    }
    assert_eq!(push(&mut queue, "a", 1000, now), None, "it is only a moment");
    let batch = queue.take(now).expect("it waits");
    assert_eq!(batch.events.len(), BATCH);
    queue.done(&batch, false, now);
    assert_eq!(push(&mut queue, "a", 1000, now), Some(Kept::Lost));
    assert_eq!(push(&mut queue, "a", 1001, now), Some(Kept::Lost));
    assert_eq!(push(&mut queue, "b", 1, now), Some(Kept::Whole));
    // The gap is where it was.
    let mut told = Vec::new();
    let mut at = now + LONGEST_DELAY;
    while let Some(batch) = queue.take(at) {
        queue.done(&batch, true, at);
        at += Duration::from_micros(1);
        if session_of(&batch) == "a" {
            told.push((batch.gap.as_ref().map(|gap| gap.missing), batch.events.len()));
        }
    }
    let whole = (None, BATCH);
    assert_eq!(told, [whole, whole, whole, whole, whole, (Some(2), 0)]);
}

#[test]
fn all_sessions_together_are_bounded_whatever_fails() {
    let mut now = Instant::now();
    let mut queue = Queue::new(RETRY);
    let mut kept = [0, 0];
    for number in 0..4 * EVENTS as u64 {
        match push(&mut queue, &number.to_string(), number, now) {
            Some(Kept::Whole) => kept[0] += 1,
            Some(Kept::Lost) => kept[1] += 1,
            None => panic!("what fails makes room"),
        }
        if let Some(batch) = queue.take(now) {
            queue.done(&batch, false, now);
        }
        now += Duration::from_micros(10);
        assert!(queue.events <= EVENTS && queue.lanes.len() <= LANES + 1);
    }
    assert_eq!(kept[0] + kept[1], 4 * EVENTS);
    assert!(kept[1] > 0, "there was no room");
    let missing = |lane: &Lane| -> u64 {
        let gap = |item: &Item| match item {
            Item::Gap(gap) => gap.missing,
            Item::Event(_) => 1,
        };
        lane.items.iter().map(gap).sum()
    };
    assert_eq!(
        queue.lanes.values().map(missing).sum::<u64>(),
        4 * EVENTS as u64,
        "none is forgotten"
    );
    // Large ones are counted in bytes.
    let mut queue = Queue::new(RETRY);
    let reason = "x".repeat(64 << 10);
    let large = (0..)
        .find(|number| queue.push(&event_of(&number.to_string(), *number, &reason), now).is_none());
    assert!(large.is_some_and(|it| it < (BYTES >> 16) as u64) && queue.bytes <= BYTES);
    let batch = queue.take(now).expect("it waits");
    assert_eq!(batch.events.len(), 1);
}

#[test]
fn what_is_missing_keeps_its_reason() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    queue.push_gap(None, EventGapReason::Restarted, 0, now);
    let app = Some((AppId::new("games").expect("an id"), None));
    queue.push_gap(app, EventGapReason::TooOld, 5, now);
    let [restarted, old] = [queue.take(now), queue.take(now)].map(|it| it.expect("it waits"));
    let [first, second] = [&restarted, &old].map(|it| it.gap.clone().expect("it is a gap"));
    assert_eq!((first.reason, &*first.app), (EventGapReason::Restarted, ""));
    assert_eq!((second.reason, second.missing, &*second.app), (EventGapReason::TooOld, 5, "games"));
    queue.done(&restarted, true, now);
    queue.done(&old, true, now);
    assert!(queue.lanes.is_empty());
}

#[test]
fn what_is_missing_while_a_gap_is_delivered_is_told_by_the_next_delivery() {
    let now = Instant::now();
    let mut queue = Queue::new(RETRY);
    let key = Some((AppId::new("games").expect("an id"), None));
    let lost = EventGapReason::TooOld;
    queue.push_gap(key.clone(), lost, 3, now);
    let first = queue.take(now).expect("it waits");
    queue.push_gap(key.clone(), lost, 2, now);
    queue.push_gap(key, lost, 2, now);
    queue.done(&first, true, now);
    let second = queue.take(now).expect("there is more");
    let [first, second] = [first, second].map(|batch| batch.gap.expect("it is a gap"));
    assert_eq!((first.missing, second.missing), (3, 4));
    assert_ne!(first.number, second.number, "each delivery has a name of its own");
}
