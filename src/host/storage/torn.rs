//! A disk for tests that tears, fails and fills up.
//!
//! What was written since the last sync survives a power cut sector by sector, by coin toss. A
//! rename survives for sure only once the folder was synced. Faults fire at the n-th operation.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::Medium;

const SECTOR: usize = 512;
const FINAL: &str = "final";
const TEMPORARY: &str = "temporary";

/// A small deterministic generator (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// What goes wrong, and at which operation from now (0: the next one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine loses power: nothing works until [`TornDisk::reboot`].
    PowerCut(u64),
    /// From this write or resize on there is no space, until [`TornDisk::make_room`].
    Full(u64),
    /// This sync fails, once; what it should have synced is lost at the next power cut.
    Sync(u64),
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<&'static str, usize>,
    durable_names: BTreeMap<&'static str, usize>,
    fault: Option<Fault>,
    dark: bool,
    full: bool,
    operations: u64,
    syncs: u64,
    boots: u64,
}

/// A handle to the disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TornDisk(Arc<Mutex<State>>);

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }

    fn tear(&self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        match self {
            Self::Bytes(offset, data) => {
                let mood = dice.below(3);
                let mut done = 0;
                while done < data.len() {
                    let end = data.len().min(done + SECTOR - (offset + done) % SECTOR);
                    if mood == 1 || (mood == 2 && dice.below(2) == 0) {
                        Self::Bytes(offset + done, data[done..end].to_vec()).apply(bytes);
                    }
                    done = end;
                }
            }
            Self::Length(_) if dice.below(2) == 0 => self.apply(bytes),
            Self::Length(_) => {}
        }
    }
}

impl State {
    /// Counts one operation and lets the fault fire.
    fn step(&mut self, writes: bool, syncs: bool) -> io::Result<()> {
        let dark = || io::Error::other("power was cut");
        if self.dark {
            return Err(dark());
        }
        self.operations += 1;
        let due = match &mut self.fault {
            None => None,
            Some(Fault::PowerCut(n)) => {
                n.checked_sub(1).map(|left| *n = left).is_none().then_some(0)
            }
            Some(Fault::Full(n)) if writes => {
                n.checked_sub(1).map(|left| *n = left).is_none().then_some(1)
            }
            Some(Fault::Sync(n)) if syncs => {
                n.checked_sub(1).map(|left| *n = left).is_none().then_some(2)
            }
            Some(Fault::Full(_) | Fault::Sync(_)) => None,
        };
        if due.is_some() {
            self.fault = None;
        }
        match due {
            Some(0) => {
                self.dark = true;
                return Err(dark());
            }
            Some(1) => self.full = true,
            Some(_) => return Err(io::Error::other("the device did not answer")),
            None => {}
        }
        if self.full && writes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl TornDisk {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.0.lock().unwrap())
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.with(|state| state.fault = Some(fault));
    }

    /// Takes back an armed fault; says whether it had not fired.
    pub(crate) fn disarm(&self) -> bool {
        self.with(|state| state.fault.take().is_some())
    }

    pub(crate) fn make_room(&self) {
        self.with(|state| state.full = false);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.with(|state| state.operations)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.with(|state| state.syncs)
    }

    /// Cuts the power, if it is not off yet: nothing more reaches the disk.
    pub(crate) fn cut(&self) {
        self.with(|state| state.dark = true);
    }

    /// Tears what was not synced and switches on again.
    pub(crate) fn reboot(&self, dice: &mut Dice) {
        self.with(|state| {
            for inode in &mut state.inodes {
                for write in std::mem::take(&mut inode.unsynced) {
                    write.tear(&mut inode.durable, dice);
                }
                inode.seen = inode.durable.clone();
            }
            if dice.below(2) == 0 {
                state.durable_names = state.names.clone();
            }
            state.names = state.durable_names.clone();
            (state.dark, state.full, state.fault) = (false, false, None);
            state.boots += 1;
        });
    }

    /// Flips one bit wherever `needle` lies in the file; returns in how many places.
    pub(crate) fn rot(&self, needle: &[u8]) -> usize {
        self.with(|state| {
            let bytes = &mut state.inodes[state.names[FINAL]].seen;
            let places: Vec<usize> = bytes
                .windows(needle.len())
                .enumerate()
                .filter(|(_, w)| *w == needle)
                .map(|(i, _)| i)
                .collect();
            for &place in &places {
                bytes[place] ^= 1;
            }
            places.len()
        })
    }
}

impl Medium for TornDisk {
    fn exists(&self) -> io::Result<bool> {
        Ok(self.with(|state| state.names.contains_key(FINAL)))
    }

    fn create_temporary(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.with(|state| {
            state.step(true, false)?;
            state.inodes.push(Inode::default());
            state.names.insert(TEMPORARY, state.inodes.len() - 1);
            Ok::<(), io::Error>(())
        })?;
        self.backend(TEMPORARY)
    }

    fn publish(&self) -> io::Result<()> {
        self.backend(TEMPORARY)?.sync_data()?;
        self.with(|state| {
            state.step(false, false)?;
            let inode = state.names.remove(TEMPORARY).unwrap();
            state.names.insert(FINAL, inode);
            state.step(false, true)?;
            state.durable_names = state.names.clone();
            Ok(())
        })
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.backend(FINAL)
    }
}

#[derive(Debug)]
struct Backend {
    disk: TornDisk,
    inode: usize,
    boot: u64,
}

impl TornDisk {
    fn backend(&self, name: &'static str) -> io::Result<Box<dyn StorageBackend>> {
        let (inode, boot) = self.with(|state| (state.names.get(name).copied(), state.boots));
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Backend { disk: self.clone(), inode, boot }))
    }
}

impl Backend {
    fn with<T>(
        &self,
        writes: bool,
        syncs: bool,
        run: impl FnOnce(&mut Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        self.disk.with(|state| {
            assert!(state.boots == self.boot || state.dark, "a dead process touches the disk");
            state.step(writes, syncs)?;
            run(&mut state.inodes[self.inode])
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.with(false, false, |inode| Ok(inode.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(false, false, |inode| {
            let start = usize::try_from(offset).unwrap();
            let found = inode.seen.get(start..start + out.len());
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(true, false, |inode| inode.write(Write::Length(usize::try_from(len).unwrap())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(false, true, |inode| {
            for write in inode.unsynced.drain(..) {
                write.apply(&mut inode.durable);
            }
            Ok(())
        })?;
        self.disk.with(|state| state.syncs += 1);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.with(true, false, |inode| inode.write(Write::Bytes(offset, data.to_vec())))
    }
}

impl Inode {
    fn write(&mut self, write: Write) -> io::Result<()> {
        write.apply(&mut self.seen);
        self.unsynced.push(write);
        Ok(())
    }
}
