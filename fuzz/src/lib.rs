//! What the fuzz targets do with their input, and what has to hold then. `tests/fuzz_corpus.rs` goes
//! the same ways on a stable toolchain.

pub mod bytes;
pub mod columns;
pub mod copy;
pub mod gateway;
pub mod stage;
pub mod stream_user_props;
