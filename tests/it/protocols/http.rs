//! HTTP/1.1 by hand: requests that no client library would send, byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A request on its own connection. Nothing is added but `Host`, `Connection: close` and the body's length.
pub(crate) struct RawRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl RawResponse {
    /// The value of a header, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl RawRequest<'_> {
    /// Sends the request; an error says why there is no answer.
    pub(crate) async fn send(&self, to: SocketAddr) -> Result<RawResponse, String> {
        tokio::time::timeout(TIMEOUT, self.exchange(to))
            .await
            .map_err(|_| format!("no answer within {TIMEOUT:?}"))?
    }

    async fn exchange(&self, to: SocketAddr) -> Result<RawResponse, String> {
        let mut stream = TcpStream::connect(to)
            .await
            .map_err(|error| error.to_string())?;
        // A server may refuse before it has read everything, and then its answer is what counts.
        let sent = stream.write_all(&self.bytes(to)).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        parse(&answer).map_err(|error| format!("{error}; sent: {sent:?}, read: {read:?}"))
    }

    fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let chunked = self.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
        });
        let mut body = Vec::new();
        match &self.body {
            Some(whole) if chunked => {
                let (first, second) = whole.split_at(whole.len() / 2);
                for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                    body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    body.extend_from_slice(part);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n\r\n");
            }
            Some(whole) => {
                head.push_str(&format!("Content-Length: {}\r\n", whole.len()));
                body.extend_from_slice(whole);
            }
            None if matches!(self.method, "POST" | "PUT") => head.push_str("Content-Length: 0\r\n"),
            None => {}
        }
        head.push_str("\r\n");
        [head.into_bytes(), body].concat()
    }
}

fn parse(answer: &[u8]) -> Result<RawResponse, String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end =
        end.ok_or_else(|| format!("no whole head in `{}`", String::from_utf8_lossy(answer)))?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = RawResponse {
        status: status.ok_or_else(|| format!("no status in `{head}`"))?,
        headers,
        body: answer[end + 4..].to_vec(),
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = join_chunks(&response.body)?;
    }
    Ok(response)
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .ok_or("a chunk has no length")?;
        let length = std::str::from_utf8(&rest[..line])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = length.ok_or("a chunk's length is no number")?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(
            rest.get(line + 2..line + 2 + length)
                .ok_or("a chunk is cut off")?,
        );
        rest = rest.get(line + 4 + length..).ok_or("a chunk is cut off")?;
    }
}

#[test]
fn joins_the_chunks_of_an_answer() {
    let answer = parse(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"abcde".as_slice())
    );
    assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc\r\n").is_err());
}
