//! The archive as files: `ROOT/{account}/{day}/{hash}.ndjson.gz`.
//!
//! A file is written under `ROOT/.tmp`, synchronised, and renamed to its place, so a crash leaves no partial
//! object: at most a file in `.tmp`, which the next [`FileArchive::open`] that finds it old removes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_model::{Event, Timestamp};

use crate::object::{DayReader, Object, SUFFIX, check_account, check_day, day_of, objects};
use crate::{Archive, ArchiveError, Day};

/// Where files are written before they are whole.
const TEMPORARY: &str = ".tmp";
/// Age from which a file there is a crash's and not another process's.
const ABANDONED: Duration = Duration::from_hours(1);

/// An archive in a folder.
#[derive(Debug, Clone)]
pub struct FileArchive {
    root: PathBuf,
}

impl FileArchive {
    /// Opens an archive, making its folder where it is missing, readable by its owner only.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ArchiveError> {
        let root = dir.into();
        let temporary = root.join(TEMPORARY);
        make_folder(&temporary).map_err(store)?;
        for entry in fs::read_dir(&temporary).map_err(store)? {
            let path = entry.map_err(store)?.path();
            // Another process may have finished the file or removed it meanwhile.
            let age = fs::metadata(&path).and_then(|m| m.modified()).map(|t| t.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age >= ABANDONED) {
                remove(&path).map_err(store)?;
            }
        }
        Ok(Self { root })
    }

    fn put_now(&self, events: &[Event]) -> Result<(), ArchiveError> {
        for object in objects(events)? {
            self.write(&object).map_err(store)?;
        }
        Ok(())
    }

    fn write(&self, object: &Object) -> std::io::Result<()> {
        let folder = self.root.join(&object.account).join(&object.day);
        let path = folder.join(&object.name);
        if path.exists() {
            return sync_folders(&self.root, &folder);
        }
        let temporary = self.root.join(TEMPORARY).join(format!("{}-{}", uuid::Uuid::new_v4(), object.name));
        let written = write_whole(&temporary, &object.bytes).and_then(|()| {
            // The retention may remove an old day's folder between its making and the renaming.
            let placed = make_folder(&folder).and_then(|()| fs::rename(&temporary, &path));
            match placed {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    make_folder(&folder).and_then(|()| fs::rename(&temporary, &path))
                }
                done => done,
            }
        });
        if written.is_err() {
            // The error that counts is the first; what stays in the folder is removed once it is old.
            let _ = remove(&temporary);
        }
        written.and_then(|()| sync_folders(&self.root, &folder))
    }

    fn read_now(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        let folder = self.root.join(account).join(day);
        let mut names = children(&folder, |name| name.ends_with(SUFFIX))?;
        names.sort_unstable();
        let mut reader = DayReader::default();
        for name in names {
            let full = format!("{account}/{day}/{name}");
            match File::open(folder.join(&name)) {
                Ok(file) => reader.add(&full, file),
                Err(e) => reader.problem(&full, e.to_string()),
            }
        }
        Ok(reader.finish())
    }

    fn days_now(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        let mut days = children(&self.root.join(account), |name| check_day(name).is_ok())?;
        days.sort_unstable();
        Ok(days)
    }

    fn accounts_now(&self) -> Result<Vec<String>, ArchiveError> {
        let mut accounts = children(&self.root, |name| check_account(name).is_ok())?;
        accounts.sort_unstable();
        Ok(accounts)
    }

    fn forget_now(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        let first_kept = day_of(time);
        let mut gone = 0;
        for account in self.accounts_now()? {
            for day in self.days_now(&account)?.into_iter().take_while(|day| *day < first_kept) {
                fs::remove_dir_all(self.root.join(&account).join(day)).map_err(store)?;
                gone += 1;
            }
            // An account without days is no account with events. One that has days stays: removing fails.
            match fs::remove_dir(self.root.join(&account)) {
                Err(e) if !matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {
                    return Err(store(e));
                }
                _ => {}
            }
        }
        Ok(gone)
    }

    /// Runs work on files where it does not hold up the runtime.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let archive = self.clone();
        tokio::task::spawn_blocking(move || work(&archive)).await.map_err(|e| ArchiveError::Store(Box::new(e)))?
    }
}

#[async_trait]
impl Archive for FileArchive {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        let events = events.to_vec();
        self.run(move |archive| archive.put_now(&events)).await
    }

    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        check_account(account)?;
        let account = account.to_owned();
        self.run(move |archive| archive.days_now(&account)).await
    }

    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        self.run(Self::accounts_now).await
    }

    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        check_account(account)?;
        check_day(day)?;
        let (account, day) = (account.to_owned(), day.to_owned());
        self.run(move |archive| archive.read_now(&account, &day)).await
    }

    async fn forget_before(&self, time: Timestamp) -> Result<u64, ArchiveError> {
        self.run(move |archive| archive.forget_now(time)).await
    }
}

fn store(e: std::io::Error) -> ArchiveError {
    ArchiveError::Store(Box::new(e))
}

/// Names in a folder that pass a test; none when there is no such folder. Hidden ones never do.
fn children(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, ArchiveError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(store(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(store)?.file_name().into_string()
            && wanted(&name)
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut folder = DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(path)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the names durable: of the object in its day, of the day in its account, of the account.
fn sync_folders(root: &Path, folder: &Path) -> std::io::Result<()> {
    for path in folder.ancestors().take_while(|path| path.starts_with(root)) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}
