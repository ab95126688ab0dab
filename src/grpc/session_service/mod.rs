//! The unary calls. Each passes the door, asks the engine, and answers.

mod members;
mod missing;
mod private;
mod seats;
mod sessions;
mod writes;

use super::{
    Context,
    caller::Caller,
    convert::{door::Door, to_proto},
    encode::MAX_MESSAGE_BYTES,
    once::Once,
    passwords, room,
    status::about::{About, Asks, Subject},
};
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{App, Live, Position, Scope, SessionKey},
    proto::{self, session_service_server::SessionService},
    session::{
        access::{Act, Standing},
        command::{Actor, Command},
        ids::AppId,
    },
};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// Serves `SessionService`.
#[derive(Debug)]
pub struct Sessions(pub Context);

impl Sessions {
    fn answer<T: Message>(
        &self,
        app: &str,
        about: About,
        (call, outcome): (Option<Arc<App>>, Result<T, Refusal>),
    ) -> Result<Response<T>, Status> {
        let reply = outcome.and_then(|reply| {
            let bytes = reply.encoded_len();
            if bytes > MAX_MESSAGE_BYTES {
                return Err(Refusal::ReplyTooLarge { most: MAX_MESSAGE_BYTES });
            }
            if let Some(app) = &call {
                self.0.end_call(app, bytes);
            }
            Ok(reply)
        });
        reply.map(Response::new).map_err(|refusal| {
            let about = self.known(app, about, &refusal);
            self.0.node.status_about(&refusal, &about)
        })
    }

    /// What a refusal also tells of the session that the caller may know of.
    fn known(&self, app: &str, about: About, refusal: &Refusal) -> About {
        let (
            Refusal::Rules(Rule::RoleTooLow { .. }) | Refusal::Rules(Rule::UnknownPosition),
            Subject::Id(id),
        ) = (refusal, &about.session)
        else {
            return about;
        };
        let limits = &self.0.limits;
        let mut door = Door::new(limits);
        let (app, id) = (door.app_in("app", app), door.session("session_id", id));
        let user = door.user("user_id", &about.user);
        let Ok((id, user)) = door.close_with(|| id.zip(user)) else { return about };
        let actor = Actor::of(&user);
        let Ok(live) = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor) else {
            return about;
        };
        let state = live.lock();
        let role = match state.core.standing(&actor) {
            Standing::Joined(role) | Standing::Away(role) => Some(role),
            _ => None,
        };
        let (epoch, revision) = (state.core.epoch(), state.revision());
        About { role, at: Some(to_proto::position(Position { epoch, revision })), ..about }
    }

    /// The session that a read asks for, once it shows the frame that it asks for; whether the
    /// actor is in, where it has to be `inside`, is looked at before the wait, and by the caller
    /// after it.
    async fn read(
        &self,
        app: &AppId,
        key: &SessionKey,
        actor: &Actor,
        inside: bool,
        min_position: Option<Position>,
    ) -> Result<Arc<Live>, Refusal> {
        let live = self.0.engine.find(app, Some(key), actor)?;
        let Some(position) = min_position else { return Ok(live) };
        if inside {
            live.lock().core.check(actor, Act::Receive)?;
        }
        self.0.engine.framed(&live, position).await?;
        room::wait().await;
        let is_visible = live.lock().is_visible_to(actor);
        if is_visible { Ok(live) } else { Err(Refusal::NOT_FOUND) }
    }

    /// A command of one user to one session.
    async fn command(
        &self,
        caller: &Caller,
        (app, session, user): (&str, &str, &str),
        once: Once,
        command: impl FnOnce(&mut Door<'_>, Option<&Actor>) -> Option<Command>,
    ) -> Result<proto::Position, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, app, user);
        door.once(&once);
        let id = door.session("session_id", session);
        let command = command(&mut door, actor.as_ref());
        let (actor, id, command) = door.close_with(|| Some((actor?, id?, command?)))?;
        if let (Actor::User(user), Command::SetData { .. }) = (&actor, &command) {
            self.0.engine.take_update(&app, user)?;
        }
        // What ends a session, as its last member does by leaving, is remembered apart from it.
        let ends = matches!(command, Command::Delete | Command::Leave { .. });
        let scope = Scope::new(&app, (!ends).then_some(&id), &actor);
        let scope = scope.about(id.clone());
        let is_stored = command.is_stored_at_once();
        let act = async {
            let live = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor)?;
            let bearer = caller.grant.bearer();
            let command = self.0.judge_command(&live, &actor, command, &bearer).await?;
            Ok(to_proto::position(self.0.engine.command(&live, &actor, command)?))
        };
        let position = self.0.once(once, &scope, act).await?;
        if is_stored {
            self.0.stored(&app, session).await;
        }
        Ok(position)
    }
}

macro_rules! serve {
    (
        served { $($method:ident($request:ident) -> $response:ident by $serve:ident;)* }
        served_to_peer {
            $($peered:ident($peer_request:ident) -> $peer_response:ident by $serve_peer:ident;)*
        }
    ) => {
        #[async_trait]
        impl SessionService for Sessions {
            $(async fn $method(
                &self,
                request: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                let (metadata, extensions, request) = request.into_parts();
                let (app, about) = (request.app.clone(), request.about());
                let caller = Caller::of(metadata.as_ref(), &extensions);
                let own = self.0.acting_by(&caller.grant).map(Sessions);
                let service = own.as_ref().unwrap_or(self);
                let outcome = match self.0.begin_call(&caller, &extensions, &app) {
                    Ok(call) => (call, service.$serve(&caller, request).await),
                    Err(refusal) => (None, Err(refusal)),
                };
                self.answer(&app, about, outcome)
            })*

            $(async fn $peered(
                &self,
                request: Request<proto::$peer_request>,
            ) -> Result<Response<proto::$peer_response>, Status> {
                let (metadata, extensions, request) = request.into_parts();
                let caller = Caller::of(metadata.as_ref(), &extensions);
                let peer = passwords::peer(&extensions);
                let (app, about) = (request.app.clone(), request.about());
                let own = self.0.acting_by(&caller.grant).map(Sessions);
                let service = own.as_ref().unwrap_or(self);
                let outcome = match self.0.begin_call(&caller, &extensions, &app) {
                    Ok(call) => (call, service.$serve_peer(&caller, peer, request).await),
                    Err(refusal) => (None, Err(refusal)),
                };
                self.answer(&app, about, outcome)
            })*
        }
    };
}

serve! {
    served {
        get_session_info(GetSessionInfoRequest) -> GetSessionInfoResponse by get_info;
        list_sessions(ListSessionsRequest) -> ListSessionsResponse by list;
        open_private_session(OpenPrivateSessionRequest) -> OpenPrivateSessionResponse
            by open_private;
        reset_session(ResetSessionRequest) -> ResetSessionResponse by reset;
        reserve_seats(ReserveSeatsRequest) -> ReserveSeatsResponse by reserve_seats;
        release_seats(ReleaseSeatsRequest) -> ReleaseSeatsResponse by release_seats;
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
    served_to_peer {
        open_shared_session(OpenSharedSessionRequest) -> OpenSharedSessionResponse by open_shared;
        join_session(JoinSessionRequest) -> JoinSessionResponse by join;
        update_session(UpdateSessionRequest) -> UpdateSessionResponse by update;
    }
}
