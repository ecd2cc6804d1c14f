//! Matchers over ASCII text, without allocating and without folding its case more than once.
//!
//! In: a field's values as a rule writes them, or one of rsigma's compiled matchers. Out: the same verdicts as rsigma
//! gives for ASCII text, for which folding ASCII case is all of Unicode's case folding. Rules' values are stored in
//! lower case as rsigma does. What is costly to make (regular expressions, and rsigma's own matcher for what is no ASCII
//! text) is made when the first record asks for it: loading rules must be cheap, and most are never asked.

use std::{borrow::Cow, cell::OnceCell, fmt::Write as _};

use memchr::memmem::Finder;
use rsigma_eval::{CompiledMatcher, EventValue, matcher::GroupMode};
use sentinel_model::fast_hash::FastSet;

mod patterns;
mod values;

use patterns::{Among, Glob, Pattern};
pub(crate) use values::pattern;

use crate::view::RecordView;

/// Values from which a list of exact ones is a set.
const MANY: usize = 8;
/// Values from which a list of contained ones is looked for in one go.
const SEVERAL: usize = 3;

/// ASCII text, and the same in lower case once somebody asked.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    plain: Cow<'a, str>,
    known: Option<&'a str>,
    folded: OnceCell<String>,
}

impl<'a> Text<'a> {
    /// Only ASCII text may be given to a [`Quick`].
    pub(crate) fn new(plain: Cow<'a, str>) -> Self {
        Self { plain, known: None, folded: OnceCell::new() }
    }

    /// The same of a text that is there in lower case, too.
    pub(crate) fn folded_as(plain: &'a str, folded: &'a str) -> Self {
        Self { plain: Cow::Borrowed(plain), known: Some(folded), folded: OnceCell::new() }
    }

    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.plain.is_ascii()
    }

    fn folded(&self) -> &str {
        match self.known {
            Some(folded) => folded,
            None => self.folded.get_or_init(|| self.plain.to_ascii_lowercase()),
        }
    }
}

/// A matcher over ASCII text.
#[derive(Debug, Clone)]
pub(crate) enum Quick {
    Exact(Box<str>),
    OneOf(FastSet<Box<str>>),
    Starts(Box<str>),
    Ends(Box<str>),
    Contains(Box<Finder<'static>>),
    /// Any of several contained texts.
    Among(Box<Among>),
    Glob(Box<Glob>),
    Regex(Box<Pattern>),
    Not(Box<Self>),
    Any(Box<[Self]>),
    All(Box<[Self]>),
    /// rsigma's own, over text that it wants in lower case or not.
    Other(Box<CompiledMatcher>),
}

impl Quick {
    /// Whether something is there.
    pub(crate) fn exists(there: bool) -> Self {
        Self::Other(Box::new(CompiledMatcher::Exists(there)))
    }

    fn regex(pattern: Pattern) -> Self {
        match Glob::of(&pattern) {
            Some(glob) => Self::Glob(Box::new(glob)),
            None => Self::Regex(Box::new(pattern)),
        }
    }

    /// rsigma's matcher with the same verdicts, which knows other things than ASCII text too.
    pub(crate) fn complete(&self) -> CompiledMatcher {
        let several = |parts: &[Self]| parts.iter().map(Self::complete).collect();
        let lower = |needle: &[u8]| String::from_utf8_lossy(needle).into_owned();
        let case_insensitive = true;
        match self {
            Self::Exact(value) => CompiledMatcher::Exact { value: value.to_string(), case_insensitive },
            Self::OneOf(values) => CompiledMatcher::AnyOf(
                values.iter().map(|v| CompiledMatcher::Exact { value: v.to_string(), case_insensitive }).collect(),
            ),
            Self::Starts(value) => CompiledMatcher::StartsWith { value: value.to_string(), case_insensitive },
            Self::Ends(value) => CompiledMatcher::EndsWith { value: value.to_string(), case_insensitive },
            Self::Contains(finder) => CompiledMatcher::Contains { value: lower(finder.needle()), case_insensitive },
            Self::Among(among) => CompiledMatcher::AnyOf(
                among
                    .values
                    .iter()
                    .map(|v| CompiledMatcher::Contains { value: v.to_string(), case_insensitive })
                    .collect(),
            ),
            Self::Glob(glob) => glob.pattern.complete(),
            Self::Regex(pattern) => pattern.complete(),
            Self::Not(inner) => CompiledMatcher::Not(Box::new(inner.complete())),
            Self::Any(parts) => CompiledMatcher::AnyOf(several(parts)),
            Self::All(parts) => CompiledMatcher::AllOf(several(parts)),
            Self::Other(matcher) => (**matcher).clone(),
        }
    }

    /// The verdict on a field that is absent or null.
    pub(crate) fn on_nothing(&self) -> bool {
        match self {
            Self::Not(inner) => !inner.on_nothing(),
            Self::Any(parts) => parts.iter().any(Self::on_nothing),
            Self::All(parts) => parts.iter().all(Self::on_nothing),
            Self::Other(matcher) => matches_nothing(matcher),
            _ => false,
        }
    }

    /// Writes a text that is the same for matchers that are the same, and for no others.
    pub(crate) fn describe(&self, text: &mut String) {
        // The length tells where a value ends. Every matcher of every rule is described, so nothing is formatted.
        let mut leaf = |kind: char, value: &str| {
            text.push(kind);
            text.extend(value.len().to_le_bytes().map(char::from));
            text.push_str(value);
        };
        let (kind, parts): (char, &[Self]) = match self {
            Self::Exact(value) => return leaf('=', value),
            Self::Starts(value) => return leaf('^', value),
            Self::Ends(value) => return leaf('$', value),
            Self::Contains(finder) => return leaf('~', &String::from_utf8_lossy(finder.needle())),
            Self::Among(among) => return among.values.iter().for_each(|value| leaf('%', value)),
            Self::Glob(glob) => return leaf('/', &glob.pattern.text),
            Self::Regex(pattern) => return leaf('/', &pattern.text),
            Self::OneOf(values) => {
                let mut sorted: Vec<&str> = values.iter().map(|v| &**v).collect();
                sorted.sort_unstable();
                return sorted.into_iter().for_each(|value| leaf('|', value));
            }
            Self::Other(matcher) => return describe(matcher, text),
            Self::Not(inner) => ('!', std::slice::from_ref(inner)),
            Self::Any(parts) => ('o', parts),
            Self::All(parts) => ('a', parts),
        };
        text.push(kind);
        text.push('(');
        for part in parts {
            part.describe(text);
        }
        text.push(')');
    }

    pub(crate) fn new(matcher: &CompiledMatcher) -> Self {
        match matcher {
            CompiledMatcher::Exact { value, case_insensitive: true } => Self::Exact(value.as_str().into()),
            CompiledMatcher::StartsWith { value, case_insensitive: true } => Self::Starts(value.as_str().into()),
            CompiledMatcher::EndsWith { value, case_insensitive: true } => Self::Ends(value.as_str().into()),
            CompiledMatcher::Contains { value, case_insensitive: true } => {
                Self::Contains(Box::new(Finder::new(value).into_owned()))
            }
            CompiledMatcher::Regex(regex) => Self::regex(Pattern::made(regex)),
            CompiledMatcher::Not(inner) => Self::Not(Box::new(Self::new(inner))),
            CompiledMatcher::AnyOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
                Self::any(parts.iter().map(Self::new).collect())
            }
            CompiledMatcher::AllOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
                Self::All(Self::sorted(parts.iter().map(Self::new).collect()))
            }
            other => Self::Other(Box::new(other.clone())),
        }
    }

    fn any(parts: Vec<Self>) -> Self {
        let (mut exact, mut contained, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Exact(value) => exact.push(value),
                Self::Contains(finder) => contained.push(finder),
                other => rest.push(other),
            }
        }
        if exact.len() < MANY {
            rest.extend(exact.into_iter().map(Self::Exact));
        } else {
            rest.push(Self::OneOf(exact.into_iter().collect()));
        }
        if contained.len() < SEVERAL {
            rest.extend(contained.into_iter().map(Self::Contains));
        } else {
            let values = contained.iter().map(|f| String::from_utf8_lossy(f.needle()).into());
            rest.push(Self::Among(Box::new(Among::new(values))));
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
            Self::Among(_) => 50,
            Self::Glob(glob) => 40 * (1 + u32::try_from(glob.between.len()).unwrap_or(u32::MAX / 100)),
            Self::Regex(_) | Self::Other(_) => 100,
            Self::Not(inner) => inner.cost(),
            Self::Any(parts) | Self::All(parts) => parts.iter().map(Self::cost).fold(0, u32::saturating_add),
        }
    }

    /// Whether nothing but the text decides: no other field of the record.
    pub(crate) fn is_of_text_alone(&self) -> bool {
        match self {
            Self::Not(inner) => inner.is_of_text_alone(),
            Self::Any(parts) | Self::All(parts) => parts.iter().all(Self::is_of_text_alone),
            Self::Other(matcher) => matches!(&**matcher, CompiledMatcher::AhoCorasickSet { .. }),
            _ => true,
        }
    }

    /// Whether it asks for text in lower case.
    pub(crate) fn folds(&self) -> bool {
        match self {
            Self::OneOf(_) | Self::Contains(_) | Self::Among(_) | Self::Glob(_) | Self::Other(_) => true,
            Self::Exact(_) | Self::Starts(_) | Self::Ends(_) | Self::Regex(_) => false,
            Self::Not(inner) => inner.folds(),
            Self::Any(parts) | Self::All(parts) => parts.iter().any(Self::folds),
        }
    }

    /// Whether the verdict is the same for a text in any case.
    pub(crate) fn ignores_case(&self) -> bool {
        match self {
            Self::Exact(_)
            | Self::OneOf(_)
            | Self::Starts(_)
            | Self::Ends(_)
            | Self::Contains(_)
            | Self::Among(_)
            | Self::Glob(_) => true,
            Self::Regex(pattern) => pattern.text.strip_prefix("(?i)").is_some_and(|body| !body.contains("(?")),
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
            Self::Among(among) => among.matches(text.folded()),
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(pattern) => pattern.is_match(&text.plain),
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

/// A text that is the same for matchers that are the same.
pub(crate) fn describe(matcher: &CompiledMatcher, text: &mut String) {
    let mut group = |name: &str, parts: &[CompiledMatcher]| {
        text.push_str(name);
        for part in parts {
            describe(part, text);
            text.push(',');
        }
        text.push(')');
    };
    // Writing to memory cannot fail.
    let _ = match matcher {
        CompiledMatcher::AnyOf(parts) => return group("any(", parts),
        CompiledMatcher::AllOf(parts) => return group("all(", parts),
        CompiledMatcher::CaseInsensitiveGroup { children, mode } => {
            return group(&format!("group {mode:?}("), children);
        }
        CompiledMatcher::Not(inner) => return group("not(", std::slice::from_ref(inner)),
        // Its own text would be that of the whole automaton.
        CompiledMatcher::AhoCorasickSet { needles, case_insensitive, .. } => {
            write!(text, "set {case_insensitive} {needles:?}")
        }
        other => write!(text, "{other:?}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Objects;
    use proptest::prelude::*;
    use regex::Regex;
    use sentinel_json::Value;

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
            assert_eq!(Glob::of(&Pattern::made(&regex)).is_some(), taken, "{pattern}");
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
            let glob = Glob::of(&Pattern::made(&regex)).unwrap();
            prop_assert_eq!(glob.matches(&Text::new(text.as_str().into())), regex.is_match(&text), "{:?} on {:?}", regex, text);
        }

        #[test]
        fn verdicts_are_those_of_rsigma(
            text in "[a-cA-C*.]{0,12}",
            values in prop::collection::vec(("[a-c.]{0,4}", 0..5_usize, any::<bool>()), 1..12),
            all in any::<bool>(),
        ) {
            let view = RecordView::new(Value::null(), Objects::Text);
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
                let complete = quick.complete().matches(&EventValue::Str(text.as_str().into()), &view);
                prop_assert_eq!(complete, plain, "{:?} on {:?}", matcher, text);
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
