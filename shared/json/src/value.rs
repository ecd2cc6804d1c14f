//! Values of a document, looked at where they stand.

use std::{fmt, sync::LazyLock};

use crate::{
    likeness::{self, Sum},
    read::{Document, Slot, What},
    write,
};

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A text.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A value of a document.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    at: u32,
}

impl PartialEq for Value<'_> {
    /// Whether both are one value of one document.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.at == other.at
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.compact())
    }
}

impl<'d> Value<'d> {
    /// A value `null`, of no text.
    pub fn null() -> Value<'static> {
        static NULL: LazyLock<Document<'static>> = LazyLock::new(Document::null);
        NULL.root()
    }

    #[allow(clippy::cast_possible_truncation, reason = "slots are counted in 32 bits")]
    #[inline]
    pub(crate) fn new(document: &'d Document<'_>, at: usize) -> Self {
        Self { document, at: at as u32 }
    }

    #[inline]
    fn slot(self) -> Slot {
        self.document.slot(self.at as usize)
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        self.slot().kind()
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.slot().what == What::Null
    }

    /// Whether it is a text.
    pub fn is_str(self) -> bool {
        matches!(self.slot().what, What::Plain | What::Escaped)
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.slot().what == What::Object
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.slot().what == What::Array
    }

    /// What a text says, escapes undone.
    #[inline]
    pub fn as_str(self) -> Option<&'d str> {
        let slot = self.slot();
        matches!(slot.what, What::Plain | What::Escaped).then(|| self.document.said(slot))
    }

    /// A boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self.slot().what {
            What::True => Some(true),
            What::False => Some(false),
            _ => None,
        }
    }

    fn digits(self) -> Option<&'d str> {
        let slot = self.slot();
        (slot.what == What::Number).then(|| self.document.said(slot))
    }

    /// A number that is written as a whole one, within `i64`. `-0` is none: no whole number is written so.
    pub fn as_i64(self) -> Option<i64> {
        self.digits().filter(|digits| *digits != "-0")?.parse().ok()
    }

    /// A number that is written as a whole one, within `u64`.
    pub fn as_u64(self) -> Option<u64> {
        self.digits()?.parse().ok()
    }

    /// A number.
    pub fn as_f64(self) -> Option<f64> {
        self.digits()?.parse().ok()
    }

    /// The members of an object in their order, each as often as it is there; none of anything else.
    pub fn members(self) -> Members<'d> {
        let end = if self.is_object() { self.slot().next } else { 0 };
        Members { document: self.document, at: self.at + 1, end }
    }

    /// The same, with what finds a member by its key among many.
    pub fn keys(self) -> Keys<'d> {
        Keys(self.members())
    }

    /// Its place in its document.
    pub fn place(self) -> u32 {
        self.at
    }

    /// The value at a place in the same document, which must be one that [`Self::place`] or [`Key::place`] gave.
    #[inline]
    #[must_use]
    pub fn at(self, place: u32) -> Self {
        Self::new(self.document, place as usize)
    }

    /// The items of an array; none of anything else.
    pub fn items(self) -> Items<'d> {
        let end = if self.is_array() { self.slot().next } else { 0 };
        Items { document: self.document, at: self.at + 1, end }
    }

    /// The first member of this name.
    pub fn get(self, key: &str) -> Option<Self> {
        self.members().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The text of an array, an object or a number, as it was written.
    pub fn written(self) -> Option<&'d str> {
        let (document, slot) = (self.document, self.slot());
        matches!(slot.what, What::Array | What::Object | What::Number)
            .then(|| &document.text()[slot.start as usize..slot.end as usize])
    }

    /// A hash of it that ignores the order of keys, white space, and how texts and numbers are spelled: for comparing
    /// what one process has read.
    pub fn likeness(self) -> u64 {
        self.document.likeness().filter(|_| self.at == 0).unwrap_or_else(|| self.like())
    }

    /// The shape of its document together with its place there.
    #[inline]
    pub(crate) fn shape(self) -> u64 {
        let shape = self.document.shape();
        if self.at == 0 { shape } else { likeness::fold(shape, u64::from(self.at)) }
    }

    fn like(self) -> u64 {
        match self.kind() {
            Kind::Null | Kind::Boolean => likeness::of_name(self.as_bool()),
            Kind::Number => likeness::of_digits(self.digits().unwrap_or_default()).unwrap_or_default(),
            Kind::String => likeness::of_text(self.as_str().unwrap_or_default().as_bytes()),
            Kind::Array => {
                let mut sum = Sum::of_array();
                self.items().for_each(|item| sum.item(item.like()));
                sum.end(false)
            }
            Kind::Object => {
                let mut sum = Sum::of_object();
                self.members().for_each(|(key, value)| sum.member(likeness::of_text(key.as_bytes()), value.like()));
                sum.end(true)
            }
        }
    }

    /// Its JSON without white space, with texts and numbers in their usual spelling, members in their order.
    pub fn compact(self) -> String {
        let mut out = String::new();
        write::compact(self, &mut out);
        out
    }
}

/// Members of an object.
#[derive(Debug, Clone)]
pub struct Members<'d> {
    document: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Members<'d> {
    type Item = (&'d str, Value<'d>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let key = self.document.said(self.document.slot(self.at as usize));
        let value = Value::new(self.document, self.at as usize + 1);
        self.at = value.slot().next;
        Some((key, value))
    }
}

/// Members of an object by their keys.
#[derive(Debug, Clone)]
pub struct Keys<'d>(Members<'d>);

impl<'d> Iterator for Keys<'d> {
    type Item = Key<'d>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Members { document, at, end } = self.0;
        if at >= end {
            return None;
        }
        self.0.at = document.slot(at as usize + 1).next;
        Some(Key { document, slot: document.slot(at as usize), at })
    }
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Key<'d> {
    document: &'d Document<'d>,
    slot: Slot,
    at: u32,
}

impl<'d> Key<'d> {
    /// A hash of its name.
    #[inline]
    pub(crate) fn hash(self) -> u32 {
        self.slot.next
    }

    /// Its name.
    #[inline]
    pub fn name(self) -> &'d str {
        self.document.said(self.slot)
    }

    /// The place of its value.
    #[inline]
    pub fn place(self) -> u32 {
        self.at + 1
    }
}

/// Items of an array.
#[derive(Debug, Clone)]
pub struct Items<'d> {
    document: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let value = Value::new(self.document, self.at as usize);
        self.at = value.slot().next;
        Some(value)
    }
}
