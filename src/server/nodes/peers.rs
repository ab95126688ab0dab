//! The connections to other nodes: made when they are needed, and kept until they end.

use super::{
    call,
    failure::{Failure, NotDone},
    link::{Link, Sent},
    request::{self, Introduced},
    stream::Forwarded,
    trust::Trust,
};
use crate::{
    grpc::{Context, delivery::CallHead, error::Refusal},
    session::limits::Micros,
};
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tonic::body::Body;

/// How long nobody tries again to connect to a node with which that has just failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a node is not called that does not take this one for a node.
const SHUNNED: Duration = Duration::from_secs(1);

/// Where the port of a node is: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeAddress(Arc<str>);

impl NodeAddress {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, as certificates name it.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(&*self.0, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// A text is no address of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no host and port, as 10.0.0.1:7001 or node-b.example.org:7001 are")]
pub struct NoAddress;

impl FromStr for NodeAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if host.is_empty() || !is_port {
            return Err(NoAddress);
        }
        Ok(Self(text.into()))
    }
}

impl From<SocketAddr> for NodeAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sends calls on to other nodes.
#[derive(Debug, Clone)]
pub struct Peers {
    server: Arc<Context>,
    trust: Trust,
    /// One for each thread: a connection is driven by the thread of those who use it.
    pools: Arc<[Pool]>,
}

#[derive(Debug, Default)]
struct Pool(Mutex<HashMap<NodeAddress, Slot>>);

#[derive(Debug)]
enum Slot {
    Up(Link),
    /// Is there once it has been tried.
    Connecting(watch::Receiver<Option<Outcome>>),
    /// It has failed, and is tried again from then on.
    Down(Instant, String),
}

type Outcome = Result<Link, String>;

impl Peers {
    /// Nothing is connected yet.
    pub fn new(server: Arc<Context>, trust: Trust) -> Self {
        let threads = server.engine.settings().shards.max(1);
        Self { server, trust, pools: (0..threads).map(|_| Pool::default()).collect() }
    }

    /// What this node knows.
    pub fn server(&self) -> &Arc<Context> {
        &self.server
    }

    /// Sends a call with one message on, which has its prefix, and returns its reply. An error says
    /// that nothing was done. A call of which that is not known is answered UNAVAILABLE.
    pub async fn call(
        &self,
        to: &NodeAddress,
        path: &str,
        caller: &Introduced,
        message: Bytes,
        deadline: Option<Micros>,
    ) -> Result<Response<Body>, NotDone> {
        let sent = match self.request(path, caller, deadline) {
            Ok(request) => self.send(to, caller.seat.worker, request).await,
            Err(refusal) => return Ok(self.server.node.status(&refusal).into_http()),
        };
        let reply = match sent {
            Ok(sent) => call::reply(sent, message).await,
            Err(failure) => Err(failure),
        };
        match reply {
            Ok(reply) => Ok(reply),
            Err(Failure::NotDone(not_done)) => Err(not_done),
            Err(Failure::Stranger) => {
                self.shun(to, caller.seat.worker);
                Err(NotDone::by_a_stranger())
            }
            Err(lost) => Ok(lost.status(&self.server, false).into_http()),
        }
    }

    /// Sends a stream on.
    pub fn stream(&self, to: &NodeAddress, head: &CallHead) -> Forwarded {
        let begin = match self.request(&head.path, &Introduced::of(head), head.deadline) {
            Ok(request) => {
                let (peers, to, worker) = (self.clone(), to.clone(), head.seat.worker);
                Ok(async move { peers.send(&to, worker, request).await })
            }
            Err(refusal) => Err(self.server.node.status(&refusal)),
        };
        let (peers, to, worker) = (self.clone(), to.clone(), head.seat.worker);
        let shun = Box::new(move || peers.shun(&to, worker));
        Forwarded::new(self.server.clone(), head, begin, shun)
    }

    /// A node that does not take this one for a node is called again after a while, and over another
    /// connection: one over which it refuses many calls it ends, with all that is on its way.
    fn shun(&self, to: &NodeAddress, worker: usize) {
        let down = Slot::Down(Instant::now() + SHUNNED, NotDone::by_a_stranger().0);
        self.pools[worker % self.pools.len()].0.lock().insert(to.clone(), down);
    }

    fn request(
        &self,
        path: &str,
        caller: &Introduced,
        deadline: Option<Micros>,
    ) -> Result<Request<()>, Refusal> {
        let now = self.server.engine.clock().now();
        let deadline = deadline.filter(|deadline| *deadline < Micros::MAX);
        let time = deadline.map(|deadline| deadline.saturating_sub(now));
        request::request(path, caller, &self.trust, time)
    }

    async fn send(
        &self,
        to: &NodeAddress,
        worker: usize,
        request: Request<()>,
    ) -> Result<Sent, Failure> {
        match self.link(to, worker).await?.send(request.clone()).await {
            // Its node takes no more calls over this connection, but maybe over another one.
            Err(_) => self.link(to, worker).await?.send(request).await,
            sent => sent,
        }
    }

    /// A connection to a node; all who need one at the same time wait for the same.
    async fn link(&self, to: &NodeAddress, worker: usize) -> Result<Link, Failure> {
        let mut outcome = {
            let mut links = self.pools[worker % self.pools.len()].0.lock();
            match links.get(to) {
                Some(Slot::Up(link)) if link.is_usable() => return Ok(link.clone()),
                Some(Slot::Down(until, why)) if Instant::now() < *until => {
                    return Err(Failure::not_done(why));
                }
                // The task that was to tell of it may be gone.
                Some(Slot::Connecting(told)) if told.has_changed().is_ok() => told.clone(),
                Some(_) | None => {
                    let (told, outcome) = watch::channel(None);
                    links.insert(to.clone(), Slot::Connecting(outcome.clone()));
                    tokio::spawn(self.clone().connect(to.clone(), worker, told));
                    outcome
                }
            }
        };
        let told = outcome.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|told| told.clone());
        told.unwrap_or_else(|| Err("the server stops".to_owned())).map_err(Failure::not_done)
    }

    /// Connects, and tells all who wait for it.
    async fn connect(self, to: NodeAddress, worker: usize, told: watch::Sender<Option<Outcome>>) {
        let outcome = Link::connect(&to, &self.trust).await.map_err(|failure| match failure {
            Failure::NotDone(NotDone(why)) | Failure::Lost(why) => why,
            Failure::Stranger => NotDone::by_a_stranger().0,
        });
        let slot = match &outcome {
            Ok(link) => Slot::Up(link.clone()),
            Err(why) => {
                tracing::warn!(node = %to, error = why, "a node cannot be reached");
                Slot::Down(Instant::now() + PAUSE, why.clone())
            }
        };
        let mut links = self.pools[worker % self.pools.len()].0.lock();
        // Nodes that have gone leave nothing here.
        links.retain(|_, slot| match slot {
            Slot::Up(link) => link.is_usable(),
            Slot::Connecting(_) => true,
            Slot::Down(until, _) => Instant::now() < *until,
        });
        links.insert(to, slot);
        drop(links);
        let _ = told.send(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_at_a_host_and_a_port() {
        for (text, host) in [
            ("10.0.0.1:7001", "10.0.0.1"),
            ("[2001:db8::1]:7001", "2001:db8::1"),
            ("node-b.example.org:1", "node-b.example.org"),
        ] {
            let address: NodeAddress = text.parse().expect("an address");
            assert_eq!((address.as_str(), address.host()), (text, host));
        }
        for text in ["", ":7001", "node", "node:", "node:x", "node:65536", "node:+1"] {
            assert_eq!(text.parse::<NodeAddress>(), Err(NoAddress), "{text}");
        }
    }
}
