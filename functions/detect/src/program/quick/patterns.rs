//! What is costly to make of a rule's texts, made when the first record asks for it.
//!
//! In: patterns and lists of texts, in lower case. Out: their verdicts on texts.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;
use regex::Regex;
use rsigma_eval::CompiledMatcher;

use super::Text;

/// Several texts (in lower case), found by one automaton, made when it is first asked.
#[derive(Debug, Clone)]
pub(crate) struct Among {
    pub(super) values: Box<[Box<str>]>,
    /// `None` where there are too many for one.
    made: OnceLock<Option<AhoCorasick>>,
}

impl Among {
    pub(super) fn new(values: impl Iterator<Item = Box<str>>) -> Self {
        Self { values: values.collect(), made: OnceLock::new() }
    }

    pub(super) fn matches(&self, folded: &str) -> bool {
        match self.made.get_or_init(|| AhoCorasick::new(self.values.iter().map(|v| v.as_bytes())).ok()) {
            Some(automaton) => automaton.is_match(folded),
            None => self.values.iter().any(|value| folded.contains(&**value)),
        }
    }
}

/// A regular expression, made when it is first asked.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) text: Box<str>,
    /// `None` for one that cannot be made, which loading has refused.
    made: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        Self { text: text.into(), made: OnceLock::new() }
    }

    pub(super) fn made(regex: &Regex) -> Self {
        Self { text: regex.as_str().into(), made: OnceLock::from(Some(regex.clone())) }
    }

    fn get(&self) -> Option<&Regex> {
        self.made.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.get().is_some_and(|regex| regex.is_match(text))
    }

    pub(super) fn complete(&self) -> CompiledMatcher {
        self.get().map_or_else(|| CompiledMatcher::AnyOf(Vec::new()), |regex| CompiledMatcher::Regex(regex.clone()))
    }
}

/// Text with `*` in it, which rsigma compiles to a regular expression. Each of those would keep an automaton of its
/// own, built while it runs, which takes more memory and time than looking for the parts one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    pub(crate) start: Box<str>,
    pub(super) between: Box<[Finder<'static>]>,
    end: Box<str>,
    pub(super) pattern: Pattern,
}

impl Glob {
    /// `None` when the expression is something else.
    pub(super) fn of(whole: &Pattern) -> Option<Self> {
        // Letters of other alphabets may fold to ASCII ones.
        let pattern = Some(&*whole.text).filter(|p| p.is_ascii())?;
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
                Some(c).filter(|c| !".+*?()|[]{}^$\n".contains(*c))?
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
        Some(Self { start, between, end, pattern: whole.clone() })
    }

    pub(super) fn matches(&self, text: &Text<'_>) -> bool {
        let folded = text.folded();
        let inner = folded.strip_prefix(&*self.start).and_then(|rest| rest.strip_suffix(&*self.end));
        let Some(mut rest) = inner.map(str::as_bytes) else { return false };
        let found = self.between.iter().all(|part| {
            let found = part.find(rest);
            found.is_some_and(|at| {
                rest = &rest[at + part.needle().len()..];
                true
            })
        });
        // A `*` does not cross lines, and no part has an end of line in it.
        found && !folded.contains('\n')
    }
}
