//! A link goes down, and nobody is told: no FIN, no RST, nothing. Server and client have a network namespace each.

use crate::{alone, clients::Client, figure, server, server::Server, tell};
use std::{process::Command, time::Duration};

/// What follows the process id in the names of the namespaces.
const ENDS: [&str; 2] = ["server", "client"];

/// Where the server is seen from the other end.
const SERVER: &str = "10.77.0.1";

#[test]
fn a_client_whose_link_is_down_is_gone_in_time() {
    alone(async {
        let net = match Net::new() {
            Ok(net) => net,
            Err(why) => {
                return tell(format_args!("dark: SKIPPED, it cannot make namespaces: {why}"));
            }
        };
        // It takes the interval and the timeout of the probes, 30 s by the defaults, and what the kernel adds.
        let quick = ["--keepalive-interval", "2s", "--keepalive-timeout", "1s"];
        let (flags, limit) = figure((&[][..], 45_000), (&quick[..], 6_000));
        let limit = Duration::from_millis(limit);
        let mut words = net.within(0);
        words.push(server::program());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let server = Server::start_by(
            command,
            &[&["--listen", "0.0.0.0:0", "--insecure=true"], flags].concat(),
        );
        let port = server.address.port();
        let from_afar = format!("{SERVER}:{port}").parse().expect("an address");
        let from_near = ([127, 0, 0, 1], port).into();
        let mut late = Vec::new();
        for is_busy in [false, true] {
            let session = if is_busy { "busy" } else { "quiet" };
            let host = Client::member(&net.within(1), from_afar, session, "host").await;
            let near = net.within(0);
            let mut observer = Client::observer(&near, from_near, session, "host", is_busy).await;
            let seen = observer.says("connected", Duration::from_secs(5)).await;
            assert!(seen.is_some(), "the member is there");
            net.link("down");
            let seen = observer.says("disconnected", limit + Duration::from_secs(5)).await;
            tell(format_args!("dark in a {session} session: disconnected after {seen:?}"));
            if seen.is_none_or(|seen| seen > limit) {
                late.push((session, seen));
            }
            drop(host);
            net.link("up");
        }
        assert!(late.is_empty(), "within {limit:?}: {late:?}");
    });
}

/// Two namespaces with a cable between them. They are gone when it is dropped.
struct Net;

impl Net {
    fn new() -> Result<Self, String> {
        let net = Self;
        for end in 0..ENDS.len() {
            ip(&["netns", "add", &name(end)])?;
        }
        let (near, far) = (name(0), name(1));
        let cable =
            ["link", "add", "cable", "netns", &near, "type", "veth", "peer", "name", "cable"];
        ip(&[&cable[..], &["netns", &far]].concat())?;
        for (end, address) in [(&near, SERVER), (&far, "10.77.0.2")] {
            ip(&["-n", end, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", end, "link", "set", "lo", "up"])?;
            ip(&["-n", end, "link", "set", "cable", "up"])?;
        }
        Ok(net)
    }

    /// What runs a command at one end.
    fn within(&self, end: usize) -> Vec<String> {
        ["ip", "netns", "exec", &name(end)].map(str::to_owned).into()
    }

    /// Takes the link down, or up, at the end of the client.
    fn link(&self, to: &str) {
        ip(&["-n", &name(1), "link", "set", "cable", to]).expect("there is a link");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for end in 0..ENDS.len() {
            let _ = ip(&["netns", "delete", &name(end)]);
        }
    }
}

fn name(end: usize) -> String {
    format!("chaos-{}-{}", std::process::id(), ENDS[end])
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(told) }
}
