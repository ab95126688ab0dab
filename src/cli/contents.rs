//! What is in a store: every entry in order, put together to sessions and users.

use crate::{
    log::{Content, Entry, Key, Seq},
    object_stream::record::Change,
    record::{self, Entries, Joiner, REMEMBERED_FOR, RequestRecord, Subject, UserRecord},
    session::{
        epoch::Epoch,
        ids::UserId,
        limits::{Limits, Micros},
        record::{Begin, Record},
        replica::Replica,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Faults that are remembered; of those beyond only the number is.
const FAULTS: usize = 10_000;

/// What is in a store, as far as it is read.
#[derive(Debug, Default)]
pub struct Contents {
    /// What is known of each subject, by its key.
    pub subjects: BTreeMap<Key, Known>,
    /// The greatest epoch of what is gone.
    pub greatest_epoch: Epoch,
    /// Entries of the log, those that are lost included.
    pub entries: u64,
    /// Entries that are lost.
    pub lost: u64,
    /// Whether the last claim ended with a release.
    pub was_clean: bool,
    /// The last entry.
    pub last: Seq,
    /// What is wrong, a line each.
    pub faults: Vec<String>,
    /// How much more is wrong.
    pub more_faults: u64,
    limits: Arc<Limits>,
    joiner: Joiner,
    /// Where the batch began that is being put together.
    began: Option<Seq>,
}

/// What is known of a subject.
#[derive(Debug, Default)]
pub struct Known {
    /// The session, if it is one and its records fit together.
    pub session: Option<Box<Replica>>,
    /// Records of the session do not fit together, or one is lost.
    pub is_broken: bool,
    /// Which of them does not fit, and why. A later snapshot makes up for it: what is left of the log
    /// before a snapshot may go on from an earlier one, which is not there any more.
    pub misfit: Option<(Seq, String)>,
    /// The session is gone, and this was its epoch.
    pub gone: Option<Epoch>,
    /// The user, if it is one.
    pub user: Option<UserRecord>,
    /// It has object streams, or functions for them.
    pub has_streams: bool,
    /// When the requests to it were done, by the callers who made them and their ids.
    pub requests: BTreeMap<(Option<UserId>, crate::session::ids::Key), Micros>,
    /// Bytes of its snapshot and of what came after.
    pub bytes: u64,
    /// Where its snapshot lies.
    pub snapshot: Option<Seq>,
    /// The first batch that tells of it after its snapshot.
    pub since: Option<Seq>,
}

impl Contents {
    /// Takes the next entry of the log.
    pub fn take(&mut self, entry: &Entry) {
        let Entry { seq, term: _, content } = entry;
        self.entries += 1;
        self.last = *seq;
        if !matches!(content, Content::Batch(_)) {
            // The writer that began a batch of several pieces has ended before it was whole.
            self.joiner.clear();
            self.began = None;
        }
        match content {
            Content::Claim(_) => self.was_clean = false,
            Content::Release => self.was_clean = true,
            Content::Batch(piece) => {
                self.was_clean = false;
                let began = *self.began.get_or_insert(*seq);
                if let Some(batch) = self.joiner.push(piece) {
                    self.began = None;
                    self.take_batch(began, &batch);
                }
            }
            Content::Snapshot { key, state } => self.take_snapshot(*seq, key, state),
            Content::Lost { key } => self.lose(*seq, key.as_ref()),
        }
    }

    fn lose(&mut self, seq: Seq, key: Option<&Key>) {
        self.lost += 1;
        match key {
            Some(key) => {
                let name = subject_name(key);
                self.fault(seq, format!("the snapshot of {name} is damaged"));
                *self.subjects.entry(key.clone()).or_default() =
                    Known { is_broken: true, snapshot: Some(seq), ..Known::default() };
            }
            None => {
                self.was_clean = false;
                self.fault(seq, "is damaged".to_owned());
            }
        }
    }

    fn take_snapshot(&mut self, seq: Seq, key: &Key, state: &[u8]) {
        let known = Known {
            snapshot: Some(seq),
            bytes: (key.len() + state.len()) as u64,
            ..Known::default()
        };
        self.subjects.insert(key.clone(), known);
        for entry in Entries::of(state) {
            match entry {
                Ok(entry) if Subject::of(&entry).key() != key[..] => {
                    let name = subject_name(key);
                    self.fault(seq, format!("the snapshot of {name} tells of something else"));
                }
                Ok(entry) => self.learn(seq, key.clone(), entry),
                Err(error) => {
                    let name = subject_name(key);
                    self.fault(seq, format!("the snapshot of {name}: {error}"));
                    self.subjects.entry(key.clone()).or_default().is_broken = true;
                }
            }
        }
    }

    fn take_batch(&mut self, seq: Seq, batch: &[u8]) {
        for entry in Entries::of(batch) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.fault(seq, error.to_string());
                    continue;
                }
            };
            let key = Key::from(Subject::of(&entry).key());
            let known = self.subjects.entry(key.clone()).or_default();
            known.since.get_or_insert(seq);
            known.bytes += record::encode(&entry).len() as u64;
            self.learn(seq, key, entry);
        }
    }

    /// Whatever kind is not known here counts, and no more.
    fn learn(&mut self, seq: Seq, key: Key, entry: record::Entry) {
        if let record::Entry::GreatestEpoch(epoch) = entry {
            self.greatest_epoch = self.greatest_epoch.max(epoch);
            return;
        }
        let known = self.subjects.entry(key).or_default();
        if let record::Entry::Session(record) = entry {
            if let Err(misfit) = known.apply(*record, &self.limits) {
                known.misfit.get_or_insert((seq, misfit));
            }
        } else if let record::Entry::Gone { epoch, .. } = entry {
            known.end(epoch);
        } else if let record::Entry::User(user) = entry {
            known.user = Some(user);
        } else if let record::Entry::Streams(change) = entry {
            known.has_streams = matches!(change, Change::App(_) | Change::Stream(_));
        } else if let record::Entry::Request(request) = entry {
            let RequestRecord { by, id, at, .. } = *request;
            known.requests.insert((by.user().cloned(), id), at);
        }
    }

    /// Everything is read: what does not fit now is wrong.
    pub fn close(&mut self) {
        let misfits = self.subjects.values_mut().filter_map(|known| known.misfit.take());
        let mut misfits: Vec<_> = misfits.collect();
        misfits.sort();
        for (seq, what) in misfits {
            self.fault(seq, what);
        }
    }

    /// Notes that something is wrong with an entry.
    fn fault(&mut self, seq: Seq, what: String) {
        self.add_fault(format!("entry {seq}: {what}"));
    }

    /// Notes that something is wrong.
    pub fn add_fault(&mut self, line: String) {
        if self.faults.len() < FAULTS {
            self.faults.push(line);
        } else {
            self.more_faults += 1;
        }
    }

    /// The sessions, in the order of their apps and ids.
    pub fn sessions(&self) -> Vec<(&Replica, &Known)> {
        let session = |known| Some((Known::session(known)?, known));
        let mut sessions: Vec<_> = self.subjects.values().filter_map(session).collect();
        sessions.sort_by(|(a, _), (b, _)| (a.app(), a.id()).cmp(&(b.app(), b.id())));
        sessions
    }

    /// What somebody would miss, for people: none if there is nothing but where the epochs and the
    /// object streams have come to.
    pub fn anything(&self, now: Micros) -> Option<String> {
        let mut missed = self.subjects.iter().filter(|(_, known)| known.is_missed(now));
        let (key, known) = missed.next()?;
        let name = subject_name(key);
        let name = if known.has_streams { format!("the object streams of {name}") } else { name };
        Some(match missed.count() as u64 {
            0 => name,
            more => format!("{name} and {more} more"),
        })
    }

    /// The greatest epoch that any session has had.
    pub fn last_epoch(&self) -> Epoch {
        let of = |known: &Known| {
            let session = known.session().map(|session| session.epoch());
            session.max(known.gone).unwrap_or_default()
        };
        self.subjects.values().map(of).max().unwrap_or_default().max(self.greatest_epoch)
    }

    /// Users of whom something is known beside their sessions.
    pub fn users(&self) -> u64 {
        self.subjects.values().filter(|known| known.user.is_some()).count() as u64
    }

    /// Requests with an id.
    pub fn requests(&self) -> u64 {
        self.subjects.values().map(|known| known.requests.len() as u64).sum()
    }
}

impl Known {
    fn session(&self) -> Option<&Replica> {
        self.session.as_deref()
    }

    fn is_missed(&self, now: Micros) -> bool {
        let is_user = self.user.as_ref().is_some_and(|user| !user.props.is_empty());
        let is_asked_for = |at: &Micros| at + REMEMBERED_FOR > now;
        let is_session = self.session.is_some() || self.is_broken;
        is_session || is_user || self.has_streams || self.requests.values().any(is_asked_for)
    }

    /// The records of a session fit together or are of no more use: the first that does not is reported.
    fn apply(&mut self, record: Record, limits: &Arc<Limits>) -> Result<(), String> {
        let is_whole = matches!(record.begin, Begin::Nothing(_));
        if self.is_broken && !is_whole {
            return Ok(());
        }
        if self.gone.is_some_and(|gone| record.until.epoch <= gone) {
            return Ok(());
        }
        let name = session_name(&record.app, &record.id);
        let applied = match self.session.take().filter(|_| !self.is_broken) {
            Some(session) => session.apply(record),
            None => Replica::begin(record, limits.clone()),
        };
        self.gone = None;
        self.is_broken = applied.is_err();
        match applied {
            Ok(session) => {
                self.session = Some(Box::new(session));
                self.misfit = None;
                Ok(())
            }
            Err(unfit) => Err(format!("session {name}: {unfit}")),
        }
    }

    fn end(&mut self, epoch: Epoch) {
        if self.session().is_none_or(|session| session.epoch() <= epoch) {
            self.session = None;
            self.is_broken = false;
            self.misfit = None;
            self.gone = self.gone.max(Some(epoch));
        }
    }

    /// Whether nothing of it is left to know, if no greater epoch was ever gone.
    pub fn is_gone(&self, greatest_epoch: Epoch) -> bool {
        self.gone.is_some_and(|gone| gone <= greatest_epoch)
            && self.session.is_none()
            && self.requests.is_empty()
    }
}

/// The name of a session, as it is typed.
pub fn session_name(app: &str, id: &str) -> String {
    super::text::plain(&format!("{app}/{id}"))
}

/// That a session is not there.
pub fn no_session(name: &str) -> String {
    let hint = if name.contains('/') { "" } else { ": a name is APP/SESSION" };
    match name {
        "" => format!("there is no session without a name{hint}"),
        _ => format!("there is no session {}{hint}", super::text::plain(name)),
    }
}

/// What a key is of, for people. See [`Subject::key`].
pub fn subject_name(key: &[u8]) -> String {
    let split = || {
        let ([letter, length], rest) = key.split_first_chunk()?;
        let (app, id) = rest.split_at_checked((*length).into())?;
        Some((*letter, str::from_utf8(app).ok()?, str::from_utf8(id).ok()?))
    };
    match split() {
        Some((b'e', ..)) => "the epochs".to_owned(),
        Some((b's', app, id)) => format!("session {}", session_name(app, id)),
        Some((b'u', app, id)) => format!("user {}", session_name(app, id)),
        Some((_, app, "")) if !app.is_empty() => format!("app {}", super::text::plain(app)),
        _ => format!("{:?}", String::from_utf8_lossy(key)),
    }
}
