//! Who comes to the port of nodes, and who does not.

use super::{
    authority::{Authority, Folder, Pair},
    peer::{Peer, framed, strange_end, stranger},
    support::{Front, Raw, certificate, config, in_time, owner_config, reason, start},
};
use prost::Message;
use sessiond::{
    config::Config,
    proto::{GetSessionInfoRequest, OpenSharedSessionRequest},
    server::Server,
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tonic::Code;

const OPEN: &str = "/sessiond.v1.SessionService/OpenSharedSession";
const LOOK: &str = "/sessiond.v1.SessionService/GetSessionInfo";

fn node_address(server: &Server) -> SocketAddr {
    server.node_address().expect("a port of nodes")
}

fn opening() -> bytes::Bytes {
    let request = OpenSharedSessionRequest {
        session_id: "hall".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    };
    framed(&request.encode_to_vec())
}

/// A node's own files, of this authority.
fn certified(folder: &Folder, authority: &Authority, name: &str, config: Config) -> Config {
    let Pair { certificate, key } = certificate(authority, &["localhost", "127.0.0.1"]);
    let file = |kind: &str, text: &str| Some(folder.write(&format!("{name}.{kind}"), text));
    Config {
        node_listen: Some(super::support::LOOPBACK.into()),
        node_certificate: file("pem", &certificate),
        node_key: file("key", &key),
        node_ca: file("ca", &authority.pem()),
        ..config
    }
}

fn secret(folder: &Folder, name: &str, lines: &[&str]) -> Option<PathBuf> {
    Some(folder.write(name, &lines.join("\n")))
}

const FIRST: &str = "first-secret-of-at-least-32-bytes";
const SECOND: &str = "second-secret-of-at-least-32-bytes";

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_know_each_other() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let owner = certified(&folder, &authority, "owner", owner_config("the-owner"));
    let owner = start(owner, None).await.expect("it starts");
    let front = certified(&folder, &authority, "front", config("the-front"));
    let front = Front::with(front, node_address(&owner)).await;
    front.open("hall").await.expect("it is opened");
    assert_eq!(owner.engine().footprint().sessions, 1);
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_let_in() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let owner = certified(&folder, &authority, "owner", owner_config("the-owner"));
    let owner = start(owner, None).await.expect("it starts");
    // It trusts the owner, but the owner not it.
    let stranger = certified(&folder, &Authority::new(), "front", config("the-front"));
    folder.write("front.ca", &authority.pem());
    let front = Front::with(stranger, node_address(&owner)).await;
    let status = front.open("hall").await.expect_err("it is let in by nobody");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    assert_eq!(owner.engine().footprint().sessions, 0);
}

#[tokio::test]
async fn a_node_does_not_call_one_of_another_authority_or_name() {
    let (folder, authority, other) = (Folder::new(), Authority::new(), Authority::new());
    for (name, issuer, names) in
        [("foreign", &other, ["127.0.0.1"]), ("misnamed", &authority, ["other.example.org"])]
    {
        let mut owner = certified(&folder, issuer, name, owner_config("the-owner"));
        // It trusts the front, but the front not it.
        owner.node_ca = Some(folder.write(&format!("{name}.ca"), &authority.pem()));
        let Pair { certificate, key } = certificate(issuer, &names);
        owner.node_certificate = Some(folder.write(&format!("{name}.pem"), &certificate));
        owner.node_key = Some(folder.write(&format!("{name}.key"), &key));
        let owner = start(owner, None).await.expect("it starts");
        let front = certified(&folder, &authority, "front", config("the-front"));
        let front = Front::with(front, node_address(&owner)).await;
        let status = front.open("hall").await.expect_err("it is not called");
        assert_eq!(&*reason(&status), "NOT_OWNER", "{name}");
        assert_eq!(owner.engine().footprint().sessions, 0, "{name}");
    }
}

#[tokio::test]
async fn nodes_with_a_secret_know_each_other_and_all_lines_of_it_hold() {
    let folder = Folder::new();
    let lines = secret(&folder, "owner", &[FIRST, "", SECOND]);
    let owner = Config { node_secret: lines, ..owner_config("the-owner") };
    let owner = start(owner, None).await.expect("it starts");
    for (name, shown) in [("one", FIRST), ("two", SECOND)] {
        let secret = secret(&folder, name, &[shown]);
        let front = Config { node_secret: secret, ..owner_config("the-front") };
        let front = Front::with(front, node_address(&owner)).await;
        front.open(name).await.expect("it is opened");
    }
    assert_eq!(owner.engine().footprint().sessions, 2);
}

#[tokio::test]
async fn whoever_shows_no_secret_or_another_one_is_refused_and_then_cut_off() {
    let folder = Folder::new();
    let owner = secret(&folder, "owner", &[FIRST]);
    let owner = Config { node_secret: owner, ..owner_config("the-owner") };
    let owner = start(owner, None).await.expect("it starts");
    let front = secret(&folder, "front", &[SECOND]);
    let front = Config { node_secret: front, ..owner_config("the-front") };
    let front = Front::with(front, node_address(&owner)).await;
    // Its clients have good credentials.
    let status = front.open("hall").await.expect_err("it is another secret");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let mut stream = front.watch("hall").await;
    let status = in_time(stream.message()).await.expect_err("it is another secret");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let shown: [&[(&str, &str)]; 3] = [
        &[],
        &[("sessiond-node-secret", "")],
        &[("sessiond-node-secret", FIRST), ("sessiond-node-secret", FIRST)],
    ];
    for shown in shown {
        let raw = Raw::connect(node_address(&owner), 65_535).await;
        let status = raw.end_of(OPEN, shown, opening()).await.expect("it is told");
        assert_eq!(status.code(), Code::Unauthenticated);
        let mut refused = 1;
        while raw.end_of(OPEN, shown, opening()).await.is_ok() {
            refused += 1;
            assert!(refused < 100, "it is cut off");
        }
    }
    assert_eq!(owner.engine().footprint().sessions, 0);
}

#[tokio::test]
async fn a_node_that_takes_this_one_for_a_stranger_is_left_alone_for_a_second() {
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let (status, begun) = tokio::join!(front.look("hall"), async {
        peer.call().await.refuse(&stranger());
        Instant::now()
    });
    let status = status.expect_err("it is no node there");
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NOT_OWNER"));
    let mut refused = 0;
    let (status, ()) = tokio::join!(
        async {
            loop {
                let status = front.look("hall").await.expect_err("it is refused");
                if reason(&status) != "NOT_OWNER" {
                    break status;
                }
                refused += 1;
                sleep(Duration::from_millis(20)).await;
            }
        },
        async {
            let call = peer.call().await;
            let pause = begun.elapsed();
            assert!(pause > Duration::from_millis(900), "it was called again after {pause:?}");
            call.refuse(&strange_end());
        }
    );
    assert_eq!(status.code(), strange_end().code());
    assert!(refused > 0, "calls are refused meanwhile");
}

#[tokio::test]
async fn a_secret_is_changed_while_the_nodes_run() {
    let folder = Folder::new();
    let owner = secret(&folder, "owner", &[FIRST]);
    let owner = Config { node_secret: owner, ..owner_config("the-owner") };
    let owner = start(owner, None).await.expect("it starts");
    let front = secret(&folder, "front", &[FIRST]);
    let front = Config { node_secret: front, ..owner_config("the-front") };
    let front = Front::with(front, node_address(&owner)).await;
    front.open("hall").await.expect("it is opened");
    // A look takes a call, and the files are read again every second.
    let looks = async |is_well: bool| {
        while front.look("hall").await.is_ok() != is_well {}
    };
    secret(&folder, "owner", &[SECOND]);
    in_time(looks(false)).await;
    secret(&folder, "front", &[SECOND]);
    in_time(looks(true)).await;
}

#[tokio::test]
async fn a_node_that_says_of_no_caller_or_nothing_that_is_understood_is_refused() {
    let owner = start(owner_config("the-owner"), None).await.expect("it starts");
    let caller = "sessiond-caller-bin";
    let cases: [(&[(&'static str, &str)], Code); 4] = [
        (&[], Code::Unauthenticated),
        (&[(caller, "AA"), (caller, "AA")], Code::Unauthenticated),
        (&[(caller, "????")], Code::InvalidArgument),
        // Of version 99.
        (&[(caller, "CGM")], Code::Unavailable),
    ];
    for (headers, code) in cases {
        let raw = Raw::connect(node_address(&owner), 65_535).await;
        let status = raw.end_of(OPEN, headers, opening()).await.expect("it is told");
        assert_eq!(status.code(), code, "{headers:?}: {status:?}");
    }
    assert_eq!(owner.engine().footprint().sessions, 0);
}

#[tokio::test]
async fn whoever_speaks_something_else_is_told_what_this_is() {
    let owner = start(owner_config("the-owner"), None).await.expect("it starts");
    let mut socket = TcpStream::connect(node_address(&owner)).await.expect("it listens");
    socket.write_all(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n").await.expect("it is taken");
    let mut told = String::new();
    in_time(socket.read_to_string(&mut told)).await.expect("it is answered");
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
}

#[tokio::test]
async fn what_a_client_says_of_its_caller_is_not_believed() {
    let folder = Folder::new();
    let identity = folder.write("identity.toml", "key-file = \"keys.toml\"\n");
    folder.write("keys.toml", "");
    // What a node may say of a caller who may do everything.
    let mut peer = Peer::start().await;
    let front = Front::before(peer.address).await;
    let said = tokio::select! {
        answer = front.look("hall") => panic!("nobody answers: {answer:?}"),
        call = peer.call() => call.head.headers["sessiond-caller-bin"].to_str().expect("ASCII").to_owned(),
    };
    let asking = Config { identity: Some(identity), ..owner_config("the-owner") };
    let owner = start(asking.clone(), None).await.expect("it starts");
    let front = start(asking, owner.node_address()).await.expect("it starts");
    for address in [owner.address(), front.address()] {
        let raw = Raw::connect(address, 65_535).await;
        for path in [OPEN, LOOK] {
            let forged = [("sessiond-caller-bin", &*said)];
            let message = match path {
                OPEN => opening(),
                _ => framed(&GetSessionInfoRequest::default().encode_to_vec()),
            };
            let status = raw.end_of(path, &forged, message).await.expect("it is told");
            assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
        }
    }
    // Nor at the port of nodes: that caller is known by no credential.
    let raw = Raw::connect(node_address(&owner), 65_535).await;
    let status = raw.end_of(OPEN, &[("sessiond-caller-bin", &said)], opening()).await;
    assert_eq!(reason(&status.expect("it is told")), "KEYS_UNAVAILABLE");
    assert_eq!(owner.engine().footprint().sessions, 0);
}

#[tokio::test]
async fn what_is_sent_on_carries_the_secret_but_no_credential() {
    let folder = Folder::new();
    let mut peer = Peer::start().await;
    let front = secret(&folder, "front", &[FIRST, SECOND]);
    let front = Config { node_secret: front, ..owner_config("the-front") };
    let front = Front::with(front, peer.address).await;
    let mut request = tonic::Request::new(GetSessionInfoRequest::default());
    for (name, value) in [
        ("authorization", "Bearer it.is.secret"),
        ("sessiond-node-secret", "guessed"),
        ("sessiond-caller-bin", "AAAA"),
        ("sessiond-as", "app"),
    ] {
        let value: tonic::metadata::AsciiMetadataValue = value.parse().expect("ASCII");
        match name.ends_with("-bin") {
            true => drop(
                request
                    .metadata_mut()
                    .insert_bin(name, tonic::metadata::BinaryMetadataValue::from_bytes(b"forged")),
            ),
            false => drop(request.metadata_mut().insert(name, value)),
        }
    }
    let mut sessions = front.sessions();
    let head = tokio::select! {
        answer = sessions.get_session_info(request) => panic!("nobody answers: {answer:?}"),
        call = peer.call() => call.head,
    };
    assert!(!head.headers.contains_key("authorization"));
    let all = |name: &str| {
        let values = head.headers.get_all(name).iter();
        values.map(|value| value.to_str().expect("ASCII").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all("sessiond-node-secret"), [FIRST]);
    assert_eq!(all("sessiond-as"), ["app"]);
    let [caller] = &*all("sessiond-caller-bin") else { panic!("it is said once") };
    assert!(caller.len() > 10, "{caller}");
}
