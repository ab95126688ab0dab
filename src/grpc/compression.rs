//! Compressed messages: gzip is read, nothing is compressed on the way out. What a client accepts,
//! which most libraries say of themselves, is no wish; and frames are small, and shared.

use super::error::Refusal;
use super::status::Node;
use crate::proto::ErrorReason;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue};
use std::io::Read;
use tonic::{Code, Status};

/// Says how the messages of a request are compressed, where their flag says that they are.
const ENCODING: &str = "grpc-encoding";

/// Says which encodings the other side reads.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

const GZIP: &str = "gzip";
const IDENTITY: &str = "identity";

/// The size of a gzip trailer, whose second half is the size of what was compressed, modulo 2^32.
const TRAILER: usize = 8;

/// Whether the compressed messages of this request are gzip.
pub fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_some_and(|encoding| encoding == GZIP)
}

/// The refusal of a request in an encoding that is not read; its metadata names those that are.
pub fn check(headers: &HeaderMap, node: &Node) -> Result<(), Status> {
    let Some(encoding) = headers.get(ENCODING) else { return Ok(()) };
    if encoding == GZIP || encoding == IDENTITY {
        return Ok(());
    }
    let told = format!("{ENCODING}: {encoding:?} is not read, {IDENTITY} and {GZIP} are");
    let mut status = node.end(Code::Unimplemented, ErrorReason::NotImplemented, &told, None);
    let read = const { HeaderValue::from_static("identity,gzip") };
    status.metadata_mut().as_mut().insert(ACCEPT_ENCODING, read);
    Err(status)
}

/// What was compressed with gzip, if it has at most `most` bytes. Allocates no more than that, and
/// no more than the trailer says: what is longer than its trailer says is broken.
pub fn inflate(bytes: &[u8], most: usize) -> Result<Bytes, Refusal> {
    let broken = |fault: &str| Refusal::Malformed(format!("it is not gzip: {fault}"));
    let fault = |error: std::io::Error| broken(&error.to_string());
    let trailer = bytes.last_chunk::<TRAILER>().ok_or_else(|| broken("it is too short"))?;
    let [.., a, b, c, d] = *trailer;
    let size = u32::from_le_bytes([a, b, c, d]) as usize;
    let room = size.min(most);
    let mut inflated = Vec::with_capacity(room);
    let mut decoder = GzDecoder::new(bytes);
    decoder.by_ref().take(room as u64).read_to_end(&mut inflated).map_err(fault)?;
    // Reading on to the end compares the trailer.
    match decoder.read(&mut [0]).map_err(fault)? {
        0 => Ok(inflated.into()),
        _ if size > most => Err(Refusal::MessageTooLarge { most }),
        _ => Err(broken("it is longer than its trailer says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory is writable");
        encoder.finish().expect("memory is writable")
    }

    /// Compressed zeros whose trailer says another size.
    fn bomb(size: usize, told: u32) -> Vec<u8> {
        let mut bytes = deflated(&vec![0; size]);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&told.to_le_bytes());
        bytes
    }

    #[test]
    fn what_inflates_to_the_limit_is_read_and_a_byte_more_is_refused() {
        let bytes = deflated(&[7; 1000]);
        assert_eq!(inflate(&bytes, 1000).expect("it fits"), vec![7; 1000]);
        assert_eq!(inflate(&bytes, 999), Err(Refusal::MessageTooLarge { most: 999 }));
    }

    #[test]
    fn nothing_inflates_to_nothing() {
        assert_eq!(inflate(&deflated(b""), 0).expect("it fits"), b"".as_slice());
    }

    #[test]
    fn a_bomb_is_refused_by_its_trailer_or_for_lying_in_it() {
        let honest = bomb(64 << 20, 64 << 20);
        assert_eq!(inflate(&honest, 65_536), Err(Refusal::MessageTooLarge { most: 65_536 }));
        for told in [0, 1000] {
            let fault = inflate(&bomb(64 << 20, told), 65_536).expect_err("it lies");
            assert!(matches!(fault, Refusal::Malformed(_)), "{fault:?}");
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_malformed() {
        let whole = deflated(b"some text that is long enough to be compressed");
        let is_malformed = |bytes: &[u8]| matches!(inflate(bytes, 100), Err(Refusal::Malformed(_)));
        for length in 0..TRAILER {
            assert!(is_malformed(&whole[..length]), "{length} bytes");
        }
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        assert!(is_malformed(&changed));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_within_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(inflate(&bytes, 64).map_or(true, |it| it.len() <= 64));
        }

        #[test]
        fn a_byte_that_is_cut_off_or_flipped_yields_no_other_message(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = deflated(&bytes);
            let mut flipped = whole.clone();
            flipped[at.index(whole.len())] ^= 0x55;
            for broken in [&whole[..at.index(whole.len())], &flipped[..]] {
                prop_assert!(inflate(broken, 64).map_or(true, |it| it == bytes));
            }
        }
    }
}
