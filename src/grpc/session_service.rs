//! The unary calls. Each passes the door, asks the engine, and answers.

use super::{
    Context,
    convert::{door::Door, to_proto},
    encode::{MAX_MESSAGE_BYTES, PREFIX},
    new_session_id, new_user_id,
    status::in_band,
};
use crate::{
    engine::{
        Live, Position, SessionKey,
        encoder::{Encoder, SnapshotReason},
    },
    proto::{self, session_service_server::SessionService},
    session::{
        Opening,
        command::{Actor, Command},
        error::Refusal,
        ids::SessionId,
        moderation::Ban,
        role::{Act, Standing},
        settings::Kind,
        view::View,
    },
};
use http::HeaderMap;
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// How many users `GetFirstMatch` looks for.
const CANDIDATES: usize = 1000;

/// The most sessions on a page, and how many there are by default.
const PAGE: (usize, usize) = (1000, 100);

/// Serves `SessionService`.
#[derive(Debug)]
pub struct Sessions(pub Context);

impl Sessions {
    fn door(&self) -> Door<'_> {
        Door::new(&self.0.limits)
    }

    fn answer<T: Message>(&self, outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
        let reply = outcome.and_then(|reply| {
            if reply.encoded_len() > MAX_MESSAGE_BYTES {
                return Err(Refusal::ReplyTooLarge { most: MAX_MESSAGE_BYTES });
            }
            Ok(reply)
        });
        reply.map(Response::new).map_err(|refusal| self.0.node.status(&refusal))
    }

    fn not_yet<T>(&self, call: &str) -> Result<Response<T>, Status> {
        Err(self.0.node.status(&Refusal::NotImplemented { field: call.to_owned() }))
    }

    fn get_info(
        &self,
        headers: &HeaderMap,
        request: proto::GetSessionInfoRequest,
    ) -> Result<proto::GetSessionInfoResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        door.not_yet("min_position", request.min_position.is_some());
        let named = door.session_or_name(&request.session_id, &request.name);
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = self.0.engine.find(&app, named.as_ref(), &actor)?;
        let state = live.lock();
        let session = &state.core;
        let inside = session.standing(&actor) != Standing::Outsider;
        Ok(proto::GetSessionInfoResponse {
            session: Some(to_proto::session_summary(&state)),
            members: if inside { to_proto::members(session) } else { Vec::new() },
            bans: session
                .bans(self.0.engine.clock().now(), &actor)
                .iter()
                .map(|(user, ban)| to_proto::ban(user, ban))
                .collect(),
            position: Some(proto::Position {
                epoch: session.epoch(),
                revision: session.revision(),
            }),
        })
    }

    fn list(
        &self,
        headers: &HeaderMap,
        request: proto::ListSessionsRequest,
    ) -> Result<proto::ListSessionsResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let member = door.optional_user("member_id", &request.member_id);
        let name = (!request.name.is_empty()).then(|| door.named("name", &request.name)).flatten();
        let token = &request.page_token;
        let after = (!token.is_empty()).then(|| door.session("page_token", token)).flatten();
        let size = match request.page_size as usize {
            0 => PAGE.1,
            size if size <= PAGE.0 => size,
            _ => {
                door.fault("page_size", format!("must be at most {}", PAGE.0));
                PAGE.1
            }
        };
        door.close()?;
        self.0.check_app(headers, &app)?;
        let mut page = Listing::new(size);
        let is_later = |id: &SessionId| after.as_ref().is_none_or(|after| id > after);
        if let Some(name) = name.map(SessionKey::Name) {
            let has_member = |live: &Arc<Live>| {
                let joined = |member| live.lock().core.members().membership(member).is_some();
                member.as_deref().is_none_or(joined)
            };
            let live = self.0.engine.find(&app, Some(&name), &actor).ok();
            if let Some(live) = live.filter(|live| is_later(&live.id) && has_member(live)) {
                page.add(&live, &actor);
            }
        } else if let Some(member) = member {
            for id in self.0.engine.sessions_of(&app, &member).into_iter().filter(is_later) {
                let live = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor);
                if live.is_ok_and(|live| !page.add(&live, &actor)) {
                    break;
                }
            }
        } else {
            let mut after = after;
            loop {
                let stretch = self.0.engine.list(&app, after.as_ref());
                let Some(last) = stretch.last() else { break };
                after = Some(last.id.clone());
                if stretch.iter().any(|live| !page.add(live, &actor)) {
                    break;
                }
            }
        }
        Ok(page.reply)
    }

    fn open_shared(
        &self,
        headers: &HeaderMap,
        request: proto::OpenSharedSessionRequest,
    ) -> Result<proto::OpenSharedSessionResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let user = door.optional_user("user_id", &request.user_id);
        let id = match request.session_id.as_str() {
            "" => Some(new_session_id()),
            id => door.session("session_id", id),
        };
        if request.get_if_exists && request.session_id.is_empty() {
            door.fault("get_if_exists", "needs a session_id");
        }
        let kind = door.kind(request.kind);
        let wire = request.settings.unwrap_or_default();
        let settings = door.settings(kind, &wire, self.0.engine.default_session());
        door.not_yet("roles", !request.roles.is_empty());
        door.not_yet("users", !request.users.is_empty());
        door.not_yet("bans", !request.bans.is_empty());
        door.not_yet("schema", request.schema.is_some());
        door.not_yet("request_id", !request.request_id.is_empty());
        let data = door.values("data", request.data);
        let private_data = door.values("private_data", request.private_data);
        let generates = user.is_none() && request.user_id.is_empty() && request.join.is_some();
        let join = request.join.map(|join| door.join("join", join, false));
        if join.as_ref().is_some_and(|join| join.spectator) {
            door.fault("join.spectator", "the opener owns the session and is no spectator");
        }
        door.close()?;
        self.0.check_app(headers, &app)?;
        let user = if generates { Some(new_user_id()) } else { user };
        let opener = user.clone().map(|user| (user, join.unwrap_or_default()));
        let id = id.unwrap_or_else(new_session_id);
        let opening = Opening { app, id, kind, settings, opener, data, private_data };
        let (joined, existed) = self.0.engine.open(opening, request.get_if_exists)?;
        let state = joined.live.lock();
        Ok(proto::OpenSharedSessionResponse {
            session: Some(to_proto::session_summary(&state)),
            user_id: user.map(|user| user.to_string()).unwrap_or_default(),
            position: Some(to_proto::position(joined.position)),
            existed,
        })
    }

    fn update(
        &self,
        headers: &HeaderMap,
        request: proto::UpdateSessionRequest,
    ) -> Result<proto::UpdateSessionResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let id = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let live = self.0.engine.find(&app, id.as_ref(), &actor);
        // Which settings there are depends on the kind of the session, where there is one.
        let kind = live.as_ref().map_or(Kind::Hosted, |live| live.lock().core.kind());
        let base = self.0.engine.default_session();
        let wire = request.settings.unwrap_or_default();
        let changes = door.settings_update(kind, &wire, request.update_mask, &base);
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = live?;
        let position = self.0.engine.update(&live, &actor, changes)?;
        let state = live.lock();
        Ok(proto::UpdateSessionResponse {
            settings: Some(to_proto::settings(&state.core.accepted_info().settings)),
            position: Some(to_proto::position(position)),
        })
    }

    fn join(
        &self,
        headers: &HeaderMap,
        request: proto::JoinSessionRequest,
    ) -> Result<proto::JoinSessionResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let named = door.optional_user("user_id", &request.user_id);
        door.not_yet("newest", request.newest);
        door.not_yet("open_if_missing", request.open_if_missing.is_some());
        door.not_yet("request_id", !request.request_id.is_empty());
        let join = door.join("join", request.join.unwrap_or_default(), false);
        let user = named.unwrap_or_else(new_user_id);
        let actor = Actor::User(user.clone());
        let key = match request.newest {
            true => None,
            false => door.session_or_name(&request.session_id, &request.name),
        };
        door.close()?;
        self.0.check_app(headers, &app)?;
        // Who knows the id or the name of an unlisted session may join it.
        let live = self.0.engine.find(&app, key.as_ref(), &Actor::App)?;
        let position = self.0.engine.join(&live, &user, join)?;
        let state = live.lock();
        let role = state.core.members().membership(&user).map(|membership| membership.role);
        let snapshot = (!request.omit_snapshot).then(|| {
            let view = View { class: state.core.class_of(&actor), props: Default::default() };
            super::encode::Named.snapshot(&state.core, &view, SnapshotReason::First, None)
        });
        drop(state);
        let fits = |encoded: &crate::engine::encoder::Encoded| encoded.messages.len() == 1;
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
            opened: false,
        })
    }

    /// A command of one user to one session.
    fn command(
        &self,
        headers: &HeaderMap,
        (app, session, user): (&str, &str, &str),
        command: impl FnOnce(&mut Door<'_>, &Actor) -> Option<Command>,
    ) -> Result<Position, Refusal> {
        let mut door = self.door();
        let app = door.app(app);
        let actor = door.actor(user);
        let id = door.session("session_id", session).map(SessionKey::Id);
        let command = command(&mut door, &actor);
        door.close()?;
        self.0.check_app(headers, &app)?;
        let Some(command) = command else { return Err(Refusal::NotAMember) };
        if let (Actor::User(user), Command::SetData { .. }) = (&actor, &command) {
            self.0.engine.take_update(&app, user)?;
        }
        let live = self.0.engine.find(&app, id.as_ref(), &actor)?;
        self.0.engine.command(&live, &actor, command)
    }

    fn leave(
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

    fn delete(
        &self,
        headers: &HeaderMap,
        request: proto::DeleteSessionRequest,
    ) -> Result<proto::DeleteSessionResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        self.command(headers, whose, |_, _| Some(Command::Delete))?;
        Ok(proto::DeleteSessionResponse {})
    }

    fn set_props(
        &self,
        headers: &HeaderMap,
        request: proto::SetUserPropsRequest,
    ) -> Result<proto::SetUserPropsResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let target = door.optional_user("target_user_id", &request.target_user_id);
        let user = match (&actor, target) {
            (Actor::User(user), None) => Some(user.clone()),
            (Actor::User(user), Some(target)) if *user == target => Some(target),
            (Actor::User(_), Some(_)) => {
                door.close()?;
                return Err(Refusal::NotEntitled);
            }
            (Actor::App, target) => {
                if request.user_id.is_empty() && request.target_user_id.is_empty() {
                    door.fault("user_id", "this or target_user_id must be given");
                }
                target
            }
        };
        let write = door.props_write(request.write.unwrap_or_default());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let Some(user) = user else { return Err(Refusal::NotAMember) };
        self.0.engine.take_update(&app, &user)?;
        let results = self.0.write_props(&app, &actor, &user, write)?;
        let taken = results.is_empty() || results.iter().any(|(_, result)| result.is_ok());
        let first = results.iter().find_map(|(_, result)| result.as_ref().err());
        if let (false, Some(refusal)) = (taken, first) {
            return Err(refusal.clone());
        }
        let result = |(id, result): (SessionId, Result<Position, Refusal>)| proto::WriteResult {
            session_id: id.to_string(),
            position: result.as_ref().ok().copied().map(to_proto::position),
            refusal: result.err().map(|refusal| in_band(&refusal, 0, id.to_string())),
        };
        Ok(proto::SetUserPropsResponse { results: results.into_iter().map(result).collect() })
    }

    fn set_data(
        &self,
        headers: &HeaderMap,
        request: proto::SetSessionDataRequest,
    ) -> Result<proto::SetSessionDataResponse, Refusal> {
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let position = self.command(headers, whose, |door, _| {
            door.not_yet("merge_maps", request.merge_maps);
            door.not_yet("request_id", !request.request_id.is_empty());
            door.ack("ack", request.ack);
            let set = door.values("set", request.set);
            let mut shared = door.write("set", set, "remove", request.remove);
            shared.if_revision = door.revisions("if_revision", request.if_revision);
            let set = door.values("private_set", request.private_set);
            let mut private =
                door.write("private_set", set, "private_remove", request.private_remove);
            let field = "private_if_revision";
            private.if_revision = door.revisions(field, request.private_if_revision);
            if shared.is_empty() && private.is_empty() && door.is_faultless() {
                door.fault("set", "at least one key must be set or removed");
            }
            Some(Command::SetData { shared, private, term: request.term })
        })?;
        Ok(proto::SetSessionDataResponse { position: Some(to_proto::position(position)) })
    }

    fn set_role(
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

    fn kick(
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

    fn ban(
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

    fn unban(
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

    fn swap_host(
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

    fn first_match(
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

    fn updated_user_data(
        &self,
        headers: &HeaderMap,
        request: proto::GetUpdatedUserDataRequest,
    ) -> Result<proto::GetUpdatedUserDataResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = match (&actor, request.target_user_id.as_str()) {
            (Actor::User(user), "") => Some(user.clone()),
            (_, target) => door.user("target_user_id", target),
        };
        let since = request.since.map(|since| door.position("since", since));
        door.not_yet("min_position", request.min_position.is_some());
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = self.0.engine.find(&app, key.as_ref(), &actor)?;
        let state = live.lock();
        let session = &state.core;
        session.check(&actor, Act::Receive)?;
        let target = target.ok_or(Refusal::MemberNotFound)?;
        if session.members().find(&target).is_none() {
            return Err(Refusal::MemberNotFound);
        }
        let view = View { class: session.class_of(&actor), props: Default::default() };
        let mut one = to_proto::OneMember::default();
        let revision = match since {
            None => {
                session.show_pending(&view, &target, &mut one);
                session.pending_revision()
            }
            Some(since) => {
                if since.epoch != session.epoch() || since.revision > session.pending_revision() {
                    return Err(Refusal::UnknownPosition);
                }
                session.show_member_after(&view, &target, since.revision, &mut one);
                session.revision()
            }
        };
        Ok(proto::GetUpdatedUserDataResponse {
            change: one.0,
            position: Some(proto::Position { epoch: session.epoch(), revision }),
        })
    }

    fn transmit(
        &self,
        headers: &HeaderMap,
        request: proto::TransmitSessionUpdatesRequest,
    ) -> Result<proto::TransmitSessionUpdatesResponse, Refusal> {
        let mut door = self.door();
        let app = door.app(&request.app);
        let actor = door.actor(&request.user_id);
        let key = door.session("session_id", &request.session_id).map(SessionKey::Id);
        let target = door.optional_user("target_user_id", &request.target_user_id);
        door.close()?;
        self.0.check_app(headers, &app)?;
        let live = self.0.engine.find(&app, key.as_ref(), &actor)?;
        let position = self.0.engine.transmit(&live, &actor, target.as_ref(), request.resend)?;
        Ok(proto::TransmitSessionUpdatesResponse { position: Some(to_proto::position(position)) })
    }
}

macro_rules! serve {
    (
        served { $($method:ident($request:ident) -> $response:ident by $serve:ident;)* }
        not_yet { $($later:ident($later_request:ident) -> $later_response:ident: $call:literal;)* }
    ) => {
        #[async_trait]
        impl SessionService for Sessions {
            $(async fn $method(
                &self,
                request: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                let (metadata, _, request) = request.into_parts();
                self.answer(self.$serve(&metadata.into_headers(), request))
            })*

            $(async fn $later(
                &self,
                _: Request<proto::$later_request>,
            ) -> Result<Response<proto::$later_response>, Status> {
                self.not_yet($call)
            })*
        }
    };
}

serve! {
    served {
    get_session_info(GetSessionInfoRequest) -> GetSessionInfoResponse by get_info;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse by list;
    open_shared_session(OpenSharedSessionRequest) -> OpenSharedSessionResponse by open_shared;
    update_session(UpdateSessionRequest) -> UpdateSessionResponse by update;
    join_session(JoinSessionRequest) -> JoinSessionResponse by join;
    leave_session(LeaveSessionRequest) -> LeaveSessionResponse by leave;
    delete_session(DeleteSessionRequest) -> DeleteSessionResponse by delete;
    set_user_props(SetUserPropsRequest) -> SetUserPropsResponse by set_props;
        set_session_data(SetSessionDataRequest) -> SetSessionDataResponse by set_data;
        set_role(SetRoleRequest) -> SetRoleResponse by set_role;
        kick_user(KickUserRequest) -> KickUserResponse by kick;
        ban_user(BanUserRequest) -> BanUserResponse by ban;
        unban_user(UnbanUserRequest) -> UnbanUserResponse by unban;
        swap_host(SwapHostRequest) -> SwapHostResponse by swap_host;
        get_first_match(GetFirstMatchRequest) -> GetFirstMatchResponse by first_match;
        get_updated_user_data(GetUpdatedUserDataRequest) -> GetUpdatedUserDataResponse
            by updated_user_data;
        transmit_session_updates(TransmitSessionUpdatesRequest) -> TransmitSessionUpdatesResponse
            by transmit;
    }
    not_yet {
        open_private_session(OpenPrivateSessionRequest) -> OpenPrivateSessionResponse:
            "OpenPrivateSession";
        reset_session(ResetSessionRequest) -> ResetSessionResponse: "ResetSession";
    }
}

/// A page that grows until it is full.
struct Listing {
    reply: proto::ListSessionsResponse,
    size: usize,
    bytes: usize,
}

impl Listing {
    fn new(size: usize) -> Self {
        Self { reply: proto::ListSessionsResponse::default(), size, bytes: 256 }
    }

    /// Adds a session that the actor may know of; false = the page is full, and the next one begins
    /// with this session.
    fn add(&mut self, live: &Live, actor: &Actor) -> bool {
        let state = live.lock();
        if !state.core.is_visible_to(actor) {
            return true;
        }
        let info = to_proto::session_summary(&state);
        let bytes = info.encoded_len() + 8;
        let sessions = &mut self.reply.sessions;
        let too_large = self.bytes + bytes > MAX_MESSAGE_BYTES && !sessions.is_empty();
        if sessions.len() == self.size || too_large {
            let last = sessions.last().map(|last| last.session_id.clone());
            self.reply.next_page_token = last.unwrap_or_default();
            return false;
        }
        self.bytes += bytes;
        sessions.push(info);
        true
    }
}
