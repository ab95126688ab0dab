//! sessiond.

#![forbid(unsafe_code)]

pub mod bench;
pub mod config;
pub mod engine;
pub mod grpc;
pub mod logging;
pub mod server;
pub mod session;

/// The wire contract, generated from `proto/sessiond/v1`.
#[allow(clippy::doc_lazy_continuation, missing_docs)]
pub mod proto {
    tonic::include_proto!("sessiond.v1");

    /// The encoded `FileDescriptorSet` of every proto file, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sessiond.v1.bin"));
}
