//! What is stored of requests that were done, and how they are remembered again after a start.

use super::{Reply, RequestId, Requests, SWEEP_INTERVAL, Scope, book::Entry};
use crate::{
    engine::{Engine, Position, WriteOutcome, keeping::is_to_session, live::State},
    record::{self, Place, RequestRecord},
    session::{
        ids::{AppId, SessionId},
        limits::Micros,
    },
};
use std::sync::Arc;

/// What is stored of a success.
pub(super) fn record_of(
    scope: &Scope,
    request: &RequestId,
    reply: &Reply,
    at: Micros,
) -> RequestRecord {
    let Scope { place: (app, place), actor, about: _ } = scope;
    let reply = match reply {
        Reply::Message(bytes) => record::Reply::Message(bytes.clone()),
        Reply::Written(Position { epoch, revision }) => record::Reply::Written(*epoch, *revision),
        Reply::OnUser(outcomes) => {
            let written = |(id, outcome): &WriteOutcome| {
                let Position { epoch, revision } = *outcome.as_ref().ok()?;
                Some((id.clone(), epoch, revision))
            };
            record::Reply::OnUser(outcomes.iter().filter_map(written).collect())
        }
    };
    let (id, content) = (request.id.clone(), request.content);
    RequestRecord {
        app: app.clone(),
        place: place.clone(),
        by: actor.clone(),
        id,
        content,
        at,
        reply,
    }
}

impl Requests {
    /// Does something with what is to be stored of all successes that are remembered of a place, the
    /// place locked: nobody adds one meanwhile.
    pub fn with_records(&self, place: &(AppId, Place), with: impl FnOnce(Vec<RequestRecord>)) {
        let book = self.book(place);
        let is_empty = {
            let book = book.lock();
            let mut records = Vec::new();
            for (actor, ids) in &book.actors {
                let scope = Scope { place: place.clone(), actor: actor.clone(), about: None };
                for (at, id) in &ids.done {
                    if let Some(Entry::Done { content, reply, .. }) = ids.entries.get(id) {
                        let request = RequestId { field: "", id: id.clone(), content: *content };
                        records.push(record_of(&scope, &request, reply, *at));
                    }
                }
            }
            with(records);
            book.actors.is_empty()
        };
        drop(book);
        if is_empty {
            self.tidy(place);
        }
    }
}

impl Engine {
    /// A request was done. It is stored when all is stored that it did: with the last record of the
    /// sessions that it is about, or else at once. So a caller that makes it again after a crash is
    /// answered from memory only if no session has lost it. Called with a pin held.
    pub(super) fn keep_request(&self, request: RequestRecord, about: &[SessionId]) {
        let Some(keeping) = &self.inner.keeping else { return };
        let session = |id: &SessionId| self.inner.registry.session(&request.app, id);
        let sessions: Vec<_> = about.iter().filter_map(session).collect();
        let request = Arc::new(request);
        let mut waits_for = Vec::new();
        for live in &sessions {
            let mut state = live.lock();
            let State { core, gate, closed, .. } = &mut *state;
            if is_to_session(&request)
                && let Some(whole) = gate.as_mut().and_then(|gate| gate.whole.as_mut())
            {
                whole.push(RequestRecord::clone(&request));
            }
            match gate {
                // What was done on a user is stored with the user, whatever its sessions are.
                None if matches!(request.reply, record::Reply::OnUser(_)) => {}
                // Nothing that was done there is stored.
                None => return,
                // Its last record is on its way.
                Some(gate) if *closed || (!core.is_open() && gate.asked == Some(core.mark())) => {}
                Some(gate) => {
                    gate.requests.push(request.clone());
                    waits_for.push(live);
                }
            }
        }
        keeping.put_request(request, &sessions);
        // After all of them have it: the first would take it along.
        waits_for.into_iter().for_each(|live| self.keep(live, &mut live.lock()));
    }

    /// A request that was done by the last owner, and not too long ago.
    pub(in crate::engine) fn remember_again(&self, request: RequestRecord) {
        let RequestRecord { app, place, by, id, content, at, reply } = request;
        let now = self.clock().now();
        let Ok(room) = self.inner.requests.room() else { return };
        // A clock that was set back does not have it remembered for longer.
        let at = at.min(now);
        if at + record::REMEMBERED_FOR <= now {
            return;
        }
        let reply = match reply {
            record::Reply::Message(bytes) => Reply::Message(bytes),
            record::Reply::Written(epoch, revision) => Reply::Written(Position { epoch, revision }),
            record::Reply::OnUser(written) => {
                let outcome = |(id, epoch, revision)| (id, Ok(Position { epoch, revision }));
                Reply::OnUser(written.into_iter().map(outcome).collect())
            }
        };
        let scope = Scope { place: (app, place), actor: by, about: None };
        self.inner.requests.with_ids(&scope, now, |ids, listed| {
            // A snapshot tells it again.
            if ids.entries.contains_key(&id) {
                return;
            }
            ids.remember(RequestId { field: "", id, content }, reply, room, at);
            let over = (at + record::REMEMBERED_FOR).max(now + SWEEP_INTERVAL);
            listed.get_or_insert_with(|| self.list_remembered(&scope.place, over));
        });
    }
}
