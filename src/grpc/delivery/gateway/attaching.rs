//! Attaching users to a gateway and detaching them.

use super::{Gateway, Server};
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{Entered, Hold, Live, SessionKey, Target, asked::Bearer},
    grpc::{
        convert::{door::Door, to_proto},
        delivery::feeds::Feeds,
        new_user_id,
        passwords::Entry,
        status::about::About,
    },
    proto,
    session::{command::Actor, ids::UserId, judging::Operation, revision::Revision},
};
use std::{pin::Pin, sync::Arc};

/// A user to attach, once it has passed the door.
pub struct Asked {
    handle: u32,
    wanted: Result<Wanted, Refusal>,
}

struct Wanted {
    user: UserId,
    /// The id was generated.
    is_new: bool,
    key: SessionKey,
    /// How it joins, if it does.
    entry: Option<Entry>,
    prefix: String,
}

/// Looks at the passwords of joins, and has them judged.
pub type Preparing = Pin<Box<dyn Future<Output = Vec<Asked>> + Send>>;

/// Compares or hashes the passwords that are needed, and has joins judged, one after the other.
pub async fn prepare(server: Server, bearer: Bearer, mut asked: Vec<Asked>) -> Vec<Asked> {
    for one in &mut asked {
        let Ok(Wanted { entry: Some(entry), prefix, .. }) = &mut one.wanted else { continue };
        if let Err(refusal) = entry.prepare(&server, &bearer).await {
            one.wanted = Err(refusal.within(prefix));
        }
    }
    asked
}

impl Gateway {
    /// Checks what a message says of users to attach.
    pub(super) fn asked(&self, server: &Server, attach: Vec<proto::Attach>) -> Vec<Asked> {
        let one = |(at, asked): (usize, proto::Attach)| {
            let handle = asked.handle;
            let wanted = self.wanted(server, format!("attach[{at}]."), asked);
            Asked { handle, wanted }
        };
        attach.into_iter().enumerate().map(one).collect()
    }

    fn wanted(
        &self,
        server: &Server,
        prefix: String,
        asked: proto::Attach,
    ) -> Result<Wanted, Refusal> {
        let proto::Attach { handle, user_id, session_id, join, open_if_missing } = asked;
        let mut door = Door::new(&server.limits);
        let read = door.within(&prefix, |door| {
            if handle == 0 {
                door.fault("handle", "must not be 0");
            }
            let is_new = user_id.is_empty() && join.is_some();
            let user = if is_new { Some(new_user_id()) } else { door.user("user_id", &user_id) };
            let key = door.session("session_id", &session_id).map(SessionKey::Id);
            if open_if_missing.is_some() && join.is_none() {
                door.fault("open_if_missing", "needs join");
            }
            let request = proto::JoinSessionRequest {
                user_id,
                session_id,
                join,
                open_if_missing: open_if_missing.map(|missing| *missing),
                ..Default::default()
            };
            let entry = match request.join {
                None => None,
                Some(_) => {
                    let target = key.clone().map(Target::Key);
                    let who = (&self.app, user.as_ref(), self.peer);
                    Some(server.entry(door, who, target, &request, true)?)
                }
            };
            Some((user?, is_new, key?, entry))
        });
        let (user, is_new, key, entry) = door.close_with(|| read)?;
        Ok(Wanted { user, is_new, key, entry, prefix })
    }

    /// Attaches users; each that is refused is reported. Returns the frames that show the others.
    pub(super) fn attach_all(
        &mut self,
        server: &Server,
        hold: &mut Hold,
        seq: u64,
        asked: Vec<Asked>,
    ) -> Vec<(Arc<Live>, Revision)> {
        let mut entered = Vec::with_capacity(asked.len());
        for Asked { handle, wanted } in asked {
            let wanted = match wanted {
                Ok(wanted) => wanted,
                Err(refusal) => {
                    server.engine.counters().refused_attaches.count();
                    self.refuse(seq, handle, &refusal);
                    continue;
                }
            };
            match self.attach(server, hold, handle, &wanted) {
                Ok((live, Entered { role, position })) => {
                    let user_id =
                        if wanted.is_new { wanted.user.to_string() } else { String::new() };
                    self.news.attach([proto::Attached {
                        handle,
                        role: to_proto::role(role).into(),
                        position: Some(to_proto::position(position)),
                        user_id,
                        session_id: String::new(),
                    }]);
                    self.is_judged |= live.judges(Operation::Write);
                    entered.push((live, position.revision));
                }
                Err(refusal) => {
                    server.engine.counters().refused_attaches.count();
                    let session = wanted.key.id().map_or("", |id| id);
                    let user = wanted.user.to_string();
                    let about = About { user, ..About::session(session) };
                    self.refuse_about(seq, handle, &refusal, &about);
                }
            }
        }
        entered
    }

    fn attach(
        &self,
        server: &Server,
        hold: &mut Hold,
        handle: u32,
        wanted: &Wanted,
    ) -> Result<(Arc<Live>, Entered), Refusal> {
        let Wanted { user, key, entry, prefix, .. } = wanted;
        if hold.user(handle).is_some() {
            return Err(Refusal::invalid(format!("{prefix}handle"), "is in use"));
        }
        if hold.users() >= server.streams.max_gateway_users {
            let (limit, most) = ("max-gateway-users", server.streams.max_gateway_users);
            return Err(crate::engine::Refusal::LimitReached { limit, most }.into());
        }
        let found = match entry {
            Some(entry) if entry.opens() => entry.enter(server).map(|(it, _)| (it.live, None)),
            Some(entry) => entry.find(server).map(|live| (live, Some(entry.join().clone()))),
            None => {
                let actor = Actor::of(user);
                server.engine.find(&self.app, Some(key), &actor).map(|live| (live, None))
            }
        };
        let outcome = found.and_then(|(live, join)| {
            let entered = hold.attach(handle, &live, user, join)?;
            Ok((live, entered))
        });
        outcome.map_err(|refusal| {
            let refusal = Refusal::from(refusal);
            let told = entry.as_ref().and_then(|entry| entry.refused(server, refusal.clone()));
            told.unwrap_or(refusal).within(prefix)
        })
    }

    /// Detaches users; each that is not there, or may not leave, is reported.
    pub(super) fn detach_all(
        &mut self,
        server: &Server,
        hold: &mut Hold,
        feeds: &mut Feeds,
        seq: u64,
        asked: &[proto::Detach],
    ) {
        let after = self.acks.last();
        for (at, &proto::Detach { handle, leave, keep_role }) in asked.iter().enumerate() {
            if keep_role && !leave {
                let field = format!("detach[{at}].keep_role");
                self.refuse(seq, handle, &Refusal::invalid(field, "needs leave"));
                continue;
            }
            let live = hold.user(handle).map(|user| user.live().clone());
            let outcome = match leave {
                true => hold.leave(handle, keep_role),
                false => hold.detach(handle).then(|| {
                    let live = live.as_ref().ok_or(crate::engine::Refusal::NOT_FOUND)?;
                    Ok(server.engine.pending_position(live))
                }),
            };
            match (outcome, live) {
                (Some(Ok(position)), Some(live)) => {
                    for messages in self.excess.forget(handle) {
                        self.refuse(messages.last, handle, &Refusal::from(Rule::NotAMember));
                    }
                    self.expect(feeds, &live, after, position.revision);
                }
                (Some(Err(refusal)), _) => self.refuse(seq, handle, &refusal.into()),
                _ => self.refuse(seq, handle, &Refusal::UnknownHandle { handle }),
            }
        }
    }
}
