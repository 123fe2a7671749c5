//! An image as JSON: parsing its numbers is most of what a server does.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use onstage::model::Package;
use serde::Deserialize;

use crate::Scale;
use crate::bodies::{Form, infer};
use crate::contender::itself;
use crate::drive::{Round, closed_loop};
use crate::large::start;
use crate::models::made;
use crate::raw::{call, inputs, open};
use crate::report::{Median, Report};

pub(crate) async fn run(scale: Scale) -> Report {
    let (directory, file) = made("mobilenet");
    let ours = start(&file, &[]).await;
    let package = Package::open(&file).unwrap();
    let request = infer(
        ours.address,
        "mobilenet",
        &inputs(&package.graph.signature, 1),
        Form::Json,
    );
    let body = directory.path().join("body.json");
    let head = request
        .bytes()
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    std::fs::write(&body, &request.bytes()[head + 4..]).unwrap();
    let (mut child, _) = itself(&[
        "image",
        &file.display().to_string(),
        &body.display().to_string(),
    ]);
    let mut replies = BufReader::new(child.stdout.take().unwrap());
    let mut parts = move |times: usize| -> Vec<f64> {
        writeln!(child.stdin.as_mut().unwrap(), "{times}").unwrap();
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        line.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    };
    closed_loop(&request, &ours.processes(), 1, Duration::from_secs(2));
    let mut turns: Vec<(Vec<f64>, Round)> = Vec::new();
    for _ in 0..scale.of(15, 3) {
        let alone = parts(50);
        turns.push((
            alone,
            closed_loop(&request, &ours.processes(), 1, Duration::from_secs(1)),
        ));
    }
    let ms = |value: f64| value * 1e3;
    let of = |index: usize| ms(Median::of(turns.iter().map(|(parts, _)| parts[index])).value);
    let p50 = |round: &Round| round.p50.as_secs_f64();
    let mut report = Report::default();
    report.line(format!(
        "A 224×224×3 image, {} kB of JSON, one connection: serde_json reads it in {:.2} ms, ONNX Runtime runs it in {:.2} ms, \
         the answer is written in {:.2} ms. onstage takes {:.2} ms from the first byte to the last.\n",
        request.bytes().len() / 1000,
        of(0),
        of(1),
        of(2),
        ms(Median::of(turns.iter().map(|(_, round)| p50(round))).value),
    ));
    let ratios = turns
        .iter()
        .map(|(parts, round)| p50(round) / parts.iter().sum::<f64>());
    let ratio = Median::of(ratios);
    report.line(format!("Total by the sum of the parts: {ratio}"));
    report.bar(
        "an image as JSON by the sum of its parts",
        ratio.value,
        1.25,
        "",
    );
    report
}

#[derive(Deserialize)]
struct Body {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    data: Vec<f32>,
}

/// The other side: for each line of stdin, the medians of so many times in seconds.
pub(crate) fn serve(model: &str, body: &str) {
    let (mut session, signature) = open(Path::new(model));
    let inputs = inputs(&signature, 1);
    let body = std::fs::read(body).unwrap();
    let answer: Vec<f32> = (0..1000).map(|n| n as f32 / 7.0).collect();
    call(&mut session, &inputs);
    println!("ready");
    for line in std::io::stdin().lines() {
        let times: usize = line.unwrap().parse().unwrap();
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..times {
            let began = Instant::now();
            let parsed: Body = serde_json::from_slice(&body).unwrap();
            assert!(!std::hint::black_box(&parsed.inputs[0].data).is_empty());
            let read = Instant::now();
            call(&mut session, &inputs);
            let ran = Instant::now();
            std::hint::black_box(serde_json::to_vec(&answer).unwrap());
            let written = Instant::now();
            parts[0].push((read - began).as_secs_f64());
            parts[1].push((ran - read).as_secs_f64());
            parts[2].push((written - ran).as_secs_f64());
        }
        let medians = parts.map(|part| Median::of(part).value.to_string());
        println!("{}", medians.join(" "));
    }
}
