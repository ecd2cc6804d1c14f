//! Buffers that are used again by the next input of a thread: taking a large one anew costs as much as undoing a tenth of
//! its gzip.

use std::cell::RefCell;

/// Buffers kept.
const KEPT: usize = 2;
/// Largest buffer kept, in bytes.
const LARGEST: usize = 2 << 20;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, which holds anything.
pub(super) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back.
pub(super) fn give(buffer: Vec<u8>) {
    if (1..=LARGEST).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}
