//! The Lambda of ingest.

fn main() {}
