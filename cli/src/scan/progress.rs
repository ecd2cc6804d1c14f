//! Progress of a scan on a terminal; nothing at all when standard error is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows files done, records read and the file being read.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar over this many files; `indicatif` hides it where standard error is no terminal.
    pub(crate) fn new(files: usize) -> Self {
        let bar = ProgressBar::new(files as u64);
        // The template is a constant and right; were it not, the default style would do.
        let style =
            ProgressStyle::with_template("{spinner} {pos}/{len} files  {prefix} records  {elapsed}  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        // It takes a thread, which nobody would see anything of.
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// A file is being read.
    pub(crate) fn file(&self, name: &str) {
        self.0.set_message(super::output::clean(name));
    }

    /// So many records have been read.
    pub(crate) fn records(&self, records: u64) {
        self.0.set_prefix(records.to_string());
    }

    /// A file is done.
    pub(crate) fn file_done(&self) {
        self.0.inc(1);
    }

    /// All is done: the bar goes.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
