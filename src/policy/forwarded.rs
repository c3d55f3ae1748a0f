//! Whose word about the client is believed: networks of proxies in front of ringway.

use std::{fmt, net::IpAddr};

/// Networks whose `X-Forwarded-*` and `Forwarded` fields are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Box<[Network]>,
}

/// An address and how many of its leading bits count. IPv4 is kept as `::ffff:a.b.c.d`, so that a
/// client of a dual-stack socket is recognised in either spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The part before `/` is no IPv4 or IPv6 address.
    Address,
    /// The part after `/` is no number, or more than the address has bits.
    Length,
    /// Bits beyond the length are set: `10.0.0.1/8`.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IP address; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
            Self::Length => {
                "the number after / is not a prefix length; write 0 to 32 for IPv4, 0 to 128 for IPv6"
            }
            Self::HostBits => {
                "address bits are set beyond the prefix length; zero them, or drop the length to \
                 mean one address"
            }
        })
    }
}

impl std::error::Error for NetworkError {}

/// Bits in front of an IPv4 address in its IPv4-mapped form (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u32 = 96;

impl Network {
    /// Reads `address` or `address/length`.
    ///
    /// # Errors
    /// [`NetworkError`], whose text says what to write instead.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) => parse_length(digits, bits_max)?,
            None => bits_max,
        };
        let length = if address.is_ipv4() { MAPPED_BITS + length } else { length };
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let bits = to_bits(address);
        if bits & !mask != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { bits, mask })
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        to_bits(address) & self.mask == self.bits
    }
}

fn parse_length(digits: &str, bits_max: u32) -> Result<u32, NetworkError> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(length) if plain && length <= bits_max => Ok(length),
        _ => Err(NetworkError::Length),
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl TrustedProxies {
    /// The address of a client whose connection comes from `peer`: the peer itself, or, if it is
    /// trusted, the last address in the values of X-Forwarded-For that is not. A value that is no
    /// address says nothing, and neither do those before it.
    pub fn client<'a>(&self, peer: IpAddr, values: impl Iterator<Item = &'a [u8]>) -> IpAddr {
        if self.is_empty() || !self.contains(peer) {
            return peer;
        }
        let hops = values.flat_map(|value| value.split(|byte| *byte == b','));
        hops.fold(peer, |client, hop| {
            let text = std::str::from_utf8(hop.trim_ascii()).unwrap_or_default();
            match text.parse() {
                Ok(address) if self.contains(address) => client,
                Ok(address) => address,
                Err(_) => peer,
            }
        })
    }

    /// These networks.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        Self { networks: networks.into_iter().collect() }
    }

    /// Whether `address` lies in one of them; `::ffff:10.0.0.1` counts as `10.0.0.1`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Reads a list separated by commas and blanks; an empty text believes nobody.
    ///
    /// # Errors
    /// The first [`NetworkError`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        words.map(Network::parse).collect::<Result<_, _>>().map(|networks| Self { networks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(list: &str, address: &str) -> bool {
        TrustedProxies::parse(list).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        assert!(trusts("10.0.0.0/8", "10.255.0.1"));
        assert!(!trusts("10.0.0.0/8", "11.0.0.1"));
        assert!(trusts("192.0.2.7", "192.0.2.7"));
        assert!(!trusts("192.0.2.7", "192.0.2.6"));
        assert!(trusts("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!trusts("2001:db8::/32", "2001:db9::1"));
        assert!(trusts("127.0.0.1, ::1 10.0.0.0/8", "::1"));
        assert!(!trusts("", "127.0.0.1"));
    }

    #[test]
    fn a_length_of_zero_is_everybody_of_that_family() {
        assert!(trusts("0.0.0.0/0", "203.0.113.9"));
        assert!(!trusts("0.0.0.0/0", "2001:db8::1"));
        assert!(trusts("::/0", "2001:db8::1"));
        assert!(trusts("::/0", "203.0.113.9"), "IPv4 is a corner of IPv6");
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert!(trusts("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(trusts("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!trusts("10.0.0.0/8", "::10.1.2.3"));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| Network::parse(text).unwrap_err();
        for text in ["", "localhost", "10.0.0", "10.0.0.0.0/8", "/8", "010.0.0.1"] {
            assert_eq!(error(text), NetworkError::Address, "{text:?}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "::/129", "::/-1", "::/+8", "10.0.0.0/8/8"] {
            assert_eq!(error(text), NetworkError::Length, "{text:?}");
        }
        assert_eq!(error("10.0.0.1/8"), NetworkError::HostBits);
        assert_eq!(error("2001:db8::1/32"), NetworkError::HostBits);
        assert!(TrustedProxies::parse("10.0.0.0/8, nonsense").is_err());
    }

    #[test]
    fn a_client_behind_trusted_proxies_is_the_last_they_do_not_vouch_for() {
        let trusted = TrustedProxies::new([Network::parse("10.0.0.0/8").expect("a network")]);
        let client = |peer: &str, values: &[&'static str]| {
            let values = values.iter().map(|value| value.as_bytes());
            trusted.client(peer.parse().expect("an address"), values).to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "nobody trusts it");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 198.51.100.7", "10.3.3.3"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, x"]), "10.0.0.1");
    }
}
