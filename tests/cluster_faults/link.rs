//! A link of the network, which can be cut and held.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Up,
    /// Connections end, and no other one comes about.
    Cut,
    /// Nothing arrives, and nobody is told. What was sent meanwhile arrives when it is up again.
    Held,
}

/// Stands between clients and a server.
#[derive(Debug)]
pub struct Link {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// A link to a server, which is up.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, current) = watch::channel(State::Up);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(client, server, current.clone()));
            }
        });
        Self { address, state, _task: AbortOnDropHandle::new(task) }
    }

    /// Puts it into a state.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let is_cut = passable(&mut state).await.is_none();
    let Ok(server) = TcpStream::connect(server).await else { return };
    if is_cut {
        return;
    }
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, state.clone()) => {}
        () = pump(from_server, to_client, state.clone()) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

/// Waits until something may pass. None = it is cut.
async fn passable(state: &mut watch::Receiver<State>) -> Option<()> {
    let state = state.wait_for(|state| *state != State::Held).await.ok()?;
    (*state == State::Up).then_some(())
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if passable(&mut state).await.is_none() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
