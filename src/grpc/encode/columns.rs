//! Props in columns: the members that changed the same keys make a block, with a row for each member
//! and a packed column for each key. What is no prop is encoded by name.

use super::{
    Body, Head, SnapshotHead, bytes_len, field, put_bytes, put_head, put_varint,
    value::{put_value, zigzag},
};
use crate::{
    engine::encoder::{Encoded, Snapshot, Start},
    session::{
        Info, Session,
        ids::UserId,
        member::Departure,
        revision::Revision,
        role::Role,
        size,
        value::Value,
        view::{Cell, ChangeSink, Class, MemberChange, View},
    },
};
use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

/// What changed in a view from a start on; none if the view shows nothing of it.
pub fn changes(session: &Session, view: &View, start: Start, most: usize) -> Option<Encoded> {
    let mut table = Table::new(start.after, false, most);
    session.show_changes(view, start.after, &mut table);
    let head = Head { from: start.from, to: session.revision(), snapshot: None };
    table.into_body().finish(&head, false)
}

/// The whole view.
pub fn snapshot(session: &Session, view: &View, snapshot: Snapshot, most: usize) -> Encoded {
    let Snapshot { reason, since, lost_from, delivery } = snapshot;
    let mut table = Table::new(Revision::NONE, true, most);
    session.show_all(view, &mut table);
    if since.is_some() {
        session.show_departures(since, &mut table);
    }
    let head = Head {
        from: Revision::NONE,
        to: session.revision(),
        snapshot: Some(SnapshotHead {
            epoch: session.epoch().0,
            reason,
            view: delivery.fingerprint(session, view, None),
            lost_from,
        }),
    };
    table.into_body().finish(&head, true).unwrap_or_default()
}

/// A step while it grows.
struct Table {
    body: Body,
    /// The receiver knows the numbers of all values that it has had at this revision.
    after: Revision,
    names_all: bool,
    /// The names that the step has to tell.
    names: Vec<(u64, String)>,
    named: FxHashSet<u64>,
    rows: Vec<Row>,
    /// The cells of all rows, row by row.
    cells: Vec<(u64, Value)>,
    /// The member that is shown, as long as nothing was said of it by name.
    member: Option<Unsaid>,
    /// The member that is shown is all of it.
    is_whole: bool,
}

/// The props of a member.
struct Row {
    /// By join order.
    member: u64,
    begin: usize,
    end: usize,
    bytes: usize,
}

/// A member of which nothing but props changed.
struct Unsaid {
    user: UserId,
}

impl Table {
    fn new(after: Revision, names_all: bool, most: usize) -> Self {
        Self {
            body: Body::new(false, None, most),
            after,
            names_all,
            names: Vec::new(),
            named: FxHashSet::default(),
            rows: Vec::new(),
            cells: Vec::new(),
            member: None,
            is_whole: false,
        }
    }

    /// The member that is shown is in the message by name.
    fn say(&mut self) {
        let Some(Unsaid { user }) = self.member.take() else { return };
        let (replaces, role, disconnected, order) = (false, None, None, None);
        let user = &user;
        self.body.member(MemberChange { user, replaces, role, disconnected, order });
    }

    fn into_body(mut self) -> Body {
        self.body.end_member();
        self.put_names();
        self.rows.sort_unstable_by_key(|row| row.member);
        for group in self.groups() {
            let mut rows = &*group;
            while !rows.is_empty() {
                let mut bytes = 0;
                let fits = |row: &&usize| {
                    bytes += self.rows[**row].bytes;
                    bytes <= self.body.most / 2
                };
                let count = rows.iter().take_while(fits).count().max(1);
                let (now, later) = rows.split_at(count);
                let block = self.block(now);
                self.body.make_room(block.len() + 8);
                put_bytes(&mut self.body.part.changes, field::changes::BLOCKS, &block);
                rows = later;
            }
        }
        self.body
    }

    fn put_names(&mut self) {
        let mut names = &*std::mem::take(&mut self.names);
        while !names.is_empty() {
            let mut dictionary = Vec::new();
            while let Some(((number, name), rest)) = names.split_first()
                && dictionary.len() < self.body.most / 2
            {
                use field::dictionary::{PROPS, props_entry};
                let key = 1 + encoded_len_varint(*number);
                let value = bytes_len(props_entry::VALUE, name.len());
                put_head(&mut dictionary, PROPS, key + value);
                put_varint(&mut dictionary, props_entry::KEY, *number);
                put_bytes(&mut dictionary, props_entry::VALUE, name.as_bytes());
                names = rest;
            }
            self.body.make_room(dictionary.len() + 8);
            put_bytes(&mut self.body.part.changes, field::changes::DICTIONARY, &dictionary);
        }
    }

    fn keys(&self, row: &Row) -> impl Iterator<Item = u64> {
        self.cells[row.begin..row.end].iter().map(|(number, _)| *number)
    }

    /// The rows that have the same keys. Most follow each other.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut known: FxHashMap<SmallVec<[u64; 8]>, usize> = FxHashMap::default();
        let mut last = None;
        for (at, row) in self.rows.iter().enumerate() {
            let is_same =
                |group: &usize| self.keys(&self.rows[groups[*group][0]]).eq(self.keys(row));
            let group = match last.filter(is_same) {
                Some(group) => group,
                None => *known.entry(self.keys(row).collect()).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                }),
            };
            groups[group].push(at);
            last = Some(group);
        }
        groups
    }

    fn block(&self, rows: &[usize]) -> Vec<u8> {
        use field::block::{COLUMNS, RUNS, USERS};
        let mut block = Vec::with_capacity(64 + rows.len() * 20);
        let members = || rows.iter().map(|row| self.rows[*row].member);
        let runs = runs(members());
        let bytes_of = |numbers: &mut dyn Iterator<Item = u64>| -> usize {
            numbers.map(encoded_len_varint).sum()
        };
        let (run_bytes, user_bytes) =
            (bytes_of(&mut runs.iter().copied()), bytes_of(&mut members()));
        if run_bytes <= user_bytes {
            put_head(&mut block, RUNS, run_bytes);
            runs.iter().for_each(|number| encode_varint(*number, &mut block));
        } else {
            put_head(&mut block, USERS, user_bytes);
            members().for_each(|number| encode_varint(number, &mut block));
        }
        let first = &self.rows[rows[0]];
        let mut column = Vec::with_capacity(16 + rows.len() * 8);
        for at in 0..first.end - first.begin {
            column.clear();
            put_varint(&mut column, field::column::PROP, self.cells[first.begin + at].0.into());
            let values = || rows.iter().map(|row| &self.cells[self.rows[*row].begin + at].1);
            put_values(&mut column, rows.len(), values);
            put_bytes(&mut block, COLUMNS, &column);
        }
        block
    }
}

/// Pairs of a gap and a length, of numbers that rise.
fn runs(numbers: impl Iterator<Item = u64>) -> SmallVec<[u64; 16]> {
    let mut runs = SmallVec::new();
    let (mut next, mut gap, mut length) = (0, 0, 0);
    for number in numbers {
        if number > next && length > 0 {
            runs.extend([gap, length]);
            length = 0;
        }
        if length == 0 {
            gap = number - next;
        }
        length += 1;
        next = number + 1;
    }
    runs.extend([gap, length]);
    runs
}

/// The array that a value has its column in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Array {
    Numbers,
    Floats,
    Integers,
    Flags,
    Texts,
    Values,
}

fn array_of(value: &Value) -> Array {
    match value {
        Value::Number(_) => Array::Numbers,
        Value::Floats(items) if items.len() == 1 => Array::Floats,
        Value::Integer(_) => Array::Integers,
        Value::Flag(_) => Array::Flags,
        Value::Text(_) => Array::Texts,
        _ => Array::Values,
    }
}

fn put_values<'a, I: Iterator<Item = &'a Value>>(
    buf: &mut Vec<u8>,
    count: usize,
    values: impl Fn() -> I,
) {
    use field::column;
    let mut arrays = values().map(array_of);
    let first = arrays.next().unwrap_or(Array::Values);
    let array = if arrays.all(|array| array == first) { first } else { Array::Values };
    match array {
        Array::Numbers => {
            put_head(buf, column::NUMBERS, count * 8);
            for value in values() {
                if let Value::Number(number) = value {
                    buf.put_f64_le(*number);
                }
            }
        }
        Array::Floats => {
            put_head(buf, column::FLOATS, count * 4);
            for value in values() {
                if let Value::Floats(items) = value {
                    buf.put_f32_le(items[0]);
                }
            }
        }
        Array::Integers => {
            let number = |value: &Value| match value {
                Value::Integer(number) => zigzag(*number),
                _ => 0,
            };
            put_head(
                buf,
                column::INTEGERS,
                values().map(|it| encoded_len_varint(number(it))).sum(),
            );
            values().for_each(|value| encode_varint(number(value), buf));
        }
        Array::Flags => {
            put_head(buf, column::FLAGS, count);
            values().for_each(|value| buf.put_u8(u8::from(*value == Value::Flag(true))));
        }
        Array::Texts => {
            for value in values() {
                if let Value::Text(text) = value {
                    put_bytes(buf, column::TEXTS, text.as_bytes());
                }
            }
        }
        Array::Values => {
            for value in values() {
                put_head(buf, column::VALUES, size::of(value));
                put_value(buf, value);
            }
        }
    }
}

impl ChangeSink for Table {
    fn session(&mut self, session: &Session, info: &Info, class: Class) {
        self.body.session(session, info, class);
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        self.body.data(key, value);
    }

    fn private_data(&mut self, key: &str, value: Option<&Value>) {
        self.body.private_data(key, value);
    }

    fn member(&mut self, change: MemberChange<'_>) {
        let MemberChange { user, replaces, role, disconnected, order } = change;
        self.is_whole = order.is_some();
        let only_props = !replaces && (role, disconnected, order) == (None::<Role>, None, None);
        self.member = only_props.then(|| Unsaid { user: user.clone() });
        if !only_props {
            self.body.member(change);
        }
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        self.say();
        self.body.prop(key, value);
    }

    fn cell(&mut self, cell: Cell<'_>, value: Option<&Value>) {
        let Some(value) = value else { return self.prop(cell.key, None) };
        let bytes = size::of(value) + 4;
        // Very large rows are shown by name, where they can go on in another message.
        let row = self.rows.last().filter(|row| row.member == cell.member);
        if row.map_or(0, |row| row.bytes) + bytes > self.body.most / 8 {
            return self.prop(cell.key, Some(value));
        }
        let is_news = self.names_all || self.is_whole || cell.news > self.after;
        if is_news && self.named.insert(cell.number) {
            self.names.push((cell.number, cell.key.to_owned()));
        }
        let begin = self.cells.len();
        self.cells.push((cell.number, value.clone()));
        match self.rows.last_mut().filter(|row| row.member == cell.member) {
            Some(row) => {
                row.end = begin + 1;
                row.bytes += bytes;
            }
            None => self.rows.push(Row { member: cell.member, begin, end: begin + 1, bytes }),
        }
    }

    fn left(&mut self, user: &str, departure: Departure) {
        self.body.left(user, departure);
    }
}
