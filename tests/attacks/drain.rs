//! A stop while clients write, and while they read only now and then.

use crate::{
    server::{PATIENCE, Server},
    trial::is_long,
    wire::{INITIAL_WINDOW_SIZE, Peer},
};
use sessiond::proto::{
    EndReason, JoinOptions, PropsWrite, SessionSettings, SessionSubscription, StreamOpen,
    StreamUserPropsRequest, StreamUserPropsResponse, Value, session_update::Body,
    stream_user_props_request::Message as Up, value::Kind,
};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

const UPLOAD: &str = "DeliveryService/StreamUserProps";
/// Streams of one connection, all in one room.
const STREAMS: usize = 50;
/// So long a client reads nothing.
const PAUSE: Duration = Duration::from_millis(400);
/// Between two pauses it reads for at least so long, and at least so often unless nothing is left:
/// where the machine has other work, nobody may read only 5 KB a second and be called a reader.
const READS: Duration = Duration::from_millis(100);
const LEAST_READS: usize = 16;
/// Between two writes on a stream.
const WRITES: Duration = Duration::from_millis(100);

/// When a client reads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reading {
    /// For a while, and then it pauses.
    NowAndThen,
    /// All the time; but it pauses when it is told that the server goes.
    UntilGoaway,
}

const READINGS: [Reading; 2] = [Reading::NowAndThen, Reading::UntilGoaway];

/// A connection whose users write all the time, and are read now and then. The kernel keeps little of
/// what is not read: so the server's last messages are still on its side when it closes.
struct Client {
    peer: Peer,
    streams: Vec<u32>,
}

impl Client {
    fn join(server: &Server, number: usize) -> Self {
        let room = format!("room-{number}");
        server.open_room(&room, SessionSettings::default());
        let mut peer = Peer::narrow_reader(server, &[(INITIAL_WINDOW_SIZE, 1 << 30)]);
        let streams = (0..STREAMS).map(|user| {
            let join = Some(JoinOptions::default());
            let session_id = room.clone();
            let subscription = SessionSubscription { session_id, join, ..Default::default() };
            let user_id = format!("user-{number}-{user}");
            let subscriptions = vec![subscription];
            let open = StreamOpen { user_id, subscriptions, ..Default::default() };
            let first = StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) };
            peer.open(UPLOAD, &[], &first)
        });
        let streams: Vec<_> = streams.collect();
        let all_in = peer.read_until(Duration::from_secs(30), |peer| {
            streams.iter().all(|stream| peer.data.contains_key(stream))
        });
        assert!(all_in, "all are shown the room");
        Self { peer, streams }
    }

    /// Writes on every stream 10 times a second until the server closes, and reads as it is told. It
    /// reads also while what it writes waits for room, as every client must: else both sides would
    /// wait for each other.
    fn write_and_pause(&mut self, reading: Reading) {
        let begin = Instant::now();
        let mut reads_again = begin;
        let mut reads = 0;
        let mut next_write = begin;
        let mut round = 1;
        while !self.peer.is_closed && begin.elapsed() < Duration::from_secs(60) {
            let now = Instant::now();
            if self.peer.send_waiting(Duration::from_millis(1)) && now >= next_write {
                next_write = now + WRITES;
                round += 1;
                self.write(round);
            }
            if now < reads_again {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            reads += 1;
            let is_all = self.peer.read(Duration::from_millis(2)) == 0;
            let pauses = match reading {
                Reading::NowAndThen => {
                    now > reads_again + READS && (is_all || reads >= LEAST_READS)
                }
                Reading::UntilGoaway => self.peer.goaway().is_some() && reads_again == begin,
            };
            if pauses {
                reads_again = Instant::now() + PAUSE;
                reads = 0;
            }
        }
        thread::sleep(reads_again.saturating_duration_since(Instant::now()));
        self.read_rest();
    }

    /// Writes on every stream, as soon as there is room.
    fn write(&mut self, round: u64) {
        for stream in &self.streams {
            self.peer.say_later(*stream, &update(round));
        }
    }

    /// When writing has failed there may still be something to read.
    fn read_rest(&mut self) {
        self.peer.read_rest(Duration::from_secs(5));
    }

    /// The streams that were not told why they ended and where they were.
    fn untold(&self) -> usize {
        let is_told = |stream: &&u32| {
            let messages = self.peer.messages::<StreamUserPropsResponse>(**stream);
            let updates = messages.into_iter().flat_map(|message| message.updates);
            let last = updates.filter_map(|delivery| delivery.update).next_back();
            let draining = last.is_some_and(|update| {
                let has_position = update.epoch > 0 && update.to_revision > 0;
                let reason = |body| match body {
                    Body::Ended(ended) => Some(ended.reason()),
                    _ => None,
                };
                has_position && update.body.and_then(reason) == Some(EndReason::Draining)
            });
            draining && self.peer.has_trailers(**stream)
        };
        self.streams.iter().filter(|stream| !is_told(stream)).count()
    }
}

fn update(n: u64) -> StreamUserPropsRequest {
    let value = Value { kind: Some(Kind::Number(n as f64)) };
    let set = BTreeMap::from([("n".to_owned(), value)]);
    let write = PropsWrite { set, ..Default::default() };
    StreamUserPropsRequest { seq: n, message: Some(Up::Write(write)) }
}

#[test]
fn every_stream_is_told_its_end_while_it_writes_and_pauses() {
    let (rounds, connections) = if is_long() { (10, 100) } else { (2, 6) };
    for round in 0..rounds {
        let mut server = Server::start(&[]);
        let clients: Vec<_> = (0..connections).map(|it| Client::join(&server, it)).collect();
        let (untold, took) = thread::scope(|scope| {
            let work = clients.into_iter().enumerate().map(|(number, mut client)| {
                scope.spawn(move || {
                    client.write_and_pause(READINGS[number % 2]);
                    client.untold()
                })
            });
            let work: Vec<_> = work.collect();
            thread::sleep(Duration::from_millis(700 + 130 * round));
            server.terminate();
            let begin = Instant::now();
            let exit = server.exit_within(Duration::from_secs(30));
            let took = begin.elapsed();
            assert!(exit.is_some_and(|exit| exit.success()), "it ends well: {exit:?}");
            (work.into_iter().map(|it| it.join().expect("it works")).sum::<usize>(), took)
        });
        let all = connections * STREAMS;
        println!("round {round}: {untold} of {all} streams were not told; exit after {took:?}");
        assert_eq!(untold, 0, "of {all}, in round {round}");
    }
}

#[test]
fn a_client_that_reads_on_only_after_a_while_is_told_all_ends() {
    let mut server = Server::start(&[]);
    let mut client = Client::join(&server, 0);
    // The socket is full when the server stops: the ends of the streams wait for room in it.
    for round in 2..42 {
        client.write(round);
        client.peer.send_waiting(PATIENCE);
        thread::sleep(Duration::from_millis(30));
    }
    server.terminate();
    thread::sleep(Duration::from_secs(2));
    client.read_rest();
    assert_eq!(client.untold(), 0, "of {STREAMS}");
    let exit = server.exit_within(PATIENCE);
    assert!(exit.is_some_and(|exit| exit.success()), "it ends well: {exit:?}");
}

#[test]
fn a_stop_waits_for_nobody_who_reads_nothing() {
    let mut server = Server::start(&["--drain-timeout=3s"]);
    server.open_vast_room("vast");
    let silent = |number| {
        let mut peer = match number % 2 {
            0 => Peer::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 0)]),
            _ => Peer::narrow(&server, &[(INITIAL_WINDOW_SIZE, 1 << 30)]),
        };
        for _ in 0..5 {
            let path = "DeliveryService/SubscribeToSession";
            peer.call(path, &[("sessiond-as", "app")], &crate::windows::subscription("vast"));
        }
        peer
    };
    let peers: Vec<_> = (0..100).map(silent).collect();
    thread::sleep(Duration::from_millis(500));
    server.terminate();
    let begin = Instant::now();
    let exit = server.exit_within(Duration::from_secs(20));
    println!("100 silent peers: exit after {:?}", begin.elapsed());
    assert!(exit.is_some_and(|exit| exit.success()), "it ends well: {exit:?}");
    assert!(begin.elapsed() <= Duration::from_secs(8), "{:?}", begin.elapsed());
    drop(peers);
}

#[test]
fn a_stop_ends_calls_that_have_not_begun() {
    let mut server = Server::start(&[]);
    let mut peer = Peer::connect(&server);
    let calls = [
        "DeliveryService/StreamUserProps",
        "DeliveryService/Gateway",
        "DeliveryService/SubscribeToSession",
        "SessionService/SetUserProps",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ];
    let streams = calls.map(|path| (path, peer.begin(path, &[])));
    peer.read_for(Duration::from_millis(300));
    server.terminate();
    let begin = Instant::now();
    peer.read_until(Duration::from_secs(5), |peer| {
        streams.iter().all(|(_, stream)| peer.has_trailers(*stream))
    });
    for (path, stream) in streams {
        assert!(peer.has_trailers(stream), "{path} is told");
    }
    drop(peer);
    let exit = server.exit_within(Duration::from_secs(10));
    assert!(exit.is_some_and(|exit| exit.success()), "it ends well: {exit:?}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
