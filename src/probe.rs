//! `sessiond health`: asks a running server whether it is well, for container health checks.

use std::{process::ExitCode, time::Duration};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which server to ask.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// The server's address
    #[arg(long, default_value = "127.0.0.1:7000", value_name = "ADDRESS")]
    address: String,
}

/// Exit code 0 if the server is serving; else 1 and one line that says what it is.
pub fn run(args: ProbeArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, ask(&args.address))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("sessiond: {} is not well: {reason}", args.address);
            ExitCode::FAILURE
        }
    }
}

async fn ask(address: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("not an address: {error}"))?;
    let channel = endpoint.connect().await.map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer.map_err(|status| status.to_string())?.into_inner().status();
    if status == ServingStatus::Serving { Ok(()) } else { Err(status.as_str_name().to_owned()) }
}
