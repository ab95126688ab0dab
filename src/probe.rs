//! `sessiond health`: asks a running server whether it is well, for container health checks.

use crate::dial::{TlsArgs, Trust};
use clap::value_parser;
use std::{ffi::OsString, fmt::Display, io, net::SocketAddr, process::ExitCode, time::Duration};
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which server to ask.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// Ask the server at this address, not the one of the settings
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Read the settings from this TOML file; the environment wins over it
    #[arg(long, value_name = "FILE", env = "SESSIOND_CONFIG", hide_env_values = true)]
    #[arg(value_parser = value_parser!(OsString))]
    pub config: Option<OsString>,
    /// How it is called, if it has TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// Asks at one address after the other, with TLS if it is said whom to trust. Exit code 0 if a server
/// is serving there; else 1 and one line that says what it is.
pub fn run(
    name: &impl Display,
    addresses: io::Result<Vec<SocketAddr>>,
    tls: Option<(&TlsArgs, &Trust)>,
) -> ExitCode {
    match answer(addresses, tls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("sessiond: {name} is not well: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn answer(
    addresses: io::Result<Vec<SocketAddr>>,
    tls: Option<(&TlsArgs, &Trust)>,
) -> Result<(), String> {
    let addresses = addresses.map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let asking = async {
            let mut outcome = Err("the name has no address".to_owned());
            for address in addresses {
                outcome = ask(address, tls).await;
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        };
        let late = |_| Err(format!("no answer within {PATIENCE:?}"));
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(late)
    })
}

async fn ask(address: SocketAddr, tls: Option<(&TlsArgs, &Trust)>) -> Result<(), String> {
    let endpoint = match tls {
        None => Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("not an address: {error}"))?,
        Some((tls, trust)) => tls.endpoint(&format!("https://{address}"), trust)?,
    };
    let channel = endpoint.connect().await.map_err(|error| {
        let why = std::iter::successors(std::error::Error::source(&error), |it| it.source()).last();
        why.map_or_else(|| error.to_string(), ToString::to_string)
    })?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer.map_err(|status| why(&status, tls.is_some()))?.into_inner().status();
    if status == ServingStatus::Serving { Ok(()) } else { Err(status.as_str_name().to_owned()) }
}

/// Why there was no answer, in one line.
fn why(status: &Status, has_tls: bool) -> String {
    // What makes no sense to a client has a source; what a server answers has none.
    let makes_no_sense =
        status.code() == Code::Internal && std::error::Error::source(status).is_some();
    if makes_no_sense && !has_tls {
        return "it does not speak HTTP/2 without TLS. If it has TLS, --ca names the authorities of its \
                certificate"
            .to_owned();
    }
    format!("{:?}: {}", status.code(), status.message())
}
