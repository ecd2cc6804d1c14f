//! Conditions in the words that nearly all rules use, read at a fraction of the cost of Sigma's whole grammar.
//!
//! In: a condition's text. Out: its expression as rsigma's parser makes it, or nothing where anything is unusual or wrong:
//! that parser then decides. Tests hold both to each other.

use rsigma_parser::{ConditionExpr, Quantifier, SelectorPattern};

/// Deepest nesting read here.
const MAX_DEPTH: usize = 16;
/// Longest text read here.
const MAX_BYTES: usize = 4_096;
/// Words that name nothing.
const RESERVED: [&str; 7] = ["and", "or", "not", "all", "any", "of", "them"];

/// Reads a condition.
pub(super) fn read(text: &str) -> Option<ConditionExpr> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut words = Words { rest: text };
    let read = either(&mut words, 0)?;
    words.next().is_none().then_some(read).filter(|_| words.rest.is_empty())
}

/// What is left of a condition.
#[derive(Clone, Copy)]
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The next word or parenthesis.
    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start_matches([' ', '\t', '\n']);
        let bytes = text.as_bytes();
        let length = match bytes.first() {
            Some(b'(' | b')') => 1,
            _ => bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'*')).count(),
        };
        let (word, rest) = text.split_at(length);
        self.rest = rest;
        (length > 0).then_some(word)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.next() == Some(wanted);
        if found {
            *self = ahead;
        }
        found
    }
}

fn either(words: &mut Words<'_>, depth: usize) -> Option<ConditionExpr> {
    let mut parts = vec![both(words, depth)?];
    while words.take("or") {
        parts.push(both(words, depth)?);
    }
    Some(joined(parts, false))
}

fn both(words: &mut Words<'_>, depth: usize) -> Option<ConditionExpr> {
    let mut parts = vec![one(words, depth)?];
    while words.take("and") {
        parts.push(one(words, depth)?);
    }
    Some(joined(parts, true))
}

/// Parts of the same kind are not nested.
fn joined(mut parts: Vec<ConditionExpr>, all: bool) -> ConditionExpr {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let flat = parts.into_iter().flat_map(|part| match part {
        ConditionExpr::And(inner) if all => inner,
        ConditionExpr::Or(inner) if !all => inner,
        other => vec![other],
    });
    if all { ConditionExpr::And(flat.collect()) } else { ConditionExpr::Or(flat.collect()) }
}

fn one(words: &mut Words<'_>, depth: usize) -> Option<ConditionExpr> {
    if depth > MAX_DEPTH {
        return None;
    }
    let word = words.next()?;
    let is_number = word.bytes().all(|b| b.is_ascii_digit());
    match word {
        "not" => one(words, depth + 1).map(|inner| ConditionExpr::Not(Box::new(inner))),
        "(" => {
            let inner = either(words, depth + 1)?;
            words.take(")").then_some(inner)
        }
        ")" => None,
        _ if is_number || matches!(word, "all" | "any") => {
            let quantifier = match word {
                "all" => Quantifier::All,
                "any" => Quantifier::Any,
                _ => match word.parse().ok()? {
                    1 => Quantifier::Any,
                    count => Quantifier::Count(count),
                },
            };
            if !words.take("of") {
                return None;
            }
            let pattern = match words.next()? {
                "them" => SelectorPattern::Them,
                other if is_name(&other.replace('*', "x")) && !other.starts_with("them") => {
                    SelectorPattern::Pattern(other.to_owned())
                }
                _ => return None,
            };
            Some(ConditionExpr::Selector { quantifier, pattern })
        }
        _ => is_name(word).then(|| ConditionExpr::Identifier(word.to_owned())),
    }
}

/// Whether a word can only be a selection's name. What begins with a digit may be a number and a word.
fn is_name(word: &str) -> bool {
    let first = word.as_bytes().first().copied().unwrap_or_default();
    (first.is_ascii_alphabetic() || first == b'_') && !word.contains('*') && !RESERVED.contains(&word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rsigma_parser::parse_condition;

    use super::*;

    #[test]
    fn usual_conditions_are_read_as_rsigma_reads_them() {
        for text in [
            "selection",
            "selection and not filter",
            "a or b and c or not d",
            "(a or b) and (c and d) and not (e or f)",
            "selection and not 1 of filter_*",
            "all of selection_* and not any of them",
            "2 of s* or all of *",
            " a\n  and\tnot  not b ",
            "not(a)and(b)",
            "a-b and c_d and and_e",
        ] {
            let read = read(text).unwrap_or_else(|| panic!("not read: {text}"));
            assert_eq!(read, parse_condition(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn the_rest_is_left_to_rsigma() {
        let deep = format!("{}a{}", "(".repeat(40), ")".repeat(40));
        for text in
            ["", "a b", "a and", "and a", "(a", "a)", "1 of", "of", "1of a", "all", "a*", "a | count() > 5", &deep]
        {
            assert!(read(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_the_same_or_not_at_all(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b_c", "and", "or", "not", "(", ")", "1", "2", "all", "any", "of", "them", "s_*", "*", "them*",
                    "of*", "1x", "-d", "all_of", "x*y",
                ]),
                1..9,
            ),
            between in prop::sample::select(vec![" ", "  ", "\n"]),
        ) {
            let text = words.join(between);
            if let Some(read) = read(&text) {
                prop_assert_eq!(Some(read), parse_condition(&text).ok(), "{}", text);
            }
        }
    }
}
