//! The sessions whose updates a stream asks for.

use super::super::{Seat, Server, bundle::Bundle, feed::Feed, feeds::Feeds, wanted::Wanted};
use crate::{
    engine::Peer,
    grpc::convert::door::Door,
    proto,
    session::{command::Actor, ids::AppId},
};
use std::collections::HashSet;

/// How many sessions a stream may subscribe to.
const SUBSCRIPTIONS: usize = 64;

/// Checks the subscriptions of a stream; returns each with the client's number for it.
pub fn wanted(
    server: &Server,
    door: &mut Door<'_>,
    who: (&AppId, Option<&Actor>, &str, Peer),
    subscriptions: Vec<proto::SessionSubscription>,
) -> Option<Vec<(u32, Wanted)>> {
    let count = subscriptions.len();
    if count > SUBSCRIPTIONS {
        let text = format!("has {count} entries, more than {SUBSCRIPTIONS}");
        door.fault("open.subscriptions", text);
        return None;
    }
    let mut handles = HashSet::new();
    let mut sessions = HashSet::new();
    let one = |(at, asked): (usize, proto::SessionSubscription)| {
        let (handle, session) = (asked.handle, &asked.session_id);
        let prefix = format!("open.subscriptions[{at}].");
        if count > 1 && handle == 0 {
            door.fault(format!("{prefix}handle"), "must be given where there are several");
        } else if !handles.insert(handle) {
            door.fault(format!("{prefix}handle"), "is used twice");
        }
        if !session.is_empty() && !sessions.insert(session.clone()) {
            door.fault(format!("{prefix}session_id"), "is subscribed to twice");
        }
        Wanted::new(server, door, &prefix, who, asked).map(|wanted| (handle, wanted))
    };
    let wanted: Vec<_> = subscriptions.into_iter().enumerate().map(one).collect();
    wanted.into_iter().collect()
}

/// The subscriptions of a stream, each with the client's number for it.
pub fn down(server: &Server, seat: Seat, handles: Vec<u32>, feeds: Vec<Feed>) -> Feeds {
    match (<[Feed; 1]>::try_from(feeds), &*handles) {
        (Ok([feed]), handles) => Feeds::one(feed, handles.first().copied().unwrap_or_default()),
        (Err(feeds), handles) => {
            let mut bundle = Box::new(Bundle::new(server, seat));
            for (at, (feed, handle)) in feeds.into_iter().zip(handles).enumerate() {
                bundle.add(at, feed, *handle, None);
            }
            Feeds::Several(bundle)
        }
    }
}
