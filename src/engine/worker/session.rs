//! The server's side: a model that is a worker, its sessions, and the supervisor that starts it again.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Workers;
use super::frame::{Frame, Kind, Reader, inputs};
use super::process::Link;
use crate::engine::worker::messages::{Failure, Order, Report};
use crate::engine::{
    CancelToken, CompiledModel, EngineError, Interrupt, Outputs, Session, load_error,
};
use crate::model::{Batch, ModelName, Package, Signature};
use crate::runtime::machine;

/// How often someone who waits for a worker looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(10);

/// A worker that was told to stop a run and does not hangs.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The wait before the second of two starts in a row; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A worker that lived so long did well: what comes after begins anew.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// A worker and those that take its place.
struct Remote {
    workers: Workers,
    engine: &'static str,
    model: ModelName,
    order: Vec<u8>,
    /// The worker that lives now, which may still be loading.
    link: Mutex<Option<Arc<Link>>>,
    /// Gone once the model is not needed any more.
    wanted: Mutex<Option<Sender<()>>>,
    next_session: AtomicU32,
}

/// Loads a package in a worker. Blocking.
pub(super) fn compile(
    workers: &Workers,
    engine: &'static str,
    (package, order): (&Package, Order),
    cancel: &CancelToken,
) -> Result<Arc<dyn CompiledModel>, EngineError> {
    if cancel.is_cancelled() {
        return Err(EngineError::Cancelled);
    }
    let failed = |reason: String| load_error(engine, package, reason);
    let order = serde_json::to_vec(&order).map_err(|error| failed(error.to_string()))?;
    let (wanted, unwanted) = channel();
    let remote = Arc::new(Remote {
        workers: workers.clone(),
        engine,
        model: package.id.name.clone(),
        order,
        link: Mutex::new(None),
        wanted: Mutex::new(Some(wanted)),
        next_session: AtomicU32::new(1),
    });
    // Ends the supervisor, and with it the worker, when loading fails or is cancelled.
    let owner = Owner(Arc::clone(&remote));
    let (described, loaded) = channel();
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || remote.supervise(&described, &unwanted))
        .map_err(|error| failed(format!("cannot start a thread: {error}")))?;
    match first_report(&loaded, cancel) {
        Ok(report) => Ok(Arc::new(RemoteModel {
            owner,
            signature: package.graph.signature.clone(),
            report,
        })),
        Err(Failure::Lost(reason)) => {
            Err(failed(format!("the worker went while it loaded: {reason}")))
        }
        Err(failure) => Err(failure.of_engine(engine)),
    }
}

/// Opens a package in a worker that does nothing else. Blocking.
///
/// # Errors
/// How the worker ended, when it did not live to tell what it found.
pub(super) fn open(workers: &Workers, package: &Path, cancel: &CancelToken) -> Result<(), String> {
    let started = workers.starter.start();
    let link = Arc::new(started.map_err(|error| format!("it cannot be started: {error}"))?);
    let order = Frame::new(Kind::Open, 0, package.as_os_str().as_bytes().to_vec());
    // One that has gone already tells nothing below.
    let _ = link.send(&order);
    let (described, heard) = channel();
    let worker = Arc::clone(&link);
    let attend = move || {
        let answer = worker.read();
        let ended = worker.reap();
        let _ = described.send(match answer {
            Ok(Some(frame)) if frame.kind == Kind::Opened => Ok(()),
            Ok(Some(frame)) => Err(Failure::of_body(&frame.body).of_engine("").to_string()),
            _ => Err(ended),
        });
    };
    let thread = std::thread::Builder::new().name("worker".to_owned());
    let spawned = thread.spawn(attend);
    spawned.map_err(|error| format!("no thread: {error}"))?;
    loop {
        match heard.recv_timeout(TICK) {
            Ok(opened) => return opened,
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => link.kill(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("its thread ended".to_owned()),
        }
    }
}

/// What the first worker says.
fn first_report(
    loaded: &Receiver<Result<Report, Failure>>,
    cancel: &CancelToken,
) -> Result<Report, Failure> {
    loop {
        let described = loaded.recv_timeout(TICK);
        if cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        match described {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Lost("its supervisor went".to_owned()));
            }
        }
    }
}

impl Remote {
    /// Keeps a worker alive until the model is not needed any more; gives up only on the first one.
    fn supervise(&self, described: &Sender<Result<Report, Failure>>, unwanted: &Receiver<()>) {
        let mut in_a_row = 0;
        let mut has_loaded = false;
        loop {
            let began = Instant::now();
            let ended = self.live(|report| {
                if !std::mem::replace(&mut has_loaded, true) {
                    // Whoever asked may have been cancelled.
                    let _ = described.send(Ok(report));
                }
            });
            if !has_loaded {
                let _ = described.send(Err(ended));
                return;
            }
            if self.wanted.lock().is_none() {
                return;
            }
            in_a_row = if began.elapsed() > LONG_LIFE {
                0
            } else {
                in_a_row
            };
            let wait = wait_before(in_a_row);
            in_a_row += 1;
            (self.workers.restarted)(&self.model);
            let reason = ended.of_engine(self.engine).to_string();
            tracing::error!(model = %self.model, reason, ?wait, "the worker of a model ended; it is started again");
            // Woken when the model is not needed any more.
            if unwanted.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// The life of one worker, and why it ended.
    fn live(&self, mut loaded: impl FnMut(Report)) -> Failure {
        let link = match self.workers.starter.start() {
            Ok(link) => Arc::new(link),
            Err(error) => return Failure::Lost(format!("it cannot be started: {error}")),
        };
        {
            let wanted = self.wanted.lock();
            if wanted.is_some() {
                *self.link.lock() = Some(Arc::clone(&link));
            } else {
                link.hang_up();
            }
        }
        let refused = self.attend(&link, &mut loaded);
        self.link.lock().take();
        let how = link.reap();
        refused.unwrap_or(Failure::Lost(how))
    }

    /// Loads the model, then hands out answers until the worker goes. What it says when it cannot load.
    fn attend(&self, link: &Link, loaded: &mut impl FnMut(Report)) -> Option<Failure> {
        let order = Frame::new(Kind::Load, 0, self.order.clone());
        link.send(&order).ok()?;
        let first = link.read().ok()??;
        let report = match first.kind {
            Kind::Loaded => serde_json::from_slice(&first.body).ok()?,
            _ => return Some(Failure::of_body(&first.body)),
        };
        link.open();
        tracing::info!(model = %self.model, process = link.process, "a worker serves");
        loaded(report);
        while let Ok(Some(frame)) = link.read() {
            link.answer(frame);
        }
        None
    }

    fn link(&self) -> Option<Arc<Link>> {
        let link = self.link.lock().clone();
        link.filter(|link| link.is_open())
    }

    /// `process` is the worker that had the request, if any had it.
    fn lost(&self, reason: &str, process: Option<u32>) -> EngineError {
        EngineError::Lost {
            engine: self.engine,
            reason: reason.to_owned(),
            process,
        }
    }
}

fn wait_before(in_a_row: u32) -> Duration {
    match in_a_row.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_WAIT
            .saturating_mul(1 << doublings.min(16))
            .min(LONGEST_WAIT),
    }
}

/// Whoever holds it needs the worker.
struct Owner(Arc<Remote>);

impl Drop for Owner {
    fn drop(&mut self) {
        let mut wanted = self.0.wanted.lock();
        wanted.take();
        if let Some(link) = &*self.0.link.lock() {
            link.hang_up();
        }
    }
}

struct RemoteModel {
    owner: Owner,
    signature: Signature,
    report: Report,
}

impl CompiledModel for RemoteModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn footprint(&self) -> u64 {
        self.resident().unwrap_or(self.report.footprint)
    }

    fn resident(&self) -> Option<u64> {
        machine::resident_of(self.owner.0.link()?.process)
    }

    fn plans_by_shape(&self) -> bool {
        self.report.plans_by_shape
    }

    fn end_runs(&self) -> bool {
        if let Some(link) = self.owner.0.link() {
            link.kill();
        }
        true
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let remote = Arc::clone(&self.owner.0);
        let number = remote.next_session.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::default();
        Ok(Box::new(RemoteSession {
            remote,
            number,
            stop,
        }))
    }
}

/// A session of whichever worker lives: a new worker makes it anew.
struct RemoteSession {
    remote: Arc<Remote>,
    number: u32,
    stop: Arc<Stop>,
}

#[derive(Default)]
struct Stop(AtomicBool);

impl Interrupt for Stop {
    fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Session for RemoteSession {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let restarting = || {
            let reason = "the worker of this model is being started again";
            self.remote.lost(reason, None)
        };
        let link = self.remote.link().ok_or_else(restarting)?;
        let answered = link.wait_for(self.number).ok_or_else(restarting)?;
        let run = Frame::new(Kind::Run, self.number, inputs(batch.inputs()));
        link.send(&run).map_err(|error| {
            let reason = format!("the worker takes no requests: {error}");
            self.remote.lost(&reason, Some(link.process))
        })?;
        let frame = self.wait(&link, &answered, cancel)?;
        match frame.kind {
            Kind::Outputs => Reader::new(&frame.body).outputs().ok_or_else(|| {
                let reason = "the worker answered what cannot be read";
                self.remote.lost(reason, Some(link.process))
            }),
            _ => Err(Failure::of_body(&frame.body).of_engine(self.remote.engine)),
        }
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.stop) as Arc<dyn Interrupt>)
    }
}

impl RemoteSession {
    /// The answer; a worker that does not stop when told to is killed.
    fn wait(
        &self,
        link: &Link,
        answered: &Receiver<Frame>,
        cancel: &CancelToken,
    ) -> Result<Frame, EngineError> {
        let mut stopped: Option<Instant> = None;
        loop {
            match answered.recv_timeout(TICK) {
                Ok(frame) => return Ok(frame),
                Err(RecvTimeoutError::Disconnected) if stopped.is_some() => {
                    return Err(EngineError::Cancelled);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the worker of this model ended while it had the request; it is being started again";
                    return Err(self.remote.lost(reason, Some(link.process)));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            match stopped {
                Some(since) if since.elapsed() > STOP_PATIENCE => link.kill(),
                Some(_) => {}
                None if cancel.is_cancelled() || self.stop.0.load(Ordering::Relaxed) => {
                    stopped = Some(Instant::now());
                    let _ = link.send(&Frame::new(Kind::Stop, self.number, Vec::new()));
                }
                None => {}
            }
        }
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        if let Some(link) = self.remote.link() {
            let _ = link.send(&Frame::new(Kind::Close, self.number, Vec::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_is_at_once_and_those_that_follow_ever_later() {
        let waits: Vec<u128> = (0..5).map(|n| wait_before(n).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800]);
        assert_eq!(wait_before(100), LONGEST_WAIT);
    }
}
