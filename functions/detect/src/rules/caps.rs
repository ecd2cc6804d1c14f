//! The caps that rule files are held to before anything is parsed or compiled: rules may come from anybody.
//!
//! In: a file's text, or a parsed rule. Out: why it is refused, if it is.

use regex::RegexBuilder;
use rsigma_parser::{Detection, DetectionItem, Modifier, SigmaRule, SigmaValue};

/// Largest rule file in bytes; the largest public pack in one file stays below a third of it.
pub(crate) const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Largest file that uses YAML aliases, and most aliases in it: together they bound what aliases of aliases
/// can unfold to at some tens of megabytes.
const MAX_ALIASED_BYTES: usize = 64 * 1024;
const MAX_ALIASES: usize = 16;
/// Longest regular expression, or value with wildcards, in bytes.
const MAX_PATTERN_BYTES: usize = 4_096;
/// Largest compiled regular expression in bytes.
const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// Patterns in one rule.
const MAX_PATTERNS: usize = 1_000;

/// Why a text is not even parsed.
pub(super) fn too_hostile(text: &str) -> Option<String> {
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

/// Holds a rule's patterns to the caps; an error names the item at fault.
pub(super) fn check_patterns(rule: &SigmaRule) -> Result<(), (&DetectionItem, String)> {
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
        if is_regex && may_be_large(&text.original) {
            check_regex(&text.original).map_err(|reason| (item, reason))?;
        }
    }
    Ok(())
}

/// Whether an expression is worth building once more, only to see how large it gets. It grows with its classes (one of
/// Unicode's is some tens of kilobytes) and with every repetition that is written in numbers.
fn may_be_large(pattern: &str) -> bool {
    let classes = pattern.bytes().filter(|b| matches!(b, b'\\' | b'[' | b'.')).count().max(1);
    let times = pattern.split('{').skip(1).fold(1_usize, |product, rest| {
        let numbers = rest.split('}').next().unwrap_or_default().split(',');
        product.saturating_mul(numbers.filter_map(|n| n.trim().parse().ok()).max().unwrap_or(1).max(1))
    });
    let letters = pattern.len().saturating_mul(times);
    classes.saturating_mul(times) > 12 || letters > 16 * 1024
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

    #[test]
    fn values_with_wildcards_are_no_aliases() {
        assert_eq!(count_aliases("a: 'x*y'\nb: \"*z\"\nc|contains: '*'\n# *** stars ***"), 0);
        assert_eq!(count_aliases("a: *x\nb: [*y, *z]"), 3);
    }

    #[test]
    fn only_small_expressions_are_not_measured() {
        for small in ["^arn:aws:iam::\\d{12}:root$", "(?i)abc", "^[a-z]+$", "a{3}"] {
            assert!(!may_be_large(small) && check_regex(small).is_ok(), "{small}");
        }
        for large in ["((a{100}){100}){100}", "\\w{1000}", "(\\w{5}){5}", "\\pL{30,}", "((a{200}){200})"] {
            assert!(may_be_large(large), "{large}");
        }
        // What is not measured fits: the widest class as often as it goes unseen.
        assert!(check_regex(&"\\w".repeat(12)).is_ok() && !may_be_large(&"\\w".repeat(12)));
    }
}
