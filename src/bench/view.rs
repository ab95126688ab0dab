//! What comes down to a backend, read without a codec: how many updates there are, and which.

use super::{
    Result,
    wire::{
        Field, block, changes, column, delivery, for_each, for_each_bytes, for_each_run, member,
        named_value, session_update, snapshot,
    },
};
use crate::proto::Dictionary;
use prost::Message;

/// The views of one backend, each of a room of its own.
#[derive(Debug)]
pub struct Views {
    views: Vec<View>,
    /// By how much the number of an update is greater than that of the same user's before.
    stride: usize,
}

/// What is known of a view.
#[derive(Debug, Default, Clone)]
struct View {
    is_open: bool,
    revision: u64,
    /// The last update that arrived.
    seen: Option<usize>,
    /// In columns: the number of the prop by which updates are known.
    x: Option<u64>,
}

/// What one message brings.
#[derive(Debug, Default, PartialEq)]
pub struct Arrived {
    /// Users with new props.
    pub deliveries: u64,
    /// Of each view with any, the number of the update of one of them.
    pub numbers: Vec<usize>,
    /// How many views these are.
    pub timed: u64,
    /// Updates that never came to them, because a later one came instead.
    pub merged: u64,
    /// Whether something was refused or ended.
    pub is_refusal: bool,
}

/// Field numbers of `GatewayResponse`.
mod response {
    pub const UPDATES: u32 = 1;
    pub const REFUSALS: u32 = 3;
    pub const ENDED: u32 = 4;
    pub const GO_AWAY: u32 = 7;
}

impl Views {
    /// So many, with handles from 1 on. The number of a user's update is greater by `stride` than that
    /// of its last one.
    pub fn new(count: usize, stride: usize) -> Self {
        Views { views: vec![View::default(); count], stride }
    }

    /// Whether each has come.
    pub fn are_open(&self) -> bool {
        self.views.iter().all(|view| view.is_open)
    }

    /// Takes a message in.
    pub fn take(&mut self, message: &[u8]) -> Result<Arrived> {
        let mut arrived = Arrived::default();
        for_each(message, |field| {
            match field {
                Field::Bytes(response::UPDATES, delivery) => {
                    self.deliver(delivery, &mut arrived)?
                }
                Field::Bytes(response::REFUSALS | response::ENDED | response::GO_AWAY, _) => {
                    arrived.is_refusal = true;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(arrived)
    }

    fn deliver(&mut self, delivery: &[u8], arrived: &mut Arrived) -> Result<()> {
        let (mut update, mut handle) = (&[][..], 0);
        for_each(delivery, |field| {
            match field {
                Field::Bytes(delivery::UPDATE, bytes) => update = bytes,
                Field::Varint(delivery::HANDLE, number) => handle = number,
                _ => {}
            }
            Ok(())
        })?;
        let view = (handle as usize).checked_sub(1).and_then(|at| self.views.get_mut(at));
        let view = view.ok_or("a view that was not asked for")?;
        if let Some(number) = view.step(update, arrived)? {
            arrived.numbers.push(number);
            arrived.timed += 1;
            // The first one is lower than the stride.
            let passed = view.seen.map_or(number, |seen| number.saturating_sub(seen + 1));
            arrived.merged += (passed / self.stride) as u64;
            view.seen = Some(number);
        }
        Ok(())
    }
}

impl View {
    /// Takes an update in; returns the number of one of the users' updates in it.
    fn step(&mut self, update: &[u8], arrived: &mut Arrived) -> Result<Option<usize>> {
        let (mut from, mut to, mut more) = (0, 0, false);
        let (mut snapshot, mut changed) = (None, None);
        for_each(update, |field| {
            match field {
                Field::Varint(session_update::FROM_REVISION, revision) => from = revision,
                Field::Varint(session_update::TO_REVISION, revision) => to = revision,
                Field::Varint(session_update::MORE, value) => more = value != 0,
                Field::Bytes(session_update::SNAPSHOT, bytes) => snapshot = Some(bytes),
                Field::Bytes(session_update::CHANGES, bytes) => changed = Some(bytes),
                Field::Bytes(session_update::ENDED, _) => arrived.is_refusal = true,
                _ => {}
            }
            Ok(())
        })?;
        if let Some(snapshot) = snapshot {
            self.is_open = true;
            for_each_bytes(snapshot, |field, state| {
                if field == snapshot::STATE { self.learn(state) } else { Ok(()) }
            })?;
        } else if from > self.revision {
            return Err("a message was lost: from_revision is past the last one".into());
        }
        if !more {
            self.revision = to;
        }
        changed.map_or(Ok(None), |changed| self.change(changed, arrived))
    }

    /// The names in the dictionary, if there is one.
    fn learn(&mut self, changed: &[u8]) -> Result<()> {
        for_each_bytes(changed, |field, names| {
            if field == changes::DICTIONARY {
                let props = Dictionary::decode(names)?.props;
                let x = props.into_iter().find(|prop| prop.name == "x");
                self.x = x.map(|prop| prop.number).or(self.x);
            }
            Ok(())
        })
    }

    fn change(&mut self, changed: &[u8], arrived: &mut Arrived) -> Result<Option<usize>> {
        self.learn(changed)?;
        let mut number = None;
        for_each_bytes(changed, |field, value| {
            match field {
                changes::MEMBERS => {
                    if let Some(shown) = shown_by(value)? {
                        arrived.deliveries += 1;
                        number = number.or(Some(shown));
                    }
                }
                changes::BLOCKS => {
                    for_each_run(value, |_, users| arrived.deliveries += users)?;
                    if number.is_none() {
                        number = first_of(value, self.x)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(number)
    }
}

/// Which update a member's props show, if there are any.
fn shown_by(member: &[u8]) -> Result<Option<usize>> {
    let mut shown = None;
    for_each_bytes(member, |field, prop| {
        if field != member::PROPS {
            return Ok(());
        }
        let (mut is_x, mut number) = (false, None);
        for_each(prop, |field| {
            match field {
                Field::Bytes(named_value::NAME, name) => is_x = name == b"x",
                Field::Fixed64(named_value::NUMBER, bytes) => number = first_number(bytes),
                Field::Bytes(named_value::FLOATS, floats) => for_each_bytes(floats, |_, items| {
                    number = first_float(items);
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        shown = shown.or(number.filter(|_| is_x));
        Ok(())
    })?;
    Ok(shown)
}

/// The number of the first update in a block.
fn first_of(block: &[u8], x: Option<u64>) -> Result<Option<usize>> {
    let mut first = None;
    for_each_bytes(block, |field, column| {
        if field != block::COLUMNS {
            return Ok(());
        }
        // An index of 0 is not written.
        let (mut prop, mut number) = (0, None);
        for_each(column, |field| {
            match field {
                Field::Varint(column::PROP, index) => prop = index,
                Field::Bytes(column::NUMBERS, numbers) => number = first_number(numbers),
                Field::Bytes(column::FLOATS, floats) => number = first_float(floats),
                _ => {}
            }
            Ok(())
        })?;
        if Some(prop) == x {
            first = number;
        }
        Ok(())
    })?;
    Ok(first)
}

fn first_number(numbers: &[u8]) -> Option<usize> {
    numbers.first_chunk().map(|number| f64::from_le_bytes(*number) as usize)
}

fn first_float(floats: &[u8]) -> Option<usize> {
    floats.first_chunk().map(|float| f32::from_le_bytes(*float) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        Block, Changes, Column, DictionaryEntry, Floats, GatewayResponse, MemberChange, NamedValue,
        Refusal, SessionDelivery, SessionUpdate, Snapshot, named_value::Kind, session_update::Body,
    };

    fn message(handle: u32, from: u64, to: u64, body: Body) -> Vec<u8> {
        let update = SessionUpdate {
            from_revision: from,
            to_revision: to,
            body: Some(body),
            ..SessionUpdate::default()
        };
        let delivery = SessionDelivery { handle, update: Some(update), ..Default::default() };
        GatewayResponse { updates: vec![delivery], ..Default::default() }.encode_to_vec()
    }

    fn snapshot(state: Changes) -> Body {
        Body::Snapshot(Snapshot { state: Some(state), ..Snapshot::default() })
    }

    fn named(users: &[&str], kind: &Kind) -> Body {
        let prop = |name: &str| NamedValue { name: name.into(), kind: Some(kind.clone()) };
        let member = |user: &&str| MemberChange {
            user_id: (*user).to_owned(),
            props: vec![prop("w"), prop("x")],
            ..MemberChange::default()
        };
        Body::Changes(Changes { members: users.iter().map(member).collect(), ..Default::default() })
    }

    fn open(count: usize) -> Views {
        let mut views = Views::new(count, 1);
        for handle in 1..=count {
            assert!(!views.are_open());
            let first = message(handle as u32, 0, 3, snapshot(Changes::default()));
            assert_eq!(views.take(&first).unwrap(), Arrived::default());
        }
        assert!(views.are_open());
        views
    }

    #[test]
    fn users_with_props_are_deliveries_and_one_tells_the_time() {
        let mut views = open(2);
        for kind in [Kind::Number(5.25), Kind::Floats(Floats { items: vec![5.5] })] {
            let arrived = views.take(&message(2, 3, 4, named(&["a", "b"], &kind))).unwrap();
            assert_eq!((arrived.deliveries, arrived.timed), (2, 1));
            assert_eq!(arrived.numbers, [5]);
        }
        let nobody = Body::Changes(Changes::default());
        assert_eq!(views.take(&message(1, 3, 4, nobody)).unwrap(), Arrived::default());
    }

    #[test]
    fn blocks_are_read_with_the_dictionary_of_their_view() {
        let mut views = Views::new(1, 1);
        let entry = |number, name: &str| DictionaryEntry { number, name: name.into() };
        let names = Dictionary { props: vec![entry(0, "y"), entry(4, "x")] };
        let state = Changes { dictionary: Some(names), ..Changes::default() };
        views.take(&message(1, 0, 3, snapshot(state))).unwrap();
        let column =
            |prop, number: f64| Column { prop, numbers: vec![number; 7], ..Default::default() };
        let block = Block {
            runs: vec![0, 3, 5, 4],
            columns: vec![column(0, 1.0), column(4, 9.5)],
            ..Default::default()
        };
        let blocks = Changes { blocks: vec![block], ..Changes::default() };
        let arrived = views.take(&message(1, 3, 4, Body::Changes(blocks))).unwrap();
        assert_eq!((arrived.deliveries, arrived.numbers), (7, vec![9]));
    }

    #[test]
    fn what_was_merged_is_counted() {
        let mut views = open(1);
        let mut merged = |to, number: f64| {
            let body = named(&["a"], &Kind::Number(number));
            views.take(&message(1, to - 1, to, body)).unwrap().merged
        };
        assert_eq!((merged(4, 0.5), merged(5, 1.5), merged(6, 4.5)), (0, 0, 2));
    }

    #[test]
    fn nothing_is_merged_where_users_write_in_turns() {
        let mut views = Views::new(1, 10);
        views.take(&message(1, 0, 3, snapshot(Changes::default()))).unwrap();
        let mut merged = |to, number: f64| {
            let body = named(&["a"], &Kind::Number(number));
            views.take(&message(1, to - 1, to, body)).unwrap().merged
        };
        assert_eq!((merged(4, 7.0), merged(5, 17.0), merged(6, 37.0)), (0, 0, 1));
    }

    #[test]
    fn a_gap_is_noticed_and_so_is_a_refusal() {
        let mut views = open(1);
        assert!(views.take(&message(1, 4, 5, Body::Changes(Changes::default()))).is_err());
        assert!(views.take(&message(2, 3, 4, Body::Changes(Changes::default()))).is_err());
        let refused = GatewayResponse { refusals: vec![Refusal::default()], ..Default::default() };
        assert!(views.take(&refused.encode_to_vec()).unwrap().is_refusal);
    }
}
