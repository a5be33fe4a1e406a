//! Somebody on a host of his own who does not know the cookie, and knocks where nodes listen for
//! each other: with nonsense, with half a handshake, with too much of one, and with what he has
//! overheard of nodes that do know it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::AsyncRuntime;

use super::record::Record;
use super::settings::PORT_PEERS;
use crate::dice::{Dice, Seed};
use crate::net::{Sent, TcpStream};
use crate::oracle::Fact;
use crate::runtime::{MadsimRuntime, held, sleep_virtual};

/// Pause between two knocks.
const EVERY: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(9);
/// How long he waits for an answer: longer than a node waits for him.
const PATIENCE: Duration = Duration::from_secs(4);
/// First words of nodes that he remembers.
const OVERHEARD_MAX: usize = 64;
/// Most that a handshake's first message is, with its length in front.
const FIRST_LEN: usize = 50;
/// Most that he says at once.
const LONG: usize = 70_000;
/// What he says, where that is nothing of his own.
const REPEATED: &str = "the words of another";
/// Most that he takes of an answer.
const READ_MAX: usize = 4_096;

/// He, on his host. Clones are the same.
#[derive(Clone)]
pub(super) struct Stranger {
    overheard: Arc<Mutex<VecDeque<Bytes>>>,
}

impl Stranger {
    pub(super) fn new() -> Self {
        Self { overheard: Arc::default() }
    }

    /// Bytes of a stream between two nodes pass by.
    pub(super) fn overhear(&self, sent: &Sent<'_>) {
        if sent.to.port() != PORT_PEERS && sent.from.port() != PORT_PEERS {
            return;
        }
        let mut overheard = held(&self.overheard);
        // First words stay: what follows is of use to nobody but in its place.
        if overheard.len() >= OVERHEARD_MAX {
            let later = overheard.iter().position(|bytes| bytes.len() > FIRST_LEN);
            overheard.remove(later.unwrap_or(0));
        }
        overheard.push_back(Bytes::copy_from_slice(sent.payload));
    }

    /// Knocks at one of these doors after the other, for ever.
    pub(super) async fn knock(self, seed: Seed, doors: Vec<(String, SocketAddr)>, record: Record) {
        let mut dice = seed.stream("stranger");
        loop {
            sleep_virtual(dice.between(&EVERY)).await;
            let (node, address) = &doors[dice.index(doors.len())];
            let (how, words) = self.words(&mut dice);
            let answered = say(*address, &words).await;
            let told = format!("knocks at {node} with {how}: {answered} bytes");
            let (node, genuine) = (node.clone(), how == REPEATED);
            record.fact("stranger", &told, Fact::Knocked { node, how, genuine, answered });
        }
    }

    /// What he says; always as many draws.
    fn words(&self, dice: &mut Dice) -> (&'static str, Bytes) {
        let (kind, place, length) = (dice.below(5), dice.draw(), dice.index(FIRST_LEN));
        let mut noise = vec![0; 96];
        dice.fill(&mut noise);
        let overheard = held(&self.overheard);
        let count = overheard.len().max(1) as u64;
        let heard = overheard.get(usize::try_from(place % count).unwrap_or(0)).cloned();
        // As long as a first message is, and says so.
        noise[..2].copy_from_slice(&[0, 48]);
        match (kind, heard) {
            (0, _) => ("a made-up handshake", noise[..FIRST_LEN].to_vec().into()),
            (1, _) => ("half a handshake", noise[..length].to_vec().into()),
            (2, _) => {
                noise.resize(LONG, 0xA5);
                noise[..2].copy_from_slice(&[0xFF, 0xFF]);
                ("far too much", noise.into())
            }
            (3, Some(heard)) => (REPEATED, heard),
            (_, Some(heard)) => {
                let mut bent = heard.to_vec();
                let at = usize::try_from(place % bent.len().max(1) as u64).unwrap_or(0);
                if let Some(byte) = bent.get_mut(at) {
                    *byte ^= 1;
                }
                ("the words of another, bent", bent.into())
            }
            (_, None) => ("nonsense", noise.into()),
        }
    }
}

/// Says something and listens; how many bytes are answered.
async fn say(address: SocketAddr, words: &[u8]) -> usize {
    let spoken = async {
        let Ok(stream) = TcpStream::connect(address).await else { return 0 };
        let (mut reader, mut writer) = stream.split();
        // Whoever hangs up in the middle has said enough.
        let _ = writer.write_all(words).await;
        let mut answered = 0;
        let listen = async {
            while let Ok(bytes) = reader.read(READ_MAX).await
                && !bytes.is_empty()
            {
                answered += bytes.len();
            }
        };
        let _ = MadsimRuntime::timeout(PATIENCE, listen).await;
        answered
    };
    MadsimRuntime::timeout(PATIENCE * 2, spoken).await.unwrap_or(0)
}
