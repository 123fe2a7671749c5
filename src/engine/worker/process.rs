//! The process of a worker, and the socket to it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::frame::Frame;

/// A worker that takes nothing for so long hangs.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a worker that has nothing more to do may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Starts processes, from a thread whose priority they inherit: those that load have a lower one.
#[derive(Clone)]
pub(super) struct Starter(Sender<Wish>);

/// Who wants a process.
type Wish = Sender<io::Result<(Child, UnixStream)>>;

impl Starter {
    pub(super) fn new(program: PathBuf, arguments: Vec<OsString>) -> io::Result<Self> {
        let (wishes, wished) = channel::<Wish>();
        std::thread::Builder::new()
            .name("workers".to_owned())
            .spawn(move || {
                for wish in wished {
                    // Nobody waits for it any more when the server stops.
                    let _ = wish.send(start(&program, &arguments));
                }
            })?;
        Ok(Self(wishes))
    }

    pub(super) fn start(&self) -> io::Result<Link> {
        let gone = || io::Error::other("the thread that starts workers has gone");
        let (wish, started) = channel();
        self.0.send(wish).map_err(|_| gone())?;
        let (child, stream) = started.recv().map_err(|_| gone())??;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Link {
            process: child.id(),
            child: Mutex::new(child),
            writer: Mutex::new(stream.try_clone()?),
            reader: stream,
            waiting: Mutex::new(None),
            killed: AtomicBool::new(false),
        })
    }
}

fn start(program: &PathBuf, arguments: &[OsString]) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command
        .arg0("onstage")
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // What a library prints must not come between frames.
        .stdout(Stdio::from(io::stderr()))
        .stderr(Stdio::inherit())
        // Ctrl-C in a terminal is for the server, which still needs its workers then.
        .process_group(0);
    let child = command.spawn()?;
    // The command holds the other end, without which nobody would see that the worker has gone.
    drop(command);
    Ok((child, ours))
}

/// The way to one worker.
pub(super) struct Link {
    pub(super) process: u32,
    child: Mutex<Child>,
    writer: Mutex<UnixStream>,
    reader: UnixStream,
    /// Sessions that wait for an answer; `None` before the model is there and once the worker has gone.
    waiting: Mutex<Option<HashMap<u32, Sender<Frame>>>>,
    killed: AtomicBool,
}

impl Link {
    pub(super) fn send(&self, frame: &Frame) -> io::Result<()> {
        let sent = frame.write(&mut *self.writer.lock());
        if let Err(error) = &sent
            && error.kind() != io::ErrorKind::InvalidData
        {
            // Half a frame may have been written: nothing after it would be understood.
            self.kill();
        }
        sent
    }

    /// The next frame; only one thread reads.
    pub(super) fn read(&self) -> io::Result<Option<Frame>> {
        Frame::read(&mut &self.reader)
    }

    /// From here on it takes requests.
    pub(super) fn open(&self) {
        *self.waiting.lock() = Some(HashMap::new());
    }

    pub(super) fn is_open(&self) -> bool {
        self.waiting.lock().is_some()
    }

    /// Where the answer for a session will come; it is disconnected when the worker goes. `None` when it has gone.
    pub(super) fn wait_for(&self, session: u32) -> Option<Receiver<Frame>> {
        let (answer, answered) = channel();
        self.waiting.lock().as_mut()?.insert(session, answer);
        Some(answered)
    }

    /// Hands an answer to the session that waits for it.
    pub(super) fn answer(&self, frame: Frame) {
        let mut waiting = self.waiting.lock();
        let answer = waiting
            .as_mut()
            .and_then(|waiting| waiting.remove(&frame.session));
        if let Some(answer) = answer {
            let _ = answer.send(frame);
        }
    }

    /// The worker ends now, whatever it does.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        // It may have gone already.
        let _ = self.child.lock().kill();
        let _ = self.reader.shutdown(Shutdown::Both);
    }

    /// The worker hears that it is not needed any more.
    pub(super) fn hang_up(&self) {
        let _ = self.reader.shutdown(Shutdown::Both);
    }

    /// Waits for its end, and says how it ended. Whoever waits for an answer hears that there will be none.
    pub(super) fn reap(&self) -> String {
        self.hang_up();
        self.waiting.lock().take();
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            let mut child = self.child.lock();
            match child.try_wait() {
                Ok(Some(status)) => return self.how(status),
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let ended = child.wait();
                    return ended.map_or_else(|error| error.to_string(), |status| self.how(status));
                }
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn how(&self, status: ExitStatus) -> String {
        match status.signal() {
            _ if self.killed.load(Ordering::Relaxed) => {
                "it did not stop when told to, and was killed".to_owned()
            }
            Some(signal) => format!("it was ended by signal {signal}"),
            None => format!("it ended by itself ({status})"),
        }
    }
}
