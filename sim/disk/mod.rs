//! The disk of one simulated machine. It outlives the node, and loses what was not synced.
//!
//! Calls return at once, as a page cache does; [`Disk::flush`] is the fsync: it takes a drawn
//! time, waits behind the fsyncs before it, and only then is the data durable. The tail of that
//! time is long on purpose: with a fast fsync a simulator is blind to every answer given too
//! early. [`Disk::power_cut`] comes *before* the node's tasks are killed, so that no destructor
//! can write a clean shutdown to the disk of a machine that has no power.

mod backend;
mod platter;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use backend::DiskFile;
pub use platter::{Image, SECTOR_LEN, Tally};

use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::runtime::{held, sleep_virtual_until};
use platter::{Inode, Platter};

/// How long one fsync takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Most of them.
    pub usual: Range<Duration>,
    /// Share of slow ones, 0 to 1.
    pub slow_share: f64,
    /// Those.
    pub slow: Range<Duration>,
    /// Share of stalls, 0 to 1: the disk is busy with something else.
    pub stall_share: f64,
    /// Those.
    pub stall: Range<Duration>,
}

impl Default for Speed {
    /// An SD card on a bad day.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            usual: ms(1)..ms(6),
            slow_share: 0.08,
            slow: ms(10)..ms(60),
            stall_share: 0.01,
            stall: ms(100)..ms(900),
        }
    }
}

impl Speed {
    /// Always as many draws, whatever comes out.
    fn draw(&self, dice: &mut Dice) -> Duration {
        let (slow, stall) = (dice.chance(self.slow_share), dice.chance(self.stall_share));
        let times = [&self.usual, &self.slow, &self.stall].map(|range| dice.between(range));
        times[if stall { 2 } else { usize::from(slow) }]
    }
}

#[derive(Debug)]
struct State {
    platter: Platter,
    /// Raised by each death: whoever opened a file before is refused.
    boot: u64,
    speed: Speed,
    /// Fsyncs asked for that have not been given their time.
    unpaid: u32,
    busy_until: Duration,
    /// Bytes that all files together may take.
    capacity: Option<u64>,
    fail_sync: bool,
    /// One stream for the time fsyncs take, one for what a power cut leaves.
    times: Dice,
    cuts: Dice,
}

impl State {
    fn room_for(&self, file: Inode, len: u64) -> io::Result<()> {
        let grown = len.saturating_sub(self.platter.read(file).len() as u64);
        match self.capacity {
            Some(capacity) if grown > 0 && self.platter.used() + grown > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn sync(&mut self, file: Inode) -> io::Result<()> {
        if std::mem::take(&mut self.fail_sync) {
            self.platter.orphan(file, &mut self.cuts);
            return Err(io::Error::other("simulated disk: input/output error"));
        }
        self.unpaid += 1;
        self.platter.sync(file);
        Ok(())
    }
}

/// A handle to the disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

/// An fsync that has taken its place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    mark: u64,
    boot: u64,
    /// Virtual time at which it is done.
    pub done_at: Duration,
}

impl Disk {
    /// An empty disk with streams of its own, named after the machine.
    pub fn new(seed: Seed, machine: &str, speed: Speed) -> Self {
        Self(Arc::new(Mutex::new(State {
            platter: Platter::default(),
            boot: 0,
            speed,
            unpaid: 0,
            busy_until: Duration::ZERO,
            capacity: None,
            fail_sync: false,
            times: seed.stream(&format!("disk times {machine}")),
            cuts: seed.stream(&format!("disk cuts {machine}")),
        })))
    }

    /// Whether a file of this name exists.
    pub fn exists(&self, name: &str) -> bool {
        held(&self.0).platter.find(name).is_some()
    }

    /// Opens a file. `NotFound` if there is none.
    pub fn open(&self, name: &str) -> io::Result<DiskFile> {
        let state = held(&self.0);
        let file = state.platter.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(DiskFile { disk: self.clone(), boot: state.boot, file })
    }

    /// Opens an empty file; what was called so before is gone.
    pub fn create(&self, name: &str) -> DiskFile {
        let mut state = held(&self.0);
        let file = state.platter.create(name);
        DiskFile { disk: self.clone(), boot: state.boot, file }
    }

    /// Renames a file and asks for the folder's fsync. Durable after the next [`Self::flush`].
    pub fn rename(&self, from: &str, to: &str) {
        let mut state = held(&self.0);
        state.platter.rename(from, to);
        state.platter.sync_folder();
        state.unpaid += 1;
    }

    /// Takes a file's name away. As lasting as a new name is: a power cut may bring it back.
    pub fn remove(&self, name: &str) {
        held(&self.0).platter.remove(name);
    }

    /// The whole content of a file.
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        let state = held(&self.0);
        state.platter.find(name).map(|file| state.platter.read(file).to_vec())
    }

    /// Writes a whole file under a temporary name, syncs it, names it.
    ///
    /// Durable after the next [`Self::flush`]. Errors: `StorageFull`, or a failing fsync.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let file = self.create(&temporary);
        file.put(0, bytes)?;
        file.sync()?;
        self.rename(&temporary, name);
        Ok(())
    }

    /// Gives every fsync asked for so far its place in the queue.
    pub fn enqueue(&self) -> Flush {
        let now = virtual_now();
        let mut state = held(&self.0);
        let state = &mut *state;
        state.busy_until = state.busy_until.max(now);
        for _ in 0..std::mem::take(&mut state.unpaid) {
            state.busy_until += state.speed.draw(&mut state.times);
        }
        Flush { mark: state.platter.mark(), boot: state.boot, done_at: state.busy_until }
    }

    /// Waits until an fsync is done; what it covers is durable then.
    ///
    /// Errors: `NotConnected` if the machine died meanwhile.
    pub async fn finish(&self, flush: Flush) -> io::Result<()> {
        if virtual_now() < flush.done_at {
            sleep_virtual_until(flush.done_at).await;
        }
        let mut state = held(&self.0);
        if state.boot != flush.boot {
            return Err(io::ErrorKind::NotConnected.into());
        }
        state.platter.settle(flush.mark);
        Ok(())
    }

    /// The fsync: everything written and synced so far is durable when this returns.
    ///
    /// Errors: as [`Self::finish`].
    pub async fn flush(&self) -> io::Result<()> {
        self.finish(self.enqueue()).await
    }

    /// Power is cut: un-synced data is lost as the dice say. Call before killing the node.
    pub fn power_cut(&self) {
        let mut state = held(&self.0);
        let state = &mut *state;
        state.boot += 1;
        state.unpaid = 0;
        state.busy_until = Duration::ZERO;
        state.platter.power_cut(&mut state.cuts);
    }

    /// The process is killed and its kernel lives: nothing is lost, open files are closed.
    pub fn process_died(&self) {
        held(&self.0).boot += 1;
    }

    /// What is durable now: a backup of the whole disk.
    pub fn image(&self) -> Image {
        held(&self.0).platter.image()
    }

    /// Puts a backup in the place of everything. Only while the machine is off.
    pub fn restore(&self, image: &Image) {
        held(&self.0).platter.restore(image);
    }

    /// The next fsync of a file fails, and what it should have covered may never be written.
    pub fn fail_next_sync(&self) {
        held(&self.0).fail_sync = true;
    }

    /// Sets how many bytes all files may take together; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        held(&self.0).capacity = bytes;
    }

    /// Bytes that all files take together.
    pub fn used(&self) -> u64 {
        held(&self.0).platter.used()
    }

    /// Bytes that files may still take; `None` without a limit.
    pub fn free(&self) -> Option<u64> {
        let state = held(&self.0);
        state.capacity.map(|capacity| capacity.saturating_sub(state.platter.used()))
    }

    /// Sets how long fsyncs take from now on.
    pub fn set_speed(&self, speed: Speed) {
        held(&self.0).speed = speed;
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        held(&self.0).platter.tally
    }
}

#[cfg(test)]
mod tests;
