//! The log on NATS JetStream, where the servers, the network or somebody else fails.

mod bad_input;
mod faults;
mod identity;
mod measure;
pub mod nats;
mod proxy;
mod space;
mod states;
pub mod three;
