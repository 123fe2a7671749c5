//! What a package costs on an engine, measured here and now: the time of a call for several numbers of rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::offline;
use crate::config::{Settings, load_options};
use crate::engine::{CancelToken, CompiledModel, Engine, EngineError, Session};
use crate::model::{Batch, Package, ResponseForm};
use crate::protocol;

/// Rows per call, where a model takes any number.
const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Time for all the sizes of one engine; a single call is never cut short.
const BUDGET: Duration = Duration::from_secs(2);

/// Time for one size, and the most calls in it.
const SHARE: Duration = Duration::from_millis(200);
const MOST_CALLS: usize = 200;

/// What was measured on one engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// How long loading and optimising took.
    pub compile: Duration,
    /// Whether the rows are those of the package's example; else they are zeros.
    pub from_example: bool,
    /// One point for each size, the smallest first.
    pub points: Vec<Point>,
    /// Why there are no more.
    pub stopped: Option<String>,
}

/// The time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Rows in the call.
    pub rows: usize,
    /// Calls that were measured.
    pub calls: usize,
    /// The median of a call.
    pub per_call: Duration,
}

/// Compiles `package` on `engine` and times it. Blocking. `tell` is called with the number of rows that comes next.
///
/// # Errors
/// When the engine refuses the package; later failures are in [`Cost::stopped`].
pub fn measure(
    package: &Package,
    engine: &dyn Engine,
    settings: &Settings,
    tell: impl Fn(usize),
) -> anyhow::Result<Cost> {
    let options = load_options(settings, package.id.name.as_str()).engine_options;
    let started = Instant::now();
    let model = engine.compile(package, &options, &CancelToken::new())?;
    let mut cost = Cost {
        compile: started.elapsed(),
        from_example: false,
        points: Vec::new(),
        stopped: None,
    };
    let example = example(package, engine, &model);
    cost.from_example = matches!(example, Ok(Some(_)));
    let batch = match example {
        Ok(Some(batch)) => Some(batch),
        Ok(None) => model.signature().zeros(),
        Err(reason) => {
            cost.stopped = Some(format!("the input example does not fit: {reason}"));
            return Ok(cost);
        }
    };
    let Some(batch) = batch else {
        cost.stopped =
            Some("the graph leaves a rank open, and the package has no input example".to_owned());
        return Ok(cost);
    };
    let timed = model
        .session()
        .and_then(|mut session| sizes(&mut cost, &mut *session, &batches(&model, &batch), tell));
    if let Err(error) = timed {
        cost.stopped = Some(error.to_string());
    }
    Ok(cost)
}

/// The tensors of the package's own example; an error says why they cannot be had.
fn example(
    package: &Package,
    engine: &dyn Engine,
    model: &Arc<dyn CompiledModel>,
) -> anyhow::Result<Option<Batch>> {
    let body = package.serving_input()?;
    let Some(body) = body else {
        return Ok(None);
    };
    let servable = offline::servable(package, engine, model, ResponseForm::default())?;
    let batch = protocol::example_batch(&servable, body);
    batch
        .map(Some)
        .map_err(|(_, message)| anyhow::Error::msg(message))
}

/// The batches to time, the smallest first: the given one alone, where the model takes no other number of rows.
fn batches(model: &Arc<dyn CompiledModel>, batch: &Batch) -> Vec<Batch> {
    if !model.signature().has_batch_axis() {
        return vec![batch.clone()];
    }
    SIZES
        .iter()
        .filter_map(|rows| batch.repeat_rows(*rows))
        .collect()
}

fn sizes(
    cost: &mut Cost,
    session: &mut dyn Session,
    batches: &[Batch],
    tell: impl Fn(usize),
) -> Result<(), EngineError> {
    let started = Instant::now();
    for batch in batches {
        let left = BUDGET.saturating_sub(started.elapsed());
        // Twice the rows, and a first call that prepares what the others use.
        let expected = cost
            .points
            .last()
            .map_or(Duration::ZERO, |last| last.per_call * 4);
        if expected > left {
            let (rows, seconds) = (batch.rows(), BUDGET.as_secs());
            cost.stopped = Some(format!(
                "{rows} rows would take longer than the {seconds} s for an engine"
            ));
            return Ok(());
        }
        tell(batch.rows());
        cost.points.push(point(session, batch, left.min(SHARE))?);
    }
    Ok(())
}

fn point(session: &mut dyn Session, batch: &Batch, time: Duration) -> Result<Point, EngineError> {
    let cancel = CancelToken::new();
    let mut call = || {
        let started = Instant::now();
        session.run(batch, &cancel)?;
        Ok::<_, EngineError>(started.elapsed())
    };
    let first = call()?;
    let mut spent = first;
    let mut calls = Vec::new();
    while calls.len() < MOST_CALLS && (calls.is_empty() || spent < time) && spent < time + first {
        let took = call()?;
        spent += took;
        calls.push(took);
    }
    calls.sort_unstable();
    Ok(Point {
        rows: batch.rows(),
        calls: calls.len().max(1),
        per_call: calls.get(calls.len() / 2).copied().unwrap_or(first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Tract;
    use crate::engine::fake::{self, Behaviour, Fake};
    use crate::model::Dim;
    use crate::tensor::DType;

    fn cost(path: &str) -> anyhow::Result<Cost> {
        let package = Package::open(std::path::Path::new(path)).unwrap();
        measure(&package, &Tract, &Settings::default(), |_| {})
    }

    fn rows(cost: &Cost) -> Vec<usize> {
        cost.points.iter().map(|point| point.rows).collect()
    }

    #[test]
    fn a_model_with_a_batch_axis_is_timed_with_the_rows_of_its_example() {
        let cost = cost("model-examples/iris").unwrap();
        assert!(cost.from_example);
        assert_eq!(rows(&cost), SIZES);
        assert!(cost.points.iter().all(|point| point.calls > 0));
        assert_eq!(cost.stopped, None);
    }

    #[test]
    fn a_model_of_fixed_size_is_timed_as_it_is() {
        let mut package = fake::package("fixed", 1, &[("x", DType::F32)]);
        let input = &mut package.graph.signature.inputs[0];
        input.shape = Some(vec![Dim::Fixed(3), Dim::Any(None)]);
        let cost = measure(&package, &Fake::default(), &Settings::default(), |_| {}).unwrap();
        assert!(!cost.from_example);
        assert_eq!(rows(&cost), [3]);
    }

    #[test]
    fn a_slow_model_is_not_timed_for_longer_than_its_time() {
        let package = fake::package("slow", 1, &[("x", DType::F32)]);
        let engine = Fake::default().delayed(Duration::from_millis(400));
        let cost = measure(&package, &engine, &Settings::default(), |_| {}).unwrap();
        assert!(rows(&cost).len() < SIZES.len(), "{cost:?}");
        assert!(cost.stopped.unwrap().contains("would take longer"));
    }

    #[test]
    fn a_model_that_fails_says_why() {
        let package = fake::package("broken", 1, &[("x", DType::F32)]);
        let engine = Fake::default().behaving(Behaviour::Fail("no luck".to_owned()));
        let cost = measure(&package, &engine, &Settings::default(), |_| {}).unwrap();
        assert_eq!(rows(&cost), [0; 0]);
        assert!(cost.stopped.unwrap().contains("no luck"));
    }

    #[test]
    fn an_engine_that_refuses_the_graph_is_an_error() {
        let error = cost("tests/models/lstm_reverse.onnx").unwrap_err();
        assert!(error.to_string().contains("`direction`"), "{error}");
    }

    #[test]
    fn a_graph_of_open_rank_without_an_example_says_so() {
        let cost = cost("tests/models/any_rank.onnx").unwrap();
        assert!(cost.points.is_empty());
        assert!(cost.stopped.unwrap().contains("rank"));
    }
}
