//! Finds where an object ends, fast: by quotes and braces alone, 64 bytes at a time.
//!
//! What it finds is right for JSON. For anything else it may be wrong, so what it cuts out counts only once a parser
//! has read it as one whole object; else [`super::scan`] reads again, which knows grammar and tells what is broken.

use wide::u8x16;

/// Bytes looked at at once.
const BLOCK: usize = 64;

/// An object that was cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Behind its closing brace.
    pub(super) end: usize,
    /// Opening braces and brackets in it: it nests no deeper.
    pub(super) opened: u32,
}

/// The places of a block's bytes of interest, one bit a byte. Brackets count as braces: in JSON they match too.
struct Marks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Marks {
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut marks = Self { quotes: 0, backslashes: 0, opening: 0, closing: 0 };
        for (n, part) in block.as_chunks::<16>().0.iter().enumerate() {
            let part = u8x16::new(*part);
            let of = |part: u8x16, byte: u8| u64::from(part.simd_eq(u8x16::splat(byte)).to_bitmask()) << (16 * n);
            marks.quotes |= of(part, b'"');
            marks.backslashes |= of(part, b'\\');
            // One bit makes a brace of a bracket, and of nothing else.
            let braces = part | u8x16::splat(b'{' ^ b'[');
            marks.opening |= of(braces, b'{');
            marks.closing |= of(braces, b'}');
        }
        marks
    }
}

/// Finds the end of the object that `text` starts with; `None` when it does not end in it.
pub(super) fn cut(text: &[u8]) -> Option<Cut> {
    let (mut depth, mut opened) = (0_u32, 0_u32);
    // All bits set while inside a string; whether the next byte is escaped.
    let (mut inside, mut escaped) = (0_u64, false);
    for (n, part) in text.chunks(BLOCK).enumerate() {
        let marks = if let Some(block) = part.first_chunk::<BLOCK>() {
            Marks::of(block)
        } else {
            let mut block = [0; BLOCK];
            block[..part.len()].copy_from_slice(part);
            Marks::of(&block)
        };
        let quotes = marks.quotes & !escapes(marks.backslashes, &mut escaped);
        let strings = prefix_xor(quotes) ^ inside;
        inside = if strings >> 63 == 1 { u64::MAX } else { 0 };
        let (opening, closing) = (marks.opening & !strings, marks.closing & !strings);
        if opening | closing == 0 {
            continue;
        }
        opened += opening.count_ones();
        let closes = closing.count_ones();
        if closes < depth {
            depth = depth + opening.count_ones() - closes;
            continue;
        }
        let mut braces = opening | closing;
        while braces != 0 {
            let bit = braces & braces.wrapping_neg();
            braces ^= bit;
            if opening & bit != 0 {
                depth += 1;
            } else if depth <= 1 {
                return (depth == 1).then(|| Cut { end: n * BLOCK + bit.trailing_zeros() as usize + 1, opened });
            } else {
                depth -= 1;
            }
        }
    }
    None
}

/// The bytes that a backslash escapes. `escaped` says whether the first one is, and then whether the next block's is.
fn escapes(backslashes: u64, escaped: &mut bool) -> u64 {
    if backslashes == 0 && !*escaped {
        return 0;
    }
    let (mut found, mut left, mut at) = (u64::from(*escaped), backslashes & !u64::from(*escaped), 0);
    *escaped = false;
    while left >> at != 0 {
        at += (left >> at).trailing_zeros();
        if at == 63 {
            *escaped = true;
            break;
        }
        found |= 1 << (at + 1);
        left &= !(1 << (at + 1));
        at += 1;
    }
    found
}

/// Each bit the sum (without carry) of those up to it: from an opening quote to before its closing one.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::reader::scan::{Scanner, Step};

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let text = "[a\"\\\\{}\\[\\]é]{0,90}";
        let leaf =
            prop_oneof![Just(serde_json::Value::Null), any::<i64>().prop_map(Into::into), text.prop_map(Into::into)];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::btree_map(text, inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_ends_objects_where_the_grammar_does(
            members in prop::collection::btree_map("[a-z\"\\\\]{1,6}", json(), 0..8),
            behind in "[{}\"\\\\,a]{0,80}",
        ) {
            let object = serde_json::to_string(&members).unwrap();
            let cut = cut(format!("{object}{behind}").as_bytes()).unwrap();
            prop_assert_eq!(cut.end, object.len());
            let mut scanner = Scanner::new(100);
            prop_assert_eq!(scanner.run(object.as_bytes()), Step::End(object.len()));
            prop_assert!(cut.opened >= scanner.deepest());
        }

        #[test]
        fn it_takes_any_bytes(bytes in prop::collection::vec(prop::sample::select(br#"{}[]"\a"#.to_vec()), 0..300)) {
            if let Some(cut) = cut(&bytes) {
                let closes = matches!(bytes[cut.end - 1], b'}' | b']');
                prop_assert!(closes);
            }
        }
    }

    #[test]
    fn what_does_not_end_has_no_end() {
        for text in ["", "{", "{\"a\":\"}", "}", "\"{}\"", "{\"a\":{}"] {
            assert_eq!(cut(text.as_bytes()), None, "{text}");
        }
        // A backslash at the end of one block escapes the first byte of the next.
        for pad in 50..70 {
            let text = format!("{{\"{}\\\"}}\":1}}", "a".repeat(pad));
            assert_eq!(cut(text.as_bytes()).unwrap().end, text.len());
        }
    }
}
