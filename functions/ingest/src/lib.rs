//! The first stage: bytes of any log that holds CloudTrail records in, normalised events out.
//!
//! [`reader`] cuts records out of whatever wraps them; [`identity`] names them and tells copies apart;
//! [`normalise`] makes the typed envelope; [`lineage`] reads which identities an event made or took on;
//! [`Ingest`] is the handler that does all of it for its inputs and hands the events on; [`notification`] reads
//! which objects of a bucket are inputs, and [`objects`] is the port by which they are opened;
//! [`poll`] asks the CloudTrail API of an account that has no trail.

mod batch;
mod head;
pub mod identity;
mod ingest;
pub mod lineage;
pub mod normalise;
pub mod notification;
pub mod objects;
pub mod poll;
pub mod reader;
mod report;

pub use batch::BATCH_EVENTS;
pub use head::Head;
pub use identity::{Seen, Sight};
pub use ingest::{Ingest, IngestError, Input, Stop};
pub use reader::{Envelope, Found, Limits, Position, ReadError, Reader, Record, read};
pub use report::{Cut, MALFORMED_CAP, MalformedEntry, Report, SetAside};
