//! How much a message of a gateway may hold, looked at before it is decoded.

use crate::grpc::{error::Refusal, field::gateway_request, weight::check_gateway, wire::field};
use bytes::Bytes;

/// A message as it may be decoded: whole, or, with the refusal of all its parts, without them.
pub fn within_bounds(message: Bytes) -> (Bytes, Option<Refusal>) {
    match check_gateway(&message) {
        Ok(()) => (message, None),
        Err(refusal) => (without_parts(&message), Some(refusal)),
    }
}

/// The number of a message, whether it opens the stream, and what does not decode.
fn without_parts(message: &[u8]) -> Bytes {
    let (mut kept, mut before) = (Vec::new(), message);
    while !before.is_empty() {
        let mut rest = before;
        let number = field(&mut rest).map(|(number, _)| number);
        match number {
            Some(gateway_request::SEQ | gateway_request::HELLO) => {
                kept.extend_from_slice(&before[..before.len() - rest.len()]);
            }
            Some(_) => {}
            None => {
                kept.extend_from_slice(before);
                break;
            }
        }
        before = rest;
    }
    kept.into()
}
