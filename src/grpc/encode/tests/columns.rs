//! Columns against names: both lead to the same state.

use super::*;
use crate::engine::encoder::Delivery;
use std::collections::BTreeMap;

/// What a client has of a session: members by join order, each with its props.
#[derive(Debug, Clone, Default, PartialEq)]
struct Copy {
    members: BTreeMap<u64, (String, BTreeMap<String, proto::Value>)>,
    names: BTreeMap<u64, String>,
}

fn value_of(named: proto::NamedValue) -> (String, proto::Value) {
    let bytes = named.encode_to_vec();
    (named.name, proto::Value::decode(&*bytes).expect("it is one"))
}

impl Copy {
    /// Applies the parts of a step, each by itself.
    fn apply(&mut self, encoded: &Encoded) {
        for message in &encoded.messages {
            assert!(message.bytes.len() <= MAX_MESSAGE_BYTES);
            let changes = match decode_one(&message.bytes).body.expect("a body") {
                Step::Snapshot(snapshot) => {
                    *self = Self::default();
                    snapshot.state.expect("a state")
                }
                Step::Changes(changes) => changes,
                other => panic!("not a part: {other:?}"),
            };
            self.take(changes);
        }
    }

    fn take(&mut self, changes: proto::Changes) {
        for change in changes.members {
            if change.replaces {
                self.members.retain(|_, (user, _)| *user != change.user_id);
            }
            if change.join_order > 0 {
                self.members.insert(change.join_order, (change.user_id.clone(), BTreeMap::new()));
            }
            let mut members = self.members.values_mut();
            let known = members.find(|(user, _)| *user == change.user_id);
            let (_, props) = known.expect("it is a member");
            props.extend(change.props.into_iter().map(value_of));
            for key in &change.removed {
                props.remove(key);
            }
        }
        for departure in changes.left {
            self.members.retain(|_, (user, _)| *user != departure.user_id);
        }
        let named = changes.dictionary.into_iter().flat_map(|it| it.props);
        for proto::DictionaryEntry { number, name } in named {
            let before = self.names.insert(number, name.clone());
            assert!(before.is_none_or(|before| before == name), "a number has one name");
        }
        for block in changes.blocks {
            let mut users = block.users;
            let mut next = 0;
            for run in block.runs.chunks(2) {
                users.extend(next + run[0]..next + run[0] + run[1]);
                next += run[0] + run[1];
            }
            for column in block.columns {
                let name = self.names.get(&column.prop).expect("it is named").clone();
                let values = values_of(column);
                assert_eq!(values.len(), users.len());
                for (user, value) in users.iter().zip(values) {
                    let (_, props) = self.members.get_mut(user).expect("it is a member");
                    props.insert(name.clone(), value);
                }
            }
        }
    }

    fn shown(&self) -> Vec<&(String, BTreeMap<String, proto::Value>)> {
        self.members.values().collect()
    }
}

fn values_of(column: proto::Column) -> Vec<proto::Value> {
    use proto::value::Kind;
    let proto::Column { prop: _, numbers, floats, integers, flags, texts, values } = column;
    let floats = floats.into_iter().map(|it| Kind::Floats(proto::Floats { items: vec![it] }));
    let kinds = numbers.into_iter().map(Kind::Number).chain(floats);
    let kinds = kinds.chain(integers.into_iter().map(Kind::Integer));
    let kinds = kinds.chain(flags.into_iter().map(Kind::Flag));
    let kinds = kinds.chain(texts.into_iter().map(Kind::Text));
    kinds.map(|kind| proto::Value { kind: Some(kind) }).chain(values).collect()
}

fn in_columns() -> Snapshot {
    Snapshot { delivery: Delivery::Columns, ..Snapshot::new(SnapshotReason::First) }
}

fn room(users: u8, value: impl Fn(u8, u8) -> Value) -> Session {
    let mut session = session();
    for number in 1..=users {
        let props =
            ["x", "y"].iter().zip(0..).map(|(key, at)| (Key::from(*key), value(number, at)));
        let join = Join { props: props.collect(), ..Join::default() };
        let command = Command::Join { user: user(number), join };
        session.apply(2_000_000, &Actor::App, command).expect("it joins");
    }
    session.flush(3_000_000);
    session
}

fn write(session: &mut Session, number: u8, set: Vec<(Key, Value)>) {
    let (user, write) = (user(number), Write::of(set));
    let command = Command::SetProps { user, write, term: 0 };
    session.apply(4_000_000, &Actor::App, command).expect("it is written");
}

/// The bytes of a step in which all of 50 users write x and y, per delivery to one of the others.
fn bytes_per_delivery(value: impl Fn(u8, u8) -> Value) -> f64 {
    let mut session = room(50, &value);
    let from = session.revision();
    for number in 1..=50 {
        let set = ["x", "y"].iter().zip(2..).map(|(key, at)| (Key::from(*key), value(number, at)));
        write(&mut session, number, set.collect());
    }
    session.flush(5_000_000);
    let step =
        Wire::default().columns(&session, &view(), Start::at(from)).expect("there are changes");
    step.messages[0].bytes.len() as f64 / 49.0
}

#[test]
fn a_delivery_of_two_doubles_takes_seventeen_and_a_half_bytes_at_most_and_of_floats_ten() {
    let of_doubles =
        bytes_per_delivery(|number, at| Value::Number(f64::from(number) + f64::from(at) / 3.0));
    assert!(of_doubles <= 17.5, "{of_doubles}");
    let of_floats =
        bytes_per_delivery(|number, at| Value::Floats([f32::from(number) + f32::from(at)].into()));
    assert!(of_floats <= 10.0, "{of_floats}");
}

#[test]
fn users_are_runs_or_a_list_whichever_is_shorter() {
    let blocks = |numbers: &[u8]| {
        let mut session = room(99, |_, _| Value::Integer(0));
        let from = session.revision();
        for &number in numbers {
            write(&mut session, number, vec![("x".into(), Value::Integer(1))]);
        }
        session.flush(5_000_000);
        let step =
            Wire::default().columns(&session, &view(), Start::at(from)).expect("there are changes");
        let Some(Step::Changes(changes)) = decode_one(&step.messages[0].bytes).body else {
            panic!("changes")
        };
        assert_eq!(changes.dictionary, None, "everybody knows the number");
        changes.blocks
    };
    let all: Vec<u8> = (1..=99).collect();
    // The opener is the member 1.
    assert_eq!(blocks(&all)[0].runs, [2, 99]);
    let odd: Vec<u8> = (1..=99).step_by(2).collect();
    assert_eq!(blocks(&odd)[0].users.len(), 50);
    assert_eq!(blocks(&[1, 2, 3, 9, 10, 11])[0].runs, [2, 3, 5, 3]);
}

/// However large a row is, its props are in blocks: a receiver that gets a value knows the number of
/// its key.
#[test]
fn a_prop_that_came_in_a_very_large_row_is_known_by_its_number() {
    let mut session = session();
    let large = Value::Data(vec![7; 16_000].into());
    let props = (0..200).map(|key| (Key::from(format!("key-{key}")), large.clone()));
    for number in 1..3 {
        let join = Join { props: props.clone().collect(), ..Join::default() };
        let command = Command::Join { user: user(number), join };
        session.apply(2_000_000, &Actor::App, command).expect("it joins");
    }
    session.flush(3_000_000);
    let step = Wire::default().snapshot(&session, &view(), in_columns(), None);
    assert!(step.messages.len() > 6);
    let mut copy = Copy::default();
    copy.apply(&step);
    let from = session.revision();
    for key in 0..200 {
        write(&mut session, 1, vec![(format!("key-{key}").into(), Value::Integer(key))]);
    }
    session.flush(5_000_000);
    let step =
        Wire::default().columns(&session, &view(), Start::at(from)).expect("there are changes");
    copy.apply(&step);
    let mut named = Copy::default();
    named.apply(&Wire::default().snapshot(
        &session,
        &view(),
        Snapshot::new(SnapshotReason::First),
        None,
    ));
    assert_eq!(copy.shown(), named.shown());
}

#[test]
fn more_names_than_fit_into_a_message_come_in_parts() {
    let limits = Limits { props_per_user: 20_000, ..Limits::default() };
    let mut session =
        Session::open(opening(), Arc::new(limits), 1_000_000, Epoch::default()).expect("it opens");
    let key = |number| Key::from(format!("{number:0128}"));
    let props = (0..20_000).map(|number| (key(number), Value::Integer(number))).collect();
    let join = Command::Join { user: user(1), join: Join { props, ..Join::default() } };
    session.apply(2_000_000, &Actor::App, join).expect("it joins");
    session.flush(3_000_000);
    let step = Wire::default().snapshot(&session, &view(), in_columns(), None);
    assert!(step.messages.len() > 2);
    let mut copy = Copy::default();
    copy.apply(&step);
    assert_eq!(copy.shown()[1].1.len(), 20_000);
}

proptest! {
    /// Whatever revision a client continues from, with the names that it has: steps in columns lead
    /// to what steps by name lead to.
    #[test]
    fn columns_lead_to_what_names_lead_to(rounds in vec(deeds(), 2..6)) {
        let mut session = session();
        let mut copies: Vec<(Revision, Copy, Copy)> = Vec::new();
        for deeds in rounds {
            deeds.iter().for_each(|deed| apply(&mut session, deed));
            session.flush(3_000_000);
            for (from, named, packed) in &mut copies {
                let start = Start::at(*from);
                if let Some(step) = Wire::default().changes(&session, &view(), start, false) {
                    named.apply(&step);
                }
                if let Some(step) = Wire::default().columns(&session, &view(), start) {
                    packed.apply(&step);
                }
                // Some go on step by step, some are merged from where they began.
                prop_assert_eq!(named.shown(), packed.shown());
            }
            let kept: Vec<_> = copies.iter().step_by(2).map(|(_, named, packed)| {
                (session.revision(), named.clone(), packed.clone())
            }).collect();
            for (at, kept) in kept.into_iter().enumerate() {
                copies[at * 2] = kept;
            }
            let (mut named, mut packed) = (Copy::default(), Copy::default());
            named.apply(&Wire::default().snapshot(&session, &view(), Snapshot::new(SnapshotReason::First), None));
            packed.apply(&Wire::default().snapshot(&session, &view(), in_columns(), None));
            prop_assert_eq!(named.shown(), packed.shown());
            copies.push((session.revision(), named, packed));
        }
    }
}
