//! The three systems that sessiond takes the place of: each test is named after the words of their
//! documents and shows that what they promise works here.
//!
//! What they promise in the words of sessiond is shown once, in the tests of the service: kicks, bans
//! and roles in `moderation`, private sessions in `private`, what is sent when in `transmit` and
//! `rate`, reads in `reads` and `listing`, and object streams in `tests/object_streams.rs`.

#[allow(dead_code, unused_imports, reason = "shared with the tests of the service")]
#[path = "../service/support/mod.rs"]
mod support;

mod clients;
mod session_server;
mod session_streaming;
mod sessions_service;
