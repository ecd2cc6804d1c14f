//! Loading rules from the binary, from folders, and from texts that were read elsewhere.
//!
//! In: our pack, and folders, single files or texts of operators' rules, placeholders and exceptions. Out: a rule set
//! and a report. A file or document that cannot be used is refused with file, line, field and reason while the others go
//! on; only a folder or file that was named and cannot be read at all is an error.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use sentinel_model::Timestamp;
use serde::Serialize;

use super::{
    RuleSet,
    caps::MAX_FILE_BYTES,
    compiled::Compiled,
    correlate,
    document::{self, Parsed, ParsedCorrelation, Shared},
    exceptions::{ExceptionRemarks, Exceptions},
    filter::{self, Filter},
    meta::{RuleMeta, file_stem},
    pack,
    placeholders::{BadPlaceholders, Placeholders},
    walk::{self, EXCEPTIONS, Found, MAX_FILES, PLACEHOLDERS},
};
use crate::program::Made;

/// Rules in all: indexes are 32 bits, and matching has a budget.
const MAX_RULES: usize = 100_000;
/// Bytes that nearly all rule files fit into.
const USUAL_FILE_BYTES: usize = 8 * 1024;

/// What to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Our own pack.
    pub default_rules: bool,
    /// Folders (with all folders below) or single files of Sigma rules. `placeholders.yml` and `exceptions.yml` at the top
    /// of a folder count as if they were named below.
    pub dirs: Vec<PathBuf>,
    /// A file of placeholders, which go before those beside rules.
    pub placeholders: Option<PathBuf>,
    /// A file of exceptions.
    pub exceptions: Option<PathBuf>,
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
    /// The placeholders that were named cannot be used.
    #[error(transparent)]
    Placeholders(#[from] BadPlaceholders),
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
    /// Correlation rules loaded.
    pub correlations: usize,
    /// Sigma filters applied.
    pub filters: usize,
    /// Exceptions in force.
    pub exceptions: usize,
    /// What was refused.
    pub refused: Vec<Refused>,
    /// What an author should know.
    pub warnings: Vec<String>,
}

/// Builds a set and its report.
#[derive(Debug, Default)]
pub(super) struct Loader {
    report: LoadReport,
    placeholders: Placeholders,
    exceptions: Exceptions,
    rules: Vec<(RuleMeta, Compiled)>,
    filters: Vec<Filter>,
    correlations: Vec<ParsedCorrelation>,
    /// The set in the making, and what its rules share.
    set: RuleSet,
    made: Made,
    /// First file of each rule id.
    ids: HashMap<String, String>,
}

impl Loader {
    /// Loads what the options name.
    pub(super) fn load(options: &LoadOptions) -> Result<(RuleSet, LoadReport), LoadError> {
        Self::load_with(options, &[])
    }

    /// Loads what the options name, and texts that were read elsewhere beside it.
    pub(super) fn load_with(options: &LoadOptions, texts: &[(&str, &str)]) -> Result<(RuleSet, LoadReport), LoadError> {
        match Self::load_beside(options, texts, true)? {
            Some(loader) => Ok(loader.finish()),
            // Filters change rules of our own pack before they are entered.
            None => Ok(Self::load_beside(options, texts, false)?.map(Self::finish).unwrap_or_default()),
        }
    }

    /// All rules, ready to be finished. `ahead`: our own pack is entered while operators' files are read. `None` if they
    /// turn out to hold filters, which come too late then.
    fn load_beside(options: &LoadOptions, texts: &[(&str, &str)], ahead: bool) -> Result<Option<Self>, LoadError> {
        let (mut loader, mut found) = (Self::default(), Found::default());
        for dir in &options.dirs {
            found.add(dir)?;
        }
        for path in &found.placeholders {
            match Placeholders::read(path) {
                Ok(placeholders) => loader.placeholders.extend(placeholders),
                Err(bad) => loader.bad_placeholders(bad),
            }
        }
        if let Some(path) = &options.placeholders {
            loader.placeholders.extend(Placeholders::read(path)?);
        }
        let now = Timestamp::now();
        for path in &found.exceptions {
            match loader.exceptions.add_file(path, now) {
                Ok(remarks) => loader.remarks(remarks),
                Err(error) => loader.refuse(path.display().to_string(), error.to_string()),
            }
        }
        if let Some(path) = &options.exceptions {
            let unreadable = |error| LoadError::Unreadable { path: path.clone(), error };
            let remarks = loader.exceptions.add_file(path, now).map_err(unreadable)?;
            loader.remarks(remarks);
        }
        let texts = loader.own_files(texts);
        loader.report.refused.extend(found.refused);
        loader.report.warnings.extend(found.warnings);
        let placeholders = &loader.placeholders.clone();
        let parsed = walk::each_beside(
            &found.rules,
            |path| file(path, placeholders),
            || {
                if options.default_rules {
                    loader.default_pack();
                }
                if ahead {
                    loader.enter();
                }
            },
        );
        loader.add_all(parsed);
        loader.add_texts(texts);
        let is_late = ahead && options.default_rules && !loader.filters.is_empty();
        Ok((!is_late).then_some(loader))
    }

    /// Loads texts that were read elsewhere, a name each. [`PLACEHOLDERS`] and [`EXCEPTIONS`] are no rules.
    pub(super) fn texts(default_rules: bool, texts: &[(&str, &str)]) -> (RuleSet, LoadReport) {
        let mut loader = Self::default();
        let rules = loader.own_files(texts);
        if default_rules {
            loader.default_pack();
        }
        loader.add_texts(rules);
        loader.finish()
    }

    /// Our own pack, ready for other rules to come behind it.
    pub(super) fn pack_entered() -> Self {
        let mut loader = Self::default();
        loader.default_pack();
        loader.enter();
        loader
    }

    /// The same as [`Self::texts`] behind our own pack. What changes rules of the pack needs it from the start.
    pub(super) fn texts_behind(mut self, texts: &[(&str, &str)]) -> (RuleSet, LoadReport) {
        let rules = self.own_files(texts);
        if self.placeholders.is_empty() {
            self.add_texts(rules);
            if self.filters.is_empty() {
                return self.finish();
            }
        }
        // Two sets at once are more than there need be.
        drop(self);
        Self::texts(true, texts)
    }

    /// Takes placeholders and exceptions out of texts; the rest are rules.
    fn own_files<'t>(&mut self, texts: &[(&'t str, &'t str)]) -> Vec<(&'t str, &'t str)> {
        let (own, rules): (Vec<_>, Vec<_>) =
            texts.iter().copied().partition(|(name, _)| [PLACEHOLDERS, EXCEPTIONS].contains(name));
        for (name, text) in own {
            if name == EXCEPTIONS {
                let remarks = self.exceptions.add(name, text, Timestamp::now());
                self.remarks(remarks);
            } else {
                match Placeholders::parse(name, text) {
                    Ok(placeholders) => self.placeholders.extend(placeholders),
                    Err(bad) => self.bad_placeholders(bad),
                }
            }
        }
        rules
    }

    /// Adds rules that were read elsewhere.
    fn add_texts(&mut self, mut texts: Vec<(&str, &str)>) {
        for (name, _) in texts.split_off(texts.len().min(MAX_FILES)) {
            self.refuse(name.to_owned(), format!("more than {MAX_FILES} rule files"));
        }
        let parsed = walk::each(&texts, |(name, text)| document::parse(name, text, &self.placeholders));
        self.add_all(parsed);
    }

    /// Adds our own pack.
    pub(super) fn default_pack(&mut self) {
        let files: Vec<usize> = (0..pack::files().len()).collect();
        let shared = Shared::new(pack::items().unwrap_or_default(), &self.placeholders);
        let parsed = walk::each(&files, |at| {
            let (name, text, _) = pack::files()[*at];
            let file = format!("default:{name}");
            match pack::documents(*at) {
                Some(documents) => document::ours(&file, text, &documents, &shared, &self.placeholders),
                None => document::parse(&file, text, &self.placeholders),
            }
        });
        self.add_all(parsed);
    }

    fn bad_placeholders(&mut self, bad: BadPlaceholders) {
        let BadPlaceholders { file, line, reason } = bad;
        self.report.refused.push(Refused { file, line, field: None, reason });
    }

    fn remarks(&mut self, remarks: ExceptionRemarks) {
        self.report.refused.extend(remarks.refused);
        self.report.warnings.extend(remarks.warnings);
    }

    /// Tells of a file that could not be used at all.
    fn refuse(&mut self, file: String, reason: String) {
        self.report.refused.push(Refused { file, line: 1, field: None, reason });
    }

    fn add_all(&mut self, parsed: Vec<Parsed>) {
        self.report.files += parsed.len();
        self.rules.reserve(parsed.iter().map(|parsed| parsed.rules.len()).sum());
        for parsed in parsed {
            self.add(parsed);
        }
    }

    fn add(&mut self, parsed: Parsed) {
        self.report.refused.extend(parsed.refused);
        self.report.warnings.extend(parsed.warnings);
        self.filters.extend(parsed.filters);
        self.correlations.extend(parsed.correlations);
        for (mut meta, compiled) in parsed.rules {
            if self.set.len() + self.rules.len() >= MAX_RULES {
                self.report.refused.push(refusal(&meta, format!("more than {MAX_RULES} rules")));
                continue;
            }
            self.keep_ids_apart(&mut meta);
            self.rules.push((meta, compiled));
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

    /// Enters the rules that were added into the set.
    fn enter(&mut self) {
        self.set.reserve(self.rules.len());
        for (meta, compiled) in std::mem::take(&mut self.rules) {
            let (evaluated, here) = (meta.evaluated, refusal(&meta, String::new()));
            match self.set.push(meta, &compiled, &mut self.made) {
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

    /// The set and the report, refusals sorted. What rules say of each other counts only now that all are known.
    pub(super) fn finish(mut self) -> (RuleSet, LoadReport) {
        let refused = filter::apply(&self.filters, &mut self.rules);
        self.report.filters = self.filters.len() - refused.len();
        self.report.refused.extend(refused);
        self.enter();
        let mut set = std::mem::take(&mut self.set);
        let parsed = std::mem::take(&mut self.correlations);
        let metas: Vec<&RuleMeta> = set.rules.iter().map(|rule| &rule.meta).collect();
        let (correlations, refused) =
            correlate::compile(&parsed, &metas, &mut set.fields, |meta| self.keep_ids_apart(meta));
        self.report.correlations = correlations.plans.len();
        self.report.refused.extend(refused);
        set.correlate(correlations);
        self.report.exceptions = self.exceptions.len();
        if !self.exceptions.is_empty() {
            let metas = set.iter().map(|(_, meta)| meta).chain(set.correlation_metas());
            let known: HashSet<String> = metas.flat_map(RuleMeta::names).map(str::to_ascii_lowercase).collect();
            let unknown = self.exceptions.unknown(|rule| known.contains(&rule.to_ascii_lowercase()));
            self.report.warnings.extend(unknown);
        }
        set.exceptions = self.exceptions;
        self.report.refused.sort();
        (set, self.report)
    }
}

fn file(path: &Path, placeholders: &Placeholders) -> Parsed {
    let file = path.display().to_string();
    match read(path) {
        Ok(text) => document::parse(&file, &text, placeholders),
        Err(error) => {
            let refused = Refused { file, line: 1, field: None, reason: error.to_string() };
            Parsed { refused: vec![refused], ..Parsed::default() }
        }
    }
}

fn refusal(meta: &RuleMeta, reason: String) -> Refused {
    Refused { file: meta.file.clone(), line: meta.line, field: None, reason }
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    // Most are smaller: they are read at once.
    let mut bytes = Vec::with_capacity(USUAL_FILE_BYTES);
    // One byte more than allowed is enough to see that it is too large; parsing says so.
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text, or larger than a rule file may be"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::MAX_ALWAYS;

    fn rule(title: &str, id: &str) -> String {
        format!(
            "title: {title}\nid: {id}\nlogsource:\n  product: aws\ndetection:\n  s:\n    eventName: {title}\n  condition: s\n"
        )
    }

    fn load(dirs: &[&Path]) -> (RuleSet, LoadReport) {
        let dirs = dirs.iter().map(|d| (*d).to_owned()).collect();
        RuleSet::load(&LoadOptions { dirs, ..LoadOptions::default() }).unwrap()
    }

    #[test]
    fn filters_in_files_change_our_own_pack() {
        let filter = "title: F\nlogsource: {product: aws, service: cloudtrail}\nfilter: {rules: any, selection: {awsRegion: eu-west-1}, condition: not selection}\n";
        let own = rule("A", "1");
        for texts in [vec![("a.yml", own.as_str())], vec![("a.yml", &own), ("f.yml", filter)]] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in &texts {
                fs::write(dir.path().join(name), text).unwrap();
            }
            let dirs = vec![dir.path().to_owned()];
            let options = LoadOptions { default_rules: true, dirs, ..LoadOptions::default() };
            let (folder, report) = RuleSet::load(&options).unwrap();
            let (read, wanted) = RuleSet::from_texts(true, texts.iter().copied());
            assert_eq!((report.rules, report.filters), (wanted.rules, texts.len() - 1), "{:?}", report.refused);
            assert_eq!(report.filters, wanted.filters);
            let (mut hits, mut others, mut count) = (Vec::new(), Vec::new(), 0);
            for event in crate::check::pack_events() {
                let record = sentinel_json::Document::parse(&event).unwrap();
                folder.matches(record.root(), &mut hits);
                read.matches(record.root(), &mut others);
                assert_eq!(hits, others, "{event}");
                count += hits.len();
            }
            assert!(count > 100);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_the_file_and_two_names_of_equal_right_are_two() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.yml"), rule("A", "1")).unwrap();
        std::os::unix::fs::symlink(at("a.yml"), at("b.yml")).unwrap();
        let (set, report) = load(&[dir.path()]);
        assert_eq!((set.len(), report.warnings.len()), (1, 1), "{:?}", report.warnings);
        fs::hard_link(at("a.yml"), at("c.yml")).unwrap();
        assert_eq!(load(&[dir.path()]).0.len(), 2);
        // By another way to its folder it is the same file, and a link to nothing is told.
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), other.path().join("way")).unwrap();
        std::os::unix::fs::symlink(at("gone"), other.path().join("gone.yml")).unwrap();
        let (set, report) = load(&[dir.path(), other.path()]);
        let refused: Vec<_> = report.refused.iter().map(|r| r.file.as_str()).collect();
        assert_eq!((set.len(), refused), (2, vec![other.path().join("gone.yml").to_str().unwrap()]));
        assert_eq!(load(&[&other.path().join("way/a.yml"), &at("a.yml")]).0.len(), 1);
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
        let missing = LoadOptions { dirs: vec![dir.path().join("none")], ..LoadOptions::default() };
        assert!(matches!(RuleSet::load(&missing), Err(LoadError::Unreadable { .. })));
        fs::write(dir.path().join("latin.yml"), [b't', 0xe4, b'\n']).unwrap();
        fs::write(dir.path().join("ok.yml"), rule("A", "a")).unwrap();
        let (set, report) = load(&[dir.path()]);
        assert_eq!((set.len(), report.refused.len()), (1, 1));
    }

    #[test]
    fn texts_come_beside_folders_and_a_changed_text_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yml"), rule("A", "a")).unwrap();
        let options = LoadOptions { dirs: vec![dir.path().to_owned()], ..LoadOptions::default() };
        let beside = format!("\n{}\n", rule("A", "a"));
        let (set, report) =
            RuleSet::load_with(&options, [("same.yml", beside.as_str()), ("b.yml", &rule("B", "b"))]).unwrap();
        let rules: Vec<_> = set.iter().map(|(_, m)| (m.reference.id.as_str(), m.text_hash)).collect();
        assert_eq!(rules.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["a", "a@same", "b"], "{report:?}");
        assert_eq!(rules[0].1, rules[1].1, "blank space around a document is no change");
        assert_ne!(rules[0].1, rules[2].1);
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
    fn rules_that_are_tried_for_every_record_are_bounded() {
        let always = |title: &str, detection: &str| {
            format!("title: {title}\nlogsource: {{product: aws}}\ndetection:\n  s:\n    {detection}\n  condition: s\n")
        };
        let several = |count: usize, detection: &str| {
            let all: Vec<_> =
                (0..count).map(|n| always(&format!("R{n:03}"), &detection.replace('#', &n.to_string()))).collect();
            RuleSet::from_texts(false, [("a.yml", all.join("---\n").as_str())])
        };
        let (set, report) = several(MAX_ALWAYS + 2, "awsRegion: region-#");
        assert_eq!((set.len(), set.dispatch_stats().always, report.refused.len()), (MAX_ALWAYS, MAX_ALWAYS, 2));
        let first = &report.refused[0];
        assert!(first.reason.contains("every record") && first.line > 1_000, "{first:?}");
        // One that is not tried for every record is loaded all the same.
        let named = "eventName: X\n    awsRegion: region-#";
        assert_eq!(several(MAX_ALWAYS + 2, named).0.len(), MAX_ALWAYS + 2);
        // A few that cost much count as many.
        let list = (0..2_000).map(|n| format!("'{n}-#x'")).collect::<Vec<_>>().join(", ");
        let (set, report) = several(3, &format!("userAgent|contains|all: [{list}]"));
        assert_eq!((set.len(), report.refused.len()), (1, 2), "{:?}", report.refused.first());
    }

    #[test]
    fn reloading_keeps_the_old_set_when_nothing_new_loads() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yml");
        fs::write(&file, rule("A", "a")).unwrap();
        let options = LoadOptions { dirs: vec![dir.path().to_owned()], ..LoadOptions::default() };
        let shared = super::super::SharedRules::new(RuleSet::load(&options).unwrap().0);
        fs::write(&file, "title: broken\ndetection: 5\n").unwrap();
        assert!(matches!(shared.reload(&options), Err(LoadError::AllRefused(1))));
        assert_eq!(shared.current().len(), 1);
        fs::write(&file, format!("{}---\n{}", rule("A", "a"), rule("B", "b"))).unwrap();
        assert_eq!(shared.reload(&options).unwrap().rules, 2);
        assert_eq!(shared.current().len(), 2);
    }
}
