//! Messages of a few bytes that become gigabytes, bodies that never end, and clients that take nothing, from many
//! connections at once.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use onstage::protocol::inference::ModelInferRequest;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::{Cost, Watch, judged, record, told};
use crate::lifecycle::swap::scene::{Load, counter, metrics, until};
use crate::protocols::bad_input::peak_memory;
use crate::protocols::grpc;
use crate::protocols::grpc::RawCall;
use crate::support::frames::Frames;
use crate::support::server::{Server, Starter};

const MIB: usize = 1 << 20;

/// What all requests may hold in these tests, and one body.
const MEMORY: usize = 64 * MIB;
const MAX_BODY: usize = 8 * MIB;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// A server of iris with little memory for requests.
async fn small(limits: &[(&str, &str)]) -> Server {
    let serve = [
        "model-examples/iris",
        "--engine",
        "tract",
        "--max-body",
        "8MiB",
    ];
    let mut starter = Starter::serve(&serve).env("ONSTAGE_LIMITS__MEMORY", "60MiB");
    for (name, value) in limits {
        starter = starter.env(&format!("ONSTAGE_LIMITS__{}", name.to_uppercase()), *value);
    }
    starter.start().await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A field of this number, with these contents.
fn field(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(contents.len(), &mut field).unwrap();
    field.extend_from_slice(contents);
    field
}

/// A name, a method, and a message of it of nearly so many bytes that would take many times as much.
type Bomb = (&'static str, &'static str, Vec<u8>);

fn bombs(size: usize) -> Vec<Bomb> {
    let many = (size - 64) / 2;
    let model = field(1, b"iris");
    let infer = |rest: Vec<u8>| [model.clone(), rest].concat();
    let contents = |contents: Vec<u8>| infer(field(5, &field(5, &contents)));
    let load = "/inference.GRPCInferenceService/RepositoryModelLoad";
    let trace = "/inference.GRPCInferenceService/TraceSetting";
    let logs = "/inference.GRPCInferenceService/LogSettings";
    vec![
        ("inputs", MODEL_INFER, infer(field(5, &[]).repeat(many))),
        ("outputs", MODEL_INFER, infer(field(6, &[]).repeat(many))),
        ("raw", MODEL_INFER, infer(field(7, &[]).repeat(many))),
        ("parameters", MODEL_INFER, infer(field(4, &[]).repeat(many))),
        (
            "texts",
            MODEL_INFER,
            contents(field(8, &[]).repeat(many - 32)),
        ),
        (
            "integers",
            MODEL_INFER,
            contents(field(3, &vec![0; size - 64])),
        ),
        ("a stream", STREAM_INFER, infer(field(5, &[]).repeat(many))),
        ("load", load, field(3, &[]).repeat(many)),
        (
            "traces",
            trace,
            field(1, &field(2, &field(1, &[]).repeat(many - 32))),
        ),
        ("logs", logs, field(1, &[]).repeat(many)),
    ]
}

/// A message of as many numbers as there is room for.
fn honest(size: usize) -> Vec<u8> {
    let rows = (size - 1024) / 16;
    let shape = i64::try_from(rows).unwrap();
    let numbers = [5.1_f32, 3.5, 1.4, 0.2].map(f32::to_le_bytes).concat();
    let request = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![grpc::input("features", "FP32", &[shape, 4])],
        raw_input_contents: vec![numbers.repeat(rows).into()],
        ..ModelInferRequest::default()
    };
    request.encode_to_vec()
}

/// The rows of the table.
pub(crate) fn kinds() -> Vec<&'static str> {
    let bombs = bombs(4096).into_iter().map(|(name, ..)| name);
    std::iter::once("numbers").chain(bombs).collect()
}

/// What messages cost, beside the bodies of the other decoders: each on a server of its own.
#[tokio::test]
async fn no_message_takes_more_memory_than_it_may_nor_time_beyond_its_size() {
    let path_of = |kind: &str| {
        let bombs = bombs(4096);
        let bomb = bombs.iter().find(|(name, ..)| *name == kind);
        bomb.map_or(MODEL_INFER, |(_, path, _)| *path)
    };
    let message = |kind: &str, size: usize| match kind {
        "numbers" => honest(size),
        kind => {
            let mut bombs = bombs(size).into_iter();
            bombs.find(|(name, ..)| *name == kind).unwrap().2
        }
    };
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for kind in kinds() {
        let path = path_of(kind);
        let mut costs = Vec::new();
        for packed in [false, true] {
            let mut both = Vec::new();
            for size in [MAX_BODY / 4, MAX_BODY] {
                both.push(cost(path, &message(kind, size), packed).await);
            }
            failures.extend(judged("gRPC", kind, (packed, both[0], both[1])));
            costs.push(both[1]);
        }
        lines.push(told("gRPC", kind, &costs));
    }
    if std::env::var_os("ONSTAGE_RECORD").is_some() {
        record(&["gRPC"], &lines);
    }
    #[expect(clippy::print_stderr, reason = "what a failed run is compared with")]
    {
        eprintln!("{}", lines.join("\n"));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

async fn cost(path: &'static str, message: &[u8], packed: bool) -> Cost {
    // Its own limit of memory is that of the whole server; here that of a message is in question.
    let server = small(&[("memory", "512MiB")]).await;
    let mut client = grpc::client(&server).await;
    client.model_infer(grpc::flowers()).await.unwrap();
    let watch = Watch::new(&server);
    let (flag, encoding) = if packed { (1, "gzip") } else { (0, "identity") };
    let sent = if packed {
        gzip(message)
    } else {
        message.to_vec()
    };
    let call = RawCall::of(path, flag, &sent).header("grpc-encoding", encoding);
    let answer = call.send(server.grpc_address());
    let (answer, probe) = watch.beside(answer).await;
    let status = u16::try_from(answer.status.unwrap_or_default()).unwrap();
    watch.cost(status, (sent.len(), message.len()), probe)
}

/// How a message is sent: its flag, its `grpc-encoding`, and its bytes.
fn ways(message: &[u8]) -> [(u8, &'static str, Vec<u8>); 3] {
    [
        (0, "identity", message.to_vec()),
        (1, "gzip", gzip(message)),
        (1, "deflate", deflate(message)),
    ]
}

#[tokio::test]
async fn a_message_that_would_become_too_much_is_refused_before_it_does() {
    let server = small(&[]).await;
    let before = peak_memory(&server);
    for (name, path, message) in bombs(MAX_BODY) {
        for (flag, encoding, bytes) in ways(&message) {
            let call = RawCall::of(path, flag, &bytes).header("grpc-encoding", encoding);
            let answer = call.send(server.grpc_address()).await;
            let told = format!("{name}, {encoding}: {:?} {}", answer.status, answer.message);
            assert_eq!(answer.status, Some(8), "{told}");
            assert!(answer.message.contains("bytes of memory"), "{told}");
            // It would be refused again.
            assert!(
                !answer.headers.contains_key("grpc-retry-pushback-ms"),
                "{told}"
            );
        }
    }
    let grown = peak_memory(&server).saturating_sub(before);
    assert!(grown < 80 << 20, "grown by {} MiB", grown >> 20);
    let refused = r#"onstage_request_memory_refused_total{reason="request"}"#;
    assert_eq!(counter(&server, refused).await, 30);
    until("what was refused is held", &server, async || {
        counter(&server, "onstage_request_memory_bytes").await < 4096
    })
    .await;
    let mut client = grpc::client(&server).await;
    client.model_infer(grpc::flowers()).await.unwrap();
}

#[tokio::test]
async fn a_message_that_inflates_beyond_the_limit_is_refused_while_it_is_inflated() {
    let server = small(&[]).await;
    let before = peak_memory(&server);
    let bomb = vec![0; 256 * MIB];
    for (encoding, bytes) in [("gzip", gzip(&bomb)), ("deflate", deflate(&bomb))] {
        let call = RawCall::of(MODEL_INFER, 1, &bytes).header("grpc-encoding", encoding);
        let answer = call.send(server.grpc_address()).await;
        assert_eq!(answer.status, Some(3), "{}", answer.message);
        assert!(
            answer.message.contains("`server.max_body`"),
            "{}",
            answer.message
        );
    }
    let grown = peak_memory(&server).saturating_sub(before);
    assert!(grown < 40 << 20, "grown by {} MiB", grown >> 20);
}

/// Bodies of HTTP/1.1 that are whole but for their last byte.
async fn unfinished(server: &Server, count: usize, body: &[u8], encoding: &str) -> Vec<TcpStream> {
    let head = format!(
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{encoding}Content-Length: {}\r\n\r\n",
        body.len() + 1
    );
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may refuse it and hang up before it is whole.
        let _ = timeout(Duration::from_secs(5), stream.write_all(body)).await;
        open.push(stream);
    }
    open
}

#[tokio::test]
async fn bodies_that_are_not_finished_are_charged_and_others_are_served() {
    let server = small(&[("body_timeout", "3s")]).await;
    let before = peak_memory(&server);
    let spaces = vec![b' '; MAX_BODY - 64];
    let small_body = gzip(&spaces);
    let held = async |count: usize, body: &[u8], encoding: &str| {
        let open = unfinished(&server, count, body, encoding).await;
        until("the bodies are not held", &server, async || {
            counter(&server, "onstage_request_memory_bytes").await > 46 << 20
        })
        .await;
        // A large one is told to come again, a small one is answered.
        let large = loop {
            let request = server.request(reqwest::Method::POST, "/invocations");
            let request = request.header("content-type", "application/json");
            // The server may hang up before it has all, which this client takes for a broken connection.
            if let Ok(answer) = request.body(vec![b' '; 7 * MIB]).send().await {
                break answer;
            }
        };
        assert_eq!(large.status(), 429);
        assert!(large.headers().contains_key("retry-after"));
        let text = large.text().await.unwrap();
        assert!(
            text.contains("REQUEST_LIMIT_EXCEEDED") && text.contains("`limits.memory`"),
            "{text}"
        );
        let row = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
        // Over a connection of its own: the refused request may have broken the other one.
        let small = reqwest::Client::new().post(server.url("/invocations"));
        let small = small.header("content-type", "application/json").body(row);
        assert_eq!(small.send().await.unwrap().status(), 200);
        let mut client = grpc::client(&server).await;
        client.model_infer(grpc::flowers()).await.unwrap();
        let whole = 5 * MIB;
        let raw = [field(1, b"iris"), field(7, &vec![0; whole])].concat();
        let refused = RawCall::of(MODEL_INFER, 0, &raw)
            .send(server.grpc_address())
            .await;
        assert_eq!(refused.status, Some(8), "{}", refused.message);
        assert!(refused.headers.contains_key("grpc-retry-pushback-ms"));
        // They pause for longer than they may, and are given up.
        until("what was given up is held", &server, async || {
            counter(&server, "onstage_request_memory_bytes").await < 1 << 20
        })
        .await;
        drop(open);
    };
    held(75, &small_body, "Content-Encoding: gzip\r\n").await;
    held(75, &deflate(&spaces), "Content-Encoding: deflate\r\n").await;
    held(20, &spaces, "").await;
    let grown = peak_memory(&server).saturating_sub(before);
    assert!(grown < 160 << 20, "grown by {} MiB", grown >> 20);
    assert!(
        metrics(&server)
            .await
            .contains(r#"refused_total{reason="process"}"#)
    );
}

/// A client that does one thing over and over until it is told to stop.
fn attacker<F: Future<Output = ()> + Send + 'static>(
    stop: &Arc<AtomicBool>,
    attack: impl Fn() -> F + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            attack().await;
        }
    })
}

/// One call of a method by hand, and the end of its answer.
async fn call(
    address: std::net::SocketAddr,
    path: &'static str,
    encoding: &'static str,
    body: Arc<Vec<u8>>,
) {
    let headers = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", encoding),
    ];
    let Ok(mut frames) = Frames::try_open(address).await else {
        return;
    };
    let request = Frames::request(1, ("POST", path), &headers, &body);
    // The window of a stream is smaller than some of these bodies.
    let _ = timeout(Duration::from_secs(2), frames.0.write_all(&request)).await;
    let mut answer = vec![0; 4096];
    let _ = timeout(Duration::from_secs(2), frames.0.read(&mut answer)).await;
}

/// All attacks at once from fifty connections for so long, with messages of so many bytes, beside clients of REST and gRPC and somebody who asks whether
/// the server is ready. None of these notices.
pub(crate) async fn attacked(server: &Server, size: usize, how_long: Duration) {
    let load = Load::with(
        server,
        "/invocations",
        2,
        &json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]}),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let attackers = attackers(server, &stop, size);
    assert_eq!(attackers.len(), 50);
    let calls = healthy_calls(server, &stop);
    let (mut slowest, mut late) = (Duration::ZERO, Duration::ZERO);
    let pause = Duration::from_millis(50);
    let began = Instant::now();
    while began.elapsed() < how_long {
        let asked = Instant::now();
        assert_eq!(server.get("/ping").await.status(), 200);
        slowest = slowest.max(asked.elapsed());
        let slept = Instant::now();
        sleep(pause).await;
        // What the machine itself is late by is nobody's fault.
        late = late.max(slept.elapsed().saturating_sub(pause));
    }
    stop.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.await.unwrap();
    }
    let (sent, failed) = load.end().await;
    let failed: Vec<_> = failed
        .iter()
        .filter(|text| !text.contains("answered"))
        .collect();
    assert!(sent > 10 && failed.is_empty(), "{sent}: {failed:?}");
    let (called, failed) = calls.await.unwrap();
    assert!(called > 10 && failed.is_empty(), "{called}: {failed:?}");
    #[expect(clippy::print_stdout, reason = "what a failed run is compared with")]
    {
        println!(
            "{sent} requests and {called} calls answered, none failed; the slowest answer of /ping after {slowest:?}; \
         at most {} MiB of memory",
            usize::try_from(peak_memory(server)).unwrap() / MIB
        );
    }
    assert!(
        slowest < Duration::from_secs(1) + 2 * late,
        "/ping took {slowest:?}, and a sleep {late:?} longer than it should"
    );
}

/// Fifty clients, each with an attack of its own.
fn attackers(
    server: &Server,
    stop: &Arc<AtomicBool>,
    size: usize,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut attackers = Vec::new();
    for (_, path, message) in bombs(size) {
        for (flag, encoding, bytes) in ways(&message) {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let body = Arc::new([&[flag][..], &length, &bytes].concat());
            let address = server.grpc_address();
            let attack = move || call(address, path, encoding, Arc::clone(&body));
            attackers.push(attacker(stop, attack));
        }
    }
    let zeros = Arc::new(gzip(&vec![b' '; size - 64]));
    for _ in 0..20 {
        let (address, zeros) = (server.address(), Arc::clone(&zeros));
        attackers.push(attacker(stop, move || {
            never_ends(address, Arc::clone(&zeros))
        }));
    }
    attackers
}

/// A compressed body that is whole but for its last byte.
async fn never_ends(address: std::net::SocketAddr, body: Arc<Vec<u8>>) {
    let head = format!(
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len() + 1
    );
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
        let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 64])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_from_many_connections_take_no_more_than_the_budget_and_nobody_else_notices() {
    let server = small(&[("body_timeout", "2s")]).await;
    let before = peak_memory(&server);
    attacked(&server, MAX_BODY, Duration::from_secs(8)).await;
    let grown = usize::try_from(peak_memory(&server).saturating_sub(before)).unwrap();
    assert!(
        grown < 2 * MEMORY + 64 * MIB,
        "grown by {} MiB",
        grown / MIB
    );
}

/// Calls over gRPC that must be answered, until they shall end; how many there were, and what failed.
fn healthy_calls(
    server: &Server,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(u64, Vec<String>)> {
    let (stop, calls) = (Arc::clone(stop), AtomicU64::new(0));
    let endpoint = format!("http://{}", server.grpc_address());
    tokio::spawn(async move {
        let channel = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
        let mut client = grpc::Client::new(channel.connect().await.unwrap());
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Err(status) = client.model_infer(grpc::flowers()).await {
                failed.push(format!("{:?} {}", status.code(), status.message()));
            }
            calls.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(1)).await;
        }
        (calls.into_inner(), failed)
    })
}

/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0: nothing may be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

#[tokio::test]
async fn a_client_of_http2_that_makes_no_room_for_its_answer_is_sent_away() {
    let server = small(&[("body_timeout", "1s"), ("idle_timeout", "1h")]).await;
    let row = br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let flowers = {
        use prost::Message as _;
        let message = grpc::flowers().encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, &message].concat()
    };
    let calls = [
        (
            server.address(),
            "/invocations",
            "application/json",
            &row[..],
        ),
        (
            server.grpc_address(),
            MODEL_INFER,
            "application/grpc",
            &flowers[..],
        ),
    ];
    for (address, path, content_type, body) in calls {
        let headers = [("content-type", content_type), ("te", "trailers")];
        let mut frames = Frames::open_with(address, &NO_WINDOW).await;
        let request = Frames::request(1, ("POST", path), &headers, body);
        frames.0.write_all(&request).await.unwrap();
        let began = Instant::now();
        assert!(
            frames.next(1).await.is_some(),
            "{path}: no head of an answer"
        );
        // No data; the connection ends.
        assert!(frames.next(0).await.is_none(), "{path}");
        assert!(began.elapsed() < Duration::from_secs(10), "{path}");
        // With room it is answered, and stays.
        let mut frames = Frames::open(address).await;
        frames.0.write_all(&request).await.unwrap();
        assert!(frames.next(0).await.is_some(), "{path}");
        let next = timeout(Duration::from_secs(3), frames.next(7)).await;
        assert!(next.is_err(), "{path}: the connection ended");
    }
}

#[tokio::test]
async fn public_streams_and_idle_connections_make_room_when_connections_are_short() {
    let server = small(&[("max_connections", "8")]).await;
    let watch = Frames::request(
        1,
        ("POST", "/grpc.health.v1.Health/Watch"),
        &[("content-type", "application/grpc"), ("te", "trailers")],
        &[0; 5],
    );
    let mut watching = Vec::new();
    for _ in 0..7 {
        let mut frames = Frames::open(server.grpc_address()).await;
        frames.0.write_all(&watch).await.unwrap();
        assert!(frames.next(0).await.is_some(), "the first status");
        watching.push(frames);
    }
    sleep(Duration::from_millis(1200)).await;
    let row = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let fresh = || reqwest::Client::builder().no_proxy().build().unwrap();
    let mut kept = Vec::new();
    for _ in 0..4 {
        let client = fresh();
        let sent = client
            .post(server.url("/invocations"))
            .body(row)
            .send()
            .await;
        assert_eq!(sent.unwrap().status(), 200);
        kept.push(client);
    }
    assert_eq!(
        counter(&server, "onstage_connections_refused_total").await,
        0
    );
    // Idle connections that said nothing for a while leave as well.
    sleep(Duration::from_millis(1200)).await;
    let mut client = grpc::client(&server).await;
    client.model_infer(grpc::flowers()).await.unwrap();
}

#[tokio::test]
async fn a_client_keeps_as_many_streams_and_connections_as_it_may() {
    let server = small(&[("client_streams", "3"), ("client_connections", "6")]).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let path = ("POST", "/grpc.health.v1.Health/Watch");
    let mut frames = Frames::open(server.grpc_address()).await;
    for stream in [1, 3, 5] {
        let request = Frames::request(stream, path, &headers, &[0; 5]);
        frames.0.write_all(&request).await.unwrap();
        assert!(frames.next(0).await.is_some());
    }
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc_address()));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut client = grpc::Client::new(channel);
    let status = client
        .model_stream_infer(tokio_stream::pending())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().contains("`limits.client_streams`"),
        "{status:?}"
    );
    client.model_infer(grpc::flowers()).await.unwrap();
    drop(frames);
    until("its places are never free", &server, async || {
        client
            .model_stream_infer(tokio_stream::empty())
            .await
            .is_ok()
    })
    .await;
    drop(client);
    sleep(Duration::from_millis(300)).await;
    // So many connections in work, and those beyond are closed.
    let mut begun = unfinished(&server, 12, b"{", "").await;
    let mut closed = 0;
    for stream in &mut begun {
        let read = timeout(Duration::from_millis(300), stream.read(&mut [0; 64])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!((5..=7).contains(&closed), "{closed}");
    drop(begun);
}
