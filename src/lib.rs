//! sessiond: multi-user sessions over gRPC. Users stream their props; on every tick each reader gets
//! what changed and may be seen.
//!
//! The way of a write: [`grpc`] checks the message and makes it a command; [`engine`] locks the
//! session and hands it to the rules in [`session`], which accept or refuse it; the session goes on
//! the list of its shard. When its tick is due, the shard flushes it: the accepted state becomes the
//! shown state, stamped with the frame's revision. For each view that somebody reads, `grpc` encodes
//! what changed, once; every stream in that view is woken and sends those same bytes.
//!
//! | room | what it is | may use |
//! |---|---|---|
//! | [`session`] | the rules: pure, no clock, no randomness, no runtime | std and small pure crates |
//! | [`engine`] | the clockwork: registry, shards, subscribers | `session`, `expression`, `record`; an encoder it is handed |
//! | [`expression`] | what callers write to choose and to compute: CEL, bounded; pure like `session` | `session`'s words; CEL |
//! | [`object_stream`] | named objects that are watched, apart from sessions; pure like `session` | `session`'s words; `expression` |
//! | [`record`] | what is written of sessions and object streams, as bytes; pure like `session` | the words of both; prost |
//! | [`log`] | where records go: batches and snapshots of bytes, in memory, on a disk or in NATS JetStream | redb, async-nats, tokio; no other room |
//! | [`cluster`] | which nodes there are, and which owns which partition; what decides it is pure | `log`'s words; prost, tokio, a client of NATS |
//! | [`keeper`] | stores what the engine hands out, and reads it back | `engine`, `record`, `log`, the words of `session` and `object_stream` |
//! | [`identity`] | who calls: tokens, API keys, certificates, and what they allow; pure but for the keys at URLs | `session`'s words; aws-lc, ureq |
//! | [`policy`] | what is judged before it is done: rules of the server, and the backends that have a say | `engine`'s rules; the words of `session` and `identity`, and how it reads files; a client of the wire; ureq |
//! | [`grpc`] | the counter: the wire's types, streams, statuses | `engine`, `object_stream`, `session`, `record`, `policy`, the words of `identity` and `cluster` |
//! | [`server`] | the joinery: sockets, HTTP/2 connections, threads, start and stop | everything |
//! | [`webhook`] | pushes what happens to URLs: signed, in order, tried again | `engine`, `grpc`'s events, `identity`'s files and requests; aws-lc, ureq |
//! | [`config`] | every knob: type, default, environment name, range | only `server` and `main` read it |
//! | [`logging`] | how the program logs | |
//! | `secrecy` | what messages with a password show of themselves | `proto` |
//! | [`probe`] | `sessiond health`, for container health checks | a client of the wire |
//! | [`cli`] | what people on call type: `sessiond store`, `replay`, `nodes`, `partitions`, `key` and `token` | `identity`, `log`, `record`, `session`, `keeper`'s export, `grpc`'s words; a client of the wire |
//! | [`dial`] | how the program calls a server, with TLS or without | `identity`'s files; rustls, a client of the wire |
//! | [`bench`] | `sessiond bench`: what it costs, against a floor | a client of the wire; `identity`'s tokens and keys |
//!
//! Deliberately absent: a queue per subscriber (a subscriber holds a position), a second copy of a
//! view's state (a view is a question asked of the session), a task per session (a shard's list
//! names the sessions that changed), global state, and any await under a lock.
//! `tests/architecture.rs` holds the imports to this table.

pub mod bench;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dial;
pub mod engine;
pub mod expression;
pub mod grpc;
pub mod identity;
pub mod keeper;
pub mod log;
pub mod logging;
pub mod object_stream;
pub mod policy;
pub mod probe;
pub mod record;
mod secrecy;
pub mod server;
pub mod session;
pub mod webhook;

/// The wire contract, generated from `proto/sessiond/v1`; its comments are the manual.
#[allow(missing_docs, clippy::doc_lazy_continuation, clippy::large_enum_variant)]
pub mod proto {
    tonic::include_proto!("sessiond.v1");

    /// The encoded `FileDescriptorSet` of every proto file, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sessiond.v1.bin"));

    /// What a message of `sessiond.v1` has, for writing and reading it as JSON.
    pub(crate) fn message_type(name: &str) -> prost_reflect::MessageDescriptor {
        static POOL: std::sync::LazyLock<prost_reflect::DescriptorPool> =
            std::sync::LazyLock::new(|| {
                prost_reflect::DescriptorPool::decode(DESCRIPTORS).expect("they are compiled in")
            });
        POOL.get_message_by_name(&format!("sessiond.v1.{name}")).expect("the name of a message")
    }
}
