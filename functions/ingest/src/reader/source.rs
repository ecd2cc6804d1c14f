//! Bytes in, plain text out: gzip is told by its magic number, through several layers, and every layer's
//! output counts towards the input's budget, so that a bomb ends as an error and not as a full machine.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::{
    ReadError,
    spare::{self, Of},
};

mod whole;

/// Layers of gzip that are undone; what is still compressed below them is read as text (and so malformed).
const MAX_LAYERS: usize = 4;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const INPUT_BUFFER: usize = 64 * 1024;

/// Decompressed bytes that an input and all that is wrapped in it may still give.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(limit)), limit }
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        spent.map(|_| ()).map_err(|_| io::Error::other(Cause::TooLarge(self.limit)))
    }
}

/// Why reading stopped, carried through `io::Error` so that decoders pass it on unchanged.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("over the limit of {0} bytes")]
    TooLarge(u64),
    #[error("{0}")]
    Input(io::Error),
    #[error("{0}")]
    Gzip(io::Error),
}

/// Turns an error of a source into the reader's own.
pub(super) fn read_error(e: io::Error) -> ReadError {
    match e.downcast::<Cause>() {
        Ok(Cause::TooLarge(limit)) => ReadError::TooLarge { limit },
        Ok(Cause::Input(e)) | Err(e) => ReadError::Input(e),
        Ok(Cause::Gzip(e)) => ReadError::Decompress(e),
    }
}

/// The input itself: its errors are marked, so that they are not taken for damaged gzip.
struct Input<R>(R);

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|e| {
            // An interrupted read is repeated by whoever asked; it is no failure.
            if e.kind() == io::ErrorKind::Interrupted { e } else { io::Error::other(Cause::Input(e)) }
        })
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.budget.spend(n)?;
        Ok(n)
    }
}

/// An input that failed, behind what it gave before.
struct Fails(Option<io::Error>);

impl Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}

/// One layer of gzip.
struct Gunzip<R: Read>(MultiGzDecoder<BufReader<R>>);

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|e| match e.downcast::<Cause>() {
            Ok(cause) => io::Error::other(cause),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => e,
            Err(e) => io::Error::other(Cause::Gzip(e)),
        })
    }
}

/// An input's text.
pub(super) enum Text<'r> {
    /// All of it: so many bytes of a buffer.
    Whole(Vec<u8>, usize),
    /// To be read piece by piece.
    Stream(Box<dyn Read + Send + 'r>),
}

/// Reads what follows `head` behind it into a buffer, which holds anything, up to a bit more than what is undone in one
/// go; how many bytes were read, and what failed. Only what was never used is made zero.
fn fill(buffer: &mut Vec<u8>, head: &[u8], input: &mut impl Read) -> (usize, Option<io::Error>) {
    let mut length = head.len();
    buffer.resize(buffer.len().max(INPUT_BUFFER), 0);
    buffer[..length].copy_from_slice(head);
    while length as u64 <= whole::MOST_PACKED {
        if length == buffer.len() {
            buffer.resize(2 * length, 0);
        }
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (length, Some(e)),
        }
    }
    (length, None)
}

/// Opens an input: undoes gzip where its magic number stands. `count_plain` says whether text that came
/// uncompressed counts too (it does not when it was part of something counted already).
pub(super) fn open<'r>(
    input: impl Read + Send + 'r,
    budget: &Budget,
    count_plain: bool,
) -> Result<Text<'r>, ReadError> {
    let mut current: Box<dyn Read + Send + 'r> = Box::new(Input(input));
    for layer in 0..=MAX_LAYERS {
        let mut head = Vec::with_capacity(GZIP_MAGIC.len());
        (&mut current).take(GZIP_MAGIC.len() as u64).read_to_end(&mut head).map_err(read_error)?;
        let compressed = head == GZIP_MAGIC && layer < MAX_LAYERS;
        if !compressed {
            let whole = io::Cursor::new(head).chain(current);
            if layer == 0 && count_plain {
                return Ok(Text::Stream(Box::new(Counted { inner: whole, budget: budget.clone() })));
            }
            return Ok(Text::Stream(Box::new(whole)));
        }
        let mut begun = spare::take(Of::Packed);
        let (length, failed) = fill(&mut begun, &head, &mut current);
        if let Some(e) = failed {
            // What came before the failure is read all the same.
            current = Box::new(Fails(Some(e)));
        } else if let Some((mut text, size)) = whole::gunzip(&begun[..length]) {
            spare::give(Of::Packed, begun);
            budget.spend(size).map_err(read_error)?;
            if !text[..size].starts_with(&GZIP_MAGIC) {
                return Ok(Text::Whole(text, size));
            }
            text.truncate(size);
            current = Box::new(io::Cursor::new(text));
            continue;
        }
        begun.truncate(length);
        let rest = io::Cursor::new(begun).chain(current);
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(INPUT_BUFFER, rest));
        current = Box::new(Counted { inner: Gunzip(decoder), budget: budget.clone() });
    }
    Ok(Text::Stream(current))
}
