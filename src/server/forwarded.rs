//! Where the caller is whose call a proxy passes on beside those of others: what the proxy writes into
//! the headers of each call.

use crate::config::Networks;
use http::HeaderMap;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The header in which each proxy adds, on the right, where the call came to it from.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where the caller is: the entry furthest to the right that is of no proxy. What is further left
/// anybody may have written. None where no entry is left, or where one cannot be read.
pub fn caller(headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        // What is further left may be anything, and is not looked at.
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            let address = address(str::from_utf8(entry).ok()?.trim_matches([' ', '\t']))?;
            if !is_proxy(address) {
                return Some(address);
            }
        }
    }
    None
}

/// An address with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|it| it.ip());
    let address = entry.parse().ok().or_else(with_port).or_else(bracketed);
    address.map(|it: IpAddr| it.to_canonical())
}

/// The proxies whose headers of calls are believed, where a connection is of one of them.
#[derive(Debug, Clone)]
pub struct Forwarders(Arc<[Networks]>);

impl Forwarders {
    /// Those that are believed on a connection from this address; none = what is written there is a
    /// client's.
    pub fn at(address: IpAddr, forwarding: &Networks, trusted: &Networks) -> Option<Self> {
        // What only begins connections adds nothing to a header, but it may stand in front of one that
        // does.
        forwarding.have(address).then(|| Self([forwarding.clone(), trusted.clone()].into()))
    }

    /// Where the caller of a call is, as far as they say so.
    pub fn caller(&self, headers: &HeaderMap) -> Option<IpAddr> {
        caller(headers, |address| self.0.iter().any(|networks| networks.have(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Who calls, where 10.0.0.0/8 and 2001:db8:f::/48 are proxies.
    fn says(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("a header may have it");
            headers.append(FORWARDED_FOR, line);
        }
        let proxies = Networks::of("10.0.0.0/8,2001:db8:f::/48").expect("networks");
        caller(&headers, |address| proxies.have(address)).map(|it| it.to_string())
    }

    #[test]
    fn the_entry_furthest_right_that_is_of_no_proxy_is_the_caller() {
        let says = |lines: &[&str]| says(lines).expect("it is read");
        assert_eq!(says(&["192.0.2.7"]), "192.0.2.7");
        assert_eq!(says(&["198.51.100.1, 192.0.2.7"]), "192.0.2.7", "the first may be made up");
        assert_eq!(says(&["198.51.100.1, 192.0.2.7 ,10.0.0.1,\t10.9.9.9"]), "192.0.2.7");
        assert_eq!(says(&["198.51.100.1", "192.0.2.7", "10.0.0.1"]), "192.0.2.7");
        assert_eq!(
            says(&["nonsense, \u{e9}, 192.0.2.7"]),
            "192.0.2.7",
            "nobody looks further left"
        );
        assert_eq!(says(&["192.0.2.7:1234, 10.0.0.1:80"]), "192.0.2.7");
        assert_eq!(says(&["2001:db8::7,2001:db8:f::1"]), "2001:db8::7");
        assert_eq!(says(&["[2001:db8::7]:443, [2001:db8:f::1]"]), "2001:db8::7");
        assert_eq!(says(&["::ffff:192.0.2.7, ::ffff:10.0.0.1"]), "192.0.2.7");
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        for lines in [
            &[][..],
            &[""],
            &["10.0.0.1"],
            &["10.0.0.1, 10.0.0.2", "10.0.0.3"],
            &["192.0.2.7, "],
            &["192.0.2.7, nonsense"],
            &["192.0.2.7, nonsense, 10.0.0.1"],
            &["192.0.2.7", "unknown"],
            &["192.0.2.7", "\u{e9}"],
            &["192.0.2"],
            &["192.0.2.7:99999"],
            &["[2001:db8::7"],
            &["192.0.2.7 10.0.0.1"],
            &["_hidden"],
        ] {
            assert_eq!(says(lines), None, "{lines:?}");
        }
    }
}
