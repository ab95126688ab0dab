//! Frames as bytes. Written by hand over prost's primitives, because a frame is encoded once and
//! must record where each member lies in it; `tests` holds it against the generated types.

mod columns;
mod exclude;
mod log;
mod value;

pub use exclude::{is_only_props_of, without_props_of};

use super::{convert::to_proto, field};
use crate::{
    engine::encoder::{
        Delivery, Encoded, Encoder, MemberSpan, Message, Snapshot, SnapshotReason, Spans, Start,
    },
    proto,
    session::{
        Info, Session,
        ids::UserId,
        member::Departure,
        revision::Revision,
        size,
        value::Value,
        view::{ChangeSink, Class, MemberChange, View},
    },
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use std::ops::Range;
use value::put_value;

/// No response message is larger: gRPC clients refuse 4 MiB by default.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// What a message may hold beside the changes: prefix, lengths, positions, acks, a user id.
const OVERHEAD: usize = 1024;

/// The length of what precedes a gRPC message: a flag and four bytes of length.
pub const PREFIX: usize = 5;

/// Encodes by name or in columns, in messages that are whole `SubscribeToSessionResponse`s with their gRPC prefix.
/// Behind the prefix is the field `update`, which every response of a stream has under the number 1
/// or holds in its own.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// The most bytes of a message.
    most: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self::with_messages_of(MAX_MESSAGE_BYTES)
    }
}

impl Wire {
    /// With messages of at most so many bytes, and at least of a few thousand: steps come in parts
    /// sooner.
    pub fn with_messages_of(bytes: usize) -> Self {
        Self { most: bytes - OVERHEAD }
    }
}

impl Encoder for Wire {
    fn changes(
        &self,
        session: &Session,
        view: &View,
        start: Start,
        spans: bool,
    ) -> Option<Encoded> {
        let mut body = Body::new(spans, None, self.most);
        session.show_changes(view, start.after, &mut body);
        body.finish(&Head::of_step(session, start), false)
    }

    fn columns(&self, session: &Session, view: &View, start: Start) -> Option<Encoded> {
        columns::changes(session, view, start, self.most)
    }

    fn log(&self, session: &Session, view: &View, start: Start, spans: bool) -> Option<Encoded> {
        log::updates(session, view, start, spans, self.most)
    }

    fn snapshot(
        &self,
        session: &Session,
        view: &View,
        snapshot: Snapshot,
        except: Option<&UserId>,
    ) -> Encoded {
        if snapshot.delivery == Delivery::Columns {
            return columns::snapshot(session, view, snapshot, self.most);
        }
        let mut body = Body::new(false, except.cloned(), self.most);
        session.show_all(view, &mut body);
        if snapshot.since.is_some() {
            session.show_departures(snapshot.since, &mut body);
        }
        let head = Head::of_snapshot(session, view, snapshot, except);
        body.finish(&head, true).unwrap_or_default()
    }
}

/// What a step says beside its changes.
struct Head {
    from: Revision,
    to: Revision,
    snapshot: Option<SnapshotHead>,
}

/// What a snapshot says beside the state.
struct SnapshotHead {
    epoch: u64,
    reason: SnapshotReason,
    view: u32,
    lost_from: Revision,
}

impl Head {
    fn of_step(session: &Session, start: Start) -> Self {
        Self { from: start.from, to: session.revision(), snapshot: None }
    }

    fn of_snapshot(
        session: &Session,
        view: &View,
        snapshot: Snapshot,
        except: Option<&UserId>,
    ) -> Self {
        let Snapshot { reason, since: _, lost_from, delivery } = snapshot;
        let snapshot = SnapshotHead {
            epoch: session.epoch().0,
            reason,
            view: delivery.fingerprint(session, view, except),
            lost_from,
        };
        Self { from: Revision::NONE, to: session.revision(), snapshot: Some(snapshot) }
    }
}

/// One part of a step while it grows: the content of a `Changes`.
#[derive(Default)]
struct Part {
    changes: Vec<u8>,
    members: Vec<(UserId, MemberSpan)>,
}

/// The changes of a step, in parts that fit a message each.
struct Body {
    done: Vec<Part>,
    part: Part,
    /// The content of the `MemberChange` that is growing, and whose it is.
    member: Vec<u8>,
    user: Option<UserId>,
    /// How much of it comes before the props, if that says more than whose it is.
    status: usize,
    spans: bool,
    /// Whose props are left out.
    except: Option<UserId>,
    muted: bool,
    most: usize,
}

impl Body {
    fn new(spans: bool, except: Option<UserId>, most: usize) -> Self {
        Self {
            done: Vec::new(),
            part: Part::default(),
            member: Vec::new(),
            user: None,
            status: 0,
            spans,
            except,
            muted: false,
            most,
        }
    }

    /// Sees to it that `bytes` more fit into the current part. A member that is growing goes on in
    /// the next part.
    fn make_room(&mut self, bytes: usize) {
        if self.has_room(bytes) {
            return;
        }
        let user = self.user.clone();
        self.end_member();
        self.end_part();
        if let Some(user) = user {
            put_bytes(&mut self.member, field::member_change::USER_ID, user.as_bytes());
            self.user = Some(user);
        }
    }

    /// Whether `bytes` more fit into the current part.
    fn has_room(&self, bytes: usize) -> bool {
        self.part.changes.len() + self.member.len() + bytes + 16 <= self.most
    }

    fn end_part(&mut self) {
        if !self.part.changes.is_empty() {
            self.done.push(std::mem::take(&mut self.part));
        }
    }

    fn end_member(&mut self) {
        let Some(user) = self.user.take() else { return };
        let start = self.part.changes.len();
        put_bytes(&mut self.part.changes, field::changes::MEMBERS, &self.member);
        let (end, status) = (self.part.changes.len(), std::mem::take(&mut self.status));
        if self.spans {
            let content = end - self.member.len();
            let span = MemberSpan { whole: start..end, status: content..content + status };
            self.part.members.push((user, span));
        }
        self.member.clear();
    }

    fn put_named(
        &mut self,
        to_member: bool,
        set: u32,
        gone: u32,
        key: &str,
        value: Option<&Value>,
    ) {
        let size = key.len() + 8 + value.map_or(0, size::of);
        self.make_room(size);
        let buf = if to_member { &mut self.member } else { &mut self.part.changes };
        match value {
            None => put_bytes(buf, gone, key.as_bytes()),
            Some(value) => {
                let len = size::of(value) + bytes_len(field::named_value::NAME, key.len());
                put_head(buf, set, len);
                put_value(buf, value);
                put_bytes(buf, field::named_value::NAME, key.as_bytes());
            }
        }
    }

    /// What was shown, in parts; none if nothing was.
    fn into_parts(mut self) -> Vec<Part> {
        self.end_member();
        self.end_part();
        self.done
    }

    /// The messages; none if there is nothing to say and `even_empty` does not ask for it.
    fn finish(self, head: &Head, even_empty: bool) -> Option<Encoded> {
        let mut parts = self.into_parts();
        if even_empty && parts.is_empty() {
            parts.push(Part::default());
        }
        let last = parts.len().checked_sub(1)?;
        let parts = parts.into_iter().enumerate();
        let messages = parts.map(|(at, part)| part.message(head, at, at < last));
        Some(Encoded { messages: messages.collect() })
    }
}

impl Part {
    /// The part as a whole message. The first part of a snapshot is the snapshot, all others are
    /// changes.
    fn message(self, head: &Head, at: usize, more: bool) -> Message {
        use field::{session_update as update, snapshot, subscribe_to_session_response::UPDATE};
        let changes = self.changes.len();
        let mut start = Vec::with_capacity(64);
        let first = head.snapshot.as_ref().filter(|_| at == 0);
        match first {
            Some(first) => put_varint(&mut start, update::EPOCH, first.epoch),
            None => put_varint(&mut start, update::FROM_REVISION, head.from.0),
        }
        put_varint(&mut start, update::TO_REVISION, head.to.0);
        if more {
            put_varint(&mut start, update::MORE, 1);
        }
        match first {
            Some(first) => {
                let reason = to_proto::snapshot_reason(first.reason);
                let mut inner = Vec::with_capacity(48);
                put_varint(&mut inner, snapshot::REASON, reason as u64);
                encode_key(snapshot::VIEW, WireType::ThirtyTwoBit, &mut inner);
                inner.put_u32_le(first.view);
                if first.lost_from.is_some() {
                    put_varint(&mut inner, snapshot::LOST_FROM, first.lost_from.0);
                    put_varint(&mut inner, snapshot::LOST_TO, head.to.0);
                }
                put_head(&mut inner, snapshot::STATE, changes);
                put_head(&mut start, update::SNAPSHOT, inner.len() + changes);
                start.extend_from_slice(&inner);
            }
            None => put_head(&mut start, update::CHANGES, changes),
        }
        let (bytes, at) = whole(UPDATE, &start, &[&self.changes]);
        let within = |range: Range<usize>| at + range.start..at + range.end;
        let spans = (!self.members.is_empty()).then(|| Spans {
            changes: within(0..changes),
            members: self
                .members
                .into_iter()
                .map(|(user, MemberSpan { whole, status })| {
                    (user, MemberSpan { whole: within(whole), status: within(status) })
                })
                .collect(),
        });
        Message { bytes, spans, updates: None }
    }
}

impl ChangeSink<'_> for Body {
    fn session(&mut self, session: &Session, info: &Info, class: Class) {
        let info = to_proto::session_info(session, info, Some(class)).encode_to_vec();
        self.make_room(info.len() + 8);
        put_bytes(&mut self.part.changes, field::changes::SESSION, &info);
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        self.put_named(false, field::changes::DATA, field::changes::DATA_REMOVED, key, value);
    }

    fn private_data(&mut self, key: &str, value: Option<&Value>) {
        let (set, gone) = (field::changes::PRIVATE_DATA, field::changes::PRIVATE_DATA_REMOVED);
        self.put_named(false, set, gone, key, value);
    }

    fn member(&mut self, change: MemberChange<'_>) {
        self.end_member();
        self.muted = self.except.as_ref() == Some(change.user);
        self.make_room(change.user.len() + 32);
        self.user = Some(change.user.clone());
        let buf = &mut self.member;
        put_bytes(buf, field::member_change::USER_ID, change.user.as_bytes());
        if change.replaces {
            put_varint(buf, field::member_change::REPLACES, 1);
        }
        if let Some(role) = change.role {
            put_varint(buf, field::member_change::ROLE, to_proto::role(role) as u64);
        }
        if let Some(disconnected) = change.disconnected {
            put_varint(buf, field::member_change::DISCONNECTED, u64::from(disconnected));
        }
        if let Some(order) = change.order {
            put_varint(buf, field::member_change::JOIN_ORDER, order);
        }
        if change.replaces || change.role.is_some() || change.disconnected.is_some() {
            self.status = buf.len();
        }
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        if !self.muted {
            self.put_named(
                true,
                field::member_change::PROPS,
                field::member_change::REMOVED,
                key,
                value,
            );
        }
    }

    fn left(&mut self, user: &str, departure: Departure) {
        let reason = to_proto::departure(departure);
        let left = proto::Departure { user_id: user.to_owned(), reason: reason.into() };
        self.end_member();
        self.make_room(left.encoded_len() + 8);
        put_bytes(&mut self.part.changes, field::changes::LEFT, &left.encode_to_vec());
    }
}

/// A whole gRPC message: prefix, head of a field, content. Also returns where `rest` begins.
fn whole(tag: u32, start: &[u8], rest: &[&[u8]]) -> (Bytes, usize) {
    let content = start.len() + rest.iter().map(|slice| slice.len()).sum::<usize>();
    let total = head_len(tag, content) + content;
    let mut buf = BytesMut::with_capacity(PREFIX + total);
    put_prefix(&mut buf, total);
    put_head(&mut buf, tag, content);
    buf.put_slice(start);
    let at = buf.len();
    for slice in rest {
        buf.put_slice(slice);
    }
    (buf.freeze(), at)
}

/// The five bytes before a message that is not compressed.
pub fn put_prefix(buf: &mut impl BufMut, len: usize) {
    buf.put_u8(0);
    buf.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// The head of a length-delimited field.
pub fn put_head(buf: &mut impl BufMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(len as u64, buf);
}

/// How long that head is.
pub fn head_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64)
}

/// A varint field.
pub fn put_varint(buf: &mut impl BufMut, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, buf);
    encode_varint(value, buf);
}

fn put_bytes(buf: &mut impl BufMut, tag: u32, bytes: &[u8]) {
    put_head(buf, tag, bytes.len());
    buf.put_slice(bytes);
}

fn bytes_len(tag: u32, len: usize) -> usize {
    head_len(tag, len) + len
}

#[cfg(test)]
mod tests;
