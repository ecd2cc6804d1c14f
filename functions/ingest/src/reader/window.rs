//! The part of an input that is held in memory: it slides over the text, grows only while something is
//! held back to be read as a whole, and knows byte offset and line of every place in it.

use std::io::Read;

use super::source::{self, Text};
use super::{
    Position, ReadError,
    spare::{self, Of},
};

/// Bytes asked of the source at a time.
const CHUNK: usize = 256 * 1024;

pub(super) struct Window<'r> {
    /// What is still to be read; `None` when all was there at once.
    source: Option<Box<dyn Read + Send + 'r>>,
    buf: Vec<u8>,
    /// Filled part of `buf`.
    len: usize,
    /// The next byte to look at.
    pos: usize,
    /// From here on nothing may be discarded.
    keep: Option<usize>,
    /// Offset of `buf[0]` in the text.
    base: u64,
    /// A place and the number of its line (from 1).
    mark: usize,
    mark_line: u64,
    ended: bool,
    peak: usize,
}

impl<'r> Window<'r> {
    pub(super) fn new(text: Text<'r>) -> Self {
        let (source, buf, len) = match text {
            Text::Whole(text, len) => (None, text, len),
            Text::Stream(source) => (Some(source), spare::take(Of::Text), 0),
        };
        Self {
            ended: source.is_none(),
            source,
            buf,
            len,
            pos: 0,
            keep: None,
            base: 0,
            mark: 0,
            mark_line: 1,
            peak: len,
        }
    }

    /// The next byte to look at, as an index valid until the next [`more`](Self::more).
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn seek(&mut self, pos: usize) {
        debug_assert!(pos <= self.len);
        self.pos = pos;
    }

    /// Moves on to a place behind which so many lines begin that did not begin before the current one.
    pub(super) fn pass(&mut self, pos: usize, lines: u32) {
        if self.mark == self.pos {
            (self.mark, self.mark_line) = (pos, self.mark_line + u64::from(lines));
        }
        self.seek(pos);
    }

    /// All that is held.
    pub(super) fn held(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// Largest number of bytes ever held.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Holds back everything from the current place on.
    pub(super) fn hold(&mut self) {
        self.keep = Some(self.pos);
    }

    pub(super) fn release(&mut self) {
        self.keep = None;
    }

    /// Reads on. `false` at the end of the text. Indexes taken before are stale: what lies before the held
    /// part is gone, and the place is moved along.
    pub(super) fn more(&mut self) -> Result<bool, ReadError> {
        if self.ended {
            return Ok(false);
        }
        self.discard(self.keep.unwrap_or(self.pos));
        if self.buf.len() - self.len < CHUNK / 2 {
            let wanted = (self.len + CHUNK).max(self.len + self.len / 2);
            self.buf.resize(wanted, 0);
        }
        let Some(source) = &mut self.source else { return Ok(false) };
        let n = loop {
            match source.read(&mut self.buf[self.len..]) {
                Ok(n) => break n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.ended = true;
                    return Err(source::read_error(e));
                }
            }
        };
        self.len += n;
        self.peak = self.peak.max(self.len);
        self.ended = n == 0;
        Ok(n > 0)
    }

    fn discard(&mut self, upto: usize) {
        if upto == 0 {
            return;
        }
        self.move_mark(upto);
        self.buf.copy_within(upto..self.len, 0);
        self.len -= upto;
        self.pos -= upto;
        self.mark -= upto;
        self.base += upto as u64;
        if let Some(keep) = &mut self.keep {
            *keep -= upto;
        }
        if self.buf.len() > 8 * CHUNK && self.len < CHUNK {
            self.buf.truncate(2 * CHUNK);
            self.buf.shrink_to_fit();
        }
    }

    fn move_mark(&mut self, to: usize) {
        if to >= self.mark {
            self.mark_line += newlines(&self.buf[self.mark..to]);
        } else {
            self.mark_line -= newlines(&self.buf[to..self.mark]);
        }
        self.mark = to;
    }

    /// Where an index stands in the text.
    pub(super) fn position(&mut self, at: usize) -> Position {
        self.move_mark(at);
        Position { line: self.mark_line, byte: self.base + at as u64 }
    }

    /// The byte at the current place, reading on as needed; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        while self.pos == self.len {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(Some(self.buf[self.pos]))
    }

    /// Moves past the byte order mark of UTF-8; `Some(name)` when the text is of another encoding.
    pub(super) fn byte_order_mark(&mut self) -> Result<Option<&'static str>, ReadError> {
        while self.len < 3 && self.more()? {}
        match self.held() {
            [0xef, 0xbb, 0xbf, ..] => self.pos = 3,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Ok(Some("UTF-16")),
            _ => {}
        }
        Ok(None)
    }

    /// Moves to the start of the next line.
    pub(super) fn skip_line(&mut self) -> Result<(), ReadError> {
        loop {
            if let Some(i) = memchr::memchr(b'\n', &self.held()[self.pos..]) {
                self.pos += i + 1;
                return Ok(());
            }
            self.pos = self.len;
            if !self.more()? {
                return Ok(());
            }
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        spare::give(Of::Text, std::mem::take(&mut self.buf));
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
