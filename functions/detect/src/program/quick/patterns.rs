//! What is costly to make of a rule's texts, made when the first record asks for it.
//!
//! In: patterns and lists of texts, in lower case. Out: their verdicts on texts.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;
use regex::{Regex, bytes};
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
    ascii: OnceLock<Ascii>,
    /// `None` for one that cannot be made, which loading has refused.
    whole: OnceLock<Option<Regex>>,
}

/// An expression for ASCII text. Without the letters of other alphabets its automata are a tenth as large.
#[derive(Debug, Clone)]
enum Ascii {
    Bytes(bytes::Regex),
    /// Nothing but the whole one will do: it names letters of other alphabets, or classes of them.
    Whole,
}

impl Ascii {
    fn new(text: &str) -> Self {
        // Letters of other alphabets may be written so, too, and some of them are the same as ASCII ones in other case.
        let names_others = !text.is_ascii() || ["\\u", "\\U", "\\x{"].iter().any(|begins| text.contains(begins));
        let made = (!names_others).then(|| bytes::RegexBuilder::new(text).unicode(false).build());
        made.and_then(Result::ok).map_or(Self::Whole, Self::Bytes)
    }
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        Self { text: text.into(), ascii: OnceLock::new(), whole: OnceLock::new() }
    }

    pub(super) fn made(regex: &Regex) -> Self {
        Self { whole: OnceLock::from(Some(regex.clone())), ..Self::new(regex.as_str().to_owned()) }
    }

    fn whole(&self) -> Option<&Regex> {
        self.whole.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }

    /// The verdict on ASCII text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        match self.ascii.get_or_init(|| Ascii::new(&self.text)) {
            Ascii::Bytes(regex) => regex.is_match(text.as_bytes()),
            Ascii::Whole => self.whole().is_some_and(|regex| regex.is_match(text)),
        }
    }

    pub(super) fn complete(&self) -> CompiledMatcher {
        self.whole().map_or_else(|| CompiledMatcher::AnyOf(Vec::new()), |regex| CompiledMatcher::Regex(regex.clone()))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions_say_of_ascii_text_what_they_say_with_all_letters() {
        let patterns = [
            r"(?i)k\b.*\s[^a-c]\d+$",
            r"^\w+\W\S?\D*$",
            r"(?s)a.b|\x41\u0042",
            r"\p{Lu}x",
            r"[\p{Greek}a]",
            "ä|b",
            r"(?-i:s)(?i)K",
            r"[^\x00-\x7F]",
            r"\xE9|e",
            r"(?u)\w",
            r"\Bx\B",
            r"(?m)^x$",
            r"(?x) a b # c",
            r"(?i)\u017F",
            r"(?i)\U0000017F",
            r"(?i)\x{212A}",
        ];
        let texts = [
            "", "k b4", "K\tz99", "a\nb", "AB", "Ax", "a", "b", "sK", "e", "_x_", "x", "a\nx\nb", "ab", "\u{b}",
            "word! x", "-x-", "s k",
        ];
        let mut without = 0;
        for text in patterns {
            let (pattern, whole) = (Pattern::new(text.to_owned()), Regex::new(text).unwrap());
            for ascii in texts {
                assert_eq!(pattern.is_match(ascii), whole.is_match(ascii), "{text} {ascii:?}");
            }
            without += usize::from(matches!(pattern.ascii.get(), Some(Ascii::Bytes(_))));
        }
        assert!(without >= 9, "{without}");
    }

    proptest! {
        #[test]
        fn expressions_of_one_text_say_the_same(
            pattern in r"(\(\?i\))?[ab.\\wdsb^$|()*+?\[\]-]{1,8}",
            texts in prop::collection::vec("[abAB1_ \n-]{0,6}", 1..8),
        ) {
            let Ok(whole) = Regex::new(&pattern) else { return Ok(()) };
            let ours = Pattern::new(pattern);
            for text in texts {
                prop_assert_eq!(ours.is_match(&text), whole.is_match(&text), "{} {:?}", ours.text, text);
            }
        }
    }
}
