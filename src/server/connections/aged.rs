//! Connections that have had their time: clients are asked to open another one, so that those who keep theirs find
//! replicas that came later.
//!
//! A client of HTTP/1.1 hears it with an answer (`Connection: close`). One of HTTP/2 gets a GOAWAY (RFC 9113, section 6.8)
//! between two frames that takes nothing back: what it has begun, or begins before it has read that, is answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::jittered;

/// How long a client has to leave after its last request; what it sends within is still answered.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// GOAWAY on stream 0: the highest stream there can be, and NO_ERROR.
const GOAWAY: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0,
];

/// The head of a frame: its length, its type, its flags, and its stream.
const HEAD: usize = 9;

/// Those that came at once do not leave at once.
const JITTER: f64 = 0.1;

/// When a connection that begins now has had its time.
pub(super) fn end(age: Duration) -> Option<Instant> {
    Instant::now().checked_add(jittered(age, JITTER))
}

/// The frames that a connection of HTTP/2 sends, and a farewell among them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head of the frame that is being sent.
    heard: usize,
    /// Bytes of its contents that are yet to be sent.
    left: usize,
    farewell: Farewell,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    #[default]
    Unsaid,
    /// So many of its bytes are sent.
    Saying(usize),
    Said,
}

impl Frames {
    /// Follows bytes that were sent.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEAD - self.heard).min(bytes.len());
            self.head[self.heard..self.heard + taken].copy_from_slice(&bytes[..taken]);
            self.heard += taken;
            bytes = &bytes[taken..];
            if self.heard == HEAD {
                let [high, middle, low, ..] = self.head;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.heard = 0;
            }
        }
    }

    /// What of the farewell is yet to be sent; nothing while a frame is on its way, or when it was said.
    pub(super) fn farewell(&mut self) -> &'static [u8] {
        let is_between = self.heard == 0 && self.left == 0;
        if self.farewell == Farewell::Unsaid && is_between {
            self.farewell = Farewell::Saying(0);
        }
        match self.farewell {
            Farewell::Saying(sent) => &GOAWAY[sent..],
            Farewell::Unsaid | Farewell::Said => &[],
        }
    }

    /// So many bytes of it were sent.
    pub(super) fn said(&mut self, bytes: usize) {
        if let Farewell::Saying(sent) = self.farewell {
            let sent = sent + bytes;
            self.farewell = match sent < GOAWAY.len() {
                true => Farewell::Saying(sent),
                false => Farewell::Said,
            };
        }
    }

    pub(super) fn has_said_farewell(&self) -> bool {
        self.farewell == Farewell::Said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, 0, 0, 0, 0, 0, 1];
        frame.extend(vec![9; usize::from(length)]);
        frame
    }

    #[test]
    fn a_farewell_is_said_between_two_frames_and_once() {
        let sent: Vec<u8> = [frame(3), frame(0), frame(200)].concat();
        let boundaries = [0, 12, 21, 230];
        for piece in [1, 2, 5, 9, 300] {
            for until in 0..=sent.len() {
                let mut frames = Frames::default();
                for part in sent[..until].chunks(piece) {
                    frames.sent(part);
                }
                let expected = if boundaries.contains(&until) { 17 } else { 0 };
                assert_eq!(frames.farewell().len(), expected, "after {until} bytes");
            }
        }
        let mut frames = Frames::default();
        frames.sent(&frame(7));
        assert_eq!(frames.farewell()[..4], [0, 0, 8, 7]);
        frames.said(5);
        assert_eq!(frames.farewell().len(), 12);
        assert!(!frames.has_said_farewell());
        frames.said(12);
        assert!(frames.farewell().is_empty() && frames.has_said_farewell());
    }
}
