//! Which files a scan reads: those named, those under the folders named, standard input for `-`.

use std::path::{Path, PathBuf};

use super::summary::Unreadable;

/// One input of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Input {
    /// The input's name in reports.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "-".into(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// What paths name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// What is to be read, files of a folder in order of their names.
    pub(crate) inputs: Vec<Input>,
    /// What could not be listed.
    pub(crate) unreadable: Vec<Unreadable>,
    /// What stands in a folder and is no file: pipes, sockets, devices, links to folders.
    pub(crate) skipped: Vec<String>,
}

/// Lists what paths name. A link to a file is read like the file. A link to a folder inside a folder is not
/// followed: chains of such links can name more paths than there is time; one that is named itself is.
pub(crate) fn list(paths: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    for path in paths {
        if path.as_os_str() == "-" {
            listing.inputs.push(Input::Stdin);
        } else if path.is_dir() {
            listing.folder(path);
        } else {
            match std::fs::metadata(path) {
                Ok(_) => listing.inputs.push(Input::File(path.clone())),
                Err(e) => listing.refuse(path, &e),
            }
        }
    }
    listing
}

impl Listing {
    fn folder(&mut self, folder: &Path) {
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    self.refuse(e.path().unwrap_or(folder), &e);
                    continue;
                }
            };
            let kind = entry.file_type();
            if kind.is_dir() || (kind.is_symlink() && entry.depth() == 0) {
                continue;
            }
            if !kind.is_symlink() {
                self.found(entry.into_path(), kind.is_file());
                continue;
            }
            match std::fs::metadata(entry.path()) {
                Ok(target) => self.found(entry.into_path(), target.is_file()),
                Err(e) => self.refuse(entry.path(), &e),
            }
        }
    }

    fn found(&mut self, path: PathBuf, is_file: bool) {
        if is_file {
            self.inputs.push(Input::File(path));
        } else {
            self.skipped.push(path.display().to_string());
        }
    }

    fn refuse(&mut self, path: &Path, error: &impl std::fmt::Display) {
        self.unreadable.push(Unreadable { file: path.display().to_string(), reason: error.to_string() });
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::{fs::symlink, net::UnixListener};

    #[test]
    fn a_folder_gives_files_and_links_to_files_and_tells_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("logs")).unwrap();
        for name in ["b.json", "logs/a.json"] {
            std::fs::write(at(name), "").unwrap();
        }
        symlink("b.json", at("link.json")).unwrap();
        symlink("..", at("logs/loop")).unwrap();
        symlink("gone", at("logs/dangling")).unwrap();
        symlink("itself", at("itself")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();

        let found = list(&[folder.path().to_owned()]);
        let names = |names: &[&str]| names.iter().map(|n| at(n).display().to_string()).collect::<Vec<_>>();
        let inputs: Vec<_> = found.inputs.iter().map(Input::name).collect();
        assert_eq!(inputs, names(&["b.json", "link.json", "logs/a.json"]));
        assert_eq!(found.skipped, names(&["logs/loop", "socket"]));
        let unreadable: Vec<_> = found.unreadable.iter().map(|u| u.file.clone()).collect();
        assert_eq!(unreadable, names(&["itself", "logs/dangling"]));

        symlink(".", at("again")).unwrap();
        assert_eq!(list(&[at("again")]).inputs.len(), 3, "a link that is named is followed");
    }
}
