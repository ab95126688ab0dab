//! NATS servers as processes. They end with the process of the tests, however that ends.

use super::support::Folder;
use sessiond::log::jetstream::{Connection, JetStreamLog, Servers, Settings};
use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// Runs a program until its own input ends, and removes a folder after that.
const KEEPER: &str =
    r#"folder=$1; shift; "$@" & read -r _; kill -CONT $!; kill $!; wait $!; rm -rf "$folder""#;

/// The program, or none where nobody promised that there is one.
pub fn program() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NATS_SERVER") {
        return Some(path.into());
    }
    let found = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|it| it.is_file())
    });
    if found.is_none() {
        eprintln!(
            "SKIPPED: there is no nats-server on the PATH, and NATS_SERVER does not name one"
        );
    }
    found
}

/// A server.
#[derive(Debug)]
pub struct Server {
    keeper: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// A server alone, with JetStream, that answers when what it stored is on the disk.
    pub fn start() -> Option<Self> {
        Self::with("")
    }

    /// The same with more in its file of settings.
    pub fn with(settings: &str) -> Option<Self> {
        let program = program()?;
        let folder = Folder::new().keep();
        Some(Self::run(&program, &folder, None, settings))
    }

    fn run(program: &Path, folder: &Path, port: Option<u16>, settings: &str) -> Self {
        let store = folder.join("store");
        let port = port.map_or("-1".to_owned(), |port| port.to_string());
        let jetstream = match settings.contains("jetstream") {
            true => String::new(),
            false => format!("jetstream {{ store_dir: {store:?}, sync_interval: always }}"),
        };
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: {folder:?}\n\
             pid_file: {:?}\n{jetstream}\n{settings}\n",
            folder.join("pid"),
        );
        fs::write(folder.join("settings"), text).expect("a file");
        let output = fs::File::create(folder.join("output")).expect("a file");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(folder)
            .arg(program)
            .arg("-c")
            .arg(folder.join("settings"))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("a shell");
        let mut server = Self { keeper, folder: folder.to_owned(), port: 0 };
        server.port = server.await_port();
        server
    }

    fn await_port(&mut self) -> u16 {
        let started = Instant::now();
        loop {
            let files = fs::read_dir(&self.folder).expect("the folder").flatten();
            let ports =
                files.map(|it| it.path()).find(|it| it.extension().is_some_and(|it| it == "ports"));
            let text = ports.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
            let port = text.split("\"nats\"").nth(1).and_then(|rest| {
                let digits =
                    rest.split(':').nth(3)?.split(|it: char| !it.is_ascii_digit()).next()?;
                digits.parse().ok()
            });
            if let Some(port) = port {
                return port;
            }
            let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            assert!(started.elapsed() < START, "no server: {text} {output}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("a file");
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} to {pid}");
    }

    /// What it has written.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Three servers that are one cluster.
#[derive(Debug)]
pub struct Three {
    /// In any order.
    pub servers: Vec<Server>,
}

impl Three {
    pub fn start() -> Option<Self> {
        let program = program()?;
        let free: Vec<_> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let ports: Vec<_> =
            free.iter().map(|it| it.local_addr().expect("an address").port()).collect();
        drop(free);
        let routes: Vec<_> =
            ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let routes = routes.join(", ");
        let start = |(number, port): (usize, &u16)| {
            let settings = format!(
                "server_name: server{number}\n\
                 cluster {{ name: tests, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            let folder = Folder::new().keep();
            Server::run(&program, &folder, None, &settings)
        };
        Some(Self { servers: ports.iter().enumerate().map(start).collect() })
    }

    pub fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }
}

/// One server for all tests that have no need of their own.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(Server::start).as_ref()
}

/// A name that no other cluster has.
pub fn cluster() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Settings of a cluster of its own, small.
pub fn settings() -> Settings {
    Settings {
        cluster: cluster(),
        partitions: 4,
        replicas: 1,
        max_bytes: 128 << 20,
        ..Settings::default()
    }
}

pub async fn connect(urls: &str) -> Connection {
    let servers = Servers { urls: urls.to_owned(), name: "tests".to_owned(), ..Servers::default() };
    Connection::open(&servers).await.expect("a connection")
}

/// A log of its own on a server.
pub async fn log(url: &str, settings: &Settings) -> JetStreamLog {
    JetStreamLog::open(&connect(url).await, settings.clone()).await.expect("a log")
}
