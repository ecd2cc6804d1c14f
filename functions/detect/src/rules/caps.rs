//! The caps that rule files are held to before anything is parsed or compiled: rules may come from anybody.
//!
//! In: a file's text, or a parsed rule. Out: why it is refused, if it is.

use regex::RegexBuilder;
use regex_syntax::{
    hir::{Class, ClassUnicodeRange, Hir, HirKind, Repetition},
    utf8::Utf8Sequences,
};
use rsigma_parser::{Detection, DetectionItem, Modifier, SigmaRule, SigmaValue};

use crate::program::quick::pattern;

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
/// States below which an expression surely stays below [`MAX_REGEX_BYTES`]: each takes some tens of bytes.
const MAX_STATES: usize = 8 * 1024;
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

/// Counts what may be an alias: a star before a name, where a YAML value can begin. It may count too many (in quotes and
/// folded texts), never too few.
fn count_aliases(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_alias = |at: &usize| {
        let before = at.checked_sub(1).map_or(b'\n', |before| bytes[before]);
        let starts = matches!(before, b'\n' | b' ' | b'\t' | b'[' | b'{' | b',' | b':' | b'-');
        let next = bytes.get(at + 1);
        starts && next.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-') || *b >= 0x80)
    };
    memchr::memchr_iter(b'*', bytes).filter(is_alias).count()
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
    let flags = [Modifier::IgnoreCase, Modifier::Multiline, Modifier::DotAll].map(|m| item.field.has_modifier(m));
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
        if is_regex {
            check_regex(&pattern(&text.original, flags)).map_err(|reason| (item, reason))?;
        }
    }
    Ok(())
}

/// Refuses an expression that is none, or that is too large. Building it would cost a hundred times as much as reading
/// it, so that is done only where what was read may be large.
fn check_regex(pattern: &str) -> Result<(), String> {
    if regex_syntax::parse(pattern).is_ok_and(|hir| states(&hir) <= MAX_STATES) {
        return Ok(());
    }
    match RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("invalid regex pattern: {error}")),
    }
}

/// A bound on the states that an expression is built of.
fn states(hir: &Hir) -> usize {
    let sum = |parts: &[Hir]| parts.iter().map(states).fold(0, usize::saturating_add);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => {
            let bytes = |range: &ClassUnicodeRange| {
                Utf8Sequences::new(range.start(), range.end()).map(|s| s.len()).fold(0, usize::saturating_add)
            };
            class.ranges().iter().map(bytes).fold(1, usize::saturating_add)
        }
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let times = max.unwrap_or(*min).max(*min).saturating_add(1);
            states(sub).saturating_add(1).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Capture(capture) => states(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) => sum(parts),
        HirKind::Alternation(parts) => sum(parts).saturating_add(parts.len()),
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
    fn expressions_that_may_be_large_are_measured() {
        let states = |pattern: &str| states(&regex_syntax::parse(pattern).unwrap());
        for small in ["^arn:aws:iam::\\d{12}:root$", "(?i)abc", "^[a-z]+$", "a{3}", "[^{}]*\\s\\w+"] {
            assert!(states(small) <= MAX_STATES && check_regex(small).is_ok(), "{small}");
        }
        for large in ["((a{100}){100}){100}", "\\w{1000}", "\\pL{30,}", "((a{200}){200})"] {
            assert!(states(large) > MAX_STATES, "{large}");
        }
        assert!(check_regex("((a{100}){100}){100}").unwrap_err().contains("size"));
        assert!(check_regex("(").unwrap_err().starts_with("invalid regex pattern"));
    }

    /// What is not measured fits, the widest of it too.
    #[test]
    fn expressions_that_are_not_measured_fit() {
        for (unit, count) in
            [("\\w", 4), ("\\pL", 5), ("a", MAX_PATTERN_BYTES), ("(?i)k", 800), ("[^a]", 300), ("(a|b)?", 600)]
        {
            let mut most = 1;
            while most < count && states(&regex_syntax::parse(&unit.repeat(most + 1)).unwrap()) <= MAX_STATES {
                most += 1;
            }
            let widest = unit.repeat(most);
            let built = RegexBuilder::new(&widest).size_limit(MAX_REGEX_BYTES).build();
            assert!(built.is_ok(), "{most} times {unit}: {built:?}");
        }
        let times = (1..).take_while(|n| states(&regex_syntax::parse(&format!("\\d{{{n}}}")).unwrap()) <= MAX_STATES);
        let widest = format!("\\d{{{}}}", times.last().unwrap());
        assert!(RegexBuilder::new(&widest).size_limit(MAX_REGEX_BYTES).build().is_ok(), "{widest}");
    }
}
