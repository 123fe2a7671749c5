//! The bytes of a connection: whether its client is too slow.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::aged::{self, Frames};
use super::{Activity, Place, Timeouts};

/// Which part of a request is being read.
#[derive(Debug, Default)]
struct Head {
    /// Of HTTP/2 nothing is known from outside: its frames are not only heads.
    is_http2: bool,
    /// Whether anything was read of the connection.
    heard: bool,
    /// When its first byte came.
    begun: Option<Instant>,
    /// How many requests had begun before.
    before: u64,
}

/// What every connection of HTTP/2 begins with.
const HTTP2: &[u8] = b"PRI";

/// A stream that ends when its client is too slow.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    stream: T,
    activity: Arc<Activity>,
    timeouts: Timeouts,
    head: Head,
    /// What is sent on HTTP/2.
    frames: Frames,
    waits: Option<Pin<Box<Sleep>>>,
    stalls: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<T> Watched<T> {
    pub(super) fn new(
        stream: T,
        activity: &Arc<Activity>,
        (timeouts, place): (Timeouts, Place),
    ) -> Self {
        Self {
            stream,
            activity: Arc::clone(activity),
            timeouts,
            head: Head::default(),
            frames: Frames::default(),
            waits: None,
            stalls: None,
            _place: place,
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        let head = &mut self.head;
        if !head.heard {
            head.heard = true;
            head.is_http2 = bytes.starts_with(HTTP2);
        }
        let in_work = self.activity.in_work.load(Ordering::Relaxed) > 0;
        if !head.is_http2 && !in_work && head.begun.is_none() {
            head.begun = Some(Instant::now());
            head.before = self.activity.begun.load(Ordering::Relaxed);
        }
    }

    /// Until when the client must have taken something of an answer of HTTP/2; no later than it could be, as answers come
    /// meanwhile.
    fn answer_deadline(&self) -> Option<Instant> {
        if !self.head.is_http2 {
            return None;
        }
        let waits = self.activity.answers.waiting_since();
        let since = match waits {
            Some(after) => self.activity.since + Duration::from_millis(after),
            None => Instant::now(),
        };
        Some(since + self.timeouts.body)
    }

    /// Until when the next byte must have come; `None` while it is the server's turn.
    fn deadline(&mut self) -> Option<Instant> {
        if self.head.before != self.activity.begun.load(Ordering::Relaxed) {
            self.head.begun = None;
        }
        if self.activity.in_work.load(Ordering::Relaxed) > 0 {
            return self.answer_deadline();
        }
        Some(match self.head.begun {
            Some(begun) => begun + self.timeouts.header,
            None if !self.head.heard => self.activity.since + self.timeouts.header,
            None if self.frames.has_said_farewell() => {
                self.activity.last() + self.timeouts.idle.min(aged::GRACE)
            }
            None => self.activity.last() + self.timeouts.idle,
        })
    }

    fn too_slow(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(deadline) = self.deadline() else {
                return Poll::Pending;
            };
            if Instant::now() >= deadline {
                return Poll::Ready(io::Error::from(io::ErrorKind::TimedOut));
            }
            ready!(alarm(&mut self.waits, deadline, cx));
        }
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.stalls.is_none() {
            self.stalls = Some(Box::pin(sleep_until(Instant::now() + self.timeouts.body)));
        }
        match &mut self.stalls {
            Some(stalls) => ready!(stalls.as_mut().poll(cx)),
            None => return Poll::Pending,
        }
        Poll::Ready(io::Error::from(io::ErrorKind::TimedOut))
    }

    fn taken<R>(
        &mut self,
        written: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        match written {
            Poll::Pending => self.stalled(cx).map(Err),
            written => {
                self.stalls = None;
                // HTTP/2 asks on its own whether its peer is there.
                if !self.head.is_http2 {
                    self.activity.beat();
                }
                written
            }
        }
    }
}

/// Wakes the task at `deadline` or earlier. Deadlines mostly move away: the alarm is not set anew each time.
fn alarm(sleep: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if sleep.is_elapsed() || sleep.deadline() > deadline {
        sleep.as_mut().reset(deadline);
    }
    sleep.as_mut().poll(cx)
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                let new = &buffer.filled()[before..];
                if !new.is_empty() {
                    this.heard(new);
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                this.activity.reader.register(cx.waker());
                if this.activity.is_evicted() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
                }
                this.too_slow(cx).map(Err)
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    /// Whether frames go out, among which a farewell may be.
    fn sends_frames(&self) -> bool {
        self.head.is_http2 && self.activity.until.is_some()
    }

    /// Sends what is left of the farewell of an old connection, where it may stand now.
    fn say_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.sends_frames() || !self.activity.is_old() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let farewell = self.frames.farewell();
            if farewell.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let said = ready!(Pin::new(&mut self.stream).poll_write(cx, farewell))?;
            if said == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.frames.said(said);
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match this.say_farewell(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.stream).poll_write(cx, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(Ok(written)) = written
            && this.sends_frames()
        {
            this.frames.sent(&bytes[..written]);
        }
        this.taken(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sends_frames() {
            // One piece at a time, each of which is followed.
            let first = pieces.iter().find(|piece| !piece.is_empty());
            let first = first.map_or(&[][..], |piece| piece);
            return Pin::new(this).poll_write(cx, first);
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.taken(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
