//! What a query may cost, and who may stop it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfire::model::value::Value;
use watchfire::model::{Labels, StepGrid};
use watchfire::query::{Engine, EngineOptions, QueryError, RunOptions};
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;

use super::{block_on, engine, load};

fn many_series(series: u32, samples: i64) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]);
        for t in 0..samples {
            storage.append(&labels, t * 60_000, t as f64, None).unwrap();
        }
    }
    Arc::new(storage)
}

fn run(options: EngineOptions, run: &RunOptions, expr: &str) -> Result<Value, QueryError> {
    let source = many_series(300, 60);
    let query = Engine::new(options).prepare(expr)?;
    let grid = StepGrid::range(0, 3_540_000, 60_000).unwrap();
    block_on(query.range(&source, grid, run)).map(|r| r.value)
}

#[test]
fn too_many_samples_are_refused() {
    let limited = |max_samples| EngineOptions { max_samples, ..EngineOptions::default() };
    let check = |max_samples, expr: &str, fails: bool| {
        let result = run(limited(max_samples), &RunOptions::default(), expr);
        assert_eq!(matches!(result, Err(QueryError::TooManySamples)), fails, "{expr}");
    };
    check(17_000, "m", true);
    check(40_000, "m", false);
    // Streaming holds a few blocks at most, never the matrix.
    check(2_000, "sum(rate(m[5m]))", false);
    check(2_000, "m + m", true);
}

#[test]
fn a_query_stops_when_told_to() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let canceled = RunOptions { cancel, ..RunOptions::default() };
    // The small query is done before anybody looks; the large one waits for a thread.
    let expr = "sum_over_time((sum without (i) (m * on (i) m))[50m:1s])";
    let result = run(EngineOptions::default(), &canceled, expr);
    assert_eq!(
        result.map_err(|e| e.to_string()),
        Err("query was canceled in query execution".into())
    );
    let options = RunOptions { timeout: Some(Duration::ZERO), ..RunOptions::default() };
    let result = run(EngineOptions::default(), &options, expr);
    assert_eq!(result.map_err(|e| e.to_string()), Err("query timed out in query execution".into()));
}

#[test]
fn only_scalars_and_instant_vectors_have_ranges() {
    let grid = StepGrid::instant(0);
    for (expr, kind) in [("m[5m]", "range vector"), ("'x'", "string")] {
        let query = engine().prepare(expr).unwrap();
        let source = load(&[]);
        let error = block_on(query.range(&source, grid, &RunOptions::default())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            )
        );
    }
}

#[test]
fn statistics_count_windows_and_samples() {
    let source = many_series(1, 11);
    let options = EngineOptions { per_step_stats: true, ..EngineOptions::default() };
    let query = Engine::new(options).prepare("rate(m[5m])").unwrap();
    let grid = StepGrid::range(300_000, 420_000, 60_000).unwrap();
    let run = RunOptions { per_step_stats: true, ..RunOptions::default() };
    let stats = block_on(query.range(&source, grid, &run)).unwrap().stats;
    // Windows of five samples at three steps; one new sample at each step but the first.
    assert_eq!((stats.total_queryable_samples, stats.samples_read), (15, 7));
    assert_eq!(stats.samples_read_per_step, Some(vec![(300_000, 5), (360_000, 1), (420_000, 1)]));
}

#[test]
fn a_range_may_end_between_steps() {
    let source = many_series(1, 11);
    let query = engine().prepare("m @ end()").unwrap();
    let grid = StepGrid::range(0, 290_000, 120_000).unwrap();
    let check = |end_ms, expected: f64| {
        let run = RunOptions { end_ms, ..RunOptions::default() };
        let value = block_on(query.range(&source, grid, &run)).unwrap().value;
        let Value::Matrix(matrix) = value else { panic!("no matrix") };
        let values: Vec<f64> = matrix[0].points.iter().map(|(_, s)| super::number(s)).collect();
        assert_eq!(values, [expected; 3]);
    };
    check(None, 4.0);
    check(Some(320_000), 5.0);
}
