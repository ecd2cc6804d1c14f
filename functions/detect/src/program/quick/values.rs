//! A field's values as a rule writes them, made to matchers without rsigma.
//!
//! In: a field with its modifiers and values. Out: the matcher that rsigma would make, or nothing where that is left to
//! rsigma, which may refuse them.

use memchr::memmem::Finder;
use rsigma_eval::CompiledMatcher;
use rsigma_parser::{
    DetectionItem, Modifier, SigmaString, SigmaValue,
    value::{SpecialChar, StringPart},
};

use super::{Pattern, Quick};

/// How texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Exact,
    Contains,
    Starts,
    Ends,
    Regex,
    Cidr,
}

/// The modifiers of a field that are understood here.
#[derive(Debug, Clone, Copy)]
struct Modifiers {
    way: Way,
    all: bool,
    cased: bool,
    neq: bool,
    /// Flags of a regular expression: `i`, `m`, `s`.
    flags: [bool; 3],
}

impl Modifiers {
    /// `None` for modifiers, or combinations, that are left to rsigma: it may refuse them.
    fn of(modifiers: &[Modifier]) -> Option<Self> {
        let mut all = Self { way: Way::Exact, all: false, cased: false, neq: false, flags: [false; 3] };
        for modifier in modifiers {
            let way = match modifier {
                Modifier::Contains => Way::Contains,
                Modifier::StartsWith => Way::Starts,
                Modifier::EndsWith => Way::Ends,
                Modifier::Re => Way::Regex,
                Modifier::Cidr => Way::Cidr,
                other => {
                    let flag = match other {
                        Modifier::All => &mut all.all,
                        Modifier::Cased => &mut all.cased,
                        Modifier::Neq => &mut all.neq,
                        Modifier::IgnoreCase => &mut all.flags[0],
                        Modifier::Multiline => &mut all.flags[1],
                        Modifier::DotAll => &mut all.flags[2],
                        _ => return None,
                    };
                    *flag = true;
                    continue;
                }
            };
            if all.way != Way::Exact {
                return None;
            }
            all.way = way;
        }
        let fits = match all.way {
            Way::Regex => !all.cased,
            Way::Cidr => !all.cased && all.flags == [false; 3],
            _ => all.flags == [false; 3],
        };
        fits.then_some(all)
    }

    /// One value; `None` for what is left to rsigma.
    fn value(self, value: &SigmaValue) -> Option<Quick> {
        let other = |matcher| Some(Quick::Other(Box::new(matcher)));
        match (value, self.way) {
            (SigmaValue::String(text), _) if text.original.contains('$') && text.original.contains("${source.") => None,
            (SigmaValue::String(text), Way::Regex) => {
                Some(Quick::Regex(Box::new(Pattern::new(pattern(&plain_text(text), self.flags)))))
            }
            (SigmaValue::String(text), Way::Cidr) => other(CompiledMatcher::Cidr(plain_text(text).parse().ok()?)),
            (SigmaValue::String(text), _) => match text.as_plain() {
                Some(plain) => Some(self.text(&plain)),
                None => Some(self.wildcards(&text.parts)),
            },
            #[allow(clippy::cast_precision_loss)] // As rsigma compares numbers.
            (SigmaValue::Integer(number), Way::Exact) => other(CompiledMatcher::NumericEq(*number as f64)),
            (SigmaValue::Integer(number), Way::Contains | Way::Starts | Way::Ends) => {
                Some(self.text(&number.to_string()))
            }
            (SigmaValue::Bool(flag), Way::Exact) => other(CompiledMatcher::BoolEq(*flag)),
            (SigmaValue::Null, Way::Exact) => other(CompiledMatcher::Null),
            _ => None,
        }
    }

    /// What several values say together.
    fn joined(self, mut parts: Vec<Quick>) -> Quick {
        let combined = match parts.len() {
            1 => parts.remove(0),
            _ if self.all => Quick::All(Quick::sorted(parts)),
            _ => Quick::any(parts),
        };
        if self.neq { Quick::Not(Box::new(combined)) } else { combined }
    }

    fn text(self, plain: &str) -> Quick {
        if !self.cased {
            let value = if plain.is_ascii() { plain.to_ascii_lowercase() } else { plain.to_lowercase() };
            return match self.way {
                Way::Contains => Quick::Contains(Box::new(Finder::new(&value).into_owned())),
                Way::Starts => Quick::Starts(value.into()),
                Way::Ends => Quick::Ends(value.into()),
                Way::Exact | Way::Regex | Way::Cidr => Quick::Exact(value.into()),
            };
        }
        let (value, case_insensitive) = (plain.to_owned(), false);
        let matcher = match self.way {
            Way::Contains => CompiledMatcher::Contains { value, case_insensitive },
            Way::Starts => CompiledMatcher::StartsWith { value, case_insensitive },
            Way::Ends => CompiledMatcher::EndsWith { value, case_insensitive },
            Way::Exact | Way::Regex | Way::Cidr => CompiledMatcher::Exact { value, case_insensitive },
        };
        Quick::new(&matcher)
    }

    /// A text with wildcards, as the regular expression that rsigma makes of it.
    fn wildcards(self, parts: &[StringPart]) -> Quick {
        let mut pattern = String::from(if self.cased { "" } else { "(?i)" });
        if !matches!(self.way, Way::Contains | Way::Starts) {
            pattern.push('^');
        }
        for part in parts {
            match part {
                StringPart::Plain(text) => pattern.push_str(&regex::escape(text)),
                StringPart::Special(SpecialChar::WildcardMulti) => pattern.push_str(".*"),
                StringPart::Special(SpecialChar::WildcardSingle) => pattern.push('.'),
            }
        }
        if !matches!(self.way, Way::Contains | Way::Ends) {
            pattern.push('$');
        }
        Quick::regex(Pattern::new(pattern))
    }
}

/// A value's text without its wildcards' meaning, as regular expressions and networks are written.
fn plain_text(text: &SigmaString) -> String {
    text.as_plain().unwrap_or_else(|| text.original.clone())
}

/// A regular expression with its flags written into it, as rsigma does.
pub(crate) fn pattern(text: &str, flags: [bool; 3]) -> String {
    if flags == [false; 3] {
        return text.to_owned();
    }
    let letters: String = "ims".chars().zip(flags).filter(|(_, on)| *on).map(|(letter, _)| letter).collect();
    format!("(?{letters}){text}")
}

impl Quick {
    /// The matcher that rsigma would make of a field's values; `None` where that is left to rsigma, which may refuse
    /// them. Regular expressions are not checked here.
    pub(crate) fn of(item: &DetectionItem) -> Option<Self> {
        let modifiers = Modifiers::of(&item.field.modifiers)?;
        if modifiers.all && item.values.len() <= 1 {
            return None;
        }
        Some(modifiers.joined(item.values.iter().map(|v| modifiers.value(v)).collect::<Option<_>>()?))
    }

    /// The same for texts without wildcards. `None` for what other values could be meant by, too.
    pub(crate) fn of_texts(modifiers: &[Modifier], texts: &[&str]) -> Option<Self> {
        let modifiers = Modifiers::of(modifiers)?;
        if matches!(modifiers.way, Way::Regex | Way::Cidr) || (modifiers.all && texts.len() <= 1) {
            return None;
        }
        Some(modifiers.joined(texts.iter().map(|text| modifiers.text(text)).collect()))
    }
}
