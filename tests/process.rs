//! The program as a process: it comes up, says where it listens, answers, and goes when it is told to.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A server on a port of its own, with the lines that it logs.
struct Server {
    child: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let line = log.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.ok()?).expect("a JSON line");
            line.to_string().contains("listening").then_some(line)
        });
        let line = line.expect("it says where it listens");
        let address = find(&line, "address").expect("the line has the address");
        Self { child, log, address }
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("there is a kill").success());
    }

    fn is_healthy(&self) -> bool {
        let probe = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args(["health", "--address", &self.address])
            .env_clear()
            .output();
        probe.expect("the program runs").status.success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of a log line, wherever the format puts it.
fn find(line: &serde_json::Value, name: &str) -> Option<String> {
    let object = line.as_object()?;
    let here = object.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    here.or_else(|| object.values().find_map(|inner| find(inner, name)))
}

#[test]
fn sigterm_and_sigint_end_it_with_0() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start();
        assert!(server.is_healthy());
        server.signal(signal);
        let status = server.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal}");
        let rest: Vec<_> = server.log.by_ref().map_while(Result::ok).collect();
        assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
        assert!(!server.is_healthy());
    }
}

#[test]
fn a_port_that_is_taken_ends_it_with_2_and_one_line() {
    let server = Server::start();
    let second = Command::new(env!("CARGO_BIN_EXE_sessiond"))
        .args(["serve", "--listen", &server.address])
        .env_clear()
        .output()
        .expect("the program runs");
    let told = String::from_utf8(second.stderr).expect("text");
    assert_eq!(second.status.code(), Some(2), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(&server.address), "{told}");
}
