//! The rules in force where a backtest runs, and the two sets that it asks for.
//!
//! In: folders that are there, or what a deployment says; the texts to try. Out: a [`Pair`]. Placeholders and exceptions in
//! force count on both sides, also where the rules beside them do not.

use std::{fs, io, path::Path};

use async_trait::async_trait;
use sentinel_detect::{
    LoadError, LoadOptions, RuleSourceError,
    rules::{EXCEPTIONS, PLACEHOLDERS},
};
use sentinel_state::{
    TableError,
    backtests::{Baseline, RuleText},
};

use crate::{Loaded, Pair};

/// What rules in force are loaded from.
#[derive(Debug, Clone, Default)]
pub struct RulesInForce {
    /// The shipped rules, and folders.
    pub options: LoadOptions,
    /// Files that are in no folder here, placeholders and exceptions by their names among them.
    pub texts: Vec<RuleText>,
}

/// Why it cannot be told which rules are in force.
#[derive(Debug, thiserror::Error)]
pub enum InForceError {
    /// The store failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What holds the rules cannot be read.
    #[error(transparent)]
    Source(#[from] RuleSourceError),
}

/// Knows which rules are in force.
#[async_trait]
pub trait InForce: Send + Sync {
    /// Those in force now.
    async fn rules(&self) -> Result<RulesInForce, InForceError>;
}

/// Where all rules are in folders.
#[async_trait]
impl InForce for LoadOptions {
    async fn rules(&self) -> Result<RulesInForce, InForceError> {
        Ok(RulesInForce { options: self.clone(), texts: Vec::new() })
    }
}

/// The two sets that are asked for.
pub(crate) fn load(
    in_force: &RulesInForce,
    baseline: Baseline,
    on_top: bool,
    files: &[RuleText],
) -> Result<Pair, LoadError> {
    let RulesInForce { options, texts } = in_force;
    let own = own_files(in_force)?;
    let without_folders = |default_rules| LoadOptions { default_rules, dirs: Vec::new(), ..options.clone() };
    let (before, before_texts) = match baseline {
        Baseline::InForce => (options.clone(), texts),
        Baseline::Shipped => (without_folders(true), &own),
    };
    let (after, after_texts) = if on_top { (before.clone(), before_texts) } else { (without_folders(false), &own) };
    Ok(Pair {
        baseline: Loaded::load(&before, named(before_texts))?,
        candidate: Loaded::load(&after, named(after_texts).chain(named(files)))?,
    })
}

fn named(files: &[RuleText]) -> impl Iterator<Item = (&str, &str)> {
    files.iter().map(|file| (file.name.as_str(), file.text.as_str()))
}

/// Placeholders and exceptions that stand beside rules.
fn own_files(in_force: &RulesInForce) -> Result<Vec<RuleText>, LoadError> {
    let is_own = |file: &&RuleText| [PLACEHOLDERS, EXCEPTIONS].contains(&file.name.as_str());
    let mut own: Vec<RuleText> = in_force.texts.iter().filter(is_own).cloned().collect();
    for dir in &in_force.options.dirs {
        for name in [PLACEHOLDERS, EXCEPTIONS] {
            own.extend(text_of(&dir.join(name))?.map(|text| RuleText { name: name.to_owned(), text }));
        }
    }
    Ok(own)
}

/// The text of a file, if there is one.
fn text_of(path: &Path) -> Result<Option<String>, LoadError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(LoadError::Unreadable { path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rule;

    const PLACES: &str = "ours: [CreateUser, DeleteUser]\n";

    fn text(name: &str, text: &str) -> RuleText {
        RuleText { name: name.into(), text: text.into() }
    }

    fn of_place() -> String {
        rule("by-place", "high", "%ours%").replace("eventName:", "eventName|expand:")
    }

    fn titles(loaded: &Loaded) -> Vec<String> {
        assert!(loaded.report.refused.is_empty(), "{:?}", loaded.report.refused);
        loaded.rules.iter().map(|(_, meta)| meta.reference.id.clone()).collect()
    }

    #[test]
    fn what_stands_beside_rules_counts_on_both_sides_wherever_rules_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.yml"), rule("mine", "high", "CreateUser")).unwrap();
        fs::write(folder.path().join(PLACEHOLDERS), PLACES).unwrap();
        let file = folder.path().join("mine.yml");
        let folders = LoadOptions { dirs: vec![folder.path().to_owned()], ..LoadOptions::default() };
        let in_folders = RulesInForce { options: folders, texts: Vec::new() };
        let elsewhere = RulesInForce {
            options: LoadOptions::default(),
            texts: vec![text("mine.yml", &fs::read_to_string(file).unwrap()), text(PLACEHOLDERS, PLACES)],
        };
        for in_force in [in_folders, elsewhere] {
            let files = [text("new.yml", &of_place())];
            let on_top = load(&in_force, Baseline::InForce, true, &files).unwrap();
            assert_eq!(titles(&on_top.baseline), ["mine"]);
            assert_eq!(titles(&on_top.candidate), ["mine", "by-place"]);
            let instead = load(&in_force, Baseline::InForce, false, &files).unwrap();
            assert_eq!(titles(&instead.baseline), ["mine"]);
            assert_eq!(titles(&instead.candidate), ["by-place"]);
            let beside_shipped = load(&in_force, Baseline::Shipped, true, &files).unwrap();
            assert!(!titles(&beside_shipped.baseline).contains(&"mine".to_owned()));
            assert_eq!(titles(&beside_shipped.candidate).last().unwrap(), "by-place");
        }
    }

    #[test]
    fn a_single_file_in_force_has_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.yml");
        fs::write(&file, rule("mine", "high", "CreateUser")).unwrap();
        let options = LoadOptions { dirs: vec![file], ..LoadOptions::default() };
        let in_force = RulesInForce { options, texts: Vec::new() };
        let files = [text("new.yml", &rule("new", "low", "DeleteUser"))];
        assert_eq!(titles(&load(&in_force, Baseline::InForce, false, &files).unwrap().candidate), ["new"]);
    }
}
