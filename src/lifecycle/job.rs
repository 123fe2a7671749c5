//! One load: fetch, verify, ask for room, compile, warm up. The manager starts it, hears of each step, and may
//! cancel it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::background::Background;
use super::loader::{Circumstances, LoadError, LoadOptions, Loader};
use super::manager::Event;
use crate::engine::CancelToken;
use crate::machine;
use crate::model::{ModelId, Package, PackageError};
use crate::registry::{Held, Lease, PackageRef, PastRuns, SourceError, Wanted};
use crate::serving::{Servable, VersionState};
use crate::telemetry::{Trace, Tracer};

/// Where packages come from: registries behind a cache.
#[async_trait]
pub trait Supply: Send + Sync {
    /// The files of a package, on this machine.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn fetch(&self, package: &PackageRef) -> Result<Held, SourceError>;

    /// Told when what was fetched is not what the registry says: another attempt must fetch it anew.
    async fn discard(&self, package: &PackageRef);

    /// A version that is not among those that are wanted.
    ///
    /// # Errors
    /// [`SourceError::NotFound`].
    async fn find(&self, id: &ModelId) -> Result<PackageRef, SourceError>;
}

/// Decides whether a candidate may take the place of what serves.
pub(super) type Gate = Arc<dyn Fn(&Package) -> Result<(), LoadError> + Send + Sync>;

/// A package, or why it is none.
pub type Opened = Result<Package, PackageError>;

/// One version to load.
pub(super) struct Job {
    /// Tells events of this job from those of an earlier one.
    pub(super) ticket: u64,
    pub(super) id: ModelId,
    pub(super) wanted: Wanted,
    /// Opened already, to learn its name.
    pub(super) opened: Option<Opened>,
    pub(super) options: LoadOptions,
    /// Present when it takes the place of a version that serves.
    pub(super) gate: Option<Gate>,
    /// Whether a person wants it tried although loads of it never returned.
    pub(super) insisted: bool,
    pub(super) cancel: CancelToken,
    /// Whether requests are being served meanwhile, which must not feel it.
    pub(super) background: bool,
}

/// What all jobs share.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) loader: Arc<Loader>,
    pub(super) supply: Option<Arc<dyn Supply>>,
    pub(super) past: Option<Arc<dyn PastRuns>>,
    /// How many compile at a time.
    pub(super) slots: Arc<Semaphore>,
    /// As many as there are.
    pub(super) places: u32,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tracer: Tracer,
    /// Fetches while others serve.
    pub(super) background: Background,
}

impl Workshop {
    /// A place among those that load at the same time; all of them for what may end the process, so that nothing else is
    /// blamed for it.
    async fn place(&self, alone: bool) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.slots);
        let wanted = if alone { self.places } else { 1 };
        let place = places.acquire_many_owned(wanted).await;
        place.expect("the semaphore is never closed")
    }
}

/// The files of a load, as the cache knows them.
#[derive(Default)]
struct Files {
    /// What they are called there.
    content: Option<String>,
    /// Whether a load of them never returned.
    is_suspect: bool,
    past: Option<Arc<dyn PastRuns>>,
}

impl Files {
    fn begin(&self) {
        if let Some((past, content)) = self.past.as_ref().zip(self.content.as_ref()) {
            past.load_begins(content);
        }
    }

    fn end(&self) {
        if let Some((past, content)) = self.past.as_ref().zip(self.content.as_ref()) {
            past.load_ends(content);
        }
    }
}

/// Loads of the same files that never returned, after which they are not tried again.
const MOST_UNFINISHED: u32 = 2;

/// A version that can go on stage.
pub(super) struct Loaded {
    pub(super) servable: Arc<Servable>,
    pub(super) lease: Option<Lease>,
    /// What its files are called in the cache.
    pub(super) content: Option<String>,
    /// What the load took, when traces are kept; what follows belongs to it.
    pub(super) trace: Option<Trace>,
}

/// How long each phase took.
pub(super) type Phases = Vec<(&'static str, Duration)>;

impl Job {
    /// Runs to its end and tells the manager.
    pub(super) async fn run(self, workshop: Workshop) {
        let (id, ticket) = (self.id.clone(), self.ticket);
        let clock = Arc::new(Clock::default());
        let cancel = self.cancel.clone();
        let trace = workshop.tracer.begin("swap");
        let mut result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(LoadError::Cancelled),
            // A runtime that gets no thread panics; the version is tried again.
            result = AssertUnwindSafe(self.load(&workshop, &clock)).catch_unwind() => {
                result.unwrap_or_else(|panic| Err(LoadError::Panicked(panic_text(&*panic))))
            }
        };
        if let Some(trace) = trace {
            clock.tell(&trace);
            trace.set("onstage.model.name", id.name.to_string());
            trace.set("onstage.model.version", id.version.to_string());
            match &mut result {
                Ok(loaded) => {
                    trace.set("onstage.engine", loaded.servable.engine());
                    loaded.trace = Some(trace.clone());
                }
                Err(error) => trace.fail(error.label()),
            }
            trace.end();
        }
        let phases = clock.phases();
        let loaded = Event::Loaded {
            id,
            ticket,
            result,
            phases,
        };
        // The manager has gone: nobody wants the model any more.
        let _ = workshop.events.send(loaded).await;
    }

    async fn load(self, workshop: &Workshop, clock: &Arc<Clock>) -> Result<Loaded, LoadError> {
        let mut files = None;
        let (directory, lease) = match &self.wanted {
            Wanted::Local(path) => (path.clone(), None),
            Wanted::Package(package) => {
                let supply = workshop.supply.as_ref().ok_or_else(|| {
                    SourceError::Unsupported("no registry is configured".to_owned())
                })?;
                self.enter(workshop, clock, VersionState::Fetching).await;
                let held = self.fetch(supply, package, &workshop.background);
                let within = self.options.limits.fetch;
                let held = tokio::time::timeout(within, held).await;
                let held = held.map_err(|_| LoadError::Slow(within))??;
                if held.unfinished >= MOST_UNFINISHED && !self.insisted {
                    return Err(LoadError::Unfinished(held.unfinished));
                }
                files = Some(Files {
                    content: held.content,
                    is_suspect: held.unfinished > 0,
                    past: workshop.past.clone(),
                });
                (held.directory, Some(held.lease))
            }
            Wanted::Unready(reason) => return Err(SourceError::NotFound(reason.clone()).into()),
        };
        let files = files.unwrap_or_default();
        let (wanted, supply) = (self.wanted.clone(), workshop.supply.clone());
        let place = workshop.place(files.is_suspect).await;
        let result = self.load_in(place, (directory, lease, files), workshop, clock);
        let result = result.await;
        // What was altered on its way, or signed since, is another package when it is fetched again.
        if let (
            Err(LoadError::Digest { .. } | LoadError::Seal(_)),
            Wanted::Package(package),
            Some(supply),
        ) = (&result, &wanted, &supply)
        {
            supply.discard(package).await;
        }
        result
    }

    /// Loads on a thread of its own, for which nobody waits longer than each phase may take.
    async fn load_in(
        self,
        place: OwnedSemaphorePermit,
        (directory, lease, files): (PathBuf, Option<Lease>, Files),
        workshop: &Workshop,
        clock: &Arc<Clock>,
    ) -> Result<Loaded, LoadError> {
        let (done, finished) = oneshot::channel();
        let (limit, cancel) = (self.options.limits.phase, self.cancel.clone());
        let (ended, has_ended) = oneshot::channel::<()>();
        let (workshop, watched) = (workshop.clone(), Arc::clone(clock));
        // Whoever loses interest does not make room for others before this has ended, or nobody believes that it will.
        let keeper = Arc::clone(clock);
        tokio::spawn(async move {
            tokio::select! {
                _ = has_ended => {}
                _ = keeper.overdue(limit) => {}
            }
            drop(place);
        });
        let clock = Arc::clone(clock);
        let name = format!("load-{}", self.id.version);
        clock.enter(&VersionState::Verifying);
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let _ended = ended;
            if self.background {
                workshop.loader.start_engine(self.options.engine);
                machine::Priority::Background.take();
            }
            files.begin();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                self.compile(&directory, &workshop, &clock)
            }));
            files.end();
            let result =
                caught.unwrap_or_else(|panic| Err(LoadError::Panicked(panic_text(&*panic))));
            // Nobody waits when it was cancelled: then the model is freed here, off the request path.
            let _ = done.send(result.map(|servable| Loaded {
                servable,
                lease,
                content: files.content,
                trace: None,
            }));
        });
        if let Err(error) = spawned {
            return Err(LoadError::Panicked(format!("no thread: {error}")));
        }
        tokio::select! {
            result = finished => {
                result.unwrap_or_else(|_| Err(LoadError::Panicked("the loader thread ended".to_owned())))
            }
            phase = watched.overdue(limit) => {
                cancel.cancel();
                Err(LoadError::Hung { phase, limit })
            }
        }
    }

    async fn fetch(
        &self,
        supply: &Arc<dyn Supply>,
        package: &PackageRef,
        background: &Background,
    ) -> Result<Held, SourceError> {
        if !self.background {
            return supply.fetch(package).await;
        }
        let (supply, package) = (Arc::clone(supply), package.clone());
        let work = async move { supply.fetch(&package).await };
        let fetched = background.run(work).await;
        fetched.map_err(|error| SourceError::Io {
            path: self.id.to_string().into(),
            error,
        })?
    }

    fn compile(
        mut self,
        directory: &std::path::Path,
        workshop: &Workshop,
        clock: &Arc<Clock>,
    ) -> Result<Arc<Servable>, LoadError> {
        let opened = self.opened.take();
        let enter = |state: VersionState| {
            clock.enter(&state);
            let _ = workshop.events.blocking_send(self.progress(state));
        };
        enter(VersionState::Verifying);
        // Before anything in it is parsed.
        let sealed = self.options.seal.check(directory)?;
        if self.options.isolated && opened.is_none() {
            workshop.loader.open_apart(directory, &self.cancel)?;
        }
        let mut package = match opened {
            Some(opened) => opened?,
            None => Package::open(directory)?,
        };
        if let Some(sealed) = sealed {
            sealed.covers(&package)?;
            let ModelId { name, version } = &self.id;
            tracing::info!(model = %name, %version, by = sealed.by, "the signature holds");
        }
        if let Wanted::Package(PackageRef {
            digest: Some(expected),
            ..
        }) = &self.wanted
            && *expected != package.digest
        {
            return Err(LoadError::Digest {
                found: package.digest,
                expected: expected.clone(),
            });
        }
        package.id = self.id.clone();
        if let Some(gate) = &self.gate {
            gate(&package)?;
        }
        let room = |bytes: u64| {
            let (reply, granted) = oneshot::channel();
            let asked = workshop.events.blocking_send(Event::Room {
                id: self.id.clone(),
                ticket: self.ticket,
                bytes,
                reply,
            });
            asked.map_err(|_| LoadError::Cancelled)?;
            granted.blocking_recv().unwrap_or(Err(LoadError::Cancelled))
        };
        let around = Circumstances {
            enter: &enter,
            room: &room,
            replaces: self.gate.is_some(),
            cancel: &self.cancel,
        };
        workshop.loader.load(package, &self.options, &around)
    }

    async fn enter(&self, workshop: &Workshop, clock: &Clock, state: VersionState) {
        clock.enter(&state);
        let _ = workshop.events.send(self.progress(state)).await;
    }

    fn progress(&self, state: VersionState) -> Event {
        Event::Progress {
            id: self.id.clone(),
            ticket: self.ticket,
            state,
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

/// Takes the time of each state that a job enters.
#[derive(Default)]
struct Clock(Mutex<Vec<(&'static str, Instant)>>);

impl Clock {
    fn enter(&self, state: &VersionState) {
        let phase = match state {
            VersionState::Fetching => "fetch",
            VersionState::Verifying => "verify",
            VersionState::Compiling => "compile",
            VersionState::WarmingUp => "warm_up",
            _ => return,
        };
        let mut entered = self.0.lock();
        if { entered.last() }.is_none_or(|(last, _)| *last != phase) {
            entered.push((phase, Instant::now()));
        }
    }

    /// Comes back when a phase takes longer than it may, with the phase.
    async fn overdue(&self, limit: Duration) -> &'static str {
        loop {
            let last = self.0.lock().last().copied();
            let (phase, since) = last.unwrap_or_else(|| ("verify", Instant::now()));
            let end = since + limit;
            if Instant::now() >= end {
                return phase;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// A span of each phase; the last one ends now.
    fn tell(&self, trace: &Trace) {
        for (phase, start, end) in self.spans() {
            trace.child(phase, start).end_at(end);
        }
    }

    fn phases(&self) -> Phases {
        let spans = self.spans().into_iter();
        spans
            .map(|(phase, start, end)| (phase, end - start))
            .collect()
    }

    /// Each phase with its beginning and its end; the last one ends now.
    fn spans(&self) -> Vec<(&'static str, Instant, Instant)> {
        let entered = self.0.lock();
        let ends = entered.iter().skip(1).map(|(_, at)| *at);
        let ends = ends.chain([Instant::now()]);
        let phases = entered.iter().zip(ends);
        phases
            .map(|((phase, start), end)| (*phase, *start, end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_a_time_of_its_own() {
        let second = Duration::from_secs(1);
        let clock = Arc::new(Clock::default());
        clock.enter(&VersionState::Verifying);
        let began = Instant::now();
        let watched = Arc::clone(&clock);
        let overdue = tokio::spawn(async move {
            let phase = watched.overdue(10 * second).await;
            (phase, Instant::now() - began)
        });
        tokio::time::sleep(8 * second).await;
        clock.enter(&VersionState::Compiling);
        tokio::time::sleep(8 * second).await;
        // To say it again is no progress.
        clock.enter(&VersionState::Compiling);
        assert_eq!(overdue.await.unwrap(), ("compile", 18 * second));
    }
}
