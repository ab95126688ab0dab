//! Members: who comes, goes, and stands where.

use super::Sessions;
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{
        Joined, Peer, Scope, SessionKey,
        encoder::{Encoder, Snapshot, SnapshotReason},
    },
    grpc::{
        caller::Caller,
        convert::to_proto,
        encode::{PREFIX, Wire},
        once::Once,
    },
    proto,
    session::{
        access::Act,
        ban::Ban,
        command::{Acting, Actor, Command},
        ids::{AppId, SessionId, UserId},
        view::View,
    },
};
use prost::Message;

/// How many users `GetFirstMatch` looks for.
const CANDIDATES: usize = 1000;

impl Sessions {
    pub(super) async fn join(
        &self,
        caller: &Caller,
        peer: Peer,
        mut request: proto::JoinSessionRequest,
    ) -> Result<proto::JoinSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app) = self.0.door(caller, &request.app);
        door.once(&once);
        let user = door.user_or_new(caller, "user_id", &request.user_id);
        let target = door.target(&request);
        let who = (&app, user.as_ref(), peer);
        let entry = self.0.entry(&mut door, who, target, &request, false);
        let (user, entry) = door.close_with(|| user.zip(entry))?;
        let is_named = !request.user_id.is_empty();
        let scope = Scope::of_join(&app, entry.target().id(), is_named.then_some(&user));
        let bearer = caller.grant.bearer();
        let act = async {
            let (Joined { live, position }, opened) = self.0.join_or_open(entry, &bearer).await?;
            let state = live.lock();
            let role = state.core.members().membership(&user).map(|membership| membership.role);
            Ok(proto::JoinSessionResponse {
                session_id: live.id.to_string(),
                user_id: user.to_string(),
                role: role.map_or(proto::Role::Unspecified, to_proto::role).into(),
                position: Some(to_proto::position(position)),
                opened,
                ..Default::default()
            })
        };
        let about = |reply: &proto::JoinSessionResponse| SessionId::new(&reply.session_id).ok();
        let mut reply = self.0.once_about(once, &scope, act, about).await?;
        if reply.opened {
            self.0.stored(&app, &reply.session_id).await;
        }
        if !request.omit_snapshot {
            let user = UserId::new(&reply.user_id).ok();
            let reader = user.map(|user| Acting::at_most(user, caller.grant.most));
            reply.snapshot = self.snapshot_of(&app, &reply.session_id, reader).await;
            reply.snapshot_omitted = reply.snapshot.is_none();
        }
        Ok(reply)
    }

    /// The snapshot of somebody who has joined, if it is still in, the snapshot fits one message, and
    /// the rate of the user lets it through: joining again costs nothing else. Not remembered with a
    /// request id: it is large, and old by then.
    async fn snapshot_of(
        &self,
        app: &AppId,
        id: &str,
        reader: Option<Acting>,
    ) -> Option<proto::SessionUpdate> {
        let key = SessionKey::Id(SessionId::new(id).ok()?);
        let reader = reader?;
        self.0.engine.take_update(app, &reader).ok()?;
        let actor = Actor::User(reader);
        let live = self.0.engine.find(app, Some(&key), &actor).ok()?;
        let state = self.0.engine.shown(&live).await.ok()?;
        state.core.check(&actor, Act::Receive).ok()?;
        let view = View { class: state.core.class_of(&actor), props: Default::default() };
        let encoded = Wire::default().snapshot(
            &state.core,
            &view,
            Snapshot::new(SnapshotReason::First),
            None,
        );
        drop(state);
        let [message] = &*encoded.messages else { return None };
        proto::SubscribeToSessionResponse::decode(message.bytes.slice(PREFIX..)).ok()?.update
    }

    pub(super) async fn leave(
        &self,
        caller: &Caller,
        mut request: proto::LeaveSessionRequest,
    ) -> Result<proto::LeaveSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let keep_role = request.keep_role;
        let position = self
            .command(caller, whose, once, |door, actor| {
                let user = door.user_of("user_id", actor)?;
                Some(Command::Leave { user, keep_role })
            })
            .await?;
        Ok(proto::LeaveSessionResponse { position: Some(position) })
    }

    pub(super) async fn set_role(
        &self,
        caller: &Caller,
        mut request: proto::SetRoleRequest,
    ) -> Result<proto::SetRoleResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let id = door.session("session_id", &request.session_id);
        let target = door.user("target_user_id", &request.target_user_id);
        let role = door.new_role("role", request.role);
        door.once(&once);
        let (actor, id, target, role) = door.close_with(|| Some((actor?, id?, target?, role?)))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            let live = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor)?;
            let position = self.0.engine.set_role(&live, &actor, &target, role)?;
            Ok(proto::SetRoleResponse { position: Some(to_proto::position(position)) })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, &request.session_id).await;
        Ok(reply)
    }

    pub(super) async fn kick(
        &self,
        caller: &Caller,
        mut request: proto::KickUserRequest,
    ) -> Result<proto::KickUserResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let position = self
            .command(caller, whose, once, |door, _| {
                let target = door.user("target_user_id", &request.target_user_id);
                let reason = door.reason("reason", &request.reason);
                Some(Command::Kick { target: target?, reason })
            })
            .await?;
        Ok(proto::KickUserResponse { position: Some(position) })
    }

    pub(super) async fn ban(
        &self,
        caller: &Caller,
        mut request: proto::BanUserRequest,
    ) -> Result<proto::BanUserResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let now = self.0.engine.clock().now();
        let position = self
            .command(caller, whose, once, |door, _| {
                let target = door.user("target_user_id", &request.target_user_id);
                let reason = door.reason("reason", &request.reason);
                let until = door.until(now, request.until, request.duration);
                Some(Command::Ban { target: target?, ban: Ban { reason, until } })
            })
            .await?;
        Ok(proto::BanUserResponse { position: Some(position) })
    }

    pub(super) async fn unban(
        &self,
        caller: &Caller,
        mut request: proto::UnbanUserRequest,
    ) -> Result<proto::UnbanUserResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let position = self
            .command(caller, whose, once, |door, _| {
                let target = door.user("target_user_id", &request.target_user_id)?;
                Some(Command::Unban { target })
            })
            .await?;
        Ok(proto::UnbanUserResponse { position: Some(position) })
    }

    pub(super) async fn swap_host(
        &self,
        caller: &Caller,
        mut request: proto::SwapHostRequest,
    ) -> Result<proto::SwapHostResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let id = door.session("session_id", &request.session_id);
        let target = door.optional_user("target_user_id", &request.target_user_id);
        door.once(&once);
        let (actor, id) = door.close_with(|| Some((actor?, id?)))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            let live = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor)?;
            let swapped = self.0.engine.swap_host(&live, &actor, target, request.term);
            let (position, info) = swapped?;
            Ok(proto::SwapHostResponse {
                host_id: info.host.as_deref().unwrap_or_default().to_owned(),
                term: info.term,
                position: Some(to_proto::position(position)),
            })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, &request.session_id).await;
        Ok(reply)
    }

    pub(super) async fn first_match(
        &self,
        caller: &Caller,
        request: proto::GetFirstMatchRequest,
    ) -> Result<proto::GetFirstMatchResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        if request.candidate_ids.len() > CANDIDATES {
            door.fault("candidate_ids", format!("has more than {CANDIDATES} ids"));
        }
        let ids = request.candidate_ids.iter().enumerate();
        let users: Vec<_> =
            ids.filter_map(|(at, id)| door.user(&format!("candidate_ids[{at}]"), id)).collect();
        let roles = request.roles.iter().enumerate();
        let roles: Vec<_> =
            roles.filter_map(|(at, role)| door.new_role(&format!("roles[{at}]"), *role)).collect();
        let min = request.min_position.map(|min| door.position("min_position", min));
        let (actor, key) = door.close_with(|| Some((actor?, key?)))?;
        let live = self.read(&app, &key, &actor, true, min).await?;
        let state = self.0.engine.shown(&live).await?;
        let session = &state.core;
        session.check(&actor, Act::Receive)?;
        let (member, shown) =
            session.first_match(&users, &roles).ok_or(Refusal::Rules(Rule::MemberNotFound))?;
        Ok(proto::GetFirstMatchResponse {
            member: Some(to_proto::member(&member.user, shown)),
            position: Some(proto::Position {
                epoch: session.epoch().0,
                revision: session.revision().0,
            }),
        })
    }
}
