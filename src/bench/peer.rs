//! Whom a load is sent to.

use super::place::Place;
use std::net::SocketAddr;

/// The service, or what it is compared with.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The service, where the rooms are open.
    Sessiond { place: Place },
    /// The floor, with the sizes that were measured at the service.
    Floor { address: SocketAddr, update_bytes: usize, message_bytes: usize },
    /// A relay, for backends.
    Relay { relay: Relay, address: SocketAddr },
    /// Colyseus, for users with connections of their own.
    Colyseus { address: SocketAddr },
}

/// The names of the peers, in figures and for those who start them.
pub const PEERS: [&str; 3] = [COLYSEUS, REDIS, NATS];
/// See [`Peer::Colyseus`].
pub const COLYSEUS: &str = "colyseus";
const REDIS: &str = "redis";
const NATS: &str = "nats";

/// What passes bytes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Redis, by publishing and subscribing.
    Redis,
    /// NATS, without persistence.
    Nats,
}

impl Relay {
    /// All of them.
    pub const ALL: [Self; 2] = [Relay::Redis, Relay::Nats];

    /// Its name, in figures and for those who start it.
    pub fn name(self) -> &'static str {
        match self {
            Relay::Redis => REDIS,
            Relay::Nats => NATS,
        }
    }
}

impl Peer {
    /// How to connect to it.
    pub fn place(&self) -> Place {
        match self {
            Peer::Sessiond { place } => place.clone(),
            _ => self.address().into(),
        }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        match self {
            Peer::Sessiond { place } => place.address,
            Peer::Floor { address, .. }
            | Peer::Relay { address, .. }
            | Peer::Colyseus { address } => *address,
        }
    }
}
