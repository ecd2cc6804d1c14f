//! The stores of one machine: table, queues, timers and search index over one SQLite file.
//!
//! [`Database`] opens the file and gives the adapters of the ports. All of them share one writer, so that
//! concurrent writes become durable together, and read beside it. Several processes may open one file.

mod database;
mod migrations;
mod queue;
mod search;
mod table;
mod timer;
mod writer;

pub use database::{Database, DatabaseError};
