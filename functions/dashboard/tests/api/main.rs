//! The whole HTTP surface, asked as a client asks it: the real router over in-memory stores, the real ingest
//! and the real respond over a simulated account.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod alerts;
mod backtests;
mod kill_switch;
mod logs;
mod responses;
mod sessions;
mod surface;
mod users;
mod world;
