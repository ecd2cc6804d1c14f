//! The data folder: who works in it, and what its last start said of the account and the settings.
//!
//! `serve` and `demo` hold the folder for themselves while they run; `respond` and `user` work beside them and
//! find here what they were started with, so that no guardrail set at the start is missing from a command.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    args::AccountPort,
    config::{self, Config},
};

const LOCK: &str = "lock";
const LAST_START: &str = "last-start.json";

/// The right to run the stages over a folder, until dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Held(#[allow(dead_code, reason = "held open, for its lock")] File);

/// Takes the folder, making it when it is not there.
pub(crate) fn hold(data: &Path) -> Result<Held> {
    std::fs::create_dir_all(data).with_context(|| format!("making the data folder {}", data.display()))?;
    let path = data.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("writing to the data folder: {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Held(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("another process serves {}: end it first, or name another folder with --data", data.display())
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("locking {}", path.display())),
    }
}

/// Fails unless the folder holds a store.
pub(crate) fn check(data: &Path) -> Result<()> {
    if !data.join("sentinel.db").is_file() {
        bail!("{} holds no data of sentinel serve or demo: name the folder with --data", data.display());
    }
    Ok(())
}

/// What a folder was last served with.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastStart {
    /// Whether the account is a simulated one.
    pub(crate) simulated_account: bool,
    /// Whether it is a real one.
    #[serde(default)]
    pub(crate) aws_account: bool,
    /// The settings file that was named, if one was.
    pub(crate) config: Option<PathBuf>,
}

impl LastStart {
    /// Of a start with this account port and settings file.
    pub(crate) fn new(account: AccountPort, config: Option<&Path>) -> Result<Self> {
        let config = config.map(std::path::absolute).transpose().context("finding the settings file")?;
        let (simulated_account, aws_account) = (account == AccountPort::Simulated, account == AccountPort::Aws);
        Ok(Self { simulated_account, aws_account, config })
    }

    /// Remembers it in the folder.
    pub(crate) fn write(&self, data: &Path) -> Result<()> {
        let path = data.join(LAST_START);
        std::fs::write(&path, serde_json::to_vec(self)?).with_context(|| format!("writing {}", path.display()))
    }

    /// What the folder remembers; the defaults when it was never served.
    pub(crate) fn read(data: &Path) -> Result<Self> {
        let path = data.join(LAST_START);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The account port it was started with.
    pub(crate) fn account(&self) -> AccountPort {
        match self {
            Self { aws_account: true, .. } => AccountPort::Aws,
            Self { simulated_account: true, .. } => AccountPort::Simulated,
            _ => AccountPort::None,
        }
    }

    /// The settings it was started with, as their file stands now.
    pub(crate) fn settings(&self, data: &Path) -> Result<Config> {
        config::load(self.config.as_deref(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_until_it_is_let_go() {
        let data = tempfile::tempdir().unwrap();
        let held = hold(data.path()).unwrap();
        let refused = hold(data.path()).unwrap_err().to_string();
        assert!(refused.contains("another process serves"), "{refused}");
        drop(held);
        hold(data.path()).unwrap();
    }

    #[test]
    fn a_command_uses_the_settings_that_the_server_was_started_with() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(LastStart::read(data.path()).unwrap(), LastStart::default());
        let settings = data.path().join("elsewhere.toml");
        std::fs::write(&settings, "[respond]\nbreak_glass = [\"emergency-admin\"]\n").unwrap();
        LastStart::new(AccountPort::Simulated, Some(&settings)).unwrap().write(data.path()).unwrap();
        let last = LastStart::read(data.path()).unwrap();
        assert_eq!(last.account(), AccountPort::Simulated);
        LastStart::new(AccountPort::Aws, Some(&settings)).unwrap().write(data.path()).unwrap();
        let last = LastStart::read(data.path()).unwrap();
        assert_eq!(last.account(), AccountPort::Aws);
        assert_eq!(last.settings(data.path()).unwrap().respond.break_glass, ["emergency-admin"]);
        std::fs::remove_file(&settings).unwrap();
        assert!(last.settings(data.path()).is_err(), "never quietly without its guardrails");
    }
}
