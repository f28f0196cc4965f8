//! The embedded store: appending to known series, selecting, reading, replaying.
//!
//! `cargo bench --bench storage`. Figures are per batch; divide by the series to compare.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use watchfire::model::{Labels, MatchOp, Matcher};
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{SelectHints, SelectRequest, SeriesRef, Sink, Source};
use watchfire::telemetry::clock::SystemClock;
use watchfire::vector::RawSamples;

const SERIES: usize = 100_000;

fn labels() -> Vec<Labels> {
    (0..SERIES)
        .map(|i| {
            Labels::from_pairs([
                ("__name__", "http_requests_total"),
                ("instance", &format!("10.0.{}.{}:9100", i / 256 % 256, i % 256)),
                ("job", "api-server"),
                ("method", ["GET", "PUT", "POST", "HEAD"][i % 4]),
                ("path", &format!("/api/v1/resource/{}", i / 1000)),
                ("status", ["200", "404", "500"][i % 3]),
            ])
        })
        .collect()
}

fn open(dir: &std::path::Path) -> Arc<Tsdb> {
    Tsdb::open(dir, TsdbOptions::default(), Arc::new(SystemClock::default())).expect("a store")
}

/// Commits one sample per series, a thousand series per batch as a scrape does.
fn append_all(tsdb: &Tsdb, labels: &[Labels], refs: &mut [Option<SeriesRef>], ts: i64) {
    for (labels, refs) in labels.chunks(1000).zip(refs.chunks_mut(1000)) {
        let mut appender = tsdb.appender();
        for (i, (labels, hint)) in labels.iter().zip(refs).enumerate() {
            let value = (ts / 15_000 * (i as i64 % 7)) as f64;
            *hint = Some(appender.append(*hint, labels, ts, value).expect("a sample"));
        }
        appender.commit().expect("a commit");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn select(tsdb: &Tsdb, matchers: Vec<Matcher>) -> usize {
    let hints = SelectHints::default();
    let request = SelectRequest { matchers, from_ms: 0, to_ms: i64::MAX, hints };
    let set = block_on(tsdb.select(&request)).expect("a set");
    set.series.len()
}

fn read_all(tsdb: &Tsdb) -> usize {
    let hints = SelectHints::default();
    let request = SelectRequest { matchers: Vec::new(), from_ms: 0, to_ms: i64::MAX, hints };
    let set = block_on(tsdb.select(&request)).expect("a set");
    let mut raw = RawSamples::default();
    let mut samples = 0;
    for series in &set.series {
        raw.clear();
        series.read_into(0, i64::MAX, &mut raw).expect("samples");
        samples += raw.len();
    }
    samples
}

fn benches(c: &mut Criterion) {
    let labels = labels();
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let mut refs = vec![None; SERIES];
    let mut ts = 0;
    let mut group = c.benchmark_group("storage");
    group.sample_size(10).throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("create 100k series", |b| {
        b.iter_batched(
            || tempfile::tempdir().expect("a directory"),
            |dir| {
                append_all(&open(dir.path()), &labels, &mut vec![None; SERIES], 0);
                dir
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append to 100k known series", |b| {
        b.iter(|| {
            ts += 15_000;
            append_all(&tsdb, &labels, &mut refs, ts);
        });
    });
    let held = read_all(&tsdb);
    let stats = tsdb.stats(1);
    println!(
        "{held} samples in memory: {} bytes of series, {} bytes of index, {} bytes of log",
        stats.series_bytes, stats.index_bytes, stats.wal_bytes
    );
    group.bench_function("select 100k series, sorted", |b| {
        b.iter(|| black_box(select(&tsdb, vec![Matcher::equal("job", "api-server")])));
    });
    tsdb.maintain().expect("maintenance");
    group.bench_function("select 100k series, sorted, after maintenance", |b| {
        b.iter(|| black_box(select(&tsdb, vec![Matcher::equal("job", "api-server")])));
    });
    group.bench_function("select one path of 100 and a status by regex", |b| {
        let status = Matcher::new(MatchOp::Regex, "status", "4..").expect("a pattern");
        b.iter(|| {
            let path = Matcher::equal("path", "/api/v1/resource/42");
            black_box(select(&tsdb, vec![path, status.clone()]))
        });
    });
    group.throughput(Throughput::Elements(held as u64));
    group.bench_function("select and decode everything", |b| b.iter(|| black_box(read_all(&tsdb))));
    tsdb.close().expect("a close");
    drop(tsdb);
    group.bench_function("replay the log", |b| {
        b.iter(|| black_box(open(dir.path()).stats(1).series))
    });
    group.finish();
}

criterion_group!(storage, benches);
criterion_main!(storage);
