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
use super::metered::Charges;
use super::status::{OURS, code, status, unreadable};
use crate::budget::Allowance;
use crate::error::ErrorKind;
use crate::middleware::auth::Caller;
use crate::protocol::state::Shared;
use crate::serving::RequestContext;
use crate::telemetry::trace;

/// Requests of one stream in work at a time: enough to make batches of, and a bound for what one client can hold.
const IN_WORK: usize = 32;

/// The answers of a stream.
pub(crate) type Answers = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

/// How a stream is answered.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Who sent the call, for the decision about each message.
    pub(crate) caller: Option<Caller>,
    /// Whether a failed request ends the stream with its status, instead of being told in an answer.
    pub(crate) ends_on_error: bool,
    /// When the client stops waiting for the whole stream.
    pub(crate) deadline: Option<Instant>,
    /// What the messages were charged.
    pub(crate) charges: Charges,
}

/// What happens to a stream next.
enum Event {
    Request(Box<ModelInferRequest>, Allowance),
    /// The client has no more requests.
    Finished,
    /// Nothing more will be read.
    Broken(Status),
}

/// How it is reported to the client.
enum Step {
    Answer(Box<ModelStreamInferResponse>, Option<Allowance>),
    Fail(Status),
    End,
}

/// Answers the requests until the client has no more, an error ends the stream, or the server stops.
///
/// # Cancel safety
/// Dropping the stream drops the requests in work.
pub(crate) fn answers(
    shared: Shared,
    requests: Streaming<ModelInferRequest>,
    manner: Manner,
) -> Answers {
    let limit = shared.body_limits().max_bytes;
    // The connection polls the stream, outside of the task that opened it.
    let (trace, sender) = (trace::current(), RequestContext::current());
    let charges = manner.charges.clone();
    let arrived = charges.clone();
    let requests = requests.map(move |request| match request {
        Ok(request) => Event::Request(Box::new(request), arrived.take()),
        Err(error) => Event::Broken(bounded(error, limit)),
    });
    let requests = requests.chain(stream::once(future::ready(Event::Finished)));
    let end = stream::once(end(shared.clone(), manner.deadline));
    let steps = stream::select(requests, end).map(move |event| {
        let step = sender
            .clone()
            .scope(step(shared.clone(), event, manner.clone()));
        match trace.clone() {
            Some(trace) => Either::Left(trace.scope(step)),
            None => Either::Right(step),
        }
    });
    let bounded = steps
        .buffered(IN_WORK)
        .scan(false, move |has_failed, step| {
            let bounded = match step {
                _ if *has_failed => None,
                Step::Answer(answer, allowance) => {
                    allowance
                        .into_iter()
                        .for_each(|allowance| charges.answered(allowance));
                    Some(Ok(*answer))
                }
                Step::Fail(status) => {
                    *has_failed = true;
                    Some(Err(status))
                }
                Step::End => None,
            };
            future::ready(bounded)
        });
    bounded.boxed()
}

/// Why nothing more is read, in our words.
fn bounded(mut error: Status, limit: usize) -> Status {
    if error.metadata_mut().remove(OURS).is_some() {
        return error;
    }
    match unreadable(&error, limit) {
        Some(error) => status(&error, None),
        None => error,
    }
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
    let (request, allowance) = match event {
        Event::Request(request, allowance) => (*request, allowance),
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
        Err(refused) => return Step::failed(refused.message().to_owned(), id),
    }
    let timeout = manner
        .deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Nothing outside catches it: the stream is polled by the connection.
    let answered =
        AssertUnwindSafe(infer(&shared, (request, allowance.clone()), timeout)).catch_unwind();
    let Ok(answered) = answered.await else {
        tracing::error!("a request handler panicked");
        return Step::Fail(Status::internal("internal error; see the server's log"));
    };
    match answered.result {
        Ok(answer) => {
            let answer = ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(answer),
            };
            Step::Answer(Box::new(answer), Some(allowance))
        }
        Err(error) if manner.ends_on_error => Step::Fail(status(&error, answered.model.as_ref())),
        Err(error) => Step::failed(error.public_message(), id),
    }
}

impl Step {
    /// An error as an answer; the id says to which request.
    fn failed(error_message: String, id: String) -> Self {
        let answer = ModelStreamInferResponse {
            error_message,
            infer_response: Some(ModelInferResponse {
                id,
                ..ModelInferResponse::default()
            }),
        };
        Self::Answer(Box::new(answer), None)
    }
}
