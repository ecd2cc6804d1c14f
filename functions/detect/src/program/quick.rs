//! Matchers over ASCII text, without allocating and without folding its case more than once.
//!
//! In: one of rsigma's compiled matchers. Out: the same verdicts as rsigma gives for ASCII text, for which folding
//! ASCII case is all of Unicode's case folding. Rules' values are stored in lower case by rsigma.

use std::{borrow::Cow, cell::OnceCell, collections::HashSet};

use memchr::memmem::Finder;
use regex::Regex;
use rsigma_eval::{CompiledMatcher, EventValue, matcher::GroupMode};

use crate::view::RecordView;

/// Values from which a list of exact ones is a set.
const MANY: usize = 8;

/// ASCII text, and the same in lower case once somebody asked.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    plain: Cow<'a, str>,
    folded: OnceCell<String>,
}

impl<'a> Text<'a> {
    /// Only ASCII text may be given to a [`Quick`].
    pub(crate) fn new(plain: Cow<'a, str>) -> Self {
        Self { plain, folded: OnceCell::new() }
    }

    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.plain.is_ascii()
    }

    fn folded(&self) -> &str {
        self.folded.get_or_init(|| self.plain.to_ascii_lowercase())
    }
}

/// A matcher over ASCII text.
#[derive(Debug)]
pub(crate) enum Quick {
    Exact(Box<str>),
    OneOf(HashSet<Box<str>>),
    Starts(Box<str>),
    Ends(Box<str>),
    Contains(Box<Finder<'static>>),
    Glob(Box<Glob>),
    Regex(Box<Regex>),
    Not(Box<Self>),
    Any(Box<[Self]>),
    All(Box<[Self]>),
    /// rsigma's own, over text that it wants in lower case or not.
    Other(Box<CompiledMatcher>),
}

impl Quick {
    pub(crate) fn new(matcher: &CompiledMatcher) -> Self {
        match matcher {
            CompiledMatcher::Exact { value, case_insensitive: true } => Self::Exact(value.as_str().into()),
            CompiledMatcher::StartsWith { value, case_insensitive: true } => Self::Starts(value.as_str().into()),
            CompiledMatcher::EndsWith { value, case_insensitive: true } => Self::Ends(value.as_str().into()),
            CompiledMatcher::Contains { value, case_insensitive: true } => {
                Self::Contains(Box::new(Finder::new(value).into_owned()))
            }
            CompiledMatcher::Regex(regex) => match Glob::of(regex) {
                Some(glob) => Self::Glob(Box::new(glob)),
                None => Self::Regex(Box::new(regex.clone())),
            },
            CompiledMatcher::Not(inner) => Self::Not(Box::new(Self::new(inner))),
            CompiledMatcher::AnyOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => Self::any(parts),
            CompiledMatcher::AllOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
                Self::All(Self::sorted(parts.iter().map(Self::new).collect()))
            }
            other => Self::Other(Box::new(other.clone())),
        }
    }

    fn any(parts: &[CompiledMatcher]) -> Self {
        let (exact, mut rest): (Vec<_>, Vec<_>) =
            parts.iter().map(Self::new).partition(|p| matches!(p, Self::Exact(_)));
        if exact.len() < MANY {
            rest.extend(exact);
        } else {
            let values = exact.into_iter().filter_map(|p| if let Self::Exact(value) = p { Some(value) } else { None });
            rest.push(Self::OneOf(values.collect()));
        }
        if rest.len() == 1
            && let Some(only) = rest.pop()
        {
            return only;
        }
        Self::Any(Self::sorted(rest))
    }

    /// The order of parts does not change the verdict: what costs little comes first.
    fn sorted(mut parts: Vec<Self>) -> Box<[Self]> {
        parts.sort_by_key(Self::cost);
        parts.into()
    }

    /// What a verdict costs, in about nanoseconds for a text of usual length.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::Exact(_) | Self::Starts(_) | Self::Ends(_) => 2,
            Self::OneOf(_) | Self::Contains(_) => 30,
            Self::Glob(glob) => 40 * (1 + u32::try_from(glob.between.len()).unwrap_or(u32::MAX / 100)),
            Self::Regex(_) | Self::Other(_) => 100,
            Self::Not(inner) => inner.cost(),
            Self::Any(parts) | Self::All(parts) => parts.iter().map(Self::cost).fold(0, u32::saturating_add),
        }
    }

    /// Whether it asks for text in lower case.
    pub(crate) fn folds(&self) -> bool {
        match self {
            Self::OneOf(_) | Self::Contains(_) | Self::Glob(_) | Self::Other(_) => true,
            Self::Exact(_) | Self::Starts(_) | Self::Ends(_) | Self::Regex(_) => false,
            Self::Not(inner) => inner.folds(),
            Self::Any(parts) | Self::All(parts) => parts.iter().any(Self::folds),
        }
    }

    /// Whether the verdict is the same for a text in any case.
    pub(crate) fn ignores_case(&self) -> bool {
        match self {
            Self::Exact(_) | Self::OneOf(_) | Self::Starts(_) | Self::Ends(_) | Self::Contains(_) | Self::Glob(_) => {
                true
            }
            Self::Regex(regex) => regex.as_str().strip_prefix("(?i)").is_some_and(|body| !body.contains("(?")),
            Self::Not(inner) => inner.ignores_case(),
            Self::Any(parts) | Self::All(parts) => parts.iter().all(Self::ignores_case),
            Self::Other(matcher) => {
                matches!(&**matcher, CompiledMatcher::AhoCorasickSet { case_insensitive: true, .. })
            }
        }
    }

    /// Whether every text that starts with `prefix` (in lower case) matches.
    pub(crate) fn holds_from(&self, prefix: &str) -> bool {
        match self {
            Self::Starts(value) => prefix.starts_with(&**value),
            Self::Any(parts) => parts.iter().any(|p| p.holds_from(prefix)),
            Self::All(parts) => parts.iter().all(|p| p.holds_from(prefix)),
            _ => false,
        }
    }

    /// Whether a text matches.
    pub(crate) fn matches(&self, text: &Text<'_>, view: &RecordView<'_>) -> bool {
        let bytes = text.plain.as_bytes();
        match self {
            Self::Exact(value) => text.plain.eq_ignore_ascii_case(value),
            Self::OneOf(values) => values.contains(text.folded()),
            Self::Starts(value) => {
                bytes.get(..value.len()).is_some_and(|head| head.eq_ignore_ascii_case(value.as_bytes()))
            }
            Self::Ends(value) => {
                let at = bytes.len().checked_sub(value.len());
                at.is_some_and(|at| bytes[at..].eq_ignore_ascii_case(value.as_bytes()))
            }
            Self::Contains(finder) => {
                finder.needle().len() <= bytes.len() && finder.find(text.folded().as_bytes()).is_some()
            }
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.is_match(&text.plain),
            Self::Not(inner) => !inner.matches(text, view),
            Self::Any(parts) => parts.iter().any(|part| part.matches(text, view)),
            Self::All(parts) => parts.iter().all(|part| part.matches(text, view)),
            Self::Other(matcher) => match &**matcher {
                CompiledMatcher::AhoCorasickSet { automaton, case_insensitive: true, .. } => {
                    automaton.is_match(text.folded())
                }
                CompiledMatcher::AhoCorasickSet { automaton, .. } => automaton.is_match(text.plain()),
                other => other.matches(&EventValue::Str(text.plain().into()), view),
            },
        }
    }
}

/// Text with `*` in it, which rsigma compiles to a regular expression. Each of those would keep an automaton of its
/// own, built while it runs, which takes more memory and time than looking for the parts one after the other.
#[derive(Debug)]
pub(crate) struct Glob {
    start: Box<str>,
    between: Box<[Finder<'static>]>,
    end: Box<str>,
    /// Decides on texts of several lines, which `*` does not cross.
    regex: Regex,
}

impl Glob {
    /// `None` when the expression is something else.
    fn of(regex: &Regex) -> Option<Self> {
        // Letters of other alphabets may fold to ASCII ones.
        let pattern = Some(regex.as_str()).filter(|p| p.is_ascii())?;
        let mut rest = pattern.strip_prefix("(?i)^")?.strip_suffix('$')?;
        let mut parts = vec![String::new()];
        while let Some(c) = rest.chars().next() {
            let literal = if let Some(after) = rest.strip_prefix(".*") {
                rest = after;
                parts.push(String::new());
                continue;
            } else if c == '\\' {
                rest = &rest[1..];
                // Escaped letters and digits mean something else than themselves.
                rest.chars().next().filter(|c| c.is_ascii_punctuation() && !matches!(c, '<' | '>'))?
            } else {
                Some(c).filter(|c| !".+*?()|[]{}^$".contains(*c))?
            };
            parts.last_mut()?.push(literal);
            rest = &rest[1..];
        }
        if parts.len() < 2 {
            return None;
        }
        let mut parts: Vec<_> = parts.iter().map(|p| p.to_ascii_lowercase()).collect();
        let (end, start) = (parts.pop()?.into(), parts.remove(0).into());
        let between = parts.iter().filter(|p| !p.is_empty()).map(|p| Finder::new(p).into_owned()).collect();
        Some(Self { start, between, end, regex: regex.clone() })
    }

    fn matches(&self, text: &Text<'_>) -> bool {
        let folded = text.folded();
        if folded.contains('\n') {
            return self.regex.is_match(text.plain());
        }
        let inner = folded.strip_prefix(&*self.start).and_then(|rest| rest.strip_suffix(&*self.end));
        let Some(mut rest) = inner.map(str::as_bytes) else { return false };
        self.between.iter().all(|part| {
            let found = part.find(rest);
            found.is_some_and(|at| {
                rest = &rest[at + part.needle().len()..];
                true
            })
        })
    }
}

/// Whether a matcher holds for a field that is absent or null.
pub(crate) fn matches_nothing(matcher: &CompiledMatcher) -> bool {
    match matcher {
        CompiledMatcher::Null => true,
        CompiledMatcher::Exists(there) => !there,
        CompiledMatcher::Not(inner) => !matches_nothing(inner),
        CompiledMatcher::AnyOf(parts) => parts.iter().any(matches_nothing),
        CompiledMatcher::AllOf(parts) => parts.iter().all(matches_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Objects;
    use proptest::prelude::*;
    use sonic_rs::Value;

    #[test]
    fn only_plain_wildcards_are_taken_apart() {
        for (pattern, taken) in [
            ("(?i)^Delete.*$", true),
            (r"(?i)^arn:aws:iam::.*:role/a\-b.*\.c$", true),
            ("(?i)^.*$", true),
            ("(?i)^Delete$", false),
            ("^Delete.*$", false),
            ("(?i)^ſ.*$", false),
            ("(?i)^a.b.*$", false),
            ("(?i)^a+.*$", false),
            ("(?i)^a*.*$", false),
            ("(?i)^.*?a$", false),
            (r"(?i)^\d.*$", false),
            (r"(?i)^.*\", false),
            (r"(?i)^a.*\$", false),
            (r"(?i)^a|b.*$", false),
        ] {
            let Ok(regex) = Regex::new(pattern) else { continue };
            assert_eq!(Glob::of(&regex).is_some(), taken, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn wildcards_are_those_of_the_regular_expression(
            text in "[abAB.\n]{0,10}",
            parts in prop::collection::vec("[ab.]{0,2}", 2..5),
        ) {
            let pattern: Vec<_> = parts.iter().map(|p| regex::escape(p)).collect();
            let regex = Regex::new(&format!("(?i)^{}$", pattern.join(".*"))).unwrap();
            let glob = Glob::of(&regex).unwrap();
            prop_assert_eq!(glob.matches(&Text::new(text.as_str().into())), regex.is_match(&text), "{:?} on {:?}", regex, text);
        }

        #[test]
        fn verdicts_are_those_of_rsigma(
            text in "[a-cA-C*.]{0,12}",
            values in prop::collection::vec(("[a-c.]{0,4}", 0..5_usize, any::<bool>()), 1..12),
            all in any::<bool>(),
        ) {
            let record: Value = sonic_rs::from_str("{}").unwrap();
            let view = RecordView::new(&record, Objects::Text);
            let make: [fn(String, bool) -> CompiledMatcher; 5] = [
                |value, case_insensitive| CompiledMatcher::Exact { value, case_insensitive },
                |value, case_insensitive| CompiledMatcher::StartsWith { value, case_insensitive },
                |value, case_insensitive| CompiledMatcher::EndsWith { value, case_insensitive },
                |value, case_insensitive| CompiledMatcher::Contains { value, case_insensitive },
                |value, fold| CompiledMatcher::Regex(Regex::new(&format!("{}^{value}b*$", if fold { "(?i)" } else { "" })).unwrap()),
            ];
            let parts: Vec<_> = values.into_iter().map(|(value, kind, fold)| make[kind](value, fold)).collect();
            let negated = CompiledMatcher::Not(Box::new(parts[0].clone()));
            let whole = if all { CompiledMatcher::AllOf(parts.clone()) } else { CompiledMatcher::AnyOf(parts.clone()) };
            for matcher in parts.into_iter().chain([negated, whole]) {
                let plain = matcher.matches(&EventValue::Str(text.as_str().into()), &view);
                let quick = Quick::new(&matcher);
                prop_assert_eq!(quick.matches(&Text::new(text.as_str().into()), &view), plain, "{:?} on {:?}", matcher, text);
                if quick.ignores_case() {
                    let other = text.to_ascii_lowercase();
                    prop_assert_eq!(quick.matches(&Text::new(other.as_str().into()), &view), plain, "{:?} on {:?}", matcher, other);
                }
                if quick.holds_from(&text.to_ascii_lowercase()) {
                    let longer = format!("{text}Xb");
                    prop_assert!(quick.matches(&Text::new(longer.as_str().into()), &view), "{:?} on {:?}", matcher, longer);
                }
            }
        }
    }
}
