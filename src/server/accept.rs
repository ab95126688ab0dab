//! Sockets: who is let in, and which thread serves whom.

use super::{
    census::{Census, Full},
    descriptors::is_of_one_connection,
    http2::{self, account::Total},
    router::Router,
};
use crate::{config::Config, grpc::delivery::Seat};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long nothing is accepted once there are no more file descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that has to go has until the next one has to.
const SWOLLEN_PAUSE: Duration = Duration::from_millis(20);

/// A socket that was let in, on its way to the thread that serves it.
pub struct Admitted {
    socket: std::net::TcpStream,
    ip: IpAddr,
    stay: super::census::Stay,
}

/// Everything that a connection needs.
pub struct Connections {
    pub router: Arc<Router>,
    pub config: Config,
    pub census: Arc<Census>,
    pub total: Arc<Total>,
    pub stopping: CancellationToken,
    pub cut: CancellationToken,
    pub tracker: TaskTracker,
}

impl Connections {
    /// Accepts sockets and hands them out to the workers in turn.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        workers: Vec<UnboundedSender<Admitted>>,
    ) {
        let mut next = workers.iter().cycle();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.cancelled() => return,
            };
            let accepted = accepted.and_then(|(socket, address)| {
                let socket = socket.into_std()?;
                Ok((socket, address.ip()))
            });
            match accepted {
                Ok((socket, ip)) => match self.census.admit(ip) {
                    Ok(stay) => {
                        if let Some(worker) = next.next() {
                            let _ = worker.send(Admitted { socket, ip, stay });
                        }
                    }
                    Err(Full::Server) => {
                        tracing::debug!("a connection over max-connections was refused");
                    }
                    Err(Full::Address) => {
                        tracing::debug!(%ip, "a connection over the limits of its address was refused");
                    }
                },
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: newcomers wait");
                    // The end of a connection makes room for the next, but nothing tells of it here.
                    sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    /// Has the connections go on which most waits, while more waits in all than may.
    pub async fn relieve(self: Arc<Self>) {
        loop {
            self.total.over().await;
            // Who takes what it is sent is not among the first.
            self.census.look();
            sleep(SWOLLEN_PAUSE).await;
            if !self.total.is_over() {
                continue;
            }
            if !self.census.end_worst() {
                tracing::debug!("nothing is left to end");
            } else {
                let limit = self.config.max_unsent_total;
                tracing::warn!(limit, "a connection whose client does not read was ended");
            }
            sleep(SWOLLEN_PAUSE).await;
        }
    }

    /// Serves the sockets that are handed to one worker, until it is told to stop and they are done.
    pub async fn work(self: Arc<Self>, worker: usize, mut sockets: UnboundedReceiver<Admitted>) {
        for connection in 0.. {
            let admitted = tokio::select! {
                admitted = sockets.recv() => admitted,
                () = self.cut.cancelled() => return,
            };
            let Some(Admitted { socket, ip, stay }) = admitted else { break };
            let server = self.clone();
            self.tracker.spawn(async move {
                let seat = Seat { worker, connection };
                match server.greet(socket, ip, stay, seat).await {
                    Ok(driver) => drop(server.tracker.spawn(driver)),
                    Err(error) => tracing::debug!(%error, "a handshake failed"),
                }
            });
        }
        self.cut.cancelled().await;
    }

    async fn greet(
        &self,
        socket: std::net::TcpStream,
        ip: IpAddr,
        stay: super::census::Stay,
        seat: Seat,
    ) -> io::Result<http2::Driver> {
        let socket = tokio::net::TcpStream::from_std(socket)?;
        let limits = http2::Limits::of(&self.config);
        let setup = http2::Setup {
            router: &self.router,
            tracker: &self.tracker,
            stopping: &self.stopping,
            limits,
            seat,
            ip,
        };
        http2::greet(setup, socket, Arc::new(stay)).await
    }
}
