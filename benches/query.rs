//! Evaluation: an instant query over many series, a range of rates, a small rule.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use watchfire::model::{Labels, StepGrid};
use watchfire::query::{Engine, EngineOptions, RunOptions};
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;

/// `series` counters, a sample every 15 s.
fn load(series: u32, samples: i64) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for i in 0..series {
        let labels = Labels::from_pairs([
            ("__name__", "requests_total".to_owned()),
            ("instance", format!("host-{}:9100", i / 10)),
            ("job", format!("job-{}", i % 20)),
            ("path", format!("/api/{}", i % 10)),
        ]);
        for t in 0..samples {
            let value = (t * i64::from(i % 7 + 1)) as f64;
            storage.append(&labels, t * 15_000, value, None).expect("in order");
        }
    }
    Arc::new(storage)
}

fn queries(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let engine = Engine::new(EngineOptions::default());
    let mut group = c.benchmark_group("query");
    group.sample_size(10);
    let mut case = |name: &str, source: &Arc<dyn Source>, expr: &str, grid: StepGrid| {
        let query = engine.prepare(expr).expect("a valid expression");
        let options = RunOptions::default();
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(query.range(source, grid, &options)).expect("a result"));
        });
    };
    let wide = load(100_000, 4);
    case("instant sum, 100k series", &wide, "sum(requests_total)", StepGrid::instant(60_000));
    case("instant vector, 100k series", &wide, "requests_total", StepGrid::instant(60_000));
    case(
        "instant sum by job, 100k series",
        &wide,
        "sum by (job) (requests_total)",
        StepGrid::instant(60_000),
    );
    drop(wide);
    let deep = load(10_000, 260);
    let hour = StepGrid { start_ms: 300_000, step_ms: 10_000, len: 361 };
    case("sum(rate), 10k series x 361 steps", &deep, "sum(rate(requests_total[5m]))", hour);
    case(
        "ratio of rates, 10k series x 361 steps",
        &deep,
        "sum(rate(requests_total[5m]) / rate(requests_total[5m]))",
        hour,
    );
    let few = load(10, 40);
    case(
        "rule, 10 series",
        &few,
        "sum by (job) (rate(requests_total[5m])) > 0",
        StepGrid::instant(600_000),
    );
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
