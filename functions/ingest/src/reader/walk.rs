//! Walks one text: top level, arrays and wrapping objects, handing out each object below them as a slice.
//!
//! Recovery, in short: a broken object of an array costs itself, and reading resumes at its next sibling; a
//! broken value at the top level costs its line (or, when it runs over many lines, all that looks like its
//! inside), and reading resumes at the next line. Text that holds no JSON at all is told once.

use std::io::Read;
use std::sync::Arc;

use super::scan::{self, Scanner, Skip, Step};
use super::unwrap::{self, Examined, Out};
use super::window::Window;
use super::{Envelope, Found, Limits, Position, ReadError};

/// Levels that wrappings may add around a record within one object (`detail`, `_source`).
const ENVELOPE_LEVELS: u32 = 4;
/// Bytes that they may add.
const ENVELOPE_BYTES: usize = 64 * 1024;
/// Arrays and wrapping objects inside each other.
const MAX_FRAMES: usize = 64;
/// Broken lines remembered until it is known whether the text holds any JSON.
const MAX_PENDING: usize = 1_000;

enum Frame {
    Array(Array),
    /// A wrapping object whose member was read; it goes on behind it.
    Object {
        start: Position,
        scanner_after_value: bool,
        envelope: Arc<Envelope>,
        control: bool,
    },
}

struct Array {
    start: Position,
    /// Whether it is a member of a wrapping, which may be empty.
    member: bool,
    objects: bool,
    others: u64,
    first_other: Option<Position>,
    after_value: bool,
    /// Something in it was broken and told: it may lack commas and its end.
    torn: bool,
    envelope: Arc<Envelope>,
    control: bool,
}

pub(super) struct Walker<'r> {
    window: Window<'r>,
    frames: Vec<Frame>,
    envelope: Arc<Envelope>,
    outer: Option<Position>,
    limits: Limits,
    started: bool,
    json_seen: bool,
    pending: Vec<(Position, String)>,
    pending_more: u64,
    last_junk_line: u64,
}

impl<'r> Walker<'r> {
    pub(super) fn new(
        text: Box<dyn Read + Send + 'r>,
        envelope: Arc<Envelope>,
        outer: Option<Position>,
        limits: &Limits,
    ) -> Self {
        Self {
            window: Window::new(text),
            frames: Vec::new(),
            envelope,
            outer,
            limits: limits.clone(),
            started: false,
            json_seen: false,
            pending: Vec::new(),
            pending_more: 0,
            last_junk_line: 0,
        }
    }

    pub(super) fn peak(&self) -> usize {
        self.window.peak()
    }

    /// Where the text stands in the input, when it is a wrapped one.
    pub(super) fn outer(&self) -> Option<Position> {
        self.outer
    }

    /// Ends a wrapped text that cannot be read on.
    pub(super) fn give_up(&mut self, reason: &str, sink: &mut dyn FnMut(Found<'_>)) {
        self.now_json(sink);
        sink(Found::Malformed { position: self.outer.unwrap_or_default(), reason: reason.to_owned() });
    }

    /// Reads up to and with the next object; `false` at the end of the text.
    pub(super) fn step(&mut self, out: &mut Out<'_>) -> Result<bool, ReadError> {
        if !self.started {
            self.started = true;
            if let Some(encoding) = self.window.byte_order_mark()? {
                let position = self.outer.unwrap_or(Position { line: 1, byte: 0 });
                (out.sink)(Found::Malformed { position, reason: format!("{encoding} text; only UTF-8 is read") });
                return Ok(false);
            }
        }
        loop {
            let goes_on = match self.frames.last() {
                None => self.top(out)?,
                Some(Frame::Array(_)) => self.array(out)?,
                Some(Frame::Object { .. }) => self.object(out)?,
            };
            match goes_on {
                Next::Again => {}
                Next::Yield => return Ok(true),
                Next::End => {
                    self.flush_end(out.sink);
                    return Ok(false);
                }
            }
        }
    }

    fn top(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let Some(byte) = self.window.peek()? else { return Ok(Next::End) };
        match byte {
            // Commas between values, and the record separator of JSON text sequences (RFC 7464).
            b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x1e => self.skip_byte(),
            b'{' => return self.candidate(out),
            b'[' => self.open_array(None, out),
            b'"' => {
                if !self.string(out)? {
                    self.junk("neither a JSON object nor an array", out);
                    self.window.skip_line()?;
                }
                return Ok(Next::Yield);
            }
            _ => {
                self.junk("not JSON", out);
                self.window.skip_line()?;
            }
        }
        Ok(Next::Again)
    }

    fn skip_byte(&mut self) {
        self.window.seek(self.window.pos() + 1);
    }

    fn open_array(&mut self, member: Option<(Arc<Envelope>, bool)>, out: &mut Out<'_>) {
        let start = self.here();
        self.skip_byte();
        if self.frames.len() >= MAX_FRAMES {
            self.malformed(start, format!("arrays and wrappings nest deeper than {MAX_FRAMES}"), out.sink);
            self.frames.clear();
            return;
        }
        let (envelope, control) = member.clone().unwrap_or_else(|| match self.frames.last() {
            Some(Frame::Array(a)) => (a.envelope.clone(), a.control),
            Some(Frame::Object { envelope, control, .. }) => (envelope.clone(), *control),
            None => (self.envelope.clone(), false),
        });
        self.frames.push(Frame::Array(Array {
            start,
            member: member.is_some(),
            objects: false,
            others: 0,
            first_other: None,
            after_value: false,
            torn: false,
            envelope,
            control,
        }));
    }

    fn array(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let Some(byte) = self.window.peek()? else {
            self.ends_inside(out);
            return Ok(Next::Again);
        };
        let starts_value = !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']');
        if starts_value && self.array_mut().is_some_and(|a| a.after_value && !a.torn) {
            self.junk("a comma or closing bracket is missing in an array", out);
            self.tear();
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => self.skip_byte(),
            b',' => {
                self.skip_byte();
                if let Some(a) = self.array_mut() {
                    a.after_value = false;
                }
            }
            b']' => {
                self.skip_byte();
                self.close_array(out);
            }
            b'{' => {
                self.array_value(true);
                return self.candidate(out);
            }
            b'[' => {
                self.array_value(true);
                self.open_array(None, out);
            }
            b'"' => {
                let here = self.here();
                let wrapped = self.string(out)?;
                self.array_value(wrapped);
                if !wrapped {
                    self.other(here);
                    self.skip_scalar()?;
                }
                return Ok(Next::Yield);
            }
            _ => {
                let here = self.here();
                if self.literal()? {
                    self.other(here);
                } else {
                    self.junk("not a JSON value", out);
                    self.tear();
                    self.skip_scalar()?;
                }
                self.array_value(false);
            }
        }
        Ok(Next::Again)
    }

    fn array_mut(&mut self) -> Option<&mut Array> {
        match self.frames.last_mut() {
            Some(Frame::Array(a)) => Some(a),
            _ => None,
        }
    }

    fn tear(&mut self) {
        if let Some(a) = self.array_mut() {
            a.torn = true;
        }
    }

    fn array_value(&mut self, object: bool) {
        if let Some(a) = self.array_mut() {
            a.after_value = true;
            a.objects |= object;
        }
    }

    fn other(&mut self, at: Position) {
        if let Some(a) = self.array_mut() {
            a.others += 1;
            a.first_other.get_or_insert(at);
        }
    }

    fn close_array(&mut self, out: &mut Out<'_>) {
        let Some(Frame::Array(a)) = self.frames.pop() else { return };
        if let Some(parent) = self.array_mut() {
            parent.after_value = true;
        }
        if a.torn {
            return;
        }
        self.now_json(out.sink);
        if !a.objects && (a.others > 0 || !a.member) {
            self.malformed(a.start, "an array without any object".to_owned(), out.sink);
        } else if a.others > 0 {
            let reason = format!("{} members of an array are no objects, this is the first", a.others);
            self.malformed(a.first_other.unwrap_or(a.start), reason, out.sink);
        }
    }

    /// Reads a literal of an array; `false` when it is none.
    fn literal(&mut self) -> Result<bool, ReadError> {
        self.window.hold();
        let mut end = 0;
        loop {
            let from = self.window.pos();
            end = scan::literal_end(&self.window.held()[from..], end);
            if from + end < self.window.held().len() || end > 1_000 || !self.window.more()? {
                break;
            }
        }
        self.window.release();
        let from = self.window.pos();
        let text = &self.window.held()[from..from + end];
        let valid = end > 0 && end <= 1_000 && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        if valid {
            self.window.seek(from + end);
        }
        Ok(valid)
    }

    /// Moves behind something in an array that is no object: to a bracket or comma, or the end of the line.
    fn skip_scalar(&mut self) -> Result<(), ReadError> {
        let mut in_string = false;
        let mut escaped = false;
        while let Some(byte) = self.window.peek()? {
            match byte {
                b'\n' => return Ok(()),
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b',' | b']' | b'[' | b'{' if !in_string => return Ok(()),
                _ => {}
            }
            self.skip_byte();
        }
        Ok(())
    }

    /// A string where an object could stand: `true` when it holds JSON of its own, which is then read.
    /// Otherwise nothing is consumed.
    fn string(&mut self, out: &mut Out<'_>) -> Result<bool, ReadError> {
        let position = self.here();
        self.window.hold();
        let cap = self.limits.record_bytes + ENVELOPE_BYTES;
        let mut end = 1;
        let found = loop {
            let from = self.window.pos();
            let text = &self.window.held()[from..];
            end = scan::string_special(text, end);
            match text.get(end) {
                Some(b'"') => break true,
                Some(b'\\') if end + 1 < text.len() => end += 2,
                None | Some(b'\\') if end <= cap => {
                    if !self.window.more()? {
                        break false;
                    }
                }
                _ => break false,
            }
        };
        self.window.release();
        if !found {
            return Ok(false);
        }
        let from = self.window.pos();
        let text = &self.window.held()[from..=from + end];
        let Ok(inner) = sonic_rs::from_slice::<String>(text) else { return Ok(false) };
        if !unwrap::looks_like_json(&inner) {
            return Ok(false);
        }
        let envelope = self.current_envelope();
        out.wrapped.push(unwrap::Wrapped { bytes: inner.into_bytes(), envelope, position });
        self.window.seek(from + end + 1);
        self.now_json(out.sink);
        Ok(true)
    }

    fn current_envelope(&self) -> Arc<Envelope> {
        match self.frames.last() {
            Some(Frame::Array(Array { envelope, .. }) | Frame::Object { envelope, .. }) => envelope.clone(),
            None => self.envelope.clone(),
        }
    }

    /// An object: read as a whole, or entered when it is a wrapping.
    fn candidate(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let position = self.here();
        let start = position;
        self.window.hold();
        let mut scanner = Scanner::new(self.limits.nesting.saturating_add(ENVELOPE_LEVELS));
        let cap = self.limits.record_bytes + ENVELOPE_BYTES;
        loop {
            let from = self.window.pos();
            match scanner.run(&self.window.held()[from..]) {
                Step::More if self.window.held().len() - from > cap => {
                    let reason = format!("larger than {} bytes", self.limits.record_bytes);
                    self.now_json(out.sink);
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
                    self.examine(position, length, scanner.deepest(), out);
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
                    self.now_json(out.sink);
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

    /// Looks at a finished object.
    fn examine(&mut self, position: Position, length: usize, deepest: u32, out: &mut Out<'_>) {
        let control = match self.frames.last() {
            Some(Frame::Array(a)) => a.control,
            _ => false,
        };
        let envelope = self.current_envelope();
        let shown = self.outer.unwrap_or(position);
        let from = self.window.pos();
        // Whatever was pending is told first, so that the order is the text's.
        let text = &self.window.held()[from..from + length];
        let object = unwrap::Object { text, deepest, envelope: &envelope, position: shown, control };
        match unwrap::parse(&object, out.limits) {
            Ok(value) => {
                flush(&mut self.json_seen, &mut self.pending, &mut self.pending_more, out.sink);
                if let Examined::Malformed(reason) = unwrap::examine(&object, value, out) {
                    (out.sink)(Found::Malformed { position: shown, reason });
                }
            }
            Err(reason) => self.malformed_candidate(position, position, &reason, out),
        }
    }

    /// Enters the member of a wrapping that holds records; `at` is its bracket, from the held start on.
    fn enter(&mut self, start: Position, at: usize, out: &mut Out<'_>) {
        let from = self.window.pos();
        let outer = self.current_envelope();
        let head = unwrap::wrapping(&self.window.held()[from..from + at], &outer);
        self.window.release();
        self.window.seek(from + at);
        self.now_json(out.sink);
        let (envelope, control) = (head.envelope, head.control);
        if self.frames.len() >= MAX_FRAMES {
            self.malformed(start, format!("arrays and wrappings nest deeper than {MAX_FRAMES}"), out.sink);
            self.frames.clear();
        }
        self.push_object(start, true, &envelope, control);
        if self.window.held()[from + at] == b'[' {
            self.open_array(Some((envelope, control)), out);
        } else {
            self.skip_byte();
            self.push_object(start, false, &envelope, control);
        }
    }

    fn push_object(&mut self, start: Position, scanner_after_value: bool, envelope: &Arc<Envelope>, control: bool) {
        self.frames.push(Frame::Object { start, scanner_after_value, envelope: envelope.clone(), control });
    }

    /// Goes on in a wrapping object, behind the member that was read.
    fn object(&mut self, out: &mut Out<'_>) -> Result<Next, ReadError> {
        let Some(Frame::Object { start, scanner_after_value, envelope, control }) = self.frames.last_mut() else {
            return Ok(Next::Again);
        };
        let start = *start;
        let mut scanner = Scanner::inside(self.limits.nesting, std::mem::replace(scanner_after_value, true));
        let (envelope, control) = (envelope.clone(), *control);
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
                    self.window.seek(self.window.pos() + length);
                    self.frames.pop();
                    if let Some(parent) = self.array_mut() {
                        parent.after_value = true;
                    }
                    return Ok(Next::Again);
                }
                Step::Container(at) => {
                    let from = self.window.pos();
                    self.window.release();
                    self.window.seek(from + at);
                    if self.window.held()[from + at] == b'[' {
                        self.open_array(Some((envelope, control)), out);
                    } else {
                        self.skip_byte();
                        self.push_object(start, false, &envelope, control);
                    }
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
        let resume = ends.map(|i| from + i + 1).find(|i| self.window.held().get(*i).is_some_and(starts_afresh));
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
                Some(byte) if one_line || starts_afresh(&byte) => return Ok(Next::Yield),
                Some(_) => {}
            }
        }
    }

    fn here(&mut self) -> Position {
        self.window.position(self.window.pos())
    }

    fn ends_inside(&mut self, out: &mut Out<'_>) {
        let outermost = self.frames.iter().find_map(|f| match f {
            Frame::Array(a) => Some((a.start, a.torn)),
            Frame::Object { .. } => None,
        });
        let torn = self.frames.iter().any(|f| matches!(f, Frame::Array(a) if a.torn));
        self.frames.clear();
        if let Some((start, _)) = outermost.filter(|_| !torn) {
            self.malformed(start, "the text ends inside an array".to_owned(), out.sink);
        }
    }

    /// Something between values, told once a line.
    fn junk(&mut self, reason: &str, out: &mut Out<'_>) {
        let here = self.here();
        if self.last_junk_line != here.line {
            self.last_junk_line = here.line;
            self.malformed(here, reason.to_owned(), out.sink);
        }
    }

    fn malformed_candidate(&mut self, start: Position, at: Position, reason: &str, out: &mut Out<'_>) {
        // An object that has at least a key is meant as JSON, however it breaks.
        let from = self.window.pos();
        let head = &self.window.held()[from..];
        if head.iter().skip(1).find(|b| !b.is_ascii_whitespace()) == Some(&b'"') {
            self.now_json(out.sink);
        }
        let place = if at == start { String::new() } else { format!(" (at {at})") };
        self.malformed(start, format!("{reason}{place}"), out.sink);
    }

    fn malformed(&mut self, position: Position, reason: String, sink: &mut dyn FnMut(Found<'_>)) {
        let position = self.outer.unwrap_or(position);
        if self.json_seen {
            sink(Found::Malformed { position, reason });
        } else if self.pending.len() < MAX_PENDING {
            self.pending.push((position, reason));
        } else {
            self.pending_more += 1;
        }
    }

    fn now_json(&mut self, sink: &mut dyn FnMut(Found<'_>)) {
        flush(&mut self.json_seen, &mut self.pending, &mut self.pending_more, sink);
    }

    /// At the end of a text without any JSON: one entry for all of it.
    fn flush_end(&mut self, sink: &mut dyn FnMut(Found<'_>)) {
        let Some((position, reason)) = self.pending.drain(..).next() else { return };
        let reason = if self.last_junk_line > position.line { format!("no JSON in the whole text: {reason}") } else { reason };
        sink(Found::Malformed { position, reason });
    }
}

/// Whether a line's first byte can start something of its own, rather than go on inside a broken value.
fn starts_afresh(byte: &u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'}' | b']')
}

fn flush(
    json_seen: &mut bool,
    pending: &mut Vec<(Position, String)>,
    more: &mut u64,
    sink: &mut dyn FnMut(Found<'_>),
) {
    if std::mem::replace(json_seen, true) {
        return;
    }
    let last = pending.last().map(|(p, _)| *p);
    for (position, reason) in pending.drain(..) {
        sink(Found::Malformed { position, reason });
    }
    if let Some(position) = last.filter(|_| *more > 0) {
        let reason = format!("{} more broken lines follow", std::mem::take(more));
        sink(Found::Malformed { position, reason });
    }
}

enum Next {
    /// Nothing was found yet.
    Again,
    /// Something may have been found.
    Yield,
    /// The text has ended.
    End,
}
