//! Placeholder.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct BenchArgs {}

pub fn run(_: BenchArgs) -> ExitCode {
    ExitCode::SUCCESS
}
