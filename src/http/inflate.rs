//! Inflates compressed bodies.
//!
//! Not by the layer of tower-http: of a body of two gzip members it gives the first and drops the other in silence.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use flate2::write::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::budget::{Allowance, OverBudget};

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// One or more members.
    Gzip,
    /// In zlib's form.
    Deflate,
}

/// Why a body is not inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It is larger than the limit, as it came or inflated.
    #[error("larger than the limit")]
    TooLarge,
    /// It is not what it says, or it ended early.
    #[error("{0}")]
    Broken(String),
    /// There is no memory for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// What holds for a body while it is inflated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    /// Bytes that it may have, as it comes and inflated.
    pub(crate) limit: usize,
    /// The longest pause that its client may make; `None` is any.
    pub(crate) pause: Option<Duration>,
    /// What it is charged to.
    pub(crate) allowance: Allowance,
}

/// Compressed bytes are taken in pieces of this size: each may grow a thousandfold, and other requests wait for it.
const PIECE: usize = 4 << 10;

/// Room is made in steps of this size.
const STEP: usize = 64 << 10;

/// What a decompressor holds by itself: its window and its tables.
const STATE: usize = 64 << 10;

/// The whole of `body` after the encodings that were put one upon the other, each undone within these bounds.
///
/// # Errors
/// [`InflateError`].
pub(crate) async fn inflate_all(
    mut body: Body,
    codings: impl Iterator<Item = Coding>,
    bounds: Bounds,
) -> Result<Bytes, InflateError> {
    let allowance = bounds.allowance.clone();
    let (mut inflated, mut charged) = (Bytes::new(), 0);
    for coding in codings {
        let before = allowance.used();
        inflated = inflate(body, coding, bounds.clone()).await?;
        let own = allowance.used().saturating_sub(before);
        // What it was made of has gone.
        allowance.release(charged);
        charged = own;
        body = Body::from(inflated.clone());
    }
    Ok(inflated)
}

/// The whole of `body`, inflated as it arrives and no further than the limit.
///
/// # Errors
/// [`InflateError`].
async fn inflate(mut body: Body, coding: Coding, bounds: Bounds) -> Result<Bytes, InflateError> {
    let longest = bounds.pause.unwrap_or(Duration::MAX);
    let limit = bounds.limit;
    let mut stream = Stream::new(coding, bounds)?;
    let mut received: usize = 0;
    while let Some(frame) = timeout(longest, body.frame()).await.map_err(|_| {
        InflateError::Broken(format!(
            "nothing came for {longest:?} (`limits.body_timeout`)"
        ))
    })? {
        let frame = frame.map_err(|error| InflateError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        received = received.saturating_add(data.len());
        if received > limit {
            return Err(InflateError::TooLarge);
        }
        for piece in data.chunks(PIECE) {
            stream.push(piece)?;
            tokio::task::consume_budget().await;
        }
    }
    if received == 0 {
        return Ok(Bytes::new());
    }
    stream.finish()
}

/// A body that is being inflated, piece by piece.
pub(crate) enum Stream {
    Gzip {
        decoder: Box<GzDecoder<Bounded>>,
        /// A member has ended, and no other one has begun.
        is_between: bool,
    },
    Deflate {
        state: Decompress,
        has_ended: bool,
        out: Bounded,
    },
}

impl Stream {
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn new(coding: Coding, bounds: Bounds) -> Result<Self, OverBudget> {
        bounds.allowance.charge(STATE)?;
        let out = Bounded {
            bytes: Vec::new(),
            limit: bounds.limit,
            allowance: bounds.allowance,
        };
        Ok(match coding {
            Coding::Gzip => Self::Gzip {
                decoder: Box::new(GzDecoder::new(out)),
                is_between: false,
            },
            Coding::Deflate => Self::Deflate {
                state: Decompress::new(true),
                has_ended: false,
                out,
            },
        })
    }

    /// # Errors
    /// [`InflateError`].
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> Result<(), InflateError> {
        match self {
            Self::Gzip {
                decoder,
                is_between,
            } => {
                while !piece.is_empty() {
                    if *is_between {
                        // Zeros fill up blocks, as those of a tape: no member begins with one.
                        let padding = piece.iter().take_while(|byte| **byte == 0).count();
                        piece = &piece[padding..];
                        if piece.is_empty() {
                            break;
                        }
                        **decoder = GzDecoder::new(std::mem::take(decoder.get_mut()));
                        *is_between = false;
                    }
                    match decoder.write(piece).map_err(refused)? {
                        // It takes nothing beyond its end.
                        0 => {
                            decoder.try_finish().map_err(refused)?;
                            *is_between = true;
                        }
                        taken => piece = piece.get(taken..).unwrap_or_default(),
                    }
                }
                Ok(())
            }
            Self::Deflate {
                state,
                has_ended,
                out,
            } => {
                while !piece.is_empty() {
                    if *has_ended {
                        let message = "bytes follow the end of the compressed data";
                        return Err(InflateError::Broken(message.to_owned()));
                    }
                    out.reserve(STEP)?;
                    let before = state.total_in();
                    let status = state
                        .decompress_vec(piece, &mut out.bytes, FlushDecompress::None)
                        .map_err(|error| InflateError::Broken(error.to_string()))?;
                    let taken = usize::try_from(state.total_in() - before).unwrap_or(usize::MAX);
                    piece = piece.get(taken..).unwrap_or_default();
                    *has_ended = status == Status::StreamEnd;
                }
                out.check()
            }
        }
    }

    /// All that was inflated.
    ///
    /// # Errors
    /// [`InflateError`].
    pub(crate) fn finish(self) -> Result<Bytes, InflateError> {
        match self {
            Self::Gzip {
                mut decoder,
                is_between,
            } => {
                if !is_between {
                    decoder.try_finish().map_err(refused)?;
                }
                Ok(std::mem::take(decoder.get_mut()).finish())
            }
            Self::Deflate {
                mut state,
                mut has_ended,
                mut out,
            } => {
                // What it holds back for want of room.
                while !has_ended {
                    out.reserve(STEP)?;
                    let before = out.bytes.len();
                    let status = state
                        .decompress_vec(&[], &mut out.bytes, FlushDecompress::Finish)
                        .map_err(|error| InflateError::Broken(error.to_string()))?;
                    has_ended = status == Status::StreamEnd;
                    if !has_ended && out.bytes.len() == before {
                        let message = "the compressed data ends early";
                        return Err(InflateError::Broken(message.to_owned()));
                    }
                }
                out.check()?;
                Ok(out.finish())
            }
        }
    }
}

/// What was inflated so far.
#[derive(Default)]
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    allowance: Allowance,
}

impl Bounded {
    fn check(&self) -> Result<(), InflateError> {
        if self.bytes.len() > self.limit {
            return Err(InflateError::TooLarge);
        }
        Ok(())
    }

    /// Makes room, at most for one byte beyond the limit: that one tells that there is more.
    fn reserve(&mut self, step: usize) -> Result<(), InflateError> {
        self.check()?;
        let bytes = &mut self.bytes;
        let most = (self.limit - bytes.len()).saturating_add(1);
        if bytes.capacity() - bytes.len() >= step.min(most) {
            return Ok(());
        }
        // By doubling, and charged before it is there.
        let more = step.max(bytes.len()).min(most);
        self.allowance
            .charge(bytes.len() + more - bytes.capacity())?;
        bytes.reserve_exact(more);
        Ok(())
    }

    fn finish(self) -> Bytes {
        self.allowance.release(STATE);
        self.bytes.into()
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(InflateError::TooLarge.into());
        }
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On its way through a writer.
impl From<InflateError> for io::Error {
    fn from(error: InflateError) -> Self {
        Self::other(error)
    }
}

fn refused(error: io::Error) -> InflateError {
    let ours = error.get_ref().and_then(|error| error.downcast_ref());
    let ours: Option<&InflateError> = ours;
    ours.cloned()
        .unwrap_or_else(|| InflateError::Broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn compress(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Inflates a body that arrives in pieces of this size.
    fn inflated(
        coding: Coding,
        bytes: &[u8],
        (limit, piece): (usize, usize),
    ) -> Result<Bytes, InflateError> {
        inflated_on(Allowance::unlimited(), &[coding], bytes, (limit, piece))
    }

    fn inflated_on(
        allowance: Allowance,
        codings: &[Coding],
        bytes: &[u8],
        (limit, piece): (usize, usize),
    ) -> Result<Bytes, InflateError> {
        let bounds = Bounds {
            limit,
            pause: None,
            allowance,
        };
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let inflated = inflate_all(body, codings.iter().rev().copied(), bounds);
        runtime.unwrap().block_on(inflated)
    }

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    proptest! {
        #[test]
        fn what_was_compressed_comes_back_in_whatever_pieces_and_up_to_the_limit(
            bytes in proptest::collection::vec(0_u8..4, 1..3000),
            piece in 1_usize..200,
        ) {
            for coding in BOTH {
                let sent = compress(coding, &bytes);
                let limit = bytes.len().max(sent.len());
                prop_assert_eq!(&inflated(coding, &sent, (limit, piece)).unwrap()[..], &bytes[..]);
                let short = inflated(coding, &sent, (bytes.len() - 1, piece));
                prop_assert_eq!(short, Err(InflateError::TooLarge));
            }
        }

        #[test]
        fn whatever_is_cut_off_is_refused(cut in 1_usize..40) {
            let bytes: Vec<u8> = (0..=255).collect();
            for coding in BOTH {
                let sent = compress(coding, &bytes);
                let cut_off = inflated(coding, &sent[..sent.len() - cut], (4096, 16));
                prop_assert!(matches!(cut_off, Err(InflateError::Broken(_))), "{:?}", cut_off);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_inflated(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for coding in BOTH {
                let _ = inflated(coding, &bytes, (4096, 7));
            }
        }
    }

    #[test]
    fn of_gzip_every_member_counts_and_of_deflate_nothing_may_follow() {
        let twice = |coding| {
            let one = compress(coding, b"one,");
            inflated(coding, &[one.clone(), one].concat(), (4096, 4096))
        };
        assert_eq!(twice(Coding::Gzip).unwrap(), "one,one,");
        assert!(matches!(
            twice(Coding::Deflate),
            Err(InflateError::Broken(_))
        ));
    }

    #[test]
    fn zeros_after_a_member_of_gzip_are_padding_and_nothing_else_is() {
        let member = compress(Coding::Gzip, b"one,");
        let of =
            |parts: &[&[u8]], piece: usize| inflated(Coding::Gzip, &parts.concat(), (4096, piece));
        for piece in [1, 7, 4096] {
            let padded = of(&[&member, &[0; 600]], piece);
            assert_eq!(padded.unwrap(), "one,", "{piece}");
            let between = of(&[&member, &[0; 5], &member, &[0]], piece);
            assert_eq!(between.unwrap(), "one,one,", "{piece}");
            for refused in [
                of(&[&member, &[0; 5], b"x"], piece),
                of(&[&member, b"x"], piece),
                of(&[&[0], &member], piece),
                of(&[&member, &[0; 5], &member[..12]], piece),
                of(&[&[0; 40]], piece),
            ] {
                assert!(
                    matches!(refused, Err(InflateError::Broken(_))),
                    "{refused:?}"
                );
            }
        }
    }

    #[test]
    fn encodings_one_upon_the_other_are_undone_each_within_the_limit_and_the_budget() {
        let budget = crate::budget::Budget::new(64 << 20);
        let bytes: Vec<u8> = (0..200_000_u32)
            .map(|i| i.wrapping_mul(i).to_le_bytes()[1])
            .collect();
        for codings in [
            &[Coding::Gzip, Coding::Gzip][..],
            &[Coding::Deflate, Coding::Gzip],
            &[Coding::Gzip, Coding::Deflate, Coding::Gzip],
        ] {
            let encode = |bytes: Vec<u8>, coding: &Coding| compress(*coding, &bytes);
            let sent = codings.iter().fold(bytes.clone(), encode);
            let allowance = budget.allowance(usize::MAX);
            let inflated = inflated_on(allowance.clone(), codings, &sent, (1 << 20, 1000));
            assert_eq!(&inflated.unwrap()[..], &bytes[..], "{codings:?}");
            let charged = allowance.used();
            assert!(charged >= bytes.len(), "{codings:?}: {charged}");
            assert!(charged < 2 * bytes.len(), "{codings:?}: {charged}");
            drop(allowance);
            assert_eq!(budget.used(), 0);
            let allowance = budget.allowance(usize::MAX);
            let short = inflated_on(allowance, codings, &sent, (bytes.len() - 1, 1000));
            assert_eq!(short, Err(InflateError::TooLarge), "{codings:?}");
        }
        // Small in the middle, large at the end, and the other way round.
        let bomb = compress(Coding::Gzip, &vec![0; 8 << 20]);
        let twice = compress(Coding::Gzip, &bomb);
        let small = crate::budget::Budget::new(2 << 20);
        let both = &[Coding::Gzip, Coding::Gzip];
        let refused = inflated_on(small.allowance(usize::MAX), both, &twice, (16 << 20, 1000));
        assert!(matches!(refused, Err(InflateError::OverBudget(_))));
        let refused = inflated_on(small.allowance(usize::MAX), both, &bomb, (16 << 20, 1000));
        assert!(matches!(refused, Err(InflateError::OverBudget(_))));
        assert_eq!(small.used(), 0);
    }

    #[test]
    fn nothing_is_nothing_and_a_bomb_takes_no_more_than_the_limit() {
        for coding in BOTH {
            assert_eq!(inflated(coding, &[], (10, 1)).unwrap(), "");
            let bomb = compress(coding, &vec![0; 8 << 20]);
            let refused = inflated(coding, &bomb, (bomb.len(), 4096));
            assert_eq!(refused, Err(InflateError::TooLarge));
        }
    }

    #[test]
    fn what_is_inflated_is_charged_before_it_is_there() {
        let budget = crate::budget::Budget::new(2 << 20);
        for coding in BOTH {
            let bytes = vec![0; 600 << 10];
            let sent = compress(coding, &bytes);
            let allowance = budget.allowance(usize::MAX);
            let inflated = inflated_on(allowance.clone(), &[coding], &sent, (8 << 20, 100));
            assert_eq!(inflated.unwrap().len(), bytes.len());
            assert!(allowance.used() >= bytes.len(), "{coding:?}");
            drop(allowance);
            assert_eq!(budget.used(), 0, "{coding:?}");
            let bomb = compress(coding, &vec![0; 8 << 20]);
            let allowance = budget.allowance(usize::MAX);
            let refused = inflated_on(allowance, &[coding], &bomb, (8 << 20, 100));
            assert!(
                matches!(refused, Err(InflateError::OverBudget(_))),
                "{coding:?}"
            );
            assert_eq!(budget.used(), 0, "{coding:?}");
        }
    }
}
