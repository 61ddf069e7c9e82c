//! The durable side of the State: redb on disk, or a map in memory for simulations.
//!
//! Rows are JSON under `TABLE/KEY`, so that a newer version reads what an older one wrote.
//! **Invariant:** a write that returned `Ok` survives a crash; one that did not is wholly there or
//! wholly absent.

use std::collections::BTreeMap;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::tables::{BadRow, TABLES};
use super::{Key, Row, State};

/// The layout this version reads and writes.
const SCHEMA: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// redb's page cache. The State itself is the cache; this one only serves loading.
const CACHE_BYTES: usize = 1 << 20;

/// Where durable rows go.
#[derive(Debug)]
pub enum Journal {
    Disk {
        path: PathBuf,
        /// None after a failed write: redb wants the file closed and opened again.
        database: Option<Database>,
    },
    Memory(MemoryJournal),
}

/// Rows by `TABLE/KEY`, shared with whoever plays the restart, and a switch that makes writes fail.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    rows: BTreeMap<(&'static str, String), Vec<u8>>,
    reserved: u64,
    failing: bool,
}

impl MemoryJournal {
    /// From now on writes fail (or no longer do), as on a full disk.
    pub fn set_failing(&self, failing: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failing = failing;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal {path}: {source}")]
    Disk { path: PathBuf, source: Box<redb::Error> },
    #[error(
        "journal {path} has schema {found}, this version reads up to {SCHEMA}: run a newer roadstead"
    )]
    Schema { path: PathBuf, found: u64 },
    #[error("journal row {table}/{key}: {source}")]
    Row { table: String, key: String, source: BadRow },
    #[error("journal writes are made to fail")]
    Failing,
}

/// One row to write, or to delete.
pub(super) type Change = (Key, Option<Row>);

impl Journal {
    /// Opens or creates the journal file.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let database = open(path)?;
        Ok(Self::Disk { path: path.to_owned(), database: Some(database) })
    }

    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(MemoryJournal::default())
    }

    /// Everything written so far, and the first number of the sequence that was never handed out.
    pub(super) fn load(&self) -> Result<(State, u64), JournalError> {
        let mut state = State::default();
        let reserved = match self {
            Self::Disk { path, database } => {
                let Some(database) = database else { return Err(JournalError::Failing) };
                load_disk(database, &mut state).map_err(|error| at(path, error))??
            }
            Self::Memory(journal) => {
                let memory = journal.0.lock().unwrap_or_else(PoisonError::into_inner);
                for ((table, key), value) in &memory.rows {
                    state.put(decode(table, key, value)?);
                }
                memory.reserved
            }
        };
        Ok((state, reserved))
    }

    /// Writes all of `changes` and the new end of the reserved sequence, or nothing.
    pub(super) fn write(&mut self, changes: &[Change], reserved: u64) -> Result<(), JournalError> {
        match self {
            Self::Disk { path, database } => {
                if database.is_none() {
                    *database = Some(open(path)?);
                }
                let Some(open) = database else { return Err(JournalError::Failing) };
                write_disk(open, changes, reserved).map_err(|error| {
                    *database = None;
                    at(path, error)
                })
            }
            Self::Memory(journal) => journal.write(changes, reserved),
        }
    }
}

impl MemoryJournal {
    fn write(&self, changes: &[Change], reserved: u64) -> Result<(), JournalError> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.failing {
            return Err(JournalError::Failing);
        }
        for (key, row) in changes {
            let place = (key.table(), key.text());
            match row.as_ref().map(Row::encode) {
                Some(Ok(value)) => memory.rows.insert(place, value),
                Some(Err(error)) => return Err(bad(key.table(), &key.text(), error.into())),
                None => memory.rows.remove(&place),
            };
        }
        memory.reserved = reserved;
        Ok(())
    }
}

fn at(path: &Path, error: impl Into<redb::Error>) -> JournalError {
    JournalError::Disk { path: path.to_owned(), source: Box::new(error.into()) }
}

fn bad(table: &str, key: &str, source: BadRow) -> JournalError {
    JournalError::Row { table: table.to_owned(), key: key.to_owned(), source }
}

fn decode(table: &str, key: &str, value: &[u8]) -> Result<Row, JournalError> {
    Row::decode(table, value).map_err(|error| bad(table, key, error))
}

fn open(path: &Path) -> Result<Database, JournalError> {
    // Rows hold private keys; the folder alone may be open to others.
    private(path).map_err(|error| at(path, redb::Error::Io(error)))?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| at(path, error))?;
    let found = check_schema(&database).map_err(|error| at(path, error))?;
    if found > SCHEMA {
        return Err(JournalError::Schema { path: path.to_owned(), found });
    }
    Ok(database)
}

/// The file is there and its owner's alone.
fn private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// The schema of the file; a new file gets ours.
fn check_schema(database: &Database) -> Result<u64, redb::Error> {
    let txn = database.begin_write()?;
    let found = {
        let mut meta = txn.open_table(META)?;
        let found = meta.get("schema")?.map(|value| value.value());
        if found.is_none() {
            meta.insert("schema", SCHEMA)?;
        }
        found.unwrap_or(SCHEMA)
    };
    txn.commit()?;
    Ok(found)
}

fn load_disk(
    database: &Database,
    state: &mut State,
) -> Result<Result<u64, JournalError>, redb::Error> {
    let txn = database.begin_read()?;
    for table in TABLES {
        let rows = match txn.open_table(TableDefinition::<&str, &[u8]>::new(table)) {
            Ok(rows) => rows,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        for row in rows.iter()? {
            let (key, value) = row?;
            // A key this version cannot read belongs to a row it cannot keep either.
            if let Err(error) = Key::decode(table, key.value()) {
                return Ok(Err(bad(table, key.value(), error)));
            }
            match decode(table, key.value(), value.value()) {
                Ok(row) => state.put(row),
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    let reserved = txn.open_table(META)?.get("reserved")?.map_or(0, |value| value.value());
    Ok(Ok(reserved))
}

fn write_disk(database: &Database, changes: &[Change], reserved: u64) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    // Users choose the bytes, so one-phase commit's checksum alone could be made to lie after a
    // crash.
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    for (key, row) in changes {
        let mut table = txn.open_table(TableDefinition::<&str, &[u8]>::new(key.table()))?;
        match row {
            Some(row) => {
                let value =
                    row.encode().map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
                table.insert(key.text().as_str(), value.as_slice())?;
            }
            None => {
                table.remove(key.text().as_str())?;
            }
        }
    }
    txn.open_table(META)?.insert("reserved", reserved)?;
    txn.commit()?;
    Ok(())
}
