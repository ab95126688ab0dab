//! Connections and calls that are begun and not gone on with.

use crate::{
    honest::ROOM,
    server::{PATIENCE, Server, as_app, eventually},
    trial::Trial,
    windows::subscription,
    wire::{
        CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PREFACE, Peer, frame, headers, settings,
    },
};
use sessiond::proto::{ListSessionsRequest, SessionSettings};
use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

const UPLOAD: &str = "DeliveryService/StreamUserProps";
const SUBSCRIBE: &str = "DeliveryService/SubscribeToSession";
const LIST: &str = "SessionService/ListSessions";
const SECOND: Duration = Duration::from_secs(1);
/// So long after its limit an end must have come.
const GRACE: Duration = Duration::from_millis(1_500);

/// Sends a part of a handshake or of a header block, and then some more bytes one by one; how long the
/// server takes that.
fn closed_after(server: &Server, begin: &[u8], trickle: &[u8]) -> Option<Duration> {
    let mut peer = Peer::socket(server);
    peer.answers = false;
    let begun = Instant::now();
    peer.send(begin);
    let mut trickle = trickle.iter();
    while !peer.is_closed && begun.elapsed() < 5 * SECOND {
        if let Some(byte) = trickle.next() {
            peer.send(&[*byte]);
        }
        peer.read_until(SECOND / 10, |peer| peer.is_closed);
    }
    peer.is_closed.then(|| begun.elapsed())
}

#[test]
fn a_handshake_ends_in_time() {
    let server = Server::start(&["--handshake-timeout=1s"]);
    let block = headers(UPLOAD, &[]);
    let whole = [PREFACE, &settings(&[])].concat();
    let half_a_block = frame(HEADERS, 0, 1, &block[..20]);
    let headers_frame = frame(HEADERS, END_HEADERS, 1, &block);
    let empty = frame(CONTINUATION, 0, 1, &[]).repeat(2);
    let cases: [(&str, Vec<u8>, &[u8]); 6] = [
        ("nothing", Vec::new(), &[]),
        ("a part of the preface", PREFACE[..10].to_vec(), &PREFACE[10..20]),
        ("the preface only", PREFACE.to_vec(), &[]),
        ("SETTINGS byte by byte", PREFACE.to_vec(), &settings(&[(4, 1); 20])),
        ("HEADERS byte by byte", whole.clone(), &headers_frame),
        ("headers that do not end", [whole, half_a_block].concat(), &empty),
    ];
    let mut faults = Vec::new();
    for (name, begin, trickle) in cases {
        let took = closed_after(&server, &begin, trickle);
        println!("{name}: closed after {took:?}");
        let in_time = took.is_some_and(|took| took <= SECOND + GRACE);
        faults.extend((!in_time).then(|| format!("{name}: {took:?}")));
    }
    assert!(faults.is_empty(), "not closed in a second: {faults:?}");
}

#[test]
fn a_call_whose_first_message_does_not_come_is_ended() {
    let server = Server::start(&["--first-message-timeout=1s"]);
    let a_part = [0, 0, 0, 0, 99, 10];
    let mut faults = Vec::new();
    for path in [UPLOAD, SUBSCRIBE, LIST] {
        for (name, begin, trickle) in
            [("no message", 0, false), ("a part of one", 6, false), ("one byte by byte", 6, true)]
        {
            let mut peer = Peer::connect(&server);
            let stream = peer.begin(path, &[]);
            if begin > 0 {
                peer.send(&frame(DATA, 0, stream, &a_part[..begin]));
            }
            let begun = Instant::now();
            while !peer.has_ended(stream) && begun.elapsed() < 4 * SECOND {
                if trickle {
                    peer.send(&frame(DATA, 0, stream, &[0]));
                }
                peer.read_until(SECOND / 5, |peer| peer.has_ended(stream));
            }
            let took = begun.elapsed();
            println!("{path} {name}: ended after {took:?}");
            if !peer.has_ended(stream) || peer.is_closed || took > SECOND + GRACE {
                faults.push(format!("{path} {name}: {took:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "not ended in a second: {faults:?}");
}

#[test]
fn streams_never_sent_on_give_their_places_back() {
    let trial = Trial::start(&["--first-message-timeout=1s"]);
    trial.withstands("20,000 streams on which nothing is said", |until| {
        let connect = |_| {
            let mut peer = Peer::connect(&trial.server);
            (0..1_000).for_each(|_| _ = peer.begin(UPLOAD, &[]));
            peer
        };
        let mut peers: Vec<_> = (0..20).map(connect).collect();
        crate::wire::stay(&mut peers, until.max(Instant::now() + SECOND + GRACE));
        for peer in &mut peers {
            let ended =
                peer.read_until(PATIENCE, |peer| peer.has_ended(1) && peer.has_ended(1_999));
            assert!(ended && !peer.is_closed, "they end by their own limit");
        }
        peers
    });
}

#[test]
fn a_connection_without_streams_is_closed() {
    let server = Server::start(&["--idle-timeout=1s"]);
    server.open_room(ROOM, SessionSettings::default());
    let mut idle = Peer::connect(&server);
    let mut busy = Peer::connect(&server);
    let stream = busy.call(SUBSCRIBE, &[("sessiond-as", "app")], &subscription(ROOM));
    let mut was_busy = Peer::connect(&server);
    was_busy.call(LIST, &[("sessiond-as", "app")], &ListSessionsRequest::default());
    for (name, peer) in [("never used", &mut idle), ("used once", &mut was_busy)] {
        let closed = peer.read_until(SECOND + GRACE, |peer| peer.is_closed);
        assert!(closed && peer.has(GOAWAY), "{name}: closed {closed}, {:?}", peer.frames);
    }
    busy.read_for(2 * SECOND);
    assert!(!busy.is_closed && !busy.has(GOAWAY) && !busy.has_ended(stream), "it is in use");
}

/// A newcomer comes in and is answered.
fn newcomers_get_in(server: &Server, count: usize) -> bool {
    (0..count).all(|_| {
        eventually(SECOND, || {
            let request = ListSessionsRequest::default();
            server.ask(async |mut client| client.list_sessions(as_app(request)).await).is_ok()
        })
    })
}

/// How many are open, once there are few enough or patience is at its end: on a busy machine the
/// server closes what is too many a while after it was connected.
fn left_open(peers: &mut [Peer], at_most: usize) -> usize {
    let mut open = peers.len();
    eventually(PATIENCE, || {
        crate::wire::stay(peers, Instant::now());
        open = peers.iter().filter(|peer| !peer.is_closed).count();
        open <= at_most
    });
    open
}

#[test]
fn newcomers_take_the_places_of_the_idle() {
    let trial = Trial::start(&["--max-connections=200"]);
    type Connect = fn(&Server) -> Peer;
    let preface_only = |server: &Server| {
        let mut peer = Peer::socket(server);
        peer.send(PREFACE);
        peer
    };
    let cases: [(&str, Connect); 3] = [
        ("idle connections", |server| Peer::connect(server)),
        ("connections with the preface only", preface_only),
        ("connections on which nothing is said", |server| Peer::socket(server)),
    ];
    let mut faults = Vec::new();
    for (name, connect) in cases {
        faults.extend(trial.faults(name, |until| {
            let idle: Vec<_> = (0..250).map(|_| connect(&trial.server)).collect();
            while Instant::now() < until {
                assert!(newcomers_get_in(&trial.server, 5), "beside 250 {name}");
                thread::sleep(SECOND / 10);
            }
            idle
        }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn busy_connections_are_never_closed_for_newcomers() {
    let server = Server::start(&["--max-connections=20"]);
    server.open_room(ROOM, SessionSettings::default());
    let mut busy: Vec<_> = (0..20)
        .map(|_| {
            let mut peer = Peer::connect(&server);
            let stream = peer.call(SUBSCRIBE, &[("sessiond-as", "app")], &subscription(ROOM));
            let shown = peer.read_until(PATIENCE, |peer| peer.data.contains_key(&stream));
            assert!(shown, "it is in");
            (peer, stream)
        })
        .collect();
    let mut late = Peer::connect(&server);
    assert!(late.read_until(SECOND + GRACE, |peer| peer.is_closed), "there is no place for it");
    for (peer, stream) in &mut busy {
        peer.read_for(SECOND / 50);
        assert!(!peer.is_closed && !peer.has(GOAWAY) && !peer.has_ended(*stream));
    }
}

#[test]
fn one_address_leaves_room_for_others() {
    let attacker = Ipv4Addr::new(127, 0, 0, 2);
    let trial = Trial::start(&["--max-connections-per-address=50", "--max-connections=70"]);
    trial.withstands("connections with a stream from one address", |until| {
        let connect = |_| {
            let mut peer = Peer::socket_from(&trial.server, attacker).shake_hands(&[]);
            peer.begin(UPLOAD, &[]);
            peer
        };
        let mut peers: Vec<_> = (0..200).map(connect).collect();
        assert!(newcomers_get_in(&trial.server, 5), "from another address");
        crate::wire::stay(&mut peers, until);
        let open = left_open(&mut peers, 50);
        assert!((1..=50).contains(&open), "{open} are open");
        peers
    });
}

/// From where an attack comes that is bounded by its address.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[test]
fn streams_of_one_address_are_bounded_over_all_its_connections() {
    let trial = Trial::start(&["--max-streams-per-address=100"]);
    for round in 0..2 {
        trial.withstands("10 connections of 100 streams from one address", |until| {
            let connect = |_| {
                let mut peer = Peer::socket_from(&trial.server, ATTACKER).shake_hands(&[]);
                let streams: Vec<u32> = (0..100).map(|_| peer.begin(UPLOAD, &[])).collect();
                peer.read_until(SECOND, |_| false);
                let open = streams.iter().filter(|stream| !peer.has_ended(**stream)).count();
                (peer, open)
            };
            let (mut peers, open): (Vec<_>, Vec<_>) = (0..10).map(connect).unzip();
            let open: usize = open.iter().sum();
            assert_eq!(open, 100, "round {round}: those of the round before are given back");
            assert!(newcomers_get_in(&trial.server, 5), "from another address");
            crate::wire::stay(&mut peers, until);
            peers
        });
    }
}

#[test]
fn handshakes_of_one_address_are_bounded() {
    let trial = Trial::start(&["--max-handshakes-per-address=20"]);
    for round in 0..2 {
        trial.withstands("300 sockets of one address that say nothing", |until| {
            let mut peers: Vec<_> =
                (0..300).map(|_| Peer::socket_from(&trial.server, ATTACKER)).collect();
            assert!(newcomers_get_in(&trial.server, 5), "from another address");
            crate::wire::stay(&mut peers, until.min(Instant::now() + SECOND));
            let open = left_open(&mut peers, 20);
            assert!((1..=20).contains(&open), "round {round}: {open} are open");
            peers
        });
    }
}

#[test]
fn there_are_never_many_more_connections_than_there_may_be() {
    let server = Server::start(&["--max-connections=50"]);
    let begun = server.open_files();
    // They say nothing, or begin a call once they are told to make room and answer nothing.
    let mut peers = Vec::new();
    for number in 0..600 {
        let mut peer = match number % 2 {
            0 => Peer::socket(&server),
            _ => Peer::connect(&server),
        };
        peer.answers = false;
        peers.push(peer);
    }
    for peer in &mut peers {
        let told = peer.read_until(Duration::from_millis(1), |peer| peer.has(GOAWAY));
        if told {
            peer.begin("/grpc.health.v1.Health/Watch", &[]);
        }
    }
    let most = server.open_files() - begun;
    assert!(most <= 50 + 64 + 16, "{most} connections");
    assert!(eventually(PATIENCE, || server.open_files() - begun <= 51), "who was told has gone");
    assert!(newcomers_get_in(&server, 5));
}
