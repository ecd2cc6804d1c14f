//! The plain YAML that nearly all rules are written in, read at a fraction of the cost.
//!
//! In: the text of one document. Out: its tree, or nothing where anything in it is more than plain, so that the whole
//! document goes to the complete YAML parser: what is read here reads there the same, and what is refused is refused
//! by that parser alone. Plain are: mappings and lists by indentation, lists and mappings in brackets on one line, texts
//! without quotes or in quotes on one line, texts below `|` and `>`, and comments. Not plain are: anchors, aliases,
//! tags, texts that go on in the next line, tabs, carriage returns, control characters, keys that come twice.

use std::borrow::Cow;

/// Deepest nesting read here.
const MAX_DEPTH: usize = 32;
/// Longest key in bytes; YAML itself ends at 1,024.
const MAX_KEY_BYTES: usize = 500;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Whole(i64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Map(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Node<'a> {
    /// The value of a key, when this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A text; numbers and the like are none.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn plain(text: &'a str) -> Option<Self> {
        Some(match text {
            "" | "~" | "null" => Self::Null,
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            _ => match text.as_bytes()[0] {
                b'0'..=b'9' if text.bytes().all(|b| b.is_ascii_digit()) => {
                    let fits = text.len() <= 18 && (text.len() == 1 || !text.starts_with('0'));
                    Self::Whole(text.parse().ok().filter(|_| fits)?)
                }
                // What may be a number of another kind, or another spelling of null, true and false.
                b'0'..=b'9' | b'+' | b'-' | b'.' if !is_surely_text(text) => return None,
                b'n' | b'N' | b't' | b'T' | b'f' | b'F' if is_other_spelling(text) => return None,
                _ => Self::Text(Cow::Borrowed(text)),
            },
        })
    }
}

/// Whether something that begins like a number is none, such as a date, an address or `1 of them`.
fn is_surely_text(text: &str) -> bool {
    match text.as_bytes() {
        [b'0', b'x' | b'o' | b'b', rest @ ..] => !rest.iter().all(u8::is_ascii_hexdigit),
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => text.parse::<f64>().is_err(),
        [b'-' | b'.', b'a'..=b'z' | b'A'..=b'Z', ..] => {
            !["inf", "infinity", "nan"].iter().any(|word| text[1..].eq_ignore_ascii_case(word))
        }
        _ => false,
    }
}

fn is_other_spelling(text: &str) -> bool {
    ["null", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A line that holds something.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    indent: usize,
    /// Without indentation.
    text: &'a str,
    /// Its number among all lines.
    number: usize,
}

struct Reader<'a> {
    all: Vec<&'a str>,
    lines: Vec<Line<'a>>,
    at: usize,
}

/// Reads a document; `None` unless all of it is plain.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    if !is_plain_text(text) {
        return None;
    }
    let mut all: Vec<&str> = Vec::with_capacity(text.len() / USUAL_LINE);
    all.extend(text.split('\n'));
    let mut lines = Vec::with_capacity(all.len());
    for (number, line) in all.iter().enumerate() {
        let inner = trim_start(line);
        if !inner.is_empty() && !inner.starts_with('#') {
            lines.push(Line { indent: line.len() - inner.len(), text: trim_end(inner), number });
        }
    }
    let first = usize::from(lines.first().is_some_and(|line| line.indent == 0 && line.text == "---"));
    let mut reader = Reader { all, lines, at: first };
    let begin = reader.lines.get(first)?;
    if begin.indent > 0 || reader.lines[first..].iter().any(|l| l.indent == 0 && is_marker(l.text)) {
        return None;
    }
    let node = reader.map(0, 0)?;
    (reader.at == reader.lines.len()).then_some(node)
}

fn is_marker(text: &str) -> bool {
    text.starts_with("---") || text.starts_with("...") || text.starts_with('%')
}

/// Bytes of a line, rather too few: room for lines is made at once.
const USUAL_LINE: usize = 24;
/// Bytes that are looked at at once.
const LANES: usize = 32;

fn is_plain_text(text: &str) -> bool {
    let (chunks, rest) = text.as_bytes().as_chunks::<LANES>();
    // Without a way out early, all of a chunk are compared at once; few have any such byte.
    let is_usual = |chunk: &[u8]| !chunk.iter().fold(false, |any, byte| any | may_be_rare(*byte));
    let at = |n: usize| n * LANES;
    chunks.iter().enumerate().all(|(n, chunk)| is_usual(chunk) || is_plain_part(text, at(n), LANES))
        && (is_usual(rest) || is_plain_part(text, at(chunks.len()), rest.len()))
}

/// Whether a letter that begins with this byte may be none that stands in plain text.
#[allow(clippy::needless_bitwise_bool, reason = "with ways out early, bytes are compared one by one")]
const fn may_be_rare(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\n') | (byte == 0x7f) | (byte == 0xc2) | (byte == 0xe2) | (byte == 0xef)
}

/// Whether no letter that begins among these bytes is one that YAML reads as the end of a line, or not at all.
fn is_plain_part(text: &str, from: usize, length: usize) -> bool {
    (from..from + length).filter_map(|at| text.get(at..)?.chars().next()).all(|letter| {
        !matches!(letter,
            '\0'..='\u{9}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
                | '\u{fffe}' | '\u{ffff}')
    })
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Line<'a>> {
        self.lines.get(self.at).copied()
    }

    /// A mapping whose keys stand at an indentation.
    fn map(&mut self, indent: usize, depth: usize) -> Option<Node<'a>> {
        let mut entries: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        while let Some(line) = self.peek().filter(|l| l.indent >= indent) {
            if line.indent > indent || depth > MAX_DEPTH {
                return None;
            }
            let (key, rest) = split_key(line.text)?;
            self.at += 1;
            let value = self.value(rest, indent, true, depth)?;
            if entries.iter().any(|(known, _)| *known == key) {
                return None;
            }
            entries.push((key, value));
        }
        (!entries.is_empty()).then_some(Node::Map(entries))
    }

    /// A list whose dashes stand at an indentation.
    fn list(&mut self, indent: usize, depth: usize) -> Option<Node<'a>> {
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|l| l.indent >= indent) {
            if line.indent > indent || depth > MAX_DEPTH {
                return None;
            }
            let Some(rest) = dash(line.text) else {
                // The key after a list at its mapping's own indentation.
                break;
            };
            let inner = trim_start(rest);
            if dash(inner).is_some() {
                return None;
            }
            if split_key(inner).is_some() {
                // A mapping that begins behind the dash: its first key stands where it does.
                let column = indent + (line.text.len() - inner.len());
                self.lines[self.at] = Line { indent: column, text: inner, number: line.number };
                items.push(self.map(column, depth + 1)?);
                continue;
            }
            self.at += 1;
            items.push(self.value(inner, indent, false, depth)?);
        }
        (!items.is_empty()).then_some(Node::List(items))
    }

    /// What stands behind a key or dash at an indentation, or below it.
    fn value(&mut self, rest: &'a str, indent: usize, of_key: bool, depth: usize) -> Option<Node<'a>> {
        let rest = trim_start(rest);
        if rest.is_empty() || rest.starts_with('#') {
            return match self.peek() {
                Some(next) if next.indent > indent => self.block(next, depth + 1),
                // A list may stand at its key's indentation.
                Some(next) if of_key && next.indent == indent && dash(next.text).is_some() => {
                    self.list(indent, depth + 1)
                }
                _ => Some(Node::Null),
            };
        }
        if rest.starts_with(['|', '>']) {
            return self.literal(rest, indent);
        }
        let (node, left) = match rest.as_bytes()[0] {
            b'"' | b'\'' => {
                let (text, left) = quoted(rest)?;
                (Node::Text(text), left)
            }
            b'[' | b'{' => flow(rest, depth + 1)?,
            _ => (Node::plain(plain(rest)?)?, ""),
        };
        let remark = trim_start(left);
        // A comment needs a space before it.
        if !(remark.is_empty() || (remark.starts_with('#') && left.starts_with(' '))) {
            return None;
        }
        // What stands further in below a value goes on with it.
        match self.peek() {
            Some(next) if next.indent > indent => None,
            _ => Some(node),
        }
    }

    fn block(&mut self, first: Line<'a>, depth: usize) -> Option<Node<'a>> {
        if dash(first.text).is_some() { self.list(first.indent, depth) } else { self.map(first.indent, depth) }
    }

    /// A text below `|` or `>`.
    fn literal(&mut self, header: &'a str, indent: usize) -> Option<Node<'a>> {
        let (folded, keep_end) = match header {
            "|" => (false, true),
            "|-" => (false, false),
            ">" => (true, true),
            ">-" => (true, false),
            _ => return None,
        };
        let start = self.lines[self.at - 1].number + 1;
        let first = self.all[start..].iter().position(|line| !line.trim_matches(' ').is_empty())? + start;
        let column = self.all[first].len() - self.all[first].trim_start_matches(' ').len();
        // Empty lines before the text, which may set the indentation, are left to the complete parser.
        if column <= indent || first != start {
            return None;
        }
        let mut text = String::new();
        let (mut end, mut blanks) = (start, 0);
        for line in &self.all[start..] {
            let inner = trim_start(line);
            let here = line.len() - inner.len();
            if inner.is_empty() {
                if here > column {
                    return None;
                }
                blanks += 1;
                end += 1;
                continue;
            }
            if here < column {
                break;
            }
            let body = &line[column..];
            if folded && (body.starts_with(' ') || body.ends_with(' ')) {
                return None;
            }
            if !text.is_empty() {
                match (folded, blanks) {
                    (true, 0) => text.push(' '),
                    (true, n) => text.extend(std::iter::repeat_n('\n', n)),
                    (false, n) => text.extend(std::iter::repeat_n('\n', n + 1)),
                }
            }
            text.push_str(body);
            blanks = 0;
            end += 1;
        }
        if keep_end {
            // Only a line that ends has an end to keep.
            if end >= self.all.len() && blanks == 0 {
                return None;
            }
            text.push('\n');
        }
        while self.peek().is_some_and(|line| line.number < end) {
            self.at += 1;
        }
        // Between the text's indentation and its key's there is nothing.
        match self.peek() {
            Some(next) if next.indent > indent => None,
            _ => Some(Node::Text(Cow::Owned(text))),
        }
    }
}

/// What follows a list's dash.
fn dash(text: &str) -> Option<&str> {
    if text == "-" { Some("") } else { text.strip_prefix("- ") }
}

/// Takes `key: value` apart.
fn split_key(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (key, rest) = match text.as_bytes().first()? {
        b'"' | b'\'' => quoted(text)?,
        first if is_plain_start(*first, text.as_bytes().get(1)) => {
            let at = pair(text, *b": ").or_else(|| text.ends_with(':').then(|| text.len() - 1))?;
            let key = &text[..at];
            // Such a key is a number or the like, or ends in a comment.
            if pair(key, *b" #").is_some()
                || key.ends_with(' ')
                || !matches!(Node::plain(key)?, Node::Text(_))
                || key == "<<"
            {
                return None;
            }
            (Cow::Borrowed(key), &text[at..])
        }
        _ => return None,
    };
    let value = rest.strip_prefix(':')?;
    let apart = value.is_empty() || value.starts_with(' ');
    (apart && !key.is_empty() && key.len() <= MAX_KEY_BYTES).then_some((key, value))
}

/// Where two ASCII letters first stand side by side. Lines are short: the library's search takes longer to begin.
fn pair(text: &str, letters: [u8; 2]) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| pair == letters)
}

fn trim_start(text: &str) -> &str {
    &text[text.bytes().take_while(|b| *b == b' ').count()..]
}

fn trim_end(text: &str) -> &str {
    &text[..text.len() - text.bytes().rev().take_while(|b| *b == b' ').count()]
}

/// Whether a text without quotes may begin so.
fn is_plain_start(first: u8, second: Option<&u8>) -> bool {
    match first {
        b'-' | b'?' | b':' => second.is_some_and(|b| *b != b' '),
        b',' | b'[' | b']' | b'{' | b'}' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"' | b'%' | b'@'
        | b'`' => false,
        _ => true,
    }
}

/// A text without quotes that goes to the line's end or a comment.
fn plain(text: &str) -> Option<&str> {
    if !is_plain_start(text.as_bytes()[0], text.as_bytes().get(1)) {
        return None;
    }
    let text = trim_end(pair(text, *b" #").map_or(text, |at| &text[..at]));
    (pair(text, *b": ").is_none() && !text.ends_with(':')).then_some(text)
}

/// A text in quotes, and what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mark = text.as_bytes()[0];
    let inner = &text[1..];
    if mark == b'\'' {
        let mut from = 0;
        loop {
            let at = inner[from..].find('\'')? + from;
            if inner[at + 1..].starts_with('\'') {
                from = at + 2;
                continue;
            }
            let body = &inner[..at];
            let body = if from == 0 { Cow::Borrowed(body) } else { Cow::Owned(body.replace("''", "'")) };
            return Some((body, &inner[at + 1..]));
        }
    }
    let end = inner.find('"')?;
    if !inner[..end].contains('\\') {
        return Some((Cow::Borrowed(&inner[..end]), &inner[end + 1..]));
    }
    let (mut body, mut letters) = (String::new(), inner.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((Cow::Owned(body), &inner[at + 1..])),
            '\\' => body.push(match letters.next()?.1 {
                letter @ ('\\' | '"' | '/') => letter,
                'n' => '\n',
                't' => '\t',
                _ => return None,
            }),
            letter => body.push(letter),
        }
    }
    None
}

/// A list or mapping in brackets, and what follows it.
fn flow(text: &str, depth: usize) -> Option<(Node<'_>, &str)> {
    if depth > MAX_DEPTH {
        return None;
    }
    let is_list = text.starts_with('[');
    let close = if is_list { ']' } else { '}' };
    let (mut items, mut entries) = (Vec::new(), Vec::<(Cow<'_, str>, Node<'_>)>::new());
    let mut rest = text[1..].trim_start_matches(' ');
    loop {
        if let Some(after) = rest.strip_prefix(close) {
            // A comma at the end is fine, two are not.
            return Some((if is_list { Node::List(items) } else { Node::Map(entries) }, after));
        }
        if is_list {
            let (item, after) = flow_value(rest, depth)?;
            // `[a: b]` is a mapping in a list.
            if after.starts_with(':') {
                return None;
            }
            items.push(item);
            rest = after;
        } else {
            let (key, after) = match flow_value(rest, depth)? {
                (Node::Text(key), after) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => (key, after),
                _ => return None,
            };
            let (value, after) = flow_value(after.strip_prefix(": ")?.trim_start_matches(' '), depth)?;
            if entries.iter().any(|(known, _)| *known == key) || key == "<<" {
                return None;
            }
            entries.push((key, value));
            rest = after;
        }
        rest = rest.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches(' ');
        } else if !rest.starts_with(close) {
            return None;
        }
    }
}

/// A value in brackets, and what follows it without the spaces before.
fn flow_value(text: &str, depth: usize) -> Option<(Node<'_>, &str)> {
    let first = *text.as_bytes().first()?;
    let (node, rest) = match first {
        b'"' | b'\'' => {
            let (text, rest) = quoted(text)?;
            (Node::Text(text), rest)
        }
        b'[' | b'{' => flow(text, depth + 1)?,
        _ => {
            let second = text.as_bytes().get(1);
            if !is_plain_start(first, second) || matches!(first, b'-' | b'?' | b':') {
                return None;
            }
            let bytes = text.as_bytes();
            let end = (0..bytes.len()).find(|at| match bytes[*at] {
                b',' | b'[' | b']' | b'{' | b'}' => true,
                b':' => bytes.get(at + 1).is_none_or(|b| matches!(b, b' ' | b',' | b'?' | b'[' | b']' | b'{' | b'}')),
                b'#' => bytes[at - 1] == b' ',
                _ => false,
            })?;
            if matches!(bytes[end], b'#' | b'[' | b'{') {
                return None;
            }
            (Node::plain(text[..end].trim_end_matches(' '))?, &text[end..])
        }
    };
    Some((node, rest.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the complete parser makes of a document, as [`read`] would say it.
    fn complete(text: &str) -> Option<serde_yaml_ng::Value> {
        serde_yaml_ng::from_str(text).ok()
    }

    fn same(node: &Node<'_>, value: &serde_yaml_ng::Value) -> bool {
        use serde_yaml_ng::Value;
        match (node, value) {
            (Node::Null, Value::Null) => true,
            (Node::Bool(a), Value::Bool(b)) => a == b,
            (Node::Whole(a), Value::Number(b)) => b.as_i64() == Some(*a),
            (Node::Text(a), Value::String(b)) => a == b,
            (Node::List(a), Value::Sequence(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Node::Map(a), Value::Mapping(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|((k, v), (key, value))| key.as_str() == Some(&**k) && same(v, value))
            }
            _ => false,
        }
    }

    /// What is read is what the complete parser reads. Returns whether it was.
    #[track_caller]
    fn agrees(text: &str) -> bool {
        let Some(node) = read(text) else { return false };
        let value = complete(text).unwrap_or_else(|| panic!("not YAML: {text:?} read as {node:?}"));
        assert!(same(&node, &value), "{text:?}\n{node:?}\n{value:?}");
        true
    }

    #[test]
    fn plain_documents_are_read_as_the_complete_parser_reads_them() {
        for text in [
            "a: b",
            "---\na: b # c\nd: 'e # f' # g\n# h\ni: \"j\\n\"\n",
            "a:\n    - b\n    - c: d\n      e: f\n    - g\nh:\n- i\n- j\nk:\n  l:\n  m: 5\n",
            "a: |\n  b\n\n    c # d\n  e\nf: >-\n  g\n  h\n\n  i\nj: k\n",
            "a: >\n  b\n  c\n\n\nd: |-\n    e\n\n",
            "a: [b, 'c, d', 5, {e: f, g: [h]}]\ni: {j: 1, k|l: m}\nn: []\no: {}\n",
            "date: 2026-07-12\nip: 10.0.0.0/8\nu: https://x.y/#z\ntime: 10:30\nv: 1.2.3\nw: 1 of s_*\nx: 0x1-y\nnull_: ~\nn: null\ne:\nt: true\n",
            "'a|b': c\n\"d\": e\nf g: h\n",
            "a: it's\nb: 'it''s'\nc: x:y\nd: a - b\ne: \u{e9}\u{2014}\n",
            "a: -logs\nb: [.amazonaws.com, x]\nc:\n  - .24xlarge\n  - -audit\n  - .5x\n  - -e5\n",
            "a: -\n",
        ] {
            assert!(agrees(text) || text == "a: -\n", "not read: {text:?}");
        }
    }

    #[test]
    fn what_is_more_than_plain_is_left_to_the_complete_parser() {
        for text in [
            "",
            "\n",
            "# x\n",
            "- a\n",
            "a\n",
            " a: b\n",
            "a: b\n c: d\n",
            "a: b\n  c\n",
            "a: 'b\n  c'\n",
            "a: b\na: c\n",
            "a: &b c\n",
            "a: *b\n",
            "a: !b c\n",
            "a:\tb\n",
            "a: b\r\n",
            "a: b: c\n",
            "a: 1.5\n",
            "a: 0x1\n",
            "a: 007\n",
            "a: True\n",
            "a: NULL\n",
            "a: -1\n",
            "a: .5\n",
            "a: .5e3\n",
            "a: -.5\n",
            "a: .inf\n",
            "a: -Inf\n",
            "a: .NaN\n",
            "a: [b,\n  c]\n",
            "a: {b: c, b: d}\n",
            "a: [b:?c]\n",
            "a: [b: c]\n",
            "a: | # b\n  c\n",
            "a: |2\n  c\n",
            "a: |+\n  c\n\n",
            "a: |\n\n  c\n",
            "a: |\n  c",
            "a: >\n  b\n   c\n",
            "1: a\n",
            "true: a\n",
            "<<: {a: b}\n",
            "? a\n: b\n",
            "a: \"\\x41\"\n",
            "a: @b\n",
            "a: `b\n",
            "a: %b\n",
            "a: b\n---\nc: d\n",
            "a: b\n...\n",
            "- - a\n",
            "a: - b\n",
            "a: \u{85}b\n",
            "a: \u{2028}\n",
            "a: 99999999999999999999\n",
            "a: 'b'c\n",
            "a: [b]#c\n",
            "a: [b] c\n",
        ] {
            assert!(read(text).is_none(), "{text:?} was read as {:?}", read(text));
        }
    }

    #[test]
    fn letters_that_yaml_reads_otherwise_are_seen_wherever_they_stand() {
        for letter in (0..=0x11_0000).filter_map(char::from_u32).filter(|c| *c < '\u{3000}' || *c > '\u{fe00}') {
            let usual = letter == '\n'
                || !(letter < ' '
                    || matches!(
                        letter,
                        '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                    ));
            if letter < '\u{10100}' {
                assert_eq!(is_plain_text(&letter.to_string()), usual, "{letter:?}");
            }
            if letter < '\u{100}' || !usual {
                for at in 0..2 * LANES {
                    let text = format!("{}{letter}{}", "a".repeat(at), "—é".repeat(LANES / 2));
                    assert_eq!(is_plain_text(&text), usual, "{letter:?} behind {at}");
                }
            }
        }
    }

    /// Lines of a kind that rules have, in any order and at any indentation.
    fn line() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            Just("a"),
            Just("b: c"),
            Just("- d"),
            Just("- e: f"),
            Just("g:"),
            Just("-"),
            Just("h: |"),
            Just("i: >-"),
            Just("# j"),
            Just(""),
            Just("k: [l, m]"),
            Just("n: {o: p}"),
            Just("q: 'r'"),
            Just("s: \"t\" # u"),
            Just("v: 5"),
            Just("- 'w': x"),
            Just("y|z: ~"),
            Just("- [a]"),
            Just("- |"),
            Just("aa: bb # cc"),
            Just("dd: ee:ff"),
            Just("---"),
            Just("gg : hh"),
            Just("- - ii"),
            Just("jj:  kk  "),
        ];
        (0..4_usize, text).prop_map(|(indent, text)| format!("{}{text}", "  ".repeat(indent)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn any_lines_are_read_the_same_or_not_at_all(lines in prop::collection::vec(line(), 1..9)) {
            agrees(&(lines.join("\n") + "\n"));
        }

        #[test]
        fn any_letters_are_read_the_same_or_not_at_all(value in "[a1 :#'\"\\[\\]{},|>*&!%@?0.~_x+-]{0,10}", list in any::<bool>()) {
            agrees(&if list { format!("a:\n  - {value}\n") } else { format!("a: {value}\n") });
        }
    }
}
