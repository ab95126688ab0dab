//! ReceiveSessionUpdates: all sessions of one user, those that it joins later too.

use super::{
    Server,
    bundle::{Bundle, Round},
    compose::compose,
    feed::{Due, Ending, Feed, Timer, farewell},
    hot::{HotStream, Next},
};
use crate::{
    engine::{End, Follower, Options, Resume, SessionKey, UserStream},
    grpc::convert::door::{Door, path},
    proto,
    session::{command::Actor, error::Refusal, ids::SessionId, limits::Micros},
};
use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use std::{
    collections::{BTreeMap, HashSet},
    task::{Context, Poll},
};
use tonic::Status;

/// The stream of one call.
#[derive(Debug)]
pub struct ReceiveSessionUpdates {
    server: Server,
    headers: HeaderMap,
    open: Option<Open>,
    ended: Option<Status>,
}

#[derive(Debug)]
struct Open {
    bundle: Bundle,
    timer: Timer,
    user: Follower,
    actor: Actor,
    options: Options,
    /// Where the client continues. What is left once the first sessions are there is not among them.
    resume: BTreeMap<SessionId, Resume>,
    /// How many subscriptions there were.
    places: usize,
}

impl ReceiveSessionUpdates {
    /// A stream that waits for its request.
    pub fn new(server: Server, headers: HeaderMap) -> Self {
        Self { server, headers, open: None, ended: None }
    }

    fn open(&mut self, request: proto::ReceiveSessionUpdatesRequest) -> Result<Open, Refusal> {
        // Headers are not kept: a stream lives long.
        let headers = std::mem::take(&mut self.headers);
        let mut door = Door::new(&self.server.limits);
        let app = door.app(&request.app);
        let user = door.user("user_id", &request.user_id);
        let options = door.delivery("options", &request.options.unwrap_or_default());
        let mut resume = BTreeMap::new();
        for (id, at) in request.resume {
            let field = path("resume", &id);
            let at = door.resume(&field, at);
            if let Some(id) = door.session(&field, &id) {
                resume.insert(id, at);
            }
        }
        door.close()?;
        self.server.check_app(&headers, &app)?;
        let Some(user) = user else { return Err(Refusal::NotAMember) };
        let stream = self.server.engine.user_stream(&app, &user)?;
        Ok(Open {
            bundle: Bundle::new(&self.server),
            timer: Timer::new(&self.server),
            user: stream.follow(),
            actor: Actor::User(user),
            options,
            resume,
            places: 0,
        })
    }

    fn end(&mut self, end: &Ending) -> Next {
        self.ended = Some(end.status.clone());
        if let Some(mut open) = self.open.take()
            && !end.by_client
        {
            open.bundle.ended_by_server();
        }
        let go_away = Some(end.go_away());
        let rest = proto::ReceiveSessionUpdatesResponse { updates: Vec::new(), go_away };
        Next::Message(compose(&[], &rest))
    }
}

impl Open {
    /// Subscribes to those sessions of the user that the stream does not carry yet.
    fn take_in(&mut self, server: &Server, sessions: Vec<SessionId>) {
        let UserStream { app, user, .. } = self.user.stream();
        let carried: HashSet<SessionId> =
            self.bundle.feeds().map(|(_, _, feed)| feed.live().id.clone()).collect();
        for id in sessions.into_iter().filter(|id| !carried.contains(id)) {
            let options = Options { resume: self.resume.remove(&id), ..self.options.clone() };
            let key = SessionKey::Id(id.clone());
            let subscribed = server
                .engine
                .find(app, Some(&key), &self.actor)
                .and_then(|live| server.engine.subscribe(&live, &self.actor, None, options));
            // Who is not let in has just gone, or the session has.
            let Ok(subscription) = subscribed else { continue };
            let without = self.options.exclude_self.then(|| user.clone());
            let feed = Feed::new(server.clone(), subscription, without);
            self.bundle.add(self.places, feed, 0, Some(id));
            self.places += 1;
        }
        for (id, at) in std::mem::take(&mut self.resume) {
            let key = SessionKey::Id(id.clone());
            let end = match server.engine.find(app, Some(&key), &self.actor) {
                Ok(_) => End::Left,
                Err(_) => End::Deleted,
            };
            self.bundle.announce(farewell(server, at, end), id);
        }
    }
}

impl HotStream for ReceiveSessionUpdates {
    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        if self.open.is_some() {
            let twice = Refusal::Malformed("the call takes one message".to_owned());
            return Err(self.server.node.status(&twice));
        }
        let open = proto::ReceiveSessionUpdatesRequest::decode(message)
            .map_err(|fault| Refusal::Malformed(fault.to_string()))
            .and_then(|request| self.open(request))
            .map_err(|refusal| self.server.node.status(&refusal))?;
        self.open = Some(open);
        Ok(())
    }

    fn closed(&mut self) -> Result<(), Status> {
        if self.open.is_some() {
            return Ok(());
        }
        let none = Refusal::Malformed("the call takes one message, and none came".to_owned());
        Err(self.server.node.status(&none))
    }

    fn unreadable(&mut self, refusal: &Refusal) -> Status {
        self.server.node.status(refusal)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(status) = self.ended.take() {
            return Poll::Ready(Next::End(status));
        }
        loop {
            let Some(open) = &mut self.open else { return Poll::Pending };
            if let Poll::Ready(sessions) = open.user.poll_sessions(cx) {
                open.take_in(&self.server, sessions);
                continue;
            }
            match open.bundle.poll_round(cx) {
                Poll::Ready(Round::Over(end)) => {
                    let end = Ending::new(&self.server, end.into());
                    return Poll::Ready(self.end(&end));
                }
                Poll::Ready(Round::Updates | Round::Quiet) => {
                    let rest = proto::ReceiveSessionUpdatesResponse::default();
                    let message = compose(open.bundle.updates(), &rest);
                    open.bundle.sent(&mut open.timer);
                    if open.bundle.take_lost() {
                        // It may have been joined again before its end was told.
                        open.user.look_again();
                    }
                    return Poll::Ready(Next::Message(message));
                }
                Poll::Pending => {}
            }
            match open.timer.poll(Micros::MAX, cx) {
                Poll::Ready(Due::Heartbeat) if open.bundle.beat() => {}
                Poll::Ready(Due::Heartbeat) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::End(why)) => {
                    let end = Ending::new(&self.server, why);
                    return Poll::Ready(self.end(&end));
                }
            }
        }
    }
}
