//! SubscribeToSession and SubscribeToUser: one session, as one user sees it.

use super::{
    Server,
    feed::{Due, Ending, Feed, Said, Timer},
    hot::{HotStream, Next},
    opening::{Joins, Proofs},
};
use crate::{
    engine::{Live, Options, Password, Peer, SessionKey},
    grpc::{
        convert::door::Door,
        encode::{PREFIX, head_len, put_head, put_prefix},
        new_session_id, new_user_id,
        passwords::Claim,
    },
    proto,
    session::{
        Opening,
        command::{Actor, Join, Setting},
        error::Refusal,
        ids::AppId,
        limits::Micros,
        private::Private,
        settings::Kind,
    },
};
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use prost::Message;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tonic::Status;

/// The stream of one call.
#[derive(Debug)]
pub struct Subscribe {
    server: Server,
    headers: HeaderMap,
    proofs: Proofs,
    call: Call,
    open: Option<Open>,
    ended: Option<Status>,
}

/// Which call it is. Their responses begin alike: the update is field 1, what the first message
/// tells is field 2.
#[derive(Debug, Clone, Copy)]
enum Call {
    Session,
    User,
}

#[derive(Debug)]
struct Open {
    feed: Feed,
    timer: Timer,
    /// The user's id, or that of the private session; goes with the first message.
    told: Option<String>,
}

impl Subscribe {
    /// SubscribeToSession, which waits for its request.
    pub fn to_session(server: Server, headers: HeaderMap) -> Self {
        Self::new(server, headers, Call::Session)
    }

    /// SubscribeToUser, which waits for its request.
    pub fn to_user(server: Server, headers: HeaderMap) -> Self {
        Self::new(server, headers, Call::User)
    }

    fn new(server: Server, headers: HeaderMap, call: Call) -> Self {
        Self { server, headers, proofs: Proofs::default(), call, open: None, ended: None }
    }

    fn open(&mut self, message: Bytes) -> Result<Open, Refusal> {
        let malformed = |fault: prost::DecodeError| Refusal::Malformed(fault.to_string());
        // Headers are not kept: a stream lives long.
        let headers = std::mem::take(&mut self.headers);
        let (feed, told) = match self.call {
            Call::Session => {
                let request = proto::SubscribeToSessionRequest::decode(message);
                self.open_session(&headers, request.map_err(malformed)?)?
            }
            Call::User => {
                let request = proto::SubscribeToUserRequest::decode(message);
                self.open_user(&headers, request.map_err(malformed)?)?
            }
        };
        Ok(Open { feed, timer: Timer::new(&self.server), told })
    }

    fn open_session(
        &self,
        headers: &HeaderMap,
        request: proto::SubscribeToSessionRequest,
    ) -> Result<(Feed, Option<String>), Refusal> {
        let (app, subscription) = self.enter(headers, request)?;
        let (feed, actor) = subscription.proven(&self.proofs)?.feed(&self.server, &app)?;
        let told = match actor {
            Actor::User(user) => Some(user.to_string()),
            Actor::App => None,
        };
        Ok((feed, told))
    }

    /// What a request wants, once it has passed the door.
    fn enter(
        &self,
        headers: &HeaderMap,
        request: proto::SubscribeToSessionRequest,
    ) -> Result<(AppId, Wanted), Refusal> {
        let mut door = Door::new(&self.server.limits);
        let app = door.app(&request.app);
        let subscription = Wanted::new(
            &mut door,
            "",
            ("user_id", &request.user_id),
            request.session_id,
            request.join,
            request.options,
            request.resume,
        );
        door.close()?;
        self.server.check_app(headers, &app)?;
        Ok((app, subscription))
    }

    /// Opens the private session, or uses the one that is there, and listens to it.
    fn open_user(
        &self,
        headers: &HeaderMap,
        request: proto::SubscribeToUserRequest,
    ) -> Result<(Feed, Option<String>), Refusal> {
        let mut door = Door::new(&self.server.limits);
        let app = door.app(&request.app);
        let pair = door.pair(&request.source_id, ("user_id", &request.user_id));
        let base = self.server.engine.default_session();
        let mut settings = door.settings(Kind::Private, &proto::SessionSettings::default(), base);
        settings.change(Setting::Propnames(door.keys("propnames", &request.propnames)));
        let join = Some(proto::JoinOptions::default());
        // What is wrong with the user was said with the pair.
        let user = ("user_id", pair.as_ref().map_or("", |_| &*request.user_id));
        let id = new_session_id();
        let mut wanted =
            Wanted::new(&mut door, "", user, id.to_string(), join, request.options, request.resume);
        door.close()?;
        self.server.check_app(headers, &app)?;
        let Some(pair) = pair else { return Err(Refusal::NotOfThePair) };
        loop {
            let (actor, private) =
                (wanted.actor.clone(), Private::of(pair.clone(), None, Vec::new()));
            let opening = Opening::new(app.clone(), id.clone(), Kind::Private, settings.clone());
            let (joined, _) = self.server.open_private(&actor, opening, private, true)?;
            wanted.session = Some(SessionKey::Id(joined.live.id.clone()));
            match wanted.clone().feed(&self.server, &app) {
                // It ended between the two: the next one is another.
                Err(Refusal::SessionNotFound) if joined.live.lock().core.has_ended() => {}
                outcome => return Ok((outcome?.0, Some(joined.live.id.to_string()))),
            }
        }
    }
}

impl Joins for Subscribe {
    fn claims(&self, message: &Bytes, peer: Peer) -> Vec<Claim> {
        // A private session has no password.
        if !matches!(self.call, Call::Session) {
            return Vec::new();
        }
        let request = proto::SubscribeToSessionRequest::decode(message.clone()).ok();
        let wanted = request.and_then(|request| self.enter(&self.headers, request).ok());
        wanted.and_then(|(app, wanted)| wanted.claim(&app, peer)).into_iter().collect()
    }

    fn proven(&mut self, proofs: Proofs) {
        self.proofs = proofs;
    }
}

impl HotStream for Subscribe {
    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        if self.open.is_some() {
            let twice = Refusal::Malformed("the call takes one message".to_owned());
            return Err(self.server.node.status(&twice));
        }
        let open = self.open(message).map_err(|refusal| self.server.node.status(&refusal))?;
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
        let Some(open) = &mut self.open else { return Poll::Pending };
        let said = match open.feed.poll_said(cx) {
            Poll::Ready(said) => said,
            Poll::Pending => match open.timer.poll(Micros::MAX, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Heartbeat) => Said::Update(open.feed.heartbeat()),
                Poll::Ready(Due::End(why)) => {
                    let end = Ending::new(&self.server, why);
                    return Poll::Ready(self.end(&end));
                }
            },
        };
        open.timer.said();
        match said {
            Said::Update(bytes) => Poll::Ready(Next::Message(match open.told.take() {
                Some(told) => with_text(&bytes, 2, &told),
                None => bytes,
            })),
            Said::Quiet => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Said::Ended(end) => {
                let end = open.feed.ending(end);
                Poll::Ready(self.end(&end))
            }
        }
    }
}

impl Subscribe {
    fn end(&mut self, end: &Ending) -> Next {
        let Some(mut open) = self.open.take() else { return Next::End(end.status.clone()) };
        let last = open.feed.ended(end);
        if !end.by_client {
            open.feed.ended_by_server();
        }
        self.ended = Some(end.status.clone());
        Next::Message(last)
    }
}

/// A message with a text field added at its end.
fn with_text(message: &Bytes, tag: u32, text: &str) -> Bytes {
    let content = message.len() - PREFIX + head_len(tag, text.len()) + text.len();
    let mut bytes = BytesMut::with_capacity(PREFIX + content);
    put_prefix(&mut bytes, content);
    bytes.put_slice(&message[PREFIX..]);
    put_head(&mut bytes, tag, text.len());
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

/// A subscription that has passed the door.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The path of what asks for it in the request.
    prefix: String,
    session: Option<SessionKey>,
    actor: Actor,
    join: Option<Join>,
    password: Option<Password>,
    options: Options,
}

impl Wanted {
    /// Checks what a stream says of the session it wants; `prefix` is the path of that message.
    pub fn new(
        door: &mut Door<'_>,
        prefix: &str,
        (user_field, user_id): (&str, &str),
        session_id: String,
        join: Option<proto::JoinOptions>,
        options: Option<proto::DeliveryOptions>,
        resume: Option<proto::Resume>,
    ) -> Self {
        let actor = match (user_id, &join) {
            ("", Some(_)) => Actor::User(new_user_id()),
            (user_id, _) => door.optional_user(user_field, user_id).map_or(Actor::App, Actor::User),
        };
        let session = door.session(&format!("{prefix}session_id"), &session_id);
        let session = session.map(SessionKey::Id);
        let password = door.given(&format!("{prefix}join"), join.as_ref());
        let join = join.map(|join| door.join(&format!("{prefix}join"), join, true));
        let mut options = door.delivery(&format!("{prefix}options"), &options.unwrap_or_default());
        if options.exclude_self && user_id.is_empty() && actor == Actor::App {
            door.fault(format!("{prefix}options.exclude_self"), "needs a user_id");
        }
        options.resume = resume.map(|resume| door.resume(&format!("{prefix}resume"), resume));
        Self { prefix: prefix.to_owned(), session, actor, join, password, options }
    }

    /// How it joins, if it does.
    pub fn join(&self) -> Option<&Join> {
        self.join.as_ref()
    }

    /// The same, for who joins before.
    pub fn take_join(&mut self) -> Option<Join> {
        self.join.take()
    }

    /// The path of what asks for it in the request.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The session, as far as the subscriber may know of it.
    pub fn find(&self, server: &Server, app: &AppId) -> Result<Arc<Live>, Refusal> {
        // Who knows the id of an unlisted session may join it.
        let key = &self.session;
        match &self.actor {
            Actor::User(user) if self.join.is_some() => {
                server.engine.find_to_join(app, key.as_ref(), user)
            }
            actor => server.engine.find(app, key.as_ref(), actor),
        }
    }

    /// The password that was given, if one was.
    pub fn claim(self, app: &AppId, peer: Peer) -> Option<Claim> {
        let Self { session: Some(key), actor: Actor::User(user), join, password, .. } = self else {
            return None;
        };
        Some(Claim { app: app.clone(), key, user, join: join?, password: password?, peer })
    }

    /// The same with what came of the password.
    pub fn proven(mut self, proofs: &Proofs) -> Result<Self, Refusal> {
        let proven = proofs.of(self.session.as_ref())?;
        if let Some(join) = &mut self.join {
            join.proven = proven;
        }
        Ok(self)
    }

    /// Subscribes, joining first where that is wanted.
    pub fn feed(self, server: &Server, app: &AppId) -> Result<(Feed, Actor), Refusal> {
        let live = self.find(server, app)?;
        let Self { prefix, actor, join, options, .. } = self;
        let without = match &actor {
            Actor::User(user) if options.exclude_self => Some(user.clone()),
            _ => None,
        };
        let subscription = server.engine.subscribe(&live, &actor, join, options);
        let subscription = subscription.map_err(|refusal| refusal.within(&prefix))?;
        Ok((Feed::new(server.clone(), subscription, without), actor))
    }
}
