//! StreamUserProps: one user's props up, its sessions' updates down.

mod judging;
mod subscriptions;
mod written;

use super::{
    Server,
    acks::{Acks, Frame, Told, check_seq},
    backlog::{Backlog, Messages, Place, Waiting},
    compose::{Delivery, compose, framed},
    credential::Credential,
    feed::Feed,
    feeds::{Feeds, Subscribed},
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
    unstored::Unstored,
    usual::{Usual, UsualWrite},
    wanted::{Wanted, subscribe},
};
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{SessionKey, UserStream},
    grpc::{
        convert::door::{Door, PropsWrite},
        judging::Judgements,
        once::Once,
        status::{about::About, in_band},
        weight::decode,
    },
    identity::Grant,
    proto::{self, stream_user_props_request::Message as Up},
    session::{
        command::{Actor, Command, Write},
        ids::SessionId,
        judging::Operation,
        limits::{Micros, SECOND},
        revision::Revision,
    },
};
use bytes::Bytes;
use judging::Judging;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use subscriptions::{down, wanted};
use tonic::Status;
use written::{Written, left_over};

/// The stream of one call.
#[derive(Debug)]
pub struct StreamUserProps {
    user: UserStream,
    actor: Actor,
    credential: Credential,
    silence: Option<Micros>,
    usual: Usual,
    last_seq: u64,
    acks: Acks,
    /// What is over the rate of the user or the app.
    backlog: Backlog,
    /// What was written and is acked when it is stored.
    unstored: Unstored,
    /// A message that is being judged.
    busy: Option<Judging>,
    /// Goes with the first message.
    user_id: Option<String>,
    /// The client sends nothing more.
    closing: bool,
}

impl Call for StreamUserProps {
    const ENDS_WITH_LAST: bool = true;

    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, peer, seat, .. } = opening;
        let bytes = message.len();
        let proto::StreamUserPropsRequest { seq, message } = decode(message)?;
        check_seq(seq, 0)?;
        let Some(Up::Open(open)) = message else { return Err(Self::none_came()) };
        let proto::StreamOpen { app, user_id, subscriptions, silence_timeout } = open;
        let (mut door, app) = server.door_in(&caller, "open.app", &app);
        let range = SECOND..=3600 * SECOND;
        let silence = silence_timeout
            .map(|span| door.span("open.silence_timeout", Some(span), range, SECOND));
        let joins = !subscriptions.is_empty() && subscriptions.iter().all(|it| it.join.is_some());
        let actor = door.actor_or_new(&caller, "open.user_id", &user_id, joins);
        let user = door.user_of("open.user_id", actor.as_ref());
        let who = (&app, actor.as_ref(), &*user_id, peer);
        let wanted = wanted(&server, &mut door, who, subscriptions);
        let (actor, user, wanted) = door.close_with(|| Some((actor?, user?, wanted?)))?;
        let (handles, wanted): (Vec<u32>, Vec<Wanted>) = wanted.into_iter().unzip();
        let in_app = server.begin_stream(&app, bytes)?;
        let feeds = subscribe(&server, &app, wanted, &caller.grant.bearer()).await?;
        let user = server.engine.user_stream(&app, &user)?;
        let mut acks = Acks::default();
        acks.dealt_with(seq);
        let user_id = Some(user.user.to_string());
        let call = Self {
            user,
            actor,
            credential: Credential::new(caller.grant),
            silence,
            usual: Usual::default(),
            last_seq: seq,
            acks,
            backlog: Backlog::default(),
            unstored: Unstored::default(),
            busy: None,
            user_id,
            closing: false,
        };
        Ok((call, down(&server, seat, handles, feeds), in_app))
    }

    fn silence(&self) -> Option<Micros> {
        self.silence
    }

    fn renewed(&mut self) -> Option<Arc<Grant>> {
        self.credential.take_new()
    }

    fn receive(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        message: Bytes,
    ) -> Result<(), Refusal> {
        if self.receive_usual(server, feeds, &message)? {
            return Ok(());
        }
        let proto::StreamUserPropsRequest { seq, message } = decode(message)?;
        self.count(seq)?;
        match message {
            None => return Err(Refusal::invalid("message", "must be set")),
            Some(Up::Open(_)) => {
                return Err(Refusal::WrongFirstMessage("only the first message may be `open`"));
            }
            Some(Up::Token(token)) => {
                if let Err(refusal) = self.credential.renew(server, &token) {
                    self.settle(feeds, self.messages_to(seq), Err(refusal));
                } else {
                    feeds.want_tick(None);
                }
                self.acks.dealt_with(seq);
            }
            Some(Up::Heartbeat(_)) => {
                self.acks.dealt_with(seq);
                feeds.want_tick(None);
            }
            Some(Up::Write(write)) => {
                let mut door = Door::of(&server.limits, self.credential.grant());
                let write = door.props_write(write);
                match door.close() {
                    Ok(()) if self.is_judged(server, feeds, &write) => {
                        self.begin_judging(server, feeds, seq, write);
                        return Ok(());
                    }
                    Ok(()) => {
                        self.usual.learn(write.write.set.iter().map(|(key, _)| key));
                        self.write(server, feeds, seq, write);
                    }
                    Err(refusal) => self.settle(feeds, self.messages_to(seq), Err(refusal)),
                }
                self.acks.dealt_with(seq);
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.busy.is_some() || self.acks.is_full() || self.unstored.is_full()
    }

    fn go_on(&mut self, server: &Server, feeds: &mut Feeds, cx: &mut Context<'_>) -> bool {
        let Some(judging) = &mut self.busy else { return false };
        let Poll::Ready((seq, write)) = judging.poll(cx) else { return false };
        self.busy = None;
        self.write_judged(server, feeds, seq, write);
        true
    }

    /// The client is done: the stream ends once everything that it sent is acked.
    fn closed(&mut self) {
        self.closing = true;
    }

    fn none_came() -> Refusal {
        Refusal::WrongFirstMessage("the first message must be `open`")
    }

    /// Tells how far the messages were dealt with.
    fn status(call: Option<&Self>, server: &Server, refusal: &Refusal, about: &About) -> Status {
        let seq = call.map_or(0, |call| call.acks.seq());
        server.node.status_with(refusal, about, [("acked_seq", seq.to_string())])
    }

    fn about(message: Bytes) -> About {
        let request: Result<proto::StreamUserPropsRequest, _> = decode(message);
        let Some(Up::Open(open)) = request.ok().and_then(|request| request.message) else {
            return About::default();
        };
        let about = match &*open.subscriptions {
            [only] => About::session(&only.session_id),
            _ => About::default(),
        };
        About { user: open.user_id, ..about }
    }

    fn act(&mut self, server: &Server, moment: &mut Moment<'_, '_>) {
        if self.busy.is_some() {
            // The client is not silent: it is not heard.
            moment.timer.heard();
        }
        let limited = self.catch_up(server, moment.feeds).err();
        if let Some(retry_after) = limited.and_then(|refusal| refusal.retry_after()) {
            moment.timer.wake_at(server.engine.clock().now() + retry_after);
        }
        if self.unstored.after().is_some() {
            self.unstored.poll(moment.cx);
            self.hold_acks();
        }
    }

    fn tend(&mut self, _: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        if self.acks.overflows() || self.unstored.take_news() {
            let told = self.acks.take(|place| moment.feeds.said(place), 0);
            if !told.is_empty() {
                return Some(Next::Message(framed(&own(told, None, None))));
            }
        }
        if self.closing && self.busy.is_none() && self.acks.is_told() {
            return Some(Next::End(Status::ok("the client closed the stream")));
        }
        None
    }

    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        let updates = feeds.updates();
        let (told, go_away) = match occasion {
            Occasion::End(ending) => {
                (self.acks.take_all(), updates.is_empty().then(|| ending.go_away()))
            }
            // The last part of what is said within a tick tells how far that is.
            _ if feeds.goes_on() => (Told::default(), None),
            _ => {
                let bytes = updates.iter().map(Delivery::len).sum();
                (self.acks.take(|place| feeds.said(place), bytes), None)
            }
        };
        if matches!(occasion, Occasion::News) && updates.is_empty() && told.is_empty() {
            return None;
        }
        Some(compose(updates, &own(told, go_away, self.user_id.take())))
    }
}

impl StreamUserProps {
    /// Takes note of a message by its number, which must rise.
    fn count(&mut self, seq: u64) -> Result<(), Refusal> {
        check_seq(seq, self.last_seq)?;
        self.last_seq = seq;
        Ok(())
    }

    /// What is dealt with by dealing with the message `seq`.
    fn messages_to(&self, seq: u64) -> Messages {
        Messages { after: self.acks.last(), last: seq }
    }

    /// Deals with a message that is nothing unusual; false = it is not one.
    fn receive_usual(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        message: &[u8],
    ) -> Result<bool, Refusal> {
        let Some(feed) = feeds.only() else { return Ok(false) };
        if feed.live().judges(Operation::Write) {
            return Ok(false);
        }
        let Some(UsualWrite { seq, set }) = self.usual.read(message, &feed.live().id) else {
            return Ok(false);
        };
        self.count(seq)?;
        let write = Write::of(set);
        if self.backlog.is_empty() && self.user.take_update().is_ok() {
            let outcome = self.write_here(feed, write, 0);
            let outcome = outcome.map(|revision| Written::here(0, revision));
            self.settle(feeds, self.messages_to(seq), outcome);
        } else {
            let sessions = vec![feed.live().id.clone()];
            let write = plain(write, sessions);
            self.write(server, feeds, seq, write);
        }
        self.acks.dealt_with(seq);
        Ok(true)
    }

    /// Writes what the rates of the user and the app let through. A plain write over it waits; nothing overtakes what
    /// waits, so that any other is over the rate as long as something does.
    fn write(&mut self, server: &Server, feeds: &mut Feeds, seq: u64, write: PropsWrite) {
        let messages = self.messages_to(seq);
        let durable = write.durable.then(|| write.sessions.clone());
        let is_let = self.catch_up(server, feeds).and_then(|()| Ok(self.user.take_update()?));
        let outcome = match is_let {
            Ok(()) => self.apply(server, feeds, write),
            Err(limited) if write.is_plain() => {
                match self.put_off(server, messages, write, limited) {
                    None => return self.hold_acks(),
                    Some(outcome) => outcome,
                }
            }
            Err(limited) => Err(limited),
        };
        if let (Some(sessions), Ok(_)) = (durable, &outcome) {
            self.wait_for_store(server, messages, sessions);
        }
        self.settle(feeds, messages, outcome);
    }

    /// A message is acked when what it has written is stored.
    fn wait_for_store(&mut self, server: &Server, messages: Messages, sessions: Vec<SessionId>) {
        let UserStream { app, user, .. } = &self.user;
        let is_on_user = sessions.is_empty();
        let sessions = if is_on_user { server.engine.sessions_of(app, user) } else { sessions };
        let storing = server.write_stored(app, sessions, is_on_user);
        self.unstored.add(messages.after, storing);
        self.hold_acks();
    }

    /// What waits to be written, or to be stored, is not acked.
    fn hold_acks(&mut self) {
        let waiting = self.backlog.after().into_iter().chain(self.unstored.after());
        self.acks.hold(waiting.min());
    }

    /// Has a plain write wait; returns what became of it if it does not.
    fn put_off(
        &mut self,
        server: &Server,
        messages: Messages,
        write: PropsWrite,
        limited: Refusal,
    ) -> Option<Result<Written, Refusal>> {
        let PropsWrite { write, sessions, .. } = write;
        // It need not wait for its turn to be refused, nor hold others up until then; only whether
        // there is room depends on what waits before it.
        let waits_for_room = |refusal: &Refusal| {
            !self.backlog.is_empty() && matches!(refusal, Refusal::Rules(Rule::LimitReached { .. }))
        };
        let mut refused = self.refusals(server, &sessions, &write);
        refused.retain(|(_, refusal)| !waits_for_room(refusal));
        if !refused.is_empty() && refused.len() == sessions.len() {
            return Some(Ok(Written { refused, ..Written::default() }));
        }
        let places = sessions.iter().map(|id| self.place(server, id)).collect();
        let mut backlog = std::mem::take(&mut self.backlog);
        let takes = |write: &Write| self.refusals(server, &sessions, write).is_empty();
        let fits = backlog.add(messages, write, places, &server.limits, takes);
        self.backlog = backlog;
        (!fits).then_some(Err(limited))
    }

    /// Which sessions would refuse a write as things stand.
    fn refusals(
        &self,
        server: &Server,
        sessions: &[SessionId],
        write: &Write,
    ) -> Vec<(SessionId, Refusal)> {
        let UserStream { app, user, .. } = &self.user;
        let refusal = |id: &SessionId| {
            let key = SessionKey::Id(id.clone());
            let live = server.engine.find(app, Some(&key), &self.actor);
            let check =
                live.and_then(|live| Ok(live.lock().core.check_write(&self.actor, user, write)?));
            check.err().map(|refusal| (id.clone(), refusal.into()))
        };
        sessions.iter().filter_map(refusal).collect()
    }

    /// Where a write goes that is made now.
    fn place(&self, server: &Server, id: &SessionId) -> Place {
        let UserStream { app, user, .. } = &self.user;
        let key = SessionKey::Id(id.clone());
        let live = server.engine.find(app, Some(&key), &self.actor).ok();
        Place { session: id.clone(), stay: live.and_then(|live| live.lock().core.stay(user)) }
    }

    /// Writes what has waited, as far as the rates of the user and the app let it through.
    fn catch_up(&mut self, server: &Server, feeds: &mut Feeds) -> Result<(), Refusal> {
        while !self.backlog.is_empty() {
            self.user.take_update_in_turn(server.engine.clock().now())?;
            let Some(waiting) = self.backlog.pop() else { break };
            let mut outcome = self.apply_waiting(server, feeds, &waiting);
            if let Some(places) = left_over(&waiting, &outcome)
                && self.backlog.take_apart(&waiting, places)
            {
                let taken = outcome.unwrap_or_default();
                outcome = Ok(Written { refused: Vec::new(), ..taken });
            }
            self.settle(feeds, waiting.messages, outcome);
            self.hold_acks();
        }
        Ok(())
    }

    /// Writes what has waited; the update was taken out of the user's bucket.
    fn apply_waiting(
        &self,
        server: &Server,
        feeds: &Feeds,
        waiting: &Waiting,
    ) -> Result<Written, Refusal> {
        let write = waiting.write();
        if waiting.places.is_empty() {
            return self.apply(server, feeds, plain(write, Vec::new()));
        }
        server.engine.owe_updates(&self.user.app, &self.user.user, waiting.places.len());
        let mut all = Written::default();
        for place in &*waiting.places {
            let write = Write { made_in: place.stay, ..write.clone() };
            let Written { is_taken, results, refused, hears_of_tick } =
                self.apply(server, feeds, plain(write, vec![place.session.clone()]))?;
            all.is_taken |= is_taken;
            all.results.extend(results);
            all.refused.extend(refused);
            all.hears_of_tick |= hears_of_tick;
        }
        Ok(all)
    }

    /// Writes; the update was taken out of the user's bucket.
    fn apply(&self, server: &Server, feeds: &Feeds, write: PropsWrite) -> Result<Written, Refusal> {
        if let [only] = &*write.sessions
            && write.once.0.is_none()
            && let Some(Subscribed { place, feed, .. }) = feeds.find(only)
        {
            let PropsWrite { write, term, durable, mut judgements, .. } = write;
            if durable {
                server.engine.check_stored(feed.live())?;
            }
            let judged = judgements.remove(&feed.live().id).unwrap_or(Ok(write));
            let judged = judged.map_err(Refusal::from);
            return match judged.and_then(|write| self.write_here(feed, write, term)) {
                Ok(revision) => Ok(Written::here(place, revision)),
                Err(refusal) => {
                    let refused = vec![(feed.live().id.clone(), refusal)];
                    Ok(Written { refused, ..Written::default() })
                }
            };
        }
        let UserStream { app, user, .. } = &self.user;
        let mut written = Written::default();
        for (id, outcome) in server.write_props(app, &self.actor, user, write)? {
            written.is_taken |= outcome.is_ok();
            match (outcome, feeds.find(&id)) {
                (Ok(position), Some(it)) => {
                    let (place, revision) = (it.place, position.revision);
                    written.results.push(Frame { place, revision });
                }
                (Ok(_), None) => {}
                (Err(refusal), _) => written.refused.push((id, refusal.into())),
            }
        }
        Ok(written)
    }

    /// What a write of the user in a session is about.
    fn about(&self, session_id: &str) -> About {
        About { user: self.user.user.to_string(), ..About::session(session_id) }
    }

    /// Writes in a session that the stream subscribes to; the frame that holds it.
    fn write_here(&self, feed: &Feed, write: Write, term: u64) -> Result<Revision, Refusal> {
        let command = Command::SetProps { user: self.user.user.clone(), write, term };
        Ok(feed.subscription().command(&self.actor, command)?.revision)
    }

    /// Messages were written: what is refused is itemised, results wait for their frames.
    fn settle(&mut self, feeds: &mut Feeds, messages: Messages, outcome: Result<Written, Refusal>) {
        let mut hears_of_tick = false;
        match outcome {
            Ok(written) => {
                hears_of_tick = written.hears_of_tick;
                for (id, refusal) in written.refused {
                    let handle = feeds.find(&id).map_or(0, |it| it.handle);
                    // Which one refused is said where there may be several.
                    let is_only = feeds.only().is_some_and(|feed| feed.live().id == id);
                    let about = self.about(&id);
                    let id = if is_only { String::new() } else { id.to_string() };
                    let refusal = in_band(&refusal, messages.last, id, &about);
                    self.acks.refuse(proto::Refusal { handle, ..refusal });
                }
                for frame in written.results {
                    self.acks.wait_for(messages.after, frame);
                    if !written.hears_of_tick {
                        feeds.want_tick(Some(frame.place));
                        hears_of_tick = true;
                    }
                }
            }
            Err(refusal) => {
                let only = feeds.only().map(|feed| feed.live().id.to_string());
                let about = self.about(&only.unwrap_or_default());
                self.acks.refuse(in_band(&refusal, messages.last, String::new(), &about));
            }
        }
        if !hears_of_tick {
            feeds.want_tick(None);
        }
    }
}

/// A write that says nothing else.
fn plain(write: Write, sessions: Vec<SessionId>) -> PropsWrite {
    let (once, judgements) = (Once::default(), Judgements::new());
    PropsWrite { write, sessions, term: 0, once, durable: false, judgements }
}

/// What is this stream's own in a message.
fn own(
    told: Told,
    go_away: Option<proto::GoAway>,
    user_id: Option<String>,
) -> proto::StreamUserPropsResponse {
    let Told { acked_seq, refusals } = told;
    let user_id = user_id.unwrap_or_default();
    proto::StreamUserPropsResponse { updates: Vec::new(), acked_seq, refusals, go_away, user_id }
}
