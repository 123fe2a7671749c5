//! HTTP/2 by hand, for clients that no library would be.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// HTTP/2 by hand.
pub(crate) struct Frames(pub(crate) TcpStream);

impl Frames {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        Self::open_with(to, &[]).await
    }

    /// The same where the server may not want another connection.
    pub(crate) async fn try_open(to: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to).await?;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(preface).await?;
        Ok(Self(stream))
    }

    /// With these settings, six bytes each.
    pub(crate) async fn open_with(to: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = Self::frame(4, 0, 0, settings);
        stream
            .write_all(&[&preface[..], &settings].concat())
            .await
            .unwrap();
        Self(stream)
    }

    /// A request of this method and path with these headers, and its body.
    pub(crate) fn request(
        stream: u32,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let text = |text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 127);
            [&[length], text.as_bytes()].concat()
        };
        // `:scheme http`, then literals without a place in the table.
        let mut block = vec![0x86];
        for (name, value) in [(":method", method), (":path", path), (":authority", "x")]
            .iter()
            .chain(headers)
        {
            block.push(0);
            block.extend(text(name));
            block.extend(text(value));
        }
        let ends = |is_last: bool| u8::from(is_last);
        let mut frames = Self::frame(1, 4 | ends(body.is_empty()), stream, &block);
        let mut left = body;
        while !left.is_empty() {
            let (part, rest) = left.split_at(left.len().min(16 << 10));
            frames.extend(Self::frame(0, ends(rest.is_empty()), stream, part));
            left = rest;
        }
        frames
    }

    /// A request without its body.
    pub(crate) fn begun(stream: u32) -> Vec<u8> {
        let path = "/v2/models/iris/infer";
        let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend_from_slice(path.as_bytes());
        block.extend_from_slice(b"\x01\x01x");
        Self::frame(1, 4, stream, &block)
    }

    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// The next frame of this kind, and its stream; `None` when the connection is closed.
    pub(crate) async fn next(&mut self, kind: u8) -> Option<(u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            let read = timeout(PATIENCE, self.0.read_exact(&mut head)).await;
            read.expect("a frame in time").ok()?;
            let [a, b, c, found, _, stream @ ..] = head;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            if found == kind {
                return Some((u32::from_be_bytes(stream), payload));
            }
        }
    }
}
