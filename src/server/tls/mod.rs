//! TLS: what the server shows of itself, whom it lets shake hands, and the socket of a client that has.
//!
//! A handshake runs on a thread of its own (`handshakes`), as one costs as much as a tick of many
//! sessions; the connection then goes to the thread that serves it, like one without TLS. What
//! comes after the handshake goes through `stream`, below everything that is counted and bounded
//! for a socket.

mod certificate;
mod handshakes;
mod reading;
mod stream;
mod wire;

pub use self::{
    handshakes::{Handshakes, Secured},
    reading::{Files, authorities},
    stream::Stream,
};

use super::watched::Watched;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// The certificate, the key and the authorities that are in force: what a new connection is served
/// with.
pub type Tls = Watched<ServerConfig>;

/// Reads the files; all that is wrong with them.
pub fn open(what: &'static str, files: Files) -> Result<Arc<Tls>, Vec<String>> {
    let paths = files.paths().cloned().collect();
    Watched::open(what, paths, move || reading::read(&files))
}

/// The same for a client that calls others that have certificates of these authorities: what a new
/// connection to them begins with. They call this one at `host`, if that is known.
pub fn open_client(
    what: &'static str,
    files: Files,
    host: Option<String>,
) -> Result<Arc<Watched<ClientConfig>>, Vec<String>> {
    let paths = files.paths().cloned().collect();
    Watched::open(what, paths, move || reading::read_client(&files, host.as_deref()))
}
