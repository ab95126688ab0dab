//! A backend at a relay that passes bytes on: one connection, a channel for each room, on which every
//! update is published as a message of its own and comes back.

use super::{
    Result,
    load::Plan,
    payload::{Payload, Update, Walk},
    peer::Relay,
    service::app,
    socket::Socket,
    tally::Tally,
    user::Stage,
};
use bytes::{Buf, BytesMut};
use std::{cell::RefCell, convert::Infallible, rc::Rc, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::Instant,
};

/// What precedes the values of an update: the number of its user.
const USER_BYTES: usize = 2;
/// A reply to a command, and what else a relay says in one line, is no longer.
const LINE_BYTES_MAX: usize = 1 << 16;

/// A backend that has subscribed to its rooms.
pub struct Relayed {
    up: WriteHalf<Socket>,
    /// The commands that publish an update of each user, and where the updates are in them.
    commands: Vec<u8>,
    places: Vec<usize>,
    updates: u64,
    walk: Walk,
    plan: Rc<Plan>,
    sent: Rc<RefCell<Vec<Instant>>>,
    tally: Arc<Tally>,
}

impl Relayed {
    /// Connects and subscribes. It is always read at once.
    pub async fn join(stage: Stage, relay: Relay, number: usize) -> Result<Self> {
        let plan = stage.plan.clone();
        let socket = Socket::connect(stage.peer.address(), None, stage.tally.clone()).await?;
        let (mut down, mut up) = tokio::io::split(socket);
        let channel = app(number);
        relay.subscribe(&channel, &mut down, &mut up).await?;
        let (commands, places) = commands(relay, &channel, &plan);
        let sent = Rc::new(RefCell::new(Vec::new()));
        let first = plan.payload.of_prop(0);
        let reader = Reader::new(relay, &channel, first, update_bytes(&plan));
        stage.watch(receive(down, reader, sent.clone(), stage.tally.clone()));
        let walk = Walk::new(number);
        Ok(Relayed { up, commands, places, updates: 0, walk, plan, sent, tally: stage.tally })
    }

    /// Publishes the next update of every user, all of them with one write.
    pub async fn send_updates(&mut self) -> Result<()> {
        let mut value = Vec::new();
        for &place in &self.places {
            value.clear();
            for prop in 0..self.plan.props {
                let update = Update { number: self.updates, rest: self.walk.step() };
                self.plan.payload.of_prop(prop).write(&mut value, update);
            }
            self.commands[place + USER_BYTES..][..value.len()].copy_from_slice(&value);
        }
        self.sent.borrow_mut().push(Instant::now());
        self.up.write_all(&self.commands).await?;
        self.updates += 1;
        let users = self.places.len() as u64;
        let mut counts = self.tally.counts.lock();
        counts.updates += users;
        counts.expected += users;
        counts.sends += 1;
        Ok(())
    }
}

fn update_bytes(plan: &Plan) -> usize {
    let values = (0..plan.props).map(|prop| plan.payload.of_prop(prop).bytes());
    USER_BYTES + values.sum::<usize>()
}

fn commands(relay: Relay, channel: &str, plan: &Plan) -> (Vec<u8>, Vec<usize>) {
    let bytes = update_bytes(plan);
    let (before, after) = relay.publishing(channel, bytes);
    let mut commands = Vec::new();
    let mut places = Vec::new();
    for user in 0..plan.rooms_per_backend * plan.users {
        commands.extend(before.as_bytes());
        places.push(commands.len());
        commands.extend((user as u16).to_le_bytes());
        commands.resize(commands.len() + bytes - USER_BYTES, 0);
        commands.extend(after.as_bytes());
    }
    (commands, places)
}

impl Relay {
    /// What stands before and after the bytes of a message that is published.
    fn publishing(self, channel: &str, bytes: usize) -> (String, &'static str) {
        let length = channel.len();
        let before = match self {
            Relay::Redis => {
                format!("*3\r\n$7\r\nPUBLISH\r\n${length}\r\n{channel}\r\n${bytes}\r\n")
            }
            Relay::Nats => format!("PUB {channel} {bytes}\r\n"),
        };
        (before, "\r\n")
    }

    /// What stands before the bytes of a message that comes.
    fn delivering(self, channel: &str, bytes: usize) -> String {
        let length = channel.len();
        match self {
            Relay::Redis => {
                format!(">3\r\n$7\r\nmessage\r\n${length}\r\n{channel}\r\n${bytes}\r\n")
            }
            Relay::Nats => format!("MSG {channel} 1 {bytes}\r\n"),
        }
    }

    /// Subscribes and waits until that is done.
    async fn subscribe(
        self,
        channel: &str,
        down: &mut ReadHalf<Socket>,
        up: &mut WriteHalf<Socket>,
    ) -> Result<()> {
        let (command, done) = match self {
            // With version 3 of its protocol, a connection may publish beside its subscriptions.
            Relay::Redis => (
                format!("HELLO 3\r\nSUBSCRIBE {channel}\r\n"),
                format!("subscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len()),
            ),
            Relay::Nats => {
                let options = r#"{"verbose":false,"pedantic":false,"tls_required":false}"#;
                (format!("CONNECT {options}\r\nSUB {channel} 1\r\nPING\r\n"), "PONG\r\n".into())
            }
        };
        up.write_all(command.as_bytes()).await?;
        let mut answer = BytesMut::new();
        while !answer.ends_with(done.as_bytes()) {
            if answer.len() > LINE_BYTES_MAX || down.read_buf(&mut answer).await? == 0 {
                return Err(format!("{self:?}: {}", String::from_utf8_lossy(&answer)).into());
            }
        }
        Ok(())
    }
}

/// Cuts what comes into messages.
struct Reader {
    before: String,
    /// What the first value is, and how many bytes there are with all of them.
    first: Payload,
    bytes: usize,
}

impl Reader {
    fn new(relay: Relay, channel: &str, first: Payload, bytes: usize) -> Self {
        Reader { before: relay.delivering(channel, bytes), first, bytes }
    }

    /// Takes one whole message or line out of the buffer, if there is one; of a message, the number of
    /// the update.
    fn next(&self, buffer: &mut BytesMut) -> Result<Option<Option<usize>>> {
        let before = self.before.as_bytes();
        let whole = before.len() + self.bytes + 2;
        if buffer.starts_with(before) {
            if buffer.len() < whole {
                return Ok(None);
            }
            let values = &buffer[before.len() + USER_BYTES..];
            let x = match self.first {
                Payload::Floats => values.first_chunk().map(|x| f32::from_le_bytes(*x) as usize),
                _ => values.first_chunk().map(|x| f64::from_le_bytes(*x) as usize),
            };
            buffer.advance(whole);
            return x.map(|x| Some(Some(x))).ok_or_else(|| "an update without a number".into());
        }
        if before.starts_with(buffer) {
            return Ok(None);
        }
        // Redis says to each who publishes how many have got it.
        let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        if !matches!(buffer[0], b':' | b'P' | b'+') {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            return Err(format!("a relay says {line}").into());
        }
        buffer.advance(end + 2);
        Ok(Some(None))
    }
}

async fn receive(
    mut down: ReadHalf<Socket>,
    reader: Reader,
    sent: Rc<RefCell<Vec<Instant>>>,
    tally: Arc<Tally>,
) -> Result<Infallible> {
    let mut buffer = BytesMut::with_capacity(1 << 16);
    loop {
        if down.read_buf(&mut buffer).await? == 0 {
            return Err("a relay closed a connection".into());
        }
        let now = Instant::now();
        let mut arrived = 0;
        while let Some(next) = reader.next(&mut buffer)? {
            let Some(number) = next else { continue };
            let sent = *sent.borrow().get(number).ok_or("an update that was never sent")?;
            tally.arrived_after(now - sent);
            arrived += 1;
        }
        let mut counts = tally.counts.lock();
        counts.messages += arrived;
        counts.message_bytes += arrived * reader.bytes as u64;
        counts.deliveries += arrived;
        counts.timed += arrived;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(relay: Relay, number: f64) -> Vec<u8> {
        let mut message = relay.delivering("room", 18).into_bytes();
        message.extend([7, 0]);
        message.extend(number.to_le_bytes());
        message.extend([0; 8]);
        message.extend(b"\r\n");
        message
    }

    #[test]
    fn messages_are_told_from_replies() {
        for (relay, reply) in [(Relay::Redis, ":1\r\n"), (Relay::Nats, "PONG\r\n")] {
            let reader = Reader::new(relay, "room", Payload::Numbers, 18);
            let stream = [&message(relay, 5.25), reply.as_bytes(), &message(relay, 6.5)].concat();
            for cut in 0..stream.len() {
                let mut buffer = BytesMut::new();
                let mut found = Vec::new();
                for part in [&stream[..cut], &stream[cut..]] {
                    buffer.extend_from_slice(part);
                    while let Some(next) = reader.next(&mut buffer).unwrap() {
                        found.push(next);
                    }
                }
                assert_eq!(found, [Some(5), None, Some(6)], "{relay:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_error_is_no_message() {
        let mut buffer = BytesMut::from("-ERR no\r\n");
        assert!(Reader::new(Relay::Redis, "room", Payload::Numbers, 18).next(&mut buffer).is_err());
    }
}
