//! The floor: a server that does the same reads and writes as the real one and nothing else. It
//! knows no HTTP/2, no session and no props; what it costs is what the sockets cost.
//!
//! A client first sends the number of its room, four bytes; then updates of any content, which are
//! read and forgotten. On each tick every connection of a room gets one message of a fixed size.

use super::Result;
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver},
    time::{Instant, interval_at},
};

/// Arguments of the floor.
#[derive(Debug, clap::Args)]
pub struct FloorArgs {
    /// Runtimes, each of one thread.
    #[arg(long)]
    threads: usize,
    /// Interval of a room's messages, in milliseconds.
    #[arg(long)]
    tick_ms: u64,
    /// Size of each message.
    #[arg(long)]
    message_bytes: usize,
}

impl FloorArgs {
    /// The command line that asks for such a floor.
    pub fn command_line(threads: usize, tick: Duration, message_bytes: usize) -> Vec<String> {
        let tick_ms = tick.as_millis().max(1);
        let flags = format!(
            "bench-floor --threads {threads} --tick-ms {tick_ms} --message-bytes {message_bytes}"
        );
        flags.split(' ').map(str::to_owned).collect()
    }
}

/// So much is read at a time: the updates of one backend.
const UPDATES_BYTES: usize = 4096;

/// Serves until its standard input ends, that is as long as the process that started it lives.
pub fn run_floor(args: FloorArgs) -> ExitCode {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &FloorArgs) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let message: Arc<[u8]> = vec![0; args.message_bytes].into();
    let tick = Duration::from_millis(args.tick_ms);
    let mut inboxes = Vec::new();
    for _ in 0..args.threads {
        let (inbox, sockets) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let message = message.clone();
        thread::spawn(move || runtime.block_on(serve_sockets(sockets, tick, message)));
        inboxes.push(inbox);
    }
    eprintln!("{}", json!({"message": "listening", "address": listener.local_addr()?.to_string()}));
    for inbox in inboxes.iter().cycle() {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        inbox.send(socket)?;
    }
    Ok(())
}

/// The connections of one runtime, by room. Its lock is taken by the one thread of that runtime.
type Rooms = Arc<Mutex<HashMap<u32, Vec<Arc<TcpStream>>>>>;

async fn serve_sockets(
    mut sockets: UnboundedReceiver<std::net::TcpStream>,
    tick: Duration,
    message: Arc<[u8]>,
) {
    let rooms = Rooms::default();
    while let Some(socket) = sockets.recv().await {
        let Ok(socket) = TcpStream::from_std(socket) else { continue };
        tokio::spawn(serve_socket(socket, rooms.clone(), tick, message.clone()));
    }
}

async fn serve_socket(
    mut socket: TcpStream,
    rooms: Rooms,
    tick: Duration,
    message: Arc<[u8]>,
) -> io::Result<()> {
    let room = socket.read_u32().await?;
    let socket = Arc::new(socket);
    let is_new = {
        let mut rooms = rooms.lock();
        let members = rooms.entry(room).or_default();
        members.push(socket.clone());
        members.len() == 1
    };
    if is_new {
        tokio::spawn(serve_room(room, rooms.clone(), tick, message));
    }
    let mut updates = [0; UPDATES_BYTES];
    loop {
        socket.readable().await?;
        match socket.try_read(&mut updates) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    if let Some(members) = rooms.lock().get_mut(&room) {
        members.retain(|member| !Arc::ptr_eq(member, &socket));
    }
    Ok(())
}

async fn serve_room(room: u32, rooms: Rooms, tick: Duration, message: Arc<[u8]>) {
    // Rooms take turns, as the ticks of sessions do.
    let turn = tick * (room % 10) / 10;
    // Late ticks are made up for: the number of messages is what is compared.
    let mut ticks = interval_at(Instant::now() + turn, tick);
    loop {
        ticks.tick().await;
        let mut rooms = rooms.lock();
        let Some(members) = rooms.get_mut(&room) else { return };
        // Half a message would shift all that follow; the load generator notices the lost connection.
        members.retain(|member| member.try_write(&message).is_ok_and(|sent| sent == message.len()));
        if members.is_empty() {
            rooms.remove(&room);
            return;
        }
    }
}
