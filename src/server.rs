//! Placeholder.

use crate::config::Config;
use std::net::{SocketAddr, TcpListener};

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct StartError {
    address: SocketAddr,
    cause: std::io::Error,
}

pub fn run(config: Config) -> Result<(), StartError> {
    let address = config.listen;
    let listener = TcpListener::bind(address).map_err(|cause| StartError { address, cause })?;
    tracing::info!(address = ?listener.local_addr(), "listening");
    Ok(())
}
