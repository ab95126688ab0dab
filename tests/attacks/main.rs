//! The service under attack: raw HTTP/2 over real sockets against a real `sessiond serve`, and beside
//! each attack 50 honest users who must not notice it.
//!
//! An attack takes two seconds; for one that takes minutes, and against a program with all
//! optimizations, say
//!
//! ```sh
//! SESSIOND_ATTACK_SECONDS=60 cargo test --release --test attacks -- --nocapture
//! ```
//!
//! `SESSIOND_ATTACK_TLS=1` has all of it go over TLS.
//!
//! `SESSIOND_BIN=/path/to/sessiond` attacks another build; settings that it does not know are left
//! out. What an attack may cost is written in `trial.rs`. One server is attacked at a time, however
//! many threads the tests have.
#![cfg(target_os = "linux")]

mod honest;
mod line;
mod server;
mod trial;
mod wire;

mod calls;
mod control;
mod drain;
mod idle;
mod listing;
mod replies;
mod resets;
mod unread;
mod windows;
