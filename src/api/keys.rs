//! Access keys: the file `credentials` of the data directory.
//!
//! Its form is AWS's shared credentials file, so `AWS_SHARED_CREDENTIALS_FILE` may point at it:
//! profile `[default]` is made at the first start, further profiles are further keys. Not here:
//! what a signature is. **Invariant:** a secret is in no `Debug`, no log and no error, and comes
//! from a file that only its owner reads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Its name in the data directory.
pub const FILE: &str = "credentials";

/// More bytes than this are no credentials file.
const LONGEST_FILE: u64 = 1024 * 1024;

/// IAM's accessKeyIdType: 16 to 128 word characters.
const ID_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;
/// AWS's own have 40 characters.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: mode {mode:03o} lets others than its owner in, 600 is needed")]
    Open { path: PathBuf, mode: u32 },
    #[error("{path}:{line}: {reason}")]
    Bad { path: PathBuf, line: usize, reason: String },
}

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    secret: String,
}

impl Key {
    /// A key whose secret is the one line of a file.
    ///
    /// # Errors
    /// The file cannot be read or is open to others than its owner; id or secret have no good form.
    pub fn read(id: &str, secret_file: &Path) -> Result<Self, KeysError> {
        let text = read_private(secret_file)?;
        let mut profile = Profile::new("", 1);
        let set = profile.set("aws_access_key_id", id);
        let set = set.and_then(|()| profile.set("aws_secret_access_key", text.trim()));
        set.map_err(|reason| (1, reason))
            .and_then(|()| profile.key())
            .map_err(|(line, reason)| KeysError::Bad { path: secret_file.to_owned(), line, reason })
    }

    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Every key that may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    default: Key,
    /// Those of the other profiles and of the configuration file, by id.
    others: BTreeMap<String, Key>,
}

impl Keys {
    /// The keys of a data directory; the first call there makes one. The caller holds the
    /// directory's lock.
    ///
    /// # Errors
    /// What [`Keys::read`] says, or the file cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, KeysError> {
        let path = data_dir.join(FILE);
        match Self::read(&path) {
            Err(KeysError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                create(&path).map_err(|source| KeysError::Io { path: path.clone(), source })?;
                Self::read(&path)
            }
            outcome => outcome,
        }
    }

    /// # Errors
    /// The file cannot be read, is open to others than its owner, or is no credentials file.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text = read_private(path)?;
        Self::parse(&text).map_err(|(line, reason)| KeysError::Bad {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// With further keys.
    ///
    /// # Errors
    /// The id of a key that is here already.
    pub fn with(mut self, keys: &[Key]) -> Result<Self, String> {
        for key in keys {
            if self.get(&key.id).is_some() {
                return Err(key.id.clone());
            }
            self.others.insert(key.id.clone(), key.clone());
        }
        Ok(self)
    }

    /// The key of profile `[default]`.
    #[must_use]
    pub const fn default_key(&self) -> &Key {
        &self.default
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Key> {
        if self.default.id == id { Some(&self.default) } else { self.others.get(id) }
    }

    /// # Errors
    /// A line's number and what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut profiles: Vec<Profile> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            let bad = |reason: String| (number, reason);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| bad("must be [profile]".to_owned()))?;
                if profiles.iter().any(|profile| profile.name == name) {
                    return Err(bad(format!("profile {name} stands here twice")));
                }
                profiles.push(Profile::new(name, number));
                continue;
            }
            // Not shown: it may be a secret.
            let (key, value) =
                line.split_once('=').ok_or_else(|| bad("must be key = value".to_owned()))?;
            let profile =
                profiles.last_mut().ok_or_else(|| bad("stands before a [profile]".to_owned()))?;
            profile.set(key.trim(), value.trim()).map_err(bad)?;
        }
        let mut default = None;
        let mut ids = std::collections::BTreeSet::new();
        let mut others = BTreeMap::new();
        for profile in profiles {
            let (line, is_default) = (profile.line, profile.name == "default");
            let key = profile.key()?;
            if !ids.insert(key.id.clone()) {
                return Err((line, format!("key {} stands here twice", key.id)));
            }
            if is_default {
                default = Some(key);
            } else {
                others.insert(key.id.clone(), key);
            }
        }
        let default = default.ok_or_else(|| (1, "has no profile [default]".to_owned()))?;
        Ok(Self { default, others })
    }
}

/// The text of a file that only its owner reads.
pub(super) fn read_private(path: &Path) -> Result<String, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // Of the file that is open, whatever becomes of its name.
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(LONGEST_FILE).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// One section of the file.
struct Profile {
    name: String,
    line: usize,
    id: Option<String>,
    secret: Option<String>,
}

impl Profile {
    fn new(name: &str, line: usize) -> Self {
        Self { name: name.to_owned(), line, id: None, secret: None }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let (field, length) = match key {
            "aws_access_key_id" => (&mut self.id, ID_LENGTH),
            "aws_secret_access_key" => (&mut self.secret, SECRET_LENGTH),
            "aws_session_token" => {
                return Err("aws_session_token: keys here are long-term keys".to_owned());
            }
            _ => {
                return Err("unknown key, only aws_access_key_id and aws_secret_access_key \
                            are known"
                    .to_owned());
            }
        };
        let is_id = key == "aws_access_key_id";
        let good = |b: u8| {
            if is_id { b.is_ascii_alphanumeric() || b == b'_' } else { b.is_ascii_graphic() }
        };
        if !length.contains(&value.len()) || !value.bytes().all(good) {
            let of = if is_id { "letters, digits and _" } else { "printable characters" };
            return Err(format!("{key}: must be {} to {} {of}", length.start(), length.end()));
        }
        if field.replace(value.to_owned()).is_some() {
            return Err(format!("{key}: stands here twice"));
        }
        Ok(())
    }

    fn key(self) -> Result<Key, (usize, String)> {
        let missing = |key| (self.line, format!("profile {}: {key} is missing", self.name));
        let id = self.id.clone().ok_or_else(|| missing("aws_access_key_id"))?;
        let secret = self.secret.clone().ok_or_else(|| missing("aws_secret_access_key"))?;
        Ok(Key { id, secret })
    }
}

/// A file with one random key: written whole beside its place, then renamed there.
fn create(path: &Path) -> io::Result<()> {
    let mut random = [0u8; 56];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let (id, secret) = random.split_at(16);
    // Powers of two: no character is likelier than another.
    let id = id.iter().map(|byte| char::from(BASE32[usize::from(byte & 31)]));
    let secret = secret.iter().map(|byte| char::from(BASE64[usize::from(byte & 63)]));
    let text = format!(
        "[default]\naws_access_key_id = AKIA{}\naws_secret_access_key = {}\n",
        id.collect::<String>(),
        secret.collect::<String>()
    );
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
