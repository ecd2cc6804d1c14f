//! JSON text as records are read: one walk that leaves what stands where, and no tree.
//!
//! In: text that begins with a JSON value (RFC 8259). Out: a [`Document`], whose [`Value`]s are looked at in the text
//! itself. Rules ask for few of a record's members, so texts, numbers and objects are taken out only when asked for, and
//! memory is used again by the next document ([`Memory`]). The walk knows the whole grammar: what it takes is JSON.
//! Where asked to, it also makes a hash of the whole value ([`Value::likeness`]), for which a tree would have to be walked
//! again.
//!
//! A parser of general use builds a tree. Finding where a record ends, building that and hashing it took more than twice
//! the instructions of this walk, and reading is most of what a scan without rules does.

mod likeness;
mod names;
mod read;
mod shape;
mod text;
mod value;
mod write;

pub use names::Names;
pub use read::{Document, Error, Make, Memory};
pub use shape::Shapes;
pub use value::{Items, Key, Keys, Kind, Members, Value};

#[cfg(test)]
mod tests;
