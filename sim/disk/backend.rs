//! A file of the simulated disk, as redb's `StorageBackend`.

use std::io;

use redb::StorageBackend;

use super::Disk;
use super::surface::Inode;
use crate::runtime::held;

/// An open file. It is refused everything once its machine has died.
#[derive(Clone, Debug)]
pub struct DiskFile {
    pub(super) disk: Disk,
    pub(super) boot: u64,
    pub(super) file: Inode,
}

impl DiskFile {
    fn with<T>(&self, f: impl FnOnce(&mut super::State) -> io::Result<T>) -> io::Result<T> {
        let mut state = held(&self.disk.0);
        if state.boot != self.boot {
            return Err(io::Error::other("simulated disk: the machine has died"));
        }
        f(&mut state)
    }

    /// Writes `bytes` at `offset`. Errors: `StorageFull`.
    pub(super) fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state| {
            state.room_for(self.file, offset + bytes.len() as u64)?;
            if let Some(tap) = &mut state.tap.0 {
                tap(bytes);
            }
            state.platter.write(self.file, offset, bytes);
            state.written();
            Ok(())
        })
    }

    /// Asks for the file's fsync. Errors: the one a fault has set up.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.with(|state| state.sync(self.file))
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.platter.len(self.file)))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let bytes = state.platter.read(self.file, offset, Some(out.len()));
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            if len > state.platter.len(self.file) {
                state.room_for(self.file, len)?;
            }
            state.platter.set_len(self.file, len);
            state.written();
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.put(offset, data)
    }
}
