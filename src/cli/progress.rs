//! What shows that something goes on: on stderr, and on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish};

/// A sign of life with a message beside it; nothing where stderr is no terminal.
pub(super) fn spinner() -> ProgressBar {
    // Gone from the terminal also where an error ends the command.
    let spinner = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
