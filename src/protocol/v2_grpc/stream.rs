//! `ModelStreamInfer`: many requests over one stream, a few of them in work at a time, answered in their order.

use std::panic::AssertUnwindSafe;

use futures_util::future::Either;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use futures_util::{FutureExt as _, future};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::access::Ask;
use super::infer::infer;
use super::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::status::{code, status, unreadable};
use crate::error::ErrorKind;
use crate::middleware::auth::Caller;
use crate::protocol::Shared;
use crate::serving;
use crate::telemetry::trace;

/// Requests of one stream in work at a time: enough to make batches of, and a bound for what one client can hold.
const IN_WORK: usize = 32;

/// The answers of a stream.
pub(super) type Answers = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

/// How a stream is answered.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// Who sent the call, for the decision about each message.
    pub(super) caller: Option<Caller>,
    /// Whether a failed request ends the stream with its status, instead of being told in an answer.
    pub(super) ends_on_error: bool,
    /// When the client stops waiting for the whole stream.
    pub(super) deadline: Option<Instant>,
}

/// What happens to a stream next.
enum Event {
    Request(Box<ModelInferRequest>),
    /// The client has no more requests.
    Finished,
    /// Nothing more will be read.
    Broken(Status),
}

/// What the client is told of it.
enum Step {
    Answer(Box<ModelStreamInferResponse>),
    Fail(Status),
    End,
}

/// Answers the requests until the client has no more, an error ends the stream, or the server stops.
///
/// # Cancel safety
/// Dropping the stream drops the requests in work.
pub(super) fn answers(
    shared: Shared,
    requests: Streaming<ModelInferRequest>,
    manner: Manner,
) -> Answers {
    let limit = shared.max_body();
    // The connection polls the stream, outside of the task that opened it.
    let (trace, sender) = (trace::current(), serving::Caller::current());
    let requests = requests.map(move |request| match request {
        Ok(request) => Event::Request(Box::new(request)),
        Err(error) => Event::Broken(match unreadable(&error, limit) {
            Some(error) => status(&error, None),
            None => error,
        }),
    });
    let requests = requests.chain(stream::once(future::ready(Event::Finished)));
    let end = stream::once(end(shared.clone(), manner.deadline));
    let steps = stream::select(requests, end).map(move |event| {
        let step = sender.scope(step(shared.clone(), event, manner.clone()));
        match trace.clone() {
            Some(trace) => Either::Left(trace.scope(step)),
            None => Either::Right(step),
        }
    });
    let told = steps.buffered(IN_WORK).scan(false, |has_failed, step| {
        let told = match step {
            _ if *has_failed => None,
            Step::Answer(answer) => Some(Ok(*answer)),
            Step::Fail(status) => {
                *has_failed = true;
                Some(Err(status))
            }
            Step::End => None,
        };
        future::ready(told)
    });
    told.boxed()
}

/// Ends a stream that its client would keep open.
async fn end(shared: Shared, deadline: Option<Instant>) -> Event {
    let passed = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => future::pending().await,
        }
    };
    let (kind, message) = tokio::select! {
        () = shared.streams_end() => (ErrorKind::NotReady, "the server is stopping"),
        () = passed => (ErrorKind::DeadlineExceeded, "the stream took longer than its `grpc-timeout`"),
    };
    Event::Broken(Status::new(code(kind), message))
}

async fn step(shared: Shared, event: Event, manner: Manner) -> Step {
    let request = match event {
        Event::Request(request) => *request,
        Event::Finished => return Step::End,
        Event::Broken(status) => return Step::Fail(status),
    };
    let ask = Ask {
        shared: &shared,
        caller: manner.caller.as_ref(),
        method: "ModelStreamInfer",
    };
    let id = request.id.clone();
    match ask.about(&request.model_name) {
        Ok(()) => {}
        Err(refused) if manner.ends_on_error => return Step::Fail(refused),
        Err(refused) => return Step::Answer(Box::new(failed(refused.message().to_owned(), id))),
    }
    let timeout = manner
        .deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Nothing outside catches it: the stream is polled by the connection.
    let answered = AssertUnwindSafe(infer(&shared, request, timeout)).catch_unwind();
    let Ok(answered) = answered.await else {
        tracing::error!("a request handler panicked");
        return Step::Fail(Status::internal("internal error; see the server's log"));
    };
    match answered.result {
        Ok(answer) => Step::Answer(Box::new(ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(answer),
        })),
        Err(error) if manner.ends_on_error => Step::Fail(status(&error, answered.model.as_ref())),
        Err(error) => Step::Answer(Box::new(failed(error.public_message(), id))),
    }
}

/// An error as an answer; the id says to which request.
fn failed(error_message: String, id: String) -> ModelStreamInferResponse {
    ModelStreamInferResponse {
        error_message,
        infer_response: Some(ModelInferResponse {
            id,
            ..ModelInferResponse::default()
        }),
    }
}
