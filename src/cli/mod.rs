//! What people on call type: `sessiond store` looks into a store, copies it and tidies it up,
//! `sessiond replay` plays an exported session, `sessiond nodes` and `sessiond partitions` show a
//! cluster, `sessiond key` and `sessiond token` make credentials.
//!
//! Every verb gives its exit code, or one line that says why it did nothing. None of them panics,
//! whatever is in the files.

mod check;
mod compact;
mod contents;
mod export;
mod history;
mod import;
mod json;
mod key;
mod lines;
mod list;
mod nodes;
mod play;
mod replay;
mod seen;
mod server;
mod show;
mod source;
mod store;
mod text;
mod token;
mod value;

pub use self::{
    key::{KeyArgs, run as key},
    nodes::{NodesArgs, PartitionsArgs, nodes, partitions},
    replay::{ReplayArgs, run as replay},
    store::{StoreArgs, run as store},
    token::{TokenArgs, run as token},
};

use rustix::process::Signal;
use std::{
    fmt::Display,
    future::Future,
    io::{self, Write},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// What came of a verb, or the reason why nothing did.
type Result<T> = std::result::Result<T, String>;

/// Something was done, and something was wrong with what it was done to.
const FAULTY: u8 = 1;

/// Runs a verb on this thread.
fn block_on<T>(verb: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        // Of a file that may not grow the write tells; the signal would end the process without a word.
        let too_large = SignalKind::from_raw(Signal::XFSZ.as_raw());
        drop(signal(too_large).map_err(|error| error.to_string())?);
        verb.await
    })
}

/// Writes to the standard output. False = it was closed: the reader has seen enough.
fn print(text: &[u8]) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("the standard output: {error}")),
    }
}

/// Says what was done; false = nobody can read it, which does not undo it.
fn told_after(text: &str) -> bool {
    print(text.as_bytes()).inspect_err(|error| note(error)).is_ok()
}

/// Says something beside what is printed.
fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "sessiond: {line}");
}

/// The code of something that was done whole, or not.
fn code(is_whole: bool) -> ExitCode {
    if is_whole { ExitCode::SUCCESS } else { ExitCode::from(FAULTY) }
}
