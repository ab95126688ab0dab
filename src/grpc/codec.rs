//! Protobuf for the calls that tonic serves, with the refusals of this service for what cannot be
//! decoded.

use super::{
    status::Node,
    weight::{self, Shaped},
};
use bytes::Buf;
use prost::Message;
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder},
};
use tonic_prost::ProstCodec;

/// prost's codec, except that a message that cannot be decoded is MALFORMED_MESSAGE, and that a
/// request that would take too much memory is refused.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Shaped + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as tonic::codec::Codec>::Encoder;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes, or says why not.
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Default + Shaped> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        weight::decode(src.copy_to_bytes(src.remaining())).map(Some).map_err(|refusal| {
            // Not a NOT_FOUND, so the node's details are not asked for.
            let node = Node { name: String::new(), started_at: String::new() };
            node.status(&refusal)
        })
    }
}
