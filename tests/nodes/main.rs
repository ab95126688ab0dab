//! Two nodes: what one sends on to the other. That all calls are answered over two nodes as over one,
//! `TEST_NODES=2 cargo test --test service` shows.
//!
//! The other node is a server, or one that does what no server would do when a test needs it. Nothing
//! here sleeps, but a node that stands still is known by the time in which it does not answer.

#[path = "../tls/authority.rs"]
#[allow(dead_code)]
mod authority;
mod calls;
mod measure;
mod moving;
mod peer;
mod port;
mod processes;
mod starting;
mod streams;
mod support;
