//! Where to listen, as people write it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:7000`, or `7000` for that.
    At(SocketAddr),
    /// `:7000`, all interfaces.
    Everywhere(u16),
    /// `localhost:7000`, the first address of this name that the machine has.
    Named(String, u16),
}

impl Listen {
    /// Reads it; none for a text that is no address.
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Listen::At(address));
        }
        if let Some(port) = port(text) {
            return Some(Listen::At((Ipv4Addr::LOCALHOST, port).into()));
        }
        let (host, digits) = text.rsplit_once(':')?;
        match (host, port(digits)?) {
            ("", port) => Some(Listen::Everywhere(port)),
            (host, port) => is_host_name(host).then(|| Listen::Named(host.to_owned(), port)),
        }
    }

    /// The port; 0 = any that is free.
    pub fn port(&self) -> u16 {
        match self {
            Listen::At(address) => address.port(),
            Listen::Everywhere(port) | Listen::Named(_, port) => *port,
        }
    }

    /// The addresses to try, in this order. Looks a name up, which may take a while.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Listen::At(address) => Ok(vec![*address]),
            // The first takes connections of IPv4, too, on a machine that has IPv6.
            Listen::Everywhere(port) => Ok(vec![
                (Ipv6Addr::UNSPECIFIED, *port).into(),
                (Ipv4Addr::UNSPECIFIED, *port).into(),
            ]),
            Listen::Named(host, port) => {
                let mut addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                Ok(addresses)
            }
        }
    }

    /// The addresses at which somebody on this machine reaches the one that listens here.
    pub fn addresses_to_ask(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = self.addresses()?;
        for address in &mut addresses {
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
        }
        Ok(addresses)
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Listen::At(address)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::At(address) => write!(out, "{address}"),
            Listen::Everywhere(port) => write!(out, ":{port}"),
            Listen::Named(host, port) => write!(out, "{host}:{port}"),
        }
    }
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Labels with dots between, the last of which is no number: 1.2.3 is a mistyped address.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(fits)
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Vec<String> {
        let addresses = Listen::read(text).expect("an address").addresses_to_ask();
        addresses.expect("an address").iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn an_address_is_written_in_many_ways() {
        let at = |address: &str| Some(Listen::At(address.parse().expect("an address")));
        assert_eq!(Listen::read("10.0.0.1:7000"), at("10.0.0.1:7000"));
        assert_eq!(Listen::read("[::1]:7000"), at("[::1]:7000"));
        assert_eq!(Listen::read("7000"), at("127.0.0.1:7000"));
        assert_eq!(Listen::read(":7000"), Some(Listen::Everywhere(7000)));
        for name in ["localhost", "node-1.example.org", "node_1.", "1a"] {
            let named = Some(Listen::Named(name.to_owned(), 7000));
            assert_eq!(Listen::read(&format!("{name}:7000")), named);
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for wrong in [
            "",
            ":",
            "localhost",
            "127.0.0.1",
            "::1",
            "1.2.3:7000",
            "1.2.3.4.5:7000",
            "a:70000",
            "a:-1",
            "+7000",
            ":+7000",
            "65536",
            "a b:7000",
            "a..b:7000",
            ".a:7000",
            "http://a:7000",
            "[::1:7000",
            "\u{e9}:7000",
            " a:7000",
            "a:7000 ",
        ] {
            assert_eq!(Listen::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_this_machine() {
        assert_eq!(asked("0.0.0.0:7000"), ["127.0.0.1:7000"]);
        assert_eq!(asked("[::]:7000"), ["[::1]:7000"]);
        assert_eq!(asked(":7000"), ["[::1]:7000", "127.0.0.1:7000"]);
        assert_eq!(asked("10.0.0.1:7000"), ["10.0.0.1:7000"]);
    }

    #[test]
    fn a_name_stands_for_its_addresses_ipv4_first() {
        let asked = asked("localhost:7000");
        assert!(asked.iter().all(|it| ["127.0.0.1:7000", "[::1]:7000"].contains(&&**it)));
        assert!(asked.is_sorted_by_key(|address| address.starts_with('[')), "{asked:?}");
    }
}
