//! Who comes to the port of nodes: on each connection, and with each call.

use super::{
    introduction::{self, CALLER_METADATA, Unreadable},
    trust::Trust,
};
use crate::{
    engine::Peer,
    grpc::error::{CredentialFault, Refusal},
    identity::Grant,
};
use http::{HeaderMap, HeaderValue, Response};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The metadata of a refusal that is about the node that sends, and not about the caller.
pub const STRANGER_METADATA: &str = "sessiond-node-unknown";

/// How many calls a connection may have refused here before it is over.
const MOST_REFUSED: usize = 16;

/// Lets in what comes over one connection.
#[derive(Debug)]
pub struct Door {
    trust: Trust,
    /// Whether it is known to be that of a node.
    is_trusted: Arc<AtomicBool>,
    refused: AtomicUsize,
}

impl Door {
    /// That of a new connection; `is_trusted` if its handshake has shown that it is a node's.
    pub fn new(trust: Trust, is_trusted: bool) -> Self {
        let is_trusted = Arc::new(AtomicBool::new(is_trusted));
        Self { trust, is_trusted, refused: AtomicUsize::new(0) }
    }

    /// Is set once it is known to be that of a node.
    pub fn is_trusted(&self) -> Arc<AtomicBool> {
        self.is_trusted.clone()
    }

    /// Whether it had so many calls refused that it is over.
    pub fn is_pestered(&self) -> bool {
        self.refused.load(Relaxed) > MOST_REFUSED
    }

    /// The refusal of a call, which says whether it is about the node that has sent it.
    pub fn refused<B>(&self, mut response: Response<B>) -> Response<B> {
        if !self.is_trusted.load(Relaxed) {
            let yes = const { HeaderValue::from_static("1") };
            response.headers_mut().insert(STRANGER_METADATA, yes);
        }
        response
    }

    /// Who makes a call, as the node says that sends it on.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(Grant, Peer), Refusal> {
        let refuse = |why: &str| {
            self.refused.fetch_add(1, Relaxed);
            let (why, fault) = (why.to_owned(), CredentialFault::Bad);
            Err(Refusal::Unauthenticated { why, fault })
        };
        if !self.trust.knows(headers) {
            self.is_trusted.store(false, Relaxed);
            // It is written once a minute, however often it comes.
            tracing::warn!("the port of nodes was called without a secret of theirs");
            return refuse("this is the port of the other nodes: clients call the one of --listen");
        }
        self.is_trusted.store(true, Relaxed);
        let mut values = headers.get_all(CALLER_METADATA).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            tracing::warn!("the port of nodes was called by somebody who is none");
            return refuse("this is the port of the other nodes: clients call the one of --listen");
        };
        introduction::read(value).map_err(|error| {
            tracing::warn!(%error, "a node says of a caller what is not understood");
            match error {
                // While the nodes change from one version to the next, another one may understand it.
                Unreadable::Version(_) => Refusal::NotOwner,
                Unreadable::Malformed(_) => {
                    Refusal::Malformed(format!("{CALLER_METADATA}: {error}"))
                }
            }
        })
    }
}
