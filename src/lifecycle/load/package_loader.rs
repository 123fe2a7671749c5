//! The loader of the server: fetches a package, verifies it, and has it compiled on a thread of its own.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::compiler::Compiler;
use super::context::LoadContext;
use super::error::LoadError;
use super::loader::Loader;
use super::request::{LoadRequest, Loaded};
use crate::engine::Chosen;
use crate::error::panic_text;
use crate::model::{ModelId, Package, PackageError};
use crate::registry::{CachedPackage, Lease, PackageRef, PastRuns, SourceError, Wanted};
use crate::runtime::background::Background;
use crate::runtime::{machine, threads};
use crate::serving::{Servable, VersionState};

/// A package, or why it is none.
pub type Opened = Result<Package, PackageError>;

/// Where packages come from: registries behind a cache.
#[async_trait]
pub trait Supply: Send + Sync {
    /// The files of a package, on this machine.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn fetch(&self, package: &PackageRef) -> Result<CachedPackage, SourceError>;

    /// Forgets what was fetched, when it is not what the registry says: another attempt fetches it anew.
    async fn discard(&self, package: &PackageRef);

    /// A version that is not among those that are wanted.
    ///
    /// # Errors
    /// [`SourceError::NotFound`].
    async fn find(&self, id: &ModelId) -> Result<PackageRef, SourceError>;
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

/// A package on this machine that is about to be loaded.
struct Fetched {
    directory: PathBuf,
    /// Keeps it in the cache; `None` outside of the cache.
    lease: Option<Lease>,
    files: Files,
}

impl Fetched {
    /// Lets `compile` load it, and notes for the next run of the server that it is being loaded.
    fn load(
        self,
        compile: impl FnOnce(&Path) -> Result<Arc<Servable>, LoadError>,
    ) -> Result<Loaded, LoadError> {
        self.files.begin();
        let caught = catch_unwind(AssertUnwindSafe(|| compile(&self.directory)));
        self.files.end();
        let result =
            caught.unwrap_or_else(|panic| Err(LoadError::Panicked(panic_text(&*panic).to_owned())));
        result.map(|servable| Loaded::new(servable, self.lease, self.files.content))
    }
}

/// Loads of the same files that never returned, after which they are not tried again.
const MOST_UNFINISHED: u32 = 2;

/// How many versions compile at a time.
const COMPILERS: usize = 4;

/// Loads packages: from this machine, or from registries through a cache.
pub struct PackageLoader {
    compiler: Arc<Compiler>,
    supply: Option<Arc<dyn Supply>>,
    past: Option<Arc<dyn PastRuns>>,
    /// Packages that were opened already, to learn their names, or could not be.
    opened: Mutex<HashMap<ModelId, Opened>>,
    /// One for each version that may compile at a time.
    places: Arc<Semaphore>,
    /// As many as there are.
    all_places: u32,
    /// Fetches while others serve.
    background: Background,
}

impl std::fmt::Debug for PackageLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackageLoader").finish_non_exhaustive()
    }
}

impl PackageLoader {
    /// A loader of packages from `supply` and from this machine. `opened` are packages that were opened already, or
    /// could not be.
    pub fn new(
        compiler: Compiler,
        supply: Option<Arc<dyn Supply>>,
        past: Option<Arc<dyn PastRuns>>,
        opened: Vec<(ModelId, Opened)>,
    ) -> Self {
        let places = machine::threads().clamp(1, COMPILERS);
        Self {
            compiler: Arc::new(compiler),
            supply,
            past,
            opened: Mutex::new(opened.into_iter().collect()),
            places: Arc::new(Semaphore::new(places)),
            all_places: u32::try_from(places).unwrap_or(1),
            background: Background::default(),
        }
    }

    /// A place among those that load at the same time; all of them for what may end the process, so that nothing else is
    /// blamed for it.
    async fn place(&self, alone: bool) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.places);
        let wanted = if alone { self.all_places } else { 1 };
        let place = places.acquire_many_owned(wanted).await;
        place.expect("the semaphore is never closed")
    }

    async fn files(
        &self,
        request: &LoadRequest,
        context: &LoadContext,
    ) -> Result<Fetched, LoadError> {
        let package = match &request.wanted {
            Wanted::Local(path) => {
                return Ok(Fetched {
                    directory: path.clone(),
                    lease: None,
                    files: Files::default(),
                });
            }
            Wanted::Unready(reason) => return Err(SourceError::NotFound(reason.clone()).into()),
            Wanted::Package(package) => package,
        };
        let supply = self
            .supply
            .as_ref()
            .ok_or_else(|| SourceError::Unsupported("no registry is configured".to_owned()))?;
        context.enter(VersionState::Fetching).await;
        let within = request.options.limits.fetch;
        let held = tokio::time::timeout(within, self.fetch(supply, package, request)).await;
        let held = held.map_err(|_| LoadError::Slow(within))??;
        if held.unfinished >= MOST_UNFINISHED && !request.insisted {
            return Err(LoadError::Unfinished(held.unfinished));
        }
        let files = Files {
            content: held.content,
            is_suspect: held.unfinished > 0,
            past: self.past.clone(),
        };
        Ok(Fetched {
            directory: held.directory,
            lease: Some(held.lease),
            files,
        })
    }

    async fn fetch(
        &self,
        supply: &Arc<dyn Supply>,
        package: &PackageRef,
        request: &LoadRequest,
    ) -> Result<CachedPackage, SourceError> {
        if !request.background {
            return supply.fetch(package).await;
        }
        let (supply, package) = (Arc::clone(supply), package.clone());
        let work = async move { supply.fetch(&package).await };
        let fetched = self.background.run(work).await;
        fetched.map_err(|error| SourceError::Io {
            path: request.id.to_string().into(),
            error,
        })?
    }

    /// Loads on a thread of its own, and abandons it when a phase takes longer than its limit.
    async fn load_in(
        &self,
        place: OwnedSemaphorePermit,
        fetched: Fetched,
        request: LoadRequest,
        context: &LoadContext,
    ) -> Result<Loaded, LoadError> {
        let (done, finished) = oneshot::channel();
        let limit = request.options.limits.phase;
        let (ended, has_ended) = oneshot::channel::<()>();
        // A cancelled load keeps its place until the thread ends or is overdue.
        let keeper = Arc::clone(context.clock());
        tokio::spawn(async move {
            tokio::select! {
                _ = has_ended => {}
                _ = keeper.overdue(limit) => {}
            }
            drop(place);
        });
        let name = format!("load-{}", request.id.version);
        context.clock().enter(&VersionState::Verifying);
        let (compiler, watched) = (Arc::clone(&self.compiler), context);
        let opened = self.opened.lock().remove(&request.id);
        let context = context.clone();
        let spawned = threads::spawn(name, move || {
            let _ended = ended;
            let mut chosen = None;
            if request.background {
                let opened = opened.as_ref().and_then(|opened| opened.as_ref().ok());
                chosen = compiler.start_engine(opened, &request.options);
                machine::Priority::Background.take();
            }
            let known = Known { opened, chosen };
            let loaded = fetched
                .load(|directory| compile(&compiler, directory, known, (&request, &context)));
            // The receiver is gone when it was cancelled: then the model is freed here, off the request path.
            let _ = done.send(loaded);
        });
        if let Err(error) = spawned {
            return Err(LoadError::Panicked(format!("no thread: {error}")));
        }
        tokio::select! {
            result = finished => {
                result.unwrap_or_else(|_| Err(LoadError::Panicked("the loader thread ended".to_owned())))
            }
            phase = watched.clock().overdue(limit) => {
                watched.cancel().cancel();
                Err(LoadError::Hung { phase, limit })
            }
        }
    }
}

#[async_trait]
impl Loader for PackageLoader {
    async fn load(&self, request: LoadRequest, context: &LoadContext) -> Result<Loaded, LoadError> {
        let fetched = self.files(&request, context).await?;
        let wanted = request.wanted.clone();
        let place = self.place(fetched.files.is_suspect).await;
        let result = self.load_in(place, fetched, request, context).await;
        // What was altered on its way, or signed since, is another package when it is fetched again.
        if let (
            Err(LoadError::Digest { .. } | LoadError::Seal(_)),
            Wanted::Package(package),
            Some(supply),
        ) = (&result, &wanted, &self.supply)
        {
            supply.discard(package).await;
        }
        result
    }
}

/// What is known of a package before it is verified.
struct Known {
    opened: Option<Opened>,
    chosen: Option<Chosen>,
}

/// Verifies the package in `directory`, and compiles it. Blocking.
fn compile(
    compiler: &Compiler,
    directory: &Path,
    Known { opened, chosen }: Known,
    (request, context): (&LoadRequest, &LoadContext),
) -> Result<Arc<Servable>, LoadError> {
    let options = &request.options;
    context.enter_blocking(VersionState::Verifying);
    // Before anything in it is parsed.
    let sealed = options.seal.check(directory)?;
    if options.isolated && opened.is_none() {
        compiler.open_apart(directory, context.cancel())?;
    }
    let mut package = match opened {
        Some(opened) => opened?,
        None => Package::open(directory)?,
    };
    if let Some(sealed) = sealed {
        sealed.covers(&package)?;
        let ModelId { name, version } = &request.id;
        tracing::info!(model = %name, %version, by = sealed.by, "the signature holds");
    }
    if let Wanted::Package(PackageRef {
        digest: Some(expected),
        ..
    }) = &request.wanted
        && *expected != package.digest
    {
        return Err(LoadError::Digest {
            found: package.digest,
            expected: expected.clone(),
        });
    }
    package.id = request.id.clone();
    if let Some(gate) = &request.gate {
        gate(&package)?;
    }
    let chosen = match chosen {
        Some(chosen) => chosen,
        None => compiler.choose(&package, options)?,
    };
    compiler.compile(package, chosen, (options, request.gate.is_some()), context)
}
