//! Undoes gzip in one go, for inputs of the size that CloudTrail delivers: that takes half the time of a stream.
//!
//! In: the beginning of an input. Out: its text, where that is all of a single sound member that fits into memory; all
//! else is left to the streaming decoder, which also tells what is wrong.

use std::cell::RefCell;

use libdeflater::Decompressor;
use memchr::memmem;

use super::super::spare::{self, Of};

/// Most compressed bytes taken at once.
pub(super) const MOST_PACKED: u64 = 1 << 20;
/// Most bytes of text made at once.
const MOST_TEXT: usize = 4 << 20;
/// What each member begins with: the magic number, and the only method there is (RFC 1952, section 2.3).
const MEMBER: [u8; 3] = [0x1f, 0x8b, 8];

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// The text of an input of which `packed` may be the beginning: so many bytes of a buffer.
pub(super) fn gunzip(packed: &[u8]) -> Option<(Vec<u8>, usize)> {
    if packed.len() as u64 > MOST_PACKED {
        return None;
    }
    // A member that follows would be left out.
    if memmem::find(packed.get(MEMBER.len()..)?, &MEMBER).is_some() {
        return None;
    }
    let size = u32::from_le_bytes(*packed.last_chunk()?) as usize;
    if size > MOST_TEXT {
        return None;
    }
    let mut text = spare::take(Of::Text);
    // Only what was never used is made zero.
    if text.len() < size {
        text.resize(size, 0);
    }
    let made = DECOMPRESSOR.with_borrow_mut(|d| d.gzip_decompress(packed, &mut text[..size]));
    if made == Ok(size) {
        return Some((text, size));
    }
    spare::give(Of::Text, text);
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text(packed: &[u8]) -> Option<Vec<u8>> {
        let (mut text, size) = gunzip(packed)?;
        text.truncate(size);
        Some(text)
    }

    #[test]
    fn a_single_member_is_undone_and_all_else_left_alone() {
        let member = packed(b"text of some length");
        assert_eq!(text(&member).unwrap(), b"text of some length");
        assert_eq!(text(&packed(b"")).unwrap(), b"");
        let twice = [member.as_slice(), &member].concat();
        assert_eq!(gunzip(&twice), None);
        assert_eq!(gunzip(&[&member[..], &[0; 8]].concat()), None);
        assert_eq!(gunzip(&member[..member.len() - 1]), None);
        let mut damaged = member.clone();
        damaged[15] ^= 1;
        assert_eq!(gunzip(&damaged), None);
        assert_eq!(gunzip(&packed(&vec![b'a'; MOST_TEXT + 1])), None);
        assert_eq!(gunzip(b""), None);
    }

    proptest! {
        #[test]
        fn what_is_undone_is_what_a_stream_gives(
            members in prop::collection::vec(prop::collection::vec(0..4_u8, 0..40), 1..4),
            behind in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut all: Vec<u8> = members.iter().flat_map(|text| packed(text)).collect();
            all.extend(behind);
            let mut streamed = Vec::new();
            let read = MultiGzDecoder::new(&all[..]).read_to_end(&mut streamed);
            if let Some(text) = text(&all) {
                prop_assert!(read.is_ok());
                prop_assert_eq!(text, streamed);
            } else if members.len() == 1 {
                prop_assert!(read.is_err() || memmem::find(&all[3..], &MEMBER).is_some() || all.len() > packed(&members[0]).len());
            }
        }
    }
}
