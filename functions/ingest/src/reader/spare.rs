//! Buffers that are used again by the next input of a thread: taking a large one anew costs as much as undoing a tenth of
//! its gzip.

use std::cell::RefCell;

/// What a buffer is for: those of texts are larger by far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Packed,
    Text,
}

/// Largest buffer kept, in bytes.
const LARGEST: usize = 2 << 20;

thread_local! {
    static SPARE: RefCell<[Vec<u8>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A buffer, which holds anything.
pub(super) fn take(of: Of) -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| std::mem::take(&mut spare[of as usize]))
}

/// Gives a buffer back.
pub(super) fn give(of: Of, buffer: Vec<u8>) {
    if buffer.capacity() <= LARGEST {
        SPARE.with_borrow_mut(|spare| {
            let spare = &mut spare[of as usize];
            if spare.capacity() < buffer.capacity() {
                *spare = buffer;
            }
        });
    }
}
