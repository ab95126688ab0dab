//! Exports as lines of JSON: a header that says what it is, what there is, and an end with the number
//! of lines between them and a CRC-32 of all bytes before it. So one that is cut short is seen.

use super::Result;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use std::io::{BufRead, Read, Write};

/// The version that is written, and the greatest that is read.
const VERSION: u64 = 1;

/// Bytes of a line at most.
const LINE_BYTES: usize = 512 * 1024 * 1024;

/// How the end begins.
const END: &[u8] = br#"{"end":{"#;

/// What an export is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole store.
    Store,
    /// The history of one session.
    History,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Store => "sessiond store",
            Self::History => "sessiond history",
        }
    }
}

/// Writes an export.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    checksum: crc32fast::Hasher,
    lines: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn begin(out: W, kind: Kind) -> Result<Self> {
        let mut writer = Self { out, checksum: crc32fast::Hasher::new(), lines: 0 };
        writer.line(&json!({ "format": kind.name(), "version": VERSION }))?;
        writer.lines = 0;
        Ok(writer)
    }

    /// Adds a line.
    pub fn line(&mut self, of: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(of).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.checksum.update(&line);
        self.lines += 1;
        self.out.write_all(&line).map_err(|error| error.to_string())
    }

    /// Adds the end, and gives back where everything was written.
    pub fn end(mut self) -> Result<W> {
        let checksum = self.checksum.finalize();
        let end =
            writeln!(self.out, r#"{{"end":{{"lines":{},"crc32":"{checksum:08x}"}}}}"#, self.lines);
        end.and_then(|()| self.out.flush()).map_err(|error| error.to_string())?;
        Ok(self.out)
    }
}

#[derive(Debug, Deserialize)]
struct EndLine {
    end: End,
}

#[derive(Debug, Deserialize)]
struct End {
    lines: u64,
    crc32: String,
}

/// Reads an export.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    checksum: crc32fast::Hasher,
    /// The number of the last line that was read, from 1 on.
    number: u64,
    /// One without an end was written by hand.
    needs_end: bool,
    is_over: bool,
    line: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header. What people write by hand needs no end.
    pub fn begin(input: R, kind: Kind) -> Result<Self> {
        let mut reader = Self {
            input,
            checksum: crc32fast::Hasher::new(),
            number: 0,
            needs_end: kind == Kind::Store,
            is_over: false,
            line: Vec::new(),
        };
        let is_line = reader.read_line()?;
        let header = serde_json::from_slice(&reader.line).unwrap_or(Json::Null);
        if !is_line || header["format"] != kind.name() {
            let what = match kind {
                Kind::Store => "an export of a store",
                Kind::History => "the history of a session",
            };
            return Err(reader.fault(format!("this is not {what}")));
        }
        match header["version"].as_u64() {
            Some(1..=VERSION) => {}
            Some(newer @ VERSION..) => {
                let known = format!("this version knows up to {VERSION}: use a newer version");
                return Err(reader.fault(format!("it has version {newer}, {known}")));
            }
            _ => return Err(reader.fault("it has no version")),
        }
        reader.checksum.update(&reader.line);
        Ok(reader)
    }

    /// The next line; none = they are all there.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        if self.is_over {
            return Ok(None);
        }
        if !self.read_line()? {
            self.is_over = true;
            return match self.needs_end {
                true => Err(self.fault("the export ends early")),
                false => Ok(None),
            };
        }
        if self.line.starts_with(END) {
            self.check_end()?;
            return Ok(None);
        }
        self.checksum.update(&self.line);
        let line = serde_json::from_slice(&self.line);
        line.map(Some).map_err(|error| self.fault(what_is_wrong(&error)))
    }

    /// Says in which line something is wrong.
    pub fn fault(&self, what: impl std::fmt::Display) -> String {
        format!("line {}: {what}", self.number.max(1))
    }

    fn check_end(&mut self) -> Result<()> {
        let end: EndLine = serde_json::from_slice(&self.line)
            .map_err(|error| self.fault(what_is_wrong(&error)))?;
        // The header and this line are no part of them.
        let lines = self.number.saturating_sub(2);
        if end.end.lines != lines {
            let said = end.end.lines;
            return Err(self.fault(format!("there should be {said} lines of data, not {lines}")));
        }
        if end.end.crc32 != format!("{:08x}", self.checksum.clone().finalize()) {
            return Err(self.fault("the checksum is wrong: the export was changed"));
        }
        if self.read_line()? {
            return Err(self.fault("there is something behind the end"));
        }
        self.is_over = true;
        Ok(())
    }

    /// Reads a line with its end; false = there is none.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        let mut limited = (&mut self.input).take(LINE_BYTES as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| self.fault(format!("it cannot be read: {error}")))?;
        self.number += u64::from(read > 0);
        if read > LINE_BYTES {
            return Err(self.fault(format!("it has more than {LINE_BYTES} bytes")));
        }
        Ok(read > 0)
    }
}

/// What is wrong with a line, without the place in it: it has one line only.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} (at character {})", error.column())
}
