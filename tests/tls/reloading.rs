//! Files that change while the server serves.

use super::support::{Service, in_time, members, open_room};
use rustls::version::TLS13;
use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

/// The certificate that a new connection is shown, in DER.
async fn shown(service: &Service) -> Vec<u8> {
    let config = service.client_config(&[&TLS13], &["h2"], None);
    let stream = in_time(service.shake_hands(config)).await.expect("it shakes hands");
    let chain = stream.get_ref().1.peer_certificates().expect("it shows one");
    chain[0].to_vec()
}

/// Waits until new connections are shown another certificate than this.
async fn shown_other(service: &Service, than: &[u8]) -> Vec<u8> {
    in_time(async {
        loop {
            let now = shown(service).await;
            if now != than {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_no_call_fails_meanwhile() {
    let service = Service::start_with(|_, authority, folder| {
        // As volumes of Kubernetes swap all files at once.
        fs::create_dir(folder.path("first")).expect("a folder");
        folder.write_pair(&authority.server());
        for name in ["server.pem", "server.key"] {
            fs::rename(folder.path(name), folder.path("first").join(name)).expect("it moves");
            symlink(folder.path("current").join(name), folder.path(name)).expect("a link");
        }
        symlink(folder.path("first"), folder.path("current")).expect("a link");
    })
    .await;
    let mut old = service.client(None).await.expect("it gets in");
    open_room(&mut old, "games", "finals").await.expect("a new room");
    let first = shown(&service).await;

    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let load: Vec<_> = (0..4)
        .map(|number| {
            let (mut shared, endpoint) = (old.clone(), service.endpoint(None));
            let (over, calls) = (over.clone(), calls.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // Half of them over connections that were there, half over new ones.
                    let mut client = match number % 2 {
                        0 => shared.clone(),
                        _ => super::support::Client::new(in_time(endpoint.connect()).await?),
                    };
                    members(&mut client, "games", "finals").await?;
                    members(&mut shared, "games", "finals").await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        })
        .collect();

    fs::create_dir(service.folder.path("second")).expect("a folder");
    let pair = service.authority.server();
    service.folder.write("second/server.pem", &pair.certificate);
    service.folder.write("second/server.key", &pair.key);
    symlink(service.folder.path("second"), service.folder.path("next")).expect("a link");
    fs::rename(service.folder.path("next"), service.folder.path("current")).expect("it moves");
    let second = shown_other(&service, &first).await;
    assert_ne!(first, second);
    over.store(true, Ordering::Relaxed);
    for task in load {
        in_time(task).await.expect("no panic").expect("no call fails");
    }
    assert!(calls.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn a_pair_that_is_half_written_changes_nothing_until_it_is_whole() {
    let service = Service::start().await;
    let first = shown(&service).await;
    let pair = service.authority.server();
    let cut = &pair.certificate[..pair.certificate.len() / 2];
    let second = service.authority.server();
    let mut seen = Vec::new();
    for (name, text) in [
        // Half a certificate, a whole one without its key, no key at all.
        ("server.pem", cut),
        ("server.pem", &pair.certificate),
        ("server.key", ""),
        ("server.key", &second.key),
    ] {
        service.folder.write(name, text);
        // Longer than it takes until the files are looked at.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        seen.push(shown(&service).await);
    }
    assert!(seen.iter().all(|it| *it == first), "the old pair stays in force");
    service.folder.write("server.key", &pair.key);
    shown_other(&service, &first).await;
}
