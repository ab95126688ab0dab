//! Networks, as people write them.

use std::{fmt, net::IpAddr};

/// Some networks: `10.0.0.0/8,2001:db8::1`, or `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// An address of it; the bits that are not the network's are 0.
    address: IpAddr,
    prefix: u32,
}

impl Networks {
    /// Reads them; none for a text that is no list of networks, or one that names a host and a
    /// network at a time, such as 10.0.0.1/8.
    pub fn of(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::default());
        }
        text.split(',').map(|one| Network::read(one.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them. An IPv4 address that is written as one of IPv6 is that
    /// IPv4 address.
    pub fn have(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.has(address))
    }
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let prefix = match prefix {
            None => width(address),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= width(address))?
            }
            Some(_) => return None,
        };
        // What is written as a mapped address would never be met as one.
        let is_whole = bits(address) == bits(address) & mask(address, prefix);
        (is_whole && address == address.to_canonical()).then_some(Self { address, prefix })
    }

    fn has(&self, address: IpAddr) -> bool {
        let is_alike = self.address.is_ipv4() == address.is_ipv4();
        is_alike && bits(address) & mask(address, self.prefix) == bits(self.address)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(of: IpAddr, prefix: u32) -> u128 {
    let hosts = width(of) - prefix;
    u128::MAX.checked_shl(hosts).unwrap_or(0)
}

impl fmt::Display for Networks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("none");
        }
        for (number, Network { address, prefix }) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}{address}/{prefix}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written() {
        let read = |text: &str| Networks::of(text).map(|it| it.to_string());
        assert_eq!(read("none").as_deref(), Some("none"));
        assert_eq!(read("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        let several = read("10.1.2.3, 2001:db8::/32,::1");
        assert_eq!(several.as_deref(), Some("10.1.2.3/32,2001:db8::/32,::1/128"));
        assert_eq!(read("0.0.0.0/0,::/0").as_deref(), Some("0.0.0.0/0,::/0"));
        for wrong in [
            "",
            ",",
            "10.0.0.0/8,",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::1/129",
            "example.org",
            "10.0.0.0/8 ::1",
            "::ffff:10.0.0.0/104",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_is_in_its_network_however_it_is_written() {
        let networks = Networks::of("10.0.0.0/8,2001:db8::/32,192.0.2.7").expect("networks");
        let have = |address: &str| networks.have(address.parse().expect("an address"));
        let inside =
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1", "2001:db8:ffff::1", "192.0.2.7"];
        assert!(inside.into_iter().all(have));
        let outside = ["9.255.255.255", "11.0.0.0", "2001:db9::", "192.0.2.8", "::", "::a00:0"];
        assert!(!outside.into_iter().any(have));
        assert!(!Networks::default().have("::".parse().expect("an address")));
        let all = Networks::of("0.0.0.0/0").expect("a network");
        assert!(all.have("1.2.3.4".parse().expect("an address")));
        assert!(!all.have("::1".parse().expect("an address")));
    }
}
