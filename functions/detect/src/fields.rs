//! What rules ask of a record, asked once per record however many rules ask.
//!
//! In: field names as rules write them and matchers, each under a number of its own, and a record. Out: what stands
//! in the record under a field's number, and the verdicts of matchers. Cheap matchers are asked anew each time, since
//! remembering would cost as much; all others are asked once.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    fmt::Write as _,
};

use memchr::memmem::Finder;
use rsigma_eval::{CompiledMatcher, EventValue, matcher::GroupMode};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};

use crate::{
    program::quick::{Quick, Text, matches_nothing},
    view::{BETWEEN_TEXTS, FieldPath, Found, Objects, RecordView, event_value, json_text, lower_texts},
};

/// Fields whose values are remembered while one record is looked at. More than the rules of one event ask for.
const REMEMBERED: usize = 32;
/// Texts that are kept in lower case while one record is looked at.
const TEXTS: usize = 8;
/// Costs, in nanoseconds, beyond which a verdict is remembered.
const CHEAP: u32 = 8;

/// The fields and matchers of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    paths: Vec<FieldPath>,
    numbers: HashMap<String, usize>,
    tests: Vec<Test>,
    keywords: Vec<Keyword>,
    known: HashMap<String, usize>,
    /// How many verdicts are remembered.
    verdicts: usize,
}

/// What a field's value must be.
#[derive(Debug)]
struct Test {
    field: usize,
    matcher: CompiledMatcher,
    quick: Quick,
    /// Whether it wants the text in lower case.
    folds: bool,
    /// The verdict on a field that is absent or null.
    nothing: bool,
    /// Where its verdict is remembered, if it is.
    verdict: Option<usize>,
}

/// What some text of the record must be.
#[derive(Debug)]
struct Keyword {
    matcher: CompiledMatcher,
    /// Where the matcher says no more than that one of these (in lower case) is contained.
    contained: Option<Vec<Finder<'static>>>,
    verdict: usize,
}

impl Fields {
    /// A field's number.
    pub(crate) fn number(&mut self, path: &str) -> usize {
        if let Some(known) = self.numbers.get(path) {
            return *known;
        }
        self.paths.push(FieldPath::parse(path));
        self.numbers.insert(path.to_owned(), self.paths.len() - 1);
        self.paths.len() - 1
    }

    /// The number of a matcher on a field.
    pub(crate) fn test(&mut self, path: &str, matcher: &CompiledMatcher) -> usize {
        let (field, quick) = (self.number(path), Quick::new(matcher));
        let remembered = quick.cost() > CHEAP;
        let mut key = String::new();
        if remembered {
            key = format!("{field} ");
            describe(matcher, &mut key);
            if let Some(known) = self.known.get(&key) {
                return *known;
            }
        }
        let number = self.tests.len();
        let verdict = remembered.then(|| self.verdict());
        self.tests.push(Test {
            field,
            matcher: matcher.clone(),
            folds: quick.folds(),
            quick,
            nothing: matches_nothing(matcher),
            verdict,
        });
        if remembered {
            self.known.insert(key, number);
        }
        number
    }

    /// The number of a matcher on any text.
    pub(crate) fn keyword(&mut self, matcher: &CompiledMatcher) -> usize {
        let mut key = String::from("any ");
        describe(matcher, &mut key);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let mut needles = Vec::new();
        let contained = contained(matcher, &mut needles);
        let contained = contained.then(|| needles.iter().map(|n| Finder::new(n).into_owned()).collect());
        let verdict = self.verdict();
        self.keywords.push(Keyword { matcher: matcher.clone(), contained, verdict });
        self.known.insert(key, self.keywords.len() - 1);
        self.keywords.len() - 1
    }

    fn verdict(&mut self) -> usize {
        self.verdicts += 1;
        self.verdicts - 1
    }

    /// What a test costs, in about nanoseconds.
    pub(crate) fn cost(&self, test: usize) -> u32 {
        self.tests[test].quick.cost().saturating_add(1)
    }

    /// A record to look fields up in.
    pub(crate) fn of<'a>(&'a self, record: &'a Value) -> Lookup<'a> {
        Lookup {
            record,
            fields: self,
            members: members(record),
            known: [const { Cell::new(Known { field: usize::MAX, value: None, kind: Kind::Nothing }) }; REMEMBERED],
            texts: OnceCell::new(),
            verdicts: OnceCell::new(),
            words: OnceCell::new(),
        }
    }
}

/// A text that is the same for matchers that are the same.
fn describe(matcher: &CompiledMatcher, text: &mut String) {
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

/// Whether a matcher on any text says only that one of some texts is contained, which are then collected.
fn contained(matcher: &CompiledMatcher, needles: &mut Vec<String>) -> bool {
    match matcher {
        CompiledMatcher::Contains { value, case_insensitive: true } => {
            needles.push(value.clone());
            !value.is_empty() && !value.contains(BETWEEN_TEXTS)
        }
        CompiledMatcher::AhoCorasickSet { needles: several, case_insensitive: true, .. } => {
            needles.extend(several.iter().cloned());
            several.iter().all(|n| !n.is_empty() && !n.contains(BETWEEN_TEXTS))
        }
        CompiledMatcher::AnyOf(parts)
        | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
            parts.iter().all(|p| contained(p, needles))
        }
        _ => false,
    }
}

/// A record, with the fields that were looked up in it so far and the verdicts on them.
pub(crate) struct Lookup<'a> {
    pub(crate) record: &'a Value,
    fields: &'a Fields,
    /// The record's own members: reading them out of the record each time would cost more.
    members: Vec<(&'a str, &'a Value)>,
    /// By the last bits of a field's number.
    known: [Cell<Known<'a>>; REMEMBERED],
    texts: OnceCell<Box<Texts<'a>>>,
    verdicts: OnceCell<Box<[Cell<Option<bool>>]>>,
    words: OnceCell<String>,
}

/// Texts under the numbers of their fields.
type Texts<'a> = [OnceCell<(usize, Text<'a>)>; TEXTS];

/// What was found in a field.
#[derive(Clone, Copy)]
struct Known<'a> {
    field: usize,
    value: Option<&'a Value>,
    kind: Kind<'a>,
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    /// Not there, or null.
    Nothing,
    /// ASCII text.
    Text(&'a str),
    Other,
    /// Several values. Rare, so they are looked up again.
    Many,
}

impl<'a> Kind<'a> {
    fn of(value: &'a Value) -> Self {
        match value.as_str() {
            Some(text) if text.is_ascii() => Self::Text(text),
            None if value.is_null() => Self::Nothing,
            _ => Self::Other,
        }
    }
}

impl<'a> Lookup<'a> {
    /// The record's own member of that name: the first, where there are several. `None` for what is no object.
    pub(crate) fn member(&self, name: &str) -> Option<&'a Value> {
        self.members.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// What stands in the record under a field's number.
    pub(crate) fn find(&self, field: usize) -> Found<'a> {
        match self.known(field) {
            Known { kind: Kind::Many, .. } => self.fields.paths[field].find_in(&self.members, self.record),
            Known { value: Some(value), .. } => Found::One(value),
            Known { value: None, .. } => Found::Absent,
        }
    }

    /// Whether something other than null stands there.
    pub(crate) fn is_there(&self, field: usize) -> bool {
        !matches!(self.known(field).kind, Kind::Nothing)
    }

    fn known(&self, field: usize) -> Known<'a> {
        let slot = &self.known[field % REMEMBERED];
        let known = slot.get();
        if known.field == field {
            return known;
        }
        let (value, kind) = match self.fields.paths[field].find_in(&self.members, self.record) {
            Found::Absent => (None, Kind::Nothing),
            Found::One(value) => (Some(value), Kind::of(value)),
            Found::Many(_) => (None, Kind::Many),
        };
        let known = Known { field, value, kind };
        slot.set(known);
        known
    }

    /// The verdict of a matcher on a field.
    pub(crate) fn test(&self, number: usize) -> bool {
        let test = &self.fields.tests[number];
        match test.verdict {
            Some(verdict) => self.once(verdict, || self.ask(test)),
            None => self.ask(test),
        }
    }

    /// The verdict of a matcher on any text.
    pub(crate) fn keyword(&self, number: usize) -> bool {
        let keyword = &self.fields.keywords[number];
        self.once(keyword.verdict, || match &keyword.contained {
            Some(needles) => {
                let words = self.words.get_or_init(|| lower_texts(self.record)).as_bytes();
                needles.iter().any(|n| n.find(words).is_some())
            }
            None => keyword.matcher.matches_keyword(&self.view()),
        })
    }

    fn once(&self, verdict: usize, ask: impl FnOnce() -> bool) -> bool {
        let verdicts = self.verdicts.get_or_init(|| vec![Cell::new(None); self.fields.verdicts].into());
        verdicts[verdict].get().unwrap_or_else(|| {
            let now = ask();
            verdicts[verdict].set(Some(now));
            now
        })
    }

    fn view(&self) -> RecordView<'a> {
        RecordView::new(self.record, Objects::Text)
    }

    fn ask(&self, test: &Test) -> bool {
        let known = self.known(test.field);
        match (known.kind, known.value) {
            (Kind::Nothing, _) => test.nothing,
            (Kind::Text(found), _) if !test.folds => test.quick.matches(&Text::new(found.into()), &self.view()),
            (Kind::Text(found), _) => self.with_text(test, || Text::new(found.into())),
            (_, Some(value)) if value.is_object() => self.with_text(test, || Text::new(json_text(value).into())),
            (_, Some(value)) => test.matcher.matches(&event_value(value, Objects::Text), &self.view()),
            (_, None) => {
                let Found::Many(values) = self.find(test.field) else { return test.nothing };
                let all = values.into_iter().map(|v| event_value(v, Objects::Text)).collect();
                test.matcher.matches(&EventValue::Array(all), &self.view())
            }
        }
    }

    /// Asks about a text that is made, and put in lower case, once for all tests of a field.
    fn with_text(&self, test: &Test, make: impl Fn() -> Text<'a>) -> bool {
        let texts = self.texts.get_or_init(|| Box::new(std::array::from_fn(|_| OnceCell::new())));
        let ask = |text: &Text<'_>| {
            if text.is_ascii() {
                return test.quick.matches(text, &self.view());
            }
            test.matcher.matches(&EventValue::Str(text.plain().into()), &self.view())
        };
        for slot in texts.iter() {
            let (field, ready) = slot.get_or_init(|| (test.field, make()));
            if *field == test.field {
                return ask(ready);
            }
        }
        ask(&make())
    }
}

fn members(record: &Value) -> Vec<(&str, &Value)> {
    let Some(object) = record.as_object() else { return Vec::new() };
    let mut members = Vec::with_capacity(object.len());
    members.extend(object);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_remembered_or_not() {
        let mut fields = Fields::default();
        let numbers: Vec<_> = (0..REMEMBERED + 10).map(|n| fields.number(&format!("f{n}.x"))).collect();
        assert_eq!(fields.number("f0.x"), numbers[0], "a field has one number");
        let last = REMEMBERED + 9;
        let text = format!(r#"{{"f0":{{"x":1}},"f1":[{{"x":2}},{{"x":3}}],"f{last}":{{"x":4}}}}"#);
        let record = sonic_rs::from_str(&text).unwrap();
        let lookup = fields.of(&record);
        for _ in 0..2 {
            assert!(matches!(lookup.find(numbers[0]), Found::One(_)));
            assert!(matches!(lookup.find(numbers[1]), Found::Many(all) if all.len() == 2));
            assert!(matches!(lookup.find(numbers[2]), Found::Absent));
            assert!(matches!(lookup.find(numbers[last]), Found::One(_)));
            assert!(matches!(lookup.find(numbers[last - 1]), Found::Absent));
        }
    }

    fn contains(value: &str) -> CompiledMatcher {
        CompiledMatcher::Contains { value: value.into(), case_insensitive: true }
    }

    #[test]
    fn more_texts_than_are_kept_are_asked_about_all_the_same() {
        let mut fields = Fields::default();
        let tests: Vec<_> =
            (0..TEXTS + 3).map(|n| fields.test(&format!("f{n}"), &contains(&format!("x{n}y")))).collect();
        let members: Vec<_> = (0..TEXTS + 3).map(|n| format!(r#""f{n}":{{"k":"aX{n}Yb"}}"#)).collect();
        let record = sonic_rs::from_str(&format!("{{{}}}", members.join(","))).unwrap();
        let lookup = fields.of(&record);
        assert!(tests.iter().chain(&tests).all(|t| lookup.test(*t)));
        let other = sonic_rs::from_str("{}").unwrap();
        let lookup = fields.of(&other);
        assert!(!tests.iter().any(|t| lookup.test(*t)));
    }

    #[test]
    fn equal_matchers_have_one_number() {
        let mut fields = Fields::default();
        let first = fields.test("a", &contains("x"));
        assert_eq!(fields.test("a", &contains("x")), first);
        assert_ne!(fields.test("b", &contains("x")), first);
        assert_ne!(fields.test("a", &contains("y")), first);
        assert_eq!(fields.keyword(&contains("x")), fields.keyword(&contains("x")));
    }

    #[test]
    fn keywords_are_found_in_one_text_not_across_two() {
        let mut fields = Fields::default();
        let any = CompiledMatcher::AnyOf(vec![contains("nothing"), contains("äöz")]);
        let (ab, any) = (fields.keyword(&contains("ab")), fields.keyword(&any));
        for (record, hits) in [
            (r#"{"x":["ca","b"],"ab":1}"#, [false, false]),
            (r#"{"x":["c",{"y":"cABd"}]}"#, [true, false]),
            (r#"{"x":"_ÄÖZ_"}"#, [false, true]),
        ] {
            let record = sonic_rs::from_str(record).unwrap();
            let lookup = fields.of(&record);
            assert_eq!([lookup.keyword(ab), lookup.keyword(any)], hits);
            assert_eq!([lookup.keyword(ab), lookup.keyword(any)], hits, "asked again");
        }
    }
}
