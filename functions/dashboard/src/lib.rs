//! The dashboard stage: the REST API and the web page.
//!
//! [`router`] builds the whole HTTP surface over ports; a binary only binds it to a socket (or to API
//! Gateway). Requests come in as HTTP, answers go out as JSON, errors as RFC 9457 problem details. Nothing
//! here decides about alerts or containment: it asks the stages that do.

pub mod auth;
pub mod error;
mod page;
mod routes;
mod state;

pub use routes::{Operation, operations, router};
pub use state::{Dashboard, Info};
