//! One backend of the load: a Gateway stream, what its users send over it, what comes to it.

use super::{
    PATIENCE, Result,
    args::Encoding,
    batch::Batch,
    grpc::{Connection, Responses, framed},
    load::Plan,
    payload::Walk,
    service::app,
    socket::Socket,
    tally::Tally,
    update::user_id,
    user::Stage,
    view::Views,
};
use crate::proto::{
    Attach, DeliveryOptions, GatewayHello, GatewayRequest, GatewayResponse, JoinOptions,
    ViewSubscription,
};
use bytes::Bytes;
use h2::SendStream;
use prost::Message;
use std::{cell::RefCell, convert::Infallible, ops::Range, rc::Rc, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// Users that one message attaches: it stays under the server's limit for messages.
const ATTACHED_AT_ONCE: usize = 4_000;

/// The server allows no longer silence.
const SILENCE_MAX: Duration = Duration::from_secs(60 * 60);

/// A backend whose users are attached, and which receives what they see.
pub struct Backend {
    up: SendStream<Bytes>,
    /// Users take turns, a tick each: the messages of each turn, and how many users are in them.
    turns: Vec<(Vec<Batch>, usize)>,
    seq: u64,
    updates: u64,
    walk: Walk,
    /// When the updates were sent: each is one of every user whose turn it was.
    sent: Rc<RefCell<Vec<Instant>>>,
    tally: Arc<Tally>,
    _connection: Connection,
}

impl Backend {
    /// Connects and attaches all users of its rooms. It is always read at once.
    pub async fn join(stage: Stage, number: usize) -> Result<Self> {
        let plan = stage.plan.clone();
        let place = stage.peer.place();
        let socket = Socket::connect(place.clone(), None, stage.tally.clone()).await?;
        let connection = Connection::open(socket, &place).await?;
        let hello = GatewayHello {
            // A backend that nobody takes over, and whose users leave with it.
            gateway_id: format!("bench-{:x}", fastrand::u64(..)),
            grace: Some(Duration::ZERO.try_into()?),
            app: app(number),
            // Where nobody writes, nothing goes up.
            silence_timeout: Some(SILENCE_MAX.try_into()?),
        };
        let hello = GatewayRequest { seq: 1, hello: Some(hello), ..GatewayRequest::default() };
        let (mut up, mut down) = connection.call("DeliveryService/Gateway", &hello, false).await?;
        let users = plan.rooms_per_backend * plan.users;
        let mut seq = 1;
        for part in attachments(&plan) {
            seq += 1;
            let part = GatewayRequest { seq, ..part };
            up.send_data(framed(part.encoded_len(), |buffer| Ok(part.encode(buffer)?))?, false)?;
        }
        let mut views = Views::new(plan.rooms_per_backend, plan.turns());
        timeout(PATIENCE, attached(&mut down, &mut views, users))
            .await
            .map_err(|_| format!("not all users were attached within {PATIENCE:?}"))??;

        let sent = Rc::new(RefCell::new(Vec::new()));
        stage.watch(receive(down, views, sent.clone(), stage.tally.clone()));
        let turns = turns(users, plan.turns()).map(|handles| {
            let count = handles.len();
            let batches = match plan.encoding {
                Encoding::Columns => Batch::in_columns(plan.props, plan.payload, handles),
                Encoding::Named => Batch::by_name(plan.props, plan.payload, handles),
            };
            (batches, count)
        });
        Ok(Backend {
            up,
            turns: turns.collect(),
            seq,
            updates: 0,
            walk: Walk::new(number),
            sent,
            tally: stage.tally,
            _connection: connection,
        })
    }

    /// Sends the next update of every user whose turn it is.
    pub fn send_updates(&mut self) -> Result<()> {
        self.sent.borrow_mut().push(Instant::now());
        let turn = self.updates as usize % self.turns.len();
        let (batches, users) = &mut self.turns[turn];
        for batch in batches.iter_mut() {
            self.seq += 1;
            self.up.send_data(batch.message(self.seq, self.updates, &mut self.walk)?, false)?;
        }
        self.updates += 1;
        let mut counts = self.tally.counts.lock();
        counts.updates += *users as u64;
        counts.expected += *users as u64;
        counts.sends += batches.len() as u64;
        Ok(())
    }
}

/// Shares the handles 1 to `users` out among so many turns, as evenly as can be.
fn turns(users: usize, turns: usize) -> impl Iterator<Item = Range<usize>> {
    (0..turns).map(move |turn| 1 + users * turn / turns..1 + users * (turn + 1) / turns)
}

/// Attaches the users of one room after the other, with handles from 1 on, and subscribes to each room
/// with the first of them.
fn attachments(plan: &Plan) -> Vec<GatewayRequest> {
    let users: Vec<usize> = (0..plan.rooms_per_backend * plan.users).collect();
    let encoding = plan.encoding.on_the_wire().into();
    let options = DeliveryOptions { encoding, ..DeliveryOptions::default() };
    let part = |users: &[usize]| GatewayRequest {
        attach: users
            .iter()
            .map(|user| Attach {
                handle: *user as u32 + 1,
                user_id: user_id(*user),
                session_id: plan.session_id(user / plan.users),
                join: Some(JoinOptions::default()),
                ..Attach::default()
            })
            .collect(),
        subscribe: users
            .iter()
            .filter(|user| **user % plan.users == 0)
            .map(|user| ViewSubscription {
                handle: (user / plan.users) as u32 + 1,
                session_id: plan.session_id(user / plan.users),
                options: Some(options.clone()),
                ..ViewSubscription::default()
            })
            .collect(),
        ..GatewayRequest::default()
    };
    users.chunks(ATTACHED_AT_ONCE).map(part).collect()
}

/// Waits until all users are attached, and every view has come.
async fn attached(down: &mut Responses, views: &mut Views, users: usize) -> Result<()> {
    let mut attached = 0;
    while attached < users || !views.are_open() {
        let message = down.message().await?;
        let response = GatewayResponse::decode(message.clone())?;
        if !response.refusals.is_empty() {
            return Err(format!("not attached: {:?}", response.refusals[0]).into());
        }
        attached += response.attached.len();
        views.take(&message)?;
    }
    Ok(())
}

async fn receive(
    mut down: Responses,
    mut views: Views,
    sent: Rc<RefCell<Vec<Instant>>>,
    tally: Arc<Tally>,
) -> Result<Infallible> {
    loop {
        let message = down.message().await?;
        let now = Instant::now();
        let arrived = views.take(&message)?;
        if arrived.is_refusal {
            let response = GatewayResponse::decode(message)?;
            let (refusal, ended) = (response.refusals.first(), response.ended.first());
            let go_away = response.go_away;
            return Err(format!("refused or ended: {refusal:?}, {ended:?}, {go_away:?}").into());
        }
        let sent = sent.borrow();
        for number in arrived.numbers {
            let sent = sent.get(number).ok_or("an update that was never sent")?;
            tally.arrived_after(now - *sent);
        }
        let mut counts = tally.counts.lock();
        counts.messages += 1;
        counts.message_bytes += message.len() as u64;
        counts.deliveries += arrived.deliveries;
        counts.timed += arrived.timed;
        counts.merged += arrived.merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_one_turn() {
        let all: Vec<usize> = turns(7, 3).flatten().collect();
        assert_eq!(all, (1..=7).collect::<Vec<_>>());
        assert_eq!(turns(7, 3).map(|turn| turn.len()).max(), Some(3));
        assert_eq!(turns(2, 5).map(|turn| turn.len()).sum::<usize>(), 2);
    }
}
