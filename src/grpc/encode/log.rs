//! Every accepted write and event, one by one, as messages.

use super::{Body, Part, field, head_len, put_bytes, put_head, put_varint, whole};
use crate::{
    engine::encoder::{Encoded, Message, Start, UpdateSpan, UpdateSpans},
    session::{Session, ids::UserId, revision::Revision, view::View},
};
use prost::encoding::encoded_len_varint;

/// The updates of one message while it grows.
#[derive(Default)]
struct Updates {
    bytes: Vec<u8>,
    /// Those with props of a member.
    own: Vec<(UserId, UpdateSpan)>,
}

/// The updates from a start on, at most so many bytes of them in a message; none if the view shows
/// nothing of them. An update that has more goes on in another of the same revision.
pub fn updates(
    session: &Session,
    view: &View,
    start: Start,
    spans: bool,
    most: usize,
) -> Option<Encoded> {
    let mut done = Vec::new();
    let mut updates = Updates::default();
    for (revision, event) in session.logged_after(start.after) {
        let mut body = Body::new(spans, None, most - 64);
        session.show_logged(view, event, &mut body);
        for part in body.into_parts() {
            let bytes = update_len(revision, part.changes.len()) + 8;
            if updates.bytes.len() + bytes > most {
                done.push(std::mem::take(&mut updates));
            }
            updates.put(revision, &part);
        }
    }
    if !updates.bytes.is_empty() {
        done.push(updates);
    }
    let last = done.len().checked_sub(1)?;
    let to = session.revision();
    let parts = done.into_iter().enumerate();
    let messages = parts.map(|(at, updates)| updates.message(start.from, to, at < last));
    Some(Encoded { messages: messages.collect() })
}

impl Updates {
    fn put(&mut self, revision: Revision, part: &Part) {
        let start = self.bytes.len();
        put_update(&mut self.bytes, revision, &part.changes);
        let range = start..self.bytes.len();
        for (user, span) in &part.members {
            let has_props = span.status.is_empty() || span.status.end < span.whole.end;
            if !has_props {
                continue;
            }
            let mut rest = part.changes[..span.whole.start].to_vec();
            if !span.status.is_empty() {
                let status = &part.changes[span.status.clone()];
                put_bytes(&mut rest, field::changes::MEMBERS, status);
            }
            rest.extend_from_slice(&part.changes[span.whole.end..]);
            let mut without = Vec::new();
            if !rest.is_empty() {
                put_update(&mut without, revision, &rest);
            }
            self.own.push((user.clone(), UpdateSpan { whole: range.clone(), rest: without }));
        }
    }

    fn message(self, from: Revision, to: Revision, more: bool) -> Message {
        use field::session_update as update;
        let mut start = Vec::with_capacity(32);
        put_varint(&mut start, update::FROM_REVISION, from.0);
        put_varint(&mut start, update::TO_REVISION, to.0);
        if more {
            put_varint(&mut start, update::MORE, 1);
        }
        put_head(&mut start, update::LOG, self.bytes.len());
        let (bytes, at) =
            whole(field::subscribe_to_session_response::UPDATE, &start, &[&self.bytes]);
        let mut spans = UpdateSpans { all: at..at + self.bytes.len(), ..UpdateSpans::default() };
        for (user, UpdateSpan { whole, rest }) in self.own {
            let whole = at + whole.start..at + whole.end;
            spans.of.entry(user).or_default().push(UpdateSpan { whole, rest });
        }
        let updates = (!spans.of.is_empty()).then_some(spans);
        Message { bytes, spans: None, updates }
    }
}

fn put_update(buf: &mut Vec<u8>, revision: Revision, changes: &[u8]) {
    put_head(buf, field::update_log::UPDATES, content_len(revision, changes.len()));
    put_varint(buf, field::logged_update::REVISION, revision.0);
    put_bytes(buf, field::logged_update::CHANGE, changes);
}

fn update_len(revision: Revision, changes: usize) -> usize {
    let content = content_len(revision, changes);
    head_len(field::update_log::UPDATES, content) + content
}

fn content_len(revision: Revision, changes: usize) -> usize {
    let revision = 1 + encoded_len_varint(revision.0);
    revision + head_len(field::logged_update::CHANGE, changes) + changes
}
