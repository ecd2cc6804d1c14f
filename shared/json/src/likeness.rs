//! A hash of a value that ignores the order of keys, white space, and how texts and numbers are spelled.
//!
//! For comparing what one process has read: it is never stored, so that another one may take its place.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};

/// Secrets by what is hashed: a text, a number, anything else.
static SECRETS: [RapidSecrets; 3] = [RapidSecrets::seed(1), RapidSecrets::seed(2), RapidSecrets::seed(3)];

const OBJECT: u64 = 0x9e37_79b9_7f4a_7c15;
const ARRAY: u64 = 0xd1b5_4a32_d192_ed03;

#[inline]
fn rapid(what: usize, bytes: &[u8]) -> u64 {
    rapidhash_v3_nano_inline::<true, false>(bytes, &SECRETS[what])
}

/// Two hashes in one, in this order.
#[inline]
pub(crate) fn fold(first: u64, second: u64) -> u64 {
    let product = u128::from(first ^ OBJECT) * u128::from(second.rotate_left(32) ^ ARRAY);
    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    // A factor of 0 would forget the other one.
    low ^ high ^ first.rotate_left(17) ^ second
}

/// Bytes of a word: what a text is looked at by.
pub(crate) const WORD: usize = 16;

/// The first bytes of a word.
static FIRST: [u128; WORD] = {
    let mut masks = [0; WORD];
    let mut len = 0;
    while len < WORD {
        masks[len] = !(u128::MAX << (8 * len));
        len += 1;
    }
    masks
};

/// A text of fewer bytes than a word, as two numbers: no other text is the same ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short(u64, u64);

impl Short {
    /// The first `len` bytes of a word, fewer than all.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    pub(crate) fn of(word: &[u8; WORD], len: usize) -> Self {
        let bytes = u128::from_le_bytes(*word) & FIRST[len % WORD];
        // Of the last byte, which is none of the text's, the length takes the place.
        Self(bytes as u64, (bytes >> 64) as u64 | (len as u64 + 1) << 56)
    }

    #[inline]
    pub(crate) fn hash(self) -> u64 {
        fold(self.0, self.1)
    }

    /// Both numbers.
    #[inline]
    pub(crate) fn halves(self) -> (u64, u64) {
        (self.0, self.1)
    }
}

#[inline]
pub(crate) fn of_text(text: &[u8]) -> u64 {
    if text.len() >= WORD {
        return rapid(0, text);
    }
    let mut word = [0; WORD];
    word[..text.len()].copy_from_slice(text);
    Short::of(&word, text.len()).hash()
}

/// What a key's slot holds of its hash.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
pub(crate) const fn short(hash: u64) -> u32 {
    hash as u32
}

/// The hash of a key of this name.
pub(crate) fn key_hash(name: &str) -> u32 {
    short(of_text(name.as_bytes()))
}

/// Of a number as it is written; `None` for one that is not finite.
pub(crate) fn of_digits(digits: &str) -> Option<u64> {
    // Whole numbers are tried first: nearly all are.
    if let Ok(whole) = digits.parse() {
        return Some(of_number(Some(whole), 0.0));
    }
    if let Ok(large) = digits.parse() {
        return Some(of_large(large));
    }
    digits.parse().ok().filter(|float: &f64| float.is_finite()).map(|float| of_number(None, float))
}

/// Of a number by what it is: `1` and `1.0` are one.
fn of_number(whole: Option<i64>, float: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "guarded: only whole numbers within i64's exact range")]
    let whole =
        whole.or_else(|| (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(float as i64));
    match whole {
        Some(whole) => fold(rapid(1, &whole.to_le_bytes()), 1),
        None => fold(rapid(1, &float.to_bits().to_le_bytes()), 2),
    }
}

/// Of a whole number beyond `i64`.
fn of_large(number: u64) -> u64 {
    fold(rapid(1, &number.to_le_bytes()), 3)
}

/// Of `false`, `true` and `null`.
static NAMES: [u64; 3] = [
    rapidhash_v3_nano_inline::<true, false>(&[0], &SECRETS[2]),
    rapidhash_v3_nano_inline::<true, false>(&[1], &SECRETS[2]),
    rapidhash_v3_nano_inline::<true, false>(&[2], &SECRETS[2]),
];

/// Of a boolean, or null for none.
#[inline]
pub(crate) fn of_name(flag: Option<bool>) -> u64 {
    NAMES[flag.map_or(2, usize::from)]
}

/// An array or object in the making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    hash: u64,
    count: u64,
}

impl Sum {
    pub(crate) const fn of_array() -> Self {
        Self { hash: ARRAY, count: 0 }
    }

    pub(crate) fn of_object() -> Self {
        Self { hash: 0, count: 0 }
    }

    #[inline]
    pub(crate) fn item(&mut self, value: u64) {
        self.hash = fold(self.hash, value);
    }

    #[inline]
    pub(crate) fn member(&mut self, key: u64, value: u64) {
        self.hash = self.hash.wrapping_add(fold(key, value));
        self.count += 1;
    }

    pub(crate) fn end(self, object: bool) -> u64 {
        if object { fold(self.hash, self.count ^ OBJECT) } else { self.hash }
    }
}
