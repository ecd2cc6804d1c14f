//! Finds where a JSON value ends, without building it: a small state machine over brackets, strings and the
//! order of commas and colons, fed piece by piece.
//!
//! It knows just enough grammar to notice a broken line where it breaks, so that the next one can be read;
//! numbers, escapes and UTF-8 are left to who reads the finished slice. It is asked where reading an object at once did
//! not go: what is broken, goes on behind what is held, or wraps records. It also notices the
//! members whose arrays are read record by record (`Records` and the like), so that a wrapping of any size is
//! never held.

/// Members of a wrapping that hold records, as far as they can be large.
const CONTAINERS: [&[u8]; 5] = [b"Records", b"Events", b"logEvents", b"hits", b"Messages"];

/// Whether a member that is an array or object is one that is read record by record.
pub(super) fn wraps(key: &[u8], object: bool) -> bool {
    (!object || key == b"hits") && CONTAINERS.contains(&key)
}

/// What the machine wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

/// What came of a run over a piece of text. Indexes count from the start of the text given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All is read, the value goes on.
    More,
    /// The value ends before this index.
    End(usize),
    /// A member that holds records starts here, at its bracket.
    Container(usize),
    /// This byte cannot stand here.
    Broken(usize, &'static str),
    /// This bracket nests too deep.
    TooDeep(usize),
}

/// The machine. One run reads one object.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    at: usize,
    /// One bit a level, set for an object; the innermost is the lowest.
    levels: u128,
    depth: u32,
    limit: u32,
    expect: Expect,
    in_string: bool,
    escaped: bool,
    in_literal: bool,
    key: (usize, usize),
}

impl Scanner {
    /// Deepest nesting the machine can follow.
    pub(super) const DEEPEST: u32 = 120;

    /// For a text that starts at an object's opening bracket.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            at: 0,
            levels: 0,
            depth: 0,
            limit: limit.min(Self::DEEPEST),
            expect: Expect::Value,
            in_string: false,
            escaped: false,
            in_literal: false,
            key: (0, 0),
        }
    }

    /// For a text that starts inside an object: right behind its opening bracket, or behind one of its values.
    pub(super) fn inside(limit: u32, after_value: bool) -> Self {
        let expect = if after_value { Expect::CommaOrEnd } else { Expect::KeyOrEnd };
        Self { levels: 1, depth: 1, expect, ..Self::new(limit) }
    }

    /// How far it has read.
    pub(super) fn reached(&self) -> usize {
        self.at
    }

    /// The lenient reader that goes on from where this one stands.
    pub(super) fn skipper(&self, line_start: bool) -> Skipper {
        Skipper {
            levels: self.levels,
            depth: self.depth,
            beyond: 0,
            in_string: self.in_string,
            escaped: self.escaped,
            line_start,
        }
    }

    /// Reads on in `text`, which starts where the value starts and has grown since the last run.
    pub(super) fn run(&mut self, text: &[u8]) -> Step {
        let mut i = self.at;
        let step = loop {
            if i >= text.len() {
                break Step::More;
            }
            if self.in_string {
                match self.string(text, &mut i) {
                    Some(step) => break step,
                    None => continue,
                }
            }
            if self.in_literal {
                i = literal_end(text, i);
                self.in_literal = i == text.len();
                continue;
            }
            match self.structure(text, i) {
                Ok(next) => i = next,
                Err(step) => break step,
            }
        };
        self.at = match step {
            Step::More => text.len(),
            Step::End(at) | Step::Container(at) | Step::Broken(at, _) | Step::TooDeep(at) => at,
        };
        step
    }

    /// Reads on inside a string; `None` to go on.
    fn string(&mut self, text: &[u8], i: &mut usize) -> Option<Step> {
        if self.escaped {
            if text[*i] < 0x20 {
                return Some(Step::Broken(*i, UNFINISHED));
            }
            self.escaped = false;
            *i += 1;
            return None;
        }
        *i = string_special(text, *i);
        match text.get(*i) {
            None => {}
            Some(b'"') => {
                self.in_string = false;
                if self.expect == Expect::Colon {
                    self.key.1 = *i;
                }
                *i += 1;
            }
            Some(b'\\') => {
                self.escaped = true;
                *i += 1;
            }
            Some(_) => return Some(Step::Broken(*i, UNFINISHED)),
        }
        None
    }

    /// Reads one byte (or a run of white space or a literal) outside strings.
    fn structure(&mut self, text: &[u8], i: usize) -> Result<usize, Step> {
        match text[i] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                let mut i = i + 1;
                while i < text.len() && matches!(text[i], b' ' | b'\t' | b'\r' | b'\n') {
                    i += 1;
                }
                return Ok(i);
            }
            b'"' => {
                self.expect = match self.expect {
                    Expect::Key | Expect::KeyOrEnd => {
                        self.key.0 = i + 1;
                        Expect::Colon
                    }
                    Expect::Value | Expect::ValueOrEnd => Expect::CommaOrEnd,
                    _ => return Err(self.broken(i)),
                };
                self.in_string = true;
            }
            b':' if self.expect == Expect::Colon => self.expect = Expect::Value,
            b',' if self.expect == Expect::CommaOrEnd => {
                self.expect = if self.in_object() { Expect::Key } else { Expect::Value };
            }
            bracket @ (b'{' | b'[') => return self.open(text, i, bracket),
            bracket @ (b'}' | b']') => {
                let object = bracket == b'}';
                let ends = self.expect == Expect::CommaOrEnd
                    || self.expect == if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                if !ends || self.in_object() != object {
                    return Err(self.broken(i));
                }
                self.levels >>= 1;
                self.depth -= 1;
                self.expect = Expect::CommaOrEnd;
                if self.depth == 0 {
                    return Err(Step::End(i + 1));
                }
            }
            byte if is_literal(byte) && matches!(self.expect, Expect::Value | Expect::ValueOrEnd) => {
                self.expect = Expect::CommaOrEnd;
                let end = literal_end(text, i);
                self.in_literal = end == text.len();
                return Ok(end);
            }
            _ => return Err(self.broken(i)),
        }
        Ok(i + 1)
    }

    fn open(&mut self, text: &[u8], i: usize, bracket: u8) -> Result<usize, Step> {
        if !matches!(self.expect, Expect::Value | Expect::ValueOrEnd) {
            return Err(self.broken(i));
        }
        if self.depth == 1 && self.in_object() {
            let key = &text[self.key.0.min(text.len())..self.key.1.min(text.len())];
            if wraps(key, bracket == b'{') {
                // The value is read by others; behind it, this object goes on.
                self.expect = Expect::CommaOrEnd;
                return Err(Step::Container(i));
            }
        }
        if self.depth == self.limit {
            return Err(Step::TooDeep(i));
        }
        self.levels = self.levels << 1 | u128::from(bracket == b'{');
        self.depth += 1;
        self.expect = if bracket == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(i + 1)
    }

    fn in_object(&self) -> bool {
        self.levels & 1 == 1
    }

    fn broken(&self, i: usize) -> Step {
        let reason = match self.expect {
            Expect::Value | Expect::ValueOrEnd => "a value is missing",
            Expect::Key | Expect::KeyOrEnd => "a key is missing",
            Expect::Colon => "a colon is missing",
            Expect::CommaOrEnd => "a comma or closing bracket is missing",
        };
        Step::Broken(i, reason)
    }
}

const UNFINISHED: &str = "a string is not finished";

/// Reads on behind something broken, too deep or too large, by brackets and strings alone, to where its next
/// sibling can start. A closing bracket closes what is open inside its own kind; a line break ends a string
/// (JSON has none inside strings), and a line that begins with an opening brace is taken for a new value.
#[derive(Debug, Clone)]
pub(super) struct Skipper {
    levels: u128,
    depth: u32,
    /// Levels too deep for `levels`.
    beyond: u64,
    in_string: bool,
    escaped: bool,
    line_start: bool,
}

/// What came of a run of the [`Skipper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    /// All is skipped, it goes on.
    More,
    /// The broken value ends before this index.
    End(usize),
    /// A new value starts at this index, at the start of a line.
    NewLine(usize),
}

impl Skipper {
    /// Skips from where the last run stopped. After [`Skip::More`] the next run is given the text that follows.
    pub(super) fn run(&mut self, text: &[u8]) -> Skip {
        let mut i = 0;
        while i < text.len() {
            let byte = text[i];
            if std::mem::take(&mut self.line_start) && byte == b'{' {
                return Skip::NewLine(i);
            }
            i += 1;
            if byte == b'\n' {
                self.in_string = false;
                self.escaped = false;
                self.line_start = true;
            } else if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match byte {
                    b'"' => self.in_string = false,
                    b'\\' => self.escaped = true,
                    _ => i = string_special(text, i),
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.open(byte == b'{'),
                    b'}' | b']' if self.close(byte == b'}') => return Skip::End(i),
                    _ => {}
                }
            }
        }
        Skip::More
    }

    fn open(&mut self, object: bool) {
        if self.depth < Scanner::DEEPEST {
            self.levels = self.levels << 1 | u128::from(object);
            self.depth += 1;
        } else {
            self.beyond += 1;
        }
    }

    /// Whether this bracket closes the whole.
    fn close(&mut self, object: bool) -> bool {
        if self.beyond > 0 {
            self.beyond -= 1;
            return false;
        }
        let same_kind = if object { self.levels } else { !self.levels };
        let level = same_kind.trailing_zeros();
        if level < self.depth {
            self.levels >>= level + 1;
            self.depth -= level + 1;
        }
        self.depth == 0
    }
}

/// First index from `i` on where a string ends, escapes or breaks (`"`, `\`, a control character).
pub(super) fn string_special(text: &[u8], mut i: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_in = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
    while let Some(chunk) = text.get(i..i + 8) {
        let mut word = [0_u8; 8];
        word.copy_from_slice(chunk);
        let x = u64::from_le_bytes(word);
        let quote = zero_in(x ^ (ONES * u64::from(b'"')));
        let backslash = zero_in(x ^ (ONES * u64::from(b'\\')));
        let control = x.wrapping_sub(ONES * 0x20) & !x & HIGHS;
        let any = quote | backslash | control;
        if any != 0 {
            // The lowest mark is exact: borrows only disturb bytes above it.
            return i + (any.trailing_zeros() / 8) as usize;
        }
        i += 8;
    }
    while i < text.len() && text[i] != b'"' && text[i] != b'\\' && text[i] >= 0x20 {
        i += 1;
    }
    i
}

/// Whether a byte can be part of a number or a name (`true`, `NaN`).
pub(super) fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// End of the run of such bytes.
pub(super) fn literal_end(text: &[u8], mut i: usize) -> usize {
    while i < text.len() && is_literal(text[i]) {
        i += 1;
    }
    i
}
