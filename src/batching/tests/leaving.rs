//! Runs that do not end are left, and what a run takes is charged before it starts.

use super::*;

/// A model that answers nothing but what is 0 in time, and does not stop when told to.
fn deaf() -> Fake {
    let fake = Fake::default().delayed(Duration::from_secs(60)).deaf();
    fake.only_delayed_for(1.0)
}

async fn give_up(batcher: &Batcher) {
    let wait = Duration::from_millis(50);
    let outcome = timeout(wait, batcher.submit(batch(1.0), None)).await;
    assert!(outcome.is_err() || outcome.is_ok_and(|result| result.is_err()));
}

#[tokio::test]
async fn a_run_that_does_not_end_is_left_and_others_take_its_place() {
    let pool = pool(1);
    let (batcher, seen) = batcher(&deaf(), config(64, 1), &pool);
    give_up(&batcher).await;
    let answer = timeout(HANG, batcher.submit(batch(0.0), None)).await;
    assert_eq!(value_of(&answer.unwrap().unwrap()), 0.0);
    assert_eq!(*seen.left.lock(), 1);
    let began = tokio::time::Instant::now();
    drop(batcher);
    drop(pool);
    assert!(began.elapsed() < HANG, "nobody waits for what is left");
}

#[tokio::test]
async fn other_models_are_served_although_every_runner_is_in_a_long_run() {
    let pool = pool(2);
    let (hanging, _) = batcher(&deaf(), config(64, 2), &pool);
    let (other, _) = batcher(&Fake::default(), config(64, 2), &pool);
    let hanging = Arc::new(hanging);
    let long: Vec<_> = (0..2)
        .map(|_| {
            let hanging = Arc::clone(&hanging);
            tokio::spawn(async move { hanging.submit(batch(1.0), None).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = timeout(HANG, other.submit(batch(3.0), None)).await;
    assert_eq!(value_of(&answer.unwrap().unwrap()), 3.0);
    long.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_model_whose_runs_do_not_end_is_replaced_or_refused() {
    for rescued in [true, false] {
        let pool = pool(1);
        let (batcher, seen) = batcher(&deaf(), config(64, 1), &pool);
        let model = {
            let package = crate::engine::fake::package("fake", 1, &[("x", DType::F32)]);
            let none = (EngineOptions::default(), CancelToken::new());
            Fake::default().compile(&package, &none.0, &none.1).unwrap()
        };
        let batcher = match rescued {
            true => batcher.rescued_by(Box::new(move || Ok(Arc::clone(&model)))),
            false => batcher,
        };
        for count in 1..=crate::batching::sessions::MOST_LEFT {
            give_up(&batcher).await;
            let left = async {
                while *seen.left.lock() < count {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(HANG, left).await.unwrap();
        }
        let settled = async {
            loop {
                match batcher.submit(batch(1.0), None).await {
                    Err(BatchError::Moving) => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => break other,
                }
            }
        };
        let outcome = timeout(HANG, settled).await.unwrap();
        if rescued {
            assert_eq!(value_of(&outcome.unwrap()), 1.0);
            assert_eq!(batcher.refusal(), None);
        } else {
            assert!(
                matches!(outcome, Err(BatchError::Withdrawn(_))),
                "{outcome:?}"
            );
            assert!(batcher.refusal().unwrap().contains("did not end"));
        }
    }
}

/// Runs of a graph that doubles numbers are charged to a budget of so many bytes.
fn bounded(budget: usize, groups: bool) -> (Batcher, Fake) {
    let fake = Fake::default();
    let config = BatcherConfig {
        groups,
        ..config(64, 1)
    };
    let (batcher, _) = batcher(&fake, config, &pool(1));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/wide.onnx");
    let graph = crate::model::Graph::read(&path).unwrap();
    let batcher = batcher.within(crate::budget::Budget::new(budget), graph.work);
    (batcher, fake)
}

fn rows(count: usize) -> Batch {
    let signature = crate::engine::fake::package("fake", 1, &[("x", DType::F32)])
        .graph
        .signature;
    let tensor = Tensor::from_vec(vec![count, 1], vec![1.0f32; count]).unwrap();
    signature.bind(vec![("x".to_owned(), tensor)]).unwrap()
}

#[tokio::test]
async fn what_a_run_takes_is_charged_before_it_starts() {
    // A little more than 400 bytes for each row.
    let (alone, fake) = bounded(50_000, false);
    alone.submit(rows(100), None).await.unwrap();
    let refused = alone.submit(rows(1000), None).await;
    assert!(
        matches!(refused, Err(BatchError::TooLarge { limit: 50_000, .. })),
        "{refused:?}"
    );
    assert_eq!(fake.rows(), 100, "it never reached the engine");
    // Of independent rows a part may be run at a time, beside what all parts give.
    let (parts, fake) = bounded(50_000, true);
    parts.submit(rows(1000), None).await.unwrap();
    assert_eq!(fake.rows(), 1000);
    assert!(fake.runs() > 4, "{}", fake.runs());
    // What they give together must fit, before the first one is run.
    let (parts, fake) = bounded(7000, true);
    let refused = parts.submit(rows(1000), None).await;
    assert!(
        matches!(refused, Err(BatchError::TooLarge { limit: 7000, .. })),
        "{refused:?}"
    );
    assert_eq!(fake.rows(), 0);
}
