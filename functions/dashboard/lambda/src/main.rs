//! The Lambda of dashboard.

fn main() {}
