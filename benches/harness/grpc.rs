//! One kept connection of gRPC: HTTP/2 as plain as it can be, one call at a time, so that the client costs as little as
//! that of HTTP/1.1.
//!
//! The head of a call is encoded once and only its stream is another each time; answers are not decoded. Messages must be
//! small: no window of the server is watched.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What comes before the payload of a frame: length, kind, flags, stream.
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The largest window that there can be, less what a connection begins with.
const WINDOW: u32 = (1 << 31) - 1 - 65_535;

/// Both frames of a call, of the stream 1.
pub(crate) fn call(authority: &str, path: &str, message: &[u8]) -> Vec<u8> {
    // By HPACK's table: POST and http, then names of it and of ours with their values as they are.
    let mut head = vec![0x83, 0x86];
    for (index, value) in [(4, path), (1, authority)] {
        head.push(index);
        text(&mut head, value);
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        head.push(0);
        text(&mut head, name);
        text(&mut head, value);
    }
    let length = u32::try_from(message.len()).expect("messages are small");
    let mut body = vec![0];
    body.extend(length.to_be_bytes());
    body.extend(message);
    let mut frames = frame(HEADERS, END_HEADERS, 1, &head);
    frames.extend(frame(DATA, END_STREAM, 1, &body));
    frames
}

fn text(head: &mut Vec<u8>, value: &str) {
    // Longer ones have another form.
    assert!(value.len() < 127, "`{value}` is too long");
    head.push(u8::try_from(value.len()).expect("it is short"));
    head.extend(value.as_bytes());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are small");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The frames of the call, with the number of the next stream.
    call: Vec<u8>,
    /// Where the second frame begins.
    second: usize,
    next: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Begins to speak on `stream`; `call` is of [`call`].
    pub(crate) async fn open(mut stream: TcpStream, call: &[u8]) -> Result<Self> {
        let mut begin = PREFACE.to_vec();
        begin.extend(frame(SETTINGS, 0, 0, &[]));
        begin.extend(frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes()));
        stream.write_all(&begin).await?;
        Ok(Self {
            stream,
            second: FRAME_HEAD + length(call),
            call: call.to_vec(),
            next: 1,
            buffer: Vec::with_capacity(1 << 16),
        })
    }

    /// Calls and reads the whole answer: whether it brought a message, which a refusal does not.
    pub(crate) async fn ask(&mut self) -> Result<bool> {
        let number = self.next;
        self.next += 2;
        for start in [0, self.second] {
            self.call[start + 5..start + FRAME_HEAD].copy_from_slice(&number.to_be_bytes());
        }
        self.stream.write_all(&self.call).await?;
        let mut has_message = false;
        loop {
            let (kind, flags, stream) = self.read_frame().await?;
            match kind {
                SETTINGS | PING if flags & ACK == 0 => self.acknowledge(kind).await?,
                GO_AWAY => return Err(ErrorKind::ConnectionAborted.into()),
                DATA if stream == number => has_message = true,
                _ => {}
            }
            let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            self.drop_frame();
            if ends && stream == number {
                return Ok(has_message);
            }
        }
    }

    /// The head of the next frame, when all of it is in the buffer.
    async fn read_frame(&mut self) -> Result<(u8, u8, u32)> {
        while self.buffer.len() < FRAME_HEAD
            || self.buffer.len() < FRAME_HEAD + length(&self.buffer)
        {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
        }
        let mut stream = [0; 4];
        stream.copy_from_slice(&self.buffer[5..FRAME_HEAD]);
        Ok((self.buffer[3], self.buffer[4], u32::from_be_bytes(stream)))
    }

    fn drop_frame(&mut self) {
        let whole = FRAME_HEAD + length(&self.buffer);
        self.buffer.drain(..whole);
    }

    async fn acknowledge(&mut self, kind: u8) -> Result<()> {
        let payload = match kind {
            PING => &self.buffer[FRAME_HEAD..FRAME_HEAD + length(&self.buffer)],
            _ => &[],
        };
        let answer = frame(kind, ACK, 0, payload);
        self.stream.write_all(&answer).await
    }
}

/// Bytes of the payload of the frame that begins here.
fn length(frame: &[u8]) -> usize {
    usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])
}
