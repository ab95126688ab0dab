//! Log lines, on stderr: for people as text, for machines as one JSON object a line.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T12:00:00.000000Z  INFO sessiond: listening address=127.0.0.1:7000`
    Text,
    /// `{"timestamp":"...","level":"INFO","message":"listening","address":"127.0.0.1:7000",...}`
    Json,
}

/// Whether `filter` can be given to [`init`]: directives as `info` or `warn,sessiond=debug`.
pub fn is_filter(filter: &str) -> bool {
    !filter.trim().is_empty() && filter.is_ascii() && EnvFilter::try_new(filter).is_ok()
}

/// Starts logging for the whole process; to be called once.
pub fn init(format: Format, filter: &str) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // When stderr cannot be written to, there is nowhere left to say so.
        .log_internal_errors(false);
    match format {
        Format::Text => lines.init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_of_directives() {
        for filter in ["info", "OFF", "warn,sessiond=debug", "info,sessiond::engine[tick]=trace"] {
            assert!(is_filter(filter), "{filter}");
        }
        for wrong in ["", " ", "info,sessiond=loud", "a=b=c", "sessiond[=info", "é=info"] {
            assert!(!is_filter(wrong), "{wrong}");
        }
    }
}
