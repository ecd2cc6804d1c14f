//! One rule file taken apart: its YAML documents, each parsed and compiled by itself, so that a bad one
//! costs only itself.
//!
//! In: a file's text. Out: compiled rules, counts of what is not a plain rule, what was refused and
//! warnings. Caps hold before anything is parsed or compiled: rules may come from anybody.

use regex::RegexBuilder;
use rsigma_eval::CompiledRule;
use rsigma_parser::{Detection, DetectionItem, Modifier, SigmaCollection, SigmaRule, SigmaValue, version};

use super::{
    load::Refused,
    locate::{self, Place},
    meta::{BadWindow, RuleMeta},
};

/// Largest rule file in bytes; the largest public pack in one file stays below a third of it.
pub(crate) const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Largest file that uses YAML aliases, and most aliases in it: together they bound what aliases of aliases
/// can unfold to at some tens of megabytes.
const MAX_ALIASED_BYTES: usize = 64 * 1024;
const MAX_ALIASES: usize = 16;
/// Documents in one file.
const MAX_DOCUMENTS: usize = 5_000;
/// Longest regular expression, or value with wildcards, in bytes.
const MAX_PATTERN_BYTES: usize = 4_096;
/// Largest compiled regular expression in bytes.
const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// Patterns in one rule.
const MAX_PATTERNS: usize = 1_000;

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) rules: Vec<(RuleMeta, CompiledRule)>,
    pub(super) correlations: Vec<String>,
    pub(super) filters: Vec<String>,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
}

/// Takes a file apart. `file` is how messages name it.
pub(super) fn parse(file: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(reason) = too_hostile(text) {
        parsed.refuse(file, Place { line: 1, field: None }, reason);
        return parsed;
    }
    let documents = if uses_actions(text) { vec![(1, text)] } else { split(text) };
    if documents.len() > MAX_DOCUMENTS {
        parsed.refuse(file, Place { line: 1, field: None }, format!("more than {MAX_DOCUMENTS} documents"));
        return parsed;
    }
    for (line, document) in documents {
        parsed.document(file, line, document);
    }
    parsed
}

impl Parsed {
    fn refuse(&mut self, file: &str, place: Place, reason: String) {
        self.refused.push(Refused { file: file.to_owned(), line: place.line, field: place.field, reason });
    }

    fn document(&mut self, file: &str, line: u32, text: &str) {
        if !looks_like_sigma(text) {
            self.warnings.push(format!("{file}:{line}: skipped: no Sigma document"));
            return;
        }
        let mut collection = match rsigma_parser::parse_sigma_yaml(text) {
            Ok(collection) => collection,
            Err(error) => {
                return self.refuse(file, locate::parse_error(text, line, &error.to_string()), error.to_string());
            }
        };
        self.sort_errors(file, line, text, &mut collection);
        for correlation in collection.correlations {
            self.correlations.push(format!("{file}: {}", correlation.title));
        }
        for filter in collection.filters {
            self.filters.push(format!("{file}: {}", filter.title));
        }
        for rule in &collection.rules {
            self.rule(file, line, text, rule);
        }
    }

    /// The parser reports remarks and refusals in one list: without a result, the last entry is why.
    fn sort_errors(&mut self, file: &str, line: u32, text: &str, collection: &mut SigmaCollection) {
        let results = collection.rules.len() + collection.correlations.len() + collection.filters.len();
        let mut errors = std::mem::take(&mut collection.errors);
        if results == 0 {
            let reason = errors.pop().unwrap_or_else(|| String::from("holds no Sigma rule"));
            self.refuse(file, locate::parse_error(text, line, &reason), reason);
        }
        for error in errors {
            if is_remark(&error) {
                self.warnings.push(format!("{file}:{line}: {error}"));
            } else {
                self.refuse(file, locate::parse_error(text, line, &error), error);
            }
        }
    }

    fn rule(&mut self, file: &str, line: u32, text: &str, rule: &SigmaRule) {
        if version::is_unsupported(rule.sigma_version) {
            let place = locate::key(text, line, "sigma-version");
            return self.refuse(file, place, String::from("a Sigma version that is not supported"));
        }
        if let Err((item, reason)) = check_patterns(rule) {
            return self.refuse(file, locate::item(text, line, item), reason);
        }
        let compiled = match rsigma_eval::compile_rule(rule) {
            Ok(compiled) => compiled,
            Err(error) => return self.refuse(file, locate::compile_error(text, line, rule), error.to_string()),
        };
        match RuleMeta::of(rule, file, locate::title_line(text, line, &rule.title)) {
            Ok(meta) => self.rules.push((meta, compiled)),
            Err(error) => self.refuse(file, locate::key(text, line, BadWindow::FIELD), error.to_string()),
        }
    }
}

/// What the parser merely remarks on: the rule is there, an optional part of it was left out.
fn is_remark(error: &str) -> bool {
    ["invalid status", "invalid level", "invalid sigma-version", "'related'", "related["]
        .iter()
        .any(|start| error.starts_with(start))
}

fn too_hostile(text: &str) -> Option<String> {
    if text.len() > MAX_FILE_BYTES {
        return Some(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    let aliases = count_aliases(text);
    if aliases > 0 && (aliases > MAX_ALIASES || text.len() > MAX_ALIASED_BYTES) {
        return Some(format!(
            "uses {aliases} YAML aliases in {} bytes; at most {MAX_ALIASES} in {MAX_ALIASED_BYTES} bytes are read",
            text.len()
        ));
    }
    None
}

/// Counts what may be an alias: a star before a name, where a YAML value can begin, outside of quotes that
/// begin on the same line. It may count too many (in folded texts), never too few.
fn count_aliases(text: &str) -> usize {
    text.lines().map(aliases_in_line).sum()
}

fn aliases_in_line(line: &str) -> usize {
    let bytes = line.as_bytes();
    let mut count = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'*') {
        let starts = at == 0 || matches!(bytes[at - 1], b' ' | b'\t' | b'[' | b'{' | b',' | b':' | b'-');
        let named =
            bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-') || *b >= 0x80);
        count += usize::from(starts && named);
    }
    count
}

/// Whether documents refer to each other (`action: global` and the like), so that they cannot be parsed
/// one by one.
fn uses_actions(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start_matches(['"', '\'']);
        line.starts_with("action") && line["action".len()..].trim_start_matches(['"', '\'', ' ']).starts_with(':')
    })
}

/// The YAML documents of a file that hold anything, each with its first line's number.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut offset = 0;
    for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
        if is_separator(line) && offset > start {
            documents.push((first_line, &text[start..offset]));
            (start, first_line) = (offset, number);
        }
        offset += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents.retain(|(_, document)| document.lines().any(is_content));
    documents
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line == "...")
}

fn looks_like_sigma(text: &str) -> bool {
    ["detection", "correlation", "filter", "logsource"].iter().any(|word| text.contains(word))
}

/// Holds a rule's patterns to the caps; an error names the item at fault.
fn check_patterns(rule: &SigmaRule) -> Result<(), (&DetectionItem, String)> {
    let mut names: Vec<_> = rule.detection.named.keys().collect();
    names.sort_unstable();
    let mut patterns = 0;
    names.into_iter().try_for_each(|name| check_detection(&rule.detection.named[name], &mut patterns))
}

fn check_detection<'a>(detection: &'a Detection, patterns: &mut usize) -> Result<(), (&'a DetectionItem, String)> {
    match detection {
        Detection::AllOf(items) => items.iter().try_for_each(|item| check_item(item, patterns)),
        Detection::AnyOf(parts) | Detection::And(parts) => {
            parts.iter().try_for_each(|part| check_detection(part, patterns))
        }
        Detection::ArrayMatch { body, .. } => check_detection(body, patterns),
        Detection::Conditional { named, .. } => named.values().try_for_each(|part| check_detection(part, patterns)),
        Detection::Keywords(_) => Ok(()),
    }
}

fn check_item<'a>(item: &'a DetectionItem, patterns: &mut usize) -> Result<(), (&'a DetectionItem, String)> {
    let is_regex = item.field.has_modifier(Modifier::Re);
    for value in &item.values {
        let SigmaValue::String(text) = value else { continue };
        if !is_regex && !text.contains_wildcards() {
            continue;
        }
        *patterns += 1;
        if *patterns > MAX_PATTERNS {
            return Err((item, format!("more than {MAX_PATTERNS} patterns in one rule")));
        }
        if text.original.len() > MAX_PATTERN_BYTES {
            return Err((item, format!("a pattern longer than {MAX_PATTERN_BYTES} bytes")));
        }
        // Only repetition can make a short expression large.
        if is_regex && text.original.contains(['{', '\\', '[']) {
            check_regex(&text.original).map_err(|reason| (item, reason))?;
        }
    }
    Ok(())
}

fn check_regex(pattern: &str) -> Result<(), String> {
    match RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("invalid regex pattern: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "title: One\nlogsource:\n  product: aws\ndetection:\n  s:\n    eventName: X\n  condition: s\n";

    fn refused(text: &str) -> (u32, Option<String>, String) {
        let parsed = parse("f.yml", text);
        assert!(parsed.rules.is_empty(), "loaded: {text}");
        assert_eq!(parsed.refused.len(), 1, "{:?}", parsed.refused);
        let r = parsed.refused.into_iter().next().unwrap();
        (r.line, r.field, r.reason)
    }

    #[test]
    fn a_bad_document_costs_only_itself() {
        let text = format!(
            "{RULE}---\ntitle: Bad\nlogsource:\n  product: aws\ndetection:\n  s:\n    eventName|foo: X\n  condition: s\n---\n{}",
            RULE.replace("One", "Two")
        );
        let parsed = parse("f.yml", &text);
        let titles: Vec<_> = parsed.rules.iter().map(|(m, _)| (m.reference.title.as_str(), m.line)).collect();
        assert_eq!(titles, [("One", 1), ("Two", 17)]);
        assert_eq!(parsed.refused.len(), 1);
        let r = &parsed.refused[0];
        assert_eq!((r.line, r.field.as_deref()), (14, Some("eventName|foo")), "{r:?}");
    }

    #[test]
    fn refusals_name_line_and_field() {
        for (from, to, line, field) in [
            ("eventName: X", "eventName|re: '('", 6, "eventName|re"),
            ("eventName: X", "ip|cidr: nonsense", 6, "ip|cidr"),
            ("condition: s", "condition: s and (", 7, "condition"),
            ("condition: s", "condition: missing", 7, "condition"),
            ("title: One\n", "", 1, "title"),
            ("title: One", "title: One\nsigma-version: 99", 2, "sigma-version"),
            ("title: One", "title: One\ncloudsentinel.window_minutes: 0", 2, "cloudsentinel.window_minutes"),
        ] {
            let (at, name, reason) = refused(&RULE.replace(from, to));
            assert_eq!((at, name.as_deref()), (line, Some(field)), "{to}: {reason}");
        }
    }

    #[test]
    fn broken_yaml_is_refused_with_its_line() {
        let (line, _, reason) = refused("title: One\nlogsource: [\ndetection: }\n");
        assert_eq!(line, 3, "{reason}");
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let lists: Vec<_> = (0..9).map(|i| format!("k{i}: &b{i} [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n")).collect();
        let bomb = format!("title: x\ndetection: &a [x, x, x]\n{}", lists.concat());
        assert!(refused(&bomb).2.contains("aliases"));
        let deep = format!("title: x\ndetection: {}{}\n", "[".repeat(5000), "]".repeat(5000));
        assert!(!refused(&deep).2.is_empty());
        assert!(refused(&format!("{RULE}#{}", "x".repeat(MAX_FILE_BYTES))).2.contains("larger"));
        let heavy = RULE.replace("eventName: X", "eventName|re: '((a{100}){100}){100}'");
        assert!(refused(&heavy).2.contains("regex"), "{}", refused(&heavy).2);
        let long = RULE.replace("eventName: X", &format!("eventName: 'a*{}'", "b".repeat(MAX_PATTERN_BYTES)));
        assert!(refused(&long).2.contains("longer"));
    }

    #[test]
    fn values_with_wildcards_are_no_aliases() {
        assert_eq!(count_aliases("a: 'x*y'\nb: \"*z\"\nc|contains: '*'\n# *** stars ***"), 0);
        assert_eq!(count_aliases("a: *x\nb: [*y, *z]"), 3);
    }

    #[test]
    fn actions_correlations_and_filters_are_understood() {
        let text =
            "action: global\nlogsource:\n  product: aws\n---\ntitle: A\ndetection:\n  s:\n    a: 1\n  condition: s\n";
        let parsed = parse("f.yml", text);
        assert_eq!((parsed.rules.len(), parsed.refused.len()), (1, 0), "{:?}", parsed.refused);
        let text = format!(
            "{RULE}---\ntitle: C\ncorrelation:\n  type: event_count\n  rules: [One]\n  group-by: [a]\n  timespan: 5m\n  condition:\n    gte: 3\n"
        );
        let parsed = parse("f.yml", &text);
        assert_eq!((parsed.rules.len(), parsed.correlations.len()), (1, 1), "{:?}", parsed.refused);
    }

    #[test]
    fn remarks_do_not_cost_the_rule() {
        let parsed = parse("f.yml", &RULE.replace("title: One", "title: One\nlevel: terrible"));
        assert_eq!((parsed.rules.len(), parsed.refused.len(), parsed.warnings.len()), (1, 0, 1));
    }

    #[test]
    fn files_that_hold_no_rule_are_told() {
        let parsed = parse("docker-compose.yml", "services:\n  web:\n    image: x\n");
        assert_eq!((parsed.rules.len(), parsed.refused.len(), parsed.warnings.len()), (0, 0, 1));
        assert!(parse("empty.yml", "# nothing\n---\n").warnings.is_empty());
    }
}
