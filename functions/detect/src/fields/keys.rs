//! Where fields stand in records: each object is read once, however many fields of it rules ask for.
//!
//! In: the paths of fields, and a record. Out: what stands under a path. The keys that rules ask for in one object have
//! places of their own; when the first field of that object is asked for, one walk over its members fills them.

use std::cell::{Cell, RefCell};

use sentinel_json::{Names, Value};

/// Longest path with places, in keys; longer ones are looked up key by key.
const MAX_STEPS: usize = 12;

/// The objects that rules look into.
#[derive(Debug)]
pub(super) struct Keys {
    branches: Vec<Branch>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { branches: vec![Branch::default()] }
    }
}

/// An object at one place in all records.
#[derive(Debug, Default)]
struct Branch {
    names: Names,
    /// For each name the branch of the object under it; 0 for none.
    below: Vec<usize>,
}

/// The way to a field: for each object its branch, the place of the next key, and the place of all that is left of
/// the path as one key with dots in it.
#[derive(Debug)]
pub(super) struct Route(Box<[Step]>);

#[derive(Debug)]
struct Step {
    branch: usize,
    place: usize,
    flat: Option<usize>,
}

impl Keys {
    /// How many branches there are.
    pub(super) fn len(&self) -> usize {
        self.branches.len()
    }

    /// The way to a field whose path is these keys, each with all that is left from there on if it is not the last.
    pub(super) fn route<'p>(
        &mut self,
        keys: impl ExactSizeIterator<Item = (&'p str, Option<&'p str>)>,
    ) -> Option<Route> {
        let count = keys.len();
        if count == 0 || count > MAX_STEPS {
            return None;
        }
        let (mut steps, mut branch) = (Vec::with_capacity(count), 0);
        for (at, (name, rest)) in keys.enumerate() {
            let place = self.branches[branch].place(name);
            let flat = rest.map(|rest| self.branches[branch].place(rest));
            steps.push(Step { branch, place, flat });
            if at + 1 < count {
                if self.branches[branch].below[place] == 0 {
                    self.branches[branch].below[place] = self.branches.len();
                    self.branches.push(Branch::default());
                }
                branch = self.branches[branch].below[place];
            }
        }
        Some(Route(steps.into()))
    }
}

impl Branch {
    fn place(&mut self, name: &str) -> usize {
        let place = self.names.add(name);
        self.below.resize(self.names.len(), 0);
        place
    }
}

/// The objects of one record that were read so far.
pub(super) struct Opened<'a> {
    /// For each branch where its places begin, plus one; 0 for an object that was not read.
    begins: &'a [Cell<u32>],
    /// Where the values of names stand; 0, where no member of anything does, for none.
    places: &'a RefCell<Vec<u32>>,
}

/// What a route leads to.
pub(super) enum End<'a> {
    Absent,
    One(Value<'a>),
    /// There is an array on the way.
    Array,
}

impl<'a> Opened<'a> {
    /// Nothing was read yet: `begins` are 0, as many as there are branches. `places` are memory.
    pub(super) fn new(begins: &'a [Cell<u32>], places: &'a RefCell<Vec<u32>>) -> Self {
        places.borrow_mut().clear();
        Self { begins, places }
    }

    pub(super) fn find(&self, keys: &Keys, route: &Route, record: Value<'a>) -> End<'a> {
        let mut place = record.place();
        for step in &route.0 {
            let begin = match self.begins[step.branch].get() {
                0 => {
                    let value = record.at(place);
                    if !value.is_object() {
                        return if value.is_array() { End::Array } else { End::Absent };
                    }
                    self.open(keys, step.branch, value)
                }
                begin => begin as usize - 1,
            };
            let places = self.places.borrow();
            if let Some(flat) = step.flat.map(|flat| places[begin + flat]).filter(|flat| *flat != 0) {
                return End::One(record.at(flat));
            }
            place = places[begin + step.place];
            if place == 0 {
                return End::Absent;
            }
        }
        End::One(record.at(place))
    }

    fn open(&self, keys: &Keys, branch: usize, value: Value<'a>) -> usize {
        let Branch { names, below } = &keys.branches[branch];
        let mut places = self.places.borrow_mut();
        let begin = places.len();
        places.resize(begin + below.len(), 0);
        let here = &mut places[begin..];
        for key in value.keys() {
            // Of several members of one name the first counts.
            if let Some(place) = names.find(key)
                && here[place] == 0
            {
                here[place] = key.place();
            }
        }
        self.begins[branch].set(u32::try_from(begin + 1).unwrap_or_default());
        begin
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_json::Document;

    use crate::{fields::Fields, view::Found};

    fn record() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["a", "b", "c", "a.b", "b.c", "a.b.c", ""]);
        let leaf = prop::sample::select(vec!["1", "\"x\"", "null", "[]", "{}"]).prop_map(str::to_owned);
        let object = |inner: BoxedStrategy<String>, key: BoxedStrategy<&'static str>| {
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", members.join(","))
            })
        };
        let key = key.boxed();
        let value = leaf.boxed().prop_recursive(3, 24, 4, {
            let key = key.clone();
            move |inner| {
                prop_oneof![
                    object(inner.clone().boxed(), key.clone()),
                    prop::collection::vec(inner, 0..3).prop_map(|all| format!("[{}]", all.join(","))),
                ]
            }
        });
        prop_oneof![9 => object(value.clone().boxed(), key), 1 => value.boxed()]
    }

    proptest! {
        /// What is found by its place is what is found key by key, asked in any order.
        #[test]
        fn places_hold_what_paths_find(
            text in record(),
            order in prop::collection::vec(0..PATHS.len(), 1..12),
        ) {
            let mut fields = Fields::default();
            let numbers: Vec<_> = PATHS.iter().map(|p| fields.number(p)).collect();
            let document = Document::parse(&text).unwrap();
            let record = document.root();
            let scratch = fields.scratch();
            let layout = fields.layout();
            // Another record of the shape, which brings some of what is known of it.
            let singles = text.replace("\"x\"", "2").replace("null", "\"y\"").replace(":1", ":null");
            let other = Document::parse(&singles).unwrap();
            for (record, layout) in [(record, None), (other.root(), Some(&layout)), (record, Some(&layout))] {
                let lookup = fields.of_shape(record, layout, &scratch);
                for at in &order {
                    let (mine, plain) = (lookup.find(numbers[*at]), crate::view::FieldPath::parse(PATHS[*at]).find(record));
                    let same = match (&mine, &plain) {
                        (Found::Absent, Found::Absent) => true,
                        (Found::One(a), Found::One(b)) => a == b,
                        (Found::Many(a), Found::Many(b)) => a == b,
                        _ => false,
                    };
                    prop_assert!(same, "{} in {}: {:?}, {:?}", PATHS[*at], text, mine, plain);
                    if layout.is_some() && matches!(plain, Found::One(_)) {
                        prop_assert!(!lookup.is_nowhere(numbers[*at]));
                    }
                }
            }
        }
    }

    const PATHS: [&str; 10] = ["a", "a.b", "a.b.c", "b", "b.c", "b.c.a.b", "a[0]", "a.b[0].c", "c", "a.a"];
}
