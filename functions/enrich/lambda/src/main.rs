//! The Lambda of enrich.

fn main() {}
