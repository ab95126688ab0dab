//! Several entries as one piece of bytes.

use crate::entries::entries;
use sessiond::record::{Entries, Subject, Unreadable, put};
use std::collections::BTreeSet;

#[test]
fn the_entries_of_a_batch_are_read_in_their_order() {
    let entries: Vec<_> = entries().into_iter().map(|(_, entry)| entry).collect();
    let mut batch = Vec::new();
    entries.iter().for_each(|entry| put(&mut batch, entry));
    let read: Result<Vec<_>, _> = Entries::of(&batch).collect();
    assert_eq!(read, Ok(entries));
    assert_eq!(Entries::of(&[]).next(), None);
}

#[test]
fn an_entry_that_is_damaged_costs_no_other_one() {
    let (first, second) = (entries().remove(0).1, entries().remove(1).1);
    let mut batch = Vec::new();
    put(&mut batch, &first);
    let end = batch.len();
    put(&mut batch, &second);
    batch[end - 1] ^= 1;
    let read: Vec<_> = Entries::of(&batch).collect();
    assert_eq!(read, [Err(Unreadable::Damaged), Ok(second)]);
}

#[test]
fn what_is_cut_off_a_batch_is_seen_and_read_no_further() {
    let (first, second) = (entries().remove(0).1, entries().remove(1).1);
    let mut batch = Vec::new();
    put(&mut batch, &first);
    let whole = batch.len();
    put(&mut batch, &second);
    for length in whole + 1..batch.len() {
        let read: Vec<_> = Entries::of(&batch[..length]).collect();
        assert_eq!(read, [Ok(first.clone()), Err(Unreadable::Damaged)], "{length} bytes");
    }
}

#[test]
fn subjects_have_keys_of_their_own_that_a_log_takes() {
    let subjects: BTreeSet<_> = entries().iter().map(|(_, entry)| Subject::of(entry)).collect();
    let keys: BTreeSet<_> = subjects.iter().map(Subject::key).collect();
    assert_eq!(keys.len(), subjects.len());
    assert!(keys.iter().all(|key| (1..=sessiond::log::MAX_KEY_BYTES).contains(&key.len())));
}
