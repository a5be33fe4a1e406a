//! The disk of one simulated machine. It outlives the node, and loses what was not synced.
//!
//! Calls return at once, as a page cache does; [`Disk::flush`] is the fsync: it takes a drawn
//! time, waits behind the fsyncs before it, and only then is the data durable. The tail of that
//! time is long on purpose: with a fast fsync a simulator is blind to every answer given too
//! early. [`Disk::power_cut`] comes *before* the node's tasks are killed, so that no destructor
//! can write a clean shutdown to the disk of a machine that has no power.
//!
//! What disks do to data at rest can be asked for as well: [`Disk::rot`] turns bits of what has
//! long been durable, [`Disk::misdirect_next_write`] puts a write in a wrong place,
//! [`Disk::fill_at_write`] finds the disk full at a chosen write. Each draws from a stream of its
//! own.

mod age;
mod backend;
mod platter;
mod room;
mod surface;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use backend::DiskFile;
pub use platter::{Image, SECTOR_LEN, Tally};

use openraft_rt::{Oneshot as _, OneshotSender as _};

use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::runtime::{Once, OnceReceiver, OnceSender, held, sleep_virtual_until};
use platter::Platter;
use room::Room;
use surface::Inode;

/// Sees the content of each write. Must not call the disk.
pub type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// A place for a tap; a wrapper because a closure has no `Debug`.
#[derive(Default)]
struct Tapped(Option<Tap>);

impl fmt::Debug for Tapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "tapped" } else { "not tapped" })
    }
}

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

/// Cuts the power at a write, from within it.
#[derive(Debug)]
struct Trap {
    /// Writes until then.
    writes: u64,
    sprung: OnceSender<()>,
}

#[derive(Debug)]
struct State {
    platter: Platter,
    /// Raised by each death: whoever opened a file before is refused.
    boot: u64,
    speed: Speed,
    /// Fsyncs take so many times as long.
    slow: u32,
    /// Fsyncs asked for that have not been given their time.
    unpaid: u32,
    busy_until: Duration,
    /// Fsyncs under way: when each is done, and what it covers.
    under_way: VecDeque<(Duration, u64)>,
    room: Room,
    fail_sync: bool,
    trap: Option<Trap>,
    tap: Tapped,
    /// A stream each for the time fsyncs take, what a power cut leaves, rot, and stray writes.
    times: Dice,
    cuts: Dice,
    rot: Dice,
    strays: Dice,
}

impl State {
    /// Asks for room for a write, or for a file of `len` bytes.
    fn room_for(&mut self, file: Inode, len: u64) -> io::Result<()> {
        let grown = len.saturating_sub(self.platter.len(file));
        let answer = self.room.ask(grown, || self.platter.used());
        self.platter.tally.refused += u64::from(answer.is_err());
        answer
    }

    fn sync(&mut self, file: Inode) -> io::Result<()> {
        if std::mem::take(&mut self.fail_sync) {
            self.platter.orphan(file, virtual_now(), &mut self.cuts);
            return Err(io::Error::other("simulated disk: input/output error"));
        }
        self.unpaid += 1;
        self.platter.sync(file);
        Ok(())
    }

    /// Fsyncs that have had their time are done, whether or not anybody waits for them.
    fn settle(&mut self, now: Duration) {
        while let Some(&(done_at, mark)) = self.under_way.front()
            && done_at <= now
        {
            self.under_way.pop_front();
            self.platter.settle(mark, done_at);
        }
    }

    /// A write has been taken: power goes if it was the one that a trap waits for.
    fn written(&mut self) {
        let Some(trap) = &mut self.trap else { return };
        trap.writes -= 1;
        if trap.writes == 0
            && let Some(trap) = self.trap.take()
        {
            self.lose_power();
            // Whoever gave up waiting wants to know nothing.
            let _ = trap.sprung.send(());
        }
    }

    fn lose_power(&mut self) {
        let now = virtual_now();
        self.settle(now);
        self.forget_users();
        self.platter.power_cut(now, &mut self.cuts);
    }

    fn forget_faults(&mut self) {
        self.fail_sync = false;
        self.room.empty();
    }

    /// The machine has died, or its disk is another: who used it is refused.
    fn forget_users(&mut self) {
        self.boot += 1;
        self.unpaid = 0;
        self.busy_until = Duration::ZERO;
        self.under_way.clear();
    }
}

/// A handle to the disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

/// An fsync that has taken its place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
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
            slow: 1,
            unpaid: 0,
            busy_until: Duration::ZERO,
            under_way: VecDeque::new(),
            room: Room::default(),
            fail_sync: false,
            trap: None,
            tap: Tapped::default(),
            times: seed.stream(&format!("disk times {machine}")),
            cuts: seed.stream(&format!("disk cuts {machine}")),
            rot: seed.stream(&format!("disk rot {machine}")),
            strays: seed.stream(&format!("disk strays {machine}")),
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
        let mut state = held(&self.0);
        let file = state.platter.find(name)?;
        state.platter.read(file, 0, None).map(<[u8]>::to_vec)
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
        state.settle(now);
        state.busy_until = state.busy_until.max(now);
        for _ in 0..std::mem::take(&mut state.unpaid) {
            let takes = state.speed.draw(&mut state.times).saturating_mul(state.slow);
            state.busy_until = state.busy_until.saturating_add(takes);
        }
        let fsync = (state.busy_until, state.platter.mark());
        if state.under_way.back() != Some(&fsync) {
            state.under_way.push_back(fsync);
        }
        Flush { boot: state.boot, done_at: state.busy_until }
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
        state.settle(virtual_now());
        Ok(())
    }

    /// The fsync: everything written and synced so far is durable when this returns.
    ///
    /// Errors: as [`Self::finish`].
    pub async fn flush(&self) -> io::Result<()> {
        self.finish(self.enqueue()).await
    }

    /// Power is cut: un-synced data is lost as the dice say. Call before killing the node.
    ///
    /// An fsync that has had its time is done, also where its task was paused and never heard.
    pub fn power_cut(&self) {
        held(&self.0).lose_power();
    }

    /// Power is cut at the `n`-th write or change of a file's length from now on, counted from 1;
    /// what comes after it in the same breath is refused. Resolves when it has happened: the
    /// node's tasks must be killed then. A later call takes the place of an earlier one.
    pub fn cut_at_write(&self, n: u64) -> OnceReceiver<()> {
        let (sprung, receiver) = Once::channel();
        held(&self.0).trap = Some(Trap { writes: n.max(1), sprung });
        receiver
    }

    /// Takes the trap of [`Self::cut_at_write`] away.
    pub fn disarm(&self) {
        held(&self.0).trap = None;
    }

    /// How often whoever used it has died, or it has become another.
    pub fn deaths(&self) -> u64 {
        held(&self.0).boot
    }

    /// The process is killed and its kernel lives: nothing is lost, open files are closed.
    pub fn process_died(&self) {
        held(&self.0).boot += 1;
    }

    /// What is durable now: a copy of the whole disk, as it would be after a power cut that takes
    /// everything no fsync covers. Turned bits are copied as if they had been written so.
    pub fn image(&self) -> Image {
        let mut state = held(&self.0);
        state.settle(virtual_now());
        state.platter.image()
    }

    /// Puts an image in the place of everything, be it of this disk or of another. Only while the
    /// machine is off. Faults that were set up for what was there are forgotten with it.
    pub fn restore(&self, image: &Image) {
        let mut state = held(&self.0);
        state.forget_users();
        state.forget_faults();
        state.platter.restore(image, virtual_now());
    }

    /// Puts an empty disk in the place of this one. Only while the machine is off. Speed, capacity
    /// and tap stay; faults that were set up are forgotten.
    pub fn wipe(&self) {
        let mut state = held(&self.0);
        state.forget_users();
        state.forget_faults();
        state.platter.wipe();
    }

    /// The next fsync of a file fails, and what it should have covered may never be written.
    pub fn fail_next_sync(&self) {
        held(&self.0).fail_sync = true;
    }

    /// Bit rot: turns up to `bits` bits, drawn among the sectors of named files that became
    /// durable longer than `older_than` ago and have not been written since. Returns how many.
    ///
    /// The machine reads the turned bits from now on: the page cache is taken to have dropped what
    /// is that old, which is the worst case. A write mends the bytes it covers, for good once it
    /// is durable; [`Self::scrub`] mends the rest.
    pub fn rot(&self, bits: u32, older_than: Duration) -> u32 {
        let now = virtual_now();
        let mut state = held(&self.0);
        let state = &mut *state;
        state.settle(now);
        state.platter.rot(bits, older_than, now, &mut state.rot)
    }

    /// Mends every bit that has turned and was not written since, as a mirror's scrub does.
    /// Returns how many.
    pub fn scrub(&self) -> u64 {
        held(&self.0).platter.scrub()
    }

    /// The next write of a sector or more to a file that has another place for it lands there, at
    /// a drawn sector within the file, and its own place keeps what it had.
    ///
    /// The running machine does not notice: its page cache shows what it has written, in the right
    /// place, and nothing amiss at the wrong one. What the disk holds shows after a power cut.
    /// [`Tally::misdirected`] rises when the write has become durable.
    pub fn misdirect_next_write(&self) {
        let mut state = held(&self.0);
        let state = &mut *state;
        state.platter.misdirect(&mut state.strays);
    }

    /// Sets how many bytes all files may take together; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        held(&self.0).room.capacity = bytes;
    }

    /// The `n`-th write or growth from now (1 is the next) finds the disk full, and so do the
    /// `writes - 1` after it; then there is room again. Replaces what was asked for before.
    ///
    /// Any write counts, not only one that makes its file longer: where a file system copies on
    /// write, every write needs room.
    pub fn fill_at_write(&self, n: u64, writes: u32) {
        held(&self.0).room.fill_at(n, writes);
    }

    /// Writes and growths asked for since the disk was new: the places at which it can be full.
    pub fn writes_seen(&self) -> u64 {
        held(&self.0).room.seen
    }

    /// Bytes that all files take together.
    pub fn used(&self) -> u64 {
        held(&self.0).platter.used()
    }

    /// Bytes that files may still take; `None` without a limit.
    pub fn free(&self) -> Option<u64> {
        let state = held(&self.0);
        state.room.capacity.map(|capacity| capacity.saturating_sub(state.platter.used()))
    }

    /// Sets how long fsyncs take from now on.
    pub fn set_speed(&self, speed: Speed) {
        held(&self.0).speed = speed;
    }

    /// Makes fsyncs take `factor` times what [`Speed`] says, from now on; 1 is as it was. Those
    /// that have their place in the queue keep their time.
    pub fn slow_by(&self, factor: u32) {
        held(&self.0).slow = factor.max(1);
    }

    /// Shows the content of every write of every file to `tap`, as the machine asks for it.
    pub fn set_tap(&self, tap: Tap) {
        held(&self.0).tap = Tapped(Some(tap));
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        held(&self.0).platter.tally
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
