//! What a server says of its files before it serves.

use super::{
    authority::{Authority, Folder, expired},
    support::{Service, config, in_time, start},
};
use sessiond::{config::Config, server::StartError};
use std::{fs, os::unix::fs::PermissionsExt};

/// Everything that is wrong with a start.
async fn faults(config: Config) -> String {
    match start(config).await {
        Err(StartError::Tls(faults)) => faults.join("\n"),
        other => panic!("it should be refused for its TLS: {other:?}"),
    }
}

#[tokio::test]
async fn settings_that_lack_another_are_all_named() {
    let folder = Folder::new();
    let some = Some(folder.path("x"));
    let alone = Config { tls_key: some.clone(), tls_certificate: None, ..config(&folder) };
    assert_eq!(faults(alone).await, "tls-key is given without tls-certificate");
    let bare = Config { tls_certificate: None, tls_key: None, ..config(&folder) };
    let told = faults(Config { tls_client_ca: some, ..bare.clone() }).await;
    assert_eq!(told, "tls-client-ca is given without tls-certificate");
    let told = faults(Config { tls_key: None, tls_require_client: true, ..config(&folder) }).await;
    let both = "tls-certificate is given without tls-key\n\
                tls-require-client is given without tls-client-ca";
    assert_eq!(told, both);
}

#[tokio::test]
async fn every_file_that_is_wrong_is_named() {
    let folder = Folder::new();
    folder.write("ca.pem", "nothing");
    let ca = Some(folder.path("ca.pem"));
    let told = faults(Config { tls_client_ca: ca, ..config(&folder) }).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[0].contains("server.pem: No such file"), "{told}");
    assert!(lines[1].contains("server.key: No such file"), "{told}");
    assert!(lines[2].contains("ca.pem has no certificate in PEM"), "{told}");
}

#[tokio::test]
async fn a_key_that_is_not_that_of_the_certificate_is_refused() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.write_pair(&authority.server());
    folder.write("server.key", &authority.server().key);
    let told = faults(config(&folder)).await;
    assert!(told.contains("server.key is not that of the certificate in "), "{told}");
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.write_pair(&authority.server());
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path("server.key"), open).expect("it is ours");
    let told = faults(config(&folder)).await;
    assert!(told.contains("others have access to") && told.contains("chmod 600"), "{told}");
}

#[tokio::test]
async fn a_fault_of_a_key_shows_nothing_of_it() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let pair = authority.server();
    folder.write_pair(&pair);
    let cut = &pair.key[..pair.key.len() - 40];
    folder.write("server.key", cut);
    let told = faults(config(&folder)).await;
    assert!(told.contains("server.key has no private key in PEM"), "{told}");
    assert!(pair.key.lines().skip(1).all(|line| !told.contains(&line[..16.min(line.len())])));
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_served_and_clients_say_so() {
    let service = Service::start_with(|_, authority, folder| {
        let pair = authority.issue(|params| {
            expired(params);
            params.subject_alt_names =
                vec![rcgen::SanType::DnsName("localhost".try_into().expect("ASCII"))];
        });
        folder.write_pair(&pair);
    })
    .await;
    let error = in_time(service.client(None)).await.expect_err("it has expired");
    let causes = std::iter::successors(std::error::Error::source(&error), |it| it.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    assert!(causes.iter().any(|it| it.to_lowercase().contains("expired")), "{causes:?}");
}
