//! Frames that carry nothing, as fast as they go.

use crate::{
    trial::Trial,
    wire::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, Peer,
        SETTINGS, WINDOW_UPDATE, attack_over, frame, framed, headers, on_stream, reset, spelt_out,
        text, window_update,
    },
};
use sessiond::proto::{
    Heartbeat, StreamOpen, StreamUserPropsRequest, stream_user_props_request::Message as Up,
};
use std::time::{Duration, Instant};

/// So many connections are flooded at a time: each thread of the server has some.
const CONNECTIONS: usize = 4;
const UPLOAD: &str = "DeliveryService/StreamUserProps";
/// The stream that is open when a flood begins.
const STREAM: u32 = 1;
const NEXT_STREAM: u32 = 3;

/// A connection with a stream that only sends.
fn connect(trial: &Trial) -> Peer {
    let mut peer = Peer::connect(&trial.server);
    let open = StreamOpen { user_id: "flood".to_owned(), ..Default::default() };
    let open = StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) };
    assert_eq!(peer.open(UPLOAD, &[], &open), STREAM);
    peer
}

/// The frames of a flood: what it begins with, and what follows again and again.
struct Flood {
    name: &'static str,
    begin: Vec<u8>,
    again: Vec<u8>,
}

fn flood(name: &'static str, again: Vec<u8>) -> Flood {
    Flood { name, begin: Vec::new(), again }
}

impl Flood {
    /// Floods until then.
    fn run(&self, trial: &Trial, until: Instant, replies_are_read: bool) {
        let again = self.again.repeat((1 << 16) / self.again.len() + 1);
        attack_over(CONNECTIONS, until, || {
            let mut peer = connect(trial);
            if replies_are_read {
                peer.discard();
            }
            peer.send_by(&self.begin, until);
            while Instant::now() < until && peer.send_by(&again, until) {}
        });
    }
}

fn all_withstand(floods: &[Flood], replies_are_read: bool) {
    let trial = Trial::start(&[]);
    let run = |it: &Flood| trial.faults(it.name, |until| it.run(&trial, until, replies_are_read));
    let faults: Vec<_> = floods.iter().flat_map(run).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Frames that ask for nothing.
fn without_an_answer() -> Vec<Flood> {
    let unknown = |bytes| frame(0xbe, 0, STREAM, &vec![0; bytes]);
    vec![
        flood("PRIORITY", frame(PRIORITY, 0, STREAM, &[0, 0, 0, 0, 15])),
        flood("WINDOW_UPDATE of 1 for the connection", window_update(0, 1)),
        flood("WINDOW_UPDATE of 1 for a stream", window_update(STREAM, 1)),
        flood("unknown frames without payload", unknown(0)),
        flood("unknown frames of 100 bytes", unknown(100)),
        flood("PING ACK", frame(PING, ACK, 0, &[0; 8])),
        flood("SETTINGS ACK", frame(SETTINGS, ACK, 0, &[])),
        flood("GOAWAY", frame(GOAWAY, 0, 0, &[0; 8])),
        flood("empty DATA", frame(DATA, 0, STREAM, &[])),
        flood("RST_STREAM of a stream that is gone", reset(STREAM)),
    ]
}

/// Frames that are answered.
fn with_an_answer() -> Vec<Flood> {
    vec![
        flood("PING", frame(PING, 0, 0, &[0; 8])),
        flood("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        flood("WINDOW_UPDATE of 0 for a stream", frame(WINDOW_UPDATE, 0, STREAM, &[0; 4])),
    ]
}

#[test]
fn frames_that_ask_for_nothing() {
    all_withstand(&without_an_answer(), true);
}

#[test]
fn frames_that_are_answered() {
    all_withstand(&with_an_answer(), true);
}

#[test]
fn who_floods_is_told_to_calm_down() {
    let trial = Trial::start(&[]);
    let mut faults = Vec::new();
    for flood in without_an_answer().iter().chain(&with_an_answer()) {
        let mut peer = connect(&trial);
        let begin = Instant::now();
        let frames = flood.again.repeat((1 << 14) / flood.again.len());
        while !peer.is_closed && begin.elapsed() < Duration::from_secs(2) {
            peer.send_by(&frames, begin + Duration::from_secs(2));
            peer.read_for(Duration::from_millis(1));
        }
        peer.read_rest(Duration::from_secs(1));
        let (is_closed, goaway) = (peer.is_closed, peer.goaway());
        println!("{}: closed {is_closed}, GOAWAY {goaway:?}", flood.name);
        if !is_closed || goaway.is_none_or(|reason| reason == 0) {
            faults.push((flood.name, is_closed, goaway));
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn frames_whose_answers_nobody_reads() {
    all_withstand(
        &[
            flood("PING, unread", frame(PING, 0, 0, &[0; 8])),
            flood("SETTINGS, unread", frame(SETTINGS, 0, 0, &[])),
        ],
        false,
    );
}

#[test]
fn header_blocks_without_end() {
    let block = headers(UPLOAD, &[]);
    let begin = || frame(HEADERS, 0, NEXT_STREAM, &block);
    let more = |payload: &[u8]| frame(CONTINUATION, 0, NEXT_STREAM, payload);
    all_withstand(
        &[
            Flood { name: "empty CONTINUATION", begin: begin(), again: more(&[]) },
            Flood {
                name: "CONTINUATION with a header",
                begin: begin(),
                again: more(&spelt_out("x-more", "of it")),
            },
            Flood {
                name: "CONTINUATION of 16 KiB",
                begin: begin(),
                again: more(&spelt_out("x-more", &"of it".repeat(3_000))),
            },
        ],
        true,
    );
}

#[test]
fn headers_that_unpack_to_megabytes() {
    let trial = Trial::start(&[]);
    // Remembered once, and then named by one byte each time.
    let remembered = [&[0x40][..], &text("x"), &text(&"y".repeat(3_900))].concat();
    let bomb = [headers(UPLOAD, &[]), vec![0x80 | 62; 12_000]].concat();
    let bomb = frame(HEADERS, END_HEADERS | END_STREAM, STREAM, &bomb);
    trial.withstands("headers of 46 MB in 12 KB", |until| {
        attack_over(CONNECTIONS, until, || {
            let mut peer = connect(&trial);
            peer.discard();
            let first = [headers(UPLOAD, &[]), remembered.clone()].concat();
            let first = frame(HEADERS, END_HEADERS | END_STREAM, peer.new_stream(), &first);
            peer.send_by(&first, until);
            let mut sent = true;
            while sent && Instant::now() < until {
                let bomb = on_stream(peer.new_stream(), &bomb);
                sent = peer.send_by(&bomb, until);
            }
        });
    });
}

#[test]
fn messages_that_come_byte_by_byte() {
    let trial = Trial::start(&[]);
    trial.withstands("DATA of one byte", |until| {
        attack_over(CONNECTIONS, until, || {
            let mut peer = connect(&trial);
            let (mut seq, mut granted) = (1, (1 << 16) - 1);
            while Instant::now() < until && !peer.is_closed {
                let mut bytes = Vec::new();
                while bytes.len() < 10_000 {
                    seq += 1;
                    let message = Some(Up::Heartbeat(Heartbeat {}));
                    bytes.extend(framed(&StreamUserPropsRequest { seq, message }));
                }
                while granted < bytes.len() && Instant::now() < until && !peer.is_closed {
                    peer.read_for(Duration::from_millis(5));
                    granted += grants(&mut peer);
                }
                let mut frames = frame(DATA, 0, STREAM, &[0]).repeat(bytes.len());
                frames.chunks_mut(10).zip(&bytes).for_each(|(frame, byte)| frame[9] = *byte);
                granted = granted.saturating_sub(bytes.len());
                peer.send_by(&frames, until);
            }
        });
    });
}

/// How much more the stream may send.
fn grants(peer: &mut Peer) -> usize {
    let is_grant = |it: &crate::wire::Frame| it.kind == WINDOW_UPDATE && it.stream == STREAM;
    let grants = peer.frames.drain(..).filter(is_grant);
    grants.map(|it| u32::from_be_bytes(it.payload.try_into().expect("4 bytes")) as usize).sum()
}
