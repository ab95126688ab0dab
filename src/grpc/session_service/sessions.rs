//! Sessions: found, opened, changed, ended.

use super::Sessions;
use crate::grpc::error::Refusal;
use crate::{
    engine::{Order, Peer, Place, Query, Scope, SessionKey, State},
    grpc::{
        Context,
        caller::Caller,
        convert::{door::Door, to_proto},
        encode::MAX_MESSAGE_BYTES,
        new_session_id,
        once::Once,
    },
    proto,
    session::{
        Opening,
        access::{Act, Standing},
        command::{Actor, Command, Join},
        epoch::Epoch,
        ids::{AppId, SessionId, UserId},
        settings::{Kind, Setting},
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use prost::Message;

impl Sessions {
    pub(super) async fn get_info(
        &self,
        caller: &Caller,
        request: proto::GetSessionInfoRequest,
    ) -> Result<proto::GetSessionInfoResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let min = request.min_position.map(|min| door.position("min_position", min));
        let named = door.session_or_name(&request.session_id, &request.name);
        let (actor, named) = door.close_with(|| Some((actor?, named?)))?;
        let live = self.read(&app, &named, &actor, false, min).await?;
        let state = self.0.engine.shown(&live).await?;
        let session = &state.core;
        let inside = session.standing(&actor) != Standing::Outsider;
        Ok(proto::GetSessionInfoResponse {
            session: Some(to_proto::session_summary(&state, &actor)),
            members: if inside { to_proto::members(session) } else { Vec::new() },
            bans: session
                .bans(self.0.engine.clock().now(), &actor)
                .iter()
                .map(|(user, ban)| to_proto::ban(user, ban))
                .collect(),
            position: Some(proto::Position {
                epoch: session.epoch().0,
                revision: session.revision().0,
            }),
        })
    }

    pub(super) async fn list(
        &self,
        caller: &Caller,
        request: proto::ListSessionsRequest,
    ) -> Result<proto::ListSessionsResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let member = door.optional_user("member_id", &request.member_id);
        let name = (!request.name.is_empty()).then(|| door.named("name", &request.name)).flatten();
        let filter = door.filter("filter", &request.filter);
        let order = door.order("order", request.order);
        let token = &request.page_token;
        let after = after_token(token, order);
        if after.is_none() && !token.is_empty() {
            door.fault("page_token", "is no next_page_token of ListSessions in this order");
        }
        let size = door.page_size("page_size", request.page_size);
        let actor = door.close_with(|| actor)?;
        let mut page = Listing::new(size);
        let query = Query { member: member.as_ref(), filter: filter.as_ref(), order };
        let add = |state: &State| page.add(state, &actor);
        let next = match name {
            Some(name) => {
                self.0.engine.list_named((&app, &actor), name, query, after, add);
                None
            }
            None => self.0.engine.list((&app, &actor), query, after, add),
        };
        page.reply.next_page_token = next.map(|place| token_after(&place)).unwrap_or_default();
        Ok(page.reply)
    }

    pub(super) async fn open_shared(
        &self,
        caller: &Caller,
        peer: Peer,
        mut request: proto::OpenSharedSessionRequest,
    ) -> Result<proto::OpenSharedSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app) = self.0.door(caller, &request.app);
        door.once(&once);
        let get_if_exists = request.get_if_exists;
        let (names_id, names_user) = (!request.session_id.is_empty(), !request.user_id.is_empty());
        let password = door.new_password(request.settings.as_ref());
        let given = door.given("join", request.join.as_ref());
        let joins = request.join.is_some();
        let actor = door.actor_or_new(caller, "user_id", &request.user_id, joins);
        let join = request.join.take().map(|join| door.join("join", join, false));
        if join.as_ref().is_some_and(|join| join.spectator) {
            door.fault("join.spectator", "the opener owns the session and is no spectator");
        }
        if !names_id {
            // The id of a new session is in no credential.
            door.reaches_other_sessions();
        }
        let opener = match &actor {
            Some(Actor::User(user)) => Some((user.id().clone(), join.unwrap_or_default())),
            _ => None,
        };
        let opening = self.0.opening(&mut door, app.clone(), request, opener);
        let actor = door.close_with(|| actor)?;
        let id = names_id.then_some(&opening.id);
        let scope = match &actor {
            Actor::User(_) if !names_user => Scope::of_join(&app, id, None),
            actor => Scope::new(&app, id, actor),
        };
        let scope = scope.about(opening.id.clone());
        let bearer = caller.grant.bearer();
        let act = async {
            let who = (&actor, &bearer);
            let (joined, existed) =
                self.0.open(opening, get_if_exists, password, (given, peer), who).await?;
            let state = joined.live.lock();
            Ok(proto::OpenSharedSessionResponse {
                session: Some(to_proto::session_summary(&state, &actor)),
                user_id: match &actor {
                    Actor::User(user) => user.to_string(),
                    Actor::App => String::new(),
                },
                position: Some(to_proto::position(joined.position)),
                existed,
            })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, session_id(&reply.session)).await;
        Ok(reply)
    }

    pub(super) async fn update(
        &self,
        caller: &Caller,
        peer: Peer,
        mut request: proto::UpdateSessionRequest,
    ) -> Result<proto::UpdateSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let id = door.session("session_id", &request.session_id);
        let key = id.clone().map(SessionKey::Id);
        let found = actor.as_ref().map(|actor| self.0.engine.find(&app, key.as_ref(), actor));
        let live = found.as_ref().and_then(|found| found.as_ref().ok());
        // Which settings there are depends on the kind of the session, where there is one.
        let kind = live.map_or(Kind::Hosted, |live| live.lock().core.kind());
        let base = self.0.engine.default_session();
        let wire = request.settings.unwrap_or_default();
        let is_named = |mask: &prost_types::FieldMask| mask.paths.iter().any(|it| it == "password");
        let new_password = request.update_mask.as_ref().is_some_and(is_named);
        let new_password = new_password.then(|| door.new_password(Some(&wire)));
        let mut changes = door.settings_update(kind, &wire, request.update_mask, &base);
        let (actor, id, found) = door.close_with(|| Some((actor?, id?, found?)))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            let live = found?;
            if let Some(password) = new_password {
                // Nothing is hashed for a user who may not set it.
                live.lock().core.check(&actor, Act::Update)?;
                let hash = match password {
                    Some(password) => {
                        let app = self.0.engine.app(&app);
                        Some(self.0.passwords.hash(app, password, peer).await?)
                    }
                    None => None,
                };
                changes.push(Setting::Password(hash));
            }
            let position = self.0.engine.update(&live, &actor, changes)?;
            let state = live.lock();
            Ok(proto::UpdateSessionResponse {
                settings: Some(to_proto::settings(&state.core.accepted_info().settings)),
                position: Some(to_proto::position(position)),
            })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, &request.session_id).await;
        Ok(reply)
    }

    pub(super) async fn reset(
        &self,
        caller: &Caller,
        mut request: proto::ResetSessionRequest,
    ) -> Result<proto::ResetSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let id = door.session("session_id", &request.session_id);
        let schema = door.schema("schema", request.schema);
        let (actor, id) = door.close_with(|| actor.zip(id))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            // Everybody is sent everything again, so it is bounded like writes are.
            if let Actor::User(user) = &actor {
                self.0.engine.take_update(&app, user)?;
            }
            let live = self.0.engine.find(&app, Some(&SessionKey::Id(id)), &actor)?;
            let position = self.0.engine.reset(&live, &actor, schema).await?;
            Ok(proto::ResetSessionResponse { position: Some(to_proto::position(position)) })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, &request.session_id).await;
        Ok(reply)
    }

    pub(super) async fn delete(
        &self,
        caller: &Caller,
        mut request: proto::DeleteSessionRequest,
    ) -> Result<proto::DeleteSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let whose = (&*request.app, &*request.session_id, &*request.user_id);
        let command = |_: &mut Door<'_>, _: Option<&Actor>| Some(Command::Delete);
        self.command(caller, whose, once, command).await?;
        Ok(proto::DeleteSessionResponse {})
    }
}

impl Context {
    /// What is needed to open a shared session.
    pub(super) fn opening(
        &self,
        door: &mut Door<'_>,
        app: AppId,
        request: proto::OpenSharedSessionRequest,
        opener: Option<(UserId, Join)>,
    ) -> Opening {
        let id = match request.session_id.as_str() {
            "" => None,
            id => door.session("session_id", id),
        };
        if request.get_if_exists && request.session_id.is_empty() {
            door.fault("get_if_exists", "needs a session_id");
        }
        if opener.is_some() {
            door.gives_ownership();
        }
        let kind = door.kind(request.kind);
        let mut wire = request.settings.unwrap_or_default();
        door.profile(request.profile, &mut wire, request.schema.is_some());
        let settings = door.settings(kind, &wire, self.engine.default_session());
        let schema = door.schema("schema", request.schema);
        let data = door.values("data", request.data);
        let private_data = door.values("private_data", request.private_data);
        let now = self.engine.clock().now();
        let (roles, users, bans) = (request.roles, request.users, request.bans);
        if !users.is_empty() {
            door.acts_on_users();
        }
        let user = opener.as_ref().map(|(user, _)| user);
        let people = door.people(now, user, (roles, users, bans));
        let id = id.unwrap_or_else(new_session_id);
        Opening {
            opener,
            people,
            data,
            private_data,
            schema,
            ..Opening::new(app, id, kind, settings)
        }
    }
}

/// The id of a session that a reply tells of.
pub(super) fn session_id(session: &Option<proto::SessionInfo>) -> &str {
    session.as_ref().map(|session| &*session.session_id).unwrap_or_default()
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
    fn add(&mut self, state: &State, actor: &Actor) -> bool {
        let sessions = &mut self.reply.sessions;
        if sessions.len() == self.size {
            return false;
        }
        let info = to_proto::session_summary(state, actor);
        let bytes = info.encoded_len() + 8;
        if self.bytes + bytes > MAX_MESSAGE_BYTES && !sessions.is_empty() {
            return false;
        }
        self.bytes += bytes;
        sessions.push(info);
        true
    }
}

/// What the bytes of a token begin with: the version of its form, which says its order too.
const BY_ID: u8 = 1;
const BY_EPOCH: u8 = 2;

/// The token of the page that goes on behind a place: not for clients to read or make.
fn token_after(place: &Place) -> String {
    BASE64.encode(match place {
        Place::Id(id) => [&[BY_ID], id.as_bytes()].concat(),
        Place::Epoch(epoch) => [&[BY_EPOCH], &epoch.0.to_be_bytes()[..]].concat(),
    })
}

/// Behind which place the page of a token goes on; none for what is no token of this order.
fn after_token(token: &str, order: Order) -> Option<Place> {
    let bytes = BASE64.decode(token).ok()?;
    match (bytes.split_first()?, order) {
        ((&BY_ID, id), Order::Id) => SessionId::new(str::from_utf8(id).ok()?).ok().map(Place::Id),
        ((&BY_EPOCH, epoch), Order::Oldest | Order::Newest) => {
            Some(Place::Epoch(Epoch(u64::from_be_bytes(epoch.try_into().ok()?))))
        }
        _ => None,
    }
}
