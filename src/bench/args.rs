//! What a run is asked for: which rows, how long, how large, and how to print them.

use super::{Result, catalogue::Row, payload::Payload};
use crate::dial::TlsArgs;
use clap::{ValueEnum, value_parser};
use std::{path::PathBuf, time::Duration};

/// The beginning of a load is not measured: so long, or as long as what is measured if that is less.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// Memory and CPU settle after many connections or sessions were opened: so long, or as long as what
/// is measured if that is less.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  sessiond bench                                     every row, about three quarters of an hour
  sessiond bench --only own-10x50 --only gateway-10  two of them
  sessiond bench --scale 0.02 --seconds 1 --repeat 1 every row in small, to see that it works
  sessiond bench --peers bench/peers                 beside Redis, NATS and Colyseus
  sessiond bench --shape own --rooms 200 --users 8 --rate 10 --tick 100 --payload text:40
                                                     a load of your own
  sessiond bench --shape hosted --users 500          one host, 499 spectators
  sessiond bench --shape gateway --rooms 20 --users 100 --encoding columns
                                                     20 backends with 100 users each
  sessiond bench --shape own --ramp                  more and more rooms, until it is too much
  sessiond bench --address sessiond.example:7000 --shape own
                                                     your own deployment
  sessiond bench --format json --plot bench.svg >bench.json";

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Measure only this row; may be given several times
    #[arg(long, value_name = "ROW")]
    pub only: Vec<Row>,
    /// How to print the rows
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Draw the rows, too, as an SVG into this file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Measure the server that listens here instead of a child
    ///
    /// Its CPU and memory are not seen from here: there are no figures of them, no floor, and some
    /// rows are left out. What the rows open there is in apps whose names begin with `bench-`, and
    /// is ended again.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// How it is reached, if it has TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Measure the peers, too, that this folder's `start` starts; see bench/peers in the sources
    #[arg(long, value_name = "FOLDER", conflicts_with = "address")]
    pub peers: Option<PathBuf>,
    /// Measured time of each repetition, in seconds
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = ranged::<1, 6_000>)]
    pub seconds: f64,
    /// Repetitions, of which the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = bounded::<1, 100>)]
    pub repeat: usize,
    /// Threads of the server, and of the floor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = bounded::<1, 256>)]
    pub threads: usize,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = bounded::<1, 256>)]
    pub load_threads: usize,
    /// The sizes of the rows, times this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// Measure a load of your own instead of the rows
    #[arg(long, value_name = "SHAPE", conflicts_with = "only", help_heading = "Your own load")]
    pub shape: Option<Shape>,
    /// The load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Raise the number of rooms by a quarter at a time, until the p99 is over the tick + 5 ms
    #[arg(long, requires = "shape", help_heading = "Your own load")]
    pub ramp: bool,
}

/// A load. Those of the rows have the defaults, where they do not say otherwise.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Your own load")]
pub struct LoadArgs {
    /// Rooms; with the shape `gateway`, each has a backend of its own
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = bounded::<1, 10_000>, requires = "shape")]
    pub rooms: usize,
    /// Users in each room
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = bounded::<2, 10_000>, requires = "shape")]
    pub users: usize,
    /// Updates of each user a second
    #[arg(long, value_name = "HZ", default_value_t = 20.0, value_parser = rate, requires = "shape")]
    pub rate: f64,
    /// Tick of the rooms, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = value_parser!(u64).range(1..=60_000), requires = "shape")]
    pub tick: u64,
    /// Props in each update
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = bounded::<1, 256>, requires = "shape")]
    pub props: usize,
    /// What the props are: numbers, floats, integers, text:BYTES or data:BYTES. The first one is a
    /// number or float in any case: arrivals are timed by it
    #[arg(long, value_name = "KIND", default_value = "numbers", requires = "shape")]
    pub payload: Payload,
    /// How updates come down
    #[arg(long, value_name = "ENCODING", default_value = "named", requires = "shape")]
    pub encoding: Encoding,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For spreadsheets: a line for each figure
    Csv,
}

/// Who connects how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Rooms in which everybody writes, a connection for each user
    Own,
    /// Hosted sessions in which one user writes, a connection for each user
    Hosted,
    /// Rooms in which everybody writes, all users of a room on the Gateway stream of a backend
    Gateway,
}

/// How updates come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// Every update names its users and props
    Named,
    /// Names once, then columns of values
    Columns,
}

impl BenchArgs {
    /// How long one thing is measured.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long a load goes on before.
    pub fn warm_up(&self) -> Duration {
        self.duration().min(WARM_UP_MAX)
    }

    /// How long what was opened settles.
    pub fn settle(&self) -> Duration {
        self.duration().min(SETTLE_MAX)
    }

    /// A size of a row at the scale of this run, at least `least`.
    pub fn scaled(&self, size: usize, least: usize) -> usize {
        ((size as f64 * self.scale).round() as usize).max(least)
    }
}

impl Encoding {
    /// On the wire.
    pub fn on_the_wire(self) -> crate::proto::Encoding {
        match self {
            Encoding::Named => crate::proto::Encoding::Named,
            Encoding::Columns => crate::proto::Encoding::Columns,
        }
    }
}

fn bounded<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.ok_or_else(|| format!("not a number in {LEAST}..{MOST}"))
}

/// A number in tenths from `LEAST` to `MOST`.
fn ranged<const LEAST: u32, const MOST: u32>(text: &str) -> Result<f64, String> {
    within(text, f64::from(LEAST) / 10.0, f64::from(MOST) / 10.0)
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.01, 10_000.0)
}

fn scale(text: &str) -> Result<f64, String> {
    within(text, 0.0001, 100.0)
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("not a number in {least}..{most}"))
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
        assert_eq!(args.only, [Row::Own10, Row::IdleSessions]);
        assert!(parse("bench --only all").is_err());
    }

    #[test]
    fn every_parameter_is_bounded() {
        for line in [
            "--shape own --users 1",
            "--shape own --rate 0",
            "--shape own --rate NaN",
            "--shape own --tick 0",
            "--shape own --props 257",
            "--repeat 0",
            "--seconds x",
            "--seconds 0.05",
            "--scale 0",
        ] {
            assert!(parse(&format!("bench {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn sizes_of_a_load_need_a_load_of_ones_own() {
        assert!(parse("bench --users 7").is_err());
        assert!(parse("bench --ramp").is_err());
        assert!(parse("bench --shape own --only own-10x50").is_err());
        let args = parse("bench --shape hosted --users 7").unwrap();
        assert_eq!((args.shape, args.load.users), (Some(Shape::Hosted), 7));
    }

    #[test]
    fn sizes_shrink_with_the_scale_but_not_to_nothing() {
        let args = parse("bench --scale 0.01").unwrap();
        assert_eq!((args.scaled(1_000, 2), args.scaled(50, 2)), (10, 2));
    }
}
