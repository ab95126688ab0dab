//! Handshakes that are slow, many, endless or broken.

use super::support::{Service, in_time, members, open_room, rest};
use rustls::{
    ClientConnection,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

/// The first thing that a client says.
fn hello(service: &Service) -> Vec<u8> {
    let config = Arc::new(service.client_config(&[&TLS12, &TLS13], &["h2"], None));
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("it is written");
    hello
}

#[tokio::test]
async fn a_handshake_of_one_byte_at_a_time_ends_when_its_time_is_over() {
    let service = Service::start_with(|config, _, _| {
        config.handshake_timeout = Duration::from_secs(1);
    })
    .await;
    let began = Instant::now();
    let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
    let slow = async {
        for byte in hello(&service) {
            if socket.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = socket.read_u8().await;
    };
    in_time(slow).await;
    let took = began.elapsed();
    assert!((1..5).contains(&took.as_secs()), "it ended after {took:?}");
}

#[tokio::test]
async fn many_handshakes_that_stand_still_keep_nobody_out() {
    let service = Service::start_with(|config, _, _| config.max_tls_handshakes = 20).await;
    let hello = hello(&service);
    let mut halves = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
        socket.write_all(&hello[..100]).await.expect("it is taken");
        halves.push(socket);
    }
    let mut client = in_time(service.client(None)).await.expect("it gets in");
    open_room(&mut client, "games", "finals").await.expect("a new room");
    // The first of them made room.
    for socket in &mut halves[..70] {
        let (_, _) = rest(socket).await;
    }
    assert_eq!(members(&mut client, "games", "finals").await.expect("it is there"), 0);
}

#[tokio::test]
async fn one_address_has_only_so_many_handshakes() {
    let service = Service::start_with(|config, _, _| config.max_handshakes_per_address = 3).await;
    let mut halves = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
        socket.write_all(&hello(&service)[..50]).await.expect("it is taken");
        halves.push(socket);
    }
    let mut fourth = TcpStream::connect(service.address()).await.expect("the kernel accepts");
    let _ = rest(&mut fourth).await;
    drop(halves);
    in_time(async {
        while service.client(None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_takes_only_so_many_bytes() {
    let service = Service::start().await;
    let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
    // The largest message of a handshake that can be named, in records of the largest size.
    let mut sent = 0;
    let head = [22, 3, 1, 0x40, 0];
    let mut first = vec![1, 0xff, 0xff, 0xff];
    in_time(async {
        loop {
            let mut record = head.to_vec();
            record.append(&mut first);
            record.resize(head.len() + 0x4000, 0);
            if socket.write_all(&record).await.is_err() {
                return;
            }
            sent += record.len();
            if sent > 8 << 20 {
                return;
            }
        }
    })
    .await;
    assert!(sent < 8 << 20, "it was cut off");
}

#[tokio::test]
async fn a_client_that_asks_for_new_keys_without_end_is_ended() {
    let service = Service::start().await;
    let config = service.client_config(&[&TLS13], &["h2"], None);
    let mut stream = service.shake_hands(config).await.expect("it shakes hands");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.expect("it is taken");
    // By the server: nothing else ends the loop.
    in_time(async {
        loop {
            let (socket, session) = stream.get_mut();
            session.refresh_traffic_keys().expect("it may ask");
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).expect("it is written");
            }
            if socket.write_all(&bytes).await.is_err() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_negotiates_a_second_time() {
    let service = Service::start().await;
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-alpn", "h2", "-connect", &service.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut keys = client.stdin.take().expect("it is piped");
    let mut out = client.stdout.take().expect("it is piped");
    let mut told = Vec::new();
    in_time(async {
        // It is through once it prints what the session is.
        while !String::from_utf8_lossy(&told).contains("Extended master secret") {
            assert!(out.read_buf(&mut told).await.expect("a pipe") > 0, "it ended early");
        }
    })
    .await;
    keys.write_all(b"R\n").await.expect("it listens");
    let output = in_time(client.wait_with_output()).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no renegotiation"), "{said}");
}
