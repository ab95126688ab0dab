//! Members: who comes, goes, and stands where.

use super::{Sessions, missing::of_missing};
use crate::{
    engine::{
        SessionKey,
        encoder::{Encoded, Encoder, SnapshotReason},
    },
    grpc::{
        convert::to_proto,
        encode::{Named, PREFIX},
        new_user_id,
    },
    proto,
    session::{
        command::{Actor, Command},
        error::Refusal,
        moderation::Ban,
        role::Act,
        view::View,
    },
};
use http::HeaderMap;
use prost::Message;

/// How many users `GetFirstMatch` looks for.
const CANDIDATES: usize = 1000;

impl Sessions {
    pub(super) async fn join(
        &self,
        headers: &HeaderMap,
        request: proto::JoinSessionRequest,
    ) -> Result<proto::JoinSessionResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let named = door.optional_user("user_id", &request.user_id);
        door.not_yet("request_id", !request.request_id.is_empty());
        let join = door.join("join", request.join.clone().unwrap_or_default(), false);
        let user = named.unwrap_or_else(new_user_id);
        let actor = Actor::User(user.clone());
        let target = door.target(&request);
        let missing = self.missing(&mut door, &request, (&app, &user, &join), target.as_ref());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let target = target.ok_or(Refusal::SessionNotFound)?;
        let outcome = self.0.engine.join_or_open(&app, &target, &user, &join, missing);
        let (joined, opened) = outcome.map_err(of_missing)?;
        let (live, position) = (joined.live, joined.position);
        let state = live.lock();
        let role = state.core.members().membership(&user).map(|membership| membership.role);
        let snapshot = (!request.omit_snapshot).then(|| {
            let view = View { class: state.core.class_of(&actor), props: Default::default() };
            Named.snapshot(&state.core, &view, SnapshotReason::First, None)
        });
        drop(state);
        let fits = |encoded: &Encoded| encoded.messages.len() == 1;
        let update = snapshot.as_ref().filter(|encoded| fits(encoded)).and_then(|encoded| {
            let message = encoded.messages.first()?.bytes.slice(PREFIX..);
            proto::SubscribeToSessionResponse::decode(message).ok()?.update
        });
        Ok(proto::JoinSessionResponse {
            session_id: live.id.to_string(),
            user_id: user.to_string(),
            role: role.map_or(proto::Role::Unspecified, to_proto::role).into(),
            position: Some(to_proto::position(position)),
            snapshot_omitted: snapshot.is_some() && update.is_none(),
            snapshot: update,
            opened,
        })
    }

    pub(super) async fn leave(
        &self,
        headers: &HeaderMap,
        request: proto::LeaveSessionRequest,
    ) -> Result<proto::LeaveSessionResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let keep_role = request.keep_role;
        let position = self.command(headers, whose, |door, actor| match actor {
            Actor::User(user) => Some(Command::Leave { user: user.clone(), keep_role }),
            Actor::App => {
                if request.user_id.is_empty() {
                    door.fault("user_id", "must not be empty");
                }
                None
            }
        })?;
        Ok(proto::LeaveSessionResponse { position: Some(to_proto::position(position)) })
    }

    pub(super) async fn set_role(
        &self,
        headers: &HeaderMap,
        request: proto::SetRoleRequest,
    ) -> Result<proto::SetRoleResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = door.user("target_user_id", &request.target_user_id);
        let role = door.new_role("role", request.role);
        door.not_yet("request_id", !request.request_id.is_empty());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let (Some(target), Some(role)) = (target, role) else {
            return Err(Refusal::MemberNotFound);
        };
        let live = self.0.engine.find(&app, key.as_ref(), &actor)?;
        let position = self.0.engine.set_role(&live, &actor, &target, role)?;
        Ok(proto::SetRoleResponse { position: Some(to_proto::position(position)) })
    }

    pub(super) async fn kick(
        &self,
        headers: &HeaderMap,
        request: proto::KickUserRequest,
    ) -> Result<proto::KickUserResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let position = self.command(headers, whose, |door, _| {
            let target = door.user("target_user_id", &request.target_user_id);
            let reason = door.reason("reason", &request.reason);
            Some(Command::Kick { target: target?, reason })
        })?;
        Ok(proto::KickUserResponse { position: Some(to_proto::position(position)) })
    }

    pub(super) async fn ban(
        &self,
        headers: &HeaderMap,
        request: proto::BanUserRequest,
    ) -> Result<proto::BanUserResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let now = self.0.engine.clock().now();
        let position = self.command(headers, whose, |door, _| {
            door.not_yet("request_id", !request.request_id.is_empty());
            let target = door.user("target_user_id", &request.target_user_id);
            let reason = door.reason("reason", &request.reason);
            let until = door.until(now, request.until, request.duration);
            Some(Command::Ban { target: target?, ban: Ban { reason, until } })
        })?;
        Ok(proto::BanUserResponse { position: Some(to_proto::position(position)) })
    }

    pub(super) async fn unban(
        &self,
        headers: &HeaderMap,
        request: proto::UnbanUserRequest,
    ) -> Result<proto::UnbanUserResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let position = self.command(headers, whose, |door, _| {
            door.not_yet("request_id", !request.request_id.is_empty());
            let target = door.user("target_user_id", &request.target_user_id)?;
            Some(Command::Unban { target })
        })?;
        Ok(proto::UnbanUserResponse { position: Some(to_proto::position(position)) })
    }

    pub(super) async fn swap_host(
        &self,
        headers: &HeaderMap,
        request: proto::SwapHostRequest,
    ) -> Result<proto::SwapHostResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = door.optional_user("target_user_id", &request.target_user_id);
        door.not_yet("request_id", !request.request_id.is_empty());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = self.0.engine.find(&app, key.as_ref(), &actor)?;
        let command = Command::SwapHost { target, term: request.term };
        let position = self.0.engine.command(&live, &actor, command)?;
        let info = live.lock().core.accepted_info().clone();
        Ok(proto::SwapHostResponse {
            host_id: info.host.as_deref().unwrap_or_default().to_owned(),
            term: info.term,
            position: Some(to_proto::position(position)),
        })
    }

    pub(super) async fn first_match(
        &self,
        headers: &HeaderMap,
        request: proto::GetFirstMatchRequest,
    ) -> Result<proto::GetFirstMatchResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
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
        door.not_yet("min_position", request.min_position.is_some());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = self.0.engine.find(&app, key.as_ref(), &actor)?;
        let state = live.lock();
        let session = &state.core;
        session.check(&actor, Act::Receive)?;
        let (member, shown) = session.first_match(&users, &roles).ok_or(Refusal::MemberNotFound)?;
        Ok(proto::GetFirstMatchResponse {
            member: Some(to_proto::member(&member.user, shown)),
            position: Some(proto::Position {
                epoch: session.epoch(),
                revision: session.revision(),
            }),
        })
    }
}
