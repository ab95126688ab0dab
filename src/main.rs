//! The front door: arguments and logging in, exit code out.

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use sessiond::{bench, cli, config, dial::Trust, logging, probe, server};
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
    ///
    /// Exits with 0 after a stop by signal, with 2 and a line for each reason if it cannot start, and
    /// with 1 if its store fails while it serves or has no space for everything when it stops.
    Serve(config::Given),
    /// Ask a running server whether it is well
    ///
    /// Without --address it asks where `sessiond serve` listens with the same settings: at
    /// SESSIOND_LISTEN, else at `listen` in the configuration file, else at 127.0.0.1:7000. A server
    /// that was started with the flag --listen is asked with --address.
    ///
    /// Exits with 0 if the server is well, with 1 if not or without an answer within 2 seconds, with
    /// 2 if the settings are wrong.
    Health(probe::ProbeArgs),
    /// Look into a store, copy it, tidy it up
    ///
    /// A store is the folder in which a server keeps its sessions. All of this is done while no
    /// server has it open, but for an export. docs/store.md in the sources tells more.
    ///
    /// Exits with 2 and a line if nothing was done; what else there is, each command says.
    Store(cli::StoreArgs),
    /// Play the history of a session
    ///
    /// Prints what changed, a line each, at the recorded pace. With --to it opens a session at a
    /// server, as the app, in which members join, write and leave as they did. The session stays as
    /// the history ends, and lives ten minutes without members.
    ///
    /// Exits with 0 if all of it was played, with 2 and a line if not.
    Replay(cli::ReplayArgs),
    /// List the nodes of a cluster
    ///
    /// Any node may be asked; it tells what it knows. docs/cluster.md in the sources tells more.
    ///
    /// Exits with 0, with 2 and a line if it could not be told.
    Nodes(cli::NodesArgs),
    /// List the partitions of a cluster, and move some
    ///
    /// A partition that is moved stays at its node until that stops or is lost. The move has begun when
    /// the list is printed; a look a second later shows how far it is.
    ///
    /// Exits with 0, with 2 and a line if something could not be done.
    Partitions(cli::PartitionsArgs),
    /// Make, list and revoke the API keys of backends
    ///
    /// A key file holds hashes of keys and what each allows. docs/security.md in the sources tells
    /// more.
    ///
    /// Exits with 0, with 2 and a line if nothing was done.
    Key(cli::KeyArgs),
    /// Make tokens, for trials and tests
    ///
    /// In production an identity provider or a backend issues tokens.
    ///
    /// Exits with 0, with 2 and a line if nothing was done.
    Token(cli::TokenArgs),
    /// Measure what the server costs
    ///
    /// Each row starts a server of its own, puts a load on it, and compares what that costs with a
    /// floor that does the same reads and writes, and with a goal.
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchFloor(bench::FloorArgs),
}

fn main() -> ExitCode {
    match Arguments::try_parse().map(|arguments| arguments.verb) {
        Ok(Verb::Serve(given)) => exit(serve(given)),
        Ok(Verb::Health(arguments)) => exit(health(arguments)),
        Ok(Verb::Store(arguments)) => exit(cli::store(arguments).map_err(|reason| vec![reason])),
        Ok(Verb::Replay(arguments)) => exit(cli::replay(&arguments).map_err(|reason| vec![reason])),
        Ok(Verb::Nodes(arguments)) => exit(cli::nodes(&arguments).map_err(|reason| vec![reason])),
        Ok(Verb::Partitions(arguments)) => {
            exit(cli::partitions(&arguments).map_err(|reason| vec![reason]))
        }
        Ok(Verb::Key(arguments)) => exit(cli::key(arguments).map_err(|reason| vec![reason])),
        Ok(Verb::Token(arguments)) => exit(cli::token(arguments).map_err(|reason| vec![reason])),
        Ok(Verb::Bench(arguments)) => bench::run(arguments),
        Ok(Verb::BenchFloor(arguments)) => bench::run_floor(arguments),
        Err(error) => answer(&error),
    }
}

/// Why something was not done: a line each.
type Reasons = Vec<String>;

fn exit(outcome: Result<ExitCode, Reasons>) -> ExitCode {
    outcome.unwrap_or_else(|reasons| refuse(&reasons))
}

fn serve(given: config::Given) -> Result<ExitCode, Reasons> {
    let resolved = given.resolve().map_err(told)?;
    if resolved.print_config {
        write!(stdout(), "{resolved}").map_err(|error| told([error]))?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::init(resolved.config.log_format, &resolved.config.log_filter);
    match server::run(resolved.config) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_fatal() => {
            let _ = refuse(&told([error]));
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.reasons()),
    }
}

/// Asks where `serve` would listen with the same file and environment.
fn health(arguments: probe::ProbeArgs) -> Result<ExitCode, Reasons> {
    let probe::ProbeArgs { address, config, tls } = arguments;
    let is_other = address.is_some();
    let given = config::Given::nodes_to_ask(address, config);
    let config::Config { listen, tls_certificate, .. } = given.resolve().map_err(told)?.config;
    if listen.port() == 0 {
        return Err(told([format!("{listen} is any free port: give the server's --address")]));
    }
    // The server of these settings has the certificate that they name.
    let trust = match tls_certificate {
        Some(certificate) if !is_other || !tls.is_given() => Some(Trust::Holder(certificate)),
        _ => tls.is_given().then_some(Trust::Authorities),
    };
    let tls = trust.as_ref().map(|trust| (&tls, trust));
    Ok(probe::run(&listen, listen.addresses_to_ask(), tls))
}

fn told(reasons: impl IntoIterator<Item = impl ToString>) -> Reasons {
    reasons.into_iter().map(|reason| reason.to_string()).collect()
}

/// Help and version come as errors, too, and are printed as they are; of a mistake only the reason.
fn answer(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.to_string();
        let (reason, _) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
        let (reason, _) = reason.split_once("\n\nFor more").unwrap_or((reason, ""));
        return refuse(&[reason.trim_start_matches("error: ")]);
    }
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Says why nothing was started, in one line a reason whatever it quotes.
fn refuse(reasons: &[impl AsRef<str>]) -> ExitCode {
    for reason in reasons {
        let lines = reason.as_ref().lines().map(str::trim);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let line = lines.join(", ").replace(":, ", ": ");
        let _ = writeln!(stderr(), "sessiond: {line}");
    }
    ExitCode::from(2)
}
