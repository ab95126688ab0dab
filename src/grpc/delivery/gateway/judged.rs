//! Writes of a gateway that are judged before they are made.

use super::{Gateway, Server, blocks::Blocks};
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{self, Attachment, Hold, Live, Position, asked::Bearer},
    grpc::{caller, convert::door::Door, delivery::feeds::Feeds},
    proto,
    session::{
        command::{Command, Write},
        ids::UserId,
        judging::Operation,
    },
};
use rustc_hash::FxHashMap;
use std::{pin::Pin, sync::Arc};

/// After how many writes that are judged one by one the others of the thread have their turn.
const TURN: usize = 64;

/// Where in a message a write stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// A row of a block.
    Row(usize, usize),
    /// A write by name.
    Name(usize),
}

/// What became of the writes of a message that are judged.
pub type Judgements = FxHashMap<At, Result<Write, engine::Refusal>>;

/// A message whose writes are being judged.
pub type Judging = Pin<Box<dyn Future<Output = Judgements> + Send>>;

/// What of a message is dealt with once its writes are judged.
pub struct Rest {
    pub(super) blocks: Blocks,
    pub(super) request: proto::GatewayRequest,
}

struct ToJudge {
    at: At,
    live: Arc<Live>,
    user: UserId,
    write: Write,
}

impl Gateway {
    /// Begins to judge those writes of a message that are judged; none if no session does. An update of
    /// each is taken out of its user's bucket: over the rate it is refused, and nobody is asked.
    pub(super) fn judging(
        &self,
        server: &Server,
        hold: &Hold,
        blocks: &Blocks,
        writes: &[proto::HandleWrite],
    ) -> Option<Judging> {
        let now = server.engine.clock().now();
        let (mut known, mut list) = (Judgements::default(), Vec::new());
        let mut add = |at, handle, write: &dyn Fn() -> Option<Write>| {
            let Some(user) = hold.user(handle) else { return };
            if !user.live().judges(Operation::Write) {
                return;
            }
            let Some(write) = write() else { return };
            match self.excess.take_update(user, handle, now) {
                Ok(()) => {
                    let (live, user) = (user.live().clone(), user.user().clone());
                    list.push(ToJudge { at, live, user, write });
                }
                Err(limited) => {
                    known.insert(at, Err(limited));
                }
            }
        };
        for (block, row, handle) in blocks.rows() {
            add(At::Row(block, row), handle, &|| blocks.write(block, row));
        }
        for (at, one) in writes.iter().enumerate() {
            let write = || {
                let mut door = Door::new(&server.limits);
                let mut write = one.write.clone().unwrap_or_default();
                // It names none; the handle says which.
                write.session_ids = vec!["one".to_owned()];
                let write = door.props_write(write);
                door.close().ok().map(|()| write.write)
            };
            add(At::Name(at), one.handle, &write);
        }
        if list.is_empty() && known.is_empty() {
            return None;
        }
        let bearer = self.credential.grant().bearer();
        Some(Box::pin(judge(server.clone(), bearer, list, known)))
    }

    /// Deals with the parts of a message from its writes on.
    pub(super) fn write_rest(
        &mut self,
        server: &Server,
        hold: &mut Hold,
        feeds: &mut Feeds,
        rest: Box<Rest>,
        mut judgements: Judgements,
    ) {
        let Rest { blocks, request } = *rest;
        let seq = request.seq;
        self.write_all(server, hold, feeds, seq, blocks, &mut judgements);
        self.write_by_name(server, hold, feeds, seq, request.writes, &mut judgements);
        self.unsubscribe_all(feeds, seq, &request.unsubscribe);
        self.detach_all(server, hold, feeds, seq, &request.detach);
        if !request.token.is_empty() {
            // Without a handle: it is about the whole stream.
            match self.credential.renew(server, &request.token) {
                Ok(()) => {
                    let credential = caller::credential(self.credential.grant()).map(Arc::new);
                    credential.into_iter().for_each(|it| self.stream.act_by(it));
                }
                Err(refusal) => self.refuse(seq, 0, &refusal),
            }
        }
        self.acks.dealt_with(seq);
        self.hold_acks();
        hold.dealt_with(self.acks.seq());
        feeds.want_tick(None);
    }
}

async fn judge(
    server: Server,
    bearer: Bearer,
    list: Vec<ToJudge>,
    mut judgements: Judgements,
) -> Judgements {
    for (count, ToJudge { at, live, user, write }) in list.into_iter().enumerate() {
        if count % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        judgements.insert(at, server.judge_write_in(&live, &user, write, &bearer).await);
    }
    judgements
}

/// Makes a write of a user that was judged. That of a user who came meanwhile was not.
pub fn write(
    server: &Server,
    user: &Attachment,
    judged: Option<Result<Write, engine::Refusal>>,
) -> Result<Position, engine::Refusal> {
    let write = judged.unwrap_or(Err(Rule::NotJudged.into()))?;
    let set = Command::SetProps { user: user.user().clone(), write, term: 0 };
    user.command(&server.engine, set)
}
