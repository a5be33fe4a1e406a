//! The data folder: who may read it, the key file, the first admin password.
//!
//! ```text
//! tern.redb        log, snapshot, event rows, cursors (made by the storage)
//! data.key         seals keys at rest; without it a copy of the folder opens no key
//! node.key         the node's identity: its X25519 secret key
//! cluster.cookie   what all nodes of a cluster share, and nobody else
//! intent           what the node is about to become: it joins or leaves a cluster
//! data.pre-..      what was set aside when the node joined another cluster, or left one
//! admin.password   first admin password, until somebody deletes it
//! tern.sock        the local command line's door (made by the HTTP listener)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cluster::cookie::{CookieError, cookie_from_random, judge_cookie};
use host::world::Kept;
use zeroize::Zeroizing;

/// The storage.
const STORAGE_FILE: &str = "tern.redb";
/// The cookie.
const COOKIE_FILE: &str = "cluster.cookie";
/// The first admin password.
const PASSWORD_FILE: &str = "admin.password";
/// Longest secret file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
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
    /// A cookie that is none.
    #[error("{path}: {why}")]
    Cookie {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        why: CookieError,
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

    /// Whether it holds a storage.
    pub fn has_data(&self) -> bool {
        self.path.join(STORAGE_FILE).exists()
    }

    /// Reads what the node keeps for itself; `None` if it is not there.
    ///
    /// * Errors: also for a file that others may read.
    pub fn kept(&self, what: Kept) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        read_secret(&self.path.join(file_of(what)))
    }

    /// Keeps something durably; `None` forgets it.
    ///
    /// * Errors: never a new data key beside old data.
    pub fn keep(&self, what: Kept, bytes: Option<&[u8]>) -> io::Result<()> {
        let path = self.path.join(file_of(what));
        match bytes {
            Some(bytes) => write_secret(&path, bytes),
            None => match fs::remove_file(&path) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        }
    }

    /// The cluster's cookie: read, or made when there is none.
    ///
    /// * Errors: a file that others may read, or a cookie that anybody may guess.
    pub fn cookie(&self, draw: impl FnOnce() -> [u8; 32]) -> Result<Zeroizing<String>, DataError> {
        let path = self.cookie_file();
        let error = |source| DataError::File { path: path.clone(), source };
        if let Some(bytes) = read_secret(&path).map_err(error)? {
            let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
            let text = Zeroizing::new(text.trim().to_owned());
            judge_cookie(&text)
                .map_err(|why| DataError::Cookie { path: path.display().to_string(), why })?;
            return Ok(text);
        }
        let cookie = Zeroizing::new(cookie_from_random(draw()));
        write_secret(&path, format!("{}\n", *cookie).as_bytes()).map_err(error)?;
        Ok(cookie)
    }

    /// Where the cookie lies.
    pub fn cookie_file(&self) -> PathBuf {
        self.path.join(COOKIE_FILE)
    }

    /// Moves the storage and its key into a folder of their own; nothing is destroyed.
    ///
    /// * `why`: `pre-join`, `removed`.
    /// * Returns that folder.
    pub fn set_aside(&self, why: &str) -> Result<PathBuf, DataError> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let aside = self.path.join(format!("data.{why}-{seconds}"));
        let error = |source| DataError::Folder { path: aside.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside).map_err(error)?;
        for file in [PASSWORD_FILE, file_of(Kept::DataKey), STORAGE_FILE] {
            match fs::rename(self.path.join(file), aside.join(file)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(error(source));
                }
                Ok(()) | Err(_) => {}
            }
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(error)?;
        Ok(aside)
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

    /// Deletes the first admin password: it is not this cluster's.
    pub fn forget_password(&self) {
        if let Err(error) = fs::remove_file(self.password_file()) {
            tracing::warn!(%error, "the admin password file stays");
        }
    }

    /// Where the first admin password lies.
    pub fn password_file(&self) -> PathBuf {
        self.path.join(PASSWORD_FILE)
    }
}

/// The file of something kept.
const fn file_of(what: Kept) -> &'static str {
    match what {
        Kept::NodeKey => "node.key",
        Kept::DataKey => "data.key",
        Kept::Intent => "intent",
    }
}

/// Reads a file that only its owner may read; `None` if it is not there.
fn read_secret(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut file = match File::open(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        return Err(io::Error::other(format!("others may read {path}: chmod 600 {path}")));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut file).take(SECRET_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
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

    /// What the system might have drawn.
    const RANDOM: [u8; 32] = [
        0x9f, 0x14, 0xc3, 0x6a, 0x08, 0xe7, 0x5d, 0xb2, 0x31, 0xf8, 0x4c, 0x97, 0x0b, 0xde, 0x65,
        0xa1, 0x7e, 0x23, 0xd9, 0x50, 0xbc, 0x06, 0x8f, 0x42, 0xeb, 0x19, 0x74, 0xad, 0x3c, 0xf5,
        0x88, 0x61,
    ];

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tern-data-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn secrets_are_drawn_once_and_read_by_their_owner_alone() {
        let path = folder("new");
        let data = DataFolder::open(&path).unwrap();
        assert!(data.kept(Kept::DataKey).unwrap().is_none());
        data.keep(Kept::DataKey, Some(&[7; 32])).unwrap();
        assert_eq!(data.kept(Kept::DataKey).unwrap().unwrap().as_slice(), [7; 32]);
        let cookie = data.cookie(|| RANDOM).unwrap();
        assert_eq!(*data.cookie(|| [4; 32]).unwrap(), *cookie, "drawn once");
        let (password, new) = data.admin_password(|| [1; 32]).unwrap().unwrap();
        assert_eq!((password.as_str(), new), ("bbbbbb-bbbbbb-bbbbbb-bbbbbb", true));
        let (again, new) = data.admin_password(|| [2; 32]).unwrap().unwrap();
        assert_eq!((again, new), (password, false));
        for file in ["data.key", COOKIE_FILE, PASSWORD_FILE] {
            let mode = fs::metadata(path.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        data.keep(Kept::DataKey, None).unwrap();
        assert!(data.kept(Kept::DataKey).unwrap().is_none());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_others_may_read_or_guess_is_refused() {
        let path = folder("open");
        let data = DataFolder::open(&path).unwrap();
        data.keep(Kept::DataKey, Some(&[7; 32])).unwrap();
        fs::set_permissions(path.join("data.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = data.kept(Kept::DataKey).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        write_secret(&data.cookie_file(), b"secret7\n").unwrap();
        let error = data.cookie(|| [1; 32]).unwrap_err().to_string();
        assert!(error.contains("tern cluster cookie"), "{error}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_is_set_aside_is_whole_and_the_identity_stays() {
        let path = folder("aside");
        let data = DataFolder::open(&path).unwrap();
        data.keep(Kept::DataKey, Some(&[7; 32])).unwrap();
        data.keep(Kept::NodeKey, Some(&[8; 32])).unwrap();
        fs::write(path.join(STORAGE_FILE), b"x").unwrap();
        let aside = data.set_aside("pre-join").unwrap();
        assert_eq!(fs::read(aside.join(STORAGE_FILE)).unwrap(), b"x");
        assert_eq!(fs::read(aside.join("data.key")).unwrap(), [7; 32]);
        assert!(!data.has_data() && data.kept(Kept::NodeKey).unwrap().is_some());
        fs::remove_dir_all(path).unwrap();
    }
}
