//! Windows: walks over many streams, and streams that may never send.

use crate::{
    honest::ROOM,
    server::{PATIENCE, Server, eventually, joining},
    trial::Trial,
    wire::{INITIAL_WINDOW_SIZE, Peer, attack_over, settings, stay, window_update},
};
use sessiond::proto::{
    PropsWrite, SetUserPropsRequest, SubscribeToSessionRequest, Value, value::Kind,
};
use std::time::{Duration, Instant};

const SUBSCRIBE: &str = "DeliveryService/SubscribeToSession";
/// Who may read without being in the room.
const AS_APP: [(&str, &str); 1] = [("sessiond-as", "app")];

pub fn subscription(session_id: &str) -> SubscribeToSessionRequest {
    let session_id = session_id.to_owned();
    SubscribeToSessionRequest { session_id, ..Default::default() }
}

/// Connections that subscribe to the room of the honest users, each so often.
fn subscribers(trial: &Trial, connections: usize, each: usize, window: u32) -> Vec<Peer> {
    let connect = |_| {
        let mut peer = Peer::connect_with(&trial.server, &[(INITIAL_WINDOW_SIZE, window)]);
        for _ in 0..each {
            peer.call(SUBSCRIBE, &AS_APP, &subscription(ROOM));
        }
        peer
    };
    (0..connections).map(connect).collect()
}

/// Changes the window of all streams as often as the server lets it, over some connections.
fn walk(trial: &Trial, connections: usize, until: Instant) {
    let steps = [65_535, 65_534].map(|window| settings(&[(INITIAL_WINDOW_SIZE, window)]));
    let steps = steps.concat().repeat(500);
    attack_over(connections, until, || {
        // Streams on which nothing is said yet.
        let mut peer = Peer::connect(&trial.server);
        peer.discard();
        (0..900).for_each(|_| _ = peer.begin("DeliveryService/StreamUserProps", &[]));
        while Instant::now() < until && peer.send_by(&steps, until) {}
    });
}

#[test]
fn a_walk_of_the_windows_of_900_streams() {
    let trial = Trial::start(&[]);
    trial.withstands("SETTINGS that change 900 windows", |until| walk(&trial, 1, until));
}

#[test]
fn four_walks_of_the_windows_of_900_streams() {
    let trial = Trial::start(&[]);
    trial.withstands("SETTINGS that change 900 windows, 4 times", |until| walk(&trial, 4, until));
}

#[test]
fn a_walk_of_the_windows_of_900_subscriptions() {
    let trial = Trial::start(&[]);
    let steps = [1, 0].map(|window| settings(&[(INITIAL_WINDOW_SIZE, window)]));
    let steps = steps.concat().repeat(20);
    trial.withstands("SETTINGS that let 900 subscribers send one byte", |until| {
        attack_over(1, until, || {
            let mut peers = subscribers(&trial, 1, 900, 0);
            peers[0].discard();
            while Instant::now() < until && peers[0].send_by(&steps, until) {}
        });
    });
}

#[test]
fn windows_that_grow_by_a_byte() {
    let trial = Trial::start(&[]);
    trial.withstands("900 subscribers that are granted a byte each in turn", |until| {
        let bytes: Vec<_> = (0..900).flat_map(|n| window_update(2 * n + 1, 1)).collect();
        attack_over(1, until, || {
            let mut peers = subscribers(&trial, 1, 900, 0);
            peers[0].discard();
            while Instant::now() < until && peers[0].send_by(&bytes, until) {}
        });
    });
}

#[test]
fn two_hundred_subscribers_whose_window_is_zero() {
    let trial = Trial::start(&[]);
    trial.withstands("200 subscribers, window 0", |until| {
        let mut peers = subscribers(&trial, 2, 100, 0);
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn twenty_thousand_subscribers_whose_window_is_zero() {
    let trial = Trial::start(&[]);
    trial.withstands("20,000 subscribers, window 0", |until| {
        let mut peers = subscribers(&trial, 20, 1_000, 0);
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn twenty_thousand_subscribers_whose_socket_nobody_reads() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    let window = [(INITIAL_WINDOW_SIZE, (1 << 31) - 1)];
    trial.withstands("20 connections that are not read, 1,000 subscribers each", |_| {
        let connect = |_| {
            let mut peer = Peer::narrow(&trial.server, &window);
            for _ in 0..1_000 {
                peer.call(SUBSCRIBE, &AS_APP, &subscription("vast"));
            }
            peer
        };
        (0..20).map(connect).collect::<Vec<_>>()
    });
}

#[test]
fn half_of_the_calls_open_and_half_unary_on_windows_of_zero() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    trial.withstands("500 subscribers and 500 JoinSession, window 0", |until| {
        let mut peers = subscribers(&trial, 1, 500, 0);
        for at in 0..500 {
            // Each within its rate, over which a join has no snapshot.
            let joining = joining("vast", &crate::server::member(at % 20));
            peers[0].call("SessionService/JoinSession", &[], &joining);
        }
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn the_connections_that_hold_most_are_ended() {
    let trial = Trial::start(&["--max-unsent-total=16MiB"]);
    trial.server.open_vast_room("vast");
    let window = [(INITIAL_WINDOW_SIZE, (1 << 31) - 1)];
    trial.withstands("300 connections that are not read, over max-unsent-total", |until| {
        let connect = |_| {
            let mut peer = Peer::narrow(&trial.server, &window);
            for _ in 0..20 {
                peer.call(SUBSCRIBE, &AS_APP, &subscription("vast"));
            }
            peer
        };
        let files = trial.server.open_files();
        let peers: Vec<_> = (0..300).map(connect).collect();
        let some_are_ended = eventually(PATIENCE, || trial.server.open_files() < files + 290);
        assert!(some_are_ended, "{} of 300 are left", trial.server.open_files() - files);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        peers
    });
}

/// Bytes that the kernel keeps for all TCP sockets of this machine.
fn kernel_memory() -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").expect("it is Linux");
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:")).expect("there is TCP");
    let pages = tcp.rsplit_once("mem ").and_then(|(_, pages)| pages.trim().parse::<u64>().ok());
    pages.expect("a number") * 4096
}

#[test]
fn the_kernel_keeps_little_of_what_nobody_reads() {
    let server = Server::start(&[]);
    server.open_vast_room("vast");
    let before = kernel_memory();
    let connect = |_| {
        let mut peer = Peer::narrow(&server, &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
        for _ in 0..10 {
            peer.call(SUBSCRIBE, &AS_APP, &subscription("vast"));
        }
        peer
    };
    let _peers: Vec<_> = (0..100).map(connect).collect();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let kept = kernel_memory().saturating_sub(before);
    println!("the kernel keeps {:.1} MB for 100 connections", kept as f64 / 1e6);
    assert!(kept <= 100 * (512 << 10), "{kept} bytes, more than 512 KiB for each");
}

#[test]
fn subscribers_of_a_busy_room_whose_window_is_one_byte() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    trial.withstands("2 x 200 subscribers, window 1, of a vast room that changes", |until| {
        let connect = |_| Peer::connect_with(&trial.server, &[(INITIAL_WINDOW_SIZE, 1)]);
        let mut peers: Vec<_> = (0..2).map(connect).collect();
        let mut writer = Peer::connect(&trial.server);
        for number in 0..200 {
            for peer in &mut peers {
                peer.call(SUBSCRIBE, &AS_APP, &subscription("vast"));
            }
            // So that the next ones get another snapshot.
            let n = Value { kind: Some(Kind::Integer(number)) };
            let write = PropsWrite { set: [("n".to_owned(), n)].into(), ..Default::default() };
            let user_id = crate::server::member(number as usize % 20);
            let write = SetUserPropsRequest { user_id, write: Some(write), ..Default::default() };
            writer.call("SessionService/SetUserProps", &[], &write);
            writer.read_for(Duration::from_millis(4));
        }
        stay(&mut peers, until);
        peers
    });
}
