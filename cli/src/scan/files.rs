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

/// The inputs that paths name, files of a folder in order of their names; and what could not be listed.
/// Links inside a folder are not followed; one that is named itself is.
pub(crate) fn list(paths: &[PathBuf]) -> (Vec<Input>, Vec<Unreadable>) {
    let mut inputs = Vec::new();
    let mut unreadable = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input::Stdin);
            continue;
        }
        if !path.is_dir() {
            match std::fs::metadata(path) {
                Ok(_) => inputs.push(Input::File(path.clone())),
                Err(e) => unreadable.push(refused(path, &e)),
            }
            continue;
        }
        for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() => inputs.push(Input::File(entry.into_path())),
                Ok(_) => {}
                Err(e) => unreadable.push(refused(e.path().unwrap_or(path), &e)),
            }
        }
    }
    (inputs, unreadable)
}

fn refused(path: &Path, error: &impl std::fmt::Display) -> Unreadable {
    Unreadable { file: path.display().to_string(), reason: error.to_string() }
}
