//! Gateway: one backend's stream for many users and sessions.

mod attaching;
mod blocks;
mod excess;
mod judged;
mod news;
mod parts;
mod views;

use super::{
    Server,
    acks::{Acks, Frame, Told, check_seq},
    compose::{Delivery, MOST, compose, framed},
    credential::Credential,
    ending::{Ending, Why},
    feeds::Feeds,
    hot::Next,
    stream::{Begun, Call, Moment, Occasion, Opening},
    unstored::Unstored,
};
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{End, GatewayStream, Hold, Live, Peer},
    grpc::{
        convert::to_proto,
        status::{about::About, in_band},
        weight::decode,
    },
    identity::Grant,
    proto,
    session::{
        ids::{AppId, Key},
        judging::Operation,
        limits::{Micros, SECOND},
        revision::Revision,
    },
};
use attaching::{Asked, Preparing};
use bytes::Bytes;
use excess::Excess;
use judged::{Judgements, Judging, Rest};
use news::News;
use parts::within_bounds;
use prost::Message;
use rustc_hash::FxHashMap;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use views::Views;

/// How long users are waited for by default, and at most.
const GRACE: (Micros, Micros) = (30 * SECOND, 600 * SECOND);

/// How long a gateway may be silent by default.
const SILENCE: Micros = 40 * SECOND;

/// Messages do not wait longer than this for one another. Sessions tick at moments of their own, so
/// with a longer tick, waiting for all of them would double the time that a step takes.
const INTERVAL: Micros = 10_000;

/// How long before its age a stream learns of it.
const NOTICE: Micros = 10 * SECOND;

/// How many props a gateway may name.
const NAMES: usize = 4096;

/// How many refusals of blocks and writes a message is answered with one by one.
const REFUSALS: usize = 1000;

/// A message that waits for something else than the client.
enum Busy {
    /// Passwords are looked at, and joins are judged.
    Attaching(Preparing, Box<proto::GatewayRequest>),
    /// Writes are judged.
    Judging(Judging, Box<Rest>),
}

/// The stream of one call.
pub struct Gateway {
    app: AppId,
    peer: Peer,
    /// The call acts as the app: views need no attached user.
    as_app: bool,
    credential: Credential,
    stream: GatewayStream,
    silence: Micros,
    last_seq: u64,
    acks: Acks,
    views: Views,
    /// The names of props, by the client's numbers.
    names: FxHashMap<u64, Key>,
    /// What is over the rates of users.
    excess: Excess,
    /// What was written and is acked when it is stored.
    unstored: Unstored,
    welcome: Option<proto::Welcome>,
    news: News,
    /// There are sessions that judge writes among those that users are, or were, attached in.
    is_judged: bool,
    /// A message that waits.
    busy: Option<Busy>,
    /// The server begins to stop.
    leaving: Pin<Box<WaitForCancellationFutureOwned>>,
    go_away: Option<proto::GoAway>,
    /// When the stream ends at the latest, as far as the client knows.
    told_deadline: Micros,
    /// Something is to be said that waits for no tick.
    is_urgent: bool,
    is_taken_over: bool,
    closing: bool,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Call for Gateway {
    const IS_GATEWAY: bool = true;

    async fn open(opening: Opening, message: Bytes) -> Result<Begun<Self>, Refusal> {
        let Opening { server, caller, peer, seat, .. } = opening;
        let bytes = message.len();
        let mut request: proto::GatewayRequest = decode(message)?;
        let Some(hello) = request.hello.take() else { return Err(Self::none_came()) };
        let (mut door, app) = server.door_in(&caller, "hello.app", &hello.app);
        let id = door.named("hello.gateway_id", &hello.gateway_id);
        let (grace, most) = GRACE;
        let grace = door.span("hello.grace", hello.grace, 0..=most, grace);
        let range = SECOND..=3600 * SECOND;
        let silence = door.span("hello.silence_timeout", hello.silence_timeout, range, SILENCE);
        door.check_metadata(&caller);
        let seq = std::mem::take(&mut request.seq);
        if request != proto::GatewayRequest::default() {
            door.fault("hello", "must come alone");
        }
        let id = door.close_with(|| id)?;
        check_seq(seq, 0)?;
        let in_app = server.begin_stream(&app, bytes)?;
        let (stream, found) = server.engine.open_gateway(&app, &id, grace)?;
        let welcome = proto::Welcome {
            node: server.node.name.clone(),
            resumed: found.resumed,
            last_seq: found.last_seq,
            attached_users: u32::try_from(found.users.len()).unwrap_or(u32::MAX),
            heartbeat_interval: Some(to_proto::span(server.streams.heartbeat)),
            max_message_bytes: u32::try_from(server.streams.max_gateway_bytes).unwrap_or(u32::MAX),
        };
        let judges = |live: &Arc<Live>| live.judges(Operation::Write);
        let is_judged = found.users.iter().any(|(_, _, live, _)| judges(live));
        let attached = found.users.into_iter().map(|(handle, user, live, role)| proto::Attached {
            handle,
            role: to_proto::role(role).into(),
            position: None,
            user_id: user.to_string(),
            session_id: live.id.to_string(),
        });
        let (mut acks, mut news) = (Acks::default(), News::default());
        acks.dealt_with(seq);
        news.attach(attached);
        let call = Self {
            app,
            peer,
            as_app: caller.is_app(),
            credential: Credential::new(caller.grant),
            stream,
            silence,
            last_seq: seq,
            acks,
            views: Views::default(),
            names: FxHashMap::default(),
            excess: Excess::default(),
            unstored: Unstored::default(),
            welcome: Some(welcome),
            news,
            is_judged,
            busy: None,
            leaving: Box::pin(server.leaving.begun()),
            go_away: None,
            told_deadline: Micros::MAX,
            is_urgent: false,
            is_taken_over: false,
            closing: false,
        };
        Ok((call, Feeds::brisk(&server, seat, INTERVAL), in_app))
    }

    fn renewed(&mut self) -> Option<Arc<Grant>> {
        self.credential.take_new()
    }

    fn silence(&self) -> Option<Micros> {
        Some(self.silence)
    }

    fn receive(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        message: Bytes,
    ) -> Result<(), Refusal> {
        let (message, excess) = within_bounds(message);
        let malformed = |fault: prost::DecodeError| Refusal::Malformed(fault.to_string());
        let mut request = proto::GatewayRequest::decode(message).map_err(malformed)?;
        check_seq(request.seq, self.last_seq)?;
        self.last_seq = request.seq;
        if request.hello.is_some() {
            return Err(Refusal::WrongFirstMessage("only the first message may be `hello`"));
        }
        if let Some(refusal) = excess {
            self.refuse(request.seq, 0, &refusal);
        }
        let asked = self.asked(server, std::mem::take(&mut request.attach));
        if asked.is_empty() {
            self.deal_with(server, feeds, request, asked);
            return Ok(());
        }
        let bearer = self.credential.grant().bearer();
        let mut preparing: Preparing = Box::pin(attaching::prepare(server.clone(), bearer, asked));
        // Most need not wait for anything. What does is polled again right after this.
        match preparing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(asked) => self.deal_with(server, feeds, request, asked),
            Poll::Pending => self.busy = Some(Busy::Attaching(preparing, Box::new(request))),
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.busy.is_some() || self.acks.is_full() || self.unstored.is_full()
    }

    fn go_on(&mut self, server: &Server, feeds: &mut Feeds, cx: &mut Context<'_>) -> bool {
        match self.busy.take() {
            None => false,
            Some(Busy::Attaching(mut preparing, request)) => match preparing.as_mut().poll(cx) {
                Poll::Ready(asked) => {
                    self.deal_with(server, feeds, *request, asked);
                    true
                }
                Poll::Pending => {
                    self.busy = Some(Busy::Attaching(preparing, request));
                    false
                }
            },
            Some(Busy::Judging(mut judging, rest)) => match judging.as_mut().poll(cx) {
                Poll::Ready(judgements) => {
                    if let Some(mut hold) = self.hold() {
                        self.look_for_ends(server, &mut hold);
                        self.write_rest(server, &mut hold, feeds, rest, judgements);
                    }
                    true
                }
                Poll::Pending => {
                    self.busy = Some(Busy::Judging(judging, rest));
                    false
                }
            },
        }
    }

    fn closed(&mut self) {
        self.closing = true;
    }

    fn ends(&self) -> Option<Why> {
        self.is_taken_over.then_some(Why::TakenOver)
    }

    fn none_came() -> Refusal {
        Refusal::WrongFirstMessage("the first message must be `hello`")
    }

    /// Tells how far the messages were dealt with.
    fn status(call: Option<&Self>, server: &Server, refusal: &Refusal, about: &About) -> Status {
        let seq = call.map_or(0, |call| call.acks.seq());
        let acked = ("acked_seq", seq.to_string());
        // It has a limit of its own.
        let is_too_large = matches!(refusal, Refusal::MessageTooLarge { .. });
        let limit = is_too_large.then(|| ("limit", "max-gateway-request-bytes".to_owned()));
        server.node.status_with(refusal, about, [acked].into_iter().chain(limit))
    }

    fn act(&mut self, server: &Server, moment: &mut Moment<'_, '_>) {
        if self.busy.is_some() {
            // The client is not silent: it is not heard.
            moment.timer.heard();
        }
        self.catch_up(server, moment);
        if self.unstored.after().is_some() {
            self.unstored.poll(moment.cx);
            self.hold_acks();
        }
        if self.stream.poll_post(moment.cx).is_ready()
            && let Some(mut hold) = self.hold()
        {
            self.look_for_ends(server, &mut hold);
        }
        self.warn(server, moment);
    }

    fn tend(&mut self, _: &Server, moment: &mut Moment<'_, '_>) -> Option<Next> {
        if let Feeds::Several(bundle) = &mut *moment.feeds
            && bundle.take_lost()
        {
            self.views.forget_lost(bundle);
        }
        let is_due = self.is_urgent || self.acks.overflows();
        if self.welcome.is_none() && (self.unstored.take_news() || is_due) {
            let told = self.acks.take(|place| moment.feeds.said(place), 0);
            if is_due || !told.is_empty() {
                let own = self.own(told, 0);
                return Some(Next::Message(framed(&own)));
            }
        }
        if self.closing && self.busy.is_none() && self.acks.is_told() {
            self.stream.close();
            return Some(Next::End(Status::ok("the client closed the stream")));
        }
        None
    }

    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes> {
        let updates = feeds.updates();
        let bytes = updates.iter().map(Delivery::len).sum();
        let told = match occasion {
            Occasion::End(ending) => {
                self.go_away = Some(ending.go_away());
                if !ending.by_client {
                    self.stream.ended_by_server();
                }
                self.acks.take_all()
            }
            // The last part of what is said within a tick tells how far that is.
            _ if feeds.goes_on() => Told::default(),
            _ => self.acks.take(|place| feeds.said(place), bytes),
        };
        let own = self.own(told, bytes);
        if matches!(occasion, Occasion::News) && updates.is_empty() && own.encoded_len() == 0 {
            return None;
        }
        Some(compose(updates, &own))
    }
}

impl Gateway {
    /// What waits to be written, or to be stored, is not acked.
    fn hold_acks(&mut self) {
        let waiting = self.excess.after().into_iter().chain(self.unstored.after());
        self.acks.hold(waiting.min());
    }

    /// Tells when the stream is about to end, and again if it will end earlier.
    fn warn(&mut self, server: &Server, moment: &mut Moment<'_, '_>) {
        let ends_at = moment.timer.ends_at();
        let notice_at = ends_at.saturating_sub(NOTICE);
        let age = (notice_at <= server.engine.clock().now()).then_some((Why::Age, ends_at));
        if age.is_none() {
            moment.timer.wake_at(notice_at);
        }
        let begun = self.leaving.as_mut().poll(moment.cx).is_ready();
        let drain = server
            .leaving
            .since()
            .filter(|_| begun)
            .map(|since| (Why::Session(End::Draining), since + server.streams.drain_notice));
        let nearest = age.into_iter().chain(drain).min_by_key(|(_, deadline)| *deadline);
        if let Some((why, deadline)) = nearest.filter(|(_, at)| *at < self.told_deadline) {
            self.go_away = Some(Ending::new(server, why).go_away_by(Some(deadline)));
            (self.told_deadline, self.is_urgent) = (deadline, true);
        }
    }

    /// What is this stream's own in a message with so many bytes of updates.
    fn own(&mut self, told: Told, bytes: usize) -> proto::GatewayResponse {
        let Told { acked_seq, refusals } = told;
        let mut room = MOST.saturating_sub(bytes);
        room = room.saturating_sub(refusals.iter().map(|refusal| refusal.encoded_len() + 8).sum());
        let (ended, attached) = self.news.take(&mut room);
        self.is_urgent = !self.news.is_empty();
        let (welcome, go_away) = (self.welcome.take(), self.go_away.take());
        let updates = Vec::new();
        proto::GatewayResponse { updates, acked_seq, refusals, ended, attached, welcome, go_away }
    }

    /// What the gateway holds; none if another stream has taken it over, of which it takes note.
    fn hold(&mut self) -> Option<Hold> {
        let hold = self.stream.hold();
        self.is_taken_over = hold.is_none();
        hold
    }

    /// Takes note of users that the gateway has no more.
    fn look_for_ends(&mut self, server: &Server, hold: &mut Hold) {
        for (handle, end) in hold.take_ended() {
            self.news.end(Ending::new(server, end.into()).of_handle(handle));
            self.is_urgent = self.welcome.is_none();
            for messages in self.excess.forget(handle) {
                self.refuse(messages.last, handle, &Rule::NotAMember.into());
            }
        }
        self.hold_acks();
    }

    /// Deals with the parts of a message in the order of the fields.
    fn deal_with(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        mut request: proto::GatewayRequest,
        asked: Vec<Asked>,
    ) {
        // The stream that has taken over learnt that this message was not dealt with, and it is not acked.
        let Some(mut hold) = self.hold() else { return };
        let hold = &mut hold;
        let seq = request.seq;
        // What lies in the post came before: a handle that has ended is free.
        self.look_for_ends(server, hold);
        let after = self.acks.last();
        let entered = self.attach_all(server, hold, seq, asked);
        self.subscribe_all(server, feeds, seq, std::mem::take(&mut request.subscribe));
        for (live, revision) in entered {
            self.expect(feeds, &live, after, revision);
        }
        let blocks = self.read_blocks(
            server,
            seq,
            request.dictionary.take(),
            std::mem::take(&mut request.blocks),
        );
        // In the sessions of the app it may have begun since they were attached.
        let judges = server.engine.judged_in(&self.app).has(Operation::Write);
        let judging = match self.is_judged || judges {
            true => self.judging(server, hold, &blocks, &request.writes),
            false => None,
        };
        let rest = Box::new(Rest { blocks, request });
        let Some(mut judging) = judging else {
            return self.write_rest(server, hold, feeds, rest, Judgements::default());
        };
        // Most need not wait for anything. What does is polled again right after this.
        match judging.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(judgements) => self.write_rest(server, hold, feeds, rest, judgements),
            Poll::Pending => self.busy = Some(Busy::Judging(judging, rest)),
        }
    }

    /// A message, or what it says of a handle, is refused.
    fn refuse(&mut self, seq: u64, handle: u32, refusal: &Refusal) {
        self.refuse_about(seq, handle, refusal, &About::default());
    }

    /// The same, said of a user and a session.
    fn refuse_about(&mut self, seq: u64, handle: u32, refusal: &Refusal, about: &About) {
        let refusal = in_band(refusal, seq, String::new(), about);
        self.acks.refuse(proto::Refusal { handle, ..refusal });
    }

    /// The same, said of a view.
    fn refuse_view(&mut self, seq: u64, view_handle: u32, refusal: &Refusal) {
        let refusal = in_band(refusal, seq, String::new(), &About::default());
        self.acks.refuse(proto::Refusal { view_handle, ..refusal });
    }

    /// The message that is dealt with has a result in a frame of a session, which its views tell.
    fn expect(&mut self, feeds: &mut Feeds, live: &Arc<Live>, after: u64, revision: Revision) {
        for &place in self.views.of(live) {
            if self.acks.wait_for(after, Frame { place, revision }) {
                feeds.want_tick(Some(place));
            }
        }
    }
}

/// As many as there is room for, and the others.
fn fitting<M: Message>(mut all: Vec<M>, room: &mut usize) -> (Vec<M>, Vec<M>) {
    let fits = |message: &&M| {
        let bytes = message.encoded_len() + 8;
        let fits = bytes <= *room;
        *room = room.saturating_sub(bytes);
        fits
    };
    let count = all.iter().take_while(fits).count();
    let rest = all.split_off(count);
    (all, rest)
}
