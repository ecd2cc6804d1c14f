//! The Lambda of detect.

fn main() {}
