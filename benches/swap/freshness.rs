//! How soon a change in the registry is answered with.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Scale;
use crate::client::{Client, Request};
use crate::files::{EACH_SWAP_LOADS, Files};
use crate::mlflow_server::{MlflowClient, MlflowServer, WEBHOOKS};
use crate::report::{Report, ms, quantile};
use crate::server::{Server, Starter};

/// Between two changes: the version before is gone then.
const REST: Duration = Duration::from_millis(500);

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(1);

/// How long a version may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// Versions that are moved to and fro once they are in the cache.
const CYCLE: u64 = 4;

/// Of the server that is asked for a stage: the one by default.
const POLL: Duration = Duration::from_secs(5);

pub(crate) async fn run(scale: &Scale) -> Report {
    let changes = scale.of(20, 4) as u64;
    let mut report = Report::default();
    report
        .line("| change | from sending it, ms: median | max | from its return, ms: median | max |");
    report.line("|---|---|---|---|---|");
    of_files(&mut report, changes, scale).await;
    of_aliases(&mut report, changes, scale).await;
    of_stages(&mut report, changes, scale).await;
    of_replicas(&mut report, changes, scale).await;
    report
}

/// The times from a change until the first answer of the new version.
#[derive(Default)]
struct Times {
    from_sending: Vec<Duration>,
    from_return: Vec<Duration>,
}

impl Times {
    /// Does the change and waits for the answer.
    async fn take(&mut self, request: &Request, version: u64, change: impl Future<Output = ()>) {
        let seen = std::thread::spawn({
            let request = request.clone();
            move || until_version(&request, version)
        });
        // The watcher has its connection by then.
        sleep(10 * LOOK).await;
        let sent = Instant::now();
        change.await;
        let returned = Instant::now();
        let seen = seen.join().expect("the version comes on stage");
        self.from_sending.push(seen.duration_since(sent));
        self.from_return
            .push(seen.saturating_duration_since(returned));
    }

    fn report(mut self, report: &mut Report, what: &str, bar: Duration) {
        let sending = [0.5, 1.0].map(|share| ms(quantile(&mut self.from_sending, share)));
        let returned = [0.5, 1.0].map(|share| ms(quantile(&mut self.from_return, share)));
        let [a, b] = sending;
        let [c, d] = returned;
        report.line(format!("| {what} | {a} | {b} | {c} | {d} |"));
        let median = quantile(&mut self.from_sending, 0.5).as_secs_f64() * 1e3;
        report.bar(what, median, bar.as_secs_f64() * 1e3, " ms");
    }
}

fn until_version(request: &Request, version: u64) -> Instant {
    let began = Instant::now();
    let mut client = Client::connect(request).expect("the server listens");
    while began.elapsed() < PATIENCE {
        let answer = client.ask().expect("the server answers");
        if answer.status == 200 && answer.version == version {
            assert_eq!(answer.predicted, Some(version as f64), "one version");
            return Instant::now();
        }
        std::thread::sleep(LOOK);
    }
    panic!("version {version} does not come on stage");
}

async fn of_files(report: &mut Report, changes: u64, scale: &Scale) {
    let files = Files::new();
    files.add_times("scale", CYCLE).await;
    let server = files.serve(&["scale"], EACH_SWAP_LOADS, scale).await;
    let request = Request::invocations(server.address(), "[1.0, 1.0]");
    let mut times = Times::default();
    for change in 1..=changes {
        let version = change % CYCLE + 1;
        let moved = files.promote("scale", version);
        times.take(&request, version, moved).await;
        sleep(REST).await;
    }
    times.report(report, "alias in a directory", Duration::from_millis(100));
    server.terminate().await;
}

/// A server of MLflow with `versions` of model `scale`, of which version N multiplies by N, and what follows it.
struct Scene {
    mlflow: MlflowServer,
    python: MlflowClient,
}

impl Scene {
    async fn new(versions: u64) -> Self {
        let mlflow = MlflowServer::start("", &[], &WEBHOOKS).await;
        let mut python = MlflowClient::start(&mlflow, &[]);
        for factor in 1..=versions {
            let register = format!("register('scale', times({factor}))");
            python.eval(&register).await;
        }
        Self { mlflow, python }
    }

    async fn serve(&self, follow: &str, poll: &str, scale: &Scale) -> Server {
        let home = self.mlflow.home();
        let [config, secret, cache] =
            ["onstage.toml", "secret", "cache"].map(|name| home.join(name));
        std::fs::write(&config, format!("[models.scale]\n{EACH_SWAP_LOADS}\n")).unwrap();
        std::fs::write(&secret, "s3cr3t\n").unwrap();
        let arguments = [
            ["--registry", &self.mlflow.url],
            ["--follow", follow],
            ["--poll-interval", poll],
            ["--config", config.to_str().unwrap()],
            ["--cache-dir", cache.to_str().unwrap()],
            ["--webhook-secret-file", secret.to_str().unwrap()],
            ["--engine", &scale.engine],
        ];
        Server::start(&arguments.concat()).await
    }

    /// Before the first event: MLflow remembers for a minute which webhooks there are.
    async fn add_webhook(&self, server: &Server) {
        let secret = self.mlflow.home().join("secret");
        let (address, registry) = (server.url(""), &self.mlflow.url);
        let arguments = [
            "registry",
            "webhook",
            "--registry",
            registry,
            "--url",
            &address,
            "--webhook-secret-file",
            secret.to_str().unwrap(),
            "--register",
        ];
        let made = Starter::command(&arguments).run().await;
        assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
    }

    async fn set_alias(&mut self, version: u64) {
        let call = format!("client.set_registered_model_alias('scale', 'champion', '{version}')");
        self.python.eval(&call).await;
    }

    async fn set_stage(&mut self, version: u64) {
        let call = format!(
            "client.transition_model_version_stage('scale', '{version}', 'Production', archive_existing_versions=True)"
        );
        self.python.eval(&call).await;
    }
}

/// With the webhook; polling is as good as off.
async fn of_aliases(report: &mut Report, changes: u64, scale: &Scale) {
    let first = CYCLE + 1;
    let mut scene = Scene::new(CYCLE + changes).await;
    // Nothing has told MLflow's memory of webhooks that there are none: no alias has moved yet.
    let server = scene.serve("@champion", "1h", scale).await;
    scene.add_webhook(&server).await;
    let request = Request::new(
        server.address(),
        "/models/scale/invocations",
        r#"{"inputs": [[1.0]]}"#,
    );
    wait_for_webhooks(&mut scene, &request).await;
    let mut times = Times::default();
    for version in first..first + changes {
        let moved = scene.set_alias(version);
        times.take(&request, version, moved).await;
        sleep(REST).await;
    }
    let what = "alias of MLflow, webhook, version not in the cache";
    times.report(report, what, Duration::from_millis(300));
    for version in 1..=CYCLE {
        Times::default()
            .take(&request, version, scene.set_alias(version))
            .await;
    }
    let mut times = Times::default();
    for change in 0..changes {
        let version = change % CYCLE + 1;
        sleep(REST).await;
        let moved = scene.set_alias(version);
        times.take(&request, version, moved).await;
    }
    let what = "alias of MLflow, webhook, version in the cache";
    times.report(report, what, Duration::from_millis(150));
    server.terminate().await;
}

/// Registering the versions made MLflow look for webhooks, and remember that there are none: it forgets in a minute.
async fn wait_for_webhooks(scene: &mut Scene, request: &Request) {
    let began = Instant::now();
    while began.elapsed() < 2 * PATIENCE {
        scene.set_alias(1).await;
        sleep(Duration::from_secs(1)).await;
        let mut client = Client::connect(request).expect("the server listens");
        if client.ask().is_ok_and(|answer| answer.status == 200) {
            return;
        }
    }
    panic!("MLflow tells of no change");
}

/// At moments that are spread over the time between two polls.
async fn of_stages(report: &mut Report, changes: u64, scale: &Scale) {
    let mut scene = Scene::new(CYCLE).await;
    scene.set_stage(1).await;
    let poll = format!("{}s", POLL.as_secs());
    let server = scene.serve("Production", &poll, scale).await;
    let request = Request::invocations(server.address(), "[1.0]");
    let mut times = Times::default();
    for change in 1..=changes {
        let version = change % CYCLE + 1;
        // The golden ratio spreads best.
        sleep(REST + POLL.mul_f64((change as f64 * 0.618).fract())).await;
        times
            .take(&request, version, scene.set_stage(version))
            .await;
    }
    let what = "stage of MLflow, polled every 5 s";
    times.report(report, what, POLL + Duration::from_millis(300));
    server.terminate().await;
}

/// Three servers that know nothing of each other: until the last one has the new version, and since the first one had it.
async fn of_replicas(report: &mut Report, changes: u64, scale: &Scale) {
    let mut scene = Scene::new(CYCLE).await;
    scene.set_alias(1).await;
    let poll = format!("{}s", POLL.as_secs());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(scene.serve("@champion", &poll, scale).await);
        // Pods do not start at the same moment either.
        sleep(POLL / 4).await;
    }
    let ask = |replica: &Server| Request::invocations(replica.address(), "[1.0]");
    let requests: Vec<_> = replicas.iter().map(ask).collect();
    let (mut last, mut apart) = (Vec::new(), Vec::new());
    for change in 1..=changes {
        let version = change % CYCLE + 1;
        sleep(REST + POLL.mul_f64((change as f64 * 0.618).fract())).await;
        let watchers: Vec<_> = { requests.iter().cloned() }
            .map(|request| std::thread::spawn(move || until_version(&request, version)))
            .collect();
        let sent = Instant::now();
        scene.set_alias(version).await;
        let seen: Vec<Instant> = { watchers.into_iter() }
            .map(|watcher| watcher.join().expect("the version comes on stage"))
            .collect();
        let first = seen.iter().min().expect("three of them");
        let slowest = seen.iter().max().expect("three of them");
        last.push(slowest.duration_since(sent));
        apart.push(slowest.duration_since(*first));
    }
    let figures = [&mut last, &mut apart].map(|times| {
        let [median, most] = [0.5, 1.0].map(|share| ms(quantile(times, share)));
        format!("{median} (max {most})")
    });
    let [slowest, apart] = figures;
    report.line(format!(
        "\nThree replicas that poll every {} s: the last one after {slowest} ms, {apart} ms after the first.",
        POLL.as_secs()
    ));
    let most = quantile(&mut last, 1.0).as_secs_f64() * 1e3;
    let bar = (POLL + Duration::from_millis(500)).as_secs_f64() * 1e3;
    let what = "three replicas, polled every 5 s: the last one, at most";
    report.bar(what, most, bar, " ms");
    for replica in replicas {
        replica.terminate().await;
    }
}
