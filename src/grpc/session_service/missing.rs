//! Joining, and opening what is not there to join.

use crate::{
    engine::{Password, Peer, SessionKey, Target},
    grpc::{
        Context,
        convert::door::Door,
        passwords::{Entry, Joining},
    },
    proto,
    session::{
        Opening,
        command::Join,
        ids::{AppId, UserId},
    },
};
use std::sync::Arc;

impl Context {
    /// How a user joins, and what is opened if there is nothing to join. `by_stream` decides the
    /// default presence.
    pub(in crate::grpc) fn entry(
        &self,
        door: &mut Door<'_>,
        (app, user, peer): (&AppId, Option<&UserId>, Peer),
        target: Option<Target>,
        request: &proto::JoinSessionRequest,
        by_stream: bool,
    ) -> Option<Entry> {
        let given = door.given("join", request.join.as_ref());
        let join = door.join("join", request.join.clone().unwrap_or_default(), by_stream);
        let opener = user.map(|user| (user, &join));
        let missing = self.missing(door, request, (app, opener), target.as_ref());
        let (app, user, target) = (app.clone(), user?.clone(), target?);
        Some(Entry::new(Joining { app, target, user, join, given, peer }, missing))
    }

    /// The session to open for a user if there is none to join, with its password. What the request
    /// says itself, its `open_if_missing` need not say again, and must not say otherwise.
    fn missing(
        &self,
        door: &mut Door<'_>,
        request: &proto::JoinSessionRequest,
        (app, opener): (&AppId, Option<(&UserId, &Join)>),
        target: Option<&Target>,
    ) -> Option<(Opening, Option<Password>)> {
        let mut missing = request.open_if_missing.clone()?;
        if request.join.as_ref().is_some_and(|join| join.spectator) {
            door.fault("join.spectator", "who may come to open the session is no spectator");
        }
        door.within("open_if_missing.", |door| {
            let settings = missing.settings.get_or_insert_default();
            if !missing.app.is_empty() && missing.app != **app {
                door.fault("app", "must be empty or as in the request");
            }
            let same = [
                ("user_id", &mut missing.user_id, &request.user_id),
                ("session_id", &mut missing.session_id, &request.session_id),
                ("settings.name", &mut settings.name, &request.name),
            ];
            for (field, inner, outer) in same {
                let is_said = !outer.is_empty() || field == "user_id";
                if is_said && !inner.is_empty() && inner != outer {
                    door.fault(field, "must be empty or as in the request");
                }
                if is_said {
                    inner.clear();
                }
            }
            let said = [
                ("join", missing.join.take().is_some()),
                ("get_if_exists", std::mem::take(&mut missing.get_if_exists)),
                ("request_id", !std::mem::take(&mut missing.request_id).is_empty()),
            ];
            for (field, is_said) in said {
                if is_said {
                    door.fault(field, "must be left to the request itself");
                }
            }
            missing.app.clear();
            let password = door.new_password(missing.settings.as_ref());
            let opener = opener.map(|(user, join)| (user.clone(), join.clone()));
            let mut opening = self.opening(door, app.clone(), missing, opener);
            match target {
                Some(Target::Key(SessionKey::Id(id))) => opening.id = id.clone(),
                Some(Target::Key(SessionKey::Name(name))) => {
                    opening.settings.name = Some(name.clone());
                }
                _ => {}
            }
            Some((opening, password))
        })
    }
}

impl Door<'_> {
    /// Which session to join.
    pub fn target(&mut self, request: &proto::JoinSessionRequest) -> Option<Target> {
        let (id, name) = (&*request.session_id, &*request.name);
        let filter = self.filter("filter", &request.filter);
        if !request.newest {
            if !request.filter.is_empty() {
                self.fault("filter", "chooses among the newest: it needs newest");
            }
            if id.is_empty() && name.is_empty() {
                self.fault("session_id", "must be given, or the name or newest instead");
                return None;
            }
            return self.session_or_name(id, name).map(Target::Key);
        }
        self.reaches_other_sessions();
        if !(id.is_empty() && name.is_empty()) {
            self.fault("newest", "only one of session_id, name and newest may be given");
        }
        Some(Target::Newest(filter.map(Arc::new)))
    }
}
