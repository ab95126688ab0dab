use super::*;
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

fn lanes(places: usize, waiting: usize) -> Arc<Lanes> {
    Lanes::new(Bounds { places, waiting }, Breaker::new(2, 100))
}

fn begin(lanes: &Arc<Lanes>, app: &str, user: &str) -> Question {
    lanes.begin(app, user, 0).expect("it begins")
}

/// A look at what somebody waits for.
fn look<T>(waits: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    waits.poll(&mut Context::from_waker(Waker::noop()))
}

/// A place that is free.
fn place(question: &Question) -> Place {
    let Poll::Ready(Ok(place)) = look(pin!(question.place())) else { panic!("none is free") };
    place
}

fn is_empty(lanes: &Lanes) -> bool {
    let state = lanes.state.lock();
    let is_idle = |lane: &Lane| (lane.users.len(), lane.places, lane.waiting.len()) == (0, 0, 0);
    (state.places, state.waiting) == (0, 0) && state.lanes.values().all(is_idle)
}

#[test]
fn the_breaker_of_one_app_is_not_that_of_another() {
    let lanes = lanes(2, 2);
    for _ in 0..2 {
        begin(&lanes, "games", "ada").failed(0, |_, _| {});
    }
    assert_eq!(lanes.begin("games", "bob", 1).err(), Some(99));
    begin(&lanes, "chat", "ada").succeeded(|_, _| {});
    drop(lanes.begin("games", "ada", 100).expect("one tries it"));
    let mut news = News::None;
    let probe = lanes.begin("games", "ada", 100).expect("the other was given up");
    probe.succeeded(|app, it| {
        assert_eq!(app, "games");
        news = it;
    });
    assert_eq!(news, News::Closed);
    assert!(is_empty(&lanes));
}

#[test]
fn one_user_has_half_of_the_places_of_its_app_at_most() {
    let lanes = lanes(4, 4);
    let [one, two, three] = [(); 3].map(|()| begin(&lanes, "games", "ada"));
    let of_bob = begin(&lanes, "games", "bob");
    let held = (place(&one), place(&two));
    let mut third = pin!(three.place());
    assert!(look(third.as_mut()).is_pending());
    drop(place(&of_bob));
    // A call over HTTP goes on when its question is given up.
    drop((one, two));
    assert!(look(third.as_mut()).is_pending());
    drop(held);
    assert!(matches!(look(third.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_user_asks_so_many_questions_at_a_time() {
    let lanes = lanes(32, 32);
    let many: Vec<_> = (0..QUESTIONS_PER_USER).map(|_| begin(&lanes, "games", "ada")).collect();
    assert_eq!(lanes.begin("games", "ada", 0).err(), Some(SECOND));
    assert!(lanes.begin("games", "bob", 0).is_ok() && lanes.begin("chat", "ada", 0).is_ok());
    drop(many);
    assert!(lanes.begin("games", "ada", 0).is_ok());
}

#[test]
fn a_place_that_is_free_goes_to_the_app_with_the_fewest() {
    let lanes = lanes(2, 8);
    let users: Vec<String> = (0..8).map(|at| format!("user-{at}")).collect();
    let apps = ["a", "b", "c", "d"];
    let asked: Vec<_> = (0..8).map(|at| begin(&lanes, apps[at / 2], &users[at])).collect();
    let mut held: Vec<_> = asked.iter().map(place).collect();
    let waits = ["a", "a", "late"].map(|app| begin(&lanes, app, "somebody"));
    let mut waits: Vec<_> = waits.iter().map(|it| Box::pin(it.place())).collect();
    assert!(waits.iter_mut().all(|it| look(it.as_mut()).is_pending()));
    held.remove(0);
    assert!(matches!(look(waits[2].as_mut()), Poll::Ready(Ok(_))), "it had none");
}

#[test]
fn whoever_waits_and_is_given_up_takes_nothing() {
    let lanes = lanes(1, 2);
    let [one, two, three] = ["ada", "bob", "cleo"].map(|user| begin(&lanes, "games", user));
    let held = place(&one);
    {
        let mut second = Box::pin(two.place());
        let mut third = Box::pin(three.place());
        assert!(look(second.as_mut()).is_pending() && look(third.as_mut()).is_pending());
        drop(held);
        // It was its turn, and it never heard of that.
        drop(second);
        assert!(matches!(look(third.as_mut()), Poll::Ready(Ok(_))));
    }
    let held = place(&one);
    let mut second = Box::pin(two.place());
    assert!(look(second.as_mut()).is_pending());
    drop(second);
    drop((held, one, two, three));
    assert!(is_empty(&lanes));
}

#[test]
fn so_many_wait_and_an_app_of_which_many_wait_makes_room_for_another() {
    let lanes = lanes(1, 2);
    let apps = ["a", "b", "c", "d"];
    let asked = apps.map(|app| begin(&lanes, app, "ada"));
    let held = asked.each_ref().map(place);
    let more: Vec<_> =
        apps.iter().flat_map(|app| ["bob", "cleo"].map(|user| begin(&lanes, app, user))).collect();
    let mut waits: Vec<_> = more.iter().map(|it| Box::pin(it.place())).collect();
    assert!(waits.iter_mut().all(|it| look(it.as_mut()).is_pending()));
    let over = begin(&lanes, "a", "eve");
    assert!(matches!(look(pin!(over.place())), Poll::Ready(Err(Busy))));
    let late = begin(&lanes, "late", "ada");
    let mut late_waits = Box::pin(late.place());
    assert!(look(late_waits.as_mut()).is_pending());
    let pushed_out = waits.iter_mut().filter_map(|it| match look(it.as_mut()) {
        Poll::Ready(outcome) => Some(outcome.err()),
        Poll::Pending => None,
    });
    assert_eq!(pushed_out.collect::<Vec<_>>(), [Some(Busy)]);
    drop((waits, late_waits));
    drop((held, asked, more, over, late));
    assert!(is_empty(&lanes));
}

#[test]
fn the_app_that_asked_longest_ago_is_forgotten_for_another() {
    let lanes = lanes(1, 1);
    for now in 0..APPS as Micros {
        let begun = lanes.begin(&format!("app-{now}"), "ada", now).expect("it begins");
        begun.failed(now, |_, _| {});
    }
    let asks = lanes.begin("app-0", "ada", 0).expect("it begins");
    lanes.begin("another", "ada", 2000).expect("there is room").succeeded(|_, _| {});
    let state = lanes.state.lock();
    assert_eq!(state.lanes.len(), APPS);
    assert!(state.lanes.contains_key("app-0"), "it asks something");
    assert!(!state.lanes.contains_key("app-1"));
    drop(state);
    drop(asks);
}
