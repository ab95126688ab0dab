//! Input as choices and pieces.

/// What is left of an input. Where it is over, everything is 0 and empty.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A piece that says how long it is, in two bytes, or the rest if there is less.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// All that is left, in pieces; the first ones of it, as an input has a short time only.
    pub fn pieces(mut self) -> impl Iterator<Item = &'a [u8]> {
        let next = move || (!self.is_over()).then(|| self.piece());
        std::iter::from_fn(next).take(16)
    }
}

/// Pieces as an input.
pub fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut input = Vec::new();
    for piece in pieces {
        let len = u16::try_from(piece.len()).expect("a piece is short");
        input.extend(len.to_le_bytes());
        input.extend(piece);
    }
    input
}
