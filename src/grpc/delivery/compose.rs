//! The messages of streams that carry sessions: shared bytes of updates, then what is the stream's
//! own.

use crate::{
    grpc::encode::{MAX_MESSAGE_BYTES, PREFIX, head_len, put_head, put_prefix, put_varint},
    grpc::field::{
        receive_session_updates_response, session_delivery, stream_user_props_response,
        subscribe_to_session_response,
    },
    session::ids::SessionId,
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{encoded_len_varint, key_len},
};

/// The most bytes of updates and refusals in a message; beside them it has a few numbers and ids.
pub const MOST: usize = MAX_MESSAGE_BYTES - 256;

/// The field of the updates, in every response that has several.
const UPDATES: u32 = stream_user_props_response::UPDATES;

// What a feed says is the content of a response of one session and of a delivery among several.
const _: () = assert!(
    UPDATES == receive_session_updates_response::UPDATES
        && session_delivery::UPDATE == subscribe_to_session_response::UPDATE
);

/// One session's update in a message: a `SessionDelivery`.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What a [`super::feed::Feed`] said.
    pub update: Bytes,
    /// The client's number for the session; 0 = none.
    pub handle: u32,
    /// The session, where the message names it.
    pub session_id: Option<SessionId>,
}

impl Delivery {
    /// How long it is in a message.
    pub fn len(&self) -> usize {
        let content = self.content_len();
        head_len(UPDATES, content) + content
    }

    fn content_len(&self) -> usize {
        let handle = match self.handle {
            0 => 0,
            handle => key_len(session_delivery::HANDLE) + encoded_len_varint(handle.into()),
        };
        let id = self.session_id.as_ref();
        let id = id.map_or(0, |id| head_len(session_delivery::SESSION_ID, id.len()) + id.len());
        self.update.len() - PREFIX + handle + id
    }

    fn put(&self, buf: &mut BytesMut) {
        put_head(buf, UPDATES, self.content_len());
        buf.put_slice(&self.update[PREFIX..]);
        if self.handle > 0 {
            put_varint(buf, session_delivery::HANDLE, self.handle.into());
        }
        if let Some(id) = &self.session_id {
            put_head(buf, session_delivery::SESSION_ID, id.len());
            buf.put_slice(id.as_bytes());
        }
    }
}

/// A response that begins with updates; `rest` has the others.
pub fn compose(updates: &[Delivery], rest: &impl Message) -> Bytes {
    let content = updates.iter().map(Delivery::len).sum::<usize>() + rest.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + content);
    put_prefix(&mut bytes, content);
    updates.iter().for_each(|update| update.put(&mut bytes));
    rest.encode_raw(&mut bytes);
    bytes.freeze()
}

/// A whole message with its prefix.
pub fn framed(message: &impl Message) -> Bytes {
    compose(&[], message)
}
