use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str = "{bar:40} {pos}/{len} tokens, {elapsed}";

/// A progress bar on stderr, removed when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar. It is hidden if stderr is not a terminal, or if a program reads the result.
    pub(crate) fn new(total: usize, is_for_people: bool) -> Self {
        if !is_for_people || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        let bar = ProgressBar::new(total as u64).with_style(style);
        bar.tick();
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    pub(crate) fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
