//! Sockets: who is let in, and which thread serves whom.

use super::{
    census::{Census, Full},
    descriptors::is_of_one_connection,
    forwarded::Forwarders,
    http2::{self, account::Total},
    nodes::Trust,
    proxied,
    router::Router,
    tls::{Handshakes, Secured, Stream, Tls},
};
use crate::{config::Config, grpc::delivery::Seat};
use std::{
    io,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{
        Semaphore,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
    },
    time::{sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long nothing is accepted once there are no more file descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may wait for what their proxies say.
pub const MOST_INTRODUCTIONS: usize = 4096;

/// For how many workers one thread shakes hands.
const WORKERS_EACH: usize = 4;

/// How long a connection that has to go has until the next one has to.
const SWOLLEN_PAUSE: Duration = Duration::from_millis(20);

/// A socket that was let in, on its way to the thread that shakes hands or to the one that serves it.
#[derive(Debug)]
pub struct Admitted {
    pub socket: std::net::TcpStream,
    /// Where its client is.
    pub ip: IpAddr,
    pub stay: super::census::Stay,
    /// When it was accepted.
    pub began: Instant,
    /// What came of its handshake, with TLS.
    pub secured: Option<Secured>,
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
    /// The places of connections whose proxies have not said yet who comes.
    pub introductions: Arc<Semaphore>,
    /// Who comes.
    pub from: From,
}

/// Who comes to a port.
#[derive(Debug)]
pub enum From {
    /// Clients.
    Clients,
    /// Other nodes, if they are known by this.
    Nodes(Trust),
}

impl Connections {
    /// Accepts sockets and hands them out in turn, to the workers or to those who shake hands.
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
            match accepted {
                Ok((socket, address)) => {
                    let Some(worker) = next.next() else { return };
                    self.clone().let_in(socket, address.ip(), worker);
                }
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

    /// Lets a client in; where a proxy stands before it, once that has said where it is.
    fn let_in(self: Arc<Self>, socket: TcpStream, ip: IpAddr, to: &UnboundedSender<Admitted>) {
        let began = Instant::now();
        if !self.config.trusted_proxies.have(ip) {
            return self.admit(socket, ip, began, to);
        }
        let Ok(place) = self.introductions.clone().try_acquire_owned() else {
            tracing::warn!(proxy = %ip, "too many connections wait for what their proxies say");
            return;
        };
        let (server, to) = (self.clone(), to.clone());
        self.tracker.spawn(async move {
            let (mut socket, _place) = (socket, place);
            let deadline = began + server.config.handshake_timeout;
            let read = tokio::select! {
                read = timeout_at(deadline.into(), proxied::read(&mut socket)) => read,
                () = server.stopping.cancelled() => return,
            };
            match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(client) => server.admit(socket, client.unwrap_or(ip), began, &to),
                Err(error) => {
                    tracing::warn!(proxy = %ip, %error, "a proxy does not say where its client is");
                }
            }
        });
    }

    /// Lets a client in from this address, if there is room: whatever is limited per address counts
    /// it here.
    fn admit(&self, socket: TcpStream, ip: IpAddr, began: Instant, to: &UnboundedSender<Admitted>) {
        match self.census.admit(ip) {
            Ok(stay) => match socket.into_std() {
                Ok(socket) => {
                    let _ = to.send(Admitted { socket, ip, stay, began, secured: None });
                }
                Err(error) => tracing::debug!(%error, "a connection ended as it was accepted"),
            },
            Err(Full::Server) => {
                tracing::debug!("a connection over max-connections was refused");
            }
            Err(Full::Address) => {
                tracing::debug!(%ip, "a connection over the limits of its address was refused");
            }
            Err(Full::Rate) => {
                tracing::warn!(%ip, "a connection over max-new-connections-per-address was refused");
            }
        }
    }

    /// Starts the threads that shake hands for these workers; the threads, and where they take sockets.
    pub fn shake_hands(
        self: &Arc<Self>,
        tls: &Arc<Tls>,
        workers: Vec<UnboundedSender<Admitted>>,
    ) -> io::Result<Vec<(thread::JoinHandle<()>, UnboundedSender<Admitted>)>> {
        let count = workers.len().div_ceil(WORKERS_EACH);
        let handshakes = Arc::new(Handshakes {
            tls: tls.clone(),
            most: self.config.max_tls_handshakes.div_ceil(count),
            time: self.config.handshake_timeout,
            dead: self.limits().dead(),
            stopping: self.stopping.clone(),
            tracker: self.tracker.clone(),
            workers,
        });
        let start = |number| {
            let (inbox, sockets) = mpsc::unbounded_channel();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (handshakes, cut) = (handshakes.clone(), self.cut.clone());
            let work = move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = handshakes.work(sockets) => cut.cancelled().await,
                        () = cut.cancelled() => {}
                    }
                });
            };
            let thread = thread::Builder::new().name(format!("handshakes-{number}")).spawn(work)?;
            Ok((thread, inbox))
        };
        (0..count).map(start).collect()
    }

    /// Has the connections go on which most waits, while more waits in all than may.
    pub async fn relieve(self: Arc<Self>) {
        loop {
            self.total.over().await;
            // A client that takes what it is sent is not among the first.
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

    /// Serves the sockets that are handed to one worker, until it is to stop and they are done.
    pub async fn work(self: Arc<Self>, worker: usize, mut sockets: UnboundedReceiver<Admitted>) {
        for connection in 0.. {
            let admitted = tokio::select! {
                admitted = sockets.recv() => admitted,
                () = self.cut.cancelled() => return,
            };
            let Some(admitted) = admitted else { break };
            let server = self.clone();
            self.tracker.spawn(async move {
                let seat = Seat { worker, connection };
                match server.greet(admitted, seat).await {
                    Ok(driver) => drop(server.tracker.spawn(driver)),
                    Err(error) => tracing::debug!(%error, "a handshake failed"),
                }
            });
        }
        self.cut.cancelled().await;
    }

    fn limits(&self) -> http2::Limits {
        match &self.from {
            From::Clients => http2::Limits::of(&self.config),
            From::Nodes(_) => http2::Limits::of_nodes(&self.config),
        }
    }

    async fn greet(&self, admitted: Admitted, seat: Seat) -> io::Result<http2::Driver> {
        let Admitted { socket, ip, stay, began, secured } = admitted;
        let socket = TcpStream::from_std(socket)?;
        let certificate = secured.as_ref().and_then(|secured| secured.certificate.clone());
        let socket = match secured {
            None => Stream::Plain(socket),
            Some(secured) => secured.resume(socket),
        };
        let limits = self.limits();
        let door = match &self.from {
            From::Clients => None,
            From::Nodes(trust) => Some(trust.door()),
        };
        let Config { forwarding_proxies, trusted_proxies, .. } = &self.config;
        let forwarders = match &self.from {
            From::Clients => Forwarders::at(ip, forwarding_proxies, trusted_proxies),
            From::Nodes(_) => None,
        };
        let setup = http2::Setup {
            router: &self.router,
            tracker: &self.tracker,
            stopping: &self.stopping,
            limits,
            seat,
            ip,
            forwarders,
            began,
            certificate,
            door,
        };
        http2::greet(setup, socket, Arc::new(stay)).await
    }
}
