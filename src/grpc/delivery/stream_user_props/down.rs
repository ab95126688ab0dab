//! What a stream of props receives: no session, one, or several.

use crate::{
    engine::Alarm,
    grpc::delivery::{Server, bundle::Bundle, feed::Feed},
    session::{ids::SessionId, limits::Micros},
};
use std::{pin::Pin, sync::Arc};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// What the stream receives.
#[derive(Debug)]
pub enum Down {
    /// No session.
    Nothing(Box<Unheard>),
    /// One, by far the most usual: its messages cost as little as those of SubscribeToSession. With
    /// the client's number for it; 0 = none.
    One(Box<Feed>, u32),
    /// Several, in one message per tick.
    Several(Box<Bundle>),
}

/// What tells a stream without subscription of what a session would tell it.
#[derive(Debug)]
pub struct Unheard {
    /// Wakes it at the end of a tick with acks.
    pub ack_alarm: Arc<Alarm>,
    /// When that is; 0 = there are none.
    pub acks_due: Micros,
    pub stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Unheard {
    /// Nothing is due yet.
    pub fn new(server: &Server) -> Box<Self> {
        let stopping = Box::pin(server.stopping.clone().cancelled_owned());
        Box::new(Self { ack_alarm: Alarm::new(), acks_due: 0, stopping })
    }
}

impl Down {
    /// The subscription of a session: what it is called in here, the client's number, and the feed.
    pub fn find(&self, id: &SessionId) -> Option<(usize, u32, &Feed)> {
        match self {
            Down::Nothing(_) => None,
            Down::One(feed, handle) => (feed.live().id == *id).then_some((0, *handle, &**feed)),
            Down::Several(bundle) => bundle.feeds().find(|(_, _, feed)| feed.live().id == *id),
        }
    }

    /// Has the end of the tick wake the stream, so that acks and refusals go out if nothing else
    /// does.
    pub fn want_tick(&mut self, server: &Server) {
        match self {
            Down::One(feed, _) => feed.subscription().want_tick(),
            Down::Several(bundle) => {
                if let Some(feed) = bundle.quickest() {
                    feed.subscription().want_tick();
                }
            }
            Down::Nothing(unheard) if unheard.acks_due == 0 => {
                let engine = &server.engine;
                unheard.acks_due = engine.clock().now() + engine.settings().tick;
            }
            Down::Nothing(_) => {}
        }
    }

    /// The same for the tick of one subscription.
    pub fn want_tick_of(&self, place: usize) {
        match self {
            Down::Nothing(_) => {}
            Down::One(feed, _) => feed.subscription().want_tick(),
            Down::Several(bundle) => {
                if let Some((_, _, feed)) = bundle.feeds().find(|(known, ..)| *known == place) {
                    feed.subscription().want_tick();
                }
            }
        }
    }

    /// The revision up to which everything of a subscription was said.
    pub fn said(&self, place: usize) -> u64 {
        match self {
            Down::Nothing(_) => u64::MAX,
            Down::One(feed, _) => feed.revision(),
            Down::Several(bundle) => bundle.said(place),
        }
    }
}
