//! Where in a rule file a refusal belongs: line and field, found in the document's text.
//!
//! The parser says what is wrong and mostly not where, so the place is looked up afterwards. A line that
//! cannot be found is the document's first.

use rsigma_eval::compiler::compile_detection;
use rsigma_parser::{Detection, DetectionItem, FieldSpec, Modifier, SigmaRule, parser::parse_field_spec};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: u32,
    /// Field as the rule writes it, with its modifiers.
    pub(super) field: Option<String>,
}

/// Lines of a document with their numbers in the file.
fn lines(text: &str, first: u32) -> impl Iterator<Item = (u32, &str)> {
    (first..).zip(text.lines())
}

/// The key that a line sets, if it sets one.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let (key, _) = line.split_once(": ").or_else(|| Some((line.trim_end().strip_suffix(':')?, "")))?;
    Some(key.trim_matches(['"', '\'']))
}

/// The line that sets a key.
pub(super) fn key(text: &str, first: u32, name: &str) -> Place {
    let line = lines(text, first).find(|(_, line)| key_of(line) == Some(name)).map_or(first, |(n, _)| n);
    Place { line, field: Some(name.to_owned()) }
}

/// The line of a rule's title: where the rule is said to be. Documents that are parsed together share a text.
pub(super) fn title_line(text: &str, first: u32, title: &str) -> u32 {
    lines(text, first)
        .find(|(_, line)| {
            // Nearly always it follows at once, which is told without a search.
            let rest = line.strip_prefix("title:").map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(title) || rest.contains(title))
        })
        .map_or(first, |(number, _)| number)
}

/// The place that the parser's message speaks of.
pub(super) fn parse_error(text: &str, first: u32, message: &str) -> Place {
    if let Some(missing) = message.strip_prefix("Missing required field '").and_then(|m| m.strip_suffix('\'')) {
        return key(text, first, missing);
    }
    if message.starts_with("Condition") || message.contains("ondition") {
        return key(text, first, "condition");
    }
    if let Some(place) = yaml_position(message).and_then(|line| first.checked_add(line.saturating_sub(1))) {
        return Place { line: place, field: None };
    }
    // The field whose own specification does not parse, or any that the message quotes.
    let at_fault = lines(text, first).find_map(|(number, line)| {
        let key = key_of(line)?;
        let bad = key.contains('|') && parse_field_spec(key).is_err();
        bad.then(|| Place { line: number, field: Some(key.to_owned()) })
    });
    at_fault
        .or_else(|| modifier(text, first, message))
        .or_else(|| quoted(message).find_map(|name| known_key(text, first, name)))
        .unwrap_or(Place { line: first, field: None })
}

/// The field with the modifier that the message names, wherever on its line it stands.
fn modifier(text: &str, first: u32, message: &str) -> Option<Place> {
    let name = message.strip_prefix("Unknown modifier '")?.strip_suffix('\'')?;
    let wanted = format!("|{name}");
    lines(text, first).find_map(|(number, line)| {
        let at = line.find(&wanted)?;
        let outside = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | '"' | '\'' | ':');
        let from = line[..at].rfind(outside).map_or(0, |i| i + 1);
        let to = line[at..].find(outside).map_or(line.len(), |i| at + i);
        Some(Place { line: number, field: Some(line[from..to].to_owned()) })
    })
}

fn known_key(text: &str, first: u32, name: &str) -> Option<Place> {
    lines(text, first)
        .find(|(_, line)| key_of(line).is_some_and(|key| key == name || key.split('|').next() == Some(name)))
        .map(|(line, text)| Place { line, field: key_of(text).map(str::to_owned) })
}

/// Line of a YAML error, counted in the document.
fn yaml_position(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once(" at line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split(['\'', '`', '"']).skip(1).step_by(2).filter(|part| !part.is_empty())
}

/// The place of a detection item.
pub(super) fn item(text: &str, first: u32, item: &DetectionItem) -> Place {
    field(text, first, &item.field)
}

/// The place of a field with its modifiers. `|expand` may be gone from it, once its placeholders are filled.
pub(super) fn field(text: &str, first: u32, field: &FieldSpec) -> Place {
    let lasting =
        |spec: &FieldSpec| spec.modifiers.iter().copied().filter(|m| *m != Modifier::Expand).collect::<Vec<_>>();
    let wanted = lasting(field);
    let place = lines(text, first).find_map(|(number, line)| {
        let key = key_of(line)?;
        let spec = parse_field_spec(key).ok()?;
        let same = spec.name == field.name && lasting(&spec) == wanted;
        same.then(|| Place { line: number, field: Some(key.to_owned()) })
    });
    place.unwrap_or_else(|| Place { line: first, field: Some(field.name.clone().unwrap_or_default()) })
}

/// The first line from `from` on that holds a value; `from` where none does. `first` is the number of the text's
/// first line.
pub(super) fn value_line(text: &str, first: u32, from: u32, value: &str) -> u32 {
    lines(text, first).find(|(number, line)| *number >= from && line.contains(value)).map_or(from, |(number, _)| number)
}

/// The place that keeps a rule from being compiled: the first item that fails alone, else the condition.
pub(super) fn compile_error(text: &str, first: u32, rule: &SigmaRule) -> Place {
    let mut names: Vec<_> = rule.detection.named.keys().collect();
    names.sort_unstable();
    names
        .into_iter()
        .find_map(|name| failing(&rule.detection.named[name]))
        .map_or_else(|| key(text, first, "condition"), |found| item(text, first, found))
}

fn failing(detection: &Detection) -> Option<&DetectionItem> {
    match detection {
        Detection::AllOf(items) => {
            items.iter().find(|item| compile_detection(&Detection::AllOf(vec![(*item).clone()])).is_err())
        }
        Detection::AnyOf(parts) | Detection::And(parts) => parts.iter().find_map(failing),
        Detection::ArrayMatch { body, .. } => failing(body),
        Detection::Conditional { named, .. } => named.values().find_map(failing),
        Detection::Keywords(_) => None,
    }
}
