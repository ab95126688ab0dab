//! Streams that are cancelled as soon as they are open.

use crate::{
    honest::ROOM,
    trial::Trial,
    windows::subscription,
    wire::{END_STREAM, HEADERS, Peer, WINDOW_UPDATE, attack_over, frame, opening, reset},
};
use std::time::{Duration, Instant};

const SUBSCRIBE: &str = "DeliveryService/SubscribeToSession";
const AS_APP: [(&str, &str); 1] = [("sessiond-as", "app")];

/// So many connections at a time: one for each thread of the server.
const CONNECTIONS: usize = 2;

/// Frames of one stream after the other, as fast as they go.
fn stream_after_stream(trial: &Trial, until: Instant, frames: impl Fn(u32) -> Vec<u8> + Sync) {
    attack_over(CONNECTIONS, until, || {
        let mut peer = Peer::connect(&trial.server);
        peer.discard();
        let mut sent = true;
        while sent && Instant::now() < until {
            let streams: Vec<_> = (0..50).map(|_| peer.new_stream()).collect();
            let frames: Vec<_> = streams.into_iter().flat_map(&frames).collect();
            sent = peer.send_by(&frames, until);
        }
    });
}

fn subscribe(stream: u32) -> Vec<u8> {
    opening(stream, SUBSCRIBE, &AS_APP, &subscription(ROOM), END_STREAM)
}

#[test]
fn subscribe_and_cancel() {
    let trial = Trial::start(&[]);
    trial.withstands("subscribe, and cancel what is answered", |until| {
        attack_over(CONNECTIONS, until, || {
            let mut peer = Peer::connect(&trial.server);
            while Instant::now() < until && !peer.is_closed {
                peer.frames.clear();
                peer.data.clear();
                let streams: Vec<_> = (0..100).map(|_| peer.new_stream()).collect();
                let calls: Vec<_> = streams.iter().flat_map(|&stream| subscribe(stream)).collect();
                peer.send_by(&calls, until);
                let answered = |peer: &Peer| {
                    peer.frames.iter().filter(|it| it.kind == HEADERS).count() == streams.len()
                };
                peer.read_until(Duration::from_secs(1), answered);
                let resets: Vec<_> = streams.iter().flat_map(|&stream| reset(stream)).collect();
                peer.send_by(&resets, until);
            }
        });
    });
}

#[test]
fn rapid_reset() {
    let trial = Trial::start(&[]);
    trial.withstands("subscribe and reset at once", |until| {
        stream_after_stream(&trial, until, |stream| [subscribe(stream), reset(stream)].concat());
    });
}

#[test]
fn made_you_reset() {
    let trial = Trial::start(&[]);
    trial.withstands("subscribe, and have the server reset", |until| {
        stream_after_stream(&trial, until, |stream| {
            let wrong = frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
            [subscribe(stream), wrong].concat()
        });
    });
}
