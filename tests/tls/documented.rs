//! What docs/security.md shows of TLS, word for word, and what the program does with it.

use super::authority::Folder;
use parking_lot::Mutex;
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

/// The commands of the blocks in which openssl makes something, without what stands before them: the
/// certificates of the first steps, and what the chapter on TLS adds.
fn commands() -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md"));
    let text = text.expect("it is there");
    let makes = |block: &&str| block.starts_with("$ openssl req");
    let blocks = text.split("```console\n").skip(1);
    let blocks: Vec<_> =
        blocks.filter_map(|rest| rest.split("\n```").next()).filter(makes).collect();
    assert_eq!(blocks.len(), 2, "the first steps have one, TLS has one");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let lines = lines.map(|line| format!("{}\n", line.strip_prefix("$ ").unwrap_or(line)));
    format!("umask 077\n{}", lines.collect::<String>())
}

/// The program; ended when dropped.
struct Serving {
    process: Child,
    address: String,
    /// What it has logged since it listens.
    log: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = sessiond(folder)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = log.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            let fields = line.get("fields").unwrap_or(&line);
            let address = fields.get("address")?.as_str()?.to_owned();
            (fields.get("message")? == "listening").then_some(address)
        });
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = lines.clone();
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|it| taken.lock().push(it)));
        Self { process, address: address.expect("it listens"), log: lines }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sessiond(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.env_clear().current_dir(folder);
    command
}

/// How a question about its health is answered: the code, and what is said.
fn health(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = sessiond(folder).arg("health").args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_commands_of_the_manual_make_what_the_server_needs() {
    let folder = Folder::new();
    let script = folder.write("script", &commands());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail"]).arg(&script).current_dir(folder.path(""));
    let output = bash.output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let tls = folder.path("");
    let pair = ["--tls-certificate", "server.pem", "--tls-key", "server.key"];
    let asking =
        [&pair[..], &["--tls-client-ca", "ca.pem", "--identity", "identity.toml"]].concat();
    let server = Serving::start(&tls, &asking);
    let well = (Some(0), String::new());
    let at = ["--address", &server.address];
    assert_eq!(health(&tls, &[&at[..], &["--ca", "ca.pem"]].concat()), well);
    let named = ["--ca", "ca.pem", "--server-name", "localhost"];
    assert_eq!(health(&tls, &[&at[..], &named].concat()), well);
    let shown = ["--ca", "ca.pem", "--cert", "lobby.pem", "--key", "lobby.key"];
    assert_eq!(health(&tls, &[&at[..], &shown].concat()), well);
    let other = ["--ca", "ca.pem", "--server-name", "elsewhere.example"];
    let (code, said) = health(&tls, &[&at[..], &other].concat());
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    let (code, said) = health(&tls, &at);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "it speaks TLS only: {said}");
    assert!(said.contains("If it has TLS, --ca"), "{said}");

    // By the settings of the server, as in a container: no authority is needed.
    let settings = folder.write(
        "sessiond.toml",
        &format!("listen = {:?}\ntls-certificate = \"server.pem\"\n", server.address),
    );
    let settings = ["--config", settings.to_str().expect("a path")];
    assert_eq!(health(&tls, &settings), well);
    symlink(tls.join("lobby.pem"), tls.join("other.pem")).expect("a link");
    folder.write(
        "sessiond.toml",
        &format!("listen = {:?}\ntls-certificate = \"other.pem\"\n", server.address),
    );
    let (code, said) = health(&tls, &settings);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "another certificate: {said}");
    drop(server);

    let required =
        [&pair[..], &["--tls-client-ca", "ca.pem", "--tls-require-client=true"]].concat();
    let server = Serving::start(&tls, &required);
    let at = ["--address", &server.address];
    assert_eq!(health(&tls, &[&at[..], &shown].concat()), well);
    for _ in 0..10 {
        let (code, _) = health(&tls, &[&at[..], &["--ca", "ca.pem"]].concat());
        assert_eq!(code, Some(1), "it shows no certificate");
    }
    let failed: Vec<_> = std::mem::take(&mut *server.log.lock());
    let failed = failed.into_iter().filter(|line| line.contains("a handshake failed"));
    assert_eq!(failed.count(), 1, "no client fills the log");
}

#[test]
fn files_of_the_client_that_are_wrong_are_said_in_a_line() {
    let folder = Folder::new();
    folder.write("ca.pem", "nothing");
    let at = ["--address", "127.0.0.1:1"];
    for (arguments, said) in [
        (&["--ca", "none.pem"][..], "cannot read none.pem"),
        (&["--ca", "ca.pem"], "ca.pem has no certificate in PEM"),
    ] {
        let (code, err) = health(&folder.path(""), &[&at[..], arguments].concat());
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
        assert!(err.contains(said), "{err}");
    }
    let (code, err) = health(&folder.path(""), &[&at[..], &["--cert", "a.pem"]].concat());
    assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}");
}
