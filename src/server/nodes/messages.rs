//! The messages of a stream that is sent on, on their way through this node: as bytes, with their
//! prefixes, compressed or not.

use crate::grpc::encode::PREFIX;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// How far the message that comes in has come.
#[derive(Debug, Default)]
struct Scan {
    prefix: [u8; PREFIX],
    have: usize,
    /// Bytes to come after the prefix, once that is there.
    left: usize,
}

impl Scan {
    /// Looks at more bytes: how many of them belong to messages that are whole. None = a message is
    /// larger than may be.
    fn advance(&mut self, mut bytes: &[u8], most: usize) -> Option<usize> {
        let (all, mut whole) = (bytes.len(), 0);
        while !bytes.is_empty() {
            if self.have < PREFIX {
                let taken = (PREFIX - self.have).min(bytes.len());
                self.prefix[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have == PREFIX {
                    let [_, length @ ..] = self.prefix;
                    self.left = u32::from_be_bytes(length) as usize;
                    if self.left > most {
                        return None;
                    }
                }
            }
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.have == PREFIX && self.left == 0 {
                self.have = 0;
                whole = all - bytes.len();
            }
        }
        Some(whole)
    }
}

/// What a client sends, until it is on its way to the other node. Only whole messages go there: what is
/// half sent waits here, where it counts as its client's.
#[derive(Debug)]
pub struct Up {
    /// The largest message; one that is larger goes on as it comes, for the other node to refuse it.
    most: usize,
    scan: Scan,
    is_faulty: bool,
    partial: BytesMut,
    whole: VecDeque<Bytes>,
    bytes: usize,
}

impl Up {
    /// Nothing, of messages of at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            scan: Scan::default(),
            is_faulty: false,
            partial: BytesMut::new(),
            whole: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, mut data: Bytes) {
        let whole = match self.is_faulty {
            true => None,
            false => self.scan.advance(&data, self.most),
        };
        self.is_faulty |= whole.is_none();
        let whole = whole.unwrap_or(data.len());
        if whole > 0 {
            self.let_go();
            self.add(data.split_to(whole));
        }
        self.partial.extend_from_slice(&data);
    }

    /// Nothing more comes: what is half there goes on too, for the other node to refuse it.
    pub fn let_go(&mut self) {
        let partial = self.partial.split().freeze();
        self.add(partial);
    }

    fn add(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.bytes += data.len();
            self.whole.push_back(data);
        }
    }

    /// How many bytes can go on.
    pub fn ready(&self) -> usize {
        self.bytes
    }

    /// How many bytes are in here.
    pub fn len(&self) -> usize {
        self.bytes + self.partial.len()
    }

    /// What can go on next.
    pub fn front(&self) -> Option<usize> {
        self.whole.front().map(Bytes::len)
    }

    /// Takes out the first `count` bytes of what can go on next.
    pub fn take(&mut self, count: usize) -> Bytes {
        let Some(front) = self.whole.front_mut() else { return Bytes::new() };
        let taken = front.split_to(count.min(front.len()));
        if front.is_empty() {
            self.whole.pop_front();
        }
        self.bytes -= taken.len();
        taken
    }
}

/// What the other node sends, until its client takes it. The other node is granted no more until then.
#[derive(Debug, Default)]
pub struct Down {
    pieces: VecDeque<Bytes>,
    /// What came of a message that has come in several pieces.
    partial: BytesMut,
    /// How many bytes of it are to come, prefix included; 0 = that is not known.
    left: usize,
    ungranted: usize,
}

impl Down {
    /// Takes bytes in.
    pub fn push(&mut self, data: Bytes) {
        self.ungranted += data.len();
        if !data.is_empty() {
            self.pieces.push_back(data);
        }
    }

    /// The next message that is whole.
    pub fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.pieces.front_mut()?;
            if self.partial.is_empty()
                && let Some(&[_, ref length @ ..]) = piece.first_chunk::<PREFIX>()
            {
                let length = PREFIX + u32::from_be_bytes(*length) as usize;
                if piece.len() >= length {
                    let message = piece.split_to(length);
                    if piece.is_empty() {
                        self.pieces.pop_front();
                    }
                    return Some(message);
                }
            }
            if self.left == 0 {
                // First the prefix, and then as much as it says.
                self.left = match self.partial.first_chunk::<PREFIX>() {
                    None => PREFIX - self.partial.len(),
                    Some([_, length @ ..]) => u32::from_be_bytes(*length) as usize,
                };
            }
            let taken = self.left.min(piece.len());
            self.partial.extend_from_slice(&piece.split_to(taken));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.left -= taken;
            let is_whole = self.left == 0
                && self.partial.first_chunk::<PREFIX>().is_some_and(|[_, length @ ..]| {
                    self.partial.len() == PREFIX + u32::from_be_bytes(*length) as usize
                });
            if is_whole {
                return Some(self.partial.split().freeze());
            }
        }
    }

    /// How much the other node is to be granted again now: what its client has taken, and what is here
    /// of a message that its client waits for.
    pub fn grant(&mut self) -> usize {
        let kept: usize = self.pieces.iter().map(Bytes::len).sum();
        let granted = self.ungranted.saturating_sub(kept);
        self.ungranted -= granted;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.put_u8(1);
            bytes.put_u32(message.len() as u32);
            bytes.put_slice(message);
        }
        bytes
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)
    }

    fn cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1usize..40, 1..60)
    }

    fn cut(bytes: Vec<u8>, cuts: &[usize]) -> Vec<Bytes> {
        let (mut rest, mut cuts) = (Bytes::from(bytes), cuts.iter().cycle());
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let at = cuts.next().copied().unwrap_or(1).min(rest.len());
            pieces.push(rest.split_to(at));
        }
        pieces
    }

    fn all(up: &mut Up) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(front) = up.front() {
            out.extend_from_slice(&up.take(front.div_ceil(2)));
        }
        out
    }

    proptest! {
        #[test]
        fn what_goes_up_goes_on_in_whole_messages(messages in messages(), cuts in cuts()) {
            let bytes = framed(&messages);
            let ends: Vec<usize> = messages
                .iter()
                .scan(0, |end, message| {
                    *end += PREFIX + message.len();
                    Some(*end)
                })
                .collect();
            let (mut up, mut out, mut came) = (Up::new(50), Vec::new(), 0);
            for piece in cut(bytes.clone(), &cuts) {
                came += piece.len();
                up.push(piece);
                let whole = ends.iter().copied().filter(|end| *end <= came).max().unwrap_or(0);
                prop_assert_eq!(up.ready(), whole - out.len());
                prop_assert_eq!(up.len(), came - out.len());
                out.extend(all(&mut up));
                prop_assert_eq!(out.len(), whole);
            }
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn what_comes_down_comes_in_whole_messages_and_all_of_it_is_granted_again(
            messages in messages(),
            cuts in cuts(),
            taken in prop::collection::vec(0usize..4, 1..10),
        ) {
            let (mut down, mut out, mut granted, mut came) = (Down::default(), Vec::new(), 0, 0);
            let mut taken = taken.iter().cycle();
            for piece in cut(framed(&messages), &cuts) {
                came += piece.len();
                down.push(piece);
                for _ in 0..*taken.next().unwrap_or(&0) {
                    out.extend(down.next().map(|message| message.to_vec()));
                    granted += down.grant();
                    prop_assert!(granted <= came);
                }
            }
            out.extend(std::iter::from_fn(|| down.next()).map(|message| message.to_vec()));
            let each: Vec<_> = messages.iter().map(|it| framed(std::slice::from_ref(it))).collect();
            prop_assert_eq!(out, each);
            prop_assert_eq!(granted + down.grant(), came);
        }
    }

    #[test]
    fn what_is_too_large_or_half_sent_goes_on_for_the_other_node_to_refuse_it() {
        let mut up = Up::new(10);
        up.push(framed(&[vec![7; 11]])[..8].to_vec().into());
        assert_eq!((up.ready(), up.len()), (8, 8));
        let mut up = Up::new(10);
        up.push(framed(&[vec![7; 10]])[..8].to_vec().into());
        assert_eq!((up.ready(), up.len()), (0, 8));
        up.let_go();
        assert_eq!((up.ready(), up.len()), (8, 8));
    }

    #[test]
    fn the_other_node_is_granted_what_a_large_message_needs_but_nothing_behind_it() {
        let mut down = Down::default();
        let bytes = Bytes::from(framed(&[vec![1; 100], vec![2; 100]]));
        down.push(bytes.slice(..60));
        assert_eq!(down.grant(), 0, "its client takes nothing yet");
        assert_eq!(down.next(), None);
        assert_eq!(down.grant(), 60, "its client waits for the rest of it");
        down.push(bytes.slice(60..));
        assert_eq!(down.next().map(|it| it.len()), Some(105));
        assert_eq!(down.grant(), 45);
        assert_eq!(down.next().map(|it| it.len()), Some(105));
        assert_eq!(down.grant(), 105);
    }
}
