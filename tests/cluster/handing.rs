//! A hand-over between two nodes as processes.

use crate::{nats::Server as Nats, server::Server};
use sessiond::proto::{
    GetSessionInfoRequest, OpenSharedSessionRequest, session_service_client::SessionServiceClient,
};
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tonic::{Code, Status, transport::Channel};

/// How long everything may take that has to be there first.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a node that stops waits for a URL that does not answer.
const PUSHING: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_hand_over_does_not_wait_for_a_webhook_that_does_not_answer() {
    let Some(nats) = Nats::start() else { return };
    let (called, url) = hanging();
    let folder = folder(&url);
    let mut ada = node(&nats, "ada", &folder);
    ada.expects_alarms();
    let of_ada = SessionServiceClient::new(ada.connect().await);
    until(PATIENCE, || open(of_ada.clone())).await;
    let mut ben = node(&nats, "ben", &folder);
    ben.expects_alarms();
    let of_ben = SessionServiceClient::new(ben.connect().await);
    until(PATIENCE, || look(of_ben.clone())).await;
    called.recv_timeout(PATIENCE).expect("the webhook is called");
    let begun = Instant::now();
    ada.terminate();
    // Until then calls at ben are answered by ada.
    while !is_at_ben(&of_ben).await {
        assert!(begun.elapsed() < PATIENCE, "it is not handed over");
        sleep(Duration::from_millis(10)).await;
    }
    let took = begun.elapsed();
    assert!(took < PUSHING, "{took:?}");
    assert!(ada.exit(PATIENCE).await.is_some(), "it stops");
}

/// Whether ben answers for the session itself.
async fn is_at_ben(of_ben: &SessionServiceClient<Channel>) -> bool {
    let reply = of_ben.clone().get_session_info(asked()).await;
    let node = match &reply {
        Ok(reply) => reply.metadata().get("sessiond-node"),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            None
        }
    };
    node.is_some_and(|node| node == "ben")
}

/// Where a webhook is heard and never answered; says when it is called.
fn hanging() -> (mpsc::Receiver<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (tell, called) = mpsc::channel();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
            let _ = tell.send(());
        }
    });
    (called, url)
}

/// A folder with the webhooks of both.
fn folder(url: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-handing");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let secret = folder.join("secret");
    fs::write(&secret, "for tests only: 0123456789abcdef\n").expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
    let webhook = format!(
        "[[webhooks]]\nname = \"deaf\"\nurl = {url:?}\nsecret-files = [\"secret\"]\napps = \"*\"\n"
    );
    fs::write(folder.join("webhooks.toml"), webhook).expect("a file");
    folder
}

fn node(nats: &Nats, name: &str, folder: &Path) -> Server {
    let webhooks = folder.join("webhooks.toml").display().to_string();
    let of_cluster = ["--cluster", &nats.url(), "--cluster-partitions", "1"].map(str::to_owned);
    let of_log = ["--cluster-replicas", "1", "--cluster-log-bytes", "128MiB"].map(str::to_owned);
    let of_node = ["--node-listen", "127.0.0.1:0", "--node", name].map(str::to_owned);
    let of_webhooks = ["--webhooks", &webhooks].map(str::to_owned);
    let flags = [of_cluster, of_log, of_node].concat();
    let flags = [&flags[..], &of_webhooks].concat();
    Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn asked() -> GetSessionInfoRequest {
    GetSessionInfoRequest {
        session_id: "hall".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    }
}

async fn look(mut calls: SessionServiceClient<Channel>) -> Result<(), Status> {
    calls.get_session_info(asked()).await.map(drop)
}

async fn open(mut calls: SessionServiceClient<Channel>) -> Result<(), Status> {
    let request = OpenSharedSessionRequest {
        session_id: "hall".to_owned(),
        user_id: "ada".to_owned(),
        request_id: "once".to_owned(),
        join: Some(Default::default()),
        ..Default::default()
    };
    calls.open_shared_session(request).await.map(drop)
}

/// Tries again as long as nobody answers.
async fn until<F: Future<Output = Result<(), Status>>>(
    patience: Duration,
    mut what: impl FnMut() -> F,
) {
    let begun = Instant::now();
    while let Err(status) = what().await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(begun.elapsed() < patience, "{status:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
