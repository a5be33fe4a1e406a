//! The data folder: who may read it, the key file, the first admin password.
//!
//! ```text
//! tern.redb        log, snapshot, event rows, cursors (made by the storage)
//! data.key         seals keys at rest; without it a copy of the folder opens no key
//! admin.password   first admin password, until somebody deletes it
//! tern.sock        the local command line's door (made by the HTTP listener)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The key file.
const KEY_FILE: &str = "data.key";
/// The first admin password.
const PASSWORD_FILE: &str = "admin.password";
/// Letters and digits that nobody mistakes for each other.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be made or read.
    #[error("data folder {path}: {source}")]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is somebody else's.
    #[error(
        "data folder {path} belongs to uid {owner}, this process is uid {me}: \
         chown -R {me} {path}"
    )]
    Owner {
        /// Where.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process.
        me: u32,
    },
    /// A file in it cannot be made or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file is not one.
    #[error("{path} is not a key file: 32 bytes are needed, it has {bytes}")]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// Others may read the key file.
    #[error("others may read {path}: chmod 600 {path}")]
    KeyFileOpen {
        /// Where.
        path: PathBuf,
    },
    /// There is data, but no key for it.
    #[error(
        "{path} is missing, but the folder holds data that was sealed with it: \
         bring the key file back from where the folder came"
    )]
    KeyFileMissing {
        /// Where it should be.
        path: PathBuf,
    },
}

/// An existing folder that is ours.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    is_new: bool,
}

impl DataFolder {
    /// Makes the folder (0700) if it is not there, and checks whose it is.
    ///
    /// * Errors: [`DataError`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let error = |source| DataError::Folder { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
        let path = fs::canonicalize(path).map_err(error)?;
        let owner = fs::metadata(&path).map_err(error)?.uid();
        let me = rustix::process::geteuid().as_raw();
        if owner != me {
            return Err(DataError::Owner { path, owner, me });
        }
        let is_new = !path.join("tern.redb").exists();
        Ok(Self { path, is_new })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data key; drawn when the folder is new.
    ///
    /// * Errors: [`DataError`]; never a new key beside old data.
    pub fn key(&self, draw: impl FnOnce() -> [u8; 32]) -> Result<Zeroizing<[u8; 32]>, DataError> {
        let path = self.path.join(KEY_FILE);
        let error = |source| DataError::File { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && self.is_new => {
                let key = Zeroizing::new(draw());
                write_secret(&path, key.as_slice()).map_err(error)?;
                return Ok(key);
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                return Err(DataError::KeyFileMissing { path });
            }
            Err(source) => return Err(error(source)),
        };
        if file.metadata().map_err(error)?.permissions().mode() & 0o077 != 0 {
            return Err(DataError::KeyFileOpen { path });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        (&mut file).take(64).read_to_end(&mut bytes).map_err(error)?;
        match bytes.as_slice().try_into() {
            Ok(key) => Ok(Zeroizing::new(key)),
            Err(_) => Err(DataError::KeyFile { bytes: bytes.len(), path }),
        }
    }

    /// The first admin password: read, or made of `draw` when the folder is new.
    ///
    /// * Returns the password and whether it is new; `None` for a folder with data whose file was
    ///   deleted, as it should be once it is known.
    pub fn admin_password(
        &self,
        draw: impl FnOnce() -> [u8; 32],
    ) -> Result<Option<(Zeroizing<String>, bool)>, DataError> {
        let path = self.path.join(PASSWORD_FILE);
        let error = |source| DataError::File { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((Zeroizing::new(text.trim().to_owned()), false))),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound && self.is_new => {
                let password = password_of(&draw());
                write_secret(&path, format!("{}\n", *password).as_bytes()).map_err(error)?;
                Ok(Some((password, true)))
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(error(source)),
        }
    }

    /// Where the first admin password lies.
    pub fn password_file(&self) -> PathBuf {
        self.path.join(PASSWORD_FILE)
    }
}

/// 24 characters of 5 bits each, in groups of six: 120 bits.
fn password_of(random: &[u8; 32]) -> Zeroizing<String> {
    let mut password = Zeroizing::new(String::new());
    for (position, byte) in random.iter().take(24).enumerate() {
        if position > 0 && position % 6 == 0 {
            password.push('-');
        }
        password.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    password
}

/// Writes a file that only its owner reads, wholly or not at all.
fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tern-data-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_new_folder_gets_a_key_and_a_password_that_only_its_owner_reads() {
        let path = folder("new");
        let data = DataFolder::open(&path).unwrap();
        assert_eq!(*data.key(|| [7; 32]).unwrap(), [7; 32]);
        assert_eq!(*data.key(|| [8; 32]).unwrap(), [7; 32], "drawn once");
        let (password, new) = data.admin_password(|| [1; 32]).unwrap().unwrap();
        assert_eq!((password.as_str(), new), ("bbbbbb-bbbbbb-bbbbbb-bbbbbb", true));
        let (again, new) = data.admin_password(|| [2; 32]).unwrap().unwrap();
        assert_eq!((again, new), (password, false));
        for file in [KEY_FILE, PASSWORD_FILE] {
            let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_with_data_never_gets_a_new_key() {
        let path = folder("old");
        let data = DataFolder::open(&path).unwrap();
        data.key(|| [7; 32]).unwrap();
        fs::write(path.join("tern.redb"), b"x").unwrap();
        let data = DataFolder::open(&path).unwrap();
        fs::set_permissions(path.join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(data.key(|| [8; 32]), Err(DataError::KeyFileOpen { .. })));
        fs::remove_file(path.join(KEY_FILE)).unwrap();
        assert!(matches!(data.key(|| [8; 32]), Err(DataError::KeyFileMissing { .. })));
        assert!(data.admin_password(|| [1; 32]).unwrap().is_none());
        fs::remove_dir_all(path).unwrap();
    }
}
