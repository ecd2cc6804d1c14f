//! Placeholders: what an operator knows and a rule cannot, such as the accounts and networks one trusts.
//!
//! In: a file of names, each with a value or a list of values (YAML, or TOML by its extension), and rules with
//! `FIELD|expand: '...%NAME%...'`. Out: the same rules with the values in the place of the names. A name without
//! values leaves a list that is empty: the field then matches nothing, so a filter filters nothing, a selection that
//! needs it never holds, and `|neq` always does. That is told for every rule but our own, whose names every operator
//! may leave out. Values are Sigma values: `*` and `?` stand for any text and any letter.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use rsigma_eval::compiler::compile_detection;
use rsigma_parser::{Detection, DetectionItem, FieldSpec, Modifier, SigmaRule, SigmaString, SigmaValue};
use serde_json::Value;

use super::caps::{MAX_FILE_BYTES, too_hostile};

/// Names that our own rules use.
pub const STANDARD: [&str; 4] = ["trusted_accounts", "trusted_networks", "administrator_roles", "known_vendors"];
/// Names in a file.
const MAX_NAMES: usize = 1_000;
/// Values of one name, and of one field after its names were filled in.
const MAX_VALUES: usize = 10_000;
/// Longest value in bytes.
const MAX_VALUE_BYTES: usize = 2_048;

/// A file of placeholders that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("placeholders {file}: {reason}")]
pub struct BadPlaceholders {
    /// The file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// Why.
    pub reason: String,
}

/// Names with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placeholders(BTreeMap<String, Vec<String>>);

/// A field that cannot be filled.
#[derive(Debug)]
pub(super) struct BadField {
    pub(super) field: FieldSpec,
    pub(super) reason: String,
}

/// What an author or operator should know of a rule that was filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remark {
    /// A name has no values.
    Empty { name: String, field: String },
    /// A value does not fit the field's modifiers and was left out.
    Unfit { name: String, value: String, field: String, reason: String },
}

impl Remark {
    /// Whether it is merely that a name of our own rules has no values.
    pub(super) fn is_usual(&self) -> bool {
        matches!(self, Self::Empty { name, .. } if STANDARD.contains(&name.as_str()))
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty { name, field } => {
                write!(f, "placeholder %{name}% has no values: {field} matches nothing in this rule")
            }
            Self::Unfit { name, value, field, reason } => {
                write!(f, "placeholder {name}: {value:?} does not fit {field} and is left out: {reason}")
            }
        }
    }
}

/// The texts that a value stands for; `None` when it is neither a scalar nor a list of them.
fn texts(value: Value) -> Option<Vec<String>> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.into_iter().map(text).collect(),
        one => text(one).map(|one| vec![one]),
    }
}

impl Placeholders {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, BadPlaceholders> {
        let file = path.display().to_string();
        let bad = |error: std::io::Error| BadPlaceholders { file: file.clone(), line: 1, reason: error.to_string() };
        let mut text = String::new();
        File::open(path).map_err(bad)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(bad)?;
        Self::parse(&file, &text)
    }

    /// Takes a file's text apart: TOML when its name ends so, else YAML.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadPlaceholders> {
        let bad = |line, reason| BadPlaceholders { file: file.to_owned(), line, reason };
        if let Some(reason) = too_hostile(text) {
            return Err(bad(1, reason));
        }
        let is_toml = Path::new(file).extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
        let read: BTreeMap<String, Value> = if is_toml {
            toml::from_str(text).map_err(|e| bad(line_at(text, e.span()), e.message().to_owned()))?
        } else if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            BTreeMap::new()
        } else {
            serde_yaml_ng::from_str(text).map_err(|e| {
                let line = e.location().and_then(|l| u32::try_from(l.line()).ok()).unwrap_or(1);
                bad(line.max(1), e.to_string())
            })?
        };
        if read.len() > MAX_NAMES {
            return Err(bad(1, format!("more than {MAX_NAMES} names")));
        }
        let mut all = BTreeMap::new();
        for (name, values) in read {
            let here = line_of(text, &name);
            let values =
                texts(values).ok_or_else(|| bad(here, format!("{name} is neither a value nor a list of values")))?;
            if name.is_empty() || name.contains('%') {
                return Err(bad(here, format!("{name:?} is no name of a placeholder")));
            }
            if values.len() > MAX_VALUES || values.iter().any(|v| v.len() > MAX_VALUE_BYTES) {
                let reason =
                    format!("{name} has more than {MAX_VALUES} values, or one longer than {MAX_VALUE_BYTES} bytes");
                return Err(bad(here, reason));
            }
            if values.iter().any(String::is_empty) {
                return Err(bad(here, format!("{name} has an empty value, which would match everything in places")));
            }
            all.insert(name, values);
        }
        Ok(Self(all))
    }

    /// Adds another file's names; where both have one, the other's values count.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether there are no names.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Fills a rule's placeholders.
    pub(super) fn fill(&self, rule: &mut SigmaRule) -> Result<Vec<Remark>, BadField> {
        let mut remarks = Vec::new();
        for detection in rule.detection.named.values_mut() {
            self.fill_detection(detection, &mut remarks)?;
        }
        Ok(remarks)
    }

    fn fill_detection(&self, detection: &mut Detection, remarks: &mut Vec<Remark>) -> Result<(), BadField> {
        match detection {
            Detection::AllOf(items) => items
                .iter_mut()
                .filter(|item| item.field.has_modifier(Modifier::Expand))
                .try_for_each(|item| self.fill_item(item, remarks)),
            Detection::AnyOf(parts) | Detection::And(parts) => {
                parts.iter_mut().try_for_each(|part| self.fill_detection(part, remarks))
            }
            Detection::ArrayMatch { body, .. } => self.fill_detection(body, remarks),
            Detection::Conditional { named, .. } => {
                named.values_mut().try_for_each(|part| self.fill_detection(part, remarks))
            }
            Detection::Keywords(_) => Ok(()),
        }
    }

    /// Fills what one field must be.
    pub(super) fn fill_item(&self, item: &mut DetectionItem, remarks: &mut Vec<Remark>) -> Result<(), BadField> {
        let written = item.field.clone();
        let spelled = spell(&written);
        item.field.modifiers.retain(|m| *m != Modifier::Expand);
        let is_regex = item.field.has_modifier(Modifier::Re);
        let mut filled = Vec::new();
        for value in std::mem::take(&mut item.values) {
            let SigmaValue::String(template) = value else {
                filled.push(value);
                continue;
            };
            let parts = split(&template.original);
            for name in parts.iter().filter_map(Part::name).filter(|name| self.of(name).is_empty()) {
                let remark = Remark::Empty { name: name.to_owned(), field: spelled.clone() };
                if !remarks.contains(&remark) {
                    remarks.push(remark);
                }
            }
            let too_many = || BadField {
                field: written.clone(),
                reason: format!("its placeholders make more than {MAX_VALUES} values"),
            };
            for text in self.expanded(&parts).ok_or_else(too_many)? {
                let text = if is_regex { SigmaString::from_raw(&text) } else { SigmaString::new(&text) };
                let value = SigmaValue::String(text);
                let name = parts.iter().find_map(Part::name);
                match name.zip(unfit(&item.field, &value)) {
                    Some((name, reason)) => remarks.push(Remark::Unfit {
                        name: name.to_owned(),
                        value: value.to_string(),
                        field: spelled.clone(),
                        reason,
                    }),
                    None => filled.push(value),
                }
            }
            if filled.len() > MAX_VALUES {
                return Err(too_many());
            }
        }
        // All of one is that one; `|all` is refused with fewer than two values.
        if filled.len() < 2 {
            item.field.modifiers.retain(|m| *m != Modifier::All);
        }
        item.values = filled;
        Ok(())
    }

    /// Every way of filling a template; `None` when there are too many.
    fn expanded(&self, parts: &[Part<'_>]) -> Option<Vec<String>> {
        let mut texts = vec![String::new()];
        for part in parts {
            match part {
                Part::Text(text) => texts.iter_mut().for_each(|t| t.push_str(text)),
                Part::Name(name) => {
                    let values = self.of(name);
                    if texts.len().checked_mul(values.len())? > MAX_VALUES {
                        return None;
                    }
                    texts = texts.iter().flat_map(|t| values.iter().map(move |v| format!("{t}{v}"))).collect();
                }
            }
        }
        Some(texts)
    }
}

/// Why a value does not fit a field's modifiers, as when a network is none.
fn unfit(field: &FieldSpec, value: &SigmaValue) -> Option<String> {
    let mut field = field.clone();
    field.modifiers.retain(|m| *m != Modifier::All);
    let alone = DetectionItem { field, values: vec![value.clone()] };
    compile_detection(&Detection::AllOf(vec![alone])).err().map(|e| e.to_string())
}

fn spell(field: &FieldSpec) -> String {
    field.name.clone().unwrap_or_else(|| String::from("the keywords"))
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

impl<'a> Part<'a> {
    fn name(&self) -> Option<&'a str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Text(_) => None,
        }
    }
}

/// Takes `a%NAME%b` apart. A per cent sign without a partner, or with nothing between, is text.
fn split(template: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), template);
    while let Some((text, after)) = rest.split_once('%')
        && let Some((name, tail)) = after.split_once('%')
    {
        if name.is_empty() {
            parts.push(Part::Text(&rest[..text.len() + 2]));
        } else {
            parts.extend([Part::Text(text), Part::Name(name)]);
        }
        rest = tail;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

fn line_at(text: &str, span: Option<std::ops::Range<usize>>) -> u32 {
    let start = span.map_or(0, |s| s.start.min(text.len()));
    let before = memchr::memchr_iter(b'\n', &text.as_bytes()[..start]).count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

fn line_of(text: &str, name: &str) -> u32 {
    (1..)
        .zip(text.lines())
        .find(|(_, line)| line.trim_start_matches(['"', '\'']).starts_with(name))
        .map_or(1, |(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: &str, item: &str) -> (Vec<String>, Vec<String>, bool) {
        let placeholders = Placeholders::parse("p.yml", values).unwrap();
        let text = format!("title: T\nlogsource: {{product: aws}}\ndetection:\n  s:\n    {item}\n  condition: s\n");
        let mut rule = rsigma_parser::parse_sigma_yaml(&text).unwrap().rules.remove(0);
        let remarks = placeholders.fill(&mut rule).unwrap().iter().map(ToString::to_string).collect();
        let compiles = rsigma_eval::compile_rule(&rule).is_ok();
        let Detection::AllOf(items) = &rule.detection.named["s"] else { panic!("no item") };
        assert!(!items[0].field.has_modifier(Modifier::Expand));
        (items[0].values.iter().map(ToString::to_string).collect(), remarks, compiles)
    }

    #[test]
    fn names_are_filled_wherever_they_stand() {
        let values = "a: ['1', 2]\nb: x*\nnone: []\nnothing:\n";
        for (item, expected) in [
            ("f|expand: '%a%'", &["1", "2"][..]),
            ("f|contains|expand: ['<%a%>', '%b%', y]", &["<1>", "<2>", "x*", "y"]),
            ("f|expand: '%a%-%a%'", &["1-1", "1-2", "2-1", "2-2"]),
            ("f|expand: '100% of %b%'", &["100% of %b%"]),
            ("f|expand: '50%%%b%'", &["50%%x*"]),
            ("f|all|contains|expand: '%b%'", &["x*"]),
        ] {
            let (values, _, compiles) = filled(values, item);
            assert!(compiles, "{item}");
            if item.contains("100%") {
                // What stands between two signs is a name, whatever it is; this one has no values.
                assert!(values.is_empty(), "{values:?}");
                continue;
            }
            assert_eq!(values, expected, "{item}");
        }
        for empty in ["%none%", "%nothing%", "%unheard%", "x%unheard%y"] {
            for modifiers in ["", "|contains|all", "|cidr", "|neq", "|startswith"] {
                let (values, remarks, compiles) = filled(values, &format!("f{modifiers}|expand: '{empty}'"));
                assert!(values.is_empty() && compiles, "{empty} {modifiers}");
                assert!(remarks[0].contains("has no values"), "{remarks:?}");
            }
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_left_out_and_the_rule_stays() {
        let (values, remarks, compiles) = filled("nets: [10.0.0.0/8, nonsense]", "ip|cidr|expand: '%nets%'");
        assert_eq!((values.as_slice(), compiles), (&["10.0.0.0/8".to_owned()][..], true));
        assert!(remarks[0].contains("nonsense") && remarks[0].contains("ip"), "{remarks:?}");
    }

    #[test]
    fn files_are_yaml_or_toml_and_bounded() {
        let yaml = Placeholders::parse("p.yml", "trusted_accounts:\n  - 111122223333\n  - '012345678901'\n").unwrap();
        let toml = "trusted_accounts = [\"111122223333\", \"012345678901\"]\n";
        assert_eq!(yaml, Placeholders::parse("p.toml", toml).unwrap());
        assert_eq!(Placeholders::parse("p.yml", "# nothing yet\n").unwrap(), Placeholders::default());
        let line = |file: &str, text: &str| Placeholders::parse(file, text).unwrap_err().line;
        assert_eq!(line("p.yml", "ok: [a]\nbad: {a: {b: c}}\n"), 2);
        assert_eq!(line("p.yml", "ok: [a]\n\nempty: ['']\n"), 3);
        assert_eq!(line("p.toml", "ok = [\"a\"]\nbad = \n"), 2);
        assert_eq!(line("p.yml", &format!("a: {}", "x".repeat(MAX_FILE_BYTES))), 1);
        assert_eq!(line("p.yml", &format!("ok: a\nlong: {}", "x".repeat(MAX_VALUE_BYTES + 1))), 2);
    }

    #[test]
    fn combinations_are_bounded() {
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let placeholders = Placeholders::parse("p.yml", &format!("a: [{}]", many.join(", "))).unwrap();
        let text = "title: T\ndetection: {s: {f|expand: '%a%%a%'}, condition: s}\n";
        let mut rule = rsigma_parser::parse_sigma_yaml(text).unwrap().rules.remove(0);
        assert!(placeholders.fill(&mut rule).unwrap_err().reason.contains("more than"));
    }
}
