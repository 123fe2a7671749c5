//! The messages of a call as they come: inflated within the limit, charged before they grow, and [walked](super::wire)
//! before anything is made of them.
//!
//! ```text
//! body ─► frames: plain      ─► walked as they come, passed on as they are
//!                 compressed ─► inflated, walked, passed on plain
//! ```
//!
//! The library would inflate a message whole before it looks at it, and then make of it whatever it says.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::Status;

use super::status::refusal;
use super::wire::{Layout, Walker, WireError};
use crate::budget::Allowance;
use crate::error::Kinded as _;
use crate::http::body::Charged;
use crate::http::inflate::{Bounds, Coding, InflateError, Stream};
use crate::protocol::oip::error::OipError;
use crate::protocol::state::Shared;
use crate::telemetry::Protocol;

/// A flag, and the length.
const HEADER: usize = 5;

/// Compressed bytes are taken in pieces of this size, between which others have their turn.
const PIECE: usize = 4 << 10;

/// Inflated ones are walked in parts of this size: a byte may be a field.
const PART: usize = 16 << 10;

/// What the messages of a call were charged, from their first byte until their answers are sent. In the extensions of the
/// request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charges(Arc<Mutex<Account>>);

#[derive(Debug, Default)]
struct Account {
    /// Of messages that nobody has taken yet, in their order.
    arrived: VecDeque<Allowance>,
    /// Of answers on their way.
    answered: Vec<Allowance>,
}

impl Charges {
    /// What the next message may hold; each is asked for once, in their order.
    pub(crate) fn take(&self) -> Allowance {
        let next = self.0.lock().arrived.pop_front();
        // The messages come this way, or there are none.
        next.unwrap_or_default()
    }

    /// The answer to a message goes to the client now.
    pub(crate) fn answered(&self, allowance: Allowance) {
        self.0.lock().answered.push(allowance);
    }

    fn arrived(&self, allowance: Allowance) {
        self.0.lock().arrived.push_back(allowance);
    }

    /// Keeps the charges of answers until they have left this process.
    pub(crate) fn held(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let sent = std::mem::take(&mut self.0.lock().answered);
                if sent.is_empty() {
                    return frame;
                }
                frame.map_data(|bytes| Charged::with(bytes, sent))
            }))
        })
    }
}

/// The body of a call, whose messages have this layout and are charged to `charges`.
pub(crate) fn metered(
    (headers, body): (&HeaderMap, Body),
    layout: &'static Layout,
    shared: &Shared,
    charges: &Charges,
) -> Body {
    let coding = match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
        Some(b"gzip") => Some(Coding::Gzip),
        Some(b"deflate") => Some(Coding::Deflate),
        _ => None,
    };
    let meter = Meter {
        body,
        coding,
        layout,
        shared: shared.clone(),
        charges: charges.clone(),
        state: State::Header(HeaderPart::new()),
        left: Bytes::new(),
        buffer: shared.allowance(),
    };
    let parts = stream::unfold(Some(meter), |meter: Option<Meter>| async move {
        let mut meter = meter?;
        match meter.next().await {
            Ok(Some(part)) => Some((Ok(part), Some(meter))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    // The library asks again after the end.
    let parts = parts.fuse();
    Body::from_stream(parts.filter(|part| ready(!matches!(part, Ok(part) if part.is_empty()))))
}

/// The first bytes of a header.
type HeaderPart = Vec<u8>;

/// See the module.
struct Meter {
    body: Body,
    coding: Option<Coding>,
    layout: &'static Layout,
    shared: Shared,
    charges: Charges,
    state: State,
    /// Came, and was not looked at yet.
    left: Bytes,
    /// The library keeps its buffer until the call ends, as large as the largest message was.
    buffer: Allowance,
}

enum State {
    /// Of the next message, as far as it came.
    Header(HeaderPart),
    /// So many bytes of a message are missing.
    Plain(usize, Box<Walker>, Allowance),
    Compressed(usize, Box<Stream>, Allowance),
    /// The library refuses what comes, and says why.
    Refused,
}

impl Meter {
    /// The next bytes for the library; `None` when there are no more.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.left.is_empty() {
            match self.read().await? {
                Some(part) => self.left = part,
                None => return Ok(None),
            }
        }
        let advanced = self.advance().await;
        advanced.map(Some).map_err(|error| self.refused(&error))
    }

    /// The next bytes of the client, which may pause between messages and not within one.
    async fn read(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let pause = match &self.state {
                State::Header(begun) if begun.is_empty() => None,
                _ => self.shared.body_limits().pause,
            };
            let frame = match pause {
                None => self.body.frame().await,
                Some(pause) => timeout(pause, self.body.frame()).await.map_err(|_| {
                    let message = format!("nothing came for {pause:?} (`limits.body_timeout`)");
                    self.refused(&OipError::Invalid(message))
                })?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Status::from_error(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Nothing of use here.
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }

    /// Works on what came, at least a byte of it.
    async fn advance(&mut self) -> Result<Bytes, OipError> {
        if let Some(message) = self.whole_message()? {
            return Ok(message);
        }
        match &mut self.state {
            State::Refused => Ok(std::mem::take(&mut self.left)),
            State::Header(header) => {
                let missing = HEADER - header.len();
                let part = self.left.split_to(missing.min(self.left.len()));
                header.extend_from_slice(&part);
                match <[u8; HEADER]>::try_from(header.as_slice()) {
                    Ok(header) => self.begin(header).await,
                    Err(_) => Ok(Bytes::new()),
                }
            }
            State::Plain(missing, walker, allowance) => {
                let part = self.left.split_to((*missing).min(self.left.len()));
                *missing -= part.len();
                // The library gathers them.
                allowance.charge(part.len())?;
                walker.push(&part)?;
                if *missing == 0 {
                    self.whole()?;
                }
                Ok(part)
            }
            State::Compressed(missing, stream, _) => {
                let part = self.left.split_to(PIECE.min(*missing).min(self.left.len()));
                *missing -= part.len();
                let pushed = stream.push(&part);
                pushed.map_err(|error| unreadable(&error, self.shared.body_limits().max_bytes))?;
                tokio::task::consume_budget().await;
                if *missing == 0 {
                    return self.inflated().await;
                }
                Ok(Bytes::new())
            }
        }
    }

    /// A plain message that came in one piece, as most do that are small.
    fn whole_message(&mut self) -> Result<Option<Bytes>, OipError> {
        let Some(([0, length @ ..], rest)) = self.left.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let begins = matches!(&self.state, State::Header(part) if part.is_empty());
        if !begins || length > self.shared.body_limits().max_bytes || length > rest.len() {
            return Ok(None);
        }
        let allowance = self.shared.allowance();
        allowance.charge(HEADER + length)?;
        let mut walker = self.walker(length, allowance.clone());
        walker.push(&rest[..length])?;
        walker.finish()?;
        self.keep(length)?;
        self.charges.arrived(allowance);
        Ok(Some(self.left.split_to(HEADER + length)))
    }

    /// A message begins; what comes of its header.
    async fn begin(&mut self, header: [u8; HEADER]) -> Result<Bytes, OipError> {
        let [flag, length @ ..] = header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let limit = self.shared.body_limits().max_bytes;
        let (state, plain) = match (flag, self.coding) {
            _ if length > limit => (State::Refused, true),
            (0, _) => {
                let allowance = self.shared.allowance();
                let walker = self.walker(length, allowance.clone());
                (State::Plain(length, Box::new(walker), allowance), true)
            }
            (1, Some(coding)) => {
                let allowance = self.shared.allowance();
                let bounds = Bounds {
                    limit,
                    pause: None,
                    allowance: allowance.clone(),
                };
                let stream = Stream::new(coding, bounds)?;
                (
                    State::Compressed(length, Box::new(stream), allowance),
                    false,
                )
            }
            _ => (State::Refused, true),
        };
        self.state = state;
        match &self.state {
            State::Plain(0, ..) => self.whole()?,
            State::Compressed(0, ..) => return self.inflated().await,
            _ => {}
        }
        Ok(match plain {
            true => Bytes::copy_from_slice(&header),
            false => Bytes::new(),
        })
    }

    fn walker(&self, length: usize, allowance: Allowance) -> Walker {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        Walker::new(self.layout, length, allowance)
    }

    /// A plain message is whole.
    fn whole(&mut self) -> Result<(), OipError> {
        let next = State::Header(HeaderPart::new());
        if let State::Plain(_, walker, allowance) = std::mem::replace(&mut self.state, next) {
            let length = walker.length();
            walker.finish()?;
            self.keep(length)?;
            self.charges.arrived(allowance);
        }
        Ok(())
    }

    /// A compressed message is whole: the same message, not compressed.
    async fn inflated(&mut self) -> Result<Bytes, OipError> {
        let next = State::Header(HeaderPart::new());
        let State::Compressed(_, stream, allowance) = std::mem::replace(&mut self.state, next)
        else {
            return Ok(Bytes::new());
        };
        let limit = self.shared.body_limits().max_bytes;
        let message = stream.finish().map_err(|error| unreadable(&error, limit))?;
        let mut walker = self.walker(message.len(), allowance.clone());
        for part in message.chunks(PART) {
            walker.push(part)?;
            tokio::task::yield_now().await;
        }
        walker.finish()?;
        // With its header, and once more where the library gathers it.
        allowance.charge(message.len().saturating_mul(2))?;
        let mut frame = Vec::with_capacity(HEADER + message.len());
        frame.push(0);
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&message);
        allowance.release(message.len());
        drop(message);
        self.keep(frame.len())?;
        self.charges.arrived(allowance);
        Ok(frame.into())
    }

    /// Of a message of this length the buffer stays.
    fn keep(&self, length: usize) -> Result<(), OipError> {
        let more = length.saturating_sub(self.buffer.used());
        Ok(self.buffer.charge(more)?)
    }

    fn refused(&self, error: &OipError) -> Status {
        let metrics = self.shared.service().metrics();
        metrics.unknown_request(Protocol::V2Grpc, Some(error.kind()), Duration::ZERO);
        refusal(error, None)
    }
}

fn unreadable(error: &InflateError, limit: usize) -> OipError {
    match error {
        InflateError::TooLarge => OipError::TooLarge(limit),
        InflateError::OverBudget(over) => OipError::OverBudget(*over),
        InflateError::Broken(reason) => OipError::Invalid(format!(
            "the message could not be read: it is not compressed as it says: {reason}"
        )),
    }
}

impl From<WireError> for OipError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::OverBudget(over) => Self::OverBudget(over),
            WireError::Malformed(reason) => {
                Self::Invalid(format!("the message could not be read: {reason}"))
            }
        }
    }
}
