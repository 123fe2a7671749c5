//! Small models: what the server itself costs.

use std::path::Path;
use std::time::Duration;

use crate::Scale;
use crate::bodies::{Form, iris, penguins};
use crate::contender::Contender;
use crate::drive::Round;
use crate::models::made;
use crate::plot;
use crate::raw;
use crate::report::Report;
use crate::turns::{Row, take};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn run(scale: Scale) -> Report {
    let mut report = Report::default();
    let constant = Contender::constant();
    let bare = Contender::bare("model-examples/iris/model.onnx");
    let start = |engine| async move {
        Contender::onstage(engine, &["model-examples/iris", "--engine", engine]).await
    };
    let ours = [start("tract").await, start("onnxruntime").await];
    for connections in [8, 1, 64] {
        all_forms(&mut report, [&constant, &bare], &ours, connections, scale);
    }
    drop(ours);
    beside_mlflow(&mut report, scale).await;
    forest(&mut report, &constant, scale).await;
    report
}

fn all_forms<'c>(
    report: &mut Report,
    limits: [&'c Contender; 2],
    ours: &'c [Contender],
    connections: usize,
    scale: Scale,
) {
    let limit = |contender: &'c Contender| Row {
        what: contender.name.clone(),
        contender,
        request: iris(contender.address, Form::Invocations),
    };
    let mut rows: Vec<Row<'c>> = limits.map(limit).into();
    for contender in ours {
        for form in Form::ALL {
            rows.push(Row {
                what: format!("{}, {}", contender.name, form.name()),
                contender,
                request: iris(contender.address, form),
            });
        }
    }
    let rounds = take(&rows, connections, scale.of(15, 3), SECOND);
    report.line(format!("iris, {connections} connections\n"));
    rounds.table(&rows, report);
    report.line("");
    if connections != 8 {
        return;
    }
    if scale.plot {
        let rates = rows.iter().enumerate().map(|(index, row)| {
            let rate = rounds.ratio(index, 0, Round::per_second);
            (row.what.clone(), rate)
        });
        let title = "iris, 8 connections: answers per second, by a server that answers a constant";
        let file = Path::new("benches/iris.svg");
        plot::bars(file, title, &rates.collect::<Vec<_>>());
    }
    let p50 = |round: &Round| round.p50.as_secs_f64();
    for (index, row) in rows.iter().enumerate().skip(2) {
        let rate = rounds.ratio(index, 0, Round::per_second).value;
        report.at_least(
            &format!("iris, {}: rate by the constant server's", row.what),
            rate,
            0.75,
        );
        let slower = rounds.ratio(index, 0, p50).value;
        report.bar(
            &format!("iris, {}: p50 by the constant server's", row.what),
            slower,
            1.5,
            "",
        );
    }
}

async fn beside_mlflow(report: &mut Report, scale: Scale) {
    for (model, request, bar) in [
        (
            "iris",
            (|address| iris(address, Form::Invocations)) as fn(_) -> _,
            45.0,
        ),
        ("penguins", penguins as fn(_) -> _, 30.0),
    ] {
        let package = format!("model-examples/{model}");
        let contenders = [
            Contender::mlflow(&package),
            Contender::onstage("onnxruntime", &[&package, "--engine", "onnxruntime"]).await,
        ];
        let rows = contenders.each_ref().map(|contender| Row {
            what: contender.name.clone(),
            contender,
            request: request(contender.address),
        });
        let rounds = take(&rows, 8, scale.of(15, 3), SECOND);
        report.line(format!("{model}, /invocations, 8 connections\n"));
        rounds.table(&rows, report);
        report.line("");
        let rate = rounds.ratio(1, 0, Round::per_second).value;
        report.at_least(
            &format!("{model}: rate by that of `mlflow models serve`"),
            rate,
            bar,
        );
    }
}

/// 100 trees, which are more than the server but not much.
async fn forest(report: &mut Report, constant: &Contender, scale: Scale) {
    let (_directory, file) = made("forest");
    let path = file.display().to_string();
    let arguments = [&*path, "--engine", "onnxruntime"];
    let ours = Contender::onstage("onnxruntime", &arguments).await;
    let package = onstage::model::Package::open(&file).unwrap();
    let inputs = raw::inputs(&package.graph.signature, 1);
    let row = |contender, form: Form| Row {
        what: format!("{}, {}", Contender::name(contender), form.name()),
        contender,
        request: crate::bodies::infer(contender.address, "forest", &inputs, form),
    };
    let rows = [
        row(constant, Form::Json),
        row(&ours, Form::Json),
        row(&ours, Form::Binary),
    ];
    let rounds = take(&rows, 8, scale.of(15, 3), SECOND);
    report.line("forest of 100 trees, 8 connections\n");
    rounds.table(&rows, report);
    report.line("");
}
