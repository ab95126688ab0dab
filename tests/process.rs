//! The program as a process: it comes up, says where it listens, answers, and goes when it is told to.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::PathBuf,
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
        Self::start_at("127.0.0.1:0")
    }

    fn start_at(listen: &str) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_sessiond"));
        Self::start_by(program, &["--listen", listen])
    }

    /// A server that a shell starts which may have so many files open, and may raise that.
    fn start_with_files((soft, hard): (u32, u32), flags: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = r#"ulimit -Sn "$0" && ulimit -Hn "$1" && shift && exec "$@""#;
        shell.args(["-c", script, &soft.to_string(), &hard.to_string()]);
        shell.arg(env!("CARGO_BIN_EXE_sessiond"));
        Self::start_by(shell, &[&["--listen", "127.0.0.1:0", "--threads", "1"], flags].concat())
    }

    fn start_by(mut program: Command, flags: &[&str]) -> Self {
        let mut child = program
            .args(["serve", "--log-format", "json"])
            .args(flags)
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

    /// The next line of the log with `text` in it.
    fn says(&mut self, text: &str) -> String {
        let line = self.log.by_ref().map_while(Result::ok).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("it says {text:?}"))
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("there is a kill").success());
    }

    fn is_healthy(&self) -> bool {
        health().args(["--address", &self.address]).output().expect("it runs").status.success()
    }

    fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("an address").1
    }
}

fn health() -> Command {
    let mut health = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    health.arg("health").env_clear();
    health
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

#[test]
fn signals_without_a_meaning_are_ignored() {
    let mut server = Server::start();
    for signal in ["HUP", "USR1", "USR2"] {
        server.signal(&format!("-{signal}"));
        let line = server.says("ignored");
        assert!(line.contains(&format!("SIG{signal}")), "{line}");
        server.signal(&format!("-{signal}"));
    }
    server.signal("-PIPE");
    assert!(server.is_healthy());
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
    let rest: Vec<_> = server.log.by_ref().map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("ignored")), "once is enough: {rest:?}");
}

#[test]
fn the_health_of_the_server_is_asked_where_the_settings_say() {
    let server = Server::start();
    let port = server.port();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("health.toml");
    let is_well = |command: &mut Command| {
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{command:?}: {output:?}");
    };
    for listen in [
        format!("127.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("localhost:{port}"),
        format!(":{port}"),
        port.to_owned(),
    ] {
        is_well(health().env("SESSIOND_LISTEN", &listen));
        is_well(health().args(["--address", &listen]).env("SESSIOND_LISTEN", "127.0.0.1:1"));
        fs::write(&file, format!("listen = {listen:?}")).expect("it is written");
        is_well(health().arg("--config").arg(&file));
        is_well(health().env("SESSIOND_CONFIG", &file));
        is_well(health().env("SESSIOND_CONFIG", "").env("SESSIOND_LISTEN", &listen));
    }
    let elsewhere = health().env("SESSIOND_LISTEN", "127.0.0.1:1").output().expect("it runs");
    assert_eq!(elsewhere.status.code(), Some(1), "{elsewhere:?}");
    let anywhere = health().env("SESSIOND_LISTEN", ":0").output().expect("it runs");
    assert_eq!(anywhere.status.code(), Some(2), "nobody knows the port: {anywhere:?}");
}

#[test]
fn it_listens_at_names_on_all_interfaces_and_on_a_bare_port() {
    for (listen, begin) in [("localhost:0", &["127.0.0.1:", "[::1]:"][..]), ("0", &["127.0.0.1:"])]
    {
        let server = Server::start_at(listen);
        let begins = begin.iter().any(|begin| server.address.starts_with(begin));
        assert!(begins && server.is_healthy(), "{listen} is {}", server.address);
    }
    let program = || Command::new(env!("CARGO_BIN_EXE_sessiond"));
    let server = Server::start_by(program(), &["--listen", ":0", "--insecure", "true"]);
    assert!(["[::]:", "0.0.0.0:"].iter().any(|all| server.address.starts_with(all)));
    let reached = TcpStream::connect(format!("127.0.0.1:{}", server.port()));
    assert!(reached.is_ok() && server.is_healthy(), "{} is {reached:?}", server.address);
    let nowhere = program()
        .args(["serve", "--listen", "nowhere.invalid:0"])
        .env_clear()
        .output()
        .expect("the program runs");
    let told = String::from_utf8(nowhere.stderr).expect("text");
    assert_eq!(nowhere.status.code(), Some(2), "{told}");
    assert!(told.contains("nowhere.invalid:0"), "{told}");
}

#[test]
fn it_does_not_listen_beyond_the_machine_where_every_caller_is_believed() {
    for listen in [":0", "0.0.0.0:0"] {
        let refused = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args(["serve", "--listen", listen])
            .env_clear()
            .output()
            .expect("the program runs");
        let told = String::from_utf8(refused.stderr).expect("text");
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("--identity") && told.contains("--insecure"), "{told}");
    }
}

/// What a server says that is started with a faulty file, which it does not take.
fn faults_of(setting: &str, text: &str) -> Vec<String> {
    let name = format!("faulty-{}.toml", setting.trim_start_matches('-'));
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
    fs::write(&file, text).expect("it is written");
    let refused = Command::new(env!("CARGO_BIN_EXE_sessiond"))
        .args(["serve", "--listen", "127.0.0.1:0", setting])
        .arg(&file)
        .env_clear()
        .output()
        .expect("the program runs");
    let told = String::from_utf8(refused.stderr).expect("text");
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.lines().all(|line| line.contains(&name)), "{told}");
    told.lines().map(str::to_owned).collect()
}

#[test]
fn every_fault_of_who_may_call_is_told_in_a_line_of_its_own() {
    let told = faults_of("--identity", "x = 1");
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn every_fault_of_rules_and_hooks_is_told_in_a_line_of_its_own() {
    let bad = "[[rules]]\nname = \"a\"\non = [\"write\"]\napps = \"*\"\nexpression = \"x\"\nmessage = \"no\"\n\
               [[hooks]]\nurl = \"ftp://b\"\non = [\"join\"]\napps = \"*\"\n";
    let told = faults_of("--policy", bad);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("rules[0].expression") && told[1].contains("hooks[0].url"),
        "{told:?}"
    );
}

#[test]
fn the_limit_of_open_files_is_raised_and_told() {
    for (max_connections, is_too_many) in [("412", false), ("413", true)] {
        let flags = ["--max-connections", max_connections];
        let mut server = Server::start_with_files((64, 512), &flags);
        let line = server.says("file descriptors");
        assert!(line.contains("\"limit\":512"), "{line}");
        server.signal("-TERM");
        let rest: Vec<_> = server.log.by_ref().map_while(Result::ok).collect();
        let warned = rest.iter().any(|line| line.contains("or lower max-connections"));
        assert_eq!(warned, is_too_many, "{rest:?}");
    }
}

#[test]
fn running_out_of_files_is_told_once_and_ends_with_the_connections() {
    let mut server = Server::start_with_files((40, 40), &[]);
    let connect = |_| TcpStream::connect(&server.address).expect("the kernel accepts");
    let connections: Vec<_> = (0..60).map(connect).collect();
    server.says("cannot accept");
    drop(connections);
    while !server.is_healthy() {}
    server.signal("-TERM");
    let rest: Vec<_> = server.log.by_ref().map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("cannot accept")), "{rest:?}");
}

#[test]
fn of_several_faulty_files_all_are_told() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let settings = ["identity", "policy", "apps", "webhooks", "tls-certificate", "tls-key"];
    let mut serve = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    serve.args(["serve", "--listen", "127.0.0.1:0"]).env_clear();
    for setting in settings {
        let file = folder.join(format!("several-{setting}"));
        fs::write(&file, "faulty = [").expect("it is written");
        serve.arg(format!("--{setting}")).arg(file);
    }
    let refused = serve.output().expect("the program runs");
    let told = String::from_utf8(refused.stderr).expect("text");
    assert_eq!(refused.status.code(), Some(2), "{told}");
    for setting in settings {
        let file = format!("several-{setting}");
        assert!(told.lines().any(|line| line.contains(&file)), "{setting}: {told}");
    }
}
