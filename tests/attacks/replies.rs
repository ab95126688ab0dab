//! Replies that nobody takes: they wait as requests, not as bytes.

use crate::{
    server::{as_app, joining, member},
    trial::Trial,
    wire::{DATA, INITIAL_WINDOW_SIZE, Peer, frame, stay},
};
use sessiond::proto::{
    GetSessionInfoRequest, PropsWrite, SessionSettings, SetUserPropsRequest,
    TransmitSessionUpdatesRequest, Value, value::Kind,
};
use std::{collections::BTreeMap, time::Duration};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_request::MessageRequest,
};

const NOTHING: [(u16, u32); 1] = [(INITIAL_WINDOW_SIZE, 0)];
/// As many calls as a connection may have open.
const CALLS: usize = 1_000;
/// The members of a vast room: the calls of each stay within its rate, over which a join has no snapshot.
const MEMBERS: usize = 20;

/// As many joins of the vast room as a connection may have open, each with a snapshot.
fn join_often(peer: &mut Peer) {
    for at in 0..CALLS {
        let join = joining("vast", &member(at % MEMBERS));
        peer.call("SessionService/JoinSession", &[], &join);
    }
}

#[test]
fn snapshots_that_nobody_takes() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    trial.withstands("1,000 JoinSession on each of 2 connections, window 0", |until| {
        let mut peers = [(); 2].map(|()| Peer::connect_with(&trial.server, &NOTHING));
        peers.iter_mut().for_each(join_often);
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn snapshots_that_are_taken_a_little_at_a_time() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    trial.withstands("1,000 JoinSession on each of 2 connections, window 1 KiB", |until| {
        let window = [(INITIAL_WINDOW_SIZE, 1024)];
        let mut peers = [(); 2].map(|()| Peer::connect_with(&trial.server, &window));
        peers.iter_mut().for_each(join_often);
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn snapshots_on_a_socket_that_nobody_reads() {
    let trial = Trial::start(&[]);
    trial.server.open_vast_room("vast");
    trial.withstands("1,000 JoinSession on each of 2 connections that are not read", |_| {
        let window = [(INITIAL_WINDOW_SIZE, (1 << 31) - 1)];
        let mut peers = [(); 2].map(|()| Peer::narrow(&trial.server, &window));
        peers.iter_mut().for_each(join_often);
        peers
    });
}

/// The members of a session, twice the size of what may wait on a connection in 10 replies.
fn long_id(number: usize) -> String {
    format!("{number:0>100}")
}

#[test]
fn replies_that_fall_due_at_once() {
    let trial = Trial::start(&[]);
    let server = &trial.server;
    let tick_interval = Some(Duration::from_secs(30).try_into().expect("a short time"));
    server.open_room("crowd", SessionSettings { tick_interval, ..Default::default() });
    let joins = (0..2_000).map(|number| joining("crowd", &long_id(number)));
    Peer::connect(server).make_calls("SessionService/JoinSession", &[], joins);
    let write = PropsWrite {
        set: BTreeMap::from([("x".to_owned(), Value { kind: Some(Kind::Integer(1)) })]),
        session_ids: vec!["crowd".to_owned()],
        ..Default::default()
    };
    trial.withstands("2,000 GetSessionInfo of 0.2 MB, due at once, window 0", |until| {
        let user_id = long_id(0);
        let write = Some(write.clone());
        let write = SetUserPropsRequest { user_id, write, ..Default::default() };
        let written = server.ask(async |mut client| client.set_user_props(write).await);
        let min_position = written.expect("a member writes").results.remove(0).position;
        let mut peers = [(); 2].map(|()| Peer::connect_with(server, &NOTHING));
        for peer in &mut peers {
            for _ in 0..CALLS {
                let session_id = "crowd".to_owned();
                let (user_id, min_position) = (long_id(1), min_position);
                let ask = GetSessionInfoRequest {
                    session_id,
                    user_id,
                    min_position,
                    ..Default::default()
                };
                peer.call("SessionService/GetSessionInfo", &[], &ask);
            }
            peer.read_for(Duration::from_millis(300));
        }
        let session_id = "crowd".to_owned();
        let now = TransmitSessionUpdatesRequest { session_id, ..Default::default() };
        server
            .ask(async |mut client| client.transmit_session_updates(as_app(now)).await)
            .expect("the app closes the frame");
        stay(&mut peers, until);
        peers
    });
}

/// Asks the same of reflection on so many streams, so often on each.
fn ask_reflection(peer: &mut Peer, ask: &ServerReflectionRequest, streams: usize, times: usize) {
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for _ in 0..streams {
        let stream = peer.open(path, &[], ask);
        (1..times).for_each(|_| _ = peer.say(stream, ask));
    }
}

#[test]
fn streams_of_other_services_that_nobody_reads() {
    let trial = Trial::start(&[]);
    trial.withstands("reflection asked 500 x 20 times and health watched 500 times", |until| {
        // Of the largest file.
        let symbol = MessageRequest::FileContainingSymbol("sessiond.v1.SessionService".to_owned());
        let ask = ServerReflectionRequest { message_request: Some(symbol), ..Default::default() };
        let mut peers = [(); 2].map(|()| Peer::connect_with(&trial.server, &NOTHING));
        for peer in &mut peers {
            ask_reflection(peer, &ask, CALLS / 2, 20);
            for _ in 0..CALLS / 2 {
                peer.call("/grpc.health.v1.Health/Watch", &[], &());
            }
        }
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn reflection_that_echoes_what_it_is_asked() {
    let trial = Trial::start(&[]);
    trial.withstands("reflection on 500 streams of each of 4 connections, window 0", |until| {
        // The reply has it twice.
        let host = "h".repeat(4_000);
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let ask = ServerReflectionRequest { host, message_request };
        let mut peers = [(); 4].map(|()| Peer::connect_with(&trial.server, &NOTHING));
        peers.iter_mut().for_each(|peer| ask_reflection(peer, &ask, CALLS / 2, 8));
        stay(&mut peers, until);
        peers
    });
}

#[test]
fn calls_whose_only_message_is_never_whole() {
    let trial = Trial::start(&[]);
    for path in ["/grpc.health.v1.Health/Watch", "SessionService/SetUserProps"] {
        trial.withstands(&format!("4 x 900 calls of {path} with half a message"), |until| {
            let mut peers = [(); 4].map(|()| Peer::connect(&trial.server));
            let half = [&[0][..], &60_000u32.to_be_bytes(), &[7; 16_000]].concat();
            for peer in &mut peers {
                for _ in 0..900 {
                    let stream = peer.begin(path, &[]);
                    if !peer.send(&frame(DATA, 0, stream, &half)) {
                        break;
                    }
                }
            }
            stay(&mut peers, until);
            peers
        });
    }
}
