//! Files of every version that was ever written. They stay as they are: a later version reads them.
//! A new file is written by the test itself if `WRITE_GOLDEN` is set.

use crate::entries::{entries, limits};
use sessiond::{
    object_stream::{Bounds, Cursor, ObjectStreams, Room},
    record::{self, Entry},
    session::{
        command::Actor,
        ids::UserId,
        record::Begin,
        replica::Replica,
        role::Role,
        value::Value,
        view::{Class, View},
    },
};
use std::{env, fs, path::PathBuf};

pub fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/record/v1");
    folder.join(format!("{name}.bin"))
}

#[test]
fn the_files_of_version_1_are_read() {
    for (name, entry) in entries() {
        let file = file(name);
        if env::var_os("WRITE_GOLDEN").is_some() && !file.exists() {
            fs::write(&file, record::encode(&entry)).unwrap();
        }
        let bytes = fs::read(&file).expect(name);
        assert_eq!(record::decode(&bytes).as_ref(), Ok(&entry), "{name}");
        // As long as it is the version that is written.
        assert_eq!(record::encode(&entry), bytes, "{name}");
    }
}

#[test]
fn a_session_is_opened_from_a_file() {
    let bytes = fs::read(file("snapshot")).unwrap();
    let Ok(Entry::Session(snapshot)) = record::decode(&bytes) else { panic!("no session") };
    let replica = Replica::begin(*snapshot, limits()).unwrap();
    let user = |name| UserId::new(name).unwrap();
    assert_eq!(replica.members().shown_counts().members, 2);
    assert_eq!(replica.bans(0, &Actor::App).len(), 1);
    let shown = replica.first_match(&[user("ben")], &[]).expect("ben is there").1;
    assert_eq!((shown.role, shown.disconnected), (Role::Member, true));
    let view = View { class: Class::Host, props: Default::default() };
    assert_eq!(replica.fingerprint(&view, None), 4_260_829_920);

    let bytes = fs::read(file("update")).unwrap();
    let Ok(Entry::Session(update)) = record::decode(&bytes) else { panic!("no session") };
    assert!(matches!(update.begin, Begin::Mark(mark) if mark == replica.mark()));
    let until = update.until;
    let session = replica.apply(*update).unwrap().promote(8_000_000);
    assert_eq!(session.mark(), until);
}

#[test]
fn an_update_of_two_numbers_takes_few_bytes() {
    let small = entries().into_iter().find(|(name, _)| *name == "two_numbers").unwrap().1;
    let Entry::Session(record) = &small else { panic!("no session") };
    let Entry::Session(mut none) = small.clone() else { panic!("no session") };
    assert_eq!(record.members.len(), 1);
    none.members.clear();
    let [all, rest] = [&small, &Entry::Session(none)].map(|entry| record::encode(entry).len());
    assert!(all - rest <= 40, "{} bytes for a member", all - rest);
}

#[test]
fn streams_are_restored_from_files() {
    let read = |name| match record::decode(&fs::read(file(name)).unwrap()) {
        Ok(Entry::Streams(change)) => change,
        other => panic!("{other:?}"),
    };
    let written = ["streams_counter", "streams_app", "stream", "stream_update"].map(read);
    let bounds = Bounds { streams: 10, value_bytes: 1024 };
    let mut streams = ObjectStreams::restore(bounds, written, true, 1).unwrap();
    let app = streams.apps().next().unwrap().clone();
    let told = |streams: &mut ObjectStreams, after, who| {
        let cursor = Cursor { epoch: 1_700_000_000_000_000, after, page: None };
        let reading = streams.read(&app, &who, None, &cursor, &mut Room::new(1 << 20), None);
        let mut updates = reading.updates.into_iter();
        (updates.next_back().unwrap().1, updates.next_back().map(|(name, _)| name))
    };
    let (update, _) = told(&mut streams, 0, Actor::User(UserId::new("eve").unwrap().into()));
    assert_eq!((update.reset, update.calls.len()), (true, 11));
    let (update, ended) = told(&mut streams, 31, Actor::App);
    assert_eq!((update.reset, update.removed.len(), update.calls.len()), (false, 0, 1));
    assert_eq!(update.calls[0].value, Value::Integers([0, 7, -8, 9].into()));
    assert_eq!(ended, None);
}
