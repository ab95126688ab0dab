//! Why a server did not start, or had to end.

use super::store::Unstored;
use crate::{
    cluster::JoinError,
    config::{ConfigError, Listen},
    identity,
    keeper::LoadError,
    log::LogError,
};
use std::{io, net::SocketAddr};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: Listen,
        /// Why.
        cause: io::Error,
    },
    /// The store does not open.
    #[error("{0}")]
    Store(#[from] LoadError),
    /// The store failed while it was served: nothing more can be stored.
    #[error("{0}: the server has stopped, and what it acked as stored is stored")]
    StoreFailed(LogError),
    /// The server was stopped, and the store had no space for everything.
    #[error("the server has stopped, and this is not stored: {0}")]
    NotStored(Unstored),
    /// Something is wrong with what says who may call.
    #[error("{}", lines(.0))]
    Identity(Vec<identity::Fault>),
    /// Something is wrong with what says where events are pushed to.
    #[error("{}", lines(.0))]
    Webhooks(Vec<identity::Fault>),
    /// Something is wrong with what TLS needs.
    #[error("{}", lines(.0))]
    Tls(Vec<String>),
    /// Something is wrong with the rules and hooks.
    #[error("{}", lines(.0))]
    Policy(Vec<identity::Fault>),
    /// Something is wrong with what says how far apps are limited.
    #[error("{}", lines(.0))]
    Apps(Vec<ConfigError>),
    /// Everybody who reaches the address could do everything.
    #[error(
        "{address} can be reached from other machines, and nothing says who may call: give a file \
         with --identity, or --insecure to believe every caller"
    )]
    Insecure {
        /// Which.
        address: SocketAddr,
    },
    /// Everybody who reaches the port of nodes could do everything.
    #[error(
        "the port of nodes at {address} can be reached from other machines, and nothing says which \
         nodes there are: give node-certificate, node-key and node-ca, or node-secret"
    )]
    InsecureNodes {
        /// Which.
        address: SocketAddr,
    },
    /// The log of the cluster cannot be used.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The cluster does not take this node in.
    #[error("{0}")]
    Cluster(#[from] JoinError),
    /// Something is wrong with the settings of a cluster.
    #[error("{}", lines(.0))]
    ClusterSettings(Vec<String>),
    /// Several of these at once.
    #[error("{}", lines(.0))]
    Several(Vec<StartError>),
    /// There is nothing to store in.
    #[error("the durability {0} needs a store: give one with --store")]
    NoStore(&'static str),
    /// The machine refuses something else.
    #[error("cannot start: {0}")]
    Machine(#[from] io::Error),
}

impl StartError {
    /// Of at least one error.
    pub(super) fn of(mut errors: Vec<Self>) -> Self {
        match errors.len() {
            1 => errors.remove(0),
            _ => Self::Several(errors),
        }
    }

    /// All that is wrong, each in a text of its own.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Identity(faults) | Self::Webhooks(faults) | Self::Policy(faults) => texts(faults),
            Self::Tls(faults) | Self::ClusterSettings(faults) => faults.clone(),
            Self::Apps(faults) => texts(faults),
            Self::Several(errors) => errors.iter().flat_map(Self::reasons).collect(),
            error => vec![error.to_string()],
        }
    }

    /// Whether it did start, and ended because of this.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::StoreFailed(_) | Self::NotStored(_))
    }
}

fn lines(faults: &[impl ToString]) -> String {
    texts(faults).join("\n")
}

fn texts(faults: &[impl ToString]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}
