//! `sessiond serve` as a process.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tonic::transport::{Channel, Endpoint};

/// A server on a port of its own.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it has to say beside that it listens, once it is over.
    alarms: mpsc::Receiver<Vec<String>>,
}

impl Server {
    pub fn start(flags: &[&str]) -> Self {
        Self::start_by(Command::new(program()), flags)
    }

    /// The same by a command that leads to the program.
    pub fn start_by(mut command: Command, flags: &[&str]) -> Self {
        let has_listen = flags.contains(&"--listen");
        let listen = ["--listen", "127.0.0.1:0"];
        without_settings(&mut command);
        let mut child = command
            .args(["serve", "--log-format", "json"])
            .args(if has_listen { &[][..] } else { &listen[..] })
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = address(&mut log);
        let (tell, alarms) = mpsc::channel();
        thread::spawn(move || {
            let lines = log.map_while(Result::ok);
            let is_alarm = |line: &String| {
                let words = ["panicked", "\"ERROR\"", "sessiond: "];
                words.iter().any(|word| line.contains(word))
            };
            let _ = tell.send(lines.filter(is_alarm).take(20).collect());
        });
        Self { child, address, alarms }
    }

    pub async fn connect(&self) -> Channel {
        endpoint(self.address).connect().await.expect("it accepts connections")
    }

    /// How much memory it holds, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("KiB");
        kib * 1024
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }

    /// Its id as a process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// It may tell of faults.
    pub fn expects_alarms(&mut self) {
        self.alarms = mpsc::channel().1;
    }

    /// What it has to say and how it ends, once it is over.
    pub fn last_words(&mut self) -> (Option<i32>, Vec<String>) {
        let code = self.child.wait().expect("it is a child").code();
        (code, self.alarms.recv().unwrap_or_default())
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        signal("-TERM", self.child.id());
    }

    /// How long it takes from now until the process is over.
    pub async fn exit(&mut self, limit: Duration) -> Option<Duration> {
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let alarms = self.alarms.recv().unwrap_or_default();
        if !thread::panicking() {
            assert_eq!(alarms, [""; 0], "the server has no fault to tell of");
        } else if !alarms.is_empty() {
            eprintln!("the server says: {alarms:#?}");
        }
    }
}

/// How to connect: with the window of HTTP/2, as most gRPC clients do.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    endpoint.initial_stream_window_size(65_535).tcp_nodelay(true)
}

/// The program under test.
pub fn program() -> String {
    std::env::var("SESSIOND_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sessiond").to_owned())
}

/// Takes the names out of the environment of a program that tests are set by: it knows no such setting.
pub fn without_settings(command: &mut Command) {
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("SESSIOND_")) {
        command.env_remove(name);
    }
}

/// Sends a signal to a process.
pub fn signal(signal: &str, process: u32) {
    let kill = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(kill.expect("there is a kill").success());
}

fn address(log: &mut Lines<BufReader<ChildStderr>>) -> SocketAddr {
    let line = log.map_while(Result::ok).find(|line| line.contains("\"listening\""));
    let line = line.expect("it says where it listens");
    let (_, rest) = line.split_once("\"address\":\"").expect("the line has the address");
    rest.split('"').next().and_then(|it| it.parse().ok()).expect("an address")
}
