//! Walks one text: top level, arrays and wrapping objects, handing out each object below them as a slice.
//!
//! Recovery, in short: a broken object of an array costs itself, and reading resumes at its next sibling; a
//! broken value at the top level costs its line (or, when it runs over many lines, all that looks like its
//! inside), and reading resumes at the next line. Text that holds no JSON at all is told once.

use std::sync::Arc;

use sentinel_json::{Document, Make, Memory};

use super::scan;
use super::source::Text;
use super::unwrap::{self, Out};
use super::window::Window;
use super::{Envelope, Found, Limits, Position, ReadError};

mod object;
mod packed;
mod told;

use told::Told;

/// Bytes that they may add.
const ENVELOPE_BYTES: usize = 64 * 1024;
/// Arrays and wrapping objects inside each other.
const MAX_FRAMES: usize = 64;

enum Frame {
    Array(Array),
    /// A wrapping object whose member was read; it goes on behind it.
    Object {
        start: Position,
        /// Whether a value was read in it, so that a comma or its end is next.
        after_value: bool,
        context: Context,
    },
}

impl Frame {
    fn context(&self) -> &Context {
        match self {
            Self::Array(Array { context, .. }) | Self::Object { context, .. } => context,
        }
    }
}

/// What wrappings say of all that is in them.
#[derive(Clone)]
struct Context {
    envelope: Arc<Envelope>,
    /// Whether it is a control message of CloudWatch Logs.
    control: bool,
}

struct Array {
    start: Position,
    /// Whether it is a member of a wrapping, which may be empty.
    member: bool,
    objects: u64,
    others: u64,
    first_other: Option<Position>,
    after_value: bool,
    /// Something in it was broken and told: it may lack commas and its end.
    torn: bool,
    context: Context,
}

pub(super) struct Walker<'r> {
    window: Window<'r>,
    frames: Vec<Frame>,
    context: Context,
    outer: Option<Position>,
    limits: Limits,
    started: bool,
    told: Told,
    last_junk_line: u64,
    /// What the last object was read with.
    memory: Memory,
}

impl<'r> Walker<'r> {
    pub(super) fn new(text: Text<'r>, envelope: Arc<Envelope>, outer: Option<Position>, limits: &Limits) -> Self {
        Self {
            window: Window::new(text),
            frames: Vec::new(),
            context: Context { envelope, control: false },
            outer,
            limits: limits.clone(),
            started: false,
            told: Told::default(),
            last_junk_line: 0,
            memory: Memory::default(),
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
        self.told.now_json(sink);
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
                    self.told.end(self.last_junk_line, out.sink);
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
            b'H' if self.packed(out)? => return Ok(Next::Yield),
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

    fn open_array(&mut self, member: Option<Context>, out: &mut Out<'_>) {
        let start = self.here();
        self.skip_byte();
        if self.frames.len() >= MAX_FRAMES {
            self.malformed(start, format!("arrays and wrappings nest deeper than {MAX_FRAMES}"), out.sink);
            self.frames.clear();
            return;
        }
        let is_member = member.is_some();
        let context = member.unwrap_or_else(|| self.context());
        self.frames.push(Frame::Array(Array {
            start,
            member: is_member,
            objects: 0,
            others: 0,
            first_other: None,
            after_value: false,
            torn: false,
            context,
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
            a.objects += u64::from(object);
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
        self.told.now_json(out.sink);
        if a.objects == 0 && (a.others > 0 || !a.member) {
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
        let Ok(document) = Document::read(text, 0, Memory::default(), Make::Places, |_, _| false) else {
            return Ok(false);
        };
        let Some(inner) = document.root().as_str().filter(|inner| unwrap::looks_like_json(inner)) else {
            return Ok(false);
        };
        let envelope = self.context().envelope;
        out.wrapped.push(unwrap::Wrapped { bytes: inner.as_bytes().to_vec(), envelope, position });
        self.window.seek(from + end + 1);
        self.told.now_json(out.sink);
        Ok(true)
    }

    fn context(&self) -> Context {
        self.frames.last().map_or(&self.context, Frame::context).clone()
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
            self.told.now_json(out.sink);
        }
        let place = if at == start { String::new() } else { format!(" (at {at})") };
        self.malformed(start, format!("{reason}{place}"), out.sink);
    }

    fn malformed(&mut self, position: Position, reason: String, sink: &mut dyn FnMut(Found<'_>)) {
        self.told.malformed(self.outer.unwrap_or(position), reason, sink);
    }
}

/// Whether a line's first byte can start something of its own, rather than go on inside a broken value.
fn starts_afresh(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'}' | b']')
}

enum Next {
    /// Nothing was found yet.
    Again,
    /// Something may have been found.
    Yield,
    /// The text has ended.
    End,
}
