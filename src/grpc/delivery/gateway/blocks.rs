//! Writes of a gateway: in columns, where each user of a block is a write of its own, and by name.

use super::{
    Gateway, NAMES, REFUSALS, Server,
    judged::{self, At, Judgements},
};
use crate::grpc::error::Refusal;
use crate::{
    engine::{self, Attachment, Hold, Live},
    grpc::{
        convert::door::{Door, PropsWrite, path},
        delivery::{backlog::Messages, feeds::Feeds},
    },
    proto,
    session::{
        command::Write, ids::Key, judging::Operation, limits::Limits, revision::Revision,
        value::Value,
    },
};
use rustc_hash::FxHashMap;
use std::{collections::HashSet, sync::Arc};

/// The blocks of a message, those that are well formed and why others are not.
#[derive(Default)]
pub(super) struct Blocks(Vec<Result<Rows, Refusal>>);

impl Blocks {
    /// The rows of well-formed blocks, by the block, the row and the handle.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
        let blocks = self.0.iter().filter_map(|block| block.as_ref().ok());
        blocks
            .flat_map(|rows| rows.handles().enumerate().map(|(row, handle)| (rows.at, row, handle)))
    }

    /// The write of a row; none if a value is at fault.
    pub(super) fn write(&self, block: usize, row: usize) -> Option<Write> {
        let rows = self.0.get(block)?.as_ref().ok()?;
        (!rows.faulty.0.contains_key(&row)).then(|| rows.write(row))
    }
}

/// What stands for the path of a value until it is at fault.
const VALUE: &str = "value";

/// The users of a block that is well formed, and their values.
struct Rows {
    /// Which block of its message it is.
    at: usize,
    handles: Handles,
    keys: Vec<Key>,
    cells: Vec<Cells>,
    faulty: Faulty,
}

/// Rows with a value that may not be, each with why, unless so many are named already. They are not
/// written.
#[derive(Default)]
struct Faulty(FxHashMap<usize, Option<Refusal>>);

/// The handles of a block.
enum Handles {
    /// From one on, so many.
    Runs(Vec<(u32, u32)>),
    /// One by one.
    List(Vec<u32>),
}

/// The values of a column.
enum Cells {
    Numbers(Vec<f64>),
    Floats(Vec<f32>),
    Integers(Vec<i64>),
    Flags(Vec<bool>),
    Values(Vec<Value>),
}

impl Cells {
    fn value(&self, row: usize) -> Value {
        match self {
            Self::Numbers(cells) => Value::Number(cells[row]),
            Self::Floats(cells) => Value::Floats([cells[row]].into()),
            Self::Integers(cells) => Value::Integer(cells[row]),
            Self::Flags(cells) => Value::Flag(cells[row]),
            Self::Values(cells) => cells[row].clone(),
        }
    }
}

impl Rows {
    fn value(&self, row: usize, column: usize) -> Value {
        self.cells[column].value(row)
    }

    fn write(&self, row: usize) -> Write {
        let value = |(column, key): (usize, &Key)| (key.clone(), self.value(row, column));
        Write::of(self.keys.iter().enumerate().map(value).collect())
    }

    /// A refusal of the rules with the paths of the block.
    fn refusal(&self, refusal: Refusal) -> Refusal {
        let block = format!("blocks[{}].", self.at);
        refusal.renamed(|field| {
            let of_column = |(column, key): (usize, &Key)| {
                let within = field.strip_prefix(&*path("write.set", key))?;
                Some(format!("{block}columns[{column}]{within}"))
            };
            let column = self.keys.iter().enumerate().find_map(of_column);
            Some(column.unwrap_or_else(|| format!("{block}{field}")))
        })
    }

    fn handles(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.handles {
            Handles::List(list) => Box::new(list.iter().copied()),
            Handles::Runs(runs) => {
                Box::new(runs.iter().flat_map(|&(from, count)| (0..count).map(move |at| from + at)))
            }
        }
    }
}

/// Reads the users of a block; returns also how many there are.
fn handles(door: &mut Door<'_>, runs: &[u64], users: &[u64]) -> Option<(Handles, usize)> {
    match (runs.is_empty(), users.is_empty()) {
        (true, true) => {
            door.fault("users", "must be given, or runs instead");
            None
        }
        (false, false) => {
            door.fault("runs", "only one of runs and users may be given");
            None
        }
        (true, false) => {
            let list: Option<Vec<u32>> =
                users.iter().map(|&user| u32::try_from(user).ok()).collect();
            if list.is_none() {
                door.fault("users", "has a number that is over 4294967295 and no handle");
            }
            let list = list?;
            let count = list.len();
            Some((Handles::List(list), count))
        }
        (false, true) => {
            let (mut next, mut count, mut read) = (0u32, 0u32, Vec::with_capacity(runs.len() / 2));
            for pair in runs.chunks(2) {
                let &[gap, length] = pair else {
                    door.fault("runs", "must be pairs of a gap and a length");
                    return None;
                };
                let from = u32::try_from(gap).ok().and_then(|gap| next.checked_add(gap));
                let length = u32::try_from(length).ok();
                let end = from.zip(length).and_then(|(from, length)| from.checked_add(length));
                let Some(((from, length), end)) = from.zip(length).zip(end) else {
                    door.fault("runs", "goes beyond 4294967295, the last handle that there can be");
                    return None;
                };
                read.push((from, length));
                // It cannot be over the last handle.
                (next, count) = (end, count + length);
            }
            if count == 0 {
                door.fault("runs", "names no user");
                return None;
            }
            Some((Handles::Runs(read), count as usize))
        }
    }
}

impl Faulty {
    /// Takes the values of a column, whose path it is, as far as they may be.
    fn values(
        &mut self,
        limits: &Limits,
        column: &str,
        values: impl Iterator<Item = proto::Value>,
    ) -> Vec<Value> {
        let read = |(row, value)| {
            let mut door = Door::new(limits);
            let value = door.value(VALUE, value, 1);
            if let Err(refusal) = door.close() {
                self.note(
                    row,
                    |field| {
                        let within = field.strip_prefix(VALUE)?;
                        Some(format!("{column}[{row}]{within}"))
                    },
                    refusal,
                );
            }
            value.unwrap_or(Value::Null)
        };
        values.enumerate().map(read).collect()
    }

    fn note(&mut self, row: usize, path_of: impl Fn(&str) -> Option<String>, refusal: Refusal) {
        let is_room = self.0.len() < REFUSALS;
        let known = self.0.entry(row).or_insert_with(|| is_room.then(|| Refusal::Invalid(vec![])));
        if let (Some(Refusal::Invalid(known)), Refusal::Invalid(faults)) =
            (known, refusal.renamed(path_of))
        {
            known.extend(faults);
        }
    }
}

/// Reads a column, whose path it is; none if it has faults, which are noted.
fn cells(
    door: &mut Door<'_>,
    path: &str,
    column: proto::Column,
    users: usize,
    faulty: &mut Faulty,
) -> Option<Cells> {
    let proto::Column { prop: _, numbers, floats, integers, flags, texts, values } = column;
    let filled = [
        !numbers.is_empty(),
        !floats.is_empty(),
        !integers.is_empty(),
        !flags.is_empty(),
        !texts.is_empty(),
        !values.is_empty(),
    ];
    let filled = filled.into_iter().filter(|filled| *filled).count();
    if filled != 1 {
        door.fault("", format!("has {filled} arrays filled, and must have exactly one"));
        return None;
    }
    let count =
        numbers.len() + floats.len() + integers.len() + flags.len() + texts.len() + values.len();
    if count != users {
        door.fault("", format!("has {count} values for {users} users"));
        return None;
    }
    Some(if !numbers.is_empty() {
        Cells::Numbers(numbers)
    } else if !floats.is_empty() {
        Cells::Floats(floats)
    } else if !integers.is_empty() {
        Cells::Integers(integers)
    } else if !flags.is_empty() {
        Cells::Flags(flags)
    } else {
        let of_text = |text: String| proto::Value { kind: Some(proto::value::Kind::Text(text)) };
        let limits = door.limits();
        Cells::Values(match texts.is_empty() {
            true => faulty.values(limits, &format!("{path}.values"), values.into_iter()),
            false => {
                let texts = texts.into_iter().map(of_text);
                faulty.values(limits, &format!("{path}.texts"), texts)
            }
        })
    })
}

impl Gateway {
    /// Takes in new names, or none of them if one is at fault.
    fn learn(&mut self, server: &Server, dictionary: proto::Dictionary) -> Result<(), Refusal> {
        let mut door = Door::new(&server.limits);
        let mut new = FxHashMap::default();
        for (at, entry) in dictionary.props.into_iter().enumerate() {
            let proto::DictionaryEntry { number, name } = entry;
            let field = format!("dictionary.props[{at}]");
            match self.names.get(&number).or_else(|| new.get(&number)) {
                Some(known) if **known == *name => {}
                Some(known) => door.fault(field, format!("{number} is {known:?} already")),
                None => new.extend(door.key(&field, &name).map(|key| (number, key))),
            }
        }
        if self.names.len() + new.len() > NAMES {
            door.fault("dictionary.props", format!("has more than {NAMES} names"));
        }
        door.close()?;
        self.names.extend(new);
        Ok(())
    }

    fn rows(&self, server: &Server, at: usize, block: proto::Block) -> Result<Rows, Refusal> {
        let proto::Block { runs, users, columns } = block;
        let mut door = Door::new(&server.limits);
        let read = door.within(&format!("blocks[{at}]."), |door| {
            let (handles, count) = handles(door, &runs, &users)?;
            let most = server.streams.max_gateway_users;
            if count > most {
                let field = if runs.is_empty() { "users" } else { "runs" };
                door.fault(
                    field,
                    format!("has {count} users, more than the {most} that may be attached"),
                );
                return None;
            }
            if columns.is_empty() {
                door.fault("columns", "must be given");
            }
            let most = server.limits.props_per_user;
            if columns.len() > most {
                door.fault("columns", format!("has more than {most} columns"));
                return None;
            }
            let (mut known, mut faulty) = (HashSet::new(), Faulty::default());
            let mut read: Vec<(Key, Cells)> = Vec::with_capacity(columns.len());
            for (nth, column) in columns.into_iter().enumerate() {
                let field = format!("columns[{nth}]");
                let prop = column.prop;
                let key = self.names.get(&prop);
                if key.is_none() {
                    door.fault(format!("{field}.prop"), format!("{prop} is not in the dictionary"));
                }
                if !known.insert(prop) || read.iter().any(|(known, _)| Some(known) == key) {
                    door.fault(format!("{field}.prop"), "is named twice");
                }
                let path = format!("blocks[{at}].{field}");
                let cells =
                    door.within(&field, |door| cells(door, &path, column, count, &mut faulty));
                read.extend(key.cloned().zip(cells));
            }
            let (keys, cells) = read.into_iter().unzip();
            Some(Rows { at, handles, keys, cells, faulty })
        });
        door.close_with(|| read)
    }

    /// Takes in new names and reads blocks; none of them if a name is at fault.
    pub(super) fn read_blocks(
        &mut self,
        server: &Server,
        seq: u64,
        dictionary: Option<proto::Dictionary>,
        blocks: Vec<proto::Block>,
    ) -> Blocks {
        if let Some(dictionary) = dictionary
            && let Err(refusal) = self.learn(server, dictionary)
        {
            self.refuse(seq, 0, &refusal);
            return Blocks::default();
        }
        let blocks = blocks.into_iter().enumerate();
        Blocks(blocks.map(|(at, block)| self.rows(server, at, block)).collect())
    }

    /// Writes blocks. One that is not well formed is refused whole; a value that may not be refuses its
    /// row.
    pub(super) fn write_all(
        &mut self,
        server: &Server,
        hold: &Hold,
        feeds: &mut Feeds,
        seq: u64,
        Blocks(blocks): Blocks,
        judgements: &mut Judgements,
    ) {
        let mut refused = Refused::default();
        for block in blocks {
            match block {
                Ok(rows) => {
                    let told = (seq, &mut refused);
                    self.write_rows(server, hold, feeds, &rows, judgements, told);
                }
                Err(refusal) => refused.add(0, refusal),
            }
        }
        self.tell(seq, refused);
    }

    fn write_rows(
        &mut self,
        server: &Server,
        hold: &Hold,
        feeds: &mut Feeds,
        rows: &Rows,
        judgements: &mut Judgements,
        (seq, refused): (u64, &mut Refused),
    ) {
        let messages = Messages { after: self.acks.last(), last: seq };
        let mut written: Vec<(Arc<Live>, Revision)> = Vec::new();
        let now = server.engine.clock().now();
        let mut group = Group::default();
        for (row, handle) in rows.handles().enumerate() {
            let Some(user) = hold.user(handle) else {
                refused.add(handle, Refusal::UnknownHandle { handle });
                continue;
            };
            if let Some(refusal) = rows.faulty.0.get(&row) {
                match refusal {
                    Some(refusal) => refused.add(handle, refusal.clone()),
                    None => refused.others += 1,
                }
                continue;
            }
            if user.live().judges(Operation::Write) {
                // What came before is written before.
                written.extend(group.flush(server, rows, refused));
                let judged = judgements.remove(&At::Row(rows.at, row));
                match judged::write(server, user, judged) {
                    Ok(position) => written.push((user.live().clone(), position.revision)),
                    Err(refusal) => {
                        refused.add_with(handle, || rows.refusal(refusal.into()));
                    }
                }
                continue;
            }
            if let Err(limited) = self.excess.take_update(user, handle, now) {
                let write = rows.write(row);
                let limited = limited.into();
                let outcome = self.excess.add(server, user, handle, messages, write, limited);
                if let Err(refusal) = outcome {
                    refused.add_with(handle, || rows.refusal(refusal));
                }
                continue;
            }
            if group.live.as_ref().is_some_and(|live| !Arc::ptr_eq(live, user.live())) {
                written.extend(group.flush(server, rows, refused));
            }
            group.live.get_or_insert_with(|| user.live().clone());
            group.rows.push((row, handle, user));
        }
        written.extend(group.flush(server, rows, refused));
        for (live, revision) in written {
            self.expect(feeds, &live, messages.after, revision);
        }
    }

    /// Writes by name.
    pub(super) fn write_by_name(
        &mut self,
        server: &Server,
        hold: &Hold,
        feeds: &mut Feeds,
        seq: u64,
        writes: Vec<proto::HandleWrite>,
        judgements: &mut Judgements,
    ) {
        let mut refused = Refused::default();
        let messages = Messages { after: self.acks.last(), last: seq };
        for (at, proto::HandleWrite { handle, write }) in writes.into_iter().enumerate() {
            let write = write.unwrap_or_default();
            let judged = judgements.remove(&At::Name(at));
            match self.write_one(server, hold, messages, handle, (write, judged)) {
                Ok(Some((live, revision))) => self.expect(feeds, &live, messages.after, revision),
                Ok(None) => {}
                Err(refusal) => {
                    refused.add_with(handle, || refusal.within(&format!("writes[{at}].")))
                }
            }
        }
        self.tell(seq, refused);
    }

    fn write_one(
        &mut self,
        server: &Server,
        hold: &Hold,
        messages: Messages,
        handle: u32,
        (mut write, judged): (proto::PropsWrite, Option<Result<Write, engine::Refusal>>),
    ) -> Result<Option<(Arc<Live>, Revision)>, Refusal> {
        let user = hold.user(handle).ok_or(Refusal::UnknownHandle { handle })?;
        let mut door = Door::new(&server.limits);
        if !write.session_ids.is_empty() {
            door.fault("write.session_ids", "must be empty: the handle says it");
        }
        write.session_ids = vec![user.live().id.to_string()];
        let mut write = door.props_write(write);
        door.close()?;
        let is_judged = judged.is_some();
        write.judgements.extend(judged.map(|judged| (user.live().id.clone(), judged)));
        let now = server.engine.clock().now();
        // One that was judged has had its update taken.
        if !is_judged && let Err(limited) = self.excess.take_update(user, handle, now) {
            let limited = Refusal::from(limited);
            if !write.is_plain() {
                return Err(limited);
            }
            let PropsWrite { write, .. } = write;
            self.excess.add(server, user, handle, messages, write, limited)?;
            return Ok(None);
        }
        let actor = user.actor();
        let durable = write.durable.then(|| write.sessions.clone());
        let outcomes = server.write_props(&self.app, &actor, user.user(), write)?;
        // It names one session.
        let outcome = outcomes.into_iter().next().map(|(_, outcome)| outcome).transpose()?;
        let written = outcome.map(|position| (user.live().clone(), position.revision));
        if let Some(sessions) = durable {
            let storing = server.write_stored(&self.app, sessions, false);
            self.unstored.add(messages.after, storing);
            self.hold_acks();
        }
        Ok(written)
    }

    /// Tells what of a message was refused: so many one by one, and the others together.
    fn tell(&mut self, seq: u64, refused: Refused) {
        for (handle, refusal) in &refused.named {
            self.refuse(seq, *handle, refusal);
        }
        if refused.others > 0 {
            self.refuse(seq, 0, &Refusal::MoreRefused { others: refused.others });
        }
    }
}

/// Rows of one session that are written together.
#[derive(Default)]
struct Group<'a> {
    live: Option<Arc<Live>>,
    /// Each with its handle.
    rows: Vec<(usize, u32, &'a Attachment)>,
}

impl Group<'_> {
    /// Writes them; returns the frame that holds them, if there was one that was taken.
    fn flush(
        &mut self,
        server: &Server,
        rows: &Rows,
        refused: &mut Refused,
    ) -> Option<(Arc<Live>, Revision)> {
        let live = self.live.take()?;
        let of_session = self.rows.drain(..);
        let refuse = |handle, refusal: crate::engine::Refusal| {
            refused.add_with(handle, || rows.refusal(refusal.into()));
        };
        let value = |row, column| rows.value(row, column);
        let revision = server.engine.write_rows(&live, &rows.keys, of_session, value, refuse)?;
        Some((live, revision))
    }
}

/// What of a message was refused.
#[derive(Default)]
pub(super) struct Refused {
    named: Vec<(u32, Refusal)>,
    others: usize,
}

impl Refused {
    fn add(&mut self, handle: u32, refusal: Refusal) {
        self.add_with(handle, || refusal);
    }

    fn add_with(&mut self, handle: u32, refusal: impl FnOnce() -> Refusal) {
        match self.named.len() < REFUSALS {
            true => self.named.push((handle, refusal())),
            false => self.others += 1,
        }
    }
}
