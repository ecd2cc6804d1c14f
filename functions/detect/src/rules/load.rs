//! Loading rules from the binary, from folders, and from texts that were read elsewhere.
//!
//! In: our pack, and folders, single files or texts of operators' rules. Out: a rule set and a report. A file or
//! document that cannot be used is refused with file, line, field and reason while the others go on; only a
//! folder that cannot be read at all is an error.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    RuleSet,
    document::{self, MAX_FILE_BYTES, Parsed},
    meta::{RuleMeta, file_stem},
    pack,
};

/// Folders below a folder of rules.
const MAX_FOLDER_DEPTH: usize = 32;
/// Rule files in all.
const MAX_FILES: usize = 50_000;
/// Rules in all: indexes are 32 bits, and matching has a budget.
const MAX_RULES: usize = 100_000;

/// What to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Our own pack.
    pub default_rules: bool,
    /// Folders (with all folders below) or single files of Sigma rules.
    pub dirs: Vec<PathBuf>,
}

/// What a folder could not be loaded for.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A folder or file that was named cannot be read.
    #[error("rules {path} cannot be read: {error}")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There are rules, and every one was refused.
    #[error("every rule was refused ({0})")]
    AllRefused(usize),
}

/// A rule that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refused {
    /// Its file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u32,
    /// The field at fault, as the rule writes it, where one is.
    pub field: Option<String>,
    /// Why.
    pub reason: String,
}

/// What loading did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// Rule files read.
    pub files: usize,
    /// Rules loaded.
    pub rules: usize,
    /// Of those, the ones whose log source is CloudTrail's: only they are evaluated.
    pub evaluated: usize,
    /// Correlation rules read. They are not evaluated yet.
    pub correlations: usize,
    /// Sigma filters read. They are not applied yet.
    pub filters: usize,
    /// What was refused.
    pub refused: Vec<Refused>,
    /// What an author should know.
    pub warnings: Vec<String>,
}

/// Builds a set and its report file by file.
#[derive(Debug, Default)]
pub(super) struct Loader {
    set: RuleSet,
    report: LoadReport,
    /// First file of each rule id.
    ids: HashMap<String, String>,
    seen: HashSet<PathBuf>,
}

impl Loader {
    /// Adds our own pack.
    pub(super) fn default_pack(&mut self) {
        for (name, text, _) in pack::files() {
            let file = format!("default:{name}");
            self.report.files += 1;
            self.add(document::parse(&file, text));
        }
    }

    /// Adds a folder or file. An error only when that path itself cannot be read.
    pub(super) fn path(&mut self, path: &Path) -> Result<(), LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            let entries = sorted_entries(path).map_err(unreadable)?;
            self.entries(entries, MAX_FOLDER_DEPTH);
        } else {
            self.file(path);
        }
        Ok(())
    }

    fn entries(&mut self, entries: Vec<PathBuf>, depth: usize) {
        for path in entries {
            if path.is_dir() {
                self.folder(&path, depth);
            } else if is_rule_file(&path) {
                self.file(&path);
            }
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        if depth == 0 {
            return self.refuse_file(path, format!("folders nested more than {MAX_FOLDER_DEPTH} deep"));
        }
        // A link that leads back up would otherwise be walked again and again.
        match path.canonicalize() {
            Ok(real) if self.seen.contains(&real) => return,
            Ok(real) => {
                self.seen.insert(real);
            }
            Err(error) => return self.refuse_file(path, error.to_string()),
        }
        match sorted_entries(path) {
            Ok(entries) => self.entries(entries, depth - 1),
            Err(error) => self.refuse_file(path, error.to_string()),
        }
    }

    fn file(&mut self, path: &Path) {
        match path.canonicalize() {
            Ok(real) if self.seen.contains(&real) => {
                return self.report.warnings.push(format!("{}: named twice, read once", path.display()));
            }
            Ok(real) => {
                self.seen.insert(real);
            }
            Err(error) => return self.refuse_file(path, error.to_string()),
        }
        if self.report.files >= MAX_FILES {
            return self.refuse_file(path, format!("more than {MAX_FILES} rule files"));
        }
        self.report.files += 1;
        match read(path) {
            Ok(text) => self.add(document::parse(&path.display().to_string(), &text)),
            Err(error) => self.refuse_file(path, error.to_string()),
        }
    }

    fn refuse_file(&mut self, path: &Path, reason: String) {
        self.refuse(path.display().to_string(), reason);
    }

    /// Adds a file that was read elsewhere under the name that messages give it.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        if self.report.files >= MAX_FILES {
            return self.refuse(name.to_owned(), format!("more than {MAX_FILES} rule files"));
        }
        self.report.files += 1;
        self.add(document::parse(name, text));
    }

    /// Tells of a file that could not be used at all.
    pub(super) fn refuse(&mut self, file: String, reason: String) {
        self.report.refused.push(Refused { file, line: 1, field: None, reason });
    }

    fn add(&mut self, parsed: Parsed) {
        self.report.refused.extend(parsed.refused);
        self.report.warnings.extend(parsed.warnings);
        self.report.correlations += parsed.correlations.len();
        self.report.filters += parsed.filters.len();
        self.report.warnings.extend(
            parsed.correlations.iter().map(|name| format!("{name}: read, but correlations are not evaluated yet")),
        );
        self.report
            .warnings
            .extend(parsed.filters.iter().map(|name| format!("{name}: read, but filters are not applied yet")));
        for (mut meta, compiled) in parsed.rules {
            if self.set.len() >= MAX_RULES {
                self.report.refused.push(refusal(&meta, format!("more than {MAX_RULES} rules")));
                continue;
            }
            self.keep_ids_apart(&mut meta);
            let (evaluated, here) = (meta.evaluated, refusal(&meta, String::new()));
            match self.set.push(meta, &compiled) {
                Ok(()) => {
                    self.report.rules += 1;
                    self.report.evaluated += usize::from(evaluated);
                }
                Err(error) => {
                    let field = Some(String::from("condition"));
                    self.report.refused.push(Refused { field, reason: error.to_string(), ..here });
                }
            }
        }
    }

    /// Two rules with one id both count; the later one's alerts go under `ID@FILE`, else they would merge.
    fn keep_ids_apart(&mut self, meta: &mut RuleMeta) {
        let id = meta.reference.id.clone();
        let Some(first) = self.ids.get(&id) else {
            self.ids.insert(id, meta.file.clone());
            return;
        };
        self.report
            .warnings
            .push(format!("{first} and {} hold rules with the same id {id}; both are loaded", meta.file));
        let apart = format!("{id}@{}", file_stem(&meta.file));
        let (mut name, mut number) = (apart.clone(), 1);
        while self.ids.contains_key(&name) {
            number += 1;
            name = format!("{apart}#{number}");
        }
        self.ids.insert(name.clone(), meta.file.clone());
        meta.reference.id = name;
    }

    /// The set and the report, refusals sorted.
    pub(super) fn finish(mut self) -> (RuleSet, LoadReport) {
        self.report.refused.sort();
        (self.set, self.report)
    }
}

fn refusal(meta: &RuleMeta, reason: String) -> Refused {
    Refused { file: meta.file.clone(), line: meta.line, field: None, reason }
}

fn sorted_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
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

/// Reads a file of bounded size.
fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to see that it is too large; parsing says so.
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text, or larger than a rule file may be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(title: &str, id: &str) -> String {
        format!(
            "title: {title}\nid: {id}\nlogsource:\n  product: aws\ndetection:\n  s:\n    eventName: {title}\n  condition: s\n"
        )
    }

    fn load(dirs: &[&Path]) -> (RuleSet, LoadReport) {
        let dirs = dirs.iter().map(|d| (*d).to_owned()).collect();
        RuleSet::load(&LoadOptions { default_rules: false, dirs }).unwrap()
    }

    #[test]
    fn folders_are_read_with_all_below_and_twins_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.yml", &rule("A", "same"));
        write("sub/b.yaml", &rule("B", "same"));
        write("sub/c.yml", &format!("{}---\n{}", rule("C", "same"), rule("D", "same")));
        write("sub/c.tests.yml", "not: a rule");
        write("notes.md", "# no rule");
        let (set, report) = load(&[dir.path(), &dir.path().join("sub")]);
        let ids: Vec<_> = set.iter().map(|(_, m)| m.reference.id.as_str()).collect();
        assert_eq!(ids, ["same", "same@b", "same@c", "same@c#2"]);
        assert_eq!((report.rules, report.evaluated, report.files), (4, 4, 3), "{report:?}");
        assert!(report.refused.is_empty());
        let twins = report.warnings.iter().find(|w| w.contains("same id same")).unwrap();
        assert!(twins.contains("a.yml") && twins.contains("b.yaml"), "{twins}");
    }

    #[test]
    fn a_missing_folder_is_an_error_and_a_bad_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let missing = LoadOptions { default_rules: false, dirs: vec![dir.path().join("none")] };
        assert!(matches!(RuleSet::load(&missing), Err(LoadError::Unreadable { .. })));
        fs::write(dir.path().join("latin.yml"), [b't', 0xe4, b'\n']).unwrap();
        fs::write(dir.path().join("ok.yml"), rule("A", "a")).unwrap();
        let (set, report) = load(&[dir.path()]);
        assert_eq!((set.len(), report.refused.len()), (1, 1));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_back_up_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yml"), rule("A", "a")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        assert_eq!(load(&[dir.path()]).0.len(), 1);
    }

    #[test]
    fn reloading_keeps_the_old_set_when_nothing_new_loads() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yml");
        fs::write(&file, rule("A", "a")).unwrap();
        let options = LoadOptions { default_rules: false, dirs: vec![dir.path().to_owned()] };
        let shared = super::super::SharedRules::new(RuleSet::load(&options).unwrap().0);
        fs::write(&file, "title: broken\ndetection: 5\n").unwrap();
        assert!(matches!(shared.reload(&options), Err(LoadError::AllRefused(1))));
        assert_eq!(shared.current().len(), 1);
        fs::write(&file, format!("{}---\n{}", rule("A", "a"), rule("B", "b"))).unwrap();
        assert_eq!(shared.reload(&options).unwrap().rules, 2);
        assert_eq!(shared.current().len(), 2);
    }
}
