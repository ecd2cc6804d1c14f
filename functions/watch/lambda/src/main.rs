//! The Lambda of watch.

fn main() {}
