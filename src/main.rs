//! The front door: arguments and logging in, exit code out.

#![forbid(unsafe_code)]

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use sessiond::{bench, config, logging, probe, server};
use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A gRPC service for multi-user sessions
#[derive(Parser)]
#[command(name = "sessiond", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve sessions until SIGINT or SIGTERM
    ///
    /// Every setting is taken from its flag, else from its environment variable, else from the
    /// configuration file, else from its default. Durations are written 10ms, 15s, 5m, 1h or 7d,
    /// sizes 64KiB, 1MiB or in plain bytes.
    Serve(config::Given),
    /// Ask a running server whether it is well
    Health(probe::ProbeArgs),
    /// Measure what the server costs
    ///
    /// Each row starts a server of its own and stops it again.
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchFloor(bench::FloorArgs),
}

fn main() -> ExitCode {
    match Arguments::try_parse().map(|arguments| arguments.verb) {
        Ok(Verb::Serve(given)) => match serve(given) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string()),
        },
        Ok(Verb::Health(arguments)) => probe::run(arguments),
        Ok(Verb::Bench(arguments)) => bench::run(arguments),
        Ok(Verb::BenchFloor(arguments)) => bench::run_floor(arguments),
        Err(error) => answer(&error),
    }
}

fn serve(given: config::Given) -> Result<(), Box<dyn Error>> {
    let resolved = given.resolve()?;
    if resolved.print_config {
        write!(stdout(), "{resolved}")?;
        return Ok(());
    }
    logging::init(resolved.config.log_format, &resolved.config.log_filter);
    server::run(resolved.config)?;
    Ok(())
}

/// Help and version come as errors, too, and are printed as they are; of a mistake only the reason.
fn answer(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.to_string();
        let (reason, _) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
        let (reason, _) = reason.split_once("\n\nFor more").unwrap_or((reason, ""));
        return refuse(reason.trim_start_matches("error: "));
    }
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Says why nothing was started, in one line whatever the reason quotes.
fn refuse(reason: &str) -> ExitCode {
    let lines = reason.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let line = lines.join(", ").replace(":, ", ": ");
    let _ = writeln!(stderr(), "sessiond: {line}");
    ExitCode::from(2)
}
