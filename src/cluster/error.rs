//! Why a node does not join, each in one line that says what to do.

use super::notes::NotTold;

/// See the variants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is part of the names of subjects and streams.
    #[error("{0:?} is no name of a cluster: 1 to 32 of A-Z, a-z, 0-9, - and _")]
    BadClusterName(String),
    /// Others list it, and it decides what the node owns.
    #[error("a node of a cluster needs a name of 1 to {most} bytes without control characters")]
    BadNodeName {
        /// The most bytes.
        most: usize,
    },
    /// There are 1 to 256.
    #[error("{0} is no number of partitions: 1 to 256")]
    BadPartitions(usize),
    /// Another process that lives has the name.
    #[error(
        "the cluster has a node {name:?} already, at {address}: stop that one first, or give this one \
         another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The node port of the other one.
        address: String,
    },
    /// The others write what this one cannot read.
    #[error(
        "the nodes of the cluster write records of version {theirs}, this program knows versions up to \
         {known}: use a newer version"
    )]
    Older {
        /// The lowest among them.
        theirs: u8,
        /// The greatest that is known here.
        known: u8,
    },
    /// The node does not hear itself.
    #[error(
        "NATS does not deliver {subject} to this node, which must be allowed to publish and to subscribe \
         to {prefix}.> and _INBOX.>"
    )]
    Unheard {
        /// What was sent.
        subject: String,
        /// The name of the cluster.
        prefix: String,
    },
    /// The notes to all nodes cannot be read or stored.
    #[error(transparent)]
    Notes(#[from] NotTold),
    /// The client of NATS is closed.
    #[error("NATS: {0}")]
    Nats(String),
}
