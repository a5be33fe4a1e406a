//! For tests of what a hostile peer may say: bytes are read as a node reads them. No node uses
//! this.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use openraft_rt::AsyncRuntime;
use zeroize::Zeroizing;

use super::message::{Answer, Ask, Frame, Greeting, Hello, Tell, decode, encode};
use super::noise::{self, CookieKey, Credentials, Identity};
use crate::net::{Reader, Writer};

/// What bytes inside a channel are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A message with its kind and number.
    Frame,
    /// The first words of who calls.
    Hello,
    /// The answer to them.
    Greeting,
    /// A question, up to what is handed to Raft.
    Ask,
    /// An answer.
    Answer,
    /// What needs no answer.
    Tell,
}

/// Reads bytes; what a node would write for what it has read.
///
/// * Returns `None` for what a node refuses.
pub fn read<R: AsyncRuntime>(part: Part, bytes: &[u8]) -> Option<Bytes> {
    match part {
        Part::Frame => Frame::decode(&Bytes::copy_from_slice(bytes)).map(|frame| frame.encode()),
        Part::Hello => {
            let hello = decode::<Hello>(bytes).filter(Hello::is_sound)?;
            let _ = hello.misfit(&hello);
            Some(encode(&hello))
        }
        Part::Greeting => decode::<Greeting>(bytes).map(|greeting| encode(&greeting)),
        Part::Ask => {
            let ask = decode::<Ask>(bytes)?;
            let written = encode(&ask);
            build::<R>(ask);
            Some(written)
        }
        Part::Answer => decode::<Answer>(bytes).map(|answer| encode(&answer)),
        Part::Tell => decode::<Tell>(bytes).map(|tell| encode(&tell)),
    }
}

/// What is made of a question before Raft sees it.
fn build<R: AsyncRuntime>(ask: Ask) {
    match ask {
        Ask::Append(form) => drop(form.build::<R>()),
        Ask::Vote(form) | Ask::PreVote(form) => drop(form.build::<R>()),
        Ask::Transfer(form) => drop(form.build::<R>()),
        Ask::SnapshotBegin(opening) => drop(opening.meta()),
        Ask::Alive
        | Ask::SnapshotPiece { .. }
        | Ask::SnapshotEnd { .. }
        | Ask::Forward(_)
        | Ask::ReadIndex
        | Ask::Admit { .. }
        | Ask::Rows { .. }
        | Ask::Invite { .. }
        | Ask::MayJoin
        | Ask::Lags => {}
    }
}

/// Says bytes at a node's door, piece by piece, and hangs up.
///
/// * Returns what came back, and whether he was let in.
pub fn knock(said: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let pieces = said.chunks(piece.max(1)).map(<[u8]>::to_vec).collect();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let identity = Identity::new(Zeroizing::new([5; 32]));
    let cookie = CookieKey::new([6; 32]);
    let credentials = Credentials { identity: &identity, cookie: &cookie, seed: [7; 32] };
    let mut writer = Heard(Arc::clone(&heard));
    let channel = noise::respond(Said(pieces), &mut writer, &credentials).now_or_never();
    let let_in = channel.expect("nothing here waits").is_ok();
    let answer = core::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    (answer, let_in)
}

struct Said(VecDeque<Vec<u8>>);

impl Reader for Said {
    async fn read(&mut self, buffer: &mut BytesMut, limit: usize) -> io::Result<usize> {
        let Some(mut piece) = self.0.pop_front() else { return Ok(0) };
        if piece.len() > limit {
            self.0.push_front(piece.split_off(limit));
        }
        buffer.extend_from_slice(&piece);
        Ok(piece.len())
    }
}

struct Heard(Arc<Mutex<Vec<u8>>>);

impl Writer for Heard {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}
