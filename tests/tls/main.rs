//! TLS as clients meet it: over real sockets, with certificates that are made for each test.

mod authority;
mod clients;
mod documented;
mod handshakes;
mod reloading;
mod serving;
mod starting;
mod support;
