//! Streams that are cancelled as soon as they are open.

use crate::{
    honest::ROOM,
    trial::Trial,
    windows::subscription,
    wire::{
        END_STREAM, HEADERS, Peer, WINDOW_UPDATE, attack_over, frame, on_stream, opening, reset,
    },
};
use std::time::{Duration, Instant};

const SUBSCRIBE: &str = "DeliveryService/SubscribeToSession";
const AS_APP: [(&str, &str); 1] = [("sessiond-as", "app")];

/// So many connections at a time: one for each thread of the server.
const CONNECTIONS: usize = 2;

/// The same frames on one stream after the other, as fast as they go.
fn stream_after_stream(trial: &Trial, until: Instant, frames: &[u8]) {
    attack_over(CONNECTIONS, until, || {
        let mut peer = Peer::connect(&trial.server);
        peer.discard();
        let mut sent = true;
        while sent && Instant::now() < until {
            let streams = (0..50).map(|_| on_stream(peer.new_stream(), frames));
            let frames = streams.collect::<Vec<_>>().concat();
            sent = peer.send_by(&frames, until);
        }
    });
}

fn subscribe() -> Vec<u8> {
    opening(1, SUBSCRIBE, &AS_APP, &subscription(ROOM), END_STREAM)
}

#[test]
fn subscribe_and_cancel() {
    let trial = Trial::start(&[]);
    let (subscribe, reset) = (subscribe(), reset(1));
    let on_all = |streams: &[u32], frames: &[u8]| {
        let frames = streams.iter().map(|&stream| on_stream(stream, frames));
        frames.collect::<Vec<_>>().concat()
    };
    trial.withstands("subscribe, and cancel what is answered", |until| {
        attack_over(CONNECTIONS, until, || {
            let mut peer = Peer::connect(&trial.server);
            while Instant::now() < until && !peer.is_closed {
                peer.frames.clear();
                peer.data.clear();
                let streams: Vec<_> = (0..100).map(|_| peer.new_stream()).collect();
                peer.send_by(&on_all(&streams, &subscribe), until);
                let answered = |peer: &Peer| {
                    peer.frames.iter().filter(|it| it.kind == HEADERS).count() == streams.len()
                };
                peer.read_until(Duration::from_secs(1), answered);
                peer.send_by(&on_all(&streams, &reset), until);
            }
        });
    });
}

#[test]
fn rapid_reset() {
    let trial = Trial::start(&[]);
    trial.withstands("subscribe and reset at once", |until| {
        stream_after_stream(&trial, until, &[subscribe(), reset(1)].concat());
    });
}

#[test]
fn made_you_reset() {
    let trial = Trial::start(&[]);
    trial.withstands("subscribe, and have the server reset", |until| {
        let wrong = frame(WINDOW_UPDATE, 0, 1, &[0; 4]);
        stream_after_stream(&trial, until, &[subscribe(), wrong].concat());
    });
}
