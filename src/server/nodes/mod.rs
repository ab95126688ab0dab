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
mod stream;
mod trust;

pub use self::{
    door::Door,
    peers::{NodeAddress, Peers},
    port::{Bound, widen},
    request::Introduced,
    trust::Trust,
};
