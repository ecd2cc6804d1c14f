//! Documents as the build leaves them in the binary: YAML that is read already.
//!
//! In: trees of documents when the binary is built, bytes and words when it runs. Out: the other. Loading our own rules
//! so costs a fraction of reading their text. All texts stand one after the other in one text, which is checked once; the
//! bytes say how long each is. What rules ask of a field is written once, however many rules ask it: their selections
//! name it by its number. Also used by the build itself, so it needs nothing but the standard library.

use std::{borrow::Cow, collections::HashMap};

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
/// A rule whose selections ask for items by their numbers.
const RULE: u8 = 8;

/// The key of a rule below which its selections stand.
const DETECTION: &str = "detection";
/// What stands beside selections and is none.
const NO_SELECTIONS: [&str; 2] = ["condition", "timeframe"];

/// Where the document is in its file, and its tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document<'a> {
    /// Number of its first line, from 1.
    pub(super) line: u32,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) tree: Option<Node<'a>>,
    /// A rule's selections, where all of them are made of items; the tree is then without them.
    pub(super) selections: Option<Vec<(Cow<'a, str>, Selection)>>,
}

/// What a field must be: the field with its modifiers, and its values.
pub(super) type Item<'a> = (Cow<'a, str>, Node<'a>);

/// A selection made of items, by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selection {
    /// All of these items.
    All(Vec<usize>),
    /// All items of any of these.
    Any(Vec<Vec<usize>>),
}

impl<'a> Document<'a> {
    /// A document that was just read.
    #[cfg_attr(not(test), allow(dead_code))] // The build writes, the binary reads.
    pub(super) fn new(line: u32, start: usize, end: usize, tree: Option<Node<'a>>) -> Self {
        Self { line, start, end, tree, selections: None }
    }

    /// The tree with its selections in their place. `None` for a document without a tree, or items that are not its.
    pub(super) fn whole(&self, items: &[Item<'a>]) -> Option<Node<'a>> {
        let mut tree = self.tree.clone()?;
        let Some(selections) = &self.selections else { return Some(tree) };
        let map =
            |numbers: &Vec<usize>| numbers.iter().map(|n| items.get(*n).cloned()).collect::<Option<_>>().map(Node::Map);
        let mut named = Vec::new();
        for (name, selection) in selections {
            let selection = match selection {
                Selection::All(numbers) => map(numbers)?,
                Selection::Any(parts) => Node::List(parts.iter().map(map).collect::<Option<_>>()?),
            };
            named.push((name.clone(), selection));
        }
        let Node::Map(entries) = &mut tree else { return None };
        let (_, Node::Map(detection)) = entries.iter_mut().find(|(key, _)| key == DETECTION)? else { return None };
        named.append(detection);
        *detection = named;
        Some(tree)
    }
}

/// Writes documents.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) words: String,
    /// Each item once, and its number by how it is written.
    items: Vec<(Vec<u8>, String)>,
    numbers: HashMap<(Vec<u8>, String), usize>,
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
                Some(tree) => self.tree(tree),
                None => self.bytes.push(NONE),
            }
        }
    }

    /// Writes the items of all files so far.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) fn items(&mut self) {
        self.number(self.items.len() as u64);
        for (bytes, words) in &self.items {
            self.bytes.extend(bytes);
            self.words.push_str(words);
        }
    }

    fn tree(&mut self, tree: &Node<'_>) {
        let Some((others, selections)) = selections(tree) else { return self.node(tree) };
        self.bytes.push(RULE);
        self.number(selections.len() as u64);
        for (name, selection) in selections {
            self.text(name);
            match selection {
                Node::List(parts) => {
                    self.bytes.push(LIST);
                    self.number(parts.len() as u64);
                    for part in parts {
                        self.numbers(part);
                    }
                }
                one => {
                    self.bytes.push(MAP);
                    self.numbers(one);
                }
            }
        }
        self.node(&others);
    }

    /// The items of a mapping, by their numbers.
    fn numbers(&mut self, map: &Node<'_>) {
        let Node::Map(entries) = map else { return };
        self.number(entries.len() as u64);
        for (key, value) in entries {
            let mut item = Self::default();
            item.text(key);
            item.node(value);
            let item = (item.bytes, item.words);
            let number = *self.numbers.entry(item.clone()).or_insert_with(|| {
                self.items.push(item);
                self.items.len() - 1
            });
            self.number(number as u64);
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

/// A rule without its selections, and these, if all of them are made of items.
fn selections<'t, 'a>(tree: &'t Node<'a>) -> Option<(Node<'a>, Vec<(&'t str, &'t Node<'a>)>)> {
    let Node::Map(entries) = tree else { return None };
    let Node::Map(detection) = tree.get(DETECTION)? else { return None };
    let is_map = |node: &Node<'_>| matches!(node, Node::Map(_));
    let (others, named): (Vec<_>, Vec<_>) = detection.iter().partition(|(key, _)| NO_SELECTIONS.contains(&&**key));
    let usual = named.iter().all(|(_, selection)| match selection {
        Node::List(parts) => parts.iter().all(is_map),
        one => is_map(one),
    });
    // The reader puts selections before everything else.
    if !usual || !detection.iter().zip(&named).all(|(a, b)| a.0 == b.0) {
        return None;
    }
    let others = Node::Map(others.into_iter().cloned().collect());
    let without = |(key, value): &(Cow<'a, str>, Node<'a>)| {
        (key.clone(), if key == DETECTION { others.clone() } else { value.clone() })
    };
    let tree = Node::Map(entries.iter().map(without).collect());
    Some((tree, named.into_iter().map(|(name, selection)| (&**name, selection)).collect()))
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
        let mut selections = None;
        let tree = match *self.bytes.first()? {
            NONE => {
                self.bytes = &self.bytes[1..];
                None
            }
            RULE => {
                self.bytes = &self.bytes[1..];
                selections = Some(self.selections()?);
                Some(self.node()?)
            }
            _ => Some(self.node()?),
        };
        Some(Document { line, start, end, tree, selections })
    }

    /// The items of all files.
    pub(super) fn items(&mut self) -> Option<Vec<Item<'a>>> {
        let count = self.number()?;
        (0..count).map(|_| Some((self.text()?, self.node()?))).collect()
    }

    fn selections(&mut self) -> Option<Vec<(Cow<'a, str>, Selection)>> {
        let count = self.number()?;
        (0..count).map(|_| Some((self.text()?, self.selection()?))).collect()
    }

    fn selection(&mut self) -> Option<Selection> {
        let (kind, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if *kind == MAP {
            return self.numbers().map(Selection::All);
        }
        let count = self.number()?;
        (0..count).map(|_| self.numbers()).collect::<Option<_>>().map(Selection::Any)
    }

    fn numbers(&mut self) -> Option<Vec<usize>> {
        let count = self.number()?;
        (0..count).map(|_| self.number()).collect()
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
            "t: T\ndetection:\n  s: {a: 1, b: [x, y]}\n  o:\n    - {a: 1}\n    - {c: z, a: 1}\n  timeframe: 5m\n  condition: s or o\n",
            "detection:\n  s: {b: [x, y]}\n  condition: s\nt: T\n",
            "detection:\n  condition: s\n  s: {b: [x, y]}\n",
            "detection:\n  s: [word]\n  condition: s\n",
        ];
        let documents = |text| -> Vec<Document<'_>> {
            let all = split::documents(text).into_iter();
            all.map(|(line, part)| Document::new(line, 300, 70_000, plain::read(part))).collect()
        };
        let mut writer = Writer::default();
        for text in texts {
            writer.file(&documents(text));
        }
        let (bytes, words) = (writer.bytes.len(), writer.words.len());
        writer.items();
        let items = Reader::new(&writer.bytes[bytes..], &writer.words[words..]).items().unwrap();
        assert_eq!(items.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a", "b", "c"]);
        let mut reader = Reader::new(&writer.bytes[..bytes], &writer.words);
        let mut shared = 0;
        for text in texts {
            let read = reader.file().unwrap();
            shared += read.iter().filter(|document| document.selections.is_some()).count();
            let whole: Vec<_> =
                read.iter().map(|d| Document { tree: d.whole(&items), selections: None, ..d.clone() }).collect();
            assert_eq!(whole, documents(text), "{text}");
        }
        assert_eq!(shared, 2);
        assert!(reader.file().is_none());
        for cut in 0..bytes {
            let mut reader = Reader::new(&writer.bytes[..cut], &writer.words);
            assert!(texts.iter().any(|_| reader.file().is_none()), "{cut}");
        }
    }
}
