//! The sessions that a stream wants: all of them are had, or none.

use super::{Server, feed::Feed};
use crate::grpc::{LOOKS, error::Refusal};
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{self, Live, Options, Peer, SessionKey, Target, asked::Bearer},
    grpc::{convert::door::Door, passwords::Entry},
    proto,
    session::{
        access::Act,
        command::{Actor, Join},
        epoch::Epoch,
        ids::{AppId, UserId},
        judging::Operation,
    },
};
use std::sync::Arc;

/// A subscription that has passed the door.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The path of what asks for it in the request.
    prefix: String,
    key: SessionKey,
    actor: Actor,
    /// How it joins, if it does.
    entry: Option<Entry>,
    options: Options,
    /// In which epoch of the session it was judged.
    judged: Option<Epoch>,
}

impl Wanted {
    /// Checks what a stream says of a session that it wants; `prefix` is the path of that message,
    /// and `user_id` is what the request says of the actor.
    pub fn new(
        server: &Server,
        door: &mut Door<'_>,
        prefix: &str,
        (app, actor, user_id, peer): (&AppId, Option<&Actor>, &str, Peer),
        asked: proto::SessionSubscription,
    ) -> Option<Self> {
        let proto::SessionSubscription {
            handle: _,
            session_id,
            join,
            open_if_missing,
            options,
            resume,
        } = asked;
        door.within(prefix, |door| {
            let mut options = door.delivery("options", &options.unwrap_or_default());
            if options.exclude_self && actor == Some(&Actor::App) {
                door.fault("options.exclude_self", "needs a user_id");
            }
            options.resume = resume.map(|resume| door.resume("resume", resume));
            let key = door.session("session_id", &session_id).map(SessionKey::Id);
            let entry = if join.is_some() {
                let user = match actor {
                    Some(Actor::User(user)) => Some(user.id()),
                    _ => None,
                };
                let request = proto::JoinSessionRequest {
                    user_id: user_id.to_owned(),
                    session_id,
                    join,
                    open_if_missing: open_if_missing.map(|missing| *missing),
                    ..Default::default()
                };
                let target = key.clone().map(Target::Key);
                Some(server.entry(door, (app, user, peer), target, &request, true)?)
            } else {
                if open_if_missing.is_some() {
                    door.fault("open_if_missing", "needs join");
                }
                None
            };
            let actor = actor?.clone();
            Some(Self { prefix: prefix.to_owned(), key: key?, actor, entry, options, judged: None })
        })
    }

    /// The same of a session that was found, and joined where that is needed.
    pub fn of(live: &Live, actor: Actor, options: Options) -> Self {
        let key = SessionKey::Id(live.id.clone());
        Self { prefix: String::new(), key, actor, entry: None, options, judged: None }
    }

    /// The same that was judged in an epoch.
    pub fn judged(self, judged: Option<Epoch>) -> Self {
        Self { judged, ..self }
    }

    /// Has judged that it joins or opens what it wants, and that it receives it.
    async fn prepare(
        &mut self,
        server: &Server,
        app: &AppId,
        bearer: &Bearer,
    ) -> Result<(), Refusal> {
        if let Some(entry) = &mut self.entry {
            entry.prepare(server, bearer).await?;
        }
        let Actor::User(user) = &self.actor else { return Ok(()) };
        // What it opens itself it may receive.
        if let Ok(live) = self.find(server, app) {
            let role = self.entry.as_ref().map(|entry| {
                let join = entry.join();
                join.role.unwrap_or_else(|| live.lock().core.role_on_joining(user, join))
            });
            self.judged = server.judge_subscribe(&live, user, role, bearer).await?;
        }
        Ok(())
    }

    fn user(&self) -> Option<&UserId> {
        match &self.actor {
            Actor::User(user) => Some(user),
            Actor::App => None,
        }
    }

    /// How it joins a session that is there.
    fn join(&self) -> Option<&Join> {
        self.entry.as_ref().map(Entry::join)
    }

    /// The session, as far as the subscriber may know of it.
    fn find(&self, server: &Server, app: &AppId) -> Result<Arc<Live>, engine::Refusal> {
        match &self.entry {
            // A user who knows the id of an unlisted session may join it.
            Some(entry) => entry.find(server),
            None => server.engine.find(app, Some(&self.key), &self.actor),
        }
    }

    /// Whether it would join newly, or is refused, without doing anything. `others` counts the
    /// sessions that the user is about to join beside.
    fn check(&self, server: &Server, app: &AppId, others: usize) -> Result<bool, Refusal> {
        if self.entry.as_ref().is_some_and(Entry::opens) {
            return Ok(true);
        }
        let live = self.find(server, app)?;
        server.engine.check_shows_soon(&live)?;
        let Some(user) = self.user() else { return Ok(false) };
        Ok(server.engine.check_subscribe(&live, user, self.join(), others)?)
    }

    /// Subscribes, joining first where that is wanted. Returns also whether the user came newly.
    /// Refused while nobody knows when there will be something to show.
    pub fn feed(&self, server: &Server, app: &AppId) -> Result<(Feed, bool), Refusal> {
        if let Ok(live) = self.find(server, app) {
            server.engine.check_shows_soon(&live)?;
        }
        self.feed_sometime(server, app)
    }

    /// The same, however long it takes until there is something to show.
    pub fn feed_sometime(&self, server: &Server, app: &AppId) -> Result<(Feed, bool), Refusal> {
        let (live, join) = match &self.entry {
            Some(entry) if entry.opens() => (entry.enter(server)?.0.live, None),
            _ => (self.find(server, app)?, self.join().cloned()),
        };
        let is_opened = self.entry.as_ref().is_some_and(Entry::opens);
        if live.judges(Operation::Subscribe)
            && self.user().is_some()
            && !is_opened
            && self.judged != Some(live.lock().core.epoch())
        {
            if join.is_none() {
                // A user who is not in was not judged, and is refused for that.
                live.lock().core.check(&self.actor, Act::Receive)?;
            }
            return Err(Rule::NotJudged.into());
        }
        // The source of a private session is a member before it joins.
        let is_in = |user| live.lock().core.members().membership(user).is_some();
        let is_known = join.as_ref().zip(self.user()).is_some_and(|(_, user)| is_in(user));
        let is_new = self.entry.is_some() && !is_known;
        let without = self.user().filter(|_| self.options.exclude_self).cloned();
        let options = self.options.clone();
        let subscription = server.engine.subscribe(&live, &self.actor, join, options)?;
        Ok((Feed::new(subscription, without), is_new))
    }

    /// A refusal as the request understands it; none if somebody was faster.
    fn refused(&self, server: &Server, refusal: Refusal) -> Option<Refusal> {
        if refusal == Rule::NotJudged.into() {
            return None;
        }
        let refusal = match &self.entry {
            Some(entry) => entry.refused(server, refusal)?,
            None => refusal,
        };
        Some(refusal.within(&self.prefix))
    }
}

/// Subscribes to sessions, in the order in which they are wanted: to all of them or to none.
/// Everything that can be checked is checked before anything is done, and if one is refused all the
/// same, those that were joined newly before are left again.
pub async fn subscribe(
    server: &Server,
    app: &AppId,
    mut wanted: Vec<Wanted>,
    bearer: &Bearer,
) -> Result<Vec<Feed>, Refusal> {
    let are_several = wanted.len() > 1;
    let named = |at: usize, refusal| match are_several {
        true => {
            let field = format!("open.subscriptions[{at}]");
            Refusal::Subscription { field, why: Box::new(refusal) }
        }
        false => refusal,
    };
    let mut looks = 0;
    loop {
        for (at, one) in wanted.iter_mut().enumerate() {
            one.prepare(server, app, bearer).await.map_err(|refusal| named(at, refusal))?;
        }
        match subscribe_to_all(server, app, &wanted) {
            Ok(feeds) => return Ok(feeds),
            Err((at, refusal)) => {
                looks += usize::from(refusal == Rule::NotJudged.into());
                if looks > LOOKS {
                    return Err(named(at, refusal));
                }
                if let Some(refusal) = wanted[at].refused(server, refusal) {
                    return Err(named(at, refusal));
                }
            }
        }
    }
}

fn subscribe_to_all(
    server: &Server,
    app: &AppId,
    wanted: &[Wanted],
) -> Result<Vec<Feed>, (usize, Refusal)> {
    if let [only] = wanted {
        let outcome = only.feed(server, app);
        return outcome.map(|(feed, _)| vec![feed]).map_err(|refusal| (0, refusal));
    }
    let mut order = Vec::with_capacity(wanted.len());
    let mut new = 0;
    for (at, one) in wanted.iter().enumerate() {
        let is_new = one.check(server, app, new).map_err(|refusal| (at, refusal))?;
        new += usize::from(is_new);
        // Joining again and moving cannot be taken back: they come when nothing else is likely to be
        // refused.
        order.push((one.join().is_some_and(|join| join.moves), !is_new, at));
    }
    order.sort_unstable();
    let (mut feeds, mut joined) = (Vec::with_capacity(order.len()), Vec::new());
    for (_, _, at) in order {
        match wanted[at].feed(server, app) {
            Ok((feed, is_new)) => {
                joined.extend(is_new.then(|| feed.live().clone()));
                feeds.push((at, feed));
            }
            Err(refusal) => {
                feeds.iter_mut().for_each(|(_, feed)| feed.ended_by_server());
                drop(feeds);
                if let Some(user) = wanted[at].user() {
                    server.engine.leave_again(user, joined);
                }
                return Err((at, refusal));
            }
        }
    }
    feeds.sort_unstable_by_key(|(at, _)| *at);
    Ok(feeds.into_iter().map(|(_, feed)| feed).collect())
}
