//! The measured processes: children that end with the run, however it ends.

use super::{
    PATIENCE, Result,
    accounting::{ThreadTimes, resident_bytes},
};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    time::{sleep, timeout},
};

/// With this exit code a peer says that it is not installed.
const NOT_INSTALLED: i32 = 3;
/// How long to wait before asking again whether a peer listens.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A listening child of this process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    pid: u32,
    child: Child,
}

impl Process {
    /// Starts this very program with other arguments and waits until it listens.
    pub async fn start(arguments: &[String]) -> Result<Self> {
        let verb = arguments.first().map_or("", String::as_str);
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            // Stays open as long as this process lives, whatever becomes of it.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("the child has ended")?;
        let mut log = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let address = timeout(PATIENCE, listening(&mut log))
            .await
            .map_err(|_| format!("`{verb}` does not listen after {PATIENCE:?}"))?
            .map_err(|log| format!("`{verb}` ended before it listened: {log}"))?;
        tokio::spawn(pass_on(log));
        Ok(Process { address, pid, child })
    }

    /// Starts a peer by the folder's `start` and waits until it listens; none = it is not installed.
    pub async fn start_peer(folder: &Path, name: &str) -> Result<Option<Self>> {
        let address = free_address()?;
        let mut child = Command::new(folder.join("start"))
            .args([name, &address.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", folder.join("start").display()))?;
        let pid = child.id().ok_or("the child has ended")?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    return Ok(Err(status));
                }
                sleep(LOOK_AGAIN).await;
            }
            Ok::<_, super::Error>(Ok(()))
        };
        match timeout(PATIENCE, listens).await {
            Ok(Ok(Ok(()))) => Ok(Some(Process { address, pid, child })),
            Ok(Ok(Err(status))) if status.code() == Some(NOT_INSTALLED) => Ok(None),
            Ok(Ok(Err(status))) => Err(format!("{name} ended with {status}").into()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("{name} does not listen after {PATIENCE:?}").into()),
        }
    }

    /// The CPU it has used so far.
    pub fn cpu(&self) -> Result<ThreadTimes> {
        ThreadTimes::of(self.pid)
    }

    /// The memory it holds.
    pub fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid)
    }

    /// The bytes that it has had the kernel write so far.
    pub fn written_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.pid))?;
        let written = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(written.ok_or("the kernel does not say how much was written")?.parse()?)
    }

    /// Ends it and waits until it is gone.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// An address at which nothing listens.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Reads a log up to the line that says where the child listens, or else all of it.
async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> Result<SocketAddr, String> {
    let mut before = String::new();
    while let Ok(Some(line)) = log.next_line().await {
        if let Some(address) = listening_address(&line) {
            return Ok(address);
        }
        before.push_str(&line);
        before.push('\n');
    }
    Err(before)
}

/// The address, if this line of a JSON log says "listening".
fn listening_address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields.get("message")? != "listening" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}

/// Shows what a child has to say while it is measured: warnings and errors.
async fn pass_on(mut log: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = log.next_line().await {
        if !line.contains(r#""level":"INFO""#) {
            eprintln!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_where_a_child_listens() {
        let expected = Some(SocketAddr::from(([127, 0, 0, 1], 43111)));
        let flat = r#"{"level":"INFO","message":"listening","address":"127.0.0.1:43111"}"#;
        assert_eq!(listening_address(flat), expected);
        let nested = r#"{"fields":{"message":"listening","address":"127.0.0.1:43111"}}"#;
        assert_eq!(listening_address(nested), expected);
    }

    #[test]
    fn other_lines_do_not() {
        for line in [
            "listening on 127.0.0.1:1",
            r#"{"message":"stopped","address":"127.0.0.1:1"}"#,
            r#"{"message":"listening"}"#,
            r#"{"message":"listening","address":1}"#,
        ] {
            assert_eq!(listening_address(line), None, "{line}");
        }
    }
}
