//! The worker's side: loads one model, and runs what the server sends until the server goes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

use super::frame::{Frame, Kind, Reader, outputs};
use crate::engine::worker::messages::{Failure, Order, Report};
use crate::engine::{
    CancelToken, CompiledModel, Engine, EngineError, Interrupt, Session, one_line,
};
use crate::error::panic_text;
use crate::model::{Batch, Package, Work};
use crate::runtime::machine;

/// Serves the server on standard input, which is a socket, with one of these engines; returns when the server has gone.
///
/// # Errors
/// When standard input is no socket of a server, or what comes over it makes no sense.
pub fn serve(engines: &[Arc<dyn Engine>]) -> io::Result<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let mut stream = UnixStream::from(input);
    let answers = Arc::new(Mutex::new(stream.try_clone()?));
    let Some(first) = Frame::read(&mut stream)? else {
        return Ok(());
    };
    if first.kind == Kind::Open {
        let path = Path::new(OsStr::from_bytes(&first.body));
        let opened = catch_unwind(|| drop(Package::open(path)));
        let answer = match opened {
            Ok(()) => Frame::new(Kind::Opened, 0, Vec::new()),
            Err(panic) => {
                let failure = Failure::Panicked(one_line(panic_text(&*panic)));
                Frame::new(Kind::Failed, 0, failure.to_body())
            }
        };
        return answer.write(&mut *answers.lock());
    }
    let loaded = match catch_unwind(AssertUnwindSafe(|| load(engines, &first.body))) {
        Ok(loaded) => loaded,
        Err(panic) => Err(Failure::Load {
            file: String::new(),
            reason: format!("loading panicked: {}", one_line(panic_text(&*panic))),
        }),
    };
    let (model, work) = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => {
            return Frame::new(Kind::Failed, 0, failure.to_body()).write(&mut *answers.lock());
        }
    };
    let report = Report {
        footprint: model.footprint(),
        plans_by_shape: model.plans_by_shape(),
    };
    let body = serde_json::to_vec(&report)?;
    Frame::new(Kind::Loaded, 0, body).write(&mut *answers.lock())?;
    let mut sessions = Sessions {
        model,
        work,
        answers,
        running: HashMap::new(),
    };
    while let Some(frame) = Frame::read(&mut stream)? {
        sessions.take(frame)?;
    }
    Ok(())
}

/// A model, and how much its runs take.
type Loaded = (Arc<dyn CompiledModel>, Work);

fn load(engines: &[Arc<dyn Engine>], order: &[u8]) -> Result<Loaded, Failure> {
    let order: Order = serde_json::from_slice(order).map_err(|error| Failure::Load {
        file: String::new(),
        reason: format!("the worker is not told what to load: {error}"),
    })?;
    let refused = |reason: String| Failure::Load {
        file: order.file.clone(),
        reason,
    };
    let engine = { engines.iter() }.find(|engine| engine.name() == order.engine);
    let engine = engine.ok_or_else(|| refused(format!("there is no engine `{}`", order.engine)))?;
    engine.check()?;
    let package = Package::open(&order.path).map_err(|error| refused(error.to_string()))?;
    if package.digest != order.digest {
        return Err(refused(
            "its files have changed since the server checked them".to_owned(),
        ));
    }
    let model = engine.compile(&package, &order.options(), &CancelToken::new())?;
    // Each session may have weights of its own.
    let sessions = u64::try_from(machine::threads()).unwrap_or(1);
    let of_sessions = engine.estimate(&package).saturating_mul(sessions);
    if let Some(memory) = order.memory
        && let Err(error) = machine::limit_growth(memory.saturating_add(of_sessions))
    {
        tracing::warn!(%error, "the memory of this worker is not bounded");
    }
    Ok((model, package.graph.work))
}

/// What stops a session, once it is there.
type Stops = Mutex<Option<Arc<dyn Interrupt>>>;

/// The sessions of the server, each on a thread of its own.
struct Sessions {
    model: Arc<dyn CompiledModel>,
    work: Work,
    answers: Arc<Mutex<UnixStream>>,
    running: HashMap<u32, Running>,
}

struct Running {
    jobs: Sender<Job>,
    /// Stops the last job.
    cancel: CancelToken,
    interrupt: Arc<Stops>,
}

struct Job {
    batch: Batch,
    /// Bytes that it takes.
    bytes: u64,
    cancel: CancelToken,
}

impl Sessions {
    fn take(&mut self, frame: Frame) -> io::Result<()> {
        let Frame {
            kind,
            session,
            body,
        } = frame;
        match kind {
            Kind::Run => self.run(session, &body),
            Kind::Stop => {
                if let Some(running) = self.running.get(&session) {
                    running.cancel.cancel();
                    if let Some(interrupt) = &*running.interrupt.lock() {
                        interrupt.interrupt();
                    }
                }
                Ok(())
            }
            Kind::Close => {
                self.running.remove(&session);
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame that is not for a worker",
            )),
        }
    }

    fn run(&mut self, session: u32, body: &[u8]) -> io::Result<()> {
        let signature = self.model.signature();
        let names = signature.inputs.iter().map(|input| input.name.clone());
        let Some(tensors) = Reader::new(body).inputs() else {
            return self.refuse(session, "the tensors cannot be read");
        };
        let fits = tensors.len() == signature.inputs.len();
        let bound = signature.bind(names.zip(tensors).collect());
        // The server has bound them to the same signature before.
        let Some(batch) = bound.ok().filter(|_| fits) else {
            return self.refuse(session, "the batch was made for another model");
        };
        let cancel = CancelToken::new();
        let bytes = match self.work.unbounded() {
            Some(_) => u64::MAX,
            None => self.work.needs(&Batch::extents(&[&batch])).bytes,
        };
        let job = Job {
            batch,
            bytes,
            cancel: cancel.clone(),
        };
        if !self.running.contains_key(&session) {
            let running = self.start(session)?;
            self.running.insert(session, running);
        }
        if let Some(running) = self.running.get_mut(&session) {
            running.cancel = cancel;
            // A thread that has gone could not answer: the server has gone as well.
            let _ = running.jobs.send(job);
        }
        Ok(())
    }

    fn refuse(&self, session: u32, reason: &str) -> io::Result<()> {
        let failure = Failure::Run {
            reason: reason.to_owned(),
            bad_input: true,
        };
        Frame::new(Kind::Failed, session, failure.to_body()).write(&mut *self.answers.lock())
    }

    fn start(&self, number: u32) -> io::Result<Running> {
        let (jobs, queue) = channel();
        let interrupt = Arc::new(Mutex::new(None));
        let (model, answers) = (Arc::clone(&self.model), Arc::clone(&self.answers));
        let stops = Arc::clone(&interrupt);
        std::thread::Builder::new()
            .name(format!("session-{number}"))
            .spawn(move || work(&*model, number, &queue, (&answers, &stops)))?;
        Ok(Running {
            jobs,
            cancel: CancelToken::new(),
            interrupt,
        })
    }
}

/// Runs the jobs of one session, until the server closes it.
fn work(
    model: &dyn CompiledModel,
    number: u32,
    queue: &Receiver<Job>,
    (answers, stops): (&Mutex<UnixStream>, &Stops),
) {
    let mut session = None;
    while let Ok(job) = queue.recv() {
        let result = catch_unwind(AssertUnwindSafe(|| run(model, &mut session, &job, stops)));
        let result = result.unwrap_or_else(|panic| {
            Err(EngineError::Panicked {
                engine: "",
                reason: one_line(panic_text(&*panic)),
            })
        });
        let answer = match result {
            Ok(values) => Frame::new(Kind::Outputs, number, values),
            Err(error) => {
                // A panic, or a failure that may have left something half done, costs the session.
                session = None;
                Frame::new(Kind::Failed, number, Failure::from(error).to_body())
            }
        };
        if answer.write(&mut *answers.lock()).is_err() {
            return;
        }
    }
}

fn run(
    model: &dyn CompiledModel,
    session: &mut Option<Box<dyn Session>>,
    job: &Job,
    stops: &Stops,
) -> Result<Vec<u8>, EngineError> {
    // Taken, so that a panic drops it.
    let mut own = match session.take() {
        Some(own) => own,
        None => model.session()?,
    };
    let interrupt = own.interrupt();
    if let Some(interrupt) = &interrupt {
        interrupt.clear();
    }
    *stops.lock() = interrupt;
    if job.cancel.is_cancelled() {
        return Err(EngineError::Cancelled);
    }
    own.expect(job.bytes);
    let values = own.run(&job.batch, &job.cancel)?;
    *session = Some(own);
    Ok(outputs(&values))
}
