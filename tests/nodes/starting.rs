//! What a server says of the settings of nodes before it serves.

use super::{
    authority::{Authority, Folder},
    support::{LOOPBACK, certificate, config, start},
};
use sessiond::{config::Config, server::StartError};
use std::net::SocketAddr;

async fn faults(config: Config) -> String {
    match start(config, None).await {
        Err(error @ StartError::Tls(_)) => error.to_string(),
        other => panic!("it should be refused for its files: {other:?}"),
    }
}

fn everywhere() -> Config {
    Config { node_listen: Some(SocketAddr::from(([0, 0, 0, 0], 0)).into()), ..config("it") }
}

#[tokio::test]
async fn settings_that_lack_another_are_all_named() {
    let folder = Folder::new();
    let some = Some(folder.path("x"));
    let listening = Config { node_listen: Some(LOOPBACK.into()), ..config("it") };
    let told = faults(Config { node_key: some.clone(), ..listening }).await;
    assert_eq!(
        told,
        "node-key is given without node-certificate\nnode-key is given without node-ca"
    );
    let secret = Some(folder.write("secret", &"x".repeat(32)));
    let told = faults(Config { node_secret: secret, ..config("it") }).await;
    assert_eq!(told, "node-secret is given without node-listen");
}

#[tokio::test]
async fn every_file_that_is_wrong_is_named() {
    let folder = Folder::new();
    let lines = ["short".to_owned(), "é".repeat(20), "y".repeat(32), "x".repeat(257)].join("\n");
    let told = faults(Config {
        node_listen: Some(LOOPBACK.into()),
        node_certificate: Some(folder.path("a.pem")),
        node_key: Some(folder.path("a.key")),
        node_ca: Some(folder.path("ca.pem")),
        node_secret: Some(folder.write("secret", &lines)),
        ..config("it")
    })
    .await;
    for (file, fault) in [
        ("a.pem", "No such file"),
        ("a.key", "No such file"),
        ("ca.pem", "No such file"),
        ("secret, line 1", "32 to 256 bytes"),
        ("secret, line 2", "printable ASCII"),
        ("secret, line 4", "32 to 256 bytes"),
    ] {
        let is_named = told.lines().any(|line| line.contains(file) && line.contains(fault));
        assert!(is_named, "{file}: {told}");
    }
    assert!(!told.contains("xx") && !told.contains("short"), "no secret is told: {told}");
    for (text, fault) in
        [(String::new(), "has no secret"), (vec!["z".repeat(32); 9].join("\n"), "more than 8")]
    {
        let secret = Some(folder.write("secret", &text));
        let listening = Config { node_listen: Some(LOOPBACK.into()), ..config("it") };
        let told = faults(Config { node_secret: secret, ..listening }).await;
        assert!(told.contains(fault), "{told}");
    }
}

#[tokio::test]
async fn a_port_that_other_machines_reach_needs_certificates_or_a_secret() {
    let refused = start(everywhere(), None).await;
    assert!(matches!(refused, Err(StartError::InsecureNodes { .. })), "{refused:?}");
    let folder = Folder::new();
    let secret = Some(folder.write("secret", &"x".repeat(32)));
    start(Config { node_secret: secret, ..everywhere() }, None).await.expect("it starts");
    let (authority, file) =
        (Authority::new(), |name: &str, text: &str| Some(folder.write(name, text)));
    let pair = certificate(&authority, &["localhost"]);
    let certified = Config {
        node_certificate: file("a.pem", &pair.certificate),
        node_key: file("a.key", &pair.key),
        node_ca: file("ca.pem", &authority.pem()),
        ..everywhere()
    };
    start(certified, None).await.expect("it starts");
}
