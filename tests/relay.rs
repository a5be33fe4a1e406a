//! A wire between two nodes that somebody else holds: it records every byte, delays, holds back,
//! and meddles with single records.
//!
//! It knows of the protocol what anybody sees: each portion has its length before it (two bytes,
//! big-endian). Portions 0 and 1 upwards are the caller's part of the handshake, portion 0
//! downwards is the answer to it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a wire that holds back looks whether it still must.
const LOOK: Duration = Duration::from_millis(5);

/// From the node that called to the one that listens, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the node behind the relay.
    Up,
    /// Back to the caller.
    Down,
}

/// What is done to one portion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trick {
    /// This bit is turned, counted from the length on; -1 is the last one.
    Flip(isize),
    /// It goes twice.
    Twice,
    /// It does not go.
    Omit,
    /// Other bytes go before it.
    Before(Vec<u8>),
    /// It is cut behind so many bytes, and what follows takes its place.
    Cut(usize),
}

/// How the wire is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Every portion takes so long.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// Nothing arrives any more; what is under way waits, as TCP makes it wait.
    pub blackhole: bool,
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Portions of the caller, as they came.
    pub up: Vec<Vec<u8>>,
    /// Portions of the node behind the relay.
    pub down: Vec<Vec<u8>>,
    /// Whose end of the stream was seen first: `Up` is the caller's.
    pub ended: Option<Way>,
    /// A trick was played on it.
    pub meddled: bool,
}

impl Recording {
    /// Everything one side said.
    pub fn bytes(&self, way: Way) -> Vec<u8> {
        match way {
            Way::Up => self.up.concat(),
            Way::Down => self.down.concat(),
        }
    }
}

struct Plan {
    way: Way,
    at: usize,
    trick: Trick,
}

struct Shared {
    to: SocketAddr,
    weather: Mutex<Weather>,
    plan: Mutex<Option<Plan>>,
    recordings: Mutex<Vec<Recording>>,
    streams: Mutex<Vec<TcpStream>>,
    dice: AtomicU64,
    stop: AtomicBool,
}

/// A relay in front of one node; it ends when dropped.
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Relay({} to {})", self.address, self.shared.to)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// Listens at `at` (port 0: any) and connects whoever comes to `to`.
    pub fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).expect("a port for the relay");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            to,
            weather: Mutex::default(),
            plan: Mutex::default(),
            recordings: Mutex::default(),
            streams: Mutex::default(),
            dice: AtomicU64::new(0x9E37_79B9_7F4A_7C15),
            stop: AtomicBool::new(false),
        });
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || accept(&mine, &listener));
        Self { shared, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how the wire is.
    pub fn weather(&self, weather: Weather) {
        *locked(&self.shared.weather) = weather;
    }

    /// Plays a trick on the next portion that goes this way and is the `at`-th of its connection,
    /// or a later one.
    pub fn meddle(&self, way: Way, at: usize, trick: Trick) {
        *locked(&self.shared.plan) = Some(Plan { way, at, trick });
    }

    /// All connections so far.
    pub fn recordings(&self) -> Vec<Recording> {
        locked(&self.shared.recordings).clone()
    }

    /// The connections on which a trick was played, by their numbers.
    pub fn meddled(&self) -> Vec<usize> {
        let recordings = locked(&self.shared.recordings);
        let all = recordings.iter().enumerate().filter(|(_, one)| one.meddled);
        all.map(|(number, _)| number).collect()
    }

    /// How many connections there were so far.
    pub fn count(&self) -> usize {
        locked(&self.shared.recordings).len()
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        for stream in locked(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.cut();
        // Wakes the listener, which ends then.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || carry(&shared, stream));
    }
}

/// One connection.
fn carry(shared: &Arc<Shared>, caller: TcpStream) {
    shared.wait_while_held();
    let Ok(node) = TcpStream::connect(shared.to) else { return };
    let number = {
        let mut recordings = locked(&shared.recordings);
        recordings.push(Recording::default());
        recordings.len() - 1
    };
    let pairs = [(Way::Up, &caller, &node), (Way::Down, &node, &caller)];
    for (way, from, to) in pairs {
        let _ = from.set_nodelay(true);
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        locked(&shared.streams).extend(from.try_clone());
        let (sender, receiver) = channel();
        let (reading, writing) = (Arc::clone(shared), Arc::clone(shared));
        std::thread::spawn(move || read(&reading, number, way, from, &sender));
        std::thread::spawn(move || write(&writing, to, &receiver));
    }
}

/// Takes portions off one stream until it ends.
fn read(
    shared: &Shared,
    number: usize,
    way: Way,
    mut from: TcpStream,
    sender: &Sender<(Instant, Vec<u8>)>,
) {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(length) = from.read(&mut chunk) {
        if length == 0 {
            break;
        }
        buffer.extend_from_slice(&chunk[..length]);
        while let Some(portion) = take_portion(&mut buffer) {
            for bytes in shared.pass(number, way, portion) {
                let due = Instant::now() + shared.draw_delay();
                if sender.send((due, bytes)).is_err() {
                    return;
                }
            }
        }
    }
    let mut recordings = locked(&shared.recordings);
    recordings[number].ended.get_or_insert(way);
    drop(recordings);
    let _ = sender.send((Instant::now(), buffer));
}

fn take_portion(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let head = buffer.first_chunk()?;
    let length = 2 + usize::from(u16::from_be_bytes(*head));
    if buffer.len() < length {
        return None;
    }
    let rest = buffer.split_off(length);
    Some(std::mem::replace(buffer, rest))
}

fn write(shared: &Shared, mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        shared.wait_while_held();
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

impl Shared {
    fn wait_while_held(&self) {
        while locked(&self.weather).blackhole && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
    }

    fn draw_delay(&self) -> Duration {
        let Weather { delay, jitter, .. } = *locked(&self.weather);
        let drawn = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mixed = (drawn ^ (drawn >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
        let share = f64::from(u32::try_from(mixed).expect("24 bits")) / f64::from(1 << 24);
        delay + jitter.mul_f64(share)
    }

    /// Notes a portion; what goes on of it.
    fn pass(&self, number: usize, way: Way, portion: Vec<u8>) -> Vec<Vec<u8>> {
        let mut recordings = locked(&self.recordings);
        let recording = &mut recordings[number];
        let side = if way == Way::Up { &mut recording.up } else { &mut recording.down };
        let at = side.len();
        side.push(portion.clone());
        let mut plan = locked(&self.plan);
        match plan.take_if(|plan| plan.way == way && plan.at <= at) {
            None => vec![portion],
            Some(Plan { trick, .. }) => {
                recording.meddled = true;
                play(trick, portion)
            }
        }
    }
}

fn play(trick: Trick, mut portion: Vec<u8>) -> Vec<Vec<u8>> {
    match trick {
        Trick::Flip(bit) => {
            let bits = isize::try_from(portion.len() * 8).expect("a portion is short");
            let bit = bit.rem_euclid(bits).unsigned_abs();
            portion[bit / 8] ^= 0x80 >> (bit % 8);
            vec![portion]
        }
        Trick::Twice => vec![portion.clone(), portion],
        Trick::Omit => Vec::new(),
        Trick::Before(bytes) => vec![bytes, portion],
        Trick::Cut(length) => {
            portion.truncate(length);
            vec![portion]
        }
    }
}
