//! The form that messages have in a queue: JSON, compressed where that pays.
//!
//! In goes any serialisable message, out comes text that fits a queue's body. CloudTrail's JSON shrinks
//! about tenfold, so a compressed body carries ten times the events for the price of one request.

use std::io::{Read, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Serialize, de::DeserializeOwned};

use crate::queue::MAX_BODY_BYTES;

/// JSON text longer than this is compressed.
pub const COMPRESS_ABOVE_BYTES: usize = 4 * 1024;
/// Most bytes that a body may decompress to: what keeps a hostile or broken body from filling memory.
pub const MAX_DECODED_BYTES: usize = 64 * 1024 * 1024;
/// Most JSON bytes that [`split`] puts in one body when it holds several items, so that a handler which
/// takes a batch of messages stays within a small memory.
pub const MAX_SPLIT_BYTES: usize = 8 * 1024 * 1024;

/// More than any message's own fields take beside its list.
const WRAPPING_BYTES: usize = 64 * 1024;
/// Begins a compressed body; no JSON text begins so.
const GZIP_PREFIX: &str = "gz:";

/// What can go wrong with a body. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be written as JSON, or the body is not the JSON expected.
    #[error("the message is not of the expected form: {0}")]
    Json(#[from] serde_json::Error),
    /// The body is not valid base64 of valid gzip of UTF-8 text.
    #[error("the message cannot be decompressed: {0}")]
    Compressed(String),
    /// The body is over [`MAX_BODY_BYTES`] even when compressed.
    #[error("the message takes {0} bytes, over the limit of {MAX_BODY_BYTES}")]
    TooLarge(usize),
    /// The JSON text is over [`MAX_DECODED_BYTES`].
    #[error("the message is over {MAX_DECODED_BYTES} bytes when decompressed")]
    DecodedTooLarge,
    /// Items of a list that fit no message, by position.
    #[error("items {0:?} are too large for a message")]
    Items(Vec<usize>),
}

/// Writes a message as a queue body.
pub fn encode<T: Serialize>(value: &T) -> Result<String, CodecError> {
    let json = serde_json::to_string(value)?;
    if json.len() > MAX_DECODED_BYTES {
        return Err(CodecError::DecodedTooLarge);
    }
    let body = if json.len() > COMPRESS_ABOVE_BYTES { compress(json)? } else { json };
    if body.len() > MAX_BODY_BYTES {
        return Err(CodecError::TooLarge(body.len()));
    }
    Ok(body)
}

/// Reads a message from a queue body.
pub fn decode<T: DeserializeOwned>(body: &str) -> Result<T, CodecError> {
    match body.strip_prefix(GZIP_PREFIX) {
        Some(packed) => Ok(serde_json::from_str(&decompress(packed)?)?),
        None if body.len() > MAX_DECODED_BYTES => Err(CodecError::DecodedTooLarge),
        None => Ok(serde_json::from_str(body)?),
    }
}

/// Bodies for a list, and what fits none.
#[derive(Debug)]
pub struct Split<T> {
    /// Together they hold the items in order, but for those in `too_large`.
    pub bodies: Vec<String>,
    /// Items that alone are over the limit, each with its position.
    pub too_large: Vec<(usize, T)>,
}

/// Writes a list as as few bodies as the limits allow; `wrap` makes the message of a part of the list.
/// Items that fit no message are handed back. An empty list makes no body.
pub fn split<T, U>(items: Vec<T>, wrap: impl Fn(Vec<T>) -> U) -> Result<Split<T>, CodecError>
where
    T: Serialize + Clone,
    U: Serialize,
{
    let mut done = Split { bodies: Vec::new(), too_large: Vec::new() };
    let mut sizes = Vec::with_capacity(items.len());
    for item in &items {
        sizes.push(json_size(item)?);
    }
    // What fits even uncompressed, whatever wraps it within reason, is moved; the rest is tried and cut.
    if !items.is_empty() && sizes.iter().sum::<usize>() + items.len() + WRAPPING_BYTES <= MAX_BODY_BYTES {
        done.bodies.push(encode(&wrap(items))?);
        return Ok(done);
    }
    let mut from = 0;
    while from < items.len() {
        let to = from + fitting(&sizes[from..]);
        pack(&items, from, to, &wrap, &mut done)?;
        from = to;
    }
    Ok(done)
}

/// As [`split`], but an item that fits no message is an error for the whole list.
pub fn encode_split<T, U>(items: Vec<T>, wrap: impl Fn(Vec<T>) -> U) -> Result<Vec<String>, CodecError>
where
    T: Serialize + Clone,
    U: Serialize,
{
    let done = split(items, wrap)?;
    if done.too_large.is_empty() {
        return Ok(done.bodies);
    }
    Err(CodecError::Items(done.too_large.into_iter().map(|(at, _)| at).collect()))
}

/// How many leading items stay within [`MAX_SPLIT_BYTES`]; at least one.
fn fitting(sizes: &[usize]) -> usize {
    let mut total = 0_usize;
    let over = sizes.iter().position(|size| {
        total = total.saturating_add(*size + 1);
        total > MAX_SPLIT_BYTES
    });
    over.unwrap_or(sizes.len()).max(1)
}

/// Writes items `from..to` as one body, or as two halves each where that is too large.
fn pack<T: Serialize + Clone, U: Serialize>(
    items: &[T],
    from: usize,
    to: usize,
    wrap: &impl Fn(Vec<T>) -> U,
    done: &mut Split<T>,
) -> Result<(), CodecError> {
    match encode(&wrap(items[from..to].to_vec())) {
        Ok(body) => done.bodies.push(body),
        Err(CodecError::TooLarge(_) | CodecError::DecodedTooLarge) if to - from == 1 => {
            done.too_large.push((from, items[from].clone()));
        }
        Err(CodecError::TooLarge(_) | CodecError::DecodedTooLarge) => {
            let middle = from + (to - from) / 2;
            pack(items, from, middle, wrap, done)?;
            pack(items, middle, to, wrap, done)?;
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Counts the bytes of a value's JSON without keeping them.
fn json_size<T: Serialize>(value: &T) -> Result<usize, serde_json::Error> {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)?;
    Ok(count.0)
}

/// Compresses text, unless that makes it longer.
fn compress(json: String) -> Result<String, CodecError> {
    let failed = |e: std::io::Error| CodecError::Compressed(e.to_string());
    let mut gzip = GzEncoder::new(Vec::with_capacity(json.len() / 6), Compression::new(4));
    gzip.write_all(json.as_bytes()).map_err(failed)?;
    let packed = gzip.finish().map_err(failed)?;
    let mut body = String::with_capacity(GZIP_PREFIX.len() + packed.len() / 3 * 4 + 4);
    body.push_str(GZIP_PREFIX);
    BASE64_STANDARD.encode_string(packed, &mut body);
    Ok(if body.len() < json.len() { body } else { json })
}

fn decompress(packed: &str) -> Result<String, CodecError> {
    let gzip = BASE64_STANDARD.decode(packed).map_err(|e| CodecError::Compressed(e.to_string()))?;
    let mut text = Vec::new();
    // One byte more than allowed tells "exactly at the cap" from "over it".
    GzDecoder::new(gzip.as_slice())
        .take(MAX_DECODED_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|e| CodecError::Compressed(e.to_string()))?;
    if text.len() > MAX_DECODED_BYTES {
        return Err(CodecError::DecodedTooLarge);
    }
    String::from_utf8(text).map_err(|e| CodecError::Compressed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Batch {
        items: Vec<String>,
    }

    fn wrap(items: Vec<String>) -> Batch {
        Batch { items }
    }

    /// Text that gzip cannot shrink much: hex digits of a running hash.
    fn noise(bytes: usize, seed: u64) -> String {
        let mut state = seed;
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&BASE64_STANDARD.encode(state.to_le_bytes()));
        }
        text.truncate(bytes);
        text
    }

    #[test]
    fn small_messages_stay_readable_and_large_ones_are_compressed() {
        assert_eq!(encode(&wrap(vec!["a".into()])).unwrap(), r#"{"items":["a"]}"#);
        let large = wrap(vec!["abc".repeat(10_000)]);
        let body = encode(&large).unwrap();
        assert!(body.starts_with("gz:") && body.len() < 1_000, "{} bytes", body.len());
        assert_eq!(decode::<Batch>(&body).unwrap(), large);
    }

    #[test]
    fn what_does_not_shrink_stays_plain() {
        let text = noise(6_000, 7);
        assert_eq!(decode::<String>(&encode(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        assert!(matches!(encode(&noise(2_000_000, 1)), Err(CodecError::TooLarge(n)) if n > MAX_BODY_BYTES));
    }

    #[test]
    fn a_body_that_unpacks_to_too_much_is_refused() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let block = vec![b' '; 1024 * 1024];
        for _ in 0..65 {
            gzip.write_all(&block).unwrap();
        }
        let body = format!("gz:{}", BASE64_STANDARD.encode(gzip.finish().unwrap()));
        assert!(body.len() < MAX_BODY_BYTES);
        assert!(matches!(decode::<Batch>(&body), Err(CodecError::DecodedTooLarge)));
    }

    #[test]
    fn broken_bodies_are_errors_not_panics() {
        for body in ["", "gz:", "gz:!!!", "gz:aGVsbG8=", "{", "null", "[1]"] {
            assert!(decode::<Batch>(body).is_err(), "{body}");
        }
        let whole = encode(&wrap(vec!["abc".repeat(10_000)])).unwrap();
        let cut = &whole[..whole.len() / 8 * 4 + GZIP_PREFIX.len()];
        assert!(matches!(decode::<Batch>(cut), Err(CodecError::Compressed(_))));
    }

    #[test]
    fn a_list_is_split_into_bodies_that_fit_and_nothing_is_lost() {
        let items: Vec<String> = (0..30).map(|i| noise(100_000, i)).collect();
        let bodies = encode_split(items.clone(), wrap).unwrap();
        assert!(bodies.len() > 2 && bodies.len() <= 8, "{} bodies", bodies.len());
        let back: Vec<String> = bodies
            .iter()
            .flat_map(|b| {
                assert!(b.len() <= MAX_BODY_BYTES);
                decode::<Batch>(b).unwrap().items
            })
            .collect();
        assert_eq!(back, items);
        assert!(encode_split(Vec::new(), wrap).unwrap().is_empty());
    }

    #[test]
    fn compressible_bodies_are_bounded_by_what_they_unpack_to() {
        let items: Vec<String> = (0..20).map(|_| "x".repeat(1_000_000)).collect();
        assert_eq!(encode_split(items, wrap).unwrap().len(), 3);
    }

    #[test]
    fn an_item_that_fits_nowhere_is_handed_back_and_costs_no_other() {
        let items = vec!["a".to_owned(), noise(2_000_000, 3), "b".to_owned()];
        let done = split(items.clone(), wrap).unwrap();
        assert_eq!(done.too_large.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
        let back: Vec<String> = done.bodies.iter().flat_map(|b| decode::<Batch>(b).unwrap().items).collect();
        assert_eq!(back, ["a", "b"]);
        assert!(matches!(encode_split(items, wrap), Err(CodecError::Items(at)) if at == [1]));
    }

    proptest! {
        #[test]
        fn every_message_comes_back(items in prop::collection::vec(".{0,400}", 0..60)) {
            let batch = wrap(items);
            prop_assert_eq!(decode::<Batch>(&encode(&batch).unwrap()).unwrap(), batch);
        }

        #[test]
        fn decoding_never_panics(body in "(gz:)?.{0,200}") {
            let _ = decode::<Batch>(&body);
        }
    }
}
