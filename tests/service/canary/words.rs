//! Words that are said in one place only, and who may hear them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Mutex, Once, PoisonError},
};
use tracing_subscriber::filter::LevelFilter;

/// What every word begins with; its number follows.
const BEGIN: &str = "canary-";
const DIGITS: usize = 4;

/// What every hash of a password begins with.
const HASH: &[u8] = b"$argon2";

/// One word.
struct Word {
    text: String,
    may: BTreeSet<&'static str>,
    /// Those of them who look where it is shown.
    must: BTreeSet<&'static str>,
    in_logs: bool,
}

/// All words.
#[derive(Default)]
pub struct Words(Vec<Word>);

impl Words {
    /// A new word, that says of itself what it is, for these people; each of them will hear it.
    pub fn shown(&mut self, what: &str, to: &[&'static str]) -> String {
        let word = self.hidden(what, to);
        self.is_shown(&word, to);
        word
    }

    /// A new word for these people, who need not hear it.
    pub fn hidden(&mut self, what: &str, may: &[&'static str]) -> String {
        let text = format!("{BEGIN}{:0DIGITS$}-{}", self.0.len(), what.replace(' ', "-"));
        let may = may.iter().copied().collect();
        self.0.push(Word { text: text.clone(), may, must: BTreeSet::new(), in_logs: false });
        text
    }

    /// The same, for an id, which those who run the service may read in its log.
    pub fn id(&mut self, what: &str, may: &[&'static str]) -> String {
        let word = self.hidden(what, may);
        self.of(&word).in_logs = true;
        word
    }

    fn of(&mut self, word: &str) -> &mut Word {
        &mut self.0[numbers_in(word.as_bytes())[0]]
    }

    /// Others may hear a word too.
    pub fn may_reach(&mut self, word: &str, people: &[&'static str]) {
        self.of(word).may.extend(people);
    }

    /// A word comes to be shown to others, each of whom will hear it.
    pub fn is_shown(&mut self, word: &str, to: &[&'static str]) {
        let word = self.of(word);
        word.may.extend(to);
        word.must.extend(to);
    }

    /// Holds all that everybody heard, and the log, against what they may hear.
    pub fn judge(&self, heard: &BTreeMap<&'static str, Vec<(String, Vec<u8>)>>, log: &[String]) {
        let mut faults = BTreeSet::new();
        let mut heard_by = vec![BTreeSet::new(); self.0.len()];
        for (person, replies) in heard {
            for (path, bytes) in replies {
                if bytes.windows(HASH.len()).any(|it| it == HASH) {
                    faults.insert(format!("{person} heard the hash of a password from {path}"));
                }
                for number in numbers_in(bytes) {
                    heard_by[number].insert(*person);
                    let Word { text, may, .. } = &self.0[number];
                    if !may.contains(person) {
                        faults.insert(format!("{person} heard {text} from {path}"));
                    }
                }
            }
        }
        assert!(!log.is_empty(), "the log is heard: it names sessions that are opened");
        for line in log {
            for number in numbers_in(line.as_bytes()) {
                let Word { text, in_logs, .. } = &self.0[number];
                if !in_logs {
                    faults.insert(format!("the log says {text}: {line}"));
                }
            }
        }
        for (word, heard_by) in self.0.iter().zip(&heard_by) {
            for deaf in word.must.difference(heard_by) {
                faults.insert(format!("{deaf} never heard {}", word.text));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// The numbers of the words in some bytes.
fn numbers_in(bytes: &[u8]) -> Vec<usize> {
    let mut numbers = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(BEGIN.len()).position(|it| it == BEGIN.as_bytes()) {
        rest = &rest[at + BEGIN.len()..];
        let digits = rest.get(..DIGITS).and_then(|digits| str::from_utf8(digits).ok());
        numbers.push(digits.and_then(|it| it.parse().ok()).expect("a word has a number"));
    }
    numbers
}

/// The lines of the log that have a word in them.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LISTEN: Once = Once::new();

/// Begins to read the log of the process, from debug on, also of the libraries.
pub fn read_log() {
    LISTEN.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_ansi(false)
            .with_writer(|| Lines)
            .init();
    });
}

/// The lines with words that were logged until now.
pub fn log() -> Vec<String> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps the lines that have a word in them; each write is a line.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_text = String::from_utf8_lossy(line);
        if line_text.contains(BEGIN) || line_text.contains(super::judged::BEGIN) {
            LOG.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line_text.trim_end().to_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
