//! The port at which a node takes what others send on to it. It is served as that of clients is, by
//! the same threads; what differs is who comes in, and how much one connection may carry.

use super::trust::Trust;
use crate::{
    config::{Config, Networks},
    server::{
        StartError,
        accept::{self, Admitted, Connections, From},
        bind,
        census::{Bounds, Census},
        http2::account::Total,
        router::Router,
    },
};
use h2::server::Builder;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc::UnboundedSender},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Most connections at a time: each other node has one for each of its threads.
const MOST_CONNECTIONS: usize = 4096;

/// How much all streams of a connection may send before they are granted more. Each has a window of
/// its own, of which those are full whose clients are slow: they must not hold up the others.
pub const CONNECTION_WINDOW: u32 = 1 << 30;

/// Bytes of the headers of one call: who makes it is said in them.
const HEADERS: u32 = 2 * super::introduction::MOST_BYTES as u32;

/// How many streams of a connection may have ended in any way of their own and not be forgotten. What
/// the clients of another node do must not end its connection.
const MOST_RESET: usize = 1_000_000;

/// A port that is bound.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    trust: Trust,
}

impl Bound {
    /// Binds the port, if the settings name one.
    pub fn new(config: &Config, trust: Trust) -> Result<Option<Self>, StartError> {
        let Some(listen) = &config.node_listen else { return Ok(None) };
        let refused = |cause| StartError::Listen { address: listen.clone(), cause };
        let listener = bind(listen).map_err(refused)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            if trust.is_blind() {
                return Err(StartError::InsecureNodes { address });
            }
            if trust.is_clear() {
                tracing::warn!(
                    %address,
                    "the secret of the nodes, and all that they tell each other, goes in clear \
                     text: keep the network closed, or give node-certificate"
                );
            }
        }
        let listener = TcpListener::from_std(listener)?;
        Ok(Some(Self { listener, address, trust }))
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port with all that its connections need.
    pub fn open(
        self,
        router: Arc<Router>,
        config: &Config,
        (stopping, cut): (CancellationToken, CancellationToken),
        tracker: TaskTracker,
    ) -> Port {
        // What waits for the clients of another node may be as much as what waits for one's own. It
        // ends no connection, which would cut off all of them.
        let total = Total::new(usize::MAX);
        let bounds = Bounds {
            connections: MOST_CONNECTIONS,
            connections_per_address: 0,
            new_per_address: 0,
            streams_per_address: 0,
            handshakes_per_address: 0,
            unsent: config.max_unsent_total,
            unread: config.max_unsent_total,
            are_nodes: true,
        };
        let connections = Arc::new(Connections {
            router,
            config: Config { trusted_proxies: Networks::default(), ..config.clone() },
            census: Census::new(bounds, total.clone()),
            total,
            stopping,
            cut,
            tracker,
            introductions: Arc::new(Semaphore::new(accept::MOST_INTRODUCTIONS)),
            from: From::Nodes(self.trust),
        });
        Port { connections, listener: self.listener, address: self.address }
    }
}

/// The port of nodes.
pub struct Port {
    pub connections: Arc<Connections>,
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Port {
    /// Accepts connections and hands them out, until the server stops; the caller that stops it has
    /// them end.
    pub async fn accept(self, workers: Vec<UnboundedSender<Admitted>>) {
        self.connections.accept(self.listener, workers).await;
    }
}

/// Has a connection carry what all clients of another node do.
pub fn widen(builder: &mut Builder) {
    builder
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        .max_concurrent_reset_streams(MOST_RESET)
        .max_pending_accept_reset_streams(MOST_RESET)
        .max_local_error_reset_streams(None)
        .data_frame_budget(usize::MAX);
}
