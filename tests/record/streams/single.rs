//! What is written when, what an unclean end costs, and what is refused, one by one.

use super::{BOUNDS, app, by, function, integers, key, log::Log, object, tracked, user};
use sessiond::{
    log::MAX_BATCH_BYTES,
    object_stream::{
        Cause, Cursor, LEAP, ObjectStreams, Page, Room, Unfit, Update,
        record::{Change, Gaps, StreamChange},
    },
    record::{Entry, Subject, encode},
    session::{command::Actor, value::Value},
};

fn set(streams: &mut ObjectStreams, name: &str, value: Value) {
    let set = vec![(key(name), value)];
    streams.update(&app("a"), &user("ada"), &key("s"), set, Vec::new()).unwrap();
}

fn append(streams: &mut ObjectStreams, name: &str, more: Value) {
    let append = vec![(key(name), more)];
    streams.update(&app("a"), &user("ada"), &key("s"), Vec::new(), append).unwrap();
}

fn with(values: Vec<(&str, Value)>) -> ObjectStreams {
    let mut streams = tracked();
    let values = values.into_iter().map(|(name, value)| (key(name), value)).collect();
    streams.set(&app("a"), &user("ada"), &key("s"), object(values)).unwrap();
    streams
}

/// What is new in the stream, and the next cursor.
fn read(streams: &mut ObjectStreams, cursor: Option<Cursor>) -> (Update, Option<Cursor>) {
    let mut room = Room::new(1 << 30);
    let read = streams.read_one(&app("a"), &user("ben"), &key("s"), cursor, &mut room).unwrap();
    (read.update, read.cursor)
}

fn begin(streams: &mut ObjectStreams) -> Cursor {
    read(streams, Some(Cursor::default())).1.unwrap()
}

fn restored(changes: Vec<Change>, was_clean: bool) -> Result<ObjectStreams, Unfit> {
    ObjectStreams::restore(BOUNDS, changes, was_clean, 5)
}

fn bytes(changes: &[Change]) -> usize {
    changes.iter().map(|change| encode(&Entry::Streams(change.clone())).len()).sum()
}

#[test]
fn nothing_is_written_before_somebody_keeps_track_or_when_nothing_has_changed() {
    let mut streams = ObjectStreams::new(BOUNDS, 7);
    streams.set(&app("a"), &Actor::App, &key("s"), object(Vec::new())).unwrap();
    assert_eq!(streams.take_changes(), []);

    let mut streams = with(vec![("n", Value::Integer(1))]);
    assert!(!streams.take_changes().is_empty());
    let cursor = begin(&mut streams);
    read(&mut streams, Some(cursor));
    set(&mut streams, "n", Value::Integer(1));
    assert_eq!(streams.take_changes(), [], "nobody has changed anything");
    read(&mut streams, None);
    assert_eq!(
        streams.take_changes().len(),
        2,
        "the shared cursor has moved, and the counter is last"
    );
    read(&mut streams, None);
    assert_eq!(streams.take_changes(), [], "it has not moved");
}

#[test]
fn what_is_appended_is_written_and_not_what_was_there() {
    let mut streams = with(vec![("long", integers(0..16_000)), ("text", Value::Text("t".into()))]);
    streams.take_changes();
    for at in 0..1000 {
        append(&mut streams, "long", integers([at]));
        let changes = streams.take_changes();
        assert!(bytes(&changes) < 160, "{} bytes for a number", bytes(&changes));
    }
}

#[test]
fn what_is_large_comes_in_entries_that_fit_a_batch() {
    let mut streams = tracked();
    let (id, ada) = (app("a"), user("ada"));
    streams.add_func(&id, &ada, &key("f"), function("last")).unwrap();
    streams.set(&id, &ada, &key("s"), object(vec![("x".into(), Value::Null)])).unwrap();
    streams.set_func(&id, &ada, &key("s"), None, by("f")).unwrap();
    let mut log = vec![streams.take_changes()];
    for round in ["a", "b", "c"] {
        for at in 0..100 {
            set(&mut streams, &format!("k{at}"), Value::Text(round.repeat(16_000).into()));
        }
        begin(&mut streams);
    }
    log.push(streams.take_changes());
    let cursor = begin(&mut streams);

    let flat: Vec<Change> = log.concat();
    assert!(flat.len() > 10);
    let fits = |change: &Change| encode(&Entry::Streams(change.clone())).len() < MAX_BATCH_BYTES;
    assert!(flat.iter().all(fits));
    // Some of the parts may have come through: the stream is as it was before, or whole.
    for length in log[0].len()..=flat.len() {
        let mut next = restored(flat[..length].to_vec(), false).unwrap();
        let (update, _) = read(&mut next, Some(Cursor::default()));
        let is_whole = length + 1 >= flat.len();
        assert_eq!(update.calls.len(), if is_whole { 101 } else { 1 }, "{length} entries");
        let (update, _) = read(&mut next, Some(cursor.clone()));
        assert_eq!(update.reset, length < flat.len(), "{length} entries");

        // What comes then goes on from there.
        next.keep_track();
        let mut log = flat[..length].to_vec();
        set(&mut next, "x", Value::Integer(7));
        log.extend(next.take_changes());
        let mut last = restored(log, true).unwrap();
        let all = |streams: &mut ObjectStreams| {
            let (update, cursor) = read(streams, Some(Cursor::default()));
            format!("{update:?} {cursor:?}")
        };
        assert_eq!(all(&mut last), all(&mut next), "{length} entries");
    }
}

#[test]
fn after_a_clean_end_every_cursor_goes_on() {
    let mut streams = with(vec![("list", integers([1]))]);
    let cursor = begin(&mut streams);
    append(&mut streams, "list", integers([2]));
    let mut next = restored(streams.take_changes(), true).unwrap();
    let (update, last) = read(&mut next, Some(cursor));
    assert_eq!((update.reset, update.values), (false, vec![(key("list"), integers([2]))]));
    assert_eq!(last, Some(begin(&mut streams)));
}

#[test]
fn whoever_has_missed_dropped_elements_is_told_so_by_the_next_server() {
    // All that changed is written at once, or one by one, or as a whole.
    for way in 0..3 {
        let mut streams = with(vec![("long", integers(0..9000))]);
        let mut log = if way == 1 { streams.take_changes() } else { Vec::new() };
        let mut cursors = Vec::new();
        for _ in 0..2 {
            cursors.push(begin(&mut streams));
            append(&mut streams, "long", integers(0..9000));
            if way == 1 {
                log.extend(streams.take_changes());
            }
        }
        match way {
            0 => log = streams.take_changes(),
            1 => {}
            _ => log = [streams.snapshot(&app("a")), vec![streams.counter()]].concat(),
        }
        let mut next = restored(log, true).unwrap();
        for (cursor, restarted) in cursors.into_iter().zip([vec![key("long")], Vec::new()]) {
            let known = read(&mut streams, Some(cursor.clone()));
            assert_eq!(known.0.restarted, restarted);
            let told = read(&mut next, Some(cursor));
            assert_eq!(format!("{told:?}"), format!("{known:?}"), "way {way}");
        }
    }
}

#[test]
fn after_an_unclean_end_the_cursors_of_what_is_lost_begin_again() {
    let mut streams = with(vec![("list", integers([1])), ("n", Value::Integer(1))]);
    let early = begin(&mut streams);
    append(&mut streams, "list", integers([2]));
    let mut log = streams.take_changes();
    let stored = begin(&mut streams);
    set(&mut streams, "n", Value::Integer(2));
    let lost = begin(&mut streams);
    let page = Page { to: stored.after, name: key("s"), key: key("list") };
    let paged = Cursor { page: Some(page), ..early.clone() };

    let mut next = restored(log.clone(), false).unwrap();
    let first = begin(&mut next);
    assert_eq!(first.epoch, early.epoch);
    assert!((stored.after + LEAP..stored.after + 2 * LEAP).contains(&first.after));
    let check = |streams: &mut ObjectStreams| {
        let (update, _) = read(streams, Some(early.clone()));
        assert_eq!(
            (update.reset, &update.values[..1]),
            (false, &[(key("list"), integers([2]))][..])
        );
        assert!(!read(streams, Some(stored.clone())).0.reset);
        // What a read under way had told may be lost.
        for cursor in [&lost, &paged, &Cursor { after: first.after - 1, ..early.clone() }] {
            let mut room = Room::new(1 << 30);
            let all = streams.read(&app("a"), &user("ben"), None, cursor, &mut room, None);
            assert!(all.reset, "{cursor}");
            assert!(
                read(streams, Some(Cursor { page: None, ..cursor.clone() })).0.reset
                    || *cursor == paged
            );
        }
        assert!(!read(streams, Some(first.clone())).0.reset);
    };
    check(&mut next);

    // It stays so, also after a clean end.
    next.keep_track();
    log.extend(next.take_changes());
    set(&mut next, "n", Value::Integer(3));
    log.extend(next.take_changes());
    check(&mut restored(log.clone(), true).unwrap());
    let second = restored(log, false).unwrap();
    assert!(begin(&mut { second }).after > first.after + LEAP);
}

#[test]
fn a_server_that_ends_before_it_writes_shares_no_revision_with_the_next() {
    let log = with(Vec::new()).take_changes();
    let at =
        |now| begin(&mut ObjectStreams::restore(BOUNDS, log.clone(), false, now).unwrap()).after;
    assert!(at(2_000_000) >= at(1_000_000) + 1_000_000);
}

#[test]
fn so_many_unclean_ends_are_remembered_and_then_old_cursors_begin_again() {
    let mut streams = with(vec![("n", Value::Integer(0))]);
    let mut log = Log::default();
    let mut cursors = Vec::new();
    for at in 0..20 {
        set(&mut streams, "n", Value::Integer(at));
        log.append(streams.take_changes());
        cursors.push(begin(&mut streams));
        streams = restored(log.changes(), false).unwrap();
        streams.keep_track();
    }
    for (at, cursor) in cursors.into_iter().enumerate() {
        let is_reset = read(&mut streams, Some(cursor)).0.reset;
        assert_eq!(is_reset, at < 20 - Gaps::MOST, "{at}");
    }
}

#[test]
fn the_shared_cursor_tells_something_again_and_loses_nothing() {
    let mut streams = with(vec![("list", integers([1]))]);
    read(&mut streams, None);
    let mut log = streams.take_changes();
    append(&mut streams, "list", integers([2]));
    log.extend(streams.take_changes());
    assert_eq!(read(&mut streams, None).0.values, [(key("list"), integers([2]))]);
    let mut again = restored(log.clone(), false).unwrap();
    assert_eq!(read(&mut again, None).0.values, [(key("list"), integers([2]))]);
    log.extend(streams.take_changes());
    let mut on = restored(log, false).unwrap();
    assert!(read(&mut on, None).0.is_empty());
}

#[test]
fn what_functions_were_told_last_is_known_again() {
    let mut streams = with(vec![("n", Value::Integer(1))]);
    streams.add_func(&app("a"), &user("ada"), &key("f"), function("value - last")).unwrap();
    streams.set_func(&app("a"), &user("ada"), &key("s"), None, by("f")).unwrap();
    let mut log = streams.take_changes();
    let cursor = begin(&mut streams);
    // Nothing but that has changed.
    log.extend(streams.take_changes());
    let mut next = restored(log, true).unwrap();
    set(&mut next, "n", Value::Integer(5));
    let (update, _) = read(&mut next, Some(cursor));
    assert_eq!(
        (&update.calls[0].value, &update.calls[0].last),
        (&Value::Integer(5), &Value::Integer(1))
    );
}

#[test]
fn a_change_that_is_missing_is_seen() {
    let mut streams = with(vec![("list", integers([1])), ("n", Value::Null)]);
    let mut log = vec![streams.take_changes()];
    append(&mut streams, "list", integers([2]));
    log.push(streams.take_changes());
    set(&mut streams, "n", Value::Flag(true));
    log.push(streams.take_changes());
    streams.set(&app("a"), &user("ada"), &key("t"), object(Vec::new())).unwrap();
    streams.remove(&app("a"), &user("ada"), &key("t")).unwrap();
    log.push(streams.take_changes());
    assert!(restored(log.concat(), true).is_ok());
    for missing in [0, 1] {
        let mut log = log.clone();
        log.remove(missing);
        let unfit = Unfit { app: app("a"), cause: Cause::Gap };
        assert_eq!(restored(log.concat(), true).map(drop), Err(unfit.clone()), "{missing}");
        // A snapshot makes it good.
        let mut kept = Log::default();
        log.into_iter().for_each(|changes| kept.append(changes));
        kept.snapshot(Subject::Streams(app("a")), streams.snapshot(&app("a")));
        assert!(restored(kept.changes(), true).is_ok());
        assert!(unfit.to_string().contains("app \"a\""));
    }
}

#[test]
fn without_an_app_that_does_not_fit_its_readers_begin_again() {
    let mut streams = with(Vec::new());
    streams.set(&app("b"), &user("ada"), &key("s"), object(Vec::new())).unwrap();
    let changes = streams.take_changes();
    let cursor = begin(&mut streams);
    let rest = changes.into_iter().filter(|change| change.app() != Some(&app("a"))).collect();
    let mut next = restored(rest, false).unwrap();
    let mut resets = ["a", "b"].map(|id| {
        let mut room = Room::new(1000);
        next.read(&app(id), &user("ben"), None, &cursor, &mut room, None).reset
    });
    resets.sort();
    assert_eq!(resets, [false, true]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut streams = with(vec![("list", integers([1])), ("n", Value::Null)]);
    let id = app("a");
    streams.add_func(&id, &user("ada"), &key("f"), function("value")).unwrap();
    streams.set_func(&id, &user("ada"), &key("s"), Some(key("n")), by("f")).unwrap();
    begin(&mut streams);
    streams.remove_key(&id, &user("ada"), &key("s"), "n").unwrap();
    set(&mut streams, "m", Value::Null);
    let changes = streams.take_changes();
    assert!(restored(changes.clone(), true).is_ok());
    let refused = |what: &str, edit: &dyn Fn(&mut StreamChange)| {
        let mut changes = changes.clone();
        let stream = changes.iter_mut().find_map(|change| match change {
            Change::Stream(change) => Some(&mut **change),
            _ => None,
        });
        edit(stream.unwrap());
        assert!(restored(changes, true).is_err(), "{what}");
    };
    refused("no head", &|change| change.head = None);
    refused("no definition", &|change| change.head.as_mut().unwrap().defined = None);
    refused("no such function", &|change| change.funcs[0].1 = by("g"));
    refused("another count", &|change| change.head.as_mut().unwrap().leaves += 1);
    refused("other removals", &|change| change.head.as_mut().unwrap().remembered += 1);
    refused("a late removal", &|change| change.removed[0].0 = u64::MAX);
    refused("a late key", &|change| change.leaves[0].changed += 100);
    refused("a key twice", &|change| change.leaves.push(change.leaves[0].clone()));
    refused("a late change", &|change| change.head.as_mut().unwrap().changed += 100);
    refused("a late place", &|change| change.head.as_mut().unwrap().shared.to += 100);
    refused("on nothing", &|change| change.since = 1);
}
