//! What a client sends, frame by frame, as far as it is no use to anybody: what it may send of that,
//! and since when it has left something half done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

/// Frames that only steer the connection, or carry next to nothing, and that a client may send at
/// once and in every second, besides those that answer what it was sent and go with its calls.
const BURST: i64 = 1000;
const PER_SECOND: i64 = 200;

/// For each piece that a client was sent it may send so many: it may grant window for the stream and
/// for the connection, and measure the line.
const PER_PIECE: i64 = 4;

/// For each call that it begins: a priority, and the end.
const PER_CALL: i64 = 2;

/// How many of all these it can save up.
const MOST_SAVED: i64 = 4 * BURST;

/// SETTINGS that a client may send at once and in every second. Each may have all streams of the
/// connection looked at. Clients that measure the line double their windows some eight times.
const SETTINGS_BURST: i64 = 12;
const SETTINGS_PER_SECOND: i64 = 1;

/// What a frame costs besides its bytes, in bytes that cost as much: most are only taken note of, a
/// call is begun, or all streams are looked at.
const COST: usize = 512;
const COST_OF_CALL: usize = 8 * 1024;
const COST_OF_SETTINGS: usize = 64 * 1024;

/// The bytes of a frame before its payload.
const HEAD: usize = 9;

/// A DATA frame with less than this carries not even the prefix of a message.
const TINY: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The frames of one connection.
#[derive(Debug)]
pub struct Frames {
    head: [u8; HEAD],
    /// How many bytes of the head are there.
    have: usize,
    /// How many bytes of the payload are to come.
    left: usize,
    kind: u8,
    /// The headers of a call go on in the next frame.
    goes_on: bool,
    /// Since when the frame, or the headers, are not whole.
    begun_at: Instant,
    greeted: bool,
    control: Allowance,
    settings: Allowance,
    /// Whether all of this comes for many clients, each of which was looked at before.
    is_trusted: Arc<AtomicBool>,
}

/// How much a client may still send of something.
#[derive(Debug)]
struct Allowance {
    left: i64,
    burst: i64,
    per_second: i64,
    counted_at: Instant,
    counted_sent: u64,
}

impl Allowance {
    fn new(burst: i64, per_second: i64, now: Instant) -> Self {
        Self { left: burst, burst, per_second, counted_at: now, counted_sent: 0 }
    }

    /// Takes one; false = there is none. The clock is looked at only when what is left is used up.
    fn take(&mut self, now: Instant, sent: impl Fn() -> u64) -> bool {
        self.left -= 1;
        if self.left >= 0 {
            return true;
        }
        let sent = sent();
        let millis = now.duration_since(self.counted_at).as_millis() as i64;
        let earned = (millis * self.per_second / 1000).min(self.burst);
        self.left += earned + (sent - self.counted_sent) as i64 * PER_PIECE;
        self.left = self.left.min(MOST_SAVED);
        (self.counted_at, self.counted_sent) = (now, sent);
        self.left >= 0
    }
}

impl Frames {
    /// Those that come after the preface.
    pub fn new(now: Instant) -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            left: 0,
            kind: DATA,
            goes_on: false,
            begun_at: now,
            greeted: false,
            control: Allowance::new(BURST, PER_SECOND, now),
            settings: Allowance::new(SETTINGS_BURST, SETTINGS_PER_SECOND, now),
            is_trusted: Arc::default(),
        }
    }

    /// The same, of somebody who may send any number once this is set.
    pub fn trusting(self, is_trusted: Arc<AtomicBool>) -> Self {
        Self { is_trusted, ..self }
    }

    /// Whether the client has sent its first SETTINGS.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Since when something is half done that the client should not take its time for: all but DATA.
    pub fn cut_since(&self) -> Option<Instant> {
        let is_cut = self.have > 0 || self.goes_on || (self.left > 0 && self.kind != DATA);
        is_cut.then_some(self.begun_at)
    }

    /// Looks at bytes that came in; returns what they cost, or none if there were more frames than a
    /// client may send. `sent` is how many pieces it was sent until now.
    pub fn look_at(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        sent: impl Fn() -> u64,
    ) -> Option<usize> {
        let mut cost = bytes.len();
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.have == 0 && !self.goes_on {
                self.begun_at = now;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                cost += match self.head[3] {
                    HEADERS => COST_OF_CALL,
                    SETTINGS => COST_OF_SETTINGS,
                    _ => COST,
                };
                if !self.begin(now, &sent) {
                    return None;
                }
            }
        }
        Some(cost)
    }

    fn begin(&mut self, now: Instant, sent: impl Fn() -> u64) -> bool {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.kind = kind;
        match kind {
            DATA if self.left >= TINY || flags & END_STREAM != 0 => true,
            HEADERS => {
                self.goes_on = flags & END_HEADERS == 0;
                self.control.left = (self.control.left + PER_CALL).min(MOST_SAVED);
                true
            }
            SETTINGS if flags & ACK == 0 => {
                self.greeted = true;
                self.settings.take(now, || 0) || self.is_trusted.load(Relaxed)
            }
            _ => {
                self.goes_on &= !(kind == CONTINUATION && flags & END_HEADERS != 0);
                self.control.take(now, sent) || self.is_trusted.load(Relaxed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = (payload as u32).to_be_bytes();
        let mut bytes = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + payload, 0);
        bytes
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let now = Instant::now();
        let bytes = [
            frame(SETTINGS, 0, 6),
            frame(HEADERS, END_HEADERS, 40),
            frame(DATA, 0, 300),
            frame(DATA, END_STREAM, 0),
        ]
        .concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames::new(now);
            let costs = bytes.chunks(cut).map(|it| frames.look_at(it, now, || 0).expect("few"));
            let cost = bytes.len() + COST_OF_SETTINGS + COST_OF_CALL + 2 * COST;
            assert_eq!(costs.sum::<usize>(), cost, "in pieces of {cut}");
            assert!(frames.is_greeted() && frames.cut_since().is_none());
        }
    }

    #[test]
    fn whatever_was_begun_is_cut_until_it_is_whole_but_data() {
        let now = Instant::now();
        let cut = |bytes: &[u8]| {
            let mut frames = Frames::new(now);
            frames.look_at(bytes, now, || 0).expect("few");
            frames.cut_since().is_some()
        };
        let headers = frame(HEADERS, 0, 10);
        assert!((1..=headers.len()).all(|count| cut(&headers[..count])));
        let whole = [headers.clone(), frame(CONTINUATION, END_HEADERS, 2)].concat();
        assert!(!cut(&whole) && cut(&whole[..whole.len() - 1]));
        let data = frame(DATA, 0, 10);
        assert!(cut(&data[..8]) && !cut(&data[..9]) && !cut(&data[..15]));
    }

    #[test]
    fn headers_are_cut_since_they_were_begun_however_many_frames_they_take() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut frames = Frames::new(now);
        let mut look_at = |bytes: &[u8], seconds| {
            frames.look_at(bytes, at(seconds), || 0).expect("few");
            frames.cut_since()
        };
        assert_eq!(look_at(&frame(HEADERS, 0, 10), 1), Some(at(1)));
        assert_eq!(look_at(&frame(CONTINUATION, 0, 10), 2), Some(at(1)));
        let end = frame(CONTINUATION, END_HEADERS, 10);
        assert_eq!(look_at(&end[..9], 3), Some(at(1)));
        assert_eq!(look_at(&end[9..], 4), None);
        // A connection that is never at rest between two frames is not cut for that.
        let two = [frame(WINDOW_UPDATE, 0, 4), frame(WINDOW_UPDATE, 0, 4)].concat();
        assert_eq!(look_at(&two[..14], 5), Some(at(5)));
        assert_eq!(look_at(&[&two[14..], &two[..1]].concat(), 6), Some(at(6)));
    }

    /// How many frames a client may send at once.
    fn most(frames: &mut Frames, frame: &[u8], now: Instant, sent: u64) -> usize {
        let may = |_: &usize| frames.look_at(frame, now, || sent).is_some();
        (0..100_000).take_while(may).count()
    }

    #[test]
    fn a_client_may_steer_so_much_and_more_as_time_passes_or_it_is_sent_something() {
        let now = Instant::now();
        let settings = frame(SETTINGS, 0, 6);
        let burst = BURST as usize;
        for useless in [
            frame(DATA, 0, TINY - 1),
            frame(2, 0, 5),
            frame(SETTINGS, ACK, 0),
            frame(6, 0, 8),
            frame(6, ACK, 8),
            frame(WINDOW_UPDATE, 0, 4),
            frame(CONTINUATION, 0, 0),
            frame(77, 0, 0),
        ] {
            let mut frames = Frames::new(now);
            assert_eq!(most(&mut frames, &useless, now, 0), burst);
            let mut frames = Frames::new(now);
            assert_eq!(most(&mut frames, &useless, now, 10), burst + 10 * PER_PIECE as usize);
            let mut frames = Frames::new(now + Duration::from_secs(1) - Duration::from_secs(1));
            let later = now + Duration::from_secs(1);
            assert_eq!(most(&mut frames, &useless, later, 0), burst + PER_SECOND as usize);
        }
        assert_eq!(most(&mut Frames::new(now), &settings, now, 1000), SETTINGS_BURST as usize);
        let useful = frame(DATA, 0, TINY);
        assert_eq!(most(&mut Frames::new(now), &useful, now, 0), 100_000);
    }
}
