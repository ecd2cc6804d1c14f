//! The Lambda of respond.

fn main() {}
