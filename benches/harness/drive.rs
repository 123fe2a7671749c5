//! A closed loop that costs little: one thread, many kept connections, answers read by their length.
//!
//! The client shares the machine with the server, so what it costs is in every throughput; the server's own processor
//! time, from the kernel's accounting, is not disturbed by it.

use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Request, Wire};
use crate::grpc::Connection;
use crate::process::cpu_nanoseconds;
use crate::report::quantile;

/// What one stretch of time gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Good answers.
    pub(crate) answers: usize,
    /// Answers with another status than 200.
    pub(crate) refused: usize,
    pub(crate) seconds: f64,
    /// Processor time of the server, in seconds.
    pub(crate) cpu: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Microseconds of the server's processor time for an answer.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / self.answers.max(1) as f64
    }
}

/// Sends `request` on so many connections, each again as soon as it has its answer.
pub(crate) fn closed_loop(
    request: &Request,
    processes: &[u32],
    connections: usize,
    time: Duration,
) -> Round {
    let request = request.clone();
    let processes = processes.to_vec();
    // A runtime of its own on a thread of its own: the bench's runtime has other work.
    let thread = std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder
            .enable_all()
            .build()
            .expect("the system gives a runtime");
        runtime.block_on(drive(&request, &processes, connections, time))
    });
    thread.join().expect("a client does not panic")
}

async fn drive(request: &Request, processes: &[u32], connections: usize, time: Duration) -> Round {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(request.address()).await;
        let stream = stream.expect("the server listens");
        stream.set_nodelay(true).expect("TCP");
        streams.push(stream);
    }
    let cpu = cpu_nanoseconds(processes);
    let began = Instant::now();
    let until = began + time;
    let clients = streams.into_iter().map(|stream| async move {
        match request.wire() {
            Wire::Http => ask_until(request.bytes(), stream, until).await,
            Wire::Grpc => call_until(request.bytes(), stream, until).await,
        }
    });
    let done = futures_util::future::join_all(clients).await;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (cpu_nanoseconds(processes) - cpu) / 1e9;
    let (mut latencies, mut refused) = (Vec::new(), 0);
    for one in done {
        let (good, bad) = one.expect("the server answers");
        latencies.extend(good);
        refused += bad;
    }
    Round {
        answers: latencies.len(),
        refused,
        seconds,
        cpu,
        p50: quantile(&mut latencies, 0.5),
        p99: quantile(&mut latencies, 0.99),
    }
}

async fn ask_until(
    request: &[u8],
    mut stream: TcpStream,
    until: Instant,
) -> Result<(Vec<Duration>, usize)> {
    let mut buffer = Vec::with_capacity(1 << 16);
    let (mut latencies, mut refused) = (Vec::new(), 0);
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok((latencies, refused));
        }
        stream.write_all(request).await?;
        buffer.clear();
        let mut whole = None;
        loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            whole = whole.or_else(|| length(&buffer));
            if whole.is_some_and(|whole| buffer.len() >= whole) {
                break;
            }
        }
        match buffer.get(9..12) {
            Some(b"200") => latencies.push(began.elapsed()),
            Some(_) => refused += 1,
            None => return Err(Error::new(ErrorKind::InvalidData, "no HTTP")),
        }
    }
}

async fn call_until(
    call: &[u8],
    stream: TcpStream,
    until: Instant,
) -> Result<(Vec<Duration>, usize)> {
    let mut connection = Connection::open(stream, call).await?;
    let (mut latencies, mut refused) = (Vec::new(), 0);
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok((latencies, refused));
        }
        match connection.ask().await? {
            true => latencies.push(began.elapsed()),
            false => refused += 1,
        }
    }
}

/// The length of the whole answer, once its head is there.
fn length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let name = b"content-length: ";
    let matches =
        |line: &[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    let line = buffer[..head]
        .split(|byte| *byte == b'\n')
        .find(|line| matches(line))?;
    let digits = std::str::from_utf8(&line[name.len()..]).ok()?;
    Some(head + digits.trim().parse::<usize>().ok()?)
}
