//! Places that are held for users who are about to join.

use super::Sessions;
use crate::{
    engine::{self, Live, Scope, SessionKey},
    grpc::{
        caller::Caller,
        convert::{door::Door, to_proto},
        error::Refusal,
        once::Once,
    },
    proto,
    session::{
        command::{Actor, Command},
        ids::{AppId, SessionId, UserId},
        limits::SECOND,
        seats::HELD_FOR,
    },
};
use std::{collections::HashSet, sync::Arc};

/// For how many users places are held at once.
const USERS: usize = 1000;

impl Sessions {
    pub(super) async fn reserve_seats(
        &self,
        caller: &Caller,
        mut request: proto::ReserveSeatsRequest,
    ) -> Result<proto::ReserveSeatsResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let id = door.session("session_id", &request.session_id);
        let users = door.seat_users(&request.target_user_ids, actor.as_ref());
        let span = door.span("duration", request.duration, SECOND..=HELD_FOR, 15 * SECOND);
        let (actor, id, users) = door.close_with(|| Some((actor?, id?, users?)))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            if let Some(user) = for_itself(&actor, &users) {
                self.0.engine.take_update(&app, user)?;
            }
            let live = self.with_seats(&app, id, &actor, &users)?;
            let until = self.0.engine.clock().now() + span;
            let reserve = Command::ReserveSeats { users, until };
            self.0.engine.command(&live, &actor, reserve).map_err(of_a_user)?;
            Ok(proto::ReserveSeatsResponse { held_until: Some(to_proto::moment(until)) })
        };
        self.0.once(once, &scope, act).await
    }

    pub(super) async fn release_seats(
        &self,
        caller: &Caller,
        mut request: proto::ReleaseSeatsRequest,
    ) -> Result<proto::ReleaseSeatsResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let id = door.session("session_id", &request.session_id);
        let users = door.seat_users(&request.target_user_ids, actor.as_ref());
        let (actor, id, users) = door.close_with(|| Some((actor?, id?, users?)))?;
        let scope = Scope::new(&app, Some(&id), &actor);
        let act = async {
            let live = self.with_seats(&app, id, &actor, &users)?;
            self.0.engine.command(&live, &actor, Command::ReleaseSeats { users })?;
            Ok(proto::ReleaseSeatsResponse {})
        };
        self.0.once(once, &scope, act).await
    }

    /// The session; a user who asks for itself alone finds it as one who joins does.
    fn with_seats(
        &self,
        app: &AppId,
        id: SessionId,
        actor: &Actor,
        users: &[UserId],
    ) -> Result<Arc<Live>, engine::Refusal> {
        let key = SessionKey::Id(id);
        match for_itself(actor, users) {
            Some(user) => self.0.engine.find_to_join(app, Some(&key), user),
            None => self.0.engine.find(app, Some(&key), actor),
        }
    }
}

/// The user who asks, if it asks for itself alone.
fn for_itself<'a>(actor: &'a Actor, users: &[UserId]) -> Option<&'a UserId> {
    actor.user().filter(|user| matches!(users, [only] if only == *user))
}

/// The refusal, with the field of the user whom it is about.
fn of_a_user(refusal: engine::Refusal) -> Refusal {
    match refusal {
        engine::Refusal::OfUser { at, why } => {
            Refusal::from(*why).of(format!("target_user_ids[{at}]"))
        }
        refusal => refusal.into(),
    }
}

impl Door<'_> {
    /// Whose seats; none named = that of the actor.
    fn seat_users(&mut self, ids: &[String], actor: Option<&Actor>) -> Option<Vec<UserId>> {
        const FIELD: &str = "target_user_ids";
        if ids.is_empty() {
            return match actor? {
                Actor::User(user) => Some(vec![user.id().clone()]),
                Actor::App => {
                    self.fault(FIELD, "must be given: the app itself needs no place");
                    None
                }
            };
        }
        if ids.len() > USERS {
            self.fault(FIELD, format!("has more than {USERS} entries"));
        }
        let mut known = HashSet::new();
        let mut users = Vec::with_capacity(ids.len().min(USERS));
        for (at, id) in ids.iter().enumerate().take(USERS) {
            let field = format!("{FIELD}[{at}]");
            let Some(user) = self.user(&field, id) else { continue };
            if !known.insert(user.clone()) {
                self.fault(field, "is named twice");
            }
            users.push(user);
        }
        Some(users)
    }
}
