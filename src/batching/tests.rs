//! What must hold of a queue and its runners, whatever the timing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::{Instant, timeout};

use super::{BatchError, BatchObserver, Batcher, BatcherConfig, OneByOne, RunnerPool};
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
}

impl BatchObserver for Seen {
    fn queued(&self, _waited: Duration) {
        *self.queued.lock() += 1;
    }

    fn ran(&self, rows: usize, _took: Duration) {
        *self.rows.lock() += rows;
    }

    fn depth(&self, _waiting: usize) {}
}

fn config(max_queue_size: usize, instances: usize) -> BatcherConfig {
    BatcherConfig {
        max_queue_size,
        instances,
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
        Batcher::new(
            model,
            Arc::clone(pool),
            Box::new(OneByOne),
            config,
            observer,
        ),
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
        Box::new(OneByOne),
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
    for request in std::iter::once(running).chain(waiting) {
        request.abort();
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
    assert_eq!(
        slow.runs(),
        1,
        "only the one that ran when its batcher was dropped"
    );
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
