//! The pieces of a snapshot, put together. They stand one after the other, as they were stored as a
//! whole; where one is missing, the snapshot was replaced while it was read, or it is damaged.

use crate::log::{Key, Seq};
use bytes::{Bytes, BytesMut};

/// A piece.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its place.
    pub seq: Seq,
    /// Whose state it is of.
    pub key: Key,
    /// Its number, from 0 on.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Its bytes of the state.
    pub bytes: Bytes,
}

/// What there is of a snapshot.
#[derive(Debug)]
pub struct Begun {
    /// Whose state it is.
    pub key: Key,
    /// The place of the next piece.
    pub next: Seq,
    index: u32,
    count: u32,
    state: BytesMut,
}

/// The snapshot that is being read, if any.
#[derive(Debug, Default)]
pub struct Pieces {
    begun: Option<Begun>,
    /// A snapshot of which a piece is damaged, and the place after that.
    spoiled: Option<(Key, Seq)>,
}

/// What a piece makes.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// The whole state.
    Whole(Bytes),
    /// More of it follows, or it is known to be lost.
    Nothing,
    /// There is no piece before it.
    Headless,
}

impl Pieces {
    /// What was begun and ends here without being whole: the next message is no piece of it.
    pub fn cut(&mut self, next: Option<&Piece>) -> Option<Begun> {
        let goes_on = |begun: &mut Begun| {
            next.is_some_and(|it| {
                (&it.key, it.seq, it.index, it.count)
                    == (&begun.key, begun.next, begun.index, begun.count)
            })
        };
        self.begun.take_if(|begun| !goes_on(begun))
    }

    /// Takes a piece that goes on where the last one ended, or begins.
    pub fn take(&mut self, piece: Piece) -> Made {
        let spoiled = self.spoiled.take();
        if piece.index > 0 && spoiled.is_some_and(|it| it == (piece.key.clone(), piece.seq)) {
            self.spoil(Some(piece.key), piece.seq);
            return Made::Nothing;
        }
        if piece.index == 0 && piece.count == 1 {
            return Made::Whole(piece.bytes);
        }
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None if piece.index == 0 => Begun {
                key: piece.key,
                next: piece.seq,
                index: 0,
                count: piece.count,
                state: BytesMut::new(),
            },
            None => return Made::Headless,
        };
        let Begun { key, next, index, count, mut state } = begun;
        state.extend_from_slice(&piece.bytes);
        let (next, index) = (next.next(), index + 1);
        if index == count {
            return Made::Whole(state.freeze());
        }
        self.begun = Some(Begun { key, next, index, count, state });
        Made::Nothing
    }

    /// A piece at a place is damaged, and what it is of is lost with it.
    pub fn spoil(&mut self, key: Option<Key>, seq: Seq) {
        self.begun = None;
        self.spoiled = key.map(|key| (key, seq.next()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(key: &'static str, seq: u64, index: u32, count: u32) -> Piece {
        let bytes = Bytes::from(format!("{index},"));
        Piece { seq: Seq(seq), key: key.into(), index, count, bytes }
    }

    /// What a row of pieces makes, and which keys are cut.
    fn made(row: &[Piece]) -> (Vec<Made>, Vec<Key>) {
        let mut pieces = Pieces::default();
        let mut cut = Vec::new();
        let mut made = Vec::new();
        for piece in row {
            cut.extend(pieces.cut(Some(piece)).map(|begun| begun.key));
            made.push(pieces.take(piece.clone()));
        }
        cut.extend(pieces.cut(None).map(|begun| begun.key));
        (made, cut)
    }

    #[test]
    fn pieces_in_a_row_make_a_whole() {
        let row = [piece("a", 5, 0, 3), piece("a", 6, 1, 3), piece("a", 7, 2, 3)];
        let (made, cut) = made(&row);
        assert_eq!(made, [Made::Nothing, Made::Nothing, Made::Whole("0,1,2,".into())]);
        assert!(cut.is_empty());
    }

    #[test]
    fn pieces_of_two_snapshots_are_never_one() {
        let row = [piece("a", 5, 0, 3), piece("a", 9, 0, 3), piece("a", 10, 1, 3)];
        let (_, cut) = made(&row);
        assert_eq!(cut, ["a", "a"]);
        // The last one of the old and the new.
        for next in [piece("a", 9, 1, 2), piece("b", 6, 1, 2), piece("a", 6, 1, 3)] {
            let (made, cut) = made(&[piece("a", 5, 0, 2), next.clone()]);
            assert_eq!((&made[1], cut), (&Made::Headless, vec!["a".into()]), "{next:?}");
        }
    }

    #[test]
    fn a_snapshot_with_a_damaged_piece_is_lost_once() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(piece("a", 5, 0, 4)), Made::Nothing);
        pieces.spoil(Some("a".into()), Seq(6));
        for (seq, index) in [(7, 2), (8, 3)] {
            let piece = piece("a", seq, index, 4);
            assert!(pieces.cut(Some(&piece)).is_none());
            assert_eq!(pieces.take(piece), Made::Nothing);
        }
        assert_eq!(pieces.take(piece("a", 9, 0, 1)), Made::Whole("0,".into()));
    }
}
