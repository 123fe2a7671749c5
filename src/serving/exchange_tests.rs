use std::net::SocketAddr;

use super::super::catalog::{Catalog, ModelEntry, VersionEntry};
use super::super::observer::{Arrival, Observed, Observer};
use super::super::request::{RequestContext, RequestId};
use super::super::servable::{Limits, ServableParts};
use super::super::service::{Answered, InferenceService, RequestOptions};
use super::super::state::VersionState;
use parking_lot::Mutex;

use super::*;
use crate::batching::{Batcher, BatcherConfig, RunnerPool};
use crate::engine::fake::{self, Behaviour, Fake};
use crate::engine::{CancelToken, Engine, EngineOptions};
use crate::model::{ModelName, Version};
use crate::telemetry::{DURATION_BUCKETS, Metrics, Protocol};
use crate::tensor::{DType, Tensor};

/// One number, which comes back.
struct Number(f32, Option<Duration>);

impl Codec for Number {
    type Answer = f32;
    type Error = ServeError;

    fn bytes(&self) -> usize {
        4
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, ServeError> {
        let tensor = Tensor::from_vec(vec![1, 1], vec![self.0]).unwrap();
        Ok(servable
            .signature()
            .bind(vec![("x".to_owned(), tensor)])
            .unwrap())
    }

    fn request_options(&self) -> RequestOptions {
        RequestOptions {
            timeout: self.1,
            ..RequestOptions::default()
        }
    }

    fn encode(self, _: &Servable, outputs: Outputs) -> Result<f32, ServeError> {
        let Value::Tensor(tensor) = &outputs[0] else {
            panic!("the fake gives tensors");
        };
        Ok(tensor.to_vec::<f32>().unwrap()[0])
    }
}

/// Version 1 behind version 2, which is on probation.
struct Scene {
    service: Arc<InferenceService>,
    old: ServableHandle,
    new: ServableHandle,
}

const TIMEOUT: Duration = Duration::from_secs(1);

impl Scene {
    fn new(old: Fake, new: Fake) -> Self {
        Self::with(old, new, false)
    }

    fn with(old: Fake, new: Fake, in_doubt: bool) -> Self {
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let old = Arc::new(servable(&metrics, &old, 1));
        let new = Arc::new(servable(&metrics, &new, 2).in_doubt(in_doubt));
        new.begin_probation(&old, Arc::default());
        let catalog = Arc::new(Catalog::default());
        let entry = |servable: &ServableHandle| VersionEntry {
            state: VersionState::Ready,
            servable: Some(Arc::clone(servable)),
        };
        catalog.update(|snapshot| {
            snapshot.known = true;
            let versions = [(Version(1), entry(&old)), (Version(2), entry(&new))];
            let entry = ModelEntry {
                versions: versions.into(),
                default: Some(Version(2)),
                ..ModelEntry::default()
            };
            snapshot.models.insert(name(), entry);
        });
        let service = Arc::new(InferenceService::new(catalog, metrics));
        Self { service, old, new }
    }

    async fn ask(&self, number: f32) -> (u64, Result<f32, ServeError>) {
        self.ask_for(number, VersionSelector::Default).await
    }

    async fn ask_for(
        &self,
        number: f32,
        version: VersionSelector,
    ) -> (u64, Result<f32, ServeError>) {
        self.send(Number(number, None), version).await
    }

    /// With a deadline of the client's own.
    async fn ask_within(&self, number: f32, own: Duration) -> (u64, Result<f32, ServeError>) {
        let number = Number(number, Some(own));
        self.send(number, VersionSelector::Default).await
    }

    async fn send(
        &self,
        number: Number,
        version: VersionSelector,
    ) -> (u64, Result<f32, ServeError>) {
        let model = Some(name());
        let selector = Selector { model, version };
        let asked = self.service.infer(Protocol::V1, &selector, number);
        let Answered { model, result } = asked.await;
        (model.unwrap().version.0, result)
    }

    fn evidence(&self) -> super::super::evidence::Evidence {
        self.new.observation().unwrap().evidence()
    }

    /// Requests that were judged, and that failed.
    fn counts(&self) -> (u64, u64) {
        let all = self.evidence().all;
        (all.requests, all.failed)
    }

    fn counted(&self, series: &str) -> bool {
        let text = self.service.metrics().render();
        text.lines().any(|line| line == series)
    }
}

fn name() -> ModelName {
    ModelName::new("m").unwrap()
}

fn servable(metrics: &Arc<Metrics>, engine: &Fake, version: u64) -> Servable {
    let package = fake::package("m", version, &[("x", DType::F32)]);
    let compiled = engine.compile(&package, &EngineOptions::default(), &CancelToken::new());
    let model = compiled.unwrap();
    let series = metrics.version("m", &version.to_string(), "fake", "d");
    let config = BatcherConfig {
        max_queue_size: 16,
        instances: 2,
        groups: false,
        max_rows: None,
        max_delay: Duration::ZERO,
        in_place: Duration::ZERO,
    };
    let pool = Arc::new(RunnerPool::new(2).unwrap());
    let observer = Arc::clone(&series) as Arc<dyn crate::batching::BatchObserver>;
    let batcher = Batcher::new(Arc::clone(&model), pool, config, observer);
    let limits = Limits {
        request_timeout: TIMEOUT,
        max_concurrency: None,
        max_rows: None,
    };
    Servable::new(ServableParts {
        package,
        engine: "fake",
        model: &*model,
        batcher,
        limits,
        metrics: series,
    })
}

fn good() -> Fake {
    Fake::default()
}

fn failing() -> Fake {
    good().behaving(Behaviour::BadInput("6 is out of range".to_owned()))
}

#[tokio::test]
async fn what_the_new_version_fails_the_version_before_answers() {
    for new in [
        failing(),
        good().behaving(Behaviour::Fail("no kernel".to_owned())),
        good().behaving(Behaviour::Panic("on purpose".to_owned())),
    ] {
        let scene = Scene::new(good(), new);
        for _ in 0..3 {
            let (version, answer) = scene.ask(4.0).await;
            assert_eq!((version, answer.unwrap()), (1, 4.0));
        }
        assert_eq!(scene.counts(), (3, 3));
        for series in [
            r#"onstage_replays_total{model="m",outcome="answered",version="2"} 3"#,
            r#"onstage_requests_total{model="m",outcome="success",protocol="v1",version="1"} 3"#,
        ] {
            assert!(scene.counted(series), "{series}");
        }
    }
}

#[tokio::test]
async fn what_both_versions_fail_is_the_requests_fault() {
    let fails_fives = || failing().only_for(5.0);
    let scene = Scene::new(fails_fives(), fails_fives());
    let (version, answer) = scene.ask(5.0).await;
    assert_eq!(version, 2);
    assert!(
        answer
            .unwrap_err()
            .to_string()
            .contains("6 is out of range")
    );
    let (version, answer) = scene.ask(4.0).await;
    assert_eq!((version, answer.unwrap()), (2, 4.0));
    assert_eq!(scene.counts(), (1, 0));
    for series in [
        r#"onstage_engine_errors_total{model="m",reason="run",version="2"} 1"#,
        r#"onstage_replays_total{model="m",outcome="failed",version="2"} 1"#,
        r#"onstage_requests_total{model="m",outcome="engine_error",protocol="v1",version="2"} 1"#,
        r#"onstage_requests_total{model="m",outcome="client_error",protocol="v1",version="2"} 0"#,
    ] {
        assert!(scene.counted(series), "{series}");
    }
}

#[tokio::test]
async fn a_version_that_is_too_slow_is_answered_for_within_the_deadline() {
    let scene = Scene::new(good(), good().delayed(TIMEOUT * 3));
    let began = Instant::now();
    let (version, answer) = scene.ask(4.0).await;
    assert_eq!((version, answer.unwrap()), (1, 4.0));
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(scene.evidence().causes, [("time-outs", 1)]);
}

#[tokio::test]
async fn a_time_out_counts_although_the_version_before_is_late_too() {
    let slow = || good().delayed(TIMEOUT * 3);
    let scene = Scene::new(slow(), slow());
    let (version, answer) = scene.ask(4.0).await;
    assert_eq!(version, 2);
    assert!(matches!(answer, Err(ServeError::Deadline(TIMEOUT))));
    assert_eq!(scene.counts(), (1, 1));
}

#[tokio::test]
async fn whoever_names_a_version_gets_it_and_nothing_is_judged() {
    let scene = Scene::new(good(), failing());
    let (version, answer) = scene
        .ask_for(4.0, VersionSelector::Exactly(Version(2)))
        .await;
    assert_eq!(version, 2);
    assert!(answer.is_err());
    assert_eq!(scene.counts(), (0, 0));
}

#[tokio::test]
async fn outside_of_probation_nothing_is_run_again() {
    let old = good();
    let scene = Scene::new(old.clone(), failing());
    scene.new.end_probation();
    let (version, answer) = scene.ask(4.0).await;
    assert_eq!((version, answer.is_err(), old.runs()), (2, true, 0));
}

#[tokio::test]
async fn a_version_that_goes_wrong_after_a_hundred_requests_is_seen() {
    let scene = Scene::new(good(), failing().only_after(100));
    for request in 0..140 {
        let (version, answer) = scene.ask(4.0).await;
        assert_eq!(answer.unwrap(), 4.0);
        assert_eq!(version, if request < 100 { 2 } else { 1 });
    }
    assert_eq!(scene.counts(), (140, 40));
}

#[tokio::test]
async fn outputs_that_are_not_finite_count_and_are_answered_as_they_are() {
    let large = || good().behaving(Behaviour::Times(1e30));
    let scene = Scene::new(good(), large());
    let (version, answer) = scene.ask(1e20).await;
    assert_eq!((version, answer.unwrap()), (2, f32::INFINITY));
    assert_eq!(
        scene.evidence().causes,
        [("outputs that are NaN or infinite", 1)]
    );
    // The version before says the same: it is the request's fault.
    let scene = Scene::new(large(), large());
    let (version, answer) = scene.ask(1e20).await;
    assert_eq!((version, answer.unwrap()), (2, f32::INFINITY));
    assert_eq!(scene.counts(), (0, 0));
}

#[tokio::test]
async fn numbers_that_are_not_finite_in_answer_to_such_numbers_count_for_nothing() {
    for sent in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let scene = Scene::new(good(), good());
        for _ in 0..50 {
            let (version, answer) = scene.ask(sent).await;
            assert_eq!((version, answer.unwrap().is_finite()), (2, false));
        }
        assert_eq!(scene.counts(), (0, 0), "{sent}");
    }
}

#[tokio::test]
async fn a_short_deadline_of_the_clients_own_that_passes_counts_for_nothing() {
    // As slow as the version before, and slower than it.
    for before in [Duration::from_millis(20), Duration::ZERO] {
        let slow = good().delayed(Duration::from_millis(20));
        let scene = Scene::new(good().delayed(before), slow);
        for own in [0, 1, 5, 10] {
            let own = Duration::from_millis(own);
            let (_, _answered_or_late) = scene.ask_within(4.0, own).await;
        }
        assert_eq!(scene.counts(), (0, 0), "{before:?}");
        let judged = scene.new.health().bad_share();
        assert!(judged.abs() < f64::EPSILON, "{judged}");
    }
}

#[tokio::test]
async fn a_generous_deadline_of_the_clients_own_counts_when_the_version_before_meets_it() {
    let own = Duration::from_millis(200);
    let scene = Scene::new(good(), good().delayed(TIMEOUT * 3));
    let (version, answer) = scene.ask_within(4.0, own).await;
    assert_eq!((version, answer.unwrap()), (1, 4.0));
    assert_eq!(scene.counts(), (1, 1));
    let slow = || good().delayed(TIMEOUT * 3);
    let scene = Scene::new(slow(), slow());
    let (_, answer) = scene.ask_within(4.0, own).await;
    assert!(answer.is_err());
    assert_eq!(scene.counts(), (0, 0), "it is late too");
}

#[tokio::test]
async fn failures_are_those_of_who_asks() {
    let scene = Scene::new(good(), failing().only_for(5.0));
    let caller = |host: u8, port: u16| {
        let peer = SocketAddr::from(([10, 0, 0, host], port));
        Caller::new(None, Some(peer.ip()), Some(peer))
    };
    for port in 0..50 {
        let (_, answer) = RequestContext::from(caller(66, port))
            .scope(scene.ask(5.0))
            .await;
        assert_eq!(answer.unwrap(), 5.0);
    }
    for host in 1..4 {
        let (_, answer) = RequestContext::from(caller(host, 1))
            .scope(scene.ask(4.0))
            .await;
        assert_eq!(answer.unwrap(), 4.0);
    }
    let others = scene.evidence().others;
    assert_eq!((others.requests, others.failed), (3, 0));
}

#[tokio::test]
async fn a_version_in_doubt_gets_one_request_at_a_time_until_ten_have_succeeded() {
    let new = good().delayed(Duration::from_millis(20));
    let scene = Arc::new(Scene::with(good(), new.clone(), true));
    let both = async || {
        let (one, other) = tokio::join!(scene.ask(1.0), scene.ask(2.0));
        assert_eq!((one.1.unwrap(), other.1.unwrap()), (1.0, 2.0));
        [one.0, other.0]
    };
    for _ in 0..10 {
        assert!(scene.new.observation().unwrap().is_in_doubt());
        assert_eq!(both().await, [2, 1], "one of two");
    }
    assert!(!scene.new.observation().unwrap().is_in_doubt());
    assert_eq!(both().await, [2, 2]);
    assert_eq!(
        scene.counts(),
        (12, 0),
        "what the version before answers is not judged"
    );
}

#[tokio::test]
async fn a_stand_in_is_not_kept_loaded_by_standing_in() {
    let scene = Scene::new(good(), failing());
    let catalog = scene.service.shared_catalog();
    catalog.update(|snapshot| {
        let entry = snapshot.models.get_mut(&name()).unwrap();
        entry.versions.remove(&Version(1));
    });
    assert_eq!(Arc::strong_count(&scene.old), 1, "ours");
    let Scene { service, old, new } = scene;
    drop(old);
    let selector = Selector {
        model: Some(name()),
        version: VersionSelector::Default,
    };
    let answered = service
        .infer(Protocol::V1, &selector, Number(4.0, None))
        .await;
    assert!(answered.result.is_err());
    assert!(new.observation().unwrap().understudy().is_none());
}

/// Keeps what it wants: requests of up to so many rows, and those that failed before they had any.
#[derive(Debug, Default)]
struct Keeper {
    most: usize,
    kept: Mutex<Vec<Arc<Observed>>>,
}

impl Observer for Keeper {
    fn wants(&self, arrival: &Arrival<'_>) -> Option<f64> {
        let is_wanted = !arrival.is_private && arrival.rows.unwrap_or(0) <= self.most;
        is_wanted.then_some(1.0)
    }

    fn observe(&self, seen: Arc<Observed>, _: f64) {
        self.kept.lock().push(seen);
    }
}

impl Keeper {
    fn new(most: usize) -> Arc<Self> {
        let kept = Mutex::default();
        Arc::new(Self { most, kept })
    }

    fn take(&self) -> Vec<Arc<Observed>> {
        std::mem::take(&mut *self.kept.lock())
    }
}

/// One version alone, which these look at.
fn observed(engine: &Fake, observers: Vec<Arc<dyn Observer>>) -> Scene {
    let mut scene = Scene::new(good(), good());
    let metrics = scene.service.shared_metrics();
    scene.new = Arc::new(servable(&metrics, engine, 3).with_observers(observers));
    let entry = VersionEntry {
        state: VersionState::Ready,
        servable: Some(Arc::clone(&scene.new)),
    };
    scene.service.shared_catalog().update(|snapshot| {
        let model = snapshot.models.get_mut(&name()).unwrap();
        model.versions.insert(Version(3), entry);
        model.default = Some(Version(3));
    });
    scene
}

fn first(value: &Value) -> f32 {
    match value {
        Value::Tensor(tensor) => tensor.to_vec::<f32>().unwrap()[0],
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_observer_sees_inputs_outputs_and_circumstances_of_what_it_wants() {
    let (keeper, none) = (Keeper::new(1), Keeper::new(0));
    let both = vec![
        Arc::clone(&none) as Arc<dyn Observer>,
        Arc::clone(&keeper) as _,
    ];
    let scene = observed(&good().behaving(Behaviour::Times(2.0)), both);
    let context = RequestContext {
        id: RequestId::given(b"r-1").unwrap(),
        name: Some("ann".into()),
        ..RequestContext::from(Caller::default())
    };
    let (_, answer) = context.scope(scene.ask(4.0)).await;
    assert_eq!(answer.unwrap(), 8.0);
    assert!(none.take().is_empty());
    let kept = keeper.take();
    let [seen] = kept.as_slice() else {
        panic!("{kept:?}")
    };
    assert_eq!(seen.id.as_str(), "r-1");
    assert_eq!(seen.context.name.as_deref(), Some("ann"));
    assert_eq!((seen.protocol, seen.failure), (Protocol::V1, None));
    let inputs = seen.inputs.as_ref().unwrap().inputs();
    assert_eq!(inputs[0].to_vec::<f32>().unwrap(), [4.0]);
    assert_eq!(first(&seen.outputs.as_ref().unwrap()[0]), 8.0);
}

#[tokio::test]
async fn an_observer_sees_failures_and_what_was_given_up() {
    let keeper = Keeper::new(1);
    let slow = failing().only_for(5.0).delayed(Duration::from_millis(50));
    let scene = observed(&slow, vec![Arc::clone(&keeper) as _]);
    assert!(scene.ask(5.0).await.1.is_err());
    let kept = keeper.take();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].failure.is_some() && kept[0].outputs.is_none());
    assert!(kept[0].inputs.is_some());
    let given_up = tokio::time::timeout(Duration::from_millis(5), scene.ask(4.0)).await;
    assert!(given_up.is_err());
    let kept = keeper.take();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].failure, Some(ErrorKind::Cancelled));
}

#[tokio::test]
async fn a_request_whose_client_wants_nothing_kept_is_not_observed() {
    let keeper = Keeper::new(1);
    let scene = observed(&failing(), vec![Arc::clone(&keeper) as _]);
    let context = RequestContext {
        is_private: true,
        ..RequestContext::from(Caller::default())
    };
    assert!(context.scope(scene.ask(5.0)).await.1.is_err());
    assert!(keeper.take().is_empty());
}

#[tokio::test]
async fn what_the_version_before_answers_its_own_observers_see() {
    let (of_old, of_new) = (Keeper::new(1), Keeper::new(1));
    let mut scene = observed(&failing(), vec![Arc::clone(&of_new) as _]);
    let metrics = scene.service.shared_metrics();
    let old = servable(&metrics, &good(), 4).with_observers(vec![Arc::clone(&of_old) as _]);
    scene.old = Arc::new(old);
    scene.new.begin_probation(&scene.old, Arc::default());
    let (version, answer) = scene.ask(4.0).await;
    assert_eq!((version, answer.unwrap()), (4, 4.0));
    assert!(of_new.take().is_empty());
    let kept = of_old.take();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].failure.is_none() && kept[0].inputs.is_some());
}
