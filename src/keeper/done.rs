//! Requests to users and to apps that were done and are stored. The engine also knows of some whose
//! effects are not stored yet: a snapshot that tells of them would have them answered, after a crash,
//! as if they had been done.

use crate::{
    engine::REMEMBERED_FOR,
    record::{Entry, Place, RequestRecord, Subject},
    session::limits::Micros,
};
use std::collections::HashMap;

/// After so many more it is looked for those that nobody asks for any more.
const SWEEP: usize = 8192;

/// What is stored of requests, by whom they act on; those to sessions are stored with the sessions.
#[derive(Debug, Default)]
pub struct Done {
    requests: HashMap<Subject, Vec<RequestRecord>>,
    added: usize,
}

impl Done {
    /// A request is stored.
    pub fn stored(&mut self, request: &RequestRecord, now: Micros) {
        if matches!(request.place, Place::Session(_)) {
            return;
        }
        let entry = Entry::Request(Box::new(request.clone()));
        self.requests.entry(Subject::of(&entry)).or_default().push(request.clone());
        self.added += 1;
        if self.added >= SWEEP {
            self.added = 0;
            self.requests.retain(|_, requests| {
                requests.retain(|request| request.at + REMEMBERED_FOR > now);
                !requests.is_empty()
            });
        }
    }

    /// The requests to somebody that are still remembered.
    pub fn of(&self, subject: &Subject, now: Micros) -> impl Iterator<Item = Entry> {
        let requests = self.requests.get(subject).into_iter().flatten();
        let known = requests.filter(move |request| request.at + REMEMBERED_FOR > now);
        known.map(|request| Entry::Request(Box::new(request.clone())))
    }
}
