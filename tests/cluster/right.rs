//! How long an owner may answer.

use sessiond::{
    cluster::{
        Before, BootMicros, Ends, Right,
        rules::{RIGHT, RIGHT_MARGIN},
    },
    log::{Partition, Seq},
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

#[test]
fn a_new_owner_waits_from_when_the_entry_before_its_claim_was_seen_first() {
    let (partition, claimed_at) = (Partition(3), SENT.after(9));
    let mut ends = Ends::default();
    let before =
        |ends: &Ends, term, is_released| ends.before(partition, Seq(term), is_released, claimed_at);
    assert_eq!(before(&ends, 5, false), Before::SeenAt(claimed_at), "nobody has looked");
    ends.see(partition, Seq(4), SENT);
    ends.see(partition, Seq(4), SENT.after(1));
    ends.see(Partition(2), Seq(5), SENT);
    assert_eq!(before(&ends, 5, false), Before::SeenAt(SENT));
    assert_eq!(before(&ends, 6, false), Before::SeenAt(claimed_at), "something came between");
    ends.see(partition, Seq(5), SENT.after(2));
    assert_eq!(before(&ends, 6, false), Before::SeenAt(SENT.after(2)));
    assert_eq!(before(&ends, 6, true), Before::Released);
}
