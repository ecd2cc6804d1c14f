//! What rules ask of a record, asked once per record however many rules ask.
//!
//! In: field names as rules write them and matchers, each under a number of its own, and a record. Out: what stands
//! in the record under a field's number, and the verdicts of matchers. Cheap matchers are asked anew each time, since
//! remembering would cost as much; all others are asked once. Whoever looks at many records also remembers what costly
//! ones said of a text from record to record ([`heard`]), and where fields stand in records of one shape ([`layout`]).

use std::{
    cell::{Cell, OnceCell, RefCell},
    sync::OnceLock,
};

use memchr::memmem::Finder;
use rsigma_eval::{CompiledMatcher, EventValue, matcher::GroupMode};
use sentinel_json::Value;
use sentinel_model::fast_hash::FastMap;

use crate::{
    program::quick::{Quick, Text, describe},
    view::{BETWEEN_TEXTS, FieldPath, Found, Objects, RecordView, event_value, lower_texts},
};

mod few;
mod heard;
mod keys;
mod layout;

pub(crate) use few::{By, Lists, Sorts, Wanted};
use heard::Heard;
use keys::{End, Keys, Opened, Route};
pub(crate) use layout::Layout;

/// The number of `eventName`.
pub(crate) const EVENT_NAME: usize = 0;
/// The number of `eventSource`.
pub(crate) const EVENT_SOURCE: usize = 1;
/// Fields that are remembered while one record is looked at; most are asked for fewer.
const REMEMBERED: usize = 32;
/// Texts that are kept in lower case while one record is looked at.
const TEXTS: usize = 12;
/// Bytes of the longest text whose lower case is kept: its memory serves other records, too.
const LONGEST: usize = 8 * 1024;
/// Costs, in nanoseconds, beyond which a verdict is remembered.
pub(crate) const CHEAP: u32 = 8;
/// Costs, in nanoseconds, from which a verdict on a text is remembered for the records that follow.
const COSTLY: u32 = 50;

/// Whether a field is one of the two that a record is found by.
fn is_name(field: usize) -> bool {
    matches!(field, EVENT_NAME | EVENT_SOURCE)
}

/// The fields and matchers of a rule set.
#[derive(Debug)]
pub(crate) struct Fields {
    paths: Vec<(FieldPath, Option<Route>)>,
    keys: Keys,
    numbers: FastMap<String, usize>,
    tests: Vec<Test>,
    /// rsigma's own of each test, for values that are no ASCII text. Made when the first comes along.
    complete: Vec<OnceLock<CompiledMatcher>>,
    keywords: Vec<Keyword>,
    known: FastMap<String, usize>,
    /// How many verdicts are remembered.
    verdicts: usize,
}

impl Default for Fields {
    fn default() -> Self {
        let mut fields = Self {
            paths: Vec::new(),
            keys: Keys::default(),
            numbers: FastMap::default(),
            tests: Vec::new(),
            complete: Vec::new(),
            keywords: Vec::new(),
            known: FastMap::default(),
            verdicts: 0,
        };
        // The dispatch asks for the first two in every record.
        for path in ["eventName", "eventSource"].iter().chain(&few::FIELDS) {
            fields.number(path);
        }
        fields
    }
}

/// What a field's value must be.
#[derive(Debug)]
struct Test {
    field: usize,
    quick: Quick,
    /// Where its verdict is remembered, if it is.
    verdict: Option<u32>,
    /// Whether its verdicts on texts are remembered from record to record.
    heard: bool,
    /// Whether it wants the text in lower case.
    folds: bool,
    /// The verdict on a field that is absent or null.
    nothing: bool,
}

/// What some text of the record must be.
#[derive(Debug)]
struct Keyword {
    matcher: CompiledMatcher,
    /// Where the matcher says no more than that one of these (in lower case) is contained.
    contained: Option<Vec<Finder<'static>>>,
    verdict: u32,
}

impl Fields {
    /// A field's number.
    pub(crate) fn number(&mut self, path: &str) -> usize {
        if let Some(known) = self.numbers.get(path) {
            return *known;
        }
        let parsed = FieldPath::parse(path);
        let route = parsed.keys().and_then(|keys| self.keys.route(keys.into_iter()));
        self.paths.push((parsed, route));
        self.numbers.insert(path.to_owned(), self.paths.len() - 1);
        self.paths.len() - 1
    }

    /// The number of a matcher on a field: the same for the same.
    pub(crate) fn test(&mut self, path: &str, quick: &Quick) -> usize {
        let field = self.number(path);
        let mut key = String::with_capacity(64);
        key.extend(field.to_le_bytes().map(char::from));
        quick.describe(&mut key);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let number = self.tests.len();
        let verdict = (quick.cost() > CHEAP).then(|| self.verdict());
        let heard = quick.cost() >= COSTLY && quick.is_of_text_alone();
        let (folds, nothing) = (quick.folds(), quick.on_nothing());
        self.tests.push(Test { field, folds, nothing, quick: quick.clone(), verdict, heard });
        self.complete.push(OnceLock::new());
        self.known.insert(key, number);
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

    /// A place for a verdict to be remembered.
    pub(crate) fn verdict(&mut self) -> u32 {
        self.verdicts += 1;
        u32::try_from(self.verdicts - 1).unwrap_or(u32::MAX)
    }

    /// What a test costs, in about nanoseconds for a usual record: most calls succeed, so what asks for an error is
    /// decided before anything is compared.
    pub(crate) fn cost(&self, test: usize) -> u32 {
        let test = &self.tests[test];
        if !test.nothing
            && [self.numbers.get("errorCode"), self.numbers.get("errorMessage")].contains(&Some(&test.field))
        {
            return 2;
        }
        test.quick.cost().saturating_add(1)
    }

    /// Memory for looking fields up, once the set is complete.
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch {
            places: vec![Cell::new(0); self.paths.len()].into(),
            verdicts: vec![Cell::new(0); self.verdicts].into(),
            known: Box::new([const { Cell::new(Known::NOTHING) }; REMEMBERED]),
            folded: Box::new([const { RefCell::new(String::new()) }; REMEMBERED]),
            are_folded: Cell::new(0),
            begins: vec![Cell::new(0); self.keys.len()].into(),
            found: RefCell::default(),
            heard: Heard::default(),
            sorted: Heard::default(),
        }
    }

    /// Where fields stand in records of one shape: none is known yet.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.paths.len())
    }

    /// A record to look fields up in, one at a time with the same memory.
    pub(crate) fn of<'a>(&'a self, record: Value<'a>, scratch: &'a Scratch) -> Lookup<'a> {
        self.of_shape(record, None, scratch)
    }

    /// The same for a record of a shape: what is found out of it is remembered in `layout`.
    pub(crate) fn of_shape<'a>(
        &'a self,
        record: Value<'a>,
        layout: Option<&'a Layout>,
        scratch: &'a Scratch,
    ) -> Lookup<'a> {
        scratch.clear();
        Lookup {
            record,
            layout,
            fields: self,
            opened: Opened::new(&scratch.begins, &scratch.found),
            scratch,
            count: Cell::new(0),
            texts: OnceCell::new(),
            words: OnceCell::new(),
        }
    }
}

/// What is remembered of one record, in memory that serves the next one too.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// For each field its place in `known` plus one; 0 for one that was not looked up.
    places: Box<[Cell<u8>]>,
    known: Box<[Cell<Known>; REMEMBERED]>,
    /// Texts of what is known in lower case, and, one bit each, which of them are this record's.
    folded: Box<[RefCell<String>; REMEMBERED]>,
    are_folded: Cell<u32>,
    /// 0 where nothing was decided, 1 for no, 2 for yes.
    verdicts: Box<[Cell<u8>]>,
    begins: Box<[Cell<u32>]>,
    found: RefCell<Vec<u32>>,
    heard: Heard<bool>,
    /// What lists of matchers say of a text.
    sorted: Heard<u64>,
}

impl Scratch {
    /// The same, remembering verdicts on texts too: worth its memory where many records are looked at.
    pub(crate) fn remembering(self) -> Self {
        Self { heard: Heard::remembering(), sorted: Heard::remembering(), ..self }
    }

    /// Forgets what lists of matchers said: their numbers come to be others'.
    pub(crate) fn forget_lists(&self) {
        self.sorted.forget();
    }

    fn clear(&self) {
        self.are_folded.set(0);
        self.places.iter().chain(&self.verdicts).for_each(|cell| cell.set(0));
        self.begins.iter().for_each(|cell| cell.set(0));
    }
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
    pub(crate) record: Value<'a>,
    layout: Option<&'a Layout>,
    fields: &'a Fields,
    opened: Opened<'a>,
    scratch: &'a Scratch,
    /// How many are known.
    count: Cell<u8>,
    texts: OnceCell<Box<Texts<'a>>>,
    words: OnceCell<String>,
}

/// Texts that were made of objects or are long, with their fields' places in [`Scratch::known`].
type Texts<'a> = [OnceCell<(usize, Text<'a>)>; TEXTS];

/// What was found in a field: where its value stands in the record, 0 for none.
#[derive(Debug, Clone, Copy)]
struct Known {
    place: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not there, or null.
    Nothing,
    /// ASCII text.
    Text,
    Other,
    /// Several values. Rare, so they are looked up again.
    Many,
}

impl Known {
    const NOTHING: Self = Self { place: 0, kind: Kind::Nothing };

    fn of(value: Value<'_>) -> Self {
        let kind = match value.as_str() {
            Some(text) if text.is_ascii() => Kind::Text,
            None if value.is_null() => Kind::Nothing,
            _ => Kind::Other,
        };
        Self { place: value.place(), kind }
    }

    fn value(self, record: Value<'_>) -> Option<Value<'_>> {
        (self.place != 0).then(|| record.at(self.place))
    }
}

impl<'a> Lookup<'a> {
    /// The ASCII text under a field's number, or that there is nothing or null; `None` for anything else.
    #[allow(clippy::option_option, reason = "that there is none is not that it cannot be told")]
    pub(crate) fn plain(&self, field: usize) -> Option<Option<&'a str>> {
        let known = self.known(field).1;
        match known.kind {
            Kind::Nothing => Some(None),
            Kind::Text => Some(self.record.at(known.place).as_str()),
            Kind::Other | Kind::Many => None,
        }
    }

    /// What stands in the record under a field's number.
    pub(crate) fn find(&self, field: usize) -> Found<'a> {
        let known = self.known(field).1;
        match known.value(self.record) {
            Some(value) => Found::One(value),
            None if known.kind == Kind::Many => self.fields.paths[field].0.find(self.record),
            None => Found::Absent,
        }
    }

    /// Whether something other than null stands there.
    pub(crate) fn is_there(&self, field: usize) -> bool {
        self.known(field).1.kind != Kind::Nothing
    }

    /// What was found in a field, and its place among all that was; [`REMEMBERED`] for what is not remembered.
    #[inline]
    fn known(&self, field: usize) -> (usize, Known) {
        match usize::from(self.scratch.places[field].get())
            .checked_sub(1)
            .and_then(|place| Some((place, self.scratch.known.get(place)?)))
        {
            Some((place, known)) => (place, known.get()),
            None => self.look_up(field),
        }
    }

    #[inline(never)]
    fn look_up(&self, field: usize) -> (usize, Known) {
        let end = match self.layout.and_then(|layout| layout.get(field, self.record)) {
            Some(end) => end,
            None => self.search(field),
        };
        let known = match end {
            End::Absent => Known::NOTHING,
            End::One(value) => Known::of(value),
            End::Array => match self.fields.paths[field].0.find(self.record) {
                Found::Absent => Known::NOTHING,
                Found::One(value) => Known::of(value),
                Found::Many(_) => Known { place: 0, kind: Kind::Many },
            },
        };
        let place = usize::from(self.count.get());
        if let Some(slot) = self.scratch.known.get(place) {
            slot.set(known);
            self.count.set(self.count.get() + 1);
            self.scratch.places[field].set(self.count.get());
        }
        (place, known)
    }

    #[inline(never)]
    fn search(&self, field: usize) -> End<'a> {
        let route = self.fields.paths[field].1.as_ref();
        let end = route.map_or(End::Array, |route| self.opened.find(&self.fields.keys, route, self.record));
        if let Some(layout) = self.layout {
            layout.set(field, &end);
        }
        end
    }

    /// Whether no record of this shape has the field; `false` where that is not known.
    pub(crate) fn is_nowhere(&self, field: usize) -> bool {
        self.layout.is_some_and(|layout| {
            let known = layout.get(field, self.record);
            matches!(known.unwrap_or_else(|| self.search(field)), End::Absent)
        })
    }

    /// The verdict of a matcher on a field, where the fields that a record is found by, its shape, or its sorts by some
    /// fields decide it.
    pub(crate) fn decided(&self, number: u32, lists: &Lists, by: By) -> Option<bool> {
        let test = &self.fields.tests[number as usize];
        // Another field may have a say.
        let by_name = is_name(test.field) && test.quick.is_of_text_alone();
        if by_name || self.is_sorted(test.field, Some(number), lists, by) {
            return Some(self.test(number as usize));
        }
        self.is_nowhere(test.field).then_some(test.nothing)
    }

    /// The same of whether a field is there.
    pub(crate) fn is_there_for_all(&self, field: usize, lists: &Lists, by: By) -> Option<bool> {
        if is_name(field) || self.is_sorted(field, None, lists, by) {
            return Some(self.is_there(field));
        }
        self.is_nowhere(field).then_some(false)
    }

    /// The verdict of a matcher on a field.
    pub(crate) fn test(&self, number: usize) -> bool {
        let test = &self.fields.tests[number];
        match test.verdict {
            Some(verdict) => self.once(verdict, || self.ask(number, test)),
            None => self.ask(number, test),
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

    /// A verdict that is asked for once.
    pub(crate) fn once(&self, verdict: u32, ask: impl FnOnce() -> bool) -> bool {
        let slot = &self.scratch.verdicts[verdict as usize];
        match slot.get() {
            0 => {
                let now = ask();
                slot.set(1 + u8::from(now));
                now
            }
            decided => decided == 2,
        }
    }

    fn view(&self) -> RecordView<'a> {
        RecordView::new(self.record, Objects::Text)
    }

    fn ask(&self, number: usize, test: &Test) -> bool {
        let (place, known) = self.known(test.field);
        match known.kind {
            Kind::Nothing => test.nothing,
            Kind::Text => {
                let found = self.record.at(known.place).as_str().unwrap_or_default();
                if test.heard {
                    return self.scratch.heard.once(number, found, || self.ask_text(place, found, test));
                }
                self.ask_text(place, found, test)
            }
            Kind::Other | Kind::Many => self.ask_other(number, test, place, known.value(self.record)),
        }
    }

    /// Asks about what is no ASCII text.
    #[cold]
    fn ask_other(&self, number: usize, test: &Test, place: usize, value: Option<Value<'a>>) -> bool {
        let complete = || self.fields.complete[number].get_or_init(|| test.quick.complete());
        let put_to = |make: &dyn Fn() -> Text<'a>| {
            self.with_text(place, make, |text| {
                if text.is_ascii() {
                    return test.quick.matches(text, &self.view());
                }
                complete().matches(&EventValue::Str(text.plain().into()), &self.view())
            })
        };
        match value {
            Some(value) if value.is_object() => put_to(&|| Text::new(value.compact().into())),
            Some(value) => complete().matches(&event_value(value, Objects::Text), &self.view()),
            None => {
                let Found::Many(values) = self.find(test.field) else { return test.nothing };
                let all = values.into_iter().map(|v| event_value(v, Objects::Text)).collect();
                complete().matches(&EventValue::Array(all), &self.view())
            }
        }
    }

    /// Asks about a text, which is put in lower case once for all tests of a field that want it so.
    fn ask_text(&self, place: usize, found: &'a str, test: &Test) -> bool {
        let ask = |text: &Text<'_>| test.quick.matches(text, &self.view());
        if !test.folds {
            return ask(&Text::new(found.into()));
        }
        let Some(folded) = self.scratch.folded.get(place).filter(|_| found.len() <= LONGEST) else {
            return self.with_text(place, &|| Text::new(found.into()), ask);
        };
        let done = 1 << place;
        if self.scratch.are_folded.get() & done == 0 {
            let mut folded = folded.borrow_mut();
            folded.clear();
            folded.push_str(found);
            folded.make_ascii_lowercase();
            self.scratch.are_folded.set(self.scratch.are_folded.get() | done);
        }
        ask(&Text::folded_as(found, &folded.borrow()))
    }

    /// Asks about a text that is made, and put in lower case, once for all tests of a field.
    fn with_text(&self, place: usize, make: &dyn Fn() -> Text<'a>, ask: impl FnOnce(&Text<'a>) -> bool) -> bool {
        let texts = self.texts.get_or_init(|| Box::new(std::array::from_fn(|_| OnceCell::new())));
        let slots = if place < REMEMBERED { texts.as_slice() } else { &[] };
        for slot in slots {
            let (of, text) = slot.get_or_init(|| (place, make()));
            if *of == place {
                return ask(text);
            }
        }
        ask(&make())
    }
}

#[cfg(test)]
mod tests {
    use sentinel_json::Document;

    use super::*;

    #[test]
    fn fields_are_found_remembered_or_not() {
        let mut fields = Fields::default();
        let numbers: Vec<_> = (0..60).map(|n| fields.number(&format!("f{n}.x"))).collect();
        assert_eq!(fields.number("f0.x"), numbers[0], "a field has one number");
        let last = 59;
        let text = format!(r#"{{"f0":{{"x":1}},"f1":[{{"x":2}},{{"x":3}}],"f{last}":{{"x":4}}}}"#);
        let record = Document::parse(&text).unwrap();
        let scratch = fields.scratch();
        let lookup = fields.of(record.root(), &scratch);
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

    fn quick(value: &str) -> Quick {
        Quick::new(&contains(value))
    }

    #[test]
    fn more_texts_than_are_kept_are_asked_about_all_the_same() {
        let mut fields = Fields::default();
        let tests: Vec<_> = (0..TEXTS + 3).map(|n| fields.test(&format!("f{n}"), &quick(&format!("x{n}y")))).collect();
        let members: Vec<_> = (0..TEXTS + 3).map(|n| format!(r#""f{n}":{{"k":"aX{n}Yb"}}"#)).collect();
        let text = format!("{{{}}}", members.join(","));
        let record = Document::parse(&text).unwrap();
        let scratch = fields.scratch();
        let lookup = fields.of(record.root(), &scratch);
        assert!(tests.iter().chain(&tests).all(|t| lookup.test(*t)));
        let other = Document::parse("{}").unwrap();
        let lookup = fields.of(other.root(), &scratch);
        assert!(!tests.iter().any(|t| lookup.test(*t)));
    }

    #[test]
    fn equal_matchers_have_one_number() {
        let mut fields = Fields::default();
        let first = fields.test("a", &quick("x"));
        assert_eq!(fields.test("a", &quick("x")), first);
        assert_ne!(fields.test("b", &quick("x")), first);
        assert_ne!(fields.test("a", &quick("y")), first);
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
            let record = Document::parse(record).unwrap();
            let scratch = fields.scratch();
            let lookup = fields.of(record.root(), &scratch);
            assert_eq!([lookup.keyword(ab), lookup.keyword(any)], hits);
            assert_eq!([lookup.keyword(ab), lookup.keyword(any)], hits, "asked again");
        }
    }
}
