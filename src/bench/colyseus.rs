//! A user at Colyseus: its WebSocket, what it sends, what comes to it. Only as much of the protocol as
//! bench/peers/colyseus/server.mjs speaks.

use super::{
    Result,
    payload::{Update, Walk},
    socket::Socket,
    tally::Tally,
    user::{Room, Stage},
};
use bytes::{Buf, BytesMut};
use serde_json::{Value, json};
use std::{convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::Instant,
};

/// First bytes of messages.
const JOIN_ROOM: u8 = 10;
const ROOM_DATA: u8 = 13;
const ROOM_STATE: u8 = 14;
const ROOM_STATE_PATCH: u8 = 15;

/// The kind of the WebSocket frames that messages come in.
const BINARY: u8 = 2;

/// In a patch: what follows is of another object. Then the fields that changed.
const OBJECT: u8 = 0xff;
const X: u8 = 0x80;
const Y: u8 = 0x81;

/// A head of HTTP is no longer.
const HEAD_BYTES_MAX: usize = 1 << 16;

/// A user who is in its room, and its way up.
pub struct Player {
    up: WriteHalf<Socket>,
    /// A message with a place for x and y.
    message: Vec<u8>,
    walk: Walk,
}

impl Player {
    /// Joins and lets what comes be received. The first user makes the room.
    pub async fn join(stage: &Stage, room: &Rc<Room>, number: usize, timed: bool) -> Result<Self> {
        let address = stage.peer.address();
        let room_id = room.at_peer.get_or_try_init(async || {
            let seat = reserve(address, "create/place", &json!({"room": room.number})).await?;
            text(&seat, "roomId")
        });
        let path = format!("joinById/{}", room_id.await?);
        let seat = reserve(address, &path, &json!({})).await?;
        let (process_id, room_id) = (text(&seat, "processId")?, text(&seat, "roomId")?);
        let session_id = text(&seat, "sessionId")?;

        let (mut down, mut up) = tokio::io::split(stage.connect(timed).await?);
        let head = format!(
            "GET /{process_id}/{room_id}?sessionId={session_id} HTTP/1.1\r\nhost: {address}\r\n\
             connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        up.write_all(head.as_bytes()).await?;
        let mut buffer = upgraded(&mut down).await?;
        // The state comes after the client has said that it has understood the welcome.
        next_message(&mut down, &mut buffer, JOIN_ROOM).await?;
        up.write_all(&frame(BINARY, &[JOIN_ROOM])).await?;
        let state = next_message(&mut down, &mut buffer, ROOM_STATE).await?;
        let own = object_of(&state, &session_id).ok_or("a state without its own player")?;
        room.objects.borrow_mut().insert(own, number);

        let receiver = Receiver {
            down,
            buffer,
            own,
            room: room.clone(),
            seen: timed.then(|| vec![0; room.sent.borrow().len()]),
            tally: stage.tally.clone(),
        };
        stage.watch(receiver.receive());
        Ok(Player { up, message: frame(BINARY, &message(0.0, 0.0)), walk: Walk::new(number) })
    }

    /// Sends update `number`.
    pub async fn send(&mut self, number: u64) -> Result<()> {
        let mut value = || Update { number, rest: self.walk.step() }.as_number();
        let message = message(value(), value());
        let at = self.message.len() - message.len();
        self.message[at..].copy_from_slice(&message);
        Ok(self.up.write_all(&self.message).await?)
    }
}

/// A message of type 0 with {x, y}, as msgpack has it.
fn message(x: f64, y: f64) -> Vec<u8> {
    const MAP_OF_TWO: u8 = 0x82;
    const NAME_OF_ONE: u8 = 0xa1;
    const DOUBLE: u8 = 0xcb;
    let mut message = vec![ROOM_DATA, 0, MAP_OF_TWO];
    for (name, value) in [(b'x', x), (b'y', y)] {
        message.extend([NAME_OF_ONE, name, DOUBLE]);
        message.extend(value.to_be_bytes());
    }
    message
}

/// A short frame as clients send it, masked with zeros, which leave it as it is.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    const LAST: u8 = 0x80;
    const MASKED: u8 = 0x80;
    let mut frame = vec![LAST | kind, MASKED | content.len() as u8, 0, 0, 0, 0];
    frame.extend(content);
    frame
}

/// Takes a frame out of the buffer, if there is a whole one.
fn unframed(buffer: &mut BytesMut) -> Option<(u8, BytesMut)> {
    let (&[kind, short], rest) = buffer.split_first_chunk()?;
    let (head, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    };
    if buffer.len() - head < length {
        return None;
    }
    buffer.advance(head);
    Some((kind & 15, buffer.split_to(length)))
}

/// Asks for a seat.
async fn reserve(address: SocketAddr, method: &str, options: &Value) -> Result<Value> {
    let options = options.to_string();
    let length = options.len();
    let request = format!(
        "POST /matchmake/{method} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{options}"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let refused = || format!("no seat: {answer}");
    let (start, end) = answer.find('{').zip(answer.rfind('}')).ok_or_else(refused)?;
    Ok(serde_json::from_str(&answer[start..=end])?)
}

fn text(seat: &Value, field: &str) -> Result<String> {
    let text = seat[field].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("no seat: {seat}").into())
}

/// Reads the head of the answer; returns what came after it.
async fn upgraded(down: &mut ReadHalf<Socket>) -> Result<BytesMut> {
    const END: &[u8] = b"\r\n\r\n";
    let mut buffer = BytesMut::new();
    loop {
        if let Some(end) = buffer.windows(END.len()).position(|it| it == END) {
            if !buffer.starts_with(b"HTTP/1.1 101") {
                return Err(String::from_utf8_lossy(&buffer).into_owned().into());
            }
            buffer.advance(end + END.len());
            return Ok(buffer);
        }
        if buffer.len() > HEAD_BYTES_MAX || down.read_buf(&mut buffer).await? == 0 {
            return Err("no answer to the upgrade".into());
        }
    }
}

/// The next message, which must be of this kind.
async fn next_message(
    down: &mut ReadHalf<Socket>,
    buffer: &mut BytesMut,
    wanted: u8,
) -> Result<BytesMut> {
    loop {
        match unframed(buffer) {
            Some((BINARY, message)) if message.first() == Some(&wanted) => return Ok(message),
            Some((BINARY, message)) => {
                return Err(format!("an unexpected message: {message:?}").into());
            }
            Some(_) => {}
            None if down.read_buf(buffer).await? == 0 => return Err("the connection ended".into()),
            None => {}
        }
    }
}

/// The object of a player: its number follows its name.
fn object_of(state: &[u8], session_id: &str) -> Option<u64> {
    let name = session_id.as_bytes();
    let at = state.windows(name.len()).position(|it| it == name)?;
    number(&mut &state[at + name.len()..])
}

/// A number as Colyseus writes it: a small one is itself.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let length = match first {
        0..0x80 => 0,
        0xcc => 1,
        0xcd => 2,
        0xce => 4,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    let little_endian = value.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Some(if length == 0 { u64::from(first) } else { little_endian })
}

/// The players in a patch, each with its x; none where something else than x and y changed.
fn players(mut patch: &[u8]) -> Option<Vec<(u64, f64)>> {
    let mut players = Vec::new();
    while let Some((&OBJECT, rest)) = patch.split_first() {
        patch = rest;
        let object = number(&mut patch)?;
        while let Some((&field @ (X | Y), rest)) = patch.split_first() {
            let (value, rest) = rest.split_first_chunk()?;
            patch = rest;
            if field == X {
                players.push((object, f64::from_le_bytes(*value)));
            }
        }
    }
    patch.is_empty().then_some(players)
}

/// Counts what comes to one user.
struct Receiver {
    down: ReadHalf<Socket>,
    buffer: BytesMut,
    own: u64,
    room: Rc<Room>,
    /// Where arrivals are timed: per user, how many updates were sent up to the last that arrived.
    seen: Option<Vec<usize>>,
    tally: Arc<Tally>,
}

impl Receiver {
    async fn receive(mut self) -> Result<Infallible> {
        loop {
            while let Some((kind, message)) = unframed(&mut self.buffer) {
                match (kind, message.split_first()) {
                    (BINARY, Some((&ROOM_STATE_PATCH, patch))) => self.take(patch)?,
                    (BINARY, _) => {}
                    _ => {
                        let why = String::from_utf8_lossy(message.get(2..).unwrap_or_default());
                        return Err(format!("Colyseus sent a frame of kind {kind}: {why}").into());
                    }
                }
            }
            if self.down.read_buf(&mut self.buffer).await? == 0 {
                return Err("Colyseus closed a connection".into());
            }
        }
    }

    fn take(&mut self, patch: &[u8]) -> Result<()> {
        let now = Instant::now();
        // While others join, patches have more in them; nothing is sent yet.
        let players = players(patch).unwrap_or_default();
        let mut counts = self.tally.counts.lock();
        counts.messages += 1;
        counts.message_bytes += patch.len() as u64 + 1;
        let others = players.iter().filter(|(object, _)| *object != self.own);
        counts.deliveries += others.clone().count() as u64;
        let Some(seen) = &mut self.seen else { return Ok(()) };
        let (sent, objects) = (self.room.sent.borrow(), self.room.objects.borrow());
        for (object, x) in others {
            let user = *objects.get(object).ok_or("a stranger is in the room")?;
            let update = *x as usize;
            let sent = sent[user].get(update).ok_or("an update that was never sent")?;
            self.tally.arrived_after(now - *sent);
            counts.timed += 1;
            counts.merged += update.saturating_sub(seen[user]) as u64;
            seen[user] = update + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_the_players_that_moved() {
        let mut patch = Vec::new();
        for (object, x) in [(&[2][..], 1.5), (&[0xcc, 200][..], 3.25)] {
            patch.push(OBJECT);
            patch.extend(object);
            patch.push(X);
            patch.extend(f64::to_le_bytes(x));
            patch.push(Y);
            patch.extend(f64::to_le_bytes(9.0));
        }
        assert_eq!(players(&patch), Some(vec![(2, 1.5), (200, 3.25)]));
        patch.push(7);
        assert_eq!(players(&patch), None);
    }

    #[test]
    fn frames_of_all_lengths_are_cut() {
        let mut buffer = BytesMut::new();
        buffer.extend([0x82, 1, 7, 0x82, 126, 0, 3, 1, 2, 3, 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 9]);
        buffer.extend([0x89, 2, 5]);
        let mut next = || unframed(&mut buffer).map(|(kind, content)| (kind, content.to_vec()));
        assert_eq!(next(), Some((BINARY, vec![7])));
        assert_eq!(next(), Some((BINARY, vec![1, 2, 3])));
        assert_eq!(next(), Some((BINARY, vec![9])));
        assert_eq!(next(), None);
    }

    #[test]
    fn the_object_of_a_player_follows_its_name() {
        assert_eq!(object_of(b"\x80\x01\xa3ann\x02\x80\x02\xa3bob\xcc\xc8", "bob"), Some(200));
        assert_eq!(object_of(b"\x80\x01\xa3ann\x02", "bob"), None);
    }
}
