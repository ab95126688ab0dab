//! SubscribeToSession and SubscribeToUser: one session, as one user sees it.

use super::{
    feeds::Feeds,
    stream::{Begun, Call, Occasion, Opening as Request},
    wanted::{Wanted, subscribe},
};
use crate::grpc::{
    error::Refusal,
    status::about::{About, Asks},
};
use crate::{
    grpc::{
        encode::{PREFIX, head_len, put_head, put_prefix},
        field::{subscribe_to_session_response, subscribe_to_user_response},
        new_session_id,
        weight::decode,
    },
    proto,
    session::{
        Opening,
        command::Actor,
        private::Private,
        settings::{Kind, Setting},
    },
};
use bytes::{BufMut, Bytes, BytesMut};

/// SubscribeToSession. The first message says whose stream it is.
#[derive(Debug)]
pub struct SubscribeToSession(Option<String>);

/// SubscribeToUser. The first message says which private session it is.
#[derive(Debug)]
pub struct SubscribeToUser(Option<String>);

impl Call for SubscribeToSession {
    async fn open(request: Request, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Request { server, caller, peer, .. } = request;
        let bytes = message.len();
        let proto::SubscribeToSessionRequest {
            app,
            user_id,
            session_id,
            join,
            open_if_missing,
            options,
            resume,
        } = decode(message)?;
        let (mut door, app) = server.door(&caller, &app);
        let joins = join.is_some();
        let actor = door.actor_or_new(&caller, "user_id", &user_id, joins);
        let asked = proto::SessionSubscription {
            handle: 0,
            session_id,
            join,
            open_if_missing: open_if_missing.map(Box::new),
            options,
            resume,
        };
        let who = (&app, actor.as_ref(), &*user_id, peer);
        let wanted = Wanted::new(&server, &mut door, "", who, asked);
        let (actor, wanted) = door.close_with(|| actor.zip(wanted))?;
        let in_app = server.begin_stream(&app, bytes)?;
        let mut feeds = subscribe(&server, &app, vec![wanted], &caller.grant.bearer()).await?;
        let feed = feeds.pop().ok_or(Refusal::NOT_FOUND)?;
        let told = match actor {
            Actor::User(user) => Some(user.to_string()),
            Actor::App => None,
        };
        Ok((Self(told), Feeds::one(feed, 0), in_app))
    }

    fn about(message: Bytes) -> About {
        decode(message)
            .map_or_else(|_| About::default(), |it: proto::SubscribeToSessionRequest| it.about())
    }

    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        only_update(feeds, occasion, subscribe_to_session_response::USER_ID, &mut self.0)
    }
}

impl Call for SubscribeToUser {
    /// Opens the private session, or uses the one that is there, and listens to it.
    async fn open(request: Request, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Request { server, caller, .. } = request;
        let bytes = message.len();
        let request: proto::SubscribeToUserRequest = decode(message)?;
        let (mut door, app, actor) = server.enter(&caller, &request.app, &request.user_id);
        let listener = door.user_of("user_id", actor.as_ref());
        let pair = door.pair(&request.source_id, "user_id", listener);
        let base = server.engine.default_session();
        let mut settings = door.settings(Kind::Private, &proto::SessionSettings::default(), base);
        settings.change(Setting::Propnames(door.keys("propnames", &request.propnames)));
        let mut options = door.delivery("options", &request.options.unwrap_or_default());
        options.resume = request.resume.map(|resume| door.resume("resume", resume));
        let (actor, pair) = door.close_with(|| actor.zip(pair))?;
        let in_app = server.begin_stream(&app, bytes)?;
        let (id, bearer) = (new_session_id(), caller.grant.bearer());
        loop {
            let private = Private::of(pair.clone(), None, Vec::new());
            let opening = Opening::new(app.clone(), id.clone(), Kind::Private, settings.clone());
            let opened = server.open_private(&bearer, &actor, opening, private, true).await?;
            let (live, user) = (opened.0.live, actor.user());
            let judged = match user {
                Some(user) => server.judge_subscribe(&live, user, None, &bearer).await?,
                None => None,
            };
            let wanted = Wanted::of(&live, actor.clone(), options.clone()).judged(judged);
            match wanted.feed(&server, &app) {
                // It ended between the two: the next one is another.
                Err(Refusal::NOT_FOUND) if live.lock().core.has_ended() => {}
                Err(refusal) => return Err(refusal),
                Ok((feed, _)) => {
                    let told = Some(live.id.to_string());
                    return Ok((Self(told), Feeds::one(feed, 0), in_app));
                }
            }
        }
    }

    fn about(message: Bytes) -> About {
        decode(message)
            .map_or_else(|_| About::default(), |it: proto::SubscribeToUserRequest| it.about())
    }

    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        only_update(feeds, occasion, subscribe_to_user_response::SESSION_ID, &mut self.0)
    }
}

/// The update of the only session as it is, or with what the first message tells.
fn only_update(
    feeds: &mut Feeds,
    occasion: Occasion<'_>,
    tag: u32,
    told: &mut Option<String>,
) -> Option<Bytes> {
    let update = feeds.take_update()?;
    match told.take() {
        Some(told) if !matches!(occasion, Occasion::End(_)) => Some(with_text(&update, tag, &told)),
        _ => Some(update),
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
