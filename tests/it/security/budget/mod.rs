//! What requests may cost: memory that the limits allow, and time in proportion to their size.
//!
//! The real binary gets bodies that want to harm, and honest ones as large as they may be, plain and in gzip. The table of
//! what they cost is in `docs/security.md`; `ONSTAGE_RECORD=1` writes it anew.

mod files;
mod gibibyte;
mod rows;
mod wire;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::rows::{Expected, Row};
use crate::support::onnx;
use crate::support::onnx::Parts;
use crate::support::server::{Server, Starter, project};

/// `server.max_body` of the servers here.
const MAX_BODY: usize = 8 << 20;

/// What a request may take: four times the largest body, and what every request takes.
const MOST_MEMORY: usize = 4 * MAX_BODY + (20 << 20);

/// How long a probe may take beside such a request. The binary is not optimised, and the machine has other work.
const PROBE: Duration = Duration::from_secs(1);

/// Work below this says nothing of its growth.
const NOTHING: Duration = Duration::from_millis(60);

/// Of a quarter of the body the work must be this share of it at least: it is a quarter when work grows with the size, and
/// a sixteenth when it grows with its square.
const SHARE: u32 = 9;

/// What one body cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    status: u16,
    /// Bytes on the wire.
    sent: usize,
    /// Bytes of the body as it is.
    body: usize,
    /// Bytes that the process had resident at most, beyond what it had before.
    memory: usize,
    /// Time of the processor.
    work: Duration,
    probe: Duration,
}

/// Columns of the models.
const WIDTH: usize = 100;

/// The columns of a signature.
fn doubles() -> String {
    let column =
        |index: usize| format!(r#"{{"type": "double", "name": "c{index}", "required": true}}"#);
    let columns: Vec<String> = (0..WIDTH).map(column).collect();
    columns.join(", ")
}

/// A server of models that take 100 numbers a row, or texts, and give back little.
struct Stage {
    server: Server,
    idle: usize,
    _packages: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let packages = TempDir::new().unwrap();
        let tensor =
            r#"{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 100]}}"#;
        let texts = r#"{"type": "string", "name": "t", "required": true}"#;
        let names = ["columns", "tensor", "texts"];
        for (name, inputs) in names.into_iter().zip([doubles().as_str(), tensor, texts]) {
            let model = if name == "texts" {
                largest_of_texts()
            } else {
                place_of_largest()
            };
            package(&packages.path().join(name), inputs, &model);
        }
        let paths = names.map(|name| packages.path().join(name));
        let mut flags: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        let max_body = format!("{}MiB", MAX_BODY >> 20);
        flags.extend(["--engine", "onnxruntime", "--max-body", &max_body]);
        let server = Starter::serve(&flags)
            .env("ONSTAGE_SERVER__REQUEST_TIMEOUT", "5m")
            .with_onnxruntime()
            .start()
            .await;
        for path in ["/models/columns/invocations", "/models/tensor/invocations"] {
            server.post(path, "application/json", "{}").await;
        }
        let idle = resident(&server, "VmRSS:");
        Self {
            server,
            idle,
            _packages: packages,
        }
    }

    /// Sends a body and waits for its answer, with probes beside it.
    async fn cost(&self, row: &Row, body: &[u8], packed: bool) -> Cost {
        let sent = if packed { gzip(body) } else { body.to_vec() };
        let watch = Watch {
            idle: self.idle,
            ..Watch::new(&self.server)
        };
        let mut request = self.server.request(reqwest::Method::POST, row.path);
        request = request.header("content-type", row.content_type);
        for (name, value) in row.headers(body) {
            request = request.header(name, value);
        }
        if packed {
            request = request.header("content-encoding", "gzip");
        }
        let (length, request) = (sent.len(), request.body(sent));
        let answer = async {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.bytes().await.unwrap();
            assert!(
                status == 200 || text.len() < 20_000,
                "an error of {} bytes",
                text.len()
            );
            status
        };
        let (status, probe) = watch.beside(answer).await;
        watch.cost(status, (length, body.len()), probe)
    }
}

/// What a server takes from here on.
struct Watch<'s> {
    server: &'s Server,
    /// Bytes that it had resident before.
    idle: usize,
    /// Time of the processor that it took before.
    before: Duration,
}

impl<'s> Watch<'s> {
    fn new(server: &'s Server) -> Self {
        let mut watch = Self {
            server,
            idle: resident(server, "VmRSS:"),
            before: Duration::ZERO,
        };
        // From here on the peak is that of this request.
        fs::write(watch.proc("clear_refs"), "5").unwrap();
        watch.before = watch.work();
        watch
    }

    /// Waits for an answer, and probes beside it; the slowest one.
    async fn beside<T>(&self, answer: impl Future<Output = T>) -> (T, Duration) {
        let mut answer = std::pin::pin!(answer);
        let mut probe = Duration::ZERO;
        loop {
            tokio::select! {
                answer = &mut answer => return (answer, probe),
                took = self.ping() => probe = probe.max(took),
            }
        }
    }

    fn cost(&self, status: u16, (sent, body): (usize, usize), probe: Duration) -> Cost {
        Cost {
            status,
            sent,
            body,
            memory: resident(self.server, "VmHWM:").saturating_sub(self.idle),
            work: self.work().saturating_sub(self.before),
            probe,
        }
    }

    async fn ping(&self) -> Duration {
        let began = Instant::now();
        assert_eq!(self.server.get("/ping").await.status(), 200);
        let took = began.elapsed();
        sleep(Duration::from_millis(20)).await;
        took
    }

    /// The processor's time that all threads took so far.
    fn work(&self) -> Duration {
        let threads = fs::read_dir(self.proc("task")).unwrap();
        let nanoseconds = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.server.process_id().to_string())
            .join(file)
    }
}

/// A line of the status of the process, in bytes.
fn resident(server: &Server, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes << 10
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// For each row the place of its largest number.
fn place_of_largest() -> Vec<u8> {
    Parts::default()
        .value(true, "x", 1, &[0, WIDTH as u64])
        .node_with("ArgMax", &["x"], "y", &[("axis", 1), ("keepdims", 0)])
        .value(false, "y", 7, &[0])
        .model()
}

/// The number of texts.
fn largest_of_texts() -> Vec<u8> {
    Parts::default()
        .value(true, "t", 8, &[0, 1])
        .node("Size", &["t"], "y")
        .value(false, "y", 7, &[])
        .model()
}

fn package(directory: &Path, inputs: &str, model: &[u8]) {
    fs::create_dir(directory).unwrap();
    onnx::save(model, &directory.join("model.onnx"));
    let manifest = format!(
        "flavors: {{ onnx: {{ data: model.onnx, onnx_version: 1.19.0 }} }}\nsignature:\n  inputs: '[{inputs}]'\n  \
         outputs: null\n  params: null\n"
    );
    fs::write(directory.join("MLmodel"), manifest).unwrap();
}

#[rstest]
#[tokio::test]
async fn no_body_takes_more_memory_than_it_may_nor_time_beyond_its_size(
    #[values(
        "split",
        "records",
        "inputs",
        "instances",
        "envelope",
        "csv",
        "parquet",
        "v1",
        "oip-json",
        "oip-binary",
        "event"
    )]
    decoder: &str,
) {
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for row in rows::of(decoder) {
        let mut costs = Vec::new();
        for packed in [false, true] {
            // Memory that an allocator keeps of the one is none of the other.
            let quarter = Stage::new().await;
            let quarter = quarter.cost(&row, &(row.body)(MAX_BODY / 4), packed).await;
            let whole = Stage::new().await;
            let whole = whole.cost(&row, &(row.body)(MAX_BODY), packed).await;
            failures.extend(judge(&row, packed, (quarter, whole)));
            costs.push(whole);
        }
        lines.push(told(row.decoder, row.class, &costs));
    }
    if std::env::var_os("ONSTAGE_RECORD").is_some() {
        let own: Vec<&str> = rows::of(decoder).iter().map(|row| row.decoder).collect();
        record(&own, &lines);
    }
    #[expect(clippy::print_stderr, reason = "what a failed run is compared with")]
    {
        eprintln!("{}", lines.join("\n"));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What is wrong with the costs of a body.
fn judge(row: &Row, packed: bool, (quarter, whole): (Cost, Cost)) -> Vec<String> {
    let mut failures = judged(row.decoder, row.class, (packed, quarter, whole));
    let is_expected = match row.expected {
        Expected::Answer => whole.status == 200,
        Expected::TooLarge => whole.status == 413,
        Expected::Refusal => (400..500).contains(&whole.status),
        Expected::Any => whole.status < 500,
    };
    if !is_expected {
        let (decoder, class) = (row.decoder, row.class);
        failures.push(format!(
            "{decoder}, {class}: the answer: {quarter:?} {whole:?}"
        ));
    }
    failures
}

/// What is wrong with the costs whatever the answer is.
fn judged(decoder: &str, class: &str, (packed, quarter, whole): (bool, Cost, Cost)) -> Vec<String> {
    let mut failures = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            let form = if packed { "gzip" } else { "plain" };
            failures.push(format!(
                "{decoder}, {class}, {form}: {what}: {quarter:?} {whole:?}"
            ));
        }
    };
    for cost in [&quarter, &whole] {
        // An engine copies the texts that it gets: that is not decoding.
        let engine = if cost.status == 200 { 4 * cost.body } else { 0 };
        check(cost.memory <= MOST_MEMORY + engine, "memory");
    }
    check(whole.probe.max(quarter.probe) < PROBE, "a probe");
    let grows = whole.work > NOTHING && quarter.work > NOTHING;
    check(!grows || whole.work < quarter.work * SHARE, "work");
    failures
}

const PAGE: &str = "docs/security.md";

/// What stands in front of the rows of the table.
const HEAD: &str = "|---|---|---|---|---|---|\n";

/// A line of the table.
fn told(decoder: &str, class: &str, costs: &[Cost]) -> String {
    let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
    let cell = |cost: &Cost| {
        let memory = mebibytes(cost.memory);
        format!("{memory} MiB, {} ms", cost.work.as_millis())
    };
    let cells: Vec<String> = costs.iter().map(cell).collect();
    let packed = costs[1].sent.div_ceil(1 << 10);
    let status = costs[0].status;
    format!(
        "| {decoder} | {class} | {status} | {} | {packed} KiB | {} |",
        cells[0], cells[1]
    )
}

/// Puts the lines of one decoder in the place of those that stand there.
fn record(own: &[&str], lines: &[String]) {
    let lock = fs::File::create(std::env::temp_dir().join("onstage-record.lock")).unwrap();
    lock.lock().unwrap();
    let path = project().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(HEAD).unwrap();
    let table: String = rest
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('|'))
        .collect();
    let after = &rest[table.len()..];
    let mut kept: Vec<String> = table.lines().map(str::to_owned).collect();
    let is_own = |line: &String| {
        own.iter()
            .any(|name| line.starts_with(&format!("| {name} |")))
    };
    kept.retain(|line| !is_own(line));
    kept.extend(lines.iter().cloned());
    let order = |line: &String| {
        let place = |row: &Row| line.starts_with(&format!("| {} | {} |", row.decoder, row.class));
        rows::all().iter().position(place).unwrap_or(usize::MAX)
    };
    kept.sort_by_key(order);
    fs::write(path, format!("{before}{HEAD}{}\n{after}", kept.join("\n"))).unwrap();
}

#[test]
fn the_table_of_costs_has_a_row_for_each_body() {
    let page = fs::read_to_string(project().join(PAGE)).unwrap();
    let (_, rest) = page.split_once(HEAD).expect("the table is there");
    let table = rest.lines().take_while(|line| line.starts_with('|'));
    let found: Vec<String> = table
        .map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" | "))
        .collect();
    let messages = wire::kinds().into_iter().map(|kind| ("gRPC", kind));
    let rows = rows::all();
    let bodies = rows.iter().map(|row| (row.decoder, row.class));
    let expected: Vec<String> = bodies
        .chain(messages)
        .map(|(decoder, class)| format!("| {decoder} | {class}"))
        .collect();
    assert_eq!(found, expected, "write it anew with ONSTAGE_RECORD=1");
}

/// Instructions of `onstage predict` with this body, as valgrind counts them.
async fn instructions(package: &Path, content_type: &str, body: &[u8]) -> u64 {
    let file = package.with_extension("body");
    fs::write(&file, body).unwrap();
    let mut command = tokio::process::Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env!("CARGO_BIN_EXE_onstage"))
        .arg("predict")
        .arg(package)
        .args([
            "--engine",
            "tract",
            "--content-type",
            content_type,
            "--input",
        ])
        .arg(&file);
    let output = command.output().await.expect("valgrind is there");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .split("Collected : ")
        .nth(1)
        .unwrap_or_else(|| panic!("{text}"));
    count.split_whitespace().next().unwrap().parse().unwrap()
}

#[rstest]
#[tokio::test]
#[ignore = "takes minutes, and valgrind"]
async fn twice_the_body_is_twice_the_work(
    #[values("split", "records", "inputs", "instances", "envelope", "csv")] decoder: &str,
) {
    const SIZE: usize = 24 << 10;
    let packages = TempDir::new().unwrap();
    let path = packages.path().join("columns");
    package(&path, &doubles(), &place_of_largest());
    let nothing = instructions(&path, "application/json", b"{}").await;
    let mut failures = Vec::new();
    for row in rows::of(decoder) {
        let half = instructions(&path, row.content_type, &(row.body)(SIZE)).await - nothing;
        let whole = instructions(&path, row.content_type, &(row.body)(2 * SIZE)).await - nothing;
        // Of so little other things are a part.
        if half > 1_000_000 && whole > half * 23 / 10 {
            failures.push(format!(
                "{}, {}: {half} and {whole}",
                row.decoder, row.class
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
