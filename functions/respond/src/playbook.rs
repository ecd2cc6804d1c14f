//! Playbooks: which alerts call for which action. YAML, read strictly: what is not understood is an error
//! that names the file and the field, never passed over.
//!
//! In: the playbooks that ship with the product and an operator's folder. Out: for an alert, the playbook
//! of each kind of action that applies.

use std::path::Path;

use sentinel_model::response::{ActionKind, Mode};
use sentinel_model::{Alert, Level};
use serde::Deserialize;

/// Playbooks that ship with the product: file name and text.
const SHIPPED: [(&str, &str); 1] = [("contain-access-key.yml", include_str!("../playbooks/contain-access-key.yml"))];
/// Longest name.
const NAME_LENGTH: usize = 64;

/// One playbook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Unique name: lower-case letters, digits and `-`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Which alerts it is for.
    pub when: Selector,
    /// What it does.
    pub action: ActionKind,
    /// How far it may go by itself; never further than the deployment's own mode.
    #[serde(default)]
    pub mode: Option<Mode>,
}

/// Which alerts a playbook is for; an empty list lets every alert pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// This level or above; high or critical.
    pub min_level: Level,
    /// Rule ids.
    #[serde(default)]
    pub rules: Vec<String>,
    /// ATT&CK tactic short names, e.g. `credential-access`.
    #[serde(default)]
    pub tactics: Vec<String>,
    /// Accounts.
    #[serde(default)]
    pub accounts: Vec<String>,
}

impl Selector {
    fn takes(&self, alert: &Alert) -> bool {
        let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        let tactic = self.tactics.is_empty() || self.tactics.iter().any(|tactic| alert.attack.tactics.contains(tactic));
        alert.level >= self.min_level
            && any(&self.rules, &alert.rule.id)
            && any(&self.accounts, &alert.account)
            && tactic
    }
}

/// A playbook that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    /// A file or folder cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file or folder.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no playbook; the reason names field and line.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Field, line and what is wrong.
        reason: String,
    },
}

/// The playbooks in force.
#[derive(Debug, Clone, Default)]
pub struct Playbooks(Vec<Playbook>);

impl Playbooks {
    /// Those that ship with the product.
    pub fn shipped() -> Result<Self, PlaybookError> {
        let mut all = Self::default();
        for (file, text) in SHIPPED {
            all.add(parse(file, text)?);
        }
        Ok(all)
    }

    /// Adds an operator's folder: every `.yml` and `.yaml` file in it, by name. A playbook of a name that
    /// there is already takes its place; two files of one name are an error.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, PlaybookError> {
        let unreadable = |file: &Path, source| PlaybookError::Read { file: file.display().to_string(), source };
        let entries = std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| unreadable(folder, e))?.path();
            if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
                files.push(path);
            }
        }
        files.sort();
        let mut names: Vec<String> = Vec::new();
        for path in files {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
            let playbook = parse(&file, &text)?;
            if names.contains(&playbook.name) {
                return Err(malformed(&file, format!("name: {:?} is the name of another file's too", playbook.name)));
            }
            names.push(playbook.name.clone());
            self.add(playbook);
        }
        Ok(self)
    }

    /// From parts, for tests and embedders.
    pub fn of(playbooks: Vec<Playbook>) -> Self {
        Self(playbooks)
    }

    fn add(&mut self, playbook: Playbook) {
        self.0.retain(|p| p.name != playbook.name);
        self.0.push(playbook);
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Playbook> {
        self.0.iter()
    }

    /// The playbooks that apply to an alert, the first by name for each kind of action.
    pub fn for_alert(&self, alert: &Alert) -> Vec<&Playbook> {
        let mut chosen: Vec<&Playbook> = Vec::new();
        for playbook in self.0.iter().filter(|p| p.when.takes(alert)) {
            if !chosen.iter().any(|c| c.action == playbook.action) {
                chosen.push(playbook);
            }
        }
        chosen
    }
}

/// Reads one playbook; errors name the file and the field.
pub fn parse(file: &str, text: &str) -> Result<Playbook, PlaybookError> {
    let playbook: Playbook = serde_yaml_ng::from_str(text).map_err(|e| malformed(file, e.to_string()))?;
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if playbook.name.is_empty() || playbook.name.len() > NAME_LENGTH || !playbook.name.chars().all(named) {
        let reason = format!("name: {:?} must be 1 to {NAME_LENGTH} of a-z, 0-9 and -", playbook.name);
        return Err(malformed(file, reason));
    }
    if playbook.when.min_level < Level::High {
        let reason = format!("when.min_level: {} is too low for an action; high or critical", playbook.when.min_level);
        return Err(malformed(file, reason));
    }
    if playbook.action == ActionKind::RevokeSessions {
        let reason = "action: revoke_sessions is recorded by itself for temporary keys and cannot be asked for";
        return Err(malformed(file, reason.into()));
    }
    for tactic in &playbook.when.tactics {
        if tactic.is_empty() || !tactic.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            let reason = format!("when.tactics: {tactic:?} is no short name such as credential-access");
            return Err(malformed(file, reason));
        }
    }
    for account in &playbook.when.accounts {
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed(
                file,
                format!("when.accounts: {account:?} is no account id of 12 digits (quote it)"),
            ));
        }
    }
    Ok(playbook)
}

fn malformed(file: &str, reason: String) -> PlaybookError {
    PlaybookError::Malformed { file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: x\ndescription: d\nwhen:\n  min_level: critical\n  tactics: [credential-access]\naction: deactivate_access_key\nmode: approve\n";

    #[test]
    fn shipped_playbooks_are_sound() {
        let all = Playbooks::shipped().unwrap();
        assert!(all.iter().any(|p| p.name == "contain-access-key" && p.action == ActionKind::DeactivateAccessKey));
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for (change, field) in [
            (("min_level: critical", "min_level: medium"), "when.min_level"),
            (("min_level: critical", "min_level: severe"), "min_level"),
            (("action: deactivate_access_key", "action: delete_everything"), "action"),
            (("action: deactivate_access_key", "action: revoke_sessions"), "action"),
            (("mode: approve", "mode: yolo"), "mode"),
            (("mode: approve", "modes: approve"), "modes"),
            (("name: x", "name: X Y"), "name"),
            (("[credential-access]", "[T1552]"), "when.tactics"),
            (("[credential-access]", "[x]\n  accounts: ['12']"), "when.accounts"),
            (("description: d\n", ""), "description"),
        ] {
            let text = GOOD.replace(change.0, change.1);
            assert_ne!(text, GOOD);
            let error = parse("mine.yml", &text).unwrap_err().to_string();
            assert!(error.starts_with("mine.yml: ") && error.contains(field), "{field}: {error}");
        }
        assert!(parse("mine.yml", GOOD).is_ok());
    }

    #[test]
    fn a_folder_replaces_by_name_and_refuses_two_of_one_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yml"), GOOD.replace("name: x", "name: contain-access-key")).unwrap();
        std::fs::write(folder.path().join("ignored.txt"), "not YAML: [").unwrap();
        let all = Playbooks::shipped().unwrap().with_folder(folder.path()).unwrap();
        assert_eq!(all.iter().map(|p| p.when.min_level).collect::<Vec<_>>(), [Level::Critical]);
        std::fs::write(folder.path().join("b.yaml"), GOOD.replace("name: x", "name: contain-access-key")).unwrap();
        let error = Playbooks::shipped().unwrap().with_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.yaml: name:"), "{error}");
    }
}
