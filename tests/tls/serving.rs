//! What a server with TLS is to its clients, and what it tells those who come otherwise.

use super::{
    authority::Authority,
    support::{Service, config, in_time, members, open_room, rest, start},
};
use rustls::{ProtocolVersion, pki_types::ServerName, version::TLS12, version::TLS13};
use sessiond::config::Networks;
use std::{error::Error, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn calls_go_over_tls() {
    let service = Service::start().await;
    let mut client = service.client(None).await.expect("it is trusted");
    open_room(&mut client, "games", "finals").await.expect("a new room");
    assert_eq!(members(&mut client, "games", "finals").await.expect("it is there"), 0);
}

#[tokio::test]
async fn both_versions_are_spoken_and_end_with_a_close_notify() {
    let service = Service::start().await;
    for (version, is) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = service.client_config(&[version], &["h2"], None);
        let mut stream = service.shake_hands(config).await.expect("it shakes hands");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(is));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        // Frames of no use until the server has had enough: SETTINGS of a length that cannot be.
        let broken = [PREFACE, b"\0\0\x01\x04\0\0\0\0\0x"].concat();
        stream.write_all(&broken).await.expect("it is taken");
        let (said, end) = rest(&mut stream).await;
        // Without a close_notify this is an error.
        end.expect("the end is announced");
        let is_goaway = |window: &[u8]| window[3] == 7 && window[..2] == [0, 0];
        assert!(said.windows(9).any(is_goaway), "a GOAWAY: {said:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_name_h2_is_ended_in_words() {
    let service = Service::start().await;
    let config = service.client_config(&[&TLS13], &["http/1.1"], None);
    let error = in_time(async {
        let mut stream = service.shake_hands(config).await?;
        stream.read_u8().await
    })
    .await
    .expect_err("there is no protocol in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    let config = service.client_config(&[&TLS13, &TLS12], &[], None);
    let mut stream = service.shake_hands(config).await.expect("none is named");
    let (said, end) = rest(&mut stream).await;
    end.expect("the end is announced");
    let said = String::from_utf8(said).expect("text");
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("Name h2"), "{said}");
}

#[tokio::test]
async fn who_speaks_without_tls_is_told_so() {
    let service = Service::start().await;
    for first in [PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"x"] {
        let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
        socket.write_all(first).await.expect("it is taken");
        let (said, end) = rest(&mut socket).await;
        end.expect("a clean end");
        let said = String::from_utf8(said).expect("text");
        assert!(said.contains("gRPC over HTTP/2 with TLS"), "{said}");
    }
}

#[tokio::test]
async fn who_speaks_tls_where_there_is_none_is_told_so() {
    let service = Service::start().await;
    let mut without = config(&service.folder);
    (without.tls_certificate, without.tls_key) = (None, None);
    let plain = start(without).await.expect("it starts");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(service.authority.pem()))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", plain.address()));
    let endpoint = endpoint.expect("an address").tls_config(tls).expect("its TLS");
    in_time(endpoint.connect()).await.expect_err("it has no TLS");
    // What the client's TLS cannot read is a sentence for people.
    let mut socket = TcpStream::connect(plain.address()).await.expect("it listens");
    socket.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await.expect("it is taken");
    let (said, end) = rest(&mut socket).await;
    end.expect("a clean end");
    assert!(String::from_utf8_lossy(&said).contains("without TLS"), "{said:?}");
}

#[tokio::test]
async fn a_proxy_says_where_its_client_is_before_the_handshake() {
    let service = Service::start_with(|config, _, _| {
        config.trusted_proxies = Networks::of("127.0.0.1").expect("a network");
        config.max_connections_per_address = 1;
    })
    .await;
    let mut open = Vec::new();
    for (client, is_let_in) in [(1, true), (2, true), (2, false)] {
        let mut socket = TcpStream::connect(service.address()).await.expect("it listens");
        let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, client], &[0; 8]];
        socket.write_all(&header.concat()).await.expect("it is taken");
        let config = service.client_config(&[&TLS13], &["h2"], None);
        let name = ServerName::try_from("localhost").expect("a name");
        let shaking = TlsConnector::from(Arc::new(config)).connect(name, socket);
        match in_time(shaking).await {
            Ok(stream) if is_let_in => open.push(stream),
            Err(_) if !is_let_in => {}
            other => panic!("client {client}: {other:?}"),
        }
    }
    // Without a header it is no client of a proxy.
    let config = service.client_config(&[&TLS13], &["h2"], None);
    in_time(service.shake_hands(config)).await.expect_err("the proxy must say who comes");
}

#[tokio::test]
async fn a_client_refuses_another_authority_and_another_name() {
    let service = Service::start().await;
    let mut stranger = Service { authority: Authority::new(), ..service };
    let error = in_time(stranger.client(None)).await.expect_err("another authority");
    assert!(all(&error).contains("UnknownIssuer"), "{}", all(&error));
    let named = Service::start_with(|_, authority, folder| {
        folder.write_pair(&authority.server_at(&["elsewhere.example"]));
    })
    .await;
    stranger = named;
    let error = in_time(stranger.client(None)).await.expect_err("another name");
    assert!(all(&error).contains("NotValidForName") || all(&error).contains("not valid for name"));
}

/// The error and all its causes.
fn all(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
