//! State behind ports shaped for DynamoDB: items under a partition and a sort key, conditional writes,
//! time to live, two listing indexes, no joins.
//!
//! [`Table`] is the one port an adapter implements (SQLite in `sentinel-embedded`, DynamoDB later); both
//! pass [`conformance`]. What the stages read and write are the typed stores over it: [`alerts`],
//! [`incidents`], [`lineage`], [`responses`], [`users`].

pub mod table;

pub use table::{Condition, Index, IndexKey, Item, Key, Page, Put, Query, SkRange, Table, TableError, Write};
