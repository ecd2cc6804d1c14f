//! Who is calling: passwords, sessions, API tokens, lockout, and what each role may do.

pub mod accounts;
pub mod caller;
pub mod password;
pub mod token;

pub use caller::{Access, Caller, Rights};
