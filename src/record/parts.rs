//! What is stored together although it does not fit into one piece: pieces, of which all but the last
//! begin with a mark that no entry begins with. Most wholes are one piece, which is the whole as it is.

/// No entry has this length.
const MORE_FOLLOWS: [u8; 4] = [0xff; 4];

/// Cuts bytes into pieces of at most `most` bytes, at least one.
pub fn split(whole: &[u8], most: usize) -> Vec<Vec<u8>> {
    let room = most.saturating_sub(MORE_FOLLOWS.len()).max(1);
    let mut pieces = Vec::new();
    let mut rest = whole;
    while rest.len() > most {
        let (part, left) = rest.split_at(room);
        pieces.push([&MORE_FOLLOWS, part].concat());
        rest = left;
    }
    pieces.push(rest.to_vec());
    pieces
}

/// Whether a piece is not the last of its whole.
pub fn more_follows(piece: &[u8]) -> bool {
    piece.starts_with(&MORE_FOLLOWS)
}

/// Puts pieces together again, in their order.
#[derive(Debug, Default)]
pub struct Joiner(Vec<u8>);

impl Joiner {
    /// Takes a piece in; the whole, if it was the last of one.
    pub fn push(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        match piece.strip_prefix(&MORE_FOLLOWS) {
            Some(part) => {
                self.0.extend(part);
                None
            }
            None => {
                self.0.extend(piece);
                Some(std::mem::take(&mut self.0))
            }
        }
    }

    /// Forgets the pieces of a whole that was never finished.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether a whole has begun.
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_again() {
        for length in [0, 1, 8, 9, 10, 27, 100] {
            let whole: Vec<u8> = (0..length).collect();
            let pieces = split(&whole, 10);
            assert!(pieces.iter().all(|piece| piece.len() <= 10));
            let mut joiner = Joiner::default();
            let (last, first) = pieces.split_last().expect("there is one");
            assert!(first.iter().all(|piece| more_follows(piece) && joiner.push(piece).is_none()));
            assert!(!more_follows(last));
            assert_eq!(joiner.push(last), Some(whole));
            assert!(!joiner.is_open());
        }
    }

    #[test]
    fn what_was_never_finished_is_not_in_the_next_whole() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(&split(&[1; 20], 10)[0]), None);
        assert!(joiner.is_open());
        joiner.clear();
        assert_eq!(joiner.push(&split(&[2], 10)[0]), Some(vec![2]));
        assert_eq!(joiner.push(&[]), Some(Vec::new()));
    }
}
