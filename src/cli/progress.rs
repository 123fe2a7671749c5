//! What shows that something goes on: on stderr, and on a terminal only.

use std::time::Duration;

use indicatif::ProgressBar;

/// A sign of life with a message beside it; nothing where stderr is no terminal.
pub(super) fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
