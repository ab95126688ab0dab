//! A shared message without what one subscriber wants to be left out. What was recorded says where it
//! lies, so that nothing is encoded again.

use super::{PREFIX, field, head_len, put_bytes, put_head, whole};
use crate::{
    engine::encoder::{Message, Spans, UpdateSpan, UpdateSpans},
    session::ids::UserId,
};
use bytes::Bytes;
use std::ops::Range;

/// Whether nothing but the props of one member is in a message.
pub fn is_only_props_of(message: &Message, user: &UserId) -> bool {
    if let Some(UpdateSpans { all, of }) = &message.updates {
        let own = of.get(user).map_or(&[][..], Vec::as_slice);
        let bytes: usize = own.iter().map(|update| update.whole.len()).sum();
        return bytes == all.len() && own.iter().all(|update| update.rest.is_empty());
    }
    let Some(spans) = &message.spans else { return false };
    let own = spans.members.get(user);
    own.is_some_and(|own| own.whole == spans.changes && own.status.is_empty())
}

/// A message without the props of one member.
pub fn without_props_of(message: &Message, user: &UserId) -> Bytes {
    let bytes = &message.bytes;
    match (&message.updates, &message.spans) {
        (Some(updates), _) => without_updates_of(bytes, updates, user),
        (None, Some(spans)) => without_member(bytes, spans, user),
        (None, None) => bytes.clone(),
    }
}

fn without_member(bytes: &Bytes, spans: &Spans, user: &UserId) -> Bytes {
    let Some(own) = spans.members.get(user) else { return bytes.clone() };
    let (before, after) =
        (&bytes[spans.changes.start..own.whole.start], &bytes[own.whole.end..spans.changes.end]);
    let mut status = Vec::new();
    if !own.status.is_empty() {
        put_bytes(&mut status, field::changes::MEMBERS, &bytes[own.status.clone()]);
    }
    with_other_content(
        bytes,
        field::session_update::CHANGES,
        &spans.changes,
        &[before, &status, after],
    )
}

fn without_updates_of(
    bytes: &Bytes,
    UpdateSpans { all, of }: &UpdateSpans,
    user: &UserId,
) -> Bytes {
    let Some(own) = of.get(user) else { return bytes.clone() };
    let mut pieces = Vec::with_capacity(2 * own.len() + 1);
    let mut at = all.start;
    for UpdateSpan { whole, rest } in own {
        pieces.extend([&bytes[at..whole.start], rest]);
        at = whole.end;
    }
    pieces.push(&bytes[at..all.end]);
    with_other_content(bytes, field::session_update::LOG, all, &pieces)
}

/// A message whose last field, of the number `tag`, has other content.
fn with_other_content(bytes: &Bytes, tag: u32, old: &Range<usize>, new: &[&[u8]]) -> Bytes {
    // The head of the update: what stands between the field's own head and that of the content.
    let content_head = head_len(tag, old.len());
    let update_len = bytes.len() - PREFIX;
    let update_head = update_len - inner_len(update_len);
    let mut start = bytes[PREFIX + update_head..old.start - content_head].to_vec();
    put_head(&mut start, tag, new.iter().map(|piece| piece.len()).sum());
    whole(field::subscribe_to_session_response::UPDATE, &start, new).0
}

/// How long the content of the field of the update is that takes `total` bytes.
fn inner_len(total: usize) -> usize {
    (1..=5)
        .map(|len| total - 1 - len)
        .find(|inner| {
            head_len(field::subscribe_to_session_response::UPDATE, *inner) + inner == total
        })
        .unwrap_or(0)
}
