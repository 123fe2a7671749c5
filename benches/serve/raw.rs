//! ONNX Runtime without a server around it: the limit for large models.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use onstage::model::{Package, Signature};
use onstage::tensor::{DType, Tensor};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use crate::contender::itself;
use crate::process::cpu_nanoseconds;
use crate::server::onnxruntime;

/// This binary as a loop around a session.
pub(crate) struct Raw {
    child: Child,
    replies: BufReader<std::process::ChildStdout>,
}

/// What one stretch of the loop gave.
#[derive(Clone, Copy)]
pub(crate) struct Loop {
    pub(crate) calls: usize,
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
}

impl Raw {
    /// A session over `model` with one thread, asked for `rows` at a time.
    pub(crate) fn start(model: &Path, rows: usize) -> Self {
        let rows = rows.to_string();
        let (mut child, ready) = itself(&["raw", &model.display().to_string(), &rows]);
        assert_eq!(ready, "ready");
        let replies = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, replies }
    }

    /// Runs for that long.
    pub(crate) fn run(&mut self, time: Duration) -> Loop {
        let before = cpu_nanoseconds(&[self.child.id()]);
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{}", time.as_millis()).expect("it reads");
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("it answers");
        let (calls, seconds) = line.trim().split_once(' ').expect("two numbers");
        Loop {
            calls: calls.parse().expect("a number"),
            seconds: seconds.parse().expect("a number"),
            cpu: (cpu_nanoseconds(&[self.child.id()]) - before) / 1e9,
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: runs for as many milliseconds as each line of stdin says.
pub(crate) fn serve(model: &str, rows: &str) {
    let (mut session, signature) = open(Path::new(model));
    let inputs = inputs(&signature, rows.parse().expect("a number of rows"));
    call(&mut session, &inputs);
    println!("ready");
    for line in std::io::stdin().lines() {
        let time = Duration::from_millis(line.expect("text").parse().expect("milliseconds"));
        let (began, mut calls) = (Instant::now(), 0_usize);
        while began.elapsed() < time {
            call(&mut session, &inputs);
            calls += 1;
        }
        println!("{calls} {}", began.elapsed().as_secs_f64());
    }
}

pub(crate) fn open(model: &Path) -> (Session, Signature) {
    let package = Package::open(model).expect("it was made for this");
    let session = session(&environment(), model);
    (session, package.graph.signature.clone())
}

/// ONNX Runtime itself: one for a process.
pub(crate) fn environment() -> Environment {
    let environment = ort::init_from(onnxruntime()).expect("`ORT_DYLIB_PATH`");
    let environment = environment.with_telemetry(false).build();
    environment.expect("it is the first one")
}

/// `model` with one thread.
pub(crate) fn session(environment: &Environment, model: &Path) -> Session {
    let session = Session::builder(environment)
        .and_then(|builder| Ok(builder.with_intra_threads(1)?))
        .and_then(|mut builder| builder.commit_from_file(model));
    session.expect("ONNX Runtime takes it")
}

pub(crate) fn call(session: &mut Session, inputs: &[(String, Tensor)]) {
    let feeds: Vec<(&str, SessionInputValue<'_>)> = inputs
        .iter()
        .map(|(name, tensor)| {
            let shape: Vec<i64> = tensor.shape().iter().map(|dim| *dim as i64).collect();
            let value = match tensor.dtype() {
                DType::I64 => {
                    TensorRef::from_array_view((shape, tensor.as_slice::<i64>().expect("aligned")))
                        .map(SessionInputValue::from)
                }
                _ => {
                    TensorRef::from_array_view((shape, tensor.as_slice::<f32>().expect("aligned")))
                        .map(SessionInputValue::from)
                }
            };
            (name.as_str(), value.expect("a tensor"))
        })
        .collect();
    session.run(feeds).expect("it ran before");
}

/// The same inputs for everybody: numbers of an image, or of words.
pub(crate) fn inputs(signature: &Signature, rows: usize) -> Vec<(String, Tensor)> {
    let tensor = |input: &onstage::model::InputSpec| {
        let dims = input.shape.as_ref().expect("a known rank");
        let mut shape: Vec<usize> = dims
            .iter()
            .map(|dim| dim.to_i64().max(1) as usize)
            .collect();
        shape[0] = rows;
        let count: usize = shape.iter().product();
        let tensor = match input.dtype {
            DType::I64 => {
                Tensor::from_vec(shape, (0..count).map(|n| (n * 7 % 1000) as i64).collect())
            }
            _ => Tensor::from_vec(
                shape,
                (0..count).map(|n| (n % 251) as f32 / 251.0).collect(),
            ),
        };
        (input.name.clone(), tensor.expect("it fills its shape"))
    };
    signature.inputs.iter().map(tensor).collect()
}
