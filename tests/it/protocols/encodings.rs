//! Compressed bodies, in both directions and on every protocol.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::protocols::bad_input::peak_memory;
use crate::support::server::Server;

const V2: &str = "/v2/models/iris/infer";
const PATHS: [&str; 3] = [V2, "/invocations", "/models/iris/invocations"];

async fn iris(more: &[&str]) -> Server {
    let arguments = [&["model-examples/iris", "--engine", "tract"], more].concat();
    Server::start(&arguments).await
}

fn compress(coding: &str, bytes: &[u8]) -> Vec<u8> {
    if coding == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
}

fn inflate(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    if coding == "gzip" {
        GzDecoder::new(bytes).read_to_end(&mut inflated).unwrap();
    } else {
        ZlibDecoder::new(bytes).read_to_end(&mut inflated).unwrap();
    }
    inflated
}

/// A request of many rows in the form of a path.
fn body(path: &str, rows: usize) -> Vec<u8> {
    let row = [5.1, 3.5, 1.4, 0.2];
    let body = if path == V2 {
        let data: Vec<f64> = std::iter::repeat_n(row, rows).flatten().collect();
        json!({ "inputs": [{ "name": "features", "datatype": "FP32", "shape": [rows, 4], "data": data }] })
    } else {
        json!({ "inputs": vec![row; rows] })
    };
    body.to_string().into_bytes()
}

/// Posts a body as it is; status, headers of interest, body.
async fn send(
    server: &Server,
    path: &str,
    (body, headers): (Vec<u8>, &[(&str, &str)]),
) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let mut request = server.request(Method::POST, path).body(body);
    // The server closes a connection whose request it did not read to its end.
    let own = [
        ("content-type", "application/json"),
        ("connection", "close"),
    ];
    for (name, value) in [&own[..], headers].concat() {
        request = request.header(name, value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn every_pair_of_encodings_gives_the_same_answer_on_every_path() {
    let server = iris(&[]).await;
    for path in PATHS {
        let plain = body(path, 100);
        let (status, _, expected) = send(&server, path, (plain.clone(), &[])).await;
        assert_eq!(status, 200);
        for given in ["", "identity", "gzip", "deflate", "GZIP", "x-gzip"] {
            for wanted in ["", "gzip", "deflate"] {
                let sent = match given {
                    "" | "identity" => plain.clone(),
                    "deflate" => compress("deflate", &plain),
                    _ => compress("gzip", &plain),
                };
                let mut headers = vec![("accept-encoding", wanted), ("content-encoding", given)];
                headers.retain(|(_, value)| !value.is_empty());
                let (status, headers, answer) = send(&server, path, (sent, &headers)).await;
                assert_eq!(status, 200, "{path} {given} {wanted}");
                let found = headers
                    .get("content-encoding")
                    .map(|value| value.to_str().unwrap());
                assert_eq!(found.unwrap_or_default(), wanted, "{path} {given}");
                let answer = if wanted.is_empty() {
                    answer
                } else {
                    inflate(wanted, &answer)
                };
                assert_eq!(answer, expected, "{path} {given} {wanted}");
            }
        }
    }
}

#[tokio::test]
async fn a_short_answer_is_not_compressed() {
    let server = iris(&[]).await;
    for path in PATHS {
        let accept = [("accept-encoding", "gzip, deflate")];
        let (status, headers, _) = send(&server, path, (body(path, 1), &accept)).await;
        assert_eq!((status, headers.get("content-encoding")), (200, None));
    }
}

/// As Triton does it: `tritonclient.http.aio` accepts gzip for every answer and inflates those to inferences alone.
#[tokio::test]
async fn below_v2_only_answers_to_inferences_are_compressed() {
    let models = tempfile::tempdir().unwrap();
    for name in ["iris", "second", "third", "fourth"] {
        let place = models.path().join(name);
        std::fs::create_dir(&place).unwrap();
        let graph = crate::support::server::project().join("model-examples/iris/model.onnx");
        std::fs::copy(graph, place.join("model.onnx")).unwrap();
    }
    let models = models.path().to_str().unwrap();
    let flags = ["--engine", "tract", "--base-path", "/below"];
    let server = Server::start(&[&[models], &flags[..]].concat()).await;
    let accept = [("accept-encoding", "gzip, deflate")];
    let coding = async |method: Method, path: &str, body: Vec<u8>| {
        let mut request = server.request(method, path).body(body);
        for (name, value) in accept {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let coding = response.headers().get("content-encoding").cloned();
        // Shorter ones are never compressed.
        (
            coding.is_some(),
            response.bytes().await.unwrap().len() > 1024,
        )
    };
    let (compressed, _) = coding(Method::GET, "/below/v2/models/iris/config", vec![]).await;
    assert!(!compressed);
    let statistics = coding(Method::GET, "/below/v2/models/stats", vec![]).await;
    assert_eq!(statistics, (false, true), "it is long enough to tell");
    for path in [V2, "/v2/models/iris/versions/1/infer"] {
        let (compressed, _) = coding(Method::POST, &format!("/below{path}"), body(V2, 200)).await;
        assert!(compressed, "{path}");
    }
    let (compressed, _) = coding(Method::GET, "/below/openapi.json", vec![]).await;
    assert!(compressed);
}

#[tokio::test]
async fn a_compressed_binary_answer_says_how_long_its_json_is_when_inflated() {
    let server = iris(&[]).await;
    let mut request: Value = serde_json::from_slice(&body(V2, 200)).unwrap();
    request["parameters"] = json!({ "binary_data_output": true });
    let sent = compress("gzip", request.to_string().as_bytes());
    let headers = [("content-encoding", "gzip"), ("accept-encoding", "deflate")];
    let (status, headers, answer) = send(&server, V2, (sent, &headers)).await;
    assert_eq!(status, 200);
    let inflated = inflate("deflate", &answer);
    let length = headers["inference-header-content-length"].to_str().unwrap();
    let (json, binary) = inflated.split_at(length.parse().unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 1600);
    assert_eq!(binary.len(), 1600 + 2400);
}

/// 413 as soon as the limit is reached: what a small body inflates to is never held.
#[rstest]
#[case::gzip("gzip")]
#[case::deflate("deflate")]
#[case::twice("gzip, gzip")]
#[tokio::test]
async fn a_bomb_is_refused_within_bounded_memory(#[case] coding: &str) {
    let limit = 4 << 20;
    let server = iris(&["--max-body", "4MiB"]).await;
    let bomb = vec![b' '; 512 << 20];
    let bomb = coding
        .split(", ")
        .fold(bomb, |bytes, coding| compress(coding, &bytes));
    assert!(bomb.len() < limit, "{} bytes", bomb.len());
    let before = peak_memory(&server);
    for path in [&PATHS[..], &["/v2/repository/index"]].concat() {
        let headers = [("content-encoding", coding)];
        let (status, _, answer) = send(&server, path, (bomb.clone(), &headers)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(status, 413, "{path}: {answer}");
        assert!(answer.contains("server.max_body"), "{path}: {answer}");
    }
    let grown = peak_memory(&server) - before;
    assert!(grown < 64 << 20, "the server grew by {grown} bytes");
    let (status, ..) = send(&server, V2, (body(V2, 1), &[])).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_limit_counts_inflated_bytes_and_no_others() {
    let server = iris(&["--max-body", "64KiB"]).await;
    for path in PATHS {
        let padded = |size: usize| {
            let mut body = body(path, 1);
            body.resize(size, b' ');
            body
        };
        for (size, expected) in [(64 << 10, 200), ((64 << 10) + 1, 413)] {
            for coding in ["gzip", "deflate"] {
                let sent = compress(coding, &padded(size));
                let headers = [("content-encoding", coding)];
                let (status, ..) = send(&server, path, (sent, &headers)).await;
                assert_eq!(status, expected, "{path} {coding} {size}");
            }
            let (status, ..) = send(&server, path, (padded(size), &[])).await;
            assert_eq!(status, expected, "{path} {size}");
        }
    }
}

#[tokio::test]
async fn a_compressed_body_that_inflates_to_nothing_is_bounded_too() {
    let server = iris(&["--max-body", "64KiB"]).await;
    // The head of a stream, and blocks of no bytes without an end.
    let nothing = [&[0x78, 0x01][..], &[0, 0, 0, 0xff, 0xff].repeat(20_000)].concat();
    for path in PATHS {
        let headers = [("content-encoding", "deflate")];
        let (status, _, answer) = send(&server, path, (nothing.clone(), &headers)).await;
        assert_eq!(status, 413, "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn every_member_of_a_gzip_body_counts() {
    let server = iris(&[]).await;
    let csv = [
        &b"a,b,c,d\n"[..],
        b"5.1,3.5,1.4,0.2\n",
        b"6.3,3.3,6.0,2.5\n",
    ];
    let members = csv.map(|part| compress("gzip", part)).concat();
    let request = server.request(Method::POST, "/invocations");
    let request = request.header("content-type", "text/csv");
    let response = request
        .header("content-encoding", "gzip")
        .body(members)
        .send()
        .await
        .unwrap();
    let plain = server.post("/invocations", "text/csv", csv.concat()).await;
    assert_eq!(response.status(), plain.status());
    let (found, expected) = (response.text().await.unwrap(), plain.text().await.unwrap());
    assert_eq!(found, expected);
    let json = body(V2, 2);
    let members = json.chunks(10).map(|part| compress("gzip", part));
    let sent: Vec<u8> = members.flatten().collect();
    let headers = [("content-encoding", "gzip")];
    let (status, _, answer) = send(&server, V2, (sent, &headers)).await;
    assert_eq!((status, answer), {
        let (status, _, answer) = send(&server, V2, (json, &[])).await;
        (status, answer)
    });
}

#[tokio::test]
async fn encodings_one_upon_the_other_are_undone_in_order() {
    let server = iris(&[]).await;
    for path in PATHS {
        let plain = body(path, 100);
        let (_, _, expected) = send(&server, path, (plain.clone(), &[])).await;
        let gzip = compress("gzip", &plain);
        let twice = compress("gzip", &gzip);
        for (named, sent) in [
            ("gzip, gzip", twice.clone()),
            (
                "deflate, gzip",
                compress("gzip", &compress("deflate", &plain)),
            ),
            ("gzip, identity", gzip),
            (
                "gzip,gzip,gzip,gzip",
                compress("gzip", &compress("gzip", &twice)),
            ),
        ] {
            let headers = [("content-encoding", named)];
            let (status, _, answer) = send(&server, path, (sent.clone(), &headers)).await;
            assert_eq!((status, answer), (200, expected.clone()), "{path} {named}");
            // The same as several headers.
            let headers: Vec<_> = named
                .split(',')
                .map(|one| ("content-encoding", one))
                .collect();
            let (status, _, answer) = send(&server, path, (sent, &headers)).await;
            assert_eq!((status, answer), (200, expected.clone()), "{path} {named}");
        }
        for (named, sent) in [("gzip, deflate", &twice), ("gzip, gzip, gzip", &twice)] {
            let headers = [("content-encoding", named)];
            let (status, ..) = send(&server, path, (sent.clone(), &headers)).await;
            assert_eq!(status, 400, "{path} {named}");
        }
        let headers = [("content-encoding", "gzip, gzip, gzip, gzip, gzip")];
        let (status, headers, answer) = send(&server, path, (twice, &headers)).await;
        assert_eq!(
            (status, &headers["accept-encoding"]),
            (415, &"gzip, deflate".parse().unwrap())
        );
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("more content encodings"), "{answer}");
    }
}

/// As gzip(1) and Python's `gzip` take them.
#[tokio::test]
async fn zeros_after_a_gzip_stream_are_padding() {
    let server = iris(&[]).await;
    for path in PATHS {
        let plain = body(path, 5);
        let (_, _, expected) = send(&server, path, (plain.clone(), &[])).await;
        let sent = [compress("gzip", &plain), vec![0; 10_000]].concat();
        let headers = [("content-encoding", "gzip")];
        let (status, _, answer) = send(&server, path, (sent, &headers)).await;
        assert_eq!((status, answer), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_what_its_header_says_is_a_client_error() {
    let server = iris(&[]).await;
    for path in PATHS {
        let whole = compress("gzip", &body(path, 50));
        let cut_off = whole[..whole.len() / 2].to_vec();
        let mut broken = whole.clone();
        broken[20] ^= 0xff;
        for (coding, sent) in [
            ("gzip", body(path, 1)),
            ("deflate", body(path, 1)),
            ("gzip", cut_off),
            ("gzip", broken),
            ("gzip", [&whole[..], b"x"].concat()),
            ("deflate", whole),
        ] {
            let headers = [("content-encoding", coding)];
            let (status, _, answer) = send(&server, path, (sent, &headers)).await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(status, 400, "{path} {coding}: {answer}");
        }
    }
}

#[tokio::test]
async fn an_unknown_encoding_is_415_and_says_which_are_known() {
    let server = iris(&[]).await;
    for path in PATHS {
        for coding in ["br", "zstd", "gzip; q=1", "a\"b"] {
            let headers = [("content-encoding", coding)];
            let (status, headers, answer) = send(&server, path, (body(path, 1), &headers)).await;
            assert_eq!(status, 415, "{path} {coding}");
            assert_eq!(headers["accept-encoding"], "gzip, deflate");
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let key = if path == V2 { "error" } else { "detail" };
            assert!(answer[key].as_str().unwrap().contains(coding), "{answer}");
        }
    }
}
