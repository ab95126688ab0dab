//! A network between a log and its server that loses what it is told to lose.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// Stands between clients and one server.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// How often all connections were cut.
    cuts: watch::Sender<u32>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Nothing of what the server says arrives.
    is_mute: AtomicBool,
    /// So many bytes more arrive at the server. Then the network is gone for ever.
    budget: AtomicU64,
}

impl Proxy {
    pub async fn to(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared =
            Arc::new(Shared { is_mute: AtomicBool::new(false), budget: AtomicU64::new(u64::MAX) });
        let (cuts, cut) = watch::channel(0);
        let state = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(&server).await;
                if let (Ok(server), true) = (server, state.budget.load(Ordering::SeqCst) > 0) {
                    tokio::spawn(carry(client, server, state.clone(), cut.clone()));
                }
            }
        });
        Self { port, shared, cuts, _task: AbortOnDropHandle::new(task) }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on the server is heard, or not.
    pub fn mute(&self, is_mute: bool) {
        self.shared.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The server gets so many bytes more, and then nothing, ever.
    pub fn fail_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    mut cut: watch::Receiver<u32>,
) {
    cut.mark_unchanged();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            let left = shared.budget.load(Ordering::SeqCst);
            let taken = left.min(count as u64);
            if left != u64::MAX {
                shared.budget.store(left - taken, Ordering::SeqCst);
            }
            if to_server.write_all(&bytes[..taken as usize]).await.is_err() || taken < count as u64
            {
                return;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            let is_mute = shared.is_mute.load(Ordering::SeqCst);
            if !is_mute && to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cut.changed() => {}
    }
}
