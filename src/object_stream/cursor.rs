//! Where a reader is: positions, and the text that a client carries them in.

use crate::session::ids::Key;

/// The cursor that begins with everything.
pub const BEGINNING: &str = "0";

/// Bytes of a cursor.
pub const CURSOR_BYTES: usize = 1024;

/// Where a reader is: it has everything up to a revision, and of the read that is under way what
/// comes before a place. All of it is in the cursor, so the server keeps nothing for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Of which streams: where these outlive the server, it does too; 0 = of none.
    pub epoch: u64,
    /// The reader has everything up to this revision.
    pub after: u64,
    /// The read that is under way, if it did not fit one reply.
    pub page: Option<Page>,
}

/// How far a read has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision that it reads up to.
    pub to: u64,
    /// The stream that it is in; empty = it has ended: see [`Cursor::ended`].
    pub name: Key,
    /// The last key that was read there; empty = none yet.
    pub key: Key,
}

impl Cursor {
    /// That of a reader whose read has ended up to a revision. If it took several replies and something
    /// has changed meanwhile, the reader may know something newer already, and the cursor says up to
    /// where: should that be lost, it begins again.
    pub fn ended(epoch: u64, to: u64, (was_paged, now): (bool, u64)) -> Self {
        let newer = Page { to: now, name: Key::default(), key: Key::default() };
        Self { epoch, after: to, page: (was_paged && now > to).then_some(newer) }
    }

    /// The same without a page where no read is under way.
    pub fn plain(mut self) -> Self {
        self.page = self.page.filter(|page| !page.name.is_empty());
        self
    }

    /// Reads the text of a cursor; none if the server never gave it out.
    pub fn parse(text: &str) -> Option<Self> {
        if text == BEGINNING {
            return Some(Self::default());
        }
        if text.len() > CURSOR_BYTES {
            return None;
        }
        let mut parts = text.splitn(5, '-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (epoch, after) = (number()?, number()?);
        let Some(to) = number() else {
            return (text.matches('-').count() == 1).then_some(Self { epoch, after, page: None });
        };
        let length = number()? as usize;
        let (name, key) = parts.next()?.split_at_checked(length)?;
        let page = Page { to, name: name.into(), key: key.into() };
        (after <= to).then_some(Self { epoch, after, page: Some(page) })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.after)?;
        let Some(Page { to, name, key }) = &self.page else { return Ok(()) };
        write!(f, "-{to:x}-{:x}-{name}{key}", name.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went() {
        let plain = Cursor { epoch: 0xabc, after: 7, page: None };
        let page = Page { to: 9, name: "a-b ü".into(), key: "c-1.d-2".into() };
        let paged = Cursor { page: Some(page), ..plain.clone() };
        for cursor in [plain, paged] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        assert_eq!(Cursor::parse("0"), Some(Cursor::default()));
    }

    #[test]
    fn what_is_no_cursor_is_none() {
        let long = "1-".to_owned() + &"0".repeat(CURSOR_BYTES);
        for text in [
            "",
            "x",
            "1",
            "1-",
            "1-x",
            "-1-1",
            "1-1-",
            "1-1-x",
            "1-1-1-1",
            "1-1-1-9-a",
            "1-2-1-1-a",
            "1-1-1-1-ü",
            &long,
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
