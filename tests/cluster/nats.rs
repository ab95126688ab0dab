//! A server of NATS as a process, which ends with the process of the tests, however that ends.

use serde_json::Value;
use std::{
    env, fs,
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

/// Runs a program until its own input ends.
const KEEPER: &str = r#"folder=$1; shift; "$@" & read -r _
kill -CONT $!; kill $!; wait $!; rm -rf "$folder""#;

/// The program, or none where nobody promised that there is one.
fn program() -> Option<PathBuf> {
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
    folder: PathBuf,
    keeper: Child,
    port: u16,
}

impl Server {
    /// A server alone, with JetStream and settings beside.
    pub fn with(settings: &str) -> Option<Self> {
        Self::plain(&format!("jetstream {{ store_dir: STORE, max_file_store: 1T }}\n{settings}"))
    }

    /// A server alone, with settings in which STORE is a folder.
    pub fn plain(settings: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cluster-{}-{number}", std::process::id());
        let program = program()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let (file, pid) = (folder.join("settings"), folder.join("pid"));
        let settings = settings.replace("STORE", &format!("{:?}", folder.join("store")));
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {folder:?}\npid_file: {pid:?}\n{settings}\n"
        );
        fs::write(&file, text).expect("a file");
        let output = fs::File::create(folder.join("output")).expect("a file");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .args([&folder, &program, Path::new("-c"), &file])
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("a shell");
        let port = port(&folder);
        Some(Self { folder, keeper, port })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("a file");
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The port for clients, as soon as it is open.
fn port(folder: &Path) -> u16 {
    let started = Instant::now();
    loop {
        let files = fs::read_dir(folder).expect("the folder").flatten().map(|it| it.path());
        let mut files = files.filter(|path| path.extension().is_some_and(|it| it == "ports"));
        let text = files.next().and_then(|path| fs::read_to_string(path).ok());
        let found = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let url = found.as_ref().and_then(|ports| ports["nats"][0].as_str());
        let port = url.and_then(|url| url.rsplit(':').next()?.parse().ok());
        if let Some(port) = port
            && folder.join("pid").exists()
        {
            return port;
        }
        let output = fs::read_to_string(folder.join("output")).unwrap_or_default();
        assert!(started.elapsed() < START, "no server: {output}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// One server for all tests that have no need of their own.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(|| Server::with("")).as_ref()
}

/// A name that no other cluster has.
pub fn cluster() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
