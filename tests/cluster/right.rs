//! How long an owner may answer.

use sessiond::cluster::{
    Before, BootMicros, Right,
    rules::{RIGHT, RIGHT_MARGIN},
};

const SENT: BootMicros = BootMicros(10_000_000);

#[test]
fn an_owner_answers_for_three_seconds_after_its_last_append_was_sent() {
    let right = Right::claimed(SENT, Before::Released);
    assert!(right.holds_at(SENT) && right.holds_at(SENT.after(RIGHT - 1)));
    assert!(!right.holds_at(SENT.after(RIGHT)));
    right.extend(SENT.after(1_000_000));
    assert!(right.holds_at(SENT.after(RIGHT)));
    // An older append that is found to be stored later takes nothing back.
    right.extend(SENT);
    assert!(right.holds_at(SENT.after(RIGHT)));
    assert!(!right.holds_at(SENT.after(RIGHT + 1_000_000)));
}

#[test]
fn after_a_crash_an_owner_waits_until_the_one_before_answers_no_more() {
    let seen = SENT.after(500_000);
    let right = Right::claimed(SENT, Before::SeenAt(seen));
    right.extend(SENT.after(3_000_000));
    assert!(!right.holds_at(seen.after(RIGHT + RIGHT_MARGIN - 1)));
    assert!(right.holds_at(seen.after(RIGHT + RIGHT_MARGIN)));
}

#[test]
fn a_deposed_owner_answers_no_more_whatever_is_found_to_be_stored() {
    let right = Right::claimed(SENT, Before::Released);
    right.end();
    right.extend(SENT.after(1));
    assert!(!right.holds_at(SENT.after(2)));
}

#[test]
fn the_clock_goes_on() {
    let right = Right::claimed(BootMicros::now(), Before::Released);
    assert!(right.holds());
    let (early, late) = (BootMicros::now(), BootMicros::now());
    assert!(early <= late && early > BootMicros(0));
}
