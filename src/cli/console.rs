//! The two streams: data, and everything else.

use std::fmt;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Exit, Failure};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Where a command writes. The streams strip colours where none are wanted.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Console<'a> {
    /// A console over stdout and stderr, or what stands in for them.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err }
    }

    /// Writes data to stdout.
    ///
    /// # Errors
    /// When it cannot be written; silent when the reader has gone.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes `note: …` to stderr.
    pub fn note(&mut self, text: &str) {
        self.tell(NOTE, "note", text);
    }

    /// Writes why a command failed to stderr.
    pub(super) fn fail(&mut self, failure: &Failure) -> Exit {
        if !failure.is_silent() {
            self.tell(ERROR, "error", &failure.message);
            if let Some(hint) = &failure.hint {
                let _ = self.err.write_all(b"\n");
                self.tell(HINT, "hint", hint);
            }
        }
        failure.exit
    }

    /// Writes what the argument parser has to say: help and version are data.
    pub(super) fn clap(&mut self, error: &clap::Error) -> Exit {
        let text = error.render().ansi().to_string();
        if error.use_stderr() {
            let _ = self.err.write_all(text.as_bytes());
            return Exit::Usage;
        }
        match self.print(&text) {
            Ok(()) => Exit::Fine,
            Err(failure) => self.fail(&failure),
        }
    }

    /// Results are dropped: when stderr is gone there is nobody to tell.
    fn tell(&mut self, style: Style, word: &str, text: &str) {
        let _: io::Result<()> = writeln!(self.err, "{style}{word}{style:#}: {text}");
    }
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}
