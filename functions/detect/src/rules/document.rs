//! One rule file taken apart: its YAML documents, each parsed and compiled by itself, so that a bad one
//! costs only itself.
//!
//! In: a file's text. Out: compiled rules, counts of what is not a plain rule, what was refused and
//! warnings. Caps hold before anything is parsed or compiled: rules may come from anybody.

use std::{collections::HashMap, sync::Arc};

use rsigma_parser::{
    CorrelationRule, Detections, FilterRule, FilterRuleTarget, LogSource, Modifier, SigmaCollection, SigmaRule, version,
};

use super::{
    caps::{check_patterns, too_hostile},
    compiled::{self, Compiled, Item, Part},
    filter::{Filter, Reference},
    load::Refused,
    locate::{self, Place},
    meta::{self, RuleMeta},
    placeholders::{Placeholders, Remark},
    plain::{self, Node},
    quick, shape, split, walk,
};

/// Documents in one file.
const MAX_DOCUMENTS: usize = 5_000;

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) rules: Vec<(RuleMeta, Compiled)>,
    pub(super) correlations: Vec<ParsedCorrelation>,
    pub(super) filters: Vec<Filter>,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
}

/// A correlation rule with its text, for messages to name a place in it: what it refers to is known only when all
/// files are.
#[derive(Debug)]
pub(super) struct ParsedCorrelation {
    pub(super) rule: CorrelationRule,
    pub(super) file: String,
    /// Number of the text's first line in the file.
    pub(super) line: u32,
    pub(super) text: String,
}

/// Takes a file apart. `file` is how messages name it; placeholders are filled as given.
pub(super) fn parse(file: &str, text: &str, placeholders: &Placeholders) -> Parsed {
    let mut parsed = Parsed::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(reason) = too_hostile(text) {
        parsed.refuse(file, Place { line: 1, field: None }, reason);
        return parsed;
    }
    let documents = split::documents(text);
    if documents.len() > MAX_DOCUMENTS {
        parsed.refuse(file, Place { line: 1, field: None }, format!("more than {MAX_DOCUMENTS} documents"));
        return parsed;
    }
    for (line, text) in documents {
        let tree = plain::read(text);
        parsed.document(&Document { file, line, text, placeholders, ours: false }, tree.as_ref());
    }
    parsed
}

/// What the rules of our own pack ask of fields, each compiled once for all of them.
pub(super) struct Shared<'a> {
    items: Vec<shape::Item<'a>>,
    /// `None` for what each rule compiles by itself.
    compiled: Vec<Option<Arc<Item>>>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(items: Vec<shape::Item<'a>>, placeholders: &Placeholders) -> Self {
        let compiled = walk::each(&items, |(key, values)| Self::item(key, values, placeholders).map(Arc::new));
        Self { items, compiled }
    }

    fn item(key: &str, values: &Node<'_>, placeholders: &Placeholders) -> Option<Item> {
        if let Some(item) = quick::plain_item(key, values) {
            return Some(item);
        }
        let mut item = quick::item(key, values)?;
        if item.field.has_modifier(Modifier::Expand) {
            let mut remarks = Vec::new();
            placeholders.fill_item(&mut item, &mut remarks).ok()?;
            // What is told is told of a rule.
            if !remarks.iter().all(Remark::is_usual) {
                return None;
            }
        }
        Item::usual(&item)
    }

    fn part(&self, selection: &shape::Selection) -> Option<Part> {
        let all = |numbers: &Vec<usize>| {
            let items = numbers.iter().map(|number| self.compiled.get(*number)?.clone());
            items.collect::<Option<Vec<_>>>().filter(|items| !items.is_empty()).map(Part::Items)
        };
        match selection {
            shape::Selection::All(numbers) => all(numbers),
            shape::Selection::Any(parts) => {
                let parts = parts.iter().map(all).collect::<Option<Vec<_>>>();
                parts.filter(|parts| !parts.is_empty()).map(Part::Any)
            }
        }
    }

    /// The rule in a document whose selections are all made of what is shared.
    fn rule(&self, document: &Document<'_>, built: &shape::Document<'_>) -> Option<(RuleMeta, Compiled)> {
        let selections = built.selections.as_ref()?.iter();
        let selections = selections.map(|(name, selection)| Some((name.to_string(), self.part(selection)?)));
        let mut detections = selections.collect::<Option<Vec<_>>>()?;
        detections.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut rule = quick::rule_without_selections(built.tree.as_ref()?)?;
        let compiled = Compiled {
            log_source: rule.logsource.clone(),
            detections,
            conditions: std::mem::take(&mut rule.detection.conditions),
            #[cfg(test)]
            plain: compiled::plain(document.text, document.placeholders),
        };
        // Logs that a rule does not name are told from its selections.
        if !compiled.is_complete() || !meta::states_logs(&rule) {
            return None;
        }
        let line = locate::title_line(document.text, document.line, &rule.title);
        Some((RuleMeta::of(rule, document.file, line, document.text).ok()?, compiled))
    }
}

/// Takes a file of our own pack apart, whose documents the build has read and whose expressions tests have checked.
pub(super) fn ours(
    file: &str,
    text: &str,
    documents: &[shape::Document<'_>],
    shared: &Shared<'_>,
    placeholders: &Placeholders,
) -> Parsed {
    let mut parsed = Parsed::default();
    for built in documents {
        let text = text.get(built.start..built.end).unwrap_or(text);
        let document = Document { file, line: built.line, text, placeholders, ours: true };
        match shared.rule(&document, built) {
            Some(rule) => parsed.keep(rule),
            None => parsed.document(&document, built.whole(&shared.items).as_ref()),
        }
    }
    parsed
}

/// One document of a file.
struct Document<'a> {
    file: &'a str,
    /// Number of its first line in the file.
    line: u32,
    text: &'a str,
    placeholders: &'a Placeholders,
    /// Whether it is of our own pack.
    ours: bool,
}

impl Parsed {
    /// Keeps a rule. They are large, and nearly all files hold one.
    fn keep(&mut self, rule: (RuleMeta, Compiled)) {
        if self.rules.is_empty() {
            self.rules.reserve_exact(1);
        }
        self.rules.push(rule);
    }

    fn refuse(&mut self, file: &str, place: Place, reason: String) {
        self.refused.push(Refused { file: file.to_owned(), line: place.line, field: place.field, reason });
    }

    /// `tree` is the document where it is plain YAML.
    fn document(&mut self, document: &Document<'_>, tree: Option<&Node<'_>>) {
        let Document { file, line, text, .. } = *document;
        if !looks_like_sigma(text) {
            self.warnings.push(format!("{file}:{line}: skipped: no Sigma document"));
            return;
        }
        if let Some(rule) = tree.and_then(quick::rule) {
            return self.rule(document, rule);
        }
        let correlation = |rule| ParsedCorrelation { rule, file: file.to_owned(), line, text: text.to_owned() };
        if let Some(rule) = tree.and_then(quick::correlation) {
            return self.correlations.push(correlation(rule));
        }
        let mut collection = match rsigma_parser::parse_sigma_yaml(text) {
            Ok(collection) => collection,
            Err(error) => {
                return self.refuse(file, locate::parse_error(text, line, &error.to_string()), error.to_string());
            }
        };
        self.sort_errors(document, &mut collection);
        self.correlations.extend(collection.correlations.into_iter().map(correlation));
        for filter in collection.filters {
            self.filter(document, filter);
        }
        for rule in collection.rules {
            self.rule(document, rule);
        }
    }

    /// The parser reports remarks and refusals in one list: without a result, the last entry is why.
    fn sort_errors(&mut self, document: &Document<'_>, collection: &mut SigmaCollection) {
        let Document { file, line, text, .. } = *document;
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

    fn rule(&mut self, document: &Document<'_>, mut rule: SigmaRule) {
        let Document { file, line, text, .. } = *document;
        let Some(compiled) = self.compiled(document, &mut rule) else { return };
        let at = locate::title_line(text, line, &rule.title);
        match RuleMeta::of(rule, file, at, text) {
            Ok(meta) => self.keep((meta, compiled)),
            Err(error) => self.refuse(file, locate::key(text, line, error.field), error.to_string()),
        }
    }

    fn filter(&mut self, document: &Document<'_>, filter: FilterRule) {
        let Document { file, line, text, .. } = *document;
        let at = locate::title_line(text, line, &filter.title);
        let targets = match filter.rules {
            FilterRuleTarget::Any => None,
            FilterRuleTarget::Specific(names) => {
                let place = |name: String| Reference { line: locate::value_line(text, line, at, &name), name };
                Some(names.into_iter().map(place).collect())
            }
        };
        let log_source = filter.logsource.unwrap_or_default();
        let mut rule = as_rule(filter.title, filter.sigma_version, filter.detection);
        let Some(compiled) = self.compiled(document, &mut rule) else { return };
        match Filter::new(rule.title, file, at, targets, log_source, compiled) {
            Ok(filter) => self.filters.push(filter),
            Err(error) => self.refuse(file, locate::key(text, line, "condition"), error.to_string()),
        }
    }

    /// A rule or filter held to the caps, with its placeholders filled, compiled; `None` when it was refused.
    fn compiled(&mut self, document: &Document<'_>, rule: &mut SigmaRule) -> Option<Compiled> {
        let Document { file, line, text, placeholders, ours } = *document;
        if version::is_unsupported(rule.sigma_version) {
            let place = locate::key(text, line, "sigma-version");
            self.refuse(file, place, String::from("a Sigma version that is not supported"));
            return None;
        }
        match placeholders.fill(rule) {
            Ok(remarks) => {
                // Every operator may do without the names of our own rules.
                let told = remarks.into_iter().filter(|remark| !(ours && remark.is_usual()));
                let at = locate::title_line(text, line, &rule.title);
                self.warnings.extend(told.map(|remark| format!("{file}:{at}: rule {:?}: {remark}", rule.title)));
            }
            Err(error) => {
                self.refuse(file, locate::field(text, line, &error.field), error.reason);
                return None;
            }
        }
        if !ours && let Err((item, reason)) = check_patterns(rule) {
            self.refuse(file, locate::item(text, line, item), reason);
            return None;
        }
        match compiled::compile(rule) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                self.refuse(file, locate::compile_error(text, line, rule), error.to_string());
                None
            }
        }
    }
}

/// A filter's detections as a rule's, so that they pass the same checks.
fn as_rule(title: String, sigma_version: Option<u32>, detection: Detections) -> SigmaRule {
    SigmaRule {
        title,
        logsource: LogSource::default(),
        detection,
        sigma_version,
        id: None,
        name: None,
        related: Vec::new(),
        taxonomy: None,
        status: None,
        description: None,
        license: None,
        author: None,
        references: Vec::new(),
        date: None,
        modified: None,
        fields: Vec::new(),
        falsepositives: Vec::new(),
        level: None,
        tags: Vec::new(),
        scope: Vec::new(),
        custom_attributes: HashMap::new(),
    }
}

/// What the parser merely remarks on: the rule is there, an optional part of it was left out.
fn is_remark(error: &str) -> bool {
    ["invalid status", "invalid level", "invalid sigma-version", "'related'", "related["]
        .iter()
        .any(|start| error.starts_with(start))
}

fn looks_like_sigma(text: &str) -> bool {
    ["detection", "correlation", "filter", "logsource"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, text: &str) -> Parsed {
        super::parse(file, text, &Placeholders::default())
    }

    use super::super::{caps::MAX_FILE_BYTES, pack};

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
        let long = RULE.replace("eventName: X", &format!("eventName: 'a*{}'", "b".repeat(5_000)));
        assert!(refused(&long).2.contains("longer"));
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
    fn rules_of_shared_items_are_those_of_their_texts() {
        let filled = "trusted_accounts: ['111122223333', '4444*']\nknown_vendors: ['555566667777']\n";
        for placeholders in [Placeholders::default(), Placeholders::parse("p.yml", filled).unwrap()] {
            let shared = Shared::new(pack::items().unwrap(), &placeholders);
            assert!(shared.items.len() > 1_000, "{}", shared.items.len());
            let (mut made, mut all) = (0, 0);
            for (at, (name, text, _)) in pack::files().iter().enumerate() {
                let documents = pack::documents(at).unwrap();
                let built = ours(name, text, &documents, &shared, &placeholders);
                let read = super::parse(name, text, &placeholders);
                assert_eq!(described(&built.rules), described(&read.rules), "{name}");
                assert!(built.warnings.is_empty() && built.refused.is_empty(), "{name}: {built:?}");
                all += built.rules.len();
                for built in &documents {
                    let text = &text[built.start..built.end];
                    let document =
                        Document { file: name, line: built.line, text, placeholders: &placeholders, ours: true };
                    made += usize::from(shared.rule(&document, built).is_some());
                }
            }
            assert!(made * 100 >= all * 95, "{made} of {all} rules are made of shared items");
        }
    }

    #[test]
    fn what_deserves_a_remark_or_a_refusal_is_not_shared() {
        let file = "trusted_networks: [10.0.0.0/8, nonsense]\ntrusted_accounts: ['1']\n";
        let placeholders = Placeholders::parse("p.yml", file).unwrap();
        let shared = |key: &str, value: &str| Shared::item(key, &Node::Text(value.into()), &placeholders).is_some();
        assert!(shared("userIdentity.accountId|expand", "%trusted_accounts%"));
        assert!(shared("userIdentity.accountId|expand", "%known_vendors%"), "every operator may leave these out");
        assert!(!shared("userIdentity.accountId|expand", "%nobody_fills_this%"));
        assert!(!shared("sourceIPAddress|cidr|expand", "%trusted_networks%"), "one of them is no network");
        assert!(!shared("sourceIPAddress|cidr", "nonsense"));
        assert!(!shared("a|foo", "x"));
    }

    fn described(rules: &[(RuleMeta, Compiled)]) -> Vec<String> {
        let describe = |(meta, rule): &(RuleMeta, Compiled)| {
            let parts: Vec<_> = rule.detections.iter().map(|(n, p)| (n, shape_of(p), compiled::described(p))).collect();
            format!("{meta:?} {:?} {:?} {parts:?}", rule.log_source, rule.conditions)
        };
        rules.iter().map(describe).collect()
    }

    fn shape_of(part: &Part) -> String {
        let several = |parts: &[Part]| parts.iter().map(shape_of).collect::<String>();
        match part {
            Part::Items(items) => items.len().to_string(),
            Part::All(parts) => format!("all({})", several(parts)),
            Part::Any(parts) => format!("any({})", several(parts)),
            Part::Keywords(_) => String::from("k"),
            Part::Members(_) => String::from("m"),
        }
    }

    #[test]
    fn files_that_hold_no_rule_are_told() {
        let parsed = parse("docker-compose.yml", "services:\n  web:\n    image: x\n");
        assert_eq!((parsed.rules.len(), parsed.refused.len(), parsed.warnings.len()), (0, 0, 1));
        assert!(parse("empty.yml", "# nothing\n---\n").warnings.is_empty());
    }
}
