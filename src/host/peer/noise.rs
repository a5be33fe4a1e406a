//! The encrypted channel between two nodes: handshake, then records.
//!
//! `Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s`: both sides prove their identity key, and the cookie is
//! mixed in before the first byte, so that who does not know it is answered with nothing at all. A
//! message is cut into records; each is a length (two bytes, big-endian) and a sealed part whose
//! first byte says whether more follows. Records are numbered: one that is replayed, left out or
//! bent ends the channel. Source: DESIGN 6 (peer links); Noise specification, revision 34.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cluster::identity::NodeKey;
use sabotage::Bug;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};
use zeroize::Zeroizing;

use crate::net::{Reader, Writer};

const PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";
/// Both sides must name the same protocol.
const PROLOGUE: &[u8] = b"tern peer link";
/// Bytes of the three messages of the handshake: an ephemeral key, a sealed identity, their tags.
const HANDSHAKE_LENGTHS: [usize; 3] = [48, 96, 64];
/// Largest record.
const RECORD_MAX: usize = 65_535;
/// Tag and the byte that says whether more follows.
const RECORD_OVERHEAD: usize = 17;
/// Largest message: an entry of the log and what is around it.
pub(crate) const MESSAGE_MAX: usize = 12 << 20;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoiseError {
    /// The first message does not open: the other side has another cookie, or is no node at all.
    #[error("secret mismatch: the other side does not know this cluster's cookie")]
    WrongCookie,
    /// The other side has hung up at the first message.
    #[error(
        "secret mismatch: it hangs up at the first message, so its cookie is another one \
         (`tern cluster cookie` shows where it lies)"
    )]
    HungUp,
    /// Not what the protocol says.
    #[error("not the protocol of peer links: {0}")]
    Malformed(&'static str),
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The cookie as the handshake takes it: argon2id of the text, made by whoever read the file.
#[derive(Clone, PartialEq, Eq, zeroize::ZeroizeOnDrop)]
pub struct CookieKey([u8; 32]);

impl CookieKey {
    /// A key that was derived from a cookie.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for ciphers alone.
    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl core::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

/// Who this node is: an X25519 key pair made at its first start.
#[derive(Clone)]
pub(crate) struct Identity {
    secret: Zeroizing<[u8; 32]>,
    public: NodeKey,
}

impl Identity {
    /// The identity of a secret key.
    pub(crate) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let mut dh = DefaultResolver
            .resolve_dh(&DHChoice::Curve25519)
            .expect("the library is built with Curve25519");
        dh.set(&*secret);
        let mut public = [0; 32];
        public.copy_from_slice(dh.pubkey());
        Self { secret, public: NodeKey(public) }
    }

    /// What others know it by.
    pub(crate) const fn key(&self) -> NodeKey {
        self.public
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Identity({:?})", self.public)
    }
}

/// Randomness from the world, everything else from the library.
struct Resolver([u8; 32]);

struct Drawn {
    seed: [u8; 32],
    used: bool,
}

impl Random for Drawn {
    /// A handshake draws once: its ephemeral key.
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        if self.used || dest.len() != self.seed.len() {
            return Err(snow::Error::Rng);
        }
        self.used = true;
        dest.copy_from_slice(&self.seed);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn { seed: self.0, used: false }))
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

/// What both sides of a handshake need.
pub(crate) struct Credentials<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) cookie: &'a CookieKey,
    /// Fresh for each handshake.
    pub(crate) seed: [u8; 32],
}

impl Credentials<'_> {
    fn state(&self, initiator: bool) -> HandshakeState {
        let params: NoiseParams = PATTERN.parse().expect("the pattern is a valid one");
        let build = || {
            let builder = Builder::with_resolver(params, Box::new(Resolver(self.seed)))
                .local_private_key(&*self.identity.secret)?
                .psk(0, self.cookie.expose())?
                .prologue(PROLOGUE)?;
            if initiator { builder.build_initiator() } else { builder.build_responder() }
        };
        build().expect("every part of the pattern is given")
    }
}

/// Bytes of a connection, taken in exact portions.
pub(crate) struct Intake<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: Reader> Intake<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// The next `length` bytes. Cancel-safe.
    async fn exactly(&mut self, length: usize) -> io::Result<BytesMut> {
        while self.buffer.len() < length {
            let wanted = (length - self.buffer.len()).max(16 * 1024);
            if self.reader.read(&mut self.buffer, wanted).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length))
    }

    /// The next length and what it announces.
    async fn portion(&mut self) -> io::Result<BytesMut> {
        // Both at once, so that a dropped future loses nothing.
        while self.buffer.len() < 2 {
            if self.reader.read(&mut self.buffer, 16 * 1024).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = usize::from(u16::from_be_bytes([self.buffer[0], self.buffer[1]]));
        let mut whole = self.exactly(2 + length).await?;
        Ok(whole.split_off(2))
    }

    /// The next message of the handshake: exactly as long as it must be.
    async fn handshake(&mut self, number: usize) -> Result<BytesMut, NoiseError> {
        let head = self.exactly(2).await?;
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        if length != HANDSHAKE_LENGTHS[number] {
            return Err(NoiseError::Malformed("a handshake message of another length"));
        }
        Ok(self.exactly(length).await?)
    }
}

/// A channel that is open: what leaves is sealed, what comes is opened.
pub(crate) struct Channel<R> {
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener<R>,
    /// Who is at the other end.
    pub(crate) peer: NodeKey,
}

/// Opens a channel to whoever listens.
pub(crate) async fn initiate<R: Reader, W: Writer>(
    reader: R,
    writer: &mut W,
    credentials: &Credentials<'_>,
) -> Result<Channel<R>, NoiseError> {
    let mut state = credentials.state(true);
    let mut intake = Intake::new(reader);
    say(&mut state, writer).await?;
    let second = match intake.handshake(1).await {
        Err(NoiseError::Io(error)) if is_hang_up(&error) => return Err(NoiseError::HungUp),
        other => other?,
    };
    hear(&mut state, &second).map_err(|_| NoiseError::Malformed("second message"))?;
    say(&mut state, writer).await?;
    open(state, intake)
}

/// Answers whoever connected, if it knows the cookie; else not a byte leaves.
pub(crate) async fn respond<R: Reader, W: Writer>(
    reader: R,
    writer: &mut W,
    credentials: &Credentials<'_>,
) -> Result<Channel<R>, NoiseError> {
    let mut state = credentials.state(false);
    let mut intake = Intake::new(reader);
    let first = intake.handshake(0).await?;
    if hear(&mut state, &first).is_err() {
        if sabotage::planted(Bug::StrangerAnswered) {
            writer.write_all(b"secret mismatch").await?;
        }
        return Err(NoiseError::WrongCookie);
    }
    say(&mut state, writer).await?;
    let third = intake.handshake(2).await?;
    hear(&mut state, &third).map_err(|_| NoiseError::Malformed("third message"))?;
    open(state, intake)
}

fn is_hang_up(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
    ];
    kinds.contains(&error.kind())
}

async fn say<W: Writer>(state: &mut HandshakeState, writer: &mut W) -> Result<(), NoiseError> {
    let mut message = [0; 2 + 128];
    let length = state
        .write_message(&[], &mut message[2..])
        .map_err(|_| NoiseError::Malformed("nothing to say"))?;
    message[..2].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    Ok(writer.write_all(&message[..2 + length]).await?)
}

fn hear(state: &mut HandshakeState, message: &[u8]) -> Result<(), snow::Error> {
    state.read_message(message, &mut [0; 128]).map(drop)
}

fn open<R>(state: HandshakeState, intake: Intake<R>) -> Result<Channel<R>, NoiseError> {
    let unfinished = || NoiseError::Malformed("unfinished");
    let peer = state.get_remote_static().and_then(|key| key.try_into().ok());
    let peer = NodeKey(peer.ok_or_else(unfinished)?);
    let transport = Arc::new(state.into_stateless_transport_mode().map_err(|_| unfinished())?);
    Ok(Channel {
        sealer: Sealer { transport: Arc::clone(&transport), next: 0 },
        opener: Opener { transport, next: 0, intake, message: BytesMut::new() },
        peer,
    })
}

/// The direction towards the peer.
pub(crate) struct Sealer {
    transport: Arc<StatelessTransportState>,
    next: u64,
}

impl Sealer {
    /// Appends a message as records to `out`.
    pub(crate) fn seal(&mut self, message: &[u8], out: &mut BytesMut) {
        let room = RECORD_MAX - RECORD_OVERHEAD;
        let mut plain = Vec::with_capacity(message.len().min(room) + 1);
        let mut rest = message;
        loop {
            let (part, after) = rest.split_at(rest.len().min(room));
            plain.clear();
            plain.push(u8::from(!after.is_empty()));
            plain.extend_from_slice(part);
            let at = out.len();
            out.put_bytes(0, 2 + plain.len() + 16);
            let sealed = self
                .transport
                .write_message(self.next, &plain, &mut out[at + 2..])
                .expect("a record is below the protocol's limit");
            self.next += 1;
            let length = u16::try_from(sealed).unwrap_or(u16::MAX);
            out[at..at + 2].copy_from_slice(&length.to_be_bytes());
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }
}

/// The direction towards us.
pub(crate) struct Opener<R> {
    transport: Arc<StatelessTransportState>,
    next: u64,
    intake: Intake<R>,
    message: BytesMut,
}

impl<R: Reader> Opener<R> {
    /// The next whole message. Cancel-safe.
    ///
    /// * Errors: the connection has ended, or somebody meddled with it: it is good for nothing any
    ///   more.
    pub(crate) async fn next(&mut self) -> Result<Bytes, NoiseError> {
        loop {
            let record = self.intake.portion().await?;
            let at = self.message.len();
            if record.len() < RECORD_OVERHEAD {
                return Err(NoiseError::Malformed("a record that is too short"));
            }
            let mut plain = vec![0; record.len()];
            let length = self
                .transport
                .read_message(self.next, &record, &mut plain)
                .map_err(|_| NoiseError::Malformed("a record that does not open"))?;
            self.next += 1;
            let Some((more, part)) = plain[..length].split_first() else {
                return Err(NoiseError::Malformed("an empty record"));
            };
            if at + part.len() > MESSAGE_MAX {
                return Err(NoiseError::Malformed("a message that is too long"));
            }
            self.message.extend_from_slice(part);
            if *more == 0 {
                return Ok(self.message.split().freeze());
            }
        }
    }
}
