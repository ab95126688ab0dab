//! What comes to one user: how many updates of others, and how long they took.

use super::{
    Result,
    grpc::Responses,
    payload::update_number,
    tally::Tally,
    update::{user_id, user_number},
    user::Room,
    wire::{
        Field, changes, delivery, for_each, for_each_bytes, for_each_run, member, session_update,
        snapshot, subscription, user_props,
    },
};
use crate::proto::{
    Block, Changes, SessionUpdate, StreamUserPropsResponse, SubscribeToSessionResponse,
    session_update::Body,
};
use bytes::Bytes;
use prost::Message;
use std::{collections::HashMap, convert::Infallible, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// Which messages come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `StreamUserPropsResponse`.
    UserProps,
    /// `SubscribeToSessionResponse`.
    Subscription,
}

/// Counts what comes to one user.
pub struct Receiver {
    stream: Stream,
    room: Rc<Room>,
    user: Reader,
    /// Where arrivals are timed.
    timer: Option<Timer>,
    tally: Arc<Tally>,
}

impl Receiver {
    /// Of user `number` of the room.
    pub fn new(stream: Stream, room: Rc<Room>, number: usize, tally: Arc<Tally>) -> Self {
        let user = Reader { user_id: user_id(number), join_order: None };
        Receiver { stream, room, user, timer: None, tally }
    }

    /// The same, with arrivals timed.
    pub fn timed(self) -> Self {
        let seen = vec![0; self.room.sent.borrow().len()];
        Receiver { timer: Some(Timer { seen, ..Timer::default() }), ..self }
    }

    /// Takes the first message in.
    pub fn start(&mut self, first: Bytes) -> Result<()> {
        self.user.read(self.stream, &first)?;
        let Some(timer) = &mut self.timer else { return Ok(()) };
        for update in updates_of(self.stream, first)? {
            timer.revision = update.to_revision;
            if let Some(Body::Snapshot(snapshot)) = &update.body {
                timer.learn(snapshot.state.as_ref());
            }
        }
        Ok(())
    }

    /// Takes in what comes after it.
    pub async fn receive(mut self, mut down: Responses) -> Result<Infallible> {
        loop {
            let message = down.message().await?;
            let now = Instant::now();
            let arrivals = self.user.read(self.stream, &message)?;
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
            if let Some(timer) = &mut self.timer {
                let updates = updates_of(self.stream, message)?;
                timer.time(updates, &self.user.user_id, &self.room, &self.tally, now)?;
            }
        }
    }
}

/// The updates of sessions in a message.
fn updates_of(stream: Stream, message: Bytes) -> Result<Vec<SessionUpdate>> {
    let updates: Vec<_> = match stream {
        Stream::UserProps => {
            let updates = StreamUserPropsResponse::decode(message)?.updates.into_iter();
            updates.map(|delivery| delivery.update).collect()
        }
        Stream::Subscription => vec![SubscribeToSessionResponse::decode(message)?.update],
    };
    Ok(updates.into_iter().flatten().collect())
}

/// Reads without a codec how much a message brings to a user.
#[derive(Debug)]
struct Reader {
    user_id: String,
    /// The user's own number in columns, once it is known.
    join_order: Option<u64>,
}

/// What one message brings.
#[derive(Debug, Default, PartialEq)]
struct Arrivals {
    /// How many users other than the receiver are in it with props.
    others: u64,
    /// How many writes it refuses.
    refusals: u64,
}

impl Reader {
    fn read(&mut self, stream: Stream, message: &[u8]) -> Result<Arrivals> {
        let mut arrivals = Arrivals::default();
        for_each_bytes(message, |field, value| match (stream, field) {
            (Stream::UserProps, user_props::UPDATES) => for_each_bytes(value, |field, update| {
                if field == delivery::UPDATE { self.update(update, &mut arrivals) } else { Ok(()) }
            }),
            (Stream::UserProps, user_props::REFUSALS) => {
                arrivals.refusals += 1;
                Ok(())
            }
            (Stream::Subscription, subscription::UPDATE) => self.update(value, &mut arrivals),
            _ => Ok(()),
        })?;
        Ok(arrivals)
    }

    fn update(&mut self, update: &[u8], arrivals: &mut Arrivals) -> Result<()> {
        for_each_bytes(update, |field, value| match field {
            session_update::CHANGES => self.changes(value, arrivals),
            // The state is no delivery, but it may name the user.
            session_update::SNAPSHOT => for_each_bytes(value, |field, state| {
                if field == snapshot::STATE {
                    self.changes(state, &mut Arrivals::default())?;
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    }

    fn changes(&mut self, changed: &[u8], arrivals: &mut Arrivals) -> Result<()> {
        for_each_bytes(changed, |field, value| {
            match field {
                changes::MEMBERS => arrivals.others += u64::from(self.member(value)?),
                changes::BLOCKS => for_each_run(value, |from, length| {
                    let is_in = |own: u64| own >= from && own - from < length;
                    arrivals.others += length - u64::from(self.join_order.is_some_and(is_in));
                })?,
                _ => {}
            }
            Ok(())
        })
    }

    /// Whether this is another member, with props.
    fn member(&mut self, member: &[u8]) -> Result<bool> {
        let (mut is_own, mut has_props, mut join_order) = (false, false, None);
        for_each(member, |field| {
            match field {
                Field::Bytes(member::USER_ID, id) => is_own = id == self.user_id.as_bytes(),
                Field::Bytes(member::PROPS, _) => has_props = true,
                Field::Varint(member::JOIN_ORDER, order) => join_order = Some(order),
                _ => {}
            }
            Ok(())
        })?;
        if is_own {
            self.join_order = join_order.or(self.join_order);
        }
        Ok(!is_own && has_props)
    }
}

/// Finds how long updates took.
#[derive(Debug, Default)]
struct Timer {
    /// Up to where the session is known.
    revision: u64,
    /// Per user, how many updates were sent up to the last one that arrived.
    seen: Vec<usize>,
    /// In columns: the users by their numbers, and the number of the prop that names an update.
    users: HashMap<u64, usize>,
    x: Option<u64>,
}

impl Timer {
    fn time(
        &mut self,
        updates: Vec<SessionUpdate>,
        own_id: &str,
        room: &Room,
        tally: &Tally,
        now: Instant,
    ) -> Result<()> {
        let sent = room.sent.borrow();
        for update in updates {
            if update.from_revision > self.revision {
                return Err("a message was lost: from_revision is past the last one".into());
            }
            self.revision = update.to_revision;
            let Some(Body::Changes(changes)) = update.body else { continue };
            self.learn(Some(&changes));
            let own = user_number(own_id);
            for (user, update) in self.arrived(&changes)? {
                if Some(user) == own {
                    continue;
                }
                let seen = self.seen.get_mut(user).ok_or("a stranger is in the room")?;
                let sent = sent[user].get(update).ok_or("an update that was never sent")?;
                tally.arrived_after(now - *sent);
                let mut counts = tally.counts.lock();
                counts.timed += 1;
                counts.merged += update.saturating_sub(*seen) as u64;
                *seen = update + 1;
            }
        }
        Ok(())
    }

    /// The numbers of users and props, as far as they are named here.
    fn learn(&mut self, changes: Option<&Changes>) {
        let Some(changes) = changes else { return };
        for member in changes.members.iter().filter(|member| member.join_order > 0) {
            let number = user_number(&member.user_id);
            self.users.extend(number.map(|number| (member.join_order, number)));
        }
        let mut props = changes.dictionary.iter().flat_map(|names| &names.props);
        let x = props.find(|prop| prop.name == "x").map(|prop| prop.number);
        self.x = x.or(self.x);
    }

    /// The users with new props, and which of their updates that was.
    fn arrived(&self, changes: &Changes) -> Result<Vec<(usize, usize)>> {
        let mut arrived = Vec::new();
        for member in &changes.members {
            let x = member.props.iter().find(|prop| prop.name == "x");
            let Some(update) = x.and_then(update_number) else { continue };
            arrived.push((user_number(&member.user_id).ok_or("a stranger is here")?, update));
        }
        for block in &changes.blocks {
            let Some(x) = block.columns.iter().find(|column| Some(column.prop) == self.x) else {
                continue;
            };
            let floats = x.floats.iter().copied().map(f64::from);
            let values = x.numbers.iter().copied().chain(floats);
            for (order, value) in users_of(block).into_iter().zip(values) {
                let user = self.users.get(&order).ok_or("a stranger is in a block")?;
                arrived.push((*user, value as usize));
            }
        }
        Ok(arrived)
    }
}

/// The users of a block, one by one.
fn users_of(block: &Block) -> Vec<u64> {
    let mut users = block.users.clone();
    let mut next = 0;
    for run in block.runs.chunks_exact(2) {
        let from = next + run[0];
        next = from + run[1];
        users.extend(from..next);
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        Column, Dictionary, DictionaryEntry, MemberChange, NamedValue, Refusal, Role,
        SessionDelivery, Snapshot, named_value,
    };

    fn update(body: Body) -> SessionUpdate {
        SessionUpdate { to_revision: 7, body: Some(body), ..Default::default() }
    }

    fn response(body: Body, refusals: usize) -> Vec<u8> {
        StreamUserPropsResponse {
            updates: vec![SessionDelivery { update: Some(update(body)), ..Default::default() }],
            acked_seq: 9,
            refusals: vec![Refusal { seq: 8, ..Default::default() }; refusals],
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn changes(users: &[&str]) -> Changes {
        let x = named_value::Kind::Number(3.5);
        let member = |(order, user): (usize, &&str)| MemberChange {
            user_id: (*user).to_owned(),
            props: vec![NamedValue { name: "x".into(), kind: Some(x.clone()) }],
            role: Role::Member.into(),
            join_order: order as u64 + 1,
            ..Default::default()
        };
        Changes { members: users.iter().enumerate().map(member).collect(), ..Default::default() }
    }

    fn user(id: &str) -> Reader {
        Reader { user_id: id.to_owned(), join_order: None }
    }

    fn arrivals(message: &[u8], id: &str) -> Arrivals {
        user(id).read(Stream::UserProps, message).unwrap()
    }

    fn state(users: &[&str]) -> Body {
        Body::Snapshot(Snapshot { state: Some(changes(users)), ..Default::default() })
    }

    #[test]
    fn others_are_counted_and_oneself_is_not() {
        let message = response(Body::Changes(changes(&["u000", "u001", "u002"])), 0);
        assert_eq!(arrivals(&message, "u001"), Arrivals { others: 2, refusals: 0 });
        assert_eq!(arrivals(&message, "u003"), Arrivals { others: 3, refusals: 0 });
    }

    #[test]
    fn a_subscription_has_its_update_by_itself() {
        let update = Some(update(Body::Changes(changes(&["u000", "u001"]))));
        let message = SubscribeToSessionResponse { update, ..Default::default() }.encode_to_vec();
        let arrivals = user("u001").read(Stream::Subscription, &message).unwrap();
        assert_eq!(arrivals, Arrivals { others: 1, refusals: 0 });
    }

    #[test]
    fn in_columns_oneself_is_known_by_the_join_order() {
        let runs = Block { runs: vec![1, 3, 200, 300], ..Default::default() };
        let list = Block { users: vec![1, 4, 500], ..Default::default() };
        let blocks = Changes { blocks: vec![runs, list], ..Default::default() };
        let blocks = response(Body::Changes(blocks), 0);
        let mut stranger = user("u009");
        let mut first = user("u000");
        for reader in [&mut stranger, &mut first] {
            let snapshot = response(state(&["u000", "u001"]), 0);
            let nothing = reader.read(Stream::UserProps, &snapshot).unwrap();
            assert_eq!(nothing, Arrivals::default());
        }
        assert_eq!(stranger.read(Stream::UserProps, &blocks).unwrap().others, 306);
        // It is in both blocks.
        assert_eq!(first.read(Stream::UserProps, &blocks).unwrap().others, 304);
    }

    #[test]
    fn columns_say_whose_updates_they_have() {
        let mut timer = Timer::default();
        let entry = |number, name: &str| DictionaryEntry { number, name: name.into() };
        let dictionary = Some(Dictionary { props: vec![entry(2, "y"), entry(5, "x")] });
        timer.learn(Some(&Changes { dictionary, ..changes(&["u004", "u007", "u009"]) }));
        let column = |prop, numbers: &[f64]| Column {
            prop,
            numbers: numbers.to_vec(),
            ..Default::default()
        };
        let columns = vec![column(2, &[0.0, 0.0]), column(5, &[8.25, 9.5])];
        let block = Block { runs: vec![2, 2], columns, ..Default::default() };
        let changes = Changes { blocks: vec![block], ..Default::default() };
        assert_eq!(timer.arrived(&changes).unwrap(), [(7, 8), (9, 9)]);
    }

    #[test]
    fn who_only_joined_is_no_delivery() {
        let mut joined = changes(&["u000"]);
        joined.members[0].props.clear();
        let message = response(Body::Changes(joined), 2);
        assert_eq!(arrivals(&message, "u001"), Arrivals { others: 0, refusals: 2 });
    }

    #[test]
    fn a_snapshot_is_no_delivery() {
        assert_eq!(arrivals(&response(state(&["u000"]), 0), "u001"), Arrivals::default());
    }

    #[test]
    fn what_is_cut_off_is_noticed() {
        let message = response(Body::Changes(changes(&["u000"])), 0);
        let cut = &message[..message.len() - 3];
        assert!(user("u001").read(Stream::UserProps, cut).is_err());
    }
}
