//! `sessiond bench`: what the service costs, measured on this machine.
//!
//! Each row starts a server of its own, puts a load on it and reads from the kernel's accounting what
//! that process used. Where a row names a floor, the same reads and writes are done by a server that
//! does nothing else ([`floor`]), right after, so that both see the same noise.
//!
//! [`rows`] says what is measured; [`load`] and [`user`] make the load, [`grpc`], [`socket`] and
//! [`update`] keep it cheap; [`measure`] and [`accounting`] look on; [`report`] prints.

mod accounting;
mod floor;
mod grpc;
mod load;
mod measure;
mod process;
mod progress;
mod report;
mod rows;
mod service;
mod socket;
mod tally;
mod update;
mod user;

pub use self::floor::{FloorArgs, run_floor};
use self::{
    accounting::Machine,
    progress::Progress,
    report::Report,
    rows::{Bench, Row},
};
use clap::{ValueEnum, value_parser};
use std::{
    io::{Write, stdout},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

/// What goes wrong ends a row and is shown in it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// What should take moments must be done by then, however busy the machine is: no measure, but so that
/// a run ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// The exit code of a run that was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Measure only this row; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<Row>,
    /// How to print the rows
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Measure the server that listens here, without its CPU and memory, instead of a child
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Measured time of each repetition, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Repetitions, of which the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = bounded::<1, 100>)]
    repeat: usize,
    /// Threads of the server, and of the floor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = bounded::<1, 256>)]
    threads: usize,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = bounded::<1, 256>)]
    load_threads: usize,
    /// Rooms of own-10x50
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = bounded::<1, 10_000>)]
    rooms: usize,
    /// Users in each room
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = bounded::<2, 10_000>)]
    users: usize,
    /// Updates of each user a second
    #[arg(long, value_name = "HZ", default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// Tick of the rooms, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = value_parser!(u64).range(1..=60_000))]
    tick: u64,
    /// Connections of idle-connections
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = bounded::<1, 1_000_000>)]
    connections: usize,
    /// Sessions of idle-sessions
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = bounded::<1, 1_000_000>)]
    sessions: usize,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Measures and prints. Fails if a row fails.
pub fn run(args: BenchArgs) -> ExitCode {
    let format = args.format;
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| LocalSet::new().block_on(&runtime, measured_or_interrupted(args)));
    match report {
        Ok(Some(report)) => print(&report, format),
        // Every child is gone with what was dropped.
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("sessiond: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measured_or_interrupted(args: BenchArgs) -> std::io::Result<Option<Report>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        report = measured(args) => Some(report),
    })
}

async fn measured(args: BenchArgs) -> Report {
    let kinds = match &args.only[..] {
        [] => Row::value_variants(),
        only => only,
    }
    .to_vec();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        allocator: if cfg!(feature = "jemalloc") { "jemalloc" } else { "system" },
        address: args.address.clone(),
        threads: args.threads,
        seconds: args.seconds,
        repeat: args.repeat,
        machine: Machine::here(),
        rows: Vec::new(),
    };
    let progress = Progress::new((kinds.len() * args.repeat) as u64);
    let bench = Bench { args, progress };
    for kind in kinds {
        report.rows.push(measured_row(kind, &bench).await);
    }
    report
}

async fn measured_row(kind: Row, bench: &Bench) -> report::Row {
    let name = kind.name(&bench.args);
    let mut repetitions = Vec::new();
    let mut error = None;
    for number in 1..=bench.args.repeat {
        bench.progress.step(format!("{name}, {number} of {}", bench.args.repeat));
        match kind.measure(bench).await {
            Ok(figures) => repetitions.push(figures),
            Err(failure) => {
                error = Some(failure.to_string());
                break;
            }
        }
        bench.progress.part_done();
    }
    report::Row::new(name, repetitions, error)
}

fn print(report: &Report, format: Format) -> ExitCode {
    let text = match format {
        Format::Table => report.to_string(),
        Format::Json => match serde_json::to_string_pretty(report) {
            Ok(text) => text + "\n",
            Err(error) => format!("{error}\n"),
        },
    };
    let printed = stdout().write_all(text.as_bytes());
    let failed = report.rows.iter().any(|row| row.failed.is_some());
    if failed || printed.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn bounded<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.ok_or_else(|| format!("not a number in {LEAST}..{MOST}"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=10_000.0).contains(rate));
    rate.ok_or_else(|| "not a number in 0.01..10000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        CommandLine::try_parse_from(line.split(' ')).map(|line| line.args)
    }

    #[test]
    fn rows_are_chosen_by_name() {
        let args = parse("bench --only own-10x50 --only idle-sessions").unwrap();
        assert_eq!(args.only, [Row::Own, Row::IdleSessions]);
        assert!(parse("bench --only all").is_err());
    }

    #[test]
    fn a_row_is_named_by_its_parameters() {
        let args = parse("bench --rooms 40 --users 20").unwrap();
        assert_eq!(Row::Own.name(&args), "own-40x20");
        assert_eq!(Row::Own.name(&parse("bench").unwrap()), "own-10x50");
    }

    #[test]
    fn every_parameter_is_bounded() {
        for line in ["--users 1", "--rate 0", "--rate NaN", "--tick 0", "--repeat 0", "--seconds x"]
        {
            assert!(parse(&format!("bench {line}")).is_err(), "{line}");
        }
    }
}
