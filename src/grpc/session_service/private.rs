//! Private sessions.

use super::{Sessions, sessions::session_id};
use crate::grpc::error::Refusal;
use crate::{
    engine::Scope,
    grpc::{caller::Caller, convert::to_proto, new_session_id, once::Once},
    proto,
    session::{Opening, command::Actor, opening::People, private::Private, settings::Kind},
};

impl Sessions {
    pub(super) async fn open_private(
        &self,
        caller: &Caller,
        mut request: proto::OpenPrivateSessionRequest,
    ) -> Result<proto::OpenPrivateSessionResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let listener = door.user("listener_id", &request.listener_id);
        let pair = door.pair(&request.source_id, "listener_id", listener);
        let id = match request.session_id.as_str() {
            "" => {
                // The id of a new session is in no credential.
                door.reaches_other_sessions();
                None
            }
            id => door.session("session_id", id),
        };
        let wire = request.settings.unwrap_or_default();
        let settings = door.settings(Kind::Private, &wire, self.0.engine.default_session());
        if matches!(actor, Some(Actor::User(_))) {
            door.gives_ownership();
        }
        let people = match (&actor, &pair) {
            (Some(Actor::User(user)), Some(pair)) if *user.id() != pair.source => {
                if !request.roles.is_empty() {
                    door.fault("roles", "only the source or the app itself gives them");
                }
                People::default()
            }
            (Some(Actor::User(source)), _) => {
                door.people(0, Some(source), (request.roles, vec![], vec![]))
            }
            _ => door.people(0, None, (request.roles, vec![], vec![])),
        };
        let schema = door.schema("schema", request.schema);
        let props = door.values("props", request.props);
        let data = door.values("data", request.data);
        let (actor, pair) = door.close_with(|| Some((actor?, pair?)))?;
        let scope = Scope::new(&app, id.as_ref(), &actor);
        let id = id.unwrap_or_else(new_session_id);
        let scope = scope.about(id.clone());
        let bearer = caller.grant.bearer();
        let act = async {
            let private = Private::of(pair, people.owner().cloned(), props);
            let opening = Opening {
                people,
                data,
                schema,
                ..Opening::new(app.clone(), id, Kind::Private, settings)
            };
            let (joined, existed) =
                self.0.open_private(&bearer, &actor, opening, private, false).await?;
            let state = joined.live.lock();
            Ok(proto::OpenPrivateSessionResponse {
                session: Some(to_proto::session_summary(&state, &actor)),
                position: Some(to_proto::position(joined.position)),
                existed,
            })
        };
        let reply = self.0.once(once, &scope, act).await?;
        self.0.stored(&app, session_id(&reply.session)).await;
        Ok(reply)
    }
}
