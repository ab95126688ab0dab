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
mod first;
pub mod introduction;
mod link;
mod messages;
pub mod peers;
mod port;
mod request;
mod seeking;
mod stream;
mod trust;

use super::part::Part;
use std::{future::pending, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::watch;

pub use self::{
    door::Door,
    failure::lost,
    peers::Peers,
    port::{Bound, widen},
    request::Introduced,
    seeking::{PATIENCE, Place, Places, Sought, Whole},
    trust::Trust,
};

/// Which node has the apps, all of them together, as somebody else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This one.
    Here,
    /// Another one, whose port of nodes is there.
    There(SocketAddr),
    /// None, at the moment.
    Nobody,
}

/// A node that stands before another one.
#[derive(Debug, Clone)]
pub struct Before {
    /// Which one has the apps.
    pub owner: watch::Receiver<Owner>,
    /// How long a call looks for it. See [`PATIENCE`](seeking::PATIENCE).
    pub patience: Duration,
}

impl Before {
    /// Before a node that always has them, as patient as nodes are.
    pub fn new(owner: SocketAddr) -> Self {
        let (_, owner) = watch::channel(Owner::There(owner));
        Self { owner, patience: seeking::PATIENCE }
    }
}

/// All apps together, which this node has by itself or another one.
#[derive(Debug, Clone)]
pub struct Together {
    owner: watch::Receiver<Owner>,
    here: Arc<Part>,
}

impl Together {
    /// At an owner; `here` answers if it is this node.
    pub fn new(owner: watch::Receiver<Owner>, here: Arc<Part>) -> Self {
        Self { owner, here }
    }
}

impl Places for Together {
    fn place(&self, _: Option<&str>) -> Place {
        match *self.owner.borrow() {
            Owner::Here => Place::Here(self.here.clone()),
            Owner::There(address) => Place::There(address.into()),
            Owner::Nobody => Place::Nowhere,
        }
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut owner = self.owner.clone();
        owner.mark_unchanged();
        Box::pin(async move {
            if watch::Receiver::changed(&mut owner).await.is_err() {
                pending().await
            }
        })
    }
}
