//! How a command fails: what is said, what would help, and the exit code.

use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Fine,
    /// It ran and failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h).
    Config,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it should. Printed as `error: <message>`, a blank line and `hint: <hint>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What was wrong, where, and what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// A command that ran and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(message, Exit::Failed)
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message, Exit::Usage)
    }

    /// A configuration that makes no sense.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(message, Exit::Config)
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    fn new(message: impl Into<String>, exit: Exit) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// Nobody reads our output any more, as with `onstage doctor | head -1`: nothing failed.
    pub(super) fn is_silent(&self) -> bool {
        self.exit == Exit::Fine
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = if error.is_usage() {
            Exit::Usage
        } else {
            Exit::Config
        };
        let hint = error.hint();
        let message = format!("{:#}", anyhow::Error::from(error));
        Self {
            message,
            hint,
            exit,
        }
    }
}

impl From<anyhow::Error> for Failure {
    /// A [`Failure`] inside is kept; of anything else the chain of causes is the message.
    fn from(error: anyhow::Error) -> Self {
        error
            .downcast()
            .unwrap_or_else(|error| Self::failed(format!("{error:#}")))
    }
}

/// A failure to write to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let message = format!("cannot write to stdout: {error}");
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(message, Exit::Fine),
            _ => Self::failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn keeps_hint_and_exit_code_through_anyhow() {
        let failure = Failure::config("bad").hint("be good");
        let error: anyhow::Error = failure.clone().into();
        assert_eq!(Failure::from(error), failure);
    }

    #[test]
    fn prints_the_chain_of_causes_once() {
        let cause: anyhow::Result<()> = Err(io::Error::other("disk on fire").into());
        let error = cause.context("cannot read `x`").unwrap_err();
        assert_eq!(
            Failure::from(error).message,
            "cannot read `x`: disk on fire"
        );
    }
}
