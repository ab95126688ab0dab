//! Nodes as processes, which are killed and stopped.

use super::support::{Front, in_time, reason};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};
use tonic::Code;

/// A node that has all apps.
struct Owner {
    child: Child,
    /// Its port of nodes.
    address: SocketAddr,
}

impl Owner {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0"])
            .args(["--node-listen", "127.0.0.1:0", "--node", "the-owner"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let line = log.by_ref().map_while(Result::ok).find(|it| it.contains("other nodes"));
        let line = line.expect("it says where it listens for other nodes");
        let (_, rest) = line.split_once("\"address\":\"").expect("the line has the address");
        let address = rest.split('"').next().and_then(|it| it.parse().ok()).expect("an address");
        thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("there is a kill").success());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_node_that_is_killed_ends_the_streams_that_it_had() {
    let owner = Owner::start();
    let front = Front::before(owner.address).await;
    front.open("hall").await.expect("it is opened");
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = front.watch("hall").await;
        in_time(stream.message()).await.expect("it is open").expect("a snapshot");
        streams.push(stream);
    }
    owner.signal("-KILL");
    for mut stream in streams {
        let status = loop {
            match in_time(stream.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("that is no end"),
                Err(status) => break status,
            }
        };
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NODE_LOST"));
        assert!(super::support::delay(&status).is_some());
    }
    let status = front.open("other").await.expect_err("nobody is there");
    assert_eq!(&*reason(&status), "NOT_OWNER");
}

#[tokio::test]
async fn a_node_that_is_stopped_by_a_signal_ends_the_streams_that_it_had() {
    let owner = Owner::start();
    let front = Front::before(owner.address).await;
    front.open("hall").await.expect("it is opened");
    let mut stream = front.watch("hall").await;
    in_time(stream.message()).await.expect("it is open").expect("a snapshot");
    owner.signal("-STOP");
    let status = loop {
        match in_time(stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("that is no end"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "NODE_LOST"));
    let status = front.open("other").await.expect_err("nobody answers");
    assert_eq!(&*reason(&status), "NOT_OWNER");
    owner.signal("-CONT");
    // It is back, and so are its sessions.
    let mut answer = front.look("hall").await;
    while answer.as_ref().is_err_and(|status| reason(status) == "NOT_OWNER") {
        answer = front.look("hall").await;
    }
    answer.expect("it is still there");
}
