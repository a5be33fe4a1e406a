//! A [`Medium`] in a folder of the real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::{Medium, StorageError};

/// Name of the storage file.
const FILE: &str = "tern.redb";
/// Name it bears while being created.
const TEMPORARY: &str = "tern.redb.new";
/// Name of the file that says that an fsync of the storage file has failed.
const SUSPECT: &str = "tern.redb.suspect";
/// Name of the file whose lock stands for the folder.
const LOCK: &str = "lock";

/// The storage file in a data folder, which no other process can open meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Held for its lock, which ends with the process however it ends.
    _lock: File,
}

impl Folder {
    /// Opens a data folder, creating it (mode 0700 on Unix) if need be, and locks it.
    ///
    /// Errors: [`StorageError::Locked`], naming the process if it can be told;
    /// [`StorageError::Io`] for what the file system refuses.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error: io::Error| StorageError::io("opening the data folder", error);
        create_private(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(StorageError::Locked { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for the message above; a full disk must not keep the node from starting.
        let named = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = named {
            tracing::debug!(%error, "lock file not written");
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_string(),
    }
}

impl Medium for Folder {
    fn exists(&self) -> io::Result<bool> {
        self.path.join(FILE).try_exists()
    }

    fn create_temporary(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        backend(options.open(self.path.join(TEMPORARY))?)
    }

    fn publish(&self) -> io::Result<()> {
        let temporary = self.path.join(TEMPORARY);
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, self.path.join(FILE))?;
        File::open(&self.path)?.sync_all()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        backend(OpenOptions::new().read(true).write(true).open(self.path.join(FILE))?)
    }

    fn is_suspect(&self) -> io::Result<bool> {
        self.path.join(SUSPECT).try_exists()
    }

    fn set_suspect(&self, suspect: bool) -> io::Result<()> {
        let path = self.path.join(SUSPECT);
        if suspect { File::create(path).map(drop) } else { fs::remove_file(path) }
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    match FileBackend::new(file) {
        Ok(backend) => Ok(Box::new(backend)),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
