//! StreamUserProps: one user's props up, its session's updates down.

use super::{
    Server,
    feed::{Due, Ending, Feed, Said, Timer, Why},
    hot::{HotStream, Next},
    subscribe::Wanted,
    usual::{Usual, UsualWrite},
};
use crate::{
    engine::{Alarm, UserStream},
    grpc::{
        convert::door::{Door, PropsWrite},
        encode::{PREFIX, head_len, put_head, put_prefix, put_varint},
        status::in_band,
    },
    proto,
    session::{
        command::{Actor, Command, Write},
        error::Refusal,
        ids::SessionId,
        limits::{Micros, SECOND},
    },
};
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use prost::{Message, encoding::encoded_len_varint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

/// How many refusals wait before nothing more is read until they are told.
const REFUSALS: usize = 128;

/// Bytes of the refusals in one message.
const REFUSALS_BYTES: usize = 256 * 1024;

/// The stream of one call.
#[derive(Debug)]
pub struct StreamUserProps {
    server: Server,
    headers: HeaderMap,
    open: Option<Open>,
    /// The client's number for its session; 0 = none.
    handle: u32,
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
    feed: Option<Feed>,
    timer: Timer,
    silence: Option<Micros>,
    silent_at: Micros,
    /// Goes with the first message.
    user_id: Option<String>,
    /// Wakes a stream without subscription at the end of a tick with acks.
    ack_alarm: Arc<Alarm>,
    /// Ends a stream without subscription when the server stops.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What was dealt with and not told yet.
#[derive(Debug, Default)]
struct Acks {
    /// Everything up to here was dealt with.
    seq: u64,
    /// The revision that `seq` waits for; 0 = none.
    waits_for: u64,
    /// What was dealt with before, and the revision that it waits for.
    before: (u64, u64),
    /// What the client was told.
    told: u64,
    refusals: Vec<proto::Refusal>,
    /// Not all refusals that could be told did fit; the others follow in a message of their own.
    overflows: bool,
    /// When a stream without subscription tells them.
    due: Micros,
}

impl StreamUserProps {
    /// A stream that waits for its opening message.
    pub fn new(server: Server, headers: HeaderMap) -> Self {
        Self {
            server,
            headers,
            open: None,
            handle: 0,
            usual: Usual::default(),
            last_seq: 0,
            acks: Acks::default(),
            closing: false,
            ended: None,
        }
    }

    /// A status that also tells how far the messages were dealt with.
    fn status(&self, refusal: &Refusal) -> Status {
        self.server.node.status_with(refusal, [("acked_seq", self.acks.seq.to_string())])
    }

    fn open(&mut self, open: proto::StreamOpen) -> Result<Open, Refusal> {
        let proto::StreamOpen { app, user_id, mut subscriptions, silence_timeout } = open;
        // Headers are not kept: a stream lives long.
        let headers = std::mem::take(&mut self.headers);
        let mut door = Door::new(&self.server.limits);
        let app = door.app_in("open.app", &app);
        door.not_yet("open.subscriptions[1]", subscriptions.len() > 1);
        let range = (SECOND, 3600 * SECOND);
        let silence = silence_timeout
            .map(|span| door.span("open.silence_timeout", Some(span), range, SECOND));
        let wanted = subscriptions.pop().map(|wanted| {
            let prefix = "open.subscriptions[0].";
            let proto::SessionSubscription { handle, session_id, join, options, resume } = wanted;
            self.handle = handle;
            if join.is_none() && user_id.is_empty() {
                door.fault("open.user_id", "must be given where no subscription joins");
            }
            let user = ("open.user_id", &*user_id);
            Wanted::new(&mut door, prefix, user, session_id, join, options, resume)
        });
        if wanted.is_none() && user_id.is_empty() {
            door.fault("open.user_id", "must be given where no subscription joins");
        }
        let named = match wanted {
            Some(_) => None,
            None => door.optional_user("open.user_id", &user_id),
        };
        door.close()?;
        self.server.check_app(&headers, &app)?;
        let (feed, actor) = match wanted {
            Some(wanted) => {
                let (feed, actor) = wanted.feed(&self.server, &app)?;
                (Some(feed), actor)
            }
            None => (None, named.map_or(Actor::App, Actor::User)),
        };
        let Actor::User(user) = &actor else { return Err(Refusal::NotAMember) };
        let user = self.server.engine.user_stream(&app, user)?;
        let now = self.server.engine.clock().now();
        Ok(Open {
            user_id: Some(user.user.to_string()),
            user,
            actor,
            feed,
            timer: Timer::new(&self.server),
            silence,
            silent_at: silence.map_or(Micros::MAX, |silence| now + silence),
            ack_alarm: Alarm::new(),
            stopping: Box::pin(self.server.stopping.clone().cancelled_owned()),
        })
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

    /// A write was dealt with: its refusals are itemised, its result waits for the frame.
    fn settle(&mut self, seq: u64, outcome: Result<Written, Refusal>) {
        let mut asked = false;
        let revision = match outcome {
            Ok(Written { revision, refused, hears_of_tick }) => {
                asked = hears_of_tick;
                let feed = self.open.as_ref().and_then(|open| open.feed.as_ref());
                for (id, refusal) in refused {
                    let is_numbered = feed.is_some_and(|feed| feed.live().id == id);
                    let mut refusal = in_band(&refusal, seq, id.to_string());
                    refusal.handle = if is_numbered { self.handle } else { 0 };
                    self.acks.refusals.push(refusal);
                }
                revision
            }
            Err(refusal) => {
                self.acks.refusals.push(in_band(&refusal, seq, String::new()));
                0
            }
        };
        self.acks.dealt_with(seq, revision);
        if !asked {
            self.expect_tick();
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
        let Some(feed) = self.open.as_ref().and_then(|open| open.feed.as_ref()) else {
            return Ok(false);
        };
        let Some(UsualWrite { seq, set }) = self.usual.read(message, &feed.live().id) else {
            return Ok(false);
        };
        self.count(seq)?;
        let Some(open) = &self.open else { return Ok(false) };
        let outcome = open.write_here(Write::of(set), 0);
        self.settle(seq, outcome);
        Ok(true)
    }

    /// Has the end of the tick wake the stream, so that acks and refusals go out if nothing else
    /// does.
    fn expect_tick(&mut self) {
        let Some(open) = &mut self.open else { return };
        match &mut open.feed {
            Some(feed) => feed.subscription().want_tick(),
            None if self.acks.due == 0 => {
                let engine = &self.server.engine;
                self.acks.due = engine.clock().now() + engine.settings().tick;
            }
            None => {}
        }
    }

    fn end(&mut self, end: &Ending) -> Next {
        self.ended = Some(end.status.clone());
        let Some(mut open) = self.open.take() else { return Next::End(end.status.clone()) };
        let acked = self.acks.take_all();
        let mut last = match &mut open.feed {
            Some(feed) => {
                if !end.by_client {
                    feed.ended_by_server();
                }
                Some(feed.ended(end))
            }
            None => None,
        };
        let go_away = last.is_none().then(|| end.go_away());
        Next::Message(compose(last.take(), self.handle, acked, go_away, None))
    }
}

/// What became of a write that was not refused as a whole.
struct Written {
    /// The frame of the subscribed session that holds it; 0 = none does.
    revision: u64,
    refused: Vec<(SessionId, Refusal)>,
    /// The stream is told of the end of the tick already.
    hears_of_tick: bool,
}

impl Open {
    fn write(&self, server: &Server, write: PropsWrite) -> Result<Written, Refusal> {
        let subscribed = self.feed.as_ref().map(Feed::live);
        if let (Some(live), [only]) = (subscribed, &*write.sessions)
            && live.id == *only
            && write.once.0.is_none()
        {
            return self.write_here(write.write, write.term);
        }
        self.user.take_update()?;
        let UserStream { app, user, .. } = &self.user;
        let mut written = Written { revision: 0, refused: Vec::new(), hears_of_tick: false };
        for (id, outcome) in server.write_props(app, &self.actor, user, write)? {
            match outcome {
                Ok(position) if subscribed.is_some_and(|live| live.id == id) => {
                    written.revision = position.revision;
                }
                Ok(_) => {}
                Err(refusal) => written.refused.push((id, refusal)),
            }
        }
        Ok(written)
    }

    /// Writes in the session that the stream subscribes to.
    fn write_here(&self, write: Write, term: u64) -> Result<Written, Refusal> {
        self.user.take_update()?;
        let feed = self.feed.as_ref().ok_or(Refusal::SessionNotFound)?;
        let command = Command::SetProps { user: self.user.user.clone(), write, term };
        let position = feed.subscription().command(&self.actor, command)?;
        Ok(Written { revision: position.revision, refused: Vec::new(), hears_of_tick: true })
    }
}

impl Acks {
    /// A message was dealt with, and its result is in the frame `revision`.
    fn dealt_with(&mut self, seq: u64, revision: u64) {
        if revision > self.waits_for {
            self.before = (self.seq, self.waits_for);
            self.waits_for = revision;
        }
        self.seq = seq;
    }

    /// What can be told with the frame `framed`: the seq, and the refusals up to it.
    fn take(&mut self, framed: u64) -> Told {
        let seq = match self.before {
            _ if self.waits_for <= framed => self.seq,
            (seq, waits_for) if waits_for <= framed => seq,
            _ => return Told::default(),
        };
        if seq <= self.told && self.refusals.is_empty() {
            return Told::default();
        }
        let later = self.refusals.partition_point(|refusal| refusal.seq <= seq);
        let mut room = REFUSALS_BYTES;
        let fits = |refusal: &&proto::Refusal| {
            let bytes = refusal.encoded_len() + 8;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let taken = self.refusals[..later].iter().take_while(fits).count().max(later.min(1));
        let rest = self.refusals.split_off(taken);
        let refusals = std::mem::replace(&mut self.refusals, rest);
        self.overflows = taken < later;
        let seq = if self.overflows { refusals.last().map_or(seq, |last| last.seq) } else { seq };
        let news = seq > self.told;
        self.told = self.told.max(seq);
        Told { acked_seq: if news { seq } else { 0 }, refusals }
    }

    fn take_all(&mut self) -> Told {
        self.waits_for = 0;
        self.take(u64::MAX)
    }

    fn is_told(&self) -> bool {
        self.seq == self.told && self.refusals.is_empty()
    }
}

/// Acks and refusals that go with a message.
#[derive(Debug, Default)]
struct Told {
    acked_seq: u64,
    refusals: Vec<proto::Refusal>,
}

/// A response: the shared bytes of the update, then what is this stream's own.
fn compose(
    update: Option<Bytes>,
    handle: u32,
    told: Told,
    go_away: Option<proto::GoAway>,
    user_id: Option<String>,
) -> Bytes {
    let Told { acked_seq, refusals } = told;
    let rest = proto::StreamUserPropsResponse {
        updates: Vec::new(),
        acked_seq: 0,
        refusals,
        go_away,
        user_id: user_id.unwrap_or_default(),
    };
    // `SessionDelivery.update` and `SubscribeToSessionResponse.update` are both field 1.
    let delivery = update.as_ref().map_or(&[][..], |bytes| &bytes[PREFIX..]);
    let handle = (handle > 0 && !delivery.is_empty()).then_some(u64::from(handle));
    let varint_len = |value: Option<u64>| value.map_or(0, |value| 1 + encoded_len_varint(value));
    let acked_seq = (acked_seq > 0).then_some(acked_seq);
    let delivered = delivery.len() + varint_len(handle);
    let head = if delivery.is_empty() { 0 } else { head_len(1, delivered) + delivered };
    let content = head + varint_len(acked_seq) + rest.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + content);
    put_prefix(&mut bytes, content);
    if !delivery.is_empty() {
        put_head(&mut bytes, 1, delivered);
        bytes.put_slice(delivery);
        if let Some(handle) = handle {
            put_varint(&mut bytes, 2, handle);
        }
    }
    if let Some(seq) = acked_seq {
        put_varint(&mut bytes, 2, seq);
    }
    rest.encode_raw(&mut bytes);
    bytes.freeze()
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
        let outcome = match (message, self.open.is_some()) {
            (Some(Up::Open(open)), false) => self.open(open).map(|open| self.open = Some(open)),
            (_, false) => first("the first message must be `open`"),
            (Some(Up::Open(_)), true) => first("only the first message may be `open`"),
            (Some(Up::Token(_)), true) => {
                Err(Refusal::NotImplemented { field: "token".to_owned() })
            }
            (None, true) => Err(Refusal::invalid("message", "must be set")),
            (Some(Up::Heartbeat(_)), true) => {
                self.acks.dealt_with(seq, 0);
                self.expect_tick();
                Ok(())
            }
            (Some(Up::Write(write)), true) => {
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
        self.acks.refusals.len() >= REFUSALS
    }

    fn unreadable(&mut self, refusal: &Refusal) -> Status {
        self.status(refusal)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(status) = self.ended.take() {
            return Poll::Ready(Next::End(status));
        }
        if self.acks.overflows {
            let framed = self.open.as_ref().and_then(|open| open.feed.as_ref());
            let told = self.acks.take(framed.map_or(u64::MAX, Feed::revision));
            return Poll::Ready(Next::Message(compose(None, self.handle, told, None, None)));
        }
        if self.closing && self.acks.is_told() {
            return Poll::Ready(Next::End(Status::ok("the client closed the stream")));
        }
        let Some(open) = &mut self.open else { return Poll::Pending };
        let due = match &mut open.feed {
            Some(feed) => match feed.poll_said(cx) {
                Poll::Ready(Said::Update(bytes)) => {
                    open.timer.said();
                    let told = self.acks.take(feed.revision());
                    return Poll::Ready(Next::Message(compose(
                        Some(bytes),
                        self.handle,
                        told,
                        None,
                        open.user_id.take(),
                    )));
                }
                Poll::Ready(Said::Quiet) => {
                    let told = self.acks.take(feed.revision());
                    if told.acked_seq > 0 || !told.refusals.is_empty() {
                        open.timer.said();
                        return Poll::Ready(Next::Message(compose(
                            None,
                            self.handle,
                            told,
                            None,
                            None,
                        )));
                    }
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Said::Ended(end)) => {
                    let end = feed.ending(end);
                    return Poll::Ready(self.end(&end));
                }
                Poll::Pending => open.timer.poll(open.silent_at, cx),
            },
            None => {
                let engine = &self.server.engine;
                if open.stopping.as_mut().poll(cx).is_ready() {
                    let end = Ending::new(&self.server, Why::Session(crate::engine::End::Draining));
                    return Poll::Ready(self.end(&end));
                }
                if open.user_id.is_some() {
                    let user_id = open.user_id.take();
                    return Poll::Ready(Next::Message(compose(
                        None,
                        self.handle,
                        Told::default(),
                        None,
                        user_id,
                    )));
                }
                if !self.acks.is_told() && self.acks.due <= engine.clock().now() {
                    self.acks.due = 0;
                    open.timer.said();
                    let told = self.acks.take(u64::MAX);
                    return Poll::Ready(Next::Message(compose(
                        None,
                        self.handle,
                        told,
                        None,
                        None,
                    )));
                }
                if !self.acks.is_told() {
                    open.ack_alarm.set(engine.shard(0), self.acks.due, cx.waker());
                }
                open.timer.poll(open.silent_at, cx)
            }
        };
        match due {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Due::Heartbeat) => {
                open.timer.said();
                let update = open.feed.as_ref().map(Feed::heartbeat);
                let told = self.acks.take(open.feed.as_ref().map_or(u64::MAX, Feed::revision));
                Poll::Ready(Next::Message(compose(update, self.handle, told, None, None)))
            }
            Poll::Ready(Due::End(why)) => {
                let end = Ending::new(&self.server, why);
                Poll::Ready(self.end(&end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_do_not_fit_a_message_follow_in_the_next() {
        let mut acks = Acks::default();
        for seq in 1..=100 {
            let refusal = Refusal::invalid("write", "x".repeat(10_000));
            acks.refusals.push(in_band(&refusal, seq, String::new()));
            acks.dealt_with(seq, 0);
        }
        let (mut told, mut messages) = (0, 0);
        loop {
            let Told { acked_seq, refusals } = acks.take(0);
            let bytes: usize = refusals.iter().map(Message::encoded_len).sum();
            assert!(bytes <= REFUSALS_BYTES && !refusals.is_empty());
            assert!(refusals.iter().map(|refusal| refusal.seq).eq(told + 1..=acked_seq));
            (told, messages) = (acked_seq, messages + 1);
            if !acks.overflows {
                break;
            }
        }
        assert_eq!(told, 100);
        assert!(messages > 1 && acks.is_told());
    }
}
