//! The sessions of a model, and what becomes of the model when its runs do not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::error::BatchError;
use crate::engine::{CompiledModel, EngineError, Session};
use crate::runtime::threads;

/// Runs that may be given up before the model is taken out of this process: each keeps a thread, and a CPU as long as it
/// calculates.
pub(super) const MOST_LEFT: usize = 3;

/// Loads the model once more, where its runs can be ended.
pub type Rescue = Box<dyn Fn() -> Result<Arc<dyn CompiledModel>, EngineError> + Send + Sync>;

/// The sessions that nobody uses, and the model that makes new ones.
pub(super) struct Sessions {
    held: Mutex<Held>,
    rescue: Mutex<Option<Rescue>>,
    trouble: RwLock<Option<Trouble>>,
    has_moved: AtomicBool,
}

struct Held {
    model: Arc<dyn CompiledModel>,
    /// How often the model was replaced.
    epoch: usize,
    idle: Vec<Box<dyn Session>>,
    /// Runs that were given up since then.
    left: usize,
}

/// Why a model takes no requests.
#[derive(Debug, Clone)]
enum Trouble {
    /// It is on its way into a process of its own.
    Moving,
    /// There is no way to run it safely.
    Refused(Arc<str>),
}

/// A session in use.
pub(super) struct Loan {
    pub(super) session: Box<dyn Session>,
    epoch: usize,
}

impl Sessions {
    pub(super) fn new(model: Arc<dyn CompiledModel>) -> Self {
        Self {
            held: Mutex::new(Held {
                model,
                epoch: 0,
                idle: Vec::new(),
                left: 0,
            }),
            rescue: Mutex::default(),
            trouble: RwLock::default(),
            has_moved: AtomicBool::new(false),
        }
    }

    pub(super) fn set_rescue(&self, rescue: Rescue) {
        *self.rescue.lock() = Some(rescue);
    }

    pub(super) fn model(&self) -> Arc<dyn CompiledModel> {
        Arc::clone(&self.held.lock().model)
    }

    /// Whether the model was moved into a process of its own.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Relaxed)
    }

    /// A session that is there already.
    pub(super) fn idle(&self) -> Option<Loan> {
        let mut held = self.held.lock();
        let session = held.idle.pop()?;
        Some(Loan {
            session,
            epoch: held.epoch,
        })
    }

    /// An idle session, else a new one.
    pub(super) fn take(&self) -> Result<Loan, EngineError> {
        match self.idle() {
            Some(loan) => Ok(loan),
            None => self.fresh(),
        }
    }

    pub(super) fn fresh(&self) -> Result<Loan, EngineError> {
        let (model, epoch) = {
            let held = self.held.lock();
            (Arc::clone(&held.model), held.epoch)
        };
        let session = model.session()?;
        Ok(Loan { session, epoch })
    }

    pub(super) fn give_back(&self, loan: Loan) {
        let mut held = self.held.lock();
        if loan.epoch == held.epoch {
            held.idle.push(loan.session);
        }
    }

    /// Whether requests are taken.
    pub(super) fn check(&self) -> Result<(), BatchError> {
        match &*self.trouble.read() {
            None => Ok(()),
            Some(Trouble::Moving) => Err(BatchError::Moving),
            Some(Trouble::Refused(reason)) => Err(BatchError::Withdrawn(Arc::clone(reason))),
        }
    }

    /// Why no requests are taken, ever.
    pub(super) fn refusal(&self) -> Option<Arc<str>> {
        match &*self.trouble.read() {
            Some(Trouble::Refused(reason)) => Some(Arc::clone(reason)),
            _ => None,
        }
    }

    /// A run was given up. The model goes where its runs can be ended, when that was not the first.
    pub(super) fn left(self: &Arc<Self>) {
        let model = self.model();
        // Where there is a process to end, nothing is left behind.
        if model.end_runs() {
            return;
        }
        let mut held = self.held.lock();
        held.left += 1;
        if held.left != MOST_LEFT {
            return;
        }
        drop(held);
        *self.trouble.write() = Some(Trouble::Moving);
        let sessions = Arc::clone(self);
        let moving = threads::spawn("isolate", move || sessions.move_out());
        if let Err(error) = moving {
            self.refuse(&error.to_string());
        }
    }

    fn move_out(&self) {
        let rescue = self.rescue.lock().take();
        match rescue.map(|rescue| rescue()) {
            Some(Ok(model)) => {
                {
                    let mut held = self.held.lock();
                    held.model = model;
                    held.epoch += 1;
                    held.idle.clear();
                    held.left = 0;
                }
                self.has_moved.store(true, Ordering::Relaxed);
                *self.trouble.write() = None;
                tracing::warn!("a model whose runs did not end runs in a process of its own now");
            }
            Some(Err(error)) => self.refuse(&error.to_string()),
            None => self.refuse("there is no process for it here"),
        }
    }

    fn refuse(&self, why: &str) {
        let reason = format!(
            "{MOST_LEFT} runs of this model did not end, and it cannot be given a process of its own: {why}"
        );
        tracing::error!(reason, "a model takes no more requests");
        *self.trouble.write() = Some(Trouble::Refused(reason.into()));
    }
}
