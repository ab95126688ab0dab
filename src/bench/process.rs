//! The measured processes: children that end with the run, however it ends.

use super::{
    PATIENCE, Result,
    accounting::{ThreadTimes, resident_bytes},
};
use serde_json::Value;
use std::{net::SocketAddr, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

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

    /// The CPU it has used so far.
    pub fn cpu(&self) -> Result<ThreadTimes> {
        ThreadTimes::of(self.pid)
    }

    /// The memory it holds.
    pub fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid)
    }

    /// Ends it and waits until it is gone.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
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
