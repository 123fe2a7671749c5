//! One kept connection: HTTP/1.1 as plain as it can be, so that the client costs little of the two's common machine.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any request should take: then it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that is sent again and again.
#[derive(Clone)]
pub(crate) struct Request {
    address: SocketAddr,
    bytes: Vec<u8>,
    wire: Wire,
}

/// How the bytes of a request are spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// HTTP/1.1, the same bytes each time.
    Http,
    /// HTTP/2, on another stream each time.
    Grpc,
}

impl Request {
    pub(crate) fn new(address: SocketAddr, path: &str, body: &str) -> Self {
        let json = "Content-Type: application/json\r\n";
        Self::with_headers(address, path, json, body.as_bytes())
    }

    /// With these header lines, each of which ends in CRLF.
    pub(crate) fn with_headers(
        address: SocketAddr,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Self {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        let bytes = [head.as_bytes(), body].concat();
        Self {
            address,
            bytes,
            wire: Wire::Http,
        }
    }

    /// A call over gRPC: `bytes` are its frames.
    pub(crate) fn grpc(address: SocketAddr, bytes: Vec<u8>) -> Self {
        Self {
            address,
            bytes,
            wire: Wire::Grpc,
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The default model's predictions for one row.
    pub(crate) fn invocations(address: SocketAddr, row: &str) -> Self {
        Self::new(
            address,
            "/invocations",
            &format!(r#"{{"inputs": [{row}]}}"#),
        )
    }
}

/// What matters of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As the header `x-model-version` says.
    pub(crate) version: u64,
    /// The first number of the first row.
    pub(crate) predicted: Option<f64>,
}

/// A connection that is kept.
pub(crate) struct Client {
    request: Request,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(request: &Request) -> Result<Self> {
        let stream = TcpStream::connect(request.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            request: request.clone(),
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends the request and reads the whole answer.
    pub(crate) fn ask(&mut self) -> Result<Answer> {
        self.stream.write_all(&self.request.bytes)?;
        self.buffer.clear();
        let head = loop {
            self.read()?;
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid(&text))?;
        let length: usize = header(&text, "content-length").ok_or_else(|| invalid(&text))?;
        while self.buffer.len() < head + length {
            self.read()?;
        }
        Ok(Answer {
            status,
            version: header(&text, "x-model-version").unwrap_or_default(),
            predicted: first_number(&self.buffer[head..]),
        })
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

fn header<T: std::str::FromStr>(head: &str, name: &str) -> Option<T> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let (_, value) = lines.find(|(found, _)| *found == name)?;
    value.parse().ok()
}

fn first_number(body: &[u8]) -> Option<f64> {
    let start = find(body, b"[[")? + 2;
    let rest = &body[start..];
    let end = rest.iter().position(|byte| matches!(byte, b',' | b']'))?;
    std::str::from_utf8(&rest[..end]).ok()?.trim().parse().ok()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn invalid(head: &str) -> Error {
    Error::new(ErrorKind::InvalidData, head.to_owned())
}
