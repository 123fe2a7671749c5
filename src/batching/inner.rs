//! What runners do with the queue of one servable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cost::Costs;
use super::error::BatchError;
use super::group::{join_outputs, split_outputs};
use super::options::{BatchObserver, BatcherConfig};
use super::policy::{Decision, LastRun, QueueView, WorkConserving};
use super::pool::{RunnerPool, Seat, Work};
use super::queue::{Entry, Queue};
use super::room::Room;
use super::run::{Owner, Run};
use super::sessions::{Loan, Sessions};
use crate::budget::Allowance;
use crate::engine::{EngineError, Outputs};
use crate::model::{Batch, Needs};
use crate::telemetry::Trace;

/// A moment in which clients ask again is this part of what a run of one row takes, which is what it may save each time.
const REGROUP_SHARE: u32 = 16;

/// A shorter moment would mostly go by with looking again.
const SHORTEST_REGROUP_WINDOW: Duration = Duration::from_micros(200);

/// Clients that are not quicker than this do not ask again at once.
const LONGEST_REGROUP_WINDOW: Duration = Duration::from_millis(2);

/// What a batcher and the runners share.
pub(super) struct Inner {
    /// Weak, lest a runner that drops the last batcher joins itself.
    pub(super) pool: Mutex<Weak<RunnerPool>>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) room: Room,
    pub(super) policy: WorkConserving,
    pub(super) observer: Arc<dyn BatchObserver>,
    pub(super) config: BatcherConfig,
    pub(super) costs: Costs,
    /// Turned off when outputs turn out not to have the rows of the inputs.
    pub(super) groups: AtomicBool,
    pub(super) queue: Mutex<Queue>,
}

impl Inner {
    pub(super) fn limit(&self) -> usize {
        if !self.groups.load(Ordering::Relaxed) {
            return 1;
        }
        let learned = || self.costs.limit();
        self.config.max_rows.unwrap_or_else(learned).max(1)
    }

    /// What a run of this request takes; an error when there is not so much memory, however it is cut.
    pub(super) fn needs(&self, batch: &Batch) -> Result<Needs, BatchError> {
        let needs = self.room.needs(&[batch]);
        let is_too_much =
            self.room.is_too_much(needs) && self.part_that_fits(batch, batch.rows()).is_none();
        if is_too_much {
            return Err(self.room.too_much(needs.bytes));
        }
        Ok(needs)
    }

    /// The most rows, of so many, of a part of this request for which there may be memory, where rows are independent.
    fn part_that_fits(&self, batch: &Batch, most: usize) -> Option<usize> {
        if !self.groups.load(Ordering::Relaxed) || !batch.is_even() {
            return None;
        }
        let whole = self.room.needs(&[batch]);
        let mut parts =
            std::iter::successors(Some(most), |rows| (*rows > 1).then(|| rows.div_ceil(2)));
        parts.find(|rows| {
            let part = self.room.needs_of_rows(batch, *rows);
            !self.room.part_is_too_much(part, whole)
        })
    }

    /// Runs a request on the calling thread when that is expected to be quicker than handing it over. Gives it back
    /// otherwise.
    pub(super) fn run_in_place(
        &self,
        batch: Batch,
        needs: Needs,
        trace: Option<&Trace>,
    ) -> Result<Result<Outputs, BatchError>, Batch> {
        let rows = u32::try_from(batch.rows()).unwrap_or(u32::MAX);
        let expected = self.costs.expected();
        let quick = expected.is_some_and(|row| row.saturating_mul(rows) < self.config.in_place);
        // Those that wait were first.
        let may_be_here = self.room.may_be_in_place(needs) && !self.sessions.has_moved();
        if !quick || !may_be_here || !self.queue.lock().is_idle() {
            return Err(batch);
        }
        let Some(loan) = self.sessions.idle() else {
            return Err(batch);
        };
        let _memory = match self.room.take(needs) {
            Ok(memory) => memory,
            Err(error) => {
                self.sessions.give_back(loan);
                return Ok(Err(error));
            }
        };
        self.observer.queued(Duration::ZERO);
        let spans = trace.map(|trace| trace.child("batch", Instant::now()));
        let run = Run::new(1, spans.into_iter().collect(), None);
        Ok(self.timed(&batch, &run, |batch| self.with_session(loan, batch, &run)))
    }

    pub(super) fn push(
        self: &Arc<Self>,
        entry: Entry,
        pool: &RunnerPool,
    ) -> Result<(), BatchError> {
        let mut queue = self.queue.lock();
        if self.refusal(&queue, &entry).is_some() {
            // Those that would not reach the engine make room first.
            queue.purge(entry.enqueued);
        }
        if let Some(refusal) = self.refusal(&queue, &entry) {
            return Err(refusal);
        }
        queue.push(entry);
        self.observer.depth(queue.len());
        let needs_turn = queue.turns < self.config.instances.max(1);
        queue.turns += usize::from(needs_turn);
        drop(queue);
        if needs_turn {
            pool.schedule(Arc::clone(self) as Arc<dyn Work>);
        }
        Ok(())
    }

    /// Why a request is better refused at once: it would not be answered in time, and keep others from it.
    fn refusal(&self, queue: &Queue, entry: &Entry) -> Option<BatchError> {
        let waiting = queue.len();
        if waiting >= self.config.max_queue_size {
            return Some(BatchError::QueueFull(waiting));
        }
        // The other half is for other models.
        let all = entry
            .batch
            .allowance()
            .map_or(usize::MAX, Allowance::of_process);
        if waiting > 0 && queue.bytes().saturating_add(entry.bytes) > all / 2 {
            return Some(BatchError::QueueHeavy { waiting });
        }
        let rows = u32::try_from(queue.rows_before(entry.terms.urgent)).unwrap_or(u32::MAX);
        let runners = u32::try_from(self.config.instances.max(1)).unwrap_or(u32::MAX);
        // No more than a guess, and a short one: other models need the runners too.
        let wait = self.costs.per_row()?.saturating_mul(rows) / runners;
        let is_late = entry.enqueued.checked_add(wait)? > entry.terms.deadline?;
        (is_late && waiting > 0).then_some(BatchError::WouldMissDeadline { waiting, wait })
    }

    /// What a run that ends now, of so many rows, says of those that come next.
    fn last_run(&self, rows: usize) -> Option<LastRun> {
        let moment = (self.costs.single()? / REGROUP_SHARE).min(LONGEST_REGROUP_WINDOW);
        (moment >= SHORTEST_REGROUP_WINDOW).then(|| LastRun {
            rows,
            regroup_until: Instant::now() + moment,
        })
    }

    /// The next requests to run together, and how many had come by then; those without a listener or past their deadline
    /// leave here.
    fn take(self: &Arc<Self>) -> (Vec<Entry>, u64) {
        let now = Instant::now();
        let limit = self.limit();
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        while taken.is_empty() {
            queue.purge_front(now);
            let view = QueueView {
                rows: queue.rows(limit, now),
                limit,
                oldest: queue.oldest(),
                last: queue.last,
            };
            match self.policy.decide(&view, now) {
                Decision::Idle => break,
                Decision::Dispatch(limit) => taken = queue.take(limit, now),
                Decision::WaitUntil(at) => {
                    let parks = !std::mem::replace(&mut queue.parked, true);
                    let pool = self.pool.lock().upgrade();
                    if let Some(pool) = pool.filter(|_| parks) {
                        pool.look_again_at(at, Arc::clone(self) as Arc<dyn Work>);
                    }
                    break;
                }
            }
        }
        self.observer.depth(queue.len());
        (taken, queue.arrived)
    }

    /// Runs requests that may join; each gets its own rows.
    fn run_entries(self: &Arc<Self>, entries: Vec<Entry>) {
        let now = Instant::now();
        for entry in &entries {
            self.observer.queued(now - entry.enqueued);
            if let Some(trace) = &entry.trace {
                trace.child("queue", entry.enqueued).end_at(now);
            }
        }
        self.run_together(entries);
    }

    /// Runs them together as far as there is memory for that.
    fn run_together(self: &Arc<Self>, mut entries: Vec<Entry>) {
        if entries.len() < 2 {
            entries.into_iter().for_each(|entry| self.run_alone(entry));
            return;
        }
        let batches: Vec<&Batch> = entries.iter().map(|entry| &entry.batch).collect();
        let Ok(memory) = self.room.take(self.room.needs(&batches)) else {
            let others = entries.split_off(entries.len() / 2);
            self.run_together(entries);
            self.run_together(others);
            return;
        };
        self.run_joined(entries);
        drop(memory);
    }

    fn run_joined(self: &Arc<Self>, mut entries: Vec<Entry>) {
        let run = Run::for_entries(&entries, Instant::now(), self.owner());
        entries.retain(|entry| entry.begin(&run));
        let batches: Vec<&Batch> = entries.iter().map(|entry| &entry.batch).collect();
        let rows: Vec<usize> = batches.iter().map(|batch| batch.rows()).collect();
        let joined = Batch::join(&batches);
        let result =
            joined.map(|joined| self.timed(&joined, &run, |batch| self.run_batch(batch, &run)));
        match result {
            Some(Ok(outputs)) => match split_outputs(&outputs, &rows) {
                Some(parts) => {
                    for (entry, part) in entries.into_iter().zip(parts) {
                        // The client may have gone meanwhile.
                        let _ = entry.reply.send(Ok(part));
                    }
                    return;
                }
                None => {
                    tracing::warn!(
                        "outputs do not have the rows of the inputs: requests of this model run alone from here on"
                    );
                    self.groups.store(false, Ordering::Relaxed);
                }
            },
            // Stopped, as nobody waits for any of them.
            Some(Err(BatchError::Engine(EngineError::Cancelled))) => return,
            // Whichever it was that ended the process must not end the next one.
            Some(Err(BatchError::Engine(EngineError::Lost {
                engine,
                reason,
                process,
            }))) => {
                for entry in entries {
                    let lost = EngineError::Lost {
                        engine,
                        reason: reason.clone(),
                        process,
                    };
                    let _ = entry.reply.send(Err(lost.into()));
                }
                return;
            }
            // One of them is to blame; the others must not pay for it.
            Some(Err(_)) | None => {}
        }
        entries.into_iter().for_each(|entry| self.run_alone(entry));
    }

    fn owner(self: &Arc<Self>) -> Weak<dyn Owner> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    fn run_alone(self: &Arc<Self>, entry: Entry) {
        let run = Run::for_entries(std::slice::from_ref(&entry), Instant::now(), self.owner());
        if !entry.begin(&run) {
            return;
        }
        let rows = entry.batch.rows();
        let part = self.config.max_rows.filter(|most| {
            self.groups.load(Ordering::Relaxed) && rows > *most && entry.batch.is_even()
        });
        let result = match part {
            Some(most) => {
                let most = self.part_that_fits(&entry.batch, most).unwrap_or(most);
                self.run_in_parts(&entry.batch, most, &run)
            }
            None => match self.run_charged(&entry.batch, &run) {
                Err(BatchError::TooLarge { bytes, limit }) => {
                    match self.part_that_fits(&entry.batch, rows) {
                        Some(most) => self.run_in_parts(&entry.batch, most, &run),
                        None => Err(BatchError::TooLarge { bytes, limit }),
                    }
                }
                result => result,
            },
        };
        // The client may have gone meanwhile.
        let _ = entry.reply.send(result);
    }

    /// Runs a batch if there is memory for it.
    fn run_charged(&self, batch: &Batch, run: &Arc<Run>) -> Result<Outputs, BatchError> {
        let _memory = self.room.take(self.room.needs(&[batch]))?;
        self.timed(batch, run, |batch| self.run_batch(batch, run))
    }

    /// A request that is larger than the operator, or the memory, allows.
    fn run_in_parts(
        &self,
        batch: &Batch,
        most: usize,
        run: &Arc<Run>,
    ) -> Result<Outputs, BatchError> {
        let (rows, held) = (batch.rows(), self.room.nothing());
        let mut parts = Vec::new();
        for start in (0..rows).step_by(most) {
            let Some(part) = batch.rows_of(start..rows.min(start + most)) else {
                break;
            };
            let outputs = self.run_charged(&part, run)?;
            self.room.keep(&held, &outputs)?;
            parts.push(outputs);
        }
        match join_outputs(&parts) {
            Some(outputs) => Ok(outputs),
            // The parts do not fit together: this model has to see the whole.
            None => self.run_charged(batch, run),
        }
    }

    /// Runs, measures, and catches a panic.
    fn timed(
        &self,
        batch: &Batch,
        run: &Run,
        work: impl FnOnce(&Batch) -> Result<Outputs, BatchError>,
    ) -> Result<Outputs, BatchError> {
        let (rows, started) = (batch.rows(), Instant::now());
        let result = catch_unwind(AssertUnwindSafe(|| work(batch)));
        let took = started.elapsed();
        self.observer.ran(rows, took);
        run.ran(rows, started, !matches!(result, Ok(Ok(_))));
        if matches!(result, Ok(Ok(_))) {
            self.costs.learn(rows, took);
            self.observer.limit(self.limit());
        }
        result.unwrap_or_else(|_| {
            tracing::error!("the engine panicked; the session was dropped");
            Err(BatchError::Panicked)
        })
    }

    fn run_batch(&self, batch: &Batch, run: &Arc<Run>) -> Result<Outputs, BatchError> {
        let mut loan = self.sessions.take()?;
        loan.session.expect(self.room.needs(&[batch]).bytes);
        self.with_session(loan, batch, run)
    }

    fn with_session(
        &self,
        mut loan: Loan,
        batch: &Batch,
        run: &Arc<Run>,
    ) -> Result<Outputs, BatchError> {
        let interrupt = loan.session.interrupt();
        if let Some(interrupt) = &interrupt {
            interrupt.clear();
        }
        run.begin(interrupt);
        let result = loan.session.run(batch, run.cancel());
        // Not reached after a panic: that session is dropped, as one is that was given up.
        if run.end() {
            self.sessions.give_back(loan);
        }
        Ok(result?)
    }

    /// A runner has no more to do for this model now; `again` when it should go on.
    fn end_turn(self: &Arc<Self>, again: bool) {
        if !again {
            return;
        }
        let pool = self.pool.lock().upgrade();
        match pool {
            Some(pool) => pool.schedule(Arc::clone(self) as Arc<dyn Work>),
            // The pool is closing: nobody else will come for these.
            None => Arc::clone(self).run_one(),
        }
    }
}

impl Owner for Inner {
    fn left(self: Arc<Self>) {
        tracing::error!(
            "a run did not end when it was told to: it is left behind with its thread, and another thread takes its place"
        );
        self.observer.left();
        let again = {
            let mut queue = self.queue.lock();
            let again = !queue.is_empty();
            queue.turns -= usize::from(!again);
            again
        };
        let pool = self.pool.lock().upgrade();
        if let Some(pool) = pool.filter(|_| again) {
            pool.schedule(Arc::clone(&self) as Arc<dyn Work>);
        }
        self.sessions.left();
    }
}

impl Work for Inner {
    fn run_one(self: Arc<Self>) {
        let (taken, arrived) = self.take();
        let waits = taken.is_empty();
        let rows = taken.iter().map(|entry| entry.batch.rows()).sum();
        let company = taken.len() > 1;
        if !waits {
            self.run_entries(taken);
        }
        if Seat::current().is_some_and(|seat| seat.is_left()) {
            // Its turn was given to another runner.
            return;
        }
        let again = {
            let mut queue = self.queue.lock();
            if !waits {
                queue.last = company.then(|| self.last_run(rows)).flatten();
            }
            // What waits for more rows is looked at again later, or when a request arrives: one that came since found this
            // turn taken.
            let again = !queue.is_empty() && (!waits || queue.arrived != arrived);
            queue.turns -= usize::from(!again);
            again
        };
        self.end_turn(again);
    }

    fn look_again(self: Arc<Self>) {
        {
            let mut queue = self.queue.lock();
            queue.parked = false;
            if queue.turns >= self.config.instances.max(1) {
                return;
            }
            queue.turns += 1;
        }
        self.run_one();
    }
}
