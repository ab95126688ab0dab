//! Hooks over HTTP, over TLS, and with secrets.

use super::backend::*;
use crate::{rules::under, support::*};
use parking_lot::Mutex;
use sessiond::proto::{JoinOptions, Role, hook_service_server::HookServiceServer};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport;

/// A certificate for this machine, with its key, and the authority that has signed it, all in PEM.
fn certificate() -> (String, String, String) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(vec![]).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&authority_key).expect("it signs itself").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).expect("good names");
    let own = own.signed_by(&key, &issuer).expect("it is signed");
    (own.pem(), key.serialize_pem(), signed)
}

#[tokio::test]
async fn a_backend_over_tls_is_judged_by_its_certificate() {
    let (own, key, authority) = certificate();
    let (_, _, other) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (seen, gate) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
    let serves = Serves { decide: Box::new(not_bob), seen: seen.clone(), gate };
    let identity = transport::Identity::from_pem(own, key);
    let tls = transport::ServerTlsConfig::new().identity(identity);
    tokio::spawn(
        transport::Server::builder()
            .tls_config(tls)
            .expect("it is well formed")
            .add_service(HookServiceServer::new(serves))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let url = format!("grpcs://localhost:{port}");
    let known = format!("ca-file = {:?}", secret("hook-ca", &authority));
    let service = under(&policy(&url, "[\"join\"]", &known)).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).by_hook();
    service.join("finals", "cleo").await;
    let unknown = format!("ca-file = {:?}", secret("hook-other-ca", &other));
    for more in [&*unknown, ""] {
        let service = under(&policy(&url, "[\"join\"]", more)).await;
        service.open_room("finals", "ada").await;
        refused(try_bob(&service).await).by_no_hook();
    }
    assert_eq!(seen.asked.lock().len(), 2, "nothing was sent to whoever is not known");
    // Not gRPC, but the handshake is that of JSON over HTTPS: whoever is not known is told nothing.
    let https = policy(&format!("https://localhost:{port}/"), "[\"join\"]", &unknown);
    let service = under(&https).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).by_no_hook();
}

/// A backend over HTTP that gives these bytes for an answer; what it was sent is kept.
async fn http(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (keeps, answer) = (sent.clone(), Arc::new(answer.into()));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (keeps, answer) = (keeps.clone(), answer.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut bytes = [0; 4096];
                    match socket.read(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => request.extend_from_slice(&bytes[..count]),
                    }
                }
                keeps.lock().push(String::from_utf8_lossy(&request).into_owned());
                let _ = socket.write_all(&answer).await;
            });
        }
    });
    (address, sent)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}

fn ok(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn over_http(address: SocketAddr, more: &str) -> Service {
    let policy = policy(&format!("http://{address}/authorize"), "[\"join\"]", more);
    let service = under(&policy).await;
    service.open_room("finals", "ada").await;
    service
}

#[tokio::test]
async fn a_hook_over_http_is_sent_json_and_answers_with_json() {
    let answer = r#"{"allowed": true, "role": "ROLE_SPECTATOR", "settingsMask": ""}"#;
    let (address, sent) = http(ok(answer)).await;
    let service = over_http(address, "").await;
    let joined = try_bob(&service).await.expect("he joins");
    assert_eq!(joined.role(), Role::Spectator);
    let request = sent.lock().first().cloned().expect("it was sent something");
    let (head, body) = request.split_once("\r\n\r\n").expect("it is whole");
    let head = head.to_lowercase();
    assert!(head.starts_with("post /authorize http/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    assert_eq!(body["operation"], "JUDGED_OPERATION_JOIN");
    assert_eq!((&body["userId"], &body["sessionId"]), (&"bob".into(), &"finals".into()));
    assert_eq!(body["caller"]["scope"], "none");
    assert_eq!(body["session"]["ownerId"], "ada");
    let (address, _) = http(ok(r#"{"message": "not today"}"#)).await;
    let service = over_http(address, "").await;
    let answer = try_bob(&service).await;
    assert_eq!(answer.as_ref().expect_err("he stays out").message(), "not today");
    refused(answer).by_hook();
}

#[tokio::test]
async fn questions_over_http_that_a_user_gave_up_leave_places_for_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Semaphore::new(0));
    let counts = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let counts = counts.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut bytes = [0; 4096];
                    match socket.read(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => request.extend_from_slice(&bytes[..count]),
                    }
                }
                if String::from_utf8_lossy(&request).contains("\"userId\":\"bob\"") {
                    counts.add_permits(1);
                    // Whoever asks about bob waits for ever.
                    let _ = socket.read(&mut [0]).await;
                } else {
                    let _ = socket.write_all(&ok("{\"allowed\": true}")).await;
                }
            });
        }
    });
    let service = Arc::new(over_http(address, "max-concurrent = 4\ntimeout = \"10s\"").await);
    for _ in 0..2 {
        let bobs = service.clone();
        let call = tokio::spawn(async move { try_bob(&bobs).await });
        in_time(asked.acquire()).await.expect("it is open").forget();
        call.abort();
    }
    // He has two of four places, which are taken for as long as the backend hangs.
    let third = tokio::time::timeout(GLANCE, try_bob(&service)).await;
    assert!(third.is_err(), "he waits: {third:?}");
    in_time(service.join("finals", "cleo")).await;
    in_time(service.join("finals", "dan")).await;
}

#[tokio::test]
async fn whatever_else_comes_over_http_is_a_failure() {
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            .to_owned();
    let large = format!("{{\"allowed\": true, \"message\": \"{}\"}}", "x".repeat(10 << 20));
    let answers = [
        ok("nonsense"),
        ok("{\"allowed\": true} and more"),
        ok("{\"allowed\": \"perhaps\"}"),
        ok("{\"alowed\": true}"),
        ok(""),
        ok(&large),
        redirect.into_bytes(),
        b"HTTP/1.1 500 Oh\r\ncontent-length: 17\r\n\r\n{\"allowed\": true}".to_vec(),
        b"HTTP/1.1 204 No\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        Vec::new(),
    ];
    for answer in answers {
        let told = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let (address, sent) = http(answer).await;
        let service = over_http(address, "timeout = \"500ms\"").await;
        refused(try_bob(&service).await).by_no_hook();
        assert_eq!(service.names("finals").await, ["ada"], "{told}");
        assert_eq!(sent.lock().len(), 1, "it was asked once: {told}");
    }
}

/// A file of a secret.
fn secret(name: &str, text: impl AsRef<[u8]>) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    let file = format!("{name}-{}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&file);
    let _ = std::fs::remove_file(&path);
    let mut open = std::fs::OpenOptions::new();
    let mut file_of = open.write(true).create_new(true).mode(0o600).open(path).expect("it is made");
    std::io::Write::write_all(&mut file_of, text.as_ref()).expect("it is written");
    file
}

#[tokio::test]
async fn a_backend_knows_who_asks_by_a_token_or_by_a_signature() {
    let token = secret("hook-token", "a-token\n");
    let bearer = format!("secret-file = {token:?}\nsecret-as = \"bearer\"");
    let (address, sent) = http(ok("{\"allowed\": true}")).await;
    let service = over_http(address, &bearer).await;
    try_bob(&service).await.expect("he joins");
    let request = sent.lock()[0].to_lowercase();
    assert!(request.contains("authorization: bearer a-token\r\n"), "{request}");
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", &bearer)).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "cleo").await;
    let metadata = backend.seen.metadata.lock().clone().expect("it was asked");
    assert_eq!(metadata.get("authorization").map(|it| it.as_bytes()), Some(&b"Bearer a-token"[..]));

    // Any bytes, of which one end of a line is none.
    let key = [&[0xff; 31][..], b" "].concat();
    let file = secret("hook-key", [&key[..], b"\r\n"].concat());
    let (address, sent) = http(ok("{\"allowed\": true}")).await;
    let service = over_http(address, &format!("secret-file = {file:?}")).await;
    try_bob(&service).await.expect("he joins");
    let request = sent.lock()[0].clone();
    let (head, body) = request.split_once("\r\n\r\n").expect("it is whole");
    let signature = head.lines().find_map(|it| it.strip_prefix("sessiond-signature: "));
    let signature = signature.expect("it is signed");
    let (time, tag) = signature.split_once(",v1=").expect("both parts");
    let time = time.strip_prefix("t=").expect("the time");
    assert_eq!(time, (BEGIN / 1_000_000).to_string());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let expected = aws_lc_rs::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let expected: String = expected.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(tag, expected);
}

#[tokio::test]
async fn bad_hooks_keep_the_server_from_starting_and_every_fault_is_named() {
    use sessiond::{
        config::Config,
        engine::Clock,
        server::{Server, StartError},
    };
    // Long enough, were the ends of lines part of it.
    let token = secret("hook-open-token", format!("a-token{}\r\n", " ".repeat(24)));
    let bad = format!(
        r#"
[[hooks]]
url = "ftp://b.example"
on = []
apps = "*"
timeout = "1h"
on-failure = "shrug"
max-role = "owner"
max-concurrent = 0

[[hooks]]
name = "b"
url = "http://b.example/"
on = ["join"]
apps = "*"
secret-file = {token:?}
secret-as = "bearer"

[[hooks]]
name = "b"
url = "grpc://b.example:1"
on = ["join"]
apps = "*"
secret-file = {token:?}
secret-as = "hmac"
time-out = "1s"

[[hooks]]
name = "c"
url = "http://127.0.0.1:1/"
on = ["join"]
apps = "*"
secret-file = {token:?}
"#
    );
    let policy = Some(crate::rules::policy_file(&bad));
    let config = Config { policy, ..Config::default() };
    let Err(StartError::Policy(faults)) = Server::start(config, Clock::stepped(BEGIN)).await else {
        panic!("it does not start")
    };
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for fault in [
        "hooks[0].url: expected a URL",
        "hooks[0].on: expected a list of open, join, write and subscribe",
        "hooks[0].timeout: expected a duration of 10ms to 10s",
        "hooks[0].on-failure: expected refuse or allow",
        "hooks[0].max-role: expected spectator, member, moderator or admin",
        "hooks[0].max-concurrent: expected a number of 1 to 1000",
        "hooks[1].url: needs TLS",
        "hooks[2].url: needs TLS",
        "hooks[2].secret-as: hmac is for https:// and http://",
        "hook-open-token",
        "has 31 bytes; a secret has 32 to 4096",
        "hooks[2].time-out: there is no such key; the nearest is \"timeout\"",
    ] {
        assert!(told.iter().any(|told| told.contains(fault)), "{fault} is not in {told:#?}");
    }
    assert!(!told.join("\n").contains("a-token"), "no secret is told: {told:#?}");
}

/// A program that ends with the test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_backend_in_the_document_works() {
    // Where there is no Python nobody can run it; .ci/run brings one.
    let has_python = std::process::Command::new("python3").arg("-c").arg("").status();
    if !has_python.is_ok_and(|status| status.success()) {
        eprintln!("there is no python3: the backend in the document is not run");
        return;
    }
    let document = include_str!("../../../docs/hooks.md");
    let (_, program) = document.split_once("```python\n").expect("there is one");
    let (program, _) = program.split_once("```").expect("it ends");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let here = program.replace("8080", &address.port().to_string());
    assert_ne!(here, program, "it says where it listens");
    let mut python = std::process::Command::new("python3");
    let python = python.arg("-c").arg(here).stderr(std::process::Stdio::null());
    let _running = Program(python.spawn().expect("it runs"));
    in_time(async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let service = over_http(address, "timeout = \"5s\"").await;
    refused(service.try_join("finals", "eve", JoinOptions::default()).await).by_hook();
    service.join("finals", "bob").await;
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("team", text("red"))]));
}
