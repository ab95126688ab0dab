//! What is limited per address, for clients that come by themselves and for those that come through a
//! proxy.

use sessiond::{
    config::{Config, Networks},
    engine::{Clock, HashCost},
    identity::{
        Apps, Kind,
        api_key::ApiKey,
        key_file::{self, Entry},
    },
    proto::{GetSessionInfoRequest, session_service_client::SessionServiceClient},
    server::Server,
};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// When the clock of every server begins, in microseconds since 1970.
const BEGIN: u64 = 1_767_225_600_000_000;

/// The address of the proxy that servers trust.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

async fn start(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        threads: 1,
        ..Config::default()
    };
    change(&mut config);
    let clock = Clock::stepped(BEGIN);
    Server::start_with(config, clock, HashCost::LEAST).await.expect("it starts")
}

fn trusting() -> Networks {
    Networks::of(&format!("{PROXY}")).expect("a network")
}

/// A header of the PROXY protocol for a client.
fn header(of: IpAddr) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n\x21";
    match of {
        IpAddr::V4(of) => {
            [&signature[..], &[0x11, 0, 12], &of.octets(), &[0; 4], &[0, 1, 0, 2]].concat()
        }
        IpAddr::V6(of) => {
            [&signature[..], &[0x21, 0, 36], &of.octets(), &[0; 16], &[0, 1, 0, 2]].concat()
        }
    }
}

/// What a proxy says that asks for itself.
fn local() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()
}

/// A connection from an address of this machine.
async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// A proxy that says this before each connection; where it listens.
async fn proxy(to: SocketAddr, says: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let says = says.clone();
            tokio::spawn(async move {
                let mut server = connect_from(PROXY, to).await?;
                server.write_all(&says).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

async fn client(at: SocketAddr) -> Result<SessionServiceClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("an address");
    Ok(SessionServiceClient::new(in_time(endpoint.connect()).await?))
}

/// How a call ends that asks for a session that is not there.
async fn call(client: &mut SessionServiceClient<Channel>, key: Option<&str>) -> Status {
    let mut request = Request::new(GetSessionInfoRequest {
        app: "games".to_owned(),
        session_id: "none".to_owned(),
        ..Default::default()
    });
    request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    if let Some(key) = key {
        let bearer = format!("Bearer {key}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
    }
    in_time(client.get_session_info(request)).await.expect_err("there is no session")
}

/// Settings of who may call, and the key of somebody who may.
fn identity() -> (std::path::PathBuf, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("addresses-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let key = ApiKey::generate().expect("it is random");
    let entry = Entry::new(&key, Apps::All, Kind::Backend { may_act_as_app: true }, BEGIN);
    key_file::add(&folder.join("keys.toml"), &entry).expect("it is added");
    let file = folder.join("identity.toml");
    fs::write(&file, "key-file = \"keys.toml\"\n").expect("it is written");
    (file, key.reveal())
}

/// All that comes until the server closes.
async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = in_time(socket.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn clients_of_a_proxy_are_counted_and_not_the_proxy() {
    let server = start(|config| {
        config.trusted_proxies = trusting();
        config.max_connections_per_address = 1;
    })
    .await;
    let one = proxy(server.address(), header(Ipv4Addr::new(192, 0, 2, 1).into())).await;
    let two = proxy(server.address(), header(Ipv4Addr::new(192, 0, 2, 2).into())).await;
    let mut clients = Vec::new();
    for place in [one, two] {
        let mut client = client(place).await.expect("the first of its address");
        assert_eq!(call(&mut client, None).await.code(), Code::NotFound);
        clients.push(client);
    }
    let mut third = TcpStream::connect(one).await.expect("the proxy listens");
    let _ = third.write_all(PREFACE).await;
    assert_eq!(rest(&mut third).await, b"", "its address has one");
}

#[tokio::test]
async fn the_networks_of_ipv6_are_counted_behind_a_proxy_too() {
    let server = start(|config| {
        config.trusted_proxies = trusting();
        config.max_connections_per_address = 1;
    })
    .await;
    let at = |address: &str| header(address.parse().expect("an address"));
    let one = proxy(server.address(), at("2001:db8::1")).await;
    let same = proxy(server.address(), at("2001:db8::ffff:0:0:1")).await;
    let next = proxy(server.address(), at("2001:db8:0:1::1")).await;
    let mut first = client(one).await.expect("the first");
    assert_eq!(call(&mut first, None).await.code(), Code::NotFound);
    let mut second = TcpStream::connect(same).await.expect("the proxy listens");
    let _ = second.write_all(PREFACE).await;
    assert_eq!(rest(&mut second).await, b"", "its network has one");
    let mut third = client(next).await.expect("another network");
    assert_eq!(call(&mut third, None).await.code(), Code::NotFound);
}

#[tokio::test]
async fn a_proxy_may_ask_for_itself() {
    let server = start(|config| config.trusted_proxies = trusting()).await;
    let proxy = proxy(server.address(), local()).await;
    let mut client = client(proxy).await.expect("it is let in");
    assert_eq!(call(&mut client, None).await.code(), Code::NotFound);
}

#[tokio::test]
async fn only_a_trusted_proxy_sends_a_header_and_it_must() {
    let server = start(|config| {
        config.trusted_proxies = trusting();
        config.handshake_timeout = Duration::from_secs(1);
    })
    .await;
    let of = header(Ipv4Addr::new(192, 0, 2, 1).into());
    // Whoever else comes is a client, and this is no HTTP/2.
    let mut other = TcpStream::connect(server.address()).await.expect("it listens");
    other.write_all(&[&of[..], PREFACE].concat()).await.expect("it is taken");
    assert!(rest(&mut other).await.starts_with(b"HTTP/1.1 400 "));
    let mut itself = TcpStream::connect(server.address()).await.expect("it listens");
    itself.write_all(PREFACE).await.expect("it is taken");
    let mut first = [0; 9];
    in_time(itself.read_exact(&mut first)).await.expect("it is served");

    // Nothing at all, half a header, none.
    for says in [&b""[..], &of[..20], PREFACE, b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"] {
        let mut proxy = connect_from(PROXY, server.address()).await.expect("it listens");
        proxy.write_all(says).await.expect("it is taken");
        assert_eq!(rest(&mut proxy).await, b"", "it is closed without a word");
    }
}

#[tokio::test]
async fn from_one_address_only_so_many_connections_come_in_a_second() {
    let server = start(|config| config.max_new_connections_per_address = 3).await;
    let mut open = Vec::new();
    let mut closed = 0;
    // More than there may be however slow this machine is.
    for _ in 0..50 {
        let mut socket = TcpStream::connect(server.address()).await.expect("the kernel accepts");
        let _ = socket.write_all(PREFACE).await;
        let mut first = [0; 9];
        match in_time(socket.read_exact(&mut first)).await {
            Ok(_) => open.push(socket),
            Err(_) => closed += 1,
        }
    }
    assert!(open.len() >= 3, "a burst is let in");
    assert!(closed > 0, "and not all");
    let mut other = connect_from(PROXY, server.address()).await.expect("another address");
    other.write_all(PREFACE).await.expect("it is taken");
    in_time(other.read_u8()).await.expect("it is let in");
}

#[tokio::test]
async fn a_proxy_that_passes_on_calls_says_where_each_comes_from() {
    let (file, _) = identity();
    let server = start(|config| {
        config.identity = Some(file);
        config.forwarding_proxies = Networks::of("127.0.0.0/8,10.0.0.0/8").expect("networks");
        config.max_refused_calls_per_address = 1;
    })
    .await;
    let mut proxy = client(server.address()).await.expect("it is let in");
    let mut refused = async |from: &'static str| {
        let mut request = Request::new(GetSessionInfoRequest::default());
        request.metadata_mut().insert("x-forwarded-for", from.parse().expect("ASCII"));
        in_time(proxy.get_session_info(request)).await.expect_err("without a credential").code()
    };
    assert_eq!(refused("192.0.2.1").await, Code::Unauthenticated);
    for same in ["192.0.2.1", "198.51.100.7, 192.0.2.1, 10.1.2.3"] {
        assert_eq!(refused(same).await, Code::ResourceExhausted, "{same}");
    }
    assert_eq!(refused("192.0.2.1, 192.0.2.2").await, Code::Unauthenticated, "another one");
    // What names nobody counts for the proxy.
    assert_eq!(refused("unknown").await, Code::Unauthenticated);
    for nobody in ["192.0.2.9, unknown", "10.0.0.1", ""] {
        assert_eq!(refused(nobody).await, Code::ResourceExhausted, "{nobody}");
    }
}

#[tokio::test]
async fn the_header_of_a_client_counts_for_nothing() {
    let (file, _) = identity();
    let server = start(|config| {
        config.identity = Some(file);
        config.trusted_proxies = trusting();
        config.forwarding_proxies = Networks::of("10.0.0.0/8").expect("a network");
        config.max_refused_calls_per_address = 1;
    })
    .await;
    let at = Ipv4Addr::new(192, 0, 2, 1).into();
    for to in [server.address(), proxy(server.address(), header(at)).await] {
        let mut client = client(to).await.expect("it is let in");
        for (number, expected) in [(1, Code::Unauthenticated), (2, Code::ResourceExhausted)] {
            let mut request = Request::new(GetSessionInfoRequest::default());
            let from = format!("198.51.100.{number}");
            request.metadata_mut().insert("x-forwarded-for", from.parse().expect("ASCII"));
            let told = in_time(client.get_session_info(request)).await.expect_err("it is refused");
            assert_eq!(told.code(), expected, "{number}");
        }
    }
}

#[tokio::test]
async fn calls_without_valid_credentials_are_told_to_wait_and_others_go_on() {
    let (file, key) = identity();
    let server = start(|config| {
        config.identity = Some(file);
        config.trusted_proxies = trusting();
        config.max_refused_calls_per_address = 3;
    })
    .await;
    let at = Ipv4Addr::new(192, 0, 2, 1).into();
    let mut one = client(proxy(server.address(), header(at)).await).await.expect("it is let in");
    let at = Ipv4Addr::new(192, 0, 2, 2).into();
    let mut other = client(proxy(server.address(), header(at)).await).await.expect("it is let in");
    for wrong in [None, Some("sessiond_x"), Some("a.b.c")] {
        assert_eq!(call(&mut one, wrong).await.code(), Code::Unauthenticated, "{wrong:?}");
    }
    for wrong in [None, Some("sessiond_x"), Some("a.b.c")] {
        let refused = call(&mut one, wrong).await;
        assert_eq!(refused.code(), Code::ResourceExhausted, "{wrong:?}");
        let details = refused.get_error_details();
        let retry = details.retry_info().and_then(|it| it.retry_delay).expect("when to come back");
        assert!(retry > Duration::ZERO && retry <= Duration::from_secs(1), "{retry:?}");
        let info = details.error_info().expect("a reason");
        assert_eq!(info.reason, "LIMIT_REACHED");
        assert_eq!(info.metadata["limit"], "max-refused-calls-per-address");
    }
    assert_eq!(call(&mut one, Some(&key)).await.code(), Code::NotFound, "it is valid");
    assert_eq!(call(&mut other, None).await.code(), Code::Unauthenticated, "another address");
    server.engine().advance(1_000_000);
    assert_eq!(call(&mut one, None).await.code(), Code::Unauthenticated, "a second has passed");
}
