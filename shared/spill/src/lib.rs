//! What may be more than memory holds, for those who look at whole inputs.
//!
//! In: records of bytes. Out: the same, in order of their keys ([`Sorter`], and [`Keys`] where there is nothing else) or one
//! by one at the places that they were given ([`Log`]). All hold a budget of bytes in memory and the rest in files without
//! a name, which are gone with them.

mod keys;
mod log;
mod sorter;

pub use keys::Keys;
pub use log::{Log, Pages};
pub use sorter::{Merge, Sorter};
