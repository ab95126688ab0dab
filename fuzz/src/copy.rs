//! What a client has of a session, by what it is sent: by name or in columns.

use prost::Message;
use sessiond::{engine::Encoded, proto};
use std::collections::BTreeMap;

/// The bytes before a message.
const PREFIX: usize = 5;

/// Values by their bytes, which tell a number from any other, also where it is none.
pub type Props = BTreeMap<String, Vec<u8>>;

/// A client's copy.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    members: BTreeMap<u64, (String, Props)>,
    data: Props,
    names: BTreeMap<u64, String>,
}

fn named(value: proto::NamedValue) -> (String, Vec<u8>) {
    let value_bytes = value.encode_to_vec();
    let plain = proto::Value::decode(&*value_bytes).expect("a named value is one");
    (value.name, bytes_of(plain))
}

/// The bytes of a value; those of NaN are all the same, as one over another is no change.
pub fn bytes_of(mut value: proto::Value) -> Vec<u8> {
    plain(&mut value);
    value.encode_to_vec()
}

fn plain(value: &mut proto::Value) {
    use proto::value::Kind;
    let number = |it: &mut f64| *it = if it.is_nan() { f64::NAN } else { *it };
    match &mut value.kind {
        Some(Kind::Number(it)) => number(it),
        Some(Kind::Numbers(numbers)) => numbers.items.iter_mut().for_each(number),
        Some(Kind::Floats(floats)) => {
            floats.items.iter_mut().filter(|it| it.is_nan()).for_each(|it| *it = f32::NAN);
        }
        Some(Kind::List(list)) => list.items.iter_mut().for_each(plain),
        Some(Kind::Map(map)) => map.entries.values_mut().for_each(plain),
        _ => {}
    }
}

impl Copy {
    /// Applies the messages of a step, each of which must fit into `most` bytes.
    pub fn apply(&mut self, encoded: &Encoded, most: usize) {
        let last = encoded.messages.len() - 1;
        for (at, message) in encoded.messages.iter().enumerate() {
            assert!(message.bytes.len() <= most, "{} bytes", message.bytes.len());
            let response = proto::SubscribeToSessionResponse::decode(&message.bytes[PREFIX..]);
            let update = response.expect("it decodes").update.expect("an update");
            assert_eq!(update.more, at < last);
            self.take(update);
        }
    }

    /// Applies an update.
    pub fn take(&mut self, update: proto::SessionUpdate) {
        use proto::session_update::Body;
        match update.body.expect("a body") {
            Body::Snapshot(snapshot) => {
                *self = Self::default();
                self.change(snapshot.state.expect("a state"));
            }
            Body::Changes(changes) => self.change(changes),
            _ => {}
        }
    }

    fn change(&mut self, changes: proto::Changes) {
        self.data.extend(changes.data.into_iter().map(named));
        changes.data_removed.iter().for_each(|key| drop(self.data.remove(key)));
        for change in changes.members {
            if change.replaces {
                self.members.retain(|_, (user, _)| *user != change.user_id);
            }
            if change.join_order > 0 {
                self.members.insert(change.join_order, (change.user_id.clone(), Props::new()));
            }
            let known = self.members.values_mut().find(|(user, _)| *user == change.user_id);
            let (_, props) = known.expect("it is a member");
            props.extend(change.props.into_iter().map(named));
            change.removed.iter().for_each(|key| drop(props.remove(key)));
        }
        for departure in changes.left {
            self.members.retain(|_, (user, _)| *user != departure.user_id);
        }
        let entries = changes.dictionary.into_iter().flat_map(|it| it.props);
        for proto::DictionaryEntry { number, name } in entries {
            let before = self.names.insert(number, name.clone());
            assert!(before.is_none_or(|before| before == name), "a number has one name");
        }
        for block in changes.blocks {
            let users = users(&block).expect("the server's runs fit");
            for column in block.columns {
                let name = self.names.get(&column.prop).expect("it is named").clone();
                let values = values(column);
                assert_eq!(values.len(), users.len());
                for (user, value) in users.iter().zip(values) {
                    let (_, props) = self.members.get_mut(user).expect("it is a member");
                    props.insert(name.clone(), bytes_of(value));
                }
            }
        }
    }

    /// Who is there, with its props.
    pub fn members(&self) -> BTreeMap<&str, &Props> {
        self.members.values().map(|(user, props)| (&**user, props)).collect()
    }

    /// The shared data.
    pub fn data(&self) -> &Props {
        &self.data
    }
}

/// Whom a block is about; none if it cannot say that.
pub fn users(block: &proto::Block) -> Option<Vec<u64>> {
    let mut users = block.users.clone();
    let mut next = 0u64;
    for run in block.runs.chunks(2) {
        let &[gap, length] = run else { return None };
        let from = next.checked_add(gap)?;
        next = from.checked_add(length).filter(|next| *next <= u64::from(u32::MAX) + 1)?;
        // No message of an input has more values.
        if users.len() as u64 + length > 4096 {
            return None;
        }
        users.extend(from..next);
    }
    Some(users)
}

/// The values of a column.
pub fn values(column: proto::Column) -> Vec<proto::Value> {
    use proto::value::Kind;
    let proto::Column { prop: _, numbers, floats, integers, flags, texts, values } = column;
    let floats = floats.into_iter().map(|it| Kind::Floats(proto::Floats { items: vec![it] }));
    let kinds = numbers.into_iter().map(Kind::Number).chain(floats);
    let kinds = kinds.chain(integers.into_iter().map(Kind::Integer));
    let kinds = kinds.chain(flags.into_iter().map(Kind::Flag));
    let kinds = kinds.chain(texts.into_iter().map(Kind::Text));
    kinds.map(|kind| proto::Value { kind: Some(kind) }).chain(values).collect()
}
