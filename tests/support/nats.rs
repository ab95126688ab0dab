//! NATS servers as processes. They end with the process of the tests, however that ends.

use serde_json::Value;
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

/// Where a server of three tells the others that it is: so they find it only where they are told to.
const NOBODY: u16 = 9;

/// Runs a program until its own input ends, and removes a folder after that unless it is to be kept.
const KEEPER: &str = r#"folder=$1; shift; "$@" & read -r _
kill -CONT $!; kill $!; wait $!; [ -e "$folder/keep" ] || rm -rf "$folder""#;

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
    program: PathBuf,
    folder: PathBuf,
    settings: String,
    keeper: Child,
    port: u16,
}

impl Server {
    /// A server alone, with JetStream, that answers when what it stored is on the disk.
    pub fn start() -> Option<Self> {
        Self::with("jetstream { store_dir: STORE, sync_interval: always }")
    }

    /// A server with settings of its own, in which STORE is a folder. It has JetStream if they do not say
    /// anything about that.
    pub fn with(settings: &str) -> Option<Self> {
        match settings.contains("jetstream") {
            true => Self::plain(settings),
            false => Self::plain(&format!("jetstream {{ store_dir: STORE }}\n{settings}")),
        }
    }

    /// The same with nothing but what the settings say.
    pub fn plain(settings: &str) -> Option<Self> {
        Some(Self::by(program()?, settings))
    }

    /// The same by another program that leads to the server's.
    pub fn by(program: PathBuf, settings: &str) -> Self {
        let folder = folder();
        let mut store = format!("{:?}", folder.join("store"));
        if !settings.contains("max_file_store") {
            // Otherwise it depends on the disk of the machine.
            store += ", max_file_store: 1T";
        }
        Self::run(program, folder, settings.replace("STORE", &store))
    }

    fn run(program: PathBuf, folder: PathBuf, settings: String) -> Self {
        let keeper = keep(&program, &folder, "-1", &settings);
        let port = port(&folder);
        Self { program, folder, settings, keeper, port }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let started = Instant::now();
        while self.runs() {
            assert!(started.elapsed() < START, "it does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it without a warning if it runs, and starts it again where it was, on what it stored.
    pub fn restart(&mut self) {
        if self.runs() {
            self.kill();
        }
        fs::write(self.folder.join("keep"), "").expect("a file");
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("it ends");
        for name in ["keep", "pid"] {
            fs::remove_file(self.folder.join(name)).expect("it is there");
        }
        ports(&self.folder).map(fs::remove_file).expect("it is there").expect("it is removed");
        self.keeper = keep(&self.program, &self.folder, &self.port.to_string(), &self.settings);
        assert_eq!(port(&self.folder), self.port);
    }

    /// What has ended has no command any more, although its parent may not know yet.
    fn runs(&self) -> bool {
        let command = fs::read(Path::new("/proc").join(self.pid()).join("cmdline"));
        command.is_ok_and(|command| !command.is_empty())
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.folder.join("pid")).expect("a file").trim().to_owned()
    }

    /// What it stores stays when it is over.
    pub fn keep(&self) {
        fs::write(self.folder.join("keep"), "").expect("a file");
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} to {pid}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A folder that nothing else is in.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("nats-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn keep(program: &Path, folder: &Path, port: &str, settings: &str) -> Child {
    let (file, pid) = (folder.join("settings"), folder.join("pid"));
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: {folder:?}\npid_file: {pid:?}\n{settings}\n"
    );
    fs::write(&file, text).expect("a file");
    let output = fs::File::create(folder.join("output")).expect("a file");
    let keeper = Command::new("sh")
        .args(["-c", KEEPER, "sh"])
        .args([folder, program, Path::new("-c"), &file])
        .stdin(Stdio::piped())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output)
        .spawn();
    keeper.expect("a shell")
}

/// Where a server says which ports it has.
fn ports(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).expect("the folder").flatten().map(|it| it.path());
    files.into_iter().find(|path| path.extension().is_some_and(|it| it == "ports"))
}

/// The port for clients, as soon as it is open.
fn port(folder: &Path) -> u16 {
    let started = Instant::now();
    loop {
        let text = ports(folder).and_then(|path| fs::read_to_string(path).ok());
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

/// One of three servers, before it is started.
#[derive(Debug)]
pub struct Member {
    pub program: PathBuf,
    /// The folder that it stores in; none = one of its own.
    pub store: Option<PathBuf>,
    /// Its port for the others.
    pub port: u16,
    /// Where it looks for the others.
    pub routes: Vec<u16>,
}

/// Three servers that are one cluster.
#[derive(Debug)]
pub struct Three {
    /// In any order.
    pub servers: Vec<Server>,
}

impl Three {
    /// Each stores in a folder of its own, and finds all the others.
    pub fn start() -> Option<Self> {
        let (program, ports) = (program()?, Self::ports());
        let member =
            |port| Member { program: program.clone(), store: None, port, routes: ports.to_vec() };
        Some(Self::of(ports.map(member)))
    }

    /// Ports for them that are free.
    pub fn ports() -> [u16; 3] {
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        free.map(|it| it.local_addr().expect("an address").port())
    }

    /// Each looks for the others nowhere but where it is told to.
    pub fn of(members: [Member; 3]) -> Self {
        let start = |(number, member): (usize, Member)| {
            // However small the disk is, a server takes all streams.
            let of = |it: PathBuf| format!("{it:?}, max_file_store: 1T");
            let store = member.store.map_or("STORE".to_owned(), of);
            let routes = member.routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\""));
            let routes = routes.collect::<Vec<_>>().join(", ");
            let settings = format!(
                "jetstream {{ store_dir: {store}, sync_interval: always }}\n\
                 server_name: server{number}\n\
                 cluster {{ name: tests, no_advertise: true, listen: \"127.0.0.1:{}\",\n\
                 advertise: \"127.0.0.1:{NOBODY}\", routes: [{routes}] }}",
                member.port
            );
            Server::by(member.program, &settings)
        };
        Self { servers: members.into_iter().enumerate().map(start).collect() }
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
