//! The measured processes: children that end with the run, however it ends.

use super::{
    PATIENCE, Result,
    accounting::{ThreadTimes, resident_bytes},
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
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

    /// Starts another program, which listens at an address after a while, and waits for that.
    pub async fn start_other(command: &mut Command, address: SocketAddr) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
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
        let listens = timeout(PATIENCE, listens);
        match listens.await.map_err(|_| format!("it does not listen after {PATIENCE:?}"))?? {
            Ok(()) => Ok(Process { address, pid, child }),
            Err(status) => Err(Exited(status).into()),
        }
    }

    /// Starts a peer by the folder's `start` and waits until it listens; none = it is not installed.
    pub async fn start_peer(folder: &Path, name: &str) -> Result<Option<Self>> {
        let address = free_address()?;
        let mut command = Command::new(folder.join("start"));
        command.args([name, &address.port().to_string()]);
        match Self::start_other(&mut command, address).await {
            Ok(process) => Ok(Some(process)),
            Err(error) => match error.downcast_ref::<Exited>() {
                Some(Exited(status)) if status.code() == Some(NOT_INSTALLED) => Ok(None),
                _ => Err(format!("{name}: {error}").into()),
            },
        }
    }

    /// The CPU that these have used so far.
    pub fn cpu(processes: &[Self]) -> Result<ThreadTimes> {
        ThreadTimes::of_all(processes.iter().map(|it| it.pid))
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

    /// Asks it to end, and waits until it is gone.
    pub async fn end(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).ok_or("it has no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.map_err(|_| format!("it has not ended after {PATIENCE:?}"))??;
        Ok(())
    }

    /// Ends it at once and waits until it is gone.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A child has ended before it listened.
#[derive(Debug, thiserror::Error)]
#[error("it has ended with {0}")]
struct Exited(ExitStatus);

/// An address at which nothing listens.
pub fn free_address() -> Result<SocketAddr> {
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
