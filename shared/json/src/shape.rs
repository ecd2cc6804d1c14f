//! What is known of documents by where their values stand.
//!
//! In: keys, arrays and objects in the order in which a walk meets them. Out: a number that documents share only if their
//! keys are the same and their values stand at the same places, whatever they are; nearly all of those do. Logs hold the same few hundred shapes
//! again and again: where something stands in one of them is found once ([`Shapes`]).
//!
//! The number is made with secrets of the process: nobody who writes a document can make it pass for one of another shape.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    sync::LazyLock,
};

use crate::{
    likeness::{Short, WORD, fold},
    value::Value,
};

static SECRETS: LazyLock<(u64, u64)> = LazyLock::new(|| {
    let random = RandomState::new();
    (random.hash_one(1), random.hash_one(2))
});

/// Numbers of no meaning, each odd, for what is no key.
const OBJECT: u64 = 0x9e37_79b9_7f4a_7c15;
const ARRAY: u64 = 0xd1b5_4a32_d192_ed03;
const END: u64 = 0x8cb9_2ba7_2f3d_8dd7;
const SINGLE: u64 = 0xaef1_7502_1084_49ad;

/// The shape of what was walked so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sketch {
    shape: u64,
    secrets: (u64, u64),
}

impl Sketch {
    pub(crate) fn begin() -> Self {
        Self { shape: 0, secrets: *SECRETS }
    }

    #[inline]
    fn mark(&mut self, mark: u64) {
        self.shape = (self.shape.rotate_left(29) ^ self.secrets.0).wrapping_mul(mark);
    }

    #[inline]
    pub(crate) fn enter(&mut self, object: bool) {
        self.mark(if object { OBJECT } else { ARRAY });
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.mark(END);
    }

    /// A value that holds no others. Those of members may be left out: they are what follows a key where nothing else
    /// does.
    #[inline]
    pub(crate) fn single(&mut self) {
        self.mark(SINGLE);
    }

    #[inline]
    pub(crate) fn key(&mut self, key: Short) {
        let (first, second) = key.halves();
        self.shape = fold(self.shape ^ first ^ self.secrets.0, second ^ self.secrets.1);
    }

    /// A key of any length.
    pub(crate) fn long_key(&mut self, key: &[u8]) {
        let (words, rest) = key.as_chunks::<WORD>();
        for word in words {
            let (first, second) = word.split_at(WORD / 2);
            let number = |half: &[u8]| half.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
            // With the secrets in each other's place: no word is the end of a key, so no key is two.
            self.shape = fold(self.shape ^ number(first) ^ self.secrets.1, number(second) ^ self.secrets.0);
        }
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        self.key(Short::of(&last, rest.len()));
    }

    /// The shape of a document with so many slots.
    pub(crate) fn end(self, slots: usize) -> u64 {
        fold(self.shape ^ self.secrets.0, slots as u64 ^ self.secrets.1)
    }
}

/// What was found out about values by the shape of their documents and their places there: one `T` for each.
#[derive(Debug)]
pub struct Shapes<T> {
    known: HashMap<u64, T, BuildHasherDefault<Mixed>>,
    most: usize,
}

impl<T> Shapes<T> {
    /// Nothing is known yet. With `most` shapes known all are forgotten for the next: whoever writes a log can make
    /// endless ones.
    pub fn new(most: usize) -> Self {
        Self { known: HashMap::default(), most }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// What is known of a value's shape; `make` makes it when that is new.
    pub fn of(&mut self, value: Value<'_>, make: impl FnOnce() -> T) -> &mut T {
        let shape = value.shape();
        if self.known.len() >= self.most && !self.known.contains_key(&shape) {
            self.known.clear();
        }
        self.known.entry(shape).or_insert_with(make)
    }
}

/// Takes shapes as they are: they are hashes.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, shape: u64) {
        self.0 = shape;
    }
}

#[cfg(test)]
mod tests {
    use crate::Document;

    use super::*;

    #[test]
    fn values_of_one_shape_stand_at_the_same_places_and_others_do_not() {
        let shape = |text: &str| Document::parse(text).unwrap().root().shape();
        let same = |one: &str, other: &str| assert_eq!(shape(one), shape(other), "{one} {other}");
        same(r#"{"a":1,"b":{"c":["x",null]}}"#, r#"{"a":2.5,"b":{"c":[false,"longer than any word is"]}}"#);
        same(r#"{"a key that is longer than words":1}"#, r#"{"a key that is longer than words":3}"#);
        same(r#"{"a":1}"#, "{\"a\":1}");
        same(r#"{"x":0,"\u0061":"1"}"#, r#"{"x":1,"a":"\u0031"}"#);
        let all = [
            "1",
            "[]",
            "{}",
            "[1]",
            "[1,1]",
            "[[]]",
            "[[],1]",
            "[[1]]",
            "[{}]",
            r#"{"":1}"#,
            r#"{"a":1}"#,
            r#"{"b":1}"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"b":1,"a":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"b":{}}}"#,
            r#"{"a":{},"b":{}}"#,
            r#"{"123456789012345":1}"#,
            r#"{"1234567890123456":1}"#,
            r#"{"12345678901234567":1}"#,
            r#"{"12345678901234568":1}"#,
            r#"{"1234567890123457":1}"#,
            r#"{"a\u0000":1}"#,
            r#"{"1234567890123456":1,"":1}"#,
        ];
        // One key of several words, against two of one: what is short ends in its length and one.
        let long = |a: &str, b: &str| format!(r"{a}{}\u00{:02x}{b}", r"\u0000".repeat(15 - a.len()), a.len() + 1);
        let (abc, ghi) = (long("abc", "def"), long("ghi", "jkl"));
        let balanced = [
            format!(r#"{{"z":0,"abc":"1","def":"2","{ghi}":"3"}}"#),
            format!(r#"{{"z":0,"{abc}":"1","ghi":"2","jkl":"3"}}"#),
        ];
        assert_ne!(shape(&balanced[0]), shape(&balanced[1]));
        for (n, one) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| shape(one) != shape(other)), "{one}");
        }
        let document = Document::parse(r#"[{"a":1},{"a":1}]"#).unwrap();
        let items: Vec<_> = document.root().items().map(Value::shape).collect();
        assert_ne!(items[0], items[1], "of different places");
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut shapes = Shapes::new(3);
        let texts: Vec<String> = (0..10).map(|n| format!(r#"{{"k{n}":1}}"#)).collect();
        for (n, text) in texts.iter().enumerate() {
            let document = Document::parse(text).unwrap();
            assert_eq!(*shapes.of(document.root(), || n), n);
            assert_eq!(*shapes.of(document.root(), || 99), n);
            assert!(shapes.known.len() <= 3);
        }
    }
}
