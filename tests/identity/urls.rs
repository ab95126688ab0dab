//! Keys at a URL: read, read again, and never lost because the URL fails.

use super::support::*;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sessiond::identity::{ASK_INTERVAL, Denied, Identity};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Answers every request with what it is set to.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Answer {
    Ok(Vec<u8>),
    Status(&'static str),
    /// Accepts, and says nothing.
    Silence,
    /// Says that it will send more than it does.
    Half,
    /// Sends so many bytes without saying how many.
    Endless(usize),
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let requests = Arc::new(AtomicUsize::new(0));
        let (set, count) = (answer.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = set.lock().clone();
                let _ = serve(stream.unwrap(), answer);
            }
        });
        Self { address, answer, requests }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// An identity that has its keys here.
    fn identity(&self, folder: &Folder, more: &str) -> Arc<Identity> {
        let url = format!("http://{}/keys.json", self.address);
        let keys = format!("[[issuers.keys]]\njwks-url = \"{url}\"\n{more}");
        folder.identity(&format!("{ISSUER_TOML}{keys}"))
    }
}

fn serve(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let mut length = 0;
    while !request[..length].windows(4).any(|it| it == b"\r\n\r\n") {
        length += stream.read(&mut request[length..])?;
    }
    match answer {
        Answer::Ok(body) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            )?;
            stream.write_all(&body)
        }
        Answer::Status(status) => {
            write!(
                stream,
                "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            )
        }
        // Until the client has enough of it.
        Answer::Silence => stream.read(&mut request).map(|_| ()),
        Answer::Half => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{{\"keys\":[")
        }
        Answer::Endless(bytes) => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            let part = [b' '; 65536];
            (0..bytes / part.len()).try_for_each(|_| stream.write_all(&part))
        }
    }
}

/// The public Ed25519 and P-256 keys for tests, as they stand in a set.
fn ed25519(kid: &str) -> Value {
    let pem = public_key("ed25519.pub.pem");
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(&der(&pem)[12..]) })
}

fn p256(kid: &str) -> Value {
    let point = der(&public_key("p256.pub.pem"))[27..].to_vec();
    let (x, y) = (b64(&point[..32]), b64(&point[32..]));
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": x, "y": y })
}

fn der(pem: &[u8]) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let lines = pem.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-"));
    STANDARD.decode(lines.collect::<Vec<_>>().concat()).unwrap()
}

fn set(keys: &[Value]) -> Answer {
    Answer::Ok(json!({ "keys": keys }).to_string().into_bytes())
}

fn signed(algorithm: Algorithm, kid: &str) -> String {
    let header = format!(r#"{{"alg":"{algorithm:?}","kid":"{kid}"}}"#);
    let claims = claims_with(json!({ "exp": NOW_SECONDS + 7 * 24 * 3600 }));
    sign(&header, &claims.to_string(), &signer(algorithm), algorithm)
}

#[test]
fn keys_are_read_and_new_ones_are_found() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("old")]));
    let identity = server.identity(&folder, "");
    let (old, new) = (signed(Algorithm::EdDSA, "old"), signed(Algorithm::ES256, "new"));
    assert_eq!(check(&identity, &old, NOW), Err(Denied::KeysUnavailable));
    assert_eq!(server.requests(), 0, "a check goes nowhere");
    let due = identity.fetch_due(NOW).unwrap();
    assert_eq!(due, NOW + 10 * MINUTE);
    assert!(check(&identity, &old, NOW).is_ok());

    // A new key, published and used at once: it is looked for, then it is there.
    server.set(set(&[ed25519("old"), p256("new")]));
    let later = NOW + MINUTE;
    assert_eq!(check(&identity, &new, later), Err(Denied::KeysOnTheWay));
    assert!(check(&identity, &old, later).is_ok(), "nobody else waits");
    identity.fetch_due(later);
    assert!(check(&identity, &new, later).is_ok());
    assert_eq!(server.requests(), 2);

    // The old key goes, and with it what it signed.
    let generation = identity.generation();
    let grant = check(&identity, &old, later).unwrap();
    server.set(set(&[p256("new")]));
    identity.fetch_due(later + 10 * MINUTE);
    assert_ne!(identity.generation(), generation);
    assert_eq!(identity.holds(&grant, later), Err(Denied::Withdrawn));
    assert!(check(&identity, &old, later + 10 * MINUTE).is_err());
    assert!(check(&identity, &new, later + 10 * MINUTE).is_ok());
}

#[test]
fn a_flood_of_unknown_keys_reads_them_once_in_a_while() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("known")]));
    let identity = server.identity(&folder, "");
    identity.fetch_due(NOW);
    let good = signed(Algorithm::EdDSA, "known");
    for step in 0..600 {
        // For a minute, ten a second.
        let now = NOW + step * SECOND / 10;
        assert!(check(&identity, &signed(Algorithm::EdDSA, &format!("{step}")), now).is_err());
        identity.fetch_due(now);
        assert!(check(&identity, &good, now).is_ok());
    }
    assert_eq!(server.requests(), 1 + (MINUTE / ASK_INTERVAL) as usize);
}

#[test]
fn keys_stay_while_the_url_fails_until_they_are_too_old() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("key")]));
    let identity = server.identity(&folder, "max-age = \"2h\"\nrefresh = \"5m\"\ntimeout = \"2s\"");
    let good = signed(Algorithm::EdDSA, "key");
    identity.fetch_due(NOW);
    let mut now = NOW;
    let many: Vec<_> = (0..65).map(|number| p256(&number.to_string())).collect();
    for answer in [
        Answer::Status("302 Found"),
        Answer::Status("301 Moved Permanently"),
        Answer::Status("404 Not Found"),
        Answer::Status("500 Internal Server Error"),
        Answer::Status("204 No Content"),
        Answer::Silence,
        Answer::Half,
        Answer::Endless(10 << 20),
        Answer::Ok(vec![b' '; (1 << 20) + 1]),
        Answer::Ok(Vec::new()),
        Answer::Ok(b"<html>".to_vec()),
        Answer::Ok(b"{}".to_vec()),
        Answer::Ok(br#"{"keys":[]}"#.to_vec()),
        Answer::Ok(br#"{"keys":{}}"#.to_vec()),
        Answer::Ok(br#"{"keys":[1]}"#.to_vec()),
        Answer::Ok(br#"{"keys":[],"keys":[]}"#.to_vec()),
        set(&[ed25519("a"), ed25519("a")]),
        set(&[json!({ "kty": "oct", "kid": "key", "k": b64(SECRET), "alg": "HS256" })]),
        set(&[json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" })]),
        set(&[json!({ "kty": "EC", "crv": "P-256", "x": b64([1; 32]), "y": b64([1; 32]) })]),
        set(&[json!({ "kty": "RSA", "n": b64([0xff; 128]), "e": "AQAB" })]),
        set(&many),
    ] {
        server.set(answer);
        now = identity.fetch_due(now).unwrap();
        let before = server.requests();
        identity.fetch_due(now);
        assert_eq!(server.requests(), before + 1);
        assert!(check(&identity, &good, now).is_ok(), "{now}");
    }
    // A key that works again, and then nothing until the keys are too old.
    server.set(set(&[ed25519("key")]));
    now = identity.fetch_due(now).unwrap();
    identity.fetch_due(now);
    let generation = identity.generation();
    server.set(Answer::Status("503 Service Unavailable"));
    identity.fetch_due(now + 2 * 60 * MINUTE - 1);
    assert!(check(&identity, &good, now + 2 * 60 * MINUTE - 1).is_ok());
    identity.fetch_due(now + 2 * 60 * MINUTE + 30 * SECOND);
    assert_ne!(identity.generation(), generation);
    let answer = check(&identity, &good, now + 2 * 60 * MINUTE + 30 * SECOND);
    assert_eq!(answer, Err(Denied::KeysUnavailable));
    assert!(answer.unwrap_err().is_temporary());
}

#[test]
fn keys_that_are_too_old_do_not_hold_even_if_nobody_tries_to_read_them() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("key")]));
    let identity = server.identity(&folder, "max-age = \"2h\"");
    identity.fetch_due(NOW);
    let good = signed(Algorithm::EdDSA, "key");
    let end = NOW + 120 * MINUTE;
    assert_eq!(check(&identity, &good, end), Err(Denied::KeysUnavailable));
    assert!(check(&identity, &good, end - 1).is_ok());
}

#[test]
fn keys_for_other_purposes_are_left_out() {
    let folder = Folder::new();
    let mut encryption = p256("encryption");
    encryption["use"] = "enc".into();
    let mut derivation = p256("derivation");
    derivation["key_ops"] = json!(["deriveBits"]);
    let server = Server::start(set(&[
        encryption,
        derivation,
        json!({ "kty": "oct", "kid": "secret", "k": b64(SECRET), "alg": "HS256" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "coin", "x": "AA", "y": "AA" }),
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA" }),
        ed25519("key"),
    ]));
    let identity = server.identity(&folder, "");
    identity.fetch_due(NOW);
    assert!(check(&identity, &signed(Algorithm::EdDSA, "key"), NOW).is_ok());
    for kid in ["encryption", "derivation"] {
        assert!(check(&identity, &signed(Algorithm::ES256, kid), NOW).is_err());
    }
    // What is at a URL is known to everybody.
    assert!(check(&identity, &signed(Algorithm::HS256, "secret"), NOW).is_err());
}

#[test]
fn the_settings_narrow_what_a_set_may_verify() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("key"), p256("other")]));
    let identity = server.identity(&folder, "algorithms = [\"ES256\"]");
    identity.fetch_due(NOW);
    assert!(check(&identity, &signed(Algorithm::ES256, "other"), NOW).is_ok());
    assert!(check(&identity, &signed(Algorithm::EdDSA, "key"), NOW).is_err());
}

#[test]
fn keys_stay_when_the_settings_are_read_again() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("key")]));
    let identity = server.identity(&folder, "");
    identity.fetch_due(NOW);
    identity.reload().unwrap();
    assert!(check(&identity, &signed(Algorithm::EdDSA, "key"), NOW).is_ok());
    assert_eq!(server.requests(), 1);
}

#[test]
fn the_thread_finds_a_key_that_is_missed() {
    let folder = Folder::new();
    let server = Server::start(set(&[ed25519("key")]));
    let identity = server.identity(&folder, "");
    identity.watch().unwrap();
    let token = || {
        let now = sessiond::identity::now() / SECOND;
        let claims = claims_with(json!({ "iat": now, "exp": now + 60 })).to_string();
        let header = r#"{"alg":"EdDSA","kid":"key"}"#;
        sign(header, &claims, &signer(Algorithm::EdDSA), Algorithm::EdDSA)
    };
    let start = std::time::Instant::now();
    while check(&identity, &token(), sessiond::identity::now()).is_err() {
        assert!(start.elapsed().as_secs() < 20);
        thread::yield_now();
    }
}

#[test]
fn a_key_that_another_node_knows_is_fetched_and_one_that_is_gone_stays_unknown() {
    let (folder, others) = (Folder::new(), Folder::new());
    let server = Server::start(set(&[ed25519("old")]));
    let identity = server.identity(&folder, "");
    identity.fetch_due(NOW);
    server.set(set(&[ed25519("old"), p256("new")]));
    let other = server.identity(&others, "");
    other.fetch_due(NOW);
    let grant = check(&other, &signed(Algorithm::ES256, "new"), NOW).expect("the other knows it");
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn));
    identity.miss_key_of(&grant, NOW);
    identity.fetch_due(NOW);
    assert_eq!(identity.holds(&grant, NOW), Ok(()));
    server.set(set(&[ed25519("old")]));
    let later = NOW + 24 * 60 * MINUTE;
    identity.fetch_due(later);
    let reads = server.requests();
    for _ in 0..10 {
        identity.miss_key_of(&grant, later);
        identity.fetch_due(later);
    }
    let mut grant = (*grant).clone();
    grant.expires = None;
    assert_eq!(identity.holds(&grant, later), Err(Denied::Withdrawn));
    assert_eq!(server.requests(), reads + 1, "it is looked for once in a while");
}
