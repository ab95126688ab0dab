//! StreamUserProps: one user's props up, its sessions' updates down.

mod acks;
mod down;
mod open;

use super::{
    Server,
    bundle::Round,
    compose::{Delivery, compose},
    feed::{Due, Ending, Feed, Said, Timer, Why},
    hot::{HotStream, Next},
    opening::{Joins, Proofs},
    usual::{Usual, UsualWrite},
};
use crate::{
    engine::{End, Peer, UserStream},
    grpc::{
        convert::door::{Door, PropsWrite},
        passwords::Claim,
        status::in_band,
    },
    proto,
    session::{
        command::{Actor, Command, Write},
        error::Refusal,
        ids::SessionId,
        limits::Micros,
    },
};
use acks::{Acks, Told};
use bytes::Bytes;
use down::Down;
use http::HeaderMap;
use prost::Message;
use smallvec::{SmallVec, smallvec};
use std::task::{Context, Poll};
use tonic::Status;

/// The stream of one call.
#[derive(Debug)]
pub struct StreamUserProps {
    server: Server,
    headers: HeaderMap,
    proofs: Proofs,
    open: Option<Open>,
    usual: Usual,
    last_seq: u64,
    acks: Acks,
    /// The client sends nothing more.
    closing: bool,
    ended: Option<Status>,
}

#[derive(Debug)]
struct Open {
    user: UserStream,
    actor: Actor,
    down: Down,
    timer: Timer,
    silence: Option<Micros>,
    silent_at: Micros,
    /// Goes with the first message.
    user_id: Option<String>,
}

impl StreamUserProps {
    /// A stream that waits for its opening message.
    pub fn new(server: Server, headers: HeaderMap) -> Self {
        Self {
            server,
            headers,
            proofs: Proofs::default(),
            open: None,
            usual: Usual::default(),
            last_seq: 0,
            acks: Acks::default(),
            closing: false,
            ended: None,
        }
    }

    /// A status that also tells how far the messages were dealt with.
    fn status(&self, refusal: &Refusal) -> Status {
        self.server.node.status_with(refusal, [("acked_seq", self.acks.seq().to_string())])
    }

    /// Deals with a write.
    fn write(&mut self, seq: u64, write: proto::PropsWrite) {
        let Some(open) = &self.open else { return };
        let mut door = Door::new(&self.server.limits);
        let write = door.props_write(write);
        let outcome = door.close().and_then(|()| {
            self.usual.learn(write.write.set.iter().map(|(key, _)| key));
            open.write(&self.server, write)
        });
        self.settle(seq, outcome);
    }

    /// A write was dealt with: its refusals are itemised, its results wait for their frames.
    fn settle(&mut self, seq: u64, outcome: Result<Written, Refusal>) {
        let Some(open) = &mut self.open else { return };
        let mut hears_of_tick = false;
        match outcome {
            Ok(written) => {
                hears_of_tick = written.hears_of_tick;
                for (id, refusal) in written.refused {
                    let handle = open.down.find(&id).map_or(0, |(_, handle, _)| handle);
                    let refusal = in_band(&refusal, seq, id.to_string());
                    self.acks.refuse(proto::Refusal { handle, ..refusal });
                }
                for (place, revision) in written.results {
                    self.acks.wait_for(place, revision);
                    if !written.hears_of_tick {
                        open.down.want_tick_of(place);
                        hears_of_tick = true;
                    }
                }
            }
            Err(refusal) => self.acks.refuse(in_band(&refusal, seq, String::new())),
        }
        self.acks.dealt_with(seq);
        if !hears_of_tick {
            open.down.want_tick(&self.server);
        }
    }

    /// Takes note of a message by its number, which must rise.
    fn count(&mut self, seq: u64) -> Result<(), Status> {
        if seq <= self.last_seq {
            let refusal = Refusal::SeqNotRising { seq, last: self.last_seq };
            return Err(self.status(&refusal));
        }
        self.last_seq = seq;
        if let Some(open) = &mut self.open
            && let Some(silence) = open.silence
        {
            open.silent_at = self.server.engine.clock().now() + silence;
        }
        Ok(())
    }

    /// Deals with a message that is nothing unusual; false = it is not one.
    fn receive_usual(&mut self, message: &[u8]) -> Result<bool, Status> {
        let Some(Open { down: Down::One(feed, _), .. }) = &self.open else { return Ok(false) };
        let Some(UsualWrite { seq, set }) = self.usual.read(message, &feed.live().id) else {
            return Ok(false);
        };
        self.count(seq)?;
        let Some(Open { user, actor, down: Down::One(feed, _), .. }) = &self.open else {
            return Ok(false);
        };
        let outcome = write_here(user, actor, feed, Write::of(set), 0);
        self.settle(seq, outcome.map(|revision| Written::here(0, revision)));
        Ok(true)
    }

    fn end(&mut self, end: &Ending) -> Next {
        self.ended = Some(end.status.clone());
        let Some(mut open) = self.open.take() else { return Next::End(end.status.clone()) };
        let acked = self.acks.take_all();
        let mut last = None;
        match &mut open.down {
            Down::Nothing(_) => {}
            Down::One(feed, handle) => {
                if !end.by_client {
                    feed.ended_by_server();
                }
                let update = feed.ended(end);
                last = Some(Delivery { update, handle: *handle, session_id: None });
            }
            Down::Several(bundle) => {
                if !end.by_client {
                    bundle.ended_by_server();
                }
            }
        }
        let go_away = last.is_none().then(|| end.go_away());
        let rest = proto::StreamUserPropsResponse { go_away, ..own(acked, None) };
        Next::Message(compose(last.as_slice(), &rest))
    }
}

/// What is this stream's own in a message.
fn own(told: Told, user_id: Option<String>) -> proto::StreamUserPropsResponse {
    proto::StreamUserPropsResponse {
        updates: Vec::new(),
        acked_seq: told.acked_seq,
        refusals: told.refusals,
        go_away: None,
        user_id: user_id.unwrap_or_default(),
    }
}

/// What became of a write that was not refused as a whole.
struct Written {
    /// The frames of subscribed sessions that hold it: which subscription, which revision.
    results: SmallVec<[(usize, u64); 1]>,
    refused: Vec<(SessionId, Refusal)>,
    /// The stream is told of the end of the tick already.
    hears_of_tick: bool,
}

impl Written {
    /// One subscription took it, and tells of its tick.
    fn here(place: usize, revision: u64) -> Self {
        Self { results: smallvec![(place, revision)], refused: Vec::new(), hears_of_tick: true }
    }
}

impl Open {
    fn write(&self, server: &Server, write: PropsWrite) -> Result<Written, Refusal> {
        let UserStream { app, user, .. } = &self.user;
        if let [only] = &*write.sessions
            && write.once.0.is_none()
            && let Some((place, _, feed)) = self.down.find(only)
            && write.once.0.is_none()
        {
            let PropsWrite { write, term, .. } = write;
            return match write_here(&self.user, &self.actor, feed, write, term) {
                Ok(revision) => Ok(Written::here(place, revision)),
                // Which one refused has to be said where there are several.
                Err(refusal) if matches!(self.down, Down::Several(_)) => Ok(Written {
                    results: SmallVec::new(),
                    refused: vec![(feed.live().id.clone(), refusal)],
                    hears_of_tick: false,
                }),
                Err(refusal) => Err(refusal),
            };
        }
        self.user.take_update()?;
        let mut results = SmallVec::new();
        let mut refused = Vec::new();
        for (id, outcome) in server.write_props(app, &self.actor, user, write)? {
            match (outcome, self.down.find(&id)) {
                (Ok(position), Some((place, ..))) => results.push((place, position.revision)),
                (Ok(_), None) => {}
                (Err(refusal), _) => refused.push((id, refusal)),
            }
        }
        Ok(Written { results, refused, hears_of_tick: false })
    }
}

/// Writes in a session that the stream subscribes to; the frame that holds it.
fn write_here(
    user: &UserStream,
    actor: &Actor,
    feed: &Feed,
    write: Write,
    term: u64,
) -> Result<u64, Refusal> {
    user.take_update()?;
    let command = Command::SetProps { user: user.user.clone(), write, term };
    feed.subscription().command(actor, command).map(|position| position.revision)
}

impl Joins for StreamUserProps {
    fn claims(&self, message: &Bytes, peer: Peer) -> Vec<Claim> {
        use proto::stream_user_props_request::Message as Up;
        let request = proto::StreamUserPropsRequest::decode(message.clone()).unwrap_or_default();
        match request.message {
            Some(Up::Open(open)) => open::claims(&self.server, &self.headers, open, peer),
            _ => Vec::new(),
        }
    }

    fn proven(&mut self, proofs: Proofs) {
        self.proofs = proofs;
    }
}

impl HotStream for StreamUserProps {
    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        use proto::stream_user_props_request::Message as Up;
        if self.ended.is_some() {
            return Ok(());
        }
        if self.receive_usual(&message)? {
            return Ok(());
        }
        let request = proto::StreamUserPropsRequest::decode(message)
            .map_err(|fault| self.status(&Refusal::Malformed(fault.to_string())))?;
        let proto::StreamUserPropsRequest { seq, message } = request;
        self.count(seq)?;
        let first = |text| Err(Refusal::WrongFirstMessage(text));
        let outcome = match (message, &mut self.open) {
            (Some(Up::Open(request)), None) => {
                // Headers are not kept: a stream lives long.
                let headers = std::mem::take(&mut self.headers);
                let proofs = std::mem::take(&mut self.proofs);
                open::open(&self.server, &headers, request, &proofs).map(|open| {
                    self.acks.dealt_with(seq);
                    self.open = Some(open);
                })
            }
            (_, None) => first("the first message must be `open`"),
            (Some(Up::Open(_)), Some(_)) => first("only the first message may be `open`"),
            (Some(Up::Token(_)), Some(_)) => {
                let field = "token".to_owned();
                self.settle(seq, Err(Refusal::NotImplemented { field }));
                Ok(())
            }
            (None, Some(_)) => Err(Refusal::invalid("message", "must be set")),
            (Some(Up::Heartbeat(_)), Some(open)) => {
                self.acks.dealt_with(seq);
                open.down.want_tick(&self.server);
                Ok(())
            }
            (Some(Up::Write(write)), Some(_)) => {
                self.write(seq, write);
                Ok(())
            }
        };
        outcome.map_err(|refusal| self.status(&refusal))
    }

    /// The client is done: the stream ends once everything that it sent is acked.
    fn closed(&mut self) -> Result<(), Status> {
        match self.open {
            Some(_) => {
                self.closing = true;
                Ok(())
            }
            None => {
                Err(self.status(&Refusal::WrongFirstMessage("the first message must be `open`")))
            }
        }
    }

    fn is_full(&self) -> bool {
        self.acks.is_full()
    }

    fn unreadable(&mut self, refusal: &Refusal) -> Status {
        self.status(refusal)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(status) = self.ended.take() {
            return Poll::Ready(Next::End(status));
        }
        if self.acks.overflows()
            && let Some(open) = &self.open
        {
            let told = self.acks.take(|place| open.down.said(place), 0);
            return Poll::Ready(Next::Message(compose(&[], &own(told, None))));
        }
        if self.closing && self.acks.is_told() {
            return Poll::Ready(Next::End(Status::ok("the client closed the stream")));
        }
        match &self.open {
            None => Poll::Pending,
            Some(Open { down: Down::Nothing(_), .. }) => self.poll_nothing(cx),
            Some(Open { down: Down::One(..), .. }) => self.poll_one(cx),
            Some(Open { down: Down::Several(_), .. }) => self.poll_several(cx),
        }
    }
}

/// What comes next, by what the stream receives.
impl StreamUserProps {
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(Open { down: Down::One(feed, handle), timer, silent_at, user_id, .. }) =
            &mut self.open
        else {
            return Poll::Pending;
        };
        let (update, user_id) = match feed.poll_said(cx) {
            Poll::Ready(Said::Update(update)) => (Some(update), user_id.take()),
            Poll::Ready(Said::Quiet) => (None, None),
            Poll::Ready(Said::Ended(end)) => {
                let end = feed.ending(end);
                return Poll::Ready(self.end(&end));
            }
            Poll::Pending => match timer.poll(*silent_at, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Heartbeat) => (Some(feed.heartbeat()), None),
                Poll::Ready(Due::End(why)) => {
                    let end = Ending::new(&self.server, why);
                    return Poll::Ready(self.end(&end));
                }
            },
        };
        let told = self.acks.take(|_| feed.revision(), update.as_ref().map_or(0, Bytes::len));
        if update.is_none() && told.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        timer.said();
        let update = update.map(|update| Delivery { update, handle: *handle, session_id: None });
        Poll::Ready(Next::Message(compose(update.as_slice(), &own(told, user_id))))
    }

    fn poll_several(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let Some(Open { down: Down::Several(bundle), timer, silent_at, user_id, .. }) =
                &mut self.open
            else {
                return Poll::Pending;
            };
            match bundle.poll_round(cx) {
                Poll::Ready(Round::Over(end)) => {
                    let end = Ending::new(&self.server, end.into());
                    return Poll::Ready(self.end(&end));
                }
                Poll::Ready(Round::Updates) => {
                    // The last session's end ends the stream.
                    let is_last = bundle.is_empty() && !bundle.goes_on();
                    let ending = if is_last { bundle.take_ending() } else { None };
                    let told = match (bundle.goes_on(), &ending) {
                        (true, _) => Told::default(),
                        (false, None) => self.acks.take(|place| bundle.said(place), bundle.bytes()),
                        (false, Some(_)) => self.acks.take_all(),
                    };
                    let message = compose(bundle.updates(), &own(told, user_id.take()));
                    bundle.sent(timer);
                    if let Some(ending) = ending {
                        self.open = None;
                        self.ended = Some(ending.status);
                    }
                    return Poll::Ready(Next::Message(message));
                }
                Poll::Ready(Round::Quiet) => {
                    let told = self.acks.take(|place| bundle.said(place), 0);
                    if !told.is_empty() {
                        let message = compose(&[], &own(told, None));
                        bundle.sent(timer);
                        return Poll::Ready(Next::Message(message));
                    }
                }
                Poll::Pending => {}
            }
            match timer.poll(*silent_at, cx) {
                Poll::Ready(Due::Heartbeat) if bundle.beat() => {}
                Poll::Ready(Due::Heartbeat) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::End(why)) => {
                    let end = Ending::new(&self.server, why);
                    return Poll::Ready(self.end(&end));
                }
            }
        }
    }

    fn poll_nothing(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(Open { down: Down::Nothing(unheard), timer, silent_at, user_id, .. }) =
            &mut self.open
        else {
            return Poll::Pending;
        };
        let engine = &self.server.engine;
        if unheard.stopping.as_mut().poll(cx).is_ready() {
            let end = Ending::new(&self.server, Why::Session(End::Draining));
            return Poll::Ready(self.end(&end));
        }
        if user_id.is_some() {
            let told = self.acks.take(|_| u64::MAX, 0);
            let own = own(told, user_id.take());
            return Poll::Ready(Next::Message(compose(&[], &own)));
        }
        if !self.acks.is_told() {
            if unheard.acks_due <= engine.clock().now() {
                unheard.acks_due = 0;
                timer.said();
                let told = self.acks.take_all();
                return Poll::Ready(Next::Message(compose(&[], &own(told, None))));
            }
            unheard.ack_alarm.set(engine.shard(0), unheard.acks_due, cx.waker());
        }
        match timer.poll(*silent_at, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Due::Heartbeat) => {
                timer.said();
                let told = self.acks.take_all();
                Poll::Ready(Next::Message(compose(&[], &own(told, None))))
            }
            Poll::Ready(Due::End(why)) => {
                let end = Ending::new(&self.server, why);
                Poll::Ready(self.end(&end))
            }
        }
    }
}
