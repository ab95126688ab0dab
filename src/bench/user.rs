//! One user of the load: its connection, what it sends, what comes to it.

use super::{
    Result,
    grpc::{Connection, Responses},
    load::Peer,
    service::{SESSION_ID, app},
    socket::{Drain, Socket},
    tally::Tally,
    update::{Arrivals, Template, user_id, user_number},
};
use crate::proto::{
    JoinOptions, MemberChange, SessionSubscription, StreamOpen, StreamUserPropsRequest,
    StreamUserPropsResponse, named_value::Kind, session_update::Body,
    stream_user_props_request::Message as Up,
};
use bytes::Bytes;
use h2::SendStream;
use prost::Message;
use std::{cell::RefCell, convert::Infallible, rc::Rc, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc::UnboundedSender,
    task::spawn_local,
    time::Instant,
};

/// A room as its timed receivers know it.
#[derive(Debug)]
pub struct Room {
    number: usize,
    /// When each user's updates were sent, in their order.
    sent: RefCell<Vec<Vec<Instant>>>,
}

impl Room {
    /// Room `number`, with so many users.
    pub fn new(number: usize, users: usize) -> Rc<Self> {
        Rc::new(Room { number, sent: RefCell::new(vec![Vec::new(); users]) })
    }
}

/// A user who is in its room.
pub struct User {
    link: Link,
    room: Rc<Room>,
    number: usize,
    updates: u64,
    walk: Walk,
    tally: Arc<Tally>,
}

enum Link {
    Sessiond { up: SendStream<Bytes>, template: Template, _connection: Connection },
    Floor { up: WriteHalf<Socket>, update: Bytes },
}

/// What users share that one thread of the generator plays.
#[derive(Clone)]
pub struct Stage {
    pub peer: Peer,
    pub drain: Rc<Drain>,
    pub tally: Arc<Tally>,
    /// Where a receiver says how it failed.
    pub failures: UnboundedSender<super::Error>,
}

impl User {
    /// Connects and joins. A timed user is read at once, the others when they are drained.
    pub async fn join(stage: Stage, room: Rc<Room>, number: usize, timed: bool) -> Result<Self> {
        let Stage { peer, drain, tally, failures } = stage;
        let drain = (!timed).then_some(drain);
        let socket = Socket::connect(peer.address(), drain, tally.clone()).await?;
        let link = match peer {
            Peer::Sessiond { address } => {
                let connection = Connection::open(socket, address).await?;
                let method = "DeliveryService/StreamUserProps";
                let (up, mut down) =
                    connection.call(method, &opening(&room, number), false).await?;
                let snapshot = StreamUserPropsResponse::decode(down.message().await?)?;
                let receiver = Receiver::new(room.clone(), number, &snapshot, tally.clone());
                spawn_local(async move {
                    let Err(error) = receiver.receive(down, timed).await;
                    let _ = failures.send(error);
                });
                Link::Sessiond { up, template: Template::new(SESSION_ID)?, _connection: connection }
            }
            Peer::Floor { update_bytes, message_bytes, .. } => {
                let (down, mut up) = tokio::io::split(socket);
                up.write_u32(u32::try_from(room.number)?).await?;
                let tally = tally.clone();
                spawn_local(async move {
                    let Err(error) = receive_bytes(down, message_bytes, tally).await;
                    let _ = failures.send(error);
                });
                Link::Floor { up, update: vec![0; update_bytes].into() }
            }
        };
        Ok(User { link, room, number, updates: 0, walk: Walk(number as u64), tally })
    }

    /// Sends the next update.
    pub async fn send_update(&mut self) -> Result<()> {
        // The whole part of x tells receivers which update it is.
        let x = self.updates as f64 + self.walk.step();
        let y = 100.0 * self.walk.step();
        let now = Instant::now();
        match &mut self.link {
            Link::Sessiond { up, template, .. } => {
                // The opening had seq 1.
                up.send_data(template.update(self.updates + 2, x, y)?, false)?;
                self.room.sent.borrow_mut()[self.number].push(now);
            }
            Link::Floor { up, update } => up.write_all(update).await?,
        }
        self.updates += 1;
        self.tally.counts.lock().updates += 1;
        Ok(())
    }
}

fn opening(room: &Room, number: usize) -> StreamUserPropsRequest {
    let subscription = SessionSubscription {
        session_id: SESSION_ID.to_owned(),
        join: Some(JoinOptions::default()),
        ..SessionSubscription::default()
    };
    let open = StreamOpen {
        app: app(room.number),
        user_id: user_id(number),
        subscriptions: vec![subscription],
        ..StreamOpen::default()
    };
    StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) }
}

/// A walk in steps from 0 to 1, the same in every run.
#[derive(Debug)]
struct Walk(u64);

impl Walk {
    fn step(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// Counts what comes to one user.
struct Receiver {
    room: Rc<Room>,
    user_id: String,
    /// Up to where the session is known.
    revision: u64,
    /// Per user, how many updates were sent up to the last one that arrived.
    seen: Vec<usize>,
    tally: Arc<Tally>,
}

impl Receiver {
    fn new(
        room: Rc<Room>,
        number: usize,
        snapshot: &StreamUserPropsResponse,
        tally: Arc<Tally>,
    ) -> Self {
        let update = snapshot.updates.first().and_then(|delivery| delivery.update.as_ref());
        let revision = update.map_or(0, |update| update.to_revision);
        let seen = vec![0; room.sent.borrow().len()];
        Receiver { room, user_id: user_id(number), revision, seen, tally }
    }

    async fn receive(mut self, mut down: Responses, timed: bool) -> Result<Infallible> {
        loop {
            let message = down.message().await?;
            let now = Instant::now();
            let arrivals = Arrivals::of(&message, &self.user_id)?;
            if arrivals.refusals > 0 {
                let response = StreamUserPropsResponse::decode(message)?;
                return Err(format!("a write was refused: {:?}", response.refusals).into());
            }
            {
                let mut counts = self.tally.counts.lock();
                counts.messages += 1;
                counts.message_bytes += message.len() as u64;
                counts.deliveries += arrivals.others;
            }
            if timed {
                self.time(message, now)?;
            }
        }
    }

    /// Finds for each update how long it took.
    fn time(&mut self, message: Bytes, now: Instant) -> Result<()> {
        let response = StreamUserPropsResponse::decode(message)?;
        let sent = self.room.sent.borrow();
        for update in response.updates.into_iter().filter_map(|delivery| delivery.update) {
            if update.from_revision > self.revision {
                return Err("a message was lost: from_revision is past the last one".into());
            }
            self.revision = update.to_revision;
            let Some(Body::Changes(changes)) = update.body else { continue };
            for member in changes.members.iter().filter(|member| member.user_id != self.user_id) {
                let Some(update) = update_number(member) else { continue };
                let user = user_number(&member.user_id).ok_or("a stranger is in the room")?;
                let seen = self.seen.get_mut(user).ok_or("a stranger is in the room")?;
                let sent = sent[user].get(update).ok_or("an update that was never sent")?;
                self.tally.arrived_after(now - *sent);
                let mut counts = self.tally.counts.lock();
                counts.timed += 1;
                counts.merged += update.saturating_sub(*seen) as u64;
                *seen = update + 1;
            }
        }
        Ok(())
    }
}

/// Which of the member's updates this shows; none if it shows none.
fn update_number(member: &MemberChange) -> Option<usize> {
    let x = member.props.iter().find(|prop| prop.name == "x")?;
    match x.kind {
        Some(Kind::Number(x)) => Some(x as usize),
        _ => None,
    }
}

async fn receive_bytes(
    mut down: ReadHalf<Socket>,
    message_bytes: usize,
    tally: Arc<Tally>,
) -> Result<Infallible> {
    let mut buffer = vec![0; 16 << 10];
    let mut received = 0;
    loop {
        let bytes = down.read(&mut buffer).await?;
        if bytes == 0 {
            return Err("the floor closed a connection".into());
        }
        received += bytes;
        tally.counts.lock().messages += (received / message_bytes) as u64;
        received %= message_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stay_below_one_and_differ() {
        let mut walk = Walk(7);
        let steps: Vec<f64> = (0..1_000).map(|_| walk.step()).collect();
        assert!(steps.iter().all(|step| (0.0..1.0).contains(step)));
        assert!(steps.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn x_names_the_update() {
        let x = |kind| MemberChange {
            props: vec![crate::proto::NamedValue { name: "x".into(), kind: Some(kind) }],
            ..Default::default()
        };
        assert_eq!(update_number(&x(Kind::Number(12.75))), Some(12));
        assert_eq!(update_number(&x(Kind::Flag(true))), None);
        assert_eq!(update_number(&MemberChange::default()), None);
    }
}
