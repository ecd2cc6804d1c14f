//! Verdicts of matchers on texts, remembered from record to record.
//!
//! In: the number of a matcher, or of several that are asked together, and a text. Out: the verdict, asked for only when it
//! is not the one of that text that was remembered last. Logs hold the same user agents, names and addresses again and
//! again. Texts are compared whole, so
//! nobody who writes a log can make one pass for another; how many are remembered, and how long they are, is bounded.

use std::cell::RefCell;

/// Verdicts remembered: a power of two.
const SLOTS: usize = 2048;
/// Bytes of the longest text that is remembered.
const LONGEST: usize = 400;

/// Verdicts on texts; empty, it remembers nothing.
#[derive(Debug, Default)]
pub(super) struct Heard<V>(RefCell<Vec<Slot<V>>>);

#[derive(Debug, Clone, Default)]
struct Slot<V> {
    /// The matcher's number plus one; 0 for none.
    matcher: u32,
    verdict: V,
    text: String,
}

impl<V: Copy + Default> Heard<V> {
    /// Remembers verdicts.
    pub(super) fn remembering() -> Self {
        Self(RefCell::new(vec![Slot::default(); SLOTS]))
    }

    /// Forgets all.
    pub(super) fn forget(&self) {
        self.0.borrow_mut().fill(Slot::default());
    }

    /// The verdict of a matcher on a text; `ask` must depend on nothing else.
    pub(super) fn once(&self, matcher: usize, text: &str, ask: impl FnOnce() -> V) -> V {
        let Ok(matcher) = u32::try_from(matcher + 1) else { return ask() };
        let at = place(matcher, text);
        {
            let slots = self.0.borrow();
            match slots.get(at) {
                Some(slot) if text.len() <= LONGEST => {
                    if slot.matcher == matcher && slot.text == text {
                        return slot.verdict;
                    }
                }
                _ => return ask(),
            }
        }
        let verdict = ask();
        if let Some(slot) = self.0.borrow_mut().get_mut(at) {
            slot.matcher = matcher;
            slot.verdict = verdict;
            slot.text.clear();
            slot.text.push_str(text);
        }
        verdict
    }
}

/// Where a verdict is kept: told apart by the text's length, beginning and end.
fn place(matcher: u32, text: &str) -> usize {
    let bytes = text.as_bytes();
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let ends = word(bytes.first_chunk()) ^ word(bytes.last_chunk()).rotate_left(31);
    let mixed = (ends ^ bytes.len() as u64 ^ u64::from(matcher) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    #[allow(clippy::cast_possible_truncation, reason = "a place below SLOTS")]
    let at = (mixed >> 40) as usize % SLOTS;
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever else was asked, a verdict is that of the text.
        #[test]
        fn verdicts_are_those_of_their_texts(asked in prop::collection::vec((0..3_usize, "[ab]{0,3}c{8}x?[ab]?d{8}"), 1..200)) {
            let heard = Heard::remembering();
            let verdict = |matcher: usize, text: &str| (text.len() + matcher + text.matches('a').count()).is_multiple_of(2);
            for (matcher, text) in &asked {
                prop_assert_eq!(heard.once(*matcher, text, || verdict(*matcher, text)), verdict(*matcher, text));
            }
        }
    }

    #[test]
    fn what_was_asked_last_is_not_asked_again_and_long_texts_always() {
        let asks = std::cell::Cell::new(0);
        let ask = |heard: &Heard<bool>, text: &str| {
            heard.once(7, text, || {
                asks.set(asks.get() + 1);
                true
            })
        };
        let heard = Heard::remembering();
        assert!(ask(&heard, "aws-cli") && ask(&heard, "aws-cli"));
        assert_eq!(asks.get(), 1);
        let long = "x".repeat(LONGEST + 1);
        assert!(ask(&heard, &long) && ask(&heard, &long));
        assert_eq!(asks.get(), 3);
        assert!(ask(&Heard::default(), "aws-cli") && ask(&Heard::default(), "aws-cli"));
        assert_eq!(asks.get(), 5, "without memory");
    }
}
