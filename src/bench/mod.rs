//! `sessiond bench`: what the service costs, measured on this machine.
//!
//! Each row starts a server of its own, puts a load on it and reads from the kernel's accounting what
//! that process used. Where a row names a floor, the same reads and writes are done by a server that
//! does nothing else ([`floor`]), right after, so that both see the same noise.
//!
//! [`catalogue`] says what the rows are and what they are meant to reach, [`rows`] how they are
//! measured. [`load`], [`user`] and [`backend`] make the load, at peers [`relay`] and [`colyseus`];
//! [`cluster`] starts nodes with the servers of NATS that they need. [`grpc`], [`socket`], [`update`], [`batch`], [`receiver`] and [`view`] keep it cheap. [`measure`] and
//! [`accounting`] look on; [`report`] sums up, [`table`] and [`plot`] show it.

mod accounting;
mod args;
mod backend;
mod batch;
mod catalogue;
mod cluster;
mod colyseus;
mod credentials;
mod figures;
mod floor;
mod folder;
mod goal;
mod grpc;
mod load;
mod measure;
mod payload;
mod peer;
mod place;
mod plot;
mod process;
mod progress;
mod receiver;
mod relay;
mod report;
mod rows;
mod server;
mod service;
mod socket;
mod table;
mod tally;
mod update;
mod user;
mod view;
mod wire;

use self::{
    accounting::Machine,
    args::{Format, Shape},
    catalogue::Row,
    progress::Progress,
    report::{Report, Stop},
    rows::{Bench, Skipped},
};
pub use self::{
    args::{BenchArgs, EXAMPLES},
    floor::{FloorArgs, run_floor},
};
use clap::ValueEnum;
use std::{
    fs,
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

/// Measures and prints. Fails if a row fails.
pub fn run(args: BenchArgs) -> ExitCode {
    let (format, plot) = (args.format, args.plot.clone());
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| LocalSet::new().block_on(&runtime, measured_or_interrupted(args)));
    match report {
        Ok(Some(report)) => {
            let drawn = plot.map_or(Ok(()), |file| {
                let written = fs::write(&file, plot::svg(&report));
                written.map_err(|error| eprintln!("sessiond: {}: {error}", file.display()))
            });
            let printed = print(&report, format);
            if drawn.is_ok() { printed } else { ExitCode::FAILURE }
        }
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
    let measured: Vec<What> = match (args.shape, &args.only[..]) {
        (Some(shape), _) => vec![What::Own(shape)],
        (None, []) => Row::value_variants().iter().copied().map(What::Row).collect(),
        (None, only) => only.iter().copied().map(What::Row).collect(),
    };
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        allocator: if cfg!(feature = "jemalloc") { "jemalloc" } else { "system" },
        address: args.address.clone(),
        threads: args.threads,
        seconds: args.seconds,
        repeat: args.repeat,
        scale: args.scale,
        machine: Machine::here(),
        rows: Vec::new(),
    };
    let progress = Progress::new(measured.iter().map(|what| what.takes(&args)));
    let bench = Bench { args, progress };
    for what in measured {
        report.rows.push(what.measured(&bench).await);
    }
    report
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum What {
    /// A row of the table.
    Row(Row),
    /// A load of somebody's own.
    Own(Shape),
}

impl What {
    async fn measured(self, bench: &Bench) -> report::Row {
        let (name, about) = match self {
            What::Row(row) => (row.about().name.to_owned(), Some(row.about())),
            What::Own(shape) => (rows::own_name(shape, &bench.args), None),
        };
        let mut repetitions = Vec::new();
        let mut stop = None;
        for number in 1..=bench.args.repeat {
            bench.progress.part(format!("{name}, {number} of {}", bench.args.repeat));
            let measured = match self {
                What::Row(row) => rows::measure(row, bench).await,
                What::Own(shape) => rows::measure_own(shape, bench).await,
            };
            match measured {
                Ok(measured) => repetitions.push(measured),
                Err(error) => {
                    let why = error.to_string();
                    let skipped = error.is::<Skipped>();
                    stop = Some(if skipped { Stop::Skipped(why) } else { Stop::Failed(why) });
                    break;
                }
            }
        }
        bench.progress.row_done();
        report::Row::new(name, about, repetitions, stop)
    }

    /// About how long a repetition takes, and how many there are.
    fn takes(self, args: &BenchArgs) -> (Duration, usize) {
        let windows = match self {
            What::Row(row) => row.about().windows,
            What::Own(_) if args.ramp => 10,
            What::Own(_) => 2,
        };
        ((args.duration() + args.warm_up()) * windows, args.repeat)
    }
}

fn print(report: &Report, format: Format) -> ExitCode {
    let text = match format {
        Format::Table => report.to_string(),
        Format::Csv => table::csv(report),
        Format::Json => match serde_json::to_string_pretty(report) {
            Ok(text) => text + "\n",
            Err(error) => format!("{error}\n"),
        },
    };
    let printed = stdout().write_all(text.as_bytes());
    let failed = report.rows.iter().any(|row| row.failed.is_some());
    if failed || printed.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
