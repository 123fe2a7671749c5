//! What shows that something goes on: on stderr, and on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A sign of life with a message beside it; nothing where stderr is no terminal.
pub(super) fn spinner() -> ProgressBar {
    // Gone from the terminal also where an error ends the command.
    let spinner = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// How many of `count` things are done, with a message beside it; nothing where stderr is no terminal.
pub(super) fn steps(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {msg}");
    let style = style.expect("the template is well-formed");
    let bar = ProgressBar::new(count as u64).with_style(style);
    let bar = bar.with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
