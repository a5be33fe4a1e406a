//! Who a node is: its key. What people call it: a name and an address, which are only labels.
//!
//! Texts are parsed once, here, into types that cannot be wrong. Two texts that mean the same
//! (letter case of a host, notation of an IPv6 address, a port left out) become equal values, since
//! the hash of a seed list must not depend on them.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use minicbor::{Decode, Encode};

/// The port of peer links when an address names none.
pub const PEER_PORT_DEFAULT: u16 = 6369;
/// Longest node name, in bytes: what an Erlang atom could hold.
pub const NODE_NAME_MAX: usize = 255;
/// Longest host of an address, in bytes: a DNS name.
const HOST_MAX: usize = 253;
/// Longest label of a DNS name, in bytes.
const LABEL_MAX: usize = 63;

/// The X25519 public key of a node, made at its first start. It is the node's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct NodeKey(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

/// Enough of the key for a log line: eight hexadecimal digits.
impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is not the name of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// Nothing before or nothing after the `@`.
    #[error("a node name is name@host with both parts: emq@s1.emqx.io, emq@192.168.0.10")]
    EmptyPart,
    /// No `@`, and nobody to append a host.
    #[error("{0:?} has no host: write name@host, with an IP address or a full domain name")]
    NoHost(String),
    /// More than one `@`.
    #[error("a node name has one @")]
    SecondAt,
    /// More than [`NODE_NAME_MAX`] bytes.
    #[error("a node name has at most {NODE_NAME_MAX} bytes, this one {0}")]
    TooLong(usize),
    /// A character that no name or no host has.
    #[error("{0:?} stands in no node name: letters, digits, `.`, `-`, `_`; in the host also `:[]`")]
    Character(char),
}

/// `name@host`, as in `emq@s1.emqx.io` or `emq@192.168.0.10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// Reads what an operator typed: a bare name means a node of this host.
    pub fn parse_with_host(text: &str, local_host: &str) -> Result<Self, NodeNameError> {
        if text.contains('@') { text.parse() } else { format!("{text}@{local_host}").parse() }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `@`.
    pub fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        if text.len() > NODE_NAME_MAX {
            return Err(NodeNameError::TooLong(text.len()));
        }
        let Some((name, host)) = text.split_once('@') else {
            return Err(NodeNameError::NoHost(text.to_owned()));
        };
        if name.is_empty() || host.is_empty() {
            return Err(NodeNameError::EmptyPart);
        }
        if host.contains('@') {
            return Err(NodeNameError::SecondAt);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let odd_name = name.chars().find(|c| !plain(*c));
        let odd_host = host.chars().find(|c| !plain(*c) && !":[]".contains(*c));
        match odd_name.or(odd_host) {
            Some(odd) => Err(NodeNameError::Character(odd)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddressError {
    /// Several colons without brackets.
    #[error("an IPv6 address stands in brackets: [2001:db8::1]:6369")]
    BareIpv6,
    /// Neither a domain name nor an IP address.
    #[error("the host is neither a domain name nor an IP address")]
    Host,
    /// No host at all.
    #[error("an address is host or host:port, this one has no host")]
    NoHost,
    /// Not a number from 1 to 65535.
    #[error("the port is a number from 1 to 65535")]
    Port,
}

/// Where a peer listens: host and port, in one notation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

impl PeerAddress {
    /// A domain name in lower case, or an IP address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, not zero.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(PeerAddressError::Host)?;
            let host: Ipv6Addr = host.parse().map_err(|_| PeerAddressError::Host)?;
            let port = match after {
                "" => PEER_PORT_DEFAULT,
                _ => parse_port(after.strip_prefix(':').ok_or(PeerAddressError::Port)?)?,
            };
            return Ok(Self { host: host.to_string(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(PeerAddressError::BareIpv6),
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, PEER_PORT_DEFAULT),
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn parse_port(text: &str) -> Result<u16, PeerAddressError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PeerAddressError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(PeerAddressError::Port)
}

/// A domain name in lower case and without its last dot, or an IPv4 address.
fn parse_host(text: &str) -> Result<String, PeerAddressError> {
    if text.is_empty() {
        return Err(PeerAddressError::NoHost);
    }
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > HOST_MAX || !host.split('.').all(is_label) {
        return Err(PeerAddressError::Host);
    }
    // No top-level domain is a number: what ends in one is an IPv4 address or a typing error.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(PeerAddressError::Host);
    }
    Ok(host)
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_in_logs_and_whole_on_request() {
        let key = NodeKey([0xAB; 32]);
        assert_eq!(format!("{key:?}"), "abababab");
        assert_eq!(key.to_string(), "ab".repeat(32));
        let bytes = minicbor::to_vec(key).unwrap();
        assert_eq!(bytes.len(), 34, "a byte string of 32 and its head");
        assert_eq!(minicbor::decode::<NodeKey>(&bytes).unwrap(), key);
    }

    #[test]
    fn names_are_read_as_the_original_reads_them() {
        for text in ["emq@s1.emqx.io", "emq@192.168.0.10", "n-1_a.b@[2001:db8::1]"] {
            assert_eq!(text.parse::<NodeName>().unwrap().to_string(), text);
        }
        let bare = NodeName::parse_with_host("n2", "h7").unwrap();
        assert_eq!((bare.as_str(), bare.host()), ("n2@h7", "h7"));
        let whole = NodeName::parse_with_host("n2@h3", "h7").unwrap();
        assert_eq!(whole.as_str(), "n2@h3");
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let table = [
            ("", NodeNameError::NoHost(String::new())),
            ("n1", NodeNameError::NoHost("n1".into())),
            ("@h", NodeNameError::EmptyPart),
            ("n1@", NodeNameError::EmptyPart),
            ("n1@h@h", NodeNameError::SecondAt),
            ("n'1@h", NodeNameError::Character('\'')),
            ("n1@h h", NodeNameError::Character(' ')),
            ("n1@h\n", NodeNameError::Character('\n')),
            ("n1@hö", NodeNameError::Character('ö')),
            ("n\u{202e}@h", NodeNameError::Character('\u{202e}')),
            ("n:1@h", NodeNameError::Character(':')),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<NodeName>(), Err(error), "{text:?}");
        }
        let long = format!("{}@h", "n".repeat(NODE_NAME_MAX));
        assert_eq!(long.parse::<NodeName>(), Err(NodeNameError::TooLong(NODE_NAME_MAX + 2)));
    }

    #[test]
    fn one_address_has_one_notation() {
        let table = [
            ("n1", "n1:6369"),
            ("N1.Example.ORG.:7000", "n1.example.org:7000"),
            ("10.0.0.1", "10.0.0.1:6369"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("[2001:DB8:0::1]", "[2001:db8::1]:6369"),
            ("[::1]:1", "[::1]:1"),
            ("tern_peer.svc:06369", "tern_peer.svc:6369"),
        ];
        for (text, canonical) in table {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), canonical, "{text:?}");
            assert_eq!(canonical.parse(), Ok(address), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        use PeerAddressError::{BareIpv6, Host, NoHost, Port};
        let long_label = format!("{}.org", "a".repeat(64));
        let long_host = "a.".repeat(127) + "b";
        let table = [
            ("", NoHost),
            (":6369", NoHost),
            ("::1", BareIpv6),
            ("2001:db8::1", BareIpv6),
            ("n1:6369:1", BareIpv6),
            ("[::1", Host),
            ("[]:1", Host),
            ("[n1]:1", Host),
            ("[fe80::1%eth0]", Host),
            ("[::1]6369", Port),
            ("[::1]:", Port),
            ("n1:", Port),
            ("n1:0", Port),
            ("n1:65536", Port),
            ("n1:+1", Port),
            ("n1:99999999999999999999", Port),
            ("n1:http", Port),
            (".", Host),
            ("n1..org", Host),
            ("-n1", Host),
            ("n1-", Host),
            ("n1/path", Host),
            ("user@n1", Host),
            ("n1 ", Host),
            ("n1\0", Host),
            ("ｎ１", Host),
            ("256.1.1.1", Host),
            ("10.0.1", Host),
            ("1", Host),
            (&long_label, Host),
            (&long_host, Host),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<PeerAddress>(), Err(error), "{text:?}");
        }
    }
}
