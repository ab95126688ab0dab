//! Props in columns: the members that changed the same keys make a block, with a row for each member
//! and a packed column for each key. What is no prop that is set is encoded by name.
//!
//! No prop that is set is sent by name, however large it is: a receiver knows the number of a key
//! because it has had a value of it in a block.

use super::{
    Body, Head, bytes_len, field, head_len, put_bytes, put_head, put_varint,
    value::{put_value, zigzag},
};
use crate::{
    engine::encoder::{Encoded, Snapshot, Start},
    session::{
        Info, Session,
        member::Departure,
        size,
        value::Value,
        view::{Cell, ChangeSink, Class, MemberChange, View},
    },
};
use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use std::ops::Range;

/// What changed in a view from a start on; none if the view shows nothing of it.
pub fn changes(session: &Session, view: &View, start: Start, most: usize) -> Option<Encoded> {
    let mut table = Table::new(most);
    session.show_changes(view, start.after, &mut table);
    table.into_body().finish(&Head::of_step(session, start), false)
}

/// The whole view.
pub fn snapshot(session: &Session, view: &View, snapshot: Snapshot, most: usize) -> Encoded {
    let mut table = Table::new(most);
    session.show_all(view, &mut table);
    if snapshot.since.is_some() {
        session.show_departures(snapshot.since, &mut table);
    }
    let head = Head::of_snapshot(session, view, snapshot, None);
    table.into_body().finish(&head, true).unwrap_or_default()
}

/// A step while it grows.
struct Table<'a> {
    body: Body,
    /// The names that the step has to tell; some may come twice.
    names: Vec<(u64, &'a str)>,
    rows: Vec<Row>,
    /// The cells of all rows, row by row: the number of the key, and the value.
    cells: Vec<(u64, &'a Value)>,
    /// The member that is shown, as long as nothing was said of it by name.
    unsaid: Option<MemberChange<'a>>,
}

/// The props of a member.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Of the numbers of its keys: rows of other keys mostly have another one.
    print: u64,
    /// By join order.
    member: u64,
    begin: usize,
    end: usize,
}

impl<'a> Table<'a> {
    fn new(most: usize) -> Self {
        Self {
            body: Body::new(false, None, most),
            names: Vec::new(),
            rows: Vec::new(),
            cells: Vec::new(),
            unsaid: None,
        }
    }

    /// Members and names come before all blocks that need them, so that each part can be applied
    /// after those before it.
    fn into_body(mut self) -> Body {
        self.body.end_member();
        self.put_names();
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by_key(|row| (row.print, row.member));
        let mut blocks = Blocks { body: self.body, cells: &self.cells, layout: Layout::default() };
        for rows in rows.chunk_by(|a, b| same_keys(&self.cells, a, b)) {
            blocks.put(rows, 0..rows[0].end - rows[0].begin);
        }
        blocks.body
    }

    fn put_names(&mut self) {
        use field::{dictionary::PROPS, dictionary_entry as entry};
        self.names.sort_unstable();
        self.names.dedup();
        let mut dictionary = Vec::new();
        for &(number, name) in &self.names {
            let len = 1 + encoded_len_varint(number) + bytes_len(entry::NAME, name.len());
            if !self.body.has_room(dictionary.len() + bytes_len(PROPS, len)) {
                put_dictionary(&mut self.body, &mut dictionary);
                self.body.end_part();
            }
            put_head(&mut dictionary, PROPS, len);
            put_varint(&mut dictionary, entry::NUMBER, number);
            put_bytes(&mut dictionary, entry::NAME, name.as_bytes());
        }
        put_dictionary(&mut self.body, &mut dictionary);
    }
}

fn put_dictionary(body: &mut Body, dictionary: &mut Vec<u8>) {
    if !dictionary.is_empty() {
        put_bytes(&mut body.part.changes, field::changes::DICTIONARY, dictionary);
        dictionary.clear();
    }
}

fn same_keys(cells: &[(u64, &Value)], a: &Row, b: &Row) -> bool {
    let keys = |row: &Row| cells[row.begin..row.end].iter().map(|(number, _)| *number);
    a.print == b.print && keys(a).eq(keys(b))
}

impl<'a> ChangeSink<'a> for Table<'a> {
    fn session(&mut self, session: &Session, info: &Info, class: Class) {
        self.body.session(session, info, class);
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        self.body.data(key, value);
    }

    fn private_data(&mut self, key: &str, value: Option<&Value>) {
        self.body.private_data(key, value);
    }

    fn member(&mut self, change: MemberChange<'a>) {
        let MemberChange { user: _, replaces, role, disconnected, order } = change;
        if replaces || role.is_some() || disconnected.is_some() || order.is_some() {
            self.unsaid = None;
            self.body.member(change);
        } else {
            self.unsaid = Some(change);
        }
    }

    fn prop(&mut self, key: &'a str, value: Option<&'a Value>) {
        if let Some(change) = self.unsaid.take() {
            self.body.member(change);
        }
        self.body.prop(key, value);
    }

    fn cell(&mut self, cell: Cell<'a>, value: Option<&'a Value>) {
        let Cell { member, key, number, is_news } = cell;
        let Some(value) = value else { return self.prop(key, None) };
        if is_news {
            self.names.push((number, key));
        }
        let begin = self.cells.len();
        self.cells.push((number, value));
        match self.rows.last_mut().filter(|row| row.member == member) {
            Some(row) => {
                row.print = print(row.print, number);
                row.end = begin + 1;
            }
            None => {
                self.rows.push(Row { print: print(0, number), member, begin, end: begin + 1 });
            }
        }
    }

    fn left(&mut self, user: &str, departure: Departure) {
        self.body.left(user, departure);
    }
}

fn print(before: u64, number: u64) -> u64 {
    (before.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// Writes rows into the parts of a body.
struct Blocks<'c, 'a> {
    body: Body,
    cells: &'c [(u64, &'a Value)],
    layout: Layout,
}

impl Blocks<'_, '_> {
    /// A block of these columns of rows that have the same keys, by join order; several where it
    /// does not fit into a message.
    fn put(&mut self, rows: &[Row], columns: Range<usize>) {
        let len = self.lay_out(rows, columns.clone());
        if len > self.body.most - 32 {
            if let half @ 1.. = rows.len() / 2 {
                self.put(&rows[..half], columns.clone());
                return self.put(&rows[half..], columns);
            }
            if let half @ 1.. = columns.len() / 2 {
                let middle = columns.start + half;
                self.put(rows, columns.start..middle);
                return self.put(rows, middle..columns.end);
            }
        }
        self.body.make_room(len);
        let buf = &mut self.body.part.changes;
        put_head(buf, field::changes::BLOCKS, self.layout.block);
        put_bytes(buf, self.layout.users_tag, &self.layout.users);
        for (at, column) in columns.zip(&self.layout.columns) {
            let number = self.cells[rows[0].begin + at].0;
            put_head(buf, field::block::COLUMNS, column.len(number));
            put_varint(buf, field::column::PROP, number);
            column.put(buf, rows.iter().map(|row| self.cells[row.begin + at].1));
        }
    }

    /// How a block lies in bytes, and how many they are.
    fn lay_out(&mut self, rows: &[Row], columns: Range<usize>) -> usize {
        let layout = &mut self.layout;
        layout.put_users(rows);
        layout.columns.clear();
        layout.block = bytes_len(layout.users_tag, layout.users.len());
        for at in columns {
            let column = Array::of(rows.iter().map(|row| self.cells[row.begin + at].1));
            let number = self.cells[rows[0].begin + at].0;
            layout.block += bytes_len(field::block::COLUMNS, column.len(number));
            layout.columns.push(column);
        }
        bytes_len(field::changes::BLOCKS, layout.block)
    }
}

/// Where things lie in a block.
#[derive(Debug, Default)]
struct Layout {
    /// The bytes of its content.
    block: usize,
    /// The users, packed, and the field that they are in.
    users: Vec<u8>,
    users_tag: u32,
    columns: Vec<Array>,
}

impl Layout {
    /// The members of the rows, which rise: as runs or one by one, whichever is shorter.
    fn put_users(&mut self, rows: &[Row]) {
        use field::block::{RUNS, USERS};
        let users = &mut self.users;
        users.clear();
        let mut next = 0;
        for run in rows.chunk_by(|a, b| a.member + 1 == b.member) {
            let (first, length) = (run[0].member, run.len() as u64);
            encode_varint(first - next, users);
            encode_varint(length, users);
            next = first + length;
        }
        self.users_tag = RUNS;
        let one_by_one: usize = rows.iter().map(|row| encoded_len_varint(row.member)).sum();
        if one_by_one < users.len() {
            users.clear();
            rows.iter().for_each(|row| encode_varint(row.member, users));
            self.users_tag = USERS;
        }
    }
}

/// The array that the values of a column are in, and how many bytes it has; where each value is a
/// field of its own, with all heads.
#[derive(Debug, Clone, Copy)]
struct Array {
    kind: Kind,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Numbers,
    Floats,
    Integers,
    Flags,
    Texts,
    Values,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(_) => Self::Numbers,
            Value::Floats(items) if items.len() == 1 => Self::Floats,
            Value::Integer(_) => Self::Integers,
            Value::Flag(_) => Self::Flags,
            Value::Text(_) => Self::Texts,
            _ => Self::Values,
        }
    }

    /// Bytes of a value in an array of the kind.
    fn bytes(self, value: &Value) -> usize {
        use field::column;
        match (self, value) {
            (Self::Numbers, _) => 8,
            (Self::Floats, _) => 4,
            (Self::Flags, _) => 1,
            (Self::Integers, Value::Integer(integer)) => size::integer_bytes(*integer),
            (Self::Texts, Value::Text(text)) => bytes_len(column::TEXTS, text.len()),
            (_, value) => bytes_len(column::VALUES, size::of(value)),
        }
    }

    /// The field of a packed array.
    fn packed(self) -> Option<u32> {
        use field::column;
        match self {
            Self::Numbers => Some(column::NUMBERS),
            Self::Floats => Some(column::FLOATS),
            Self::Integers => Some(column::INTEGERS),
            Self::Flags => Some(column::FLAGS),
            Self::Texts | Self::Values => None,
        }
    }
}

impl Array {
    fn of<'a>(values: impl Iterator<Item = &'a Value> + Clone) -> Self {
        let mut kinds = values.clone().map(Kind::of);
        let first = kinds.next().unwrap_or(Kind::Values);
        let kind = if kinds.all(|kind| kind == first) { first } else { Kind::Values };
        Self { kind, bytes: values.map(|value| kind.bytes(value)).sum() }
    }

    /// Bytes of the column of a prop.
    fn len(&self, number: u64) -> usize {
        let head = self.kind.packed().map_or(0, |tag| head_len(tag, self.bytes));
        1 + encoded_len_varint(number) + head + self.bytes
    }

    fn put<'a>(&self, buf: &mut Vec<u8>, values: impl Iterator<Item = &'a Value>) {
        use field::column;
        if let Some(tag) = self.kind.packed() {
            put_head(buf, tag, self.bytes);
        }
        for value in values {
            match (self.kind, value) {
                (Kind::Numbers, Value::Number(number)) => buf.put_f64_le(*number),
                (Kind::Floats, Value::Floats(items)) => {
                    items.iter().for_each(|item| buf.put_f32_le(*item));
                }
                (Kind::Integers, Value::Integer(integer)) => encode_varint(zigzag(*integer), buf),
                (Kind::Flags, Value::Flag(flag)) => buf.put_u8(u8::from(*flag)),
                (Kind::Texts, Value::Text(text)) => {
                    put_bytes(buf, column::TEXTS, text.as_bytes());
                }
                (_, value) => {
                    put_head(buf, column::VALUES, size::of(value));
                    put_value(buf, value);
                }
            }
        }
    }
}
