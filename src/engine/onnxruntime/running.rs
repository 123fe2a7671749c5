//! A run of a graph in ONNX Runtime, and what stops it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::session::{RunOptions, Session as OrtSession, SessionInputValue};
use ort::value::DynValue;
use ort::{Error, ErrorCode};
use parking_lot::Mutex;

use super::NAME;
use super::convert::{from_ort, to_ort};
use super::locale::explained;
use crate::engine::{CancelToken, EngineError, Interrupt, Outputs, Session};
use crate::model::{Batch, Signature};
use crate::tensor::Tensor;

/// A run that takes more bytes leaves no memory for the next ones.
const LARGE: u64 = 128 << 20;

/// Gives memory that no tensor has back to the system when a run ends.
const SHRINK: (&str, &str) = ("memory.enable_memory_arena_shrinkage", "cpu:0");

/// What becomes of the memory of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// It is kept for the next ones.
    Runs,
    /// The next run gives back what it can.
    Little,
    /// The same, and so does the run after it: outputs of a large run were in use when it ended.
    LittleTwice,
    /// ONNX Runtime has nothing to give back.
    Nothing,
}

/// A session in use by one thread.
pub(super) struct Running {
    pub(super) session: OrtSession,
    pub(super) signature: Arc<Signature>,
    pub(super) stop: Arc<Stop>,
    pub(super) keeps: Keeps,
}

/// The options of a session's runs, by which another thread stops them. ONNX Runtime has no way to take that back, so
/// that options are used until a run was stopped.
pub(super) struct Stop {
    options: Mutex<Arc<RunOptions>>,
    fired: AtomicBool,
}

impl Stop {
    pub(super) fn new() -> ort::Result<Self> {
        Ok(Self {
            options: Mutex::new(Arc::new(RunOptions::new()?)),
            fired: AtomicBool::new(false),
        })
    }

    fn options(&self) -> Arc<RunOptions> {
        Arc::clone(&self.options.lock())
    }

    /// Other options from here on, unless a run was stopped.
    fn replace(&self, options: RunOptions) {
        let mut own = self.options.lock();
        if !self.fired.load(Ordering::Relaxed) {
            *own = Arc::new(options);
        }
    }
}

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.fired.store(true, Ordering::Relaxed);
        // Not stopped, it ends a little later.
        let _ = self.options().terminate();
    }

    fn clear(&self) {
        if self.fired.swap(false, Ordering::Relaxed)
            && let Ok(fresh) = RunOptions::new()
        {
            *self.options.lock() = Arc::new(fresh);
        }
    }
}

impl Session for Running {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let shrinks = matches!(self.keeps, Keeps::Little | Keeps::LittleTwice);
        let options = self.options();
        let mut answer = self.answer(batch.inputs(), &options);
        if shrinks {
            self.reset_options();
        }
        if let Err(error) = &answer
            && shrinks
            && error.message().contains("shrink")
        {
            // It has no arena; it says so before it runs.
            self.keeps = Keeps::Nothing;
            let options = self.stop.options();
            answer = self.answer(batch.inputs(), &options);
        }
        answer.map_err(|error| {
            if cancel.is_cancelled() {
                return EngineError::Cancelled;
            }
            EngineError::Run {
                engine: NAME,
                reason: explained(&error),
                bad_input: blames_inputs(&error),
            }
        })
    }

    fn expect(&mut self, bytes: u64) {
        if bytes > LARGE && self.keeps != Keeps::Nothing {
            self.keeps = Keeps::LittleTwice;
        }
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.stop) as Arc<dyn Interrupt>)
    }
}

impl Running {
    /// The options of the next run.
    fn options(&mut self) -> Arc<RunOptions> {
        self.keeps = match self.keeps {
            Keeps::Runs | Keeps::Nothing => return self.stop.options(),
            Keeps::LittleTwice => Keeps::Little,
            Keeps::Little => Keeps::Runs,
        };
        let shrinking = || {
            let mut options = RunOptions::new()?;
            options.set(SHRINK.0, SHRINK.1)?;
            Ok::<_, Error>(options)
        };
        // Without it the run is as good.
        if let Ok(options) = shrinking() {
            self.stop.replace(options);
        }
        self.stop.options()
    }

    /// Options of an ordinary run again.
    fn reset_options(&self) {
        if let Ok(options) = RunOptions::new() {
            self.stop.replace(options);
        }
    }

    fn answer(&mut self, inputs: &[Tensor], options: &RunOptions) -> ort::Result<Outputs> {
        let specs = &self.signature.inputs;
        let fits = inputs.len() == specs.len()
            && inputs
                .iter()
                .zip(specs)
                .all(|(tensor, spec)| tensor.dtype() == spec.dtype);
        if !fits {
            let message = "the batch was made for another model";
            return Err(Error::new_with_code(ErrorCode::InvalidArgument, message));
        }
        // An output that is an input is read from these after the run.
        let inputs: Vec<Cow<'_, Tensor>> = inputs.iter().map(Tensor::aligned).collect();
        let feeds = inputs
            .iter()
            .zip(specs)
            .map(|(tensor, spec)| {
                Ok((
                    Cow::Borrowed(spec.name.as_str()),
                    to_ort(tensor, &spec.name)?,
                ))
            })
            .collect::<ort::Result<Vec<(Cow<'_, str>, SessionInputValue<'_>)>>>()?;
        let outputs = self.session.run_with_options(feeds, options)?;
        let mut outputs: Vec<(&str, DynValue)> = outputs.into_iter().collect();
        if outputs.len() > self.signature.outputs.len() {
            outputs = each_once(outputs.into_iter(), |(name, _)| name).collect();
        }
        outputs
            .into_iter()
            .zip(&self.signature.outputs)
            .map(|((_, value), spec)| {
                // An output that is an input lies in the memory of the request, which does not live as long.
                let is_input = specs.iter().any(|input| input.name == spec.name);
                from_ort(value, spec, is_input)
            })
            .collect()
    }
}

/// Whether ONNX Runtime blames what it was given. It says so for what it checks itself; what a kernel finds out has
/// other codes, but with right names, datatypes and ranks it is about sizes and values, unless the kernel, the device
/// or the memory is what was missing.
fn blames_inputs(error: &Error) -> bool {
    let message = error.message();
    match error.code() {
        ErrorCode::InvalidArgument => true,
        ErrorCode::NotImplemented
        | ErrorCode::EngineError
        | ErrorCode::ExecutionProviderFailure
        | ErrorCode::DeviceReset => false,
        _ => {
            message.contains("returned while running")
                && !message.contains("allocate memory")
                // As in `CUDA failure 2: out of memory ; GPU=0 ; hostname=…`.
                && !message.contains(" ; GPU=")
        }
    }
}

/// The first output of each name: a graph may name a value twice, and a [`Signature`] has it once.
pub(super) fn each_once<T>(
    outputs: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> impl Iterator<Item = T> {
    let mut seen = HashSet::new();
    outputs.filter(move |output| seen.insert(name(output).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_blamed_for_sizes_and_values_only() {
        let kernel = |words: &str| format!("Non-zero status code returned while running {words}");
        let cases = [
            (
                ErrorCode::InvalidArgument,
                "Got invalid dimensions".to_owned(),
                true,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Div node. Integer division by zero"),
                true,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Add node. Failed to allocate memory"),
                false,
            ),
            (
                ErrorCode::GenericFailure,
                kernel("Conv node. CUDA failure 2: out of memory ; GPU=0 ; hostname=h"),
                false,
            ),
            (ErrorCode::NotImplemented, kernel("Resize node"), false),
            (ErrorCode::DeviceReset, kernel("Conv node"), false),
            (
                ErrorCode::GenericFailure,
                "the session is gone".to_owned(),
                false,
            ),
        ];
        for (code, message, expected) in cases {
            let error = Error::new_with_code(code, message.as_str());
            assert_eq!(blames_inputs(&error), expected, "{message}");
        }
    }
}
