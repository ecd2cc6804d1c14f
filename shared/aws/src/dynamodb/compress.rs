//! Bodies compressed against typical ones: a write unit is 1 KB, and an alert has three, nearly all of it the names of
//! fields and sentences that every alert has.
//!
//! The form is zlib's with a preset dictionary (RFC 1950, section 2.2), which names its dictionary by that one's
//! checksum. A dictionary never changes, or nothing written with it could be read: a better one is added beside it.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Typical bodies with what differs taken out, the commonest last.
const DICTIONARIES: [(u32, &[u8]); 1] = [(0x57ca_8137, include_bytes!("dictionary-1.txt"))];
/// Which of them is written with. A new one is first only read for a release: while an upgrade is under way, and after
/// going back to the version before, functions read what newer ones wrote.
const WRITE_WITH: usize = 0;

/// Compressors look back so far, as a power of two: the dictionary and a few KB of the item, of the 32 KB that there could
/// be. All of it is written to before the first item.
const WINDOW_BITS: u8 = 14;

/// Compressors that nobody uses now. One takes 240 KB of memory, whose pages a new one would all touch again: for an item
/// of a few KB that is most of the work.
static SPARE: Mutex<Vec<Compress>> = Mutex::new(Vec::new());
/// Compressors kept: more writers at once make their own.
const SPARES: usize = 4;

/// A body compressed with the dictionary that is written with.
pub(super) fn pack(body: &[u8]) -> io::Result<Vec<u8>> {
    let spares = || SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let spare = spares().pop();
    // Made ready when it is used again, which the last one of a short life is not.
    let again = spare.map(|mut used| {
        used.reset();
        used
    });
    let mut compress = again.unwrap_or_else(new);
    let packed = pack_with(&mut compress, body)?;
    let mut spares = spares();
    if spares.len() < SPARES {
        spares.push(compress);
    }
    Ok(packed)
}

fn new() -> Compress {
    Compress::new_with_window_bits(Compression::default(), true, WINDOW_BITS)
}

fn pack_with(compress: &mut Compress, body: &[u8]) -> io::Result<Vec<u8>> {
    let (_, dictionary) = DICTIONARIES[WRITE_WITH];
    compress.set_dictionary(dictionary)?;
    let mut packed = Vec::with_capacity(body.len() / 2 + 64);
    loop {
        let rest = body.get(usize::try_from(compress.total_in()).unwrap_or(usize::MAX)..).unwrap_or_default();
        if compress.compress_vec(rest, &mut packed, FlushCompress::Finish)? == Status::StreamEnd {
            return Ok(packed);
        }
        packed.reserve(body.len() + 64);
    }
}

/// What [`pack`] was given, if that is at most so many bytes; else why it cannot be read.
pub(super) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let mut decompress = Decompress::new(true);
    let mut body = Vec::with_capacity((packed.len() * 6).clamp(1024, most.max(1024)));
    loop {
        let taken = usize::try_from(decompress.total_in()).unwrap_or(usize::MAX);
        let rest = packed.get(taken..).unwrap_or_default();
        match decompress.decompress_vec(rest, &mut body, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return Ok(body),
            Ok(Status::Ok) if body.len() > most => return Err(format!("it unfolds to more than {most} bytes")),
            Ok(_) if body.len() == body.capacity() => body.reserve(body.len()),
            Ok(_) => return Err("it ends too early".to_owned()),
            Err(e) => {
                let id = e.needs_dictionary().ok_or_else(|| e.to_string())?;
                let known = DICTIONARIES.iter().find(|(of, _)| *of == id);
                let (_, dictionary) = known.ok_or_else(|| format!("its dictionary {id:08x} is of another version"))?;
                decompress.set_dictionary(dictionary).map_err(|e| e.to_string())?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As zlib computes it (RFC 1950, section 8.2).
    fn adler_32(bytes: &[u8]) -> u32 {
        let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
            let low = (low + u32::from(*byte)) % 65_521;
            (low, (high + low) % 65_521)
        });
        (high << 16) | low
    }

    #[test]
    fn no_dictionary_was_changed() {
        for (id, dictionary) in DICTIONARIES {
            assert_eq!(adler_32(dictionary), id, "what was written with it could not be read");
            assert!(dictionary.len() < (1 << WINDOW_BITS) - 4096, "a compressor forgets it before the item's end");
        }
    }

    #[test]
    fn a_compressor_that_was_used_packs_as_a_new_one_does() {
        let bodies = [vec![b'a'; 2_000], include_bytes!("dictionary-1.txt").repeat(40), vec![b'b'; 700]];
        for body in bodies.iter().chain(&bodies) {
            let new = pack_with(&mut new(), body).unwrap();
            assert_eq!(pack(body).unwrap(), new);
        }
    }

    #[test]
    fn a_typical_alert_fits_a_write_unit() {
        let alert = include_str!("dictionary-1.txt").replace("CloudTrail", "GuardDuty").replace("warehouse", "garage");
        let packed = pack(alert.as_bytes()).unwrap();
        assert!(packed.len() < alert.len() / 10, "{} bytes of {}", packed.len(), alert.len());
        assert_eq!(unpack(&packed, alert.len()).unwrap(), alert.as_bytes());
    }

    #[test]
    fn what_is_not_ours_or_too_long_is_refused() {
        let packed = pack(&[b'x'; 5_000]).unwrap();
        assert!(unpack(&packed, 4_000).unwrap_err().contains("4000"));
        assert!(unpack(&packed[..packed.len() - 5], 5_000).is_err());
        let mut other = packed.clone();
        other[2] ^= 1;
        assert!(unpack(&other, 5_000).unwrap_err().contains("another version"));
        for broken in [&b""[..], b"x", b"\x1f\x8b\x08", b"no zlib at all"] {
            assert!(unpack(broken, 5_000).is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_was_packed_is_unpacked(body in prop::collection::vec(any::<u8>(), 0..5_000), times in 1..50_usize) {
            let body = body.repeat(times);
            prop_assert_eq!(unpack(&pack(&body).unwrap(), body.len()).unwrap(), body);
        }
    }
}
