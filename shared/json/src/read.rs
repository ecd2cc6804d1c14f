//! The walk: from text to a tape of what stands where.
//!
//! Each value leaves one slot: of which kind it is, which bytes of the text are its own, and which slot follows it and
//! all that is in it. A member of an object leaves two, its key first; that has a hash of the key instead of what follows
//! it, which is always its value.

use crate::{
    likeness::{self, Short, Sum, WORD},
    shape::Sketch,
    text::{self, Fault},
    value::{Kind, Value},
};

/// Why a text is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends inside the value.
    #[error("the text ends inside a value")]
    Ends,
    /// What stands at a byte, from 0, cannot stand there.
    #[error("{what} at byte {at}")]
    Broken {
        /// The byte.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It nests deeper than allowed.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The levels allowed.
        limit: usize,
    },
    /// Its bytes are no UTF-8.
    #[error("not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// Whoever reads wanted no more of it.
    #[error("not read to its end")]
    Stopped,
    /// It is larger than places count.
    #[error("larger than 4 GB")]
    TooLarge,
}

/// What a slot holds. Texts are plain where they say what their bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Null,
    False,
    True,
    Number,
    Plain,
    /// What it says is in [`Memory::unescaped`] at these bytes.
    Escaped,
    Array,
    Object,
}

/// One value of the tape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) what: What,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) next: u32,
}

/// An array or object that is not closed yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    slot: usize,
    object: bool,
    sum: Sum,
    /// Of the member whose value is read.
    key: u64,
}

impl Open {
    /// What stands around the value itself.
    const NONE: Self = Self { slot: usize::MAX, object: false, sum: Sum::of_array(), key: 0 };
}

/// Memory that documents use one after the other.
#[derive(Debug, Default)]
pub struct Memory {
    slots: Vec<Slot>,
    unescaped: Vec<u8>,
    open: Vec<Open>,
}

impl Memory {
    /// Slots kept for the next document; a larger one's memory is given back.
    const KEPT: usize = 1 << 16;

    fn clear(&mut self) {
        if self.slots.capacity() > Self::KEPT || self.unescaped.capacity() > Self::KEPT {
            *self = Self::default();
        }
        self.slots.clear();
        self.unescaped.clear();
        self.open.clear();
    }
}

/// A JSON value that was read, with all values in it.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    /// What texts with escapes say, one after the other.
    unescaped: String,
    slots: Vec<Slot>,
    open: Vec<Open>,
    likeness: Option<u64>,
    shape: u64,
    line_ends: u32,
    deepest: usize,
}

/// How much a walk makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// What stands where.
    Places,
    /// A hash of the value too, see [`Value::likeness`].
    Likeness,
}

impl<'t> Document<'t> {
    /// Deepest nesting that [`Self::parse`] takes.
    pub const DEEPEST: usize = 128;

    /// Reads a text that is one value, white space around it.
    pub fn parse(text: &'t str) -> Result<Self, Error> {
        let trimmed = text.trim_start_matches(WHITE);
        let before = text.len() - trimmed.len();
        let read = Self::read(trimmed.as_bytes(), Self::DEEPEST, Memory::default(), Make::Places, |_, _| false);
        let document = read.map_err(|(e, _)| match e {
            Error::Broken { at, what } => Error::Broken { at: at + before, what },
            other => other,
        })?;
        let rest = &trimmed[document.text.len()..];
        if rest.trim_start_matches(WHITE).is_empty() {
            return Ok(document);
        }
        Err(Error::Broken { at: text.len() - rest.len(), what: "something follows the value" })
    }

    /// Reads the value that `bytes` begin with, with at most `deepest` arrays and objects inside each other. What
    /// follows it is not looked at. The memory comes back with an error, and else with [`Self::into_memory`].
    /// `stop` is asked about the array and object members of the value, with their key and whether it is an object: with
    /// `true`, reading ends with [`Error::Stopped`].
    pub fn read(
        bytes: &'t [u8],
        deepest: usize,
        memory: Memory,
        make: Make,
        stop: impl Fn(&[u8], bool) -> bool,
    ) -> Result<Self, (Error, Memory)> {
        match make {
            Make::Places => Self::walk::<_, false>(bytes, deepest, memory, stop),
            Make::Likeness => Self::walk::<_, true>(bytes, deepest, memory, stop),
        }
    }

    fn walk<S: Fn(&[u8], bool) -> bool, const LIKE: bool>(
        bytes: &'t [u8],
        deepest: usize,
        mut memory: Memory,
        stop: S,
    ) -> Result<Self, (Error, Memory)> {
        memory.clear();
        if u32::try_from(bytes.len()).is_err() {
            return Err((Error::TooLarge, memory));
        }
        let mut walk = Walk::<S, LIKE> {
            bytes,
            at: 0,
            memory,
            shape: Sketch::begin(),
            line_ends: 0,
            limit: deepest,
            deepest: 0,
            stop,
            inner: Open::NONE,
            error: Error::Ends,
        };
        let read = match walk.value() {
            Ok(likeness) => utf8(&bytes[..walk.at]).map(|text| (text, LIKE.then_some(likeness))),
            Err(Failed) => Err(walk.error),
        };
        let Walk { memory, shape, line_ends, deepest, .. } = walk;
        let (text, likeness) = match read {
            Ok(read) => read,
            Err(e) => return Err((e, memory)),
        };
        let Memory { slots, unescaped, open } = memory;
        match String::from_utf8(unescaped) {
            Ok(unescaped) => {
                let shape = shape.end(slots.len());
                Ok(Self { text, unescaped, slots, open, likeness, shape, line_ends, deepest })
            }
            // Cut at escapes, UTF-8 stays UTF-8.
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                Err((Error::NotUtf8 { at }, Memory { slots, unescaped: e.into_bytes(), open }))
            }
        }
    }

    /// `null`.
    pub(crate) fn null() -> Document<'static> {
        Document {
            text: "null",
            unescaped: String::new(),
            slots: vec![Slot { what: What::Null, start: 0, end: 4, next: 1 }],
            open: Vec::new(),
            likeness: None,
            shape: 0,
            line_ends: 0,
            deepest: 0,
        }
    }

    /// Its memory, to be used again.
    pub fn into_memory(self) -> Memory {
        Memory { slots: self.slots, unescaped: self.unescaped.into_bytes(), open: self.open }
    }

    /// The value.
    pub fn root(&self) -> Value<'_> {
        Value::new(self, 0)
    }

    /// The text of the value.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// How many lines end in the text of the value: none does in a string.
    pub fn line_ends(&self) -> u32 {
        self.line_ends
    }

    /// How many arrays and objects are inside each other at most; the value itself counts.
    pub fn deepest(&self) -> usize {
        self.deepest
    }

    /// The hash of the value, if the walk made it.
    pub(crate) fn likeness(&self) -> Option<u64> {
        self.likeness
    }

    /// What tells apart where everything stands, see [`crate::Shapes`].
    #[inline]
    pub(crate) fn shape(&self) -> u64 {
        self.shape
    }

    #[inline]
    pub(crate) fn slot(&self, at: usize) -> Slot {
        self.slots[at]
    }

    /// What a slot of a text says.
    #[inline]
    pub(crate) fn said(&self, slot: Slot) -> &str {
        let from = if slot.what == What::Escaped { self.unescaped.as_str() } else { self.text };
        &from[slot.start as usize..slot.end as usize]
    }
}

const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    // The fast check does not say where it failed.
    simdutf8::basic::from_utf8(bytes)
        .or_else(|_| std::str::from_utf8(bytes))
        .map_err(|e| Error::NotUtf8 { at: e.valid_up_to() })
}

struct Walk<'t, S, const LIKE: bool> {
    bytes: &'t [u8],
    at: usize,
    memory: Memory,
    shape: Sketch,
    line_ends: u32,
    limit: usize,
    deepest: usize,
    stop: S,
    /// The innermost array or object that is not closed; those around it are in the memory.
    inner: Open,
    /// Why it failed, once it has: apart, so that what each value returns fits into registers.
    error: Error,
}

/// It failed.
struct Failed;

/// What comes next.
enum Next {
    Value,
    /// A value ended; its likeness.
    Ended(u64),
}

impl<S: Fn(&[u8], bool) -> bool, const LIKE: bool> Walk<'_, S, LIKE> {
    fn value(&mut self) -> Result<u64, Failed> {
        let mut next = Next::Value;
        loop {
            next = match next {
                Next::Value => self.begin()?,
                Next::Ended(likeness) => {
                    if self.memory.open.is_empty() {
                        return Ok(likeness);
                    }
                    let Open { object, sum, key, .. } = &mut self.inner;
                    match (LIKE, *object) {
                        (true, true) => sum.member(*key, likeness),
                        (true, false) => sum.item(likeness),
                        (false, _) => {}
                    }
                    if *object { self.go_on_in_object()? } else { self.go_on_in_array()? }
                }
            };
        }
    }

    /// The next byte that is no white space.
    #[inline]
    fn peek(&mut self) -> Result<u8, Failed> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte > b' ' => Ok(*byte),
            _ => self.pass_white(),
        }
    }

    #[inline(never)]
    fn pass_white(&mut self) -> Result<u8, Failed> {
        loop {
            match self.bytes.get(self.at) {
                None => return self.failed(Error::Ends),
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'\n') => (self.at, self.line_ends) = (self.at + 1, self.line_ends + 1),
                Some(byte) => return Ok(*byte),
            }
        }
    }

    #[cold]
    fn failed<T>(&mut self, error: Error) -> Result<T, Failed> {
        self.error = error;
        Err(Failed)
    }

    #[cold]
    fn broken<T>(&mut self, what: &'static str) -> Result<T, Failed> {
        self.failed(Error::Broken { at: self.at, what })
    }

    /// A value begins.
    #[inline]
    fn begin(&mut self) -> Result<Next, Failed> {
        let first = self.peek()?;
        match first {
            b'{' => return self.enter(true),
            b'[' => return self.enter(false),
            _ => self.shape.single(),
        }
        match first {
            b'"' => Ok(Next::Ended(self.text()?)),
            b't' => self.name(b"true", What::True, Some(true)),
            b'f' => self.name(b"false", What::False, Some(false)),
            b'n' => self.name(b"null", What::Null, None),
            b'-' | b'0'..=b'9' => Ok(Next::Ended(self.number()?)),
            _ => self.broken("a value is missing"),
        }
    }

    /// Behind a value in an object.
    #[inline]
    fn go_on_in_object(&mut self) -> Result<Next, Failed> {
        loop {
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Ok(self.leave()),
                _ => return self.broken("a comma or closing bracket is missing"),
            }
            if self.peek()? != b'"' {
                return self.broken("a key is missing");
            }
            self.key()?;
            // Most members are texts.
            if self.bytes.get(self.at) != Some(&b'"') {
                return Ok(Next::Value);
            }
            let likeness = self.text()?;
            if LIKE {
                self.inner.sum.member(self.inner.key, likeness);
            }
        }
    }

    /// Behind a value in an array.
    #[inline]
    fn go_on_in_array(&mut self) -> Result<Next, Failed> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Ok(Next::Value)
            }
            b']' => Ok(self.leave()),
            _ => self.broken("a comma or closing bracket is missing"),
        }
    }

    fn enter(&mut self, object: bool) -> Result<Next, Failed> {
        if self.memory.open.len() == self.limit {
            return self.failed(Error::TooDeep { limit: self.limit });
        }
        if self.stops(object) {
            return self.failed(Error::Stopped);
        }
        let slot = self.memory.slots.len();
        let what = if object { What::Object } else { What::Array };
        self.push(what, self.at, self.at);
        let sum = if object { Sum::of_object() } else { Sum::of_array() };
        self.shape.enter(object);
        self.memory.open.push(std::mem::replace(&mut self.inner, Open { slot, object, sum, key: 0 }));
        self.deepest = self.deepest.max(self.memory.open.len());
        self.at += 1;
        match (self.peek()?, object) {
            (b'}', true) | (b']', false) => Ok(self.leave()),
            (b'"', true) => {
                self.key()?;
                Ok(Next::Value)
            }
            (_, true) => self.broken("a key is missing"),
            (_, false) => Ok(Next::Value),
        }
    }

    /// Whether this member of the value, an array or object, is one to stop at.
    fn stops(&self, object: bool) -> bool {
        if self.memory.open.len() != 1 || !self.inner.object {
            return false;
        }
        let Some(key) = self.memory.slots.last() else { return false };
        let from = if key.what == What::Escaped { &self.memory.unescaped } else { self.bytes };
        from.get(key.start as usize..key.end as usize).is_some_and(|key| (self.stop)(key, object))
    }

    /// A closing bracket.
    fn leave(&mut self) -> Next {
        self.at += 1;
        self.shape.leave();
        let next = number(self.memory.slots.len());
        // Whoever leaves has entered.
        let left = std::mem::replace(&mut self.inner, self.memory.open.pop().unwrap_or(Open::NONE));
        if let Some(slot) = self.memory.slots.get_mut(left.slot) {
            (slot.end, slot.next) = (number(self.at), next);
        }
        Next::Ended(left.sum.end(left.object))
    }

    /// A key, at its opening quote, and its colon.
    #[inline]
    fn key(&mut self) -> Result<(), Failed> {
        let start = self.at + 1;
        // Most are shorter than a word.
        let word = self.bytes.get(start..).and_then(<[u8]>::first_chunk::<WORD>);
        match word.map(|word| (word, text::special_in(word))) {
            Some((word, len)) if word.get(len) == Some(&b'"') => {
                let short = Short::of(word, len);
                self.shape.key(short);
                self.at = start + len + 1;
                self.push_key(What::Plain, start, start + len, short.hash());
            }
            _ => self.long_key(start)?,
        }
        if self.bytes.get(self.at) != Some(&b':') && self.peek()? != b':' {
            return self.broken("a colon is missing");
        }
        self.at += 1;
        Ok(())
    }

    #[inline(never)]
    fn long_key(&mut self, start: usize) -> Result<(), Failed> {
        let end = text::special(self.bytes, start);
        let (what, start, end) = if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            (What::Plain, start, end)
        } else {
            let (start, end) = self.unescape(start, end)?;
            (What::Escaped, start, end)
        };
        let from = if what == What::Escaped { &self.memory.unescaped } else { self.bytes };
        let text = &from[start..end];
        self.shape.long_key(text);
        let hash = likeness::of_text(text);
        self.push_key(what, start, end, hash);
        Ok(())
    }

    #[inline]
    fn push_key(&mut self, what: What, start: usize, end: usize, hash: u64) {
        self.inner.key = hash;
        let next = likeness::short(hash);
        self.memory.slots.push(Slot { what, start: number(start), end: number(end), next });
    }

    #[inline]
    fn push(&mut self, what: What, start: usize, end: usize) {
        let next = number(self.memory.slots.len() + 1);
        self.memory.slots.push(Slot { what, start: number(start), end: number(end), next });
    }

    /// A string, at its opening quote; its hash, if it is wanted.
    #[inline]
    fn text(&mut self) -> Result<u64, Failed> {
        let start = self.at + 1;
        let word = self.bytes.get(start..).and_then(<[u8]>::first_chunk::<WORD>);
        match word.map(|word| (word, text::special_in(word))) {
            Some((word, len)) if word.get(len) == Some(&b'"') => {
                self.push(What::Plain, start, start + len);
                self.at = start + len + 1;
                Ok(if LIKE { Short::of(word, len).hash() } else { 0 })
            }
            _ => self.long_text(start),
        }
    }

    #[inline(never)]
    fn long_text(&mut self, start: usize) -> Result<u64, Failed> {
        let end = text::special(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            self.push(What::Plain, start, end);
            self.at = end + 1;
            return Ok(if LIKE { likeness::of_text(&self.bytes[start..end]) } else { 0 });
        }
        let (start, end) = self.unescape(start, end)?;
        self.push(What::Escaped, start, end);
        Ok(if LIKE { likeness::of_text(&self.memory.unescaped[start..end]) } else { 0 })
    }

    /// A string that is not plain up to its end: where what it says is.
    #[cold]
    fn unescape(&mut self, start: usize, special: usize) -> Result<(usize, usize), Failed> {
        let begin = self.memory.unescaped.len();
        self.memory.unescaped.extend_from_slice(&self.bytes[start..special]);
        match text::unescape(self.bytes, special, &mut self.memory.unescaped) {
            Ok(at) => self.at = at,
            Err(Fault::Ends) => return self.failed(Error::Ends),
            Err(Fault::At(at, what)) => return self.failed(Error::Broken { at, what }),
        }
        Ok((begin, self.memory.unescaped.len()))
    }

    fn name<const N: usize>(&mut self, name: &[u8; N], what: What, flag: Option<bool>) -> Result<Next, Failed> {
        let rest = &self.bytes[self.at..];
        if rest.first_chunk() != Some(name) {
            return if name.starts_with(rest) { self.failed(Error::Ends) } else { self.broken("no such name") };
        }
        self.push(what, self.at, self.at + N);
        self.at += N;
        Ok(Next::Ended(likeness::of_name(flag)))
    }

    fn digits(&mut self) -> Result<(), Failed> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            _ if self.at > start => Ok(()),
            None => self.failed(Error::Ends),
            Some(_) => self.broken("a digit is missing"),
        }
    }

    fn number(&mut self) -> Result<u64, Failed> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.bytes[first] == b'0' && self.at > first + 1 {
            self.at = first + 1;
            return self.broken("a number begins with 0");
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(What::Number, start, self.at);
        // So few digits are within every bound.
        if !LIKE && self.at - start < 18 && !self.bytes[start..self.at].iter().any(u8::is_ascii_alphabetic) {
            return Ok(0);
        }
        // Digits, signs, a dot and an e are UTF-8.
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        match likeness::of_digits(text) {
            Some(likeness) => Ok(likeness),
            None => self.failed(Error::Broken { at: start, what: "a number is too large" }),
        }
    }
}

/// A place, which is below 2^32 because the text is no longer.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "texts of more bytes are refused, and have no more slots than bytes"
)]
const fn number(place: usize) -> u32 {
    place as u32
}

impl Slot {
    pub(crate) fn kind(self) -> Kind {
        match self.what {
            What::Null => Kind::Null,
            What::False | What::True => Kind::Boolean,
            What::Number => Kind::Number,
            What::Plain | What::Escaped => Kind::String,
            What::Array => Kind::Array,
            What::Object => Kind::Object,
        }
    }
}
