//! The arguments of `sessiond store`.

use super::{Result, check, compact, export, import, list, show};
use clap::ValueEnum;
use std::{path::PathBuf, process::ExitCode};

/// What to do with a store.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the sessions of a store
    ///
    /// A line for each session, then what there is in all and whether the last end was clean: after
    /// an unclean one, sessions come back under a new epoch.
    ///
    /// Exits with 0, with 1 if --salvage had to leave something out, with 2 and a line if the store
    /// cannot be read.
    Ls(LsArgs),
    /// Show one session in full
    ///
    /// Settings, members with their roles and props, bans, seats and data, as of its last record.
    /// The password is never shown.
    Show(ShowArgs),
    /// Verify a store
    ///
    /// Reads everything, verifies each checksum and puts the records of each session together.
    ///
    /// Exits with 0 if nothing is wrong, with 1 and a line for each fault, with 2 and a line if the
    /// store cannot be opened.
    Check(CheckArgs),
    /// Write a store, or one session's history, as JSON lines
    ///
    /// One line for each entry of the log, in order, between a header and an end with a checksum. It
    /// holds what the store holds, hashes of passwords included. If a server has the store open, it
    /// is asked at export.socket in the store's folder.
    ///
    /// Exits with 0, with 1 if --salvage had to leave something out, with 2 and a line if nothing
    /// was exported.
    Export(ExportArgs),
    /// Make a store of an export that is read from the standard input
    ///
    /// The folder is new, or its store holds nothing. It has its store when everything is read and
    /// right; otherwise it is as before.
    Import(ImportArgs),
    /// Remove what snapshots replace, and give space back
    Compact(CompactArgs),
}

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    #[command(flatten)]
    pub store: Reading,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub store: Reading,
    /// The session: its app, a slash and its id
    #[arg(value_name = "APP/SESSION")]
    pub session: String,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub store: Reading,
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub store: Reading,
    /// Write into this file, which appears when it is complete and takes the place of an earlier one
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the history of this session, for `sessiond replay`
    #[arg(long, value_name = "APP/SESSION")]
    pub session: Option<String>,
}

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The folder of the store
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Arguments of `compact`.
#[derive(Debug, clap::Args)]
pub struct CompactArgs {
    /// The folder of the store
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Which store to read, and how.
#[derive(Debug, clap::Args)]
pub struct Reading {
    /// The folder of the store
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Read on across gaps and damaged entries, and say what is lost
    #[arg(long)]
    pub salvage: bool,
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Does it.
pub fn run(arguments: StoreArgs) -> Result<ExitCode> {
    match arguments.verb {
        Verb::Ls(arguments) => list::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Import(arguments) => import::run(&arguments),
        Verb::Compact(arguments) => compact::run(&arguments),
    }
}
