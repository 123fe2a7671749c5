//! Batches where they pay, and none where they do not.

use std::time::Duration;

use onstage::model::Package;

use crate::Scale;
use crate::bodies::{Form, infer};
use crate::drive::{Round, closed_loop};
use crate::large::start;
use crate::models::made;
use crate::raw::inputs;
use crate::report::{Median, Report};

const OFF: &[(&str, &str)] = &[("ONSTAGE_BATCHING__MAX_BATCH_SIZE", "1")];

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    report.line("| model, connections | rate by that without batches | server's CPU for a row by that | p99 by that |\n|---|---|---|---|");
    let (rate, _, p99) = compare(&mut report, ("minilm", 64), scale).await;
    report.at_least(
        "minilm, 64 connections: rate by that without batches",
        rate,
        1.3,
    );
    report.bar(
        "minilm, 64 connections: p99 by that without batches",
        p99,
        1.0,
        "",
    );
    let (_, cpu, _) = compare(&mut report, ("mobilenet", 16), scale).await;
    report.bar(
        "mobilenet, 16 connections: CPU for a row by that without batches",
        cpu,
        1.03,
        "",
    );
    report
}

async fn compare(
    report: &mut Report,
    (model, connections): (&str, usize),
    scale: Scale,
) -> (f64, f64, f64) {
    let (_directory, file) = made(model);
    let package = Package::open(&file).unwrap();
    let contenders = [start(&file, &[]).await, start(&file, OFF).await];
    let requests = contenders.each_ref().map(|contender| {
        infer(
            contender.address,
            model,
            &inputs(&package.graph.signature, 1),
            Form::Binary,
        )
    });
    let round = |index: usize, seconds: u64| {
        let time = Duration::from_secs(seconds);
        closed_loop(
            &requests[index],
            &contenders[index].processes(),
            connections,
            time,
        )
    };
    // What pays is learned from the runs.
    round(0, 5);
    round(1, 1);
    let turns: Vec<(Round, Round)> = (0..scale.of(15, 3))
        .map(|turn| {
            let first = turn % 2;
            let one = round(first, 3);
            let other = round(1 - first, 3);
            if first == 0 {
                (one, other)
            } else {
                (other, one)
            }
        })
        .collect();
    let ratio = |of: &dyn Fn(&Round) -> f64| {
        Median::of(turns.iter().map(|(with, without)| of(with) / of(without)))
    };
    let rate = ratio(&Round::per_second);
    let cpu = ratio(&Round::cpu_us);
    let p99 = ratio(&|round| round.p99.as_secs_f64());
    report.line(format!(
        "| {model}, {connections} | {rate} | {cpu} | {p99} |"
    ));
    (rate.value, cpu.value, p99.value)
}
