#![allow(clippy::unwrap_used, reason = "tests")]

//! What cannot be had from an emulator: refused entries, throttling, broken messages.
