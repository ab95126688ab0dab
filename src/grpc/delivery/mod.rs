//! The streams, which are served past tonic: see [`hot`] and [`stream`].

mod acks;
mod backlog;
mod bundle;
mod compose;
mod credential;
pub mod ending;
mod feed;
mod feeds;
mod gateway;
pub mod hot;
mod inbox;
mod ready;
mod receive;
mod stream;
mod stream_user_props;
mod subscribe;
mod subscribe_to_streams;
mod timer;
mod unstored;
mod usual;
mod wanted;
mod watch_events;
mod watch_sessions;

use super::{Context, StreamSettings, caller::Caller, compression};
use crate::engine::Peer;
use crate::identity::Grant;
use crate::session::limits::Micros;
use gateway::Gateway;
use hot::HotStream;
use http::HeaderMap;
use inbox::Framing;
use receive::ReceiveSessionUpdates;
use std::sync::Arc;
use stream::{Call, Opening, Stream};
use stream_user_props::StreamUserProps;
use subscribe::{SubscribeToSession, SubscribeToUser};
use subscribe_to_streams::SubscribeToStreams;
use watch_events::WatchEvents;
use watch_sessions::WatchSessions;

/// What every stream needs, shared by all.
type Server = Arc<Context>;

/// Which connection a stream came over. All that its streams do at moments of their own is rung for
/// on the thread that serves it, and their acks at the same moments: so they are woken by nobody
/// else, and send together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seat {
    /// The thread, which ticks the shard of the same number.
    pub worker: usize,
    /// How many connections the thread had before.
    pub connection: u64,
}

/// Who sent a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Its client.
    Client,
    /// Another node, to which the client had sent it. It is answered here, or not at all.
    Node,
}

/// Over how many parts of a tick the connections of a thread spread.
const PHASES: u64 = 64;

impl Seat {
    /// When the next tick ends, by a clock that is as late as the connection's part of a tick.
    fn tick_end(self, now: Micros, tick: Micros) -> Micros {
        let phase = self.connection % PHASES * tick / PHASES;
        (now - phase) / tick * tick + tick + phase
    }
}

/// The path that all calls of `DeliveryService` begin with.
const PATH: &str = "/sessiond.v1.DeliveryService/";

/// The path of the stream of `ObjectStreamService`.
const SUBSCRIBE_TO_STREAMS: &str = "/sessiond.v1.ObjectStreamService/SubscribeToStreams";

/// The stream of `EventService`.
const WATCH_EVENTS: &str = "/sessiond.v1.EventService/WatchEvents";

/// The stream of whole backends: its messages may be larger.
const GATEWAY: &str = "Gateway";

/// How much a stream may send before it is granted more.
pub const WINDOW: u32 = 64 * 1024;

/// The same of a stream whose messages may be larger, so that the largest by default arrives without
/// a stall.
const WIDE_WINDOW: u32 = 1024 * 1024 + 1024;

/// How much the stream of a call may send before it is granted more.
pub fn window(path: &str) -> u32 {
    if path.strip_prefix(PATH) == Some(GATEWAY) { WIDE_WINDOW } else { WINDOW }
}

/// The largest message up of a stream, in bytes.
pub fn most_bytes(server: &Context, path: &str) -> usize {
    let StreamSettings { max_gateway_bytes, max_request_bytes, .. } = server.streams;
    if path.strip_prefix(PATH) == Some(GATEWAY) { max_gateway_bytes } else { max_request_bytes }
}

/// Whether a call is a stream.
pub fn serves(path: &str) -> bool {
    path.starts_with(PATH) || [SUBSCRIBE_TO_STREAMS, WATCH_EVENTS].contains(&path)
}

/// The stream of a call; none if there is no such call.
pub fn stream(server: &Arc<Context>, call: CallHead) -> Option<Box<dyn HotStream>> {
    if call.path == SUBSCRIBE_TO_STREAMS {
        return Some(open::<SubscribeToStreams>(server, call));
    }
    if call.path == WATCH_EVENTS {
        return Some(open::<WatchEvents>(server, call));
    }
    let method = call.path.strip_prefix(PATH)?;
    Some(match method {
        "SubscribeToSession" => open::<SubscribeToSession>(server, call),
        "SubscribeToUser" => open::<SubscribeToUser>(server, call),
        "ReceiveSessionUpdates" => open::<ReceiveSessionUpdates>(server, call),
        "StreamUserProps" => open::<StreamUserProps>(server, call),
        GATEWAY => open::<Gateway>(server, call),
        "WatchSessions" => open::<WatchSessions>(server, call),
        _ => return None,
    })
}

/// What a stream knows of its call before the first message.
#[derive(Debug)]
pub struct CallHead {
    /// The path.
    pub path: String,
    /// The metadata.
    pub headers: HeaderMap,
    /// What the credential of the caller allows.
    pub grant: Arc<Grant>,
    /// Where the call comes from.
    pub peer: Peer,
    /// Over which connection.
    pub seat: Seat,
    /// See [`Opening::deadline`].
    pub deadline: Option<Micros>,
    /// Who sent it.
    pub via: Via,
}

fn open<C: Call>(server: &Server, call: CallHead) -> Box<dyn HotStream> {
    let CallHead { headers, grant, peer, seat, deadline, .. } = call;
    let most = most_bytes(server, &call.path);
    let framing = Framing { most, gzip: compression::is_gzip(&headers) };
    let caller = Caller::new(&headers, grant);
    let server = server.acting_by(&caller.grant).map_or_else(|| server.clone(), Arc::new);
    let opening = Opening { server, caller, peer, seat, deadline };
    Box::new(Stream::<C>::new(opening, framing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_a_tick_and_each_has_its_own_end_of_it() {
        const TICK: Micros = 10_000;
        let begin = 1_767_225_600_000_000;
        let ends = |connection| {
            let seat = Seat { worker: 0, connection };
            (begin..begin + 3 * TICK).map(move |now| (now, seat.tick_end(now, TICK)))
        };
        for connection in [0, 1, 63, 64, 1_000_001] {
            assert!(ends(connection).all(|(now, end)| (now + 1..=now + TICK).contains(&end)));
            let mut moments: Vec<_> = ends(connection).map(|(_, end)| end).collect();
            moments.dedup();
            assert!(moments.len() <= 4 && moments.windows(2).all(|it| it[1] - it[0] == TICK));
        }
        let first = |connection| ends(connection).next().map(|(_, end)| end);
        assert!((0..PHASES).all(|other| other == 5 || first(other) != first(5)));
    }
}
