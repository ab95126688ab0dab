//! One user of the load: its connection, what it sends, what comes to it.

use super::{
    Result,
    colyseus::Player,
    grpc::Connection,
    load::Plan,
    payload::{Payload, Walk},
    peer::Peer,
    receiver::{Receiver, Stream},
    service::{SESSION_ID, app},
    socket::{Drain, Socket},
    tally::Tally,
    update::{Template, user_id},
};
use crate::proto::{
    DeliveryOptions, JoinOptions, JoinSessionRequest, Presence, SessionSubscription, StreamOpen,
    StreamUserPropsRequest, SubscribeToSessionRequest, stream_user_props_request::Message as Up,
};
use bytes::Bytes;
use h2::SendStream;
use std::{cell::RefCell, collections::HashMap, convert::Infallible, rc::Rc, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{OnceCell, mpsc::UnboundedSender},
    task::spawn_local,
    time::Instant,
};

/// A room as its timed receivers know it.
#[derive(Debug)]
pub struct Room {
    /// Which one.
    pub number: usize,
    /// When the updates of each user who writes were sent, in their order.
    pub sent: RefCell<Vec<Vec<Instant>>>,
    /// At Colyseus: its id there, and the users by the numbers that they have there.
    pub at_peer: OnceCell<String>,
    pub objects: RefCell<HashMap<u64, usize>>,
}

impl Room {
    /// Room `number`.
    pub fn new(number: usize, plan: &Plan) -> Rc<Self> {
        Rc::new(Room {
            number,
            sent: RefCell::new(vec![Vec::new(); plan.writers]),
            at_peer: OnceCell::new(),
            objects: RefCell::default(),
        })
    }
}

/// A user who is in its room.
pub struct User {
    link: Link,
    room: Rc<Room>,
    number: usize,
    /// To how many others its updates go.
    others: u64,
    updates: u64,
    walk: Walk,
    tally: Arc<Tally>,
}

enum Link {
    /// Writes, and may receive.
    Writer { up: SendStream<Bytes>, template: Template, _connection: SharedConnection },
    /// Only receives.
    Listener { _connection: SharedConnection },
    /// At the floor.
    Floor { up: WriteHalf<Socket>, update: Bytes, writes: bool },
    /// At Colyseus.
    Colyseus(Player),
}

/// The connection of one user or more; opened by the first of them.
pub type SharedConnection = Rc<OnceCell<Connection>>;

/// What users share that one thread of the generator plays.
#[derive(Clone)]
pub struct Stage {
    pub plan: Rc<Plan>,
    pub peer: Peer,
    pub drain: Rc<Drain>,
    pub tally: Arc<Tally>,
    /// Where a receiver says how it failed.
    pub failures: UnboundedSender<super::Error>,
}

impl User {
    /// Connects and joins. A timed user is read at once, the others when they are drained.
    pub async fn join(
        stage: Stage,
        connection: SharedConnection,
        room: Rc<Room>,
        number: usize,
        timed: bool,
    ) -> Result<Self> {
        let walk = Walk::new(number);
        let tally = stage.tally.clone();
        let link = match stage.peer {
            Peer::Sessiond { ref place } => {
                let opened = connection.get_or_try_init(async || {
                    Connection::open(stage.connect(timed).await?, place).await
                });
                let mut calls = opened.await?.clone();
                if let Some(credentials) = &place.credentials {
                    let token = credentials.of_user(&app(room.number), &user_id(number))?;
                    calls = calls.presenting(token);
                }
                let streams = stage.open_streams(&calls, &room, number, timed).await?;
                match streams {
                    Some(up) => {
                        let Plan { props, payload, .. } = *stage.plan;
                        let template = write_template(props, payload);
                        Link::Writer { up, template, _connection: connection }
                    }
                    None => Link::Listener { _connection: connection },
                }
            }
            Peer::Floor { update_bytes, message_bytes, .. } => {
                let (down, mut up) = tokio::io::split(stage.connect(timed).await?);
                up.write_u32(u32::try_from(room.number)?).await?;
                stage.watch(receive_bytes(down, message_bytes, tally.clone()));
                let update = vec![0; update_bytes].into();
                Link::Floor { up, update, writes: stage.plan.writes(number) }
            }
            Peer::Colyseus { .. } => {
                Link::Colyseus(Player::join(&stage, &room, number, timed).await?)
            }
            Peer::Relay { .. } => return Err("a relay is for backends".into()),
        };
        let others = stage.plan.others(number);
        Ok(User { link, room, number, others, updates: 0, walk, tally })
    }

    /// Whether it has anything to send.
    pub fn writes(&self) -> bool {
        match self.link {
            Link::Writer { .. } | Link::Colyseus(_) => true,
            Link::Listener { .. } => false,
            Link::Floor { writes, .. } => writes,
        }
    }

    /// Sends the next update.
    pub async fn send_update(&mut self) -> Result<()> {
        let now = Instant::now();
        match &mut self.link {
            Link::Writer { up, template, .. } => {
                // The opening had seq 1.
                let update = template.update(self.updates + 2, self.updates, &mut self.walk)?;
                up.send_data(update, false)?;
                self.room.sent.borrow_mut()[self.number].push(now);
            }
            Link::Floor { up, update, .. } => up.write_all(update).await?,
            Link::Colyseus(player) => {
                player.send(self.updates).await?;
                self.room.sent.borrow_mut()[self.number].push(now);
            }
            Link::Listener { .. } => return Err("a user who only receives".into()),
        }
        self.updates += 1;
        let mut counts = self.tally.counts.lock();
        counts.updates += 1;
        counts.expected += self.others;
        counts.sends += 1;
        Ok(())
    }
}

impl Stage {
    /// A connection, read at once or when it is drained.
    pub async fn connect(&self, timed: bool) -> Result<Socket> {
        let drain = (!timed).then(|| self.drain.clone());
        Socket::connect(self.peer.place(), drain, self.tally.clone()).await
    }

    /// Lets a receiver run; how it fails ends the load.
    pub fn watch(&self, receiver: impl Future<Output = Result<Infallible>> + 'static) {
        let failures = self.failures.clone();
        spawn_local(async move {
            let Err(error) = receiver.await;
            let _ = failures.send(error);
        });
    }

    /// Joins and lets what comes be received; where the user writes, returns the way up.
    async fn open_streams(
        &self,
        connection: &Connection,
        room: &Rc<Room>,
        number: usize,
        timed: bool,
    ) -> Result<Option<SendStream<Bytes>>> {
        let plan = &self.plan;
        let (writes, listens) = (plan.writes(number), plan.listens(number));
        if writes && !listens {
            connection.unary("SessionService/JoinSession", &join(room, number)).await?;
        }
        let (stream, up, mut down) = if writes {
            let open = opening(room, number, plan);
            let method = "DeliveryService/StreamUserProps";
            let (up, down) = connection.call(method, &open, false).await?;
            (Stream::UserProps, Some(up), down)
        } else {
            let subscribe = subscription(room, number, plan);
            let method = "DeliveryService/SubscribeToSession";
            let (_, down) = connection.call(method, &subscribe, true).await?;
            (Stream::Subscription, None, down)
        };
        let first = down.message().await?;
        let mut receiver = Receiver::new(stream, room.clone(), number, self.tally.clone());
        if timed {
            receiver = receiver.timed();
        }
        receiver.start(first)?;
        self.watch(receiver.receive(down));
        Ok(up)
    }
}

fn write_template(props: usize, payload: Payload) -> Template {
    const WRITE: u32 = 3;
    Template::of_write(props, payload, Some(SESSION_ID)).in_field(WRITE, &[])
}

fn opening(room: &Room, number: usize, plan: &Plan) -> StreamUserPropsRequest {
    let subscription = SessionSubscription {
        session_id: SESSION_ID.to_owned(),
        join: Some(JoinOptions::default()),
        options: Some(options(plan)),
        ..SessionSubscription::default()
    };
    let open = StreamOpen {
        app: app(room.number),
        user_id: user_id(number),
        subscriptions: plan.listens(number).then_some(subscription).into_iter().collect(),
        ..StreamOpen::default()
    };
    StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) }
}

/// Users who only receive are spectators.
fn subscription(room: &Room, number: usize, plan: &Plan) -> SubscribeToSessionRequest {
    SubscribeToSessionRequest {
        app: app(room.number),
        user_id: user_id(number),
        session_id: SESSION_ID.to_owned(),
        join: Some(JoinOptions { spectator: true, ..JoinOptions::default() }),
        options: Some(options(plan)),
        ..SubscribeToSessionRequest::default()
    }
}

fn join(room: &Room, number: usize) -> JoinSessionRequest {
    let presence = Presence::Explicit.into();
    JoinSessionRequest {
        app: app(room.number),
        user_id: user_id(number),
        session_id: SESSION_ID.to_owned(),
        join: Some(JoinOptions { presence, ..JoinOptions::default() }),
        omit_snapshot: true,
        ..JoinSessionRequest::default()
    }
}

fn options(plan: &Plan) -> DeliveryOptions {
    let encoding = plan.encoding.on_the_wire().into();
    DeliveryOptions { encoding, ..DeliveryOptions::default() }
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
