//! NATS servers, and what the tests of the log need of them.

#[allow(dead_code)]
#[path = "../../support/nats.rs"]
mod servers;

pub use servers::*;

use sessiond::log::jetstream::{Connection, JetStreamLog, Servers, Settings};

/// Settings of a cluster of its own, small.
pub fn settings() -> Settings {
    Settings {
        cluster: cluster(),
        partitions: 4,
        replicas: 1,
        max_bytes: 128 << 20,
        ..Settings::default()
    }
}

pub async fn connect(urls: &str) -> Connection {
    let servers = Servers { urls: urls.to_owned(), name: "tests".to_owned(), ..Servers::default() };
    Connection::open(&servers).await.expect("a connection")
}

/// A log of its own on a server.
pub async fn log(url: &str, settings: &Settings) -> JetStreamLog {
    JetStreamLog::open(&connect(url).await, settings.clone()).await.expect("a log")
}
