//! Integration tests: PromQL from text to result, over series whose answers were worked
//! out by hand.

mod conformance;
mod limits;
mod naive;

use std::sync::Arc;

use watchfire::model::value::{Sample, Series, Value, VectorSample};
use watchfire::model::{Labels, StepGrid};
use watchfire::parser::parse_metric;
use watchfire::query::{Engine, EngineOptions, QueryError, RunOptions};
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;

/// `metric{...} first step count`: `count` samples a minute apart from time 0, the value
/// growing by `step`.
fn load(lines: &[(&str, f64, f64, u32)]) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for (metric, first, step, count) in lines {
        let labels = parse_metric(metric).unwrap();
        for i in 0..*count {
            let value = first + step * f64::from(i);
            storage.append(&labels, i64::from(i) * 60_000, value, None).unwrap();
        }
    }
    Arc::new(storage)
}

/// The data of the proof: counters that grow steadily, so that rates are exact.
fn service() -> Arc<dyn Source> {
    load(&[
        (r#"http_requests_total{job="api",method="GET",status="200",pod="a"}"#, 0.0, 60.0, 31),
        (r#"http_requests_total{job="api",method="GET",status="200",pod="b"}"#, 0.0, 120.0, 31),
        (r#"http_requests_total{job="api",method="GET",status="500",pod="a"}"#, 0.0, 6.0, 31),
        (r#"http_errors_total{job="api",method="GET",status="200",pod="a"}"#, 0.0, 6.0, 31),
        (r#"http_errors_total{job="api",method="GET",status="200",pod="b"}"#, 0.0, 3.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="a",le="0.5"}"#, 0.0, 60.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="a",le="1"}"#, 0.0, 90.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="a",le="2"}"#, 0.0, 120.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="a",le="+Inf"}"#, 0.0, 120.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="b",le="0.5"}"#, 0.0, 120.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="b",le="1"}"#, 0.0, 120.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="b",le="2"}"#, 0.0, 120.0, 31),
        (r#"http_request_duration_seconds_bucket{job="api",pod="b",le="+Inf"}"#, 0.0, 120.0, 31),
        (r#"up{job="rust-app",instance="1"}"#, 1.0, 0.0, 31),
        (r#"up{job="rust-app",instance="2"}"#, 0.0, 0.0, 31),
        (r#"up{job="my-demo-go-1",instance="3"}"#, 1.0, 0.0, 31),
        (r#"container_memory_usage_bytes{pod="rust-app-x"}"#, 95.0, 0.0, 31),
        (r#"container_memory_usage_bytes{pod="rust-app-y"}"#, 50.0, 0.0, 31),
        (r#"container_memory_usage_bytes{pod="other"}"#, 99.0, 0.0, 31),
        (r#"container_spec_memory_limit_bytes{pod="rust-app-x"}"#, 100.0, 0.0, 31),
        (r#"container_spec_memory_limit_bytes{pod="rust-app-y"}"#, 100.0, 0.0, 31),
        (r#"container_spec_memory_limit_bytes{pod="other"}"#, 100.0, 0.0, 31),
        (r#"process_cpu_seconds_total{instance="1"}"#, 0.0, 54.0, 31),
        (r#"process_cpu_seconds_total{instance="2"}"#, 0.0, 30.0, 31),
        (r#"demo_http_requests_total{instance="1"}"#, 0.0, 60.0, 31),
        (r#"demo_http_requests_total{instance="2"}"#, 0.0, 180.0, 31),
    ])
}

fn engine() -> Arc<Engine> {
    Engine::new(EngineOptions::default())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn instant(source: &Arc<dyn Source>, expr: &str, at_ms: i64) -> Result<Value, QueryError> {
    let query = engine().prepare(expr)?;
    block_on(query.instant(source, at_ms, &RunOptions::default())).map(|r| r.value)
}

fn range(source: &Arc<dyn Source>, expr: &str, grid: StepGrid) -> Result<Value, QueryError> {
    let query = engine().prepare(expr)?;
    block_on(query.range(source, grid, &RunOptions::default())).map(|r| r.value)
}

fn number(sample: &Sample) -> f64 {
    match sample {
        Sample::Float(v) => *v,
        Sample::Histogram(h) => panic!("expected a float, got {h}"),
    }
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
}

/// Instant at 20m, and 10m..=20m by 1m, of series whose value does not change in between.
fn check_steady(expr: &str, expected: &[(&str, f64)]) {
    let source = service();
    let expected: Vec<(Labels, f64)> = expected
        .iter()
        .map(|(labels, v)| {
            let labels =
                if labels.is_empty() { Labels::empty() } else { parse_metric(labels).unwrap() };
            (labels, *v)
        })
        .collect();
    let Value::Vector(mut vector) = instant(&source, expr, 1_200_000).unwrap() else {
        panic!("{expr} is no vector")
    };
    vector.sort_by(|a, b| a.labels.cmp(&b.labels));
    assert_eq!(vector.len(), expected.len(), "{expr}: {vector:?}");
    for (VectorSample { labels, ts, sample }, (want, v)) in vector.iter().zip(&expected) {
        assert_eq!((labels, *ts), (want, 1_200_000), "{expr}");
        assert!(same(number(sample), *v), "{expr}: {labels} {sample:?} instead of {v}");
    }
    let grid = StepGrid::range(600_000, 1_200_000, 60_000).unwrap();
    let Value::Matrix(matrix) = range(&source, expr, grid).unwrap() else {
        panic!("{expr} is no matrix")
    };
    assert_eq!(matrix.len(), expected.len(), "{expr}: {matrix:?}");
    for (Series { labels, points }, (want, v)) in matrix.iter().zip(&expected) {
        assert_eq!(labels, want, "{expr}");
        let times: Vec<i64> = points.iter().map(|(ts, _)| *ts).collect();
        assert_eq!(times, grid.iter().collect::<Vec<_>>(), "{expr}");
        assert!(points.iter().all(|(_, s)| same(number(s), *v)), "{expr}: {points:?}");
    }
}

#[test]
fn error_ratio_above_threshold() {
    check_steady(
        "rate(http_errors_total[5m]) / rate(http_requests_total[5m]) > 0.05",
        &[(r#"{job="api",method="GET",status="200",pod="a"}"#, 0.1)],
    );
}

#[test]
fn latency_quantile_of_each_pod_above_a_second() {
    // Pod a: rank 0.95 * 2/s = 1.9; (1, 2] holds 1.5..2.0, so 1 + 0.4 / 0.5.
    check_steady(
        "histogram_quantile(0.95, rate(http_request_duration_seconds_bucket[5m])) > 1.0",
        &[(r#"{job="api",pod="a"}"#, 1.8)],
    );
}

#[test]
fn latency_quantile_of_the_job() {
    // Rank 0.95 * 4/s = 3.8; (1, 2] holds 3.5..4.0.
    check_steady(
        "histogram_quantile(0.95, sum by (job, le) (rate(http_request_duration_seconds_bucket[5m])))",
        &[(r#"{job="api"}"#, 1.6)],
    );
}

#[test]
fn targets_that_are_down() {
    check_steady(r#"up{job="rust-app"} == 0"#, &[(r#"up{job="rust-app",instance="2"}"#, 0.0)]);
}

#[test]
fn memory_near_its_limit() {
    check_steady(
        r#"container_memory_usage_bytes{pod=~"rust-app-.*"} / container_spec_memory_limit_bytes{pod=~"rust-app-.*"} > 0.9"#,
        &[(r#"{pod="rust-app-x"}"#, 0.95)],
    );
}

#[test]
fn request_rate_by_method_and_status() {
    check_steady(
        "sum by (job, method, status) (rate(http_requests_total[5m]))",
        &[
            (r#"{job="api",method="GET",status="200"}"#, 3.0),
            (r#"{job="api",method="GET",status="500"}"#, 0.1),
        ],
    );
}

#[test]
fn busy_processes() {
    check_steady("rate(process_cpu_seconds_total[5m]) > 0.8", &[(r#"{instance="1"}"#, 0.9)]);
}

#[test]
fn total_rate_over_one_sample_interval() {
    // A window of one minute, open at its start, holds one sample of series that are
    // scraped every minute: no rate. Half a minute between samples gives one.
    let source = service();
    assert_eq!(
        instant(&source, "sum(rate(demo_http_requests_total[1m]))", 1_200_000).unwrap(),
        Value::Vector(vec![])
    );
    check_steady("sum(rate(demo_http_requests_total[2m]))", &[("", 4.0)]);
    let storage = MemoryStorage::new();
    for (instance, step) in [("1", 30.0), ("2", 90.0)] {
        let labels =
            Labels::from_pairs([("__name__", "demo_http_requests_total"), ("instance", instance)]);
        for i in 0..41 {
            storage.append(&labels, i * 30_000, step * i as f64, None).unwrap();
        }
    }
    let source: Arc<dyn Source> = Arc::new(storage);
    let expr = "sum(rate(demo_http_requests_total[1m]))";
    let Value::Vector(vector) = instant(&source, expr, 1_200_000).unwrap() else { panic!() };
    assert!(vector.len() == 1 && same(number(&vector[0].sample), 4.0), "{vector:?}");
}

#[test]
fn jobs_by_pattern() {
    check_steady(r#"up{job=~".*demo-go.*"}"#, &[(r#"up{job="my-demo-go-1",instance="3"}"#, 1.0)]);
}

#[test]
fn a_constant_vector() {
    check_steady("vector(1)", &[("", 1.0)]);
}
