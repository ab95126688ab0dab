//! The three systems that sessiond takes the place of, gone through line by line: each test is named
//! after the words of their documents and shows that what they promise works here.

#[allow(dead_code, unused_imports, reason = "shared with the tests of the service")]
#[path = "../service/support/mod.rs"]
mod support;

mod clients;
mod session_server;
mod session_streaming;
mod sessions_service;
