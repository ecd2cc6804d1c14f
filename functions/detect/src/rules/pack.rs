//! Our own rules, embedded when the binary is built: their text, and the trees of their documents ([`super::shape`]).

use super::shape::{Document, Item, Reader};

include!(concat!(env!("OUT_DIR"), "/pack.rs"));

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pack.bytes"));
static WORDS: &str = include_str!(concat!(env!("OUT_DIR"), "/pack.words"));

/// Every file of the pack: its name below `rules/`, its text, and its tests' text.
pub(crate) fn files() -> &'static [(&'static str, &'static str, Option<&'static str>)] {
    FILES
}

/// The documents of a file of the pack, by its place among [`files`]. `None` if the build left none, which a test rules
/// out: the text then is read.
pub(super) fn documents(file: usize) -> Option<Vec<Document<'static>>> {
    let (bytes, words) = PLACES.get(file)?;
    Reader::new(BYTES.get(*bytes..)?, WORDS.get(*words..)?).file()
}

/// What the rules of the pack ask of fields, by number. `None` as for [`documents`].
pub(super) fn items() -> Option<Vec<Item<'static>>> {
    let (bytes, words) = ITEMS;
    Reader::new(BYTES.get(bytes..)?, WORDS.get(words..)?).items()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{plain, split};

    #[test]
    fn the_documents_are_those_of_the_texts() {
        assert_eq!(FILES.len(), PLACES.len());
        let (mut trees, mut shared) = (0, 0);
        let items = items().unwrap();
        for (at, (name, text, _)) in files().iter().enumerate() {
            let built = documents(at).unwrap();
            let read = split::documents(text);
            assert_eq!(built.len(), read.len(), "{name}");
            for (built, (line, part)) in built.into_iter().zip(read) {
                assert_eq!((built.line, &text[built.start..built.end]), (line, part), "{name}");
                trees += usize::from(built.tree.is_some());
                shared += usize::from(built.selections.is_some());
                assert_eq!(built.whole(&items), plain::read(part), "{name}");
            }
        }
        assert!(trees * 100 >= files().len() * 95, "{trees} documents are read when the binary is built");
        assert!(shared * 100 >= files().len() * 95, "{shared} rules are made of shared items");
    }
}
