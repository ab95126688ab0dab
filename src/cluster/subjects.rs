//! The subjects of NATS on which nodes speak. All begin with the name of the cluster, so that several
//! clusters share an account.

use super::error::JoinError;
use crate::log::NodeId;
use std::fmt::Write;

/// Bytes of the name of a cluster at most.
const MAX_CLUSTER_BYTES: usize = 32;

/// Those of one cluster.
#[derive(Debug, Clone)]
pub struct Subjects {
    /// The name of the cluster.
    pub prefix: String,
    /// All beats.
    pub beat: String,
}

impl Subjects {
    /// Those of the cluster of a name.
    pub fn of(cluster: &str) -> Result<Self, JoinError> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=MAX_CLUSTER_BYTES).contains(&cluster.len()) || !cluster.bytes().all(is_part) {
            return Err(JoinError::BadClusterName(cluster.to_owned()));
        }
        Ok(Self { prefix: cluster.to_owned(), beat: format!("{cluster}.beat") })
    }

    /// What is for one node.
    pub fn node(&self, id: NodeId) -> String {
        format!("{}.node.{:016x}", self.prefix, id.0)
    }

    /// What is for the node that has a name. Names may have dots and blanks, so they are written in
    /// hexadecimal.
    pub fn name(&self, name: &str) -> String {
        format!("{}.name.{}", self.prefix, hexadecimal(name.as_bytes()))
    }
}

/// Bytes as a part of a subject.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
