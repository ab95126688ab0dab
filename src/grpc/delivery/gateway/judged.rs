//! Writes of a gateway that are judged before they are made.

use super::{Gateway, Server, blocks::Blocks};
use crate::{
    engine::{self, Hold, Live, asked::Bearer},
    grpc::convert::door::Door,
    proto,
    session::{command::Write, ids::UserId},
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
            if !user.live().judges(crate::session::judging::Operation::Write) {
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
        judgements.insert(at, server.judge_write_in(&live, &user, &write, &bearer).await);
    }
    judgements
}
