//! Our own rules, embedded when the binary is built.

include!(concat!(env!("OUT_DIR"), "/pack.rs"));

/// Every file of the pack: its name below `rules/`, its text, and its tests' text.
pub(crate) fn files() -> &'static [(&'static str, &'static str, Option<&'static str>)] {
    FILES
}
