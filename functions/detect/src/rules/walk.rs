//! Finding rule files below folders, and taking many apart at once.
//!
//! In: folders and files that were named. Out: rule files in order, the operator's own files beside them
//! ([`PLACEHOLDERS`], [`EXCEPTIONS`]), and what cannot be read.

use std::{
    collections::HashSet,
    fs, io,
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
    seen: HashSet<Identity>,
}

/// What a file or folder is the same by, however it is named.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Device and number, where there is one name for them.
    #[cfg(unix)]
    Number(u64, u64),
    Path(PathBuf),
}

#[cfg(unix)]
fn identity(path: &Path, metadata: &fs::Metadata) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.is_file() && metadata.nlink() == 1 {
        return Ok(Identity::Number(metadata.dev(), metadata.ino()));
    }
    path.canonicalize().map(Identity::Path)
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &fs::Metadata) -> io::Result<Identity> {
    path.canonicalize().map(Identity::Path)
}

impl Found {
    /// Adds a folder or file. An error only when that path itself cannot be read.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            let mut entries = sorted_entries(path).map_err(unreadable)?;
            for (name, into) in [(PLACEHOLDERS, &mut self.placeholders), (EXCEPTIONS, &mut self.exceptions)] {
                into.extend(entries.extract_if(.., |p| p.file_name().is_some_and(|n| n == name) && p.is_file()));
            }
            self.entries(entries, MAX_FOLDER_DEPTH);
        } else {
            self.file(path, &metadata);
        }
        Ok(())
    }

    fn entries(&mut self, entries: Vec<PathBuf>, depth: usize) {
        for path in entries {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.folder(&path, &metadata, depth),
                Ok(metadata) if is_rule_file(&path) => self.file(&path, &metadata),
                Err(error) if is_rule_file(&path) => self.refuse(&path, error.to_string()),
                _ => {}
            }
        }
    }

    fn folder(&mut self, path: &Path, metadata: &fs::Metadata, depth: usize) {
        if depth == 0 {
            return self.refuse(path, format!("folders nested more than {MAX_FOLDER_DEPTH} deep"));
        }
        // A link that leads back up would otherwise be walked again and again.
        match identity(path, metadata).map(|same| self.seen.insert(same)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.refuse(path, error.to_string()),
        }
        match sorted_entries(path) {
            Ok(entries) => self.entries(entries, depth - 1),
            Err(error) => self.refuse(path, error.to_string()),
        }
    }

    fn file(&mut self, path: &Path, metadata: &fs::Metadata) {
        match identity(path, metadata).map(|same| self.seen.insert(same)) {
            Ok(false) => self.warnings.push(format!("{}: named twice, read once", path.display())),
            Ok(true) if self.rules.len() >= MAX_FILES => self.refuse(path, format!("more than {MAX_FILES} rule files")),
            Ok(true) => self.rules.push(path.to_owned()),
            Err(error) => self.refuse(path, error.to_string()),
        }
    }

    fn refuse(&mut self, path: &Path, reason: String) {
        self.refused.push(Refused { file: path.display().to_string(), line: 1, field: None, reason });
    }
}

fn sorted_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(folder)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
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
