//! The hand-written encoding against the generated types.

use super::*;
use crate::session::{
    Opening,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    ids::{AppId, Key, SessionId},
    limits::Limits,
    settings::{Kind, Settings},
    view::Class,
};
mod columns;

use prop::collection::vec;
use proptest::prelude::*;
use proto::session_update::Body as Step;
use std::sync::Arc;

/// Builds the generated type from what a view shows.
#[derive(Default)]
struct Reference(proto::Changes);

impl ChangeSink<'_> for Reference {
    fn session(&mut self, session: &Session, info: &Info, class: Class) {
        self.0.session = Some(to_proto::session_info(session, info, Some(class)));
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        match value {
            Some(value) => self.0.data.push(to_proto::named_value(key, value)),
            None => self.0.data_removed.push(key.to_owned()),
        }
    }

    fn private_data(&mut self, key: &str, value: Option<&Value>) {
        match value {
            Some(value) => self.0.private_data.push(to_proto::named_value(key, value)),
            None => self.0.private_data_removed.push(key.to_owned()),
        }
    }

    fn member(&mut self, change: MemberChange<'_>) {
        self.0.members.push(proto::MemberChange {
            user_id: change.user.to_string(),
            replaces: change.replaces,
            role: change.role.map_or(0, |role| to_proto::role(role).into()),
            disconnected: change.disconnected,
            join_order: change.order.unwrap_or_default(),
            ..Default::default()
        });
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        let member = self.0.members.last_mut().expect("a prop follows its member");
        match value {
            Some(value) => member.props.push(to_proto::named_value(key, value)),
            None => member.removed.push(key.to_owned()),
        }
    }

    fn left(&mut self, user: &str, departure: Departure) {
        let reason = to_proto::departure(departure).into();
        self.0.left.push(proto::Departure { user_id: user.to_owned(), reason });
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(Value::Integer),
        (-1e9..1e9).prop_map(Value::Number),
        "[a-zé]{0,200}".prop_map(|text| Value::Text(text.into())),
        vec(any::<u8>(), 0..200).prop_map(|data| Value::Data(data.into())),
        vec(-1e9..1e9, 0..20).prop_map(|items| Value::Numbers(items.into())),
        vec(-1e3f32..1e3, 0..20).prop_map(|items| Value::Floats(items.into())),
        vec(any::<i64>(), 0..20).prop_map(|items| Value::Integers(items.into())),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| Value::List(items.into())),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4).prop_map(|entries| {
                let entries: Vec<_> =
                    entries.into_iter().map(|(key, value)| (Key::from(key), value)).collect();
                Value::Map(entries.into())
            }),
        ]
    })
}

/// What happens to a session: who does it, and what becomes of which keys.
type Deed = (u8, Vec<(u8, Option<Value>)>);

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    vec((0u8..6, vec((0u8..5, prop::option::of(value())), 0..4)), 1..12)
}

fn user(number: u8) -> UserId {
    UserId::new(&format!("user-{number}")).expect("an id")
}

fn opening() -> Opening {
    let app = AppId::new("app").expect("an id");
    let id = SessionId::new("session").expect("an id");
    let settings = Settings { empty_ttl: 1_000_000, ..Settings::new(10_000, 100) };
    let opener = Some((user(0), Join::default()));
    Opening { opener, ..Opening::new(app, id, Kind::Room, settings) }
}

fn session() -> Session {
    Session::open(opening(), Arc::new(Limits::default()), 1_000_000, Epoch::default())
        .expect("it opens")
}

fn apply(session: &mut Session, (number, keys): &Deed) {
    let mut write = Write::default();
    for (key, value) in keys {
        let key = Key::from(format!("key-{key}"));
        match value {
            Some(value) => write.set.push((key, value.clone())),
            None => write.remove.push(key),
        }
    }
    let who = user(*number);
    let member = session.members().membership(&who).is_some();
    let command = match (member, keys.is_empty()) {
        (false, _) => Command::Join { user: who.clone(), join: Join::default() },
        (true, true) if *number > 0 => Command::Leave { user: who.clone(), keep_role: false },
        (true, _) if *number == 0 => {
            Command::SetData { shared: write.clone(), private: write, term: 0 }
        }
        (true, _) => Command::SetProps { user: who.clone(), write, term: 0 },
    };
    let actor = if *number == 0 { Actor::App } else { Actor::of(&who) };
    let _ = session.apply(2_000_000, &actor, command);
}

/// The messages of a step as the generated type, parts put together again; each fits.
fn decode(encoded: &Encoded) -> (proto::SessionUpdate, proto::Changes) {
    let mut first: Option<proto::SessionUpdate> = None;
    let mut whole = proto::Changes::default();
    let last = encoded.messages.len() - 1;
    for (at, message) in encoded.messages.iter().enumerate() {
        assert!(message.bytes.len() <= MAX_MESSAGE_BYTES);
        let update = decode_one(&message.bytes);
        assert_eq!(update.more, at < last);
        let part = match update.body.clone().expect("a body") {
            Step::Snapshot(snapshot) if at == 0 => snapshot.state.expect("a state"),
            Step::Changes(changes) => changes,
            other => panic!("not a part: {other:?}"),
        };
        whole.session = whole.session.or(part.session);
        whole.data.extend(part.data);
        whole.data_removed.extend(part.data_removed);
        whole.private_data.extend(part.private_data);
        whole.private_data_removed.extend(part.private_data_removed);
        whole.left.extend(part.left);
        for member in part.members {
            match whole.members.last_mut() {
                Some(known) if known.user_id == member.user_id => {
                    known.props.extend(member.props);
                    known.removed.extend(member.removed);
                }
                _ => whole.members.push(member),
            }
        }
        first.get_or_insert(update);
    }
    (first.expect("at least one message"), whole)
}

fn decode_one(bytes: &[u8]) -> proto::SessionUpdate {
    let length = u32::from_be_bytes(bytes[1..PREFIX].try_into().expect("four bytes"));
    assert_eq!((bytes[0], length as usize), (0, bytes.len() - PREFIX));
    let response = proto::SubscribeToSessionResponse::decode(&bytes[PREFIX..]);
    response.expect("it decodes").update.expect("an update")
}

fn view() -> View {
    View { class: Class::Host, props: Default::default() }
}

proptest! {
    #[test]
    fn a_value_is_what_the_generated_type_reads(value in value()) {
        let mut bytes = Vec::new();
        put_value(&mut bytes, &value);
        prop_assert_eq!(bytes.len(), size::of(&value));
        let read = proto::Value::decode(&*bytes).expect("it decodes");
        prop_assert_eq!(read, to_proto::value(&value));
    }

    #[test]
    fn steps_are_what_the_generated_types_read(before in deeds(), after in deeds()) {
        let mut session = session();
        before.iter().for_each(|deed| apply(&mut session, deed));
        session.flush(3_000_000);
        let from = session.revision();
        after.iter().for_each(|deed| apply(&mut session, deed));
        session.flush(4_000_000);

        let (update, state) =
            decode(&Wire::default().snapshot(&session, &view(), Snapshot::new(SnapshotReason::First), None));
        let mut reference = Reference::default();
        session.show_all(&view(), &mut reference);
        prop_assert_eq!(update.epoch, session.epoch().0);
        prop_assert_eq!(update.to_revision, session.revision().0);
        prop_assert_eq!(&state, &reference.0);

        let mut reference = Reference::default();
        session.show_changes(&view(), from, &mut reference);
        match Wire::default().changes(&session, &view(), Start::at(from), true) {
            None => prop_assert_eq!(reference.0, proto::Changes::default()),
            Some(encoded) => {
                let (update, changes) = decode(&encoded);
                prop_assert_eq!((update.from_revision, update.to_revision), (from.0, session.revision().0));
                prop_assert_eq!(&changes, &reference.0);
                for number in 0..6 {
                    let own = user(number);
                    let mut rest = reference.0.clone();
                    for member in rest.members.iter_mut().filter(|it| it.user_id == *own) {
                        (member.props, member.removed) = (Vec::new(), Vec::new());
                    }
                    let unchanged = proto::MemberChange { user_id: own.to_string(), ..Default::default() };
                    rest.members.retain(|member| *member != unchanged);
                    let message = &encoded.messages[0];
                    let is_empty = rest == proto::Changes::default();
                    prop_assert_eq!(is_only_props_of(message, &own), is_empty);
                    let update = decode_one(&without_props_of(message, &own));
                    prop_assert_eq!(update.from_revision, from.0);
                    prop_assert_eq!(update.body, Some(Step::Changes(rest)));
                }
            }
        }
    }
}

#[test]
fn a_large_step_comes_in_parts_and_a_member_may_be_split_over_them() {
    let mut session = session();
    let large = Value::Data(vec![7; 16_000].into());
    for number in 1..4 {
        let props = (0..100).map(|key| (Key::from(format!("key-{key}")), large.clone())).collect();
        let join = Join { props, ..Join::default() };
        let command = Command::Join { user: user(number), join };
        session.apply(2_000_000, &Actor::App, command).expect("it joins");
    }
    session.flush(3_000_000);
    let encoded =
        Wire::default().snapshot(&session, &view(), Snapshot::new(SnapshotReason::First), None);
    assert!(encoded.messages.len() > 4);
    let (_, state) = decode(&encoded);
    let mut reference = Reference::default();
    session.show_all(&view(), &mut reference);
    assert_eq!(state, reference.0);
    let start = Start::at(Revision::FIRST);
    let changes =
        Wire::default().changes(&session, &view(), start, false).expect("there are changes");
    assert_eq!(decode(&changes).1.members.len(), 3);
}

/// What the log tells a view, as the generated type.
fn told(session: &Session, view: &View, after: Revision) -> Vec<proto::LoggedUpdate> {
    let updates = session.logged_after(after).map(|(revision, event)| {
        let mut reference = Reference::default();
        session.show_logged(view, event, &mut reference);
        proto::LoggedUpdate { revision: revision.0, change: Some(reference.0) }
    });
    updates.filter(|update| update.change != Some(proto::Changes::default())).collect()
}

/// The updates of a step, whatever parts it comes in; each fits.
fn decode_log(encoded: &Encoded, span: Range<u64>) -> Vec<proto::LoggedUpdate> {
    let mut updates = Vec::new();
    for (at, message) in encoded.messages.iter().enumerate() {
        assert!(message.bytes.len() <= MAX_MESSAGE_BYTES);
        updates.extend(log_of(&message.bytes, span.clone(), at + 1 < encoded.messages.len()));
    }
    updates
}

fn log_of(bytes: &[u8], span: Range<u64>, more: bool) -> Vec<proto::LoggedUpdate> {
    let update = decode_one(bytes);
    assert_eq!((update.from_revision..update.to_revision, update.more), (span, more));
    match update.body {
        Some(Step::Log(log)) => log.updates,
        other => panic!("not of the log: {other:?}"),
    }
}

/// An update without the props of a member.
fn without(mut update: proto::LoggedUpdate, own: &UserId) -> Option<proto::LoggedUpdate> {
    let change = update.change.as_mut()?;
    for member in change.members.iter_mut().filter(|it| it.user_id == **own) {
        (member.props, member.removed) = (Vec::new(), Vec::new());
    }
    let nothing = proto::MemberChange { user_id: own.to_string(), ..Default::default() };
    change.members.retain(|member| *member != nothing);
    (*change != proto::Changes::default()).then_some(update)
}

proptest! {
    #[test]
    fn the_log_is_what_the_generated_types_read(stories in vec(deeds(), 1..4)) {
        let mut session = session();
        session.keep_log();
        for story in &stories {
            story.iter().for_each(|deed| apply(&mut session, deed));
            session.flush(3_000_000);
        }
        let (after, span) = (Revision::FIRST, 1..session.revision().0);
        let expected = told(&session, &view(), after);
        match Wire::default().log(&session, &view(), Start::at(after), true) {
            None => prop_assert_eq!(expected, vec![]),
            Some(encoded) => {
                prop_assert_eq!(&decode_log(&encoded, span.clone()), &expected);
                for own in (0..6).map(user) {
                    let rest = expected.iter().cloned().filter_map(|it| without(it, &own));
                    let rest: Vec<_> = rest.collect();
                    let message = &encoded.messages[0];
                    prop_assert_eq!(is_only_props_of(message, &own), rest.is_empty());
                    let bytes = without_props_of(message, &own);
                    prop_assert_eq!(log_of(&bytes, span.clone(), false), rest);
                }
            }
        }
    }
}

#[test]
fn a_large_log_comes_in_parts_and_an_update_may_go_on_in_the_next() {
    let limits = Limits { log_bytes: usize::MAX, ..Limits::default() };
    let opening = opening();
    let mut session =
        Session::open(opening, Arc::new(limits), 1_000_000, Epoch::default()).expect("it opens");
    session.keep_log();
    let large = Value::Data(vec![7; 16_000].into());
    let props: Vec<_> =
        (0..100).map(|key| (Key::from(format!("key-{key}")), large.clone())).collect();
    for number in 1..4 {
        let join = Join { props: props.clone(), ..Join::default() };
        let command = Command::Join { user: user(number), join };
        session.apply(2_000_000, &Actor::App, command).expect("it joins");
    }
    session.flush(3_000_000);
    let first = Revision::FIRST;
    let encoded =
        Wire::default().log(&session, &view(), Start::at(first), true).expect("there are updates");
    assert!(encoded.messages.len() > 4);
    let mut joined: Vec<proto::MemberChange> = Vec::new();
    for update in decode_log(&encoded, 1..2) {
        assert_eq!(update.revision, 2);
        for member in update.change.expect("it changes something").members {
            match joined.last_mut().filter(|known| known.user_id == member.user_id) {
                Some(known) => known.props.extend(member.props),
                None => joined.push(member),
            }
        }
    }
    let expected = told(&session, &view(), first).into_iter();
    let expected: Vec<_> =
        expected.flat_map(|update| update.change.expect("it changes something").members).collect();
    assert_eq!(joined, expected);
    // Each part without one's own props is a part still, the last one to complete the step.
    for message in &encoded.messages {
        let own = user(2);
        let last = std::ptr::eq(message, &encoded.messages[encoded.messages.len() - 1]);
        for update in log_of(&without_props_of(message, &own), 1..2, !last) {
            let members = update.change.expect("it changes something").members;
            assert!(members.iter().all(|it| it.user_id != *own || it.props.is_empty()));
        }
    }
}

#[test]
fn a_snapshot_says_from_where_on_updates_were_lost() {
    let mut session = session();
    for revision in 2..9 {
        let join = Command::Join { user: user(revision), join: Join::default() };
        session.apply(2_000_000, &Actor::App, join).expect("it joins");
        session.flush(3_000_000);
    }
    let reason = SnapshotReason::LogOverflow;
    for (lost_from, lost_to) in [(3, 8), (0, 0)] {
        let snapshot = Snapshot { lost_from: Revision(lost_from), ..Snapshot::new(reason) };
        let encoded = Wire::default().snapshot(&session, &view(), snapshot, None);
        let (update, state) = decode(&encoded);
        let Some(Step::Snapshot(snapshot)) = update.body else { panic!("a snapshot") };
        assert_eq!((snapshot.lost_from, snapshot.lost_to), (lost_from, lost_to));
        assert_eq!(snapshot.reason(), proto::SnapshotReason::LogOverflow);
        assert_eq!(state.members.len(), 8);
    }
}
