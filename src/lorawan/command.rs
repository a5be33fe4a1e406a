//! MAC commands as a stream: one walk for both directions, which stops at what it cannot measure.
//!
//! A command carries no length of its own, so nothing after an unknown CID can be read: the
//! iterator yields what came before, then one error, then ends. Source: LoRaWAN 1.0.4 §5, 1.1 §5.

use core::marker::PhantomData;

/// Why the rest of a block of MAC commands cannot be read. What came before it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacCommandError {
    /// A command whose length nobody knows: of a later version, proprietary (0x80 and up), or not
    /// meant for this direction.
    #[error("CID 0x{cid:02x} is not known, {unread} bytes after it are lost")]
    UnknownCid {
        /// The identifier.
        cid: u8,
        /// Bytes after it.
        unread: usize,
    },
    /// The block ends inside a command.
    #[error("CID 0x{cid:02x} needs {wanted} bytes, {left} are left")]
    Truncated {
        /// The identifier.
        cid: u8,
        /// Bytes it needs after the identifier.
        wanted: usize,
        /// Bytes after the identifier.
        left: usize,
    },
    /// A length inside a command that the standard does not allow, so that its end is uncertain.
    #[error("CID 0x{cid:02x} says {seen} bytes, at most {max} are allowed")]
    InnerLength {
        /// The identifier.
        cid: u8,
        /// What it says.
        seen: usize,
        /// What is allowed.
        max: usize,
    },
}

/// A MAC command of one direction: [`crate::UplinkMacCommand`] or [`crate::DownlinkMacCommand`].
pub trait MacCommand: Sized {
    /// Reads the command that `cid` opens from the bytes after it; returns it and what follows.
    ///
    /// * Errors: [`MacCommandError`].
    fn read(cid: u8, after: &[u8]) -> Result<(Self, &[u8]), MacCommandError>;

    /// The identifier.
    fn cid(&self) -> u8;

    /// The name the specification gives it.
    fn name(&self) -> &'static str;

    /// Appends identifier and payload; values wider than their field are cut to it, RFU bits are 0.
    fn encode(&self, out: &mut Vec<u8>);

    /// Bytes it takes, identifier included.
    fn encoded_len(&self) -> usize {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes.len()
    }

    /// Walks a block: the FOpts or the payload of FPort 0, in the clear.
    fn walk(block: &[u8]) -> MacCommands<'_, Self> {
        MacCommands { rest: block, direction: PhantomData }
    }

    /// A block of several commands in order.
    fn encode_all<'a>(commands: impl IntoIterator<Item = &'a Self>) -> Vec<u8>
    where
        Self: 'a,
    {
        let mut block = Vec::new();
        for command in commands {
            command.encode(&mut block);
        }
        block
    }
}

/// The commands of one block in order; after an error it ends.
#[derive(Clone, Debug)]
pub struct MacCommands<'a, C> {
    rest: &'a [u8],
    direction: PhantomData<C>,
}

impl<C> MacCommands<'_, C> {
    /// Bytes not yet walked.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<C: MacCommand> Iterator for MacCommands<'_, C> {
    type Item = Result<C, MacCommandError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (cid, after) = self.rest.split_first()?;
        Some(match C::read(*cid, after) {
            Ok((command, rest)) => {
                self.rest = rest;
                Ok(command)
            }
            Err(error) => {
                self.rest = &[];
                Err(error)
            }
        })
    }
}

/// Cuts the `N` bytes of a payload from what follows its identifier.
pub(crate) fn take<const N: usize>(
    cid: u8,
    after: &[u8],
) -> Result<([u8; N], &[u8]), MacCommandError> {
    match after.split_first_chunk::<N>() {
        Some((payload, rest)) => Ok((*payload, rest)),
        None => Err(MacCommandError::Truncated { cid, wanted: N, left: after.len() }),
    }
}

/// Bit `number` of `byte`.
pub(crate) const fn bit(byte: u8, number: u32) -> bool {
    byte >> number & 1 == 1
}

/// A byte from its lowest bits, bit 0 first.
pub(crate) fn byte_of(bits: &[bool]) -> u8 {
    bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))
}

/// The class a 1.1 device says it runs (LoRaWAN 1.1 §18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// Listens after its uplinks only.
    ClassA,
    /// Listens all the time.
    ClassC,
    /// A value without a meaning yet.
    Reserved(u8),
}

impl DeviceMode {
    pub(crate) const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::ClassA,
            2 => Self::ClassC,
            other => Self::Reserved(other),
        }
    }

    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::ClassA => 0,
            Self::ClassC => 2,
            Self::Reserved(other) => other,
        }
    }
}
