//! The updates that a backend sends for all of its users at once, encoded once and filled in for each
//! sending.

use super::{
    Result,
    grpc::framed,
    payload::{Payload, Update, Walk, prop_name},
    update::Template,
    wire::{SEQ, block, column, put_bytes, put_number},
};
use crate::proto::{Dictionary, DictionaryEntry};
use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use std::ops::Range;

/// A message is not larger, so that it stays under the server's limit.
const MESSAGE_BYTES: usize = 900_000;

/// Field numbers of `GatewayRequest`.
mod request {
    pub const DICTIONARY: u32 = 5;
    pub const BLOCKS: u32 = 6;
    pub const WRITES: u32 = 7;
}

/// Field numbers of `HandleWrite`.
mod handle_write {
    pub const HANDLE: u32 = 1;
    pub const WRITE: u32 = 2;
}

/// One message, with an update of each of some users.
#[derive(Debug)]
pub enum Batch {
    /// A block of columns.
    Columns(Columns),
    /// Writes by name.
    Named(Template),
}

impl Batch {
    /// Of the users with these handles, in columns.
    pub fn in_columns(props: usize, payload: Payload, handles: Range<usize>) -> Vec<Self> {
        let row: usize = (0..props).map(|prop| payload.of_prop(prop).bytes() + 4).sum();
        parts(handles, row)
            .map(|(from, count)| Batch::Columns(Columns::new(props, payload, from, count)))
            .collect()
    }

    /// The same by name.
    pub fn by_name(props: usize, payload: Payload, handles: Range<usize>) -> Vec<Self> {
        let write = Template::of_write(props, payload, None);
        let row = write.bytes() + 16;
        let named = |(from, count): (usize, usize)| {
            Batch::Named(Template::joined((from..from + count).map(|handle| {
                let mut before = Vec::new();
                put_number(handle_write::HANDLE, handle as u64, &mut before);
                write.clone().in_field(handle_write::WRITE, &before).in_field(request::WRITES, &[])
            })))
        };
        parts(handles, row).map(named).collect()
    }

    /// The message with this `seq` and the values of update `number`.
    pub fn message(&mut self, seq: u64, number: u64, walk: &mut Walk) -> Result<Bytes> {
        match self {
            Batch::Columns(columns) => columns.message(seq, number, walk),
            Batch::Named(template) => template.update(seq, number, walk),
        }
    }
}

/// Which handles go into each message, from where and how many, if each takes so many bytes.
fn parts(handles: Range<usize>, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = (MESSAGE_BYTES / bytes).max(1);
    let end = handles.end;
    handles.step_by(most).map(move |from| (from, most.min(end - from)))
}

/// A block of users whose handles follow one another.
#[derive(Debug)]
pub struct Columns {
    /// Names, which are said in the first message only.
    dictionary: Option<Vec<u8>>,
    message: Vec<u8>,
    columns: Vec<Column>,
    users: usize,
}

#[derive(Debug)]
struct Column {
    /// Where the first value is, and how far the next one is from there.
    first: usize,
    stride: usize,
    payload: Payload,
}

impl Columns {
    fn new(props: usize, payload: Payload, from: usize, users: usize) -> Self {
        let names = (0..props)
            .map(|prop| DictionaryEntry { number: prop as u64, name: prop_name(prop) })
            .collect();
        let names = Dictionary { props: names };
        let mut dictionary = Vec::new();
        put_bytes(request::DICTIONARY, &names.encode_to_vec(), &mut dictionary);

        let mut runs = Vec::new();
        encode_varint(from as u64, &mut runs);
        encode_varint(users as u64, &mut runs);
        let mut content = Vec::new();
        put_bytes(block::RUNS, &runs, &mut content);
        let mut columns = Vec::new();
        for prop in 0..props {
            let payload = payload.of_prop(prop);
            let (cells, first, stride) = cells(payload, users);
            let mut column = Vec::new();
            put_number(column::PROP, prop as u64, &mut column);
            let before = column.len();
            column.extend(cells);
            put_bytes(block::COLUMNS, &column, &mut content);
            let first = content.len() - column.len() + before + first;
            columns.push(Column { first, stride, payload });
        }
        let mut message = Vec::new();
        put_bytes(request::BLOCKS, &content, &mut message);
        let shift = message.len() - content.len();
        for column in &mut columns {
            column.first += shift;
        }
        Columns { dictionary: Some(dictionary), message, columns, users }
    }

    fn message(&mut self, seq: u64, number: u64, walk: &mut Walk) -> Result<Bytes> {
        let mut value = Vec::new();
        for Column { first, stride, payload } in &self.columns {
            let cells = self.message[*first..].chunks_mut(*stride).take(self.users);
            for cell in cells {
                let update = Update { number, rest: walk.step() };
                // The usual kind, of which there may be millions a second.
                if let Payload::Numbers = payload {
                    cell[..8].copy_from_slice(&update.as_number().to_le_bytes());
                    continue;
                }
                value.clear();
                payload.write(&mut value, update);
                cell[..value.len()].copy_from_slice(&value);
            }
        }
        let dictionary = self.dictionary.take().unwrap_or_default();
        framed(self.message.len() + dictionary.len() + 11, |buffer| {
            encode_key(SEQ, WireType::Varint, buffer);
            encode_varint(seq, buffer);
            buffer.put_slice(&dictionary);
            buffer.put_slice(&self.message);
            Ok(())
        })
    }
}

/// The array of a column; where its first value is, and how far each is from the next.
fn cells(payload: Payload, users: usize) -> (Vec<u8>, usize, usize) {
    let value = vec![b'a'; payload.bytes()];
    let mut cells = Vec::new();
    match payload {
        Payload::Numbers | Payload::Floats | Payload::Integers => {
            let field = match payload {
                Payload::Numbers => column::NUMBERS,
                Payload::Floats => column::FLOATS,
                _ => column::INTEGERS,
            };
            put_bytes(field, &value.repeat(users), &mut cells);
            let first = cells.len() - users * value.len();
            (cells, first, value.len())
        }
        Payload::Text(_) | Payload::Data(_) => {
            let mut cell = Vec::new();
            match payload {
                Payload::Text(_) => put_bytes(column::TEXTS, &value, &mut cell),
                _ => put_bytes(column::VALUES, &payload.sample().encode_to_vec(), &mut cell),
            }
            (cell.repeat(users), cell.len() - value.len(), cell.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GatewayRequest, value};

    const KINDS: [Payload; 5] = [
        Payload::Numbers,
        Payload::Floats,
        Payload::Integers,
        Payload::Text(40),
        Payload::Data(300),
    ];

    fn request(batch: &mut Batch, number: u64) -> GatewayRequest {
        let message = batch.message(7, number, &mut Walk::new(1)).expect("a message");
        GatewayRequest::decode(&message[5..]).expect("a request")
    }

    #[test]
    fn columns_say_what_they_were_filled_with() {
        for kind in KINDS {
            let mut batches = Batch::in_columns(3, kind, 1..201);
            let [batch] = &mut batches[..] else { panic!("one message") };
            let first = request(batch, 4);
            assert_eq!(first.dictionary.expect("names").props[1].name, "y");
            let second = request(batch, 5);
            assert_eq!((second.seq, second.dictionary), (7, None));
            let [block] = &second.blocks[..] else { panic!("one block") };
            assert_eq!((&block.runs[..], block.columns.len()), (&[1, 200][..], 3));
            let x = &block.columns[0];
            let numbers = x.numbers.iter().copied().chain(x.floats.iter().copied().map(f64::from));
            assert!(numbers.clone().all(|x| x as u64 == 5), "{kind:?}");
            assert_eq!(numbers.count(), 200);
            let y = &block.columns[1];
            let lengths =
                [y.numbers.len(), y.floats.len(), y.integers.len(), y.texts.len(), y.values.len()];
            assert_eq!(lengths.iter().sum::<usize>(), 200, "{kind:?}");
            for value in &y.values {
                let Some(value::Kind::Data(data)) = &value.kind else { panic!("data") };
                assert_eq!(data.len(), 300);
            }
        }
    }

    #[test]
    fn by_name_each_user_has_a_write() {
        let mut batches = Batch::by_name(2, Payload::Numbers, 1..301);
        let [batch] = &mut batches[..] else { panic!("one message") };
        let request = request(batch, 9);
        let handles: Vec<u32> = request.writes.iter().map(|write| write.handle).collect();
        assert_eq!(handles, (1..=300).collect::<Vec<_>>());
        for write in request.writes {
            let set = write.write.expect("a write").set;
            let Some(value::Kind::Number(x)) = set["x"].kind else { panic!("a number") };
            assert_eq!((x as u64, set.len()), (9, 2));
        }
    }

    #[test]
    fn many_users_take_several_messages_below_the_limit() {
        for mut batches in [
            Batch::in_columns(10, Payload::Numbers, 1..20_001),
            Batch::by_name(10, Payload::Numbers, 1..20_001),
        ] {
            assert!(batches.len() > 1);
            let mut users = 0;
            for batch in &mut batches {
                let request = request(batch, 1);
                assert!(request.encoded_len() < 1 << 20);
                let in_blocks: u64 = request.blocks.iter().map(|block| block.runs[1]).sum();
                users += in_blocks as usize + request.writes.len();
            }
            assert_eq!(users, 20_000);
        }
    }
}
