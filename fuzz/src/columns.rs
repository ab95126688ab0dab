//! A session whose members do what the input says. Whoever reads it in columns, from any revision on,
//! comes to have what whoever reads it by name has.

use super::{bytes::Input, copy::Copy};
use prost::Message;
use sessiond::{
    engine::{
        Delivery,
        encoder::{Encoder, Snapshot, SnapshotReason, Start},
    },
    grpc::{
        convert::{door::Door, to_proto},
        encode::Wire,
    },
    proto,
    session::{
        Opening, Session,
        command::{Actor, Command, Join, Write},
        epoch::Epoch,
        ids::{AppId, Key, SessionId, UserId},
        limits::Limits,
        revision::Revision,
        settings::{Keys, Kind, Settings},
        value::Value,
        view::{Class, View},
    },
};
use std::sync::{Arc, LazyLock};

/// Small, so that steps come in parts.
const MOST: usize = 4096;

static LIMITS: LazyLock<Arc<Limits>> =
    LazyLock::new(|| Arc::new(Limits { value_bytes: 1024, ..Limits::default() }));

fn user(number: u8) -> UserId {
    UserId::new(&format!("user-{number}")).expect("an id")
}

fn session() -> Session {
    let app = AppId::new("app").expect("an id");
    let id = SessionId::new("session").expect("an id");
    let opener = Some((user(0), Join::default()));
    let settings = Settings::new(10_000, 100);
    let opening = Opening { opener, ..Opening::new(app, id, Kind::Room, settings) };
    Session::open(opening, LIMITS.clone(), 1_000_000, Epoch::default()).expect("it opens")
}

/// A value of the input: of a kind with few bytes, or as clients send one. What the door lets in goes
/// out as the same value.
fn value(input: &mut Input<'_>) -> Value {
    match input.byte() % 6 {
        0 => Value::Number(f64::from_bits(u64::from(input.byte()) << 52)),
        1 => Value::Floats([f32::from_bits(u32::from(input.byte()) << 24)].into()),
        2 => Value::Integer(i64::from(input.byte() as i8) << (input.byte() % 64)),
        3 => Value::Flag(input.byte() % 2 == 1),
        4 => Value::Text("x".repeat(usize::from(input.byte()) * 4).into()),
        _ => {
            let Ok(sent) = proto::Value::decode(input.piece()) else { return Value::Null };
            let read = |sent| {
                let mut door = Door::new(&LIMITS);
                let value = door.value("value", sent, 1);
                assert_eq!(door.close().is_ok(), value.is_some(), "no value, and no fault");
                value
            };
            let Some(value) = read(sent) else { return Value::Null };
            let again = to_proto::value(&value);
            let again = proto::Value::decode(&*again.encode_to_vec()).expect("it decodes");
            assert_eq!(read(again).as_ref(), Some(&value));
            value
        }
    }
}

fn key(number: u8) -> Key {
    Key::from(format!("key-{}", number % 24))
}

/// One reader by name and one in columns, who have seen the same revision.
struct Reader {
    at: Revision,
    named: Copy,
    packed: Copy,
}

impl Reader {
    fn new(session: &Session, view: &View) -> Self {
        let wire = Wire::with_messages_of(MOST);
        let named = Snapshot::new(SnapshotReason::First);
        let packed = Snapshot { delivery: Delivery::Columns, ..named };
        let copy = |snapshot| {
            let mut copy = Copy::default();
            copy.apply(&wire.snapshot(session, view, snapshot, None), MOST);
            copy
        };
        let reader = Self { at: session.revision(), named: copy(named), packed: copy(packed) };
        reader.check();
        reader
    }

    fn go_on(&mut self, session: &Session, view: &View) {
        if self.at < session.horizon() {
            // It is told of too little to go on.
            *self = Self::new(session, view);
            return;
        }
        let (wire, start) = (Wire::with_messages_of(MOST), Start::at(self.at));
        let named = wire.changes(session, view, start, false);
        let packed = wire.columns(session, view, start);
        assert_eq!(named.is_some(), packed.is_some(), "one is told that nothing happened");
        named.into_iter().for_each(|step| self.named.apply(&step, MOST));
        packed.into_iter().for_each(|step| self.packed.apply(&step, MOST));
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.packed.members(), self.named.members());
        assert_eq!(self.packed.data(), self.named.data());
    }
}

/// Goes through one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let class = if input.byte() % 2 == 0 { Class::Members } else { Class::Host };
    let view = View { class, props: Keys::default() };
    let mut session = session();
    let mut readers = vec![Reader::new(&session, &view)];
    let mut frames = 0;
    while !input.is_over() && frames < 12 {
        let deed = input.byte();
        let number = deed >> 3;
        let who = user(number);
        match deed % 8 {
            0 => {
                frames += 1;
                if session.flush(3_000_000).is_none() {
                    continue;
                }
                // Some go on step by step, and some are told of several frames at once.
                for reader in readers.iter_mut().step_by(2) {
                    reader.go_on(&session, &view);
                    reader.at = session.revision();
                }
                readers.push(Reader::new(&session, &view));
                let fresh = readers.last().expect("it was pushed");
                assert_eq!(readers[0].named.members(), fresh.named.members());
            }
            1 => {
                let join = Command::Join { user: who, join: Join::default() };
                let _ = session.apply(2_000_000, &Actor::App, join);
            }
            2 => {
                let leave = Command::Leave { user: who, keep_role: number % 2 == 0 };
                let _ = session.apply(2_000_000, &Actor::App, leave);
            }
            kind => {
                let mut write = Write::default();
                for _ in 0..input.byte() % 12 {
                    let name = input.byte();
                    let is_known = write.keys().any(|known| *known == key(name));
                    match name {
                        _ if is_known => {}
                        192.. => write.remove.push(key(name)),
                        _ => write.set.push((key(name), value(&mut input))),
                    }
                }
                write.merge_maps = kind == 7;
                let before = session.pending_revision();
                let command = match kind {
                    3 => Command::SetData { shared: write, private: Write::default(), term: 0 },
                    _ => Command::SetProps { user: who, write, term: 0 },
                };
                let outcome = session.apply(2_000_000, &Actor::App, command);
                if outcome.is_err() {
                    assert_eq!(session.pending_revision(), before);
                }
            }
        }
    }
    session.flush(4_000_000);
    let fresh = Reader::new(&session, &view);
    for mut reader in readers {
        reader.go_on(&session, &view);
        assert_eq!(reader.packed.members(), fresh.packed.members());
        assert_eq!(reader.packed.data(), fresh.packed.data());
    }
}

/// Inputs to begin with: everybody joins and writes values of all kinds, as in `proto/testdata`.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const FRAME: u8 = 0;
    let join = |number: u8| number << 3 | 1;
    let leave = |number: u8| number << 3 | 2;
    let write = |number: u8| number << 3 | 4;
    let mut members = vec![0];
    (1..4).for_each(|number| members.push(join(number)));
    members.push(FRAME);
    for number in 1..4 {
        members.extend([write(number), 2, 0, 0, number, 1, 1, number]);
    }
    members.extend([FRAME, write(1), 1, 192, leave(2), FRAME, join(2), leave(3), FRAME]);
    let mut kinds = vec![1, join(1), FRAME, write(1), 6];
    kinds.extend([0, 0, 63, 1, 1, 192, 2, 2, 255, 3, 3, 3, 1, 4, 4, 40]);
    let map = proto::MapValue { entries: [("k".into(), proto::Value::default())].into() };
    let map = proto::Value { kind: Some(proto::value::Kind::Map(map)) }.encode_to_vec();
    kinds.extend([5, 5, map.len() as u8, 0]);
    kinds.extend(map);
    kinds.push(FRAME);
    let mut large = vec![0];
    for number in 1..9 {
        large.extend([join(number), write(number), 2, 0, 4, 255, 1, 4, 255]);
    }
    large.extend([FRAME, 3, 1, 0, 4, 200, FRAME]);
    vec![("members", members), ("kinds", kinds), ("large", large)]
}
