//! Somebody who knows the cookie of a cluster and is no node: he speaks the protocol of peer links
//! from its description, without the code under test, and says inside what he likes.
//!
//! Source: DESIGN 6 (peer links); Noise specification, revision 34.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minicbor::Encoder;
use sha2::{Digest as _, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

const PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"tern peer link";
/// How long a node may take to answer or to hang up.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the handshake makes of a cookie.
pub fn cookie_key(cookie: &str, cluster_name: &str) -> [u8; 32] {
    let digest = Sha256::digest(cluster_name.as_bytes());
    let salt: [u8; 16] = digest[..16].try_into().expect("16 of 32");
    host::password::derive(cookie.as_bytes(), &salt)
}

fn draw() -> [u8; 32] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Sha256::digest(now.as_nanos().to_be_bytes()).into()
}

/// The library is built without a source of randomness.
struct Resolver;

struct Dice;

impl Random for Dice {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = draw();
        dest.iter_mut().zip(drawn).for_each(|(byte, drawn)| *byte = drawn);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Dice))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// The state of a handshake, not begun yet.
pub fn handshake(key: &[u8; 32], initiator: bool) -> HandshakeState {
    let secret = draw();
    let build = || {
        let builder = Builder::with_resolver(PATTERN.parse()?, Box::new(Resolver))
            .local_private_key(&secret)?
            .psk(0, key)?
            .prologue(PROLOGUE)?;
        if initiator { builder.build_initiator() } else { builder.build_responder() }
    };
    build().expect("a valid pattern")
}

/// A portion: its length, then it.
pub fn portion(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a portion is short");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A connection behind its handshake.
pub struct Insider {
    stream: TcpStream,
    transport: TransportState,
}

impl std::fmt::Debug for Insider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Insider(..)")
    }
}

impl Insider {
    /// Knocks with the key of a cookie; the handshake must succeed.
    pub fn knock(to: SocketAddr, key: &[u8; 32]) -> Self {
        let mut stream = TcpStream::connect(to).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_nodelay(true).expect("a socket");
        let mut state = handshake(key, true);
        let mut buffer = [0; 256];
        let length = state.write_message(&[], &mut buffer).expect("first");
        stream.write_all(&portion(&buffer[..length])).expect("it listens");
        let second = read_portion(&mut stream).expect("an answer to the right cookie");
        state.read_message(&second, &mut buffer).expect("second");
        let length = state.write_message(&[], &mut buffer).expect("third");
        stream.write_all(&portion(&buffer[..length])).expect("it listens");
        Self { stream, transport: state.into_transport_mode().expect("finished") }
    }

    /// Says one message of one record.
    pub fn say(&mut self, message: &[u8]) {
        let record = self.record(0, message);
        self.say_raw(&record);
    }

    /// A record, sealed under the next number.
    ///
    /// * `more`: the byte that says whether the message goes on.
    pub fn record(&mut self, more: u8, part: &[u8]) -> Vec<u8> {
        let plain = [&[more], part].concat();
        let mut sealed = vec![0; plain.len() + 16];
        let length = self.transport.write_message(&plain, &mut sealed).expect("a short record");
        portion(&sealed[..length])
    }

    /// Says these bytes as they are; a node that has had enough may have hung up already.
    pub fn say_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message; `None` when the node has hung up.
    pub fn hear(&mut self) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let sealed = read_portion(&mut self.stream)?;
            let mut plain = vec![0; sealed.len()];
            let length = self.transport.read_message(&sealed, &mut plain).expect("genuine");
            message.extend_from_slice(&plain[1..length]);
            if plain[0] == 0 {
                return Some(message);
            }
        }
    }

    /// Greets; whether the node welcomes, and what it says.
    pub fn greet(&mut self, hello: &Hello) -> Option<(bool, String)> {
        self.say(&hello.encode());
        let answer = self.hear()?;
        let welcome = answer.starts_with(&[0x82, 0x00]);
        Some((welcome, String::from_utf8_lossy(&answer).into_owned()))
    }

    /// Asks; the answer's body.
    pub fn ask(&mut self, number: u64, body: &[u8]) -> Option<Vec<u8>> {
        self.say(&[&[0], &number.to_be_bytes()[..], body].concat());
        let answer = self.hear()?;
        assert_eq!(answer.first(), Some(&1), "an answer");
        assert_eq!(answer[1..9], number.to_be_bytes(), "to this question");
        Some(answer[9..].to_vec())
    }
}

/// One portion without its length; `None` at the end of the stream.
pub fn read_portion(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    let mut take = |buffer: &mut [u8]| match stream.read_exact(buffer) {
        Ok(()) => Some(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("neither an answer nor the end")
        }
        Err(_) => None,
    };
    take(&mut head)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    take(&mut body)?;
    Some(body)
}

/// The first words of a node that has no cluster, unless they say which.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Oldest and newest version of the protocol.
    pub versions: (u32, u32),
    /// `name@host`
    pub name: String,
    /// `host:port`
    pub address: String,
    /// The highest feature level it knows.
    pub feature_level: u32,
    /// The cluster that it says to be of, under raft id 77.
    pub cluster: Option<[u8; 16]>,
    /// The raft id of the member that it means to speak with.
    pub to: Option<u64>,
}

impl Default for Hello {
    fn default() -> Self {
        let (name, address) = ("stub@127.0.0.1".to_owned(), "127.0.0.1:9".to_owned());
        Self { versions: (1, 1), name, address, feature_level: u32::MAX, cluster: None, to: None }
    }
}

impl Hello {
    /// CBOR, fields in their order.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        let mut write = || {
            // Older versions end before what a `to` stands behind.
            let fields = if self.to.is_some() { 14 } else { 11 };
            encoder.array(fields)?.array(2)?.u32(self.versions.0)?.u32(self.versions.1)?;
            match &self.cluster {
                Some(cluster) => encoder.bytes(cluster)?.u64(77)?,
                None => encoder.null()?.null()?,
            };
            // Its first start.
            encoder.u64(1)?;
            encoder.str(&self.name)?.str(&self.address)?.u32(self.feature_level)?;
            // No seeds, no members, no devices, not joining.
            encoder.null()?.u32(0)?.u64(0)?.bool(false)?;
            if let Some(raft_id) = self.to {
                // Nobody knows since when, over its only connection.
                encoder.i64(0)?.null()?.u64(raft_id)?;
            }
            Ok::<_, minicbor::encode::Error<core::convert::Infallible>>(())
        };
        write().expect("writing to a vector cannot fail");
        bytes
    }
}
