//! Where a client is that comes through a proxy: what the proxy says before anything else, by version
//! 2 of the PROXY protocol.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, and the four bytes that say what else there is.
const HEAD: usize = 16;

/// The most that a header may tell beside its head, in bytes: addresses, and what is passed over.
const MOST: usize = 4096;

/// Reads the header of a connection that a proxy has opened, and not a byte more; where the client
/// is, or none where the proxy speaks for itself, as it does to learn whether the server is well.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; HEAD];
    socket.read_exact(&mut head).await?;
    let told = length(&head).map_err(fault)?;
    let mut rest = [0; MOST];
    socket.read_exact(&mut rest[..told]).await?;
    client(&head, &rest[..told]).map_err(fault)
}

fn fault(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// How much there is beside the head.
fn length(head: &[u8; HEAD]) -> Result<usize, &'static str> {
    if head[..12] != SIGNATURE {
        return Err("it sends no header of the PROXY protocol, version 2");
    }
    if head[12] >> 4 != 2 {
        return Err("its PROXY protocol is of another version than 2");
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > MOST { Err("its header is too long") } else { Ok(length) }
}

/// Where the client is.
fn client(head: &[u8; HEAD], rest: &[u8]) -> Result<Option<IpAddr>, &'static str> {
    const TOO_SHORT: &str = "its header is too short for the addresses";
    match head[12] & 0xf {
        0 => return Ok(None),
        1 => {}
        _ => return Err("its header is of an unknown kind"),
    }
    // The family of the addresses, and how the client came.
    match (head[13] >> 4, head[13] & 0xf) {
        (0, _) => Ok(None),
        (1, 1) => {
            let (source, _) =
                rest.split_first_chunk::<4>().filter(|_| rest.len() >= 12).ok_or(TOO_SHORT)?;
            Ok(Some(Ipv4Addr::from(*source).into()))
        }
        (2, 1) => {
            let (source, _) =
                rest.split_first_chunk::<16>().filter(|_| rest.len() >= 36).ok_or(TOO_SHORT)?;
            Ok(Some(IpAddr::from(Ipv6Addr::from(*source)).to_canonical()))
        }
        _ => Err("its header names a client that did not come by TCP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn told(bytes: &[u8]) -> Result<Option<IpAddr>, String> {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let read = runtime.block_on(read(&mut rest)).map_err(|error| error.to_string());
        if read.is_ok() {
            assert_eq!(rest, b"next", "not a byte more is read");
        }
        read
    }

    fn with_next(mut header: Vec<u8>) -> Vec<u8> {
        header.extend(b"next");
        header
    }

    const OF_V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1b, 0x58];

    fn of_v6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0x12, 0x34, 0x1b, 0x58]].concat()
    }

    #[test]
    fn a_header_says_where_the_client_is() {
        let v4 = Ok(Some("192.0.2.7".parse().expect("an address")));
        assert_eq!(told(&with_next(header(0x21, 0x11, &OF_V4))), v4);
        let v6 = Ok(Some("2001:db8::7".parse().expect("an address")));
        assert_eq!(told(&with_next(header(0x21, 0x21, &of_v6()))), v6);
        // What is said beside the addresses is passed over, as much as may be said.
        let more = [&OF_V4[..], &[4; MOST - 12]].concat();
        assert_eq!(told(&with_next(header(0x21, 0x11, &more))), v4);
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        assert_eq!(told(&with_next(header(0x20, 0, &[]))), Ok(None));
        assert_eq!(told(&with_next(header(0x20, 0x11, &OF_V4))), Ok(None));
        assert_eq!(told(&with_next(header(0x21, 0, &[1, 2, 3]))), Ok(None));
    }

    #[test]
    fn whatever_else_comes_is_refused() {
        let wrong = [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "no header"),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), "no header"),
            (header(0x11, 0x11, &OF_V4), "another version"),
            (header(0x22, 0x11, &OF_V4), "unknown kind"),
            (header(0x21, 0x12, &OF_V4), "TCP"),
            (header(0x21, 0x31, &[0; 216]), "TCP"),
            (header(0x21, 0x11, &OF_V4[..11]), "too short"),
            (header(0x21, 0x21, &of_v6()[..35]), "too short"),
            (header(0x21, 0x11, &[0; MOST + 1]), "too long"),
        ];
        for (bytes, fault) in wrong {
            let told = told(&bytes).expect_err(fault);
            assert!(told.contains(fault), "{told}");
        }
        let whole = header(0x21, 0x11, &OF_V4);
        for cut in 0..whole.len() {
            told(&whole[..cut]).expect_err("it is cut off");
        }
    }
}
