//! How rules see a record: field lookup over a parsed JSON value with CloudTrail's corners.
//!
//! In: a record that was read, and field names as rules write them. Out: the values that matchers
//! compare. What is particular here, against a plain JSON view:
//!
//! - an absent field and a null one are the same to a rule (success is an *absent* `errorCode`);
//! - an array in the middle of a path, or at its end, stands for any of its elements;
//! - an object is its compact JSON text, so `requestParameters|contains` works as in a log search;
//! - a key that itself contains dots is found at any depth (`attributes.accounts.google.com:aud`);
//! - numbers and booleans compare as text too, and integers beyond `i64` keep all their digits;
//! - the case of field names counts.

use std::borrow::Cow;

use rsigma_eval::{Event, EventValue};
use rsigma_parser::fieldpath::{first_unescaped, unescape_brackets};
use sentinel_json::{Kind, Value};

/// Nesting beyond which a record is not searched. Ingest refuses records nested deeper than this.
const MAX_DEPTH: usize = 64;

/// A field name as a rule writes it, taken apart once.
#[derive(Debug, Clone)]
pub(crate) struct FieldPath {
    steps: Box<[Step]>,
}

#[derive(Debug, Clone)]
enum Step {
    /// A key of an object, and all of the path from here on, which may be one key with dots in it.
    Key { name: Box<str>, rest: Option<Box<str>> },
    /// A position in an array (`name[0]`, negative from the end).
    Index(i64),
}

/// What stands in a record under a field name.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Nothing.
    Absent,
    /// One value.
    One(Value<'a>),
    /// Several, because the path crosses an array.
    Many(Vec<Value<'a>>),
}

impl FieldPath {
    /// Takes a field name apart: dots separate keys, `[N]` is a position, `\[` a literal bracket.
    pub(crate) fn parse(path: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = path;
        loop {
            let (segment, tail) = match rest.split_once('.') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (rest, None),
            };
            let flat = tail.map(|_| Box::from(rest));
            let indexes = first_unescaped(segment, b'[').and_then(|at| Some((at, parse_indexes(&segment[at..])?)));
            match indexes {
                Some((at, indexes)) => {
                    if at > 0 {
                        steps.push(Step::Key { name: unescape_brackets(&segment[..at]).into(), rest: flat });
                    }
                    steps.extend(indexes.into_iter().map(Step::Index));
                }
                None => steps.push(Step::Key { name: unescape_brackets(segment).into(), rest: flat }),
            }
            match tail {
                Some(tail) => rest = tail,
                None => return Self { steps: steps.into() },
            }
        }
    }

    /// Looks the field up. Allocates only when the path crosses an array with several matches.
    pub(crate) fn find<'a>(&self, record: Value<'a>) -> Found<'a> {
        let mut found = Found::Absent;
        walk(record, &self.steps, MAX_DEPTH, &mut found);
        found
    }

    /// The keys from the outermost on, each with all that is left from there on if it is not the last. `None` when a
    /// position in an array is among them.
    pub(crate) fn keys(&self) -> Option<Vec<(&str, Option<&str>)>> {
        fn key(step: &Step) -> Option<(&str, Option<&str>)> {
            match step {
                Step::Key { name, rest } => Some((name, rest.as_deref())),
                Step::Index(_) => None,
            }
        }
        self.steps.iter().map(key).collect()
    }
}

/// Reads `[0]` or `[0][-1]`; `None` when it is something else, which is then part of a key.
fn parse_indexes(text: &str) -> Option<Vec<i64>> {
    let mut indexes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.strip_prefix('[')?.split_once(']')?;
        indexes.push(number.parse().ok()?);
        rest = tail;
    }
    Some(indexes)
}

fn walk<'a>(value: Value<'a>, steps: &[Step], depth: usize, found: &mut Found<'a>) {
    let Some((step, rest)) = steps.split_first() else {
        return found.push(value);
    };
    if depth == 0 {
        return;
    }
    match step {
        Step::Key { name, rest: flat } => {
            if value.is_object() {
                // One pass for both names; the whole rest of the path as one key comes before its first part.
                let mut first = None;
                for (key, inner) in value.members() {
                    if flat.as_deref() == Some(key) {
                        return found.push(inner);
                    }
                    if first.is_none() && key == &**name {
                        first = Some(inner);
                        if flat.is_none() {
                            break;
                        }
                    }
                }
                if let Some(inner) = first {
                    walk(inner, rest, depth - 1, found);
                }
            } else {
                for item in value.items() {
                    walk(item, steps, depth - 1, found);
                }
            }
        }
        Step::Index(index) => {
            let at = if *index >= 0 {
                usize::try_from(*index).ok()
            } else {
                usize::try_from(index.unsigned_abs()).ok().and_then(|back| value.items().count().checked_sub(back))
            };
            if let Some(item) = at.and_then(|at| value.items().nth(at)) {
                walk(item, rest, depth - 1, found);
            }
        }
    }
}

impl<'a> Found<'a> {
    fn push(&mut self, value: Value<'a>) {
        match self {
            Self::Absent => *self = Self::One(value),
            Self::One(first) => *self = Self::Many(vec![*first, value]),
            Self::Many(all) => all.push(value),
        }
    }
}

/// How objects are shown to matchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objects {
    /// As their compact JSON text.
    Text,
    /// As they are, for rules that match inside the members of an array (`field[any]:`).
    Structure,
}

/// A JSON value as matchers take it.
pub(crate) fn event_value(value: Value<'_>, objects: Objects) -> EventValue<'_> {
    match value.kind() {
        Kind::Null => EventValue::Null,
        Kind::Boolean => EventValue::Bool(value.as_bool() == Some(true)),
        Kind::Number => number(value),
        Kind::String => EventValue::Str(Cow::Borrowed(value.as_str().unwrap_or_default())),
        Kind::Array => EventValue::Array(value.items().map(|v| event_value(v, objects)).collect()),
        Kind::Object if objects == Objects::Text => EventValue::Str(Cow::Owned(value.compact())),
        Kind::Object => {
            EventValue::Map(value.members().map(|(k, v)| (Cow::Borrowed(k), event_value(v, objects))).collect())
        }
    }
}

fn number(value: Value<'_>) -> EventValue<'_> {
    if let Some(int) = value.as_i64() {
        return EventValue::Int(int);
    }
    if let Some(unsigned) = value.as_u64() {
        // Text keeps digits that a float would lose; numeric matchers read numbers from text.
        return EventValue::Str(Cow::Owned(unsigned.to_string()));
    }
    EventValue::Float(value.as_f64().unwrap_or(f64::NAN))
}

/// A record as rsigma's matchers and evaluator see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordView<'a> {
    record: Value<'a>,
    objects: Objects,
}

impl<'a> RecordView<'a> {
    /// A view of a record that shows objects as said.
    pub(crate) fn new(record: Value<'a>, objects: Objects) -> Self {
        Self { record, objects }
    }
}

impl Event for RecordView<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        match FieldPath::parse(path).find(self.record) {
            Found::Absent => None,
            Found::One(value) => Some(event_value(value, self.objects)),
            Found::Many(values) => {
                Some(EventValue::Array(values.into_iter().map(|v| event_value(v, self.objects)).collect()))
            }
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        any_string(self.record, pred, MAX_DEPTH)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let mut all = Vec::new();
        collect_strings(self.record, &mut all, MAX_DEPTH);
        all
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.record.compact()).unwrap_or(serde_json::Value::Null)
    }
}

fn any_string(value: Value<'_>, pred: &dyn Fn(&str) -> bool, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    if let Some(text) = value.as_str() {
        return pred(text);
    }
    value.members().any(|(_, v)| any_string(v, pred, depth - 1))
        || value.items().any(|v| any_string(v, pred, depth - 1))
}

/// Stands between texts that are searched together. No text of a rule that is searched for so contains it.
pub(crate) const BETWEEN_TEXTS: char = '\u{10FFFF}';

/// All texts of a record in lower case, one after the other.
pub(crate) fn lower_texts(record: Value<'_>) -> String {
    let mut all = String::new();
    add_lower(record, &mut all, MAX_DEPTH);
    all
}

fn add_lower(value: Value<'_>, all: &mut String, depth: usize) {
    if depth == 0 {
        return;
    }
    if let Some(text) = value.as_str() {
        if text.is_ascii() {
            all.extend(text.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            all.push_str(&text.to_lowercase());
        }
        all.push(BETWEEN_TEXTS);
        return;
    }
    value.members().for_each(|(_, inner)| add_lower(inner, all, depth - 1));
    value.items().for_each(|inner| add_lower(inner, all, depth - 1));
}

fn collect_strings<'a>(value: Value<'a>, all: &mut Vec<Cow<'a, str>>, depth: usize) {
    if depth == 0 {
        return;
    }
    if let Some(text) = value.as_str() {
        all.push(Cow::Borrowed(text));
        return;
    }
    value.members().for_each(|(_, inner)| collect_strings(inner, all, depth - 1));
    value.items().for_each(|inner| collect_strings(inner, all, depth - 1));
}

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::*;

    fn get(record: &str, path: &str) -> Option<String> {
        let record = Document::parse(record).unwrap();
        RecordView::new(record.root(), Objects::Text).get_field(path).map(|v| v.to_json().to_string())
    }

    #[test]
    fn finds_nested_flat_and_dotted_keys() {
        assert_eq!(get(r#"{"a":{"b":1}}"#, "a.b").unwrap(), "1");
        assert_eq!(get(r#"{"a.b":2}"#, "a.b").unwrap(), "2");
        assert_eq!(get(r#"{"a":{"accounts.google.com:aud":"x"}}"#, "a.accounts.google.com:aud").unwrap(), "\"x\"");
        assert_eq!(get(r#"{"a":{"b":null}}"#, "a.b").unwrap(), "null");
        assert_eq!(get(r#"{"a":"text"}"#, "a.b"), None);
    }

    #[test]
    fn the_case_of_field_names_counts() {
        assert_eq!(get(r#"{"eventname":"x"}"#, "eventName"), None);
    }

    #[test]
    fn arrays_in_the_middle_of_a_path_give_every_element() {
        let record = r#"{"r":{"items":[{"c":"10.0.0.0/8"},{"d":1},{"c":["x","y"]}]}}"#;
        assert_eq!(get(record, "r.items.c").unwrap(), r#"["10.0.0.0/8",["x","y"]]"#);
        assert_eq!(get(record, "r.items[0].c").unwrap(), "\"10.0.0.0/8\"");
        assert_eq!(get(record, "r.items[-1].c").unwrap(), r#"["x","y"]"#);
        assert_eq!(get(record, "r.items[9].c"), None);
        assert_eq!(get(r#"{"a[0]":1}"#, r"a\[0\]").unwrap(), "1");
    }

    #[test]
    fn objects_are_their_compact_text() {
        assert_eq!(get(r#"{"r": {"b": 1, "a": [ true ]}}"#, "r").unwrap(), r#""{\"b\":1,\"a\":[true]}""#);
    }

    #[test]
    fn large_integers_keep_their_digits() {
        assert_eq!(get(r#"{"n":18446744073709551615}"#, "n").unwrap(), "\"18446744073709551615\"");
    }

    #[test]
    fn keywords_see_strings_at_any_depth() {
        let record = Document::parse(r#"{"a":[{"b":"needle"}],"c":5}"#).unwrap();
        let view = RecordView::new(record.root(), Objects::Text);
        assert!(view.any_string_value(&|s| s == "needle"));
        assert!(!view.any_string_value(&|s| s == "5"));
        assert_eq!(view.all_string_values(), ["needle"]);
    }
}
