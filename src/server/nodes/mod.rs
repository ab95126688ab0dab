//! Between nodes: the port at which a node takes calls that others send on to it, and the sending on.
//!
//! A call that is sent on is one stream of HTTP/2 from the client to the node that has its app, in two
//! parts with this node between: bytes, windows, ends and resets go from one to the other as they come.
//! In place of its credential it carries what that allows ([`introduction`]), so the other node serves
//! it as if the client had come there. A call is sent on at most once.
//!
//! Each thread has connections of its own to other nodes ([`peers`]): what is sent on is served by the
//! thread of its client, and no other one is woken for it.

mod call;
mod door;
mod failure;
pub mod introduction;
mod link;
mod messages;
pub mod peers;
mod port;
mod request;
mod seeking;
mod stream;
mod trust;

use std::{net::SocketAddr, time::Duration};

pub use self::{
    door::Door,
    peers::{NodeAddress, Peers},
    port::{Bound, widen},
    request::Introduced,
    seeking::{Place, Places, Sought},
    trust::Trust,
};

/// A node that stands before another one.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// The port of nodes of the other one, which has all apps.
    pub owner: SocketAddr,
    /// How long a call looks for it. See [`PATIENCE`](seeking::PATIENCE).
    pub patience: Duration,
}

impl Before {
    /// One that is as patient as nodes are.
    pub fn new(owner: SocketAddr) -> Self {
        Self { owner, patience: seeking::PATIENCE }
    }
}
