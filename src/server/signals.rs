//! What signals do: SIGINT and SIGTERM stop the server; others that would kill it at once, undrained,
//! mean nothing until they are given a meaning. Of a file that may not grow the write tells.

use rustix::process::Signal;
use std::io;
use tokio::{
    select,
    signal::unix::{self, SignalKind, signal},
};

/// The signals that stop the server.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl StopSignals {
    /// From now on no signal kills the process that has a meaning, or none, here.
    pub fn listen() -> io::Result<Self> {
        // SIGPIPE is ignored by every Rust program.
        let ignored = [
            ("SIGHUP", SignalKind::hangup()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
        ];
        for (name, kind) in ignored {
            let mut ignored = signal(kind)?;
            tokio::spawn(async move {
                // Once is enough to say it. The handler outlives what it is handed to.
                if ignored.recv().await.is_some() {
                    tracing::info!(signal = name, "ignored, now and later: it has no meaning here");
                }
            });
        }
        // What is handed out may go: the handler stays.
        drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The name of the next one.
    pub async fn next(&mut self) -> &'static str {
        select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
