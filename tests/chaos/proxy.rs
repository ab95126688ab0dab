//! A proxy that does to connections what networks do.

use socket2::SockRef;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// From the client, or to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    Up,
    Down,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing.
    None,
    /// Exactly so many bytes pass one way; then both ends are closed.
    Close(Way, u64),
    /// The same, and they are reset: what has arrived and is not read is lost too.
    Reset(Way, u64),
    /// The same, but only the client is told. The server's end stays open and silent.
    Ghost(Way, u64),
    /// The same, but only the server is told. The client's end stays open and silent.
    Deaf(Way, u64),
    /// So many bytes pass at a time, and then none for a while.
    Trickle(Way, usize, Duration),
    /// After so many bytes nothing passes for a while.
    Pause(Way, u64, Duration),
    /// Everything comes so much later.
    Delay(Duration),
}

impl Fault {
    /// Where this way ends.
    fn cut(self, way: Way) -> Option<u64> {
        let (Self::Close(of, at) | Self::Reset(of, at) | Self::Ghost(of, at) | Self::Deaf(of, at)) =
            self
        else {
            return None;
        };
        (of == way).then_some(at)
    }
}

/// What passed over the first connection.
#[derive(Debug, Default)]
pub struct Passed {
    up: AtomicU64,
    down: AtomicU64,
    cuts: AtomicU64,
}

impl Passed {
    /// How many bytes, one way.
    pub fn bytes(&self, way: Way) -> u64 {
        self.of(way).load(Ordering::Relaxed)
    }

    /// Whether the connection was cut as planned.
    pub fn is_cut(&self) -> bool {
        self.cuts.load(Ordering::Relaxed) > 0
    }

    fn of(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// A proxy in front of a server. It ends with all its connections when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub passed: Arc<Passed>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// Does this to the first connection. Later ones pass unharmed.
    pub async fn start(server: SocketAddr, fault: Fault) -> Self {
        Self::with(server, std::iter::once(fault).chain(std::iter::repeat(Fault::None))).await
    }

    /// Does this to every connection.
    pub async fn start_for_all(server: SocketAddr, fault: Fault) -> Self {
        Self::with(server, std::iter::repeat(fault)).await
    }

    async fn with(
        server: SocketAddr,
        faults: impl Iterator<Item = Fault> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has an address");
        let passed = Arc::new(Passed::default());
        let mut of_next = passed.clone();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut inner = JoinSet::new();
            for fault in faults {
                let Ok((client, _)) = listener.accept().await else { break };
                inner.spawn(carry(client, server, fault, std::mem::take(&mut of_next)));
                while inner.try_join_next().is_some() {}
            }
        });
        Self { address, passed, _connections: connections }
    }
}

async fn carry(client: TcpStream, server: SocketAddr, fault: Fault, passed: Arc<Passed>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    if matches!(fault, Fault::Trickle(Way::Down, ..)) {
        // What is not passed on must not go into a large buffer here instead.
        socket.set_recv_buffer_size(4096).expect("it can be set");
    }
    let Ok(server) = socket.connect(server).await else { return };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Pump { way: Way::Up, fault, from: from_client, to: to_server, passed: &passed };
    let mut down =
        Pump { way: Way::Down, fault, from: from_server, to: to_client, passed: &passed };
    let is_cut = {
        let (mut up, mut down) = (std::pin::pin!(up.run()), std::pin::pin!(down.run()));
        tokio::select! {
            is_cut = &mut up => is_cut || down.await,
            is_cut = &mut down => is_cut || up.await,
        }
    };
    if !is_cut {
        return;
    }
    passed.cuts.fetch_add(1, Ordering::Relaxed);
    let client = up.from.reunite(down.to).expect("halves of one");
    let server = down.from.reunite(up.to).expect("halves of one");
    match fault {
        Fault::Reset(..) => {
            for socket in [&client, &server] {
                let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
        }
        Fault::Ghost(..) => {
            drop(client);
            std::future::pending::<()>().await;
            drop(server);
        }
        Fault::Deaf(..) => {
            drop(server);
            std::future::pending::<()>().await;
            drop(client);
        }
        _ => {}
    }
}

/// One way of a connection.
struct Pump<'a> {
    way: Way,
    fault: Fault,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    passed: &'a Passed,
}

impl Pump<'_> {
    /// Returns when this way has ended: true = because it was cut.
    async fn run(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let mut passed = 0;
        let cut = self.fault.cut(self.way);
        loop {
            if cut == Some(passed) {
                return true;
            }
            let most = match self.fault {
                Fault::Trickle(way, bytes, _) if way == self.way => bytes,
                Fault::Pause(way, at, _) if way == self.way && passed < at => {
                    (at - passed) as usize
                }
                _ => buffer.len(),
            };
            let most = most.min(buffer.len());
            let most = cut.map_or(most, |at| most.min((at - passed) as usize));
            let Ok(count @ 1..) = self.from.read(&mut buffer[..most]).await else { break };
            match self.fault {
                Fault::Trickle(way, _, every) if way == self.way => tokio::time::sleep(every).await,
                Fault::Delay(by) => tokio::time::sleep(by).await,
                _ => {}
            }
            if self.to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
            passed += count as u64;
            self.passed.of(self.way).store(passed, Ordering::Relaxed);
            match self.fault {
                Fault::Pause(way, at, span) if way == self.way && passed == at => {
                    tokio::time::sleep(span).await;
                }
                _ => {}
            }
        }
        let _ = self.to.shutdown().await;
        false
    }
}
