//! ReceiveSessionUpdates: all sessions of one user, those that it joins later too.

use super::{
    Server,
    bundle::Bundle,
    compose::compose,
    ending::Ending,
    feed::farewell,
    feeds::Feeds,
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
    wanted::Wanted,
};
use crate::grpc::{
    error::Refusal,
    status::about::{About, Asks},
    weight::decode,
};
use crate::{
    engine::{End, Follower, Options, Resume, SessionKey, asked::Bearer},
    grpc::convert::door::path,
    proto,
    session::{command::Actor, ids::SessionId},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashSet},
    task::Poll,
};

/// The stream of one call.
#[derive(Debug)]
pub struct ReceiveSessionUpdates {
    user: Follower,
    actor: Actor,
    bearer: Bearer,
    options: Options,
    /// Where the client continues. What is left once the first sessions are there is not among them.
    resume: BTreeMap<SessionId, Resume>,
    /// How many subscriptions there were.
    places: usize,
}

impl ReceiveSessionUpdates {
    /// Subscribes to those sessions of the user that the stream does not carry yet.
    fn take_in(&mut self, server: &Server, bundle: &mut Bundle, sessions: Vec<SessionId>) {
        let app = &self.user.stream().app;
        let carried: HashSet<SessionId> =
            bundle.feeds().map(|it| it.feed.live().id.clone()).collect();
        for id in sessions.into_iter().filter(|id| !carried.contains(id)) {
            let options = Options { resume: self.resume.remove(&id), ..self.options.clone() };
            let live = server.engine.find(app, Some(&SessionKey::Id(id.clone())), &self.actor);
            let feed = live.map_err(Refusal::from);
            let feed = feed.and_then(|live| {
                let user = &self.user.stream().user;
                let judged = server.judge_followed(&live, user, &self.bearer)?;
                let wanted = Wanted::of(&live, self.actor.clone(), options).judged(judged);
                wanted.feed_sometime(server, app)
            });
            // A user who is not let in has just gone, or the session has, or a rule keeps it from
            // the user.
            let Ok((feed, _)) = feed else { continue };
            bundle.add(self.places, feed, 0, Some(id));
            self.places += 1;
        }
        for (id, at) in std::mem::take(&mut self.resume) {
            let key = SessionKey::Id(id.clone());
            let end = match server.engine.find(app, Some(&key), &self.actor) {
                Ok(_) => End::Left,
                Err(_) => End::Deleted,
            };
            bundle.announce(farewell(at, &Ending::new(server, end.into())), id);
        }
    }
}

impl Call for ReceiveSessionUpdates {
    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, seat, .. } = opening;
        let bytes = message.len();
        let request: proto::ReceiveSessionUpdatesRequest = decode(message)?;
        let (mut door, app, actor) = server.enter(&caller, &request.app, &request.user_id);
        let user = door.user_of("user_id", actor.as_ref());
        let options = door.delivery("options", &request.options.unwrap_or_default());
        let mut resume = BTreeMap::new();
        for (id, at) in request.resume {
            let field = path("resume", &id);
            let at = door.resume(&field, at);
            if let Some(id) = door.session(&field, &id) {
                resume.insert(id, at);
            }
        }
        let (actor, user) = door.close_with(|| actor.zip(user))?;
        let bearer = caller.grant.bearer();
        let in_app = server.begin_stream(&app, bytes)?;
        server.judge_following(&app, &user, &bearer).await?;
        let user = server.engine.user_stream(&app, &user)?.follow();
        let call = Self { user, actor, bearer, options, resume, places: 0 };
        Ok((call, Feeds::none(&server, seat), in_app))
    }

    fn tend(&mut self, server: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        let Feeds::Several(bundle) = &mut *moment.feeds else { return None };
        if bundle.take_lost() {
            // It may have been joined again before its end was reported.
            self.user.look_again();
        }
        while let Poll::Ready(sessions) = self.user.poll_sessions(moment.cx) {
            self.take_in(server, bundle, sessions);
        }
        None
    }

    fn about(message: Bytes) -> About {
        decode(message)
            .map_or_else(|_| About::default(), |it: proto::ReceiveSessionUpdatesRequest| it.about())
    }

    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        let go_away = match occasion {
            Occasion::End(ending) => Some(ending.go_away()),
            Occasion::News if feeds.updates().is_empty() => return None,
            Occasion::News | Occasion::Alive => None,
        };
        let rest = proto::ReceiveSessionUpdatesResponse { updates: Vec::new(), go_away };
        Some(compose(feeds.updates(), &rest))
    }
}
