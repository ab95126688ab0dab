//! The messages of streams that carry sessions: shared bytes of updates, then what is the stream's
//! own.

use crate::{
    grpc::encode::{MAX_MESSAGE_BYTES, PREFIX, head_len, put_head, put_prefix, put_varint},
    session::ids::SessionId,
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, encoding::encoded_len_varint};

/// The most bytes of updates and refusals in a message; beside them it has a few numbers and ids.
pub const MOST: usize = MAX_MESSAGE_BYTES - 256;

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
        head_len(1, content) + content
    }

    fn content_len(&self) -> usize {
        let handle = match self.handle {
            0 => 0,
            handle => 1 + encoded_len_varint(handle.into()),
        };
        let id = self.session_id.as_ref().map_or(0, |id| head_len(3, id.len()) + id.len());
        self.update.len() - PREFIX + handle + id
    }

    fn put(&self, buf: &mut BytesMut) {
        put_head(buf, 1, self.content_len());
        // `SessionDelivery.update` and `SubscribeToSessionResponse.update` are both field 1.
        buf.put_slice(&self.update[PREFIX..]);
        if self.handle > 0 {
            put_varint(buf, 2, self.handle.into());
        }
        if let Some(id) = &self.session_id {
            put_head(buf, 3, id.len());
            buf.put_slice(id.as_bytes());
        }
    }
}

/// A response whose field 1 is the updates; `rest` has the others.
pub fn compose(updates: &[Delivery], rest: &impl Message) -> Bytes {
    let content = updates.iter().map(Delivery::len).sum::<usize>() + rest.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + content);
    put_prefix(&mut bytes, content);
    updates.iter().for_each(|update| update.put(&mut bytes));
    rest.encode_raw(&mut bytes);
    bytes.freeze()
}
