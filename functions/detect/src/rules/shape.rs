//! Documents as the build leaves them in the binary: YAML that is read already.
//!
//! In: trees of documents when the binary is built, bytes and words when it runs. Out: the other. Loading our own rules
//! so costs a fraction of reading their text. All texts stand one after the other in one text, which is checked once; the
//! bytes say how long each is. Also used by the build itself, so it needs nothing but the standard library.

use std::borrow::Cow;

use super::plain::Node;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const WHOLE: u8 = 3;
const TEXT: u8 = 4;
const LIST: u8 = 5;
const MAP: u8 = 6;
/// A document that only the complete parser reads.
const NONE: u8 = 7;

/// Where the document is in its file, and its tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document<'a> {
    /// Number of its first line, from 1.
    pub(super) line: u32,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tree: Option<Node<'a>>,
}

/// Writes documents.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) words: String,
}

impl Writer {
    /// Writes the documents of one file.
    #[cfg_attr(not(test), allow(dead_code))] // The build writes, the binary reads.
    pub(super) fn file(&mut self, documents: &[Document<'_>]) {
        self.number(documents.len() as u64);
        for document in documents {
            self.number(u64::from(document.line));
            self.number(document.start as u64);
            self.number(document.end as u64);
            match &document.tree {
                Some(tree) => self.node(tree),
                None => self.bytes.push(NONE),
            }
        }
    }

    fn node(&mut self, node: &Node<'_>) {
        match node {
            Node::Null => self.bytes.push(NULL),
            Node::Bool(flag) => self.bytes.push(if *flag { TRUE } else { FALSE }),
            Node::Whole(number) => {
                self.bytes.push(WHOLE);
                self.bytes.extend(number.to_le_bytes());
            }
            Node::Text(text) => {
                self.bytes.push(TEXT);
                self.text(text);
            }
            Node::List(items) => {
                self.bytes.push(LIST);
                self.number(items.len() as u64);
                for item in items {
                    self.node(item);
                }
            }
            Node::Map(entries) => {
                self.bytes.push(MAP);
                self.number(entries.len() as u64);
                for (key, value) in entries {
                    self.text(key);
                    self.node(value);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.words.push_str(text);
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    words: &'a str,
}

#[cfg_attr(not(test), allow(dead_code))] // The build writes, the binary reads.
impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], words: &'a str) -> Self {
        Self { bytes, words }
    }

    /// The documents of the next file; `None` for what no writer wrote.
    pub(super) fn file(&mut self) -> Option<Vec<Document<'a>>> {
        let count = self.number()?;
        (0..count).map(|_| self.document()).collect()
    }

    fn document(&mut self) -> Option<Document<'a>> {
        let line = u32::try_from(self.number()?).ok()?;
        let (start, end) = (self.number()?, self.number()?);
        let tree = if self.bytes.first() == Some(&NONE) {
            self.bytes = &self.bytes[1..];
            None
        } else {
            Some(self.node()?)
        };
        Some(Document { line, start, end, tree })
    }

    fn node(&mut self) -> Option<Node<'a>> {
        let (kind, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(match *kind {
            NULL => Node::Null,
            FALSE => Node::Bool(false),
            TRUE => Node::Bool(true),
            WHOLE => {
                let (number, rest) = self.bytes.split_first_chunk()?;
                self.bytes = rest;
                Node::Whole(i64::from_le_bytes(*number))
            }
            TEXT => Node::Text(self.text()?),
            LIST => {
                let count = self.number()?;
                Node::List((0..count).map(|_| self.node()).collect::<Option<_>>()?)
            }
            MAP => {
                let count = self.number()?;
                Node::Map((0..count).map(|_| Some((self.text()?, self.node()?))).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let (text, rest) = self.words.split_at_checked(self.number()?)?;
        self.words = rest;
        Some(Cow::Borrowed(text))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{plain, split};

    #[test]
    fn what_is_written_is_read() {
        let texts = [
            "a: b\nc: [1, 'x', ~, true, false]\nd:\n  e: |\n    f\n    g\n  h: 123456789012\n---\ni: {j: k}\n",
            "a: &b c\n",
            "ä: ö\n",
        ];
        let documents = |text| -> Vec<Document<'_>> {
            let all = split::documents(text).into_iter();
            all.map(|(line, part)| Document { line, start: 300, end: 70_000, tree: plain::read(part) }).collect()
        };
        let mut writer = Writer::default();
        for text in texts {
            writer.file(&documents(text));
        }
        let mut reader = Reader::new(&writer.bytes, &writer.words);
        for text in texts {
            assert_eq!(reader.file().unwrap(), documents(text), "{text}");
        }
        assert!(reader.file().is_none());
        for cut in 0..writer.bytes.len() {
            let mut reader = Reader::new(&writer.bytes[..cut], &writer.words);
            assert!(texts.iter().any(|_| reader.file().is_none()), "{cut}");
        }
    }
}
