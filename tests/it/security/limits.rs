//! What one client may take, at each limit and one beyond it; and clients that want to harm, beside one that does not.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::lifecycle::swap::scene::{Load, counter, until};
use crate::protocols::bad_input::peak_memory;
use crate::protocols::grpc;
use crate::protocols::http::RawRequest;
use crate::support::frames::Frames;
use crate::support::server::{Server, Starter};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of iris with these settings in `[limits]`.
async fn limited(limits: &[(&str, &str)]) -> Server {
    limited_with(limits, &[]).await
}

async fn limited_with(limits: &[(&str, &str)], flags: &[&str]) -> Server {
    let serve = [&["model-examples/iris", "--engine", "tract"], flags].concat();
    let mut starter = Starter::serve(&serve);
    for (name, value) in limits {
        starter = starter.env(&format!("ONSTAGE_LIMITS__{}", name.to_uppercase()), *value);
    }
    starter.start().await
}

const ROW: &str = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;

/// A connection of HTTP/1.1 by hand.
struct Raw(TcpStream);

impl Raw {
    async fn open(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.unwrap())
    }

    async fn send(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).await.is_ok()
    }

    /// The status line and what came with it; `None` when the connection was closed.
    async fn answer(&mut self) -> Option<String> {
        let mut bytes = vec![0; 64 << 10];
        let read = timeout(PATIENCE, self.0.read(&mut bytes)).await;
        match read.expect("an answer or the end in time") {
            Ok(0) | Err(_) => None,
            Ok(count) => Some(String::from_utf8_lossy(&bytes[..count]).into_owned()),
        }
    }

    /// Whether a whole request is answered.
    async fn works(&mut self) -> bool {
        self.send("GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await && { self.answer().await }
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    async fn is_closed(&mut self) -> bool {
        self.answer().await.is_none()
    }
}

/// Every request of the load was answered, whatever the answers were.
async fn assert_only_answered(load: Load) {
    let (sent, failed) = load.end().await;
    let failed: Vec<_> = failed
        .iter()
        .filter(|text| !text.contains("answered"))
        .collect();
    assert!(sent > 0 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn as_many_connections_as_may_be_and_no_more_until_one_is_closed() {
    let server = limited(&[("max_connections", "4")]).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::open(server.address()).await;
        assert!(raw.works().await);
        open.push(raw);
    }
    let mut fifth = Raw::open(server.address()).await;
    assert!(!fifth.works().await);
    assert!(open[0].works().await, "the others go on");
    open.pop();
    let mut tries = 0;
    while !Raw::open(server.address()).await.works().await {
        tries += 1;
        assert!(tries < 500, "its place is never free");
        sleep(Duration::from_millis(10)).await;
    }
    open[0]
        .send("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let mut text = String::new();
    open[0].0.read_to_string(&mut text).await.unwrap();
    let refused = text
        .lines()
        .find_map(|line| line.strip_prefix("onstage_connections_refused_total "));
    assert!(refused.unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_with_its_connection_while_others_are_answered() {
    let server = limited(&[("header_timeout", "400ms"), ("max_connections", "500")]).await;
    let load = Load::with(
        &server,
        "/invocations",
        2,
        &json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]}),
    );
    let slow = (0..100).map(|index| {
        let address = server.address();
        tokio::spawn(async move {
            let mut raw = Raw::open(address).await;
            // Some say nothing at all, some go on byte by byte.
            if index % 4 == 0 {
                return raw.is_closed().await;
            }
            raw.send("POST /invocations HTTP/1.1\r\n").await;
            for number in 0..2000 {
                if !raw.send(&format!("x-{number}: 1\r\n")).await {
                    return true;
                }
                sleep(Duration::from_millis(15)).await;
            }
            false
        })
    });
    for slow in slow.collect::<Vec<_>>() {
        assert!(slow.await.unwrap(), "a head took for ever");
    }
    assert_only_answered(load).await;
}

#[tokio::test]
async fn a_body_that_pauses_is_given_up_and_one_that_is_slow_is_not() {
    let server = limited(&[("body_timeout", "600ms")]).await;
    let head = format!(
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        ROW.len()
    );
    let mut paused = Raw::open(server.address()).await;
    paused.send(&head).await;
    paused.send(&ROW[..10]).await;
    let answer = paused.answer().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("`limits.body_timeout`"), "{answer}");
    let mut slow = Raw::open(server.address()).await;
    slow.send(&head).await;
    for piece in ROW.as_bytes().chunks(4) {
        slow.send(std::str::from_utf8(piece).unwrap()).await;
        sleep(Duration::from_millis(100)).await;
    }
    let answer = slow.answer().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = limited(&[("idle_timeout", "300ms")]).await;
    let mut raw = Raw::open(server.address()).await;
    for _ in 0..5 {
        assert!(raw.works().await, "it is in use");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(raw.is_closed().await);
    let mut frames = Frames::open(server.address()).await;
    // Anything that is no frame: the connection is closed, although nothing is wrong with it.
    assert!(frames.next(0xff).await.is_none());
    let mut busy = Frames::open(server.address()).await;
    busy.0.write_all(&Frames::begun(1)).await.unwrap();
    sleep(Duration::from_millis(600)).await;
    let body = Frames::frame(0, 1, 1, ROW.as_bytes());
    busy.0.write_all(&body).await.unwrap();
    assert!(busy.next(1).await.is_some(), "its request is in work");
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_given_up() {
    let server = limited(&[("body_timeout", "500ms"), ("idle_timeout", "1h")]).await;
    let mut raw = Raw::open(server.address()).await;
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    // It asks and never listens, until nothing more can be sent.
    let asks = async { while raw.send(&request).await {} };
    timeout(PATIENCE, asks).await.expect("the connection ends");
    until("its place is never free", &server, async || {
        counter(&server, "onstage_connections").await == 1
    })
    .await;
}

async fn status(server: &Server, headers: Vec<(&str, &str)>) -> u16 {
    let request = RawRequest {
        method: "GET",
        path: "/ping",
        headers,
        body: None,
    };
    request.send(server.address()).await.unwrap().status
}

#[tokio::test]
async fn heads_of_the_limits_are_read_and_larger_ones_are_not() {
    let server = limited(&[("max_headers", "20"), ("max_header_size", "2KiB")]).await;
    // `host` and `connection` come by themselves.
    let names: Vec<String> = (0..19).map(|number| format!("x-{number}")).collect();
    let headers = |count: usize| {
        names[..count]
            .iter()
            .map(|name| (name.as_str(), "1"))
            .collect()
    };
    assert_eq!(status(&server, headers(18)).await, 200);
    assert_eq!(status(&server, headers(19)).await, 431);
    let address = server.address().to_string();
    let there = "/ping".len() + "host".len() + address.len() + "connection".len() + "close".len();
    let fill = "x".repeat(2049 - there - "x-fill".len());
    assert_eq!(status(&server, vec![("x-fill", &fill[1..])]).await, 200);
    assert_eq!(status(&server, vec![("x-fill", &fill)]).await, 431);
}

#[tokio::test]
async fn rows_of_the_limit_are_answered_and_one_more_is_not() {
    let server = limited(&[("max_rows", "3")]).await;
    let row = [5.1, 3.5, 1.4, 0.2];
    for (rows, expected) in [(3, 200), (4, 413)] {
        let many = vec![row; rows];
        let data: Vec<f64> = many.concat();
        let v2 = json!({"inputs": [{"name": "features", "datatype": "FP32", "shape": [rows, 4], "data": data}]});
        let requests = [
            ("/invocations", json!({ "inputs": many })),
            ("/v1/models/iris:predict", json!({ "instances": many })),
            ("/v2/models/iris/infer", v2),
        ];
        for (path, body) in requests {
            let (status, answer) = server.post_json(path, body.to_string()).await;
            assert_eq!(status, expected, "{path}: {answer}");
            assert!(
                status == 200 || answer.to_string().contains("`max_rows`, 3"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_is_answered_as_often_as_it_may_ask_and_told_when_to_come_again() {
    let server = limited(&[("client_rate", "1"), ("client_burst", "3")]).await;
    for _ in 0..3 {
        assert_eq!(server.post_json("/invocations", ROW).await.0, 200);
    }
    let refused = server.post("/invocations", "application/json", ROW).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    let text = refused.text().await.unwrap();
    assert!(
        text.contains("`limits.client_rate`") && text.contains("REQUEST_LIMIT_EXCEEDED"),
        "{text}"
    );
    // Probes are always answered.
    for _ in 0..10 {
        assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    }
    let mut client = grpc::client(&server).await;
    let mut refusal = None;
    for _ in 0..10 {
        if let Err(error) = client.model_infer(grpc::flowers()).await {
            refusal = Some(error);
        }
    }
    let error = refusal.expect("HTTP and gRPC count together");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(
        error.metadata().contains_key("grpc-retry-pushback-ms"),
        "{error:?}"
    );
    assert!(
        counter(
            &server,
            r#"onstage_clients_refused_total{reason="client_rate"}"#
        )
        .await
            > 0
    );
}

#[tokio::test]
async fn a_client_has_as_many_requests_at_a_time_as_it_may() {
    let server = limited(&[("client_concurrency", "2")]).await;
    let mut held = Vec::new();
    until("the third is never refused", &server, async || {
        // Some of these come while others are in work, and are refused themselves.
        let mut raw = Raw::open(server.address()).await;
        let head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{";
        raw.send(head).await;
        held.push(raw);
        server.post_json("/invocations", ROW).await.0 == 429
    })
    .await;
    assert!(held.len() >= 2, "{}", held.len());
    drop(held);
    until("its place is never free", &server, async || {
        server.post_json("/invocations", ROW).await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn a_connection_of_http2_has_as_many_requests_as_it_may() {
    let server = limited(&[("max_streams", "2")]).await;
    let mut frames = Frames::open(server.address()).await;
    let (_, settings) = frames.next(4).await.unwrap();
    let most = settings.chunks(6).find(|setting| setting[1] == 3).unwrap();
    assert_eq!(most[2..], [0, 0, 0, 2]);
    let requests = [1, 3, 5].map(Frames::begun).concat();
    frames.0.write_all(&requests).await.unwrap();
    let (stream, code) = frames.next(3).await.unwrap();
    assert_eq!(
        (stream, code.as_slice()),
        (5, [0, 0, 0, 7].as_slice()),
        "refused"
    );
}

#[tokio::test]
async fn who_begins_requests_only_to_take_them_back_is_sent_away() {
    let server = limited(&[("max_resets", "5")]).await;
    let mut frames = Frames::open(server.address()).await;
    let pair = |stream| {
        let reset = Frames::frame(3, 0, stream, &[0, 0, 0, 8]);
        [Frames::begun(stream), reset].concat()
    };
    let many: Vec<u8> = (0..500).flat_map(|number| pair(2 * number + 1)).collect();
    // The server may hang up while we speak.
    let _ = frames.0.write_all(&many).await;
    if let Some((_, reason)) = frames.next(7).await {
        assert_eq!(reason[4..8], [0, 0, 0, 11], "enhance your calm");
    }
    assert_eq!(server.post_json("/invocations", ROW).await.0, 200);
}

/// As many as this process may open, but 10,000.
fn crowd() -> usize {
    let files = onstage::runtime::machine::open_files().unwrap_or(1024);
    10_000.min(files / 3)
}

#[tokio::test]
async fn a_crowd_that_does_nothing_costs_little_and_others_are_answered() {
    let server = limited(&[
        ("max_connections", "12000"),
        ("client_connections", "12000"),
        ("header_timeout", "1h"),
        ("idle_timeout", "1h"),
    ])
    .await;
    let before = peak_memory(&server);
    let mut crowd_open = Vec::new();
    for index in 0..crowd() {
        let Ok(mut stream) = TcpStream::connect(server.address()).await else {
            panic!("connection {index} was refused")
        };
        if index % 2 == 0 {
            stream
                .write_all(b"POST /invocations HTTP/1.1\r\nHost: x\r\n")
                .await
                .unwrap();
        }
        crowd_open.push(stream);
    }
    let all = i64::try_from(crowd()).unwrap();
    until("not all are accepted", &server, async || {
        i64::try_from(counter(&server, "onstage_connections").await).unwrap() > all
    })
    .await;
    for _ in 0..50 {
        assert_eq!(server.post_json("/invocations", ROW).await.0, 200);
    }
    let each = peak_memory(&server).saturating_sub(before) / u64::try_from(crowd()).unwrap();
    assert!(each < 32 << 10, "each idle connection takes {each} bytes");
    drop(crowd_open);
    until("their places are never free", &server, async || {
        counter(&server, "onstage_connections").await < 10
    })
    .await;
}

#[tokio::test]
async fn bodies_that_want_to_harm_are_refused_in_bounded_memory_while_others_are_answered() {
    let server = limited_with(&[], &["--max-body", "128MiB"]).await;
    let load = Load::with(
        &server,
        "/invocations",
        1,
        &json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]}),
    );
    let before = peak_memory(&server);
    let nested = vec![b'['; 100 << 20];
    let response = server
        .post("/invocations", "application/json", nested)
        .await;
    assert_eq!(response.status(), 400);
    let bomb = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![b' '; 1 << 20];
        (0..512).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.finish().unwrap()
    };
    let request = server.request(reqwest::Method::POST, "/invocations");
    let request = request.header("content-type", "application/json");
    let response = request
        .header("content-encoding", "gzip")
        // The rest of it is not read, so that the connection is of no use to the next request.
        .header("connection", "close")
        .body(bomb)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413);
    let huge = [
        "9223372036854775807",
        "4611686018427387904",
        "1099511627776",
    ];
    for size in huge {
        let body = format!(
            r#"{{"inputs":[{{"name":"features","datatype":"FP32","shape":[{size},{size},4],"data":[1,2,3,4]}}]}}"#
        );
        let (status, answer) = server.post_json("/v2/models/iris/infer", body).await;
        assert_eq!(status, 400, "{answer}");
    }
    let grown = peak_memory(&server).saturating_sub(before);
    assert!(grown < 700 << 20, "grown by {} MiB", grown >> 20);
    assert_only_answered(load).await;
}
