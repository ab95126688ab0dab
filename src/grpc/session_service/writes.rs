//! Writes, and what is shown of a user.

use super::Sessions;
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{self, SessionKey, WriteOutcome, is_taken},
    grpc::{
        caller::Caller,
        convert::{door::path, to_proto},
        once::Once,
        status::{about::About, in_band},
    },
    proto,
    session::{
        access::Act,
        command::{Actor, Command},
        view::View,
    },
};

impl Sessions {
    pub(super) async fn set_props(
        &self,
        caller: &Caller,
        request: proto::SetUserPropsRequest,
    ) -> Result<proto::SetUserPropsResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let user = match (&actor, &*request.target_user_id) {
            (Some(Actor::User(user)), "") => Some(user.id().clone()),
            (None, "") => None,
            (_, target) => door.user("target_user_id", target),
        };
        let mut write = door.props_write(request.write.unwrap_or_default());
        let (actor, user) = door.close_with(|| actor.zip(user))?;
        let (durable, is_on_user) = (write.durable, write.sessions.is_empty());
        let names_one = write.sessions.len() == 1;
        if actor.user().is_some_and(|actor| *actor != user) {
            return Err(Refusal::NotEntitled);
        }
        self.0.engine.take_update(&app, &user)?;
        self.0.judge_write(&app, &actor, &mut write, &caller.grant.bearer()).await;
        let results = self.0.write_props(&app, &actor, &user, write)?;
        let first = results.iter().find_map(|(id, result)| Some((id, result.as_ref().err()?)));
        if let (false, Some((id, refusal))) = (is_taken(&results), first) {
            let refusal = Refusal::from(refusal.clone());
            return Err(match names_one {
                true => refusal,
                false => refusal.of(path("write.session_ids", id)),
            });
        }
        if durable {
            let taken = results.iter().filter(|(_, outcome)| outcome.is_ok());
            let taken = taken.map(|(id, _)| id.clone()).collect();
            self.0.write_stored(&app, taken, is_on_user).await;
        }
        let result = |(id, result): WriteOutcome| proto::WriteResult {
            session_id: id.to_string(),
            position: result.as_ref().ok().copied().map(to_proto::position),
            refusal: result
                .err()
                .map(|refusal| in_band(&refusal.into(), 0, id.to_string(), &About::session(&id))),
        };
        Ok(proto::SetUserPropsResponse { results: results.into_iter().map(result).collect() })
    }

    pub(super) async fn set_data(
        &self,
        caller: &Caller,
        mut request: proto::SetSessionDataRequest,
    ) -> Result<proto::SetSessionDataResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let durable = request.ack == proto::Ack::Durable as i32;
        if durable {
            self.check_stored(caller, whose)?;
        }
        let position = self
            .command(caller, whose, once, |door, _| {
                door.ack("ack", request.ack);
                let set = door.values("set", request.set);
                let mut shared = door.write("set", set, "remove", request.remove);
                shared.if_revision = door.revisions("if_revision", request.if_revision);
                let set = door.values("private_set", request.private_set);
                let mut private =
                    door.write("private_set", set, "private_remove", request.private_remove);
                let field = "private_if_revision";
                private.if_revision = door.revisions(field, request.private_if_revision);
                (shared.merge_maps, private.merge_maps) = (request.merge_maps, request.merge_maps);
                if shared.is_empty() && private.is_empty() && door.is_faultless() {
                    door.fault("set", "at least one key must be set or removed");
                }
                Some(Command::SetData { shared, private, term: request.term })
            })
            .await?;
        if durable {
            let (_, app) = self.0.door(caller, &request.app);
            self.0.stored(&app, &request.session_id).await;
        }
        Ok(proto::SetSessionDataResponse { position: Some(position) })
    }

    /// Refuses a write that is to be stored where nothing is; what else is wrong with it is
    /// reported when it is done.
    fn check_stored(
        &self,
        caller: &Caller,
        (app, session, user): (&str, &str, &str),
    ) -> Result<(), Refusal> {
        let engine = &self.0.engine;
        if !engine.has_store() {
            return Err(engine::Refusal::NoStore.into());
        }
        let (mut door, app, actor) = self.0.enter(caller, app, user);
        let key = door.session("session_id", session).map(SessionKey::Id);
        let Some(actor) = actor else { return Ok(()) };
        match engine.find(&app, key.as_ref(), &actor) {
            Ok(live) => Ok(engine.check_stored(&live)?),
            Err(_) => Ok(()),
        }
    }

    pub(super) async fn updated_user_data(
        &self,
        caller: &Caller,
        request: proto::GetUpdatedUserDataRequest,
    ) -> Result<proto::GetUpdatedUserDataResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = match (&actor, request.target_user_id.as_str()) {
            (Some(Actor::User(user)), "") => Some(user.id().clone()),
            (None, "") => None,
            (_, target) => door.user("target_user_id", target),
        };
        let since = request.since.map(|since| door.position("since", since));
        let min = request.min_position.map(|min| door.position("min_position", min));
        let (actor, key, target) = door.close_with(|| Some((actor?, key?, target?)))?;
        let live = self.read(&app, &key, &actor, true, min).await?;
        let state = self.0.engine.shown(&live).await?;
        let session = &state.core;
        session.check(&actor, Act::Receive)?;
        if session.members().find(&target).is_none() {
            return Err(Refusal::Rules(Rule::MemberNotFound));
        }
        let view = |class| View { class, props: Default::default() };
        let mut one = to_proto::OneMember::default();
        let revision = match since {
            None => {
                let view = view(session.class_of_pending(&actor));
                session.show_pending(&view, &target, &mut one);
                session.pending_revision()
            }
            Some(since) => {
                if since.epoch != session.epoch() || session.is_unknown(since.revision) {
                    return Err(Refusal::Rules(Rule::UnknownPosition));
                }
                let view = view(session.class_of(&actor));
                session.show_member_after(&view, &target, since.revision, &mut one);
                session.revision()
            }
        };
        Ok(proto::GetUpdatedUserDataResponse {
            change: one.0,
            position: Some(proto::Position { epoch: session.epoch().0, revision: revision.0 }),
        })
    }

    pub(super) async fn transmit(
        &self,
        caller: &Caller,
        request: proto::TransmitSessionUpdatesRequest,
    ) -> Result<proto::TransmitSessionUpdatesResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = door.optional_user("target_user_id", &request.target_user_id);
        let (actor, key) = door.close_with(|| actor.zip(key))?;
        // What was sent already is sent again, so it is bounded like writes are.
        if let (Actor::User(user), true) = (&actor, request.resend) {
            self.0.engine.take_update(&app, user)?;
        }
        let live = self.0.engine.find(&app, Some(&key), &actor)?;
        let position = self.0.engine.transmit(&live, &actor, target.as_ref(), request.resend)?;
        Ok(proto::TransmitSessionUpdatesResponse { position: Some(to_proto::position(position)) })
    }
}
