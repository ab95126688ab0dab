//! What connections do to a server: they are cut, freeze, go silent, stop reading. A real `sessiond serve` as a
//! process of its own, real sockets, real time: what is promised here are moments and amounts.
//!
//! `cargo test --test chaos` shows a slice of each promise, in about a minute. The whole figures take about two hours:
//!
//! ```sh
//! CHAOS=full cargo test --release --test chaos -- --nocapture --test-threads 1
//! ```
//!
//! One of them: add its name, for example `cuts`. `SESSIOND_BIN` names another server than the one of this build.
//! `dark` needs root, because it makes network namespaces; without it says so and passes.

mod clients;
mod cuts;
mod dark;
mod drains;
mod frozen;
mod proxy;
#[allow(dead_code)]
#[path = "../service/support/rebuilt.rs"]
mod rebuilt;
// Others start it, too.
#[allow(dead_code)]
mod server;
mod small;
mod stalled;
#[allow(dead_code)]
#[path = "../service/support/values.rs"]
mod values;

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Whether the whole figures are wanted.
fn is_full() -> bool {
    std::env::var("CHAOS").is_ok_and(|wanted| wanted == "full")
}

/// The number for the whole figures, or the one for a slice.
fn figure<T>(full: T, slice: T) -> T {
    if is_full() { full } else { slice }
}

/// Runs a test while no other one runs: they measure time on the cores that all of them share.
fn alone<T>(test: impl Future<Output = T>) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(test)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Says a figure even where the output of tests that pass is not shown.
fn tell(figure: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "chaos: {figure}");
}

/// What must come in time; the test fails if it does not.
async fn in_time<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, what).await.ok()
}
