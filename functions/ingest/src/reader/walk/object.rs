//! Objects: cut out whole, or entered when they wrap records; and where to resume when one is broken.

use sentinel_json::{Document, Make};

use super::super::scan::{self, Scanner, Skip, Step};
use super::super::unwrap::{self, Out};
use super::super::{Found, Position, ReadError};
use super::{Context, ENVELOPE_BYTES, Frame, MAX_FRAMES, Next, Walker, starts_afresh};

/// Levels that wrappings may add around a record within one object (`detail`, `_source`).
const ENVELOPE_LEVELS: u32 = 4;

impl Walker<'_> {
    /// An object: read as a whole, or entered when it is a wrapping.
    pub(super) fn candidate(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let position = self.here();
        let start = position;
        if self.quick(position, out) {
            return Ok(Next::Yield);
        }
        self.window.hold();
        let mut scanner = Scanner::new(self.limits.nesting.saturating_add(ENVELOPE_LEVELS));
        let cap = self.limits.record_bytes + ENVELOPE_BYTES;
        loop {
            let from = self.window.pos();
            match scanner.run(&self.window.held()[from..]) {
                Step::More if self.window.held().len() - from > cap => {
                    let reason = format!("larger than {} bytes", self.limits.record_bytes);
                    self.told.now_json(out.sink);
                    self.malformed(position, reason, out.sink);
                    return self.skip(&scanner);
                }
                Step::More => {
                    if !self.window.more()? {
                        self.malformed_candidate(start, position, "the text ends inside an object", out);
                        self.tear();
                        return self.after_broken(start, self.window.held().len());
                    }
                }
                Step::End(length) => {
                    self.examine(position, length, out);
                    let from = self.window.pos();
                    self.window.release();
                    self.window.seek(from + length);
                    return Ok(Next::Yield);
                }
                Step::Container(at) => {
                    self.enter(position, at, out);
                    return Ok(Next::Again);
                }
                Step::TooDeep(_) => {
                    let reason = format!("nested deeper than {} levels", self.limits.nesting);
                    self.told.now_json(out.sink);
                    self.malformed(position, reason, out.sink);
                    return self.skip(&scanner);
                }
                Step::Broken(at, reason) => {
                    let broken = self.window.position(from + at);
                    self.malformed_candidate(start, broken, reason, out);
                    if self.frames.is_empty() {
                        return self.after_broken(start, from + at);
                    }
                    return self.skip(&scanner);
                }
            }
        }
    }

    /// The short way for what nearly all objects are: whole in the window, sound, flat enough, and no wrapping.
    /// `false` when it is none of that; nothing was told or read then.
    fn quick(&mut self, position: Position, out: &mut Out<'_>) -> bool {
        let from = self.window.pos();
        let held = &self.window.held()[from..];
        let held = &held[..held.len().min(self.limits.record_bytes)];
        let memory = std::mem::take(&mut self.memory);
        let document = match Document::read(held, self.limits.nesting as usize, memory, Make::Likeness, scan::wraps) {
            Ok(document) => document,
            Err((_, memory)) => {
                self.memory = memory;
                return false;
            }
        };
        let object = unwrap::Object {
            document: &document,
            envelope: &self.frames.last().map_or(&self.context, Frame::context).envelope,
            position: self.outer.unwrap_or(position),
            control: self.frames.last().map_or(&self.context, Frame::context).control,
        };
        self.told.now_json(out.sink);
        if let Err(reason) = unwrap::examine(&object, out) {
            (out.sink)(Found::Malformed { position: object.position, reason });
        }
        let (length, lines) = (document.text().len(), document.line_ends());
        self.memory = document.into_memory();
        self.window.pass(from + length, lines);
        true
    }

    /// Looks at a finished object.
    fn examine(&mut self, position: Position, length: usize, out: &mut Out<'_>) {
        let context = self.context();
        let shown = self.outer.unwrap_or(position);
        let from = self.window.pos();
        let text = &self.window.held()[from..from + length];
        let deepest = self.limits.nesting.saturating_add(ENVELOPE_LEVELS) as usize;
        match Document::read(text, deepest, std::mem::take(&mut self.memory), Make::Likeness, |_, _| false) {
            Ok(document) => {
                // What is pending is told first, so that the order is the text's.
                self.told.now_json(out.sink);
                let object = unwrap::Object {
                    document: &document,
                    envelope: &context.envelope,
                    position: shown,
                    control: context.control,
                };
                if let Err(reason) = unwrap::examine(&object, out) {
                    (out.sink)(Found::Malformed { position: shown, reason });
                }
                self.memory = document.into_memory();
            }
            Err((error, memory)) => {
                self.memory = memory;
                self.malformed_candidate(position, position, &unwrap::reason(error), out);
            }
        }
    }

    /// Enters the member of a wrapping that holds records; `at` is its bracket, from the held start on.
    fn enter(&mut self, start: Position, at: usize, out: &mut Out<'_>) {
        let from = self.window.pos();
        let outer = self.context();
        let (envelope, control) = unwrap::wrapping(&self.window.held()[from..from + at], &outer.envelope);
        let context = Context { envelope, control: control || outer.control };
        self.told.now_json(out.sink);
        if self.frames.len() >= MAX_FRAMES {
            self.malformed(start, format!("arrays and wrappings nest deeper than {MAX_FRAMES}"), out.sink);
            self.frames.clear();
        }
        self.frames.push(Frame::Object { start, after_value: true, context: context.clone() });
        self.enter_member(start, at, context, out);
    }

    fn enter_member(&mut self, start: Position, at: usize, context: Context, out: &mut Out<'_>) {
        let bracket = self.window.pos() + at;
        self.window.release();
        self.window.seek(bracket);
        if self.window.held()[bracket] == b'[' {
            self.open_array(Some(context), out);
        } else {
            self.skip_byte();
            self.frames.push(Frame::Object { start, after_value: false, context });
        }
    }

    /// Goes on in a wrapping object, behind the member that was read.
    pub(super) fn object(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let Some(Frame::Object { start, after_value, context }) = self.frames.last_mut() else {
            return Ok(Next::Again);
        };
        let (start, context) = (*start, context.clone());
        let mut scanner = Scanner::inside(self.limits.nesting, std::mem::replace(after_value, true));
        self.window.hold();
        let cap = self.limits.record_bytes + ENVELOPE_BYTES;
        let (broken, reason) = loop {
            let from = self.window.pos();
            match scanner.run(&self.window.held()[from..]) {
                Step::More if self.window.held().len() - from > cap => break (start, "a wrapping is too large"),
                Step::More => {
                    if !self.window.more()? {
                        break (start, "the text ends inside an object");
                    }
                }
                Step::End(length) => {
                    self.window.release();
                    self.window.seek(from + length);
                    self.frames.pop();
                    if let Some(parent) = self.array_mut() {
                        parent.after_value = true;
                    }
                    return Ok(Next::Again);
                }
                Step::Container(at) => {
                    self.enter_member(start, at, context, out);
                    return Ok(Next::Again);
                }
                Step::TooDeep(at) => break (self.window.position(from + at), "a wrapping is nested too deep"),
                Step::Broken(at, reason) => break (self.window.position(from + at), reason),
            }
        };
        self.window.release();
        self.malformed(broken, reason.to_owned(), out.sink);
        self.frames.clear();
        self.resync(broken.line)
    }

    /// Skips a value that was told as malformed, to where its next sibling can start.
    fn skip(&mut self, scanner: &Scanner) -> Result<Next, ReadError> {
        let from = self.window.pos();
        self.window.release();
        let at_line_start = from + scanner.reached() > 0 && self.window.held()[from + scanner.reached() - 1] == b'\n';
        let mut skipper = scanner.skipper(at_line_start);
        self.window.seek(from + scanner.reached());
        loop {
            let from = self.window.pos();
            match skipper.run(&self.window.held()[from..]) {
                Skip::More => {
                    self.window.seek(self.window.held().len());
                    if !self.window.more()? {
                        // Told already: the arrays around it have no end either.
                        self.frames.clear();
                        return Ok(Next::Yield);
                    }
                }
                Skip::End(length) => {
                    self.window.seek(from + length);
                    return Ok(Next::Yield);
                }
                Skip::NewLine(length) => {
                    self.window.seek(from + length);
                    self.tear();
                    return Ok(Next::Yield);
                }
            }
        }
    }

    /// Resumes behind a broken value of the top level that started at `start` and broke at index `broken`; its
    /// text is still held.
    fn after_broken(&mut self, start: Position, broken: usize) -> Result<Next, ReadError> {
        let from = self.window.pos();
        let ends = memchr::memchr_iter(b'\n', &self.window.held()[from..broken]);
        let resume = ends.map(|i| from + i + 1).find(|i| self.window.held().get(*i).is_some_and(|b| starts_afresh(*b)));
        self.window.release();
        if let Some(at) = resume {
            self.window.seek(at);
            return Ok(Next::Yield);
        }
        self.window.seek(broken);
        self.resync(start.line)
    }

    /// Moves to the next line that can start a value: any line, when what broke stood on one line.
    fn resync(&mut self, start_line: u64) -> Result<Next, ReadError> {
        let one_line = self.here().line == start_line;
        loop {
            self.window.skip_line()?;
            match self.window.peek()? {
                None => return Ok(Next::Yield),
                Some(byte) if one_line || starts_afresh(byte) => return Ok(Next::Yield),
                Some(_) => {}
            }
        }
    }
}
