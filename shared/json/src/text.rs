//! JSON strings: where they end, and what they say.

use wide::u8x16;

use crate::likeness::WORD as LANES;

/// First index from `at` on where a string ends, escapes or breaks: `"`, `\` or a control character; the length of the
/// text where there is none.
#[inline]
pub(crate) fn special(text: &[u8], mut at: usize) -> usize {
    while let Some(lanes) = text.get(at..).and_then(<[u8]>::first_chunk::<LANES>) {
        let end = special_in(lanes);
        if end < LANES {
            return at + end;
        }
        at += LANES;
    }
    while text.get(at).is_some_and(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\')) {
        at += 1;
    }
    at
}

/// The same among these bytes; their number where there is none.
#[inline]
pub(crate) fn special_in(lanes: &[u8; LANES]) -> usize {
    let lanes = u8x16::new(*lanes);
    let quotes = lanes.simd_eq(u8x16::splat(b'"'));
    let backslashes = lanes.simd_eq(u8x16::splat(b'\\'));
    let controls = lanes.min(u8x16::splat(0x1f)).simd_eq(lanes);
    let found = (quotes | backslashes | controls).to_bitmask();
    (found | 1 << LANES).trailing_zeros() as usize
}

/// Why a string is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text ends in it.
    Ends,
    /// What stands at this index.
    At(usize, &'static str),
}

/// Reads on in a string whose first escape is at `at`, and appends what it says from there on; the index behind its
/// closing quote.
pub(crate) fn unescape(text: &[u8], mut at: usize, into: &mut Vec<u8>) -> Result<usize, Fault> {
    loop {
        match text.get(at) {
            None => return Err(Fault::Ends),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(text, at + 1, into)?,
            Some(byte) if *byte < 0x20 => return Err(Fault::At(at, "a control character in a string")),
            Some(_) => {
                let end = special(text, at);
                into.extend_from_slice(&text[at..end]);
                at = end;
            }
        }
    }
}

/// Reads what follows a backslash; the index behind it.
fn escape(text: &[u8], at: usize, into: &mut Vec<u8>) -> Result<usize, Fault> {
    let byte = match text.get(at).ok_or(Fault::Ends)? {
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let (letter, next) = letter(text, at + 1)?;
            into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(next);
        }
        _ => return Err(Fault::At(at, "no such escape")),
    };
    into.push(byte);
    Ok(at + 1)
}

/// A letter in UTF-16, one or two units; the index behind it.
fn letter(text: &[u8], at: usize) -> Result<(char, usize), Fault> {
    const ALONE: &str = "half a surrogate pair";
    let first = unit(text, at)?;
    let next = at + 4;
    if !(0xd800..0xe000).contains(&first) {
        return Ok((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), next));
    }
    match (text.get(next), text.get(next + 1)) {
        (None, _) | (Some(b'\\'), None) => return Err(Fault::Ends),
        (Some(b'\\'), Some(b'u')) if first < 0xdc00 => {}
        _ => return Err(Fault::At(at, ALONE)),
    }
    let second = unit(text, next + 2)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(Fault::At(at, ALONE));
    }
    let letter = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Ok((char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER), next + 6))
}

/// Four hexadecimal digits.
fn unit(text: &[u8], at: usize) -> Result<u32, Fault> {
    let mut unit = 0;
    for at in at..at + 4 {
        let digit = char::from(*text.get(at).ok_or(Fault::Ends)?).to_digit(16);
        unit = unit << 4 | digit.ok_or(Fault::At(at, "no hexadecimal digit"))?;
    }
    Ok(unit)
}
