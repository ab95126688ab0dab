//! Nothing that is read is trusted.

use crate::{
    entries::{entries, limits},
    golden::file,
};
use proptest::{collection, prelude::*, sample::Index};
use sessiond::{
    object_stream::{Bounds, Cursor, ObjectStreams, Room, record::Change},
    record::{self, Entry, Unreadable, VERSION},
    session::{command::Actor, replica::Replica, value::Value},
};
use std::fs;

#[test]
fn each_flipped_bit_is_seen() {
    for (name, _) in entries() {
        let mut bytes = fs::read(file(name)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let (at, flip) = (bit / 8, 1 << (bit % 8));
            bytes[at] ^= flip;
            assert_eq!(record::decode(&bytes), Err(Unreadable::Damaged), "bit {bit} of {name}");
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn what_is_cut_off_is_seen() {
    for (name, _) in entries() {
        let bytes = fs::read(file(name)).unwrap();
        for length in 0..bytes.len() {
            let cut = record::decode(&bytes[..length]);
            assert_eq!(cut, Err(Unreadable::Damaged), "{length} bytes of {name}");
        }
    }
}

#[test]
fn a_later_version_is_told_from_damage() {
    let (_, entry) = entries().remove(0);
    let bytes = record::encode(&entry);
    let later = sealed(VERSION + 1, &bytes[1..bytes.len() - 4]);
    assert_eq!(record::decode(&later), Err(Unreadable::Newer(VERSION + 1)));
    assert!(matches!(record::decode(&sealed(0, &[])), Err(Unreadable::Malformed(_))));
}

/// With a checksum that is right, whatever the message is.
fn sealed(version: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = [&[version], message].concat();
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// Whoever reads it goes on as far as it goes.
fn use_it(bytes: &[u8]) {
    let read = match record::decode(bytes) {
        Ok(Entry::Session(read)) => read,
        Ok(Entry::Streams(read)) => return use_streams(read),
        _ => return,
    };
    let known = entries().into_iter().filter_map(|(_, entry)| match entry {
        Entry::Session(record) => Replica::begin(*record, limits()).ok(),
        _ => None,
    });
    let after = known.map(|known| known.apply((*read).clone()));
    let alone = Replica::begin((*read).clone(), limits());
    for replica in after.chain([alone]).flatten() {
        let now = 9_000_000;
        let _ = replica.snapshot();
        let mut session = replica.promote(now);
        session.pass_time(now + 100_000_000);
        session.flush(now + 100_000_000);
        let _ = session.snapshot();
    }
}

/// Streams that are read go on, after what is known and alone.
fn use_streams(read: Change) {
    let known = entries().into_iter().filter_map(|(_, entry)| match entry {
        Entry::Streams(change) => Some(change),
        _ => None,
    });
    let known: Vec<_> = known.collect();
    for before in 0..=known.len() {
        for was_clean in [true, false] {
            let changes = known[..before].iter().cloned().chain([read.clone()]);
            let bounds = Bounds { streams: 10, value_bytes: 1024 };
            let restored = ObjectStreams::restore(bounds, changes, was_clean, 9_000_000);
            let Ok(mut streams) = restored else { continue };
            streams.keep_track();
            let ids: Vec<_> = streams.apps().cloned().collect();
            for id in ids {
                let (app, cursor) = (Actor::App, Cursor::default());
                let room = || Room::new(1 << 20);
                let all = streams.read(&id, &app, None, &cursor, &mut room(), None);
                for name in all.updates.keys() {
                    for key in ["k1", "k6", "k8", "k9", "map.x"] {
                        let set = vec![(key.into(), Value::Integers([1].into()))];
                        let _ = streams.update(&id, &app, name, Vec::new(), set.clone());
                        let _ = streams.update(&id, &app, name, set, Vec::new());
                    }
                    let _ = streams.read_one(&id, &app, name, None, &mut room());
                    let _ = streams.remove_key(&id, &app, name, "k8");
                }
                let _ = streams.read_shared(&id, &app, &mut room());
                let _ = streams.snapshot(&id);
            }
            let _ = streams.take_changes();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_anybody_panic(
        which in any::<Index>(),
        edits in collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let entries = entries();
        let bytes = record::encode(&which.get(&entries).1);
        let mut message = bytes[1..bytes.len() - 4].to_vec();
        for (at, byte) in edits {
            let at = at.index(message.len());
            message[at] = byte;
        }
        use_it(&sealed(VERSION, &message));
    }

    #[test]
    fn no_bytes_make_anybody_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let _ = record::decode(&bytes);
        use_it(&sealed(VERSION, &bytes));
    }
}
