//! What must hold of a queue and its runners, whatever the timing.

mod leaving;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::{Instant, timeout};

use super::{BatchError, BatchObserver, Batcher, BatcherConfig, RunOptions, RunnerPool};
use crate::budget::Budget;
use crate::engine::fake::{Behaviour, Fake};
use crate::engine::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session,
};
use crate::model::{Batch, Signature};
use crate::tensor::{DType, Tensor, Value};

/// Nothing here takes long; a test that waits for this has hung.
const HANG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Seen {
    queued: Mutex<usize>,
    rows: Mutex<usize>,
    left: Mutex<usize>,
}

impl BatchObserver for Seen {
    fn queued(&self, _waited: Duration) {
        *self.queued.lock() += 1;
    }

    fn ran(&self, rows: usize, _took: Duration) {
        *self.rows.lock() += rows;
    }

    fn depth(&self, _waiting: usize) {}

    fn limit(&self, _rows: usize) {}

    fn left(&self) {
        *self.left.lock() += 1;
    }
}

fn config(max_queue_size: usize, instances: usize) -> BatcherConfig {
    BatcherConfig {
        max_queue_size,
        instances,
        groups: false,
        max_rows: None,
        max_delay: Duration::ZERO,
        in_place: Duration::ZERO,
    }
}

fn batcher(fake: &Fake, config: BatcherConfig, pool: &Arc<RunnerPool>) -> (Batcher, Arc<Seen>) {
    let package = crate::engine::fake::package("fake", 1, &[("x", DType::F32)]);
    let model = fake
        .compile(&package, &EngineOptions::default(), &CancelToken::new())
        .unwrap();
    let seen = Arc::new(Seen::default());
    let observer = Arc::clone(&seen) as Arc<dyn BatchObserver>;
    (
        Batcher::new(model, Arc::clone(pool), config, observer),
        seen,
    )
}

fn pool(threads: usize) -> Arc<RunnerPool> {
    Arc::new(RunnerPool::new(threads).unwrap())
}

/// One row that tells requests apart.
fn batch(value: f32) -> Batch {
    let signature = crate::engine::fake::package("fake", 1, &[("x", DType::F32)])
        .graph
        .signature;
    let shape = signature.inputs[0].shape.as_ref().map_or(1, Vec::len);
    let tensor = Tensor::from_vec(vec![1; shape], vec![value]).unwrap();
    signature.bind(vec![("x".to_owned(), tensor)]).unwrap()
}

fn value_of(outputs: &[Value]) -> f32 {
    outputs[0].as_tensor().unwrap().as_slice::<f32>().unwrap()[0]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_request_is_answered_once_with_its_own_data(
        count in 1usize..60,
        instances in 1usize..4,
        threads in 1usize..4,
    ) {
        runtime().block_on(async {
            let (batcher, seen) = batcher(&Fake::default(), config(64, instances), &pool(threads));
            let batcher = Arc::new(batcher);
            let requests: Vec<_> = (0..count)
                .map(|index| {
                    let batcher = Arc::clone(&batcher);
                    tokio::spawn(async move { batcher.submit(batch(index as f32), None).await })
                })
                .collect();
            for (index, request) in requests.into_iter().enumerate() {
                let outputs = timeout(HANG, request).await.unwrap().unwrap().unwrap();
                assert_eq!(value_of(&outputs), index as f32);
            }
            assert_eq!((*seen.queued.lock(), *seen.rows.lock()), (count, count));
        });
    }

    #[test]
    fn a_bounded_queue_answers_or_refuses_each_request_and_runs_what_it_took_once(
        count in 1usize..40,
        max_queue_size in 1usize..6,
        instances in 1usize..4,
        threads in 1usize..4,
    ) {
        let fake = Fake::default().delayed(Duration::from_micros(200));
        runtime().block_on(async {
            let (batcher, seen) = batcher(&fake, config(max_queue_size, instances), &pool(threads));
            let submit = |index: usize| batcher.submit(batch(index as f32), None);
            let requests = futures_util::future::join_all((0..count).map(submit));
            let mut answered = 0;
            for (index, result) in timeout(HANG, requests).await.unwrap().into_iter().enumerate() {
                match result {
                    Ok(outputs) => {
                        assert_eq!(value_of(&outputs), index as f32);
                        answered += 1;
                    }
                    Err(BatchError::QueueFull(waiting)) => assert_eq!(waiting, max_queue_size),
                    Err(other) => panic!("request {index}: {other}"),
                }
            }
            assert!(answered >= count.min(max_queue_size), "only {answered} of {count}");
            assert_eq!((fake.runs(), *seen.rows.lock()), (answered, answered));
        });
    }
}

/// A batcher with one instance whose engine is busy with a first request, and that request.
async fn busy(
    slow: &Fake,
    max_queue_size: usize,
    pool: &Arc<RunnerPool>,
) -> (
    Arc<Batcher>,
    tokio::task::JoinHandle<Result<Outputs, BatchError>>,
) {
    let before = slow.runs();
    let batcher = Arc::new(batcher(slow, config(max_queue_size, 1), pool).0);
    let first = Arc::clone(&batcher);
    let running = tokio::spawn(async move { first.submit(batch(0.0), None).await });
    let started = async {
        while slow.runs() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANG, started).await.unwrap();
    (batcher, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_has_gone_makes_room_in_a_full_queue() {
    let slow = Fake::default().delayed(Duration::from_millis(200));
    let (batcher, running) = busy(&slow, 1, &pool(1)).await;
    let abandoned = timeout(Duration::from_millis(10), batcher.submit(batch(1.0), None)).await;
    assert!(abandoned.is_err(), "{abandoned:?}");
    let outputs = timeout(HANG, batcher.submit(batch(2.0), None))
        .await
        .unwrap();
    assert_eq!(value_of(&outputs.unwrap()), 2.0);
    assert!(timeout(HANG, running).await.unwrap().unwrap().is_ok());
    assert_eq!(slow.runs(), 2, "the abandoned request was run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_its_deadline_makes_room_in_a_full_queue() {
    let slow = Fake::default().delayed(Duration::from_millis(200));
    let (batcher, running) = busy(&slow, 1, &pool(1)).await;
    let deadline = Instant::now() + Duration::from_millis(5);
    let mut expiring = std::pin::pin!(batcher.submit(batch(1.0), Some(deadline)));
    let early = timeout(Duration::from_millis(20), &mut expiring).await;
    assert!(early.is_err(), "no runner was free: {early:?}");
    let both = async { tokio::join!(expiring, batcher.submit(batch(2.0), None)) };
    let (expired, taken) = timeout(HANG, both).await.unwrap();
    assert!(matches!(expired, Err(BatchError::Expired)), "{expired:?}");
    assert_eq!(value_of(&taken.unwrap()), 2.0);
    assert!(timeout(HANG, running).await.unwrap().unwrap().is_ok());
    assert_eq!(slow.runs(), 2, "the expired request was run");
}

/// A model whose first session panics, and then gives each input back.
struct PanicsFirst {
    signature: Signature,
    sessions: Mutex<usize>,
}

impl CompiledModel for PanicsFirst {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn footprint(&self) -> u64 {
        0
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let mut sessions = self.sessions.lock();
        *sessions += 1;
        let fake = match *sessions {
            1 => Fake::default().behaving(Behaviour::Panic("asked to".to_owned())),
            _ => Fake::default(),
        };
        let package = crate::engine::fake::package("fake", 1, &[("x", DType::F32)]);
        fake.compile(&package, &EngineOptions::default(), &CancelToken::new())?
            .session()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panicked_is_replaced_and_the_next_is_kept() {
    let package = crate::engine::fake::package("fake", 1, &[("x", DType::F32)]);
    let model = Arc::new(PanicsFirst {
        signature: package.graph.signature,
        sessions: Mutex::default(),
    });
    let batcher = Batcher::new(
        Arc::clone(&model) as Arc<dyn CompiledModel>,
        pool(1),
        config(8, 1),
        Arc::new(Seen::default()),
    );
    let submit = |value: f32| timeout(HANG, batcher.submit(batch(value), None));
    let first = submit(0.0).await.unwrap();
    assert!(matches!(first, Err(BatchError::Panicked)), "{first:?}");
    for value in [1.0, 2.0] {
        assert_eq!(value_of(&submit(value).await.unwrap().unwrap()), value);
    }
    assert_eq!(
        *model.sessions.lock(),
        2,
        "one that panicked, one that lives"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_batcher_with_waiting_requests_frees_its_runner() {
    let slow = Fake::default().delayed(Duration::from_millis(200));
    let pool = pool(1);
    let (dropped, running) = busy(&slow, 8, &pool).await;
    let waiting: Vec<_> = (1..6u8)
        .map(|index| {
            let batcher = Arc::clone(&dropped);
            tokio::spawn(async move { batcher.submit(batch(f32::from(index)), None).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(dropped);
    let requests: Vec<_> = std::iter::once(running).chain(waiting).collect();
    requests.iter().for_each(tokio::task::JoinHandle::abort);
    for request in requests {
        // Those that already have an answer may keep it; nobody hangs.
        let _ = timeout(HANG, request).await.unwrap();
    }
    let other = Fake::default();
    let (other, _) = batcher(&other, config(1, 1), &pool);
    // Runners take turns between models: the second would wait for whatever the dropped one still had.
    for value in [8.0, 9.0] {
        let outputs = timeout(HANG, other.submit(batch(value), None))
            .await
            .unwrap();
        assert_eq!(value_of(&outputs.unwrap()), value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_the_others_are_answered() {
    let slow = Fake::default().delayed(Duration::from_millis(100));
    let (batcher, _) = batcher(&slow, config(2, 1), &pool(1));
    let batcher = Arc::new(batcher);
    let submit = |value: f32| {
        let batcher = Arc::clone(&batcher);
        tokio::spawn(async move { batcher.submit(batch(value), None).await })
    };
    // One runs, two wait: the first must have left the queue before the others come.
    let running = submit(0.0);
    while slow.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = [submit(1.0), submit(2.0)];
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = batcher.submit(batch(3.0), None).await;
    assert!(
        matches!(refused, Err(BatchError::QueueFull(2))),
        "{refused:?}"
    );
    for request in std::iter::once(running).chain(waiting) {
        assert!(timeout(HANG, request).await.unwrap().unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_holds_half_of_the_memory_and_charges_stay_until_the_engine_is_done() {
    let slow = Fake::default().delayed(Duration::from_millis(300)).deaf();
    let (batcher, _) = batcher(&slow, config(100, 1), &pool(1));
    let batcher = Arc::new(batcher);
    // Each brings four bytes.
    let budget = Budget::new(16);
    let submit = |value: f32| {
        let (batcher, allowance) = (Arc::clone(&batcher), budget.allowance(16));
        allowance.charge(4).unwrap();
        let batch = batch(value).charged_to(allowance);
        tokio::spawn(async move { batcher.submit(batch, None).await })
    };
    let running = submit(0.0);
    while slow.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = [submit(1.0), submit(2.0)];
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = submit(3.0).await.unwrap();
    assert!(
        matches!(refused, Err(BatchError::QueueHeavy { waiting: 2 })),
        "{refused:?}"
    );
    assert_eq!(budget.used(), 12);
    // Nobody waits for them any more, and they are still there.
    running.abort();
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(budget.used() >= 4, "{}", budget.used());
    while budget.used() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_and_abandoned_requests_never_reach_the_engine() {
    let slow = Fake::default().delayed(Duration::from_millis(100));
    let (batcher, _) = batcher(&slow, config(8, 1), &pool(1));
    let batcher = Arc::new(batcher);
    let running = {
        let batcher = Arc::clone(&batcher);
        tokio::spawn(async move { batcher.submit(batch(0.0), None).await })
    };
    while slow.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let soon = Instant::now() + Duration::from_millis(10);
    let expired = batcher.submit(batch(1.0), Some(soon));
    let abandoned = timeout(Duration::from_millis(10), batcher.submit(batch(2.0), None));
    let (expired, abandoned) = tokio::join!(expired, abandoned);
    assert!(matches!(expired, Err(BatchError::Expired)), "{expired:?}");
    assert!(abandoned.is_err(), "its client gave up");
    assert!(timeout(HANG, running).await.unwrap().unwrap().is_ok());
    assert!(
        timeout(HANG, batcher.submit(batch(3.0), None))
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(slow.runs(), 2, "only the first and the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_own_request_only() {
    let panicking = Fake::default().behaving(Behaviour::Panic("asked to".to_owned()));
    let pool = pool(1);
    let (broken, _) = batcher(&panicking, config(8, 1), &pool);
    for _ in 0..3 {
        let result = timeout(HANG, broken.submit(batch(0.0), None))
            .await
            .unwrap();
        assert!(matches!(result, Err(BatchError::Panicked)), "{result:?}");
    }
    let (healthy, _) = batcher(&Fake::default(), config(8, 1), &pool);
    let outputs = timeout(HANG, healthy.submit(batch(7.0), None))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(value_of(&outputs), 7.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_models_share_one_runner() {
    let pool = pool(1);
    let batchers: Vec<_> = (0..20)
        .map(|_| batcher(&Fake::default(), config(8, 2), &pool).0)
        .collect();
    for (index, batcher) in batchers.iter().enumerate() {
        let outputs = timeout(HANG, batcher.submit(batch(index as f32), None))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(value_of(&outputs), index as f32);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_pool_leaves_nobody_waiting() {
    let slow = Fake::default().delayed(Duration::from_millis(20));
    let pool = pool(2);
    let (batcher, _) = batcher(&slow, config(64, 2), &pool);
    let batcher = Arc::new(batcher);
    let requests: Vec<_> = (0..10u8)
        .map(|index| {
            let batcher = Arc::clone(&batcher);
            tokio::spawn(async move { batcher.submit(batch(f32::from(index)), None).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop((batcher, pool));
    for request in requests {
        let answered = timeout(HANG, request).await.unwrap().unwrap();
        assert!(
            matches!(answered, Ok(_) | Err(BatchError::Closed)),
            "{answered:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batcher_can_move_to_another_pool_with_its_sessions() {
    let (fake, first) = (Fake::default(), pool(1));
    let (batcher, _) = batcher(&fake, config(8, 1), &first);
    let left = Arc::downgrade(&first);
    drop(first);
    for value in [1.0, 2.0] {
        batcher.submit(batch(value), None).await.unwrap();
    }
    let moved = batcher.on(pool(1));
    assert!(left.upgrade().is_none(), "the first pool has ended");
    let answers = (0..100u8).map(|value| moved.submit(batch(f32::from(value)), None));
    for answer in futures_util::future::join_all(answers).await {
        assert!(matches!(answer, Ok(_) | Err(BatchError::QueueFull(_))));
    }
    moved.submit(batch(3.0), None).await.unwrap();
}

/// A configuration under which requests run together.
fn together(max_rows: Option<usize>, max_delay: Duration) -> BatcherConfig {
    BatcherConfig {
        groups: true,
        max_rows,
        max_delay,
        ..config(64, 1)
    }
}

/// Holds the only runner of a pool until the other end is dropped.
struct Held(Mutex<std::sync::mpsc::Receiver<()>>);

fn hold(pool: &Arc<RunnerPool>) -> std::sync::mpsc::Sender<()> {
    let (held, door) = std::sync::mpsc::channel();
    pool.schedule(Arc::new(Held(Mutex::new(door))));
    held
}

impl super::pool::Work for Held {
    fn run_one(self: Arc<Self>) {
        let _ = self.0.lock().recv();
    }

    fn look_again(self: Arc<Self>) {}
}

/// Submits everything while no runner is free, then lets it run; the answers are in order.
async fn all_at_once(
    batcher: &Arc<Batcher>,
    pool: &Arc<RunnerPool>,
    requests: Vec<(Batch, RunOptions)>,
) -> Vec<Result<Outputs, BatchError>> {
    let closed = hold(pool);
    let submitted: Vec<_> = requests
        .into_iter()
        .map(|(batch, terms)| {
            let batcher = Arc::clone(batcher);
            tokio::spawn(async move { batcher.submit(batch, terms).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(closed);
    let mut answers = Vec::new();
    for request in submitted {
        answers.push(timeout(HANG, request).await.unwrap().unwrap());
    }
    answers
}

/// These values as rows of one number.
fn column(values: &[f32]) -> Batch {
    let signature = crate::engine::fake::package("fake", 1, &[("x", DType::F32)])
        .graph
        .signature;
    let tensor = Tensor::from_vec(vec![values.len(), 1], values.to_vec()).unwrap();
    signature.bind(vec![("x".to_owned(), tensor)]).unwrap()
}

fn values_of(outputs: &[Value]) -> Vec<f32> {
    outputs[0].as_tensor().unwrap().to_vec::<f32>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_runs_together_and_each_gets_its_own_rows() {
    let (fake, pool) = (Fake::default(), pool(1));
    let batcher = Arc::new(batcher(&fake, together(Some(8), Duration::ZERO), &pool).0);
    let requests = (0..12u8).map(|value| {
        let rows = vec![f32::from(value); usize::from(value % 3) + 1];
        (column(&rows), RunOptions::default())
    });
    let answers = all_at_once(&batcher, &pool, requests.collect()).await;
    for (value, answer) in (0..12u8).zip(answers) {
        let expected = vec![f32::from(value); usize::from(value % 3) + 1];
        assert_eq!(values_of(&answer.unwrap()), expected);
    }
    assert_eq!(fake.rows(), 24);
    assert!(
        fake.runs() <= 4,
        "{} runs for 24 rows, 8 at a time",
        fake.runs()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_shapes_do_not_join() {
    let (fake, pool) = (Fake::default(), pool(1));
    let batcher = Arc::new(batcher(&fake, together(Some(64), Duration::ZERO), &pool).0);
    let signature = crate::engine::fake::package("fake", 1, &[("x", DType::F32)])
        .graph
        .signature;
    let wide = |width: usize| {
        let tensor = Tensor::from_vec(vec![1, width], vec![1.0f32; width]).unwrap();
        signature.bind(vec![("x".to_owned(), tensor)]).unwrap()
    };
    let requests = [1, 2, 1, 2, 3].map(|width| (wide(width), RunOptions::default()));
    let answers = all_at_once(&batcher, &pool, requests.into()).await;
    for (width, answer) in [1, 2, 1, 2, 3].into_iter().zip(answers) {
        assert_eq!(values_of(&answer.unwrap()).len(), width);
    }
    assert_eq!(fake.runs(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_operator_allows_is_run_in_parts() {
    let (fake, pool) = (Fake::default(), pool(1));
    let batcher = batcher(&fake, together(Some(4), Duration::ZERO), &pool).0;
    let values: Vec<f32> = (0..10u8).map(f32::from).collect();
    let answer = timeout(HANG, batcher.submit(column(&values), None)).await;
    assert_eq!(values_of(&answer.unwrap().unwrap()), values);
    assert_eq!((fake.runs(), fake.rows()), (3, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_requests_go_first() {
    let (fake, pool) = (Fake::default(), pool(1));
    let batcher = Arc::new(batcher(&fake, config(64, 1), &pool).0);
    let order = Arc::new(Mutex::new(Vec::new()));
    let closed = hold(&pool);
    let mut submitted = Vec::new();
    for (value, urgent) in [(1.0, false), (2.0, false), (3.0, true), (4.0, true)] {
        let (batcher, order) = (Arc::clone(&batcher), Arc::clone(&order));
        submitted.push(tokio::spawn(async move {
            let terms = RunOptions {
                deadline: None,
                urgent,
            };
            let outputs = batcher.submit(batch(value), terms).await.unwrap();
            order.lock().push(value_of(&outputs));
        }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(closed);
    for request in submitted {
        timeout(HANG, request).await.unwrap().unwrap();
    }
    // Answers arrive on several threads; the last of the urgent ones may be overtaken by the first of the others.
    assert_eq!(order.lock().len(), 4);
    let first = order.lock()[0];
    assert!(first >= 2.0, "{first} was first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_costs_its_neighbours_nothing() {
    let fake = Fake::default()
        .behaving(Behaviour::BadInput("13 is bad luck".to_owned()))
        .only_for(13.0);
    let pool = pool(1);
    let batcher = Arc::new(batcher(&fake, together(Some(64), Duration::ZERO), &pool).0);
    let requests = [1.0, 13.0, 2.0].map(|value| (column(&[value]), RunOptions::default()));
    let answers = all_at_once(&batcher, &pool, requests.into()).await;
    let answers: Vec<Option<f32>> = answers
        .into_iter()
        .map(|answer| answer.ok().map(|outputs| value_of(&outputs)))
        .collect();
    assert_eq!(answers, [Some(1.0), None, Some(2.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_wait_for_company_waits_no_longer_than_that() {
    let (fake, pool) = (Fake::default(), pool(1));
    let delay = Duration::from_millis(30);
    let batcher_of = batcher;
    let batcher = Arc::new(batcher(&fake, together(Some(3), delay), &pool).0);
    let started = Instant::now();
    let alone = timeout(HANG, batcher.submit(column(&[7.0]), None)).await;
    assert_eq!(values_of(&alone.unwrap().unwrap()), [7.0]);
    assert!(started.elapsed() >= delay, "it did not wait for anybody");
    // A full batch runs immediately.
    let long = Arc::new(batcher_of(&fake, together(Some(3), Duration::from_secs(3600)), &pool).0);
    let three = [1.0, 2.0, 3.0].map(|value| long.submit(column(&[value]), None));
    let answers = timeout(HANG, futures_util::future::join_all(three))
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(fake.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_have_gone_are_no_company() {
    const SHORT: Duration = Duration::from_millis(50);
    let (fake, pool) = (Fake::default(), pool(1));
    let config = together(Some(4), Duration::from_secs(3600));
    let batcher = batcher(&fake, config, &pool).0;
    for deadline in [None, Some(Instant::now() + SHORT / 2), None] {
        let two = batcher.submit(column(&[1.0, 2.0]), deadline);
        let answer = timeout(SHORT, two).await;
        assert!(
            !matches!(answer, Ok(Ok(_))),
            "two of four rows, with nobody"
        );
    }
    let four = batcher.submit(column(&[1.0, 2.0, 3.0, 4.0]), None);
    let answer = timeout(HANG, four).await.unwrap();
    assert_eq!(values_of(&answer.unwrap()), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(fake.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_model_runs_where_the_request_is_once_that_is_known() {
    let (fake, pool) = (Fake::default(), pool(1));
    let quick = BatcherConfig {
        in_place: Duration::from_secs(1),
        ..config(8, 1)
    };
    let batcher = Arc::new(batcher(&fake, quick, &pool).0);
    timeout(HANG, batcher.submit(batch(0.0), None))
        .await
        .unwrap()
        .unwrap();
    // The runner takes a moment to see that nothing is left.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closed = hold(&pool);
    let answer = timeout(HANG, batcher.submit(batch(1.0), None)).await;
    assert_eq!(
        value_of(&answer.unwrap().unwrap()),
        1.0,
        "no runner was free"
    );
    let runs = fake.runs();
    let late = batcher.submit(batch(2.0), Some(Instant::now())).await;
    assert!(matches!(late, Err(BatchError::Expired)), "{late:?}");
    assert_eq!(fake.runs(), runs, "too late is too late, however quick");
    drop(closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_waits_for_is_stopped() {
    let slow = Fake::default().delayed(Duration::from_secs(3600));
    let pool = pool(1);
    let (batcher, running) = busy(&slow, 8, &pool).await;
    running.abort();
    let _ = running.await;
    let next = timeout(Duration::from_millis(500), batcher.submit(batch(1.0), None)).await;
    assert!(next.is_err(), "it is as slow");
    assert_eq!(slow.runs(), 2, "the runner was free for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_wait_past_the_deadline_is_refused_at_once_and_others_wait() {
    let slow = Fake::default().delayed(Duration::from_millis(50));
    let pool = pool(1);
    let batcher = Arc::new(batcher(&slow, config(64, 1), &pool).0);
    batcher
        .calibrate(&batch(0.0), Duration::from_secs(1))
        .unwrap();
    let calls = slow.runs();
    let closed = hold(&pool);
    let mut waiting: Vec<_> = (0..10)
        .map(|_| Box::pin(batcher.submit(batch(1.0), None)))
        .collect();
    for request in &mut waiting {
        assert!(timeout(Duration::from_millis(1), request).await.is_err());
    }
    let soon = Instant::now() + Duration::from_millis(100);
    let refused = batcher.submit(batch(2.0), Some(soon)).await;
    let Err(BatchError::WouldMissDeadline { waiting: 10, wait }) = refused else {
        panic!("{refused:?}");
    };
    assert!(wait >= Duration::from_millis(500), "{wait:?}");
    let urgent = RunOptions {
        deadline: Some(Instant::now() + HANG),
        urgent: true,
    };
    let urgent = batcher.submit(batch(3.0), urgent);
    drop((waiting, closed));
    assert_eq!(
        value_of(&timeout(HANG, urgent).await.unwrap().unwrap()),
        3.0
    );
    assert_eq!(
        slow.runs(),
        calls + 1,
        "only the urgent one was still wanted"
    );
}

#[test]
fn calibration_tries_larger_batches_while_they_pay() {
    let row = column(&[1.0]);
    let second = Duration::from_secs(1);
    // Each run takes as long, whatever its rows: batches pay.
    let fake = Fake::default().delayed(Duration::from_millis(2));
    let (grouping, seen) = batcher(&fake, together(None, Duration::ZERO), &pool(1));
    grouping.calibrate(&row, second).unwrap();
    assert_eq!((fake.runs(), fake.rows()), (12, 3 * (1 + 2 + 4 + 8)));
    assert_eq!(*seen.rows.lock(), 0, "no request was counted");
    // Without batches, or with a size that the operator has chosen, only one row is of use.
    for config in [config(64, 1), together(Some(4), Duration::ZERO)] {
        let fake = Fake::default();
        batcher(&fake, config, &pool(1))
            .0
            .calibrate(&row, second)
            .unwrap();
        assert_eq!((fake.runs(), fake.rows()), (3, 3));
    }
    // Without time, what a row costs is measured nevertheless.
    let fake = Fake::default().delayed(Duration::from_millis(2));
    let (hurried, _) = batcher(&fake, together(None, Duration::ZERO), &pool(1));
    hurried.calibrate(&row, Duration::ZERO).unwrap();
    assert_eq!(fake.rows(), 1);
    let failing = Fake::default().behaving(Behaviour::Fail("no".to_owned()));
    let (failing, _) = batcher(&failing, config(64, 1), &pool(1));
    assert!(failing.calibrate(&row, second).is_err());
}
