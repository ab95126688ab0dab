//! As whom a log comes to its servers, and whom it takes for them.

use super::nats::{self, Server};
use crate::support::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use serde_json::{Value, json};
use sessiond::log::{
    Log,
    jetstream::{Connection, JetStreamLog, Servers},
};
use std::{fs, path::Path};

/// A certificate authority in a folder, as `<name>.pem`, with a certificate for 127.0.0.1.
fn authority(folder: &Path, name: &str) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new([]).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).expect("it is signed");
    let own_key = rcgen::KeyPair::generate().expect("a key");
    let own = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let own = own.signed_by(&own_key, &Issuer::new(ca, key)).expect("it is signed");
    let write = |what: &str, text: String| {
        fs::write(folder.join(format!("{name}{what}.pem")), text).expect("a file");
    };
    write("", certificate.pem());
    write("-server", own.pem());
    write("-key", own_key.serialize_pem());
}

#[tokio::test]
async fn over_tls_only_a_server_with_a_trusted_certificate_is_used() {
    let folder = Folder::new();
    authority(folder.path(), "ours");
    authority(folder.path(), "theirs");
    let path = |name: &str| folder.path().join(name);
    let settings = format!(
        "jetstream {{ store_dir: STORE }}\ntls {{ cert_file: {:?}, key_file: {:?} }}",
        path("ours-server.pem"),
        path("ours-key.pem"),
    );
    let Some(server) = Server::with(&settings) else { return };
    let servers =
        |urls: String, ca: &str| Servers { urls, ca: Some(path(ca)), ..Servers::default() };
    let tls = server.url().replace("nats://", "tls://");
    for urls in [server.url(), tls] {
        let connection = Connection::open(&servers(urls, "ours.pem")).await.expect("it is trusted");
        let log = JetStreamLog::open(&connection, nats::settings()).await.expect("a log");
        log.claim(PARTITION, NODE).await.expect("a claim");
    }
    let error =
        Connection::open(&servers(server.url(), "theirs.pem")).await.expect_err("a stranger");
    let error = error.to_string();
    let line = format!("no NATS server can be reached: {}: ", server.url().replace("nats://", ""));
    assert!(error.starts_with(&line) && error.contains("certificate"), "{error}");
    let error = Connection::open(&servers(server.url(), "none.pem")).await.expect_err("no file");
    assert!(error.to_string().contains("none.pem: "), "{error}");
}

/// A token as NATS has them.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": "test", "iat": 1_700_000_000, "name": "test",
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": claims,
    });
    let text = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(claims));
    let signature = issuer.sign(text.as_bytes()).expect("it is signed");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_file_of_credentials_opens_the_log_of_its_account() {
    let operator = KeyPair::new_operator();
    let (account, system, user) =
        (KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_account = json!({ "type": "account", "version": 2, "limits": limits });
    let of_system = json!({ "type": "account", "version": 2, "limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    } });
    let settings = format!(
        "jetstream {{ store_dir: STORE }}\noperator: {}\nsystem_account: {}\nresolver: MEMORY\n\
         resolver_preload: {{ {}: {}, {}: {} }}",
        token(&operator, &operator, json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        account.public_key(),
        token(&operator, &account, of_account),
        system.public_key(),
        token(&operator, &system, of_system),
    );
    let Some(server) = Server::with(&settings) else { return };
    let folder = Folder::new();
    let credentials = |name: &str, issuer: &KeyPair| {
        let claims = json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            token(issuer, &user, claims),
            user.seed().expect("a seed"),
        );
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        Servers { urls: server.url(), credentials: Some(path), ..Servers::default() }
    };
    let connection =
        Connection::open(&credentials("ours", &account)).await.expect("they are right");
    let log = JetStreamLog::open(&connection, nats::settings()).await.expect("a log");
    log.claim(PARTITION, NODE).await.expect("a claim");
    let stranger = KeyPair::new_account();
    let error = Connection::open(&credentials("theirs", &stranger)).await.expect_err("a stranger");
    let line =
        format!("the NATS server refuses the credentials: {}", server.url().replace("nats://", ""));
    assert_eq!(error.to_string(), line);
}
