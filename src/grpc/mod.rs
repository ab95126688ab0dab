//! The counter: the only room that knows tonic and prost. Requests become commands, frames become
//! bytes, refusals become statuses.

mod addressee;
mod admin_service;
mod apps;
pub mod caller;
mod codec;
pub mod compression;
pub mod convert;
pub mod delivery;

pub mod encode;
mod entrance;
pub mod error;
/// The numbers of all fields, as `message::FIELD`.
#[allow(dead_code, clippy::module_inception)]
mod field {
    include!(concat!(env!("OUT_DIR"), "/field.rs"));
}
mod hooks;
mod judging;
mod leaving;
mod object_stream_service;
mod objects;
mod once;
mod passwords;
mod permits;
mod revoking;
pub mod room;
mod runs;
mod session_service;
pub mod status;
pub mod weight;
mod wire;

pub use addressee::app_of;
pub use admin_service::Admin;
pub use apps::RequestBytes;
pub use codec::Codec;
pub use entrance::Entrance;
pub use leaving::Leaving;
pub use object_stream_service::ObjectStreams;
pub use objects::Objects;
pub use revoking::Revoking;
pub use runs::Runs;
pub use session_service::Sessions;

use crate::session::error::Refusal as Rule;
use crate::{
    cluster::Nodes,
    engine::{
        self, Engine, Joined, Passwords, Reply, Scope, SessionKey, WriteOutcome, asked::Bearer,
    },
    identity::Grant,
    policy::InForce,
    session::{
        Opening,
        command::{Actor, Command, Join},
        ids::{AppId, SessionId, UserId},
        limits::{Limits, Micros},
        private::{Pair, Private},
        role::Role,
    },
};
use caller::{APP_METADATA, Caller};
use convert::door::{Door, PropsWrite};
use error::Uncovered;
use once::Once;
use status::Node;
use std::{ops::Deref, sync::Arc};
use tokio_util::sync::CancellationToken;

/// How often a request is judged again because the session began again meanwhile.
const LOOKS: usize = 8;

/// The metadata of every response that names the node.
pub const NODE_METADATA: &str = "sessiond-node";

/// What every call needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// Sessions and users, as the caller handles them.
    pub engine: Engine,
    /// What is the same for everybody.
    pub shared: Arc<Shared>,
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What all calls share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The object streams.
    pub objects: Arc<Objects>,
    /// Lets callers in.
    pub entrance: Entrance,
    /// Whether reflection tells which calls there are.
    pub reflection: bool,
    /// Hashes and compares passwords.
    pub passwords: Arc<Passwords>,
    /// What must be true of what users ask for, and who has a say in it.
    pub policy: Arc<InForce>,
    /// The bounds of what comes in.
    pub limits: Arc<Limits>,
    /// Who answers.
    pub node: Arc<Node>,
    /// How streams are served.
    pub streams: StreamSettings,
    /// Whether a listener may open a private session without the source's doing.
    pub open_subscriptions: bool,
    /// The cluster that the server is a node of; none = it is alone.
    pub nodes: Option<Arc<dyn Nodes>>,
    /// The server is about to stop: gateways learn of it.
    pub leaving: Leaving,
    /// The server is stopping: streams that no session ends end by this.
    pub stopping: CancellationToken,
}

/// How streams are served.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// The largest message up, in bytes.
    pub max_request_bytes: usize,
    /// The largest message up of a gateway, in bytes.
    pub max_gateway_bytes: usize,
    /// How many users a gateway may have attached.
    pub max_gateway_users: usize,
    /// How long before a stop gateways learn of it.
    pub drain_notice: Micros,
    /// A stream says that it is alive after so long without anything else to say.
    pub heartbeat: Micros,
    /// A client that can be sent nothing for so long does not read: the call ends.
    pub slow_limit: Micros,
    /// The first message of a call has to be there after so long.
    pub first_message: Micros,
    /// Streams end at this age, less up to a tenth; none = never.
    pub max_age: Option<Micros>,
    /// Over how long the clients of a stopping server spread their return.
    pub drain_spread: Micros,
}

impl Context {
    /// The same for the bearer of a credential: what is done is noted as done with that. None if there
    /// is no credential.
    fn acting_by(&self, grant: &Grant) -> Option<Self> {
        let credential = caller::credential(grant)?;
        let engine = self.engine.acting_by(Arc::new(credential));
        Some(Self { engine, shared: self.shared.clone() })
    }

    /// Begins to check a request: its app, and as whom it acts.
    fn enter<'a>(
        &'a self,
        caller: &'a Caller,
        app: &str,
        user_id: &str,
    ) -> (Door<'a>, AppId, Option<Actor>) {
        let (mut door, app) = self.door(caller, app);
        let actor = door.actor(caller, "user_id", user_id);
        (door, app, actor)
    }

    /// The same of a request that has its own way to say as whom it acts.
    fn door<'a>(&'a self, caller: &'a Caller, app: &str) -> (Door<'a>, AppId) {
        self.door_in(caller, "app", app)
    }

    /// The same where the app stands in a field of another path. A client that names the app in its
    /// metadata must name the one of the request.
    fn door_in<'a>(&'a self, caller: &'a Caller, field: &str, app: &str) -> (Door<'a>, AppId) {
        let mut door = Door::of(&self.limits, &caller.grant);
        let app = door.app_in(field, app);
        if !caller.grant.allows_app(&app) {
            door.deny(Uncovered::App);
        }
        if caller.names_other_app(&app) {
            door.fault(field, format!("the metadata {APP_METADATA} names another app"));
        }
        (door, app)
    }
}

impl Context {
    /// Writes a user's props, on the user or in the sessions named; the caller has taken the update
    /// out of the user's bucket. What became of it in each session; refused as a whole if it does
    /// not fit the user. A session, or the user, that took it before under the same request id is
    /// not written again.
    fn write_props(
        &self,
        app: &AppId,
        actor: &Actor,
        user: &UserId,
        write: PropsWrite,
    ) -> Result<Vec<WriteOutcome>, engine::Refusal> {
        let PropsWrite { write, sessions, term, once: Once(request), durable, judgements } = write;
        if durable && !self.engine.has_store() {
            return Err(engine::Refusal::NoStore);
        }
        let request = request.map(|request| request.about(user));
        if sessions.is_empty() {
            if let Actor::User(acting) = actor
                && acting.limit(Role::Owner) < Role::Member
            {
                return Err(Rule::RoleTooLow { needs: Role::Member }.into());
            }
            let act = || self.engine.write_user(app, user, &write);
            let Some(request) = request else { return act() };
            let scope = Scope::of_user(app, user, actor);
            let act = || Ok(Reply::OnUser(act()?.into()));
            return match self.engine.once(&scope, request, act)? {
                Reply::OnUser(outcomes) => Ok(outcomes.to_vec()),
                _ => Err(engine::Refusal::RequestIdReused { field: "write.request_id" }),
            };
        }
        self.engine.owe_updates(app, user, sessions.len());
        let one = |id: SessionId| {
            let act = || {
                let live = self.engine.find(app, Some(&SessionKey::Id(id.clone())), actor)?;
                if durable {
                    self.engine.check_stored(&live)?;
                }
                let write = judgements.get(&id).cloned().unwrap_or_else(|| Ok(write.clone()))?;
                let user = user.clone();
                let command = Command::SetProps { user, write, term };
                self.engine.command(&live, actor, command)
            };
            let outcome = match request.clone() {
                None => act(),
                Some(request) => {
                    let scope = Scope::new(app, Some(&id), actor);
                    let act = || Ok(Reply::Written(act()?));
                    self.engine.once(&scope, request, act).and_then(|reply| match reply {
                        Reply::Written(position) => Ok(position),
                        _ => Err(engine::Refusal::RequestIdReused { field: "write.request_id" }),
                    })
                }
            };
            (id, outcome)
        };
        Ok(sessions.into_iter().map(one).collect())
    }
}

impl Context {
    /// Waits until a write is stored in the sessions that took it, and on the user where it is made
    /// on that.
    fn write_stored(
        &self,
        app: &AppId,
        sessions: Vec<SessionId>,
        is_on_user: bool,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (engine, app) = (self.engine.clone(), app.clone());
        let find = |id| engine.find(&app, Some(&SessionKey::Id(id)), &Actor::App).ok();
        let sessions: Vec<_> = sessions.into_iter().filter_map(find).collect();
        // It is said now that somebody waits.
        for live in &sessions {
            engine.want_stored(live);
        }
        async move {
            for live in &sessions {
                engine.stored(live).await;
            }
            if is_on_user {
                engine.all_stored().await;
            }
        }
    }
}

impl Context {
    /// Opens or finds the private session of a pair for the one who asks: its source, its listener,
    /// or the app, which opens it for the listener. A user who opens it joins it.
    async fn open_private(
        &self,
        bearer: &Bearer,
        actor: &Actor,
        opening: Opening,
        mut private: Private,
        is_stream: bool,
    ) -> Result<(Joined, bool), engine::Refusal> {
        let Pair { source, listener } = &private.pair;
        let joins = match actor {
            Actor::App => listener,
            Actor::User(user) if user.id() == source || user.id() == listener => user.id(),
            Actor::User(_) => return Err(Rule::NotOfThePair.into()),
        };
        let has_consent = *actor == Actor::App || joins == source || self.open_subscriptions;
        let join = Join { is_stream, is_by_app: *actor == Actor::App, ..Join::default() };
        let joins = joins.clone();
        let opening = Opening { opener: Some((joins.clone(), join)), ..opening };
        for _ in 0..LOOKS {
            let mut opening = opening.clone();
            match self.engine.find_private(&opening.app, &private.pair) {
                Some(live) => {
                    if let Some((_, join)) = &mut opening.opener {
                        self.judge_join(&live, &joins, join, bearer).await?;
                    }
                }
                None if has_consent => {
                    self.judge_opening(actor, &mut opening, Some(&mut private), bearer).await?;
                }
                None => {}
            }
            match self.engine.open_private(opening, private.clone(), has_consent) {
                // Somebody was faster, or it has ended: this one was not judged.
                Err(engine::Refusal::Rules(Rule::NotJudged)) => {}
                outcome => return outcome,
            }
        }
        Err(Rule::NotJudged.into())
    }
}

/// A new id of a session.
fn new_session_id() -> SessionId {
    SessionId::new(&uuid::Uuid::new_v4().to_string()).expect("a UUID is an id")
}

/// A new id of a user.
fn new_user_id() -> UserId {
    UserId::new(&uuid::Uuid::new_v4().to_string()).expect("a UUID is an id")
}
