//! Finding rule files below folders, and taking many apart at once.
//!
//! In: folders and files that were named. Out: rule files in order, the operator's own files beside them
//! ([`PLACEHOLDERS`], [`EXCEPTIONS`]), and what cannot be read.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, FileType},
    io,
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{LoadError, Refused};

/// Name of the file of placeholders beside rules.
pub const PLACEHOLDERS: &str = "placeholders.yml";
/// Name of the file of exceptions beside rules.
pub const EXCEPTIONS: &str = "exceptions.yml";
/// Folders below a folder of rules.
const MAX_FOLDER_DEPTH: usize = 32;
/// Rule files in all.
pub(super) const MAX_FILES: usize = 50_000;
/// Fewer files are not worth another thread.
const WORTH_A_THREAD: usize = 16;
/// Most threads that files are taken apart by.
const MAX_THREADS: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rule files in order.
    pub(super) rules: Vec<PathBuf>,
    /// Files of placeholders at the top of the folders.
    pub(super) placeholders: Vec<PathBuf>,
    /// Files of exceptions at the top of the folders.
    pub(super) exceptions: Vec<PathBuf>,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
    /// Files and folders by the one name that they have, however they were named.
    seen: HashSet<OsString>,
}

impl Found {
    /// Adds a folder or file. An error only when that path itself cannot be read.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let name = path.canonicalize().map_err(unreadable)?;
        if metadata.is_dir() {
            let mut entries = sorted_entries(path).map_err(unreadable)?;
            for (name, into) in [(PLACEHOLDERS, &mut self.placeholders), (EXCEPTIONS, &mut self.exceptions)] {
                let own = entries.extract_if(.., |one| one.name == name && path.join(name).is_file());
                into.extend(own.map(|_| path.join(name)));
            }
            self.entries(path, &name, entries, MAX_FOLDER_DEPTH);
        } else {
            self.file(path.to_owned(), name);
        }
        Ok(())
    }

    /// Adds what is in a folder, of which `canonical` is the one name.
    fn entries(&mut self, folder: &Path, canonical: &Path, entries: Vec<Entry>, depth: usize) {
        for Entry { name, kind } in entries {
            let path = folder.join(&name);
            // What is no link is not asked after again, and has the folder's name before its own.
            let (is_dir, known) = match kind {
                Ok(kind) if !kind.is_symlink() => (Ok(kind.is_dir()), Ok(canonical.join(&name))),
                _ => (fs::metadata(&path).map(|metadata| metadata.is_dir()), path.canonicalize()),
            };
            match (is_dir, known) {
                (Ok(true), Ok(known)) => self.folder(&path, &known, depth),
                (Ok(false), Ok(known)) if is_rule_file(&path) => self.file(path, known),
                (Err(error), _) | (_, Err(error)) if is_rule_file(&path) => self.refuse(&path, error.to_string()),
                _ => {}
            }
        }
    }

    fn folder(&mut self, path: &Path, canonical: &Path, depth: usize) {
        if depth == 0 {
            return self.refuse(path, format!("folders nested more than {MAX_FOLDER_DEPTH} deep"));
        }
        // A link that leads back up would otherwise be walked again and again.
        if !self.seen.insert(canonical.into()) {
            return;
        }
        match sorted_entries(path) {
            Ok(entries) => self.entries(path, canonical, entries, depth - 1),
            Err(error) => self.refuse(path, error.to_string()),
        }
    }

    fn file(&mut self, path: PathBuf, canonical: PathBuf) {
        if !self.seen.insert(canonical.into_os_string()) {
            return self.warnings.push(format!("{}: named twice, read once", path.display()));
        }
        if self.rules.len() >= MAX_FILES {
            return self.refuse(&path, format!("more than {MAX_FILES} rule files"));
        }
        self.rules.push(path);
    }

    fn refuse(&mut self, path: &Path, reason: String) {
        self.refused.push(Refused { file: path.display().to_string(), line: 1, field: None, reason });
    }
}

/// What is in a folder.
struct Entry {
    name: OsString,
    kind: io::Result<FileType>,
}

fn sorted_entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let entry = |entry: io::Result<fs::DirEntry>| entry.map(|e| Entry { name: e.file_name(), kind: e.file_type() });
    let mut entries = fs::read_dir(folder)?.map(entry).collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Sigma rules are `.yml` or `.yaml`; what has `.tests.` in its name belongs to a rule, and what begins with
/// a dot is nobody's rule.
pub(crate) fn is_rule_file(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return false };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    (extension.eq_ignore_ascii_case("yml") || extension.eq_ignore_ascii_case("yaml"))
        && !name.contains(".tests.")
        && !name.starts_with('.')
}

/// Does something with each item, with several threads where there is enough to do; the results are in the items'
/// order, whichever was done first.
pub(super) fn each<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    each_beside(items, work, || ())
}

/// The same, doing something else meanwhile.
pub(super) fn each_beside<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> T + Sync,
    meanwhile: impl FnOnce(),
) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let threads = threads.min(items.len() / WORTH_A_THREAD).max(1);
    if threads == 1 {
        meanwhile();
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let share = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            done.push((number, work(item)));
        }
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(share)).collect();
        meanwhile();
        let mut all = share();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        for count in [0, 1, 15, 500] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(each(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
