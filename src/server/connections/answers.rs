//! Answers of HTTP/2 on their way: of one connection some may wait for their client while others do not, and the bytes of
//! the connection do not tell.
//!
//! A body is passed on in small pieces, each of which says when it has gone. So it is seen whether the client takes
//! anything, and an answer that was handed over is not forgotten before its last byte is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::Activity;
use super::counted::InWork;

/// A client that takes less than this in `limits.body_timeout` takes nothing.
const PIECE: usize = 64 << 10;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Vec<Arc<Waits>>>);

/// Since when an answer waits for its client, in milliseconds after the connection began; [`NOT`] while it does not.
#[derive(Debug)]
struct Waits(AtomicU64);

const NOT: u64 = u64::MAX;

/// One answer; in work until its last piece has gone.
#[derive(Debug)]
struct Answer {
    waits: Arc<Waits>,
    work: InWork,
}

/// The body of an answer, in pieces.
struct Pieces {
    body: Body,
    /// Of its last frame.
    left: Bytes,
    answer: Arc<Answer>,
}

/// A piece that knows when it has gone.
struct Piece {
    bytes: Bytes,
    #[expect(
        dead_code,
        reason = "the answer is in work while a piece of it is there"
    )]
    answer: Arc<Answer>,
}

impl Answers {
    /// Since when the answer waits that waits the longest.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let answers = self.0.lock();
        let waits = answers.iter().map(|waits| waits.0.load(Ordering::Relaxed));
        waits.min().filter(|since| *since != NOT)
    }

    fn begin(&self, now: u64) -> Arc<Waits> {
        let waits = Arc::new(Waits(AtomicU64::new(now)));
        self.0.lock().push(Arc::clone(&waits));
        waits
    }

    fn end(&self, ended: &Arc<Waits>) {
        let mut answers = self.0.lock();
        if let Some(index) = answers.iter().position(|waits| Arc::ptr_eq(waits, ended)) {
            answers.swap_remove(index);
        }
    }
}

/// Keeps a request in work until its answer has been sent, or taken back.
pub(super) fn until_sent(body: Body, work: InWork) -> Body {
    let activity = work.activity();
    // The client is asked for room before anything else happens.
    let waits = activity.answers.begin(activity.now());
    Body::new(Pieces {
        body,
        left: Bytes::new(),
        answer: Arc::new(Answer { waits, work }),
    })
}

impl Answer {
    fn activity(&self) -> &Activity {
        self.work.activity()
    }

    /// The client has it, or has to make room for it.
    fn is_with_client(&self) {
        self.waits.0.store(self.activity().now(), Ordering::Relaxed);
    }

    fn is_with_server(&self) {
        self.waits.0.store(NOT, Ordering::Relaxed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.activity().answers.end(&self.waits);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pieces {
    fn next_piece(&mut self) -> Option<Frame<Bytes>> {
        if self.left.is_empty() {
            return None;
        }
        self.answer.is_with_client();
        let bytes = self.left.split_to(PIECE.min(self.left.len()));
        let answer = Arc::clone(&self.answer);
        Some(Frame::data(Bytes::from_owner(Piece { bytes, answer })))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(piece) = self.next_piece() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.answer.is_with_server();
            return Poll::Pending;
        };
        self.answer.is_with_client();
        Poll::Ready(match next {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => {
                    self.left = data;
                    self.next_piece().map(Ok)
                }
                Ok(empty) => Some(Ok(Frame::data(empty))),
                Err(other) => Some(Ok(other)),
            },
            end => end,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let left = u64::try_from(self.left.len()).unwrap_or(u64::MAX);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(hint.lower().saturating_add(left));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::{Duration, advance};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_its_client_until_the_last_piece_has_gone() {
        let activity = Arc::new(Activity::new(None));
        let work = InWork::begin(&activity, false);
        advance(Duration::from_millis(5)).await;
        let mut body = until_sent(Body::from(vec![7; PIECE + 1]), work);
        assert_eq!(activity.answers.waiting_since(), Some(5));
        advance(Duration::from_millis(5)).await;
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            (first.len(), activity.answers.waiting_since()),
            (PIECE, Some(10))
        );
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(last.len() == 1 && body.is_end_stream());
        drop((body, first));
        assert_eq!(activity.in_work.load(Ordering::Relaxed), 1);
        drop(last);
        assert_eq!(activity.in_work.load(Ordering::Relaxed), 0);
        assert_eq!(activity.answers.waiting_since(), None);
    }

    #[tokio::test]
    async fn a_body_that_has_nothing_yet_keeps_its_client_waiting_and_not_the_other_way() {
        let activity = Arc::new(Activity::new(None));
        let never = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
        let work = InWork::begin(&activity, true);
        let mut body = until_sent(Body::from_stream(never), work);
        assert!(activity.answers.waiting_since().is_some());
        assert!(futures_util::poll!(body.frame()).is_pending());
        assert_eq!(activity.answers.waiting_since(), None);
    }
}
